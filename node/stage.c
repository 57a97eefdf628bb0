/* stage: poll the data listener, the command queue and the dial to the next stage; run what is complete.
 *
 * Invariants: the shard, its samplers and the route belong together: a new
 * shard ends the route, a new route forgets every sequence.  A frame is obeyed
 * only from the coordinator's key (stage 0) or from a member that is not the
 * coordinator (later stages): the listener's gate has let in members only.   */
#include "node/stage.h"

#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/memory.h"
#include "node/stage_state.h"

enum { POLL_MS = 100, DRAIN_MAX = 64 };

enum command_kind { COMMAND_SHARD, COMMAND_UNLOAD, COMMAND_ROUTE, COMMAND_END_ROUTE, COMMAND_MEMBERS, COMMAND_STOP };

struct command {
    enum command_kind kind;
    uint64_t load;
    struct model *model;
    struct shard *shard;
    struct stage_route route;
    uint8_t *keys;
    size_t n_keys;
};

/* ---- reports ---- */

static void report(struct stage *s, enum report_kind kind, uint64_t route, int status, const char *text)
{
    struct report *r = mem_alloc(sizeof(*r));
    r->kind = kind;
    r->route = route;
    r->load = s->load;
    r->status = status;
    snprintf(r->text, sizeof(r->text), "%.255s", text);
    int pushed;
    while ((pushed = queue_push(s->o.reports, r)) == ERR_BUSY)
        clock_sleep_ms(5);
    if (pushed != 0)
        mem_free(r);
}

/* ---- shard and route ---- */

static void end_route(struct stage *s)
{
    link_close(&s->next);
    execute_forget(s);
    memset(&s->route, 0, sizeof(s->route));
    atomic_store(&s->stats.route, 0);
    s->upstream_chunks = s->upstream_credited = 0;
    memset(&s->upstream, 0, sizeof(s->upstream));
}

static void unload(struct stage *s)
{
    end_route(s);
    shard_close(&s->shard);
    model_close(&s->model);
    assembly_close(&s->assembly);
    mem_free(s->slots);
    mem_big_free(s->packed, (size_t)s->rows_max * s->n_embd * sizeof(float));
    mem_free(s->allowed);
    s->slots = NULL;
    s->packed = NULL;
    s->allowed = NULL;
    s->n_slots = 0;
    s->load = 0;
    atomic_store(&s->stats.resident_bytes, 0);
}

/* The embedding may be padded past the vocabulary; those ids are no tokens. */
static uint32_t count_usable(const struct model *m)
{
    enum gguf_type type;
    uint64_t n;
    uint32_t n_vocab = model_hparams(m)->n_vocab;
    bool known = gguf_array(model_file(m), "tokenizer.ggml.tokens", &type, &n) && n > 0 && n < n_vocab;
    return known ? (uint32_t)n : n_vocab;
}

static int take_shard(struct stage *s, struct command *c, struct error *e)
{
    unload(s);
    struct shard_options o;
    shard_facts(c->shard, &o);
    const struct hparams *h = model_hparams(c->model);
    s->model = c->model;
    s->shard = c->shard;
    s->load = c->load;
    c->model = NULL;
    c->shard = NULL;
    s->range = o.range;
    s->n_embd = h->n_embd;
    s->n_vocab = h->n_vocab;
    s->n_usable = count_usable(s->model);
    s->rows_max = o.batch_rows_max;
    s->n_slots = o.range.head ? o.sequences_max : 0;
    s->slots = mem_array(s->n_slots + 1, sizeof(*s->slots));
    s->allowed = mem_array(s->n_vocab / 8 + 1, 1);
    s->packed = mem_try_big((size_t)s->rows_max * s->n_embd * sizeof(float));
    if (!s->packed)
        return error_set(e, ERR_MEMORY, "no memory for a step's rows");
    struct shard_stats st;
    shard_stats(s->shard, &st);
    atomic_store(&s->stats.resident_bytes, st.bytes_weights + st.bytes_kv + st.bytes_scratch);
    atomic_store(&s->stats.pages_total, st.pages_total);
    return assembly_init(&s->assembly, s->rows_max, s->n_embd, e);
}

