/* splits: see the header. Layers are told from names: the demo models have six. */
#include "tests/shard/splits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = 6 };

const char *splits_path(const char *prefix, uint32_t i, uint32_t n)
{
    static char paths[4][512];
    static unsigned next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof(paths[0]), "%.400s-%05u-of-%05u.gguf", prefix, i + 1, n);
    return p;
}

static uint32_t by_turn(const struct gguf_tensor *t, size_t i, size_t n_tensors, uint32_t n)
{
    (void)t;
    return (uint32_t)(i * n / n_tensors);
}

uint32_t splits_by_layer(const struct gguf_tensor *t, size_t i, size_t n_tensors, uint32_t n)
{
    (void)i;
    (void)n_tensors;
    if (strncmp(t->name, "output", 6) == 0)
        return n - 1;
    return strncmp(t->name, "blk.", 4) == 0 ? (uint32_t)strtoul(t->name + 4, NULL, 10) * n / LAYERS : 0;
}

uint32_t splits_behind_empty(const struct gguf_tensor *t, size_t i, size_t n_tensors, uint32_t n)
{
    return 1 + splits_by_layer(t, i, n_tensors, n - 1);
}

static void write_keys(struct gguf_writer *w, const struct gguf *g, uint32_t file, const struct splits_options *o)
{
    for (size_t i = 0; file == 0 && i < gguf_key_count(g); i++)
        gguf_writer_copy_key(w, g, i);
    if (!o->no_number)
        gguf_writer_u32(w, "split.no", file + (uint32_t)o->number[file]);
    gguf_writer_u32(w, "split.count", o->n + (uint32_t)o->count[file]);
    if (!o->no_tensors)
        gguf_writer_u32(w, "split.tensors.count", (uint32_t)gguf_tensor_count(g) + (uint32_t)o->tensors[file]);
}

static void write_file(const struct gguf *g, const char *path, uint32_t file, const struct splits_options *o)
{
    struct gguf_writer *w;
    struct error e;
    uint32_t (*file_of)(const struct gguf_tensor *, size_t, size_t, uint32_t) = o->file_of ? o->file_of : by_turn;
    size_t n = gguf_tensor_count(g);
    assert_int_equal(gguf_writer_create(&w, path, &e), 0);
    write_keys(w, g, file, o);
    for (size_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (file_of(t, i, n, o->n) == file)
            gguf_writer_tensor(w, t->name, t->type, t->n_dims, t->ne);
    }
    assert_int_equal(gguf_writer_header(w, &e), 0);
    for (size_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (file_of(t, i, n, o->n) == file)
            assert_int_equal(gguf_writer_data(w, gguf_tensor_bytes(g, t), t->bytes, &e), 0);
    }
    assert_int_equal(gguf_writer_finish(&w, &e), 0);
}

void splits_write(const char *from, const char *prefix, const struct splits_options *o)
{
    struct gguf *g;
    struct error e;
    assert_true(o->n <= SPLITS_MAX);
    assert_int_equal(gguf_open(&g, from, &e), 0);
    for (uint32_t i = 0; i < o->n; i++)
        write_file(g, splits_path(prefix, i, o->n), i, o);
    gguf_close(&g);
}
