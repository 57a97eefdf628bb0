/* buffer: a growing byte string with a mandatory maximum, and the little-endian
 * writer of our wire formats.
 *
 * An append past the maximum fails, frees nothing, and marks the buffer failed:
 * later appends do nothing, and buffer_failed() is checked once at the end (the
 * mirror image of view.h).  The bytes are always followed by a NUL that is not
 * counted.  The caller embeds the struct; one thread owns it.                */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct buffer {
    char *data; /* NUL-terminated once anything was appended; else NULL */
    size_t len;
    size_t cap;
    size_t max; /* len never passes it */
    bool failed;
};

void buffer_init(struct buffer *b, size_t bytes_max);
void buffer_close(struct buffer *b);
void buffer_clear(struct buffer *b); /* length 0, not failed, memory kept */
bool buffer_failed(const struct buffer *b);
const char *buffer_text(const struct buffer *b); /* never NULL */
/* Take the bytes (caller frees with mem_free), leaving the buffer empty. */
char *buffer_take(struct buffer *b, size_t *len);

void buffer_add(struct buffer *b, const void *data, size_t n);
void buffer_add_text(struct buffer *b, const char *s);
void buffer_printf(struct buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);
/* Append n zero bytes and return where they are, NULL when failed. Valid until the next append. */
void *buffer_grow(struct buffer *b, size_t n);
/* Drop the first n bytes. */
void buffer_drop(struct buffer *b, size_t n);

void buffer_u8(struct buffer *b, uint8_t v);
void buffer_u16(struct buffer *b, uint16_t v);
void buffer_u32(struct buffer *b, uint32_t v);
void buffer_u64(struct buffer *b, uint64_t v);
void buffer_f32(struct buffer *b, float v);

#endif
