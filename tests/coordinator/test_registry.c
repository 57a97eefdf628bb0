/* test_registry: names, sessions, leases and restarts on a clock that the test turns. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/registry.h"

enum { LEASE_MS = 6000 };

static void key_of(uint8_t key[KEY_BYTES], unsigned n)
{
    memset(key, 0, KEY_BYTES);
    key[0] = (uint8_t)n;
    key[1] = (uint8_t)(n >> 8);
    key[31] = 1;
}

static struct member *add(struct registry *r, unsigned n, const char *name)
{
    uint8_t key[KEY_BYTES];
    struct member *m;
    key_of(key, n);
    assert_int_equal(registry_add(r, key, name, &m, NULL), 0);
    return m;
}

static struct link_peer peer_of(unsigned connection)
{
    struct link_peer p = {.route_id_len = 5, .address = "10.0.0.9"};
    memcpy(p.route_id + 1, &connection, sizeof(connection));
    return p;
}

static int join(struct registry *r, struct member *m, uint64_t boot, unsigned connection, uint64_t now,
                enum join_kind *kind)
{
    Shoal__Facts facts = SHOAL__FACTS__INIT;
    facts.name = (char *)(uintptr_t)"node";
    facts.memory_bytes = 1000;
    facts.data_port = 7200;
    facts.device = (char *)(uintptr_t)"cpu\x1b[31m";
    facts.version = (char *)(uintptr_t)"0.1";
    Shoal__Join j = SHOAL__JOIN__INIT;
    j.facts = &facts;
    j.boot = boot;
    struct link_peer peer = peer_of(connection), before;
    return registry_join(r, m, &j, &peer, now, kind, &before, NULL);
}

static bool beat(struct member *m, unsigned connection, uint64_t now, uint64_t steps)
{
    Shoal__ShardStats shard = SHOAL__SHARD_STATS__INIT;
    Shoal__ShardStats *shards[1] = {&shard};
    shard.route = 1;
    shard.steps = steps;
    shard.compute_ms = NAN;
    shard.resident_bytes = 77;
    Shoal__Beat b = SHOAL__BEAT__INIT;
    b.n_shards = 1;
    b.shards = shards;
    b.layer_ms = INFINITY;
    struct link_peer peer = peer_of(connection);
    return registry_beat(m, &b, &peer, now);
}

static void test_registry_names_are_unique_and_printable(void **state)
{
    (void)state;
    struct registry *r = registry_create(LEASE_MS, 1);
    assert_string_equal(add(r, 1, "alpha")->name, "alpha");
    assert_string_equal(add(r, 2, "alpha")->name, "alpha-2");
    assert_string_equal(add(r, 3, "alpha")->name, "alpha-3");
    assert_string_equal(add(r, 4, "")->name, "node");
    assert_string_equal(add(r, 5, "a\x1b[2Jb\n")->name, "a?[2Jb?");
    char longest[200];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    assert_true(strlen(add(r, 6, longest)->name) < ROSTER_NAME_MAX);
    struct member *second = add(r, 7, longest);
    assert_true(strlen(second->name) < ROSTER_NAME_MAX);
    assert_string_equal(second->name + strlen(second->name) - 2, "-2");
    uint8_t key[KEY_BYTES];
    struct member *m;
    key_of(key, 1);
    assert_int_equal(registry_add(r, key, "again", &m, NULL), ERR_CONFLICT);
    registry_destroy(&r);
    assert_null(r);
}

static void test_registry_is_bounded(void **state)
{
    (void)state;
    struct registry *r = registry_create(LEASE_MS, 1);
    uint8_t key[KEY_BYTES];
    struct member *m;
    char name[16];
    enum join_kind kind;
    for (unsigned i = 0; i < REGISTRY_MEMBERS_MAX; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        m = add(r, i, name);
        assert_int_equal(join(r, m, 1, i, 0, &kind), i < REGISTRY_HERE_MAX ? 0 : ERR_LIMIT);
    }
    key_of(key, REGISTRY_MEMBERS_MAX);
    assert_int_equal(registry_add(r, key, "more", &m, NULL), ERR_LIMIT);
    assert_int_equal(registry_here(r), REGISTRY_HERE_MAX);
    assert_int_equal(join(r, registry_at(r, 0), 2, 1, 0, &kind), 0); /* one that is here takes no new place */
    registry_destroy(&r);
}

