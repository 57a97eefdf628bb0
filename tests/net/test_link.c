/* test_link: what honest ends of a link see: messages both ways with their sender's key, limits, full queues,
 * peers that go and come back. */
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>

#include "base/memory.h"
#include "tests/net/pair.h"

static void test_messages_go_both_ways_with_the_senders_key(void **state)
{
    struct pair *p = *state;
    struct link *guest = pair_dial(p, &p->guest);
    struct link_message m;
    pair_send(guest, NULL, "question", 8);
    pair_receive(p->listener, &m);
    assert_int_equal(m.size, 8);
    assert_memory_equal(m.data, "question", 8);
    assert_memory_equal(m.peer.key, p->guest.public_key, KEY_BYTES);
    assert_string_equal(m.peer.address, "127.0.0.1");
    struct link_peer peer = m.peer; /* copied out: outlives the message */
    link_message_close(&m);
    assert_int_equal(link_send(p->listener, &peer, "answer", 6, NULL), 0);
    pair_receive(guest, &m);
    assert_int_equal(m.size, 6);
    assert_memory_equal(m.data, "answer", 6);
    link_message_close(&m);
    assert_int_equal(link_receive(guest, &m, NULL), ERR_TIMEOUT);
    assert_int_equal(link_receive(p->listener, &m, NULL), ERR_TIMEOUT);
    assert_int_equal(link_dropped(p->listener), 0);
    assert_int_equal(link_connections(guest), 1);
    assert_false(link_refused(guest));
    link_close(&guest);
}

static void test_two_guests_are_told_apart(void **state)
{
    struct pair *p = *state;
    uint8_t both[2 * KEY_BYTES];
    memcpy(both, p->guest.public_key, KEY_BYTES);
    memcpy(both + KEY_BYTES, p->stranger.public_key, KEY_BYTES);
    assert_int_equal(zap_allow(p->zap, PAIR_DOMAIN, both, 2, NULL), 0);
    struct link *a = pair_dial(p, &p->guest), *b = pair_dial(p, &p->stranger);
    struct link_message m;
    pair_send(a, NULL, "a", 1);
    pair_send(b, NULL, "b", 1);
    for (int i = 0; i < 2; i++) {
        pair_receive(p->listener, &m);
        bool is_a = memcmp(m.data, "a", 1) == 0;
        assert_memory_equal(m.peer.key, is_a ? p->guest.public_key : p->stranger.public_key, KEY_BYTES);
        pair_send(p->listener, &m.peer, m.data, 1);
        link_message_close(&m);
    }
    pair_receive(a, &m);
    assert_memory_equal(m.data, "a", 1);
    link_message_close(&m);
    pair_receive(b, &m);
    assert_memory_equal(m.data, "b", 1);
    link_message_close(&m);
    link_close(&a);
    link_close(&b);
}

static void test_sizes_to_the_limit_and_not_past_it(void **state)
{
    struct pair *p = *state;
    struct link *guest = pair_dial(p, &p->guest);
    static uint8_t bytes[PAIR_BYTES + 1];
    static const size_t sizes[] = {0, 1, 28, 29, 30, 221, 222, 223, 4096, PAIR_BYTES - 1, PAIR_BYTES};
    struct link_message m;
    struct error e;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        pair_send(guest, NULL, bytes, sizes[i]);
        pair_receive(p->listener, &m);
        assert_int_equal(m.size, sizes[i]);
        assert_memory_equal(m.data, bytes, sizes[i]);
        pair_send(p->listener, &m.peer, m.data, m.size); /* busy for a moment, where the threads are slow */
        link_message_close(&m);
        pair_receive(guest, &m);
        assert_int_equal(m.size, sizes[i]);
        link_message_close(&m);
    }
    assert_int_equal(link_send(guest, NULL, bytes, sizeof(bytes), &e), ERR_LIMIT);
    link_close(&guest);
}

static void test_taken_data_is_sent_and_freed(void **state)
{
    struct pair *p = *state;
    struct link *guest = pair_dial(p, &p->guest);
    struct link_message m;
    void *data = mem_alloc(5000);
    memset(data, 0x5A, 5000);
    wait_until(link_connected(guest));
    assert_int_equal(link_send_take(guest, NULL, &data, 5000, NULL), 0);
    assert_null(data);
    pair_receive(p->listener, &m);
    assert_int_equal(m.size, 5000);
    assert_int_equal(((uint8_t *)m.data)[4999], 0x5A);
    data = mem_alloc(3);
    assert_int_equal(link_send_take(p->listener, &m.peer, &data, 3, NULL), 0);
    assert_null(data);
    link_message_close(&m);
    pair_receive(guest, &m);
    assert_int_equal(m.size, 3);
    link_message_close(&m);
    link_close(&guest);
}

