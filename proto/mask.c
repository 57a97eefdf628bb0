/* mask: list the fewer of both kinds of ids, unless all the bits are shorter. Ids are found 64 at a time. */
#include "proto/mask.h"

#include <string.h>

#include "base/view.h"

static uint32_t group_bytes(uint32_t v)
{
    uint32_t n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

/* 64 bits from id on, of which those past n are clear; inverted first where it is the clear ones that are listed. */
static uint64_t word_at(const uint8_t *bits, uint32_t n, uint32_t id, bool invert)
{
    uint64_t word = 0;
    uint32_t left = n - id;
    for (uint32_t k = 0; k < 8 && k * 8 < left; k++)
        word |= (uint64_t)bits[id / 8 + k] << (8 * k);
    word = invert ? ~word : word;
    return left < 64 ? word & (((uint64_t)1 << left) - 1) : word;
}

static uint32_t count_set(const uint8_t *bits, uint32_t n)
{
    uint32_t set = 0;
    for (uint32_t id = 0; id < n; id += 64)
        set += (uint32_t)__builtin_popcountll(word_at(bits, n, id, false));
    return set;
}

/* The list of ids whose bit is set, or with `invert` clear. out NULL: only counted. Its bytes. */
static size_t put_list(struct buffer *out, const uint8_t *bits, uint32_t n, bool invert)
{
    size_t bytes = 0;
    uint32_t after = 0; /* the last one's successor */
    for (uint32_t id = 0; id < n; id += 64) {
        for (uint64_t word = word_at(bits, n, id, invert); word != 0; word &= word - 1) {
            uint32_t at = id + (uint32_t)__builtin_ctzll(word), v = at + 1 - after;
            bytes += group_bytes(v);
            after = at + 1;
            if (!out)
                continue;
            for (; v >= 0x80; v >>= 7)
                buffer_u8(out, (uint8_t)(v | 0x80));
            buffer_u8(out, (uint8_t)v);
        }
    }
    return bytes;
}

void mask_encode(struct buffer *out, const uint8_t *bits, uint32_t n)
{
    size_t whole = ((size_t)n + 7) / 8;
    uint32_t set = count_set(bits, n), fewer = set <= n - set ? set : n - set;
    bool invert = fewer != set;
    /* A listed id takes a byte at least. */
    bool listed = fewer < whole && put_list(NULL, bits, n, invert) < whole;
    buffer_u8(out, (uint8_t)(!listed ? MASK_BITS : invert ? MASK_DENIED : MASK_ALLOWED));
    buffer_u32(out, n);
    if (listed)
        put_list(out, bits, n, invert);
    else
        buffer_add(out, bits, whole);
}

/* ---- decoding ---- */

static int refuse(struct error *e, const char *what)
{
    return error_set(e, ERR_CORRUPT, "a mask is malformed: %s", what);
}

static void fill(uint8_t *bits, uint32_t n)
{
    memset(bits, 0xFF, n / 8);
    if (n % 8 != 0)
        bits[n / 8] = (uint8_t)((1u << (n % 8)) - 1);
}

/* The next difference; 0: there is none, or it is no number. */
static uint32_t get_group(struct view *v)
{
    uint32_t out = 0;
    for (uint32_t shift = 0; shift < 28; shift += 7) {
        uint8_t b = view_u8(v);
        out |= (uint32_t)(b & 0x7F) << shift;
        if (!(b & 0x80))
            return v->bad ? 0 : out;
    }
    return 0;
}

static int get_list(struct view *v, uint8_t *bits, uint32_t n, struct error *e)
{
    uint32_t after = 0;
    while (view_left(v) > 0) {
        uint32_t step = get_group(v);
        if (step == 0 || step > n - after)
            return refuse(e, "its list of ids");
        after += step;
        bits[(after - 1) >> 3] ^= (uint8_t)(1u << ((after - 1) & 7));
    }
    return 0;
}

static int get_bits(struct view *v, uint8_t *bits, uint32_t n, struct error *e)
{
    size_t whole = ((size_t)n + 7) / 8;
    const uint8_t *bytes = view_left(v) == whole ? view_bytes(v, whole) : NULL;
    if (!bytes || (n % 8 != 0 && bytes[whole - 1] >> (n % 8) != 0))
        return refuse(e, "its bits");
    memcpy(bits, bytes, whole);
    return 0;
}

int mask_decode(const void *bytes, size_t size, uint8_t *bits, uint32_t room, struct error *e)
{
    struct view v = view_of(bytes, size);
    uint8_t form = view_u8(&v);
    uint32_t n = view_u32(&v);
    if (v.bad || form > MASK_DENIED || n == 0 || n > room)
        return refuse(e, "its form or size");
    size_t whole = ((size_t)room + 7) / 8;
    memset(bits, 0, whole);
    if (form == MASK_DENIED)
        fill(bits, n);
    int r = form == MASK_BITS ? get_bits(&v, bits, n, e) : get_list(&v, bits, n, e);
    size_t i = 0;
    while (r == 0 && i < whole && bits[i] == 0)
        i++;
    return r == 0 && i == whole ? refuse(e, "it allows no token") : r;
}
