/* stream: tokens to text for a reader who must never see half a character nor a stop string.
 *
 * stream_push() takes the bytes of one token and appends to `out` what may be
 * shown: whole UTF-8 characters (invalid bytes become U+FFFD), holding back an
 * incomplete character and any suffix that may be the beginning of a stop
 * string.  When a stop string is complete the text before it is given and
 * stream_stopped() says which.  Embedded by the caller; one thread owns it.  */
#ifndef TEXT_STREAM_H
#define TEXT_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

enum stream_limits {
    STREAM_STOPS_MAX = 16,
    STREAM_STOP_BYTES_MAX = 1024,
    STREAM_HELD_MAX = 1 << 20,
};

struct stream {
    char *stops[STREAM_STOPS_MAX]; /* owned copies */
    size_t n_stops;
    struct buffer tail;  /* bytes of an unfinished character */
    struct buffer held;  /* whole characters that may begin a stop string */
    int stopped;         /* index of the matched stop string, -1 */
};

MUST_USE int stream_init(struct stream *s, const char *const *stops, size_t n_stops, struct error *e);
void stream_close(struct stream *s);
/* False once a stop string was completed (the rest is dropped). */
bool stream_push(struct stream *s, const char *bytes, size_t n, struct buffer *out);
/* End of generation: flush what was held (an unfinished character becomes U+FFFD). */
void stream_finish(struct stream *s, struct buffer *out);
int stream_stopped(const struct stream *s);

#endif
