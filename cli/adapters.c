/* adapters: at most one, as every row of a local command has the same. */
#include "cli/adapters.h"

int adapters_open_one(struct adapter **out, float *scale, const struct settings *s, const struct model *m,
                      struct error *e)
{
    struct adapter_spec spec;
    size_t n;
    const char *const *texts = settings_texts(s, "lora", &n);
    *out = NULL;
    if (n == 0)
        return 0;
    if (n > 1)
        return error_set(e, ERR_INVALID, "--lora: this command computes with one adapter at a time");
    int r = adapter_spec_parse(&spec, texts[0], e);
    if (r != 0)
        return error_context(e, "--lora");
    r = adapter_open(out, spec.path, m, e);
    *scale = spec.scale;
    adapter_spec_free(&spec);
    return r;
}