/* Sends until the link has enough; how many it took. */
static int fill(struct link *l, const struct link_peer *to, int status)
{
    static uint8_t bytes[PAIR_BYTES];
    int taken = 0, r;
    uint64_t until = clock_ms() + PATIENCE_MS;
    for (int refused = 0; refused < 50; refused += r != 0) {
        assert_true(clock_ms() < until);
        r = link_send(l, to, bytes, sizeof(bytes), NULL);
        assert_true(r == 0 || r == status);
        taken += r == 0;
        if (r != 0)
            clock_sleep_ms(1);
    }
    return taken;
}

static void test_a_full_queue_is_busy_and_nothing_is_lost(void **state)
{
    struct pair *p = *state;
    struct link *guest = pair_dial(p, &p->guest);
    struct link_message m;
    pair_send(guest, NULL, "hello", 5);
    pair_receive(p->listener, &m);
    struct link_peer peer = m.peer;
    link_message_close(&m);
    int sent = fill(guest, NULL, ERR_BUSY);
    assert_true(sent > PAIR_QUEUE);
    void *data = mem_alloc(1);
    assert_int_equal(link_send_take(guest, NULL, &data, 1, NULL), ERR_BUSY);
    assert_non_null(data);
    mem_free(data);
    for (int i = 0; i < sent; i++) {
        pair_receive(p->listener, &m);
        assert_int_equal(m.size, PAIR_BYTES);
        link_message_close(&m);
    }
    sent = fill(p->listener, &peer, ERR_BUSY);
    for (int i = 0; i < sent; i++) {
        pair_receive(guest, &m);
        link_message_close(&m);
    }
    assert_int_equal(link_dropped(p->listener) + link_dropped(guest), 0);
    link_close(&guest);
}

static void test_who_is_gone_is_called_gone(void **state)
{
    struct pair *p = *state;
    struct link *guest = pair_dial(p, &p->guest);
    struct link_message m;
    pair_send(guest, NULL, "hello", 5);
    pair_receive(p->listener, &m);
    struct link_peer peer = m.peer;
    link_message_close(&m);
    link_close(&guest);
    wait_until(link_send(p->listener, &peer, "x", 1, NULL) == ERR_GONE);
    /* Another connection of the same key is another peer. */
    guest = pair_dial(p, &p->guest);
    pair_send(guest, NULL, "again", 5);
    pair_expect(p->listener, "again", &p->guest);
    assert_int_equal(link_send(p->listener, &peer, "x", 1, NULL), ERR_GONE);
    link_close(&guest);
}

static void test_a_dial_to_nobody_is_gone_and_not_refused(void **state)
{
    struct pair *p = *state;
    struct link *l;
    struct link_options o = pair_options(&p->guest);
    assert_int_equal(link_dial(&l, p->context, "tcp://127.0.0.1:1", p->host.public_key, &o, NULL), 0);
    for (int i = 0; i < 50; i++) {
        link_watch(l);
        assert_int_equal(link_send(l, NULL, "x", 1, NULL), ERR_GONE);
        clock_sleep_ms(2);
    }
    void *data = mem_alloc(5000);
    assert_int_equal(link_send_take(l, NULL, &data, 5000, NULL), ERR_GONE);
    assert_non_null(data); /* what is not taken stays the caller's */
    mem_free(data);
    assert_false(link_connected(l));
    assert_false(link_refused(l));
    link_close(&l);
}

static void test_a_dial_finds_the_restarted_listener(void **state)
{
    struct pair *p = *state;
    char endpoint[64];
    snprintf(endpoint, sizeof(endpoint), "%s", pair_endpoint(p->listener));
    struct link *guest = pair_dial(p, &p->guest);
    struct link_options o = pair_options(&p->host);
    for (uint32_t round = 1; round <= 3; round++) {
        wait_until((link_watch(guest), link_connected(guest) && link_connections(guest) == round));
        pair_send(guest, NULL, "here", 4);
        pair_expect(p->listener, "here", &p->guest);
        link_close(&p->listener);
        wait_until((link_watch(guest), !link_connected(guest)));
        assert_int_equal(link_send(guest, NULL, "x", 1, NULL), ERR_GONE);
        wait_until(link_listen(&p->listener, p->context, endpoint, &o, NULL) == 0);
    }
    link_close(&guest);
}

static void test_a_port_in_use_is_named(void **state)
{
    struct pair *p = *state;
    struct link *second = NULL;
    struct error e;
    char port[16];
    struct link_options o = pair_options(&p->host);
    assert_true(link_port(p->listener) > 0);
    assert_int_equal(link_listen(&second, p->context, pair_endpoint(p->listener), &o, &e), ERR_CONFLICT);
    assert_null(second);
    snprintf(port, sizeof(port), ":%u", link_port(p->listener));
    assert_non_null(strstr(e.text, port));
    assert_int_equal(link_listen(&second, p->context, "tcp://127.0.0.1:0", &o, &e), 0);
    assert_int_not_equal(link_port(second), link_port(p->listener));
    link_close(&second);
}

