/* test_safetensors: what a sound file says, and every way in which a header can lie. */
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
#include "shard/format/safetensors.h"
#include "tests/shard/folder.h"

static const char *path;

/* A file of this header length, header and so many bytes of data. */
static void write_file(uint64_t length, const char *head, size_t n_head, size_t n_data)
{
    size_t n = 8 + n_head + n_data;
    uint8_t *bytes = mem_alloc(n);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(length >> (8 * i));
    memcpy(bytes + 8, head, n_head);
    for (size_t i = 0; i < n_data; i++)
        bytes[8 + n_head + i] = (uint8_t)i;
    folder_write("a.safetensors", bytes, n);
    mem_free(bytes);
    path = folder_path("a.safetensors");
}

static void write_head(const char *head, size_t n_data)
{
    write_file(strlen(head), head, strlen(head), n_data);
}

static void refuse(int status, const char *words)
{
    struct safetensors *s = (struct safetensors *)1;
    struct error e = {0};
    assert_int_equal(safetensors_open(&s, path, &e), status);
    assert_null(s);
    if (!strstr(e.text, words))
        fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define B "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}"

static void test_sound(void **state)
{
    (void)state;
    struct safetensors *s;
    write_head("{" B ",\"__metadata__\":{\"format\":\"pt\"}," A "}   ", 32);
    assert_int_equal(safetensors_open(&s, path, NULL), 0);
    assert_int_equal(safetensors_count(s), 2);
    assert_string_equal(safetensors_path(s), path);
    const struct st_tensor *a = safetensors_at(s, 0), *b = safetensors_find(s, "b.weight");
    assert_string_equal(a->name, "a");
    assert_int_equal(a->dtype, ST_F32);
    assert_int_equal(a->n_dims, 2);
    assert_int_equal(a->shape[0], 2);
    assert_int_equal(a->shape[1], 3);
    assert_int_equal(a->bytes, 24);
    assert_int_equal(a->offset, safetensors_head_bytes(s));
    assert_ptr_equal(b, safetensors_at(s, 1));
    assert_int_equal(b->dtype, ST_BF16);
    assert_int_equal(((const uint8_t *)safetensors_bytes(s, b))[0], 24);
    assert_int_equal(safetensors_file_bytes(s), b->offset + b->bytes);
    assert_null(safetensors_find(s, "c"));
    assert_string_equal(safetensors_meta(s, "format"), "pt");
    assert_null(safetensors_meta(s, "other"));
    safetensors_close(&s);
    assert_null(s);
    safetensors_close(&s);
}

static void test_small_shapes(void **state)
{
    (void)state;
    struct safetensors *s;
    write_head("{\"none\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[8,8]},"
               "\"one\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8);
    assert_int_equal(safetensors_open(&s, path, NULL), 0);
    assert_int_equal(safetensors_find(s, "none")->bytes, 0);
    assert_int_equal(safetensors_find(s, "one")->bytes, 8);
    assert_int_equal(safetensors_find(s, "one")->n_dims, 0);
    assert_null(safetensors_meta(s, "format"));
    safetensors_close(&s);
    write_head("{}", 0);
    assert_int_equal(safetensors_open(&s, path, NULL), 0);
    assert_int_equal(safetensors_count(s), 0);
    safetensors_close(&s);
}

static void test_dtypes(void **state)
{
    (void)state;
    static const char *const names[] = {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I16", "U16",
                                        "F16", "BF16", "I32", "U32", "F32", "I64", "U64", "F64"};
    static const size_t bytes[] = {1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 8};
    for (size_t i = 0; i < COUNTOF(names); i++) {
        struct safetensors *s;
        char *head = mem_printf("{\"a\":{\"dtype\":\"%s\",\"shape\":[5],\"data_offsets\":[0,%zu]}}", names[i],
                                5 * bytes[i]);
        write_head(head, 5 * bytes[i]);
        assert_int_equal(safetensors_open(&s, path, NULL), 0);
        assert_string_equal(st_dtype_name(safetensors_at(s, 0)->dtype), names[i]);
        assert_int_equal(st_dtype_bytes(safetensors_at(s, 0)->dtype), bytes[i]);
        safetensors_close(&s);
        mem_free(head);
    }
}

static void test_lengths(void **state)
{
    (void)state;
    const char *head = "{" A "}";
    uint64_t n = strlen(head);
    static const uint64_t wrong[] = {0, 1, UINT64_MAX, 1ULL << 63, (1ULL << 63) - 1, UINT64_MAX - 7};
    for (size_t i = 0; i < COUNTOF(wrong); i++) {
        write_file(wrong[i], head, n, 24);
        refuse(ERR_CORRUPT, "is no safetensors file");
    }
    write_file(n + 25, head, n, 24);
    refuse(ERR_CORRUPT, "is no safetensors file");
    write_file(n - 1, head, n, 24);
    refuse(ERR_CORRUPT, "damaged");
    write_file(n + 1, head, n, 24); /* the first byte of data becomes a part of it */
    refuse(ERR_CORRUPT, "damaged");
    /* over the limit and in the file, which is a hole */
    write_file(SAFETENSORS_HEAD_MAX + 1, "{", 1, 0);
    assert_int_equal(truncate(path, 8 + (off_t)SAFETENSORS_HEAD_MAX + 1), 0);
    refuse(ERR_LIMIT, "at most");
    /* one within it, of zeros */
    write_file(1 << 20, "{", 1, 0);
    assert_int_equal(truncate(path, 8 + (1 << 20)), 0);
    refuse(ERR_CORRUPT, "damaged");
}

/* A tensor of these members, 24 bytes of data. */
#define ONE(members) "{\"a\":{" members "}}"
#define F32_6 "\"dtype\":\"F32\",\"shape\":[6],"

static const struct {
    const char *head, *words;
    int status;
} refused[] = {
    {" {" A "}", "begin with {", ERR_CORRUPT},
    {"[1]", "begin with {", ERR_CORRUPT},
    {"{" A, "damaged", ERR_CORRUPT},
    {"{" A "}}", "damaged", ERR_CORRUPT},
    {"{" A "} x", "damaged", ERR_CORRUPT},
    {"{" A "," A "}", "duplicate", ERR_CORRUPT},
    {ONE(F32_6 "\"dtype\":\"F32\",\"data_offsets\":[0,24]"), "duplicate", ERR_CORRUPT},
    {"{\"a\\u0000b\":{" F32_6 "\"data_offsets\":[0,24]}}", "damaged", ERR_CORRUPT},
    {"{\"\xFF\":{" F32_6 "\"data_offsets\":[0,24]}}", "damaged", ERR_CORRUPT},
    {"{\"\":{" F32_6 "\"data_offsets\":[0,24]}}", "name of 0 bytes", ERR_CORRUPT},
    {"{\"a\":[1]}", "not just dtype", ERR_CORRUPT},
    {"{\"a\":7}", "not just dtype", ERR_CORRUPT},
    {ONE(F32_6 "\"x\":1,\"data_offsets\":[0,24]"), "not just dtype", ERR_CORRUPT},
    {ONE("\"shape\":[6],\"data_offsets\":[0,24],\"x\":1"), "no dtype", ERR_CORRUPT},
    {ONE("\"dtype\":5,\"shape\":[6],\"data_offsets\":[0,24]"), "no dtype", ERR_CORRUPT},
    {ONE("\"dtype\":\"F4\",\"shape\":[6],\"data_offsets\":[0,24]"), "F4", ERR_UNSUPPORTED},
    {ONE("\"dtype\":\"f32\",\"shape\":[6],\"data_offsets\":[0,24]"), "f32", ERR_UNSUPPORTED},
    {ONE("\"dtype\":\"F32\",\"shape\":6,\"data_offsets\":[0,24]"), "no shape", ERR_CORRUPT},
    {ONE("\"dtype\":\"F32\",\"x\":[6],\"data_offsets\":[0,24]"), "no shape", ERR_CORRUPT},
    {ONE("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,6],\"data_offsets\":[0,24]"), "no shape", ERR_CORRUPT},
    {ONE("\"dtype\":\"F32\",\"shape\":[-6],\"data_offsets\":[0,24]"), "cannot be", ERR_CORRUPT},
    {ONE("\"dtype\":\"F32\",\"shape\":[6.0],\"data_offsets\":[0,24]"), "cannot be", ERR_CORRUPT},
    {ONE("\"dtype\":\"F32\",\"shape\":[\"6\"],\"data_offsets\":[0,24]"), "cannot be", ERR_CORRUPT},
    {ONE("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,24]"), "cannot be", ERR_CORRUPT},
    {ONE("\"dtype\":\"F32\",\"shape\":[4611686018427387910],\"data_offsets\":[0,24]"), "cannot be", ERR_CORRUPT},
    {ONE("\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,24]"), "damaged", ERR_CORRUPT},
    {ONE(F32_6 "\"data_offsets\":[0,20]"), "has 20 bytes", ERR_CORRUPT},
    {ONE(F32_6 "\"data_offsets\":[0,28]"), "past the end", ERR_CORRUPT},
    {ONE(F32_6 "\"data_offsets\":[24,48]"), "past the end", ERR_CORRUPT},
    {ONE(F32_6 "\"data_offsets\":[0,9223372036854775807]"), "past the end", ERR_CORRUPT},
    {ONE(F32_6 "\"data_offsets\":[24,0]"), "no data_offsets", ERR_CORRUPT},
    {ONE(F32_6 "\"data_offsets\":[-24,0]"), "no data_offsets", ERR_CORRUPT},
    {ONE(F32_6 "\"data_offsets\":[0]"), "no data_offsets", ERR_CORRUPT},
    {ONE(F32_6 "\"data_offsets\":[0,24,24]"), "no data_offsets", ERR_CORRUPT},
    {ONE(F32_6 "\"data_offsets\":[0.0,24]"), "no data_offsets", ERR_CORRUPT},
    {ONE(F32_6 "\"data_offsets\":{}"), "no data_offsets", ERR_CORRUPT},
    {ONE("\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]"), "at its end belong to no", ERR_CORRUPT},
    {ONE("\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[4,24]"), "before tensor a belong to none", ERR_CORRUPT},
    {"{}", "at its end belong to no", ERR_CORRUPT},
    {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]}}", "overlap", ERR_CORRUPT},
    {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}", "overlap", ERR_CORRUPT},
    {"{\"__metadata__\":7," A "}", "__metadata__", ERR_CORRUPT},
    {"{\"__metadata__\":{\"a\":7}," A "}", "__metadata__", ERR_CORRUPT},
    {"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}," A "}", "__metadata__", ERR_CORRUPT},
    {"{\"__metadata__\":{\"a\":{\"b\":{\"c\":{}}}}," A "}", "deeper", ERR_CORRUPT},
    {"{\"a\":{\"shape\":[[6]]}}", "deeper", ERR_CORRUPT},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(refused); i++) {
        write_head(refused[i].head, 24);
        refuse(refused[i].status, refused[i].words);
    }
}

