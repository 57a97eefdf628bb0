/* schedule: which rows of which sequences travel in the next step.  A pure decider: no sockets, no clock.
 *
 * Continuous batching: schedule_next() admits waiting sessions, then puts
 * together one step, and is called again until it has nothing to send.  At most
 * as many steps are in flight as the route has stages, so that every stage has
 * work; the sequences that decode are spread evenly over those steps.
 *
 * - A session is admitted only when the pages of its prompt and of all that it
 *   may generate are free: what runs can always finish, KV never deadlocks.
 * - First come, first admitted: a session that does not fit yet keeps its turn.
 * - Decode rows go first, the least recently served sequence before others; the
 *   rows that are left take prompts, in pieces, again least recently served
 *   first.  Beside sequences that decode the pieces are smaller, since those
 *   wait for the whole step.
 * - A sequence that decodes has one row in flight (its next token needs the
 *   last); the pieces of one prompt follow each other at once.  Tokens that a
 *   grammar left no choice about come several at a time, and are sent as a
 *   prompt's are.
 * - Ends ride in the next step; a step of ends alone is made when no row can be
 *   sent with them.                                                          */
#ifndef COORDINATOR_SCHEDULE_H
#define COORDINATOR_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/session.h"
#include "proto/frame.h"

enum schedule_pieces {
    SCHEDULE_PIECE_MIN = 64,        /* smaller pieces of a prompt only when it ends */
    SCHEDULE_BESIDE_DECODE_MIN = 32, /* and a quarter of the rows, whichever is more */
    SCHEDULE_META_MAX = FRAME_META_MAX - 20 - 12 * FRAME_STAGES_MAX, /* bytes of rows, opens, ends, masks */
    SCHEDULE_ROW_BYTES = 24,
    SCHEDULE_OPEN_BYTES = 60, /* and SCHEDULE_BIAS_BYTES a bias */
    SCHEDULE_BIAS_BYTES = 8,
    SCHEDULE_END_BYTES = 8,
    SCHEDULE_MASK_BYTES = 8, /* and the mask itself */
};

struct schedule_limits {
    uint32_t stages;          /* 1..FRAME_STAGES_MAX */
    uint32_t rows_max;        /* of a step, 1..FRAME_ROWS_MAX */
    uint32_t values_rows_max; /* rows of a step, of sessions that want values of each, >= 1 */
    uint32_t sequences_max;   /* 1..FRAME_SEQUENCES_MAX */
    uint32_t pages, page_tokens;
};

/* Positions [first, first + n) of one sequence. */
struct schedule_part {
    uint32_t slot;
    uint64_t sequence;
    uint32_t first, n;
    bool open;   /* its first: the sequence's parameters travel with it */
    bool sample; /* a token comes back for its last row */
};

struct schedule_step {
    uint32_t n_rows, n_parts, n_ends;
    struct schedule_part parts[FRAME_SEQUENCES_MAX];
    struct session_end ends[FRAME_SEQUENCES_MAX];
};

/* Pages of a sequence of so many tokens. */
uint32_t schedule_pages(const struct schedule_limits *l, uint64_t tokens);
/* Fill *out and count its rows as sent; false when nothing is to be sent now. `in_flight`: steps that did
 * not come back. */
bool schedule_next(struct sessions *t, const struct schedule_limits *l, uint32_t in_flight,
                   struct schedule_step *out);

#endif
