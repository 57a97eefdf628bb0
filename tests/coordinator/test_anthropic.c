/* test_anthropic: Anthropic's Messages API over a fake engine: messages, streams event by event, counts, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "coordinator/api/anthropic.h"
#include "tests/coordinator/api_rig.h"
#include "tests/coordinator/events.h"

#define MESSAGES "/v1/messages"
#define ASK "\"model\":\"org/demo:q8\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]"
#define SAID "The capital of France is Paris."
#define TOOLS "\"tools\":[{\"name\":\"get_time\",\"input_schema\":{\"type\":\"object\",\"properties\":{\"city\":" \
    "{\"type\":\"string\"}}}}]"
#define CALL "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>"

static json_t *ask(void **state, const char *path, const char *body)
{
    struct reply r = rig_call(*state, path, body, NULL);
    if (r.status != 200 || r.json == NULL)
        fail_msg("%d %s", r.status, r.body);
    json_t *j = json_incref(r.json);
    reply_free(&r);
    return j;
}

static json_t *stream_of(void **state, const char *body)
{
    struct reply r = rig_call(*state, MESSAGES, body, NULL);
    if (r.status != 200 || strstr(r.headers, "Content-Type: text/event-stream\r\n") == NULL)
        fail_msg("%d %s", r.status, r.body);
    json_t *events = events_of(r.body);
    reply_free(&r);
    return events;
}

static json_int_t number_at(const json_t *j, const char *path)
{
    return json_integer_value(value_at(j, path));
}

static const char *string_at(const json_t *j, const char *path)
{
    return json_string_value(value_at(j, path));
}

static size_t prompt_count(const struct rig *rig, const char *text)
{
    struct token_list ids = rig_tokens(rig, text);
    size_t n = ids.count;
    token_list_free(&ids);
    return n;
}

/* ---- whole ---- */

static void test_a_message(void **state)
{
    rig_say(*state, SAID, NULL);
    json_t *j = ask(state, MESSAGES, "{\"max_tokens\":50," ASK "}");
    assert_memory_equal(string_at(j, "id"), "msg_", 4);
    assert_json_at(j, "type", "\"message\"");
    assert_json_at(j, "role", "\"assistant\"");
    assert_json_at(j, "model", "\"org/demo:q8\"");
    assert_json_at(j, "content", "[{\"type\":\"text\",\"text\":\"" SAID "\"}]");
    assert_json_at(j, "stop_reason", "\"end_turn\"");
    assert_json_at(j, "stop_sequence", "null");
    assert_int_equal(number_at(j, "usage.input_tokens"),
                     prompt_count(*state, "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"));
    assert_int_equal(number_at(j, "usage.output_tokens"), prompt_count(*state, SAID) + 1);
    json_decref(j);
}

static void test_system_is_a_turn(void **state)
{
    struct fake_seen seen;
    json_decref(ask(state, MESSAGES, "{\"max_tokens\":1,\"system\":[{\"type\":\"text\",\"text\":\"Be\"}]," ASK "}"));
    struct token_list ids = rig_tokens(*state, "<|im_start|>system\nBe<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n"
                                       "<|im_start|>assistant\n");
    fake_engine_seen(((struct rig *)*state)->engine, 0, &seen);
    assert_int_equal(seen.n_prompt, ids.count);
    assert_memory_equal(seen.prompt, ids.ids, ids.count * sizeof(int32_t));
    token_list_free(&ids);
}

static void test_why_it_stops(void **state)
{
    rig_say(*state, SAID, NULL);
    json_t *j = ask(state, MESSAGES, "{\"max_tokens\":3," ASK "}");
    assert_json_at(j, "stop_reason", "\"max_tokens\"");
    assert_json_at(j, "usage.output_tokens", "3");
    json_decref(j);
    j = ask(state, MESSAGES, "{\"max_tokens\":50,\"stop_sequences\":[\"zzz\",\"of Fra\"]," ASK "}");
    assert_json_at(j, "content.0.text", "\"The capital \"");
    assert_json_at(j, "stop_reason", "\"stop_sequence\"");
    assert_json_at(j, "stop_sequence", "\"of Fra\"");
    json_decref(j);
}

