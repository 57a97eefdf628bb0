/* request: body, model, parameters, readiness; then the prompts' length; then the answer. */
#include "coordinator/api/request.h"

#include <string.h>

#include "base/memory.h"
#include "coordinator/api/keys.h"
#include "coordinator/api/translate.h"

int api_refuse_model(const struct api *a, const char *id, struct refusal *r)
{
    uint32_t n = a->options.n_adapters;
    r->code = "model_not_found";
    return refuse(r, ERR_NOT_FOUND, "model",
                  "The model `%.100s` does not exist; this server has `%.150s`%s%.250s%s.", id, a->model_name,
                  n ? ", and with an adapter `" : "", n ? a->ids[1] : "",
                  n > 1 ? "` and others (/v1/models)" : n ? "`" : "");
}

bool api_model_named(const struct api *a, const char *name, uint32_t *adapter)
{
    for (*adapter = 0; *adapter <= a->options.n_adapters; ++*adapter) {
        size_t n = strlen(a->ids[*adapter]);
        if (strncmp(name, a->ids[*adapter], n) == 0 && (name[n] == '\0' || strcmp(name + n, ":latest") == 0))
            return true;
    }
    *adapter = 0;
    return false;
}

int api_find_model(const struct api *a, const json_t *body, uint32_t *adapter, struct refusal *r)
{
    *adapter = 0;
    const json_t *model = json_object_get(body, "model");
    if (model == NULL || json_is_null(model))
        return 0;
    if (!json_is_string(model))
        return refuse(r, ERR_INVALID, "model", "model must be a string");
    const char *name = json_string_value(model);
    if (name[0] == '\0')
        return 0;
    return api_model_named(a, name, adapter) ? 0 : api_refuse_model(a, name, r);
}

int api_may_ask(const struct api *a, const struct http_exchange *x, uint32_t adapter, struct refusal *r)
{
    const struct key *key = http_held(x);
    if (key == NULL || keys_allows(key, a->ids[adapter]))
        return 0;
    r->code = "model_not_found";
    return refuse(r, ERR_DENIED, "model", "This API key does not have access to the model `%.200s`.",
                  a->ids[adapter]);
}

int api_ready(const struct api *a, struct control_route *route, struct refusal *r)
{
    control_route(a->options.control, route);
    if (route->state == CONTROL_READY)
        return 0;
    return refuse(r, ERR_UNAVAILABLE, NULL, "The model is not ready: %s", route->text);
}

uint32_t api_context(const struct control_route *route)
{
    return route->kv_tokens > 0 && route->kv_tokens < route->context ? route->kv_tokens : route->context;
}

static void request_close(struct generation_request *q)
{
    for (size_t i = 0; i < q->n_prompts; i++)
        prompt_free(&q->prompts[i]);
    mem_free(q->prompts);
    params_close(&q->params);
    json_decref(q->body);
    json_decref(q->original);
}

/* Fields are named as in the client's own body. */
static void reply_named(struct generation_request *q)
{
    refusal_rename(&q->refusal, q->shape->names);
    reply_refusal(q->x, &q->refusal);
}

int request_open(struct generation_request *q, const struct api *a, struct http_exchange *x, json_t *takes_body,
                 const json_t *original, enum endpoint endpoint, const struct shape *shape)
{
    memset(q, 0, sizeof(*q));
    q->api = a;
    q->x = x;
    q->shape = shape;
    q->prompt_field = endpoint == FOR_CHAT ? "messages" : "prompt";
    q->body = takes_body;
    q->original = json_incref((json_t *)(uintptr_t)original);
    uint32_t adapter = 0;
    int rc = api_find_model(a, q->body, &adapter, &q->refusal);
    if (rc == 0)
        rc = api_may_ask(a, x, adapter, &q->refusal);
    if (rc == 0)
        rc = params_read(&q->params, q->body, endpoint, a, &q->refusal);
    q->params.adapter = adapter;
    if (rc == 0)
        rc = api_ready(a, &q->route, &q->refusal);
    if (rc != 0) {
        reply_named(q);
        request_close(q);
    }
    return rc;
}

/* In OpenAI's or Anthropic's words, which clients look for. */
static int refuse_length(struct generation_request *q, size_t n, uint32_t context)
{
    const char *where = q->prompt_field;
    int64_t wanted = q->params.max_tokens;
    q->refusal.code = "context_length_exceeded";
    if (n >= context && reply_form(q->x) == ERRORS_ANTHROPIC)
        return refuse(&q->refusal, ERR_LIMIT, where, "prompt is too long: %zu tokens > %u maximum", n, context);
    if (n >= context)
        return refuse(&q->refusal, ERR_LIMIT, where,
                      "This model's maximum context length is %u tokens. However, your %s resulted in %zu tokens. "
                      "Please reduce the length of the %s.", context, where, n, where);
    return refuse(&q->refusal, ERR_LIMIT, where,
                  "This model's maximum context length is %u tokens. However, you requested %llu tokens (%zu in the "
                  "%s, %lld in the completion). Please reduce the length of the %s or completion.", context,
                  (unsigned long long)n + (unsigned long long)wanted, n, where, (long long)wanted, where);
}

static int check_length(struct generation_request *q, size_t n)
{
    const char *where = q->prompt_field;
    uint32_t context = api_context(&q->route);
    int64_t wanted = q->params.max_tokens;
    if (n == 0)
        return refuse(&q->refusal, ERR_INVALID, where, "the %s has no tokens", where);
    bool fits = wanted < 0 ? n < context : n + (uint64_t)wanted <= context;
    return fits ? 0 : refuse_length(q, n, context);
}

void request_answer(struct generation_request *q, int rc)
{
    for (size_t i = 0; i < q->n_prompts && rc == 0; i++)
        rc = check_length(q, q->prompts[i].tokens.count);
    if (rc != 0) {
        reply_named(q);
    } else {
        answer(q->api, q->x, q->shape, &q->params, q->original, q->prompts, q->n_prompts, api_context(&q->route));
        q->prompts = NULL; /* taken */
        q->n_prompts = 0;
    }
    request_close(q);
}
