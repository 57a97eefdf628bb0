/* fake_route: one thread, a listener a stage, a table of sequences.  A law that a step breaks is counted. */
#include "tests/coordinator/fake_route.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/link.h"
#include "net/zap.h"
#include "proto/frame.h"
#include "proto/mask.h"

/* ---- the control half ---- */

void fake_control_init(struct control *c, const char *model_path)
{
    struct error e = {0};
    memset(c, 0, sizeof(*c));
    pthread_mutex_init(&c->lock, NULL);
    keys_generate(&c->keys);
    if (model_open(&c->model, model_path, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        abort();
    }
    snprintf(c->route.text, sizeof(c->route.text), "no node has joined");
}

void fake_control_close(struct control *c)
{
    model_close(&c->model);
    pthread_mutex_destroy(&c->lock);
}

uint32_t fake_control_failures(struct control *c)
{
    pthread_mutex_lock(&c->lock);
    uint32_t n = c->n_failed;
    pthread_mutex_unlock(&c->lock);
    return n;
}

void control_route(struct control *c, struct control_route *out)
{
    pthread_mutex_lock(&c->lock);
    *out = c->route;
    pthread_mutex_unlock(&c->lock);
}

uint64_t control_version(struct control *c)
{
    return atomic_load(&c->version);
}

void control_stage_failed(struct control *c, uint64_t route, uint32_t stage, const char *why)
{
    pthread_mutex_lock(&c->lock);
    c->n_failed++;
    c->failed_route = route;
    c->failed_stage = stage;
    snprintf(c->failed_why, sizeof(c->failed_why), "%s", why);
    if (c->route.route == route) {
        c->route.route = 0;
        c->route.state = CONTROL_WAITING;
    }
    pthread_mutex_unlock(&c->lock);
    atomic_fetch_add(&c->version, 1);
}

void control_report_times(struct control *c, uint64_t route, uint32_t stage, const struct control_stage_times *t)
{
    (void)route;
    (void)stage;
    if (t->compute_us > 0)
        atomic_fetch_add(&c->n_reports, 1);
}

uint32_t control_adapter_count(const struct control *c)
{
    (void)c;
    return 0;
}

const struct keys *control_keys(const struct control *c)
{
    return &c->keys;
}

const struct model *control_model(const struct control *c)
{
    return c->model;
}

/* ---- the route ---- */

enum { WAITING_MAX = 64, IDLE_MS = 20 };

struct waiting_step {
    uint64_t step;
    uint32_t n_rows;
    struct frame_row rows[FRAME_ROWS_MAX];
    int32_t tokens[FRAME_ROWS_MAX]; /* that they give when they are sampled */
};

struct fake_route_private {
    struct fake_sequence held[FAKE_SEQUENCES_MAX];
    uint32_t n_held;
    struct link_peer gateways[FAKE_STAGES_MAX];
    bool has_gateway[FAKE_STAGES_MAX];
    struct frame_store *store;
    struct buffer out;
    struct frame_result results[FRAME_ROWS_MAX];
    struct waiting_step waiting[WAITING_MAX];
    uint32_t n_waiting;
    uint64_t chunks, noise;
};

int32_t fake_next(int32_t token, uint32_t position, uint32_t n_vocab)
{
    return (int32_t)(((uint32_t)token * 31 + position * 7 + 1) % n_vocab);
}

float fake_logit(int32_t token, uint32_t position, uint32_t i)
{
    return (float)((uint32_t)token * 3 + position * 5 + i % 1000);
}

static void law(struct fake_route *r, bool kept)
{
    if (!kept)
        atomic_fetch_add(&r->broken_laws, 1);
}

static void most(_Atomic uint32_t *seen, uint32_t now)
{
    if (now > atomic_load(seen))
        atomic_store(seen, now);
}

static void send_frame(struct fake_route *r, uint32_t stage, const struct frame *f)
{
    struct fake_route_private *p = r->p;
    law(r, p->has_gateway[stage]);
    int sent = frame_encode(&p->out, f, NULL);
    for (int i = 0; sent == 0 && i < 2000; i++) {
        sent = link_send(r->links[stage], &p->gateways[stage], p->out.data, p->out.len, NULL);
        if (sent != ERR_BUSY)
            break;
        sent = 0;
        clock_sleep_ms(1);
    }
}

static struct frame plain(const struct fake_route *r, enum frame_kind kind, uint64_t step)
{
    return (struct frame){.header = {.kind = (uint8_t)kind, .route = r->number, .step = step, .chunks = 1}};
}

static struct fake_sequence *held_find(struct fake_route_private *p, uint64_t sequence)
{
    for (uint32_t i = 0; i < p->n_held; i++) {
        if (p->held[i].sequence == sequence)
            return &p->held[i];
    }
    return NULL;
}

static void take_metadata(struct fake_route *r, const struct frame *f)
{
    struct fake_route_private *p = r->p;
    for (uint32_t i = 0; i < f->n_ends; i++) {
        struct fake_sequence *h = held_find(p, f->ends[i]);
        if (h)
            *h = p->held[--p->n_held];
        atomic_fetch_add(&r->ends, 1);
    }
    for (uint32_t i = 0; i < f->n_opens; i++) {
        law(r, !held_find(p, f->opens[i].sequence) && p->n_held < FAKE_SEQUENCES_MAX);
        if (p->n_held < FAKE_SEQUENCES_MAX)
            p->held[p->n_held++] = (struct fake_sequence){f->opens[i].sequence, 0};
        atomic_fetch_add(&r->opens, 1);
    }
    atomic_store(&r->held, p->n_held);
}

static void take_rows(struct fake_route *r, const struct frame *f)
{
    uint32_t sequences = 0;
    for (uint32_t i = 0; i < f->n_rows; i++) {
        const struct frame_row *row = &f->rows[i];
        struct fake_sequence *h = held_find(r->p, row->sequence);
        law(r, h && row->epoch == 1 && row->position == h->length);
        if (h)
            h->length = row->position + 1;
        sequences += i == 0 || row->sequence != f->rows[i - 1].sequence;
    }
    most(&r->rows_most, f->n_rows);
    most(&r->sequences_most, sequences);
}

/* ---- answers ---- */

static void send_noise(struct fake_route *r, uint64_t step)
{
    struct fake_route_private *p = r->p;
    uint32_t last = r->n_stages - 1;
    uint8_t junk[100];
    for (size_t i = 0; i < sizeof(junk); i++)
        junk[i] = (uint8_t)(++p->noise * 37);
    if (link_send(r->links[last], &p->gateways[last], junk, p->noise % sizeof(junk), NULL) != 0)
        return;
    struct frame_result lie = {.sequence = 12345, .epoch = 1, .position = 3, .token = 5};
    struct frame other = plain(r, FRAME_RESULT, step + 1000000);
    other.results = &lie;
    other.n_results = 1;
    send_frame(r, last, &other); /* an answer to no step */
    other.header.step = step;
    other.header.route = r->number + 7;
    send_frame(r, last, &other); /* of another route */
    struct frame fail = plain(r, FRAME_FAIL, step + 99);
    fail.fail_status = ERR_BUSY;
    send_frame(r, last, &fail);
    struct frame credit = plain(r, FRAME_CREDIT, 0);
    credit.credit = UINT64_MAX;
    send_frame(r, 0, &credit);
    credit.credit = 0;
    send_frame(r, last, &credit);
    struct frame pong = plain(r, FRAME_PONG, 77);
    send_frame(r, last, &pong);
    struct frame step_back = plain(r, FRAME_STEP, step);
    send_frame(r, last, &step_back);
    if (last > 0 && p->has_gateway[0]) {
        other.header.route = r->number;
        send_frame(r, 0, &other); /* an answer from a stage that is not the last */
    }
}

static void send_values(struct fake_route *r, uint64_t step, const struct frame_row *row, bool hidden)
{
    int mode = atomic_load(&r->mode);
    uint32_t width = hidden ? r->n_embd + (mode == FAKE_WIDE_ROWS) : r->n_vocab;
    float *values = mem_array(width, sizeof(*values));
    for (uint32_t i = 0; i < width; i++)
        values[i] = fake_logit(row->token, row->position, hidden ? i + 7 : i);
    struct frame_result which = {.sequence = row->sequence, .epoch = row->epoch, .token = -1,
                                 .position = row->position + (mode == FAKE_BAD_LOGITS)};
    uint32_t each = FRAME_CHUNK_MAX / sizeof(float), chunks = (width + each - 1) / each;
    for (uint32_t c = mode == FAKE_SHORT_LOGITS ? 1 : 0; c < chunks; c++) {
        uint32_t n = width - c * each < each ? width - c * each : each;
        struct frame f = plain(r, FRAME_RESULT, step);
        f.header.width = width;
        f.header.rows = 1;
        f.header.chunk = (uint16_t)c;
        f.header.chunks = (uint16_t)chunks;
        f.results = &which;
        f.n_results = 1;
        f.data = (const uint8_t *)(values + c * each);
        f.data_bytes = n * sizeof(float);
        send_frame(r, r->n_stages - 1, &f);
    }
    mem_free(values);
}

static uint32_t make_results(struct fake_route *r, const struct waiting_step *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n_rows; i++) {
        const struct frame_row *row = &w->rows[i];
        if (!(row->flags & FRAME_ROW_SAMPLE))
            continue;
        r->p->results[n++] = (struct frame_result){.sequence = row->sequence, .epoch = row->epoch,
                                                   .position = row->position,
                                                   .token = w->tokens[i]};
    }
    return n;
}

