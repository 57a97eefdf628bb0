/* test_api_plans: what a chat's fields ask the engine to keep to: tool_choice, strict tools, forms, reasoning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "tests/coordinator/api_rig.h"

#define CHAT "/v1/chat/completions"
#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]"
#define FUNCTION(name, more) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"" more ",\"parameters\":" \
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"]}}}"
#define TIME FUNCTION("get_time", "")
#define WEATHER FUNCTION("get_weather", "")
#define STRICT FUNCTION("get_time", ",\"strict\":true")
#define TOOLS "\"tools\":[" TIME "," WEATHER "]"
#define NAMED(name) "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define NAME_OF(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define ALLOWED(mode, name) "\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":\"" mode "\"," \
    "\"tools\":[" NAME_OF(name) "]}}"
#define BODY(name) "{\"name\": \"" name "\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>"
#define CALL(name) "<tool_call>\n" BODY(name)
#define FORM "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":\"integer\"}}}"

/* Sends the request; what the engine was asked. The grammar stays the fake's. */
static struct fake_seen ask(void **state, const char *fields)
{
    struct rig *rig = *state;
    struct fake_seen seen;
    char *body = mem_printf("{" HELLO "%s%s}", fields[0] ? "," : "", fields);
    rig_say(rig, "Hi", NULL);
    uint32_t i = fake_engine_submitted(rig->engine);
    struct reply r = rig_call(rig, CHAT, body, NULL);
    if (r.status != 200)
        print_message("%s: %s\n", body, r.body);
    assert_int_equal(r.status, 200);
    fake_engine_seen(rig->engine, i, &seen);
    reply_free(&r);
    mem_free(body);
    return seen;
}

static bool takes(const struct fake_seen *seen, const char *text)
{
    struct matcher *m = matcher_create(seen->grammar);
    bool good = matcher_accept_text(m, text, strlen(text), NULL) == 0 && matcher_may_end(m);
    matcher_destroy(&m);
    return good;
}

/* ---- tools ---- */

static void test_calls_that_must_be(void **state)
{
    struct fake_seen seen = ask(state, TOOLS ",\"tool_choice\":\"required\"");
    assert_int_equal(seen.plan.trigger.n, 0);
    assert_true(takes(&seen, CALL("get_time")) && takes(&seen, CALL("get_weather")));
    assert_true(takes(&seen, CALL("get_time") "\n" CALL("get_weather")));
    assert_false(takes(&seen, "Hi") || takes(&seen, CALL("get_news")));
    seen = ask(state, TOOLS ",\"tool_choice\":\"required\",\"parallel_tool_calls\":false");
    assert_true(takes(&seen, CALL("get_time")));
    assert_false(takes(&seen, CALL("get_time") "\n" CALL("get_weather")));
    seen = ask(state, TOOLS "," NAMED("get_weather"));
    assert_true(takes(&seen, CALL("get_weather")));
    assert_false(takes(&seen, CALL("get_time")));
    seen = ask(state, TOOLS "," ALLOWED("required", "get_weather"));
    assert_true(takes(&seen, CALL("get_weather")));
    assert_false(takes(&seen, CALL("get_time")));
    seen = ask(state, TOOLS "," FORM ",\"tool_choice\":\"required\"");
    assert_true(takes(&seen, CALL("get_time")));
    assert_false(takes(&seen, "42"));
}

static void test_calls_that_may_be(void **state)
{
    assert_null(ask(state, TOOLS).grammar);
    assert_null(ask(state, TOOLS ",\"tool_choice\":\"auto\",\"parallel_tool_calls\":true").grammar);
    assert_null(ask(state, TOOLS ",\"tool_choice\":\"none\",\"parallel_tool_calls\":false").grammar);
    assert_null(ask(state, "\"tool_choice\":\"auto\"").grammar);
    assert_null(ask(state, "\"tool_choice\":\"none\"").grammar);
    struct fake_seen seen = ask(state, TOOLS ",\"parallel_tool_calls\":false");
    assert_string_equal(seen.plan.trigger.text, "<tool_call>");
    assert_true(seen.plan.once && !seen.plan.at_start);
    assert_true(takes(&seen, "\n" BODY("get_time")));
    assert_false(takes(&seen, CALL("get_time")));
    seen = ask(state, "\"tools\":[" STRICT "," WEATHER "]");
    assert_string_equal(seen.plan.trigger.text, "<tool_call>");
    assert_false(seen.plan.once);
    assert_true(takes(&seen, "\n" BODY("get_weather")));
    seen = ask(state, TOOLS "," ALLOWED("auto", "get_weather"));
    assert_int_equal(seen.plan.trigger.n, 1);
    assert_true(takes(&seen, "\n" BODY("get_weather")));
    assert_false(takes(&seen, "\n" BODY("get_time")));
}

