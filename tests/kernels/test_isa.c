/* test_isa: every instruction set that this machine can use against the scalar one.
 *
 * Products: near the scalar result, the same bits whatever the range of rows and
 * the batch, nothing written outside the range.  Prepared activations: the same
 * bits as the scalar ones.  Buffers are exact, so that a sanitizer sees a read
 * past their ends.                                                            */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/isa.h"
#include "kernels/quant/blocks.h"

enum { ROWS = 21, X_ROWS = 70, W_PAD = 6, X_PAD = 8 };

static const char *const names[] = {"scalar", "avx2", "avx512", "neon"};

typedef void (*check_fn)(const struct isa *isa);

static void each_set(check_fn check)
{
    int sets = 0;
    for (size_t i = 0; i < COUNTOF(names); i++) {
        const struct isa *isa = isa_find(names[i]);
        if (!isa)
            continue;
        print_message("    %s\n", isa->name);
        check(isa);
        sets++;
    }
    assert_true(sets > 0);
}

/* ---- values ---- */

static uint32_t random_bits(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* In -1..1. */
static float random_float(uint64_t *state)
{
    return (float)((int32_t)random_bits(state)) * 0x1p-31F;
}

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    assert_non_null(p);
    return p;
}

/* n random floats in a buffer of their own; the caller frees it. */
static float *random_row(uint64_t *state, size_t n, float size)
{
    float *x = allocate(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = size * random_float(state);
    return x;
}

static uint16_t random_half(uint64_t *state)
{
    return f32_to_f16(0.05F * random_float(state));
}

/* Where a type keeps its half floats: offset of the first, and how many follow one another. */
static const struct {
    uint32_t type;
    size_t at, n;
} half_places[] = {
    {QTYPE_Q4_1, 0, 2}, {QTYPE_Q5_1, 0, 2}, {QTYPE_Q4_K, 0, 2}, {QTYPE_Q5_K, 0, 2},
    {QTYPE_Q2_K, offsetof(struct q2_k, d), 2}, {QTYPE_Q3_K, offsetof(struct q3_k, d), 1},
    {QTYPE_Q6_K, offsetof(struct q6_k, d), 1}, {QTYPE_TQ1_0, offsetof(struct tq1_0, d), 1},
    {QTYPE_TQ2_0, offsetof(struct tq2_0, d), 1}, {QTYPE_NVFP4, 0, 0},
};

/* An INT type's scale and zero point, past which codes reach on both sides. */
static void random_head(uint64_t *state, const struct qtype *type, uint8_t *block)
{
    uint8_t codes[128];
    unsigned bits = (type->id - QTYPE_OWN) / 10;
    float d = 0.05F * random_float(state);
    uint32_t zero = type->id == QTYPE_INT4B_32 ? 8 : random_bits(state) % ((1U << bits) + 1);
    for (size_t i = 0; i < type->block_len; i++)
        codes[i] = (uint8_t)(random_bits(state) & ((1U << bits) - 1));
    qtype_put_int(type, codes, type->id % 10 == 3 ? d : bf16_to_f32(f32_to_bf16(d)), zero, block);
}

/* A block of any bits: every quant and every scale occurs; the factors are finite. */
static void random_block(uint64_t *state, uint32_t type, uint8_t *block, size_t bytes)
{
    size_t at = 0, n = 1;
    for (size_t i = 0; i < bytes; i++)
        block[i] = (uint8_t)random_bits(state);
    if (type >= QTYPE_INT2_32 && type < QTYPE_FP8_32) {
        random_head(state, qtype_find(type), block);
        return;
    }
    if (type == QTYPE_F32 || type >= QTYPE_FP8_32) {
        float v = random_float(state);
        memcpy(block, &v, sizeof v);
        return;
    }
    for (size_t i = 0; i < COUNTOF(half_places); i++)
        if (half_places[i].type == type) {
            at = half_places[i].at;
            n = half_places[i].n;
        }
    for (size_t i = 0; i < n; i++) {
        uint16_t d = type == QTYPE_F16    ? f32_to_f16(random_float(state))
                     : type == QTYPE_BF16 ? f32_to_bf16(random_float(state))
                                          : random_half(state);
        memcpy(block + at + 2 * i, &d, sizeof d);
    }
    if (type == QTYPE_MXFP4)
        block[0] = (uint8_t)(110 + random_bits(state) % 20);
    if (type == QTYPE_IQ1_M) /* a half below 1 */
        block[55] &= 0x3f;
}

/* ---- products ---- */

struct product {
    const struct qtype *type;
    enum form form;
    size_t cols, w_stride, x_stride;
    uint8_t *w, *x;
};

static void product_open(struct product *p, const struct qtype *type, size_t blocks)
{
    uint64_t state = type->id * 1000u + blocks;
    p->type = type;
    p->form = isa_kernel(&isa_scalar, type->id)->form;
    p->cols = blocks * type->block_len;
    size_t row_bytes = qtype_row_bytes(type, p->cols);
    p->w_stride = row_bytes + (p->form == FORM_F32 && type->block_bytes % 4 == 0 ? 2 * sizeof(float) : W_PAD);
    p->x_stride = form_row_bytes(p->form, p->cols) + X_PAD;
    p->w = allocate((ROWS - 1) * p->w_stride + row_bytes);
    for (size_t i = 0; i < ROWS; i++)
        for (size_t b = 0; b < blocks; b++)
            random_block(&state, type->id, p->w + i * p->w_stride + b * type->block_bytes, type->block_bytes);
    p->x = allocate((X_ROWS - 1) * p->x_stride + form_row_bytes(p->form, p->cols));
    for (size_t j = 0; j < X_ROWS; j++) {
        float *x = random_row(&state, p->cols, (float)(1 + j));
        if (p->form == FORM_F32)
            memcpy(p->x + j * p->x_stride, x, p->cols * sizeof *x);
        else
            isa_scalar.prepare[p->form](x, p->x + j * p->x_stride, p->cols);
        free(x);
    }
}

static void product_close(struct product *p)
{
    free(p->w);
    free(p->x);
}

static void run(const struct product *p, const struct isa *isa, float *y, size_t n_x, size_t first,
                size_t last)
{
    struct matmul_job job = {.type = p->type, .w = p->w, .w_stride = p->w_stride, .x = p->x,
                             .x_stride = p->x_stride, .y = y, .y_stride = ROWS, .cols = p->cols, .n_x = n_x};
    isa_kernel(isa, p->type->id)->rows(&job, first, last);
}

static float prepared_value(const struct product *p, size_t j, size_t i)
{
    const void *x = p->x + j * p->x_stride;
    const struct q8_block *q8 = x;
    const struct q8k_block *q8k = x;
    if (p->form == FORM_Q8)
        return q8[i / 32].scale * q8[i / 32].q[i % 32];
    if (p->form == FORM_Q8K)
        return q8k[i / 256].scale * q8k[i / 256].q[i % 256];
    return ((const float *)x)[i];
}

/* The product in doubles from the type's own values, and the sum of the magnitudes of its terms. */
static double exact(const struct product *p, size_t i, size_t j, double *magnitude)
{
    float *w = allocate(p->cols * sizeof *w);
    double sum = 0;
    *magnitude = 0;
    p->type->to_f32(p->w + i * p->w_stride, w, p->cols);
    for (size_t k = 0; k < p->cols; k++) {
        double term = (double)w[k] * prepared_value(p, j, k);
        sum += term;
        *magnitude += fabs(term);
    }
    free(w);
    return sum;
}

static void check_close(const struct product *p, const float *y, const float *scalar, size_t n_x)
{
    for (size_t j = 0; j < n_x; j++) {
        for (size_t i = 0; i < ROWS; i++) {
            double magnitude, sum = exact(p, i, j, &magnitude), got = y[j * ROWS + i];
            double wrong = fabs(got - scalar[j * ROWS + i]) + fabs(got - sum);
            if (!(wrong <= 1e-5 * magnitude)) /* also when it is not a number */
                fail_msg("%s, %zu columns, row %zu, x %zu: %g, not %g", p->type->name, p->cols, i, j, got,
                         sum);
        }
    }
}

/* Every range and batch gives the bits of `whole`, and leaves the rest of y alone. */
static void check_parts(const struct product *p, const struct isa *isa, const float *whole)
{
    static const size_t ranges[][2] = {{0, ROWS}, {0, 1},  {3, 4}, {1, 20},
                                       {16, ROWS}, {2, 19}, {5, 5}, {ROWS - 1, ROWS}};
    static const size_t batches[] = {1, 2, 3, 4, 5, 8, 17, X_ROWS};
    float *y = allocate(X_ROWS * ROWS * sizeof *y);
    for (size_t r = 0; r < COUNTOF(ranges); r++) {
        for (size_t b = 0; b < COUNTOF(batches); b++) {
            memset(y, 0xff, X_ROWS * ROWS * sizeof *y);
            run(p, isa, y, batches[b], ranges[r][0], ranges[r][1]);
            for (size_t k = 0; k < X_ROWS * ROWS; k++) {
                size_t i = k % ROWS, j = k / ROWS;
                bool inside = j < batches[b] && i >= ranges[r][0] && i < ranges[r][1];
                uint32_t want = UINT32_MAX, got;
                if (inside)
                    memcpy(&want, &whole[k], sizeof want);
                memcpy(&got, &y[k], sizeof got);
                if (got != want)
                    fail_msg("%s, %zu columns, rows %zu-%zu of batch %zu: (%zu, %zu) is %08x, not %08x",
                             p->type->name, p->cols, ranges[r][0], ranges[r][1], batches[b], i, j, got, want);
            }
        }
    }
    free(y);
}

static void check_products(const struct isa *isa)
{
    static const size_t block_counts[] = {1, 2, 3, 4, 8, 11};
    static const size_t float_counts[] = {1,  2,  3,  4,  7,  8,  9,   15,  16, 17,
                                          31, 32, 33, 63, 64, 65, 100, 127, 256, 1000};
    float *y = allocate(X_ROWS * ROWS * sizeof *y), *scalar = allocate(X_ROWS * ROWS * sizeof *y);
    const struct qtype *type;
    for (size_t t = 0; (type = qtype_at(t)) != NULL; t++) {
        bool plain = type->block_len == 1;
        size_t n = plain ? COUNTOF(float_counts) : COUNTOF(block_counts);
        for (size_t k = 0; k < n; k++) {
            struct product p;
            product_open(&p, type, plain ? float_counts[k] : block_counts[k]);
            assert_int_equal(isa_kernel(isa, type->id)->form, p.form);
            run(&p, &isa_scalar, scalar, X_ROWS, 0, ROWS);
            for (size_t j = 0; j < X_ROWS; j++) { /* each row of x alone */
                struct product alone = p;
                alone.x = p.x + j * p.x_stride;
                run(&alone, isa, y + j * ROWS, 1, 0, ROWS);
            }
            check_close(&p, y, scalar, X_ROWS);
            check_parts(&p, isa, y);
            product_close(&p);
        }
    }
    free(y);
    free(scalar);
}

static void test_isa_products_are_near_and_independent_of_the_batch(void **state)
{
    (void)state;
    each_set(check_products);
}

/* Nothing that is not a number may be lost: a bad block of x spoils its row and no other. */
static void check_bad_rows(const struct isa *isa)
{
    const struct qtype *type;
    float y[2 * ROWS];
    for (size_t t = 0; (type = qtype_at(t)) != NULL; t++) {
        struct product p;
        product_open(&p, type, type->block_len == 1 ? 40 : 2);
        float *x = allocate(p.cols * sizeof *x);
        for (size_t i = 0; i < p.cols; i++)
            x[i] = i == p.cols - 3 ? NAN : 1;
        if (p.form == FORM_F32)
            memcpy(p.x + p.x_stride, x, p.cols * sizeof *x);
        else
            isa->prepare[p.form](x, p.x + p.x_stride, p.cols);
        run(&p, isa, y, 2, 0, ROWS);
        for (size_t i = 0; i < ROWS; i++) {
            assert_true(isfinite(y[i]));
            assert_true(isnan(y[ROWS + i]));
        }
        free(x);
        product_close(&p);
    }
}

static void test_isa_product_with_nan_is_nan(void **state)
{
    (void)state;
    each_set(check_bad_rows);
}

/* ---- prepared activations ---- */

static void check_prepared(const struct isa *isa, const float *x, size_t n)
{
    static const enum form forms[] = {FORM_Q8, FORM_Q8K};
    for (size_t f = 0; f < COUNTOF(forms); f++) {
        size_t bytes = form_row_bytes(forms[f], n);
        uint8_t *got = allocate(bytes), *want = allocate(bytes);
        memset(got, 0xa5, bytes);
        memset(want, 0x5a, bytes);
        isa->prepare[forms[f]](x, got, n);
        isa_scalar.prepare[forms[f]](x, want, n);
        assert_memory_equal(got, want, bytes);
        free(got);
        free(want);
    }
}

static void check_prepare(const struct isa *isa)
{
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 3.4028235e38F, -3.4028235e38F, 0x1p-149F,
                                -0.0F, 0x1p-100F, -0x1p-100F, 0x1.fffffep-101F, 0x1p-99F, 1, -1};
    static const float sizes[] = {1, 127, 1e-3F, 0x1p-90F, 0x1p-100F, 0x1p-101F, 1e30F, 0};
    uint64_t state = 5;
    for (size_t blocks = 1; blocks <= 8; blocks *= 2) {
        size_t n = 256 * blocks;
        for (size_t s = 0; s < COUNTOF(sizes); s++) {
            float *x = random_row(&state, n, sizes[s]);
            check_prepared(isa, x, n);
            for (size_t k = 0; k < COUNTOF(odd); k++) {
                float *y = allocate(n * sizeof *y);
                memcpy(y, x, n * sizeof *y);
                y[random_bits(&state) % n] = odd[k];
                check_prepared(isa, y, n);
                free(y);
            }
            free(x);
        }
    }
    for (size_t at = 0; at < 256; at++) { /* a bad value at every place */
        float x[256] = {0};
        x[at] = at % 2 ? NAN : INFINITY;
        check_prepared(isa, x, 256);
    }
}

