/* F32: IEEE single, as it is. */
#include <string.h>

#include "kernels/quant/blocks.h"

static void to_f32(const void *blocks, float *out, size_t n)
{
    memcpy(out, blocks, n * sizeof(float));
}

static void from_f32(const float *in, void *blocks, size_t n)
{
    memcpy(blocks, in, n * sizeof(float));
}

const struct qtype qtype_f32 = {QTYPE_F32, "F32", 1, sizeof(float), to_f32, from_f32, NULL};
