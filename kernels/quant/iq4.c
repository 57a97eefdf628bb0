/* IQ4_NL, IQ4_XS: nibbles that choose one of 16 unevenly spaced values.  IQ4_NL: 32 of them, x = d * value[q], in the
 * order of Q4_0.  IQ4_XS: eight such groups, x = d * (scale_g - 32) * value[q]; of a scale's six bits the low four are
 * a nibble of scales_l, the high two lie in scales_h. */
#include "kernels/quant/blocks.h"

static const int8_t values[16] = {IQ4_VALUES};

static void to_f32_iq4_nl(const void *blocks, float *out, size_t n)
{
    const struct iq4_nl *b = blocks;
    for (size_t i = 0; i < n / 32; i++, out += 32) {
        float d = f16_to_f32(b[i].d);
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)values[b[i].qs[j] & 15];
            out[j + 16] = d * (float)values[b[i].qs[j] >> 4];
        }
    }
}

static void unpack_iq4_xs(const void *block, struct quanta *u)
{
    const struct iq4_xs *b = block;
    quanta_plain(u, f16_to_f32(b->d), 0);
    for (int g = 0; g < 8; g++) {
        int low = b->scales_l[g / 2] >> 4 * (g % 2) & 15, high = b->scales_h >> 2 * g & 3;
        u->scale[2 * g] = u->scale[2 * g + 1] = (int16_t)((low | high << 4) - 32);
        for (int j = 0; j < 16; j++) {
            u->q[32 * g + j] = values[b->qs[16 * g + j] & 15];
            u->q[32 * g + j + 16] = values[b->qs[16 * g + j] >> 4];
        }
    }
}

static void to_f32_iq4_xs(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct iq4_xs), unpack_iq4_xs, out, n);
}

const struct qtype qtype_iq4_nl = {QTYPE_IQ4_NL, "IQ4_NL", 32, sizeof(struct iq4_nl), to_f32_iq4_nl, NULL, NULL};

const struct qtype qtype_iq4_xs = {
    QTYPE_IQ4_XS, "IQ4_XS", 256, sizeof(struct iq4_xs), to_f32_iq4_xs, NULL, unpack_iq4_xs};
