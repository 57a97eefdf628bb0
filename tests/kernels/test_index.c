/* test_index: the choice of positions against scores in doubles, and attention over the chosen ones against
 * softmax(q K) V of those alone.
 *
 * Rows of two sequences share a call, their pages shuffled in one pool; the same rows give the same bits in one
 * call, in pieces and one by one.                                                                              */
#include "tests/kernels/rig.h"

enum { SEQUENCES = 2, PAGES_MAX = 4, TOKENS = 150, ROWS = SEQUENCES * TOKENS };

static const uint32_t pages[SEQUENCES][PAGES_MAX] = {{5, 0, 7, 2}, {1, 6, 3, 4}};

struct shape {
    enum kv_type type;
    uint32_t n_heads, n_kv_heads, key_dim, value_dim, n_chosen;
};

/* A cache of one run: full of NaN, so that what was not stored shows. */
static struct span cache_span(const struct rig *r, const struct shape *s, uint32_t dim)
{
    size_t bytes = (size_t)SEQUENCES * PAGES_MAX * KV_PAGE_TOKENS * s->n_kv_heads * dim * sizeof(float);
    struct span span = rig_span(r, NULL, bytes / sizeof(float));
    uint8_t *nothing = rig_alloc(bytes);
    memset(nothing, 0xff, bytes);
    r->b->upload(r->d, span, nothing, bytes);
    free(nothing);
    return span;
}

/* Row i is token i / SEQUENCES of sequence i % SEQUENCES. */
static struct attention_row *make_rows(uint32_t first, uint32_t n)
{
    struct attention_row *rows = rig_alloc(n * sizeof(*rows));
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (struct attention_row){pages[(first + i) % SEQUENCES], (first + i) / SEQUENCES};
    return rows;
}

/* ---- the choice ---- */

struct index_case {
    struct shape s;
    const float *q, *k, *weights;
    float scale;
};

static void choose(const struct rig *r, const struct index_case *c, struct span keys, uint32_t first, uint32_t n,
                   uint32_t *out)
{
    const struct shape *s = &c->s;
    size_t q = (size_t)s->n_heads * s->key_dim;
    struct attention_row *rows = make_rows(first, n);
    struct index_args a = {
        .kv = {.type = s->type, .keys = keys, .n_kv_heads = 1, .key_dim = s->key_dim, .shared = true},
        .q = rig_span(r, c->q + first * q, n * q), .k = rig_span(r, c->k + first * s->key_dim, n * s->key_dim),
        .weights = rig_span(r, c->weights + first * s->n_heads, n * s->n_heads),
        .chosen = rig_span(r, NULL, n * s->n_chosen), .rows = rows, .n_rows = n, .n_heads = s->n_heads,
        .n_chosen = s->n_chosen, .scale = c->scale};
    r->b->index(r->d, &a);
    rig_take(r, a.chosen, (float *)(void *)out, n * s->n_chosen);
    r->b->mem_destroy(r->d, a.q.mem);
    r->b->mem_destroy(r->d, a.k.mem);
    r->b->mem_destroy(r->d, a.weights.mem);
    free(rows);
}

static void choose_pieces(const char *isa, int threads, const struct index_case *c, uint32_t n, uint32_t piece,
                          uint32_t *out)
{
    struct rig r;
    rig_open(&r, isa, threads);
    struct span keys = cache_span(&r, &c->s, c->s.key_dim);
    for (uint32_t i = 0; i < n; i += piece)
        choose(&r, c, keys, i, n - i < piece ? n - i : piece, out + (size_t)i * c->s.n_chosen);
    r.b->mem_destroy(r.d, keys.mem);
    rig_close(&r);
}

/* The score of position p for row r, and how far the kernel's may be from it. */
static double score_of(const struct index_case *c, size_t r, size_t p, double *bound)
{
    const struct shape *s = &c->s;
    const float *k = c->k + (p * SEQUENCES + r % SEQUENCES) * s->key_dim;
    double score = 0;
    *bound = 0;
    for (size_t h = 0; h < s->n_heads; h++) {
        const float *q = c->q + (r * s->n_heads + h) * s->key_dim;
        double dot = 0, size = 0, weight = c->weights[r * s->n_heads + h] * c->scale;
        for (size_t i = 0; i < s->key_dim; i++) {
            double term = q[i] * rig_stored(s->type, k, s->key_dim, i);
            dot += term;
            size += fabs(term);
        }
        score += weight * fmax(dot, 0);
        *bound += 1e-5 * fabs(weight) * size;
    }
    return score;
}

