/* parser: what statements and expressions share while a template is parsed.  Not for other folders. */
#ifndef TEXT_JINJA_PARSER_H
#define TEXT_JINJA_PARSER_H

#include "text/jinja/jinja.h"
#include "text/jinja/lexer.h"
#include "text/jinja/node.h"

enum { NAME_BUCKETS = 1024 };

struct parser {
    struct jinja *out;
    struct name **buckets; /* of names, by hash */
    struct token_stream tokens;
    size_t at;
    uint32_t depth;
    uint32_t loops;       /* that the present place is inside of */
    bool soft;            /* inside of an if: unknown filters and tests fail only when they are reached */
    const struct node *unknown; /* the first one outside of an if, or NULL */
    struct node *macro;   /* whose body is parsed, or NULL */
    struct error *e;
    int status;
};

/* Sticky: the first failure counts. Always NULL. */
void *parser_fail(struct parser *p, const char *format, ...) PRINTF_LIKE(2, 3);
const struct token *parser_token(const struct parser *p);
const struct token *parser_look(const struct parser *p, size_t ahead);
void parser_next(struct parser *p);
bool parser_is(const struct parser *p, enum token_kind kind, const char *words);
bool parser_skip(struct parser *p, enum token_kind kind, const char *words);
void parser_expect(struct parser *p, enum token_kind kind, const char *words);
bool parser_enter(struct parser *p);
void parser_leave(struct parser *p);

void *parser_alloc(struct parser *p, size_t bytes);
struct node *parser_node(struct parser *p, enum node_kind kind);
void parser_push(struct parser *p, struct node_list *l, const struct node *n);
void parser_push_name(struct parser *p, struct name_list *l, const struct name *n);
const struct name *parser_name(struct parser *p, const struct marked *text);
struct value parser_text(struct parser *p, struct marked text);

/* scopes.c: fills the hidden names of a whole template */
void parser_find_hidden(struct parser *p);
/* expression.c */
const struct node *parse_expression(struct parser *p);
/* Without an inline if. */
const struct node *parse_condition(struct parser *p);
/* One expression, or several apart by commas: a tuple. `end`: a name that ends it, or NULL. */
const struct node *parse_tuple(struct parser *p, bool inline_if, const char *end);
const struct node *parse_target(struct parser *p, bool spaces, const char *end);
/* Name and arguments of filters, the first without its bar when `start`; a: what is filtered. */
const struct node *parse_filter(struct parser *p, const struct node *a, bool start);

#endif
