/* test_disk_copy: of a copy that is here only what is asked for is read, once; what is absent, of another size or
 * another content is told from what is right. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/path.h"
#include "net/disk_copy.h"
#include "tests/net/model_file.h"

enum { CHUNK = MANIFEST_CHUNK_BYTES, FILES = 3 };

static const struct file_set_entry table[FILES] = {
    {"config.json", 500, 500}, {"a.safetensors", 4 * CHUNK + 100, 100}, {"b.safetensors", 2 * CHUNK + 50, 50},
};

static struct model_file f;
static char cache[64];
static const char *paths[FILES];

static int open_all(void **state)
{
    static unsigned tests;
    char name[32];
    (void)state;
    snprintf(name, sizeof(name), "model-%u", tests);
    snprintf(cache, sizeof(cache), "%s/cache-%u", folder, tests++);
    models_make(&f, name, table, FILES, tests);
    for (size_t i = 0; i < FILES; i++)
        paths[i] = mem_strdup(model_file_path(&f, i));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILES; i++)
        mem_free((void *)(uintptr_t)paths[i]);
    model_file_free(&f);
    return 0;
}

/* Bytes [at, at + n) of the rest of file i. */
static struct file_set_range rest(size_t i, uint64_t at, uint64_t n)
{
    return (struct file_set_range){f.manifest.starts[FILES + i] + at, n};
}

static struct disk_copy *open_copy(void)
{
    struct disk_copy *d;
    struct error e;
    if (disk_copy_open(&d, &f.manifest, paths, cache, &e) != 0)
        fail_msg("%s", e.text);
    return d;
}

/* Writes one byte; a clock of coarse steps must not hide it. */
static void spoil(size_t i, uint64_t at)
{
    FILE *file = fopen(paths[i], "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
    assert_int_equal(fclose(file), 0);
    struct timespec when[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, paths[i], when, 0), 0);
}

static void test_only_what_is_asked_for_must_be_right(void **state)
{
    (void)state;
    spoil(1, 100 + 2 * CHUNK + 5); /* chunk 2 of a's rest */
    struct disk_copy *d = open_copy();
    assert_int_equal(disk_copy_check_heads(d, NULL, NULL, NULL), 0);
    for (uint64_t c = 0; c < 4; c++) {
        struct file_set_range r = rest(1, c * CHUNK + 7, 1);
        assert_int_equal(disk_copy_check(d, &r, 1, NULL, NULL, NULL), c == 2 ? ERR_CORRUPT : 0);
    }
    struct file_set_range around = rest(1, 2 * CHUNK - 1, 2), two[] = {rest(2, 0, 2 * CHUNK), rest(1, 0, CHUNK)};
    assert_int_equal(disk_copy_check(d, &around, 1, NULL, NULL, NULL), ERR_CORRUPT);
    assert_int_equal(disk_copy_check(d, two, 2, NULL, NULL, NULL), 0);
    assert_int_equal(disk_copy_check(d, two, 0, NULL, NULL, NULL), 0);
    disk_copy_close(&d);
    spoil(2, 10); /* b's head */
    d = open_copy();
    assert_int_equal(disk_copy_check_heads(d, NULL, NULL, NULL), ERR_CORRUPT);
    disk_copy_close(&d);
}

static void test_files_that_are_not_the_models_count_as_absent(void **state)
{
    (void)state;
    struct file_set_range a = rest(1, 0, CHUNK), b = rest(2, 0, CHUNK);
    struct disk_copy *d;
    assert_int_equal(truncate(paths[1], 4 * CHUNK), 0);
    d = open_copy();
    assert_false(file_set_has(disk_copy_files(d), 1));
    assert_int_equal(disk_copy_check_heads(d, NULL, NULL, NULL), 0); /* of those that are here */
    assert_int_equal(disk_copy_check(d, &a, 1, NULL, NULL, NULL), ERR_NOT_FOUND);
    assert_int_equal(disk_copy_check(d, &b, 1, NULL, NULL, NULL), 0);
    disk_copy_close(&d);
    assert_int_equal(unlink(paths[0]), 0);
    assert_int_equal(mkdir(paths[0], 0700), 0);
    const char *where[FILES] = {paths[0], paths[1], NULL};
    assert_int_equal(disk_copy_open(&d, &f.manifest, where, cache, NULL), ERR_NOT_FOUND);
    assert_null(d);
}

struct counter {
    uint64_t calls, done, total;
};

static int count(void *arg, uint64_t done, uint64_t total)
{
    struct counter *c = arg;
    c->done = done;
    c->total = total;
    return ++c->calls == 3;
}

static void test_checking_can_be_stopped_and_goes_on(void **state)
{
    (void)state;
    struct file_set_range a = rest(1, 0, 4 * CHUNK);
    struct counter c = {0};
    struct disk_copy *d = open_copy();
    assert_int_equal(disk_copy_check(d, &a, 1, count, &c, NULL), ERR_CANCELLED);
    assert_int_equal(c.done, 3 * CHUNK);
    assert_int_equal(c.total, 4 * CHUNK);
    assert_int_equal(disk_copy_check(d, &a, 1, count, &c, NULL), 0);
    assert_int_equal(c.done, 4 * CHUNK);
    disk_copy_close(&d);
}

/* The file is spoilt without a trace: what was read before is not read again. */
static void spoil_in_secret(size_t i, uint64_t at, const struct stat *was)
{
    spoil(i, at);
    struct timespec when[2] = {was->st_atim, was->st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, paths[i], when, 0), 0);
}

static void test_what_was_right_is_remembered_until_a_file_changes(void **state)
{
    (void)state;
    struct stat was;
    struct file_set_range a = rest(1, 0, 2 * CHUNK), more = rest(1, 0, 3 * CHUNK);
    struct disk_copy *d = open_copy();
    char *kept = mem_printf("%s/checked", cache);
    assert_int_equal(disk_copy_check(d, &a, 1, NULL, NULL, NULL), 0);
    disk_copy_close(&d);
    assert_true(path_exists(kept));
    d = open_copy(); /* its bits are read now */
    assert_int_equal(stat(paths[1], &was), 0);
    spoil_in_secret(1, 100 + 5, &was);
    spoil_in_secret(1, 100 + 2 * CHUNK, &was);
    assert_int_equal(disk_copy_check(d, &a, 1, NULL, NULL, NULL), 0);
    assert_int_equal(disk_copy_check(d, &more, 1, NULL, NULL, NULL), ERR_CORRUPT);
    disk_copy_close(&d);
    d = open_copy(); /* the time of its change cannot be set back */
    assert_int_equal(disk_copy_check(d, &a, 1, NULL, NULL, NULL), ERR_CORRUPT);
    disk_copy_close(&d);
    mem_free(kept);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(test_only_what_is_asked_for_must_be_right),
        TEST(test_files_that_are_not_the_models_count_as_absent),
        TEST(test_checking_can_be_stopped_and_goes_on),
        TEST(test_what_was_right_is_remembered_until_a_file_changes),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
