/* test_api_tools: tool calls and reasoning in the answers of chats, whole and streamed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "tests/coordinator/api_rig.h"

#define CHAT "/v1/chat/completions"
#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]"
#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"parameters\":{\"type\":\"object\"," \
    "\"properties\":{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"]}}}"
#define TOOLS "\"tools\":[" TOOL("get_time") "," TOOL("get_weather") "]"
#define CALL(name, city) "<tool_call>\n{\"name\": \"" name "\", \"arguments\": {\"city\": \"" city "\"}}\n</tool_call>"

static json_t *ask(void **state, const char *body)
{
    struct reply r = rig_call(*state, CHAT, body, NULL);
    json_t *j = json_incref(r.json);
    if (r.status != 200)
        print_message("%s\n", r.body);
    assert_int_equal(r.status, 200);
    reply_free(&r);
    return j;
}

static const json_t *choice_of(const json_t *answer)
{
    return json_array_get(json_object_get(answer, "choices"), 0);
}

static const json_t *message_of(const json_t *answer)
{
    return json_object_get(choice_of(answer), "message");
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static const char *finish_of(const json_t *answer)
{
    return text_of(choice_of(answer), "finish_reason");
}

static const json_t *call_of(const json_t *answer, size_t i)
{
    return json_array_get(json_object_get(message_of(answer), "tool_calls"), i);
}

static void assert_call(const json_t *call, const char *name, const char *arguments)
{
    const json_t *function = json_object_get(call, "function");
    assert_string_equal(text_of(call, "type"), "function");
    assert_memory_equal(text_of(call, "id"), "call_", 5);
    assert_true(strlen(text_of(call, "id")) > 15);
    assert_string_equal(text_of(function, "name"), name);
    assert_string_equal(text_of(function, "arguments"), arguments);
}

static json_int_t reasoning_tokens(const json_t *answer)
{
    const json_t *usage = json_object_get(answer, "usage");
    return json_integer_value(json_object_get(json_object_get(usage, "completion_tokens_details"),
                                              "reasoning_tokens"));
}

/* ---- whole ---- */

static void test_a_call(void **state)
{
    rig_say(*state, CALL("get_time", "Oslo"), NULL);
    json_t *j = ask(state, "{" HELLO "," TOOLS "}");
    assert_true(json_is_null(json_object_get(message_of(j), "content")));
    assert_int_equal(json_array_size(json_object_get(message_of(j), "tool_calls")), 1);
    assert_call(call_of(j, 0), "get_time", "{\"city\": \"Oslo\"}");
    assert_string_equal(finish_of(j), "tool_calls");
    assert_int_equal(reasoning_tokens(j), 0);
    json_decref(j);
}

static void test_text_and_two_calls(void **state)
{
    rig_say(*state, "I ask.\n" CALL("get_time", "Oslo") "\n" CALL("get_weather", "Rome"), NULL);
    json_t *j = ask(state, "{" HELLO "," TOOLS "}");
    assert_string_equal(text_of(message_of(j), "content"), "I ask.");
    assert_int_equal(json_array_size(json_object_get(message_of(j), "tool_calls")), 2);
    assert_call(call_of(j, 0), "get_time", "{\"city\": \"Oslo\"}");
    assert_call(call_of(j, 1), "get_weather", "{\"city\": \"Rome\"}");
    assert_string_not_equal(text_of(call_of(j, 0), "id"), text_of(call_of(j, 1), "id"));
    assert_string_equal(finish_of(j), "tool_calls");
    json_decref(j);
}

/* Without tools a call is text like all other, and an answer without calls has none. */
static void test_no_calls(void **state)
{
    rig_say(*state, CALL("get_time", "Oslo"), NULL);
    json_t *j = ask(state, "{" HELLO "," TOOLS ",\"tool_choice\":\"none\"}");
    assert_string_equal(text_of(message_of(j), "content"), CALL("get_time", "Oslo"));
    assert_null(json_object_get(message_of(j), "tool_calls"));
    assert_string_equal(finish_of(j), "stop");
    json_decref(j);
    rig_say(*state, "No idea.", NULL);
    j = ask(state, "{" HELLO "," TOOLS ",\"tool_choice\":\"auto\"}");
    assert_string_equal(text_of(message_of(j), "content"), "No idea.");
    assert_null(json_object_get(message_of(j), "tool_calls"));
    assert_null(json_object_get(message_of(j), "reasoning_content"));
    assert_string_equal(finish_of(j), "stop");
    json_decref(j);
}

