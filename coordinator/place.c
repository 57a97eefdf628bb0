/* place: first in proportion, then by filling up.
 *
 * Proportion.  The nodes that can hold anything are the candidates; each weighs
 * what its memory leaves after what every stage holds (and the embedding or the
 * head).  A boundary between two candidates is the layer at which the layers
 * before it cost nearest to the weight before it, moved to where the candidate
 * itself and all that follow can hold their part: start_min[i] is the lowest
 * layer from which candidates i.. can hold the rest.
 *
 * Filling up.  Every node takes all it can, but leaves a layer for the one that
 * gets the head.  Taking more never makes the rest harder, so this succeeds
 * whenever any contiguous placement in this order exists.
 *
 * Both work on blocks: a layer and those joined to it.  A model without joined
 * layers has a block a layer.                                                */
#include "coordinator/place.h"

#include <stdbool.h>
#include <string.h>

#include "base/memory.h"
#include "base/progress.h"

struct task {
    const struct place_model *m;
    uint32_t n_blocks;
    uint32_t *starts; /* [n_blocks + 1] first layer of block i */
    uint64_t *before; /* [n_blocks + 1] cost of the layers before block i */
    uint64_t fixed;   /* on every stage */
    struct place_node nodes[PLACE_STAGES_MAX]; /* candidates, in order */
    size_t n;
};

static uint64_t add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* What a stage of blocks [first, last) holds. */
static uint64_t stage_bytes(const struct task *t, uint32_t first, uint32_t last)
{
    uint64_t bytes = add(t->fixed, t->before[last] - t->before[first]);
    bool embedding = first == 0, head = last == t->n_blocks;
    if (embedding)
        bytes = add(bytes, t->m->embedding_bytes);
    if (head)
        bytes = add(bytes, t->m->head_bytes - (embedding ? t->m->tied_bytes : 0));
    return bytes;
}

static bool fits(const struct task *t, size_t node, uint32_t first, uint32_t last)
{
    return stage_bytes(t, first, last) <= t->nodes[node].memory_bytes;
}

/* ---- candidates ---- */

static uint64_t smallest_layer(const struct task *t)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < t->n_blocks; i++) {
        uint64_t cost = t->before[i + 1] - t->before[i];
        least = cost < least ? cost : least;
    }
    return least;
}

/* True when nodes[i] is among the `most` with the most memory; the earlier one wins a tie. */
static bool among_largest(const struct place_node *nodes, size_t n, size_t i, size_t most)
{
    size_t larger = 0;
    for (size_t k = 0; k < n; k++) {
        if (nodes[k].memory_bytes > nodes[i].memory_bytes || (nodes[k].memory_bytes == nodes[i].memory_bytes && k < i))
            larger++;
    }
    return larger < most;
}

/* Of the nodes that hold at least a layer, the largest that there are layers and stages for. */
static void choose_candidates(struct task *t, const struct place_node *nodes, size_t n)
{
    uint64_t least = add(t->fixed, smallest_layer(t));
    size_t most = t->n_blocks < PLACE_STAGES_MAX ? t->n_blocks : PLACE_STAGES_MAX;
    t->n = 0;
    for (size_t i = 0; i < n; i++) {
        if (nodes[i].memory_bytes >= least && among_largest(nodes, n, i, most))
            t->nodes[t->n++] = nodes[i];
    }
}

static void drop_candidate(struct task *t, size_t i)
{
    memmove(t->nodes + i, t->nodes + i + 1, (t->n - i - 1) * sizeof(t->nodes[0]));
    t->n--;
}

/* The first must hold the embedding and a layer, the last a layer and the head. */
static void trim_candidates(struct task *t)
{
    uint32_t layers = t->n_blocks;
    while (t->n > 1 && !fits(t, 0, 0, 1))
        drop_candidate(t, 0);
    while (t->n > 1 && !fits(t, t->n - 1, layers - 1, layers))
        drop_candidate(t, t->n - 1);
}

/* ---- in proportion ---- */

/* start_min[i]: the lowest layer from which candidates i.. can hold the rest, a layer left for each before. */
static bool find_starts(const struct task *t, uint32_t *start_min)
{
    start_min[t->n] = t->n_blocks;
    for (size_t i = t->n; i-- > 0;) {
        uint32_t s = start_min[i + 1];
        while (s > i && fits(t, i, s - 1, start_min[i + 1]))
            s--;
        if (s == start_min[i + 1])
            return false;
        start_min[i] = s;
    }
    return start_min[0] == 0;
}

static double weight(const struct task *t, size_t i)
{
    uint64_t held = t->fixed;
    if (i == 0)
        held = add(held, t->m->embedding_bytes);
    if (i == t->n - 1)
        held = add(held, t->m->head_bytes);
    uint64_t memory = t->nodes[i].memory_bytes;
    return memory > held ? (double)(memory - held) : 0;
}

/* The layer at which what lies before costs nearest to `cost`. */
static uint32_t nearest_layer(const struct task *t, double cost)
{
    uint32_t i = 0;
    while (i < t->n_blocks && (double)t->before[i + 1] <= cost)
        i++;
    if (i < t->n_blocks && (double)t->before[i + 1] - cost < cost - (double)t->before[i])
        i++;
    return i;
}

