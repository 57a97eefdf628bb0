/* test_place: shares in proportion, what the ends hold, what is left out, what is missing, and for random clusters
 * that a placement covers the layers exactly, overfills nobody, and is found whenever there is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "coordinator/place.h"

enum { LAYERS_MAX = 96 };

static uint64_t layer_bytes[LAYERS_MAX];

static struct place_model even_model(uint32_t n_layers, uint64_t bytes)
{
    for (uint32_t i = 0; i < n_layers; i++)
        layer_bytes[i] = bytes;
    return (struct place_model){.n_layers = n_layers, .layer_bytes = layer_bytes};
}

/* Nodes of the given memory, numbered from 100, so that an index is not mistaken for a number. */
static size_t make_nodes(struct place_node *nodes, const uint64_t *memory, size_t n)
{
    for (size_t i = 0; i < n; i++)
        nodes[i] = (struct place_node){.node = (uint32_t)(100 + i), .memory_bytes = memory[i]};
    return n;
}

/* Bytes that the shard holds, counted apart from place.c. */
static uint64_t held_bytes(const struct place_model *m, const struct place_shard *s)
{
    uint64_t bytes = m->shared_bytes + m->scratch_bytes;
    for (uint32_t i = s->layer_first; i < s->layer_last; i++)
        bytes += m->layer_bytes[i] + m->kv_bytes_per_layer;
    if (s->layer_first == 0)
        bytes += m->embedding_bytes;
    if (s->layer_last == m->n_layers)
        bytes += m->head_bytes - (s->layer_first == 0 ? m->tied_bytes : 0);
    return bytes;
}

static void assert_sound(const struct place_model *m, const struct place_node *nodes, size_t n,
                         const struct placement *p)
{
    uint32_t next = 0;
    size_t at = 0;
    assert_in_range(p->n, 1, PLACE_STAGES_MAX);
    for (size_t i = 0; i < p->n; i++) {
        const struct place_shard *s = &p->shards[i];
        assert_int_equal(s->layer_first, next);
        assert_true(s->layer_last > s->layer_first);
        next = s->layer_last;
        while (at < n && nodes[at].node != s->node)
            at++; /* never back: the order of the facts is kept, and a node appears once */
        assert_true(at < n);
        assert_true(held_bytes(m, s) <= nodes[at].memory_bytes);
        at++;
    }
    assert_int_equal(next, m->n_layers);
}

/* ---- tables ---- */

struct share_case {
    const char *says;
    uint32_t n_layers;
    uint64_t embedding, head, shared, kv, scratch;
    uint64_t memory[6];   /* 0 ends */
    uint32_t layers[6];   /* of the nodes in order; 0: left out */
};

/* Layers weigh 10 each. */
static const struct share_case share_cases[] = {
    {"one node takes all", 6, 0, 0, 0, 0, 0, {1000}, {6}},
    {"one node, to the byte", 6, 5, 7, 0, 0, 0, {72}, {6}},
    {"equal nodes, equal shares", 6, 0, 0, 0, 0, 0, {100, 100, 100}, {2, 2, 2}},
    {"twice the memory, twice the layers", 12, 0, 0, 0, 0, 0, {200, 400, 600}, {2, 4, 6}},
    {"order is kept, large first", 12, 0, 0, 0, 0, 0, {600, 200, 400}, {6, 2, 4}},
    {"the embedding lessens the first share", 8, 400, 0, 0, 0, 0, {1000, 600}, {4, 4}},
    {"the head lessens the last share", 8, 0, 200, 0, 0, 0, {300, 500}, {4, 4}},
    {"shared and scratch lessen every share", 9, 0, 0, 50, 0, 50, {200, 300}, {3, 6}},
    {"KV counts a layer", 4, 0, 0, 0, 90, 0, {200, 200}, {2, 2}},
    {"a node too small for a layer is left out", 4, 0, 0, 0, 0, 0, {100, 9, 100}, {2, 0, 2}},
    {"a first node too small for the embedding is left out", 4, 50, 0, 0, 0, 0, {55, 100}, {0, 4}},
    {"a last node too small for the head is left out", 4, 0, 50, 0, 0, 0, {100, 55}, {4, 0}},
    {"more nodes than layers: the largest", 2, 0, 0, 0, 0, 0, {30, 90, 20, 80}, {0, 1, 0, 1}},
    {"more nodes than layers: of equals the first", 2, 0, 0, 0, 0, 0, {50, 50, 50}, {1, 1, 0}},
    {"one layer, the embedding and the head together", 1, 5, 5, 0, 0, 0, {19, 20}, {0, 1}},
    {"a share of no layer is no hop", 10, 0, 0, 0, 0, 0, {6400, 100, 6400}, {5, 0, 5}},
    {"a small node is used when it must be", 10, 0, 0, 0, 0, 0, {50, 10, 40}, {5, 1, 4}},
    {"tight: every byte is used", 6, 5, 5, 0, 0, 0, {25, 20, 25}, {2, 2, 2}},
    {"tight where proportion would overfill", 5, 0, 0, 0, 0, 0, {29, 31}, {2, 3}},
};

