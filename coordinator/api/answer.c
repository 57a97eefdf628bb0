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

enum { WAIT_MS = 100, ADMIT_MS = 3000, PROBE_MS = 250, WHOLE_MAX = 64 << 20, LOGPROB_LEAST = -9999 };

struct answer {
    const struct api *api;
    struct http_exchange *x;
    const struct shape *shape;
    struct generation *generation;
    char *id;
    int64_t created;
    uint32_t adapter;
    bool logprobs, include_usage;
    /* of a stream */
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

static json_t *usage_json(const struct answer *w)
{
    uint64_t prompt, completion;
    generation_usage(w->generation, &prompt, &completion);
    return json_pack("{s:I, s:I, s:I, s:{s:i}, s:{s:i}}", "prompt_tokens", (json_int_t)prompt, "completion_tokens",
                     (json_int_t)completion, "total_tokens", (json_int_t)(prompt + completion),
                     "prompt_tokens_details", "cached_tokens", 0, "completion_tokens_details", "reasoning_tokens", 0);
}

/* Takes the choices. */
static json_t *envelope(const struct answer *w, const char *object, json_t *choices)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", w->id, "object", object, "created", (json_int_t)w->created,
                     "model", w->api->ids[w->adapter], "system_fingerprint", w->api->fingerprint, "choices", choices);
}

/* What the request used, to its key, which is held until the answer's end is made. */
static void count_usage(const struct answer *w)
{
    uint64_t prompt, completion;
    generation_usage(w->generation, &prompt, &completion);
    if (http_held(w->x) != NULL)
        keys_count(w->api->keys, http_held(w->x), prompt, completion);
}

static void answer_close(void *arg)
{
    struct answer *w = arg;
    count_usage(w);
    generation_destroy(&w->generation);
    mem_free(w->id);
    mem_free(w);
}

/* ---- one object ---- */

struct whole {
    struct buffer text;
    struct token_info *tokens;
    size_t n_tokens;
    const char *finish;
};

static void whole_add(struct whole *w, const struct piece *p)
{
    buffer_add(&w->text, p->text, p->len);
    if (p->n_tokens > 0) {
        w->tokens = mem_resize(w->tokens, w->n_tokens + p->n_tokens, sizeof(*w->tokens));
        memcpy(w->tokens + w->n_tokens, p->tokens, p->n_tokens * sizeof(*w->tokens));
        w->n_tokens += p->n_tokens;
    }
    w->finish = p->finish;
}

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

static void reply_whole(struct answer *w, struct whole *wholes, uint32_t n)
{
    json_t *choices = json_array();
    for (uint32_t i = 0; i < n; i++) {
        struct piece all = {
            .choice = i,
            .text = buffer_text(&wholes[i].text),
            .len = wholes[i].text.len,
            .tokens = wholes[i].tokens,
            .n_tokens = wholes[i].n_tokens,
            .finish = wholes[i].finish,
        };
        json_array_append_new(choices, w->shape->whole(w->api, &all, w->logprobs));
    }
    json_t *j = envelope(w, w->shape->object, choices);
    json_object_set_new(j, "usage", usage_json(w));
    reply_json(w->x, 200, j);
}

static void answer_whole(struct answer *w)
{
    uint32_t n = generation_count(w->generation);
    struct whole *wholes = mem_array(n, sizeof(*wholes));
    for (uint32_t i = 0; i < n; i++)
        buffer_init(&wholes[i].text, WHOLE_MAX);
    enum news news = collect(w, wholes);
    if (news == NEWS_END)
        reply_whole(w, wholes, n);
    else if (news == NEWS_FAILED)
        reply_error(w->x, &w->error);
    else
        http_abandon(w->x);
    for (uint32_t i = 0; i < n; i++) {
        buffer_close(&wholes[i].text);
        mem_free(wholes[i].tokens);
    }
    mem_free(wholes);
    answer_close(w);
}

/* ---- a stream ---- */

static void put_event(struct buffer *out, json_t *takes)
{
    char *text = json_text(takes);
    buffer_add_text(out, "data: ");
    buffer_add_text(out, text);
    buffer_add_text(out, "\n\n");
    mem_free(text);
    json_decref(takes);
}

/* choice NULL: none. */
static void put_chunk(const struct answer *w, struct buffer *out, json_t *choice, json_t *usage)
{
    json_t *choices = json_array();
    if (choice != NULL)
        json_array_append_new(choices, choice);
    json_t *j = envelope(w, w->shape->chunk_object, choices);
    if (w->include_usage)
        json_object_set_new(j, "usage", usage != NULL ? usage : json_null());
    put_event(out, j);
}

static void put_piece(const struct answer *w, struct buffer *out, const struct piece *p)
{
    if (p->len > 0 || p->n_tokens > 0)
        put_chunk(w, out, w->shape->delta(w->api, p, w->logprobs), NULL);
    if (p->finish != NULL)
        put_chunk(w, out, w->shape->ending(p), NULL);
}

static enum http_produced put_end(const struct answer *w, struct buffer *out)
{
    if (w->include_usage)
        put_chunk(w, out, NULL, usage_json(w));
    buffer_add_text(out, "data: [DONE]\n\n");
    return HTTP_END;
}

static enum http_produced put_failure(const struct answer *w, struct buffer *out)
{
    struct refusal r = { .error = w->error };
    put_event(out, refusal_json(&r, ERRORS_OPENAI));
    return HTTP_END;
}

static void put_ping_when_due(struct answer *w, struct buffer *out, uint64_t now_ms)
{
    uint64_t silent = now_ms - w->sent_ms;
    uint64_t due = http_half_closed(w->x) ? PROBE_MS : w->api->options.ping_ms;
    if (silent >= due)
        buffer_add_text(out, ":\n\n");
}

static enum http_produced produce(void *arg, struct buffer *out)
{
    struct answer *w = arg;
    if (http_gone(w->x))
        return HTTP_BROKEN;
    if (!w->opened && w->shape->opening != NULL)
        for (uint32_t i = 0; i < generation_count(w->generation); i++)
            put_chunk(w, out, w->shape->opening(i), NULL);
    w->opened = true;
    enum news news = w->news;
    if (news == NEWS_NONE || news == NEWS_QUIET)
        news = generation_next(w->generation, out->len > 0 ? 0 : WAIT_MS, &w->piece, &w->error);
    w->news = NEWS_NONE;
    enum http_produced more = HTTP_MORE;
    if (news == NEWS_PIECE)
        put_piece(w, out, &w->piece);
    else if (news == NEWS_END)
        more = put_end(w, out);
    else if (news == NEWS_FAILED)
        more = put_failure(w, out);
    else
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
    http_stream(w->x, "text/event-stream", produce, w, answer_close);
}

void answer(const struct api *a, struct http_exchange *x, const struct shape *shape, const struct params *p,
            struct prompt *prompts, size_t n_prompts, uint32_t context)
{
    struct refusal r = { 0 };
    struct generation *g = NULL;
    if (generation_start(&g, a, p, prompts, n_prompts, context, &r) != 0) {
        reply_refusal(x, &r);
        return;
    }
    struct answer *w = mem_alloc(sizeof(*w));
    w->api = a;
    w->x = x;
    w->shape = shape;
    w->generation = g;
    w->id = random_id(shape->id_prefix);
    w->created = clock_unix();
    w->adapter = p->adapter;
    w->logprobs = p->top_logprobs >= 0;
    w->include_usage = p->include_usage;
    if (p->stream)
        answer_stream(w);
    else
        answer_whole(w);
}
