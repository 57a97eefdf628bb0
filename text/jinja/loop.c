/* loop: for, and what `loop` says inside of it.  Each round has a scope of its own. */
#include <string.h>

#include "text/jinja/render.h"

/* Those of the items for which the loop's condition holds, in a scope of the target. */
static struct list *filtered(struct render *r, struct frame *f, const struct node *n, struct list *items)
{
    struct list *kept = list_new(r, LIST_LIST, 0);
    size_t cap = 0;
    for (size_t i = 0; kept && i < items->n && !r->failed; i++) {
        struct frame *scope = frame_new(r, f, NULL);
        struct value item = items->items[i]; /* the condition may take it out of the list */
        if (!scope)
            return NULL;
        assign(r, scope, n->a, item);
        if (!r->failed && value_truth(r, evaluate(r, scope, n->c)))
            list_push(r, kept, &cap, item);
    }
    return r->failed ? NULL : kept;
}

/* Was a round gone through to its end? As in Jinja2, a loop of which every round was cut short has its else. */
static bool run_rounds(struct render *r, struct frame *f, const struct node *n, struct loop *l)
{
    struct frame *scope = NULL;
    bool whole = false;
    for (l->index = 0; l->index < l->list->n && !r->failed; l->index++) {
        if (!scope || scope->kept)
            scope = frame_new(r, f, NULL);
        if (!scope)
            break;
        scope->n = 0;
        frame_hide(r, scope, &n->hidden);
        frame_set(r, scope, r->template->loop, (struct value){.kind = VALUE_LOOP, .loop = l});
        assign(r, scope, n->a, l->list->items[l->index]);
        enum flow flow = r->failed ? FLOW_BREAK : execute(r, scope, &n->list);
        whole = whole || flow == FLOW_ON;
        if (flow == FLOW_BREAK)
            break;
    }
    return whole;
}

static enum flow run_loop(struct render *r, struct frame *f, const struct node *n, struct value iterable,
                          uint32_t depth)
{
    struct list *items = value_iterate(r, iterable);
    struct loop *l = render_alloc(r, sizeof(*l));
    if (items && n->c)
        items = filtered(r, f, n, items);
    if (!items || !l)
        return FLOW_ON;
    *l = (struct loop){.list = items, .depth = depth, .node = n->flag ? n : NULL, .frame = f};
    if (run_rounds(r, f, n, l) || n->other.n == 0 || r->failed)
        return FLOW_ON;
    struct frame *scope = frame_new(r, f, &n->other_hidden);
    return scope ? execute(r, scope, &n->other) : FLOW_ON;
}

enum flow execute_for(struct render *r, struct frame *f, const struct node *n)
{
    struct value iterable = evaluate(r, f, n->b);
    return r->failed ? FLOW_ON : run_loop(r, f, n, iterable, 0);
}

struct value loop_recurse(struct render *r, struct loop *outer, struct value iterable)
{
    struct writer w, *before = r->out;
    if (!outer->node)
        return render_fail(r, ERR_INVALID, "The loop must have the 'recursive' marker to be called recursively.");
    if (!render_enter(r))
        return UNDEFINED;
    writer_init(&w, r);
    r->out = &w;
    run_loop(r, outer->frame, outer->node, iterable, outer->depth + 1);
    r->out = before;
    render_leave(r);
    return value_text(r, writer_done(&w));
}

/* ---- members ---- */

static struct value loop_cycle(struct render *r, const struct call *c)
{
    const struct loop *l = c->self.loop;
    if (c->args->n == 0)
        return render_fail(r, ERR_INVALID, "no items for cycling given");
    return c->args->list[l->index % c->args->n];
}

static struct value loop_changed(struct render *r, const struct call *c)
{
    struct loop *l = c->self.loop;
    struct list *now = list_new(r, LIST_TUPLE, c->args->n);
    if (!now)
        return UNDEFINED;
    if (c->args->n > 0)
        memcpy(now->items, c->args->list, c->args->n * sizeof(*now->items));
    if (value_is_given(l->changed) && value_equal(r, l->changed, value_list(now)))
        return value_bool(false);
    l->changed = value_list(now);
    return value_bool(true);
}

static const struct builtin methods[] = {
    {"cycle", NULL, 0, loop_cycle, 0},
    {"changed", NULL, 0, loop_changed, 0},
};

/* The list may have become shorter in this round. */
static struct value neighbour(struct render *r, const struct loop *l, bool next)
{
    size_t at = next ? l->index + 1 : l->index - 1; /* before the first: past any end */
    return at < l->list->n ? l->list->items[at] : value_missing(r, MISSING_OTHER, "", NONE);
}

struct value loop_member(struct render *r, struct loop *l, const struct marked *name, bool *found)
{
    int64_t n = (int64_t)l->list->n, at = (int64_t)l->index;
    const struct {
        const char *name;
        struct value value;
    } members[] = {
        {"index", value_int(at + 1)},         {"index0", value_int(at)},
        {"revindex", value_int(n - at)},      {"revindex0", value_int(n - at - 1)},
        {"first", value_bool(at == 0)},       {"last", value_bool(at + 1 == n)},
        {"length", value_int(n)},             {"depth", value_int(l->depth + 1)},
        {"depth0", value_int(l->depth)},
    };
    *found = true;
    for (size_t i = 0; i < COUNTOF(members); i++)
        if (marked_is(name, members[i].name))
            return members[i].value;
    if (marked_is(name, "previtem") || marked_is(name, "nextitem"))
        return neighbour(r, l, marked_is(name, "nextitem"));
    for (size_t i = 0; i < COUNTOF(methods); i++) {
        struct bound *b = marked_is(name, methods[i].name) ? render_alloc(r, sizeof(*b)) : NULL;
        if (b) {
            *b = (struct bound){&methods[i], {.kind = VALUE_LOOP, .loop = l}};
            return (struct value){.kind = VALUE_BUILTIN, .bound = b};
        }
    }
    *found = false;
    return UNDEFINED;
}
