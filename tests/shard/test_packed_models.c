/* test_packed_models: checkpoints with quantised weights (tests/shard/make_packed_models.py) hold the values whose
 * logits transformers gives, keep them quantised in memory, and give near those logits, whole and cut. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "shard/run/convert.h"
#include "tests/shard/folder.h"
#include "tests/shard/golden_check.h"

#define FOLDER "tests/data/packed_models"

struct expected {
    struct golden g;
    json_t *types; /* a tensor's name in layer 1 to its type */
};

static void expected_open(struct expected *x, const char *name)
{
    char path[320];
    snprintf(path, sizeof(path), FOLDER "/%.200s", name);
    golden_read_folder(&x->g, path);
    snprintf(path, sizeof(path), FOLDER "/%.200s/types.json", name);
    x->types = json_load_file(path, 0, NULL);
    assert_non_null(x->types);
}

static void expected_close(struct expected *x)
{
    golden_free(&x->g);
    json_decref(x->types);
}

static void each_model(void (*check)(const struct expected *x))
{
    struct dirent **list;
    int n = scandir(FOLDER, &list, NULL, alphasort), models = 0;
    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.') {
            struct expected x;
            print_message("    %s\n", list[i]->d_name);
            expected_open(&x, list[i]->d_name);
            check(&x);
            expected_close(&x);
            models++;
        }
        free(list[i]);
    }
    free(list);
    assert_true(models >= 8);
}

/* ---- types and sizes ---- */

/* What is loaded is what the header says: about as many bytes as the file has, which are those of codes and scales. */
static void check_resident(const struct expected *x, const struct model *m)
{
    struct route r;
    struct shard_stats stats;
    struct layer_range all = {0, model_hparams(m)->n_layers, true, true};
    uint64_t floats = model_params_total(m) * sizeof(float);
    route_open(&r, &(struct route_options){.path = x->g.path});
    shard_stats(r.shards[0], &stats);
    assert_int_equal(stats.bytes_weights, model_range_bytes(m, &all));
    print_message("        %llu bytes, %.0f %% of floats\n", (unsigned long long)stats.bytes_weights,
                  100.0 * (double)stats.bytes_weights / (double)floats);
    assert_true(stats.bytes_weights < floats * 2 / 5); /* embedding and head are BF16, a third of these weights */
    route_close(&r);
}

static void check_types(const struct expected *x)
{
    struct model *m;
    struct error e = {0};
    const char *tensor;
    json_t *type;
    if (model_open(&m, x->g.path, &e) != 0)
        fail_msg("%s", e.text);
    json_object_foreach(x->types, tensor, type) {
        char name[GGUF_NAME_MAX + 1];
        snprintf(name, sizeof(name), "blk.1.%s.weight", tensor);
        const struct gguf_tensor *t = gguf_tensor_find(model_file(m), name);
        assert_non_null(t);
        assert_string_equal(t->type->name, json_string_value(type));
    }
    check_resident(x, m);
    model_close(&m);
}

static void test_packed_models_stay_packed(void **state)
{
    (void)state;
    each_model(check_types);
}

/* ---- values: as a GGUF file of F32, which gives transformers' logits ---- */

/* By way of what `shoal quantize` reads them with. */
static void write_tensor(struct gguf_writer *w, struct converter *c, const struct gguf_tensor *t)
{
    struct wanted wanted = {.t = t};
    struct error e = {0};
    uint64_t values = t->ne[0] * t->ne[1] * t->ne[2];
    memcpy(wanted.name, t->name, sizeof(wanted.name));
    memcpy(wanted.ne, t->ne, sizeof(wanted.ne));
    uint64_t most = converter_step(c, &wanted);
    for (uint64_t first = 0, n; first < values; first += n) {
        const void *floats;
        n = values - first < most ? values - first : most;
        if (converter_run(c, &wanted, qtype_find(QTYPE_F32), first, n, &floats, &e) != 0)
            fail_msg("%s", e.text);
        assert_int_equal(gguf_writer_data(w, floats, n * sizeof(float), NULL), 0);
    }
}

