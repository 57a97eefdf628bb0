/* test_control: a real control half on loopback, with nodes that the test drives by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <ftw.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "coordinator/control.h"
#include "fake_node.h"
#include "net/blob.h"
#include "proto/frame.h"
#include "tests/shard/splits.h"

enum { NODES = 3, LAYERS = 6, GB = 1 << 30 };
static const char model_path[] = "tests/data/shoal-demo-q8_0.gguf";

struct fixture {
    char dir[64], state[80], cache[80];
    struct control_options o;
    struct control *control;
    void *zmq;
    struct fake_node nodes[NODES];
};

static struct fixture f;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    snprintf(f.dir, sizeof(f.dir), "/tmp/shoal-control-XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    snprintf(f.state, sizeof(f.state), "%s/state", f.dir);
    snprintf(f.cache, sizeof(f.cache), "%s/cache", f.dir);
    assert_int_equal(keys_init(NULL), 0);
    f.o = (struct control_options){.model_path = model_path, .state_dir = f.state, .cache_dir = f.cache,
                                   .listen_host = "127.0.0.1", .context = 256, .lease_ms = 30000};
    f.zmq = link_context(1);
    for (size_t i = 0; i < NODES; i++)
        fake_init(&f.nodes[i], (uint16_t)(7201 + i), GB);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < NODES; i++)
        fake_close(&f.nodes[i]);
    control_stop(&f.control);
    link_context_destroy(&f.zmq);
    return nftw(f.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void start(void)
{
    struct error e;
    if (control_start(&f.control, &f.o, &e) != 0)
        fail_msg("%s", e.text);
}

static char *invite(uint32_t uses)
{
    char *line;
    struct error e;
    if (control_invite(f.control, uses, 600, NULL, &line, &e) != 0)
        fail_msg("%s", e.text);
    return line;
}

static void add_node(size_t i, const char *name)
{
    char *line = invite(1);
    fake_become_member(&f.nodes[i], f.zmq, line, name);
    mem_free(line);
}

/* Waits until the published route is in the state (and its text has the words, when given). */
static void wait_state(enum control_state state, const char *words, struct control_route *out)
{
    uint64_t until = clock_ms() + FAKE_WAIT_MS;
    do {
        control_route(f.control, out);
        if (out->state == state && (!words || strstr(out->text, words)))
            return;
        clock_sleep_ms(5);
    } while (clock_ms() < until);
    fail_msg("the state stays %d (%s)", (int)out->state, out->text);
}

static struct control_route route; /* large */

/* Loads and sets n nodes that are placed in order; returns when the route is ready. */
static void serve_with(size_t n)
{
    char next[300], want[300];
    uint32_t at = 0;
    uint64_t number = 0;
    for (size_t i = 0; i < n; i++) {
        struct fake_load l = fake_load(&f.nodes[i]);
        assert_int_equal(l.first, at);
        assert_int_equal(l.embedding, i == 0);
        assert_int_equal(l.head, i + 1 == n);
        at = l.last;
    }
    assert_int_equal(at, LAYERS);
    for (size_t i = 0; i < n; i++) {
        uint64_t r = fake_set(&f.nodes[i], next);
        assert_true(number == 0 || r == number);
        number = r;
        if (i + 1 < n)
            snprintf(want, sizeof(want), "tcp://127.0.0.1:%u", f.nodes[i + 1].data_port);
        assert_string_equal(next, i + 1 < n ? want : "");
    }
    wait_state(CONTROL_READY, NULL, &route);
    assert_int_equal(route.route, number);
    assert_int_equal(route.n_stages, n);
}

static json_t *status(void)
{
    char *text = control_status_json(f.control);
    json_error_t why;
    json_t *o = json_loads(text, 0, &why);
    if (!o)
        fail_msg("%s in %s", why.text, text);
    mem_free(text);
    return o;
}

static const char *member_text(const json_t *o, size_t i, const char *field)
{
    return json_string_value(json_object_get(json_array_get(json_object_get(o, "members"), i), field));
}

/* ---- the way to a route ---- */

