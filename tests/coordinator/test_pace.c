/* test_pace: what was never measured is waited for long, what was measured in proportion, never below the floor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/pace.h"

static void test_unmeasured_steps_are_waited_for_by_their_rows(void **state)
{
    (void)state;
    struct pace p = {0};
    assert_int_equal(pace_timeout_us(&p, 0, 1, 500), 500);
    assert_int_equal(pace_timeout_us(&p, 512, 1, 500), 500 + 512 * (uint64_t)PACE_UNKNOWN_ROW_US);
}

static void test_measured_steps_are_waited_for_by_what_they_took(void **state)
{
    (void)state;
    struct pace p = {0};
    pace_note(&p, 1, 10000);
    assert_int_equal(pace_timeout_us(&p, 1, 1, 500), 500 + PACE_PATIENCE * 20000);
    pace_note(&p, 100, 200000); /* 2 ms a row */
    assert_int_equal(pace_timeout_us(&p, 10, 2, 500), 500 + PACE_PATIENCE * (10 * 2000 + 2 * 10000));
    assert_true(pace_timeout_us(&p, 512, 1, 0) > 512 * 2000 * 8);
}

static void test_one_odd_step_changes_little(void **state)
{
    (void)state;
    struct pace p = {0};
    for (int i = 0; i < 50; i++)
        pace_note(&p, 1, 10000);
    uint64_t before = pace_timeout_us(&p, 1, 1, 0);
    pace_note(&p, 1, 20000);
    uint64_t after = pace_timeout_us(&p, 1, 1, 0);
    assert_true(after > before && after < before * 5 / 4);
    pace_note(&p, 0, 1); /* a step of no rows says nothing */
    assert_int_equal(pace_timeout_us(&p, 1, 1, 0), after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unmeasured_steps_are_waited_for_by_their_rows),
        cmocka_unit_test(test_measured_steps_are_waited_for_by_what_they_took),
        cmocka_unit_test(test_one_odd_step_changes_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
