/* prefill: an assistant's message that its client began and the model goes on with.  Not for other folders. */
#ifndef COORDINATOR_API_PREFILL_H
#define COORDINATOR_API_PREFILL_H

#include "coordinator/api/private.h"
#include "text/jinja/jinja.h"

struct prefill {
    json_t *before; /* the messages before it; NULL: no message is gone on with */
    json_t *text;   /* what it says so far, a string */
};

/* continue_final_message, or `prefix` of the last message. prefill_close() in every case. */
MUST_USE int prefill_read(struct prefill *out, const json_t *body, struct refusal *r);
void prefill_close(struct prefill *f);
/* Puts the text, which is nobody's control tokens, behind a prompt that opens the assistant's turn. */
MUST_USE int prefill_add(const struct prefill *f, const struct api *a, struct jinja_output *prompt, struct refusal *r);

#endif
