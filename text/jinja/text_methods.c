/* text_methods: the methods of str, a row each. */
#include <string.h>

#include "text/jinja/texts.h"

/* ---- strip and case ---- */

static struct value method_strip(struct render *r, const struct call *c)
{
    struct marked set;
    bool given = value_is_given(c->slot[0]) && c->slot[0].kind != VALUE_NONE;
    if (given && !arg_text(r, c->slot[0], &set))
        return UNDEFINED;
    return value_text(r, text_strip(r, c->self.text, given ? &set : NULL, c->row->mode));
}

static struct value method_case(struct render *r, const struct call *c)
{
    return value_text(r, text_case(r, c->self.text, (enum letter_case)c->row->mode));
}

static struct value method_capitalize(struct render *r, const struct call *c)
{
    return value_text(r, text_capital(r, c->self.text, CASE_TITLE));
}

static struct value method_swapcase(struct render *r, const struct call *c)
{
    const struct marked *t = c->self.text;
    struct writer w;
    writer_init(&w, r);
    for (size_t at = 0, n; at < t->len && !r->failed; at += n) {
        struct marked one = marked_part(t, at, at + char_len(t->bytes + at, t->len - at));
        bool upper = unicode_is_upper(char_at(one.bytes, one.len, &n));
        struct marked other = text_case(r, &one, upper ? CASE_LOWER : CASE_UPPER);
        writer_text(&w, &other);
    }
    return value_text(r, writer_done(&w));
}

/* ---- split ---- */

enum { FROM_LEFT, FROM_RIGHT };

static void reverse(struct list *l)
{
    for (size_t i = 0; i < l->n / 2; i++) {
        struct value swap = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = swap;
    }
}

static size_t next_space(const struct marked *t, size_t at, bool space)
{
    size_t n;
    while (at < t->len && unicode_is_space(char_at(t->bytes + at, t->len - at, &n)) != space)
        at += n;
    return at;
}

static void split_words(struct render *r, struct list *l, const struct marked *t, int64_t most)
{
    size_t cap = 0;
    render_spend(r, t->len);
    for (size_t at = next_space(t, 0, false); at < t->len && !r->failed;) {
        size_t end = most == 0 ? t->len : next_space(t, at, true);
        list_push(r, l, &cap, value_text(r, marked_part(t, at, end)));
        most -= most > 0;
        at = next_space(t, end, false);
    }
}

static void rsplit_words(struct render *r, struct list *l, const struct marked *t, int64_t most)
{
    size_t cap = 0, n;
    struct marked rest = text_strip(r, t, NULL, SIDE_RIGHT);
    render_spend(r, t->len);
    while (rest.len > 0 && !r->failed) {
        size_t from = rest.len;
        while (from > 0) {
            size_t back = char_before(rest.bytes, from);
            if (unicode_is_space(char_at(rest.bytes + from - back, back, &n)))
                break;
            from -= back;
        }
        from = most == 0 ? 0 : from;
        list_push(r, l, &cap, value_text(r, marked_part(&rest, from, rest.len)));
        most -= most > 0;
        rest = marked_part(&rest, 0, from);
        rest = text_strip(r, &rest, NULL, SIDE_RIGHT);
    }
    reverse(l);
}

static void split_at(struct render *r, struct list *l, const struct marked *t, const struct marked *what, int64_t most)
{
    size_t cap = 0, from = 0;
    for (const char *at; most != 0 && !r->failed; most -= most > 0) {
        at = memmem(t->bytes + from, t->len - from, what->bytes, what->len);
        if (!at)
            break;
        list_push(r, l, &cap, value_text(r, marked_part(t, from, (size_t)(at - t->bytes))));
        from = (size_t)(at - t->bytes) + what->len;
    }
    render_spend(r, t->len);
    list_push(r, l, &cap, value_text(r, marked_part(t, from, t->len)));
}

