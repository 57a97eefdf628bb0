/* test_sampler: what each parameter lets through, draws that can be repeated, penalties, log-probabilities. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "shard/run/sampler.h"

enum { DRAWS = 20000, LARGE = 3000, LARGE_DRAWS = 5000 };

static struct sampler_params plain(float temperature)
{
    return (struct sampler_params){.temperature = temperature, .top_p = 1, .repetition_penalty = 1, .top_logprobs = -1,
                                   .seed = 7};
}

static struct sampler *create(const struct sampler_params *p, uint32_t n)
{
    struct error e = {0};
    struct sampler *s;
    if (sampler_create(&s, p, n, n, &e) != 0)
        fail_msg("%s", e.text);
    return s;
}

static int32_t sample(struct sampler *s, const float *logits, uint32_t position)
{
    struct sample out;
    struct error e = {0};
    if (sampler_sample(s, logits, position, &out, &e) != 0)
        fail_msg("%s", e.text);
    return out.token;
}

static int32_t sample_once(const struct sampler_params *p, const float *logits, uint32_t n)
{
    struct sampler *s = create(p, n);
    int32_t token = sample(s, logits, 0);
    sampler_destroy(&s);
    return token;
}

/* How often each of n ids comes in so many draws. Caller frees. */
static uint32_t *count(const struct sampler_params *p, const float *logits, uint32_t n, uint32_t draws)
{
    struct sampler *s = create(p, n);
    uint32_t *times = mem_array(n, sizeof(*times));
    for (uint32_t i = 0; i < draws; i++)
        times[sample(s, logits, i)]++;
    sampler_destroy(&s);
    return times;
}

static void expect_shares(const struct sampler_params *p, const float *logits, uint32_t n, const double *shares)
{
    uint32_t *times = count(p, logits, n, DRAWS);
    for (uint32_t i = 0; i < n; i++) {
        double got = (double)times[i] / DRAWS;
        if (fabs(got - shares[i]) > 0.015 || (shares[i] == 0 && got != 0))
            fail_msg("id %u came in %.4f of the draws, %.4f were due", i, got, shares[i]);
    }
    mem_free(times);
}

/* Logits whose softmax is 0.5, 0.3, 0.15, 0.05, not in order. */
static const float four[] = {-1.8971200F, -0.6931472F, -2.9957323F, -1.2039728F};
enum { P15, P50, P05, P30 };

/* ---- greedy ---- */

static void test_greedy_takes_the_largest(void **state)
{
    (void)state;
    struct sampler_params p = plain(0);
    const float ties[] = {1, 3, 3, 2}, odd[] = {NAN, -INFINITY, 2, INFINITY, NAN, 1};
    assert_int_equal(sample_once(&p, ties, 4), 1);
    assert_int_equal(sample_once(&p, odd, 6), 2);
    float *large = mem_array(LARGE, sizeof(*large));
    for (uint32_t at = 0; at < LARGE; at += 7) {
        large[at] = 1;
        assert_int_equal(sample_once(&p, large, LARGE), at);
        large[at] = 0;
    }
    mem_free(large);
}

static void test_logits_without_a_finite_value_are_refused(void **state)
{
    (void)state;
    const float none[] = {NAN, -INFINITY, INFINITY, NAN};
    const float temperatures[] = {0, 1};
    for (size_t i = 0; i < COUNTOF(temperatures); i++) {
        struct sampler_params p = plain(temperatures[i]);
        struct sampler *s = create(&p, 4);
        struct sample out;
        assert_int_equal(sampler_sample(s, none, 0, &out, NULL), ERR_INTERNAL);
        sampler_destroy(&s);
    }
}

static void test_padding_ids_do_not_exist(void **state)
{
    (void)state;
    const float logits[] = {0, 1, 9, 9};
    struct sampler_params p = plain(0);
    p.top_logprobs = 4;
    struct sampler *s;
    struct sample out;
    assert_int_equal(sampler_create(&s, &p, 4, 2, NULL), 0);
    assert_int_equal(sampler_sample(s, logits, 0, &out, NULL), 0);
    assert_int_equal(out.token, 1);
    assert_int_equal(out.n_top, 2);
    assert_true(fabsf(out.logprob - logf(1 / (1 + expf(-1)))) < 1e-6F);
    sampler_destroy(&s);
    p.temperature = 1;
    assert_int_equal(sampler_create(&s, &p, 4, 2, NULL), 0);
    for (uint32_t i = 0; i < 200; i++)
        assert_true(sample(s, logits, i) < 2);
    sampler_destroy(&s);
}

