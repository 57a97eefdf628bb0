/* line: libedit, with a reader of our own: a signal ends a line at once, and pasted text is told from what is typed.
 *
 * Terminals put marks around what is pasted when they are asked to.  Between
 * them libedit gets a sign for each new line, and no other control character.  */
#include "cli/line.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <jansson.h>
#include <locale.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "base/memory.h"
#include "base/path.h"
#include "cli/interrupt.h"
#include "cli/screen.h"

enum {
    MARK_BYTES = 6, /* "\033[200~", "\033[201~" */
    MARK_MS = 50,   /* between its bytes */
    WAIT_MS = 100, /* another thread may have taken the signal */
    REMEMBERED_BYTES_MAX = 16 << 10,
    HISTORY_BYTES_MAX = 64 << 20,
};

#define NEW_LINE_SIGN L'\u23CE'
#define NEW_LINE_SIGN_BYTES "\xE2\x8F\x8E"

struct line {
    EditLine *edit;
    History *history;
    char *path; /* NULL: none */
    bool keeps;
    const char *prompt;
    char *text;
    char held[MARK_BYTES]; /* bytes of what began like a mark and is none; [given] to [n_held] are to come */
    size_t n_held, given;
    bool marks;            /* the terminal was asked for them */
    bool pasting, pasted;  /* now; at all, in this line */
};

/* False: Ctrl-C. */
static bool await_input(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!interrupt_seen())
        if (poll(&p, 1, WAIT_MS) > 0)
            return true;
    return false;
}

static bool begins_mark(const char *held, size_t n)
{
    static const char mark[] = "\033[20";
    return n < 5 ? memcmp(held, mark, n) == 0 : (held[4] == '0' || held[4] == '1') && (n < 6 || held[5] == '~');
}

/* An escape came: is it the first byte of a mark? Else what was read waits in `held`. */
static void take_mark(struct line *l)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    size_t n = 1;
    l->held[0] = '\033';
    while (n < MARK_BYTES && begins_mark(l->held, n) && poll(&p, 1, MARK_MS) > 0 &&
           read(STDIN_FILENO, &l->held[n], 1) == 1)
        n++;
    bool whole = n == MARK_BYTES && begins_mark(l->held, n);
    l->given = 0;
    l->n_held = whole ? 0 : n;
    if (whole)
        l->pasting = l->held[4] == '0';
    l->pasted = l->pasted || l->pasting;
}

/* As read(): 1, 0 at the end, -1. */
static ssize_t next_byte(struct line *l, char *out)
{
    for (;;) {
        if (l->given < l->n_held) {
            *out = l->held[l->given++];
            return 1;
        }
        if (!await_input()) {
            errno = ECANCELED;
            return -1;
        }
        ssize_t n = read(STDIN_FILENO, out, 1);
        if (n != 1 || *out != '\033' || !l->marks)
            return n;
        take_mark(l);
    }
}

/* What libedit gets of a pasted character; 0: nothing. */
static wchar_t of_paste(wchar_t c)
{
    if (c == L'\n' || c == L'\r')
        return NEW_LINE_SIGN;
    return (c < L' ' && c != L'\t') || c == 0x7F ? 0 : c;
}

/* One character for libedit: 1, or 0 at the end, or -1. Bytes that are no character are skipped. */
static int read_char(EditLine *edit, wchar_t *out)
{
    mbstate_t state = {0};
    struct line *l;
    char byte;
    el_get(edit, EL_CLIENTDATA, &l);
    for (;;) {
        ssize_t n = next_byte(l, &byte);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -1;
        size_t used = n < 0 ? (size_t)-2 : mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-1)
            memset(&state, 0, sizeof(state));
        if (used == (size_t)-1 || used == (size_t)-2)
            continue;
        if (l->pasting)
            *out = of_paste(*out);
        if (!l->pasting || *out != 0)
            return 1;
    }
}

static char *prompt_of(EditLine *edit)
{
    struct line *l;
    el_get(edit, EL_CLIENTDATA, &l);
    return (char *)(uintptr_t)l->prompt;
}

static void offer(struct line *l, const char *text)
{
    HistEvent ev;
    history(l->history, &ev, H_ENTER, text);
}

/* The last lines of the file, at most so many; the caller's. A file that cannot be read, or holds something else, is as
 * good as none. */
static json_t *read_kept(const struct line *l, size_t most)
{
    json_t *kept = json_array(), *all = NULL, *text;
    char *data;
    size_t len;
    if (l->path && path_read(l->path, HISTORY_BYTES_MAX, &data, &len, NULL) == 0) {
        all = json_loadb(data, len, 0, NULL);
        mem_free(data);
    }
    size_t n = json_array_size(all);
    for (size_t i = n > most ? n - most : 0; i < n; i++) {
        text = json_array_get(all, i);
        if (json_is_string(text))
            json_array_append(kept, text);
    }
    json_decref(all);
    return kept;
}

