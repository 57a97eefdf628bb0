/* stream: bytes become whole characters in `tail`, characters become shown text through `held`.
 *
 * A stop string is complete at the first place of the text where one ends; of
 * several that end there, the longest counts.  That says nothing of tokens, so
 * any division of the bytes into pushes shows the same text.  Invariant between
 * pushes: held is the longest end of the text that is a proper beginning of a
 * stop string.                                                               */
#include "text/stream.h"

#include <string.h>

#include "base/memory.h"
#include "text/utf8.h"

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

enum { SLICE_BYTES = 4096 }; /* of one push that are taken at a time */

int stream_init(struct stream *s, const char *const *stops, size_t n_stops, struct error *e)
{
    memset(s, 0, sizeof(*s));
    s->stopped = -1;
    buffer_init(&s->tail, STREAM_HELD_MAX);
    buffer_init(&s->held, STREAM_HELD_MAX);
    if (n_stops > STREAM_STOPS_MAX)
        return error_set(e, ERR_LIMIT, "%zu stop strings; at most %d can be", n_stops, STREAM_STOPS_MAX);
    for (size_t i = 0; i < n_stops; i++) {
        size_t len = strlen(stops[i]);
        if (len == 0 || len > STREAM_STOP_BYTES_MAX) {
            stream_close(s);
            return error_set(e, ERR_INVALID, "a stop string of %zu bytes; between 1 and %d can be", len,
                             STREAM_STOP_BYTES_MAX);
        }
        s->stops[s->n_stops++] = mem_strndup(stops[i], len);
    }
    return 0;
}

void stream_close(struct stream *s)
{
    for (size_t i = 0; i < s->n_stops; i++)
        mem_free(s->stops[i]);
    s->n_stops = 0;
    buffer_close(&s->tail);
    buffer_close(&s->held);
}

int stream_stopped(const struct stream *s)
{
    return s->stopped;
}

/* The longest stop string that ends the first `len` held bytes; its length, 0 for none. */
static size_t stop_at(const struct stream *s, size_t len, int *which)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->n_stops; i++) {
        size_t n = strlen(s->stops[i]);
        if (n > longest && n <= len && memcmp(s->held.data + len - n, s->stops[i], n) == 0) {
            longest = n;
            *which = (int)i;
        }
    }
    return longest;
}

/* Bytes at the end of held that may be the beginning of a stop string. */
static size_t held_back(const struct stream *s)
{
    size_t most = 0;
    for (size_t i = 0; i < s->n_stops; i++) {
        size_t n = strlen(s->stops[i]) - 1;
        if (n > s->held.len)
            n = s->held.len;
        while (n > most && memcmp(s->held.data + s->held.len - n, s->stops[i], n) != 0)
            n--;
        if (n > most)
            most = n;
    }
    return most;
}

static void show(struct stream *s, size_t n, struct buffer *out)
{
    if (n > 0)
        buffer_add(out, s->held.data, n);
    buffer_drop(&s->held, n);
}

/* Take text in; a stop string may end at each of its bytes. False when one did. */
static bool take(struct stream *s, const char *text, size_t n, struct buffer *out)
{
    for (size_t i = 0; i < n; i++) {
        buffer_add(&s->held, text + i, 1);
        size_t len = stop_at(s, s->held.len, &s->stopped);
        if (len > 0) {
            show(s, s->held.len - len, out);
            buffer_clear(&s->held);
            return false;
        }
    }
    return true;
}

/* Move the whole characters of tail on. */
static bool drain(struct stream *s, struct buffer *out)
{
    size_t at = 0;
    bool going = true;
    while (going && at < s->tail.len) {
        int step = utf8_step(s->tail.data + at, s->tail.len - at);
        if (step == 0)
            break;
        if (step > 0)
            going = take(s, s->tail.data + at, (size_t)step, out);
        else
            going = take(s, REPLACEMENT, 3, out);
        at += (size_t)(step > 0 ? step : -step);
    }
    buffer_drop(&s->tail, at);
    return going;
}

bool stream_push(struct stream *s, const char *bytes, size_t n, struct buffer *out)
{
    for (size_t at = 0; s->stopped < 0 && at < n; at += SLICE_BYTES) {
        buffer_add(&s->tail, bytes + at, n - at < SLICE_BYTES ? n - at : SLICE_BYTES);
        if (drain(s, out))
            show(s, s->held.len - held_back(s), out);
    }
    return s->stopped < 0;
}

void stream_finish(struct stream *s, struct buffer *out)
{
    if (s->stopped < 0 && s->tail.len > 0)
        (void)take(s, REPLACEMENT, 3, out);
    show(s, s->held.len, out);
    buffer_clear(&s->tail);
}
