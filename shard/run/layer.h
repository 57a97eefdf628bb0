/* layer: one decoder layer of the forward pass over the buffers of a struct forward. Not for other folders. */
#ifndef SHARD_RUN_LAYER_H
#define SHARD_RUN_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/run/forward.h"

/* The rows that come after attention: all of the batch, or the wanted ones. */
struct layer_rows {
    struct span x, mixed;
    uint32_t n;
    const struct lora_rows *lora;
};

/* True when what attention and feed-forward give is changed before it is added. */
bool layer_has_branch(const struct hparams *h);
/* Once a batch, before its layers. */
void layer_note_positions(struct forward *f, const struct forward_batch *b);
/* x -> mixed: projections, rotation, attention. `layer` counts from the range's first. */
void layer_attend(struct forward *f, uint32_t layer, const struct forward_batch *b);
/* x += Wo mixed */
void layer_project(struct forward *f, uint32_t layer, const struct layer_rows *rows);
/* x += ffn(norm(x)) */
void layer_feed(struct forward *f, uint32_t layer, const struct layer_rows *rows);

/* mla.c: layer_attend() over compressed keys and values. */
void mla_attend(struct forward *f, uint32_t layer, const struct forward_batch *b);

/* indexer.c: normed, q_low -> chosen, the positions that the layer's rows attend to. */
void indexer_choose(struct forward *f, uint32_t layer, const struct forward_batch *b);

/* delta.c: layer_attend() of layers that keep a state. */
void delta_attend(struct forward *f, uint32_t layer, const struct forward_batch *b);

/* ---- what layers and the range share ---- */

const struct layer_facts *forward_facts(const struct forward *f, uint32_t layer);
/* The rest of a span, `values` further. */
struct span forward_behind(struct span s, size_t values);
void forward_rope(struct forward *f, uint32_t layer, struct span x, const struct forward_batch *b, uint32_t n_heads,
                  uint32_t stride);
void forward_temper(struct forward *f, struct span q, uint32_t first, uint32_t n, uint32_t width);

/* y += what the rows' adapters add to the product of the layer's matrix. */
void forward_lora(struct forward *f, uint32_t layer, enum role role, const struct lora_rows *rows, struct span x,
                  struct span y);

/* Add the time since *since to a kind of operation, where somebody wants to know. */
void forward_lap(struct forward *f, uint64_t *kind, uint64_t *since);
uint64_t forward_start(const struct forward *f);
void forward_norm(struct forward *f, const struct weight *w, const struct weight *bias, struct span x, struct span y,
                  uint32_t n);
/* Rows of `width` values times a factor, then capped; nothing to do for factor 1 and cap 0. */
void forward_scale(struct forward *f, struct span x, uint32_t n, uint32_t width, float factor, float cap);

#endif