static void load_history(struct line *l)
{
    HistEvent ev;
    size_t i;
    json_t *text, *kept = read_kept(l, LINE_HISTORY_MAX);
    history(l->history, &ev, H_SETSIZE, (int)LINE_HISTORY_MAX);
    history(l->history, &ev, H_SETUNIQUE, 1);
    json_array_foreach(kept, i, text)
        offer(l, json_string_value(text));
    json_decref(kept);
}

/* After what is there now: another chat may have written since. A line that cannot be kept is no reason to stop. */
static void keep(const struct line *l, const char *text)
{
    json_t *kept = read_kept(l, LINE_HISTORY_MAX - 1);
    json_array_append_new(kept, json_string(text));
    char *data = json_dumps(kept, JSON_INDENT(1));
    if (data)
        (void)!path_write_atomic(l->path, data, strlen(data), 0600, NULL);
    free(data);
    json_decref(kept);
}

/* libedit reads bytes as the locale has them, and prompts are UTF-8 everywhere else. */
static void use_utf8(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

int line_open(struct line **out, const char *history_path, struct error *e)
{
    struct line *l = mem_alloc(sizeof(*l));
    use_utf8();
    l->prompt = "";
    l->marks = screen_obeys(stderr);
    l->path = history_path ? mem_strdup(history_path) : NULL;
    l->keeps = true;
    l->history = history_init();
    l->edit = el_init("shoal", stdin, stderr, stderr);
    *out = l;
    if (!l->history || !l->edit) {
        line_close(out);
        return error_set(e, ERR_INTERNAL, "the terminal cannot be used for editing");
    }
    el_set(l->edit, EL_CLIENTDATA, l);
    el_set(l->edit, EL_EDITOR, "emacs");
    el_set(l->edit, EL_PROMPT, prompt_of);
    el_set(l->edit, EL_HIST, history, l->history);
    el_set(l->edit, EL_BIND, "^I", "ed-insert", NULL);
    el_set(l->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    (void)el_source(l->edit, NULL);
    el_set(l->edit, EL_GETCFN, read_char);
    load_history(l);
    return 0;
}

void line_close(struct line **line_p)
{
    struct line *l = *line_p;
    if (!l)
        return;
    if (l->edit)
        el_end(l->edit);
    if (l->history)
        history_end(l->history);
    mem_free(l->text);
    mem_free(l->path);
    mem_free(l);
    *line_p = NULL;
}

static void ask_for_marks(const struct line *l, bool on)
{
    if (!l->marks)
        return;
    fputs(on ? "\033[?2004h" : "\033[?2004l", stderr);
    fflush(stderr);
}

/* Signs back to new lines. */
static char *meant(const struct line *l, const char *text, size_t n)
{
    char *out = mem_strndup(text, n), *to = out;
    if (!l->pasted)
        return out;
    for (const char *from = out; *from; to++) {
        bool sign = strncmp(from, NEW_LINE_SIGN_BYTES, strlen(NEW_LINE_SIGN_BYTES)) == 0;
        *to = sign ? '\n' : *from;
        from += sign ? strlen(NEW_LINE_SIGN_BYTES) : 1;
    }
    *to = '\0';
    return out;
}

enum line_came line_read(struct line *l, const char *prompt, const char **text)
{
    int n = 0;
    l->prompt = prompt;
    l->pasting = l->pasted = false;
    mem_free(l->text);
    l->text = NULL;
    el_resize(l->edit);
    el_set(l->edit, EL_PREP_TERM, 1); /* before the prompt: what is typed at its sight would be shown twice */
    ask_for_marks(l, true);
    const char *got = el_gets(l->edit, &n);
    ask_for_marks(l, false);
    if (interrupt_seen()) {
        const LineInfo *typed = el_line(l->edit);
        l->text = meant(l, typed->buffer, (size_t)(typed->lastchar - typed->buffer));
    } else if (got && n > 0) {
        l->text = meant(l, got, (size_t)n - (got[n - 1] == '\n'));
    }
    *text = l->text;
    return interrupt_seen() ? LINE_INTERRUPT : l->text ? LINE_TEXT : LINE_END;
}

void line_remember(struct line *l, const char *text)
{
    if (strlen(text) > REMEMBERED_BYTES_MAX)
        return;
    offer(l, text);
    if (l->path && l->keeps)
        keep(l, text);
}

void line_keep(struct line *l, bool keeps)
{
    l->keeps = keeps;
}
