/* download_state: what the parts of a download share. Not for others. */
#ifndef NET_DOWNLOAD_STATE_H
#define NET_DOWNLOAD_STATE_H

#include <sodium.h>

#include "net/download.h"

/* One connection and the bytes that are its own until they came. */
struct lane {
    struct download *d;
    CURL *curl;
    uint64_t at, end;       /* what is left of it; at == end: it has none */
    uint64_t noted;         /* up to where the journal knows it */
    uint64_t not_before_ms; /* a pause after a failure */
    unsigned failures;      /* in a row, without a byte between them */
    bool running;
    unsigned address;       /* the number of the one that was asked */
    /* of the answer that runs */
    bool begun, ranged, wrong;
    uint64_t from, total;   /* of Content-Range */
    char etag[HTTP_ETAG_MAX + 1];
};

struct download {
    const struct download_options *o;
    struct http_place place;
    CURLM *multi;
    struct lane lanes[DOWNLOAD_CONNECTIONS_MAX];
    unsigned n_lanes;
    int fd;
    struct spans have, claimed; /* came; came or is a lane's */
    uint64_t total, done;       /* of what is wanted */
    uint64_t hold_until_ms;     /* the server asked everybody to wait */
    unsigned address;           /* rises with every other one */
    unsigned relocations;       /* of the address, without a byte between them */
    bool no_ranges; /* the server gives whole files alone */
    bool anew;      /* ... which it just showed: all begins anew */
    bool resumed;
    char etag[HTTP_ETAG_MAX + 1]; /* of the first answer */
    int status;                 /* what ends it */
    struct error *e;
    /* the hash of the file's first `hashed` bytes */
    crypto_hash_sha256_state hash;
    uint64_t hashed;
    uint8_t *hash_bytes;
    /* the journal */
    int journal;
    uint64_t synced_ms;
    bool unsynced;
};

/* ---- download_journal.c ---- */

/* What an earlier download left, into d->have; *checked: its hash was right. Nothing where it is of another file. */
void download_journal_load(struct download *d, bool *checked);
/* A new journal that holds d->have. */
MUST_USE int download_journal_start(struct download *d, struct error *e);
void download_journal_note(struct download *d, uint64_t offset, uint64_t bytes);
/* What was noted outlives a loss of power from now on. */
void download_journal_sync(struct download *d);
void download_journal_checked(struct download *d);
void download_journal_close(struct download *d);

/* ---- download_hash.c ---- */

void hash_begin(struct download *d);
/* Takes the next bytes in, if they are here; false: they are not, or nothing asks for a hash. */
bool hash_some(struct download *d);
/* True when all bytes are in and the hash is what it must be. */
bool hash_is_right(struct download *d);

/* ---- download_lane.c ---- */

void lane_start(struct lane *l);
/* A transfer ended: what came is noted, and what follows is decided. */
void lane_ended(struct lane *l, CURLcode code);
void lane_drop(struct lane *l); /* in the middle; its bytes stay its own */

#endif
