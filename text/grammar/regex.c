/* regex: regular expressions, of the kind that JSON schema and guided decoding use, as rules.
 *
 * Literals, ".", classes, groups, alternatives, repetitions (lazy ones mean the
 * same texts), anchors at the ends of the whole, and the escapes of ECMA 262.
 * What is not regular or looks around (back references, assertions, \b), what
 * needs a table of Unicode (\p) and flags are refused by name.  Shorthands are
 * so narrow that what they give matches in every dialect: \d and \w are ASCII,
 * \D, \W and \S leave out what any dialect might count in.
 *
 * In a JSON string every character stands as JSON writes it.                 */
#include <string.h>

#include "base/memory.h"
#include "text/grammar/front.h"
#include "text/grammar/grammar.h"
#include "text/grammar/json.h"
#include "text/utf8.h"

enum { NESTING_MAX = 200, SHOWN = 24 };

struct regex {
    struct rules *r;
    const char *text, *at, *end;
    bool json;      /* as a JSON string's content */
    bool open_ends; /* what is not anchored goes on */
    int nesting;
    struct error *e;
};

static int read_branches(struct regex *g, uint32_t *out);

static int fail(struct regex *g, int status, const char *what)
{
    size_t left = (size_t)(g->end - g->at);
    return error_set(g->e, status, "regular expression: %s, at byte %zu \"%.*s\"", what, (size_t)(g->at - g->text),
                     (int)(left < SHOWN ? left : SHOWN), g->at);
}

static bool more(const struct regex *g)
{
    return g->at < g->end;
}

static bool take(struct regex *g, const char *what)
{
    size_t n = strlen(what);
    if ((size_t)(g->end - g->at) < n || memcmp(g->at, what, n) != 0)
        return false;
    g->at += n;
    return true;
}

/* ---- sets ---- */

static const struct char_range digits[] = {{'0', '9'}};
static const struct char_range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const struct char_range spaces[] = {{'\t', '\r'}, {' ', ' '}};
/* Not digits, whatever counts: the first others are U+0660. */
static const struct char_range not_digits[] = {{0, '/'}, {':', 0x65F}};
static const struct char_range not_words[] = {{0, '/'}, {':', '@'}, {'[', '^'}, {'`', '`'}, {'{', 0x7F}};
static const struct char_range not_spaces[] = {
    {0, 8}, {14, 27}, {33, 0x84}, {0x86, 0x9F}, {0xA1, 0x167F}, {0x1681, 0x180D}, {0x180F, 0x1FFF}, {0x200B, 0x2027},
    {0x202A, 0x202E}, {0x2030, 0x205E}, {0x2060, 0x2FFF}, {0x3001, 0xFEFE}, {0xFF00, CODE_POINT_MAX}};
static const struct char_range any_char[] = {{0, 9}, {11, 12}, {14, 0x2027}, {0x202A, CODE_POINT_MAX}};

static const struct {
    char name;
    const struct char_range *ranges;
    size_t n;
} shorthands[] = {
    {'d', digits, COUNTOF(digits)}, {'D', not_digits, COUNTOF(not_digits)}, {'w', words, COUNTOF(words)},
    {'W', not_words, COUNTOF(not_words)}, {'s', spaces, COUNTOF(spaces)}, {'S', not_spaces, COUNTOF(not_spaces)},
};

static bool add_shorthand(struct charset *s, char name)
{
    for (size_t i = 0; i < COUNTOF(shorthands); i++) {
        if (shorthands[i].name == name) {
            charset_add_all(s, shorthands[i].ranges, shorthands[i].n);
            return true;
        }
    }
    return false;
}

/* Takes the set. */
static uint32_t set_expr(struct regex *g, struct charset *s)
{
    charset_finish(s);
    uint32_t expr = g->json ? json_set(g->r, s) : rules_set(g->r, s);
    charset_close(s);
    return expr;
}

static uint32_t char_expr(struct regex *g, uint32_t c)
{
    struct charset s = {0};
    charset_add(&s, c, c);
    return set_expr(g, &s);
}

/* ---- characters ---- */

static int read_hex(struct regex *g, int n, uint32_t *out)
{
    *out = 0;
    bool braced = n == 4 && take(g, "{");
    for (int i = 0; braced ? more(g) && *g->at != '}' && i < 6 : i < n; i++, g->at++) {
        int v = more(g) ? hex_digit(*g->at) : -1;
        if (v < 0)
            return fail(g, ERR_INVALID, "hexadecimal digits are missing");
        *out = *out << 4 | (uint32_t)v;
    }
    if ((braced && !take(g, "}")) || *out > CODE_POINT_MAX || (*out >= 0xD800 && *out <= 0xDFFF))
        return fail(g, ERR_INVALID, "this is no character");
    return 0;
}

