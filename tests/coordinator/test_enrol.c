/* test_enrol: who may become a member, what is remembered over a restart, and that strangers cannot tell why not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/path.h"
#include "coordinator/enrol.h"
#include "coordinator/store.h"
#include "net/invite.h"
#include "net/keys.h"

struct fixture {
    char dir[64];
    struct store *store;
    struct enrol *enrol;
    struct keys coordinator, node;
};

static struct fixture f;

static void open_store(void)
{
    struct error e;
    if (store_open(&f.store, f.dir, &e) != 0)
        fail_msg("%s", e.text);
    f.enrol = enrol_create(f.store, f.coordinator.public_key);
}

static void close_store(void)
{
    enrol_destroy(&f.enrol);
    store_close(&f.store);
}

static int setup(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    snprintf(f.dir, sizeof(f.dir), "/tmp/shoal-enrol-XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    assert_int_equal(keys_init(NULL), 0);
    keys_generate(&f.coordinator);
    keys_generate(&f.node);
    open_store();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_store();
    char path[128];
    static const char *const names[] = {"cluster.db", "cluster.db-journal"};
    for (size_t i = 0; i < COUNTOF(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", f.dir, names[i]);
        unlink(path);
    }
    return rmdir(f.dir);
}

struct attempt {
    uint8_t id[INVITE_ID_BYTES], nonce[INVITE_NONCE_BYTES], proof[INVITE_PROOF_BYTES];
    const struct keys *node;
    const char *address;
    bool member;
    uint64_t now_ms;
    int64_t now_unix;
};

static struct attempt attempt_with(const struct store_invite *i)
{
    struct attempt a = {.node = &f.node, .address = "10.0.0.1", .now_unix = 1000, .nonce = {1, 2, 3}};
    memcpy(a.id, i->id, sizeof(a.id));
    invite_proof(i->secret, f.node.public_key, f.coordinator.public_key, a.nonce, a.proof);
    return a;
}

static int check(struct attempt *a, struct error *e)
{
    Shoal__EnrolRequest q = SHOAL__ENROL_REQUEST__INIT;
    q.invite_id = (ProtobufCBinaryData){sizeof(a->id), a->id};
    q.nonce = (ProtobufCBinaryData){sizeof(a->nonce), a->nonce};
    q.proof = (ProtobufCBinaryData){sizeof(a->proof), a->proof};
    q.name = (char *)(uintptr_t)"node";
    struct enrol_who who = {.key = a->node->public_key, .address = a->address, .member = a->member};
    return enrol_check(f.enrol, &q, &who, a->now_ms, a->now_unix, e);
}

static struct store_invite invite(uint32_t uses, uint32_t ttl)
{
    struct store_invite i;
    assert_int_equal(enrol_invite(f.enrol, uses, ttl, 1000, &i, NULL), 0);
    return i;
}

static void test_enrol_accepts_a_proof_once(void **state)
{
    (void)state;
    struct store_invite i = invite(1, 60);
    struct attempt a = attempt_with(&i);
    uint64_t serial = store_serial(f.store);
    assert_int_equal(store_open_invites(f.store, 1000), 1);
    assert_int_equal(check(&a, NULL), 0);
    assert_int_equal(store_enrol(f.store, f.node.public_key, "node", i.id, NULL), 0);
    assert_int_equal(store_serial(f.store), serial + 1);
    struct error e;
    struct keys other;
    keys_generate(&other);
    assert_int_equal(store_enrol(f.store, other.public_key, "other", i.id, &e), ERR_DENIED);
    assert_int_equal(store_serial(f.store), serial + 1); /* rolled back whole */
    a.member = false;
    assert_int_equal(check(&a, &e), ERR_DENIED);
    assert_string_equal(e.text, "the invite is used up");
    assert_int_equal(store_open_invites(f.store, 1000), 0);
    assert_int_equal(check(&a, &e), ERR_DENIED);
    assert_string_equal(e.text, "there is no such invite");
}

struct refusal {
    const char *reason;
    void (*spoil)(struct attempt *a);
};

