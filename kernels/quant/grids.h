/* grids: the codebooks of the IQ1, IQ2 and IQ3 types, and the unpacking of their entries. Not for other folders. */
#ifndef KERNELS_QUANT_GRIDS_H
#define KERNELS_QUANT_GRIDS_H

#include <stdint.h>
#include <string.h>

extern const uint16_t grid_iq2_xxs[256], grid_iq2_xs[512], grid_iq2_s[1024], grid_iq3_xxs[256], grid_iq3_s[512],
    grid_iq1[2048];

/* Eight codes of two bits, one a byte. */
static inline uint64_t grid_spread2(uint16_t codes)
{
    uint64_t x = codes;
    x = (x | x << 24) & 0x000000ff000000ffU;
    x = (x | x << 12) & 0x000f000f000f000fU;
    return (x | x << 6) & 0x0303030303030303U;
}

/* Four codes of four bits, one a byte. */
static inline uint32_t grid_spread4(uint16_t codes)
{
    uint32_t x = codes;
    x = (x | x << 8) & 0x00ff00ffU;
    return (x | x << 4) & 0x0f0f0f0fU;
}

/* Bit i of `bits` negates byte i: eight bytes of x, none above 127. */
static inline uint64_t grid_negate(uint64_t x, uint8_t bits)
{
    uint64_t at = (bits * 0x0101010101010101U & 0x8040201008040201U), one, all;
    one = (at | ((at & 0x7f7f7f7f7f7f7f7fU) + 0x7f7f7f7f7f7f7f7fU)) >> 7 & 0x0101010101010101U;
    all = one * 255;
    /* ~x + 1 where the bit is set; a byte of x is never 0 there, so nothing carries */
    return (x ^ all) + one;
}

/* Seven sign bits stand for eight: their number is even. */
static inline uint8_t grid_signs(uint32_t seven)
{
    uint32_t p = seven ^ seven >> 4;
    p ^= p >> 2;
    p ^= p >> 1;
    return (uint8_t)((seven & 127) | (p & 1) << 7);
}

/* Codes 0, 1, 2 are 8, 25, 43. */
static inline void grid_put2(int8_t *q, uint16_t codes, uint8_t signs)
{
    uint64_t c = grid_spread2(codes), x = 0x0808080808080808U + 17 * c + (c >> 1 & 0x0101010101010101U);
    x = grid_negate(x, signs);
    memcpy(q, &x, sizeof(x));
}

#endif
