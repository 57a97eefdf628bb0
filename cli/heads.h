/* heads: what serve, coordinator and up share: their settings as a coordinator's options, and waiting. */
#ifndef CLI_HEADS_H
#define CLI_HEADS_H

#include "cli/command.h"
#include "coordinator/coordinator.h"

/* Everything that all three commands have. Strings are the settings'. Also sets the log level. */
MUST_USE int heads_options(struct coordinator_options *o, const struct settings *s, const char *model_path,
                           struct error *e);
/* "<state dir>/<name>", the state dir being the settings' or the house's. Caller frees. */
char *heads_state_dir(const struct settings *s, const char *name);
/* The folder of the operator's token and users' keys for who keeps nothing else: the coordinator's. *out NULL: it
 * cannot be made, and was not asked for, so there are no keys in it either. Caller frees. */
MUST_USE int heads_api_dir(char **out, const struct settings *s, struct error *e);
MUST_USE int heads_log_level(const struct settings *s, struct error *e);

/* A new folder below $TMPDIR; NULL with the sentence in `e`. Free it with heads_remove_dir(), which deletes what is in
 * it. */
char *heads_temporary_dir(struct error *e);
void heads_remove_dir(char **dir); /* NULL inside is fine */

#endif
