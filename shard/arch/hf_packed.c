/* hf_packed: tensors that a folder stores quantised (shard/format/packed.h): found by module, read by row.
 *
 * Rows of ours are rows of the packed matrix, in the order of the rules.  Where columns move, where ours are the
 * file's rows, and where no kernel takes anything but floats, the values are read as floats. */
#include <string.h>

#include "base/memory.h"
#include "shard/arch/hf_parts.h"

static const struct st_tensor *look_up(void *arg, const char *name)
{
    const struct hf_found *found = hf_find(arg, name);
    return found ? found->t : NULL;
}

int hf_find_packed(struct hf *h, const char *name, struct hf_source *out, struct error *e)
{
    memset(out, 0, sizeof(*out));
    if (!h->packed)
        return 0;
    if (packed_find(h->packed, name, 0, look_up, h, &out->packed, e) != 0)
        return error_context(e, "%s", h->path);
    for (int i = 0; out->packed.type && i < PACKED_PARTS; i++) {
        const struct st_tensor *t = out->packed.parts[i];
        struct hf_found *found = t ? hf_find(h, t->name) : NULL;
        if (!found)
            continue;
        found->used = true;
        out->parts[out->n_parts++] = *found;
    }
    return 0;
}

/* ---- rows ---- */

static const struct hf_source *source_of(const struct hf_tensor *t, uint64_t slice)
{
    return &t->sources[t->n_sources == 1 ? 0 : slice];
}

static struct packed_bytes bytes_of(const struct hf *h, const struct hf_source *s)
{
    struct packed_bytes b = {{0}};
    for (int i = 0; i < PACKED_PARTS; i++)
        for (uint32_t k = 0; k < s->n_parts; k++)
            if (s->parts[k].t == s->packed.parts[i])
                b.at[i] = safetensors_bytes(h->files[s->parts[k].file].tensors, s->parts[k].t);
    return b;
}

/* Where a row of the file's slice is in the packed matrix: slices of ours may be stretches of its rows. */
static void place(const struct hf_tensor *t, uint64_t *slice, uint64_t *row)
{
    const struct packed_matrix *m = &source_of(t, *slice)->packed;
    if (t->n_sources == 1 && m->slices == 1) {
        *row += *slice * t->file_rows;
        *slice = 0;
    } else if (t->n_sources > 1) {
        *slice = 0;
    }
}

static int read_values(const struct hf_tensor *t, const struct packed_bytes *b, uint64_t slice, uint64_t row,
                       float *out, struct error *e)
{
    const struct packed_matrix *m = &source_of(t, slice)->packed;
    uint64_t at_row = hf_file_row(t, row), in_slice = slice;
    place(t, &in_slice, &at_row);
    int r = 0;
    for (uint64_t c = 0; r == 0 && c < t->cols.n; c++)
        r = packed_values(m, b, in_slice, at_row, hf_axis_at(&t->cols, c), 1, out + c, e);
    return r;
}

/* Rows [row, row + n) of ours are columns of the file's. */
static int read_turned(const struct hf_tensor *t, const struct packed_bytes *b, uint64_t slice, uint64_t row,
                       uint64_t n, float *out, struct error *e)
{
    const struct packed_matrix *m = &source_of(t, slice)->packed;
    int r = 0;
    for (uint64_t c = 0; r == 0 && c < t->cols.n; c++) {
        uint64_t at_row = hf_axis_at(&t->cols, c), in_slice = slice;
        place(t, &in_slice, &at_row);
        for (uint64_t i = 0; r == 0 && i < n; i++)
            r = packed_values(m, b, in_slice, at_row, hf_file_row(t, row + i), 1, out + i * t->cols.n + c, e);
    }
    return r;
}

static int read_blocks(const struct hf_tensor *t, const struct packed_bytes *b, uint64_t slice, uint64_t row,
                       uint64_t n, uint8_t *out, struct error *e)
{
    const struct packed_matrix *m = &source_of(t, slice)->packed;
    uint32_t *order = mem_array(m->cols, sizeof(*order));
    bool ordered;
    int r = packed_order(m, b, order, &ordered, e);
    for (uint64_t i = 0; r == 0 && i < n; i++) {
        uint64_t at_row = hf_file_row(t, row + i), in_slice = slice;
        place(t, &in_slice, &at_row);
        r = packed_rows(m, b, ordered ? order : NULL, in_slice, at_row, 1, out, e);
        out += qtype_row_bytes(m->type, m->cols);
    }
    mem_free(order);
    return r;
}

int hf_read_packed(const struct hf *h, const struct hf_tensor *t, uint64_t slice, uint64_t row, uint64_t n, void *out,
                   struct error *e)
{
    const struct hf_source *s = source_of(t, slice);
    struct packed_bytes b = bytes_of(h, s);
    int r = 0;
    if (t->turned) {
        r = read_turned(t, &b, slice, row, n, out, e);
    } else if (t->type == s->packed.type && hf_axis_is_straight(&t->cols)) {
        r = read_blocks(t, &b, slice, row, n, out, e);
    } else {
        for (uint64_t i = 0; r == 0 && i < n; i++)
            r = read_values(t, &b, slice, row + i, (float *)out + i * t->cols.n, e);
    }
    return r != 0 ? error_context(e, "%s", h->path) : 0;
}

/* ---- orders ---- */

static bool may_have_order(const struct hf_tensor *t)
{
    return !t->values && t->sources[0].packed.type == t->type && t->sources[0].packed.parts[PACKED_INDEX] &&
           t->type->block_len > 1;
}

int hf_order(const struct hf *h, size_t tensor, uint32_t **out, struct error *e)
{
    const struct hf_tensor *t = &h->tensors[tensor];
    bool any = false;
    int r = 0;
    *out = NULL;
    if (!may_have_order(t))
        return 0;
    uint32_t *order = mem_array(t->ne[2] * t->ne[0], sizeof(*order));
    for (uint64_t i = 0; r == 0 && i < t->ne[2]; i++) {
        const struct hf_source *s = source_of(t, i);
        struct packed_bytes b = bytes_of(h, s);
        uint32_t *of_slice = order + i * t->ne[0];
        bool ordered;
        for (uint64_t c = 0; c < t->ne[0]; c++)
            of_slice[c] = (uint32_t)c;
        r = packed_order(&s->packed, &b, of_slice, &ordered, e);
        any = any || ordered;
    }
    if (r == 0 && any)
        *out = order;
    else
        mem_free(order);
    return r != 0 ? error_context(e, "%s", h->path) : 0;
}

/* ---- pages ---- */

/* All that a source holds, or a slice's share of it. */
void hf_release_packed(const struct hf *h, const struct hf_tensor *t, uint64_t slice)
{
    const struct hf_source *s = source_of(t, slice);
    uint64_t shares = t->n_sources == 1 ? t->ne[2] : 1, share = t->n_sources == 1 ? slice : 0;
    for (uint32_t k = 0; k < s->n_parts; k++) {
        const uint8_t *bytes = safetensors_bytes(h->files[s->parts[k].file].tensors, s->parts[k].t);
        uint64_t each = s->parts[k].t->bytes / shares;
        mem_mapped_rest(bytes + share * each, each);
    }
}
