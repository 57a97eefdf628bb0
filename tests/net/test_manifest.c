/* test_manifest: known hashes, every lie refused, and a file read through once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/buffer.h"
#include "base/path.h"
#include "tests/net/model_file.h"

enum { CHUNK = MANIFEST_CHUNK_BYTES };

/* Of a file without a head, of one that has one, and of several. */
static const struct layout {
    struct file_set_entry files[4];
    size_t n;
    uint64_t chunks[12]; /* their lengths, in order */
} layouts[] = {
    {{{"m", 1, 0}}, 1, {1}},
    {{{"m", CHUNK - 1, 0}}, 1, {CHUNK - 1}},
    {{{"m", CHUNK, CHUNK}}, 1, {CHUNK}},
    {{{"m", CHUNK + 1, 0}}, 1, {CHUNK, 1}},
    {{{"m", 3 * CHUNK + 77, 10}}, 1, {10, CHUNK, CHUNK, CHUNK, 67}},
    {{{"m", 3 * CHUNK + 77, CHUNK + 7}}, 1, {CHUNK, 7, CHUNK, CHUNK, 70}},
    {{{"a", 5, 5}, {"b", 2 * CHUNK, 3}, {"c", 0, 0}, {"d", CHUNK + 2, 1}}, 4,
     {5, 3, 1, CHUNK, CHUNK - 3, CHUNK, 1}},
};

static void test_chunks_begin_anew_at_every_file(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNTOF(layouts); s++) {
        struct model_file f;
        uint64_t offset = 0, n = 0;
        models_make(&f, "layout", layouts[s].files, layouts[s].n, s);
        while (n < COUNTOF(layouts[s].chunks) && layouts[s].chunks[n] != 0)
            n++;
        assert_int_equal(f.manifest.n_chunks, n);
        assert_int_equal(f.manifest.bytes, f.n);
        assert_int_equal(f.manifest.head_bytes, file_set_head_bytes(f.files));
        for (uint64_t i = 0; i < n; i++) {
            struct file_set_range r = manifest_chunk(&f.manifest, i);
            assert_int_equal(r.offset, offset);
            assert_int_equal(r.length, layouts[s].chunks[i]);
            for (uint64_t at = r.offset; at < r.offset + r.length; at += r.length > 1 ? r.length - 1 : 1) {
                uint8_t *bits = manifest_touched(&f.manifest, &(struct file_set_range){at, 1}, 1);
                for (uint64_t k = 0; k < n; k++)
                    assert_int_equal(bits[k / 8] >> (k % 8) & 1, k == i);
                mem_free(bits);
            }
            offset += r.length;
        }
        model_file_free(&f);
    }
}

static void test_hashes_are_blake2b_of_chunks_and_the_id_of_all(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNTOF(layouts); s++) {
        struct model_file f;
        uint8_t hash[32], *bytes;
        size_t n;
        models_make(&f, "hashes", layouts[s].files, layouts[s].n, s);
        for (uint64_t i = 0; i < f.manifest.n_chunks; i++) {
            const uint8_t *chunk = model_file_chunk(&f, i, &n);
            crypto_generichash(hash, sizeof(hash), chunk, n, NULL, 0);
            assert_memory_equal(hash, f.manifest.hashes + 32 * i, 32);
            assert_int_equal(manifest_check(&f.manifest, i, chunk, n, NULL), 0);
        }
        assert_int_equal(manifest_encode(&f.manifest, &bytes, &n, NULL), 0);
        crypto_generichash(hash, sizeof(hash), bytes, n, NULL, 0);
        assert_memory_equal(hash, f.manifest.id, 32);
        struct manifest again, copy;
        assert_int_equal(manifest_decode(&again, bytes, n, f.manifest.id, NULL), 0);
        manifest_copy(&copy, &again);
        manifest_free(&again);
        assert_int_equal(copy.bytes, f.manifest.bytes);
        assert_int_equal(copy.head_bytes, f.manifest.head_bytes);
        assert_int_equal(copy.n_files, f.n_files);
        assert_memory_equal(copy.files, f.manifest.files, f.n_files * sizeof(*copy.files));
        assert_int_equal(copy.n_chunks, f.manifest.n_chunks);
        assert_memory_equal(copy.hashes, f.manifest.hashes, 32 * copy.n_chunks);
        assert_memory_equal(copy.id, f.manifest.id, 32);
        manifest_free(&copy);
        mem_free(bytes);
        model_file_free(&f);
    }
}

