/* backend: what a device must be able to do for a shard: the one interface
 * between the forward pass and the machines that compute it.
 *
 * Object model.  A `backend` is a constant table of functions.  backend_open()
 * gives a `device`.  A device owns `weight`s (matrices in whatever layout it
 * likes) and `devmem`s (linear memory for activations and KV).  All handles
 * are opaque: nothing above this line may assume that they are host memory.
 * Host pointers occur only in load, upload, download and in small per-row
 * tables (ids, positions), which a device copies during the call.
 *
 * Activations are float32 rows, contiguous, row r of width w at offset + r*w*4.
 * An activation argument is a `span`: a devmem and a byte offset.
 *
 * Operations are queued in order; they may return before they are finished.
 * device->ops.download() and .sync() wait.  Operations return void: they
 * cannot fail, their preconditions are the caller's (the plan was checked at
 * load).  Results do not depend on the number of threads nor on which other
 * rows share the call: row r of every operation is computed from row r alone,
 * in a fixed order of summation.
 *
 * One thread at a time uses a device.
 *
 * Adding an operation?  Give it a version in cpu/, which every backend may
 * fall back to, and a case with its reference in tests/kernels/.             */
#ifndef KERNELS_BACKEND_H
#define KERNELS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/limits.h"
#include "kernels/qtype.h"

struct device;
struct weight;
struct devmem;

struct span {
    struct devmem *mem;
    size_t offset; /* bytes */
};

/* A stack of `slices` matrices [rows, cols], row-major, each row cols values of `type`.
 * y = W x takes a row x of `cols` values to one of `rows` values. A vector is rows = 1. */
struct weight_desc {
    const struct qtype *type;
    uint32_t rows;
    uint32_t cols; /* multiple of type->block_len */
    uint32_t slices;
    const void *bytes; /* host bytes, copied; NULL: `fill` gives them */
    size_t slice_stride; /* bytes from a slice to the next, 0: one follows the other */
    /* [slices][cols]: place k of a slice's rows belongs to column order[k], each of which occurs once; NULL: to column
     * k. Of types for whose sake x is quantised. Copied. */
    const uint32_t *order;
    /* Rows [row, row + n) of a slice, one after the other. */
    int (*fill)(void *arg, uint32_t slice, uint32_t row, uint32_t n, void *out, struct error *e);
    void *fill_arg;
};

/* y[i] = W[i] x (+ bias[i]) for up to MATMUL_WEIGHTS_MAX matrices that share x, whose quantised
 * form is made once.  x: [n_rows, cols]   y[i]: [n_rows, W[i].rows] */
struct matmul_args {
    int n_weights;
    const struct weight *w[MATMUL_WEIGHTS_MAX];
    const struct weight *bias[MATMUL_WEIGHTS_MAX]; /* [1, rows] F32, or NULL */
    struct span y[MATMUL_WEIGHTS_MAX];
    struct span x;
    uint32_t n_rows;
    bool accumulate; /* y += instead of y = */
};

/* Each row of `width` values is cut into groups of `group` values (group = width: the whole row);
 * every group is divided by its root mean square (less its mean first, when `centred`), multiplied by weight[group],
 * and bias[group] is added.
 * Rows of x and y are `stride` values apart.  x may equal y. */
struct norm_args {
    const struct weight *weight; /* [1, group] F32; NULL: all 1 */
    const struct weight *bias;   /* [1, group] F32; NULL: none */
    struct span x, y;
    uint32_t n_rows, width, group;
    uint32_t stride; /* 0: width */
    bool centred;
    float eps;
};

enum rope_pairing { ROPE_PAIRS, ROPE_HALVES }; /* (2p, 2p+1) or (p, p + n/2) */

/* Rotate the first n_rot values of every head in place.  inv_freq has n_rot/2 entries (scaling
 * already applied); cos and sin are multiplied by `scale`.  Angles are computed in double. */
struct rope_args {
    enum rope_pairing pairing;
    const float *inv_freq; /* host, constant as long as the shard */
    float scale;
    uint32_t n_rot, head_dim, n_heads;
    struct span x; /* [n_rows, n_heads*head_dim] */
    const uint32_t *positions; /* host [n_rows] */
    uint32_t n_rows;
};

/* The KV of one layer: pages of KV_PAGE_TOKENS positions; inside a page [kv head], and there values [position][dim];
 * keys turned, [dim][position], or as values where they are shared.  Keys and values have spans of their own.  A row
 * names its page list: page p of a row's sequence holds positions p*KV_PAGE_TOKENS and on. */
