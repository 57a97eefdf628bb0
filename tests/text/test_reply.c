/* test_reply: what models write, as text, reasoning and calls, however its bytes are divided. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "text/reply/reply.h"

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{"
    "\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"},\"metric\":{\"type\":\"boolean\"},"
    "\"at\":{\"type\":\"object\"}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"get_time\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{}}}}]";

#define PARIS "{\"city\": \"Paris\"}"
#define CALL_PARIS "[get_weather]" PARIS
#define CALL_BOTH CALL_PARIS "[get_time]{}"

/* In what is read a call is "[name]arguments", reasoning "(...)". */
static const struct row {
    const char *format, *think; /* NULL: none */
    bool thinking;
    const char *input, *expected;
} rows[] = {
    {"hermes", NULL, false, "Hello <b>you</b>!\n", "Hello <b>you</b>!\n"},
    {"hermes", NULL, false, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": " PARIS "}\n</tool_call>"
        "", CALL_PARIS},
    {"hermes", NULL, false, "I look.\n\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": " PARIS "}"
        "\n</tool_call>\n"
     "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>\n", "I look." CALL_BOTH},
    {"hermes", NULL, false, "<tool_call>{\"arguments\": " PARIS ", \"name\": \"get_weather\"}</tool_call>"
        "Bye", CALL_PARIS "Bye"},
    {"hermes", NULL, false, "<tool_call>{\"name\": \"get_time\"}</tool_call>", "[get_time]{}"},
    {"hermes", NULL, false, "<tool_call>{\"name\": \"get_time\", \"arguments\": null}</tool_call>", "[get_time]{}"},
    {"hermes", NULL, false, "<tool_call>{\"name\": \"get_weather\", \"arguments\": \"{\\\"city\\\": "
        "\\\"Rome\\\"}\"}</tool_call>",
     "[get_weather]{\"city\":\"Rome\"}"},
    {"hermes", NULL, false, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"}</tool_call>\\\"\", "
        "\"b\": [1, {}]}, \"id\": 3}"
     "</tool_call>", "[f]{\"a\": \"}</tool_call>\\\"\", \"b\": [1, {}]}"},
    {"hermes", NULL, false, "a <tool_call> b", "a <tool_call> b"},
    {"hermes", NULL, false, "<tool_call>\nnothing\n</tool_call>", "<tool_call>\nnothing\n</tool_call>"},
    {"hermes", NULL, false, "<tool_call>{\"name\": \"a b\", \"arguments\": {}}</tool_call>",
     "<tool_call>{\"name\": \"a b\", \"arguments\": {}}</tool_call>"},
    {"hermes", NULL, false, "x <tool_call>{\"name\": \"get_t", "x <tool_call>{\"name\": \"get_t"},
    {"hermes", NULL, false, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"cut", "[f]{\"a\": \"cut"},
    {"hermes", NULL, false, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": </tool_call> "
        "text", "[f]{\"a\": text"},
    {"hermes", NULL, false, "<tool_call>{\"name\": \"f\", \"arguments\": {}}\n</tool", "[f]{}"},
    {"hermes", NULL, false, "<tool_", "<tool_"},
    {"hermes", "<think>", false, "<think>\nHm.\n</think>\n\nYes  no", "(Hm.)Yes  no"},
    {"hermes", "<think>", true, "Hm < 3\n\n</think>\n\n<tool_call>{\"name\": \"get_time\"}</tool_call>", "(Hm "
        "< 3)[get_time]{}"},
    {"hermes", "<think>", true, "never ends </thin", "(never ends </thin)"},
    {"hermes", "<think>", false, "The tag <think> opens it.", "The tag <think> opens it."},
    {NULL, "[THINK]", false, "[THINK]why\xC3\xA9[/THINK] So", "(why\xC3\xA9)So"},
    {"qwen3-coder", NULL, false, "<tool_call>\n<function=get_weather>\n<parameter=city>\nNew \"York\"\n</parameter>\n"
     "<parameter=days>\n3\n</parameter>\n<parameter=metric>\nTrue\n</parameter>\n</function>\n</tool_call>",
     "[get_weather]{\"city\": \"New \\\"York\\\"\", \"days\": 3, \"metric\": true}"},
    {"qwen3-coder", NULL, false, "<tool_call>\n<function=get_time>\n</function>\n</tool_call>", "[get_time]{}"},
    {"qwen3-coder", NULL, false, "<tool_call><function=get_weather><parameter=city>a\n\nb<\n</parameter>"
        "<parameter=other>[1,\n2]"
     "</parameter><parameter=third>x y</parameter></function></tool_call>",
     "[get_weather]{\"city\": \"a\\n\\nb<\", \"other\": [1,\n2], \"third\": \"x y\"}"},
    {"qwen3-coder", NULL, false, "<tool_call>\n<function get_time>\n</tool_call>", "<tool_call>\n<function "
        "get_time>\n</tool_call>"},
    {"glm-4.5", "<think>", false, "<think>Hm</think>\n<tool_call>get_weather\n<arg_key>city</arg_key>"
        "\n<arg_value>Paris</arg_value>\n"
     "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>", "(Hm)[get_weather]{\"city\": "
     "\"Paris\", \"days\": 2}"},
    {"glm-4.5", NULL, false, "<tool_call>get_time</tool_call><tool_call>get_weather<arg_key>city</arg_key>"
        "<arg_value> x"
     "</arg_value></tool_call>", "[get_time]{}[get_weather]{\"city\": \" x\"}"},
    {"minimax-m2", NULL, false, "<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"city\">"
        "Paris</parameter>\n"
     "</invoke>\n<invoke name=\"get_time\">\n</invoke>\n</minimax:tool_call>", CALL_BOTH},
    {"llama3", NULL, false, "{\"name\": \"get_weather\", \"parameters\": " PARIS "}", CALL_PARIS},
    {"llama3", NULL, false, "<|python_tag|>{\"name\": \"get_weather\", \"parameters\": " PARIS "}; {\"name\": "
        "\"get_time\", "
     "\"parameters\": {}}", CALL_BOTH},
    {"llama3", NULL, false, "{\"type\": \"function\", \"function\": \"get_time\", \"parameters\": {}}"
        "", "[get_time]{}"},
    {"llama3", NULL, false, "{\"name\": \"Anna\", \"parameters\": {}}", "{\"name\": \"Anna\", \"parameters\": {}}"},
    {"llama3", NULL, false, "It is {\"name\": \"get_time\"}", "It is {\"name\": \"get_time\"}"},
    {"mistral", NULL, false, "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": " PARIS "}, {\"name\": "
        "\"get_time\", "
     "\"arguments\": {}}]", CALL_BOTH},
    {"mistral-named", "[THINK]", true, "Hm[/THINK][TOOL_CALLS]get_weather[ARGS]" PARIS
     "[TOOL_CALLS]get_time[CALL_ID]123456789[ARGS]{}", "(Hm)" CALL_BOTH},
    {"mistral-named", NULL, false, "[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": " PARIS "}"
        "]", CALL_PARIS},
    {"deepseek-v3", NULL, false, "Sure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
        "get_weather\n```json\n" PARIS
     "\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{}\n```<｜tool▁call▁end｜>"
     "<｜tool▁calls▁end｜>", "Sure." CALL_BOTH},
    {"deepseek-v3.1", "<think>", true, "Hm</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
        "get_weather<｜tool▁sep｜>" PARIS
     "<｜tool▁call▁end｜><｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
     "", "(Hm)" CALL_BOTH},
    {"kimi-k2", NULL, false, "<|tool_calls_section_begin|><|tool_call_begin|>"
        "functions.get_weather:0<|tool_call_argument_begin|>" PARIS
     "<|tool_call_end|><|tool_call_begin|>get_time:1<|tool_call_argument_begin|><|tool_call_end|>"
     "<|tool_calls_section_end|>", CALL_BOTH},
    {"command-r", "<|START_THINKING|>", false, "<|START_THINKING|>I plan.<|END_THINKING|><|START_ACTION|>[\n  "
        "  {\"tool_call_id\": \"0\", "
     "\"tool_name\": \"get_weather\", \"parameters\": " PARIS "},\n    {\"tool_call_id\": \"1\", "
     "\"tool_name\": \"get_time\", "
     "\"parameters\": {}}\n]<|END_ACTION|>", "(I plan.)" CALL_BOTH},
    {"command-r", "<|START_THINKING|>", false, "<|START_RESPONSE|>Hi.<|END_RESPONSE|>", "Hi."},
    {"command-r-plus", NULL, false, "Action: ```json\n[\n    {\n        \"tool_name\": \"get_time\",\n        "
        "\"parameters\": {}\n    }\n]```",
     "[get_time]{}"},
    {"deepseek-v4", NULL, false, "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter "
        "name=\"city\" string=\"true\">Paris</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"get_time\">\n"
     "</｜DSML｜invoke>\n</｜DSML｜tool_calls>", CALL_BOTH},
    {"deepseek-v3.2", NULL, false, "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" "
     "string=\"false\">[1, \"x\"]</｜DSML｜parameter>\n<｜DSML｜parameter name=\"b\" string=\"true\">2"
     "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>", "[f]{\"a\": [1, \"x\"], \"b\": \"2\"}"},
    {"minicpm5", "<think>", false, "<think>Hm</think><function name=\"get_weather\"><param name=\"city\">Paris</param>"
     "</function>\n<function name=\"get_time\"></function>", "(Hm)" CALL_BOTH},
    {"seed-oss", "<seed:think>", true, "Hm</seed:think><seed:tool_call>\n<function=get_weather>\n<parameter=city>"
     "Paris</parameter>\n</function>\n</seed:tool_call>", "(Hm)" CALL_PARIS},
    {"phi-4", NULL, false, "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": " PARIS "}]<|/tool_call|>",
     CALL_PARIS},
    {"apriel", NULL, false, "<tool_calls>[{\"name\": \"get_weather\", \"arguments\": " PARIS ", \"id\": \"1\"}, "
     "{\"name\": \"get_time\", \"arguments\": {}}]</tool_calls>", CALL_BOTH},
    {"gigachat", NULL, false, "<|function_call|>{\"name\": \"get_weather\", \"arguments\": " PARIS "}", CALL_PARIS},
    {"firefunction", NULL, false, " functools[{\"name\": \"get_weather\", \"arguments\": " PARIS "}]", CALL_PARIS},
    {"granite", NULL, false, "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": " PARIS "}]", CALL_PARIS},
    {"nemotron", NULL, false, "<TOOLCALL>[{\"name\": \"get_time\", \"arguments\": {}}]</TOOLCALL>", "[get_time]{}"},
    {"mistral", NULL, false, "[TOOL_CALLS][{\"name\": \"get_time\"}, [TOOL_CALLS][{\"name\": \"get_time\"}]",
     "[get_time]{}[get_time]{}"},
    {"qwen3-coder", NULL, false, "<tool_call><function=get_weather><parameter=at>\n{\"a\": \"</param</parameter"
     "\"}</</parameter></function></tool_call>",
     "[get_weather]{\"at\": \"{\\\"a\\\": \\\"</param</parameter\\\"}</\"}"},
    {"harmony", NULL, false, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>"
        "final<|message|>Hi <you>.<|return|>",
     "(Hm.)Hi <you>."},
    {"harmony", NULL, false, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary "
        "to=functions.get_weather "
     "<|constrain|>json<|message|>" PARIS "<|call|>", "(Hm.)" CALL_PARIS},
    {"harmony", NULL, false, "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary "
     "to=functions.get_time<|message|>{}", "I look.[get_time]{}"},
    {"harmony", NULL, false, "plain", "plain"},
};

