/* parts: what a choice says, put in line for pieces.  Not for other folders.
 *
 * Bytes of tokens become whole characters, these text, reasoning and calls, and
 * of the text everything from a stop string on is dropped: stop strings count
 * in what the client sees as the answer, not in reasoning nor in arguments.   */
#ifndef COORDINATOR_API_PARTS_H
#define COORDINATOR_API_PARTS_H

#include "coordinator/api/generation.h"
#include "text/reply/reply.h"

struct part;

struct parts {
    struct stream characters; /* only with a reply */
    struct stream stream;     /* of the text: stop strings */
    struct reply *reply;      /* NULL: all is text */
    bool open, shows_reasoning;
    struct buffer text;  /* of the parts that wait */
    struct part *list;   /* [n] from `next` on they wait */
    size_t n, room, next;
    uint32_t n_calls;
};

/* For parts_close() in every case. */
MUST_USE int parts_open(struct parts *s, const struct params *p, struct error *e);
void parts_close(struct parts *s);
/* False: a stop string came, and nothing more will. */
bool parts_push(struct parts *s, const char *bytes, size_t n);
void parts_finish(struct parts *s);
/* Text as it is, also none at all, for tokens that show nothing. */
void parts_add(struct parts *s, const char *text);
bool parts_wait(const struct parts *s);
/* Fills in the first one that waits. */
void parts_take(struct parts *s, struct piece *out);
/* Those that were taken, if none waits, are not looked at any more. */
void parts_forget(struct parts *s);
bool parts_are_thoughts(const struct parts *s);
/* They are, and not shown. */
bool parts_hide(const struct parts *s);
/* The stop string that came, or NULL. */
const char *parts_stop(const struct parts *s);

#endif
