/* charsmap: the longest prefix that the table knows is replaced, again and again.
 *
 * The table is the size of a compact double array of 32-bit units, the array,
 * and NUL-terminated texts.  In a unit: bit 8, the node has a value, which is
 * where a text begins; the lowest byte and bit 31 are the label; the rest is
 * where the children are.  It is untrusted: every index is checked.          */
#include <string.h>

#include "text/normalizer.h"
#include "text/utf8.h"

static uint32_t word_at(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static uint32_t array_bytes(struct source_text map)
{
    return word_at(map.text);
}

int charsmap_check(struct source_text map, struct error *e)
{
    if (map.len < 8 || array_bytes(map) % 4 != 0 || array_bytes(map) > map.len - 4 || map.text[map.len - 1] != 0)
        return error_set(e, ERR_CORRUPT, "the table of replacements is damaged");
    return 0;
}

static bool unit_at(struct source_text map, uint32_t node, uint32_t *unit)
{
    if (node >= array_bytes(map) / 4)
        return false;
    *unit = word_at(map.text + 4 + (size_t)node * 4);
    return true;
}

static uint32_t children_of(uint32_t unit)
{
    return unit >> 10 << ((unit & 0x200) >> 6);
}

/* The replacement of the longest known prefix, NULL when there is none; *n is the prefix' length. */
static const char *find(struct source_text map, const char *text, size_t len, size_t *n)
{
    const char *texts = map.text + 4 + array_bytes(map), *found = NULL;
    size_t texts_len = map.len - 4 - array_bytes(map);
    uint32_t unit, value, node;
    if (!unit_at(map, 0, &unit))
        return NULL;
    node = children_of(unit);
    for (size_t i = 0; i < len && text[i]; i++) {
        unsigned char c = (unsigned char)text[i];
        node ^= c;
        if (!unit_at(map, node, &unit) || (unit & 0x800000FF) != c)
            break;
        node ^= children_of(unit);
        if (!(unit & 0x100) || !unit_at(map, node, &value) || (value & 0x7FFFFFFF) >= texts_len)
            continue;
        found = texts + (value & 0x7FFFFFFF);
        *n = i + 1;
    }
    return found;
}

void charsmap_run(struct source_text map, const char *text, size_t len, struct buffer *out)
{
    for (size_t at = 0, n; at < len && !buffer_failed(out); at += n) {
        const char *to = find(map, text + at, len - at, &n);
        if (to) {
            buffer_add_text(out, to);
        } else {
            n = utf8_char(text + at, len - at);
            buffer_add(out, text + at, n);
        }
    }
}