static void test_isa_prepare_gives_the_scalar_bits(void **state)
{
    (void)state;
    each_set(check_prepare);
}

/* With amax = 127 the factor is 1: halves lie between two integers and go to the even one. */
static void check_ties(const struct isa *isa)
{
    float x[256];
    for (int i = 0; i < 256; i++)
        x[i] = i == 0 ? 127 : (float)(i - 128) / 2 + 0.5F * (float)(i & 1);
    check_prepared(isa, x, 256);
    for (int i = 1; i < 256; i++)
        x[i] = (float)(i - 128) / 2;
    check_prepared(isa, x, 256);
    struct q8k_block b;
    isa->prepare[FORM_Q8K](x, &b, 256);
    assert_int_equal(b.q[0], 127);
    assert_int_equal(b.q[129], 0);  /* 0.5 */
    assert_int_equal(b.q[131], 2);  /* 1.5 */
    assert_int_equal(b.q[133], 2);  /* 2.5 */
    assert_int_equal(b.q[125], -2); /* -1.5 */
}

static void test_isa_prepare_rounds_ties_to_even(void **state)
{
    (void)state;
    each_set(check_ties);
}

/* ---- attention and activations ---- */

static const size_t lengths[] = {0,  1,  2,  3,  5,  7,  8,   9,   15,  16,  17,
                                 31, 33, 40, 63, 64, 65, 100, 128, 129, 255, 257};

