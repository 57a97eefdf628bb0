/* parts: three steps, from bytes to characters to kinds to what is shown. */
#include "coordinator/api/parts.h"

#include <string.h>

#include "base/memory.h"

enum { TEXT_MAX = 64 << 20, PARTS_FIRST = 8, CALL_ID_MAX = 32 };

/* A stretch of the text. */
struct part {
    enum piece_kind kind;
    size_t at, len;
    uint32_t call;
    char id[CALL_ID_MAX]; /* PIECE_CALL */
};

static struct part *part_new(struct parts *s, enum piece_kind kind, size_t at)
{
    if (s->n == s->room) {
        s->room = s->room == 0 ? PARTS_FIRST : s->room * 2;
        s->list = mem_resize(s->list, s->room, sizeof(*s->list));
    }
    struct part *part = &s->list[s->n++];
    *part = (struct part){ .kind = kind, .at = at, .len = s->text.len - at };
    part->call = s->n_calls > 0 ? s->n_calls - 1 : 0;
    return part;
}

/* Text that was appended since `at`; it goes on with what was there, where it can. */
static void part_add(struct parts *s, enum piece_kind kind, size_t at)
{
    struct part *last = s->n > s->next ? &s->list[s->n - 1] : NULL;
    if (last != NULL && last->kind == kind)
        last->len = s->text.len - last->at;
    else
        part_new(s, kind, at);
}

static void call_add(struct parts *s, const char *name, size_t n)
{
    size_t at = s->text.len;
    char *id = random_id("call_");
    buffer_add(&s->text, name, n);
    buffer_u8(&s->text, 0);
    s->n_calls++;
    struct part *part = part_new(s, PIECE_CALL, at);
    snprintf(part->id, sizeof(part->id), "%s", id);
    mem_free(id);
}

/* ---- text in ---- */

static void push_text(struct parts *s, const char *text, size_t n)
{
    size_t at = s->text.len;
    stream_push(&s->stream, text, n, &s->text);
    if (s->text.len > at)
        part_add(s, PIECE_TEXT, at);
}

/* Text that may have begun a stop string was none when something else follows. */
static void flush_text(struct parts *s)
{
    size_t at = s->text.len;
    stream_finish(&s->stream, &s->text);
    if (s->text.len > at)
        part_add(s, PIECE_TEXT, at);
}

static void on_reply(void *arg, enum reply_kind kind, const char *text, size_t n)
{
    struct parts *s = arg;
    if (stream_stopped(&s->stream) >= 0)
        return;
    if (kind == REPLY_REASONING && !s->shows_reasoning)
        return;
    if (kind == REPLY_TEXT) {
        push_text(s, text, n);
        return;
    }
    flush_text(s);
    if (kind == REPLY_CALL) {
        call_add(s, text, n);
        return;
    }
    size_t at = s->text.len;
    buffer_add(&s->text, text, n);
    part_add(s, kind == REPLY_REASONING ? PIECE_REASONING : PIECE_ARGUMENTS, at);
}

int parts_open(struct parts *s, const struct params *p, struct error *e)
{
    buffer_init(&s->text, TEXT_MAX);
    int rc = stream_init(&s->stream, p->stops, p->n_stops, e);
    if (rc != 0)
        return rc;
    s->open = true;
    s->shows_reasoning = p->shows_reasoning;
    if (!p->reads)
        return stream_init(&s->characters, NULL, 0, e);
    struct reply_options o = {
        .formats = p->formats, .tools = p->tools, .thinking = p->plan.thinking, .sink = on_reply, .arg = s };
    s->reply = reply_open(&o);
    return stream_init(&s->characters, NULL, 0, e);
}

void parts_close(struct parts *s)
{
    if (s->open) {
        stream_close(&s->stream);
        stream_close(&s->characters);
    }
    reply_close(&s->reply);
    buffer_close(&s->text);
    mem_free(s->list);
}

/* The characters that bytes make, read as an answer. */
static void read_characters(struct parts *s, const char *bytes, size_t n, bool ended)
{
    struct buffer characters;
    buffer_init(&characters, TEXT_MAX);
    stream_push(&s->characters, bytes, n, &characters);
    if (ended)
        stream_finish(&s->characters, &characters);
    reply_push(s->reply, buffer_text(&characters), characters.len);
    buffer_close(&characters);
}

bool parts_push(struct parts *s, const char *bytes, size_t n)
{
    if (s->reply != NULL)
        read_characters(s, bytes, n, false);
    else
        push_text(s, bytes, n);
    return stream_stopped(&s->stream) < 0;
}

void parts_finish(struct parts *s)
{
    if (s->reply != NULL) {
        read_characters(s, "", 0, true);
        reply_finish(s->reply);
    }
    flush_text(s);
}

void parts_add(struct parts *s, const char *text)
{
    size_t at = s->text.len;
    buffer_add_text(&s->text, text);
    part_add(s, PIECE_TEXT, at);
}

/* ---- parts out ---- */

bool parts_wait(const struct parts *s)
{
    return s->next < s->n;
}

void parts_take(struct parts *s, struct piece *out)
{
    const struct part *part = &s->list[s->next++];
    const char *text = buffer_text(&s->text) + part->at;
    out->kind = part->kind;
    out->call = part->call;
    out->text = part->kind == PIECE_CALL ? "" : text;
    out->len = part->kind == PIECE_CALL ? 0 : part->len;
    out->call_name = part->kind == PIECE_CALL ? text : NULL;
    out->call_id = part->kind == PIECE_CALL ? part->id : NULL;
}

void parts_forget(struct parts *s)
{
    if (s->next < s->n)
        return;
    buffer_clear(&s->text);
    s->n = s->next = 0;
}

bool parts_are_thoughts(const struct parts *s)
{
    return s->reply != NULL && reply_is_thinking(s->reply);
}

bool parts_hide(const struct parts *s)
{
    return !s->shows_reasoning && parts_are_thoughts(s);
}

const char *parts_stop(const struct parts *s)
{
    int stopped = stream_stopped(&s->stream);
    return stopped >= 0 ? s->stream.stops[stopped] : NULL;
}
