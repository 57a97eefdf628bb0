/* forward: the memory of a range's forward pass, and the way of a batch through it: embedding, layers, norm, head.
 *
 * Only wanted rows need what comes after the last layer's attention, because
 * nothing later reads the others: there the batch shrinks to them.  Operations
 * treat each row by itself, so that changes no value.                        */
#include "shard/run/forward.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "shard/run/layer.h"

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

/* Layers one after the other, each its keys, then its values, then its indexer's keys. */
static int open_kv(struct forward *f, const struct shard_options *o, struct error *e)
{
    const struct hparams *h = f->h;
    size_t positions = (size_t)forward_pages(o->kv_tokens) * KV_PAGE_TOKENS, at = 0;
    size_t keys = aligned(positions * h->cache_heads * kv_row_bytes(o->kv_type, h->cache_key_dim));
    size_t values = aligned(positions * h->cache_heads * kv_row_bytes(o->kv_type, h->cache_value_dim));
    bool shared = h->cache_value_dim == 0;
    size_t index = aligned(positions * kv_row_bytes(o->kv_type, h->index.dim)), bytes = 0;
    for (uint32_t i = 0; i < f->weights->n_layers; i++)
        bytes += (forward_facts(f, i)->delta ? 0 : keys + values) + (forward_facts(f, i)->indexed ? index : 0);
    f->kv_bytes = f->kv_mem_bytes = bytes ? bytes : keys + values;
    int r = f->device->backend->mem_create(f->device, &f->kv_mem, f->kv_bytes, e);
    if (r != 0)
        error_context(e, "the KV cache of %u tokens", o->kv_tokens);
    for (uint32_t i = 0; i < f->weights->n_layers; i++) {
        f->layers[i] = (struct kv_layer){
            .type = o->kv_type, .keys = {f->kv_mem, at}, .values = {f->kv_mem, at + keys},
            .n_kv_heads = h->cache_heads, .key_dim = h->cache_key_dim, .shared = shared,
            .value_dim = shared ? h->kv_rank : h->cache_value_dim};
        at += forward_facts(f, i)->delta ? 0 : keys + values;
        f->index_layers[i] = (struct kv_layer){.type = o->kv_type, .keys = {f->kv_mem, at}, .n_kv_heads = 1,
                                               .key_dim = h->index.dim, .shared = true};
        at += forward_facts(f, i)->indexed ? index : 0;
    }
    return r;
}

/* Two states a sequence of every layer that has one. */
static int open_states(struct forward *f, const struct model *m, const struct shard_options *o, struct error *e)
{
    uint32_t n = 0;
    f->state_of = mem_array(f->weights->n_layers, sizeof(*f->state_of));
    for (uint32_t i = 0; i < f->weights->n_layers; i++) {
        f->state_of[i] = n;
        n += forward_facts(f, i)->delta;
    }
    size_t bytes = (size_t)(n * model_state_bytes(m) * o->sequences_max);
    if (bytes == 0)
        return 0;
    f->kv_bytes += bytes;
    int r = f->device->backend->mem_create(f->device, &f->state_mem, bytes, e);
    if (r != 0)
        error_context(e, "the states of %u sequences", o->sequences_max);
    return r;
}