/* After a backslash: one character. Punctuation stands for itself; letters that have no meaning are refused. */
static int read_escape(struct regex *g, uint32_t *out)
{
    static const char names[] = "nrtfv0", values[] = "\n\r\t\f\v\0";
    if (!more(g))
        return fail(g, ERR_INVALID, "a backslash at the end");
    char c = *g->at++;
    if (c == 'x' || c == 'u')
        return read_hex(g, c == 'x' ? 2 : 4, out);
    const char *found = c ? strchr(names, c) : NULL;
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (found) {
        *out = (unsigned char)values[found - names];
        return 0;
    }
    g->at--;
    if (letter && (c == 'b' || c == 'B'))
        return fail(g, ERR_UNSUPPORTED, "word boundaries (\\b) are not supported");
    if (letter && (c == 'p' || c == 'P'))
        return fail(g, ERR_UNSUPPORTED, "Unicode properties (\\p) are not supported");
    if (letter && (c == 'k' || (c >= '1' && c <= '9')))
        return fail(g, ERR_UNSUPPORTED, "back references are not supported");
    if (letter || (unsigned char)c >= 0x80)
        return fail(g, ERR_UNSUPPORTED, "this escape is not supported");
    g->at++;
    *out = (unsigned char)c;
    return 0;
}

static int read_plain(struct regex *g, uint32_t *out)
{
    int n = utf8_step(g->at, (size_t)(g->end - g->at));
    if (n <= 0)
        return fail(g, ERR_INVALID, "this is not UTF-8");
    *out = utf8_read(g->at, (size_t)n);
    g->at += n;
    return 0;
}

/* ---- classes ---- */

/* *wide: a shorthand, which begins no range. */
static int read_member(struct regex *g, struct charset *s, uint32_t *c, bool *wide)
{
    *wide = false;
    if (g->end - g->at >= 2 && g->at[0] == '[' && (g->at[1] == ':' || g->at[1] == '.' || g->at[1] == '='))
        return fail(g, ERR_UNSUPPORTED, "POSIX classes are not supported");
    if (!take(g, "\\"))
        return read_plain(g, c);
    if (more(g) && add_shorthand(s, *g->at)) {
        g->at++;
        *wide = true;
        return 0;
    }
    if (more(g) && *g->at == 'b') { /* a backspace, in a class */
        g->at++;
        *c = '\b';
        return 0;
    }
    return read_escape(g, c);
}

static int read_class_part(struct regex *g, struct charset *s)
{
    uint32_t first = 0, last = 0;
    bool wide, wide_end = false;
    int status = read_member(g, s, &first, &wide);
    if (status != 0 || wide)
        return status;
    last = first;
    if (g->end - g->at >= 2 && g->at[0] == '-' && g->at[1] != ']') {
        g->at++;
        status = read_member(g, s, &last, &wide_end);
        if (status == 0 && wide_end) { /* [a-\d]: a, a hyphen, digits */
            charset_add(s, '-', '-');
            last = first;
        }
    }
    if (status == 0 && last < first)
        return fail(g, ERR_INVALID, "a range ends before it begins");
    charset_add(s, first, last);
    return status;
}

static int read_class(struct regex *g, uint32_t *out)
{
    struct charset s = {0};
    bool inverted = take(g, "^");
    if (more(g) && *g->at == ']')
        return fail(g, ERR_UNSUPPORTED, "\"]\" at the beginning of a class means different things: escape it");
    int status = 0;
    while (status == 0 && more(g) && *g->at != ']')
        status = read_class_part(g, &s);
    if (status == 0 && !take(g, "]"))
        status = fail(g, ERR_INVALID, "a class does not end");
    charset_finish(&s);
    if (inverted)
        charset_invert(&s);
    *out = set_expr(g, &s);
    return status;
}

/* ---- groups ---- */

static int open_group(struct regex *g)
{
    if (!take(g, "?"))
        return 0;
    if (take(g, ":"))
        return 0;
    if (take(g, "=") || take(g, "!") || take(g, "<=") || take(g, "<!"))
        return fail(g, ERR_UNSUPPORTED, "lookaround is not supported");
    if (!take(g, "<") && !take(g, "P<"))
        return fail(g, ERR_UNSUPPORTED, "this kind of group is not supported");
    while (more(g) && *g->at != '>')
        g->at++;
    return take(g, ">") ? 0 : fail(g, ERR_INVALID, "a group's name does not end");
}

static int read_group(struct regex *g, uint32_t *out)
{
    if (++g->nesting > NESTING_MAX)
        return fail(g, ERR_LIMIT, "groups are nested too deeply");
    int status = open_group(g);
    if (status == 0)
        status = read_branches(g, out);
    if (status == 0 && !take(g, ")"))
        status = fail(g, ERR_INVALID, "a group does not end");
    g->nesting--;
    return status;
}

