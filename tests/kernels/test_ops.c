/* test_ops: every operation of a backend but attention and the experts against plain references in doubles,
 * and the refusals of what holds their data. */
#include <stdio.h>

#include "tests/kernels/rig.h"

static const uint32_t row_counts[] = {1, 3, 17};

/* ---- embed ---- */

struct embed_case {
    struct matrix table;
    int32_t ids[17];
};

static void run_embed(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct embed_case *c = arg;
    struct weight *table = matrix_load(r, &c->table);
    struct span y = rig_span(r, NULL, (size_t)n * c->table.cols);
    r->b->embed(r->d, table, c->ids + first, n, y);
    rig_take(r, y, out, (size_t)n * c->table.cols);
    r->b->weight_destroy(r->d, table);
}

static void test_ops_embed_reads_the_rows_of_ids(void **state)
{
    (void)state;
    const struct qtype *type;
    float out[17 * 256];
    for (size_t t = 0; (type = qtype_at(t)) != NULL; t++) {
        struct embed_case c;
        matrix_make(&c.table, type->id, 9, 256, 1);
        if (type->id >= QTYPE_OWN && type->id < QTYPE_FP8_32 && t % 2)
            matrix_reorder(&c.table);
        for (int i = 0; i < 17; i++)
            c.ids[i] = i * 5 % 9;
        for (size_t s = 0; rig_isa(s); s++) {
            rig_check_bits(rig_isa(s), run_embed, &c, 17, 256, out);
            for (size_t i = 0; i < 17; i++)
                assert_memory_equal(out + i * 256, c.table.values + (size_t)c.ids[i] * 256, 256 * sizeof(float));
        }
        matrix_free(&c.table);
    }
}

/* ---- norm ---- */

struct norm_case {
    struct matrix weight, bias;
    const float *x;
    uint32_t width, group;
    bool in_place, plain, biased, centred; /* plain: no weight */
};

static void run_norm(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct norm_case *c = arg;
    size_t values = (size_t)n * c->width;
    struct weight *w = c->plain ? NULL : matrix_load(r, &c->weight);
    struct weight *bias = c->biased ? matrix_load(r, &c->bias) : NULL;
    struct span x = rig_span(r, c->x + (size_t)first * c->width, values);
    struct span y = c->in_place ? x : rig_span(r, NULL, values);
    struct norm_args a = {.weight = w, .bias = bias, .x = x, .y = y, .n_rows = n, .width = c->width,
                          .group = c->group, .centred = c->centred, .eps = 1e-5F};
    r->b->norm(r->d, &a);
    rig_take(r, y, out, values);
    if (!c->in_place)
        r->b->mem_destroy(r->d, x.mem);
    r->b->weight_destroy(r->d, w);
    r->b->weight_destroy(r->d, bias);
}

/* The first `width` values of rows that are further apart: what lies between stays. */
static void run_norm_apart(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct norm_case *c = arg;
    uint32_t width = c->width / 2 / c->group * c->group;
    struct weight *w = matrix_load(r, &c->weight);
    struct span x = rig_span(r, c->x + (size_t)first * c->width, (size_t)n * c->width);
    struct norm_args a = {.weight = w, .x = x, .y = x, .n_rows = n, .width = width, .group = c->group,
                          .stride = c->width, .eps = 1e-5F};
    r->b->norm(r->d, &a);
    rig_take(r, x, out, (size_t)n * c->width);
    r->b->weight_destroy(r->d, w);
}

static void test_ops_norm_leaves_what_lies_between_rows(void **state)
{
    (void)state;
    struct norm_case c = {.width = 7 * 16, .group = 16};
    float *x = rig_random(5, 17 * 112, 3), *whole = rig_alloc(17 * 112 * sizeof(*x)),
          *out = rig_alloc(17 * 112 * sizeof(*x));
    c.x = x;
    matrix_make(&c.weight, QTYPE_F32, 1, c.group, 1);
    for (size_t s = 0; rig_isa(s); s++) {
        rig_check_bits(rig_isa(s), run_norm, &c, 17, c.width, whole);
        rig_check_bits(rig_isa(s), run_norm_apart, &c, 17, c.width, out);
        for (size_t i = 0; i < 17 * 112; i++)
            assert_true(out[i] == (i % 112 < 48 ? whole : x)[i]);
    }
    matrix_free(&c.weight);
    free(x);
    free(whole);
    free(out);
}

static void check_norm(const struct norm_case *c, const float *out, uint32_t n_rows)
{
    for (size_t g = 0; g < (size_t)n_rows * c->width / c->group; g++) {
        const float *x = c->x + g * c->group;
        double square = 0, mean = 0;
        for (uint32_t i = 0; i < c->group; i++)
            mean += c->centred ? (double)x[i] / c->group : 0;
        for (uint32_t i = 0; i < c->group; i++)
            square += (x[i] - mean) * (x[i] - mean);
        double scale = 1 / sqrt(square / c->group + (double)1e-5F);
        for (uint32_t i = 0; i < c->group; i++) {
            double weight = c->plain ? 1 : c->weight.values[i];
            double want = (x[i] - mean) * scale * weight, size = fabs(want) + fabs(mean * scale * weight);
            double bias = c->biased ? c->bias.values[i] : 0;
            check_near("norm", g, i, out[g * c->group + i], want + bias, 1e-5 * (size + fabs(bias)) + 1e-30);
        }
    }
}

static void test_ops_norm_divides_by_the_root_mean_square_or_deviation(void **state)
{
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1}, {7, 7}, {33, 11}, {128, 128}, {640, 128}, {1024, 1024}};
    float *out = rig_alloc(RIG_ROWS_MAX * 1024 * sizeof(*out));
    for (size_t k = 0; k < COUNTOF(shapes) * 4; k++) {
        const uint32_t *shape = shapes[k % COUNTOF(shapes)];
        struct norm_case c = {.width = shape[0], .group = shape[1], .in_place = k % 2, .plain = k % 4 == 3,
                              .biased = k % 3 == 0, .centred = k >= COUNTOF(shapes) * 2};
        uint32_t n_rows = row_counts[k % COUNTOF(row_counts)];
        float *x = rig_random(k, (size_t)n_rows * c.width, 3);
        matrix_make(&c.weight, QTYPE_F32, 1, c.group, 1);
        matrix_make(&c.bias, QTYPE_F32, 1, c.group, 1);
        c.x = x;
        for (size_t s = 0; rig_isa(s); s++) {
            rig_check_bits(rig_isa(s), run_norm, &c, n_rows, c.width, out);
            check_norm(&c, out, n_rows);
        }
        matrix_free(&c.weight);
        matrix_free(&c.bias);
        free(x);
    }
    free(out);
}

