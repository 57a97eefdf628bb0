/* test_api: every endpoint's answer and every refusal, over a socket, with scripted tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "tests/coordinator/api_rig.h"

#define CHAT "/v1/chat/completions"
#define COMPLETE "/v1/completions"
#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]"

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

/* ---- answers ---- */

static void test_chat_answers_as_openai_does(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "The capital of France is Paris.", NULL);
    struct reply r = call(state, CHAT, "{\"model\":\"org/demo:q8\"," HELLO ",\"temperature\":0}");
    assert_int_equal(r.status, 200);
    assert_text(&r, "object", "chat.completion");
    assert_text(&r, "model", "org/demo:q8");
    assert_memory_equal(reply_text(&r, "id"), "chatcmpl-", 9);
    assert_memory_equal(reply_text(&r, "system_fingerprint"), "fp_", 3);
    assert_true(json_integer_value(reply_at(&r, "created")) > 1600000000);
    assert_count(&r, "choices.0.index", 0);
    assert_text(&r, "choices.0.message.role", "assistant");
    assert_text(&r, "choices.0.message.content", "The capital of France is Paris.");
    assert_text(&r, "choices.0.finish_reason", "stop");
    assert_true(json_is_null(reply_at(&r, "choices.0.logprobs")));
    struct token_list prompt = rig_tokens(rig, "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
    struct token_list said = rig_tokens(rig, "The capital of France is Paris.");
    assert_count(&r, "usage.prompt_tokens", (json_int_t)prompt.count);
    assert_count(&r, "usage.completion_tokens", (json_int_t)said.count + 1);
    assert_count(&r, "usage.total_tokens", (json_int_t)(prompt.count + said.count + 1));
    assert_count(&r, "usage.prompt_tokens_details.cached_tokens", 0);
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 0, &seen);
    assert_int_equal(seen.n_prompt, prompt.count);
    assert_memory_equal(seen.prompt, prompt.ids, prompt.count * sizeof(int32_t));
    assert_int_equal(seen.max_tokens, 2048 - prompt.count);
    assert_true(seen.sampling.temperature == 0.0f);
    assert_true(seen.n_end_tokens > 0);
    token_list_free(&prompt);
    token_list_free(&said);
    reply_free(&r);
}

static void test_parameters_reach_the_sampler(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    struct reply r = call(state, CHAT, "{" HELLO ",\"temperature\":0.7,\"top_p\":0.5,\"top_k\":7,\"min_p\":0.25,"
                          "\"repetition_penalty\":1.5,\"presence_penalty\":-1,\"frequency_penalty\":2,\"seed\":42,"
                          "\"n\":2,\"max_tokens\":9,\"max_completion_tokens\":5,\"logit_bias\":{\"17\":-100},"
                          "\"stop\":null,\"user\":\"me\",\"store\":true,\"unheard_of\":[1],\"ignore_eos\":true}");
    assert_int_equal(r.status, 200);
    reply_free(&r);
    struct fake_seen s;
    for (uint32_t i = 0; i < 2; i++) {
        fake_engine_seen(rig->engine, i, &s);
        assert_int_equal(s.sampling.seed, 42 + i);
        assert_int_equal(s.max_tokens, 5);
        assert_true(s.sampling.temperature == 0.7f && s.sampling.top_p == 0.5f && s.sampling.min_p == 0.25f);
        assert_true(s.sampling.repetition_penalty == 1.5f && s.sampling.presence_penalty == -1.0f);
        assert_true(s.sampling.frequency_penalty == 2.0f);
        assert_int_equal(s.sampling.top_k, 7);
        assert_int_equal(s.sampling.repetition_window, -1);
        assert_int_equal(s.sampling.top_logprobs, -1);
        assert_int_equal(s.sampling.n_bias, 1);
        assert_int_equal(s.first_bias.token, 17);
        assert_true(s.first_bias.bias == -100.0f);
        assert_int_equal(s.n_end_tokens, 0);
    }
}

static void test_defaults_are_openais(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    struct fake_seen a, b;
    struct reply r = call(state, CHAT, "{" HELLO ",\"temperature\":null,\"seed\":null,\"tools\":[],\"n\":null}");
    assert_int_equal(r.status, 200);
    reply_free(&r);
    r = call(state, "/chat/completions/", "{" HELLO ",\"tools\":[{}],\"tool_choice\":\"none\"}");
    assert_int_equal(r.status, 200);
    reply_free(&r);
    fake_engine_seen(rig->engine, 0, &a);
    fake_engine_seen(rig->engine, 1, &b);
    assert_true(a.sampling.temperature == 1.0f && a.sampling.top_p == 1.0f && a.sampling.min_p == 0.0f);
    assert_int_equal(a.sampling.top_k, 0);
    assert_true(a.sampling.repetition_penalty == 1.0f);
    assert_true(a.sampling.seed != b.sampling.seed);
}

static void test_content_may_be_parts_or_null(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    struct reply r = call(state, CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":"
                          "[{\"type\":\"text\",\"text\":\"Hel\"},{\"type\":\"text\",\"text\":\"lo!\"}]},"
                          "{\"role\":\"assistant\",\"content\":null},"
                          "{\"role\":\"user\",\"content\":\"\"}]}");
    assert_int_equal(r.status, 200);
    reply_free(&r);
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 0, &seen);
    struct token_list prompt = rig_tokens(rig, "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"
                                          "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n");
    assert_int_equal(seen.n_prompt, prompt.count);
    assert_memory_equal(seen.prompt, prompt.ids, prompt.count * sizeof(int32_t));
    token_list_free(&prompt);
}

static void test_max_tokens_ends_with_length(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "one two three four five six seven eight", NULL);
    struct reply r = call(state, CHAT, "{" HELLO ",\"max_tokens\":3}");
    assert_text(&r, "choices.0.finish_reason", "length");
    assert_count(&r, "usage.completion_tokens", 3);
    reply_free(&r);
}

