/* test_splits: a model of several files is the model of one; what is absent is missed only where it is needed; files
 * that do not belong together are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/path.h"
#include "tests/shard/folder.h"
#include "tests/shard/raw.h"
#include "tests/shard/route.h"
#include "tests/shard/splits.h"

#define MODEL "tests/data/shoal-demo-q8_0.gguf"
enum { LAYERS = 6, N = 3 };

static char prefix[200];

/* A new name for the files of every test. */
static const char *new_prefix(void)
{
    static unsigned next;
    char name[32];
    snprintf(name, sizeof(name), "model-%u", next++);
    snprintf(prefix, sizeof(prefix), "%s", folder_path(name));
    return prefix;
}

static const char *path_of(uint32_t i)
{
    return splits_path(prefix, i, N);
}

static struct gguf *open_whole(void)
{
    struct gguf *g;
    struct error e;
    assert_int_equal(gguf_open(&g, MODEL, &e), 0);
    return g;
}

static struct gguf *open_at(const char *path)
{
    struct gguf *g;
    struct error e = {0};
    if (gguf_open(&g, path, &e) != 0)
        fail_msg("%s", e.text);
    return g;
}

static void expect_same(const struct gguf *split, const struct gguf *whole)
{
    assert_int_equal(gguf_tensor_count(split), gguf_tensor_count(whole));
    for (size_t i = 0; i < gguf_tensor_count(whole); i++) {
        const struct gguf_tensor *w = gguf_tensor_at(whole, i), *t = gguf_tensor_find(split, w->name);
        assert_non_null(t);
        assert_ptr_equal(t->type, w->type);
        assert_memory_equal(t->ne, w->ne, sizeof(t->ne));
        assert_int_equal(t->bytes, w->bytes);
        assert_memory_equal(gguf_tensor_bytes(split, t), gguf_tensor_bytes(whole, w), w->bytes);
    }
    for (size_t i = 0; i < gguf_key_count(whole); i++) {
        struct gguf_string key = gguf_key_at(whole, i), other = gguf_key_at(split, i);
        assert_int_equal(key.len, other.len);
        assert_memory_equal(key.text, other.text, key.len);
    }
}

static void test_any_of_its_paths_opens_the_whole_model(void **state)
{
    (void)state;
    static const struct splits_options ways[] = {
        {.n = N}, {.n = N, .file_of = splits_by_layer}, {.n = N, .file_of = splits_behind_empty},
        {.n = N, .no_tensors = true}, {.n = SPLITS_MAX},
    };
    struct gguf *whole = open_whole();
    for (size_t i = 0; i < COUNTOF(ways); i++) {
        splits_write(MODEL, new_prefix(), &ways[i]);
        for (uint32_t k = 0; k < ways[i].n; k++) {
            struct gguf *g = open_at(splits_path(prefix, k, ways[i].n));
            expect_same(g, whole);
            assert_string_equal(gguf_path(g), splits_path(prefix, 0, ways[i].n));
            gguf_close(&g);
        }
    }
    gguf_close(&whole);
}

static void test_its_files_are_one_run(void **state)
{
    (void)state;
    uint64_t bytes = 0;
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N, .file_of = splits_by_layer});
    struct gguf *g = open_at(path_of(1));
    const struct file_set *set = gguf_files(g);
    assert_int_equal(file_set_count(set), N);
    for (uint32_t i = 0; i < N; i++) {
        struct stat st;
        char name[64];
        snprintf(name, sizeof(name), "model-%05u-of-%05u.gguf", i + 1, N);
        assert_string_equal(file_set_at(set, i)->name, name);
        assert_string_equal(file_set_path(set, i), path_of(i));
        assert_int_equal(stat(path_of(i), &st), 0);
        assert_int_equal(file_set_at(set, i)->bytes, st.st_size);
        bytes += (uint64_t)st.st_size;
    }
    assert_int_equal(gguf_file_bytes(g), bytes);
    assert_int_equal(gguf_header_bytes(g), file_set_head_bytes(set));
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char *copy = mem_alloc(t->bytes);
        assert_int_equal(file_set_read(set, file_set_offset(set, t->file, t->offset), copy, t->bytes, NULL), 0);
        assert_memory_equal(copy, gguf_tensor_bytes(g, t), t->bytes);
        mem_free(copy);
    }
    gguf_close(&g);
}

