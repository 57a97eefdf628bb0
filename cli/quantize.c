/* quantize: settings to shard/run/quantize. */
#include <stdio.h>
#include <unistd.h>

#include "base/progress.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "shard/run/quantize.h"
#include "text/export.h"

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

static int on_keys(void *arg, struct gguf_writer *w, const char *folder, uint32_t n_vocab, struct error *e)
{
    int r = tokenizer_export(w, folder, n_vocab, e);
    if (r != ERR_NOT_FOUND)
        return r;
    on_note(arg, "the folder has no tokenizer.json: the file will have no tokenizer");
    gguf_writer_string(w, "tokenizer.ggml.model", "no_vocab");
    return 0;
}

int quantize_command(const struct settings *s, struct error *e)
{
    struct drawing d = {0};
    struct quantize_options o = {.type = settings_argument(s, 2), .threads = (int)settings_count(s, "threads"),
                                 .stop = on_stop, .note = on_note, .add_keys = on_keys, .arg = &d};
    if (isatty(STDERR_FILENO))
        o.progress = on_progress;
    int r = quantize_write(settings_argument(s, 0), settings_argument(s, 1), &o, e);
    progress_finish(&d.bar);
    return r;
}
