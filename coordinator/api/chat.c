/* chat: conversations: POST /v1/chat/completions, and what other families' endpoints translate to it. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/chat.h"
#include "coordinator/api/prefill.h"
#include "coordinator/api/reasoning.h"
#include "coordinator/api/request.h"
#include "coordinator/api/tools.h"

/* ---- the prompt ---- */

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

/* What a chat's fields say of its answer. */
struct asked {
    struct tool_choice tools;
    struct reasoning reasoning;
    struct prefill begun;
};

static void asked_close(struct asked *q)
{
    json_decref(q->tools.callable);
    json_decref(q->reasoning.variables);
    prefill_close(&q->begun);
}

/* The messages before one that is gone on with. A template that lets the model choose shall not have it think then:
 * its thoughts would come in the middle of what it says. */
static void begin_turn(struct chat_request *q, const struct asked *asked)
{
    json_t *variables = asked->reasoning.variables;
    if (asked->begun.before == NULL)
        return;
    q->messages = asked->begun.before;
    q->add_generation_prompt = true;
    if (json_object_get(variables, "enable_thinking") == NULL)
        json_object_set_new(variables, "enable_thinking", json_false());
}

/* For asked_close() and jinja_output_free() in every case. */
static int render(const struct api *a, const json_t *body, struct asked *asked, struct jinja_output *out,
                  struct refusal *r)
{
    struct chat_request q = { .messages = json_object_get(body, "messages"), .now = clock_unix() };
    struct chat_about about;
    *out = (struct jinja_output){ 0 };
    *asked = (struct asked){ 0 };
    if (a->options.chat == NULL)
        return refuse(r, ERR_UNSUPPORTED, NULL, "this model cannot chat, use /v1/completions: %s",
                      a->chat_error != NULL ? a->chat_error : "it has no chat template");
    int rc = tools_read(&asked->tools, body, r);
    if (rc == 0)
        rc = read_opening(body, &q.add_generation_prompt, r);
    if (rc == 0)
        rc = reasoning_read(&asked->reasoning, body, r);
    if (rc == 0)
        rc = prefill_read(&asked->begun, body, r);
    if (rc != 0)
        return rc;
    begin_turn(&q, asked);
    q.tools = asked->tools.offered;
    q.variables = asked->reasoning.variables;
    rc = chat_render(a->options.chat, &q, out, &about, &r->error);
    if (rc != 0)
        name_param(r, &about);
    return rc == 0 && asked->begun.before != NULL ? prefill_add(&asked->begun, a, out, r) : rc;
}

/* How the answer to this prompt is made, and read. */
static int plan_answer(struct params *p, const struct api *a, const struct asked *asked,
                       const struct jinja_output *text, struct refusal *r)
{
    p->formats = a->formats;
    p->shows_reasoning = p->shows_reasoning && !asked->reasoning.hidden;
    p->tools = json_incref((json_t *)(uintptr_t)asked->tools.offered);
    p->reads = a->formats.thinking != NULL || (a->formats.calls != NULL &&
               (p->tools != NULL || a->formats.calls->style == REPLY_STYLE_CHANNELS));
    if (asked->reasoning.raw)
        p->formats.thinking = NULL;
    reasoning_plan(p, a, &asked->reasoning, text->text, text->len);
    return tools_plan(p, a, &asked->tools, r);
}

int chat_prompt(const struct api *a, const json_t *body, struct prompt **out, struct params *p, struct refusal *r)
{
    struct jinja_output text;
    struct asked asked;
    int rc = render(a, body, &asked, &text, r);
    if (rc == 0) {
        *out = mem_array(1, sizeof(**out));
        rc = chat_tokens(a->options.chat, &text, &(*out)->tokens, &r->error);
    }
    if (rc == 0 && p != NULL)
        rc = plan_answer(p, a, &asked, &text, r);
    jinja_output_free(&text);
    asked_close(&asked);
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
    struct asked asked = { 0 };
    json_t *body = NULL;
    uint32_t adapter;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = api_find_model(a, body, &adapter, &r);
    if (rc == 0)
        rc = api_may_ask(a, x, adapter, &r);
    if (rc == 0)
        rc = render(a, body, &asked, &text, &r);
    if (rc == 0)
        reply_json(x, 200, json_pack("{s:s%}", "prompt", text.text, text.len));
    else
        reply_refusal(x, &r);
    jinja_output_free(&text);
    asked_close(&asked);
    json_decref(body);
}
