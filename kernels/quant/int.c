/* INTb_n: n values x = d * (q - z), d and z of the block, q codes of b bits: what GPTQ, AWQ and compressed-tensors
 * store, value for value.  blocks.h has the layout.  Bits a weight beside what a checkpoint spends for groups of as
 * many (a half float and a code as zero point):
 *     INT4_32  5     (4.63)   INT4_64  4.5     (4.31)   INT4_128  4.25     (4.16)   INT4F_32  5.5
 *     INT8_32  9     (8.75)   INT8_64  8.5     (8.38)   INT8_128  8.25     (8.19)   INT8F_32  9.5
 *     INT3_32  4     (3.59)   INT3_64  3.5     (3.30)   INT3_128  3.25     (3.15)   INT3F_32  4.5
 *     INT2_32  3     (2.56)   INT2_64  2.5     (2.28)   INT2_128  2.25     (2.14)   INT2F_32  3.5
 *     INT4B_32 4.5   (4.5: no zero point)
 * q - z and d have few enough bits for an exact product, but for whole floats, where it is rounded once. */
#include <assert.h>
#include <string.h>

#include "kernels/quant/blocks.h"

static void to_f32(const struct qtype *t, unsigned bits, const uint8_t *blocks, float *out, size_t n)
{
    for (size_t b = 0; b < n / 32; b++, out += 32) {
        struct int_head h;
        const uint8_t *codes = int_group(t, bits, blocks, b, &h);
        for (unsigned e = 0; e < 32; e++)
            out[e] = h.d * (float)((int32_t)int_code(codes, bits, e) - h.z);
    }
}

static void put_head(uint8_t *block, size_t bytes, float scale, uint32_t zero)
{
    uint32_t d;
    uint16_t half[3];
    memcpy(&d, &scale, sizeof(d));
    assert(bytes == 6 || (d & (bytes == 2 ? 0xffffU : (uint32_t)INT_ZERO_BITS)) == 0);
    d |= bytes == 4 ? zero : 0;
    half[0] = (uint16_t)(bytes == 2 ? d >> 16 : d);
    half[1] = (uint16_t)(d >> 16);
    half[2] = (uint16_t)zero;
    memcpy(block, half, bytes);
}

static void put_codes(const uint8_t *codes, unsigned bits, uint8_t *to)
{
    memset(to, 0, 4 * (size_t)bits);
    if (bits == 8)
        memcpy(to, codes, 32);
    for (unsigned e = 0; e < 16 && bits == 4; e++)
        to[e] = (uint8_t)(codes[e] | codes[e + 16] << 4);
    for (unsigned e = 0; e < 32 && bits <= 3; e++)
        to[e % 8] |= (uint8_t)((codes[e] & 3) << 2 * (e / 8));
    for (unsigned e = 0; e < 32 && bits == 3; e++)
        to[8 + e / 8] |= (uint8_t)(codes[e] >> 2 << e % 8);
}

static void put_q4_0(const uint8_t *codes, uint16_t d, struct q4_0 *b)
{
    b->d = d;
    put_codes(codes, 4, b->qs);
}

static void put_q8_0(const uint8_t *codes, uint16_t d, struct q8_0 *b)
{
    b->d = d;
    for (int e = 0; e < 32; e++)
        b->qs[e] = (int8_t)(codes[e] - 128);
}

void qtype_put_int(const struct qtype *t, const uint8_t *codes, float scale, uint32_t zero, void *block)
{
    if (t->id == QTYPE_Q4_0 || t->id == QTYPE_Q8_0) {
        uint16_t d = f32_to_f16(scale);
        assert(f16_to_f32(d) == scale && zero == (t->id == QTYPE_Q4_0 ? 8 : 128));
        if (t->id == QTYPE_Q4_0)
            put_q4_0(codes, d, block);
        else
            put_q8_0(codes, d, block);
        return;
    }
    unsigned bits = (t->id - QTYPE_OWN) / 10;
    size_t head = t->block_bytes - t->block_len / 8 * bits;
    assert(zero <= 256 && bits >= 2 && bits <= 8);
    put_head(block, head, scale, zero);
    for (size_t g = 0; g < t->block_len / 32; g++)
        put_codes(codes + 32 * g, bits, (uint8_t *)block + head + g * 4 * bits);
}

#define INT_TYPE(low, upper, bits, len, head)                                   \
    static void to_f32_##low(const void *blocks, float *out, size_t n)          \
    {                                                                           \
        to_f32(&qtype_##low, bits, blocks, out, n);                             \
    }                                                                           \
    const struct qtype qtype_##low = {QTYPE_##upper, #upper, len, (head) + (len) / 8 * (bits), to_f32_##low,    \
                                      NULL, NULL};
INT_TYPE(int2_32, INT2_32, 2, 32, 4)
INT_TYPE(int2_64, INT2_64, 2, 64, 4)
INT_TYPE(int2_128, INT2_128, 2, 128, 4)
INT_TYPE(int2f_32, INT2F_32, 2, 32, 6)
INT_TYPE(int3_32, INT3_32, 3, 32, 4)
INT_TYPE(int3_64, INT3_64, 3, 64, 4)
INT_TYPE(int3_128, INT3_128, 3, 128, 4)
INT_TYPE(int3f_32, INT3F_32, 3, 32, 6)
INT_TYPE(int4_32, INT4_32, 4, 32, 4)
INT_TYPE(int4_64, INT4_64, 4, 64, 4)
INT_TYPE(int4_128, INT4_128, 4, 128, 4)
INT_TYPE(int4f_32, INT4F_32, 4, 32, 6)
INT_TYPE(int4b_32, INT4B_32, 4, 32, 2)
INT_TYPE(int8_32, INT8_32, 8, 32, 4)
INT_TYPE(int8_64, INT8_64, 8, 64, 4)
INT_TYPE(int8_128, INT8_128, 8, 128, 4)
INT_TYPE(int8f_32, INT8F_32, 8, 32, 6)
#undef INT_TYPE