struct kv_layer {
    enum kv_type type;
    struct span keys, values; /* page i starts at i * KV_PAGE_TOKENS * n_kv_heads * kv_row_bytes */
    uint32_t n_kv_heads, key_dim, value_dim;
    bool shared; /* values are the first value_dim of every key: there is no span of values */
};

struct attention_row {
    const uint32_t *pages; /* host: page numbers of the row's sequence, in order */
    uint32_t position;     /* attends to 0..position; its own K and V are stored at position */
};

/* Store k and v of every row, then for every row and head:
 * softmax over j <= position of scale * (q . k_j), times v_j; grouped query heads: head h reads
 * KV head h / (n_heads / n_kv_heads).  A window w leaves j > position - w, a chunk c those j with
 * j / c = position / c.  With a cap, a score z counts as cap * tanh(z / cap).  A head's sink is one more
 * score, neither scaled nor capped, with no value.  With a list of chosen positions, a row past n_chosen positions
 * attends to those of its list and no others. */
struct attention_args {
    struct kv_layer kv;
    struct span q;   /* [n_rows, n_heads*key_dim] */
    struct span k;   /* [n_rows, n_kv_heads*key_dim] */
    struct span v;   /* [n_rows, n_kv_heads*value_dim] */
    struct span out; /* [n_rows, n_heads*value_dim] */
    const struct attention_row *rows; /* host [n_rows] */
    uint32_t n_rows, n_heads;
    float scale;
    uint32_t window, chunk;     /* 0: none */
    float cap;                  /* 0: none */
    const struct weight *sinks; /* [1, n_heads] F32, or NULL */
    struct span chosen;         /* [n_rows, n_chosen] as index() leaves it; no mem: none. For shared keys, with no
                                * window or chunk */
    uint32_t n_chosen;
};

/* Store k of every row, then choose the positions that a row is to attend to: the n_chosen of 0..position with the
 * largest score, listed in ascending order.  The score of position j is the sum over heads of
 * scale * weights[head] * max(0, q[head] . k_j); what is not a number comes last.  Which of equal scores at the edge
 * are chosen is what std::partial_sort chooses, so that the outputs of others can be compared.  A row of a position
 * below n_chosen sees all: its list is left as it is. */
struct index_args {
    struct kv_layer kv;   /* shared, of one KV head */
    struct span q;        /* [n_rows, n_heads*key_dim] */
    struct span k;        /* [n_rows, key_dim] */
    struct span weights;  /* [n_rows, n_heads] */
    struct span chosen;   /* [n_rows, n_chosen] uint32_t */
    const struct attention_row *rows; /* host [n_rows] */
    uint32_t n_rows, n_heads, n_chosen;
    float scale;
};

/* GELU is that of tanh.  CLAMPED: with g = min(gate, 7) and u = up held to -7..7, (u + 1) g sigmoid(1.702 g). */
enum activation { ACT_SILU, ACT_GELU, ACT_CLAMPED, ACT_SIGMOID };

/* x: gate [n, width], up [n, width] -> out = act(gate) * up.  out may equal gate or up. */
struct glu_args {
    enum activation act;
    struct span gate, up, out;
    uint32_t n_rows, width;
};

/* What is made of the router's g: a softmax over all experts; a sigmoid; g itself, and the weights are a softmax over
 * the chosen; g itself, and sigmoid(g) multiplies an expert's input instead of its output; g itself, and the weight of
 * the k-th that is chosen is its part of a softmax over those g that are near its own and were not chosen before it:
 * (g_k - g) / max(|g|, g_k) <= near. */
enum router_scores { ROUTER_SOFTMAX, ROUTER_SIGMOID, ROUTER_SOFTMAX_CHOSEN, ROUTER_SIGMOID_INPUT, ROUTER_NEAR };

/* What an adapter adds to the experts' products: thin pairs of F32, a slice an expert, or one for all of them. */
struct moe_thin {
    const struct weight *a, *b; /* NULL: nothing */
};
struct moe_lora {
    struct moe_thin gate, up, down;
};

/* The whole expert layer: g = router x (+ router_bias) in float32; scores; the n_used largest of
 * scores + select_bias (ties: the lower index); weights from the scores alone, normalised to sum 1 when
 * `normalise` (sum clamped to >= 6.1035e-5), times scale (0: none);
 * out += sum over the chosen in order of rank of weight * down_e(act(gate_e x) * (up_e x)), each product + its bias.
 * With groups, experts are cut into n_groups of as many, and only those of the n_groups_used best can be chosen: a
 * group counts as its two largest together, as its largest where there is no select_bias.  Rows with an adapter add
 * its B (A x) to every product. */
