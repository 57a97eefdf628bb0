/* text_filters: filters that take and give text. What is no text is made one, as str() would. */
#include <stdio.h>
#include <string.h>

#include "text/jinja/filters.h"
#include "text/jinja/texts.h"

static struct value filter_trim(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self), set;
    bool given = value_is_given(c->slot[0]) && c->slot[0].kind != VALUE_NONE;
    if (given && !arg_text(r, c->slot[0], &set))
        return UNDEFINED;
    return value_text(r, text_strip(r, &t, given ? &set : NULL, SIDE_BOTH));
}

static struct value filter_case(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self);
    return value_text(r, text_case(r, &t, (enum letter_case)c->row->mode));
}

static struct value filter_capitalize(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self);
    return value_text(r, text_capital(r, &t, CASE_TITLE));
}

static bool begins_word(uint32_t c)
{
    return unicode_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

static struct value filter_title(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self);
    struct writer w;
    writer_init(&w, r);
    for (size_t at = 0, end, n; at < t.len && !r->failed; at = end) {
        bool gap = begins_word(char_at(t.bytes + at, t.len - at, &n));
        for (end = at; end < t.len && begins_word(char_at(t.bytes + end, t.len - end, &n)) == gap;)
            end += n;
        struct marked part = marked_part(&t, at, end), cased = gap ? part : text_capital(r, &part, CASE_UPPER);
        writer_text(&w, &cased);
    }
    return value_text(r, writer_done(&w));
}

static struct value filter_replace(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self), what = python_str(r, c->slot[0]), with = python_str(r, c->slot[1]);
    int64_t n;
    if (!arg_int(r, c->slot[2].kind == VALUE_NONE ? ABSENT : c->slot[2], -1, &n))
        return UNDEFINED;
    struct marked out = text_replace(r, &t, &what, &with, n);
    out.safe = false;
    return value_text(r, out);
}

/* Bytes of the line break that a line ends with. */
static size_t line_end(const struct marked *line)
{
    bool two = line->len > 1 && memcmp(line->bytes + line->len - 2, "\r\n", 2) == 0;
    return two ? 2 : char_before(line->bytes, line->len);
}

static struct value filter_indent(struct render *r, const struct call *c)
{
    struct marked t, by = {.bytes = ""};
    bool first = arg_flag(r, c->slot[1], false), blank = arg_flag(r, c->slot[2], false);
    struct writer w;
    struct value width = value_is_given(c->slot[0]) ? c->slot[0] : value_int(4);
    if (width.kind != VALUE_TEXT)
        width = operate(r, OP_MUL, value_words(r, " "), width);
    if (!arg_text(r, c->self, &t) || !arg_text(r, width, &by))
        return UNDEFINED;
    struct marked newline = marked_own("\n", 1), full = marked_join(r, &t, &newline);
    struct list *lines = text_lines(r, &full, true);
    writer_init(&w, r);
    for (size_t i = 0; lines && i < lines->n && !r->failed; i++) {
        const struct marked *line = lines->items[i].text;
        size_t len = line->len - line_end(line);
        if (i == 0 ? first : blank || len > 0)
            writer_text(&w, &by);
        writer_part(&w, line, 0, len);
        if (i + 1 < lines->n)
            writer_add(&w, "\n", 1, marked_is_foreign(line, len));
    }
    return value_text(r, writer_done(&w));
}

static struct value filter_center(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self), fill = marked_own(" ", 1);
    int64_t width;
    if (!arg_int(r, c->slot[0], 80, &width))
        return UNDEFINED;
    return value_text(r, text_center(r, &t, width, &fill, SIDE_BOTH));
}

