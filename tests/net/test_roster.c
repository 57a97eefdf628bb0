/* test_roster: what was signed comes back; another's signature, an old serial, a key listed twice and too
 * many members are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/memory.h"
#include "net/roster.h"
#include "proto/control.h"

static struct keys coordinator;

/* A roster of n members with keys and names of their own. */
static struct roster roster_of(size_t n, uint64_t serial)
{
    struct roster r = {.serial = serial, .n = n, .members = mem_array(n + 1, sizeof(*r.members))};
    for (size_t i = 0; i < n; i++) {
        struct roster_member *m = &r.members[i];
        memset(m->key, 0x11, KEY_BYTES);
        memcpy(m->key, &i, sizeof(i));
        snprintf(m->name, sizeof(m->name), "node-%zu", i);
        m->role = i == 0 ? ROLE_COORDINATOR : ROLE_NODE;
    }
    return r;
}

struct signed_roster {
    uint8_t *body;
    size_t len;
    uint8_t signature[SIGNATURE_BYTES];
};

static struct signed_roster sign(struct roster r)
{
    struct signed_roster s;
    assert_int_equal(roster_sign(&r, &coordinator, &s.body, &s.len, s.signature, NULL), 0);
    roster_free(&r);
    return s;
}

static int verify(struct roster *out, const struct signed_roster *s, uint64_t serial_min)
{
    struct error e = {0};
    int r = roster_verify(out, s->body, s->len, s->signature, SIGNATURE_BYTES, coordinator.sign_public, serial_min, &e);
    assert_true((r == 0) == (e.text[0] == 0));
    if (r != 0)
        assert_null(out->members);
    return r;
}

static void test_signed_comes_back(void **state)
{
    (void)state;
    static const size_t counts[] = {0, 1, 3, ROSTER_MEMBERS_MAX};
    for (size_t c = 0; c < COUNTOF(counts); c++) {
        struct signed_roster s = sign(roster_of(counts[c], 9));
        struct roster want = roster_of(counts[c], 9), got;
        assert_int_equal(verify(&got, &s, 9), 0);
        assert_int_equal(got.serial, 9);
        assert_int_equal(got.n, counts[c]);
        for (size_t i = 0; i < got.n; i++) {
            assert_memory_equal(&got.members[i], &want.members[i], sizeof(want.members[i]));
            assert_ptr_equal(roster_find(&got, want.members[i].key), &got.members[i]);
        }
        static const uint8_t nobody[KEY_BYTES];
        assert_null(roster_find(&got, coordinator.public_key));
        assert_null(roster_find(&got, nobody));
        roster_free(&got);
        roster_free(&want);
        mem_free(s.body);
    }
}

static void test_longest_names_fit(void **state)
{
    (void)state;
    struct roster r = roster_of(ROSTER_MEMBERS_MAX, UINT64_MAX), got;
    for (size_t i = 0; i < r.n; i++)
        memset(r.members[i].name, 'n', ROSTER_NAME_MAX - 1);
    struct signed_roster s = sign(r);
    assert_int_equal(verify(&got, &s, UINT64_MAX), 0);
    assert_int_equal(strlen(got.members[7].name), ROSTER_NAME_MAX - 1);
    roster_free(&got);
    mem_free(s.body);
}

static void test_any_changed_bit_is_denied(void **state)
{
    (void)state;
    struct signed_roster s = sign(roster_of(2, 5));
    struct roster got;
    for (size_t i = 0; i < s.len; i++) {
        s.body[i] ^= 0x10;
        assert_int_equal(verify(&got, &s, 0), ERR_DENIED);
        s.body[i] ^= 0x10;
    }
    for (size_t i = 0; i < SIGNATURE_BYTES; i++) {
        s.signature[i] ^= 1;
        assert_int_equal(verify(&got, &s, 0), ERR_DENIED);
        s.signature[i] ^= 1;
    }
    s.len--;
    assert_int_equal(verify(&got, &s, 0), ERR_DENIED);
    mem_free(s.body);
}

