/* scopes: which names are hidden at the beginning of a scope.
 *
 * Jinja2 decides what a name means when it compiles a template: where the first
 * mention of a name in a scope is an assignment that always happens, and no
 * scope around mentions it, the name means the scope's own variable from the
 * scope's beginning on, undefined until it is assigned, also for scopes inside.
 * Only that has to be known when rendering: everything else comes of looking
 * from the inner scope to the outer.                                         */
#include "text/jinja/parser.h"

struct scoping {
    struct parser *p;
    struct name **seen; /* names that this scope and those around mention; seen is set in them */
    size_t n_seen, cap;
    uint32_t depth;
};

/* ---- one scope ---- */

static void mention(struct scoping *s, struct name_list *hidden, const struct name *name, bool hides)
{
    struct name *n = (struct name *)(uintptr_t)name;
    if (!n || n->seen || s->p->status != 0)
        return;
    if (s->n_seen == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        struct name **seen = parser_alloc(s->p, cap * sizeof(struct name *));
        if (!seen)
            return;
        for (size_t i = 0; i < s->n_seen; i++)
            seen[i] = s->seen[i];
        s->seen = seen;
        s->cap = cap;
    }
    n->seen = true;
    s->seen[s->n_seen++] = n;
    if (hides && hidden)
        parser_push_name(s->p, hidden, name);
}

static void expression(struct scoping *s, struct name_list *hidden, const struct node *n);

static void expressions(struct scoping *s, struct name_list *hidden, const struct node_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        expression(s, hidden, l->items[i]);
}

static void expression(struct scoping *s, struct name_list *hidden, const struct node *n)
{
    if (!n || s->p->status != 0)
        return;
    if (++s->depth > JINJA_DEPTH_MAX)
        parser_fail(s->p, "the template nests deeper than %d", JINJA_DEPTH_MAX);
    if (n->kind == NODE_NAME)
        mention(s, hidden, n->name, false);
    expression(s, hidden, n->a);
    expression(s, hidden, n->b);
    expression(s, hidden, n->c);
    expressions(s, hidden, &n->list);
    if (n->args) {
        expressions(s, hidden, &n->args->list);
        expressions(s, hidden, &n->args->named);
        expression(s, hidden, n->args->star);
        expression(s, hidden, n->args->stars);
    }
    s->depth--;
}

static void target(struct scoping *s, struct name_list *hidden, const struct node *n, bool hides)
{
    if (n->kind == NODE_TUPLE)
        for (uint32_t i = 0; i < n->list.n; i++)
            target(s, hidden, n->list.items[i], hides);
    else
        mention(s, hidden, n->name, hides && n->kind == NODE_NAME);
}

/* What a statement mentions in the scope that it stands in; `always`: it is in no branch. */
static void statement(struct scoping *s, struct name_list *hidden, const struct node *n, bool always)
{
    switch (n->kind) {
    case NODE_OUTPUT:
        expression(s, hidden, n->a);
        break;
    case NODE_FOR:
        expression(s, hidden, n->b);
        break;
    case NODE_IF:
        expression(s, hidden, n->a);
        for (uint32_t i = 0; i < n->list.n; i++)
            statement(s, hidden, n->list.items[i], false);
        for (uint32_t i = 0; i < n->other.n; i++)
            statement(s, hidden, n->other.items[i], false);
        break;
    case NODE_SET:
        expression(s, hidden, n->b);
        target(s, hidden, n->a, always);
        break;
    case NODE_SET_BLOCK:
        target(s, hidden, n->a, always);
        break;
    case NODE_MACRO:
        mention(s, hidden, n->name, always);
        break;
    case NODE_CALL_BLOCK:
        expression(s, hidden, n->a);
        break;
    case NODE_FILTER_BLOCK:
        expression(s, hidden, n->b);
        break;
    case NODE_WITH:
        for (uint32_t i = 0; i < n->n_params; i++)
            expression(s, hidden, n->params[i].value);
        break;
    default:
        break;
    }
}

/* ---- scopes within ---- */

static void within(struct scoping *s, const struct node_list *body);

/* A body that is a scope; `of`: whose parameters or targets it has. */
static void inner(struct scoping *s, const struct node *of, const struct node_list *body, struct name_list *hidden)
{
    size_t before = s->n_seen;
    if (of->kind == NODE_FOR)
        target(s, NULL, of->a, false);
    for (uint32_t i = 0; (of->kind == NODE_MACRO || of->kind == NODE_WITH) && i < of->n_params; i++) {
        target(s, NULL, of->params[i].target, false);
        if (of->kind == NODE_MACRO)
            expression(s, hidden, of->params[i].value);
    }
    for (uint32_t i = 0; i < body->n; i++)
        statement(s, hidden, body->items[i], true);
    within(s, body);
    while (s->n_seen > before)
        s->seen[--s->n_seen]->seen = false;
}

static void within(struct scoping *s, const struct node_list *body)
{
    for (uint32_t i = 0; i < body->n && s->p->status == 0; i++) {
        struct node *n = (struct node *)(uintptr_t)body->items[i];
        switch (n->kind) {
        case NODE_IF:
            within(s, &n->list);
            within(s, &n->other);
            break;
        case NODE_FOR:
            inner(s, n, &n->list, &n->hidden);
            inner(s, &(struct node){.kind = NODE_SCOPE}, &n->other, &n->other_hidden);
            break;
        case NODE_CALL_BLOCK:
            n = (struct node *)(uintptr_t)n->b;
            inner(s, n, &n->list, &n->hidden);
            break;
        case NODE_MACRO:
        case NODE_SET_BLOCK:
        case NODE_FILTER_BLOCK:
        case NODE_WITH:
        case NODE_SCOPE:
            inner(s, n, &n->list, &n->hidden);
            break;
        default:
            break;
        }
    }
}

void parser_find_hidden(struct parser *p)
{
    struct scoping s = {.p = p};
    inner(&s, &(struct node){.kind = NODE_SCOPE}, &p->out->body, &p->out->hidden);
}
