/* bench_peer: run a peer's benchmark and read its figures. */
#include "cli/bench_peer.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "cli/interrupt.h"

enum { COLUMNS_MAX = 64, CELL_MAX = 64 };

struct figures {
    struct bench_peer_figure *all;
    size_t n;
};

static void add(struct figures *f, const struct bench_peer_figure *figure)
{
    if (f->n < BENCH_PEER_FIGURES_MAX && figure->what.tokens > 0 && isfinite(figure->rate) && figure->rate > 0)
        f->all[f->n++] = *figure;
}

/* ---- JSON ---- */

static uint32_t whole(const json_t *o, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(o, key));
    return n > 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

static double real(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* A test of llama-bench: a prompt or an answer, since one with both has no figure of its own here. */
static void add_test(struct figures *f, const json_t *o)
{
    uint32_t prompt = whole(o, "n_prompt"), generate = whole(o, "n_gen");
    if ((prompt == 0) == (generate == 0))
        return;
    add(f, &(struct bench_peer_figure){{generate ? BENCH_DECODE : BENCH_PREFILL, prompt + generate, 1,
                                        whole(o, "n_depth")}, whole(o, "n_threads"), real(o, "avg_ts")});
}

/* A line of llama-batched-bench: pl prompts of pp tokens, which are the context of tg tokens each. */
static void add_batched(struct figures *f, const json_t *o)
{
    uint32_t threads = whole(o, "n_threads"), prompt = whole(o, "pp"), batch = whole(o, "pl");
    if (batch == 1)
        add(f, &(struct bench_peer_figure){{BENCH_PREFILL, prompt, 1, 0}, threads, real(o, "speed_pp")});
    if (batch > 0)
        add(f, &(struct bench_peer_figure){{BENCH_DECODE, whole(o, "tg"), batch, prompt}, threads,
                                           real(o, "speed_tg")});
}

static void add_own(struct figures *f, const json_t *o)
{
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(o, "measures"), i, m) {
        const char *kind = json_string_value(json_object_get(m, "kind"));
        if (kind && (strcmp(kind, "prefill") == 0 || strcmp(kind, "decode") == 0))
            add(f, &(struct bench_peer_figure){{kind[0] == 'd' ? BENCH_DECODE : BENCH_PREFILL, whole(m, "tokens"),
                                                whole(m, "batch"), whole(m, "depth")}, whole(o, "threads"),
                                               real(m, "median")});
    }
}

static void add_object(struct figures *f, const json_t *o)
{
    if (json_object_get(o, "measures"))
        add_own(f, o);
    else if (json_object_get(o, "avg_ts"))
        add_test(f, o);
    else if (json_object_get(o, "speed_tg"))
        add_batched(f, o);
}

/* What begins with a bracket or a brace at the start of a line; returns its length, 0 when it is no JSON. */
static size_t read_json(struct figures *f, const char *text, size_t len)
{
    json_error_t ignored;
    json_t *j = json_loadb(text, len, JSON_DISABLE_EOF_CHECK, &ignored);
    size_t i, used = j && ignored.position > 0 ? (size_t)ignored.position : 0;
    json_t *o;
    if (json_is_object(j))
        add_object(f, j);
    json_array_foreach(j, i, o)
        add_object(f, o);
    json_decref(j);
    return used;
}

/* ---- the table ---- */

struct table {
    int test, rate, threads; /* columns; -1: none */
};

/* Cuts "| a | b |" into cells; returns how many. */
static int cut(const char *line, size_t len, char cells[static COLUMNS_MAX][CELL_MAX])
{
    int n = 0;
    const char *at = line + 1, *end = line + len;
    while (at < end && n < COLUMNS_MAX) {
        const char *bar = memchr(at, '|', (size_t)(end - at));
        if (!bar)
            break;
        const char *first = at, *last = bar;
        while (first < last && *first == ' ')
            first++;
        while (last > first && last[-1] == ' ')
            last--;
        snprintf(cells[n++], CELL_MAX, "%.*s", (int)(last - first < CELL_MAX ? last - first : CELL_MAX), first);
        at = bar + 1;
    }
    return n;
}

static int column(char cells[static COLUMNS_MAX][CELL_MAX], int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(cells[i], name) == 0)
            return i;
    return -1;
}

static uint32_t number(const char *text)
{
    unsigned long n = strtoul(text, NULL, 10);
    return n <= UINT32_MAX ? (uint32_t)n : 0;
}

/* "pp512", "tg64 @ d8192"; "pp512+tg64" is neither. */
static void add_row(struct figures *f, const struct table *t, char cells[static COLUMNS_MAX][CELL_MAX])
{
    const char *test = cells[t->test], *depth = strstr(test, "@ d");
    bool prefill = strncmp(test, "pp", 2) == 0;
    if ((!prefill && strncmp(test, "tg", 2) != 0) || strchr(test, '+'))
        return;
    add(f, &(struct bench_peer_figure){{prefill ? BENCH_PREFILL : BENCH_DECODE, number(test + 2), 1,
                                        depth ? number(depth + 3) : 0},
                                       t->threads >= 0 ? number(cells[t->threads]) : 0, strtod(cells[t->rate], NULL)});
}