static void rsplit_at(struct render *r, struct list *l, const struct marked *t, const struct marked *what, int64_t most)
{
    size_t cap = 0, to = t->len;
    for (; most != 0 && !r->failed; most -= most > 0) {
        size_t at = marked_find_last(r, t, to, what);
        if (at == SIZE_MAX)
            break;
        list_push(r, l, &cap, value_text(r, marked_part(t, at + what->len, to)));
        to = at;
    }
    list_push(r, l, &cap, value_text(r, marked_part(t, 0, to)));
    reverse(l);
}

static struct value method_split(struct render *r, const struct call *c)
{
    const struct marked *t = c->self.text;
    struct marked what;
    int64_t most;
    struct list *l = list_new(r, LIST_LIST, 0);
    bool right = c->row->mode == FROM_RIGHT, words = !value_is_given(c->slot[0]) || c->slot[0].kind == VALUE_NONE;
    if (!l || !arg_int(r, c->slot[1], -1, &most) || (!words && !arg_text(r, c->slot[0], &what)))
        return UNDEFINED;
    if (!words && what.len == 0)
        return render_fail(r, ERR_INVALID, "empty separator");
    if (words && right)
        rsplit_words(r, l, t, most);
    else if (words)
        split_words(r, l, t, most);
    else if (right)
        rsplit_at(r, l, t, &what, most);
    else
        split_at(r, l, t, &what, most);
    return value_list(l);
}

static struct value method_splitlines(struct render *r, const struct call *c)
{
    struct list *l = text_lines(r, c->self.text, arg_flag(r, c->slot[0], false));
    return l ? value_list(l) : UNDEFINED;
}

static struct value method_partition(struct render *r, const struct call *c)
{
    const struct marked *t = c->self.text;
    struct marked what;
    struct list *l = list_new(r, LIST_TUPLE, 3);
    bool right = c->row->mode == FROM_RIGHT;
    if (!l || !arg_text(r, c->slot[0], &what))
        return UNDEFINED;
    if (what.len == 0)
        return render_fail(r, ERR_INVALID, "empty separator");
    size_t at = right ? marked_find_last(r, t, t->len, &what) : marked_find(r, t, 0, &what);
    bool found = at != SIZE_MAX;
    size_t from = found ? at : right ? 0 : t->len, to = found ? at + what.len : from;
    l->items[0] = value_text(r, marked_part(t, 0, from));
    l->items[1] = value_text(r, marked_part(t, from, to));
    l->items[2] = value_text(r, marked_part(t, to, t->len));
    return value_list(l);
}

/* ---- find ---- */

/* The part of self that start and end, characters, name; *from is the byte where it begins. */
static bool window(struct render *r, const struct call *c, struct marked *out, size_t *from)
{
    const struct marked *t = c->self.text;
    int64_t n = 0, start, end;
    if (!value_is_given(c->slot[1])) {
        *out = *t;
        *from = 0;
        return true;
    }
    n = (int64_t)marked_count(r, t);
    struct value s = c->slot[1].kind == VALUE_NONE ? ABSENT : c->slot[1];
    struct value e = c->slot[2].kind == VALUE_NONE ? ABSENT : c->slot[2];
    if (!arg_int(r, s, 0, &start) || !arg_int(r, e, n, &end))
        return false;
    start = start < 0 ? (start + n < 0 ? 0 : start + n) : start;
    end = end < 0 ? (end + n < 0 ? 0 : end + n) : end > n ? n : end;
    if (start > end)
        return false;
    *from = marked_at(r, t, (size_t)start);
    *out = marked_part(t, *from, marked_at(r, t, (size_t)end));
    return true;
}

enum { ASK_FIND, ASK_INDEX, ASK_RFIND, ASK_RINDEX, ASK_COUNT };

static int64_t count_of(struct render *r, const struct marked *t, const struct marked *what)
{
    int64_t n = 0;
    if (what->len == 0)
        return (int64_t)marked_count(r, t) + 1;
    render_spend(r, t->len);
    for (size_t at = 0; at < t->len; n++) {
        const char *found = memmem(t->bytes + at, t->len - at, what->bytes, what->len);
        if (!found)
            break;
        at = (size_t)(found - t->bytes) + what->len;
    }
    return n;
}

