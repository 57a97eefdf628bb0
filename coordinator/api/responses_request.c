/* responses_request: a request of OpenAI's Responses API as one of chat completions.
 *
 * Items become messages: what the assistant thought, said and called, one
 * item each, is one message until another speaks.  What only OpenAI's own
 * servers have (their tools, conversations, prompts) is refused by name.
 * previous_response_id must have been dealt with.                            */
#include <string.h>

#include "coordinator/api/responses.h"
#include "coordinator/api/translate.h"

static bool is_word(const json_t *v, const char *word)
{
    return json_is_string(v) && strcmp(json_string_value(v), word) == 0;
}

/* ---- items ---- */

/* The messages so far, and what the assistant has said since the last of them. */
struct turns {
    json_t *messages;
    json_t *parts, *thoughts, *calls;
};

static void end_turn(struct turns *t)
{
    if (json_array_size(t->parts) + json_array_size(t->thoughts) + json_array_size(t->calls) > 0)
        message_said(t->messages, t->parts, t->thoughts, t->calls);
    json_array_clear(t->parts);
    json_array_clear(t->thoughts);
    json_array_clear(t->calls);
}

static int read_part(json_t *parts, const json_t *part, const char *where, struct refusal *r)
{
    static const char *const texts[] = { "input_text", "output_text", "text" };
    const char *type = text_at(part, "type");
    if (type == NULL)
        return refuse(r, ERR_INVALID, where, "%s must be a part with a type", where);
    for (size_t i = 0; i < COUNTOF(texts); i++)
        if (strcmp(type, texts[i]) == 0)
            return part_add(parts, json_object_get(part, "text"), where, r);
    if (strcmp(type, "refusal") == 0)
        return part_add(parts, json_object_get(part, "refusal"), where, r);
    return refuse(r, ERR_UNSUPPORTED, where, "%s: parts of type %.40s are not supported: this model reads text only",
                  where, type);
}

/* A text, or a list of parts. */
static int read_content(json_t *parts, const json_t *content, const char *list, struct refusal *r)
{
    char where[WHERE_BYTES];
    json_t *part;
    size_t i;
    int rc = 0;
    if (json_is_string(content))
        return part_add(parts, content, list, r);
    if (!json_is_array(content))
        return refuse(r, ERR_INVALID, list, "%s must be a string or a list of parts", list);
    json_array_foreach(content, i, part) {
        put_where(where, list, i);
        if (rc == 0)
            rc = read_part(parts, part, where, r);
    }
    return rc;
}

static int read_message(struct turns *t, const json_t *item, size_t i, struct refusal *r)
{
    static const char *const roles[] = { "user", "system", "developer" };
    char list[WHERE_BYTES];
    const char *role = text_at(item, "role");
    const json_t *content = json_object_get(item, "content");
    snprintf(list, sizeof(list), "input[%zu].content", i);
    if (role != NULL && strcmp(role, "assistant") == 0) {
        if (json_array_size(t->parts) + json_array_size(t->calls) > 0)
            end_turn(t);
        return read_content(t->parts, content, list, r);
    }
    bool known = false;
    for (size_t k = 0; k < COUNTOF(roles) && role != NULL; k++)
        known = known || strcmp(role, roles[k]) == 0;
    if (!known)
        return refuse(r, ERR_INVALID, "input", "input[%zu].role must be user, assistant, system or developer", i);
    end_turn(t);
    json_t *parts = json_array();
    int rc = read_content(parts, content, list, r);
    if (rc == 0)
        message_flush(t->messages, role, parts);
    json_decref(parts);
    return rc;
}

static int read_call(struct turns *t, const json_t *item, size_t i, struct refusal *r)
{
    const char *id = text_at(item, "call_id"), *name = text_at(item, "name"), *text = text_at(item, "arguments");
    char where[WHERE_BYTES];
    put_where(where, "input", i);
    if (id == NULL || name == NULL || text == NULL)
        return refuse(r, ERR_INVALID, where, "%s must have a call_id, a name, and its arguments as a string", where);
    json_array_append_new(t->calls, call_json(id, name, text));
    return 0;
}

