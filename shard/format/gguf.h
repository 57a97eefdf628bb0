/* gguf: reading (v2, v3) and writing (v3) of GGUF files.
 *
 * gguf_open() maps the file and parses its header; every count, length, type,
 * dimension and offset is checked before use, and a file that is wrong is
 * refused with a sentence that says what and where.  Keys and tensor names are
 * printable ASCII; string values may be any bytes.  Tensor bytes are not
 * touched.  Names, strings and bytes borrow from the mapping and live as long
 * as the gguf.  Immutable after open: any thread may read.  The file must not
 * shrink while it is open: the system ends a process that reads past its end
 * (the shoal command says so and exits with an input error).
 *
 * A model may be split over several files, NAME-00001-of-00005.gguf and so on;
 * the path of any of them opens all.  The metadata is that of the first, which
 * must be there; of the others those may be absent whose tensors nobody asks
 * for: they are then not among the tensors.
 *
 * A file may be sparse: a node's cache holds the headers and only the bytes of
 * its own layers at their original offsets (see net/blob.h); the length must
 * still be the whole file's.
 *
 * Format: public GGUF specification.                                         */
#ifndef SHARD_FORMAT_GGUF_H
#define SHARD_FORMAT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file_set.h"
#include "kernels/qtype.h"

enum gguf_type {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32,
    GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64,
};

enum gguf_limits {
    GGUF_DIMS_MAX = 4,
    GGUF_NAME_MAX = 64,          /* tensor name bytes */
    GGUF_KEY_MAX = 256,          /* key bytes */
    GGUF_TENSORS_MAX = 1 << 20,
    GGUF_KEYS_MAX = 1 << 16,
    GGUF_STRINGS_MAX = 1 << 23,  /* elements of all arrays of strings */
    GGUF_ALIGNMENT_MAX = 1 << 20,
    GGUF_SPLITS_MAX = FILE_SET_MAX,
};

struct gguf;

struct gguf_string {
    const char *text; /* not NUL-terminated */
    size_t len;
};

struct gguf_tensor {
    char name[GGUF_NAME_MAX + 1];
    const struct qtype *type;
    uint32_t n_dims;
    uint64_t ne[GGUF_DIMS_MAX]; /* fastest first; missing dimensions are 1 */
    uint32_t file;              /* of the model's */
    uint64_t offset;            /* from the start of that file */
    uint64_t bytes;
};

MUST_USE int gguf_open(struct gguf **out, const char *path, struct error *e);
/* A header alone, of gguf_writer_take(), whose tensors lie elsewhere, in `files`: gguf_tensor_bytes() is not for it.
 * Takes the header and the files; path is for sentences. */
MUST_USE int gguf_open_memory(struct gguf **out, const char *path, char *header, size_t n, uint64_t file_bytes,
                              struct file_set **files, struct error *e);
bool gguf_is_memory(const struct gguf *g); /* it is such a header */
void gguf_close(struct gguf **gguf_p);

const char *gguf_path(const struct gguf *g); /* of the first file */
/* Its files, called model.gguf or model-00001-of-00005.gguf whatever their names here; the size of one that is absent
 * is 0. Heads are everything before the tensor data. */
const struct file_set *gguf_files(const struct gguf *g);
uint64_t gguf_file_bytes(const struct gguf *g);   /* of all files that are here */
uint64_t gguf_header_bytes(const struct gguf *g);
/* Bytes before the tensor data of the one file at path, whatever it is a part of, without looking at the others. */
MUST_USE int gguf_head_of(const char *path, uint64_t *bytes, struct error *e);
/* True for a path that ends as that of a split does: the length of what is before "-00001-of-00005.gguf", the number
 * from 1, and how many there are. */
bool gguf_split_name(const char *path, size_t *prefix, uint32_t *number, uint32_t *count);

size_t gguf_tensor_count(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name); /* NULL when absent */
const void *gguf_tensor_bytes(const struct gguf *g, const struct gguf_tensor *t);   /* in the mapping */

/* Metadata.  get_* return false when the key is absent or not convertible without loss (any integer
 * width is accepted for an integer). */
