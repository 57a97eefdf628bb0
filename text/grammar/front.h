/* front: the front ends of grammars, from a source to rules. Not for other folders. */
#ifndef TEXT_GRAMMAR_FRONT_H
#define TEXT_GRAMMAR_FRONT_H

#include <jansson.h>

#include "text/grammar/rules.h"

/* Each writes rules with a root; the caller checks and closes them in every case. */
MUST_USE int gbnf_read(struct rules *r, const char *text, size_t len, struct error *e);
/* A whole text that is one of the regular expression. */
MUST_USE int regex_read(struct rules *r, const char *text, size_t len, struct error *e);
/* The expression of a regular expression inside other rules. json: the text stands in a JSON string, and is escaped as
 * one; unanchored ends take any characters, as JSON schema's "pattern" has it. */
MUST_USE int regex_expr(struct rules *r, const char *text, size_t len, bool json, uint32_t *out, struct error *e);
/* A JSON value that the schema allows: text/grammar/schema.h. */
MUST_USE int schema_read(struct rules *r, const json_t *schema, struct error *e);
/* The same as an expression inside other rules; references are into `root`. */
MUST_USE int schema_within(struct rules *r, const json_t *schema, const json_t *root, uint32_t *out, struct error *e);
/* Any JSON object. */
void json_read_object(struct rules *r);

/* -1: it is none. */
static inline int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

#endif
