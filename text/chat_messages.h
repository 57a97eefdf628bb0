/* chat_messages: a conversation as clients send it to one that a template copes with.  Not for other folders.
 *
 * Content parts become text, null content "", arguments of calls objects, a
 * developer the system, a system message the user's words where the template
 * knows none, and turns are joined where it wants them to alternate: each only
 * as far as the template's caps ask for.                                     */
#ifndef TEXT_CHAT_MESSAGES_H
#define TEXT_CHAT_MESSAGES_H

#include <jansson.h>

#include "base/error.h"
#include "text/chat.h"
#include "text/chat_caps.h"

/* A new list, the caller's. ERR_INVALID, ERR_UNSUPPORTED or ERR_LIMIT with a sentence that names the message, as
 * *about then does. */
MUST_USE int chat_messages_fit(json_t **out, const json_t *messages, const struct chat_caps *caps,
                               struct chat_about *about, struct error *e);
/* Is it a list of tools as the API has them? */
MUST_USE int chat_tools_check(const json_t *tools, struct error *e);
/* Is `text`, the member `key` of a message, a role that is known? Such a word is nobody's attack. */
bool chat_is_role(const char *key, const char *text);

#endif
