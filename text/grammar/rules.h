/* rules: a context-free grammar in memory, as the front ends (GBNF, regex, JSON schema) write it.
 *
 * Expressions are numbers; rules have names and one expression each.  An
 * expression is used once: sharing goes through rules.  Building is sticky:
 * past a limit the rules turn failed, later calls do nothing, and
 * rules_check() says so.  Texts are bytes; sets are of characters and match
 * their UTF-8.  Not for other folders.                                       */
#ifndef TEXT_GRAMMAR_RULES_H
#define TEXT_GRAMMAR_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/grammar/charset.h"

enum rules_limits {
    RULES_MAX = 1 << 16,
    RULES_EXPRS_MAX = 1 << 18,
    RULES_PARTS_MAX = 1 << 20,     /* of sequences and choices together; ranges of all sets together */
    RULES_BYTES_MAX = 4 << 20,     /* of all texts together */
    RULES_DEPTH_MAX = 1000,        /* expressions inside one another */
    RULES_REPEAT_MAX = 1 << 20,
};

#define RULES_ANY UINT32_MAX /* no end to a repetition */

enum expr_kind { EXPR_EMPTY, EXPR_NEVER, EXPR_TEXT, EXPR_SET, EXPR_SEQUENCE, EXPR_CHOICE, EXPR_REPEAT, EXPR_CALL };

struct expr {
    uint16_t kind, depth;
    uint32_t at, n;       /* texts: bytes; sets: ranges; sequences and choices: parts; CALL: at is the rule */
    uint32_t min, max;    /* REPEAT of expression `at` */
};

struct rule {
    char *name;
    uint32_t body; /* RULES_ANY: not defined */
};

struct rules {
    struct expr *exprs;
    uint32_t *parts;
    struct char_range *ranges;
    char *bytes;
    struct rule *rules;
    uint32_t n_exprs, n_parts, n_ranges, n_bytes, n_rules;
    uint32_t room_exprs, room_parts, room_ranges, room_bytes, room_rules;
    uint32_t root;
    bool failed;
    /* of rules_check(), one an expression */
    bool *nullable, *productive;
};

void rules_init(struct rules *r);
void rules_close(struct rules *r);

/* A rule without a body; the name is copied and shown in errors only. */
uint32_t rules_declare(struct rules *r, const char *name, size_t len);
void rules_define(struct rules *r, uint32_t rule, uint32_t expr);

uint32_t rules_empty(struct rules *r);
uint32_t rules_never(struct rules *r); /* matches nothing, not even the empty text */
uint32_t rules_text(struct rules *r, const char *bytes, size_t n);
uint32_t rules_string(struct rules *r, const char *text);
uint32_t rules_set(struct rules *r, const struct charset *s); /* a finished set */
uint32_t rules_sequence(struct rules *r, const uint32_t *parts, size_t n);
uint32_t rules_choice(struct rules *r, const uint32_t *parts, size_t n);
uint32_t rules_repeat(struct rules *r, uint32_t expr, uint32_t min, uint32_t max);
uint32_t rules_optional(struct rules *r, uint32_t expr);
uint32_t rules_call(struct rules *r, uint32_t rule);

/* Parts while they are found. */
struct rules_list {
    uint32_t *items;
    size_t n, room;
};
void rules_list_add(struct rules_list *l, uint32_t expr);
void rules_list_close(struct rules_list *l);

struct rules_texts {
    const char *text;
    size_t len;
};
/* One of many texts, as a tree of their beginnings. Sorts the list. */
uint32_t rules_texts(struct rules *r, struct rules_texts *texts, size_t n);

/* Everything is defined, within the limits, the root can end, and no rule begins with itself: says what not.
 * Fills nullable and productive. */
MUST_USE int rules_check(struct rules *r, struct error *e);

#endif
