/* test_api_stream: server-sent events to the byte, and clients that dawdle, vanish, or close half. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tests/coordinator/api_rig.h"

#define CHAT "/v1/chat/completions"
#define COMPLETE "/v1/completions"
#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]"

enum { PATIENCE_MS = 20000, EVENTS_MAX = 200 };

/* The events of a stream, parsed; the framing is checked on the way. */
struct events {
    json_t *list[EVENTS_MAX];
    size_t n;
    bool done; /* ended with [DONE] */
    size_t pings;
};

static void read_events(struct events *out, const char *body)
{
    memset(out, 0, sizeof(*out));
    while (*body != '\0') {
        const char *end = strstr(body, "\n\n");
        assert_non_null(end); /* no event without its end */
        assert_false(out->done); /* nothing after [DONE] */
        size_t n = (size_t)(end - body);
        if (n == 1 && body[0] == ':') {
            out->pings++;
        } else {
            assert_true(n > 6 && memcmp(body, "data: ", 6) == 0);
            assert_null(memchr(body, '\n', n));
            out->done = n == 12 && memcmp(body, "data: [DONE]", 12) == 0;
            if (!out->done) {
                assert_true(out->n < EVENTS_MAX);
                out->list[out->n] = json_loadb(body + 6, n - 6, JSON_REJECT_DUPLICATES, NULL);
                assert_non_null(out->list[out->n++]);
            }
        }
        body = end + 2;
    }
}

static void events_free(struct events *e)
{
    for (size_t i = 0; i < e->n; i++)
        json_decref(e->list[i]);
}

static json_t *choice_of(const struct events *e, size_t i)
{
    return json_array_get(json_object_get(e->list[i], "choices"), 0);
}

static const char *delta_of(const struct events *e, size_t i)
{
    return json_string_value(json_object_get(json_object_get(choice_of(e, i), "delta"), "content"));
}

/* The body with the id and the times, which differ, replaced. Caller frees. */
static char *masked(const char *body)
{
    struct buffer out;
    buffer_init(&out, 1 << 20);
    for (const char *p = body; *p != '\0';) {
        static const struct {
            const char *key;
            const char *until;
        } rows[] = { { "\"id\":\"", "\"" }, { "\"created\":", "," }, { "\"system_fingerprint\":\"", "\"" } };
        size_t skip = 0;
        for (size_t i = 0; i < COUNTOF(rows) && skip == 0; i++) {
            size_t n = strlen(rows[i].key);
            if (strncmp(p, rows[i].key, n) == 0) {
                buffer_add_text(&out, rows[i].key);
                buffer_add_text(&out, "*");
                skip = n + strcspn(p + n, rows[i].until);
            }
        }
        if (skip == 0) {
            buffer_add(&out, p, 1);
            skip = 1;
        }
        p += skip;
    }
    return buffer_take(&out, NULL);
}

#define CHUNK(choices) "data: {\"id\":\"*\",\"object\":\"chat.completion.chunk\",\"created\":*," \
    "\"model\":\"org/demo:q8\",\"system_fingerprint\":\"*\",\"choices\":" choices "}\n\n"
#define TEXT_CHUNK(choices) "data: {\"id\":\"*\",\"object\":\"text_completion\",\"created\":*," \
    "\"model\":\"org/demo:q8\",\"system_fingerprint\":\"*\",\"choices\":" choices "}\n\n"

static void assert_stream(struct rig *rig, const char *path, const char *body, const char *expected)
{
    struct reply r = rig_call(rig, path, body, NULL);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.headers, "Content-Type: text/event-stream\r\n"));
    assert_non_null(strstr(r.headers, "Cache-Control: no-cache\r\n"));
    char *text = masked(r.body);
    assert_string_equal(text, expected);
    mem_free(text);
    reply_free(&r);
}

/* A script whose tokens are whole characters of one byte each, so that chunks are known. */
static void say_bytes(struct rig *rig, const char *text)
{
    struct fake_script s = { 0 };
    for (; *text != '\0'; text++)
        s.tokens[s.n++] = tokenizer_find(rig->tokenizer, text, 1);
    s.tokens[s.n++] = rig_end_token(rig);
    fake_engine_script(rig->engine, &s);
}

