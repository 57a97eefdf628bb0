/* test_file_set: heads first and the rest after, read and written across files; absent files; tables that lie. */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file_set.h"
#include "base/memory.h"
#include "base/path.h"

static char folder[] = "/tmp/shoal-test-files-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[4][512];
    static unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof(path[0]), "%s/%.400s", folder, name);
    return p;
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static int remove_folder(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void put_file(const char *name, const char *text)
{
    assert_int_equal(path_write_atomic(in_folder(name), text, strlen(text), 0600, NULL), 0);
}

static char *get_file(const char *path)
{
    char *text;
    size_t n;
    assert_int_equal(path_read(path, 1000, &text, &n, NULL), 0);
    return text;
}

/* Heads in capitals; one file is all head, one has none, one is empty. */
static const struct file_set_entry table[] = {
    {"a", 6, 2}, {"config.json", 4, 4}, {"empty", 0, 0}, {"b", 3, 0}, {"c", 5, 3},
};
static const char *const texts[] = {"ABcdef", "JSON", "", "xyz", "PQRst"};
static const char run[] = "ABJSONPQRcdefxyzst";
enum { FILES = COUNTOF(table), RUN = sizeof(run) - 1 };

static struct file_set *open_table(void)
{
    struct file_set *s;
    struct error e;
    for (size_t i = 0; i < FILES; i++)
        put_file(table[i].name, texts[i]);
    assert_int_equal(file_set_open(&s, folder, table, FILES, &e), 0);
    return s;
}

static void test_the_run_has_heads_first_and_then_the_rest(void **state)
{
    (void)state;
    struct file_set *s = open_table();
    char bytes[RUN + 1] = {0};
    assert_int_equal(file_set_count(s), FILES);
    assert_int_equal(file_set_whole(s, NULL), 0);
    assert_int_equal(file_set_bytes(s), RUN);
    assert_int_equal(file_set_head_bytes(s), 9);
    for (size_t from = 0; from <= RUN; from++)
        for (size_t to = from; to <= RUN; to++) {
            memset(bytes, '-', RUN);
            assert_int_equal(file_set_read(s, from, bytes, to - from, NULL), 0);
            assert_memory_equal(bytes, run + from, to - from);
            assert_true(to == RUN || bytes[to - from] == '-');
        }
    for (size_t i = 0; i < FILES; i++) {
        assert_string_equal(file_set_at(s, i)->name, table[i].name);
        assert_true(file_set_has(s, i));
        for (uint64_t at = 0; at < table[i].bytes; at++)
            assert_int_equal(run[file_set_offset(s, i, at)], texts[i][at]);
    }
    file_set_close(&s);
    file_set_close(&s);
}

static void test_reads_past_the_end_are_refused(void **state)
{
    (void)state;
    struct file_set *s = open_table();
    char bytes[RUN + 1];
    assert_int_equal(file_set_read(s, 0, bytes, RUN + 1, NULL), ERR_INVALID);
    assert_int_equal(file_set_read(s, RUN + 1, bytes, 0, NULL), ERR_INVALID);
    assert_int_equal(file_set_read(s, UINT64_MAX, bytes, 2, NULL), ERR_INVALID);
    assert_int_equal(truncate(in_folder("b"), 1), 0);
    assert_int_equal(file_set_read(s, 13, bytes, 1, NULL), 0);
    assert_int_equal(file_set_read(s, 13, bytes, 3, NULL), ERR_CORRUPT);
    file_set_close(&s);
}

static void test_absent_files_are_known_and_the_others_read(void **state)
{
    (void)state;
    struct file_set *s = open_table();
    struct error e = {0};
    struct stat st;
    char bytes[RUN];
    file_set_close(&s);
    assert_int_equal(unlink(in_folder("b")), 0);
    assert_int_equal(file_set_open(&s, folder, table, FILES, &e), 0);
    assert_false(file_set_has(s, 3));
    assert_int_equal(file_set_whole(s, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "/b is not here, and all 5 files"));
    assert_false(file_set_stat(s, 3, &st));
    assert_true(file_set_stat(s, 4, &st));
    assert_int_equal(st.st_size, 5);
    assert_int_equal(file_set_read(s, 0, bytes, 13, &e), 0);
    assert_memory_equal(bytes, run, 13);
    assert_int_equal(file_set_read(s, 16, bytes, 2, &e), 0);
    assert_memory_equal(bytes, "st", 2);
    assert_int_equal(file_set_read(s, 12, bytes, 2, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "b is not here"));
    file_set_close(&s);
    const char *paths[FILES] = {in_folder("a")};
    assert_int_equal(file_set_open_at(&s, paths, table, FILES, &e), 0);
    assert_true(file_set_has(s, 0));
    assert_string_equal(file_set_path(s, 0), paths[0]);
    assert_int_equal(file_set_whole(s, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "config.json and 3 more are not here"));
    for (size_t i = 1; i < FILES; i++) {
        assert_false(file_set_has(s, i));
        assert_null(file_set_path(s, i));
    }
    file_set_close(&s);
}

static void test_files_of_another_size_are_refused(void **state)
{
    (void)state;
    struct file_set *s = open_table();
    struct error e = {0};
    file_set_close(&s);
    put_file("c", "PQRs");
    assert_int_equal(file_set_open(&s, folder, table, FILES, &e), ERR_CORRUPT);
    assert_null(s);
    assert_non_null(strstr(e.text, "c has 4 bytes, not 5"));
    assert_int_equal(unlink(in_folder("c")), 0);
    assert_int_equal(mkdir(in_folder("c"), 0700), 0);
    assert_int_equal(file_set_open(&s, folder, table, FILES, &e), ERR_INVALID);
    assert_int_equal(rmdir(in_folder("c")), 0);
    assert_int_equal(mkfifo(in_folder("c"), 0600), 0);
    assert_int_equal(file_set_open(&s, folder, table, FILES, &e), ERR_INVALID);
    assert_int_equal(unlink(in_folder("c")), 0);
}

static void test_what_is_written_lands_in_its_file(void **state)
{
    (void)state;
    struct file_set *s;
    struct error e;
    const char *to = in_folder("copy");
    assert_int_equal(mkdir(to, 0700), 0);
    assert_int_equal(file_set_create(&s, to, table, FILES, &e), 0);
    for (size_t i = 0; i < FILES; i++)
        assert_true(file_set_has(s, i));
    for (size_t at = 0; at < RUN; at += 5)
        assert_int_equal(file_set_write(s, at, run + at, RUN - at < 5 ? RUN - at : 5, &e), 0);
    assert_int_equal(file_set_write(s, RUN, "x", 1, &e), ERR_INVALID);
    assert_int_equal(file_set_sync(s, &e), 0);
    for (size_t i = 0; i < FILES; i++) {
        char *text = get_file(file_set_path(s, i));
        assert_string_equal(text, texts[i]);
        mem_free(text);
    }
    file_set_close(&s);
    assert_int_equal(file_set_create(&s, to, table, FILES, &e), 0); /* what is there stays */
    char bytes[RUN];
    assert_int_equal(file_set_read(s, 0, bytes, RUN, &e), 0);
    assert_memory_equal(bytes, run, RUN);
    file_set_close(&s);
}

static void test_files_that_are_made_have_their_length_and_follow_no_link(void **state)
{
    (void)state;
    struct file_set *s;
    struct stat st;
    struct error e;
    const struct file_set_entry large[] = {{"large", 1 << 30, 100}};
    assert_int_equal(file_set_create(&s, folder, large, 1, &e), 0);
    assert_true(file_set_stat(s, 0, &st));
    assert_int_equal(st.st_size, 1 << 30);
    assert_true(st.st_blocks < 100);
    file_set_close(&s);
    put_file("large", "short");
    assert_int_equal(file_set_create(&s, folder, large, 1, &e), 0);
    file_set_close(&s);
    assert_int_equal(unlink(in_folder("large")), 0);
    put_file("theirs", "keep me");
    assert_int_equal(symlink(in_folder("theirs"), in_folder("large")), 0);
    assert_int_equal(file_set_create(&s, folder, large, 1, &e), ERR_IO);
    char *text = get_file(in_folder("theirs"));
    assert_string_equal(text, "keep me");
    mem_free(text);
}

static void test_tables_that_lie_are_refused(void **state)
{
    (void)state;
    static const struct file_set_entry bad[] = {
        {"", 1, 1}, {".", 1, 1}, {"..", 1, 1}, {"../x", 1, 1}, {"/etc/passwd", 1, 1}, {"x/y", 1, 1}, {".bashrc", 1, 1},
        {"x\n", 1, 1}, {"\x1b[2J", 1, 1}, {"x\x7f", 1, 1}, {"x", 1, 2}, {"x", 0, 1}, {"x", UINT64_MAX, 1},
        {"x", (1ull << 60) + 1, 1}, {"x", UINT64_MAX, UINT64_MAX},
    };
    struct error e;
    struct file_set *s;
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        assert_int_equal(file_set_check(&bad[i], 1, &e), ERR_CORRUPT);
        assert_int_equal(file_set_open(&s, folder, &bad[i], 1, &e), ERR_CORRUPT);
        assert_int_equal(file_set_create(&s, folder, &bad[i], 1, &e), ERR_CORRUPT);
    }
    struct file_set_entry full = {.bytes = 1};
    memset(full.name, 'x', sizeof(full.name));
    assert_int_equal(file_set_check(&full, 1, &e), ERR_CORRUPT); /* it does not end */
    full.name[FILE_SET_NAME_MAX] = 0;
    assert_int_equal(file_set_check(&full, 1, &e), 0);
    const struct file_set_entry twice[] = {{"x", 1, 1}, {"y", 1, 1}, {"x", 2, 1}};
    assert_int_equal(file_set_check(twice, 3, &e), ERR_CORRUPT);
    const struct file_set_entry sum[] = {{"x", 1ull << 60, 1}, {"y", 1, 1}};
    assert_int_equal(file_set_check(sum, 1, &e), 0);
    assert_int_equal(file_set_check(sum, 2, &e), ERR_CORRUPT);
    assert_int_equal(file_set_check(table, 0, &e), ERR_CORRUPT);
    struct file_set_entry *many = mem_array(FILE_SET_MAX + 1, sizeof(*many));
    for (int i = 0; i <= FILE_SET_MAX; i++)
        snprintf(many[i].name, sizeof(many[i].name), "model-%05d", i);
    assert_int_equal(file_set_check(many, FILE_SET_MAX, &e), 0);
    assert_int_equal(file_set_check(many, FILE_SET_MAX + 1, &e), ERR_CORRUPT);
    mem_free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_run_has_heads_first_and_then_the_rest),
        cmocka_unit_test(test_reads_past_the_end_are_refused),
        cmocka_unit_test(test_absent_files_are_known_and_the_others_read),
        cmocka_unit_test(test_files_of_another_size_are_refused),
        cmocka_unit_test(test_what_is_written_lands_in_its_file),
        cmocka_unit_test(test_files_that_are_made_have_their_length_and_follow_no_link),
        cmocka_unit_test(test_tables_that_lie_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
