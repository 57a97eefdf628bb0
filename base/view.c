/* view: one bounds check, in view_has(). Invariant: pos <= size. */
#include "base/view.h"

#include <string.h>

struct view view_of(const void *data, size_t size)
{
    return (struct view){.data = data, .size = size};
}

bool view_has(const struct view *v, uint64_t n)
{
    return !v->bad && n <= v->size - v->pos;
}

size_t view_left(const struct view *v)
{
    return v->bad ? 0 : v->size - v->pos;
}

bool view_done(const struct view *v)
{
    return !v->bad && v->pos == v->size;
}

const void *view_bytes(struct view *v, uint64_t n)
{
    if (!view_has(v, n)) {
        v->bad = true;
        return NULL;
    }
    const void *p = v->data + v->pos;
    v->pos += (size_t)n;
    return p;
}

void view_skip(struct view *v, uint64_t n)
{
    (void)view_bytes(v, n);
}

static uint64_t get_le(struct view *v, size_t n)
{
    const uint8_t *p = view_bytes(v, n);
    uint64_t x = 0;
    for (size_t i = 0; p && i < n; i++)
        x |= (uint64_t)p[i] << (8 * i);
    return x;
}

uint8_t view_u8(struct view *v)
{
    return (uint8_t)get_le(v, 1);
}

uint16_t view_u16(struct view *v)
{
    return (uint16_t)get_le(v, 2);
}

uint32_t view_u32(struct view *v)
{
    return (uint32_t)get_le(v, 4);
}

uint64_t view_u64(struct view *v)
{
    return get_le(v, 8);
}

int32_t view_i32(struct view *v)
{
    return (int32_t)get_le(v, 4);
}

float view_f32(struct view *v)
{
    uint32_t bits = view_u32(v);
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

double view_f64(struct view *v)
{
    uint64_t bits = view_u64(v);
    double d;
    memcpy(&d, &bits, sizeof(d));
    return d;
}