static struct value filter_format(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self);
    if (c->args->n > 0 && c->args->n_named > 0)
        return render_fail(r, ERR_INVALID, "can't handle positional and keyword arguments at the same time");
    if (c->args->n_named > 0) {
        struct dict *d = dict_new(r, c->args->n_named);
        for (size_t i = 0; d && i < c->args->n_named; i++)
            dict_set(r, d, (struct value){.kind = VALUE_TEXT, .text = c->args->named[i].name},
                     c->args->named[i].value);
        return d ? format_percent(r, &t, value_dict(d)) : UNDEFINED;
    }
    struct list *l = list_new(r, LIST_TUPLE, c->args->n);
    if (!l)
        return UNDEFINED;
    for (size_t i = 0; i < l->n; i++)
        l->items[i] = c->args->list[i];
    return format_percent(r, &t, value_list(l));
}

/* A word is letters, digits and underscores. */
static struct value filter_wordcount(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self);
    int64_t words = 0;
    bool inside = false;
    render_spend(r, t.len);
    for (size_t at = 0, n; at < t.len; at += n) {
        uint32_t ch = char_at(t.bytes + at, t.len - at, &n);
        bool word = ch == '_' || unicode_is_alpha(ch) || unicode_is_number(ch);
        words += word && !inside;
        inside = word;
    }
    return value_int(words);
}

static struct value filter_truncate(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self), end = marked_own("...", 3), space = marked_own(" ", 1);
    int64_t length, leeway, n;
    bool kill = arg_flag(r, c->slot[1], false);
    if (!arg_int(r, c->slot[0], 255, &length) || !arg_int(r, c->slot[3], 5, &leeway) ||
        (value_is_given(c->slot[2]) && !arg_text(r, c->slot[2], &end)))
        return UNDEFINED;
    int64_t added = (int64_t)marked_count(r, &end);
    if (length < added || leeway < 0)
        return render_fail(r, ERR_INVALID, "expected length >= %zu", end.len);
    if (!value_length(r, c->self, &n))
        return render_fail(r, ERR_INVALID, "object of type '%s' has no len()", value_type(c->self));
    if (n <= length || n - length <= leeway)
        return c->self;
    struct marked cut = marked_part(&t, 0, marked_at(r, &t, (size_t)(length - added)));
    size_t at = kill ? SIZE_MAX : marked_find_last(r, &cut, cut.len, &space);
    if (at != SIZE_MAX)
        cut = marked_part(&cut, 0, at);
    return value_text(r, marked_join(r, &cut, &end));
}

/* t without <tags> and <!-- comments -->. */
static struct marked without_tags(struct render *r, const struct marked *t)
{
    struct writer w;
    writer_init(&w, r);
    for (size_t at = 0; at < t->len && !r->failed;) {
        const char *open = memchr(t->bytes + at, '<', t->len - at);
        size_t from = open ? (size_t)(open - t->bytes) : t->len;
        bool comment = t->len - from >= 4 && memcmp(t->bytes + from, "<!--", 4) == 0;
        const char *close = !open ? NULL : comment ? memmem(open, t->len - from, "-->", 3)
                                                   : memchr(open, '>', t->len - from);
        writer_part(&w, t, at, close ? from : t->len);
        at = close ? (size_t)(close - t->bytes) + (comment ? 3 : 1) : t->len;
    }
    return writer_done(&w);
}

/* t with the five entities as what they stand for, which is whose the entity was. */
static struct marked without_entities(struct render *r, const struct marked *t)
{
    static const char *const entities[][2] = {
        {"&lt;", "<"}, {"&gt;", ">"}, {"&#34;", "\""}, {"&#39;", "'"}, {"&quot;", "\""}, {"&amp;", "&"},
    };
    struct writer w;
    writer_init(&w, r);
    for (size_t at = 0; at < t->len && !r->failed;) {
        const char *found = memchr(t->bytes + at, '&', t->len - at);
        size_t from = found ? (size_t)(found - t->bytes) : t->len, i = 0, len = 0;
        writer_part(&w, t, at, from);
        for (; i < COUNTOF(entities); i++) {
            len = strlen(entities[i][0]);
            if (len <= t->len - from && memcmp(t->bytes + from, entities[i][0], len) == 0)
                break;
        }
        if (i < COUNTOF(entities)) {
            struct marked entity = marked_part(t, from, from + len);
            writer_add(&w, entities[i][1], 1, marked_has_foreign(&entity));
            at = from + len;
        } else {
            at = from < t->len ? from + 1 : from;
            writer_part(&w, t, from, at);
        }
    }
    return writer_done(&w);
}

