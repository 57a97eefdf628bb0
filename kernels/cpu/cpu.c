/* cpu: opening, memory and the table of the CPU backend. */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum { COPY_BYTES = 2 << 20 /* of weights at a time: a huge page */ };

static void cpu_close(struct device *d);

static int cpu_open(struct device **out, const struct device_options *o, struct error *e)
{
    int threads = o->threads > 0 ? o->threads : pool_cpu_count();
    const struct isa *isa = isa_find(o->isa);
    *out = NULL;
    if (!isa)
        return error_set(e, ERR_UNSUPPORTED, "this machine cannot run the instruction set %s", o->isa);
    struct cpu *c = mem_alloc(sizeof(*c));
    c->isa = isa;
    int r = pool_create(&c->pool, threads, o->pin, e);
    if (r != 0) {
        mem_free(c);
        return r;
    }
    *out = &c->device;
    return 0;
}

static void scratch_close(struct cpu *c)
{
    mem_big_free(c->scratch.block, c->scratch.n_bytes);
    memset(&c->scratch, 0, sizeof(c->scratch));
    c->rope_rows = 0;
}

static void cpu_close(struct device *d)
{
    struct cpu *c = cpu_of(d);
    scratch_close(c);
    pool_destroy(&c->pool);
    mem_free(c);
}

static void cpu_facts(struct device *d, struct device_facts *out)
{
    struct cpu *c = cpu_of(d);
    out->cores = pool_threads(c->pool);
    out->memory_bytes = mem_available();
    snprintf(out->name, sizeof(out->name), "cpu (%s, %d thread%s)", c->isa->name, out->cores,
             out->cores == 1 ? "" : "s");
}

struct filling {
    struct weight *w;
    const uint8_t *from;
    size_t stride; /* bytes from a slice to the next in `from` */
    struct tiles tiles; /* pieces of COPY_BYTES, each of one slice */
};

/* Threads copy at once, so that one's page faults do not hold up the others. */
static void copy_part(void *arg, int part, int parts)
{
    struct filling *f = arg;
    size_t first, last, size = f->w->slice_bytes, pieces = (size + COPY_BYTES - 1) / COPY_BYTES;
    (void)part, (void)parts;
    while (tiles_take(&f->tiles, &first, &last)) {
        for (; first < last; first++) {
            size_t slice = first / pieces, at = first % pieces * COPY_BYTES;
            size_t n = size - at < COPY_BYTES ? size - at : COPY_BYTES;
            const uint8_t *from = f->from + slice * f->stride + at;
            mem_mapped_fetch(from, n);
            memcpy((uint8_t *)f->w->bytes + slice * size + at, from, n);
        }
    }
}

static int fill_weight(struct cpu *c, struct weight *w, const struct weight_desc *desc, struct error *e)
{
    if (desc->bytes) {
        struct filling f = {.w = w, .from = desc->bytes,
                            .stride = desc->slice_stride ? desc->slice_stride : w->slice_bytes};
        f.tiles = (struct tiles){.total = desc->slices * ((w->slice_bytes + COPY_BYTES - 1) / COPY_BYTES), .tile = 1};
        pool_run(c->pool, copy_part, &f);
        return 0;
    }
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < desc->slices; i++)
        r = desc->fill(desc->fill_arg, i, 0, desc->rows, (uint8_t *)w->bytes + i * w->slice_bytes, e);
    return r;
}

static void cpu_weight_destroy(struct device *d, struct weight *w)
{
    (void)d;
    if (!w)
        return;
    mem_big_free(w->bytes, w->n_bytes);
    mem_free(w->order);
    mem_free(w);
}

