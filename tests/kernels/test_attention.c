/* test_attention: attention over paged KV against softmax(q K) V in doubles.
 *
 * Several sequences share a call, their pages shuffled in one pool; a prompt gives
 * the same bits in one call, in pieces and token by token; rows see what rows before
 * them in the same call have stored.                                               */
#include "tests/kernels/rig.h"

enum { SEQUENCES = 2, PAGES_MAX = 4, TOKENS = 150, RUN = 30 };

struct shape {
    enum kv_type type;
    uint32_t n_heads, n_kv_heads, key_dim, value_dim;
    uint32_t window, chunk;
    float cap;
    bool sinks, shared;
};

static const struct shape shapes[] = {
    {.type = KV_F32, .n_heads = 4, .n_kv_heads = 4, .key_dim = 64, .value_dim = 64},
    {.type = KV_F16, .n_heads = 6, .n_kv_heads = 2, .key_dim = 40, .value_dim = 24},
    {.type = KV_F32, .n_heads = 16, .n_kv_heads = 1, .key_dim = 24, .value_dim = 40},
    {.type = KV_F16, .n_heads = 8, .n_kv_heads = 4, .key_dim = 128, .value_dim = 128},
    {.type = KV_F32, .n_heads = 2, .n_kv_heads = 1, .key_dim = 5, .value_dim = 3},
    {.type = KV_F16, .n_heads = 3, .n_kv_heads = 3, .key_dim = 7, .value_dim = 9},
    {.n_heads = 4, .n_kv_heads = 2, .key_dim = 32, .value_dim = 32, .window = 7},
    {.n_heads = 4, .n_kv_heads = 2, .key_dim = 32, .value_dim = 32, .window = 64, .sinks = true},
    {.n_heads = 3, .n_kv_heads = 1, .key_dim = 24, .value_dim = 24, .window = 1, .cap = 2},
    {.type = KV_F16, .n_heads = 4, .n_kv_heads = 4, .key_dim = 32, .value_dim = 32, .chunk = 50},
    {.n_heads = 9, .n_kv_heads = 1, .key_dim = 40, .value_dim = 40, .cap = 1.5F, .sinks = true},
    {.n_heads = 12, .n_kv_heads = 1, .key_dim = 96, .value_dim = 64, .shared = true},
    {.type = KV_F16, .n_heads = 3, .n_kv_heads = 1, .key_dim = 576, .value_dim = 512, .shared = true},
    {.type = KV_Q8, .n_heads = 8, .n_kv_heads = 2, .key_dim = 128, .value_dim = 128},
    {.type = KV_Q8, .n_heads = 6, .n_kv_heads = 2, .key_dim = 80, .value_dim = 40, .window = 70, .sinks = true},
    {.type = KV_Q8, .n_heads = 3, .n_kv_heads = 3, .key_dim = 7, .value_dim = 33},
    {.type = KV_Q8, .n_heads = 12, .n_kv_heads = 1, .key_dim = 576, .value_dim = 512, .shared = true},
};

/* Rows of the input are `run` tokens of sequence 0, as many of sequence 1, the next of sequence 0 and so on. */
struct attention_case {
    struct shape s;
    size_t run;
    float scale;
    const float *q, *k, *v; /* [TOKENS * SEQUENCES][...] */
    struct matrix sinks;
};

static const uint32_t pages[SEQUENCES][PAGES_MAX] = {{5, 0, 7, 2}, {1, 6, 3, 4}};

static size_t sequence_of(const struct attention_case *c, size_t row)
{
    return row / c->run % SEQUENCES;
}

static size_t token_of(const struct attention_case *c, size_t row)
{
    return row / (c->run * SEQUENCES) * c->run + row % c->run;
}

static size_t row_of(const struct attention_case *c, size_t sequence, size_t token)
{
    return (token / c->run * SEQUENCES + sequence) * c->run + token % c->run;
}

static size_t kv_bytes(const struct shape *s, uint32_t dim)
{
    return (size_t)SEQUENCES * PAGES_MAX * KV_PAGE_TOKENS * s->n_kv_heads * kv_row_bytes(s->type, dim);
}

/* The KV cache of one run: opened full of NaN, so that what was not stored shows. */
static struct span kv_span(const struct rig *r, size_t bytes)
{
    struct span s = rig_span(r, NULL, bytes / sizeof(float) + 1);
    uint8_t *nothing = rig_alloc(bytes);
    memset(nothing, 0xff, bytes);
    r->b->upload(r->d, s, nothing, bytes);
    free(nothing);
    return s;
}

