/* bias: the field logit_bias.  Not for other folders. */
#ifndef COORDINATOR_API_BIAS_H
#define COORDINATOR_API_BIAS_H

#include "coordinator/api/fields.h"

/* {"ID": BIAS} as OpenAI has it, and llama.cpp's [[ID or TEXT, BIAS]]; a bias of false keeps a token out. */
MUST_USE int bias_read(struct params *p, const json_t *bias, const struct api *a, struct refusal *r);

#endif
