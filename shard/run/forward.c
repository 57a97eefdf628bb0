/* forward: pre-norm decoder layers, each
 *
 *     a = norm(x);  q, k, v = Wq a, Wk a, Wv a (+ biases);  per-head norm of q, k where the family has it;
 *     rope(q, k);   x += Wo attention(q, k, v);             f = norm(x);   x += ffn(f) or x += experts(f)
 *
 * What a layer has is what its weights say: an absent handle is an absent
 * operation, and no family is asked for by name.
 *
 * Only wanted rows need what comes after the last layer's attention, because
 * nothing later reads the others: there the batch shrinks to them.  Operations
 * treat each row by itself, so that changes no value.                        */
#include "shard/run/forward.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

enum { SPAN_ALIGNMENT = 256 };

/* ---- memory ---- */

uint32_t forward_pages(uint32_t kv_tokens)
{
    return kv_tokens / KV_PAGE_TOKENS + (kv_tokens % KV_PAGE_TOKENS != 0);
}

static size_t aligned(size_t bytes)
{
    return (bytes + SPAN_ALIGNMENT - 1) / SPAN_ALIGNMENT * SPAN_ALIGNMENT;
}

/* Layers one after the other, each its keys, then its values. */
static int open_kv(struct forward *f, const struct shard_options *o, struct error *e)
{
    const struct hparams *h = f->h;
    size_t positions = (size_t)forward_pages(o->kv_tokens) * KV_PAGE_TOKENS, at = 0;
    size_t value = o->kv_type == KV_F16 ? sizeof(uint16_t) : sizeof(float);
    size_t keys = aligned(positions * h->n_kv_heads * h->head_dim * value);
    size_t values = aligned(positions * h->n_kv_heads * h->value_dim * value);
    f->kv_bytes = (keys + values) * f->weights->n_layers;
    int r = f->device->backend->mem_create(f->device, &f->kv_mem, f->kv_bytes, e);
    if (r != 0)
        error_context(e, "the KV cache of %u tokens", o->kv_tokens);
    for (uint32_t i = 0; i < f->weights->n_layers; i++, at += keys + values)
        f->layers[i] = (struct kv_layer){
            .type = o->kv_type, .keys = {f->kv_mem, at}, .values = {f->kv_mem, at + keys},
            .n_kv_heads = h->n_kv_heads, .key_dim = h->head_dim, .value_dim = h->value_dim};
    return r;
}

static struct span take(struct devmem *mem, size_t *at, size_t rows, size_t width)
{
    struct span s = {mem, *at};
    *at += aligned(rows * width * sizeof(float));
    return s;
}

/* Run twice: to measure, then to point into mem. */
static size_t lay_out(struct forward *f)
{
    const struct hparams *h = f->h;
    size_t rows = f->rows_max, at = 0, key_width = (size_t)h->n_heads * h->head_dim;
    size_t mixed_width = (size_t)h->n_heads * h->value_dim;
    f->x = take(f->mem, &at, rows, h->n_embd);
    f->normed = take(f->mem, &at, rows, h->n_embd);
    /* q lends its place to the wanted rows of mixed */
    f->q = take(f->mem, &at, rows, key_width > mixed_width ? key_width : mixed_width);
    f->k = take(f->mem, &at, rows, (size_t)h->n_kv_heads * h->head_dim);
    f->v = take(f->mem, &at, rows, (size_t)h->n_kv_heads * h->value_dim);
    f->mixed = take(f->mem, &at, rows, mixed_width);
    if (h->n_experts == 0) {
        f->gate = take(f->mem, &at, rows, h->n_ffn);
        f->up = take(f->mem, &at, rows, h->n_ffn);
    }
    if (f->head) {
        f->kept = take(f->mem, &at, rows, h->n_embd);
        f->logits = take(f->mem, &at, f->logits_max, h->n_vocab);
    }
    return at;
}

