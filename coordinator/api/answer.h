/* answer: a generation as one JSON object or as a stream of events.  Not for other folders.
 *
 * Families of APIs differ in what an answer looks like only: a shape is a row
 * of functions that write it, with a state of their own where the events of a
 * stream depend on those before.  Everything else happens here once.         */
#ifndef COORDINATOR_API_ANSWER_H
#define COORDINATOR_API_ANSWER_H

#include "coordinator/api/generation.h"

/* What shapes know of the answer that they write. */
struct answer_view {
    const struct api *api;
    const char *id;        /* prefix and 24 letters, unlike all others */
    int64_t asker;         /* api_asker() */
    const char *model;     /* its id */
    const json_t *request; /* the body as the client sent it */
    int64_t created;       /* seconds since 1970 */
    uint64_t begun_us;     /* clock_us() */
    uint32_t n_choices;
    bool logprobs, include_usage; /* as asked for */
    struct usage usage;    /* so far */
};

struct call_whole {
    const char *id, *name;
    const char *arguments; /* NUL-terminated JSON text */
};

struct choice_whole {
    const char *text, *reasoning; /* NUL-terminated; "" */
    size_t text_len, reasoning_len;
    const struct call_whole *calls;
    size_t n_calls;
    const struct token_info *tokens;
    size_t n_tokens;
    const char *finish, *stop_word; /* as in struct piece */
};

struct shape {
    const char *id_prefix;  /* "chatcmpl-" */
    const char *media_type; /* of a stream */
    const struct field_name *names; /* of a chat's fields in the request; NULL: the same */
    size_t state_bytes;     /* zeroed for each stream; 0: none, state is NULL */
    void (*begin)(struct answer_view *v, void *state, struct buffer *out); /* NULL: nothing comes before the pieces */
    void (*piece)(struct answer_view *v, void *state, const struct piece *p, struct buffer *out);
    void (*end)(struct answer_view *v, void *state, struct buffer *out); /* after every choice's finish */
    /* Instead of end, when the 200 was sent already. */
    void (*fail)(struct answer_view *v, void *state, const struct error *e, struct buffer *out);
    /* The stream was silent for a while; must write something. NULL: a comment of server-sent events. */
    void (*ping)(struct answer_view *v, struct buffer *out);
    void (*close)(void *state); /* in every case; NULL: nothing is to be freed */
    /* The answer of a request that does not stream; the caller's. */
    json_t *(*whole)(struct answer_view *v, const struct choice_whole *choices, uint32_t n);
};

/* Takes the prompts; keeps `request` as long as needed. Replies in every case. */
void answer(const struct api *a, struct http_exchange *x, const struct shape *shape, const struct params *p,
            const json_t *request, struct prompt *prompts, size_t n_prompts, uint32_t context);

/* ---- for shapes ---- */

/* One server-sent event; name NULL: it has none. */
void put_event(struct buffer *out, const char *name, json_t *takes);
/* One line of JSON. */
void put_line(struct buffer *out, json_t *takes);
/* OpenAI's usage object; the caller's. */
json_t *usage_json(const struct usage *u);
/* A token's text as valid UTF-8. */
json_t *token_text_json(const struct api *a, int32_t id);
/* A log-probability; JSON has no infinity, so it ends at -9999. */
json_t *logprob_json(float logprob);
/* The bytes of a token as a list of integers. */
json_t *token_bytes_json(const struct api *a, int32_t id);

/* openai.c: tokens with their log-probabilities, as a list; the caller's. */
json_t *openai_logprobs_json(const struct api *a, const struct token_info *tokens, size_t n);
/* An object of chat or completions around its choices, which it takes. */
json_t *openai_envelope(const struct answer_view *v, const char *object, json_t *choices);
/* A chunk with this choice, or with none. Takes both; usage NULL: as the request asked, null or nothing. */
void openai_chunk(const struct answer_view *v, const char *object, json_t *choice, json_t *usage, struct buffer *out);
/* A shape's end and fail. */
void openai_end(const struct answer_view *v, const char *object, struct buffer *out);
void openai_fail(struct answer_view *v, void *state, const struct error *e, struct buffer *out);

#endif
