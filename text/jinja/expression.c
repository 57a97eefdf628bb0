/* expression: Jinja's grammar of expressions, a function a level of precedence. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja/parser.h"
#include "text/jinja/render.h"
#include "text/jinja/texts.h"

static const struct node *parse_unary(struct parser *p, bool filters);

static struct node *node_of(struct parser *p, enum node_kind kind, const struct node *a, const struct node *b)
{
    struct node *n = parser_node(p, kind);
    if (n) {
        n->a = a;
        n->b = b;
    }
    return n;
}

/* ---- literals ---- */

static struct node *constant(struct parser *p, struct value v)
{
    struct node *n = parser_node(p, NODE_CONST);
    if (n)
        n->constant = v;
    return n;
}

static const struct node *parse_number(struct parser *p, bool whole)
{
    const struct marked *t = &parser_token(p)->text;
    int64_t i = 0;
    double d = 0;
    bool good = whole ? text_to_int(t, 0, &i) : text_to_float(t, &d);
    if (!good)
        return parser_fail(p, "a number that is too large");
    const struct node *n = constant(p, whole ? value_int(i) : value_float(d));
    parser_next(p);
    return n;
}

/* Strings beside each other are one. */
static const struct node *parse_string(struct parser *p)
{
    size_t len = 0, n = 0, at = 0;
    while (parser_look(p, n)->kind == TOKEN_STRING)
        len += parser_look(p, n++)->text.len;
    if (n == 1) {
        struct node *one = constant(p, parser_text(p, parser_token(p)->text));
        parser_next(p);
        return one;
    }
    char *text = parser_alloc(p, len + 1);
    for (; text && n > 0; n--) {
        const struct marked *part = &parser_token(p)->text;
        memcpy(text + at, part->bytes, part->len);
        at += part->len;
        parser_next(p);
    }
    return text ? constant(p, parser_text(p, marked_own(text, len))) : NULL;
}

static const struct node *parse_list(struct parser *p)
{
    struct node *n = parser_node(p, NODE_LIST);
    parser_expect(p, TOKEN_OPERATOR, "[");
    while (n && p->status == 0 && !parser_is(p, TOKEN_OPERATOR, "]")) {
        if (n->list.n > 0)
            parser_expect(p, TOKEN_OPERATOR, ",");
        if (parser_is(p, TOKEN_OPERATOR, "]"))
            break;
        parser_push(p, &n->list, parse_expression(p));
    }
    parser_expect(p, TOKEN_OPERATOR, "]");
    return n;
}

static const struct node *parse_dict(struct parser *p)
{
    struct node *n = parser_node(p, NODE_DICT);
    parser_expect(p, TOKEN_OPERATOR, "{");
    while (n && p->status == 0 && !parser_is(p, TOKEN_OPERATOR, "}")) {
        if (n->list.n > 0)
            parser_expect(p, TOKEN_OPERATOR, ",");
        if (parser_is(p, TOKEN_OPERATOR, "}"))
            break;
        parser_push(p, &n->list, parse_expression(p));
        parser_expect(p, TOKEN_OPERATOR, ":");
        parser_push(p, &n->list, parse_expression(p));
    }
    parser_expect(p, TOKEN_OPERATOR, "}");
    return n;
}

/* A macro that mentions one of these gets it. */
static void note_name(struct parser *p, const struct name *name)
{
    const struct jinja *t = p->out;
    if (!p->macro)
        return;
    p->macro->wants_caller = p->macro->wants_caller || name == t->caller;
    p->macro->wants_varargs = p->macro->wants_varargs || name == t->varargs;
    p->macro->wants_kwargs = p->macro->wants_kwargs || name == t->kwargs;
}

