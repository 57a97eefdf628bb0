/* test_calls: grammars of tool calls: whatever they allow is read back as calls by the tools' schemas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/random.h"
#include "text/grammar/grammar.h"
#include "text/reply/reply.h"

enum { BYTES = 256, WALKS = 80, STEPS_MAX = 4000 };

#define WEATHER(strict) "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\"" strict ",\"parameters\":{" \
    "\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\",\"minimum\":1," \
    "\"maximum\":9},\"metric\":{\"type\":\"boolean\"},\"unit\":{\"type\":\"string\",\"enum\":[\"C\",\"F\"]}," \
    "\"kind\":{\"$ref\":\"#/$defs/kind\"}},\"required\":[\"city\",\"unit\"]," \
    "\"$defs\":{\"kind\":{\"enum\":[\"sun\",\"rain\"],\"type\":\"string\"}}}}}"
#define TIME "{\"type\":\"function\",\"function\":{\"name\":\"get_time\"}}"
/* Its schema cannot be kept to. */
#define LOOSE(strict) "{\"type\":\"function\",\"function\":{\"name\":\"loose\"" strict ",\"parameters\":{" \
    "\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}}}}}}"

static const char *const formats[] = {
    "hermes", "qwen3-coder", "glm-4.5", "minimax-m2", "llama3", "mistral", "mistral-named", "deepseek-v3",
    "deepseek-v3.1", "kimi-k2", "command-r", "command-r-plus", "granite", "nemotron", "harmony",
    "deepseek-v4", "deepseek-v3.2", "minicpm5", "seed-oss", "phi-4", "apriel", "gigachat", "firefunction"};

static struct token_trie *trie;
static json_t *tools;

static int open_all(void **state)
{
    (void)state;
    char bytes[BYTES];
    uint32_t starts[BYTES + 2] = {0};
    for (uint32_t i = 0; i < BYTES; i++) {
        bytes[i] = (char)i;
        starts[i + 1] = i + 1;
    }
    starts[BYTES + 1] = BYTES;
    const int32_t end = BYTES;
    trie = token_trie_from(bytes, starts, BYTES + 1, &end, 1);
    tools = json_loads("[" WEATHER("") "," TIME "]", 0, NULL);
    return tools ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    token_trie_drop(&trie);
    json_decref(tools);
    return 0;
}

/* ---- reading back ---- */

struct read {
    struct buffer text, arguments; /* of the last call */
    char name[REPLY_NAME_MAX + 1];
    uint32_t n_calls, n_times;
};

/* The call that has ended is by its tool's schema. */
static void check_call(struct read *r)
{
    if (r->name[0] == '\0')
        return;
    json_t *j = json_loadb(buffer_text(&r->arguments), r->arguments.len, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(j))
        print_message("%s: %s\n", r->name, buffer_text(&r->arguments));
    assert_true(json_is_object(j));
    if (strcmp(r->name, "get_time") == 0) {
        assert_int_equal(json_object_size(j), 0);
        r->n_times++;
    } else {
        assert_string_equal(r->name, "get_weather");
        json_t *days = json_object_get(j, "days"), *metric = json_object_get(j, "metric");
        const char *unit = json_string_value(json_object_get(j, "unit"));
        const char *kind = json_string_value(json_object_get(j, "kind"));
        assert_true(json_is_string(json_object_get(j, "city")));
        assert_true(unit && (strcmp(unit, "C") == 0 || strcmp(unit, "F") == 0));
        assert_true(!json_object_get(j, "kind") || strcmp(kind, "sun") == 0 || strcmp(kind, "rain") == 0);
        assert_true(!days || (json_integer_value(days) >= 1 && json_integer_value(days) <= 9));
        assert_true(!metric || json_is_boolean(metric));
    }
    json_decref(j);
}

static void see(void *arg, enum reply_kind kind, const char *text, size_t n)
{
    struct read *r = arg;
    if (kind == REPLY_CALL) {
        check_call(r);
        assert_true(n < sizeof(r->name));
        memcpy(r->name, text, n);
        r->name[n] = '\0';
        r->n_calls++;
        buffer_clear(&r->arguments);
    } else {
        buffer_add(kind == REPLY_ARGUMENTS ? &r->arguments : &r->text, text, n);
    }
}

