/* quantize: settings to shard/run/quantize. */
#include <stdio.h>
#include <unistd.h>

#include "base/progress.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "shard/run/quantize.h"

struct drawing {
    struct progress *bar;
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct drawing *d = arg;
    if (d->bar) {
        progress_update(d->bar, done);
        return;
    }
    d->bar = progress_start("quantising", total);
    progress_skip(d->bar, done); /* the first call */
}

static bool on_stop(void *arg)
{
    (void)arg;
    return interrupt_seen();
}

static void on_note(void *arg, const char *sentence)
{
    (void)arg;
    fprintf(stderr, "shoal: %s\n", sentence);
}

int quantize_command(const struct settings *s, struct error *e)
{
    struct drawing d = {0};
    struct quantize_options o = {.type = settings_argument(s, 2), .threads = (int)settings_count(s, "threads"),
                                 .stop = on_stop, .note = on_note, .arg = &d};
    if (isatty(STDERR_FILENO))
        o.progress = on_progress;
    int r = quantize_write(settings_argument(s, 0), settings_argument(s, 1), &o, e);
    progress_finish(&d.bar);
    return r;
}
