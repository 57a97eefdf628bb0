/* json: RFC 8259 with bounded space and numbers. */
#include "text/grammar/json.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/grammar/front.h"

void json_rules_init(struct json_rules *j, struct rules *r)
{
    memset(j, 0xFF, sizeof(*j));
    j->r = r;
}

uint32_t rules_sequence_of(struct rules *r, size_t n, ...)
{
    uint32_t parts[8];
    va_list args;
    va_start(args, n);
    for (size_t i = 0; i < n && i < COUNTOF(parts); i++)
        parts[i] = va_arg(args, uint32_t);
    va_end(args);
    return rules_sequence(r, parts, n);
}

/* A rule from a regular expression of ours. */
static uint32_t rule_of(struct rules *r, const char *name, const char *regex)
{
    uint32_t rule = rules_declare(r, name, strlen(name)), expr = 0;
    if (regex_expr(r, regex, strlen(regex), false, &expr, NULL) != 0)
        r->failed = true;
    rules_define(r, rule, expr);
    return rule;
}

uint32_t json_space(struct json_rules *j)
{
    if (j->space == RULES_ANY)
        j->space = rule_of(j->r, "space", " |\\n[ \\t]{0,40}|");
    return rules_call(j->r, j->space);
}

/* \u of surrogates makes no character by itself, and \u0000 is refused by many readers. */
uint32_t json_character(struct json_rules *j)
{
    if (j->character == RULES_ANY)
        j->character = rule_of(j->r, "character",
                               "[^\"\\\\\\x00-\\x1F]|\\\\(?:[\"\\\\/bfnrt]|u(?:[1-9a-cA-CeEfF][0-9a-fA-F]{3}|"
                               "0[1-9a-fA-F][0-9a-fA-F]{2}|00[1-9a-fA-F][0-9a-fA-F]|000[1-9a-fA-F]|"
                               "[dD][0-7][0-9a-fA-F]{2}))");
    return rules_call(j->r, j->character);
}

uint32_t json_string_any(struct json_rules *j)
{
    if (j->string == RULES_ANY) {
        j->string = rules_declare(j->r, "string", 6);
        uint32_t body = rules_repeat(j->r, json_character(j), 0, RULES_ANY);
        uint32_t quote = rules_string(j->r, "\"");
        rules_define(j->r, j->string, rules_sequence_of(j->r, 3, quote, body, rules_string(j->r, "\"")));
    }
    return rules_call(j->r, j->string);
}

uint32_t json_number_any(struct json_rules *j)
{
    if (j->number == RULES_ANY)
        j->number = rule_of(j->r, "number", "-?(?:0|[1-9][0-9]{0,14})(?:\\.[0-9]{1,15})?(?:[eE][-+]?[0-9]{1,2})?");
    return rules_call(j->r, j->number);
}

uint32_t json_integer_any(struct json_rules *j)
{
    if (j->integer == RULES_ANY)
        j->integer = rule_of(j->r, "integer", "0|-?[1-9][0-9]{0,14}");
    return rules_call(j->r, j->integer);
}

uint32_t json_token(struct json_rules *j, const char *text)
{
    return rules_sequence_of(j->r, 2, rules_string(j->r, text), json_space(j));
}

uint32_t json_close(struct json_rules *j, const char *bracket)
{
    return rules_sequence_of(j->r, 2, json_space(j), rules_string(j->r, bracket));
}

/* [ or {, any number of what `item` gives, ] or }. */
static uint32_t list_of(struct json_rules *j, const char *open, const char *close,
                        uint32_t (*item)(struct json_rules *))
{
    struct rules *r = j->r;
    uint32_t next = rules_sequence_of(r, 2, json_token(j, ","), item(j));
    uint32_t all = rules_sequence_of(r, 3, json_token(j, open), item(j), rules_repeat(r, next, 0, RULES_ANY));
    uint32_t some = rules_sequence_of(r, 2, all, json_close(j, close));
    uint32_t both[2] = {rules_sequence_of(r, 2, rules_string(r, open), rules_string(r, close)), some};
    return rules_choice(r, both, 2);
}

static uint32_t member(struct json_rules *j)
{
    return rules_sequence_of(j->r, 3, json_string_any(j), json_token(j, ":"), json_value(j));
}

uint32_t json_object_any(struct json_rules *j)
{
    if (j->object == RULES_ANY) {
        j->object = rules_declare(j->r, "object", 6);
        rules_define(j->r, j->object, list_of(j, "{", "}", member));
    }
    return rules_call(j->r, j->object);
}

uint32_t json_value(struct json_rules *j)
{
    if (j->value == RULES_ANY) {
        struct rules *r = j->r;
        j->value = rules_declare(r, "value", 5);
        uint32_t parts[] = {json_object_any(j), list_of(j, "[", "]", json_value), json_string_any(j),
                            json_number_any(j), rules_string(r, "true"), rules_string(r, "false"),
                            rules_string(r, "null")};
        rules_define(r, j->value, rules_choice(r, parts, COUNTOF(parts)));
    }
    return rules_call(j->r, j->value);
}

void json_read_object(struct rules *r)
{
    struct json_rules j;
    json_rules_init(&j, r);
    r->root = rules_declare(r, "root", 4);
    uint32_t body = json_object_any(&j);
    rules_define(r, r->root, body);
}

/* ---- characters of a string ---- */

static const struct {
    char c;
    const char *escape;
} escapes[] = {
    {'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"},
    {'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"},
};

static bool has(const struct charset *s, uint32_t c)
{
    struct char_range one = {c, c};
    return charset_covers(s->ranges, s->n, &one, 1);
}

/* Escapes of those of the set that a string cannot hold as they are. */
static void add_escapes(struct rules *r, const struct charset *s, struct rules_list *parts)
{
    for (size_t i = 0; i < COUNTOF(escapes); i++)
        if (has(s, (unsigned char)escapes[i].c))
            rules_list_add(parts, rules_string(r, escapes[i].escape));
    for (uint32_t c = 1; c < 0x20; c++) {
        char text[8];
        snprintf(text, sizeof(text), "\\u%04x", c);
        bool known = (c >= '\b' && c <= '\n') || c == '\f' || c == '\r';
        if (!known && has(s, c))
            rules_list_add(parts, rules_string(r, text));
    }
}

void json_raw(struct charset *out)
{
    static const struct char_range raw[] = {{' ', '!'}, {'#', '['}, {']', CODE_POINT_MAX}};
    charset_add_all(out, raw, COUNTOF(raw));
    charset_finish(out);
}

uint32_t json_set(struct rules *r, const struct charset *s)
{
    struct charset as_is = {0}, of_strings = {0};
    struct rules_list parts = {0};
    charset_add_all(&as_is, s->ranges, s->n);
    charset_finish(&as_is);
    json_raw(&of_strings);
    charset_intersect(&as_is, &of_strings);
    if (as_is.n > 0)
        rules_list_add(&parts, rules_set(r, &as_is));
    add_escapes(r, s, &parts);
    uint32_t expr = rules_choice(r, parts.items, parts.n);
    rules_list_close(&parts);
    charset_close(&as_is);
    charset_close(&of_strings);
    return expr;
}

uint32_t json_constant(struct rules *r, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    uint32_t expr = text ? rules_string(r, text) : rules_never(r);
    free(text);
    return expr;
}
