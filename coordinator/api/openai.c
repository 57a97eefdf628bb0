/* openai: what the answers of chat, completions and responses have in common. */
#include "coordinator/api/answer.h"

json_t *usage_json(const struct usage *u)
{
    return json_pack("{s:I, s:I, s:I, s:{s:i}, s:{s:I}}", "prompt_tokens", (json_int_t)u->prompt_tokens,
                     "completion_tokens", (json_int_t)u->completion_tokens, "total_tokens",
                     (json_int_t)(u->prompt_tokens + u->completion_tokens), "prompt_tokens_details", "cached_tokens", 0,
                     "completion_tokens_details", "reasoning_tokens", (json_int_t)u->reasoning_tokens);
}

static json_t *token_json(const struct api *a, int32_t id, float logprob)
{
    return json_pack("{s:o, s:o, s:o}", "token", token_text_json(a, id), "logprob", logprob_json(logprob), "bytes",
                     token_bytes_json(a, id));
}

json_t *openai_logprobs_json(const struct api *a, const struct token_info *tokens, size_t n)
{
    json_t *content = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct token_info *t = &tokens[i];
        json_t *top = json_array();
        for (uint32_t k = 0; k < t->n_top; k++)
            json_array_append_new(top, token_json(a, t->top[k].token, t->top[k].logprob));
        json_t *j = token_json(a, t->id, t->logprob);
        json_object_set_new(j, "top_logprobs", top);
        json_array_append_new(content, j);
    }
    return content;
}

json_t *openai_envelope(const struct answer_view *v, const char *object, json_t *choices)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", v->id, "object", object, "created", (json_int_t)v->created,
                     "model", v->model, "system_fingerprint", v->api->fingerprint, "choices", choices);
}

static void add_member(struct buffer *out, const char *name, json_t *takes)
{
    buffer_add_text(out, name);
    json_add(out, takes);
    json_decref(takes);
}

/* The envelope of every token, written straight: as one JSON value it would cost more than all else that is done for a
 * token. */
void openai_chunk(const struct answer_view *v, const char *object, json_t *choice, json_t *usage, struct buffer *out)
{
    add_member(out, "data: {\"id\":", json_string(v->id));
    add_member(out, ",\"object\":", json_string(object));
    add_member(out, ",\"created\":", json_integer(v->created));
    add_member(out, ",\"model\":", json_string(v->model));
    add_member(out, ",\"system_fingerprint\":", json_string(v->api->fingerprint));
    buffer_add_text(out, ",\"choices\":[");
    if (choice != NULL)
        add_member(out, "", choice);
    buffer_add_text(out, "]");
    if (v->include_usage)
        add_member(out, ",\"usage\":", usage != NULL ? usage : json_null());
    buffer_add_text(out, "}\n\n");
}

void openai_end(const struct answer_view *v, const char *object, struct buffer *out)
{
    if (v->include_usage)
        openai_chunk(v, object, NULL, usage_json(&v->usage), out);
    buffer_add_text(out, "data: [DONE]\n\n");
}

void openai_fail(struct answer_view *v, void *state, const struct error *e, struct buffer *out)
{
    struct refusal r = { .error = *e };
    (void)v;
    (void)state;
    put_event(out, NULL, refusal_json(&r, ERRORS_OPENAI));
}
