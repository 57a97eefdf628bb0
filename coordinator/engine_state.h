/* engine_state: what the parts of the engine share: engine.c (thread, submissions), dials.c (the links to
 * the stages), flight.c (steps and their answers).  Not for other folders.
 *
 * Everything below "the engine thread's" belongs to that thread.             */
#ifndef COORDINATOR_ENGINE_STATE_H
#define COORDINATOR_ENGINE_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buffer.h"
#include "base/logger.h"
#include "coordinator/engine.h"
#include "coordinator/pace.h"
#include "coordinator/request.h"
#include "coordinator/schedule.h"
#include "coordinator/session.h"
#include "net/link.h"

/* Waits, in milliseconds: tests shorten them. */
struct engine_tuning {
    uint32_t tick_ms;       /* housekeeping */
    uint32_t greet_ms;      /* for the first answer of a stage */
    uint32_t lost_ms;       /* a stage's connection may be away for so long */
    uint32_t step_floor_ms; /* the least that a step is waited for */
    uint32_t route_wait_ms; /* waiting requests outlive a route for so long */
    uint64_t values_bytes_max; /* undelivered, a request: more rows are sent only below it */
};
extern const struct engine_tuning engine_tuning_default;

struct dial { /* one stage of the route */
    struct link *link;
    bool greeted;          /* it has answered since its connection stands: it knows where answers go */
    uint32_t connections;  /* how often it was made, when last looked at */
    uint64_t dialled_ms;   /* or lost: when it began to be silent */
    uint64_t heard_ms;
    uint64_t ping_us, next_ping_ms;
    uint32_t conflicts;    /* steps in a row that it refused as out of place, or answered wrongly */
    double rtt_us, compute_us, queue_us;
};

struct flight { /* a step that did not come back */
    bool used;
    uint64_t number, sent_us, deadline_us;
    uint32_t rows_before; /* its own rows and those in flight before it */
    struct schedule_step step;
};

struct delivery { /* a token on its way to a request, after the next step was sent */
    struct request *request;
    uint32_t slot;
    uint64_t sequence;
    bool has_token, last;
    enum finish_reason why;
    struct frame_result token;
};

struct values_row { /* of logits or hidden, being put together from chunks */
    float *values;
    uint32_t width;
    uint64_t number, sequence;
    uint32_t position, filled;
    uint16_t next_chunk;
};

struct engine_counters {
    _Atomic uint64_t requests, failed, cancelled, prompt_tokens, generated, steps;
    _Atomic uint32_t running, waiting; /* waiting: submitted and without a place */
    _Atomic double step_ms, steps_per_second, tokens_per_second;
};

struct engine {
    struct control *control;
    struct engine_tuning tuning;
    void *zmq_context;
    uint32_t n_vocab, n_embd;
    pthread_t thread;
    struct queue *submits;
    struct doorbell *bell;
    _Atomic bool stopping;
    struct engine_counters counters;

    /* the engine thread's */
    struct sessions sessions;
    uint32_t waiting_counted;     /* of counters.waiting: those that this thread has taken over */
    uint32_t n_readers;           /* sessions that want values of every row */
    struct control_route route;   /* route 0: none */
    uint64_t version, dead_route; /* dead_route: given up here, not to be taken again */
    uint64_t routeless_ms;        /* since when there is none */
    struct schedule_limits limits;
    struct dial *dials;           /* [route.n_stages] */
    bool open;                    /* every stage has been greeted: steps may go */
    uint64_t chunks_sent, chunks_returned;
    struct flight *flights;       /* [route.n_stages] */
    uint32_t n_flights;
    uint64_t step_last;
    struct pace pace;
    struct delivery deliveries[FRAME_SEQUENCES_MAX];
    uint32_t n_deliveries;
    struct values_row row;
    int32_t broken_stage;         /* -1, or a stage that must be given up once messages are done with */
    char broken_why[160];
    struct frame_store *store;
    struct buffer out;
    struct schedule_step draft;
    struct frame_row *rows;
    struct frame_open *opens;
    uint64_t *ends;
    struct frame_mask *masks;
    uint64_t next_tick_ms, next_report_ms, rates_ms, rates_steps, rates_tokens;
    struct log_gate gate;
};

MUST_USE int engine_start_tuned(struct engine **out, struct control *c, const struct engine_tuning *t,
                                struct error *e);

/* ---- engine.c: sessions that end ---- */

void engine_fail_session(struct engine *en, struct session *s, int status, const char *text);
void engine_end_session(struct engine *en, struct session *s); /* its request is the caller's business */
/* Takes over what its grammar forces, and makes the mask of its next sampled row. The forced tokens wait in the request
 * to be delivered. False: the session has failed. */
bool engine_guide(struct engine *en, struct session *s);
/* Every running session fails with the sentence, waiting ones stay; the stages' links are closed. */
void engine_lose_route(struct engine *en, const char *text);

/* ---- dials.c ---- */

/* Look whether the control half has another route. */
void dials_follow(struct engine *en);
void dials_close(struct engine *en);
/* Give a stage up, and with it the route. */
void dials_give_up(struct engine *en, uint32_t stage, const char *why);
/* Give it up at the next chance: from where sessions are being walked. */
void dials_mark_broken(struct engine *en, uint32_t stage, const char *why);
void dials_drain(struct engine *en, uint32_t stage);
void dials_tick(struct engine *en, uint64_t now_ms);
const char *dials_name(const struct engine *en, uint32_t stage);

/* ---- flight.c ---- */

/* Send what can be sent. */
void flight_pump(struct engine *en);
/* Hand the tokens of the last answer to their requests. */
void flight_deliver(struct engine *en);
void flight_result(struct engine *en, const struct frame *f);
void flight_fail(struct engine *en, uint32_t stage, const struct frame *f);
void flight_credit(struct engine *en, const struct frame *f);
/* A stage's connection broke: what was under way on it may be lost. */
void flight_interrupted(struct engine *en, uint32_t stage);
void flight_tick(struct engine *en, uint64_t now_us);
/* The route is gone. */
void flight_forget(struct engine *en);

#endif
