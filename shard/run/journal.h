/* journal: how far an interrupted quantize_write() came. Not for other folders.
 *
 * A text file beside the partial output: first the lines that say what is being
 * made of what, then a line for each place up to which the output is safe on
 * disk.  The last whole line counts, so that a line that was cut does no harm;
 * a journal of another job is none.                                          */
#ifndef SHARD_RUN_JOURNAL_H
#define SHARD_RUN_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* A place in the output: so many tensors, and bytes of the next. */
struct journal_place {
    uint64_t tensor, in_tensor;
};

struct journal;

/* The last place of the journal at `path` where it is of this job, else (0, 0). */
struct journal_place journal_find(const char *path, const char *job);
/* One that begins at `place`, instead of what was there. */
MUST_USE int journal_open(struct journal **out, const char *path, const char *job, struct journal_place place,
                          struct error *e);
MUST_USE int journal_add(struct journal *j, struct journal_place place, struct error *e);
void journal_close(struct journal **j); /* NULL is fine */

#endif
