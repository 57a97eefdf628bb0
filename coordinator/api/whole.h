/* whole: a choice's pieces put together.  Not for other folders. */
#ifndef COORDINATOR_API_WHOLE_H
#define COORDINATOR_API_WHOLE_H

#include "coordinator/api/answer.h"

struct whole_call {
    char *id, *name;
    struct buffer arguments;
};

struct whole {
    struct buffer text, reasoning;
    struct whole_call *calls;
    struct call_whole *shown; /* the calls as shapes see them */
    size_t n_calls;
    struct token_info *tokens;
    size_t n_tokens;
    const char *finish;
    char *stop_word;
};

void whole_init(struct whole *w);
void whole_close(struct whole *w);
void whole_add(struct whole *w, const struct piece *p);
/* Borrows from w. */
void whole_choice(struct whole *w, struct choice_whole *out);

#endif
