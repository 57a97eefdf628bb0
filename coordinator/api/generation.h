/* generation: the choices of one request, from token ids to pieces of answers.  Not for other folders.
 *
 * A generation owns one engine request per choice and turns their tokens into
 * pieces: text that may be shown, reasoning, tool calls, the tokens that gave
 * them, and at the end the reason.  Choices take turns.  One thread owns a
 * generation.                                                                */
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

enum piece_kind {
    PIECE_TEXT,
    PIECE_REASONING, /* what the model thinks before it answers */
    PIECE_CALL,      /* a tool call begins */
    PIECE_ARGUMENTS, /* a part of its arguments: together they are a JSON object, unless "length" cut them */
};

/* A part of a choice. Its last piece has `finish` and nothing else. */
struct piece {
    uint32_t choice;
    enum piece_kind kind;
    const char *text; /* of all but PIECE_CALL: whole characters, not NUL-terminated; "" with tokens that show none */
    size_t len;
    uint32_t call;         /* CALL, ARGUMENTS: the number of the call in its choice, from 0 */
    const char *call_id;   /* CALL */
    const char *call_name; /* CALL */
    const struct token_info *tokens; /* when log-probabilities were asked for: those since the piece before */
    size_t n_tokens;
    const char *finish;    /* "stop", "length", "tool_calls"; NULL: the choice goes on */
    const char *stop_word; /* with "stop": the stop string that ended it; NULL: none did */
};

/* Of all choices together, so far. */
struct usage {
    uint64_t prompt_tokens, completion_tokens;
    uint64_t scored_tokens;    /* of prompts that went through the model once more, for their log-probabilities */
    uint64_t reasoning_tokens; /* of completion_tokens */
    uint64_t queued_us, prefill_us, decode_us; /* of the choice that took longest; 0 until one has ended */
};

enum news {
    NEWS_NONE,   /* nothing came in time */
    NEWS_QUIET,  /* a token came that shows nothing yet */
    NEWS_PIECE,
    NEWS_END,    /* every choice has finished */
    NEWS_FAILED, /* the generation is over: the error says why */
};

struct generation;

/* Submits every choice, prompts times params->best_of. Takes the prompts' memory. */
MUST_USE int generation_start(struct generation **out, const struct api *a, const struct params *p,
                              struct prompt *prompts, size_t n_prompts, uint32_t context, struct refusal *r);
/* Cancels what runs. */
void generation_destroy(struct generation **g);
uint32_t generation_count(const struct generation *g);
/* The piece is valid until the next call. */
enum news generation_next(struct generation *g, uint64_t wait_ms, struct piece *out, struct error *e);
/* How probable the model holds choice i: the mean log-probability of its tokens; with params->best_of above n only. */
double generation_score(const struct generation *g, uint32_t i);
void generation_usage(const struct generation *g, struct usage *out);

void prompt_free(struct prompt *p);

#endif