struct seen {
    struct buffer text;
    int last; /* kind; -1: none */
};

static void see(void *arg, enum reply_kind kind, const char *text, size_t n)
{
    struct seen *s = arg;
    if (s->last == REPLY_REASONING && kind != REPLY_REASONING)
        buffer_add_text(&s->text, ")");
    if (kind == REPLY_REASONING && s->last != REPLY_REASONING)
        buffer_add_text(&s->text, "(");
    buffer_add_text(&s->text, kind == REPLY_CALL ? "[" : "");
    buffer_add(&s->text, text, n);
    buffer_add_text(&s->text, kind == REPLY_CALL ? "]" : "");
    s->last = kind;
}

static struct reply *open_row(const struct row *row, const json_t *tools, struct seen *s)
{
    *s = (struct seen){.last = -1};
    buffer_init(&s->text, 1 << 20);
    struct reply_options o = {.tools = tools, .thinking = row->thinking, .sink = see, .arg = s};
    o.formats.calls = row->format ? reply_format_named(row->format) : NULL;
    o.formats.thinking = row->think ? reply_thinking_named(row->think) : NULL;
    assert_true(!row->format || o.formats.calls);
    assert_true(!row->think || o.formats.thinking);
    return reply_open(&o);
}

static void close_row(struct reply *r, struct seen *s, const char *expected)
{
    reply_finish(r);
    reply_close(&r);
    if (s->last == REPLY_REASONING)
        buffer_add_text(&s->text, ")");
    assert_string_equal(buffer_text(&s->text), expected);
    buffer_close(&s->text);
}

