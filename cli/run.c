/* run: one answer, or a chat, in this process alone. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/repl.h"
#include "cli/talk.h"

/* Beside a prompt only what was put there for us is read: a terminal or a socket may stay open for ever. */
static bool input_belongs_to(const char *prompt)
{
    struct stat st;
    return !prompt || (fstat(STDIN_FILENO, &st) == 0 && (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode)));
}

static int read_input(struct buffer *b, struct error *e)
{
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0)
        buffer_add(b, chunk, n);
    if (ferror(stdin))
        return error_set(e, ERR_IO, "standard input cannot be read");
    while (b->len > 0 && b->data[b->len - 1] == '\n')
        b->data[--b->len] = '\0';
    return 0;
}

/* Standard input, then the prompt that was given, a blank line between them. */
static int read_prompt(struct buffer *b, const char *given, struct error *e)
{
    int r = input_belongs_to(given) ? read_input(b, e) : 0;
    if (r != 0)
        return r;
    if (given && b->len > 0)
        buffer_add_text(b, "\n\n");
    if (given)
        buffer_add_text(b, given);
    if (buffer_failed(b))
        return error_set(e, ERR_LIMIT, "the prompt is longer than %d bytes", TALK_PROMPT_BYTES_MAX);
    if (strlen(buffer_text(b)) != b->len)
        return error_set(e, ERR_INVALID, "the prompt is no text: it has a byte 0");
    return b->len > 0 ? 0 : error_set(e, ERR_INVALID, "the prompt is empty");
}

static int once(struct talk *t, const char *given, struct error *e)
{
    struct buffer prompt;
    bool interrupted = false;
    buffer_init(&prompt, TALK_PROMPT_BYTES_MAX);
    int r = read_prompt(&prompt, given, e);
    if (r == 0)
        r = talk_turn(t, buffer_text(&prompt), &interrupted, e);
    buffer_close(&prompt);
    return r == 0 && interrupted ? ERR_CANCELLED : r;
}

int run_command(const struct settings *s, struct error *e)
{
    struct talk t;
    const char *given = settings_argument(s, 1);
    int r = talk_open(&t, s, e);
    if (r == 0)
        r = !given && isatty(STDIN_FILENO) ? repl_run(&t, s, e) : once(&t, given, e);
    talk_close(&t);
    return r;
}
