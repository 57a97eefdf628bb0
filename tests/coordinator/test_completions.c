/* test_completions: the best of several, texts with a gap (suffix, /infill), and llama.cpp's /completion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "tests/coordinator/api_rig.h"

#define COMPLETE "/v1/completions"

enum { PRE = 2042, SUF, MID, REPO, SEP };

static const struct rig_extra with_gap = {
    .keys = { "tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.fim_mid_token_id" },
    .values = { PRE, SUF, MID },
};
static const struct rig_extra with_files = {
    .keys = { "tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.fim_mid_token_id",
              "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id" },
    .values = { PRE, SUF, MID, REPO, SEP },
};

static int start_with_gap(void **state)
{
    return rig_start_with(state, &with_gap);
}

static int start_with_files(void **state)
{
    return rig_start_with(state, &with_files);
}

/* The ids of parts: a text, or "#" and the number of a control token. */
static void check_prompt(struct rig *rig, uint32_t request, const char *const *parts, size_t n)
{
    struct fake_seen seen;
    size_t at = 0;
    fake_engine_seen(rig->engine, request, &seen);
    for (size_t i = 0; i < n; i++) {
        if (parts[i][0] == '#') {
            assert_int_equal(seen.prompt[at++], strtol(parts[i] + 1, NULL, 10));
            continue;
        }
        struct token_list ids = { 0 };
        assert_int_equal(tokenizer_encode(rig->tokenizer, parts[i], strlen(parts[i]), 0, &ids, NULL), 0);
        assert_memory_equal(seen.prompt + at, ids.ids, ids.count * sizeof(int32_t));
        at += ids.count;
        token_list_free(&ids);
    }
    assert_int_equal(seen.n_prompt, at);
    assert_true(at <= FAKE_PROMPT_MAX);
}

static void assert_refused(struct rig *rig, const char *path, const char *body, int status, const char *param)
{
    struct reply r = rig_call(rig, path, body, NULL);
    const char *got = reply_text(&r, "error.param");
    if (r.status != status || strcmp(got == NULL ? "" : got, param) != 0)
        fail_msg("%s: %d and %s were expected, not %d %s", body, status, param, r.status, r.body);
    reply_free(&r);
}

/* ---- the best of several ---- */

static double logprob(const struct reply *r, uint32_t choice)
{
    char where[64];
    snprintf(where, sizeof(where), "choices.%u.logprobs.token_logprobs.0", choice);
    return json_number_value(reply_at(r, where));
}

static void test_the_most_probable_are_given(void **state)
{
    struct rig *rig = *state;
    struct fake_script s = { .seeds = 4 };
    rig_say(rig, "Hello there", &s);
    struct token_list said = rig_tokens(rig, "Hello there");
    /* Seeds 6 to 9 of the first prompt, 10 to 13 of the second: modulo 4 that is 2 3 0 1 each. */
    struct reply r = rig_call(rig, COMPLETE, "{\"prompt\":[\"a\",\"b\"],\"n\":2,\"best_of\":4,\"seed\":6,"
                              "\"logprobs\":0}", NULL);
    assert_int_equal(r.status, 200);
    assert_int_equal(json_array_size(reply_at(&r, "choices")), 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_true(logprob(&r, i) == -0.25 - i % 2);
    assert_int_equal(json_integer_value(reply_at(&r, "choices.3.index")), 3);
    assert_int_equal(json_integer_value(reply_at(&r, "usage.completion_tokens")), 8 * (json_int_t)(said.count + 1));
    assert_int_equal(fake_engine_submitted(rig->engine), 8);
    reply_free(&r);
    /* Without log-probabilities in the answer the engine is asked for them all the same. */
    r = rig_call(rig, COMPLETE, "{\"prompt\":\"a\",\"best_of\":3}", NULL);
    assert_int_equal(json_array_size(reply_at(&r, "choices")), 1);
    assert_true(json_is_null(reply_at(&r, "choices.0.logprobs")));
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 8, &seen);
    assert_int_equal(seen.sampling.top_logprobs, 0);
    reply_free(&r);
    r = rig_call(rig, COMPLETE, "{\"prompt\":\"a\",\"best_of\":2,\"n\":2,\"stream\":true}", NULL);
    assert_int_equal(r.status, 200); /* nothing is to be chosen */
    reply_free(&r);
    token_list_free(&said);
}

