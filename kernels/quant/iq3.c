/* IQ3_XXS, IQ3_S: entries of a codebook, four magnitudes each, and a sign a value.  IQ3_XXS: magnitudes 4, 12 ... 52,
 * 62 (codes 0..7), indices of a byte, for 32 values a word of four seven-bit sets of signs and a scale on top:
 * x = d * (scale + 1/2) / 2 * magnitude.  IQ3_S: odd magnitudes 1..15, the index's ninth bits in qh, signs written out,
 * a nibble of scale for 32: x = d * (2*scale + 1) * magnitude. */
#include "kernels/quant/blocks.h"
#include "kernels/quant/grids.h"

static uint64_t two_entries(const uint16_t *grid, uint32_t first, uint32_t second)
{
    return grid_spread4(grid[first]) | (uint64_t)grid_spread4(grid[second]) << 32;
}

static void unpack_iq3_xxs(const void *block, struct quanta *u)
{
    const struct iq3_xxs *b = block;
    quanta_plain(u, f16_to_f32(b->d) * 0.25F, 0);
    for (int g = 0; g < 8; g++) {
        uint32_t rest = b->signs[2 * g] | (uint32_t)b->signs[2 * g + 1] << 16;
        u->scale[2 * g] = u->scale[2 * g + 1] = (int16_t)(2 * (rest >> 28) + 1);
        for (int l = 0; l < 4; l++) {
            const uint8_t *index = b->qs + 8 * g + 2 * l;
            uint64_t c = two_entries(grid_iq3_xxs, index[0], index[1]);
            uint64_t top = c & c >> 1 & c >> 2 & 0x0101010101010101U; /* code 7 */
            c = grid_negate(0x0404040404040404U + 8 * c + 2 * top, grid_signs(rest >> 7 * l & 127));
            memcpy(u->q + 32 * g + 8 * l, &c, sizeof(c));
        }
    }
}

static void unpack_iq3_s(const void *block, struct quanta *u)
{
    const struct iq3_s *b = block;
    quanta_plain(u, f16_to_f32(b->d), 0);
    for (int g = 0; g < 8; g++) {
        u->scale[2 * g] = u->scale[2 * g + 1] = (int16_t)(2 * (b->scales[g / 2] >> 4 * (g % 2) & 15) + 1);
        for (int l = 0; l < 4; l++) {
            const uint8_t *index = b->qs + 8 * g + 2 * l;
            uint32_t high = b->qh[g] >> 2 * l;
            uint64_t c = two_entries(grid_iq3_s, index[0] | (high & 1) << 8, index[1] | (high >> 1 & 1) << 8);
            c = grid_negate(0x0101010101010101U + 2 * c, b->signs[4 * g + l]);
            memcpy(u->q + 32 * g + 8 * l, &c, sizeof(c));
        }
    }
}

static void to_f32_iq3_xxs(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct iq3_xxs), unpack_iq3_xxs, out, n);
}

static void to_f32_iq3_s(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct iq3_s), unpack_iq3_s, out, n);
}

const struct qtype qtype_iq3_xxs = {
    QTYPE_IQ3_XXS, "IQ3_XXS", 256, sizeof(struct iq3_xxs), to_f32_iq3_xxs, NULL, unpack_iq3_xxs};

const struct qtype qtype_iq3_s = {
    QTYPE_IQ3_S, "IQ3_S", 256, sizeof(struct iq3_s), to_f32_iq3_s, NULL, unpack_iq3_s};