static void test_n_choices_come_back_in_order(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hello there", NULL);
    struct reply r = call(state, CHAT, "{" HELLO ",\"n\":3}");
    assert_int_equal(json_array_size(reply_at(&r, "choices")), 3);
    assert_count(&r, "choices.2.index", 2);
    assert_text(&r, "choices.2.message.content", "Hello there");
    struct token_list said = rig_tokens(rig, "Hello there");
    assert_count(&r, "usage.completion_tokens", 3 * ((json_int_t)said.count + 1));
    token_list_free(&said);
    reply_free(&r);
}

static void test_stop_strings_end_across_tokens(void **state)
{
    static const struct {
        const char *stop, *expected;
    } rows[] = {
        { "\"France is\"", "The capital of " },
        { "[\"zzz\",\"ance is Par\"]", "The capital of Fr" },
        { "\"The\"", "" },
        { "\"Paris.\"", "The capital of France is " },
        { "\"Paris. \"", "The capital of France is Paris." },
    };
    struct rig *rig = *state;
    rig_say(rig, "The capital of France is Paris.", NULL);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char body[400];
        snprintf(body, sizeof(body), "{" HELLO ",\"stop\":%s}", rows[i].stop);
        struct reply r = call(state, CHAT, body);
        assert_text(&r, "choices.0.message.content", rows[i].expected);
        assert_text(&r, "choices.0.finish_reason", "stop");
        reply_free(&r);
    }
    assert_int_equal(fake_engine_cancelled(rig->engine), 4);
}

static void test_chat_logprobs(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Paris", NULL);
    struct token_list said = rig_tokens(rig, "Paris");
    struct reply r = call(state, CHAT, "{" HELLO ",\"logprobs\":true,\"top_logprobs\":2}");
    const json_t *content = reply_at(&r, "choices.0.logprobs.content");
    assert_int_equal(json_array_size(content), said.count);
    assert_true(json_real_value(reply_at(&r, "choices.0.logprobs.content.0.logprob")) == -0.25);
    assert_int_equal(json_array_size(reply_at(&r, "choices.0.logprobs.content.0.top_logprobs")), 2);
    assert_text(&r, "choices.0.logprobs.content.0.top_logprobs.0.token",
                reply_text(&r, "choices.0.logprobs.content.0.token"));
    assert_count(&r, "choices.0.logprobs.content.0.bytes.0", 'P');
    token_list_free(&said);
    reply_free(&r);
    r = call(state, CHAT, "{" HELLO ",\"logprobs\":true}");
    assert_int_equal(json_array_size(reply_at(&r, "choices.0.logprobs.content.0.top_logprobs")), 0);
    assert_true(json_is_array(reply_at(&r, "choices.0.logprobs.content.0.top_logprobs")));
    reply_free(&r);
}

static void test_completions_take_every_kind_of_prompt(void **state)
{
    static const struct {
        const char *prompt;
        size_t choices;
        const char *first; /* text of the first prompt */
    } rows[] = {
        { "\"To be\"", 1, "To be" },
        { "[\"To be\",\"or not\"]", 2, "To be" },
        { "[84,111]", 1, NULL },
        { "[[84,111],[97]]", 2, NULL },
        { "\"<|im_start|>user\\nHi<|im_end|>\"", 1, "<|im_start|>user\nHi<|im_end|>" },
    };
    struct rig *rig = *state;
    rig_say(rig, " that is", NULL);
    for (size_t i = 0, at = 0; i < COUNTOF(rows); i++) {
        char body[200];
        snprintf(body, sizeof(body), "{\"prompt\":%s}", rows[i].prompt);
        struct reply r = call(state, COMPLETE, body);
        assert_int_equal(r.status, 200);
        assert_text(&r, "object", "text_completion");
        assert_memory_equal(reply_text(&r, "id"), "cmpl-", 5);
        assert_int_equal(json_array_size(reply_at(&r, "choices")), rows[i].choices);
        assert_text(&r, "choices.0.text", " that is");
        assert_text(&r, "choices.0.finish_reason", "stop");
        struct fake_seen seen;
        fake_engine_seen(rig->engine, (uint32_t)at, &seen);
        struct token_list ids = rig_tokens(rig, rows[i].first == NULL ? "" : rows[i].first);
        if (rows[i].first == NULL) {
            assert_int_equal(seen.n_prompt, 2);
            assert_int_equal(seen.prompt[1], 111);
        } else {
            assert_int_equal(seen.n_prompt, ids.count);
            assert_memory_equal(seen.prompt, ids.ids, ids.count * sizeof(int32_t));
        }
        at += rows[i].choices;
        token_list_free(&ids);
        reply_free(&r);
    }
}

static void test_completion_logprobs_and_echo(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, " be", NULL);
    struct token_list ids = rig_tokens(rig, "To be, or not to");
    struct reply r = call(state, COMPLETE, "{\"prompt\":\"To be, or not to\",\"echo\":true,\"logprobs\":2}");
    assert_text(&r, "choices.0.text", "To be, or not to be");
    size_t n = json_array_size(reply_at(&r, "choices.0.logprobs.tokens"));
    assert_true(n > ids.count);
    assert_int_equal(json_array_size(reply_at(&r, "choices.0.logprobs.token_logprobs")), n);
    assert_int_equal(json_array_size(reply_at(&r, "choices.0.logprobs.top_logprobs")), n);
    assert_true(json_is_null(reply_at(&r, "choices.0.logprobs.token_logprobs.0")));
    double second = json_real_value(reply_at(&r, "choices.0.logprobs.token_logprobs.1"));
    assert_true(second < -3 && second > -12);
    const json_t *offsets = reply_at(&r, "choices.0.logprobs.text_offset");
    assert_int_equal(json_integer_value(json_array_get(offsets, 0)), 0);
    assert_int_equal(json_integer_value(json_array_get(offsets, ids.count)), 16);
    assert_int_equal(json_object_size(reply_at(&r, "choices.0.logprobs.top_logprobs.1")), 2);
    reply_free(&r);
    r = call(state, COMPLETE, "{\"prompt\":\"To be\",\"echo\":true,\"max_tokens\":0}");
    assert_text(&r, "choices.0.text", "To be");
    assert_text(&r, "choices.0.finish_reason", "length");
    assert_count(&r, "usage.completion_tokens", 0);
    reply_free(&r);
    token_list_free(&ids);
}