/* ---- a gap ---- */

static void test_a_suffix_opens_a_gap(void **state)
{
    static const char *const one[] = { "#2042", "int f() {", "#2043", "}\n", "#2044" };
    static const char *const two[] = { "#2042", "<|im_end|>", "#2043", "}\n", "#2044" };
    static const char *const ids[] = { "#2042", "#7", "#9", "#2043", "}\n", "#2044" };
    struct rig *rig = *state;
    rig_say(rig, "return 1;", NULL);
    struct reply r = rig_call(rig, COMPLETE, "{\"prompt\":[\"int f() {\",\"<|im_end|>\"],\"suffix\":\"}\\n\"}", NULL);
    assert_int_equal(r.status, 200);
    assert_string_equal(reply_text(&r, "choices.0.text"), "return 1;");
    reply_free(&r);
    check_prompt(rig, 0, one, COUNTOF(one));
    check_prompt(rig, 1, two, COUNTOF(two));
    r = rig_call(rig, COMPLETE, "{\"prompt\":[7,9],\"suffix\":\"}\\n\"}", NULL);
    check_prompt(rig, 2, ids, COUNTOF(ids));
    reply_free(&r);
    r = rig_call(rig, COMPLETE, "{\"prompt\":[7,9],\"suffix\":\"\"}", NULL);
    check_prompt(rig, 3, ids + 1, 2);
    reply_free(&r);
    assert_refused(rig, COMPLETE, "{\"prompt\":\"a\",\"suffix\":\"b\",\"echo\":true}", 400, "echo");
    assert_refused(rig, COMPLETE, "{\"prompt\":\"a\",\"suffix\":[1]}", 400, "suffix");
    r = rig_call(rig, "/api/generate", "{\"model\":\"org/demo:q8\",\"prompt\":\"int f() {\",\"suffix\":\"}\\n\","
                 "\"stream\":false}", NULL);
    assert_string_equal(reply_text(&r, "response"), "return 1;");
    check_prompt(rig, 4, one, COUNTOF(one));
    reply_free(&r);
}

static void test_infill_answers_as_llama_cpp_does(void **state)
{
    static const char *const prompt[] = { "#2042", "int f() {\n  ret", "#2043", "}\n", "#2044" };
    struct rig *rig = *state;
    rig_say(rig, "urn 1;\n", NULL);
    struct token_list said = rig_tokens(rig, "urn 1;\n");
    const char *body = "{\"input_prefix\":\"int f() {\\n\",\"input_suffix\":\"}\\n\",\"prompt\":\"  ret\","
                       "\"n_predict\":64,\"seed\":-1,\"id_slot\":0,\"samplers\":[\"top_k\"],\"cache_prompt\":true,"
                       "\"stop\":[]}";
    struct reply r = rig_call(rig, "/infill", body, NULL);
    assert_int_equal(r.status, 200);
    check_prompt(rig, 0, prompt, COUNTOF(prompt));
    assert_string_equal(reply_text(&r, "content"), "urn 1;\n");
    assert_string_equal(reply_text(&r, "stop_type"), "eos");
    assert_string_equal(reply_text(&r, "model"), RIG_NAME);
    assert_true(json_is_true(reply_at(&r, "stop")) && json_is_true(reply_at(&r, "has_new_line")));
    assert_int_equal(json_integer_value(reply_at(&r, "timings.predicted_n")), said.count + 1);
    assert_int_equal(json_integer_value(reply_at(&r, "tokens_predicted")), said.count + 1);
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 0, &seen);
    assert_int_equal(seen.max_tokens, 64);
    assert_int_equal(seen.sampling.top_k, 40);
    assert_true(seen.sampling.temperature == 0.8f && seen.sampling.top_p == 0.95f && seen.sampling.min_p == 0.05f);
    reply_free(&r);
    r = rig_call(rig, "/infill", "{\"input_prefix\":\"a\",\"input_suffix\":\"\",\"n_predict\":1,\"response_fields\":"
                 "[\"content\",\"timings/prompt_n\",\"nothing\",\"timings/nothing\"],\"temperature\":0}", NULL);
    assert_int_equal(json_object_size(r.json), 2);
    assert_int_equal(json_integer_value(json_object_get(r.json, "timings/prompt_n")), 4);
    reply_free(&r);
    token_list_free(&said);
}

