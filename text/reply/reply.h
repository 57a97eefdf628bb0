/* reply: reads an answer as it comes: text, reasoning, tool calls and their arguments.
 *
 * A reply takes the bytes of an answer in whole characters, marks included, and
 * gives each stretch to the sink as soon as it is known what it is; only what
 * may be the beginning of a mark is held back.  How the bytes are divided
 * changes nothing but where stretches part.  Arguments are given as the text of
 * one JSON object.  What looks like a call and is none stays text: nothing that
 * a model wrote is lost but marks, and white space next to them.  One thread
 * owns a reply.                                                              */
#ifndef TEXT_REPLY_REPLY_H
#define TEXT_REPLY_REPLY_H

#include <jansson.h>

#include "text/reply/format.h"

enum reply_limits {
    REPLY_NAME_MAX = 128,      /* bytes of a function's name */
    REPLY_HEAD_MAX = 8 << 10,  /* bytes of a call before its arguments */
    REPLY_VALUE_MAX = 4 << 20, /* bytes of a parameter that is held until its end; a longer one is text */
    REPLY_BLANKS_MAX = 64,     /* bytes of white space that are held back */
};

enum reply_kind { REPLY_TEXT, REPLY_REASONING, REPLY_CALL /* a call begins: its name */, REPLY_ARGUMENTS };

typedef void (*reply_sink)(void *arg, enum reply_kind kind, const char *text, size_t n);

struct reply_options {
    struct reply_formats formats;
    const json_t *tools; /* OpenAI's list; NULL: calls are not looked for. Borrowed */
    bool thinking;       /* begins as reasoning */
    reply_sink sink;
    void *arg;
};

struct reply;

struct reply *reply_open(const struct reply_options *o);
void reply_close(struct reply **r); /* NULL is fine */
void reply_push(struct reply *r, const char *bytes, size_t n);
/* The answer has ended: what was held back is given. */
void reply_finish(struct reply *r);
bool reply_is_thinking(const struct reply *r);

#endif