/* How many calls the answer has; they are checked, and there is no text beside them. */
static uint32_t read_back(const struct reply_format *f, const struct buffer *answer, uint32_t *n_times)
{
    struct read seen = {0};
    struct reply_options o = {.formats = {.calls = f}, .tools = tools, .sink = see, .arg = &seen};
    buffer_init(&seen.text, 1 << 20);
    buffer_init(&seen.arguments, 1 << 20);
    struct reply *r = reply_open(&o);
    reply_push(r, buffer_text(answer), answer->len);
    reply_finish(r);
    reply_close(&r);
    check_call(&seen);
    if (seen.text.len > 0)
        print_message("%s: %s\n", f->name, buffer_text(answer));
    assert_int_equal(seen.text.len, 0);
    buffer_close(&seen.text);
    buffer_close(&seen.arguments);
    *n_times += seen.n_times;
    return seen.n_calls;
}

/* ---- walking ---- */

static bool allowed(const uint8_t *bits, uint32_t id)
{
    return bits[id >> 3] >> (id & 7) & 1;
}

/* The byte that goes on with the mark that the answer ends with the beginning of; -1: there is none. */
static int going_on(const struct buffer *answer, const char *mark)
{
    for (size_t k = mark ? strlen(mark) : 0; k-- > 1;)
        if (answer->len >= k && memcmp(answer->data + answer->len - k, mark, k) == 0)
            return (unsigned char)mark[k];
    return -1;
}

static uint32_t below(struct random_state *rng, uint32_t n)
{
    return (uint32_t)(random_u64(rng) % n);
}

static uint32_t choose(struct random_state *rng, const uint8_t *bits, const struct buffer *answer, const char *mark)
{
    static const char likely[] = "<\"}]";
    int next = going_on(answer, mark);
    if (allowed(bits, BYTES) && below(rng, 3) > 0)
        return BYTES;
    if (next >= 0 && allowed(bits, (uint32_t)next) && below(rng, 5) > 0)
        return (uint32_t)next;
    uint32_t id = (unsigned char)likely[below(rng, sizeof(likely) - 1)];
    if (allowed(bits, id) && below(rng, 4) == 0)
        return id;
    id = below(rng, BYTES);
    for (uint32_t i = 0; i < BYTES && !allowed(bits, id); i++)
        id = (id + 1) % BYTES;
    return allowed(bits, id) ? id : BYTES;
}

/* An answer that the grammar allows, behind what is in `answer`. False: it did not come to an end. */
static bool walk(struct grammar *g, struct random_state *rng, const char *mark, struct buffer *answer)
{
    uint8_t bits[BYTES / 8 + 1];
    struct matcher *m = matcher_create(g);
    bool ended = false;
    for (int i = 0; i < STEPS_MAX && !ended; i++) {
        uint32_t n = 0;
        assert_int_equal(matcher_mask(m, bits, &n, NULL), 0);
        assert_true(n > 0);
        uint32_t id = choose(rng, bits, answer, mark);
        ended = id == BYTES;
        if (ended)
            break;
        assert_int_equal(matcher_accept(m, (int32_t)id, NULL), 0);
        buffer_u8(answer, (uint8_t)id);
    }
    matcher_destroy(&m);
    return ended;
}

static struct grammar *compiled(const struct grammar_calls *c)
{
    struct grammar *g = NULL;
    struct error e = {0};
    if (grammar_calls(&g, trie, c, &e) != 0)
        print_message("%s: %s\n", c->format->name, e.text);
    assert_non_null(g);
    return g;
}

static void walk_format(const char *name, bool begun, bool many)
{
    const struct reply_format *f = reply_format_named(name);
    assert_non_null(f);
    struct grammar *g = compiled(&(struct grammar_calls){.format = f, .tools = tools, .begun = begun, .many = many});
    struct random_state rng;
    random_seed(&rng, 7);
    struct buffer answer;
    buffer_init(&answer, 1 << 20);
    uint32_t ended = 0, several = 0, times = 0;
    for (int i = 0; i < WALKS; i++) {
        buffer_clear(&answer);
        if (begun)
            buffer_add_text(&answer, reply_trigger(f));
        if (!walk(g, &rng, f->tags ? f->tags->value_end : NULL, &answer))
            continue;
        uint32_t n = read_back(f, &answer, &times);
        assert_true(n >= 1);
        assert_true(many || n == 1);
        several += n > 1;
        ended++;
    }
    assert_true(ended > WALKS / 2);
    assert_true(times > 0);
    bool bare = f->style == REPLY_STYLE_BARE;
    bool one_by_one = begun && !f->list && !bare && !(f->tags && f->tags->name);
    assert_true(several > 0 || !many || one_by_one || f->style == REPLY_STYLE_CHANNELS);
    buffer_close(&answer);
    grammar_drop(&g);
}

