/* node: the tree that a template is parsed into.  Not for other folders. */
#ifndef TEXT_JINJA_NODE_H
#define TEXT_JINJA_NODE_H

#include "base/arena.h"
#include "text/jinja/value.h"

/* A name of the template, once: names are equal when their addresses are. */
struct name {
    struct name *next;
    struct name *next_of_hash; /* while parsing */
    struct marked text;
    bool seen;                 /* while parsing: scopes.c */
};

struct name_list {
    const struct name **items;
    uint32_t n, cap;
};

enum operator {
    OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW, OP_NEG, OP_POS,
    OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN,
};

enum node_kind {
    /* expressions */
    NODE_CONST,   /* constant */
    NODE_NAME,    /* name */
    NODE_LIST,    /* list */
    NODE_TUPLE,   /* list */
    NODE_DICT,    /* list: key, value, key, value */
    NODE_UNARY,   /* op a */
    NODE_BINARY,  /* a op b */
    NODE_AND, NODE_OR, NODE_NOT,
    NODE_COMPARE, /* a, then list of NODE_OPERAND */
    NODE_OPERAND, /* op a */
    NODE_CONCAT,  /* list */
    NODE_IF_ELSE, /* a if b else c (or NULL) */
    NODE_MEMBER,  /* a.constant */
    NODE_ITEM,    /* a[b] */
    NODE_SLICE,   /* a[list: 3, or NULL] */
    NODE_CALL,    /* a(args) */
    NODE_FILTER,  /* a (NULL in a filter block), constant: its name, row (NULL: unknown), args */
    NODE_TEST,    /* the same */
    /* statements */
    NODE_OUTPUT,  /* a */
    NODE_FOR,     /* a: target, b: iterable, c: condition or NULL, list: body, other: else; flag: recursive */
    NODE_IF,      /* a: condition, list, other */
    NODE_SET,     /* a: target, b: value */
    NODE_SET_BLOCK, /* a: target, b: filter or NULL, list */
    NODE_SPACE_MEMBER, /* as a target: name.constant */
    NODE_MACRO,   /* name (NULL for a caller), params, list; flags */
    NODE_CALL_BLOCK, /* a: the call, b: the macro */
    NODE_FILTER_BLOCK, /* b: the filter, list */
    NODE_WITH,    /* params: targets and values, list */
    NODE_SCOPE,   /* list */
    NODE_BREAK, NODE_CONTINUE,
    NODE_REFUSE,  /* constant: the sentence */
};

struct node;

struct node_list {
    const struct node **items;
    uint32_t n, cap;
};

struct node_args {
    struct node_list list;
    const struct marked **names; /* of `named` */
    struct node_list named;
    const struct node *star, *stars; /* *a and **a, or NULL */
};

struct node_param {
    const struct node *target;
    const struct node *value; /* the default; NULL: none */
};

struct node {
    enum node_kind kind;
    enum operator op;
    uint32_t line;
    bool flag;
    bool wants_caller, wants_varargs, wants_kwargs;
    const struct name *name;
    struct value constant;
    const struct node *a, *b, *c;
    struct node_list list, other;
    const struct node_args *args;
    struct node_param *params;
    uint32_t n_params;
    const struct builtin *row;
    /* of a scope (`other`'s: of a loop's else): names that are undefined at its beginning, whatever is around it */
    struct name_list hidden, other_hidden;
};

struct jinja {
    struct arena *arena;
    struct name *names;
    struct node_list body;
    struct name_list hidden; /* of the body */
    const struct name *loop, *caller, *varargs, *kwargs;
};

#endif
