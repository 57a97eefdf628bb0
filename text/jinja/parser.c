/* parser: tokens, memory, and statements: one function a tag. */
#include "text/jinja/parser.h"

#include <string.h>

#include "base/memory.h"
#include "text/utf8.h"

enum { ARENA_BASE = 8 << 20, ARENA_PER_BYTE = 128 };

/* ---- tokens ---- */

void *parser_fail(struct parser *p, const char *format, ...)
{
    char words[256];
    va_list args;
    if (p->status != 0)
        return NULL;
    va_start(args, format);
    vsnprintf(words, sizeof(words), format, args);
    va_end(args);
    p->status = error_set(p->e, ERR_INVALID, "line %u: %s", parser_token(p)->line, words);
    return NULL;
}

const struct token *parser_look(const struct parser *p, size_t ahead)
{
    size_t at = p->at + ahead;
    return &p->tokens.tokens[at < p->tokens.n ? at : p->tokens.n - 1];
}

const struct token *parser_token(const struct parser *p)
{
    return parser_look(p, 0);
}

void parser_next(struct parser *p)
{
    if (p->at + 1 < p->tokens.n)
        p->at++;
}

bool parser_is(const struct parser *p, enum token_kind kind, const char *words)
{
    const struct token *t = parser_token(p);
    return p->status == 0 && t->kind == kind && (!words || marked_is(&t->text, words));
}

bool parser_skip(struct parser *p, enum token_kind kind, const char *words)
{
    if (!parser_is(p, kind, words))
        return false;
    parser_next(p);
    return true;
}

static const char *kind_words(enum token_kind kind)
{
    static const char *const names[] = {
        [TOKEN_DATA] = "text", [TOKEN_BLOCK] = "{%", [TOKEN_BLOCK_END] = "%}", [TOKEN_PRINT] = "{{",
        [TOKEN_PRINT_END] = "}}", [TOKEN_NAME] = "a name", [TOKEN_STRING] = "a string", [TOKEN_INT] = "a number",
        [TOKEN_FLOAT] = "a number", [TOKEN_OPERATOR] = "an operator", [TOKEN_END] = "the end of the template",
    };
    return names[kind];
}

void parser_expect(struct parser *p, enum token_kind kind, const char *words)
{
    const struct token *t = parser_token(p);
    if (p->status == 0 && !parser_skip(p, kind, words))
        parser_fail(p, "expected %s, got %s%s%.*s", words ? words : kind_words(kind), kind_words(t->kind),
                    t->text.len ? " " : "", t->text.len < 60 ? (int)t->text.len : 60, t->text.bytes);
}

bool parser_enter(struct parser *p)
{
    if (p->depth >= JINJA_NESTING_MAX)
        parser_fail(p, "the template nests deeper than %d", JINJA_NESTING_MAX);
    p->depth += p->status == 0;
    return p->status == 0;
}

void parser_leave(struct parser *p)
{
    p->depth--;
}

/* ---- memory ---- */

void *parser_alloc(struct parser *p, size_t bytes)
{
    void *memory = p->status == 0 ? arena_alloc(p->out->arena, bytes) : NULL;
    if (!memory)
        parser_fail(p, "the template is too large");
    return memory;
}

struct node *parser_node(struct parser *p, enum node_kind kind)
{
    struct node *n = parser_alloc(p, sizeof(*n));
    if (n) {
        n->kind = kind;
        n->line = parser_token(p)->line;
    }
    return n;
}

void parser_push(struct parser *p, struct node_list *l, const struct node *n)
{
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 4;
        const struct node **items = parser_alloc(p, cap * sizeof(const struct node *));
        if (!items)
            return;
        for (uint32_t i = 0; i < l->n; i++)
            items[i] = l->items[i];
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = n;
}

void parser_push_name(struct parser *p, struct name_list *l, const struct name *n)
{
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 4;
        const struct name **items = parser_alloc(p, cap * sizeof(const struct name *));
        if (!items)
            return;
        for (uint32_t i = 0; i < l->n; i++)
            items[i] = l->items[i];
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = n;
}