static void test_what_is_allowed_is_read_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(formats); i++)
        for (int k = 0; k < 4; k++)
            walk_format(formats[i], k & 1, k & 2);
}

/* ---- single texts ---- */

static bool takes(struct grammar *g, const char *text)
{
    struct matcher *m = matcher_create(g);
    bool good = matcher_accept_text(m, text, strlen(text), NULL) == 0 && matcher_may_end(m);
    matcher_destroy(&m);
    return good;
}

#define OSLO "{\"city\": \"Oslo\", \"unit\": \"C\"}"

/* As the models' own templates write them. */
static const struct {
    const char *format, *text;
} usual[] = {
    {"hermes", "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": " OSLO "}\n</tool_call>\n<tool_call>\n"
               "{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>"},
    {"qwen3-coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\nA < b </param <<//parameter>\n</parameter>"
                    "\n<parameter=days>\n3\n</parameter>\n<parameter=unit>\nF\n</parameter>\n</function>"
                    "\n</tool_call>"},
    {"qwen3-coder", "<tool_call>\n<function=get_time>\n</function>\n</tool_call>"},
    {"glm-4.5", "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>unit</arg_key>"
                "\n<arg_value>C</arg_value>\n</tool_call>"},
    {"minimax-m2", "<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"city\">Oslo</parameter>\n"
                   "<parameter name=\"unit\">C</parameter>\n</invoke>\n<invoke name=\"get_time\">\n</invoke>\n"
                   "</minimax:tool_call>"},
    {"llama3", "{\"name\": \"get_weather\", \"parameters\": " OSLO "}"},
    {"mistral", "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": " OSLO "}, {\"name\": \"get_time\", "
                "\"arguments\": {}}]"},
    {"mistral-named", "[TOOL_CALLS]get_weather[ARGS]" OSLO "[TOOL_CALLS]get_time[ARGS]{}"},
    {"deepseek-v3", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n" OSLO "\n```"
                    "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{}\n```"
                    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
    {"deepseek-v3.1", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>" OSLO
                      "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
    {"kimi-k2", "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
                OSLO "<|tool_call_end|><|tool_calls_section_end|>"},
    {"command-r", "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"get_weather\", \"parameters\": "
                  OSLO "}\n]<|END_ACTION|>"},
    {"granite", "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": " OSLO "}]"},
    {"nemotron", "<TOOLCALL>[{\"name\": \"get_weather\", \"arguments\": " OSLO "}]</TOOLCALL>"},
    {"deepseek-v4", "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "
                    "string=\"true\">Os</｜DSML lo</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">3"
                    "</｜DSML｜parameter>\n<｜DSML｜parameter name=\"unit\" string=\"true\">C</｜DSML｜parameter>\n"
                    "</｜DSML｜invoke>\n</｜DSML｜tool_calls>"},
    {"minicpm5", "<function name=\"get_weather\"><param name=\"city\">Oslo</param><param name=\"unit\">C</param>"
                 "</function>"},
    {"seed-oss", "<seed:tool_call>\n<function=get_time>\n</function>\n</seed:tool_call>"},
    {"phi-4", "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": " OSLO "}]<|/tool_call|>"},
    {"apriel", "<tool_calls>[{\"name\": \"get_weather\", \"arguments\": " OSLO "}]</tool_calls>"},
    {"gigachat", "<|function_call|>{\"name\": \"get_weather\", \"arguments\": " OSLO "}"},
    {"firefunction", "functools[{\"name\": \"get_weather\", \"arguments\": " OSLO "}]"},
    {"harmony", "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>" OSLO},
};

static void test_usual_calls_are_allowed(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(usual); i++) {
        struct grammar_calls c = {.format = reply_format_named(usual[i].format), .tools = tools, .many = true};
        struct grammar *g = compiled(&c);
        if (!takes(g, usual[i].text))
            print_message("%s: %s\n", usual[i].format, usual[i].text);
        assert_true(takes(g, usual[i].text));
        assert_false(takes(g, ""));
        assert_false(takes(g, "It is sunny."));
        grammar_drop(&g);
    }
}

