/* answer: see answer.h. The KV keeps the longest common beginning of the last prompt and this one. */
#include "cli/answer.h"

#include <stdio.h>

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
    struct stream stream;
    struct buffer *text;
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

static void show(struct drawing *d, const char *bytes, size_t n, bool last)
{
    struct buffer out;
    buffer_init(&out, STREAM_HELD_MAX);
    if (last)
        stream_finish(&d->stream, &out);
    else
        (void)stream_push(&d->stream, bytes, n, &out);
    fwrite(buffer_text(&out), 1, out.len, stdout);
    fflush(stdout);
    if (d->text)
        buffer_add(d->text, buffer_text(&out), out.len);
    buffer_close(&out);
}

static int feed_prompt(struct drawing *d, const struct token_list *prompt, struct error *e)
{
    struct answer_timeline *t = d->t;
    uint32_t keep = 0, n = (uint32_t)prompt->count;
    while (keep < t->n && keep + 1 < n && t->tokens[keep] == prompt->ids[keep])
        keep++;
    t->n = keep;
    uint64_t start = clock_us();
    int r = local_feed(d->l, SEQUENCE, prompt->ids + keep, n - keep, keep, true, interrupt_seen, e);
    d->report->prefill_us = clock_us() - start;
    d->report->fed_tokens = n - keep;
    if (r != 0)
        return r;
    for (uint32_t i = keep; i < n; i++)
        timeline_push(t, prompt->ids[i]);
    for (uint32_t i = 0; i < n; i++)
        sampler_accept(d->sampler, i, prompt->ids[i], false);
    return 0;
}

static int draw(struct drawing *d, struct error *e)
{
    uint32_t room = d->l->context - d->t->n;
    uint32_t most = d->o->max_tokens && d->o->max_tokens < room ? d->o->max_tokens : room;
    struct buffer piece;
    buffer_init(&piece, TOKENIZER_TOKEN_MAX);
    int r = 0;
    uint64_t start = clock_us();
    for (d->report->full = true; d->report->tokens < most;) {
        struct sample s;
        r = sampler_sample(d->sampler, local_logits(d->l), d->t->n - 1, &s, e);
        if (r != 0)
            break;
        d->report->tokens++;
        if (tokenizer_is_end(d->l->tokenizer, s.token)) {
            d->report->full = false;
            break;
        }
        buffer_clear(&piece);
        tokenizer_decode(d->l->tokenizer, s.token, false, &piece);
        show(d, buffer_text(&piece), piece.len, false);
        d->report->interrupted = interrupt_seen();
        if (d->report->interrupted || d->report->tokens == most)
            break;
        sampler_accept(d->sampler, d->t->n, s.token, true);
        r = local_feed(d->l, SEQUENCE, &s.token, 1, d->t->n, true, NULL, e);
        if (r != 0)
            break;
        timeline_push(d->t, s.token);
    }
    d->report->decode_us = clock_us() - start;
    buffer_close(&piece);
    return r;
}

int answer_run(struct local *l, struct answer_timeline *t, const struct token_list *prompt,
               const struct answer_options *o, struct buffer *text, struct answer_report *report, struct error *e)
{
    struct drawing d = {.l = l, .t = t, .o = o, .text = text, .report = report};
    uint32_t n_vocab = model_hparams(l->model)->n_vocab, usable = tokenizer_count(l->tokenizer);
    *report = (struct answer_report){.prompt_tokens = (uint32_t)prompt->count};
    if (prompt->count == 0)
        return error_set(e, ERR_INVALID, "the prompt is empty");
    if (prompt->count >= l->context)
        return error_set(e, ERR_LIMIT,
                         "the prompt has %zu tokens and the context holds %u; shorten it or raise --context",
                         prompt->count, l->context);
    int r = sampler_create(&d.sampler, o->sampling, n_vocab, usable && usable < n_vocab ? usable : n_vocab, e);
    if (r != 0)
        return r;
    r = stream_init(&d.stream, NULL, 0, e);
    if (r == 0) {
        r = feed_prompt(&d, prompt, e);
        if (r == 0)
            r = draw(&d, e);
        show(&d, NULL, 0, true);
        stream_close(&d.stream);
    }
    sampler_destroy(&d.sampler);
    if (r == ERR_CANCELLED && interrupt_seen()) {
        report->interrupted = true;
        r = 0;
    }
    return r;
}