size_t gguf_key_count(const struct gguf *g);
struct gguf_string gguf_key_at(const struct gguf *g, size_t i);
bool gguf_has(const struct gguf *g, const char *key);
bool gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out);
bool gguf_get_f64(const struct gguf *g, const char *key, double *out);
bool gguf_get_bool(const struct gguf *g, const char *key, bool *out);
bool gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *out);
bool gguf_string_is(struct gguf_string s, const char *text);
/* Arrays: count and element type; elements by index (numbers converted, false when out of range).
 * String elements are indexed at open, so access is O(1). */
bool gguf_array(const struct gguf *g, const char *key, enum gguf_type *type, uint64_t *count);
bool gguf_array_u64(const struct gguf *g, const char *key, uint64_t i, uint64_t *out);
bool gguf_array_i64(const struct gguf *g, const char *key, uint64_t i, int64_t *out);
bool gguf_array_f64(const struct gguf *g, const char *key, uint64_t i, double *out);
bool gguf_array_string(const struct gguf *g, const char *key, uint64_t i, struct gguf_string *out);

/* ---- writing: declare everything, then stream the tensors in order ---- */

struct gguf_writer;

MUST_USE int gguf_writer_create(struct gguf_writer **out, const char *path, struct error *e);
/* One that writes no file: its header is for gguf_writer_take(). Never NULL. */
struct gguf_writer *gguf_writer_memory(const char *path);
void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_writer_f32(struct gguf_writer *w, const char *key, float v);
void gguf_writer_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_writer_string(struct gguf_writer *w, const char *key, const char *v);
void gguf_writer_strings(struct gguf_writer *w, const char *key, const struct gguf_string *v, size_t n);
void gguf_writer_i32s(struct gguf_writer *w, const char *key, const int32_t *v, size_t n);
void gguf_writer_f32s(struct gguf_writer *w, const char *key, const float *v, size_t n);
/* Copy every metadata key of g whose name starts with prefix (a borrowed tokenizer: "tokenizer."). */
void gguf_writer_copy_keys(struct gguf_writer *w, const struct gguf *g, const char *prefix);
void gguf_writer_copy_key(struct gguf_writer *w, const struct gguf *g, size_t i);
void gguf_writer_tensor(struct gguf_writer *w, const char *name, const struct qtype *type, uint32_t n_dims,
                        const uint64_t *ne);
/* After the last declaration: header to disk (ERR_LIMIT: more was declared than a reader takes); then each tensor's
 * bytes in declared order, in any pieces of one tensor. */
MUST_USE int gguf_writer_header(struct gguf_writer *w, struct error *e);
MUST_USE int gguf_writer_data(struct gguf_writer *w, const void *bytes, size_t n, struct error *e);
/* Checks that every declared byte came, fsyncs, renames the temporary file into place. */
MUST_USE int gguf_writer_finish(struct gguf_writer **w, struct error *e);
/* The header of gguf_writer_memory() and what the whole file would have; the caller frees with mem_free(). */
MUST_USE int gguf_writer_take(struct gguf_writer **w, char **header, size_t *n, uint64_t *file_bytes, struct error *e);
void gguf_writer_abort(struct gguf_writer **w); /* removes the temporary file; NULL is fine */

/* For files that take hours: the temporary file is called `part` and stays where writing ends early, so that another
 * writer of the same header can go on with it. ERR_CONFLICT: another process has it. */
MUST_USE int gguf_writer_create_part(struct gguf_writer **out, const char *path, const char *part, struct error *e);
/* After the header: the bytes of the whole file; how far the data is; on from there. go_on is false, and changes
 * nothing, where `part` does not hold the same header and that much; from (0, 0) it can always. */
uint64_t gguf_writer_bytes(const struct gguf_writer *w);
void gguf_writer_place(const struct gguf_writer *w, uint64_t *tensor, uint64_t *in_tensor);
MUST_USE bool gguf_writer_go_on(struct gguf_writer *w, uint64_t tensor, uint64_t in_tensor);
MUST_USE int gguf_writer_sync(struct gguf_writer *w, struct error *e); /* what came so far outlives a loss of power */
void gguf_writer_discard(struct gguf_writer **w); /* as abort, and `part` is removed; NULL is fine */

#endif