static const struct node *parse_name(struct parser *p)
{
    static const struct {
        const char *name;
        struct value value;
    } words[] = {
        {"true", {.kind = VALUE_BOOL, .truth = true}},   {"True", {.kind = VALUE_BOOL, .truth = true}},
        {"false", {.kind = VALUE_BOOL, .truth = false}}, {"False", {.kind = VALUE_BOOL, .truth = false}},
        {"none", {.kind = VALUE_NONE}},                  {"None", {.kind = VALUE_NONE}},
    };
    struct node *n = parser_node(p, NODE_NAME);
    const struct marked *text = &parser_token(p)->text;
    for (size_t i = 0; n && i < COUNTOF(words); i++) {
        if (marked_is(text, words[i].name)) {
            n->kind = NODE_CONST;
            n->constant = words[i].value;
        }
    }
    if (n && n->kind == NODE_NAME) {
        n->name = parser_name(p, text);
        note_name(p, n->name);
    }
    parser_next(p);
    return n;
}

static const struct node *parse_parentheses(struct parser *p)
{
    struct node *empty = parser_node(p, NODE_TUPLE);
    parser_expect(p, TOKEN_OPERATOR, "(");
    if (parser_skip(p, TOKEN_OPERATOR, ")"))
        return empty;
    const struct node *n = parse_tuple(p, true, NULL);
    parser_expect(p, TOKEN_OPERATOR, ")");
    return n;
}

static const struct node *parse_primary(struct parser *p)
{
    const struct token *t = parser_token(p);
    switch (t->kind) {
    case TOKEN_NAME:
        return parse_name(p);
    case TOKEN_STRING:
        return parse_string(p);
    case TOKEN_INT:
    case TOKEN_FLOAT:
        return parse_number(p, t->kind == TOKEN_INT);
    default:
        break;
    }
    if (parser_is(p, TOKEN_OPERATOR, "("))
        return parse_parentheses(p);
    if (parser_is(p, TOKEN_OPERATOR, "["))
        return parse_list(p);
    if (parser_is(p, TOKEN_OPERATOR, "{"))
        return parse_dict(p);
    return parser_fail(p, "unexpected '%.*s'", t->text.len < 60 ? (int)t->text.len : 60, t->text.bytes);
}

/* ---- what stands after a value ---- */

static const struct node *parse_member(struct parser *p, const struct node *a)
{
    struct node *n = node_of(p, NODE_MEMBER, a, NULL);
    parser_next(p);
    if (n && parser_is(p, TOKEN_INT, NULL)) {
        n->kind = NODE_ITEM;
        n->b = parse_number(p, true);
        return n;
    }
    if (n)
        n->constant = parser_text(p, parser_token(p)->text);
    parser_expect(p, TOKEN_NAME, NULL);
    return n;
}

/* What stands between brackets: an expression, or from:to:step. */
static const struct node *parse_subscript(struct parser *p, const struct node *a)
{
    struct node *n = node_of(p, NODE_ITEM, a, NULL);
    const struct node *part[3] = {NULL, NULL, NULL};
    int colons = 0;
    parser_next(p);
    while (n && p->status == 0 && !parser_is(p, TOKEN_OPERATOR, "]") && !parser_is(p, TOKEN_OPERATOR, ",")) {
        if (parser_skip(p, TOKEN_OPERATOR, ":"))
            colons++;
        else if (part[colons])
            break;
        else
            part[colons] = parse_expression(p);
        if (colons > 2)
            return parser_fail(p, "a slice has at most two colons");
    }
    if (!n || (colons == 0 && !part[0]))
        return parser_fail(p, "expected subscript expression");
    if (colons == 0) {
        n->b = part[0];
        if (parser_is(p, TOKEN_OPERATOR, ",")) {
            struct node *tuple = parser_node(p, NODE_TUPLE);
            if (!tuple)
                return NULL;
            parser_push(p, &tuple->list, part[0]);
            while (parser_skip(p, TOKEN_OPERATOR, ","))
                parser_push(p, &tuple->list, parse_expression(p));
            n->b = tuple;
        }
    } else {
        n->kind = NODE_SLICE;
        for (int i = 0; i < 3; i++)
            parser_push(p, &n->list, part[i]);
    }
    parser_expect(p, TOKEN_OPERATOR, "]");
    return n;
}

