/* list_filters: filters over what can be gone through. */
#include <string.h>

#include "text/jinja/filters.h"
#include "text/jinja/texts.h"

static struct value list_or_undefined(struct list *l)
{
    return l ? value_list(l) : UNDEFINED;
}

/* ---- one of many ---- */

static struct value filter_first(struct render *r, const struct call *c)
{
    if (c->self.kind == VALUE_LIST && c->self.list->kind == LIST_ITERATOR && c->self.list->taken < c->self.list->n)
        return c->self.list->items[c->self.list->taken++];
    if (c->self.kind == VALUE_TEXT && c->self.text->len > 0)
        return value_text(r, marked_part(c->self.text, 0, char_len(c->self.text->bytes, c->self.text->len)));
    const struct list *l = value_iterate(r, c->self);
    return l && l->n > 0 ? l->items[0] : value_missing(r, MISSING_OTHER, "", NONE);
}

static struct value filter_last(struct render *r, const struct call *c)
{
    if (c->self.kind == VALUE_LIST && c->self.list->kind == LIST_ITERATOR)
        return render_fail(r, ERR_INVALID, "'generator' object is not reversible");
    const struct list *l = value_iterate(r, c->self);
    return l && l->n > 0 ? l->items[l->n - 1] : value_missing(r, MISSING_OTHER, "", NONE);
}

static struct value filter_list(struct render *r, const struct call *c)
{
    struct list *from = value_iterate(r, c->self), *l = list_new(r, LIST_LIST, 0);
    if (!from || !l)
        return UNDEFINED;
    l->items = from->items;
    l->n = from->n;
    return value_list(l);
}

static struct value filter_items(struct render *r, const struct call *c)
{
    if (c->self.kind == VALUE_UNDEFINED)
        return list_or_undefined(list_new(r, LIST_ITERATOR, 0));
    if (c->self.kind != VALUE_DICT)
        return render_fail(r, ERR_INVALID, "Can only get item pairs from a mapping.");
    struct list *l = list_of_keys(r, c->self.dict, LIST_ITEMS);
    if (l)
        l->kind = LIST_ITERATOR;
    return list_or_undefined(l);
}

static struct value filter_reverse(struct render *r, const struct call *c)
{
    if (c->self.kind == VALUE_TEXT)
        return slice_get(r, c->self, NONE, NONE, value_int(-1));
    const struct list *from = value_iterate(r, c->self);
    struct list *l = from ? list_new(r, LIST_ITERATOR, from->n) : NULL;
    for (size_t i = 0; l && i < l->n; i++)
        l->items[i] = from->items[l->n - 1 - i];
    render_spend(r, l ? l->n * 8 : 0);
    return list_or_undefined(l);
}

static struct value filter_join(struct render *r, const struct call *c)
{
    struct marked between = value_is_given(c->slot[0]) ? python_str(r, c->slot[0]) : marked_own("", 0);
    struct list *l = value_iterate(r, c->self);
    if (!l)
        return UNDEFINED;
    if (value_is_given(c->slot[1]) && c->slot[1].kind != VALUE_NONE) {
        struct list *members = list_new(r, LIST_LIST, l->n);
        for (size_t i = 0; members && i < l->n && !r->failed; i++)
            members->items[i] = path_get(r, l->items[i], c->slot[1], ABSENT);
        l = members;
    }
    return l && !r->failed ? value_text(r, text_join(r, &between, l, false)) : UNDEFINED;
}

/* ---- map and select ---- */

/* A filter or test by its name, with the arguments after it. */
static struct value apply(struct render *r, bool test, struct value name, struct value item, const struct args *args)
{
    struct marked t;
    if (!arg_text(r, name, &t))
        return UNDEFINED;
    const struct builtin *row = test ? test_find(t.bytes, t.len) : filter_find(t.bytes, t.len);
    if (!row)
        return render_fail(r, ERR_INVALID, "No %s named '%.*s'.", test ? "test" : "filter",
                           t.len < 100 ? (int)t.len : 100, t.bytes);
    return call_builtin(r, row, item, args);
}

static const struct value *named(const struct args *args, const char *name)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (marked_is(args->named[i].name, name))
            return &args->named[i].value;
    return NULL;
}

/* Of what is nothing at all (none, 0), nothing. */
static const struct list *iterate_lazily(struct render *r, struct value v)
{
    return value_truth(r, v) ? value_iterate(r, v) : list_new(r, LIST_LIST, 0);
}

