/* value: what expressions of a template are.  Not for other folders.
 *
 * Values are small and copied; what they point at lives in the arena of the
 * rendering (or of the template, for constants) and does not change, but for
 * namespaces, the places of iterators, and lists where that is allowed.      */
#ifndef TEXT_JINJA_VALUE_H
#define TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/jinja/marked.h"

struct render;
struct frame;
struct node;

enum value_kind {
    VALUE_ABSENT, /* an argument that was not given; no expression has it */
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_TEXT,
    VALUE_LIST,
    VALUE_DICT,
    VALUE_SPACE,    /* namespace() */
    VALUE_MACRO,
    VALUE_BUILTIN,  /* a function, or a method of a value */
    VALUE_LOOP,
    VALUE_CYCLER,
    VALUE_JOINER,
};

struct value {
    enum value_kind kind;
    union {
        bool truth;
        int64_t whole;
        double real;
        const struct marked *text;
        struct list *list;
        struct dict *dict; /* also of a space */
        const struct macro *macro;
        const struct bound *bound;
        struct loop *loop;
        struct cycler *cycler;
        const struct missing *missing;
    };
};

/* Why a value is undefined, for the sentence of the error that using it is. */
struct missing {
    enum missing_why { MISSING_NAME, MISSING_MEMBER, MISSING_UNSAFE, MISSING_ARGUMENT, MISSING_OTHER } why;
    const char *of; /* the type that lacks it */
    struct value key;
};

enum list_kind {
    LIST_LIST,
    LIST_TUPLE,
    LIST_ITERATOR, /* can be gone through once; has no length and no places */
    LIST_RANGE,
    LIST_KEYS,     /* views of a dict: a length, no places */
    LIST_VALUES,
    LIST_ITEMS,
    LIST_GROUP,    /* a tuple of groupby: grouper and list */
};

struct list {
    enum list_kind kind;
    struct value *items;
    size_t n;
    size_t cap;           /* of items that are this list's alone; 0: others may share them */
    size_t taken;         /* of an iterator */
    int64_t start, step;  /* of a range */
};

struct pair {
    struct value key, value;
};

struct dict {
    struct pair *pairs; /* in the order of insertion */
    size_t n, cap;
};

struct macro {
    const struct node *node;  /* its parameters and body */
    struct frame *frame;      /* where it was made */
    const char *name;
    bool wants_caller, wants_varargs, wants_kwargs;
};

struct loop {
    struct list *list;
    size_t index; /* from 0 */
    uint32_t depth;
    const struct node *node; /* of a recursive loop, else NULL */
    struct frame *frame;     /* around it */
    struct value changed;    /* what changed() was last given; VALUE_ABSENT at first */
};

struct cycler {
    struct list *list; /* of a joiner: its separator */
    size_t at;
};

struct named {
    const struct marked *name;
    struct value value;
};

struct args {
    struct value *list;
    size_t n;
    struct named *named;
    size_t n_named;
};

enum { SLOTS_MAX = 6 };

struct builtin;

struct call {
    const struct builtin *row;
    struct value self;            /* what is filtered or tested, or whose method it is */
    struct value slot[SLOTS_MAX]; /* the arguments by the row's parameters; VALUE_ABSENT where not given */
    const struct args *args;      /* all of them, as given */
};

/* A filter, test, method or function: one row of a table. */
struct builtin {
    const char *name;
    const char *params; /* words apart by blanks; NULL: takes anything, reads call.args itself */
    int required;       /* so many of them must be given */
    struct value (*fn)(struct render *r, const struct call *c);
    int mode;           /* what distinguishes rows of one function */
};

struct bound {
    const struct builtin *row;
    struct value self;
};

#define UNDEFINED ((struct value){.kind = VALUE_UNDEFINED})
#define ABSENT ((struct value){.kind = VALUE_ABSENT})
#define NONE ((struct value){.kind = VALUE_NONE})

static inline struct value value_bool(bool b)
{
    return (struct value){.kind = VALUE_BOOL, .truth = b};
}

static inline struct value value_int(int64_t i)
{
    return (struct value){.kind = VALUE_INT, .whole = i};
}

static inline struct value value_float(double f)
{
    return (struct value){.kind = VALUE_FLOAT, .real = f};
}

static inline struct value value_list(struct list *l)
{
    return (struct value){.kind = VALUE_LIST, .list = l};
}

static inline struct value value_dict(struct dict *d)
{
    return (struct value){.kind = VALUE_DICT, .dict = d};
}

static inline bool value_is_given(struct value v)
{
    return v.kind != VALUE_ABSENT;
}

struct value value_text(struct render *r, struct marked text);      /* copies the struct, not the bytes */
struct value value_words(struct render *r, const char *words);      /* borrows; the template's own */
struct value value_missing(struct render *r, enum missing_why why, const char *of, struct value key);
/* Fails with the sentence for this undefined value. */
struct value value_fail_undefined(struct render *r, struct value v);

const char *value_type(struct value v); /* as Python calls it */
bool value_truth(struct render *r, struct value v);
bool value_equal(struct render *r, struct value a, struct value b);
/* *out < 0, 0 or > 0; fails where Python has no order between them. */
bool value_order(struct render *r, struct value a, struct value b, int *out);
bool value_is_number(struct value v); /* a bool is one */
bool value_is_key(struct value v);    /* can be one of a dict: Python's hashable */
double value_real(struct value v);    /* of a number */
int64_t value_whole(struct value v);  /* of a bool or an int */

/* Space for n items; NULL when failed. */
struct list *list_new(struct render *r, enum list_kind kind, size_t n);
/* Append, growing; false when failed. cap belongs to the caller, 0 at first. */
bool list_push(struct render *r, struct list *l, size_t *cap, struct value v);
struct dict *dict_new(struct render *r, size_t cap);
bool dict_set(struct render *r, struct dict *d, struct value key, struct value v);
/* NULL: not in it. */
struct value *dict_find(struct render *r, const struct dict *d, struct value key);
struct value *dict_find_words(struct render *r, const struct dict *d, const char *key, size_t len);
/* The length that len() gives; false where there is none. */
bool value_length(struct render *r, struct value v, int64_t *out);
/* What going through v gives, as a list of its own (an iterator is used up); NULL when failed: it cannot be. */
struct list *value_iterate(struct render *r, struct value v);
struct list *list_of_keys(struct render *r, const struct dict *d, enum list_kind kind);

#endif
