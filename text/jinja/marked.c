/* marked: parts share bytes; marks are made only when two origins meet in one text.
 *
 * A text that is built by adding to its end again and again, as templates do in
 * namespaces, would cost the square of its length: a join leaves room after its
 * bytes, and the next join to the same end goes on there.                    */
#include "text/jinja/marked.h"

#include <string.h>

#include "text/jinja/render.h"
#include "text/utf8.h"

enum { ROOM_MIN = 256 };

/* ---- characters ---- */

size_t char_len(const char *s, size_t n)
{
    return (unsigned char)*s < 0x80 ? 1 : utf8_char(s, n);
}

uint32_t char_at(const char *s, size_t n, size_t *len)
{
    *len = char_len(s, n);
    return *len == 1 ? (unsigned char)*s : utf8_read(s, *len);
}

size_t char_before(const char *s, size_t at)
{
    size_t n = 1;
    while (n < 4 && n < at && ((unsigned char)s[at - n] & 0xC0) == 0x80)
        n++;
    return char_len(s + at - n, n) == n ? n : 1;
}

/* ---- texts ---- */

bool marked_has_foreign(const struct marked *t)
{
    return t->marks ? t->len > 0 && memchr(t->marks, true, t->len) : t->foreign && t->len > 0;
}

struct marked marked_part(const struct marked *t, size_t from, size_t to)
{
    struct marked part = *t;
    if (to > t->len)
        to = t->len;
    if (from >= to)
        return (struct marked){.bytes = "", .safe = t->safe};
    part.bytes += from;
    part.len = to - from;
    part.marks = t->marks ? t->marks + from : NULL;
    return part;
}

size_t marked_count(struct render *r, const struct marked *t)
{
    size_t n = 0;
    render_spend(r, t->len);
    for (size_t i = 0; i < t->len; i++)
        n += ((unsigned char)t->bytes[i] & 0xC0) != 0x80;
    return n;
}

size_t marked_at(struct render *r, const struct marked *t, size_t n)
{
    size_t at = 0;
    while (n > 0 && at < t->len) {
        at += char_len(t->bytes + at, t->len - at);
        n--;
    }
    render_spend(r, at);
    return at;
}

size_t marked_find(struct render *r, const struct marked *t, size_t from, const struct marked *what)
{
    if (from > t->len)
        return SIZE_MAX;
    render_spend(r, t->len - from);
    if (what->len == 0)
        return from;
    const char *at = memmem(t->bytes + from, t->len - from, what->bytes, what->len);
    return at ? (size_t)(at - t->bytes) : SIZE_MAX;
}

size_t marked_find_last(struct render *r, const struct marked *t, size_t before, const struct marked *what)
{
    if (before > t->len)
        before = t->len;
    if (what->len > before)
        return SIZE_MAX;
    for (size_t at = before - what->len;; at--) {
        if (memcmp(t->bytes + at, what->bytes, what->len) == 0)
            return at;
        render_spend(r, what->len + 32);
        if (at == 0 || r->failed)
            return SIZE_MAX;
    }
}