/* Clients ask for as many tokens as their model may give, which can be more than there is room for. */
static void test_the_context_ends_an_answer(void **state)
{
    struct rig *rig = *state;
    fake_control_limits(rig->control, 24, 24);
    rig_say(rig, "word ", &(struct fake_script){ .endless = true });
    json_t *j = ask(state, MESSAGES, "{\"max_tokens\":32000," ASK "}");
    assert_json_at(j, "stop_reason", "\"model_context_window_exceeded\"");
    assert_int_equal(number_at(j, "usage.input_tokens") + number_at(j, "usage.output_tokens"), 24);
    json_decref(j);
    fake_control_limits(rig->control, 4, 4);
    struct reply r = rig_call(rig, MESSAGES, "{\"max_tokens\":1," ASK "}", NULL);
    assert_int_equal(r.status, 400);
    assert_non_null(strstr(reply_text(&r, "error.message"), "prompt is too long: "));
    reply_free(&r);
}

static void test_tools_are_used(void **state)
{
    rig_say(*state, "I ask.\n" CALL, NULL);
    json_t *j = ask(state, MESSAGES, "{\"max_tokens\":90," ASK "," TOOLS "}");
    assert_json_at(j, "stop_reason", "\"tool_use\"");
    assert_int_equal(json_array_size(value_at(j, "content")), 2);
    assert_json_at(j, "content.0", "{\"type\":\"text\",\"text\":\"I ask.\"}");
    assert_json_at(j, "content.1.type", "\"tool_use\"");
    assert_json_at(j, "content.1.name", "\"get_time\"");
    assert_json_at(j, "content.1.input", "{\"city\":\"Oslo\"}");
    assert_true(strlen(string_at(j, "content.1.id")) > 8);
    json_decref(j);
    j = ask(state, MESSAGES, "{\"max_tokens\":90,\"tool_choice\":{\"type\":\"none\"}," ASK "," TOOLS "}");
    assert_json_at(j, "stop_reason", "\"end_turn\"");
    json_decref(j);
}

static void test_thoughts_are_a_block(void **state)
{
    rig_say(*state, "<think>\nHm.\n</think>\n\nYes.", NULL);
    json_t *j = ask(state, MESSAGES, "{\"max_tokens\":90," ASK "}");
    assert_json_at(j, "content.0.thinking", "\"Hm.\"");
    assert_json_at(j, "content.1", "{\"type\":\"text\",\"text\":\"Yes.\"}");
    assert_string_equal(string_at(j, "content.0.signature"), string_at(j, "id"));
    assert_true(number_at(j, "usage.output_tokens_details.thinking_tokens") > 2);
    json_decref(j);
}

/* ---- streams ---- */

static void test_a_stream_of_text(void **state)
{
    rig_say(*state, SAID, NULL);
    json_t *events = stream_of(state, "{\"max_tokens\":50,\"stream\":true," ASK "}"), *event;
    char *types = events_types(events);
    size_t i;
    assert_string_equal(types, "message_start\ncontent_block_start\ncontent_block_delta\ncontent_block_stop\n"
                        "message_delta\nmessage_stop\n");
    assert_json_at(events, "0.message.content", "[]");
    assert_json_at(events, "0.message.stop_reason", "null");
    assert_true(number_at(events, "0.message.usage.input_tokens") > 5);
    assert_json_at(events, "1.content_block", "{\"type\":\"text\",\"text\":\"\"}");
    struct buffer text;
    buffer_init(&text, 4096);
    json_array_foreach(events, i, event) {
        if (string_at(event, "delta.text") != NULL)
            buffer_add_text(&text, string_at(event, "delta.text"));
    }
    assert_string_equal(buffer_text(&text), SAID);
    const json_t *last = json_array_get(events, json_array_size(events) - 2);
    assert_json_at(last, "delta", "{\"stop_reason\":\"end_turn\",\"stop_sequence\":null}");
    assert_int_equal(number_at(last, "usage.output_tokens"), prompt_count(*state, SAID) + 1);
    buffer_close(&text);
    mem_free(types);
    json_decref(events);
}