static void test_place_shares(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(share_cases); i++) {
        const struct share_case *c = &share_cases[i];
        struct place_model m = even_model(c->n_layers, 10);
        m.embedding_bytes = c->embedding;
        m.head_bytes = c->head;
        m.shared_bytes = c->shared;
        m.kv_bytes_per_layer = c->kv;
        m.scratch_bytes = c->scratch;
        struct place_node nodes[6];
        struct placement p;
        struct error e = {0};
        size_t n = 0, at = 0;
        while (n < 6 && c->memory[n])
            n++;
        make_nodes(nodes, c->memory, n);
        if (place(&m, nodes, n, &p, &e) != 0)
            fail_msg("%s: %s", c->says, e.text);
        for (size_t k = 0; k < n; k++) {
            bool here = at < p.n && p.shards[at].node == nodes[k].node;
            uint32_t got = here ? p.shards[at].layer_last - p.shards[at].layer_first : 0;
            if (got != c->layers[k])
                fail_msg("%s: node %zu has %u layers, not %u", c->says, k, got, c->layers[k]);
            at += here;
        }
        assert_sound(&m, nodes, n, &p);
    }
}

static void test_place_counts_a_tied_head_once(void **state)
{
    (void)state;
    struct place_model m = even_model(4, 10);
    m.embedding_bytes = 30;
    m.head_bytes = 32;
    m.tied_bytes = 30;
    struct place_node one = {.node = 1, .memory_bytes = 72};
    struct placement p;
    assert_int_equal(place(&m, &one, 1, &p, NULL), 0);
    one.memory_bytes = 71;
    assert_int_equal(place(&m, &one, 1, &p, NULL), ERR_MEMORY);
    struct place_node two[2] = {{.node = 1, .memory_bytes = 50}, {.node = 2, .memory_bytes = 52}};
    assert_int_equal(place(&m, two, 2, &p, NULL), 0); /* apart, each holds its own */
    two[1].memory_bytes = 51;
    assert_int_equal(place(&m, two, 2, &p, NULL), ERR_MEMORY);
}

static void test_place_of_uneven_layers(void **state)
{
    (void)state;
    /* Three dense layers first, as in real mixtures of experts; the shares follow bytes, not counts. */
    struct place_model m = even_model(8, 100);
    layer_bytes[0] = layer_bytes[1] = layer_bytes[2] = 20;
    struct place_node nodes[2];
    struct placement p;
    make_nodes(nodes, (uint64_t[]){1000, 1000}, 2);
    assert_int_equal(place(&m, nodes, 2, &p, NULL), 0);
    assert_int_equal(p.n, 2);
    assert_int_equal(p.shards[0].layer_last, 5); /* 260 and 300 */
    assert_sound(&m, nodes, 2, &p);
}

static void test_place_keeps_joined_layers_together(void **state)
{
    (void)state;
    static const bool joined[8] = {false, false, true, true, true, true, false, true};
    struct place_model m = even_model(8, 10);
    struct place_node nodes[3];
    struct placement p;
    make_nodes(nodes, (uint64_t[]){100, 100, 100}, 3);
    m.joined = joined;
    assert_int_equal(place(&m, nodes, 3, &p, NULL), 0); /* 1, 5 and 2 layers where it would be 3, 2 and 3 */
    assert_int_equal(p.n, 3);
    assert_int_equal(p.shards[1].layer_first, 1);
    assert_int_equal(p.shards[2].layer_first, 6);
    assert_sound(&m, nodes, 3, &p);
    make_nodes(nodes, (uint64_t[]){49, 49, 49}, 3);
    struct error e = {0};
    assert_int_equal(place(&m, nodes, 3, &p, &e), ERR_MEMORY); /* nobody holds the five */
    assert_int_equal(p.missing_bytes, 70);
    assert_non_null(strstr(e.text, "layers 1-7 of 8"));
    make_nodes(nodes, (uint64_t[]){10, 50, 20}, 3);
    assert_int_equal(place(&m, nodes, 3, &p, NULL), 0);
    assert_int_equal(p.shards[1].layer_first, 1);
    assert_int_equal(p.shards[2].layer_first, 6);
}

/* ---- refusals ---- */

static void test_place_says_what_is_missing(void **state)
{
    (void)state;
    struct place_model m = even_model(10, 1000000);
    m.head_bytes = 500000;
    m.scratch_bytes = 100000;
    struct place_node nodes[3];
    struct placement p;
    struct error e = {0};
    make_nodes(nodes, (uint64_t[]){3100000, 4100000, 0}, 2);
    assert_int_equal(place(&m, nodes, 2, &p, &e), ERR_MEMORY);
    assert_int_equal(p.n, 0);
    assert_int_equal(p.missing_bytes, 3600000); /* three layers, the head, the scratch of one more stage */
    assert_non_null(strstr(e.text, "3.60 MB"));
    nodes[2] = (struct place_node){.node = 7, .memory_bytes = p.missing_bytes};
    assert_int_equal(place(&m, nodes, 3, &p, &e), 0);
    assert_sound(&m, nodes, 3, &p);
    nodes[2].memory_bytes--;
    nodes[2].memory_bytes = 3599999;
    assert_int_equal(place(&m, nodes, 3, &p, &e), ERR_MEMORY);
}

