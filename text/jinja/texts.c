/* texts: every function makes its result of parts of what it is given, so that the marks come along. */
#include "text/jinja/texts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool in_set(const struct marked *set, const char *c, size_t len)
{
    for (size_t at = 0; at < set->len;) {
        size_t n = char_len(set->bytes + at, set->len - at);
        if (n == len && memcmp(set->bytes + at, c, n) == 0)
            return true;
        at += n;
    }
    return false;
}

static bool strips(struct render *r, const struct marked *t, size_t at, size_t len, const struct marked *set)
{
    size_t n;
    if (!set)
        return unicode_is_space(char_at(t->bytes + at, len, &n));
    render_spend(r, set->len);
    return !r->failed && in_set(set, t->bytes + at, len);
}

struct marked text_strip(struct render *r, const struct marked *t, const struct marked *set, int sides)
{
    size_t from = 0, to = t->len;
    while ((sides & SIDE_LEFT) && from < to) {
        size_t n = char_len(t->bytes + from, to - from);
        if (!strips(r, t, from, n, set))
            break;
        from += n;
    }
    while ((sides & SIDE_RIGHT) && to > from) {
        size_t n = char_before(t->bytes, to);
        if (n > to - from || !strips(r, t, to - n, n, set))
            break;
        to -= n;
    }
    render_spend(r, t->len - (to - from));
    return marked_part(t, from, to);
}

/* ---- case ---- */

/* A capital sigma is written differently at the end of a word. */
static bool is_final_sigma(const struct marked *t, size_t at, size_t len)
{
    size_t n;
    bool before = at > 0, after = at + len < t->len;
    if (before) {
        size_t back = char_before(t->bytes, at);
        before = unicode_is_cased(char_at(t->bytes + at - back, back, &n));
    }
    if (after)
        after = unicode_is_cased(char_at(t->bytes + at + len, t->len - at - len, &n));
    return before && !after;
}

static size_t write_cased(struct writer *w, const struct marked *t, size_t at, enum letter_case to)
{
    uint32_t out[CASE_CHARS_MAX];
    size_t len;
    uint32_t c = char_at(t->bytes + at, t->len - at, &len);
    bool foreign = marked_is_foreign(t, at);
    if (c == 0x3A3 && to == CASE_LOWER && is_final_sigma(t, at, len)) {
        writer_char(w, 0x3C2, foreign);
        return len;
    }
    size_t n = unicode_case(out, c, to);
    for (size_t i = 0; i < n; i++)
        writer_char(w, out[i], foreign);
    return len;
}

struct marked text_case(struct render *r, const struct marked *t, enum letter_case to)
{
    struct writer w;
    writer_init(&w, r);
    if (to == CASE_TITLE) {
        bool inside = false;
        for (size_t at = 0, n; at < t->len && !r->failed; at += n) {
            bool cased = unicode_is_cased(char_at(t->bytes + at, t->len - at, &n));
            (void)write_cased(&w, t, at, inside ? CASE_LOWER : CASE_TITLE);
            inside = cased;
        }
    } else {
        for (size_t at = 0; at < t->len && !r->failed;)
            at += write_cased(&w, t, at, to);
    }
    struct marked out = writer_done(&w);
    out.safe = t->safe;
    return out;
}

struct marked text_capital(struct render *r, const struct marked *t, enum letter_case first)
{
    struct writer w;
    writer_init(&w, r);
    for (size_t at = 0; at < t->len && !r->failed;)
        at += write_cased(&w, t, at, at == 0 ? first : CASE_LOWER);
    struct marked out = writer_done(&w);
    out.safe = t->safe;
    return out;
}

/* ---- parts ---- */

static struct marked replace_between(struct render *r, const struct marked *t, const struct marked *with, int64_t n)
{
    struct writer w;
    writer_init(&w, r);
    for (size_t at = 0; at <= t->len && !r->failed;) {
        if (n != 0) {
            writer_text(&w, with);
            n -= n > 0;
        }
        size_t len = at < t->len ? char_len(t->bytes + at, t->len - at) : 1;
        if (at < t->len)
            writer_part(&w, t, at, at + len);
        at += len;
    }
    return writer_done(&w);
}

struct marked text_replace(struct render *r, const struct marked *t, const struct marked *what,
                           const struct marked *with, int64_t n)
{
    struct writer w;
    size_t from = 0, at;
    if (what->len == 0)
        return replace_between(r, t, with, n);
    if (n == 0 || marked_find(r, t, 0, what) == SIZE_MAX)
        return *t;
    writer_init(&w, r);
    while (n != 0 && !r->failed) {
        const char *found = memmem(t->bytes + from, t->len - from, what->bytes, what->len);
        if (!found)
            break;
        at = (size_t)(found - t->bytes);
        writer_part(&w, t, from, at);
        writer_text(&w, with);
        from = at + what->len;
        n -= n > 0;
        render_spend(r, 0);
    }
    writer_part(&w, t, from, t->len);
    struct marked out = writer_done(&w);
    out.safe = t->safe;
    return out;
}