static struct value method_find(struct render *r, const struct call *c)
{
    struct marked what, in;
    size_t from = 0, at = SIZE_MAX;
    int mode = c->row->mode;
    if (!arg_text(r, c->slot[0], &what))
        return UNDEFINED;
    bool there = window(r, c, &in, &from);
    if (mode == ASK_COUNT)
        return value_int(there ? count_of(r, &in, &what) : 0);
    if (there)
        at = mode == ASK_FIND || mode == ASK_INDEX ? marked_find(r, &in, 0, &what)
                                                   : marked_find_last(r, &in, in.len, &what);
    if (at == SIZE_MAX) {
        if (mode == ASK_INDEX || mode == ASK_RINDEX)
            return render_fail(r, ERR_INVALID, "substring not found");
        return value_int(-1);
    }
    struct marked before = marked_part(c->self.text, 0, from + at);
    return value_int((int64_t)marked_count(r, &before));
}

static bool has_end(struct render *r, const struct marked *t, const struct marked *what, bool at_end)
{
    render_spend(r, what->len);
    if (what->len > t->len)
        return false;
    return memcmp(t->bytes + (at_end ? t->len - what->len : 0), what->bytes, what->len) == 0;
}

static struct value method_starts(struct render *r, const struct call *c)
{
    struct marked what, in;
    size_t from;
    bool end = c->row->mode == FROM_RIGHT;
    const struct list *any = c->slot[0].kind == VALUE_LIST && c->slot[0].list->kind == LIST_TUPLE ? c->slot[0].list
                                                                                                  : NULL;
    if (!any && !arg_text(r, c->slot[0], &what))
        return UNDEFINED;
    if (!window(r, c, &in, &from))
        return value_bool(false);
    if (!any)
        return value_bool(has_end(r, &in, &what, end));
    for (size_t i = 0; i < any->n && !r->failed; i++)
        if (arg_text(r, any->items[i], &what) && has_end(r, &in, &what, end))
            return value_bool(true);
    return value_bool(false);
}

static struct value method_remove(struct render *r, const struct call *c)
{
    const struct marked *t = c->self.text;
    struct marked what;
    bool end = c->row->mode == FROM_RIGHT;
    if (!arg_text(r, c->slot[0], &what))
        return UNDEFINED;
    if (!has_end(r, t, &what, end))
        return c->self;
    return value_text(r, end ? marked_part(t, 0, t->len - what.len) : marked_part(t, what.len, t->len));
}

/* ---- making ---- */

static struct value method_replace(struct render *r, const struct call *c)
{
    struct marked what, with;
    int64_t n;
    if (!arg_text(r, c->slot[0], &what) || !arg_text(r, c->slot[1], &with) || !arg_int(r, c->slot[2], -1, &n))
        return UNDEFINED;
    return value_text(r, text_replace(r, c->self.text, &what, &with, n));
}

static struct value method_join(struct render *r, const struct call *c)
{
    const struct list *items = value_iterate(r, c->slot[0]);
    return items ? value_text(r, text_join(r, c->self.text, items, true)) : UNDEFINED;
}

static struct value method_justify(struct render *r, const struct call *c)
{
    struct marked fill = marked_own(" ", 1);
    int64_t width;
    if (!arg_int(r, c->slot[0], 0, &width) || (value_is_given(c->slot[1]) && !arg_text(r, c->slot[1], &fill)))
        return UNDEFINED;
    if (marked_count(r, &fill) != 1)
        return render_fail(r, ERR_INVALID, "The fill character must be exactly one character long");
    return value_text(r, text_center(r, c->self.text, width, &fill, c->row->mode));
}