/* ---- other endpoints ---- */

static void test_models(void **state)
{
    struct reply r = call(state, "/v1/models", NULL);
    assert_int_equal(r.status, 200);
    assert_text(&r, "object", "list");
    assert_text(&r, "data.0.id", "org/demo:q8");
    assert_text(&r, "data.0.object", "model");
    assert_text(&r, "data.0.owned_by", "shoal");
    assert_count(&r, "data.0.max_model_len", 2048);
    assert_count(&r, "data.0.meta.n_vocab", 2048);
    reply_free(&r);
    r = call(state, "/v1/models/org/demo:q8", NULL);
    assert_text(&r, "id", "org/demo:q8");
    reply_free(&r);
    r = call(state, "/v1/models/org/demo:q8:clerk", NULL);
    assert_text(&r, "id", "org/demo:q8:clerk");
    assert_text(&r, "parent", "org/demo:q8");
    reply_free(&r);
    r = call(state, "/v1/models/org%2Fdemo%3Aq8", NULL);
    assert_text(&r, "id", "org/demo:q8");
    reply_free(&r);
    r = call(state, "/v1/models/other", NULL);
    assert_int_equal(r.status, 404);
    assert_text(&r, "error.code", "model_not_found");
    reply_free(&r);
}

static void test_health_metrics_status(void **state)
{
    struct rig *rig = *state;
    struct reply r = call(state, "/health", NULL);
    assert_int_equal(r.status, 200);
    assert_text(&r, "status", "ok");
    reply_free(&r);
    fake_control_state(rig->control, CONTROL_WAITING, "waits for 2 more nodes");
    r = call(state, "/health", NULL);
    assert_int_equal(r.status, 503);
    assert_text(&r, "error.type", "unavailable_error");
    assert_non_null(strstr(reply_text(&r, "error.message"), "waits for 2 more nodes"));
    assert_non_null(strstr(r.headers, "Retry-After: 1\r\n"));
    reply_free(&r);
    r = call(state, CHAT, "{" HELLO "}");
    assert_int_equal(r.status, 503);
    reply_free(&r);
    r = call(state, "/metrics", NULL);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.headers, "text/plain; version=0.0.4"));
    assert_non_null(strstr(r.body, "# TYPE shoal_steps_total counter\nshoal_steps_total 12\n"));
    assert_non_null(strstr(r.body, "\nshoal_step_seconds 0.25\n"));
    assert_non_null(strstr(r.body, "\nshoal_ready 0\n"));
    reply_free(&r);
    /* An answer is counted once it is sent, which may be after its client has read it. */
    bool counted = false;
    for (int i = 0; i < 1000 && !counted; i++) {
        r = call(state, "/metrics", NULL);
        counted = strstr(r.body, "\nshoal_http_answers_total{status=\"5xx\"} 2\n") != NULL;
        reply_free(&r);
        clock_sleep_ms(counted ? 0 : 5);
    }
    assert_true(counted);
    r = call(state, "/status", NULL);
    assert_string_equal(r.body, "{\"nodes\":[]}");
    reply_free(&r);
    r = call(state, "/version", NULL);
    assert_text(&r, "version", SHOAL_VERSION);
    reply_free(&r);
}

static void test_logits_are_raw_rows(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "x", NULL);
    struct reply r = call(state, "/shoal/logits", "{\"tokens\":[5,6,7]}");
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.headers, "application/octet-stream"));
    assert_int_equal(r.len, 3 * 2048 * sizeof(float));
    for (uint32_t row = 0; row < 3; row++) {
        for (uint32_t i = 0; i < 2048; i++) {
            float v;
            memcpy(&v, r.body + (row * 2048 + i) * sizeof(float), sizeof(v));
            assert_true(v == fake_logit(row, i, 2048));
        }
    }
    reply_free(&r);
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 0, &seen);
    assert_true(seen.logits);
    assert_int_equal(seen.max_tokens, 0);
    r = call(state, "/shoal/logits", "{\"tokens\":[5,2048]}");
    assert_int_equal(r.status, 400);
    assert_text(&r, "error.param", "tokens");
    reply_free(&r);
}

static void test_operators_endpoints_need_the_token(void **state)
{
    struct rig *rig = *state;
    const char *body = "{\"uses\":2,\"ttl_seconds\":60,\"host\":\"h\"}";
    struct reply r = call(state, "/admin/invite", body);
    assert_int_equal(r.status, 401);
    assert_text(&r, "error.code", "invalid_api_key");
    reply_free(&r);
    r = rig_call(rig, "/admin/invite", body, "Authorization: Bearer 0123456789abcdeX");
    assert_int_equal(r.status, 401);
    reply_free(&r);
    r = rig_call(rig, "/admin/invite", body, "Authorization: Bearer " RIG_ADMIN);
    assert_int_equal(r.status, 200);
    assert_text(&r, "invite", "shoal1.2.60.h");
    reply_free(&r);
    r = rig_call(rig, "/admin/invite", "{\"uses\":0}", "Authorization: Bearer " RIG_ADMIN);
    assert_int_equal(r.status, 400);
    assert_text(&r, "error.param", "uses");
    reply_free(&r);
    r = rig_call(rig, "/admin/revoke", "{\"who\":\"box\"}", "Authorization: Bearer " RIG_ADMIN);
    assert_int_equal(r.status, 200);
    assert_string_equal(fake_control_revoked(rig->control), "box");
    reply_free(&r);
    r = rig_call(rig, "/admin/revoke", "{\"who\":\"nobody\"}", "Authorization: Bearer " RIG_ADMIN);
    assert_int_equal(r.status, 404);
    reply_free(&r);
}

/* Without a key a web page could use the API by a name that it has bent to 127.0.0.1; with one it has no key. */
static void test_other_names_need_a_key(void **state)
{
    struct rig *rig = *state;
    struct reply r = rig_call(rig, "/v1/models", NULL, "Host: evil.example");
    assert_int_equal(r.status, 403);
    assert_text(&r, "error.type", "permission_error");
    reply_free(&r);
}

