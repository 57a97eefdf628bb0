/* lexer: text, and tags in it; inside of a tag, words.
 *
 * As Jinja's with trim_blocks and lstrip_blocks: the line break after a block
 * or a comment goes, and so do blanks before one that begins a line; a minus
 * takes all white space, a plus keeps it.  A tag ends only where its brackets
 * are closed.                                                                */
#include "text/jinja/lexer.h"

#include <string.h>

#include "base/memory.h"
#include "text/jinja/unicode.h"
#include "text/utf8.h"

enum { BRACKETS_MAX = 200 };

struct lexer {
    const char *source;
    size_t len, at;
    uint32_t line;
    bool line_starts; /* what was read last ended a line */
    char brackets[BRACKETS_MAX];
    size_t n_brackets;
    struct token_stream *out;
    size_t cap;
    struct arena *arena;
    struct error *e;
    int status;
};

static int fail(struct lexer *x, const char *words)
{
    if (x->status == 0)
        x->status = error_set(x->e, ERR_INVALID, "line %u: %s", x->line, words);
    return x->status;
}

static void add(struct lexer *x, enum token_kind kind, const char *text, size_t len)
{
    if (x->out->n == x->cap) {
        x->cap = x->cap ? x->cap * 2 : 256;
        x->out->tokens = mem_resize(x->out->tokens, x->cap, sizeof(*x->out->tokens));
    }
    x->out->tokens[x->out->n++] = (struct token){kind, x->line, marked_own(text, len)};
}

static bool stands(const struct lexer *x, size_t at, const char *words)
{
    size_t n = strlen(words);
    return x->len - at >= n && memcmp(x->source + at, words, n) == 0;
}

static void advance(struct lexer *x, size_t to)
{
    for (; x->at < to; x->at++)
        x->line += x->source[x->at] == '\n';
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    size_t n;
    while (at < x->len && unicode_is_space(char_at(x->source + at, x->len - at, &n)))
        at += n;
    return at;
}

/* ---- between tags ---- */

/* Where the text before a tag ends, given what its sign does to it. */
static size_t text_end(const struct lexer *x, size_t from, size_t to, char sign, bool print)
{
    size_t end = to, n;
    if (sign == '+' || (print && sign != '-'))
        return to;
    while (end > from) {
        n = char_before(x->source, end);
        uint32_t c = char_at(x->source + end - n, n, &n);
        if (!unicode_is_space(c) || (sign != '-' && c == '\n'))
            break;
        end -= n;
    }
    if (sign == '-')
        return end;
    bool begins = end > from ? x->source[end - 1] == '\n' : x->line_starts;
    return begins ? end : to;
}

static void add_text(struct lexer *x, size_t end, size_t next)
{
    if (end > x->at)
        add(x, TOKEN_DATA, x->source + x->at, end - x->at);
    advance(x, next);
}

static char sign_at(const struct lexer *x, size_t at)
{
    return at < x->len && (x->source[at] == '-' || x->source[at] == '+') ? x->source[at] : 0;
}

/* The end of a block's or comment's closing at `at` ("%}" or "#}", maybe signed), or 0. */
static size_t closing(const struct lexer *x, size_t at, const char *close)
{
    char sign = sign_at(x, at);
    if (!stands(x, at + (sign != 0), close))
        return 0;
    at += (sign != 0) + strlen(close);
    if (sign == '-')
        return skip_space(x, at);
    return sign == 0 && stands(x, at, "\n") ? at + 1 : at;
}

static void ended(struct lexer *x, size_t to)
{
    advance(x, to);
    x->line_starts = to > 0 && x->source[to - 1] == '\n';
}

static void read_comment(struct lexer *x, size_t from)
{
    for (size_t at = from; at < x->len; at++) {
        size_t end = closing(x, at, "#}");
        if (end > 0) {
            ended(x, end);
            return;
        }
    }
    fail(x, "Missing end of comment tag");
}

/* The end of "{%- raw %}" that begins at `at`, or 0. */
static size_t raw_opening(const struct lexer *x, size_t at)
{
    at += 2;
    at += sign_at(x, at) != 0;
    at = skip_space(x, at);
    if (!stands(x, at, "raw"))
        return 0;
    at = skip_space(x, at + 3);
    if (stands(x, at, "-%}"))
        return skip_space(x, at + 3);
    return stands(x, at, "%}") ? at + 2 : 0;
}

static void read_raw(struct lexer *x, size_t from)
{
    ended(x, from);
    for (size_t at = from; at < x->len; at++) {
        if (!stands(x, at, "{%"))
            continue;
        char sign = sign_at(x, at + 2);
        size_t word = skip_space(x, at + 2 + (sign != 0));
        size_t end = stands(x, word, "endraw") ? closing(x, skip_space(x, word + 6), "%}") : 0;
        if (end == 0)
            continue;
        add_text(x, text_end(x, x->at, at, sign, false), at);
        ended(x, end);
        return;
    }
    fail(x, "Missing end of raw directive");
}

