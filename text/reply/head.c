/* head: what stands behind a call's mark, up to its arguments. */
#include <string.h>

#include "base/memory.h"
#include "text/reply/private.h"

/* ---- JSON ---- */

static int skip_string(const char *p, size_t n, size_t *at)
{
    for (size_t i = *at + 1; i < n; i++) {
        if (p[i] == '\\')
            i++;
        else if (p[i] == '"') {
            *at = i + 1;
            return 1;
        }
    }
    return 0;
}

static int skip_nested(const char *p, size_t n, size_t *at)
{
    size_t depth = 0;
    for (size_t i = *at; i < n;) {
        if (p[i] == '"') {
            if (skip_string(p, n, &i) == 0)
                return 0;
            continue;
        }
        depth += p[i] == '{' || p[i] == '[';
        depth -= p[i] == '}' || p[i] == ']';
        i++;
        if (depth == 0) {
            *at = i;
            return 1;
        }
    }
    return 0;
}

int reply_skip_value(const char *p, size_t n, size_t *at)
{
    size_t i = *at;
    if (i == n)
        return 0;
    if (p[i] == '"')
        return skip_string(p, n, at);
    if (p[i] == '{' || p[i] == '[')
        return skip_nested(p, n, at);
    while (i < n && p[i] != '\0' && strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", p[i]))
        i++;
    if (i == n)
        return 0;
    if (i == *at)
        return -1;
    *at = i;
    return 1;
}

/* A key with its colon, at the value afterwards. */
int reply_read_key(const char *p, size_t n, size_t *at, size_t *key, size_t *key_len)
{
    size_t i = *at + reply_blanks(p + *at, n - *at);
    if (i == n)
        return 0;
    if (p[i] != '"')
        return -1;
    *key = i + 1;
    if (skip_string(p, n, &i) == 0)
        return 0;
    *key_len = i - 1 - *key;
    i += reply_blanks(p + i, n - i);
    if (i == n)
        return 0;
    if (p[i++] != ':')
        return -1;
    *at = i + reply_blanks(p + i, n - i);
    return 1;
}

static bool is_name(const char *text, size_t n)
{
    if (n == 0 || n > REPLY_NAME_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] <= ' ' || strchr("\"\\<>{}[](),=`", text[i]))
            return false;
    return true;
}

static bool take_name(struct head *h, const char *text, size_t n)
{
    if (!is_name(text, n))
        return false;
    memcpy(h->name, text, n);
    h->name[n] = '\0';
    return true;
}

static bool is_key(const char *key, size_t n, const char *word)
{
    return word && n == strlen(word) && memcmp(key, word, n) == 0;
}

static bool names_function(const struct reply_format *c, const char *key, size_t n)
{
    return is_key(key, n, c->name_key) || is_key(key, n, "name") || is_key(key, n, "tool_name") ||
           is_key(key, n, "function");
}

static bool names_arguments(const struct reply_format *c, const char *key, size_t n)
{
    return is_key(key, n, c->arguments_key) || is_key(key, n, "arguments") || is_key(key, n, "parameters");
}

/* Arguments that are there as a whole: an object, a text of one, or nothing. */
static bool take_whole(struct head *h, const char *text, size_t n)
{
    json_decref(h->whole);
    h->whole = json_loadb(text, n, JSON_DECODE_ANY, NULL);
    h->raw = text;
    h->raw_len = n;
    if (json_is_string(h->whole)) {
        json_t *inner = json_loads(json_string_value(h->whole), 0, NULL);
        json_decref(h->whole);
        h->whole = inner;
        h->raw = NULL;
    } else if (json_is_null(h->whole)) {
        h->whole = NULL;
        return true;
    }
    return json_is_object(h->whole);
}

/* One member of a call's object. 1: it was read; 2: its value is the arguments, which may go by as they come. */
static int read_member(const struct reply_format *c, const char *p, size_t n, size_t *at, struct head *h)
{
    size_t key = 0, key_len = 0;
    int got = reply_read_key(p, n, at, &key, &key_len);
    if (got <= 0)
        return got;
    bool arguments = names_arguments(c, p + key, key_len);
    if (arguments && h->name[0] != '\0' && *at < n && p[*at] == '{')
        return 2;
    size_t value = *at;
    got = reply_skip_value(p, n, at);
    if (got <= 0)
        return got;
    if (arguments)
        return take_whole(h, p + value, *at - value) ? 1 : -1;
    if (h->name[0] == '\0' && names_function(c, p + key, key_len))
        return p[value] == '"' && take_name(h, p + value + 1, *at - value - 2) ? 1 : -1;
    return 1;
}

/* At "{". */
static enum head_kind json_head(const struct reply_format *c, const char *p, size_t n, size_t at, struct head *h)
{
    at++;
    for (;;) {
        int got = read_member(c, p, n, &at, h);
        if (got <= 0)
            return got == 0 ? HEAD_MORE : HEAD_BAD;
        h->in_object = got == 2;
        h->end = at;
        if (got == 2)
            return HEAD_OBJECT;
        at += reply_blanks(p + at, n - at);
        if (at == n)
            return HEAD_MORE;
        if (p[at] == '}') {
            h->end = at + 1;
            return h->name[0] != '\0' ? HEAD_WHOLE : HEAD_BAD;
        }
        if (p[at++] != ',')
            return HEAD_BAD;
    }
}

/* ---- other styles ---- */