static void test_place_refuses_nonsense(void **state)
{
    (void)state;
    static struct place_node many[PLACE_NODES_MAX + 1];
    struct placement p;
    struct place_model m = even_model(4, 10);
    assert_int_equal(place(&m, many, 0, &p, NULL), ERR_MEMORY);
    assert_int_equal(p.missing_bytes, 40);
    assert_int_equal(place(&m, many, PLACE_NODES_MAX + 1, &p, NULL), ERR_INVALID);
    m.tied_bytes = 1;
    assert_int_equal(place(&m, many, 1, &p, NULL), ERR_INVALID);
    m = even_model(0, 10);
    assert_int_equal(place(&m, many, 1, &p, NULL), ERR_INVALID);
}

static void test_place_does_not_overflow(void **state)
{
    (void)state;
    struct place_model m = even_model(4, UINT64_MAX / 2);
    m.kv_bytes_per_layer = UINT64_MAX / 2;
    m.head_bytes = UINT64_MAX;
    struct place_node nodes[2];
    struct placement p;
    make_nodes(nodes, (uint64_t[]){UINT64_MAX - 1, UINT64_MAX - 1}, 2);
    assert_int_equal(place(&m, nodes, 2, &p, NULL), ERR_MEMORY);
    m = even_model(4, 10);
    assert_int_equal(place(&m, nodes, 2, &p, NULL), 0); /* a node that boasts */
    assert_sound(&m, nodes, 2, &p);
}

/* ---- properties ---- */

/* Whether any contiguous placement in this order exists: by trying all, from the front. */
static bool exists(const struct place_model *m, const struct place_node *nodes, size_t n, uint32_t first)
{
    if (first == m->n_layers)
        return true;
    if (n == 0)
        return false;
    for (uint32_t last = first; last <= m->n_layers; last++) {
        struct place_shard s = {nodes[0].node, first, last};
        if (last > first && held_bytes(m, &s) > nodes[0].memory_bytes)
            continue;
        if (exists(m, nodes + 1, n - 1, last))
            return true;
    }
    return false;
}

static uint32_t below(struct random_state *r, uint32_t n)
{
    return (uint32_t)(random_u64(r) % n);
}

static void test_place_finds_one_whenever_there_is_one(void **state)
{
    (void)state;
    struct random_state r;
    random_seed(&r, 2026);
    size_t found = 0, none = 0;
    for (int round = 0; round < 4000; round++) {
        struct place_model m = even_model(1 + below(&r, 8), 0);
        for (uint32_t i = 0; i < m.n_layers; i++)
            layer_bytes[i] = 5 + below(&r, 20);
        m.embedding_bytes = below(&r, 30);
        m.head_bytes = below(&r, 30);
        m.tied_bytes = below(&r, 2) ? m.head_bytes / 2 : 0;
        m.shared_bytes = below(&r, 4);
        m.scratch_bytes = below(&r, 4);
        m.kv_bytes_per_layer = below(&r, 8);
        struct place_node nodes[5];
        size_t n = 1 + below(&r, 5);
        uint64_t memory[5];
        for (size_t i = 0; i < n; i++)
            memory[i] = below(&r, 90);
        make_nodes(nodes, memory, n);
        struct placement p;
        int got = place(&m, nodes, n, &p, NULL);
        assert_int_equal(got, exists(&m, nodes, n, 0) ? 0 : ERR_MEMORY);
        if (got == 0)
            assert_sound(&m, nodes, n, &p);
        found += got == 0;
        none += got != 0;
    }
    assert_true(found > 500 && none > 500); /* the cases try both answers */
}

static void test_place_of_many_nodes(void **state)
{
    (void)state;
    static struct place_node nodes[PLACE_NODES_MAX];
    struct random_state r;
    random_seed(&r, 7);
    for (int round = 0; round < 50; round++) {
        struct place_model m = even_model(1 + below(&r, LAYERS_MAX), 1000);
        m.embedding_bytes = 3000;
        m.head_bytes = 3000;
        for (size_t i = 0; i < PLACE_NODES_MAX; i++)
            nodes[i] = (struct place_node){.node = (uint32_t)i, .memory_bytes = 4000 + below(&r, 20000)};
        struct placement p;
        assert_int_equal(place(&m, nodes, PLACE_NODES_MAX, &p, NULL), 0);
        assert_sound(&m, nodes, PLACE_NODES_MAX, &p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place_shares),
        cmocka_unit_test(test_place_counts_a_tied_head_once),
        cmocka_unit_test(test_place_of_uneven_layers),
        cmocka_unit_test(test_place_keeps_joined_layers_together),
        cmocka_unit_test(test_place_says_what_is_missing),
        cmocka_unit_test(test_place_refuses_nonsense),
        cmocka_unit_test(test_place_does_not_overflow),
        cmocka_unit_test(test_place_finds_one_whenever_there_is_one),
        cmocka_unit_test(test_place_of_many_nodes),
    };
    return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
