/* gbnf: llama.cpp's grammars: rules of literals, classes, groups, alternatives and repetitions.
 *
 * Recursive descent over the text, which nests only by parentheses, and those
 * are counted.  Characters are code points; a literal or class that is not
 * UTF-8 is refused.  Terminals that name tokens (<...>, !<...>) are refused:
 * an answer is matched by its text.                                          */
#include <jansson.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "text/grammar/front.h"
#include "text/utf8.h"

enum { NESTING_MAX = 200, SHOWN = 24 };

struct gbnf {
    struct rules *r;
    const char *text, *at, *end;
    json_t *names; /* of rules, to their numbers */
    int nesting;
    struct error *e;
};

static int fail(struct gbnf *g, const char *what)
{
    size_t line = 1;
    for (const char *p = g->text; p < g->at; p++)
        line += *p == '\n';
    size_t left = (size_t)(g->end - g->at);
    int shown = (int)(left < SHOWN ? left : SHOWN);
    return error_set(g->e, ERR_INVALID, "line %zu: %s, at \"%.*s\"", line, what, shown, g->at);
}

static bool more(const struct gbnf *g)
{
    return g->at < g->end;
}

static bool is_next(const struct gbnf *g, char c)
{
    return more(g) && *g->at == c;
}

static bool take(struct gbnf *g, char c)
{
    bool found = is_next(g, c);
    g->at += found;
    return found;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static void skip_space(struct gbnf *g, bool lines)
{
    while (more(g)) {
        if (*g->at == '#')
            while (more(g) && *g->at != '\n' && *g->at != '\r')
                g->at++;
        else if (*g->at == ' ' || *g->at == '\t' || (lines && (*g->at == '\n' || *g->at == '\r')))
            g->at++;
        else
            return;
    }
}

/* ---- characters ---- */

static int read_hex(struct gbnf *g, int digits, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++, g->at++) {
        int v = more(g) ? hex_digit(*g->at) : -1;
        if (v < 0)
            return fail(g, "hexadecimal digits are missing");
        *out = *out << 4 | (uint32_t)v;
    }
    if (*out > CODE_POINT_MAX || (*out >= 0xD800 && *out <= 0xDFFF))
        return fail(g, "this is no character");
    return 0;
}

