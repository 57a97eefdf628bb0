/* test_api_info: what the server says of the model, of itself and of texts as tokens. */
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

static struct reply call(void **state, const char *path, const char *body)
{
    return rig_call(*state, path, body, NULL);
}

static void assert_text(const struct reply *r, const char *where, const char *expected)
{
    const char *text = reply_text(r, where);
    if (text == NULL || strcmp(text, expected) != 0)
        fail_msg("%s should be \"%s\":\n%s", where, expected, r->body);
}

static void assert_count(const struct reply *r, const char *where, json_int_t expected)
{
    const json_t *j = reply_at(r, where);
    if (!json_is_integer(j) || json_integer_value(j) != expected)
        fail_msg("%s should be %lld:\n%s", where, (long long)expected, r->body);
}

static void assert_ids(const struct reply *r, const struct token_list *expected)
{
    assert_int_equal(json_array_size(reply_at(r, "tokens")), expected->count);
    for (size_t i = 0; i < expected->count; i++)
        assert_int_equal(json_integer_value(json_array_get(reply_at(r, "tokens"), i)), expected->ids[i]);
}

/* ---- tokens ---- */

static void test_tokenize_takes_both_shapes(void **state)
{
    static const char *const bodies[] = {
        "{\"content\":\"Hi <|im_end|>\"}",
        "{\"prompt\":\"Hi <|im_end|>\",\"model\":\"org/demo:q8\"}",
        "{\"prompt\":\"Hi <|im_end|>\",\"add_special_tokens\":false,\"parse_special\":null}",
    };
    struct token_list ids = rig_tokens(*state, "Hi <|im_end|>");
    for (size_t i = 0; i < COUNTOF(bodies); i++) {
        struct reply r = call(state, "/tokenize", bodies[i]);
        assert_int_equal(r.status, 200);
        assert_ids(&r, &ids);
        assert_count(&r, "count", (json_int_t)ids.count);
        assert_count(&r, "max_model_len", 2048);
        reply_free(&r);
    }
    struct reply r = call(state, "/tokenize", "{\"content\":\"<|im_end|>\",\"parse_special\":false}");
    assert_true(json_array_size(reply_at(&r, "tokens")) > 1);
    reply_free(&r);
    token_list_free(&ids);
}

static void test_tokenize_takes_conversations(void **state)
{
    struct token_list ids = rig_tokens(*state, "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
    struct reply r = call(state, "/tokenize", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]}");
    assert_int_equal(r.status, 200);
    assert_ids(&r, &ids);
    reply_free(&r);
    token_list_free(&ids);
    r = call(state, "/tokenize", "{\"messages\":[{\"role\":5}]}");
    assert_int_equal(r.status, 400);
    assert_text(&r, "error.param", "messages[0]");
    reply_free(&r);
}

static void test_pieces_are_texts_or_bytes(void **state)
{
    struct reply r = call(state, "/tokenize", "{\"content\":\"Hi\\u1F98\",\"with_pieces\":true}");
    struct token_list ids = rig_tokens(*state, "Hi\u1F98");
    size_t n = json_array_size(reply_at(&r, "tokens")), bytes = 0;
    assert_int_equal(n, ids.count);
    for (size_t i = 0; i < n; i++) {
        const json_t *token = json_array_get(reply_at(&r, "tokens"), i), *piece = json_object_get(token, "piece");
        assert_int_equal(json_integer_value(json_object_get(token, "id")), ids.ids[i]);
        bytes += json_is_string(piece) ? json_string_length(piece) : json_array_size(piece);
    }
    assert_int_equal(bytes, strlen("Hi\u1F98"));
    assert_true(json_is_array(json_object_get(json_array_get(reply_at(&r, "tokens"), n - 1), "piece")));
    reply_free(&r);
    token_list_free(&ids);
    r = call(state, "/tokenize", "{\"prompt\":\"<|im_end|>\",\"return_token_strs\":true}");
    assert_text(&r, "token_strs.0", "<|im_end|>");
    reply_free(&r);
}

/* Else a body of 8 MB would have an answer of gigabytes made. */
static void test_pieces_of_very_long_texts_are_refused(void **state)
{
    enum { CHARACTERS = 600 << 10 };
    static const char signs[] = "!#%&*;";
    static const char *const switches[] = { "with_pieces", "return_token_strs" };
    char *text = mem_alloc(CHARACTERS + 1);
    for (uint32_t i = 0; i < CHARACTERS; i++)
        text[i] = signs[(i * 2654435761u >> 16) % (sizeof(signs) - 1)];
    for (size_t i = 0; i < COUNTOF(switches); i++) {
        char *body = mem_printf("{\"content\":\"%s\",\"%s\":true}", text, switches[i]);
        struct reply r = call(state, "/tokenize", body);
        assert_int_equal(r.status, 400);
        assert_text(&r, "error.param", switches[i]);
        reply_free(&r);
        mem_free(body);
    }
    mem_free(text);
}