static struct name **bucket_of(struct parser *p, const struct marked *text)
{
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < text->len; i++)
        hash = (hash ^ (unsigned char)text->bytes[i]) * 16777619U;
    return &p->buckets[hash % NAME_BUCKETS];
}

const struct name *parser_name(struct parser *p, const struct marked *text)
{
    struct name **bucket = bucket_of(p, text);
    for (const struct name *n = *bucket; n; n = n->next_of_hash)
        if (marked_equal(&n->text, text))
            return n;
    struct name *n = parser_alloc(p, sizeof(*n));
    char *copy = n ? parser_alloc(p, text->len + 1) : NULL;
    if (!copy)
        return NULL;
    memcpy(copy, text->bytes, text->len);
    n->text = marked_own(copy, text->len);
    n->next = p->out->names;
    p->out->names = n;
    n->next_of_hash = *bucket;
    *bucket = n;
    return n;
}

struct value parser_text(struct parser *p, struct marked text)
{
    struct marked *copy = parser_alloc(p, sizeof(*copy));
    if (copy)
        *copy = text;
    return (struct value){.kind = VALUE_TEXT, .text = copy};
}

/* ---- statements ---- */

static void parse_until(struct parser *p, struct node_list *body, const char *const *ends);

/* After a tag's own words: its end, then statements up to one of the tags of `ends`, which is the next token. */
static void parse_body(struct parser *p, struct node_list *body, const char *const *ends)
{
    parser_skip(p, TOKEN_OPERATOR, ":");
    parser_expect(p, TOKEN_BLOCK_END, NULL);
    if (!parser_enter(p))
        return;
    parse_until(p, body, ends);
    parser_leave(p);
}

static void parse_closed_body(struct parser *p, struct node_list *body, const char *end)
{
    const char *const ends[] = {end, NULL};
    parse_body(p, body, ends);
    parser_expect(p, TOKEN_NAME, end);
}

static const struct node *parse_if(struct parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct node *n = parser_node(p, NODE_IF);
    bool soft = p->soft;
    if (!n || !parser_enter(p))
        return NULL;
    p->soft = true;
    n->a = parse_tuple(p, false, NULL);
    parse_body(p, &n->list, ends);
    if (parser_skip(p, TOKEN_NAME, "elif"))
        parser_push(p, &n->other, parse_if(p));
    else if (parser_skip(p, TOKEN_NAME, "else"))
        parse_closed_body(p, &n->other, "endif");
    else
        parser_expect(p, TOKEN_NAME, "endif");
    p->soft = soft;
    parser_leave(p);
    return n;
}

static const struct node *parse_for(struct parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct node *n = parser_node(p, NODE_FOR);
    bool soft = p->soft;
    if (!n)
        return NULL;
    n->a = parse_target(p, false, "in");
    parser_expect(p, TOKEN_NAME, "in");
    n->b = parse_tuple(p, false, "recursive");
    p->soft = false;
    if (parser_skip(p, TOKEN_NAME, "if"))
        n->c = parse_expression(p);
    n->flag = parser_skip(p, TOKEN_NAME, "recursive");
    p->loops++;
    parse_body(p, &n->list, ends);
    p->loops--;
    if (parser_skip(p, TOKEN_NAME, "else"))
        parse_closed_body(p, &n->other, "endfor");
    else
        parser_expect(p, TOKEN_NAME, "endfor");
    p->soft = soft;
    return n;
}

static const struct node *parse_set(struct parser *p)
{
    struct node *n = parser_node(p, NODE_SET);
    if (!n)
        return NULL;
    n->a = parse_target(p, true, NULL);
    if (parser_skip(p, TOKEN_OPERATOR, "=")) {
        n->b = parse_tuple(p, true, NULL);
        return n;
    }
    n->kind = NODE_SET_BLOCK;
    if (parser_is(p, TOKEN_OPERATOR, "|"))
        n->b = parse_filter(p, NULL, false);
    parse_closed_body(p, &n->list, "endset");
    return n;
}

