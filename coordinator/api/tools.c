/* tools: tool_choice and strict tools become grammars of calls, which bind the answer or each call in it. */
#include "coordinator/api/tools.h"

#include <string.h>

#include "coordinator/api/grammars.h"

/* ---- fields ---- */

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static json_t *function_of(const json_t *tool)
{
    return json_object_get(tool, "function");
}

static int refuse_named(const char *name, struct refusal *r)
{
    if (name == NULL)
        return refuse(r, ERR_INVALID, "tool_choice", "tool_choice: a function is named by {\"type\": \"function\", "
                      "\"function\": {\"name\": ...}}");
    return refuse(r, ERR_INVALID, "tool_choice", "tool_choice: \"%.64s\" is none of the tools", name);
}

/* Adds the tool of this name to those that may be called. */
static int call_named(struct tool_choice *c, const char *name, struct refusal *r)
{
    for (size_t i = 0; name != NULL && i < json_array_size(c->offered); i++) {
        json_t *tool = json_array_get(c->offered, i);
        const char *own = text_at(function_of(tool), "name");
        if (own != NULL && strcmp(own, name) == 0) {
            json_array_append(c->callable, tool);
            return 0;
        }
    }
    return refuse_named(name, r);
}

static int choose_word(struct tool_choice *c, const char *word, struct refusal *r)
{
    c->required = strcmp(word, "required") == 0;
    if (c->required || strcmp(word, "auto") == 0) {
        json_array_extend(c->callable, (json_t *)(uintptr_t)c->offered);
        return 0;
    }
    return refuse(r, ERR_INVALID, "tool_choice", "tool_choice is \"%.40s\"; \"none\", \"auto\", \"required\" and an "
                  "object that names a function can be", word);
}

/* The first tool of each name; the caller's. */
static json_t *tools_by_name(const json_t *tools)
{
    json_t *named = json_object();
    for (size_t i = json_array_size(tools); i-- > 0;) {
        json_t *tool = json_array_get(tools, i);
        const char *name = text_at(function_of(tool), "name");
        if (name != NULL)
            json_object_set(named, name, tool);
    }
    return named;
}

/* A tool counts once, however often it is named: whether all are allowed is told by how many are.
 * {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required", "tools": [...]}} */
static int choose_allowed(struct tool_choice *c, const json_t *allowed, struct refusal *r)
{
    const char *mode = text_at(allowed, "mode");
    const json_t *list = json_object_get(allowed, "tools");
    if (mode == NULL || (strcmp(mode, "auto") != 0 && strcmp(mode, "required") != 0) || json_array_size(list) == 0)
        return refuse(r, ERR_INVALID, "tool_choice", "tool_choice.allowed_tools must have a mode, \"auto\" or "
                      "\"required\", and a list of tools");
    c->required = strcmp(mode, "required") == 0;
    json_t *named = tools_by_name(c->offered), *allowed_once = json_object(), *tool;
    const char *name;
    int rc = 0;
    for (size_t i = 0; i < json_array_size(list) && rc == 0; i++) {
        name = text_at(function_of(json_array_get(list, i)), "name");
        tool = name == NULL ? NULL : json_object_get(named, name);
        rc = tool == NULL ? refuse_named(name, r) : 0;
        json_object_set(allowed_once, name == NULL ? "" : name, tool);
    }
    json_object_foreach(allowed_once, name, tool)
        json_array_append(c->callable, tool);
    json_decref(allowed_once);
    json_decref(named);
    return rc;
}

static int choose_object(struct tool_choice *c, const json_t *choice, struct refusal *r)
{
    const char *type = text_at(choice, "type");
    if (type != NULL && strcmp(type, "allowed_tools") == 0)
        return choose_allowed(c, json_object_get(choice, "allowed_tools"), r);
    c->required = true;
    bool named = type != NULL && strcmp(type, "function") == 0;
    return call_named(c, named ? text_at(function_of(choice), "name") : NULL, r);
}

static bool is_nothing(const json_t *v)
{
    return v == NULL || json_is_null(v);
}

static int read_many(struct tool_choice *c, const json_t *v, struct refusal *r)
{
    c->many = !json_is_false(v);
    if (!is_nothing(v) && !json_is_boolean(v))
        return refuse(r, ERR_INVALID, "parallel_tool_calls", "parallel_tool_calls must be true or false");
    return 0;
}

/* Whether the list is one is seen when it is rendered. */
int tools_read(struct tool_choice *out, const json_t *body, struct refusal *r)
{
    const json_t *tools = json_object_get(body, "tools"), *choice = json_object_get(body, "tool_choice");
    const char *word = json_string_value(choice);
    bool none = is_nothing(tools) || (json_is_array(tools) && json_array_size(tools) == 0);
    *out = (struct tool_choice){ .many = true };
    int rc = read_many(out, json_object_get(body, "parallel_tool_calls"), r);
    if (rc != 0 || (word != NULL && strcmp(word, "none") == 0))
        return rc;
    if (none && (is_nothing(choice) || (word != NULL && strcmp(word, "auto") == 0)))
        return 0;
    if (none)
        return refuse(r, ERR_INVALID, "tool_choice", "tool_choice is only allowed when there are tools");
    out->offered = tools;
    out->callable = json_array();
    if (json_is_object(choice))
        return choose_object(out, choice, r);
    return choose_word(out, is_nothing(choice) ? "auto" : word != NULL ? word : "", r);
}

/* ---- the plan ---- */

static bool any_strict(const json_t *tools)
{
    for (size_t i = 0; i < json_array_size(tools); i++)
        if (json_is_true(json_object_get(function_of(json_array_get(tools, i)), "strict")))
            return true;
    return false;
}

/* What cannot be compiled is the request's fault. */
static int compile(struct params *p, const struct api *a, const struct grammar_calls *calls, struct refusal *r)
{
    grammar_drop(&p->plan.grammar);
    int rc = grammars_calls(a->grammars, calls, &p->plan.grammar, &r->error);
    if (rc == 0)
        return 0;
    (void)error_context(&r->error, "tools");
    snprintf(r->param, sizeof(r->param), "tools");
    r->http = 400;
    return rc;
}

int tools_plan(struct params *p, const struct api *a, const struct tool_choice *c, struct refusal *r)
{
    const struct reply_format *f = a->formats.calls;
    struct grammar_calls calls = { .format = f, .tools = c->callable, .many = c->many };
    bool form = p->form.kind != GRAMMAR_NONE;
    if (c->offered == NULL || (f == NULL && !c->required)) {
        if (form)
            p->plan.lead = a->marks_of.lead;
        return 0;
    }
    if (f == NULL)
        return refuse(r, ERR_UNSUPPORTED, "tool_choice", "tool_choice: how this model writes calls is not known, so "
                      "that none can be asked for");
    if (c->required)
        return compile(p, a, &calls, r);
    if (form) {
        calls.instead = p->form.kind;
        calls.source = p->form.source;
        calls.lead = a->marks_of.lead.text;
        return compile(p, a, &calls, r);
    }
    if (c->many && !any_strict(c->callable) && json_array_size(c->callable) == json_array_size(c->offered))
        return 0;
    calls.begun = true;
    p->plan.trigger = a->marks_of.trigger;
    p->plan.at_start = f->style == REPLY_STYLE_BARE;
    p->plan.once = !c->many;
    return compile(p, a, &calls, r);
}