static void test_control_serves_with_one_node(void **state)
{
    (void)state;
    start();
    uint64_t version = control_version(f.control);
    wait_state(CONTROL_WAITING, "no node has joined", &route);
    assert_int_equal(route.route, 0);
    add_node(0, "alpha");
    wait_state(CONTROL_LOADING, "loading", &route);
    serve_with(1);
    assert_true(control_version(f.control) != version);
    assert_string_equal(route.stages[0].name, "alpha");
    assert_string_equal(route.stages[0].endpoint, "tcp://127.0.0.1:7201");
    assert_memory_equal(route.stages[0].key, f.nodes[0].keys.public_key, KEY_BYTES);
    assert_int_equal(route.stages[0].layer_last, LAYERS);
    assert_int_equal(route.context, 256);
    assert_int_equal(route.kv_tokens, 1024);
    assert_int_equal(route.sequences_max, 16);
    assert_int_equal(route.batch_rows_max, 512);
    assert_int_equal(route.dtype, FRAME_F32);
    assert_string_equal(control_model_name(f.control), "shoal-demo-q8_0");
    version = control_version(f.control);
    clock_sleep_ms(200);
    assert_true(control_version(f.control) == version); /* nothing happens, nothing changes */
}

static void test_control_waits_for_nodes_min_and_chains_stages(void **state)
{
    (void)state;
    f.o.nodes_min = NODES;
    start();
    add_node(0, "a");
    add_node(1, "b");
    wait_state(CONTROL_WAITING, "2 of 3", &route);
    assert_null(fake_take(&f.nodes[0], SHOAL__CONTROL__BODY_LOAD, 300));
    add_node(2, "c");
    serve_with(NODES);
    assert_int_equal(route.stages[0].layer_last, 2);
    assert_int_equal(route.stages[1].layer_last, 4);
    struct control_stage_times t = {.compute_us = 12.5, .link_us = 3};
    control_report_times(f.control, route.route, 1, &t);
    control_report_times(f.control, route.route, 99, &t); /* no such stage */
    json_t *o = status();
    const json_t *stages = json_object_get(json_object_get(o, "route"), "stages");
    assert_int_equal(json_array_size(stages), NODES);
    assert_true(json_real_value(json_object_get(json_array_get(stages, 1), "compute_us")) == 12.5);
    assert_string_equal(json_string_value(json_object_get(o, "state")), "ready");
    assert_string_equal(member_text(o, 2, "name"), "c");
    assert_string_equal(member_text(o, 2, "state"), "serving");
    json_decref(o);
}

static void test_control_fits_the_kv_to_the_memory(void **state)
{
    (void)state;
    struct model *m;
    assert_int_equal(model_open(&m, model_path, NULL), 0);
    struct layer_range all = {0, LAYERS, true, true}, end = {0, LAYERS, false, true};
    f.o.context = 0;
    f.nodes[0].memory = model_range_bytes(m, &all) + model_scratch_bytes(m, &end, 512, 0) +
                        model_kv_bytes_per_token(m, LAYERS, KV_F16) * 1000;
    model_close(&m);
    start();
    wait_state(CONTROL_WAITING, NULL, &route);
    uint32_t wished = route.context;
    add_node(0, "small");
    serve_with(1);
    assert_in_range(route.kv_tokens, 501, 1000); /* four contexts, halved until it fits */
    assert_true(wished > 1000 && route.context == route.kv_tokens);
    json_t *o = status();
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "model"), "checksums")), "done");
    json_decref(o);
}

static void test_control_says_how_much_memory_is_missing(void **state)
{
    (void)state;
    f.nodes[0].memory = 1 << 20;
    start();
    add_node(0, "tiny");
    wait_state(CONTROL_WAITING, "not enough memory", &route);
    assert_int_equal(route.waits, ERR_MEMORY);
    add_node(1, "big");
    struct fake_load l = fake_load(&f.nodes[1]); /* enough with the second, which alone can hold a layer */
    assert_int_equal(l.last - l.first, LAYERS);
}

