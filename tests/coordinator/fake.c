/* fake: see fake.h. */
#include "tests/coordinator/fake.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

/* ---- engine ---- */

struct engine {
    pthread_mutex_t lock; /* all below */
    struct fake_script script;
    struct fake_seen seen[FAKE_REQUESTS_MAX];
    uint32_t submitted, cancelled, open;
    uint32_t n_vocab, n_embd;
};

struct request {
    struct engine *engine;
    struct fake_script script;
    uint32_t max_tokens, given, top, n_prompt, rows, left_ms; /* left_ms: until the next event */
    int32_t end_token;
    float less; /* of log-probabilities */
    bool logits, ended, finish_next;
    enum hidden_rows hidden;
    enum finish_reason finish;
};

struct engine *fake_engine(void)
{
    struct engine *en = mem_alloc(sizeof(*en));
    pthread_mutex_init(&en->lock, NULL);
    en->n_vocab = 2048;
    en->n_embd = 256; /* the demo's */
    return en;
}

void fake_engine_free(struct engine **en)
{
    for (size_t i = 0; i < FAKE_REQUESTS_MAX; i++)
        grammar_drop(&(*en)->seen[i].grammar);
    pthread_mutex_destroy(&(*en)->lock);
    mem_free(*en);
    *en = NULL;
}

void fake_engine_script(struct engine *en, const struct fake_script *s)
{
    pthread_mutex_lock(&en->lock);
    en->script = *s;
    pthread_mutex_unlock(&en->lock);
}

static uint32_t read_count(struct engine *en, const uint32_t *count)
{
    pthread_mutex_lock(&en->lock);
    uint32_t n = *count;
    pthread_mutex_unlock(&en->lock);
    return n;
}

uint32_t fake_engine_submitted(struct engine *en)
{
    return read_count(en, &en->submitted);
}

uint32_t fake_engine_cancelled(struct engine *en)
{
    return read_count(en, &en->cancelled);
}

uint32_t fake_engine_open(struct engine *en)
{
    return read_count(en, &en->open);
}

void fake_engine_seen(struct engine *en, uint32_t i, struct fake_seen *out)
{
    pthread_mutex_lock(&en->lock);
    *out = en->seen[i % FAKE_REQUESTS_MAX];
    pthread_mutex_unlock(&en->lock);
}

float fake_logit(uint32_t row, uint32_t i, uint32_t n_vocab)
{
    return i == (row * 7 + 3) % n_vocab ? 4.0f : 0.001f * (float)(i % 16);
}

static void remember(struct fake_seen *seen, const struct request_options *o)
{
    grammar_drop(&seen->grammar);
    memset(seen, 0, sizeof(*seen));
    seen->n_prompt = o->n_prompt;
    memcpy(seen->prompt, o->prompt, (o->n_prompt < FAKE_PROMPT_MAX ? o->n_prompt : FAKE_PROMPT_MAX) * sizeof(int32_t));
    seen->max_tokens = o->max_tokens;
    seen->sampling = o->sampling;
    seen->sampling.bias = NULL;
    if (o->sampling.n_bias > 0)
        seen->first_bias = o->sampling.bias[0];
    seen->n_end_tokens = o->n_end_tokens;
    if (o->plan) {
        seen->plan = *o->plan;
        seen->grammar = o->plan->grammar ? grammar_keep(o->plan->grammar) : NULL;
    }
    seen->logits = o->logits;
    seen->hidden = o->hidden;
    seen->adapter = o->adapter;
}

