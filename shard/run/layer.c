/* layer: pre-norm decoder layers, each
 *
 *     a = norm(x);  q, k, v = Wq a, Wk a, Wv a (+ biases);  norm of q, k where the family has it;
 *     rope(q, k);   x += Wo attention(q, k, v);             f = norm(x);   x += ffn(f) or x += experts(f)
 *
 * What a layer has is what its weights and its facts say: an absent handle is
 * an absent operation, and no family is asked for by name.                   */
#include "shard/run/layer.h"

#include <math.h>

#include "base/clock.h"

/* ---- time ---- */

void forward_lap(struct forward *f, uint64_t *kind, uint64_t *since)
{
    if (!f->timing)
        return;
    f->device->backend->sync(f->device);
    uint64_t now = clock_ns();
    *kind += now - *since;
    *since = now;
}

uint64_t forward_start(const struct forward *f)
{
    return f->timing ? clock_ns() : 0;
}

/* ---- parts ---- */

const struct layer_facts *forward_facts(const struct forward *f, uint32_t layer)
{
    return &f->h->layers[f->weights->first + layer];
}

void forward_norm(struct forward *f, const struct weight *w, const struct weight *bias, struct span x, struct span y,
                  uint32_t n)
{
    struct norm_args a = {.weight = w, .bias = bias, .x = x, .y = y, .n_rows = n, .width = f->h->n_embd,
                          .group = f->h->n_embd, .eps = f->h->norm_eps, .centred = f->h->centred_norms};
    f->device->backend->norm(f->device, &a);
}

void forward_scale(struct forward *f, struct span x, uint32_t n, uint32_t width, float factor, float cap)
{
    struct scale_args a = {.x = x, .n_rows = n, .width = width, .factor = factor, .cap = cap};
    if (factor != 1 || cap != 0)
        f->device->backend->scale(f->device, &a);
}

void forward_lora(struct forward *f, uint32_t layer, enum role role, const struct lora_rows *rows, struct span x,
                  struct span y)
{
    if (rows->n_groups > 0)
        lora_add(f->loras, layer, role, rows, x, y, NULL);
}

static void norm_heads(struct forward *f, const struct weight *w, struct span x, uint32_t n, uint32_t n_heads)
{
    uint32_t width = n_heads * f->h->head_dim;
    bool wide = (f->h->arch->flags & ARCH_QK_NORM_WIDE) != 0;
    struct norm_args a = {.weight = w, .x = x, .y = x, .n_rows = n, .width = width,
                          .group = wide ? width : f->h->head_dim, .eps = f->h->norm_eps};
    f->device->backend->norm(f->device, &a);
}

struct span forward_behind(struct span s, size_t values)
{
    return (struct span){s.mem, s.offset + values * sizeof(float)};
}

void forward_rope(struct forward *f, uint32_t layer, struct span x, const struct forward_batch *b, uint32_t n_heads,
                  uint32_t stride)
{
    bool local = forward_facts(f, layer)->local_rope;
    struct rope_args a = {
        .pairing = f->h->arch->rope_halves ? ROPE_HALVES : ROPE_PAIRS,
        .inv_freq = local ? f->inv_freq_local : f->inv_freq, .scale = local ? 1 : f->rope_scale, .n_rot = f->h->n_rot,
        .head_dim = stride, .n_heads = n_heads, .x = x, .positions = b->positions, .n_rows = b->n};
    if (!forward_facts(f, layer)->no_rope)
        f->device->backend->rope(f->device, &a);
}

void layer_note_positions(struct forward *f, const struct forward_batch *b)
{
    const struct hparams *h = f->h;
    for (uint32_t i = 0; h->temper_scale != 0 && i < b->n; i++) {
        uint32_t lengths = (b->positions[i] + h->temper_offset) / h->temper_length;
        f->tempers[i] = 1 + h->temper_scale * logf(1 + (float)lengths);
    }
}

void forward_temper(struct forward *f, struct span q, uint32_t first, uint32_t n, uint32_t width)
{
    struct scale_args a = {.x = q, .n_rows = n, .width = width, .factor = 1, .factors = f->tempers + first};
    f->device->backend->scale(f->device, &a);
}

/* ---- attention ---- */

