/* execute: one step through the shard, then onward.
 *
 * Order inside a step: sequences that end are forgotten, sequences that open
 * get a sampler (last stage), rows run, then either the rows go to the next
 * stage with the same metadata, or the sampled tokens go to the gateway.  Ends
 * and opens travel inside the step, so every stage sees them at the same place
 * between rows.                                                              */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "node/stage_state.h"
#include "proto/mask.h"

static struct slot *slot_find(struct stage *s, uint64_t sequence)
{
    for (size_t i = 0; i < s->n_slots; i++) {
        if (s->slots[i].sampler && s->slots[i].sequence == sequence)
            return &s->slots[i];
    }
    return NULL;
}

static struct slot *slot_free(struct stage *s)
{
    for (size_t i = 0; i < s->n_slots; i++) {
        if (!s->slots[i].sampler)
            return &s->slots[i];
    }
    return NULL;
}

void execute_forget(struct stage *s)
{
    for (size_t i = 0; i < s->n_slots; i++)
        sampler_destroy(&s->slots[i].sampler);
}

static void end_sequences(struct stage *s)
{
    for (uint32_t i = 0; i < s->assembly.n_ends; i++) {
        shard_end(s->shard, s->assembly.ends[i]);
        struct slot *slot = slot_find(s, s->assembly.ends[i]);
        if (slot)
            sampler_destroy(&slot->sampler);
    }
}

static int open_sequence(struct stage *s, const struct frame_open *o, struct error *e)
{
    struct logit_bias bias[FRAME_BIAS_MAX];
    for (uint32_t i = 0; i < o->n_bias; i++)
        bias[i] = (struct logit_bias){o->bias[i].token, o->bias[i].bias};
    struct sampler_params p = {
        .temperature = o->temperature, .top_k = o->top_k, .top_p = o->top_p, .min_p = o->min_p,
        .repetition_penalty = o->repetition_penalty, .repetition_window = o->repetition_window,
        .presence_penalty = o->presence_penalty, .frequency_penalty = o->frequency_penalty,
        .seed = o->seed, .top_logprobs = o->top_logprobs, .bias = bias, .n_bias = o->n_bias,
    };
    struct slot *slot = slot_find(s, o->sequence);
    if (slot)
        sampler_destroy(&slot->sampler);
    else
        slot = slot_free(s);
    if (!slot)
        return error_set(e, ERR_BUSY, "this stage holds as many sequences as it can");
    int r = sampler_create(&slot->sampler, &p, s->n_vocab, s->n_usable, e);
    slot->sequence = o->sequence;
    slot->epoch = o->epoch;
    return r;
}

static int open_sequences(struct stage *s, struct error *e)
{
    int r = 0;
    for (uint32_t i = 0; r == 0 && s->range.head && i < s->assembly.n_opens; i++)
        r = open_sequence(s, &s->assembly.opens[i], e);
    return r;
}

void execute_fail(struct stage *s, uint64_t route, uint64_t step, int status, const char *text)
{
    struct frame f = {.header = {.kind = FRAME_FAIL, .route = route, .step = step, .chunks = 1,
                                 .stage = (uint8_t)s->route.stage},
                      .fail_status = status};
    snprintf(f.fail_text, sizeof(f.fail_text), "%.255s", text);
    if (!s->has_gateway || frame_encode(&s->out, &f, NULL) != 0 ||
        link_send(s->listener, &s->gateway, s->out.data, s->out.len, NULL) != 0)
        logger_limited(&s->gate, 20, LOG_WARN, "stage", "a failure could not be reported: step=%llu text=%s",
                       (unsigned long long)step, text);
}

static int run_rows(struct stage *s, struct error *e)
{
    const struct assembly *a = &s->assembly;
    for (uint32_t i = 0; i < a->n_rows; i++) {
        const struct frame_row *r = &a->rows[i];
        s->step_rows[i] = (struct step_row){r->sequence, r->epoch, r->position, r->token,
                                            r->flags & (ROW_SAMPLE | ROW_LOGITS | ROW_HIDDEN), r->adapter};
    }
    return a->n_rows ? shard_step(s->shard, s->step_rows, a->n_rows, s->range.embedding ? NULL : a->data, e) : 0;
}

