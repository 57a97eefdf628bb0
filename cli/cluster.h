/* cluster: a cluster on this machine: the coordinator in this process, every node a process of its own.
 *
 * Keys and logs lie in a temporary folder that goes when the cluster stops.
 * Nodes die with this process, however it ends.  One thread owns a cluster.  */
#ifndef CLI_CLUSTER_H
#define CLI_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "coordinator/coordinator.h"

enum { CLUSTER_NODES_MAX = 64, CLUSTER_STALL_MS = 300000, CLUSTER_STOP_MS = 3000 };

struct cluster_options {
    struct coordinator_options coordinator; /* folders, hosts and ports of its control half are filled in */
    uint32_t nodes;
    uint32_t threads;      /* of each node; 0: the cores shared out */
    uint64_t memory_bytes; /* of each node; 0: what is free, shared out */
    bool progress;         /* say on standard error what is waited for */
    bool (*stop)(void);    /* asked while waiting; NULL: never */
};

struct cluster;

/* Returns once a route covers the model, or says why not. */
MUST_USE int cluster_start(struct cluster **out, const struct cluster_options *o, struct error *e);
void cluster_stop(struct cluster **c);
const char *cluster_url(const struct cluster *c); /* "http://127.0.0.1:8080" */
const char *cluster_token(const struct cluster *c); /* the operator's: it opens the API too */
struct control *cluster_control(struct cluster *c);
/* ERR_GONE names the first node whose process has ended. */
MUST_USE int cluster_check(struct cluster *c, struct error *e);

#endif
