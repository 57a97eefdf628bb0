/* flight: from the schedule to frames, and from answers to tokens.
 *
 * Invariants: a step's record is kept from its sending until its RESULT, its
 * FAIL or the end of the route; only what a record asked for is believed.  The
 * next step is sent before the tokens of the last one are handed out.  */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/engine_state.h"

/* ---- sending ---- */

static struct flight *flight_free(struct engine *en)
{
    for (uint32_t i = 0; i < en->route.n_stages; i++) {
        if (!en->flights[i].used)
            return &en->flights[i];
    }
    return NULL;
}

static struct flight *flight_find(struct engine *en, uint64_t number)
{
    for (uint32_t i = 0; i < en->route.n_stages; i++) {
        if (en->flights[i].used && en->flights[i].number == number)
            return &en->flights[i];
    }
    return NULL;
}

static uint32_t rows_in_flight(const struct engine *en)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < en->route.n_stages; i++)
        rows += en->flights[i].used ? en->flights[i].step.n_rows : 0;
    return rows;
}

/* No row before row_next can be sent again. */
static uint32_t value_flags(const struct request *r, uint32_t position)
{
    if (position < r->row_next || position >= r->row_end)
        return 0;
    return r->values == EVENT_LOGITS ? FRAME_ROW_LOGITS : FRAME_ROW_HIDDEN;
}

static void put_part(struct engine *en, const struct schedule_part *p, struct frame *f)
{
    struct session *s = session_find(&en->sessions, p->slot, p->sequence);
    struct request *r = s->owner;
    if (p->open) {
        struct frame_open *o = &en->opens[f->n_opens++];
        *o = r->sampling;
        o->sequence = s->sequence;
        o->epoch = s->epoch;
        r->started_us = clock_us();
    }
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t position = p->first + i;
        uint32_t flags = (p->sample && i + 1 == p->n ? FRAME_ROW_SAMPLE : 0) | value_flags(r, position) |
                         (position >= s->n_prompt ? FRAME_ROW_GENERATED : 0);
        en->rows[f->n_rows++] = (struct frame_row){s->sequence, s->epoch, position, s->tokens[position],
                                                          (uint16_t)flags, r->adapter};
    }
    if (p->sample && r->guide && s->mask_bytes > 0) {
        struct frame_mask *m = &en->masks[f->n_masks++];
        m->row = f->n_rows - 1;
        m->bytes = guide_mask(r->guide, &m->n);
    }
}

static void send_step(struct engine *en, const struct schedule_step *step)
{
    struct flight *fl = flight_free(en);
    fl->used = true;
    fl->number = ++en->step_last;
    fl->sent_us = clock_us();
    memcpy(fl->step.parts, step->parts, step->n_parts * sizeof(*step->parts));
    memcpy(fl->step.ends, step->ends, step->n_ends * sizeof(*step->ends));
    fl->step.n_rows = step->n_rows;
    fl->step.n_parts = step->n_parts;
    fl->step.n_ends = step->n_ends;
    en->n_flights++;
    fl->rows_before = rows_in_flight(en);
    uint64_t timeout = pace_timeout_us(&en->pace, fl->rows_before, en->n_flights,
                                       (uint64_t)en->tuning.step_floor_ms * 1000);
    fl->deadline_us = fl->sent_us + timeout;
    struct frame f = {.header = {.kind = FRAME_STEP, .route = en->route.route, .step = fl->number, .chunks = 1,
                                 .dtype = FRAME_F32, .deadline_ms = (uint32_t)(timeout / 1000)},
                      .rows = en->rows, .opens = en->opens, .masks = en->masks, .ends = en->ends,
                      .n_ends = step->n_ends};
    for (uint32_t i = 0; i < step->n_ends; i++)
        en->ends[i] = step->ends[i].sequence;
    for (uint32_t i = 0; i < step->n_parts; i++)
        put_part(en, &step->parts[i], &f);
    struct error e = {0};
    int r = frame_encode(&en->out, &f, &e);
    if (r == 0)
        r = link_send(en->dials[0].link, NULL, en->out.data, en->out.len, &e);
    if (r != 0)
        dials_mark_broken(en, 0, e.text);
    en->chunks_sent++;
    atomic_fetch_add(&en->counters.steps, 1);
}

