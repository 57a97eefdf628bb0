/* synth: settings to shard/arch/synth. */
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "shard/arch/arch.h"
#include "shard/arch/synth.h"
#include "text/export.h"
#include "text/tokenizer.h"

enum { EXPERTS_DEFAULT = 32, EXPERTS_USED_DEFAULT = 4, EXPERT_FFN_DEFAULT = 768 };

struct drawing {
    struct progress *bar;
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct drawing *d = arg;
    if (!d->bar)
        d->bar = progress_start("writing", total);
    progress_update(d->bar, done);
}

/* The setting where the user gave one, or where there is nothing else to go by (0); else the shape's number. */
static uint32_t count(const struct settings *s, const char *key, uint32_t shape)
{
    return shape && !settings_given(s, key) ? shape : (uint32_t)settings_count(s, key);
}

/* Numbers of a shape change where the user says so; a family begins with none. */
static void change(struct synth_options *o, const struct settings *s)
{
    bool whole = o->layers > 0; /* a shape: its zeros mean what they say */
    const struct arch *a = arch_find(o->family);
    o->layers = count(s, "layers", o->layers);
    o->hidden = count(s, "hidden", o->hidden);
    o->heads = count(s, "heads", o->heads);
    if (!(whole && o->kv_heads == 0) || settings_given(s, "kv_heads"))
        o->kv_heads = count(s, "kv_heads", o->kv_heads);
    o->head_dim = count(s, "head_dim", o->head_dim);
    o->ffn = count(s, "ffn", o->ffn);
    o->experts = count(s, "experts", o->experts);
    if (o->experts == 0 && a && !(a->flags & ARCH_DENSE))
        o->experts = EXPERTS_DEFAULT;
    if (o->experts > 0) {
        o->experts_used = count(s, "experts_used", o->experts_used);
        o->experts_used = o->experts_used ? o->experts_used : EXPERTS_USED_DEFAULT;
        o->expert_ffn = count(s, "expert_ffn", o->expert_ffn);
        o->expert_ffn = o->expert_ffn ? o->expert_ffn : EXPERT_FFN_DEFAULT;
    } else if (o->ffn == 0) {
        o->ffn = 4 * o->hidden;
    }
    if (settings_given(s, "lead_dense"))
        o->lead_dense = (uint32_t)settings_count(s, "lead_dense");
    o->context = count(s, "context", o->context);
    if (whole || !o->tokenizer || settings_given(s, "vocab")) /* else what the tokenizer has */
        o->vocab = count(s, "vocab", o->vocab);
}

static int refuse(const char *name, struct error *e)
{
    struct buffer names;
    char list[ARCH_LIST_BYTES];
    buffer_init(&names, ARCH_LIST_BYTES);
    for (size_t i = 0; i < synth_shape_count(); i++)
        buffer_printf(&names, "%s%s", i ? ", " : "", synth_shape_at(i)->name);
    int r = error_set(e, ERR_INVALID, "there is no shape or family \"%.40s\"; there are %s, and the families %s", name,
                      buffer_text(&names), arch_list(list));
    buffer_close(&names);
    return r;
}

/* A GGUF file of nothing but a folder's tokenizer. */
static int write_tokenizer(const char *folder, const char *path, struct error *e)
{
    struct tokenizer *t;
    struct gguf_writer *w = NULL;
    int r = tokenizer_open_folder(&t, folder, e);
    if (r == 0)
        r = gguf_writer_create(&w, path, e);
    if (r == 0)
        r = tokenizer_export(w, folder, tokenizer_count(t), e);
    if (r == 0)
        r = gguf_writer_header(w, e);
    if (r == 0)
        r = gguf_writer_finish(&w, e);
    gguf_writer_abort(&w);
    tokenizer_close(&t);
    return r;
}

static int write_model(const struct settings *s, struct synth_options *o, struct error *e)
{
    struct drawing d = {0};
    change(o, s);
    if (isatty(STDERR_FILENO)) {
        o->progress = on_progress;
        o->progress_arg = &d;
    }
    int r = synth_write(settings_argument(s, 1), o, e);
    progress_finish(&d.bar);
    return r;
}

int synth_command(const struct settings *s, struct error *e)
{
    const char *name = settings_argument(s, 0);
    const struct synth_shape *shape = synth_shape_find(name);
    struct synth_options o = {.family = name};
    if (shape)
        o = shape->options;
    else if (!arch_find(name))
        return refuse(name, e);
    o.type = settings_text(s, "type");
    o.seed = settings_count(s, "seed");
    o.tokenizer = settings_text(s, "tokenizer");
    if (!o.tokenizer || !path_is_folder(o.tokenizer))
        return write_model(s, &o, e);
    char *path = mem_printf("%s.shoal-tokenizer", settings_argument(s, 1));
    int r = write_tokenizer(o.tokenizer, path, e);
    o.tokenizer = path;
    if (r == 0)
        r = write_model(s, &o, e);
    (void)unlink(path);
    mem_free(path);
    return r;
}
