/* test_memory: zeroed and aligned memory, checked products, and figures of the system that make sense. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"

static bool all_zero(const void *p, size_t n)
{
    const unsigned char *bytes = p;
    for (size_t i = 0; i < n; i++) {
        if (bytes[i])
            return false;
    }
    return true;
}

static void test_mul_refuses_overflow(void **state)
{
    (void)state;
    static const struct {
        size_t a, b;
        bool fits;
    } rows[] = {
        {0, 0, true},
        {0, SIZE_MAX, true},
        {1, SIZE_MAX, true},
        {SIZE_MAX, 2, false},
        {SIZE_MAX / 2, 2, true},
        {SIZE_MAX / 2 + 1, 2, false},
        {(size_t)1 << 32, (size_t)1 << 31, true},
        {(size_t)1 << 32, (size_t)1 << 32, false},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        size_t out = 0;
        assert_int_equal(mem_mul(rows[i].a, rows[i].b, &out), rows[i].fits);
        assert_int_equal(mem_mul(rows[i].b, rows[i].a, &out), rows[i].fits);
        if (rows[i].fits)
            assert_true(out == rows[i].a * rows[i].b);
    }
}

static void test_small_memory_is_zeroed_and_never_null(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 4096, 100000};
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        unsigned char *p = mem_alloc(sizes[i]);
        assert_non_null(p);
        assert_true(all_zero(p, sizes[i]));
        memset(p, 0xAA, sizes[i]);
        p = mem_resize(p, sizes[i] + 1, 2);
        assert_true(sizes[i] == 0 || p[sizes[i] - 1] == 0xAA);
        mem_free(p);
    }
    mem_free(NULL);
}

static void test_text_is_copied_and_ended(void **state)
{
    (void)state;
    char *a = mem_strdup(""), *b = mem_strndup("abcdef", 3), *c = mem_printf("%s-%d", b, 42);
    assert_string_equal(a, "");
    assert_string_equal(b, "abc");
    assert_string_equal(c, "abc-42");
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

static void test_big_memory_is_aligned_and_zeroed(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, (64 << 10) - 1, 64 << 10, (4 << 20) + 1};
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        unsigned char *p = mem_try_big(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_true(all_zero(p, sizes[i]));
        memset(p, 0x55, sizes[i]);
        mem_big_free(p, sizes[i]);
    }
    mem_big_free(NULL, 4096);
}

static void test_big_memory_that_cannot_be_had_is_null(void **state)
{
    (void)state;
    assert_null(mem_try_big(SIZE_MAX));
    assert_null(mem_try_big(SIZE_MAX / 2));
    assert_null(mem_try_big((size_t)1 << 60));
}

/* The signal that ends a child which asks for an array whose size overflows. */
static void test_array_that_overflows_aborts(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(2);
        mem_free(mem_array(SIZE_MAX / 2, 3));
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void test_available_is_at_most_total(void **state)
{
    (void)state;
    assert_true(mem_total() > 0);
    assert_true(mem_available() > 0);
    assert_true(mem_available() <= mem_total());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mul_refuses_overflow),
        cmocka_unit_test(test_small_memory_is_zeroed_and_never_null),
        cmocka_unit_test(test_text_is_copied_and_ended),
        cmocka_unit_test(test_big_memory_is_aligned_and_zeroed),
        cmocka_unit_test(test_big_memory_that_cannot_be_had_is_null),
        cmocka_unit_test(test_array_that_overflows_aborts),
        cmocka_unit_test(test_available_is_at_most_total),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
