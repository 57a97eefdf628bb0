/* lora: a group's rows are brought together, taken through A, and added to y through B, a block at a time.
 *
 * A row's values come from the kernels of products, which give the same bits in
 * any company, and are added in one place: a row does not see its group.      */
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { SMALL_WORK = 32768 }; /* products that are done before threads would have woken */

struct thin {
    struct cpu *c;
    const struct weight *w;
    const uint8_t *bytes; /* of the slice */
    const void *x;        /* [n] prepared rows */
    size_t x_stride;
    float *y;
    const uint32_t *rows; /* of y, that are added to; NULL: row i of x gives row i of y, `y_row` apart */
    size_t y_row;
    uint32_t n;
    struct tiles tiles;
};

/* Values [first, last) of every row, through the thread's tile. */
static void thin_rows(const struct thin *t, size_t first, size_t last, float *tile)
{
    for (size_t step = TILE_FLOATS / t->n, rows; first < last; first += rows) {
        rows = last - first < step ? last - first : step;
        struct matmul_job job = {
            .type = t->w->desc.type, .w = t->bytes + first * t->w->row_bytes, .w_stride = t->w->row_bytes, .x = t->x,
            .x_stride = t->x_stride, .y = t->rows ? tile : t->y + first, .y_stride = t->rows ? rows : t->y_row,
            .cols = t->w->desc.cols, .n_x = t->n};
        t->w->kernel->rows(&job, 0, rows);
        for (uint32_t k = 0; t->rows && k < t->n; k++) {
            float *y = t->y + t->rows[k] * t->y_row + first;
            for (size_t i = 0; i < rows; i++)
                y[i] += tile[k * rows + i];
        }
    }
}

static void thin_part(void *arg, int part, int parts)
{
    struct thin *t = arg;
    float *tile = t->c->scratch.tiles + (size_t)part * TILE_FLOATS;
    size_t first, last;
    (void)parts;
    while (tiles_take(&t->tiles, &first, &last))
        thin_rows(t, first, last, tile);
}

static void run_thin(struct thin *t, uint32_t slice, const float *x)
{
    const struct weight *w = t->w;
    t->bytes = (const uint8_t *)w->bytes + (w->desc.slices > 1 ? slice : 0) * w->slice_bytes;
    t->x = cpu_prepare(t->c, w->kernel->form, x, t->n, w->desc.cols, &t->x_stride);
    bool small = (size_t)t->n * w->desc.rows * w->desc.cols < SMALL_WORK;
    tiles_open(&t->tiles, w->desc.rows, t->n, small ? 1 : pool_threads(t->c->pool));
    if (small)
        thin_part(t, 0, 1);
    else
        pool_run(t->c->pool, thin_part, t);
}

/* Rows[n] of one slice, n <= LORA_ROWS_MAX. */
static void run_block(struct cpu *c, const struct lora_args *a, const struct lora_group *g, uint32_t slice,
                      uint32_t first, uint32_t n)
{
    const uint32_t *rows = g->rows + first;
    const float *x = span_floats(a->x) + (size_t)slice * a->x_slice;
    uint32_t cols = g->a->desc.cols, rank = g->a->desc.rows;
    for (uint32_t i = 0; i < n; i++)
        memcpy(c->scratch.lora_x + (size_t)i * cols, x + (size_t)rows[i] * a->x_row, cols * sizeof(float));
    struct thin down = {.c = c, .w = g->a, .y = c->scratch.lora_low, .y_row = rank, .n = n};
    run_thin(&down, slice, c->scratch.lora_x);
    struct thin up = {.c = c, .w = g->b, .y = span_floats(a->y) + (size_t)slice * a->y_slice, .y_row = a->y_row,
                      .rows = rows, .n = n};
    run_thin(&up, slice, c->scratch.lora_low);
}

void cpu_lora(struct device *d, const struct lora_args *a)
{
    for (uint32_t i = 0; i < a->n_groups; i++) {
        const struct lora_group *g = &a->groups[i];
        for (uint32_t slice = 0; slice < a->slices; slice++)
            for (uint32_t first = 0, n; first < g->n_rows; first += n) {
                n = g->n_rows - first < LORA_ROWS_MAX ? g->n_rows - first : LORA_ROWS_MAX;
                run_block(cpu_of(d), a, g, slice, first, n);
            }
    }
}
