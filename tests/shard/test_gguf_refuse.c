/* test_gguf_refuse: files that are cut, flipped or lie are refused with one sentence.
 *
 * The reader sees hostile bytes in a mapping of the file's exact size; run under a
 * sanitizer for the reads that stay inside its last page.                          */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "shard/format/gguf.h"
#include "tests/shard/folder.h"
#include "tests/shard/raw.h"

/* The file that is tried lies in memory: tens of thousands of them follow each other. */
static int tried;
static char tried_path[64];

static int open_tried(void **state)
{
    tried = memfd_create("tried.gguf", MFD_CLOEXEC);
    snprintf(tried_path, sizeof(tried_path), "/proc/self/fd/%d", tried);
    return tried < 0 ? -1 : folder_open(state);
}

static int close_tried(void **state)
{
    close(tried);
    return folder_close(state);
}

static const uint64_t some_ne[4] = {32, 2, 1, 1};

/* A little of everything: 6 keys, 2 tensors. */
static void sound(struct raw *r)
{
    raw_open(r);
    raw_string(r, "general.architecture", "llama");
    raw_u32(r, "general.alignment", 32);
    raw_f32(r, "a.float", 1);
    raw_array(r, "an.array", GGUF_U16, 3), buffer_u16(&r->values, 1), buffer_u32(&r->values, 2);
    raw_array(r, "strings", GGUF_STRING, 2), raw_text(&r->values, "ab"), raw_text(&r->values, "c");
    raw_bool(r, "flag", true);
    raw_tensor(r, "one", QTYPE_F32, 2, some_ne, NULL, 32 * 2 * 4);
    raw_tensor(r, "two", QTYPE_Q8_0, 2, some_ne, NULL, 34 * 2);
}

/* Read all that an opened file offers: what its parts point at must be there. */
static uint64_t walk(const struct gguf *g)
{
    uint64_t sum = 0, u, n;
    int64_t i;
    double d;
    bool b;
    enum gguf_type type;
    struct gguf_string s;
    for (size_t k = 0; k < gguf_key_count(g); k++) {
        struct gguf_string name = gguf_key_at(g, k);
        char key[GGUF_KEY_MAX + 1] = "";
        memcpy(key, name.text, name.len);
        assert_true(gguf_has(g, key));
        sum += gguf_get_u64(g, key, &u) + gguf_get_f64(g, key, &d) + gguf_get_bool(g, key, &b);
        if (gguf_get_string(g, key, &s))
            for (size_t at = 0; at < s.len; at++)
                sum += (uint8_t)s.text[at];
        if (!gguf_array(g, key, &type, &n))
            continue;
        for (uint64_t at = 0; at < n; at++) {
            sum += gguf_array_u64(g, key, at, &u) + gguf_array_i64(g, key, at, &i) + gguf_array_f64(g, key, at, &d);
            if (gguf_array_string(g, key, at, &s))
                for (size_t c = 0; c < s.len; c++)
                    sum += (uint8_t)s.text[c];
        }
    }
    for (size_t t = 0; t < gguf_tensor_count(g); t++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(g, t);
        assert_ptr_equal(gguf_tensor_find(g, tensor->name), tensor);
        const uint8_t *bytes = gguf_tensor_bytes(g, tensor);
        for (uint64_t at = 0; at < tensor->bytes; at++)
            sum += bytes[at];
    }
    return sum;
}

/* Opens the bytes; true when they were taken. What was refused must say so in words. */
static bool try_bytes(const void *bytes, size_t n, struct error *e)
{
    struct gguf *g;
    *e = (struct error){0};
    assert_int_equal(ftruncate(tried, 0), 0);
    assert_int_equal(pwrite(tried, bytes, n, 0), n);
    int r = gguf_open(&g, tried_path, e);
    if (r == 0) {
        (void)walk(g);
        gguf_close(&g);
        return true;
    }
    assert_null(g);
    assert_int_equal(e->status, r);
    size_t path = strlen(tried_path);
    assert_memory_equal(e->text, tried_path, path);
    assert_true(e->text[path] == ':' && strlen(e->text) > path + 10);
    return false;
}

