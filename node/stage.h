/* stage: the thread that holds a node's shard and executes steps.
 *
 * It owns the data listener, the shard with its KV, the samplers of the last
 * stage, and the dial to the next stage.  The node's agent gives it commands
 * over a bounded queue; it answers with reports into the agent's queue.  Steps
 * are executed in the order in which they arrive; a step that cannot be run is
 * answered to the gateway with FAIL, and nothing else is disturbed.          */
#ifndef NODE_STAGE_H
#define NODE_STAGE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"
#include "base/queue.h"
#include "net/keys.h"
#include "net/link.h"
#include "net/zap.h"
#include "shard/arch/arch.h"
#include "shard/run/shard.h"

enum stage_limits {
    STAGE_COMMANDS_MAX = 64,
    STAGE_CREDIT_EVERY = 16,   /* chunks consumed before a CREDIT goes back */
    STAGE_SEND_TIMEOUT_MS = 10000, /* the next stage takes nothing for so long: the step fails */
    STAGE_PING_MS = 1000,
};

#define STAGE_DOMAIN "data"

/* What the stage measures, read by the agent at any time. */
struct stage_stats {
    _Atomic uint64_t route, steps, rows, resident_bytes, bytes_sent;
    _Atomic uint32_t sequences, pages_used, pages_total, queue;
    _Atomic double compute_ms, layer_ms, rtt_us;
};

/* ---- reports to the agent (allocated with mem_alloc, the agent frees) ---- */

enum report_kind { REPORT_UNLOADED, REPORT_ROUTE_READY, REPORT_LOAD_PROGRESS, REPORT_LOAD_DONE };

struct report {
    enum report_kind kind;
    uint64_t load, route;
    int32_t status;
    char text[256];
    const char *phase; /* static: "check", "fetch", "load" */
    uint64_t done, total;
    double layer_ms;
    struct model *model; /* LOAD_DONE: the agent passes them on to the stage */
    struct shard *shard;
};

struct stage_options {
    void *zmq_context;
    const struct keys *keys;
    const uint8_t *coordinator_key; /* KEY_BYTES, lives as long as the stage */
    const char *listen;             /* "tcp://0.0.0.0:0" */
    struct queue *reports;
};

struct stage;

MUST_USE int stage_start(struct stage **out, const struct stage_options *o, struct error *e);
void stage_stop(struct stage **s);
uint16_t stage_port(const struct stage *s);
struct stage_stats *stage_stats(struct stage *s);

/* Commands; each may answer ERR_BUSY when the queue is full (the coordinator will retry). */
/* Takes model and shard on success. */
MUST_USE int stage_give_shard(struct stage *s, uint64_t load, struct model *model, struct shard *shard);
MUST_USE int stage_unload(struct stage *s); /* answered by REPORT_UNLOADED */
struct stage_route {
    uint64_t route, load;
    uint32_t stage, stages;
    uint32_t dtype;
    char next_endpoint[300]; /* empty: the last stage */
    uint8_t next_key[KEY_BYTES];
    uint8_t from_key[KEY_BYTES]; /* the only peer whose steps are taken */
};
MUST_USE int stage_set_route(struct stage *s, const struct stage_route *r); /* answered by REPORT_ROUTE_READY */
MUST_USE int stage_end_route(struct stage *s, uint64_t route);
/* Connections of keys that are not in the set are cut. Copies. */
MUST_USE int stage_members(struct stage *s, const uint8_t *keys, size_t n);

#endif