static void test_detokenize_gives_the_text_back(void **state)
{
    struct token_list ids = rig_tokens(*state, "Hello there,\nworld <|im_end|>");
    struct buffer body;
    buffer_init(&body, 4096);
    buffer_add_text(&body, "{\"tokens\":[");
    for (size_t i = 0; i < ids.count; i++)
        buffer_printf(&body, "%s%d", i > 0 ? "," : "", ids.ids[i]);
    buffer_add_text(&body, "]}");
    struct reply r = call(state, "/detokenize", buffer_text(&body));
    assert_text(&r, "content", "Hello there,\nworld <|im_end|>");
    assert_text(&r, "prompt", "Hello there,\nworld <|im_end|>");
    reply_free(&r);
    buffer_close(&body);
    token_list_free(&ids);
}

static void test_bad_tokenize_fields_are_named(void **state)
{
    static const struct {
        const char *path, *body, *param;
        int status;
    } rows[] = {
        { "/tokenize", "{}", "prompt", 400 },
        { "/tokenize", "{\"content\":5}", "content", 400 },
        { "/tokenize", "{\"content\":\"a\",\"prompt\":\"b\"}", "prompt", 400 },
        { "/tokenize", "{\"content\":\"a\",\"messages\":[]}", "prompt", 400 },
        { "/tokenize", "{\"content\":\"a\",\"with_pieces\":1}", "with_pieces", 400 },
        { "/tokenize", "{\"content\":\"a\",\"add_special\":\"no\"}", "add_special", 400 },
        { "/tokenize", "{\"prompt\":\"a\",\"parse_special\":2}", "parse_special", 400 },
        { "/tokenize", "{\"prompt\":\"a\",\"model\":\"other\"}", "model", 404 },
        { "/detokenize", "{\"tokens\":[2048]}", "tokens", 400 },
        { "/detokenize", "{\"tokens\":[-1]}", "tokens", 400 },
        { "/detokenize", "{\"tokens\":\"5\"}", "tokens", 400 },
        { "/detokenize", "{\"tokens\":[],\"model\":\"other\"}", "model", 404 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = call(state, rows[i].path, rows[i].body);
        if (r.status != rows[i].status)
            fail_msg("%s %s: %d", rows[i].path, rows[i].body, r.status);
        assert_text(&r, "error.param", rows[i].param);
        reply_free(&r);
    }
}

/* ---- the model ---- */

static void test_models_say_what_they_are_and_where(void **state)
{
    struct reply r = call(state, "/v1/models/", NULL);
    assert_int_equal(r.status, 200);
    assert_count(&r, "data.0.context_length", 2048);
    assert_text(&r, "data.0.quantization", "Q8_0");
    assert_text(&r, "data.0.family", "qwen3moe");
    assert_count(&r, "data.0.meta.n_layer", 6);
    assert_true(json_integer_value(reply_at(&r, "data.0.meta.n_params")) > 11000000);
    assert_true(json_integer_value(reply_at(&r, "data.0.meta.n_params_active")) < 5000000);
    assert_text(&r, "data.0.status.value", "loaded");
    assert_text(&r, "data.0.placement.state", "ready");
    assert_true(json_is_array(reply_at(&r, "data.0.placement.stages")));
    reply_free(&r);
    fake_control_state(((struct rig *)*state)->control, CONTROL_LOADING, "loads");
    r = call(state, "/models/org%2Fdemo%3Aq8%3Aclerk/", NULL);
    assert_text(&r, "id", "org/demo:q8:clerk");
    assert_text(&r, "status.value", "loading");
    reply_free(&r);
}

static void test_ready_says_what_health_says(void **state)
{
    struct reply r = call(state, "/ready", NULL);
    assert_int_equal(r.status, 200);
    reply_free(&r);
    fake_control_state(((struct rig *)*state)->control, CONTROL_WAITING, "waits for a node");
    r = call(state, "/ready", NULL);
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(reply_text(&r, "error.message"), "waits for a node"));
    reply_free(&r);
}

/* ---- forms of errors ---- */