static void test_a_stream_of_a_call(void **state)
{
    rig_say(*state, CALL, NULL);
    json_t *events = stream_of(state, "{\"max_tokens\":90,\"stream\":true," ASK "," TOOLS "}");
    assert_json_at(events, "1.content_block.input", "{}");
    assert_json_at(events, "1.content_block.name", "\"get_time\"");
    assert_json_at(events, "2.delta.type", "\"input_json_delta\"");
    const json_t *last = json_array_get(events, json_array_size(events) - 2);
    assert_json_at(last, "delta.stop_reason", "\"tool_use\"");
    json_decref(events);
}

static const struct piece pieces[] = {
    { .kind = PIECE_REASONING, .text = "h" },
    { .kind = PIECE_REASONING, .text = "m" },
    { .kind = PIECE_TEXT, .text = "" }, /* a token that shows nothing */
    { .kind = PIECE_TEXT, .text = "so" },
    { .kind = PIECE_CALL, .call_id = "call_a", .call_name = "f" },
    { .kind = PIECE_ARGUMENTS, .text = "{\"a\":" },
    { .kind = PIECE_ARGUMENTS, .text = "1}" },
    { .kind = PIECE_CALL, .call = 1, .call_id = "call_b", .call_name = "g" },
    { .kind = PIECE_ARGUMENTS, .call = 1, .text = "{}" },
    { .kind = PIECE_TEXT, .text = "end" },
    { .finish = "stop", .stop_word = "END" },
};

static void assert_events(const json_t *events, const char *const *expected, size_t n)
{
    assert_int_equal(json_array_size(events), n);
    for (size_t i = 0; i < n; i++) {
        char at[16];
        snprintf(at, sizeof(at), "%zu", i);
        assert_json_at(events, at, expected[i]);
    }
}

#define START(i, block) "{\"type\":\"content_block_start\",\"index\":" i ",\"content_block\":" block "}"
#define DELTA(i, delta) "{\"type\":\"content_block_delta\",\"index\":" i ",\"delta\":" delta "}"
#define STOP(i) "{\"type\":\"content_block_stop\",\"index\":" i "}"
#define USAGE "{\"input_tokens\":3,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0," \
    "\"output_tokens\":9,\"output_tokens_details\":{\"thinking_tokens\":2}"
#define BEGIN "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_x\",\"type\":\"message\",\"role\":\"assistant\"," \
    "\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":" USAGE \
    ",\"service_tier\":\"standard\"}}}"

static struct answer_view view_of(const json_t *request)
{
    return (struct answer_view){
        .id = "msg_x", .model = "m", .request = request, .n_choices = 1,
        .usage = { .prompt_tokens = 3, .completion_tokens = 9, .reasoning_tokens = 2 },
    };
}

static void test_blocks_of_every_kind(void **state)
{
    static const char *const expected[] = {
        BEGIN,
        START("0", "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}"),
        DELTA("0", "{\"type\":\"thinking_delta\",\"thinking\":\"h\"}"),
        DELTA("0", "{\"type\":\"thinking_delta\",\"thinking\":\"m\"}"),
        DELTA("0", "{\"type\":\"signature_delta\",\"signature\":\"msg_x\"}"),
        STOP("0"),
        START("1", "{\"type\":\"text\",\"text\":\"\"}"),
        DELTA("1", "{\"type\":\"text_delta\",\"text\":\"so\"}"),
        STOP("1"),
        START("2", "{\"type\":\"tool_use\",\"id\":\"call_a\",\"name\":\"f\",\"input\":{}}"),
        DELTA("2", "{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":\"}"),
        DELTA("2", "{\"type\":\"input_json_delta\",\"partial_json\":\"1}\"}"),
        STOP("2"),
        START("3", "{\"type\":\"tool_use\",\"id\":\"call_b\",\"name\":\"g\",\"input\":{}}"),
        DELTA("3", "{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}"),
        STOP("3"),
        START("4", "{\"type\":\"text\",\"text\":\"\"}"),
        DELTA("4", "{\"type\":\"text_delta\",\"text\":\"end\"}"),
        STOP("4"),
        "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"END\"},"
        "\"usage\":" USAGE "}}",
        "{\"type\":\"message_stop\"}",
    };
    struct answer_view v = view_of(NULL);
    (void)state;
    json_t *events = events_of_pieces(&anthropic_shape, &v, pieces, COUNTOF(pieces));
    assert_events(events, expected, COUNTOF(expected));
    json_decref(events);
}