bool marked_equal(const struct marked *a, const struct marked *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

bool marked_is(const struct marked *t, const char *words)
{
    size_t n = strlen(words);
    return t->len == n && memcmp(t->bytes, words, n) == 0;
}

int marked_order(const struct marked *a, const struct marked *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int c = n > 0 ? memcmp(a->bytes, b->bytes, n) : 0;
    return c != 0 ? c : (a->len > b->len) - (a->len < b->len);
}

static bool writer_fits(struct writer *w, size_t n)
{
    if (w->r->failed)
        return false;
    if (n <= w->cap - w->len)
        return true;
    if (n > JINJA_OUTPUT_MAX || w->len + n > JINJA_OUTPUT_MAX) {
        render_fail(w->r, ERR_LIMIT, "a text grows past %d bytes", JINJA_OUTPUT_MAX);
        return false;
    }
    size_t cap = w->cap * 2 > w->len + n ? w->cap * 2 : w->len + n + 32;
    char *bytes = render_alloc(w->r, cap);
    uint8_t *marks = w->marks ? render_alloc(w->r, cap) : NULL;
    if (!bytes || (w->marks && !marks))
        return false;
    if (w->len > 0)
        memcpy(bytes, w->bytes, w->len);
    if (marks)
        memcpy(marks, w->marks, w->len);
    w->bytes = bytes;
    w->marks = marks;
    w->cap = cap;
    return true;
}

/* Goes on where the last join ended, if a is that join. */
static bool join_in_place(struct render *r, const struct marked *a, const struct marked *b, struct marked *out)
{
    struct join_room *room = &r->room;
    bool alike = !a->marks && !b->marks && a->foreign == b->foreign;
    bool marked = a->marks && a->marks + a->len == room->marks;
    if (!room->end || a->bytes + a->len != room->end || b->len > room->left || !(alike || marked))
        return false;
    memcpy(room->end, b->bytes, b->len);
    if (marked && b->marks)
        memcpy(room->marks, b->marks, b->len);
    else if (marked)
        memset(room->marks, b->foreign, b->len);
    room->end += b->len;
    room->marks = room->marks ? room->marks + b->len : NULL;
    room->left -= b->len;
    *out = *a;
    out->len += b->len;
    return true;
}

struct marked marked_join(struct render *r, const struct marked *a, const struct marked *b)
{
    struct marked out;
    if (b->len == 0)
        return *a;
    if (a->len == 0)
        return *b;
    render_spend(r, b->len);
    if (join_in_place(r, a, b, &out))
        return out;
    struct writer w;
    size_t len = a->len + b->len;
    writer_init(&w, r);
    if (!writer_fits(&w, len >= ROOM_MIN && len < JINJA_OUTPUT_MAX / 2 ? 2 * len : len))
        return (struct marked){.bytes = ""};
    writer_text(&w, a);
    writer_text(&w, b);
    if (!r->failed)
        r->room = (struct join_room){w.bytes + w.len, w.marks ? w.marks + w.len : NULL, w.cap - w.len};
    return writer_done(&w);
}

/* ---- writer ---- */

void writer_init(struct writer *w, struct render *r)
{
    *w = (struct writer){.r = r};
}

/* From here on every byte has a mark. */
static bool writer_mix(struct writer *w)
{
    if (w->marks)
        return true;
    w->marks = render_alloc(w->r, w->cap);
    if (!w->marks)
        return false;
    memset(w->marks, w->foreign, w->len);
    return true;
}

void writer_add(struct writer *w, const char *bytes, size_t len, bool foreign)
{
    if (len == 0 || !writer_fits(w, len))
        return;
    if (w->len == 0)
        w->foreign = foreign;
    if (foreign != w->foreign && !writer_mix(w))
        return;
    memcpy(w->bytes + w->len, bytes, len);
    if (w->marks)
        memset(w->marks + w->len, foreign, len);
    w->len += len;
    render_spend(w->r, len);
}

void writer_words(struct writer *w, const char *words)
{
    writer_add(w, words, strlen(words), false);
}

void writer_part(struct writer *w, const struct marked *t, size_t from, size_t to)
{
    while (from < to) {
        size_t end = to;
        bool foreign = marked_is_foreign(t, from);
        if (t->marks) {
            const uint8_t *other = memchr(t->marks + from, !foreign, to - from);
            end = other ? (size_t)(other - t->marks) : to;
        }
        writer_add(w, t->bytes + from, end - from, foreign);
        from = end;
    }
}

void writer_text(struct writer *w, const struct marked *t)
{
    writer_part(w, t, 0, t->len);
}

void writer_char(struct writer *w, uint32_t c, bool foreign)
{
    char bytes[4];
    writer_add(w, bytes, utf8_write(c, bytes), foreign);
}

struct marked writer_done(const struct writer *w)
{
    if (w->r->failed || w->len == 0)
        return (struct marked){.bytes = ""};
    return (struct marked){.bytes = w->bytes, .len = w->len, .marks = w->marks, .foreign = w->foreign};
}
