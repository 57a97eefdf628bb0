/* guide: one answer's way through its grammar: the mask that its next sampled row carries.
 *
 * Nodes know no text, so the grammar stays here and a mask of token ids goes
 * with the row.  A token that comes back is believed only when its mask allowed
 * it.  Belongs to the engine's thread; guide_create() and guide_destroy() may be
 * called on any.                                                             */
#ifndef COORDINATOR_GUIDE_H
#define COORDINATOR_GUIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/grammar/grammar.h"

struct guide;

/* Holds the grammar. */
struct guide *guide_create(struct grammar *g);
void guide_destroy(struct guide **g);
/* Make the mask of the next token. The status that the request fails with when there is none. */
MUST_USE int guide_next(struct guide *g, struct error *e);
/* It, as proto/mask.h has it. */
const uint8_t *guide_mask(const struct guide *g, uint32_t *n);
/* Tokens of the text that must come next, where there is only one way on; its last one is left to the model, which may
 * have a longer one. At most `max`; they count as accepted. How many. */
uint32_t guide_forced(struct guide *g, int32_t *tokens, uint32_t max);
/* A token came, no end token. *done: the answer is complete and nothing can follow. ERR_CORRUPT: it was not allowed. */
MUST_USE int guide_accept(struct guide *g, int32_t token, bool *done, struct error *e);

#endif