static void test_a_chat_stream_to_the_byte(void **state)
{
    say_bytes(*state, "Hi");
    assert_stream(*state, CHAT, "{" HELLO ",\"stream\":true}",
        CHUNK("[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
              "\"logprobs\":null,\"finish_reason\":null}]")
        CHUNK("[{\"index\":0,\"delta\":{\"content\":\"H\"},\"logprobs\":null,\"finish_reason\":null}]")
        CHUNK("[{\"index\":0,\"delta\":{\"content\":\"i\"},\"logprobs\":null,\"finish_reason\":null}]")
        CHUNK("[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]")
        "data: [DONE]\n\n");
}

static void test_a_completion_stream_to_the_byte(void **state)
{
    say_bytes(*state, "Hi");
    assert_stream(*state, COMPLETE, "{\"prompt\":\"x\",\"stream\":true,\"echo\":true,\"max_tokens\":2}",
        TEXT_CHUNK("[{\"index\":0,\"text\":\"x\",\"logprobs\":null,\"finish_reason\":null}]")
        TEXT_CHUNK("[{\"index\":0,\"text\":\"H\",\"logprobs\":null,\"finish_reason\":null}]")
        TEXT_CHUNK("[{\"index\":0,\"text\":\"i\",\"logprobs\":null,\"finish_reason\":null}]")
        TEXT_CHUNK("[{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}]")
        "data: [DONE]\n\n");
}

static void test_usage_comes_last_when_asked_for(void **state)
{
    say_bytes(*state, "Hi");
    const char *body = "{" HELLO ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
    struct reply r = rig_call(*state, CHAT, body, NULL);
    struct events e;
    read_events(&e, r.body);
    assert_true(e.done);
    assert_int_equal(e.n, 5);
    for (size_t i = 0; i + 1 < e.n; i++)
        assert_true(json_is_null(json_object_get(e.list[i], "usage")));
    json_t *usage = json_object_get(e.list[4], "usage");
    assert_int_equal(json_array_size(json_object_get(e.list[4], "choices")), 0);
    assert_true(json_is_array(json_object_get(e.list[4], "choices")));
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 3);
    events_free(&e);
    reply_free(&r);
}

static void test_choices_of_a_stream_are_told_apart(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "The capital of France is Paris.", NULL);
    struct reply r = rig_call(rig, CHAT, "{" HELLO ",\"stream\":true,\"n\":3,\"stop\":\"is Paris\"}", NULL);
    struct events e;
    read_events(&e, r.body);
    assert_true(e.done);
    char text[3][200] = { "", "", "" };
    int roles[3] = { 0 }, ends[3] = { 0 };
    for (size_t i = 0; i < e.n; i++) {
        assert_string_equal(json_string_value(json_object_get(e.list[i], "id")),
                            json_string_value(json_object_get(e.list[0], "id")));
        size_t at = (size_t)json_integer_value(json_object_get(choice_of(&e, i), "index"));
        assert_true(at < 3);
        json_t *delta = json_object_get(choice_of(&e, i), "delta");
        roles[at] += json_object_get(delta, "role") != NULL;
        ends[at] += json_is_string(json_object_get(choice_of(&e, i), "finish_reason"));
        assert_true(json_object_get(choice_of(&e, i), "finish_reason") != NULL);
        if (delta_of(&e, i) != NULL)
            strncat(text[at], delta_of(&e, i), 100);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(roles[i], 1);
        assert_int_equal(ends[i], 1);
        assert_string_equal(text[i], "The capital of France ");
    }
    events_free(&e);
    reply_free(&r);
}

