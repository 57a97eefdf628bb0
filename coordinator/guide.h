/* guide: one answer's way: when its grammar binds, and the mask that its next sampled row carries.
 *
 * Nodes know no text, so the grammar stays here and a mask of token ids goes
 * with the row.  A token that comes back is believed only when its mask allowed
 * it.  A model that thinks does so freely, for as many tokens as it may, and
 * its grammar binds afterwards; or a grammar of calls binds whenever a call
 * begins.  An answer that a grammar binds is steered to its end where the tokens
 * that it may have run short, and reasoning before it is ended while there is
 * room for an answer.  Belongs to the engine's thread; guide_create() and
 * guide_destroy() may be called on any.                                      */
#ifndef COORDINATOR_GUIDE_H
#define COORDINATOR_GUIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/grammar/grammar.h"

struct guide;

enum guide_limits {
    GUIDE_MARK_MAX = 64,   /* bytes of a mark */
    GUIDE_TOKENS_MAX = 32, /* of a mark */
};

/* A text as the tokens that a model writes it with. */
struct guide_mark {
    char text[GUIDE_MARK_MAX]; /* "": none */
    int32_t tokens[GUIDE_TOKENS_MAX];
    uint32_t n;
};

struct guide_plan {
    struct grammar *grammar; /* NULL: the answer is free */
    const struct tokenizer *tokenizer; /* outlives the guide; NULL: none of what follows is asked for */
    bool thinking;           /* the answer begins within reasoning */
    struct guide_mark open;  /* an answer that begins with it begins with reasoning; none: it cannot */
    bool reopens;            /* and wherever else it comes: the mark ends with a control token */
    struct guide_mark close; /* ends reasoning */
    int64_t budget;          /* tokens of all reasoning; then its end is written. -1: no limit */
    struct guide_mark lead;  /* comes before what the grammar says */
    struct guide_mark trigger; /* not none: the grammar binds behind it only, each time that it comes */
    bool at_start;           /* the trigger counts as the beginning of the answer only */
    bool once;               /* the answer ends with what a trigger began */
};

/* Is there anything to guide? */
bool guide_is_needed(const struct guide_plan *p);
/* Copies the plan, holds the grammar. */
struct guide *guide_create(const struct guide_plan *p);
void guide_destroy(struct guide **g);
/* Make the mask of the next token, the first of `left` that the answer may still have. The status that the request
 * fails with when there is none. */
MUST_USE int guide_next(struct guide *g, uint32_t left, struct error *e);
/* It, as proto/mask.h has it; 0 bytes: any token may come. */
const uint8_t *guide_mask(const struct guide *g, uint32_t *n);
/* Tokens of the text that must come next, where there is only one way on; its last one is left to the model, which may
 * have a longer one. At most `max`; they count as accepted. How many. The answer may have `left` more. */
uint32_t guide_forced(struct guide *g, int32_t *tokens, uint32_t max, uint32_t left);
/* Is the answer whole as it stands? */
bool guide_is_whole(struct guide *g);
/* A token came, no end token. *done: the answer is complete and nothing can follow. ERR_CORRUPT: it was not allowed. */
MUST_USE int guide_accept(struct guide *g, int32_t token, bool *done, struct error *e);

#endif
