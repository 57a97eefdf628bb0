/* talk: see talk.h. */
#include "cli/talk.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "cli/screen.h"

/* ---- opening ---- */

static int open_local(struct talk *t, const struct settings *s, struct error *e)
{
    struct local_options o = {
        .path = settings_argument(s, 0),
        .device = {.threads = (int)settings_count(s, "threads"), .pin = settings_switch(s, "pin"),
                   .isa = settings_text(s, "isa")},
        .backend = settings_text(s, "backend"),
        .kv_type = settings_text(s, "kv_type"),
        .context = (uint32_t)settings_count(s, "context"),
        .sequences_max = 1,
        .batch_rows_max = 512,
        .progress = isatty(STDERR_FILENO),
        .settings = s,
    };
    uint64_t start = clock_us();
    int r = local_open(&t->local, &o, e);
    t->load_us = clock_us() - start;
    if (r == 0 && !tokenizer_has_vocab(t->local.tokenizer))
        r = error_set(e, ERR_UNSUPPORTED, "%s has no vocabulary, so it cannot be talked to; shoal bench and shoal "
                                          "logits can run it", o.path);
    return r;
}

static int open_chat(struct talk *t, const struct settings *s, struct error *e)
{
    const char *file = settings_text(s, "chat_template"), *own = tokenizer_chat_template(t->local.tokenizer);
    struct error why = {0};
    int r = 0;
    if (settings_switch(s, "raw"))
        return 0;
    if (file)
        r = chat_open_file(&t->chat, t->local.tokenizer, file, e);
    else if (chat_open(&t->chat, t->local.tokenizer, NULL, &why) != 0)
        r = error_set(e, ERR_UNSUPPORTED, "%s; --raw continues plain text", why.text);
    size_t len;
    if (r == 0 && file)
        r = path_read(file, JINJA_SOURCE_MAX, &t->template_text, &len, e);
    else if (r == 0 && own)
        t->template_text = mem_strdup(own);
    if (r == 0)
        t->formats = chat_formats(t->chat);
    return r;
}

int talk_open(struct talk *t, const struct settings *s, struct error *e)
{
    *t = (struct talk){.messages = json_array(), .wraps = true, .verbose = settings_switch(s, "verbose")};
    parameters_read(&t->parameters, s);
    talk_set_system(t, settings_text(s, "system"));
    talk_set_think(t, settings_text(s, "think"));
    int r = open_local(t, s, e);
    return r == 0 ? open_chat(t, s, e) : r;
}

void talk_close(struct talk *t)
{
    chat_close(&t->chat);
    answer_timeline_close(&t->timeline);
    local_close(&t->local);
    parameters_close(&t->parameters);
    json_decref(t->messages);
    mem_free(t->template_text);
    mem_free(t->system);
    mem_free(t->think);
}

static void replace(char **text, const char *with)
{
    mem_free(*text);
    *text = with && with[0] ? mem_strdup(with) : NULL;
}

void talk_set_system(struct talk *t, const char *text)
{
    replace(&t->system, text);
}

void talk_set_think(struct talk *t, const char *how)
{
    replace(&t->think, how);
}

void talk_clear(struct talk *t)
{
    json_array_clear(t->messages);
    t->hidden = 0;
    t->used = 0;
}

/* ---- messages ---- */

static int add_message(json_t *list, const char *role, const char *content, const char *reasoning, struct error *e)
{
    json_t *message = json_pack("{s:s, s:s, s:s*}", "role", role, "content", content, "reasoning_content", reasoning);
    if (!message)
        return error_set(e, ERR_INVALID, "the text is not UTF-8");
    json_array_append_new(list, message);
    return 0;
}

