/* cluster: a coordinator (control and engine) and real nodes on loopback, for tests: in this process, or each node
 * a process of its own that can be killed. */
#ifndef TESTS_CLUSTER_CLUSTER_H
#define TESTS_CLUSTER_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "coordinator/control.h"
#include "coordinator/engine.h"
#include "node/node.h"

enum { CLUSTER_NODES_MAX = 3, CLUSTER_WAIT_MS = 60000 };

struct cluster {
    char dir[64]; /* temporary: states and caches */
    struct control *control;
    struct engine *engine;
    uint32_t n_nodes;
    struct node *nodes[CLUSTER_NODES_MAX];
    pid_t processes[CLUSTER_NODES_MAX]; /* 0: none */
    char *invites[CLUSTER_NODES_MAX];
};

struct cluster_options {
    const char *model;
    uint32_t n_nodes;
    uint32_t kv_tokens, sequences_max, batch_rows_max; /* 0: the coordinator's */
    bool processes; /* nodes are child processes; main() must call cluster_child() first */
    bool fetch;     /* the model's file is gone from its place: nodes fetch their layers from the coordinator */
};

/* Fails the test when it does not come up within CLUSTER_WAIT_MS. */
void cluster_start(struct cluster *c, const struct cluster_options *o);
void cluster_stop(struct cluster *c);
/* Until another route than `old` stands; its number. */
uint64_t cluster_await(struct cluster *c, uint64_t old);
/* A process: kill it, start it again with the membership it has. */
void cluster_kill(struct cluster *c, uint32_t node);
void cluster_start_node(struct cluster *c, uint32_t node);
/* In main(): when this program was started as a node it runs and never returns. */
void cluster_child(int argc, char **argv);

#endif
