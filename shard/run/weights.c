/* weights: tensors are copied in the order in which they lie in the file, so that a disk reads ahead, and
 * the file's pages are let go after each, so that they do not stay in memory next to the copy. */
#include "shard/run/weights.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"

static struct weight **place_of(struct weights *w, const struct model_tensor *t)
{
    switch (t->rule->role) {
    case ROLE_EMBEDDING: return &w->embedding;
    case ROLE_OUTPUT_NORM: return &w->output_norm;
    case ROLE_OUTPUT_NORM_BIAS: return &w->output_norm_bias;
    case ROLE_OUTPUT: return &w->output;
    case ROLE_OUTPUT_BIAS: return &w->output_bias;
    default: return t->layer < 0 ? NULL : &w->layers[(uint32_t)t->layer - w->first].at[t->rule->role];
    }
}

/* Asks for the whole pages that hold the tensor before they are needed: the disk reads the next one while this one is
 * copied. What the system makes of it is its own affair. */
static void read_ahead(const struct model *m, const struct model_tensor *t)
{
    const uint8_t *bytes = model_tensor_bytes(m, t);
    if (!bytes)
        return;
    uint64_t slices = arch_extent(model_hparams(m), t->rule->slices);
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)bytes / page * page;
    size_t n = (uintptr_t)bytes + (size_t)((slices - 1) * t->slice_stride + t->bytes / slices) - start;
    (void)madvise((void *)start, n, MADV_SEQUENTIAL);
    (void)madvise((void *)start, n, MADV_WILLNEED);
}

struct filling {
    const struct model *m;
    const struct model_tensor *t;
};

static int fill(void *arg, uint32_t slice, uint32_t row, uint32_t n, void *out, struct error *e)
{
    const struct filling *f = arg;
    int r = model_tensor_read(f->m, f->t, slice, row, n, out, e);
    model_tensor_release(f->m, f->t, slice);
    return r;
}

static int load_tensor(struct weights *w, const struct model *m, const struct model_tensor *t, struct error *e)
{
    const struct hparams *h = model_hparams(m);
    struct weight **place = place_of(w, t);
    if (!place) /* read by the host: model_rope() */
        return 0;
    struct filling filling = {m, t};
    struct weight_desc desc = {
        .type = t->info->type,
        .rows = (uint32_t)arch_extent(h, t->rule->rows),
        .cols = (uint32_t)arch_extent(h, t->rule->cols),
        .slices = (uint32_t)arch_extent(h, t->rule->slices),
        .bytes = model_tensor_bytes(m, t),
        .slice_stride = (size_t)t->slice_stride,
        .fill = fill,
        .fill_arg = &filling,
    };
    uint32_t *order;
    if (model_order(m, t->info, &order, e) != 0)
        return error_context(e, "%s", t->info->name);
    desc.order = order;
    int r = w->device->backend->weight_create(w->device, place, &desc, e);
    mem_free(order);
    for (uint32_t i = 0; desc.bytes && i < desc.slices; i++)
        model_tensor_release(m, t, i);
    if (r != 0)
        error_context(e, "%s", t->info->name);
    return r;
}

static int by_offset(const void *a, const void *b)
{
    const struct model_tensor *x = *(const struct model_tensor *const *)a, *y = *(const struct model_tensor *const *)b;
    uint64_t a_at = x->info->offset + x->offset, b_at = y->info->offset + y->offset;
    if (x->info->file != y->info->file)
        return x->info->file < y->info->file ? -1 : 1;
    return (a_at > b_at) - (a_at < b_at);
}

/* The range's tensors in the file's order. Caller frees. */
static const struct model_tensor **list_range(const struct model *m, const struct layer_range *range, size_t *n)
{
    const struct model_tensor **list = mem_array(model_tensor_count(m), sizeof(*list));
    *n = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++)
        if (model_in_range(m, model_tensor_at(m, i), range))
            list[(*n)++] = model_tensor_at(m, i);
    qsort(list, *n, sizeof(*list), by_offset);
    return list;
}

int weights_load(struct weights *w, struct device *d, const struct model *m, const struct layer_range *range,
                 const struct weights_progress *progress, struct error *e)
{
    *w = (struct weights){.device = d, .first = range->first, .n_layers = range->last - range->first};
    w->layers = mem_array(w->n_layers, sizeof(*w->layers));
    uint64_t total = model_range_bytes(m, range);
    size_t n;
    const struct model_tensor **list = list_range(m, range, &n);
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (progress->call && progress->call(progress->arg, w->bytes, total) != 0)
            r = error_set(e, ERR_CANCELLED, "loading was stopped");
        else {
            if (i == 0)
                read_ahead(m, list[0]);
            if (i + 1 < n)
                read_ahead(m, list[i + 1]);
            r = load_tensor(w, m, list[i], e);
        }
        w->bytes += list[i]->bytes;
    }
    mem_free(list);
    if (r == 0 && progress->call)
        (void)progress->call(progress->arg, total, total);
    if (r == 0 && range->head && !w->output)
        w->output = w->embedding;
    return r;
}

void weights_free(struct weights *w)
{
    if (!w->device)
        return;
    const struct backend *b = w->device->backend;
    for (uint32_t i = 0; i < w->n_layers; i++)
        for (int role = 0; role < ROLE_LAYER_COUNT; role++)
            b->weight_destroy(w->device, w->layers[i].at[role]);
    if (w->output != w->embedding)
        b->weight_destroy(w->device, w->output);
    b->weight_destroy(w->device, w->embedding);
    b->weight_destroy(w->device, w->output_norm);
    b->weight_destroy(w->device, w->output_norm_bias);
    b->weight_destroy(w->device, w->output_bias);
    mem_free(w->layers);
    memset(w, 0, sizeof(*w));
}
