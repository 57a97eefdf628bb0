/* automaton: the deterministic automaton of a grammar's nodes, made while it is walked. Not for other folders.
 *
 * A state is the set of places where a walk over the nodes may be after the
 * bytes so far: pairs of a node and a stack.  Stacks are lists of cells, and
 * equal stacks are one cell.  A transition is computed the first time that it
 * is asked for and looked up after.  Memory and work are bounded: when the
 * automaton is full it says AUTOMATON_FULL until automaton_reset(), which
 * forgets every state (walkers come back by walking their bytes again); a state
 * of too many places, or more work than was allowed, is AUTOMATON_FAILED.  One
 * thread at a time uses an automaton.                                        */
#ifndef TEXT_GRAMMAR_AUTOMATON_H
#define TEXT_GRAMMAR_AUTOMATON_H

#include <stdbool.h>
#include <stdint.h>

#include "text/grammar/nodes.h"

enum automaton_limits {
    AUTOMATON_PLACES_MAX = 4096,      /* of one state */
    AUTOMATON_BYTES_MAX = 8 << 20,    /* of states, places, stacks and transitions */
    AUTOMATON_TOLERANCE_ANY = 254,
};

/* States with a meaning of their own. */
enum { AUTOMATON_DEAD = 0, AUTOMATON_START = 1 };
#define AUTOMATON_FAILED UINT32_MAX
#define AUTOMATON_FULL (UINT32_MAX - 1)
#define AUTOMATON_UNKNOWN (UINT32_MAX - 2)

struct place {
    uint32_t node, stack; /* stack: a cell, 0: empty */
};

/* What a RETURN comes back to: a call's next node, or a LOOP and how many of its turns are over. */
struct cell {
    uint32_t node, count; /* count CELL_CALL: of a call */
    uint32_t below;
    uint32_t rest; /* so many tokens are enough after it; NODES_REST_UNKNOWN: it is not known */
    uint32_t depth; /* cells from it to the last one */
};
#define CELL_CALL UINT32_MAX

struct automaton_state {
    uint32_t first, n;    /* places */
    bool accepts;         /* the text may end here */
    uint8_t tolerance;    /* so many ordinary characters may follow, whichever; AUTOMATON_TOLERANCE_ANY: any number */
    uint32_t mask;        /* for the masks of grammar.c: 1 + slot, 0: none */
    uint8_t loose;        /* so many characters of the buckets `loose_set` may follow, whichever */
    uint64_t loose_set;
    uint32_t rest;        /* so many tokens are enough to the end; NODES_REST_UNKNOWN: it is not known */
    uint32_t rest_most;   /* the same behind whatever tolerance and loose (and, when studied, near and ever) say */
    uint32_t depth;       /* of the deepest stack */
    /* of automaton_study(): */
    bool studied;
    uint8_t near;         /* so many bytes of `near_set` may follow, whichever */
    uint64_t near_set;    /* buckets of ASCII alone, as the next one */
    uint64_t ever_set;    /* any number of bytes of these may follow */
};

struct automaton_table { /* of numbers by hash, open addressing */
    uint32_t *slots;      /* number + 1 */
    uint32_t mask, used;
};

struct closure; /* working memory */

struct automaton {
    const struct nodes *nodes;
    struct automaton_state *states;
    uint32_t *transitions; /* [states][n_classes] */
    struct place *places;
    struct cell *cells;
    uint32_t n_states, n_places, n_cells, room_states, room_places, room_cells;
    struct automaton_table state_table, cell_table;
    struct closure *closure;
    uint32_t generation;   /* rises with every reset */
    uint64_t work, work_max; /* steps so far, and where to give up */
};

MUST_USE int automaton_init(struct automaton *a, const struct nodes *n, struct error *e);
void automaton_close(struct automaton *a);
/* Also takes back what work_max forbade. */
void automaton_reset(struct automaton *a);
/* The slow half of automaton_step(). */
uint32_t automaton_compute(struct automaton *a, uint32_t state, uint8_t class);

/* When ordinary characters can only be turns of one counted repetition, and nothing ordinary can follow it: how many of
 * them can come. 0: it cannot be said. */
uint32_t automaton_exact(const struct automaton *a, uint32_t state);

/* What may follow a state, whichever, by looking at the states around it: repetitions in repetitions are free in ways
 * that no single one of them is. Costs some dozen transitions; nothing is found where they are too many. */
void automaton_study(struct automaton *a, uint32_t state);

/* The first token of a way to the end that takes states[state].rest of them; -1: none is known. */
int32_t automaton_shortest(const struct automaton *a, uint32_t state);

/* `state` is a real one: below n_states. */
static inline uint32_t automaton_step(struct automaton *a, uint32_t state, uint8_t byte)
{
    uint8_t class = a->nodes->classes[byte];
    uint32_t next = a->transitions[state * a->nodes->n_classes + class];
    return next != AUTOMATON_UNKNOWN ? next : automaton_compute(a, state, class);
}

#endif
