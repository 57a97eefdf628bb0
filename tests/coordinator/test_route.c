/* test_route: from a placement to a route that stands, one action at a time, on a clock that the test turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/route.h"

enum { NODES = 3 };

struct fixture {
    struct registry *registry;
    struct member *m[NODES];
    struct placement placement;
    struct route route;
};

static const struct route_shape shape = {.kv_type = 1, .kv_tokens = 64, .sequences_max = 4, .batch_rows_max = 32};

static int setup(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof(f));
    f.registry = registry_create(6000, 1);
    for (unsigned i = 0; i < NODES; i++) {
        uint8_t key[KEY_BYTES] = {(uint8_t)(i + 1)};
        char name[8];
        snprintf(name, sizeof(name), "n%u", i);
        assert_int_equal(registry_add(f.registry, key, name, &f.m[i], NULL), 0);
        f.m[i]->here = true;
        snprintf(f.m[i]->facts.host, sizeof(f.m[i]->facts.host), "10.0.0.%u", i + 1);
        f.m[i]->facts.port = 7200;
        f.placement.shards[i] = (struct place_shard){i, i * 2, i * 2 + 2};
    }
    f.placement.n = NODES;
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    registry_destroy(&f->registry);
    return 0;
}

static void make(struct fixture *f, uint64_t number)
{
    struct error e;
    if (route_make(&f->route, number, &f->placement, f->registry, &shape, &e) != 0)
        fail_msg("%s", e.text);
}

static void load_all(struct fixture *f)
{
    for (unsigned i = 0; i < NODES; i++) {
        registry_shard_loading(f->m[i], 10 + i, &f->route.stages[i].shard, 0);
        f->m[i]->shard.state = SHARD_LOADED;
    }
}

static void test_route_loads_then_sets_then_stands(void **state)
{
    struct fixture *f = *state;
    uint32_t stage;
    make(f, 5);
    for (unsigned i = 0; i < NODES; i++) { /* every load is asked for at once */
        assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_LOAD);
        assert_int_equal(stage, i);
        registry_shard_loading(f->m[i], 10 + i, &f->route.stages[i].shard, 0);
    }
    assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_WAIT);
    f->m[0]->shard.state = f->m[2]->shard.state = SHARD_LOADED;
    assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_WAIT); /* no stage is set before all are loaded */
    f->m[1]->shard.state = SHARD_LOADED;
    for (unsigned i = NODES; i-- > 0;) {
        assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_SET);
        assert_int_equal(stage, i);
        route_asked(&f->route, i, 0);
    }
    assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_WAIT);
    assert_false(route_ready(&f->route, 4, f->m[0])); /* of another route */
    for (unsigned i = 0; i < NODES; i++) {
        assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_WAIT);
        assert_true(route_ready(&f->route, 5, f->m[i]));
    }
    assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_STANDS);
    route_clear(&f->route);
    assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_WAIT);
    assert_false(route_ready(&f->route, 0, f->m[0]));
    assert_int_equal(route_stage_of(&f->route, f->m[0]), -1);
}

static void test_route_keeps_shards_that_fit(void **state)
{
    struct fixture *f = *state;
    uint32_t stage;
    make(f, 5);
    load_all(f);
    registry_shard_lost(f->m[1]); /* it was restarted */
    make(f, 6);
    assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_LOAD);
    assert_int_equal(stage, 1);
    registry_shard_loading(f->m[1], 20, &f->route.stages[1].shard, 0);
    f->m[1]->shard.state = SHARD_LOADED;
    assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_SET);
    f->m[2]->shard.spec.kv_tokens++; /* the same layers with another KV are another shard */
    assert_int_equal(route_next(&f->route, 0, &stage), ROUTE_LOAD);
    assert_int_equal(stage, 2);
}