static struct span take(struct devmem *mem, size_t *at, size_t rows, size_t width)
{
    struct span s = {mem, *at};
    *at += aligned(rows * width * sizeof(float));
    return s;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Of all feed-forwards that are no routed experts; 0: there is none. */
static uint32_t widest_ffn(const struct hparams *h)
{
    uint32_t widest = 0;
    for (uint32_t i = 0; i < h->n_layers; i++)
        widest = larger(widest, h->layers[i].experts ? h->n_shared_ffn : h->n_ffn);
    return widest;
}

static bool has_experts(const struct hparams *h)
{
    bool any = false;
    for (uint32_t i = 0; i < h->n_layers; i++)
        any = any || h->layers[i].experts;
    return any;
}

static void lay_out_delta(struct forward *f, size_t *at)
{
    const struct delta_shape *d = &f->h->delta;
    bool by_channel = f->h->arch->delta_by_channel;
    size_t rows = f->rows_max, alphas = by_channel ? (size_t)d->k_heads * d->k_dim : d->v_heads;
    f->channels = take(f->mem, at, rows, d->channels);
    f->convolved = take(f->mem, at, rows, d->channels);
    f->delta_gates = take(f->mem, at, rows, d->inner);
    f->state_gates = take(f->mem, at, rows, d->v_heads + alphas);
    f->delta_low = take(f->mem, at, rows, by_channel ? 2 * (size_t)d->v_dim : 0);
}

/* Run twice: to measure, then to point into mem. */
static size_t lay_out(struct forward *f)
{
    const struct hparams *h = f->h;
    size_t rows = f->rows_max, at = 0, key_width = (size_t)h->n_heads * h->head_dim;
    size_t mixed_width = larger(h->n_heads * h->value_dim, h->delta.inner);
    f->x = take(f->mem, &at, rows, h->n_embd);
    f->normed = take(f->mem, &at, rows, h->n_embd);
    /* q lends its place to the wanted rows of mixed */
    f->q = take(f->mem, &at, rows, key_width > mixed_width ? key_width : mixed_width);
    f->k = take(f->mem, &at, rows, (size_t)h->cache_heads * h->cache_key_dim);
    f->v = take(f->mem, &at, rows, (size_t)h->cache_heads * h->cache_value_dim);
    if (h->kv_rank > 0) {
        size_t at_once = rows < MLA_ROWS_MAX ? rows : MLA_ROWS_MAX;
        f->q_low = take(f->mem, &at, rows, h->q_rank);
        f->absorbed = take(f->mem, &at, at_once, (size_t)h->n_heads * h->cache_key_dim);
        f->latent = take(f->mem, &at, at_once, (size_t)h->n_heads * h->kv_rank);
    }
    if (h->index.top > 0) {
        f->index_q = take(f->mem, &at, rows, (size_t)h->index.heads * h->index.dim);
        f->index_k = take(f->mem, &at, rows, h->index.dim);
        f->index_weights = take(f->mem, &at, rows, h->index.heads);
        f->chosen = take(f->mem, &at, rows, h->index.top);
    }
    f->mixed = take(f->mem, &at, rows, mixed_width);
    if (arch_gates_heads(h->arch)) {
        f->q_gated = take(f->mem, &at, rows, 2 * key_width);
        f->head_gates = take(f->mem, &at, rows, key_width);
    }
    if (h->delta.interval > 0)
        lay_out_delta(f, &at);
    f->gate = take(f->mem, &at, rows, widest_ffn(h));
    f->up = take(f->mem, &at, rows, widest_ffn(h));
    if (h->arch->flags & ARCH_SHARED_GATE)
        f->gates = take(f->mem, &at, rows, 1);
    if (layer_has_branch(h))
        f->branch = take(f->mem, &at, rows, h->n_embd);
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
    void *view = r == 0 ? f->device->backend->host_view(f->device, (struct span){f->mem, 0}) : NULL;
    if (view) /* taken now, not at the first large step */
        memset(view, 0, f->bytes);
    return r;
}

static int reserve(const struct forward *f, struct error *e)
{
    const struct hparams *h = f->h;
    uint32_t widest = larger(larger(h->n_embd, h->n_heads * h->value_dim), larger(widest_ffn(h), h->q_rank));
    widest = larger(widest, h->delta.inner);
    struct reserve_args r = {
        .rows = f->rows_max, .cols = widest, .rope_half = h->n_rot / 2, .key_dim = h->cache_key_dim,
        .out_dim = h->cache_value_dim ? h->cache_value_dim : h->cache_key_dim,
        .index_positions = h->index.top > 0 ? h->context : 0, .lora_rank = f->loras->rank,
        .lora_cols = f->loras->cols};
    if (has_experts(h)) {
        r.experts = h->n_experts;
        r.experts_used = h->n_experts_used;
        r.width = h->n_embd;
        r.ffn = h->n_expert_ffn;
    }
    return f->device->backend->reserve(f->device, &r, e);
}

int forward_open(struct forward *f, struct device *d, const struct model *m, const struct weights *w,
                 const struct loras *l, const struct shard_options *o, struct error *e)
{
    *f = (struct forward){
        .device = d, .h = model_hparams(m), .weights = w, .loras = l, .embedding = o->range.embedding,
        .head = o->range.head,
        .sequences_max = o->sequences_max, .rows_max = o->batch_rows_max,
        .logits_max = o->batch_rows_max < LOGITS_ROWS_MAX ? o->batch_rows_max : LOGITS_ROWS_MAX};
    f->layers = mem_array(w->n_layers, sizeof(*f->layers));
    f->index_layers = mem_array(w->n_layers, sizeof(*f->index_layers));
    f->inv_freq = mem_array(f->h->n_rot / 2, sizeof(*f->inv_freq));
    f->tempers = mem_array(f->rows_max, sizeof(*f->tempers));
    f->inv_freq_local = mem_array(f->h->n_rot / 2, sizeof(*f->inv_freq_local));
    model_rope(m, f->inv_freq, &f->rope_scale);
    model_rope_local(m, f->inv_freq_local);
    int r = open_kv(f, o, e);
    if (r == 0)
        r = open_states(f, m, o, e);
    if (r == 0)
        r = open_buffers(f, e);
    return r == 0 ? reserve(f, e) : r;
}

void forward_rest(struct forward *f)
{
    void *kv = f->device->backend->host_view(f->device, (struct span){f->kv_mem, 0});
    if (kv)
        mem_big_rest(kv, f->kv_mem_bytes);
}

void forward_close(struct forward *f)
{
    if (!f->device)
        return;
    f->device->backend->mem_destroy(f->device, f->mem);
    f->device->backend->mem_destroy(f->device, f->kv_mem);
    f->device->backend->mem_destroy(f->device, f->state_mem);
    mem_free(f->state_of);
    mem_free(f->inv_freq);
    mem_free(f->inv_freq_local);
    mem_free(f->tempers);
    mem_free(f->layers);
    mem_free(f->index_layers);
    memset(f, 0, sizeof(*f));
}

/* ---- the range ---- */

static void enter(struct forward *f, const struct forward_batch *b)
{
    uint64_t t = forward_start(f);
    if (f->embedding) {
        f->device->backend->embed(f->device, f->weights->embedding, b->tokens, b->n, f->x);
        forward_scale(f, f->x, b->n, f->h->n_embd, f->h->embedding_scale, 0);
    } else {
        f->device->backend->upload(f->device, f->x, b->in, (size_t)b->n * f->h->n_embd * sizeof(float));
    }
    forward_lap(f, &f->times.embed_ns, &t);
}

/* The wanted rows move to the front; q's place is free after attention. */
static struct layer_rows keep_wanted(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    uint32_t width = forward_facts(f, layer)->delta ? f->h->delta.inner : f->h->n_heads * f->h->value_dim;
    const struct backend *ops = f->device->backend;
    ops->gather(f->device, f->kept, f->x, b->wanted, b->n_wanted, f->h->n_embd);
    ops->gather(f->device, f->q, f->mixed, b->wanted, b->n_wanted, width);
    return (struct layer_rows){f->kept, f->q, b->n_wanted, b->lora_wanted};
}

void forward_run(struct forward *f, const struct forward_batch *b)
{
    uint32_t n_layers = f->weights->n_layers;
    struct layer_rows rows = {f->x, f->mixed, b->n, b->lora};
    assert(b->n > 0 && b->n <= f->rows_max && b->n_wanted <= b->n);
    enter(f, b);
    layer_note_positions(f, b);
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        layer_attend(f, layer, b);
        if (f->head && layer == n_layers - 1)
            rows = keep_wanted(f, layer, b);
        if (rows.n == 0)
            return;
        layer_project(f, layer, &rows);
        layer_feed(f, layer, &rows);
    }
    if (!f->head)
        return;
    uint64_t t = forward_start(f);
    forward_norm(f, f->weights->output_norm, f->weights->output_norm_bias, f->kept, f->kept, rows.n);
    forward_lap(f, &f->times.norm_ns, &t);
}

void forward_logits(struct forward *f, uint32_t first, uint32_t n)
{
    assert(f->head && n <= f->logits_max);
    uint64_t t = forward_start(f);
    struct span x = {f->kept.mem, f->kept.offset + (size_t)first * f->h->n_embd * sizeof(float)};
    struct matmul_args head = {.n_weights = 1, .w = {f->weights->output}, .bias = {f->weights->output_bias},
                               .y = {f->logits}, .x = x, .n_rows = n};
    f->device->backend->matmul(f->device, &head);
    forward_scale(f, f->logits, n, f->h->n_vocab, f->h->logit_scale, f->h->logit_cap);
    forward_lap(f, &f->times.head_ns, &t);
}
