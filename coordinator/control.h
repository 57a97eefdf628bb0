/* control: the control half of a coordinator, as the gateway half sees it.
 *
 * The control actor owns the control, enrolment and blob listeners, the
 * registry (members, leases, facts), the placement and the route.  The gateway
 * half (api, schedule, session) uses this header only, so that gateways can
 * later be processes of their own.  Any thread may call; answers are copies.  */
#ifndef COORDINATOR_CONTROL_H
#define COORDINATOR_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "coordinator/place.h"
#include "net/keys.h"
#include "shard/arch/arch.h"

enum control_state {
    CONTROL_WAITING,  /* for nodes, or for enough memory */
    CONTROL_LOADING,  /* shards are being fetched and loaded */
    CONTROL_READY,    /* a route covers the model */
};

struct control_stage {
    uint8_t key[KEY_BYTES];
    char endpoint[300]; /* "tcp://host:port" */
    char name[64];
    uint32_t layer_first, layer_last;
};

/* The route in force.  route 0: none. A new route has a new number. */
struct control_route {
    enum control_state state;
    int waits;      /* WAITING: 0, or the status of what time does not change: ERR_MEMORY until more nodes join, what
                     * made the last node fail, a model that cannot be read */
    char text[200]; /* why it is not ready, for people */
    uint64_t route;
    uint32_t n_stages;
    struct control_stage stages[PLACE_STAGES_MAX];
    uint32_t kv_tokens, sequences_max, batch_rows_max, context;
    uint32_t dtype; /* of rows between stages */
};

struct control;

void control_route(struct control *c, struct control_route *out);
/* Changes whenever control_route() would answer differently; cheap. */
uint64_t control_version(struct control *c);
/* The gateway cannot reach a stage of `route`, or its steps time out: the node is treated as gone. */
void control_stage_failed(struct control *c, uint64_t route, uint32_t stage, const char *why);
/* The gateway's measurements, for status: per stage compute, queue, and link microseconds (smoothed). */
struct control_stage_times {
    double compute_us, queue_us, link_us;
    double steps_per_second;
};
void control_report_times(struct control *c, uint64_t route, uint32_t stage, const struct control_stage_times *t);
/* Keys with which the gateway dials stages. */
const struct keys *control_keys(const struct control *c);
const struct model *control_model(const struct control *c);
const char *control_model_name(const struct control *c);
/* Adapters of the model that sequences may ask for, counted from 1. */
uint32_t control_adapter_count(const struct control *c);
const char *control_adapter_name(const struct control *c, uint32_t number);
/* The whole picture as JSON text (docs/status.md), caller frees with mem_free. */
char *control_status_json(struct control *c);

/* ---- operator's actions ---- */

/* A new invite line; uses >= 1, ttl in seconds. host NULL: the configured advertise address. Caller frees. */
MUST_USE int control_invite(struct control *c, uint32_t uses, uint32_t ttl_seconds, const char *host, char **line,
                            struct error *e);
/* Revoke a member by name or key fingerprint: out of the roster, its links closed, its route ended. */
MUST_USE int control_revoke(struct control *c, const char *who, struct error *e);

/* ---- life cycle, used by coordinator.c ---- */

struct control_options {
    const char *model_path;
    const char *state_dir, *cache_dir;
    const char *listen_host; /* "127.0.0.1", "0.0.0.0" */
    uint16_t control_port, enrol_port, blob_port; /* 0: ephemeral */
    const char *advertise;   /* host that goes into invites; NULL: listen_host, or the host name for 0.0.0.0 */
    uint32_t nodes_min;      /* place when this many have joined; 0: as soon as memory suffices.  When nodes are lost
                              * fewer will do; once idle, the model is spread over as many again */
    uint32_t context;        /* 0: the model's, bounded by a sane default */
    uint32_t kv_tokens;      /* 0: context * 4 or what fits */
    uint32_t sequences_max, batch_rows_max; /* 0: defaults 16, 512 */
    const char *kv_type;     /* as model_kv_type() takes it; NULL: auto */
    const char *rows_type;   /* "f32", "f16", "bf16" */
    const char *const *adapters; /* as users write them (shard/arch/adapter.h) */
    size_t n_adapters;
    uint32_t lease_ms;       /* 0: 6000 */
    bool trusted_local;      /* the one node shares this process and its file: no manifest is made */
    bool progress;
};

MUST_USE int control_start(struct control **out, const struct control_options *o, struct error *e);
void control_stop(struct control **c);

#endif
