/* synth: options -> hyper-parameters -> rules -> declared tensors -> streamed rows. */
#include "shard/arch/synth.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "kernels/limits.h"
#include "shard/arch/arch.h"
#include "shard/arch/mix.h"
#include "shard/arch/synth_blocks.h"
#include "shard/arch/synth_parts.h"

enum {
    STRETCH = 256,        /* values that are drawn together: a multiple of every block */
    POOL_STRETCHES = 2048,
    DRAWN_MAX = 1 << 14,  /* tensors of up to so many values are drawn value by value */
    PIECE_BYTES = 1 << 20,
    SYNTH_CONTEXT = 4096,
    SYNTH_VOCAB = 32000,
    SYNTH_WINDOW = 1024,
    SYNTH_RANK_MAX = 512,
    SYNTH_INDEX_TOP = 2048,
    SYNTH_INDEX_PART = 8, /* of short contexts, an indexer chooses one position in so many */
};

static const float DEVIATION = 0.02F;

/* ---- options to hyper-parameters ---- */

/* A file must not say what its family does not have. */
static int check_mechanisms(const struct synth *s)
{
    const struct synth_options *o = s->o;
    const struct hparams *h = &s->h;
    const struct {
        const char *name;
        uint32_t value, most, flags;
    } options[] = {
        {"lead_dense", o->lead_dense, ARCH_LAYERS_MAX, ARCH_LEAD_DENSE},
        {"moe_step", o->moe_step, ARCH_LAYERS_MAX, ARCH_MOE_STEP},
        {"q_rank", o->q_rank, ARCH_WIDTH_MAX, ARCH_MLA},
        {"groups", o->groups, EXPERTS_MAX, ARCH_ROUTER_KEYS},
        {"sigmoid", o->sigmoid, 1, ARCH_ROUTER_KEYS},
        {"window", o->window, h->window_period && !(h->arch->flags & ARCH_CHUNKS) ? ARCH_CONTEXT_MAX : 0, UINT32_MAX},
        {"n_rot", o->n_rot, h->head_dim, UINT32_MAX},
        {"value_dim", o->value_dim, HEAD_DIM_MAX, ARCH_MLA},
    };
    for (size_t i = 0; i < COUNTOF(options); i++)
        if (options[i].value > 0 && (options[i].value > options[i].most || !(h->arch->flags & options[i].flags)))
            return error_set(s->e, ERR_INVALID, "%s cannot be %u in family %s", options[i].name, options[i].value,
                             h->arch->name);
    if (o->groups && (h->n_experts % o->groups != 0 || o->groups_used == 0 || o->groups_used > o->groups ||
                      h->n_experts_used > h->n_experts / o->groups * o->groups_used))
        return error_set(s->e, ERR_INVALID, "%u of %u experts cannot come from %u of %u groups", h->n_experts_used,
                         h->n_experts, o->groups_used, o->groups);
    if (h->kv_rank > 0 && (h->kv_rank + h->n_rot > HEAD_DIM_MAX || h->index.dim > HEAD_DIM_MAX))
        return error_set(s->e, ERR_INVALID, "%u rotated values are too many for compressed keys of %u", h->n_rot,
                         h->kv_rank);
    return h->n_rot % 2 ? error_set(s->e, ERR_INVALID, "n_rot is %u; it must be even", h->n_rot) : 0;
}

