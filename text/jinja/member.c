/* member: a.b looks for an attribute first and for a key then, a[b] the other way round; slices. */
#include <string.h>

#include "text/jinja/render.h"

static struct value missing_member(struct render *r, struct value of, struct value name)
{
    return value_missing(r, MISSING_MEMBER, value_type(of), name);
}

static struct value bound_method(struct render *r, struct value of, const struct builtin *row)
{
    struct bound *b = render_alloc(r, sizeof(*b));
    if (!b)
        return UNDEFINED;
    *b = (struct bound){row, of};
    return (struct value){.kind = VALUE_BUILTIN, .bound = b};
}

static struct value macro_member(struct render *r, const struct macro *m, const struct marked *name, bool *found)
{
    *found = true;
    if (marked_is(name, "name"))
        return value_words(r, m->name);
    if (marked_is(name, "caller"))
        return value_bool(m->wants_caller);
    if (marked_is(name, "catch_kwargs"))
        return value_bool(m->wants_kwargs);
    if (marked_is(name, "catch_varargs"))
        return value_bool(m->wants_varargs);
    *found = marked_is(name, "arguments");
    struct list *l = *found ? list_new(r, LIST_TUPLE, m->node->n_params) : NULL;
    for (uint32_t i = 0; l && i < l->n; i++)
        l->items[i] = value_text(r, m->node->params[i].target->name->text);
    return l ? value_list(l) : UNDEFINED;
}

/* What Python's getattr() gives, as far as templates may see it. */
static struct value attribute(struct render *r, struct value of, const struct marked *name, bool *found)
{
    const struct builtin *row = of.kind == VALUE_TEXT ? text_method_find(name->bytes, name->len)
                                                      : other_method_find(r, of, name->bytes, name->len);
    struct value key = {.kind = VALUE_TEXT, .text = name};
    *found = true;
    if (row)
        return bound_method(r, of, row);
    if (method_is_unsafe(of, name))
        return value_missing(r, MISSING_UNSAFE, value_type(of), key);
    if (of.kind == VALUE_LOOP)
        return loop_member(r, of.loop, name, found);
    if (of.kind == VALUE_MACRO)
        return macro_member(r, of.macro, name, found);
    if (of.kind == VALUE_CYCLER && marked_is(name, "current"))
        return of.cycler->list->items[of.cycler->at];
    if (of.kind == VALUE_LIST && of.list->kind == LIST_GROUP && (marked_is(name, "grouper") || marked_is(name, "list")))
        return of.list->items[marked_is(name, "list")];
    const struct value *at = of.kind == VALUE_SPACE ? dict_find(r, of.dict, key) : NULL;
    *found = at != NULL;
    return at ? *at : UNDEFINED;
}

/* The place that a number names in n items, negative from the end; SIZE_MAX when there is none. */
static size_t place_in(struct value key, size_t n)
{
    int64_t at = value_whole(key);
    if (at < 0)
        at += (int64_t)n;
    return at >= 0 && (uint64_t)at < n ? (size_t)at : SIZE_MAX;
}

static bool has_places(struct value v)
{
    return v.kind == VALUE_LIST && (v.list->kind <= LIST_TUPLE || v.list->kind == LIST_RANGE ||
                                    v.list->kind == LIST_GROUP);
}

/* What a subscript gives. */
static struct value subscript(struct render *r, struct value of, struct value key, bool *found)
{
    bool number = key.kind == VALUE_INT || key.kind == VALUE_BOOL;
    *found = false;
    if (of.kind == VALUE_DICT) {
        const struct value *at = dict_find(r, of.dict, key);
        *found = at != NULL;
        return at ? *at : UNDEFINED;
    }
    if (number && has_places(of)) {
        size_t at = place_in(key, of.list->n);
        *found = at != SIZE_MAX;
        return *found ? of.list->items[at] : UNDEFINED;
    }
    if (number && of.kind == VALUE_TEXT) {
        size_t at = place_in(key, marked_count(r, of.text));
        *found = at != SIZE_MAX;
        if (!*found)
            return UNDEFINED;
        size_t from = marked_at(r, of.text, at);
        return value_text(r, marked_part(of.text, from, from + char_len(of.text->bytes + from, of.text->len - from)));
    }
    return UNDEFINED;
}

struct value member_get(struct render *r, struct value of, struct value name)
{
    bool found;
    if (r->failed)
        return UNDEFINED;
    if (of.kind == VALUE_UNDEFINED)
        return value_fail_undefined(r, of);
    struct value v = attribute(r, of, name.text, &found);
    if (!found)
        v = subscript(r, of, name, &found);
    return found ? v : missing_member(r, of, name);
}

struct value item_get(struct render *r, struct value of, struct value key)
{
    bool found;
    if (r->failed)
        return UNDEFINED;
    if (of.kind == VALUE_UNDEFINED)
        return value_fail_undefined(r, of);
    struct value v = subscript(r, of, key, &found);
    if (!found && key.kind == VALUE_TEXT)
        v = attribute(r, of, key.text, &found);
    return found ? v : missing_member(r, of, key);
}

