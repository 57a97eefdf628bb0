/* assembly: metadata from chunk 0, rows from all of them.  Invariant: raw_bytes <= n_rows * width * size. */
#include "node/assembly.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

int assembly_init(struct assembly *a, uint32_t rows_max, uint32_t width, struct error *e)
{
    memset(a, 0, sizeof(*a));
    a->data_capacity = (size_t)rows_max * width;
    a->data = mem_try_big(a->data_capacity * sizeof(float));
    a->raw = mem_try_big(a->data_capacity * sizeof(float));
    if (!a->data || !a->raw) {
        assembly_close(a);
        return error_set(e, ERR_MEMORY, "no memory for the rows of a step");
    }
    a->rows = mem_array(FRAME_ROWS_MAX, sizeof(*a->rows));
    a->opens = mem_array(FRAME_SEQUENCES_MAX, sizeof(*a->opens));
    a->ends = mem_array(FRAME_SEQUENCES_MAX, sizeof(*a->ends));
    a->traces = mem_array(FRAME_STAGES_MAX, sizeof(*a->traces));
    a->masks = mem_array(FRAME_ROWS_MAX, sizeof(*a->masks));
    return 0;
}

void assembly_close(struct assembly *a)
{
    mem_big_free(a->data, a->data_capacity * sizeof(float));
    mem_big_free(a->raw, a->data_capacity * sizeof(float));
    mem_free(a->rows);
    mem_free(a->opens);
    mem_free(a->biases);
    mem_free(a->ends);
    mem_free(a->traces);
    mem_free(a->masks);
    mem_free(a->mask_bytes);
    memset(a, 0, sizeof(*a));
}

/* Absent arrays are NULL. */
static void copy(void *to, const void *from, size_t n, size_t size)
{
    if (n > 0)
        memcpy(to, from, n * size);
}

static void copy_opens(struct assembly *a, const struct frame *f)
{
    size_t n = 0;
    for (uint32_t i = 0; i < f->n_opens; i++)
        n += f->opens[i].n_bias;
    if (n > a->biases_max) {
        a->biases = mem_resize(a->biases, n, sizeof(*a->biases));
        a->biases_max = n;
    }
    n = 0;
    for (uint32_t i = 0; i < f->n_opens; i++) {
        a->opens[i] = f->opens[i];
        if (f->opens[i].n_bias > 0) {
            memcpy(a->biases + n, f->opens[i].bias, f->opens[i].n_bias * sizeof(*a->biases));
            a->opens[i].bias = a->biases + n;
            n += f->opens[i].n_bias;
        }
    }
    a->n_opens = f->n_opens;
}

static void copy_masks(struct assembly *a, const struct frame *f)
{
    size_t n = 0;
    for (uint32_t i = 0; i < f->n_masks; i++)
        n += f->masks[i].n;
    if (n > a->mask_bytes_max) {
        a->mask_bytes = mem_resize(a->mask_bytes, n, 1);
        a->mask_bytes_max = n;
    }
    n = 0;
    for (uint32_t i = 0; i < f->n_masks; i++) {
        a->masks[i] = (struct frame_mask){f->masks[i].row, f->masks[i].n, a->mask_bytes + n};
        copy(a->mask_bytes + n, f->masks[i].bytes, f->masks[i].n, 1);
        n += f->masks[i].n;
    }
    a->n_masks = f->n_masks;
}

static int begin(struct assembly *a, const struct frame *f, uint32_t expect_width, uint32_t rows_max, struct error *e)
{
    const struct frame_header *h = &f->header;
    a->open = false;
    if (f->n_rows > rows_max)
        return error_set(e, ERR_LIMIT, "a step of %u rows; this stage takes at most %u", f->n_rows, rows_max);
    if (f->n_rows > 0 && h->width != expect_width)
        return error_set(e, ERR_CORRUPT, "rows of %u values where this stage takes %u", h->width, expect_width);
    if (f->n_traces >= FRAME_STAGES_MAX)
        return error_set(e, ERR_CORRUPT, "the step has passed more stages than a route can have");
    a->header = *h;
    a->started_us = clock_us();
    copy(a->rows, f->rows, f->n_rows, sizeof(*a->rows));
    copy(a->ends, f->ends, f->n_ends, sizeof(*a->ends));
    copy(a->traces, f->traces, f->n_traces, sizeof(*a->traces));
    a->n_rows = f->n_rows;
    a->n_ends = f->n_ends;
    a->n_traces = f->n_traces;
    copy_opens(a, f);
    copy_masks(a, f);
    a->raw_bytes = 0;
    a->next_chunk = 0;
    a->open = true;
    return 0;
}

int assembly_add(struct assembly *a, const struct frame *f, uint32_t expect_width, uint32_t rows_max, bool *complete,
                 struct error *e)
{
    const struct frame_header *h = &f->header;
    *complete = false;
    if (h->chunk == 0) {
        int r = begin(a, f, expect_width, rows_max, e);
        if (r != 0)
            return r;
    }
    if (!a->open || h->step != a->header.step || h->route != a->header.route || h->chunk != a->next_chunk ||
        h->chunks != a->header.chunks || h->dtype != a->header.dtype) {
        a->open = false;
        return error_set(e, ERR_CORRUPT, "chunk %u of step %llu came out of order", h->chunk,
                         (unsigned long long)h->step);
    }
    size_t want = (size_t)a->n_rows * expect_width * frame_dtype_bytes(h->dtype);
    if (f->data_bytes > want - a->raw_bytes) {
        a->open = false;
        return error_set(e, ERR_CORRUPT, "step %llu has more data than rows", (unsigned long long)h->step);
    }
    if (f->data_bytes > 0)
        memcpy(a->raw + a->raw_bytes, f->data, f->data_bytes);
    a->raw_bytes += f->data_bytes;
    if (++a->next_chunk < h->chunks)
        return 0;
    a->open = false;
    if (a->raw_bytes != want)
        return error_set(e, ERR_CORRUPT, "step %llu has fewer data than rows", (unsigned long long)h->step);
    frame_unpack(h->dtype, a->raw, a->data, (size_t)a->n_rows * expect_width);
    *complete = true;
    return 0;
}