static struct value filter_map(struct render *r, const struct call *c)
{
    const struct args *a = c->args;
    const struct value *path = a->n == 0 ? named(a, "attribute") : NULL, *otherwise = named(a, "default");
    if (a->n == 0 && !path)
        return render_fail(r, ERR_INVALID, "map requires a filter argument");
    const struct list *from = iterate_lazily(r, c->self);
    struct list *l = from ? list_new(r, LIST_ITERATOR, from->n) : NULL;
    struct args rest = *a;
    if (!path) {
        rest.list++;
        rest.n--;
    }
    for (size_t i = 0; l && i < l->n && !r->failed; i++)
        l->items[i] = path ? path_get(r, from->items[i], *path, otherwise ? *otherwise : ABSENT)
                           : apply(r, false, a->list[0], from->items[i], &rest);
    return list_or_undefined(l);
}

enum { SELECT = 0, REJECT = 1, BY_MEMBER = 2 };

static struct value filter_select(struct render *r, const struct call *c)
{
    struct args rest = *c->args;
    struct value path = ABSENT, test = ABSENT;
    const struct list *from = iterate_lazily(r, c->self);
    struct list *l = list_new(r, LIST_ITERATOR, 0);
    size_t cap = 0;
    if ((c->row->mode & BY_MEMBER) && rest.n == 0)
        return render_fail(r, ERR_INVALID, "Missing parameter for attribute name");
    if (c->row->mode & BY_MEMBER) {
        path = rest.list[0];
        rest.list++;
        rest.n--;
    }
    if (rest.n > 0) {
        test = rest.list[0];
        rest.list++;
        rest.n--;
    }
    for (size_t i = 0; from && l && i < from->n && !r->failed; i++) {
        struct value item = value_is_given(path) ? path_get(r, from->items[i], path, ABSENT) : from->items[i];
        bool yes = value_truth(r, value_is_given(test) ? apply(r, true, test, item, &rest) : item);
        if (yes == !(c->row->mode & REJECT))
            list_push(r, l, &cap, from->items[i]);
    }
    return list_or_undefined(l);
}

/* ---- order ---- */

/* What an item is ordered by: lower case unless case counts. */
static struct value sort_key(struct render *r, struct value item, struct value path, bool cased)
{
    struct value key = value_is_given(path) && path.kind != VALUE_NONE ? path_get(r, item, path, ABSENT) : item;
    return cased || key.kind != VALUE_TEXT ? key : value_text(r, text_case(r, key.text, CASE_LOWER));
}

/* "a,b" orders by both: a list of the keys. */
static struct value sort_keys(struct render *r, struct value item, struct value paths, bool cased)
{
    const struct marked *t = paths.kind == VALUE_TEXT ? paths.text : NULL;
    struct list *l = list_new(r, LIST_LIST, 0);
    size_t cap = 0;
    if (!t || !memchr(t->bytes, ',', t->len) || !l)
        return sort_key(r, item, paths, cased);
    for (size_t at = 0; at <= t->len && !r->failed;) {
        const char *comma = at < t->len ? memchr(t->bytes + at, ',', t->len - at) : NULL;
        size_t end = comma ? (size_t)(comma - t->bytes) : t->len;
        list_push(r, l, &cap, sort_key(r, item, value_text(r, marked_part(t, at, end)), cased));
        at = end + 1;
    }
    return value_list(l);
}

struct sorted {
    struct value key, item;
};

static void merge(struct render *r, struct sorted *a, struct sorted *scratch, size_t n, bool down)
{
    size_t half = n / 2, i = 0, k = half, at = 0;
    if (n < 2 || r->failed)
        return;
    merge(r, a, scratch, half, down);
    merge(r, a + half, scratch, n - half, down);
    while ((i < half || k < n) && !r->failed) {
        int order = 0;
        render_spend(r, 0);
        if (i < half && k < n && !value_order(r, a[k].key, a[i].key, &order))
            return;
        bool left = k == n || (i < half && (down ? order <= 0 : order >= 0));
        scratch[at++] = left ? a[i++] : a[k++];
    }
    if (!r->failed)
        memcpy(a, scratch, n * sizeof(*a));
}

/* A stable order by keys; NULL when failed. */
static struct sorted *sort_by(struct render *r, const struct list *from, struct value path, bool cased, bool down)
{
    struct sorted *a = render_array(r, from->n + 1, sizeof(*a)), *scratch = render_array(r, from->n + 1, sizeof(*a));
    for (size_t i = 0; a && scratch && i < from->n && !r->failed; i++)
        a[i] = (struct sorted){sort_keys(r, from->items[i], path, cased), from->items[i]};
    if (!r->failed)
        merge(r, a, scratch, from->n, down);
    return r->failed ? NULL : a;
}

