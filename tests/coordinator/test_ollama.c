/* test_ollama: the calls of Ollama's clients, as they are on the wire, and the answers that those look for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "coordinator/api/ollama.h"
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
        "{\"model\":\"\",\"system\":\"\",\"template\":\"\",\"verbose\":false,\"options\":null,"
        "\"name\":\"org/demo:q8\"}", /* that of `show` */
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

/* ---- chat and generate ---- */

#define SAID "The capital of France is Paris."
#define ASK "\"model\":\"org/demo:q8\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]"

/* The lines of a stream as a list; each must be JSON of this model. */
static json_t *lines_of(const struct reply *r)
{
    json_t *list = json_array();
    if (strstr(r->headers, "Content-Type: application/x-ndjson\r\n") == NULL)
        fail_msg("no lines:\n%s", r->headers);
    for (const char *at = r->body; *at != '\0';) {
        size_t n = strcspn(at, "\n");
        json_t *line = json_loadb(at, n, 0, NULL);
        if (line == NULL || at[n] != '\n' || json_string_value(json_object_get(line, "created_at")) == NULL)
            fail_msg("a line that is none: %.*s", (int)n, at);
        json_array_append_new(list, line);
        at += n + 1;
    }
    assert_true(json_array_size(list) > 1);
    return list;
}

static const json_t *last_of(const json_t *lines)
{
    return json_array_get(lines, json_array_size(lines) - 1);
}

static json_int_t count_in(const json_t *line, const char *name)
{
    const json_t *v = json_object_get(line, name);
    if (!json_is_integer(v))
        fail_msg("%s is missing", name);
    return json_integer_value(v);
}

/* All but the last are not done, and give the text. */
static void assert_lines(const json_t *lines, const char *of, const char *field, const char *expected)
{
    struct buffer text;
    buffer_init(&text, 4096);
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *line = json_array_get(lines, i), *at = of == NULL ? line : json_object_get(line, of);
        buffer_add_text(&text, json_string_value(json_object_get(at, field)));
        assert_int_equal(json_is_true(json_object_get(line, "done")), i + 1 == json_array_size(lines));
        assert_string_equal(json_string_value(json_object_get(line, "model")), "org/demo:q8");
    }
    assert_string_equal(buffer_text(&text), expected);
    buffer_close(&text);
}

static void test_chat_streams_lines(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, SAID, NULL);
    /* as ollama's command line sends it */
    struct reply r = rig_call(rig, "/api/chat", "{" ASK ",\"format\":\"\",\"keep_alive\":\"5m\",\"options\":{}}",
                              "User-Agent: ollama/0.12.6 (amd64 linux) Go/go1.24.1");
    assert_int_equal(r.status, 200);
    json_t *lines = lines_of(&r);
    assert_lines(lines, "message", "content", SAID);
    struct token_list prompt = rig_tokens(rig, "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
    struct token_list said = rig_tokens(rig, SAID);
    const json_t *last = last_of(lines);
    assert_string_equal(json_string_value(json_object_get(last, "done_reason")), "stop");
    assert_int_equal(count_in(last, "prompt_eval_count"), prompt.count);
    assert_int_equal(count_in(last, "eval_count"), said.count + 1);
    assert_true(count_in(last, "total_duration") > 0);
    assert_true(count_in(last, "load_duration") >= 0 && count_in(last, "prompt_eval_duration") >= 0);
    assert_true(count_in(last, "eval_duration") >= 0);
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 0, &seen);
    assert_true(seen.sampling.temperature == 0.8f && seen.sampling.top_p == 0.9f);
    assert_int_equal(seen.sampling.top_k, 40);
    token_list_free(&prompt);
    token_list_free(&said);
    json_decref(lines);
    reply_free(&r);
}

