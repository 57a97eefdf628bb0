/* arch: model families as rows, and the hyper-parameters of one model.
 *
 * A family is a row of arch.c: RoPE pairing, flags, and a list of tensor rules.
 * Loader, memory estimate, placement, `shoal show`, `shoal synth` and the
 * forward pass all walk the same rules; nothing outside shard/arch asks for a
 * family by name.  A family that is not here is refused by name, with the list
 * of those that are.                                                         */
#ifndef SHARD_ARCH_ARCH_H
#define SHARD_ARCH_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/limits.h"
#include "shard/format/gguf.h"

enum arch_limits {
    ARCH_LAYERS_MAX = 1024,
    ARCH_WIDTH_MAX = 1 << 17,
    ARCH_VOCAB_MAX = 1 << 21,
    ARCH_CONTEXT_MAX = 1 << 24,
    ARCH_HEADS_MAX = 4096,
    ARCH_FFN_MAX = 1 << 20,
    ARCH_KEY_BYTES = 128,  /* of a metadata key under a family's prefix, with its NUL */
    ARCH_LIST_BYTES = 512, /* of the list of families */
};

/* What a tensor is for. One per tensor of a layer, then the global ones. */
enum role {
    ROLE_ATTN_NORM, ROLE_ATTN_NORM_BIAS, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V,
    ROLE_ATTN_Q_BIAS, ROLE_ATTN_K_BIAS, ROLE_ATTN_V_BIAS, ROLE_ATTN_Q_NORM, ROLE_ATTN_K_NORM, ROLE_ATTN_SINKS,
    ROLE_ATTN_OUT, ROLE_ATTN_OUT_BIAS, ROLE_ATTN_POST_NORM,
    ROLE_Q_DOWN, ROLE_Q_DOWN_NORM, ROLE_Q_UP, ROLE_KV_DOWN, ROLE_KV_DOWN_NORM, ROLE_K_UP, ROLE_V_UP,
    ROLE_DELTA_QKV, ROLE_DELTA_GATE, ROLE_DELTA_CONV, ROLE_DELTA_DT, ROLE_DELTA_A, ROLE_DELTA_BETA, ROLE_DELTA_ALPHA,
    ROLE_DELTA_BOTH, ROLE_DELTA_NORM, ROLE_DELTA_OUT, ROLE_DELTA_CONV_K, ROLE_DELTA_CONV_V,
    ROLE_DELTA_ALPHA_DOWN, ROLE_DELTA_GATE_DOWN,
    ROLE_INDEX_Q, ROLE_INDEX_K, ROLE_INDEX_K_NORM, ROLE_INDEX_K_NORM_BIAS, ROLE_INDEX_WEIGHTS,
    ROLE_FFN_NORM, ROLE_FFN_NORM_BIAS, ROLE_FFN_GATE, ROLE_FFN_UP, ROLE_FFN_DOWN, ROLE_FFN_POST_NORM,
    ROLE_ROUTER, ROLE_ROUTER_BIAS, ROLE_SELECT_BIAS, ROLE_GATE_EXPERTS, ROLE_UP_EXPERTS, ROLE_DOWN_EXPERTS,
    ROLE_GATE_EXPERTS_BIAS, ROLE_UP_EXPERTS_BIAS, ROLE_DOWN_EXPERTS_BIAS,
    ROLE_SHARED_ROUTER, ROLE_SHARED_GATE, ROLE_SHARED_UP, ROLE_SHARED_DOWN,
    ROLE_LAYER_COUNT,
    ROLE_EMBEDDING = ROLE_LAYER_COUNT, ROLE_OUTPUT_NORM, ROLE_OUTPUT_NORM_BIAS, ROLE_OUTPUT, ROLE_OUTPUT_BIAS,
    ROLE_ROPE_FREQS, ROLE_ROPE_LONG, ROLE_ROPE_SHORT,
    ROLE_COUNT
};

