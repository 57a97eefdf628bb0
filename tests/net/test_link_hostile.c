/* test_link_hostile: members that misbehave: messages of many parts, of no end, too large, forged or repeated.
 * Each is dropped and its connection cut; an honest member never notices. */
#include <errno.h>
#include <stdlib.h>

#include "tests/net/curve_peer.h"

static void test_a_message_of_two_parts_is_dropped_and_its_connection_cut(void **state)
{
    struct pair *p = *state;
    struct curve_peer c;
    struct link_message m;
    assert_true(curve_open(&c, p, &p->guest));
    assert_true(curve_send(&c, 0, "good", 4));
    pair_expect(p->listener, "good", &p->guest);
    assert_true(curve_send(&c, 1, "first", 5));
    assert_true(curve_send(&c, 1, "second", 6));
    assert_true(curve_send(&c, 0, "last", 4));
    wait_until((assert_int_equal(link_receive(p->listener, &m, NULL), ERR_TIMEOUT), link_dropped(p->listener) == 1));
    pair_wait_hang_up(p, c.fd);
    pair_still_serves(p);
}

static void test_request_sockets_are_dropped_too(void **state)
{
    struct pair *p = *state;
    struct link_message m;
    void *raw = pair_raw_dealer(p, &p->guest);
    assert_int_equal(zmq_connect(raw, pair_endpoint(p->listener)), 0);
    zmq_send(raw, "", 0, ZMQ_SNDMORE); /* REQ's empty frame, then the body */
    zmq_send(raw, "body", 4, 0);
    wait_until((assert_int_equal(link_receive(p->listener, &m, NULL), ERR_TIMEOUT), link_dropped(p->listener) > 0));
    zmq_close(raw);
    pair_still_serves(p);
}

/* Parts that never end are not delivered, so nobody but the kernel counts them. */
static void test_a_message_that_never_ends_is_cut(void **state)
{
    struct pair *p = *state;
    static const uint8_t part[32 << 10];
    struct curve_peer c;
    struct link_message m;
    uint64_t sent = 0, until = clock_ms() + PATIENCE_MS;
    assert_true(curve_open(&c, p, &p->guest));
    assert_true(curve_send(&c, 0, "known", 5));
    pair_expect(p->listener, "known", &p->guest);
    while (curve_send(&c, 1, part, sizeof(part))) {
        sent += sizeof(part);
        link_watch(p->listener);
        assert_int_equal(link_receive(p->listener, &m, NULL), ERR_TIMEOUT);
        assert_true(clock_ms() < until);
    }
    assert_true(sent >= LINK_UNDELIVERED_MAX); /* not sooner */
    close(c.fd);
    pair_still_serves(p);
}

/* Honest messages that wait because their reader is busy are no reason to cut. */
static void test_a_busy_reader_cuts_nobody(void **state)
{
    struct pair *p = *state;
    enum { BYTES = 1 << 20, QUEUE = 40 }; /* more than LINK_UNDELIVERED_MAX */
    static uint8_t bytes[BYTES];
    struct link *busy, *sender;
    struct link_message m;
    struct link_options ho = pair_options(&p->host), go = pair_options(&p->guest);
    ho.bytes_max = go.bytes_max = BYTES;
    ho.queue_max = go.queue_max = QUEUE;
    assert_int_equal(link_listen(&busy, p->context, "tcp://127.0.0.1:0", &ho, NULL), 0);
    assert_int_equal(link_dial(&sender, p->context, pair_endpoint(busy), p->host.public_key, &go, NULL), 0);
    for (int i = 0; i < QUEUE; i++)
        pair_send(sender, NULL, bytes, BYTES);
    for (int i = 0; i < 20; i++) {
        clock_sleep_ms(25);
        link_watch(busy);
    }
    for (int i = 0; i < QUEUE; i++) {
        pair_receive(busy, &m);
        assert_int_equal(m.size, BYTES);
        link_message_close(&m);
    }
    assert_int_equal(link_dropped(busy), 0);
    assert_int_equal(link_connections(sender), 1);
    link_close(&sender);
    link_close(&busy);
}

static void test_a_message_over_the_limit_is_cut(void **state)
{
    struct pair *p = *state;
    static const uint8_t bytes[1 << 20];
    struct link_message m;
    void *raw = pair_raw_dealer(p, &p->guest);
    static const size_t sizes[] = {PAIR_BYTES + 1, 1 << 20};
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        assert_int_equal(zmq_connect(raw, pair_endpoint(p->listener)), 0);
        assert_int_equal(zmq_send(raw, "fits", 4, 0), 4);
        pair_expect(p->listener, "fits", &p->guest);
        assert_int_equal(zmq_send(raw, bytes, sizes[i], 0), sizes[i]);
        for (int wait = 0; wait < 100; wait++) {
            assert_int_equal(link_receive(p->listener, &m, NULL), ERR_TIMEOUT);
            clock_sleep_ms(1);
        }
        assert_int_equal(zmq_disconnect(raw, pair_endpoint(p->listener)), 0);
    }
    zmq_close(raw);
    pair_still_serves(p);
}

