/* request: copies in, a bounded queue out.  Invariant: the queue has room for the last event, because only
 * the engine thread pushes and stops two short of the end. */
#include "coordinator/request.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

/* ---- doorbell ---- */

struct doorbell *doorbell_create(void)
{
    struct doorbell *b = mem_alloc(sizeof(*b));
    atomic_init(&b->refs, 1);
    b->queue = queue_create(1);
    return b;
}

void doorbell_drop(struct doorbell **b)
{
    if (*b && atomic_fetch_sub(&(*b)->refs, 1) == 1) {
        queue_destroy(&(*b)->queue, NULL);
        mem_free(*b);
    }
    *b = NULL;
}

void doorbell_ring(struct doorbell *b)
{
    if (queue_push(b->queue, b) != 0) {
        /* It was rung already. */
    }
}

void doorbell_answer(struct doorbell *b)
{
    void *item;
    while (queue_pop(b->queue, &item, 0) == 0) {
    }
}

/* ---- options ---- */

static int check_tokens(const struct request_options *o, uint32_t n_vocab, struct error *e)
{
    for (size_t i = 0; i < o->n_prompt; i++) {
        if (o->prompt[i] < 0 || (uint32_t)o->prompt[i] >= n_vocab)
            return error_set(e, ERR_INVALID, "prompt token %d is not in the vocabulary of %u", o->prompt[i], n_vocab);
    }
    return 0;
}

static int check_bias(const struct frame_open *p, uint32_t n_vocab, struct error *e)
{
    if (p->n_bias > FRAME_BIAS_MAX)
        return error_set(e, ERR_LIMIT, "%u logit biases; at most %d", p->n_bias, FRAME_BIAS_MAX);
    for (uint32_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].token < 0 || (uint32_t)p->bias[i].token >= n_vocab || !isfinite(p->bias[i].bias))
            return error_set(e, ERR_INVALID, "logit bias of token %d is out of range", p->bias[i].token);
    }
    return 0;
}

static bool within(float x, float least, float most)
{
    return isfinite(x) && x >= least && x <= most;
}

/* A stage fails the whole step when it cannot make a sampler, so that nothing it would refuse may leave. */
static int check_sampling(const struct frame_open *p, uint32_t n_vocab, struct error *e)
{
    const struct {
        const char *name;
        bool good;
    } checks[] = {
        {"temperature", within(p->temperature, 0, 100)},
        {"top_k", p->top_k >= 0},
        {"top_p", within(p->top_p, 0, 1)},
        {"min_p", within(p->min_p, 0, 1)},
        {"repetition_penalty", within(p->repetition_penalty, 0.01F, 100)},
        {"repetition_window", p->repetition_window >= -1},
        {"presence_penalty", within(p->presence_penalty, -100, 100)},
        {"frequency_penalty", within(p->frequency_penalty, -100, 100)},
        {"top_logprobs", p->top_logprobs >= -1 && p->top_logprobs <= FRAME_TOP_MAX},
    };
    for (size_t i = 0; i < COUNTOF(checks); i++) {
        if (!checks[i].good)
            return error_set(e, ERR_INVALID, "%s is out of range", checks[i].name);
    }
    return check_bias(p, n_vocab, e);
}

static int check_length(uint64_t n_prompt, uint64_t generate, const struct request_limits *l, struct error *e)
{
    if (n_prompt + generate > l->context)
        return error_set(e, ERR_LIMIT,
                         "the prompt's %llu tokens and %llu new ones pass the context of %u tokens",
                         (unsigned long long)n_prompt, (unsigned long long)generate, l->context);
    if (n_prompt + generate > l->kv_tokens)
        return error_set(e, ERR_LIMIT,
                         "the prompt's %llu tokens and %llu new ones pass the KV cache of %llu tokens",
                         (unsigned long long)n_prompt, (unsigned long long)generate,
                         (unsigned long long)l->kv_tokens);
    return 0;
}

static const struct frame_open greedy = {.top_p = 1, .repetition_penalty = 1, .top_logprobs = -1};

static void *copy(const void *from, size_t n, size_t size)
{
    void *to = mem_array(n + 1, size);
    if (n > 0)
        memcpy(to, from, n * size);
    return to;
}

static void note_rows(struct request *q, const struct request_options *o)
{
    uint32_t n = (uint32_t)o->n_prompt;
    q->values = o->logits ? EVENT_LOGITS : o->hidden ? EVENT_HIDDEN : EVENT_TOKEN;
    q->row_next = o->hidden == HIDDEN_LAST ? n - 1 : 0;
    q->row_end = q->values == EVENT_TOKEN ? 0 : o->hidden == HIDDEN_FIRST ? 1 : n;
}

