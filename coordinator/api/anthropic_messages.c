/* anthropic_messages: POST /v1/messages and /v1/messages/count_tokens. */
#include "coordinator/api/anthropic.h"
#include "coordinator/api/chat.h"
#include "coordinator/api/count.h"
#include "coordinator/api/translate.h"

void api_messages(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL, *translated;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = anthropic_chat_body(body, ANTHROPIC_ANSWER, &translated, &r);
    if (rc == 0)
        chat_answer(arg, x, translated, body, &anthropic_shape);
    else
        reply_refusal(x, &r);
    json_decref(body);
}

void api_messages_count(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL, *translated = NULL;
    size_t n = 0;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = anthropic_chat_body(body, ANTHROPIC_COUNT, &translated, &r);
    if (rc == 0)
        rc = chat_count(arg, x, translated, &n, &r);
    refusal_rename(&r, anthropic_shape.names);
    if (rc == 0)
        reply_json(x, 200, json_pack("{s:I}", "input_tokens", (json_int_t)n));
    else
        reply_refusal(x, &r);
    json_decref(translated);
    json_decref(body);
}
