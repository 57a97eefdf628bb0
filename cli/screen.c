/* screen: a word is held until it is known whether it fits in its line. */
#include "cli/screen.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

#include "text/utf8.h"

enum { TAB = 8, WORD_BYTES_MAX = 4096 };

bool screen_obeys(FILE *out)
{
    const char *kind = getenv("TERM");
    return isatty(fileno(out)) == 1 && kind && kind[0] && strcmp(kind, "dumb") != 0;
}

void screen_open(struct screen *s, FILE *out, bool wraps)
{
    struct winsize size = {0};
    *s = (struct screen){.out = out, .terminal = isatty(fileno(out)) == 1, .obeys = screen_obeys(out), .fresh = true};
    if (s->terminal && ioctl(fileno(out), TIOCGWINSZ, &size) == 0)
        s->width = size.ws_col;
    s->wraps = wraps && s->terminal && s->width > TAB;
    buffer_init(&s->word, WORD_BYTES_MAX);
}

static void end_line(struct screen *s)
{
    fputc('\n', s->out);
    s->column = 0;
}

static void show_word(struct screen *s)
{
    if (s->wraps && s->column > 0 && s->column + s->word_width > s->width)
        end_line(s);
    fwrite(buffer_text(&s->word), 1, s->word.len, s->out);
    s->column += s->word_width;
    if (s->width > 0 && s->column > s->width) /* the terminal has broken it */
        s->column %= s->width;
    buffer_clear(&s->word);
    s->word_width = 0;
}

static void hold(struct screen *s, const char *text, size_t n, unsigned width)
{
    if (s->word.len + n > WORD_BYTES_MAX || (s->width > 0 && s->word_width + width > s->width))
        show_word(s);
    buffer_add(&s->word, text, n);
    s->word_width += width;
}

/* Controls, and marks that turn the direction of the text around them. */
static bool is_order(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

static void put_order(struct screen *s, uint32_t c)
{
    char text[16];
    int n = c < 0x80 ? snprintf(text, sizeof(text), "^%c", (int)(c ^ 0x40))
                     : snprintf(text, sizeof(text), "<%x>", (unsigned)c);
    hold(s, text, (size_t)n, (unsigned)n);
}

static void put_blank(struct screen *s, char c)
{
    show_word(s);
    unsigned n = c == '\t' ? TAB - s->column % TAB : 1;
    if (c == '\n' || (s->wraps && s->column + n > s->width)) {
        end_line(s);
        return;
    }
    fprintf(s->out, "%*s", (int)n, "");
    s->column += n;
}

static void put_char(struct screen *s, const char *text, size_t n)
{
    uint32_t c = utf8_read(text, n);
    if (c == ' ' || c == '\n' || c == '\t') {
        put_blank(s, (char)c);
    } else if (is_order(c)) {
        put_order(s, c);
    } else {
        int width = utf8proc_charwidth((utf8proc_int32_t)c);
        if (width > 1) /* scripts that are written so have no blanks: a line may end at each */
            show_word(s);
        hold(s, text, n, (unsigned)width);
        if (width > 1)
            show_word(s);
    }
}

void screen_put(struct screen *s, const char *text, size_t n)
{
    if (n > 0)
        s->fresh = text[n - 1] == '\n';
    if (!s->terminal) {
        fwrite(text, 1, n, s->out);
    } else {
        for (size_t i = 0; i < n;) {
            int step = utf8_step(text + i, n - i);
            if (step > 0)
                put_char(s, text + i, (size_t)step);
            else
                put_char(s, "\xEF\xBF\xBD", 3);
            i += step > 0 ? (size_t)step : step < 0 ? (size_t)-step : n - i;
        }
    }
    fflush(s->out);
}

void screen_dim(struct screen *s, bool dim)
{
    if (s->obeys && s->dim != dim) {
        show_word(s);
        fputs(dim ? "\033[2m" : "\033[0m", s->out);
    }
    s->dim = dim;
}

void screen_line(struct screen *s, const char *text)
{
    if (!s->fresh)
        screen_put(s, "\n", 1);
    screen_put(s, text, strlen(text));
    screen_put(s, "\n\n", 2);
}

void screen_close(struct screen *s)
{
    screen_dim(s, false);
    if (s->terminal)
        show_word(s);
    if (!s->fresh)
        fputc('\n', s->out);
    fflush(s->out);
    buffer_close(&s->word);
}
