/* quanta: from small integers to floats. */
#include "kernels/quant/blocks.h"

void quanta_to_f32(const void *blocks, size_t block_bytes, void (*unpack)(const void *block, struct quanta *out),
                   float *out, size_t n)
{
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n / 256; i++, block += block_bytes) {
        struct quanta u;
        unpack(block, &u);
        for (int g = 0; g < 16; g++) {
            float scale = u.d * u.scale[g], min = u.dmin * u.min[g];
            for (int l = 0; l < 16; l++)
                *out++ = scale * (float)u.q[16 * g + l] - min;
        }
    }
}