static uint32_t spoil(struct fake_route *r, uint32_t n)
{
    struct frame_result *last = &r->p->results[n > 0 ? n - 1 : 0];
    switch (atomic_load(&r->mode)) {
    case FAKE_BAD_TOKEN:
        last->token = (int32_t)r->n_vocab;
        break;
    case FAKE_NEGATIVE_TOKEN:
        last->token = -1;
        break;
    case FAKE_BAD_SEQUENCE:
        last->sequence += 1000;
        break;
    case FAKE_BAD_POSITION:
        last->position++;
        break;
    case FAKE_MISSING_RESULT:
        return n > 0 ? n - 1 : 0;
    case FAKE_EXTRA_RESULT:
        r->p->results[n] = (struct frame_result){.sequence = 1, .epoch = 1, .token = 1};
        return n + 1;
    default:
        break;
    }
    return n;
}

static void answer(struct fake_route *r, const struct waiting_step *w)
{
    static const struct frame_trace traces[FAKE_STAGES_MAX] = {{100, 10, 1}, {200, 20, 2}, {300, 30, 3}};
    int mode = atomic_load(&r->mode);
    if (mode == FAKE_NOISY)
        send_noise(r, w->step);
    if (mode == FAKE_FAILS && w->n_rows > 0) {
        struct frame f = plain(r, FRAME_FAIL, w->step);
        f.fail_status = atomic_load(&r->fail_status);
        snprintf(f.fail_text, sizeof(f.fail_text), "the shard is on fire\x1b[31m");
        send_frame(r, r->n_stages - 1, &f);
        return;
    }
    for (uint32_t i = 0; i < w->n_rows; i++) {
        if (w->rows[i].flags & (FRAME_ROW_LOGITS | FRAME_ROW_HIDDEN))
            send_values(r, w->step, &w->rows[i], w->rows[i].flags & FRAME_ROW_HIDDEN);
    }
    struct frame f = plain(r, FRAME_RESULT, w->step);
    f.results = r->p->results;
    f.n_results = spoil(r, make_results(r, w));
    f.traces = traces;
    f.n_traces = r->n_stages;
    send_frame(r, r->n_stages - 1, &f);
}

