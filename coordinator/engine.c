/* engine: the gateway's thread: poll submissions, cancellations and the stages' links; act at once.
 *
 * Invariants: every session's owner is a request of which this thread holds one
 * ownership; it is given up with the request's last event or when its caller
 * has let go.  route.route is 0 exactly when there are no dials.             */
#include "coordinator/engine.h"

#include <string.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/engine_state.h"
#include "kernels/limits.h"

enum { GREETING_TICK_MS = 5, RATES_MS = 1000 };

const struct engine_tuning engine_tuning_default = {
    .tick_ms = 100, .greet_ms = 10000, .lost_ms = 1500, .step_floor_ms = 30000, .route_wait_ms = 30000,
    .values_bytes_max = 64 << 20};

/* ---- sessions ---- */

void engine_end_session(struct engine *en, struct session *s)
{
    en->n_readers -= s->every_row;
    session_remove(&en->sessions, s);
}

void engine_fail_session(struct engine *en, struct session *s, int status, const char *text)
{
    struct request *r = s->owner;
    engine_end_session(en, s);
    atomic_fetch_add(&en->counters.failed, 1);
    request_failed(&r, status, text);
}

/* A log-probability can only come from the model. */
static void take_forced(struct engine *en, struct session *s)
{
    struct request *r = s->owner;
    uint32_t room = s->tokens_max - s->n_tokens - 1; /* one is sampled */
    room = room < REQUEST_FORCED_MAX - 1 ? room : REQUEST_FORCED_MAX - 1;
    if (r->sampling.top_logprobs >= 0 || room == 0)
        return;
    r->n_forced = guide_forced(r->guide, r->forced, room, s->tokens_max - s->n_tokens);
    for (uint32_t i = 0; i < r->n_forced; i++)
        session_accept(s, r->forced[i]);
    atomic_fetch_add(&en->counters.generated, r->n_forced);
}

bool engine_guide(struct engine *en, struct session *s)
{
    struct request *r = s->owner;
    struct error e = {0};
    if (!r->guide)
        return true;
    take_forced(en, s);
    int status = guide_next(r->guide, s->tokens_max - s->n_tokens, &e);
    if (status != 0) {
        engine_fail_session(en, s, status, e.text);
        return false;
    }
    guide_mask(r->guide, &s->mask_bytes);
    return true;
}

static void cancel_session(struct engine *en, struct session *s)
{
    struct request *r = s->owner;
    engine_end_session(en, s);
    atomic_fetch_add(&en->counters.cancelled, 1);
    request_drop(&r);
}

static void fail_running(struct engine *en, int status, const char *text)
{
    while (en->sessions.n_running > 0)
        engine_fail_session(en, &en->sessions.all[en->sessions.running[0]], status, text);
}

static void fail_waiting(struct engine *en, int status, const char *text)
{
    while (en->sessions.n_waiting > 0)
        engine_fail_session(en, &en->sessions.all[en->sessions.waiting[0]], status, text);
}

void engine_lose_route(struct engine *en, const char *text)
{
    fail_running(en, ERR_UNAVAILABLE, text);
    sessions_forget_route(&en->sessions);
    flight_forget(en);
    dials_close(en);
    en->route.route = 0;
    en->route.n_stages = 0;
    en->routeless_ms = clock_ms();
    en->broken_stage = -1;
}

/* ---- submissions and cancellations ---- */

static void take_submission(struct engine *en, struct request *r)
{
    struct session *s = session_add(&en->sessions, &(struct session_new){
        .prompt = r->prompt, .n_prompt = (uint32_t)r->n_prompt, .generate_max = r->max_tokens,
        .open_bytes = SCHEDULE_OPEN_BYTES + r->sampling.n_bias * SCHEDULE_BIAS_BYTES,
        .every_row = r->row_end - r->row_next == r->n_prompt, .deadline_ms = r->deadline_ms, .owner = r});
    en->waiting_counted++;
    if (!s) {
        request_failed(&r, ERR_BUSY, "too many requests wait");
        return;
    }
    en->n_readers += s->every_row;
    if (atomic_load(&r->released)) {
        cancel_session(en, s);
        return;
    }
    struct frame_result prompt = {.sequence = s->sequence, .epoch = s->epoch, .position = s->n_prompt - 2};
    if (engine_guide(en, s) && request_push_forced(r, &prompt) != 0)
        engine_fail_session(en, s, ERR_LIMIT, "the reader of this answer is too slow");
}

static void take_submissions(struct engine *en)
{
    void *item;
    while (queue_pop(en->submits, &item, 0) == 0)
        take_submission(en, item);
}

