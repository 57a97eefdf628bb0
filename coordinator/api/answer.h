/* answer: a generation as one JSON object or as a stream of events.  Not for other folders.
 *
 * Chat and completions differ in the shape of their objects only: a shape is a
 * row of names and functions that build the JSON of a choice.                */
#ifndef COORDINATOR_API_ANSWER_H
#define COORDINATOR_API_ANSWER_H

#include "coordinator/api/generation.h"

struct shape {
    const char *id_prefix;    /* "chatcmpl" */
    const char *object;       /* "chat.completion" */
    const char *chunk_object; /* "chat.completion.chunk" */
    /* A choice of a chunk. piece->finish NULL: it goes on. */
    json_t *(*opening)(uint32_t choice); /* first chunk of a choice; NULL: none */
    json_t *(*delta)(const struct api *a, const struct piece *piece, bool logprobs);
    json_t *(*ending)(const struct piece *piece);
    /* A whole choice. */
    json_t *(*whole)(const struct api *a, const struct piece *piece, bool logprobs);
};

/* Takes the prompts. Replies in every case. */
void answer(const struct api *a, struct http_exchange *x, const struct shape *shape, const struct params *p,
            struct prompt *prompts, size_t n_prompts, uint32_t context);

/* A token's text as valid UTF-8. */
json_t *token_text_json(const struct api *a, int32_t id);
/* A log-probability; JSON has no infinity, so it ends at -9999. */
json_t *logprob_json(float logprob);
/* The bytes of a token as a list of integers. */
json_t *token_bytes_json(const struct api *a, int32_t id);

#endif