static void test_errors_of_ollamas_paths_are_texts(void **state)
{
    struct reply r = call(state, "/api/nothing", NULL);
    assert_int_equal(r.status, 404);
    assert_text(&r, "error", "there is no /api/nothing here");
    reply_free(&r);
    r = call(state, "/nothing", NULL);
    assert_text(&r, "error.message", "there is no /nothing here");
    reply_free(&r);
}

/* ---- metrics ---- */

/* The value of a line that begins so; -1: there is none. */
static double metric(void **state, const char *line)
{
    struct reply r = call(state, "/metrics", NULL);
    char *at = strstr(r.body, line);
    double value = at == NULL || (at > r.body && at[-1] != '\n') ? -1 : strtod(at + strlen(line), NULL);
    reply_free(&r);
    return value;
}

#define OF_LABEL(name, label) "vllm:" name "{model_name=\"org/demo:q8\"," label "} "
#define OF(name) "vllm:" name "{model_name=\"org/demo:q8\"} "

static void test_metrics_have_vllms_names(void **state)
{
    struct rig *rig = *state;
    assert_true(metric(state, OF("time_to_first_token_seconds_count")) == 0);
    rig_say(rig, "Hello there", &(struct fake_script){ .token_ms = 15 });
    struct token_list said = rig_tokens(rig, "Hello there");
    double tokens = (double)said.count + 1;
    struct reply r = call(state, "/v1/completions", "{\"prompt\":[5,6,7],\"n\":2}");
    assert_int_equal(r.status, 200);
    reply_free(&r);
    r = call(state, "/v1/completions", "{\"prompt\":[5],\"max_tokens\":1}");
    reply_free(&r);
    assert_true(metric(state, OF("time_to_first_token_seconds_count")) == 3);
    assert_true(metric(state, OF("time_to_first_token_seconds_sum")) > 0);
    assert_true(metric(state, OF("inter_token_latency_seconds_count")) == 2 * (tokens - 1));
    assert_true(metric(state, OF("e2e_request_latency_seconds_count")) == 3);
    assert_true(metric(state, OF("request_prompt_tokens_sum")) == 7);
    assert_true(metric(state, OF("request_generation_tokens_sum")) == 2 * tokens + 1);
    assert_true(metric(state, OF("request_queue_time_seconds_count")) == 3);
    assert_true(metric(state, OF_LABEL("request_success_total", "finished_reason=\"stop\"")) == 2);
    assert_true(metric(state, OF_LABEL("request_success_total", "finished_reason=\"length\"")) == 1);
    assert_true(metric(state, OF_LABEL("request_prompt_tokens_bucket", "le=\"1\"")) == 1);
    assert_true(metric(state, OF_LABEL("request_prompt_tokens_bucket", "le=\"5\"")) == 3);
    assert_true(metric(state, OF_LABEL("request_prompt_tokens_bucket", "le=\"+Inf\"")) == 3);
    assert_true(metric(state, OF("num_requests_waiting")) >= 0);
    token_list_free(&said);
}

static void test_props_are_llama_cpps(void **state)
{
    struct reply r = rig_call(*state, "/props", NULL, NULL);
    assert_int_equal(r.status, 200);
    assert_int_equal(json_integer_value(reply_at(&r, "default_generation_settings.n_ctx")), 2048);
    assert_true(json_is_integer(reply_at(&r, "total_slots")));
    assert_string_equal(reply_text(&r, "model_alias"), RIG_NAME);
    assert_non_null(strstr(reply_text(&r, "chat_template"), "<|im_start|>"));
    assert_string_equal(reply_text(&r, "eos_token"), "<|im_end|>");
    assert_true(json_is_string(reply_at(&r, "bos_token")));
    assert_true(json_is_false(reply_at(&r, "modalities.vision")));
    reply_free(&r);
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        WITH_RIG(test_tokenize_takes_both_shapes),
        WITH_RIG(test_tokenize_takes_conversations),
        WITH_RIG(test_pieces_are_texts_or_bytes),
        WITH_RIG(test_pieces_of_very_long_texts_are_refused),
        WITH_RIG(test_detokenize_gives_the_text_back),
        WITH_RIG(test_bad_tokenize_fields_are_named),
        WITH_RIG(test_models_say_what_they_are_and_where),
        WITH_RIG(test_ready_says_what_health_says),
        WITH_RIG(test_errors_of_ollamas_paths_are_texts),
        WITH_RIG(test_props_are_llama_cpps),
        WITH_RIG(test_metrics_have_vllms_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
