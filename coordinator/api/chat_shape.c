/* chat_shape: a chat's answer as OpenAI's clients know it. */
#include "coordinator/api/chat.h"

#define CHUNK "chat.completion.chunk"

static json_t *logprobs_json(const struct api *a, const struct token_info *tokens, size_t n)
{
    return json_pack("{s:o, s:n}", "content", openai_logprobs_json(a, tokens, n), "refusal");
}

/* ---- a stream ---- */

static void chat_begin(struct answer_view *v, void *state, struct buffer *out)
{
    (void)state;
    for (uint32_t i = 0; i < v->n_choices; i++)
        openai_chunk(v, CHUNK, json_pack("{s:i, s:{s:s, s:s}, s:n, s:n}", "index", (int)i, "delta", "role", "assistant",
                                         "content", "", "logprobs", "finish_reason"), NULL, out);
}

static json_t *delta_json(const struct piece *p)
{
    if (p->finish != NULL)
        return json_object();
    switch (p->kind) {
    case PIECE_REASONING:
        return json_pack("{s:s%, s:s%}", "reasoning_content", p->text, p->len, "reasoning", p->text, p->len);
    case PIECE_CALL:
        return json_pack("{s:[{s:i, s:s, s:s, s:{s:s, s:s}}]}", "tool_calls", "index", (int)p->call, "id", p->call_id,
                         "type", "function", "function", "name", p->call_name, "arguments", "");
    case PIECE_ARGUMENTS:
        return json_pack("{s:[{s:i, s:{s:s%}}]}", "tool_calls", "index", (int)p->call, "function", "arguments",
                         p->text, p->len);
    default: return json_pack("{s:s%}", "content", p->text, p->len);
    }
}

static void chat_piece(struct answer_view *v, void *state, const struct piece *p, struct buffer *out)
{
    bool logprobs = v->logprobs && p->finish == NULL;
    (void)state;
    json_t *choice = json_pack("{s:i, s:o, s:o, s:s?}", "index", (int)p->choice, "delta", delta_json(p), "logprobs",
                               logprobs ? logprobs_json(v->api, p->tokens, p->n_tokens) : json_null(), "finish_reason",
                               p->finish);
    openai_chunk(v, CHUNK, choice, NULL, out);
}

static void chat_end(struct answer_view *v, void *state, struct buffer *out)
{
    (void)state;
    openai_end(v, CHUNK, out);
}

/* ---- one object ---- */

static json_t *calls_json(const struct choice_whole *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_calls; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", c->calls[i].id, "type", "function",
                                              "function", "name", c->calls[i].name, "arguments",
                                              c->calls[i].arguments));
    return list;
}

/* Content is null where there are only calls; fields that say nothing are left out. */
static json_t *message_json(const struct choice_whole *c)
{
    json_t *m = json_pack("{s:s}", "role", "assistant");
    bool only_calls = c->n_calls > 0 && c->text_len == 0;
    json_object_set_new(m, "content", only_calls ? json_null() : json_stringn(c->text, c->text_len));
    json_object_set_new(m, "refusal", json_null());
    if (c->reasoning_len > 0) {
        json_object_set_new(m, "reasoning_content", json_stringn(c->reasoning, c->reasoning_len));
        json_object_set_new(m, "reasoning", json_stringn(c->reasoning, c->reasoning_len));
    }
    if (c->n_calls > 0)
        json_object_set_new(m, "tool_calls", calls_json(c));
    return m;
}

static json_t *chat_whole(struct answer_view *v, const struct choice_whole *choices, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) {
        const struct choice_whole *c = &choices[i];
        json_t *logprobs = v->logprobs ? logprobs_json(v->api, c->tokens, c->n_tokens) : json_null();
        json_array_append_new(list, json_pack("{s:i, s:o, s:o, s:s}", "index", (int)i, "message", message_json(c),
                                              "logprobs", logprobs, "finish_reason", c->finish));
    }
    json_t *j = openai_envelope(v, "chat.completion", list);
    json_object_set_new(j, "usage", usage_json(&v->usage));
    return j;
}

const struct shape openai_chat_shape = {
    .id_prefix = "chatcmpl-",
    .media_type = "text/event-stream",
    .begin = chat_begin,
    .piece = chat_piece,
    .end = chat_end,
    .fail = openai_fail,
    .whole = chat_whole,
};
