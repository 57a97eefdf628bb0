/* IQ1_S, IQ1_M: entries of a codebook, eight values in {-1, 0, 1} each, moved by an eighth up or down together; so q is
 * eight times the value: -9..9.  IQ1_S: a word of qh for each 32 values: three bits more for each of four indices, a
 * scale of three bits, the direction.  IQ1_M: a nibble of qh for each eight: three bits of the index, the direction;
 * 16 scales of three bits in four words, whose top nibbles make the half float d. */
#include <stdbool.h>

#include "kernels/quant/blocks.h"
#include "kernels/quant/grids.h"

/* Codes 0, 1, 2 are -1, 0, 1. Eight bytes at once: 128 too large until nothing can borrow from a neighbour. */
static void put(int8_t *q, uint32_t index, bool down)
{
    uint64_t raised = 8 * grid_spread2(grid_iq1[index]) + 0x0101010101010101U * (down ? 128 - 9 : 128 - 7);
    uint64_t x = raised ^ 0x8080808080808080U;
    memcpy(q, &x, sizeof(x));
}

static void unpack_iq1_s(const void *block, struct quanta *u)
{
    const struct iq1_s *b = block;
    quanta_plain(u, f16_to_f32(b->d) * 0.125F, 0);
    for (int g = 0; g < 8; g++) {
        uint32_t high = b->qh[g];
        u->scale[2 * g] = u->scale[2 * g + 1] = (int16_t)(2 * (high >> 12 & 7) + 1);
        for (int l = 0; l < 4; l++)
            put(u->q + 32 * g + 8 * l, b->qs[4 * g + l] | (high >> 3 * l & 7) << 8, high >> 15);
    }
}

static void unpack_iq1_m(const void *block, struct quanta *u)
{
    const struct iq1_m *b = block;
    const uint16_t *s = b->scales;
    uint16_t d = (uint16_t)(s[0] >> 12 | (s[1] >> 8 & 0x00f0) | (s[2] >> 4 & 0x0f00) | (s[3] & 0xf000));
    quanta_plain(u, f16_to_f32(d) * 0.125F, 0);
    for (int g = 0; g < 16; g++)
        u->scale[g] = (int16_t)(2 * (s[g / 4] >> 3 * (g % 4) & 7) + 1);
    for (int i = 0; i < 32; i++) {
        uint32_t high = b->qh[i / 2] >> 4 * (i % 2) & 15U;
        put(u->q + 8 * i, b->qs[i] | (high & 7) << 8, high >> 3);
    }
}

static void to_f32_iq1_s(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct iq1_s), unpack_iq1_s, out, n);
}

static void to_f32_iq1_m(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct iq1_m), unpack_iq1_m, out, n);
}

const struct qtype qtype_iq1_s = {
    QTYPE_IQ1_S, "IQ1_S", 256, sizeof(struct iq1_s), to_f32_iq1_s, NULL, unpack_iq1_s};

const struct qtype qtype_iq1_m = {
    QTYPE_IQ1_M, "IQ1_M", 256, sizeof(struct iq1_m), to_f32_iq1_m, NULL, unpack_iq1_m};
