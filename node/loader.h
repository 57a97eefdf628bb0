/* loader: a thread that turns one Load into an open shard: a checked local copy, or the layers fetched
 * into the cache, then the weights on the device.
 *
 * It sends REPORT_LOAD_PROGRESS now and then and one REPORT_LOAD_DONE.  Progress
 * that the agent has no room for is dropped; the final report is not.        */
#ifndef NODE_LOADER_H
#define NODE_LOADER_H

#include <stdint.h>

#include "base/queue.h"
#include "kernels/backend.h"
#include "net/keys.h"
#include "net/manifest.h"
#include "node/membership.h"
#include "shard/run/shard.h"

struct loader_adapter {
    uint8_t id[MANIFEST_ID_BYTES];
    float scale;
    char *path_hint;
};

struct loader_job {
    uint64_t load;
    uint8_t model_id[MANIFEST_ID_BYTES];
    uint64_t file_bytes, header_bytes;
    char *path_hint;  /* may be NULL */
    char *model_path; /* the operator's own copy, may be NULL */
    bool trust_model_path; /* and the hints of adapters */
    struct loader_adapter *adapters; /* [n_adapters] */
    uint32_t n_adapters;
    char *cache_dir;
    struct shard_options shard;
    void *zmq_context;
    const struct keys *keys;
    struct membership membership;
    struct device *device;
    struct queue *reports;
    bool progress; /* draw bars */
};

struct loader;

/* Takes the job's strings and adapters. */
struct loader *loader_start(const struct loader_job *job);
void loader_cancel(struct loader *l); /* the job ends soon with ERR_CANCELLED */
void loader_join(struct loader **l);
/* What a job that was never started holds. */
void loader_job_free(struct loader_job *j);

#endif
