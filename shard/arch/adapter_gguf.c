/* adapter_gguf: adapters as llama.cpp writes them: NAME.lora_a and NAME.lora_b of the model's tensor NAME. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "shard/arch/adapter_parts.h"

static const char a_end[] = ".lora_a", b_end[] = ".lora_b";

static bool is(const struct gguf *g, const char *key, const char *want)
{
    struct gguf_string s;
    return gguf_get_string(g, key, &s) && gguf_string_is(s, want);
}

static int check_kind(const struct adapter *a, const struct gguf *g, struct error *e)
{
    const char *path = adapter_path(a), *family = adapter_hparams(a)->arch->name;
    struct gguf_string own = {"another", 7};
    if (!is(g, "general.type", "adapter"))
        return error_set(e, ERR_INVALID, "%s: is no adapter (general.type is not \"adapter\")", path);
    if (!is(g, "adapter.type", "lora"))
        return error_set(e, ERR_UNSUPPORTED, "%s: is an adapter of another kind than LoRA", path);
    if (gguf_has(g, "adapter.alora.invocation_tokens"))
        return error_set(e, ERR_UNSUPPORTED, "%s: is an adapter that certain tokens switch on (aLoRA), which is not "
                                             "supported", path);
    if (is(g, "general.architecture", family))
        return 0;
    (void)gguf_get_string(g, "general.architecture", &own);
    return error_set(e, ERR_INVALID, "%s: was made for a model of family %.*s, and this one is of family %s", path,
                     (int)(own.len < 64 ? own.len : 64), own.text, family);
}

static bool ends_with(const char *name, const char *end, size_t *stem)
{
    size_t n = strlen(name), m = strlen(end);
    *stem = n > m ? n - m : 0;
    return n > m && strcmp(name + n - m, end) == 0;
}

static struct thin thin_of(const struct gguf *g, const struct gguf_tensor *t)
{
    return (struct thin){.name = t->name, .type = t->type, .ne = {t->ne[0], t->ne[1], t->ne[2]},
                         .bytes = gguf_tensor_bytes(g, t), .at = {t->file, t->offset, t->bytes}};
}

/* The pair whose A is `t`. */
static int add_pair(struct adapter *a, const struct gguf *g, const struct gguf_tensor *t, size_t stem, double alpha,
                    struct error *e)
{
    char other[GGUF_NAME_MAX + 1];
    snprintf(other, sizeof(other), "%.*s%s", (int)stem, t->name, b_end);
    const struct gguf_tensor *b = gguf_tensor_find(g, other);
    struct thin_pair p = {.slice = -1};
    if (!b)
        return error_set(e, ERR_CORRUPT, "%s: has %s and no %s", adapter_path(a), t->name, other);
    if (t->ne[3] != 1 || b->ne[3] != 1)
        return error_set(e, ERR_CORRUPT, "%s: %s has four dimensions", adapter_path(a),
                         t->ne[3] != 1 ? t->name : other);
    snprintf(p.target, sizeof(p.target), "%.*s", (int)stem, t->name);
    p.a = thin_of(g, t);
    p.b = thin_of(g, b);
    p.scale = alpha != 0 ? (float)(alpha / (double)b->ne[0]) : 1;
    return arch_ignores(adapter_hparams(a), p.target) ? 0 : adapter_add(a, &p, e);
}

int adapter_gguf_read(struct adapter *a, struct gguf *file, struct error *e)
{
    double alpha;
    int r = check_kind(a, file, e);
    if (r == 0 && !gguf_get_f64(file, "adapter.lora.alpha", &alpha))
        r = error_set(e, ERR_CORRUPT, "%s: adapter.lora.alpha is missing or no number", adapter_path(a));
    for (size_t i = 0; r == 0 && i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        char other[GGUF_NAME_MAX + 1];
        size_t stem;
        if (ends_with(t->name, a_end, &stem)) {
            r = add_pair(a, file, t, stem, alpha, e);
        } else if (ends_with(t->name, b_end, &stem)) {
            snprintf(other, sizeof(other), "%.*s%s", (int)stem, t->name, a_end);
            if (!gguf_tensor_find(file, other))
                r = error_set(e, ERR_CORRUPT, "%s: has %s and no %s", adapter_path(a), t->name, other);
        } else {
            r = error_set(e, ERR_UNSUPPORTED, "%s: holds tensor %s, which is no part of a LoRA adapter",
                          adapter_path(a), t->name);
        }
    }
    return r;
}