/* ---- matmul ---- */

struct matmul_case {
    int n;
    struct matrix w[MATMUL_WEIGHTS_MAX];
    struct matrix bias[MATMUL_WEIGHTS_MAX];
    bool has_bias[MATMUL_WEIGHTS_MAX];
    bool accumulate;
    size_t out_width; /* of all matrices */
    const float *x, *y; /* y: [n_rows][out_width], what is added to */
};

static void run_matmul(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct matmul_case *c = arg;
    uint32_t cols = c->w[0].cols;
    struct matmul_args a = {.n_weights = c->n, .n_rows = n, .accumulate = c->accumulate};
    a.x = rig_span(r, c->x + (size_t)first * cols, (size_t)n * cols);
    float *y = rig_alloc(n * c->out_width * sizeof(*y));
    size_t at = 0;
    for (int i = 0; i < c->n; at += c->w[i++].rows) {
        uint32_t rows = c->w[i].rows;
        for (size_t j = 0; j < n; j++)
            memcpy(y + j * rows, c->y + (first + j) * c->out_width + at, rows * sizeof(*y));
        a.w[i] = matrix_load(r, &c->w[i]);
        a.bias[i] = matrix_load(r, c->has_bias[i] ? &c->bias[i] : NULL);
        a.y[i] = rig_span(r, c->accumulate ? y : NULL, (size_t)n * rows);
    }
    r->b->matmul(r->d, &a);
    at = 0;
    for (int i = 0; i < c->n; at += c->w[i++].rows) {
        uint32_t rows = c->w[i].rows;
        rig_take(r, a.y[i], y, (size_t)n * rows);
        for (size_t j = 0; j < n; j++)
            memcpy(out + j * c->out_width + at, y + j * rows, rows * sizeof(*y));
        r->b->weight_destroy(r->d, (struct weight *)(uintptr_t)a.w[i]);
        r->b->weight_destroy(r->d, (struct weight *)(uintptr_t)a.bias[i]);
    }
    r->b->mem_destroy(r->d, a.x.mem);
    free(y);
}

static void check_matmul(const struct matmul_case *c, const float *out, uint32_t n_rows)
{
    size_t cols = c->w[0].cols;
    double x[RIG_COLS_MAX], magnitude;
    for (size_t j = 0; j < n_rows; j++) {
        size_t at = 0;
        for (int i = 0; i < c->n; i++) {
            const struct matrix *w = &c->w[i];
            matrix_input(w, 0, c->x + j * cols, x);
            for (size_t k = 0; k < w->rows; k++, at++) {
                double want = reference_dot(w->values + k * cols, x, cols, &magnitude);
                want += c->has_bias[i] ? c->bias[i].values[k] : 0;
                want += c->accumulate ? c->y[j * c->out_width + at] : 0;
                check_near(w->type->name, j, k, out[j * c->out_width + at], want, 1e-5 * (magnitude + 3));
            }
        }
    }
}

/* n_rows rows of x through matrices of the types and row counts given (0: no more); `orders` has a bit for each whose
 * columns are in an order of their own. */
static void check_matmul_orders(const uint32_t *types, const uint32_t *rows, uint32_t cols, uint32_t n_rows, bool bias,
                                bool accumulate, unsigned orders)
{
    struct matmul_case c = {.accumulate = accumulate};
    for (; c.n < MATMUL_WEIGHTS_MAX && rows[c.n]; c.n++) {
        matrix_make(&c.w[c.n], types[c.n], rows[c.n], cols, 1);
        if (orders >> c.n & 1)
            matrix_reorder(&c.w[c.n]);
        matrix_make(&c.bias[c.n], QTYPE_F32, 1, rows[c.n], 1);
        c.has_bias[c.n] = bias && c.n != 1;
        c.out_width += rows[c.n];
    }
    float *x = rig_random(cols + n_rows, (size_t)n_rows * cols, 2), *y = rig_random(3, n_rows * c.out_width, 1);
    float *out = rig_alloc(n_rows * c.out_width * sizeof(*out));
    c.x = x;
    c.y = y;
    for (size_t s = 0; rig_isa(s); s++) {
        rig_check_bits(rig_isa(s), run_matmul, &c, n_rows, c.out_width, out);
        check_matmul(&c, out, n_rows);
    }
    for (int i = 0; i < c.n; i++) {
        matrix_free(&c.w[i]);
        matrix_free(&c.bias[i]);
    }
    free(x);
    free(y);
    free(out);
}

static void check_matmul_case(const uint32_t *types, const uint32_t *rows, uint32_t cols, uint32_t n_rows, bool bias,
                              bool accumulate)
{
    check_matmul_orders(types, rows, cols, n_rows, bias, accumulate, 0);
}

static void test_ops_matmul_multiplies_every_type(void **state)
{
    (void)state;
    static const uint32_t shapes[][2] = {{1, 256}, {5, 512}, {16, 768}, {50, 256}, {130, 1024}};
    const struct qtype *type;
    for (size_t t = 0; (type = qtype_at(t)) != NULL; t++) {
        for (size_t k = 0; k < COUNTOF(shapes); k++) {
            uint32_t types[1] = {type->id}, rows[2] = {shapes[k][0], 0};
            check_matmul_case(types, rows, shapes[k][1], row_counts[(t + k) % 3], false, false);
        }
    }
}