/* ---- draws ---- */

static void test_temperature_shapes_the_draw(void **state)
{
    (void)state;
    struct sampler_params p = plain(1);
    expect_shares(&p, four, 4, (const double[]){0.15, 0.5, 0.05, 0.3});
    p.temperature = 0.5F; /* squares: 0.25, 0.09, 0.0225, 0.0025 of 0.365 */
    expect_shares(&p, four, 4, (const double[]){0.0616, 0.6849, 0.0068, 0.2466});
    p.top_k = 4;
    expect_shares(&p, four, 4, (const double[]){0.0616, 0.6849, 0.0068, 0.2466});
    p.temperature = 1e-30F;
    expect_shares(&p, four, 4, (const double[]){0, 1, 0, 0});
}

static void test_top_k_keeps_the_k_largest(void **state)
{
    (void)state;
    struct sampler_params p = plain(1);
    const float ties[] = {1, 2, 1, 1};
    p.top_k = 1;
    expect_shares(&p, four, 4, (const double[]){0, 1, 0, 0});
    p.top_k = 2;
    expect_shares(&p, four, 4, (const double[]){0, 0.625, 0, 0.375});
    expect_shares(&p, ties, 4, (const double[]){0.2689, 0.7311, 0, 0});
    p.top_k = 100;
    expect_shares(&p, four, 4, (const double[]){0.15, 0.5, 0.05, 0.3});
}

static void test_top_p_keeps_the_smallest_set(void **state)
{
    (void)state;
    struct sampler_params p = plain(1);
    p.top_p = 0;
    expect_shares(&p, four, 4, (const double[]){0, 1, 0, 0});
    p.top_p = 0.49F;
    expect_shares(&p, four, 4, (const double[]){0, 1, 0, 0});
    p.top_p = 0.51F;
    expect_shares(&p, four, 4, (const double[]){0, 0.625, 0, 0.375});
    p.top_p = 0.94F;
    expect_shares(&p, four, 4, (const double[]){0.1579, 0.5263, 0, 0.3158});
    p.top_k = 2; /* of 0.625 and 0.375, which are renormalised first */
    p.top_p = 0.6F;
    expect_shares(&p, four, 4, (const double[]){0, 1, 0, 0});
}

static void test_min_p_is_relative_to_the_largest(void **state)
{
    (void)state;
    struct sampler_params p = plain(1);
    for (int k = 0; k <= 4; k += 4) { /* by both ways of drawing */
        p.top_k = k;
        p.min_p = 0.59F;
        expect_shares(&p, four, 4, (const double[]){0, 0.625, 0, 0.375});
        p.min_p = 0.29F;
        expect_shares(&p, four, 4, (const double[]){0.1579, 0.5263, 0, 0.3158});
        p.min_p = 1;
        expect_shares(&p, four, 4, (const double[]){0, 1, 0, 0});
    }
}

