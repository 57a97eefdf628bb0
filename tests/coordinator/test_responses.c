/* test_responses: the Responses API over a fake engine: objects, streams event by event, counts, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "coordinator/api/responses.h"
#include "tests/coordinator/api_rig.h"
#include "tests/coordinator/events.h"

#define RESPONSES "/v1/responses"
#define SAID "The capital of France is Paris."
#define TOOLS "\"tools\":[{\"type\":\"function\",\"name\":\"get_time\",\"strict\":false,\"parameters\":{\"type\":" \
    "\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}}}]"
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

/* The events, which must be numbered without a gap. */
static json_t *numbered(json_t *events)
{
    json_t *event;
    size_t i;
    json_array_foreach(events, i, event)
        assert_int_equal(json_integer_value(json_object_get(event, "sequence_number")), i);
    return events;
}

static json_t *stream_of(void **state, const char *body)
{
    struct reply r = rig_call(*state, RESPONSES, body, NULL);
    if (r.status != 200 || strstr(r.headers, "Content-Type: text/event-stream\r\n") == NULL)
        fail_msg("%d %s", r.status, r.body);
    json_t *events = numbered(events_of(r.body));
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

static size_t token_count(const struct rig *rig, const char *text)
{
    struct token_list ids = rig_tokens(rig, text);
    size_t n = ids.count;
    token_list_free(&ids);
    return n;
}

static const json_t *last_of(const json_t *events)
{
    return json_array_get(events, json_array_size(events) - 1);
}

/* ---- whole ---- */

static void test_a_response(void **state)
{
    rig_say(*state, SAID, NULL);
    json_t *j = ask(state, RESPONSES, "{\"model\":\"org/demo:q8\",\"input\":\"Hello!\",\"instructions\":\"Be\","
                    "\"metadata\":{\"a\":\"b\"},\"temperature\":0.5,\"reasoning\":{\"effort\":\"low\"}}");
    assert_memory_equal(string_at(j, "id"), "resp_", 5);
    assert_json_at(j, "object", "\"response\"");
    assert_json_at(j, "status", "\"completed\"");
    assert_true(number_at(j, "created_at") > 1600000000 && number_at(j, "completed_at") >= number_at(j, "created_at"));
    assert_json_at(j, "model", "\"org/demo:q8\"");
    assert_int_equal(json_array_size(value_at(j, "output")), 1);
    assert_memory_equal(string_at(j, "output.0.id"), "msg_", 4);
    assert_json_at(j, "output.0.type", "\"message\"");
    assert_json_at(j, "output.0.status", "\"completed\"");
    assert_json_at(j, "output.0.content", "[{\"type\":\"output_text\",\"text\":\"" SAID "\",\"annotations\":[],"
                   "\"logprobs\":[]}]");
    assert_json_at(j, "instructions", "\"Be\"");
    assert_json_at(j, "metadata", "{\"a\":\"b\"}");
    assert_json_at(j, "reasoning", "{\"effort\":\"low\",\"summary\":null}");
    assert_json_at(j, "temperature", "0.5");
    assert_json_at(j, "tool_choice", "\"auto\"");
    assert_json_at(j, "tools", "[]");
    assert_json_at(j, "text", "{\"format\":{\"type\":\"text\"}}");
    assert_json_at(j, "error", "null");
    assert_json_at(j, "incomplete_details", "null");
    size_t asked = token_count(*state, "<|im_start|>system\nBe<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n"
                               "<|im_start|>assistant\n");
    size_t said = token_count(*state, SAID) + 1;
    assert_int_equal(number_at(j, "usage.input_tokens"), asked);
    assert_int_equal(number_at(j, "usage.output_tokens"), said);
    assert_int_equal(number_at(j, "usage.total_tokens"), asked + said);
    json_decref(j);
}

static void test_a_cut_response(void **state)
{
    rig_say(*state, SAID, NULL);
    json_t *j = ask(state, RESPONSES, "{\"input\":\"Hello!\",\"max_output_tokens\":2,\"top_logprobs\":1}");
    assert_json_at(j, "status", "\"incomplete\"");
    assert_json_at(j, "incomplete_details", "{\"reason\":\"max_output_tokens\"}");
    assert_json_at(j, "completed_at", "null");
    assert_json_at(j, "output.0.status", "\"incomplete\"");
    assert_int_equal(json_array_size(value_at(j, "output.0.content.0.logprobs")), 2);
    assert_json_at(j, "output.0.content.0.logprobs.0.logprob", "-0.25");
    assert_int_equal(json_array_size(value_at(j, "output.0.content.0.logprobs.0.top_logprobs")), 1);
    json_decref(j);
}

static void test_functions_are_called(void **state)
{
    rig_say(*state, "I ask.\n" CALL, NULL);
    json_t *j = ask(state, RESPONSES, "{\"input\":\"Hello!\"," TOOLS "}");
    assert_json_at(j, "status", "\"completed\"");
    assert_int_equal(json_array_size(value_at(j, "output")), 2);
    assert_json_at(j, "output.0.content.0.text", "\"I ask.\"");
    assert_memory_equal(string_at(j, "output.1.id"), "fc_", 3);
    assert_json_at(j, "output.1.type", "\"function_call\"");
    assert_json_at(j, "output.1.name", "\"get_time\"");
    assert_json_at(j, "output.1.arguments", "\"{\\\"city\\\": \\\"Oslo\\\"}\"");
    assert_memory_equal(string_at(j, "output.1.call_id"), "call_", 5);
    assert_json_at(j, "tools.0.name", "\"get_time\"");
    json_decref(j);
}

static void test_thoughts_are_an_item(void **state)
{
    rig_say(*state, "<think>\nHm.\n</think>\n\nYes.", NULL);
    json_t *j = ask(state, RESPONSES, "{\"input\":\"Hello!\"}");
    assert_memory_equal(string_at(j, "output.0.id"), "rs_", 3);
    assert_json_at(j, "output.0.content", "[{\"type\":\"reasoning_text\",\"text\":\"Hm.\"}]");
    assert_json_at(j, "output.1.content.0.text", "\"Yes.\"");
    assert_true(number_at(j, "usage.output_tokens_details.reasoning_tokens") > 2);
    json_decref(j);
    json_t *events = stream_of(state, "{\"input\":\"Hello!\",\"stream\":true}");
    assert_json_at(events, "4.type", "\"response.reasoning_text.delta\"");
    json_decref(events);
}

static void test_a_form_binds_the_answer(void **state)
{
    struct fake_seen seen;
    rig_say(*state, "{}", NULL);
    json_decref(ask(state, RESPONSES, "{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\","
                    "\"schema\":{\"type\":\"object\"}}}}"));
    fake_engine_seen(((struct rig *)*state)->engine, 0, &seen);
    assert_non_null(seen.grammar);
}

/* ---- streams ---- */

#define BEGIN "response.created\nresponse.in_progress\n"
#define MESSAGE "response.output_item.added\nresponse.content_part.added\nresponse.output_text.delta\n" \
    "response.output_text.done\nresponse.content_part.done\nresponse.output_item.done\n"
#define THOUGHT "response.output_item.added\nresponse.content_part.added\nresponse.reasoning_text.delta\n" \
    "response.reasoning_text.done\nresponse.content_part.done\nresponse.output_item.done\n"
#define CALLED "response.output_item.added\nresponse.function_call_arguments.delta\n" \
    "response.function_call_arguments.done\nresponse.output_item.done\n"

static void assert_types(const json_t *events, const char *expected)
{
    char *types = events_types(events);
    assert_string_equal(types, expected);
    mem_free(types);
}

static void test_a_stream_of_text(void **state)
{
    rig_say(*state, SAID, NULL);
    json_t *events = stream_of(state, "{\"stream\":true,\"input\":\"Hello!\",\"top_logprobs\":1}"), *event;
    size_t i, n = 0;
    struct buffer text;
    assert_types(events, BEGIN MESSAGE "response.completed\n");
    assert_json_at(events, "0.response.status", "\"in_progress\"");
    assert_json_at(events, "0.response.output", "[]");
    assert_json_at(events, "0.response.usage", "null");
    buffer_init(&text, 4096);
    json_array_foreach(events, i, event) {
        if (string_at(event, "delta") == NULL)
            continue;
        buffer_add_text(&text, string_at(event, "delta"));
        n += json_array_size(value_at(event, "logprobs"));
        assert_string_equal(string_at(event, "item_id"), string_at(events, "2.item.id"));
        assert_json_at(event, "output_index", "0");
        assert_json_at(event, "content_index", "0");
    }
    const json_t *last = last_of(events), *done = json_array_get(events, json_array_size(events) - 4);
    assert_string_equal(buffer_text(&text), SAID);
    assert_json_at(done, "text", "\"" SAID "\"");
    assert_int_equal(json_array_size(value_at(done, "logprobs")), n);
    assert_true(n >= token_count(*state, SAID));
    assert_json_at(last, "response.output.0.content.0.text", "\"" SAID "\"");
    assert_json_at(last, "response.status", "\"completed\"");
    assert_string_equal(string_at(last, "response.output.0.id"), string_at(events, "2.item.id"));
    assert_string_equal(string_at(last, "response.id"), string_at(events, "0.response.id"));
    assert_int_equal(number_at(last, "response.usage.output_tokens"), token_count(*state, SAID) + 1);
    buffer_close(&text);
    json_decref(events);
}

static void test_a_stream_of_a_call(void **state)
{
    rig_say(*state, CALL, NULL);
    json_t *events = stream_of(state, "{\"stream\":true,\"input\":\"Hello!\"," TOOLS "}");
    assert_types(events, BEGIN CALLED "response.completed\n");
    assert_json_at(events, "2.item.arguments", "\"\"");
    assert_json_at(events, "2.item.status", "\"in_progress\"");
    assert_json_at(last_of(events), "response.output.0.arguments", "\"{\\\"city\\\": \\\"Oslo\\\"}\"");
    json_decref(events);
}

/* Of a request whose answer is not kept. */
static struct answer_view view_of(json_t *request)
{
    json_object_set_new(request, "store", json_false());
    return (struct answer_view){
        .id = "resp_x", .model = "m", .request = request, .n_choices = 1,
        .usage = { .prompt_tokens = 3, .completion_tokens = 9, .reasoning_tokens = 2 },
    };
}

static void test_items_of_every_kind(void **state)
{
    static const struct piece pieces[] = {
        { .kind = PIECE_REASONING, .text = "h" },
        { .kind = PIECE_REASONING, .text = "m" },
        { .kind = PIECE_TEXT, .text = "" }, /* a token that shows nothing */
        { .kind = PIECE_TEXT, .text = "so" },
        { .kind = PIECE_CALL, .call_id = "call_a", .call_name = "f" },
        { .kind = PIECE_ARGUMENTS, .text = "{\"a\":" },
        { .kind = PIECE_ARGUMENTS, .text = "1}" },
        { .kind = PIECE_CALL, .call = 1, .call_id = "call_b", .call_name = "g" },
        { .kind = PIECE_ARGUMENTS, .call = 1, .text = "{\"cut" },
        { .finish = "length" },
    };
    json_t *request = json_object();
    struct answer_view v = view_of(request);
    (void)state;
    json_t *events = numbered(events_of_pieces(&responses_shape, &v, pieces, COUNTOF(pieces)));
    assert_types(events, BEGIN THOUGHT MESSAGE CALLED CALLED "response.incomplete\n");
    const json_t *response = json_object_get(last_of(events), "response");
    static const char *const items[] = {
        "\"type\":\"reasoning\",\"status\":\"completed\",\"summary\":[],\"content\":[{\"type\":\"reasoning_text\","
        "\"text\":\"hm\"}]",
        "\"type\":\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
        "\"text\":\"so\",\"annotations\":[],\"logprobs\":[]}]",
        "\"type\":\"function_call\",\"status\":\"completed\",\"call_id\":\"call_a\",\"name\":\"f\",\"arguments\":"
        "\"{\\\"a\\\":1}\"",
        "\"type\":\"function_call\",\"status\":\"incomplete\",\"call_id\":\"call_b\",\"name\":\"g\",\"arguments\":"
        "\"{\\\"cut\"",
    };
    assert_int_equal(json_array_size(value_at(response, "output")), COUNTOF(items));
    for (size_t i = 0; i < COUNTOF(items); i++) {
        json_t *item = json_array_get(json_object_get(response, "output"), i);
        char *expected = mem_printf("{\"id\":\"%s\",%s}", string_at(item, "id"), items[i]);
        assert_json_at(item, "", expected);
        mem_free(expected);
    }
    assert_json_at(response, "incomplete_details", "{\"reason\":\"max_output_tokens\"}");
    assert_json_at(response, "usage", "{\"input_tokens\":3,\"input_tokens_details\":{\"cached_tokens\":0,"
                   "\"cache_write_tokens\":0},\"output_tokens\":9,\"output_tokens_details\":{\"reasoning_tokens\":2},"
                   "\"total_tokens\":12}");
    json_decref(events);
    json_decref(request);
}

/* To clients that ask for summaries. */
static void test_thoughts_as_a_summary(void **state)
{
    static const struct piece pieces[] = {
        { .kind = PIECE_REASONING, .text = "h" }, { .kind = PIECE_REASONING, .text = "m" }, { .finish = "stop" },
    };
    json_t *request = json_pack("{s:{s:s}}", "reasoning", "summary", "auto");
    struct answer_view v = view_of(request);
    (void)state;
    json_t *events = numbered(events_of_pieces(&responses_shape, &v, pieces, COUNTOF(pieces)));
    assert_types(events, BEGIN "response.output_item.added\nresponse.reasoning_summary_part.added\n"
                 "response.reasoning_summary_text.delta\nresponse.reasoning_summary_text.done\n"
                 "response.reasoning_summary_part.done\nresponse.output_item.done\nresponse.completed\n");
    assert_json_at(events, "3.summary_index", "0");
    assert_json_at(events, "3.part", "{\"type\":\"summary_text\",\"text\":\"\"}");
    assert_json_at(events, "6.text", "\"hm\"");
    assert_json_at(events, "8.item.summary", "[{\"type\":\"summary_text\",\"text\":\"hm\"}]");
    assert_json_at(events, "8.item.content", "[]");
    json_decref(events);
    const struct choice_whole choice = { .text = "", .reasoning = "hm", .reasoning_len = 2, .finish = "stop" };
    json_t *j = responses_shape.whole(&v, &choice, 1);
    assert_json_at(j, "output.0.summary.0.text", "\"hm\"");
    json_decref(j);
    json_decref(request);
}

/* Which item an event is of. */
static void test_events_name_their_item(void **state)
{
    static const struct piece pieces[] = {
        { .kind = PIECE_TEXT, .text = "a" },
        { .kind = PIECE_CALL, .call_id = "call_a", .call_name = "f" },
        { .kind = PIECE_ARGUMENTS, .text = "{}" },
        { .finish = "tool_calls" },
    };
    static const int of[] = { -1, -1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, -1 };
    json_t *request = json_object();
    struct answer_view v = view_of(request);
    const char *ids[2];
    (void)state;
    json_t *events = numbered(events_of_pieces(&responses_shape, &v, pieces, COUNTOF(pieces)));
    assert_int_equal(json_array_size(events), COUNTOF(of));
    ids[0] = string_at(events, "2.item.id");
    ids[1] = string_at(events, "8.item.id");
    for (size_t i = 0; i < COUNTOF(of); i++) {
        const json_t *event = json_array_get(events, i);
        const char *id = string_at(event, "item_id") != NULL ? string_at(event, "item_id")
                                                             : string_at(event, "item.id");
        assert_int_equal(id != NULL, of[i] >= 0);
        if (id == NULL)
            continue;
        assert_string_equal(id, ids[of[i]]);
        assert_int_equal(number_at(event, "output_index"), of[i]);
    }
    assert_json_at(last_of(events), "type", "\"response.completed\"");
    json_decref(events);
    json_decref(request);
}

static void test_nothing_said_is_an_empty_message(void **state)
{
    static const struct piece pieces[] = { { .finish = "stop" } };
    json_t *request = json_object();
    struct answer_view v = view_of(request);
    (void)state;
    json_t *events = events_of_pieces(&responses_shape, &v, pieces, COUNTOF(pieces));
    assert_json_at(last_of(events), "response.output.0.content.0.text", "\"\"");
    json_decref(events);
    json_t *j = responses_shape.whole(&v, &(struct choice_whole){ .text = "", .finish = "stop" }, 1);
    assert_json_at(j, "output.0.content.0.text", "\"\"");
    json_decref(j);
    json_decref(request);
}

static void test_a_whole_response_has_every_kind(void **state)
{
    static const struct call_whole calls[] = { { "a", "f", "{}" }, { "b", "g", "{\"cut" } };
    const struct choice_whole choice = {
        .text = "so", .text_len = 2, .reasoning = "hm", .reasoning_len = 2, .calls = calls, .n_calls = COUNTOF(calls),
        .finish = "length",
    };
    json_t *request = json_object();
    struct answer_view v = view_of(request);
    (void)state;
    json_t *j = responses_shape.whole(&v, &choice, 1);
    assert_int_equal(json_array_size(value_at(j, "output")), 4);
    assert_json_at(j, "output.0.content", "[{\"type\":\"reasoning_text\",\"text\":\"hm\"}]");
    assert_json_at(j, "output.1.status", "\"completed\"");
    assert_json_at(j, "output.2.status", "\"completed\"");
    assert_json_at(j, "output.3.status", "\"incomplete\"");
    assert_json_at(j, "output.3.arguments", "\"{\\\"cut\"");
    json_decref(j);
    json_decref(request);
}

static void test_a_failure_in_a_stream_is_an_event(void **state)
{
    struct fake_script s = { .fail_after = 2 };
    error_set(&s.error, ERR_UNAVAILABLE, "a node has left");
    rig_say(*state, SAID, &s);
    json_t *events = stream_of(state, "{\"stream\":true,\"input\":\"Hello!\"}");
    const json_t *last = last_of(events);
    assert_json_at(last, "type", "\"response.failed\"");
    assert_json_at(last, "response.status", "\"failed\"");
    assert_json_at(last, "response.error", "{\"code\":\"server_error\",\"message\":\"a node has left\"}");
    json_decref(events);
}

/* ---- what is kept ---- */

static void assert_prompt(void **state, uint32_t i, const char *expected)
{
    struct token_list ids = rig_tokens(*state, expected);
    struct fake_seen seen;
    fake_engine_seen(((struct rig *)*state)->engine, i, &seen);
    assert_int_equal(seen.n_prompt, ids.count);
    assert_memory_equal(seen.prompt, ids.ids, ids.count * sizeof(int32_t));
    token_list_free(&ids);
}

#define TURN(user, said) "<|im_start|>user\n" user "<|im_end|>\n<|im_start|>assistant\n" said

/* Instructions are not part of what goes on. */
static void test_a_conversation_goes_on(void **state)
{
    rig_say(*state, "Hm.", NULL);
    json_t *first = ask(state, RESPONSES, "{\"input\":\"one\",\"instructions\":\"Be\"}");
    char *body = mem_printf("{\"input\":[{\"role\":\"user\",\"content\":\"two\"}],\"stream\":true,"
                            "\"previous_response_id\":\"%s\"}", string_at(first, "id"));
    json_t *second = stream_of(state, body);
    assert_prompt(state, 1, TURN("one", "Hm.<|im_end|>\n") TURN("two", ""));
    assert_string_equal(string_at(last_of(second), "response.previous_response_id"), string_at(first, "id"));
    mem_free(body);
    body = mem_printf("{\"input\":\"three\",\"previous_response_id\":\"%s\"}",
                      string_at(last_of(second), "response.id"));
    json_decref(ask(state, RESPONSES, body));
    assert_prompt(state, 2, TURN("one", "Hm.<|im_end|>\n") TURN("two", "Hm.<|im_end|>\n") TURN("three", ""));
    json_t *count = ask(state, "/v1/responses/input_tokens", body);
    assert_int_equal(number_at(count, "input_tokens"),
                     token_count(*state, TURN("one", "Hm.<|im_end|>\n") TURN("two", "Hm.<|im_end|>\n")
                                 TURN("three", "")));
    mem_free(body);
    json_decref(count);
    json_decref(second);
    json_decref(first);
}

static void assert_status(void **state, const char *method, const char *id, int status, const char *part)
{
    char *text = mem_printf("%s /v1/responses/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", method,
                            id);
    char *answer = rig_read_raw(rig_send_raw(*state, text));
    char line[32];
    snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
    if (strncmp(answer, line, strlen(line)) != 0 || strstr(answer, part) == NULL)
        fail_msg("%s should be answered %d with %s:\n%s", method, status, part, answer);
    mem_free(answer);
    mem_free(text);
}

static void test_kept_responses_are_read_and_forgotten(void **state)
{
    rig_say(*state, SAID, NULL);
    json_t *j = ask(state, RESPONSES, "{\"input\":\"one\",\"max_output_tokens\":2}");
    const char *id = string_at(j, "id");
    assert_json_at(j, "store", "true");
    assert_status(state, "GET", id, 200, "\"status\":\"incomplete\"");
    assert_status(state, "DELETE", id, 200, "\"deleted\":true");
    assert_status(state, "GET", id, 404, "not found");
    assert_status(state, "DELETE", id, 404, "not found");
    json_decref(j);
    j = ask(state, RESPONSES, "{\"input\":\"one\",\"store\":false}");
    assert_json_at(j, "store", "false");
    assert_status(state, "GET", string_at(j, "id"), 404, "not found");
    json_decref(j);
}

/* Refusals name the items of the request, not those before them. */
static void test_what_cannot_go_on(void **state)
{
    struct reply r = rig_call(*state, RESPONSES, "{\"input\":\"a\",\"previous_response_id\":\"resp_1\"}", NULL);
    assert_int_equal(r.status, 400);
    assert_string_equal(reply_text(&r, "error.code"), "previous_response_not_found");
    assert_string_equal(reply_text(&r, "error.param"), "previous_response_id");
    reply_free(&r);
    json_t *first = ask(state, RESPONSES, "{\"input\":\"one\"}");
    char *body = mem_printf("{\"input\":[{\"type\":\"odd\"}],\"previous_response_id\":\"%s\"}", string_at(first, "id"));
    r = rig_call(*state, RESPONSES, body, NULL);
    assert_string_equal(reply_text(&r, "error.param"), "input[0]");
    reply_free(&r);
    mem_free(body);
    json_decref(first);
}

/* ---- counts and errors ---- */

static void test_counts(void **state)
{
    json_t *j = ask(state, "/v1/responses/input_tokens", "{\"model\":\"org/demo:q8\",\"input\":\"Hello!\"}");
    size_t n = token_count(*state, "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
    char *expected = mem_printf("{\"object\":\"response.input_tokens\",\"input_tokens\":%zu}", n);
    assert_json_at(j, "", expected);
    mem_free(expected);
    json_decref(j);
}

static void test_errors_name_the_field(void **state)
{
    static const struct {
        const char *path, *body, *param;
        int status;
    } rows[] = {
        { RESPONSES, "{}", "input", 400 },
        { RESPONSES, "{\"input\":\"a\",\"model\":\"gpt\"}", "model", 404 },
        { RESPONSES, "{\"input\":\"a\",\"previous_response_id\":\"resp_1\"}", "previous_response_id", 400 },
        { RESPONSES, "{\"input\":\"a\",\"temperature\":7}", "temperature", 400 },
        { RESPONSES, "{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"schema\":"
          "{\"not\":{}}}}}", "text.format", 400 },
        { RESPONSES, "{\"input\":\"a\",\"max_output_tokens\":9999}", "input", 400 },
        { "/v1/responses/input_tokens", "{\"input\":[{\"type\":\"item_reference\",\"id\":\"a\"}]}", "input[0]", 400 },
        { "/responses/input_tokens", "{\"input\":\"a\",\"model\":\"gpt\"}", "model", 404 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = rig_call(*state, rows[i].path, rows[i].body, NULL);
        const char *param = reply_text(&r, "error.param");
        if (r.status != rows[i].status || param == NULL || strcmp(param, rows[i].param) != 0)
            fail_msg("%s was answered %d\n%s", rows[i].body, r.status, r.body);
        reply_free(&r);
    }
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        WITH_RIG(test_a_response),
        WITH_RIG(test_a_cut_response),
        WITH_RIG(test_functions_are_called),
        WITH_RIG(test_thoughts_are_an_item),
        WITH_RIG(test_a_form_binds_the_answer),
        WITH_RIG(test_a_stream_of_text),
        WITH_RIG(test_a_stream_of_a_call),
        cmocka_unit_test(test_items_of_every_kind),
        cmocka_unit_test(test_thoughts_as_a_summary),
        cmocka_unit_test(test_events_name_their_item),
        cmocka_unit_test(test_nothing_said_is_an_empty_message),
        cmocka_unit_test(test_a_whole_response_has_every_kind),
        WITH_RIG(test_a_failure_in_a_stream_is_an_event),
        WITH_RIG(test_a_conversation_goes_on),
        WITH_RIG(test_kept_responses_are_read_and_forgotten),
        WITH_RIG(test_what_cannot_go_on),
        WITH_RIG(test_counts),
        WITH_RIG(test_errors_name_the_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
