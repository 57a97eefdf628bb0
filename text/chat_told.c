/* chat_told: instructions go into the first system message; calls and results are what the turns say. */
#include "text/chat_told.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

enum { TOLD_MAX = 64 << 20 };

static const char before_tools[] =
    "# Tools\n\nYou may call functions to help with what the user asks. Their signatures are within <tools></tools>:\n"
    "<tools>\n";
static const char after_tools[] =
    "</tools>\n\nFor each call, answer with a JSON object of the function's name and its arguments within "
    "<tool_call></tool_call>:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n"
    "</tool_call>\nYou are then told what it returned within <tool_response></tool_response>. Call functions only "
    "where you need them; else just answer.";

static bool is_role(const json_t *message, const char *role)
{
    const char *own = json_string_value(json_object_get(message, "role"));
    return own && strcmp(own, role) == 0;
}

static void add_json(struct buffer *out, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    buffer_add_text(out, text ? text : "null");
    free(text);
}

/* A text, or the texts of parts. */
static void add_content(struct buffer *out, const json_t *content)
{
    const json_t *part;
    size_t i;
    buffer_add(out, json_string_value(content), json_string_length(content));
    json_array_foreach(content, i, part) {
        const json_t *text = json_object_get(part, "text");
        buffer_add(out, json_string_value(text), json_string_length(text));
    }
}

/* Takes what is in the buffer. */
static json_t *turn(const char *role, struct buffer *text)
{
    json_t *message = json_pack("{s:s, s:o}", "role", role, "content",
                                json_stringn_nocheck(buffer_text(text), text->len));
    buffer_clear(text);
    return message;
}

static void add_tools(struct buffer *out, const json_t *tools)
{
    const json_t *tool;
    size_t i;
    buffer_add_text(out, before_tools);
    json_array_foreach(tools, i, tool) {
        add_json(out, tool);
        buffer_add_text(out, "\n");
    }
    buffer_add_text(out, after_tools);
}

/* The tools behind what the first message says, where it is a system's. True: that message is done. */
static bool tell_tools(json_t *list, const json_t *first, const json_t *tools, struct buffer *text)
{
    bool system = is_role(first, "system") || is_role(first, "developer");
    if (system) {
        add_content(text, json_object_get(first, "content"));
        buffer_add_text(text, text->len > 0 ? "\n\n" : "");
    }
    add_tools(text, tools);
    json_array_append_new(list, turn("system", text));
    return system;
}

static void add_call(struct buffer *out, const json_t *call)
{
    const json_t *function = json_object_get(call, "function"), *arguments = json_object_get(function, "arguments");
    buffer_add_text(out, out->len > 0 ? "\n<tool_call>\n{\"name\": " : "<tool_call>\n{\"name\": ");
    add_json(out, json_object_get(function, "name"));
    buffer_add_text(out, ", \"arguments\": ");
    if (json_string_length(arguments) > 0)
        buffer_add(out, json_string_value(arguments), json_string_length(arguments));
    else if (json_is_object(arguments))
        add_json(out, arguments);
    else
        buffer_add_text(out, "{}");
    buffer_add_text(out, "}\n</tool_call>");
}

static json_t *told_calls(const json_t *message, const json_t *calls, struct buffer *text)
{
    const json_t *call;
    size_t i;
    json_t *told = json_copy((json_t *)(uintptr_t)message);
    add_content(text, json_object_get(message, "content"));
    json_array_foreach(calls, i, call)
        add_call(text, call);
    json_object_del(told, "tool_calls");
    json_object_set_new(told, "content", json_stringn_nocheck(buffer_text(text), text->len));
    buffer_clear(text);
    return told;
}

static json_t *told_result(const json_t *message, struct buffer *text)
{
    buffer_add_text(text, "<tool_response>\n");
    add_content(text, json_object_get(message, "content"));
    buffer_add_text(text, "\n</tool_response>");
    return turn("user", text);
}

json_t *chat_told_messages(const json_t *messages, const json_t *tools)
{
    json_t *list = json_array();
    struct buffer text;
    buffer_init(&text, TOLD_MAX);
    size_t i = 0;
    if (json_array_size(tools) > 0)
        i = tell_tools(list, json_array_get(messages, 0), tools, &text);
    for (; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i), *calls = json_object_get(message, "tool_calls");
        if (is_role(message, "tool"))
            json_array_append_new(list, told_result(message, &text));
        else if (is_role(message, "assistant") && json_array_size(calls) > 0)
            json_array_append_new(list, told_calls(message, calls, &text));
        else
            json_array_append(list, message);
    }
    buffer_close(&text);
    return list;
}