static void test_sound_file_opens(void **state)
{
    struct raw r;
    struct buffer b;
    struct error e;
    (void)state;
    sound(&r);
    raw_bytes(&r, &b, NULL);
    assert_true(try_bytes(b.data, b.len, &e));
    buffer_close(&b);
    raw_close(&r);
}

static void test_cut_anywhere_is_refused(void **state)
{
    struct raw r;
    struct buffer b;
    struct error e;
    size_t header;
    (void)state;
    sound(&r);
    raw_bytes(&r, &b, &header);
    for (size_t n = 0; n < header + 32 * 2 * 4 + 34 * 2; n++) {
        if (try_bytes(b.data, n, &e))
            fail_msg("the first %zu bytes were taken for a whole file", n);
        assert_int_equal(e.status, ERR_CORRUPT);
    }
    buffer_close(&b);
    raw_close(&r);
}

static void test_flipped_bits_do_no_harm(void **state)
{
    struct raw r;
    struct buffer b;
    struct error e;
    size_t header, refused = 0;
    (void)state;
    sound(&r);
    raw_bytes(&r, &b, &header);
    for (size_t bit = 0; bit < header * 8; bit++) {
        b.data[bit / 8] ^= (char)(1 << bit % 8);
        refused += !try_bytes(b.data, b.len, &e);
        b.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_true(refused > header * 2);
    buffer_close(&b);
    raw_close(&r);
}

/* Numbers that break additions and products, at every place where a number could be. */
static void test_hostile_numbers_do_no_harm(void **state)
{
    static const uint64_t numbers[] = {0, 1, 0x7F, 1 << 20, UINT32_MAX, (uint64_t)1 << 32, (uint64_t)1 << 40,
                                       INT64_MAX, (uint64_t)1 << 63, UINT64_MAX - 31, UINT64_MAX};
    static const size_t widths[] = {4, 8};
    struct raw r;
    struct buffer b;
    struct error e;
    size_t header;
    uint8_t before[8];
    (void)state;
    sound(&r);
    raw_bytes(&r, &b, &header);
    for (size_t at = 4; at + 8 <= header; at++) {
        for (size_t i = 0; i < COUNTOF(numbers) * COUNTOF(widths); i++) {
            size_t width = widths[i % COUNTOF(widths)];
            memcpy(before, b.data + at, width);
            memcpy(b.data + at, &numbers[i / COUNTOF(widths)], width);
            (void)try_bytes(b.data, b.len, &e);
            memcpy(b.data + at, before, width);
        }
    }
    assert_true(try_bytes(b.data, b.len, &e));
    buffer_close(&b);
    raw_close(&r);
}

static void test_random_damage_does_no_harm(void **state)
{
    struct raw r;
    struct buffer b;
    struct error e;
    size_t header;
    struct random_state random;
    (void)state;
    sound(&r);
    raw_bytes(&r, &b, &header);
    char *copy = malloc(b.len);
    random_seed(&random, 24);
    for (int round = 0; round < 3000; round++) {
        memcpy(copy, b.data, b.len);
        for (uint64_t i = 0; i <= random_u64(&random) % 4; i++)
            copy[8 + random_u64(&random) % (header - 8)] = (char)random_u64(&random);
        (void)try_bytes(copy, b.len, &e);
    }
    free(copy);
    buffer_close(&b);
    raw_close(&r);
}

/* ---- lies, one by one ---- */

static void magic(struct raw *r) { r->magic = 0x46554748; }
static void version_0(struct raw *r) { r->version = 0; }
static void version_1(struct raw *r) { r->version = 1; }
static void version_4(struct raw *r) { r->version = 4; }
static void version_max(struct raw *r) { r->version = UINT32_MAX; }
static void big_endian(struct raw *r) { r->version = 3U << 24; }
static void tensors_2_63(struct raw *r) { r->n_tensors = (uint64_t)1 << 63; }
static void tensors_million(struct raw *r) { r->n_tensors = 1 << 20; }
static void tensors_one_more(struct raw *r) { r->n_tensors++; }
static void keys_minus_1(struct raw *r) { r->n_values = UINT64_MAX; }
static void keys_many(struct raw *r) { r->n_values = 65536; }

static void raw_length(struct raw *r, uint64_t length)
{
    buffer_u64(&r->values, length);
    r->n_values++;
}

static void key_length_max(struct raw *r) { raw_length(r, UINT64_MAX); }
static void key_length_257(struct raw *r) { raw_length(r, 257), buffer_grow(&r->values, 400); }
static void key_empty(struct raw *r) { raw_u32(r, "", 1); }
static void key_twice(struct raw *r) { raw_u32(r, "a.float", 1); }
static void key_escape(struct raw *r) { raw_u32(r, "a\x1B[2Jb", 1); }
static void key_latin(struct raw *r) { raw_u32(r, "caf\xE9", 1); }

static void key_nul(struct raw *r)
{
    raw_length(r, 3);
    buffer_add(&r->values, "a\0b", 3);
    buffer_u32(&r->values, GGUF_U8);
    buffer_u8(&r->values, 1);
}

static void string_length(struct raw *r, uint64_t n)
{
    raw_key(r, "text", GGUF_STRING);
    buffer_u64(&r->values, n);
}

static void string_max(struct raw *r) { string_length(r, UINT64_MAX); }
static void string_long(struct raw *r) { string_length(r, 1 << 20); }
static void value_type_13(struct raw *r) { raw_key(r, "odd", 13), buffer_u64(&r->values, 0); }
static void value_type_max(struct raw *r) { raw_key(r, "odd", UINT32_MAX), buffer_u64(&r->values, 0); }
static void array_of_arrays(struct raw *r) { raw_array(r, "deep", GGUF_ARRAY, 1), buffer_grow(&r->values, 64); }
static void array_type_99(struct raw *r) { raw_array(r, "odd", 99, 1), buffer_u64(&r->values, 0); }
static void array_2_40(struct raw *r) { raw_array(r, "long", GGUF_U8, (uint64_t)1 << 40); }
static void array_wraps(struct raw *r) { raw_array(r, "long", GGUF_U64, ((uint64_t)1 << 61) + 1); }
static void strings_2_61(struct raw *r) { raw_array(r, "long", GGUF_STRING, ((uint64_t)1 << 61) + 1); }

static void strings_cut(struct raw *r)
{
    raw_array(r, "long", GGUF_STRING, 2);
    raw_text(&r->values, "first");
    buffer_u64(&r->values, UINT64_MAX - 7);
}

static void alignment_of(struct raw *r, uint32_t v)
{
    raw_close(r);
    raw_open(r);
    raw_u32(r, "general.alignment", v);
}

static void alignment_0(struct raw *r) { alignment_of(r, 0); }
static void alignment_3(struct raw *r) { alignment_of(r, 3); }
static void alignment_48(struct raw *r) { alignment_of(r, 48); }
static void alignment_2_30(struct raw *r) { alignment_of(r, 1U << 30); }

static void alignment_2_63(struct raw *r)
{
    raw_close(r);
    raw_open(r);
    raw_key(r, "general.alignment", GGUF_U64), buffer_u64(&r->values, (uint64_t)1 << 63);
}

static void alignment_words(struct raw *r)
{
    raw_close(r);
    raw_open(r);
    raw_string(r, "general.alignment", "32");
}

static void split(struct raw *r)
{
    raw_key(r, "split.count", GGUF_U16), buffer_u16(&r->values, 3);
}

static void dims(struct raw *r, uint32_t n, uint64_t ne0, uint64_t ne1)
{
    const uint64_t ne[8] = {ne0, ne1, 1, 1, 1, 1, 1, 1};
    raw_info(r, "three", n, ne, QTYPE_F32, r->data.len);
    buffer_grow(&r->data, 64);
}

static void dims_0(struct raw *r) { dims(r, 0, 1, 1); }
static void dims_5(struct raw *r) { dims(r, 5, 1, 1); }
static void ne_0(struct raw *r) { dims(r, 2, 4, 0); }
static void ne0_0(struct raw *r) { dims(r, 2, 0, 4); }
static void ne_negative(struct raw *r) { dims(r, 2, 4, (uint64_t)-1); }
static void ne_wraps(struct raw *r) { dims(r, 2, (uint64_t)1 << 32, (uint64_t)1 << 32); }
static void ne_wraps_to_little(struct raw *r) { dims(r, 2, ((uint64_t)1 << 62) + 4, 1); }
static void ne_past_end(struct raw *r) { dims(r, 1, 17, 1); }

static void dims_max(struct raw *r)
{
    raw_text(&r->infos, "three");
    buffer_u32(&r->infos, UINT32_MAX);
    buffer_grow(&r->infos, 64);
    r->n_tensors++;
}

static void typed(struct raw *r, uint32_t type)
{
    raw_info(r, "three", 2, some_ne, type, r->data.len);
    buffer_grow(&r->data, 512);
}

static void type_q1_0(struct raw *r) { typed(r, 41); }
static void type_removed(struct raw *r) { typed(r, 4); }
static void type_max(struct raw *r) { typed(r, UINT32_MAX); }
static void type_own(struct raw *r) { typed(r, QTYPE_INT4_32); }
static void type_block(struct raw *r) { typed(r, QTYPE_Q4_K); } /* 32 values are no block of 256 */

static void placed(struct raw *r, uint64_t offset)
{
    raw_info(r, "three", 2, some_ne, QTYPE_F32, offset);
}

static void offset_odd(struct raw *r) { placed(r, 16); }
static void offset_past_end(struct raw *r) { placed(r, 1 << 20); }
static void offset_wraps(struct raw *r) { placed(r, (uint64_t)-256); }
static void offset_overlaps(struct raw *r) { placed(r, 288), buffer_grow(&r->data, 512); }
static void offset_same(struct raw *r) { placed(r, 256), buffer_grow(&r->data, 512); }
static void offset_decreases(struct raw *r)
{
    raw_close(r);
    raw_open(r);
    raw_info(r, "one", 2, some_ne, QTYPE_F32, 256);
    raw_info(r, "two", 2, some_ne, QTYPE_F32, 0);
    buffer_grow(&r->data, 512);
}

static void bleeding(struct raw *r) { r->data.len -= 96; } /* the last tensor is declared longer than the file */

static void named(struct raw *r, const char *name)
{
    raw_tensor(r, name, QTYPE_F32, 2, some_ne, NULL, 256);
}

static void name_twice(struct raw *r) { named(r, "one"); }
static void name_empty(struct raw *r) { named(r, ""); }
static void name_escape(struct raw *r) { named(r, "\x1B]0;x\a"); }

static void name_65(struct raw *r)
{
    named(r, "a23456789.b23456789.c23456789.d23456789.e23456789.f23456789.g2345");
}

static void name_million(struct raw *r)
{
    buffer_u64(&r->infos, 1000000);
    buffer_grow(&r->infos, 1000000 + 32);
    r->n_tensors++;
}

static void name_nul(struct raw *r)
{
    buffer_u64(&r->infos, 3);
    buffer_add(&r->infos, "a\0b", 3);
    buffer_grow(&r->infos, 40);
    r->n_tensors++;
}

static const struct lie {
    void (*tell)(struct raw *r);
    int status;
    const char *words;
} lies[] = {
    {magic, ERR_CORRUPT, "is not a GGUF file"},
    {version_0, ERR_UNSUPPORTED, "is GGUF version 0; 2 and 3"},
    {version_1, ERR_UNSUPPORTED, "is GGUF version 1; 2 and 3"},
    {version_4, ERR_UNSUPPORTED, "is GGUF version 4; 2 and 3"},
    {version_max, ERR_UNSUPPORTED, "is GGUF version 4294967295"},
    {big_endian, ERR_UNSUPPORTED, "big-endian"},
    {tensors_2_63, ERR_CORRUPT, "claims 9223372036854775808 tensors"},
    {tensors_million, ERR_CORRUPT, "claims 1048576 tensors"},
    {tensors_one_more, ERR_CORRUPT, "tensor 3"},
    {keys_minus_1, ERR_CORRUPT, "claims 18446744073709551615 metadata keys"},
    {keys_many, ERR_CORRUPT, "claims 65536 metadata keys"},
    {key_length_max, ERR_CORRUPT, "name of metadata key 7 is damaged"},
    {key_length_257, ERR_CORRUPT, "name of metadata key 7 is damaged"},
    {key_empty, ERR_CORRUPT, "name of metadata key 7 is damaged"},
    {key_nul, ERR_CORRUPT, "name of metadata key 7 is damaged"},
    {key_escape, ERR_CORRUPT, "name of metadata key 7 is damaged"},
    {key_latin, ERR_CORRUPT, "name of metadata key 7 is damaged"},
    {key_twice, ERR_CORRUPT, "metadata key a.float occurs twice"},
    {string_max, ERR_CORRUPT, "ends inside the metadata"},
    {string_long, ERR_CORRUPT, "ends inside the metadata"},
    {value_type_13, ERR_CORRUPT, "key odd has type 13"},
    {value_type_max, ERR_CORRUPT, "key odd has type 4294967295"},
    {array_of_arrays, ERR_CORRUPT, "key deep is an array of type 9"},
    {array_type_99, ERR_CORRUPT, "key odd is an array of type 99"},
    {array_2_40, ERR_CORRUPT, "ends inside an array"},
    {array_wraps, ERR_CORRUPT, "ends inside an array"},
    {strings_2_61, ERR_CORRUPT, "ends inside an array of strings"},
    {strings_cut, ERR_CORRUPT, "ends inside an array of strings"},
    {alignment_0, ERR_CORRUPT, "general.alignment is not a power of two"},
    {alignment_3, ERR_CORRUPT, "general.alignment is not a power of two"},
    {alignment_48, ERR_CORRUPT, "general.alignment is not a power of two"},
    {alignment_2_30, ERR_CORRUPT, "general.alignment is not a power of two"},
    {alignment_2_63, ERR_CORRUPT, "general.alignment is not a power of two"},
    {alignment_words, ERR_CORRUPT, "general.alignment is not a power of two"},
    {split, ERR_CORRUPT, "does not say which"},
    {dims_0, ERR_CORRUPT, "tensor three has 0 dimensions"},
    {dims_5, ERR_CORRUPT, "tensor three has 5 dimensions"},
    {dims_max, ERR_CORRUPT, "tensor three has 4294967295 dimensions"},
    {ne_0, ERR_CORRUPT, "tensor three has dimensions that its type F32 cannot have"},
    {ne0_0, ERR_CORRUPT, "tensor three has dimensions that its type F32 cannot have"},
    {ne_negative, ERR_CORRUPT, "tensor three has dimensions that its type F32 cannot have"},
    {ne_wraps, ERR_CORRUPT, "tensor three has dimensions that its type F32 cannot have"},
    {ne_wraps_to_little, ERR_CORRUPT, "tensor three has dimensions that its type F32 cannot have"},
    {ne_past_end, ERR_CORRUPT, "tensor three ends past the end of the file"},
    {type_q1_0, ERR_UNSUPPORTED, "tensor three is stored as Q1_0"},
    {type_removed, ERR_UNSUPPORTED, "tensor three is stored as type 4,"},
    {type_max, ERR_UNSUPPORTED, "tensor three is stored as type 4294967295"},
    {type_own, ERR_UNSUPPORTED, "tensor three is stored as INT4_32 (1040), which is no type of files"},
    {type_block, ERR_CORRUPT, "tensor three has dimensions that its type Q4_K cannot have"},
    {offset_odd, ERR_CORRUPT, "tensor three is not aligned to 32 bytes"},
    {offset_past_end, ERR_CORRUPT, "tensor three ends past the end of the file"},
    {offset_wraps, ERR_CORRUPT, "tensor three ends past the end of the file"},
    {offset_overlaps, ERR_CORRUPT, "overlap"},
    {offset_same, ERR_CORRUPT, "overlap"},
    {offset_decreases, ERR_CORRUPT, "tensor two lies before the one that is listed before it"},
    {bleeding, ERR_CORRUPT, "tensor two ends past the end of the file"},
    {name_twice, ERR_CORRUPT, "tensor one occurs twice"},
    {name_empty, ERR_CORRUPT, "the name of tensor 3 is damaged"},
    {name_nul, ERR_CORRUPT, "the name of tensor 3 is damaged"},
    {name_escape, ERR_CORRUPT, "the name of tensor 3 is damaged"},
    {name_65, ERR_CORRUPT, "the name of tensor 3 is damaged"},
    {name_million, ERR_CORRUPT, "the name of tensor 3 is damaged"},
};

static void test_lies_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(lies); i++) {
        struct raw r;
        struct buffer b;
        struct error e;
        sound(&r);
        lies[i].tell(&r);
        raw_bytes(&r, &b, NULL);
        if (try_bytes(b.data, b.len, &e))
            fail_msg("lie %zu was believed; it should say \"%s\"", i, lies[i].words);
        if (e.status != lies[i].status || !strstr(e.text, lies[i].words))
            fail_msg("lie %zu: status %d \"%s\" does not say \"%s\"", i, e.status, e.text, lies[i].words);
        buffer_close(&b);
        raw_close(&r);
    }
}

