/* IQ2_XXS, IQ2_XS, IQ2_S: entries of a codebook, eight magnitudes in {8, 25, 43} each, and a sign a value;
 * x = d * (scale + 1/2) / 4 * magnitude.  IQ2_XXS: for 32 values four bytes of indices, then a word of four seven-bit
 * sets of signs and a scale on top.  IQ2_XS: a word for each eight values: nine bits of index, seven of signs; a nibble
 * of scale for 16.  IQ2_S: indices of ten bits, signs written out. */
#include "kernels/quant/blocks.h"
#include "kernels/quant/grids.h"

static void unpack_iq2_xxs(const void *block, struct quanta *u)
{
    const struct iq2_xxs *b = block;
    quanta_plain(u, f16_to_f32(b->d) * 0.125F, 0);
    for (int g = 0; g < 8; g++) {
        const uint16_t *s = b->qs + 4 * g;
        uint32_t rest = s[2] | (uint32_t)s[3] << 16;
        u->scale[2 * g] = u->scale[2 * g + 1] = (int16_t)(2 * (rest >> 28) + 1);
        for (int l = 0; l < 4; l++)
            grid_put2(u->q + 32 * g + 8 * l, grid_iq2_xxs[s[l / 2] >> 8 * (l % 2) & 255],
                      grid_signs(rest >> 7 * l & 127));
    }
}

static void unpack_iq2_xs(const void *block, struct quanta *u)
{
    const struct iq2_xs *b = block;
    quanta_plain(u, f16_to_f32(b->d) * 0.125F, 0);
    for (int g = 0; g < 16; g++)
        u->scale[g] = (int16_t)(2 * (b->scales[g / 2] >> 4 * (g % 2) & 15) + 1);
    for (int i = 0; i < 32; i++)
        grid_put2(u->q + 8 * i, grid_iq2_xs[b->qs[i] & 511], grid_signs(b->qs[i] >> 9));
}

static void unpack_iq2_s(const void *block, struct quanta *u)
{
    const struct iq2_s *b = block;
    quanta_plain(u, f16_to_f32(b->d) * 0.125F, 0);
    for (int g = 0; g < 16; g++)
        u->scale[g] = (int16_t)(2 * (b->scales[g / 2] >> 4 * (g % 2) & 15) + 1);
    for (int i = 0; i < 32; i++)
        grid_put2(u->q + 8 * i, grid_iq2_s[b->qs[i] | (b->qh[i / 4] >> 2 * (i % 4) & 3) << 8], b->signs[i]);
}

static void to_f32_iq2_xxs(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct iq2_xxs), unpack_iq2_xxs, out, n);
}

static void to_f32_iq2_xs(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct iq2_xs), unpack_iq2_xs, out, n);
}

static void to_f32_iq2_s(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct iq2_s), unpack_iq2_s, out, n);
}

const struct qtype qtype_iq2_xxs = {
    QTYPE_IQ2_XXS, "IQ2_XXS", 256, sizeof(struct iq2_xxs), to_f32_iq2_xxs, NULL, unpack_iq2_xxs};

const struct qtype qtype_iq2_xs = {
    QTYPE_IQ2_XS, "IQ2_XS", 256, sizeof(struct iq2_xs), to_f32_iq2_xs, NULL, unpack_iq2_xs};

const struct qtype qtype_iq2_s = {
    QTYPE_IQ2_S, "IQ2_S", 256, sizeof(struct iq2_s), to_f32_iq2_s, NULL, unpack_iq2_s};
