/* test_gguf: what is written comes back, of every kind, from versions 2 and 3; files appear whole or not at all. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shard/format/gguf.h"
#include "tests/shard/folder.h"
#include "tests/shard/raw.h"

static struct gguf *open_file(const char *name)
{
    struct error e = {0};
    struct gguf *g = NULL;
    if (gguf_open(&g, folder_path(name), &e) != 0)
        fail_msg("%s", e.text);
    return g;
}

static struct gguf *open_raw(const struct raw *r)
{
    raw_write(r, "raw.gguf");
    return open_file("raw.gguf");
}

static void add_scalars(struct raw *r)
{
    raw_key(r, "u8", GGUF_U8), buffer_u8(&r->values, 200);
    raw_key(r, "i8", GGUF_I8), buffer_u8(&r->values, (uint8_t)-100);
    raw_key(r, "u16", GGUF_U16), buffer_u16(&r->values, 60000);
    raw_key(r, "i16", GGUF_I16), buffer_u16(&r->values, (uint16_t)-30000);
    raw_key(r, "u32", GGUF_U32), buffer_u32(&r->values, 4000000000U);
    raw_key(r, "i32", GGUF_I32), buffer_u32(&r->values, (uint32_t)INT32_MIN);
    raw_key(r, "f32", GGUF_F32), buffer_f32(&r->values, -1.5F);
    raw_key(r, "bool", GGUF_BOOL), buffer_u8(&r->values, 1);
    raw_key(r, "u64", GGUF_U64), buffer_u64(&r->values, UINT64_MAX);
    raw_key(r, "i64", GGUF_I64), buffer_u64(&r->values, (uint64_t)INT64_MIN);
    double d = 0.1;
    raw_key(r, "f64", GGUF_F64), buffer_add(&r->values, &d, sizeof(d));
    raw_key(r, "nan", GGUF_F32), buffer_f32(&r->values, NAN);
    raw_string(r, "string", "words");
    raw_string(r, "empty", "");
}

static void test_scalars_of_every_kind(void **state)
{
    static const struct {
        const char *key;
        bool is_u64;
        uint64_t u64;
        double f64;
    } cases[] = {
        {"u8", true, 200, 200}, {"i8", false, 0, -100}, {"u16", true, 60000, 60000}, {"i16", false, 0, -30000},
        {"u32", true, 4000000000U, 4e9}, {"i32", false, 0, INT32_MIN}, {"f32", false, 0, -1.5},
        {"u64", true, UINT64_MAX, 18446744073709551615.0}, {"i64", false, 0, -9223372036854775808.0},
        {"f64", false, 0, 0.1},
    };
    struct raw r;
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        raw_open(&r);
        r.version = version;
        add_scalars(&r);
        struct gguf *g = open_raw(&r);
        assert_int_equal(gguf_key_count(g), r.n_values);
        for (size_t i = 0; i < COUNTOF(cases); i++) {
            uint64_t u = 0;
            double d = 0;
            assert_true(gguf_has(g, cases[i].key));
            assert_int_equal(gguf_get_u64(g, cases[i].key, &u), cases[i].is_u64);
            assert_true(u == cases[i].u64);
            assert_true(gguf_get_f64(g, cases[i].key, &d));
            assert_true(d == cases[i].f64);
        }
        gguf_close(&g);
        raw_close(&r);
    }
}

static void test_getters_convert_nothing_with_loss(void **state)
{
    struct raw r;
    uint64_t u;
    double d;
    bool b = false;
    struct gguf_string s;
    enum gguf_type type;
    (void)state;
    raw_open(&r);
    add_scalars(&r);
    struct gguf *g = open_raw(&r);
    assert_true(gguf_get_bool(g, "bool", &b) && b);
    assert_true(gguf_get_string(g, "string", &s) && s.len == 5 && memcmp(s.text, "words", 5) == 0);
    assert_true(gguf_get_string(g, "empty", &s) && s.len == 0);
    assert_false(gguf_get_u64(g, "bool", &u) || gguf_get_u64(g, "string", &u) || gguf_get_u64(g, "none", &u));
    assert_false(gguf_get_f64(g, "nan", &d) || gguf_get_f64(g, "string", &d) || gguf_get_f64(g, "none", &d));
    assert_false(gguf_get_bool(g, "u8", &b) || gguf_get_string(g, "u8", &s) || gguf_has(g, "strin"));
    assert_false(gguf_array(g, "string", &type, &u) || gguf_array_u64(g, "u8", 0, &u));
    gguf_close(&g);
    raw_close(&r);
}

static void test_arrays_of_every_kind(void **state)
{
    struct raw r;
    uint64_t n, u;
    int64_t i;
    double d;
    enum gguf_type type;
    struct gguf_string s;
    (void)state;
    raw_open(&r);
    raw_array(&r, "u8", GGUF_U8, 2), buffer_u8(&r.values, 1), buffer_u8(&r.values, 255);
    raw_array(&r, "i8", GGUF_I8, 1), buffer_u8(&r.values, 0x80);
    raw_array(&r, "u16", GGUF_U16, 1), buffer_u16(&r.values, 65535);
    raw_array(&r, "i16", GGUF_I16, 1), buffer_u16(&r.values, 0x8000);
    raw_array(&r, "u32", GGUF_U32, 1), buffer_u32(&r.values, UINT32_MAX);
    raw_array(&r, "i32", GGUF_I32, 2), buffer_u32(&r.values, 7), buffer_u32(&r.values, (uint32_t)-7);
    raw_array(&r, "u64", GGUF_U64, 1), buffer_u64(&r.values, UINT64_MAX);
    raw_array(&r, "i64", GGUF_I64, 1), buffer_u64(&r.values, (uint64_t)INT64_MIN);
    raw_array(&r, "f32", GGUF_F32, 1), buffer_f32(&r.values, 0.25F);
    raw_array(&r, "bool", GGUF_BOOL, 1), buffer_u8(&r.values, 1);
    d = -2.5;
    raw_array(&r, "f64", GGUF_F64, 1), buffer_add(&r.values, &d, sizeof(d));
    raw_array(&r, "strings", GGUF_STRING, 3);
    raw_text(&r.values, "a"), raw_text(&r.values, ""), raw_text(&r.values, "last");
    raw_array(&r, "none", GGUF_STRING, 0);
    struct gguf *g = open_raw(&r);
    assert_true(gguf_array(g, "u8", &type, &n) && type == GGUF_U8 && n == 2);
    assert_true(gguf_array_u64(g, "u8", 1, &u) && u == 255 && !gguf_array_u64(g, "u8", 2, &u));
    assert_true(gguf_array_i64(g, "i8", 0, &i) && i == -128 && !gguf_array_u64(g, "i8", 0, &u));
    assert_true(gguf_array_u64(g, "u16", 0, &u) && u == 65535);
    assert_true(gguf_array_i64(g, "i16", 0, &i) && i == INT16_MIN);
    assert_true(gguf_array_u64(g, "u32", 0, &u) && u == UINT32_MAX);
    assert_true(gguf_array_i64(g, "i32", 1, &i) && i == -7);
    assert_true(gguf_array_u64(g, "u64", 0, &u) && u == UINT64_MAX && !gguf_array_i64(g, "u64", 0, &i));
    assert_true(gguf_array_i64(g, "i64", 0, &i) && i == INT64_MIN);
    assert_true(gguf_array_f64(g, "i64", 0, &d) && d == -9223372036854775808.0);
    assert_true(gguf_array_f64(g, "f32", 0, &d) && d == 0.25 && !gguf_array_u64(g, "f32", 0, &u));
    assert_true(gguf_array_f64(g, "f64", 0, &d) && d == -2.5);
    assert_true(gguf_array_u64(g, "bool", 0, &u) && u == 1);
    assert_true(gguf_array_string(g, "strings", 0, &s) && s.len == 1 && s.text[0] == 'a');
    assert_true(gguf_array_string(g, "strings", 1, &s) && s.len == 0);
    assert_true(gguf_array_string(g, "strings", 2, &s) && s.len == 4 && memcmp(s.text, "last", 4) == 0);
    assert_false(gguf_array_string(g, "strings", 3, &s) || gguf_array_string(g, "u8", 0, &s));
    assert_false(gguf_array_u64(g, "strings", 0, &u));
    assert_true(gguf_array(g, "none", &type, &n) && type == GGUF_STRING && n == 0);
    gguf_close(&g);
    raw_close(&r);
}

/* ---- the writer ---- */

