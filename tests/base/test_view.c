/* test_view: no read passes the end, a bad view stays bad, and what buffer writes is read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/view.h"

/* One value of each type: 31 bytes. */
static void write_each(struct buffer *b)
{
    buffer_init(b, 64);
    buffer_u8(b, 0xFE);
    buffer_u16(b, 0xFFFE);
    buffer_u32(b, 0xFFFFFFFE);
    buffer_u64(b, 0xFFFFFFFFFFFFFFFE);
    buffer_u32(b, (uint32_t)INT32_MIN);
    buffer_f32(b, -0.15625F);
    buffer_u64(b, 0x3FF8000000000000); /* 1.5 */
}

static void test_view_reads_what_buffer_writes(void **state)
{
    (void)state;
    struct buffer b;
    write_each(&b);
    struct view v = view_of(b.data, b.len);
    assert_int_equal(view_u8(&v), 0xFE);
    assert_int_equal(view_u16(&v), 0xFFFE);
    assert_int_equal(view_u32(&v), 0xFFFFFFFE);
    assert_true(view_u64(&v) == 0xFFFFFFFFFFFFFFFE);
    assert_int_equal(view_i32(&v), INT32_MIN);
    assert_true(view_f32(&v) == -0.15625F);
    assert_false(view_done(&v));
    assert_true(view_f64(&v) == 1.5);
    assert_true(view_done(&v));
    assert_int_equal(view_left(&v), 0);
    buffer_close(&b);
}

/* The bytes lie in an allocation of exactly `n`, so that a sanitizer sees a read past them. */
static void test_view_cut_at_every_byte_turns_bad(void **state)
{
    (void)state;
    struct buffer b;
    write_each(&b);
    for (size_t n = 0; n < b.len; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        assert_non_null(exact);
        memcpy(exact, b.data, n);
        struct view v = view_of(exact, n);
        view_u8(&v);
        view_u16(&v);
        view_u32(&v);
        view_u64(&v);
        view_i32(&v);
        view_f32(&v);
        assert_true(view_f64(&v) == 0);
        assert_true(v.bad);
        assert_true(v.pos <= v.size);
        assert_false(view_done(&v));
        free(exact);
    }
    buffer_close(&b);
}

static void test_view_stays_bad(void **state)
{
    (void)state;
    static const uint8_t bytes[4] = {1, 2, 3, 4};
    struct view v = view_of(bytes, sizeof(bytes));
    assert_true(view_u64(&v) == 0);
    assert_int_equal(view_u8(&v), 0);
    assert_null(view_bytes(&v, 0));
    assert_false(view_has(&v, 0));
    assert_int_equal(view_left(&v), 0);
    view_skip(&v, 1);
    assert_true(v.bad);
    assert_false(view_done(&v));
}

static void test_view_has_survives_any_size(void **state)
{
    (void)state;
    static const uint8_t bytes[4] = {1, 2, 3, 4};
    static const struct {
        uint64_t n;
        bool has;
    } rows[] = {{0, true}, {3, true}, {4, false}, {UINT32_MAX, false}, {UINT64_MAX - 1, false},
                {UINT64_MAX, false}};
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct view v = view_of(bytes, sizeof(bytes));
        view_skip(&v, 1);
        assert_int_equal(view_has(&v, rows[i].n), rows[i].has);
        const void *p = view_bytes(&v, rows[i].n);
        assert_ptr_equal(p, rows[i].has ? bytes + 1 : NULL);
        assert_int_equal(v.bad, !rows[i].has);
        assert_true(v.pos <= v.size);
    }
}

static void test_view_of_nothing_is_done(void **state)
{
    (void)state;
    struct view v = view_of(NULL, 0);
    assert_true(view_done(&v));
    assert_int_equal(view_left(&v), 0);
    assert_int_equal(view_u8(&v), 0);
    assert_false(view_done(&v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_view_reads_what_buffer_writes),
        cmocka_unit_test(test_view_cut_at_every_byte_turns_bad),
        cmocka_unit_test(test_view_stays_bad),
        cmocka_unit_test(test_view_has_survives_any_size),
        cmocka_unit_test(test_view_of_nothing_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
