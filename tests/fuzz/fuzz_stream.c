/* fuzz_stream: any tokens and stop strings: what is shown is whole UTF-8 and holds no stop string.
 *
 * An input is: a stop string's length, its bytes, then tokens of a length and its bytes each. */
#include <string.h>

#include "base/memory.h"
#include "base/view.h"
#include "tests/fuzz/fuzz.h"
#include "text/stream.h"
#include "text/utf8.h"

enum { SHOWN_MAX = 1 << 22 };

static void check_whole(const char *text, size_t n)
{
    for (int step; n > 0; text += step, n -= (size_t)step) {
        step = utf8_step(text, n);
        FUZZ_CHECK(step > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view v = view_of(data, size);
    struct stream s;
    struct buffer out;
    size_t n = view_u8(&v);
    const char *at = view_bytes(&v, n < view_left(&v) ? n : view_left(&v));
    char *stop = mem_strndup(at ? at : "", at ? (size_t)((const char *)data + v.pos - at) : 0);
    const char *const stops[] = {stop};
    buffer_init(&out, SHOWN_MAX);
    if (stream_init(&s, stops, *stop ? 1 : 0, NULL) == 0) {
        bool open = true;
        while (open && view_left(&v) > 0) {
            n = view_u8(&v);
            n = n < view_left(&v) ? n : view_left(&v);
            open = stream_push(&s, view_bytes(&v, n), n, &out);
            check_whole(buffer_text(&out), out.len);
            FUZZ_CHECK(open == (stream_stopped(&s) < 0));
        }
        stream_finish(&s, &out);
        check_whole(buffer_text(&out), out.len);
        size_t len = strlen(stop);
        FUZZ_CHECK(len == 0 || stream_stopped(&s) < 0 || !memmem(buffer_text(&out), out.len, stop, len));
        stream_close(&s);
    }
    buffer_close(&out);
    mem_free(stop);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char plain[] = "\x00\x05hello\x01 \x06wor\xC3\xB6ld",
                      stopped[] = "\x03" "END\x04go E\x02NE\x02ND\x01!",
                      cut[] = "\x02\xF0\x9F\x02\xF0\x9F\x02\x90\x9F\x01\xFF\x03\xED\xA0\x80";
    give(arg, plain, sizeof(plain) - 1);
    give(arg, stopped, sizeof(stopped) - 1);
    give(arg, cut, sizeof(cut) - 1);
}