static void spoil_id(struct attempt *a) { a->id[0] ^= 1; }
static void spoil_first(struct attempt *a) { a->proof[0] ^= 1; }
static void spoil_last(struct attempt *a) { a->proof[INVITE_PROOF_BYTES - 1] ^= 0x80; }
static void spoil_nonce(struct attempt *a) { a->nonce[5] ^= 1; }
static void spoil_key(struct attempt *a) { a->node = &f.coordinator; }
static void spoil_time(struct attempt *a) { a->now_unix = 1061; }

static void test_enrol_refuses(void **state)
{
    (void)state;
    static const struct refusal refusals[] = {
        {"there is no such invite", spoil_id},    {"the proof is wrong", spoil_first},
        {"the proof is wrong", spoil_last},       {"the proof is wrong", spoil_nonce},
        {"the proof is wrong", spoil_key}, /* a request that was overheard is of no use to another key */
        {"the invite has expired", spoil_time},
    };
    struct store_invite i = invite(3, 60);
    for (size_t k = 0; k < COUNTOF(refusals); k++) {
        struct attempt a = attempt_with(&i);
        struct error e = {0};
        char address[32];
        snprintf(address, sizeof(address), "10.0.1.%zu", k);
        a.address = address;
        a.now_unix = 1060; /* the last second of its life */
        assert_int_equal(check(&a, &e), 0);
        refusals[k].spoil(&a);
        assert_int_equal(check(&a, &e), ERR_DENIED);
        assert_string_equal(e.text, refusals[k].reason);
    }
}

static void test_enrol_refuses_revoked_keys_for_ever(void **state)
{
    (void)state;
    struct store_invite i = invite(5, 60);
    struct attempt a = attempt_with(&i);
    struct error e;
    assert_int_equal(store_enrol(f.store, f.node.public_key, "node", i.id, NULL), 0);
    assert_int_equal(store_revoke(f.store, f.node.public_key, "node", NULL), 0);
    assert_int_equal(check(&a, &e), ERR_DENIED);
    assert_string_equal(e.text, "the key was revoked");
    close_store();
    open_store();
    assert_int_equal(check(&a, &e), ERR_DENIED);
    assert_string_equal(e.text, "the key was revoked");
}

static void test_enrol_stops_listening_to_those_who_guess(void **state)
{
    (void)state;
    struct store_invite i = invite(9, 60);
    struct attempt good = attempt_with(&i), bad = good;
    struct error e;
    spoil_first(&bad);
    for (int k = 0; k < ENROL_REFUSALS_A_MINUTE; k++) {
        assert_int_equal(check(&good, &e), 0); /* successes cost nothing */
        assert_int_equal(check(&bad, &e), ERR_DENIED);
        assert_string_equal(e.text, "the proof is wrong");
    }
    assert_int_equal(check(&good, &e), ERR_DENIED);
    assert_non_null(strstr(e.text, "too often"));
    good.address = "10.0.0.2"; /* others are heard */
    assert_int_equal(check(&good, &e), 0);
    good.address = "10.0.0.1";
    good.now_ms = 59999;
    assert_int_equal(check(&good, &e), ERR_DENIED);
    good.now_ms = 60000;
    assert_int_equal(check(&good, &e), 0);
}

static void test_enrol_remembers_a_bounded_number_of_addresses(void **state)
{
    (void)state;
    struct store_invite i = invite(9, 60);
    struct attempt a = attempt_with(&i);
    spoil_first(&a);
    char address[32];
    a.address = address;
    for (unsigned k = 0; k < 3 * ENROL_ADDRESSES_MAX; k++) {
        snprintf(address, sizeof(address), "10.1.%u.%u", k / 256, k % 256);
        a.now_ms = k;
        assert_int_equal(check(&a, NULL), ERR_DENIED);
    }
}

static void test_enrol_bounds_invites(void **state)
{
    (void)state;
    struct store_invite i;
    assert_int_equal(enrol_invite(f.enrol, 0, 60, 1000, &i, NULL), ERR_INVALID);
    assert_int_equal(enrol_invite(f.enrol, ENROL_USES_MAX + 1, 60, 1000, &i, NULL), ERR_INVALID);
    assert_int_equal(enrol_invite(f.enrol, 1, 0, 1000, &i, NULL), ERR_INVALID);
    assert_int_equal(enrol_invite(f.enrol, 1, ENROL_TTL_MAX_S + 1, 1000, &i, NULL), ERR_INVALID);
    for (int k = 0; k < STORE_INVITES_MAX; k++)
        assert_int_equal(enrol_invite(f.enrol, 1, 60, 1000, &i, NULL), 0);
    assert_int_equal(enrol_invite(f.enrol, 1, 60, 1000, &i, NULL), ERR_LIMIT);
    assert_int_equal(store_open_invites(f.store, 1061), 0); /* all have expired */
    assert_int_equal(enrol_invite(f.enrol, 1, 60, 1061, &i, NULL), 0);
}

