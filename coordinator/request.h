/* request: what a caller of the engine holds.  Not for other folders: they use engine.h.
 *
 * Two owners: the caller until request_release(), the engine thread until it
 * has pushed the last event.  The options are written before the request is
 * handed over and only read after; the fields at the end are the engine
 * thread's.                                                                  */
#ifndef COORDINATOR_REQUEST_H
#define COORDINATOR_REQUEST_H

#include <stdatomic.h>

#include "base/queue.h"
#include "coordinator/engine.h"
#include "coordinator/guide.h"

/* Wakes the engine thread; outlives the engine while a request is held. */
struct doorbell {
    _Atomic uint32_t refs;
    struct queue *queue; /* of one item: rung or not */
};

struct doorbell *doorbell_create(void);
void doorbell_drop(struct doorbell **b);
void doorbell_ring(struct doorbell *b);
void doorbell_answer(struct doorbell *b); /* not rung any more */

enum { REQUEST_FORCED_MAX = 64 };

struct request {
    _Atomic uint32_t refs;
    _Atomic bool released;          /* the caller has let go */
    _Atomic uint64_t bytes_waiting; /* of values in the queue */
    struct doorbell *bell;
    struct queue *events;
    int32_t *prompt, *end_tokens;
    size_t n_prompt, n_end_tokens;
    uint32_t max_tokens;
    uint16_t adapter;
    enum event_kind values; /* EVENT_LOGITS or EVENT_HIDDEN of the rows below; EVENT_TOKEN: of none */
    uint64_t deadline_ms;
    struct frame_open sampling;
    struct frame_bias *bias;
    struct guide *guide;    /* NULL: the answer is free */

    _Atomic bool finished; /* the last event was pushed: written by the engine thread */
    int32_t forced[REQUEST_FORCED_MAX]; /* tokens that the grammar left no choice about, not yet delivered */
    uint32_t n_forced;
    uint32_t row_next, row_end; /* prompt rows whose values are due */
    uint64_t submitted_us, started_us, first_us;
};

/* What a route and its model allow. */
struct request_limits {
    uint32_t n_vocab, context, n_adapters;
    uint64_t kv_tokens;
};

/* Checks and copies the options.  ERR_LIMIT: too long.  ERR_INVALID: a token or a parameter out of range. */
MUST_USE int request_create(struct request **out, const struct request_options *o, const struct request_limits *l,
                            struct doorbell *bell, struct error *e);
/* ERR_LIMIT when these limits do not hold it. */
MUST_USE int request_fits(const struct request *r, const struct request_limits *l, struct error *e);
void request_drop(struct request **r); /* one owner less */
bool request_ends_with(const struct request *r, int32_t token);

/* Engine thread only.  Events that are not the last one: ERR_BUSY when the reader is too far behind. */
MUST_USE int request_push_token(struct request *r, const struct frame_result *token);
MUST_USE int request_push_forced(struct request *r, const struct frame_result *after); /* those that wait */
MUST_USE int request_push_values(struct request *r, float *takes, uint32_t n); /* of row_next */
bool request_is_behind(const struct request *r, uint64_t bytes_max); /* its reader, with values */
/* The last event; the engine's ownership ends with it. */
void request_done(struct request **r, enum finish_reason why, uint64_t now_us);
void request_failed(struct request **r, int status, const char *text);

#endif
