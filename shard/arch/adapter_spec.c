/* adapter_spec: [NAME=]PATH[:SCALE], as users write it. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/arch/adapter.h"

static bool name_ok(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
            return false;
    return n > 0 && n <= ADAPTER_NAME_MAX && name[0] != '.';
}

/* Cuts ":SCALE" off: a number, behind a path that is not there with it. */
static int cut_scale(char *path, float *scale, struct error *e)
{
    char *colon = strrchr(path, ':'), *end;
    *scale = 1;
    if (!colon || colon[1] == '\0' || path_exists(path))
        return 0;
    double v = strtod(colon + 1, &end);
    if (*end != '\0')
        return 0;
    if (!isfinite(v) || fabs(v) > ADAPTER_SCALE_MAX)
        return error_set(e, ERR_INVALID, "an adapter's scale can be -%d to %d", ADAPTER_SCALE_MAX, ADAPTER_SCALE_MAX);
    *scale = (float)v;
    *colon = '\0';
    return 0;
}

/* The last part of the path that says something. */
static void name_of(const char *path, const char **name, size_t *n)
{
    static const char peft[] = "adapter_model.safetensors", gguf[] = ".gguf";
    size_t end = strlen(path), m = strlen(gguf);
    if (end > strlen(peft) && strcmp(path + end - strlen(peft), peft) == 0 && path[end - strlen(peft) - 1] == '/')
        end -= strlen(peft);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t first = end;
    while (first > 0 && path[first - 1] != '/')
        first--;
    *name = path + first;
    *n = end - first;
    if (*n > m && memcmp(path + end - m, gguf, m) == 0)
        *n -= m;
}

int adapter_spec_parse(struct adapter_spec *out, const char *text, struct error *e)
{
    const char *equals = strchr(text, '='), *name = text;
    size_t n = equals ? (size_t)(equals - text) : 0;
    bool named = equals && name_ok(text, n);
    memset(out, 0, sizeof(*out));
    out->path = mem_strdup(named ? equals + 1 : text);
    int r = cut_scale(out->path, &out->scale, e);
    if (r == 0 && out->path[0] == '\0')
        r = error_set(e, ERR_INVALID, "\"%.80s\" names no adapter", text);
    if (r == 0 && !named)
        name_of(out->path, &name, &n);
    if (r == 0 && !name_ok(name, n))
        r = error_set(e, ERR_INVALID, "\"%.80s\" gives no name for the adapter: write NAME=%.80s, of letters, digits "
                                      "and \".-_\"", text, out->path);
    if (r == 0)
        memcpy(out->name, name, n);
    else
        adapter_spec_free(out);
    return r;
}

void adapter_spec_free(struct adapter_spec *s)
{
    mem_free(s->path);
    s->path = NULL;
}

int adapter_specs_parse(struct adapter_spec **out, const char *const *texts, size_t n, struct error *e)
{
    struct adapter_spec *specs = mem_array(n + 1, sizeof(*specs));
    int r = n <= ADAPTERS_MAX ? 0 : error_set(e, ERR_LIMIT, "%zu adapters; at most %d can be", n, ADAPTERS_MAX);
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = adapter_spec_parse(&specs[i], texts[i], e);
        for (size_t k = 0; r == 0 && k < i; k++)
            if (strcmp(specs[i].name, specs[k].name) == 0)
                r = error_set(e, ERR_INVALID, "two adapters are called %s; give one another name with NAME=FILE",
                              specs[i].name);
    }
    if (r != 0)
        adapter_specs_free(&specs, n);
    *out = specs;
    return r;
}

void adapter_specs_free(struct adapter_spec **specs, size_t n)
{
    for (size_t i = 0; *specs && i < n; i++)
        adapter_spec_free(&(*specs)[i]);
    mem_free(*specs);
    *specs = NULL;
}