static int read_output(struct turns *t, const json_t *item, size_t i, struct refusal *r)
{
    const json_t *id = json_object_get(item, "call_id");
    char list[WHERE_BYTES];
    snprintf(list, sizeof(list), "input[%zu].output", i);
    if (!json_is_string(id))
        return refuse(r, ERR_INVALID, "input", "input[%zu].call_id must be a string", i);
    end_turn(t);
    json_t *parts = json_array();
    int rc = read_content(parts, json_object_get(item, "output"), list, r);
    if (rc == 0)
        json_array_append_new(t->messages, json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content",
                                                     parts_content(parts)));
    json_decref(parts);
    return rc;
}

/* Its own words, else the summary of them. */
static int read_reasoning(struct turns *t, const json_t *item, size_t i, struct refusal *r)
{
    json_t *content = json_object_get(item, "content"), *part;
    size_t k;
    (void)i;
    (void)r;
    if (json_array_size(t->parts) + json_array_size(t->calls) > 0)
        end_turn(t);
    if (json_array_size(content) == 0)
        content = json_object_get(item, "summary");
    json_array_foreach(content, k, part) {
        if (json_string_length(json_object_get(part, "text")) > 0)
            json_array_append(t->thoughts, json_object_get(part, "text"));
    }
    return 0;
}

static int read_item(struct turns *t, const json_t *item, size_t i, struct refusal *r)
{
    static const struct {
        const char *type;
        int (*read)(struct turns *t, const json_t *item, size_t i, struct refusal *r);
    } kinds[] = {
        { "message", read_message },
        { "function_call", read_call },
        { "function_call_output", read_output },
        { "reasoning", read_reasoning },
    };
    char where[WHERE_BYTES];
    const char *type = text_at(item, "type");
    if (type == NULL && text_at(item, "role") != NULL)
        type = "message";
    for (size_t k = 0; k < COUNTOF(kinds) && type != NULL; k++)
        if (strcmp(type, kinds[k].type) == 0)
            return kinds[k].read(t, item, i, r);
    put_where(where, "input", i);
    if (type == NULL)
        return refuse(r, ERR_INVALID, where, "%s must be an item with a type, or a message with a role", where);
    return refuse(r, ERR_UNSUPPORTED, where, "%s: items of type %.40s are not supported", where, type);
}

static int read_items(struct turns *t, const json_t *input, struct refusal *r)
{
    json_t *item;
    size_t i;
    int rc = 0;
    if (json_is_string(input)) {
        json_array_append_new(t->messages, json_pack("{s:s, s:O}", "role", "user", "content", input));
        return 0;
    }
    if (json_array_size(input) == 0)
        return refuse(r, ERR_INVALID, "input", "input must be a string or a list of items that is not empty");
    json_array_foreach(input, i, item) {
        if (rc == 0)
            rc = read_item(t, item, i, r);
    }
    end_turn(t);
    return rc;
}

static int put_messages(json_t *out, const json_t *body, struct refusal *r)
{
    json_t *instructions = json_object_get(body, "instructions");
    struct turns t = { json_array(), json_array(), json_array(), json_array() };
    int rc = 0;
    json_object_set_new(out, "messages", t.messages);
    if (!is_absent(instructions) && !json_is_string(instructions))
        rc = refuse(r, ERR_INVALID, "instructions", "instructions must be a string");
    else if (json_string_length(instructions) > 0)
        json_array_append_new(t.messages, json_pack("{s:s, s:O}", "role", "system", "content", instructions));
    if (rc == 0)
        rc = read_items(&t, json_object_get(body, "input"), r);
    json_decref(t.parts);
    json_decref(t.thoughts);
    json_decref(t.calls);
    return rc;
}

/* ---- tools ---- */

/* Tools that OpenAI's servers would run (web_search, custom, namespace ...) come along with the functions of clients
 * such as Codex, which cope without: the model is not told of them, and so never calls one. */