/* Text that a stop string holds back keeps its log-probabilities with it; every token is told once. */
static void test_logprobs_travel_with_their_text(void **state)
{
    say_bytes(*state, "abcabd.");
    struct reply r = rig_call(*state, CHAT, "{" HELLO ",\"stream\":true,\"logprobs\":true,\"stop\":\"abd\"}", NULL);
    struct events e;
    read_events(&e, r.body);
    char text[100] = "", tokens[100] = "";
    for (size_t i = 0; i < e.n; i++) {
        json_t *content = json_object_get(json_object_get(choice_of(&e, i), "logprobs"), "content");
        size_t k;
        json_t *token;
        json_array_foreach(content, k, token)
            strncat(tokens, json_string_value(json_object_get(token, "token")), 8);
        if (delta_of(&e, i) != NULL)
            strncat(text, delta_of(&e, i), 50);
        assert_memory_equal(text, tokens, strlen(text));
    }
    assert_string_equal(text, "abc");
    assert_string_equal(tokens, "abc");
    events_free(&e);
    reply_free(&r);
}

static void test_no_half_character_is_sent(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "caf\xc3\xa9 \xf0\x9f\x90\x9f \xe6\x97\xa5", NULL);
    struct reply r = rig_call(rig, CHAT, "{" HELLO ",\"stream\":true}", NULL);
    struct events e;
    read_events(&e, r.body);
    char text[200] = "";
    for (size_t i = 0; i < e.n; i++)
        if (delta_of(&e, i) != NULL)
            strncat(text, delta_of(&e, i), 100);
    assert_string_equal(text, "caf\xc3\xa9 \xf0\x9f\x90\x9f \xe6\x97\xa5");
    assert_null(strstr(r.body, "\xef\xbf\xbd"));
    events_free(&e);
    reply_free(&r);
}

static void test_a_failure_in_a_stream_is_an_error_event(void **state)
{
    struct rig *rig = *state;
    struct fake_script s = { .fail_after = 2, .error = { ERR_GONE, "node b is gone" } };
    rig_say(rig, "The capital of France", &s);
    struct reply r = rig_call(rig, CHAT, "{" HELLO ",\"stream\":true}", NULL);
    assert_int_equal(r.status, 200);
    struct events e;
    read_events(&e, r.body);
    assert_false(e.done);
    json_t *error = json_object_get(e.list[e.n - 1], "error");
    assert_string_equal(json_string_value(json_object_get(error, "message")), "node b is gone");
    for (size_t i = 0; i + 1 < e.n; i++)
        assert_null(json_object_get(e.list[i], "error"));
    events_free(&e);
    reply_free(&r);
}

static void test_a_silent_stream_pings(void **state)
{
    struct rig *rig = *state;
    struct fake_script s = { .token_ms = 900 };
    rig_say(rig, "Hi", &s);
    struct reply r = rig_call(rig, CHAT, "{" HELLO ",\"stream\":true,\"max_tokens\":2,\"ignore_eos\":true}", NULL);
    struct events e;
    read_events(&e, r.body);
    assert_true(e.done);
    assert_true(e.pings > 0);
    events_free(&e);
    reply_free(&r);
}

/* ---- clients that leave ---- */

static void wait_until(uint32_t (*count)(struct engine *), struct engine *en, uint32_t value)
{
    for (int i = 0; i < PATIENCE_MS / 5 && count(en) != value; i++)
        clock_sleep_ms(5);
    assert_int_equal(count(en), value);
}

static void test_a_client_that_leaves_cancels(void **state)
{
    static const struct {
        const char *path, *body;
        uint32_t token_ms, requests;
        bool reset; /* with a reset, else with an orderly close */
    } rows[] = {
        { CHAT, "{" HELLO ",\"stream\":true}", 5, 1, false },
        { CHAT, "{" HELLO ",\"stream\":true}", 5, 1, true },
        { CHAT, "{" HELLO ",\"stream\":true,\"n\":3}", 5, 3, false },
        { CHAT, "{" HELLO ",\"stream\":true}", 3600 * 1000, 1, false }, /* before the first token */
        { CHAT, "{" HELLO ",\"stream\":true}", 3600 * 1000, 1, true },
        { CHAT, "{" HELLO "}", 5, 1, false },
        { CHAT, "{" HELLO ",\"n\":2}", 3600 * 1000, 2, true },
        { COMPLETE, "{\"prompt\":\"x\"}", 3600 * 1000, 1, false },
    };
    struct rig *rig = *state;
    uint32_t cancelled = 0;
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct fake_script s = { .endless = true, .token_ms = rows[i].token_ms };
        rig_say(rig, "on and on", &s);
        int fd = rig_post_raw(rig, rows[i].path, rows[i].body);
        assert_true(fd >= 0);
        wait_until(fake_engine_open, rig->engine, rows[i].requests);
        struct linger now = { .l_onoff = 1 };
        if (rows[i].reset)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close(fd);
        cancelled += rows[i].requests;
        wait_until(fake_engine_cancelled, rig->engine, cancelled);
        wait_until(fake_engine_open, rig->engine, 0);
    }
}

