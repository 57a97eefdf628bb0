/* model_file: a file of pseudo-random bytes and its manifest, for the tests of manifests and blobs. */
#ifndef TESTS_NET_MODEL_FILE_H
#define TESTS_NET_MODEL_FILE_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "net/manifest.h"
#include "tests/net/folder.h"

struct model_file {
    char path[64];
    uint8_t *bytes;
    size_t n;
    struct manifest manifest;
};

static inline void model_file_make(struct model_file *f, const char *name, size_t n, uint64_t seed)
{
    struct random_state r;
    struct error e;
    snprintf(f->path, sizeof(f->path), "%s/%s", folder, name);
    f->bytes = mem_alloc(n + 8);
    f->n = n;
    random_seed(&r, seed);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = random_u64(&r);
        memcpy(f->bytes + i, &v, sizeof(v));
    }
    int fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, f->bytes, n), n);
    close(fd);
    assert_int_equal(manifest_of_file(&f->manifest, f->path, n < 1000 ? 1 : 1000, in_folder("cache"), NULL, NULL, &e),
                     0);
}

static inline void model_file_free(struct model_file *f)
{
    mem_free(f->bytes);
    manifest_free(&f->manifest);
}

static inline const uint8_t *model_file_chunk(const struct model_file *f, uint64_t i, size_t *n)
{
    size_t offset = (size_t)i * MANIFEST_CHUNK_BYTES;
    *n = f->n - offset < MANIFEST_CHUNK_BYTES ? f->n - offset : MANIFEST_CHUNK_BYTES;
    return f->bytes + offset;
}

#endif