static void test_another_signer_and_wrong_lengths_are_denied(void **state)
{
    (void)state;
    struct keys other;
    struct signed_roster s = sign(roster_of(2, 5));
    struct roster got;
    struct error e;
    keys_generate(&other);
    assert_int_equal(roster_verify(&got, s.body, s.len, s.signature, SIGNATURE_BYTES, other.sign_public, 0, &e),
                     ERR_DENIED);
    for (size_t n = 0; n < SIGNATURE_BYTES; n++)
        assert_int_equal(roster_verify(&got, s.body, s.len, s.signature, n, coordinator.sign_public, 0, &e),
                         ERR_DENIED);
    assert_int_equal(roster_verify(&got, s.body, ROSTER_BYTES_MAX + 1, s.signature, SIGNATURE_BYTES,
                                   coordinator.sign_public, 0, &e), ERR_LIMIT);
    mem_free(s.body);
}

static void test_an_old_serial_is_denied(void **state)
{
    (void)state;
    struct signed_roster s = sign(roster_of(1, 41));
    struct roster got;
    assert_int_equal(verify(&got, &s, 42), ERR_DENIED);
    assert_int_equal(verify(&got, &s, 41), 0); /* the same one again is harmless */
    roster_free(&got);
    mem_free(s.body);
}

/* Signs any bytes: what a coordinator that is broken or taken over could send. */
static struct signed_roster sign_bytes(const uint8_t *bytes, size_t n)
{
    struct signed_roster s = {.body = mem_alloc(n + 1), .len = n};
    memcpy(s.body, bytes, n);
    crypto_sign_detached(s.signature, NULL, s.body, s.len, coordinator.sign_secret);
    return s;
}

static struct signed_roster sign_members(size_t n, size_t same_as_first)
{
    struct roster r = roster_of(n, 1);
    if (same_as_first)
        memcpy(r.members[same_as_first].key, r.members[0].key, KEY_BYTES);
    Shoal__RosterBody b = SHOAL__ROSTER_BODY__INIT;
    Shoal__Member *members = mem_array(n, sizeof(*members)), **list = mem_array(n, sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        shoal__member__init(&members[i]);
        members[i].key = (ProtobufCBinaryData){KEY_BYTES, r.members[i].key};
        members[i].name = r.members[i].name;
        members[i].role = 1;
        list[i] = &members[i];
    }
    b.serial = 1;
    b.n_members = n;
    b.members = list;
    uint8_t *bytes = mem_alloc(shoal__roster_body__get_packed_size(&b));
    struct signed_roster s = sign_bytes(bytes, shoal__roster_body__pack(&b, bytes));
    mem_free(bytes);
    mem_free(list);
    mem_free(members);
    roster_free(&r);
    return s;
}

static void test_a_key_listed_twice_is_refused_on_both_sides(void **state)
{
    (void)state;
    struct signed_roster s = sign_members(300, 299);
    struct roster got, r = roster_of(3, 1);
    assert_int_equal(verify(&got, &s, 0), ERR_CORRUPT);
    mem_free(s.body);
    memcpy(r.members[2].key, r.members[1].key, KEY_BYTES);
    assert_int_equal(roster_sign(&r, &coordinator, &s.body, &s.len, s.signature, NULL), ERR_CORRUPT);
    roster_free(&r);
}

static void test_too_many_members_are_refused_on_both_sides(void **state)
{
    (void)state;
    struct signed_roster s = sign_members(ROSTER_MEMBERS_MAX + 1, 0);
    struct roster got, r = roster_of(ROSTER_MEMBERS_MAX + 1, 1);
    assert_int_equal(verify(&got, &s, 0), ERR_LIMIT);
    mem_free(s.body);
    assert_int_equal(roster_sign(&r, &coordinator, &s.body, &s.len, s.signature, NULL), ERR_LIMIT);
    roster_free(&r);
}

static void test_signed_nonsense_is_refused(void **state)
{
    (void)state;
    static const uint8_t nonsense[] = {0x12, 0xFF, 0xFF, 0x03, 0x0A, 0x01};
    struct signed_roster s = sign_bytes(nonsense, sizeof(nonsense));
    struct roster got;
    assert_int_equal(verify(&got, &s, 0), ERR_CORRUPT);
    mem_free(s.body);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    keys_generate(&coordinator);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signed_comes_back),
        cmocka_unit_test(test_longest_names_fit),
        cmocka_unit_test(test_any_changed_bit_is_denied),
        cmocka_unit_test(test_another_signer_and_wrong_lengths_are_denied),
        cmocka_unit_test(test_an_old_serial_is_denied),
        cmocka_unit_test(test_a_key_listed_twice_is_refused_on_both_sides),
        cmocka_unit_test(test_too_many_members_are_refused_on_both_sides),
        cmocka_unit_test(test_signed_nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
