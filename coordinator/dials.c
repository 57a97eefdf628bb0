/* dials: the gateway's links to every stage of the route in force.
 *
 * A stage answers to the connection that last spoke to it with the coordinator's
 * key, so every stage is greeted with a PING, and no step goes before each has
 * answered since its connection stands.  A stage whose connection stays away,
 * or that lets a step time out, is reported to the control half, and the route
 * is not used again.                                                         */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/engine_state.h"
#include "kernels/limits.h"

enum {
    DRAIN_MAX = 64,       /* messages of one link before the others get their turn */
    PING_MS = 1000,
    REPORT_MS = 1000,     /* to the control half: it is for people to read */
    GREET_AGAIN_MS = 200, /* between PINGs that are not answered yet */
    LOGITS_FRAMES = 48,   /* of one step: fewer than a stage's link queues */
};

const char *dials_name(const struct engine *en, uint32_t stage)
{
    return en->route.stages[stage].name[0] ? en->route.stages[stage].name : en->route.stages[stage].endpoint;
}

/* ---- life ---- */

void dials_close(struct engine *en)
{
    for (uint32_t i = 0; en->dials && i < en->route.n_stages; i++)
        link_close(&en->dials[i].link);
    mem_free(en->dials);
    mem_free(en->flights);
    en->dials = NULL;
    en->flights = NULL;
    en->open = false;
}

void dials_mark_broken(struct engine *en, uint32_t stage, const char *why)
{
    if (en->broken_stage >= 0)
        return;
    en->broken_stage = (int32_t)stage;
    snprintf(en->broken_why, sizeof(en->broken_why), "%.159s", why);
}

void dials_give_up(struct engine *en, uint32_t stage, const char *why)
{
    char text[400];
    snprintf(text, sizeof(text), "node %s (stage %u of %u) failed: %s; send the request again",
             dials_name(en, stage), stage + 1, en->route.n_stages, why);
    log_warn("engine", "a stage was given up: route=%llu stage=%u name=%s why=%s",
             (unsigned long long)en->route.route, stage + 1, dials_name(en, stage), why);
    en->dead_route = en->route.route;
    control_stage_failed(en->control, en->route.route, stage, why);
    engine_lose_route(en, text);
}

static uint32_t clamp(uint32_t v, uint32_t most)
{
    return v == 0 ? 1 : v < most ? v : most;
}

static void set_limits(struct engine *en)
{
    const struct control_route *r = &en->route;
    uint32_t chunks = (uint32_t)((en->n_vocab * sizeof(float) + FRAME_CHUNK_MAX - 1) / FRAME_CHUNK_MAX);
    en->limits = (struct schedule_limits){
        .stages = r->n_stages, .rows_max = clamp(r->batch_rows_max, FRAME_ROWS_MAX),
        .values_rows_max = clamp(LOGITS_FRAMES / chunks, FRAME_ROWS_MAX),
        .sequences_max = clamp(r->sequences_max, FRAME_SEQUENCES_MAX), .page_tokens = KV_PAGE_TOKENS,
        .pages = r->kv_tokens / KV_PAGE_TOKENS + (r->kv_tokens % KV_PAGE_TOKENS != 0)};
}

/* Waiting requests were checked against an earlier route. */
static void check_waiting(struct engine *en)
{
    struct request_limits l = {en->n_vocab, en->route.context, control_adapter_count(en->control),
                               (uint64_t)en->limits.pages * en->limits.page_tokens};
    for (uint32_t i = en->sessions.n_waiting; i-- > 0;) {
        struct session *s = &en->sessions.all[en->sessions.waiting[i]];
        struct error e = {0};
        if (request_fits(s->owner, &l, &e) != 0)
            engine_fail_session(en, s, e.status, e.text);
    }
}

static void begin(struct engine *en, const struct control_route *route)
{
    en->route = *route;
    set_limits(en);
    check_waiting(en);
    en->dials = mem_array(route->n_stages, sizeof(*en->dials));
    en->flights = mem_array(route->n_stages, sizeof(*en->flights));
    memset(&en->pace, 0, sizeof(en->pace));
    uint64_t now = clock_ms();
    for (uint32_t i = 0; i < route->n_stages; i++) {
        struct link_options o = {.keys = control_keys(en->control), .bytes_max = FRAME_BYTES_MAX,
                                 .queue_max = FRAME_CREDIT_WINDOW + 8};
        struct error e = {0};
        en->dials[i].dialled_ms = en->dials[i].heard_ms = now;
        if (link_dial(&en->dials[i].link, en->zmq_context, route->stages[i].endpoint, route->stages[i].key, &o,
                      &e) != 0) {
            dials_give_up(en, i, e.text);
            return;
        }
    }
    log_info("engine", "a route is dialled: route=%llu stages=%u", (unsigned long long)route->route,
             route->n_stages);
    en->next_tick_ms = now;
}

