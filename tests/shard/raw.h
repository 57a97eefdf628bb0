/* raw: GGUF files written byte by byte, right or wrong, independently of the writer that they test. */
#ifndef TESTS_SHARD_RAW_H
#define TESTS_SHARD_RAW_H

#include <stdint.h>

#include "base/buffer.h"
#include "shard/format/gguf.h"

enum { RAW_DATA_MAX = 64 << 20 };

struct raw {
    uint32_t magic, version;
    uint64_t n_tensors, n_values; /* counted; a test may lie afterwards */
    uint64_t alignment;
    struct buffer values, infos, data;
};

void raw_open(struct raw *r); /* version 3, alignment 32 */
void raw_close(struct raw *r);

/* A value's key and type; its bytes are then added to r->values. */
void raw_key(struct raw *r, const char *key, uint32_t type);
void raw_array(struct raw *r, const char *key, uint32_t element, uint64_t count);
void raw_text(struct buffer *b, const char *text);
void raw_u32(struct raw *r, const char *key, uint32_t v);
void raw_f32(struct raw *r, const char *key, float v);
void raw_bool(struct raw *r, const char *key, bool v);
void raw_string(struct raw *r, const char *key, const char *v);
/* A tensor of zeros, or of `bytes`, behind the others. */
void raw_tensor(struct raw *r, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, const void *bytes,
                size_t n);
/* One whose record says anything and that has no bytes. */
void raw_info(struct raw *r, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset);

/* The file; *header is where its data begin. */
void raw_bytes(const struct raw *r, struct buffer *out, size_t *header);
void raw_write(const struct raw *r, const char *name);

/* Everything of a file but the key and the tensor of these names (NULL: nothing left out). */
void raw_copy(struct raw *r, const struct gguf *g, const char *but_key, const char *but_tensor);

#endif
