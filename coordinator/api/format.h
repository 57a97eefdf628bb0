/* format: the form of the answer that a request asks for: response_format and its relatives.  Not for other folders. */
#ifndef COORDINATOR_API_FORMAT_H
#define COORDINATOR_API_FORMAT_H

#include "coordinator/api/private.h"
#include "text/grammar/grammar.h"

/* *out NULL: the answer is free. Else the caller's: grammar_drop(). What cannot be compiled is refused. */
MUST_USE int format_read(struct grammar **out, const json_t *body, const struct api *a, struct refusal *r);

#endif
