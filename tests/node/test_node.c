/* test_node: real nodes do what a coordinator played by hand tells them: they enrol, join, get layers from a file or
 * over the link, run steps alone and in a row, refuse what does not fit, and leave when they are told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/path.h"
#include "net/blob.h"
#include "rig.h"
#include "shard/arch/arch.h"
#include "tests/shard/splits.h"

enum { LAYERS = 6 };

/* "What is the capital of France?" and its greedy answer, from tests/data/answers.json. */
static const int32_t prompt[] = {2040, 286, 198, 321, 287, 267, 465, 312, 477, 1871, 30, 2041, 198, 2040, 288, 198};
static const int32_t answer[] = {330, 465, 312, 477, 1871, 287, 866, 290, 259, 13};

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

static struct rig_node *member(const char *name)
{
    struct rig_node *n = rig_start(&rig, name, rig.invite_line);
    if (n->status != 0)
        fail_msg("%s", n->why.text);
    rig_join(&rig, n);
    return n;
}

/* The result of one sampled row; fails on anything else. */
static int32_t take_token(struct rig_node *from, uint64_t step, uint32_t position, uint32_t stages)
{
    struct frame f;
    rig_answer(&rig, from, &f);
    if (f.header.kind == FRAME_FAIL)
        fail_msg("step %llu failed: %s", (unsigned long long)f.header.step, f.fail_text);
    assert_int_equal(f.header.step, step);
    assert_int_equal(f.n_results, 1);
    assert_int_equal(f.results[0].position, position);
    assert_int_equal(f.n_traces, stages);
    return f.results[0].token;
}

static int take_failure(struct rig_node *from, uint64_t step)
{
    struct frame f;
    rig_answer(&rig, from, &f);
    assert_int_equal(f.header.kind, FRAME_FAIL);
    assert_int_equal(f.header.step, step);
    assert_true(f.fail_text[0] != 0);
    return f.fail_status;
}

/* Prompt and answer of one sequence through a route: steps begin at `step`; the number of the next one. */
static uint64_t expect_answer(struct rig_node *first, struct rig_node *last, uint64_t route, uint64_t step,
                              uint64_t sequence, uint32_t stages)
{
    uint32_t position = COUNTOF(prompt);
    rig_step(&rig, first, route, step, sequence, 0, prompt, 7, false); /* in two parts */
    struct frame f;
    rig_answer(&rig, last, &f);
    assert_int_equal(f.header.kind, FRAME_RESULT);
    assert_int_equal(f.n_results, 0);
    rig_step(&rig, first, route, ++step, sequence, 7, prompt + 7, COUNTOF(prompt) - 7, true);
    for (size_t i = 0; i < COUNTOF(answer); i++) {
        int32_t token = take_token(last, step, position - 1, stages);
        assert_int_equal(token, answer[i]);
        if (i + 1 < COUNTOF(answer))
            rig_step(&rig, first, route, ++step, sequence, position++, &token, 1, true);
    }
    return step + 1;
}

static void test_one_node_answers_from_a_local_file(void **state)
{
    (void)state;
    struct rig_node *n = member("alone");
    rig_load(&rig, n, 11, 0, LAYERS, RIG_MODEL, 0);
    assert_int_equal(rig.chunks_served, 1); /* the manifest */
    rig_route(&rig, n, 1, 11, 0, 1, NULL, NULL, 0);
    uint64_t step = expect_answer(n, n, 1, 1, 100, 1);
    step = expect_answer(n, n, 1, step, 101, 1);
    struct frame f;
    rig_end(&rig, n, 1, step, 100);
    rig_answer(&rig, n, &f);
    assert_int_equal(f.header.kind, FRAME_RESULT);
    expect_answer(n, n, 1, step + 1, 102, 1); /* takes the place of 100: there are two */
    uint32_t beats = n->beats;
    uint64_t until = clock_ms() + RIG_WAIT_MS;
    while (n->beats < beats + 2) {
        rig_pump(&rig);
        assert_true(clock_ms() < until);
    }
}