static void parse_named(struct parser *p, struct node_args *args)
{
    const struct marked **names = parser_alloc(p, (args->named.n + 1) * sizeof(const struct marked *));
    struct marked *name = parser_alloc(p, sizeof(*name));
    if (!names || !name)
        return;
    for (uint32_t i = 0; i < args->named.n; i++) {
        names[i] = args->names[i];
        if (marked_equal(names[i], &parser_token(p)->text))
            parser_fail(p, "keyword argument repeated");
    }
    *name = parser_token(p)->text;
    names[args->named.n] = name;
    args->names = names;
    parser_next(p);
    parser_next(p);
    parser_push(p, &args->named, parse_expression(p));
    if (args->named.n > 255)
        parser_fail(p, "more than 255 named arguments");
}

static void parse_arg(struct parser *p, struct node_args *args)
{
    bool named = parser_is(p, TOKEN_NAME, NULL) && parser_look(p, 1)->kind == TOKEN_OPERATOR &&
                 marked_is(&parser_look(p, 1)->text, "=");
    if (parser_is(p, TOKEN_OPERATOR, "*") && !args->star && !args->stars) {
        parser_next(p);
        args->star = parse_expression(p);
    } else if (parser_is(p, TOKEN_OPERATOR, "**") && !args->stars) {
        parser_next(p);
        args->stars = parse_expression(p);
    } else if (named && !args->stars) {
        parse_named(p, args);
    } else if (args->named.n > 0 || args->star || args->stars) {
        parser_fail(p, "invalid syntax for function call expression");
    } else {
        parser_push(p, &args->list, parse_expression(p));
    }
}

static const struct node_args *parse_args(struct parser *p)
{
    struct node_args *args = parser_alloc(p, sizeof(*args));
    bool first = true;
    parser_expect(p, TOKEN_OPERATOR, "(");
    while (args && p->status == 0 && !parser_is(p, TOKEN_OPERATOR, ")")) {
        if (!first)
            parser_expect(p, TOKEN_OPERATOR, ",");
        if (parser_is(p, TOKEN_OPERATOR, ")"))
            break;
        parse_arg(p, args);
        first = false;
    }
    parser_expect(p, TOKEN_OPERATOR, ")");
    return args;
}

static const struct node *parse_call(struct parser *p, const struct node *a)
{
    struct node *n = node_of(p, NODE_CALL, a, NULL);
    if (n)
        n->args = parse_args(p);
    return n;
}

/* A long chain a.b.c nests to the left: each link counts as a level, so that evaluating it is bounded. */
static const struct node *parse_postfix(struct parser *p, const struct node *a)
{
    uint32_t links = 0;
    while (p->status == 0) {
        if (parser_is(p, TOKEN_OPERATOR, "."))
            a = parse_member(p, a);
        else if (parser_is(p, TOKEN_OPERATOR, "["))
            a = parse_subscript(p, a);
        else if (parser_is(p, TOKEN_OPERATOR, "("))
            a = parse_call(p, a);
        else
            break;
        if (++links > JINJA_NESTING_MAX)
            parser_fail(p, "an expression is longer than %d links", JINJA_NESTING_MAX);
    }
    return a;
}

/* The dotted name of a filter or test. */
static struct marked dotted_name(struct parser *p)
{
    struct marked name = parser_token(p)->text;
    parser_expect(p, TOKEN_NAME, NULL);
    while (parser_skip(p, TOKEN_OPERATOR, ".")) {
        const struct marked *next = &parser_token(p)->text;
        if (parser_is(p, TOKEN_NAME, NULL))
            name.len = (size_t)(next->bytes + next->len - name.bytes);
        parser_expect(p, TOKEN_NAME, NULL);
    }
    return name;
}

static struct node *named_row(struct parser *p, enum node_kind kind, const struct node *a)
{
    struct node *n = node_of(p, kind, a, NULL);
    struct marked name = dotted_name(p);
    if (!n || p->status != 0)
        return NULL;
    n->constant = parser_text(p, name);
    n->row = kind == NODE_TEST ? test_find(name.bytes, name.len) : filter_find(name.bytes, name.len);
    if (!n->row && !p->soft && !p->unknown)
        p->unknown = n;
    return n;
}

