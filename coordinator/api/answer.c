/* answer: waits for a generation's pieces on the connection's thread and sends them.
 *
 * Before the 200 of a stream is sent the first token is awaited for a moment,
 * so that a route that cannot answer gives a status and not a broken stream.
 * A stream that is silent sends comments; after a client has closed its side
 * it sends them more often, so that the write fails and the work is cancelled.
 * Nobody can tell a client that is gone from one that has closed only its
 * sending side without writing, so a plain answer, which cannot write early,
 * takes the latter for gone, as proxies do.                                  */
#include "coordinator/api/answer.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/keys.h"
#include "coordinator/api/whole.h"

enum { WAIT_MS = 100, ADMIT_MS = 3000, PROBE_MS = 250, TOGETHER_BYTES = 16 << 10, LOGPROB_LEAST = -9999 };

struct answer {
    struct http_exchange *x;
    const struct shape *shape;
    struct generation *generation;
    struct answer_view view;
    uint32_t keep, of; /* of each prompt's choices the best are given */
    char *id;
    json_t *request;
    /* of a stream */
    void *state; /* the shape's */
    bool opened;
    enum news news; /* what was awaited before the stream began */
    struct piece piece;
    struct error error;
    uint64_t sent_ms; /* last bytes */
};

/* ---- parts ---- */

json_t *logprob_json(float logprob)
{
    return json_real(logprob > (float)LOGPROB_LEAST ? (double)logprob : (double)LOGPROB_LEAST);
}

json_t *token_text_json(const struct api *a, int32_t id)
{
    struct buffer bytes, text;
    buffer_init(&bytes, TOKENIZER_TOKEN_MAX);
    buffer_init(&text, TOKENIZER_TOKEN_MAX * 4);
    tokenizer_decode(a->options.tokenizer, id, true, &bytes);
    struct stream s;
    json_t *j = NULL;
    if (stream_init(&s, NULL, 0, NULL) == 0) {
        stream_push(&s, buffer_text(&bytes), bytes.len, &text);
        stream_finish(&s, &text);
        stream_close(&s);
        j = json_stringn(buffer_text(&text), text.len);
    }
    buffer_close(&bytes);
    buffer_close(&text);
    return j != NULL ? j : json_string("");
}

json_t *token_bytes_json(const struct api *a, int32_t id)
{
    struct buffer bytes;
    buffer_init(&bytes, TOKENIZER_TOKEN_MAX);
    tokenizer_decode(a->options.tokenizer, id, true, &bytes);
    json_t *list = json_array();
    for (size_t i = 0; i < bytes.len; i++)
        json_array_append_new(list, json_integer((unsigned char)bytes.data[i]));
    buffer_close(&bytes);
    return list;
}

void put_line(struct buffer *out, json_t *takes)
{
    json_add(out, takes);
    buffer_add_text(out, "\n");
    json_decref(takes);
}

void put_event(struct buffer *out, const char *name, json_t *takes)
{
    if (name != NULL) {
        buffer_add_text(out, "event: ");
        buffer_add_text(out, name);
        buffer_add_text(out, "\n");
    }
    buffer_add_text(out, "data: ");
    put_line(out, takes);
    buffer_add_text(out, "\n");
}

/* What the request used, to its key, which is held until the answer's end is made. */
static void count_usage(const struct answer *w)
{
    struct usage u;
    generation_usage(w->generation, &u);
    if (http_held(w->x) != NULL)
        keys_count(w->view.api->keys, http_held(w->x), u.prompt_tokens + u.scored_tokens,
                   u.completion_tokens);
}

static void answer_close(void *arg)
{
    struct answer *w = arg;
    count_usage(w);
    generation_destroy(&w->generation);
    if (w->shape->close != NULL && w->state != NULL)
        w->shape->close(w->state);
    mem_free(w->state);
    json_decref(w->request);
    mem_free(w->id);
    mem_free(w);
}

static struct answer_view *view_now(struct answer *w)
{
    generation_usage(w->generation, &w->view.usage);
    return &w->view;
}

/* ---- one object ---- */

static bool client_left(const struct answer *w)
{
    return http_gone(w->x) || http_half_closed(w->x);
}

/* NEWS_END: every choice is whole. NEWS_NONE: the client has left. */
static enum news collect(struct answer *w, struct whole *wholes)
{
    while (!client_left(w)) {
        struct piece piece;
        enum news news = generation_next(w->generation, WAIT_MS, &piece, &w->error);
        if (news == NEWS_PIECE)
            whole_add(&wholes[piece.choice], &piece);
        else if (news == NEWS_END || news == NEWS_FAILED)
            return news;
    }
    return NEWS_NONE;
}

/* The most probable ones of [first, first + w->of), which are moved to its beginning; of equal ones the first. */
static void best_first(const struct answer *w, uint32_t *choices)
{
    for (uint32_t i = 0; i < w->keep; i++) {
        uint32_t best = i;
        for (uint32_t k = i + 1; k < w->of; k++)
            if (generation_score(w->generation, choices[k]) > generation_score(w->generation, choices[best]))
                best = k;
        uint32_t chosen = choices[best];
        memmove(choices + i + 1, choices + i, (best - i) * sizeof(*choices));
        choices[i] = chosen;
    }
}

