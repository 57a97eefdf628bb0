/* chat: POST /v1/chat/completions. */
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/answer.h"
#include "coordinator/api/request.h"

/* ---- the shape of the answer ---- */

static json_t *token_json(const struct api *a, int32_t id, float logprob)
{
    return json_pack("{s:o, s:o, s:o}", "token", token_text_json(a, id), "logprob", logprob_json(logprob), "bytes",
                     token_bytes_json(a, id));
}

static json_t *logprobs_json(const struct api *a, const struct piece *p)
{
    json_t *content = json_array();
    for (size_t i = 0; i < p->n_tokens; i++) {
        const struct token_info *t = &p->tokens[i];
        json_t *top = json_array();
        for (uint32_t k = 0; k < t->n_top; k++)
            json_array_append_new(top, token_json(a, t->top[k].token, t->top[k].logprob));
        json_t *j = token_json(a, t->id, t->logprob);
        json_object_set_new(j, "top_logprobs", top);
        json_array_append_new(content, j);
    }
    return json_pack("{s:o, s:n}", "content", content, "refusal");
}

static json_t *opening(uint32_t choice)
{
    return json_pack("{s:i, s:{s:s, s:s}, s:n, s:n}", "index", (int)choice, "delta", "role", "assistant", "content", "",
                     "logprobs", "finish_reason");
}

static json_t *delta(const struct api *a, const struct piece *p, bool logprobs)
{
    return json_pack("{s:i, s:{s:s%}, s:o, s:n}", "index", (int)p->choice, "delta", "content", p->text, p->len,
                     "logprobs", logprobs ? logprobs_json(a, p) : json_null(), "finish_reason");
}

static json_t *ending(const struct piece *p)
{
    return json_pack("{s:i, s:{}, s:n, s:s}", "index", (int)p->choice, "delta", "logprobs", "finish_reason", p->finish);
}

static json_t *whole(const struct api *a, const struct piece *p, bool logprobs)
{
    return json_pack("{s:i, s:{s:s, s:s%, s:n}, s:o, s:s}", "index", (int)p->choice, "message", "role", "assistant",
                     "content", p->text, p->len, "refusal", "logprobs", logprobs ? logprobs_json(a, p) : json_null(),
                     "finish_reason", p->finish);
}

static const struct shape chat_shape = {
    .id_prefix = "chatcmpl",
    .object = "chat.completion",
    .chunk_object = "chat.completion.chunk",
    .opening = opening,
    .delta = delta,
    .ending = ending,
    .whole = whole,
};

/* ---- messages ---- */

static const char *const roles[] = { "system", "developer", "user", "assistant", "tool" };

static int read_role(const json_t *message, const char *param, const char **out, struct refusal *r)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    for (size_t i = 0; role != NULL && i < COUNTOF(roles); i++) {
        if (strcmp(role, roles[i]) == 0) {
            *out = roles[i];
            return 0;
        }
    }
    return refuse(r, ERR_INVALID, param, "%s.role must be system, developer, user, assistant or tool", param);
}

/* The text of a list of parts, one after the other. Caller frees. */
static int join_parts(const json_t *parts, const char *param, char **out, struct refusal *r)
{
    struct buffer text;
    buffer_init(&text, API_BODY_MAX);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *words = json_object_get(part, "text");
        if (type == NULL || strcmp(type, "text") != 0 || !json_is_string(words)) {
            buffer_close(&text);
            return refuse(r, type == NULL ? ERR_INVALID : ERR_UNSUPPORTED, param,
                          "%s.content: only parts of type \"text\" are supported", param);
        }
        buffer_add_text(&text, json_string_value(words));
    }
    *out = mem_strdup(buffer_text(&text));
    buffer_close(&text);
    return 0;
}

/* Null content is empty. Caller frees. */
static int read_content(const json_t *message, const char *param, char **out, struct refusal *r)
{
    const json_t *content = json_object_get(message, "content");
    const json_t *calls = json_object_get(message, "tool_calls");
    if (json_array_size(calls) > 0)
        return refuse(r, ERR_UNSUPPORTED, param, "%s.tool_calls: tools are not supported by this server yet", param);
    if (json_is_array(content))
        return join_parts(content, param, out, r);
    bool assistant = strcmp(json_string_value(json_object_get(message, "role")), "assistant") == 0;
    if (!json_is_string(content) && !(assistant && (content == NULL || json_is_null(content))))
        return refuse(r, ERR_INVALID, param, "%s.content must be a string or a list of parts", param);
    *out = mem_strdup(json_is_string(content) ? json_string_value(content) : "");
    return 0;
}

static void messages_free(struct chat_message *messages, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mem_free((void *)(uintptr_t)messages[i].content);
    mem_free(messages);
}

static int read_message(const json_t *message, size_t i, struct chat_message *out, struct refusal *r)
{
    char param[32];
    snprintf(param, sizeof(param), "messages[%zu]", i);
    if (!json_is_object(message))
        return refuse(r, ERR_INVALID, param, "%s must be an object", param);
    char *content = NULL;
    int rc = read_role(message, param, &out->role, r);
    if (rc == 0)
        rc = read_content(message, param, &content, r);
    out->content = content;
    return rc;
}

static int read_messages(const json_t *body, struct chat_message **out, size_t *n, struct refusal *r)
{
    const json_t *list = json_object_get(body, "messages");
    *n = json_array_size(list);
    if (*n == 0)
        return refuse(r, ERR_INVALID, "messages", "messages must be a list of at least one message");
    if (*n > CHAT_MESSAGES_MAX)
        return refuse(r, ERR_LIMIT, "messages", "at most %d messages are taken", (int)CHAT_MESSAGES_MAX);
    *out = mem_array(*n, sizeof(**out));
    int rc = 0;
    for (size_t i = 0; i < *n && rc == 0; i++)
        rc = read_message(json_array_get(list, i), i, &(*out)[i], r);
    if (rc != 0)
        messages_free(*out, *n);
    return rc;
}

static int encode(const struct api *a, const struct chat_message *messages, size_t n, struct prompt *out,
                  struct refusal *r)
{
    if (a->options.chat == NULL)
        return refuse(r, ERR_UNSUPPORTED, NULL,
                      "this model has no chat format that is known here: use /v1/completions");
    int rc = chat_encode(a->options.chat, a->options.tokenizer, messages, n, true, &out->tokens, &r->error);
    if (rc != 0 && r->param[0] == '\0')
        snprintf(r->param, sizeof(r->param), "messages");
    return rc;
}

static int chat_prompt(const struct api *a, const json_t *body, struct prompt **out, struct refusal *r)
{
    struct chat_message *messages = NULL;
    size_t n;
    int rc = read_messages(body, &messages, &n, r);
    if (rc != 0)
        return rc;
    *out = mem_array(1, sizeof(**out));
    rc = encode(a, messages, n, *out, r);
    messages_free(messages, n);
    return rc;
}

void api_chat(void *arg, struct http_exchange *x)
{
    struct generation_request q;
    if (request_open(&q, arg, x, FOR_CHAT) != 0)
        return;
    int rc = chat_prompt(arg, q.body, &q.prompts, &q.refusal);
    q.n_prompts = q.prompts == NULL ? 0 : 1;
    request_answer(&q, rc, &chat_shape);
}