/* ---- words ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name(char c)
{
    return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

/* Digits with single underscores between them. */
static size_t digits_end(const struct lexer *x, size_t at)
{
    while (at < x->len && (is_digit(x->source[at]) ||
                           (x->source[at] == '_' && at + 1 < x->len && is_digit(x->source[at + 1]))))
        at++;
    return at;
}

static size_t exponent_end(const struct lexer *x, size_t at)
{
    if (at >= x->len || (x->source[at] != 'e' && x->source[at] != 'E'))
        return 0;
    at++;
    at += sign_at(x, at) != 0;
    return at < x->len && is_digit(x->source[at]) ? digits_end(x, at) : 0;
}

/* The end of a float at `at`, or 0. "a.1.2" has none: a member of a member. */
static size_t float_end(const struct lexer *x, size_t at)
{
    if (at > 0 && x->source[at - 1] == '.')
        return 0;
    size_t whole = digits_end(x, at), end = whole;
    if (end + 1 < x->len && x->source[end] == '.' && is_digit(x->source[end + 1]))
        end = digits_end(x, end + 1);
    size_t exponent = exponent_end(x, end);
    return exponent ? exponent : end > whole ? end : 0;
}

static size_t int_end(const struct lexer *x, size_t at)
{
    char kind = at + 1 < x->len ? (char)(x->source[at + 1] | 0x20) : 0;
    if (x->source[at] == '0' && (kind == 'x' || kind == 'o' || kind == 'b')) {
        const char *set = kind == 'x' ? "0123456789abcdefABCDEF_" : kind == 'o' ? "01234567_" : "01_";
        size_t n = strspn(x->source + at + 2, set);
        if (n > 0)
            return at + 2 + n;
    }
    if (x->source[at] != '0')
        return digits_end(x, at);
    size_t n = 1;
    while (at + n < x->len && (x->source[at + n] == '0' || (stands(x, at + n, "_0"))))
        n++;
    return at + n;
}

static uint32_t hex_value(const char *s, size_t n)
{
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++) {
        char c = (char)(s[i] | 0x20);
        if (!is_digit(s[i]) && !(c >= 'a' && c <= 'f'))
            return UINT32_MAX;
        v = v * 16 + (uint32_t)(is_digit(s[i]) ? s[i] - '0' : c - 'a' + 10);
    }
    return v;
}

static size_t put_char(struct lexer *x, char *out, uint32_t c)
{
    char bytes[4];
    if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) {
        fail(x, "an escape in a string names no character");
        return 0;
    }
    size_t n = utf8_write(c, bytes);
    memcpy(out, bytes, n);
    return n;
}

/* What "\xHH" and its like stand for; *used is the length after the backslash. */
static size_t unescape_code(struct lexer *x, char *out, const char *s, size_t left, size_t *used)
{
    size_t digits = *s == 'x' ? 2 : *s == 'u' ? 4 : 8;
    if (left < digits + 1) {
        fail(x, "an escape in a string is cut short");
        return 0;
    }
    *used = digits + 1;
    return put_char(x, out, hex_value(s + 1, digits));
}

/* As Python's strings; s is after the backslash. No escape is shorter than what it stands for. */
static size_t unescape(struct lexer *x, char *out, const char *s, size_t left, size_t *used)
{
    static const char from[] = "ntr\\'\"abfv", to[] = "\n\t\r\\'\"\a\b\f\v";
    const char *simple = *s ? strchr(from, *s) : NULL;
    *used = 1;
    if (simple) {
        *out = to[simple - from];
        return 1;
    }
    if (*s == '\n')
        return 0;
    if (*s == 'x' || *s == 'u' || *s == 'U')
        return unescape_code(x, out, s, left, used);
    if (*s >= '0' && *s <= '7') {
        uint32_t v = 0;
        size_t n = 0;
        for (; n < 3 && n < left && s[n] >= '0' && s[n] <= '7'; n++)
            v = v * 8 + (uint32_t)(s[n] - '0');
        *used = n;
        return put_char(x, out, v);
    }
    out[0] = '\\';
    out[1] = *s;
    return 2;
}

