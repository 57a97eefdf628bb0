/* embeddings: POST /v1/embeddings, and what Ollama's endpoints make vectors with.
 *
 * Models of embeddings say in their file how a text's rows become one; what
 * others say nothing about is the last row, the only one that has seen the
 * whole text.  A text is a user's: control tokens written in it are text.    */
#include "coordinator/api/embeddings.h"

#include <endian.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/pooled.h"
#include "coordinator/api/tokens.h"

enum { TEXT_MAX = 128 << 20 };

struct work {
    const struct api *a;
    const struct embeddings_ask *ask;
    enum pooling pooling;
    struct control_route route;
    struct token_list *texts;
    uint32_t n, n_embd;
    struct embeddings *out;
};

/* ---- the model ---- */

static int check_model(struct work *w, struct refusal *r)
{
    enum pooling pooling = pooling_of(w->a);
    w->pooling = pooling == POOLING_NONE ? POOLING_LAST : pooling;
    w->n_embd = model_hparams(control_model(w->a->options.control))->n_embd;
    if (pooling == POOLING_RANK)
        return refuse(r, ERR_UNSUPPORTED, "model", "This model ranks texts and has no embeddings: ask /v1/rerank.");
    if (pooling == POOLING_COUNT)
        return refuse(r, ERR_UNSUPPORTED, "model", "This model's way of pooling is not known to this server.");
    if (w->ask->dimensions < 0 || w->ask->dimensions > w->n_embd)
        return refuse(r, ERR_INVALID, "dimensions", "dimensions must be at least 1 and at most %u for this model",
                      w->n_embd);
    return api_ready(w->a, &w->route, r);
}

/* ---- texts ---- */

static int read_text(struct work *w, const json_t *value, struct token_list *out, struct refusal *r)
{
    const char *param = w->ask->param;
    if (json_is_array(value))
        return read_token_ids(value, w->a->n_vocab, param, out, r);
    if (!json_is_string(value))
        return refuse(r, ERR_INVALID, param,
                      "%s must be a string, a list of strings, a list of token ids, or a list of such lists", param);
    int rc = tokenizer_encode(w->a->options.tokenizer, json_string_value(value), json_string_length(value),
                              ENCODE_BOS_EOS, out, &r->error);
    if (rc != 0)
        snprintf(r->param, sizeof(r->param), "%.63s", param);
    return rc;
}

/* The last token is the one that a model has learnt to end texts with: it stays. */
static void shorten(struct token_list *t, uint32_t context)
{
    t->ids[context - 1] = t->ids[t->count - 1];
    t->count = context;
}

static int check_length(struct work *w, uint32_t i, struct refusal *r)
{
    struct token_list *t = &w->texts[i];
    uint32_t context = api_context(&w->route);
    if (t->count > context && w->ask->truncate)
        shorten(t, context);
    return pooled_check(t, i, context, w->ask->param, r);
}

/* A list of numbers is one text; any other list is a list of texts. */
static int read_texts(struct work *w, struct refusal *r)
{
    const json_t *input = w->ask->input;
    bool several = json_is_array(input) && !json_is_number(json_array_get(input, 0));
    size_t n = several ? json_array_size(input) : 1;
    size_t width = w->ask->dimensions > 0 ? (size_t)w->ask->dimensions : w->n_embd;
    if (input == NULL || json_is_null(input) || n == 0)
        return refuse(r, ERR_INVALID, w->ask->param, "%s is needed: a text, or texts", w->ask->param);
    if (n > EMBEDDINGS_TEXTS_MAX || n * width > EMBEDDINGS_VALUES_MAX)
        return refuse(r, ERR_LIMIT, w->ask->param, "at most %zu texts are taken at once",
                      EMBEDDINGS_VALUES_MAX / width < EMBEDDINGS_TEXTS_MAX ? EMBEDDINGS_VALUES_MAX / width
                                                                           : (size_t)EMBEDDINGS_TEXTS_MAX);
    w->texts = mem_array(n, sizeof(*w->texts));
    w->n = (uint32_t)n;
    int rc = 0;
    for (uint32_t i = 0; i < w->n && rc == 0; i++) {
        rc = read_text(w, several ? json_array_get(input, i) : input, &w->texts[i], r);
        rc = rc == 0 ? check_length(w, i, r) : rc;
    }
    return rc;
}

/* ---- vectors ---- */

/* What is pooled need not be divided: the vector is scaled to length one. */
static int normalise(const double *row, float *out, uint32_t width, struct refusal *r)
{
    double square = 0;
    for (uint32_t i = 0; i < width; i++)
        square += row[i] * row[i];
    if (!isfinite(square))
        return refuse(r, ERR_INTERNAL, NULL, "the model gave values that are no numbers");
    for (uint32_t i = 0; i < width && square > 0; i++) /* zeros have no direction: they stay zeros */
        out[i] = (float)(row[i] / sqrt(square));
    return 0;
}

static int take_row(void *arg, uint32_t text, const double *row, struct refusal *r)
{
    struct work *w = arg;
    return normalise(row, w->out->values + (size_t)text * w->out->width, w->out->width, r);
}