/* What the length cut is given as far as it came; the reason stays. */
static void test_a_cut_call(void **state)
{
    struct token_list head = rig_tokens(*state, "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"city\": \"Os");
    rig_say(*state, CALL("get_time", "Oslo"), NULL);
    char *body = mem_printf("{" HELLO "," TOOLS ",\"max_tokens\":%zu}", head.count);
    json_t *j = ask(state, body);
    const char *arguments = text_of(json_object_get(call_of(j, 0), "function"), "arguments");
    assert_memory_equal(arguments, "{\"city\": \"Oslo\"}", strlen(arguments));
    assert_string_equal(finish_of(j), "length");
    json_decref(j);
    mem_free(body);
    token_list_free(&head);
}

static void assert_reasoning(const json_t *j, const char *reasoning, const char *content)
{
    assert_string_equal(text_of(message_of(j), "reasoning_content"), reasoning);
    assert_string_equal(text_of(message_of(j), "reasoning"), reasoning);
    assert_string_equal(text_of(message_of(j), "content"), content);
}

static void test_reasoning(void **state)
{
    struct token_list thought = rig_tokens(*state, "<think>\nHm, no.\n</think>");
    rig_say(*state, "<think>\nHm, no.\n</think>\n\nYes.", NULL);
    json_t *j = ask(state, "{" HELLO "}");
    assert_reasoning(j, "Hm, no.", "Yes.");
    assert_string_equal(finish_of(j), "stop");
    assert_int_equal(reasoning_tokens(j), thought.count);
    json_decref(j);
    token_list_free(&thought);
}

static void test_reasoning_then_a_call(void **state)
{
    rig_say(*state, "<think>Hm.</think>" CALL("get_time", "Oslo"), NULL);
    json_t *j = ask(state, "{" HELLO "," TOOLS "}");
    assert_string_equal(text_of(message_of(j), "reasoning"), "Hm.");
    assert_true(json_is_null(json_object_get(message_of(j), "content")));
    assert_call(call_of(j, 0), "get_time", "{\"city\": \"Oslo\"}");
    json_decref(j);
}

/* The template's prompt leaves the model thinking. */
static void test_thinking_from_the_start(void **state)
{
    rig_template(*state, "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n"
                         "{% endif %}");
    rig_say(*state, "Hm.</think>Yes.", NULL);
    json_t *j = ask(state, "{" HELLO "}");
    assert_reasoning(j, "Hm.", "Yes.");
    json_decref(j);
    rig_say(*state, "Hm.", NULL); /* it never stopped */
    j = ask(state, "{" HELLO "}");
    assert_reasoning(j, "Hm.", "");
    json_decref(j);
    rig_say(*state, "Hm.", NULL);
    j = ask(state, "{" HELLO ",\"add_generation_prompt\":false}");
    assert_string_equal(text_of(message_of(j), "content"), "Hm.");
    assert_null(json_object_get(message_of(j), "reasoning"));
    json_decref(j);
}

static void test_stop_strings_are_of_the_answer(void **state)
{
    rig_say(*state, "<think>one STOP</think>two STOP three", NULL);
    json_t *j = ask(state, "{" HELLO ",\"stop\":\"STOP\"}");
    assert_reasoning(j, "one STOP", "two ");
    json_decref(j);
    rig_say(*state, CALL("get_time", "STOP"), NULL);
    j = ask(state, "{" HELLO "," TOOLS ",\"stop\":[\"STOP\"]}");
    assert_call(call_of(j, 0), "get_time", "{\"city\": \"STOP\"}");
    assert_string_equal(finish_of(j), "tool_calls");
    json_decref(j);
}

