/* test_stream: what a reader sees does not depend on how the bytes came. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "text/stream.h"
#include "text/utf8.h"

#define BAD "\xEF\xBF\xBD"

/* Push the bytes in pieces of at most `most` (0: all at once), random when r is given. */
static char *show(const char *const *stops, size_t n_stops, const char *bytes, size_t n, size_t most,
                  struct random_state *r, int *stopped)
{
    struct stream s;
    struct buffer out;
    struct error e = {0};
    buffer_init(&out, 1 << 20);
    if (stream_init(&s, stops, n_stops, &e) != 0)
        fail_msg("%s", e.text);
    bool going = true;
    for (size_t at = 0; at < n;) {
        size_t step = most == 0 ? n : r ? 1 + random_u64(r) % most : most;
        if (step > n - at)
            step = n - at;
        bool now = stream_push(&s, bytes + at, step, &out);
        assert_true(going || !now);
        going = now;
        at += step;
    }
    stream_finish(&s, &out);
    if (!going)
        assert_true(stream_stopped(&s) >= 0);
    *stopped = stream_stopped(&s);
    stream_close(&s);
    return buffer_take(&out, NULL);
}

static const struct {
    const char *bytes, *stops[4], *want;
    int stopped;
} cases[] = {
    {"", {0}, "", -1},
    {"hello", {0}, "hello", -1},
    {"h\xC3\xA9llo \xF0\x9F\xA6\x99", {0}, "h\xC3\xA9llo \xF0\x9F\xA6\x99", -1},
    /* Stop strings: at the start, in the middle, at the end, not quite. */
    {"abcSTOPdef", {"STOP"}, "abc", 0},
    {"STOP", {"STOP"}, "", 0},
    {"abcSTO", {"STOP"}, "abcSTO", -1},
    {"abcSTSTOP", {"STOP"}, "abcST", 0},
    {"aaaaab", {"aab"}, "aaa", 0},
    {"one\n\ntwo", {"\n\n"}, "one", 0},
    {"x\xC3\xA9y", {"\xC3\xA9"}, "x", 0},
    /* The first to be complete counts; of two that are complete at once, the longer. */
    {"xabcdef", {"abcdef", "cd"}, "xab", 1},
    {"xabcdef", {"cd", "abcd", "bcd"}, "x", 1},
    {"xab", {"b", "ab"}, "x", 1},
    {"Observation: x", {"Obs: ", "Observation:"}, "", 1},
    /* Bytes that are no UTF-8: what Unicode's recommendation gives. */
    {"a\x80z", {0}, "a" BAD "z", -1},
    {"a\xC3", {0}, "a" BAD, -1},
    {"a\xF0\x9F\xA6", {0}, "a" BAD, -1},
    {"\xF0\x9F\xA6q", {0}, BAD "q", -1},
    {"\xE0\x80\x80", {0}, BAD BAD BAD, -1},
    {"\xED\xA0\x80", {0}, BAD BAD BAD, -1},
    {"\xF4\x90\x80\x80", {0}, BAD BAD BAD BAD, -1},
    {"\xC0\xAF", {0}, BAD BAD, -1},
    {"\xFF\xFE", {0}, BAD BAD, -1},
    {"a\xE2\x82" "STOP", {"STOP"}, "a" BAD, 0},
    {"a\xC3", {BAD}, "a", 0},
};

static void test_stream_shows_the_same_for_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        size_t n_stops = 0;
        while (n_stops < 4 && cases[i].stops[n_stops])
            n_stops++;
        for (size_t most = 0; most <= 4; most++) {
            int stopped;
            char *got = show(cases[i].stops, n_stops, cases[i].bytes, strlen(cases[i].bytes), most, NULL, &stopped);
            assert_string_equal(got, cases[i].want);
            assert_int_equal(stopped, cases[i].stopped);
            mem_free(got);
        }
    }
}

/* ---- random text ---- */

/* The definition: the first place where a stop string ends, the longest there. */
static size_t cut_at(const char *text, size_t n, const char *const *stops, size_t n_stops, int *which)
{
    *which = -1;
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n_stops; i++) {
            size_t len = strlen(stops[i]);
            if (len <= end && len > longest && memcmp(text + end - len, stops[i], len) == 0) {
                longest = len;
                *which = (int)i;
            }
        }
        if (longest > 0)
            return end - longest;
    }
    return n;
}