static void test_ops_matmul_takes_odd_widths(void **state)
{
    (void)state;
    static const uint32_t float_types[] = {QTYPE_F32, QTYPE_F16, QTYPE_BF16}, cols[] = {1, 7, 37, 100};
    static const uint32_t small_types[] = {QTYPE_Q8_0, QTYPE_Q4_0}, small_cols[] = {32, 96, 352};
    for (size_t k = 0; k < COUNTOF(cols) * COUNTOF(float_types); k++)
        check_matmul_case(&float_types[k % 3], (uint32_t[2]){19, 0}, cols[k / 3], row_counts[k % 3], false, false);
    for (size_t k = 0; k < COUNTOF(small_cols) * COUNTOF(small_types); k++)
        check_matmul_case(&small_types[k % 2], (uint32_t[2]){37, 0}, small_cols[k / 2], row_counts[k % 3], false,
                          false);
}

static void test_ops_matmul_shares_x_among_matrices(void **state)
{
    (void)state;
    static const uint32_t types[] = {QTYPE_Q4_K, QTYPE_Q8_0, QTYPE_F32, QTYPE_Q6_K}, rows[] = {48, 5, 33, 70};
    for (size_t k = 0; k < COUNTOF(row_counts); k++)
        for (int bits = 0; bits < 4; bits++)
            check_matmul_case(types, rows, 512, row_counts[k], bits & 1, bits & 2);
}

static void test_ops_matmul_takes_columns_in_any_order(void **state)
{
    (void)state;
    static const uint32_t types[] = {QTYPE_INT4_32, QTYPE_INT8_64, QTYPE_F32, QTYPE_Q8_0}, rows[] = {48, 5, 33, 70};
    for (size_t k = 0; k < COUNTOF(row_counts); k++) {
        check_matmul_orders(types, rows, 320, row_counts[k], true, false, 1);
        check_matmul_orders(types, rows, 320, row_counts[k], false, true, 2 | 8);
        check_matmul_orders(types, (uint32_t[]){70, 5, 0}, 320, row_counts[k], true, true, 3);
        check_matmul_orders((uint32_t[]){QTYPE_Q4_K, QTYPE_INT3_128}, (uint32_t[]){9, 8, 0}, 768, row_counts[k], true,
                            true, 3);
    }
}

/* More rows of x than kernels take at once, and more than a thread's tile holds. */
static void test_ops_matmul_takes_many_rows(void **state)
{
    (void)state;
    static const uint32_t types[] = {QTYPE_Q4_K, QTYPE_Q8_0, QTYPE_BF16}, rows[] = {300, 40, 9, 0};
    check_matmul_case(types, rows, 256, 150, false, false);
    check_matmul_case(types, rows, 256, 130, true, true);
}

/* ---- rope ---- */

struct rope_case {
    enum rope_pairing pairing;
    uint32_t n_rot, head_dim, n_heads;
    float scale;
    const float *freq, *x;
    const uint32_t *positions;
};

static void run_rope(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct rope_case *c = arg;
    size_t width = (size_t)c->n_heads * c->head_dim;
    struct rope_args a = {.pairing = c->pairing, .inv_freq = c->freq, .scale = c->scale, .n_rot = c->n_rot,
                          .head_dim = c->head_dim, .n_heads = c->n_heads, .positions = c->positions + first,
                          .n_rows = n};
    /* a call with other positions, frequencies or scale before: nothing of it may stay */
    static const uint32_t positions[RIG_ROWS_MAX] = {9, 8, 7};
    float freq[HEAD_DIM_MAX / 2] = {0.5F}, *again = rig_alloc(n * width * sizeof(*again));
    for (int k = 0; k < 3; k++) {
        struct rope_args stale = a;
        stale.x = rig_span(r, c->x, n * width);
        stale.positions = positions;
        r->b->rope(r->d, &stale);
        stale.positions = k == 0 ? positions : a.positions;
        stale.inv_freq = k == 1 ? freq : a.inv_freq;
        stale.scale = k == 2 ? 7 : a.scale;
        r->b->rope(r->d, &stale);
        r->b->mem_destroy(r->d, stale.x.mem);
        a.x = rig_span(r, c->x + first * width, n * width);
        r->b->rope(r->d, &a);
        rig_take(r, a.x, k == 0 ? out : again, n * width);
        if (k > 0)
            assert_memory_equal(again, out, n * width * sizeof(*out));
    }
    free(again);
}

static void check_rope(const struct rope_case *c, const float *out, uint32_t n_rows)
{
    uint32_t half = c->n_rot / 2;
    for (size_t h = 0; h < (size_t)n_rows * c->n_heads; h++) {
        const float *x = c->x + h * c->head_dim, *y = out + h * c->head_dim;
        for (uint32_t p = 0; p < half; p++) {
            uint32_t i = c->pairing == ROPE_PAIRS ? 2 * p : p, j = c->pairing == ROPE_PAIRS ? 2 * p + 1 : p + half;
            double angle = (double)c->positions[h / c->n_heads] * c->freq[p];
            double bound = 1e-6 * (fabs(x[i]) + fabs(x[j])) * c->scale;
            check_near("rope", h, i, y[i], (x[i] * cos(angle) - x[j] * sin(angle)) * c->scale, bound);
            check_near("rope", h, j, y[j], (x[i] * sin(angle) + x[j] * cos(angle)) * c->scale, bound);
        }
        for (uint32_t i = c->n_rot; i < c->head_dim; i++)
            assert_true(y[i] == x[i]);
    }
}

static void test_ops_rope_rotates_pairs_and_halves(void **state)
{
    (void)state;
    static const uint32_t shapes[][3] = {{2, 2, 1}, {64, 128, 4}, {128, 128, 3}, {6, 9, 5}};
    uint32_t positions[17];
    for (uint32_t i = 0; i < 17; i++)
        positions[i] = i == 5 ? 1000003 : i * i;
    for (size_t k = 0; k < COUNTOF(shapes) * 2; k++) {
        struct rope_case c = {.pairing = k % 2 ? ROPE_PAIRS : ROPE_HALVES, .n_rot = shapes[k / 2][0],
                              .head_dim = shapes[k / 2][1], .n_heads = shapes[k / 2][2],
                              .scale = k < 4 ? 1 : 1.25F, .positions = positions};
        size_t width = (size_t)c.head_dim * c.n_heads;
        float freq[64], *x = rig_random(k, 17 * width, 2), *out = rig_alloc(17 * width * sizeof(*out));
        for (uint32_t i = 0; i < c.n_rot / 2; i++)
            freq[i] = powf(10000, -2.0F * (float)i / (float)c.n_rot);
        c.freq = freq;
        c.x = x;
        for (size_t s = 0; rig_isa(s); s++) {
            rig_check_bits(rig_isa(s), run_rope, &c, row_counts[k % 3], width, out);
            check_rope(&c, out, row_counts[k % 3]);
        }
        free(x);
        free(out);
    }
}

