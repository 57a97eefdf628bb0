/* models: the one place where the MODEL of a command becomes a path.
 *
 * It may be a path, the name of a model that was pulled (shoal ls), or a source
 * of the hub (hf:ORG/REPO[:QUANT]), which commands that run a model pull when it
 * is not there.                                                              */
#ifndef CLI_MODELS_H
#define CLI_MODELS_H

#include "cli/settings.h"
#include "coordinator/pull/pull.h"

/* Replaces the MODEL argument and settings of the command by paths. */
MUST_USE int models_resolve(struct settings *s, enum command_bit command, struct error *e);
/* With a bar, or lines, on standard error; Ctrl-C stops it. */
MUST_USE int models_pull(struct model_entry *out, struct pull_report *report, struct pull_options *o, struct error *e);

#endif