/* A reader of values that is behind gets no more of them until it has caught up. */
static void hold_slow_readers(struct engine *en)
{
    for (uint32_t i = 0; en->n_readers > 0 && i < en->sessions.n_running; i++) {
        struct session *s = &en->sessions.all[en->sessions.running[i]];
        s->held = s->every_row && request_is_behind(s->owner, en->tuning.values_bytes_max);
    }
}

void flight_pump(struct engine *en)
{
    hold_slow_readers(en);
    while (en->open && en->broken_stage < 0 && en->chunks_sent - en->chunks_returned < FRAME_CREDIT_WINDOW &&
           schedule_next(&en->sessions, &en->limits, en->n_flights, &en->draft))
        send_step(en, &en->draft);
    atomic_store(&en->counters.running, en->sessions.n_running);
}

/* ---- steps that are over ---- */

static void forget_row(struct engine *en)
{
    mem_big_free(en->row.values, en->row.width * sizeof(float));
    en->row.values = NULL;
}

static void land(struct engine *en, struct flight *fl)
{
    fl->used = false;
    if (--en->n_flights == 0)
        en->chunks_returned = en->chunks_sent; /* whatever came back has been consumed */
    if (en->row.number == fl->number)
        forget_row(en);
}

/* Its sequences fail; ends that later stages may not have seen are sent once more. */
static void fail_step(struct engine *en, struct flight *fl, int status, const char *text)
{
    for (uint32_t i = 0; i < fl->step.n_parts; i++) {
        struct session *s = session_find(&en->sessions, fl->step.parts[i].slot, fl->step.parts[i].sequence);
        if (s)
            engine_fail_session(en, s, status, text);
    }
    for (uint32_t i = 0; i < fl->step.n_ends; i++)
        session_end_due(&en->sessions, fl->step.ends[i].sequence, 0);
    land(en, fl);
}

/* A stage that knows other sequences than we think, or lies, does not heal by itself. */
enum { CONFLICTS_MAX = 3 };

static void count_conflict(struct engine *en, uint32_t stage, const char *why)
{
    if (++en->dials[stage].conflicts >= CONFLICTS_MAX)
        dials_mark_broken(en, stage, why);
}

static void refuse_answer(struct engine *en, struct flight *fl)
{
    char text[256];
    snprintf(text, sizeof(text), "the last stage, %s, gave an answer that does not fit its step",
             dials_name(en, en->route.n_stages - 1));
    logger_limited(&en->gate, 20, LOG_WARN, "engine", "%s: step=%llu", text, (unsigned long long)fl->number);
    fail_step(en, fl, ERR_CORRUPT, text);
    count_conflict(en, en->route.n_stages - 1, "its answers do not fit their steps");
}

/* ---- tokens ---- */

/* One token for every sampled row, in the order of the rows. */
static bool answers(struct engine *en, const struct flight *fl, const struct frame *f)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < fl->step.n_parts; i++) {
        const struct schedule_part *p = &fl->step.parts[i];
        if (!p->sample)
            continue;
        if (next == f->n_results)
            return false;
        const struct frame_result *r = &f->results[next++];
        if (r->sequence != p->sequence || r->position != p->first + p->n - 1 || r->token < 0 ||
            (uint32_t)r->token >= en->n_vocab)
            return false;
        const struct session *s = session_find(&en->sessions, p->slot, p->sequence);
        if (s && s->epoch != r->epoch)
            return false;
    }
    return next == f->n_results;
}

