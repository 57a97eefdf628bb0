/* conversation: a talk's messages and how it answers, as a file, and back.
 *
 * A plain name is a file in the folder of conversations, a text with '/' a path
 * of its own.  Files are readable by their owner only.                       */
#ifndef CLI_CONVERSATION_H
#define CLI_CONVERSATION_H

#include <stdio.h>

#include "base/error.h"
#include "cli/talk.h"

enum { CONVERSATION_BYTES_MAX = 64 << 20, CONVERSATION_NAME_MAX = 200 };

/* ERR_CONFLICT: something else than a conversation is there. *path: where it is now; the caller frees it, also after
 * a failure. */
MUST_USE int conversation_save(const struct talk *t, const char *folder, const char *name, char **path,
                               struct error *e);
/* Takes the place of what was said; the talk stays as it is where the file is none. *model: with whom it was held;
 * the caller frees it. */
MUST_USE int conversation_load(struct talk *t, const char *folder, const char *name, char **model, struct error *e);
/* The names in the folder, a line each; how many there are. */
size_t conversation_list(const char *folder, FILE *out);

#endif