/* A new route starts from nothing: sequences of an earlier one are gone. */
static int set_route(struct stage *s, const struct stage_route *route, struct error *e)
{
    if (!s->shard || route->load != s->load)
        return error_set(e, ERR_CONFLICT, "the shard of this route is not loaded here");
    if ((route->stage == 0) != s->range.embedding || (route->next_endpoint[0] == 0) != s->range.head)
        return error_set(e, ERR_INVALID, "the route does not fit the shard: stage %u of %u", route->stage,
                         route->stages);
    end_route(s);
    shard_clear(s->shard);
    if (route->next_endpoint[0]) {
        struct link_options o = {.keys = s->o.keys, .bytes_max = FRAME_BYTES_MAX,
                                 .queue_max = FRAME_CREDIT_WINDOW + 8};
        int r = link_dial(&s->next, s->o.zmq_context, route->next_endpoint, route->next_key, &o, e);
        if (r != 0)
            return r;
    }
    memset(&s->next_credit, 0, sizeof(s->next_credit));
    s->route = *route;
    atomic_store(&s->stats.route, route->route);
    return 0;
}

static void run_command(struct stage *s, struct command *c)
{
    struct error e = {0};
    int r;
    switch (c->kind) {
    case COMMAND_SHARD:
        r = take_shard(s, c, &e);
        if (r != 0) {
            log_error("stage", "the shard could not be taken: %s", e.text);
            unload(s);
        }
        break;
    case COMMAND_UNLOAD:
        unload(s);
        report(s, REPORT_UNLOADED, 0, 0, "");
        break;
    case COMMAND_ROUTE:
        r = set_route(s, &c->route, &e);
        report(s, REPORT_ROUTE_READY, c->route.route, r, e.text);
        break;
    case COMMAND_END_ROUTE:
        if (c->route.route == s->route.route) {
            end_route(s);
            if (s->shard)
                shard_clear(s->shard);
        }
        break;
    case COMMAND_MEMBERS:
        if (link_revoke(s->listener, c->keys, c->n_keys) > 0)
            log_info("stage", "connections of former members were cut");
        break;
    case COMMAND_STOP:
        s->stopping = true;
        break;
    }
}

static void free_command(void *item)
{
    struct command *c = item;
    shard_close(&c->shard);
    model_close(&c->model);
    mem_free(c->keys);
    mem_free(c);
}

static void run_commands(struct stage *s)
{
    void *item;
    while (queue_pop(s->commands, &item, 0) == 0) {
        run_command(s, item);
        free_command(item);
    }
}

/* ---- frames ---- */

static bool is_coordinator(const struct stage *s, const struct link_peer *p)
{
    return memcmp(p->key, s->o.coordinator_key, KEY_BYTES) == 0;
}

static void send_simple(struct stage *s, const struct link_peer *to, enum frame_kind kind, const struct frame *like,
                        uint64_t credit)
{
    struct frame f = {.header = {.kind = (uint8_t)kind, .route = like->header.route, .step = like->header.step,
                                 .chunks = 1},
                      .credit = credit};
    if (frame_encode(&s->out, &f, NULL) == 0 && link_send(s->listener, to, s->out.data, s->out.len, NULL) != 0)
        logger_limited(&s->gate, 20, LOG_DEBUG, "stage", "an answer could not be sent: kind=%d", (int)kind);
}

/* A chunk of ours was consumed: now and then tell the sender. */
static void count_chunk(struct stage *s, const struct link_message *m, const struct frame *f)
{
    if (memcmp(s->upstream.key, m->peer.key, KEY_BYTES) != 0) {
        s->upstream_chunks = s->upstream_credited = 0;
    }
    s->upstream = m->peer;
    s->upstream_chunks++;
    if (s->upstream_chunks - s->upstream_credited >= STAGE_CREDIT_EVERY) {
        s->upstream_credited = s->upstream_chunks;
        send_simple(s, &s->upstream, FRAME_CREDIT, f, s->upstream_chunks);
    }
}