/* The same bytes under other names, or cut elsewhere, are another model. */
static void test_the_id_covers_names_sizes_and_heads(void **state)
{
    (void)state;
    static const struct file_set_entry ways[][2] = {
        {{"a", 100, 10}, {"b", 100, 10}}, {{"a", 100, 10}, {"c", 100, 10}}, {{"a", 101, 10}, {"b", 99, 10}},
        {{"a", 100, 11}, {"b", 100, 9}}, {{"a", 100, 20}, {"b", 100, 0}},
    };
    uint8_t ids[COUNTOF(ways)][32];
    for (size_t i = 0; i < COUNTOF(ways); i++) {
        struct model_file f;
        models_make(&f, "covered", ways[i], 2, 1);
        memcpy(ids[i], f.manifest.id, 32);
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(ids[i], ids[k], 32);
        model_file_free(&f);
    }
}

static void test_what_is_not_the_chunk_is_corrupt(void **state)
{
    (void)state;
    struct model_file f;
    size_t n;
    model_file_make(&f, "chunks", 2 * CHUNK + 10, 1);
    const uint8_t *last = model_file_chunk(&f, 2, &n), *first = f.bytes;
    assert_int_equal(manifest_check(&f.manifest, 0, first, CHUNK - 1, NULL), ERR_CORRUPT);
    assert_int_equal(manifest_check(&f.manifest, 1, first, CHUNK, NULL), ERR_CORRUPT);
    assert_int_equal(manifest_check(&f.manifest, 2, last, n, NULL), 0);
    assert_int_equal(manifest_check(&f.manifest, 2, last, n - 1, NULL), ERR_CORRUPT);
    assert_int_equal(manifest_check(&f.manifest, 2, last, 0, NULL), ERR_CORRUPT);
    assert_int_equal(manifest_check(&f.manifest, 3, last, n, NULL), ERR_INVALID);
    assert_int_equal(manifest_check(&f.manifest, UINT64_MAX, last, n, NULL), ERR_INVALID);
    f.bytes[CHUNK / 2] ^= 1;
    assert_int_equal(manifest_check(&f.manifest, 0, first, CHUNK, NULL), ERR_CORRUPT);
    model_file_free(&f);
}

/* Decodes the bytes under the id that they really have: only what they say can be wrong. */
static int decode_as_it_is(const uint8_t *bytes, size_t n)
{
    struct manifest m;
    uint8_t id[32];
    crypto_generichash(id, sizeof(id), bytes, n, NULL, 0);
    int r = manifest_decode(&m, bytes, n, id, NULL);
    manifest_free(&m);
    return r;
}

static void test_lies_are_refused(void **state)
{
    (void)state;
    struct model_file f;
    struct manifest m;
    uint8_t *bytes;
    size_t n;
    model_file_make(&f, "lies", 2 * CHUNK + 10, 2);
    assert_int_equal(manifest_encode(&f.manifest, &bytes, &n, NULL), 0);
    for (size_t i = 0; i < n; i++) { /* under the right id, any change is refused */
        bytes[i] ^= 4;
        assert_int_equal(manifest_decode(&m, bytes, n, f.manifest.id, NULL), ERR_CORRUPT);
        bytes[i] ^= 4;
    }
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(decode_as_it_is(bytes, cut), ERR_CORRUPT);
    assert_int_equal(decode_as_it_is(bytes, n), 0);
    /* magic 0, chunk bytes 8, files 16; then 24: length 2, "model.gguf" 10; 36 bytes, 44 head */
    static const struct {
        size_t at;
        uint64_t value;
    } lies[] = {
        {0, 0},                                                                   /* magic */
        {8, 0}, {8, CHUNK / 2}, {8, UINT64_MAX},                                  /* chunk bytes */
        {16, 0}, {16, 2}, {16, FILE_SET_MAX + 1}, {16, UINT64_MAX},               /* files */
        {36, 0}, {36, CHUNK}, {36, 4 * CHUNK}, {36, UINT64_MAX}, {36, 1ull << 63}, {36, 1ull << 60}, /* file bytes */
        {44, 2 * CHUNK + 11}, {44, UINT64_MAX},                                   /* head bytes */
    };
    for (size_t i = 0; i < COUNTOF(lies); i++) {
        uint8_t was[8];
        memcpy(was, bytes + lies[i].at, 8);
        memcpy(bytes + lies[i].at, &lies[i].value, 8);
        assert_int_equal(decode_as_it_is(bytes, n), ERR_CORRUPT);
        memcpy(bytes + lies[i].at, was, 8);
    }
    mem_free(bytes);
    model_file_free(&f);
}