/* ---- what is not here ---- */

static void test_layers_whose_files_are_here_give_the_same_logits(void **state)
{
    (void)state;
    static const int32_t tokens[] = {1, 5, 9, 300, 22};
    struct route whole, split;
    route_open(&whole, &(struct route_options){.path = MODEL});
    uint32_t n_vocab = model_hparams(whole.model)->n_vocab;
    float *want = route_run(&whole, 1, 0, tokens, COUNTOF(tokens), COUNTOF(tokens));
    for (int way = 0; way < 2; way++) {
        splits_write(MODEL, new_prefix(),
                     &(struct splits_options){.n = N, .file_of = way ? splits_behind_empty : splits_by_layer});
        route_open(&split, &(struct route_options){.path = path_of(2), .n = 2, .cuts = {3}});
        float *got = route_run(&split, 1, 0, tokens, COUNTOF(tokens), COUNTOF(tokens));
        assert_memory_equal(got, want, COUNTOF(tokens) * n_vocab * sizeof(float));
        mem_free(got);
        route_close(&split);
    }
    mem_free(want);
    route_close(&whole);
}

static int load(const struct model *m, struct layer_range range, struct error *e)
{
    struct device *d;
    struct shard *s;
    struct shard_options o = {.range = range, .kv_type = KV_F32, .kv_tokens = 64, .sequences_max = 1,
                              .batch_rows_max = 8};
    assert_int_equal(backend_open(&d, "cpu", &(struct device_options){.threads = 1}, e), 0);
    int r = shard_open(&s, d, m, &o, e);
    shard_close(&s);
    backend_close(&d);
    return r;
}

static void test_a_range_is_refused_only_when_its_file_is_absent(void **state)
{
    (void)state;
    for (uint32_t absent = 1; absent < N; absent++) {
        struct model *m;
        struct error e;
        splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N, .file_of = splits_by_layer});
        assert_int_equal(unlink(path_of(absent)), 0);
        assert_int_equal(model_open(&m, path_of(0), &e), 0);
        assert_false(file_set_has(model_files(m), absent));
        for (uint32_t first = 0; first < LAYERS; first++)
            for (uint32_t last = first + 1; last <= LAYERS; last++) {
                struct layer_range r = {first, last, first == 0, last == LAYERS};
                bool needed = first < 2 * (absent + 1) && last > 2 * absent;
                int got = model_check_range(m, &r, &e);
                assert_int_equal(got, needed ? ERR_NOT_FOUND : 0);
                assert_true(got == 0 || strstr(e.text, path_of(absent)));
            }
        struct layer_range first = {0, 2, true, false}, all = {0, LAYERS, true, true};
        assert_int_equal(load(m, first, &e), 0);
        assert_int_equal(load(m, all, &e), ERR_NOT_FOUND);
        model_close(&m);
    }
}

/* With two absent, what is between those that are here tells which one has a layer. */
static void test_the_file_that_is_needed_is_named(void **state)
{
    (void)state;
    struct model *m;
    struct error e;
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = LAYERS, .file_of = splits_by_layer});
    assert_int_equal(unlink(splits_path(prefix, 1, LAYERS)), 0);
    assert_int_equal(unlink(splits_path(prefix, 3, LAYERS)), 0);
    assert_int_equal(model_open(&m, splits_path(prefix, 2, LAYERS), &e), 0);
    assert_int_equal(model_check_range(m, &(struct layer_range){1, 2, false, false}, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, splits_path(prefix, 1, LAYERS)));
    assert_int_equal(model_check_range(m, &(struct layer_range){2, 4, false, false}, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, splits_path(prefix, 3, LAYERS)));
    assert_non_null(strstr(e.text, "blk.3."));
    assert_int_equal(model_check_range(m, &(struct layer_range){2, 3, false, false}, &e), 0);
    assert_int_equal(model_check_range(m, &(struct layer_range){4, 6, false, true}, &e), 0);
    model_close(&m);
    assert_int_equal(unlink(splits_path(prefix, 2, LAYERS)), 0);
    assert_int_equal(model_open(&m, splits_path(prefix, 0, LAYERS), &e), 0);
    assert_int_equal(model_check_range(m, &(struct layer_range){2, 3, false, false}, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "one of 3 files"));
    model_close(&m);
}