static const struct gguf_string some_strings[] = {{"one", 3}, {"", 0}, {"t\0o", 3}};
static const int32_t some_i32s[] = {-1, INT32_MAX};
static const float some_f32s[] = {0.5F, -0.0F, 1e-30F};

static void write_keys(struct gguf_writer *w)
{
    gguf_writer_u32(w, "u32", UINT32_MAX);
    gguf_writer_f32(w, "f32", 3.25F);
    gguf_writer_bool(w, "yes", true);
    gguf_writer_bool(w, "no", false);
    gguf_writer_string(w, "string", "some \xC3\xA4 words\n");
    gguf_writer_strings(w, "strings", some_strings, COUNTOF(some_strings));
    gguf_writer_i32s(w, "i32s", some_i32s, COUNTOF(some_i32s));
    gguf_writer_f32s(w, "f32s", some_f32s, COUNTOF(some_f32s));
}

static void check_keys(const struct gguf *g)
{
    uint64_t u;
    int64_t i;
    double d;
    bool b;
    struct gguf_string s;
    assert_int_equal(gguf_key_count(g), 8);
    assert_int_equal(gguf_key_at(g, 1).len, 3);
    assert_true(gguf_get_u64(g, "u32", &u) && u == UINT32_MAX);
    assert_true(gguf_get_f64(g, "f32", &d) && d == 3.25);
    assert_true(gguf_get_bool(g, "yes", &b) && b);
    assert_true(gguf_get_bool(g, "no", &b) && !b);
    assert_true(gguf_get_string(g, "string", &s) && s.len == 14 && memcmp(s.text, "some \xC3\xA4 words\n", 14) == 0);
    for (size_t k = 0; k < COUNTOF(some_strings); k++) {
        assert_true(gguf_array_string(g, "strings", k, &s) && s.len == some_strings[k].len);
        assert_memory_equal(s.text, some_strings[k].text, s.len);
    }
    for (size_t k = 0; k < COUNTOF(some_i32s); k++)
        assert_true(gguf_array_i64(g, "i32s", k, &i) && i == some_i32s[k]);
    for (size_t k = 0; k < COUNTOF(some_f32s); k++)
        assert_true(gguf_array_f64(g, "f32s", k, &d) && (float)d == some_f32s[k]);
}