static void on_step(struct stage *s, const struct link_message *m, const struct frame *f)
{
    struct error e = {0};
    bool complete = false, ours = s->route.route != 0 && f->header.route == s->route.route;
    int r;
    if (ours && memcmp(m->peer.key, s->route.from_key, KEY_BYTES) != 0) {
        /* a member that has no part in this: it may neither inject rows nor make steps fail */
        logger_limited(&s->gate, 20, LOG_WARN, "stage", "a step of a peer that is not the stage before was dropped");
        return;
    }
    if (!s->shard || !ours)
        r = error_set(&e, ERR_CONFLICT, "route %llu is not set on this node", (unsigned long long)f->header.route);
    else
        r = assembly_add(&s->assembly, f, s->range.embedding ? 0 : s->n_embd, s->rows_max, &complete, &e);
    if (ours)
        count_chunk(s, m, f); /* leftovers of an earlier route are not in the sender's count */
    if (r != 0) {
        logger_limited(&s->gate, 20, LOG_WARN, "stage", "a step was refused: %s", e.text);
        execute_fail(s, f->header.route, f->header.step, r, e.text);
    } else if (complete) {
        execute_step(s);
    }
}

static void on_message(struct stage *s, struct link_message *m)
{
    struct frame f;
    struct error e = {0};
    if (frame_decode(&f, s->store, m->data, m->size, &e) != 0) {
        logger_limited(&s->gate, 20, LOG_WARN, "stage", "a frame was refused: from=%s %s", m->peer.address, e.text);
        return;
    }
    if (is_coordinator(s, &m->peer)) {
        s->gateway = m->peer;
        s->has_gateway = true;
    }
    if (f.header.kind == FRAME_STEP)
        on_step(s, m, &f);
    else if (f.header.kind == FRAME_PING)
        send_simple(s, &m->peer, FRAME_PONG, &f, 0);
}

static void on_next(struct stage *s)
{
    struct link_message m;
    while (s->next && link_receive(s->next, &m, NULL) == 0) {
        struct frame f;
        if (frame_decode(&f, s->store, m.data, m.size, NULL) == 0) {
            if (f.header.kind == FRAME_CREDIT && f.header.route == s->route.route &&
                f.credit > s->next_credit.returned && f.credit <= s->next_credit.sent)
                s->next_credit.returned = f.credit;
            if (f.header.kind == FRAME_PONG && f.header.step == s->ping_sent_us) {
                double us = (double)(clock_us() - s->ping_sent_us), old = atomic_load(&s->stats.rtt_us);
                atomic_store(&s->stats.rtt_us, old == 0 || us < old ? us : old * 0.9 + us * 0.1);
            }
        }
        link_message_close(&m);
    }
}

static bool may_send(const struct stage *s)
{
    return s->next_credit.sent - s->next_credit.returned < FRAME_CREDIT_WINDOW;
}

int stage_send_next(struct stage *s, const struct frame *f, struct error *e)
{
    if (!s->next)
        return error_set(e, ERR_CONFLICT, "this stage has no next one");
    int r = frame_encode(&s->out, f, e);
    uint64_t until = clock_ms() + STAGE_SEND_TIMEOUT_MS;
    while (r == 0) {
        if (may_send(s)) {
            r = link_send(s->next, NULL, s->out.data, s->out.len, e);
            if (r == 0) {
                s->next_credit.sent++;
                atomic_fetch_add(&s->stats.bytes_sent, s->out.len);
                return 0;
            }
            if (r != ERR_BUSY && r != ERR_GONE)
                return r;
        }
        if (clock_ms() >= until)
            return error_set(e, ERR_TIMEOUT, "the next stage takes no rows");
        zmq_pollitem_t item = {.socket = link_socket(s->next), .events = ZMQ_POLLIN};
        (void)zmq_poll(&item, 1, 5);
        link_watch(s->next);
        on_next(s);
        if (link_refused(s->next))
            return error_set(e, ERR_DENIED, "the next stage refuses this node's key");
        r = 0;
    }
    return r;
}

static void ping_next(struct stage *s, uint64_t now_ms)
{
    if (!s->next || now_ms < s->next_ping_ms)
        return;
    s->next_ping_ms = now_ms + STAGE_PING_MS;
    s->ping_sent_us = clock_us();
    struct frame f = {.header = {.kind = FRAME_PING, .route = s->route.route, .step = s->ping_sent_us, .chunks = 1}};
    if (frame_encode(&s->out, &f, NULL) == 0 && link_send(s->next, NULL, s->out.data, s->out.len, NULL) != 0)
        s->ping_sent_us = 0;
}

static void drain_listener(struct stage *s)
{
    struct link_message m;
    for (int i = 0; i < DRAIN_MAX && link_receive(s->listener, &m, NULL) == 0; i++) {
        on_message(s, &m);
        link_message_close(&m);
    }
}