/* Half of equal ids, the lower ones, hold half of all. */
static void test_top_p_cuts_equal_ids_by_id(void **state)
{
    (void)state;
    struct sampler_params p = plain(1);
    float *logits = mem_array(LARGE, sizeof(*logits));
    p.top_p = 0.5F;
    uint32_t *times = count(&p, logits, LARGE, LARGE_DRAWS);
    uint32_t low = 0, high = 0;
    for (uint32_t i = 0; i < LARGE; i++) {
        if (i < LARGE / 2)
            low += times[i] > 0;
        else
            high += times[i];
    }
    assert_int_equal(high, 0);
    assert_true(low > LARGE / 2 * 9 / 10);
    mem_free(times);
    mem_free(logits);
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Selection by a heap against a whole sort. */
static void test_top_k_of_many_is_that_of_a_sort(void **state)
{
    (void)state;
    struct random_state r;
    float *logits = mem_array(LARGE, sizeof(*logits)), *sorted = mem_array(LARGE, sizeof(*sorted));
    random_seed(&r, 3);
    for (uint32_t i = 0; i < LARGE; i++)
        logits[i] = sorted[i] = 0.01F * random_normal(&r);
    qsort(sorted, LARGE, sizeof(*sorted), descending);
    const int32_t ks[] = {1, 2, 3, 40, 255, 600};
    for (size_t i = 0; i < COUNTOF(ks); i++) {
        struct sampler_params p = plain(1);
        p.top_k = ks[i];
        uint32_t *times = count(&p, logits, LARGE, LARGE_DRAWS), kinds = 0;
        for (uint32_t t = 0; t < LARGE; t++) {
            kinds += times[t] > 0;
            assert_true(times[t] == 0 || logits[t] >= sorted[ks[i] - 1]);
        }
        assert_int_equal(kinds, ks[i]);
        mem_free(times);
    }
    mem_free(sorted);
    mem_free(logits);
}

/* top_p over many ids, by bins, against a whole sort. */
static void test_top_p_of_many_is_that_of_a_sort(void **state)
{
    (void)state;
    struct random_state r;
    float *logits = mem_array(LARGE, sizeof(*logits)), *sorted = mem_array(LARGE, sizeof(*sorted));
    random_seed(&r, 5);
    for (uint32_t i = 0; i < LARGE; i++)
        logits[i] = sorted[i] = random_normal(&r);
    qsort(sorted, LARGE, sizeof(*sorted), descending);
    const float shares[] = {0.001F, 0.02F, 0.1F, 0.3F};
    for (size_t i = 0; i < COUNTOF(shares); i++) {
        double total = 0, sum = 0;
        uint32_t n = 0, kinds = 0;
        for (uint32_t t = 0; t < LARGE; t++)
            total += exp((double)sorted[t]);
        while (sum < (double)shares[i] * total)
            sum += exp((double)sorted[n++]);
        struct sampler_params p = plain(1);
        p.top_p = shares[i];
        uint32_t *times = count(&p, logits, LARGE, LARGE_DRAWS);
        for (uint32_t t = 0; t < LARGE; t++) {
            kinds += times[t] > 0;
            assert_true(times[t] == 0 || logits[t] >= sorted[n - 1]);
        }
        assert_int_equal(kinds, n);
        mem_free(times);
    }
    mem_free(sorted);
    mem_free(logits);
}

static void test_draws_are_named_by_seed_and_position(void **state)
{
    (void)state;
    struct sampler_params p = plain(1), q = plain(1);
    q.seed = 8;
    struct sampler *a = create(&p, 4), *b = create(&p, 4), *c = create(&q, 4);
    int32_t forward[64];
    uint32_t same = 0, changes = 0;
    for (uint32_t i = 0; i < 64; i++)
        forward[i] = sample(a, four, i);
    for (uint32_t i = 64; i-- > 0;) { /* the other way round, by another sampler */
        assert_int_equal(sample(b, four, i), forward[i]);
        same += sample(c, four, i) == forward[i];
        changes += i > 0 && forward[i] != forward[i - 1];
    }
    assert_true(same < 50 && changes > 10);
    sampler_destroy(&a);
    sampler_destroy(&b);
    sampler_destroy(&c);
}

/* ---- history ---- */

static void test_repetition_penalty_covers_its_window(void **state)
{
    (void)state;
    /* said: 0 (prompt), then 3 twice, then 2.  Divided or multiplied once, by 2. */
    const float logits[] = {4, 3, 2.5F, -1, -1.5F};
    const struct {
        int32_t window, expect;
    } cases[] = {{0, 0}, {-1, 1}, {3, 0}, {4, 1}};
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct sampler_params p = plain(0);
        p.repetition_penalty = 2;
        p.repetition_window = cases[i].window;
        struct sampler *s = create(&p, 5);
        sampler_accept(s, 0, 0, false);
        sampler_accept(s, 1, 3, true);
        sampler_accept(s, 2, 3, true);
        sampler_accept(s, 3, 2, true);
        assert_int_equal(sample(s, logits, 3), cases[i].expect);
        assert_int_equal(sample(s, logits, 3), cases[i].expect); /* marks were cleared */
        sampler_destroy(&s);
    }
    /* a negative logit is multiplied: -1 becomes -2, below -1.5 */
    struct sampler_params p = plain(0);
    p.repetition_penalty = 2;
    p.repetition_window = -1;
    struct sampler *s = create(&p, 2);
    sampler_accept(s, 0, 0, false);
    assert_int_equal(sample(s, logits + 3, 0), 1);
    sampler_destroy(&s);
}