static void test_chat_answers_whole(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, SAID, NULL);
    /* as the python package sends it */
    struct reply r = call(state, "/api/chat", "{\"model\":\"org/demo:q8:latest\",\"stream\":false,\"options\":"
                          "{\"temperature\":0,\"num_predict\":3},\"messages\":[{\"role\":\"user\",\"content\":"
                          "\"Hello!\"}],\"tools\":[],\"logprobs\":true,\"top_logprobs\":2}");
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.headers, "application/json"));
    assert_text(&r, "model", "org/demo:q8:latest");
    assert_text(&r, "message.role", "assistant");
    assert_text(&r, "done_reason", "length");
    assert_true(json_is_true(reply_at(&r, "done")));
    assert_count(&r, "eval_count", 3);
    assert_int_equal(json_array_size(reply_at(&r, "logprobs")), 3);
    assert_int_equal(json_array_size(reply_at(&r, "logprobs.0.top_logprobs")), 2);
    assert_true(json_real_value(reply_at(&r, "logprobs.0.logprob")) == -0.25);
    assert_time(&r, "created_at");
    reply_free(&r);
}

static void test_generate_is_a_turn_or_raw(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, SAID, NULL);
    struct reply r = call(state, "/api/generate", "{\"model\":\"org/demo:q8\",\"prompt\":\"Hello!\",\"system\":\"\"}");
    json_t *lines = lines_of(&r);
    assert_lines(lines, NULL, "response", SAID);
    assert_null(json_object_get(last_of(lines), "message"));
    json_decref(lines);
    reply_free(&r);
    r = call(state, "/api/generate", "{\"model\":\"org/demo:q8\",\"prompt\":\"Hello!\",\"raw\":true,"
             "\"stream\":false}");
    assert_text(&r, "response", SAID);
    reply_free(&r);
    static const char *const prompts[] = { "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n", "Hello!" };
    for (uint32_t i = 0; i < COUNTOF(prompts); i++) {
        struct token_list ids = rig_tokens(rig, prompts[i]);
        struct fake_seen seen;
        fake_engine_seen(rig->engine, i, &seen);
        assert_int_equal(seen.n_prompt, ids.count);
        assert_memory_equal(seen.prompt, ids.ids, ids.count * sizeof(int32_t));
        token_list_free(&ids);
    }
}

static void test_empty_requests_load(void **state)
{
    static const struct {
        const char *path, *body, *reason;
    } rows[] = {
        { "/api/generate", "{\"model\":\"org/demo:q8\",\"prompt\":\"\"}", "load" },
        { "/api/generate", "{\"model\":\"org/demo:q8\",\"keep_alive\":0}", "unload" },
        { "/api/chat", "{\"model\":\"org/demo:q8\",\"messages\":[]}", "load" },
        { "/api/chat", "{\"model\":\"org/demo:q8\",\"messages\":[],\"keep_alive\":\"0s\"}", "unload" },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = call(state, rows[i].path, rows[i].body);
        assert_int_equal(r.status, 200);
        assert_text(&r, "model", "org/demo:q8");
        assert_text(&r, "done_reason", rows[i].reason);
        assert_text(&r, i < 2 ? "response" : "message.content", "");
        assert_true(json_is_true(reply_at(&r, "done")));
        reply_free(&r);
    }
    assert_int_equal(fake_engine_submitted(((struct rig *)*state)->engine), 0);
    fake_control_state(((struct rig *)*state)->control, CONTROL_LOADING, "loads");
    struct reply r = call(state, rows[0].path, rows[0].body);
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(reply_text(&r, "error"), "loads"));
    reply_free(&r);
}

static void test_forms_bind_the_answer(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "{}", NULL);
    struct reply r = call(state, "/api/chat", "{" ASK ",\"stream\":false,\"format\":{\"type\":\"object\"}}");
    assert_int_equal(r.status, 200);
    reply_free(&r);
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 0, &seen);
    assert_non_null(seen.grammar);
}

/* ---- vectors ---- */

enum { WIDTH = 256 };