static void test_two_nodes_in_a_row_give_the_same_answer(void **state)
{
    (void)state;
    struct rig_node *a = member("front"), *b = member("back");
    rig_load(&rig, a, 1, 0, 2, RIG_MODEL, 0);
    rig_load(&rig, b, 2, 2, LAYERS, RIG_MODEL, 0);
    rig_route(&rig, b, 5, 2, 1, 2, NULL, a, 0);
    rig_route(&rig, a, 5, 1, 0, 2, b, NULL, 0);
    uint32_t greetings = 0;
    struct frame f;
    /* The last stage answers whoever the coordinator is, once it has heard from it. */
    rig_end(&rig, b, 4, 1, 1);
    rig_answer(&rig, b, &f);
    greetings += f.header.kind == FRAME_FAIL; /* route 4 is not set; it knows us now */
    assert_int_equal(greetings, 1);
    uint64_t step = expect_answer(a, b, 5, 1, 7, 2);
    expect_answer(a, b, 5, step, 8, 2);
}

static void test_layers_come_over_the_link_and_are_kept(void **state)
{
    (void)state;
    struct rig_node *n = member("fetcher");
    rig_load(&rig, n, 1, 0, 3, "", 0);
    uint32_t first = rig.chunks_served;
    assert_true(first > 1);
    assert_true(first < rig.model.n_chunks + 2); /* not the whole file */
    rig_load(&rig, n, 2, 0, LAYERS, "", 0);
    uint32_t both = rig.chunks_served;
    assert_int_equal(both, rig.model.n_chunks + 1); /* what was there was not asked for again, nor the manifest */
    rig_restart(&rig, n);
    rig_join(&rig, n);
    rig_load(&rig, n, 3, 0, LAYERS, "", 0);
    assert_int_equal(rig.chunks_served, both);
    rig_route(&rig, n, 1, 3, 0, 1, NULL, NULL, 0);
    expect_answer(n, n, 1, 1, 1, 1);
}

static void test_a_file_that_only_looks_right_is_not_used(void **state)
{
    (void)state;
    struct rig_node *n = member("careful");
    char path[64], *bytes;
    size_t len;
    snprintf(path, sizeof(path), "%s/lookalike.gguf", rig.dir);
    assert_int_equal(path_read(RIG_MODEL, 64 << 20, &bytes, &len, NULL), 0);
    bytes[len - 1] ^= 1;
    assert_int_equal(path_write_atomic(path, bytes, len, 0600, NULL), 0);
    free(bytes);
    rig_load(&rig, n, 1, 0, LAYERS, path, 0);
    assert_int_equal(rig.chunks_served, 2); /* the manifest, and the chunk that is another */
    rig_route(&rig, n, 1, 1, 0, 1, NULL, NULL, 0);
    expect_answer(n, n, 1, 1, 1, 1);
}

/* ---- models of several files ---- */

enum { FILES = 3 };

/* The demo model in FILES files in a folder of the rig's; of them those stay whose bit is set. */
static const char *split_model(const char *name, unsigned keep)
{
    static char prefixes[4][128];
    static unsigned next;
    char *prefix = prefixes[next++ % 4];
    snprintf(prefix, sizeof(prefixes[0]), "%s/%s", rig.dir, name);
    splits_write(RIG_MODEL, prefix, &(struct splits_options){.n = FILES, .file_of = splits_by_layer});
    for (uint32_t i = 0; i < FILES; i++)
        if (!(keep >> i & 1))
            assert_int_equal(unlink(splits_path(prefix, i, FILES)), 0);
    return prefix;
}

/* Opens them again under the same names. */
static void serve_split(const char *name)
{
    struct model *m;
    struct file_set *files;
    const char *paths[FILES], *prefix = split_model(name, 7);
    struct file_set_entry entries[FILES];
    assert_int_equal(model_open(&m, splits_path(prefix, 0, FILES), NULL), 0);
    for (uint32_t i = 0; i < FILES; i++) {
        entries[i] = *file_set_at(model_files(m), i);
        paths[i] = splits_path(prefix, i, FILES);
    }
    model_close(&m);
    assert_int_equal(file_set_open_at(&files, paths, entries, FILES, NULL), 0);
    rig_serve(&rig, &files);
}

