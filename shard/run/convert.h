/* convert: a model's tensors in another type, stretch by stretch, threads side by side. Not for other folders.
 *
 * A tensor is one run of values, row after row and slice after slice; rows hold
 * whole blocks of both types.  Of a GGUF file a stretch may be any whole blocks
 * of 256, of a folder whole rows, because rows have to be asked for there.
 * One thread owns a converter.                                              */
#ifndef SHARD_RUN_CONVERT_H
#define SHARD_RUN_CONVERT_H

#include "shard/arch/arch.h"

/* A tensor of the output: one of the input's, or some rows of each of its slices. */
struct wanted {
    char name[GGUF_NAME_MAX + 1];
    const struct gguf_tensor *t; /* the input's */
    uint64_t ne[GGUF_DIMS_MAX];
    uint64_t row;                /* of each slice of t, where the rows begin; 0 in a file, all are wanted there */
};

struct converter;

/* m: the model of a folder, of which g is the header; NULL: g is a file. Both outlive the converter. */
MUST_USE int converter_open(struct converter **out, const struct model *m, const struct gguf *g, int threads,
                            struct error *e);
void converter_close(struct converter **c); /* NULL is fine */

/* Stretches begin at multiples of so many values, and have at most so many. */
uint64_t converter_step(const struct converter *c, const struct wanted *w);
uint64_t converter_most(const struct converter *c, const struct wanted *w);
/* Values [first, first + n) as `to` stores them (t->type: as they are), valid until the next call. ERR_INVALID:
 * some are not numbers, or too large for the type. */
MUST_USE int converter_run(struct converter *c, const struct wanted *w, const struct qtype *to, uint64_t first,
                           uint64_t n, const void **blocks, struct error *e);

#endif
