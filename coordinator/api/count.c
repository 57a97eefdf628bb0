/* count: POST /v1/chat/completions/input_tokens, and the same for other families' bodies. */
#include "coordinator/api/count.h"

#include "base/memory.h"
#include "coordinator/api/chat.h"

int chat_count(const struct api *a, const struct http_exchange *x, const json_t *body, size_t *out,
               struct refusal *r)
{
    struct prompt *prompt = NULL;
    uint32_t adapter = 0;
    int rc = api_find_model(a, body, &adapter, r);
    if (rc == 0)
        rc = api_may_ask(a, x, adapter, r);
    if (rc == 0)
        rc = chat_prompt(a, body, &prompt, NULL, r);
    if (rc == 0)
        *out = prompt->tokens.count;
    if (prompt != NULL)
        prompt_free(prompt);
    mem_free(prompt);
    return rc;
}

json_t *count_json(size_t n)
{
    return json_pack("{s:s, s:I}", "object", "response.input_tokens", "input_tokens", (json_int_t)n);
}

void api_chat_count(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL;
    size_t n = 0;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = chat_count(arg, x, body, &n, &r);
    if (rc == 0)
        reply_json(x, 200, count_json(n));
    else
        reply_refusal(x, &r);
    json_decref(body);
}
