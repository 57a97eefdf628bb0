/* tokens: token ids in requests.  Not for other folders. */
#ifndef COORDINATOR_API_TOKENS_H
#define COORDINATOR_API_TOKENS_H

#include "coordinator/api/private.h"

/* A list of ids of this model, for token_list_free() in every case; `param` names it in the refusal. */
MUST_USE int read_token_ids(const json_t *list, uint32_t n_vocab, const char *param, struct token_list *out,
                            struct refusal *r);

#endif