/* What a family has. A key of the file that stands for a mechanism is refused where the family has no flag for it. */
enum arch_flags {
    ARCH_MOE = 1 << 0,            /* may have experts */
    ARCH_DENSE = 1 << 1,          /* may have none */
    ARCH_QKV_BIAS = 1 << 2,       /* q, k and v have biases */
    ARCH_QK_NORM = 1 << 3,        /* per-head RMS norm of q and k before RoPE */
    ARCH_QK_NORM_MAYBE = 1 << 4,  /* the same in some models */
    ARCH_QK_NORM_WIDE = 1 << 5,   /* over all heads together */
    ARCH_QK_NORM_LATE = 1 << 6,   /* the norm comes after RoPE */
    ARCH_NORM_BIAS = 1 << 7,      /* norms of the stream have biases */
    ARCH_POST_NORMS = 1 << 8,     /* what attention and feed-forward give is normalised before it is added */
    ARCH_ODD_FFN_NORM = 1 << 9,   /* the norm before the feed-forward is called post_attention_norm */
    ARCH_FUSED_UP = 1 << 10,      /* ffn_up may hold gate and up */
    ARCH_SHARED = 1 << 11,        /* expert layers may have shared experts */
    ARCH_SHARED_GATE = 1 << 12,   /* which a router of their own weighs */
    ARCH_SELECT_BIAS = 1 << 13,   /* experts may be chosen with a bias */
    ARCH_LEAD_DENSE = 1 << 14,    /* the first layers may be dense */
    ARCH_MOE_STEP = 1 << 15,      /* every n-th layer may have experts */
    ARCH_NORM_EXPERTS = 1 << 16,  /* expert weights are normalised unless the file says otherwise */
    ARCH_ROUTER_KEYS = 1 << 17,   /* the file tells the kind of scores and groups */
    ARCH_EMBED_ROOT = 1 << 18,    /* embeddings are multiplied by the root of their width */
    ARCH_SCALES = 1 << 19,        /* scales of embedding, attention, branches and logits */
    ARCH_SOFTCAPS = 1 << 20,      /* soft caps of attention scores and logits */
    ARCH_NEXTN = 1 << 21,         /* files may hold layers that predict further tokens; they are left out */
    ARCH_SINKS = 1 << 22,         /* attention has sinks */
    ARCH_EXPERT_BIAS = 1 << 23,   /* router and experts have biases */
    ARCH_TEMPER = 1 << 24,        /* q may grow with the position */
    ARCH_CHUNKS = 1 << 25,        /* as Llama 4: of a period, the last layer sees all, has no RoPE and a q that
                                     grows with the position; the others see their chunk, and norm q and k late */
    ARCH_MLA = 1 << 26,           /* keys and values are kept in compressed form */
    ARCH_DELTA = 1 << 27,         /* most layers keep a state (gated delta net); heads of the others are gated, unless
                                     that is by channel */
    ARCH_DELTA_BOTH = 1 << 28,    /* whose two gates come from one tensor, by key heads */
    ARCH_DELTA_TILED = 1 << 29,   /* whose value heads read key heads in turn, else in groups */
    ARCH_SECTIONS = 1 << 30,      /* RoPE's pairs belong to three axes in turn, of which text has the same position */
};

/* Whether an indexer chooses the positions that compressed attention reads, and which values of its heads RoPE turns
 * together. */
enum index_kind { INDEX_NONE, INDEX_PAIRS, INDEX_HALVES };

enum rope_kind { ROPE_KIND_NONE, ROPE_KIND_LINEAR, ROPE_KIND_YARN, ROPE_KIND_LONG };

enum ffn_kind { FFN_SILU, FFN_GELU, FFN_CLAMPED };
enum score_kind { SCORE_SOFTMAX, SCORE_SIGMOID, SCORE_SOFTMAX_CHOSEN, SCORE_SIGMOID_INPUT, SCORE_NEAR };

