/* reasoning: fields become variables of the template, and what no template keeps to becomes a budget. */
#include "coordinator/api/reasoning.h"

#include <string.h>

/* ---- fields ---- */

static int read_text(const json_t *v, const char *name, struct refusal *r)
{
    if (v != NULL && !json_is_null(v) && !json_is_string(v))
        return refuse(r, ERR_INVALID, name, "%s must be a string", name);
    return 0;
}

static int read_object(const json_t *v, const char *name, struct refusal *r)
{
    if (v != NULL && !json_is_null(v) && !json_is_object(v))
        return refuse(r, ERR_INVALID, name, "%s must be an object", name);
    return 0;
}

/* llama.cpp's word. */
static int read_format(struct reasoning *out, const json_t *v, struct refusal *r)
{
    const char *word = json_string_value(v);
    out->raw = word != NULL && strcmp(word, "none") == 0;
    if (v == NULL || json_is_null(v) || out->raw ||
        (word != NULL && (strcmp(word, "auto") == 0 || strcmp(word, "deepseek") == 0)))
        return 0;
    return refuse(r, ERR_INVALID, "reasoning_format", "reasoning_format must be \"auto\", \"deepseek\" or \"none\"");
}

/* {"effort": WORD, "max_tokens": N, "enabled": BOOL, "exclude": BOOL} of other servers. */
static int read_nested(struct reasoning *out, const json_t *v, const json_t **effort, struct refusal *r)
{
    const json_t *word = json_object_get(v, "effort"), *most = json_object_get(v, "max_tokens");
    const json_t *enabled = json_object_get(v, "enabled");
    int rc = read_object(v, "reasoning", r);
    if (rc == 0)
        rc = read_text(word, "reasoning.effort", r);
    if (rc != 0)
        return rc;
    out->hidden = json_is_true(json_object_get(v, "exclude"));
    if (json_is_boolean(enabled))
        out->thinking = json_is_true(enabled) ? THINKING_ON : THINKING_OFF;
    if (json_is_string(word) && !json_is_string(*effort))
        *effort = word;
    if (most == NULL || json_is_null(most))
        return 0;
    out->budget = json_integer_value(most);
    if (!json_is_integer(most) || out->budget < 0)
        return refuse(r, ERR_INVALID, "reasoning", "reasoning.max_tokens must be a whole number from 0");
    return 0;
}

/* Where the template's own switch was set, that counts. Templates look for one of two names. */
static void set_switches(struct reasoning *out)
{
    static const char *const names[] = { "enable_thinking", "thinking" };
    for (size_t i = 0; i < COUNTOF(names); i++) {
        const json_t *own = json_object_get(out->variables, names[i]);
        if (json_is_boolean(own))
            out->thinking = json_is_true(own) ? THINKING_ON : THINKING_OFF;
    }
    for (size_t i = 0; i < COUNTOF(names) && out->thinking != THINKING_UNSAID; i++)
        if (json_object_get(out->variables, names[i]) == NULL)
            json_object_set_new(out->variables, names[i], json_boolean(out->thinking == THINKING_ON));
}

int reasoning_read(struct reasoning *out, const json_t *body, struct refusal *r)
{
    const json_t *given = json_object_get(body, "chat_template_kwargs");
    const json_t *effort = json_object_get(body, "reasoning_effort");
    json_t *documents = json_object_get(body, "documents");
    *out = (struct reasoning){ .budget = -1 };
    int rc = read_object(given, "chat_template_kwargs", r);
    if (rc == 0)
        rc = read_text(effort, "reasoning_effort", r);
    if (rc == 0)
        rc = read_nested(out, json_object_get(body, "reasoning"), &effort, r);
    if (rc == 0)
        rc = read_format(out, json_object_get(body, "reasoning_format"), r);
    if (rc != 0)
        return rc;
    if (documents != NULL && !json_is_null(documents) && !json_is_array(documents))
        return refuse(r, ERR_INVALID, "documents", "documents must be a list");
    out->variables = json_is_object(given) ? json_copy((json_t *)(uintptr_t)given) : json_object();
    if (json_is_array(documents) && json_object_get(out->variables, "documents") == NULL)
        json_object_set(out->variables, "documents", documents);
    if (json_is_string(effort)) {
        out->thinking = strcmp(json_string_value(effort), "none") != 0 ? THINKING_ON : THINKING_OFF;
        if (json_object_get(out->variables, "reasoning_effort") == NULL)
            json_object_set(out->variables, "reasoning_effort", (json_t *)(uintptr_t)effort);
    }
    set_switches(out);
    return 0;
}

/* ---- marks ---- */

static void make_mark(struct guide_mark *m, const struct tokenizer *t, const char *text)
{
    struct token_list list = { 0 };
    *m = (struct guide_mark){ 0 };
    if (tokenizer_encode(t, text, strlen(text), ENCODE_SPECIAL, &list, NULL) == 0 && list.count > 0 &&
        list.count <= GUIDE_TOKENS_MAX && strlen(text) < GUIDE_MARK_MAX) {
        snprintf(m->text, sizeof(m->text), "%s", text);
        memcpy(m->tokens, list.ids, list.count * sizeof(*m->tokens));
        m->n = (uint32_t)list.count;
    }
    token_list_free(&list);
}

void reasoning_marks(struct api *a)
{
    const struct reply_format *f = a->formats.calls;
    const struct reply_thinking *think = a->formats.thinking;
    const struct tokenizer *t = a->options.tokenizer;
    if (f != NULL)
        make_mark(&a->marks_of.trigger, t, reply_trigger(f));
    if (f != NULL && f->style == REPLY_STYLE_CHANNELS) {
        make_mark(&a->marks_of.open, t, "<|channel|>analysis<|message|>");
        make_mark(&a->marks_of.close, t, "<|end|><|start|>assistant");
        make_mark(&a->marks_of.lead, t, REPLY_FINAL_CHANNEL);
    } else if (think != NULL) {
        make_mark(&a->marks_of.open, t, think->open);
        make_mark(&a->marks_of.close, t, think->close);
    }
}

/* ---- the plan ---- */

/* White space aside. */
static bool ends_with(const char *text, size_t len, const char *end)
{
    size_t n = strlen(end);
    while (len > 0 && strchr(" \t\r\n", text[len - 1]))
        len--;
    return n > 0 && len >= n && memcmp(text + len - n, end, n) == 0;
}

void reasoning_plan(struct params *p, const struct api *a, const struct reasoning *asked, const char *prompt,
                    size_t len)
{
    struct guide_plan *plan = &p->plan;
    plan->tokenizer = a->options.tokenizer;
    plan->budget = p->thinking_budget >= 0 ? p->thinking_budget : asked->budget;
    plan->close = a->marks_of.close;
    plan->thinking = reply_begins_thinking(&a->formats, prompt, len);
    plan->reopens = a->formats.calls != NULL && a->formats.calls->style == REPLY_STYLE_CHANNELS;
    /* With channels the end of any message before this one looks like that of reasoning. */
    bool decided = plan->thinking || (!plan->reopens && ends_with(prompt, len, plan->close.text));
    bool may = a->formats.chooses || asked->thinking == THINKING_ON || plan->budget >= 0;
    if (!decided && may && asked->thinking != THINKING_OFF)
        plan->open = a->marks_of.open;
    if (plan->thinking && asked->thinking == THINKING_OFF)
        plan->budget = 0; /* this template has no switch */
    if (plan->close.n == 0 || (!plan->thinking && plan->open.n == 0))
        plan->budget = -1;
}
