/* joints: a bitmap over hashes of pairs of characters. */
#include "text/joints.h"

#include <string.h>

#include "base/memory.h"
#include "text/utf8.h"
#include "text/work.h"

enum { BITS_LOG_MIN = 16, BITS_LOG_MAX = 24, BITS_A_BYTE = 8 };

/* The character at s as a number, and its length. */
static size_t read_char(const char *s, size_t n, uint32_t *c)
{
    size_t len = utf8_char(s, n);
    *c = 0;
    memcpy(c, s, len);
    return len;
}

static uint64_t bit_of(const struct joints *j, uint32_t left, uint32_t right)
{
    return (((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15 ^ left) * 0xD6E8FEB86659FD93 >> j->shift;
}

static void add_token(struct joints *j, const char *text, size_t len)
{
    uint32_t left = 0, right;
    for (size_t at = 0; at < len; left = right) {
        size_t n = read_char(text + at, len - at, &right);
        uint64_t bit = bit_of(j, left, right);
        if (at > 0)
            j->bits[bit / 64] |= (uint64_t)1 << bit % 64;
        at += n;
    }
}

void joints_open(struct joints *j, const struct vocab *v)
{
    unsigned log = BITS_LOG_MIN;
    while (log < BITS_LOG_MAX && (uint64_t)1 << log < (uint64_t)v->starts[v->count] * BITS_A_BYTE)
        log++;
    j->shift = 64 - log;
    j->bits = mem_array(((size_t)1 << log) / 64, sizeof(*j->bits));
    for (uint32_t id = 0; id < v->count; id++) {
        size_t len;
        const char *text = vocab_text(v, id, &len);
        if (v->flags[id] & VOCAB_PLAIN)
            add_token(j, text, len);
    }
}

void joints_close(struct joints *j)
{
    mem_free(j->bits);
    j->bits = NULL;
}

size_t joints_cut(const struct joints *j, const char *text, size_t len)
{
    uint32_t left, right;
    size_t at = read_char(text, len, &left);
    while (at < len && at < WORK_PIECE_MAX - 4) {
        size_t n = read_char(text + at, len - at, &right);
        uint64_t bit = bit_of(j, left, right);
        if (!(j->bits[bit / 64] >> bit % 64 & 1))
            break;
        at += n;
        left = right;
    }
    return at;
}