static uint16_t *halves_of(const float *x, size_t n)
{
    uint16_t *h = allocate(n * sizeof *h);
    for (size_t i = 0; i < n; i++)
        h[i] = f32_to_f16(x[i]);
    return h;
}

static void check_dot(const struct isa *isa)
{
    uint64_t state = 7;
    for (size_t k = 0; k < COUNTOF(lengths); k++) {
        size_t n = lengths[k];
        float *a = random_row(&state, n, 2), *b = random_row(&state, n, 3);
        uint16_t *h = halves_of(b, n);
        double magnitude = 0;
        for (size_t i = 0; i < n; i++)
            magnitude += fabs((double)a[i] * b[i]);
        assert_true(fabs((double)isa->dot_f32(a, b, n) - isa_scalar.dot_f32(a, b, n)) <= 1e-5 * magnitude);
        assert_true(fabs((double)isa->dot_f16(a, h, n) - isa_scalar.dot_f16(a, h, n)) <= 1e-5 * magnitude);
        free(a);
        free(b);
        free(h);
    }
}

static void test_isa_dot_is_near_the_scalar_one(void **state)
{
    (void)state;
    each_set(check_dot);
}

static void check_axpy(const struct isa *isa)
{
    uint64_t state = 11;
    for (size_t k = 0; k < COUNTOF(lengths); k++) {
        size_t n = lengths[k];
        float *x = random_row(&state, n, 2), *y = random_row(&state, n, 3);
        float *y32 = allocate(n * sizeof *y32), *y16 = allocate(n * sizeof *y16);
        uint16_t *h = halves_of(x, n);
        memcpy(y32, y, n * sizeof *y);
        memcpy(y16, y, n * sizeof *y);
        isa->axpy_f32(y32, 0.7F, x, n);
        isa->axpy_f16(y16, 0.7F, h, n);
        for (size_t i = 0; i < n; i++) {
            double bound = 2e-7 * (fabsf(y[i]) + fabsf(x[i]));
            assert_true(fabs((double)y[i] + (double)0.7F * x[i] - y32[i]) <= bound);
            assert_true(fabs((double)y[i] + (double)0.7F * f16_to_f32(h[i]) - y16[i]) <= bound);
        }
        free(x);
        free(y);
        free(y32);
        free(y16);
        free(h);
    }
}

