/* blobs: the actor that serves files to nodes, the model's and its adapters', and the thread that makes their
 * manifests.
 *
 * It owns the blob listener, whose gate is the roster, so that bulk never
 * delays the control link.  Manifests are made once, in the background; until
 * then requests are answered "not ready".  With trusted_local none is made and
 * nothing is served: the one node has the files itself.  Any thread may call.
                                                                    */
#ifndef COORDINATOR_BLOBS_H
#define COORDINATOR_BLOBS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "net/keys.h"
#include "net/manifest.h"

#define BLOBS_DOMAIN "blob"

enum { BLOBS_COMMANDS_MAX = 64 };

struct blobs_options {
    void *zmq_context;
    const struct keys *keys;
    const char *listen;     /* "tcp://host:port" */
    /* The model's files, then those of every adapter; all here. They live as long as the blobs, like the strings. */
    const struct file_set *const *files;
    size_t n;
    const char *cache_dir;
    bool trusted_local;
    bool progress;          /* draw a bar */
};

struct blobs;

MUST_USE int blobs_start(struct blobs **out, const struct blobs_options *o, struct error *e);
void blobs_stop(struct blobs **b);
uint16_t blobs_port(const struct blobs *b);
/* 0 with the id of the i-th files (zeros with trusted_local); ERR_UNAVAILABLE while ids are being made; else why they
 * cannot. */
MUST_USE int blobs_id(struct blobs *b, size_t i, uint8_t id[MANIFEST_ID_BYTES], struct error *e);
/* How much of the files was read for the manifest. */
void blobs_progress(struct blobs *b, uint64_t *done, uint64_t *total);
/* Connections of keys that are not in the set are cut. Copies. ERR_BUSY: try again. */
MUST_USE int blobs_members(struct blobs *b, const uint8_t *keys, size_t n);

#endif