static void test_thoughts_may_be_omitted(void **state)
{
    static const char *const expected[] = {
        BEGIN,
        START("0", "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}"),
        DELTA("0", "{\"type\":\"signature_delta\",\"signature\":\"msg_x\"}"),
        STOP("0"),
        "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":" USAGE
        "}}",
        "{\"type\":\"message_stop\"}",
    };
    static const struct piece few[] = { { .kind = PIECE_REASONING, .text = "hm" }, { .finish = "stop" } };
    json_t *request = json_loads("{\"thinking\":{\"type\":\"adaptive\",\"display\":\"omitted\"}}", 0, NULL);
    struct answer_view v = view_of(request);
    (void)state;
    json_t *events = events_of_pieces(&anthropic_shape, &v, few, COUNTOF(few));
    assert_events(events, expected, COUNTOF(expected));
    json_decref(events);
    json_decref(request);
}

static void test_a_whole_message_has_every_kind(void **state)
{
    static const struct call_whole calls[] = { { "a", "f", "{\"a\":1}" }, { "b", "g", "" }, { "c", "h", "{\"cut" } };
    const struct choice_whole choice = {
        .text = "so", .text_len = 2, .reasoning = "hm", .reasoning_len = 2, .calls = calls, .n_calls = COUNTOF(calls),
        .finish = "tool_calls",
    };
    struct answer_view v = view_of(NULL);
    (void)state;
    json_t *j = anthropic_shape.whole(&v, &choice, 1);
    assert_json_at(j, "content", "[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"msg_x\"},"
                   "{\"type\":\"text\",\"text\":\"so\"},"
                   "{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{\"a\":1}},"
                   "{\"type\":\"tool_use\",\"id\":\"b\",\"name\":\"g\",\"input\":{}}]");
    assert_json_at(j, "stop_reason", "\"tool_use\"");
    json_decref(j);
}

static void test_a_failure_in_a_stream_is_an_event(void **state)
{
    struct fake_script s = { .fail_after = 2 };
    error_set(&s.error, ERR_UNAVAILABLE, "a node has left");
    rig_say(*state, SAID, &s);
    json_t *events = stream_of(state, "{\"max_tokens\":50,\"stream\":true," ASK "}");
    assert_json_at(json_array_get(events, json_array_size(events) - 1), "",
                   "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"a node has left\"}}");
    json_decref(events);
}

/* The rig's pings are due each 200 ms. */
static void test_silence_is_pings(void **state)
{
    rig_say(*state, "Paris", &(struct fake_script){ .token_ms = 450 });
    json_t *events = stream_of(state, "{\"max_tokens\":2,\"stream\":true," ASK "}");
    char *types = events_types(events);
    assert_memory_equal(types, "message_start\n", 14);
    assert_non_null(strstr(types, "\nping\n"));
    mem_free(types);
    json_decref(events);
}

/* ---- counts and errors ---- */

static void test_counts(void **state)
{
    static const struct {
        const char *path, *body;
    } rows[] = {
        { "/v1/messages/count_tokens", "{" ASK "}" },
        { "/messages/count_tokens", "{" ASK ",\"max_tokens\":5}" },
        { "/v1/chat/completions/input_tokens", "{" ASK "}" },
    };
    size_t n = prompt_count(*state, "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        json_t *j = ask(state, rows[i].path, rows[i].body);
        assert_int_equal(number_at(j, "input_tokens"), n);
        assert_int_equal(json_object_size(j), i == 2 ? 2 : 1);
        json_decref(j);
    }
    json_t *j = ask(state, rows[0].path, "{" ASK "," TOOLS "}");
    assert_true(number_at(j, "input_tokens") > (json_int_t)n + 10);
    json_decref(j);
    assert_int_equal(fake_engine_submitted(((struct rig *)*state)->engine), 0);
}