struct arch {
    const char *name;      /* general.architecture */
    const char *words;     /* for people: "Qwen3 MoE" */
    uint32_t flags;        /* enum arch_flags */
    bool rope_halves;      /* else neighbouring pairs */
    bool fuses;            /* its files stack q, k and v in one tensor (any file may) */
    enum ffn_kind ffn;
    enum score_kind scores;   /* of the router, unless the file says otherwise */
    uint32_t window_period;   /* the last of so many layers attends to everything, the others to a window; 0: all do */
    float yarn_log_unit;      /* what the file's yarn_log_multiplier is a multiple of; 0: it has none */
    float local_rope_base;    /* of layers with a window, unless the file says otherwise; 0: as the others */
    uint32_t wide_scale_layers; /* a model of so many layers scales scores by the heads' share of the width */
    bool delta_by_channel;      /* channels of a state decay each by itself; files say which layers attend */
    bool no_rope;               /* in any layer */
    enum index_kind index;
    uint32_t index_shared_context; /* models of so long a context share indexers unless the file says; 0: none do */
};

/* Sizes of tensors in terms of the hyper-parameters. */
enum extent {
    EXTENT_ONE, EXTENT_EMBD, EXTENT_VOCAB, EXTENT_HEADS, EXTENT_KV_HEADS, EXTENT_V_HEADS, EXTENT_OUT_HEADS,
    EXTENT_HEAD_DIM, EXTENT_VALUE_DIM, EXTENT_HEAD_COUNT, EXTENT_FFN, EXTENT_EXPERT_FFN, EXTENT_SHARED_FFN,
    EXTENT_Q, EXTENT_DELTA_CHANNELS, EXTENT_DELTA_INNER, EXTENT_DELTA_HEADS, EXTENT_DELTA_TWICE, EXTENT_DELTA_KERNEL,
    EXTENT_DELTA_VALUE, EXTENT_DELTA_KEYS, EXTENT_EXPERTS, EXTENT_ROPE_HALF, EXTENT_Q_RANK, EXTENT_KV_RANK,
    EXTENT_KV_DOWN,
    EXTENT_NOT_ROTATED, EXTENT_INDEX_Q, EXTENT_INDEX_DIM, EXTENT_INDEX_HEADS,
};

/* Which layers have a tensor. */
enum rule_when { WHEN_ALWAYS, WHEN_DENSE, WHEN_EXPERTS, WHEN_SHARED, WHEN_ATTENTION, WHEN_Q_WHOLE, WHEN_Q_RANK,
                 WHEN_DELTA, WHEN_DELTA_BY_CHANNEL, WHEN_INDEXED };

/* Which files: all; those of families with the flag, and others may; some. */
enum rule_need { NEED_ALWAYS, NEED_FLAGGED, NEED_NEVER };

/* A tensor that a model may have. Families without a flag of `with` have it not, unless it is NEED_FLAGGED;
 * nor have those with a flag of `without`. */
struct tensor_rule {
    const char *name;  /* "blk.%u.attn_q.weight"; global ones without %u */
    enum role role;
    enum extent cols, rows, slices; /* ne[0], ne[1], ne[2] */
    enum rule_when when;
    uint32_t with, without; /* enum arch_flags; 0: any family */
    enum rule_need need;
};

/* Tensors that files may hold stacked in one, row after row, in place of one of each. */
enum { FUSED_MAX = 3 };
struct fused_rule {
    const char *name;
    enum role parts[FUSED_MAX];
    uint32_t n_parts;
    uint32_t with;
};

/* The rules, in the order in which files are written. */
size_t arch_rule_count(void);
const struct tensor_rule *arch_rule_at(size_t i);
size_t arch_fused_count(void);
const struct fused_rule *arch_fused_at(size_t i);

/* What sets one layer apart. */
struct layer_facts {
    bool experts;    /* else dense */
    bool delta;      /* it keeps a state and no keys */
    bool indexed;    /* it has an indexer; else what the last one before it chose serves it too */
    bool local_rope, no_rope;
    bool tempered;   /* q grows with the position */
    bool late_norm;  /* of q and k, without weights, after RoPE */
    uint32_t window; /* positions that it attends to; 0: all */
    uint32_t chunk;  /* it attends to its own chunk of so many; 0: all */
};

