/* safetensors: reading one safetensors file, and the header of one.
 *
 * safetensors_open() maps the file and parses its header (JSON, at most
 * SAFETENSORS_HEAD_MAX bytes); dtypes, shapes and offsets are checked: every
 * tensor lies within the file, none overlaps another, and sizes are those of
 * shape and dtype, and no byte belongs to none.  A file that is wrong is refused
 * with a sentence that says what and where.  Tensor bytes are not touched, and
 * may be of any alignment.  Immutable after open: any thread may read.  Names
 * and bytes live as long as the object.  The file must not shrink while it is
 * open.  Header and length suffice: the rest may be a hole (a node's cache).
 *
 * Format: the public description of safetensors (8 bytes of length, little
 * endian; the header; the tensors).                                          */
#ifndef SHARD_FORMAT_SAFETENSORS_H
#define SHARD_FORMAT_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum safetensors_limits {
    SAFETENSORS_HEAD_MAX = 100 << 20,
    SAFETENSORS_TENSORS_MAX = 1 << 20,
    SAFETENSORS_DIMS_MAX = 8,
    SAFETENSORS_NAME_MAX = 255,
    ST_SHAPE_BYTES = SAFETENSORS_DIMS_MAX * 24, /* of a shape in words, with its NUL */
};

enum st_dtype {
    ST_BOOL, ST_U8, ST_I8, ST_F8_E4M3, ST_F8_E5M2, ST_F8_E8M0, ST_I16, ST_U16, ST_F16, ST_BF16, ST_I32, ST_U32, ST_F32,
    ST_I64, ST_U64, ST_F64,
};

struct st_tensor {
    const char *name;
    enum st_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[SAFETENSORS_DIMS_MAX]; /* as written: slowest first */
    uint64_t offset;                      /* from the start of the file */
    uint64_t bytes;
};

struct safetensors;

MUST_USE int safetensors_open(struct safetensors **out, const char *path, struct error *e);
void safetensors_close(struct safetensors **s);

const char *safetensors_path(const struct safetensors *s);
uint64_t safetensors_file_bytes(const struct safetensors *s);
uint64_t safetensors_head_bytes(const struct safetensors *s); /* everything before the tensors' bytes */
size_t safetensors_count(const struct safetensors *s);
const struct st_tensor *safetensors_at(const struct safetensors *s, size_t i); /* in order of offset */
const struct st_tensor *safetensors_find(const struct safetensors *s, const char *name); /* NULL when absent */
const void *safetensors_bytes(const struct safetensors *s, const struct st_tensor *t);   /* in the mapping */
/* A string of "__metadata__"; NULL when there is none. */
const char *safetensors_meta(const struct safetensors *s, const char *key);
const char *st_dtype_name(enum st_dtype d); /* "BF16" */
/* "64 x 128", "one value"; returns text. */
char *st_shape_text(const struct st_tensor *t, char text[static ST_SHAPE_BYTES]);
size_t st_dtype_bytes(enum st_dtype d);

#endif