static void test_route_has_deadlines(void **state)
{
    struct fixture *f = *state;
    uint32_t stage;
    make(f, 5);
    load_all(f);
    f->m[1]->shard.state = SHARD_LOADING;
    f->m[1]->shard.heard_ms = 1000;
    assert_int_equal(route_next(&f->route, 1000 + ROUTE_LOAD_SILENT_MS, &stage), ROUTE_WAIT);
    assert_int_equal(route_next(&f->route, 1001 + ROUTE_LOAD_SILENT_MS, &stage), ROUTE_LATE);
    assert_int_equal(stage, 1);
    f->m[1]->shard.state = SHARD_LOADED;
    for (uint32_t i = 0; i < NODES; i++)
        route_asked(&f->route, i, 1000);
    assert_true(route_ready(&f->route, 5, f->m[2]));
    assert_true(route_ready(&f->route, 5, f->m[0]));
    assert_int_equal(route_next(&f->route, 1000 + ROUTE_SET_MS, &stage), ROUTE_WAIT);
    assert_int_equal(route_next(&f->route, 1001 + ROUTE_SET_MS, &stage), ROUTE_LATE);
    assert_int_equal(stage, 1);
    route_ask_again(&f->route, f->m[1]); /* its connection was made anew */
    assert_int_equal(route_next(&f->route, 1001 + ROUTE_SET_MS, &stage), ROUTE_SET);
    route_asked(&f->route, 1, 20000);
    assert_true(route_ready(&f->route, 5, f->m[1]));
    route_ask_again(&f->route, f->m[1]); /* a stage that is ready is left alone */
    assert_int_equal(route_next(&f->route, 90000, &stage), ROUTE_STANDS);
}

static void test_route_publishes_its_stages(void **state)
{
    struct fixture *f = *state;
    static struct control_route out;
    make(f, 5);
    route_publish(&f->route, &out);
    assert_int_equal(out.route, 5);
    assert_int_equal(out.n_stages, NODES);
    assert_string_equal(out.stages[1].endpoint, "tcp://10.0.0.2:7200");
    assert_string_equal(out.stages[1].name, "n1");
    assert_memory_equal(out.stages[1].key, f->m[1]->key, KEY_BYTES);
    assert_int_equal(out.stages[1].layer_first, 2);
    assert_int_equal(out.stages[1].layer_last, 4);
}

struct endpoint_case {
    const char *host;
    uint16_t port;
    const char *endpoint; /* NULL: refused */
};

static void test_route_endpoints(void **state)
{
    struct fixture *f = *state;
    static const struct endpoint_case cases[] = {
        {"10.1.2.3", 7200, "tcp://10.1.2.3:7200"},
        {"node-7.example.org", 1, "tcp://node-7.example.org:1"},
        {"fd00::12", 65535, "tcp://[fd00::12]:65535"},
        {"::ffff:10.1.2.3", 7200, "tcp://10.1.2.3:7200"},
        {"::1", 7200, "tcp://[::1]:7200"},
        {"", 7200, NULL},
        {"10.1.2.3", 0, NULL},
        {"*", 7200, NULL},
        {"10.0.0.1:5;10.0.0.2", 7200, NULL},
        {"a b", 7200, NULL},
        {"a/b", 7200, NULL},
    };
    char text[300];
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct node_facts facts = {.port = cases[i].port};
        snprintf(facts.host, sizeof(facts.host), "%s", cases[i].host);
        int r = route_endpoint(&facts, text, NULL);
        assert_int_equal(r, cases[i].endpoint ? 0 : ERR_INVALID);
        if (r == 0)
            assert_string_equal(text, cases[i].endpoint);
    }
    struct error e;
    snprintf(f->m[1]->facts.host, sizeof(f->m[1]->facts.host), "bad host");
    assert_int_equal(route_make(&f->route, 9, &f->placement, f->registry, &shape, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "n1"));
    assert_int_equal(f->route.number, 0);
}

static void test_route_words_tell_how_far_it_is(void **state)
{
    struct fixture *f = *state;
    char text[200];
    make(f, 5);
    route_words(&f->route, text, sizeof(text));
    assert_string_equal(text, "loading: 0 of 3 stages");
    load_all(f);
    f->m[1]->shard.state = SHARD_LOADING;
    f->m[1]->shard.done = 1200000000;
    f->m[1]->shard.total = 4000000000;
    route_words(&f->route, text, sizeof(text));
    assert_string_equal(text, "loading: 2 of 3 stages, 1.20 GB of 4.00 GB");
    f->m[1]->shard.state = SHARD_LOADED;
    route_words(&f->route, text, sizeof(text));
    assert_string_equal(text, "connecting 3 stages");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_route_loads_then_sets_then_stands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_route_keeps_shards_that_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_route_has_deadlines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_route_publishes_its_stages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_route_endpoints, setup, teardown),
        cmocka_unit_test_setup_teardown(test_route_words_tell_how_far_it_is, setup, teardown),
    };
    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