int request_create(struct request **out, const struct request_options *o, const struct request_limits *l,
                   struct doorbell *bell, struct error *e)
{
    *out = NULL;
    uint32_t generate = o->logits || o->hidden ? 0 : o->max_tokens;
    if (o->n_prompt == 0)
        return error_set(e, ERR_INVALID, "the prompt is empty");
    if (o->adapter > l->n_adapters)
        return error_set(e, ERR_INVALID, "adapter %u of %u", o->adapter, l->n_adapters);
    int r = check_length(o->n_prompt, generate, l, e);
    if (r == 0)
        r = check_tokens(o, l->n_vocab, e);
    const struct frame_open *sampling = generate > 0 ? &o->sampling : &greedy;
    if (r == 0)
        r = check_sampling(sampling, l->n_vocab, e);
    if (r != 0)
        return r;
    struct request *q = mem_alloc(sizeof(*q));
    atomic_init(&q->refs, 2);
    q->bell = bell;
    atomic_fetch_add(&bell->refs, 1);
    q->events = queue_create(ENGINE_EVENTS_MAX + 1);
    q->n_prompt = o->n_prompt;
    q->prompt = copy(o->prompt, o->n_prompt, sizeof(*o->prompt));
    q->n_end_tokens = o->n_end_tokens;
    q->end_tokens = copy(o->end_tokens, o->n_end_tokens, sizeof(*o->end_tokens));
    q->max_tokens = generate;
    note_rows(q, o);
    q->adapter = (uint16_t)o->adapter;
    q->deadline_ms = o->deadline_ms;
    q->sampling = *sampling;
    q->bias = copy(sampling->bias, sampling->n_bias, sizeof(*q->bias));
    q->sampling.bias = q->bias;
    if (o->plan && guide_is_needed(o->plan) && generate > 0)
        q->guide = guide_create(o->plan);
    q->submitted_us = clock_us();
    *out = q;
    return 0;
}

int request_fits(const struct request *r, const struct request_limits *l, struct error *e)
{
    return check_length(r->n_prompt, r->max_tokens, l, e);
}

bool request_ends_with(const struct request *r, int32_t token)
{
    for (size_t i = 0; i < r->n_end_tokens; i++) {
        if (r->end_tokens[i] == token)
            return true;
    }
    return false;
}

/* ---- events ---- */

void event_free(struct event *ev)
{
    if (!ev)
        return;
    mem_big_free(ev->values, ev->n_values * sizeof(float));
    mem_free(ev);
}

static void free_item(void *item)
{
    event_free(item);
}

static int push(struct request *r, struct event *ev)
{
    if (queue_length(r->events) >= ENGINE_EVENTS_MAX || queue_push(r->events, ev) != 0) {
        event_free(ev);
        return ERR_BUSY;
    }
    return 0;
}

int request_push_token(struct request *r, const struct frame_result *token)
{
    struct event *ev = mem_alloc(sizeof(*ev));
    ev->kind = EVENT_TOKEN;
    ev->token = *token;
    return push(r, ev);
}

int request_push_forced(struct request *r, const struct frame_result *after)
{
    int status = 0;
    for (uint32_t i = 0; i < r->n_forced && status == 0; i++) {
        struct frame_result token = {.sequence = after->sequence, .epoch = after->epoch, .token = r->forced[i],
                                     .position = after->position + 1 + i};
        status = request_push_token(r, &token);
    }
    r->n_forced = 0;
    return status;
}

int request_push_values(struct request *r, float *takes, uint32_t n)
{
    struct event *ev = mem_alloc(sizeof(*ev));
    ev->kind = r->values;
    ev->row = r->row_next++;
    ev->values = takes;
    ev->n_values = n;
    atomic_fetch_add(&r->bytes_waiting, n * sizeof(float));
    return push(r, ev);
}

/* Narrow rows fill the queue before they are many bytes. */
bool request_is_behind(const struct request *r, uint64_t bytes_max)
{
    return r->values != EVENT_TOKEN &&
           (atomic_load(&r->bytes_waiting) > bytes_max || queue_length(r->events) > ENGINE_EVENTS_MAX / 2);
}

static void push_last(struct request **r, struct event *ev)
{
    atomic_store(&(*r)->finished, true);
    if (queue_push((*r)->events, ev) != 0)
        event_free(ev); /* cannot be: its place is kept */
    request_drop(r);
}

void request_done(struct request **r, enum finish_reason why, uint64_t now_us)
{
    struct request *q = *r;
    struct event *ev = mem_alloc(sizeof(*ev));
    ev->kind = EVENT_DONE;
    ev->finish = why;
    ev->queued_us = q->started_us - q->submitted_us;
    ev->prefill_us = q->first_us - q->started_us;
    ev->decode_us = now_us - q->first_us;
    push_last(r, ev);
}

void request_failed(struct request **r, int status, const char *text)
{
    struct event *ev = mem_alloc(sizeof(*ev));
    ev->kind = EVENT_FAILED;
    (void)error_set(&ev->error, status, "%s", text);
    push_last(r, ev);
}

int request_next(struct request *r, struct event **out, uint64_t wait_ms)
{
    void *item = NULL;
    *out = NULL;
    int status = queue_pop(r->events, &item, wait_ms);
    if (status != 0)
        return status;
    *out = item;
    if ((*out)->values != NULL)
        atomic_fetch_sub(&r->bytes_waiting, (*out)->n_values * sizeof(float));
    return 0;
}

void request_drop(struct request **request)
{
    struct request *r = *request;
    *request = NULL;
    if (!r || atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    queue_destroy(&r->events, free_item);
    doorbell_drop(&r->bell);
    mem_free(r->prompt);
    mem_free(r->end_tokens);
    mem_free(r->bias);
    guide_destroy(&r->guide);
    mem_free(r);
}

void request_release(struct request **r)
{
    if (!*r)
        return;
    atomic_store(&(*r)->released, true);
    if (!atomic_load(&(*r)->finished))
        doorbell_ring((*r)->bell);
    request_drop(r);
}
