/* test_moe: the expert layer against a plain one in doubles: choice, ties, weights, sums, and its bits. */
#include "tests/kernels/rig.h"

struct moe_case {
    struct matrix router, gate, up, down;
    struct matrix router_bias, select_bias, gate_bias, up_bias, down_bias;
    bool biased, selected; /* with biases of products; of the choice */
    enum router_scores scores;
    float near;
    enum activation act;
    uint32_t n_groups, n_groups_used;
    uint32_t n_used;
    bool normalise;
    float scale;
    const float *x, *out; /* out: what is added to */
    const struct thin_matrices *thin; /* [2]: of rows in turn: none, the first, the second; NULL: there are none */
};

enum { THIN = 6 };

/* a and b of gate, up and down. */
struct thin_matrices {
    struct matrix of[THIN];
};

static void load_thin(const struct rig *r, const struct thin_matrices *t, struct weight *w[THIN], struct moe_lora *out)
{
    for (int i = 0; i < THIN; i++)
        w[i] = matrix_load(r, &t->of[i]);
    *out = (struct moe_lora){.gate = {w[0], w[1]}, .up = {w[2], w[3]}, .down = {w[4], w[5]}};
}

static void reserve(const struct rig *r, const struct moe_case *c, uint32_t n)
{
    uint32_t width = c->router.cols, ffn = c->gate.rows, rank = 0;
    struct error e = {0};
    for (int i = 0; c->thin && i < 2 * THIN; i += 2)
        rank = c->thin[i / THIN].of[i % THIN].rows > rank ? c->thin[i / THIN].of[i % THIN].rows : rank;
    struct reserve_args most = {.rows = n, .cols = width, .experts = c->router.rows, .experts_used = c->n_used,
                                .width = width, .ffn = ffn, .lora_rank = rank, .lora_cols = width > ffn ? width : ffn};
    if (r->b->reserve(r->d, &most, &e) != 0)
        fail_msg("%s", e.text);
}

static void run_moe(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct moe_case *c = arg;
    uint32_t width = c->router.cols;
    struct weight *w[4] = {matrix_load(r, &c->router), matrix_load(r, &c->gate), matrix_load(r, &c->up),
                           matrix_load(r, &c->down)};
    struct weight *b[5] = {NULL};
    if (c->biased) {
        b[0] = matrix_load(r, &c->router_bias);
        b[1] = matrix_load(r, &c->gate_bias);
        b[2] = matrix_load(r, &c->up_bias);
        b[3] = matrix_load(r, &c->down_bias);
    }
    if (c->selected)
        b[4] = matrix_load(r, &c->select_bias);
    struct moe_args a = {.router = w[0], .gate = w[1], .up = w[2], .down = w[3], .router_bias = b[0],
                         .gate_bias = b[1], .up_bias = b[2], .down_bias = b[3], .select_bias = b[4],
                         .scores = c->scores, .near = c->near, .act = c->act, .n_groups = c->n_groups,
                         .n_groups_used = c->n_groups_used, .normalise = c->normalise, .scale = c->scale,
                         .n_used = c->n_used, .n_rows = n, .width = width, .ffn = c->gate.rows};
    struct weight *thin[2][THIN] = {{NULL}};
    struct moe_lora loras[2];
    uint8_t lora_of[RIG_ROWS_MAX];
    for (uint32_t i = 0; i < n; i++)
        lora_of[i] = (uint8_t)((first + i) % 3);
    for (int i = 0; c->thin && i < 2; i++)
        load_thin(r, &c->thin[i], thin[i], &loras[i]);
    reserve(r, c, n);
    a.loras = c->thin ? loras : NULL;
    a.lora_of = lora_of;
    a.x = rig_span(r, c->x + (size_t)first * width, (size_t)n * width);
    a.out = rig_span(r, c->out + (size_t)first * width, (size_t)n * width);
    r->b->moe(r->d, &a);
    rig_take(r, a.out, out, (size_t)n * width);
    r->b->mem_destroy(r->d, a.x.mem);
    for (size_t i = 0; i < COUNTOF(w); i++)
        r->b->weight_destroy(r->d, w[i]);
    for (size_t i = 0; i < COUNTOF(b); i++)
        r->b->weight_destroy(r->d, b[i]);
    for (size_t i = 0; i < 2 * THIN; i++)
        r->b->weight_destroy(r->d, thin[i / THIN][i % THIN]);
}

