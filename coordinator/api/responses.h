/* responses: OpenAI's Responses API.  Not for other folders.
 *
 * An answer is a list of items: what the model thought, a message, calls of
 * functions.  Streams tell of each item as it begins, grows and ends.        */
#ifndef COORDINATOR_API_RESPONSES_H
#define COORDINATOR_API_RESPONSES_H

#include "coordinator/api/answer.h"

/* A body of /v1/responses (or of .../input_tokens) as one of /v1/chat/completions; pure. The caller's. */
MUST_USE int responses_chat_body(const json_t *body, json_t **out, struct refusal *r);

extern const struct shape responses_shape;

/* Keeps an answer that has ended, unless its request asks for the opposite. */
void response_keep(const struct answer_view *v, const json_t *response);

/* ---- responses_items.c ---- */

/* An item of an answer. */
struct response_item {
    enum piece_kind kind; /* TEXT, REASONING, CALL */
    const char *id, *status;
    const char *text;     /* of a call: its arguments */
    size_t len;
    const json_t *logprobs; /* of a message; NULL: none */
    const char *call_id, *name;
    bool summary; /* reasoning is shown as its summary, which is where many clients look */
};

/* Whether the request asks for summaries; there are none but the model's own words. */
bool response_summarizes(const json_t *request);

/* A new id, with the prefix of this kind of item; caller frees. */
char *response_item_id(enum piece_kind kind);
/* begun: without its content, which is to come. The caller's. */
json_t *response_item_json(const struct response_item *item, bool begun);
/* What an item's content is one of; the caller's. */
json_t *response_part_json(const struct response_item *item);
/* The whole object; takes the items. error NULL: none; with the status "failed". The caller's. */
json_t *response_json(const struct answer_view *v, const char *status, json_t *output, const struct error *error);

#endif