/* Text alone, with single spaces. */
static struct value filter_striptags(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self), space = marked_own(" ", 1);
    const struct args none = {0};
    struct value plain = value_text(r, without_tags(r, &t));
    struct value words = call_builtin(r, text_method_find("split", 5), plain, &none);
    if (r->failed)
        return UNDEFINED;
    t = text_join(r, &space, words.list, true);
    return value_text(r, without_entities(r, &t));
}

/* keep: what else stands for itself; a blank is a plus in a query. */
static void quote_into(struct writer *w, const struct marked *t, const char *keep)
{
    char hex[4];
    for (size_t i = 0; i < t->len && !w->r->failed; i++) {
        unsigned char ch = (unsigned char)t->bytes[i];
        bool plain = (ch >= '0' && ch <= '9') || (ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z') ||
                     (ch && strchr("_.-~", ch)) || (ch && strchr(keep, ch));
        snprintf(hex, sizeof(hex), "%%%02X", ch);
        if (plain)
            writer_part(w, t, i, i + 1);
        else if (ch == ' ' && !*keep)
            writer_add(w, "+", 1, marked_is_foreign(t, i));
        else
            writer_add(w, hex, 3, marked_is_foreign(t, i));
    }
}

/* A text is quoted; pairs become a query. */
static struct value filter_urlencode(struct render *r, const struct call *c)
{
    struct writer w;
    writer_init(&w, r);
    if (c->self.kind != VALUE_DICT && c->self.kind != VALUE_LIST) {
        struct marked t = python_str(r, c->self);
        quote_into(&w, &t, "/");
        return value_text(r, writer_done(&w));
    }
    const struct list *l = c->self.kind == VALUE_DICT ? list_of_keys(r, c->self.dict, LIST_ITEMS)
                                                      : value_iterate(r, c->self);
    for (size_t i = 0; l && i < l->n && !r->failed; i++) {
        struct list *pair = value_iterate(r, l->items[i]);
        if (!pair || pair->n != 2)
            return render_fail(r, ERR_INVALID, "urlencode takes a text, a mapping or pairs");
        struct marked key = python_str(r, pair->items[0]), value = python_str(r, pair->items[1]);
        writer_words(&w, i > 0 ? "&" : "");
        quote_into(&w, &key, "");
        writer_words(&w, "=");
        quote_into(&w, &value, "");
    }
    return value_text(r, writer_done(&w));
}

static struct value filter_pprint(struct render *r, const struct call *c)
{
    struct writer w;
    writer_init(&w, r);
    python_repr(&w, c->self);
    return value_text(r, writer_done(&w));
}

const struct builtin text_filters[] = {
    {"trim", "chars", 0, filter_trim, 0},
    {"upper", "", 0, filter_case, CASE_UPPER},
    {"lower", "", 0, filter_case, CASE_LOWER},
    {"capitalize", "", 0, filter_capitalize, 0},
    {"title", "", 0, filter_title, 0},
    {"replace", "old new count", 2, filter_replace, 0},
    {"indent", "width first blank", 0, filter_indent, 0},
    {"center", "width", 0, filter_center, 0},
    {"format", NULL, 0, filter_format, 0},
    {"wordcount", "", 0, filter_wordcount, 0},
    {"truncate", "length killwords end leeway", 0, filter_truncate, 0},
    {"striptags", "", 0, filter_striptags, 0},
    {"urlencode", "", 0, filter_urlencode, 0},
    {"pprint", "", 0, filter_pprint, 0},
    {NULL, NULL, 0, NULL, 0},
};
