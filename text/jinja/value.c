/* value: types, truth, equality and order as Python has them. */
#include "text/jinja/value.h"

#include <string.h>

#include "text/jinja/render.h"

/* ---- making ---- */

struct value value_text(struct render *r, struct marked text)
{
    struct marked *copy = render_alloc(r, sizeof(*copy));
    if (!copy)
        return UNDEFINED;
    *copy = text;
    return (struct value){.kind = VALUE_TEXT, .text = copy};
}

struct value value_words(struct render *r, const char *words)
{
    return value_text(r, marked_own(words, strlen(words)));
}

struct value value_missing(struct render *r, enum missing_why why, const char *of, struct value key)
{
    struct missing *m = render_alloc(r, sizeof(*m));
    if (m)
        *m = (struct missing){why, of, key};
    return (struct value){.kind = VALUE_UNDEFINED, .missing = m};
}

struct value value_fail_undefined(struct render *r, struct value v)
{
    const struct missing *m = v.missing;
    if (r->failed)
        return UNDEFINED;
    if (!m || m->why == MISSING_OTHER)
        return render_fail(r, ERR_INVALID, "a value is undefined");
    struct marked key = python_str(r, m->key);
    const char *quote = m->key.kind == VALUE_TEXT ? "'" : "";
    int n = key.len < 100 ? (int)key.len : 100;
    switch (m->why) {
    case MISSING_NAME:
        return render_fail(r, ERR_INVALID, "'%.*s' is undefined", n, key.bytes);
    case MISSING_ARGUMENT:
        return render_fail(r, ERR_INVALID, "parameter '%.*s' was not provided", n, key.bytes);
    case MISSING_UNSAFE:
        return render_fail(r, ERR_INVALID, "access to attribute '%.*s' of '%s' object is unsafe.", n, key.bytes, m->of);
    default:
        return render_fail(r, ERR_INVALID, "'%s%s' has no %s %s%.*s%s", m->of,
                           strcmp(m->of, "None") == 0 ? "" : " object", *quote ? "attribute" : "element", quote, n,
                           key.bytes, quote);
    }
}

/* ---- types ---- */

static const char *list_type(const struct list *l)
{
    static const char *const names[] = {
        [LIST_LIST] = "list", [LIST_TUPLE] = "tuple", [LIST_ITERATOR] = "generator", [LIST_RANGE] = "range",
        [LIST_KEYS] = "dict_keys", [LIST_VALUES] = "dict_values", [LIST_ITEMS] = "dict_items", [LIST_GROUP] = "tuple",
    };
    return names[l->kind];
}

const char *value_type(struct value v)
{
    static const char *const names[] = {
        [VALUE_ABSENT] = "Undefined", [VALUE_UNDEFINED] = "Undefined", [VALUE_NONE] = "None", [VALUE_BOOL] = "bool",
        [VALUE_INT] = "int", [VALUE_FLOAT] = "float", [VALUE_TEXT] = "str", [VALUE_LIST] = "list",
        [VALUE_DICT] = "dict", [VALUE_SPACE] = "Namespace", [VALUE_MACRO] = "Macro", [VALUE_BUILTIN] = "function",
        [VALUE_LOOP] = "LoopContext", [VALUE_CYCLER] = "Cycler", [VALUE_JOINER] = "Joiner",
    };
    return v.kind == VALUE_LIST ? list_type(v.list) : names[v.kind];
}

bool value_is_number(struct value v)
{
    return v.kind == VALUE_BOOL || v.kind == VALUE_INT || v.kind == VALUE_FLOAT;
}

int64_t value_whole(struct value v)
{
    return v.kind == VALUE_BOOL ? v.truth : v.whole;
}

double value_real(struct value v)
{
    return v.kind == VALUE_FLOAT ? v.real : (double)value_whole(v);
}

bool value_truth(struct render *r, struct value v)
{
    (void)r;
    switch (v.kind) {
    case VALUE_ABSENT:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return v.truth;
    case VALUE_INT:
        return v.whole != 0;
    case VALUE_FLOAT:
        return v.real != 0;
    case VALUE_TEXT:
        return v.text->len > 0;
    case VALUE_LIST:
        return v.list->kind == LIST_ITERATOR || v.list->n > 0;
    case VALUE_DICT:
        return v.dict->n > 0;
    default:
        return true;
    }
}

/* ---- equality and order ---- */

static bool is_row(const struct list *l)
{
    return l->kind == LIST_LIST || l->kind == LIST_TUPLE || l->kind == LIST_GROUP || l->kind == LIST_RANGE;
}

static bool is_tuple(const struct list *l)
{
    return l->kind == LIST_TUPLE || l->kind == LIST_GROUP;
}

