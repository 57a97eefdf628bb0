/* jinja: chat templates in the Jinja language, rendered as Hugging Face's libraries render them.
 *
 * A template is parsed once, is immutable afterwards, and may be rendered by
 * any number of threads at once.  The language is that of Jinja2 3.1 in an
 * immutable sandbox with trim_blocks, lstrip_blocks, loop controls, the
 * generation tag, raise_exception, strftime_now and a tojson that escapes no
 * HTML: values behave as Python's do.
 *
 * Templates and variables are a stranger's.  A rendering is bounded in steps,
 * depth, memory and output; it never crashes, blocks or reads anything.
 *
 * Every byte of the output knows whether it came from the template (or from a
 * variable that is trusted) or from a variable that is not, through all
 * filters, methods and operators: only the former may hold control tokens.   */
#ifndef TEXT_JINJA_JINJA_H
#define TEXT_JINJA_JINJA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "text/span.h"

enum jinja_limits {
    JINJA_SOURCE_MAX = 1 << 20,    /* bytes of a template */
    JINJA_NESTING_MAX = 120,       /* of expressions and blocks in a template */
    JINJA_DEPTH_MAX = 1500,        /* of evaluation: nesting times calls of macros */
    JINJA_STEPS_MAX = 50000000,    /* of evaluation; long texts count as many */
    JINJA_MEMORY_MAX = 384 << 20,  /* bytes that a rendering holds */
    JINJA_OUTPUT_MAX = 64 << 20,   /* bytes of the result */
    JINJA_RANGE_MAX = 100000,      /* numbers of a range() */
};

struct jinja;

/* ERR_INVALID with a line number when it is no template; ERR_LIMIT when it is too large. */
MUST_USE int jinja_parse(struct jinja **out, const char *source, size_t len, struct error *e);
void jinja_free(struct jinja **t); /* NULL is fine */

struct jinja_variable {
    const char *name;
    const json_t *value;
    bool trusted; /* what it says counts as the template's own words */
};

struct jinja_context {
    const struct jinja_variable *variables; /* the first of a name wins */
    size_t n_variables;
    /* Whether text that is the member `key` of a variable that is not trusted is harmless all the same; may be NULL. */
    bool (*harmless)(const char *key, const char *text);
    int64_t now; /* seconds since 1970, for strftime_now; said in local time */
    uint64_t steps_max; /* 0: JINJA_STEPS_MAX */
    bool lenient;       /* lists may be appended to and popped from, which some templates do and the sandbox forbids */
};

struct jinja_output {
    char *text; /* UTF-8, NUL-terminated (it may hold NULs too) */
    size_t len;
    struct text_span *trusted; /* what is the template's: in order, apart */
    size_t n_trusted;
};

/* The JSON must not change meanwhile. ERR_INVALID: the template fails with these variables; the sentence is
 * raise_exception's own, or says the line. ERR_LIMIT: over a limit. *out is empty on failure. */
MUST_USE int jinja_render(const struct jinja *t, const struct jinja_context *c, struct jinja_output *out,
                          struct error *e);
void jinja_output_free(struct jinja_output *out);

#endif
