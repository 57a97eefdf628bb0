/* generation: events of the engine in, pieces of text out.
 *
 * A token's bytes go through parts, which hold back half characters and the
 * beginnings of marks and of stop strings.  Token infos wait beside them until
 * something comes out, so that the log-probabilities of a piece are those of its
 * own tokens; what a stop string swallowed is dropped with it, and so is what
 * tells of reasoning that is not shown.
 *
 * An echoed prompt with log-probabilities is first sent through the model for
 * its logits (a second engine request per prompt); its piece comes first.     */
#include "coordinator/api/generation.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/meters.h"
#include "coordinator/api/parts.h"
#include "coordinator/api/score.h"

enum { TURN_MS = 20, INFOS_FIRST = 64 };

struct choice {
    struct request *request; /* NULL: finished, or nothing to generate */
    const struct prompt *prompt;
    struct watch watch;      /* of the request */
    struct score *score;     /* of the echoed prompt, until it is complete */
    struct parts parts;
    const char *finish;      /* comes after the parts; NULL: the choice goes on */
    struct token_info *infos; /* [n_infos] wait for text */
    size_t n_infos, infos_room;
    size_t offset; /* characters so far */
    double logprob_sum; /* of n_scored tokens */
    uint32_t n_scored;
    bool echo_due, finished;
    bool infos_shown;        /* with a part: they are to be cleared */
};

struct generation {
    const struct api *api;
    struct prompt *prompts;
    size_t n_prompts;
    bool want_infos, end_tokens;
    bool nothing_wanted; /* max_tokens 0 */
    bool reads;          /* marks are told from text */
    json_t *tools;       /* of the request */
    struct choice *choices;
    uint32_t n_choices;
    uint32_t turn;
    struct usage usage;
    struct buffer bytes; /* of one token */
};

void prompt_free(struct prompt *p)
{
    token_list_free(&p->tokens);
    mem_free(p->text);
    p->text = NULL;
}

/* ---- start ---- */

static void sampling_of(struct frame_open *s, const struct params *p, uint32_t choice)
{
    *s = (struct frame_open){
        .seed = (uint64_t)p->seed + choice,
        .temperature = (float)p->temperature,
        .top_p = (float)p->top_p,
        .min_p = (float)p->min_p,
        .repetition_penalty = (float)p->repetition_penalty,
        .presence_penalty = (float)p->presence_penalty,
        .frequency_penalty = (float)p->frequency_penalty,
        .top_k = (int32_t)p->top_k,
        .repetition_window = (int32_t)p->repetition_window,
        .top_logprobs = p->best_of > p->n && p->top_logprobs < 0 ? 0 : (int32_t)p->top_logprobs,
        .n_bias = p->n_bias,
        .bias = p->bias,
    };
}

/* How long an answer may get where there is room for so much. */
static uint32_t longest(const struct params *p, uint32_t room)
{
    if (p->max_tokens >= 0)
        return (uint32_t)p->max_tokens; /* which request.c found to fit */
    return p->n_predict > 0 && p->n_predict < room ? (uint32_t)p->n_predict : room;
}

static int submit(struct generation *g, struct choice *c, const struct params *p, uint32_t index, uint32_t context,
                  struct refusal *r)
{
    const struct token_list *tokens = &c->prompt->tokens;
    struct request_options o = {
        .prompt = tokens->ids,
        .n_prompt = tokens->count,
        .adapter = p->adapter,
        .max_tokens = longest(p, context - (uint32_t)tokens->count),
        .end_tokens = g->end_tokens ? g->api->end_tokens : NULL,
        .n_end_tokens = g->end_tokens ? g->api->n_end_tokens : 0,
        .plan = &p->plan,
        .deadline_ms = clock_ms() + API_REQUEST_MS,
    };
    sampling_of(&o.sampling, p, index);
    watch_start(&c->watch);
    return engine_submit(g->api->options.engine, &c->request, &o, &r->error);
}

static int choice_start(struct generation *g, uint32_t i, const struct params *p, uint32_t context, struct refusal *r)
{
    struct choice *c = &g->choices[i];
    c->prompt = &g->prompts[i / (uint32_t)p->best_of];
    c->echo_due = p->echo;
    int rc = parts_open(&c->parts, p, &r->error);
    if (rc == 0 && !g->nothing_wanted)
        rc = submit(g, c, p, i, context, r);
    if (rc == 0 && p->echo && g->want_infos) {
        g->usage.scored_tokens += g->nothing_wanted ? 0 : c->prompt->tokens.count;
        rc = score_start(&c->score, g->api, &c->prompt->tokens, p->adapter, (uint32_t)p->top_logprobs, &r->error);
    }
    return rc;
}