/* A table by hand: two files of one byte each, their names as given. */
static int decode_names(const char *first, size_t n_first, const char *second, size_t n_second)
{
    struct buffer b;
    static const uint8_t hashes[64];
    const char *names[] = {first, second};
    const size_t lengths[] = {n_first, n_second};
    buffer_init(&b, 4096);
    buffer_add(&b, "SHLMANI2", 8);
    buffer_u64(&b, CHUNK);
    buffer_u64(&b, 2);
    for (int i = 0; i < 2; i++) {
        buffer_u16(&b, (uint16_t)lengths[i]);
        buffer_add(&b, names[i], lengths[i]);
        buffer_u64(&b, 1);
        buffer_u64(&b, 1);
    }
    buffer_add(&b, hashes, sizeof(hashes));
    int r = decode_as_it_is((const uint8_t *)b.data, b.len);
    buffer_close(&b);
    return r;
}

static void test_names_that_lead_elsewhere_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", ".", "..", "../../etc/passwd", "/etc/passwd", "a/b", ".ssh", "a\n", "\x1b[2J",
                                      "b"};
    char full[300];
    memset(full, 'x', sizeof(full));
    assert_int_equal(decode_names("a", 1, "b", 1), 0);
    assert_int_equal(decode_names(full, FILE_SET_NAME_MAX, "b", 1), 0);
    for (size_t i = 0; i < COUNTOF(bad); i++)
        assert_int_equal(decode_names(bad[i], strlen(bad[i]), "b", 1), ERR_CORRUPT);
    assert_int_equal(decode_names("a\0c", 3, "b", 1), ERR_CORRUPT);
    assert_int_equal(decode_names(full, FILE_SET_NAME_MAX + 1, "b", 1), ERR_CORRUPT);
}

struct counter {
    int calls, stop_at;
};

static int count_progress(void *arg, uint64_t done, uint64_t total)
{
    struct counter *c = arg;
    assert_true(done <= total);
    return ++c->calls == c->stop_at;
}

static int manifest_counted(const struct model_file *f, struct counter *c, struct manifest *m)
{
    struct file_set *files; /* as another start of the program opens them */
    assert_int_equal(file_set_open(&files, in_folder(f->name), f->entries, f->n_files, NULL), 0);
    int r = manifest_of_files(m, files, in_folder("kept"), count_progress, c, NULL);
    file_set_close(&files);
    return r;
}

static void test_files_are_read_through_once(void **state)
{
    (void)state;
    struct model_file f;
    struct manifest m;
    struct counter c = {0};
    const struct file_set_entry two[] = {{"a", 2 * CHUNK, 0}, {"b", CHUNK, 0}};
    models_make(&f, "once", two, 2, 3);
    assert_int_equal(manifest_counted(&f, &c, &m), 0);
    assert_int_equal(c.calls, 3);
    manifest_free(&m);
    assert_int_equal(manifest_counted(&f, &c, &m), 0);
    assert_int_equal(c.calls, 3);
    assert_memory_equal(m.hashes, f.manifest.hashes, 96);
    manifest_free(&m);
    f.bytes[2 * CHUNK] ^= 1; /* of the same length, another content */
    assert_int_equal(path_write_atomic(model_file_path(&f, 1), f.bytes + 2 * CHUNK, CHUNK, 0600, NULL), 0);
    assert_int_equal(manifest_counted(&f, &c, &m), 0);
    assert_int_equal(c.calls, 6);
    assert_memory_equal(m.hashes, f.manifest.hashes, 64);
    assert_memory_not_equal(m.hashes + 64, f.manifest.hashes + 64, 32);
    manifest_free(&m);
    model_file_free(&f);
}

