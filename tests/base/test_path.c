/* test_path: whole files with a cap, atomic writes of an exact mode, folders, and the house's own places. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
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

#include "base/memory.h"
#include "base/path.h"

static char folder[] = "/tmp/shoal-test-path-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
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

static size_t files_in(const char *path)
{
    DIR *d = opendir(path);
    assert_non_null(d);
    size_t n = 0;
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(d);
    return n;
}

static void test_read_limits_hold_to_the_byte(void **state)
{
    (void)state;
    enum { SIZE = (64 << 10) + 1 }; /* just past the first piece that is read */
    static char bytes[SIZE];
    memset(bytes, 'x', sizeof(bytes));
    static const struct {
        size_t size, max;
        int status;
    } rows[] = {
        {0, 0, 0},
        {1, 0, ERR_LIMIT},
        {100, 100, 0},
        {100, 99, ERR_LIMIT},
        {SIZE, SIZE, 0},
        {SIZE, SIZE - 1, ERR_LIMIT},
        {SIZE, SIZE_MAX, 0},
    };
    const char *path = in_folder("read");
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct error e = {0};
        char *data = bytes;
        size_t len = 1;
        assert_int_equal(path_write_atomic(path, bytes, rows[i].size, 0600, &e), 0);
        assert_int_equal(path_read(path, rows[i].max, &data, &len, &e), rows[i].status);
        assert_int_equal(e.status, rows[i].status);
        assert_int_equal(len, rows[i].status ? 0 : rows[i].size);
        assert_int_equal(data != NULL, rows[i].status == 0);
        if (data) {
            assert_memory_equal(data, bytes, len);
            assert_int_equal(data[len], 0);
        }
        mem_free(data);
    }
}

static void test_read_refuses_what_is_no_file(void **state)
{
    (void)state;
    char fifo[256];
    snprintf(fifo, sizeof(fifo), "%s", in_folder("fifo"));
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const struct {
        const char *path;
        int status;
    } rows[] = {
        {in_folder("absent"), ERR_NOT_FOUND},
        {"", ERR_NOT_FOUND},
        {"/dev/zero", ERR_INVALID},
        {"/", ERR_INVALID},
        {fifo, ERR_INVALID},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char *data;
        size_t len;
        assert_int_equal(path_read(rows[i].path, 100, &data, &len, NULL), rows[i].status);
        assert_null(data);
    }
}

static void test_write_replaces_whole_and_leaves_nothing_else(void **state)
{
    (void)state;
    char own[256], path[300];
    snprintf(own, sizeof(own), "%s", in_folder("own"));
    snprintf(path, sizeof(path), "%s/key", own);
    assert_int_equal(path_make_dirs(own, 0700, NULL), 0);
    static const struct {
        const char *text;
        mode_t mode;
    } rows[] = {{"the old and longer bytes", 0644}, {"new", 0600}, {"", 0600}};
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char *data = NULL;
        size_t len;
        struct stat st;
        assert_int_equal(path_write_atomic(path, rows[i].text, strlen(rows[i].text), rows[i].mode, NULL), 0);
        assert_int_equal(path_read(path, 100, &data, &len, NULL), 0);
        assert_string_equal(data, rows[i].text);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, rows[i].mode);
        assert_int_equal(files_in(own), 1);
        mem_free(data);
    }
    assert_int_equal(path_write_atomic(own, "x", 1, 0600, NULL), ERR_IO); /* a folder is in the way */
    assert_int_equal(files_in(own), 1);
    assert_int_equal(path_write_atomic(in_folder("absent/file"), "x", 1, 0600, NULL), ERR_IO);
}

