/* test_buffer: the maximum holds to the byte, a failure sticks, and the writer is little-endian. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"

static void test_buffer_maximum_holds_to_the_byte(void **state)
{
    (void)state;
    static const struct {
        size_t max, first, second;
        bool failed;
        size_t len;
    } rows[] = {
        {0, 0, 0, false, 0},
        {0, 1, 0, true, 0},
        {10, 10, 0, false, 10},
        {10, 11, 1, true, 0},
        {10, 4, 6, false, 10},
        {10, 4, 7, true, 4},
        {100000, 63, 1, false, 64},
        {100000, 64, 99936, false, 100000},
        {100000, 64, SIZE_MAX, true, 64},
        {100000, 64, SIZE_MAX - 64, true, 64},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct buffer b;
        buffer_init(&b, rows[i].max);
        (void)buffer_grow(&b, rows[i].first);
        (void)buffer_grow(&b, rows[i].second);
        assert_int_equal(buffer_failed(&b), rows[i].failed);
        assert_int_equal(b.len, rows[i].len);
        assert_int_equal(buffer_text(&b)[b.len], 0);
        buffer_close(&b);
    }
}

static void test_buffer_failure_sticks_until_cleared(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 8);
    buffer_add_text(&b, "12345");
    buffer_printf(&b, "%s", "6789");
    buffer_add_text(&b, "6");
    buffer_u8(&b, 7);
    buffer_add(&b, "", 0);
    assert_true(buffer_failed(&b));
    assert_string_equal(buffer_text(&b), "12345");
    buffer_clear(&b);
    assert_false(buffer_failed(&b));
    assert_string_equal(buffer_text(&b), "");
    buffer_printf(&b, "%04d%s", 42, "abcd");
    assert_false(buffer_failed(&b));
    assert_string_equal(buffer_text(&b), "0042abcd");
    buffer_close(&b);
    assert_string_equal(buffer_text(&b), "");
}

static void test_buffer_growth_is_zeroed_after_reuse(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 1000);
    memset(buffer_grow(&b, 500), 0xFF, 500);
    buffer_clear(&b);
    const unsigned char *p = buffer_grow(&b, 600);
    for (size_t i = 0; i < 600; i++)
        assert_int_equal(p[i], 0);
    buffer_close(&b);
}

static void test_buffer_take_moves_the_bytes(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 16);
    size_t len = 99;
    char *nothing = buffer_take(&b, &len);
    assert_int_equal(len, 0);
    assert_string_equal(nothing, "");
    buffer_add_text(&b, "taken");
    char *taken = buffer_take(&b, &len);
    assert_int_equal(len, 5);
    assert_int_equal(b.len, 0);
    buffer_add_text(&b, "0123456789abcdef");
    assert_false(buffer_failed(&b));
    assert_string_equal(taken, "taken");
    mem_free(nothing);
    mem_free(taken);
    buffer_close(&b);
}

static void test_buffer_drop_keeps_the_rest(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        const char *rest;
    } rows[] = {{0, "abcdef"}, {1, "bcdef"}, {6, ""}, {7, ""}, {SIZE_MAX, ""}};
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct buffer b;
        buffer_init(&b, 16);
        buffer_drop(&b, 3);
        buffer_add_text(&b, "abcdef");
        buffer_drop(&b, rows[i].n);
        assert_string_equal(buffer_text(&b), rows[i].rest);
        assert_int_equal(b.len, strlen(rows[i].rest));
        buffer_close(&b);
    }
}

static void test_buffer_writes_little_endian(void **state)
{
    (void)state;
    static const unsigned char expected[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0F, 0x0E, 0x0D,
                                             0x0C, 0x0B, 0x0A, 0x09, 0x08, 0x00, 0x00, 0x80, 0xBF};
    struct buffer b;
    buffer_init(&b, sizeof(expected));
    buffer_u8(&b, 0x01);
    buffer_u16(&b, 0x0203);
    buffer_u32(&b, 0x04050607);
    buffer_u64(&b, 0x08090A0B0C0D0E0F);
    buffer_f32(&b, -1.0F);
    assert_false(buffer_failed(&b));
    assert_int_equal(b.len, sizeof(expected));
    assert_memory_equal(b.data, expected, sizeof(expected));
    buffer_u8(&b, 0);
    assert_true(buffer_failed(&b));
    buffer_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffer_maximum_holds_to_the_byte),
        cmocka_unit_test(test_buffer_failure_sticks_until_cleared),
        cmocka_unit_test(test_buffer_growth_is_zeroed_after_reuse),
        cmocka_unit_test(test_buffer_take_moves_the_bytes),
        cmocka_unit_test(test_buffer_drop_keeps_the_rest),
        cmocka_unit_test(test_buffer_writes_little_endian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
