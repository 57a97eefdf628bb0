/* completions: a text and its continuation, for the endpoints of every family.  Not for other folders. */
#ifndef COORDINATOR_API_COMPLETIONS_H
#define COORDINATOR_API_COMPLETIONS_H

#include "coordinator/api/answer.h"

/* As chat_answer() does, of a body of /v1/completions. */
void completion_answer(const struct api *a, struct http_exchange *x, json_t *takes_body, const json_t *original,
                       const struct shape *shape);

#endif
