/* pull: a model of the hub becomes one of the store.
 *
 * Its files come into a hidden folder beside the model's own, which gets the
 * model's name when all of them are there and right; until then the same call
 * goes on where an earlier one ended, however it ended.
 *
 * With `layers` only the bytes of those layers come: headers first, from which
 * the tensors' places are known; the rest of each file is a hole, with a record
 * of what is here (base/spans.h).  What comes is cut at the chunks of
 * net/manifest.h, so that a node can check it and use it.
 *
 * A call runs on its caller's thread; calls of several names may run at once,
 * and of one name one alone: the others are refused with ERR_CONFLICT.         */
#ifndef COORDINATOR_PULL_PULL_H
#define COORDINATOR_PULL_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "coordinator/pull/model_store.h"

struct pull_options {
    const char *source;   /* "hf:ORG/REPO[@REVISION][:QUANT]" */
    const char *name;     /* NULL: ORG/REPO, with the quant as its tag */
    const char *layers;   /* "A:B": layers A to B - 1, with the embedding and the head where they begin and end */
    unsigned connections; /* 0: four */
    /* what is being done ("" until it is known), and bytes of it; total may grow while headers are read */
    void (*progress)(void *arg, const char *what, uint64_t done, uint64_t total);
    bool (*stop)(void *arg); /* asked often; true: ERR_CANCELLED */
    void *arg;               /* of both */
};

struct pull_report {
    bool was_there;    /* that very revision was there already: nothing was fetched */
    uint64_t fetched;  /* bytes that are here now, of `bytes` that the whole files have */
    uint64_t bytes;
};

/* *out: the model, closed by the caller with model_entry_close(). */
MUST_USE int pull_model(struct model_entry *out, struct pull_report *report, const struct pull_options *o,
                        struct error *e);
/* The name in the store that a source has there already (without a look at the hub). ERR_NOT_FOUND: none. */
MUST_USE int pull_find(struct model_entry *out, const char *source, struct error *e);
/* "A:B" with A below B; no model is asked how many layers it has. */
MUST_USE int pull_parse_layers(const char *text, uint32_t *first, uint32_t *last, struct error *e);

#endif
