/* model_file: files of pseudo-random bytes and their manifest, for the tests of manifests and blobs. */
#ifndef TESTS_NET_MODEL_FILE_H
#define TESTS_NET_MODEL_FILE_H

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

enum { MODEL_FILES_MAX = 4 };

struct model_file {
    char name[32];
    struct file_set_entry entries[MODEL_FILES_MAX];
    size_t n_files;
    uint8_t *bytes; /* the run */
    size_t n;
    struct file_set *files;
    struct manifest manifest;
};

/* The path of file i, in a folder of the test's. */
static inline const char *model_file_path(const struct model_file *f, size_t i)
{
    static char paths[4][600];
    static unsigned next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof(paths[0]), "%s/%s/%.255s", folder, f->name, f->entries[i].name);
    return p;
}

static inline void model_file_fill(struct model_file *f, uint64_t seed)
{
    struct random_state r;
    f->bytes = mem_alloc(f->n + 8);
    random_seed(&r, seed);
    for (size_t i = 0; i < f->n; i += 8) {
        uint64_t v = random_u64(&r);
        memcpy(f->bytes + i, &v, sizeof(v));
    }
}

/* Files of these sizes and heads. */
static inline void models_make(struct model_file *f, const char *name, const struct file_set_entry *entries, size_t n,
                               uint64_t seed)
{
    struct error e = {0};
    memset(f, 0, sizeof(*f));
    snprintf(f->name, sizeof(f->name), "%s", name);
    f->n_files = n;
    for (size_t i = 0; i < n; i++) {
        f->entries[i] = entries[i];
        f->n += (size_t)entries[i].bytes;
    }
    model_file_fill(f, seed);
    (void)mkdir(in_folder(name), 0700);
    if (file_set_create(&f->files, in_folder(name), f->entries, n, &e) != 0 ||
        file_set_write(f->files, 0, f->bytes, f->n, &e) != 0 ||
        manifest_of_files(&f->manifest, f->files, in_folder("cache"), NULL, NULL, &e) != 0)
        fail_msg("%s", e.text);
}

/* One file of n bytes without a head. */
static inline void model_file_make(struct model_file *f, const char *name, size_t n, uint64_t seed)
{
    struct file_set_entry one = {.name = "model.gguf", .bytes = n};
    models_make(f, name, &one, 1, seed);
}

static inline void model_file_free(struct model_file *f)
{
    mem_free(f->bytes);
    file_set_close(&f->files);
    manifest_free(&f->manifest);
}

static inline const uint8_t *model_file_chunk(const struct model_file *f, uint64_t i, size_t *n)
{
    struct file_set_range r = manifest_chunk(&f->manifest, i);
    *n = (size_t)r.length;
    return f->bytes + r.offset;
}

#endif