static bool lists_equal(struct render *r, const struct list *a, const struct list *b)
{
    if (a == b)
        return true;
    if (!is_row(a) || !is_row(b) || is_tuple(a) != is_tuple(b) || (a->kind == LIST_RANGE) != (b->kind == LIST_RANGE) ||
        a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n && !r->failed; i++) {
        render_spend(r, 0);
        if (!value_equal(r, a->items[i], b->items[i]))
            return false;
    }
    return true;
}

static bool dicts_equal(struct render *r, const struct dict *a, const struct dict *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n && !r->failed; i++) {
        const struct value *other = dict_find(r, b, a->pairs[i].key);
        if (!other || !value_equal(r, a->pairs[i].value, *other))
            return false;
    }
    return true;
}

static bool numbers_equal(struct value a, struct value b)
{
    if (a.kind == VALUE_FLOAT || b.kind == VALUE_FLOAT)
        return value_real(a) == value_real(b);
    return value_whole(a) == value_whole(b);
}

static bool same_kind_equal(struct render *r, struct value a, struct value b)
{
    switch (a.kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return true;
    case VALUE_TEXT:
        render_spend(r, a.text->len == b.text->len ? a.text->len : 0);
        return marked_equal(a.text, b.text);
    case VALUE_LIST:
        return lists_equal(r, a.list, b.list);
    case VALUE_DICT:
        return dicts_equal(r, a.dict, b.dict);
    case VALUE_BUILTIN:
        return a.bound->row == b.bound->row;
    default:
        return a.dict == b.dict;
    }
}

bool value_equal(struct render *r, struct value a, struct value b)
{
    if (value_is_number(a) && value_is_number(b))
        return numbers_equal(a, b);
    if (a.kind != b.kind || !render_enter(r))
        return false;
    bool equal = same_kind_equal(r, a, b);
    render_leave(r);
    return equal;
}

static bool lists_order(struct render *r, const struct list *a, const struct list *b, int *out)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        render_spend(r, 0);
        if (r->failed || !value_equal(r, a->items[i], b->items[i]))
            return value_order(r, a->items[i], b->items[i], out);
    }
    *out = (a->n > b->n) - (a->n < b->n);
    return !r->failed;
}

bool value_order(struct render *r, struct value a, struct value b, int *out)
{
    *out = 0;
    if (value_is_number(a) && value_is_number(b)) {
        if (a.kind == VALUE_FLOAT || b.kind == VALUE_FLOAT)
            *out = (value_real(a) > value_real(b)) - (value_real(a) < value_real(b));
        else
            *out = (value_whole(a) > value_whole(b)) - (value_whole(a) < value_whole(b));
        return true;
    }
    if (a.kind == VALUE_TEXT && b.kind == VALUE_TEXT) {
        render_spend(r, a.text->len < b.text->len ? a.text->len : b.text->len);
        *out = marked_order(a.text, b.text);
        return true;
    }
    if (a.kind == VALUE_LIST && b.kind == VALUE_LIST && is_row(a.list) && is_row(b.list) &&
        is_tuple(a.list) == is_tuple(b.list) && render_enter(r)) {
        bool done = lists_order(r, a.list, b.list, out);
        render_leave(r);
        return done;
    }
    if (a.kind == VALUE_UNDEFINED || b.kind == VALUE_UNDEFINED)
        value_fail_undefined(r, a.kind == VALUE_UNDEFINED ? a : b);
    else
        render_fail(r, ERR_INVALID, "there is no order between '%s' and '%s'", value_type(a), value_type(b));
    return false;
}

/* ---- lists and dicts ---- */

struct list *list_new(struct render *r, enum list_kind kind, size_t n)
{
    struct list *l = render_alloc(r, sizeof(*l));
    struct value *items = n > 0 ? render_array(r, n, sizeof(*items)) : NULL;
    if (!l || (n > 0 && !items))
        return NULL;
    *l = (struct list){.kind = kind, .items = items, .n = n};
    return l;
}

bool list_push(struct render *r, struct list *l, size_t *cap, struct value v)
{
    if (l->n == *cap) {
        size_t grown = *cap ? *cap * 2 : 8;
        struct value *items = render_array(r, grown, sizeof(*items));
        if (!items)
            return false;
        if (l->n > 0)
            memcpy(items, l->items, l->n * sizeof(*items));
        l->items = items;
        *cap = grown;
    }
    l->items[l->n++] = v;
    render_spend(r, 0);
    return !r->failed;
}

struct dict *dict_new(struct render *r, size_t cap)
{
    struct dict *d = render_alloc(r, sizeof(*d));
    struct pair *pairs = cap > 0 ? render_array(r, cap, sizeof(*pairs)) : NULL;
    if (!d || (cap > 0 && !pairs))
        return NULL;
    *d = (struct dict){pairs, 0, cap};
    return d;
}