/* In steps of so many bytes, the first one of `first`. */
static void read_row(const struct row *row, const json_t *tools, size_t first, size_t step)
{
    struct seen s;
    struct reply *r = open_row(row, tools, &s);
    size_t len = strlen(row->input);
    reply_push(r, row->input, first);
    for (size_t at = first; at < len; at += step)
        reply_push(r, row->input + at, step < len - at ? step : len - at);
    close_row(r, &s, row->expected);
}

static json_t *read_tools(void)
{
    json_t *tools = json_loads(tools_text, 0, NULL);
    assert_non_null(tools);
    return tools;
}

static void test_every_format_however_divided(void **state)
{
    (void)state;
    json_t *tools = read_tools();
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        size_t len = strlen(rows[i].input);
        for (size_t first = 0; first <= len; first++)
            read_row(&rows[i], tools, first, len);
        for (size_t step = 1; step < 9; step++)
            read_row(&rows[i], tools, 0, step);
    }
    json_decref(tools);
}

static void test_without_tools_nothing_is_a_call(void **state)
{
    (void)state;
    static const struct row row = {"hermes", "<think>", true, "Hm</think><tool_call>{\"name\": \"get_time\"}"
        "</tool_call>",
                                   "(Hm)<tool_call>{\"name\": \"get_time\"}</tool_call>"};
    read_row(&row, NULL, 0, 1);
}

