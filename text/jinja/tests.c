/* tests: what may stand after `is`, and in select() and its like. */
#include "text/jinja/texts.h"

static struct value test_kind(struct render *r, const struct call *c)
{
    (void)r;
    return value_bool(c->self.kind == (enum value_kind)c->row->mode);
}

static struct value test_defined(struct render *r, const struct call *c)
{
    (void)r;
    return value_bool(c->self.kind != VALUE_UNDEFINED);
}

static struct value test_truth(struct render *r, const struct call *c)
{
    (void)r;
    return value_bool(c->self.kind == VALUE_BOOL && c->self.truth == (c->row->mode != 0));
}

static struct value test_number(struct render *r, const struct call *c)
{
    (void)r;
    return value_bool(value_is_number(c->self));
}

static bool is_list(struct value v, enum list_kind kind)
{
    return v.kind == VALUE_LIST && v.list->kind == kind;
}

static struct value test_sequence(struct render *r, const struct call *c)
{
    (void)r;
    struct value v = c->self;
    return value_bool(v.kind == VALUE_TEXT || v.kind == VALUE_DICT || v.kind == VALUE_UNDEFINED ||
                      is_list(v, LIST_LIST) || is_list(v, LIST_TUPLE) || is_list(v, LIST_RANGE) ||
                      is_list(v, LIST_GROUP));
}

static struct value test_iterable(struct render *r, const struct call *c)
{
    (void)r;
    struct value v = c->self;
    return value_bool(v.kind == VALUE_TEXT || v.kind == VALUE_DICT || v.kind == VALUE_UNDEFINED ||
                      v.kind == VALUE_LIST || v.kind == VALUE_LOOP);
}

static struct value test_callable(struct render *r, const struct call *c)
{
    (void)r;
    enum value_kind k = c->self.kind;
    return value_bool(k == VALUE_MACRO || k == VALUE_BUILTIN || k == VALUE_LOOP || k == VALUE_JOINER ||
                      k == VALUE_UNDEFINED);
}

static struct value test_remainder(struct render *r, const struct call *c)
{
    struct value by = value_is_given(c->slot[0]) ? c->slot[0] : value_int(2);
    struct value rest = operate(r, OP_MOD, c->self, by);
    return value_bool(value_equal(r, rest, value_int(c->row->mode)));
}

static struct value test_case(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self);
    struct call method = {.self = value_text(r, t)};
    struct args none = {0};
    method.row = c->row->mode == CASE_UPPER ? text_method_find("isupper", 7) : text_method_find("islower", 7);
    return r->failed ? UNDEFINED : call_builtin(r, method.row, method.self, &none);
}

static struct value test_in(struct render *r, const struct call *c)
{
    return value_bool(operate_in(r, c->self, c->slot[0]));
}

static struct value test_equal(struct render *r, const struct call *c)
{
    return value_bool(value_equal(r, c->self, c->slot[0]) == (c->row->mode == OP_EQ));
}

static struct value test_order(struct render *r, const struct call *c)
{
    int order;
    if (!value_order(r, c->self, c->slot[0], &order))
        return UNDEFINED;
    switch (c->row->mode) {
    case OP_LT:
        return value_bool(order < 0);
    case OP_LE:
        return value_bool(order <= 0);
    case OP_GT:
        return value_bool(order > 0);
    default:
        return value_bool(order >= 0);
    }
}

/* The same object: of small values, the same value of the same type. */
static struct value test_same(struct render *r, const struct call *c)
{
    struct value a = c->self, b = c->slot[0];
    if (a.kind != b.kind)
        return value_bool(false);
    if (a.kind == VALUE_LIST || a.kind == VALUE_DICT || a.kind == VALUE_SPACE || a.kind == VALUE_MACRO)
        return value_bool(a.dict == b.dict);
    return value_bool(value_equal(r, a, b));
}

static struct value test_escaped(struct render *r, const struct call *c)
{
    (void)r;
    return value_bool(c->self.kind == VALUE_TEXT && c->self.text->safe);
}

static struct value test_known(struct render *r, const struct call *c)
{
    struct marked name;
    if (c->self.kind != VALUE_TEXT)
        return value_bool(false);
    (void)r;
    name = *c->self.text;
    return value_bool((c->row->mode ? filter_find : test_find)(name.bytes, name.len) != NULL);
}

static const struct builtin tests[] = {
    {"defined", "", 0, test_defined, 0},
    {"undefined", "", 0, test_kind, VALUE_UNDEFINED},
    {"none", "", 0, test_kind, VALUE_NONE},
    {"boolean", "", 0, test_kind, VALUE_BOOL},
    {"integer", "", 0, test_kind, VALUE_INT},
    {"float", "", 0, test_kind, VALUE_FLOAT},
    {"string", "", 0, test_kind, VALUE_TEXT},
    {"mapping", "", 0, test_kind, VALUE_DICT},
    {"true", "", 0, test_truth, 1},
    {"false", "", 0, test_truth, 0},
    {"number", "", 0, test_number, 0},
    {"sequence", "", 0, test_sequence, 0},
    {"iterable", "", 0, test_iterable, 0},
    {"callable", "", 0, test_callable, 0},
    {"odd", "", 0, test_remainder, 1},
    {"even", "", 0, test_remainder, 0},
    {"divisibleby", "num", 1, test_remainder, 0},
    {"lower", "", 0, test_case, CASE_LOWER},
    {"upper", "", 0, test_case, CASE_UPPER},
    {"in", "seq", 1, test_in, 0},
    {"eq", "other", 1, test_equal, OP_EQ},
    {"==", "other", 1, test_equal, OP_EQ},
    {"equalto", "other", 1, test_equal, OP_EQ},
    {"ne", "other", 1, test_equal, OP_NE},
    {"!=", "other", 1, test_equal, OP_NE},
    {"lt", "other", 1, test_order, OP_LT},
    {"<", "other", 1, test_order, OP_LT},
    {"lessthan", "other", 1, test_order, OP_LT},
    {"le", "other", 1, test_order, OP_LE},
    {"<=", "other", 1, test_order, OP_LE},
    {"gt", "other", 1, test_order, OP_GT},
    {">", "other", 1, test_order, OP_GT},
    {"greaterthan", "other", 1, test_order, OP_GT},
    {"ge", "other", 1, test_order, OP_GE},
    {">=", "other", 1, test_order, OP_GE},
    {"sameas", "other", 1, test_same, 0},
    {"escaped", "", 0, test_escaped, 0},
    {"filter", "", 0, test_known, 1},
    {"test", "", 0, test_known, 0},
};

const struct builtin *test_find(const char *name, size_t len)
{
    return builtin_find(tests, COUNTOF(tests), name, len);
}