const struct node *parse_filter(struct parser *p, const struct node *a, bool start)
{
    uint32_t links = 0;
    while (p->status == 0 && (start || parser_skip(p, TOKEN_OPERATOR, "|"))) {
        struct node *n = named_row(p, NODE_FILTER, a);
        if (n && parser_is(p, TOKEN_OPERATOR, "("))
            n->args = parse_args(p);
        if (++links > JINJA_NESTING_MAX)
            parser_fail(p, "an expression is longer than %d links", JINJA_NESTING_MAX);
        a = n;
        start = false;
    }
    return a;
}

/* x is [not] name, with arguments between parentheses or one that is a plain value. */
static const struct node *parse_test(struct parser *p, const struct node *a)
{
    bool negated = parser_skip(p, TOKEN_NAME, "not");
    struct node *n = named_row(p, NODE_TEST, a);
    const struct token *t = parser_token(p);
    bool value = t->kind == TOKEN_NAME || t->kind == TOKEN_STRING || t->kind == TOKEN_INT || t->kind == TOKEN_FLOAT ||
                 parser_is(p, TOKEN_OPERATOR, "[") || parser_is(p, TOKEN_OPERATOR, "{");
    if (!n)
        return NULL;
    if (parser_is(p, TOKEN_OPERATOR, "(")) {
        n->args = parse_args(p);
    } else if (parser_is(p, TOKEN_NAME, "is")) {
        return parser_fail(p, "You cannot chain multiple tests with is");
    } else if (value && !parser_is(p, TOKEN_NAME, "else") && !parser_is(p, TOKEN_NAME, "or") &&
               !parser_is(p, TOKEN_NAME, "and")) {
        struct node_args *args = parser_alloc(p, sizeof(*args));
        if (args)
            parser_push(p, &args->list, parse_postfix(p, parse_primary(p)));
        n->args = args;
    }
    return negated ? node_of(p, NODE_NOT, n, NULL) : n;
}

static const struct node *parse_filters(struct parser *p, const struct node *a)
{
    uint32_t links = 0;
    while (p->status == 0) {
        if (parser_is(p, TOKEN_OPERATOR, "|"))
            a = parse_filter(p, a, false);
        else if (parser_skip(p, TOKEN_NAME, "is"))
            a = parse_test(p, a);
        else if (parser_is(p, TOKEN_OPERATOR, "("))
            a = parse_call(p, a);
        else
            break;
        if (++links > JINJA_NESTING_MAX)
            parser_fail(p, "an expression is longer than %d links", JINJA_NESTING_MAX);
    }
    return a;
}

/* ---- operators ---- */

static const struct node *parse_unary(struct parser *p, bool filters)
{
    const struct node *a;
    if (!parser_enter(p))
        return NULL;
    if (parser_is(p, TOKEN_OPERATOR, "-") || parser_is(p, TOKEN_OPERATOR, "+")) {
        struct node *n = parser_node(p, NODE_UNARY);
        bool minus = parser_is(p, TOKEN_OPERATOR, "-");
        parser_next(p);
        if (n) {
            n->op = minus ? OP_NEG : OP_POS;
            n->a = parse_unary(p, false);
        }
        a = n;
    } else {
        a = parse_primary(p);
    }
    a = parse_postfix(p, a);
    if (filters)
        a = parse_filters(p, a);
    parser_leave(p);
    return a;
}

/* Operators of one level, from the left; level 0 binds closest. */
static const struct {
    const char *words;
    enum operator op;
    int level;
} operators[] = {
    {"**", OP_POW, 0}, {"*", OP_MUL, 1}, {"//", OP_FLOORDIV, 1}, {"/", OP_DIV, 1}, {"%", OP_MOD, 1},
    {"+", OP_ADD, 3},  {"-", OP_SUB, 3},
};