/* ---- glu, add, gather ---- */

struct two_case {
    enum activation act;
    uint32_t width;
    const float *a, *b;
    bool in_place;
};

static void run_glu(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct two_case *c = arg;
    size_t values = (size_t)n * c->width;
    struct glu_args a = {.act = c->act, .n_rows = n, .width = c->width};
    a.gate = rig_span(r, c->a + (size_t)first * c->width, values);
    a.up = rig_span(r, c->b + (size_t)first * c->width, values);
    a.out = c->in_place ? a.gate : rig_span(r, NULL, values);
    r->b->glu(r->d, &a);
    rig_take(r, a.out, out, values);
    r->b->mem_destroy(r->d, a.up.mem);
    if (!c->in_place)
        r->b->mem_destroy(r->d, a.gate.mem);
}

static void run_add(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct two_case *c = arg;
    size_t values = (size_t)n * c->width;
    struct span to = rig_span(r, c->a + (size_t)first * c->width, values);
    struct span from = rig_span(r, c->b + (size_t)first * c->width, values);
    r->b->add(r->d, to, from, values);
    rig_take(r, to, out, values);
    r->b->mem_destroy(r->d, from.mem);
}

static double activated(enum activation act, double gate, double up)
{
    double g = fmin(gate, 7), u = fmax(fmin(up, 7), -7);
    switch (act) {
    case ACT_SILU: return gate / (1 + exp(-gate)) * up;
    case ACT_GELU: return gate * (1 + tanh(sqrt(2 / M_PI) * (gate + 0.044715 * gate * gate * gate))) / 2 * up;
    case ACT_CLAMPED: return (u + 1) * g / (1 + exp(-1.702 * g));
    case ACT_SIGMOID: return up / (1 + exp(-gate));
    }
    return NAN;
}

static void test_ops_glu_and_add(void **state)
{
    (void)state;
    static const uint32_t widths[] = {1, 7, 33, 768, 1021};
    for (size_t k = 0; k < COUNTOF(widths) * 3 * 4; k++) {
        uint32_t n_rows = row_counts[k % 3], width = widths[k / 3 % COUNTOF(widths)];
        size_t n = (size_t)n_rows * width;
        float *a = rig_random(k, n, 9), *b = rig_random(k + 99, n, 9), *out = rig_alloc(n * sizeof(*out));
        struct two_case c = {(enum activation)(k / 15), width, a, b, k % 2};
        for (size_t s = 0; rig_isa(s); s++) {
            rig_check_bits(rig_isa(s), run_glu, &c, n_rows, width, out);
            for (size_t i = 0; i < n; i++) {
                double want = activated(c.act, a[i], b[i]), bound = c.act == ACT_SILU ? 0 : 1e-6 * fabs(b[i]);
                check_near("glu", i / width, i % width, out[i], want, 2e-6 * fabs(want) + bound + 1e-30);
            }
            rig_check_bits(rig_isa(s), run_add, &c, n_rows, width, out);
            for (size_t i = 0; i < n; i++)
                assert_true(out[i] == a[i] + b[i]);
        }
        free(a);
        free(b);
        free(out);
    }
}

static void test_ops_gather_moves_rows(void **state)
{
    (void)state;
    static const uint32_t rows[] = {4, 0, 4, 2, 1, 3};
    float *x = rig_random(1, 5 * 37, 1), out[6 * 37];
    for (size_t s = 0; rig_isa(s); s++) {
        struct rig r;
        rig_open(&r, rig_isa(s), 2);
        struct span from = rig_span(&r, x, 5 * 37), to = rig_span(&r, NULL, 6 * 37);
        r.b->gather(r.d, to, from, rows, 6, 37);
        rig_take(&r, to, out, 6 * 37);
        for (size_t i = 0; i < 6; i++)
            assert_memory_equal(out + i * 37, x + (size_t)rows[i] * 37, 37 * sizeof(float));
        r.b->mem_destroy(r.d, from.mem);
        rig_close(&r);
    }
    free(x);
}

/* ---- scale, copy ---- */

struct scale_case {
    uint32_t width;
    float factor, cap;
    const float *x, *factors, *gates; /* factors, gates: or NULL */
};

static void run_scale(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct scale_case *c = arg;
    struct scale_args a = {.n_rows = n, .width = c->width, .factor = c->factor, .cap = c->cap,
                           .factors = c->factors ? c->factors + first : NULL};
    a.x = rig_span(r, c->x + (size_t)first * c->width, (size_t)n * c->width);
    if (c->gates)
        a.gates = rig_span(r, c->gates + first, n);
    r->b->scale(r->d, &a);
    rig_take(r, a.x, out, (size_t)n * c->width);
    if (c->gates)
        r->b->mem_destroy(r->d, a.gates.mem);
}

static void test_ops_scale_multiplies_and_caps(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 8; k++) {
        uint32_t width = k % 2 ? 33 : 1030, n = 17;
        float *x = rig_random(k, n * width, 9), *factors = rig_random(k + 9, n, 2), *gates = rig_random(k + 19, n, 5);
        struct scale_case c = {width, 1.75F, k & 1 ? 3 : 0, x, k & 2 ? factors : NULL, k & 4 ? gates : NULL};
        float *out = rig_alloc(n * width * sizeof(*out));
        for (size_t s = 0; rig_isa(s); s++) {
            rig_check_bits(rig_isa(s), run_scale, &c, n, width, out);
            for (size_t i = 0; i < n * width; i++) {
                size_t row = i / width;
                double want = x[i] * 1.75 * (c.factors ? factors[row] : 1) * (c.gates ? 1 / (1 + exp(-gates[row])) : 1);
                want = c.cap != 0 ? 3 * tanh(want / 3) : want;
                check_near("scale", row, i % width, out[i], want, 2e-6 * fabs(want) + 1e-30);
            }
        }
        free(x);
        free(factors);
        free(gates);
        free(out);
    }
}