/* The superuser could put a file in the place of /dev/null. */
static void test_write_leaves_a_pipe_a_pipe(void **state)
{
    (void)state;
    char path[256], got[8] = "";
    struct stat st;
    snprintf(path, sizeof(path), "%s", in_folder("pipe"));
    assert_int_equal(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(fd >= 0);
    assert_int_equal(path_write_atomic(path, "bytes", 5, 0644, NULL), 0);
    assert_int_equal(read(fd, got, sizeof(got)), 5);
    assert_string_equal(got, "bytes");
    close(fd);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
}

/* A key must not be readable by others, whatever the umask, nor land where a link leads. */
static void test_write_keeps_its_mode_and_follows_no_link(void **state)
{
    (void)state;
    static const mode_t modes[] = {0600, 0644, 0400};
    char victim[256], path[256];
    struct stat st;
    snprintf(victim, sizeof(victim), "%s", in_folder("victim"));
    snprintf(path, sizeof(path), "%s", in_folder("secret"));
    assert_int_equal(path_write_atomic(victim, "untouched", 9, 0666, NULL), 0);
    assert_int_equal(symlink(victim, path), 0);
    for (size_t i = 0; i < COUNTOF(modes); i++) {
        mode_t before = umask(i == 0 ? 0 : 077);
        assert_int_equal(path_write_atomic(path, "key", 3, modes[i], NULL), 0);
        umask(before);
        assert_int_equal(lstat(path, &st), 0);
        assert_true(S_ISREG(st.st_mode));
        assert_int_equal(st.st_mode & 0777, modes[i]);
    }
    assert_int_equal(stat(victim, &st), 0);
    assert_int_equal(st.st_size, 9);
}

enum { WRITERS = 3, WRITES = 30, TEXT_BYTES = 20000 };

static char shared_path[256];

/* How many writes failed. */
static void *write_often(void *arg)
{
    size_t *failed = arg;
    char text[TEXT_BYTES];
    memset(text, 'a' + (int)*failed, sizeof(text));
    size_t len = sizeof(text) - *failed * 1000;
    *failed = 0;
    for (int i = 0; i < WRITES; i++)
        *failed += path_write_atomic(shared_path, text, len, 0600, NULL) != 0;
    return NULL;
}

static void test_write_by_several_threads_leaves_one_writers_bytes(void **state)
{
    (void)state;
    pthread_t threads[WRITERS];
    size_t number[WRITERS];
    snprintf(shared_path, sizeof(shared_path), "%s", in_folder("shared"));
    for (size_t i = 0; i < WRITERS; i++) {
        number[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_often, &number[i]), 0);
    }
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(number[i], 0);
    char *data = NULL;
    size_t len;
    assert_int_equal(path_read(shared_path, TEXT_BYTES, &data, &len, NULL), 0);
    assert_int_equal(len, TEXT_BYTES - (size_t)(data[0] - 'a') * 1000);
    for (size_t i = 1; i < len; i++)
        assert_int_equal(data[i], data[0]);
    mem_free(data);
}

static void test_make_dirs_makes_every_level(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int status;
    } rows[] = {{"a/b/c", 0}, {"a/b/c", 0}, {"a//d/", 0}, {"file", ERR_IO}, {"file/below", ERR_IO}};
    assert_int_equal(path_write_atomic(in_folder("file"), "", 0, 0600, NULL), 0);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        const char *path = in_folder(rows[i].name);
        struct stat st;
        assert_int_equal(path_make_dirs(path, 0700, NULL), rows[i].status);
        if (rows[i].status == 0) {
            assert_int_equal(stat(path, &st), 0);
            assert_true(S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700);
        }
    }
    assert_int_equal(path_make_dirs("/", 0700, NULL), 0);
    assert_int_equal(path_make_dirs("", 0700, NULL), ERR_IO);
}

static void test_join_and_house_dirs_follow_the_environment(void **state)
{
    (void)state;
    static const struct {
        const char *own, *xdg, *home, *expected;
    } rows[] = {
        {"/own", "/xdg", "/home/u", "/own"},
        {"", "/xdg/", "/home/u", "/xdg/shoal"},
        {NULL, "relative", "/home/u", "/home/u/.local/state/shoal"},
        {NULL, NULL, "/home/u", "/home/u/.local/state/shoal"},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        const char *const names[] = {"SHOAL_STATE_DIR", "XDG_STATE_HOME", "HOME"};
        const char *const set[] = {rows[i].own, rows[i].xdg, rows[i].home};
        for (size_t n = 0; n < COUNTOF(names); n++)
            assert_int_equal(set[n] ? setenv(names[n], set[n], 1) : unsetenv(names[n]), 0);
        char *dir = path_state_dir();
        assert_string_equal(dir, rows[i].expected);
        mem_free(dir);
    }
    static const char *const joins[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < COUNTOF(joins); i++) {
        char *joined = path_join(joins[i][0], joins[i][1]);
        assert_string_equal(joined, joins[i][2]);
        mem_free(joined);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_limits_hold_to_the_byte),
        cmocka_unit_test(test_read_refuses_what_is_no_file),
        cmocka_unit_test(test_write_replaces_whole_and_leaves_nothing_else),
        cmocka_unit_test(test_write_leaves_a_pipe_a_pipe),
        cmocka_unit_test(test_write_keeps_its_mode_and_follows_no_link),
        cmocka_unit_test(test_write_by_several_threads_leaves_one_writers_bytes),
        cmocka_unit_test(test_make_dirs_makes_every_level),
        cmocka_unit_test(test_join_and_house_dirs_follow_the_environment),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