static void test_registry_finds_by_name_fingerprint_and_key(void **state)
{
    (void)state;
    struct registry *r = registry_create(LEASE_MS, 1);
    struct member *a = add(r, 1, "alpha"), *b = add(r, 2, "beta"), *m;
    char text[KEY_TEXT_BYTES];
    struct error e;
    assert_int_equal(registry_who(r, "beta", &m, &e), 0);
    assert_ptr_equal(m, b);
    assert_int_equal(registry_who(r, a->fingerprint, &m, &e), 0);
    assert_ptr_equal(m, a);
    keys_text(b->key, text);
    assert_int_equal(registry_who(r, text, &m, &e), 0);
    assert_ptr_equal(m, b);
    assert_int_equal(registry_who(r, "gamma", &m, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "gamma"));
    registry_remove(r, a);
    assert_int_equal(registry_who(r, "alpha", &m, &e), ERR_NOT_FOUND);
    assert_ptr_equal(registry_at(r, 0), b);
    assert_null(registry_at(r, 1));
    memcpy(add(r, 3, "gamma")->fingerprint, b->fingerprint, 9); /* as if their hashes began alike */
    assert_int_equal(registry_who(r, b->fingerprint, &m, &e), ERR_CONFLICT);
    registry_destroy(&r);
}

static void test_registry_tells_a_restart_from_a_new_connection(void **state)
{
    (void)state;
    struct registry *r = registry_create(LEASE_MS, 500);
    struct member *m = add(r, 1, "alpha");
    struct shard_spec spec = {.last = 4};
    enum join_kind kind;
    assert_int_equal(join(r, m, 11, 1, 100, &kind), 0);
    assert_int_equal(kind, JOIN_NEW);
    assert_int_equal(m->session, 500);
    assert_string_equal(m->facts.host, "10.0.0.9"); /* the address seen, as the node named none */
    assert_string_equal(m->facts.device, "cpu?[31m");
    registry_shard_loading(m, 9, &spec, 100);
    assert_int_equal(join(r, m, 11, 2, 200, &kind), 0);
    assert_int_equal(kind, JOIN_AGAIN);
    assert_int_equal(m->session, 500);
    assert_int_equal(m->shard.load, 9);
    assert_int_equal(join(r, m, 12, 3, 300, &kind), 0);
    assert_int_equal(kind, JOIN_RESTART);
    assert_int_equal(m->session, 501);
    assert_int_equal(m->shard.state, SHARD_NONE);
    registry_leave(m, "stopped");
    assert_string_equal(m->trouble, "stopped");
    assert_int_equal(join(r, m, 12, 4, 400, &kind), 0);
    assert_int_equal(kind, JOIN_NEW);
    assert_string_equal(m->trouble, "");
    registry_destroy(&r);
}

static void test_registry_beats_renew_the_lease(void **state)
{
    (void)state;
    struct registry *r = registry_create(LEASE_MS, 1);
    struct member *m = add(r, 1, "alpha"), *quiet = add(r, 2, "beta");
    enum join_kind kind;
    assert_false(beat(m, 1, 0, 0)); /* it has not joined */
    assert_int_equal(join(r, m, 1, 1, 1000, &kind), 0);
    assert_int_equal(join(r, quiet, 1, 2, 1000, &kind), 0);
    assert_true(beat(m, 1, 5000, 100));
    assert_false(beat(m, 7, 5000, 100)); /* a connection that did not join */
    assert_null(registry_lapsed(r, 7000));
    assert_ptr_equal(registry_lapsed(r, 7001), quiet);
    registry_leave(quiet, "silent");
    assert_null(registry_lapsed(r, 11000));
    assert_ptr_equal(registry_lapsed(r, 11001), m);
    registry_heard(m, 11000);
    assert_null(registry_lapsed(r, 11001));
    registry_destroy(&r);
}

static void test_registry_measures_steps_and_mistrusts_numbers(void **state)
{
    (void)state;
    struct registry *r = registry_create(LEASE_MS, 1);
    struct member *m = add(r, 1, "alpha");
    enum join_kind kind;
    assert_int_equal(join(r, m, 1, 1, 0, &kind), 0);
    assert_true(beat(m, 1, 1000, 0));
    for (uint64_t s = 1; s <= 20; s++)
        assert_true(beat(m, 1, 1000 + s * 1000, s * 40));
    assert_true(m->stats.steps_per_second > 39.9 && m->stats.steps_per_second < 40.1);
    assert_true(beat(m, 1, 22000, 5)); /* the count fell: the node began anew */
    assert_true(m->stats.steps_per_second == 0);
    assert_true(m->stats.compute_ms == 0); /* NaN */
    assert_true(m->facts.layer_ms == 0);   /* infinite */
    assert_int_equal(m->stats.resident_bytes, 77);
    registry_destroy(&r);
}

