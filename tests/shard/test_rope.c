/* test_rope: inverse frequencies of every kind of scaling, against the formulas and against published figures. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shard/arch/arch.h"
#include "shard/arch/synth.h"
#include "tests/shard/folder.h"
#include "tests/shard/raw.h"

enum { PAIRS_MAX = 64 };

/* What a model's file says of RoPE. */
struct said {
    uint32_t n_rot;       /* heads are of 128 */
    double base;
    const char *type;     /* NULL: not said */
    double factor;        /* 0: not said */
    const char *factor_key;
    uint32_t context;     /* 0: not said */
    double attn_factor;   /* 0: not said */
    const float *divisors; /* NULL: no tensor */
};

static void write_said(struct raw *r, const struct said *s)
{
    const uint64_t half[1] = {s->n_rot / 2};
    raw_u32(r, "llama.rope.dimension_count", s->n_rot);
    raw_f32(r, "llama.rope.freq_base", (float)s->base);
    if (s->type)
        raw_string(r, "llama.rope.scaling.type", s->type);
    if (s->factor != 0)
        raw_f32(r, s->factor_key ? s->factor_key : "llama.rope.scaling.factor", (float)s->factor);
    if (s->context)
        raw_u32(r, "llama.rope.scaling.original_context_length", s->context);
    if (s->attn_factor != 0)
        raw_f32(r, "llama.rope.scaling.attn_factor", (float)s->attn_factor);
    if (s->divisors)
        raw_tensor(r, "rope_freqs.weight", QTYPE_F32, 1, half, s->divisors, s->n_rot / 2 * sizeof(float));
}

/* The frequencies that a llama model of these words gets. */
static void frequencies(const struct said *s, float inv[PAIRS_MAX], float *scale)
{
    static const struct synth_options o = {.family = "llama", .layers = 1, .hidden = 128, .heads = 1, .ffn = 32,
                                           .vocab = 8, .context = 131072, .type = "f32"};
    static const char *const kept[] = {"general.architecture", "llama.block_count", "llama.context_length",
                                       "llama.embedding_length", "llama.feed_forward_length",
                                       "llama.attention.head_count"};
    struct error e = {0};
    struct gguf *g;
    struct model *m = NULL;
    struct raw r;
    assert_int_equal(synth_write(folder_path("plain.gguf"), &o, &e), 0);
    assert_int_equal(gguf_open(&g, folder_path("plain.gguf"), &e), 0);
    raw_open(&r);
    raw_copy(&r, g, NULL, NULL);
    buffer_clear(&r.values);
    r.n_values = 0;
    raw_string(&r, kept[0], "llama");
    for (size_t i = 1; i < COUNTOF(kept); i++) {
        uint64_t v;
        assert_true(gguf_get_u64(g, kept[i], &v));
        raw_u32(&r, kept[i], (uint32_t)v);
    }
    raw_f32(&r, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
    gguf_close(&g);
    write_said(&r, s);
    raw_write(&r, "roped.gguf");
    raw_close(&r);
    if (model_open(&m, folder_path("roped.gguf"), &e) != 0)
        fail_msg("%s", e.text);
    memset(inv, 0xFF, PAIRS_MAX * sizeof(*inv));
    model_rope(m, inv, scale);
    model_close(&m);
}

static void check_near(double got, double want, uint32_t pair)
{
    if (!(fabs(got - want) <= 2e-7 * fabs(want)))
        fail_msg("pair %u: %.9g, and it should be %.9g", pair, got, want);
}

static void test_plain_frequencies(void **state)
{
    static const struct said cases[] = {
        {.n_rot = 128, .base = 10000},
        {.n_rot = 128, .base = 1e6, .type = "none", .factor = 4},
        {.n_rot = 64, .base = 500000}, /* the first half of a head */
        {.n_rot = 128, .base = 10000, .type = "linear"},
    };
    float inv[PAIRS_MAX], scale;
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        frequencies(&cases[i], inv, &scale);
        for (uint32_t p = 0; p < cases[i].n_rot / 2; p++)
            check_near(inv[p], pow(cases[i].base, -2.0 * p / cases[i].n_rot), p);
        if (cases[i].n_rot < 128)
            assert_true(isnan(inv[cases[i].n_rot / 2])); /* and no more than half of n_rot are written */
        assert_true(scale == 1);
    }
}

static void test_linear_divides_all(void **state)
{
    static const struct said cases[] = {
        {.n_rot = 128, .base = 10000, .type = "linear", .factor = 4},
        {.n_rot = 128, .base = 10000, .factor = 4}, /* a factor without a type */
        {.n_rot = 128, .base = 10000, .factor = 4, .factor_key = "llama.rope.scale_linear"},
    };
    float inv[PAIRS_MAX], scale;
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        frequencies(&cases[i], inv, &scale);
        for (uint32_t p = 0; p < 64; p++)
            check_near(inv[p], pow(10000, -2.0 * p / 128) / 4, p);
        assert_true(scale == 1);
    }
}