static void test_arguments_come_as_they_are_written(void **state)
{
    (void)state;
    json_t *tools = read_tools();
    static const struct row row = {.format = "hermes"};
    struct seen s;
    struct reply *r = open_row(&row, tools, &s);
    static const char first[] = "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Par";
    reply_push(r, first, sizeof(first) - 1);
    assert_string_equal(buffer_text(&s.text), "[get_weather]{\"city\": \"Par");
    reply_push(r, "is", 2);
    assert_string_equal(buffer_text(&s.text), "[get_weather]{\"city\": \"Paris");
    close_row(r, &s, "[get_weather]{\"city\": \"Paris");
    json_decref(tools);
}

static void test_text_is_held_back_only_for_a_mark(void **state)
{
    (void)state;
    json_t *tools = read_tools();
    static const struct row row = {.format = "hermes"};
    struct seen s;
    struct reply *r = open_row(&row, tools, &s);
    static const struct {
        const char *push, *seen;
    } steps[] = {{"a", "a"}, {" b", "a b"}, {" <t", "a b"}, {"r>", "a b <tr>"}, {"\n", "a b <tr>"}, {"c", "a "
        "b <tr>\nc"}};
    for (size_t i = 0; i < COUNTOF(steps); i++) {
        reply_push(r, steps[i].push, strlen(steps[i].push));
        assert_string_equal(buffer_text(&s.text), steps[i].seen);
    }
    close_row(r, &s, "a b <tr>\nc");
    json_decref(tools);
}

static void push_blanks(struct reply *r, size_t n)
{
    char blanks[4096];
    memset(blanks, '\n', sizeof(blanks));
    for (size_t at = 0; at < n; at += sizeof(blanks))
        reply_push(r, blanks, sizeof(blanks));
}