/* A limit below what handshakes need is kept by the link itself. */
static void test_a_small_limit_is_kept(void **state)
{
    struct pair *p = *state;
    struct link *small;
    struct link_message m;
    struct link_options o = pair_options(&p->host);
    o.bytes_max = 100;
    assert_int_equal(link_listen(&small, p->context, "tcp://127.0.0.1:0", &o, NULL), 0);
    static const uint8_t bytes[101];
    void *raw = pair_raw_dealer(p, &p->guest);
    assert_int_equal(zmq_connect(raw, pair_endpoint(small)), 0);
    zmq_send(raw, bytes, 100, 0);
    pair_receive(small, &m);
    assert_int_equal(m.size, 100);
    link_message_close(&m);
    zmq_send(raw, bytes, 101, 0);
    wait_until((assert_int_equal(link_receive(small, &m, NULL), ERR_TIMEOUT), link_dropped(small) == 1));
    zmq_close(raw);
    link_close(&small);
}

static void test_forged_and_repeated_messages_are_cut(void **state)
{
    struct pair *p = *state;
    enum { FLIP_NAME, FLIP_NONCE, FLIP_MAC, FLIP_BODY, CUT, REPEAT, EMPTY, COMMAND, CASES };
    for (int kind = 0; kind < CASES; kind++) {
        struct curve_peer c;
        uint8_t sealed[128], before[128];
        assert_true(curve_open(&c, p, &p->guest));
        size_t n = curve_seal(&c, 0, "before", 6, before);
        assert_true(curve_frame(c.fd, 0, before, n));
        pair_expect(p->listener, "before", &p->guest);
        n = curve_seal(&c, 0, "forged", 6, sealed);
        static const size_t at[] = {3, 15, 20, 38};
        if (kind <= FLIP_BODY)
            sealed[at[kind]] ^= 0x80;
        if (kind == REPEAT)
            memcpy(sealed, before, sizeof(sealed));
        (void)curve_frame(c.fd, kind == COMMAND ? 4 : 0, sealed, kind == CUT ? 30 : kind == EMPTY ? 0 : n);
        if (kind == COMMAND) { /* a command that is a sealed message: libzmq may take it for one, or hang up */
            shutdown(c.fd, SHUT_WR);
            struct link_message m;
            for (int i = 0; i < 50; i++) {
                if (link_receive(p->listener, &m, NULL) == 0) {
                    assert_memory_equal(m.peer.key, p->guest.public_key, KEY_BYTES);
                    link_message_close(&m);
                }
                clock_sleep_ms(1);
            }
        }
        pair_wait_hang_up(p, c.fd);
        struct link_message m;
        assert_int_equal(link_receive(p->listener, &m, NULL), ERR_TIMEOUT);
    }
    pair_still_serves(p);
}

/* Messages of no bytes cost the sender as much as us; they arrive, in order, and nothing grows. */
static void test_a_flood_of_empty_messages_is_bounded_by_the_queue(void **state)
{
    struct pair *p = *state;
    struct curve_peer c;
    struct link_message m;
    uint64_t until = clock_ms() + PATIENCE_MS;
    int received = 0;
    assert_true(curve_open(&c, p, &p->guest));
    for (int i = 0; i < 2000; i++)
        assert_true(curve_send(&c, 0, "", 0));
    while (received < 2000) {
        assert_true(clock_ms() < until);
        link_watch(p->listener);
        if (link_receive(p->listener, &m, NULL) != 0)
            continue;
        assert_int_equal(m.size, 0);
        link_message_close(&m);
        received++;
    }
    close(c.fd);
    pair_still_serves(p);
}

/* Routing ids that a link would never have: too long to keep, or one that the message after it becomes. */
static void test_odd_routing_ids_do_no_harm(void **state)
{
    struct pair *p = *state;
    struct link_message m;
    char id[255];
    memset(id, 'i', sizeof(id));
    void *raw = pair_raw_dealer(p, &p->guest);
    assert_int_equal(zmq_setsockopt(raw, ZMQ_ROUTING_ID, id, sizeof(id)), 0);
    assert_int_equal(zmq_connect(raw, pair_endpoint(p->listener)), 0);
    assert_int_equal(zmq_send(raw, "x", 1, 0), 1);
    wait_until((assert_int_equal(link_receive(p->listener, &m, NULL), ERR_TIMEOUT), link_dropped(p->listener) > 0));
    zmq_close(raw);
    pair_still_serves(p);
}

int main(void)
{
    struct error e;
    if (keys_init(&e) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_message_of_two_parts_is_dropped_and_its_connection_cut, pair_open,
                                        pair_close),
        cmocka_unit_test_setup_teardown(test_request_sockets_are_dropped_too, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_message_that_never_ends_is_cut, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_busy_reader_cuts_nobody, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_message_over_the_limit_is_cut, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_small_limit_is_kept, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_forged_and_repeated_messages_are_cut, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_flood_of_empty_messages_is_bounded_by_the_queue, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_odd_routing_ids_do_no_harm, pair_open, pair_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
