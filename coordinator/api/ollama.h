/* ollama: what the endpoints of Ollama's API share.  Not for other folders. */
#ifndef COORDINATOR_API_OLLAMA_H
#define COORDINATOR_API_OLLAMA_H

#include <time.h>

#include "coordinator/api/answer.h"
#include "coordinator/pull/model_store.h"

/* The Ollama whose API this is: clients ask, and some want one that is new enough. */
#define OLLAMA_VERSION "0.12.6"

enum { OLLAMA_TIME_BYTES = 40 };

/* "2026-01-31T12:00:00.123456789Z": of now; returns text. */
const char *ollama_time(const struct timespec *t, char text[static OLLAMA_TIME_BYTES]);
const char *ollama_now(char text[static OLLAMA_TIME_BYTES]);
/* The name under which clients are told of a model: with a tag. Caller frees. */
char *ollama_name(const char *id);
/* The name of a model in a body: `model`, or `name` where the former is absent or empty, as Ollama's command line has
 * it. NULL: there is none. */
const char *ollama_asked(const json_t *body);
/* The model of that name, which must be there. ERR_NOT_FOUND in Ollama's words; ERR_CONFLICT: the store
 * has it, but this server answers with another. */
MUST_USE int ollama_find(const struct api *a, const json_t *body, uint32_t *adapter, struct refusal *r);

/* The store's model of a name, or of a source of the hub; closed by the caller in every case. */
MUST_USE int ollama_stored(struct model_entry *out, const char *name, struct error *e);
/* The store's models, as rows of /api/tags. */
void ollama_add_stored(const struct api *a, json_t *list);

/* How answers look: of /api/chat and /api/generate. */
extern const struct shape ollama_chat_shape, ollama_generate_shape;
/* The answer of a request that gave the model nothing to do ("load", "unload"), in that shape; the caller's. */
json_t *ollama_idle_json(const json_t *request, bool chat, const char *reason);

#endif