static void add_param(struct parser *p, struct node *n, const struct node *target, const struct node *value)
{
    struct node_param *params = parser_alloc(p, (n->n_params + 1) * sizeof(*params));
    if (!params)
        return;
    if (n->n_params > 0)
        memcpy(params, n->params, n->n_params * sizeof(*params));
    params[n->n_params++] = (struct node_param){target, value};
    n->params = params;
}

static void parse_signature(struct parser *p, struct node *n)
{
    parser_expect(p, TOKEN_OPERATOR, "(");
    while (p->status == 0 && !parser_is(p, TOKEN_OPERATOR, ")")) {
        if (n->n_params > 0)
            parser_expect(p, TOKEN_OPERATOR, ",");
        if (parser_is(p, TOKEN_OPERATOR, ")"))
            break;
        struct node *target = parser_node(p, NODE_NAME);
        if (target)
            target->name = parser_name(p, &parser_token(p)->text);
        parser_expect(p, TOKEN_NAME, NULL);
        const struct node *value = parser_skip(p, TOKEN_OPERATOR, "=") ? parse_expression(p) : NULL;
        if (!value && n->n_params > 0 && n->params[n->n_params - 1].value)
            parser_fail(p, "non-default argument follows default argument");
        if (n->n_params >= 255)
            parser_fail(p, "a macro has more than 255 parameters");
        add_param(p, n, target, value);
    }
    parser_expect(p, TOKEN_OPERATOR, ")");
}

static void parse_macro_body(struct parser *p, struct node *n, const char *end)
{
    struct node *around = p->macro;
    uint32_t loops = p->loops;
    bool soft = p->soft;
    p->macro = n;
    p->loops = 0;
    p->soft = false;
    parse_closed_body(p, &n->list, end);
    p->soft = soft;
    p->loops = loops;
    p->macro = around;
}

static const struct node *parse_macro(struct parser *p)
{
    struct node *n = parser_node(p, NODE_MACRO);
    if (!n)
        return NULL;
    n->name = parser_name(p, &parser_token(p)->text);
    parser_expect(p, TOKEN_NAME, NULL);
    parse_signature(p, n);
    parse_macro_body(p, n, "endmacro");
    return n;
}

static const struct node *parse_call_block(struct parser *p)
{
    struct node *n = parser_node(p, NODE_CALL_BLOCK), *macro = parser_node(p, NODE_MACRO);
    if (!n || !macro)
        return NULL;
    if (parser_is(p, TOKEN_OPERATOR, "("))
        parse_signature(p, macro);
    n->a = parse_expression(p);
    if (p->status == 0 && n->a->kind != NODE_CALL)
        return parser_fail(p, "expected call");
    n->b = macro;
    parse_macro_body(p, macro, "endcall");
    return n;
}

static const struct node *parse_filter_block(struct parser *p)
{
    struct node *n = parser_node(p, NODE_FILTER_BLOCK);
    if (!n)
        return NULL;
    n->b = parse_filter(p, NULL, true);
    parse_closed_body(p, &n->list, "endfilter");
    return n;
}

static const struct node *parse_with(struct parser *p)
{
    struct node *n = parser_node(p, NODE_WITH);
    while (n && p->status == 0 && !parser_is(p, TOKEN_BLOCK_END, NULL)) {
        if (n->n_params > 0)
            parser_expect(p, TOKEN_OPERATOR, ",");
        const struct node *target = parse_target(p, false, NULL);
        parser_expect(p, TOKEN_OPERATOR, "=");
        add_param(p, n, target, parse_expression(p));
    }
    if (n)
        parse_closed_body(p, &n->list, "endwith");
    return n;
}

