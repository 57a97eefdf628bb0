/* anthropic_request: a request of Anthropic's Messages API as one of OpenAI's.
 *
 * Blocks become messages: the results of tools, which a user's message holds,
 * each one of its own; an assistant's thoughts, text and calls one together.
 * What only Anthropic's own servers have (their tools, containers) is refused
 * by name; what only tunes them (cache_control, metadata) is passed over.    */
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/anthropic.h"
#include "coordinator/api/translate.h"

/* ---- blocks ---- */

static int refuse_block(const char *type, const char *where, struct refusal *r)
{
    if (type == NULL)
        return refuse(r, ERR_INVALID, where, "%s must be a block with a type", where);
    if (strcmp(type, "image") == 0 || strcmp(type, "document") == 0)
        return refuse(r, ERR_UNSUPPORTED, where, "%s: this model reads text only", where);
    return refuse(r, ERR_UNSUPPORTED, where, "%s: blocks of type %.40s are not supported here", where, type);
}

static int read_text_block(json_t *parts, const json_t *block, const char *where, struct refusal *r)
{
    const char *type = text_at(block, "type");
    if (type == NULL || strcmp(type, "text") != 0)
        return refuse_block(type, where, r);
    return part_add(parts, json_object_get(block, "text"), where, r);
}

/* A text, or a list of blocks of text. */
static int read_texts(json_t *parts, const json_t *content, const char *list, struct refusal *r)
{
    char where[WHERE_BYTES];
    json_t *block;
    size_t i;
    int rc = 0;
    if (json_is_string(content))
        return part_add(parts, content, list, r);
    if (!json_is_array(content))
        return refuse(r, ERR_INVALID, list, "%s must be a string or a list of blocks", list);
    json_array_foreach(content, i, block) {
        put_where(where, list, i);
        if (rc == 0)
            rc = read_text_block(parts, block, where, r);
    }
    return rc;
}

static int read_result(json_t *messages, const json_t *block, const char *where, struct refusal *r)
{
    const json_t *id = json_object_get(block, "tool_use_id"), *content = json_object_get(block, "content");
    json_t *parts = json_array();
    int rc = json_is_string(id) ? 0 : refuse(r, ERR_INVALID, where, "%s.tool_use_id must be a string", where);
    if (rc == 0 && !is_absent(content))
        rc = read_texts(parts, content, where, r);
    if (rc == 0)
        json_array_append_new(messages, json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content",
                                                  parts_content(parts)));
    json_decref(parts);
    return rc;
}

static int read_use(json_t *calls, const json_t *block, const char *where, struct refusal *r)
{
    const json_t *input = json_object_get(block, "input");
    const char *id = text_at(block, "id"), *name = text_at(block, "name");
    if (id == NULL || name == NULL || !(json_is_object(input) || is_absent(input)))
        return refuse(r, ERR_INVALID, where, "%s must have an id, a name, and its input as an object", where);
    char *arguments = is_absent(input) ? mem_strdup("{}") : json_text(input);
    json_array_append_new(calls, call_json(id, name, arguments));
    mem_free(arguments);
    return 0;
}

/* ---- messages ---- */

/* What a message holds, kind by kind. */
struct content {
    json_t *parts, *thoughts, *calls;
};

typedef int (*block_fn)(struct content *c, json_t *messages, const json_t *block, const char *where,
                        struct refusal *r);

static int user_block(struct content *c, json_t *messages, const json_t *block, const char *where, struct refusal *r)
{
    const char *type = text_at(block, "type");
    if (type == NULL || strcmp(type, "tool_result") != 0)
        return read_text_block(c->parts, block, where, r);
    message_flush(messages, "user", c->parts);
    return read_result(messages, block, where, r);
}

static int assistant_block(struct content *c, json_t *messages, const json_t *block, const char *where,
                           struct refusal *r)
{
    const char *type = text_at(block, "type");
    json_t *thinking = json_object_get(block, "thinking");
    (void)messages;
    if (type != NULL && strcmp(type, "tool_use") == 0)
        return read_use(c->calls, block, where, r);
    if (type != NULL && strcmp(type, "redacted_thinking") == 0)
        return 0;
    if (type == NULL || strcmp(type, "thinking") != 0)
        return read_text_block(c->parts, block, where, r);
    if (!json_is_string(thinking))
        return refuse(r, ERR_INVALID, where, "%s.thinking must be a string", where);
    if (json_string_length(thinking) > 0)
        json_array_append(c->thoughts, thinking);
    return 0;
}

static int read_blocks(struct content *c, json_t *messages, const json_t *content, const char *list, block_fn read,
                       struct refusal *r)
{
    char where[WHERE_BYTES];
    json_t *block;
    size_t i;
    int rc = 0;
    if (!json_is_array(content))
        return read_texts(c->parts, content, list, r);
    json_array_foreach(content, i, block) {
        put_where(where, list, i);
        if (rc == 0)
            rc = read(c, messages, block, where, r);
    }
    return rc;
}

