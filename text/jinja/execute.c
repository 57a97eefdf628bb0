/* execute: statements, loops apart. */
#include "text/jinja/render.h"

static void output(struct render *r, struct frame *f, const struct node *n)
{
    struct value v = evaluate(r, f, n->a);
    if (!r->failed)
        python_write(r->out, v);
}

struct value execute_captured(struct render *r, struct frame *f, const struct node_list *body)
{
    struct writer w, *before = r->out;
    writer_init(&w, r);
    r->out = &w;
    execute(r, f, body);
    r->out = before;
    return value_text(r, writer_done(&w));
}

/* A filter of a block has no expression before it: its innermost one takes the block's text. */
static struct value filter_block(struct render *r, struct frame *f, const struct node *filter, struct value text)
{
    struct args args;
    if (!filter)
        return text;
    if (!render_enter(r))
        return UNDEFINED;
    text = filter_block(r, f, filter->a, text);
    render_leave(r);
    if (!evaluate_args(r, f, filter->args, &args))
        return UNDEFINED;
    r->line = filter->line;
    if (!filter->row)
        return render_fail(r, ERR_INVALID, "No filter named '%.*s' found.", (int)filter->constant.text->len,
                           filter->constant.text->bytes);
    return call_builtin(r, filter->row, text, &args);
}

static void assign_space(struct render *r, struct frame *f, const struct node *target, struct value v)
{
    struct value space = frame_get(r, f, target->name);
    if (space.kind != VALUE_SPACE)
        render_fail(r, ERR_INVALID, "cannot assign attribute on non-namespace object");
    else
        dict_set(r, space.dict, target->constant, v);
}

static void assign_tuple(struct render *r, struct frame *f, const struct node *target, struct value v)
{
    const struct list *l = value_iterate(r, v);
    if (!l)
        return;
    if (l->n != target->list.n) {
        render_fail(r, ERR_INVALID, "%s values to unpack (expected %u)",
                    l->n > target->list.n ? "too many" : "not enough", target->list.n);
        return;
    }
    for (size_t i = 0; i < l->n && !r->failed; i++)
        assign(r, f, target->list.items[i], l->items[i]);
}

void assign(struct render *r, struct frame *f, const struct node *target, struct value v)
{
    if (r->failed)
        return;
    if (target->kind == NODE_NAME)
        frame_set(r, f, target->name, v);
    else if (target->kind == NODE_SPACE_MEMBER)
        assign_space(r, f, target, v);
    else
        assign_tuple(r, f, target, v);
}

static void execute_set_block(struct render *r, struct frame *f, const struct node *n)
{
    struct frame *inner = frame_new(r, f, &n->hidden);
    if (!inner)
        return;
    struct value text = execute_captured(r, inner, &n->list);
    if (n->b && !r->failed)
        text = filter_block(r, f, n->b, text);
    assign(r, f, n->a, text);
}

static void execute_filter_block(struct render *r, struct frame *f, const struct node *n)
{
    struct frame *inner = frame_new(r, f, &n->hidden);
    if (!inner)
        return;
    struct value v = execute_captured(r, inner, &n->list);
    if (!r->failed)
        v = filter_block(r, f, n->b, v);
    if (!r->failed)
        python_write(r->out, v);
}

static void execute_call_block(struct render *r, struct frame *f, const struct node *n)
{
    struct args args;
    struct value callee = evaluate(r, f, n->a->a), caller = macro_value(r, f, n->b);
    if (!evaluate_args(r, f, n->a->args, &args))
        return;
    struct named *named = render_array(r, args.n_named + 1, sizeof(*named));
    for (size_t i = 0; named && i < args.n_named; i++)
        named[i] = args.named[i];
    if (!named)
        return;
    named[args.n_named++] = (struct named){&r->template->caller->text, caller};
    args.named = named;
    r->line = n->line;
    struct value v = call_value(r, callee, &args);
    if (!r->failed)
        python_write(r->out, v);
}

static enum flow execute_with(struct render *r, struct frame *f, const struct node *n)
{
    struct frame *inner = frame_new(r, f, &n->hidden);
    for (uint32_t i = 0; inner && i < n->n_params; i++)
        assign(r, inner, n->params[i].target, evaluate(r, f, n->params[i].value));
    return inner ? execute(r, inner, &n->list) : FLOW_ON;
}

static enum flow execute_scope(struct render *r, struct frame *f, const struct node *n)
{
    struct frame *inner = frame_new(r, f, &n->hidden);
    return inner ? execute(r, inner, &n->list) : FLOW_ON;
}

static enum flow execute_node(struct render *r, struct frame *f, const struct node *n)
{
    struct value v;
    switch (n->kind) {
    case NODE_OUTPUT:
        output(r, f, n);
        return FLOW_ON;
    case NODE_FOR:
        return execute_for(r, f, n);
    case NODE_IF:
        v = evaluate(r, f, n->a);
        return r->failed ? FLOW_ON : execute(r, f, value_truth(r, v) ? &n->list : &n->other);
    case NODE_SET:
        v = evaluate(r, f, n->b);
        assign(r, f, n->a, v);
        return FLOW_ON;
    case NODE_SET_BLOCK:
        execute_set_block(r, f, n);
        return FLOW_ON;
    case NODE_MACRO:
        frame_set(r, f, n->name, macro_value(r, f, n));
        return FLOW_ON;
    case NODE_CALL_BLOCK:
        execute_call_block(r, f, n);
        return FLOW_ON;
    case NODE_FILTER_BLOCK:
        execute_filter_block(r, f, n);
        return FLOW_ON;
    case NODE_WITH:
        return execute_with(r, f, n);
    case NODE_SCOPE:
        return execute_scope(r, f, n);
    case NODE_BREAK:
        return FLOW_BREAK;
    case NODE_CONTINUE:
        return FLOW_CONTINUE;
    case NODE_REFUSE:
        render_fail(r, ERR_INVALID, "%.200s", n->constant.text->bytes);
        return FLOW_ON;
    default:
        render_fail(r, ERR_INTERNAL, "a value stands where a statement should");
        return FLOW_ON;
    }
}

enum flow execute(struct render *r, struct frame *f, const struct node_list *body)
{
    enum flow flow = FLOW_ON;
    if (!render_enter(r))
        return FLOW_ON;
    for (uint32_t i = 0; i < body->n && flow == FLOW_ON && !r->failed; i++) {
        render_spend(r, 0);
        r->line = body->items[i]->line;
        flow = execute_node(r, f, body->items[i]);
    }
    render_leave(r);
    return flow;
}
