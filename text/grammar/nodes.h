/* nodes: rules compiled to a graph that reads bytes: the immutable half of a grammar. Not for other folders.
 *
 * A text of the grammar is a walk from the root's entry to its RETURN.  Calls
 * and counted repetitions keep where to go on on a stack, so that {1,100000}
 * costs no more nodes than {1,2}.                                            */
#ifndef TEXT_GRAMMAR_NODES_H
#define TEXT_GRAMMAR_NODES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "text/grammar/rules.h"

enum nodes_limits { NODES_MAX = 1 << 19, NODES_TARGETS_MAX = 1 << 20 };

#define NODES_REST_UNKNOWN UINT32_MAX

enum node_kind {
    NODE_BYTES,  /* reads one byte from low to high, goes to next */
    NODE_SPLIT,  /* goes to each of count targets */
    NODE_CALL,   /* rule `at`, then next */
    NODE_LOOP,   /* body `at`, which ends in a RETURN, min to max times, then next */
    NODE_RETURN, /* to whatever is on the stack */
};

struct node {
    uint8_t kind, low, high;
    bool covers;        /* BYTES: begins a character of a set that has all ordinary ones, after which comes a RETURN */
    uint32_t next;      /* SPLIT: of an endless repetition 1 + index of its bounds, else 0 */
    uint32_t at, count; /* SPLIT: targets; LOOP: body and index of its bounds */
};

struct node_bounds {
    uint32_t min, max; /* max RULES_ANY: no end */
    bool ordinary;     /* a turn may be any ordinary character (nodes_is_ordinary) */
    uint64_t buckets;  /* ... any character whose bytes are of these (nodes_bucket); the last: all beyond ASCII */
};

struct nodes {
    struct node *nodes;
    uint32_t *targets;
    struct node_bounds *bounds;
    uint32_t *entries; /* of rules, RULES_ANY: not compiled */
    uint32_t n_nodes, n_targets, n_bounds, room_nodes, room_targets, room_bounds;
    uint32_t start;
    uint8_t classes[256]; /* bytes that no node tells apart are in one class */
    uint8_t members[256]; /* a byte of each class */
    uint32_t n_classes;
    /* of rest_measure() */
    uint32_t *rests;  /* of nodes: so many tokens are enough to the end of the rule; NODES_REST_UNKNOWN: not known */
    int32_t *tokens;  /* of nodes that read bytes: the first one of them */
};

/* One of those that both a JSON string and a "." of a regular expression take as they are: most tokens of a vocabulary
 * are made of them alone. */
bool nodes_is_ordinary(uint32_t code_point);
/* Is one of these bytes the first one of an ordinary character? */
bool nodes_begins_ordinary(uint8_t low, uint8_t high);
/* Bytes in 64 buckets: those of ASCII that grammars tell apart have one of their own. The last one is of all others. */
enum { NODES_BUCKET_OTHER = 63 };
uint32_t nodes_bucket(uint8_t byte);

/* After rules_check(). */
MUST_USE int nodes_compile(struct nodes *out, const struct rules *r, struct error *e);
void nodes_close(struct nodes *n);

#endif
