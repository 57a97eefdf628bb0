/* chat: templates are parsed and probed once; a conversation is fitted, rendered, and cut into tokens. */
#include "text/chat.h"

#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "text/chat_caps.h"
#include "text/chat_messages.h"
#include "text/chat_told.h"
#include "text/tokenizer_spans.h"

/* What models without a template get. */
static const char chatml[] =
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

enum { FIXED_VARIABLES = 5 };

struct chat {
    const struct tokenizer *tokenizer;
    struct jinja *plain;
    struct jinja *with_tools; /* the template for conversations with tools, NULL: the same */
    json_t *bos, *eos;        /* the texts of these tokens; NULL: none */
    struct chat_caps caps;
    struct reply_formats formats;
    bool thinks;
};

/* ---- opening ---- */

static json_t *token_text(const struct tokenizer *t, int32_t id)
{
    struct buffer text;
    buffer_init(&text, TOKENIZER_TOKEN_MAX);
    tokenizer_decode(t, id, true, &text);
    json_t *j = id >= 0 ? json_stringn(buffer_text(&text), text.len) : NULL;
    buffer_close(&text);
    return j;
}

static bool has_chatml(const struct tokenizer *t)
{
    return tokenizer_is_control(t, tokenizer_find(t, "<|im_start|>", 12)) &&
           tokenizer_is_control(t, tokenizer_find(t, "<|im_end|>", 10));
}

static const struct jinja *template_for(const struct chat *c, bool tools)
{
    return tools && c->with_tools ? c->with_tools : c->plain;
}

/* Probing counts on the same bytes that requests have. */
static void probe(struct chat *c, const char *source)
{
    const struct chat_tokens_text tokens = {.bos = c->bos, .eos = c->eos};
    chat_caps_probe(&c->caps, c->plain, template_for(c, true), source, &tokens);
}

static bool has_token(const void *arg, const char *text)
{
    return tokenizer_find(arg, text, strlen(text)) >= 0;
}

/* A vocabulary alone may have the tokens for it. */
static bool speaks_of_thinking(const struct reply_formats *f, const char *source)
{
    bool channels = f->calls && f->calls->style == REPLY_STYLE_CHANNELS;
    return channels || (f->thinking && (strstr(source, f->thinking->close) || strstr(source, "enable_thinking")));
}

/* Calls are as the template for conversations with tools writes them, where there is one. Some templates put their
 * marks together, so that they are seen in what is rendered. */
static void find_formats(struct chat *c, const char *source, const char *tool_source)
{
    const struct chat_tokens_text tokens = {.bos = c->bos, .eos = c->eos};
    char *shown = chat_caps_call(&c->caps, template_for(c, true), &tokens);
    char *calls = mem_printf("%s\n%s", tool_source ? tool_source : source, shown ? shown : "");
    c->formats = reply_formats_of(source, has_token, c->tokenizer);
    c->formats.calls = reply_formats_of(calls, has_token, c->tokenizer).calls;
    bool channels = c->formats.calls && c->formats.calls->style == REPLY_STYLE_CHANNELS;
    if (!c->caps.tools && !channels)
        c->formats.calls = reply_format_named(CHAT_TOLD_FORMAT);
    c->formats.chooses |= channels;
    c->thinks = speaks_of_thinking(&c->formats, source);
    mem_free(calls);
    mem_free(shown);
}

static int parse(struct chat *c, const char *source, const char *tool_source, struct error *e)
{
    int status = jinja_parse(&c->plain, source, strlen(source), e);
    if (status == 0 && tool_source)
        status = jinja_parse(&c->with_tools, tool_source, strlen(tool_source), e);
    return status;
}

int chat_open(struct chat **out, const struct tokenizer *t, const char *source, struct error *e)
{
    const char *tool_source = source ? NULL : tokenizer_tool_template(t);
    struct chat *c;
    *out = NULL;
    if (!source)
        source = tokenizer_chat_template(t);
    if (!source && !has_chatml(t))
        return error_set(e, ERR_UNSUPPORTED, "the model has no chat template, and its vocabulary lacks the control "
                         "tokens of ChatML, which would be the default");
    c = mem_alloc(sizeof(*c));
    c->tokenizer = t;
    c->bos = token_text(t, tokenizer_bos(t));
    c->eos = token_text(t, tokenizer_eos(t));
    int status = parse(c, source ? source : chatml, tool_source, e);
    if (status != 0) {
        chat_close(&c);
        return status;
    }
    probe(c, source ? source : chatml);
    find_formats(c, source ? source : chatml, tool_source);
    *out = c;
    return 0;
}

