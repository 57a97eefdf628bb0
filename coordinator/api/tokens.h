/* tokens: token ids in requests.  Not for other folders. */
#ifndef COORDINATOR_API_TOKENS_H
#define COORDINATOR_API_TOKENS_H

#include "base/buffer.h"
#include "coordinator/api/private.h"

/* A list of ids of this model, for token_list_free() in every case; `param` names it in the refusal. */
MUST_USE int read_token_ids(const json_t *list, uint32_t n_vocab, const char *param, struct token_list *out,
                            struct refusal *r);

/* Appends the text of the ids, control tokens too, as valid UTF-8. */
void text_of_tokens(const struct api *a, const struct token_list *tokens, struct buffer *text);

#endif
