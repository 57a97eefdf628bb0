/* fake_route: a control half and a route of stages that exist only for tests of the engine.
 *
 * The control half is control.h's gateway functions over a struct under a lock.
 * The route is one thread that owns a real listener a stage and speaks the
 * frame protocol as the last stage would: it checks the laws of steps and
 * answers with tokens that follow from (token, position) and the row's mask alone. */
#ifndef TESTS_COORDINATOR_FAKE_ROUTE_H
#define TESTS_COORDINATOR_FAKE_ROUTE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "coordinator/control.h"

enum { FAKE_STAGES_MAX = 3, FAKE_SEQUENCES_MAX = 64 };

/* ---- the control half ---- */

struct control {
    pthread_mutex_t lock;
    struct control_route route;
    _Atomic uint64_t version;
    struct keys keys;
    struct model *model;
    uint32_t n_failed; /* calls of control_stage_failed() */
    uint64_t failed_route;
    uint32_t failed_stage;
    char failed_why[200];
    _Atomic uint32_t n_reports;
};

void fake_control_init(struct control *c, const char *model_path);
void fake_control_close(struct control *c);
uint32_t fake_control_failures(struct control *c);

/* ---- the route ---- */

enum fake_mode {
    FAKE_GOOD,
    FAKE_SILENT,         /* takes steps and answers pings only */
    FAKE_DEAF,           /* answers nothing at all */
    FAKE_FAILS,          /* FAIL to every step with rows */
    FAKE_NOISY,          /* rubbish of many kinds before every good answer */
    FAKE_BAD_TOKEN,      /* a token past the vocabulary */
    FAKE_NEGATIVE_TOKEN,
    FAKE_BAD_SEQUENCE,   /* a result of a sequence that was not in the step */
    FAKE_BAD_POSITION,
    FAKE_MISSING_RESULT,
    FAKE_EXTRA_RESULT,
    FAKE_BAD_LOGITS,     /* a row that was not asked for */
    FAKE_SHORT_LOGITS,   /* a row with a chunk missing */
    FAKE_UNMASKED,       /* tokens that masks forbid */
    FAKE_WIDE_ROWS,      /* hidden rows a value too wide */
};

struct fake_sequence {
    uint64_t sequence;
    uint32_t length;
};

struct fake_route {
    void *zmq_context;
    struct zap *zap;
    struct link *links[FAKE_STAGES_MAX];
    struct keys keys[FAKE_STAGES_MAX];
    uint32_t n_stages, n_vocab, n_embd;
    uint64_t number;
    pthread_t thread;
    _Atomic bool stopping;
    _Atomic int mode;
    _Atomic int fail_status;
    _Atomic bool relisten;       /* drop the last stage's listener and open it again on its port */
    _Atomic uint32_t hold;       /* answer only when so many steps wait, or nothing came for a while */
    /* what was seen */
    _Atomic uint32_t rows_most, sequences_most, flight_most, ends, opens, held, broken_laws;
    _Atomic uint64_t steps;
    struct fake_route_private *p;
};

/* Starts the route's thread and tells the control half that it is ready. */
void fake_route_start(struct fake_route *r, struct control *c, uint32_t n_stages, uint32_t n_vocab,
                      enum fake_mode mode);
void fake_route_stop(struct fake_route *r);

/* The token that follows `token` at `position`. */
int32_t fake_next(int32_t token, uint32_t position, uint32_t n_vocab);
float fake_logit(int32_t token, uint32_t position, uint32_t i); /* value i of a hidden row is logit i + 7 */

#endif