static void write_floats(const char *folder, const char *path)
{
    struct model *m;
    struct gguf_writer *w;
    struct converter *c;
    struct error e = {0};
    if (model_open(&m, folder, &e) != 0)
        fail_msg("%s", e.text);
    const struct gguf *g = model_file(m);
    assert_int_equal(gguf_writer_create(&w, path, NULL), 0);
    gguf_writer_copy_keys(w, g, "");
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        gguf_writer_tensor(w, t->name, qtype_find(QTYPE_F32), t->n_dims, t->ne);
    }
    assert_int_equal(gguf_writer_header(w, NULL), 0);
    assert_int_equal(converter_open(&c, m, g, 2, NULL), 0);
    for (size_t i = 0; i < gguf_tensor_count(g); i++)
        write_tensor(w, c, gguf_tensor_at(g, i));
    converter_close(&c);
    assert_int_equal(gguf_writer_finish(&w, NULL), 0);
    model_close(&m);
}

static void check_values(const struct expected *x)
{
    char path[512];
    struct route r;
    snprintf(path, sizeof(path), "%s", folder_path("floats.gguf"));
    write_floats(x->g.path, path);
    route_open(&r, &(struct route_options){.path = path, .isa = "scalar"});
    float *logits = route_run(&r, 1, 0, x->g.tokens, x->g.n, x->g.n);
    double error = route_error(logits, x->g.logits, (size_t)x->g.n * x->g.n_vocab);
    print_message("        as floats: error %.2g\n", error);
    assert_true(error < 1e-10);
    golden_check_continuation(&r, &x->g, logits + (size_t)(x->g.n - 1) * x->g.n_vocab);
    mem_free(logits);
    route_close(&r);
}

static void test_packed_models_hold_the_values(void **state)
{
    (void)state;
    each_model(check_values);
}

/* ---- logits ---- */

/* Rows of logits that are further off than the bound, and the error of the others. */
static uint32_t far_rows(const struct expected *x, const char *isa, double bound, double *error)
{
    struct route r;
    route_open(&r, &(struct route_options){.path = x->g.path, .isa = isa});
    assert_int_equal(model_hparams(r.model)->n_vocab, x->g.n_vocab);
    float *logits = route_run(&r, 1, 0, x->g.tokens, x->g.n, x->g.n);
    uint32_t far = 0;
    *error = 0;
    for (uint32_t i = 0; i < x->g.n; i++) {
        double one = route_error(logits + (size_t)i * x->g.n_vocab, x->g.logits + (size_t)i * x->g.n_vocab,
                                x->g.n_vocab);
        far += !(one < bound);
        *error = one < bound ? fmax(*error, one) : *error;
    }
    mem_free(logits);
    route_close(&r);
    return far;
}

/* FP8 meets floats; integers and MXFP4 meet inputs in eight bits, which cost about what Q8_0 does, and may tip the
 * scales between two experts of which a token has as good as equal need. */
static void check_logits(const struct expected *x)
{
    static const char *const sets[] = {"scalar", "avx2", "avx512", "neon"};
    bool floats = strstr(x->g.path, "fp8") != NULL;
    for (size_t i = 0; i < COUNTOF(sets); i++) {
        struct device *d;
        double error;
        if (backend_open(&d, "cpu", &(struct device_options){.threads = 1, .isa = sets[i]}, NULL) != 0)
            continue;
        backend_close(&d);
        uint32_t far = far_rows(x, sets[i], floats ? 1e-10 : 1e-3, &error);
        print_message("        %s: error %.2g, %u rows off\n", sets[i], error, far);
        assert_true(far <= (floats ? 0 : 2));
    }
}

static void test_packed_models_give_the_logits(void **state)
{
    (void)state;
    each_model(check_logits);
}

static void check_split(const struct expected *x)
{
    struct route whole, cut;
    route_open(&whole, &(struct route_options){.path = x->g.path});
    route_open(&cut, &(struct route_options){.path = x->g.path, .cuts = {1}, .n = 2});
    float *a = route_run(&whole, 1, 0, x->g.tokens, x->g.n, x->g.n), *b = route_run(&cut, 1, 0, x->g.tokens, x->g.n, 1);
    assert_memory_equal(a, b, (size_t)x->g.n * x->g.n_vocab * sizeof(float));
    mem_free(a);
    mem_free(b);
    route_close(&whole);
    route_close(&cut);
}

static void test_packed_models_cut_give_the_same_bits(void **state)
{
    (void)state;
    each_model(check_split);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed_models_stay_packed),
        cmocka_unit_test(test_packed_models_hold_the_values),
        cmocka_unit_test(test_packed_models_give_the_logits),
        cmocka_unit_test(test_packed_models_cut_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
