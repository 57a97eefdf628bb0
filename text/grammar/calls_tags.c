/* calls_tags: parameters between tags. Texts are as they are, up to the tag that ends them; all else is JSON. */
#include "text/grammar/calls.h"

#include <string.h>

#include "text/grammar/front.h"
#include "text/utf8.h"

static const struct reply_tags *tags_of(const struct calls *c)
{
    return c->o->format->tags;
}

/* Any character but these two, and none that readers of JSON refuse. */
static uint32_t any_but(struct rules *r, uint32_t one, uint32_t other)
{
    struct charset set = {0};
    charset_add(&set, 0, 0);
    charset_add(&set, one, one);
    charset_add(&set, other, other);
    charset_finish(&set);
    charset_invert(&set);
    uint32_t expr = rules_set(r, &set);
    charset_close(&set);
    return expr;
}

static size_t step(const char *text)
{
    return (size_t)utf8_step(text, strlen(text));
}

static uint32_t first(const char *text)
{
    return utf8_read(text, step(text));
}

/* One of the beginnings of the mark that are not all of it. */
static uint32_t beginning(struct rules *r, const char *end)
{
    struct rules_list parts = {0};
    for (size_t n = step(end); end[n] != '\0'; n += step(end + n))
        rules_list_add(&parts, rules_text(r, end, n));
    uint32_t expr = rules_choice(r, parts.items, parts.n);
    rules_list_close(&parts);
    return expr;
}

/* Some beginnings, each broken off by the next, the last one by a character that does not go on. */
static uint32_t broken_off(struct rules *r, const char *end)
{
    struct rules_list parts = {0};
    for (size_t n = step(end); end[n] != '\0'; n += step(end + n)) {
        uint32_t head = rules_text(r, end, n);
        rules_list_add(&parts, rules_sequence_of(r, 2, head, any_but(r, first(end), first(end + n))));
    }
    uint32_t last = rules_choice(r, parts.items, parts.n);
    rules_list_close(&parts);
    return rules_sequence_of(r, 2, rules_repeat(r, beginning(r, end), 0, RULES_ANY), last);
}

/* Any text up to the first mark, and the mark, whose first character does not come again in it. */
static uint32_t text_until(struct rules *r, const char *end)
{
    uint32_t both[2] = {any_but(r, first(end), first(end)), broken_off(r, end)};
    uint32_t text = rules_repeat(r, rules_choice(r, both, 2), 0, RULES_ANY);
    uint32_t heads = rules_repeat(r, beginning(r, end), 0, RULES_ANY);
    return rules_sequence_of(r, 3, text, heads, rules_string(r, end));
}

/* ---- values ---- */

/* As an answer is read (text/reply/tags.c). */
static bool is_string(const json_t *schema)
{
    const char *type = json_string_value(json_object_get(schema, "type"));
    return type ? strcmp(type, "string") == 0 : json_is_string(json_array_get(json_object_get(schema, "enum"), 0));
}

/* Forms of texts that are kept to where texts stand in quotes. */
static int check_text(struct calls *c, const json_t *function, const char *name, const json_t *schema)
{
    static const char *const forms[] = {"pattern", "format", "minLength", "maxLength", "allOf", "anyOf", "oneOf"};
    for (size_t i = 0; i < COUNTOF(forms) && json_is_true(json_object_get(function, "strict")); i++)
        if (json_object_get(schema, forms[i]))
            return error_set(c->e, ERR_UNSUPPORTED, "strict function %.60s, property \"%.60s\": \"%s\" cannot be kept "
                             "to in this model's form of calls", json_string_value(json_object_get(function, "name")),
                             name, forms[i]);
    return 0;
}

static uint32_t line(struct calls *c)
{
    return tags_of(c)->trims ? rules_optional(c->r, rules_string(c->r, "\n")) : rules_empty(c->r);
}

/* One of the texts of an enum, or the only one. */
static uint32_t text_of(struct calls *c, const json_t *list, const json_t *only)
{
    struct rules_list parts = {0};
    if (json_is_string(only))
        rules_list_add(&parts, rules_string(c->r, json_string_value(only)));
    for (size_t i = 0; i < json_array_size(list) && !only; i++)
        if (json_is_string(json_array_get(list, i)))
            rules_list_add(&parts, rules_string(c->r, json_string_value(json_array_get(list, i))));
    uint32_t expr = rules_choice(c->r, parts.items, parts.n);
    rules_list_close(&parts);
    return expr;
}

