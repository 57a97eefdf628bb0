/* test_sizes: what ranges weigh, what a token reads, and what a shard takes beside, against counts by hand and against
 * what is really taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/cpu.h"
#include "shard/arch/arch.h"
#include "shard/arch/synth.h"
#include "shard/run/shard.h"
#include "tests/shard/folder.h"

static const char demo[] = "tests/data/shoal-demo-q8_0.gguf";

static struct model *open_model(const char *path)
{
    struct error e = {0};
    struct model *m = NULL;
    if (model_open(&m, path, &e) != 0)
        fail_msg("%s", e.text);
    return m;
}

static struct model *make(const struct synth_options *o)
{
    struct error e = {0};
    if (synth_write(folder_path("made.gguf"), o, &e) != 0)
        fail_msg("%s", e.text);
    return open_model(folder_path("made.gguf"));
}

static struct synth_options tied_dense(void)
{
    return (struct synth_options){.family = "qwen3", .layers = 4, .hidden = 128, .heads = 4, .kv_heads = 2, .ffn = 256,
                                  .vocab = 300, .type = "q8_0", .tied = true};
}

static struct synth_options untied_experts(void)
{
    return (struct synth_options){.family = "llama", .layers = 4, .hidden = 128, .heads = 4, .kv_heads = 1,
                                  .experts = 8, .experts_used = 2, .expert_ffn = 64, .vocab = 300, .type = "q4_k_m"};
}

/* Demo model: 6 layers, hidden 256, 4 heads and 2 KV heads of 64, 8 experts of 256 with 2 used, vocabulary 2048, tied.
 *   attention  q, out 256*256 each, k, v 256*128 each, two norms of 64         = 196,608 + 128
 *   experts    router 256*8, each 3*256*256                                    =   2,048 + 8 * 196,608
 *   norms      2*256; in all 6 * 1,772,160 + embedding 524,288 + last norm 256 = 11,157,504
 *   a token    with 2 of 8 experts 6 * 592,512 + 524,288 + 256                 =  4,079,616                          */
static void test_demo_parameters_by_hand(void **state)
{
    (void)state;
    struct model *m = open_model(demo);
    assert_int_equal(model_params_total(m), 11157504);
    assert_int_equal(model_params_active(m), 4079616);
    assert_false(model_is_f32(m));
    model_close(&m);
}

/* Q8_0 stores 32 values in 34 bytes; router and norms are F32. */
static void test_demo_bytes_by_hand(void **state)
{
    static const struct layer_range all = {0, 6, true, true}, first = {0, 2, true, false};
    static const struct layer_range middle = {2, 4, false, false};
    const uint64_t attention = 196608 / 32 * 34 + 128 * 4, expert = 196608 / 32 * 34, small = (2048 + 512) * 4;
    const uint64_t layer = attention + 8 * expert + small, embedding = 524288 / 32 * 34;
    (void)state;
    struct model *m = open_model(demo);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(model_layer_bytes(m, i), layer);
    assert_int_equal(model_range_bytes(m, &all), 6 * layer + embedding + 256 * 4);
    assert_int_equal(model_range_bytes(m, &first), 2 * layer + embedding);
    assert_int_equal(model_range_bytes(m, &middle), 2 * layer);
    const uint64_t read = attention + 2 * expert + small;
    assert_int_equal(model_range_bytes_per_token(m, &all), 6 * read + embedding + 256 * 4);
    assert_int_equal(model_range_bytes_per_token(m, &first), 2 * read + 256 / 32 * 34);
    assert_int_equal(model_range_bytes_per_token(m, &middle), 2 * read);
    assert_int_equal(model_kv_bytes_per_token(m, 6, KV_F16), 6 * 2 * (64 + 64) * 2);
    assert_int_equal(model_kv_bytes_per_token(m, 1, KV_F32), 2 * (64 + 64) * 4);
    model_close(&m);
}

static uint64_t tensor_bytes(const struct model *m)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < gguf_tensor_count(model_file(m)); i++)
        bytes += gguf_tensor_at(model_file(m), i)->bytes;
    return bytes;
}