/* One tensor of layer 1 is in a file of its own; of others like it layer 1 has all. */
static uint32_t norm_apart(const struct gguf_tensor *t, size_t i, size_t n_tensors, uint32_t n)
{
    bool apart = strcmp(t->name, "blk.1.attn_k.bias") == 0 || strcmp(t->name, "blk.1.attn_k_norm.weight") == 0 ||
                 strcmp(t->name, "blk.1.attn_k.weight") == 0;
    return apart ? 1 : splits_by_layer(t, i, n_tensors, n) ? 2 : 0;
}

static void test_a_layer_that_lacks_one_tensor_is_not_loaded(void **state)
{
    (void)state;
    struct model *m;
    struct error e;
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N, .file_of = norm_apart});
    assert_int_equal(unlink(path_of(1)), 0);
    assert_int_equal(model_open(&m, path_of(0), &e), 0);
    assert_int_equal(model_check_range(m, &(struct layer_range){0, 1, true, false}, &e), 0);
    assert_int_equal(model_check_range(m, &(struct layer_range){1, 2, false, false}, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "blk.1.attn_k"));
    assert_int_equal(model_check_range(m, &(struct layer_range){2, 3, false, false}, &e), 0);
    model_close(&m);
}

/* The demo's head is its embedding, here in the second file: both ends of the model need it, the middle does not. */
static void test_an_embedding_that_is_absent_is_missed_at_both_ends(void **state)
{
    (void)state;
    static const struct layer_range ends[] = {{0, 1, true, false}, {5, 6, false, true}, {0, 6, true, true}};
    struct model *m;
    struct error e;
    for (int counted = 0; counted < 2; counted++) {
        splits_write(MODEL, new_prefix(),
                     &(struct splits_options){.n = N, .file_of = splits_behind_empty, .no_tensors = !counted});
        assert_int_equal(unlink(path_of(1)), 0);
        assert_int_equal(model_open(&m, path_of(0), &e), 0);
        for (size_t i = 0; i < COUNTOF(ends); i++) {
            assert_int_equal(model_check_range(m, &ends[i], &e), ERR_NOT_FOUND);
            assert_true(strstr(e.text, "token_embd.weight") || (!counted && strstr(e.text, "output.weight")));
            assert_non_null(strstr(e.text, path_of(1)));
        }
        /* what all layers share would be in the same file: the count of tensors tells that there is nothing of it */
        assert_int_equal(model_check_range(m, &(struct layer_range){4, 5, false, false}, &e),
                         counted ? 0 : ERR_NOT_FOUND);
        model_close(&m);
    }
}

/* The last norm comes with the layers; whether a head of its own comes behind it, only the count tells. */
static uint32_t norm_before_last(const struct gguf_tensor *t, size_t i, size_t n_tensors, uint32_t n)
{
    (void)i;
    (void)n_tensors;
    return strncmp(t->name, "blk.2.", 6) == 0 ? n - 1 : strncmp(t->name, "blk.", 4) == 0 ? 1 : 0;
}

static void test_a_tied_head_is_known_by_the_count_of_tensors(void **state)
{
    (void)state;
    struct model *m;
    struct error e;
    for (int counted = 0; counted < 2; counted++) {
        splits_write(MODEL, new_prefix(),
                     &(struct splits_options){.n = N, .file_of = norm_before_last, .no_tensors = !counted});
        assert_int_equal(unlink(path_of(2)), 0);
        assert_int_equal(model_open(&m, path_of(0), &e), 0);
        int got = model_check_range(m, &(struct layer_range){3, 6, false, true}, &e);
        assert_int_equal(got, counted ? 0 : ERR_NOT_FOUND);
        assert_true(counted || strstr(e.text, "output.weight"));
        assert_int_equal(model_check_range(m, &(struct layer_range){1, 3, false, false}, &e), ERR_NOT_FOUND);
        model_close(&m);
    }
}