static void test_control_needs_no_manifest_when_local(void **state)
{
    (void)state;
    static const uint8_t zeros[32];
    f.o.trusted_local = true;
    start();
    add_node(0, "local");
    struct fake_load l = fake_load(&f.nodes[0]);
    assert_memory_equal(l.model_id, zeros, sizeof(zeros));
    json_t *o = status();
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "model"), "checksums")), "none");
    json_decref(o);
}

static void test_control_gives_the_file_to_members(void **state)
{
    (void)state;
    start();
    add_node(0, "alpha");
    struct fake_load l = fake_load(&f.nodes[0]);
    char endpoint[64];
    struct link *link;
    struct link_options lo = {.keys = &f.nodes[0].keys, .bytes_max = BLOB_BYTES_MAX, .queue_max = BLOB_WINDOW * 2};
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", f.nodes[0].blob_port);
    assert_int_equal(link_dial(&link, f.zmq, endpoint, f.nodes[0].invite.coordinator_key, &lo, NULL), 0);
    struct manifest m;
    struct error e;
    if (blob_fetch_manifest(&m, link, l.model_id, NULL, NULL, &e) != 0)
        fail_msg("%s", e.text);
    struct stat st;
    assert_int_equal(stat(model_path, &st), 0);
    assert_int_equal(m.bytes, st.st_size);
    char mine[96];
    snprintf(mine, sizeof(mine), "%s/mine", f.dir);
    struct blob *blob;
    struct file_set_range range = {m.head_bytes + MANIFEST_CHUNK_BYTES * 3 + 7, 10};
    uint64_t total, missing;
    assert_int_equal(blob_open(&blob, mine, &m, NULL), 0);
    if (blob_fetch(blob, link, &range, 1, NULL, NULL, &e) != 0)
        fail_msg("%s", e.text);
    blob_count(blob, &range, 1, &total, &missing);
    assert_int_equal(missing, 0);
    assert_true(blob_has(blob, m.first_chunks[1] + 3));
    blob_close(&blob);
    manifest_free(&m);
    link_close(&link);
}

static void test_control_takes_a_split_model_whole_or_not_at_all(void **state)
{
    (void)state;
    char prefix[80];
    struct error e = {0};
    snprintf(prefix, sizeof(prefix), "%s/parted", f.dir);
    splits_write(model_path, prefix, &(struct splits_options){.n = 3, .file_of = splits_by_layer});
    f.o.model_path = splits_path(prefix, 1, 3); /* any of them */
    start();
    assert_string_equal(control_model_name(f.control), "parted");
    add_node(0, "a");
    struct fake_load l = fake_load(&f.nodes[0]);
    assert_int_equal(l.file_bytes, file_set_bytes(model_files(control_model(f.control))));
    assert_int_equal(l.header_bytes, file_set_head_bytes(model_files(control_model(f.control))));
    control_stop(&f.control);
    assert_int_equal(unlink(splits_path(prefix, 2, 3)), 0);
    assert_int_equal(control_start(&f.control, &f.o, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, splits_path(prefix, 2, 3)));
    assert_non_null(strstr(e.text, "all 3 files"));
}

/* ---- nodes that go ---- */

static void test_control_places_anew_when_a_node_leaves(void **state)
{
    (void)state;
    f.o.nodes_min = NODES;
    start();
    add_node(0, "a");
    add_node(1, "b");
    add_node(2, "c");
    serve_with(NODES);
    uint64_t old = route.route;
    fake_leave(&f.nodes[2]);
    Shoal__Control *end = fake_expect(&f.nodes[0], SHOAL__CONTROL__BODY_END_ROUTE);
    assert_int_equal(end->end_route->route, old);
    control_free(&end);
    serve_with(2);
    assert_true(route.route > old);
}

