/* generation: the choices of one request, from token ids to pieces of text.  Not for other folders.
 *
 * A generation owns one engine request per choice and turns their tokens into
 * pieces: text that may be shown, the tokens that gave it, and at the end the
 * reason.  Choices take turns.  One thread owns a generation.                */
#ifndef COORDINATOR_API_GENERATION_H
#define COORDINATOR_API_GENERATION_H

#include "coordinator/api/fields.h"

/* Where a prompt's text is echoed, `text` is it (owned). */
struct prompt {
    struct token_list tokens;
    char *text;
};

/* A token of a choice and what the model thought of it. */
struct token_info {
    int32_t id;
    float logprob; /* NAN: not known (the first token of an echoed prompt) */
    uint32_t n_top;
    struct frame_top top[FRAME_TOP_MAX];
    size_t offset; /* of its text, in characters */
};

struct piece {
    uint32_t choice;
    const char *text; /* NUL-terminated, whole characters, may be "" */
    size_t len;
    const struct token_info *tokens; /* when log-probabilities were asked for */
    size_t n_tokens;
    const char *finish; /* "stop", "length"; NULL: the choice goes on */
};

enum news {
    NEWS_NONE,   /* nothing came in time */
    NEWS_QUIET,  /* a token came that shows nothing yet */
    NEWS_PIECE,
    NEWS_END,    /* every choice has finished */
    NEWS_FAILED, /* the generation is over: the error says why */
};

struct generation;

/* Submits every choice, prompts times params->n. Takes the prompts' memory. */
MUST_USE int generation_start(struct generation **out, const struct api *a, const struct params *p,
                              struct prompt *prompts, size_t n_prompts, uint32_t context, struct refusal *r);
/* Cancels what runs. */
void generation_destroy(struct generation **g);
uint32_t generation_count(const struct generation *g);
/* The piece is valid until the next call. */
enum news generation_next(struct generation *g, uint64_t wait_ms, struct piece *out, struct error *e);
void generation_usage(const struct generation *g, uint64_t *prompt_tokens, uint64_t *completion_tokens);

void prompt_free(struct prompt *p);

#endif