static void test_isa_axpy_adds(void **state)
{
    (void)state;
    each_set(check_axpy);
}

static void check_store(const struct isa *isa)
{
    static const float sizes[] = {1, 100000, 1e-4F, 1e-7F};
    uint64_t state = 13;
    for (size_t k = 0; k < COUNTOF(lengths); k++) {
        for (size_t s = 0; s < COUNTOF(sizes); s++) {
            size_t n = lengths[k];
            float *x = random_row(&state, n, sizes[s]);
            uint16_t *want = halves_of(x, n), *got = allocate(n * sizeof *got);
            if (n > 2) {
                x[1] = INFINITY;
                want[1] = 0x7c00;
            }
            isa->store_f16(got, x, n);
            assert_memory_equal(got, want, n * sizeof *got);
            free(x);
            free(want);
            free(got);
        }
    }
}

static void test_isa_store_f16_rounds_as_the_type_does(void **state)
{
    (void)state;
    each_set(check_store);
}

/* The distance from v to the next float away from zero. */
static double ulp(double v)
{
    float f = (float)fabs(v);
    return isinf(f) ? 0 : (double)nextafterf(f, INFINITY) - f;
}

static void check_exp(float x, float got)
{
    double want = exp((double)x);
    if (isinf((float)want) || isnan(x))
        assert_true(isnan(x) ? isnan(got) : isinf(got));
    else if (fabs(got - want) > 2 * ulp(want))
        fail_msg("exp(%a) is %a, not %a", (double)x, (double)got, want);
}

