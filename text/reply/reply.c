/* reply: a machine of a few states over what is pending; text and reasoning are here, calls in calls.c and tags.c. */
#include "text/reply/reply.h"

#include <string.h>

#include "base/memory.h"
#include "text/reply/private.h"

enum { PENDING_MAX = REPLY_VALUE_MAX * 4, SLICE_BYTES = 16 << 10 };

enum role { ROLE_NONE, ROLE_THINK, ROLE_ANSWER, ROLE_DROP, ROLE_CALL };

struct mark {
    const char *text;
    enum role role;
};

/* ---- help for all states ---- */

int reply_begins(const char *p, size_t n, const char *word)
{
    size_t len = strlen(word);
    if (memcmp(p, word, n < len ? n : len) != 0)
        return -1;
    return n >= len;
}

size_t reply_blanks(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n && (p[i] == ' ' || p[i] == '\n' || p[i] == '\t' || p[i] == '\r'))
        i++;
    return i;
}

size_t reply_tail(const char *p, size_t n, const char *word)
{
    size_t len = strlen(word) - 1;
    for (size_t k = len < n ? len : n; k > 0; k--)
        if (memcmp(p + n - k, word, k) == 0)
            return k;
    return 0;
}

void reply_give(const struct reply *r, enum reply_kind kind, const char *text, size_t n)
{
    if (n > 0)
        r->o.sink(r->o.arg, kind, text, n);
}

void reply_drop(struct reply *r, size_t n)
{
    buffer_drop(&r->pending, n);
}

const json_t *reply_tool(const json_t *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *f = json_object_get(json_array_get(tools, i), "function");
        const char *own = json_string_value(json_object_get(f, "name"));
        if (own && strcmp(own, name) == 0)
            return f;
    }
    return NULL;
}

/* ---- text and reasoning ---- */

static size_t add(struct mark *list, size_t n, const char *text, enum role role)
{
    if (text)
        list[n++] = (struct mark){text, role};
    return n;
}

/* Those that count in the state at hand. */
static size_t marks_now(const struct reply *r, struct mark list[static 12])
{
    const struct reply_format *c = r->o.formats.calls;
    const struct reply_thinking *t = r->o.formats.thinking;
    bool channels = c && c->style == REPLY_STYLE_CHANNELS;
    size_t n = 0;
    if (channels) {
        n = add(list, n, "<|start|>", ROLE_CALL);
        n = add(list, n, "<|channel|>", ROLE_CALL);
        n = add(list, n, "<|end|>", ROLE_ANSWER);
        n = add(list, n, "<|return|>", ROLE_ANSWER);
        return add(list, n, "<|call|>", ROLE_ANSWER);
    }
    if (r->state == STATE_THINKING)
        return add(list, n, t->close, ROLE_ANSWER);
    if (t) {
        n = add(list, n, t->open, ROLE_THINK);
        n = add(list, n, t->close, ROLE_ANSWER);
        n = add(list, n, t->opens_answer, ROLE_DROP);
        n = add(list, n, t->closes_answer, ROLE_DROP);
    }
    if (c && r->o.tools) {
        n = add(list, n, c->section, ROLE_DROP);
        n = add(list, n, c->section_end, ROLE_DROP);
        n = add(list, n, c->open, ROLE_CALL);
    }
    return n;
}

/* The first mark, the longest there; *at: its place, or where the text ends that is certainly none. */
static const struct mark *find(const struct mark *list, size_t n, const char *p, size_t len, bool ended, size_t *at)
{
    const struct mark *found = NULL;
    *at = len;
    for (size_t i = 0; i < n; i++) {
        const char *where = memmem(p, len, list[i].text, strlen(list[i].text));
        size_t place = where ? (size_t)(where - p) : len;
        bool better = found && place == *at && strlen(list[i].text) > strlen(found->text);
        if (where && (place < *at || better)) {
            found = &list[i];
            *at = place;
        }
    }
    for (size_t i = 0; i < n && !found && !ended; i++) {
        size_t tail = reply_tail(p, len, list[i].text);
        if (len - tail < *at)
            *at = len - tail;
    }
    return found;
}