static void read_string(struct lexer *x)
{
    char quote = x->source[x->at];
    size_t from = x->at + 1, end = from, n = 0;
    bool plain = true;
    while (end < x->len && x->source[end] != quote) {
        bool escape = x->source[end] == '\\';
        plain = plain && !escape;
        end += 1 + (escape && end + 1 < x->len);
    }
    if (end >= x->len) {
        fail(x, "a string is not closed");
        return;
    }
    if (plain) {
        add(x, TOKEN_STRING, x->source + from, end - from);
        advance(x, end + 1);
        return;
    }
    char *text = arena_alloc(x->arena, end - from + 1);
    for (size_t at = from, used; text && at < end && x->status == 0; at += used) {
        used = 1;
        if (x->source[at] != '\\') {
            text[n++] = x->source[at];
            continue;
        }
        n += unescape(x, text + n, x->source + at + 1, end - at - 1, &used);
        used++;
    }
    if (!text)
        fail(x, "the template is too large");
    add(x, TOKEN_STRING, text ? text : "", n);
    advance(x, end + 1);
}

static void read_number(struct lexer *x)
{
    size_t end = float_end(x, x->at);
    enum token_kind kind = end > 0 ? TOKEN_FLOAT : TOKEN_INT;
    if (end == 0)
        end = int_end(x, x->at);
    add(x, kind, x->source + x->at, end - x->at);
    advance(x, end);
}

static void read_operator(struct lexer *x)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "[", "]",
                                            "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"};
    for (size_t i = 0; i < COUNTOF(operators); i++) {
        if (!stands(x, x->at, operators[i]))
            continue;
        char c = operators[i][0];
        const char *pair = strchr("()[]{}", c);
        if (pair && strchr("([{", c)) {
            if (x->n_brackets == BRACKETS_MAX)
                fail(x, "brackets nest too deeply");
            else
                x->brackets[x->n_brackets++] = pair[1];
        } else if (pair && (x->n_brackets == 0 || x->brackets[--x->n_brackets] != c)) {
            fail(x, "a closing bracket does not fit the opening one");
        }
        add(x, TOKEN_OPERATOR, x->source + x->at, strlen(operators[i]));
        advance(x, x->at + strlen(operators[i]));
        return;
    }
    fail(x, "an unexpected character in a tag");
}

static void read_word(struct lexer *x)
{
    char c = x->source[x->at];
    size_t end = x->at, n;
    if (unicode_is_space(char_at(x->source + x->at, x->len - x->at, &n))) {
        advance(x, skip_space(x, x->at));
    } else if (is_digit(c)) {
        read_number(x);
    } else if (is_name(c)) {
        while (end < x->len && is_name(x->source[end]))
            end++;
        add(x, TOKEN_NAME, x->source + x->at, end - x->at);
        advance(x, end);
    } else if (c == '\'' || c == '"') {
        read_string(x);
    } else {
        read_operator(x);
    }
}

/* The end of the tag's closing at the present place, or 0. */
static size_t tag_end(const struct lexer *x, bool print)
{
    if (x->n_brackets > 0)
        return 0;
    if (!print)
        return closing(x, x->at, "%}");
    if (stands(x, x->at, "-}}"))
        return skip_space(x, x->at + 3);
    return stands(x, x->at, "}}") ? x->at + 2 : 0;
}

static void read_tag(struct lexer *x, size_t from, bool print)
{
    add(x, print ? TOKEN_PRINT : TOKEN_BLOCK, "", 0);
    advance(x, from);
    x->n_brackets = 0;
    while (x->status == 0) {
        size_t end = tag_end(x, print);
        if (end > 0) {
            add(x, print ? TOKEN_PRINT_END : TOKEN_BLOCK_END, "", 0);
            ended(x, end);
            return;
        }
        if (x->at >= x->len)
            fail(x, "a tag is not closed");
        else
            read_word(x);
    }
}

/* ---- all of it ---- */

static void read_next(struct lexer *x)
{
    size_t at = x->at;
    while (at < x->len && !stands(x, at, "{{") && !stands(x, at, "{%") && !stands(x, at, "{#"))
        at++;
    if (at >= x->len) {
        add_text(x, x->len, x->len);
        return;
    }
    char kind = x->source[at + 1], sign = sign_at(x, at + 2);
    size_t raw = kind == '%' ? raw_opening(x, at) : 0;
    add_text(x, text_end(x, x->at, at, sign, kind == '{'), at);
    if (raw > 0)
        read_raw(x, raw);
    else if (kind == '#')
        read_comment(x, at + 2 + (sign != 0));
    else
        read_tag(x, at + 2 + (sign != 0), kind == '{');
}

int lexer_read(struct token_stream *out, const char *source, size_t len, struct arena *arena, struct error *e)
{
    struct lexer x = {.source = source, .len = len, .line = 1, .line_starts = true, .out = out, .arena = arena, .e = e};
    *out = (struct token_stream){0};
    while (x.at < x.len && x.status == 0)
        read_next(&x);
    add(&x, TOKEN_END, "", 0);
    if (x.status != 0) {
        mem_free(out->tokens);
        *out = (struct token_stream){0};
    }
    return x.status;
}
