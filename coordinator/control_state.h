/* control_state: what the files of the control actor share: control.c (thread, commands, life cycle), members.c
 * (who is in and what they say), cluster.c (placement, loads, routes), status.c.  Not for other folders.
 *
 * All of struct control belongs to the actor's thread, but for what its comments
 * name otherwise.                                                            */
#ifndef COORDINATOR_CONTROL_STATE_H
#define COORDINATOR_CONTROL_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buffer.h"
#include "base/logger.h"
#include "base/queue.h"
#include "coordinator/blobs.h"
#include "coordinator/control.h"
#include "coordinator/enrol.h"
#include "coordinator/registry.h"
#include "coordinator/route.h"
#include "coordinator/store.h"
#include "net/link.h"
#include "net/zap.h"
#include "proto/control.h"
#include "proto/frame.h"
#include "shard/arch/adapter.h"

#define CONTROL_DOMAIN "control"
#define ENROL_DOMAIN "enrol"

enum control_defaults {
    CONTROL_LEASE_MS = 6000,
    CONTROL_SEQUENCES = 16,
    CONTROL_BATCH_ROWS = 512,
    CONTROL_CONTEXT = 32768, /* where the operator says nothing and the model allows more */
    CONTROL_KV_MIN = 512,    /* tokens; a default budget is not halved below it */
    CONTROL_POLL_MS = 50,
    CONTROL_TICK_MS = 100,
    CONTROL_COMMANDS_MAX = 256,
    CONTROL_DRAIN_MAX = 256, /* messages of members a turn */
    ENROL_DRAIN_MAX = 8,     /* messages of strangers a turn */
    CONTROL_WIDEN_MS = 3000,    /* a route on too few nodes stands at least so long */
    CONTROL_FORGIVE_MS = 60000, /* a route that stood for so long clears its nodes of earlier failures */
};

enum command_kind { COMMAND_STATUS, COMMAND_INVITE, COMMAND_REVOKE, COMMAND_FAILED, COMMAND_TIMES };

/* A question of another thread: with `answered`, it lies on that thread's stack, and the actor pushes it there once
 * it is done; without, the actor frees it. */
struct command {
    enum command_kind kind;
    struct queue *answered;
    uint64_t route;
    uint32_t stage, uses, ttl_seconds;
    const char *text; /* who, host */
    char why[200];
    struct control_stage_times times;
    int status;
    struct error error;
    char *out; /* JSON, invite line */
};

struct control {
    /* read by any thread, unchanged after the start */
    struct control_options o; /* strings are ours */
    char *model_path, *state_dir, *cache_dir, *listen_host, *advertise, *name;
    struct model *model;
    struct adapter_spec *specs;     /* [o.n_adapters] */
    struct adapter **adapters;      /* the same */
    const struct file_set *files[1 + ADAPTERS_MAX]; /* the model's, then theirs */
    struct keys keys;
    struct route_shape shape; /* kv_tokens: the operator's, 0 for what fits */
    uint32_t context, dtype;

    struct queue *commands;
    atomic_bool stop;
    pthread_t thread;
    bool running;

    /* `lock` guards `published` and nothing else; `version` counts its changes. */
    pthread_mutex_t lock;
    struct control_route published;
    _Atomic uint64_t version;

    /* the actor's */
    void *context_zmq;
    struct zap *zap;
    struct zap_counts self_test; /* what the self-test added to the gate's counts */
    struct link *control, *enrolment;
    struct blobs *blobs;
    struct store *store;
    struct enrol *enrol;
    struct registry *registry;
    struct buffer out;
    struct control_route next; /* of publish */
    uint8_t *roster_body;      /* signed, as it travels */
    size_t roster_len;
    uint8_t roster_signature[SIGNATURE_BYTES];
    uint64_t roster_serial;
    bool blobs_behind;         /* the blob actor has not taken the last set of keys */
    bool enrol_open;
    uint32_t invites;
    uint64_t next_number;      /* of loads and routes; above all of earlier starts */
    uint64_t ticked_ms;

    struct route route;
    enum control_state state;
    int waits; /* as in control.h */
    char text[200];
    bool placed_once;
    bool look;                 /* something changed: try to place */
    uint64_t look_ms;          /* or when this time has come */
    uint64_t ready_ms;
    uint32_t kv_tokens;        /* of the route */
    uint64_t *layer_bytes;
    bool *joined;
    struct place_model place;
    struct control_stage_times times[PLACE_STAGES_MAX];
    struct log_gate strangers, peers;
};

/* ---- control.c ---- */
/* ERR_BUSY and ERR_GONE are the caller's to handle. */
MUST_USE int control_send(struct control *c, const struct member *m, const Shoal__Control *message);
void control_send_refused(struct control *c, const struct link_peer *to, int status, const char *text);

/* ---- members.c ---- */
MUST_USE int members_load(struct control *c, struct error *e);
void members_message(struct control *c, const struct link_message *m);
void members_enrol(struct control *c, const struct link_message *m);
void members_tick(struct control *c, uint64_t now_ms);
MUST_USE int members_invite(struct control *c, const struct command *q, char **line, struct error *e);
MUST_USE int members_revoke(struct control *c, const char *who, struct error *e);

/* ---- cluster.c ---- */
void cluster_init(struct control *c);
void cluster_tick(struct control *c, uint64_t now_ms);
/* The member is not here any more, or never was: its route ends. */
void cluster_lost(struct control *c, const struct member *m, const char *why);
void cluster_joined(struct control *c, struct member *m, bool new_connection);
void cluster_load_done(struct control *c, struct member *m, const Shoal__LoadDone *d);
void cluster_route_ready(struct control *c, struct member *m, const Shoal__RouteReady *r);
void cluster_stage_failed(struct control *c, uint64_t route, uint32_t stage, const char *why);
void cluster_times(struct control *c, uint64_t route, uint32_t stage, const struct control_stage_times *t);

/* ---- status.c ---- */
char *status_json(struct control *c);

#endif
