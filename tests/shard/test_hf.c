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

#include "base/memory.h"
#include "base/path.h"
#include "tests/shard/golden_check.h"

#define FOLDER "tests/data/hf"

enum { MODELS_MAX = 64 };

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

static void each_model(void (*check)(const struct golden *g))
{
    char names[MODELS_MAX][64], path[128];
    size_t n = list_models(names);
    const char *only = getenv("SHOAL_HF_MODEL"); /* while one is worked at */
    for (size_t i = 0; i < n; i++) {
        struct golden g;
        if (only && strcmp(only, names[i]) != 0)
            continue;
        print_message("    %s\n", names[i]);
        snprintf(path, sizeof(path), FOLDER "/%s", names[i]);
        golden_read_folder(&g, path);
        check(&g);
        golden_free(&g);
    }
}

static void check_logits(const struct golden *g)
{
    struct model *m;
    assert_int_equal(model_open(&m, g->path, NULL), 0);
    assert_true(model_folder(m) != NULL);
    model_close(&m);
    golden_check_logits(g);
}

static void test_logits_and_continuations_are_those_of_transformers(void **state)
{
    (void)state;
    each_model(check_logits);
}

static void test_splits_give_the_same_bits(void **state)
{
    (void)state;
    each_model(golden_check_splits);
}

/* Rows as they enter the head, of a whole model and of one that is cut. */
static void check_hidden(const struct golden *g)
{
    char path[160];
    char *data = NULL;
    size_t len;
    snprintf(path, sizeof(path), "%s/hidden.f32", g->path);
    if (!path_exists(path))
        return;
    assert_int_equal(path_read(path, 1 << 20, &data, &len, NULL), 0);
    for (int n = 1; n <= 2; n++) {
        struct route r;
        struct error e = {0};
        struct step_row rows[GOLDEN_TOKENS_MAX];
        route_open(&r, &(struct route_options){.path = g->path, .n = n, .cuts = {1}});
        size_t width = model_hparams(r.model)->n_embd;
        assert_int_equal(len, g->n * width * sizeof(float));
        for (uint32_t i = 0; i < g->n; i++) /* some without logits, some beside them */
            rows[i] = (struct step_row){.sequence = 1, .position = i, .token = g->tokens[i],
                                        .flags = i % 3 == 2 ? ROW_HIDDEN | ROW_LOGITS : ROW_HIDDEN};
        assert_int_equal(route_step(&r, rows, g->n, &e), 0);
        for (uint32_t i = 0; i < g->n; i++)
            assert_true(route_error(shard_hidden(r.shards[n - 1], i), (float *)data + i * width, width) < 1e-6);
        route_close(&r);
    }
    print_message("        hidden rows are right\n");
    mem_free(data);
}

static void test_rows_before_the_head_are_those_of_transformers(void **state)
{
    (void)state;
    each_model(check_hidden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_and_continuations_are_those_of_transformers),
        cmocka_unit_test(test_rows_before_the_head_are_those_of_transformers),
        cmocka_unit_test(test_splits_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