static int read_message(json_t *messages, const json_t *message, size_t i, struct refusal *r)
{
    char list[WHERE_BYTES];
    const char *role = text_at(message, "role");
    const json_t *content = json_object_get(message, "content");
    snprintf(list, sizeof(list), "messages[%zu].content", i);
    bool said = role != NULL && strcmp(role, "assistant") == 0;
    if (role == NULL || (!said && strcmp(role, "user") != 0 && strcmp(role, "system") != 0))
        return refuse(r, ERR_INVALID, "messages", "messages[%zu].role must be user or assistant", i);
    struct content c = { json_array(), json_array(), json_array() };
    int rc = read_blocks(&c, messages, content, list, said ? assistant_block : user_block, r);
    if (rc == 0 && said)
        message_said(messages, c.parts, c.thoughts, c.calls);
    else if (rc == 0)
        message_flush(messages, role, c.parts);
    json_decref(c.parts);
    json_decref(c.thoughts);
    json_decref(c.calls);
    return rc;
}

static int put_system(json_t *messages, const json_t *system, struct refusal *r)
{
    if (is_absent(system))
        return 0;
    json_t *parts = json_array();
    int rc = read_texts(parts, system, "system", r);
    if (rc == 0)
        message_flush(messages, "system", parts);
    json_decref(parts);
    return rc;
}

/* A turn that the client began is gone on with, when it is text. */
static int put_begun(json_t *out, const json_t *messages, struct refusal *r)
{
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *role = text_at(last, "role");
    if (role == NULL || strcmp(role, "assistant") != 0)
        return 0;
    if (json_array_size(json_object_get(last, "tool_calls")) > 0)
        return refuse(r, ERR_UNSUPPORTED, "messages", "messages: a last message of the assistant must be text, without "
                      "tool_use");
    json_object_set_new(out, "continue_final_message", json_true());
    return 0;
}

static int put_messages(json_t *out, const json_t *body, enum anthropic_use use, struct refusal *r)
{
    json_t *given = json_object_get(body, "messages"), *messages = json_array(), *message;
    size_t i;
    json_object_set_new(out, "messages", messages);
    int rc = json_array_size(given) > 0 ? 0 : refuse(r, ERR_INVALID, "messages", "messages must be a list that is "
                                                     "not empty");
    if (rc == 0)
        rc = put_system(messages, json_object_get(body, "system"), r);
    json_array_foreach(given, i, message) {
        if (rc == 0)
            rc = read_message(messages, message, i, r);
    }
    return rc == 0 && use == ANTHROPIC_ANSWER ? put_begun(out, messages, r) : rc;
}

/* ---- tools ---- */

static int put_tool(json_t *tools, const json_t *tool, size_t i, struct refusal *r)
{
    char where[WHERE_BYTES];
    const char *type = text_at(tool, "type"), *name = text_at(tool, "name");
    json_t *schema = json_object_get(tool, "input_schema");
    put_where(where, "tools", i);
    if (type != NULL && strcmp(type, "custom") != 0)
        return refuse(r, ERR_UNSUPPORTED, where, "%s: tools of type %.40s are not supported, only those with an "
                      "input_schema", where, type);
    if (name == NULL || !json_is_object(schema))
        return refuse(r, ERR_INVALID, where, "%s must have a name, and an input_schema that is an object", where);
    json_t *function = json_object(); /* in the order in which templates show it */
    copy_fields(function, tool, (const char *const[]){ "name", "description", NULL });
    json_object_set(function, "parameters", schema);
    copy_fields(function, tool, (const char *const[]){ "strict", NULL });
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
    return rc;
}

static int put_choice(json_t *out, const json_t *choice, struct refusal *r)
{
    static const struct {
        const char *type, *word;
    } words[] = { { "auto", "auto" }, { "any", "required" }, { "none", "none" } };
    const char *type = text_at(choice, "type"), *name = text_at(choice, "name");
    if (is_absent(choice))
        return 0;
    json_t *j = type != NULL && name != NULL && strcmp(type, "tool") == 0
                    ? json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", name)
                    : NULL;
    for (size_t i = 0; i < COUNTOF(words) && type != NULL && j == NULL; i++)
        if (strcmp(type, words[i].type) == 0)
            j = json_string(words[i].word);
    if (j == NULL)
        return refuse(r, ERR_INVALID, "tool_choice", "tool_choice must be of type auto, any, none, or tool with a "
                      "name");
    json_object_set_new(out, "tool_choice", j);
    if (json_is_true(json_object_get(choice, "disable_parallel_tool_use")))
        json_object_set_new(out, "parallel_tool_calls", json_false());
    return 0;
}

/* ---- the rest ---- */

