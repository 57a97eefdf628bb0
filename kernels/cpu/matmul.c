/* matmul: prepare the input once a form, then let threads take tiles of the rows of all matrices. */
#include <string.h>

#include "kernels/cpu/cpu.h"

/* ---- inputs ---- */

typedef void (*prepare_fn)(const float *x, void *out, size_t n);

static prepare_fn preparer(const struct cpu *c, enum form form)
{
    return c->isa->prepare[form] ? c->isa->prepare[form] : isa_scalar.prepare[form];
}

void cpu_prepare_row(const struct cpu *c, const struct weight *w, size_t slice, const float *x, void *out)
{
    enum form form = w->kernel->form;
    const uint32_t *order = w->order ? w->order + slice * w->desc.cols : NULL;
    if (!order) {
        preparer(c, form)(x, out, w->desc.cols);
        return;
    }
    for (uint32_t k = 0; k < w->desc.cols; k += QTYPE_BLOCK_LEN_MAX) { /* no block of a form is longer */
        float part[QTYPE_BLOCK_LEN_MAX];
        uint32_t n = w->desc.cols - k < QTYPE_BLOCK_LEN_MAX ? w->desc.cols - k : QTYPE_BLOCK_LEN_MAX;
        for (uint32_t i = 0; i < n; i++)
            part[i] = x[order[k + i]];
        preparer(c, form)(part, (uint8_t *)out + form_row_bytes(form, k), n);
    }
}

struct prepare_job {
    prepare_fn prepare;
    const float *x;
    uint8_t *out;
    size_t stride, n_rows, cols;
};

static void prepare_part(void *arg, int part, int parts)
{
    const struct prepare_job *j = arg;
    size_t first, last;
    pool_slice(j->n_rows, 1, part, parts, &first, &last);
    for (size_t i = first; i < last; i++)
        j->prepare(j->x + i * j->cols, j->out + i * j->stride, j->cols);
}

const void *cpu_prepare(struct cpu *c, enum form form, const float *x, uint32_t n_rows, uint32_t cols, size_t *stride)
{
    *stride = form_row_bytes(form, cols);
    if (form == FORM_F32)
        return x;
    struct prepare_job j = {
        .prepare = preparer(c, form), .x = x, .out = c->scratch.prepared[form], .stride = *stride, .n_rows = n_rows,
        .cols = cols};
    if ((size_t)n_rows * cols < 16384)
        prepare_part(&j, 0, 1);
    else
        pool_run(c->pool, prepare_part, &j);
    return j.out;
}

struct ordered_job {
    const struct cpu *c;
    const struct weight *w;
    const float *x;
    uint8_t *out;
    size_t stride, n_rows;
};

static void ordered_part(void *arg, int part, int parts)
{
    const struct ordered_job *j = arg;
    size_t first, last;
    pool_slice(j->n_rows, 1, part, parts, &first, &last);
    for (size_t i = first; i < last; i++)
        cpu_prepare_row(j->c, j->w, 0, j->x + i * j->w->desc.cols, j->out + i * j->stride);
}

/* cpu_prepare() for one matrix alone, in the order of its columns. */
static const void *prepare_for(struct cpu *c, const struct weight *w, const float *x, uint32_t n_rows, size_t *stride)
{
    enum form form = w->kernel->form;
    if (!w->order)
        return cpu_prepare(c, form, x, n_rows, w->desc.cols, stride);
    *stride = form_row_bytes(form, w->desc.cols);
    struct ordered_job j = {.c = c, .w = w, .x = x, .out = c->scratch.prepared[form], .stride = *stride,
                            .n_rows = n_rows};
    pool_run(c->pool, ordered_part, &j);
    return j.out;
}

/* ---- products ---- */

struct product {
    const struct weight *w;
    const float *bias;
    float *y;
    const void *x;
    size_t x_stride, first; /* first: where its rows begin in the space of all rows */
};

struct matmul_run {
    struct cpu *c;
    struct product products[MATMUL_WEIGHTS_MAX];
    int n;
    uint32_t n_rows;
    bool accumulate;
    struct tiles tiles;
};

static void finish_rows(const struct product *p, float *y, const float *tile, size_t rows, size_t at, bool accumulate)
{
    for (size_t i = 0; i < rows; i++) {
        float v = tile[i] + (p->bias ? p->bias[at + i] : 0);
        y[i] = accumulate ? y[i] + v : v;
    }
}

/* Rows [first, last) of one matrix. What is added to goes through the thread's tile. */
static void run_rows(const struct matmul_run *run, const struct product *p, size_t first, size_t last, float *tile)
{
    const struct weight *w = p->w;
    bool direct = !run->accumulate && !p->bias;
    for (size_t j = 0; j < run->n_rows; j += X_TILE) {
        size_t n_x = run->n_rows - j < X_TILE ? run->n_rows - j : X_TILE;
        size_t step = direct ? last - first : TILE_FLOATS / n_x;
        for (size_t i = first; i < last; i += step) {
            size_t rows = last - i < step ? last - i : step;
            float *y = p->y + j * w->desc.rows + i;
            struct matmul_job job = {
                .type = w->desc.type, .w = (const uint8_t *)w->bytes + i * w->row_bytes, .w_stride = w->row_bytes,
                .x = (const uint8_t *)p->x + j * p->x_stride, .x_stride = p->x_stride,
                .y = direct ? y : tile, .y_stride = direct ? w->desc.rows : rows, .cols = w->desc.cols, .n_x = n_x};
            w->kernel->rows(&job, 0, rows);
            for (size_t k = 0; !direct && k < n_x; k++)
                finish_rows(p, y + k * w->desc.rows, tile + k * rows, rows, i, run->accumulate);
        }
    }
}

