/* agent: the thread of a node that talks to the coordinator.
 *
 * It owns the control link: joins with the node's facts, beats, takes the
 * roster (and sets the gate of the data listener by it), starts loaders, and
 * turns loads and routes into commands for the stage.  It ends when the
 * coordinator refuses the node's key, or when it is told to.                 */
#ifndef NODE_AGENT_H
#define NODE_AGENT_H

#include <stdint.h>

#include "base/error.h"
#include "kernels/backend.h"
#include "net/keys.h"
#include "net/zap.h"
#include "node/membership.h"
#include "node/node.h"
#include "node/stage.h"

enum {
    AGENT_REPORTS_MAX = 1024,
    AGENT_POLL_MS = 50,
    AGENT_JOIN_RETRY_MS = 3000,
    AGENT_LEAVE_MS = 300,
};

struct agent_options {
    const struct node_options *node; /* strings live as long as the agent */
    void *zmq_context;
    const struct keys *keys;
    struct membership membership;
    struct zap *zap;
    struct stage *stage;
    struct device *device;
    struct queue *reports; /* from stage and loader */
    char *name;            /* borrowed */
    char *cache_dir;       /* borrowed */
    uint64_t memory_bytes;
    double read_bandwidth;
};

struct agent;

MUST_USE int agent_start(struct agent **out, const struct agent_options *o, struct error *e);
/* ERR_TIMEOUT while it runs; else why it ended (0: it was told to). */
MUST_USE int agent_wait(struct agent *a, uint64_t wait_ms, struct error *e);
void agent_stop(struct agent **a);

#endif
