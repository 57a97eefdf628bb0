/* render: one rendering: its budget, its failure, its scopes.  Not for other folders.
 *
 * A failure is sticky: the first one keeps its sentence, and everything that
 * is evaluated after it gives nothing.  So evaluation is straight lines, and
 * only loops look at `failed`.                                               */
#ifndef TEXT_JINJA_RENDER_H
#define TEXT_JINJA_RENDER_H

#include "base/arena.h"
#include "base/error.h"
#include "text/jinja/jinja.h"
#include "text/jinja/node.h"
#include "text/jinja/value.h"

struct binding {
    const struct name *name;
    struct value value;
};

/* A scope. Lives in the arena: macros keep the one that they were made in. */
struct frame {
    struct frame *parent;
    struct binding *bindings;
    uint32_t n, cap;
    bool kept; /* a macro was made in it */
};

/* Free bytes after the text that was joined last. */
struct join_room {
    char *end;
    uint8_t *marks; /* NULL: its bytes are all alike */
    size_t left;
};

struct render {
    const struct jinja *template;
    const struct jinja_context *context;
    struct arena *arena;
    struct frame *root;
    struct writer *out;  /* where output goes */
    struct join_room room;
    uint64_t steps, steps_max;
    uint32_t depth;
    uint32_t line;       /* of what is evaluated */
    bool failed;
    bool verbatim;       /* the error is the template's own sentence */
    struct error error;
};

/* Always gives an undefined value, so that failing is one line. */
struct value render_fail(struct render *r, int status, const char *format, ...) PRINTF_LIKE(3, 4);
/* As a step, and one more for every 32 bytes of work. */
void render_spend(struct render *r, size_t bytes);
/* Zeroed; NULL, failed, when the memory of the rendering is used up. */
void *render_alloc(struct render *r, size_t bytes);
void *render_array(struct render *r, size_t n, size_t size);
/* One deeper; false, failed, at the limit. Every true has its render_leave(). */
bool render_enter(struct render *r);
void render_leave(struct render *r);

/* With these names in it, undefined; NULL: none. */
struct frame *frame_new(struct render *r, struct frame *parent, const struct name_list *hidden);
void frame_hide(struct render *r, struct frame *f, const struct name_list *hidden);
void frame_set(struct render *r, struct frame *f, const struct name *name, struct value v);
/* Of the scopes around, or a global function, or undefined. */
struct value frame_get(struct render *r, struct frame *f, const struct name *name);

/* evaluate.c */
struct value evaluate(struct render *r, struct frame *f, const struct node *n);
bool evaluate_args(struct render *r, struct frame *f, const struct node_args *a, struct args *out);
/* call.c */
struct value call_value(struct render *r, struct value callee, const struct args *args);
struct value call_builtin(struct render *r, const struct builtin *row, struct value self, const struct args *args);
struct value call_macro(struct render *r, const struct macro *m, const struct args *args);
struct value macro_value(struct render *r, struct frame *f, const struct node *n);
/* execute.c */
enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };
enum flow execute(struct render *r, struct frame *f, const struct node_list *body);
/* The output of the body as a text. */
struct value execute_captured(struct render *r, struct frame *f, const struct node_list *body);
void assign(struct render *r, struct frame *f, const struct node *target, struct value v);
/* loop.c */
enum flow execute_for(struct render *r, struct frame *f, const struct node *n);
struct value loop_recurse(struct render *r, struct loop *outer, struct value iterable);
struct value loop_member(struct render *r, struct loop *l, const struct marked *name, bool *found);
/* member.c */
struct value member_get(struct render *r, struct value of, struct value name); /* a.b */
struct value item_get(struct render *r, struct value of, struct value key);    /* a[b] */
struct value slice_get(struct render *r, struct value of, struct value from, struct value to, struct value step);
/* "a.b.0" as filters take it. */
struct value path_get(struct render *r, struct value of, struct value path, struct value otherwise);
/* operate.c */
struct marked marked_escaped(struct render *r, const struct marked *t); /* for HTML; safe as it is when it is so */
struct value operate(struct render *r, enum operator op, struct value a, struct value b);
bool operate_in(struct render *r, struct value what, struct value in);
/* python.c: texts as Python writes them */
struct marked python_str(struct render *r, struct value v);
void python_write(struct writer *w, struct value v);  /* as print() */
void python_repr(struct writer *w, struct value v);
void python_ascii(struct writer *w, struct value v);  /* repr() without characters beyond ASCII */
void python_float(char out[static 40], double d);
/* json.c */
struct json_style {
    bool ascii, sorted;
    const struct marked *indent;             /* NULL: on one line */
    const struct marked *comma, *colon;
};
void value_to_json(struct writer *w, struct value v, const struct json_style *s, uint32_t level);
struct value value_of_json(struct render *r, const json_t *j, bool foreign, uint32_t depth, const char *key);
/* format.c */
struct value format_percent(struct render *r, const struct marked *format, struct value args);
struct value format_braces(struct render *r, const struct marked *format, const struct args *args);
struct marked format_value(struct render *r, struct value v, const struct marked *spec);

/* tables of rows; NULL where there is none */
const struct builtin *builtin_find(const struct builtin *rows, size_t n, const char *name, size_t len);
const struct builtin *filter_find(const char *name, size_t len);
const struct builtin *test_find(const char *name, size_t len);
const struct builtin *function_find(const char *name, size_t len);
const struct builtin *text_method_find(const char *name, size_t len);
const struct builtin *other_method_find(struct render *r, struct value of, const char *name, size_t len);
/* Would it change the value, which the sandbox forbids? */
bool method_is_unsafe(struct value of, const struct marked *name);

/* arguments of builtins */
bool arg_text(struct render *r, struct value v, struct marked *out); /* must be a text */
bool arg_int(struct render *r, struct value v, int64_t otherwise, int64_t *out);
bool arg_flag(struct render *r, struct value v, bool otherwise);

#endif
