/* rerank: POST /v1/rerank: how well documents answer a query, by models with a head for it.
 *
 * Such a model's file says that its pooling is the rank: the last row of query
 * and document goes through a small head, which the file has as tensors: a
 * layer with tanh, an output, or both, as llama.cpp writes them.  The head is
 * applied here, one product of a row with a few.  Two outputs or more are a
 * choice (yes, no): the first one's probability is the score; one is the score. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/pooled.h"
#include "coordinator/api/private.h"
#include "text/tokenizer.h"

enum { DOCUMENTS_MAX = 2048, OUTPUTS_MAX = 64 };

/* A matrix with its bias. */
struct layer {
    const struct gguf_tensor *weight, *bias; /* NULL: absent */
};

struct rank {
    const struct api *a;
    const struct gguf *file;
    struct layer dense, output;
    uint32_t n_embd;
    const json_t *query, *documents;
    struct token_list *texts;
    uint32_t n;
    double *scores;  /* [n] */
    float *row;      /* [n_embd]: of a matrix */
};

/* ---- the head ---- */

static bool has_bias(const struct layer *l)
{
    return l->bias == NULL || (l->bias->type->id == QTYPE_F32 && l->bias->ne[0] == l->weight->ne[1] &&
                               l->bias->n_dims == 1);
}

static bool find_layer(struct rank *k, struct layer *l, const char *name, uint64_t rows_max)
{
    char *weight = mem_printf("%s.weight", name), *bias = mem_printf("%s.bias", name);
    l->weight = gguf_tensor_find(k->file, weight);
    l->bias = gguf_tensor_find(k->file, bias);
    mem_free(weight);
    mem_free(bias);
    return l->weight == NULL || (l->weight->ne[0] == k->n_embd && l->weight->n_dims <= 2 && l->weight->ne[1] > 0 &&
                                 l->weight->ne[1] <= rows_max && has_bias(l));
}

static int open_head(struct rank *k, struct refusal *r)
{
    const struct model *m = control_model(k->a->options.control);
    k->file = model_file(m);
    k->n_embd = model_hparams(m)->n_embd;
    bool sound = pooling_of(k->a) == POOLING_RANK && !gguf_is_memory(k->file) &&
                 find_layer(k, &k->dense, "cls", k->n_embd) && find_layer(k, &k->output, "cls.output", OUTPUTS_MAX) &&
                 (k->dense.weight != NULL || k->output.weight != NULL) &&
                 (k->dense.weight == NULL || k->output.weight == NULL || k->dense.weight->ne[1] == k->n_embd);
    if (sound)
        return 0;
    r->http = 501;
    return refuse(r, ERR_UNSUPPORTED, "model", "rerank is not supported: this model has no head that ranks texts");
}

/* out[i] = row i of the weight times in, plus the bias; returns how many there are. */
static uint32_t apply(struct rank *k, const struct layer *l, const double *in, double *out)
{
    const struct qtype *type = l->weight->type;
    const char *rows = gguf_tensor_bytes(k->file, l->weight);
    size_t row_bytes = (size_t)k->n_embd / type->block_len * type->block_bytes;
    const float *bias = l->bias == NULL ? NULL : gguf_tensor_bytes(k->file, l->bias);
    uint32_t n = (uint32_t)l->weight->ne[1];
    for (uint32_t i = 0; i < n; i++) {
        type->to_f32(rows + i * row_bytes, k->row, k->n_embd);
        out[i] = bias == NULL ? 0 : (double)bias[i];
        for (uint32_t c = 0; c < k->n_embd; c++)
            out[i] += (double)k->row[c] * in[c];
    }
    return n;
}

/* The share of the first of n outputs. */
static double first_share(const double *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += exp(x[i] - x[0]);
    return 1 / sum;
}

