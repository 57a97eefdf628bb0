/* cpu: the device of the CPU backend: what its operations share. Not for other folders.
 *
 * All scratch is taken by reserve(); operations only index into it.  Threads of
 * the pool write disjoint parts.                                             */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/pool.h"

enum {
    TILE_FLOATS = 16384, /* outputs that a thread holds before they are added to y */
    X_TILE = 64,         /* rows of x a kernel call */
    TILE_ROWS = 128,     /* rows of W that many rows of x meet one after the other: they stay in the cache */
    ROW_GRAIN = 16,      /* rows of W that kernels like to work on together */
};

struct weight {
    struct weight_desc desc;
    const struct matmul_kernel *kernel;
    size_t row_bytes, slice_bytes;
    void *bytes;
    size_t n_bytes;
    uint32_t *order; /* [slices][cols], or NULL */
};

struct devmem {
    uint8_t *bytes;
    size_t n_bytes;
};

/* One row chosen for one expert. */
struct expert_entry {
    uint32_t row, rank;
};

struct scratch {
    void *block; /* everything below lies in it */
    size_t n_bytes;
    uint8_t *prepared[FORM_COUNT]; /* [rows] prepared rows of up to `cols` values */
    float *tiles;                  /* [threads][TILE_FLOATS]; of attention: what a thread gathered */
    float *attention;              /* [threads][attention_floats] */
    float *rope;                   /* [rows][half] pairs of cos, sin */
    float *index;                  /* [INDEX_ROWS_MAX][whole pages]: scores of positions */
    /* expert layer, of up to MOE_ROWS_MAX rows */
    float *scores;                 /* [rows][experts] */
    float *selection;              /* [rows][experts]: what the choice goes by */
    float *weights;                /* [rows][used] */
    uint32_t *chosen;              /* [rows][used] */
    uint32_t *place;               /* [rows][used]: the entry of (row, rank) */
    struct expert_entry *entries;  /* [rows * used], by expert */
    uint32_t *starts;              /* [experts + 1]: an expert's entries */
    uint32_t *active;              /* [experts]: those with entries */
    uint8_t *gathered[FORM_COUNT]; /* prepared rows by entry */
    float *gate, *up;              /* [entries][ffn] */
    float *down;                   /* [entries][width] */
    float *low[2];                 /* [entries][rank]: what thin pairs make of an entry's input */
    /* thin pairs, of up to LORA_ROWS_MAX rows */
    float *lora_x;                 /* [rows][cols] */
    float *lora_low;               /* [rows][rank] */
};

struct cpu {
    struct device device;
    struct pool *pool;
    const struct isa *isa;
    struct reserve_args reserved;
    struct scratch scratch;
    /* what scratch.rope holds */
    uint32_t rope_rows, rope_half;
    float rope_scale;
    uint32_t *rope_positions; /* [rows] */
    float *rope_freq;         /* [half] */
};

static inline float *span_floats(struct span s)
{
    return (float *)(void *)(s.mem->bytes + s.offset);
}

static inline struct cpu *cpu_of(struct device *d)
{
    return (struct cpu *)(void *)d;
}

/* Work cut into tiles that threads take in turn: who takes which never changes a result. */
struct tiles {
    _Atomic size_t next;
    size_t total, tile;
};

/* Tiles of `total` rows for few (decode: long streams) or many rows of x. */
static inline void tiles_open(struct tiles *t, size_t total, uint32_t n_x, int threads)
{
    size_t share = threads == 1 ? total : total / ((size_t)threads * 4);
    atomic_init(&t->next, 0);
    t->total = total;
    t->tile = n_x > 4 && share > TILE_ROWS ? TILE_ROWS : (share + ROW_GRAIN - 1) / ROW_GRAIN * ROW_GRAIN;
    if (t->tile == 0)
        t->tile = ROW_GRAIN;
}

static inline bool tiles_take(struct tiles *t, size_t *first, size_t *last)
{
    size_t at = atomic_fetch_add_explicit(&t->next, t->tile, memory_order_relaxed);
    if (at >= t->total)
        return false;
    *first = at;
    *last = t->total - at < t->tile ? t->total : at + t->tile;
    return true;
}

/* matmul.c: rows of x into `form`; returns them and their stride. FORM_F32 is x itself. */
const void *cpu_prepare(struct cpu *c, enum form form, const float *x, uint32_t n_rows, uint32_t cols, size_t *stride);
/* One row into the form of w's kernel, in the order of a slice's columns. */
void cpu_prepare_row(const struct cpu *c, const struct weight *w, size_t slice, const float *x, void *out);
/* y[n_rows][rows of w] = w x, with the pool. */
void cpu_product(struct cpu *c, const struct weight *w, const float *x, uint32_t n_rows, float *y);

void cpu_matmul(struct device *d, const struct matmul_args *a);
void cpu_embed(struct device *d, const struct weight *table, const int32_t *ids, uint32_t n_rows, struct span out);
void cpu_norm(struct device *d, const struct norm_args *a);
void cpu_rope(struct device *d, const struct rope_args *a);
void cpu_glu(struct device *d, const struct glu_args *a);
/* out = act(gate) * up */
void cpu_activate(const struct isa *isa, enum activation act, const float *gate, const float *up, float *out, size_t n);
float cpu_sigmoid(float x);
void cpu_scale(struct device *d, const struct scale_args *a);
void cpu_copy(struct device *d, const struct copy_args *a);
void cpu_heads(struct device *d, const struct heads_args *a);
void cpu_delta(struct device *d, const struct delta_args *a);
void cpu_lora(struct device *d, const struct lora_args *a);
void cpu_add(struct device *d, struct span to, struct span from, size_t count);
void cpu_gather(struct device *d, struct span to, struct span from, const uint32_t *rows, uint32_t n_rows,
                uint32_t width);
void cpu_attention(struct device *d, const struct attention_args *a);
/* pages.c: the positions of a page of KV head `h`, as backend.h says of kv_layer. */
uint8_t *cpu_kv_keys(const struct kv_layer *kv, uint32_t page, uint32_t h);
uint8_t *cpu_kv_values(const struct kv_layer *kv, uint32_t page, uint32_t h);
/* Key and value (where keys are not shared) of KV head `h` to where the row's position is. */
void cpu_kv_store(const struct isa *isa, const struct kv_layer *kv, const struct attention_row *row, uint32_t h,
                  const float *key, const float *value);
/* What isa.h says of a page's work, with what the set has. */
void cpu_page_scores(const struct isa *isa, const struct page_job *job);
void cpu_page_mix(const struct isa *isa, const struct page_job *job);
/* The page as floats in `room`, of KV_PAGE_TOKENS * dim: worth it where many queries read it.  The job reads those
 * then. */
bool cpu_page_may_widen(const struct isa *isa, enum kv_type t);
void cpu_page_widen(const struct isa *isa, struct page_job *job, float *room);
void cpu_index(struct device *d, const struct index_args *a);
void cpu_moe(struct device *d, const struct moe_args *a);

#endif
