/* buffer: doubling growth up to a mandatory maximum.  Invariant: len < cap (room for the NUL), len <= max. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

void buffer_init(struct buffer *b, size_t bytes_max)
{
    memset(b, 0, sizeof(*b));
    b->max = bytes_max;
}

void buffer_close(struct buffer *b)
{
    mem_free(b->data);
    buffer_init(b, b->max);
}

void buffer_clear(struct buffer *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = 0;
}

bool buffer_failed(const struct buffer *b)
{
    return b->failed;
}

const char *buffer_text(const struct buffer *b)
{
    return b->data ? b->data : "";
}

char *buffer_take(struct buffer *b, size_t *len)
{
    char *data = b->data ? b->data : mem_alloc(1);
    if (len)
        *len = b->len;
    buffer_init(b, b->max);
    return data;
}

void *buffer_grow(struct buffer *b, size_t n)
{
    if (b->failed || n > b->max - b->len) {
        b->failed = true;
        return NULL;
    }
    if (b->len + n + 1 > b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        if (cap < b->len + n + 1)
            cap = b->len + n + 1;
        b->data = mem_resize(b->data, cap, 1);
        b->cap = cap;
    }
    char *p = b->data + b->len;
    memset(p, 0, n + 1);
    b->len += n;
    return p;
}

void buffer_add(struct buffer *b, const void *data, size_t n)
{
    void *p = buffer_grow(b, n);
    if (p && n)
        memcpy(p, data, n);
}

void buffer_add_text(struct buffer *b, const char *s)
{
    buffer_add(b, s, strlen(s));
}

void buffer_printf(struct buffer *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *p = n >= 0 ? buffer_grow(b, (size_t)n) : NULL;
    if (p)
        vsnprintf(p, (size_t)n + 1, format, again);
    va_end(again);
}

void buffer_drop(struct buffer *b, size_t n)
{
    if (n > b->len)
        n = b->len;
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}

static void add_le(struct buffer *b, uint64_t v, size_t n)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)(v >> (8 * i));
    buffer_add(b, bytes, n);
}

void buffer_u8(struct buffer *b, uint8_t v)
{
    add_le(b, v, 1);
}

void buffer_u16(struct buffer *b, uint16_t v)
{
    add_le(b, v, 2);
}

void buffer_u32(struct buffer *b, uint32_t v)
{
    add_le(b, v, 4);
}

void buffer_u64(struct buffer *b, uint64_t v)
{
    add_le(b, v, 8);
}

void buffer_f32(struct buffer *b, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    buffer_u32(b, bits);
}