static void test_the_first_file_is_always_needed(void **state)
{
    (void)state;
    struct gguf *g;
    struct error e;
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N});
    assert_int_equal(unlink(path_of(0)), 0);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(gguf_open(&g, path_of(i), &e), ERR_NOT_FOUND);
        assert_null(g);
        assert_non_null(strstr(e.text, path_of(0)));
    }
}

/* ---- what does not belong together ---- */

static void test_files_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct splits_options o;
        int status;
        const char *words;
    } cases[] = {
        {{.n = N, .number = {0, 1, 0}}, ERR_CORRUPT, "says that it is file 3 of 3"},   /* repeated */
        {{.n = N, .number = {1, -1, 0}}, ERR_CORRUPT, "must end in"},                  /* reordered */
        {{.n = N, .number = {0, 0, 9}}, ERR_CORRUPT, "does not say which"},            /* past the last */
        {{.n = N, .count = {0, 1, 0}}, ERR_CORRUPT, "is file 2 of 4"},
        {{.n = N, .count = {1, 1, 1}}, ERR_CORRUPT, "must end in"},
        {{.n = N, .count = {5000, 5000, 5000}}, ERR_LIMIT, "at most"},
        {{.n = N, .tensors = {0, 1, 0}}, ERR_CORRUPT, "is of another model"},
        {{.n = N, .tensors = {1, 1, 1}}, ERR_CORRUPT, "as they say"},
        {{.n = N, .tensors = {-1, -1, -1}}, ERR_CORRUPT, "as they say"},
        {{.n = N, .no_number = true}, ERR_CORRUPT, "does not say which"},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct gguf *g;
        struct error e = {0};
        splits_write(MODEL, new_prefix(), &cases[i].o);
        assert_int_equal(gguf_open(&g, path_of(0), &e), cases[i].status);
        assert_null(g);
        if (!strstr(e.text, cases[i].words))
            fail_msg("case %zu: %s", i, e.text);
    }
}

static uint32_t some_left_out(const struct gguf_tensor *t, size_t i, size_t n_tensors, uint32_t n)
{
    (void)t;
    return i == 7 ? SPLITS_SKIP : (uint32_t)(i * n / n_tensors);
}

static void copy_file(const char *from, const char *to)
{
    char *bytes;
    size_t n;
    assert_int_equal(path_read(from, 64 << 20, &bytes, &n, NULL), 0);
    assert_int_equal(path_write_atomic(to, bytes, n, 0600, NULL), 0);
    mem_free(bytes);
}

static void expect_refused(const char *path, int status, const char *words)
{
    struct model *m;
    struct error e = {0};
    assert_int_equal(model_open(&m, path, &e), status);
    if (!strstr(e.text, words))
        fail_msg("%s", e.text);
}

static void test_a_file_of_another_model_is_refused(void **state)
{
    (void)state;
    char other[200], name[64];
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N, .no_tensors = true});
    snprintf(other, sizeof(other), "%s", prefix);
    /* the same tensors, cut elsewhere: some would be there twice */
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N, .no_tensors = true, .file_of = splits_by_layer});
    copy_file(splits_path(other, 1, N), path_of(1));
    expect_refused(path_of(0), ERR_CORRUPT, "occurs twice");
    /* a tensor that none of them has */
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N, .file_of = some_left_out});
    expect_refused(path_of(0), ERR_CORRUPT, "one is of another model");
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N, .no_tensors = true, .file_of = some_left_out});
    expect_refused(path_of(0), ERR_CORRUPT, "is missing");
    /* a file under the name of another, and a model of one file under the name of a split */
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N});
    assert_int_equal(rename(path_of(1), folder_path("stray.gguf")), 0);
    expect_refused(folder_path("stray.gguf"), ERR_CORRUPT, "its name must end in -00002-of-00003.gguf");
    copy_file(MODEL, path_of(1));
    expect_refused(path_of(0), ERR_CORRUPT, "says that it is file 1 of 1");
    snprintf(name, sizeof(name), "%s", folder_path("alone-00002-of-00003.gguf"));
    copy_file(MODEL, name);
    struct model *m;
    assert_int_equal(model_open(&m, name, NULL), 0);
    model_close(&m);
}