/* Every row of a part that is to have its values has delivered them. */
static bool values_complete(struct engine *en, const struct flight *fl)
{
    for (uint32_t i = 0; i < fl->step.n_parts; i++) {
        const struct schedule_part *p = &fl->step.parts[i];
        struct session *s = session_find(&en->sessions, p->slot, p->sequence);
        const struct request *r = s ? s->owner : NULL;
        if (r && r->row_next < r->row_end && r->row_next < p->first + p->n)
            return false;
    }
    return true;
}

/* A token's consequences for the grammar: it may complete the answer, and there is a mask for the next one. False: the
 * session has failed. */
static bool guide_part(struct engine *en, struct session *s, struct delivery *d)
{
    struct request *r = s->owner;
    struct error e = {0};
    bool done = false;
    if (!r->guide || d->why == FINISH_STOP)
        return true;
    int status = guide_accept(r->guide, d->token.token, &done, &e);
    if (status != 0) {
        engine_fail_session(en, s, status, e.text);
        return false;
    }
    if (done || (session_full(s) && guide_is_whole(r->guide)))
        d->why = FINISH_STOP;
    return done || session_full(s) || engine_guide(en, s);
}

static void land_part(struct engine *en, const struct schedule_part *p, const struct frame_result *token)
{
    struct session *s = session_find(&en->sessions, p->slot, p->sequence);
    if (!s)
        return;
    struct request *r = s->owner;
    if (s->done < s->n_prompt) {
        uint32_t end = p->first + p->n < s->n_prompt ? p->first + p->n : s->n_prompt;
        atomic_fetch_add(&en->counters.prompt_tokens, end - p->first);
    }
    bool was_prompt = s->done < s->n_prompt;
    s->done += p->n;
    struct delivery d = {.request = r, .slot = p->slot, .sequence = p->sequence, .why = FINISH_LENGTH};
    if (token) {
        session_accept(s, token->token);
        d.has_token = true;
        d.token = *token;
        if (request_ends_with(r, token->token))
            d.why = FINISH_STOP;
        atomic_fetch_add(&en->counters.generated, 1);
        if (!guide_part(en, s, &d))
            return;
    }
    bool prompt_only = s->tokens_max == s->n_prompt;
    d.last = prompt_only ? s->done == s->n_prompt : token && (d.why == FINISH_STOP || session_full(s));
    if (was_prompt && s->done >= s->n_prompt)
        r->first_us = clock_us();
    if (d.last)
        engine_end_session(en, s);
    if (d.has_token || d.last)
        en->deliveries[en->n_deliveries++] = d;
}

static void deliver(struct engine *en, struct delivery *d)
{
    const char *slow = "the reader of this answer is too slow";
    bool kept = !d->has_token || (request_push_token(d->request, &d->token) == 0 &&
                                  request_push_forced(d->request, &d->token) == 0);
    struct session *s = session_find(&en->sessions, d->slot, d->sequence);
    if (d->last && kept)
        request_done(&d->request, d->why, clock_us());
    else if (d->last)
        request_failed(&d->request, ERR_LIMIT, slow);
    else if (!kept && s)
        engine_fail_session(en, s, ERR_LIMIT, slow);
}

void flight_deliver(struct engine *en)
{
    for (uint32_t i = 0; i < en->n_deliveries; i++)
        deliver(en, &en->deliveries[i]);
    en->n_deliveries = 0;
}

static void note_times(struct engine *en, const struct flight *fl, const struct frame *f)
{
    uint64_t us = clock_us() - fl->sent_us;
    if (fl->step.n_rows == 0)
        return;
    pace_note(&en->pace, fl->rows_before, us);
    double ms = (double)us / 1000, old = atomic_load(&en->counters.step_ms);
    atomic_store(&en->counters.step_ms, old == 0 ? ms : old * 0.9 + ms * 0.1);
    for (uint32_t i = 0; f->n_traces == en->route.n_stages && i < f->n_traces; i++) {
        struct dial *d = &en->dials[i];
        double compute = f->traces[i].compute_us;
        d->compute_us = d->compute_us == 0 ? compute : d->compute_us * 0.9 + compute * 0.1;
        d->queue_us = d->queue_us * 0.9 + f->traces[i].queue_us * 0.1;
    }
}