static void test_presence_and_frequency_count_generated_tokens(void **state)
{
    (void)state;
    const float logits[] = {10, 8.5F, 0};
    struct sampler_params p = plain(0);
    p.presence_penalty = 1;
    struct sampler *s = create(&p, 3);
    for (uint32_t i = 0; i < 5; i++)
        sampler_accept(s, i, 0, false); /* the prompt does not count */
    for (uint32_t i = 5; i < 9; i++)
        sampler_accept(s, i, 0, true); /* once, however often */
    assert_int_equal(sample(s, logits, 8), 0);
    sampler_destroy(&s);
    p.frequency_penalty = 0.2F; /* 10 - 1 - 0.2 n: below 8.5 from n = 3 on */
    s = create(&p, 3);
    sampler_accept(s, 0, 0, false);
    sampler_accept(s, 1, 0, true);
    sampler_accept(s, 2, 0, true);
    assert_int_equal(sample(s, logits, 2), 0);
    sampler_accept(s, 3, 0, true);
    assert_int_equal(sample(s, logits, 3), 1);
    sampler_accept(s, 2, 2, true); /* back to position 2: two of the three are forgotten */
    assert_int_equal(sample(s, logits, 2), 0);
    sampler_destroy(&s);
}

static void test_history_takes_tokens_that_cannot_be_sampled(void **state)
{
    (void)state;
    const float logits[] = {1, 2};
    struct sampler_params p = plain(0);
    p.frequency_penalty = 1;
    p.repetition_penalty = 1.5F;
    p.repetition_window = -1;
    struct sampler *s = create(&p, 2);
    sampler_accept(s, 0, -1, true);
    sampler_accept(s, 1, 2, true);
    sampler_accept(s, 2, INT32_MAX, false);
    for (uint32_t i = 3; i < 2000; i++)
        sampler_accept(s, i, (int32_t)(i % 3), i % 2);
    assert_int_equal(sample(s, logits, 1999), 1);
    sampler_destroy(&s);
}

static void test_bias_lifts_and_forbids(void **state)
{
    (void)state;
    const float logits[] = {1, 2, 3, 4};
    const struct logit_bias bias[] = {{3, -INFINITY}, {0, 2.5F}};
    struct sampler_params p = plain(0);
    p.bias = bias;
    p.n_bias = 2;
    assert_int_equal(sample_once(&p, logits, 4), 0);
    p.temperature = 1;
    uint32_t *times = count(&p, logits, 4, DRAWS);
    assert_true(times[3] == 0 && times[0] > times[2] && times[2] > 0);
    mem_free(times);
}

/* ---- log-probabilities ---- */

/* However it chooses: only among those that are allowed, and for one sample. */
static void test_a_mask_forbids_all_others(void **state)
{
    (void)state;
    const uint8_t allowed[] = {0x0A}; /* 1 and 3 */
    struct sampler_params kinds[] = {plain(0), plain(1), plain(1), plain(1), plain(1)};
    kinds[1].top_k = 3;
    kinds[2].top_p = 0.5F;
    kinds[3].min_p = 0.4F;
    const float logits[] = {5, 1, 4, 2};
    for (size_t i = 0; i < COUNTOF(kinds); i++) {
        struct sampler *s = create(&kinds[i], 4);
        for (uint32_t position = 0; position < 50; position++) {
            sampler_allow(s, allowed);
            int32_t token = sample(s, logits, position);
            assert_true(token == 3 || (token == 1 && i != 0 && i != 2 && i != 3));
        }
        bool other = false;
        for (uint32_t position = 0; position < 50; position++) {
            int32_t token = sample(s, logits, position);
            other |= token == 0 || token == 2;
        }
        assert_true(other);
        sampler_destroy(&s);
    }
}

static void test_a_mask_of_nothing_usable_is_refused(void **state)
{
    (void)state;
    const uint8_t allowed[] = {0xF0};
    struct sampler_params p = plain(0);
    struct sampler *s = create(&p, 4);
    struct sample out;
    sampler_allow(s, allowed);
    assert_int_equal(sampler_sample(s, four, 0, &out, NULL), ERR_INTERNAL);
    assert_int_equal(sampler_sample(s, four, 0, &out, NULL), 0);
    sampler_destroy(&s);
}

