/* manifest: the content address of a model: BLAKE2b-256 of its table of files, and of every chunk of them.
 *
 * The model's files are one run of bytes (base/file_set.h), cut into chunks of
 * 512 KiB that begin anew at every head and at every rest of a file, so that no
 * chunk is of two files.  id = BLAKE2b-256 over (chunk size, the files' names,
 * sizes and heads, all chunk hashes).  A coordinator makes the manifest of its
 * files once; a node fetches it, checks it against the id, and then checks every
 * chunk that it fetches, and those of a local copy that it would rather use.
 * Manifests are kept in the cache folder under the files' paths, sizes, inodes
 * and change times, so that files are read through once.                      */
#ifndef NET_MANIFEST_H
#define NET_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file_set.h"

enum {
    MANIFEST_ID_BYTES = 32,
    MANIFEST_CHUNK_BYTES = 512 << 10,
    MANIFEST_CHUNKS_MAX = 8 << 20,
    MANIFEST_TABLE_MAX = 24 + FILE_SET_MAX * (18 + FILE_SET_NAME_MAX), /* encoded bytes before the hashes */
};

struct manifest {
    struct file_set_entry *files;
    size_t n_files;
    uint64_t bytes, head_bytes; /* of the run */
    uint64_t n_chunks;
    uint8_t *hashes;        /* n_chunks * 32 */
    uint64_t *first_chunks; /* of each head, then of each rest of a file, then n_chunks: 2 * n_files + 1 */
    uint64_t *starts;       /* where those begin in the run, then `bytes` */
    uint8_t id[MANIFEST_ID_BYTES];
};

/* Read the files (or the cached manifest of them), none of which may be absent. progress may be NULL; non-zero
 * cancels. */
MUST_USE int manifest_of_files(struct manifest *out, const struct file_set *files, const char *cache_dir,
                               int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e);
void manifest_free(struct manifest *m);
/* Its own copy of all. */
void manifest_copy(struct manifest *out, const struct manifest *m);
/* As it travels on the blob link; caller frees. */
MUST_USE int manifest_encode(const struct manifest *m, uint8_t **bytes, size_t *len, struct error *e);
/* Refused when it does not hash to `id`, its sizes lie or its files' names could not be. */
MUST_USE int manifest_decode(struct manifest *out, const uint8_t *bytes, size_t len,
                             const uint8_t id[MANIFEST_ID_BYTES], struct error *e);
/* A manifest that came over the network is kept in the cache folder, and found again by its id. */
void manifest_keep(const struct manifest *m, const char *cache_dir);
MUST_USE int manifest_find(struct manifest *out, const char *cache_dir, const uint8_t id[MANIFEST_ID_BYTES]);

/* Where chunk `index` lies in the run; index < n_chunks. */
struct file_set_range manifest_chunk(const struct manifest *m, uint64_t index);
/* Bit i is set when a range touches chunk i; ranges past the end touch nothing. Caller frees. */
uint8_t *manifest_touched(const struct manifest *m, const struct file_set_range *ranges, size_t n);
/* ERR_CORRUPT when the bytes are not chunk `index`. */
MUST_USE int manifest_check(const struct manifest *m, uint64_t index, const void *bytes, size_t len, struct error *e);

#endif