static void on_tokens(struct engine *en, struct flight *fl, const struct frame *f)
{
    if (!answers(en, fl, f) || !values_complete(en, fl)) {
        refuse_answer(en, fl);
        return;
    }
    uint32_t next = 0;
    for (uint32_t i = 0; i < fl->step.n_parts; i++) {
        const struct schedule_part *p = &fl->step.parts[i];
        land_part(en, p, p->sample ? &f->results[next++] : NULL);
    }
    note_times(en, fl, f);
    for (uint32_t i = 0; fl->step.n_rows > 0 && i < en->route.n_stages; i++)
        en->dials[i].conflicts = 0;
    land(en, fl);
}

/* ---- rows of values ---- */

/* The part of the step that a row belongs to, NULL: it has no such row. */
static const struct schedule_part *part_of(const struct flight *fl, const struct frame_result *r)
{
    for (uint32_t i = 0; i < fl->step.n_parts; i++) {
        const struct schedule_part *p = &fl->step.parts[i];
        if (p->sequence == r->sequence && r->position >= p->first && r->position - p->first < p->n)
            return p;
    }
    return NULL;
}

static bool row_begin(struct engine *en, const struct flight *fl, const struct frame *f)
{
    struct values_row *row = &en->row;
    const struct frame_result *r = &f->results[0];
    if (row->values && row->width != f->header.width)
        forget_row(en);
    row->width = f->header.width;
    if (!row->values)
        row->values = mem_try_big(row->width * sizeof(float));
    row->number = fl->number;
    row->sequence = r->sequence;
    row->position = r->position;
    row->filled = 0;
    row->next_chunk = 0;
    return row->values != NULL;
}

/* Chunks of a row follow each other and fill it exactly. */
static bool row_add(struct engine *en, const struct flight *fl, const struct frame *f)
{
    struct values_row *row = &en->row;
    const struct frame_result *r = &f->results[0];
    const struct frame_header *h = &f->header;
    size_t left = (row->width - row->filled) * sizeof(float);
    size_t want = left < FRAME_CHUNK_MAX ? left : FRAME_CHUNK_MAX;
    if (row->number != fl->number || row->sequence != r->sequence || row->position != r->position ||
        row->width != h->width || h->chunk != row->next_chunk || f->data_bytes != want ||
        (h->chunk + 1 == h->chunks) != (want == left))
        return false;
    memcpy(row->values + row->filled, f->data, want);
    row->filled += (uint32_t)(want / sizeof(float));
    row->next_chunk++;
    return true;
}

static void row_finish(struct engine *en, struct session *s)
{
    float *values = en->row.values;
    en->row.values = NULL;
    if (request_push_values(s->owner, values, en->row.width) != 0)
        engine_fail_session(en, s, ERR_LIMIT, "the reader of these rows is too slow");
}

/* The row that is due, as wide as it must be. */
static bool row_due(const struct engine *en, const struct request *r, const struct frame *f)
{
    uint32_t width = r->values == EVENT_LOGITS ? en->n_vocab : en->n_embd;
    return r->row_next < r->row_end && f->results[0].position == r->row_next && f->header.width == width;
}