static int cpu_weight_create(struct device *d, struct weight **out, const struct weight_desc *desc, struct error *e)
{
    struct cpu *c = cpu_of(d);
    struct weight *w = mem_alloc(sizeof(*w));
    *out = NULL;
    w->desc = *desc;
    w->desc.bytes = NULL;
    w->desc.order = NULL;
    w->desc.fill = NULL;
    w->desc.fill_arg = NULL;
    w->kernel = isa_kernel(c->isa, desc->type->id);
    w->row_bytes = qtype_row_bytes(desc->type, desc->cols);
    int r = 0;
    if (!w->kernel || w->row_bytes == 0 || !mem_mul(w->row_bytes, desc->rows, &w->slice_bytes) ||
        !mem_mul(w->slice_bytes, desc->slices, &w->n_bytes) || w->n_bytes == 0)
        r = error_set(e, ERR_UNSUPPORTED, "the CPU cannot hold a %s matrix of %u x %u", desc->type->name, desc->rows,
                      desc->cols);
    if (r == 0 && desc->order && w->kernel->form == FORM_F32)
        r = error_set(e, ERR_UNSUPPORTED, "the CPU cannot reorder the columns of a %s matrix", desc->type->name);
    if (r == 0 && !(w->bytes = mem_try_big(w->n_bytes)))
        r = error_set(e, ERR_MEMORY, "no memory for %zu bytes of weights", w->n_bytes);
    if (r != 0) {
        mem_free(w);
        return r;
    }
    if (desc->order) {
        w->order = mem_array((size_t)desc->slices * desc->cols, sizeof(*w->order));
        memcpy(w->order, desc->order, (size_t)desc->slices * desc->cols * sizeof(*w->order));
    }
    r = fill_weight(c, w, desc, e);
    if (r == 0)
        *out = w;
    else
        cpu_weight_destroy(d, w);
    return r;
}

static int cpu_mem_create(struct device *d, struct devmem **out, size_t bytes, struct error *e)
{
    (void)d;
    *out = NULL;
    uint8_t *p = mem_try_big(bytes);
    if (!p)
        return error_set(e, ERR_MEMORY, "no memory for %zu bytes", bytes);
    struct devmem *m = mem_alloc(sizeof(*m));
    m->bytes = p;
    m->n_bytes = bytes;
    *out = m;
    return 0;
}

static void cpu_mem_destroy(struct device *d, struct devmem *m)
{
    (void)d;
    if (!m)
        return;
    mem_big_free(m->bytes, m->n_bytes);
    mem_free(m);
}

static void cpu_upload(struct device *d, struct span to, const void *from, size_t bytes)
{
    (void)d;
    memcpy(to.mem->bytes + to.offset, from, bytes);
}

static void cpu_download(struct device *d, void *to, struct span from, size_t bytes)
{
    (void)d;
    memcpy(to, from.mem->bytes + from.offset, bytes);
}

static void cpu_sync(struct device *d)
{
    (void)d;
}

static void *cpu_host_view(struct device *d, struct span s)
{
    (void)d;
    return s.mem->bytes + s.offset;
}

/* ---- scratch: laid out twice, first to measure, then to point ---- */

/* What does not fit the address space is left at SIZE_MAX, which no allocation gives. */
static void *take(uint8_t *base, size_t *at, size_t count, size_t size)
{
    void *p = base ? base + *at : NULL;
    size_t bytes;
    if (!mem_mul(count, size, &bytes) || bytes > SIZE_MAX / 4 || *at > SIZE_MAX / 4)
        *at = SIZE_MAX;
    else
        *at += (bytes + 63) / 64 * 64;
    return p;
}

static size_t pages_of(const struct reserve_args *r)
{
    return r->index_positions / KV_PAGE_TOKENS + (r->index_positions % KV_PAGE_TOKENS != 0);
}

