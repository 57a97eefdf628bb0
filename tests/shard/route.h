/* route: a model cut into shards in one process, rows passed from one to the next as floats: what the tests of
 * shard/run drive. */
#ifndef TESTS_SHARD_ROUTE_H
#define TESTS_SHARD_ROUTE_H

#include <stdint.h>

#include "shard/run/shard.h"

enum { ROUTE_SHARDS_MAX = 3 };

struct route {
    struct device *device;
    struct model *model;
    struct shard *shards[ROUTE_SHARDS_MAX];
    int n;
    uint16_t adapter; /* of the rows of route_run() and route_greedy() */
};

struct route_options {
    const char *path;
    const char *isa;   /* NULL: the best */
    enum kv_type kv_type;
    uint32_t kv_tokens, sequences_max, batch_rows_max; /* 0: 512, 4, 128 */
    uint32_t cuts[ROUTE_SHARDS_MAX - 1]; /* layers that begin the second and third shard */
    int n;             /* shards; 0: 1 */
    const struct shard_adapter *adapters;
    uint32_t n_adapters;
};

/* Fails the test when it cannot be opened. */
void route_open(struct route *r, const struct route_options *o);
void route_close(struct route *r);
int route_step(struct route *r, const struct step_row *rows, uint32_t n, struct error *e);
const float *route_logits(struct route *r, uint32_t i);
/* Of n values of a beside b: the squares of the differences over the squares of b. */
double route_error(const float *a, const float *b, size_t n);
uint32_t route_argmax(const float *logits, uint32_t n);
/* Logits [n, n_vocab] of `tokens` as sequence `id` from `position` on, in steps of `chunk` rows. Caller frees. */
float *route_run(struct route *r, uint64_t id, uint32_t position, const int32_t *tokens, uint32_t n, uint32_t chunk);
/* The next n greedy tokens of a sequence that holds `length` positions, the first of them `token`. */
void route_greedy(struct route *r, uint64_t id, uint32_t length, int32_t token, int32_t *out, uint32_t n);

#endif
