/* fuzz_reply: any answer in any format, in pieces and at once: the same is read.
 *
 * An input is: a format, flags, the size of the pieces, then the answer. */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/view.h"
#include "tests/fuzz/fuzz.h"
#include "text/reply/reply.h"

enum { SHOWN_MAX = 1 << 24, THINKS = 1, BEGINS_THINKING = 2, NO_TOOLS = 4 };

static const char *const formats[] = {
    "hermes", "qwen3-coder", "glm-4.5", "minimax-m2", "llama3", "mistral", "mistral-named", "deepseek-v3",
    "deepseek-v3.1", "kimi-k2", "command-r", "granite", "harmony",
};

static const char tools_text[] =
    "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{}}}}}]";

struct seen {
    struct buffer text;
    int last;
};

static void see(void *arg, enum reply_kind kind, const char *text, size_t n)
{
    struct seen *s = arg;
    FUZZ_CHECK(n > 0);
    FUZZ_CHECK(kind != REPLY_ARGUMENTS || s->last == REPLY_CALL || s->last == REPLY_ARGUMENTS);
    if (s->last != (int)kind || kind == REPLY_CALL)
        buffer_u8(&s->text, (uint8_t)kind);
    buffer_add(&s->text, text, n);
    s->last = (int)kind;
}

static void read_in(struct reply_options *o, struct seen *s, const char *text, size_t n, size_t step)
{
    *s = (struct seen){.last = -1};
    buffer_init(&s->text, SHOWN_MAX);
    o->arg = s;
    struct reply *r = reply_open(o);
    for (size_t at = 0; at < n; at += step)
        reply_push(r, text + at, step < n - at ? step : n - at);
    reply_finish(r);
    reply_close(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view v = view_of(data, size);
    size_t format = view_u8(&v) % COUNTOF(formats);
    unsigned flags = view_u8(&v);
    size_t step = 1 + view_u8(&v) % 16, n = view_left(&v);
    const char *text = view_bytes(&v, n);
    json_t *tools = json_loads(tools_text, 0, NULL);
    struct reply_options o = {.thinking = flags & BEGINS_THINKING, .sink = see};
    o.tools = flags & NO_TOOLS ? NULL : tools;
    struct seen whole, parts;
    o.formats.calls = reply_format_named(formats[format]);
    o.formats.thinking = flags & THINKS ? reply_thinking_named("<think>") : NULL;
    if (text && n <= 4096) { /* both ways take in a whole slice, so that limits count the same */
        read_in(&o, &whole, text, n, n + 1);
        read_in(&o, &parts, text, n, step);
        FUZZ_CHECK(whole.text.len == parts.text.len);
        FUZZ_CHECK(memcmp(buffer_text(&whole.text), buffer_text(&parts.text), whole.text.len) == 0);
        buffer_close(&whole.text);
        buffer_close(&parts.text);
    }
    json_decref(tools);
    return 0;
}

static void give_one(fuzz_give_fn give, void *arg, uint8_t format, uint8_t flags, const char *text)
{
    struct buffer b;
    buffer_init(&b, 1 << 16);
    buffer_u8(&b, format);
    buffer_u8(&b, flags);
    buffer_u8(&b, 2);
    buffer_add_text(&b, text);
    give(arg, buffer_text(&b), b.len);
    buffer_close(&b);
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const struct {
        uint8_t format, flags;
        const char *text;
    } rows[] = {
        {0, 1, "<think>a</think>\nb <tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x\\\"}\", \"b\": "
            "[1]}}\n</tool_call>c"},
        {0, 3, "a\n</think>\n<tool_call>{\"arguments\": \"{}\", \"name\": \"f\", \"x\": 1}</tool_call> "
            "<tool_call> d"},
        {1, 0, "<tool_call>\n<function=f>\n<parameter=a>\nx\n\"y\n</parameter>\n<parameter=b>"
            "\n[1]\n</parameter>\n</function>\n</tool_call>"},
        {2, 0, "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>x</arg_value>\n<arg_key>b</arg_key><arg_value>"
            "{}</arg_value></tool_call>"},
        {3, 0, "<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"a\">x</parameter>\n</invoke>"
            "<invoke name=\"f\"></invoke>\n</minimax:tool_call>"},
        {4, 0, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"f\", \"parameters\": {\"a\": 1}}"},
        {5, 0, "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"f\", \"arguments\": {}}]"},
        {6, 0, "[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{\"a\": 1}[TOOL_CALLS]f[ARGS]{}"},
        {9, 0, "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}"
            "<|tool_call_end|><|tool_calls_section_end|>"},
        {10, 0, "<|START_ACTION|>[{\"tool_call_id\": \"0\", \"tool_name\": \"f\", \"parameters\": {}}"
            "]<|END_ACTION|>"},
        {12, 0, "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary "
            "to=functions.f<|message|>{}<|call|>"},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++)
        give_one(give, arg, rows[i].format, rows[i].flags, rows[i].text);
}