/* Chunks of file i of what is served. */
static uint64_t chunks_of(uint32_t i)
{
    const uint64_t *first = rig.model.first_chunks;
    return first[i + 1] - first[i] + first[FILES + i + 1] - first[FILES + i];
}

static void test_nodes_with_only_their_files_need_no_transfer(void **state)
{
    (void)state;
    serve_split("served");
    struct rig_node *a = member("front");
    char mine[128];
    snprintf(mine, sizeof(mine), "%s", splits_path(split_model("back", 5), 2, FILES));
    rig.model_path = mine; /* its operator says so; any of the names will do */
    struct rig_node *b = member("back");
    rig_load(&rig, a, 1, 0, 4, splits_path(split_model("front", 3), 0, FILES), 0);
    rig_load(&rig, b, 2, 4, LAYERS, "", 0);
    assert_int_equal(rig.chunks_served, 2); /* a manifest each */
    rig_route(&rig, b, 5, 2, 1, 2, NULL, a, 0);
    rig_route(&rig, a, 5, 1, 0, 2, b, NULL, 0);
    struct frame f;
    rig_end(&rig, b, 4, 1, 1); /* it knows us now */
    rig_answer(&rig, b, &f);
    expect_answer(a, b, 5, 1, 7, 2);
}

static void test_only_files_that_are_absent_or_others_are_fetched(void **state)
{
    (void)state;
    serve_split("served");
    struct rig_node *n = member("some");
    const char *prefix = split_model("some", 5);
    rig_load(&rig, n, 1, 0, LAYERS, splits_path(prefix, 0, FILES), 0);
    assert_int_equal(rig.chunks_served, 1 + chunks_of(1));
    rig_route(&rig, n, 1, 1, 0, 1, NULL, NULL, 0);
    expect_answer(n, n, 1, 1, 1, 1);
    /* from the start again: one file is of another size, and without the first nothing can be opened in place */
    uint32_t before = rig.chunks_served;
    struct rig_node *m = member("others");
    prefix = split_model("others", 6);
    assert_int_equal(truncate(splits_path(prefix, 2, FILES), 5000), 0);
    rig_load(&rig, m, 1, 0, LAYERS, splits_path(prefix, 1, FILES), 0);
    assert_int_equal(rig.chunks_served - before, 1 + chunks_of(0) + chunks_of(2));
    rig_route(&rig, m, 1, 1, 0, 1, NULL, NULL, 0);
    expect_answer(m, m, 1, 1, 1, 1);
}

/* A coordinator whose table of files is not the model's. */
static void test_a_table_that_is_not_the_models_is_refused(void **state)
{
    (void)state;
    struct file_set *files;
    serve_split("served");
    struct rig_node *n = member("wary");
    const char *paths[FILES];
    struct file_set_entry entries[FILES];
    for (uint32_t way = 0; way < 3; way++) {
        for (uint32_t i = 0; i < FILES; i++) {
            uint32_t k = way == 0 ? FILES - 1 - i : i; /* in another order */
            entries[i] = *file_set_at(rig.model_files, k);
            paths[i] = file_set_path(rig.model_files, k);
        }
        entries[1].head_bytes += way == 1 ? 64 : 0; /* other heads */
        if (way == 2)                               /* a file too many, which is no split */
            snprintf(entries[2].name, sizeof(entries[2].name), "model.bin");
        assert_int_equal(file_set_open_at(&files, paths, entries, FILES, NULL), 0);
        rig_serve(&rig, &files);
        rig_load(&rig, n, 1 + way, 0, 2, "", ERR_CORRUPT);
        serve_split("served");
    }
    rig_load(&rig, n, 9, 0, 2, "", 0);
}

