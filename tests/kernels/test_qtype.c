/* test_qtype: storage types against what ggml stored and read: sizes, values, and how well the house writes them.
 *
 * The goldens hold 6 rows quantised by ggml.  Their source is not kept; the F16 file is its nearest copy
 * (2e-4 away), so the house's quantisers are measured against that.                                     */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "kernels/quant/blocks.h"

static const char *goldens(void)
{
    const char *folder = getenv("SHOAL_GOLDENS");
    return folder && *folder ? folder : "../shared/goldens";
}

/* A whole file of the goldens' quants, or NULL. The caller frees it. */
static void *read_golden(const char *name, const char *ending, size_t *bytes)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/quants/%s.%s", goldens(), name, ending);
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *bytes = (size_t)ftell(f);
    rewind(f);
    void *p = malloc(*bytes + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *bytes, f), *bytes);
    fclose(f);
    return p;
}

static json_t *read_index(void)
{
    char path[512];
    json_error_t error;
    snprintf(path, sizeof(path), "%s/quants/index.json", goldens());
    json_t *index = json_load_file(path, 0, &error);
    if (!index) {
        print_message("    no goldens: %s: %s\n", path, error.text);
        skip();
    }
    return index;
}

static double number(const json_t *entry, const char *key)
{
    const json_t *v = json_object_get(entry, key);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

/* ---- reading ---- */

/* Equal, or neighbours: a half's scale times an integer is rounded once or twice. */
static bool same_or_next(float a, float b)
{
    return a == b || nextafterf(a, b) == b;
}

static void check_golden(const char *name, const struct qtype *type, const json_t *entry)
{
    size_t n_blocks_bytes, n_float_bytes;
    uint8_t *blocks = read_golden(name, "bin", &n_blocks_bytes);
    float *want = read_golden(name, "f32", &n_float_bytes);
    assert_non_null(blocks);
    assert_non_null(want);
    size_t n = n_float_bytes / sizeof(float);
    assert_int_equal(type->id, (uint32_t)number(entry, "id"));
    assert_int_equal(type->block_len, (uint32_t)number(entry, "block"));
    assert_int_equal(type->block_bytes, (uint32_t)number(entry, "bytes"));
    assert_int_equal(n, (size_t)(number(entry, "rows") * number(entry, "cols")));
    assert_int_equal(qtype_row_bytes(type, n), n_blocks_bytes);
    float *got = malloc(n * sizeof(*got));
    assert_non_null(got);
    type->to_f32(blocks, got, n);
    for (size_t i = 0; i < n; i++)
        if (!same_or_next(want[i], got[i]))
            fail_msg("%s: value %zu is %a, not %a", name, i, (double)got[i], (double)want[i]);
    print_message("    %s: %zu values\n", name, n);
    free(got);
    free(blocks);
    free(want);
}

static void test_qtype_reads_what_ggml_wrote(void **state)
{
    (void)state;
    json_t *index = read_index();
    size_t i, known = 0;
    const json_t *entry;
    json_array_foreach(index, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "type"));
        assert_non_null(name);
        const struct qtype *type = qtype_by_name(name);
        if (!type)
            continue;
        check_golden(name, type, entry);
        known++;
    }
    json_decref(index);
    assert_true(known > 0);
}

/* Blocks of bytes (73*i + 19) & 255 with d = 1 and m or dmin = 0.5 where they lie; MXFP4 with a scale of 2. */
static const struct {
    enum qtype_id type;
    int d_at, m_at; /* -1: none */
    float first, last, sum;
} vectors[] = {
    {QTYPE_Q4_0, 0, -1, -3, 6, -7},          {QTYPE_Q4_1, 0, 2, 7.5F, 7.5F, 251},
    {QTYPE_Q5_0, 0, -1, 9, 1, -19},          {QTYPE_Q5_1, 0, 2, 27.5F, 10.5F, 447},
    {QTYPE_Q8_0, 0, -1, -91, 124, 272},      {QTYPE_IQ4_NL, 0, -1, -35, 89, -63},
    {QTYPE_MXFP4, -1, -1, -4, -2, 8},        {QTYPE_Q2_K, 80, 82, 8.5F, 17.5F, 1912},
    {QTYPE_Q3_K, 108, -1, 57, 0, 608},       {QTYPE_Q4_K, 0, 2, 151.5F, 127.5F, 41288},
    {QTYPE_Q5_K, 0, 2, 1031.5F, 147.5F, 95112}, {QTYPE_Q6_K, 208, -1, -855, 104, 12300},
    {QTYPE_IQ4_XS, 0, -1, -342, 221, -22240}, {QTYPE_TQ1_0, 52, -1, -1, 0, -5},
    {QTYPE_TQ2_0, 64, -1, 2, -1, 123},       {QTYPE_IQ2_XXS, 0, -1, -21, -19, 172.375F},
    {QTYPE_IQ2_XS, 0, -1, -11, 29, 1032},    {QTYPE_IQ2_S, 0, -1, -84.375F, -26.875F, 366.5F},
    {QTYPE_IQ3_XXS, 0, -1, -25, 161, 1257},  {QTYPE_IQ3_S, 0, -1, -189, 55, -734},
    {QTYPE_IQ1_S, 0, -1, -0.875F, 1.125F, -47},
};