enum { LEVEL_POWER, LEVEL_PRODUCT, LEVEL_CONCAT, LEVEL_SUM };

static const struct node *parse_level(struct parser *p, int level);

static const struct node *parse_concat(struct parser *p)
{
    const struct node *a = parse_level(p, LEVEL_PRODUCT);
    if (!parser_is(p, TOKEN_OPERATOR, "~"))
        return a;
    struct node *n = parser_node(p, NODE_CONCAT);
    if (!n)
        return NULL;
    parser_push(p, &n->list, a);
    while (parser_skip(p, TOKEN_OPERATOR, "~"))
        parser_push(p, &n->list, parse_level(p, LEVEL_PRODUCT));
    return n;
}

static const struct node *parse_operand(struct parser *p, int level)
{
    if (level == LEVEL_POWER)
        return parse_unary(p, true);
    return level == LEVEL_SUM ? parse_concat(p) : parse_level(p, level - 1);
}

/* A chain of operators of the same level nests to the left, so that it counts as depth. */
static const struct node *parse_level(struct parser *p, int level)
{
    const struct node *a = parse_operand(p, level);
    for (uint32_t links = 0; p->status == 0; links++) {
        size_t i = 0;
        while (i < COUNTOF(operators) && (operators[i].level != level ||
                                          !parser_is(p, TOKEN_OPERATOR, operators[i].words)))
            i++;
        if (i == COUNTOF(operators))
            break;
        if (links > JINJA_NESTING_MAX)
            parser_fail(p, "an expression is longer than %d links", JINJA_NESTING_MAX);
        struct node *n = node_of(p, NODE_BINARY, a, NULL);
        parser_next(p);
        if (!n)
            break;
        n->op = operators[i].op;
        n->b = parse_operand(p, level);
        a = n;
    }
    return a;
}