static void test_ops_copy_moves_pieces(void **state)
{
    (void)state;
    float *x = rig_random(1, 60, 1), *y = rig_random(2, 60, 1), out[60];
    for (size_t s = 0; rig_isa(s); s++) {
        struct rig r;
        rig_open(&r, rig_isa(s), 2);
        struct span from = rig_span(&r, x, 60), to = rig_span(&r, y, 60);
        r.b->copy(r.d, &(struct copy_args){from, to, 11, 7, 5, 4});
        rig_take(&r, to, out, 60);
        for (size_t i = 0; i < 60; i++)
            assert_true(out[i] == (i < 4 * 7 && i % 7 < 5 ? x[i / 7 * 11 + i % 7] : y[i]));
        r.b->mem_destroy(r.d, from.mem);
        rig_close(&r);
    }
    free(x);
    free(y);
}

/* ---- heads ---- */

struct heads_case {
    struct matrix w;
    uint32_t x_head, y_head; /* more than a head's values: the rest is another's */
    const float *x, *y;
};

static void run_heads(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct heads_case *c = arg;
    uint32_t x_row = c->w.slices * c->x_head + 3, y_row = c->w.slices * c->y_head;
    struct heads_args a = {.w = matrix_load(r, &c->w), .x_row = x_row, .x_head = c->x_head, .y_row = y_row,
                           .y_head = c->y_head, .n_rows = n};
    a.x = rig_span(r, c->x + (size_t)first * x_row, (size_t)n * x_row);
    a.y = rig_span(r, c->y + (size_t)first * y_row, (size_t)n * y_row);
    r->b->heads(r->d, &a);
    rig_take(r, a.y, out, (size_t)n * y_row);
    r->b->mem_destroy(r->d, a.x.mem);
    r->b->weight_destroy(r->d, (struct weight *)(uintptr_t)a.w);
}

static void check_heads(const struct heads_case *c, const float *out, uint32_t n_rows)
{
    const struct matrix *w = &c->w;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t h = 0; h < w->slices; h++) {
            double in[RIG_COLS_MAX], magnitude;
            matrix_input(w, (uint32_t)h, c->x + r * (w->slices * c->x_head + 3) + h * c->x_head, in);
            for (size_t i = 0; i < c->y_head; i++) {
                size_t at = (r * w->slices + h) * c->y_head + i;
                if (i >= w->rows) {
                    assert_true(out[at] == c->y[at]);
                    continue;
                }
                double want = reference_dot(w->values + (h * w->rows + i) * w->cols, in, w->cols, &magnitude);
                check_near("heads", r, at, out[at], want, 1e-5 * magnitude + 1e-30);
            }
        }
}

static void test_ops_heads_multiply_their_own(void **state)
{
    (void)state;
    static const uint32_t shapes[][4] = { /* type, heads, rows, cols */
        {QTYPE_F32, 4, 19, 33}, {QTYPE_F16, 1, 64, 512}, {QTYPE_Q8_0, 5, 70, 128}, {QTYPE_Q4_K, 3, 32, 512},
        {QTYPE_FP8_32, 3, 19, 96}, {QTYPE_INT4_32, 5, 30, 320},
    };
    for (size_t k = 0; k < COUNTOF(shapes); k++) { /* the last with an order */
        struct heads_case c = {.x_head = shapes[k][3] + 5, .y_head = shapes[k][2] + 2};
        uint32_t heads = shapes[k][1], n = 150;
        matrix_make(&c.w, shapes[k][0], shapes[k][2], shapes[k][3], heads);
        if (k + 1 == COUNTOF(shapes))
            matrix_reorder(&c.w);
        c.x = rig_random(k, (size_t)n * (heads * c.x_head + 3), 1);
        c.y = rig_random(k + 7, (size_t)n * heads * c.y_head, 1);
        float *out = rig_alloc((size_t)n * heads * c.y_head * sizeof(*out));
        for (size_t s = 0; rig_isa(s); s++) {
            rig_check_bits(rig_isa(s), run_heads, &c, n, (size_t)heads * c.y_head, out);
            check_heads(&c, out, n);
        }
        matrix_free(&c.w);
        free((void *)(uintptr_t)c.x);
        free((void *)(uintptr_t)c.y);
        free(out);
    }
}

/* Slices that lie apart are those that lie together. */
static void test_ops_weights_take_slices_that_lie_apart(void **state)
{
    (void)state;
    struct matrix m;
    matrix_make(&m, QTYPE_Q8_0, 8, 64, 3);
    size_t slice = m.rows * qtype_row_bytes(m.type, m.cols);
    uint8_t *apart = rig_alloc(3 * 2 * slice);
    memset(apart, 0xff, 3 * 2 * slice);
    for (size_t i = 0; i < 3; i++)
        memcpy(apart + 2 * i * slice, m.bytes + i * slice, slice);
    float *x = rig_random(1, 3 * 64, 1), want[24], got[24];
    for (size_t s = 0; rig_isa(s); s++) {
        struct rig r;
        rig_open(&r, rig_isa(s), 1);
        struct weight_desc d = {.type = m.type, .rows = m.rows, .cols = m.cols, .slices = m.slices, .bytes = apart,
                                .slice_stride = 2 * slice};
        struct weight *w[2] = {matrix_load(&r, &m), NULL};
        assert_int_equal(r.b->weight_create(r.d, &w[1], &d, NULL), 0);
        for (int i = 0; i < 2; i++) {
            struct heads_args a = {.w = w[i], .x = rig_span(&r, x, 3 * 64), .y = rig_span(&r, NULL, 24), .x_row = 192,
                                   .x_head = 64, .y_row = 24, .y_head = 8, .n_rows = 1};
            r.b->heads(r.d, &a);
            rig_take(&r, a.y, i ? got : want, 24);
            r.b->mem_destroy(r.d, a.x.mem);
            r.b->weight_destroy(r.d, w[i]);
        }
        assert_memory_equal(got, want, sizeof(got));
        rig_close(&r);
    }
    matrix_free(&m);
    free(apart);
    free(x);
}

/* ---- delta ---- */

