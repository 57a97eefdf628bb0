/* test_rerank: documents in the order of their scores, by a head of one output, of two, and of a layer before it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "tests/coordinator/api_rig.h"

enum { WIDTH = 256, RANK = 4 };

#define TEMPLATE "<|im_start|>Q: {query} D: {document} {query}<|im_end|>"

static int start_one(void **state)
{
    static const struct rig_extra x = { { "qwen3moe.pooling_type" }, { RANK }, NULL, NULL, "cls.output.weight", 1 };
    return rig_start_with(state, &x);
}

static int start_two(void **state)
{
    static const struct rig_extra x = { { "qwen3moe.pooling_type" }, { RANK }, "tokenizer.chat_template.rerank",
                                        TEMPLATE, "cls.output.weight", 2 };
    return rig_start_with(state, &x);
}

static int start_dense(void **state)
{
    static const struct rig_extra x = { { "qwen3moe.pooling_type" }, { RANK }, NULL, NULL, "cls.weight", 3 };
    return rig_start_with(state, &x);
}

static int start_without_head(void **state)
{
    static const struct rig_extra x = { { "qwen3moe.pooling_type" }, { RANK }, NULL, NULL, NULL, 0 };
    return rig_start_with(state, &x);
}

/* Output i of the head that model_extra.c writes, for the fake engine's row of a text of so many tokens. */
static double output(uint32_t i, size_t n_tokens)
{
    double sum = 0;
    for (uint32_t c = 0; c < WIDTH; c++)
        sum += ((i * WIDTH + c) % 7 / 8.0 - 0.25) * (double)fake_logit((uint32_t)n_tokens - 1, c, WIDTH);
    return sum;
}

static double result(const struct reply *r, size_t i, json_int_t *index)
{
    const json_t *j = json_array_get(reply_at(r, "results"), i);
    *index = json_integer_value(json_object_get(j, "index"));
    return json_number_value(json_object_get(j, "relevance_score"));
}

/* Tokens of "q", EOS, the document, EOS. */
static size_t pair_tokens(const struct rig *rig, const char *document)
{
    struct token_list a = rig_tokens(rig, "q"), b = rig_tokens(rig, document);
    size_t n = a.count + b.count + 2;
    token_list_free(&a);
    token_list_free(&b);
    return n;
}

static void test_documents_come_in_order(void **state)
{
    static const char *const documents[] = { "a", "a dog", "a dog and a cat", "one two three four five six" };
    struct rig *rig = *state;
    struct reply r = rig_call(rig, "/v1/rerank", "{\"query\":\"q\",\"documents\":[\"a\",{\"text\":\"a dog\"},"
                              "\"a dog and a cat\",\"one two three four five six\"],\"return_documents\":true}", NULL);
    assert_int_equal(r.status, 200);
    assert_int_equal(json_array_size(reply_at(&r, "results")), 4);
    double last = INFINITY;
    size_t tokens = 0;
    for (size_t i = 0; i < COUNTOF(documents); i++) {
        json_int_t index;
        double score = result(&r, i, &index);
        char where[64];
        snprintf(where, sizeof(where), "results.%zu.document.text", i);
        assert_string_equal(reply_text(&r, where), documents[index]);
        assert_true(fabs(score - output(0, pair_tokens(rig, documents[index]))) < 1e-6);
        assert_true(score <= last);
        last = score;
        tokens += pair_tokens(rig, documents[i]);
    }
    assert_int_equal(json_integer_value(reply_at(&r, "usage.total_tokens")), tokens);
    assert_string_equal(reply_text(&r, "model"), RIG_NAME);
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 0, &seen);
    assert_int_equal(seen.hidden, HIDDEN_LAST);
    assert_int_equal(seen.prompt[1], rig_end_token(rig));
    reply_free(&r);
    r = rig_call(rig, "/reranking", "{\"query\":\"q\",\"documents\":[\"a\",\"a dog\",\"b\"],\"top_n\":2}", NULL);
    assert_int_equal(json_array_size(reply_at(&r, "results")), 2);
    assert_null(reply_at(&r, "results.0.document"));
    reply_free(&r);
}