static int put_tool(json_t *tools, const json_t *tool, size_t i, struct refusal *r)
{
    char where[WHERE_BYTES];
    const char *type = text_at(tool, "type"), *name = text_at(tool, "name");
    json_t *parameters = json_object_get(tool, "parameters");
    put_where(where, "tools", i);
    if (type != NULL && strcmp(type, "function") != 0)
        return 0;
    if (type == NULL || name == NULL || !(is_absent(parameters) || json_is_object(parameters)))
        return refuse(r, ERR_INVALID, where, "%s must have a type, a name, and parameters that are an object", where);
    json_t *function = json_object(); /* in the order in which templates show it */
    copy_fields(function, tool, (const char *const[]){ "name", "description", "parameters", "strict", NULL });
    if (is_absent(parameters))
        json_object_set_new(function, "parameters", json_pack("{s:s, s:{}}", "type", "object", "properties"));
    json_array_append_new(tools, json_pack("{s:s, s:o}", "type", "function", "function", function));
    return 0;
}

static int put_tools(json_t *out, const json_t *given, struct refusal *r)
{
    json_t *tools, *tool;
    size_t i;
    int rc = 0;
    if (!is_absent(given) && !json_is_array(given))
        return refuse(r, ERR_INVALID, "tools", "tools must be a list");
    if (json_array_size(given) == 0)
        return 0;
    tools = json_array();
    json_object_set_new(out, "tools", tools);
    json_array_foreach(given, i, tool) {
        if (rc == 0)
            rc = put_tool(tools, tool, i, r);
    }
    if (json_array_size(tools) == 0)
        json_object_del(out, "tools");
    return rc;
}

/* {"type": "allowed_tools", "mode": "auto" | "required", "tools": [{"type": "function", "name": NAME}]} */
static int put_allowed(json_t *out, const json_t *choice, struct refusal *r)
{
    json_t *mode = json_object_get(choice, "mode"), *given = json_object_get(choice, "tools"), *tools, *tool;
    bool fine = (is_word(mode, "auto") || is_word(mode, "required")) && json_array_size(given) > 0;
    size_t i;
    json_array_foreach(given, i, tool)
        fine = fine && is_word(json_object_get(tool, "type"), "function") && text_at(tool, "name") != NULL;
    if (!fine)
        return refuse(r, ERR_INVALID, "tool_choice", "tool_choice of type allowed_tools must have a mode, auto or "
                      "required, and a list of tools of type function with names");
    tools = json_array();
    json_array_foreach(given, i, tool)
        json_array_append_new(tools, json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name",
                                               text_at(tool, "name")));
    json_object_set_new(out, "tool_choice", json_pack("{s:s, s:{s:O, s:o}}", "type", "allowed_tools", "allowed_tools",
                                                      "mode", mode, "tools", tools));
    return 0;
}

