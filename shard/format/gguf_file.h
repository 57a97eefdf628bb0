/* gguf_file: what the parts of the GGUF reader share. Not for others. */
#ifndef SHARD_FORMAT_GGUF_FILE_H
#define SHARD_FORMAT_GGUF_FILE_H

#include "shard/format/gguf.h"

struct gguf_value {
    struct gguf_string key;
    enum gguf_type type, element; /* element: of an array */
    uint64_t count;               /* of an array; else 1 */
    const uint8_t *data;          /* in the mapping; a string's bytes, an array's first element */
    uint64_t string_len;
    uint64_t *strings;            /* array of strings: offset of each from `data` */
};

/* One file, and of the first the model: `parts` are its files in order, itself the first; NULL: absent.  Tensors are
 * then all of theirs, and the others have none of their own. */
struct gguf {
    struct gguf **parts;
    size_t n_parts;
    struct file_set *files;
    char *path;
    uint8_t *map;
    uint64_t map_bytes, file_bytes, header_bytes; /* map_bytes: of a header alone, less than the file's */
    bool owned; /* map is of mem_alloc() */
    struct gguf_value *values; /* in the file's order */
    size_t n_values;
    uint64_t n_strings;        /* elements of arrays of strings so far */
    struct gguf_value **by_key; /* sorted */
    struct gguf_tensor *tensors;
    size_t n_tensors;
    struct gguf_tensor **by_name; /* sorted */
};

/* The one file at path, whatever it is a part of. */
MUST_USE int gguf_open_one(struct gguf **out, const char *path, struct error *e);
/* Tensors by their names; two of one name are refused. */
MUST_USE int gguf_index_tensors(struct gguf *g, struct error *e);
/* Bytes of a value of fixed size, 0 for strings, arrays and what is no type. */
size_t gguf_type_bytes(uint32_t type);

#endif