/* A header of a few bytes, then zeros that the disk does not hold: empty strings without end. */
static void test_sparse_strings_are_capped(void **state)
{
    struct raw r;
    struct error e = {0};
    struct gguf *g;
    (void)state;
    raw_open(&r);
    raw_array(&r, "long", GGUF_STRING, (uint64_t)GGUF_STRINGS_MAX + 1);
    raw_write(&r, "zeros.gguf");
    assert_int_equal(truncate(folder_path("zeros.gguf"), (off_t)1 << 30), 0);
    assert_int_equal(gguf_open(&g, folder_path("zeros.gguf"), &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "more than 8388608 strings"));
    raw_close(&r);
}

/* Nothing but zeros, a hole of a terabyte: no byte of it is looked at. */
static void test_a_terabyte_of_nothing_is_no_model(void **state)
{
    struct error e = {0};
    struct gguf *g;
    (void)state;
    folder_write("hole.gguf", "GGUF\3\0\0\0", 8);
    assert_int_equal(truncate(folder_path("hole.gguf"), (off_t)1 << 40), 0);
    assert_int_equal(gguf_open(&g, folder_path("hole.gguf"), &e), 0); /* says that it holds nothing */
    assert_int_equal(gguf_tensor_count(g), 0);
    gguf_close(&g);
    folder_write("hole.gguf", "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\xFF\xFF", 18);
    assert_int_equal(truncate(folder_path("hole.gguf"), (off_t)1 << 40), 0);
    assert_int_equal(gguf_open(&g, folder_path("hole.gguf"), &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "the name of metadata key 1 is damaged"));
}

