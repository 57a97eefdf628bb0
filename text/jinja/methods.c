/* methods: those of dicts, lists, tuples and floats; and which the sandbox forbids. */
#include <math.h>
#include <string.h>

#include "text/jinja/render.h"

/* ---- dict ---- */

static struct value dict_get(struct render *r, const struct call *c)
{
    const struct value *v = dict_find(r, c->self.dict, c->slot[0]);
    if (v)
        return *v;
    return value_is_given(c->slot[1]) ? c->slot[1] : NONE;
}

static struct value dict_view(struct render *r, const struct call *c)
{
    struct list *l = list_of_keys(r, c->self.dict, (enum list_kind)c->row->mode);
    return l ? value_list(l) : UNDEFINED;
}

static struct value dict_copy(struct render *r, const struct call *c)
{
    (void)r;
    return c->self;
}

static const struct builtin dict_methods[] = {
    {"get", "key default", 1, dict_get, 0},
    {"items", "", 0, dict_view, LIST_ITEMS},
    {"keys", "", 0, dict_view, LIST_KEYS},
    {"values", "", 0, dict_view, LIST_VALUES},
    {"copy", "", 0, dict_copy, 0},
};

/* ---- list ---- */

static struct value list_count(struct render *r, const struct call *c)
{
    int64_t n = 0;
    for (size_t i = 0; i < c->self.list->n && !r->failed; i++) {
        render_spend(r, 0);
        n += value_equal(r, c->self.list->items[i], c->slot[0]);
    }
    return value_int(n);
}

static struct value list_index(struct render *r, const struct call *c)
{
    const struct list *l = c->self.list;
    int64_t from, to, n = (int64_t)l->n;
    if (!arg_int(r, c->slot[1], 0, &from) || !arg_int(r, c->slot[2], n, &to))
        return UNDEFINED;
    from = from < 0 ? (from + n < 0 ? 0 : from + n) : from;
    to = to < 0 ? to + n : to > n ? n : to;
    for (int64_t i = from; i < to && !r->failed; i++) {
        render_spend(r, 0);
        if (value_equal(r, l->items[i], c->slot[0]))
            return value_int(i);
    }
    return render_fail(r, ERR_INVALID, "the value is not in the list");
}

static struct value list_copy(struct render *r, const struct call *c)
{
    struct list *l = list_new(r, LIST_LIST, 0);
    if (!l)
        return UNDEFINED;
    l->items = c->self.list->items;
    l->n = c->self.list->n;
    return value_list(l);
}

/* Slices and copies share a list's items: it is moved before it grows into bytes that are not its own. */
static struct value list_append(struct render *r, const struct call *c)
{
    struct list *l = c->self.list;
    if (l->n >= l->cap) {
        size_t cap = l->n * 2 + 4;
        struct value *items = render_array(r, cap, sizeof(*items));
        if (!items)
            return UNDEFINED;
        if (l->n > 0)
            memcpy(items, l->items, l->n * sizeof(*items));
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = c->slot[0];
    return NONE;
}

static struct value list_pop(struct render *r, const struct call *c)
{
    struct list *l = c->self.list;
    int64_t at;
    if (!arg_int(r, c->slot[0], -1, &at))
        return UNDEFINED;
    at = at < 0 ? at + (int64_t)l->n : at;
    if (at < 0 || (uint64_t)at >= l->n)
        return render_fail(r, ERR_INVALID, l->n == 0 ? "pop from empty list" : "pop index out of range");
    struct value v = l->items[at];
    l->cap = 0;
    if (at == 0) {
        l->items++;
    } else if ((size_t)at + 1 < l->n) {
        struct value *items = render_array(r, l->n, sizeof(*items));
        if (!items)
            return UNDEFINED;
        memcpy(items, l->items, (size_t)at * sizeof(*items));
        memcpy(items + at, l->items + at + 1, (l->n - (size_t)at - 1) * sizeof(*items));
        l->items = items;
    }
    l->n--;
    render_spend(r, 0);
    return v;
}

static const struct builtin list_changes[] = {
    {"append", "object", 1, list_append, 0},
    {"pop", "index", 0, list_pop, 0},
};

static const struct builtin list_methods[] = {
    {"copy", "", 0, list_copy, 0},
    {"count", "value", 1, list_count, 0},
    {"index", "value start stop", 1, list_index, 0},
};

/* ---- float, cycler ---- */

static struct value float_is_integer(struct render *r, const struct call *c)
{
    (void)r;
    return value_bool(c->self.real == floor(c->self.real) && !isinf(c->self.real));
}

static const struct builtin float_methods[] = {
    {"is_integer", "", 0, float_is_integer, 0},
};

static struct value cycler_next(struct render *r, const struct call *c)
{
    (void)r;
    struct cycler *cycler = c->self.cycler;
    struct value v = cycler->list->items[cycler->at];
    cycler->at = (cycler->at + 1) % cycler->list->n;
    return v;
}

static struct value cycler_reset(struct render *r, const struct call *c)
{
    (void)r;
    c->self.cycler->at = 0;
    return NONE;
}

static const struct builtin cycler_methods[] = {
    {"next", "", 0, cycler_next, 0},
    {"reset", "", 0, cycler_reset, 0},
};

/* ---- finding ---- */

const struct builtin *other_method_find(struct render *r, struct value of, const char *name, size_t len)
{
    const struct builtin *change = NULL;
    switch (of.kind) {
    case VALUE_DICT:
        return builtin_find(dict_methods, COUNTOF(dict_methods), name, len);
    case VALUE_LIST:
        if (of.list->kind == LIST_LIST && r->context->lenient)
            change = builtin_find(list_changes, COUNTOF(list_changes), name, len);
        if (change)
            return change;
        if (of.list->kind == LIST_LIST)
            return builtin_find(list_methods, COUNTOF(list_methods), name, len);
        if (of.list->kind == LIST_TUPLE || of.list->kind == LIST_RANGE || of.list->kind == LIST_GROUP)
            return builtin_find(list_methods + 1, COUNTOF(list_methods) - 1, name, len);
        return NULL;
    case VALUE_FLOAT:
        return builtin_find(float_methods, COUNTOF(float_methods), name, len);
    case VALUE_CYCLER:
        return builtin_find(cycler_methods, COUNTOF(cycler_methods), name, len);
    default:
        return NULL;
    }
}

bool method_is_unsafe(struct value of, const struct marked *name)
{
    static const char *const of_lists[] = {
        "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove",
    };
    static const char *const of_dicts[] = {"clear", "pop", "popitem", "setdefault", "update"};
    bool list = of.kind == VALUE_LIST && of.list->kind == LIST_LIST;
    const char *const *names = list ? of_lists : of_dicts;
    size_t n = list ? COUNTOF(of_lists) : of.kind == VALUE_DICT ? COUNTOF(of_dicts) : 0;
    for (size_t i = 0; i < n; i++)
        if (marked_is(name, names[i]))
            return true;
    return false;
}