static void *run(void *arg)
{
    struct stage *s = arg;
    uint64_t watched_ms = 0;
    while (!s->stopping) {
        zmq_pollitem_t items[3] = {
            {.socket = link_socket(s->listener), .events = ZMQ_POLLIN},
            {.fd = queue_fd(s->commands), .events = ZMQ_POLLIN},
            {.socket = s->next ? link_socket(s->next) : NULL, .events = ZMQ_POLLIN},
        };
        (void)zmq_poll(items, s->next ? 3 : 2, POLL_MS);
        drain_listener(s);
        if (items[1].revents)
            run_commands(s);
        on_next(s);
        uint64_t now = clock_ms();
        if (now - watched_ms >= POLL_MS) {
            watched_ms = now;
            link_watch(s->listener);
            if (s->next)
                link_watch(s->next);
            ping_next(s, now);
        }
    }
    unload(s);
    return NULL;
}

/* ---- life cycle ---- */

int stage_start(struct stage **out, const struct stage_options *o, struct error *e)
{
    struct stage *s = mem_alloc(sizeof(*s));
    s->o = *o;
    struct link_options lo = {.keys = o->keys, .domain = STAGE_DOMAIN, .bytes_max = FRAME_BYTES_MAX,
                              .queue_max = FRAME_CREDIT_WINDOW + 8};
    int r = link_listen(&s->listener, o->zmq_context, o->listen, &lo, e);
    if (r != 0) {
        mem_free(s);
        return r;
    }
    s->commands = queue_create(STAGE_COMMANDS_MAX);
    s->store = frame_store_create();
    s->step_rows = mem_array(FRAME_ROWS_MAX, sizeof(*s->step_rows));
    s->results = mem_array(FRAME_ROWS_MAX, sizeof(*s->results));
    buffer_init(&s->out, FRAME_BYTES_MAX);
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        s->stopping = true;
        r = error_set(e, ERR_MEMORY, "cannot start the stage's thread");
    }
    *out = s;
    return r;
}

static int push(struct stage *s, struct command *c)
{
    int r = queue_push(s->commands, c);
    if (r != 0) {
        c->shard = NULL; /* still the caller's */
        c->model = NULL;
        free_command(c);
    }
    return r;
}

static struct command *new_command(enum command_kind kind)
{
    struct command *c = mem_alloc(sizeof(*c));
    c->kind = kind;
    return c;
}

void stage_stop(struct stage **stage_p)
{
    struct stage *s = *stage_p;
    if (!s)
        return;
    if (!s->stopping || s->shard) {
        while (push(s, new_command(COMMAND_STOP)) == ERR_BUSY)
            clock_sleep_ms(5);
        pthread_join(s->thread, NULL);
    }
    link_close(&s->listener);
    queue_destroy(&s->commands, free_command);
    frame_store_destroy(&s->store);
    buffer_close(&s->out);
    mem_free(s->step_rows);
    mem_free(s->results);
    mem_free(s);
    *stage_p = NULL;
}

uint16_t stage_port(const struct stage *s)
{
    return link_port(s->listener);
}

struct stage_stats *stage_stats(struct stage *s)
{
    return &s->stats;
}

int stage_give_shard(struct stage *s, uint64_t load, struct model *model, struct shard *shard)
{
    struct command *c = new_command(COMMAND_SHARD);
    c->load = load;
    c->model = model;
    c->shard = shard;
    return push(s, c);
}

int stage_unload(struct stage *s)
{
    return push(s, new_command(COMMAND_UNLOAD));
}

int stage_set_route(struct stage *s, const struct stage_route *route)
{
    struct command *c = new_command(COMMAND_ROUTE);
    c->route = *route;
    return push(s, c);
}

int stage_end_route(struct stage *s, uint64_t route)
{
    struct command *c = new_command(COMMAND_END_ROUTE);
    c->route.route = route;
    return push(s, c);
}

int stage_members(struct stage *s, const uint8_t *keys, size_t n)
{
    struct command *c = new_command(COMMAND_MEMBERS);
    c->keys = mem_array(n + 1, KEY_BYTES);
    memcpy(c->keys, keys, n * KEY_BYTES);
    c->n_keys = n;
    return push(s, c);
}
