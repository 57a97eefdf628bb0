/* adapters: the adapters of a load, found on this machine or fetched as far as the layers need them. Not for others. */
#ifndef NODE_ADAPTERS_H
#define NODE_ADAPTERS_H

#include "base/error.h"
#include "node/loader.h"
#include "shard/arch/adapter.h"

struct fetched_adapters {
    struct adapter *open[ADAPTERS_MAX];
    struct shard_adapter served[ADAPTERS_MAX];
    uint32_t n;
};

/* Every adapter of the job, opened for the model: what its hint names where that is the very one, else a copy in the
 * cache. progress non-zero cancels. After an error, too, to be let go. */
MUST_USE int adapters_fetch(struct fetched_adapters *out, const struct loader_job *job, const struct model *m,
                            int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e);
void adapters_let_go(struct fetched_adapters *a);

#endif