static void test_a_damaged_file_is_refused_and_named(void **state)
{
    (void)state;
    struct gguf *g;
    struct error e;
    struct stat st;
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N});
    assert_int_equal(stat(path_of(1), &st), 0);
    for (int way = 0; way < 4; way++) {
        assert_int_equal(truncate(path_of(1), way == 0 ? st.st_size - 1000000 : way == 1 ? 100 : way == 2 ? 10 : 0), 0);
        for (uint32_t i = 0; i < N; i++) {
            assert_int_equal(gguf_open(&g, path_of(i), &e), ERR_CORRUPT);
            assert_null(g);
            assert_non_null(strstr(e.text, path_of(1)));
        }
    }
    assert_int_equal(unlink(path_of(1)), 0);
    assert_int_equal(mkdir(path_of(1), 0700), 0);
    assert_int_equal(gguf_open(&g, path_of(0), &e), ERR_INVALID);
    assert_non_null(strstr(e.text, path_of(1)));
}

/* ---- names ---- */

static void test_names_of_splits_are_told_from_others(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool split;
        size_t prefix;
        uint32_t number, count;
    } cases[] = {
        {"m-00001-of-00002.gguf", true, 1, 1, 2}, {"/a/m-00002-of-00002.gguf", true, 4, 2, 2},
        {"m-00000-of-00002.gguf", false, 0, 0, 0}, {"m-00003-of-00002.gguf", false, 0, 0, 0},
        {"-00001-of-00002.gguf", false, 0, 0, 0}, {"/-00001-of-00002.gguf", false, 0, 0, 0},
        {"m-0001-of-00002.gguf", false, 0, 0, 0}, {"m-00001-of-00002.ggu", false, 0, 0, 0},
        {"m-00001-of-00002.gguf.part", false, 0, 0, 0}, {"m-00001-off00002.gguf", false, 0, 0, 0},
        {"m 00001-of-00002.gguf", false, 0, 0, 0}, {"m-0000a-of-00002.gguf", false, 0, 0, 0},
        {"", false, 0, 0, 0}, {"x", false, 0, 0, 0},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        size_t n;
        uint32_t number, count;
        assert_int_equal(gguf_split_name(cases[i].path, &n, &number, &count), cases[i].split);
        if (cases[i].split) {
            assert_int_equal(n, cases[i].prefix);
            assert_int_equal(number, cases[i].number);
            assert_int_equal(count, cases[i].count);
        }
    }
    static const char *const names[][2] = {
        {"/x/qwen-00001-of-00005.gguf", "qwen"}, {"qwen.GGUF", "qwen"}, {"/x/qwen3/", "qwen3"}, {"/x/qwen3", "qwen3"},
        {"a.b.gguf", "a.b"}, {".gguf", ".gguf"}, {"/", "/"}, {"x-1-of-2.gguf", "x-1-of-2"},
    };
    for (size_t i = 0; i < COUNTOF(names); i++) {
        char *name = model_name_of(names[i][0]);
        assert_string_equal(name, names[i][1]);
        mem_free(name);
    }
}