/* d(turns) of the yarn paper's ramp. */
static double yarn_place(const struct said *s, double turns)
{
    return s->n_rot * log(s->context / (2 * 3.14159265358979323846 * turns)) / (2 * log(s->base));
}

static void test_yarn_mixes_by_the_formula(void **state)
{
    static const struct said cases[] = {
        {.n_rot = 128, .base = 1e6, .type = "yarn", .factor = 4, .context = 32768},
        {.n_rot = 64, .base = 10000, .type = "yarn", .factor = 40, .context = 4096},
        {.n_rot = 32, .base = 10000, .type = "yarn", .factor = 4, .context = 128},
        {.n_rot = 128, .base = 10000, .type = "yarn", .factor = 2.5, .context = 64}, /* the ramp is cut at 0 */
        {.n_rot = 128, .base = 5e5, .type = "yarn", .factor = 8, .context = 8192, .attn_factor = 0.5},
    };
    float inv[PAIRS_MAX], scale;
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        const struct said *s = &cases[i];
        double low = fmax(floor(yarn_place(s, 32)), 0), high = fmin(ceil(yarn_place(s, 1)), s->n_rot - 1);
        frequencies(s, inv, &scale);
        for (uint32_t p = 0; p < s->n_rot / 2; p++) {
            double plain = pow(s->base, -2.0 * p / s->n_rot);
            double ramp = fmin(fmax((p - low) / fmax(high - low, 0.001), 0), 1);
            check_near(inv[p], plain * (1 - ramp) + plain / s->factor * ramp, p);
        }
        check_near(scale, (0.1 * log(s->factor) + 1) * (s->attn_factor != 0 ? s->attn_factor : 1), 0);
    }
}

struct figure {
    uint32_t pair;
    double value;
};

/* Worked numbers of others: Qwen3 with yarn 4, and the frequencies of DeepSeek V3. */
static void test_yarn_gives_published_figures(void **state)
{
    static const struct figure qwen[] = {{0, 1}, {23, 0.00697830585}, {24, 0.00537532149}, {30, 0.00106436098},
                                         {39, 6.49039432e-05}, {40, 4.44569853e-05}, {63, 3.1023444e-07}};
    static const struct figure deepseek[] = {{5, 0.237137371}, {10, 0.0562341325}, {11, 0.0390069266}, {16, 0.0055},
                                             {22, 0.000177827941}, {23, 3.33380358e-05}, {31, 3.33380358e-06}};
    float inv[PAIRS_MAX], scale;
    (void)state;
    frequencies(&(struct said){.n_rot = 128, .base = 1e6, .type = "yarn", .factor = 4, .context = 32768}, inv, &scale);
    for (size_t i = 0; i < COUNTOF(qwen); i++)
        check_near(inv[qwen[i].pair], qwen[i].value, qwen[i].pair);
    assert_true(fabs(scale - 1.138629) < 1e-6);
    frequencies(&(struct said){.n_rot = 64, .base = 1e4, .type = "yarn", .factor = 40, .context = 4096}, inv, &scale);
    for (size_t i = 0; i < COUNTOF(deepseek); i++)
        check_near(inv[deepseek[i].pair], deepseek[i].value, deepseek[i].pair);
}

/* Llama 3.1's divisors (factor 8, low 1, high 4, context 8192), as its converter computes them. */
static float llama3_divisor(double inv)
{
    double wave = 2 * 3.14159265358979323846 / inv, turns = 8192 / wave;
    if (turns > 4)
        return 1;
    if (turns < 1)
        return 8;
    double smooth = (turns - 1) / (4 - 1);
    return (float)(1 / ((1 - smooth) / 8 + smooth));
}

static void test_llama3_divides_each(void **state)
{
    static const struct figure published[] = {{0, 1}, {28, 1}, {29, 1.20748387}, {30, 1.55341463}, {32, 2.69452969},
                                              {34, 5.25732659}, {35, 8}, {63, 8}};
    float divisors[PAIRS_MAX], inv[PAIRS_MAX], scale;
    (void)state;
    for (uint32_t p = 0; p < PAIRS_MAX; p++)
        divisors[p] = llama3_divisor(pow(500000, -2.0 * p / 128));
    for (size_t i = 0; i < COUNTOF(published); i++)
        check_near(divisors[published[i].pair], published[i].value, published[i].pair);
    frequencies(&(struct said){.n_rot = 128, .base = 500000, .divisors = divisors}, inv, &scale);
    for (uint32_t p = 0; p < PAIRS_MAX; p++)
        check_near(inv[p], pow(500000, -2.0 * p / 128) / divisors[p], p);
    assert_true(scale == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_frequencies),
        cmocka_unit_test(test_linear_divides_all),
        cmocka_unit_test(test_yarn_mixes_by_the_formula),
        cmocka_unit_test(test_yarn_gives_published_figures),
        cmocka_unit_test(test_llama3_divides_each),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
