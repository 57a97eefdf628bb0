/* synth_blocks: where the scales of each type lie, and random bits around them. */
#include "shard/arch/synth_blocks.h"

#include <math.h>
#include <string.h>

enum {
    TRIED = 64, /* blocks whose values tell the deviation at scale 1 */
    SIGN = 0x8000,
    NVFP4_SCALES = 4,
    NVFP4_CODE_MAX = 0x7E,
    BLOCK_BYTES_MAX = 256,
};

/* Most have a scale as F16 somewhere; Q2_K has one of what is taken off, too. */
static const struct place {
    enum qtype_id id;
    int d, dmin; /* bytes into the block; -1: none */
} places[] = {
    {QTYPE_Q2_K, 80, 82},   {QTYPE_Q3_K, 108, -1}, {QTYPE_IQ1_S, 0, -1}, {QTYPE_IQ2_XXS, 0, -1}, {QTYPE_IQ2_XS, 0, -1},
    {QTYPE_IQ2_S, 0, -1},   {QTYPE_IQ3_XXS, 0, -1}, {QTYPE_IQ3_S, 0, -1}, {QTYPE_IQ4_NL, 0, -1}, {QTYPE_IQ4_XS, 0, -1},
    {QTYPE_TQ1_0, 52, -1},  {QTYPE_TQ2_0, 64, -1},
};

/* IQ1_M has a quarter of its F16 scale on top of each of the last four 16-bit words. */
static void set_iq1_m(uint8_t *block, uint16_t scale)
{
    for (size_t i = 0; i < 4; i++) {
        uint8_t *top = block + 48 + 2 * i + 1;
        *top = (uint8_t)((*top & 0x0F) | ((scale >> 4 * i & 0x0F) << 4));
    }
}

static void set_scale(const struct qtype *type, uint8_t *block, uint16_t scale)
{
    uint16_t off = f32_to_f16(1.5F * f16_to_f32(scale)); /* the mean of what it is taken off from */
    if (type->id == QTYPE_NVFP4)
        memset(block, scale & NVFP4_CODE_MAX, NVFP4_SCALES);
    if (type->id == QTYPE_IQ1_M)
        set_iq1_m(block, scale);
    for (size_t i = 0; i < COUNTOF(places); i++) {
        if (places[i].id != type->id)
            continue;
        memcpy(block + places[i].d, &scale, sizeof(scale));
        if (places[i].dmin >= 0)
            memcpy(block + places[i].dmin, &off, sizeof(off));
    }
}

/* Two bits a value, of which three of four states are used. */
static uint8_t four_ternary(struct random_state *random)
{
    uint64_t bits = random_u64(random);
    uint8_t out = 0;
    for (int i = 0; i < 4; i++, bits /= 3)
        out = (uint8_t)(out << 2 | bits % 3);
    return out;
}

static void draw_bits(const struct qtype *type, struct random_state *random, uint8_t *block)
{
    for (size_t at = 0; at < type->block_bytes; at += sizeof(uint64_t)) {
        uint64_t bits = random_u64(random);
        size_t left = type->block_bytes - at;
        memcpy(block + at, &bits, left < sizeof(bits) ? left : sizeof(bits));
    }
    for (size_t at = 0; type->id == QTYPE_TQ2_0 && at < 64; at++)
        block[at] = four_ternary(random);
}

static double deviation_of(const struct synth_blocks *b)
{
    struct random_state random;
    uint8_t block[BLOCK_BYTES_MAX];
    float values[QTYPE_BLOCK_LEN_MAX];
    double squares = 0;
    random_seed(&random, b->type->id);
    for (int i = 0; i < TRIED; i++) {
        draw_bits(b->type, &random, block);
        set_scale(b->type, block, b->scale);
        b->type->to_f32(block, values, b->type->block_len);
        for (uint32_t k = 0; k < b->type->block_len; k++)
            squares += (double)values[k] * (double)values[k];
    }
    return sqrt(squares / TRIED / b->type->block_len);
}

void synth_blocks_open(struct synth_blocks *b, const struct qtype *type, float deviation)
{
    *b = (struct synth_blocks){type, f32_to_f16(1)};
    if (type->id != QTYPE_NVFP4) {
        b->scale = f32_to_f16((float)(deviation / deviation_of(b)));
        return;
    }
    /* scales of eight bits grow with their code: the first that is large enough */
    for (b->scale = 1; b->scale < NVFP4_CODE_MAX && deviation_of(b) < (double)deviation; b->scale++)
        continue;
}

void synth_blocks_draw(const struct synth_blocks *b, struct random_state *random, void *blocks, size_t n)
{
    uint8_t *block = blocks;
    for (size_t i = 0; i < n; i++, block += b->type->block_bytes) {
        draw_bits(b->type, random, block);
        set_scale(b->type, block, (uint16_t)(b->scale ^ (random_u64(random) & SIGN)));
    }
}