/* The row's mask, when it has one, for its next sample. *next: of the masks, which rise as the rows do. */
static int apply_mask(struct stage *s, struct sampler *sampler, uint32_t row, uint32_t *next, struct error *e)
{
    const struct assembly *a = &s->assembly;
    while (*next < a->n_masks && a->masks[*next].row < row)
        (*next)++;
    if (*next == a->n_masks || a->masks[*next].row != row)
        return 0;
    int r = mask_decode(a->masks[*next].bytes, a->masks[*next].n, s->allowed, s->n_vocab, e);
    if (r == 0)
        sampler_allow(sampler, s->allowed);
    return r;
}

/* Every row's token enters its sequence's history; flagged rows are sampled. */
static int sample_rows(struct stage *s, uint32_t *n, struct error *e)
{
    const struct assembly *a = &s->assembly;
    uint32_t next_mask = 0;
    *n = 0;
    for (uint32_t i = 0; i < a->n_rows; i++) {
        const struct frame_row *row = &a->rows[i];
        struct slot *slot = slot_find(s, row->sequence);
        if (slot)
            sampler_accept(slot->sampler, row->position, row->token, row->flags & FRAME_ROW_GENERATED);
        if (!(row->flags & FRAME_ROW_SAMPLE))
            continue;
        if (!slot)
            return error_set(e, ERR_CONFLICT, "sequence %llu was never opened here",
                             (unsigned long long)row->sequence);
        struct sample got;
        int r = apply_mask(s, slot->sampler, i, &next_mask, e);
        if (r == 0)
            r = sampler_sample(slot->sampler, shard_logits(s->shard, i), row->position, &got, e);
        if (r != 0)
            return r;
        struct frame_result *result = &s->results[(*n)++];
        *result = (struct frame_result){.sequence = row->sequence, .epoch = row->epoch, .position = row->position,
                                        .token = got.token, .logprob = got.logprob, .n_top = (uint32_t)got.n_top};
        for (int32_t t = 0; t < got.n_top; t++)
            result->top[t] = (struct frame_top){got.top[t].token, got.top[t].logprob};
    }
    return 0;
}

/* A full queue is waited for: rows of logits fill it, and the step's own answer comes after them. */
static int send_gateway(struct stage *s, const struct frame *f, struct error *e)
{
    int r = frame_encode(&s->out, f, e);
    uint64_t until = clock_ms() + STAGE_SEND_TIMEOUT_MS;
    while (r == 0 && (r = link_send(s->listener, &s->gateway, s->out.data, s->out.len, e)) == ERR_BUSY &&
           clock_ms() < until) {
        clock_sleep_ms(1);
        r = 0;
    }
    return r;
}

/* A row of `width` values as a series of frames, each with one result that names the row. */
static int send_row(struct stage *s, const struct frame_row *row, const float *values, uint32_t width, struct error *e)
{
    const struct assembly *a = &s->assembly;
    size_t per_chunk = FRAME_CHUNK_MAX / sizeof(float);
    uint16_t chunks = (uint16_t)((width + per_chunk - 1) / per_chunk);
    struct frame_result which = {.sequence = row->sequence, .epoch = row->epoch, .position = row->position,
                                 .token = -1};
    int r = 0;
    for (uint16_t c = 0; r == 0 && c < chunks; c++) {
        size_t first = c * per_chunk;
        size_t n = width - first < per_chunk ? width - first : per_chunk;
        struct frame f = {.header = {.kind = FRAME_RESULT, .route = a->header.route, .step = a->header.step,
                                     .width = width, .chunk = c, .chunks = chunks, .rows = 1},
                          .results = &which, .n_results = 1,
                          .data = (const uint8_t *)(values + first), .data_bytes = n * sizeof(float)};
        r = send_gateway(s, &f, e);
    }
    return r;
}

/* Whole rows of logits, and of what they are made of. */
static int send_rows(struct stage *s, struct error *e)
{
    const struct assembly *a = &s->assembly;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < a->n_rows; i++) {
        if (a->rows[i].flags & FRAME_ROW_HIDDEN)
            r = send_row(s, &a->rows[i], shard_hidden(s->shard, i), s->n_embd, e);
        if (r == 0 && (a->rows[i].flags & FRAME_ROW_LOGITS))
            r = send_row(s, &a->rows[i], shard_logits(s->shard, i), s->n_vocab, e);
    }
    return r;
}

