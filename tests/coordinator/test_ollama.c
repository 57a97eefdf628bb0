/* test_ollama: the calls of Ollama's clients, as they are on the wire, and the answers that those look for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

/* "2026-01-31T12:00:00.123Z" */
static void assert_time(const struct reply *r, const char *where)
{
    const char *text = reply_text(r, where);
    int year = 0, month = 0, day = 0;
    if (text == NULL || sscanf(text, "%4d-%2d-%2dT", &year, &month, &day) != 3 || year < 2020 || month < 1 ||
        text[strlen(text) - 1] != 'Z')
        fail_msg("%s is no time:\n%s", where, r->body);
}

/* ---- the server and its models ---- */

static void test_somebody_is_running(void **state)
{
    struct rig *rig = *state;
    struct reply r = call(state, "/", NULL);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "Ollama is running");
    reply_free(&r);
    int fd = rig_send_raw(rig, "HEAD / HTTP/1.1\r\nHost: 127.0.0.1:11434\r\nUser-Agent: ollama/0.12.6 (amd64 linux) "
                          "Go/go1.24.1\r\nAccept: application/json\r\nConnection: close\r\n\r\n");
    char *answer = rig_read_raw(fd);
    assert_memory_equal(answer, "HTTP/1.1 200 OK\r\n", 17);
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
    mem_free(answer);
    r = call(state, "/api/version", NULL);
    assert_non_null(reply_text(&r, "version"));
    reply_free(&r);
}

static void test_tags_and_ps_list_the_models(void **state)
{
    static const char *const paths[] = { "/api/tags", "/api/ps" };
    for (size_t i = 0; i < COUNTOF(paths); i++) {
        struct reply r = call(state, paths[i], NULL);
        assert_int_equal(r.status, 200);
        assert_int_equal(json_array_size(reply_at(&r, "models")), 3);
        assert_text(&r, "models.0.name", "org/demo:q8");
        assert_text(&r, "models.0.model", "org/demo:q8");
        assert_text(&r, "models.2.model", "org/demo:q8:clerk");
        assert_true(json_integer_value(reply_at(&r, "models.0.size")) > 1000000);
        assert_int_equal(strlen(reply_text(&r, "models.0.digest")), 64);
        assert_string_not_equal(reply_text(&r, "models.0.digest"), reply_text(&r, "models.1.digest"));
        assert_text(&r, "models.0.details.format", "gguf");
        assert_text(&r, "models.0.details.family", "qwen3moe");
        assert_text(&r, "models.0.details.families.0", "qwen3moe");
        assert_text(&r, "models.0.details.quantization_level", "Q8_0");
        assert_text(&r, "models.0.details.parameter_size", "11.16M");
        assert_text(&r, "models.0.details.parent_model", "");
        assert_text(&r, "models.1.details.parent_model", "org/demo:q8");
        assert_time(&r, i == 0 ? "models.0.modified_at" : "models.0.expires_at");
        if (i == 1)
            assert_count(&r, "models.0.context_length", 2048);
        reply_free(&r);
    }
    fake_control_state(((struct rig *)*state)->control, CONTROL_LOADING, "loads");
    struct reply r = call(state, "/api/ps", NULL);
    assert_int_equal(json_array_size(reply_at(&r, "models")), 0);
    reply_free(&r);
}

static void test_show_tells_of_a_model(void **state)
{
    static const char *const bodies[] = {
        "{\"model\":\"org/demo:q8\",\"system\":\"\",\"template\":\"\",\"verbose\":false,\"options\":null,"
        "\"name\":\"\"}", /* the command line's */
        "{\"model\":\"org/demo:q8:latest\"}",
        "{\"name\":\"org/demo:q8\"}",
    };
    for (size_t i = 0; i < COUNTOF(bodies); i++) {
        struct reply r = call(state, "/api/show", bodies[i]);
        assert_int_equal(r.status, 200);
        assert_text(&r, "details.quantization_level", "Q8_0");
        assert_text(&r, "capabilities.0", "completion");
        assert_non_null(strstr(reply_text(&r, "template"), "<|im_start|>"));
        assert_non_null(strstr(reply_text(&r, "parameters"), " 2048"));
        assert_time(&r, "modified_at");
        const json_t *info = reply_at(&r, "model_info");
        assert_string_equal(json_string_value(json_object_get(info, "general.architecture")), "qwen3moe");
        assert_int_equal(json_integer_value(json_object_get(info, "qwen3moe.block_count")), 6);
        assert_true(json_integer_value(json_object_get(info, "general.parameter_count")) > 11000000);
        assert_true(json_is_array(json_object_get(info, "tokenizer.ggml.tokens")));
        assert_int_equal(json_array_size(json_object_get(info, "tokenizer.ggml.tokens")), 0);
        assert_null(json_object_get(info, "tokenizer.chat_template"));
        reply_free(&r);
    }
    struct reply r = call(state, "/api/show", "{\"model\":\"org/demo:q8\",\"verbose\":true}");
    const json_t *info = reply_at(&r, "model_info");
    assert_int_equal(json_array_size(json_object_get(info, "tokenizer.ggml.tokens")), 2048);
    reply_free(&r);
}

static void test_other_models_are_not_found(void **state)
{
    struct reply r = call(state, "/api/show", "{\"model\":\"llama3.2\"}");
    assert_int_equal(r.status, 404);
    assert_text(&r, "error", "model 'llama3.2' not found");
    reply_free(&r);
    r = call(state, "/api/show", "{}");
    assert_int_equal(r.status, 400);
    assert_text(&r, "error", "model is required");
    reply_free(&r);
    r = call(state, "/api/show", "{]");
    assert_int_equal(r.status, 400);
    assert_non_null(strstr(reply_text(&r, "error"), "not valid JSON"));
    reply_free(&r);
}

static void test_refusals_are_texts(void **state)
{
    struct rig *rig = *state;
    struct reply r = call(state, "/api/tags", NULL);
    assert_int_equal(r.status, 401);
    assert_non_null(strstr(reply_text(&r, "error"), "API key"));
    reply_free(&r);
    r = rig_call(rig, "/api/tags", NULL, "Authorization: Bearer sk-test");
    assert_int_equal(r.status, 200);
    reply_free(&r);
    r = rig_call(rig, "/api/tags", "{}", "Authorization: Bearer sk-test");
    assert_int_equal(r.status, 405);
    assert_text(&r, "error", "/api/tags takes GET");
    reply_free(&r);
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        WITH_RIG(test_somebody_is_running),
        WITH_RIG(test_tags_and_ps_list_the_models),
        WITH_RIG(test_show_tells_of_a_model),
        WITH_RIG(test_other_models_are_not_found),
        cmocka_unit_test_setup_teardown(test_refusals_are_texts, rig_start_with_key, rig_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
