/* packed_codes: where the code of a row and column lies, and its zero point.  Words are little-endian and may lie
 * anywhere: files need not align. */
#include <string.h>

#include "shard/format/packed_parts.h"

enum { WORD_BITS = 32 };

static uint32_t word_at(const uint8_t *bytes, uint64_t i)
{
    uint32_t w;
    memcpy(&w, bytes + 4 * i, sizeof(w));
    return w;
}

/* Value `at` of a run of values of `bits` bits, one after the other in words that are `stride` words apart. */
static uint32_t stream_value(const uint8_t *bytes, uint64_t first, uint64_t stride, uint64_t at, uint32_t bits)
{
    uint64_t bit = at * bits, word = first + bit / WORD_BITS * stride;
    uint32_t shift = (uint32_t)(bit % WORD_BITS), v = word_at(bytes, word) >> shift;
    if (shift + bits > WORD_BITS)
        v |= word_at(bytes, word + stride) << (WORD_BITS - shift);
    return v & ((1U << bits) - 1);
}

/* Four bits of each of eight rows in a word, the even ones first. */
static uint32_t awq_shift(uint64_t row)
{
    static const uint8_t place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return 4U * place[row % 8];
}

static uint32_t awq_value(uint32_t word, uint64_t row)
{
    return word >> awq_shift(row) & 15;
}

static uint8_t code_at(const struct packed_matrix *m, const uint8_t *bytes, uint64_t row, uint64_t col)
{
    uint64_t each = m->bits ? WORD_BITS / m->bits : 0;
    switch (m->coding) {
    case PACKED_GPTQ:
        return (uint8_t)stream_value(bytes, row, m->rows, col, m->bits);
    case PACKED_AWQ:
        return (uint8_t)awq_value(word_at(bytes, col * (m->rows / 8) + row / 8), row);
    case PACKED_WORDS:
        if (m->dense)
            return (uint8_t)stream_value(bytes, row * packed_parts_of(m->cols * m->bits, WORD_BITS), 1, col, m->bits);
        return (uint8_t)(word_at(bytes, row * packed_parts_of(m->cols, each) + col / each) >> m->bits * (col % each) &
                         ((1U << m->bits) - 1));
    case PACKED_BYTES: /* signed: 128 more */
        return bytes[row * m->cols + col] ^ 0x80;
    case PACKED_FP8:
        return bytes[row * m->cols + col];
    case PACKED_MXFP4:
        break;
    }
    return bytes[(row * m->cols + col) / 2] >> 4 * (col % 2) & 15;
}

/* Four bits, eight to a word, words `stride` apart. */
static void nibbles(const uint8_t *bytes, uint64_t first, uint64_t stride, uint32_t n, uint8_t *codes)
{
    for (uint32_t i = 0; i < n; i += 8) {
        uint32_t w = word_at(bytes, first + i / 8 * stride);
        for (uint32_t k = 0; k < 8; k++)
            codes[i + k] = (uint8_t)(w >> 4 * k & 15);
    }
}

static void awq_codes(const struct packed_matrix *m, const uint8_t *bytes, uint64_t row, uint64_t first, uint32_t n,
                      uint8_t *codes)
{
    uint32_t shift = awq_shift(row);
    for (uint32_t i = 0; i < n; i++)
        codes[i] = (uint8_t)(word_at(bytes, (first + i) * (m->rows / 8) + row / 8) >> shift & 15);
}

/* The common cases by the word. */
void packed_codes(const struct packed_matrix *m, const uint8_t *bytes, uint64_t row, uint64_t first,
                  const uint32_t *order, uint32_t n, uint8_t *codes)
{
    bool whole = !order && first % 8 == 0 && n % 8 == 0;
    if (!order && m->coding == PACKED_FP8) {
        memcpy(codes, bytes + row * m->cols + first, n);
    } else if (whole && m->coding == PACKED_GPTQ && m->bits == 4) {
        nibbles(bytes, first / 8 * m->rows + row, m->rows, n, codes);
    } else if (whole && m->coding == PACKED_WORDS && m->bits == 4) {
        nibbles(bytes, row * packed_parts_of(m->cols, 8) + first / 8, 1, n, codes);
    } else if (!order && m->coding == PACKED_AWQ) {
        awq_codes(m, bytes, row, first, n, codes);
    } else {
        for (uint32_t i = 0; i < n; i++)
            codes[i] = code_at(m, bytes, row, order ? order[first + i] : first + i);
    }
}

uint32_t packed_zero(const struct packed_matrix *m, const uint8_t *bytes, uint64_t row, uint64_t group)
{
    uint64_t each = WORD_BITS / m->bits;
    if (m->coding == PACKED_GPTQ)
        return stream_value(bytes, group * (m->rows * m->bits / WORD_BITS), 1, row, m->bits);
    if (m->coding == PACKED_AWQ)
        return awq_value(word_at(bytes, group * (m->rows / 8) + row / 8), row);
    if (m->parts[PACKED_ZEROS]->dtype == ST_I8)
        return (uint32_t)(int32_t)(int8_t)bytes[row / m->tile_rows * m->n_groups + group];
    if (m->dense)
        return stream_value(bytes, group, m->n_groups, row, m->bits);
    return word_at(bytes, row / each * m->n_groups + group) >> m->bits * (row % each) & ((1U << m->bits) - 1);
}