static int answer_gateway(struct stage *s, uint32_t n_results, struct error *e)
{
    const struct assembly *a = &s->assembly;
    int r = send_rows(s, e);
    if (r != 0)
        return r;
    struct frame f = {.header = {.kind = FRAME_RESULT, .route = a->header.route, .step = a->header.step, .chunks = 1,
                                 .stage = (uint8_t)s->route.stage},
                      .results = s->results, .n_results = n_results, .traces = a->traces, .n_traces = a->n_traces};
    return send_gateway(s, &f, e);
}

static int forward(struct stage *s, struct error *e)
{
    const struct assembly *a = &s->assembly;
    enum frame_dtype t = (enum frame_dtype)s->route.dtype;
    size_t values = (size_t)a->n_rows * s->n_embd, bytes = values * frame_dtype_bytes(t);
    const uint8_t *data = NULL;
    if (values > 0) {
        data = (const uint8_t *)shard_rows(s->shard);
        if (t != FRAME_F32) {
            frame_pack(t, shard_rows(s->shard), s->packed, values);
            data = s->packed;
        }
    }
    uint16_t chunks = (uint16_t)(bytes ? (bytes + FRAME_CHUNK_MAX - 1) / FRAME_CHUNK_MAX : 1);
    int r = 0;
    for (uint16_t c = 0; r == 0 && c < chunks; c++) {
        size_t first = (size_t)c * FRAME_CHUNK_MAX;
        struct frame f = {.header = a->header};
        f.header.stage = (uint8_t)s->route.stage;
        f.header.dtype = (uint8_t)t;
        f.header.width = values ? s->n_embd : 0;
        f.header.chunk = c;
        f.header.chunks = chunks;
        f.data = data ? data + first : NULL;
        f.data_bytes = bytes - first < FRAME_CHUNK_MAX ? bytes - first : FRAME_CHUNK_MAX;
        if (c == 0) {
            f.rows = a->rows;
            f.n_rows = a->n_rows;
            f.opens = a->opens;
            f.n_opens = a->n_opens;
            f.ends = a->ends;
            f.n_ends = a->n_ends;
            f.traces = a->traces;
            f.n_traces = a->n_traces;
            f.masks = a->masks;
            f.n_masks = a->n_masks;
        }
        r = stage_send_next(s, &f, e);
    }
    return r;
}

static void note_times(struct stage *s, uint32_t compute_us)
{
    struct stage_stats *st = &s->stats;
    const struct assembly *a = &s->assembly;
    struct shard_stats held;
    shard_stats(s->shard, &held);
    atomic_store(&st->sequences, held.sequences);
    atomic_store(&st->pages_used, held.pages_used);
    atomic_store(&st->pages_total, held.pages_total);
    atomic_fetch_add(&st->steps, a->n_rows ? 1 : 0);
    atomic_fetch_add(&st->rows, a->n_rows);
    if (a->n_rows == 0)
        return;
    double ms = compute_us / 1000.0, old = atomic_load(&st->compute_ms);
    atomic_store(&st->compute_ms, old == 0 ? ms : old * 0.95 + ms * 0.05);
    if (a->n_rows == 1) {
        double layer = ms / (s->range.last - s->range.first), was = atomic_load(&st->layer_ms);
        atomic_store(&st->layer_ms, was == 0 ? layer : was * 0.95 + layer * 0.05);
    }
}

void execute_step(struct stage *s)
{
    struct assembly *a = &s->assembly;
    struct error e = {0};
    uint32_t n_results = 0;
    uint64_t start = clock_us();
    end_sequences(s);
    int r = open_sequences(s, &e);
    if (r == 0)
        r = run_rows(s, &e);
    if (r == 0 && s->range.head)
        r = sample_rows(s, &n_results, &e);
    uint64_t computed = clock_us();
    a->traces[a->n_traces++] = (struct frame_trace){
        .compute_us = (uint32_t)(computed - start), .queue_us = (uint32_t)(start - a->started_us),
        .pack_us = s->pack_us};
    note_times(s, (uint32_t)(computed - start));
    if (r == 0)
        r = s->range.head ? answer_gateway(s, n_results, &e) : forward(s, &e);
    s->pack_us = (uint32_t)(clock_us() - computed);
    if (r != 0)
        execute_fail(s, a->header.route, a->header.step, r, e.text);
}