static void test_reasoning_that_is_not_told_apart(void **state)
{
    static const char *const hidden[] = { "\"include_reasoning\":false", "\"reasoning\":{\"exclude\":true}" };
    for (size_t i = 0; i < COUNTOF(hidden); i++) {
        char *body = mem_printf("{" HELLO ",%s,\"reasoning_format\":\"auto\"}", hidden[i]);
        rig_say(*state, "<think>Hm.</think>Yes.", NULL);
        json_t *j = ask(state, body);
        assert_null(json_object_get(message_of(j), "reasoning"));
        assert_string_equal(text_of(message_of(j), "content"), "Yes.");
        assert_true(reasoning_tokens(j) > 0);
        json_decref(j);
        mem_free(body);
    }
    rig_say(*state, "<think>Hm.</think>" CALL("get_time", "Oslo"), NULL);
    json_t *j = ask(state, "{" HELLO "," TOOLS ",\"reasoning_format\":\"none\"}");
    assert_null(json_object_get(message_of(j), "reasoning"));
    assert_string_equal(text_of(message_of(j), "content"), "<think>Hm.</think>");
    assert_call(call_of(j, 0), "get_time", "{\"city\": \"Oslo\"}");
    json_decref(j);
}

/* Every token that the model gave is in the log-probabilities, marks too. */
static void test_logprobs_of_calls(void **state)
{
    struct token_list all = rig_tokens(*state, "<think>a</think>" CALL("get_time", "Oslo"));
    rig_say(*state, "<think>a</think>" CALL("get_time", "Oslo"), NULL);
    json_t *j = ask(state, "{" HELLO "," TOOLS ",\"logprobs\":true}");
    const json_t *content = json_object_get(json_object_get(choice_of(j), "logprobs"), "content");
    assert_int_equal(json_array_size(content), all.count);
    assert_string_equal(text_of(json_array_get(content, 0), "token"), "<think>");
    json_decref(j);
    token_list_free(&all);
}

static size_t count(void **state, const char *text)
{
    struct token_list list = rig_tokens(*state, text);
    size_t n = list.count;
    token_list_free(&list);
    return n;
}

/* What is not shown is not told by its log-probabilities either, however it ends. */
static void test_logprobs_hide_reasoning(void **state)
{
    static const struct {
        const char *say, *shown;
    } rows[] = {
        { "<think>Why, oh why?\n</think>Yes.", "Yes." },
        { "<think>Why, oh why?</think>" CALL("get_time", "Oslo"), CALL("get_time", "Oslo") },
        { "<think>Why, oh why", "" },
        { "Yes.", "Yes." },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        rig_say(*state, rows[i].say, NULL);
        json_t *j = ask(state, "{" HELLO "," TOOLS ",\"logprobs\":true,\"include_reasoning\":false}");
        const json_t *content = json_object_get(json_object_get(choice_of(j), "logprobs"), "content");
        assert_int_equal(json_array_size(content), count(state, rows[i].shown));
        for (size_t k = 0; k < json_array_size(content); k++)
            assert_non_null(strstr(rows[i].shown, text_of(json_array_get(content, k), "token")));
        json_decref(j);
    }
}

/* ---- streamed ---- */

/* The deltas of a stream, and the finish reasons, one a line. Caller frees. */
static char *deltas(const char *body)
{
    struct buffer out;
    buffer_init(&out, 1 << 20);
    for (const char *p = strstr(body, "data: {"); p != NULL; p = strstr(p, "data: {")) {
        size_t n = strcspn(p += 6, "\n");
        json_t *j = json_loadb(p, n, 0, NULL);
        assert_non_null(j);
        const json_t *choice = choice_of(j);
        char *text = json_dumps(json_object_get(choice, "delta"), JSON_COMPACT);
        const char *finish = text_of(choice, "finish_reason");
        assert_non_null(json_object_get(choice, "finish_reason"));
        buffer_add_text(&out, finish != NULL ? finish : text);
        buffer_add_text(&out, "\n");
        if (finish != NULL)
            assert_string_equal(text, "{}");
        free(text);
        json_decref(j);
    }
    return buffer_take(&out, NULL);
}

/* A script of tokens of one byte each, but for the marks. */
static void say_bytes(struct rig *rig, const char *text)
{
    static const char *const marks[] = { "<tool_call>", "</tool_call>", "<think>", "</think>" };
    struct fake_script s = { 0 };
    while (*text != '\0') {
        size_t n = 1;
        for (size_t i = 0; i < COUNTOF(marks); i++)
            if (strncmp(text, marks[i], strlen(marks[i])) == 0)
                n = strlen(marks[i]);
        s.tokens[s.n++] = tokenizer_find(rig->tokenizer, text, n);
        text += n;
    }
    s.tokens[s.n++] = rig_end_token(rig);
    fake_engine_script(rig->engine, &s);
}