static int put_choice(json_t *out, json_t *choice, struct refusal *r)
{
    const char *type = text_at(choice, "type"), *name = text_at(choice, "name");
    if (is_absent(choice))
        return 0;
    if (type != NULL && strcmp(type, "allowed_tools") == 0)
        return put_allowed(out, choice, r);
    if (is_word(choice, "auto") || is_word(choice, "none") || is_word(choice, "required")) {
        json_object_set(out, "tool_choice", choice);
        return 0;
    }
    if (type == NULL || name == NULL || strcmp(type, "function") != 0)
        return refuse(r, ERR_UNSUPPORTED, "tool_choice", "tool_choice must be auto, none, required, or of type "
                      "function (with a name) or allowed_tools");
    json_object_set_new(out, "tool_choice", json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", name));
    return 0;
}

/* ---- the rest ---- */

static int put_format(json_t *out, const json_t *text, struct refusal *r)
{
    json_t *format = json_object_get(text, "format"), *schema;
    const json_t *type = json_object_get(format, "type");
    if (!is_absent(text) && !json_is_object(text))
        return refuse(r, ERR_INVALID, "text", "text must be an object");
    if (is_absent(format) || is_word(type, "text"))
        return 0;
    if (is_word(type, "json_object")) {
        json_object_set_new(out, "response_format", json_pack("{s:s}", "type", "json_object"));
        return 0;
    }
    if (!is_word(type, "json_schema"))
        return refuse(r, ERR_INVALID, "text", "text.format must be of type text, json_object or json_schema");
    schema = json_object();
    copy_fields(schema, format, (const char *const[]){ "name", "description", "schema", "strict", NULL });
    json_object_set_new(out, "response_format", json_pack("{s:s, s:o}", "type", "json_schema", "json_schema", schema));
    return 0;
}

static int put_reasoning(json_t *out, const json_t *reasoning, struct refusal *r)
{
    json_t *effort = json_object_get(reasoning, "effort");
    if (!is_absent(reasoning) && !json_is_object(reasoning))
        return refuse(r, ERR_INVALID, "reasoning", "reasoning must be an object");
    if (is_absent(effort))
        return 0;
    if (!json_is_string(effort))
        return refuse(r, ERR_INVALID, "reasoning", "reasoning.effort must be a word");
    json_object_set(out, "reasoning_effort", effort);
    return 0;
}

static void put_logprobs(json_t *out, const json_t *body)
{
    json_t *top = json_object_get(body, "top_logprobs"), *include = json_object_get(body, "include"), *word;
    size_t i;
    bool wanted = json_integer_value(top) > 0;
    json_array_foreach(include, i, word)
        wanted = wanted || is_word(word, "message.output_text.logprobs");
    if (!wanted)
        return;
    json_object_set_new(out, "logprobs", json_true());
    if (!is_absent(top))
        json_object_set(out, "top_logprobs", top);
}

static int check_supported(const json_t *body, struct refusal *r)
{
    static const char *const unsupported[] = { "conversation", "prompt", "moderation" };
    const json_t *metadata = json_object_get(body, "metadata");
    for (size_t i = 0; i < COUNTOF(unsupported); i++)
        if (!is_absent(json_object_get(body, unsupported[i])))
            return refuse(r, ERR_UNSUPPORTED, unsupported[i], "%s is not supported by this server", unsupported[i]);
    if (json_is_true(json_object_get(body, "background")))
        return refuse(r, ERR_UNSUPPORTED, "background", "background is not supported by this server");
    if (is_word(json_object_get(body, "truncation"), "auto"))
        return refuse(r, ERR_UNSUPPORTED, "truncation", "truncation: nothing of the input is ever cut off");
    if (!is_absent(metadata) && !json_is_object(metadata))
        return refuse(r, ERR_INVALID, "metadata", "metadata must be an object");
    return 0;
}

static int put_all(json_t *out, const json_t *body, struct refusal *r)
{
    int rc = check_supported(body, r);
    if (rc == 0)
        rc = put_messages(out, body, r);
    if (rc == 0)
        rc = put_tools(out, json_object_get(body, "tools"), r);
    if (rc == 0)
        rc = put_choice(out, json_object_get(body, "tool_choice"), r);
    if (rc == 0)
        rc = put_format(out, json_object_get(body, "text"), r);
    if (rc == 0)
        rc = put_reasoning(out, json_object_get(body, "reasoning"), r);
    return rc == 0 ? copy_length(out, "max_completion_tokens", body, "max_output_tokens", r) : rc;
}

int responses_chat_body(const json_t *body, json_t **out, struct refusal *r)
{
    *out = json_object();
    copy_fields(*out, body, (const char *const[]){ "model", "stream", "temperature", "top_p", "parallel_tool_calls",
                                                   "top_k", "min_p", "seed", "stop", "presence_penalty",
                                                   "frequency_penalty", "repetition_penalty", "logit_bias",
                                                   "chat_template_kwargs", NULL });
    put_logprobs(*out, body);
    int rc = put_all(*out, body, r);
    if (rc != 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}