static void fill(uint8_t *bytes, size_t n, uint8_t from)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(from + i);
}

static void test_writer_round_trip(void **state)
{
    static const uint64_t ne[4] = {5, 3, 2, 1}, wide[1] = {64};
    struct error e = {0};
    struct gguf_writer *w;
    uint8_t f32[5 * 3 * 2 * 4], q8[68];
    (void)state;
    fill(f32, sizeof(f32), 1);
    fill(q8, sizeof(q8), 100);
    assert_int_equal(gguf_writer_create(&w, folder_path("written.gguf"), &e), 0);
    write_keys(w);
    gguf_writer_tensor(w, "cube", qtype_find(QTYPE_F32), 3, ne);
    gguf_writer_tensor(w, "flat", qtype_find(QTYPE_Q8_0), 1, wide);
    gguf_writer_tensor(w, "all.four", qtype_find(QTYPE_F16), 4, ne);
    assert_int_equal(gguf_writer_header(w, &e), 0);
    for (size_t i = 0; i < sizeof(f32); i += 7) /* in pieces */
        assert_int_equal(gguf_writer_data(w, f32 + i, sizeof(f32) - i < 7 ? sizeof(f32) - i : 7, &e), 0);
    assert_int_equal(gguf_writer_data(w, q8, sizeof(q8), &e), 0);
    assert_int_equal(gguf_writer_data(w, f32, sizeof(f32) / 2, &e), 0);
    assert_int_equal(gguf_writer_data(w, f32, 1, &e), ERR_INTERNAL);
    assert_int_equal(gguf_writer_finish(&w, &e), 0);
    assert_null(w);

    struct gguf *g = open_file("written.gguf");
    check_keys(g);
    assert_int_equal(gguf_tensor_count(g), 3);
    assert_string_equal(gguf_tensor_at(g, 2)->name, "all.four");
    const struct gguf_tensor *t = gguf_tensor_find(g, "cube");
    assert_true(t->ne[0] == 5 && t->ne[1] == 3 && t->ne[2] == 2 && t->ne[3] == 1 && t->n_dims == 3);
    assert_int_equal(t->bytes, sizeof(f32));
    assert_int_equal(t->offset, gguf_header_bytes(g));
    assert_memory_equal(gguf_tensor_bytes(g, t), f32, sizeof(f32));
    t = gguf_tensor_find(g, "flat");
    assert_true(t->type->id == QTYPE_Q8_0 && t->ne[0] == 64 && t->ne[1] == 1 && t->bytes == sizeof(q8));
    assert_memory_equal(gguf_tensor_bytes(g, t), q8, sizeof(q8));
    assert_null(gguf_tensor_find(g, "fla"));
    assert_string_equal(gguf_path(g), folder_path("written.gguf"));
    struct stat st;
    assert_int_equal(stat(gguf_path(g), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(gguf_file_bytes(g), st.st_size);
    gguf_close(&g);
    gguf_close(&g);
}

static void test_writer_copies_keys_of_every_kind(void **state)
{
    struct error e = {0};
    struct gguf_writer *w;
    struct raw r;
    (void)state;
    raw_open(&r);
    raw_string(&r, "other", "stays behind");
    add_scalars(&r);
    raw_array(&r, "u16s", GGUF_U16, 2), buffer_u16(&r.values, 3), buffer_u16(&r.values, 4);
    raw_array(&r, "us", GGUF_STRING, 2), raw_text(&r.values, "x"), raw_text(&r.values, "yz");
    raw_array(&r, "unone", GGUF_STRING, 0);
    struct gguf *g = open_raw(&r);
    assert_int_equal(gguf_writer_create(&w, folder_path("copied.gguf"), &e), 0);
    gguf_writer_copy_keys(w, g, "u");
    gguf_writer_copy_keys(w, g, "string");
    assert_int_equal(gguf_writer_header(w, &e), 0);
    assert_int_equal(gguf_writer_finish(&w, &e), 0);
    gguf_close(&g);
    raw_close(&r);

    g = open_file("copied.gguf");
    uint64_t u;
    enum gguf_type type;
    struct gguf_string s;
    assert_int_equal(gguf_key_count(g), 8);
    assert_true(gguf_get_u64(g, "u8", &u) && u == 200);
    assert_true(gguf_get_u64(g, "u64", &u) && u == UINT64_MAX);
    assert_true(gguf_array_u64(g, "u16s", 1, &u) && u == 4);
    assert_true(gguf_array_string(g, "us", 1, &s) && s.len == 2 && memcmp(s.text, "yz", 2) == 0);
    assert_true(gguf_array(g, "unone", &type, &u) && type == GGUF_STRING && u == 0);
    assert_true(gguf_get_string(g, "string", &s) && s.len == 5);
    assert_int_equal(gguf_tensor_count(g), 0);
    gguf_close(&g);
}

static void declare_one(struct gguf_writer *w)
{
    static const uint64_t ne[1] = {8};
    struct error e = {0};
    gguf_writer_tensor(w, "one", qtype_find(QTYPE_F32), 1, ne);
    assert_int_equal(gguf_writer_header(w, &e), 0);
}

static void test_files_appear_whole_or_not_at_all(void **state)
{
    struct error e = {0};
    struct gguf_writer *w = NULL;
    char zeros[32] = {0};
    (void)state;
    size_t files = folder_files();
    gguf_writer_abort(&w);
    assert_int_equal(gguf_writer_create(&w, folder_path("whole.gguf"), &e), 0);
    declare_one(w);
    assert_int_equal(gguf_writer_data(w, zeros, 31, &e), 0);
    gguf_writer_abort(&w);
    assert_null(w);
    assert_int_equal(folder_files(), files);

    assert_int_equal(gguf_writer_create(&w, folder_path("whole.gguf"), &e), 0);
    declare_one(w);
    assert_int_equal(gguf_writer_data(w, zeros, 31, &e), 0);
    assert_int_equal(gguf_writer_finish(&w, &e), ERR_INTERNAL);
    assert_int_equal(folder_files(), files);

    folder_write("whole.gguf", "old", 3);
    assert_int_equal(gguf_writer_create(&w, folder_path("whole.gguf"), &e), 0);
    declare_one(w);
    assert_int_equal(gguf_writer_data(w, zeros, 32, &e), 0);
    struct stat st;
    assert_int_equal(stat(folder_path("whole.gguf"), &st), 0);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(gguf_writer_finish(&w, &e), 0);
    assert_int_equal(folder_files(), files + 1);
    struct gguf *g = open_file("whole.gguf");
    gguf_close(&g);
    assert_int_equal(gguf_writer_create(&w, folder_path("no/folder.gguf"), &e), ERR_IO);
    assert_null(w);
}

/* ---- files that are not all there ---- */

/* A node's cache: the header and some tensors where they belong, holes between. */
static void test_sparse_files_open(void **state)
{
    static const uint64_t ne[2] = {1024, 256};
    struct raw r;
    struct buffer b;
    size_t header;
    (void)state;
    raw_open(&r);
    raw_tensor(&r, "first", QTYPE_F32, 2, ne, NULL, 1 << 20);
    raw_tensor(&r, "second", QTYPE_F32, 2, ne, NULL, 1 << 20);
    memset(r.data.data + (1 << 20), 0xAB, 1 << 20);
    raw_bytes(&r, &b, &header);
    folder_write("sparse.gguf", b.data, header);
    assert_int_equal(truncate(folder_path("sparse.gguf"), (off_t)b.len), 0);
    struct gguf *g = open_file("sparse.gguf");
    assert_int_equal(gguf_file_bytes(g), b.len);
    const struct gguf_tensor *t = gguf_tensor_find(g, "second");
    assert_int_equal(t->offset, header + (1 << 20));
    assert_int_equal(((const uint8_t *)gguf_tensor_bytes(g, t))[t->bytes - 1], 0);
    struct stat st;
    assert_int_equal(stat(folder_path("sparse.gguf"), &st), 0);
    assert_true(st.st_blocks * 512 < 1 << 20); /* opening has touched no hole */
    gguf_close(&g);
    buffer_close(&b);
    raw_close(&r);
}

static void test_only_regular_files_open(void **state)
{
    static const struct {
        const char *path;
        int status;
    } cases[] = {{"/", ERR_INVALID}, {"/dev/zero", ERR_INVALID}, {"/nowhere/at/all.gguf", ERR_NOT_FOUND}};
    struct error e;
    struct gguf *g;
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        e = (struct error){0};
        assert_int_equal(gguf_open(&g, cases[i].path, &e), cases[i].status);
        assert_null(g);
        assert_non_null(strstr(e.text, cases[i].path));
    }
    assert_int_equal(mkfifo(folder_path("fifo"), 0600), 0);
    assert_int_equal(gguf_open(&g, folder_path("fifo"), &e), ERR_INVALID); /* and does not wait */
    assert_int_equal(symlink("written.gguf", folder_path("link.gguf")), 0);
    g = open_file("link.gguf");
    gguf_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars_of_every_kind),
        cmocka_unit_test(test_getters_convert_nothing_with_loss),
        cmocka_unit_test(test_arrays_of_every_kind),
        cmocka_unit_test(test_writer_round_trip),
        cmocka_unit_test(test_writer_copies_keys_of_every_kind),
        cmocka_unit_test(test_files_appear_whole_or_not_at_all),
        cmocka_unit_test(test_sparse_files_open),
        cmocka_unit_test(test_only_regular_files_open),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