/* White space at the end of the first n bytes, as much as is held back. */
static size_t blanks_before(const char *p, size_t n)
{
    size_t k = 0;
    while (k < n && k < REPLY_BLANKS_MAX && reply_blanks(p + n - k - 1, 1) == 1)
        k++;
    return k;
}

static void give_text(struct reply *r, size_t n)
{
    if (n == 0)
        return;
    r->bare_ok = false;
    r->answered = r->answered || r->state == STATE_TEXT;
    reply_give(r, r->state == STATE_THINKING ? REPLY_REASONING : REPLY_TEXT, buffer_text(&r->pending), n);
    reply_drop(r, n);
}

static void take_mark(struct reply *r, const struct mark *m, size_t blanks)
{
    if (m->role == ROLE_CALL) {
        r->lead = blanks;
        r->mark = strlen(m->text);
        r->state = STATE_HEAD;
        return;
    }
    if (m->role == ROLE_THINK && r->answered) { /* an answer may speak of it */
        r->trims = false;
        give_text(r, blanks + strlen(m->text));
        return;
    }
    reply_drop(r, blanks + strlen(m->text));
    r->trims = true;
    r->state = m->role == ROLE_THINK ? STATE_THINKING : STATE_TEXT;
}

/* A call without a mark may begin here. True: it is looked at. */
static bool try_bare(struct reply *r)
{
    const char *p = buffer_text(&r->pending);
    size_t blanks = reply_blanks(p, r->pending.len);
    if (!r->bare_ok || blanks == r->pending.len || p[blanks] != '{')
        return false;
    r->lead = blanks;
    r->mark = 0;
    r->state = STATE_HEAD;
    return true;
}

static bool step_text(struct reply *r)
{
    struct mark list[12];
    size_t n = marks_now(r, list), at;
    if (r->trims) {
        reply_drop(r, reply_blanks(buffer_text(&r->pending), r->pending.len));
        r->trims = r->pending.len == 0;
    }
    if (r->pending.len == 0)
        return false;
    if (r->state == STATE_TEXT && try_bare(r))
        return true;
    const char *p = buffer_text(&r->pending);
    const struct mark *m = find(list, n, p, r->pending.len, r->ended, &at);
    bool keeps = m || !r->ended || r->state == STATE_THINKING;
    size_t blanks = keeps ? blanks_before(p, at) : 0;
    give_text(r, at - blanks);
    if (m)
        take_mark(r, m, blanks);
    else if (r->ended)
        reply_drop(r, r->pending.len);
    return m != NULL;
}

/* ---- the machine ---- */

static bool step(struct reply *r)
{
    switch (r->state) {
    case STATE_HEAD: return reply_step_head(r);
    case STATE_ARGUMENTS: return reply_step_arguments(r);
    case STATE_NEXT: return reply_step_next(r);
    case STATE_VALUE: return reply_step_value(r);
    case STATE_AFTER: return reply_step_after(r);
    default: return step_text(r);
    }
}

struct reply *reply_open(const struct reply_options *o)
{
    struct reply *r = mem_alloc(sizeof(*r));
    const struct reply_format *c = o->formats.calls;
    r->o = *o;
    r->bare_ok = o->tools && c && c->style == REPLY_STYLE_BARE;
    r->trims = o->thinking && o->formats.thinking;
    r->state = r->trims ? STATE_THINKING : STATE_TEXT;
    buffer_init(&r->pending, PENDING_MAX);
    return r;
}

void reply_close(struct reply **r)
{
    if (!*r)
        return;
    buffer_close(&(*r)->pending);
    mem_free(*r);
    *r = NULL;
}

void reply_push(struct reply *r, const char *bytes, size_t n)
{
    for (size_t at = 0; at < n; at += SLICE_BYTES) {
        buffer_add(&r->pending, bytes + at, n - at < SLICE_BYTES ? n - at : SLICE_BYTES);
        while (step(r))
            ;
    }
}

void reply_finish(struct reply *r)
{
    r->ended = true;
    while (step(r))
        ;
}

bool reply_is_thinking(const struct reply *r)
{
    return r->state == STATE_THINKING;
}