static struct value sorted_list(struct render *r, const struct list *from, struct value path, bool cased, bool down)
{
    struct sorted *a = sort_by(r, from, path, cased, down);
    struct list *l = a ? list_new(r, LIST_LIST, from->n) : NULL;
    for (size_t i = 0; l && i < l->n; i++)
        l->items[i] = a[i].item;
    return list_or_undefined(l);
}

static struct value filter_sort(struct render *r, const struct call *c)
{
    const struct list *from = value_iterate(r, c->self);
    if (!from)
        return UNDEFINED;
    return sorted_list(r, from, c->slot[2], arg_flag(r, c->slot[1], false), arg_flag(r, c->slot[0], false));
}

static struct value filter_dictsort(struct render *r, const struct call *c)
{
    struct marked by = marked_own("key", 3);
    if (value_is_given(c->slot[1]) && !arg_text(r, c->slot[1], &by))
        return UNDEFINED;
    if (!marked_is(&by, "key") && !marked_is(&by, "value"))
        return render_fail(r, ERR_INVALID, "You can only sort by either \"key\" or \"value\"");
    if (c->self.kind != VALUE_DICT)
        return render_fail(r, ERR_INVALID, "'%s' object has no attribute 'items'", value_type(c->self));
    const struct list *from = list_of_keys(r, c->self.dict, LIST_ITEMS);
    if (!from)
        return UNDEFINED;
    return sorted_list(r, from, value_int(marked_is(&by, "value")), arg_flag(r, c->slot[0], false),
                       arg_flag(r, c->slot[2], false));
}

/* By keys that were seen; quadratic, which the steps bound. */
static struct value filter_unique(struct render *r, const struct call *c)
{
    const struct list *from = value_iterate(r, c->self);
    struct list *l = list_new(r, LIST_ITERATOR, 0), *seen = list_new(r, LIST_LIST, 0);
    size_t cap = 0, seen_cap = 0;
    bool cased = arg_flag(r, c->slot[0], false);
    for (size_t i = 0; from && l && seen && i < from->n && !r->failed; i++) {
        struct value key = sort_key(r, from->items[i], c->slot[1], cased);
        if (!value_is_key(key))
            return render_fail(r, ERR_INVALID, "unhashable type: '%s'", value_type(key));
        if (operate_in(r, key, value_list(seen)))
            continue;
        list_push(r, seen, &seen_cap, key);
        list_push(r, l, &cap, from->items[i]);
    }
    return list_or_undefined(l);
}

static struct value filter_extreme(struct render *r, const struct call *c)
{
    const struct list *from = value_iterate(r, c->self);
    bool cased = arg_flag(r, c->slot[0], false), most = c->row->mode != 0;
    if (!from)
        return UNDEFINED;
    if (from->n == 0)
        return value_missing(r, MISSING_OTHER, "", NONE);
    size_t best = 0;
    struct value key = sort_key(r, from->items[0], c->slot[1], cased);
    for (size_t i = 1; i < from->n && !r->failed; i++) {
        struct value other = sort_key(r, from->items[i], c->slot[1], cased);
        int order;
        render_spend(r, 0);
        if (!value_order(r, other, key, &order) || (most ? order <= 0 : order >= 0))
            continue;
        best = i;
        key = other;
    }
    return from->items[best];
}

static struct value filter_sum(struct render *r, const struct call *c)
{
    const struct list *from = value_iterate(r, c->self);
    struct value sum = value_is_given(c->slot[1]) ? c->slot[1] : value_int(0);
    bool path = value_is_given(c->slot[0]) && c->slot[0].kind != VALUE_NONE;
    if (sum.kind == VALUE_TEXT)
        return render_fail(r, ERR_INVALID, "sum() can't sum strings");
    for (size_t i = 0; from && i < from->n && !r->failed; i++) {
        render_spend(r, 0);
        sum = operate(r, OP_ADD, sum, path ? path_get(r, from->items[i], c->slot[0], ABSENT) : from->items[i]);
    }
    return sum;
}

/* ---- lists of lists ---- */

