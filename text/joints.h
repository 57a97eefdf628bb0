/* joints: where no token can reach across.
 *
 * Two characters that stand beside each other in no ordinary token cannot end up
 * in one, so a text may be cut between them and its parts be encoded apart, with
 * the same result.  That makes words of what has no pre-tokenizer.  The pairs
 * are kept as a set of hashes: a false member only leaves a cut out.  Not for
 * other folders.                                                             */
#ifndef TEXT_JOINTS_H
#define TEXT_JOINTS_H

#include <stddef.h>
#include <stdint.h>

#include "text/vocab.h"

struct joints {
    uint64_t *bits;
    unsigned shift;
};

void joints_open(struct joints *j, const struct vocab *v);
void joints_close(struct joints *j);
/* The length of the part before the first cut, at most WORK_PIECE_MAX bytes. len is at least 1. */
size_t joints_cut(const struct joints *j, const char *text, size_t len);

#endif