struct moe_args {
    const struct weight *router;          /* [experts, width] */
    const struct weight *gate, *up, *down; /* slices = experts: [ffn, width] [ffn, width] [width, ffn] */
    const struct weight *router_bias, *select_bias;      /* [1, experts] F32, or NULL */
    const struct weight *gate_bias, *up_bias, *down_bias; /* F32 [experts, ffn], ffn, width, or NULL */
    enum router_scores scores;
    float near; /* of ROUTER_NEAR */
    enum activation act;
    bool normalise;
    float scale;
    uint32_t n_groups, n_groups_used; /* 0: none */
    uint32_t n_used;
    struct span x;   /* [n_rows, width] */
    struct span out; /* [n_rows, width], added to */
    uint32_t n_rows, width, ffn;
    const struct moe_lora *loras; /* NULL: no row has one */
    const uint8_t *lora_of;       /* host [n_rows]: 0: none, else the place of the row's in loras, counted from 1 */
};

/* Each row x of `width` values becomes x * factor * factors[row] * sigmoid(gates[row]); with a cap, then
 * cap * tanh(x / cap). */
struct scale_args {
    struct span x; /* [n_rows, width] */
    uint32_t n_rows, width;
    float factor;
    const float *factors; /* host [n_rows]; NULL: 1 */
    struct span gates;    /* [n_rows]; no mem: none */
    float cap;            /* 0: none */
};

/* `count` pieces of `width` values, those of `from` and of `to` so many values apart.  They do not overlap. */
struct copy_args {
    struct span from, to;
    uint32_t from_stride, to_stride, width, count;
};

/* y[h] = W[h] x[h]: every head, a slice of W, has an x and a y of its own.  Head h of row r of x is cols values at
 * r * x_row + h * x_head, of y rows values at r * y_row + h * y_head. */
struct heads_args {
    const struct weight *w; /* slices = heads */
    struct span x, y;
    uint32_t x_row, x_head, y_row, y_head; /* in values */
    uint32_t n_rows;
};

/* Rows that share a pair of thin matrices, which are one, or one a slice of what they are added to. */
struct lora_group {
    const struct weight *a; /* [rank, cols] */
    const struct weight *b; /* [rows, rank] */
    const uint32_t *rows;   /* host [n_rows], ascending; no row is in two groups */
    uint32_t n_rows;
};

/* y += B (A x) for the rows of every group; other rows stay as they are.  Slice s of row r of x begins at
 * r * x_row + s * x_slice, of y at r * y_row + s * y_slice. */
struct lora_args {
    struct span x, y;
    uint32_t x_row, x_slice, y_row, y_slice; /* in values */
    uint32_t slices;
    const struct lora_group *groups;
    uint32_t n_groups;
};

/* Rows of one sequence in a call of delta(). The state is read from one place and left in another. */
struct delta_run {
    uint32_t first, n;
    uint32_t from, to; /* numbers of states; from DELTA_NOTHING: all 0 */
};

enum { DELTA_NOTHING = UINT32_MAX };

/* The gated delta rule.  A row's channels are queries, then keys [k_heads][k_dim], then values [v_heads][v_dim]. They
 * go through a causal convolution of `kernel` positions a channel and SiLU; queries and keys are divided by
 * sqrt(the sum of their squares + eps), queries by sqrt(k_dim) too.  Then for every value head, which reads key head
 * h / (v_heads / k_heads), or h % k_heads when tiled, with b = sigmoid(beta) and g = a softplus(alpha + dt):
 *     S = exp(g) S;   S = S + k (b (v - S^T k))^T;   out = S^T q
 * By channel, every row of S has a g of its own: alpha [n_rows][v_heads][k_dim] and dt [v_heads][k_dim] then.
 * A state is S [v_heads][k_dim][v_dim], then the last kernel - 1 rows of channels.  beta and alpha of head h are at
 * gate_row * row + h / each * gate_group + h % each, each = v_heads / k_heads. */
struct delta_args {
    uint32_t k_heads, v_heads, k_dim, v_dim, kernel;
    bool tiled, by_channel;
    float eps;
    const struct weight *conv[3];   /* F32, `kernel` values a channel: of all, or of queries, keys and values apart */
    const struct weight *a, *dt;    /* F32, v_heads values; dt by channel: v_heads * k_dim */
    struct span x;                  /* [n_rows, channels] */
    struct span work;               /* the same */
    struct span beta, alpha;
    uint32_t gate_row, gate_group;
    struct span states;             /* state i: `state_values` floats at i * state_values */
    uint32_t state_values;
    const struct delta_run *runs;   /* host [n_runs]: every row is in one */
    uint32_t n_runs;
    struct span out;                /* [n_rows, v_heads * v_dim] */
};