static int check_counts(const struct synth *s)
{
    const struct hparams *h = &s->h;
    const struct {
        const char *name;
        uint64_t value, low, high;
    } counts[] = {
        {"layers", h->n_layers, 1, ARCH_LAYERS_MAX},
        {"hidden", h->n_embd, 1, ARCH_WIDTH_MAX},
        {"heads", h->n_heads, 1, ARCH_HEADS_MAX},
        {"kv_heads", h->n_kv_heads, 1, h->n_heads},
        {"head_dim", h->head_dim, 2, HEAD_DIM_MAX},
        {"vocab", h->n_vocab, 1, ARCH_VOCAB_MAX},
        {"context", h->context, 1, ARCH_CONTEXT_MAX},
        {"experts", h->n_experts, 0, EXPERTS_MAX},
        {"experts_used", h->n_experts_used, h->n_experts ? 1 : 0,
         h->n_experts < EXPERTS_USED_MAX ? h->n_experts : EXPERTS_USED_MAX},
        {"expert_ffn", h->n_expert_ffn, h->n_experts ? 1 : 0, h->n_experts ? ARCH_FFN_MAX : 0},
        {"ffn", h->n_ffn, 1, ARCH_FFN_MAX},
    };
    for (size_t i = 0; i < COUNTOF(counts); i++)
        if (counts[i].value < counts[i].low || counts[i].value > counts[i].high)
            return error_set(s->e, ERR_INVALID, "%s is %llu; %llu to %llu can be", counts[i].name,
                             (unsigned long long)counts[i].value, (unsigned long long)counts[i].low,
                             (unsigned long long)counts[i].high);
    if (h->n_heads % h->n_kv_heads != 0)
        return error_set(s->e, ERR_INVALID, "%u heads cannot share %u kv_heads evenly", h->n_heads, h->n_kv_heads);
    if (h->head_dim % 2 != 0)
        return error_set(s->e, ERR_INVALID, "head_dim is %u; it must be even", h->head_dim);
    return 0;
}

static int find_family(struct synth *s)
{
    char list[ARCH_LIST_BYTES];
    const struct synth_options *o = s->o;
    s->h.arch = o->family ? arch_find(o->family) : NULL;
    if (!s->h.arch)
        return error_set(s->e, ERR_INVALID, "there is no family \"%s\"; there are %s", o->family ? o->family : "",
                         arch_list(list));
    uint32_t flag = o->experts ? ARCH_MOE : ARCH_DENSE;
    if (!(s->h.arch->flags & flag))
        return error_set(s->e, ERR_INVALID, "family %s %s experts", o->family, o->experts ? "has no" : "needs");
    return 0;
}

static int find_type(struct synth *s)
{
    const char *name = s->o->type ? s->o->type : "q4_k";
    s->mix = mix_find(name);
    s->type = qtype_by_name(name);
    if (s->mix || (s->type && qtype_in_files(s->type)))
        return 0;
    return error_set(s->e, ERR_INVALID, "there is no type \"%s\" that weights can be written in; there are %s, and all "
                     "types of files", name, mix_list());
}

/* The number of tokens of the borrowed tokenizer, 0 without one. */
static int open_tokenizer(struct synth *s, uint64_t *tokens)
{
    enum gguf_type type;
    *tokens = 0;
    if (!s->o->tokenizer)
        return 0;
    int r = gguf_open(&s->tokenizer, s->o->tokenizer, s->e);
    if (r != 0)
        return r;
    if (!gguf_array(s->tokenizer, "tokenizer.ggml.tokens", &type, tokens) || *tokens == 0)
        return error_set(s->e, ERR_INVALID, "%s: has no tokenizer to borrow", s->o->tokenizer);
    if (*tokens > ARCH_VOCAB_MAX || (s->o->vocab && s->o->vocab < *tokens))
        return error_set(s->e, ERR_INVALID, "%s: has %llu tokens, more than the vocabulary is to have", s->o->tokenizer,
                         (unsigned long long)*tokens);
    return 0;
}

/* As most of DeepSeek's shapes are: half of a head's width more, rotated, and a rank of four heads. */
static void compress(struct hparams *h, const struct synth_options *o)
{
    h->n_kv_heads = 1;
    h->n_rot = o->n_rot ? o->n_rot : h->head_dim / 2;
    h->kv_rank = 4 * h->head_dim < SYNTH_RANK_MAX ? 4 * h->head_dim : SYNTH_RANK_MAX;
    h->value_dim = o->value_dim ? o->value_dim : h->head_dim;
    h->head_dim += h->n_rot;
    h->q_rank = o->q_rank ? o->q_rank : h->arch->delta_by_channel ? 0 : h->n_embd / 2;
}

/* As DeepSeek's and GLM's are: half as many heads, of which half is rotated. */
static void add_indexers(struct hparams *h)
{
    uint32_t part = h->context / SYNTH_INDEX_PART;
    h->index.heads = h->n_heads > 1 ? h->n_heads / 2 : 1;
    h->index.dim = 2 * h->n_rot;
    h->index.top = part > SYNTH_INDEX_TOP ? SYNTH_INDEX_TOP : part > 0 ? part : 1;
    h->index.shared = h->arch->index_shared_context > 0 && h->context >= h->arch->index_shared_context;
}

