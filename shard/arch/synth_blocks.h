/* synth_blocks: random blocks of types that are not written from values. Not for other folders.
 *
 * The bits of a block are random but for its scale, which is chosen so that the
 * values have the deviation that is asked for, and whose sign is random so that
 * their mean is zero.                                                        */
#ifndef SHARD_ARCH_SYNTH_BLOCKS_H
#define SHARD_ARCH_SYNTH_BLOCKS_H

#include <stddef.h>

#include "base/random.h"
#include "kernels/qtype.h"

struct synth_blocks {
    const struct qtype *type;
    uint16_t scale; /* as the type spells it */
};

void synth_blocks_open(struct synth_blocks *b, const struct qtype *type, float deviation);
void synth_blocks_draw(const struct synth_blocks *b, struct random_state *random, void *blocks, size_t n);

#endif