static void test_an_api_key_locks_the_api(void **state)
{
    struct rig *rig = *state;
    struct reply named = rig_call(rig, "/health", NULL, "Host: api.example");
    assert_int_equal(named.status, 200);
    reply_free(&named);
    static const struct {
        const char *header;
        int status;
    } rows[] = {
        { NULL, 401 },
        { "Authorization: Bearer sk-tes", 401 },
        { "Authorization: Bearer sk-testt", 401 },
        { "Authorization: Bearer sk-testsk-test", 401 },
        { "Authorization: Bearer ", 401 },
        { "Authorization: Basic sk-test", 401 },
        { "Authorization: Bearer sk-test", 200 },
        { "x-api-key: sk-test", 200 },
        { "Authorization: Bearer " RIG_ADMIN, 200 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = rig_call(rig, "/v1/models", NULL, rows[i].header);
        assert_int_equal(r.status, rows[i].status);
        reply_free(&r);
    }
    struct reply r = rig_call(rig, "/admin/revoke", "{\"who\":\"box\"}", "Authorization: Bearer sk-test");
    assert_int_equal(r.status, 401);
    assert_text(&r, "error.type", "authentication_error");
    reply_free(&r);
    r = call(state, "/health", NULL);
    assert_int_equal(r.status, 200);
    reply_free(&r);
}

static void test_the_admin_token_is_private_and_new(void **state)
{
    (void)state;
    char dir[] = "/tmp/shoal-api-XXXXXX", first[API_ADMIN_TOKEN_BYTES], second[API_ADMIN_TOKEN_BYTES];
    struct error e = { 0 };
    assert_non_null(mkdtemp(dir));
    char *state_dir = path_join(dir, "state"), *path = path_join(state_dir, "admin-token"), *text;
    int one, two;
    assert_int_equal(api_admin_token(state_dir, first, &one, &e), 0);
    assert_int_equal(api_admin_token(state_dir, second, &two, &e), 0); /* while another uses it */
    assert_string_equal(first, second);
    close(one);
    close(two);
    assert_int_equal(api_admin_token(state_dir, second, &two, &e), 0);
    close(two);
    assert_int_equal(strlen(second), 64);
    assert_string_not_equal(first, second);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    size_t len;
    assert_int_equal(path_read(path, 1000, &text, &len, &e), 0);
    assert_int_equal(len, 64);
    assert_string_equal(text, second);
    mem_free(text);
    char *lock = path_join(state_dir, "admin-token.lock");
    remove(path);
    remove(lock);
    remove(state_dir);
    remove(dir);
    mem_free(lock);
    mem_free(path);
    mem_free(state_dir);
}

static void test_request_ids_are_given_and_kept(void **state)
{
    struct rig *rig = *state;
    struct reply r = rig_call(rig, "/health", NULL, "x-request-id: my-id.7");
    assert_non_null(strstr(r.headers, "x-request-id: my-id.7\r\n"));
    reply_free(&r);
    r = rig_call(rig, "/health", NULL, "x-request-id: <script>");
    assert_non_null(strstr(r.headers, "x-request-id: req-"));
    reply_free(&r);
}

/* ---- refusals ---- */

struct refusal_row {
    const char *body;
    int status;
    const char *param; /* NULL: null */
    const char *part;  /* of the message */
};

static void assert_refused(void **state, const char *path, const struct refusal_row *row)
{
    struct reply r = call(state, path, row->body);
    const char *message = reply_text(&r, "error.message"), *param = reply_text(&r, "error.param");
    if (r.status != row->status || message == NULL || strstr(message, row->part) == NULL ||
        (row->param == NULL ? param != NULL : param == NULL || strcmp(param, row->param) != 0))
        fail_msg("%s\nwas answered %d\n%s", row->body, r.status, r.body);
    assert_non_null(reply_text(&r, "error.type"));
    assert_non_null(reply_at(&r, "error.code"));
    reply_free(&r);
}

static void test_bad_json_is_refused(void **state)
{
    static const struct refusal_row rows[] = {
        { "", 400, NULL, "no body" },
        { "{", 400, NULL, "not valid JSON" },
        { "[]", 400, NULL, "must be a JSON object" },
        { "\"x\"", 400, NULL, "JSON" },
        { "{} {}", 400, NULL, "not valid JSON" },
        { "\xef\xbb\xbf{}", 400, NULL, "not valid JSON" },
        { "{\"n\":1,\"n\":2}", 400, NULL, "duplicate" },
        { "{\"n\":NaN}", 400, NULL, "not valid JSON" },
        { "{\"n\":1e999}", 400, NULL, "not valid JSON" },
        { "{\"n\":99999999999999999999}", 400, NULL, "not valid JSON" },
        { "{\"model\":\"\xff\"}", 400, NULL, "not valid JSON" },
        { "{\"model\":\"\\ud800\"}", 400, NULL, "not valid JSON" },
        { "{\"model\":\"\\u0000\"}", 400, NULL, "not valid JSON" },
        { "{\"a\":'x'}", 400, NULL, "not valid JSON" },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++)
        assert_refused(state, CHAT, &rows[i]);
}

#define TOOL "{\"type\":\"function\",\"function\":{\"name\":\"get_time\",\"parameters\":{\"type\":\"object\"}}}"

/* What the demo model's template makes of a conversation, whole or in part. */
static void test_templates_are_applied(void **state)
{
    static const char open[] = "<|im_start|>assistant\n";
    static const struct {
        const char *body, *want;
        bool opens;
    } rows[] = {
        { "{" HELLO "}", "<|im_start|>user\nHello!<|im_end|>\n", true },
        { "{" HELLO ",\"add_generation_prompt\":false}", "<|im_start|>user\nHello!<|im_end|>\n", false },
        { "{" HELLO ",\"tools\":[" TOOL "]}", "{\"type\": \"function\", \"function\": {\"name\": \"get_time\", "
          "\"parameters\": {\"type\": \"object\"}}}\n</tools>", true },
        { "{" HELLO ",\"tools\":[" TOOL "],\"tool_choice\":\"none\"}", "<|im_start|>user\nHello!<|im_end|>\n", true },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"Time?\"},{\"role\":\"assistant\",\"content\":null,"
          "\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"get_time\",\"arguments\":"
          "\"{\\\"city\\\":\\\"Oslo\\\"}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"12:00\"}]}",
          "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>", true },
        { "{" HELLO ",\"chat_template_kwargs\":{\"messages\":[]},\"reasoning_effort\":\"none\"}", "Hello!", true },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = call(state, "/apply-template", rows[i].body);
        assert_int_equal(r.status, 200);
        const char *prompt = reply_text(&r, "prompt");
        size_t n = strlen(prompt);
        assert_non_null(strstr(prompt, rows[i].want));
        assert_int_equal(n > strlen(open) && strcmp(prompt + n - strlen(open), open) == 0, rows[i].opens);
        reply_free(&r);
    }
    rig_say(*state, "Hi", NULL);
    struct reply r = call(state, CHAT, rows[2].body);
    assert_int_equal(r.status, 200);
    reply_free(&r);
}