static int set_hparams(struct synth *s)
{
    const struct synth_options *o = s->o;
    struct hparams *h = &s->h;
    uint64_t tokens;
    int r = find_family(s);
    if (r == 0)
        r = find_type(s);
    if (r == 0)
        r = open_tokenizer(s, &tokens);
    if (r != 0)
        return r;
    snprintf(h->name, sizeof(h->name), "random weights"); /* a family's name would make readers guess about tokens */
    h->n_layers = o->layers;
    h->n_embd = o->hidden;
    h->n_heads = o->heads;
    h->n_kv_heads = o->kv_heads ? o->kv_heads : o->heads;
    h->head_dim = o->head_dim || o->heads == 0 ? o->head_dim : o->hidden / o->heads;
    h->value_dim = h->head_dim;
    h->n_rot = o->n_rot ? o->n_rot : h->head_dim;
    h->n_experts = o->experts;
    h->n_experts_used = o->experts_used;
    h->n_expert_ffn = o->expert_ffn;
    h->n_ffn = o->ffn ? o->ffn : o->expert_ffn;
    h->n_vocab = o->vocab ? o->vocab : tokens ? (uint32_t)tokens : SYNTH_VOCAB;
    h->context = o->context ? o->context : SYNTH_CONTEXT;
    h->norm_eps = o->norm_eps > 0 ? o->norm_eps : 1e-6F;
    h->rope_base = o->rope_base > 0 ? o->rope_base : 1e6F;
    h->lead_dense = o->lead_dense;
    h->moe_step = o->moe_step ? o->moe_step : 1;
    h->n_groups = o->groups;
    h->n_groups_used = o->groups_used;
    h->experts_scale = o->experts_scale;
    h->n_shared_ffn = h->arch->flags & ARCH_SHARED ? h->n_expert_ffn : 0;
    h->window_period = h->arch->window_period;
    h->window = o->window ? o->window : h->window_period ? SYNTH_WINDOW : 0;
    if (h->arch->flags & ARCH_CHUNKS)
        h->window = 0;
    if (h->arch->flags & ARCH_MLA)
        compress(h, o);
    if (h->arch->index != INDEX_NONE)
        add_indexers(h);
    if (h->arch->delta_by_channel)
        h->delta = (struct delta_shape){.interval = 4, .kernel = 4, .k_heads = h->n_heads, .v_heads = h->n_heads,
                                        .k_dim = h->value_dim, .v_dim = h->value_dim};
    else if (h->arch->flags & ARCH_DELTA)
        h->delta = (struct delta_shape){.interval = 4, .kernel = 4, .v_heads = h->n_heads, .k_dim = h->head_dim,
                                        .k_heads = h->n_heads % 2 ? h->n_heads : h->n_heads / 2, .v_dim = h->head_dim};
    r = check_counts(s);
    if (r == 0)
        r = check_mechanisms(s);
    if (r == 0)
        hparams_layers(h);
    return r;
}

/* ---- the tensors ---- */

static bool is_tied(const struct synth *s)
{
    return s->o->tied || s->h.arch->flags & ARCH_EMBED_ROOT; /* as all models are that have such embeddings */
}

static const struct qtype *choose_type(const struct synth *s, const struct tensor_rule *rule, const char *name,
                                       const uint64_t *ne)
{
    const struct mix_model about = {s->h.n_layers, s->h.n_experts, is_tied(s)};
    if (arch_is_plain(rule))
        return qtype_find(QTYPE_F32);
    if (s->mix)
        return mix_type(s->mix, &about, name, qtype_find(QTYPE_F32), ne);
    if (qtype_row_bytes(s->type, ne[0]) > 0)
        return s->type;
    return qtype_find(qtype_row_bytes(qtype_find(QTYPE_Q8_0), ne[0]) > 0 ? QTYPE_Q8_0 : QTYPE_F16);
}

/* Optional tensors are left out, but for those that all published files of a family have. */
static bool has_tensor(const struct synth *s, const struct tensor_rule *rule, int32_t layer)
{
    bool required;
    uint32_t flags = s->h.arch->flags;
    if (!arch_rule_applies(rule, &s->h, layer, &required))
        return false;
    switch (rule->role) {
    case ROLE_OUTPUT: return !is_tied(s);
    case ROLE_OUTPUT_BIAS: return flags & ARCH_NORM_BIAS;
    case ROLE_ATTN_OUT_BIAS: return flags & (ARCH_NORM_BIAS | ARCH_SINKS);
    case ROLE_SELECT_BIAS: return synth_is_sigmoid(s);
    default: return required;
    }
}