/* Memory of which each node needs all but half a layer for its two of six: no two of them suffice. */
static void set_tight_memory(void)
{
    struct model *m;
    assert_int_equal(model_open(&m, model_path, NULL), 0);
    assert_int_equal(model_hparams(m)->n_layers, LAYERS);
    f.o.batch_rows_max = 16;
    f.o.kv_tokens = 256;
    f.o.kv_type = "f16";
    uint64_t kv = model_kv_bytes_per_token(m, 2, KV_F16) * f.o.kv_tokens, slack = model_layer_bytes(m, 0) / 2;
    for (uint32_t i = 0; i < NODES; i++) {
        struct layer_range own = {i * 2, i * 2 + 2, i == 0, i == 2}, like = {0, LAYERS, i != 2, i == 2};
        f.nodes[i].memory = model_range_bytes(m, &own) + kv + slack +
                            model_scratch_bytes(m, &like, f.o.batch_rows_max, 0);
    }
    model_close(&m);
}

static void test_control_keeps_shards_for_a_node_that_comes_back(void **state)
{
    (void)state;
    set_tight_memory();
    start();
    for (size_t i = 0; i < NODES; i++)
        add_node(i, "n");
    serve_with(NODES);
    fake_leave(&f.nodes[1]);
    wait_state(CONTROL_WAITING, "not enough memory", &route);
    f.nodes[1].boot++;
    assert_int_equal(fake_dial(&f.nodes[1], f.zmq), 0);
    fake_join(&f.nodes[1]);
    struct fake_load l = fake_load(&f.nodes[1]);
    assert_true(l.first > 0 && l.last < LAYERS);
    char next[300];
    for (size_t i = 0; i < NODES; i++) /* the others are set, and load nothing */
        (void)fake_set(&f.nodes[i], next);
    wait_state(CONTROL_READY, NULL, &route);
}

static void test_control_spreads_again_once_idle(void **state)
{
    (void)state;
    f.o.nodes_min = 2;
    start();
    add_node(0, "a");
    add_node(1, "b");
    serve_with(2);
    fake_leave(&f.nodes[1]);
    serve_with(1);
    f.nodes[1].boot++;
    fake_join(&f.nodes[1]);
    fake_beat_with(&f.nodes[0], 3); /* it has sequences */
    Shoal__Control *c = fake_take(&f.nodes[1], SHOAL__CONTROL__BODY_LOAD, 4000);
    assert_null(c);
    fake_beat_with(&f.nodes[0], 0);
    serve_with(2);
}

static void test_control_ends_the_session_when_the_lease_lapses(void **state)
{
    (void)state;
    f.o.lease_ms = 1500;
    start();
    add_node(0, "alpha");
    uint64_t until = clock_ms() + 3500;
    struct fake_load l = fake_load(&f.nodes[0]);
    assert_int_equal(l.last, LAYERS);
    while (clock_ms() < until) { /* more than two leases: beats keep it */
        fake_beat(&f.nodes[0]);
        clock_sleep_ms(50);
    }
    json_t *o = status();
    assert_string_not_equal(member_text(o, 0, "state"), "away");
    json_decref(o);
    wait_state(CONTROL_WAITING, "was silent", &route);
    fake_beat(&f.nodes[0]);
    Shoal__Control *c = fake_expect(&f.nodes[0], SHOAL__CONTROL__BODY_REFUSED);
    assert_int_equal(c->refused->status, ERR_UNAVAILABLE); /* which tells the node to join again */
    control_free(&c);
    fake_join(&f.nodes[0]);
    c = fake_expect(&f.nodes[0], SHOAL__CONTROL__BODY_WELCOME);
    control_free(&c);
}

static void test_control_takes_the_newer_of_two_with_one_key(void **state)
{
    (void)state;
    start();
    add_node(0, "alpha");
    struct fake_node twin = f.nodes[0];
    twin.link = NULL;
    twin.boot++;
    assert_int_equal(fake_dial(&twin, f.zmq), 0);
    fake_join(&twin);
    Shoal__Control *c = fake_expect(&twin, SHOAL__CONTROL__BODY_WELCOME);
    control_free(&c);
    c = fake_expect(&f.nodes[0], SHOAL__CONTROL__BODY_REFUSED);
    assert_int_equal(c->refused->status, ERR_CONFLICT); /* which ends the older */
    control_free(&c);
    fake_beat(&f.nodes[0]);
    c = fake_expect(&f.nodes[0], SHOAL__CONTROL__BODY_REFUSED);
    control_free(&c);
    struct fake_load l = fake_load(&twin);
    assert_int_equal(l.last, LAYERS);
    fake_close(&twin);
}

