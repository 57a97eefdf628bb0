/* blob: a node's copy of the parts of a model file that it needs.
 *
 * In the cache folder a model is a sparse file of the original's length, named
 * by its id, beside a bitmap of the chunks that are present and checked.  The
 * GGUF reader opens it as it opens the original.  blob_missing() lists what a
 * set of byte ranges still needs; blob_put() checks a chunk against the
 * manifest, writes it, then marks it: a crash at any moment leaves a copy that
 * can be resumed.  A copy that somebody else wrote to is read and checked again,
 * by blob_fetch(), before it counts.  One process at a time holds a copy open for writing (file
 * lock); several may read.
 *
 * Transfer is pull-based: the receiver asks for chunks and has at most
 * BLOB_WINDOW requests outstanding, which is its credit.  blob_serve_*() is the
 * answering side over a coordinator's file.                                  */
#ifndef NET_BLOB_H
#define NET_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/link.h"
#include "net/manifest.h"

enum { BLOB_WINDOW = 8, BLOB_REQUEST_TIMEOUT_MS = 15000, BLOB_RETRIES = 5 };

struct blob;

struct blob_range {
    uint64_t offset, length;
};

/* Takes the manifest's content (copies). ERR_BUSY when another process writes this copy. */
MUST_USE int blob_open(struct blob **out, const char *cache_dir, const struct manifest *m, struct error *e);
void blob_close(struct blob **b);
const char *blob_path(const struct blob *b);
/* Bytes of the chunks that the ranges touch, and of those that are not there yet. */
void blob_count(const struct blob *b, const struct blob_range *ranges, size_t n, uint64_t *total, uint64_t *missing);
/* Index of the first chunk at or after `from` that the ranges touch and that is missing, or UINT64_MAX. */
uint64_t blob_next_missing(const struct blob *b, const struct blob_range *ranges, size_t n, uint64_t from);
MUST_USE int blob_put(struct blob *b, uint64_t chunk, const void *bytes, size_t len, struct error *e);
bool blob_has(const struct blob *b, uint64_t chunk);

/* Fetch what the ranges miss over a dialled blob link: windowed, each chunk checked, asked for again when it is
 * wrong (ERR_CORRUPT after BLOB_RETRIES times) or the connection broke, resumable.  ERR_TIMEOUT when no chunk has
 * come for BLOB_RETRIES times the time-out.  progress non-zero cancels; it is called several times a second. */
MUST_USE int blob_fetch(struct blob *b, struct link *link, const struct blob_range *ranges, size_t n,
                        int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e);
/* The manifest of `id` over the link; waits for as long as the coordinator says that it is being made. */
MUST_USE int blob_fetch_manifest(struct manifest *out, struct link *link, const uint8_t id[MANIFEST_ID_BYTES],
                                 int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                                 struct error *e);

/* Answer one request message of a peer from an open file and its manifest. */
struct blob_source {
    int fd;
    const struct manifest *manifest;
    const uint8_t *manifest_bytes; /* encoded */
    size_t manifest_len;
};
MUST_USE int blob_answer(const struct blob_source *s, struct link *listener, const struct link_message *request,
                         struct error *e);

#endif