struct marked text_join(struct render *r, const struct marked *between, const struct list *items, bool strict)
{
    struct writer w;
    writer_init(&w, r);
    for (size_t i = 0; i < items->n && !r->failed; i++) {
        if (i > 0)
            writer_text(&w, between);
        if (strict && items->items[i].kind != VALUE_TEXT)
            render_fail(r, ERR_INVALID, "sequence item %zu: expected str instance, %s found", i,
                        value_type(items->items[i]));
        else
            python_write(&w, items->items[i]);
        render_spend(r, 0);
    }
    return writer_done(&w);
}

struct list *text_lines(struct render *r, const struct marked *t, bool keep_ends)
{
    struct list *l = list_new(r, LIST_LIST, 0);
    size_t cap = 0, from = 0;
    render_spend(r, t->len);
    for (size_t at = 0, n; l && at < t->len && !r->failed; at += n) {
        uint32_t c = char_at(t->bytes + at, t->len - at, &n);
        if (!unicode_is_break(c))
            continue;
        if (c == '\r' && at + 1 < t->len && t->bytes[at + 1] == '\n')
            n = 2;
        list_push(r, l, &cap, value_text(r, marked_part(t, from, keep_ends ? at + n : at)));
        from = at + n;
    }
    if (l && from < t->len)
        list_push(r, l, &cap, value_text(r, marked_part(t, from, t->len)));
    return r->failed ? NULL : l;
}

struct marked text_center(struct render *r, const struct marked *t, int64_t width, const struct marked *fill,
                          int sides)
{
    struct writer w;
    int64_t count = (int64_t)marked_count(r, t);
    if (width <= count)
        return *t;
    int64_t pad = width - count;
    int64_t left = sides == SIDE_BOTH ? pad / 2 + (pad & width & 1) : sides == SIDE_LEFT ? pad : 0;
    writer_init(&w, r);
    for (int64_t i = 0; i < left && !r->failed; i++)
        writer_text(&w, fill);
    writer_text(&w, t);
    for (int64_t i = left; i < pad && !r->failed; i++)
        writer_text(&w, fill);
    return writer_done(&w);
}

/* ---- numbers ---- */

static size_t skip_space(const char *s, size_t n)
{
    size_t at = 0, len;
    while (at < n && unicode_is_space(char_at(s + at, n - at, &len)))
        at += len;
    return at;
}

/* The text without white space around it and single underscores between digits, NUL-terminated. */
static bool clean(char *out, size_t size, const struct marked *t)
{
    size_t from = skip_space(t->bytes, t->len), to = t->len, n = 0;
    while (to > from && unicode_is_space((unsigned char)t->bytes[to - 1]))
        to--;
    for (size_t i = from; i < to; i++) {
        char c = t->bytes[i];
        bool between = c == '_' && i > from && i + 1 < to && t->bytes[i - 1] != '_' && t->bytes[i + 1] != '_';
        if (between)
            continue;
        if (c == '_' || (unsigned char)c >= 0x80 || c == 0 || n + 1 >= size)
            return false;
        out[n++] = c;
    }
    out[n] = 0;
    return n > 0;
}

bool text_to_int(const struct marked *t, int64_t base, int64_t *out)
{
    char text[80], *end;
    if (!clean(text, sizeof(text), t) || base < 0 || base == 1 || base > 36)
        return false;
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    bool prefix = digits[0] == '0' && digits[1] && strchr("xXoObB", digits[1]);
    if (unicode_is_space((unsigned char)digits[0]) || digits[0] == '-' || digits[0] == '+')
        return false;
    if (prefix) {
        int64_t own = strchr("xX", digits[1]) ? 16 : strchr("oO", digits[1]) ? 8 : 2;
        bool letter = base > 10 && own == 2;
        if (base != 0 && base != own && !letter)
            return false;
        if (!letter) {
            base = own;
            memmove(text + (digits - text), digits + 2, strlen(digits + 2) + 1);
        }
    }
    unsigned char first = (unsigned char)*(text + (digits - text));
    if (first == '-' || first == '+' || unicode_is_space(first) || first == 0)
        return false;
    _Static_assert(sizeof(long) == sizeof(int64_t), "strtol reads 64 bits");
    errno = 0;
    *out = strtol(text, &end, base == 0 ? 10 : (int)base);
    return *end == 0 && errno == 0;
}

bool text_to_float(const struct marked *t, double *out)
{
    char text[400], *end;
    if (!clean(text, sizeof(text), t) || strpbrk(text, "xXpP(") || unicode_is_space((unsigned char)text[0]))
        return false;
    *out = strtod(text, &end);
    return *end == 0;
}
