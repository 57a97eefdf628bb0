/* chat_told: tools for templates that have no place for them: told in words, and what they did as text.  Not for other
 * folders. */
#ifndef TEXT_CHAT_TOLD_H
#define TEXT_CHAT_TOLD_H

#include <jansson.h>

/* A format that models know from many places: the one of reply_format_named() that the words ask for. */
#define CHAT_TOLD_FORMAT "hermes"

/* The conversation without tools, calls and results, from one that chat_messages_fit() takes; the caller's. tools
 * NULL: only of what is in the messages. */
json_t *chat_told_messages(const json_t *messages, const json_t *tools);

#endif
