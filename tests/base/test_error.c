/* test_error: statuses map to stable numbers, and no sentence that is kept can harm a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void test_status_maps_to_stable_numbers(void **state)
{
    (void)state;
    static const struct {
        int status, wire, http, exit_code;
        const char *name;
    } rows[] = {
        {STATUS_OK, 0, 200, 0, "OK"},           {ERR_INVALID, -1, 400, 64, "INVALID"},
        {ERR_CORRUPT, -2, 422, 65, "CORRUPT"},  {ERR_BUSY, -6, 429, 75, "BUSY"},
        {ERR_GONE, -10, 503, 69, "GONE"},       {ERR_CANCELLED, -11, 499, 130, "CANCELLED"},
        {ERR_INTERNAL, -16, 500, 70, "INTERNAL"},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        assert_int_equal(rows[i].status, rows[i].wire);
        assert_int_equal(status_http(rows[i].status), rows[i].http);
        assert_int_equal(status_exit(rows[i].status), rows[i].exit_code);
        assert_string_equal(status_name(rows[i].status), rows[i].name);
        assert_non_null(status_words(rows[i].status));
    }
}

static void test_status_of_no_row_is_unknown(void **state)
{
    (void)state;
    static const int strange[] = {1, -17, -1000, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < COUNTOF(strange); i++) {
        assert_string_equal(status_name(strange[i]), "UNKNOWN");
        assert_int_equal(status_http(strange[i]), 500);
        assert_int_equal(status_exit(strange[i]), 70);
    }
}

static void test_error_set_stores_and_returns(void **state)
{
    (void)state;
    struct error e;
    assert_int_equal(error_set(&e, ERR_LIMIT, "at most %d", 7), ERR_LIMIT);
    assert_int_equal(e.status, ERR_LIMIT);
    assert_string_equal(e.text, "at most 7");
    assert_int_equal(error_context(&e, "%s", "a.gguf"), ERR_LIMIT);
    assert_string_equal(e.text, "a.gguf: at most 7");
    assert_int_equal(error_set(NULL, ERR_IO, "nobody reads this"), ERR_IO);
    assert_true(error_context(NULL, "nor this") < 0);
}

static void test_error_text_is_made_printable(void **state)
{
    (void)state;
    static const struct {
        const char *in, *kept;
    } rows[] = {
        {"plain", "plain"},
        {"a\x1b[31mred\nline\ttab\x7f", "a?[31mred?line?tab?"},
        {"C1 as UTF-8 \xc2\x9b", "C1 as UTF-8 ??"},
        {"C1 as a byte \x9b[2J", "C1 as a byte ?[2J"},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x9f", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x9f"},
        {"\xc2\xa0 stays", "\xc2\xa0 stays"},
        {"lead \xe2 alone", "lead ? alone"},
        {"half \xf0\x9f\x90x", "half ???x"},
        {"\xff\xfe", "??"},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct error e;
        error_set(&e, ERR_INVALID, "%s", rows[i].in);
        assert_string_equal(e.text, rows[i].kept);
        char text[64];
        assert_true(strlen(rows[i].in) < sizeof(text));
        memcpy(text, rows[i].in, strlen(rows[i].in) + 1);
        error_printable(text);
        assert_string_equal(text, rows[i].kept);
    }
}

/* Fills the sentence so that a character of `bytes` bytes straddles the end at every offset. */
static void test_error_text_cuts_whole_characters(void **state)
{
    (void)state;
    static const char *const characters[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\x9f"};
    for (size_t c = 0; c < COUNTOF(characters); c++) {
        size_t bytes = strlen(characters[c]);
        for (size_t pad = 0; pad < bytes; pad++) {
            char long_text[1024] = {0};
            memset(long_text, 'a', pad);
            for (size_t n = pad; n + bytes < 900; n += bytes)
                memcpy(long_text + n, characters[c], bytes);
            struct error e;
            error_set(&e, ERR_INVALID, "%s", long_text);
            size_t whole = (sizeof(e.text) - 1 - pad) / bytes * bytes + pad;
            assert_int_equal(strlen(e.text), whole);
            assert_memory_equal(e.text, long_text, whole);
        }
    }
}

static void test_error_context_bounds_both_parts(void **state)
{
    (void)state;
    char long_text[1024];
    memset(long_text, 'c', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = 0;
    struct error e;
    error_set(&e, ERR_IO, "the end");
    error_context(&e, "%s", long_text);
    assert_non_null(strstr(e.text, ": the end"));
    for (int i = 0; i < 20; i++)
        assert_int_equal(error_context(&e, "\x1b%s", long_text), ERR_IO);
    assert_true(strlen(e.text) < sizeof(e.text));
    assert_int_equal(e.text[0], '?');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_maps_to_stable_numbers),
        cmocka_unit_test(test_status_of_no_row_is_unknown),
        cmocka_unit_test(test_error_set_stores_and_returns),
        cmocka_unit_test(test_error_text_is_made_printable),
        cmocka_unit_test(test_error_text_cuts_whole_characters),
        cmocka_unit_test(test_error_context_bounds_both_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
