/* test_spans: against a map of single bytes; the record that lies beside a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/spans.h"

enum { BYTES = 97, ROUNDS = 4000 };

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 8;
}

static void compare(const struct spans *s, const bool *map)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        assert_true(s->at[i].bytes > 0);
        assert_true(i == 0 || s->at[i - 1].offset + s->at[i - 1].bytes < s->at[i].offset);
    }
    for (uint64_t from = 0; from < BYTES; from++) {
        struct span gap = {0};
        uint64_t first = from, end;
        sum += map[from];
        assert_int_equal(spans_hold(s, from, 1), map[from]);
        while (first < BYTES && map[first])
            first++;
        for (end = first; end < BYTES && !map[end];)
            end++;
        assert_int_equal(spans_missing(s, from, BYTES, &gap), first < BYTES);
        if (first < BYTES) {
            assert_int_equal(gap.offset, first);
            assert_int_equal(gap.bytes, end - first);
        }
    }
    assert_int_equal(spans_bytes(s), sum);
    assert_true(spans_hold(s, 5, 0));
}

static void a_set_is_what_was_added(void **state)
{
    (void)state;
    uint32_t seed = 7;
    struct spans s = {0};
    bool map[BYTES] = {false};
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t from = next(&seed) % BYTES, n = next(&seed) % 6;
        n = from + n > BYTES ? BYTES - from : n;
        spans_add(&s, from, n);
        memset(map + from, 1, n);
        compare(&s, map);
        if (i % 40 == 39) {
            spans_close(&s);
            memset(map, 0, sizeof(map));
        }
    }
    spans_close(&s);
}

static char *folder;

static void a_record_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct spans s = {0}, back;
    char words[SPANS_WORDS_MAX + 1] = "";
    bool here;
    char *path = path_join(folder, "model.gguf");
    assert_int_equal(spans_read(&back, words, &here, path, NULL), 0);
    assert_false(here);
    spans_add(&s, 0, 100);
    spans_add(&s, 4096, UINT64_C(1) << 40);
    assert_int_equal(spans_write(&s, "layers 4:8", path, NULL), 0);
    assert_int_equal(spans_read(&back, words, &here, path, NULL), 0);
    assert_true(here);
    assert_string_equal(words, "layers 4:8");
    assert_int_equal(back.n, 2);
    assert_int_equal(back.at[1].offset, 4096);
    assert_int_equal(back.at[1].bytes, UINT64_C(1) << 40);
    spans_close(&s);
    spans_close(&back);
    mem_free(path);
}

static void records_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "x\n", "shoal-have 2 layers\n", "shoal-have 1 layers\n1\n", "shoal-have 1 layers\n1 2",
        "shoal-have 1 layers\n9223372036854775807 1\n", "shoal-have 1 layers\n-5 9\n", "shoal-have 1 layers\nx y\n",
    };
    char *path = path_join(folder, "bad.gguf"), *record = path_join(folder, "bad.gguf" SPANS_RECORD);
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        struct spans s;
        char words[SPANS_WORDS_MAX + 1];
        bool here;
        assert_int_equal(path_write_atomic(record, bad[i], strlen(bad[i]), 0644, NULL), 0);
        assert_int_equal(spans_read(&s, words, &here, path, NULL), ERR_CORRUPT);
        assert_int_equal(s.n, 0);
    }
    mem_free(path);
    mem_free(record);
}

static int make_folder(void **state)
{
    (void)state;
    static char name[] = "/tmp/shoal-spans-XXXXXX";
    folder = mkdtemp(name);
    return folder ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"model.gguf" SPANS_RECORD, "bad.gguf" SPANS_RECORD};
    for (size_t i = 0; i < COUNTOF(names); i++) {
        char *path = path_join(folder, names[i]);
        (void)unlink(path);
        mem_free(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_is_what_was_added),
        cmocka_unit_test(a_record_is_read_as_it_was_written),
        cmocka_unit_test(records_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
