/* test_pool: every part runs exactly once, however many threads share however few cores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "kernels/pool.h"

struct tally {
    int parts; /* that fn must be told */
    _Atomic int runs[POOL_THREADS_MAX];
    _Atomic int wrong;
};

static void count_part(void *arg, int part, int parts)
{
    struct tally *t = arg;
    if (parts != t->parts || part < 0 || part >= parts)
        atomic_fetch_add(&t->wrong, 1);
    else
        atomic_fetch_add(&t->runs[part], 1);
}

static void check_tally(const struct tally *t, int times)
{
    assert_int_equal(atomic_load(&t->wrong), 0);
    for (int i = 0; i < t->parts; i++)
        assert_int_equal(atomic_load(&t->runs[i]), times);
}

static struct pool *open_pool(int threads, int pin)
{
    struct pool *p;
    struct error e = {0};
    assert_int_equal(pool_create(&p, threads, pin, &e), 0);
    assert_int_equal(pool_threads(p), threads);
    return p;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void test_pool_runs_every_part_once(void **state)
{
    (void)state;
    static const int counts[] = {1, 2, 3, 8, 33};
    for (size_t i = 0; i < COUNTOF(counts); i++) {
        struct pool *p = open_pool(counts[i], i % 2);
        static struct tally t;
        memset(&t, 0, sizeof(t));
        t.parts = counts[i];
        for (int round = 1; round <= 200; round++) {
            pool_run(p, count_part, &t);
            check_tally(&t, round); /* done when pool_run returns, not later */
        }
        pool_destroy(&p);
        assert_null(p);
        pool_destroy(&p);
    }
}

/* Plain memory written by the parts must be seen by the caller, and the other way round. */
struct relay {
    uint64_t in, out[POOL_THREADS_MAX];
};

static void copy_part(void *arg, int part, int parts)
{
    struct relay *r = arg;
    (void)parts;
    r->out[part] = r->in + (uint64_t)part;
}

static void test_pool_hands_memory_over(void **state)
{
    (void)state;
    struct pool *p = open_pool(4, 0);
    static struct relay r;
    for (uint64_t round = 0; round < 2000; round++) {
        r.in = round * 1000;
        pool_run(p, copy_part, &r);
        for (uint64_t i = 0; i < 4; i++)
            assert_int_equal(r.out[i], round * 1000 + i);
    }
    pool_destroy(&p);
}

/* Workers that have gone to sleep are woken; different calls follow each other. */
static void test_pool_wakes_sleepers(void **state)
{
    (void)state;
    struct pool *p = open_pool(3, 0);
    static struct tally a, b;
    a.parts = b.parts = 3;
    for (int round = 1; round <= 5; round++) {
        sleep_ms(5); /* many times what a worker spins */
        pool_run(p, count_part, &a);
        check_tally(&a, round);
        pool_run(p, count_part, &b);
        check_tally(&b, round);
    }
    pool_destroy(&p);
}

/* The caller sleeps on the slowest worker. */
static void slow_part(void *arg, int part, int parts)
{
    if (part > 0)
        sleep_ms(3);
    count_part(arg, part, parts);
}

static void test_pool_waits_for_slow_parts(void **state)
{
    (void)state;
    struct pool *p = open_pool(3, 0);
    static struct tally t;
    t.parts = 3;
    for (int round = 1; round <= 5; round++) {
        pool_run(p, slow_part, &t);
        check_tally(&t, round);
    }
    pool_destroy(&p);
}

static void test_pool_is_destroyed_idle_asleep_and_unused(void **state)
{
    (void)state;
    for (int i = 0; i < 30; i++) {
        struct pool *p = open_pool(4, 0);
        static struct tally t;
        memset(&t, 0, sizeof(t));
        t.parts = 4;
        if (i % 3 > 0)
            pool_run(p, count_part, &t);
        if (i % 3 > 1)
            sleep_ms(2);
        check_tally(&t, i % 3 > 0);
        pool_destroy(&p);
    }
}

static void test_pool_refuses_impossible_counts(void **state)
{
    (void)state;
    static const int counts[] = {0, -1, POOL_THREADS_MAX + 1};
    for (size_t i = 0; i < COUNTOF(counts); i++) {
        struct pool *p = (void *)&i;
        struct error e = {0};
        assert_int_equal(pool_create(&p, counts[i], 0, &e), ERR_INVALID);
        assert_null(p);
        assert_true(e.text[0] != '\0');
    }
    assert_true(pool_cpu_count() >= 1 && pool_cpu_count() <= POOL_THREADS_MAX);
}

/* The slices of all parts cover 0..n once, in order, each but the end a multiple of the grain. */
static void test_pool_slices_cover_all(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 15, 16, 17, 100, 1023, 1024, 1025}, grains[] = {1, 2, 16, 64};
    static const int parts[] = {1, 2, 3, 7, 64};
    for (size_t s = 0; s < COUNTOF(sizes); s++) {
        for (size_t g = 0; g < COUNTOF(grains); g++) {
            for (size_t p = 0; p < COUNTOF(parts); p++) {
                size_t at = 0;
                for (int part = 0; part < parts[p]; part++) {
                    size_t first, last;
                    pool_slice(sizes[s], grains[g], part, parts[p], &first, &last);
                    assert_int_equal(first, at);
                    assert_true(last >= first);
                    assert_true(last % grains[g] == 0 || last == sizes[s]);
                    at = last;
                }
                assert_int_equal(at, sizes[s]);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_runs_every_part_once),
        cmocka_unit_test(test_pool_hands_memory_over),
        cmocka_unit_test(test_pool_wakes_sleepers),
        cmocka_unit_test(test_pool_waits_for_slow_parts),
        cmocka_unit_test(test_pool_is_destroyed_idle_asleep_and_unused),
        cmocka_unit_test(test_pool_refuses_impossible_counts),
        cmocka_unit_test(test_pool_slices_cover_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