static void test_a_manifest_that_came_is_found_by_its_id(void **state)
{
    (void)state;
    struct model_file f;
    struct manifest m;
    models_make(&f, "came", layouts[6].files, layouts[6].n, 3);
    const char *cache = in_folder("came-cache");
    assert_int_equal(manifest_find(&m, cache, f.manifest.id), ERR_NOT_FOUND);
    manifest_keep(&f.manifest, cache);
    assert_int_equal(manifest_find(&m, cache, f.manifest.id), 0);
    assert_memory_equal(m.hashes, f.manifest.hashes, 32 * m.n_chunks);
    manifest_free(&m);
    char hex[65], path[600];
    sodium_bin2hex(hex, sizeof(hex), f.manifest.id, 32);
    snprintf(path, sizeof(path), "%s/manifests/%s", cache, hex);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(manifest_find(&m, cache, f.manifest.id), ERR_CORRUPT);
    assert_null(m.hashes);
    model_file_free(&f);
}

static void test_hashing_can_be_stopped(void **state)
{
    (void)state;
    struct model_file f;
    struct manifest m;
    struct counter c = {.stop_at = 2};
    model_file_make(&f, "stopped", 4 * CHUNK, 4);
    assert_int_equal(manifest_counted(&f, &c, &m), ERR_CANCELLED);
    assert_null(m.hashes);
    assert_int_equal(c.calls, 2);
    c = (struct counter){0};
    assert_int_equal(manifest_counted(&f, &c, &m), 0); /* nothing half was kept */
    assert_int_equal(c.calls, 4);
    manifest_free(&m);
    model_file_free(&f);
}

static void test_what_cannot_be_hashed_is_refused(void **state)
{
    (void)state;
    struct model_file f;
    struct manifest m;
    struct counter c = {0};
    struct file_set *files;
    const struct file_set_entry two[] = {{"a", CHUNK, 0}, {"b", CHUNK, 0}}, empty[] = {{"e", 0, 0}},
        large[] = {{"l", 1ull << 43, 0}};
    models_make(&f, "lost", two, 2, 5);
    assert_int_equal(truncate(model_file_path(&f, 1), CHUNK - 1), 0); /* while it is open */
    assert_int_equal(manifest_of_files(&m, f.files, in_folder("kept"), NULL, NULL, NULL), ERR_CORRUPT);
    assert_null(m.hashes);
    assert_int_equal(unlink(model_file_path(&f, 1)), 0);
    assert_int_equal(manifest_counted(&f, &c, &m), ERR_NOT_FOUND);
    model_file_free(&f);
    assert_int_equal(file_set_create(&files, in_folder("lost"), empty, 1, NULL), 0);
    assert_int_equal(manifest_of_files(&m, files, in_folder("kept"), NULL, NULL, NULL), ERR_LIMIT);
    file_set_close(&files);
    if (file_set_create(&files, in_folder("lost"), large, 1, NULL) != 0) /* the file system has no such files */
        return;
    assert_int_equal(manifest_of_files(&m, files, in_folder("kept"), NULL, NULL, NULL), ERR_LIMIT);
    file_set_close(&files);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_begin_anew_at_every_file),
        cmocka_unit_test(test_hashes_are_blake2b_of_chunks_and_the_id_of_all),
        cmocka_unit_test(test_the_id_covers_names_sizes_and_heads),
        cmocka_unit_test(test_what_is_not_the_chunk_is_corrupt),
        cmocka_unit_test(test_lies_are_refused),
        cmocka_unit_test(test_names_that_lead_elsewhere_are_refused),
        cmocka_unit_test(test_files_are_read_through_once),
        cmocka_unit_test(test_a_manifest_that_came_is_found_by_its_id),
        cmocka_unit_test(test_hashing_can_be_stopped),
        cmocka_unit_test(test_what_cannot_be_hashed_is_refused),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