/* Rows [first, first + n) in one call. */
static void attend(const struct rig *r, const struct attention_case *c, const struct kv_layer *kv, size_t first,
                   uint32_t n, float *out)
{
    const struct shape *s = &c->s;
    size_t q = (size_t)s->n_heads * s->key_dim, k = (size_t)s->n_kv_heads * s->key_dim;
    size_t v = (size_t)s->n_kv_heads * s->value_dim, o = (size_t)s->n_heads * s->value_dim;
    struct attention_row *rows = rig_alloc(n * sizeof(*rows));
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (struct attention_row){pages[sequence_of(c, first + i)], (uint32_t)token_of(c, first + i)};
    struct attention_args a = {.kv = *kv, .rows = rows, .n_rows = n, .n_heads = s->n_heads, .scale = c->scale,
                               .window = s->window, .chunk = s->chunk, .cap = s->cap};
    struct weight *sinks = s->sinks ? matrix_load(r, &c->sinks) : NULL;
    a.sinks = sinks;
    a.q = rig_span(r, c->q + first * q, n * q);
    a.k = rig_span(r, c->k + first * k, n * k);
    a.v = rig_span(r, c->v + first * v, n * v);
    a.out = rig_span(r, NULL, n * o);
    r->b->attention(r->d, &a);
    rig_take(r, a.out, out, n * o);
    r->b->mem_destroy(r->d, a.q.mem);
    r->b->mem_destroy(r->d, a.k.mem);
    r->b->mem_destroy(r->d, a.v.mem);
    r->b->weight_destroy(r->d, sinks);
    free(rows);
}

static void run_pieces(const struct rig *r, const struct attention_case *c, uint32_t n_rows, uint32_t piece, float *out)
{
    const struct shape *s = &c->s;
    struct kv_layer kv = {.type = s->type, .n_kv_heads = s->n_kv_heads, .key_dim = s->key_dim,
                          .value_dim = s->value_dim, .shared = s->shared};
    kv.keys = kv_span(r, kv_bytes(s, s->key_dim));
    kv.values = kv_span(r, kv_bytes(s, s->value_dim));
    for (uint32_t i = 0; i < n_rows; i += piece)
        attend(r, c, &kv, i, n_rows - i < piece ? n_rows - i : piece,
               out + (size_t)i * s->n_heads * s->value_dim);
    r->b->mem_destroy(r->d, kv.keys.mem);
    r->b->mem_destroy(r->d, kv.values.mem);
}

/* ---- the reference ---- */

static bool is_seen(const struct shape *s, size_t at, size_t p)
{
    return (s->window == 0 || at - p < s->window) && (s->chunk == 0 || at / s->chunk == p / s->chunk);
}

static double key_at(const struct attention_case *c, size_t row, size_t g, size_t i)
{
    const struct shape *s = &c->s;
    return rig_stored(s->type, c->k + (row * s->n_kv_heads + g) * s->key_dim, s->key_dim, i);
}

static double value_at(const struct attention_case *c, size_t row, size_t g, size_t i)
{
    const struct shape *s = &c->s;
    return s->shared ? key_at(c, row, g, i)
                     : rig_stored(s->type, c->v + (row * s->n_kv_heads + g) * s->value_dim, s->value_dim, i);
}

/* Row r, head h: the scores of all positions of its sequence, then the sum of values. */
static void check_head(const struct attention_case *c, size_t r, uint32_t h, const float *got)
{
    const struct shape *s = &c->s;
    double score[TOKENS], sink = s->sinks ? c->sinks.values[h] : -INFINITY, max = sink, sum;
    size_t n = token_of(c, r) + 1, g = h / (s->n_heads / s->n_kv_heads);
    for (size_t p = 0; p < n; p++) {
        size_t row = row_of(c, sequence_of(c, r), p);
        score[p] = 0;
        for (size_t i = 0; i < s->key_dim; i++)
            score[p] += c->q[(r * s->n_heads + h) * s->key_dim + i] * key_at(c, row, g, i);
        score[p] *= c->scale;
        score[p] = s->cap != 0 ? s->cap * tanh(score[p] / s->cap) : score[p];
        score[p] = is_seen(s, n - 1, p) ? score[p] : -INFINITY;
        max = fmax(max, score[p]);
    }
    sum = exp(sink - max);
    for (size_t p = 0; p < n; p++)
        sum += exp(score[p] - max);
    for (size_t i = 0; i < s->value_dim; i++) {
        double want = 0, magnitude = 0;
        for (size_t p = 0; p < n; p++) {
            size_t row = row_of(c, sequence_of(c, r), p);
            double term = exp(score[p] - max) / sum * value_at(c, row, g, i);
            want += term;
            magnitude += fabs(term);
        }
        check_near("attention", r, h * s->value_dim + i, got[i], want, 2e-5 * magnitude);
    }
}

static void check_attention(const struct attention_case *c, const float *out, uint32_t n_rows)
{
    for (size_t r = 0; r < n_rows; r += r < 8 ? 1 : 7)
        for (uint32_t h = 0; h < c->s.n_heads; h++)
            check_head(c, r, h, out + (r * c->s.n_heads + h) * c->s.value_dim);
}

