/* lora: adapters of a layer range on a device, and the rows of a batch that take them. Not for other folders. */
#ifndef SHARD_RUN_LORA_H
#define SHARD_RUN_LORA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/backend.h"
#include "shard/arch/adapter.h"
#include "shard/run/shard.h"
#include "shard/run/step.h"

/* A matrix's pair; NULL: the adapter has none. */
struct lora_weights {
    struct weight *a, *b;
    uint32_t cols, rows; /* of the matrix */
};

struct loras {
    struct device *device;
    uint32_t n_layers, n;
    struct lora_weights (*at)[ROLE_LAYER_COUNT]; /* [n * n_layers]: those of an adapter together */
    uint32_t rank, cols; /* the largest of all layers: shards of other ranges may share the device's working space */
    uint64_t bytes;
};

/* Copies what the adapters have for the range, and no more, to the device. */
MUST_USE int loras_load(struct loras *l, struct device *d, const struct shard_options *o, struct error *e);
void loras_free(struct loras *l); /* also after a load that failed */
/* Bytes of weights, and of working space beside the model's. */
void loras_need(const struct model *m, const struct shard_options *o, uint64_t *weights, uint64_t *scratch);

/* Rows by adapter. Arrays have room for every row. */
struct lora_rows {
    uint32_t n_groups; /* 0: no row has one */
    struct {
        uint32_t adapter; /* from 0 */
        uint32_t first, n; /* of rows[] */
    } groups[ADAPTERS_MAX];
    uint32_t *rows;
    uint8_t *group_of; /* of each row, counted from 1; 0: it has none. NULL: nobody asks */
};

/* Rows which[n] of a step (NULL: its first n), numbered in that order. */
void lora_rows_note(struct lora_rows *rows, const struct step_row *step, const uint32_t *which, uint32_t n);
/* Those of [first, first + n), counted from there. */
void lora_rows_part(struct lora_rows *out, const struct lora_rows *rows, uint32_t first, uint32_t n);

/* What lies where, in values: rows of x and y, and a stack's slices in them. */
struct lora_strides {
    uint32_t x_row, x_slice, y_row, y_slice, slices;
};

/* y += what the rows' adapters add to the product of a layer's matrix, layers counted from the range's first. No
 * strides: rows of x and y follow each other. */
void lora_add(const struct loras *l, uint32_t layer, enum role role, const struct lora_rows *rows, struct span x,
              struct span y, const struct lora_strides *s);
/* What the adapters of the rows' groups add to a layer's experts, into out[ADAPTERS_MAX]; false: nothing. */
bool lora_experts(const struct loras *l, uint32_t layer, const struct lora_rows *rows, struct moe_lora *out);

#endif
