/* chat: a conversation to the text and the tokens that a model was trained on.
 *
 * A chat is a model's own template, or one that was given instead, parsed and
 * tried out once: probing says what it copes with, and every conversation is
 * brought into that shape before it is rendered (chat_caps.h, chat_messages.h).
 * A model without a template whose vocabulary has ChatML's control tokens gets
 * ChatML.  There is no other fallback: what a template refuses is an error with
 * the template's own words.
 *
 * What messages, tools and other variables say never becomes a control token,
 * so that nobody can forge a turn; only the template's own words can.
 * Immutable after chat_open(): any thread may render.                        */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "text/jinja/jinja.h"
#include "text/reply/format.h"
#include "text/tokenizer.h"

enum chat_limits {
    CHAT_MESSAGES_MAX = 4096,
    CHAT_TOOLS_MAX = 1024,
    CHAT_VARIABLES_MAX = 64, /* of a request's own */
    CHAT_VALUES_MAX = 1 << 19, /* in the arguments of all calls, as far as they are texts; the rest stays text */
};

struct chat;

/* A conversation in the shape of OpenAI's API. */
struct chat_request {
    const json_t *messages;  /* a list of objects */
    const json_t *tools;     /* a list; NULL: none */
    const json_t *variables; /* an object: more variables of the template; NULL: none */
    bool add_generation_prompt; /* opens the assistant's turn */
    int64_t now;                /* seconds since 1970, for templates that say the date */
};

/* What an error of chat_render() is about. */
struct chat_about {
    enum chat_part { CHAT_ABOUT_MESSAGES, CHAT_ABOUT_MESSAGE, CHAT_ABOUT_TOOLS, CHAT_ABOUT_VARIABLES } part;
    size_t index; /* of a message */
};

/* source: a template to use instead of the model's own; NULL: the model's. ERR_UNSUPPORTED: the model has none and
 * no ChatML tokens; ERR_INVALID: it is no template. t must outlive the chat. */
MUST_USE int chat_open(struct chat **out, const struct tokenizer *t, const char *source, struct error *e);
/* With the template in this file. */
MUST_USE int chat_open_file(struct chat **out, const struct tokenizer *t, const char *path, struct error *e);
void chat_close(struct chat **c); /* NULL is fine */
/* Does the template say something of tools? */
bool chat_has_tools(const struct chat *c);
/* Does it know of reasoning? */
bool chat_thinks(const struct chat *c);
/* How its answers are written. */
struct reply_formats chat_formats(const struct chat *c);

/* The rendered text; the spans are the template's. ERR_INVALID: the conversation is not one, or the template refuses
 * it; ERR_UNSUPPORTED: parts or tools that the model's template has no place for; ERR_LIMIT. *about (NULL is fine) then
 * says which part of the request. */
MUST_USE int chat_render(const struct chat *c, const struct chat_request *q, struct jinja_output *out,
                         struct chat_about *about, struct error *e);
/* Its token ids. */
MUST_USE int chat_tokens(const struct chat *c, const struct jinja_output *text, struct token_list *out,
                         struct error *e);
/* Both at once. */
MUST_USE int chat_encode(const struct chat *c, const struct chat_request *q, struct token_list *out, struct error *e);

#endif
