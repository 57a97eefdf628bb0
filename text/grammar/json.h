/* json: the pieces of JSON's own grammar that schemas are put together from. Not for other folders.
 *
 * Space is bounded: nothing, one blank, or a new line and at most 40 blanks
 * or tabs, after "{", "[", "," and ":" and before "}" and "]", so that compact
 * and indented answers are both possible and endless ones are not.  Numbers
 * have so few digits that every reader keeps them.                           */
#ifndef TEXT_GRAMMAR_JSON_H
#define TEXT_GRAMMAR_JSON_H

#include <jansson.h>

#include "text/grammar/rules.h"

enum json_grammar_limits { JSON_INTEGER_DIGITS_MAX = 15 };

/* Rules that a grammar has at most once; RULES_ANY: not made yet. */
struct json_rules {
    struct rules *r;
    uint32_t space, character, string, number, integer, value, object;
};

void json_rules_init(struct json_rules *j, struct rules *r);
uint32_t json_space(struct json_rules *j);
uint32_t json_character(struct json_rules *j); /* one of a string's, as it is or escaped */
uint32_t json_string_any(struct json_rules *j);
uint32_t json_number_any(struct json_rules *j);
uint32_t json_integer_any(struct json_rules *j);
uint32_t json_value(struct json_rules *j);
uint32_t json_object_any(struct json_rules *j);
/* ":" and space; "," and space; an opening or closing bracket with its space. */
uint32_t json_token(struct json_rules *j, const char *text);
uint32_t json_close(struct json_rules *j, const char *bracket);
/* Those that stand for themselves in a string, into an empty set, which is finished then. */
void json_raw(struct charset *out);
/* Any character of the set, as a JSON string holds it. */
uint32_t json_set(struct rules *r, const struct charset *s);
/* A constant, as it is written without spaces. */
uint32_t json_constant(struct rules *r, const json_t *value);
/* A sequence of up to eight. */
uint32_t rules_sequence_of(struct rules *r, size_t n, ...);

#endif
