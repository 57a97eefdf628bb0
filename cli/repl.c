/* repl: the loop. A text of several lines stands between two """, also as the value of a command. */
#include "cli/repl.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "cli/heads.h"
#include "cli/interrupt.h"

#define QUOTES "\"\"\""

enum typed {
    TYPED_PROMPT,
    TYPED_COMMAND,
    TYPED_NOTHING,   /* an empty line, or Ctrl-C in what was typed */
    TYPED_INTERRUPT, /* Ctrl-C where nothing was typed */
    TYPED_END,
};

/* ---- reading ---- */

static enum typed interrupted(const char *text, bool quoted)
{
    bool terminated = interrupt_ends();
    fputc('\n', stderr);
    interrupt_forget();
    return terminated ? TYPED_END : quoted || text[0] ? TYPED_NOTHING : TYPED_INTERRUPT;
}

/* Where the quotes open that the line begins with, or the value of its command; NULL: nowhere. */
static const char *opening(const char *line)
{
    const char *at = line + strspn(line, " \t");
    if (*at == '/')
        at = strstr(at, QUOTES);
    return at && strncmp(at, QUOTES, 3) == 0 ? at : NULL;
}

/* The length without closing quotes at its end, which may be followed by blanks; (size_t)-1: it does not close. */
static size_t closing(const char *text)
{
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t", text[n - 1]))
        n--;
    return n >= 3 && memcmp(text + n - 3, QUOTES, 3) == 0 ? n - 3 : (size_t)-1;
}

/* The rest of a quoted text, line by line; what was typed goes to `typed`, what it says to `said`. */
static enum typed read_quoted(struct repl *r, const char *rest, struct buffer *typed, struct buffer *said)
{
    const char *text = rest;
    for (;;) {
        size_t n = closing(text);
        buffer_add_text(typed, text);
        buffer_add(said, text, n == (size_t)-1 ? strlen(text) : n);
        if (n != (size_t)-1)
            return TYPED_PROMPT;
        enum line_came came = line_read(r->line, "... ", &text);
        if (came != LINE_TEXT)
            return came == LINE_END ? TYPED_END : interrupted(text, true);
        buffer_add_text(typed, "\n");
        buffer_add_text(said, "\n");
    }
}

/* One line, or several between quotes. The buffers get it as it was typed, and as it is meant. */
static enum typed read_text(struct repl *r, struct buffer *typed, struct buffer *said)
{
    const char *text;
    enum line_came came = line_read(r->line, ">>> ", &text);
    if (came != LINE_TEXT)
        return came == LINE_END ? TYPED_END : interrupted(text, false);
    const char *quotes = opening(text);
    const char *begin = text + strspn(text, " \t");
    bool command = *begin == '/';
    if (!quotes) {
        buffer_add_text(typed, text);
        buffer_add_text(said, command ? begin : text);
        return *begin == '\0' ? TYPED_NOTHING : command ? TYPED_COMMAND : TYPED_PROMPT;
    }
    buffer_add(typed, text, (size_t)(quotes - text) + 3);
    if (command)
        buffer_add(said, begin, (size_t)(quotes - begin));
    enum typed how = read_quoted(r, quotes + 3, typed, said);
    return how == TYPED_PROMPT && command ? TYPED_COMMAND : how;
}

/* ---- the loop ---- */

static void say(const struct error *e)
{
    fprintf(stderr, "%s\n", e->text);
}

static void act(struct repl *r, enum typed how, const char *said)
{
    struct error e = {0};
    bool cut = false;
    int status = how == TYPED_COMMAND ? repl_command(r, said, &e) : talk_turn(r->talk, said, &cut, &e);
    if (status != 0)
        say(&e);
    fflush(stdout);
    r->over = r->over || interrupt_ends();
    interrupt_forget();
}

static void step(struct repl *r)
{
    struct buffer typed, said;
    buffer_init(&typed, TALK_PROMPT_BYTES_MAX);
    buffer_init(&said, TALK_PROMPT_BYTES_MAX);
    enum typed how = read_text(r, &typed, &said);
    if (how == TYPED_END) {
        r->over = true;
    } else if (how == TYPED_INTERRUPT) {
        fprintf(stderr, "Ctrl-D or /bye leaves.\n");
    } else if (buffer_failed(&typed) || buffer_failed(&said)) {
        fprintf(stderr, "a message has at most %d bytes\n", TALK_PROMPT_BYTES_MAX);
    } else if (how != TYPED_NOTHING) {
        line_remember(r->line, buffer_text(&typed));
        act(r, how, buffer_text(&said));
    }
    buffer_close(&typed);
    buffer_close(&said);
}

static int open_line(struct repl *r, const struct settings *s, struct error *e)
{
    char *history = heads_state_dir(s, "history");
    char *slash = strrchr(history, '/');
    struct error why = {0};
    *slash = '\0';
    if (path_make_dirs(history, 0700, &why) != 0)
        fprintf(stderr, "(what is typed is not kept: %s)\n", why.text);
    *slash = '/';
    int status = line_open(&r->line, history, e);
    mem_free(history);
    return status;
}

int repl_run(struct talk *t, const struct settings *s, struct error *e)
{
    struct repl r = {.talk = t, .model = settings_argument(s, 0), .folder = heads_state_dir(s, "conversations")};
    int status = open_line(&r, s, e);
    interrupt_patience();
    if (status == 0)
        fprintf(stderr, "%s. /? lists commands.\n", model_hparams(t->local.model)->name);
    while (status == 0 && !r.over)
        step(&r);
    line_close(&r.line);
    mem_free(r.folder);
    return status;
}
