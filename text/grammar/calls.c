/* calls: a choice of tools within the marks of the format, once or several times. */
#include "text/grammar/calls.h"

#include <stdlib.h>
#include <string.h>

#include "text/grammar/front.h"

static const char *name_of(const json_t *function)
{
    return json_string_value(json_object_get(function, "name"));
}

uint32_t calls_gap(struct calls *c)
{
    return json_space(&c->j);
}

/* A mark, or nothing where there is none. */
static uint32_t mark(struct calls *c, const char *text)
{
    return text ? rules_string(c->r, text) : rules_empty(c->r);
}

/* ---- arguments ---- */

/* Can it be kept to? */
static bool compiles(const json_t *schema, const json_t *root)
{
    struct rules r;
    uint32_t out;
    rules_init(&r);
    bool good = schema_within(&r, schema, root, &out, NULL) == 0;
    if (good) {
        r.root = rules_declare(&r, "root", 4);
        rules_define(&r, r.root, out);
        good = rules_check(&r, NULL) == 0;
    }
    rules_close(&r);
    return good;
}

/* False for a schema that says nothing of the value's form. */
static bool says_type(const json_t *schema)
{
    static const char *const keys[] = {"type", "$ref", "anyOf", "allOf", "oneOf", "enum", "const"};
    for (size_t i = 0; i < COUNTOF(keys); i++)
        if (json_object_get(schema, keys[i]))
            return true;
    return false;
}

int calls_value(struct calls *c, const json_t *function, json_t *schema, uint32_t *out)
{
    json_t *root = json_object_get(function, "parameters");
    bool strict = json_is_true(json_object_get(function, "strict"));
    if (!strict && !compiles(schema, root)) {
        *out = schema == root ? json_object_any(&c->j) : json_value(&c->j);
        return 0;
    }
    int status = schema_within(c->r, schema, root, out, c->e);
    return status == 0 ? 0 : error_context(c->e, "strict function %.60s", name_of(function));
}

/* An object in any case; without parameters an empty one. */
static int arguments(struct calls *c, const json_t *function, uint32_t *out)
{
    json_t *schema = json_object_get(function, "parameters");
    if (!json_is_object(schema) || json_object_size(schema) == 0) {
        *out = rules_string(c->r, "{}");
        return 0;
    }
    if (says_type(schema))
        return calls_value(c, function, schema, out);
    json_t *typed = json_copy(schema), *own = json_copy((json_t *)(uintptr_t)function);
    json_object_set_new(typed, "type", json_string("object"));
    json_object_set_new(own, "parameters", typed);
    int status = calls_value(c, own, typed, out);
    json_decref(own);
    return status;
}

/* ---- one call, between its marks ---- */

/* "key": and a space. */
static uint32_t key(struct calls *c, const char *text)
{
    json_t *j = json_string(text);
    uint32_t expr = rules_sequence_of(c->r, 2, json_constant(c->r, j), json_token(&c->j, ":"));
    json_decref(j);
    return expr;
}

/* Some models number their calls before they name the tool. */
static uint32_t id_member(struct calls *c)
{
    const char *text = c->o->format->id_key;
    if (!text)
        return rules_empty(c->r);
    uint32_t first = key(c, text), id = json_string_any(&c->j);
    return rules_optional(c->r, rules_sequence_of(c->r, 3, first, id, json_token(&c->j, ",")));
}

/* The rest of a JSON call, from within the name's quotes. */
static int json_rest(struct calls *c, const json_t *function, uint32_t *out)
{
    struct rules *r = c->r;
    char *text = json_dumps(json_object_get(function, "name"), JSON_ENCODE_ANY);
    uint32_t given = 0;
    int status = arguments(c, function, &given);
    uint32_t name = text ? rules_string(r, text + 1) : rules_never(r), comma = json_token(&c->j, ",");
    free(text);
    uint32_t second = key(c, c->o->format->arguments_key);
    *out = rules_sequence_of(r, 5, name, comma, second, given, json_close(&c->j, "}"));
    return status;
}

static int named_rest(struct calls *c, const json_t *function, uint32_t *out)
{
    const struct reply_format *f = c->o->format;
    struct rules *r = c->r;
    uint32_t given = 0, digit = 0;
    int status = arguments(c, function, &given);
    uint32_t name = rules_string(r, name_of(function)), number = rules_empty(r), behind = mark(c, f->after_arguments);
    if (f->numbered && regex_expr(r, ":[0-9]{1,4}", 11, false, &digit, NULL) == 0)
        number = digit;
    if (f->after_arguments)
        behind = rules_sequence_of(r, 2, calls_gap(c), behind);
    *out = rules_sequence_of(r, 5, name, number, mark(c, f->after_name), given, behind);
    return status;
}

/* " to=functions.NAME", then the form of the arguments. */
static int channel_rest(struct calls *c, const json_t *function, uint32_t *out)
{
    struct rules *r = c->r;
    uint32_t given = 0;
    int status = arguments(c, function, &given);
    uint32_t name = rules_string(r, name_of(function)), form = rules_optional(r, rules_string(r, " <|constrain|>json"));
    *out = rules_sequence_of(r, 4, name, form, rules_string(r, "<|message|>"), given);
    return status;
}

static int one_of_tools(struct calls *c, int (*rest)(struct calls *, const json_t *, uint32_t *), uint32_t *out)
{
    struct rules_list parts = {0};
    int status = 0;
    for (size_t i = 0; i < json_array_size(c->o->tools) && status == 0; i++) {
        uint32_t expr = 0;
        status = rest(c, json_object_get(json_array_get(c->o->tools, i), "function"), &expr);
        rules_list_add(&parts, expr);
    }
    uint32_t rule = rules_declare(c->r, "tool", 4);
    rules_define(c->r, rule, rules_choice(c->r, parts.items, parts.n));
    rules_list_close(&parts);
    *out = rule;
    return status;
}