/* A norm without weights is asked for by a layer's facts. */
static void norm_both(struct forward *f, uint32_t layer, uint32_t n)
{
    struct weight *const *w = f->weights->layers[layer].at;
    uint64_t t = forward_start(f);
    if (!w[ROLE_ATTN_Q_NORM] && !forward_facts(f, layer)->late_norm)
        return;
    norm_heads(f, w[ROLE_ATTN_Q_NORM], f->q, n, f->h->n_heads);
    norm_heads(f, w[ROLE_ATTN_K_NORM], f->k, n, f->h->n_kv_heads);
    forward_lap(f, &f->times.norm_ns, &t);
}

static void rope_both(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    uint64_t t = forward_start(f);
    forward_rope(f, layer, f->q, b, f->h->n_heads, f->h->head_dim);
    forward_rope(f, layer, f->k, b, f->h->n_kv_heads, f->h->head_dim);
    forward_lap(f, &f->times.rope_ns, &t);
}

/* Heads of q come with gates behind each: apart they are q, and what the heads' output is multiplied with. */
static void part_gates(struct forward *f, uint32_t n)
{
    uint32_t dim = f->h->head_dim;
    struct copy_args c = {.from = f->q_gated, .to = f->q, .from_stride = 2 * dim, .to_stride = dim, .width = dim,
                          .count = n * f->h->n_heads};
    f->device->backend->copy(f->device, &c);
    c.from = forward_behind(f->q_gated, dim);
    c.to = f->head_gates;
    f->device->backend->copy(f->device, &c);
}

static void gate_heads(struct forward *f, uint32_t n)
{
    struct glu_args glu = {.act = ACT_SIGMOID, .gate = f->head_gates, .up = f->mixed, .out = f->mixed, .n_rows = n,
                           .width = f->h->n_heads * f->h->value_dim};
    f->device->backend->glu(f->device, &glu);
}

static void project_qkv(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    uint32_t n = b->n;
    struct weight *const *w = f->weights->layers[layer].at;
    bool gated = arch_gates_heads(f->h->arch);
    uint64_t t = forward_start(f);
    forward_norm(f, w[ROLE_ATTN_NORM], w[ROLE_ATTN_NORM_BIAS], f->x, f->normed, n);
    forward_lap(f, &f->times.norm_ns, &t);
    struct matmul_args qkv = {
        .n_weights = 3, .w = {w[ROLE_ATTN_Q], w[ROLE_ATTN_K], w[ROLE_ATTN_V]},
        .bias = {w[ROLE_ATTN_Q_BIAS], w[ROLE_ATTN_K_BIAS], w[ROLE_ATTN_V_BIAS]},
        .y = {gated ? f->q_gated : f->q, f->k, f->v}, .x = f->normed, .n_rows = n};
    f->device->backend->matmul(f->device, &qkv);
    forward_lora(f, layer, ROLE_ATTN_Q, b->lora, f->normed, qkv.y[0]);
    forward_lora(f, layer, ROLE_ATTN_K, b->lora, f->normed, f->k);
    forward_lora(f, layer, ROLE_ATTN_V, b->lora, f->normed, f->v);
    if (gated)
        part_gates(f, n);
    forward_lap(f, &f->times.matmul_ns, &t);
}

static void attend(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    const struct layer_facts *facts = forward_facts(f, layer);
    bool late = (f->h->arch->flags & ARCH_QK_NORM_LATE) != 0 || facts->late_norm;
    project_qkv(f, layer, b);
    if (!late)
        norm_both(f, layer, b->n);
    rope_both(f, layer, b);
    if (late)
        norm_both(f, layer, b->n);
    if (facts->tempered)
        forward_temper(f, f->q, 0, b->n, f->h->n_heads * f->h->head_dim);
    uint64_t t = forward_start(f);
    struct attention_args a = {
        .kv = f->layers[layer], .q = f->q, .k = f->k, .v = f->v, .out = f->mixed, .rows = b->rows, .n_rows = b->n,
        .n_heads = f->h->n_heads, .scale = f->h->attention_scale, .window = facts->window,
        .chunk = facts->chunk, .cap = f->h->attention_cap, .sinks = f->weights->layers[layer].at[ROLE_ATTN_SINKS]};
    f->device->backend->attention(f->device, &a);
    if (arch_gates_heads(f->h->arch))
        gate_heads(f, b->n);
    forward_lap(f, &f->times.attention_ns, &t);
}