static struct value filter_groupby(struct render *r, const struct call *c)
{
    const struct list *from = value_iterate(r, c->self);
    bool cased = arg_flag(r, c->slot[2], false);
    struct sorted *a = from ? sort_by(r, from, c->slot[0], cased, false) : NULL;
    struct list *groups = list_new(r, LIST_LIST, 0), *group = NULL;
    size_t cap = 0, group_cap = 0;
    for (size_t i = 0; a && groups && i < from->n && !r->failed; i++) {
        if (!group || !value_equal(r, a[i].key, a[i - 1].key)) {
            struct list *both = list_new(r, LIST_GROUP, 2);
            group = list_new(r, LIST_LIST, 0);
            group_cap = 0;
            if (!both || !group)
                break;
            both->items[0] = path_get(r, a[i].item, c->slot[0], c->slot[1]);
            both->items[1] = value_list(group);
            list_push(r, groups, &cap, value_list(both));
        }
        list_push(r, group, &group_cap, a[i].item);
    }
    return list_or_undefined(groups);
}

static struct value filter_batch(struct render *r, const struct call *c)
{
    const struct list *from = value_iterate(r, c->self);
    struct list *l = list_new(r, LIST_ITERATOR, 0);
    int64_t size;
    size_t cap = 0;
    if (!from || !l || !arg_int(r, c->slot[0], 1, &size))
        return UNDEFINED;
    if (size < 1)
        return render_fail(r, ERR_INVALID, "batch needs at least one item a line");
    for (size_t at = 0; at < from->n && !r->failed; at += (size_t)size) {
        size_t n = from->n - at < (size_t)size ? from->n - at : (size_t)size, line_cap = 0;
        struct list *line = list_new(r, LIST_LIST, 0);
        for (size_t i = 0; line && i < n; i++)
            list_push(r, line, &line_cap, from->items[at + i]);
        bool fill = value_is_given(c->slot[1]) && c->slot[1].kind != VALUE_NONE;
        for (size_t i = n; line && fill && i < (size_t)size && !r->failed; i++)
            list_push(r, line, &line_cap, c->slot[1]);
        if (line)
            list_push(r, l, &cap, value_list(line));
    }
    return value_list(l);
}

static struct value filter_slice(struct render *r, const struct call *c)
{
    const struct list *from = value_iterate(r, c->self);
    struct list *l = list_new(r, LIST_ITERATOR, 0);
    int64_t slices;
    size_t cap = 0, at = 0;
    if (!from || !l || !arg_int(r, c->slot[0], 1, &slices))
        return UNDEFINED;
    if (slices < 1)
        return render_fail(r, ERR_INVALID, "slice needs at least one slice");
    size_t each = from->n / (size_t)slices, more = from->n % (size_t)slices;
    for (size_t k = 0; k < (size_t)slices && !r->failed; k++) {
        size_t n = each + (k < more), part_cap = 0;
        struct list *part = list_new(r, LIST_LIST, 0);
        for (size_t i = 0; part && i < n; i++)
            list_push(r, part, &part_cap, from->items[at + i]);
        if (part && value_is_given(c->slot[1]) && c->slot[1].kind != VALUE_NONE && k >= more)
            list_push(r, part, &part_cap, c->slot[1]);
        if (part)
            list_push(r, l, &cap, value_list(part));
        at += n;
    }
    return value_list(l);
}

const struct builtin list_filters[] = {
    {"first", "", 0, filter_first, 0},
    {"last", "", 0, filter_last, 0},
    {"list", "", 0, filter_list, 0},
    {"items", "", 0, filter_items, 0},
    {"reverse", "", 0, filter_reverse, 0},
    {"join", "d attribute", 0, filter_join, 0},
    {"map", NULL, 0, filter_map, 0},
    {"select", NULL, 0, filter_select, SELECT},
    {"reject", NULL, 0, filter_select, REJECT},
    {"selectattr", NULL, 0, filter_select, SELECT | BY_MEMBER},
    {"rejectattr", NULL, 0, filter_select, REJECT | BY_MEMBER},
    {"sort", "reverse case_sensitive attribute", 0, filter_sort, 0},
    {"dictsort", "case_sensitive by reverse", 0, filter_dictsort, 0},
    {"unique", "case_sensitive attribute", 0, filter_unique, 0},
    {"min", "case_sensitive attribute", 0, filter_extreme, 0},
    {"max", "case_sensitive attribute", 0, filter_extreme, 1},
    {"sum", "attribute start", 0, filter_sum, 0},
    {"groupby", "attribute default case_sensitive", 1, filter_groupby, 0},
    {"batch", "linecount fill_with", 1, filter_batch, 0},
    {"slice", "slices fill_with", 1, filter_slice, 0},
    {NULL, NULL, 0, NULL, 0},
};
