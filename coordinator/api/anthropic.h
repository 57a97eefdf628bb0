/* anthropic: Anthropic's Messages API.  Not for other folders. */
#ifndef COORDINATOR_API_ANTHROPIC_H
#define COORDINATOR_API_ANTHROPIC_H

#include "coordinator/api/answer.h"

enum anthropic_use { ANTHROPIC_ANSWER, ANTHROPIC_COUNT };

/* A body of /v1/messages (or of .../count_tokens) as one of /v1/chat/completions; pure. The caller's. */
MUST_USE int anthropic_chat_body(const json_t *body, enum anthropic_use use, json_t **out, struct refusal *r);

extern const struct shape anthropic_shape;

#endif