#define DEEP_16 "[[[[[[[[[[[[[[[["

static const struct refusal_row bad_chat_fields[] = {
    { "{}", 400, "messages", "at least one message" },
    { "{\"messages\":[]}", 400, "messages", "at least one message" },
    { "{\"messages\":\"hi\"}", 400, "messages", "list" },
    { "{\"messages\":[5]}", 400, "messages[0]", "object" },
    { "{\"messages\":[{\"content\":\"x\"}]}", 400, "messages[0]", "role" },
    { "{\"messages\":[{\"role\":\"emperor\",\"content\":\"x\"}]}", 400, "messages[0]", "role" },
    { "{\"messages\":[{\"role\":\"user\"}]}", 400, "messages[0]", "content" },
    { "{\"messages\":[{\"role\":\"user\",\"content\":null}]}", 400, "messages[0]", "content" },
    { "{\"messages\":[{\"role\":\"user\",\"content\":7}]}", 400, "messages[0]", "content" },
    { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
      "\"http://169.254.169.254/\"}}]}]}", 400, "messages[0]", "text" },
    { "{" HELLO ",\"model\":\"gpt-9\"}", 404, "model", "does not exist" },
    { "{" HELLO ",\"model\":7}", 400, "model", "string" },
    { "{" HELLO ",\"max_tokens\":0}", 400, "max_tokens", "at least 1" },
    { "{" HELLO ",\"max_tokens\":-2}", 400, "max_tokens", "at least -1 and at most 16777216" },
    { "{" HELLO ",\"max_completion_tokens\":0}", 400, "max_tokens", "at least 1" },
    { "{" HELLO ",\"max_tokens\":1e15}", 400, "max_tokens", "at most 16777216" },
    { "{" HELLO ",\"n_predict\":\"5\"}", 400, "n_predict", "integer" },
    { "{" HELLO ",\"max_tokens\":1.5}", 400, "max_tokens", "integer" },
    { "{" HELLO ",\"max_tokens\":\"5\"}", 400, "max_tokens", "integer" },
    { "{" HELLO ",\"max_tokens\":9223372036854775807}", 400, "max_tokens", "at most" },
    { "{" HELLO ",\"n\":0}", 400, "n", "at least 1" },
    { "{" HELLO ",\"n\":1000000}", 400, "n", "at most 64" },
    { "{" HELLO ",\"temperature\":-0.1}", 400, "temperature", "at least 0" },
    { "{" HELLO ",\"temperature\":1e308}", 400, "temperature", "at most 2" },
    { "{" HELLO ",\"temperature\":\"hot\"}", 400, "temperature", "number" },
    { "{" HELLO ",\"top_p\":0}", 400, "top_p", "greater than 0" },
    { "{" HELLO ",\"top_p\":2}", 400, "top_p", "at most 1" },
    { "{" HELLO ",\"top_k\":-2}", 400, "top_k", "at least -1" },
    { "{" HELLO ",\"min_p\":1.1}", 400, "min_p", "at most 1" },
    { "{" HELLO ",\"seed\":1.5}", 400, "seed", "integer" },
    { "{" HELLO ",\"seed\":9.25e18}", 400, "seed", "at most" },
    { "{" HELLO ",\"presence_penalty\":2.1}", 400, "presence_penalty", "at most 2" },
    { "{" HELLO ",\"stream\":\"yes\"}", 400, "stream", "true or false" },
    { "{" HELLO ",\"stream\":1}", 400, "stream", "true or false" },
    { "{" HELLO ",\"stream_options\":{\"include_usage\":true}}", 400, "stream_options", "stream is true" },
    { "{" HELLO ",\"stream\":true,\"stream_options\":{\"include_usage\":3}}", 400, "stream_options", "true or" },
    { "{" HELLO ",\"logprobs\":5}", 400, "logprobs", "true or false" },
    { "{" HELLO ",\"top_logprobs\":5}", 400, "top_logprobs", "logprobs is true" },
    { "{" HELLO ",\"logprobs\":true,\"top_logprobs\":21}", 400, "top_logprobs", "at most 20" },
    { "{" HELLO ",\"stop\":\"\"}", 400, "stop", "1 to" },
    { "{" HELLO ",\"stop\":[\"a\",5]}", 400, "stop", "string" },
    { "{" HELLO ",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\",\"j\",\"k\",\"l\",\"m\",\"n\","
      "\"o\",\"p\",\"q\"]}", 400, "stop", "at most 16" },
    { "{" HELLO ",\"logit_bias\":[1]}", 400, "logit_bias", "object" },
    { "{" HELLO ",\"logit_bias\":{\"2048\":1}}", 400, "logit_bias", "no token id" },
    { "{" HELLO ",\"logit_bias\":{\"-1\":1}}", 400, "logit_bias", "no token id" },
    { "{" HELLO ",\"logit_bias\":{\"1\":101}}", 400, "logit_bias", "-100 to 100" },
    { "{" HELLO ",\"logit_bias\":{\"1\":null}}", 400, "logit_bias", "-100 to 100" },
    { "{" HELLO ",\"logit_bias\":{\"1\":true}}", 400, "logit_bias", "-100 to 100" },
    { "{" HELLO ",\"logit_bias\":[[1]]}", 400, "logit_bias", "pairs" },
    { "{" HELLO ",\"logit_bias\":[[2048,1]]}", 400, "logit_bias", "no token id" },
    { "{" HELLO ",\"logit_bias\":[[\"Paris\",\"1\"]]}", 400, "logit_bias", "-100 to 100" },
    { "{" HELLO ",\"logit_bias\":7}", 400, "logit_bias", "object" },
    { "{" HELLO ",\"tools\":[{\"type\":\"function\"}]}", 400, "tools", "tools[0] must be" },
    { "{" HELLO ",\"response_format\":{}}", 400, "response_format", "an object with a type" },
    { "{" HELLO ",\"response_format\":{\"type\":\"xml\"}}", 400, "response_format", "type is \"xml" },
    { "{" HELLO ",\"response_format\":{\"type\":\"json_schema\"}}", 400, "response_format", "schema is needed" },
    { "{" HELLO ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":"
      "{\"type\":\"array\",\"contains\":{}}}}}", 400, "response_format", "\"contains\" is not supported" },
    { "{" HELLO ",\"grammar\":\"root ::= x\"}", 400, "grammar", "\"x\" is not defined" },
    { "{" HELLO ",\"guided_regex\":\"(?=a)\"}", 400, "guided_regex", "lookaround" },
    { "{" HELLO ",\"guided_regex\":3}", 400, "guided_regex", "must be a string" },
    { "{" HELLO ",\"guided_choice\":[]}", 400, "guided_choice", "list of strings" },
    { "{" HELLO ",\"guided_choice\":[\"a\",1]}", 400, "guided_choice", "list of strings" },
    { "{" HELLO ",\"guided_json\":\"{\"}", 400, "guided_json", "not valid JSON" },
    { "{" HELLO ",\"guided_json\":\"" DEEP_16 DEEP_16 DEEP_16 DEEP_16 "[\"}", 400, "guided_json", "nested deeper" },
    { "{" HELLO ",\"guided_json\":{\"type\":\"x\"}}", 400, "guided_json", "which is none" },
    { "{" HELLO ",\"guided_regex\":\"a\",\"grammar\":\"root ::= [a]\"}", 400, "guided_regex", "one can" },
    { "{" HELLO ",\"structured_outputs\":{\"structural_tag\":\"x\"}}", 400, "structured_outputs",
      "structural_tag is not supported" },
    { "{" HELLO ",\"structured_outputs\":{\"json_object\":3}}", 400, "json_object", "true or false" },
    { "{" HELLO ",\"tools\":{}}", 400, "tools", "list" },
    { "{" HELLO ",\"tools\":[" TOOL "],\"tool_choice\":{}}", 400, "tool_choice", "function" },
    { "{" HELLO ",\"chat_template_kwargs\":[]}", 400, "chat_template_kwargs", "object" },
    { "{" HELLO ",\"chat_template_kwargs\":[],\"reasoning_effort\":\"low\"}", 400, "chat_template_kwargs", "object" },
    { "{" HELLO ",\"reasoning_effort\":5}", 400, "reasoning_effort", "string" },
    { "{" HELLO ",\"documents\":\"x\"}", 400, "documents", "list" },
    { "{" HELLO ",\"add_generation_prompt\":1}", 400, "add_generation_prompt", "true or false" },
    { "{" HELLO ",\"continue_final_message\":1}", 400, "continue_final_message", "true or false" },
    { "{" HELLO ",\"continue_final_message\":true}", 400, "messages", "must be an assistant's" },
    { "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"continue_final_message\":true,"
      "\"add_generation_prompt\":true}", 400, "continue_final_message", "both" },
    { "{\"messages\":[{\"role\":\"assistant\",\"content\":null}],\"continue_final_message\":true}", 400, "messages",
      "must be text" },
    { "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"continue_final_message\":true}", 400, "messages",
      "at least one message" },
    { "{" HELLO ",\"functions\":[{\"name\":\"f\"}]}", 400, "functions", "not supported" },
    { "{" HELLO ",\"max_tokens\":5000}", 400, "messages", "maximum context length is 2048 tokens" },
};

