/* test_link_gate: who is not allowed does not come in, and who was allowed and is not any more is put out.
 * After every case the listener still serves an honest guest, and has delivered nothing else. */
#include <errno.h>
#include <stdlib.h>

#include "tests/net/curve_peer.h"

static void test_a_strangers_key_is_refused(void **state)
{
    struct pair *p = *state;
    struct link *stranger = pair_dial(p, &p->stranger);
    wait_until((link_watch(stranger), link_refused(stranger)));
    assert_false(link_connected(stranger));
    assert_int_equal(link_send(stranger, NULL, "x", 1, NULL), ERR_GONE);
    assert_int_equal(link_connections(stranger), 0);
    pair_still_serves(p);
    link_close(&stranger);
}

static void test_a_refused_key_comes_in_once_it_is_allowed(void **state)
{
    struct pair *p = *state;
    struct link *l = pair_dial(p, &p->stranger);
    wait_until((link_watch(l), link_refused(l)));
    assert_int_equal(zap_allow(p->zap, PAIR_DOMAIN, p->stranger.public_key, 1, NULL), 0);
    pair_send(l, NULL, "in", 2);
    pair_expect(p->listener, "in", &p->stranger);
    assert_false(link_refused(l));
    link_close(&l);
}

static void test_a_dial_with_the_wrong_server_key_never_connects(void **state)
{
    struct pair *p = *state;
    struct link *l;
    struct link_options o = pair_options(&p->guest);
    assert_int_equal(link_dial(&l, p->context, pair_endpoint(p->listener), p->stranger.public_key, &o, NULL), 0);
    wait_until((link_watch(l), link_broken_handshakes(l) >= 3));
    assert_false(link_connected(l));
    assert_false(link_refused(l)); /* nobody said no: the key is not that of who answers */
    pair_still_serves(p);
    link_close(&l);
}

