/* blob: a node's copy of the parts of a model that it needs.
 *
 * In the cache folder a model is a folder, named by its id, of sparse files of
 * the originals' lengths, beside a bitmap of the chunks that are present and
 * checked.  A model's reader opens it as it opens the original.  blob_put()
 * checks a chunk against the manifest, writes it, then marks it: a crash at any
 * moment leaves a copy that can be resumed.  A copy that somebody else wrote to
 * is read and checked again, by blob_fetch(), before it counts.  One process at
 * a time holds a copy open for writing (a lock on the folder); several may read.
 *
 * Transfer is pull-based: the receiver asks for chunks and has at most
 * BLOB_WINDOW requests outstanding, which is its credit.  blob_answer() is the
 * answering side over a coordinator's files.                                 */
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

/* Takes the manifest's content (copies). ERR_BUSY when another process writes this copy. */
MUST_USE int blob_open(struct blob **out, const char *cache_dir, const struct manifest *m, struct error *e);
void blob_close(struct blob **b);
const char *blob_folder(const struct blob *b); /* with the files, under the manifest's names */
/* Bytes of the chunks that the ranges touch, and of those that are not there yet. */
void blob_count(const struct blob *b, const struct file_set_range *ranges, size_t n, uint64_t *total,
                uint64_t *missing);
MUST_USE int blob_put(struct blob *b, uint64_t chunk, const void *bytes, size_t len, struct error *e);
bool blob_has(const struct blob *b, uint64_t chunk);
/* What of the ranges is missing and right in other files of the same table is copied from them; the rest is left.
 * Only what cannot be written, and progress, end it early. */
MUST_USE int blob_copy(struct blob *b, const struct file_set *from, const struct file_set_range *ranges, size_t n,
                       int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e);

/* Fetch what the ranges miss over a dialled blob link: windowed, each chunk checked, asked for again when it is
 * wrong (ERR_CORRUPT after BLOB_RETRIES times) or the connection broke, resumable.  ERR_TIMEOUT when no chunk has
 * come for BLOB_RETRIES times the time-out.  progress non-zero cancels; it is called several times a second. */
MUST_USE int blob_fetch(struct blob *b, struct link *link, const struct file_set_range *ranges, size_t n,
                        int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e);
/* The manifest of `id` over the link; waits for as long as the coordinator says that it is being made. */
MUST_USE int blob_fetch_manifest(struct manifest *out, struct link *link, const uint8_t id[MANIFEST_ID_BYTES],
                                 int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                                 struct error *e);

/* Answer one request message of a peer from the files and manifest of one of n models; n is 0 while those are made. */
struct blob_source {
    const struct file_set *files;
    const struct manifest *manifest;
    const uint8_t *manifest_bytes; /* encoded */
    size_t manifest_len;
};
MUST_USE int blob_answer(const struct blob_source *sources, size_t n, struct link *listener,
                         const struct link_message *request, struct error *e);

#endif