bool value_is_key(struct value v)
{
    return v.kind != VALUE_DICT && (v.kind != VALUE_LIST || v.list->kind == LIST_TUPLE);
}

bool dict_set(struct render *r, struct dict *d, struct value key, struct value v)
{
    if (!value_is_key(key)) {
        render_fail(r, ERR_INVALID, "unhashable type: '%s'", value_type(key));
        return false;
    }
    struct value *at = dict_find(r, d, key);
    if (at) {
        *at = v;
        return true;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 4;
        struct pair *pairs = render_array(r, cap, sizeof(*pairs));
        if (!pairs)
            return false;
        if (d->n > 0)
            memcpy(pairs, d->pairs, d->n * sizeof(*pairs));
        d->pairs = pairs;
        d->cap = cap;
    }
    d->pairs[d->n++] = (struct pair){key, v};
    return !r->failed;
}

struct value *dict_find_words(struct render *r, const struct dict *d, const char *key, size_t len)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct pair *p = &d->pairs[i];
        if (p->key.kind == VALUE_TEXT && p->key.text->len == len && memcmp(p->key.text->bytes, key, len) == 0) {
            render_spend(r, i);
            return &d->pairs[i].value;
        }
    }
    render_spend(r, d->n);
    return NULL;
}

struct value *dict_find(struct render *r, const struct dict *d, struct value key)
{
    if (key.kind == VALUE_TEXT)
        return dict_find_words(r, d, key.text->bytes, key.text->len);
    for (size_t i = 0; i < d->n && !r->failed; i++) {
        render_spend(r, 0);
        if (value_equal(r, d->pairs[i].key, key))
            return &d->pairs[i].value;
    }
    return NULL;
}

struct list *list_of_keys(struct render *r, const struct dict *d, enum list_kind kind)
{
    struct list *l = list_new(r, kind, d->n);
    for (size_t i = 0; l && i < d->n; i++) {
        const struct pair *p = &d->pairs[i];
        if (kind == LIST_KEYS || kind == LIST_LIST || kind == LIST_ITERATOR) {
            l->items[i] = p->key;
        } else if (kind == LIST_VALUES) {
            l->items[i] = p->value;
        } else {
            struct list *both = list_new(r, LIST_TUPLE, 2);
            if (!both)
                return NULL;
            both->items[0] = p->key;
            both->items[1] = p->value;
            l->items[i] = value_list(both);
        }
    }
    render_spend(r, d->n * 32);
    return l;
}

bool value_length(struct render *r, struct value v, int64_t *out)
{
    *out = 0;
    switch (v.kind) {
    case VALUE_UNDEFINED:
        return true;
    case VALUE_TEXT:
        *out = (int64_t)marked_count(r, v.text);
        return true;
    case VALUE_DICT:
        *out = (int64_t)v.dict->n;
        return true;
    case VALUE_LIST:
        *out = (int64_t)v.list->n;
        return v.list->kind != LIST_ITERATOR;
    case VALUE_LOOP:
        *out = (int64_t)v.loop->list->n;
        return true;
    default:
        return false;
    }
}

static struct list *characters(struct render *r, const struct marked *t)
{
    size_t n = marked_count(r, t), at = 0;
    struct list *l = list_new(r, LIST_LIST, n);
    for (size_t i = 0; l && i < n && !r->failed; i++) {
        size_t len = char_len(t->bytes + at, t->len - at);
        struct marked one = marked_part(t, at, at + len);
        one.safe = false;
        l->items[i] = value_text(r, one);
        at += len;
    }
    render_spend(r, n * 32);
    return r->failed ? NULL : l;
}

/* What is left of an iterator, which has nothing left then. */
static struct list *rest_of(struct render *r, struct list *l)
{
    struct list *rest = list_new(r, LIST_LIST, 0);
    if (rest) {
        rest->items = l->items + l->taken;
        rest->n = l->n - l->taken;
        l->taken = l->n;
    }
    return rest;
}

struct list *value_iterate(struct render *r, struct value v)
{
    switch (v.kind) {
    case VALUE_UNDEFINED:
        return list_new(r, LIST_LIST, 0);
    case VALUE_TEXT:
        return characters(r, v.text);
    case VALUE_LIST:
        return v.list->kind == LIST_ITERATOR ? rest_of(r, v.list) : v.list;
    case VALUE_DICT:
        return list_of_keys(r, v.dict, LIST_LIST);
    default:
        render_fail(r, ERR_INVALID, "'%s' object is not iterable", value_type(v));
        return NULL;
    }
}