static void test_control_loads_elsewhere_when_a_load_fails(void **state)
{
    (void)state;
    f.o.nodes_min = 2;
    start();
    add_node(0, "weak");
    add_node(1, "strong");
    Shoal__Control *c = fake_expect(&f.nodes[0], SHOAL__CONTROL__BODY_LOAD);
    fake_load_done(&f.nodes[0], c->load->load, ERR_MEMORY, "no memory for the KV cache");
    control_free(&c);
    c = fake_expect(&f.nodes[1], SHOAL__CONTROL__BODY_LOAD); /* its half of the first placement */
    assert_int_equal(c->load->layer_first, 3);
    control_free(&c);
    struct fake_load l = fake_load(&f.nodes[1]);
    assert_int_equal(l.first, 0);
    assert_int_equal(l.last, LAYERS);
    char next[300];
    (void)fake_set(&f.nodes[1], next);
    wait_state(CONTROL_READY, NULL, &route);
    json_t *o = status();
    assert_non_null(strstr(member_text(o, 0, "trouble"), "no memory for the KV cache"));
    json_decref(o);
}

static void test_control_tries_again_after_a_rest(void **state)
{
    (void)state;
    start();
    add_node(0, "alpha");
    Shoal__Control *c = fake_expect(&f.nodes[0], SHOAL__CONTROL__BODY_LOAD);
    fake_load_done(&f.nodes[0], c->load->load, ERR_IO, "disk on fire");
    control_free(&c);
    wait_state(CONTROL_WAITING, "disk on fire", &route);
    assert_int_equal(route.waits, ERR_IO);
    serve_with(1);
    assert_int_equal(route.waits, 0);
    control_stage_failed(f.control, route.route, 0, "its steps time out");
    wait_state(CONTROL_WAITING, "time out", &route);
    assert_int_equal(route.waits, 0); /* that may pass */
}

static void test_control_believes_the_gateway_about_a_stage(void **state)
{
    (void)state;
    f.o.nodes_min = 2;
    start();
    add_node(0, "a");
    add_node(1, "b");
    serve_with(2);
    uint64_t old = route.route;
    control_stage_failed(f.control, old - 1, 1, "of another route");
    control_stage_failed(f.control, old, 7, "of no stage");
    control_route(f.control, &route);
    assert_int_equal(route.state, CONTROL_READY);
    control_stage_failed(f.control, old, 1, "its steps time out");
    control_route(f.control, &route);
    assert_int_not_equal(route.state, CONTROL_READY); /* at once: who asked sees it */
    serve_with(1);
    fake_beat(&f.nodes[1]);
    Shoal__Control *c = fake_expect(&f.nodes[1], SHOAL__CONTROL__BODY_REFUSED);
    assert_int_equal(c->refused->status, ERR_UNAVAILABLE);
    control_free(&c);
}

/* ---- who may be here ---- */

