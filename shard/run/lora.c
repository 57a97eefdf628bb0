/* lora: pairs as float matrices of the device, looked up by adapter, layer and role for every product. */
#include "shard/run/lora.h"

#include <string.h>

#include "base/memory.h"
#include "kernels/qtype.h"

/* ---- loading ---- */

static struct lora_weights *place_of(const struct loras *l, uint32_t adapter, uint32_t layer, enum role role)
{
    return &l->at[(size_t)adapter * l->n_layers + layer][role];
}

static int make(struct loras *l, struct weight **out, uint32_t rows, uint32_t cols, uint32_t slices,
                const float *values, struct error *e)
{
    struct weight_desc desc = {.type = qtype_find(QTYPE_F32), .rows = rows, .cols = cols, .slices = slices,
                               .bytes = values};
    l->bytes += (uint64_t)rows * cols * slices * sizeof(float);
    return l->device->backend->weight_create(l->device, out, &desc, e);
}

static int load_pair(struct loras *l, const struct shard_adapter *source, const struct adapter_pair *p,
                     struct lora_weights *w, struct error *e)
{
    size_t a_values = (size_t)p->a_slices * p->rank * p->cols, b_values = (size_t)p->b_slices * p->rows * p->rank;
    size_t bytes = (a_values + b_values) * sizeof(float);
    float *values = mem_try_big(bytes);
    if (!values)
        return error_set(e, ERR_MEMORY, "%s: no memory for %zu bytes of an adapter", adapter_path(source->adapter),
                         bytes);
    adapter_read(source->adapter, p, source->scale, values, values + a_values);
    int r = make(l, &w->a, p->rank, p->cols, p->a_slices, values, e);
    if (r == 0)
        r = make(l, &w->b, p->rows, p->rank, p->b_slices, values + a_values, e);
    mem_big_free(values, bytes);
    w->cols = p->cols;
    w->rows = p->rows;
    return r;
}

int loras_load(struct loras *l, struct device *d, const struct shard_options *o, struct error *e)
{
    const struct layer_range *range = &o->range;
    *l = (struct loras){.device = d, .n_layers = range->last - range->first, .n = o->n_adapters};
    l->at = mem_array((size_t)l->n * l->n_layers + 1, sizeof(*l->at));
    for (uint32_t i = 0; i < l->n; i++) {
        const struct adapter *a = o->adapters[i].adapter;
        l->rank = l->rank > adapter_rank(a) ? l->rank : adapter_rank(a);
        l->cols = l->cols > adapter_cols(a) ? l->cols : adapter_cols(a);
        for (size_t k = 0; k < adapter_pair_count(a); k++) {
            const struct adapter_pair *p = adapter_pair_at(a, k);
            uint32_t layer = (uint32_t)p->layer;
            if (layer < range->first || layer >= range->last)
                continue;
            int r = load_pair(l, &o->adapters[i], p, place_of(l, i, layer - range->first, p->role), e);
            if (r != 0)
                return r;
        }
    }
    return 0;
}

void loras_free(struct loras *l)
{
    if (!l->device)
        return;
    for (size_t i = 0; i < (size_t)l->n * l->n_layers; i++)
        for (int role = 0; role < ROLE_LAYER_COUNT; role++) {
            l->device->backend->weight_destroy(l->device, l->at[i][role].a);
            l->device->backend->weight_destroy(l->device, l->at[i][role].b);
        }
    mem_free(l->at);
    memset(l, 0, sizeof(*l));
}

void loras_need(const struct model *m, const struct shard_options *o, uint64_t *weights, uint64_t *scratch)
{
    const struct adapter *list[ADAPTERS_MAX];
    uint32_t n = o->n_adapters < ADAPTERS_MAX ? o->n_adapters : ADAPTERS_MAX;
    *weights = 0;
    for (uint32_t i = 0; i < n; i++) {
        list[i] = o->adapters[i].adapter;
        *weights += adapter_range_bytes(list[i], &o->range);
    }
    *scratch = adapters_scratch_bytes(list, n, m, o->batch_rows_max);
}

/* ---- rows ---- */