/* What the template is told of thinking; NULL: nothing. The caller's. */
static json_t *variables(const struct talk *t)
{
    if (!t->think)
        return NULL;
    bool off = strcmp(t->think, "off") == 0, on = strcmp(t->think, "on") == 0;
    json_t *j = json_pack("{s:b, s:b}", "enable_thinking", !off, "thinking", !off);
    if (!off && !on)
        json_object_set_new(j, "reasoning_effort", json_string(t->think));
    return j;
}

static int encode_messages(const struct talk *t, const json_t *shown, struct token_list *out, bool *thinking,
                           struct error *e)
{
    struct jinja_output text;
    struct chat_request q = {.messages = shown, .variables = variables(t), .add_generation_prompt = true,
                             .now = clock_unix()};
    int r = chat_render(t->chat, &q, &text, NULL, e);
    if (r == 0) {
        r = chat_tokens(t->chat, &text, out, e);
        *thinking = reply_begins_thinking(&t->formats, text.text, text.len);
    }
    jinja_output_free(&text);
    json_decref((json_t *)(uintptr_t)q.variables);
    return r;
}

/* The system's text and what is not hidden. */
static int encode_shown(const struct talk *t, struct token_list *out, bool *thinking, struct error *e)
{
    json_t *shown = json_array();
    int r = t->system ? add_message(shown, "system", t->system, NULL, e) : 0;
    for (size_t i = t->hidden; i < json_array_size(t->messages); i++)
        json_array_append(shown, json_array_get(t->messages, i));
    if (r == 0)
        r = encode_messages(t, shown, out, thinking, e);
    json_decref(shown);
    return r;
}

static bool is_users(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && strcmp(role, "user") == 0;
}

/* The oldest turn that is still shown; the last message always is. */
static void hide_turn(struct talk *t)
{
    size_t last = json_array_size(t->messages) - 1;
    do
        t->hidden++;
    while (t->hidden < last && !is_users(json_array_get(t->messages, t->hidden)));
}

/* The prompt: so much of the conversation as leaves room for an answer. Once turns have to go, a quarter of the context
 * is freed, as the model must read all again that follows. */
static int encode_fitting(struct talk *t, struct token_list *out, bool *thinking, struct error *e)
{
    size_t was = t->hidden, last = json_array_size(t->messages) - 1;
    uint32_t context = t->local.context, most = context - context / 8;
    while (json_array_size(t->messages) - t->hidden >= CHAT_MESSAGES_MAX)
        hide_turn(t);
    int r;
    while ((r = encode_shown(t, out, thinking, e)) == 0 && out->count > most && t->hidden < last) {
        token_list_free(out);
        most = context - context / 4;
        hide_turn(t);
    }
    if (r == 0 && out->count >= context) {
        t->hidden = was;
        return error_set(e, ERR_LIMIT, "the message and what must come before it have %zu tokens, and the context "
                         "holds %u; shorten it or raise --context", out->count, context);
    }
    if (r == 0 && t->hidden > was)
        fprintf(stderr, "(the context of %u tokens is full: the model no longer sees the first %zu messages)\n",
                context, t->hidden);
    return r;
}

/* ---- a turn ---- */

struct telling {
    struct screen screen;
    struct buffer text, reasoning;
    bool thought; /* the last that was shown is reasoning */
};

static void show(void *arg, enum reply_kind kind, const char *text, size_t n)
{
    struct telling *l = arg;
    bool thinks = kind == REPLY_REASONING;
    if (n == 0)
        return;
    buffer_add(thinks ? &l->reasoning : &l->text, text, n);
    if (l->screen.terminal && thinks != l->thought) {
        screen_dim(&l->screen, true);
        screen_line(&l->screen, thinks ? "Thinking..." : "...done thinking.");
        screen_dim(&l->screen, thinks);
        l->thought = thinks;
    }
    if (!thinks || l->screen.terminal) /* who reads it elsewhere wants the answer */
        screen_put(&l->screen, text, n);
}

static bool nobody_reads(void *arg)
{
    const struct telling *l = arg;
    return ferror(l->screen.out) || buffer_failed(&l->text) || buffer_failed(&l->reasoning);
}