/* ---- the reference ---- */

struct choice {
    uint32_t expert[RIG_EXPERTS_MAX];
    double weight[RIG_EXPERTS_MAX];
};

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* A group counts as its two largest, as its largest where nothing is added. */
static double group_value(const struct moe_case *c, const double *s, uint32_t n)
{
    double best = -INFINITY, second = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        second = s[i] > best ? best : fmax(second, s[i]);
        best = fmax(best, s[i]);
    }
    return c->selected ? best + second : best;
}

static void reference_groups(const struct moe_case *c, double *s)
{
    uint32_t n = c->n_groups, each = c->router.rows / n;
    double value[RIG_EXPERTS_MAX];
    for (uint32_t g = 0; g < n; g++)
        value[g] = group_value(c, s + g * each, each);
    for (uint32_t g = 0; g < n; g++) {
        uint32_t better = 0;
        for (uint32_t o = 0; o < n; o++)
            better += value[o] > value[g];
        for (uint32_t i = 0; better >= c->n_groups_used && i < each; i++)
            s[g * each + i] = -INFINITY;
    }
}

static double reference_near(const struct moe_case *c, const double *p, const bool *taken, uint32_t best)
{
    double sum = 0;
    for (uint32_t i = 0; i < c->router.rows; i++)
        if (!taken[i] && (p[best] - p[i]) / fmax(fabs(p[i]), p[best]) <= c->near)
            sum += exp(p[i]);
    return exp(p[best]) / sum;
}