/* The text with what follows the mark up to the next quote replaced by "*"; in place. */
static void mask(char *text, const char *mark)
{
    for (char *p = strstr(text, mark); p != NULL; p = strstr(p, mark)) {
        p += strlen(mark);
        size_t n = strcspn(p, "\"");
        p[0] = '*';
        memmove(p + 1, p + n, strlen(p + n) + 1);
    }
}

#define BEGIN(i, name) "{\"tool_calls\":[{\"index\":" i ",\"id\":\"call_*\",\"type\":\"function\",\"function\":" \
    "{\"name\":\"" name "\",\"arguments\":\"\"}}]}\n"
#define PART(i, text) "{\"tool_calls\":[{\"index\":" i ",\"function\":{\"arguments\":\"" text "\"}}]}\n"

static void test_a_streamed_answer_of_all_kinds(void **state)
{
    say_bytes(*state, "<think>Hm</think>I<tool_call>{\"name\": \"get_time\", \"arguments\": {\"a\": 1}}</tool_call>"
                      "<tool_call>{\"name\": \"get_weather\", \"arguments\": {}}</tool_call>");
    struct reply r = rig_call(*state, CHAT, "{" HELLO "," TOOLS ",\"stream\":true}", NULL);
    assert_int_equal(r.status, 200);
    char *text = deltas(r.body);
    mask(text, "\"call_");
    assert_string_equal(text,
        "{\"role\":\"assistant\",\"content\":\"\"}\n"
        "{\"reasoning_content\":\"H\",\"reasoning\":\"H\"}\n{\"reasoning_content\":\"m\",\"reasoning\":\"m\"}\n"
        "{\"content\":\"I\"}\n"
        BEGIN("0", "get_time") PART("0", "{") PART("0", "\\\"") PART("0", "a") PART("0", "\\\"") PART("0", ":")
        PART("0", " ") PART("0", "1") PART("0", "}")
        BEGIN("1", "get_weather") PART("1", "{") PART("1", "}")
        "tool_calls\n");
    mem_free(text);
    reply_free(&r);
}

/* A call without arguments still has "{}". */
static void test_a_streamed_call_without_arguments(void **state)
{
    say_bytes(*state, "<tool_call>{\"name\": \"get_time\"}</tool_call>");
    struct reply r = rig_call(*state, CHAT, "{" HELLO "," TOOLS ",\"stream\":true}", NULL);
    char *text = deltas(r.body);
    mask(text, "\"call_");
    assert_string_equal(text, "{\"role\":\"assistant\",\"content\":\"\"}\n" BEGIN("0", "get_time") PART("0", "{}")
                              "tool_calls\n");
    mem_free(text);
    reply_free(&r);
}

/* Two choices have each their own calls and reasons. */
static void test_streamed_calls_of_two_choices(void **state)
{
    say_bytes(*state, "<tool_call>{\"name\": \"get_time\"}</tool_call>");
    struct reply r = rig_call(*state, CHAT, "{" HELLO "," TOOLS ",\"stream\":true,\"n\":2}", NULL);
    size_t begun = 0, ended = 0;
    for (const char *p = strstr(r.body, "\"name\":\"get_time\""); p != NULL; p = strstr(p + 1, "\"name\":\"get_time\""))
        begun++;
    for (const char *p = strstr(r.body, "\"tool_calls\"}"); p != NULL; p = strstr(p + 1, "\"tool_calls\"}"))
        ended++;
    assert_int_equal(begun, 2);
    assert_int_equal(ended, 2);
    reply_free(&r);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        TEST(test_a_call),
        TEST(test_text_and_two_calls),
        TEST(test_no_calls),
        TEST(test_a_cut_call),
        TEST(test_reasoning),
        TEST(test_reasoning_then_a_call),
        TEST(test_thinking_from_the_start),
        TEST(test_stop_strings_are_of_the_answer),
        TEST(test_reasoning_that_is_not_told_apart),
        TEST(test_logprobs_of_calls),
        TEST(test_logprobs_hide_reasoning),
        TEST(test_a_streamed_answer_of_all_kinds),
        TEST(test_a_streamed_call_without_arguments),
        TEST(test_streamed_calls_of_two_choices),
    };
    return cmocka_run_group_tests_name("api_tools", tests, NULL, NULL);
}