/* The fused tensor that this family's files have in place of the rule's, NULL when they have the rule's. */
static const struct fused_rule *fused_of(const struct synth *s, const struct tensor_rule *rule)
{
    for (size_t i = 0; s->h.arch->fuses && !s->o->apart && i < arch_fused_count(); i++) {
        const struct fused_rule *f = arch_fused_at(i);
        bool has = f->with ? (f->with & s->h.arch->flags) != 0 : f->parts[0] != ROLE_GATE_EXPERTS;
        for (size_t k = 0; has && k < f->n_parts; k++)
            if (f->parts[k] == rule->role)
                return f;
    }
    return NULL;
}

static uint64_t rows_of(const struct synth *s, enum role role)
{
    for (size_t i = 0; i < arch_rule_count(); i++)
        if (arch_rule_at(i)->role == role)
            return arch_extent(&s->h, arch_rule_at(i)->rows);
    return 0;
}

static void plan_tensor(struct synth *s, const struct tensor_rule *rule, int32_t layer)
{
    const struct fused_rule *fused = fused_of(s, rule);
    if (!has_tensor(s, rule, layer) || (fused && fused->parts[0] != rule->role))
        return;
    uint64_t ne[4] = {arch_extent(&s->h, rule->cols), arch_extent(&s->h, rule->rows),
                      arch_extent(&s->h, rule->slices), 1};
    for (size_t k = 1; fused && k < fused->n_parts; k++)
        ne[1] += rows_of(s, fused->parts[k]);
    char name[GGUF_NAME_MAX + 1];
    arch_tensor_name(fused ? fused->name : rule->name, layer, name);
    const struct qtype *type = choose_type(s, rule, name, ne);
    gguf_writer_tensor(s->w, name, type, ne[2] > 1 ? 3 : ne[1] > 1 ? 2 : 1, ne);
    s->tensors[s->n_tensors++] = (struct planned){rule, type, ne[0], ne[1] * ne[2]};
    s->bytes += qtype_row_bytes(type, ne[0]) * ne[1] * ne[2];
}

static void plan_tensors(struct synth *s)
{
    s->tensors = mem_array((size_t)(s->h.n_layers + 1) * arch_rule_count(), sizeof(*s->tensors));
    for (int32_t layer = -1; layer < (int32_t)s->h.n_layers; layer++)
        for (size_t i = 0; i < arch_rule_count(); i++)
            if ((arch_rule_at(i)->role >= ROLE_LAYER_COUNT) == (layer < 0))
                plan_tensor(s, arch_rule_at(i), layer);
}

/* ---- values ---- */

static void draw(struct synth *s, float *out, size_t n, float mean)
{
    for (size_t i = 0; i < n; i++)
        out[i] = mean + DEVIATION * random_normal(&s->random);
}

static int put(struct synth *s, const void *bytes, size_t n)
{
    s->bytes_done += n;
    if (s->o->progress)
        s->o->progress(s->o->progress_arg, s->bytes_done, s->bytes);
    return gguf_writer_data(s->w, bytes, n, s->e);
}

/* Value by value, in pieces that are a whole number of blocks because rows are. */
static int write_drawn(struct synth *s, const struct planned *t)
{
    float mean = strstr(t->rule->name, "norm") ? 1 : t->rule->role == ROLE_DELTA_A ? -1 : 0;
    size_t per_piece = PIECE_BYTES / sizeof(float) / STRETCH * STRETCH;
    float *values = mem_array(per_piece, sizeof(*values));
    int r = 0;
    for (uint64_t left = t->cols * t->rows; r == 0 && left > 0;) {
        size_t n = left < per_piece ? (size_t)left : per_piece;
        draw(s, values, n, mean);
        t->type->from_f32(values, s->piece, n);
        r = put(s, s->piece, n / t->type->block_len * t->type->block_bytes);
        left -= n;
    }
    mem_free(values);
    return r;
}