static void check_softmax(const struct isa *isa)
{
    static const float ends[] = {0,    -0.0F, -INFINITY, -1e30F, -87.3F, -87.5F, -100,
                                 -103, -104,  -105,      -126,   88.7F,  89,     200};
    uint64_t state = 17;
    for (size_t k = 0; k < COUNTOF(lengths); k++) {
        size_t n = lengths[k];
        float *x = random_row(&state, n, 60), *y = allocate(n * sizeof *y), max = 3;
        for (size_t i = 0; i < n && n > 100 && i < COUNTOF(ends); i++)
            x[i] = max + ends[i];
        memcpy(y, x, n * sizeof *y);
        float sum = isa->softmax_exp(y, max, n);
        double want = 0;
        for (size_t i = 0; i < n; i++) {
            check_exp(x[i] - max, y[i]);
            want += y[i];
        }
        assert_true(isinf(want) ? isinf(sum) : fabs(sum - want) <= 1e-5 * want);
        free(x);
        free(y);
    }
}

static void test_isa_softmax_exp_is_within_two_ulp(void **state)
{
    (void)state;
    each_set(check_softmax);
}

static void check_silu(const struct isa *isa)
{
    static const float ends[] = {0, -0.0F, 1, -1, 20, -20, 88, -87, -88, -88.7F, -89, -103, 1e30F, -1e30F};
    uint64_t state = 19;
    for (size_t k = 0; k < COUNTOF(lengths); k++) {
        size_t n = lengths[k];
        float *gate = random_row(&state, n, 30), *up = random_row(&state, n, 2);
        float *out = allocate(n * sizeof *out);
        for (size_t i = 0; i < n && n > 100 && i < COUNTOF(ends); i++)
            gate[i] = ends[i];
        isa->silu_mul(gate, up, out, n);
        for (size_t i = 0; i < n; i++) {
            double g = gate[i], want = g / (1 + exp(-g)) * up[i];
            if (fabs(out[i] - want) > 1e-6 * fabs(want) + 1e-36) /* past exp(88.7) a float is infinite */
                fail_msg("silu(%a) * %a is %a, not %a", g, (double)up[i], (double)out[i], want);
        }
        free(gate);
        free(up);
        free(out);
    }
}

static void test_isa_silu_mul_is_near(void **state)
{
    (void)state;
    each_set(check_silu);
}

/* ---- the choice ---- */

static void test_isa_find_knows_names_and_the_best(void **state)
{
    (void)state;
    const struct isa *best = isa_find(NULL);
    assert_non_null(best);
    assert_true(best->usable());
    assert_ptr_equal(isa_find(best->name), best);
    assert_ptr_equal(isa_find("scalar"), &isa_scalar);
    assert_null(isa_find("abacus"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_isa_products_are_near_and_independent_of_the_batch),
        cmocka_unit_test(test_isa_product_with_nan_is_nan),
        cmocka_unit_test(test_isa_prepare_gives_the_scalar_bits),
        cmocka_unit_test(test_isa_prepare_rounds_ties_to_even),
        cmocka_unit_test(test_isa_dot_is_near_the_scalar_one),
        cmocka_unit_test(test_isa_axpy_adds),
        cmocka_unit_test(test_isa_store_f16_rounds_as_the_type_does),
        cmocka_unit_test(test_isa_softmax_exp_is_within_two_ulp),
        cmocka_unit_test(test_isa_silu_mul_is_near),
        cmocka_unit_test(test_isa_find_knows_names_and_the_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
