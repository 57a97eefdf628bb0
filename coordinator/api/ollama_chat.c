/* ollama_chat: POST /api/chat and /api/generate. */
#include "coordinator/api/chat.h"
#include "coordinator/api/completions.h"
#include "coordinator/api/ollama.h"
#include "coordinator/api/ollama_request.h"

/* The model is there as long as this server is: loading it is to find it ready, and unloading does nothing. */
static int answer_idle(const struct api *a, struct http_exchange *x, const json_t *body, bool chat,
                       enum ollama_work work, struct refusal *r)
{
    struct control_route route;
    int rc = work == OLLAMA_LOAD ? api_ready(a, &route, r) : 0;
    if (rc == 0)
        reply_json(x, 200, ollama_idle_json(body, chat, work == OLLAMA_LOAD ? "load" : "unload"));
    return rc;
}

static int answer_chat(const struct api *a, struct http_exchange *x, const json_t *body, struct refusal *r)
{
    json_t *translated;
    int rc = ollama_chat_body(body, &translated, r);
    if (rc == 0)
        chat_answer(a, x, translated, body, &ollama_chat_shape);
    return rc;
}

/* A prompt is a user's turn, unless the request or the model has no turns. */
static int answer_generate(const struct api *a, struct http_exchange *x, const json_t *body, struct refusal *r)
{
    bool raw = json_is_true(json_object_get(body, "raw")) || a->options.chat == NULL ||
               json_string_length(json_object_get(body, "suffix")) > 0;
    json_t *translated;
    int rc = ollama_generate_body(body, raw ? OLLAMA_AS_COMPLETION : OLLAMA_AS_CHAT, &translated, r);
    if (rc == 0 && raw)
        completion_answer(a, x, translated, body, &ollama_generate_shape);
    else if (rc == 0)
        chat_answer(a, x, translated, body, &ollama_generate_shape);
    return rc;
}

static void work_on(const struct api *a, struct http_exchange *x, bool chat)
{
    struct refusal r = { 0 };
    enum ollama_work work = OLLAMA_GENERATE;
    json_t *body = NULL;
    uint32_t adapter = 0;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = ollama_find(a, body, &adapter, &r);
    if (rc == 0)
        rc = api_may_ask(a, x, adapter, &r);
    if (rc == 0)
        rc = ollama_work_of(body, &work, &r);
    if (rc == 0 && work != OLLAMA_GENERATE)
        rc = answer_idle(a, x, body, chat, work, &r);
    else if (rc == 0)
        rc = chat ? answer_chat(a, x, body, &r) : answer_generate(a, x, body, &r);
    if (rc != 0)
        reply_refusal(x, &r);
    json_decref(body);
}

void api_ollama_chat(void *arg, struct http_exchange *x)
{
    work_on(arg, x, true);
}

void api_ollama_generate(void *arg, struct http_exchange *x)
{
    work_on(arg, x, false);
}
