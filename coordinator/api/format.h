/* format: the form of the answer that a request asks for: response_format and its relatives.  Not for other folders. */
#ifndef COORDINATOR_API_FORMAT_H
#define COORDINATOR_API_FORMAT_H

#include "coordinator/api/private.h"
#include "text/grammar/grammar.h"

/* The form that was asked for. */
struct form {
    enum grammar_kind kind; /* GRAMMAR_NONE: the answer is free */
    json_t *source;         /* of grammar_of(); json_decref() */
};

/* The form, and its grammar, NULL where the answer is free: grammar_drop(). What cannot be compiled is refused. */
MUST_USE int format_read(struct form *form, struct grammar **out, const json_t *body, const struct api *a,
                         struct refusal *r);

#endif