static void test_other_calls_are_not(void **state)
{
    static const struct {
        const char *format, *text;
    } rows[] = {
        {"hermes", "<tool_call>\n{\"name\": \"get_news\", \"arguments\": {}}\n</tool_call>"},
        {"hermes", "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {}}\n</tool_call>"},
        {"hermes", "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": "
                   "\"get_time\", \"arguments\": {}}\n</tool_call>"},
        {"mistral", "[TOOL_CALLS][{\"name\": \"get_time\", \"arguments\": {}}, {\"name\": \"get_time\", \"arguments\": "
                    "{}}]"},
        {"qwen3-coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\na\n</parameter>\n<parameter=unit>\nK\n"
                        "</parameter>\n</function>\n</tool_call>"},
        {"minimax-m2", "<minimax:tool_call>\n<invoke name=\"get_time\">\n</invoke>\n<invoke name=\"get_time\">\n"
                       "</invoke>\n</minimax:tool_call>"},
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct grammar *g = compiled(&(struct grammar_calls){
            .format = reply_format_named(rows[i].format), .tools = tools});
        assert_false(takes(g, rows[i].text));
        grammar_drop(&g);
    }
}

static void test_calls_or_another_form(void **state)
{
    (void)state;
    json_t *schema = json_pack("{s:s}", "type", "integer");
    struct grammar *g = compiled(&(struct grammar_calls){.format = reply_format_named("hermes"), .tools = tools,
                                                         .instead = GRAMMAR_SCHEMA, .source = schema});
    assert_true(takes(g, "42"));
    assert_true(takes(g, "<tool_call>{\"name\": \"get_time\", \"arguments\": {}}</tool_call>"));
    assert_false(takes(g, "no"));
    grammar_drop(&g);
    json_decref(schema);
}

/* ---- strict ---- */

/* Compiles "[WEATHER, tool]"; the status. */
static int compile_with(const char *format, const char *tool, struct grammar **g, struct error *e)
{
    char *text = mem_printf("[" WEATHER("") ",%s]", tool);
    json_t *list = json_loads(text, 0, NULL);
    assert_non_null(list);
    struct grammar_calls c = {.format = reply_format_named(format), .tools = list};
    int status = grammar_calls(g, trie, &c, e);
    json_decref(list);
    mem_free(text);
    return status;
}

static void test_strict_schemas_are_kept_to_or_refused(void **state)
{
    struct grammar *g = NULL;
    struct error e = {0};
    (void)state;
    assert_int_equal(compile_with("hermes", LOOSE(""), &g, &e), 0);
    assert_true(takes(g, "<tool_call>{\"name\": \"loose\", \"arguments\": {\"b\": [1]}}</tool_call>"));
    grammar_drop(&g);
    assert_int_equal(compile_with("glm-4.5", LOOSE(""), &g, &e), 0);
    assert_true(takes(g, "<tool_call>loose<arg_key>a</arg_key><arg_value>[1]</arg_value></tool_call>"));
    grammar_drop(&g);
    assert_int_equal(compile_with("hermes", LOOSE(",\"strict\":true"), &g, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "strict function loose"));
    assert_non_null(strstr(e.text, "\"not\""));
    e = (struct error){0};
    assert_int_equal(compile_with("qwen3-coder", "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true,"
        "\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"x\"}}}}}",
        &g, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "\"pattern\""));
}

/* An object comes in any case, whatever the schema leaves open. */
static void test_arguments_are_objects(void **state)
{
    struct grammar *g = NULL;
    (void)state;
    assert_int_equal(compile_with("hermes", "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{"
                                  "\"properties\":{\"a\":{\"type\":\"null\"}}}}}", &g, NULL), 0);
    assert_true(takes(g, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": null}}</tool_call>"));
    assert_false(takes(g, "<tool_call>{\"name\": \"f\", \"arguments\": 1}</tool_call>"));
    grammar_drop(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_allowed_is_read_back),
        cmocka_unit_test(test_usual_calls_are_allowed),
        cmocka_unit_test(test_other_calls_are_not),
        cmocka_unit_test(test_calls_or_another_form),
        cmocka_unit_test(test_strict_schemas_are_kept_to_or_refused),
        cmocka_unit_test(test_arguments_are_objects),
    };
    return cmocka_run_group_tests_name("calls", tests, open_all, close_all);
}
