/* repl: a chat on a terminal: lines in, answers out, and commands that begin with a slash.
 *
 * repl.c reads what is typed and owns the loop; repl_commands.c is a row a
 * command.  One thread owns a repl.                                          */
#ifndef CLI_REPL_H
#define CLI_REPL_H

#include <stdbool.h>

#include "base/error.h"
#include "cli/line.h"
#include "cli/talk.h"

struct repl {
    struct talk *talk;
    const char *model; /* as it was given */
    struct line *line;
    char *folder;      /* of saved conversations */
    bool over;         /* /bye */
};

/* Until the user leaves. */
MUST_USE int repl_run(struct talk *t, const struct settings *s, struct error *e);
/* A text that begins with a slash. The error is for the user; the chat goes on. */
MUST_USE int repl_command(struct repl *r, const char *text, struct error *e);

#endif