enum { K_HEADS = 2, V_HEADS = 4, K_DIM = 16, V_DIM = 24, TAPS = 3, DELTA_ROWS = 20,
       DELTA_QK = 2 * K_HEADS * K_DIM, DELTA_CHANNELS = DELTA_QK + V_HEADS * V_DIM, DELTA_INNER = V_HEADS * V_DIM,
       DELTA_STATE = V_HEADS * K_DIM * V_DIM + (TAPS - 1) * DELTA_CHANNELS };

struct delta_case {
    bool tiled, both, by_channel;
    struct matrix conv, a, dt;
    float *x, *gates; /* [DELTA_ROWS][...]; gates: betas, then alphas, of all heads or of each key head */
    float *alphas;    /* [DELTA_ROWS][V_HEADS * K_DIM], by channel */
};

/* The convolution's weights as three matrices. */
static void cut_conv(const struct rig *r, const struct delta_case *c, struct weight **w)
{
    const uint32_t rows[] = {DELTA_QK / 2, DELTA_QK / 2, DELTA_INNER};
    size_t at = 0;
    r->b->weight_destroy(r->d, w[0]);
    for (size_t i = 0; i < 3; at += rows[i++] * (size_t)TAPS) {
        struct weight_desc d = {.type = c->conv.type, .rows = 1, .cols = TAPS, .slices = rows[i],
                                .bytes = c->conv.values + at};
        assert_int_equal(r->b->weight_create(r->d, &w[i ? i + 2 : 0], &d, NULL), 0);
    }
}

/* Rows in steps of `piece`, the state going to and fro between two places. */
static void run_delta(const struct rig *r, const struct delta_case *c, uint32_t piece, float *out)
{
    struct weight *w[5] = {matrix_load(r, &c->conv), matrix_load(r, &c->a), matrix_load(r, &c->dt)};
    if (c->by_channel)
        cut_conv(r, c, w);
    struct span states = rig_span(r, NULL, 2 * DELTA_STATE);
    for (uint32_t first = 0, n, k = 0; first < DELTA_ROWS; first += n, k++) {
        n = DELTA_ROWS - first < piece ? DELTA_ROWS - first : piece;
        struct delta_run run = {0, n, k == 0 ? DELTA_NOTHING : k % 2, 1 - k % 2};
        struct delta_args a = {.k_heads = K_HEADS, .v_heads = V_HEADS, .k_dim = K_DIM, .v_dim = V_DIM, .kernel = TAPS,
                               .tiled = c->tiled, .by_channel = c->by_channel, .eps = 1e-6F,
                               .conv = {w[0], w[3], w[4]}, .a = w[1], .dt = w[2], .states = states,
                               .state_values = DELTA_STATE, .runs = &run, .n_runs = 1, .gate_row = 2 * V_HEADS,
                               .gate_group = c->both ? 4 : 2};
        a.x = rig_span(r, c->x + (size_t)first * DELTA_CHANNELS, (size_t)n * DELTA_CHANNELS);
        a.work = rig_span(r, NULL, (size_t)n * DELTA_CHANNELS);
        a.out = rig_span(r, NULL, (size_t)n * DELTA_INNER);
        a.beta = rig_span(r, c->gates + (size_t)first * 2 * V_HEADS, (size_t)n * 2 * V_HEADS);
        a.alpha = (struct span){a.beta.mem, a.beta.offset + (c->both ? 2 : V_HEADS) * sizeof(float)};
        if (c->by_channel)
            a.alpha = rig_span(r, c->alphas + (size_t)first * V_HEADS * K_DIM, (size_t)n * V_HEADS * K_DIM);
        r->b->delta(r->d, &a);
        rig_take(r, a.out, out + (size_t)first * DELTA_INNER, (size_t)n * DELTA_INNER);
        r->b->mem_destroy(r->d, a.x.mem);
        r->b->mem_destroy(r->d, a.work.mem);
        if (c->by_channel)
            r->b->mem_destroy(r->d, a.alpha.mem);
        r->b->mem_destroy(r->d, a.beta.mem);
    }
    r->b->mem_destroy(r->d, states.mem);
    for (int i = 0; i < 5; i++)
        r->b->weight_destroy(r->d, w[i]);
}

/* Channel i of row r after the convolution and SiLU. */
static double convolved(const struct delta_case *c, size_t r, size_t i)
{
    double sum = 0;
    for (size_t t = 0; t < TAPS; t++)
        if (r + t >= TAPS - 1)
            sum += (double)c->x[(r + t - (TAPS - 1)) * DELTA_CHANNELS + i] * c->conv.values[i * TAPS + t];
    return sum / (1 + exp(-sum));
}

static void unit(const struct delta_case *c, size_t r, size_t first, double *out)
{
    double square = 0;
    for (size_t i = 0; i < K_DIM; i++) {
        out[i] = convolved(c, r, first + i);
        square += out[i] * out[i];
    }
    for (size_t i = 0; i < K_DIM; i++)
        out[i] /= sqrt(square + 1e-6);
}

static void check_delta_head(const struct delta_case *c, size_t h, const float *got)
{
    double s[K_DIM][V_DIM] = {{0}}, q[K_DIM], k[K_DIM];
    size_t key = c->tiled ? h % K_HEADS : h / 2, gate = c->both ? h / 2 * 4 + h % 2 : h;
    for (size_t r = 0; r < DELTA_ROWS; r++) {
        unit(c, r, key * K_DIM, q);
        unit(c, r, (K_HEADS + key) * K_DIM, k);
        double decays[K_DIM];
        for (size_t i = 0; i < K_DIM; i++) {
            double alpha = c->by_channel ? c->alphas[(r * V_HEADS + h) * K_DIM + i] + c->dt.values[h * K_DIM + i]
                           : c->gates[r * 2 * V_HEADS + gate + (c->both ? 2 : V_HEADS)] + c->dt.values[h];
            decays[i] = exp(c->a.values[h] * log1p(exp(alpha)));
        }
        double beta = 1 / (1 + exp(-c->gates[r * 2 * V_HEADS + gate]));
        for (size_t v = 0; v < V_DIM; v++) {
            double seen = 0, want = 0;
            for (size_t i = 0; i < K_DIM; i++)
                seen += k[i] * (s[i][v] *= decays[i]);
            for (size_t i = 0; i < K_DIM; i++) {
                s[i][v] += k[i] * beta * (convolved(c, r, DELTA_QK + h * V_DIM + v) - seen);
                want += q[i] / sqrt(K_DIM) * s[i][v];
            }
            check_near("delta", r, h * V_DIM + v, got[(r * V_HEADS + h) * V_DIM + v], want, 1e-5 * (1 + fabs(want)));
        }
    }
}

