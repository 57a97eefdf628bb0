/* hf_read: rows of a tensor from where they lie in the files. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "shard/arch/hf_parts.h"

enum { TURNED_ROWS = 32 }; /* read at a time where a row of ours is a column of the file's */

uint64_t hf_axis_at(const struct hf_axis *x, uint64_t i)
{
    if (x->a > 0) {
        uint64_t z = i % x->inner, y = i / x->inner % x->b, round = i / x->inner / x->b;
        i = ((round / x->a * x->b + y) * x->a + round % x->a) * x->inner + z;
    }
    return x->first + (x->block ? i / x->block * x->stride + i % x->block * x->step : i * x->step);
}

uint64_t hf_file_row(const struct hf_tensor *t, uint64_t row)
{
    uint32_t band = 0;
    while (band + 1 < t->n_bands && row >= t->rows[band].n)
        row -= t->rows[band++].n;
    return hf_axis_at(&t->rows[band], row);
}

bool hf_axis_is_straight(const struct hf_axis *x)
{
    return x->a == 0 && x->block == 0 && x->step == 1 && x->first == 0;
}

static const uint8_t *slice_bytes(const struct hf *h, const struct hf_tensor *t, uint64_t slice)
{
    const struct hf_found *f = &t->sources[t->n_sources == 1 ? 0 : slice].parts[0];
    const uint8_t *bytes = safetensors_bytes(h->files[f->file].tensors, f->t);
    return bytes + (t->n_sources == 1 ? slice : 0) * t->file_rows * t->file_cols * t->from->block_bytes;
}

/* ---- rows as the files store their values ---- */

static void read_row(const struct hf_tensor *t, const uint8_t *matrix, uint64_t row, uint8_t *out)
{
    size_t size = t->from->block_bytes;
    const uint8_t *from = matrix + hf_file_row(t, row) * t->file_cols * size;
    if (hf_axis_is_straight(&t->cols)) {
        memcpy(out, from, t->cols.n * size);
        return;
    }
    for (uint64_t c = 0; c < t->cols.n; c++)
        memcpy(out + c * size, from + hf_axis_at(&t->cols, c) * size, size);
}

/* n rows that are columns of the file's: along its rows, so that memory is read in order. */
static void read_turned(const struct hf_tensor *t, const uint8_t *matrix, uint64_t row, uint64_t n, uint8_t *out)
{
    size_t size = t->from->block_bytes;
    uint64_t places[TURNED_ROWS];
    for (uint64_t i = 0; i < n; i++)
        places[i] = hf_file_row(t, row + i) * size;
    for (uint64_t c = 0; c < t->cols.n; c++) {
        const uint8_t *from = matrix + hf_axis_at(&t->cols, c) * t->file_cols * size;
        for (uint64_t i = 0; i < n; i++)
            memcpy(out + (i * t->cols.n + c) * size, from + places[i], size);
    }
}

/* ---- as the header stores them ---- */

static void change(const struct hf_tensor *t, float *values, uint64_t n)
{
    for (uint64_t i = 0; i < n && t->change != HF_AS_IS; i++)
        values[i] = t->change == HF_ADD_ONE ? values[i] + 1 : -expf(values[i]);
}

static void read_rows(const struct hf_tensor *t, const uint8_t *matrix, uint64_t row, uint64_t n, uint8_t *out)
{
    if (t->turned)
        read_turned(t, matrix, row, n, out);
    for (uint64_t i = 0; i < n && !t->turned; i++)
        read_row(t, matrix, row + i, out + i * t->cols.n * t->from->block_bytes);
}

int hf_read(const struct hf *h, size_t tensor, uint64_t slice, uint64_t row, uint64_t n, void *out, struct error *e)
{
    const struct hf_tensor *t = &h->tensors[tensor];
    size_t row_bytes = t->ne[0] * t->type->block_bytes;
    if (slice >= t->ne[2] || row > t->ne[1] || n > t->ne[1] - row)
        return error_set(e, ERR_INTERNAL, "%s: rows that tensor %s does not have", h->path, t->name);
    if (t->values) {
        memcpy(out, t->values, n * row_bytes);
        return 0;
    }
    if (t->sources[0].packed.type)
        return hf_read_packed(h, t, slice, row, n, out, e);
    const uint8_t *matrix = slice_bytes(h, t, slice);
    bool same = t->from == t->type;
    uint8_t *rows = same ? NULL : mem_array(TURNED_ROWS * t->ne[0], t->from->block_bytes);
    for (uint64_t done = 0; done < n; done += TURNED_ROWS) {
        uint64_t some = n - done < TURNED_ROWS ? n - done : TURNED_ROWS;
        uint8_t *to = (uint8_t *)out + done * row_bytes;
        read_rows(t, matrix, row + done, some, same ? to : rows);
        if (!same)
            t->from->to_f32(rows, (float *)(void *)to, some * t->ne[0]);
    }
    mem_free(rows);
    if (t->change != HF_AS_IS)
        change(t, out, n * t->ne[0]);
    return 0;
}

/* ---- pages and places ---- */

void hf_release(const struct hf *h, size_t tensor, uint64_t slice)
{
    const struct hf_tensor *t = &h->tensors[tensor];
    if (t->values)
        return;
    if (t->sources[0].packed.type) {
        hf_release_packed(h, t, slice);
        return;
    }
    mem_mapped_rest(slice_bytes(h, t, slice), t->file_rows * t->file_cols * t->from->block_bytes);
}

void hf_stretches(const struct hf *h, size_t tensor, void (*give)(void *arg, const struct file_stretch *s), void *arg)
{
    const struct hf_tensor *t = &h->tensors[tensor];
    for (size_t i = 0; i < t->n_sources; i++)
        for (uint32_t k = 0; k < t->sources[i].n_parts; k++) {
            const struct hf_found *f = &t->sources[i].parts[k];
            give(arg, &(struct file_stretch){f->file, f->t->offset, f->t->bytes});
        }
}