static void case_open(struct attention_case *c, const struct shape *s, size_t n_rows, size_t run)
{
    *c = (struct attention_case){.s = *s, .run = run, .scale = 1.5F / sqrtf((float)s->key_dim)};
    c->q = rig_random(1, n_rows * s->n_heads * s->key_dim, 3);
    c->k = rig_random(2, n_rows * s->n_kv_heads * s->key_dim, 2);
    c->v = rig_random(3, n_rows * s->n_kv_heads * s->value_dim, 1);
    matrix_make(&c->sinks, QTYPE_F32, 1, s->n_heads, 1);
}

static void case_close(struct attention_case *c)
{
    free((void *)(uintptr_t)c->q);
    free((void *)(uintptr_t)c->k);
    free((void *)(uintptr_t)c->v);
    matrix_free(&c->sinks);
}

static void check_shape(const char *isa, const struct attention_case *c, uint32_t n_rows)
{
    static const uint32_t pieces[] = {1, 3, 17, 64, TOKENS * SEQUENCES};
    size_t values = (size_t)n_rows * c->s.n_heads * c->s.value_dim;
    float *whole = rig_alloc(values * sizeof(*whole)), *out = rig_alloc(values * sizeof(*out));
    for (int threads = 1; threads <= 2; threads++) {
        struct rig r;
        rig_open(&r, isa, threads);
        if (threads == 1)
            run_pieces(&r, c, n_rows, n_rows, whole);
        for (size_t k = 0; k < COUNTOF(pieces); k++) {
            run_pieces(&r, c, n_rows, pieces[k], out);
            if (memcmp(out, whole, values * sizeof(*out)) != 0)
                fail_msg("%s, %d threads: pieces of %u rows give other bits", isa, threads, pieces[k]);
        }
        rig_close(&r);
    }
    check_attention(c, whole, n_rows);
    free(whole);
    free(out);
}

static void test_attention_is_softmax_over_pages_whatever_the_batch(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(shapes); i++) {
        struct attention_case c;
        case_open(&c, &shapes[i], TOKENS * SEQUENCES, i % 4 == 1 ? 1 : RUN);
        for (size_t s = 0; rig_isa(s); s++)
            check_shape(rig_isa(s), &c, TOKENS * SEQUENCES);
        case_close(&c);
    }
}

/* Scores that overflow exp() alone, and rows that differ by hundreds, keep their meaning. */
static void test_attention_survives_large_scores(void **state)
{
    (void)state;
    struct attention_case c;
    case_open(&c, &shapes[0], TOKENS * SEQUENCES, 1);
    c.scale = 60;
    for (size_t s = 0; rig_isa(s); s++) {
        struct rig r;
        size_t values = (size_t)TOKENS * SEQUENCES * c.s.n_heads * c.s.value_dim;
        float *out = rig_alloc(values * sizeof(*out));
        rig_open(&r, rig_isa(s), 2);
        run_pieces(&r, &c, TOKENS * SEQUENCES, 64, out);
        for (size_t i = 0; i < values; i++)
            assert_true(fabsf(out[i]) <= 1.001F); /* a mean of values in -1..1 */
        rig_close(&r);
        free(out);
    }
    case_close(&c);
}

/* What is not a number in one sequence leaves the other alone. */
static void test_attention_keeps_bad_values_in_their_sequence(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1e38F};
    for (size_t i = 0; i < COUNTOF(shapes) * COUNTOF(bad); i++) {
        struct attention_case c;
        const struct shape *sh = &shapes[i / COUNTOF(bad)];
        size_t n = 2 * 70, width = (size_t)sh->n_heads * sh->value_dim, q = (size_t)sh->n_heads * sh->key_dim;
        size_t k = (size_t)sh->n_kv_heads * sh->key_dim, v = (size_t)sh->n_kv_heads * sh->value_dim;
        float *good = rig_alloc(n * width * sizeof(*good)), *out = rig_alloc(n * width * sizeof(*out));
        case_open(&c, sh, n, 1);
        struct attention_case spoilt;
        case_open(&spoilt, sh, n, 1);
        ((float *)(uintptr_t)spoilt.q)[11 * q] = ((float *)(uintptr_t)spoilt.k)[21 * k + 1] = bad[i % COUNTOF(bad)];
        ((float *)(uintptr_t)spoilt.v)[31 * v] = ((float *)(uintptr_t)spoilt.v)[33 * v] = bad[i % COUNTOF(bad)];
        for (size_t s = 0; rig_isa(s); s++) {
            struct rig r;
            rig_open(&r, rig_isa(s), 2);
            run_pieces(&r, &c, (uint32_t)n, 64, good);
            run_pieces(&r, &spoilt, (uint32_t)n, 64, out);
            for (size_t row = 0; row < n; row++)
                if (row % 2 == 0 || row < 11)
                    assert_memory_equal(out + row * width, good + row * width, width * sizeof(*out));
            rig_close(&r);
        }
        case_close(&c);
        case_close(&spoilt);
        free(good);
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention_is_softmax_over_pages_whatever_the_batch),
        cmocka_unit_test(test_attention_survives_large_scores),
        cmocka_unit_test(test_attention_keeps_bad_values_in_their_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