static void test_ops_delta_is_the_rule_however_rows_are_cut(void **state)
{
    (void)state;
    static const uint32_t pieces[] = {DELTA_ROWS, 1, 2, 7};
    float *whole = rig_alloc(DELTA_ROWS * DELTA_INNER * sizeof(float)), *out = rig_alloc(DELTA_ROWS * DELTA_INNER * 4);
    for (int k = 0; k < 5; k++) {
        struct delta_case c = {.tiled = k % 2, .both = k / 2 == 1, .by_channel = k == 4};
        matrix_make(&c.conv, QTYPE_F32, DELTA_CHANNELS, TAPS, 1);
        matrix_make(&c.a, QTYPE_F32, 1, V_HEADS, 1);
        matrix_make(&c.dt, QTYPE_F32, 1, c.by_channel ? V_HEADS * K_DIM : V_HEADS, 1);
        c.alphas = rig_random(4, DELTA_ROWS * V_HEADS * K_DIM, 2);
        c.x = rig_random(1, DELTA_ROWS * DELTA_CHANNELS, 2);
        c.gates = rig_random(2, DELTA_ROWS * 2 * V_HEADS, 3);
        for (size_t s = 0; rig_isa(s); s++)
            for (size_t p = 0; p < COUNTOF(pieces); p++) {
                struct rig r;
                rig_open(&r, rig_isa(s), p % 2 + 1);
                run_delta(&r, &c, pieces[p], p ? out : whole);
                assert_memory_equal(p ? out : whole, whole, DELTA_ROWS * DELTA_INNER * sizeof(float));
                for (size_t h = 0; p == 0 && h < V_HEADS; h++)
                    check_delta_head(&c, h, whole);
                rig_close(&r);
            }
        matrix_free(&c.conv);
        matrix_free(&c.a);
        matrix_free(&c.dt);
        free(c.x);
        free(c.gates);
        free(c.alphas);
    }
    free(whole);
    free(out);
}

/* ---- what is not a number ---- */

enum { BAD_ROWS = 5, BAD_WIDTH = 256 };

/* Runs with bad values in row 2 alone: the other rows keep their bits, and row 2 is not finite where it was. */
static void check_bad(const char *what, case_fn run, void *arg, float *x, size_t width)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3.4e38F};
    float *good = rig_alloc(BAD_ROWS * width * sizeof(*good)), *out = rig_alloc(BAD_ROWS * width * sizeof(*out));
    float saved[3], *row = x + 2 * BAD_WIDTH;
    for (size_t s = 0; rig_isa(s); s++) {
        struct rig r;
        rig_open(&r, rig_isa(s), 2);
        run(&r, arg, 0, BAD_ROWS, good);
        memcpy(saved, row + 40, sizeof(saved));
        for (size_t k = 0; k < COUNTOF(bad); k++) {
            row[40] = row[42] = bad[k];
            row[41] = -bad[k];
            run(&r, arg, 0, BAD_ROWS, out);
            for (size_t i = 0; i < BAD_ROWS * width; i++)
                if (i / width != 2 && memcmp(&out[i], &good[i], sizeof(float)) != 0)
                    fail_msg("%s, %s: %g in row 2 changes row %zu", what, rig_isa(s), (double)bad[k], i / width);
            memcpy(row + 40, saved, sizeof(saved));
        }
        rig_close(&r);
    }
    free(good);
    free(out);
}

static void test_ops_bad_values_stay_in_their_row(void **state)
{
    (void)state;
    const struct qtype *type;
    float *x = rig_random(5, BAD_ROWS * BAD_WIDTH, 1), *y = rig_random(6, BAD_ROWS * BAD_WIDTH, 1);
    for (size_t t = 0; (type = qtype_at(t)) != NULL; t++) {
        struct matmul_case m = {.n = 1, .out_width = 35, .x = x, .y = y};
        matrix_make(&m.w[0], type->id, 35, BAD_WIDTH, 1);
        check_bad(type->name, run_matmul, &m, x, 35);
        matrix_free(&m.w[0]);
    }
    struct norm_case n = {.width = BAD_WIDTH, .group = BAD_WIDTH, .x = x};
    matrix_make(&n.weight, QTYPE_F32, 1, BAD_WIDTH, 1);
    check_bad("norm", run_norm, &n, x, BAD_WIDTH);
    matrix_free(&n.weight);
    struct two_case g = {ACT_SILU, BAD_WIDTH, x, y, false};
    check_bad("glu", run_glu, &g, x, BAD_WIDTH);
    free(x);
    free(y);
}

/* ---- devices and what they refuse ---- */

static void refuse_weight(const struct rig *r, uint32_t type, uint32_t rows, uint32_t cols, uint32_t slices, int want)
{
    static const uint8_t bytes[64];
    struct weight *w = (void *)&w;
    struct error e = {0};
    struct weight_desc desc = {.type = qtype_find(type), .rows = rows, .cols = cols, .slices = slices, .bytes = bytes};
    assert_int_equal(r->b->weight_create(r->d, &w, &desc, &e), want);
    assert_null(w);
    assert_true(e.text[0] != '\0');
}