/* Tags whose body is only a scope of its own here: what training uses to mark answers, and blocks without heirs. */
static const struct node *parse_scope(struct parser *p, const char *end)
{
    struct node *n = parser_node(p, NODE_SCOPE);
    uint32_t loops = p->loops;
    if (!n)
        return NULL;
    p->loops = 0;
    parse_closed_body(p, &n->list, end);
    p->loops = loops;
    return n;
}

static const struct node *parse_generation(struct parser *p)
{
    return parse_scope(p, "endgeneration");
}

static const struct node *parse_block(struct parser *p)
{
    parser_expect(p, TOKEN_NAME, NULL);
    while (parser_skip(p, TOKEN_NAME, "scoped") || parser_skip(p, TOKEN_NAME, "required"))
        ;
    const struct node *n = parse_scope(p, "endblock");
    parser_skip(p, TOKEN_NAME, NULL);
    return n;
}

static const struct node *parse_autoescape(struct parser *p)
{
    if (!parser_skip(p, TOKEN_NAME, "false") && !parser_skip(p, TOKEN_NAME, "False"))
        return parser_fail(p, "autoescape is only supported as false");
    return parse_scope(p, "endautoescape");
}

static const struct node *parse_print(struct parser *p)
{
    struct node *n = parser_node(p, NODE_OUTPUT), *all = parser_node(p, NODE_CONCAT);
    if (!n || !all)
        return NULL;
    n->a = all;
    do
        parser_push(p, &all->list, parse_expression(p));
    while (parser_skip(p, TOKEN_OPERATOR, ","));
    return n;
}

static const struct node *parse_break(struct parser *p)
{
    return p->loops > 0 ? parser_node(p, NODE_BREAK) : parser_fail(p, "'break' outside loop");
}

static const struct node *parse_continue(struct parser *p)
{
    return p->loops > 0 ? parser_node(p, NODE_CONTINUE) : parser_fail(p, "'continue' not properly in loop");
}

/* There are no other templates: what asks for one fails when it is reached. */
static const struct node *parse_import(struct parser *p)
{
    static const char words[] = "no loader for this environment specified";
    struct node *n = parser_node(p, NODE_REFUSE);
    while (p->status == 0 && !parser_is(p, TOKEN_BLOCK_END, NULL) && !parser_is(p, TOKEN_END, NULL))
        parser_next(p);
    if (n)
        n->constant = parser_text(p, marked_own(words, sizeof(words) - 1));
    return n;
}

static const struct {
    const char *name;
    const struct node *(*parse)(struct parser *p);
} tags[] = {
    {"if", parse_if},           {"for", parse_for},           {"set", parse_set},
    {"macro", parse_macro},     {"call", parse_call_block},   {"filter", parse_filter_block},
    {"with", parse_with},       {"break", parse_break},       {"continue", parse_continue},
    {"print", parse_print},     {"block", parse_block},       {"generation", parse_generation},
    {"include", parse_import},  {"import", parse_import},     {"from", parse_import},
    {"extends", parse_import},  {"autoescape", parse_autoescape},
};

static const struct node *parse_statement(struct parser *p)
{
    const struct token *t = parser_token(p);
    for (size_t i = 0; i < COUNTOF(tags); i++) {
        if (!parser_skip(p, TOKEN_NAME, tags[i].name))
            continue;
        const struct node *n = tags[i].parse(p);
        parser_expect(p, TOKEN_BLOCK_END, NULL);
        return n;
    }
    if (t->kind != TOKEN_NAME)
        return parser_fail(p, "tag name expected");
    return parser_fail(p, "Encountered unknown tag '%.*s'.", t->text.len < 60 ? (int)t->text.len : 60, t->text.bytes);
}

static void parse_output(struct parser *p, struct node_list *body)
{
    struct node *n = parser_node(p, NODE_OUTPUT);
    if (!n)
        return;
    if (parser_is(p, TOKEN_DATA, NULL)) {
        struct node *text = parser_node(p, NODE_CONST);
        if (text)
            text->constant = parser_text(p, parser_token(p)->text);
        n->a = text;
        parser_next(p);
    } else {
        parser_expect(p, TOKEN_PRINT, NULL);
        n->a = parse_tuple(p, true, NULL);
        parser_expect(p, TOKEN_PRINT_END, NULL);
    }
    parser_push(p, body, n);
}