static void test_bad_chat_fields_are_named(void **state)
{
    for (size_t i = 0; i < COUNTOF(bad_chat_fields); i++)
        assert_refused(state, CHAT, &bad_chat_fields[i]);
    assert_int_equal(fake_engine_submitted(((struct rig *)*state)->engine), 0);
}

static bool takes(struct grammar *g, const char *text)
{
    struct matcher *m = matcher_create(g);
    bool whole = matcher_accept_text(m, text, strlen(text), NULL) == 0 && matcher_may_end(m);
    matcher_destroy(&m);
    return whole;
}

/* Every name of a form of the answer gives the engine a grammar that means it. */
static void test_forms_of_the_answer_reach_the_engine(void **state)
{
    static const struct {
        const char *fields, *good, *bad;
    } rows[] = {
        { "\"response_format\":{\"type\":\"json_object\"}", "{\"a\":[1]}", "[1]" },
        { "\"response_format\":{\"type\":\"json_object\",\"schema\":{\"type\":\"null\"}}", "null", "{}" },
        { "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\",\"strict\":true,\"schema\":"
          "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"],"
          "\"additionalProperties\":false}}}", "{\"n\": 3}", "{\"m\": 3}" },
        { "\"response_format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"null\"}}", "null", "{}" },
        { "\"grammar\":\"root ::= [a-c]+\"", "abc", "abd" },
        { "\"guided_grammar\":\"root ::= [a-c]+\"", "abc", "" },
        { "\"guided_regex\":\"a|bc\"", "bc", "b" },
        { "\"guided_choice\":[\"yes\",\"no\"]", "no", "n" },
        { "\"guided_json\":{\"type\":\"boolean\"}", "true", "1" },
        { "\"guided_json\":\"{\\\"type\\\":\\\"boolean\\\"}\"", "true", "1" },
        { "\"json_schema\":{\"const\":5}", "5", "6" },
        { "\"structured_outputs\":{\"regex\":\"x{2}\",\"json\":null}", "xx", "x" },
        { "\"structured_outputs\":{\"choice\":[\"a\"]}", "a", "b" },
        { "\"structured_outputs\":{\"json_object\":true}", "{}", "[]" },
    };
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    for (uint32_t i = 0; i < 2 * COUNTOF(rows); i++) { /* the second time they are remembered */
        char *body = mem_printf("{" HELLO ",%s,\"ignore_eos\":true}", rows[i % COUNTOF(rows)].fields);
        struct reply r = call(state, CHAT, body);
        if (r.status != 200)
            fail_msg("%s: %s", body, r.body);
        struct fake_seen seen;
        fake_engine_seen(rig->engine, i, &seen);
        assert_non_null(seen.grammar);
        assert_true(takes(seen.grammar, rows[i % COUNTOF(rows)].good));
        assert_false(takes(seen.grammar, rows[i % COUNTOF(rows)].bad));
        assert_true(seen.n_end_tokens > 0); /* a grammar ends, whatever ignore_eos says */
        mem_free(body);
        reply_free(&r);
    }
    struct reply r = call(state, CHAT, "{" HELLO ",\"response_format\":{\"type\":\"text\"},\"grammar\":null}");
    struct fake_seen seen;
    assert_int_equal(r.status, 200);
    fake_engine_seen(rig->engine, 2 * COUNTOF(rows), &seen);
    assert_null(seen.grammar);
    reply_free(&r);
}

