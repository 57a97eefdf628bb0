/* call: macros, functions, methods, filters and tests, and how their arguments find their places. */
#include <string.h>

#include "text/jinja/render.h"

/* ---- rows ---- */

/* The place of the word `name` in `params`, or -1. */
static int place_of(const char *params, const struct marked *name)
{
    int place = 0;
    for (const char *at = params; *at; place++) {
        size_t n = strcspn(at, " ");
        if (n == name->len && memcmp(at, name->bytes, n) == 0)
            return place;
        at += n + strspn(at + n, " ");
    }
    return -1;
}

static int count_params(const char *params)
{
    int n = *params != 0;
    for (const char *at = params; *at; at++)
        n += *at == ' ';
    return n;
}

static bool bind(struct render *r, struct call *c)
{
    const struct builtin *row = c->row;
    int n_params = count_params(row->params);
    if (c->args->n > (size_t)n_params) {
        render_fail(r, ERR_INVALID, "%s takes at most %d arguments (%zu given)", row->name, n_params, c->args->n);
        return false;
    }
    for (size_t i = 0; i < c->args->n; i++)
        c->slot[i] = c->args->list[i];
    for (size_t i = 0; i < c->args->n_named; i++) {
        const struct named *a = &c->args->named[i];
        int place = place_of(row->params, a->name);
        if (place < 0 || value_is_given(c->slot[place])) {
            render_fail(r, ERR_INVALID, "%s got an unexpected keyword argument '%.*s'", row->name, (int)a->name->len,
                        a->name->bytes);
            return false;
        }
        c->slot[place] = a->value;
    }
    for (int i = 0; i < row->required; i++) {
        if (!value_is_given(c->slot[i])) {
            render_fail(r, ERR_INVALID, "%s misses %d required arguments", row->name, row->required);
            return false;
        }
    }
    return true;
}

struct value call_builtin(struct render *r, const struct builtin *row, struct value self, const struct args *args)
{
    struct call c = {.row = row, .self = self, .args = args};
    if (!render_enter(r))
        return UNDEFINED;
    struct value v = !row->params || bind(r, &c) ? row->fn(r, &c) : UNDEFINED;
    render_leave(r);
    return r->failed ? UNDEFINED : v;
}

bool arg_text(struct render *r, struct value v, struct marked *out)
{
    if (v.kind != VALUE_TEXT) {
        render_fail(r, ERR_INVALID, "expected a str, not %s", value_type(v));
        return false;
    }
    *out = *v.text;
    return true;
}

bool arg_int(struct render *r, struct value v, int64_t otherwise, int64_t *out)
{
    *out = otherwise;
    if (v.kind == VALUE_ABSENT)
        return true;
    if (v.kind != VALUE_INT && v.kind != VALUE_BOOL) {
        render_fail(r, ERR_INVALID, "'%s' object cannot be interpreted as an integer", value_type(v));
        return false;
    }
    *out = value_whole(v);
    return true;
}

bool arg_flag(struct render *r, struct value v, bool otherwise)
{
    return value_is_given(v) ? value_truth(r, v) : otherwise;
}

/* ---- macros ---- */

struct value macro_value(struct render *r, struct frame *f, const struct node *n)
{
    struct macro *m = render_alloc(r, sizeof(*m));
    if (!m)
        return UNDEFINED;
    *m = (struct macro){.node = n, .frame = f, .name = n->name ? n->name->text.bytes : "caller",
                        .wants_caller = n->wants_caller, .wants_varargs = n->wants_varargs,
                        .wants_kwargs = n->wants_kwargs};
    for (; f && !f->kept; f = f->parent)
        f->kept = true;
    return (struct value){.kind = VALUE_MACRO, .macro = m};
}

static bool is_param(const struct node *n, const struct marked *name)
{
    for (uint32_t i = 0; i < n->n_params; i++)
        if (marked_equal(&n->params[i].target->name->text, name))
            return true;
    return false;
}

static struct value *named_arg(const struct args *args, const struct marked *name)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (marked_equal(args->named[i].name, name))
            return &args->named[i].value;
    return NULL;
}

