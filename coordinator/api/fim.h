/* fim: prompts of a text whose middle is wanted.  Not for other folders. */
#ifndef COORDINATOR_API_FIM_H
#define COORDINATOR_API_FIM_H

#include "coordinator/api/private.h"
#include "text/tokenizer.h"

struct fim {
    const struct token_list *prefix; /* what is before the gap */
    const char *suffix;              /* what is behind it */
    size_t suffix_len;
    const json_t *files; /* what is known around it: a list of {"filename", "text"}; NULL: nothing */
    size_t room;         /* the tokens that all may have: the first files are left out until they fit */
};

/* Whether the model has the tokens for it. */
bool fim_supported(const struct api *a);
/* The files are of that form, or a refusal that names `param`. */
MUST_USE int fim_check_files(const json_t *files, const char *param, struct refusal *r);
/* The prompt; control tokens that are written in the texts are text. */
MUST_USE int fim_prompt(const struct api *a, const struct fim *f, struct token_list *out, struct error *e);

#endif
