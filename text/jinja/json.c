/* json: values as json.dumps writes them, and variables out of JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja/render.h"

enum { JSON_DEPTH_MAX = 256 };

/* ---- writing ---- */

static void escape_of(char out[static 16], uint32_t c, bool ascii)
{
    static const char shorts[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    out[0] = 0;
    if (c == '"' || c == '\\')
        snprintf(out, 16, "\\%c", (char)c);
    else if (c < sizeof(shorts) && shorts[c])
        snprintf(out, 16, "\\%c", shorts[c]);
    else if (c < 0x20 || (ascii && c > 0x7E && c < 0x10000))
        snprintf(out, 16, "\\u%04x", c);
    else if (ascii && c >= 0x10000)
        snprintf(out, 16, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + ((c - 0x10000) & 0x3FF));
}

static void write_text(struct writer *w, const struct marked *t, bool ascii)
{
    char escape[16];
    size_t from = 0;
    writer_words(w, "\"");
    for (size_t at = 0; at < t->len && !w->r->failed;) {
        size_t len;
        escape_of(escape, char_at(t->bytes + at, t->len - at, &len), ascii);
        if (escape[0]) {
            writer_part(w, t, from, at);
            writer_add(w, escape, strlen(escape), marked_is_foreign(t, at));
            from = at + len;
        }
        at += len;
    }
    writer_part(w, t, from, t->len);
    writer_words(w, "\"");
}

static void write_number(struct writer *w, struct value v)
{
    char text[40];
    if (v.kind == VALUE_BOOL)
        snprintf(text, sizeof(text), "%s", v.truth ? "true" : "false");
    else if (v.kind == VALUE_INT)
        snprintf(text, sizeof(text), "%lld", (long long)v.whole);
    else if (isnan(v.real) || isinf(v.real))
        snprintf(text, sizeof(text), "%s", isnan(v.real) ? "NaN" : v.real < 0 ? "-Infinity" : "Infinity");
    else
        python_float(text, v.real);
    writer_words(w, text);
}

/* The break and indentation before an item, where there is an indent. */
static void write_break(struct writer *w, const struct json_style *s, uint32_t level)
{
    if (!s->indent)
        return;
    writer_words(w, "\n");
    for (uint32_t i = 0; i < level && !w->r->failed; i++)
        writer_text(w, s->indent);
}

static void write_key(struct writer *w, struct value key, const struct json_style *s)
{
    if (key.kind == VALUE_TEXT) {
        write_text(w, key.text, s->ascii);
    } else if (value_is_number(key) || key.kind == VALUE_NONE) {
        writer_words(w, "\"");
        if (key.kind == VALUE_NONE)
            writer_words(w, "null");
        else
            write_number(w, key);
        writer_words(w, "\"");
    } else {
        render_fail(w->r, ERR_INVALID, "keys must be str, int, float, bool or None, not %s", value_type(key));
    }
}

/* The pairs by their keys; a copy. */
static struct dict *sorted_pairs(struct render *r, const struct dict *d)
{
    struct dict *copy = dict_new(r, d->n);
    for (size_t i = 0; copy && i < d->n && !r->failed; i++) {
        size_t at = i;
        int order = 0;
        for (; at > 0 && value_order(r, copy->pairs[at - 1].key, d->pairs[i].key, &order) && order > 0; at--) {
            copy->pairs[at] = copy->pairs[at - 1];
            render_spend(r, 0);
        }
        copy->pairs[at] = d->pairs[i];
        copy->n++;
    }
    return copy;
}

static void write_dict(struct writer *w, const struct dict *d, const struct json_style *s, uint32_t level)
{
    if (d->n == 0) {
        writer_words(w, "{}");
        return;
    }
    if (s->sorted)
        d = sorted_pairs(w->r, d);
    writer_words(w, "{");
    for (size_t i = 0; d && i < d->n && !w->r->failed; i++) {
        if (i > 0)
            writer_text(w, s->comma);
        write_break(w, s, level + 1);
        write_key(w, d->pairs[i].key, s);
        writer_text(w, s->colon);
        value_to_json(w, d->pairs[i].value, s, level + 1);
    }
    write_break(w, s, level);
    writer_words(w, "}");
}

static void write_list(struct writer *w, const struct list *l, const struct json_style *s, uint32_t level)
{
    if (l->n == 0) {
        writer_words(w, "[]");
        return;
    }
    writer_words(w, "[");
    for (size_t i = 0; i < l->n && !w->r->failed; i++) {
        if (i > 0)
            writer_text(w, s->comma);
        write_break(w, s, level + 1);
        value_to_json(w, l->items[i], s, level + 1);
    }
    write_break(w, s, level);
    writer_words(w, "]");
}

static bool list_has_json(const struct list *l)
{
    return l->kind == LIST_LIST || l->kind == LIST_TUPLE || l->kind == LIST_GROUP;
}

void value_to_json(struct writer *w, struct value v, const struct json_style *s, uint32_t level)
{
    if (!render_enter(w->r))
        return;
    if (value_is_number(v))
        write_number(w, v);
    else if (v.kind == VALUE_TEXT)
        write_text(w, v.text, s->ascii);
    else if (v.kind == VALUE_NONE)
        writer_words(w, "null");
    else if (v.kind == VALUE_LIST && list_has_json(v.list))
        write_list(w, v.list, s, level);
    else if (v.kind == VALUE_DICT)
        write_dict(w, v.dict, s, level);
    else
        render_fail(w->r, ERR_INVALID, "Object of type %s is not JSON serializable", value_type(v));
    render_leave(w->r);
}

/* ---- reading ---- */

static struct value text_value(struct render *r, const json_t *j, bool foreign, const char *key)
{
    const char *text = json_string_value(j);
    struct marked t = {.bytes = text, .len = json_string_length(j), .foreign = foreign};
    if (foreign && key && r->context->harmless && r->context->harmless(key, text))
        t.foreign = false;
    return value_text(r, t);
}

static struct value list_value(struct render *r, const json_t *j, bool foreign, uint32_t depth)
{
    size_t n = json_array_size(j);
    struct list *l = list_new(r, LIST_LIST, n);
    for (size_t i = 0; l && i < n && !r->failed; i++)
        l->items[i] = value_of_json(r, json_array_get(j, i), foreign, depth + 1, NULL);
    return l ? value_list(l) : UNDEFINED;
}

static struct value dict_value(struct render *r, const json_t *j, bool foreign, uint32_t depth)
{
    struct dict *d = dict_new(r, json_object_size(j));
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)j, key, member) {
        if (!d || r->failed || d->n == d->cap)
            break;
        struct marked name = {.bytes = key, .len = strlen(key), .foreign = foreign};
        d->pairs[d->n++] = (struct pair){value_text(r, name), value_of_json(r, member, foreign, depth + 1, key)};
    }
    return d ? value_dict(d) : UNDEFINED;
}

struct value value_of_json(struct render *r, const json_t *j, bool foreign, uint32_t depth, const char *key)
{
    render_spend(r, 0);
    if (depth > JSON_DEPTH_MAX)
        return render_fail(r, ERR_LIMIT, "a variable nests deeper than %d", JSON_DEPTH_MAX);
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return dict_value(r, j, foreign, depth);
    case JSON_ARRAY:
        return list_value(r, j, foreign, depth);
    case JSON_STRING:
        return text_value(r, j, foreign, key);
    case JSON_INTEGER:
        return value_int(json_integer_value(j));
    case JSON_REAL:
        return value_float(json_real_value(j));
    case JSON_TRUE:
    case JSON_FALSE:
        return value_bool(json_is_true(j));
    default:
        return NONE;
    }
}