/* Everything that comes until the server closes. */
static size_t hear(int fd, char *out, size_t max)
{
    size_t n = 0;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    while (n + 1 < max && poll(&p, 1, PATIENCE_MS) > 0) {
        ssize_t got = recv(fd, out + n, max - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    out[n] = '\0';
    return n;
}

/* A client that has said all it will say, and reads on, gets its stream. */
static void test_a_half_closed_stream_goes_on(void **state)
{
    struct rig *rig = *state;
    struct fake_script s = { .token_ms = 60 };
    rig_say(rig, "The capital of France is Paris.", &s);
    int fd = rig_post_raw(rig, CHAT, "{" HELLO ",\"stream\":true}");
    shutdown(fd, SHUT_WR);
    char answer[16384];
    hear(fd, answer, sizeof(answer));
    assert_non_null(strstr(answer, "data: [DONE]\n\n"));
    assert_int_equal(fake_engine_cancelled(rig->engine), 0);
    close(fd);
}

static void test_a_slow_reader_holds_up_nobody(void **state)
{
    struct rig *rig = *state;
    struct fake_script s = { .endless = true };
    rig_say(rig, "on and on", &s);
    int slow = rig_post_raw(rig, CHAT, "{" HELLO ",\"stream\":true,\"logprobs\":true,\"top_logprobs\":20}");
    wait_until(fake_engine_open, rig->engine, 1);
    rig_say(rig, "Hi", NULL);
    for (int i = 0; i < 3; i++) {
        struct reply r = rig_call(rig, CHAT, "{" HELLO "}", NULL);
        assert_string_equal(reply_text(&r, "choices.0.message.content"), "Hi");
        reply_free(&r);
    }
    assert_int_equal(fake_engine_open(rig->engine), 1);
    close(slow);
    wait_until(fake_engine_open, rig->engine, 0);
}

static void test_a_stop_cancels_what_runs(void **state)
{
    struct rig *rig = *state;
    struct fake_script s = { .endless = true, .token_ms = 20 };
    rig_say(rig, "on and on", &s);
    int stream = rig_post_raw(rig, CHAT, "{" HELLO ",\"stream\":true}");
    int whole = rig_post_raw(rig, CHAT, "{" HELLO "}");
    wait_until(fake_engine_open, rig->engine, 2);
    api_stop(&rig->api);
    assert_int_equal(fake_engine_open(rig->engine), 0);
    assert_int_equal(fake_engine_cancelled(rig->engine), 2);
    close(stream);
    close(whole);
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        WITH_RIG(test_a_chat_stream_to_the_byte),
        WITH_RIG(test_a_completion_stream_to_the_byte),
        WITH_RIG(test_usage_comes_last_when_asked_for),
        WITH_RIG(test_choices_of_a_stream_are_told_apart),
        WITH_RIG(test_logprobs_travel_with_their_text),
        WITH_RIG(test_no_half_character_is_sent),
        WITH_RIG(test_a_failure_in_a_stream_is_an_error_event),
        WITH_RIG(test_a_silent_stream_pings),
        WITH_RIG(test_a_client_that_leaves_cancels),
        WITH_RIG(test_a_half_closed_stream_goes_on),
        WITH_RIG(test_a_slow_reader_holds_up_nobody),
        WITH_RIG(test_a_stop_cancels_what_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