static void test_qtype_reads_known_blocks(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNTOF(vectors); t++) {
        const struct qtype *type = qtype_find(vectors[t].type);
        const uint16_t one = 0x3c00, half = 0x3800;
        uint8_t block[QTYPE_BLOCK_LEN_MAX];
        float y[QTYPE_BLOCK_LEN_MAX], sum = 0;
        for (uint32_t i = 0; i < type->block_bytes; i++)
            block[i] = (uint8_t)(73 * i + 19);
        if (vectors[t].d_at >= 0)
            memcpy(block + vectors[t].d_at, &one, sizeof(one));
        if (vectors[t].m_at >= 0)
            memcpy(block + vectors[t].m_at, &half, sizeof(half));
        if (type->id == QTYPE_MXFP4)
            block[0] = 128;
        type->to_f32(block, y, type->block_len);
        for (uint32_t i = 0; i < type->block_len; i++)
            sum += y[i];
        if (y[0] != vectors[t].first || y[type->block_len - 1] != vectors[t].last || sum != vectors[t].sum)
            fail_msg("%s: %g ... %g, sum %g", type->name, (double)y[0], (double)y[type->block_len - 1], (double)sum);
    }
}

/* What is put into the house's own types comes out, whatever the codes. */
static void check_int(const struct qtype *type)
{
    static const float scales[] = {0, 1, -0.375F, 0x1.fcp-7F, 0x1p-24F, -65504};
    unsigned bits = (type->id - QTYPE_OWN) / 10;
    for (uint32_t zero = 0; zero <= 1U << bits; zero += bits == 8 ? 16 : 1) {
        for (size_t s = 0; s < COUNTOF(scales); s++) {
            uint8_t codes[128], block[160];
            float y[128], scale = scales[s];
            if (type->id == QTYPE_INT4B_32 && (zero != 8 || scale == -65504))
                continue;
            scale = type->id % 10 == 3 ? scale * 1.0000001F : scale;
            for (uint32_t i = 0; i < type->block_len; i++)
                codes[i] = (uint8_t)((37 * i + 11 * zero + i / 32) & ((1U << bits) - 1));
            memset(block, 0xa5, sizeof(block));
            qtype_put_int(type, codes, scale, zero, block);
            assert_int_equal(block[type->block_bytes], 0xa5);
            type->to_f32(block, y, type->block_len);
            for (uint32_t i = 0; i < type->block_len; i++)
                assert_true(y[i] == scale * (float)((int)codes[i] - (int)zero));
        }
    }
}

static float fp8_value(unsigned v)
{
    int exponent = (int)(v >> 3 & 15), fraction = (int)(v & 7);
    float f = exponent == 0 ? ldexpf((float)fraction, -9) : ldexpf((float)(8 + fraction), exponent - 10);
    return v & 0x80 ? -f : f;
}

static void check_fp8(const struct qtype *type)
{
    uint8_t codes[128], block[132];
    float y[128];
    for (unsigned first = 0; first < 256; first += type->block_len) {
        for (uint32_t i = 0; i < type->block_len; i++)
            codes[i] = (uint8_t)(first + i);
        qtype_put_fp8(type, codes, 0.3F, block);
        type->to_f32(block, y, type->block_len);
        for (uint32_t i = 0; i < type->block_len; i++)
            assert_true(y[i] == fp8_value(codes[i]) * 0.3F);
    }
}

static void test_qtype_own_types_keep_values(void **state)
{
    (void)state;
    const struct qtype *type;
    for (size_t t = 0; (type = qtype_at(t)) != NULL; t++) {
        if (type->id >= QTYPE_FP8_32)
            check_fp8(type);
        else if (type->id >= QTYPE_OWN)
            check_int(type);
    }
}

/* ---- writing ---- */

