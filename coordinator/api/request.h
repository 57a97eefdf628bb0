/* request: what both generation endpoints do around their own part.  Not for other folders. */
#ifndef COORDINATOR_API_REQUEST_H
#define COORDINATOR_API_REQUEST_H

#include "coordinator/api/answer.h"

struct generation_request {
    const struct api *api;
    struct http_exchange *x;
    const struct shape *shape;
    json_t *body;
    json_t *original; /* what the client sent */
    struct params params;
    struct control_route route;
    struct prompt *prompts;
    size_t n_prompts;
    const char *prompt_field; /* its name, for refusals */
    struct refusal refusal;
};

/* Reads the model's name, the parameters, and whether a route is there; a refusal was sent when this is not 0.
 * Takes the body; holds `original`, which may be the same. */
MUST_USE int request_open(struct generation_request *q, const struct api *a, struct http_exchange *x,
                          json_t *takes_body, const json_t *original, enum endpoint endpoint,
                          const struct shape *shape);
/* rc: of making the prompts. Checks their length, answers, and frees everything. */
void request_answer(struct generation_request *q, int rc);

#endif