static size_t lay_out(struct cpu *c, const struct reserve_args *r, uint8_t *base)
{
    struct scratch *s = &c->scratch;
    size_t at = 0, rows = r->rows, moe = rows < MOE_ROWS_MAX ? rows : MOE_ROWS_MAX;
    size_t entries = moe * r->experts_used, index_rows = rows < INDEX_ROWS_MAX ? rows : INDEX_ROWS_MAX;
    size_t widest = r->cols > r->ffn ? r->cols : r->ffn;
    widest = widest > r->lora_cols ? widest : r->lora_cols;
    widest = widest > r->lora_rank ? widest : r->lora_rank;
    size_t form_rows = rows > entries ? rows : entries;
    for (int f = FORM_F32 + 1; f < FORM_COUNT; f++)
        s->prepared[f] = take(base, &at, form_rows, form_row_bytes((enum form)f, widest));
    s->tiles = take(base, &at, (size_t)pool_threads(c->pool) * TILE_FLOATS, sizeof(float));
    s->attention = take(base, &at, (size_t)pool_threads(c->pool),
                        attention_floats(r->key_dim, r->out_dim) * sizeof(float));
    s->rope = take(base, &at, rows, (size_t)r->rope_half * 2 * sizeof(float));
    s->index = take(base, &at, index_rows, pages_of(r) * KV_PAGE_TOKENS * sizeof(float));
    c->rope_positions = take(base, &at, rows, sizeof(uint32_t));
    c->rope_freq = take(base, &at, r->rope_half, sizeof(float));
    if (r->lora_rank > 0) {
        s->lora_x = take(base, &at, LORA_ROWS_MAX, r->lora_cols * sizeof(float));
        s->lora_low = take(base, &at, LORA_ROWS_MAX, r->lora_rank * sizeof(float));
    }
    if (r->experts == 0)
        return at;
    s->scores = take(base, &at, moe, r->experts * sizeof(float));
    s->selection = take(base, &at, moe, r->experts * sizeof(float));
    s->weights = take(base, &at, entries, sizeof(float));
    s->chosen = take(base, &at, entries, sizeof(uint32_t));
    s->place = take(base, &at, entries, sizeof(uint32_t));
    s->entries = take(base, &at, entries, sizeof(*s->entries));
    s->starts = take(base, &at, (size_t)r->experts + 1, sizeof(uint32_t));
    s->active = take(base, &at, r->experts, sizeof(uint32_t));
    for (int f = FORM_F32; f < FORM_COUNT; f++)
        s->gathered[f] = take(base, &at, entries, form_row_bytes((enum form)f, r->width));
    s->gate = take(base, &at, entries, r->ffn * sizeof(float));
    s->up = take(base, &at, entries, r->ffn * sizeof(float));
    s->down = take(base, &at, entries, r->width * sizeof(float));
    for (int i = 0; i < 2; i++)
        s->low[i] = take(base, &at, entries, r->lora_rank * sizeof(float));
    return at;
}

static int cpu_reserve(struct device *d, const struct reserve_args *r, struct error *e)
{
    struct cpu *c = cpu_of(d);
    scratch_close(c);
    size_t bytes = lay_out(c, r, NULL);
    void *block = mem_try_big(bytes);
    if (!block)
        return error_set(e, ERR_MEMORY, "no memory for %zu bytes of working space", bytes);
    memset(block, 0, bytes); /* taken now, not at the first large step */
    c->reserved = *r;
    lay_out(c, r, block);
    c->scratch.block = block;
    c->scratch.n_bytes = bytes;
    return 0;
}

const struct backend backend_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .facts = cpu_facts,
    .weight_create = cpu_weight_create,
    .weight_destroy = cpu_weight_destroy,
    .mem_create = cpu_mem_create,
    .mem_destroy = cpu_mem_destroy,
    .upload = cpu_upload,
    .download = cpu_download,
    .sync = cpu_sync,
    .reserve = cpu_reserve,
    .host_view = cpu_host_view,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .matmul = cpu_matmul,
    .rope = cpu_rope,
    .attention = cpu_attention,
    .index = cpu_index,
    .glu = cpu_glu,
    .moe = cpu_moe,
    .scale = cpu_scale,
    .copy = cpu_copy,
    .heads = cpu_heads,
    .delta = cpu_delta,
    .lora = cpu_lora,
    .add = cpu_add,
    .gather = cpu_gather,
};