int chat_open_file(struct chat **out, const struct tokenizer *t, const char *path, struct error *e)
{
    char *source;
    size_t len;
    *out = NULL;
    int status = path_read(path, JINJA_SOURCE_MAX, &source, &len, e);
    if (status != 0)
        return status;
    if (strlen(source) != len)
        status = error_set(e, ERR_INVALID, "%s: no template has a byte 0", path);
    else if ((status = chat_open(out, t, source, e)) != 0)
        status = error_context(e, "%s", path);
    mem_free(source);
    return status;
}

void chat_close(struct chat **c)
{
    if (!*c)
        return;
    jinja_free(&(*c)->plain);
    jinja_free(&(*c)->with_tools);
    json_decref((*c)->bos);
    json_decref((*c)->eos);
    mem_free(*c);
    *c = NULL;
}

bool chat_has_tools(const struct chat *c)
{
    return c->caps.tools;
}

bool chat_thinks(const struct chat *c)
{
    return c->thinks;
}

struct reply_formats chat_formats(const struct chat *c)
{
    return c->formats;
}

/* ---- rendering ---- */

static int check_request(const struct chat_request *q, struct chat_about *about, struct error *e)
{
    about->part = CHAT_ABOUT_VARIABLES;
    if (q->variables && !json_is_null(q->variables) && !json_is_object(q->variables))
        return error_set(e, ERR_INVALID, "chat_template_kwargs must be an object");
    if (json_object_size(q->variables) > CHAT_VARIABLES_MAX)
        return error_set(e, ERR_LIMIT, "chat_template_kwargs takes at most %d variables", CHAT_VARIABLES_MAX);
    about->part = CHAT_ABOUT_TOOLS;
    if (q->tools && !json_is_null(q->tools)) {
        int status = chat_tools_check(q->tools, e);
        if (status != 0)
            return status;
    }
    return 0;
}

/* The request's own variables never take the place of these, also where there is none. */
static bool is_fixed(const struct jinja_variable *v, const char *name)
{
    for (size_t i = 0; i < FIXED_VARIABLES; i++)
        if (strcmp(v[i].name, name) == 0)
            return true;
    return false;
}

static int render(const struct chat *c, const struct chat_request *q, const json_t *messages, bool tools,
                  struct jinja_output *out, struct error *e)
{
    json_t *open = json_boolean(q->add_generation_prompt), *value;
    struct jinja_variable v[FIXED_VARIABLES + CHAT_VARIABLES_MAX] = {
        {"messages", messages, false},
        {"tools", tools ? q->tools : NULL, false},
        {"add_generation_prompt", open, true},
        {"bos_token", c->bos, true},
        {"eos_token", c->eos, true},
    };
    struct jinja_context context = {.variables = v, .n_variables = FIXED_VARIABLES,
                                    .harmless = chat_is_role, .now = q->now, .lenient = true};
    const char *name;
    json_object_foreach((json_t *)(uintptr_t)q->variables, name, value)
        if (!is_fixed(v, name))
            v[context.n_variables++] = (struct jinja_variable){name, value, false};
    return jinja_render(template_for(c, tools), &context, out, e);
}

/* Messages as the template copes with them; where it has no place for tools, these are told in words. */
static int fit_messages(const struct chat *c, const struct chat_request *q, json_t **out, struct chat_about *about,
                        struct error *e)
{
    bool tools = json_array_size(q->tools) > 0;
    *about = (struct chat_about){CHAT_ABOUT_MESSAGES, 0};
    int status = chat_messages_fit(out, q->messages, &c->caps, about, e);
    if (status != 0 || c->caps.tools || (!tools && c->caps.call))
        return status;
    json_decref(*out);
    json_t *told = chat_told_messages(q->messages, q->tools);
    status = chat_messages_fit(out, told, &c->caps, about, e);
    json_decref(told);
    return status;
}

int chat_render(const struct chat *c, const struct chat_request *q, struct jinja_output *out,
                struct chat_about *about, struct error *e)
{
    json_t *messages = NULL;
    struct chat_about own;
    about = about ? about : &own;
    bool tools = json_array_size(q->tools) > 0;
    *out = (struct jinja_output){0};
    int status = check_request(q, about, e);
    if (status == 0)
        status = fit_messages(c, q, &messages, about, e);
    if (status == 0)
        status = render(c, q, messages, tools, out, e);
    json_decref(messages);
    return status;
}

int chat_tokens(const struct chat *c, const struct jinja_output *text, struct token_list *out, struct error *e)
{
    struct token_source s = {
        .text = text->text, .len = text->len, .trusted = text->trusted, .n_trusted = text->n_trusted};
    return tokenizer_encode_spans(c->tokenizer, &s, out, e);
}

int chat_encode(const struct chat *c, const struct chat_request *q, struct token_list *out, struct error *e)
{
    struct jinja_output text;
    *out = (struct token_list){0};
    int status = chat_render(c, q, &text, NULL, e);
    if (status == 0)
        status = chat_tokens(c, &text, out, e);
    jinja_output_free(&text);
    return status;
}
