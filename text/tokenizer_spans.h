/* tokenizer_spans: encoding a text of which only some parts may hold control tokens. Not for other folders. */
#ifndef TEXT_TOKENIZER_SPANS_H
#define TEXT_TOKENIZER_SPANS_H

#include "text/special.h"
#include "text/tokenizer.h"

struct token_source {
    const char *text;
    size_t len;
    const struct text_span *trusted; /* in order, apart */
    size_t n_trusted;
    bool bos;    /* put BOS before it */
    bool before, after; /* put there what the model asks for */
};

MUST_USE int tokenizer_encode_spans(const struct tokenizer *t, const struct token_source *s, struct token_list *out,
                                    struct error *e);

#endif