/* Requests whose caller has gone: their sequences end. */
static void answer_bell(struct engine *en)
{
    doorbell_answer(en->bell);
    for (uint32_t i = 0; i < en->sessions.n_all; i++) {
        struct session *s = &en->sessions.all[i];
        if (s->state != SESSION_FREE && atomic_load(&((struct request *)s->owner)->released))
            cancel_session(en, s);
    }
}

/* Those that wait no more make room for others. */
static void count_waiting(struct engine *en)
{
    uint32_t gone = en->waiting_counted - en->sessions.n_waiting;
    en->waiting_counted -= gone;
    if (gone > 0)
        atomic_fetch_sub(&en->counters.waiting, gone);
}

/* ---- housekeeping ---- */

static void fail_late(struct engine *en, uint64_t now_ms)
{
    for (uint32_t i = 0; i < en->sessions.n_all; i++) {
        struct session *s = &en->sessions.all[i];
        if (s->state != SESSION_FREE && s->deadline_ms != 0 && now_ms >= s->deadline_ms)
            engine_fail_session(en, s, ERR_TIMEOUT, "the request's deadline passed");
    }
    if (en->route.route == 0 && en->sessions.n_waiting > 0 &&
        now_ms - en->routeless_ms >= en->tuning.route_wait_ms) {
        struct control_route *r = mem_alloc(sizeof(*r));
        control_route(en->control, r);
        fail_waiting(en, ERR_UNAVAILABLE, r->text[0] ? r->text : "no route through the nodes is ready");
        mem_free(r);
    }
}

static double rate(double old, uint64_t count, uint64_t ms)
{
    double now = (double)count * 1000 / (double)ms;
    return count == 0 ? 0 : old == 0 ? now : old * 0.5 + now * 0.5;
}

static void note_rates(struct engine *en, uint64_t now_ms)
{
    struct engine_counters *c = &en->counters;
    uint64_t ms = now_ms - en->rates_ms;
    if (ms < RATES_MS)
        return;
    uint64_t steps = atomic_load(&c->steps), tokens = atomic_load(&c->generated);
    atomic_store(&c->steps_per_second, rate(atomic_load(&c->steps_per_second), steps - en->rates_steps, ms));
    atomic_store(&c->tokens_per_second, rate(atomic_load(&c->tokens_per_second), tokens - en->rates_tokens, ms));
    en->rates_ms = now_ms;
    en->rates_steps = steps;
    en->rates_tokens = tokens;
}

static void tick(struct engine *en)
{
    uint64_t now = clock_ms();
    if (now < en->next_tick_ms)
        return;
    en->next_tick_ms = now + (en->route.route != 0 && !en->open ? GREETING_TICK_MS : en->tuning.tick_ms);
    fail_late(en, now);
    note_rates(en, now);
    if (en->route.route == 0)
        return;
    flight_tick(en, clock_us());
    dials_tick(en, now);
}

/* ---- the thread ---- */

static void wait_for_work(struct engine *en)
{
    zmq_pollitem_t items[FRAME_STAGES_MAX + 2] = {
        {.fd = queue_fd(en->submits), .events = ZMQ_POLLIN},
        {.fd = queue_fd(en->bell->queue), .events = ZMQ_POLLIN},
    };
    uint32_t n = en->route.n_stages;
    for (uint32_t i = 0; i < n; i++)
        items[2 + i] = (zmq_pollitem_t){.socket = link_socket(en->dials[i].link), .events = ZMQ_POLLIN};
    uint64_t now = clock_ms();
    (void)zmq_poll(items, (int)n + 2, now < en->next_tick_ms ? (long)(en->next_tick_ms - now) : 0);
    for (uint32_t i = n; i-- > 0;) { /* the last stage brings the tokens */
        if (items[2 + i].revents)
            dials_drain(en, i);
    }
    if (items[0].revents)
        take_submissions(en);
    if (items[1].revents)
        answer_bell(en);
}

static void *run(void *arg)
{
    struct engine *en = arg;
    while (!atomic_load(&en->stopping)) {
        wait_for_work(en);
        dials_follow(en);
        tick(en);
        flight_pump(en);
        if (en->broken_stage >= 0)
            dials_give_up(en, (uint32_t)en->broken_stage, en->broken_why);
        count_waiting(en);
    }
    queue_close(en->submits);
    take_submissions(en);
    fail_running(en, ERR_UNAVAILABLE, "the coordinator is stopping");
    fail_waiting(en, ERR_UNAVAILABLE, "the coordinator is stopping");
    flight_forget(en);
    dials_close(en);
    return NULL;
}

/* ---- life cycle ---- */