static int make_all(struct work *w, struct http_exchange *x, struct refusal *r)
{
    struct embeddings *out = w->out;
    struct pooled p = {
        .api = w->a,
        .x = x,
        .texts = w->texts,
        .n = w->n,
        .adapter = w->ask->adapter,
        .pooling = w->pooling,
        .take = take_row,
        .arg = w,
    };
    out->n = w->n;
    out->width = w->ask->dimensions > 0 ? (uint32_t)w->ask->dimensions : w->n_embd;
    out->values = mem_array((size_t)out->n * out->width, sizeof(float));
    out->prompt_tokens = pooled_tokens(&p);
    return pooled_make(&p, r);
}

int embeddings_make(struct embeddings *out, const struct api *a, struct http_exchange *x,
                    const struct embeddings_ask *ask, struct refusal *r)
{
    struct work w = { .a = a, .ask = ask, .out = out };
    *out = (struct embeddings){ 0 };
    int rc = check_model(&w, r);
    if (rc == 0)
        rc = read_texts(&w, r);
    if (rc == 0)
        rc = make_all(&w, x, r);
    for (uint32_t i = 0; i < w.n; i++)
        token_list_free(&w.texts[i]);
    mem_free(w.texts);
    if (rc != 0)
        embeddings_free(out);
    return rc;
}

void embeddings_free(struct embeddings *e)
{
    mem_free(e->values);
    *e = (struct embeddings){ 0 };
}

/* ---- the answer ---- */

static void put_base64(const float *values, uint32_t n, struct buffer *out)
{
    size_t bytes = n * sizeof(uint32_t), room = sodium_base64_encoded_len(bytes, sodium_base64_VARIANT_ORIGINAL);
    uint32_t *wire = mem_array(n, sizeof(*wire));
    char *text = mem_alloc(room);
    memcpy(wire, values, bytes);
    for (uint32_t i = 0; i < n; i++)
        wire[i] = htole32(wire[i]);
    sodium_bin2base64(text, room, (const unsigned char *)wire, bytes, sodium_base64_VARIANT_ORIGINAL);
    buffer_add_text(out, "\"");
    buffer_add_text(out, text);
    buffer_add_text(out, "\"");
    mem_free(text);
    mem_free(wire);
}

void embeddings_put(const struct embeddings *e, uint32_t i, bool base64, struct buffer *out)
{
    const float *values = e->values + (size_t)i * e->width;
    char number[32];
    if (base64) {
        put_base64(values, e->width, out);
        return;
    }
    for (uint32_t k = 0; k < e->width; k++) {
        snprintf(number, sizeof(number), "%s%.9g", k == 0 ? "[" : ",", (double)values[k]);
        buffer_add_text(out, number);
    }
    buffer_add_text(out, "]");
}

/* By hand: a number would be an allocation. */
static void reply_vectors(const struct api *a, struct http_exchange *x, const struct embeddings_ask *ask,
                          const struct embeddings *e, bool base64)
{
    struct buffer out;
    buffer_init(&out, TEXT_MAX);
    buffer_add_text(&out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < e->n; i++) {
        char head[80];
        snprintf(head, sizeof(head), "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", i == 0 ? "" : ",", i);
        buffer_add_text(&out, head);
        embeddings_put(e, i, base64, &out);
        buffer_add_text(&out, "}");
    }
    json_t *rest = json_pack("{s:s, s:{s:I, s:I}}", "model", a->ids[ask->adapter], "usage", "prompt_tokens",
                             (json_int_t)e->prompt_tokens, "total_tokens", (json_int_t)e->prompt_tokens);
    char *text = json_text(rest);
    buffer_add_text(&out, "],");
    buffer_add_text(&out, text + 1); /* of the same object */
    http_reply(x, 200, "application/json", buffer_text(&out), out.len);
    mem_free(text);
    json_decref(rest);
    buffer_close(&out);
}

static int read_ask(struct embeddings_ask *ask, const json_t *body, bool *base64, struct refusal *r)
{
    const json_t *format = json_object_get(body, "encoding_format"), *n = json_object_get(body, "dimensions");
    *ask = (struct embeddings_ask){ .input = json_object_get(body, "input"), .param = "input" };
    *base64 = json_is_string(format) && strcmp(json_string_value(format), "base64") == 0;
    bool is_float = json_is_string(format) && strcmp(json_string_value(format), "float") == 0;
    if (format != NULL && !json_is_null(format) && !*base64 && !is_float)
        return refuse(r, ERR_INVALID, "encoding_format", "encoding_format must be \"float\" or \"base64\"");
    if (n == NULL || json_is_null(n))
        return 0;
    ask->dimensions = json_is_integer(n) ? json_integer_value(n) : 0;
    if (ask->dimensions == 0)
        return refuse(r, ERR_INVALID, "dimensions", "dimensions must be an integer of at least 1");
    return 0;
}

void api_embeddings(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct refusal r = { 0 };
    struct embeddings_ask ask;
    struct embeddings e = { 0 };
    json_t *body = NULL;
    bool base64 = false;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = read_ask(&ask, body, &base64, &r);
    if (rc == 0)
        rc = api_find_model(a, body, &ask.adapter, &r);
    if (rc == 0)
        rc = api_may_ask(a, x, ask.adapter, &r);
    if (rc == 0)
        rc = embeddings_make(&e, a, x, &ask, &r);
    if (rc == 0)
        reply_vectors(a, x, &ask, &e, base64);
    else if (rc == ERR_CANCELLED)
        http_abandon(x);
    else
        reply_refusal(x, &r);
    embeddings_free(&e);
    json_decref(body);
}