static double relative_error(const float *x, const float *y, size_t n)
{
    double wrong = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        wrong += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        all += (double)x[i] * x[i];
    }
    return sqrt(wrong / all);
}

/* From the source's nearest copy to blocks and back: at most 2 % worse than ggml's quantiser. */
static void check_written(const struct qtype *type, const json_t *entry, const float *source, size_t n)
{
    size_t bytes = qtype_row_bytes(type, n);
    uint8_t *blocks = malloc(bytes);
    float *back = malloc(n * sizeof(*back));
    assert_non_null(blocks);
    assert_non_null(back);
    type->from_f32(source, blocks, n);
    type->to_f32(blocks, back, n);
    double got = relative_error(source, back, n), want = number(entry, "rel_rmse");
    print_message("    %s: %.5f, ggml %.5f\n", type->name, got, want);
    assert_true(got <= want * 1.02 + 1e-5);
    free(blocks);
    free(back);
}

static void test_qtype_writes_as_well_as_ggml(void **state)
{
    (void)state;
    json_t *index = read_index();
    size_t i, bytes;
    const json_t *entry;
    float *source = read_golden("F16", "f32", &bytes);
    if (!source) {
        print_message("    no F16.f32 to take values from\n");
        json_decref(index);
        skip();
    }
    json_array_foreach(index, i, entry) {
        const struct qtype *type = qtype_by_name(json_string_value(json_object_get(entry, "type")));
        if (type && type->from_f32)
            check_written(type, entry, source, bytes / sizeof(float));
    }
    free(source);
    json_decref(index);
}

/* What writing must survive: zeros, one value, huge and tiny ones; what is read back is finite and near. */
static void check_odd_row(const struct qtype *type, const float *x, size_t n, double slack)
{
    uint8_t blocks[QTYPE_BLOCK_LEN_MAX * sizeof(float)];
    float back[QTYPE_BLOCK_LEN_MAX], top = 0;
    type->from_f32(x, blocks, n);
    type->to_f32(blocks, back, n);
    for (size_t i = 0; i < n; i++)
        top = fmaxf(top, fabsf(x[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)back[i] - x[i]) <= slack * top + 1e-7))
            fail_msg("%s: value %zu of %g comes back as %g", type->name, i, (double)x[i], (double)back[i]);
}

static void test_qtype_writes_odd_rows(void **state)
{
    (void)state;
    const struct qtype *type;
    float x[QTYPE_BLOCK_LEN_MAX];
    for (size_t t = 0; (type = qtype_at(t)) != NULL; t++) {
        if (!type->from_f32)
            continue;
        double slack = type->id == QTYPE_MXFP4 ? 0.26 : type->id == QTYPE_Q4_0 ? 0.13 : 0.07;
        memset(x, 0, sizeof(x));
        check_odd_row(type, x, COUNTOF(x), slack);
        for (size_t at = 0; at < COUNTOF(x); at += 37) {
            memset(x, 0, sizeof(x));
            x[at] = at % 2 ? 3 : -3;
            check_odd_row(type, x, COUNTOF(x), slack);
        }
        for (size_t i = 0; i < COUNTOF(x); i++)
            x[i] = 5;
        check_odd_row(type, x, COUNTOF(x), slack);
        for (size_t i = 0; i < COUNTOF(x); i++)
            x[i] = (i % 3 ? 1.0F : -1.0F) * 0.001F * (float)(i % 16);
        check_odd_row(type, x, COUNTOF(x), slack);
    }
}

/* ---- table and sizes ---- */

static void test_qtype_is_found_by_id_and_by_name(void **state)
{
    (void)state;
    const struct qtype *type;
    size_t n = 0;
    for (; (type = qtype_at(n)) != NULL; n++) {
        char lower[16];
        snprintf(lower, sizeof(lower), "%s", type->name);
        for (char *c = lower; *c; c++)
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
        assert_ptr_equal(qtype_find(type->id), type);
        assert_ptr_equal(qtype_by_name(type->name), type);
        assert_ptr_equal(qtype_by_name(lower), type);
        assert_true(type->block_len > 0 && type->block_len <= QTYPE_BLOCK_LEN_MAX);
    }
    assert_int_equal(n, 26 + 19);
    assert_null(qtype_find(4)); /* was never given a meaning that lasted */
    assert_null(qtype_find(UINT32_MAX));
    assert_null(qtype_by_name("Q4_K_M"));
    assert_null(qtype_by_name(""));
}