static struct value method_zfill(struct render *r, const struct call *c)
{
    const struct marked *t = c->self.text;
    struct marked fill = marked_own("0", 1), sign;
    int64_t width;
    if (!arg_int(r, c->slot[0], 0, &width))
        return UNDEFINED;
    bool has_sign = t->len > 0 && (t->bytes[0] == '-' || t->bytes[0] == '+');
    sign = marked_part(t, 0, has_sign);
    struct marked rest = marked_part(t, has_sign, t->len);
    rest = text_center(r, &rest, width > has_sign ? width - has_sign : 0, &fill, SIDE_LEFT);
    return value_text(r, marked_join(r, &sign, &rest));
}

static struct value method_expandtabs(struct render *r, const struct call *c)
{
    const struct marked *t = c->self.text;
    struct writer w;
    int64_t size, column = 0;
    if (!arg_int(r, c->slot[0], 8, &size))
        return UNDEFINED;
    writer_init(&w, r);
    for (size_t at = 0, n; at < t->len && !r->failed; at += n) {
        uint32_t ch = char_at(t->bytes + at, t->len - at, &n);
        if (ch == '\t') {
            for (int64_t pad = size > 0 ? size - column % size : 0; pad > 0 && !r->failed; pad--, column++)
                writer_add(&w, " ", 1, marked_is_foreign(t, at));
            continue;
        }
        writer_part(&w, t, at, at + n);
        column = ch == '\n' || ch == '\r' ? 0 : column + 1;
    }
    return value_text(r, writer_done(&w));
}

static struct value method_format(struct render *r, const struct call *c)
{
    return format_braces(r, c->self.text, c->args);
}

/* ---- what it is ---- */

enum { IS_ALPHA, IS_ALNUM, IS_DECIMAL, IS_DIGIT, IS_NUMERIC, IS_SPACE, IS_PRINTABLE, IS_ASCII, IS_NAME };

static bool char_is(uint32_t ch, int mode, bool first)
{
    switch (mode) {
    case IS_ALPHA:
        return unicode_is_alpha(ch);
    case IS_ALNUM:
        return unicode_is_alpha(ch) || unicode_is_number(ch);
    case IS_DECIMAL:
        return unicode_is_decimal(ch);
    case IS_DIGIT:
        return unicode_is_decimal(ch) || ch == 0xB2 || ch == 0xB3 || ch == 0xB9 || ch == 0x2070 ||
               (ch >= 0x2074 && ch <= 0x2079) || (ch >= 0x2080 && ch <= 0x2089) || (ch >= 0x2460 && ch <= 0x2468);
    case IS_NUMERIC:
        return unicode_is_number(ch);
    case IS_SPACE:
        return unicode_is_space(ch);
    case IS_PRINTABLE:
        return unicode_is_printable(ch);
    case IS_ASCII:
        return ch < 0x80;
    default:
        return ch == '_' || unicode_is_alpha(ch) || (!first && unicode_is_decimal(ch));
    }
}

static struct value method_is(struct render *r, const struct call *c)
{
    const struct marked *t = c->self.text;
    int mode = c->row->mode;
    render_spend(r, t->len);
    for (size_t at = 0, n; at < t->len; at += n) {
        uint32_t ch = char_at(t->bytes + at, t->len - at, &n);
        if (!char_is(ch, mode, at == 0))
            return value_bool(false);
    }
    return value_bool(t->len > 0 || mode == IS_ASCII || mode == IS_PRINTABLE);
}

/* Cased characters there are, and all of them are of this case. */
static struct value method_is_case(struct render *r, const struct call *c)
{
    const struct marked *t = c->self.text;
    bool any = false;
    render_spend(r, t->len);
    for (size_t at = 0, n; at < t->len; at += n) {
        uint32_t ch = char_at(t->bytes + at, t->len - at, &n);
        bool upper = unicode_is_upper(ch), lower = unicode_is_lower(ch);
        if (unicode_is_title(ch) || (c->row->mode == CASE_UPPER ? lower : upper))
            return value_bool(false);
        any = any || upper || lower;
    }
    return value_bool(any);
}