void layer_attend(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    if (forward_facts(f, layer)->delta)
        delta_attend(f, layer, b);
    else if (f->h->kv_rank > 0)
        mla_attend(f, layer, b);
    else
        attend(f, layer, b);
}

/* ---- branches: what is added to the stream ---- */

bool layer_has_branch(const struct hparams *h)
{
    return (h->arch->flags & ARCH_POST_NORMS) != 0 || h->residual_scale != 1;
}

/* Where a branch's last product goes: straight to the stream, or aside to be changed first. */
static struct matmul_args branch_product(struct forward *f, struct weight *w, struct weight *bias, struct span x,
                                         const struct layer_rows *rows)
{
    bool aside = layer_has_branch(f->h);
    return (struct matmul_args){.n_weights = 1, .w = {w}, .bias = {bias}, .y = {aside ? f->branch : rows->x}, .x = x,
                                .n_rows = rows->n, .accumulate = !aside};
}

static void add_branch(struct forward *f, const struct weight *post_norm, const struct layer_rows *rows)
{
    if (!layer_has_branch(f->h))
        return;
    if (post_norm)
        forward_norm(f, post_norm, NULL, f->branch, f->branch, rows->n);
    forward_scale(f, f->branch, rows->n, f->h->n_embd, f->h->residual_scale, 0);
    f->device->backend->add(f->device, rows->x, f->branch, (size_t)rows->n * f->h->n_embd);
}

void layer_project(struct forward *f, uint32_t layer, const struct layer_rows *rows)
{
    struct weight *const *w = f->weights->layers[layer].at;
    uint64_t t = forward_start(f);
    enum role role = w[ROLE_DELTA_OUT] ? ROLE_DELTA_OUT : ROLE_ATTN_OUT;
    struct matmul_args out = branch_product(f, w[role], w[ROLE_ATTN_OUT_BIAS], rows->mixed, rows);
    f->device->backend->matmul(f->device, &out);
    forward_lora(f, layer, role, rows->lora, rows->mixed, out.y[0]);
    add_branch(f, w[ROLE_ATTN_POST_NORM], rows);
    forward_lap(f, &f->times.matmul_ns, &t);
}

/* ---- feed-forward ---- */

static enum activation activation_of(const struct hparams *h)
{
    static const enum activation activations[] = {[FFN_SILU] = ACT_SILU, [FFN_GELU] = ACT_GELU,
                                                   [FFN_CLAMPED] = ACT_CLAMPED};
    return activations[h->arch->ffn];
}

/* gate = act(Wg normed) * (Wu normed) */
static void run_glu(struct forward *f, uint32_t layer, enum role gate, enum role up, uint32_t width,
                    const struct layer_rows *rows)
{
    struct weight *const *w = f->weights->layers[layer].at;
    struct matmul_args in = {.n_weights = 2, .w = {w[gate], w[up]}, .y = {f->gate, f->up}, .x = f->normed,
                             .n_rows = rows->n};
    struct glu_args glu = {.act = activation_of(f->h), .gate = f->gate, .up = f->up, .out = f->gate,
                           .n_rows = rows->n, .width = width};
    f->device->backend->matmul(f->device, &in);
    forward_lora(f, layer, gate, rows->lora, f->normed, f->gate);
    forward_lora(f, layer, up, rows->lora, f->normed, f->up);
    f->device->backend->glu(f->device, &glu);
}

static void run_dense(struct forward *f, uint32_t layer, const struct layer_rows *rows)
{
    struct weight *const *w = f->weights->layers[layer].at;
    run_glu(f, layer, ROLE_FFN_GATE, ROLE_FFN_UP, f->h->n_ffn, rows);
    struct matmul_args out = branch_product(f, w[ROLE_FFN_DOWN], NULL, f->gate, rows);
    f->device->backend->matmul(f->device, &out);
    forward_lora(f, layer, ROLE_FFN_DOWN, rows->lora, f->gate, out.y[0]);
    add_branch(f, w[ROLE_FFN_POST_NORM], rows);
}