static int take_row(void *arg, uint32_t text, const double *row, struct refusal *r)
{
    struct rank *k = arg;
    double *inner = mem_array(k->n_embd, sizeof(*inner)), outputs[OUTPUTS_MAX];
    uint32_t n = k->dense.weight == NULL ? 0 : apply(k, &k->dense, row, inner);
    for (uint32_t i = 0; i < n; i++)
        inner[i] = tanh(inner[i]);
    double score = inner[0];
    if (k->output.weight != NULL) {
        n = apply(k, &k->output, n > 0 ? inner : row, outputs);
        score = n > 1 ? first_share(outputs, n) : outputs[0];
    }
    mem_free(inner);
    k->scores[text] = score;
    return isfinite(score) ? 0 : refuse(r, ERR_INTERNAL, NULL, "the model gave values that are no numbers");
}

/* ---- texts ---- */

/* A document is a text, or an object with one. */
static const json_t *text_of(const json_t *document)
{
    return json_is_object(document) ? json_object_get(document, "text") : document;
}

/* The file's template, with the query and the document where it names them: what users wrote is text. */
static int encode_template(const struct rank *k, struct gguf_string template, const json_t *document,
                           struct token_list *out, struct error *e)
{
    static const char *const names[] = { "{query}", "{document}" };
    const json_t *values[] = { k->query, document };
    enum { PARTS_MAX = 32 };
    struct text_part parts[PARTS_MAX + 2];
    size_t n = 0, from = 0;
    for (size_t at = 0; at < template.len && n < PARTS_MAX; at++)
        for (size_t v = 0; v < COUNTOF(names); v++) {
            size_t len = strlen(names[v]);
            if (at < from || template.len - at < len || memcmp(template.text + at, names[v], len) != 0)
                continue;
            parts[n++] = (struct text_part){ template.text + from, at - from, true };
            parts[n++] = (struct text_part){ json_string_value(values[v]), json_string_length(values[v]), false };
            from = at + len;
        }
    parts[n++] = (struct text_part){ template.text + from, template.len - from, true };
    return tokenizer_encode_parts(k->a->options.tokenizer, parts, n, ENCODE_SPECIAL, out, e);
}

static void append(struct token_list *to, const int32_t *ids, size_t n)
{
    to->ids = mem_resize(to->ids, to->count + n + 1, sizeof(*ids));
    if (n > 0)
        memcpy(to->ids + to->count, ids, n * sizeof(*ids));
    to->count += n;
}

/* BOS, query, EOS, document, EOS, as far as the model has them. */
static int encode_pair(const struct rank *k, const json_t *document, struct token_list *out, struct error *e)
{
    const json_t *values[] = { k->query, document };
    int32_t eos = tokenizer_eos(k->a->options.tokenizer);
    int rc = 0;
    for (size_t i = 0; i < COUNTOF(values) && rc == 0; i++) {
        struct token_list part = { 0 };
        rc = tokenizer_encode(k->a->options.tokenizer, json_string_value(values[i]), json_string_length(values[i]),
                              i == 0 ? ENCODE_BOS : 0, &part, e);
        append(out, part.ids, part.count);
        append(out, &eos, eos >= 0);
        token_list_free(&part);
    }
    return rc;
}

static int read_document(struct rank *k, uint32_t i, uint32_t context, struct refusal *r)
{
    const json_t *document = text_of(json_array_get(k->documents, i));
    struct gguf_string template;
    if (!json_is_string(document))
        return refuse(r, ERR_INVALID, "documents", "documents: entry %u must be a text, or an object with a text", i);
    int rc = gguf_get_string(k->file, "tokenizer.chat_template.rerank", &template)
                 ? encode_template(k, template, document, &k->texts[i], &r->error)
                 : encode_pair(k, document, &k->texts[i], &r->error);
    return rc == 0 ? pooled_check(&k->texts[i], i, context, "documents", r) : rc;
}

