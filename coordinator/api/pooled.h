/* pooled: texts through the model, and of each one row of what enters the output head.  Not for other folders. */
#ifndef COORDINATOR_API_POOLED_H
#define COORDINATOR_API_POOLED_H

#include "coordinator/api/private.h"

/* gguf's pooling types; how a text's rows become one. */
enum pooling { POOLING_NONE, POOLING_MEAN, POOLING_FIRST, POOLING_LAST, POOLING_RANK, POOLING_COUNT };

/* As the model's file says; POOLING_COUNT: in a way that is not known. */
enum pooling pooling_of(const struct api *a);

struct pooled {
    const struct api *api;
    struct http_exchange *x;
    const struct token_list *texts;
    uint32_t n;
    uint32_t adapter;
    enum pooling pooling; /* MEAN (the rows' sum is given), FIRST or LAST */
    /* Called for each text in order; what it gives back ends the rest when it is not 0. */
    int (*take)(void *arg, uint32_t text, const double *row, struct refusal *r);
    void *arg;
};

/* Waits until all are made; what they used counts for the request's key. ERR_CANCELLED: the client has left, which
 * http_abandon() answers; all else is a refusal. */
MUST_USE int pooled_make(const struct pooled *p, struct refusal *r);
uint64_t pooled_tokens(const struct pooled *p);
/* A text has tokens and no more than `context`, or a refusal that names `param`, of which it is number i. */
MUST_USE int pooled_check(const struct token_list *text, uint32_t i, uint32_t context, const char *param,
                          struct refusal *r);

#endif
