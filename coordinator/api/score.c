/* score: row i of the logits tells what the model thought of token i + 1. */
#include "coordinator/api/score.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

struct score {
    struct request *request;
    const struct token_list *tokens;
    uint32_t n_top;
    struct token_info *infos; /* [tokens->count] */
};

int score_start(struct score **out, const struct api *a, const struct token_list *tokens, uint32_t adapter,
                uint32_t n_top, struct error *e)
{
    struct request_options o = {
        .prompt = tokens->ids,
        .n_prompt = tokens->count,
        .adapter = adapter,
        .logits = true,
        .deadline_ms = clock_ms() + API_REQUEST_MS,
    };
    struct request *request = NULL;
    int rc = engine_submit(a->options.engine, &request, &o, e);
    if (rc != 0)
        return rc;
    struct score *s = mem_alloc(sizeof(*s));
    s->request = request;
    s->tokens = tokens;
    s->n_top = n_top;
    s->infos = mem_array(tokens->count, sizeof(*s->infos));
    s->infos[0] = (struct token_info){ .id = tokens->ids[0], .logprob = NAN };
    *out = s;
    return 0;
}

void score_destroy(struct score **s_p)
{
    struct score *s = *s_p;
    if (s == NULL)
        return;
    request_release(&s->request);
    mem_free(s->infos);
    mem_free(s);
    *s_p = NULL;
}

/* Keep the best alternatives in order; ties go to the lower id, which comes first. */
static void top_add(struct token_info *info, uint32_t n_top, int32_t token, float logit)
{
    if (info->n_top == n_top && (n_top == 0 || !(logit > info->top[n_top - 1].logprob)))
        return;
    uint32_t at = info->n_top < n_top ? info->n_top++ : n_top - 1;
    for (; at > 0 && info->top[at - 1].logprob < logit; at--)
        info->top[at] = info->top[at - 1];
    info->top[at] = (struct frame_top){ .token = token, .logprob = logit };
}

void score_row(const float *logits, uint32_t n_vocab, int32_t token, uint32_t n_top, struct token_info *info)
{
    float largest = -INFINITY;
    *info = (struct token_info){ .id = token };
    for (uint32_t i = 0; i < n_vocab; i++) {
        float v = isnan(logits[i]) ? -INFINITY : logits[i];
        largest = v > largest ? v : largest;
        top_add(info, n_top, (int32_t)i, v);
    }
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++)
        sum += isnan(logits[i]) ? 0 : exp((double)logits[i] - (double)largest);
    double log_sum = (double)largest + log(sum);
    for (uint32_t i = 0; i < info->n_top; i++)
        info->top[i].logprob = (float)((double)info->top[i].logprob - log_sum);
    bool known = token >= 0 && (uint32_t)token < n_vocab;
    info->logprob = known ? (float)((double)logits[token] - log_sum) : -INFINITY;
}

static void take_row(struct score *s, const struct event *ev)
{
    if (ev->row + 1 < s->tokens->count && ev->values != NULL)
        score_row(ev->values, ev->n_values, s->tokens->ids[ev->row + 1], s->n_top, &s->infos[ev->row + 1]);
}

int score_wait(struct score *s, uint64_t wait_ms, struct error *e)
{
    for (;;) {
        struct event *ev = NULL;
        int rc = request_next(s->request, &ev, wait_ms);
        if (rc == ERR_TIMEOUT)
            return rc;
        if (rc != 0)
            return error_set(e, rc, "the prompt could not be scored: %s", status_words(rc));
        enum event_kind kind = ev->kind;
        if (kind == EVENT_LOGITS)
            take_row(s, ev);
        else if (kind == EVENT_FAILED)
            rc = error_set(e, ev->error.status, "%s", ev->error.text);
        event_free(ev);
        if (rc != 0 || kind == EVENT_DONE)
            return rc;
    }
}

void score_token(const struct score *s, size_t i, struct token_info *info)
{
    *info = s->infos[i];
}