/* The largest operations to come. */
struct reserve_args {
    uint32_t rows;                   /* rows a call */
    uint32_t cols;                   /* values of a matmul's input row */
    uint32_t rope_half;              /* n_rot / 2, 0: none */
    uint32_t key_dim, out_dim;       /* of attention: out_dim is value_dim, of shared keys key_dim; 0: none */
    uint32_t experts, experts_used;  /* 0: dense */
    uint32_t width, ffn;             /* of the expert layer */
    uint32_t index_positions;        /* that index() chooses from, 0: it is not called */
    uint32_t lora_cols, lora_rank;   /* of thin pairs; 0: there are none */
};

struct device_options {
    int threads; /* CPU: 0 means every CPU of the process */
    bool pin;
    const char *isa; /* CPU: NULL picks the best; "scalar", "avx2", "avx512", "neon" force one */
};

struct device_facts {
    char name[64];        /* "cpu (avx512, 2 threads)" */
    uint64_t memory_bytes; /* what a shard may use now */
    int cores;
};

struct backend {
    const char *name; /* "cpu" */
    MUST_USE int (*open)(struct device **out, const struct device_options *o, struct error *e);
    void (*close)(struct device *d);
    void (*facts)(struct device *d, struct device_facts *out);

    MUST_USE int (*weight_create)(struct device *d, struct weight **out, const struct weight_desc *w, struct error *e);
    void (*weight_destroy)(struct device *d, struct weight *w);
    MUST_USE int (*mem_create)(struct device *d, struct devmem **out, size_t bytes, struct error *e); /* ERR_MEMORY */
    void (*mem_destroy)(struct device *d, struct devmem *m);
    void (*upload)(struct device *d, struct span to, const void *from, size_t bytes);
    void (*download)(struct device *d, void *to, struct span from, size_t bytes); /* waits */
    void (*sync)(struct device *d);
    /* Once, after the shard's weights exist and before the first operation: take all scratch that operations of
     * this size need. ERR_MEMORY. Calling again replaces it. */
    MUST_USE int (*reserve)(struct device *d, const struct reserve_args *r, struct error *e);
    /* Host pointer to a span when the device's memory is host memory, else NULL: lets a stage skip a copy. */
    void *(*host_view)(struct device *d, struct span s);

    /* operations */
    void (*embed)(struct device *d, const struct weight *table, const int32_t *ids, uint32_t n_rows, struct span out);
    void (*norm)(struct device *d, const struct norm_args *a);
    void (*matmul)(struct device *d, const struct matmul_args *a);
    void (*rope)(struct device *d, const struct rope_args *a);
    void (*attention)(struct device *d, const struct attention_args *a);
    void (*index)(struct device *d, const struct index_args *a);
    void (*glu)(struct device *d, const struct glu_args *a);
    void (*moe)(struct device *d, const struct moe_args *a);
    void (*scale)(struct device *d, const struct scale_args *a);
    void (*copy)(struct device *d, const struct copy_args *a);
    void (*heads)(struct device *d, const struct heads_args *a);
    void (*delta)(struct device *d, const struct delta_args *a);
    void (*lora)(struct device *d, const struct lora_args *a);
    void (*add)(struct device *d, struct span to, struct span from, size_t count); /* to += from */
    /* rows[i] of from -> row i of to, width values each */
    void (*gather)(struct device *d, struct span to, struct span from, const uint32_t *rows, uint32_t n_rows,
                   uint32_t width);
};

/* Every opened device starts with this header; the rest is the backend's. */
struct device {
    const struct backend *backend;
};

/* "cpu"; NULL name: the best that this machine has. ERR_NOT_FOUND names the ones there are. */
MUST_USE int backend_open(struct device **out, const char *name, const struct device_options *o, struct error *e);
void backend_close(struct device **device_p);
const struct backend *backend_at(size_t i); /* NULL past the end */

/* Sustained read bandwidth of this machine's memory with `threads` threads, bytes a second, measured
 * for about 0.2 s over `bytes` of memory (0: a sane default). */
double backend_read_bandwidth(int threads, size_t bytes);

/* The most operations a second (a multiply-add is two) that `threads` threads reach with the multiply-adds of an
 * instruction set (NULL: the best), nothing but registers touched; measured for about 0.06 s.  0: it has none. */
enum ceiling { CEILING_INT8, CEILING_BF16, CEILING_F32, CEILINGS };
double backend_ceiling(enum ceiling of, const char *isa, int threads);

#endif