static void test_registry_rests_what_failed(void **state)
{
    (void)state;
    struct registry *r = registry_create(LEASE_MS, 1);
    struct member *a = add(r, 1, "alpha"), *b = add(r, 2, "beta");
    static struct place_node nodes[PLACE_NODES_MAX];
    enum join_kind kind;
    uint64_t next;
    assert_int_equal(registry_candidates(r, 0, nodes, &next), 0);
    assert_int_equal(join(r, b, 1, 1, 0, &kind), 0);
    assert_int_equal(join(r, a, 1, 2, 0, &kind), 0);
    assert_int_equal(registry_candidates(r, 0, nodes, &next), 2);
    assert_int_equal(nodes[0].node, 0); /* in the order of enrolment, not of joining */
    assert_true(next == UINT64_MAX);
    registry_rest(a, ERR_MEMORY, "no memory", 1000);
    assert_int_equal(registry_candidates(r, 2999, nodes, &next), 1);
    assert_int_equal(nodes[0].node, 1);
    assert_int_equal(next, 3000);
    assert_int_equal(a->failed, ERR_MEMORY);
    assert_int_equal(registry_candidates(r, 3000, nodes, &next), 2);
    registry_rest(a, ERR_MEMORY, "no memory", 3000);
    assert_int_equal(a->rest_until_ms, 7000); /* twice as long */
    for (int i = 0; i < 20; i++)
        registry_rest(a, ERR_MEMORY, "no memory", 7000);
    assert_int_equal(a->rest_until_ms, 7000 + REGISTRY_REST_MAX_MS);
    registry_forgive(a);
    registry_rest(a, ERR_MEMORY, "no memory", 7000);
    assert_int_equal(a->rest_until_ms, 7000 + REGISTRY_REST_MS);
    assert_int_equal(join(r, a, 2, 3, 7000, &kind), 0); /* another process: a new chance */
    assert_int_equal(registry_candidates(r, 7000, nodes, &next), 2);
    registry_destroy(&r);
}

static void test_registry_follows_a_load_by_its_number(void **state)
{
    (void)state;
    struct registry *r = registry_create(LEASE_MS, 1);
    struct member *m = add(r, 1, "alpha");
    struct shard_spec spec = {.first = 2, .last = 4};
    enum join_kind kind;
    assert_int_equal(join(r, m, 1, 1, 0, &kind), 0);
    registry_shard_loading(m, 7, &spec, 10);
    Shoal__LoadProgress p = SHOAL__LOAD_PROGRESS__INIT;
    p.load = 6;
    p.phase = (char *)(uintptr_t)"fetch";
    assert_false(registry_shard_progress(m, &p, 20));
    p.load = 7;
    assert_true(registry_shard_progress(m, &p, 20));
    assert_string_equal(m->shard.phase, "fetch");
    assert_int_equal(m->shard.heard_ms, 20);
    Shoal__LoadDone d = SHOAL__LOAD_DONE__INIT;
    d.load = 6;
    assert_false(registry_shard_done(m, &d)); /* of a load that was replaced */
    d.load = 7;
    assert_true(registry_shard_done(m, &d));
    assert_int_equal(m->shard.state, SHARD_LOADED);
    assert_false(registry_shard_done(m, &d)); /* once */
    registry_shard_loading(m, 8, &spec, 30);
    d.load = 8;
    d.status = ERR_MEMORY;
    assert_true(registry_shard_done(m, &d));
    assert_int_equal(m->shard.state, SHARD_NONE);
    registry_destroy(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registry_names_are_unique_and_printable),
        cmocka_unit_test(test_registry_is_bounded),
        cmocka_unit_test(test_registry_finds_by_name_fingerprint_and_key),
        cmocka_unit_test(test_registry_tells_a_restart_from_a_new_connection),
        cmocka_unit_test(test_registry_beats_renew_the_lease),
        cmocka_unit_test(test_registry_measures_steps_and_mistrusts_numbers),
        cmocka_unit_test(test_registry_rests_what_failed),
        cmocka_unit_test(test_registry_follows_a_load_by_its_number),
    };
    return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