static bool at_one_of(const struct parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (parser_is(p, TOKEN_NAME, *ends))
            return true;
    return false;
}

static void parse_until(struct parser *p, struct node_list *body, const char *const *ends)
{
    while (p->status == 0) {
        if (parser_is(p, TOKEN_END, NULL)) {
            if (ends)
                parser_fail(p, "Unexpected end of template. Jinja was looking for the following tags: '%s'%s%s.",
                            ends[0], ends[1] ? " or " : "", ends[1] ? ends[1] : "");
            return;
        }
        if (!parser_skip(p, TOKEN_BLOCK, NULL)) {
            parse_output(p, body);
        } else if (at_one_of(p, ends)) {
            return;
        } else {
            const struct node *n = parse_statement(p);
            if (p->status == 0)
                parser_push(p, body, n);
        }
    }
}

/* ---- templates ---- */

/* A copy with "\n" for every line break, and without the last one. */
static char *normal_source(struct arena *arena, const char *source, size_t *len)
{
    char *copy = arena_alloc(arena, *len + 1);
    size_t n = 0;
    for (size_t i = 0; copy && i < *len; i++) {
        if (source[i] == '\r' && i + 1 < *len && source[i + 1] == '\n')
            continue;
        copy[n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (copy && n > 0 && copy[n - 1] == '\n')
        n--;
    if (copy)
        copy[n] = 0;
    *len = n;
    return copy;
}

static int check_source(const char *source, size_t len, struct error *e)
{
    if (len > JINJA_SOURCE_MAX)
        return error_set(e, ERR_LIMIT, "the chat template has %zu bytes; at most %d can be", len, JINJA_SOURCE_MAX);
    for (size_t at = 0; at < len;) {
        int n = utf8_step(source + at, len - at);
        if (n <= 0)
            return error_set(e, ERR_INVALID, "the chat template is not UTF-8 at byte %zu", at);
        at += (size_t)n;
    }
    return 0;
}

static const struct name *intern(struct parser *p, const char *words)
{
    struct marked text = marked_own(words, strlen(words));
    return parser_name(p, &text);
}

int jinja_parse(struct jinja **out, const char *source, size_t len, struct error *e)
{
    struct error own;
    *out = NULL;
    e = e ? e : &own;
    int status = check_source(source, len, e);
    if (status != 0)
        return status;
    struct jinja *t = mem_alloc(sizeof(*t));
    struct parser p = {.out = t, .e = e};
    t->arena = arena_create(ARENA_BASE + len * ARENA_PER_BYTE);
    const char *text = normal_source(t->arena, source, &len);
    status = lexer_read(&p.tokens, text, len, t->arena, e);
    if (status == 0) {
        p.buckets = mem_array(NAME_BUCKETS, sizeof(struct name *));
        t->loop = intern(&p, "loop");
        t->caller = intern(&p, "caller");
        t->varargs = intern(&p, "varargs");
        t->kwargs = intern(&p, "kwargs");
        parse_until(&p, &t->body, NULL);
        if (p.status == 0)
            parser_find_hidden(&p);
        if (p.unknown && p.status == 0)
            p.status = error_set(e, ERR_INVALID, "line %u: No %s named '%.*s'.", p.unknown->line,
                                 p.unknown->kind == NODE_TEST ? "test" : "filter", (int)p.unknown->constant.text->len,
                                 p.unknown->constant.text->bytes);
        status = p.status;
    }
    mem_free(p.tokens.tokens);
    mem_free(p.buckets);
    if (status != 0) {
        jinja_free(&t);
        return error_context(e, "the chat template");
    }
    *out = t;
    return 0;
}

void jinja_free(struct jinja **t)
{
    if (!*t)
        return;
    arena_destroy(&(*t)->arena);
    mem_free(*t);
    *t = NULL;
}
