/* adapters: what --lora gave: names, paths and scales, checked against each other. */
#ifndef CLI_ADAPTERS_H
#define CLI_ADAPTERS_H

#include <stdint.h>

#include "base/error.h"
#include "cli/settings.h"
#include "shard/arch/adapter.h"

/* ERR_INVALID: no adapter's spec, or two of one name. Caller frees with adapters_free(). */
MUST_USE int adapters_read(struct adapter_spec **out, uint32_t *n, const struct settings *s, struct error *e);
void adapters_free(struct adapter_spec **specs, uint32_t n);

/* For commands that compute with one adapter: it, or NULL where none was given. ERR_INVALID: several were. */
MUST_USE int adapters_open_one(struct adapter **out, float *scale, const struct settings *s, const struct model *m,
                               struct error *e);

#endif