/* The name ends where one of these begins; more may have to come. */
static const char *first_of(const char *p, size_t n, const char *const *words, size_t n_words, size_t *at, bool *more)
{
    for (*at = 0; *at <= n; ++*at) {
        for (size_t i = 0; i < n_words; i++) {
            int got = words[i] ? reply_begins(p + *at, n - *at, words[i]) : -1;
            *more = got == 0;
            if (got >= 0)
                return words[i];
        }
    }
    *more = true;
    return NULL;
}

static enum head_kind arguments_head(const struct reply_format *c, const char *p, size_t n, size_t at, struct head *h)
{
    at += reply_blanks(p + at, n - at);
    h->end = at;
    if (at == n)
        return HEAD_MORE;
    if (p[at] == '{')
        return HEAD_OBJECT;
    int none = c->close ? reply_begins(p + at, n - at, c->close) : -1;
    if (none <= 0)
        return none == 0 ? HEAD_MORE : HEAD_BAD;
    return HEAD_WHOLE;
}

/* [before] name [id] after {...} */
static enum head_kind named_head(const struct reply_format *c, const char *p, size_t n, size_t at, struct head *h)
{
    int before = c->before_name ? reply_begins(p + at, n - at, c->before_name) : -1;
    if (before == 0)
        return HEAD_MORE;
    at += before == 1 ? strlen(c->before_name) : 0;
    const char *const ends[] = {c->after_name, REPLY_CALL_ID, "{"};
    size_t len, id;
    bool more;
    const char *end = first_of(p + at, n - at, ends, COUNTOF(ends), &len, &more);
    if (more)
        return n - at > REPLY_NAME_MAX + 64 ? HEAD_BAD : HEAD_MORE;
    const char *colon = memchr(p + at, ':', len); /* Kimi's "functions.name:0" */
    size_t blanks = len > 0 && reply_blanks(p + at + len - 1, 1) ? 1 : 0;
    if (!take_name(h, p + at, colon ? (size_t)(colon - p) - at : len - blanks))
        return HEAD_BAD;
    at += len;
    if (strcmp(end, REPLY_CALL_ID) == 0) {
        end = first_of(p + at, n - at, ends, 1, &id, &more);
        if (more)
            return HEAD_MORE;
        at += id;
    }
    return arguments_head(c, p, n, at + (end[0] == '{' ? 0 : strlen(end)), h);
}

static enum head_kind tags_head(const struct reply_format *c, const struct reply_tags *t, const char *p, size_t n,
                                size_t at, struct head *h)
{
    int begins = t->name ? reply_begins(p + at, n - at, t->name) : 1;
    if (begins <= 0)
        return begins == 0 ? HEAD_MORE : HEAD_BAD;
    at += t->name ? strlen(t->name) : 0;
    const char *const ends[] = {t->name_end ? t->name_end : "\n", t->name ? NULL : t->key, t->name ? NULL : c->close};
    size_t len;
    bool more;
    const char *end = first_of(p + at, n - at, ends, COUNTOF(ends), &len, &more);
    if (more)
        return n - at > REPLY_NAME_MAX + 64 ? HEAD_BAD : HEAD_MORE;
    size_t name = len;
    while (!t->name && name > 0 && reply_blanks(p + at + name - 1, 1) == 1)
        name--;
    if (!take_name(h, p + at, name))
        return HEAD_BAD;
    h->tags = t;
    h->end = at + len + (end == ends[0] ? strlen(end) : 0);
    return HEAD_TAGS;
}

/* "<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>", or with "<|start|>assistant" before. */
static enum head_kind channel_head(const struct reply *r, const char *p, size_t n, struct head *h)
{
    static const char end[] = "<|message|>", to[] = "to=functions.";
    const char *stop = memmem(p, n, end, sizeof(end) - 1);
    if (!stop)
        return HEAD_MORE;
    size_t len = (size_t)(stop - p);
    const char *name = r->o.tools ? memmem(p, len, to, sizeof(to) - 1) : NULL;
    h->end = len + sizeof(end) - 1;
    if (name) {
        name += sizeof(to) - 1;
        size_t k = 0;
        while (name + k < stop && name[k] != ' ' && name[k] != '<')
            k++;
        return take_name(h, name, k) ? arguments_head(r->o.formats.calls, p, n, h->end, h) : HEAD_BAD;
    }
    h->message = memmem(p, len, "analysis", 8) ? STATE_THINKING : STATE_TEXT;
    return HEAD_MESSAGE;
}

enum head_kind reply_head(const struct reply *r, const char *p, size_t n, struct head *h)
{
    const struct reply_format *c = r->o.formats.calls;
    if (c->style == REPLY_STYLE_CHANNELS)
        return channel_head(r, p, n, h);
    size_t at = reply_blanks(p, n);
    h->in_list = r->in_list;
    if (at < n && p[at] == '[' && !r->in_list && c->style != REPLY_STYLE_TAGS) {
        h->in_list = true;
        at += 1 + reply_blanks(p + at + 1, n - at - 1);
    }
    if (at == n)
        return HEAD_MORE;
    if (p[at] == '{' && c->style != REPLY_STYLE_TAGS)
        return json_head(c, p, n, at, h);
    if (h->in_list)
        return HEAD_BAD;
    if (c->style == REPLY_STYLE_TAGS)
        return tags_head(c, c->tags, p, n, at, h);
    return c->style == REPLY_STYLE_NAMED ? named_head(c, p, n, at, h) : HEAD_BAD;
}