struct value path_get(struct render *r, struct value of, struct value path, struct value otherwise)
{
    if (path.kind != VALUE_TEXT)
        return item_get(r, of, path);
    const struct marked *t = path.text;
    for (size_t at = 0; at <= t->len && !r->failed;) {
        const char *dot = at < t->len ? memchr(t->bytes + at, '.', t->len - at) : NULL;
        size_t end = dot ? (size_t)(dot - t->bytes) : t->len;
        int64_t number = 0;
        bool digits = end > at && end - at < 10;
        for (size_t i = at; i < end && digits; i++) {
            digits = t->bytes[i] >= '0' && t->bytes[i] <= '9';
            number = number * 10 + (t->bytes[i] - '0');
        }
        of = item_get(r, of, digits ? value_int(number) : value_text(r, marked_part(t, at, end)));
        if (of.kind == VALUE_UNDEFINED && value_is_given(otherwise))
            of = otherwise;
        at = end + 1;
    }
    return r->failed ? UNDEFINED : of;
}

/* ---- slices ---- */

static bool bound_of(struct render *r, struct value v, int64_t otherwise, int64_t *out)
{
    return arg_int(r, v.kind == VALUE_NONE ? ABSENT : v, otherwise, out);
}

/* As Python's slice.indices(): from, to and step that stay inside of n items. */
static bool slice_bounds(struct render *r, const struct value part[3], int64_t n, int64_t out[3])
{
    if (!bound_of(r, part[2], 1, &out[2]))
        return false;
    if (out[2] == 0) {
        render_fail(r, ERR_INVALID, "slice step cannot be zero");
        return false;
    }
    if (out[2] > n + 1 || out[2] < -n - 1)
        out[2] = out[2] > 0 ? n + 1 : -n - 1;
    int64_t low = out[2] < 0 ? -1 : 0, high = out[2] < 0 ? n - 1 : n;
    for (int i = 0; i < 2; i++) {
        if (!bound_of(r, part[i], (i == 0) == (out[2] > 0) ? INT64_MIN : INT64_MAX, &out[i]))
            return false;
        bool given = part[i].kind != VALUE_NONE;
        if (given && out[i] < 0)
            out[i] = out[i] + n < low ? low : out[i] + n;
        if (out[i] < low)
            out[i] = low;
        if (out[i] > high)
            out[i] = high;
    }
    return true;
}

static struct value slice_text(struct render *r, const struct marked *t, const int64_t s[3])
{
    if (s[2] == 1) {
        size_t from = marked_at(r, t, (size_t)s[0]);
        struct marked rest = marked_part(t, from, t->len);
        if (s[1] <= s[0])
            return value_words(r, "");
        return value_text(r, marked_part(&rest, 0, marked_at(r, &rest, (size_t)(s[1] - s[0]))));
    }
    struct list *all = value_iterate(r, (struct value){.kind = VALUE_TEXT, .text = t});
    struct writer w;
    writer_init(&w, r);
    for (int64_t i = s[0]; all && (s[2] > 0 ? i < s[1] : i > s[1]) && !r->failed; i += s[2])
        writer_text(&w, all->items[i].text);
    return value_text(r, writer_done(&w));
}

static struct value slice_list(struct render *r, const struct list *l, const int64_t s[3])
{
    bool tuple = l->kind == LIST_TUPLE || l->kind == LIST_GROUP;
    if (s[2] == 1) {
        struct list *part = list_new(r, tuple ? LIST_TUPLE : LIST_LIST, 0);
        if (!part)
            return UNDEFINED;
        part->items = l->items + s[0];
        part->n = s[1] > s[0] ? (size_t)(s[1] - s[0]) : 0;
        return value_list(part);
    }
    size_t n = 0, at = 0;
    for (int64_t i = s[0]; s[2] > 0 ? i < s[1] : i > s[1]; i += s[2])
        n++;
    render_spend(r, n * 8);
    struct list *part = list_new(r, tuple ? LIST_TUPLE : LIST_LIST, n);
    for (int64_t i = s[0]; part && at < n; i += s[2])
        part->items[at++] = l->items[i];
    return part ? value_list(part) : UNDEFINED;
}

struct value slice_get(struct render *r, struct value of, struct value from, struct value to, struct value step)
{
    const struct value part[3] = {from, to, step};
    int64_t s[3], n;
    if (of.kind == VALUE_UNDEFINED)
        return value_fail_undefined(r, of);
    if (of.kind != VALUE_TEXT && !has_places(of))
        return render_fail(r, ERR_INVALID, "'%s' object cannot be sliced", value_type(of));
    if (!value_length(r, of, &n) || !slice_bounds(r, part, n, s))
        return UNDEFINED;
    return of.kind == VALUE_TEXT ? slice_text(r, of.text, s) : slice_list(r, of.list, s);
}