static void answer_waiting(struct fake_route *r)
{
    struct fake_route_private *p = r->p;
    for (uint32_t i = 0; i < p->n_waiting; i++)
        answer(r, &p->waiting[i]);
    p->n_waiting = 0;
}

/* The token that follows, or with a mask the next one that is allowed. */
static void choose_tokens(struct fake_route *r, struct waiting_step *w, const struct frame *f)
{
    uint8_t *bits = mem_array(r->n_vocab / 8 + 1, 1);
    uint32_t k = 0;
    for (uint32_t i = 0; i < f->n_rows; i++) {
        const struct frame_row *row = &f->rows[i];
        uint32_t token = (uint32_t)fake_next(row->token, row->position, r->n_vocab);
        if (k < f->n_masks && f->masks[k].row == i) {
            law(r, row->flags & FRAME_ROW_SAMPLE);
            law(r, mask_decode(f->masks[k].bytes, f->masks[k].n, bits, r->n_vocab, NULL) == 0);
            while (atomic_load(&r->mode) != FAKE_UNMASKED && !(bits[token >> 3] >> (token & 7) & 1))
                token = (token + 1) % r->n_vocab;
            k++;
        }
        w->tokens[i] = (int32_t)token;
    }
    law(r, k == f->n_masks);
    mem_free(bits);
}

