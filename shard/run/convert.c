/* convert: read, to floats, check, to blocks; see convert.h. */
#include "shard/run/convert.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/pool.h"

enum {
    PIECE = 1 << 15,  /* values that a thread converts at a time, or a row if it has more */
    ROUND_PIECES = 4, /* a thread, before what was made is given */
};

struct converter {
    const struct model *m;
    const struct gguf *g;
    struct pool *pool;
    size_t piece_max;  /* values of the largest piece */
    float *values;     /* a piece for each thread */
    uint8_t *rows;     /* the same as a folder has them; no bytes of a file */
    uint8_t *blocks;   /* what a round makes */
    const struct gguf_tensor *order_of; /* the tensor whose columns are in this order; NULL: they are in their own */
    uint32_t *order;                    /* [slices][columns] */
    const uint8_t *lent; /* bytes of the file that were given as they are */
    uint64_t n_lent;
};

struct round {
    struct converter *c;
    const struct wanted *w;
    const struct qtype *to;
    uint64_t first, n, step;
    float limit;       /* the largest magnitude that the type can hold */
    atomic_bool odd;   /* a value was no number or larger */
    atomic_bool failed;
    struct error *e;   /* of the thread that failed first */
};

static float type_limit(const struct qtype *t)
{
    bool wide = t->id == QTYPE_F32 || t->id == QTYPE_BF16 || t->id == QTYPE_MXFP4;
    return wide ? FLT_MAX : 65504;
}

/* Infinity and NaN are above every limit too. */
static bool all_within(const float *x, size_t n, float limit)
{
    int wrong = 0;
    for (size_t i = 0; i < n; i++)
        wrong |= !(fabsf(x[i]) <= limit);
    return !wrong;
}

/* Whole rows. */
static uint64_t step_of(uint64_t row)
{
    return row < PIECE ? PIECE / row * row : row;
}

uint64_t converter_step(const struct converter *c, const struct wanted *w)
{
    return c->m ? step_of(w->ne[0]) : PIECE;
}

uint64_t converter_most(const struct converter *c, const struct wanted *w)
{
    return converter_step(c, w) * ROUND_PIECES * (uint64_t)pool_threads(c->pool);
}

/* Whole rows of a folder, which may be of two slices. */
static int read_rows(const struct converter *c, const struct wanted *w, uint64_t first, uint64_t n, uint8_t *out,
                     struct error *e)
{
    uint64_t row = first / w->ne[0], left = n / w->ne[0];
    int r = 0;
    while (r == 0 && left > 0) {
        uint64_t in_slice = row % w->ne[1], some = w->ne[1] - in_slice < left ? w->ne[1] - in_slice : left;
        r = model_read(c->m, w->t, row / w->ne[1], w->row + in_slice, some, out, e);
        out += some * qtype_row_bytes(w->t->type, w->ne[0]);
        row += some;
        left -= some;
    }
    return r;
}

static const uint8_t *file_bytes(const struct converter *c, const struct gguf_tensor *t, uint64_t first)
{
    return (const uint8_t *)gguf_tensor_bytes(c->g, t) + first / t->type->block_len * t->type->block_bytes;
}

/* Whole rows from the order in which a checkpoint has them; value 0 is value `first` of the tensor. */
static void restore_order(const struct converter *c, const struct wanted *w, uint64_t first, uint64_t n, float *values)
{
    uint64_t cols = w->ne[0];
    float *row = mem_array(cols, sizeof(*row));
    for (uint64_t i = 0; i < n / cols; i++) {
        const uint32_t *order = c->order + (first / cols + i) / w->ne[1] * cols;
        memcpy(row, values + i * cols, cols * sizeof(*row));
        for (uint64_t k = 0; k < cols; k++)
            values[i * cols + order[k]] = row[k];
    }
    mem_free(row);
}

