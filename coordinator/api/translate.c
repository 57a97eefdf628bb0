/* translate: see translate.h. */
#include "coordinator/api/translate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"

enum { TOKENS_MAX = 1 << 24 };

bool is_absent(const json_t *v)
{
    return v == NULL || json_is_null(v);
}

const char *text_at(const json_t *object, const char *field)
{
    return json_string_value(json_object_get(object, field));
}

void copy_fields(json_t *to, const json_t *from, const char *const *names)
{
    for (; *names != NULL; names++)
        if (!is_absent(json_object_get(from, *names)))
            json_object_set(to, *names, json_object_get(from, *names));
}

void put_where(char where[static WHERE_BYTES], const char *list, size_t i)
{
    snprintf(where, WHERE_BYTES, "%s[%zu]", list, i);
}

int copy_length(json_t *to, const char *name, const json_t *from, const char *field, struct refusal *r)
{
    json_t *most = json_object_get(from, field);
    double number = json_number_value(most);
    if (is_absent(most))
        return 0;
    if (!json_is_number(most) || number != floor(number) || number < 1 || number > TOKENS_MAX)
        return refuse(r, ERR_INVALID, field, "%s must be an integer from 1 to %d", field, (int)TOKENS_MAX);
    json_object_set(to, name, most);
    return 0;
}

/* The length of such a name at the text's begin, with what follows it; 0: it does not begin so. */
static size_t name_len(const char *text, const char *name)
{
    size_t n = strlen(name);
    if (strncmp(text, name, n) != 0 || (text[n] != '\0' && strchr(" :.[", text[n]) == NULL))
        return 0;
    return n + strcspn(text + n, " :");
}

void refusal_rename(struct refusal *r, const struct field_name *names)
{
    for (; names != NULL && names->from != NULL; names++) {
        if (name_len(r->param, names->from) == 0)
            continue;
        size_t n = name_len(r->error.text, names->from);
        if (n > 0) {
            char text[sizeof(r->error.text)];
            snprintf(text, sizeof(text), "%s%s", names->to, r->error.text + n);
            memcpy(r->error.text, text, sizeof(text));
        }
        snprintf(r->param, sizeof(r->param), "%s", names->to);
        return;
    }
}

int part_add(json_t *parts, const json_t *text, const char *where, struct refusal *r)
{
    if (!json_is_string(text))
        return refuse(r, ERR_INVALID, where, "%s: the text must be a string", where);
    json_array_append_new(parts, json_pack("{s:s, s:O}", "type", "text", "text", text));
    return 0;
}

json_t *parts_content(const json_t *parts)
{
    if (json_array_size(parts) > 1)
        return json_copy((json_t *)(uintptr_t)parts);
    json_t *text = json_object_get(json_array_get(parts, 0), "text");
    return text != NULL ? json_incref(text) : json_string("");
}

json_t *texts_joined(const json_t *texts)
{
    struct buffer all;
    json_t *text;
    size_t i;
    buffer_init(&all, API_BODY_MAX);
    json_array_foreach(texts, i, text) {
        if (i > 0)
            buffer_add_text(&all, "\n");
        buffer_add(&all, json_string_value(text), json_string_length(text));
    }
    json_t *j = json_stringn(buffer_text(&all), all.len);
    buffer_close(&all);
    return j;
}

void message_flush(json_t *messages, const char *role, json_t *parts)
{
    if (json_array_size(parts) == 0)
        return;
    json_array_append_new(messages, json_pack("{s:s, s:o}", "role", role, "content", parts_content(parts)));
    json_array_clear(parts);
}

void message_said(json_t *messages, const json_t *parts, const json_t *thoughts, const json_t *calls)
{
    bool only_calls = json_array_size(calls) > 0 && json_array_size(parts) == 0;
    json_t *m = json_pack("{s:s, s:o}", "role", "assistant", "content",
                          only_calls ? json_null() : parts_content(parts));
    if (json_array_size(thoughts) > 0)
        json_object_set_new(m, "reasoning_content", texts_joined(thoughts));
    if (json_array_size(calls) > 0)
        json_object_set_new(m, "tool_calls", json_copy((json_t *)(uintptr_t)calls));
    json_array_append_new(messages, m);
}

json_t *call_json(const char *id, const char *name, const char *arguments)
{
    return json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", id, "type", "function", "function", "name", name, "arguments",
                     arguments);
}