/* Layers that keep a state: a convolution over `channels` = queries, keys and values, then a matrix a value head. */
struct delta_shape {
    uint32_t interval; /* every so many-th layer attends instead, by channel also the last; 0: no layer has a state */
    uint32_t kernel, k_heads, v_heads, k_dim, v_dim;
    uint32_t channels, inner;
    uint32_t state_values; /* of one sequence, in one layer */
};

/* Indexers: heads that score every position, of which attention reads the best. */
struct index_shape {
    uint32_t top; /* positions that are chosen; 0: there are no indexers */
    uint32_t heads, dim;
    bool shared;  /* most layers have none of their own */
};

/* Hyper-parameters of one model, validated: no later code divides by an unchecked number. */
struct hparams {
    const struct arch *arch;
    char name[128];         /* general.name or the file's, printable */
    uint32_t n_layers, n_embd, n_vocab, context;
    uint32_t n_extra_layers; /* behind them in the file: they predict further tokens */
    uint32_t n_heads, n_kv_heads, head_dim, value_dim, n_rot;
    uint32_t n_ffn;                               /* dense */
    uint32_t n_experts, n_experts_used, n_expert_ffn; /* 0 experts: dense */
    uint32_t n_shared_ffn;                        /* of all shared experts together; 0: none */
    uint32_t n_groups, n_groups_used;             /* of experts; 0: none */
    uint32_t lead_dense, moe_step;
    uint32_t q_rank;  /* of compressed q; 0: it is not */
    uint32_t kv_rank; /* of what is kept in place of keys and values; 0: they are kept */
    /* what is kept of a position; values of 0 width are the front of the keys */
    uint32_t cache_heads, cache_key_dim, cache_value_dim;
    enum score_kind scores;
    float near_scores; /* of SCORE_NEAR: kernels/backend.h */
    bool experts_norm;
    float experts_scale; /* 0: none */
    float norm_eps;
    bool centred_norms; /* norms of the stream take the mean away first */
    float rope_base, rope_factor;      /* factor 1: none */
    enum rope_kind rope_kind;
    bool no_rope;          /* in any layer */
    float rope_attn_factor;
    uint32_t rope_sections[3]; /* pairs of each axis: those past them are not rotated; 0, 0, 0: all are */
    uint32_t rope_context; /* original context of the scaling */
    float rope_beta_fast, rope_beta_slow; /* of YaRN: turns within it where its ramp begins and ends */
    bool rope_truncate;                   /* ... at whole pairs */
    float local_rope_base; /* of layers with a window, whose RoPE is not scaled; 0: as the others */
    uint32_t window, window_period, chunk;
    bool has_pattern;                 /* the file says which layers have the window, or the chunk */
    bool pattern[ARCH_LAYERS_MAX];
    bool late_norm; /* of q and k, without weights, in layers with a chunk */
    struct delta_shape delta;
    struct index_shape index;
    float temper_scale; /* q is multiplied by 1 + scale * ln(1 + (position + offset) / length); 0: it is not */
    uint32_t temper_length, temper_offset;
    float attention_scale; /* of q . k */
    float embedding_scale, residual_scale, logit_scale; /* 1: none; logits are multiplied */
    float attention_cap, logit_cap;                     /* 0: none */
    struct layer_facts layers[ARCH_LAYERS_MAX];
};

/* Fill in the cache's numbers and `layers` from the others. */
void hparams_layers(struct hparams *h);
/* True when a model of these hyper-parameters has the rule's tensor in a layer (of global ones: at all);
 * *required: must have. */