/* libzmq gives a dial up for good when the other end breaks the protocol; a link does not. */
static void test_a_dial_outlives_nonsense_from_its_port(void **state)
{
    struct pair *p = *state;
    static const char nonsense[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n......";
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    char endpoint[64];
    struct link *l, *listener;
    struct link_options g = pair_options(&p->guest), h = pair_options(&p->host);
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", ntohs(at.sin_port));
    assert_int_equal(link_dial(&l, p->context, endpoint, p->host.public_key, &g, NULL), 0);
    int client = accept(fd, NULL, NULL);
    assert_true(client >= 0);
    assert_true(curve_write(client, nonsense, sizeof(nonsense) - 1));
    wait_until((link_watch(l), link_broken_handshakes(l) > 0));
    close(client);
    close(fd);
    wait_until(link_listen(&listener, p->context, endpoint, &h, NULL) == 0);
    pair_send(l, NULL, "at last", 7);
    pair_expect(listener, "at last", &p->guest);
    link_close(&l);
    link_close(&listener);
}

static void test_without_a_gate_nobody_comes_in(void **state)
{
    struct pair *p = *state;
    zap_stop(&p->zap);
    struct link *l = pair_dial(p, &p->guest);
    for (int i = 0; i < 300; i++) {
        struct link_message m;
        assert_int_equal(link_send(l, NULL, "x", 1, NULL), ERR_GONE);
        assert_int_equal(link_receive(p->listener, &m, NULL), ERR_TIMEOUT);
        clock_sleep_ms(1);
    }
    link_close(&l);
}

/* libzmq's own clients of the other mechanisms. */
static void test_plain_text_clients_of_libzmq_are_refused(void **state)
{
    struct pair *p = *state;
    void *null = zmq_socket(p->context, ZMQ_DEALER), *plain = zmq_socket(p->context, ZMQ_DEALER);
    int linger = 0;
    zmq_setsockopt(null, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_setsockopt(plain, ZMQ_LINGER, &linger, sizeof(linger));
    assert_int_equal(zmq_setsockopt(plain, ZMQ_PLAIN_USERNAME, "user", 4), 0);
    assert_int_equal(zmq_setsockopt(plain, ZMQ_PLAIN_PASSWORD, "word", 4), 0);
    assert_int_equal(zmq_connect(null, pair_endpoint(p->listener)), 0);
    assert_int_equal(zmq_connect(plain, pair_endpoint(p->listener)), 0);
    assert_int_equal(zmq_send(null, "x", 1, ZMQ_DONTWAIT), 1); /* queued: these clients know no better */
    assert_int_equal(zmq_send(plain, "x", 1, ZMQ_DONTWAIT), 1);
    for (int i = 0; i < 5; i++)
        pair_still_serves(p);
    zmq_close(null);
    zmq_close(plain);
}

/* What a client without encryption would say, all of it at once: the listener hangs up. */
static void test_plain_text_over_a_bare_socket_is_hung_up_on(void **state)
{
    struct pair *p = *state;
    static const char null_ready[] = "\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06" "DEALER" "\x00\x05plain";
    static const char plain_hello[] = "\x04\x10\x05HELLO\x04user\x04word" "\x00\x05plain";
    static const struct {
        const char *mechanism, *rest;
        size_t n;
    } cases[] = {{"NULL", null_ready, sizeof(null_ready) - 1}, {"PLAIN", plain_hello, sizeof(plain_hello) - 1},
                 {"GSSAPI", plain_hello, sizeof(plain_hello) - 1}, {"curve", null_ready, sizeof(null_ready) - 1},
                 {"", null_ready, sizeof(null_ready) - 1}, {"CURVE", null_ready, sizeof(null_ready) - 1}};
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        uint8_t greeting[64];
        int fd = pair_tcp(p);
        curve_greeting(greeting, cases[i].mechanism);
        assert_true(curve_write(fd, greeting, sizeof(greeting)));
        (void)curve_write(fd, cases[i].rest, cases[i].n);
        pair_wait_hang_up(p, fd);
    }
    pair_still_serves(p);
}

static void test_noise_over_a_bare_socket_does_no_harm(void **state)
{
    struct pair *p = *state;
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n", 70},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11},                         /* TLS */
        {"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x01\x05\x00\x00\x00\x01x", 17},    /* ZMTP 2.0, DEALER, a message */
        {"\x01\x00\x02\x00x", 5},                                                     /* ZMTP 1.0 */
        {"\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x00", 11},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16},
        {"\x00", 1}, {"", 0},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        int fd = pair_tcp(p);
        assert_true(curve_write(fd, cases[i].bytes, cases[i].n));
        shutdown(fd, SHUT_WR);
        pair_wait_hang_up(p, fd);
    }
    for (int i = 0; i < 40; i++) {
        uint8_t noise[600];
        int fd = pair_tcp(p);
        randombytes_buf(noise, sizeof(noise));
        if (i % 2)
            curve_greeting(noise, "CURVE"); /* and noise instead of HELLO */
        (void)curve_write(fd, noise, sizeof(noise));
        shutdown(fd, SHUT_WR);
        pair_wait_hang_up(p, fd);
    }
    pair_still_serves(p);
}

/* Peers that begin and stay silent are hung up on by the handshake's deadline; guests come in meanwhile. */
static void test_half_handshakes_end_and_block_nobody(void **state)
{
    struct pair *p = *state;
    enum { EACH = 10 };
    int silent[3 * EACH];
    for (size_t i = 0; i < 3 * EACH; i++) {
        uint8_t greeting[64], hello[200];
        struct curve_peer c = {.fd = pair_tcp(p)};
        silent[i] = c.fd;
        curve_greeting(greeting, "CURVE");
        if (i >= EACH)
            assert_true(curve_write(c.fd, greeting, i >= 2 * EACH ? 64 : 20));
        if (i >= 2 * EACH)
            assert_true(curve_frame(c.fd, 4, hello, curve_hello(&c, p->host.public_key, hello)));
    }
    pair_still_serves(p);
    for (size_t i = 0; i < 3 * EACH; i++)
        pair_wait_hang_up(p, silent[i]);
    pair_still_serves(p);
}