/* As many as asked for, in order, and none that is left out is better than the worst of them. */
static void check_list(const struct index_case *c, size_t r, const uint32_t *list)
{
    size_t n = r / SEQUENCES + 1, k = c->s.n_chosen, at = 0;
    double worst = INFINITY, best = -INFINITY, bound = 0;
    if (n <= k) {
        for (size_t i = 0; i < k; i++)
            assert_true(isnan(((const float *)(const void *)list)[i]));
        return;
    }
    for (size_t p = 0; p < n; p++) {
        double b, score = score_of(c, r, p, &b);
        bound = fmax(bound, b);
        if (at < k && list[at] == p) {
            worst = fmin(worst, score);
            at++;
        } else {
            best = fmax(best, score);
        }
    }
    assert_int_equal(at, k);
    if (best > worst + 2 * bound)
        fail_msg("row %zu: a score of %g was left out for one of %g", r, best, worst);
}

static void test_index_chooses_the_best_whatever_the_batch(void **state)
{
    static const struct shape shapes[] = {
        {.n_heads = 2, .key_dim = 64, .n_chosen = 16}, {.type = KV_F16, .n_heads = 9, .key_dim = 128, .n_chosen = 64},
        {.n_heads = 16, .key_dim = 24, .n_chosen = 1}, {.type = KV_Q8, .n_heads = 9, .key_dim = 72, .n_chosen = 50},
        {.type = KV_F16, .n_heads = 1, .key_dim = 5, .n_chosen = 149},
        {.n_heads = 4, .key_dim = 32, .n_chosen = 70}, {.n_heads = 8, .key_dim = 7, .n_chosen = 3},
    };
    static const uint32_t pieces[] = {1, 3, 17, 64};
    (void)state;
    for (size_t i = 0; i < COUNTOF(shapes); i++) {
        struct index_case c = {.s = shapes[i], .scale = 0.3F};
        c.s.n_kv_heads = 1;
        size_t heads = (size_t)ROWS * c.s.n_heads, values = (size_t)ROWS * c.s.n_chosen;
        float *q = rig_random(3 * i, heads * c.s.key_dim, 3), *k = rig_random(3 * i + 1, (size_t)ROWS * c.s.key_dim, 2);
        float *weights = rig_random(3 * i + 2, heads, 1);
        uint32_t *whole = rig_alloc(values * sizeof(*whole)), *out = rig_alloc(values * sizeof(*out));
        c.q = q;
        c.k = k;
        c.weights = weights;
        for (size_t s = 0; rig_isa(s); s++) {
            choose_pieces(rig_isa(s), 1, &c, ROWS, ROWS, whole);
            for (size_t r = 0; r < ROWS; r++)
                check_list(&c, r, whole + r * c.s.n_chosen);
            for (size_t p = 0; p < COUNTOF(pieces); p++) {
                choose_pieces(rig_isa(s), 2, &c, ROWS, pieces[p], out);
                assert_memory_equal(out, whole, values * sizeof(*out));
            }
        }
        free(q);
        free(k);
        free(weights);
        free(whole);
        free(out);
    }
}

/* With one head of one value, q and weight 1, the keys above 0 are the scores. The lists are std::partial_sort's. */
static void test_index_breaks_ties_as_partial_sort_does(void **state)
{
    static const struct {
        uint32_t n, k;
        float scores[17];
        uint32_t list[7];
    } cases[] = {
        {10, 4, {0, 0, -1, 0, 1, 0, 2, 0, -3, 3}, {1, 4, 6, 9}},
        {12, 5, {3, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1}, {0, 1, 3, 7, 11}},
        {13, 6, {1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2, 3}, {3, 6, 7, 10, 11, 12}},
        {8, 3, {0}, {0, 1, 2}},
        {17, 7, {0, 0, 0, 1, 1, 1, 1, 1, -2, 2, 2, 0, 0, 0, 3, 0, 4}, {3, 4, 5, 9, 10, 14, 16}},
        {3, 2, {NAN, 0, 1}, {1, 2}},
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        float ones[SEQUENCES * 17], keys[SEQUENCES * 17];
        uint32_t out[SEQUENCES * 17 * 7], n = cases[i].n * SEQUENCES;
        for (size_t r = 0; r < n; r++) {
            ones[r] = 1;
            keys[r] = cases[i].scores[r / SEQUENCES];
        }
        struct index_case c = {.s = {.n_heads = 1, .n_kv_heads = 1, .key_dim = 1, .n_chosen = cases[i].k}, .scale = 1,
                               .q = ones, .k = keys, .weights = ones};
        for (size_t s = 0; rig_isa(s); s++) {
            choose_pieces(rig_isa(s), 2, &c, n, n, out);
            for (size_t q = 0; q < SEQUENCES; q++)
                assert_memory_equal(out + (n - 1 - q) * cases[i].k, cases[i].list, cases[i].k * sizeof(*out));
        }
    }
}

