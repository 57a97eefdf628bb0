/* ollama_embed: POST /api/embed and the older /api/embeddings, which takes one text. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/embeddings.h"
#include "coordinator/api/ollama.h"

enum { ANSWER_MAX = 128 << 20, NS_PER_US = 1000 };

struct embed_work {
    const struct api *api;
    struct http_exchange *x;
    json_t *body;
    const json_t *input;
    struct embeddings made;
    uint64_t begun_us;
    bool whole; /* the newer endpoint */
};

/* Nothing, or a text of no characters: clients find out so whether the model is there. */
static bool is_nothing(const json_t *input)
{
    return input == NULL || json_is_null(input) || (json_is_string(input) && json_string_length(input) == 0) ||
           (json_is_array(input) && json_array_size(input) == 0);
}

static int read_ask(const struct embed_work *w, struct embeddings_ask *ask, struct refusal *r)
{
    const json_t *truncate = json_object_get(w->body, "truncate"), *n = json_object_get(w->body, "dimensions");
    ask->truncate = truncate == NULL || json_is_null(truncate) || json_is_true(truncate);
    ask->dimensions = json_integer_value(n);
    if (!ask->truncate && !json_is_false(truncate))
        return refuse(r, ERR_INVALID, "truncate", "truncate must be true or false");
    if (n != NULL && !json_is_null(n) && (!json_is_integer(n) || ask->dimensions < 0))
        return refuse(r, ERR_INVALID, "dimensions", "dimensions must be a whole number, from 1");
    return 0;
}

/* Ids are for other endpoints: here they would be taken for a list of texts. */
static int check_texts(const struct embed_work *w, const char *param, struct refusal *r)
{
    const json_t *v;
    size_t i;
    bool texts = json_is_string(w->input) || (w->whole && json_is_array(w->input));
    json_array_foreach(w->input, i, v)
        texts = texts && json_is_string(v);
    return texts ? 0 : refuse(r, ERR_INVALID, param, w->whole ? "%s must be a text or a list of texts"
                                                              : "%s must be a text", param);
}

static int embed(struct embed_work *w, struct refusal *r)
{
    struct embeddings_ask ask = { .param = w->whole ? "input" : "prompt" };
    struct control_route route;
    int rc = ollama_find(w->api, w->body, &ask.adapter, r);
    if (rc == 0)
        rc = api_may_ask(w->api, w->x, ask.adapter, r);
    if (rc == 0)
        rc = api_ready(w->api, &route, r);
    w->input = ask.input = json_object_get(w->body, ask.param);
    if (rc != 0 || is_nothing(w->input))
        return rc;
    rc = check_texts(w, ask.param, r);
    if (rc == 0)
        rc = read_ask(w, &ask, r);
    return rc == 0 ? embeddings_make(&w->made, w->api, w->x, &ask, r) : rc;
}

/* One list of numbers, as of the first text, or a list of such lists. */
static void put_vectors(const struct embed_work *w, struct buffer *out)
{
    if (w->whole)
        buffer_add_text(out, "[");
    for (uint32_t i = 0; i < w->made.n; i++) {
        if (i > 0)
            buffer_add_text(out, ",");
        embeddings_put(&w->made, i, false, out);
    }
    if (w->whole)
        buffer_add_text(out, "]");
    else if (w->made.n == 0)
        buffer_add_text(out, "[]");
}

/* By hand: a number would be an allocation. */
static void reply_vectors(const struct embed_work *w)
{
    struct buffer out;
    buffer_init(&out, ANSWER_MAX);
    buffer_add_text(&out, w->whole ? "{\"embeddings\":" : "{\"embedding\":");
    put_vectors(w, &out);
    if (w->whole) {
        json_t *rest = json_pack("{s:s, s:I, s:I, s:I}", "model", ollama_asked(w->body), "total_duration",
                                 (json_int_t)((clock_us() - w->begun_us) * NS_PER_US), "load_duration", (json_int_t)0,
                                 "prompt_eval_count", (json_int_t)w->made.prompt_tokens);
        char *text = json_text(rest);
        buffer_add_text(&out, ",");
        buffer_add_text(&out, text + 1); /* of the same object */
        mem_free(text);
        json_decref(rest);
    } else {
        buffer_add_text(&out, "}");
    }
    http_reply(w->x, 200, "application/json", buffer_text(&out), out.len);
    buffer_close(&out);
}

static void answer_embed(const struct api *a, struct http_exchange *x, bool whole)
{
    struct embed_work w = { .api = a, .x = x, .whole = whole, .begun_us = clock_us() };
    struct refusal r = { 0 };
    int rc = json_body(&w.body, x, &r);
    if (rc == 0)
        rc = embed(&w, &r);
    if (rc == 0) {
        reply_vectors(&w);
        embeddings_free(&w.made);
    } else if (rc == ERR_CANCELLED) {
        http_abandon(x);
    } else {
        reply_refusal(x, &r);
    }
    json_decref(w.body);
}

void api_ollama_embed(void *arg, struct http_exchange *x)
{
    answer_embed(arg, x, true);
}

void api_ollama_embeddings(void *arg, struct http_exchange *x)
{
    answer_embed(arg, x, false);
}