static void test_ops_weight_create_refuses(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, 1);
    refuse_weight(&r, QTYPE_Q4_K, 1, 255, 1, ERR_UNSUPPORTED);
    refuse_weight(&r, QTYPE_Q8_0, 1, 33, 1, ERR_UNSUPPORTED);
    refuse_weight(&r, QTYPE_F32, 1, 0, 1, ERR_UNSUPPORTED);
    refuse_weight(&r, QTYPE_F32, 0, 1, 1, ERR_UNSUPPORTED);
    refuse_weight(&r, QTYPE_F32, 1, 1, 0, ERR_UNSUPPORTED);
    refuse_weight(&r, QTYPE_F32, UINT32_MAX, UINT32_MAX, UINT32_MAX, ERR_UNSUPPORTED);
    refuse_weight(&r, QTYPE_F32, 1u << 31, 1u << 31, 1, ERR_UNSUPPORTED);
    refuse_weight(&r, QTYPE_F32, 1u << 28, 1u << 28, 1, ERR_MEMORY);
    static const uint32_t order[64];
    static const float values[64];
    struct weight_desc desc = {.type = qtype_find(QTYPE_F32), .rows = 1, .cols = 64, .slices = 1, .bytes = values,
                               .order = order};
    struct weight *w = (void *)&w;
    assert_int_equal(r.b->weight_create(r.d, &w, &desc, NULL), ERR_UNSUPPORTED);
    assert_null(w);
    r.b->weight_destroy(r.d, NULL);
    r.b->mem_destroy(r.d, NULL);
    struct devmem *m = (void *)&m;
    struct error e = {0};
    assert_int_equal(r.b->mem_create(r.d, &m, SIZE_MAX / 4, &e), ERR_MEMORY);
    assert_null(m);
    rig_close(&r);
}

static void test_ops_reserve_reports_no_memory_and_can_be_repeated(void **state)
{
    (void)state;
    struct rig r;
    struct error e = {0};
    rig_open(&r, NULL, 1);
    struct reserve_args huge = {.rows = 1u << 31, .cols = 1u << 24};
    assert_int_equal(r.b->reserve(r.d, &huge, &e), ERR_MEMORY);
    huge = (struct reserve_args){.rows = UINT32_MAX, .cols = UINT32_MAX, .experts = UINT32_MAX,
                                 .experts_used = UINT32_MAX, .width = UINT32_MAX, .ffn = UINT32_MAX};
    assert_int_equal(r.b->reserve(r.d, &huge, &e), ERR_MEMORY);
    struct reserve_args small = {.rows = 1, .cols = 32, .rope_half = 1};
    for (int i = 0; i < 3; i++)
        assert_int_equal(r.b->reserve(r.d, &small, &e), 0);
    rig_close(&r);
}

static void test_ops_devices_open_and_tell(void **state)
{
    (void)state;
    struct device *d;
    struct error e = {0};
    struct device_facts facts;
    struct device_options o = {.threads = 2};
    assert_int_equal(backend_open(&d, NULL, &o, &e), 0);
    d->backend->facts(d, &facts);
    assert_int_equal(facts.cores, 2);
    assert_true(facts.memory_bytes > 0);
    assert_non_null(strstr(facts.name, "2 threads"));
    backend_close(&d);
    backend_close(&d);
    assert_int_equal(backend_open(&d, "abacus", &o, &e), ERR_NOT_FOUND);
    assert_null(d);
    o.isa = "abacus";
    assert_int_equal(backend_open(&d, "cpu", &o, &e), ERR_UNSUPPORTED);
    assert_null(d);
    o = (struct device_options){.threads = 100000};
    assert_int_equal(backend_open(&d, "cpu", &o, &e), ERR_INVALID);
    assert_null(d);
    assert_ptr_equal(backend_at(0), backend_at(0));
    assert_non_null(backend_at(0));
    assert_null(backend_at(100));
}

static void test_ops_memory_moves_and_is_seen(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, NULL, 1);
    float x[40], y[40];
    for (int i = 0; i < 40; i++)
        x[i] = (float)i;
    struct span s = rig_span(&r, x, 40);
    const float *view = r.b->host_view(r.d, s);
    assert_memory_equal(view, x, sizeof(x));
    r.b->sync(r.d);
    rig_take(&r, s, y, 40);
    assert_memory_equal(x, y, sizeof(x));
    rig_close(&r);
}

static void test_ops_bandwidth_is_measured(void **state)
{
    (void)state;
    assert_true(backend_read_bandwidth(1, 1 << 20) > 0);
    assert_true(backend_read_bandwidth(2, 1 << 20) > 0);
    assert_true(backend_read_bandwidth(0, 1 << 20) == 0);
}

static void test_ops_ceilings_are_measured(void **state)
{
    (void)state;
    assert_true(backend_ceiling(CEILING_F32, NULL, 1) > 0);
    assert_true(backend_ceiling(CEILING_F32, "scalar", 2) > 0);
    assert_true(backend_ceiling(CEILING_INT8, "scalar", 1) == 0);
    assert_true(backend_ceiling(CEILING_F32, "abacus", 1) == 0);
    assert_true(backend_ceiling(CEILING_F32, NULL, 0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops_embed_reads_the_rows_of_ids),
        cmocka_unit_test(test_ops_norm_divides_by_the_root_mean_square_or_deviation),
        cmocka_unit_test(test_ops_norm_leaves_what_lies_between_rows),
        cmocka_unit_test(test_ops_matmul_multiplies_every_type),
        cmocka_unit_test(test_ops_matmul_takes_odd_widths),
        cmocka_unit_test(test_ops_matmul_shares_x_among_matrices),
        cmocka_unit_test(test_ops_matmul_takes_columns_in_any_order),
        cmocka_unit_test(test_ops_matmul_takes_many_rows),
        cmocka_unit_test(test_ops_rope_rotates_pairs_and_halves),
        cmocka_unit_test(test_ops_glu_and_add),
        cmocka_unit_test(test_ops_gather_moves_rows),
        cmocka_unit_test(test_ops_scale_multiplies_and_caps),
        cmocka_unit_test(test_ops_copy_moves_pieces),
        cmocka_unit_test(test_ops_heads_multiply_their_own),
        cmocka_unit_test(test_ops_delta_is_the_rule_however_rows_are_cut),
        cmocka_unit_test(test_ops_weights_take_slices_that_lie_apart),
        cmocka_unit_test(test_ops_bad_values_stay_in_their_row),
        cmocka_unit_test(test_ops_weight_create_refuses),
        cmocka_unit_test(test_ops_reserve_reports_no_memory_and_can_be_repeated),
        cmocka_unit_test(test_ops_devices_open_and_tell),
        cmocka_unit_test(test_ops_memory_moves_and_is_seen),
        cmocka_unit_test(test_ops_bandwidth_is_measured),
        cmocka_unit_test(test_ops_ceilings_are_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