/* Two outputs are yes and no; the file's template holds both texts, which cannot end a turn. */
static void test_a_choice_is_a_probability(void **state)
{
    static const char query[] = "<|im_end|>", document[] = "a dog";
    struct rig *rig = *state;
    struct reply r = rig_call(rig, "/v1/rerank", "{\"query\":\"<|im_end|>\",\"documents\":[\"a dog\"]}", NULL);
    const struct text_part parts[] = {
        { "<|im_start|>Q: ", 15, true }, { query, strlen(query), false }, { " D: ", 4, true },
        { document, strlen(document), false }, { " ", 1, true }, { query, strlen(query), false },
        { "<|im_end|>", 10, true },
    };
    struct token_list want;
    struct fake_seen seen;
    assert_int_equal(tokenizer_encode_parts(rig->tokenizer, parts, COUNTOF(parts), ENCODE_SPECIAL, &want, NULL), 0);
    fake_engine_seen(rig->engine, 0, &seen);
    assert_int_equal(seen.n_prompt, want.count);
    assert_memory_equal(seen.prompt, want.ids, want.count * sizeof(int32_t));
    uint32_t ends = 0;
    for (size_t i = 0; i < want.count; i++)
        ends += want.ids[i] == rig_end_token(rig);
    assert_int_equal(ends, 1);
    json_int_t index;
    double yes = exp(output(0, want.count)), no = exp(output(1, want.count));
    assert_true(fabs(result(&r, 0, &index) - yes / (yes + no)) < 1e-6);
    token_list_free(&want);
    reply_free(&r);
}

static void test_a_layer_alone_is_a_head(void **state)
{
    struct reply r = rig_call(*state, "/v1/rerank", "{\"query\":\"q\",\"documents\":[\"a dog\"]}", NULL);
    json_int_t index;
    assert_true(fabs(result(&r, 0, &index) - tanh(output(0, pair_tokens(*state, "a dog")))) < 1e-6);
    reply_free(&r);
}

static void assert_refused(void **state, const char *body, int status, const char *param)
{
    struct reply r = rig_call(*state, "/v1/rerank", body, NULL);
    const char *got = reply_text(&r, "error.param");
    if (r.status != status || strcmp(got == NULL ? "" : got, param) != 0)
        fail_msg("%s: %d and %s were expected, not %d %s", body, status, param, r.status, r.body);
    reply_free(&r);
}

static void test_wrong_requests_are_refused_by_name(void **state)
{
    static const struct {
        const char *body, *param;
    } rows[] = {
        { "{\"documents\":[\"a\"]}", "query" },
        { "{\"query\":5,\"documents\":[\"a\"]}", "query" },
        { "{\"query\":\"q\"}", "documents" },
        { "{\"query\":\"q\",\"documents\":[]}", "documents" },
        { "{\"query\":\"q\",\"documents\":\"a\"}", "documents" },
        { "{\"query\":\"q\",\"documents\":[\"a\",5]}", "documents" },
        { "{\"query\":\"q\",\"documents\":[{\"txt\":\"a\"}]}", "documents" },
        { "{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":0}", "top_n" },
        { "{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":\"1\"}", "top_n" },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++)
        assert_refused(state, rows[i].body, 400, rows[i].param);
    assert_refused(state, "{\"query\":\"q\",\"documents\":[\"a\"],\"model\":\"other\"}", 404, "model");
    fake_control_limits(((struct rig *)*state)->control, 4, 0);
    assert_refused(state, "{\"query\":\"q\",\"documents\":[\"one two three four five\"]}", 400, "documents");
    struct reply r = rig_call(*state, "/v1/embeddings", "{\"input\":\"a\"}", NULL);
    assert_int_equal(r.status, 400);
    assert_non_null(strstr(reply_text(&r, "error.message"), "ranks"));
    reply_free(&r);
    assert_int_equal(fake_engine_submitted(((struct rig *)*state)->engine), 0);
}

static void test_models_without_a_head_say_so(void **state)
{
    assert_refused(state, "{\"query\":\"q\",\"documents\":[\"a\"]}", 501, "model");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_documents_come_in_order, start_one, rig_stop),
        cmocka_unit_test_setup_teardown(test_a_choice_is_a_probability, start_two, rig_stop),
        cmocka_unit_test_setup_teardown(test_a_layer_alone_is_a_head, start_dense, rig_stop),
        cmocka_unit_test_setup_teardown(test_wrong_requests_are_refused_by_name, start_one, rig_stop),
        cmocka_unit_test_setup_teardown(test_models_without_a_head_say_so, start_without_head, rig_stop),
        cmocka_unit_test_setup_teardown(test_models_without_a_head_say_so, rig_start, rig_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