static void test_infill_streams(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "one two", NULL);
    struct reply r = rig_call(rig, "/infill", "{\"input_prefix\":\"a\",\"input_suffix\":\"b\",\"stream\":true,\"stop\":"
                              "[\" tw\"]}", NULL);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.headers, "text/event-stream"));
    assert_memory_equal(r.body, "data: {\"index\":0,\"content\":\"one\",", 33);
    const char *last = strstr(r.body, "\"stop\":true");
    assert_non_null(last);
    assert_non_null(strstr(last, "\"stop_type\":\"word\",\"stopping_word\":\" tw\""));
    assert_null(strstr(r.body, "[DONE]"));
    reply_free(&r);
}

#define FILES(list) "{\"input_prefix\":\"a\",\"input_suffix\":\"b\",\"n_predict\":4,\"input_extra\":[" list "]}"

static void test_files_come_before_the_text(void **state)
{
    static const char *const whole[] = { "#2045", "myproject\n", "#2046", "x.c\n", "int x;", "#2046", "tmp\n", "int y;",
                                         "#2046", "filename\n", "#2042", "a", "#2043", "b", "#2044" };
    struct rig *rig = *state;
    rig_say(rig, "c", NULL);
    const char *body = FILES("{\"filename\":\"x.c\",\"text\":\"int x;\"},{\"text\":\"int y;\"}");
    struct reply r = rig_call(rig, "/infill", body, NULL);
    assert_int_equal(r.status, 200);
    check_prompt(rig, 0, whole, COUNTOF(whole));
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 0, &seen);
    reply_free(&r);
    /* Without room for both the first goes. */
    fake_control_limits(rig->control, (uint32_t)seen.n_prompt + 3, 0);
    r = rig_call(rig, "/infill", body, NULL);
    assert_int_equal(r.status, 200);
    const char *cut[] = { "#2045", "myproject\n", "#2046", "tmp\n", "int y;", "#2046", "filename\n", "#2042", "a",
                          "#2043", "b", "#2044" };
    check_prompt(rig, 1, cut, COUNTOF(cut));
    reply_free(&r);
    fake_control_limits(rig->control, 8, 0); /* what is around the gap is never cut */
    assert_refused(rig, "/infill", body, 400, "input_prefix");
}

static void test_models_without_a_token_for_files_get_a_line(void **state)
{
    static const char *const prompt[] = { "\n\n--- snippet ---\n\n", "int x;", "#2042", "a", "#2043", "b", "#2044" };
    rig_say(*state, "c", NULL);
    struct reply r = rig_call(*state, "/infill", FILES("{\"filename\":\"x.c\",\"text\":\"int x;\"}"), NULL);
    assert_int_equal(r.status, 200);
    check_prompt(*state, 0, prompt, COUNTOF(prompt));
    reply_free(&r);
}

static void test_what_infill_refuses(void **state)
{
    static const struct {
        const char *body, *param;
    } rows[] = {
        { "{}", "input_prefix" },
        { "{\"input_prefix\":\"a\"}", "input_suffix" },
        { "{\"input_prefix\":[1],\"input_suffix\":\"\"}", "input_prefix" },
        { "{\"input_prefix\":\"a\",\"input_suffix\":\"\",\"prompt\":5}", "prompt" },
        { "{\"input_prefix\":\"a\",\"input_suffix\":\"\",\"input_extra\":{}}", "input_extra" },
        { FILES("5"), "input_extra" },
        { FILES("{\"filename\":\"a\"}"), "input_extra" },
        { FILES("{\"text\":\"a\",\"filename\":5}"), "input_extra" },
        { "{\"input_prefix\":\"a\",\"input_suffix\":\"\",\"n_predict\":1.5}", "n_predict" },
        { "{\"input_prefix\":\"a\",\"input_suffix\":\"\",\"temperature\":9}", "temperature" },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++)
        assert_refused(*state, "/infill", rows[i].body, 400, rows[i].param);
    assert_int_equal(fake_engine_submitted(((struct rig *)*state)->engine), 0);
}

