/* golden_check: a model's logits and tokens beside those recorded. */
#include "golden_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "base/path.h"

static uint32_t read_tokens(const json_t *list, int32_t **out)
{
    size_t n = json_array_size(list);
    assert_true(n > 0 && n <= GOLDEN_TOKENS_MAX);
    *out = mem_array(n, sizeof(int32_t));
    for (size_t i = 0; i < n; i++)
        (*out)[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return (uint32_t)n;
}

void golden_read_folder(struct golden *g, const char *folder)
{
    char *expected = path_join(folder, "expected.json"), *logits = path_join(folder, "logits.f32"), *data;
    size_t len;
    json_t *j = json_load_file(expected, 0, NULL);
    assert_non_null(j);
    *g = (struct golden){.path = mem_strdup(folder)};
    g->n = read_tokens(json_object_get(j, "prompt"), &g->tokens);
    g->n_next = read_tokens(json_object_get(j, "next"), &g->next);
    assert_int_equal(path_read(logits, 1 << 20, &data, &len, NULL), 0);
    g->n_vocab = (uint32_t)(len / sizeof(float) / g->n);
    assert_int_equal(len, (size_t)g->n * g->n_vocab * sizeof(float));
    g->logits = mem_array((size_t)g->n * g->n_vocab, sizeof(float));
    memcpy(g->logits, data, len);
    json_decref(j);
    mem_free(data);
    mem_free(logits);
    mem_free(expected);
}

void golden_check_continuation(struct route *r, const struct golden *g, const float *last)
{
    int32_t got[GOLDEN_TOKENS_MAX];
    route_greedy(r, 1, g->n, (int32_t)route_argmax(last, g->n_vocab), got, g->n_next);
    assert_memory_equal(got, g->next, g->n_next * sizeof(int32_t));
}

void golden_check_logits(const struct golden *g)
{
    const char *const sets[] = {"scalar", "avx2", "avx512", "neon"};
    for (size_t i = 0; i < COUNTOF(sets); i++) {
        struct device *d;
        if (backend_open(&d, "cpu", &(struct device_options){.threads = 1, .isa = sets[i]}, NULL) != 0)
            continue;
        backend_close(&d);
        struct route r;
        route_open(&r, &(struct route_options){.path = g->path, .isa = sets[i]});
        assert_int_equal(model_hparams(r.model)->n_vocab, g->n_vocab);
        float *logits = route_run(&r, 1, 0, g->tokens, g->n, g->n);
        double error = route_error(logits, g->logits, (size_t)g->n * g->n_vocab);
        print_message("        %s: error %.2g\n", sets[i], error);
        assert_true(error < 1e-6);
        golden_check_continuation(&r, g, logits + (size_t)(g->n - 1) * g->n_vocab);
        mem_free(logits);
        route_close(&r);
    }
}

static void check_split(const struct golden *g, const struct route_options *o, const float *whole)
{
    struct route r;
    route_open(&r, o);
    float *logits = route_run(&r, 1, 0, g->tokens, g->n, g->n);
    assert_memory_equal(logits, whole, (size_t)g->n * g->n_vocab * sizeof(float));
    golden_check_continuation(&r, g, logits + (size_t)(g->n - 1) * g->n_vocab);
    mem_free(logits);
    route_close(&r);
}

enum { DEEP = 8 }; /* layers, of which all splits in three would be hundreds */

void golden_check_splits(const struct golden *g)
{
    struct route r;
    route_open(&r, &(struct route_options){.path = g->path});
    uint32_t n_layers = model_hparams(r.model)->n_layers;
    float *whole = route_run(&r, 1, 0, g->tokens, g->n, g->n);
    route_close(&r);
    assert_true(n_layers > 1);
    for (uint32_t a = 1; a < n_layers; a++) {
        check_split(g, &(struct route_options){.path = g->path, .n = 2, .cuts = {a}}, whole);
        for (uint32_t b = a + 1; b < n_layers && (n_layers <= DEEP || b == a + 1); b++) /* of deep ones, the short */
            check_split(g, &(struct route_options){.path = g->path, .n = 3, .cuts = {a, b}}, whole);
    }
    mem_free(whole);
}