/* However a model is cut, its stages hold all of it, and only a tied embedding twice. */
static void test_ranges_partition_the_bytes(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct synth_options o = kind ? untied_experts() : tied_dense();
        struct model *m = make(&o);
        uint64_t twice = o.tied ? model_output(m)->info->bytes : 0;
        for (uint32_t a = 0; a <= 4; a++) {
            for (uint32_t b = a; b <= 4; b++) {
                struct layer_range r[3] = {{0, a, true, false}, {a, b, false, false}, {b, 4, false, true}};
                uint64_t sum = 0, read = 0;
                for (size_t i = 0; i < COUNTOF(r); i++) {
                    sum += model_range_bytes(m, &r[i]);
                    read += model_range_bytes_per_token(m, &r[i]);
                }
                assert_int_equal(sum, tensor_bytes(m) + twice);
                struct layer_range all = {0, 4, true, true};
                uint64_t row = model_tensor_find(m, ROLE_EMBEDDING, -1)->info->bytes / o.vocab;
                assert_int_equal(read, model_range_bytes_per_token(m, &all) + (o.tied ? row : 0));
            }
        }
        struct layer_range all = {0, 4, true, true};
        assert_int_equal(model_range_bytes(m, &all), tensor_bytes(m));
        model_close(&m);
    }
}

static void test_every_tensor_is_in_one_stage(void **state)
{
    static const struct layer_range stages[] = {{0, 1, true, false}, {1, 3, false, false}, {3, 4, false, true}};
    (void)state;
    struct synth_options o = untied_experts();
    struct model *m = make(&o);
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        int n = 0;
        for (size_t s = 0; s < COUNTOF(stages); s++)
            n += model_in_range(m, model_tensor_at(m, i), &stages[s]);
        assert_int_equal(n, 1);
    }
    model_close(&m);
}

static void test_f32_models_are_known(void **state)
{
    (void)state;
    struct synth_options o = untied_experts();
    o.type = "f32";
    struct model *m = make(&o);
    assert_true(model_is_f32(m));
    model_close(&m);
    o.type = "f16";
    m = make(&o);
    assert_false(model_is_f32(m));
    model_close(&m);
}

/* What a shard and its device really take. */
static uint64_t scratch_taken(struct device *d, const struct model *m, const struct layer_range *r, uint32_t rows)
{
    struct error e = {0};
    struct shard *s = NULL;
    struct shard_stats stats;
    struct shard_options o = {.range = *r, .kv_tokens = 64, .sequences_max = 1, .batch_rows_max = rows};
    if (shard_open(&s, d, m, &o, &e) != 0)
        fail_msg("%s", e.text);
    shard_stats(s, &stats);
    uint64_t taken = stats.bytes_scratch + ((const struct cpu *)(const void *)d)->scratch.n_bytes;
    shard_close(&s);
    return taken;
}

static void test_scratch_is_never_more_than_said(void **state)
{
    static const uint32_t rows[] = {1, 7, 64, 512, STEP_ROWS_MAX};
    static const struct layer_range ranges[] = {{0, 4, true, true}, {0, 2, true, false}, {3, 4, false, true}};
    struct error e = {0};
    struct device *d;
    (void)state;
    assert_int_equal(backend_open(&d, "cpu", &(struct device_options){.threads = 2}, &e), 0);
    for (size_t kind = 0; kind < 1 + arch_count(); kind++) {
        bool dense = kind == 0 || !(arch_at(kind - 1)->flags & ARCH_MOE);
        struct synth_options o = dense ? tied_dense() : untied_experts();
        o.family = kind == 0 ? o.family : arch_at(kind - 1)->name;
        struct model *m = make(&o);
        for (size_t i = 0; i < COUNTOF(rows) * COUNTOF(ranges); i++) {
            const struct layer_range *r = &ranges[i % COUNTOF(ranges)];
            uint64_t said = model_scratch_bytes(m, r, rows[i / COUNTOF(ranges)], 0);
            uint64_t taken = scratch_taken(d, m, r, rows[i / COUNTOF(ranges)]);
            if (said < taken || said > taken + taken / 2 + (17 << 20))
                fail_msg("%s: %u rows of layers %u-%u take %llu bytes, %llu were said", o.family,
                         rows[i / COUNTOF(ranges)], r->first, r->last, (unsigned long long)taken,
                         (unsigned long long)said);
        }
        model_close(&m);
    }
    backend_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demo_parameters_by_hand),
        cmocka_unit_test(test_demo_bytes_by_hand),
        cmocka_unit_test(test_ranges_partition_the_bytes),
        cmocka_unit_test(test_every_tensor_is_in_one_stage),
        cmocka_unit_test(test_f32_models_are_known),
        cmocka_unit_test(test_scratch_is_never_more_than_said),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