static void test_models_without_the_tokens_say_so(void **state)
{
    struct reply r = rig_call(*state, "/infill", "{\"input_prefix\":\"a\",\"input_suffix\":\"\"}", NULL);
    assert_int_equal(r.status, 501);
    assert_string_equal(reply_text(&r, "error.type"), "not_supported_error");
    reply_free(&r);
}

/* ---- /completion ---- */

/* As Continue's provider for llama.cpp and llama.cpp's own scripts send it. */
static void test_completion_answers_as_llama_cpp_does(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "one two", NULL);
    struct token_list prompt = rig_tokens(rig, "<|im_start|>user\nHello!"), said = rig_tokens(rig, "one two");
    struct reply r = rig_call(rig, "/completion", "{\"model\":\"\",\"prompt\":\"<|im_start|>user\\nHello!\","
                              "\"n_predict\":4096,\"stop\":[\"zzz\"],\"temperature\":0.5,\"cache_prompt\":true}", NULL);
    assert_int_equal(r.status, 200);
    assert_string_equal(reply_text(&r, "content"), "one two");
    assert_string_equal(reply_text(&r, "stop_type"), "eos");
    assert_true(json_is_true(reply_at(&r, "stop")));
    assert_int_equal(json_integer_value(reply_at(&r, "tokens_evaluated")), prompt.count);
    assert_int_equal(json_integer_value(reply_at(&r, "tokens_predicted")), said.count + 1);
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 0, &seen);
    assert_int_equal(seen.max_tokens, 2048 - prompt.count);
    assert_true(seen.sampling.temperature == 0.5f && seen.sampling.min_p == 0.05f);
    reply_free(&r);
    r = rig_call(rig, "/completion", "{\"prompt\":[1,2,3],\"n_predict\":1,\"stream\":true}", NULL);
    assert_memory_equal(r.body, "data: {\"index\":0,\"content\":\"one\",", 33);
    assert_non_null(strstr(r.body, "\"stop\":true"));
    assert_non_null(strstr(r.body, "\"stop_type\":\"limit\""));
    fake_engine_seen(rig->engine, 1, &seen);
    assert_int_equal(seen.n_prompt, 3);
    reply_free(&r);
    assert_refused(rig, "/completion", "{\"prompt\":[\"a\",\"b\"]}", 400, "prompt");
    assert_refused(rig, "/completion", "{}", 400, "prompt");
    assert_refused(rig, "/completion", "{\"prompt\":\"a\",\"grammar\":\"root ::= x\"}", 400, "grammar");
    token_list_free(&prompt);
    token_list_free(&said);
}

/* Ollama's clients ask first what a model can. */
static void test_a_gap_is_a_capability(void **state)
{
    struct reply r = rig_call(*state, "/api/show", "{\"model\":\"" RIG_NAME "\"}", NULL);
    char *list = json_dumps(reply_at(&r, "capabilities"), JSON_COMPACT);
    assert_string_equal(list, "[\"completion\",\"tools\",\"insert\"]");
    free(list);
    reply_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_most_probable_are_given, rig_start, rig_stop),
        cmocka_unit_test_setup_teardown(test_a_suffix_opens_a_gap, start_with_gap, rig_stop),
        cmocka_unit_test_setup_teardown(test_infill_answers_as_llama_cpp_does, start_with_gap, rig_stop),
        cmocka_unit_test_setup_teardown(test_infill_streams, start_with_gap, rig_stop),
        cmocka_unit_test_setup_teardown(test_completion_answers_as_llama_cpp_does, rig_start, rig_stop),
        cmocka_unit_test_setup_teardown(test_a_gap_is_a_capability, start_with_gap, rig_stop),
        cmocka_unit_test_setup_teardown(test_files_come_before_the_text, start_with_files, rig_stop),
        cmocka_unit_test_setup_teardown(test_models_without_a_token_for_files_get_a_line, start_with_gap, rig_stop),
        cmocka_unit_test_setup_teardown(test_what_infill_refuses, start_with_gap, rig_stop),
        cmocka_unit_test_setup_teardown(test_models_without_the_tokens_say_so, rig_start, rig_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
