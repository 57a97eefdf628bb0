/* progress: redrawn at most ten times a second on a terminal; elsewhere a line each five seconds. */
#include "base/progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

enum { BAR_CELLS = 24, DRAW_MS = 100, LINE_MS = 5000 };

struct progress {
    char *what;
    uint64_t total, done, skipped;
    uint64_t started_ms, drawn_ms;
    bool terminal, drawn;
};

char *progress_count(double count, char text[static 32])
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e12, " T"}, {1e9, " B"}, {1e6, " M"}, {1e3, " k"}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (count >= units[i].unit) {
            double v = count / units[i].unit;
            snprintf(text, 32, "%.*f%s", v < 10 ? 2 : v < 100 ? 1 : 0, v, units[i].name);
            return text;
        }
    }
    snprintf(text, 32, "%.0f", count);
    return text;
}

char *progress_bytes(uint64_t bytes, char text[static 32])
{
    static const char *const names[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    size_t i = 0;
    while (v >= 1000 && i + 1 < sizeof(names) / sizeof(names[0])) {
        v /= 1000;
        i++;
    }
    snprintf(text, 32, "%.*f %s", i == 0 ? 0 : v < 10 ? 2 : v < 100 ? 1 : 0, v, names[i]);
    return text;
}

struct progress *progress_start(const char *what, uint64_t bytes_total)
{
    struct progress *p = mem_alloc(sizeof(*p));
    p->what = mem_strdup(what);
    p->total = bytes_total;
    p->started_ms = clock_ms();
    p->drawn_ms = p->started_ms;
    p->terminal = isatty(STDERR_FILENO);
    return p;
}

static void draw(struct progress *p)
{
    char done[32], total[32], rate[32], bar[BAR_CELLS + 1];
    double seconds = (double)(clock_ms() - p->started_ms) / 1000;
    double speed = seconds > 0 ? (double)(p->done - p->skipped) / seconds : 0;
    double part = p->total ? (double)p->done / (double)p->total : 1;
    size_t cells = (size_t)(part * BAR_CELLS);
    memset(bar, '-', BAR_CELLS);
    memset(bar, '#', cells < BAR_CELLS ? cells : BAR_CELLS);
    bar[BAR_CELLS] = 0;
    double left = speed > 0 && p->total > p->done ? (double)(p->total - p->done) / speed : 0;
    fprintf(stderr, "%s%s  [%s] %3.0f%%  %s of %s  %s/s  %.0f s left%s", p->terminal ? "\r\033[K" : "", p->what, bar,
            part * 100, progress_bytes(p->done, done), progress_bytes(p->total, total),
            progress_bytes((uint64_t)speed, rate), left, p->terminal ? "" : "\n");
    fflush(stderr);
    p->drawn = true;
    p->drawn_ms = clock_ms();
}

void progress_skip(struct progress *p, uint64_t bytes_done)
{
    p->done = p->skipped = bytes_done;
}

void progress_update(struct progress *p, uint64_t bytes_done)
{
    p->done = bytes_done;
    if (clock_ms() - p->drawn_ms >= (p->terminal ? DRAW_MS : LINE_MS))
        draw(p);
}

void progress_finish(struct progress **progress_p)
{
    struct progress *p = *progress_p;
    if (!p)
        return;
    if (p->drawn) {
        draw(p);
        if (p->terminal)
            fputc('\n', stderr);
    }
    mem_free(p->what);
    mem_free(p);
    *progress_p = NULL;
}