/* The groups that there are, with room for their rows, and none in them yet. */
static void make_groups(struct lora_rows *rows, const uint32_t counts[static ADAPTERS_MAX],
                        uint32_t group_of[static ADAPTERS_MAX])
{
    uint32_t at = 0;
    for (uint32_t a = 0; a < ADAPTERS_MAX; a++) {
        if (counts[a] == 0)
            continue;
        group_of[a] = rows->n_groups;
        rows->groups[rows->n_groups].adapter = a;
        rows->groups[rows->n_groups].first = at;
        rows->groups[rows->n_groups++].n = 0;
        at += counts[a];
    }
}

void lora_rows_note(struct lora_rows *rows, const struct step_row *step, const uint32_t *which, uint32_t n)
{
    uint32_t counts[ADAPTERS_MAX] = {0}, group_of[ADAPTERS_MAX], any = 0;
    rows->n_groups = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t adapter = step[which ? which[i] : i].adapter;
        any |= adapter;
        if (adapter > 0)
            counts[adapter - 1]++;
    }
    if (!any)
        return;
    make_groups(rows, counts, group_of);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t adapter = step[which ? which[i] : i].adapter;
        rows->group_of[i] = 0;
        if (adapter == 0)
            continue;
        uint32_t g = group_of[adapter - 1];
        rows->rows[rows->groups[g].first + rows->groups[g].n++] = i;
        rows->group_of[i] = (uint8_t)(g + 1);
    }
}

void lora_rows_part(struct lora_rows *out, const struct lora_rows *rows, uint32_t first, uint32_t n)
{
    uint32_t at = 0;
    out->n_groups = 0;
    for (uint32_t g = 0; g < rows->n_groups; g++) {
        uint32_t begin = at;
        for (uint32_t i = 0; i < rows->groups[g].n; i++) {
            uint32_t row = rows->rows[rows->groups[g].first + i];
            if (row >= first && row - first < n)
                out->rows[at++] = row - first;
        }
        if (at == begin)
            continue;
        out->groups[out->n_groups].adapter = rows->groups[g].adapter;
        out->groups[out->n_groups].first = begin;
        out->groups[out->n_groups++].n = at - begin;
    }
}

/* ---- products ---- */

void lora_add(const struct loras *l, uint32_t layer, enum role role, const struct lora_rows *rows, struct span x,
              struct span y, const struct lora_strides *s)
{
    struct lora_group groups[ADAPTERS_MAX];
    struct lora_strides plain = {.slices = 1};
    uint32_t n = 0;
    for (uint32_t g = 0; g < rows->n_groups; g++) {
        const struct lora_weights *w = place_of(l, rows->groups[g].adapter, layer, role);
        if (!w->a)
            continue;
        groups[n++] = (struct lora_group){.a = w->a, .b = w->b, .rows = rows->rows + rows->groups[g].first,
                                          .n_rows = rows->groups[g].n};
        plain.x_row = w->cols;
        plain.y_row = w->rows;
    }
    s = s ? s : &plain;
    struct lora_args a = {.x = x, .y = y, .x_row = s->x_row, .x_slice = s->x_slice, .y_row = s->y_row,
                          .y_slice = s->y_slice, .slices = s->slices, .groups = groups, .n_groups = n};
    if (n > 0)
        l->device->backend->lora(l->device, &a);
}

static struct moe_thin thin_of(const struct loras *l, uint32_t adapter, uint32_t layer, enum role role)
{
    const struct lora_weights *w = place_of(l, adapter, layer, role);
    return (struct moe_thin){w->a, w->b};
}

bool lora_experts(const struct loras *l, uint32_t layer, const struct lora_rows *rows, struct moe_lora *out)
{
    bool any = false;
    for (uint32_t g = 0; g < rows->n_groups; g++) {
        uint32_t adapter = rows->groups[g].adapter;
        out[g] = (struct moe_lora){.gate = thin_of(l, adapter, layer, ROLE_GATE_EXPERTS),
                                   .up = thin_of(l, adapter, layer, ROLE_UP_EXPERTS),
                                   .down = thin_of(l, adapter, layer, ROLE_DOWN_EXPERTS)};
        any = any || out[g].gate.a || out[g].up.a || out[g].down.a;
    }
    return any;
}