static void reference_choice(const struct moe_case *c, const float *x, struct choice *out)
{
    uint32_t n = c->router.rows, cols = c->router.cols;
    double p[RIG_EXPERTS_MAX], s[RIG_EXPERTS_MAX], in[RIG_COLS_MAX], sum = 0, used = 0, magnitude;
    bool taken[RIG_EXPERTS_MAX] = {false};
    matrix_input(&c->router, 0, x, in);
    for (uint32_t i = 0; i < n; i++) {
        p[i] = reference_dot(c->router.values + (size_t)i * cols, in, cols, &magnitude);
        p[i] += c->biased ? c->router_bias.values[i] : 0;
        sum += exp(p[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        p[i] = c->scores == ROUTER_SOFTMAX ? exp(p[i]) / sum : c->scores == ROUTER_SIGMOID ? sigmoid(p[i]) : p[i];
        s[i] = p[i] + (c->selected ? c->select_bias.values[i] : 0);
    }
    if (c->n_groups)
        reference_groups(c, s);
    double chosen_sum = 0;
    for (uint32_t k = 0; k < c->n_used; k++) {
        uint32_t best = n;
        for (uint32_t i = 0; i < n; i++)
            if (!taken[i] && (best == n || s[i] > s[best]))
                best = i;
        out->expert[k] = best;
        used += exp(p[best]);
        out->weight[k] = c->scores == ROUTER_SIGMOID_INPUT ? sigmoid(p[best]) : p[best];
        if (c->scores == ROUTER_NEAR)
            out->weight[k] = reference_near(c, p, taken, best);
        chosen_sum += out->weight[k];
        taken[best] = true;
    }
    for (uint32_t k = 0; c->scores == ROUTER_SOFTMAX_CHOSEN && k < c->n_used; k++)
        out->weight[k] = exp(out->weight[k]) / used;
    if (c->scores == ROUTER_SOFTMAX_CHOSEN)
        chosen_sum = 1;
    for (uint32_t k = 0; k < c->n_used; k++) {
        out->weight[k] /= c->normalise ? fmax(chosen_sum, 6.103515625e-5) : 1;
        out->weight[k] *= c->scale != 0 ? c->scale : 1;
    }
}

/* One expert's output for a row, weighted, and the size of the error that one flipped quant of `hidden` makes. */
static void reference_expert(const struct moe_case *c, const float *x, uint32_t expert, double weight, double *sum,
                             double *magnitude)
{
    uint32_t width = c->router.cols, ffn = c->gate.rows;
    size_t slice = (size_t)expert * ffn * width;
    const float *gate = c->gate.values + slice, *up = c->up.values + slice, *down = c->down.values + slice;
    double in[RIG_COLS_MAX], hidden_in[RIG_FFN_MAX], m;
    float hidden[RIG_FFN_MAX], weighed[RIG_COLS_MAX];
    for (uint32_t i = 0; i < width; i++)
        weighed[i] = x[i] * (c->scores == ROUTER_SIGMOID_INPUT ? (float)weight : 1);
    weight = c->scores == ROUTER_SIGMOID_INPUT ? 1 : weight;
    for (uint32_t i = 0; i < ffn; i++) {
        matrix_input(&c->gate, expert, weighed, in);
        double g = reference_dot(gate + (size_t)i * width, in, width, &m);
        matrix_input(&c->up, expert, weighed, in);
        double u = reference_dot(up + (size_t)i * width, in, width, &m);
        g += c->biased ? c->gate_bias.values[expert * ffn + i] : 0;
        u += c->biased ? c->up_bias.values[expert * ffn + i] : 0;
        if (c->act == ACT_CLAMPED)
            hidden[i] = (float)((fmax(fmin(u, 7), -7) + 1) * fmin(g, 7) * sigmoid(1.702 * fmin(g, 7)));
        else
            hidden[i] = (float)(g * sigmoid(g) * u);
    }
    matrix_input(&c->down, expert, hidden, hidden_in);
    for (uint32_t i = 0; i < width; i++) {
        double down_bias = c->biased ? c->down_bias.values[expert * width + i] : 0;
        sum[i] += weight * (reference_dot(down + (size_t)i * ffn, hidden_in, ffn, &m) + down_bias);
        magnitude[i] += fabs(weight) * m;
    }
}

static void check_row(const struct moe_case *c, size_t row, const float *got)
{
    uint32_t width = c->router.cols;
    const float *x = c->x + row * width;
    double sum[RIG_COLS_MAX], magnitude[RIG_COLS_MAX];
    struct choice chosen;
    reference_choice(c, x, &chosen);
    for (uint32_t i = 0; i < width; i++) {
        sum[i] = c->out[row * width + i];
        magnitude[i] = 1;
    }
    for (uint32_t k = 0; k < c->n_used; k++)
        reference_expert(c, x, chosen.expert[k], chosen.weight[k], sum, magnitude);
    /* a hidden value that lies between two quants may fall to either side */
    double bound = c->down.type->block_len > 1 ? 2e-3 : 3e-5;
    for (uint32_t i = 0; i < width; i++)
        check_near("experts", row, i, got[i], sum[i], bound * magnitude[i]);
}

/* ---- cases ---- */

static void case_open(struct moe_case *c, const uint32_t types[4], uint32_t experts, uint32_t used, uint32_t width,
                      uint32_t ffn, uint32_t n_rows)
{
    *c = (struct moe_case){.n_used = used, .normalise = true};
    matrix_make(&c->router, types[0], experts, width, 1);
    matrix_make(&c->gate, types[1], ffn, width, experts);
    matrix_make(&c->up, types[2], ffn, width, experts);
    matrix_make(&c->down, types[3], width, ffn, experts);
    matrix_make(&c->router_bias, QTYPE_F32, 1, experts, 1);
    matrix_make(&c->select_bias, QTYPE_F32, 1, experts, 1);
    matrix_make(&c->gate_bias, QTYPE_F32, experts, ffn, 1);
    matrix_make(&c->up_bias, QTYPE_F32, experts, ffn, 1);
    matrix_make(&c->down_bias, QTYPE_F32, experts, width, 1);
    c->x = rig_random(experts + used, (size_t)n_rows * width, 1);
    c->out = rig_random(4, (size_t)n_rows * width, 1);
}

static void case_close(struct moe_case *c)
{
    matrix_free(&c->router);
    matrix_free(&c->gate);
    matrix_free(&c->up);
    matrix_free(&c->down);
    matrix_free(&c->router_bias);
    matrix_free(&c->select_bias);
    matrix_free(&c->gate_bias);
    matrix_free(&c->up_bias);
    matrix_free(&c->down_bias);
    free((void *)(uintptr_t)c->x);
    free((void *)(uintptr_t)c->out);
}

static void check_case(const struct moe_case *c, uint32_t n_rows)
{
    uint32_t width = c->router.cols;
    float *out = rig_alloc((size_t)n_rows * width * sizeof(*out));
    for (size_t s = 0; rig_isa(s); s++) {
        rig_check_bits(rig_isa(s), run_moe, c, n_rows, width, out);
        for (size_t row = 0; row < n_rows; row += n_rows / 3 + 1)
            check_row(c, row, out + row * width);
    }
    free(out);
}

static void test_moe_adds_the_chosen_experts(void **state)
{
    (void)state;
    static const uint32_t types[][4] = {
        {QTYPE_F32, QTYPE_F32, QTYPE_F32, QTYPE_F32},    {QTYPE_F32, QTYPE_Q4_K, QTYPE_Q4_K, QTYPE_Q6_K},
        {QTYPE_F32, QTYPE_Q8_0, QTYPE_Q8_0, QTYPE_Q8_0}, {QTYPE_F32, QTYPE_Q4_0, QTYPE_Q4_0, QTYPE_Q4_0},
        {QTYPE_F16, QTYPE_BF16, QTYPE_F16, QTYPE_Q5_K},  {QTYPE_Q8_0, QTYPE_Q4_K, QTYPE_Q8_0, QTYPE_F16},
        {QTYPE_F32, QTYPE_FP8_128, QTYPE_FP8_128, QTYPE_FP8_32},
        {QTYPE_F32, QTYPE_INT4_128, QTYPE_INT8_64, QTYPE_INT2_32},
    };
    static const uint32_t row_counts[] = {1, 3, 17};
    for (size_t i = 0; i < COUNTOF(types); i++) {
        for (size_t k = 0; k < COUNTOF(row_counts); k++) {
            struct moe_case c;
            case_open(&c, types[i], 8, 3, 256, 256, row_counts[k]);
            c.normalise = k != 1;
            c.scale = k == 2 ? 2.5F : 0;
            check_case(&c, row_counts[k]);
            case_close(&c);
        }
    }
}

static void test_moe_takes_odd_shapes(void **state)
{
    (void)state;
    static const uint32_t floats[4] = {QTYPE_F32, QTYPE_F32, QTYPE_F16, QTYPE_BF16};
    static const uint32_t small[4] = {QTYPE_F32, QTYPE_Q8_0, QTYPE_Q4_0, QTYPE_Q8_0};
    /* experts, used, width, ffn, rows */
    static const uint32_t shapes[][5] = {
        {5, 2, 37, 19, 3}, {1, 1, 64, 33, 1}, {40, 40, 32, 32, 3}, {7, 1, 96, 160, 17},
    };
    for (size_t i = 0; i < COUNTOF(shapes) * 2; i++) {
        const uint32_t *s = shapes[i / 2];
        struct moe_case c;
        if (i % 2 && (s[2] % 32 != 0 || s[3] % 32 != 0))
            continue;
        case_open(&c, i % 2 ? small : floats, s[0], s[1], s[2], s[3], s[4]);
        check_case(&c, s[4]);
        case_close(&c);
    }
}

/* Every kind of scores, with and without what families add to them. */
static void test_moe_knows_every_router(void **state)
{
    (void)state;
    static const uint32_t types[][4] = {{QTYPE_F32, QTYPE_F32, QTYPE_F32, QTYPE_F32},
                                        {QTYPE_F32, QTYPE_Q8_0, QTYPE_Q4_0, QTYPE_Q8_0}};
    for (uint32_t k = 0; k < 5 * 6; k++) {
        struct moe_case c;
        uint32_t n_rows = k % 3 ? 17 : 1, kind = k / 6, more = k % 6;
        case_open(&c, types[more % 2], 12, 3, 64, 96, n_rows);
        c.scores = (enum router_scores)kind;
        c.near = 0.9F;
        c.biased = more / 2 % 2;
        c.selected = more / 4;
        c.act = c.biased ? ACT_CLAMPED : ACT_SILU;
        c.normalise = c.scores == ROUTER_SIGMOID;
        c.n_groups = more % 2 ? 4 : 0;
        c.n_groups_used = 2;
        check_case(&c, n_rows);
        case_close(&c);
    }
}

/* Columns in orders of their own, in some of the three matrices or in all; one row, and many; inputs weighed or not. */
static void test_moe_takes_columns_in_any_order(void **state)
{
    (void)state;
    static const uint32_t types[][4] = {{QTYPE_F32, QTYPE_INT4_32, QTYPE_INT4_32, QTYPE_INT8_32},
                                        {QTYPE_F32, QTYPE_Q4_0, QTYPE_F32, QTYPE_Q4_0},
                                        {QTYPE_F32, QTYPE_F16, QTYPE_INT3_32, QTYPE_FP8_32}};
    for (uint32_t k = 0; k < 8 * COUNTOF(types); k++) {
        struct moe_case c;
        uint32_t bits = k % 8, n_rows = k % 3 ? 17 : 1;
        case_open(&c, types[k / 8], 6, 3, 96, 64, n_rows);
        c.scores = k % 2 ? ROUTER_SIGMOID_INPUT : ROUTER_SOFTMAX;
        if (bits & 1 && k / 8 != 2)
            matrix_reorder(&c.gate);
        if (bits & 2 && k / 8 != 1)
            matrix_reorder(&c.up);
        if (bits & 4 && k / 8 != 2)
            matrix_reorder(&c.down);
        check_case(&c, n_rows);
        case_close(&c);
    }
}

/* More rows than the layer takes at a time, and some experts with many. */
static void test_moe_takes_many_rows(void **state)
{
    (void)state;
    static const uint32_t types[4] = {QTYPE_F32, QTYPE_Q4_0, QTYPE_Q4_0, QTYPE_Q8_0};
    struct moe_case c;
    case_open(&c, types, 6, 2, 64, 32, RIG_ROWS_MAX);
    check_case(&c, RIG_ROWS_MAX);
    case_close(&c);
}

/* Equal scores: the lower index. Router rows 1, 3 and 4 are the same, and the largest for a row of ones. */
static void test_moe_breaks_ties_downwards(void **state)
{
    (void)state;
    static const uint32_t types[4] = {QTYPE_F32, QTYPE_F32, QTYPE_F32, QTYPE_F32};
    for (uint32_t used = 1; used <= 5; used++) {
        struct moe_case c;
        case_open(&c, types, 5, used, 32, 32, 3);
        for (uint32_t e = 0; e < 5; e++)
            for (uint32_t i = 0; i < 32; i++)
                c.router.values[e * 32 + i] = e == 1 || e > 2 ? 0.25F : 0.125F;
        memcpy(c.router.bytes, c.router.values, 5 * 32 * sizeof(float));
        for (size_t i = 0; i < 3 * 32; i++)
            ((float *)(uintptr_t)c.x)[i] = 1;
        struct choice chosen;
        reference_choice(&c, c.x, &chosen);
        assert_int_equal(chosen.expert[0], 1);
        check_case(&c, 3);
        case_close(&c);
    }
}

/* Scores that leave the chosen almost nothing: the sum counts as 2^-14. */
static void test_moe_survives_extreme_scores(void **state)
{
    (void)state;
    static const uint32_t types[4] = {QTYPE_F32, QTYPE_F32, QTYPE_F32, QTYPE_F32};
    struct moe_case c;
    case_open(&c, types, 4, 2, 32, 32, 3);
    for (uint32_t i = 0; i < 4 * 32; i++)
        c.router.values[i] = i < 32 ? 20 : (float)(i / 32);
    memcpy(c.router.bytes, c.router.values, 4 * 32 * sizeof(float));
    check_case(&c, 3);
    case_close(&c);
}

static void test_moe_keeps_bad_values_in_their_row(void **state)
{
    (void)state;
    static const uint32_t types[][4] = {{QTYPE_F32, QTYPE_F32, QTYPE_F32, QTYPE_F32},
                                        {QTYPE_F32, QTYPE_Q4_K, QTYPE_Q4_K, QTYPE_Q6_K}};
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3e38F};
    for (size_t i = 0; i < COUNTOF(types) * COUNTOF(bad); i++) {
        struct moe_case c;
        float good[5 * 256], out[5 * 256];
        case_open(&c, types[i / COUNTOF(bad)], 8, 3, 256, 256, 5);
        for (size_t s = 0; rig_isa(s); s++) {
            struct rig r;
            float *x = (float *)(uintptr_t)c.x, saved = x[2 * 256 + 9];
            rig_open(&r, rig_isa(s), 2);
            run_moe(&r, &c, 0, 5, good);
            x[2 * 256 + 9] = bad[i % COUNTOF(bad)];
            run_moe(&r, &c, 0, 5, out);
            x[2 * 256 + 9] = saved;
            for (size_t row = 0; row < 5; row++)
                if (row != 2)
                    assert_memory_equal(out + row * 256, good + row * 256, 256 * sizeof(*out));
            rig_close(&r);
        }
        case_close(&c);
    }
}

/* ---- adapters ---- */

/* w += b a, for every slice; a thin matrix may be one for all. */
static void merge(struct matrix *w, const struct matrix *a, const struct matrix *b)
{
    for (uint32_t s = 0; s < w->slices; s++)
        for (uint32_t i = 0; i < w->rows; i++)
            for (uint32_t j = 0; j < w->cols; j++)
                for (uint32_t k = 0; k < a->rows; k++)
                    w->values[((size_t)s * w->rows + i) * w->cols + j] +=
                        b->values[((size_t)(b->slices > 1 ? s : 0) * w->rows + i) * a->rows + k] *
                        a->values[((size_t)(a->slices > 1 ? s : 0) * a->rows + k) * w->cols + j];
}

/* Where only references look: bytes are not made again. */
static void open_merged(struct moe_case *c, const struct thin_matrices *thin, const uint32_t types[4])
{
    case_open(c, types, 12, 3, 64, 48, 40);
    merge(&c->gate, &thin->of[0], &thin->of[1]);
    merge(&c->up, &thin->of[2], &thin->of[3]);
    merge(&c->down, &thin->of[4], &thin->of[5]);
}

static void make_thin(struct thin_matrices *t, uint32_t rank, bool shared)
{
    matrix_make(&t->of[0], QTYPE_F32, rank, 64, shared ? 1 : 12);
    matrix_make(&t->of[1], QTYPE_F32, 48, rank, 12);
    matrix_make(&t->of[2], QTYPE_F32, rank, 64, 12);
    matrix_make(&t->of[3], QTYPE_F32, 48, rank, shared ? 1 : 12);
    matrix_make(&t->of[4], QTYPE_F32, rank, 48, 12);
    matrix_make(&t->of[5], QTYPE_F32, 64, rank, 12);
}

static void test_moe_adds_what_adapters_add(void **state)
{
    (void)state;
    static const uint32_t types[4] = {QTYPE_F32, QTYPE_F32, QTYPE_F32, QTYPE_F32};
    struct thin_matrices thin[2];
    struct moe_case plain, merged[2];
    float *out = rig_alloc(40 * 64 * sizeof(*out));
    make_thin(&thin[0], 3, false);
    make_thin(&thin[1], 9, true);
    for (int k = 0; k < 4; k++) {
        case_open(&plain, types, 12, 3, 64, 48, 40);
        open_merged(&merged[0], &thin[0], types);
        open_merged(&merged[1], &thin[1], types);
        plain.thin = thin;
        plain.scores = merged[0].scores = merged[1].scores = (enum router_scores)k;
        for (size_t s = 0; rig_isa(s); s++) {
            rig_check_bits(rig_isa(s), run_moe, &plain, 40, 64, out);
            for (size_t row = 0; row < 40; row++)
                check_row(row % 3 == 0 ? &plain : &merged[row % 3 - 1], row, out + row * 64);
        }
        case_close(&plain);
        case_close(&merged[0]);
        case_close(&merged[1]);
    }
    for (int i = 0; i < 2 * THIN; i++)
        matrix_free(&thin[i / THIN].of[i % THIN]);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moe_adds_the_chosen_experts),
        cmocka_unit_test(test_moe_takes_odd_shapes),
        cmocka_unit_test(test_moe_knows_every_router),
        cmocka_unit_test(test_moe_takes_columns_in_any_order),
        cmocka_unit_test(test_moe_takes_many_rows),
        cmocka_unit_test(test_moe_breaks_ties_downwards),
        cmocka_unit_test(test_moe_survives_extreme_scores),
        cmocka_unit_test(test_moe_adds_what_adapters_add),
        cmocka_unit_test(test_moe_keeps_bad_values_in_their_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
