/* answer: see answer.h. The KV keeps the longest common beginning of the last prompt and this one. */
#include "cli/answer.h"

#include "base/clock.h"
#include "base/memory.h"
#include "cli/interrupt.h"
#include "text/stream.h"

enum { SEQUENCE = 1 };

struct drawing {
    struct local *l;
    struct answer_timeline *t;
    const struct answer_options *o;
    struct sampler *sampler;
    struct stream stream; /* bytes to characters, and stop texts */
    struct reply *reply;  /* characters to kinds of text */
    uint32_t most;        /* tokens */
    struct answer_report *report;
};

static void timeline_push(struct answer_timeline *t, int32_t token)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 1024;
        t->tokens = mem_resize(t->tokens, t->cap, sizeof(*t->tokens));
    }
    t->tokens[t->n++] = token;
}

void answer_timeline_close(struct answer_timeline *t)
{
    mem_free(t->tokens);
    *t = (struct answer_timeline){0};
}

static bool asked_to_stop(const struct drawing *d)
{
    return interrupt_seen() || (d->o->stop && d->o->stop(d->o->arg));
}

static int feed_from(struct drawing *d, const struct token_list *prompt, uint32_t keep, struct error *e)
{
    uint32_t n = (uint32_t)prompt->count;
    d->t->n = keep;
    d->report->fed_tokens = n - keep;
    return local_feed(d->l, SEQUENCE, prompt->ids + keep, n - keep, keep, true, interrupt_seen, e);
}

static int feed_prompt(struct drawing *d, const struct token_list *prompt, struct error *e)
{
    struct answer_timeline *t = d->t;
    uint32_t keep = 0, n = (uint32_t)prompt->count;
    while (keep < t->n && keep + 1 < n && t->tokens[keep] == prompt->ids[keep])
        keep++;
    uint64_t start = clock_us();
    int r = feed_from(d, prompt, keep, e);
    if (r == ERR_CONFLICT && keep > 0) { /* a recurrent state cannot go back to where the prompts part */
        keep = 0;
        r = feed_from(d, prompt, 0, e);
    }
    d->report->prefill_us = clock_us() - start;
    if (r != 0)
        return r;
    for (uint32_t i = keep; i < n; i++)
        timeline_push(t, prompt->ids[i]);
    for (uint32_t i = 0; i < n; i++)
        sampler_accept(d->sampler, i, prompt->ids[i], false);
    return 0;
}

/* Control tokens are no text, but those that are marks say what is. */
static void decode(const struct drawing *d, int32_t token, struct buffer *piece)
{
    buffer_clear(piece);
    bool control = tokenizer_is_control(d->l->tokenizer, token);
    tokenizer_decode(d->l->tokenizer, token, control, piece);
    if (control && (piece->len == 0 || !reply_has_mark(&d->o->formats, buffer_text(piece))))
        buffer_clear(piece);
}

/* False once a stop text is complete. */
static bool push(struct drawing *d, const struct buffer *piece)
{
    struct buffer out;
    buffer_init(&out, STREAM_HELD_MAX);
    bool more = stream_push(&d->stream, buffer_text(piece), piece->len, &out);
    reply_push(d->reply, buffer_text(&out), out.len);
    buffer_close(&out);
    return more;
}

static void finish(struct drawing *d)
{
    struct buffer out;
    buffer_init(&out, STREAM_HELD_MAX);
    stream_finish(&d->stream, &out);
    reply_push(d->reply, buffer_text(&out), out.len);
    reply_finish(d->reply);
    buffer_close(&out);
}

/* Unless the answer ends with this token, the logits of what follows it are there afterwards. */
static int take(struct drawing *d, int32_t token, struct buffer *piece, bool *ends, struct error *e)
{
    d->report->tokens++;
    *ends = tokenizer_is_end(d->l->tokenizer, token);
    if (*ends)
        return 0;
    decode(d, token, piece);
    *ends = !push(d, piece);
    d->report->interrupted = !*ends && asked_to_stop(d);
    *ends = *ends || d->report->interrupted;
    if (*ends || d->report->tokens == d->most)
        return 0;
    sampler_accept(d->sampler, d->t->n, token, true);
    int r = local_feed(d->l, SEQUENCE, &token, 1, d->t->n, true, NULL, e);
    if (r == 0)
        timeline_push(d->t, token);
    return r;
}

static int draw(struct drawing *d, struct error *e)
{
    uint32_t room = d->l->context - d->t->n;
    d->most = d->o->max_tokens && d->o->max_tokens < room ? d->o->max_tokens : room;
    struct buffer piece;
    buffer_init(&piece, TOKENIZER_TOKEN_MAX);
    int r = 0;
    bool ends = false;
    uint64_t start = clock_us();
    while (r == 0 && !ends && d->report->tokens < d->most) {
        struct sample s;
        r = sampler_sample(d->sampler, local_logits(d->l), d->t->n - 1, &s, e);
        if (r == 0)
            r = take(d, s.token, &piece, &ends, e);
    }
    d->report->full = r == 0 && !ends;
    d->report->decode_us = clock_us() - start;
    buffer_close(&piece);
    return r;
}

static int run(struct drawing *d, const struct token_list *prompt, struct error *e)
{
    const struct answer_options *o = d->o;
    struct reply_options ro = {.formats = o->formats, .thinking = o->thinking, .sink = o->show, .arg = o->arg};
    int r = stream_init(&d->stream, o->stops, o->n_stops, e);
    if (r != 0)
        return r;
    d->reply = reply_open(&ro);
    r = feed_prompt(d, prompt, e);
    if (r == 0)
        r = draw(d, e);
    finish(d);
    reply_close(&d->reply);
    stream_close(&d->stream);
    return r;
}

int answer_run(struct local *l, struct answer_timeline *t, const struct token_list *prompt,
               const struct answer_options *o, struct answer_report *report, struct error *e)
{
    struct drawing d = {.l = l, .t = t, .o = o, .report = report};
    uint32_t n_vocab = model_hparams(l->model)->n_vocab, usable = tokenizer_count(l->tokenizer);
    *report = (struct answer_report){.prompt_tokens = (uint32_t)prompt->count};
    if (prompt->count == 0)
        return error_set(e, ERR_INVALID, "the prompt is empty");
    if (prompt->count >= l->context)
        return error_set(e, ERR_LIMIT,
                         "the prompt has %zu tokens and the context holds %u; shorten it or raise --context",
                         prompt->count, l->context);
    int r = sampler_create(&d.sampler, o->sampling, n_vocab, usable && usable < n_vocab ? usable : n_vocab, e);
    if (r == 0)
        r = run(&d, prompt, e);
    sampler_destroy(&d.sampler);
    if (r == ERR_CANCELLED && interrupt_seen()) {
        report->interrupted = true;
        r = 0;
    }
    return r;
}
