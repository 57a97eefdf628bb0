/* chatml: the ChatML format, with the habits of a model's own template.
 *
 *     <|im_start|>ROLE\nCONTENT<|im_end|>\n  ...  <|im_start|>assistant\n
 *
 * Templates of this format differ in a few habits, which are read off their
 * source.  A template that prints what cannot be read off is refused: an answer
 * to a prompt that the model was not trained on is worse than none.  Not for
 * other folders.                                                             */
#ifndef TEXT_CHATML_H
#define TEXT_CHATML_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"
#include "text/chat.h"
#include "text/special.h"

struct chatml_habits {
    bool bos;             /* begins with the BOS token */
    bool thinks;          /* the assistant's turn is opened with <think> */
    bool trims;           /* messages lose the white space around them */
    bool forgets;         /* earlier answers are given without their reasoning */
    bool trims_rest;      /* ... and what remains loses the white space around it */
    bool tool_responses;  /* results of tools are the user's, between tags */
    bool tool_break;      /* ... and the closing tag ends its line */
    const char *system;   /* said where no system message comes first: inside the source, or NULL */
    size_t system_len;    /* of it, as the source spells it */
};

/* A text with the stretches of it that are the template's. */
struct chat_text {
    struct buffer text;
    struct text_span *trusted;
    size_t n_trusted, cap;
};

/* source: NULL for a model without a template. */
MUST_USE int chatml_read(struct chatml_habits *h, const char *source, struct error *e);
void chat_text_init(struct chat_text *t);
void chat_text_close(struct chat_text *t);
/* The text of the conversation, without BOS. */
MUST_USE int chatml_render(const struct chatml_habits *h, const struct chat_message *messages, size_t n,
                           bool add_generation_prompt, struct chat_text *out, struct error *e);

#endif
