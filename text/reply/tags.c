/* tags: functions whose parameters are plain text in tags; their values become JSON by the tool's schema. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/reply/private.h"

/* The inside of a JSON string. */
static void escape(struct buffer *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '"' || c == '\\')
            buffer_u8(out, '\\');
        if (c == '\n')
            buffer_add_text(out, "\\n");
        else if ((unsigned char)c < ' ')
            buffer_printf(out, "\\u%04x", (unsigned)(unsigned char)c);
        else
            buffer_add(out, &c, 1);
    }
}

static void give_string(struct reply *r, const char *before, const char *text, size_t n, const char *after)
{
    struct buffer out;
    buffer_init(&out, SIZE_MAX / 2);
    buffer_add_text(&out, before);
    escape(&out, text, n);
    buffer_add_text(&out, after);
    reply_give(r, REPLY_ARGUMENTS, buffer_text(&out), out.len);
    buffer_close(&out);
}

void reply_tags_begin(struct reply *r, const char *name)
{
    const json_t *parameters = json_object_get(reply_tool(r->o.tools, name), "parameters");
    r->properties = json_object_get(parameters, "properties");
    r->n_parameters = 0;
    r->state = STATE_NEXT;
}

/* ---- between parameters ---- */

static bool end_function(struct reply *r, size_t drop)
{
    reply_give(r, REPLY_ARGUMENTS, "{}", r->n_parameters == 0 ? 2 : 0);
    reply_give(r, REPLY_ARGUMENTS, "}", r->n_parameters == 0 ? 0 : 1);
    reply_drop(r, drop);
    r->state = STATE_AFTER;
    return true;
}

static bool is_string(const json_t *schema)
{
    const char *type = json_string_value(json_object_get(schema, "type"));
    return type ? strcmp(type, "string") == 0 : json_is_string(json_array_get(json_object_get(schema, "enum"), 0));
}

/* A parameter's name at p[at], its value after p[end]. */
static bool begin_value(struct reply *r, size_t at, size_t len, size_t end)
{
    const char *p = buffer_text(&r->pending) + at, *flag = r->tags->flag;
    size_t blanks = reply_blanks(p, len), n_flag = flag ? strlen(flag) : 0;
    const char *told = flag ? memmem(p, len, flag, n_flag) : NULL;
    bool text = told && (size_t)(p + len - told) >= n_flag + 4 && memcmp(told + n_flag, "true", 4) == 0;
    len = told ? (size_t)(told - p) : len;
    p += blanks;
    len -= blanks;
    while (len > 0 && reply_blanks(p + len - 1, 1))
        len--;
    give_string(r, r->n_parameters == 0 ? "{\"" : ", \"", p, len, "\": ");
    char *key = mem_strndup(p, len);
    r->property = json_object_get(r->properties, key);
    mem_free(key);
    r->is_text = told ? text : is_string(r->property);
    r->begun = false;
    r->searched = 0;
    r->n_parameters++;
    r->state = STATE_VALUE;
    reply_drop(r, end);
    return true;
}

/* At a key's tag. 1: all of it is there, up to the value; 0: more must come; -1: it is no key. */
static int read_key(const struct reply_tags *t, const char *p, size_t n, size_t *at, size_t *len, size_t *end)
{
    size_t i = strlen(t->key);
    const char *stop = memmem(p + i, n - i, t->key_end, strlen(t->key_end));
    *at = i;
    if (!stop)
        return n > REPLY_HEAD_MAX ? -1 : 0;
    *len = (size_t)(stop - p) - i;
    *end = i + *len + strlen(t->key_end);
    if (!t->value)
        return 1;
    *end += reply_blanks(p + *end, n - *end);
    int got = reply_begins(p + *end, n - *end, t->value);
    *end += strlen(t->value);
    return got == 0 && n > REPLY_HEAD_MAX ? -1 : got;
}

bool reply_step_next(struct reply *r)
{
    const struct reply_tags *t = r->tags;
    reply_drop(r, reply_blanks(buffer_text(&r->pending), r->pending.len)); /* there may be any amount of it */
    const char *p = buffer_text(&r->pending), *stop = t->function_end ? t->function_end : r->o.formats.calls->close;
    size_t n = r->pending.len, at = 0, len = 0, end = 0;
    int over = reply_begins(p, n, stop), key = reply_begins(p, n, t->key);
    if (over == 1)
        return end_function(r, t->function_end ? strlen(stop) : 0);
    if (key == 1)
        key = read_key(t, p, n, &at, &len, &end);
    if (key == 1)
        return begin_value(r, at, len, end);
    if ((key == 0 || over == 0) && !r->ended)
        return false;
    return end_function(r, 0);
}

/* ---- values ---- */

/* As some models write them. */
static const char *literal(const char *text, size_t n)
{
    static const char *const rows[][2] = {{"True", "true"}, {"False", "false"}, {"None", "null"}};
    for (size_t i = 0; i < COUNTOF(rows); i++)
        if (n == strlen(rows[i][0]) && memcmp(text, rows[i][0], n) == 0)
            return rows[i][1];
    return NULL;
}

/* A value that need not be a string: JSON where it is, else a string. */
static void give_value(struct reply *r, const char *text, size_t n)
{
    size_t blanks = reply_blanks(text, n), len = n - blanks;
    const char *p = text + blanks;
    while (len > 0 && reply_blanks(p + len - 1, 1))
        len--;
    json_t *j = json_loadb(p, len, JSON_DECODE_ANY, NULL);
    const char *known = literal(p, len);
    if (j)
        reply_give(r, REPLY_ARGUMENTS, p, len);
    else if (known)
        reply_give(r, REPLY_ARGUMENTS, known, strlen(known));
    else
        give_string(r, "\"", text, n, "\"");
    json_decref(j);
}

/* A new line at the beginning is not of the value. False: it is not known yet whether there is one. */
static bool open_value(struct reply *r)
{
    if (r->begun)
        return true;
    if (r->pending.len == 0 && !r->ended)
        return false;
    if (r->tags->trims && r->pending.len > 0 && buffer_text(&r->pending)[0] == '\n')
        reply_drop(r, 1);
    r->begun = true;
    if (r->is_text)
        reply_give(r, REPLY_ARGUMENTS, "\"", 1);
    return true;
}

static bool end_value(struct reply *r, size_t len)
{
    const char *p = buffer_text(&r->pending);
    size_t n = r->tags->trims && len > 0 && p[len - 1] == '\n' ? len - 1 : len;
    if (r->is_text)
        give_string(r, "", p, n, "\"");
    else
        give_value(r, p, n);
    reply_drop(r, len + strlen(r->tags->value_end));
    r->state = STATE_NEXT;
    return true;
}

bool reply_step_value(struct reply *r)
{
    const char *end = r->tags->value_end;
    if (!open_value(r))
        return false;
    const char *p = buffer_text(&r->pending);
    const char *stop = memmem(p + r->searched, r->pending.len - r->searched, end, strlen(end));
    if (stop)
        return end_value(r, (size_t)(stop - p));
    if (!r->is_text && (r->ended || r->pending.len > REPLY_VALUE_MAX)) {
        reply_give(r, REPLY_ARGUMENTS, "\"", 1);
        r->is_text = true;
    }
    size_t held = r->ended ? 0 : reply_tail(p, r->pending.len, end);
    r->searched = r->is_text ? 0 : r->pending.len - held;
    if (!r->is_text)
        return false;
    size_t n = r->pending.len - held;
    if (!r->ended && r->tags->trims && n > 0 && p[n - 1] == '\n')
        n--;
    give_string(r, "", p, n, "");
    reply_drop(r, n);
    return false;
}
