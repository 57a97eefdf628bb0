/* test_membership: what a node keeps of its cluster comes back, damage is named; an invite makes a member or says why
 * it did not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "node/membership.h"
#include "rig.h"

static struct rig rig;

static int open_rig(void **state)
{
    (void)state;
    rig_open(&rig);
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

static struct membership sample(void)
{
    struct membership m = {.control_port = 7101, .blob_port = 65535};
    snprintf(m.host, sizeof(m.host), "coordinator.example.org");
    memset(m.coordinator_key, 0xA1, KEY_BYTES);
    memset(m.sign_public, 0x5B, SIGN_PUBLIC_BYTES);
    return m;
}

static void test_what_was_kept_comes_back(void **state)
{
    (void)state;
    struct membership in = sample(), out;
    assert_int_equal(membership_load(&out, rig.dir, NULL), ERR_NOT_FOUND);
    assert_int_equal(membership_save(&in, rig.dir, NULL), 0);
    assert_int_equal(membership_load(&out, rig.dir, NULL), 0);
    assert_memory_equal(&in, &out, sizeof(in));
}

static void test_damage_is_named(void **state)
{
    (void)state;
    struct membership in = sample(), out;
    struct error e;
    char *path = path_join(rig.dir, "membership"), *text;
    size_t n;
    assert_int_equal(membership_save(&in, rig.dir, NULL), 0);
    assert_int_equal(path_read(path, 4096, &text, &n, NULL), 0);
    for (size_t cut = 0; cut + 1 < n; cut++) { /* all but the last line feed is needed */
        assert_int_equal(path_write_atomic(path, text, cut, 0600, NULL), 0);
        assert_int_equal(membership_load(&out, rig.dir, &e), ERR_CORRUPT);
        assert_non_null(strstr(e.text, "join again"));
    }
    static const char *const bad[] = {
        "host h\ncontrol_port 0\nblob_port 1\n", "host h\ncontrol_port 65536\nblob_port 1\n",
        "host h\ncontrol_port 12x\nblob_port 1\n", "host h\ncontrol_port -1\nblob_port 1\n",
    };
    const char *keys = strstr(text, "coordinator ");
    assert_non_null(keys);
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        char *whole = mem_printf("%s%s", bad[i], keys);
        assert_int_equal(path_write_atomic(path, whole, strlen(whole), 0600, NULL), 0);
        assert_int_equal(membership_load(&out, rig.dir, &e), ERR_CORRUPT);
        mem_free(whole);
    }
    char *good = mem_printf("host h\ncontrol_port 1\nblob_port 2\n%s", keys);
    assert_int_equal(path_write_atomic(path, good, strlen(good), 0600, NULL), 0);
    assert_int_equal(membership_load(&out, rig.dir, &e), 0);
    mem_free(good);
    mem_free(text);
    mem_free(path);
}

static void test_endpoints_have_brackets_where_they_must(void **state)
{
    (void)state;
    struct membership m = sample();
    char text[300];
    membership_endpoint(&m, 80, text);
    assert_string_equal(text, "tcp://coordinator.example.org:80");
    snprintf(m.host, sizeof(m.host), "fe80::1");
    membership_endpoint(&m, 7101, text);
    assert_string_equal(text, "tcp://[fe80::1]:7101");
}

/* Enrols beside the rig, which answers meanwhile. */
struct enrolment {
    void *context;
    const char *line;
    struct keys keys;
    struct membership got;
    int status;
    struct error why;
    atomic_int done;
};

static void *enrol(void *arg)
{
    struct enrolment *t = arg;
    t->status = membership_enrol(&t->got, t->context, &t->keys, "tester", t->line, &t->why);
    atomic_store(&t->done, 1);
    return NULL;
}

static int enrol_with(struct enrolment *t, const char *line)
{
    pthread_t thread;
    memset(t, 0, sizeof(*t));
    t->context = rig.context;
    t->line = line;
    keys_generate(&t->keys);
    rig.nodes[0].options.name = "tester";
    rig.n_nodes = 1;
    assert_int_equal(pthread_create(&thread, NULL, enrol, t), 0);
    while (!atomic_load(&t->done))
        rig_pump(&rig);
    pthread_join(thread, NULL);
    assert_true(t->status == 0 || t->why.text[0] != 0);
    return t->status;
}

static void test_an_invite_makes_a_member(void **state)
{
    (void)state;
    struct enrolment t;
    assert_int_equal(enrol_with(&t, rig.invite_line), 0);
    assert_string_equal(t.got.host, "127.0.0.1");
    assert_int_equal(t.got.control_port, link_port(rig.control));
    assert_int_equal(t.got.blob_port, link_port(rig.blob));
    assert_memory_equal(t.got.coordinator_key, rig.keys.public_key, KEY_BYTES);
    assert_memory_equal(t.got.sign_public, rig.keys.sign_public, SIGN_PUBLIC_BYTES);
}

static void test_invites_that_are_no_good_say_why(void **state)
{
    (void)state;
    struct enrolment t;
    char line[INVITE_TEXT_MAX];
    struct invite i = rig.invite;
    assert_int_equal(enrol_with(&t, "shoal1.AAAA"), ERR_INVALID);
    i.expires = clock_unix() - 1;
    invite_text(&i, line);
    assert_int_equal(enrol_with(&t, line), ERR_DENIED);
    assert_non_null(strstr(t.why.text, "expired"));
    i = rig.invite;
    i.secret[0] ^= 1;
    invite_text(&i, line);
    assert_int_equal(enrol_with(&t, line), ERR_DENIED);
    assert_int_equal(zap_allow_any(rig.zap, "enrol", false, NULL), 0);
    assert_int_equal(enrol_with(&t, rig.invite_line), ERR_DENIED); /* no invite is outstanding: the gate is shut */
}

static void test_answers_that_are_no_good_are_refused(void **state)
{
    (void)state;
    struct enrolment t;
    rig.incomplete_answers = true;
    assert_int_equal(enrol_with(&t, rig.invite_line), ERR_CORRUPT);
    rig.incomplete_answers = false;
    rig.foreign_rosters = true;
    assert_int_equal(enrol_with(&t, rig.invite_line), ERR_DENIED);
    rig.foreign_rosters = false;
    assert_int_equal(enrol_with(&t, rig.invite_line), 0);
}

static void test_silence_ends_in_a_sentence(void **state)
{
    (void)state;
    struct enrolment t;
    char line[INVITE_TEXT_MAX], port[16];
    struct invite i = rig.invite;
    rig.deaf_to_enrolments = true;
    assert_int_equal(enrol_with(&t, rig.invite_line), ERR_TIMEOUT);
    snprintf(port, sizeof(port), ":%u", rig.invite.port);
    assert_non_null(strstr(t.why.text, port));
    i.coordinator_key[0] ^= 1; /* somebody answers, and is not who the invite means */
    invite_text(&i, line);
    assert_int_equal(enrol_with(&t, line), ERR_DENIED);
    if (!strstr(t.why.text, "is not the coordinator"))
        fail_msg("%s", t.why.text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_rig, close_rig)

int main(void)
{
    struct error e;
    if (keys_init(&e) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(test_what_was_kept_comes_back),
        TEST(test_damage_is_named),
        TEST(test_endpoints_have_brackets_where_they_must),
        TEST(test_an_invite_makes_a_member),
        TEST(test_invites_that_are_no_good_say_why),
        TEST(test_answers_that_are_no_good_are_refused),
        TEST(test_silence_ends_in_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
