/* kv: which pages hold the keys and values of which sequence: bookkeeping on the host, no device memory.
 *
 * A page is KV_PAGE_TOKENS positions of every layer of the shard.  The pages are
 * numbered once and never grow.  A sequence takes them as its positions need
 * them and gives them back when it is truncated or ended.  One thread (the
 * stage) owns a kv.  Not for other folders.                                  */
#ifndef SHARD_RUN_KV_H
#define SHARD_RUN_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/backend.h"
#include "shard/run/step.h"

struct kv_limits {
    uint32_t pages;
    uint32_t sequences; /* at once, up to STEP_SEQUENCES_MAX */
    uint32_t context;   /* positions of one sequence */
    bool states;        /* sequences have states beside their pages */
};


struct kv;

MUST_USE int kv_create(struct kv **out, const struct kv_limits *l, struct error *e); /* ERR_MEMORY */
void kv_destroy(struct kv **kv_p);

/* Take the rows of a step: truncate and lengthen their sequences, and say in out[n] where each row's keys and
 * values belong; the page lists stay valid until the next call.  All or nothing: a refused step changes nothing.
 * ERR_INVALID: rows that are no step.  ERR_CONFLICT: epoch, adapter or gap, or (with states) a position that is behind
 * the last step's first.  ERR_LIMIT: past the context.  ERR_BUSY: no page or no place for another sequence is free. */
MUST_USE int kv_take(struct kv *kv, const struct step_row *rows, uint32_t n, struct attention_row *out,
                     struct error *e);
/* With states: the sequences of the step that was taken last; valid until the next.  Of each sequence there are two
 * states, that of where its last step began and that of its end: a step goes on from either, or from position 0. */
uint32_t kv_runs(const struct kv *kv, const struct delta_run **out);
void kv_end(struct kv *kv, uint64_t sequence);
void kv_clear(struct kv *kv);
/* Positions that the sequence holds, 0 when unknown. */
uint32_t kv_length(const struct kv *kv, uint64_t sequence);
uint32_t kv_sequences(const struct kv *kv);
uint32_t kv_pages_used(const struct kv *kv);

#endif
