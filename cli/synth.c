/* synth: settings to shard/arch/synth. */
#include <string.h>
#include <unistd.h>

#include "base/progress.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "shard/arch/arch.h"
#include "shard/arch/synth.h"

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

static uint32_t count(const struct settings *s, const char *key, uint32_t otherwise)
{
    uint32_t n = (uint32_t)settings_count(s, key);
    return n ? n : otherwise;
}

int synth_command(const struct settings *s, struct error *e)
{
    struct drawing d = {0};
    const char *family = settings_argument(s, 0);
    const struct arch *a = arch_find(family);
    bool only_experts = a && !(a->flags & ARCH_DENSE);
    uint32_t experts = count(s, "experts", only_experts ? EXPERTS_DEFAULT : 0);
    struct synth_options o = {
        .family = family,
        .layers = count(s, "layers", 0), .hidden = count(s, "hidden", 0), .heads = count(s, "heads", 0),
        .kv_heads = count(s, "kv_heads", 0), .head_dim = count(s, "head_dim", 0), .ffn = count(s, "ffn", 0),
        .experts = experts,
        .experts_used = experts ? count(s, "experts_used", EXPERTS_USED_DEFAULT) : 0,
        .expert_ffn = experts ? count(s, "expert_ffn", EXPERT_FFN_DEFAULT) : 0,
        .vocab = count(s, "vocab", 0), .context = count(s, "context", 0),
        .type = settings_text(s, "type"), .seed = settings_count(s, "seed"),
        .tokenizer = settings_text(s, "tokenizer"),
    };
    if (o.ffn == 0 && experts == 0)
        o.ffn = 4 * o.hidden;
    if (o.tokenizer && !settings_given(s, "vocab"))
        o.vocab = 0; /* what the tokenizer has */
    if (isatty(STDERR_FILENO)) {
        o.progress = on_progress;
        o.progress_arg = &d;
    }
    int r = synth_write(settings_argument(s, 1), &o, e);
    progress_finish(&d.bar);
    return r;
}
