/* schema: a JSON schema (drafts 4 to 2020-12) as rules. Not for other folders.
 *
 * What the rules produce is valid by the schema; they do not produce all that
 * is: properties come in the order in which they are declared, undeclared ones
 * only where additionalProperties asks for them, values of "enum" as they are
 * written there, numbers with few digits.  A keyword that would have to be
 * ignored is refused by name.
 *
 * References, "allOf" and what stands beside "anyOf" are resolved by merging
 * schemas into one.  Schemas are a stranger's: depth and steps are counted.  */
#ifndef TEXT_GRAMMAR_SCHEMA_H
#define TEXT_GRAMMAR_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>

#include "text/grammar/json.h"

enum schema_limits {
    SCHEMA_DEPTH_MAX = 200,
    SCHEMA_STEPS_MAX = 100000,    /* schemas looked at, again and again counted again */
    SCHEMA_BRANCHES_MAX = 1000,   /* of an anyOf or oneOf */
    SCHEMA_APART_MAX = 64,        /* of a oneOf, which are held against each other */
    SCHEMA_ENUM_MAX = 1 << 16,
    SCHEMA_WORK_MAX = 1 << 22,    /* members of schemas that are merged, pairs of values held against each other */
    SCHEMA_MULTIPLES_MAX = 20000, /* listed one by one */
};

enum schema_type {
    TYPE_NULL = 1 << 0, TYPE_BOOLEAN = 1 << 1, TYPE_OBJECT = 1 << 2, TYPE_ARRAY = 1 << 3, TYPE_NUMBER = 1 << 4,
    TYPE_INTEGER = 1 << 5, TYPE_STRING = 1 << 6, TYPE_ANY = (1 << 7) - 1,
};

struct schema_rule { /* of a schema that was referred to */
    const json_t *schema;
    uint32_t rule;
};

struct schema {
    struct rules *r;
    struct json_rules j;
    json_t *root;
    json_t *made;            /* merged schemas, kept until the end */
    struct schema_rule *known; /* a table by address */
    size_t n_known, room_known;
    const char *property;    /* under which the schema at hand stands; NULL: none */
    int depth, steps;
    size_t work;
    struct error *e;
};

/* "<what>", and where. */
int schema_fail(struct schema *s, int status, const char *format, ...) PRINTF_LIKE(3, 4);
/* One more schema is looked at. ERR_LIMIT: too many, too deep, or the rules are too large already. */
MUST_USE int schema_step(struct schema *s);
/* A value by the schema. */
MUST_USE int schema_expr(struct schema *s, json_t *schema, uint32_t *out);
/* The same as a rule's, for what is used more than once. */
MUST_USE int schema_rule(struct schema *s, json_t *schema, uint32_t *rule);
/* The schema with references and allOf merged into it; it may be true or false. */
MUST_USE int schema_resolve(struct schema *s, json_t *schema, json_t **out);
/* Types that it may have, from "type" or what other keywords are about. 0: failed, the error says why. */
unsigned schema_types(struct schema *s, json_t *schema);

unsigned schema_type_of(const json_t *value);

/* schema_merge.c: what both allow; *out lives as long as s. */
MUST_USE int schema_merge(struct schema *s, json_t *a, json_t *b, json_t **out);
/* No value that the rules of `a` produce is valid by `b`. */
bool schema_apart(struct schema *s, json_t *a, json_t *b, int levels);
json_t *schema_made(struct schema *s, json_t *takes);

/* By type. */
MUST_USE int schema_object(struct schema *s, json_t *schema, uint32_t *out);
MUST_USE int schema_array(struct schema *s, json_t *schema, uint32_t *out);
MUST_USE int schema_number(struct schema *s, json_t *schema, bool integer, uint32_t *out);
MUST_USE int schema_string(struct schema *s, json_t *schema, uint32_t *out);
/* A keyword whose value is a whole number from 0; `absent` when there is none. */
MUST_USE int schema_count(struct schema *s, json_t *schema, const char *key, uint32_t absent, uint32_t *out);

#endif
