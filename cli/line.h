/* line: lines that a person types at a terminal: editing, history, and Ctrl-C that is told from the end.
 *
 * What is pasted may have several lines: they are shown as one, with a sign for
 * each new line, and nothing in it is obeyed.  One thread owns a line; only one
 * may exist.                                                                 */
#ifndef CLI_LINE_H
#define CLI_LINE_H

#include <stdbool.h>

#include "base/error.h"

enum { LINE_HISTORY_MAX = 1000 };

struct line;

enum line_came {
    LINE_TEXT,
    LINE_INTERRUPT, /* Ctrl-C: the text is what had been typed; interrupt_seen() is true */
    LINE_END,       /* Ctrl-D, or the terminal is gone */
};

/* history_path: a file, readable by its owner only, that lines of earlier runs come from; NULL: none. */
MUST_USE int line_open(struct line **out, const char *history_path, struct error *e);
void line_close(struct line **l);
/* *text without the end of line, until the next call; NULL with LINE_END. */
enum line_came line_read(struct line *l, const char *prompt, const char **text);
/* May be fetched again with the arrow keys, and is in the file. */
void line_remember(struct line *l, const char *text);
/* Whether what is remembered is written to the file too; at first it is. */
void line_keep(struct line *l, bool keeps);

#endif
