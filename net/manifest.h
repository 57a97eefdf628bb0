/* manifest: the content address of a model file: BLAKE2b-256 of every 512 KiB chunk, and of the list.
 *
 * id = BLAKE2b-256 over (file size, header size, chunk size, all chunk hashes).
 * A coordinator makes the manifest of its file once; a node fetches it, checks
 * it against the id, and then checks every chunk that it fetches, and any local
 * copy it would rather use.  Manifests are kept in the cache folder under the
 * file's path, size, inode and change time, so that a file is read through
 * once.                                                                      */
#ifndef NET_MANIFEST_H
#define NET_MANIFEST_H

#include <stdint.h>

#include "base/error.h"

enum { MANIFEST_ID_BYTES = 32, MANIFEST_CHUNK_BYTES = 512 << 10, MANIFEST_CHUNKS_MAX = 8 << 20 };

struct manifest {
    uint64_t file_bytes, header_bytes;
    uint64_t n_chunks;
    uint8_t *hashes; /* n_chunks * 32 */
    uint8_t id[MANIFEST_ID_BYTES];
};

/* Read the file (or the cached manifest of it). progress may be NULL; non-zero cancels. */
MUST_USE int manifest_of_file(struct manifest *out, const char *path, uint64_t header_bytes, const char *cache_dir,
                              int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e);
void manifest_free(struct manifest *m);
/* As it travels on the blob link; caller frees. */
MUST_USE int manifest_encode(const struct manifest *m, uint8_t **bytes, size_t *len, struct error *e);
/* Refused when it does not hash to `id` or its sizes lie. */
MUST_USE int manifest_decode(struct manifest *out, const uint8_t *bytes, size_t len,
                             const uint8_t id[MANIFEST_ID_BYTES], struct error *e);
/* ERR_CORRUPT when the bytes are not chunk `index`. */
MUST_USE int manifest_check(const struct manifest *m, uint64_t index, const void *bytes, size_t len, struct error *e);

#endif
