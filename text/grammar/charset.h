/* charset: a set of code points, as sorted ranges that do not touch. Not for other folders.
 *
 * Surrogates are no characters and are in no set.  The number of ranges is
 * bounded by what the caller adds: text of a request, bounded before.        */
#ifndef TEXT_GRAMMAR_CHARSET_H
#define TEXT_GRAMMAR_CHARSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CODE_POINT_MAX = 0x10FFFF };

struct char_range {
    uint32_t first, last;
};

struct charset {
    struct char_range *ranges;
    size_t n, room;
};

void charset_close(struct charset *s);
/* Ranges may be added in any order; charset_finish() makes them a set. */
void charset_add(struct charset *s, uint32_t first, uint32_t last);
void charset_add_all(struct charset *s, const struct char_range *ranges, size_t n);
void charset_finish(struct charset *s);
/* Of finished sets. */
void charset_invert(struct charset *s);
void charset_intersect(struct charset *s, const struct charset *with);
bool charset_covers(const struct char_range *ranges, size_t n, const struct char_range *inner, size_t n_inner);

#endif