static void test_a_tool_that_is_allowed_twice(void **state)
{
    struct fake_seen seen = ask(state, TOOLS ",\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{"
                                "\"mode\":\"auto\",\"tools\":[" NAME_OF("get_weather") "," NAME_OF("get_weather")
                                "]}}");
    assert_non_null(seen.grammar);
    assert_true(takes(&seen, "\n" BODY("get_weather")));
    assert_false(takes(&seen, "\n" BODY("get_time")));
}

static void test_calls_or_a_form(void **state)
{
    struct fake_seen seen = ask(state, TOOLS "," FORM);
    assert_int_equal(seen.plan.trigger.n, 0);
    assert_true(takes(&seen, CALL("get_time")) && takes(&seen, "42"));
    assert_false(takes(&seen, "Hi"));
    seen = ask(state, TOOLS "," FORM ",\"tool_choice\":\"none\"");
    assert_true(takes(&seen, "42"));
    assert_false(takes(&seen, CALL("get_time")));
}

static void test_bad_choices_are_named(void **state)
{
    static const struct {
        const char *fields, *param, *part;
    } rows[] = {
        { TOOLS ",\"tool_choice\":\"any\"", "tool_choice", "\"any\"" },
        { TOOLS ",\"tool_choice\":{}", "tool_choice", "named by" },
        { TOOLS ",\"tool_choice\":5", "tool_choice", "can be" },
        { TOOLS "," NAMED("get_news"), "tool_choice", "\"get_news\" is none" },
        { TOOLS "," ALLOWED("auto", "get_news"), "tool_choice", "\"get_news\" is none" },
        { TOOLS "," ALLOWED("some", "get_time"), "tool_choice", "mode" },
        { "\"tool_choice\":\"required\"", "tool_choice", "only allowed when there are tools" },
        { "\"tools\":[]," NAMED("get_time"), "tool_choice", "only allowed when there are tools" },
        { TOOLS ",\"parallel_tool_calls\":1", "parallel_tool_calls", "true or false" },
        { "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":{"
          "\"not\":{}}}}]", "tools", "strict function f" },
        { "\"reasoning\":5", "reasoning", "object" },
        { "\"reasoning\":{\"effort\":5}", "reasoning.effort", "string" },
        { "\"reasoning\":{\"max_tokens\":-5}", "reasoning", "from 0" },
        { "\"reasoning\":{\"max_tokens\":\"5\"}", "reasoning", "whole number" },
        { "\"reasoning_format\":\"deepseek-legacy\"", "reasoning_format", "must be" },
        { "\"thinking_token_budget\":-2", "thinking_token_budget", "at least -1" },
        { "\"reasoning_budget\":true", "reasoning_budget", "integer" },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char *body = mem_printf("{" HELLO ",%s}", rows[i].fields);
        struct reply r = rig_call(*state, CHAT, body, NULL);
        const char *message = reply_text(&r, "error.message");
        if (r.status != 400 || message == NULL || strstr(message, rows[i].part) == NULL)
            print_message("%s: %d %s\n", body, r.status, r.body);
        assert_int_equal(r.status, 400);
        assert_string_equal(reply_text(&r, "error.param"), rows[i].param);
        assert_non_null(strstr(message, rows[i].part));
        reply_free(&r);
        mem_free(body);
    }
}

/* A template that shows tools in no form that is known. */
static void test_an_unknown_form_of_calls(void **state)
{
    rig_template(*state, "{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}");
    assert_null(ask(state, "\"tools\":[" STRICT "]").grammar);
    struct reply r = rig_call(*state, CHAT, "{" HELLO "," TOOLS ",\"tool_choice\":\"required\"}", NULL);
    assert_int_equal(r.status, 400);
    assert_string_equal(reply_text(&r, "error.param"), "tool_choice");
    reply_free(&r);
}

/* ---- reasoning ---- */

#define TURNS "{% for m in messages %}{{ m.content }}{% endfor %}"
/* As models that may think have it, those that always do, and those that were told. */
#define MAY_THINK TURNS "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
#define THINKS TURNS "<think>\n"
#define SWITCHED TURNS "{% if thinking %}<think>{% else %}</think>{% endif %}"

static void test_what_may_come_before_a_form(void **state)
{
    struct fake_seen seen = ask(state, FORM);
    assert_int_equal(seen.plan.open.n, 0); /* the demo's template says nothing of thinking */
    assert_false(seen.plan.thinking);
    seen = ask(state, FORM ",\"reasoning_effort\":\"low\"");
    assert_string_equal(seen.plan.open.text, "<think>");
    rig_template(*state, MAY_THINK);
    seen = ask(state, FORM);
    assert_string_equal(seen.plan.open.text, "<think>");
    assert_string_equal(seen.plan.close.text, "</think>");
    assert_false(seen.plan.reopens);
    assert_int_equal(ask(state, FORM ",\"reasoning_effort\":\"none\"").plan.open.n, 0);
    assert_int_equal(ask(state, FORM ",\"chat_template_kwargs\":{\"enable_thinking\":false}").plan.open.n, 0);
    rig_template(*state, THINKS);
    seen = ask(state, FORM);
    assert_true(seen.plan.thinking);
    assert_int_equal(seen.plan.open.n, 0);
    assert_true(takes(&seen, "42"));
}

static void test_switches(void **state)
{
    static const struct {
        const char *fields;
        bool thinking;
    } rows[] = {
        { "", false },
        { "\"reasoning_effort\":\"high\"", true },
        { "\"reasoning_effort\":\"none\"", false },
        { "\"reasoning\":{\"effort\":\"low\"}", true },
        { "\"reasoning\":{\"effort\":\"none\"}", false },
        { "\"reasoning\":{\"enabled\":true}", true },
        { "\"reasoning\":{\"enabled\":true},\"reasoning_effort\":\"none\"", false },
        { "\"chat_template_kwargs\":{\"enable_thinking\":true}", true },
        { "\"chat_template_kwargs\":{\"thinking\":true}", true },
        { "\"chat_template_kwargs\":{\"thinking\":false},\"reasoning_effort\":\"high\"", false },
        { "\"reasoning\":null,\"reasoning_effort\":null,\"chat_template_kwargs\":null", false },
    };
    rig_template(*state, SWITCHED);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        if (ask(state, rows[i].fields).plan.thinking != rows[i].thinking)
            fail_msg("%s", rows[i].fields);
    }
}

