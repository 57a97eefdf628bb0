/* test_cluster: coordinator and real nodes over encrypted loopback: the demo model's answers token for token, the
 * bits of one process, shared steps, cancellation, and a node that is killed in the middle of an answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "tests/cluster/cluster.h"
#include "tests/shard/golden.h"
#include "tests/shard/route.h"

#define DEMO "tests/data/shoal-demo-q8_0.gguf"
#define ANSWERS "tests/data/answers.json"

enum { ANSWERS_MAX = 64, TOKENS_MAX = 1024 };

static const struct frame_open greedy = {.top_p = 1, .repetition_penalty = 1, .top_logprobs = -1};

static struct request *submit(struct cluster *c, const int32_t *prompt, uint32_t n, uint32_t max_tokens, bool logits)
{
    struct error e = {0};
    struct request *r = NULL;
    struct request_options o = {.prompt = prompt, .n_prompt = n, .max_tokens = max_tokens, .logits = logits,
                                .sampling = greedy};
    if (engine_submit(c->engine, &r, &o, &e) != 0)
        fail_msg("not taken: %s", e.text);
    return r;
}

static struct event *next(struct request *r)
{
    struct event *ev;
    if (request_next(r, &ev, CLUSTER_WAIT_MS) != 0)
        fail_msg("no event came");
    return ev;
}

/* All tokens of an answer; the caller releases. */
static uint32_t read_answer(struct request *r, int32_t *out, uint32_t most)
{
    for (uint32_t n = 0;;) {
        struct event *ev = next(r);
        if (ev->kind == EVENT_FAILED)
            fail_msg("the answer failed: %s", ev->error.text);
        if (ev->kind == EVENT_TOKEN && n < most)
            out[n++] = ev->token.token;
        bool done = ev->kind == EVENT_DONE;
        event_free(ev);
        if (done)
            return n;
    }
}

/* ---- the demo model's answers ---- */

struct answer {
    int32_t prompt[TOKENS_MAX], answer[TOKENS_MAX];
    uint32_t n_prompt, n_answer;
    struct request *request;
};

static uint32_t read_tokens(const json_t *array, int32_t *out)
{
    size_t n = json_array_size(array);
    assert_true(n > 0 && n <= TOKENS_MAX);
    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return (uint32_t)n;
}

static uint32_t read_answers(struct answer *out)
{
    json_error_t error;
    json_t *all = json_load_file(ANSWERS, 0, &error), *entry;
    size_t i;
    uint32_t n = 0;
    assert_non_null(all);
    json_array_foreach(all, i, entry) {
        if (!json_is_true(json_object_get(json_object_get(entry, "same_in_llama_cpp"), "q8_0")) || n == ANSWERS_MAX)
            continue;
        out[n].n_prompt = read_tokens(json_object_get(entry, "prompt_tokens"), out[n].prompt);
        out[n].n_answer = read_tokens(json_object_get(entry, "answer_tokens"), out[n].answer);
        n++;
    }
    json_decref(all);
    assert_true(n > 0);
    return n;
}

static void check_answer(struct answer *a)
{
    int32_t got[TOKENS_MAX];
    assert_int_equal(read_answer(a->request, got, TOKENS_MAX), a->n_answer);
    assert_memory_equal(got, a->answer, a->n_answer * sizeof(*got));
    request_release(&a->request);
}

/* All at once: they wait for places and share steps. */
static void check_answers(struct cluster *c, struct answer *answers, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        answers[i].request = submit(c, answers[i].prompt, answers[i].n_prompt, answers[i].n_answer, false);
    for (uint32_t i = 0; i < n; i++)
        check_answer(&answers[i]);
}

static void answers_through(uint32_t n_nodes, bool fetch)
{
    struct cluster c;
    struct answer *answers = mem_array(ANSWERS_MAX, sizeof(*answers));
    uint32_t n = read_answers(answers);
    cluster_start(&c, &(struct cluster_options){.model = DEMO, .n_nodes = n_nodes, .fetch = fetch});
    struct control_route route;
    control_route(c.control, &route);
    assert_int_equal(route.n_stages, n_nodes);
    check_answers(&c, answers, 1); /* alone */
    check_answers(&c, answers, n);
    uint64_t tokens = answers[0].n_answer;
    for (uint32_t i = 0; i < n; i++)
        tokens += answers[i].n_answer;
    struct engine_stats st;
    engine_stats(c.engine, &st);
    assert_int_equal(st.generated_tokens_total, tokens);
    assert_true(st.steps_total < tokens); /* steps were shared */
    assert_int_equal(st.requests_failed, 0);
    cluster_stop(&c);
    mem_free(answers);
}

static void test_one_node_gives_the_answers(void **state)
{
    (void)state;
    answers_through(1, false);
}

static void test_two_nodes_give_the_answers(void **state)
{
    (void)state;
    answers_through(2, false);
}

static void test_three_nodes_give_the_answers(void **state)
{
    (void)state;
    answers_through(3, false);
}

static void test_nodes_without_the_file_fetch_their_layers(void **state)
{
    (void)state;
    answers_through(3, true);
}

