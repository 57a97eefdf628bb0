/* adapters: written with the house's writer, merged with sums in doubles. */
#include "tests/shard/adapters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"

static void require(int status, const struct error *e)
{
    if (status != 0)
        fail_msg("%s: %s", status_name(status), e->text);
}

bool adapters_may_change(const struct model *m, const struct model_tensor *t)
{
    (void)m;
    return t->layer >= 0 && t->part == 0 && !arch_is_plain(t->rule) && t->rule->role != ROLE_ROUTER;
}

/* ---- writing ---- */

struct pair_shape {
    uint64_t cols, rows, slices, rank, a_slices, b_slices;
};

static struct pair_shape shape_of(const struct model_tensor *t, size_t i)
{
    struct pair_shape s = {t->info->ne[0], t->info->ne[1], t->info->ne[2], 1 + i % ADAPTERS_RANK, 1, 1};
    s.a_slices = i % 3 == 1 ? 1 : s.slices;
    s.b_slices = i % 3 == 2 ? 1 : s.slices;
    return s;
}

static void write_values(struct gguf_writer *w, struct random_state *random, uint64_t n, float size)
{
    struct error e = {0};
    float *x = mem_array(n, sizeof(*x));
    for (uint64_t i = 0; i < n; i++)
        x[i] = size * ((float)(random_u64(random) >> 40) * 0x1p-23F - 1);
    require(gguf_writer_data(w, x, n * sizeof(*x), &e), &e);
    mem_free(x);
}

static void declare_pair(struct gguf_writer *w, const struct model_tensor *t, const struct pair_shape *s)
{
    char name[GGUF_NAME_MAX + 16];
    const uint64_t a[] = {s->cols, s->rank, s->a_slices}, b[] = {s->rank, s->rows, s->b_slices};
    snprintf(name, sizeof(name), "%s.lora_a", t->info->name);
    gguf_writer_tensor(w, name, qtype_find(QTYPE_F32), s->slices > 1 ? 3 : 2, a);
    snprintf(name, sizeof(name), "%s.lora_b", t->info->name);
    gguf_writer_tensor(w, name, qtype_find(QTYPE_F32), s->slices > 1 ? 3 : 2, b);
}

void adapters_write(const char *model, const char *path, uint64_t seed, float alpha)
{
    struct error e = {0};
    struct model *m;
    struct gguf_writer *w;
    struct random_state random;
    random_seed(&random, seed);
    require(model_open(&m, model, &e), &e);
    require(gguf_writer_create(&w, path, &e), &e);
    gguf_writer_string(w, "general.type", "adapter");
    gguf_writer_string(w, "general.architecture", model_hparams(m)->arch->name);
    gguf_writer_string(w, "adapter.type", "lora");
    gguf_writer_f32(w, "adapter.lora.alpha", alpha);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < model_tensor_count(m); i++) {
            const struct model_tensor *t = model_tensor_at(m, i);
            if (!adapters_may_change(m, t))
                continue;
            struct pair_shape s = shape_of(t, i);
            if (pass == 0) {
                declare_pair(w, t, &s);
                continue;
            }
            write_values(w, &random, s.cols * s.rank * s.a_slices, 0.1F);
            write_values(w, &random, s.rows * s.rank * s.b_slices, 0.1F);
        }
        if (pass == 0)
            require(gguf_writer_header(w, &e), &e);
    }
    require(gguf_writer_finish(&w, &e), &e);
    model_close(&m);
}

/* ---- merging ---- */

static void add_product(float *w, const struct gguf_tensor *t, const struct gguf *g, const struct gguf_tensor *a,
                        const struct gguf_tensor *b, double scale)
{
    const float *av = gguf_tensor_bytes(g, a), *bv = gguf_tensor_bytes(g, b);
    uint64_t rank = a->ne[1];
    for (uint64_t s = 0; s < t->ne[2]; s++)
        for (uint64_t i = 0; i < t->ne[1]; i++)
            for (uint64_t j = 0; j < t->ne[0]; j++) {
                double sum = 0;
                for (uint64_t k = 0; k < rank; k++)
                    sum += (double)bv[((b->ne[2] > 1 ? s : 0) * t->ne[1] + i) * rank + k] *
                           (double)av[((a->ne[2] > 1 ? s : 0) * rank + k) * t->ne[0] + j];
                float *value = &w[(s * t->ne[1] + i) * t->ne[0] + j];
                *value = (float)((double)*value + scale / (double)rank * sum);
            }
}

static void write_merged(struct gguf_writer *w, const struct gguf *g, const struct gguf_tensor *t,
                         const struct gguf *adapter, double scale)
{
    char name[2][GGUF_NAME_MAX + 16];
    struct error e = {0};
    snprintf(name[0], sizeof(name[0]), "%s.lora_a", t->name);
    snprintf(name[1], sizeof(name[1]), "%s.lora_b", t->name);
    const struct gguf_tensor *a = gguf_tensor_find(adapter, name[0]), *b = gguf_tensor_find(adapter, name[1]);
    float *values = mem_alloc(t->bytes);
    memcpy(values, gguf_tensor_bytes(g, t), t->bytes);
    if (a)
        add_product(values, t, adapter, a, b, scale);
    require(gguf_writer_data(w, values, t->bytes, &e), &e);
    mem_free(values);
}

void adapters_merge(const char *model, const char *adapter, float scale, const char *out)
{
    struct error e = {0};
    struct gguf *g, *l;
    struct gguf_writer *w;
    double alpha;
    require(gguf_open(&g, model, &e), &e);
    require(gguf_open(&l, adapter, &e), &e);
    assert_true(gguf_get_f64(l, "adapter.lora.alpha", &alpha));
    require(gguf_writer_create(&w, out, &e), &e);
    gguf_writer_copy_keys(w, g, "");
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        gguf_writer_tensor(w, t->name, t->type, t->n_dims, t->ne);
    }
    require(gguf_writer_header(w, &e), &e);
    for (size_t i = 0; i < gguf_tensor_count(g); i++)
        write_merged(w, g, gguf_tensor_at(g, i), l, (double)scale * alpha);
    require(gguf_writer_finish(&w, &e), &e);
    gguf_close(&g);
    gguf_close(&l);
}