/* varargs, kwargs and caller; arguments that nothing takes are an error. */
static void bind_rest(struct render *r, struct frame *f, const struct macro *m, const struct args *args)
{
    const struct node *n = m->node;
    const struct jinja *t = r->template;
    size_t extra = args->n > n->n_params ? args->n - n->n_params : 0;
    struct list *rest = list_new(r, LIST_TUPLE, extra);
    struct dict *others = dict_new(r, args->n_named);
    if (!rest || !others)
        return;
    if (extra > 0)
        memcpy(rest->items, args->list + n->n_params, extra * sizeof(*rest->items));
    for (size_t i = 0; i < args->n_named; i++) {
        const struct marked *name = args->named[i].name;
        bool caller = marked_equal(name, &t->caller->text);
        if (!is_param(n, name) && !(caller && m->wants_caller))
            dict_set(r, others, (struct value){.kind = VALUE_TEXT, .text = name}, args->named[i].value);
    }
    if (extra > 0 && !m->wants_varargs)
        render_fail(r, ERR_INVALID, "macro '%.100s' takes not more than %u argument(s)", m->name, n->n_params);
    else if (others->n > 0 && !m->wants_kwargs)
        render_fail(r, ERR_INVALID, "macro '%.100s' takes no keyword argument '%.*s'", m->name,
                    (int)others->pairs[0].key.text->len, others->pairs[0].key.text->bytes);
    if (m->wants_varargs)
        frame_set(r, f, t->varargs, value_list(rest));
    if (m->wants_kwargs)
        frame_set(r, f, t->kwargs, value_dict(others));
    if (m->wants_caller && !is_param(n, &t->caller->text)) {
        const struct value *caller = named_arg(args, &t->caller->text);
        struct value key = {.kind = VALUE_TEXT, .text = &t->caller->text};
        frame_set(r, f, t->caller, caller ? *caller : value_missing(r, MISSING_NAME, "", key));
    }
}

static void bind_params(struct render *r, struct frame *f, const struct macro *m, const struct args *args)
{
    const struct node *n = m->node;
    for (uint32_t i = 0; i < n->n_params && !r->failed; i++) {
        const struct name *name = n->params[i].target->name;
        const struct value *given = i < args->n ? &args->list[i] : named_arg(args, &name->text);
        struct value v;
        if (i < args->n && named_arg(args, &name->text))
            render_fail(r, ERR_INVALID, "macro '%.100s' got two values for '%.*s'", m->name, (int)name->text.len,
                        name->text.bytes);
        if (given)
            v = *given;
        else if (n->params[i].value)
            v = evaluate(r, f, n->params[i].value);
        else
            v = value_missing(r, MISSING_ARGUMENT, "", (struct value){.kind = VALUE_TEXT, .text = &name->text});
        frame_set(r, f, name, v);
    }
}

struct value call_macro(struct render *r, const struct macro *m, const struct args *args)
{
    struct frame *f = frame_new(r, m->frame, &m->node->hidden);
    if (!f || !render_enter(r))
        return UNDEFINED;
    render_spend(r, args->n_named * m->node->n_params); /* every one is compared with every other */
    bind_rest(r, f, m, args);
    bind_params(r, f, m, args);
    struct value v = r->failed ? UNDEFINED : execute_captured(r, f, &m->node->list);
    render_leave(r);
    return v;
}

/* ---- anything ---- */

/* A cycler gives its next item when it is asked; a joiner its separator, but not the first time. */
static struct value call_joiner(struct render *r, struct value v)
{
    bool first = v.cycler->at == 0;
    v.cycler->at = 1;
    return first ? value_words(r, "") : v.cycler->list->items[0];
}

struct value call_value(struct render *r, struct value callee, const struct args *args)
{
    if (r->failed)
        return UNDEFINED;
    switch (callee.kind) {
    case VALUE_BUILTIN:
        return call_builtin(r, callee.bound->row, callee.bound->self, args);
    case VALUE_MACRO:
        return call_macro(r, callee.macro, args);
    case VALUE_LOOP:
        if (args->n != 1)
            return render_fail(r, ERR_INVALID, "loop() takes one argument");
        return loop_recurse(r, callee.loop, args->list[0]);
    case VALUE_JOINER:
        return call_joiner(r, callee);
    case VALUE_UNDEFINED:
        return value_fail_undefined(r, callee);
    default:
        return render_fail(r, ERR_INVALID, "'%s' object is not callable", value_type(callee));
    }
}