void dials_follow(struct engine *en)
{
    uint64_t version = control_version(en->control);
    if (version == en->version)
        return;
    en->version = version;
    struct control_route *r = mem_alloc(sizeof(*r));
    control_route(en->control, r);
    bool usable = r->state == CONTROL_READY && r->route != 0 && r->n_stages > 0 && r->n_stages <= FRAME_STAGES_MAX;
    if (en->route.route != 0 && (!usable || r->route != en->route.route)) {
        char text[300];
        snprintf(text, sizeof(text), "the route through the nodes ended before the answer did%s%s; send it again",
                 r->text[0] ? ": " : "", r->text);
        engine_lose_route(en, text);
    }
    if (usable && r->route != en->route.route && r->route != en->dead_route)
        begin(en, r);
    mem_free(r);
}

/* ---- messages ---- */

static void on_pong(struct engine *en, struct dial *d, const struct frame *f)
{
    if (f->header.step != d->ping_us || d->ping_us == 0)
        return;
    double us = (double)(clock_us() - d->ping_us);
    d->rtt_us = d->rtt_us == 0 || us < d->rtt_us ? us : d->rtt_us * 0.9 + us * 0.1;
    d->ping_us = 0;
    d->greeted = true;
    bool all = true;
    for (uint32_t i = 0; i < en->route.n_stages; i++)
        all &= en->dials[i].greeted;
    if (all && !en->open)
        log_info("engine", "the route is open: route=%llu", (unsigned long long)en->route.route);
    en->open = all;
}

static void on_message(struct engine *en, uint32_t stage, const struct link_message *m)
{
    struct dial *d = &en->dials[stage];
    struct frame f;
    struct error e = {0};
    if (frame_decode(&f, en->store, m->data, m->size, &e) != 0) {
        logger_limited(&en->gate, 20, LOG_WARN, "engine", "a frame was refused: stage=%u %s", stage + 1, e.text);
        return;
    }
    d->heard_ms = clock_ms();
    if (f.header.kind == FRAME_PONG)
        on_pong(en, d, &f);
    else if (f.header.route != en->route.route)
        return; /* of an earlier route */
    else if (f.header.kind == FRAME_RESULT && stage + 1 == en->route.n_stages)
        flight_result(en, &f);
    else if (f.header.kind == FRAME_FAIL)
        flight_fail(en, stage, &f);
    else if (f.header.kind == FRAME_CREDIT && stage == 0)
        flight_credit(en, &f);
    flight_pump(en);
    flight_deliver(en);
}

void dials_drain(struct engine *en, uint32_t stage)
{
    struct link_message m;
    for (int i = 0; i < DRAIN_MAX && link_receive(en->dials[stage].link, &m, NULL) == 0; i++) {
        on_message(en, stage, &m);
        link_message_close(&m);
    }
}

/* ---- housekeeping ---- */

static void ping(struct engine *en, struct dial *d, uint64_t now_ms)
{
    if (now_ms < d->next_ping_ms || !link_connected(d->link))
        return;
    d->next_ping_ms = now_ms + (d->greeted ? PING_MS : GREET_AGAIN_MS);
    uint64_t stamp = clock_us();
    struct frame f = {.header = {.kind = FRAME_PING, .route = en->route.route, .step = stamp, .chunks = 1}};
    if (frame_encode(&en->out, &f, NULL) == 0 && link_send(d->link, NULL, en->out.data, en->out.len, NULL) == 0)
        d->ping_us = stamp;
}

/* True when the stage is to be given up, and why. */
static const char *dial_lost(struct engine *en, struct dial *d, uint64_t now_ms)
{
    link_watch(d->link);
    bool connected = link_connected(d->link);
    uint32_t connections = link_connections(d->link);
    if (d->greeted && (!connected || connections != d->connections)) {
        d->greeted = false;
        en->open = false;
        d->dialled_ms = now_ms;
        flight_interrupted(en, (uint32_t)(d - en->dials));
    }
    if (connections != d->connections)
        d->next_ping_ms = 0;
    d->connections = connections;
    if (d->greeted)
        return NULL;
    uint64_t silent = now_ms - d->dialled_ms;
    if (d->rtt_us > 0 && !connected && silent >= en->tuning.lost_ms)
        return "its connection is gone";
    if (silent >= en->tuning.greet_ms)
        return link_refused(d->link) ? "it refuses the coordinator's key" : "it cannot be reached";
    return NULL;
}

static void report_times(struct engine *en, uint64_t now_ms)
{
    double rate = atomic_load(&en->counters.steps_per_second);
    if (now_ms < en->next_report_ms)
        return;
    en->next_report_ms = now_ms + REPORT_MS;
    for (uint32_t i = 0; en->open && i < en->route.n_stages; i++) {
        const struct dial *d = &en->dials[i];
        struct control_stage_times t = {d->compute_us, d->queue_us, d->rtt_us / 2, rate};
        control_report_times(en->control, en->route.route, i, &t);
    }
}

void dials_tick(struct engine *en, uint64_t now_ms)
{
    for (uint32_t i = 0; i < en->route.n_stages; i++) {
        const char *why = dial_lost(en, &en->dials[i], now_ms);
        if (why) {
            dials_mark_broken(en, i, why);
            return;
        }
        ping(en, &en->dials[i], now_ms);
    }
    report_times(en, now_ms);
}
