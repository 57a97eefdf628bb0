/* special: tokens that are found in raw text before it is split.  Not for other folders.
 *
 * At each place, from the left, the longest token that stands there and may be
 * recognised is taken.                                                       */
#ifndef TEXT_SPECIAL_H
#define TEXT_SPECIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/span.h"
#include "text/vocab.h"

struct special_set {
    const struct vocab *vocab;
    uint32_t *ids;        /* sorted by their bytes */
    uint32_t first[257];  /* those that begin with byte c: ids[first[c]] to ids[first[c + 1]] */
    uint32_t user[256];   /* how many of them are user-defined */
};

/* All control and user-defined tokens: those that are recognised in the raw text or, `late`, in the normalised. */
void special_open(struct special_set *s, const struct vocab *v, bool late);
void special_close(struct special_set *s);

struct special_match {
    size_t start, end; /* of the token's text */
    uint32_t id;
};

/* The first special token at or after `at`. Control tokens count where they lie inside one of the trusted spans
 * (in order, apart); *span is the caller's place in them, 0 at first. */
bool special_next(const struct special_set *s, const char *text, size_t len, size_t at, const struct text_span *trusted,
                  size_t n_trusted, size_t *span, struct special_match *out);

#endif