static int put_stops(json_t *out, const json_t *stops, struct refusal *r)
{
    json_t *stop;
    size_t i;
    if (is_absent(stops))
        return 0;
    bool fine = json_is_array(stops) && json_array_size(stops) <= STREAM_STOPS_MAX;
    json_array_foreach(stops, i, stop) {
        size_t n = json_string_length(stop);
        fine = fine && n > 0 && n <= STREAM_STOP_BYTES_MAX;
    }
    if (!fine)
        return refuse(r, ERR_INVALID, "stop_sequences", "stop_sequences must be a list of at most %d texts of 1 to %d "
                      "bytes", (int)STREAM_STOPS_MAX, (int)STREAM_STOP_BYTES_MAX);
    json_object_set(out, "stop", (json_t *)(uintptr_t)stops);
    return 0;
}

/* What the model's template is told; left out: whatever the model does by itself. */
static int put_thinking(json_t *out, json_t *variables, const json_t *thinking, struct refusal *r)
{
    const char *type = text_at(thinking, "type");
    json_t *budget = json_object_get(thinking, "budget_tokens");
    if (!is_absent(budget) && (!json_is_integer(budget) || json_integer_value(budget) < 1))
        return refuse(r, ERR_INVALID, "thinking", "thinking.budget_tokens must be an integer of at least 1");
    if (!is_absent(budget))
        json_object_set(out, "thinking_token_budget", budget);
    if (is_absent(thinking))
        return 0;
    if (type != NULL && strcmp(type, "disabled") == 0)
        json_object_set_new(out, "reasoning_effort", json_string("none"));
    else if (type != NULL && (strcmp(type, "enabled") == 0 || strcmp(type, "adaptive") == 0))
        json_object_set_new(variables, "enable_thinking", json_true());
    else
        return refuse(r, ERR_INVALID, "thinking", "thinking must be of type enabled, adaptive or disabled");
    return 0;
}

/* An effort without `thinking` does not begin it. */
static int put_output(json_t *out, json_t *variables, const json_t *body, struct refusal *r)
{
    json_t *config = json_object_get(body, "output_config"), *format = json_object_get(config, "format");
    json_t *effort = json_object_get(config, "effort");
    if (!is_absent(effort) && !json_is_string(effort))
        return refuse(r, ERR_INVALID, "output_config", "output_config.effort must be a word");
    if (json_is_string(effort))
        json_object_set(variables, "reasoning_effort", effort);
    if (is_absent(format))
        format = json_object_get(body, "output_format"); /* as older clients say it */
    if (is_absent(format))
        return 0;
    const char *type = text_at(format, "type");
    json_t *schema = json_object_get(format, "schema");
    if (type == NULL || strcmp(type, "json_schema") != 0 || !json_is_object(schema))
        return refuse(r, ERR_INVALID, "output_config", "output_config.format must be of type json_schema with a "
                      "schema");
    json_object_set_new(out, "response_format", json_pack("{s:s, s:{s:s, s:O}}", "type", "json_schema", "json_schema",
                                                          "name", "output", "schema", schema));
    return 0;
}

static int put_variables(json_t *out, const json_t *body, struct refusal *r)
{
    json_t *variables = json_object();
    int rc = put_thinking(out, variables, json_object_get(body, "thinking"), r);
    if (rc == 0)
        rc = put_output(out, variables, body, r);
    if (rc == 0 && json_object_size(variables) > 0)
        json_object_set(out, "chat_template_kwargs", variables);
    json_decref(variables);
    return rc;
}

static int check_supported(const json_t *body, enum anthropic_use use, struct refusal *r)
{
    if (json_array_size(json_object_get(body, "mcp_servers")) > 0)
        return refuse(r, ERR_UNSUPPORTED, "mcp_servers", "mcp_servers are not supported");
    if (!is_absent(json_object_get(body, "container")))
        return refuse(r, ERR_UNSUPPORTED, "container", "container is not supported");
    if (use == ANTHROPIC_ANSWER && is_absent(json_object_get(body, "max_tokens")))
        return refuse(r, ERR_INVALID, "max_tokens", "max_tokens: Field required");
    return 0;
}

static int put_all(json_t *out, const json_t *body, enum anthropic_use use, struct refusal *r)
{
    int rc = check_supported(body, use, r);
    if (rc == 0) /* clients ask for what their model may give at most: more than fits is no mistake */
        rc = copy_length(out, "n_predict", body, "max_tokens", r);
    if (rc == 0)
        rc = put_messages(out, body, use, r);
    if (rc == 0)
        rc = put_tools(out, json_object_get(body, "tools"), r);
    if (rc == 0)
        rc = put_choice(out, json_object_get(body, "tool_choice"), r);
    if (rc == 0)
        rc = put_stops(out, json_object_get(body, "stop_sequences"), r);
    return rc == 0 ? put_variables(out, body, r) : rc;
}

int anthropic_chat_body(const json_t *body, enum anthropic_use use, json_t **out, struct refusal *r)
{
    *out = json_object();
    copy_fields(*out, body, (const char *const[]){ "model", "stream", "temperature", "top_p", "top_k", NULL });
    int rc = put_all(*out, body, use, r);
    if (rc != 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}