static void test_control_enrols_once(void **state)
{
    (void)state;
    start();
    char *line = invite(2);
    assert_int_equal(fake_enrol(&f.nodes[0], f.zmq, line, "alpha", true), ERR_DENIED);
    assert_string_equal(f.nodes[0].enrol_text, "it is not valid, used up or expired");
    assert_int_equal(fake_enrol(&f.nodes[0], f.zmq, line, "alpha", false), 0);
    assert_int_equal(f.nodes[0].roster_n, 2);
    uint64_t serial = f.nodes[0].roster_serial;
    assert_int_equal(fake_enrol(&f.nodes[0], f.zmq, line, "alpha", false), 0); /* a member: no use is taken */
    assert_int_equal(f.nodes[0].roster_serial, serial);
    assert_int_equal(fake_enrol(&f.nodes[1], f.zmq, line, "alpha", false), 0);
    assert_int_equal(f.nodes[1].roster_serial, serial + 1);
    assert_int_equal(f.nodes[1].roster_n, 3);
    /* Now it is used up, and with it the gate closes; another one opens it, for that one only. */
    assert_int_equal(fake_enrol(&f.nodes[2], f.zmq, line, "late", false), ERR_DENIED);
    assert_string_equal(f.nodes[2].enrol_text, "");
    char *other = invite(1);
    assert_int_equal(fake_enrol(&f.nodes[2], f.zmq, line, "late", false), ERR_DENIED);
    assert_string_equal(f.nodes[2].enrol_text, "it is not valid, used up or expired");
    json_t *o = status();
    assert_string_equal(member_text(o, 0, "name"), "alpha");
    assert_string_equal(member_text(o, 1, "name"), "alpha-2");
    assert_int_equal(json_array_size(json_object_get(o, "members")), 2);
    assert_true(json_integer_value(json_object_get(o, "connections_refused")) > 0);
    json_decref(o);
    mem_free(line);
    mem_free(other);
}

static void test_control_bounds_what_an_invite_may_say(void **state)
{
    (void)state;
    char *line;
    char host[400];
    memset(host, 'h', sizeof(host) - 1);
    host[sizeof(host) - 1] = 0;
    start();
    assert_int_equal(control_invite(f.control, 0, 60, NULL, &line, NULL), ERR_INVALID);
    assert_int_equal(control_invite(f.control, 1, 60, host, &line, NULL), ERR_INVALID);
    assert_null(line);
    struct invite i;
    assert_int_equal(control_invite(f.control, 1, 60, "cluster.example.org", &line, NULL), 0);
    assert_int_equal(invite_parse(&i, line, NULL), 0);
    assert_string_equal(i.host, "cluster.example.org");
    assert_memory_equal(i.coordinator_key, control_keys(f.control)->public_key, KEY_BYTES);
    mem_free(line);
}

static void test_control_refuses_strangers(void **state)
{
    (void)state;
    start();
    char *line = invite(1);
    add_node(0, "alpha");
    struct fake_node *stranger = &f.nodes[1];
    assert_int_equal(invite_parse(&stranger->invite, line, NULL), 0);
    stranger->control_port = f.nodes[0].control_port;
    uint64_t t = clock_ms();
    assert_int_equal(fake_dial(stranger, f.zmq), ERR_DENIED);
    stranger->control_port = f.nodes[0].blob_port;
    assert_int_equal(fake_dial(stranger, f.zmq), ERR_DENIED);
    assert_true(clock_ms() - t < 2 * FAKE_WAIT_MS);
    mem_free(line);
}

static void test_control_tells_members_of_members(void **state)
{
    (void)state;
    start();
    add_node(0, "a");
    uint64_t serial = f.nodes[0].roster_serial;
    assert_int_equal(f.nodes[0].roster_n, 2);
    add_node(1, "b");
    Shoal__Control *c = fake_expect(&f.nodes[0], SHOAL__CONTROL__BODY_ROSTER);
    control_free(&c);
    assert_true(f.nodes[0].roster_serial > serial);
    assert_int_equal(f.nodes[0].roster_n, 3);
}

static void test_control_revokes(void **state)
{
    (void)state;
    f.o.nodes_min = 2;
    start();
    add_node(0, "a");
    add_node(1, "b");
    serve_with(2);
    struct error e;
    assert_int_equal(control_revoke(f.control, "nobody", &e), ERR_NOT_FOUND);
    char *line = invite(1);
    uint64_t serial = f.nodes[0].roster_serial;
    assert_int_equal(control_revoke(f.control, "b", &e), 0);
    control_route(f.control, &route);
    assert_int_not_equal(route.state, CONTROL_READY);
    while (f.nodes[0].roster_n != 2) {
        Shoal__Control *c = fake_expect(&f.nodes[0], SHOAL__CONTROL__BODY_ROSTER);
        control_free(&c);
    }
    assert_true(f.nodes[0].roster_serial > serial);
    uint64_t until = clock_ms() + FAKE_WAIT_MS; /* its connection is cut, and it is not let in again */
    while (!link_refused(f.nodes[1].link) && clock_ms() < until) {
        link_watch(f.nodes[1].link);
        clock_sleep_ms(5);
    }
    assert_true(link_refused(f.nodes[1].link));
    assert_int_equal(fake_enrol(&f.nodes[1], f.zmq, line, "b", false), ERR_DENIED); /* not even with a new invite */
    assert_string_equal(f.nodes[1].enrol_text, "it is not valid, used up or expired");
    serve_with(1);
    mem_free(line);
}

