/* isa: the instruction sets of this build, best first, and what they share. */
#include "kernels/cpu/isa.h"

#include <string.h>

static const struct isa *const sets[] = {
#if defined(__x86_64__)
    &isa_avx512, &isa_avx2,
#elif defined(__aarch64__)
    &isa_neon,
#endif
    &isa_scalar,
};

size_t form_row_bytes(enum form form, size_t n)
{
    switch (form) {
    case FORM_Q8:
        return n / 32 * sizeof(struct q8_block);
    case FORM_Q8K:
        return n / 256 * sizeof(struct q8k_block);
    case FORM_F32:
    case FORM_COUNT:
        break;
    }
    return n * sizeof(float);
}

const struct isa *isa_find(const char *name)
{
    for (size_t i = 0; i < COUNTOF(sets); i++)
        if ((!name || strcmp(name, sets[i]->name) == 0) && sets[i]->usable())
            return sets[i];
    return NULL;
}

static const struct matmul_kernel *find(const struct isa *isa, uint32_t type)
{
    const struct qtype *t = qtype_find(type);
    for (const struct matmul_kernel *k = isa->kernels; k->rows; k++)
        if (k->type == type)
            return k;
    return t && t->unpack && isa->quanta.rows ? &isa->quanta : NULL;
}

const struct matmul_kernel *isa_kernel(const struct isa *isa, uint32_t type)
{
    const struct matmul_kernel *k = find(isa, type);
    return k ? k : find(&isa_scalar, type);
}
