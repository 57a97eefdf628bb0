/* test_hf: checkpoints that Hugging Face transformers wrote (tests/shard/make_hf.py) give its logits and its greedy
 * tokens, whole and cut at every layer. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "base/path.h"
#include "tests/shard/route.h"

#define FOLDER "tests/data/hf"

enum { MODELS_MAX = 64, TOKENS_MAX = 64 };

struct expected {
    char path[256];
    uint32_t n, n_next, n_vocab;
    int32_t prompt[TOKENS_MAX], next[TOKENS_MAX];
    float *logits; /* [n, n_vocab] */
};

static uint32_t read_tokens(const json_t *list, int32_t *out)
{
    size_t n = json_array_size(list);
    assert_true(n > 0 && n <= TOKENS_MAX);
    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return (uint32_t)n;
}

static void read_expected(struct expected *x, const char *name)
{
    char path[320], *data;
    size_t len;
    snprintf(x->path, sizeof(x->path), FOLDER "/%s", name);
    snprintf(path, sizeof(path), "%s/expected.json", x->path);
    json_t *j = json_load_file(path, 0, NULL);
    assert_non_null(j);
    x->n = read_tokens(json_object_get(j, "prompt"), x->prompt);
    x->n_next = read_tokens(json_object_get(j, "next"), x->next);
    json_decref(j);
    snprintf(path, sizeof(path), "%s/logits.f32", x->path);
    assert_int_equal(path_read(path, 1 << 20, &data, &len, NULL), 0);
    x->n_vocab = (uint32_t)(len / sizeof(float) / x->n);
    assert_int_equal(len, (size_t)x->n * x->n_vocab * sizeof(float));
    x->logits = mem_alloc(len);
    memcpy(x->logits, data, len);
    mem_free(data);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static size_t list_models(char names[MODELS_MAX][64])
{
    DIR *d = opendir(FOLDER);
    size_t n = 0;
    assert_non_null(d);
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        if (entry->d_name[0] != '.' && entry->d_type != DT_REG) {
            assert_true(n < MODELS_MAX);
            snprintf(names[n++], 64, "%.63s", entry->d_name);
        }
    closedir(d);
    qsort(names, n, 64, by_name);
    assert_true(n > 0);
    return n;
}

static void each_model(void (*check)(const struct expected *x))
{
    char names[MODELS_MAX][64];
    size_t n = list_models(names);
    const char *only = getenv("SHOAL_HF_MODEL"); /* while one is worked at */
    for (size_t i = 0; i < n; i++) {
        struct expected x;
        if (only && strcmp(only, names[i]) != 0)
            continue;
        print_message("    %s\n", names[i]);
        read_expected(&x, names[i]);
        check(&x);
        mem_free(x.logits);
    }
}

static double nmse(const float *a, const float *b, size_t n)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return error / size;
}

static void check_continuation(struct route *r, const struct expected *x, const float *last)
{
    int32_t got[TOKENS_MAX];
    route_greedy(r, 1, x->n, (int32_t)route_argmax(last, x->n_vocab), got, x->n_next);
    assert_memory_equal(got, x->next, x->n_next * sizeof(int32_t));
}

static void check_logits(const struct expected *x)
{
    const char *const sets[] = {"scalar", "avx2", "avx512", "neon"};
    for (size_t i = 0; i < COUNTOF(sets); i++) {
        struct device *d;
        struct route r;
        if (backend_open(&d, "cpu", &(struct device_options){.threads = 1, .isa = sets[i]}, NULL) != 0)
            continue;
        backend_close(&d);
        route_open(&r, &(struct route_options){.path = x->path, .isa = sets[i]});
        assert_true(model_folder(r.model) != NULL);
        assert_int_equal(model_hparams(r.model)->n_vocab, x->n_vocab);
        float *logits = route_run(&r, 1, 0, x->prompt, x->n, x->n);
        double error = nmse(logits, x->logits, (size_t)x->n * x->n_vocab);
        print_message("        %s: error %.2g\n", sets[i], error);
        assert_true(error < 1e-6);
        check_continuation(&r, x, logits + (size_t)(x->n - 1) * x->n_vocab);
        mem_free(logits);
        route_close(&r);
    }
}

static void test_logits_and_continuations_are_those_of_transformers(void **state)
{
    (void)state;
    each_model(check_logits);
}

static void check_split(const struct expected *x, const struct route_options *o, const float *whole)
{
    struct route r;
    route_open(&r, o);
    float *logits = route_run(&r, 1, 0, x->prompt, x->n, x->n);
    assert_memory_equal(logits, whole, (size_t)x->n * x->n_vocab * sizeof(float));
    check_continuation(&r, x, logits + (size_t)(x->n - 1) * x->n_vocab);
    mem_free(logits);
    route_close(&r);
}

static void check_splits(const struct expected *x)
{
    struct route r;
    route_open(&r, &(struct route_options){.path = x->path});
    uint32_t n_layers = model_hparams(r.model)->n_layers;
    float *whole = route_run(&r, 1, 0, x->prompt, x->n, x->n);
    route_close(&r);
    assert_true(n_layers > 1);
    for (uint32_t a = 1; a < n_layers; a++) {
        check_split(x, &(struct route_options){.path = x->path, .n = 2, .cuts = {a}}, whole);
        for (uint32_t b = a + 1; b < n_layers; b++)
            check_split(x, &(struct route_options){.path = x->path, .n = 3, .cuts = {a, b}}, whole);
    }
    mem_free(whole);
}

static void test_splits_give_the_same_bits(void **state)
{
    (void)state;
    each_model(check_splits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_and_continuations_are_those_of_transformers),
        cmocka_unit_test(test_splits_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
