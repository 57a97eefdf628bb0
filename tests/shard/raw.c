/* raw: records in three buffers, joined at the end. */
#include "tests/shard/raw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "shard/format/gguf_file.h"
#include "tests/shard/folder.h"

void raw_open(struct raw *r)
{
    *r = (struct raw){.magic = 0x46554747, .version = 3, .alignment = 32};
    buffer_init(&r->values, RAW_DATA_MAX);
    buffer_init(&r->infos, RAW_DATA_MAX);
    buffer_init(&r->data, RAW_DATA_MAX);
}

void raw_close(struct raw *r)
{
    buffer_close(&r->values);
    buffer_close(&r->infos);
    buffer_close(&r->data);
}

void raw_text(struct buffer *b, const char *text)
{
    buffer_u64(b, strlen(text));
    buffer_add_text(b, text);
}

void raw_key(struct raw *r, const char *key, uint32_t type)
{
    raw_text(&r->values, key);
    buffer_u32(&r->values, type);
    r->n_values++;
}

void raw_array(struct raw *r, const char *key, uint32_t element, uint64_t count)
{
    raw_key(r, key, GGUF_ARRAY);
    buffer_u32(&r->values, element);
    buffer_u64(&r->values, count);
}

void raw_u32(struct raw *r, const char *key, uint32_t v)
{
    raw_key(r, key, GGUF_U32);
    buffer_u32(&r->values, v);
}

void raw_f32(struct raw *r, const char *key, float v)
{
    raw_key(r, key, GGUF_F32);
    buffer_f32(&r->values, v);
}

void raw_bool(struct raw *r, const char *key, bool v)
{
    raw_key(r, key, GGUF_BOOL);
    buffer_u8(&r->values, v);
}

void raw_string(struct raw *r, const char *key, const char *v)
{
    raw_key(r, key, GGUF_STRING);
    raw_text(&r->values, v);
}

void raw_info(struct raw *r, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    raw_text(&r->infos, name);
    buffer_u32(&r->infos, n_dims);
    for (uint32_t d = 0; d < n_dims; d++)
        buffer_u64(&r->infos, ne[d]);
    buffer_u32(&r->infos, type);
    buffer_u64(&r->infos, offset);
    r->n_tensors++;
}

void raw_tensor(struct raw *r, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, const void *bytes,
                size_t n)
{
    raw_info(r, name, n_dims, ne, type, r->data.len);
    if (bytes)
        buffer_add(&r->data, bytes, n);
    else
        assert_non_null(buffer_grow(&r->data, n));
    buffer_grow(&r->data, (r->alignment - r->data.len % r->alignment) % r->alignment);
}

void raw_bytes(const struct raw *r, struct buffer *out, size_t *header)
{
    buffer_init(out, RAW_DATA_MAX);
    buffer_u32(out, r->magic);
    buffer_u32(out, r->version);
    buffer_u64(out, r->n_tensors);
    buffer_u64(out, r->n_values);
    buffer_add(out, buffer_text(&r->values), r->values.len);
    buffer_add(out, buffer_text(&r->infos), r->infos.len);
    buffer_grow(out, (r->alignment - out->len % r->alignment) % r->alignment);
    if (header)
        *header = out->len;
    buffer_add(out, buffer_text(&r->data), r->data.len);
    assert_false(buffer_failed(out) || buffer_failed(&r->data));
}

void raw_write(const struct raw *r, const char *name)
{
    struct buffer b;
    raw_bytes(r, &b, NULL);
    folder_write(name, b.data, b.len);
    buffer_close(&b);
}

static void copy_value(struct raw *r, const struct gguf_value *v)
{
    struct buffer *b = &r->values;
    if (v->type == GGUF_STRING) {
        buffer_u64(b, v->string_len);
        buffer_add(b, v->data, v->string_len);
        return;
    }
    if (v->type == GGUF_ARRAY) {
        assert_int_not_equal(v->element, GGUF_STRING);
        buffer_u32(b, v->element);
        buffer_u64(b, v->count);
    }
    buffer_add(b, v->data, v->count * gguf_type_bytes(v->type == GGUF_ARRAY ? v->element : v->type));
}

void raw_copy(struct raw *r, const struct gguf *g, const char *but_key, const char *but_tensor)
{
    for (size_t i = 0; i < g->n_values; i++) {
        const struct gguf_value *v = &g->values[i];
        if (but_key && v->key.len == strlen(but_key) && memcmp(v->key.text, but_key, v->key.len) == 0)
            continue;
        buffer_u64(&r->values, v->key.len);
        buffer_add(&r->values, v->key.text, v->key.len);
        buffer_u32(&r->values, v->type);
        r->n_values++;
        copy_value(r, v);
    }
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (!but_tensor || strcmp(t->name, but_tensor) != 0)
            raw_tensor(r, t->name, t->type->id, t->n_dims, t->ne, gguf_tensor_bytes(g, t), t->bytes);
    }
}
