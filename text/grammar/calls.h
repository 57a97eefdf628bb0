/* calls: what a model's answer with tools may be, as rules. Not for other folders.
 *
 * Calls stand as the format's marks have them (text/reply/format.h), with a
 * tool's name and with arguments by its schema.  A strict tool's schema must
 * be one that can be kept to; where that of another cannot, its arguments are
 * any object.                                                                */
#ifndef TEXT_GRAMMAR_CALLS_H
#define TEXT_GRAMMAR_CALLS_H

#include <jansson.h>
#include <stdbool.h>

#include "text/grammar/grammar.h"
#include "text/grammar/json.h"
#include "text/reply/format.h"

struct calls {
    struct rules *r;
    struct json_rules j;
    const struct grammar_calls *o;
    struct error *e;
};

/* Writes the rules, and a root. */
MUST_USE int calls_read(struct rules *r, const struct grammar_calls *o, struct error *e);

/* The value of a parameter, in JSON; by `schema` of the tool's parameters, or any where that cannot be. */
MUST_USE int calls_value(struct calls *c, const json_t *function, json_t *schema, uint32_t *out);
/* A space, or a new line and some, or nothing. */
uint32_t calls_gap(struct calls *c);
/* calls_tags.c: a function whose parameters are plain text, from its name on. */
MUST_USE int calls_tags(struct calls *c, const json_t *function, uint32_t *out);

#endif