/* ---- the store ---- */

static int collect(void *arg, const uint8_t key[KEY_BYTES], const char *name)
{
    char *names = arg;
    (void)key;
    size_t n = strlen(names);
    snprintf(names + n, 128 - n, "%s ", name);
    return 0;
}

static void test_store_survives_a_restart(void **state)
{
    (void)state;
    struct keys more[3];
    struct store_invite i = invite(7, 60), found;
    static const char *const names[] = {"zeta", "alpha", "mid"};
    for (size_t k = 0; k < 3; k++) {
        keys_generate(&more[k]);
        assert_int_equal(store_enrol(f.store, more[k].public_key, names[k], i.id, NULL), 0);
    }
    assert_int_equal(store_revoke(f.store, more[1].public_key, "alpha", NULL), 0);
    uint64_t serial = store_serial(f.store);
    close_store();
    open_store();
    char text[128] = "";
    assert_int_equal(store_members(f.store, collect, text, NULL), 0);
    assert_string_equal(text, "zeta mid "); /* in the order of enrolment */
    assert_int_equal(store_serial(f.store), serial);
    assert_true(store_find_invite(f.store, i.id, &found));
    assert_int_equal(found.uses, 4);
    assert_memory_equal(found.secret, i.secret, sizeof(i.secret));
    assert_true(store_revoked(f.store, more[1].public_key));
    assert_false(store_revoked(f.store, more[0].public_key));
    assert_int_not_equal(store_enrol(f.store, more[0].public_key, "twice", i.id, NULL), 0);
    assert_true(store_find_invite(f.store, i.id, &found));
    assert_int_equal(found.uses, 4); /* nothing of a failed enrolment is kept */
}

static void test_store_is_for_one_coordinator_and_private(void **state)
{
    (void)state;
    struct store *second;
    struct error e;
    struct stat st;
    char path[128];
    assert_int_equal(store_open(&second, f.dir, &e), ERR_CONFLICT);
    assert_null(second);
    assert_non_null(strstr(e.text, "another coordinator"));
    snprintf(path, sizeof(path), "%s/cluster.db", f.dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_store_refuses_what_it_did_not_write(void **state)
{
    (void)state;
    char path[128];
    struct store *s;
    close_store();
    snprintf(path, sizeof(path), "%s/cluster.db", f.dir);
    char *bytes;
    size_t len;
    assert_int_equal(path_read(path, 1 << 20, &bytes, &len, NULL), 0);
    bytes[71] ^= 1; /* the application's number */
    assert_int_equal(path_write_atomic(path, bytes, len, 0600, NULL), 0);
    assert_int_equal(store_open(&s, f.dir, NULL), ERR_CORRUPT);
    bytes[71] ^= 1;
    bytes[63] = 2; /* the version */
    assert_int_equal(path_write_atomic(path, bytes, len, 0600, NULL), 0);
    assert_int_equal(store_open(&s, f.dir, NULL), ERR_UNSUPPORTED);
    memset(bytes, 'x', len);
    assert_int_equal(path_write_atomic(path, bytes, len, 0600, NULL), 0);
    assert_int_equal(store_open(&s, f.dir, NULL), ERR_CORRUPT);
    mem_free(bytes);
    unlink(path);
    open_store();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_enrol_accepts_a_proof_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_enrol_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_enrol_refuses_revoked_keys_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(test_enrol_stops_listening_to_those_who_guess, setup, teardown),
        cmocka_unit_test_setup_teardown(test_enrol_remembers_a_bounded_number_of_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_enrol_bounds_invites, setup, teardown),
        cmocka_unit_test_setup_teardown(test_store_survives_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_store_is_for_one_coordinator_and_private, setup, teardown),
        cmocka_unit_test_setup_teardown(test_store_refuses_what_it_did_not_write, setup, teardown),
    };
    return cmocka_run_group_tests_name("enrol", tests, NULL, NULL);
}
