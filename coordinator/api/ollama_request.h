/* ollama_request: Ollama's requests as OpenAI's.  Not for other folders.
 *
 * Pure: JSON in, JSON out.  What cannot be said in the other words is refused
 * by name; options that only a runner on one machine has (num_gpu ...) are
 * passed over, as are those that Ollama has given up (mirostat ...).         */
#ifndef COORDINATOR_API_OLLAMA_REQUEST_H
#define COORDINATOR_API_OLLAMA_REQUEST_H

#include "coordinator/api/private.h"

enum ollama_form {
    OLLAMA_AS_CHAT,       /* of /v1/chat/completions */
    OLLAMA_AS_COMPLETION, /* of /v1/completions */
};

/* What a request wants that gives nothing to the model. */
enum ollama_work { OLLAMA_GENERATE, OLLAMA_LOAD, OLLAMA_UNLOAD };

/* Of /api/chat and /api/generate alike; keep_alive must be checked by this before the others. */
MUST_USE int ollama_work_of(const json_t *body, enum ollama_work *out, struct refusal *r);
/* The caller's. */
MUST_USE int ollama_chat_body(const json_t *body, json_t **out, struct refusal *r);
MUST_USE int ollama_generate_body(const json_t *body, enum ollama_form form, json_t **out, struct refusal *r);

#endif
