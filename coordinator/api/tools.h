/* tools: which tools a chat's answer may or must call.  Not for other folders. */
#ifndef COORDINATOR_API_TOOLS_H
#define COORDINATOR_API_TOOLS_H

#include "coordinator/api/fields.h"

struct tool_choice {
    const json_t *offered; /* to the template; borrowed, NULL: none */
    json_t *callable;      /* of these, what may be called; NULL as above. json_decref() also after a refusal */
    bool required;         /* one must be */
    bool many;             /* calls in one answer */
};

/* tools, tool_choice, parallel_tool_calls. */
MUST_USE int tools_read(struct tool_choice *out, const json_t *body, struct refusal *r);
/* The grammar that keeps to it, where one is needed: into p->plan. */
MUST_USE int tools_plan(struct params *p, const struct api *a, const struct tool_choice *c, struct refusal *r);

#endif