static void say_speed(const struct talk *t, const struct answer_report *r)
{
    double prefill_s = (double)r->prefill_us / 1e6, decode_s = (double)r->decode_us / 1e6;
    uint32_t steps = r->tokens > 1 ? r->tokens - 1 : 0;
    fprintf(stderr,
            "total    %.3f s (the model was loaded in %.3f s)\n"
            "prompt   %u tokens, %u of them new, in %.3f s: %.1f tokens/s\n"
            "answer   %u tokens in %.3f s: %.1f tokens/s\n",
            prefill_s + decode_s, (double)t->load_us / 1e6, r->prompt_tokens, r->fed_tokens, prefill_s,
            prefill_s > 0 ? r->fed_tokens / prefill_s : 0, r->tokens, decode_s, decode_s > 0 ? steps / decode_s : 0);
}

static int answer_prompt(struct talk *t, const struct token_list *prompt, bool thinking, struct telling *l,
                         struct answer_report *report, struct error *e)
{
    struct sampler_params sampling;
    parameters_sampling(&t->parameters, &sampling);
    struct answer_options o = {
        .sampling = &sampling,
        .max_tokens = t->parameters.max_tokens < 1 ? 0 : (uint32_t)t->parameters.max_tokens,
        .stops = (const char *const *)t->parameters.stops, .n_stops = t->parameters.n_stops,
        .formats = t->formats, .thinking = thinking, .show = show, .stop = nobody_reads, .arg = l,
    };
    screen_open(&l->screen, stdout, t->wraps);
    int r = answer_run(&t->local, &t->timeline, prompt, &o, report, e);
    screen_close(&l->screen);
    if (r == 0 && report->full && t->timeline.n >= t->local.context - 1)
        fprintf(stderr, "(the answer was cut: the context of %u tokens is full)\n", t->local.context);
    return r;
}

/* With the user's message as the last. */
static int answer_messages(struct talk *t, struct telling *l, struct answer_report *report, struct error *e)
{
    struct token_list tokens = {0};
    bool thinking = false;
    int r = encode_fitting(t, &tokens, &thinking, e);
    if (r == 0)
        r = answer_prompt(t, &tokens, thinking, l, report, e);
    token_list_free(&tokens);
    if (r == 0 && l->text.len + l->reasoning.len > 0)
        return add_message(t->messages, "assistant", buffer_text(&l->text),
                           l->reasoning.len > 0 ? buffer_text(&l->reasoning) : NULL, e);
    json_array_remove(t->messages, json_array_size(t->messages) - 1);
    return r;
}

static int answer_raw(struct talk *t, const char *prompt, struct telling *l, struct answer_report *report,
                      struct error *e)
{
    struct token_list tokens = {0};
    int r = tokenizer_encode(t->local.tokenizer, prompt, strlen(prompt), ENCODE_BOS_EOS, &tokens, e);
    if (r == 0)
        r = answer_prompt(t, &tokens, false, l, report, e);
    token_list_free(&tokens);
    return r;
}

int talk_turn(struct talk *t, const char *prompt, bool *interrupted, struct error *e)
{
    struct answer_report report = {0};
    struct telling l = {0};
    buffer_init(&l.text, TALK_ANSWER_BYTES_MAX);
    buffer_init(&l.reasoning, TALK_ANSWER_BYTES_MAX);
    int r = t->chat ? add_message(t->messages, "user", prompt, NULL, e) : 0;
    if (r == 0)
        r = t->chat ? answer_messages(t, &l, &report, e) : answer_raw(t, prompt, &l, &report, e);
    t->used = t->timeline.n;
    *interrupted = report.interrupted;
    if (r == 0 && t->verbose)
        say_speed(t, &report);
    buffer_close(&l.text);
    buffer_close(&l.reasoning);
    return r;
}