static bool next_comparison(struct parser *p, enum operator *op)
{
    static const struct {
        const char *words;
        enum operator op;
    } comparisons[] = {
        {"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT}, {"<=", OP_LE}, {">", OP_GT}, {">=", OP_GE},
    };
    for (size_t i = 0; i < COUNTOF(comparisons); i++) {
        *op = comparisons[i].op;
        if (parser_skip(p, TOKEN_OPERATOR, comparisons[i].words))
            return true;
    }
    *op = OP_IN;
    if (parser_skip(p, TOKEN_NAME, "in"))
        return true;
    const struct token *after = parser_look(p, 1);
    *op = OP_NOT_IN;
    if (!parser_is(p, TOKEN_NAME, "not") || after->kind != TOKEN_NAME || !marked_is(&after->text, "in"))
        return false;
    parser_next(p);
    parser_next(p);
    return true;
}

static const struct node *parse_comparison(struct parser *p)
{
    const struct node *a = parse_level(p, LEVEL_SUM);
    struct node *n = NULL;
    enum operator op;
    while (p->status == 0 && next_comparison(p, &op)) {
        struct node *operand = node_of(p, NODE_OPERAND, NULL, NULL);
        n = n ? n : node_of(p, NODE_COMPARE, a, NULL);
        if (!n || !operand)
            return NULL;
        operand->op = op;
        operand->a = parse_level(p, LEVEL_SUM);
        parser_push(p, &n->list, operand);
    }
    return n ? n : a;
}

static const struct node *parse_not(struct parser *p)
{
    if (!parser_is(p, TOKEN_NAME, "not"))
        return parse_comparison(p);
    struct node *n = parser_node(p, NODE_NOT);
    parser_next(p);
    if (!n || !parser_enter(p))
        return NULL;
    n->a = parse_not(p);
    parser_leave(p);
    return n;
}

/* and, or: chains nest to the right, which means the same. */
static const struct node *parse_and(struct parser *p)
{
    const struct node *a = parse_not(p);
    if (!parser_skip(p, TOKEN_NAME, "and") || !parser_enter(p))
        return a;
    a = node_of(p, NODE_AND, a, parse_and(p));
    parser_leave(p);
    return a;
}

const struct node *parse_condition(struct parser *p)
{
    const struct node *a = parse_and(p);
    if (!parser_skip(p, TOKEN_NAME, "or") || !parser_enter(p))
        return a;
    a = node_of(p, NODE_OR, a, parse_condition(p));
    parser_leave(p);
    return a;
}

const struct node *parse_expression(struct parser *p)
{
    bool soft = p->soft;
    const struct node *unknown = p->unknown;
    if (!parser_enter(p))
        return NULL;
    const struct node *a = parse_condition(p);
    for (uint32_t links = 0; parser_skip(p, TOKEN_NAME, "if"); links++) {
        struct node *n = node_of(p, NODE_IF_ELSE, a, NULL);
        if (!n || links > JINJA_NESTING_MAX)
            return parser_fail(p, "an expression is longer than %d links", JINJA_NESTING_MAX);
        p->soft = true;
        p->unknown = unknown;
        n->b = parse_condition(p);
        if (parser_skip(p, TOKEN_NAME, "else"))
            n->c = parse_expression(p);
        a = n;
    }
    p->soft = soft;
    parser_leave(p);
    return a;
}

/* ---- tuples and targets ---- */

static bool ends_tuple(const struct parser *p, const char *end)
{
    return parser_is(p, TOKEN_PRINT_END, NULL) || parser_is(p, TOKEN_BLOCK_END, NULL) ||
           parser_is(p, TOKEN_OPERATOR, ")") || (end && parser_is(p, TOKEN_NAME, end));
}

const struct node *parse_tuple(struct parser *p, bool inline_if, const char *end)
{
    if (ends_tuple(p, end))
        return parser_fail(p, "Expected an expression");
    const struct node *first = inline_if ? parse_expression(p) : parse_condition(p);
    if (!parser_is(p, TOKEN_OPERATOR, ","))
        return first;
    struct node *n = parser_node(p, NODE_TUPLE);
    if (!n)
        return NULL;
    parser_push(p, &n->list, first);
    while (parser_skip(p, TOKEN_OPERATOR, ",") && !ends_tuple(p, end))
        parser_push(p, &n->list, inline_if ? parse_expression(p) : parse_condition(p));
    return n;
}

static bool is_target(const struct node *n)
{
    if (!n || (n->kind != NODE_TUPLE && n->kind != NODE_NAME && n->kind != NODE_SPACE_MEMBER))
        return false;
    for (uint32_t i = 0; n->kind == NODE_TUPLE && i < n->list.n; i++)
        if (!is_target(n->list.items[i]))
            return false;
    return true;
}

static const struct node *parse_target_part(struct parser *p, bool spaces)
{
    const struct token *after = parser_look(p, 1);
    bool dot = spaces && parser_is(p, TOKEN_NAME, NULL) && after->kind == TOKEN_OPERATOR &&
               marked_is(&after->text, ".");
    if (!dot)
        return parser_enter(p) ? (parser_leave(p), parse_primary(p)) : NULL;
    struct node *n = parser_node(p, NODE_SPACE_MEMBER);
    if (!n)
        return NULL;
    n->name = parser_name(p, &parser_token(p)->text);
    parser_next(p);
    parser_next(p);
    n->constant = parser_text(p, parser_token(p)->text);
    parser_expect(p, TOKEN_NAME, NULL);
    return n;
}

const struct node *parse_target(struct parser *p, bool spaces, const char *end)
{
    const struct node *n = parse_target_part(p, spaces);
    if (parser_is(p, TOKEN_OPERATOR, ",")) {
        struct node *tuple = parser_node(p, NODE_TUPLE);
        if (!tuple)
            return NULL;
        parser_push(p, &tuple->list, n);
        while (parser_skip(p, TOKEN_OPERATOR, ",") && !ends_tuple(p, end) && !parser_is(p, TOKEN_OPERATOR, "="))
            parser_push(p, &tuple->list, parse_target_part(p, spaces));
        n = tuple;
    }
    if (p->status == 0 && !is_target(n))
        return parser_fail(p, "can't assign to this");
    return n;
}
