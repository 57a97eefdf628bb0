/* test_arena: allocations are aligned, zeroed and apart; the cap holds to the byte; a reset frees all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"

static void test_arena_allocations_are_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    struct arena *a = arena_create(1 << 20);
    unsigned char *p[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        p[i] = arena_alloc(a, i);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        for (size_t b = 0; b < i; b++)
            assert_int_equal(p[i][b], 0);
        memset(p[i], (int)(i & 0xFF), i);
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t b = 0; b < i; b++)
            assert_int_equal(p[i][b], i & 0xFF);
    }
    arena_destroy(&a);
    assert_null(a);
    arena_destroy(&a);
}

static void test_arena_cap_holds_to_the_byte(void **state)
{
    (void)state;
    static const struct {
        size_t cap, first, second;
        bool first_fits, second_fits;
    } rows[] = {
        {0, 1, 1, false, false},
        {15, 1, 1, false, false},
        {16, 1, 1, true, false},
        {64, 48, 16, true, true},
        {64, 48, 17, true, false},
        {64, 65, 64, false, true},
        {100000, 99984, 16, true, true},
        {100000, SIZE_MAX, SIZE_MAX - 15, false, false},
        {SIZE_MAX, SIZE_MAX, SIZE_MAX - 14, false, false},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct arena *a = arena_create(rows[i].cap);
        assert_int_equal(arena_alloc(a, rows[i].first) != NULL, rows[i].first_fits);
        assert_int_equal(arena_alloc(a, rows[i].second) != NULL, rows[i].second_fits);
        assert_true(arena_used(a) <= rows[i].cap);
        arena_destroy(&a);
    }
}

static void test_arena_reset_gives_everything_back(void **state)
{
    (void)state;
    struct arena *a = arena_create(64 << 10);
    arena_reset(a);
    for (int round = 0; round < 5; round++) {
        size_t got = 0;
        for (unsigned char *p; (p = arena_alloc(a, 1000)) != NULL; got++) {
            assert_int_equal(p[0] | p[999], 0);
            memset(p, 0xEE, 1000);
        }
        assert_int_equal(got, (64 << 10) / 1008);
        assert_int_equal(arena_used(a), got * 1008);
        arena_reset(a);
        assert_int_equal(arena_used(a), 0);
    }
    arena_destroy(&a);
}

static void test_arena_text_is_ended_or_refused(void **state)
{
    (void)state;
    struct arena *a = arena_create(32);
    char *s = arena_strndup(a, "abcdef", 4);
    assert_string_equal(s, "abcd");
    assert_string_equal(arena_strndup(a, "", 0), "");
    assert_null(arena_strndup(a, "", 0));
    assert_null(arena_strndup(a, "x", SIZE_MAX));
    assert_string_equal(s, "abcd");
    arena_destroy(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_allocations_are_aligned_zeroed_and_apart),
        cmocka_unit_test(test_arena_cap_holds_to_the_byte),
        cmocka_unit_test(test_arena_reset_gives_everything_back),
        cmocka_unit_test(test_arena_text_is_ended_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
