/* backend: the table of backends, best last resort last. */
#include "kernels/backend.h"

#include <string.h>

extern const struct backend backend_cpu;

static const struct backend *const backends[] = {&backend_cpu};

const struct backend *backend_at(size_t i)
{
    return i < COUNTOF(backends) ? backends[i] : NULL;
}

int backend_open(struct device **out, const char *name, const struct device_options *o, struct error *e)
{
    *out = NULL;
    for (size_t i = 0; i < COUNTOF(backends); i++) {
        if (name && strcmp(name, backends[i]->name) != 0)
            continue;
        int r = backends[i]->open(out, o, e);
        if (r == 0)
            (*out)->backend = backends[i];
        return r;
    }
    return error_set(e, ERR_NOT_FOUND, "there is no backend \"%s\"; this build has: cpu", name);
}

void backend_close(struct device **device_p)
{
    if (!*device_p)
        return;
    (*device_p)->backend->close(*device_p);
    *device_p = NULL;
}