int engine_submit(struct engine *en, struct request **out, const struct request_options *o, struct error *e)
{
    pthread_mutex_lock(&en->lock);
    int status = en->script.submit_status;
    if (status == 0) {
        struct request *r = mem_alloc(sizeof(*r));
        r->engine = en;
        r->script = en->script;
        r->left_ms = en->script.token_ms;
        r->max_tokens = o->max_tokens;
        r->top = o->sampling.top_logprobs > 0 ? (uint32_t)o->sampling.top_logprobs : 0;
        r->end_token = o->n_end_tokens > 0 ? o->end_tokens[0] : -1;
        r->less = en->script.seeds > 0 ? (float)(o->sampling.seed % en->script.seeds) : 0;
        r->logits = o->logits;
        r->hidden = o->hidden;
        r->n_prompt = (uint32_t)o->n_prompt;
        r->rows = o->hidden == HIDDEN_FIRST || o->hidden == HIDDEN_LAST ? 1 : r->n_prompt;
        remember(&en->seen[en->submitted++ % FAKE_REQUESTS_MAX], o);
        en->open++;
        *out = r;
    } else {
        error_set(e, status, "%s", en->script.error.text);
    }
    pthread_mutex_unlock(&en->lock);
    return status;
}

static void make_token(struct request *r, struct event *ev)
{
    int32_t token = r->script.tokens[r->given % r->script.n];
    ev->kind = EVENT_TOKEN;
    ev->token = (struct frame_result){ .token = token, .n_top = r->top };
    ev->token.logprob = -0.25f * (float)(r->given + 1) - r->less;
    for (uint32_t i = 0; i < r->top; i++)
        ev->token.top[i] = (struct frame_top){ .token = i == 0 ? token : (int32_t)i + 64, .logprob = -0.5f - (float)i };
    r->given++;
    r->finish_next = token == r->end_token || r->given == r->max_tokens;
    r->finish = token == r->end_token ? FINISH_STOP : FINISH_LENGTH;
}

static void make_row(struct request *r, struct event *ev)
{
    ev->kind = r->hidden ? EVENT_HIDDEN : EVENT_LOGITS;
    ev->row = r->hidden == HIDDEN_LAST ? r->n_prompt - 1 : r->given;
    r->given++;
    ev->n_values = r->hidden ? r->engine->n_embd : r->engine->n_vocab;
    ev->values = mem_array(ev->n_values, sizeof(float));
    for (uint32_t i = 0; i < ev->n_values; i++)
        ev->values[i] = fake_logit(ev->row, i, ev->n_values);
}

static void make_event(struct request *r, struct event *ev)
{
    const struct fake_script *s = &r->script;
    bool rows = r->logits || r->hidden;
    bool spent = rows ? r->given == r->rows : r->given >= s->n && !s->endless;
    if (s->fail_at_once || (s->fail_after > 0 && r->given == s->fail_after)) {
        ev->kind = EVENT_FAILED;
        ev->error = s->error;
        r->ended = true;
    } else if (r->finish_next || spent) {
        ev->kind = EVENT_DONE;
        ev->finish = r->finish_next ? r->finish : FINISH_STOP;
        r->ended = true;
    } else if (rows) {
        make_row(r, ev);
    } else {
        make_token(r, ev);
    }
}

int request_next(struct request *r, struct event **out, uint64_t wait_ms)
{
    if (r->ended || r->left_ms > wait_ms) {
        clock_sleep_ms(wait_ms);
        r->left_ms -= r->ended ? 0 : (uint32_t)wait_ms;
        return ERR_TIMEOUT;
    }
    clock_sleep_ms(r->left_ms);
    r->left_ms = r->script.token_ms;
    *out = mem_alloc(sizeof(**out));
    make_event(r, *out);
    return 0;
}

void event_free(struct event *ev)
{
    mem_free(ev->values);
    mem_free(ev);
}

void request_release(struct request **r_p)
{
    struct request *r = *r_p;
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->engine->lock);
    r->engine->cancelled += !r->ended;
    r->engine->open--;
    pthread_mutex_unlock(&r->engine->lock);
    mem_free(r);
    *r_p = NULL;
}

void engine_stats(struct engine *en, struct engine_stats *out)
{
    *out = (struct engine_stats){ .requests_total = fake_engine_submitted(en), .steps_total = 12, .step_ms = 250 };
}
