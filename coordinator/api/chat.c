/* chat: conversations: POST /v1/chat/completions, and what other families' endpoints translate to it. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/chat.h"
#include "coordinator/api/request.h"

/* ---- the prompt ---- */

/* With "none" the model is told of no tools. What would force a call is refused until it can be kept. */
static int read_tools(const json_t *body, const json_t **out, struct refusal *r)
{
    const json_t *tools = json_object_get(body, "tools"), *choice = json_object_get(body, "tool_choice");
    const char *word = json_string_value(choice);
    *out = NULL;
    bool none = tools == NULL || json_is_null(tools) || (json_is_array(tools) && json_array_size(tools) == 0);
    if (none || (word != NULL && strcmp(word, "none") == 0))
        return 0;
    if (choice != NULL && !json_is_null(choice) && (word == NULL || strcmp(word, "auto") != 0))
        return refuse(r, ERR_UNSUPPORTED, "tool_choice", "tool_choice other than auto and none is not supported by "
                      "this server yet");
    *out = tools;
    return 0;
}

/* The request's chat_template_kwargs (which chat_render() refuses where they are no object), and what other fields say
 * to templates. The caller's. */
static int read_variables(const json_t *body, json_t **out, struct refusal *r)
{
    json_t *given = json_object_get(body, "chat_template_kwargs"), *effort = json_object_get(body, "reasoning_effort");
    json_t *documents = json_object_get(body, "documents");
    *out = NULL;
    if (effort != NULL && !json_is_null(effort) && !json_is_string(effort))
        return refuse(r, ERR_INVALID, "reasoning_effort", "reasoning_effort must be a string");
    if (documents != NULL && !json_is_null(documents) && !json_is_array(documents))
        return refuse(r, ERR_INVALID, "documents", "documents must be a list");
    *out = given != NULL && !json_is_null(given) ? json_copy(given) : json_object();
    if (json_is_array(documents) && json_object_get(*out, "documents") == NULL)
        json_object_set(*out, "documents", documents);
    if (!json_is_string(effort))
        return 0;
    if (json_object_get(*out, "enable_thinking") == NULL)
        json_object_set_new(*out, "enable_thinking", json_boolean(strcmp(json_string_value(effort), "none") != 0));
    if (json_object_get(*out, "reasoning_effort") == NULL)
        json_object_set(*out, "reasoning_effort", effort);
    return 0;
}

/* true unless the request says otherwise. */
static int read_opening(const json_t *body, bool *out, struct refusal *r)
{
    const json_t *open = json_object_get(body, "add_generation_prompt");
    *out = !json_is_false(open);
    if (open != NULL && !json_is_null(open) && !json_is_boolean(open))
        return refuse(r, ERR_INVALID, "add_generation_prompt", "add_generation_prompt must be true or false");
    return 0;
}

static void name_param(struct refusal *r, const struct chat_about *about)
{
    static const char *const names[] = {
        [CHAT_ABOUT_MESSAGES] = "messages", [CHAT_ABOUT_TOOLS] = "tools",
        [CHAT_ABOUT_VARIABLES] = "chat_template_kwargs",
    };
    if (about->part == CHAT_ABOUT_MESSAGE)
        snprintf(r->param, sizeof(r->param), "messages[%zu]", about->index);
    else
        snprintf(r->param, sizeof(r->param), "%s", names[about->part]);
}

/* *tools: those that it tells of, borrowed; NULL: none. */
static int render(const struct api *a, const json_t *body, struct jinja_output *out, const json_t **tools,
                  struct refusal *r)
{
    struct chat_request q = { .messages = json_object_get(body, "messages"), .now = clock_unix() };
    json_t *variables = NULL;
    struct chat_about about;
    *out = (struct jinja_output){ 0 };
    if (a->options.chat == NULL)
        return refuse(r, ERR_UNSUPPORTED, NULL, "this model cannot chat, use /v1/completions: %s",
                      a->chat_error != NULL ? a->chat_error : "it has no chat template");
    int rc = read_tools(body, &q.tools, r);
    if (rc == 0)
        rc = read_opening(body, &q.add_generation_prompt, r);
    if (rc == 0)
        rc = read_variables(body, &variables, r);
    if (rc == 0) {
        q.variables = variables;
        rc = chat_render(a->options.chat, &q, out, &about, &r->error);
        if (rc != 0)
            name_param(r, &about);
    }
    *tools = q.tools;
    json_decref(variables);
    return rc;
}

/* How the answer to this prompt is read. */
static void read_answer_by(const struct api *a, const struct jinja_output *text, const json_t *tools, struct params *p)
{
    p->formats = a->formats;
    p->tools = json_incref((json_t *)(uintptr_t)tools);
    p->thinking = reply_begins_thinking(&a->formats, text->text, text->len);
    p->reads = a->formats.thinking != NULL || (a->formats.calls != NULL &&
               (tools != NULL || a->formats.calls->style == REPLY_STYLE_CHANNELS));
}

int chat_prompt(const struct api *a, const json_t *body, struct prompt **out, struct params *p, struct refusal *r)
{
    struct jinja_output text;
    const json_t *tools = NULL;
    int rc = render(a, body, &text, &tools, r);
    if (rc == 0) {
        *out = mem_array(1, sizeof(**out));
        rc = chat_tokens(a->options.chat, &text, &(*out)->tokens, &r->error);
    }
    if (rc == 0 && p != NULL)
        read_answer_by(a, &text, tools, p);
    jinja_output_free(&text);
    return rc;
}

void chat_answer(const struct api *a, struct http_exchange *x, json_t *takes_body, const json_t *original,
                 const struct shape *shape)
{
    struct generation_request q;
    if (request_open(&q, a, x, takes_body, original, FOR_CHAT, shape) != 0)
        return;
    int rc = chat_prompt(a, q.body, &q.prompts, &q.params, &q.refusal);
    q.n_prompts = q.prompts == NULL ? 0 : 1;
    request_answer(&q, rc);
}

void api_chat(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL;
    if (json_body(&body, x, &r) == 0)
        chat_answer(arg, x, body, body, &openai_chat_shape);
    else
        reply_refusal(x, &r);
}

void api_apply_template(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct refusal r = { 0 };
    struct jinja_output text = { 0 };
    const json_t *tools = NULL;
    json_t *body = NULL;
    uint32_t adapter;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = api_find_model(a, body, &adapter, &r);
    if (rc == 0)
        rc = api_may_ask(a, x, adapter, &r);
    if (rc == 0)
        rc = render(a, body, &text, &tools, &r);
    if (rc == 0)
        reply_json(x, 200, json_pack("{s:s%}", "prompt", text.text, text.len));
    else
        reply_refusal(x, &r);
    jinja_output_free(&text);
    json_decref(body);
}
