/* test_zap: the gate answers as RFC 27 says, from its tables, and refuses whatever is in doubt. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/net/pair.h"

struct gate {
    void *context, *asker;
    struct zap *zap;
};

static int open_gate(void **state)
{
    struct gate *g = calloc(1, sizeof(*g));
    int timeout = PATIENCE_MS;
    *state = g;
    g->context = link_context(1);
    if (zap_start(&g->zap, g->context, NULL) != 0)
        return -1;
    g->asker = zmq_socket(g->context, ZMQ_REQ);
    zmq_setsockopt(g->asker, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
    return zmq_connect(g->asker, "inproc://zeromq.zap.01");
}

static int close_gate(void **state)
{
    struct gate *g = *state;
    zmq_close(g->asker);
    zap_stop(&g->zap);
    link_context_destroy(&g->context);
    free(g);
    return 0;
}

/* Sends n frames, checks that the answer has the shape of one; its code. */
static int ask_frames(struct gate *g, const char *const *frames, const size_t *sizes, size_t n, char user[64])
{
    char text[6][64] = {{0}};
    for (size_t i = 0; i < n; i++)
        assert_true(zmq_send(g->asker, frames[i], sizes[i], i + 1 < n ? ZMQ_SNDMORE : 0) >= 0);
    for (size_t i = 0; i < 6; i++) {
        int more;
        size_t size = sizeof(more);
        assert_true(zmq_recv(g->asker, text[i], sizeof(text[i]) - 1, 0) >= 0);
        zmq_getsockopt(g->asker, ZMQ_RCVMORE, &more, &size);
        assert_int_equal(more, i < 5);
    }
    assert_string_equal(text[0], "1.0");
    if (n > 1 && sizes[1] < 64)
        assert_string_equal(text[1], frames[1]);
    if (user)
        memcpy(user, text[4], 64);
    assert_true((text[4][0] != 0) == (strcmp(text[2], "200") == 0));
    return (int)strtol(text[2], NULL, 10);
}

static int ask(struct gate *g, const char *domain, const char *mechanism, const uint8_t *key, size_t key_bytes)
{
    const char *frames[] = {"1.0", "id-7", domain, "127.0.0.1", "", mechanism, (const char *)key};
    const size_t sizes[] = {3, 4, strlen(domain), 9, 0, strlen(mechanism), key_bytes};
    return ask_frames(g, frames, sizes, 7, NULL);
}

static void test_only_listed_keys_of_known_domains(void **state)
{
    struct gate *g = *state;
    struct keys a, b, c;
    uint8_t two[2 * KEY_BYTES];
    keys_generate(&a);
    keys_generate(&b);
    keys_generate(&c);
    memcpy(two, a.public_key, KEY_BYTES);
    memcpy(two + KEY_BYTES, b.public_key, KEY_BYTES);
    assert_int_equal(ask(g, "data", "CURVE", a.public_key, KEY_BYTES), 400); /* no domain yet */
    assert_int_equal(zap_allow(g->zap, "data", two, 2, NULL), 0);
    assert_int_equal(ask(g, "data", "CURVE", a.public_key, KEY_BYTES), 200);
    assert_int_equal(ask(g, "data", "CURVE", b.public_key, KEY_BYTES), 200);
    assert_int_equal(ask(g, "data", "CURVE", c.public_key, KEY_BYTES), 400);
    assert_int_equal(ask(g, "dat", "CURVE", a.public_key, KEY_BYTES), 400);
    assert_int_equal(ask(g, "data2", "CURVE", a.public_key, KEY_BYTES), 400);
    assert_int_equal(ask(g, "", "CURVE", a.public_key, KEY_BYTES), 400);
    assert_int_equal(ask(g, "data", "PLAIN", a.public_key, KEY_BYTES), 400);
    assert_int_equal(ask(g, "data", "NULL", a.public_key, KEY_BYTES), 400);
    assert_int_equal(ask(g, "data", "CURVE", a.public_key, KEY_BYTES - 1), 400);
    assert_int_equal(ask(g, "data", "CURVE", two, 2 * KEY_BYTES), 400);
    assert_int_equal(zap_allow(g->zap, "data", b.public_key, 1, NULL), 0); /* replaced at once */
    assert_int_equal(ask(g, "data", "CURVE", a.public_key, KEY_BYTES), 400);
    assert_int_equal(ask(g, "data", "CURVE", b.public_key, KEY_BYTES), 200);
    assert_int_equal(zap_allow(g->zap, "data", NULL, 0, NULL), 0);
    assert_int_equal(ask(g, "data", "CURVE", b.public_key, KEY_BYTES), 400);
    struct zap_counts n;
    zap_counts(g->zap, &n);
    assert_int_equal(n.accepted, 3);
    assert_int_equal(n.refused, 11);
}

static void test_the_user_id_is_the_key(void **state)
{
    struct gate *g = *state;
    struct keys k;
    char user[64], text[KEY_TEXT_BYTES];
    keys_generate(&k);
    keys_text(k.public_key, text);
    assert_int_equal(zap_allow(g->zap, "data", k.public_key, 1, NULL), 0);
    const char *frames[] = {"1.0", "1", "data", "::1", "name", "CURVE", (const char *)k.public_key};
    const size_t sizes[] = {3, 1, 4, 3, 4, 5, KEY_BYTES};
    assert_int_equal(ask_frames(g, frames, sizes, 7, user), 200);
    assert_string_equal(user, text);
}

