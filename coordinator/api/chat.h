/* chat: a conversation and its answer, for the endpoints of every family.  Not for other folders. */
#ifndef COORDINATOR_API_CHAT_H
#define COORDINATOR_API_CHAT_H

#include "coordinator/api/answer.h"

/* Answers a body of /v1/chat/completions in this shape; replies in every case, errors in the form of the exchange's
 * endpoint. Endpoints of other families translate their bodies into one. `original` is the body that the client sent,
 * for the shape; it is kept as long as needed. */
void chat_answer(const struct api *a, struct http_exchange *x, json_t *takes_body, const json_t *original,
                 const struct shape *shape);

/* The prompt of such a body, as one that is allocated; prompt_free() and mem_free(), also after a refusal where it is
 * not NULL. Sets how its answer is read in `p`, where that is not NULL. */
MUST_USE int chat_prompt(const struct api *a, const json_t *body, struct prompt **out, struct params *p,
                         struct refusal *r);

extern const struct shape openai_chat_shape;

#endif
