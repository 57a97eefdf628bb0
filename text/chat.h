/* chat: messages to the text that a model was trained on.
 *
 * A format is a row of chat.c: how it is recognised in a model's template
 * source, and the function that renders it.  Today: ChatML.  (The interpreter
 * of Jinja templates takes this place behind the same function.)  The result
 * is a list of pieces: text of the template, in which control tokens count, and
 * text of the user, in which they never do, so that no message can forge a
 * turn.                                                                      */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "text/tokenizer.h"

enum chat_limits {
    CHAT_MESSAGES_MAX = 4096,
};

struct chat_message {
    const char *role;    /* "system", "user", "assistant", "tool", "developer" */
    const char *content; /* UTF-8, NUL-terminated, may be "" */
};

struct chat_format; /* a row */

/* The row that fits the model, or ERR_UNSUPPORTED with a sentence. A model with ChatML's control tokens
 * and no template gets ChatML. */
MUST_USE int chat_format_find(const struct chat_format **out, const struct tokenizer *t, struct error *e);
const char *chat_format_name(const struct chat_format *f);
/* Token ids of the conversation; add_generation_prompt opens the assistant's turn. */
MUST_USE int chat_encode(const struct chat_format *f, const struct tokenizer *t, const struct chat_message *messages,
                         size_t n, bool add_generation_prompt, struct token_list *out, struct error *e);

#endif