bool arch_rule_applies(const struct tensor_rule *rule, const struct hparams *h, int32_t layer, bool *required);
/* True when the heads' output is multiplied by gates that come with q. */
bool arch_gates_heads(const struct arch *a);
/* True for tensors that must be stored as F32 because no kernel multiplies with them. */
bool arch_is_plain(const struct tensor_rule *rule);
/* True for a tensor that files hold for another use than giving logits (a classifier's head): it is not loaded. */
bool arch_ignores(const struct hparams *h, const char *tensor_name);
uint64_t arch_extent(const struct hparams *h, enum extent x);
/* Read and check a file's hyper-parameters. */
MUST_USE int hparams_read(struct hparams *h, const struct gguf *g, struct error *e);

size_t arch_count(void);
const struct arch *arch_at(size_t i);
const struct arch *arch_find(const char *name); /* NULL when absent */
/* "llama, qwen2, ...", for the sentence that refuses another; returns text. */
char *arch_list(char text[static ARCH_LIST_BYTES]);
/* How many of a head's pairs each of three axes has in turn, when all are rotated; as files spell it, a fourth is 0. */
void arch_sections(uint32_t n_rot, int32_t sections[static 4]);
/* "qwen2.block_count" of "block_count"; returns key. */
char *arch_key(const struct arch *a, const char *name, char key[static ARCH_KEY_BYTES]);
/* A rule's name for a layer (-1 for global ones) as files call it; returns name. */
char *arch_tensor_name(const char *pattern, int32_t layer, char name[static GGUF_NAME_MAX + 1]);

/* A model: the file, its hyper-parameters, and every tensor found by the rules and checked for shape. */
struct model;

struct model_tensor {
    const struct tensor_rule *rule;
    const struct gguf_tensor *info;
    int32_t layer; /* -1 for global ones */
    uint32_t part; /* of a tensor that holds several: 0, 1 ... */
    uint64_t offset;       /* of its first byte in info's */
    uint64_t slice_stride; /* bytes from a slice to the next */
    uint64_t bytes;        /* its own */
};

/* A GGUF file or a Hugging Face folder. Opens and checks the header and the shapes, touches no tensor bytes. */
MUST_USE int model_open(struct model **out, const char *path, struct error *e);
void model_close(struct model **model_p);

const struct hparams *model_hparams(const struct model *m);
/* Of a folder, the header that a file of the model would have. */
const struct gguf *model_file(const struct model *m);
/* Its files as one run of bytes, whatever the container. Of splits some may be absent; see model_check_range(). */
const struct file_set *model_files(const struct model *m);
struct hf;
const struct hf *model_folder(const struct model *m); /* NULL: it is a file; for shard/arch alone */
size_t model_tensor_count(const struct model *m);
const struct model_tensor *model_tensor_at(const struct model *m, size_t i);
/* NULL when this model has no such tensor (optional, or tied output). layer -1 for global roles. */
const struct model_tensor *model_tensor_find(const struct model *m, enum role role, int32_t layer);
/* The tensor that serves as output head: output.weight, else the embedding (tied). */
const struct model_tensor *model_output(const struct model *m);

/* A tensor's bytes in the mapped file, its slices slice_stride apart; NULL where they have to be asked for. */
const void *model_tensor_bytes(const struct model *m, const struct model_tensor *t);
/* Rows [row, row + n) of one slice as info's type stores them, one after the other. Any thread. */
MUST_USE int model_tensor_read(const struct model *m, const struct model_tensor *t, uint32_t slice, uint64_t row,
                               uint64_t n, void *out, struct error *e);
/* The same of any tensor of model_file(). */
MUST_USE int model_read(const struct model *m, const struct gguf_tensor *info, uint64_t slice, uint64_t row, uint64_t n,
                        void *out, struct error *e);
/* Columns that a checkpoint has in an order of its own: *out: those to which the places of every slice's rows belong
 * [slices][columns]; NULL: to their own. The caller frees. */
MUST_USE int model_order(const struct model *m, const struct gguf_tensor *info, uint32_t **out, struct error *e);
/* The pages that hold a slice need not stay in memory. */
void model_release(const struct model *m, const struct gguf_tensor *info, uint64_t slice); /* of a folder's */
void model_tensor_release(const struct model *m, const struct model_tensor *t, uint32_t slice);

