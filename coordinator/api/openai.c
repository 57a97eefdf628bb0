/* openai: what the answers of chat and of completions have in common. */
#include "coordinator/api/answer.h"

json_t *usage_json(const struct usage *u)
{
    return json_pack("{s:I, s:I, s:I, s:{s:i}, s:{s:I}}", "prompt_tokens", (json_int_t)u->prompt_tokens,
                     "completion_tokens", (json_int_t)u->completion_tokens, "total_tokens",
                     (json_int_t)(u->prompt_tokens + u->completion_tokens), "prompt_tokens_details", "cached_tokens", 0,
                     "completion_tokens_details", "reasoning_tokens", (json_int_t)u->reasoning_tokens);
}

json_t *openai_envelope(const struct answer_view *v, const char *object, json_t *choices)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", v->id, "object", object, "created", (json_int_t)v->created,
                     "model", v->model, "system_fingerprint", v->api->fingerprint, "choices", choices);
}

void openai_chunk(const struct answer_view *v, const char *object, json_t *choice, json_t *usage, struct buffer *out)
{
    json_t *choices = json_array();
    if (choice != NULL)
        json_array_append_new(choices, choice);
    json_t *j = openai_envelope(v, object, choices);
    if (v->include_usage)
        json_object_set_new(j, "usage", usage != NULL ? usage : json_null());
    put_event(out, NULL, j);
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
