/* view: a bounded, sticky, little-endian reader over bytes that somebody else wrote.
 *
 * Once a read would pass the end, the view turns bad and every later read
 * returns zero, so a decoder is a straight line with one check at its end.
 * view_has() is the only bounds check.  A view borrows its bytes.            */
#ifndef BASE_VIEW_H
#define BASE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct view {
    const uint8_t *data;
    size_t size;
    size_t pos; /* <= size */
    bool bad;
};

struct view view_of(const void *data, size_t size);
bool view_has(const struct view *v, uint64_t n); /* false as well when bad */
size_t view_left(const struct view *v);
bool view_done(const struct view *v); /* read to the very end, and never bad */

uint8_t view_u8(struct view *v);
uint16_t view_u16(struct view *v);
uint32_t view_u32(struct view *v);
uint64_t view_u64(struct view *v);
int32_t view_i32(struct view *v);
float view_f32(struct view *v);
double view_f64(struct view *v);
/* n bytes in place, or NULL (and bad). */
const void *view_bytes(struct view *v, uint64_t n);
void view_skip(struct view *v, uint64_t n);

#endif