/* The pool as `type` stores it, made at the first use of the type. */
static const uint8_t *pool_of(struct synth *s, const struct qtype *type)
{
    size_t i = 0;
    if (!s->values) {
        s->values = mem_array((size_t)POOL_STRETCHES * STRETCH, sizeof(*s->values));
        draw(s, s->values, (size_t)POOL_STRETCHES * STRETCH, 0);
    }
    while (i < POOLS_MAX - 1 && s->pools[i].type && s->pools[i].type != type)
        i++;
    assert(!s->pools[i].type || s->pools[i].type == type);
    if (!s->pools[i].type) {
        s->pools[i].type = type;
        s->pools[i].bytes = mem_array(POOL_STRETCHES, qtype_row_bytes(type, STRETCH));
        type->from_f32(s->values, s->pools[i].bytes, (size_t)POOL_STRETCHES * STRETCH);
    }
    return s->pools[i].bytes;
}

/* Blocks of a type that is not written from values: random ones, in pieces. */
static int write_blocks(struct synth *s, const struct planned *t)
{
    uint64_t left = qtype_row_bytes(t->type, t->cols) * t->rows;
    size_t per_piece = PIECE_BYTES / t->type->block_bytes * t->type->block_bytes;
    struct synth_blocks b;
    int r = 0;
    synth_blocks_open(&b, t->type, DEVIATION);
    for (; r == 0 && left > 0; left -= left < per_piece ? left : per_piece) {
        size_t n = left < per_piece ? (size_t)left : per_piece;
        synth_blocks_draw(&b, &s->random, s->piece, n / t->type->block_bytes);
        r = put(s, s->piece, n);
    }
    return r;
}

/* Rows that are one stretch or less would repeat past the pool's end: those are drawn. */
static bool is_drawn(const struct planned *t)
{
    return t->cols * t->rows <= DRAWN_MAX || (t->cols <= STRETCH && t->rows > POOL_STRETCHES);
}

/* Which stretch of the pool is the n-th of a row. The first two number the rows, so that no two rows are equal (equal
 * rows of the head would tie); the others are random. */
static size_t pick(struct synth *s, uint64_t row, size_t n)
{
    uint64_t i = n == 0 ? row : n == 1 ? row + row / POOL_STRETCHES : random_u64(&s->random);
    return (size_t)(i % POOL_STRETCHES);
}

/* Rows of stretches out of the pool, the last one of a row perhaps cut. */
static int write_pooled(struct synth *s, const struct planned *t)
{
    const uint8_t *pool = pool_of(s, t->type);
    size_t stretch = qtype_row_bytes(t->type, STRETCH), row = qtype_row_bytes(t->type, t->cols), filled = 0;
    uint64_t first = random_u64(&s->random) >> 1;
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < t->rows; i++) {
        for (size_t at = 0; r == 0 && at < row; at += stretch) {
            size_t n = row - at < stretch ? row - at : stretch;
            if (filled + n > PIECE_BYTES) {
                r = put(s, s->piece, filled);
                filled = 0;
            }
            memcpy(s->piece + filled, pool + pick(s, first + i, at / stretch) * stretch, n);
            filled += n;
        }
    }
    return r == 0 ? put(s, s->piece, filled) : r;
}

static int write_tensors(struct synth *s)
{
    int r = 0;
    random_seed(&s->random, s->o->seed);
    s->piece = mem_alloc(PIECE_BYTES);
    for (size_t i = 0; r == 0 && i < s->n_tensors; i++) {
        const struct planned *t = &s->tensors[i];
        r = !t->type->from_f32 ? write_blocks(s, t) : is_drawn(t) ? write_drawn(s, t) : write_pooled(s, t);
    }
    return r;
}

int synth_write(const char *path, const struct synth_options *o, struct error *e)
{
    struct synth s = {.o = o, .e = e};
    int r = set_hparams(&s);
    if (r == 0)
        r = gguf_writer_create(&s.w, path, e);
    if (r == 0) {
        synth_write_keys(&s);
        plan_tensors(&s);
        r = gguf_writer_header(s.w, e);
    }
    if (r == 0)
        r = write_tensors(&s);
    if (r == 0)
        r = gguf_writer_finish(&s.w, e);
    gguf_writer_abort(&s.w);
    gguf_close(&s.tokenizer);
    mem_free(s.tensors);
    mem_free(s.values);
    for (size_t i = 0; i < POOLS_MAX; i++)
        mem_free(s.pools[i].bytes);
    mem_free(s.piece);
    return r;
}