static void assert_unit(const json_t *vector, size_t width)
{
    double square = 0;
    assert_int_equal(json_array_size(vector), width);
    for (size_t i = 0; i < width; i++)
        square += json_number_value(json_array_get(vector, i)) * json_number_value(json_array_get(vector, i));
    assert_true(fabs(square - 1) < 1e-5);
}

static void test_embed_gives_vectors(void **state)
{
    struct token_list ids = rig_tokens(*state, "Hello there"), more = rig_tokens(*state, "friend of mine");
    struct reply r = call(state, "/api/embed", "{\"model\":\"org/demo:q8\",\"input\":\"Hello there\"}");
    assert_int_equal(r.status, 200);
    assert_text(&r, "model", "org/demo:q8");
    assert_int_equal(json_array_size(reply_at(&r, "embeddings")), 1);
    assert_unit(reply_at(&r, "embeddings.0"), WIDTH);
    assert_count(&r, "prompt_eval_count", (json_int_t)ids.count);
    assert_true(json_integer_value(reply_at(&r, "total_duration")) > 0);
    reply_free(&r);
    r = call(state, "/api/embed", "{\"model\":\"org/demo:q8\",\"input\":[\"Hello there\",\"friend of mine\"],"
             "\"dimensions\":8,\"truncate\":true,\"options\":{},\"keep_alive\":\"5m\"}");
    assert_int_equal(json_array_size(reply_at(&r, "embeddings")), 2);
    assert_unit(reply_at(&r, "embeddings.1"), 8);
    assert_count(&r, "prompt_eval_count", (json_int_t)(ids.count + more.count));
    reply_free(&r);
    r = call(state, "/api/embeddings", "{\"model\":\"org/demo:q8\",\"prompt\":\"Hello there\"}");
    assert_unit(reply_at(&r, "embedding"), WIDTH);
    assert_int_equal(json_object_size(r.json), 1);
    reply_free(&r);
    token_list_free(&ids);
    token_list_free(&more);
}

static void test_embed_of_nothing_is_nothing(void **state)
{
    static const struct {
        const char *path, *body, *expected;
    } rows[] = {
        { "/api/embed", "{\"model\":\"org/demo:q8\"}", "{\"embeddings\":[],\"model\":\"org/demo:q8\"," },
        { "/api/embed", "{\"name\":\"org/demo:q8\"}", "{\"embeddings\":[],\"model\":\"org/demo:q8\"," },
        { "/api/embed", "{\"model\":\"org/demo:q8\",\"input\":[]}", "{\"embeddings\":[],\"model\":\"org/demo:q8\"," },
        { "/api/embeddings", "{\"model\":\"org/demo:q8\",\"prompt\":\"\"}", "{\"embedding\":[]}" },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = call(state, rows[i].path, rows[i].body);
        assert_int_equal(r.status, 200);
        assert_memory_equal(r.body, rows[i].expected, strlen(rows[i].expected));
        assert_non_null(r.json);
        reply_free(&r);
    }
}

/* ---- refusals and failures ---- */