static void test_loads_and_routes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct rig_node *n = member("strict");
    rig_route(&rig, n, 1, 1, 0, 1, NULL, NULL, ERR_CONFLICT); /* nothing is loaded */
    rig_load(&rig, n, 1, 2, LAYERS + 1, RIG_MODEL, ERR_INVALID);
    rig_load(&rig, n, 2, 0, LAYERS, RIG_MODEL, 0);
    rig_route(&rig, n, 1, 1, 0, 1, NULL, NULL, ERR_CONFLICT); /* of another load */
    rig_route(&rig, n, 1, 2, 1, 2, NULL, n, ERR_INVALID);     /* it has the embedding: it is the first stage */
    rig_route(&rig, n, 1, 2, 0, 2, n, NULL, ERR_INVALID);     /* it has the head: it is the last one too */
    uint8_t id = rig.model.id[0];
    rig.model.id[0] ^= 1; /* a model that is nowhere: its manifest will not have that id */
    rig_load(&rig, n, 3, 0, LAYERS, RIG_MODEL, ERR_CORRUPT);
    rig.model.id[0] = id;
    rig_load(&rig, n, 4, 0, LAYERS, RIG_MODEL, 0);
    rig_route(&rig, n, 2, 4, 0, 1, NULL, NULL, 0);
    expect_answer(n, n, 2, 1, 1, 1);
}

static void test_steps_that_do_not_fit_fail_alone(void **state)
{
    (void)state;
    struct rig_node *n = member("steady");
    static const int32_t bad_token = 1 << 20, good_token = 330;
    rig_load(&rig, n, 1, 0, LAYERS, RIG_MODEL, 0);
    rig_route(&rig, n, 1, 1, 0, 1, NULL, NULL, 0);
    rig_step(&rig, n, 2, 1, 1, 0, prompt, 4, true);
    assert_int_equal(take_failure(n, 1), ERR_CONFLICT); /* another route */
    rig_step(&rig, n, 1, 2, 1, 0, &bad_token, 1, true);
    assert_int_not_equal(take_failure(n, 2), 0);
    rig_step(&rig, n, 1, 3, 1, 9, &good_token, 1, true);
    assert_int_equal(take_failure(n, 3), ERR_CONFLICT); /* a gap */
    uint64_t step = expect_answer(n, n, 1, 4, 1, 1);
    step = expect_answer(n, n, 1, step, 2, 1);
    rig_step(&rig, n, 1, step, 3, 0, prompt, 4, true);
    assert_int_equal(take_failure(n, step), ERR_BUSY); /* it holds two sequences */
    struct frame f;
    rig_end(&rig, n, 1, step + 1, 2);
    rig_answer(&rig, n, &f);
    expect_answer(n, n, 1, step + 2, 3, 1);
    Shoal__EndRoute end = SHOAL__END_ROUTE__INIT;
    end.route = 1;
    rig_send(&rig, n, SHOAL__CONTROL__BODY_END_ROUTE, &end);
    int status = 0;
    for (uint64_t s = 500; status == 0; s++) { /* the route ends at some moment soon */
        rig_step(&rig, n, 1, s, 3, (uint32_t)(COUNTOF(prompt) + COUNTOF(answer) - 1), &good_token, 1, true);
        rig_answer(&rig, n, &f);
        status = f.header.kind == FRAME_FAIL ? f.fail_status : 0;
    }
    assert_int_equal(status, ERR_CONFLICT);
}

/* Steps of a member that is not the stage before are dropped: no result, no failure, nothing moves. */
static void test_another_members_steps_are_not_taken(void **state)
{
    (void)state;
    struct rig_node *n = member("choosy"), *other = member("other");
    rig_load(&rig, n, 1, 0, LAYERS, RIG_MODEL, 0);
    rig_route(&rig, n, 1, 1, 0, 1, NULL, other, 0); /* its steps shall come from the other node, not from us */
    rig_step(&rig, n, 1, 1, 1, 0, prompt, 4, true);
    rig_step(&rig, n, 9, 2, 1, 0, prompt, 4, true); /* of no route: answered, and so shows what came before it */
    assert_int_equal(take_failure(n, 2), ERR_CONFLICT);
}

