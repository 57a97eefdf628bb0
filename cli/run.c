/* run: one answer or a chat, in this process alone. */
#include <editline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/answer.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "text/chat.h"

enum { PROMPT_BYTES_MAX = 16 << 20, ANSWER_BYTES_MAX = 64 << 20 };

struct talk {
    const struct settings *s;
    struct local local;
    const struct chat_format *format; /* NULL: plain text */
    struct answer_timeline timeline;
    struct sampler_params sampling;
    struct chat_message *messages;
    size_t n_messages;
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
    struct error why = {0};
    if (chat_format_find(&t->format, t->local.tokenizer, &why) != 0)
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
static void add_message(struct talk *t, const char *role, char *content)
{
    t->messages = mem_resize(t->messages, t->n_messages + 1, sizeof(*t->messages));
    t->messages[t->n_messages++] = (struct chat_message){role, content};
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
    if (t->format) {
        add_message(t, "user", prompt);
        r = chat_encode(t->format, t->local.tokenizer, t->messages, t->n_messages, true, &tokens, e);
    } else {
        r = tokenizer_encode(t->local.tokenizer, prompt, strlen(prompt), ENCODE_BOS_EOS, &tokens, e);
        mem_free(prompt);
    }
    if (r == 0)
        r = answer_run(&t->local, &t->timeline, &tokens, &o, &text, report, e);
    if (report->tokens > 0)
        putchar('\n');
    if (t->format)
        add_message(t, "assistant", mem_strdup(buffer_text(&text)));
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
    struct talk t = {.s = s};
    int r = open_local(&t, e);
    if (r == 0) {
        read_sampling(&t);
        const char *system = settings_text(s, "system");
        if (system)
            add_message(&t, "system", mem_strdup(system));
        bool talk = settings_argument_count(s) < 2 && isatty(STDIN_FILENO);
        r = talk ? chat(&t, e) : once(&t, e);
    }
    for (size_t i = 0; i < t.n_messages; i++)
        mem_free((char *)(uintptr_t)t.messages[i].content);
    mem_free(t.messages);
    answer_timeline_close(&t.timeline);
    local_close(&t.local);
    return r;
}