static void test_control_remembers_over_a_restart(void **state)
{
    (void)state;
    start();
    char *line = invite(2);
    add_node(0, "alpha");
    serve_with(1);
    uint64_t number = route.route, serial = f.nodes[0].roster_serial;
    uint8_t key[KEY_BYTES];
    memcpy(key, control_keys(f.control)->public_key, KEY_BYTES);
    struct control *second;
    struct error e;
    assert_int_equal(control_start(&second, &f.o, &e), ERR_CONFLICT);
    assert_null(second);
    fake_close(&f.nodes[0]);
    f.o.control_port = f.nodes[0].control_port;
    control_stop(&f.control);
    clock_sleep_ms(1000); /* numbers rise by the second */
    start();
    assert_memory_equal(control_keys(f.control)->public_key, key, KEY_BYTES);
    assert_int_equal(fake_dial(&f.nodes[0], f.zmq), 0);
    fake_join(&f.nodes[0]);
    Shoal__Control *c = fake_expect(&f.nodes[0], SHOAL__CONTROL__BODY_WELCOME);
    control_free(&c);
    assert_int_equal(f.nodes[0].roster_serial, serial);
    serve_with(1);
    assert_true(route.route > number);
    f.nodes[1].invite.port = 0;
    struct invite kept;
    assert_int_equal(invite_parse(&kept, line, NULL), 0);
    json_t *o = status(); /* the invite of before is still open, though the port is a new one */
    assert_int_equal(json_integer_value(json_object_get(o, "invites")), 1);
    assert_string_equal(member_text(o, 0, "name"), "alpha");
    json_decref(o);
    mem_free(line);
}

/* ---- bad input ---- */

static void test_control_stands_bad_messages(void **state)
{
    (void)state;
    static const uint8_t junk[] = {0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, 2, 3};
    start();
    add_node(0, "alpha");
    serve_with(1);
    for (int i = 0; i < 40; i++)
        assert_int_equal(link_send(f.nodes[0].link, NULL, junk, sizeof(junk) - (size_t)i % 9, NULL), 0);
    fake_load_done(&f.nodes[0], 12345, 0, "");
    fake_load_done(&f.nodes[0], 12345, ERR_IO, "of no load");
    fake_route_ready(&f.nodes[0], 999, ERR_IO);
    Shoal__Welcome welcome = SHOAL__WELCOME__INIT;
    fake_send(&f.nodes[0], SHOAL__CONTROL__BODY_WELCOME, &welcome); /* what only a coordinator sends */
    fake_beat(&f.nodes[0]);
    assert_null(fake_take(&f.nodes[0], SHOAL__CONTROL__BODY_REFUSED, 300));
    control_route(f.control, &route);
    assert_int_equal(route.state, CONTROL_READY);
}

static void test_control_answers_bad_requests_of_strangers_alike(void **state)
{
    (void)state;
    static uint8_t bytes[ENROL_BYTES_MAX];
    start();
    char *line = invite(1);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    static const size_t lengths[] = {0, 1, 40, 300, ENROL_BYTES_MAX};
    for (size_t i = 0; i < COUNTOF(lengths); i++) {
        assert_int_equal(fake_enrol_bytes(&f.nodes[0], f.zmq, line, bytes, lengths[i]), ERR_DENIED);
        assert_string_equal(f.nodes[0].enrol_text, "it is not valid, used up or expired");
    }
    json_t *o = status();
    assert_int_equal(json_integer_value(json_object_get(o, "connections_accepted")), COUNTOF(lengths));
    assert_int_equal(json_integer_value(json_object_get(o, "connections_refused")), 0);
    json_decref(o);
    assert_int_equal(fake_enrol(&f.nodes[0], f.zmq, line, "alpha", false), 0);
    mem_free(line);
}