/* ---- attention over the chosen ---- */

struct attention_case {
    struct shape s;
    const float *q, *k, *v;
    const uint32_t *lists;
};

static void attend(const struct rig *r, const struct attention_case *c, const struct kv_layer *kv, uint32_t first,
                   uint32_t n, float *out)
{
    const struct shape *s = &c->s;
    size_t q = (size_t)s->n_heads * s->key_dim, k = (size_t)s->n_kv_heads * s->key_dim;
    size_t v = (size_t)s->n_kv_heads * s->value_dim, o = (size_t)s->n_heads * s->value_dim;
    struct attention_row *rows = make_rows(first, n);
    struct attention_args a = {
        .kv = *kv, .q = rig_span(r, c->q + first * q, n * q), .k = rig_span(r, c->k + first * k, n * k),
        .v = rig_span(r, c->v + first * v, n * v), .out = rig_span(r, NULL, n * o), .rows = rows, .n_rows = n,
        .n_heads = s->n_heads, .scale = 1.5F / sqrtf((float)s->key_dim), .n_chosen = s->n_chosen,
        .chosen = rig_span(r, (const float *)(const void *)c->lists + first * s->n_chosen, n * s->n_chosen)};
    r->b->attention(r->d, &a);
    rig_take(r, a.out, out, n * o);
    r->b->mem_destroy(r->d, a.q.mem);
    r->b->mem_destroy(r->d, a.k.mem);
    r->b->mem_destroy(r->d, a.v.mem);
    r->b->mem_destroy(r->d, a.chosen.mem);
    free(rows);
}

static void attend_pieces(const char *isa, int threads, const struct attention_case *c, uint32_t piece, float *out)
{
    const struct shape *s = &c->s;
    struct rig r;
    rig_open(&r, isa, threads);
    struct kv_layer kv = {.type = s->type, .n_kv_heads = s->n_kv_heads, .key_dim = s->key_dim,
                          .value_dim = s->value_dim, .shared = true, .keys = cache_span(&r, s, s->key_dim),
                          .values = cache_span(&r, s, s->value_dim)};
    for (uint32_t i = 0; i < ROWS; i += piece)
        attend(&r, c, &kv, i, ROWS - i < piece ? ROWS - i : piece, out + (size_t)i * s->n_heads * s->value_dim);
    r.b->mem_destroy(r.d, kv.keys.mem);
    r.b->mem_destroy(r.d, kv.values.mem);
    rig_close(&r);
}

static double score_at(const struct attention_case *c, size_t r, size_t h, size_t p)
{
    const struct shape *s = &c->s;
    size_t row = p * SEQUENCES + r % SEQUENCES, g = h / (s->n_heads / s->n_kv_heads);
    double score = 0;
    for (size_t i = 0; i < s->key_dim; i++)
        score += c->q[(r * s->n_heads + h) * s->key_dim + i] *
                 rig_stored(s->type, c->k + (row * s->n_kv_heads + g) * s->key_dim, s->key_dim, i);
    return 1.5F / sqrtf((float)s->key_dim) * score;
}

