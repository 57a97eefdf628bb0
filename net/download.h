/* download: one file, or stretches of one, over several connections at once, so that what came is never fetched twice.
 *
 * The bytes go to their own offsets in a file of the full length.  Beside it,
 * called like it with ".shoal-journal" behind, lies the list of what came; it
 * belongs to one size and one hash (or etag): of another, the download begins
 * anew.  A whole file whose SHA-256 is known is hashed while it comes; one that
 * is wrong is thrown away, and fetched once more when a part of it was from
 * before.  A server that does not know ranges gives the file in one piece, which
 * cannot be gone on with.
 *
 * What may pass (429, 5xx, cut connections, addresses that expired) is tried
 * again as net/http_client.h says.  One thread runs a download.               */
#ifndef NET_DOWNLOAD_H
#define NET_DOWNLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/spans.h"
#include "net/http_client.h"

enum {
    DOWNLOAD_CONNECTIONS_MAX = 16,
    DOWNLOAD_PIECE_BYTES = 16 << 20, /* most bytes of one request */
    DOWNLOAD_JOURNAL_MAX = 64 << 20,
};
#define DOWNLOAD_BYTES_MAX ((uint64_t)1 << 50)
#define DOWNLOAD_JOURNAL ".shoal-journal"

struct download_options {
    struct http_client *client;
    const char *url;
    const char *path;
    uint64_t bytes;            /* that the whole file must have */
    const char *sha256;        /* 64 hexadecimal digits; NULL: nobody knows it */
    const struct span *wanted; /* NULL: all of it */
    size_t n_wanted;
    unsigned connections;      /* 1 to DOWNLOAD_CONNECTIONS_MAX */
    void (*progress)(void *arg, uint64_t done); /* of the wanted bytes, those that are here; may fall */
    void *arg;
};

/* ERR_CANCELLED, and every other error but a wrong hash, leaves what can be gone on with. ERR_CONFLICT: another process
 * is at it. */
MUST_USE int download(const struct download_options *o, struct error *e);
/* Bytes of `wanted` (NULL: of all) that an earlier download of the file left. */
uint64_t download_left(const struct download_options *o);
/* The journal is of no use any more. */
void download_forget(const char *path);

#endif