static void test_budgets(void **state)
{
    static const struct {
        const char *fields;
        int64_t budget;
    } rows[] = {
        { "", -1 },
        { "\"thinking_token_budget\":7", 7 },
        { "\"reasoning_budget\":0", 0 },
        { "\"reasoning_budget\":-1", -1 },
        { "\"reasoning\":{\"max_tokens\":9}", 9 },
        { "\"reasoning\":{\"max_tokens\":9},\"thinking_token_budget\":3", 3 },
        { "\"reasoning_effort\":\"none\"", 0 }, /* where the template thinks all the same */
        { "\"chat_template_kwargs\":{\"enable_thinking\":false}", 0 },
    };
    rig_template(*state, THINKS);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct fake_seen seen = ask(state, rows[i].fields);
        if (seen.plan.budget != rows[i].budget || !seen.plan.thinking)
            fail_msg("%s: %lld", rows[i].fields, (long long)seen.plan.budget);
        assert_int_equal(seen.plan.close.n, 1);
    }
    rig_template(*state, TURNS); /* it may begin by itself */
    struct fake_seen seen = ask(state, "\"thinking_token_budget\":7");
    assert_int_equal(seen.plan.budget, 7);
    assert_string_equal(seen.plan.open.text, "<think>");
    assert_int_equal(ask(state, "\"thinking_token_budget\":7,\"reasoning_effort\":\"none\"").plan.budget, -1);
}

/* ---- channels ---- */

/* gpt-oss: what leads to the answer is not of the form, and what was thought ends with the message. */
static void test_channels(void **state)
{
    rig_template(*state, "{# <|channel|> <|message|> analysis #}{{ tools }}" TURNS "<|end|><|start|>assistant");
    struct fake_seen seen = ask(state, FORM);
    assert_string_equal(seen.plan.lead.text, "<|channel|>final<|message|>");
    assert_string_equal(seen.plan.open.text, "<|channel|>analysis<|message|>");
    assert_string_equal(seen.plan.close.text, "<|end|><|start|>assistant");
    assert_true(seen.plan.reopens);
    assert_int_equal(ask(state, "\"thinking_token_budget\":7").plan.budget, 7);
    assert_true(takes(&seen, "42"));
    seen = ask(state, TOOLS ",\"tool_choice\":\"required\"");
    assert_int_equal(seen.plan.lead.n, 0);
    assert_true(takes(&seen, "<|channel|>commentary to=functions.get_time <|constrain|>json<|message|>"
                             "{\"city\": \"\"}"));
    seen = ask(state, TOOLS "," FORM);
    assert_int_equal(seen.plan.lead.n, 0);
    assert_true(takes(&seen, "<|channel|>final<|message|>42"));
    assert_true(takes(&seen, "<|channel|>commentary to=functions.get_time<|message|>{\"city\": \"\"}"));
    assert_false(takes(&seen, "42"));
    seen = ask(state, "\"tools\":[" STRICT "]");
    assert_string_equal(seen.plan.trigger.text, "<|channel|>commentary to=functions.");
    assert_true(takes(&seen, "get_time<|message|>{\"city\": \"\"}"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        TEST(test_calls_that_must_be),
        TEST(test_calls_that_may_be),
        TEST(test_a_tool_that_is_allowed_twice),
        TEST(test_calls_or_a_form),
        TEST(test_bad_choices_are_named),
        TEST(test_an_unknown_form_of_calls),
        TEST(test_what_may_come_before_a_form),
        TEST(test_switches),
        TEST(test_budgets),
        TEST(test_channels),
    };
    return cmocka_run_group_tests_name("api_plans", tests, NULL, NULL);
}
