/* mla: attention whose keys and values are kept in compressed form.
 *
 * A position keeps c, kv_rank values, and r, the rotated part of its key that
 * all heads share; keys and values of a head would be Wk c and Wv c.  They are
 * never made: a score (Wk c) . q is c . (Wk^T q), and the mixed values are Wv of
 * the mixed c.  So every head reads the same row [c | r] of the cache, whose
 * front serves as the value.  q in that form is wide: rows go through in blocks.
 *
 * Where there are indexers, attention reads the positions that the layer's own, or
 * the last one before it, has chosen.                                         */
#include "shard/run/layer.h"

/* normed -> q, and k as it is kept. */
static void compress(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    uint32_t n = b->n;
    const struct backend *ops = f->device->backend;
    const struct hparams *h = f->h;
    struct weight *const *w = f->weights->layers[layer].at;
    uint64_t t = forward_start(f);
    bool low = w[ROLE_Q_DOWN] != NULL;
    struct matmul_args in = {.n_weights = 2, .w = {low ? w[ROLE_Q_DOWN] : w[ROLE_ATTN_Q], w[ROLE_KV_DOWN]},
                             .y = {low ? f->q_low : f->q, f->k}, .x = f->normed, .n_rows = n};
    ops->matmul(f->device, &in);
    forward_lora(f, layer, low ? ROLE_Q_DOWN : ROLE_ATTN_Q, b->lora, f->normed, in.y[0]);
    forward_lora(f, layer, ROLE_KV_DOWN, b->lora, f->normed, f->k);
    if (low) {
        struct norm_args norm = {.weight = w[ROLE_Q_DOWN_NORM], .x = f->q_low, .y = f->q_low, .n_rows = n,
                                 .width = h->q_rank, .group = h->q_rank, .eps = h->norm_eps};
        struct matmul_args up = {.n_weights = 1, .w = {w[ROLE_Q_UP]}, .y = {f->q}, .x = f->q_low, .n_rows = n};
        ops->norm(f->device, &norm);
        ops->matmul(f->device, &up);
        forward_lora(f, layer, ROLE_Q_UP, b->lora, f->q_low, f->q);
    }
    struct norm_args norm = {.weight = w[ROLE_KV_DOWN_NORM], .x = f->k, .y = f->k, .n_rows = n, .width = h->kv_rank,
                             .group = h->kv_rank, .stride = h->cache_key_dim, .eps = h->norm_eps};
    ops->norm(f->device, &norm);
    forward_lap(f, &f->times.matmul_ns, &t);
}

/* Rows [first, first + n) of q in terms of compressed keys. */
static void absorb(struct forward *f, uint32_t layer, uint32_t first, uint32_t n, const struct lora_rows *lora)
{
    const struct hparams *h = f->h;
    uint32_t width = h->n_heads * h->head_dim, plain = h->head_dim - h->n_rot;
    struct span q = forward_behind(f->q, (size_t)first * width);
    struct heads_args up = {.w = f->weights->layers[layer].at[ROLE_K_UP], .x = q, .y = f->absorbed, .x_row = width,
                            .x_head = h->head_dim, .y_row = h->n_heads * h->cache_key_dim, .y_head = h->cache_key_dim,
                            .n_rows = n};
    struct lora_strides strides = {up.x_row, up.x_head, up.y_row, up.y_head, h->n_heads};
    struct copy_args rotated = {.from = forward_behind(q, plain), .to = forward_behind(f->absorbed, h->kv_rank),
                                .from_stride = h->head_dim, .to_stride = h->cache_key_dim, .width = h->n_rot,
                                .count = n * h->n_heads};
    f->device->backend->heads(f->device, &up);
    if (lora->n_groups > 0)
        lora_add(f->loras, layer, ROLE_K_UP, lora, q, f->absorbed, &strides);
    f->device->backend->copy(f->device, &rotated);
    if (forward_facts(f, layer)->tempered)
        forward_temper(f, f->absorbed, first, n, h->n_heads * h->cache_key_dim);
}

/* Rows [first, first + n): absorbed -> mixed. */
static void attend(struct forward *f, uint32_t layer, const struct forward_batch *b, uint32_t first, uint32_t n,
                   const struct lora_rows *lora)
{
    const struct hparams *h = f->h;
    uint32_t width = h->n_heads * h->value_dim;
    struct attention_args a = {
        .kv = f->layers[layer], .q = f->absorbed, .k = forward_behind(f->k, (size_t)first * h->cache_key_dim),
        .out = f->latent, .rows = b->rows + first, .n_rows = n, .n_heads = h->n_heads, .scale = h->attention_scale};
    if (h->index.top > 0) {
        a.chosen = forward_behind(f->chosen, (size_t)first * h->index.top);
        a.n_chosen = h->index.top;
    }
    struct heads_args up = {.w = f->weights->layers[layer].at[ROLE_V_UP], .x = f->latent,
                            .y = forward_behind(f->mixed, (size_t)first * width), .x_row = h->n_heads * h->kv_rank,
                            .x_head = h->kv_rank, .y_row = width, .y_head = h->value_dim, .n_rows = n};
    struct lora_strides strides = {up.x_row, up.x_head, up.y_row, up.y_head, h->n_heads};
    f->device->backend->attention(f->device, &a);
    f->device->backend->heads(f->device, &up);
    if (lora->n_groups > 0)
        lora_add(f->loras, layer, ROLE_V_UP, lora, up.x, up.y, &strides);
}

void mla_attend(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    const struct hparams *h = f->h;
    struct weight *const *w = f->weights->layers[layer].at;
    uint32_t rows[MLA_ROWS_MAX];
    struct lora_rows lora = {.rows = rows};
    uint64_t t = forward_start(f);
    forward_norm(f, w[ROLE_ATTN_NORM], NULL, f->x, f->normed, b->n);
    forward_lap(f, &f->times.norm_ns, &t);
    compress(f, layer, b);
    if (forward_facts(f, layer)->indexed)
        indexer_choose(f, layer, b);
    t = forward_start(f);
    forward_rope(f, layer, forward_behind(f->q, h->head_dim - h->n_rot), b, h->n_heads, h->head_dim);
    forward_rope(f, layer, forward_behind(f->k, h->kv_rank), b, 1, h->cache_key_dim);
    forward_lap(f, &f->times.rope_ns, &t);
    for (uint32_t first = 0, n; first < b->n; first += n) {
        n = b->n - first < MLA_ROWS_MAX ? b->n - first : MLA_ROWS_MAX;
        lora_rows_part(&lora, b->lora, first, n);
        absorb(f, layer, first, n, &lora);
        attend(f, layer, b, first, n, &lora);
    }
    forward_lap(f, &f->times.attention_ns, &t);
}