static void test_files_of_a_set_are_looked_for_beside_what_was_given(void **state)
{
    (void)state;
    const struct file_set_entry one[] = {{"model.gguf", 1, 1}},
        two[] = {{"model-00001-of-00002.gguf", 1, 1}, {"model-00002-of-00002.gguf", 1, 1}},
        hf[] = {{"config.json", 1, 1}, {"model.safetensors", 1, 1}};
    char folder[200], want[300];
    snprintf(folder, sizeof(folder), "%s", folder_path("a-folder"));
    snprintf(want, sizeof(want), "%s/model.safetensors", folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    const struct {
        const char *path;
        const struct file_set_entry *entries;
        size_t n, i;
        const char *want;
    } cases[] = {
        {"/x/any name", one, 1, 0, "/x/any name"},
        {"/x/q-00001-of-00002.gguf", two, 2, 1, "/x/q-00002-of-00002.gguf"},
        {"/x/q-00002-of-00002.gguf", two, 2, 0, "/x/q-00001-of-00002.gguf"},
        {"/x/q-00001-of-00003.gguf", two, 2, 1, NULL},
        {"/x/q.gguf", two, 2, 1, NULL},
        {folder, hf, 2, 1, want},
        {"/x/config.json", hf, 2, 1, NULL},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        char *path = model_locate(cases[i].path, cases[i].entries, cases[i].n, cases[i].i);
        if (cases[i].want)
            assert_string_equal(path, cases[i].want);
        else
            assert_null(path);
        mem_free(path);
    }
    char *path = model_path_in("/c", two, 2), *other = model_path_in("/c", hf, 2);
    assert_string_equal(path, "/c/model-00001-of-00002.gguf");
    assert_string_equal(other, "/c");
    mem_free(path);
    mem_free(other);
}

static void test_stretches_cover_the_tensors_of_a_range(void **state)
{
    (void)state;
    struct model *m;
    splits_write(MODEL, new_prefix(), &(struct splits_options){.n = N, .file_of = splits_by_layer});
    assert_int_equal(model_open(&m, path_of(0), NULL), 0);
    for (uint32_t first = 0; first < LAYERS; first++) {
        struct layer_range r = {first, first + 1, first == 0, first == LAYERS - 1};
        size_t n;
        struct file_stretch *s = model_range_stretches(m, &r, &n);
        uint64_t bytes = 0;
        for (size_t i = 0; i < n; i++) {
            assert_true(i == 0 || s[i].file > s[i - 1].file || s[i].offset > s[i - 1].offset + s[i - 1].bytes);
            bytes += s[i].bytes;
        }
        assert_true(bytes >= model_range_bytes(m, &r) && bytes < model_range_bytes(m, &r) + n * 32);
        for (size_t i = 0; i < model_tensor_count(m); i++) {
            const struct model_tensor *t = model_tensor_at(m, i);
            size_t covers = 0;
            for (size_t k = 0; k < n; k++)
                covers += s[k].file == t->info->file && s[k].offset <= t->info->offset &&
                          t->info->offset + t->info->bytes <= s[k].offset + s[k].bytes;
            assert_int_equal(covers, model_in_range(m, t, &r));
        }
        mem_free(s);
    }
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_of_its_paths_opens_the_whole_model),
        cmocka_unit_test(test_its_files_are_one_run),
        cmocka_unit_test(test_layers_whose_files_are_here_give_the_same_logits),
        cmocka_unit_test(test_a_range_is_refused_only_when_its_file_is_absent),
        cmocka_unit_test(test_the_file_that_is_needed_is_named),
        cmocka_unit_test(test_a_layer_that_lacks_one_tensor_is_not_loaded),
        cmocka_unit_test(test_an_embedding_that_is_absent_is_missed_at_both_ends),
        cmocka_unit_test(test_a_tied_head_is_known_by_the_count_of_tensors),
        cmocka_unit_test(test_the_first_file_is_always_needed),
        cmocka_unit_test(test_files_that_contradict_each_other_are_refused),
        cmocka_unit_test(test_a_file_of_another_model_is_refused),
        cmocka_unit_test(test_a_damaged_file_is_refused_and_named),
        cmocka_unit_test(test_names_of_splits_are_told_from_others),
        cmocka_unit_test(test_files_of_a_set_are_looked_for_beside_what_was_given),
        cmocka_unit_test(test_stretches_cover_the_tensors_of_a_range),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
