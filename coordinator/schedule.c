/* schedule: passes over the running sessions (decode, then prompts), within three budgets: rows, bytes of
 * metadata, rows whose values come back.  Invariant: t->running is in the order of service, because
 * those that were served move behind those that were not. */
#include "coordinator/schedule.h"

#include <assert.h>
#include <string.h>

struct draft {
    struct sessions *t;
    const struct schedule_limits *l;
    struct schedule_step *out;
    uint32_t meta_left, values_left;
    uint32_t ready_decode, decoding;
    uint64_t ready_prompt; /* rows of prompts that could be sent */
};

static uint32_t least(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

uint32_t schedule_pages(const struct schedule_limits *l, uint64_t tokens)
{
    uint64_t pages = divide_up(tokens, l->page_tokens);
    return pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
}

static void admit(struct sessions *t, const struct schedule_limits *l)
{
    while (t->n_waiting > 0 && t->n_places < l->sequences_max) {
        uint32_t pages = schedule_pages(l, t->all[t->waiting[0]].tokens_max);
        if ((uint64_t)t->pages_used + pages > l->pages)
            return;
        session_admit(t, pages);
    }
}

static bool values_in_flight(const struct session *s)
{
    return s->every_row && s->done < s->sent;
}

static void survey(struct draft *d)
{
    for (uint32_t i = 0; i < d->t->n_running; i++) {
        const struct session *s = &d->t->all[d->t->running[i]];
        d->decoding += session_decoding(s);
        if (!session_ready(s) || values_in_flight(s))
            continue;
        if (session_decoding(s))
            d->ready_decode++;
        else
            d->ready_prompt += s->n_tokens - s->sent;
    }
}

/* Put up to `rows` rows of s into the step; the number that went in. */
static uint32_t take(struct draft *d, struct session *s, uint32_t rows)
{
    struct schedule_step *out = d->out;
    uint32_t mask = s->mask_bytes > 0 ? SCHEDULE_MASK_BYTES + s->mask_bytes : 0; /* also where it is not sampled yet */
    uint32_t opening = mask + (s->sent == 0 ? s->open_bytes : 0);
    uint32_t n = least(rows, s->n_tokens - s->sent);
    if (s->every_row)
        n = least(n, d->values_left);
    if (d->meta_left < opening + SCHEDULE_ROW_BYTES || out->n_parts == FRAME_SEQUENCES_MAX)
        return 0;
    n = least(n, (d->meta_left - opening) / SCHEDULE_ROW_BYTES);
    if (n == 0)
        return 0;
    out->parts[out->n_parts++] = (struct schedule_part){
        .slot = s->slot, .sequence = s->sequence, .first = s->sent, .n = n, .open = s->sent == 0,
        .sample = !s->every_row && s->tokens_max > s->n_prompt && s->sent + n == s->n_tokens,
    };
    out->n_rows += n;
    d->meta_left -= opening + n * SCHEDULE_ROW_BYTES;
    d->values_left -= s->every_row ? n : 0;
    s->sent += n;
    return n;
}

/* Sessions that get rows of this step leave their place in d->t->running, and are put back at its end. */
static void serve(struct draft *d, bool decode, uint32_t sequences, uint32_t rows)
{
    struct sessions *t = d->t;
    uint32_t served[FRAME_SEQUENCES_MAX], n_served = 0, kept = 0;
    for (uint32_t i = 0; i < t->n_running; i++) {
        struct session *s = &t->all[t->running[i]];
        uint32_t n = 0;
        if (n_served < sequences && rows > 0 && session_ready(s) && !values_in_flight(s) &&
            session_decoding(s) == decode)
            n = take(d, s, rows);
        rows -= n;
        if (n > 0)
            served[n_served++] = s->slot;
        else
            t->running[kept++] = s->slot;
    }
    memcpy(t->running + kept, served, n_served * sizeof(*served));
}

/* Prompts that wait keep a quarter of the rows, so that many decoders cannot shut them out. */
static uint32_t decode_share(const struct draft *d, uint32_t in_flight)
{
    uint64_t now = divide_up(d->ready_decode, d->l->stages - in_flight);
    uint64_t even = divide_up(d->decoding, d->l->stages);
    uint32_t kept = d->ready_prompt > 0 ? d->l->rows_max / 4 : 0;
    return least(least(now, even), d->l->rows_max - kept);
}

static uint32_t prompt_share(const struct draft *d)
{
    const struct schedule_limits *l = d->l;
    uint32_t left = l->rows_max - d->out->n_rows, share = left;
    if (d->decoding > 0) {
        uint32_t quarter = l->rows_max / 4;
        share = least(share, quarter > SCHEDULE_BESIDE_DECODE_MIN ? quarter : SCHEDULE_BESIDE_DECODE_MIN);
    }
    if (l->stages > 1) { /* pieces, so that the later stages start early */
        uint64_t piece = divide_up(d->ready_prompt, 2 * (uint64_t)l->stages);
        share = least(share, piece > SCHEDULE_PIECE_MIN ? piece : SCHEDULE_PIECE_MIN);
    }
    return share;
}

/* Where a quarter of the rows is none, prompts go first whenever one has waited longest. */
static bool prompts_first(const struct draft *d)
{
    if (d->l->rows_max >= 4 || d->ready_prompt == 0)
        return false;
    for (uint32_t i = 0; i < d->t->n_running; i++) {
        const struct session *s = &d->t->all[d->t->running[i]];
        if (session_ready(s) && !values_in_flight(s))
            return !session_decoding(s);
    }
    return false;
}

static void fill(struct draft *d, uint32_t in_flight)
{
    survey(d);
    if (prompts_first(d))
        serve(d, false, FRAME_SEQUENCES_MAX, prompt_share(d));
    if (d->ready_decode > 0 && d->out->n_rows < d->l->rows_max) {
        uint32_t share = least(decode_share(d, in_flight), d->l->rows_max - d->out->n_rows);
        serve(d, true, share, share);
    }
    if (d->out->n_rows < d->l->rows_max)
        serve(d, false, FRAME_SEQUENCES_MAX, prompt_share(d));
}

bool schedule_next(struct sessions *t, const struct schedule_limits *l, uint32_t in_flight,
                   struct schedule_step *out)
{
    assert(l->stages > 0 && l->rows_max > 0 && l->page_tokens > 0 && l->sequences_max <= FRAME_SEQUENCES_MAX);
    out->n_rows = out->n_parts = out->n_ends = 0;
    if (in_flight >= l->stages)
        return false;
    /* Ends come first inside a step, so what they free can be taken in the same one. */
    out->n_ends = session_ends_take(t, out->ends, FRAME_SEQUENCES_MAX);
    admit(t, l);
    struct draft d = {.t = t, .l = l, .out = out, .values_left = l->values_rows_max,
                      .meta_left = SCHEDULE_META_MAX - out->n_ends * SCHEDULE_END_BYTES};
    fill(&d, in_flight);
    return out->n_rows > 0 || out->n_ends > 0;
}
