/* lexer: a template's source as tokens.  Not for other folders. */
#ifndef TEXT_JINJA_LEXER_H
#define TEXT_JINJA_LEXER_H

#include "base/arena.h"
#include "base/error.h"
#include "text/jinja/marked.h"

enum token_kind {
    TOKEN_DATA,    /* text between tags */
    TOKEN_BLOCK,   /* {% */
    TOKEN_BLOCK_END,
    TOKEN_PRINT,   /* {{ */
    TOKEN_PRINT_END,
    TOKEN_NAME,
    TOKEN_STRING,  /* without quotes, escapes undone */
    TOKEN_INT,
    TOKEN_FLOAT,
    TOKEN_OPERATOR,
    TOKEN_END,
};

struct token {
    enum token_kind kind;
    uint32_t line;
    struct marked text;
};

struct token_stream {
    struct token *tokens; /* mem_free(); the last one is TOKEN_END */
    size_t n;
};

/* The source's line breaks are "\n" and it has no last one; what tokens say lives in the arena or in the source. */
MUST_USE int lexer_read(struct token_stream *out, const char *source, size_t len, struct arena *arena,
                        struct error *e);

#endif