static bool place_in_proportion(const struct task *t, struct placement *out)
{
    uint32_t start_min[PLACE_STAGES_MAX + 1], layers = t->n_blocks, first = 0;
    double all = 0, so_far = 0;
    if (t->n == 0 || !find_starts(t, start_min))
        return false;
    for (size_t i = 0; i < t->n; i++)
        all += weight(t, i);
    for (size_t i = 0; i < t->n; i++) {
        so_far += weight(t, i);
        uint32_t last = all > 0 ? nearest_layer(t, (double)t->before[layers] * (so_far / all)) : layers;
        uint32_t least = start_min[i + 1] > first ? start_min[i + 1] : first + 1;
        uint32_t most = layers - (uint32_t)(t->n - 1 - i); /* a layer for each that follows */
        last = last < least ? least : last > most ? most : last;
        while (last > least && !fits(t, i, first, last))
            last--;
        if (!fits(t, i, first, last))
            return false;
        out->shards[i] = (struct place_shard){t->nodes[i].node, first, last};
        first = last;
    }
    out->n = t->n;
    return true;
}

/* The candidate whose share rounds to no layer, or t->n. */
static size_t find_negligible(const struct task *t)
{
    double all = 0;
    size_t least = 0;
    for (size_t i = 0; i < t->n; i++) {
        all += weight(t, i);
        least = weight(t, i) < weight(t, least) ? i : least;
    }
    return t->n > 1 && weight(t, least) / all * t->n_blocks < 0.5 ? least : t->n;
}

/* A node that would get a layer only because every candidate gets one costs a hop and saves nothing. */
static void drop_negligible(struct task *t, struct placement *out)
{
    for (size_t i = find_negligible(t); i < t->n; i = find_negligible(t)) {
        struct task kept = *t;
        drop_candidate(t, i);
        trim_candidates(t);
        if (!place_in_proportion(t, out)) {
            *t = kept; /* it is needed after all */
            return;
        }
    }
}

/* ---- filling up ---- */

/* Returns the first layer that found no place. */
static uint32_t place_by_filling(const struct task *t, struct placement *out)
{
    uint32_t layers = t->n_blocks, first = 0;
    out->n = 0;
    for (size_t i = 0; i < t->n && first < layers; i++) {
        uint32_t last = layers;
        if (!fits(t, i, first, layers)) {
            last = first;
            while (last + 1 < layers && fits(t, i, first, last + 1))
                last++;
        }
        if (last > first)
            out->shards[out->n++] = (struct place_shard){t->nodes[i].node, first, last};
        first = last;
    }
    return first;
}

/* For filling, every node counts that there are stages for. */
static void widen_candidates(struct task *t, const struct place_node *nodes, size_t n)
{
    t->n = 0;
    for (size_t i = 0; i < n; i++) {
        if (among_largest(nodes, n, i, PLACE_STAGES_MAX))
            t->nodes[t->n++] = nodes[i];
    }
}

static int say_missing(const struct task *t, uint32_t first, size_t n, struct placement *out, struct error *e)
{
    char missing[32], need[32], have[32];
    uint32_t layers = t->n_blocks;
    uint64_t memory = 0;
    for (size_t i = 0; i < t->n; i++)
        memory = add(memory, t->nodes[i].memory_bytes);
    out->n = 0;
    out->missing_bytes = stage_bytes(t, first, layers);
    return error_set(e, ERR_MEMORY, "not enough memory: layers %u-%u of %u find no place; a node with %s more would do "
                     "(the model needs %s, %zu nodes offer %s)", t->starts[first], t->m->n_layers - 1,
                     t->m->n_layers, progress_bytes(out->missing_bytes, missing),
                     progress_bytes(stage_bytes(t, 0, layers), need), n, progress_bytes(memory, have));
}

static int place_layers(struct task *t, const struct place_node *nodes, size_t n, struct placement *out,
                        struct error *e)
{
    choose_candidates(t, nodes, n);
    trim_candidates(t);
    drop_negligible(t, out);
    if (place_in_proportion(t, out))
        return 0;
    widen_candidates(t, nodes, n);
    uint32_t first = place_by_filling(t, out);
    return first == t->n_blocks ? 0 : say_missing(t, first, n, out, e);
}

/* Sum the layers up in blocks. */
static void open_blocks(struct task *t)
{
    const struct place_model *m = t->m;
    t->starts = mem_array((size_t)m->n_layers + 1, sizeof(*t->starts));
    t->before = mem_array((size_t)m->n_layers + 1, sizeof(*t->before));
    for (uint32_t i = 0; i < m->n_layers; i++) {
        if (i == 0 || !m->joined || !m->joined[i]) {
            t->starts[t->n_blocks] = i;
            t->before[t->n_blocks + 1] = t->before[t->n_blocks];
            t->n_blocks++;
        }
        t->before[t->n_blocks] = add(t->before[t->n_blocks], add(m->layer_bytes[i], m->kv_bytes_per_layer));
    }
    t->starts[t->n_blocks] = m->n_layers;
}

int place(const struct place_model *m, const struct place_node *nodes, size_t n, struct placement *out,
          struct error *e)
{
    memset(out, 0, sizeof(*out));
    if (m->n_layers == 0 || m->tied_bytes > m->head_bytes || n > PLACE_NODES_MAX)
        return error_set(e, ERR_INVALID, "a placement of %u layers on %zu nodes", m->n_layers, n);
    struct task t = {.m = m, .fixed = add(m->shared_bytes, m->scratch_bytes)};
    open_blocks(&t);
    int r = place_layers(&t, nodes, n, out, e);
    for (size_t i = 0; i < out->n; i++) {
        out->shards[i].layer_first = t.starts[out->shards[i].layer_first];
        out->shards[i].layer_last = t.starts[out->shards[i].layer_last];
    }
    mem_free(t.starts);
    mem_free(t.before);
    return r;
}