/* A shard's share: layers [first, last) with the embedding and the head where asked. */
struct layer_range {
    uint32_t first, last;
    bool embedding, head;
};

/* ERR_NOT_FOUND when a tensor of the range lies in a file that is not here, or in a hole of one that is here in part;
 * the sentence names both. */
MUST_USE int model_check_range(const struct model *m, const struct layer_range *r, struct error *e);
/* Where a tensor's bytes lie: calls give for each stretch. */
void model_tensor_stretches(const struct model *m, const struct model_tensor *t,
                            void (*give)(void *arg, const struct file_stretch *s), void *arg);
/* Those of all tensors of the range, in the files' order, none touching another. Caller frees. */
struct file_stretch *model_range_stretches(const struct model *m, const struct layer_range *r, size_t *n);

/* Where file i of such a set would lie if the model were the one at path (a file, any of its splits, a folder); NULL:
 * nowhere, it is of another kind. Caller frees. */
char *model_locate(const char *path, const struct file_set_entry *entries, size_t n, size_t i);
/* What model_open() takes to open such a set that lies in a folder under the set's names. Caller frees. */
char *model_path_in(const char *folder, const struct file_set_entry *entries, size_t n);
/* What people call the model at path: without folder, ".gguf" and the number of a split. Caller frees. */
char *model_name_of(const char *path);

/* False for a layer that reads what an earlier one chose: a shard cannot begin with it. */
bool model_may_begin(const struct model *m, uint32_t layer);
/* True when the tensor belongs to the range (global small ones belong to every range). */
bool model_in_range(const struct model *m, const struct model_tensor *t, const struct layer_range *r);
uint64_t model_range_bytes(const struct model *m, const struct layer_range *r);
uint64_t model_layer_bytes(const struct model *m, uint32_t layer);
/* What a KV cache is to be made of: f32, f16, q8_0, or auto: f32 where all weights are, else f16. ERR_CONFIG. */
MUST_USE int model_kv_type(const struct model *m, const char *name, enum kv_type *out, struct error *e);
const char *kv_type_name(enum kv_type t);
/* Bytes that are kept of one position over (at most) `layers` layers. */
uint64_t model_kv_bytes_per_token(const struct model *m, uint32_t layers, enum kv_type type);
/* The same of the layers [first, last), exactly. */
uint64_t model_range_kv_bytes(const struct model *m, uint32_t first, uint32_t last, enum kv_type type);
/* Bytes that one sequence holds in a layer with a state, whatever its length: it can go back to where the last step
 * began. 0: there are none. */
uint64_t model_state_bytes(const struct model *m);
uint32_t model_state_layers(const struct model *m, uint32_t first, uint32_t last);
/* Parameters in all, and those that one token uses (router, n_experts_used experts, attention, head, norms). */
uint64_t model_params_total(const struct model *m);
uint64_t model_params_active(const struct model *m);
/* Bytes that a shard of the range needs beside weights and KV, for steps of up to batch_rows_max rows: the
 * activations of the forward pass and the working space of its operations (kernels/backend.h, reserve) in so many
 * threads; 0: as many as can be. Never less than they take. */
uint64_t model_scratch_bytes(const struct model *m, const struct layer_range *r, uint32_t batch_rows_max,
                             uint32_t threads);
/* Weight bytes that one decoded token reads, in the range. */
uint64_t model_range_bytes_per_token(const struct model *m, const struct layer_range *r);
/* True when every matrix of the model is stored as F32 (then KV defaults to F32 too). */
bool model_is_f32(const struct model *m);

/* inv_freq[n_rot/2] with the scaling applied, and the multiplier of cos and sin. */
void model_rope(const struct model *m, float *inv_freq, float *scale);
/* The same for layers with RoPE of their own (layer_facts.local_rope), which is not scaled. */
void model_rope_local(const struct model *m, float *inv_freq);

#endif
