/* adapters: what --lora gave to a command that computes in this process. */
#ifndef CLI_ADAPTERS_H
#define CLI_ADAPTERS_H

#include "base/error.h"
#include "cli/settings.h"
#include "shard/arch/adapter.h"

/* The adapter that was given, or NULL. ERR_INVALID: several were. */
MUST_USE int adapters_open_one(struct adapter **out, float *scale, const struct settings *s, const struct model *m,
                               struct error *e);

#endif
