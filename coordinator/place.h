/* place: facts -> placement.  A pure function: no sockets, no clock, no randomness.
 *
 * Today: contiguous layers in proportion to each node's memory.  The order of
 * the stages is the order of the facts given.  A node's share never passes its
 * memory; the embedding's bytes count on the first stage and the head's on the
 * last.  Nodes that get no layer are left out; of more nodes than there are
 * layers or stages, those with the most memory are taken.  Where the shares in
 * proportion do not fit, the nodes are filled one after the other, which fits
 * whenever anything in this order does.  ERR_MEMORY says how much is missing.  */
#ifndef COORDINATOR_PLACE_H
#define COORDINATOR_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { PLACE_NODES_MAX = 256, PLACE_STAGES_MAX = 64 };

struct place_node {
    uint32_t node;         /* the caller's index */
    uint64_t memory_bytes; /* what shards may use */
    double read_bandwidth; /* bytes a second */
};

struct place_model {
    uint32_t n_layers;
    const uint64_t *layer_bytes; /* [n_layers] */
    const bool *joined;          /* [n_layers] a stage cannot begin with it; NULL: with any */
    uint64_t embedding_bytes, head_bytes, shared_bytes; /* shared: on every stage */
    uint64_t tied_bytes;         /* of the head's, what a stage that has the embedding as well holds once */
    uint64_t kv_bytes_per_layer; /* for the whole KV budget of one layer */
    uint64_t scratch_bytes;      /* on every stage */
};

struct place_shard {
    uint32_t node; /* place_node.node */
    uint32_t layer_first, layer_last;
};

struct placement {
    size_t n;
    struct place_shard shards[PLACE_STAGES_MAX]; /* in order; together [0, n_layers) */
    uint64_t missing_bytes; /* after ERR_MEMORY: one more node, last, with so much memory would do */
};

MUST_USE int place(const struct place_model *m, const struct place_node *nodes, size_t n, struct placement *out,
                   struct error *e);

#endif