/* The experts that every row uses; a router of their own may weigh them: down(g h) = g down(h). */
static void run_shared(struct forward *f, uint32_t layer, const struct layer_rows *rows)
{
    const struct backend *ops = f->device->backend;
    struct weight *const *w = f->weights->layers[layer].at;
    uint32_t width = f->h->n_shared_ffn;
    if (!w[ROLE_SHARED_DOWN])
        return;
    run_glu(f, layer, ROLE_SHARED_GATE, ROLE_SHARED_UP, width, rows);
    struct scale_args scale = {.x = f->gate, .n_rows = rows->n, .width = width, .factor = f->h->residual_scale};
    if (w[ROLE_SHARED_ROUTER]) {
        struct matmul_args router = {.n_weights = 1, .w = {w[ROLE_SHARED_ROUTER]}, .y = {f->gates}, .x = f->normed,
                                     .n_rows = rows->n};
        ops->matmul(f->device, &router);
        scale.gates = f->gates;
    }
    if (scale.factor != 1 || scale.gates.mem)
        ops->scale(f->device, &scale);
    struct matmul_args out = {.n_weights = 1, .w = {w[ROLE_SHARED_DOWN]}, .y = {rows->x}, .x = f->gate,
                              .n_rows = rows->n, .accumulate = true};
    ops->matmul(f->device, &out);
    forward_lora(f, layer, ROLE_SHARED_DOWN, rows->lora, f->gate, rows->x);
}

static float experts_scale(const struct hparams *h)
{
    float scale = h->experts_scale != 0 ? h->experts_scale : 1;
    return scale * h->residual_scale != 1 ? scale * h->residual_scale : 0;
}

static void run_experts(struct forward *f, uint32_t layer, const struct layer_rows *rows)
{
    static const enum router_scores scores[] = {[SCORE_SOFTMAX] = ROUTER_SOFTMAX, [SCORE_SIGMOID] = ROUTER_SIGMOID,
                                                [SCORE_SOFTMAX_CHOSEN] = ROUTER_SOFTMAX_CHOSEN,
                                                [SCORE_SIGMOID_INPUT] = ROUTER_SIGMOID_INPUT,
                                                [SCORE_NEAR] = ROUTER_NEAR};
    const struct hparams *h = f->h;
    struct weight *const *w = f->weights->layers[layer].at;
    struct moe_args a = {
        .router = w[ROLE_ROUTER], .gate = w[ROLE_GATE_EXPERTS], .up = w[ROLE_UP_EXPERTS], .down = w[ROLE_DOWN_EXPERTS],
        .router_bias = w[ROLE_ROUTER_BIAS], .gate_bias = w[ROLE_GATE_EXPERTS_BIAS],
        .up_bias = w[ROLE_UP_EXPERTS_BIAS], .down_bias = w[ROLE_DOWN_EXPERTS_BIAS],
        .select_bias = w[ROLE_SELECT_BIAS], .scores = scores[h->scores], .near = h->near_scores,
        .act = activation_of(h), .normalise = h->experts_norm, .scale = experts_scale(h), .n_groups = h->n_groups,
        .n_groups_used = h->n_groups_used, .n_used = h->n_experts_used, .x = f->normed, .out = rows->x,
        .n_rows = rows->n, .width = h->n_embd, .ffn = h->n_expert_ffn};
    struct moe_lora loras[ADAPTERS_MAX];
    if (rows->lora->n_groups > 0 && lora_experts(f->loras, layer, rows->lora, loras)) {
        a.loras = loras;
        a.lora_of = rows->lora->group_of;
    }
    f->device->backend->moe(f->device, &a);
    run_shared(f, layer, rows);
}

void layer_feed(struct forward *f, uint32_t layer, const struct layer_rows *rows)
{
    struct weight *const *w = f->weights->layers[layer].at;
    uint64_t t = forward_start(f);
    forward_norm(f, w[ROLE_FFN_NORM], w[ROLE_FFN_NORM_BIAS], rows->x, f->normed, rows->n);
    forward_lap(f, &f->times.norm_ns, &t);
    if (w[ROLE_ROUTER]) {
        run_experts(f, layer, rows);
        forward_lap(f, &f->times.moe_ns, &t);
    } else {
        run_dense(f, layer, rows);
        forward_lap(f, &f->times.ffn_ns, &t);
    }
}
