/* TQ1_0, TQ2_0: 256 values x = d * (q - 1), q in 0..2.  TQ2_0: two bits each: value 32k + l of a half is bits 2k, 2k+1
 * of its byte l.  TQ1_0: a byte is a fraction of 256 whose five digits to base 3 are values, the first on top: of 32
 * bytes those 32 apart, of the next 16 those 16 apart, of the last four, with four digits each, those 4 apart. */
#include "kernels/quant/blocks.h"

/* Digit n of n_digits of each of n_bytes bytes. */
static int8_t *put_digits(int8_t *q, const uint8_t *bytes, int n_bytes, int n_digits)
{
    static const uint8_t power[] = {1, 3, 9, 27, 81};
    for (int n = 0; n < n_digits; n++)
        for (int i = 0; i < n_bytes; i++)
            *q++ = (int8_t)(((uint8_t)(bytes[i] * power[n]) * 3 >> 8) - 1);
    return q;
}

static void unpack_tq1_0(const void *block, struct quanta *u)
{
    const struct tq1_0 *b = block;
    quanta_plain(u, f16_to_f32(b->d), 1);
    int8_t *q = put_digits(u->q, b->qs, 32, 5);
    q = put_digits(q, b->qs + 32, 16, 5);
    put_digits(q, b->qh, 4, 4);
}

static void unpack_tq2_0(const void *block, struct quanta *u)
{
    const struct tq2_0 *b = block;
    quanta_plain(u, f16_to_f32(b->d), 1);
    for (int k = 0; k < 8; k++)
        for (int l = 0; l < 32; l++)
            u->q[32 * k + l] = (int8_t)((b->qs[32 * (k / 4) + l] >> 2 * (k % 4) & 3) - 1);
}

static void to_f32_tq1_0(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct tq1_0), unpack_tq1_0, out, n);
}

static void to_f32_tq2_0(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct tq2_0), unpack_tq2_0, out, n);
}

const struct qtype qtype_tq1_0 = {
    QTYPE_TQ1_0, "TQ1_0", 256, sizeof(struct tq1_0), to_f32_tq1_0, NULL, unpack_tq1_0};

const struct qtype qtype_tq2_0 = {
    QTYPE_TQ2_0, "TQ2_0", 256, sizeof(struct tq2_0), to_f32_tq2_0, NULL, unpack_tq2_0};
