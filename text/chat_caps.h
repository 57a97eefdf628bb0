/* chat_caps: what a chat template copes with, found out by rendering short conversations.  Not for other folders. */
#ifndef TEXT_CHAT_CAPS_H
#define TEXT_CHAT_CAPS_H

#include <stdbool.h>

#include "text/jinja/jinja.h"

struct chat_caps {
    bool parts;        /* content must be a list of parts; else it is text */
    bool system;       /* a system message is shown; else it goes before the first user's */
    bool later_system; /* also one that is not the first */
    bool developer;    /* a developer's is shown as such; else it is a system message */
    bool repeats;      /* two turns of a user may follow each other; else they are joined */
    bool tools;        /* definitions of tools are shown */
    /* messages that call tools */
    const char *call;  /* a conversation with one that is shown; NULL: none is */
    bool call_null;    /* have null content; else "" */
    bool call_text;    /* have arguments as text; else as an object */
    bool call_short;   /* have ids of nine letters and digits */
    bool call_numbered; /* have ids such as functions.NAME:0 */
    bool call_single;  /* have one call each */
};

/* Variables that every rendering has: the model's own tokens. */
struct chat_tokens_text {
    const json_t *bos, *eos; /* texts; NULL: none */
};

/* `t` renders conversations, `tools` those with tools (may be the same). */
void chat_caps_probe(struct chat_caps *caps, const struct jinja *t, const struct jinja *tools, const char *source,
                     const struct chat_tokens_text *tokens);

/* The rendering of a conversation with a call; NULL: calls are not shown. mem_free(). */
char *chat_caps_call(const struct chat_caps *caps, const struct jinja *tools, const struct chat_tokens_text *tokens);

#endif