static void on_step(struct fake_route *r, const struct frame *f)
{
    struct fake_route_private *p = r->p;
    take_metadata(r, f);
    take_rows(r, f);
    atomic_fetch_add(&r->steps, 1);
    if (++p->chunks % 16 == 0) {
        struct frame credit = plain(r, FRAME_CREDIT, f->header.step);
        credit.credit = p->chunks;
        send_frame(r, 0, &credit);
    }
    if (atomic_load(&r->mode) == FAKE_SILENT)
        return;
    law(r, p->n_waiting < WAITING_MAX);
    struct waiting_step *w = &p->waiting[p->n_waiting++];
    w->step = f->header.step;
    w->n_rows = f->n_rows;
    memcpy(w->rows, f->rows, f->n_rows * sizeof(*w->rows));
    choose_tokens(r, w, f);
    most(&r->flight_most, p->n_waiting);
    if (p->n_waiting >= atomic_load(&r->hold))
        answer_waiting(r);
}

static void on_message(struct fake_route *r, uint32_t stage, const struct link_message *m)
{
    struct fake_route_private *p = r->p;
    struct frame f;
    if (atomic_load(&r->mode) == FAKE_DEAF)
        return;
    if (frame_decode(&f, p->store, m->data, m->size, NULL) != 0) {
        law(r, false);
        return;
    }
    p->gateways[stage] = m->peer;
    p->has_gateway[stage] = true;
    if (f.header.kind == FRAME_PING) {
        struct frame pong = plain(r, FRAME_PONG, f.header.step);
        send_frame(r, stage, &pong);
        return;
    }
    law(r, f.header.kind == FRAME_STEP && stage == 0 && f.header.route == r->number && f.header.width == 0 &&
               f.data_bytes == 0);
    if (f.header.kind == FRAME_STEP)
        on_step(r, &f);
}

static void must(int status, const struct error *e)
{
    if (status == 0)
        return;
    fprintf(stderr, "fake route: %s\n", e->text);
    abort();
}

static void listen_on(struct fake_route *r, uint32_t stage, uint16_t port)
{
    struct error e = {0};
    char endpoint[64];
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", port);
    struct link_options o = {.keys = &r->keys[stage], .domain = "data", .bytes_max = FRAME_BYTES_MAX,
                             .queue_max = FRAME_CREDIT_WINDOW + 8};
    int status = ERR_CONFLICT; /* a port that was closed just now may take a moment */
    for (int i = 0; i < 500 && status == ERR_CONFLICT; i++) {
        status = link_listen(&r->links[stage], r->zmq_context, endpoint, &o, &e);
        if (status == ERR_CONFLICT)
            clock_sleep_ms(10);
    }
    must(status, &e);
}