static void reply_whole(struct answer *w, struct whole *wholes, uint32_t n)
{
    struct choice_whole *choices = mem_array(n, sizeof(*choices));
    uint32_t *order = mem_array(n, sizeof(*order)), kept = 0;
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint32_t first = 0; first < n; first += w->of) {
        if (w->of > w->keep)
            best_first(w, order + first);
        for (uint32_t i = 0; i < w->keep; i++)
            whole_choice(&wholes[order[first + i]], &choices[kept++]);
    }
    reply_json(w->x, 200, w->shape->whole(view_now(w), choices, kept));
    mem_free(order);
    mem_free(choices);
}

static void answer_whole(struct answer *w)
{
    uint32_t n = w->view.n_choices;
    struct whole *wholes = mem_array(n, sizeof(*wholes));
    for (uint32_t i = 0; i < n; i++)
        whole_init(&wholes[i]);
    enum news news = collect(w, wholes);
    if (news == NEWS_END)
        reply_whole(w, wholes, n);
    else if (news == NEWS_FAILED)
        reply_error(w->x, &w->error);
    else
        http_abandon(w->x);
    for (uint32_t i = 0; i < n; i++)
        whole_close(&wholes[i]);
    mem_free(wholes);
    answer_close(w);
}

/* ---- a stream ---- */

static void put_ping_when_due(struct answer *w, struct buffer *out, uint64_t now_ms)
{
    uint64_t silent = now_ms - w->sent_ms;
    uint64_t due = http_half_closed(w->x) ? PROBE_MS : w->view.api->options.ping_ms;
    if (silent < due)
        return;
    if (w->shape->ping != NULL)
        w->shape->ping(view_now(w), out);
    else
        buffer_add_text(out, ":\n\n");
}

/* What was awaited before the stream began, else what comes now. */
static enum news next_news(struct answer *w, uint64_t wait_ms)
{
    enum news news = w->news;
    w->news = NEWS_NONE;
    if (news == NEWS_NONE || news == NEWS_QUIET)
        news = generation_next(w->generation, wait_ms, &w->piece, &w->error);
    return news;
}

static enum http_produced produce(void *arg, struct buffer *out)
{
    struct answer *w = arg;
    if (!w->opened && w->shape->begin != NULL)
        w->shape->begin(view_now(w), w->state, out);
    w->opened = true;
    enum news news = next_news(w, out->len > 0 ? 0 : WAIT_MS);
    while (news == NEWS_PIECE || (news == NEWS_QUIET && out->len > 0)) {
        if (news == NEWS_PIECE)
            w->shape->piece(view_now(w), w->state, &w->piece, out);
        if (out->len >= TOGETHER_BYTES)
            break;
        news = next_news(w, 0); /* what waits already goes with it */
    }
    enum http_produced more = news == NEWS_END || news == NEWS_FAILED ? HTTP_END : HTTP_MORE;
    if (news == NEWS_END)
        w->shape->end(view_now(w), w->state, out);
    else if (news == NEWS_FAILED)
        w->shape->fail(view_now(w), w->state, &w->error, out);
    else if (out->len == 0 && http_gone(w->x)) /* else what is sent finds that out */
        return HTTP_BROKEN;
    else if (out->len == 0)
        put_ping_when_due(w, out, clock_ms());
    if (out->len > 0)
        w->sent_ms = clock_ms();
    if (more == HTTP_END)
        count_usage(w);
    return more;
}

static void answer_stream(struct answer *w)
{
    uint64_t until = clock_ms() + ADMIT_MS;
    while (w->news == NEWS_NONE && clock_ms() < until && !http_gone(w->x))
        w->news = generation_next(w->generation, WAIT_MS, &w->piece, &w->error);
    if (w->news == NEWS_FAILED) {
        reply_error(w->x, &w->error);
        answer_close(w);
        return;
    }
    w->sent_ms = clock_ms();
    http_reply_header(w->x, "Cache-Control", "no-cache");
    http_reply_header(w->x, "X-Accel-Buffering", "no");
    if (w->shape->state_bytes > 0)
        w->state = mem_alloc(w->shape->state_bytes);
    http_stream(w->x, w->shape->media_type, produce, w, answer_close);
}

static struct answer *answer_open(const struct api *a, const struct shape *shape, const struct params *p,
                                  const json_t *request)
{
    struct answer *w = mem_alloc(sizeof(*w));
    w->shape = shape;
    w->id = random_id(shape->id_prefix);
    w->request = json_incref((json_t *)(uintptr_t)request);
    w->view = (struct answer_view){
        .api = a,
        .id = w->id,
        .model = a->ids[p->adapter],
        .request = w->request,
        .created = clock_unix(),
        .begun_us = clock_us(),
        .logprobs = p->top_logprobs >= 0,
        .include_usage = p->include_usage,
    };
    return w;
}

void answer(const struct api *a, struct http_exchange *x, const struct shape *shape, const struct params *p,
            const json_t *request, struct prompt *prompts, size_t n_prompts, uint32_t context)
{
    struct refusal r = { 0 };
    struct generation *g = NULL;
    if (generation_start(&g, a, p, prompts, n_prompts, context, &r) != 0) {
        reply_refusal(x, &r);
        return;
    }
    struct answer *w = answer_open(a, shape, p, request);
    w->x = x;
    w->view.asker = api_asker(a, x);
    w->keep = (uint32_t)p->n;
    w->of = (uint32_t)p->best_of;
    w->generation = g;
    w->view.n_choices = generation_count(g);
    if (p->stream)
        answer_stream(w);
    else
        answer_whole(w);
}