static void test_an_open_domain_closes_again(void **state)
{
    struct gate *g = *state;
    struct keys k;
    keys_generate(&k);
    assert_int_equal(zap_allow_any(g->zap, "enrol", true, NULL), 0);
    assert_int_equal(ask(g, "enrol", "CURVE", k.public_key, KEY_BYTES), 200);
    assert_int_equal(ask(g, "enrol", "PLAIN", k.public_key, KEY_BYTES), 400);
    assert_int_equal(ask(g, "data", "CURVE", k.public_key, KEY_BYTES), 400);
    assert_int_equal(zap_allow_any(g->zap, "enrol", false, NULL), 0);
    assert_int_equal(ask(g, "enrol", "CURVE", k.public_key, KEY_BYTES), 400);
}

static void test_requests_of_another_shape_are_refused(void **state)
{
    struct gate *g = *state;
    static const uint8_t key[KEY_BYTES] = {1};
    static const char huge[1024] = {'d', 'a', 't', 'a'};
    assert_int_equal(zap_allow_any(g->zap, "data", true, NULL), 0);
    const char *frames[] = {"1.0", "1", "data", "", "", "CURVE", (const char *)key, "more", "and more"};
    size_t sizes[] = {3, 1, 4, 0, 0, 5, KEY_BYTES, 4, 8};
    assert_int_equal(ask_frames(g, frames, sizes, 7, NULL), 200);
    for (size_t n = 2; n <= 9; n++) {
        if (n != 7)
            assert_int_equal(ask_frames(g, frames, sizes, n, NULL), 400);
    }
    frames[2] = huge;
    sizes[2] = sizeof(huge);
    assert_int_equal(ask_frames(g, frames, sizes, 7, NULL), 400);
    frames[2] = "data";
    sizes[2] = 4;
    frames[0] = "2.0";
    assert_int_equal(ask_frames(g, frames, sizes, 7, NULL), 400);
}

static void test_names_and_number_of_domains_are_bounded(void **state)
{
    struct gate *g = *state;
    struct error e;
    char name[ZAP_DOMAIN_NAME_MAX + 1];
    memset(name, 'n', sizeof(name));
    name[ZAP_DOMAIN_NAME_MAX] = 0;
    assert_int_equal(zap_allow(g->zap, name, NULL, 0, &e), ERR_INVALID);
    assert_int_equal(zap_allow(g->zap, "", NULL, 0, &e), ERR_INVALID);
    name[ZAP_DOMAIN_NAME_MAX - 1] = 0;
    assert_int_equal(zap_allow(g->zap, name, NULL, 0, &e), 0);
    for (int i = 1; i < ZAP_DOMAINS_MAX; i++) {
        snprintf(name, sizeof(name), "domain-%d", i);
        assert_int_equal(zap_allow(g->zap, name, NULL, 0, &e), 0);
    }
    assert_int_equal(zap_allow(g->zap, "one more", NULL, 0, &e), ERR_LIMIT);
    assert_int_equal(zap_allow(g->zap, "domain-1", NULL, 0, &e), 0);
}

static void test_a_context_has_one_gate(void **state)
{
    struct gate *g = *state;
    struct zap *second;
    struct error e;
    assert_int_equal(zap_start(&second, g->context, &e), ERR_CONFLICT);
    assert_null(second);
}

static void *change_often(void *arg)
{
    struct gate *g = arg;
    uint8_t keys[64 * KEY_BYTES] = {0};
    for (size_t i = 0; i < 300; i++) {
        keys[1] = 1; /* the first key stays in every set */
        if (zap_allow(g->zap, "data", keys, 1 + i % 64, NULL) != 0)
            return arg;
    }
    return NULL;
}

static void test_a_set_is_replaced_at_once_while_it_is_asked(void **state)
{
    struct gate *g = *state;
    uint8_t key[KEY_BYTES] = {0, 1};
    void *failed;
    pthread_t changer;
    assert_int_equal(zap_allow(g->zap, "data", key, 1, NULL), 0);
    assert_int_equal(pthread_create(&changer, NULL, change_often, g), 0);
    for (int i = 0; i < 300; i++)
        assert_int_equal(ask(g, "data", "CURVE", key, KEY_BYTES), 200);
    pthread_join(changer, &failed);
    assert_null(failed);
}

int main(void)
{
    struct error e;
    if (keys_init(&e) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_listed_keys_of_known_domains, open_gate, close_gate),
        cmocka_unit_test_setup_teardown(test_the_user_id_is_the_key, open_gate, close_gate),
        cmocka_unit_test_setup_teardown(test_an_open_domain_closes_again, open_gate, close_gate),
        cmocka_unit_test_setup_teardown(test_requests_of_another_shape_are_refused, open_gate, close_gate),
        cmocka_unit_test_setup_teardown(test_names_and_number_of_domains_are_bounded, open_gate, close_gate),
        cmocka_unit_test_setup_teardown(test_a_context_has_one_gate, open_gate, close_gate),
        cmocka_unit_test_setup_teardown(test_a_set_is_replaced_at_once_while_it_is_asked, open_gate, close_gate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