struct bad_option {
    const char *words;
    int status;
    void (*spoil)(struct control_options *o);
};

static void spoil_path(struct control_options *o) { o->model_path = "tests/data/README.md"; }
static void spoil_rows(struct control_options *o) { o->rows_type = "q4"; }
static void spoil_kv(struct control_options *o) { o->kv_type = "int3"; }
static void spoil_context(struct control_options *o) { o->context = 1 << 30; }
static void spoil_batch(struct control_options *o) { o->batch_rows_max = 1 << 20; }
static void spoil_sequences(struct control_options *o) { o->sequences_max = 1 << 20; }
static void spoil_lease(struct control_options *o) { o->lease_ms = 1; }
static void spoil_host(struct control_options *o) { o->listen_host = "no host at all"; }

static void spoil_adapter(struct control_options *o)
{
    static const char *const texts[] = {"tests/data/shoal-demo-q8_0.gguf"};
    o->adapters = texts;
    o->n_adapters = COUNTOF(texts);
}

static void spoil_names(struct control_options *o)
{
    static const char *const texts[] = {"a=/one", "a=/two"};
    o->adapters = texts;
    o->n_adapters = COUNTOF(texts);
}

static void test_control_refuses_bad_options(void **state)
{
    (void)state;
    static const struct bad_option cases[] = {
        {"README.md", 0, spoil_path},           {"q4", ERR_CONFIG, spoil_rows},
        {"int3", ERR_CONFIG, spoil_kv},         {"1073741824", ERR_CONFIG, spoil_context},
        {"rows a step", ERR_CONFIG, spoil_batch}, {"sequences", ERR_CONFIG, spoil_sequences},
        {"lease", ERR_CONFIG, spoil_lease},     {"no host", 0, spoil_host},
        {"is no adapter", ERR_INVALID, spoil_adapter}, {"two adapters are called a", ERR_INVALID, spoil_names},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct control_options o = f.o;
        struct control *c;
        struct error e = {0};
        cases[i].spoil(&o);
        int r = control_start(&c, &o, &e);
        assert_int_not_equal(r, 0);
        assert_true(cases[i].status == 0 || r == cases[i].status);
        assert_null(c);
        if (!strstr(e.text, cases[i].words))
            fail_msg("'%s' does not say '%s'", e.text, cases[i].words);
    }
}

static void test_control_names_a_port_in_use(void **state)
{
    (void)state;
    start();
    add_node(0, "alpha");
    struct control_options o = f.o;
    char other[96], port[8];
    snprintf(other, sizeof(other), "%s/other", f.dir);
    snprintf(port, sizeof(port), "%u", f.nodes[0].control_port);
    o.state_dir = other;
    o.control_port = f.nodes[0].control_port;
    struct control *c;
    struct error e;
    assert_int_equal(control_start(&c, &o, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, port));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_control_serves_with_one_node, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_waits_for_nodes_min_and_chains_stages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_fits_the_kv_to_the_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_says_how_much_memory_is_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_needs_no_manifest_when_local, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_gives_the_file_to_members, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_takes_a_split_model_whole_or_not_at_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_places_anew_when_a_node_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_keeps_shards_for_a_node_that_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_spreads_again_once_idle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_ends_the_session_when_the_lease_lapses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_takes_the_newer_of_two_with_one_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_loads_elsewhere_when_a_load_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_tries_again_after_a_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_believes_the_gateway_about_a_stage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_enrols_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_bounds_what_an_invite_may_say, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_refuses_strangers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_tells_members_of_members, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_revokes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_remembers_over_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_stands_bad_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_answers_bad_requests_of_strangers_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_refuses_bad_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_names_a_port_in_use, setup, teardown),
    };
    logger_level(LOG_ERROR);
    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