static void destroy(struct engine *en)
{
    sessions_close(&en->sessions);
    queue_destroy(&en->submits, NULL);
    doorbell_drop(&en->bell);
    frame_store_destroy(&en->store);
    buffer_close(&en->out);
    mem_free(en->rows);
    mem_free(en->opens);
    mem_free(en->ends);
    mem_free(en->masks);
    link_context_destroy(&en->zmq_context);
    mem_free(en);
}

int engine_start_tuned(struct engine **out, struct control *c, const struct engine_tuning *t, struct error *e)
{
    *out = NULL;
    struct engine *en = mem_alloc(sizeof(*en));
    en->control = c;
    en->tuning = *t;
    en->n_vocab = model_hparams(control_model(c))->n_vocab;
    en->n_embd = model_hparams(control_model(c))->n_embd;
    en->zmq_context = link_context(1);
    en->submits = queue_create(ENGINE_WAITING_MAX);
    en->bell = doorbell_create();
    en->store = frame_store_create();
    buffer_init(&en->out, FRAME_BYTES_MAX);
    en->rows = mem_array(FRAME_ROWS_MAX, sizeof(*en->rows));
    en->opens = mem_array(FRAME_SEQUENCES_MAX, sizeof(*en->opens));
    en->ends = mem_array(FRAME_SEQUENCES_MAX, sizeof(*en->ends));
    en->masks = mem_array(FRAME_SEQUENCES_MAX, sizeof(*en->masks));
    sessions_init(&en->sessions, ENGINE_WAITING_MAX + FRAME_SEQUENCES_MAX);
    en->version = control_version(c) - 1; /* so that the first look sees a change */
    en->broken_stage = -1;
    en->routeless_ms = en->rates_ms = clock_ms();
    if (pthread_create(&en->thread, NULL, run, en) != 0) {
        destroy(en);
        return error_set(e, ERR_MEMORY, "cannot start the engine's thread");
    }
    *out = en;
    return 0;
}

int engine_start(struct engine **out, struct control *c, struct error *e)
{
    return engine_start_tuned(out, c, &engine_tuning_default, e);
}

void engine_stop(struct engine **engine)
{
    struct engine *en = *engine;
    *engine = NULL;
    if (!en)
        return;
    atomic_store(&en->stopping, true);
    doorbell_ring(en->bell);
    pthread_join(en->thread, NULL);
    destroy(en);
}

/* ---- any thread ---- */

static int route_limits(struct engine *en, struct request_limits *l, struct error *e)
{
    struct control_route *r = mem_alloc(sizeof(*r));
    control_route(en->control, r);
    int status = 0;
    if (r->state != CONTROL_READY || r->route == 0)
        status = error_set(e, ERR_UNAVAILABLE, "%s", r->text[0] ? r->text : "no route through the nodes is ready");
    uint64_t pages = ((uint64_t)r->kv_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    *l = (struct request_limits){en->n_vocab, r->context, control_adapter_count(en->control),
                                 pages * KV_PAGE_TOKENS};
    mem_free(r);
    return status;
}

int engine_submit(struct engine *en, struct request **out, const struct request_options *o, struct error *e)
{
    struct request_limits l;
    *out = NULL;
    int r = route_limits(en, &l, e);
    if (r == 0)
        r = request_create(out, o, &l, en->bell, e);
    if (r != 0)
        return r;
    if (atomic_fetch_add(&en->counters.waiting, 1) >= ENGINE_WAITING_MAX || queue_push(en->submits, *out) != 0) {
        atomic_fetch_sub(&en->counters.waiting, 1);
        struct request *unused = *out;
        request_drop(&unused); /* the engine's share */
        request_drop(out);
        return error_set(e, ERR_BUSY, "%d requests wait already; try again later", ENGINE_WAITING_MAX);
    }
    atomic_fetch_add(&en->counters.requests, 1);
    return 0;
}

void engine_stats(struct engine *en, struct engine_stats *out)
{
    struct engine_counters *c = &en->counters;
    *out = (struct engine_stats){
        .requests_total = atomic_load(&c->requests), .requests_failed = atomic_load(&c->failed),
        .requests_cancelled = atomic_load(&c->cancelled), .prompt_tokens_total = atomic_load(&c->prompt_tokens),
        .generated_tokens_total = atomic_load(&c->generated), .steps_total = atomic_load(&c->steps),
        .running = atomic_load(&c->running), .waiting = atomic_load(&c->waiting),
        .step_ms = atomic_load(&c->step_ms), .steps_per_second = atomic_load(&c->steps_per_second),
        .tokens_per_second = atomic_load(&c->tokens_per_second)};
}
