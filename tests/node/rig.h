/* rig: a coordinator that a test drives by hand, against real nodes of this process over loopback.
 *
 * It listens for enrolments, control messages and requests for layers; rig_pump()
 * serves all three.  It decides nothing: a test sends loads, routes and steps
 * itself and waits for what the nodes say.  One thread owns a rig.           */
#ifndef TESTS_NODE_RIG_H
#define TESTS_NODE_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/blob.h"
#include "net/invite.h"
#include "net/link.h"
#include "net/roster.h"
#include "node/node.h"
#include "proto/control.h"
#include "proto/frame.h"

enum { RIG_NODES_MAX = 2, RIG_QUEUE = 64, RIG_WAIT_MS = 30000 };

#define RIG_MODEL "tests/data/shoal-demo-q8_0.gguf"

struct rig_node {
    char state_dir[96], cache_dir[96];
    struct node_options options;
    struct node *node;
    pthread_t starter;
    atomic_int started; /* 1: node_start() has returned */
    int status;
    struct error why;
    bool member, joined;
    uint8_t key[KEY_BYTES];
    struct link_peer peer; /* on the control link */
    uint16_t data_port;
    struct link *data;     /* the gateway's dial */
    struct frame_store *store;
    struct link_message message; /* of the last frame that was taken */
    bool has_message;
    Shoal__Control *queue[RIG_QUEUE];
    size_t n_queue;
    uint32_t beats, joins;
};

struct rig {
    char dir[32];
    void *context;
    struct zap *zap;
    struct keys keys;
    struct link *enrol, *control, *blob;
    struct invite invite;
    char invite_line[INVITE_TEXT_MAX];
    uint64_t serial;
    bool deaf_to_enrolments;  /* requests are not answered */
    bool incomplete_answers;  /* no roster in the answer */
    bool foreign_rosters;     /* signed by somebody else */
    struct file_set *model_files;
    struct manifest model;
    uint8_t *model_bytes; /* the manifest, encoded */
    size_t model_len;
    uint32_t chunks_served;   /* and pieces of manifests */
    const char *model_path;   /* of nodes that are started from now on */
    struct rig_node nodes[RIG_NODES_MAX];
    size_t n_nodes;
};

void rig_open(struct rig *r);
void rig_close(struct rig *r);
/* Serve these files, from now on, in place of the demo model; takes them. */
void rig_serve(struct rig *r, struct file_set **files);
void rig_pump(struct rig *r); /* serves what is there, waits at most a few milliseconds */

/* A node of its own folders is started in a thread; waits until node_start() has returned. */
struct rig_node *rig_start(struct rig *r, const char *name, const char *invite_line);
/* Stops it and starts it again from the same folders, without an invite. */
void rig_restart(struct rig *r, struct rig_node *n);
void rig_stop(struct rig *r, struct rig_node *n);
/* Waits until the node has joined and the gateway's link to it stands. */
void rig_join(struct rig *r, struct rig_node *n);
/* Takes the node out of the roster and tells everyone. */
void rig_revoke(struct rig *r, struct rig_node *n);

void rig_send(struct rig *r, struct rig_node *n, Shoal__Control__BodyCase kind, void *body);
/* The next message of the kind; others are dropped.  Caller frees with control_free. */
Shoal__Control *rig_expect(struct rig *r, struct rig_node *n, Shoal__Control__BodyCase kind);
/* Layers [first, last) of the demo model; checks that LOAD_DONE has the status, gives its text. */
void rig_load(struct rig *r, struct rig_node *n, uint64_t load, uint32_t first, uint32_t last, const char *path_hint,
              int status);
/* Route 1..., stage of stages; `next` NULL: the last.  Checks the status of ROUTE_READY. */
void rig_route(struct rig *r, struct rig_node *n, uint64_t route, uint64_t load, uint32_t stage, uint32_t stages,
               const struct rig_node *next, const struct rig_node *from, int status);

/* A step of n rows to the node, with an open of `sequence` when position is 0. */
void rig_step(struct rig *r, struct rig_node *n, uint64_t route, uint64_t step, uint64_t sequence, uint32_t position,
              const int32_t *tokens, uint32_t n_tokens, bool sample);
void rig_end(struct rig *r, struct rig_node *n, uint64_t route, uint64_t step, uint64_t sequence);
/* The next RESULT or FAIL that comes back from the node; valid until the next call for that node. */
void rig_answer(struct rig *r, struct rig_node *n, struct frame *f);

#endif
