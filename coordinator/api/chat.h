/* chat: a conversation and its answer, for the endpoints of every family.  Not for other folders. */
#ifndef COORDINATOR_API_CHAT_H
#define COORDINATOR_API_CHAT_H

#include "coordinator/api/answer.h"

/* Answers a body of /v1/chat/completions in this shape; replies in every case, errors in the form of the exchange's
 * endpoint. Endpoints of other families translate their bodies into one. `original` is the body that the client sent,
 * for the shape; it is kept as long as needed. */
void chat_answer(const struct api *a, struct http_exchange *x, json_t *takes_body, const json_t *original,
                 const struct shape *shape);

extern const struct shape openai_chat_shape;

#endif