int generation_start(struct generation **out, const struct api *a, const struct params *p, struct prompt *prompts,
                     size_t n_prompts, uint32_t context, struct refusal *r)
{
    struct generation *g = mem_alloc(sizeof(*g));
    g->api = a;
    g->prompts = prompts;
    g->n_prompts = n_prompts;
    g->want_infos = p->top_logprobs >= 0;
    g->end_tokens = !p->ignore_eos || p->plan.grammar != NULL; /* a grammar says when the answer ends */
    g->nothing_wanted = p->max_tokens == 0;
    g->reads = p->reads;
    g->tools = json_incref(p->tools);
    g->n_choices = (uint32_t)(n_prompts * (size_t)p->best_of);
    g->choices = mem_array(g->n_choices, sizeof(*g->choices));
    buffer_init(&g->bytes, TOKENIZER_TOKEN_MAX);
    for (size_t i = 0; i < n_prompts; i++)
        g->usage.prompt_tokens += prompts[i].tokens.count;
    int rc = 0;
    for (uint32_t i = 0; i < g->n_choices && rc == 0; i++)
        rc = choice_start(g, i, p, context, r);
    if (rc != 0)
        generation_destroy(&g);
    else
        *out = g;
    return rc;
}

static void choice_close(struct choice *c)
{
    if (c->request != NULL)
        request_release(&c->request);
    score_destroy(&c->score);
    parts_close(&c->parts);
    mem_free(c->infos);
}

void generation_destroy(struct generation **g_p)
{
    struct generation *g = *g_p;
    if (g == NULL)
        return;
    for (uint32_t i = 0; i < g->n_choices; i++)
        choice_close(&g->choices[i]);
    for (size_t i = 0; i < g->n_prompts; i++)
        prompt_free(&g->prompts[i]);
    mem_free(g->prompts);
    mem_free(g->choices);
    buffer_close(&g->bytes);
    json_decref(g->tools);
    mem_free(g);
    *g_p = NULL;
}

uint32_t generation_count(const struct generation *g)
{
    return g->n_choices;
}

double generation_score(const struct generation *g, uint32_t i)
{
    const struct choice *c = &g->choices[i];
    return c->n_scored == 0 ? 0 : c->logprob_sum / c->n_scored;
}

void generation_usage(const struct generation *g, struct usage *out)
{
    *out = g->usage;
}

/* ---- pieces ---- */

static size_t count_characters(const char *text, size_t n)
{
    size_t characters = 0;
    for (size_t i = 0; i < n; i++)
        characters += ((unsigned char)text[i] & 0xc0) != 0x80;
    return characters;
}

static struct token_info *info_add(struct choice *c)
{
    if (c->n_infos == c->infos_room) {
        c->infos_room = c->infos_room == 0 ? INFOS_FIRST : c->infos_room * 2;
        c->infos = mem_resize(c->infos, c->infos_room, sizeof(*c->infos));
    }
    return &c->infos[c->n_infos++];
}

static void token_bytes(struct generation *g, int32_t id, bool special)
{
    buffer_clear(&g->bytes);
    tokenizer_decode(g->api->options.tokenizer, id, special, &g->bytes);
}

/* Forget what was handed out. */
static void clear_shown(struct choice *c)
{
    if (c->infos_shown)
        c->n_infos = 0;
    c->infos_shown = false;
    parts_forget(&c->parts);
}

static void show_part(struct choice *c, struct piece *out)
{
    parts_take(&c->parts, out);
    out->tokens = c->infos;
    out->n_tokens = c->n_infos;
    c->infos_shown = true;
}

static void show_finish(struct generation *g, struct choice *c, struct piece *out)
{
    if (c->parts.n_calls > 0 && strcmp(c->finish, "stop") == 0)
        c->finish = "tool_calls";
    out->text = "";
    out->finish = c->finish;
    out->stop_word = parts_stop(&c->parts);
    c->finished = true;
    if (!g->nothing_wanted)
        watch_end(&c->watch, g->api->meters, c->prompt->tokens.count, c->finish);
}

/* The next piece that waits. */
static enum news show(struct generation *g, struct choice *c, struct piece *out)
{
    *out = (struct piece){ .choice = (uint32_t)(c - g->choices) };
    if (parts_wait(&c->parts))
        show_part(c, out);
    else if (c->finish != NULL)
        show_finish(g, c, out);
    else
        return NEWS_QUIET;
    return NEWS_PIECE;
}

static bool something_waits(const struct choice *c)
{
    return parts_wait(&c->parts) || c->finish != NULL;
}

/* ---- events ---- */

static void note_token(struct generation *g, struct choice *c, const struct frame_result *t)
{
    if (g->want_infos) {
        struct token_info *info = info_add(c);
        *info = (struct token_info){ .id = t->token, .logprob = t->logprob, .n_top = t->n_top, .offset = c->offset };
        memcpy(info->top, t->top, sizeof(info->top));
    }
    c->offset += count_characters(buffer_text(&g->bytes), g->bytes.len);
}

/* Infos of reasoning that is not shown go with no piece. `hid`: the last token came while there was such; where
 * something shows all the same, that token is the first of it. */
static void drop_hidden(struct choice *c, bool hid)
{
    if (c->n_infos == 0 || (!hid && !parts_hide(&c->parts)))
        return;
    if (!parts_wait(&c->parts)) {
        c->n_infos = 0;
    } else if (hid) {
        c->infos[0] = c->infos[c->n_infos - 1];
        c->n_infos = 1;
    }
}