static void check_head(const struct attention_case *c, size_t r, size_t h, const float *got)
{
    const struct shape *s = &c->s;
    size_t seen = r / SEQUENCES + 1, n = seen > s->n_chosen ? s->n_chosen : seen, g = h / (s->n_heads / s->n_kv_heads);
    double score[TOKENS], max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) {
        score[i] = score_at(c, r, h, seen > n ? c->lists[r * s->n_chosen + i] : i);
        max = fmax(max, score[i]);
    }
    for (size_t i = 0; i < n; i++)
        sum += exp(score[i] - max);
    for (size_t k = 0; k < s->value_dim; k++) {
        double want = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            size_t row = (seen > n ? c->lists[r * s->n_chosen + i] : i) * SEQUENCES + r % SEQUENCES;
            const float *key = c->k + (row * s->n_kv_heads + g) * s->key_dim;
            double term = exp(score[i] - max) / sum * rig_stored(s->type, key, s->key_dim, k);
            want += term;
            size += fabs(term);
        }
        check_near("attention", r, k, got[k], want, 2e-5 * size);
    }
}

/* A list a row: every (seen / n_chosen)-th position, from another one on in every row. */
static uint32_t *make_lists(uint32_t n_chosen)
{
    uint32_t *lists = rig_alloc((size_t)ROWS * n_chosen * sizeof(*lists));
    for (uint32_t r = 0; r < ROWS; r++) {
        uint32_t seen = r / SEQUENCES + 1, spare = seen > n_chosen ? r % (seen - n_chosen + 1) : 0;
        for (uint32_t i = 0; i < n_chosen; i++)
            lists[r * n_chosen + i] = seen > n_chosen ? i + spare * i / n_chosen : UINT32_MAX;
    }
    return lists;
}

static void test_index_attention_reads_the_chosen_positions(void **state)
{
    static const struct shape shapes[] = {
        {.n_heads = 4, .n_kv_heads = 1, .key_dim = 96, .value_dim = 64, .n_chosen = 16},
        {.type = KV_F16, .n_heads = 9, .n_kv_heads = 1, .key_dim = 576, .value_dim = 512, .n_chosen = 100},
        {.n_heads = 3, .n_kv_heads = 1, .key_dim = 576, .value_dim = 512, .n_chosen = 65},
        {.type = KV_F16, .n_heads = 6, .n_kv_heads = 2, .key_dim = 40, .value_dim = 24, .n_chosen = 33},
        {.n_heads = 2, .n_kv_heads = 2, .key_dim = 576, .value_dim = 576, .n_chosen = 40},
        {.n_heads = 2, .n_kv_heads = 1, .key_dim = 7, .value_dim = 5, .n_chosen = 1},
        {.type = KV_Q8, .n_heads = 9, .n_kv_heads = 1, .key_dim = 576, .value_dim = 512, .n_chosen = 70},
    };
    static const uint32_t pieces[] = {1, 17, ROWS};
    (void)state;
    for (size_t i = 0; i < COUNTOF(shapes); i++) {
        struct attention_case c = {.s = shapes[i]};
        size_t values = (size_t)ROWS * c.s.n_heads * c.s.value_dim;
        float *q = rig_random(1, (size_t)ROWS * c.s.n_heads * c.s.key_dim, 3);
        float *k = rig_random(2, (size_t)ROWS * c.s.n_kv_heads * c.s.key_dim, 2);
        float *v = rig_random(3, (size_t)ROWS * c.s.n_kv_heads * c.s.value_dim, 1);
        float *whole = rig_alloc(values * sizeof(*whole)), *out = rig_alloc(values * sizeof(*out));
        uint32_t *lists = make_lists(c.s.n_chosen);
        c.q = q;
        c.k = k;
        c.v = v;
        c.lists = lists;
        for (size_t s = 0; rig_isa(s); s++) {
            attend_pieces(rig_isa(s), 1, &c, ROWS, whole);
            for (size_t r = 0; r < ROWS; r += r < 4 ? 1 : 13)
                for (size_t h = 0; h < c.s.n_heads; h++)
                    check_head(&c, r, h, whole + (r * c.s.n_heads + h) * c.s.value_dim);
            for (size_t p = 0; p < COUNTOF(pieces); p++) {
                attend_pieces(rig_isa(s), 2, &c, pieces[p], out);
                assert_memory_equal(out, whole, values * sizeof(*out));
            }
        }
        free(q);
        free(k);
        free(v);
        free(whole);
        free(out);
        free(lists);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_chooses_the_best_whatever_the_batch),
        cmocka_unit_test(test_index_breaks_ties_as_partial_sort_does),
        cmocka_unit_test(test_index_attention_reads_the_chosen_positions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
