/* adapters: texts to specs. */
#include "cli/adapters.h"

#include <string.h>

#include "base/memory.h"

int adapters_read(struct adapter_spec **out, uint32_t *n, const struct settings *s, struct error *e)
{
    size_t n_texts;
    const char *const *texts = settings_texts(s, "lora", &n_texts);
    struct adapter_spec *specs = mem_array(n_texts + 1, sizeof(*specs));
    int r = n_texts <= ADAPTERS_MAX ? 0 : error_set(e, ERR_LIMIT, "--lora: at most %d adapters", ADAPTERS_MAX);
    *n = 0;
    for (size_t i = 0; r == 0 && i < n_texts; i++) {
        r = adapter_spec_parse(&specs[i], texts[i], e);
        if (r != 0) {
            error_context(e, "--lora");
            break;
        }
        ++*n;
        for (size_t k = 0; r == 0 && k < i; k++)
            if (strcmp(specs[i].name, specs[k].name) == 0)
                r = error_set(e, ERR_INVALID, "--lora: two adapters are called %s; give one another name with "
                                              "NAME=FILE", specs[i].name);
    }
    if (r != 0)
        adapters_free(&specs, *n);
    *out = specs;
    return r;
}

void adapters_free(struct adapter_spec **specs, uint32_t n)
{
    for (uint32_t i = 0; *specs && i < n; i++)
        adapter_spec_free(&(*specs)[i]);
    mem_free(*specs);
    *specs = NULL;
}

int adapters_open_one(struct adapter **out, float *scale, const struct settings *s, const struct model *m,
                      struct error *e)
{
    struct adapter_spec *specs;
    uint32_t n;
    *out = NULL;
    int r = adapters_read(&specs, &n, s, e);
    if (r != 0)
        return r;
    if (n > 1)
        r = error_set(e, ERR_INVALID, "--lora: this command computes with one adapter at a time");
    if (r == 0 && n == 1) {
        r = adapter_open(out, specs[0].path, m, e);
        *scale = specs[0].scale;
    }
    adapters_free(&specs, n);
    return r;
}
