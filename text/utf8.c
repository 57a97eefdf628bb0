/* utf8: well-formed sequences are those of the Unicode standard, table 3-7: no overlong forms, no surrogates. */
#include "text/utf8.h"

#include <stdbool.h>

/* Is `c` allowed as the second byte after `lead`? The only place where the range is not 80..BF. */
static bool second_fits(unsigned char lead, unsigned char c)
{
    unsigned char low = 0x80, high = 0xBF;
    if (lead == 0xE0)
        low = 0xA0;
    else if (lead == 0xED)
        high = 0x9F;
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F;
    return c >= low && c <= high;
}

static int length_of(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF)
        return 3;
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

int utf8_step(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    int length = length_of(u[0]);
    if (length == 0)
        return -1;
    for (int i = 1; i < length; i++) {
        if ((size_t)i == n)
            return 0;
        bool fits = i == 1 ? second_fits(u[0], u[1]) : (u[i] & 0xC0) == 0x80;
        if (!fits)
            return -i;
    }
    return length;
}

size_t utf8_char(const char *s, size_t n)
{
    int step = (unsigned char)s[0] < 0x80 ? 1 : utf8_step(s, n);
    return step > 0 ? (size_t)step : 1;
}

size_t utf8_write(uint32_t c, char out[static 4])
{
    static const unsigned char leads[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(leads[n] | c);
    return n;
}

uint32_t utf8_read(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    uint32_t c = n == 1 ? u[0] : u[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (u[i] & 0x3F);
    return c;
}