static struct value method_is_title(struct render *r, const struct call *c)
{
    const struct marked *t = c->self.text;
    bool any = false, inside = false;
    render_spend(r, t->len);
    for (size_t at = 0, n; at < t->len; at += n) {
        uint32_t ch = char_at(t->bytes + at, t->len - at, &n);
        bool upper = unicode_is_upper(ch) || unicode_is_title(ch), lower = unicode_is_lower(ch);
        if ((upper && inside) || (lower && !inside))
            return value_bool(false);
        inside = upper || lower;
        any = any || inside;
    }
    return value_bool(any);
}

static const struct builtin methods[] = {
    {"strip", "chars", 0, method_strip, SIDE_BOTH},
    {"lstrip", "chars", 0, method_strip, SIDE_LEFT},
    {"rstrip", "chars", 0, method_strip, SIDE_RIGHT},
    {"upper", "", 0, method_case, CASE_UPPER},
    {"lower", "", 0, method_case, CASE_LOWER},
    {"casefold", "", 0, method_case, CASE_LOWER},
    {"title", "", 0, method_case, CASE_TITLE},
    {"capitalize", "", 0, method_capitalize, 0},
    {"swapcase", "", 0, method_swapcase, 0},
    {"split", "sep maxsplit", 0, method_split, FROM_LEFT},
    {"rsplit", "sep maxsplit", 0, method_split, FROM_RIGHT},
    {"splitlines", "keepends", 0, method_splitlines, 0},
    {"partition", "sep", 1, method_partition, FROM_LEFT},
    {"rpartition", "sep", 1, method_partition, FROM_RIGHT},
    {"find", "sub start end", 1, method_find, ASK_FIND},
    {"rfind", "sub start end", 1, method_find, ASK_RFIND},
    {"index", "sub start end", 1, method_find, ASK_INDEX},
    {"rindex", "sub start end", 1, method_find, ASK_RINDEX},
    {"count", "sub start end", 1, method_find, ASK_COUNT},
    {"startswith", "prefix start end", 1, method_starts, FROM_LEFT},
    {"endswith", "suffix start end", 1, method_starts, FROM_RIGHT},
    {"removeprefix", "prefix", 1, method_remove, FROM_LEFT},
    {"removesuffix", "suffix", 1, method_remove, FROM_RIGHT},
    {"replace", "old new count", 2, method_replace, 0},
    {"join", "iterable", 1, method_join, 0},
    {"center", "width fillchar", 1, method_justify, SIDE_BOTH},
    {"ljust", "width fillchar", 1, method_justify, SIDE_RIGHT},
    {"rjust", "width fillchar", 1, method_justify, SIDE_LEFT},
    {"zfill", "width", 1, method_zfill, 0},
    {"expandtabs", "tabsize", 0, method_expandtabs, 0},
    {"format", NULL, 0, method_format, 0},
    {"isalpha", "", 0, method_is, IS_ALPHA},
    {"isalnum", "", 0, method_is, IS_ALNUM},
    {"isdecimal", "", 0, method_is, IS_DECIMAL},
    {"isdigit", "", 0, method_is, IS_DIGIT},
    {"isnumeric", "", 0, method_is, IS_NUMERIC},
    {"isspace", "", 0, method_is, IS_SPACE},
    {"isprintable", "", 0, method_is, IS_PRINTABLE},
    {"isascii", "", 0, method_is, IS_ASCII},
    {"isidentifier", "", 0, method_is, IS_NAME},
    {"isupper", "", 0, method_is_case, CASE_UPPER},
    {"islower", "", 0, method_is_case, CASE_LOWER},
    {"istitle", "", 0, method_is_title, 0},
};

const struct builtin *builtin_find(const struct builtin *rows, size_t n, const char *name, size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
            return &rows[i];
    return NULL;
}

const struct builtin *text_method_find(const char *name, size_t len)
{
    return builtin_find(methods, COUNTOF(methods), name, len);
}