static void test_alignments_that_can_be(void **state)
{
    static const uint32_t alignments[] = {8, 16, 64, 4096};
    (void)state;
    for (size_t i = 0; i < COUNTOF(alignments); i++) {
        struct raw r;
        struct buffer b;
        struct error e;
        raw_open(&r);
        r.alignment = alignments[i];
        raw_u32(&r, "general.alignment", alignments[i]);
        raw_tensor(&r, "one", QTYPE_Q8_0, 2, some_ne, NULL, 34 * 2);
        raw_tensor(&r, "two", QTYPE_F32, 2, some_ne, NULL, 256);
        raw_bytes(&r, &b, NULL);
        assert_true(try_bytes(b.data, b.len, &e));
        buffer_close(&b);
        raw_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound_file_opens),
        cmocka_unit_test(test_cut_anywhere_is_refused),
        cmocka_unit_test(test_flipped_bits_do_no_harm),
        cmocka_unit_test(test_hostile_numbers_do_no_harm),
        cmocka_unit_test(test_random_damage_does_no_harm),
        cmocka_unit_test(test_lies_are_named),
        cmocka_unit_test(test_sparse_strings_are_capped),
        cmocka_unit_test(test_a_terabyte_of_nothing_is_no_model),
        cmocka_unit_test(test_alignments_that_can_be),
    };
    return cmocka_run_group_tests(tests, open_tried, close_tried);
}