static void listen_again(struct fake_route *r)
{
    uint32_t last = r->n_stages - 1;
    uint16_t port = link_port(r->links[last]);
    link_close(&r->links[last]);
    r->p->has_gateway[last] = false;
    r->p->n_waiting = 0;
    listen_on(r, last, port);
}

static void *run(void *arg)
{
    struct fake_route *r = arg;
    while (!atomic_load(&r->stopping)) {
        if (atomic_exchange(&r->relisten, false))
            listen_again(r);
        zmq_pollitem_t items[FAKE_STAGES_MAX];
        for (uint32_t i = 0; i < r->n_stages; i++)
            items[i] = (zmq_pollitem_t){.socket = link_socket(r->links[i]), .events = ZMQ_POLLIN};
        int n = zmq_poll(items, (int)r->n_stages, IDLE_MS);
        for (uint32_t i = 0; i < r->n_stages; i++) {
            struct link_message m;
            while (link_receive(r->links[i], &m, NULL) == 0) {
                on_message(r, i, &m);
                link_message_close(&m);
            }
            link_watch(r->links[i]);
        }
        if (n == 0)
            answer_waiting(r);
    }
    return NULL;
}

static void listen_all(struct fake_route *r, struct control *c)
{
    struct error e = {0};
    r->zmq_context = link_context(1);
    must(zap_start(&r->zap, r->zmq_context, &e), &e);
    must(zap_allow(r->zap, "data", c->keys.public_key, 1, &e), &e);
    for (uint32_t i = 0; i < r->n_stages; i++) {
        keys_generate(&r->keys[i]);
        listen_on(r, i, 0);
    }
}

static void publish(struct fake_route *r, struct control *c)
{
    pthread_mutex_lock(&c->lock);
    struct control_route *route = &c->route;
    uint64_t number = ++route->route;
    if (number <= c->failed_route)
        number = route->route = c->failed_route + 1;
    r->number = number;
    route->state = CONTROL_READY;
    route->n_stages = r->n_stages;
    route->kv_tokens = 65536;
    route->sequences_max = 16;
    route->batch_rows_max = 512;
    route->context = 16384;
    for (uint32_t i = 0; i < r->n_stages; i++) {
        struct control_stage *s = &route->stages[i];
        memcpy(s->key, r->keys[i].public_key, KEY_BYTES);
        snprintf(s->endpoint, sizeof(s->endpoint), "tcp://127.0.0.1:%u", link_port(r->links[i]));
        snprintf(s->name, sizeof(s->name), "node%u", i);
    }
    pthread_mutex_unlock(&c->lock);
}

void fake_route_start(struct fake_route *r, struct control *c, uint32_t n_stages, uint32_t n_vocab,
                      enum fake_mode mode)
{
    memset(r, 0, sizeof(*r));
    r->n_stages = n_stages;
    r->n_vocab = n_vocab;
    r->n_embd = model_hparams(c->model)->n_embd;
    atomic_store(&r->mode, (int)mode);
    r->p = mem_alloc(sizeof(*r->p));
    r->p->store = frame_store_create();
    buffer_init(&r->p->out, FRAME_BYTES_MAX);
    listen_all(r, c);
    publish(r, c);
    must(pthread_create(&r->thread, NULL, run, r), &(struct error){.text = "no thread"});
    atomic_fetch_add(&c->version, 1);
}

void fake_route_stop(struct fake_route *r)
{
    atomic_store(&r->stopping, true);
    pthread_join(r->thread, NULL);
    for (uint32_t i = 0; i < r->n_stages; i++)
        link_close(&r->links[i]);
    zap_stop(&r->zap);
    link_context_destroy(&r->zmq_context);
    frame_store_destroy(&r->p->store);
    buffer_close(&r->p->out);
    mem_free(r->p);
}
