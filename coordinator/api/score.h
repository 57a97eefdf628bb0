/* score: the log-probabilities of a prompt's own tokens.  Not for other folders. */
#ifndef COORDINATOR_API_SCORE_H
#define COORDINATOR_API_SCORE_H

#include "coordinator/api/generation.h"

struct score;

/* Sends the prompt through the model for its logits; borrows the tokens. */
MUST_USE int score_start(struct score **out, const struct api *a, const struct token_list *tokens, uint32_t adapter,
                         uint32_t n_top, struct error *e);
void score_destroy(struct score **s);
/* 0 when complete, ERR_TIMEOUT, or why it failed. */
MUST_USE int score_wait(struct score *s, uint64_t wait_ms, struct error *e);
/* Token i: logprob NAN for the first one. Sets everything but the offset. */
void score_token(const struct score *s, size_t i, struct token_info *info);

/* The log-softmax of a row at `token`, and its n_top best; NaN counts as minus infinity. */
void score_row(const float *logits, uint32_t n_vocab, int32_t token, uint32_t n_top, struct token_info *info);

#endif
