/* run: one answer or a chat, in this process alone. */
#include <editline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "cli/answer.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "text/chat.h"

enum { PROMPT_BYTES_MAX = 16 << 20, ANSWER_BYTES_MAX = 64 << 20 };

struct talk {
    const struct settings *s;
    struct local local;
    struct chat *chat; /* NULL: plain text */
    struct answer_timeline timeline;
    struct sampler_params sampling;
    json_t *messages;
};

static int open_local(struct talk *t, struct error *e)
{
    const struct settings *s = t->s;
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
    int r = local_open(&t->local, &o, e);
    if (r != 0)
        return r;
    if (!tokenizer_has_vocab(t->local.tokenizer))
        return error_set(e, ERR_UNSUPPORTED, "%s has no vocabulary, so it cannot be talked to; shoal bench and shoal "
                                             "logits can run it", o.path);
    if (settings_switch(s, "raw"))
        return 0;
    const char *file = settings_text(s, "chat_template");
    struct error why = {0};
    if (file)
        return chat_open_file(&t->chat, t->local.tokenizer, file, e);
    if (chat_open(&t->chat, t->local.tokenizer, NULL, &why) != 0)
        return error_set(e, ERR_UNSUPPORTED, "%s; --raw continues plain text", why.text);
    return 0;
}

static void read_sampling(struct talk *t)
{
    const struct settings *s = t->s;
    sampler_defaults(&t->sampling);
    t->sampling.temperature = (float)settings_real(s, "temperature");
    t->sampling.top_k = (int32_t)settings_count(s, "top_k");
    t->sampling.top_p = (float)settings_real(s, "top_p");
    t->sampling.min_p = (float)settings_real(s, "min_p");
    t->sampling.repetition_penalty = (float)settings_real(s, "repetition_penalty");
    t->sampling.repetition_window = 64;
    t->sampling.presence_penalty = (float)settings_real(s, "presence_penalty");
    t->sampling.frequency_penalty = (float)settings_real(s, "frequency_penalty");
    t->sampling.top_logprobs = -1;
    t->sampling.seed = settings_count(s, "seed");
    if (t->sampling.seed == 0)
        (void)!getrandom(&t->sampling.seed, sizeof(t->sampling.seed), 0);
}

/* Takes `content`. */
static int add_message(struct talk *t, const char *role, char *content, struct error *e)
{
    json_t *message = json_pack("{s:s, s:s}", "role", role, "content", content);
    mem_free(content);
    if (!message)
        return error_set(e, ERR_INVALID, "the text is not UTF-8");
    json_array_append_new(t->messages, message);
    return 0;
}

static void report_speed(const struct answer_report *r)
{
    double prefill = r->prefill_us > 0 ? r->fed_tokens * 1e6 / (double)r->prefill_us : 0;
    uint32_t steps = r->tokens > 1 ? r->tokens - 1 : 0;
    double decode = r->decode_us > 0 ? steps * 1e6 / (double)r->decode_us : 0;
    fprintf(stderr, "prompt %u tokens (%u new), %.1f tokens/s; answer %u tokens, %.1f tokens/s\n", r->prompt_tokens,
            r->fed_tokens, prefill, r->tokens, decode);
}

/* One turn: the conversation so far plus `prompt` (taken). */
static int turn(struct talk *t, char *prompt, struct answer_report *report, struct error *e)
{
    struct token_list tokens = {0};
    struct answer_options o = {&t->sampling, (uint32_t)settings_count(t->s, "max_tokens")};
    struct buffer text;
    int r;
    *report = (struct answer_report){0};
    buffer_init(&text, ANSWER_BYTES_MAX);
    if (t->chat) {
        struct chat_request q = {.messages = t->messages, .add_generation_prompt = true, .now = clock_unix()};
        r = add_message(t, "user", prompt, e);
        r = r == 0 ? chat_encode(t->chat, &q, &tokens, e) : r;
    } else {
        r = tokenizer_encode(t->local.tokenizer, prompt, strlen(prompt), ENCODE_BOS_EOS, &tokens, e);
        mem_free(prompt);
    }
    if (r == 0)
        r = answer_run(&t->local, &t->timeline, &tokens, &o, &text, report, e);
    if (report->tokens > 0)
        putchar('\n');
    if (t->chat && r == 0)
        r = add_message(t, "assistant", mem_strdup(buffer_text(&text)), e);
    if (r == 0 && settings_switch(t->s, "stats"))
        report_speed(report);
    token_list_free(&tokens);
    buffer_close(&text);
    return r;
}

static int chat(struct talk *t, struct error *e)
{
    struct answer_report report;
    fprintf(stderr, "%s. Ctrl-C ends an answer, Ctrl-D the chat.\n", model_hparams(t->local.model)->name);
    for (;;) {
        char *line = readline("> ");
        if (!line || interrupt_seen()) {
            free(line);
            return 0;
        }
        if (line[0] == '\0') {
            free(line);
            continue;
        }
        add_history(line);
        char *prompt = mem_strdup(line);
        free(line);
        int r = turn(t, prompt, &report, e);
        if (r != 0)
            return r;
        interrupt_forget();
    }
}

/* All of standard input; caller frees. */
static int read_input(char **out, struct error *e)
{
    struct buffer b;
    char chunk[4096];
    size_t n;
    buffer_init(&b, PROMPT_BYTES_MAX);
    while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0)
        buffer_add(&b, chunk, n);
    if (buffer_failed(&b)) {
        buffer_close(&b);
        return error_set(e, ERR_LIMIT, "the prompt is longer than %d bytes", PROMPT_BYTES_MAX);
    }
    while (b.len > 0 && b.data[b.len - 1] == '\n')
        b.data[--b.len] = '\0';
    *out = buffer_take(&b, NULL);
    if (!*out)
        *out = mem_strdup("");
    return 0;
}

static int once(struct talk *t, struct error *e)
{
    struct answer_report report;
    const char *given = settings_argument(t->s, 1);
    char *prompt = NULL;
    if (given)
        prompt = mem_strdup(given);
    else {
        int r = read_input(&prompt, e);
        if (r != 0)
            return r;
    }
    int r = turn(t, prompt, &report, e);
    if (r == 0 && report.interrupted)
        return ERR_CANCELLED;
    return r;
}

int run_command(const struct settings *s, struct error *e)
{
    struct talk t = {.s = s, .messages = json_array()};
    int r = open_local(&t, e);
    if (r == 0) {
        read_sampling(&t);
        const char *system = settings_text(s, "system");
        if (system)
            r = add_message(&t, "system", mem_strdup(system), e);
        bool talk = settings_argument_count(s) < 2 && isatty(STDIN_FILENO);
        if (r == 0)
            r = talk ? chat(&t, e) : once(&t, e);
    }
    json_decref(t.messages);
    chat_close(&t.chat);
    answer_timeline_close(&t.timeline);
    local_close(&t.local);
    return r;
}
