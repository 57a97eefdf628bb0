/* model_extra: a copy of a GGUF file with more keys and a tensor more.
 *
 * Keys are put before the file's, the tensor behind its last, and the bytes that
 * they take are a multiple of the alignment, so that all offsets stay the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/format/gguf.h"
#include "tests/coordinator/api_rig.h"

enum { HEAD = 24, ALIGNMENT = 32, WIDTH = 256, FILE_MAX = 64 << 20 };

static void put(struct buffer *b, const void *bytes, size_t n)
{
    buffer_add(b, bytes, n);
}

static void put_text(struct buffer *b, const char *text)
{
    uint64_t n = strlen(text);
    put(b, &n, sizeof(n));
    put(b, text, n);
}

static void put_key(struct buffer *b, const char *key, uint32_t type)
{
    put_text(b, key);
    put(b, &type, sizeof(type));
}

/* A text so long that the whole, and `more` bytes behind it, are a multiple of the alignment. */
static void put_padding(struct buffer *b, size_t more)
{
    char text[ALIGNMENT + 1] = "";
    put_key(b, "test.padding", GGUF_STRING);
    size_t over = (b->len + more + sizeof(uint64_t)) % ALIGNMENT;
    memset(text, 'x', over == 0 ? 0 : ALIGNMENT - over);
    put_text(b, text);
}

static void put_tensor(struct buffer *b, const struct rig_extra *x, uint64_t offset)
{
    const uint64_t ne[] = { WIDTH, x->rows };
    const uint32_t dims = 2, type = QTYPE_F32;
    put_text(b, x->tensor);
    put(b, &dims, sizeof(dims));
    put(b, ne, sizeof(ne));
    put(b, &type, sizeof(type));
    put(b, &offset, sizeof(offset));
}

static void add_count(char *head, size_t at, uint64_t n)
{
    uint64_t count;
    memcpy(&count, head + at, sizeof(count));
    count += n;
    memcpy(head + at, &count, sizeof(count));
}

/* Where the table of tensors ends. */
static char *table_end(const struct gguf *g, char *all, size_t len)
{
    const struct gguf_tensor *last = gguf_tensor_at(g, gguf_tensor_count(g) - 1);
    struct buffer name;
    buffer_init(&name, 4096);
    put_text(&name, last->name);
    char *at = memmem(all, len, name.data, name.len);
    at += name.len + sizeof(uint32_t) + last->n_dims * sizeof(uint64_t) + sizeof(uint32_t) + sizeof(uint64_t);
    buffer_close(&name);
    return at;
}

char *model_with(const char *from, const struct rig_extra *x)
{
    char *all, path[] = "/tmp/shoal-extra-XXXXXX";
    size_t len, n = 0;
    struct gguf *g;
    if (path_read(from, FILE_MAX, &all, &len, NULL) != 0 || gguf_open(&g, from, NULL) != 0)
        abort();
    struct buffer keys, info;
    buffer_init(&keys, 4096);
    buffer_init(&info, 4096);
    char *end = table_end(g, all, len);
    if (x->tensor != NULL) /* behind all others */
        put_tensor(&info, x, (len - gguf_header_bytes(g) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    for (; n < COUNTOF(x->values) && x->keys[n] != NULL; n++) {
        put_key(&keys, x->keys[n], GGUF_U32);
        put(&keys, &x->values[n], sizeof(x->values[n]));
    }
    if (x->text_key != NULL) {
        put_key(&keys, x->text_key, GGUF_STRING);
        put_text(&keys, x->text);
        n++;
    }
    put_padding(&keys, info.len);
    add_count(all, 8, info.len > 0);
    add_count(all, 16, n + 1);
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "wb");
    if (f == NULL)
        abort();
    fwrite(all, 1, HEAD, f);
    fwrite(keys.data, 1, keys.len, f);
    fwrite(all + HEAD, 1, (size_t)(end - all) - HEAD, f);
    fwrite(buffer_text(&info), 1, info.len, f);
    fwrite(end, 1, len - (size_t)(end - all), f);
    for (size_t i = len - gguf_header_bytes(g); info.len > 0 && i % ALIGNMENT != 0; i++)
        fputc(0, f);
    for (uint32_t i = 0; info.len > 0 && i < x->rows * WIDTH; i++)
        fwrite(&(float){ (float)(i % 7) / 8.0f - 0.25f }, sizeof(float), 1, f);
    fclose(f);
    gguf_close(&g);
    buffer_close(&keys);
    buffer_close(&info);
    mem_free(all);
    return mem_strdup(path);
}