/* ---- the bits of one process ---- */

static void check_logits(struct cluster *c, const struct golden *g, const float *whole)
{
    struct request *r = submit(c, g->tokens, g->n, 0, true);
    for (uint32_t i = 0; i < g->n; i++) {
        struct event *ev = next(r);
        if (ev->kind == EVENT_FAILED)
            fail_msg("the logits failed: %s", ev->error.text);
        assert_int_equal(ev->kind, EVENT_LOGITS);
        assert_int_equal(ev->row, i);
        assert_int_equal(ev->n_values, g->n_vocab);
        assert_memory_equal(ev->values, whole + (size_t)i * g->n_vocab, g->n_vocab * sizeof(float));
        event_free(ev);
    }
    struct event *ev = next(r);
    assert_int_equal(ev->kind, EVENT_DONE);
    event_free(ev);
    request_release(&r);
}

static void check_golden(const struct golden *g)
{
    struct route one;
    route_open(&one, &(struct route_options){.path = g->path});
    uint32_t n_layers = model_hparams(one.model)->n_layers;
    float *whole = route_run(&one, 1, 0, g->tokens, g->n, g->n);
    route_close(&one);
    for (uint32_t n_nodes = 2; n_nodes <= 3 && n_nodes <= n_layers; n_nodes++) {
        struct cluster c;
        int32_t got[GOLDEN_TOKENS_MAX];
        cluster_start(&c, &(struct cluster_options){.model = g->path, .n_nodes = n_nodes});
        struct control_route route;
        control_route(c.control, &route);
        assert_int_equal(route.n_stages, n_nodes);
        check_logits(&c, g, whole);
        struct request *r = submit(&c, g->tokens, g->n, g->n_next, false);
        assert_int_equal(read_answer(r, got, GOLDEN_TOKENS_MAX), g->n_next);
        assert_memory_equal(got, g->next, g->n_next * sizeof(*got));
        request_release(&r);
        cluster_stop(&c);
    }
    mem_free(whole);
}

static void test_nodes_give_the_bits_of_one_process(void **state)
{
    (void)state;
    golden_each(check_golden);
}

/* ---- cancellation ---- */

static void test_a_cancelled_request_leaves_its_place_on_every_node(void **state)
{
    (void)state;
    struct cluster c;
    struct answer *answers = mem_array(ANSWERS_MAX, sizeof(*answers));
    read_answers(answers);
    cluster_start(&c, &(struct cluster_options){.model = DEMO, .n_nodes = 3, .kv_tokens = 512, .sequences_max = 1});
    for (int i = 0; i < 5; i++) { /* each takes all the pages and the only place */
        struct request *r = submit(&c, answers[0].prompt, answers[0].n_prompt, 512 - answers[0].n_prompt, false);
        event_free(next(r));
        event_free(next(r));
        request_release(&r);
    }
    check_answers(&c, answers, 1);
    struct engine_stats st;
    engine_stats(c.engine, &st);
    assert_int_equal(st.requests_cancelled, 5);
    assert_int_equal(st.requests_failed, 0);
    cluster_stop(&c);
    mem_free(answers);
}

/* ---- death ---- */

static void test_a_killed_node_ends_answers_and_comes_back(void **state)
{
    (void)state;
    struct cluster c;
    struct answer *answers = mem_array(ANSWERS_MAX, sizeof(*answers));
    read_answers(answers);
    cluster_start(&c, &(struct cluster_options){.model = DEMO, .n_nodes = 3, .processes = true});
    check_answers(&c, answers, 1);
    for (uint32_t victim = 0; victim < 3; victim++) {
        uint64_t route = cluster_await(&c, 0);
        struct request *r = submit(&c, answers[0].prompt, answers[0].n_prompt, 1500, false);
        event_free(next(r));
        cluster_kill(&c, victim);
        struct event *ev;
        while ((ev = next(r))->kind == EVENT_TOKEN)
            event_free(ev);
        assert_int_equal(ev->kind, EVENT_FAILED);
        assert_int_equal(ev->error.status, ERR_UNAVAILABLE);
        print_message("    %s\n", ev->error.text);
        assert_non_null(strstr(ev->error.text, "node"));
        event_free(ev);
        request_release(&r);
        cluster_start_node(&c, victim); /* or the two that are left take the layers: whoever is ready first */
        (void)cluster_await(&c, route);
        check_answers(&c, answers, 4);
    }
    cluster_stop(&c);
    mem_free(answers);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_node_gives_the_answers),
        cmocka_unit_test(test_two_nodes_give_the_answers),
        cmocka_unit_test(test_three_nodes_give_the_answers),
        cmocka_unit_test(test_nodes_without_the_file_fetch_their_layers),
        cmocka_unit_test(test_nodes_give_the_bits_of_one_process),
        cmocka_unit_test(test_a_cancelled_request_leaves_its_place_on_every_node),
        cmocka_unit_test(test_a_killed_node_ends_answers_and_comes_back),
    };
    struct error e = {0};
    cluster_child(argc, argv);
    logger_level(LOG_WARN);
    if (keys_init(&e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