/* n values at their place in the round, with thread `part`'s working memory. */
static int convert_piece(struct round *r, int part, uint64_t at, uint64_t n, struct error *e)
{
    struct converter *c = r->c;
    uint8_t *out = c->blocks + at / r->to->block_len * r->to->block_bytes;
    if (c->m && r->to == r->w->t->type && !c->order)
        return read_rows(c, r->w, r->first + at, n, out, e);
    float *values = c->values + (size_t)part * c->piece_max;
    uint8_t *rows = c->m ? c->rows + (size_t)part * c->piece_max * sizeof(float) : NULL;
    if (c->m) {
        int status = read_rows(c, r->w, r->first + at, n, rows, e);
        if (status != 0)
            return status;
    }
    r->w->t->type->to_f32(c->m ? rows : file_bytes(c, r->w->t, r->first + at), values, n);
    if (c->order)
        restore_order(c, r->w, r->first + at, n, values);
    if (!all_within(values, n, r->limit))
        r->odd = true;
    else
        r->to->from_f32(values, out, n);
    return 0;
}

static void convert_part(void *arg, int part, int parts)
{
    struct round *r = arg;
    size_t first, last;
    pool_slice((r->n + r->step - 1) / r->step, 1, part, parts, &first, &last);
    for (size_t i = first; i < last && !r->failed; i++) {
        uint64_t at = i * r->step, n = r->n - at < r->step ? r->n - at : r->step;
        struct error e;
        if (convert_piece(r, part, at, n, &e) != 0 && !atomic_exchange(&r->failed, true))
            *r->e = e;
    }
}

static void release(const struct converter *c, const struct wanted *w, uint64_t first, uint64_t n)
{
    uint64_t slice = w->ne[0] * w->ne[1];
    if (!c->m)
        mem_mapped_rest(file_bytes(c, w->t, first), n / w->t->type->block_len * w->t->type->block_bytes);
    for (uint64_t i = first / slice; c->m && i <= (first + n - 1) / slice; i++)
        model_release(c->m, w->t, i);
}

/* Of the tensor whose turn it is. */
static int find_order(struct converter *c, const struct gguf_tensor *t, struct error *e)
{
    if (!c->m || c->order_of == t)
        return 0;
    mem_free(c->order);
    c->order_of = NULL;
    int r = model_order(c->m, t, &c->order, e);
    c->order_of = r == 0 ? t : NULL;
    return r;
}

int converter_run(struct converter *c, const struct wanted *w, const struct qtype *to, uint64_t first, uint64_t n,
                  const void **blocks, struct error *e)
{
    struct error own = {0};
    struct round r = {.c = c, .w = w, .to = to, .first = first, .n = n, .step = converter_step(c, w),
                      .limit = type_limit(to), .e = &own};
    *blocks = c->blocks;
    mem_mapped_rest(c->lent, c->n_lent);
    c->n_lent = 0;
    if (!c->m && to == w->t->type) {
        *blocks = c->lent = file_bytes(c, w->t, first);
        c->n_lent = n / to->block_len * to->block_bytes;
        return 0;
    }
    int found = find_order(c, w->t, e);
    if (found != 0)
        return found;
    pool_run(c->pool, convert_part, &r);
    release(c, w, first, n);
    if (r.failed)
        return error_set(e, own.status, "%s", own.text);
    return r.odd ? error_set(e, ERR_INVALID, "%s: tensor %s holds values that are not numbers or too large for %s",
                             gguf_path(c->g), w->name, to->name) : 0;
}

int converter_open(struct converter **out, const struct model *m, const struct gguf *g, int threads, struct error *e)
{
    struct converter *c = mem_alloc(sizeof(*c));
    *out = c;
    c->m = m;
    c->g = g;
    c->piece_max = PIECE;
    for (size_t i = 0; m && i < gguf_tensor_count(g); i++) {
        uint64_t step = step_of(gguf_tensor_at(g, i)->ne[0]);
        c->piece_max = step > c->piece_max ? (size_t)step : c->piece_max;
    }
    int r = pool_create(&c->pool, threads > 0 ? threads : pool_cpu_count(), 0, e);
    if (r != 0) {
        converter_close(out);
        return r;
    }
    size_t n = (size_t)pool_threads(c->pool);
    c->values = mem_array(n * c->piece_max, sizeof(float));
    c->rows = m ? mem_array(n * c->piece_max, sizeof(float)) : NULL;
    c->blocks = mem_array(n * ROUND_PIECES * c->piece_max, sizeof(float));
    return 0;
}

void converter_close(struct converter **converter_p)
{
    struct converter *c = *converter_p;
    if (!c)
        return;
    pool_destroy(&c->pool);
    mem_free(c->values);
    mem_free(c->rows);
    mem_free(c->blocks);
    mem_free(c->order);
    mem_free(c);
    *converter_p = NULL;
}
