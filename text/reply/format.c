/* format: the table of formats, and what is seen from a template. */
#include "text/reply/format.h"

#include <string.h>

#include "base/memory.h"

static const struct reply_tags qwen_tags = {
    .name = "<function=", .name_end = ">", .function_end = "</function>", .key = "<parameter=", .key_end = ">",
    .value_end = "</parameter>", .gap = "\n", .trims = true,
};

static const struct reply_tags glm_tags = {
    .key = "<arg_key>", .key_end = "</arg_key>", .value = "<arg_value>", .value_end = "</arg_value>", .gap = "",
};

static const struct reply_tags minimax_tags = {
    .name = "<invoke name=\"", .name_end = "\">", .function_end = "</invoke>", .key = "<parameter name=\"",
    .key_end = "\">", .value_end = "</parameter>", .gap = "\n",
};

static const struct reply_tags dsml_tags = {
    .name = "<｜DSML｜invoke name=\"", .name_end = "\">", .function_end = "</｜DSML｜invoke>",
    .key = "<｜DSML｜parameter name=\"", .key_end = "\">", .flag = "\" string=\"", .value_end = "</｜DSML｜parameter>",
    .gap = "\n",
};

static const struct reply_tags minicpm_tags = {
    .name_end = "\">", .key = "<param name=\"", .key_end = "\">", .value_end = "</param>", .gap = "",
};