static int read_atom(struct regex *g, uint32_t *out)
{
    uint32_t c = 0;
    if (g->r->failed)
        return fail(g, ERR_LIMIT, "it is too large");
    if (take(g, "("))
        return read_group(g, out);
    if (take(g, "["))
        return read_class(g, out);
    if (take(g, ".")) {
        struct charset s = {0};
        charset_add_all(&s, any_char, COUNTOF(any_char));
        *out = set_expr(g, &s);
        return 0;
    }
    if (more(g) && strchr("*+?", *g->at))
        return fail(g, ERR_INVALID, "there is nothing to repeat");
    if (more(g) && strchr("^$", *g->at))
        return fail(g, ERR_UNSUPPORTED, "anchors are supported at the ends of the whole expression only");
    struct charset s = {0};
    if (g->end - g->at >= 2 && *g->at == '\\' && add_shorthand(&s, g->at[1])) {
        g->at += 2;
        *out = set_expr(g, &s);
        return 0;
    }
    int status = take(g, "\\") ? read_escape(g, &c) : read_plain(g, &c);
    *out = char_expr(g, c);
    return status;
}

/* ---- repetitions ---- */

static bool read_number(const char **at, const char *end, uint32_t *out)
{
    const char *first = *at;
    for (*out = 0; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        *out = *out <= RULES_REPEAT_MAX ? *out * 10 + (uint32_t)(**at - '0') : *out;
    return *at > first;
}

/* {m}, {m,}, {m,n}; anything else in braces is text. */
static bool take_bounds(struct regex *g, uint32_t *min, uint32_t *max)
{
    const char *at = g->at;
    if (at == g->end || *at++ != '{' || !read_number(&at, g->end, min))
        return false;
    *max = *min;
    if (at < g->end && *at == ',') {
        at++;
        if (!read_number(&at, g->end, max))
            *max = RULES_ANY;
    }
    if (at == g->end || *at++ != '}')
        return false;
    g->at = at;
    return true;
}

static int read_repeats(struct regex *g, uint32_t *expr)
{
    uint32_t min = 0, max = RULES_ANY;
    if (take(g, "+"))
        min = 1;
    else if (take(g, "?"))
        max = 1;
    else if (!take(g, "*") && !take_bounds(g, &min, &max))
        return 0;
    if (min > RULES_REPEAT_MAX || (max != RULES_ANY && max > RULES_REPEAT_MAX))
        return fail(g, ERR_LIMIT, "a repetition is larger than 1048576");
    if (max < min)
        return fail(g, ERR_INVALID, "a repetition ends before it begins");
    *expr = rules_repeat(g->r, *expr, min, max);
    take(g, "?"); /* lazy: the same texts */
    uint32_t more_min, more_max;
    if (more(g) && (strchr("*+?", *g->at) || take_bounds(g, &more_min, &more_max)))
        return fail(g, ERR_UNSUPPORTED, "a repetition of a repetition is not supported: group it");
    return 0;
}

/* ---- branches ---- */

static uint32_t any_text(struct regex *g)
{
    struct charset s = {0};
    charset_add(&s, 0, CODE_POINT_MAX);
    return rules_repeat(g->r, set_expr(g, &s), 0, RULES_ANY);
}

static int read_branch(struct regex *g, uint32_t *out)
{
    struct rules_list parts = {0};
    bool outermost = g->nesting == 0, closed = false;
    int status = 0;
    if (outermost && !take(g, "^") && g->open_ends)
        rules_list_add(&parts, any_text(g));
    while (status == 0 && more(g) && *g->at != '|' && *g->at != ')') {
        if (outermost && *g->at == '$' && (g->end - g->at == 1 || g->at[1] == '|')) {
            g->at++;
            closed = true;
            break;
        }
        uint32_t expr = 0;
        status = read_atom(g, &expr);
        if (status == 0)
            status = read_repeats(g, &expr);
        rules_list_add(&parts, expr);
    }
    if (status == 0 && outermost && !closed && g->open_ends)
        rules_list_add(&parts, any_text(g));
    *out = rules_sequence(g->r, parts.items, parts.n);
    rules_list_close(&parts);
    return status;
}

static int read_branches(struct regex *g, uint32_t *out)
{
    struct rules_list parts = {0};
    int status;
    do {
        uint32_t expr = 0;
        status = read_branch(g, &expr);
        rules_list_add(&parts, expr);
    } while (status == 0 && take(g, "|"));
    *out = rules_choice(g->r, parts.items, parts.n);
    rules_list_close(&parts);
    return status;
}

static int read_all(struct regex *g, uint32_t *out)
{
    int status = read_branches(g, out);
    return status == 0 && more(g) ? fail(g, ERR_INVALID, "a group ends that did not begin") : status;
}

int regex_expr(struct rules *r, const char *text, size_t len, bool json, uint32_t *out, struct error *e)
{
    struct regex g = {.r = r, .text = text, .at = text, .end = text + len, .json = json, .open_ends = json, .e = e};
    if (len > GRAMMAR_SOURCE_MAX)
        return error_set(e, ERR_LIMIT, "a regular expression has %zu bytes; at most %d can be", len,
                         GRAMMAR_SOURCE_MAX);
    return read_all(&g, out);
}

int regex_read(struct rules *r, const char *text, size_t len, struct error *e)
{
    uint32_t expr = 0;
    int status = regex_expr(r, text, len, false, &expr, e);
    r->root = rules_declare(r, "root", 4);
    rules_define(r, r->root, expr);
    return status;
}