static void test_endpoints_that_cannot_be_are_refused(void **state)
{
    struct pair *p = *state;
    static const char *const bad[] = {"", "127.0.0.1:0", "tcp://127.0.0.1", "inproc://x", "ipc:///tmp/x", "tcp://:1",
                                      "tcp://127.0.0.1:99999", "tcp://127.0.0.1:x", "tcp://1.1.1.1;127.0.0.1:5"};
    struct link *l = NULL;
    struct error e;
    struct link_options o = pair_options(&p->host);
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        assert_int_equal(link_listen(&l, p->context, bad[i], &o, &e), ERR_INVALID);
        assert_int_equal(link_dial(&l, p->context, bad[i], p->host.public_key, &o, &e), ERR_INVALID);
        assert_null(l);
    }
    assert_int_equal(link_listen(&l, p->context, "tcp://203.0.113.5:0", &o, &e), ERR_CONFIG);
}

static void test_a_listener_without_a_domain_is_impossible(void **state)
{
    struct pair *p = *state;
    struct link *l = NULL;
    struct error e;
    static const char *const domains[] = {NULL, "", "a name that is far longer than the gate takes"};
    for (size_t i = 0; i < COUNTOF(domains); i++) {
        struct link_options o = pair_options(&p->host);
        o.domain = domains[i];
        assert_int_equal(link_listen(&l, p->context, "tcp://127.0.0.1:0", &o, &e), ERR_INVALID);
        assert_null(l);
    }
    struct link_options o = pair_options(&p->host);
    o.bytes_max = 0;
    assert_int_equal(link_listen(&l, p->context, "tcp://127.0.0.1:0", &o, &e), ERR_INVALID);
    o = pair_options(&p->host);
    o.queue_max = 0; /* libzmq's word for no limit */
    assert_int_equal(link_listen(&l, p->context, "tcp://127.0.0.1:0", &o, &e), ERR_INVALID);
}

static void test_ipv6_and_ipv4_through_it(void **state)
{
    struct pair *p = *state;
    struct link *six = NULL, *l;
    struct link_options o = pair_options(&p->host), g = pair_options(&p->guest);
    char endpoint[64];
    struct link_message m;
    if (link_listen(&six, p->context, "tcp://[::]:0", &o, NULL) != 0) {
        print_message("no IPv6 here\n");
        skip();
    }
    static const char *const hosts[] = {"127.0.0.1", "[::1]", "localhost"};
    for (size_t i = 0; i < COUNTOF(hosts); i++) {
        struct addrinfo *found = NULL;
        if (i == 2 && getaddrinfo(hosts[i], NULL, NULL, &found) != 0) {
            print_message("no name for this machine here\n");
            break;
        }
        if (found)
            freeaddrinfo(found);
        snprintf(endpoint, sizeof(endpoint), "tcp://%s:%u", hosts[i], link_port(six));
        assert_int_equal(link_dial(&l, p->context, endpoint, p->host.public_key, &g, NULL), 0);
        pair_send(l, NULL, "six", 3);
        pair_receive(six, &m);
        assert_string_equal(m.peer.address, i == 1 ? "::1" : "127.0.0.1");
        link_message_close(&m);
        link_close(&l);
    }
    link_close(&six);
}

static void test_the_gate_tests_itself(void **state)
{
    struct pair *p = *state;
    struct error e = {0};
    struct zap_counts n;
    for (int i = 0; i < 3; i++)
        assert_int_equal(link_self_test(p->context, p->zap, &e), 0);
    zap_counts(p->zap, &n);
    assert_int_equal(n.accepted, 3);
    assert_true(n.refused >= 3);
    /* A context without the gate lets nobody in, and the test says so. */
    void *other = link_context(1);
    assert_int_equal(link_self_test(other, p->zap, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "was not let in"));
    link_context_destroy(&other);
}

int main(void)
{
    struct error e;
    if (keys_init(&e) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_messages_go_both_ways_with_the_senders_key, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_two_guests_are_told_apart, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_sizes_to_the_limit_and_not_past_it, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_taken_data_is_sent_and_freed, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_full_queue_is_busy_and_nothing_is_lost, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_who_is_gone_is_called_gone, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_dial_to_nobody_is_gone_and_not_refused, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_dial_finds_the_restarted_listener, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_port_in_use_is_named, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_endpoints_that_cannot_be_are_refused, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_listener_without_a_domain_is_impossible, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_ipv6_and_ipv4_through_it, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_the_gate_tests_itself, pair_open, pair_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
