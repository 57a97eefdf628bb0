/* screen: where an answer is shown as it comes.
 *
 * On a terminal a model's text is words, never orders: control characters are
 * shown and not obeyed, lines are broken between words, reasoning is dim.
 * Elsewhere its bytes are written as they are.  One thread owns a screen.    */
#ifndef CLI_SCREEN_H
#define CLI_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/buffer.h"

struct screen {
    FILE *out;
    bool terminal, wraps, dim;
    bool obeys;             /* orders such as that for dim text */
    unsigned width, column; /* columns; width 0: not known */
    struct buffer word;     /* that is not shown yet: where it goes depends on how long it gets */
    unsigned word_width;
    bool fresh;             /* at the beginning of a line */
};

/* Whether it is a terminal that takes orders: escape sequences. */
bool screen_obeys(FILE *out);
/* For one answer; `out` is borrowed. `wraps`: between words, where it is a terminal. */
void screen_open(struct screen *s, FILE *out, bool wraps);
/* Whole UTF-8 characters; others are shown as U+FFFD on a terminal. */
void screen_put(struct screen *s, const char *text, size_t n);
void screen_dim(struct screen *s, bool dim);
/* A line of our own, with a blank one after it. */
void screen_line(struct screen *s, const char *text);
/* What is held back is shown, and the line ended if something stands in it. */
void screen_close(struct screen *s);

#endif
