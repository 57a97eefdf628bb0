/* test_manifest: known hashes, every lie refused, and a file read through once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <utime.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/path.h"
#include "tests/net/model_file.h"

enum { CHUNK = MANIFEST_CHUNK_BYTES };

static void test_hashes_are_blake2b_of_chunks_and_the_id_of_all(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 77};
    for (size_t s = 0; s < COUNTOF(sizes); s++) {
        struct model_file f;
        uint8_t hash[32], *bytes;
        size_t n;
        model_file_make(&f, "hashes", sizes[s], s);
        assert_int_equal(f.manifest.file_bytes, sizes[s]);
        assert_int_equal(f.manifest.n_chunks, (sizes[s] + CHUNK - 1) / CHUNK);
        for (uint64_t i = 0; i < f.manifest.n_chunks; i++) {
            const uint8_t *chunk = model_file_chunk(&f, i, &n);
            crypto_generichash(hash, sizeof(hash), chunk, n, NULL, 0);
            assert_memory_equal(hash, f.manifest.hashes + 32 * i, 32);
            assert_int_equal(manifest_check(&f.manifest, i, chunk, n, NULL), 0);
        }
        assert_int_equal(manifest_encode(&f.manifest, &bytes, &n, NULL), 0);
        crypto_generichash(hash, sizeof(hash), bytes, n, NULL, 0);
        assert_memory_equal(hash, f.manifest.id, 32);
        struct manifest again;
        assert_int_equal(manifest_decode(&again, bytes, n, f.manifest.id, NULL), 0);
        assert_int_equal(again.file_bytes, f.manifest.file_bytes);
        assert_int_equal(again.header_bytes, f.manifest.header_bytes);
        assert_memory_equal(again.hashes, f.manifest.hashes, 32 * again.n_chunks);
        manifest_free(&again);
        mem_free(bytes);
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
    static const struct {
        size_t at;
        uint64_t value;
    } lies[] = {
        {0, 0},                                                        /* magic */
        {8, 0}, {8, CHUNK}, {8, 4 * CHUNK}, {8, UINT64_MAX}, {8, 1ull << 63}, /* file bytes */
        {16, 2 * CHUNK + 11}, {16, UINT64_MAX},                        /* header bytes */
        {24, 0}, {24, CHUNK / 2}, {24, UINT64_MAX},                    /* chunk bytes */
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

struct counter {
    int calls, stop_at;
};

static int count_progress(void *arg, uint64_t done, uint64_t total)
{
    struct counter *c = arg;
    assert_true(done <= total);
    return ++c->calls == c->stop_at;
}

static int manifest_counted(const char *path, struct counter *c, struct manifest *m)
{
    return manifest_of_file(m, path, 10, in_folder("kept"), count_progress, c, NULL);
}

static void test_a_file_is_read_through_once(void **state)
{
    (void)state;
    struct model_file f;
    struct manifest m;
    struct counter c = {0};
    model_file_make(&f, "once", 3 * CHUNK, 3);
    assert_int_equal(manifest_counted(f.path, &c, &m), 0);
    assert_int_equal(c.calls, 3);
    manifest_free(&m);
    assert_int_equal(manifest_counted(f.path, &c, &m), 0);
    assert_int_equal(c.calls, 3);
    assert_memory_equal(m.hashes, f.manifest.hashes, 96);
    manifest_free(&m);
    f.bytes[5] ^= 1; /* the same length, another content */
    assert_int_equal(path_write_atomic(f.path, f.bytes, f.n, 0600, NULL), 0);
    assert_int_equal(manifest_counted(f.path, &c, &m), 0);
    assert_int_equal(c.calls, 6);
    assert_memory_not_equal(m.hashes, f.manifest.hashes, 32);
    manifest_free(&m);
    model_file_free(&f);
}

static void test_hashing_can_be_stopped(void **state)
{
    (void)state;
    struct model_file f;
    struct manifest m;
    struct counter c = {.stop_at = 2};
    model_file_make(&f, "stopped", 4 * CHUNK, 4);
    assert_int_equal(manifest_counted(f.path, &c, &m), ERR_CANCELLED);
    assert_null(m.hashes);
    assert_int_equal(c.calls, 2);
    c = (struct counter){0};
    assert_int_equal(manifest_counted(f.path, &c, &m), 0); /* nothing half was kept */
    assert_int_equal(c.calls, 4);
    manifest_free(&m);
    model_file_free(&f);
}

static void test_what_is_no_model_file_is_refused(void **state)
{
    (void)state;
    struct manifest m;
    const char *cache = in_folder("cache");
    assert_int_equal(manifest_of_file(&m, in_folder("nothing"), 1, cache, NULL, NULL, NULL), ERR_IO);
    assert_int_equal(manifest_of_file(&m, folder, 1, cache, NULL, NULL, NULL), ERR_IO);
    assert_int_equal(manifest_of_file(&m, "/dev/zero", 1, cache, NULL, NULL, NULL), ERR_IO);
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    assert_int_equal(manifest_of_file(&m, in_folder("fifo"), 1, cache, NULL, NULL, NULL), ERR_IO);
    assert_int_equal(path_write_atomic(in_folder("empty"), "", 0, 0600, NULL), 0);
    assert_int_equal(manifest_of_file(&m, in_folder("empty"), 0, cache, NULL, NULL, NULL), ERR_IO);
    assert_int_equal(path_write_atomic(in_folder("short"), "12345", 5, 0600, NULL), 0);
    assert_int_equal(manifest_of_file(&m, in_folder("short"), 6, cache, NULL, NULL, NULL), ERR_LIMIT);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hashes_are_blake2b_of_chunks_and_the_id_of_all),
        cmocka_unit_test(test_what_is_not_the_chunk_is_corrupt),
        cmocka_unit_test(test_lies_are_refused),
        cmocka_unit_test(test_a_file_is_read_through_once),
        cmocka_unit_test(test_hashing_can_be_stopped),
        cmocka_unit_test(test_what_is_no_model_file_is_refused),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
