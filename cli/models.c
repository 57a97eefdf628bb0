/* models: looked for as a path, then in the store, then on the hub. */
#include "cli/models.h"

#include <string.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/progress.h"
#include "cli/interrupt.h"
#include "coordinator/pull/hub.h"

enum {
    FIRST_ARGUMENT = CMD_RUN | CMD_SERVE | CMD_UP | CMD_COORDINATOR | CMD_BENCH | CMD_SHOW | CMD_QUANTIZE |
                     CMD_TOKENIZE | CMD_LOGITS,
    SERVES = CMD_SERVE | CMD_UP | CMD_COORDINATOR,
    PULLS = CMD_RUN | CMD_SERVE | CMD_UP | CMD_COORDINATOR | CMD_BENCH | CMD_QUANTIZE | CMD_LOGITS,
};

/* ---- pulling, with a bar ---- */

struct bar {
    struct progress *progress;
    uint64_t total;
};

static void on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
    struct bar *b = arg;
    if (!b->progress || total != b->total) {
        progress_finish(&b->progress);
        b->progress = progress_start(what, total);
        b->total = total;
        progress_skip(b->progress, done);
    }
    progress_update(b->progress, done);
}

static bool on_stop(void *arg)
{
    (void)arg;
    return interrupt_seen();
}

int models_pull(struct model_entry *out, struct pull_report *report, struct pull_options *o, struct error *e)
{
    struct bar bar = {0};
    o->progress = on_progress;
    o->stop = on_stop;
    o->arg = &bar;
    int r = pull_model(out, report, o, e);
    progress_finish(&bar.progress);
    return r;
}

/* ---- resolving ---- */

static int from_hub(struct model_entry *out, const char *source, bool pulls, struct error *e)
{
    struct pull_report report;
    struct pull_options o = {.source = source};
    int r = pull_find(out, source, e);
    if (r == ERR_NOT_FOUND && !pulls)
        return error_set(e, r, "%.200s is not in the store: shoal pull fetches it", source);
    return r == ERR_NOT_FOUND ? models_pull(out, &report, &o, e) : r;
}

/* out->path stays NULL where the text is to be taken as it is. */
static int find_model(struct model_entry *out, const char *text, bool pulls, struct error *e)
{
    *out = (struct model_entry){0};
    if (path_exists(text))
        return 0;
    if (hub_is_source(text))
        return from_hub(out, text, pulls, e);
    if (model_name_check(text, NULL) != 0)
        return 0;
    int r = model_store_find(out, text, e);
    if (r != ERR_NOT_FOUND)
        return r;
    /* a path says itself that nothing is there */
    bool path_like = strchr(text, '/') || strstr(text, ".gguf");
    return path_like ? 0 : error_set(e, r, "%.200s is neither a file nor a model of the store (shoal ls); shoal pull "
                                           "hf:ORG/REPO fetches one", text);
}

/* In the API a model is called as it is here, unless somebody chose another name. */
static void call_it(struct settings *s, enum command_bit command, const struct model_entry *m)
{
    if ((command & SERVES) && m->path && !settings_text(s, "model_name"))
        settings_replace_text(s, "model_name", m->name);
}

static int resolve_argument(struct settings *s, enum command_bit command, struct error *e)
{
    struct model_entry m;
    int r = find_model(&m, settings_argument(s, 0), (command & PULLS) != 0, e);
    if (r == 0 && m.path) {
        settings_replace_argument(s, 0, m.path);
        call_it(s, command, &m);
    }
    model_entry_close(&m);
    return r;
}

static int resolve_setting(struct settings *s, enum command_bit command, const char *key, struct error *e)
{
    struct model_entry m;
    int r = find_model(&m, settings_text(s, key), (command & PULLS) != 0, e);
    if (r == 0 && m.path) {
        settings_replace_text(s, key, m.path);
        call_it(s, command, &m);
    }
    model_entry_close(&m);
    return r;
}

int models_resolve(struct settings *s, enum command_bit command, struct error *e)
{
    static const struct {
        int commands;
        const char *key;
    } keys[] = {{CMD_COORDINATOR | CMD_NODE, "model"}, {CMD_SYNTH, "tokenizer"}};
    bool first = settings_argument(s, 0) && (command & FIRST_ARGUMENT);
    int r = first ? resolve_argument(s, command, e) : 0;
    for (size_t i = 0; r == 0 && i < COUNTOF(keys); i++) /* the coordinator's argument comes before its setting */
        if ((command & keys[i].commands) && settings_text(s, keys[i].key) && !(first && command == CMD_COORDINATOR))
            r = resolve_setting(s, command, keys[i].key, e);
    return r;
}