/* A command that says it is huge, before anybody is known: refused at its header. */
static void test_huge_commands_before_the_handshake_are_refused(void **state)
{
    struct pair *p = *state;
    static const uint64_t sizes[] = {PAIR_BYTES + 34, 1ull << 32, (1ull << 63) - 1, 1ull << 63, UINT64_MAX};
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        uint8_t greeting[64], head[9] = {6};
        int fd = pair_tcp(p);
        curve_greeting(greeting, "CURVE");
        for (int b = 0; b < 8; b++)
            head[1 + b] = (uint8_t)(sizes[i] >> (8 * (7 - b)));
        assert_true(curve_write(fd, greeting, 64));
        (void)curve_write(fd, head, sizeof(head));
        pair_wait_hang_up(p, fd);
    }
    pair_still_serves(p);
}

static void test_a_stranger_by_hand_gets_no_further_than_the_gate(void **state)
{
    struct pair *p = *state;
    struct curve_peer c;
    assert_false(curve_open(&c, p, &p->stranger));
    close(c.fd);
    /* The same steps with an allowed key do work, so it was the key. */
    assert_true(curve_open(&c, p, &p->guest));
    assert_true(curve_send(&c, 0, "by hand", 7));
    pair_expect(p->listener, "by hand", &p->guest);
    close(c.fd);
}

/* ---- revocation ---- */

static void test_a_revoked_key_is_cut_and_stays_out(void **state)
{
    struct pair *p = *state;
    struct link *guest = pair_dial(p, &p->guest);
    struct link_message m;
    pair_send(guest, NULL, "hello", 5);
    pair_receive(p->listener, &m);
    struct link_peer peer = m.peer;
    link_message_close(&m);
    for (int i = 0; i < 4; i++)
        pair_send(guest, NULL, "late", 4);
    clock_sleep_ms(50); /* most of them lie in the listener's queue by now */
    assert_int_equal(zap_allow(p->zap, PAIR_DOMAIN, p->stranger.public_key, 1, NULL), 0);
    assert_int_equal(link_revoke(p->listener, p->stranger.public_key, 1), 1);
    wait_until((link_watch(guest), !link_connected(guest)));
    wait_until((link_watch(guest), link_refused(guest)));
    assert_int_equal(link_receive(p->listener, &m, NULL), ERR_TIMEOUT);
    assert_true(link_dropped(p->listener) > 0);
    assert_int_equal(link_send(p->listener, &peer, "x", 1, NULL), ERR_GONE);
    /* Who is still a member is not disturbed. */
    struct link *other = pair_dial(p, &p->stranger);
    pair_send(other, NULL, "member", 6);
    pair_expect(p->listener, "member", &p->stranger);
    assert_int_equal(link_revoke(p->listener, p->stranger.public_key, 1), 0);
    pair_send(other, NULL, "member", 6);
    pair_expect(p->listener, "member", &p->stranger);
    assert_int_equal(link_connections(other), 1);
    link_close(&other);
    link_close(&guest);
}

/* It came in before, said nothing, and would go on after. */
static void test_a_silent_connection_of_a_revoked_key_says_nothing(void **state)
{
    struct pair *p = *state;
    struct link *guest = pair_dial(p, &p->guest);
    struct link_message m;
    wait_until(link_connected(guest));
    assert_int_equal(zap_allow(p->zap, PAIR_DOMAIN, NULL, 0, NULL), 0);
    assert_int_equal(link_revoke(p->listener, NULL, 0), 0); /* its key is not known yet */
    assert_int_equal(link_send(guest, NULL, "still here", 10, NULL), 0);
    wait_until((link_watch(guest), link_watch(p->listener),
                assert_int_equal(link_receive(p->listener, &m, NULL), ERR_TIMEOUT), link_refused(guest)));
    assert_int_equal(link_dropped(p->listener), 1);
    link_close(&guest);
}