static void matmul_part(void *arg, int part, int parts)
{
    struct matmul_run *run = arg;
    float *tile = run->c->scratch.tiles + (size_t)part * TILE_FLOATS;
    size_t first, last;
    (void)parts;
    while (tiles_take(&run->tiles, &first, &last)) {
        for (int i = 0; i < run->n; i++) {
            const struct product *p = &run->products[i];
            size_t a = first > p->first ? first - p->first : 0;
            size_t end = p->first + p->w->desc.rows;
            if (last <= p->first || first >= end)
                continue;
            run_rows(run, p, a, (last < end ? last : end) - p->first, tile);
        }
    }
}

static void run_all(struct matmul_run *run, size_t total)
{
    tiles_open(&run->tiles, total, run->n_rows, pool_threads(run->c->pool));
    pool_run(run->c->pool, matmul_part, run);
}

/* One matrix with an order of its own: x is prepared for it alone. */
static void product_ordered(struct cpu *c, const struct matmul_args *a, int i)
{
    const struct weight *w = a->w[i];
    struct matmul_run run = {.c = c, .n = 1, .n_rows = a->n_rows, .accumulate = a->accumulate};
    size_t stride;
    const void *x = prepare_for(c, w, span_floats(a->x), a->n_rows, &stride);
    run.products[0] = (struct product){.w = w, .bias = a->bias[i] ? a->bias[i]->bytes : NULL,
                                       .y = span_floats(a->y[i]), .x = x, .x_stride = stride};
    run_all(&run, w->desc.rows);
}

void cpu_matmul(struct device *d, const struct matmul_args *a)
{
    struct cpu *c = cpu_of(d);
    struct matmul_run run = {.c = c, .n_rows = a->n_rows, .accumulate = a->accumulate};
    const void *x[FORM_COUNT] = {0};
    size_t stride[FORM_COUNT], total = 0;
    for (int i = 0; i < a->n_weights; i++)
        if (a->w[i]->order)
            product_ordered(c, a, i);
    for (int i = 0; i < a->n_weights; i++) {
        const struct weight *w = a->w[i];
        enum form f = w->kernel->form;
        if (w->order)
            continue;
        if (!x[f])
            x[f] = cpu_prepare(c, f, span_floats(a->x), a->n_rows, w->desc.cols, &stride[f]);
        run.products[run.n++] = (struct product){.w = w, .bias = a->bias[i] ? a->bias[i]->bytes : NULL,
                                                 .y = span_floats(a->y[i]), .x = x[f], .x_stride = stride[f],
                                                 .first = total};
        /* a matrix begins on a tile's grain, so that kernels see whole panels */
        total += (w->desc.rows + ROW_GRAIN - 1) / ROW_GRAIN * ROW_GRAIN;
    }
    if (run.n > 0)
        run_all(&run, total);
}

void cpu_product(struct cpu *c, const struct weight *w, const float *x, uint32_t n_rows, float *y)
{
    struct matmul_run run = {.c = c, .n = 1, .n_rows = n_rows};
    size_t stride;
    const void *prepared = prepare_for(c, w, x, n_rows, &stride);
    run.products[0] = (struct product){.w = w, .y = y, .x = prepared, .x_stride = stride};
    run_all(&run, w->desc.rows);
}

/* ---- heads ---- */

struct heads_run {
    struct cpu *c;
    const struct heads_args *a;
    struct tiles tiles; /* of heads */
};

/* Rows [first, first + n) of one head; what is quantised goes through the thread's tile. */
static void head_rows(const struct heads_run *run, size_t head, uint32_t first, uint32_t n, float *tile)
{
    const struct heads_args *a = run->a;
    const struct weight *w = a->w;
    enum form form = w->kernel->form;
    const float *x = span_floats(a->x) + (size_t)first * a->x_row + head * a->x_head;
    struct matmul_job job = {
        .type = w->desc.type, .w = (const uint8_t *)w->bytes + head * w->slice_bytes, .w_stride = w->row_bytes, .x = x,
        .x_stride = a->x_row * sizeof(float), .y = span_floats(a->y) + (size_t)first * a->y_row + head * a->y_head,
        .y_stride = a->y_row, .cols = w->desc.cols, .n_x = n};
    if (form != FORM_F32) {
        job.x = tile;
        job.x_stride = form_row_bytes(form, w->desc.cols);
        for (uint32_t r = 0; r < n; r++)
            cpu_prepare_row(run->c, w, head, x + (size_t)r * a->x_row, (uint8_t *)tile + r * job.x_stride);
    }
    w->kernel->rows(&job, 0, w->desc.rows);
}

static void heads_part(void *arg, int part, int parts)
{
    struct heads_run *run = arg;
    const struct weight *w = run->a->w;
    float *tile = run->c->scratch.tiles + (size_t)part * TILE_FLOATS;
    size_t first, last, fit = TILE_FLOATS * sizeof(float) / form_row_bytes(w->kernel->form, w->desc.cols);
    uint32_t at_once = fit < X_TILE ? (uint32_t)fit : X_TILE;
    (void)parts;
    while (tiles_take(&run->tiles, &first, &last))
        for (; first < last; first++)
            for (uint32_t r = 0; r < run->a->n_rows; r += at_once)
                head_rows(run, first, r, run->a->n_rows - r < at_once ? run->a->n_rows - r : at_once, tile);
}

void cpu_heads(struct device *d, const struct heads_args *a)
{
    struct heads_run run = {.c = cpu_of(d), .a = a, .tiles = {.total = a->w->desc.slices, .tile = 1}};
    pool_run(run.c->pool, heads_part, &run);
}
