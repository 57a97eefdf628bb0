/* engine: the gateway half's actor: sequences in, tokens out.
 *
 * The engine thread owns the dials to every stage of the route, the session
 * table and the schedule; it turns waiting sequences into steps, keeps as many
 * steps in flight as the route has stages, and hands every token to the
 * request that waits for it.  HTTP threads submit a request and then pop
 * events from the request's own bounded queue.  Several sequences share a
 * step.  Text is not its business: token ids only, and for an answer with a
 * grammar the mask of those that may come next.
 *
 * Ownership: engine_submit() copies what it is given; the request handle
 * belongs to the caller until engine_release(), which also cancels.          */
#ifndef COORDINATOR_ENGINE_H
#define COORDINATOR_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "coordinator/control.h"
#include "coordinator/guide.h"
#include "proto/frame.h"

enum engine_limits {
    ENGINE_WAITING_MAX = 256,     /* sequences that wait for a place; more: ERR_BUSY */
    ENGINE_EVENTS_MAX = 4096,     /* undelivered tokens a request: a reader slower than that is cancelled */
};

struct engine;
struct request;

/* Rows of the prompt of which the values after the last norm come back. */
enum hidden_rows { HIDDEN_NONE, HIDDEN_FIRST, HIDDEN_LAST, HIDDEN_ALL };

struct request_options {
    const int32_t *prompt;
    size_t n_prompt;
    uint32_t max_tokens;       /* 0: prefill only. ERR_LIMIT when prompt + max_tokens pass the context */
    struct frame_open sampling; /* sequence and epoch are the engine's; bias is copied */
    const int32_t *end_tokens; /* generation ends after one of these (it is delivered) */
    size_t n_end_tokens;
    const struct guide_plan *plan; /* of the answer's form, NULL: it is free. Copied; end_tokens must be its model's */
    uint32_t adapter;          /* 0: none, else one of control_adapter_name(). ERR_INVALID: there is no such one */
    bool logits;               /* deliver EVENT_LOGITS for every prompt row instead of sampling */
    enum hidden_rows hidden;   /* or EVENT_HIDDEN for some of them; not both */
    uint64_t deadline_ms;      /* clock_ms() after which it is given up; 0: none */
};

enum event_kind { EVENT_TOKEN, EVENT_LOGITS, EVENT_HIDDEN, EVENT_DONE, EVENT_FAILED };
enum finish_reason { FINISH_STOP, FINISH_LENGTH };

struct event {
    enum event_kind kind;
    struct frame_result token;   /* EVENT_TOKEN */
    uint32_t row;                /* EVENT_LOGITS, EVENT_HIDDEN: prompt index */
    float *values;               /* [n_values] of the row, freed by event_free */
    uint32_t n_values;           /* the vocabulary's size, or a hidden row's */
    enum finish_reason finish;   /* EVENT_DONE */
    struct error error;          /* EVENT_FAILED */
    uint64_t queued_us, prefill_us, decode_us; /* EVENT_DONE: where its time went */
};

MUST_USE int engine_start(struct engine **out, struct control *c, struct error *e);
/* Unfinished requests get EVENT_FAILED; they may be read and released after it. No engine_submit() may be under way. */
void engine_stop(struct engine **en);

/* ERR_BUSY: too many wait.  ERR_UNAVAILABLE: no route (the sentence says why).  ERR_LIMIT: too long. */
MUST_USE int engine_submit(struct engine *en, struct request **out, const struct request_options *o, struct error *e);
/* 0, ERR_TIMEOUT; the event is the caller's: event_free(). After EVENT_DONE or EVENT_FAILED nothing comes. */
MUST_USE int request_next(struct request *r, struct event **out, uint64_t wait_ms);
void event_free(struct event *ev);
/* Cancels when not finished: its sequence is ended on every stage. Nulls. */
void request_release(struct request **r);

struct engine_stats {
    uint64_t requests_total, requests_failed, requests_cancelled;
    uint64_t prompt_tokens_total, generated_tokens_total, steps_total;
    uint32_t running, waiting;
    double step_ms; /* smoothed */
    double steps_per_second, tokens_per_second;
};
void engine_stats(struct engine *en, struct engine_stats *out);

#endif