static void test_errors_are_anthropics(void **state)
{
    static const struct {
        const char *path, *body, *type, *part;
        int status;
    } rows[] = {
        { MESSAGES, "{" ASK "}", "invalid_request_error", "max_tokens", 400 },
        { MESSAGES, "{\"max_tokens\":0," ASK "}", "invalid_request_error", "max_tokens", 400 },
        { MESSAGES, "{\"max_tokens\":5,\"model\":\"claude\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
          "not_found_error", "claude", 404 },
        { MESSAGES, "{\"max_tokens\":5,\"temperature\":3," ASK "}", "invalid_request_error", "temperature", 400 },
        { MESSAGES, "{\"max_tokens\":5,\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":"
          "{\"not\":{}}}}," ASK "}", "invalid_request_error", "output_config.format: ", 400 },
        { MESSAGES, "{]", "invalid_request_error", "not valid JSON", 400 },
        { "/v1/messages/count_tokens", "{\"model\":\"claude\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
          "not_found_error", "claude", 404 },
        { "/v1/messages/count_tokens", "{}", "invalid_request_error", "messages", 400 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = rig_call(*state, rows[i].path, rows[i].body, "x-request-id: mine-7");
        const char *type = reply_text(&r, "error.type"), *text = reply_text(&r, "error.message");
        if (r.status != rows[i].status || type == NULL || strcmp(type, rows[i].type) != 0 ||
            strstr(text, rows[i].part) == NULL || strcmp(reply_text(&r, "type"), "error") != 0)
            fail_msg("%s was answered %d\n%s", rows[i].body, r.status, r.body);
        assert_non_null(strstr(r.headers, "\nrequest-id: mine-7\r\n"));
        reply_free(&r);
    }
    fake_control_state(((struct rig *)*state)->control, CONTROL_LOADING, "loads");
    struct reply r = rig_call(*state, MESSAGES, "{\"max_tokens\":5," ASK "}", NULL);
    assert_int_equal(r.status, 503);
    assert_string_equal(reply_text(&r, "error.type"), "overloaded_error");
    reply_free(&r);
}

static void test_what_is_not_there(void **state)
{
    struct reply r = rig_call(*state, "/v1/messages/batches", "{}", NULL);
    assert_int_equal(r.status, 404);
    assert_string_equal(reply_text(&r, "error.type"), "not_found_error");
    reply_free(&r);
}

static void test_keys_are_asked_for(void **state)
{
    struct reply r = rig_call(*state, MESSAGES, "{\"max_tokens\":5," ASK "}", NULL);
    assert_int_equal(r.status, 401);
    assert_string_equal(reply_text(&r, "error.type"), "authentication_error");
    reply_free(&r);
    r = rig_call(*state, MESSAGES, "{\"max_tokens\":5," ASK "}", "x-api-key: sk-test");
    assert_int_equal(r.status, 200);
    reply_free(&r);
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        WITH_RIG(test_a_message),
        WITH_RIG(test_system_is_a_turn),
        WITH_RIG(test_why_it_stops),
        WITH_RIG(test_the_context_ends_an_answer),
        WITH_RIG(test_tools_are_used),
        WITH_RIG(test_thoughts_are_a_block),
        WITH_RIG(test_a_stream_of_text),
        WITH_RIG(test_a_stream_of_a_call),
        cmocka_unit_test(test_blocks_of_every_kind),
        cmocka_unit_test(test_thoughts_may_be_omitted),
        cmocka_unit_test(test_a_whole_message_has_every_kind),
        WITH_RIG(test_a_failure_in_a_stream_is_an_event),
        WITH_RIG(test_silence_is_pings),
        WITH_RIG(test_counts),
        WITH_RIG(test_errors_are_anthropics),
        WITH_RIG(test_what_is_not_there),
        cmocka_unit_test_setup_teardown(test_keys_are_asked_for, rig_start_with_key, rig_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