static int open_buffers(struct forward *f, struct error *e)
{
    f->bytes = lay_out(f);
    int r = f->device->backend->mem_create(f->device, &f->mem, f->bytes, e);
    if (r != 0)
        error_context(e, "the buffers of %u rows", f->rows_max);
    lay_out(f);
    return r;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static int reserve(const struct forward *f, struct error *e)
{
    const struct hparams *h = f->h;
    bool experts = h->n_experts > 0;
    struct reserve_args r = {
        .rows = f->rows_max, .cols = larger(h->n_embd, h->n_heads * h->value_dim), .rope_half = h->n_rot / 2};
    if (experts) {
        r.experts = h->n_experts;
        r.experts_used = h->n_experts_used;
        r.width = h->n_embd;
        r.ffn = h->n_expert_ffn;
    } else {
        r.cols = larger(r.cols, h->n_ffn);
    }
    return f->device->backend->reserve(f->device, &r, e);
}

int forward_open(struct forward *f, struct device *d, const struct model *m, const struct weights *w,
                 const struct shard_options *o, struct error *e)
{
    *f = (struct forward){
        .device = d, .h = model_hparams(m), .weights = w, .embedding = o->range.embedding, .head = o->range.head,
        .rows_max = o->batch_rows_max,
        .logits_max = o->batch_rows_max < LOGITS_ROWS_MAX ? o->batch_rows_max : LOGITS_ROWS_MAX};
    f->layers = mem_array(w->n_layers, sizeof(*f->layers));
    f->inv_freq = mem_array(f->h->n_rot / 2, sizeof(*f->inv_freq));
    model_rope(m, f->inv_freq, &f->rope_scale);
    int r = open_kv(f, o, e);
    if (r == 0)
        r = open_buffers(f, e);
    return r == 0 ? reserve(f, e) : r;
}

void forward_close(struct forward *f)
{
    if (!f->device)
        return;
    f->device->backend->mem_destroy(f->device, f->mem);
    f->device->backend->mem_destroy(f->device, f->kv_mem);
    mem_free(f->inv_freq);
    mem_free(f->layers);
    memset(f, 0, sizeof(*f));
}

/* ---- time ---- */

/* Add the time since *since to a kind of operation, where somebody wants to know. */
static void lap(struct forward *f, uint64_t *kind, uint64_t *since)
{
    if (!f->timing)
        return;
    f->device->backend->sync(f->device);
    uint64_t now = clock_ns();
    *kind += now - *since;
    *since = now;
}

static uint64_t start_time(const struct forward *f)
{
    return f->timing ? clock_ns() : 0;
}

/* ---- one layer ---- */

/* The rows that a layer works on: all of the batch, or the wanted ones. */
struct rows {
    struct span x, mixed;
    uint32_t n;
};

static void norm(struct forward *f, const struct weight *w, struct span x, struct span y, uint32_t n)
{
    struct norm_args a = {.weight = w, .x = x, .y = y, .n_rows = n, .width = f->h->n_embd, .group = f->h->n_embd,
                          .eps = f->h->norm_eps};
    f->device->backend->norm(f->device, &a);
}

static void norm_heads(struct forward *f, const struct weight *w, struct span x, uint32_t n, uint32_t n_heads)
{
    if (!w)
        return;
    struct norm_args a = {.weight = w, .x = x, .y = x, .n_rows = n, .width = n_heads * f->h->head_dim,
                          .group = f->h->head_dim, .eps = f->h->norm_eps};
    f->device->backend->norm(f->device, &a);
}

static void rope(struct forward *f, struct span x, const struct forward_batch *b, uint32_t n_heads)
{
    struct rope_args a = {
        .pairing = f->h->arch->rope_halves ? ROPE_HALVES : ROPE_PAIRS, .inv_freq = f->inv_freq,
        .scale = f->rope_scale, .n_rot = f->h->n_rot, .head_dim = f->h->head_dim, .n_heads = n_heads, .x = x,
        .positions = b->positions, .n_rows = b->n};
    f->device->backend->rope(f->device, &a);
}

/* x -> mixed: projections, rotation, attention. */
static void attend(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    const struct backend *ops = f->device->backend;
    struct weight *const *w = f->weights->layers[layer].at;
    uint64_t t = start_time(f);
    norm(f, w[ROLE_ATTN_NORM], f->x, f->normed, b->n);
    lap(f, &f->times.norm_ns, &t);
    struct matmul_args qkv = {
        .n_weights = 3, .w = {w[ROLE_ATTN_Q], w[ROLE_ATTN_K], w[ROLE_ATTN_V]},
        .bias = {w[ROLE_ATTN_Q_BIAS], w[ROLE_ATTN_K_BIAS], w[ROLE_ATTN_V_BIAS]}, .y = {f->q, f->k, f->v},
        .x = f->normed, .n_rows = b->n};
    ops->matmul(f->device, &qkv);
    lap(f, &f->times.matmul_ns, &t);
    norm_heads(f, w[ROLE_ATTN_Q_NORM], f->q, b->n, f->h->n_heads);
    norm_heads(f, w[ROLE_ATTN_K_NORM], f->k, b->n, f->h->n_kv_heads);
    lap(f, &f->times.norm_ns, &t);
    rope(f, f->q, b, f->h->n_heads);
    rope(f, f->k, b, f->h->n_kv_heads);
    lap(f, &f->times.rope_ns, &t);
    struct attention_args a = {
        .kv = f->layers[layer], .q = f->q, .k = f->k, .v = f->v, .out = f->mixed, .rows = b->rows, .n_rows = b->n,
        .n_heads = f->h->n_heads, .scale = 1 / sqrtf((float)f->h->head_dim)};
    ops->attention(f->device, &a);
    lap(f, &f->times.attention_ns, &t);
}

/* x += Wo mixed */
static void project(struct forward *f, uint32_t layer, const struct rows *rows)
{
    struct weight *const *w = f->weights->layers[layer].at;
    uint64_t t = start_time(f);
    struct matmul_args out = {.n_weights = 1, .w = {w[ROLE_ATTN_OUT]}, .bias = {w[ROLE_ATTN_OUT_BIAS]},
                              .y = {rows->x}, .x = rows->mixed, .n_rows = rows->n, .accumulate = true};
    f->device->backend->matmul(f->device, &out);
    lap(f, &f->times.matmul_ns, &t);
}

static void run_dense(struct forward *f, struct weight *const *w, const struct rows *rows)
{
    const struct backend *ops = f->device->backend;
    struct matmul_args in = {.n_weights = 2, .w = {w[ROLE_FFN_GATE], w[ROLE_FFN_UP]}, .y = {f->gate, f->up},
                             .x = f->normed, .n_rows = rows->n};
    struct glu_args glu = {.act = ACT_SILU, .gate = f->gate, .up = f->up, .out = f->gate, .n_rows = rows->n,
                           .width = f->h->n_ffn};
    struct matmul_args out = {.n_weights = 1, .w = {w[ROLE_FFN_DOWN]}, .y = {rows->x}, .x = f->gate,
                              .n_rows = rows->n, .accumulate = true};
    ops->matmul(f->device, &in);
    ops->glu(f->device, &glu);
    ops->matmul(f->device, &out);
}

static void run_experts(struct forward *f, struct weight *const *w, const struct rows *rows)
{
    struct moe_args a = {
        .router = w[ROLE_ROUTER], .gate = w[ROLE_GATE_EXPERTS], .up = w[ROLE_UP_EXPERTS], .down = w[ROLE_DOWN_EXPERTS],
        .scores = ROUTER_SOFTMAX, .act = ACT_SILU, .normalise = f->h->experts_norm, .scale = f->h->experts_scale,
        .n_used = f->h->n_experts_used, .x = f->normed, .out = rows->x, .n_rows = rows->n, .width = f->h->n_embd,
        .ffn = f->h->n_expert_ffn};
    f->device->backend->moe(f->device, &a);
}

/* x += ffn(norm(x)) */
static void feed_forward(struct forward *f, uint32_t layer, const struct rows *rows)
{
    struct weight *const *w = f->weights->layers[layer].at;
    uint64_t t = start_time(f);
    norm(f, w[ROLE_FFN_NORM], rows->x, f->normed, rows->n);
    lap(f, &f->times.norm_ns, &t);
    if (w[ROLE_ROUTER]) {
        run_experts(f, w, rows);
        lap(f, &f->times.moe_ns, &t);
    } else {
        run_dense(f, w, rows);
        lap(f, &f->times.ffn_ns, &t);
    }
}

/* ---- the range ---- */

static void enter(struct forward *f, const struct forward_batch *b)
{
    uint64_t t = start_time(f);
    if (f->embedding)
        f->device->backend->embed(f->device, f->weights->embedding, b->tokens, b->n, f->x);
    else
        f->device->backend->upload(f->device, f->x, b->in, (size_t)b->n * f->h->n_embd * sizeof(float));
    lap(f, &f->times.embed_ns, &t);
}

/* The wanted rows move to the front; q's place is free after attention. */
static struct rows keep_wanted(struct forward *f, const struct forward_batch *b)
{
    const struct backend *ops = f->device->backend;
    ops->gather(f->device, f->kept, f->x, b->wanted, b->n_wanted, f->h->n_embd);
    ops->gather(f->device, f->q, f->mixed, b->wanted, b->n_wanted, f->h->n_heads * f->h->value_dim);
    return (struct rows){f->kept, f->q, b->n_wanted};
}

void forward_run(struct forward *f, const struct forward_batch *b)
{
    uint32_t n_layers = f->weights->n_layers;
    struct rows rows = {f->x, f->mixed, b->n};
    assert(b->n > 0 && b->n <= f->rows_max && b->n_wanted <= b->n);
    enter(f, b);
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        attend(f, layer, b);
        if (f->head && layer == n_layers - 1)
            rows = keep_wanted(f, b);
        if (rows.n == 0)
            return;
        project(f, layer, &rows);
        feed_forward(f, layer, &rows);
    }
    if (!f->head)
        return;
    uint64_t t = start_time(f);
    norm(f, f->weights->output_norm, f->kept, f->kept, rows.n);
    lap(f, &f->times.norm_ns, &t);
}

void forward_logits(struct forward *f, uint32_t first, uint32_t n)
{
    assert(f->head && n <= f->logits_max);
    uint64_t t = start_time(f);
    struct span x = {f->kept.mem, f->kept.offset + (size_t)first * f->h->n_embd * sizeof(float)};
    struct matmul_args head = {.n_weights = 1, .w = {f->weights->output}, .bias = {f->weights->output_bias},
                               .y = {f->logits}, .x = x, .n_rows = n};
    f->device->backend->matmul(f->device, &head);
    lap(f, &f->times.head_ns, &t);
}