static int read_texts(struct rank *k, const json_t *body, uint32_t context, struct refusal *r)
{
    k->query = json_object_get(body, "query");
    k->documents = json_object_get(body, "documents");
    size_t n = json_array_size(k->documents);
    if (!json_is_string(k->query))
        return refuse(r, ERR_INVALID, "query", "query must be a text");
    if (n == 0)
        return refuse(r, ERR_INVALID, "documents", "documents must be a list of texts");
    if (n > DOCUMENTS_MAX)
        return refuse(r, ERR_LIMIT, "documents", "at most %d documents are taken at once", (int)DOCUMENTS_MAX);
    k->n = (uint32_t)n;
    k->texts = mem_array(n, sizeof(*k->texts));
    int rc = 0;
    for (uint32_t i = 0; i < k->n && rc == 0; i++)
        rc = read_document(k, i, context, r);
    return rc;
}

/* ---- the answer ---- */

static int read_top(const struct rank *k, const json_t *body, uint32_t *top, struct refusal *r)
{
    const json_t *n = json_object_get(body, "top_n");
    *top = k->n;
    if (n == NULL || json_is_null(n))
        return 0;
    if (!json_is_integer(n) || json_integer_value(n) < 1)
        return refuse(r, ERR_INVALID, "top_n", "top_n must be an integer of at least 1");
    *top = json_integer_value(n) < k->n ? (uint32_t)json_integer_value(n) : k->n;
    return 0;
}

struct place {
    double score;
    uint32_t i;
};

/* The best first; equal ones in the order of the request. */
static int by_score(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->i < y->i ? -1 : 1;
}

static json_t *results_json(const struct rank *k, uint32_t top, bool with_documents)
{
    struct place *places = mem_array(k->n, sizeof(*places));
    for (uint32_t i = 0; i < k->n; i++)
        places[i] = (struct place){ k->scores[i], i };
    qsort(places, k->n, sizeof(*places), by_score);
    json_t *list = json_array();
    for (uint32_t i = 0; i < top; i++) {
        json_t *j = json_pack("{s:i, s:f}", "index", (int)places[i].i, "relevance_score", places[i].score);
        const json_t *document = text_of(json_array_get(k->documents, places[i].i));
        if (with_documents)
            json_object_set_new(j, "document", json_pack("{s:O}", "text", document));
        json_array_append_new(list, j);
    }
    mem_free(places);
    return list;
}

static int rerank(struct rank *k, struct http_exchange *x, const json_t *body, uint32_t *adapter, struct refusal *r)
{
    struct control_route route;
    uint32_t top = 0;
    int rc = api_find_model(k->a, body, adapter, r);
    if (rc == 0)
        rc = api_may_ask(k->a, x, *adapter, r);
    if (rc == 0)
        rc = open_head(k, r);
    if (rc == 0)
        rc = api_ready(k->a, &route, r);
    if (rc == 0)
        rc = read_texts(k, body, api_context(&route), r);
    if (rc == 0)
        rc = read_top(k, body, &top, r);
    if (rc != 0)
        return rc;
    k->scores = mem_array(k->n, sizeof(*k->scores));
    k->row = mem_array(k->n_embd, sizeof(*k->row));
    struct pooled p = { k->a, x, k->texts, k->n, *adapter, POOLING_LAST, take_row, k };
    rc = pooled_make(&p, r);
    if (rc != 0)
        return rc;
    json_int_t tokens = (json_int_t)pooled_tokens(&p);
    json_t *results = results_json(k, top, json_is_true(json_object_get(body, "return_documents")));
    reply_json(x, 200, json_pack("{s:s, s:s, s:o, s:{s:I, s:I}}", "object", "list", "model", k->a->ids[*adapter],
                                 "results", results, "usage", "prompt_tokens", tokens, "total_tokens", tokens));
    return 0;
}

void api_rerank(void *arg, struct http_exchange *x)
{
    struct rank k = { .a = arg };
    struct refusal r = { 0 };
    json_t *body = NULL;
    uint32_t adapter = 0;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = rerank(&k, x, body, &adapter, &r);
    if (rc == ERR_CANCELLED)
        http_abandon(x);
    else if (rc != 0)
        reply_refusal(x, &r);
    for (uint32_t i = 0; i < k.n; i++)
        token_list_free(&k.texts[i]);
    mem_free(k.texts);
    mem_free(k.scores);
    mem_free(k.row);
    json_decref(body);
}