/* A former member's connection to a node's data port is cut when the roster says so, and not made again. */
static void test_a_node_cuts_who_is_not_a_member_any_more(void **state)
{
    (void)state;
    struct rig_node *n = member("holds"), *former = member("former");
    struct keys k;
    struct link *l;
    char endpoint[64];
    uint64_t until = clock_ms() + RIG_WAIT_MS;
    assert_int_equal(keys_load_or_create(&k, former->state_dir, NULL), 0);
    struct link_options o = {.keys = &k, .bytes_max = FRAME_BYTES_MAX, .queue_max = 8};
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", n->data_port);
    assert_int_equal(link_dial(&l, rig.context, endpoint, n->key, &o, NULL), 0);
    /* Two members are in the roster that `former` joined with; n may still have the one before. */
    while (!link_connected(l)) {
        link_watch(l);
        rig_pump(&rig);
        assert_true(clock_ms() < until);
    }
    while (link_send(l, NULL, "no frame", 8, NULL) != 0)
        assert_true(clock_ms() < until);
    rig_revoke(&rig, former);
    while (!link_refused(l)) {
        link_watch(l);
        rig_pump(&rig);
        assert_true(clock_ms() < until);
    }
    assert_false(link_connected(l));
    assert_true(link_connected(n->data)); /* ours stands */
    link_close(&l);
    keys_wipe(&k);
}

static void test_a_revoked_node_is_cut_and_ends(void **state)
{
    (void)state;
    struct rig_node *n = member("former"), *stays = member("stays");
    struct error e = {0};
    int r;
    uint64_t until = clock_ms() + RIG_WAIT_MS;
    rig_revoke(&rig, n);
    while ((r = node_wait(n->node, 0, &e)) == ERR_TIMEOUT) {
        rig_pump(&rig);
        assert_true(clock_ms() < until);
    }
    assert_int_equal(r, ERR_DENIED);
    assert_true(e.text[0] != 0);
    /* It does not come back either, and the other one has not noticed. */
    rig_restart(&rig, n);
    while ((r = node_wait(n->node, 0, &e)) == ERR_TIMEOUT) {
        rig_pump(&rig);
        assert_true(clock_ms() < until);
    }
    assert_int_equal(r, ERR_DENIED);
    assert_false(n->joined);
    assert_int_equal(node_wait(stays->node, 0, &e), ERR_TIMEOUT);
}

static void test_a_stopped_node_says_good_bye(void **state)
{
    (void)state;
    struct rig_node *n = member("polite");
    node_stop(&n->node);
    assert_null(n->node);
    Shoal__Control *c = rig_expect(&rig, n, SHOAL__CONTROL__BODY_LEAVE);
    assert_string_equal(c->leave->reason, "stopped");
    control_free(&c);
}

static void test_a_bad_invite_starts_no_node(void **state)
{
    (void)state;
    char line[INVITE_TEXT_MAX];
    struct invite i = rig.invite;
    i.secret[3] ^= 8;
    invite_text(&i, line);
    struct rig_node *n = rig_start(&rig, "uninvited", line);
    assert_int_equal(n->status, ERR_DENIED);
    assert_null(n->node);
    assert_true(n->why.text[0] != 0);
    n->options.invite = NULL;
    n = rig_start(&rig, "stranger", NULL);
    assert_int_equal(n->status, ERR_NOT_FOUND);
    assert_non_null(strstr(n->why.text, "--join"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_rig, close_rig)

int main(void)
{
    struct error e;
    if (keys_init(&e) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(test_one_node_answers_from_a_local_file),
        TEST(test_two_nodes_in_a_row_give_the_same_answer),
        TEST(test_layers_come_over_the_link_and_are_kept),
        TEST(test_a_file_that_only_looks_right_is_not_used),
        TEST(test_nodes_with_only_their_files_need_no_transfer),
        TEST(test_only_files_that_are_absent_or_others_are_fetched),
        TEST(test_a_table_that_is_not_the_models_is_refused),
        TEST(test_loads_and_routes_that_do_not_fit_are_refused),
        TEST(test_steps_that_do_not_fit_fail_alone),
        TEST(test_another_members_steps_are_not_taken),
        TEST(test_a_node_cuts_who_is_not_a_member_any_more),
        TEST(test_a_revoked_node_is_cut_and_ends),
        TEST(test_a_stopped_node_says_good_bye),
        TEST(test_a_bad_invite_starts_no_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
