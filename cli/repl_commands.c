/* repl_commands: a row a command, and a row each thing that /set and /show know. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "cli/conversation.h"
#include "cli/repl.h"
#include "cli/screen.h"
#include "cli/show.h"

enum { WORD_MAX = 64, SHOWN_BYTES_MAX = 64 << 20 };

struct row {
    const char *name, *arguments, *words; /* words NULL: another name of the row before */
    int (*run)(struct repl *r, const char *rest, struct error *e);
};

static void list(const char *before, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char usage[80];
        if (!rows[i].words)
            continue;
        snprintf(usage, sizeof(usage), "%s%s %s", before, rows[i].name, rows[i].arguments);
        fprintf(stderr, "  %-30s %s\n", usage, rows[i].words);
    }
}

/* The first word, and what follows it. */
static const char *split(const char *text, char word[static WORD_MAX])
{
    size_t n = strcspn(text, " \t\n");
    snprintf(word, WORD_MAX, "%.*s", (int)(n < WORD_MAX ? n : WORD_MAX - 1), text);
    return text + n + strspn(text + n, " \t");
}

static const struct row *find(const struct row *rows, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

/* ---- /set ---- */

static int set_parameter(struct repl *r, const char *rest, struct error *e)
{
    char name[WORD_MAX];
    const char *value = split(rest, name);
    if (name[0] == '\0') {
        fprintf(stderr, "/set parameter NAME VALUE; these are there:\n");
        parameters_help(stderr);
        return 0;
    }
    return parameters_set(&r->talk->parameters, name, value, e);
}

static int set_system(struct repl *r, const char *rest, struct error *e)
{
    size_t n = strlen(rest);
    bool quoted = n >= 2 && rest[0] == '"' && rest[n - 1] == '"' && !memchr(rest + 1, '"', n - 2);
    char *text = quoted ? mem_strndup(rest + 1, n - 2) : mem_strdup(rest);
    (void)e;
    talk_set_system(r->talk, text);
    mem_free(text);
    fprintf(stderr, "%s\n", r->talk->system ? "From now on this is the system's text." : "There is no system text.");
    return 0;
}

static int set_think(struct repl *r, const char *rest, struct error *e)
{
    char how[WORD_MAX];
    (void)e;
    split(rest, how);
    talk_set_think(r->talk, how[0] ? how : "on");
    return 0;
}

static int set_nothink(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    talk_set_think(r->talk, "off");
    return 0;
}

static int set_verbose(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    r->talk->verbose = true;
    return 0;
}

static int set_quiet(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    r->talk->verbose = false;
    return 0;
}

static int set_history(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    line_keep(r->line, true);
    return 0;
}

static int set_nohistory(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    line_keep(r->line, false);
    return 0;
}

static int set_wordwrap(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    r->talk->wraps = true;
    return 0;
}

static int set_nowordwrap(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    r->talk->wraps = false;
    return 0;
}

static const struct row settable[] = {
    {"parameter", "NAME VALUE", "how answers are drawn; alone it lists what there is", set_parameter},
    {"system", "TEXT", "the system's text; empty: none", set_system},
    {"think", "[EFFORT]", "ask the model to think first, where its template can", set_think},
    {"nothink", "", "ask it not to", set_nothink},
    {"verbose", "", "say after each answer how fast it was", set_verbose},
    {"quiet", "", "do not", set_quiet},
    {"history", "", "keep what is typed in the state folder", set_history},
    {"nohistory", "", "do not: what is typed from now on is forgotten at the end", set_nohistory},
    {"wordwrap", "", "break lines between words", set_wordwrap},
    {"nowordwrap", "", "do not", set_nowordwrap},
};

/* A parameter's name may follow at once. */
static int set(struct repl *r, const char *rest, struct error *e)
{
    char name[WORD_MAX];
    const char *value = split(rest, name);
    const struct row *row = find(settable, COUNTOF(settable), name);
    if (row)
        return row->run(r, value, e);
    if (name[0] == '\0') {
        list("/set ", settable, COUNTOF(settable));
        return 0;
    }
    int status = parameters_set(&r->talk->parameters, name, value, e);
    if (status == ERR_NOT_FOUND)
        return error_set(e, status, "/set knows no \"%s\"; /set alone lists what it knows", name);
    return status;
}

/* ---- /show ---- */

static int show_info(struct repl *r, const char *rest, struct error *e)
{
    const struct talk *t = r->talk;
    (void)rest, (void)e;
    show_model(t->local.model);
    printf("this chat      %zu messages, %u of %u tokens of context used\n", json_array_size(t->messages), t->used,
           t->local.context);
    return 0;
}

/* Texts of files that strangers made: words, not orders to the terminal. */
static void tell(const char *text)
{
    struct screen screen;
    screen_open(&screen, stdout, false);
    screen_put(&screen, text, strlen(text));
    screen_close(&screen);
}

static int show_parameters(struct repl *r, const char *rest, struct error *e)
{
    struct buffer b;
    (void)rest, (void)e;
    buffer_init(&b, SHOWN_BYTES_MAX);
    parameters_put(&r->talk->parameters, false, "", &b);
    tell(buffer_text(&b));
    buffer_close(&b);
    return 0;
}

static int show_template(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    if (r->talk->template_text)
        tell(r->talk->template_text);
    else
        fprintf(stderr, "%s\n", r->talk->chat ? "The model has no template; it gets ChatML."
                                              : "Text is continued as it is.");
    return 0;
}

static int show_system(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    if (r->talk->system)
        tell(r->talk->system);
    else
        fprintf(stderr, "There is no system text.\n");
    return 0;
}

static int show_modelfile(struct repl *r, const char *rest, struct error *e)
{
    struct buffer b;
    (void)rest, (void)e;
    buffer_init(&b, SHOWN_BYTES_MAX);
    buffer_printf(&b, "FROM %s\n", r->model);
    parameters_put(&r->talk->parameters, true, "PARAMETER ", &b);
    if (r->talk->system)
        buffer_printf(&b, "SYSTEM \"\"\"%s\"\"\"\n", r->talk->system);
    tell(buffer_text(&b));
    buffer_close(&b);
    return 0;
}

static const struct row shown[] = {
    {"info", "", "the model, and how much of the context is used", show_info},
    {"parameters", "", "how answers are drawn", show_parameters},
    {"template", "", "the chat template", show_template},
    {"system", "", "the system's text", show_system},
    {"modelfile", "", "model, parameters and system as a Modelfile of Ollama", show_modelfile},
};

static int show(struct repl *r, const char *rest, struct error *e)
{
    char name[WORD_MAX];
    const char *value = split(rest, name);
    const struct row *row = find(shown, COUNTOF(shown), name);
    if (row)
        return row->run(r, value, e);
    if (name[0] != '\0')
        return error_set(e, ERR_NOT_FOUND, "/show knows no \"%s\"; /show alone lists what it knows", name);
    list("/show ", shown, COUNTOF(shown));
    return 0;
}

/* ---- conversations ---- */

static int save(struct repl *r, const char *rest, struct error *e)
{
    char *path;
    if (rest[0] == '\0')
        return error_set(e, ERR_INVALID, "/save NAME");
    if (!r->talk->chat)
        return error_set(e, ERR_UNSUPPORTED, "with --raw there is no conversation to save");
    int status = conversation_save(r->talk, r->folder, rest, &path, e);
    if (status == 0)
        fprintf(stderr, "Saved as %s\n", path);
    mem_free(path);
    return status;
}

static int load(struct repl *r, const char *rest, struct error *e)
{
    char *model;
    if (rest[0] == '\0') {
        if (conversation_list(r->folder, stdout) == 0)
            fprintf(stderr, "Nothing was saved yet.\n");
        return 0;
    }
    if (!r->talk->chat)
        return error_set(e, ERR_UNSUPPORTED, "with --raw there is no conversation");
    int status = conversation_load(r->talk, r->folder, rest, &model, e);
    if (status == 0) {
        fprintf(stderr, "%zu messages are there again", json_array_size(r->talk->messages));
        bool same = strcmp(model, model_hparams(r->talk->local.model)->name) == 0;
        fprintf(stderr, "%s%s.\n", same ? "" : "; they were exchanged with ", same ? "" : model);
    }
    mem_free(model);
    return status;
}

static int clear(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    talk_clear(r->talk);
    fprintf(stderr, "The conversation begins anew.\n");
    return 0;
}

/* ---- the rest ---- */

static int bye(struct repl *r, const char *rest, struct error *e)
{
    (void)rest, (void)e;
    r->over = true;
    return 0;
}

static int help(struct repl *r, const char *rest, struct error *e);

static const struct row commands[] = {
    {"/set", "...", "change something; alone it lists what", set},
    {"/show", "...", "show something; alone it lists what", show},
    {"/save", "NAME", "save the conversation; a NAME with / is a file", save},
    {"/load", "[NAME]", "go on with a saved one; alone it lists them", load},
    {"/clear", "", "begin anew; the system's text stays", clear},
    {"/bye", "", "leave", bye},
    {"/exit", "", NULL, bye},
    {"/?", "[set|show|keys]", "help", help},
    {"/help", "", NULL, help},
};

static const char keys[] =
    "  Ctrl-C          stop the answer, or drop the line\n"
    "  Ctrl-D          leave, on an empty line\n"
    "  Up, Down        earlier lines; Ctrl-R searches them\n"
    "  Ctrl-A, Ctrl-E  to the line's beginning, end\n"
    "  Ctrl-W, Ctrl-U  delete the word before, the line\n"
    "  Ctrl-L          clear the screen\n";

static int help(struct repl *r, const char *rest, struct error *e)
{
    if (strncmp(rest, "set", 3) == 0) {
        list("/set ", settable, COUNTOF(settable));
        parameters_help(stderr);
        return 0;
    }
    if (strncmp(rest, "show", 4) == 0)
        return show(r, "", e);
    if (strncmp(rest, "keys", 4) == 0 || strncmp(rest, "shortcuts", 9) == 0) {
        fputs(keys, stderr);
        return 0;
    }
    list("", commands, COUNTOF(commands));
    fprintf(stderr, "  %-30s %s\n", "\"\"\"", "begins and ends a text of several lines");
    return 0;
}

int repl_command(struct repl *r, const char *text, struct error *e)
{
    char name[WORD_MAX];
    const char *rest = split(text, name);
    char *value = mem_strdup(rest);
    size_t n = strlen(value);
    while (n > 0 && strchr(" \t", value[n - 1]))
        value[--n] = '\0';
    const struct row *row = find(commands, COUNTOF(commands), name);
    int status = row ? row->run(r, value, e)
                     : error_set(e, ERR_NOT_FOUND, "there is no command %s; /? lists them (a message that begins with "
                                 "a slash goes between \"\"\")", name);
    mem_free(value);
    return status;
}
