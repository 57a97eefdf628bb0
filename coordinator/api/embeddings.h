/* embeddings: the vectors of texts: one row of the model for each, of length one.  Not for other folders. */
#ifndef COORDINATOR_API_EMBEDDINGS_H
#define COORDINATOR_API_EMBEDDINGS_H

#include "base/buffer.h"
#include "coordinator/api/private.h"

enum {
    EMBEDDINGS_TEXTS_MAX = 2048,     /* of a request */
    EMBEDDINGS_VALUES_MAX = 4 << 20, /* of an answer: texts times dimensions */
};

struct embeddings_ask {
    const json_t *input; /* a text, texts, ids, or lists of ids; borrowed */
    const char *param;   /* its field's name, for refusals: "input" */
    uint32_t adapter;    /* as api_find_model() counts; whether its key may ask is the caller's business */
    int64_t dimensions;  /* so many of the first values, made a vector of length one again; 0: all */
    bool truncate;       /* texts longer than the context lose their end, instead of being refused */
};

struct embeddings {
    float *values; /* [n * width] */
    uint32_t n, width;
    uint64_t prompt_tokens;
};

/* Waits until all are made; what they used counts for the request's key. ERR_CANCELLED: the client has left, which
 * http_abandon() answers; all else is a refusal. Nothing is to be freed after a failure. */
MUST_USE int embeddings_make(struct embeddings *out, const struct api *a, struct http_exchange *x,
                             const struct embeddings_ask *ask, struct refusal *r);
void embeddings_free(struct embeddings *e);

/* Appends vector i as a JSON list of numbers, or as a JSON string: the base64 of little-endian 32-bit floats. */
void embeddings_put(const struct embeddings *e, uint32_t i, bool base64, struct buffer *out);

#endif
