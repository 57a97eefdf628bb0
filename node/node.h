/* node: the daemon that holds shards and executes steps.
 *
 * Threads.  `control` owns the control link: it joins, beats, takes the roster,
 * and answers loads and routes.  `stage` owns the shard, its KV, the data
 * listener and the dial to the next stage: it executes steps in order, forwards,
 * reports.  A loader thread fetches and opens shards while the stage is idle.
 * They exchange messages over bounded queues.  Every decision about who does
 * what is the coordinator's.
 *
 * node_start() returns once the threads run; joining happens behind it and is
 * retried with back-off, within join_timeout_ms for the first time.          */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct node_options {
    const char *invite;     /* the line; NULL: the membership kept in state_dir */
    const char *name;       /* NULL: the host's name */
    const char *state_dir;  /* keys and membership; NULL: path_state_dir()/node */
    const char *cache_dir;  /* NULL: path_cache_dir() */
    const char *model_path; /* a local copy to prefer, or NULL */
    const char *listen;     /* data listener: "0.0.0.0:0", "127.0.0.1:7200" */
    const char *advertise;  /* host that others should dial; NULL: as the coordinator sees us */
    const char *backend;    /* NULL: the best */
    const char *isa;        /* NULL: the best */
    int threads;            /* 0: every CPU */
    bool pin;
    uint64_t memory_bytes;  /* for shards; 0: nine tenths of what is available */
    bool progress;          /* draw progress bars */
    uint32_t join_timeout_ms; /* 0: for ever */
    /* For one process (serve): no disk cache, the model file is taken from model_path unchecked. */
    bool trust_model_path;
};

struct node;

MUST_USE int node_start(struct node **out, const struct node_options *o, struct error *e);
/* Blocks until the node ends by itself (refused, revoked, fatal), or wait_ms passed: ERR_TIMEOUT while it
 * lives; otherwise why it ended. */
MUST_USE int node_wait(struct node *n, uint64_t wait_ms, struct error *e);
/* Leaves politely (at most 2 s), stops the threads, frees. */
void node_stop(struct node **n);

#endif
