/* talk: a conversation with a model in this process: what was said, and how the next answer is made.
 *
 * Messages are those of the user and of the model, in turns; the system text
 * stands apart.  A message that got no answer is forgotten.  When the context is
 * full the model is no longer shown the oldest turns; they are still kept, for
 * who saves the conversation.  Answers go to standard output, remarks to
 * standard error.  One thread owns a talk.                                   */
#ifndef CLI_TALK_H
#define CLI_TALK_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "cli/answer.h"
#include "cli/parameters.h"
#include "text/chat.h"

enum { TALK_PROMPT_BYTES_MAX = 16 << 20, TALK_ANSWER_BYTES_MAX = 64 << 20 };

struct talk {
    struct local local;
    char *template_text;  /* of the chat; NULL: the model has none */
    struct chat *chat;    /* NULL: prompts are continued as plain text, and there are no turns */
    struct reply_formats formats;
    struct answer_timeline timeline;
    struct parameters parameters;
    char *system;         /* NULL: none */
    char *think;          /* "on", "off", or an effort; NULL: as the template has it */
    json_t *messages;
    size_t hidden;        /* so many of the first are not shown to the model any more */
    uint32_t used;        /* positions of the context, after the last answer */
    bool verbose, wraps;
    uint64_t load_us;
};

/* As the settings say. talk_close() in every case. */
MUST_USE int talk_open(struct talk *t, const struct settings *s, struct error *e);
void talk_close(struct talk *t);
/* Answers the prompt. ERR_LIMIT: it does not fit the context. *interrupted: the answer was cut short. */
MUST_USE int talk_turn(struct talk *t, const char *prompt, bool *interrupted, struct error *e);
/* Forgets what was said. */
void talk_clear(struct talk *t);
/* NULL: none. */
void talk_set_system(struct talk *t, const char *text);
/* "on", "off" or an effort; NULL: as the template has it. */
void talk_set_think(struct talk *t, const char *how);

#endif