static void on_token(struct generation *g, struct choice *c, const struct frame_result *t)
{
    g->usage.completion_tokens++;
    watch_token(&c->watch, g->api->meters);
    c->logprob_sum += (double)t->logprob;
    c->n_scored++;
    if (g->end_tokens && tokenizer_is_end(g->api->options.tokenizer, t->token))
        return;
    token_bytes(g, t->token, g->reads && api_is_mark(g->api, t->token));
    note_token(g, c, t);
    bool thought = parts_are_thoughts(&c->parts), hid = parts_hide(&c->parts);
    bool more = parts_push(&c->parts, buffer_text(&g->bytes), g->bytes.len);
    g->usage.reasoning_tokens += thought || parts_are_thoughts(&c->parts);
    drop_hidden(c, hid);
    if (more)
        return;
    request_release(&c->request);
    c->finish = "stop";
    if (!parts_wait(&c->parts))
        c->n_infos = 0; /* what the stop string swallowed */
}

static void on_done(struct generation *g, struct choice *c, const struct event *ev)
{
    static const enum meter meters[] = { METER_QUEUE, METER_PREFILL, METER_DECODE };
    const uint64_t us[] = { ev->queued_us, ev->prefill_us, ev->decode_us };
    uint64_t *most[] = { &g->usage.queued_us, &g->usage.prefill_us, &g->usage.decode_us };
    for (size_t i = 0; i < COUNTOF(us); i++) {
        meters_add(g->api->meters, meters[i], (double)us[i] / 1e6);
        *most[i] = us[i] > *most[i] ? us[i] : *most[i];
    }
    request_release(&c->request);
    parts_finish(&c->parts);
    if (!parts_wait(&c->parts) && c->n_infos > 0)
        parts_add(&c->parts, ""); /* for the tokens' sake */
    c->finish = ev->finish == FINISH_STOP ? "stop" : "length";
}

/* False: the generation has failed. */
static bool on_event(struct generation *g, struct choice *c, const struct event *ev, struct error *e)
{
    if (ev->kind == EVENT_TOKEN)
        on_token(g, c, &ev->token);
    else if (ev->kind == EVENT_DONE)
        on_done(g, c, ev);
    else if (ev->kind == EVENT_FAILED)
        *e = ev->error;
    return ev->kind != EVENT_FAILED;
}

/* ---- echo ---- */

static void echo_infos(struct generation *g, struct choice *c)
{
    const struct token_list *tokens = &c->prompt->tokens;
    for (size_t i = 0; i < tokens->count; i++) {
        struct token_info *info = info_add(c);
        score_token(c->score, i, info);
        info->offset = c->offset;
        token_bytes(g, tokens->ids[i], true);
        c->offset += count_characters(buffer_text(&g->bytes), g->bytes.len);
    }
}

/* The prompt as a choice's first piece, once its log-probabilities are there. */
static enum news echo(struct generation *g, struct choice *c, uint64_t wait_ms, struct piece *out, struct error *e)
{
    if (c->score != NULL) {
        int rc = score_wait(c->score, wait_ms, e);
        if (rc != 0)
            return rc == ERR_TIMEOUT ? NEWS_NONE : NEWS_FAILED;
        echo_infos(g, c);
        score_destroy(&c->score);
    } else {
        c->offset += count_characters(c->prompt->text, strlen(c->prompt->text));
    }
    c->echo_due = false;
    parts_add(&c->parts, c->prompt->text);
    return show(g, c, out);
}

/* ---- turns ---- */

/* Nothing comes from a finished choice; one that wants no tokens finishes with its echo or at once. */
static enum news choice_next(struct generation *g, struct choice *c, uint64_t wait_ms, struct piece *out,
                             struct error *e)
{
    clear_shown(c);
    if (c->echo_due)
        return echo(g, c, wait_ms, out, e);
    if (g->nothing_wanted)
        c->finish = "length";
    if (something_waits(c))
        return show(g, c, out);
    struct event *ev = NULL;
    int rc = request_next(c->request, &ev, wait_ms);
    if (rc == ERR_TIMEOUT)
        return NEWS_NONE;
    if (rc != 0) {
        error_set(e, rc, "the request ended early: %s", status_words(rc));
        return NEWS_FAILED;
    }
    bool well = on_event(g, c, ev, e);
    event_free(ev);
    return well ? show(g, c, out) : NEWS_FAILED;
}

enum news generation_next(struct generation *g, uint64_t wait_ms, struct piece *out, struct error *e)
{
    struct choice *first = NULL;
    uint32_t running = 0;
    for (uint32_t k = 0; k < g->n_choices; k++) {
        struct choice *c = &g->choices[(g->turn + k) % g->n_choices];
        if (c->finished)
            continue;
        running++;
        enum news news = choice_next(g, c, 0, out, e);
        if (news != NEWS_NONE) {
            g->turn = (g->turn + k + 1) % g->n_choices;
            return news;
        }
        first = first == NULL ? c : first;
    }
    if (first == NULL)
        return NEWS_END;
    /* Wait on one; the others are looked at again soon. */
    return choice_next(g, first, running > 1 && wait_ms > TURN_MS ? TURN_MS : wait_ms, out, e);
}