static void test_bad_completion_fields_are_named(void **state)
{
    static const struct refusal_row rows[] = {
        { "{}", 400, "prompt", "needed" },
        { "{\"prompt\":[]}", 400, "prompt", "needed" },
        { "{\"prompt\":\"\"}", 400, "prompt", "no tokens" },
        { "{\"prompt\":{}}", 400, "prompt", "must be" },
        { "{\"prompt\":[[]]}", 400, "prompt", "no tokens" },
        { "{\"prompt\":[1,\"a\"]}", 400, "prompt", "entry 1" },
        { "{\"prompt\":[[1],[2048]]}", 400, "prompt", "0 to 2047" },
        { "{\"prompt\":[-1]}", 400, "prompt", "entry 0" },
        { "{\"prompt\":[1.5]}", 400, "prompt", "entry 0" },
        { "{\"prompt\":[\"a\",\"b\"],\"n\":33}", 400, "prompt", "at most 64" },
        { "{\"prompt\":\"a\",\"logprobs\":21}", 400, "logprobs", "at most 20" },
        { "{\"prompt\":\"a\",\"suffix\":\"b\"}", 400, "suffix", "not supported" },
        { "{\"prompt\":\"a\",\"suffix\":5}", 400, "suffix", "string" },
        { "{\"prompt\":\"a\",\"n\":2,\"best_of\":1}", 400, "best_of", "at least n" },
        { "{\"prompt\":\"a\",\"best_of\":2,\"stream\":true}", 400, "best_of", "stream" },
        { "{\"prompt\":[\"a\",\"b\"],\"best_of\":33}", 400, "prompt", "at most 64" },
        { "{\"prompt\":\"a\",\"echo\":\"b\"}", 400, "echo", "true or false" },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++)
        assert_refused(state, COMPLETE, &rows[i]);
}

static void test_a_prompt_must_fit_the_context(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "x", NULL);
    fake_control_limits(rig->control, 10, 0);
    static const struct {
        const char *body;
        int status;
    } rows[] = {
        { "{\"prompt\":[1,2,3,4,5,6,7,8,9]}", 200 },
        { "{\"prompt\":[1,2,3,4,5,6,7,8,9,10]}", 400 },
        { "{\"prompt\":[1,2,3,4,5,6,7,8,9,10,11]}", 400 },
        { "{\"prompt\":[1,2,3,4],\"max_tokens\":6}", 200 },
        { "{\"prompt\":[1,2,3,4],\"max_tokens\":7}", 400 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = call(state, COMPLETE, rows[i].body);
        assert_int_equal(r.status, rows[i].status);
        if (r.status == 400)
            assert_text(&r, "error.code", "context_length_exceeded");
        reply_free(&r);
    }
    /* Where the KV cache holds less than the context, it is the limit. */
    fake_control_limits(rig->control, 1000, 6);
    struct reply r = call(state, COMPLETE, "{\"prompt\":[1,2,3,4]}");
    assert_int_equal(r.status, 200);
    reply_free(&r);
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 2, &seen);
    assert_int_equal(seen.max_tokens, 2);
    r = call(state, COMPLETE, "{\"prompt\":[1,2,3,4],\"max_tokens\":3}");
    assert_text(&r, "error.code", "context_length_exceeded");
    reply_free(&r);
}

static void test_the_engines_refusals_have_their_status(void **state)
{
    static const struct {
        struct fake_script script;
        int status;
        const char *type, *header;
    } rows[] = {
        { { .submit_status = ERR_BUSY, .error.text = "why" }, 429, "rate_limit_error", "Retry-After: 1\r\n" },
        { { .submit_status = ERR_UNAVAILABLE, .error.text = "why" }, 503, "unavailable_error", "Retry-After: 1\r\n" },
        { { .submit_status = ERR_LIMIT, .error.text = "why" }, 400, "invalid_request_error", "" },
        { { .fail_at_once = true, .error = { ERR_GONE, "why" } }, 503, "unavailable_error", "" },
        { { .fail_at_once = true, .error = { ERR_INTERNAL, "why" } }, 500, "server_error", "x-should-retry: false" },
        { { .fail_after = 2, .error = { ERR_TIMEOUT, "why" } }, 504, "server_error", "" },
    };
    struct rig *rig = *state;
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        rig_say(rig, "one two three", &rows[i].script);
        struct reply r = call(state, CHAT, "{" HELLO ",\"n\":2}");
        assert_int_equal(r.status, rows[i].status);
        assert_text(&r, "error.type", rows[i].type);
        assert_text(&r, "error.message", "why");
        assert_non_null(strstr(r.headers, rows[i].header));
        reply_free(&r);
    }
    /* A stream that fails before its first token has that status as well. */
    rig_say(rig, "x", &rows[3].script);
    struct reply r = call(state, CHAT, "{" HELLO ",\"stream\":true}");
    assert_int_equal(r.status, 503);
    reply_free(&r);
}