static void read_row(struct figures *f, struct table *t, const char *line, size_t len)
{
    char cells[COLUMNS_MAX][CELL_MAX];
    int n = cut(line, len, cells), rate = column(cells, n, "t/s");
    if (rate >= 0)
        *t = (struct table){column(cells, n, "test"), rate, column(cells, n, "threads")};
    else if (t->test >= 0 && t->test < n && t->rate < n && t->threads < n)
        add_row(f, t, cells);
}

size_t bench_peer_read(const char *text, size_t len, struct bench_peer_figure out[static BENCH_PEER_FIGURES_MAX])
{
    struct figures f = {.all = out};
    struct table t = {-1, -1, -1};
    for (size_t at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t line = newline ? (size_t)(newline - text) - at : len - at, used = 0;
        if (text[at] == '{' || text[at] == '[')
            used = read_json(&f, text + at, len - at);
        else if (text[at] == '|')
            read_row(&f, &t, text + at, line);
        at += used ? used : line + 1;
    }
    return f.n;
}

bool bench_peer_fits(const struct bench_peer_figure *f, const struct bench_case *c, uint32_t threads)
{
    return f->what.kind == c->kind && f->what.tokens == c->tokens && f->what.batch == c->batch &&
           f->what.depth == c->depth && (f->threads == 0 || f->threads == threads);
}

/* ---- running it ---- */

static char *spell(const char *command, const struct bench_peer_wants *w)
{
    const struct {
        const char *name;
        uint32_t value;
    } numbers[] = {{"{threads}", w->threads}, {"{prompt}", w->prompt}, {"{generate}", w->generate},
                   {"{depth}", w->depth}};
    struct buffer b;
    buffer_init(&b, BENCH_PEER_BYTES_MAX);
    while (*command) {
        size_t k = 0;
        while (k < COUNTOF(numbers) && strncmp(command, numbers[k].name, strlen(numbers[k].name)) != 0)
            k++;
        if (k < COUNTOF(numbers)) {
            buffer_printf(&b, "%u", numbers[k].value);
            command += strlen(numbers[k].name);
        } else if (strncmp(command, "{model}", 7) == 0) {
            buffer_add_text(&b, "\"$SHOAL_BENCH_MODEL\"");
            command += 7;
        } else {
            buffer_add(&b, command++, 1);
        }
    }
    char *out = buffer_failed(&b) ? NULL : mem_strdup(buffer_text(&b));
    buffer_close(&b);
    return out;
}

/* Everything is read even when it is too much, so that the command can end. */
static void read_all(FILE *from, struct buffer *to)
{
    char piece[4096];
    size_t n;
    while ((n = fread(piece, 1, sizeof(piece), from)) > 0)
        buffer_add(to, piece, n);
}

static int run_spelt(const char *command, struct buffer *printed, struct error *e)
{
    FILE *peer = popen(command, "r"); /* a shell, as the user who wrote the command expects */
    if (!peer)
        return error_set(e, ERR_MEMORY, "--compare: the command could not be started");
    read_all(peer, printed);
    int status = pclose(peer);
    if (interrupt_seen())
        return error_set(e, ERR_CANCELLED, "stopped");
    if (status != 0)
        return error_set(e, ERR_INVALID, "--compare: the command failed (%s %d)",
                         WIFSIGNALED(status) ? "signal" : "exit code",
                         WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (buffer_failed(printed))
        return error_set(e, ERR_LIMIT, "--compare: the command printed more than %d bytes", BENCH_PEER_BYTES_MAX);
    return 0;
}

int bench_peer_run(const char *command, const struct bench_peer_wants *w,
                   struct bench_peer_figure out[static BENCH_PEER_FIGURES_MAX], size_t *n, struct error *e)
{
    struct buffer printed;
    char *spelt = spell(command, w);
    *n = 0;
    if (!spelt || setenv("SHOAL_BENCH_MODEL", w->model, 1) != 0) {
        mem_free(spelt);
        return error_set(e, ERR_LIMIT, "--compare: the command is too long");
    }
    buffer_init(&printed, BENCH_PEER_BYTES_MAX);
    fflush(stdout);
    int r = run_spelt(spelt, &printed, e);
    if (r == 0)
        *n = bench_peer_read(buffer_text(&printed), printed.len, out);
    if (r == 0 && *n == 0)
        r = error_set(e, ERR_INVALID, "--compare: the command printed no figures that are known (llama-bench's "
                      "table or JSON, llama-batched-bench's JSON lines, shoal bench --json)");
    buffer_close(&printed);
    mem_free(spelt);
    return r;
}