/* A header that would cost far more memory than it has bytes. */
static void test_bombs(void **state)
{
    (void)state;
    size_t n = 4 << 20;
    char *head = mem_alloc(n + 1);
    memset(head, '[', n);
    memcpy(head, "{\"a\":", 5);
    write_head(head, 0);
    refuse(ERR_CORRUPT, "deeper");
    n = (20 << 20) / 16 * 16;
    mem_free(head);
    head = mem_alloc(2 * n + 1);
    memset(head, ',', 2 * n);
    head[0] = '{';
    write_head(head, 0);
    refuse(ERR_CORRUPT, "more values");
    mem_free(head);
    head = mem_printf("{\"%0300d\":{" F32_6 "\"data_offsets\":[0,24]}}", 0);
    write_head(head, 24);
    refuse(ERR_CORRUPT, "name of 300 bytes");
    mem_free(head);
}

static void test_cut(void **state)
{
    (void)state;
    const char *head = "{" A "," B "}";
    size_t n = 8 + strlen(head) + 32;
    for (size_t left = 0; left < n; left++) {
        struct safetensors *s;
        write_head(head, 32);
        assert_int_equal(truncate(path, (off_t)left), 0);
        assert_int_equal(safetensors_open(&s, path, NULL), ERR_CORRUPT);
        assert_null(s);
    }
}

static void test_no_file(void **state)
{
    (void)state;
    path = folder_path("nowhere.safetensors");
    refuse(ERR_NOT_FOUND, "nowhere");
    path = folder_path("fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    refuse(ERR_INVALID, "not a regular file");
    path = "/dev/zero";
    refuse(ERR_INVALID, "not a regular file");
    path = folder_path("");
    refuse(ERR_INVALID, "not a regular file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound), cmocka_unit_test(test_small_shapes), cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_lengths), cmocka_unit_test(test_refused), cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_cut), cmocka_unit_test(test_no_file),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