static void on_row(struct engine *en, struct flight *fl, const struct frame *f)
{
    const struct schedule_part *p = f->n_results == 1 ? part_of(fl, &f->results[0]) : NULL;
    if (!p || f->header.dtype != FRAME_F32) {
        refuse_answer(en, fl);
        return;
    }
    struct session *s = session_find(&en->sessions, p->slot, p->sequence);
    if (!s)
        return; /* cancelled: nobody wants them */
    if (!row_due(en, s->owner, f)) {
        refuse_answer(en, fl);
        return;
    }
    if (f->header.chunk == 0 && !row_begin(en, fl, f)) {
        engine_fail_session(en, s, ERR_MEMORY, "no memory for a row of values");
        return;
    }
    if (!en->row.values || !row_add(en, fl, f)) {
        refuse_answer(en, fl);
        return;
    }
    if (en->row.filled == en->row.width)
        row_finish(en, s);
}

/* ---- what stages say ---- */

void flight_result(struct engine *en, const struct frame *f)
{
    struct flight *fl = flight_find(en, f->header.step);
    if (!fl) {
        logger_limited(&en->gate, 20, LOG_WARN, "engine", "an answer to no step in flight was dropped: step=%llu",
                       (unsigned long long)f->header.step);
        return;
    }
    if (f->header.width > 0 || f->data_bytes > 0) {
        on_row(en, fl, f);
        return;
    }
    on_tokens(en, fl, f);
}

void flight_fail(struct engine *en, uint32_t stage, const struct frame *f)
{
    struct flight *fl = flight_find(en, f->header.step);
    if (!fl)
        return;
    char text[400];
    struct error said = {0};
    (void)error_set(&said, f->fail_status, "%s", f->fail_text); /* made printable */
    snprintf(text, sizeof(text), "stage %u, %s: %.255s", stage + 1, dials_name(en, stage), said.text);
    logger_limited(&en->gate, 20, LOG_WARN, "engine", "a step failed: step=%llu %s", (unsigned long long)fl->number,
                   text);
    bool of_rows = fl->step.n_rows > 0;
    fail_step(en, fl, f->fail_status < ERR_INTERNAL ? ERR_INTERNAL : f->fail_status, text);
    if (f->fail_status == ERR_CONFLICT || !of_rows) /* nothing that a request asks for can cause these */
        count_conflict(en, stage, "it refuses every step");
    else if ((f->fail_status == ERR_TIMEOUT || f->fail_status == ERR_GONE) && stage + 1 < en->route.n_stages)
        dials_mark_broken(en, stage + 1, "the stage before cannot reach it");
}

void flight_interrupted(struct engine *en, uint32_t stage)
{
    if (stage != 0 && stage + 1 != en->route.n_stages)
        return; /* nothing that matters travels on it */
    char text[256];
    snprintf(text, sizeof(text), "the connection to node %s (stage %u) was interrupted; send the request again",
             dials_name(en, stage), stage + 1);
    for (uint32_t i = 0; i < en->route.n_stages; i++) {
        if (en->flights[i].used)
            fail_step(en, &en->flights[i], ERR_UNAVAILABLE, text);
    }
}

void flight_credit(struct engine *en, const struct frame *f)
{
    uint64_t credit = f->credit < en->chunks_sent ? f->credit : en->chunks_sent;
    if (credit > en->chunks_returned)
        en->chunks_returned = credit;
}

void flight_tick(struct engine *en, uint64_t now_us)
{
    bool late = false;
    for (uint32_t i = 0; i < en->route.n_stages; i++)
        late |= en->flights[i].used && now_us >= en->flights[i].deadline_us;
    if (!late || !en->dials)
        return;
    uint32_t silent = 0; /* the one not heard of for longest is the one that hangs */
    for (uint32_t i = 1; i < en->route.n_stages; i++) {
        if (en->dials[i].heard_ms < en->dials[silent].heard_ms)
            silent = i;
    }
    dials_mark_broken(en, silent, "a step did not come back in time");
}

void flight_forget(struct engine *en)
{
    for (uint32_t i = 0; i < en->route.n_stages; i++)
        en->flights[i].used = false;
    en->n_flights = 0;
    en->chunks_sent = en->chunks_returned = 0;
    forget_row(en);
}
