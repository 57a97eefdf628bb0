/* mask: which tokens a row may be sampled as, on the wire.
 *
 * A mask has a bit for each token id, the lowest first.  Where few are set or
 * few are clear, those are listed instead when that is shorter.
 *
 *   0 u8 form   1 u32 ids that it covers; all after them are not allowed   5 the form's bytes
 *
 * MASK_BITS: the bits.  MASK_ALLOWED, MASK_DENIED: ids, rising, each as the
 * difference to the one before (the first to -1) in groups of seven bits, the
 * lowest first, with the eighth bit where more follow.                       */
#ifndef PROTO_MASK_H
#define PROTO_MASK_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum mask_form { MASK_BITS = 0, MASK_ALLOWED = 1, MASK_DENIED = 2 };
enum mask_limits { MASK_HEAD_BYTES = 5 };

/* Appends the mask of n ids. */
void mask_encode(struct buffer *out, const uint8_t *bits, uint32_t n);
/* Fills the bits of `room` ids. ERR_CORRUPT for what is no mask, or one of more ids, or one that allows none. */
MUST_USE int mask_decode(const void *bytes, size_t n, uint8_t *bits, uint32_t room, struct error *e);

#endif
