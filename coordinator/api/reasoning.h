/* reasoning: whether and how long a model shall think before it answers.  Not for other folders. */
#ifndef COORDINATOR_API_REASONING_H
#define COORDINATOR_API_REASONING_H

#include "coordinator/api/fields.h"

enum thinking { THINKING_UNSAID, THINKING_OFF, THINKING_ON };

struct reasoning {
    json_t *variables;      /* for the template, with the request's own; json_decref() also after a refusal */
    enum thinking thinking;
    int64_t budget;         /* of the reasoning object; -1: none */
    bool hidden;            /* it asks for that */
    bool raw;               /* reasoning stays in the text, marks and all */
};

/* reasoning_effort, reasoning, chat_template_kwargs, documents. */
MUST_USE int reasoning_read(struct reasoning *out, const json_t *body, struct refusal *r);

/* The marks of the model's format, as tokens; once, when the formats are known. */
void reasoning_marks(struct api *a);
/* How the answer to this prompt begins, and for how long it may be reasoning: into p->plan. */
void reasoning_plan(struct params *p, const struct api *a, const struct reasoning *asked, const char *prompt,
                    size_t len);

#endif
