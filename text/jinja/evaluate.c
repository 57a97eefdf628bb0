/* evaluate: expressions. One small function a node; evaluate() is the switch over them. */
#include "text/jinja/render.h"

static struct value eval_list(struct render *r, struct frame *f, const struct node *n)
{
    struct list *l = list_new(r, n->kind == NODE_TUPLE ? LIST_TUPLE : LIST_LIST, n->list.n);
    for (uint32_t i = 0; l && i < n->list.n; i++)
        l->items[i] = evaluate(r, f, n->list.items[i]);
    return l ? value_list(l) : UNDEFINED;
}

static struct value eval_dict(struct render *r, struct frame *f, const struct node *n)
{
    struct dict *d = dict_new(r, n->list.n / 2);
    for (uint32_t i = 0; d && i + 1 < n->list.n && !r->failed; i += 2) {
        struct value key = evaluate(r, f, n->list.items[i]);
        dict_set(r, d, key, evaluate(r, f, n->list.items[i + 1]));
    }
    return d ? value_dict(d) : UNDEFINED;
}

static bool compare(struct render *r, enum operator op, struct value a, struct value b)
{
    int order = 0;
    switch (op) {
    case OP_EQ:
    case OP_NE:
        return value_equal(r, a, b) == (op == OP_EQ);
    case OP_IN:
    case OP_NOT_IN:
        return operate_in(r, a, b) == (op == OP_IN);
    default:
        break;
    }
    if (!value_order(r, a, b, &order))
        return false;
    if (op == OP_LT || op == OP_LE)
        return op == OP_LT ? order < 0 : order <= 0;
    return op == OP_GT ? order > 0 : order >= 0;
}

/* a < b < c: b is evaluated once, and c only where a < b. */
static struct value eval_compare(struct render *r, struct frame *f, const struct node *n)
{
    struct value left = evaluate(r, f, n->a);
    for (uint32_t i = 0; i < n->list.n && !r->failed; i++) {
        const struct node *operand = n->list.items[i];
        struct value right = evaluate(r, f, operand->a);
        if (r->failed || !compare(r, operand->op, left, right))
            return value_bool(false);
        left = right;
    }
    return value_bool(true);
}

static struct value eval_concat(struct render *r, struct frame *f, const struct node *n)
{
    struct marked text = {.bytes = ""};
    for (uint32_t i = 0; i < n->list.n && !r->failed; i++) {
        struct marked next = python_str(r, evaluate(r, f, n->list.items[i]));
        text = marked_join(r, &text, &next);
    }
    text.safe = false;
    return value_text(r, text);
}

static struct value eval_choice(struct render *r, struct frame *f, const struct node *n)
{
    if (value_truth(r, evaluate(r, f, n->b)))
        return evaluate(r, f, n->a);
    if (n->c)
        return evaluate(r, f, n->c);
    return value_missing(r, MISSING_OTHER, "", NONE);
}

static struct value eval_slice(struct render *r, struct frame *f, const struct node *n)
{
    struct value of = evaluate(r, f, n->a), part[3];
    for (uint32_t i = 0; i < 3; i++)
        part[i] = n->list.items[i] ? evaluate(r, f, n->list.items[i]) : NONE;
    return r->failed ? UNDEFINED : slice_get(r, of, part[0], part[1], part[2]);
}

static struct value eval_call(struct render *r, struct frame *f, const struct node *n)
{
    struct args args;
    struct value callee = evaluate(r, f, n->a);
    if (!evaluate_args(r, f, n->args, &args))
        return UNDEFINED;
    r->line = n->line;
    return call_value(r, callee, &args);
}

static struct value eval_builtin(struct render *r, struct frame *f, const struct node *n)
{
    struct args args;
    struct value self = evaluate(r, f, n->a);
    if (!evaluate_args(r, f, n->args, &args))
        return UNDEFINED;
    r->line = n->line;
    if (!n->row)
        return render_fail(r, ERR_INVALID, "No %s named '%.*s' found.", n->kind == NODE_TEST ? "test" : "filter",
                           (int)n->constant.text->len, n->constant.text->bytes);
    return call_builtin(r, n->row, self, &args);
}