/* The first row whose marks are all in the template counts. */
static const struct reply_format formats[] = {
    {.name = "harmony", .marks = {"<|channel|>", "<|message|>", "analysis"}, .style = REPLY_STYLE_CHANNELS,
     .open = "<|channel|>", .close = "<|call|>"},
    {.name = "kimi-k2", .marks = {"<|tool_call_begin|>", "<|tool_call_argument_begin|>"}, .style = REPLY_STYLE_NAMED,
     .section = "<|tool_calls_section_begin|>", .section_end = "<|tool_calls_section_end|>",
     .open = "<|tool_call_begin|>", .close = "<|tool_call_end|>", .before_name = "functions.",
     .after_name = "<|tool_call_argument_begin|>", .numbered = true},
    {.name = "deepseek-v3", .marks = {"<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "```json"}, .style = REPLY_STYLE_NAMED,
     .section = "<｜tool▁calls▁begin｜>", .section_end = "<｜tool▁calls▁end｜>", .open = "<｜tool▁call▁begin｜>",
     .close = "<｜tool▁call▁end｜>", .before_name = "function<｜tool▁sep｜>", .after_name = "\n```json\n",
     .after_arguments = "```"},
    {.name = "deepseek-v3.1", .marks = {"<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"}, .style = REPLY_STYLE_NAMED,
     .section = "<｜tool▁calls▁begin｜>", .section_end = "<｜tool▁calls▁end｜>", .open = "<｜tool▁call▁begin｜>",
     .close = "<｜tool▁call▁end｜>", .after_name = "<｜tool▁sep｜>"},
    {.name = "minimax-m2", .marks = {"<minimax:tool_call>", "<invoke name="}, .style = REPLY_STYLE_TAGS,
     .open = "<minimax:tool_call>", .close = "</minimax:tool_call>", .tags = &minimax_tags},
    {.name = "deepseek-v4", .marks = {"<｜DSML｜tool_calls>", "<｜DSML｜invoke name="}, .style = REPLY_STYLE_TAGS,
     .open = "<｜DSML｜tool_calls>", .close = "</｜DSML｜tool_calls>", .tags = &dsml_tags},
    {.name = "deepseek-v3.2", .marks = {"<｜DSML｜function_calls>", "<｜DSML｜invoke name="}, .style = REPLY_STYLE_TAGS,
     .open = "<｜DSML｜function_calls>", .close = "</｜DSML｜function_calls>", .tags = &dsml_tags},
    {.name = "minicpm5", .marks = {"<function name=\"", "<param name=\""}, .style = REPLY_STYLE_TAGS,
     .open = "<function name=\"", .close = "</function>", .tags = &minicpm_tags},
    {.name = "seed-oss", .marks = {"<seed:tool_call>", "<function="}, .style = REPLY_STYLE_TAGS,
     .open = "<seed:tool_call>", .close = "</seed:tool_call>", .tags = &qwen_tags},
    {.name = "glm-4.5", .marks = {"<tool_call>", "<arg_key>", "<arg_value>"}, .style = REPLY_STYLE_TAGS,
     .open = "<tool_call>", .close = "</tool_call>", .tags = &glm_tags},
    {.name = "qwen3-coder", .marks = {"<tool_call>", "<function=", "<parameter="}, .style = REPLY_STYLE_TAGS,
     .open = "<tool_call>", .close = "</tool_call>", .tags = &qwen_tags},
    {.name = "command-r", .marks = {"<|START_ACTION|>", "tool_name"}, .style = REPLY_STYLE_JSON,
     .open = "<|START_ACTION|>", .close = "<|END_ACTION|>", .name_key = "tool_name", .arguments_key = "parameters",
     .id_key = "tool_call_id", .list = true},
    {.name = "command-r-plus", .marks = {"Action: ```json", "tool_name"}, .style = REPLY_STYLE_JSON,
     .open = "Action: ```json", .close = "```", .name_key = "tool_name", .arguments_key = "parameters", .list = true},
    {.name = "mistral-named", .marks = {"[TOOL_CALLS]", "[ARGS]"}, .style = REPLY_STYLE_NAMED,
     .open = "[TOOL_CALLS]", .after_name = "[ARGS]"},
    {.name = "mistral", .marks = {"[TOOL_CALLS]"}, .style = REPLY_STYLE_JSON, .open = "[TOOL_CALLS]",
     .name_key = "name", .arguments_key = "arguments", .list = true},
    {.name = "phi-4", .marks = {"<|tool_call|>", "<|/tool_call|>"}, .style = REPLY_STYLE_JSON, .open = "<|tool_call|>",
     .close = "<|/tool_call|>", .name_key = "name", .arguments_key = "arguments", .list = true},
    {.name = "granite", .marks = {"<|tool_call|>"}, .style = REPLY_STYLE_JSON, .open = "<|tool_call|>",
     .name_key = "name", .arguments_key = "arguments", .list = true},
    {.name = "nemotron", .marks = {"<TOOLCALL>"}, .style = REPLY_STYLE_JSON, .open = "<TOOLCALL>",
     .close = "</TOOLCALL>", .name_key = "name", .arguments_key = "arguments", .list = true},
    {.name = "hermes", .marks = {"<tool_call>"}, .style = REPLY_STYLE_JSON, .open = "<tool_call>",
     .close = "</tool_call>", .name_key = "name", .arguments_key = "arguments"},
    {.name = "apriel", .marks = {"<tool_calls>", "</tool_calls>"}, .style = REPLY_STYLE_JSON, .open = "<tool_calls>",
     .close = "</tool_calls>", .name_key = "name", .arguments_key = "arguments", .list = true},
    {.name = "gigachat", .marks = {"<|function_call|>{"}, .style = REPLY_STYLE_JSON, .open = "<|function_call|>",
     .name_key = "name", .arguments_key = "arguments"},
    {.name = "firefunction", .marks = {"functools["}, .style = REPLY_STYLE_JSON, .open = "functools",
     .name_key = "name", .arguments_key = "arguments", .list = true},
    {.name = "llama3", .marks = {"<|python_tag|>"}, .style = REPLY_STYLE_BARE, .open = "<|python_tag|>",
     .name_key = "name", .arguments_key = "parameters"},
    {.name = "llama3", .marks = {"\"parameters\": dictionary of argument name"}, .style = REPLY_STYLE_BARE,
     .open = "<|python_tag|>", .name_key = "name", .arguments_key = "parameters"},
};

static const struct reply_thinking thinkings[] = {
    {"<think>", "</think>", "<response>", "</response>"},
    {"[THINK]", "[/THINK]", NULL, NULL},
    {"<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"},
    {"<seed:think>", "</seed:think>", NULL, NULL},
};

static const char *const channel_marks[] = {"<|start|>", "<|message|>", "<|end|>", "<|return|>", "<|constrain|>"};

static bool has_marks(const struct reply_format *f, const char *source)
{
    for (size_t i = 0; i < COUNTOF(f->marks) && f->marks[i]; i++)
        if (!strstr(source, f->marks[i]))
            return false;
    return true;
}

struct reply_formats reply_formats_of(const char *source, bool (*has_token)(const void *arg, const char *text),
                                      const void *arg)
{
    struct reply_formats f = {0};
    for (size_t i = 0; i < COUNTOF(formats) && !f.calls; i++)
        if (has_marks(&formats[i], source))
            f.calls = &formats[i];
    f.chooses = f.calls && f.calls->style == REPLY_STYLE_CHANNELS;
    if (f.chooses)
        return f;
    for (size_t i = 0; i < COUNTOF(thinkings) && !f.thinking; i++)
        if (strstr(source, thinkings[i].close))
            f.thinking = &thinkings[i];
    for (size_t i = 0; i < COUNTOF(thinkings) && !f.thinking; i++)
        if (has_token(arg, thinkings[i].open) && has_token(arg, thinkings[i].close))
            f.thinking = &thinkings[i];
    f.chooses = f.thinking && strstr(source, "enable_thinking");
    return f;
}

const char *reply_trigger(const struct reply_format *f)
{
    if (f->style == REPLY_STYLE_CHANNELS)
        return "<|channel|>commentary to=functions.";
    return f->style == REPLY_STYLE_BARE ? "{\"name\": \"" : f->open;
}

bool reply_has_mark(const struct reply_formats *f, const char *text)
{
    const struct reply_format *c = f->calls;
    const struct reply_thinking *t = f->thinking;
    const char *const all[] = {c ? c->section : NULL,   c ? c->section_end : NULL, c ? c->open : NULL,
                               c ? c->close : NULL,     c ? c->before_name : NULL, c ? c->after_name : NULL,
                               t ? t->open : NULL,      t ? t->close : NULL,       t ? t->opens_answer : NULL,
                               t ? t->closes_answer : NULL};
    for (size_t i = 0; i < COUNTOF(all); i++)
        if (all[i] && strstr(all[i], text))
            return true;
    for (size_t i = 0; c && c->style == REPLY_STYLE_CHANNELS && i < COUNTOF(channel_marks); i++)
        if (strcmp(channel_marks[i], text) == 0)
            return true;
    return c && c->style == REPLY_STYLE_NAMED && strcmp(text, REPLY_CALL_ID) == 0;
}

bool reply_begins_thinking(const struct reply_formats *f, const char *prompt, size_t len)
{
    if (!f->thinking)
        return false;
    size_t n = strlen(f->thinking->open);
    while (len > 0 && strchr(" \t\r\n", prompt[len - 1]))
        len--;
    return len >= n && memcmp(prompt + len - n, f->thinking->open, n) == 0;
}

const struct reply_format *reply_format_named(const char *name)
{
    for (size_t i = 0; i < COUNTOF(formats); i++)
        if (strcmp(formats[i].name, name) == 0)
            return &formats[i];
    return NULL;
}

const struct reply_thinking *reply_thinking_named(const char *open)
{
    for (size_t i = 0; i < COUNTOF(thinkings); i++)
        if (strcmp(thinkings[i].open, open) == 0)
            return &thinkings[i];
    return NULL;
}