static void test_logprobs_are_the_model_s_own(void **state)
{
    (void)state;
    const struct logit_bias bias[] = {{P50, -INFINITY}};
    float logits[4];
    memcpy(logits, four, sizeof(four));
    struct sampler_params p = plain(0);
    p.top_logprobs = 2;
    p.bias = bias;
    p.n_bias = 1;
    p.repetition_penalty = 1.1F;
    p.repetition_window = -1;
    struct sampler *s = create(&p, 4);
    struct sample out;
    sampler_accept(s, 0, P15, false);
    assert_int_equal(sampler_sample(s, logits, 0, &out, NULL), 0);
    assert_memory_equal(logits, four, sizeof(four));
    assert_int_equal(out.token, P30);
    assert_true(fabsf(out.logprob - logf(0.3F)) < 1e-5F);
    assert_int_equal(out.n_top, 2);
    assert_int_equal(out.top[0].token, P50);
    assert_true(fabsf(out.top[0].logprob - logf(0.5F)) < 1e-5F);
    assert_int_equal(out.top[1].token, P30);
    sampler_destroy(&s);
    p.top_logprobs = 0; /* of the token alone */
    s = create(&p, 4);
    assert_int_equal(sampler_sample(s, logits, 0, &out, NULL), 0);
    assert_true(out.n_top == 0 && fabsf(out.logprob - logf(0.3F)) < 1e-5F);
    sampler_destroy(&s);
    p.top_logprobs = -1;
    s = create(&p, 4);
    assert_int_equal(sampler_sample(s, logits, 0, &out, NULL), 0);
    assert_true(out.n_top == 0 && out.logprob == 0);
    sampler_destroy(&s);
}

/* ---- parameters ---- */

static void expect_refused(const struct sampler_params *p, const char *name)
{
    struct error e = {0};
    struct sampler *s;
    assert_int_equal(sampler_create(&s, p, 100, 100, &e), ERR_INVALID);
    assert_null(s);
    if (!strstr(e.text, name))
        fail_msg("\"%s\" does not name %s", e.text, name);
}

static void test_parameters_out_of_range_are_named(void **state)
{
    (void)state;
    struct sampler_params ok;
    sampler_defaults(&ok);
    assert_int_equal(sampler_check(&ok, 100, NULL), 0);
#define REFUSED(field, value)              \
    do {                                   \
        struct sampler_params p = ok;      \
        p.field = (value);                 \
        expect_refused(&p, #field);        \
    } while (0)
    REFUSED(temperature, -0.1F);
    REFUSED(temperature, NAN);
    REFUSED(temperature, INFINITY);
    REFUSED(top_k, -1);
    REFUSED(top_p, 1.1F);
    REFUSED(top_p, NAN);
    REFUSED(min_p, -0.1F);
    REFUSED(min_p, 1.5F);
    REFUSED(repetition_penalty, 0);
    REFUSED(repetition_window, -2);
    REFUSED(presence_penalty, NAN);
    REFUSED(frequency_penalty, INFINITY);
    REFUSED(top_logprobs, 21);
    REFUSED(top_logprobs, -2);
#undef REFUSED
    const struct logit_bias bad[] = {{100, 1}, {-1, 1}, {5, NAN}, {5, INFINITY}};
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        struct sampler_params p = ok;
        p.bias = &bad[i];
        p.n_bias = 1;
        expect_refused(&p, "logit_bias");
    }
    struct sampler_params p = ok;
    p.bias = bad;
    p.n_bias = SAMPLER_BIAS_MAX + 1;
    expect_refused(&p, "logit_bias");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_largest),
        cmocka_unit_test(test_logits_without_a_finite_value_are_refused),
        cmocka_unit_test(test_padding_ids_do_not_exist),
        cmocka_unit_test(test_temperature_shapes_the_draw),
        cmocka_unit_test(test_top_k_keeps_the_k_largest),
        cmocka_unit_test(test_top_p_keeps_the_smallest_set),
        cmocka_unit_test(test_min_p_is_relative_to_the_largest),
        cmocka_unit_test(test_top_p_cuts_equal_ids_by_id),
        cmocka_unit_test(test_top_k_of_many_is_that_of_a_sort),
        cmocka_unit_test(test_top_p_of_many_is_that_of_a_sort),
        cmocka_unit_test(test_draws_are_named_by_seed_and_position),
        cmocka_unit_test(test_repetition_penalty_covers_its_window),
        cmocka_unit_test(test_presence_and_frequency_count_generated_tokens),
        cmocka_unit_test(test_history_takes_tokens_that_cannot_be_sampled),
        cmocka_unit_test(test_bias_lifts_and_forbids),
        cmocka_unit_test(test_a_mask_forbids_all_others),
        cmocka_unit_test(test_a_mask_of_nothing_usable_is_refused),
        cmocka_unit_test(test_logprobs_are_the_model_s_own),
        cmocka_unit_test(test_parameters_out_of_range_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