/* A value and the tag that ends it. */
static int value(struct calls *c, const json_t *function, const char *name, json_t *schema, uint32_t *out)
{
    struct rules *r = c->r;
    const char *end = tags_of(c)->value_end;
    const json_t *list = json_object_get(schema, "enum"), *only = json_object_get(schema, "const");
    uint32_t expr = 0, before, after;
    int status = 0;
    if (is_string(schema) && !list && !only) {
        *out = text_until(r, end);
        return check_text(c, function, name, schema);
    }
    if (is_string(schema)) {
        before = line(c);
        expr = text_of(c, list, only);
        after = line(c);
    } else {
        before = calls_gap(c);
        status = calls_value(c, function, schema, &expr);
        after = calls_gap(c);
    }
    *out = rules_sequence_of(r, 4, before, expr, after, rules_string(r, end));
    return status;
}

/* ---- parameters ---- */

/* The key's tag up to where the value begins. */
static uint32_t head_of(struct calls *c, uint32_t name, bool text)
{
    const struct reply_tags *t = tags_of(c);
    uint32_t open = rules_string(c->r, t->key), close = rules_string(c->r, t->key_end);
    if (t->flag) {
        uint32_t flag = rules_string(c->r, t->flag);
        return rules_sequence_of(c->r, 5, open, name, flag, rules_string(c->r, text ? "true" : "false"), close);
    }
    if (!t->value)
        return rules_sequence_of(c->r, 3, open, name, close);
    uint32_t gap = calls_gap(c);
    return rules_sequence_of(c->r, 5, open, name, close, gap, rules_string(c->r, t->value));
}

/* Parameters of any name, for functions that declare none. */
static uint32_t any_parameters(struct calls *c)
{
    uint32_t name = 0;
    if (regex_expr(c->r, "[A-Za-z0-9_.-]{1,64}", 20, false, &name, NULL) != 0)
        c->r->failed = true;
    uint32_t gap = calls_gap(c), head = head_of(c, name, true);
    uint32_t one = rules_sequence_of(c->r, 3, gap, head, text_until(c->r, tags_of(c)->value_end));
    return rules_repeat(c->r, one, 0, RULES_ANY);
}

static bool is_required(const json_t *parameters, const char *name)
{
    const json_t *list = json_object_get(parameters, "required");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *one = json_string_value(json_array_get(list, i));
        if (one && strcmp(one, name) == 0)
            return true;
    }
    return false;
}

static int parameter(struct calls *c, const json_t *function, const char *name, json_t *schema, uint32_t *out)
{
    uint32_t expr = 0, gap = calls_gap(c), head = head_of(c, rules_string(c->r, name), is_string(schema));
    int status = value(c, function, name, schema, &expr);
    *out = rules_sequence_of(c->r, 3, gap, head, expr);
    if (!is_required(json_object_get(function, "parameters"), name))
        *out = rules_optional(c->r, *out);
    return status;
}

/* In the order in which they are declared. */
static int parameters(struct calls *c, const json_t *function, uint32_t *out)
{
    json_t *properties = json_object_get(json_object_get(function, "parameters"), "properties"), *schema;
    struct rules_list parts = {0};
    const char *name;
    int status = 0;
    json_object_foreach(properties, name, schema) {
        uint32_t expr = 0;
        if (status == 0)
            status = parameter(c, function, name, schema, &expr);
        rules_list_add(&parts, expr);
    }
    *out = rules_sequence(c->r, parts.items, parts.n);
    rules_list_close(&parts);
    return status;
}

/* Without declared properties a schema of another form may stand behind a reference. */
static bool is_open(const json_t *function)
{
    const json_t *p = json_object_get(function, "parameters");
    return json_object_size(json_object_get(p, "properties")) == 0 &&
           (json_object_get(p, "$ref") || json_object_get(p, "anyOf") || json_object_get(p, "allOf") ||
            json_object_get(p, "oneOf"));
}

int calls_tags(struct calls *c, const json_t *function, uint32_t *out)
{
    const struct reply_tags *t = tags_of(c);
    struct rules *r = c->r;
    uint32_t name = rules_string(r, json_string_value(json_object_get(function, "name"))), given = 0;
    uint32_t behind = t->name_end ? rules_string(r, t->name_end) : rules_empty(r);
    int status = 0;
    if (is_open(function) && json_is_true(json_object_get(function, "strict")))
        status = error_set(c->e, ERR_UNSUPPORTED, "strict function %.60s: its parameters must have properties in "
                           "this model's form of calls", json_string_value(json_object_get(function, "name")));
    else if (is_open(function))
        given = any_parameters(c);
    else
        status = parameters(c, function, &given);
    uint32_t end = t->function_end ? rules_sequence_of(r, 2, calls_gap(c), rules_string(r, t->function_end))
                                   : rules_empty(r);
    *out = rules_sequence_of(r, 4, name, behind, given, end);
    return status;
}
