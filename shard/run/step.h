/* step: one batch of rows sent down a route: plain data, no ownership of rows' values.
 *
 * A row is one token of one sequence at one position.  (sequence, epoch,
 * position) names the work: a repeated row gives the same result; a lower
 * position truncates the sequence's KV to it first; a wrong epoch or a gap is
 * refused by name (ERR_CONFLICT), except that a higher epoch may begin the
 * sequence anew at position 0.  Rows of one sequence in a step are contiguous
 * and ascend by one.  An adapter belongs to a sequence: only a row at position 0
 * may bring another one.                                                     */
#ifndef SHARD_RUN_STEP_H
#define SHARD_RUN_STEP_H

#include <stdint.h>

enum step_limits {
    STEP_ROWS_MAX = 1024,
    STEP_SEQUENCES_MAX = 256,
};

enum row_flags {
    ROW_SAMPLE = 1 << 0, /* the last stage samples a token after this row */
    ROW_LOGITS = 1 << 1, /* the last stage returns the whole logits row */
    ROW_HIDDEN = 1 << 3, /* it returns what enters the head: the row after the last norm */
};

struct step_row {
    uint64_t sequence;
    uint32_t epoch;
    uint32_t position;
    int32_t token; /* travels to every stage: the last one keeps the history that penalties need */
    uint16_t flags;
    uint16_t adapter; /* 0: none, else the place of one of the shard's, counted from 1 */
};

#endif