/* Some models go on with it until their answer is cut. */
static void test_white_space_without_end_takes_no_room(void **state)
{
    (void)state;
    json_t *tools = read_tools();
    static const struct {
        const char *format, *before, *after, *expected;
    } cases[] = {
        {"hermes", "<tool_call>{\"name\": \"get_weather\", \"arguments\": " PARIS, "}</tool_call>Bye",
         CALL_PARIS "Bye"},
        {"hermes", "<tool_call>{\"name\": \"get_time\"}", "</tool_call>Bye", "[get_time]{}Bye"},
        {"qwen3-coder", "<tool_call><function=get_weather>", "<parameter=city>Paris</parameter></function></tool_call>",
         CALL_PARIS},
        {"mistral", "[TOOL_CALLS][{\"name\": \"get_time\"}", ", {\"name\": \"get_time\"}]",
         "[get_time]{}[get_time]{}"},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct row row = {.format = cases[i].format};
        struct seen s;
        struct reply *r = open_row(&row, tools, &s);
        reply_push(r, cases[i].before, strlen(cases[i].before));
        push_blanks(r, (REPLY_VALUE_MAX * 4) + (64 << 10)); /* more than is ever held */
        reply_push(r, cases[i].after, strlen(cases[i].after));
        close_row(r, &s, cases[i].expected);
    }
    json_decref(tools);
}

static void test_a_key_waits_for_its_value_only_so_long(void **state)
{
    (void)state;
    json_t *tools = read_tools();
    static const struct row row = {.format = "glm-4.5"};
    static const char key[] = "<tool_call>get_weather<arg_key>city</arg_key>";
    struct seen s;
    struct reply *r = open_row(&row, tools, &s);
    reply_push(r, key, sizeof(key) - 1);
    push_blanks(r, REPLY_HEAD_MAX * 2);
    static const char seen[] = "[get_weather]{}<arg_key>city</arg_key>\n";
    assert_memory_equal(buffer_text(&s.text), seen, sizeof(seen) - 1);
    reply_close(&r);
    buffer_close(&s.text);
    json_decref(tools);
}

static bool has_no_token(const void *arg, const char *text)
{
    (void)arg;
    (void)text;
    return false;
}

static void test_a_template_says_its_format(void **state)
{
    (void)state;
    static const struct {
        const char *source, *format, *think;
    } cases[] = {
        {"{{ '<tool_call>' }} </think>", "hermes", "<think>"},
        {"<tool_call><function=x><parameter=y>", "qwen3-coder", NULL},
        {"<tool_call>x<arg_key>k</arg_key><arg_value>", "glm-4.5", NULL},
        {"[TOOL_CALLS]name[ARGS] [/THINK]", "mistral-named", "[THINK]"},
        {"[TOOL_CALLS][", "mistral", NULL},
        {"<｜tool▁call▁begin｜>a<｜tool▁sep｜>b\n```json", "deepseek-v3", NULL},
        {"<|start|><|channel|>analysis<|message|>", "harmony", NULL},
        {"<|im_start|>", NULL, NULL},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct reply_formats f = reply_formats_of(cases[i].source, has_no_token, NULL);
        assert_int_equal(f.calls != NULL, cases[i].format != NULL);
        assert_int_equal(f.thinking != NULL, cases[i].think != NULL);
        if (f.calls)
            assert_string_equal(f.calls->name, cases[i].format);
        if (f.thinking)
            assert_string_equal(f.thinking->open, cases[i].think);
    }
    struct reply_formats f = {.thinking = reply_thinking_named("<think>")};
    assert_true(reply_begins_thinking(&f, "assistant\n<think>\n", 18));
    assert_false(reply_begins_thinking(&f, "<think>\n\n</think>\n\n", 19));
    assert_true(reply_has_mark(&f, "</think>"));
    assert_false(reply_has_mark(&f, "<|im_end|>"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_format_however_divided),
        cmocka_unit_test(test_without_tools_nothing_is_a_call),
        cmocka_unit_test(test_arguments_come_as_they_are_written),
        cmocka_unit_test(test_text_is_held_back_only_for_a_mark),
        cmocka_unit_test(test_white_space_without_end_takes_no_room),
        cmocka_unit_test(test_a_key_waits_for_its_value_only_so_long),
        cmocka_unit_test(test_a_template_says_its_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
