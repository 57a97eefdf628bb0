/* count: how many tokens a conversation is, without an answer.  Not for other folders. */
#ifndef COORDINATOR_API_COUNT_H
#define COORDINATOR_API_COUNT_H

#include "coordinator/api/private.h"

/* Of a body of /v1/chat/completions: the tokens that the model would get. */
MUST_USE int chat_count(const struct api *a, const struct http_exchange *x, const json_t *body, size_t *out,
                        struct refusal *r);
/* OpenAI's answer of that; the caller's. */
json_t *count_json(size_t n);

#endif