static void test_a_revoked_key_that_is_allowed_again_comes_back(void **state)
{
    struct pair *p = *state;
    struct link *guest = pair_dial(p, &p->guest);
    pair_send(guest, NULL, "one", 3);
    pair_expect(p->listener, "one", &p->guest);
    assert_int_equal(zap_allow(p->zap, PAIR_DOMAIN, NULL, 0, NULL), 0);
    assert_int_equal(link_revoke(p->listener, NULL, 0), 1);
    wait_until((link_watch(guest), link_refused(guest)));
    assert_int_equal(zap_allow(p->zap, PAIR_DOMAIN, p->guest.public_key, 1, NULL), 0);
    assert_int_equal(link_revoke(p->listener, p->guest.public_key, 1), 0);
    pair_send(guest, NULL, "two", 3);
    pair_expect(p->listener, "two", &p->guest);
    link_close(&guest);
}

/* A peer that claims the routing id of another gets nothing that is meant for the other. */
static void test_a_routing_id_is_not_an_identity(void **state)
{
    struct pair *p = *state;
    uint8_t both[2 * KEY_BYTES];
    memcpy(both, p->guest.public_key, KEY_BYTES);
    memcpy(both + KEY_BYTES, p->stranger.public_key, KEY_BYTES);
    assert_int_equal(zap_allow(p->zap, PAIR_DOMAIN, both, 2, NULL), 0);
    struct link *guest = pair_dial(p, &p->guest);
    struct link_message m;
    pair_send(guest, NULL, "hello", 5);
    pair_receive(p->listener, &m);
    struct link_peer peer = m.peer;
    link_message_close(&m);
    void *thief = pair_raw_dealer(p, &p->stranger);
    assert_int_equal(zmq_setsockopt(thief, ZMQ_ROUTING_ID, "claimed", 7), 0);
    assert_int_equal(zmq_connect(thief, pair_endpoint(p->listener)), 0);
    assert_int_equal(zmq_send(thief, "me", 2, 0), 2);
    pair_expect(p->listener, "me", &p->stranger);
    void *second = pair_raw_dealer(p, &p->stranger);
    assert_int_equal(zmq_setsockopt(second, ZMQ_ROUTING_ID, "claimed", 7), 0);
    assert_int_equal(zmq_connect(second, pair_endpoint(p->listener)), 0);
    assert_int_equal(link_send(p->listener, &peer, "secret", 6, NULL), 0);
    pair_receive(guest, &m);
    assert_memory_equal(m.data, "secret", 6);
    link_message_close(&m);
    char bytes[16];
    assert_int_equal(zmq_recv(thief, bytes, sizeof(bytes), ZMQ_DONTWAIT), -1);
    zmq_close(thief);
    zmq_close(second);
    link_close(&guest);
}

int main(void)
{
    struct error e;
    if (keys_init(&e) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_strangers_key_is_refused, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_refused_key_comes_in_once_it_is_allowed, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_dial_with_the_wrong_server_key_never_connects, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_dial_outlives_nonsense_from_its_port, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_without_a_gate_nobody_comes_in, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_plain_text_clients_of_libzmq_are_refused, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_plain_text_over_a_bare_socket_is_hung_up_on, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_noise_over_a_bare_socket_does_no_harm, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_half_handshakes_end_and_block_nobody, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_huge_commands_before_the_handshake_are_refused, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_stranger_by_hand_gets_no_further_than_the_gate, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_revoked_key_is_cut_and_stays_out, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_silent_connection_of_a_revoked_key_says_nothing, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_revoked_key_that_is_allowed_again_comes_back, pair_open, pair_close),
        cmocka_unit_test_setup_teardown(test_a_routing_id_is_not_an_identity, pair_open, pair_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