static void test_stream_follows_the_definition(void **state)
{
    (void)state;
    static const char *const stops[] = {"abab", "ba\xC3\xA9", "bb", "abababa", BAD "a"};
    static const char *const parts[] = {"a", "b", "ab", "\xC3\xA9", "\xC3", "\xA9", "\xF0\x9F", "ba", "x"};
    struct random_state r;
    random_seed(&r, 11);
    for (int round = 0; round < 3000; round++) {
        struct buffer raw;
        buffer_init(&raw, 1 << 12);
        for (uint64_t k = random_u64(&r) % 24; k > 0; k--)
            buffer_add_text(&raw, parts[random_u64(&r) % COUNTOF(parts)]);
        int stopped, want;
        char *plain = show(NULL, 0, buffer_text(&raw), raw.len, 0, NULL, &stopped);
        size_t n_stops = random_u64(&r) % (COUNTOF(stops) + 1);
        size_t cut = cut_at(plain, strlen(plain), stops, n_stops, &want);
        char *got = show(stops, n_stops, buffer_text(&raw), raw.len, 5, &r, &stopped);
        assert_int_equal(stopped, want);
        assert_int_equal(strlen(got), cut);
        assert_memory_equal(got, plain, cut);
        mem_free(plain);
        mem_free(got);
        buffer_close(&raw);
    }
}

static void test_stream_holds_back_no_more_than_it_must(void **state)
{
    (void)state;
    static const char *const stops[] = {"END"};
    struct stream s;
    struct buffer out;
    buffer_init(&out, 100);
    assert_int_equal(stream_init(&s, stops, 1, NULL), 0);
    assert_true(stream_push(&s, "wordE", 5, &out));
    assert_string_equal(buffer_text(&out), "word");
    assert_true(stream_push(&s, "x\xC3", 2, &out));
    assert_string_equal(buffer_text(&out), "wordEx");
    assert_true(stream_push(&s, "\xA9", 1, &out));
    assert_string_equal(buffer_text(&out), "wordEx\xC3\xA9");
    assert_false(stream_push(&s, "END and more", 12, &out));
    assert_false(stream_push(&s, "more", 4, &out));
    stream_finish(&s, &out);
    assert_string_equal(buffer_text(&out), "wordEx\xC3\xA9");
    stream_close(&s);
    buffer_close(&out);
}

static void test_stream_takes_long_pushes(void **state)
{
    (void)state;
    static const char *const stops[] = {"aaaaaaaab"};
    size_t n = 3 << 20;
    char *text = mem_array(n, 1);
    memset(text, 'a', n);
    struct stream s;
    struct buffer out;
    buffer_init(&out, n);
    assert_int_equal(stream_init(&s, stops, 1, NULL), 0);
    assert_true(stream_push(&s, text, n, &out));
    assert_int_equal(out.len, n - 8);
    assert_false(stream_push(&s, "b", 1, &out));
    assert_int_equal(out.len, n - 8);
    stream_close(&s);
    buffer_close(&out);
    mem_free(text);
}

static void test_stream_refuses_bad_stops(void **state)
{
    (void)state;
    struct stream s;
    struct error e;
    const char *many[STREAM_STOPS_MAX + 1];
    for (size_t i = 0; i < COUNTOF(many); i++)
        many[i] = "x";
    assert_int_equal(stream_init(&s, many, COUNTOF(many), &e), ERR_LIMIT);
    assert_int_equal(stream_init(&s, many, STREAM_STOPS_MAX, &e), 0);
    stream_close(&s);
    const char *empty[] = {"ok", ""};
    assert_int_equal(stream_init(&s, empty, 2, &e), ERR_INVALID);
    char *long_one = mem_alloc(STREAM_STOP_BYTES_MAX + 2);
    memset(long_one, 'x', STREAM_STOP_BYTES_MAX + 1);
    const char *longs[] = {long_one};
    assert_int_equal(stream_init(&s, longs, 1, &e), ERR_INVALID);
    long_one[STREAM_STOP_BYTES_MAX] = 0;
    assert_int_equal(stream_init(&s, longs, 1, &e), 0);
    stream_close(&s);
    mem_free(long_one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_shows_the_same_for_every_split),
        cmocka_unit_test(test_stream_follows_the_definition),
        cmocka_unit_test(test_stream_holds_back_no_more_than_it_must),
        cmocka_unit_test(test_stream_takes_long_pushes),
        cmocka_unit_test(test_stream_refuses_bad_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
