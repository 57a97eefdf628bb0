/* sampler: from a row of logits to a token: one sequence's parameters, history and random state.
 *
 * Order: allowed tokens, logit bias, repetition / presence / frequency penalties over the history, greedy if
 * temperature is 0, else temperature, top-k, top-p, min-p, draw.  Log-probabilities that are reported
 * are those of the model's own distribution (log softmax of the raw logits, before any of that), as
 * OpenAI reports them.  The draw of position p uses a generator seeded from (seed, p): a repeated step
 * draws the same token, whatever else is in the batch.  Logits that are not finite count as minus infinity;
 * when no finite logit of an allowed token is left the result is ERR_INTERNAL.  Ties: the lower id.
 *
 * A sampler belongs to one thread.                                           */
#ifndef SHARD_RUN_SAMPLER_H
#define SHARD_RUN_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum sampler_limits {
    SAMPLER_BIAS_MAX = 1024,
    SAMPLER_TOP_LOGPROBS_MAX = 20,
};

struct logit_bias {
    int32_t token;
    float bias;
};

struct sampler_params {
    float temperature;       /* 0: greedy */
    int32_t top_k;           /* 0: off */
    float top_p;             /* 1: off */
    float min_p;             /* 0: off */
    float repetition_penalty; /* 1: off; over the last repetition_window tokens, prompt included */
    int32_t repetition_window; /* 0: off, -1: all */
    float presence_penalty, frequency_penalty; /* 0: off; over generated tokens only */
    uint64_t seed;
    int32_t top_logprobs; /* 0..20 alternatives to report; -1: report no log-probabilities at all */
    const struct logit_bias *bias;
    size_t n_bias;
};

struct token_logprob {
    int32_t token;
    float logprob;
};

struct sample {
    int32_t token;
    float logprob; /* of the token; 0 when not asked for */
    int32_t n_top;
    struct token_logprob top[SAMPLER_TOP_LOGPROBS_MAX];
};

struct sampler;

void sampler_defaults(struct sampler_params *p); /* temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, penalties off */
/* ERR_INVALID names the parameter that is out of range. */
MUST_USE int sampler_check(const struct sampler_params *p, uint32_t n_vocab, struct error *e);
/* Copies params and bias.  Ids from n_usable to n_vocab (padding of the embedding) are never sampled or reported, and
 * have no part in any probability. */
MUST_USE int sampler_create(struct sampler **out, const struct sampler_params *p, uint32_t n_vocab,
                            uint32_t n_usable, struct error *e);
void sampler_destroy(struct sampler **sampler_p);
/* The token at `position` is now known; truncates the history to `position` first.  `generated`: came from
 * sampling, not from the prompt. */
void sampler_accept(struct sampler *s, uint32_t position, int32_t token, bool generated);
/* The next sampler_sample(), and only it, takes no token whose bit is clear; the lowest bit is of id 0, and ids from
 * n_usable on are not looked at. `allowed` is borrowed until then. */
void sampler_allow(struct sampler *s, const uint8_t *allowed);
/* logits [n_vocab] are left as they are. `position`: of the row that gave them. */
MUST_USE int sampler_sample(struct sampler *s, const float *logits, uint32_t position, struct sample *out,
                            struct error *e);

#endif
