/* responses: POST /v1/responses and /v1/responses/input_tokens. */
#include "coordinator/api/responses.h"

#include "coordinator/api/chat.h"
#include "coordinator/api/count.h"

void api_responses(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL, *translated;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = responses_chat_body(body, &translated, &r);
    if (rc == 0)
        chat_answer(arg, x, translated, body, &responses_shape);
    else
        reply_refusal(x, &r);
    json_decref(body);
}

void api_responses_count(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL, *translated = NULL;
    size_t n = 0;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = responses_chat_body(body, &translated, &r);
    if (rc == 0)
        rc = chat_count(arg, x, translated, &n, &r);
    if (rc == 0)
        reply_json(x, 200, count_json(n));
    else
        reply_refusal(x, &r);
    json_decref(translated);
    json_decref(body);
}