static void test_bad_requests_are_named(void **state)
{
    static const struct {
        const char *path, *body, *part;
        int status;
    } rows[] = {
        { "/api/chat", "{\"model\":\"llama3.2\",\"messages\":[]}", "model 'llama3.2' not found", 404 },
        { "/api/generate", "{\"model\":\"llama3.2\"}", "model 'llama3.2' not found", 404 },
        { "/api/chat", "{\"messages\":[]}", "model is required", 400 },
        { "/api/chat", "{" ASK ",\"format\":\"xml\"}", "format", 400 },
        { "/api/chat", "{" ASK ",\"options\":{\"top_p\":7}}", "top_p", 400 },
        { "/api/chat", "{" ASK ",\"keep_alive\":[]}", "keep_alive", 400 },
        { "/api/chat", "{" ASK ",\"options\":{\"num_predict\":33554432}}", "num_predict must be", 400 },
        { "/api/generate", "{\"model\":\"org/demo:q8\",\"prompt\":\"a\",\"options\":{\"num_predict\":33554432}}",
          "num_predict must be", 400 },
        { "/api/chat", "{" ASK ",\"format\":{\"type\":\"object\",\"not\":{}}}", "not", 400 },
        { "/api/generate", "{\"model\":\"org/demo:q8\",\"prompt\":\"a\",\"template\":\"b\"}", "template", 400 },
        { "/api/chat", "", "no body", 400 },
        { "/api/embed", "{\"model\":\"llama3.2\",\"input\":\"a\"}", "model 'llama3.2' not found", 404 },
        { "/api/embed", "{\"model\":\"org/demo:q8\",\"input\":[1,2]}", "input must be", 400 },
        { "/api/embed", "{\"model\":\"org/demo:q8\",\"input\":\"a\",\"dimensions\":-1}", "dimensions", 400 },
        { "/api/embed", "{\"model\":\"org/demo:q8\",\"input\":\"a\",\"truncate\":1}", "truncate", 400 },
        { "/api/embeddings", "{\"model\":\"org/demo:q8\",\"prompt\":[\"a\"]}", "prompt must be", 400 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = call(state, rows[i].path, rows[i].body);
        const char *text = reply_text(&r, "error");
        if (r.status != rows[i].status || text == NULL || strstr(text, rows[i].part) == NULL)
            fail_msg("%s was answered %d\n%s", rows[i].body, r.status, r.body);
        assert_int_equal(json_object_size(r.json), 1);
        reply_free(&r);
    }
}

static void test_a_failure_in_a_stream_is_a_line(void **state)
{
    struct rig *rig = *state;
    struct fake_script s = { .fail_after = 2 };
    error_set(&s.error, ERR_UNAVAILABLE, "a node has left");
    rig_say(rig, SAID, &s);
    struct reply r = call(state, "/api/chat", "{" ASK "}");
    assert_int_equal(r.status, 200);
    const char *last = strrchr(r.body, '{');
    assert_non_null(last);
    assert_string_equal(last, "{\"error\":\"a node has left\"}\n");
    reply_free(&r);
}

/* The rig's pings are due each 200 ms. */
static void test_silence_is_lines_too(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Paris", &(struct fake_script){ .token_ms = 450 });
    struct reply r = call(state, "/api/chat", "{" ASK ",\"options\":{\"num_predict\":3}}");
    json_t *lines = lines_of(&r);
    assert_lines(lines, "message", "content", "Paris");
    size_t empty = 0;
    for (size_t i = 0; i + 1 < json_array_size(lines); i++) {
        const json_t *message = json_object_get(json_array_get(lines, i), "message");
        empty += json_string_length(json_object_get(message, "content")) == 0;
    }
    assert_true(empty > 0);
    json_decref(lines);
    reply_free(&r);
}

/* ---- what the shape makes of calls and thoughts ---- */

static void give(const struct shape *shape, struct answer_view *v, void *state, const struct piece *p,
                 struct buffer *out)
{
    struct piece piece = *p;
    piece.len = p->text == NULL ? 0 : strlen(p->text);
    shape->piece(v, state, &piece, out);
}

static void test_calls_are_whole_and_their_arguments_objects(void **state)
{
    static const struct piece pieces[] = {
        { .kind = PIECE_REASONING, .text = "hm" },
        { .kind = PIECE_TEXT, .text = "so" },
        { .kind = PIECE_CALL, .call_id = "call_a", .call_name = "f" },
        { .kind = PIECE_ARGUMENTS, .text = "{\"a\":" },
        { .kind = PIECE_ARGUMENTS, .text = "[1]}" },
        { .kind = PIECE_CALL, .call = 1, .call_id = "call_b", .call_name = "g" },
        { .kind = PIECE_CALL, .call = 2, .call_id = "call_c", .call_name = "h" },
        { .kind = PIECE_ARGUMENTS, .call = 2, .text = "{\"cut" },
        { .finish = "length" },
    };
    static const char *const expected[] = {
        "{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"hm\"}",
        "{\"role\":\"assistant\",\"content\":\"so\"}",
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_a\",\"function\":{\"index\":0,"
        "\"name\":\"f\",\"arguments\":{\"a\":[1]}}}]}",
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_b\",\"function\":{\"index\":1,"
        "\"name\":\"g\",\"arguments\":{}}}]}",
        "{\"role\":\"assistant\",\"content\":\"\"}",
    };
    const struct shape *shape = &ollama_chat_shape;
    struct answer_view v = { .model = "m", .n_choices = 1, .usage = { .prompt_tokens = 3, .prefill_us = 5 } };
    void *own = mem_alloc(shape->state_bytes);
    struct buffer out;
    (void)state;
    buffer_init(&out, 1 << 16);
    shape->begin(&v, own, &out);
    for (size_t i = 0; i < COUNTOF(pieces); i++)
        give(shape, &v, own, &pieces[i], &out);
    shape->end(&v, own, &out);
    struct reply r = { .body = (char *)(uintptr_t)buffer_text(&out),
                       .headers = (char *)(uintptr_t)"Content-Type: application/x-ndjson\r\n" };
    json_t *lines = lines_of(&r);
    assert_int_equal(json_array_size(lines), COUNTOF(expected));
    for (size_t i = 0; i < COUNTOF(expected); i++) {
        char *text = json_text(json_object_get(json_array_get(lines, i), "message"));
        assert_string_equal(text, expected[i]);
        mem_free(text);
    }
    assert_string_equal(json_string_value(json_object_get(last_of(lines), "done_reason")), "length");
    assert_int_equal(count_in(last_of(lines), "prompt_eval_duration"), 5000);
    json_decref(lines);
    shape->close(own);
    mem_free(own);
    buffer_close(&out);
}

static void test_a_whole_answer_has_its_calls(void **state)
{
    static const struct call_whole calls[] = {
        { "call_a", "f", "{\"a\":1}" }, { "call_b", "g", "" }, { "c", "h", "{" },
    };
    const struct choice_whole choice = {
        .text = "so", .text_len = 2, .reasoning = "hm", .reasoning_len = 2, .calls = calls, .n_calls = COUNTOF(calls),
        .finish = "tool_calls",
    };
    struct answer_view v = { .model = "m", .n_choices = 1 };
    (void)state;
    struct reply r = { .json = ollama_chat_shape.whole(&v, &choice, 1) };
    assert_text(&r, "message.content", "so");
    assert_text(&r, "message.thinking", "hm");
    assert_int_equal(json_array_size(reply_at(&r, "message.tool_calls")), 2);
    assert_count(&r, "message.tool_calls.0.function.arguments.a", 1);
    assert_text(&r, "message.tool_calls.1.function.name", "g");
    assert_text(&r, "done_reason", "stop");
    json_decref(r.json);
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        WITH_RIG(test_somebody_is_running),
        WITH_RIG(test_tags_and_ps_list_the_models),
        WITH_RIG(test_show_tells_of_a_model),
        WITH_RIG(test_other_models_are_not_found),
        WITH_RIG(test_chat_streams_lines),
        WITH_RIG(test_chat_answers_whole),
        WITH_RIG(test_generate_is_a_turn_or_raw),
        WITH_RIG(test_empty_requests_load),
        WITH_RIG(test_forms_bind_the_answer),
        WITH_RIG(test_embed_gives_vectors),
        WITH_RIG(test_embed_of_nothing_is_nothing),
        WITH_RIG(test_bad_requests_are_named),
        WITH_RIG(test_a_failure_in_a_stream_is_a_line),
        WITH_RIG(test_silence_is_lines_too),
        cmocka_unit_test(test_calls_are_whole_and_their_arguments_objects),
        cmocka_unit_test(test_a_whole_answer_has_its_calls),
        cmocka_unit_test_setup_teardown(test_refusals_are_texts, rig_start_with_key, rig_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
