/* shard: a contiguous layer range of one model, loaded on one device, with the KV of its sequences.
 *
 * shard_open() loads the weights of the range and takes its whole KV budget at
 * once (refused with ERR_MEMORY when it does not fit, never grown).  shard_step()
 * runs one step through the range.  A sequence appears with its first row at
 * position 0 and holds KV pages until shard_end().  No allocation happens
 * inside shard_step() once it has run at the largest batch.
 *
 * Rows enter as token ids where the range has the embedding, else as float rows
 * of n_embd values; they leave as float rows, and where the range has the head,
 * logits can be read for the rows that were flagged ROW_SAMPLE or ROW_LOGITS,
 * and for those flagged ROW_HIDDEN the values of which logits are made.
 *
 * Every row may have one adapter of those that the shard was opened with; what
 * comes out for a row does not depend on the rows and adapters beside it, down
 * to the bit.
 *
 * Models with a recurrent state (model_state_bytes) cannot go back to any lower
 * position: a step may begin where the sequence ends, where its last step began,
 * or at 0, and is else refused with ERR_CONFLICT; who wants more sends the
 * sequence again from 0.
 *
 * One thread (the stage) owns a shard.                                       */
#ifndef SHARD_RUN_SHARD_H
#define SHARD_RUN_SHARD_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/backend.h"
#include "shard/arch/adapter.h"
#include "shard/arch/arch.h"
#include "shard/run/step.h"

/* An adapter of the model that is served, whose products count `scale`. */
struct shard_adapter {
    const struct adapter *adapter;
    float scale;
};

struct shard_options {
    struct layer_range range;
    enum kv_type kv_type;
    uint32_t kv_tokens;      /* positions that the KV holds over all sequences, rounded up to pages */
    uint32_t sequences_max;  /* 1..STEP_SEQUENCES_MAX */
    uint32_t batch_rows_max; /* 1..STEP_ROWS_MAX */
    /* What rows may ask for; needed until shard_open() returns. */
    const struct shard_adapter *adapters;
    uint32_t n_adapters;     /* 0..ADAPTERS_MAX */
    /* Called between tensors while loading, may be NULL; non-zero cancels with ERR_CANCELLED. */
    int (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes_total);
    void *progress_arg;
};

struct shard;

/* Bytes that a shard will hold: weights, KV and scratch, of a device of however many threads.  Weights and scratch
 * are in memory from shard_open() on, the KV as far as it was written. */
struct shard_need {
    uint64_t weights, kv, scratch;
};
void shard_need(const struct model *m, const struct shard_options *o, struct shard_need *out);

/* Borrows device and model for its lifetime.  The device's working space is sized for the shard that was opened last:
 * shards that share a device must be of one model and one batch_rows_max. */
MUST_USE int shard_open(struct shard **out, struct device *d, const struct model *m, const struct shard_options *o,
                        struct error *e);
void shard_close(struct shard **shard_p);

/* Runs rows[n].  `in`: host float rows [n, n_embd], or NULL when the range has the embedding.  On error
 * nothing of the step is kept: the KV of every sequence is what it was (positions >= the step's may be
 * overwritten).  ERR_BUSY: no KV page is free.  ERR_LIMIT: a position past the context. */
MUST_USE int shard_step(struct shard *s, const struct step_row *rows, uint32_t n, const float *in, struct error *e);
/* Rows of the last step, host memory [n, n_embd], valid until the next step.  Not for ranges with the head. */
const float *shard_rows(struct shard *s);
/* Logits [n_vocab] of row i of the last step, i flagged ROW_SAMPLE or ROW_LOGITS; valid until the next call of this or
 * of shard_step().  Those of many rows are computed a block at a time as they are asked for: ask in order. */
const float *shard_logits(struct shard *s, uint32_t i);
/* What entered the head [n_embd] for row i of the last step, i flagged ROW_HIDDEN; valid until the next call of this,
 * of shard_logits() or of shard_step(). */
const float *shard_hidden(struct shard *s, uint32_t i);

/* Forget a sequence; unknown ones are fine. */
void shard_end(struct shard *s, uint64_t sequence);
/* Forget every sequence. */
void shard_clear(struct shard *s);
/* The same, and the KV's memory goes back to the system until it is needed again. */
void shard_rest(struct shard *s);
/* The options it was opened with (progress and the list of adapters left out). */
void shard_facts(const struct shard *s, struct shard_options *out);
/* The next position that the sequence expects, 0 when unknown. */
uint32_t shard_length(const struct shard *s, uint64_t sequence);

struct shard_stats {
    uint32_t sequences, pages_used, pages_total;
    uint64_t steps, rows;
    uint64_t bytes_weights, bytes_kv, bytes_scratch;
};
void shard_stats(const struct shard *s, struct shard_stats *out);

/* Where a step's time goes, by operation kind, when switched on (a clock read an operation). */
struct shard_times {
    uint64_t embed_ns, norm_ns, matmul_ns, rope_ns, attention_ns, ffn_ns, moe_ns, head_ns;
};
void shard_time(struct shard *s, int on);
void shard_times(const struct shard *s, struct shard_times *out);

#endif