static void test_qtype_row_bytes_refuses_parts_and_overflow(void **state)
{
    (void)state;
    const struct qtype *k = qtype_find(QTYPE_Q4_K), *f32 = qtype_find(QTYPE_F32);
    assert_int_equal(qtype_row_bytes(k, 1024), 4 * 144);
    assert_int_equal(qtype_row_bytes(k, 0), 0);
    assert_int_equal(qtype_row_bytes(k, 255), 0);
    assert_int_equal(qtype_row_bytes(k, 257), 0);
    assert_int_equal(qtype_row_bytes(f32, 3), 12);
    assert_int_equal(qtype_row_bytes(f32, UINT64_MAX), 0);
    assert_int_equal(qtype_row_bytes(f32, SIZE_MAX / 4), SIZE_MAX / 4 * 4);
    assert_int_equal(qtype_row_bytes(f32, SIZE_MAX / 4 + 1), 0);
}

/* ---- half floats ---- */

static void test_qtype_halves_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h);
        bool nan = (h & 0x7fff) > 0x7c00;
        assert_int_equal(isnan(f), nan);
        if (!nan) {
            double value = ldexp((double)((h & 0x3ff) | (h & 0x7c00 ? 0x400 : 0)),
                                 (h & 0x7c00 ? (int)(h >> 10 & 31) : 1) - 25);
            if ((h & 0x7c00) != 0x7c00)
                assert_true(fabs((double)f) == value);
            assert_int_equal(f32_to_f16(f), h);
        }
        float b = bf16_to_f32((uint16_t)h);
        if (!isnan(b))
            assert_int_equal(f32_to_bf16(b), h);
    }
    assert_true(isnan(f16_to_f32(f32_to_f16(NAN))));
    assert_true(isnan(bf16_to_f32(f32_to_bf16(NAN))));
}

static void test_qtype_halves_round_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        float from;
        uint16_t half, brain;
    } cases[] = {
        {1 + 0x1p-11F, 0x3c00, 0x3f80},          /* a tie: down to even */
        {1 + 0x1.8p-10F, 0x3c02, 0x3f80},        /* a tie: up to even */
        {1 + 0x1.002p-11F, 0x3c01, 0x3f80},      /* just above a tie */
        {65519, 0x7bff, 0x4780},                 /* the largest that does not overflow */
        {65520, 0x7c00, 0x4780},                 /* a tie, to infinity */
        {0x1p-25F, 0x0000, 0x3300},              /* half the least subnormal: to zero */
        {0x1.8p-24F, 0x0002, 0x33c0},            /* a tie between 1 and 2 */
        {-0x1p-24F, 0x8001, 0xb380},             /* the least subnormal */
        {1 + 0x1p-8F, 0x3c04, 0x3f80},           /* bf16: a tie, down */
        {1 + 0x1.8p-7F, 0x3c0c, 0x3f82},         /* bf16: a tie, up */
        {3.4028235e38F, 0x7c00, 0x7f80},         /* both overflow */
        {-INFINITY, 0xfc00, 0xff80},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        assert_int_equal(f32_to_f16(cases[i].from), cases[i].half);
        assert_int_equal(f32_to_bf16(cases[i].from), cases[i].brain);
    }
}

static void test_qtype_k_scales_round_trip(void **state)
{
    (void)state;
    uint8_t scale[8], min[8], packed[12], scale_back[8], min_back[8];
    for (unsigned shift = 0; shift < 64; shift++) {
        for (unsigned g = 0; g < 8; g++) {
            scale[g] = (uint8_t)((g * 9 + shift) & 63);
            min[g] = (uint8_t)((g * 23 + 5 * shift) & 63);
        }
        k_scales_pack(scale, min, packed);
        k_scales_unpack(packed, scale_back, min_back);
        assert_memory_equal(scale, scale_back, sizeof(scale));
        assert_memory_equal(min, min_back, sizeof(min));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qtype_reads_what_ggml_wrote),
        cmocka_unit_test(test_qtype_reads_known_blocks),
        cmocka_unit_test(test_qtype_own_types_keep_values),
        cmocka_unit_test(test_qtype_writes_as_well_as_ggml),
        cmocka_unit_test(test_qtype_writes_odd_rows),
        cmocka_unit_test(test_qtype_is_found_by_id_and_by_name),
        cmocka_unit_test(test_qtype_row_bytes_refuses_parts_and_overflow),
        cmocka_unit_test(test_qtype_halves_round_trip),
        cmocka_unit_test(test_qtype_halves_round_to_nearest_even),
        cmocka_unit_test(test_qtype_k_scales_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
