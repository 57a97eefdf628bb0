/* prefill: see prefill.h. */
#include "coordinator/api/prefill.h"

#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"

#define FLAG "continue_final_message"

static bool is_absent(const json_t *v)
{
    return v == NULL || json_is_null(v);
}

static int wants(const json_t *body, const json_t *last, bool *out, struct refusal *r)
{
    const json_t *flag = json_object_get(body, FLAG), *role = json_object_get(last, "role");
    bool assistant = json_is_string(role) && strcmp(json_string_value(role), "assistant") == 0;
    *out = json_is_true(flag) || (assistant && json_is_true(json_object_get(last, "prefix")));
    if (!is_absent(flag) && !json_is_boolean(flag))
        return refuse(r, ERR_INVALID, FLAG, FLAG " must be true or false");
    if (!*out)
        return 0;
    if (!assistant || json_array_size(json_object_get(last, "tool_calls")) > 0)
        return refuse(r, ERR_INVALID, "messages", "to go on with the last message it must be an assistant's, without "
                      "calls");
    if (json_is_true(json_object_get(body, "add_generation_prompt")))
        return refuse(r, ERR_INVALID, FLAG, FLAG " and add_generation_prompt cannot both be true");
    return 0;
}

/* The string, or the texts of parts; NULL: there is none. */
static json_t *text_of(const json_t *content)
{
    const json_t *part;
    struct buffer text;
    size_t i;
    bool fine = json_is_array(content);
    if (json_is_string(content))
        return json_incref((json_t *)(uintptr_t)content);
    buffer_init(&text, API_BODY_MAX);
    json_array_foreach(content, i, part) {
        const json_t *words = json_object_get(part, "text");
        fine = fine && json_is_string(words);
        buffer_add(&text, json_string_value(words), json_string_length(words));
    }
    json_t *out = fine && !buffer_failed(&text) ? json_stringn(buffer_text(&text), text.len) : NULL;
    buffer_close(&text);
    return out;
}

int prefill_read(struct prefill *out, const json_t *body, struct refusal *r)
{
    json_t *messages = json_object_get(body, "messages");
    size_t n = json_array_size(messages);
    const json_t *last = n > 0 ? json_array_get(messages, n - 1) : NULL;
    bool wanted;
    *out = (struct prefill){ 0 };
    int rc = wants(body, last, &wanted, r);
    if (rc != 0 || !wanted)
        return rc;
    out->text = text_of(json_object_get(last, "content"));
    if (out->text == NULL)
        return refuse(r, ERR_INVALID, "messages", "to go on with the last message its content must be text");
    out->before = json_copy(messages);
    json_array_remove(out->before, n - 1);
    return 0;
}

void prefill_close(struct prefill *f)
{
    json_decref(f->before);
    json_decref(f->text);
}

int prefill_add(const struct prefill *f, const struct api *a, struct jinja_output *prompt, struct refusal *r)
{
    size_t n = json_string_length(f->text);
    if (reply_begins_thinking(&a->formats, prompt->text, prompt->len))
        return refuse(r, ERR_UNSUPPORTED, "messages", "this model thinks before it answers, so it cannot go on with an "
                      "answer");
    prompt->text = mem_resize(prompt->text, prompt->len + n + 1, 1);
    memcpy(prompt->text + prompt->len, json_string_value(f->text), n + 1);
    prompt->len += n;
    return 0;
}
