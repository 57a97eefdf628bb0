/* normalizer: what a model's file asks to be done to a text before it is split.
 *
 * A list of steps; bytes that are not UTF-8 pass through all of them.  Not for
 * other folders.                                                             */
#ifndef TEXT_NORMALIZER_H
#define TEXT_NORMALIZER_H

#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"
#include "text/source.h"

struct normalizer {
    struct source_step steps[SOURCE_STEPS_MAX]; /* of own texts */
    size_t n_steps;
};

/* Copies what it needs. */
MUST_USE int normalizer_open(struct normalizer *n, const struct source *s, struct error *e);
void normalizer_close(struct normalizer *n); /* also after a failed open */
/* Append the normalised text. ERR_LIMIT when that does not fit into `out`. */
MUST_USE int normalizer_run(const struct normalizer *n, const char *text, size_t len, struct buffer *out,
                            struct error *e);

/* charsmap.c: SentencePiece's table of replacements. */
MUST_USE int charsmap_check(struct source_text map, struct error *e);
void charsmap_run(struct source_text map, const char *text, size_t len, struct buffer *out);

#endif
