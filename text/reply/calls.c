/* calls: a call's beginning, its arguments as they go by, and what stands behind them. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/reply/private.h"

/* ---- the beginning ---- */

/* It is no call: its mark, if it has one, stays text, and what is behind it is looked at again. */
static bool refuse_head(struct reply *r)
{
    size_t n = r->lead + r->mark;
    r->in_list = r->in_object = r->bare_ok = false;
    r->state = STATE_TEXT;
    r->answered = true;
    n = n < r->pending.len ? n : r->pending.len;
    reply_give(r, REPLY_TEXT, buffer_text(&r->pending), n);
    reply_drop(r, n);
    return true;
}

static void give_whole(struct reply *r, const struct head *h)
{
    if (!h->whole) { /* a call without arguments */
        reply_give(r, REPLY_ARGUMENTS, "{}", 2);
        return;
    }
    if (h->raw) {
        reply_give(r, REPLY_ARGUMENTS, h->raw, h->raw_len);
        return;
    }
    char *text = json_dumps(h->whole, JSON_COMPACT);
    if (text)
        reply_give(r, REPLY_ARGUMENTS, text, strlen(text));
    free(text);
}

static void begin_call(struct reply *r, enum head_kind kind, const struct head *h)
{
    r->in_list = h->in_list;
    r->in_object = h->in_object;
    r->answered = true;
    r->depth = 0;
    r->quoted = r->escaped = false;
    r->tags = h->tags;
    reply_give(r, REPLY_CALL, h->name, strlen(h->name));
    r->state = kind == HEAD_OBJECT ? STATE_ARGUMENTS : STATE_AFTER;
    if (kind == HEAD_WHOLE)
        give_whole(r, h);
    if (kind == HEAD_TAGS)
        reply_tags_begin(r, h->name);
}

static bool may_be_called(const struct reply *r, enum head_kind kind, const char *name)
{
    if (kind == HEAD_MESSAGE || r->o.formats.calls->style != REPLY_STYLE_BARE)
        return true;
    return reply_tool(r->o.tools, name) != NULL; /* JSON that only looks like a call is an answer */
}

bool reply_step_head(struct reply *r)
{
    struct head h = {0};
    size_t before = r->lead + r->mark;
    const char *p = buffer_text(&r->pending) + before;
    size_t n = r->pending.len - before;
    enum head_kind kind = reply_head(r, p, n, &h);
    if (kind == HEAD_MORE && !r->ended && n <= REPLY_HEAD_MAX) {
        json_decref(h.whole);
        return false;
    }
    bool good = kind != HEAD_MORE && kind != HEAD_BAD && h.end <= REPLY_HEAD_MAX && may_be_called(r, kind, h.name);
    if (good && kind == HEAD_MESSAGE) {
        r->state = h.message;
        r->trims = true;
    } else if (good) {
        begin_call(r, kind, &h);
    }
    json_decref(h.whole);
    if (!good)
        return refuse_head(r);
    reply_drop(r, before + h.end);
    r->lead = r->mark = 0;
    return true;
}

/* ---- arguments ---- */

/* A byte of JSON; true: the object ends with it. */
static bool follow(struct reply *r, char c)
{
    if (r->quoted) {
        r->quoted = r->escaped || c != '"';
        r->escaped = !r->escaped && c == '\\';
        return false;
    }
    r->quoted = c == '"';
    if (c == '{' || c == '[')
        r->depth++;
    return (c == '}' || c == ']') && --r->depth == 0;
}

/* Outside of strings JSON has none of these: the object was broken off. */
static bool breaks_off(const struct reply *r, char c)
{
    return !r->quoted && (c == '<' || c == '`');
}

bool reply_step_arguments(struct reply *r)
{
    const char *p = buffer_text(&r->pending);
    size_t i = 0;
    bool over = false;
    while (i < r->pending.len && !over && !breaks_off(r, p[i]))
        over = follow(r, p[i++]);
    if (over || i < r->pending.len)
        r->state = STATE_AFTER;
    reply_give(r, REPLY_ARGUMENTS, p, i);
    reply_drop(r, i);
    return r->state == STATE_AFTER;
}