/* ---- calls together ---- */

/* `rule`, and more of it, each after what `between` gives. */
static uint32_t one_or_more(struct calls *c, uint32_t rule, uint32_t between)
{
    struct rules *r = c->r;
    uint32_t first = rules_call(r, rule);
    if (!c->o->many)
        return first;
    uint32_t next = rules_sequence_of(r, 2, between, rules_call(r, rule));
    return rules_sequence_of(r, 2, first, rules_repeat(r, next, 0, RULES_ANY));
}

static uint32_t rule_of(struct calls *c, const char *name, uint32_t expr)
{
    uint32_t rule = rules_declare(c->r, name, strlen(name));
    rules_define(c->r, rule, expr);
    return rule;
}

/* {"name": "TOOL", "arguments": {...}} */
static uint32_t json_call(struct calls *c, uint32_t tool)
{
    struct rules *r = c->r;
    uint32_t open = json_token(&c->j, "{"), id = id_member(c), name = key(c, c->o->format->name_key);
    uint32_t quote = rules_string(r, "\"");
    return rule_of(c, "call", rules_sequence_of(r, 5, open, id, name, quote, rules_call(r, tool)));
}

/* After the mark: one call or a list of them, and the mark that ends them. */
static uint32_t json_calls(struct calls *c, uint32_t tool)
{
    const struct reply_format *f = c->o->format;
    struct rules *r = c->r;
    uint32_t call = json_call(c, tool), lead = calls_gap(c), body;
    if (f->list) {
        uint32_t open = json_token(&c->j, "["), all = one_or_more(c, call, json_token(&c->j, ","));
        body = rules_sequence_of(r, 3, open, all, json_close(&c->j, "]"));
    } else {
        body = rules_call(r, call);
    }
    return f->close ? rules_sequence_of(r, 4, lead, body, calls_gap(c), mark(c, f->close))
                    : rules_sequence_of(r, 2, lead, body);
}

/* After the first call's beginning: no mark says where the next one is, so that it belongs to the same. */
static uint32_t bare_calls(struct calls *c, uint32_t tool)
{
    uint32_t next = rules_string(c->r, "; ");
    return one_or_more(c, tool, rules_sequence_of(c->r, 2, next, rules_string(c->r, reply_trigger(c->o->format))));
}

static uint32_t named_calls(struct calls *c, uint32_t tool)
{
    const struct reply_format *f = c->o->format;
    return rules_sequence_of(c->r, 3, mark(c, f->before_name), rules_call(c->r, tool), mark(c, f->close));
}

static uint32_t tags_calls(struct calls *c, uint32_t tool)
{
    const struct reply_format *f = c->o->format;
    bool bare = !f->tags->name && f->tags->name_end; /* the mark holds the name */
    uint32_t lead = bare ? rules_empty(c->r) : calls_gap(c), all = rules_call(c->r, tool);
    if (f->tags->name) { /* several functions may stand within one mark */
        uint32_t function = rule_of(c, "function", rules_sequence_of(c->r, 2, mark(c, f->tags->name), all));
        all = one_or_more(c, function, calls_gap(c));
    }
    return rules_sequence_of(c->r, 4, lead, all, calls_gap(c), mark(c, f->close));
}

/* What follows a call's mark, up to its end. */
static int after_mark(struct calls *c, uint32_t *out)
{
    uint32_t tool = 0;
    int status;
    switch (c->o->format->style) {
    case REPLY_STYLE_NAMED:
        status = one_of_tools(c, named_rest, &tool);
        *out = named_calls(c, tool);
        return status;
    case REPLY_STYLE_TAGS:
        status = one_of_tools(c, calls_tags, &tool);
        *out = tags_calls(c, tool);
        return status;
    case REPLY_STYLE_CHANNELS:
        status = one_of_tools(c, channel_rest, &tool);
        *out = rules_call(c->r, tool);
        return status;
    default:
        status = one_of_tools(c, json_rest, &tool);
        *out = c->o->format->style == REPLY_STYLE_JSON ? json_calls(c, tool) : bare_calls(c, tool);
        return status;
    }
}

/* An answer that calls, from its first mark on. */
static uint32_t whole(struct calls *c, uint32_t call)
{
    const struct reply_format *f = c->o->format;
    struct rules *r = c->r;
    uint32_t rule = rule_of(c, "marked", rules_sequence_of(r, 2, rules_string(r, reply_trigger(f)), call));
    if (f->list || f->style == REPLY_STYLE_CHANNELS || f->style == REPLY_STYLE_BARE)
        return rules_call(r, rule);
    uint32_t all = one_or_more(c, rule, calls_gap(c));
    if (!f->section)
        return all;
    uint32_t open = rules_sequence_of(r, 2, mark(c, f->section), calls_gap(c));
    return rules_sequence_of(r, 4, open, all, calls_gap(c), mark(c, f->section_end));
}

int calls_read(struct rules *r, const struct grammar_calls *o, struct error *e)
{
    struct error own = {0};
    struct calls c = {.r = r, .o = o, .e = e ? e : &own};
    uint32_t expr = 0;
    json_rules_init(&c.j, r);
    int status = after_mark(&c, &expr);
    if (!o->begun)
        expr = whole(&c, expr);
    r->root = rule_of(&c, "root", expr);
    return status;
}