static void test_errors_of_the_server_are_openais(void **state)
{
    struct reply r = call(state, "/v1/nothing", NULL);
    assert_int_equal(r.status, 404);
    assert_text(&r, "error.type", "not_found_error");
    reply_free(&r);
    r = call(state, CHAT, NULL);
    assert_int_equal(r.status, 405);
    assert_text(&r, "error.type", "invalid_request_error");
    assert_non_null(strstr(r.headers, "Allow: POST"));
    reply_free(&r);
}

/* ---- size ---- */

static char *repeat(const char *head, const char *part, size_t n, const char *tail)
{
    struct buffer b;
    buffer_init(&b, 64 << 20);
    buffer_add_text(&b, head);
    for (size_t i = 0; i < n; i++)
        buffer_add_text(&b, part);
    buffer_add_text(&b, tail);
    return buffer_take(&b, NULL);
}

static void test_huge_requests_are_refused(void **state)
{
    static const struct {
        const char *head, *part, *tail;
        size_t n;
        int status;
    } rows[] = {
        { "{\"prompt\":\"", "aaaaaaaaaaaaaaaa", "\"}", (API_BODY_MAX >> 4) + 1, 413 },
        { "{\"prompt\":", "[", "", 100000, 400 },
        { "{\"x\":", "{\"x\":", "", 100000, 400 },
        { "{\"prompt\":[0", ",0", "]}", API_JSON_VALUES_MAX + 1, 400 },
        { "{\"prompt\":\"", "all of it ", "\"}", 100000, 400 },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"", "<|im_end|>", "\"}]}", 100000, 400 },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}", ",{\"role\":\"user\",\"content\":\"\"}", "]}", 100000,
          400 },
        { "{\"prompt\":\"x\",\"logit_bias\":{\"0\":1", ",\"1\":1", "}}", 10, 400 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char *body = repeat(rows[i].head, rows[i].part, rows[i].n, rows[i].tail);
        bool chat = strncmp(body, "{\"messages", 10) == 0;
        struct reply r = call(state, chat ? CHAT : COMPLETE, body);
        if (r.status != rows[i].status)
            fail_msg("row %zu: %d %s", i, r.status, r.body);
        assert_non_null(reply_text(&r, "error.message"));
        reply_free(&r);
        mem_free(body);
    }
}

/* A model's id chooses the adapter, at every door. */
static void test_models_with_adapters_are_models(void **state)
{
    static const struct {
        const char *id;
        uint32_t adapter;
    } rows[] = {{"org/demo:q8", 0}, {"org/demo:q8:poet", 1}, {"org/demo:q8:clerk", 2}};
    struct rig *rig = *state;
    struct fake_seen seen;
    for (uint32_t i = 0; i < COUNTOF(rows); i++) {
        char body[256];
        rig_say(rig, "Hi", NULL);
        snprintf(body, sizeof(body), "{\"model\":\"%s\"," HELLO "}", rows[i].id);
        struct reply r = call(state, CHAT, body);
        assert_text(&r, "model", rows[i].id);
        reply_free(&r);
        fake_engine_seen(rig->engine, 2 * i, &seen);
        assert_int_equal(seen.adapter, rows[i].adapter);
        snprintf(body, sizeof(body), "{\"model\":\"%s\",\"tokens\":[1]}", rows[i].id);
        r = call(state, "/shoal/logits", body);
        assert_int_equal(r.status, 200);
        reply_free(&r);
        fake_engine_seen(rig->engine, 2 * i + 1, &seen);
        assert_int_equal(seen.adapter, rows[i].adapter);
    }
    struct reply r = call(state, CHAT, "{\"model\":\"org/demo:q8:other\"," HELLO "}");
    assert_int_equal(r.status, 404);
    assert_text(&r, "error.code", "model_not_found");
    reply_free(&r);
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        WITH_RIG(test_chat_answers_as_openai_does),
        WITH_RIG(test_models_with_adapters_are_models),
        WITH_RIG(test_parameters_reach_the_sampler),
        WITH_RIG(test_defaults_are_openais),
        WITH_RIG(test_content_may_be_parts_or_null),
        WITH_RIG(test_max_tokens_ends_with_length),
        WITH_RIG(test_n_choices_come_back_in_order),
        WITH_RIG(test_stop_strings_end_across_tokens),
        WITH_RIG(test_chat_logprobs),
        WITH_RIG(test_completions_take_every_kind_of_prompt),
        WITH_RIG(test_completion_logprobs_and_echo),
        WITH_RIG(test_models),
        WITH_RIG(test_health_metrics_status),
        WITH_RIG(test_logits_are_raw_rows),
        WITH_RIG(test_operators_endpoints_need_the_token),
        WITH_RIG(test_other_names_need_a_key),
        cmocka_unit_test_setup_teardown(test_an_api_key_locks_the_api, rig_start_with_key, rig_stop),
        cmocka_unit_test(test_the_admin_token_is_private_and_new),
        WITH_RIG(test_request_ids_are_given_and_kept),
        WITH_RIG(test_bad_json_is_refused),
        WITH_RIG(test_templates_are_applied),
        WITH_RIG(test_bad_chat_fields_are_named),
        WITH_RIG(test_forms_of_the_answer_reach_the_engine),
        WITH_RIG(test_bad_completion_fields_are_named),
        WITH_RIG(test_a_prompt_must_fit_the_context),
        WITH_RIG(test_the_engines_refusals_have_their_status),
        WITH_RIG(test_errors_of_the_server_are_openais),
        WITH_RIG(test_huge_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