static int read_escape(struct gbnf *g, uint32_t *out)
{
    static const char names[] = "tnr\\\"[]", values[] = "\t\n\r\\\"[]";
    char c = more(g) ? *g->at++ : '\0';
    if (c == 'x' || c == 'u' || c == 'U')
        return read_hex(g, c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
    const char *found = c ? strchr(names, c) : NULL;
    if (!found)
        return fail(g, "this escape is not known");
    *out = (unsigned char)values[found - names];
    return 0;
}

static int read_char(struct gbnf *g, uint32_t *out)
{
    if (take(g, '\\'))
        return read_escape(g, out);
    int n = utf8_step(g->at, (size_t)(g->end - g->at));
    if (n <= 0)
        return fail(g, "this is not UTF-8");
    *out = utf8_read(g->at, (size_t)n);
    g->at += n;
    return 0;
}

static int read_literal(struct gbnf *g, uint32_t *out)
{
    struct buffer text;
    buffer_init(&text, (size_t)(g->end - g->text) * 2 + 8);
    int status = 0;
    while (status == 0 && more(g) && *g->at != '"') {
        uint32_t c = 0;
        char bytes[4];
        status = read_char(g, &c);
        buffer_add(&text, bytes, utf8_write(c, bytes));
    }
    if (status == 0 && !take(g, '"'))
        status = fail(g, "a literal does not end");
    *out = rules_text(g->r, buffer_text(&text), text.len);
    buffer_close(&text);
    return status;
}

static int read_class(struct gbnf *g, uint32_t *out)
{
    struct charset set = {0};
    bool inverted = take(g, '^');
    int status = 0;
    while (status == 0 && more(g) && *g->at != ']') {
        uint32_t first = 0, last = 0;
        status = read_char(g, &first);
        last = first;
        if (status == 0 && is_next(g, '-') && g->end - g->at > 1 && g->at[1] != ']') {
            g->at++;
            status = read_char(g, &last);
        }
        if (status == 0 && last < first)
            status = fail(g, "a range ends before it begins");
        charset_add(&set, first, last);
    }
    if (status == 0 && !take(g, ']'))
        status = fail(g, "a class does not end");
    charset_finish(&set);
    if (inverted)
        charset_invert(&set);
    *out = rules_set(g->r, &set);
    charset_close(&set);
    return status;
}

static uint32_t any_char(struct gbnf *g)
{
    struct charset set = {0};
    charset_add(&set, 0, CODE_POINT_MAX);
    charset_finish(&set);
    uint32_t expr = rules_set(g->r, &set);
    charset_close(&set);
    return expr;
}

/* ---- rules ---- */

static uint32_t rule_of(struct gbnf *g, const char *name, size_t len)
{
    char *key = mem_strndup(name, len);
    json_t *known = json_object_get(g->names, key);
    if (!known) {
        known = json_integer(rules_declare(g->r, name, len));
        json_object_set_new(g->names, key, known);
    }
    mem_free(key);
    return (uint32_t)json_integer_value(known);
}

static int read_alternatives(struct gbnf *g, uint32_t *out);

static int read_group(struct gbnf *g, uint32_t *out)
{
    if (++g->nesting > NESTING_MAX)
        return fail(g, "parentheses are nested too deeply");
    int status = read_alternatives(g, out);
    if (status == 0 && !take(g, ')'))
        status = fail(g, "a parenthesis does not end");
    g->nesting--;
    return status;
}

static size_t word_length(const struct gbnf *g)
{
    size_t n = 0;
    while (g->at + n < g->end && is_word(g->at[n]))
        n++;
    return n;
}

/* false in *found: here begins none. */
static int read_item(struct gbnf *g, uint32_t *out, bool *found)
{
    *found = true;
    if (g->r->failed)
        return error_set(g->e, ERR_LIMIT, "it is too large");
    if (take(g, '"'))
        return read_literal(g, out);
    if (take(g, '['))
        return read_class(g, out);
    if (take(g, '('))
        return read_group(g, out);
    if (take(g, '.')) {
        *out = any_char(g);
        return 0;
    }
    if (is_next(g, '<') || is_next(g, '!'))
        return fail(g, "terminals that name tokens are not supported");
    size_t n = word_length(g);
    *found = n > 0;
    if (n > 0) {
        *out = rules_call(g->r, rule_of(g, g->at, n));
        g->at += n;
    }
    return 0;
}

static bool read_number(struct gbnf *g, uint32_t *out)
{
    const char *first = g->at;
    for (*out = 0; more(g) && *g->at >= '0' && *g->at <= '9'; g->at++)
        *out = *out < RULES_REPEAT_MAX ? *out * 10 + (uint32_t)(*g->at - '0') : *out;
    return g->at > first;
}

static int read_bounds(struct gbnf *g, uint32_t *min, uint32_t *max)
{
    skip_space(g, true);
    bool has_min = read_number(g, min);
    *max = *min;
    skip_space(g, true);
    if (take(g, ',')) {
        skip_space(g, true);
        if (!read_number(g, max))
            *max = RULES_ANY;
        skip_space(g, true);
    } else if (!has_min) {
        return fail(g, "a repetition has no number");
    }
    if (!take(g, '}'))
        return fail(g, "a repetition does not end");
    if (*min > RULES_REPEAT_MAX || (*max != RULES_ANY && *max > RULES_REPEAT_MAX))
        return fail(g, "a repetition is larger than 1048576");
    return *max < *min ? fail(g, "a repetition ends before it begins") : 0;
}

static int read_repeats(struct gbnf *g, uint32_t *expr)
{
    for (;;) {
        uint32_t min = 0, max = RULES_ANY;
        int status = 0;
        if (take(g, '+'))
            min = 1;
        else if (take(g, '?'))
            max = 1;
        else if (take(g, '{'))
            status = read_bounds(g, &min, &max);
        else if (!take(g, '*'))
            return 0;
        if (status != 0)
            return status;
        *expr = rules_repeat(g->r, *expr, min, max);
        skip_space(g, g->nesting > 0);
    }
}

static int read_sequence(struct gbnf *g, uint32_t *out)
{
    struct rules_list parts = {0};
    bool found = true;
    int status = 0;
    while (status == 0 && found) {
        uint32_t expr = 0;
        status = read_item(g, &expr, &found);
        if (status == 0 && found) {
            skip_space(g, g->nesting > 0);
            status = read_repeats(g, &expr);
            rules_list_add(&parts, expr);
        }
    }
    *out = rules_sequence(g->r, parts.items, parts.n);
    rules_list_close(&parts);
    return status;
}

/* An alternative may begin on a line of its own. */
static bool take_bar(struct gbnf *g)
{
    const char *before = g->at;
    skip_space(g, true);
    if (take(g, '|'))
        return true;
    g->at = before;
    return false;
}

static int read_alternatives(struct gbnf *g, uint32_t *out)
{
    struct rules_list parts = {0};
    int status;
    do {
        uint32_t expr = 0;
        skip_space(g, true);
        status = read_sequence(g, &expr);
        rules_list_add(&parts, expr);
    } while (status == 0 && take_bar(g));
    if (status == 0 && g->nesting > 0)
        skip_space(g, true);
    *out = rules_choice(g->r, parts.items, parts.n);
    rules_list_close(&parts);
    return status;
}

static int read_rule(struct gbnf *g)
{
    size_t n = word_length(g);
    if (n == 0)
        return fail(g, "a rule's name is expected");
    uint32_t rule = rule_of(g, g->at, n), body = 0;
    g->at += n;
    skip_space(g, false);
    if (g->end - g->at < 3 || memcmp(g->at, "::=", 3) != 0)
        return fail(g, "\"::=\" is expected");
    g->at += 3;
    if (!g->r->failed && g->r->rules[rule].body != RULES_ANY)
        return error_set(g->e, ERR_INVALID, "rule \"%.100s\" is defined twice", g->r->rules[rule].name);
    int status = read_alternatives(g, &body);
    rules_define(g->r, rule, body);
    if (status == 0 && more(g) && *g->at != '\n' && *g->at != '\r')
        status = fail(g, "this is no part of a rule");
    skip_space(g, true);
    return status;
}

int gbnf_read(struct rules *r, const char *text, size_t len, struct error *e)
{
    struct gbnf g = {.r = r, .text = text, .at = text, .end = text + len, .names = json_object(), .e = e};
    int status = 0;
    skip_space(&g, true);
    while (status == 0 && more(&g) && !r->failed)
        status = read_rule(&g);
    const json_t *root = json_object_get(g.names, "root");
    if (status == 0 && !root && !r->failed)
        status = error_set(e, ERR_INVALID, "there is no rule named \"root\"");
    if (root)
        r->root = (uint32_t)json_integer_value(root);
    json_decref(g.names);
    return status;
}
