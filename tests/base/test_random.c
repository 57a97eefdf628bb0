/* test_random: the sequence of xoshiro256** is the published one on every machine; the shapes are right. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/random.h"

static void test_random_is_the_published_generator(void **state)
{
    (void)state;
    /* splitmix64 and xoshiro256** from seed 0. */
    static const uint64_t seeded[] = {0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F,
                                      0xF88BB8A8724C81EC};
    static const uint64_t drawn[] = {0x99EC5F36CB75F2B4, 0xBF6E1F784956452A, 0x1A5F849D4933E6E0,
                                     0x6AA594F1262D2D2C};
    struct random_state r;
    random_seed(&r, 0);
    assert_memory_equal(r.s, seeded, sizeof(seeded));
    for (size_t i = 0; i < COUNTOF(drawn); i++)
        assert_true(random_u64(&r) == drawn[i]);
}

static void test_random_repeats_a_seed_and_tells_seeds_apart(void **state)
{
    (void)state;
    struct random_state a, b, c;
    random_seed(&a, 7);
    random_seed(&b, 7);
    random_seed(&c, 8);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = random_u64(&a);
        assert_true(x == random_u64(&b));
        same += x == random_u64(&c);
    }
    assert_int_equal(same, 0);
}

static void test_random_unit_stays_in_its_range(void **state)
{
    (void)state;
    struct random_state r;
    random_seed(&r, 1);
    double sum = 0;
    int tenths[10] = {0};
    for (int i = 0; i < 100000; i++) {
        double u = random_unit(&r);
        assert_true(u >= 0 && u < 1);
        sum += u;
        tenths[(int)(u * 10)]++;
    }
    assert_true(fabs(sum / 100000 - 0.5) < 0.01);
    for (int i = 0; i < 10; i++)
        assert_in_range(tenths[i], 9500, 10500);
}

static void test_random_normal_has_mean_zero_and_deviation_one(void **state)
{
    (void)state;
    struct random_state r;
    random_seed(&r, 2);
    double sum = 0, squares = 0;
    for (int i = 0; i < 100000; i++) {
        float x = random_normal(&r);
        assert_true(isfinite(x));
        sum += (double)x;
        squares += (double)x * (double)x;
    }
    assert_true(fabs(sum / 100000) < 0.02);
    assert_true(fabs(squares / 100000 - 1) < 0.03);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_is_the_published_generator),
        cmocka_unit_test(test_random_repeats_a_seed_and_tells_seeds_apart),
        cmocka_unit_test(test_random_unit_stays_in_its_range),
        cmocka_unit_test(test_random_normal_has_mean_zero_and_deviation_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