static struct value eval_node(struct render *r, struct frame *f, const struct node *n)
{
    struct value v;
    switch (n->kind) {
    case NODE_CONST:
        return n->constant;
    case NODE_NAME:
        return frame_get(r, f, n->name);
    case NODE_LIST:
    case NODE_TUPLE:
        return eval_list(r, f, n);
    case NODE_DICT:
        return eval_dict(r, f, n);
    case NODE_UNARY:
        v = evaluate(r, f, n->a);
        return operate(r, n->op, v, v);
    case NODE_BINARY:
        v = evaluate(r, f, n->a);
        return operate(r, n->op, v, evaluate(r, f, n->b));
    case NODE_AND:
        v = evaluate(r, f, n->a);
        return value_truth(r, v) ? evaluate(r, f, n->b) : v;
    case NODE_OR:
        v = evaluate(r, f, n->a);
        return value_truth(r, v) ? v : evaluate(r, f, n->b);
    case NODE_NOT:
        return value_bool(!value_truth(r, evaluate(r, f, n->a)));
    case NODE_COMPARE:
        return eval_compare(r, f, n);
    case NODE_CONCAT:
        return eval_concat(r, f, n);
    case NODE_IF_ELSE:
        return eval_choice(r, f, n);
    case NODE_MEMBER:
        v = evaluate(r, f, n->a);
        r->line = n->line;
        return member_get(r, v, n->constant);
    case NODE_ITEM:
        v = evaluate(r, f, n->a);
        return item_get(r, v, evaluate(r, f, n->b));
    case NODE_SLICE:
        return eval_slice(r, f, n);
    case NODE_CALL:
        return eval_call(r, f, n);
    case NODE_FILTER:
    case NODE_TEST:
        return eval_builtin(r, f, n);
    default:
        return render_fail(r, ERR_INTERNAL, "a statement stands where a value should");
    }
}

struct value evaluate(struct render *r, struct frame *f, const struct node *n)
{
    if (!render_enter(r))
        return UNDEFINED;
    r->line = n->line;
    struct value v = eval_node(r, f, n);
    render_leave(r);
    return r->failed ? UNDEFINED : v;
}

/* ---- arguments ---- */

static bool add_star(struct render *r, struct args *out, size_t *cap, struct value v)
{
    struct list *l = value_iterate(r, v), grown = {.items = out->list, .n = out->n};
    for (size_t i = 0; l && i < l->n; i++)
        if (!list_push(r, &grown, cap, l->items[i]))
            return false;
    out->list = grown.items;
    out->n = grown.n;
    return !r->failed;
}

static bool add_stars(struct render *r, struct args *out, struct value v)
{
    if (v.kind != VALUE_DICT) {
        render_fail(r, ERR_INVALID, "argument after ** must be a mapping, not %s", value_type(v));
        return false;
    }
    struct named *named = render_array(r, out->n_named + v.dict->n, sizeof(*named));
    for (size_t i = 0; named && i < out->n_named; i++)
        named[i] = out->named[i];
    for (size_t i = 0; named && i < v.dict->n; i++) {
        if (v.dict->pairs[i].key.kind != VALUE_TEXT) {
            render_fail(r, ERR_INVALID, "keywords must be strings");
            return false;
        }
        named[out->n_named + i] = (struct named){v.dict->pairs[i].key.text, v.dict->pairs[i].value};
    }
    out->named = named;
    out->n_named += v.dict->n;
    return !r->failed;
}

bool evaluate_args(struct render *r, struct frame *f, const struct node_args *a, struct args *out)
{
    *out = (struct args){0};
    if (!a || r->failed)
        return !r->failed;
    size_t cap = a->list.n;
    out->n = a->list.n;
    out->n_named = a->named.n;
    out->list = out->n > 0 ? render_array(r, out->n, sizeof(*out->list)) : NULL;
    out->named = out->n_named > 0 ? render_array(r, out->n_named, sizeof(*out->named)) : NULL;
    for (size_t i = 0; i < out->n && !r->failed; i++)
        out->list[i] = evaluate(r, f, a->list.items[i]);
    for (size_t i = 0; i < out->n_named && !r->failed; i++)
        out->named[i] = (struct named){a->names[i], evaluate(r, f, a->named.items[i])};
    if (a->star && !r->failed && !add_star(r, out, &cap, evaluate(r, f, a->star)))
        return false;
    if (a->stars && !r->failed && !add_stars(r, out, evaluate(r, f, a->stars)))
        return false;
    return !r->failed;
}
