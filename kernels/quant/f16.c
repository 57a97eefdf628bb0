/* F16: IEEE half. */
#include <string.h>

#include "kernels/quant/blocks.h"

static void to_f32(const void *blocks, float *out, size_t n)
{
    const uint8_t *p = blocks;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof(h));
        out[i] = f16_to_f32(h);
    }
}

static void from_f32(const float *in, void *blocks, size_t n)
{
    uint8_t *p = blocks;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = f32_to_f16(in[i]);
        memcpy(p + 2 * i, &h, sizeof(h));
    }
}

const struct qtype qtype_f16 = {QTYPE_F16, "F16", 1, sizeof(uint16_t), to_f32, from_f32, NULL};