/* ---- behind them ---- */

/* 1: it stands behind white space, and ends at *end; 0: more must come; -1: it is not there. */
static int look_for(const struct reply *r, const char *word, size_t *end)
{
    const char *p = buffer_text(&r->pending);
    size_t blanks = reply_blanks(p, r->pending.len);
    int got = reply_begins(p + blanks, r->pending.len - blanks, word);
    *end = blanks + strlen(word);
    return got == 0 && r->ended ? -1 : got;
}

/* The same; where it was there it is gone. */
static int take_word(struct reply *r, const char *word)
{
    size_t end;
    int got = word ? look_for(r, word, &end) : -1;
    if (got == 1)
        reply_drop(r, end);
    return got;
}

/* Members of the call's object that stand behind its arguments say nothing. */
static int take_members(struct reply *r)
{
    const char *p = buffer_text(&r->pending);
    size_t n = r->pending.len, at = 0, key, key_len;
    for (;;) {
        at += reply_blanks(p + at, n - at);
        if (at == n)
            return 0;
        if (p[at] == '}') {
            reply_drop(r, at + 1);
            return 1;
        }
        if (p[at++] != ',')
            return -1;
        int got = reply_read_key(p, n, &at, &key, &key_len);
        if (got == 1)
            got = reply_skip_value(p, n, &at);
        if (got != 1)
            return got;
    }
}

static bool next_head(struct reply *r)
{
    r->lead = r->mark = 0;
    r->state = STATE_HEAD;
    return true;
}

static bool leave(struct reply *r)
{
    r->in_list = r->in_object = false;
    r->trims = true;
    r->state = STATE_TEXT;
    r->bare_ok = r->o.formats.calls->style == REPLY_STYLE_BARE;
    return true;
}

/* What was broken off by the answer's end is a mark's beginning, which is nobody's text. */
static bool leave_end(struct reply *r, const char *close)
{
    const char *p = buffer_text(&r->pending);
    size_t blanks = reply_blanks(p, r->pending.len);
    if (r->ended && close && blanks < r->pending.len && reply_begins(p + blanks, r->pending.len - blanks, close) == 0)
        reply_drop(r, r->pending.len);
    return leave(r);
}

/* Ends of an object and of a list. 1: go on; 0: more must come; 2: another call of the list begins. */
static int take_ends(struct reply *r)
{
    int got = r->in_object ? take_members(r) : 1;
    if (got == 0 && !r->ended && r->pending.len <= REPLY_HEAD_MAX)
        return 0;
    r->in_object = false;
    if (!r->in_list)
        return 1;
    got = take_word(r, ",");
    if (got == 1)
        return 2;
    got = got == 0 ? 0 : take_word(r, "]");
    r->in_list = got == 0;
    return got == 0 ? 0 : 1;
}

/* What may stand between two calls without a mark of their own. 2: the next one begins; else as above. */
static int take_between(struct reply *r)
{
    size_t end;
    int got = -1;
    if (r->o.formats.calls->style == REPLY_STYLE_BARE)
        got = take_word(r, ";");
    else if (r->tags && r->tags->name)
        got = look_for(r, r->tags->name, &end);
    return got == 1 ? 2 : got;
}

bool reply_step_after(struct reply *r)
{
    const struct reply_format *c = r->o.formats.calls;
    /* White space here is nobody's: a model that goes on with it for ever is not to fill `pending`. */
    reply_drop(r, reply_blanks(buffer_text(&r->pending), r->pending.len));
    int got = take_ends(r);
    got = got == 1 ? take_between(r) : got;
    if (got == 2)
        return next_head(r);
    if (got == 0 || take_word(r, c->after_arguments) == 0 || take_word(r, c->close) == 0)
        return false;
    return leave_end(r, c->close);
}
