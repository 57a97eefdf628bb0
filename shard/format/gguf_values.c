/* gguf_values: metadata by key, converted without loss. */
#include <math.h>
#include <string.h>

#include "base/view.h"
#include "shard/format/gguf_file.h"

size_t gguf_type_bytes(uint32_t type)
{
    static const uint8_t bytes[] = {
        [GGUF_U8] = 1, [GGUF_I8] = 1, [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
        [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_STRING] = 0, [GGUF_ARRAY] = 0, [GGUF_U64] = 8, [GGUF_I64] = 8,
        [GGUF_F64] = 8,
    };
    return type < COUNTOF(bytes) ? bytes[type] : 0;
}

static const struct gguf_value *find(const struct gguf *g, const char *key)
{
    size_t low = 0, high = g->n_values, n = strlen(key);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct gguf_value *v = g->by_key[mid];
        size_t m = v->key.len;
        int c = memcmp(v->key.text, key, m < n ? m : n);
        c = c != 0 ? c : (m > n) - (m < n);
        if (c == 0)
            return v;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* A number of any type as a double and, where it is an integer, as sign and magnitude. */
struct number {
    bool integer, negative;
    uint64_t magnitude;
    double real;
};

static struct number signed_number(int64_t v)
{
    return (struct number){true, v < 0, v < 0 ? (uint64_t)-(v + 1) + 1 : (uint64_t)v, (double)v};
}

static bool read_number(enum gguf_type type, const uint8_t *at, struct number *out)
{
    struct view v = view_of(at, 8); /* the caller has checked that the value's own bytes are there */
    switch (type) {
    case GGUF_U8:
    case GGUF_BOOL:
        *out = (struct number){true, false, at[0], at[0]};
        return true;
    case GGUF_I8:
        *out = signed_number((int8_t)at[0]);
        return true;
    case GGUF_U16:
        *out = signed_number(view_u16(&v));
        return true;
    case GGUF_I16:
        *out = signed_number((int16_t)view_u16(&v));
        return true;
    case GGUF_U32:
        *out = signed_number(view_u32(&v));
        return true;
    case GGUF_I32:
        *out = signed_number(view_i32(&v));
        return true;
    case GGUF_U64:
        *out = (struct number){true, false, view_u64(&v), 0};
        out->real = (double)out->magnitude;
        return true;
    case GGUF_I64:
        *out = signed_number((int64_t)view_u64(&v));
        return true;
    case GGUF_F32:
        *out = (struct number){.real = view_f32(&v)};
        return true;
    case GGUF_F64:
        *out = (struct number){.real = view_f64(&v)};
        return true;
    case GGUF_STRING:
    case GGUF_ARRAY:
        break;
    }
    return false;
}

size_t gguf_key_count(const struct gguf *g)
{
    return g->n_values;
}

struct gguf_string gguf_key_at(const struct gguf *g, size_t i)
{
    return g->values[i].key;
}

bool gguf_has(const struct gguf *g, const char *key)
{
    return find(g, key) != NULL;
}

bool gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out)
{
    const struct gguf_value *v = find(g, key);
    struct number n;
    if (!v || v->type == GGUF_BOOL || !read_number(v->type, v->data, &n) || !n.integer || n.negative)
        return false;
    *out = n.magnitude;
    return true;
}

bool gguf_get_f64(const struct gguf *g, const char *key, double *out)
{
    const struct gguf_value *v = find(g, key);
    struct number n;
    if (!v || !read_number(v->type, v->data, &n) || !isfinite(n.real))
        return false;
    *out = n.real;
    return true;
}

bool gguf_get_bool(const struct gguf *g, const char *key, bool *out)
{
    const struct gguf_value *v = find(g, key);
    if (!v || v->type != GGUF_BOOL)
        return false;
    *out = v->data[0] != 0;
    return true;
}

bool gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *out)
{
    const struct gguf_value *v = find(g, key);
    if (!v || v->type != GGUF_STRING)
        return false;
    *out = (struct gguf_string){(const char *)v->data, (size_t)v->string_len};
    return true;
}

bool gguf_string_is(struct gguf_string s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.text, text, s.len) == 0;
}

bool gguf_array(const struct gguf *g, const char *key, enum gguf_type *type, uint64_t *count)
{
    const struct gguf_value *v = find(g, key);
    if (!v || v->type != GGUF_ARRAY)
        return false;
    *type = v->element;
    *count = v->count;
    return true;
}

static bool element(const struct gguf *g, const char *key, uint64_t i, struct number *out)
{
    const struct gguf_value *v = find(g, key);
    return v && v->type == GGUF_ARRAY && i < v->count && v->element != GGUF_STRING &&
           read_number(v->element, v->data + i * gguf_type_bytes(v->element), out);
}

bool gguf_array_u64(const struct gguf *g, const char *key, uint64_t i, uint64_t *out)
{
    struct number n;
    if (!element(g, key, i, &n) || !n.integer || n.negative)
        return false;
    *out = n.magnitude;
    return true;
}

bool gguf_array_i64(const struct gguf *g, const char *key, uint64_t i, int64_t *out)
{
    struct number n;
    if (!element(g, key, i, &n) || !n.integer || n.magnitude > (uint64_t)INT64_MAX + n.negative)
        return false;
    *out = n.negative ? -(int64_t)(n.magnitude - 1) - 1 : (int64_t)n.magnitude;
    return true;
}

bool gguf_array_f64(const struct gguf *g, const char *key, uint64_t i, double *out)
{
    struct number n;
    if (!element(g, key, i, &n))
        return false;
    *out = n.real;
    return true;
}

bool gguf_array_string(const struct gguf *g, const char *key, uint64_t i, struct gguf_string *out)
{
    const struct gguf_value *v = find(g, key);
    if (!v || v->type != GGUF_ARRAY || v->element != GGUF_STRING || i >= v->count)
        return false;
    uint64_t len;
    memcpy(&len, v->data + v->strings[i], sizeof(len));
    *out = (struct gguf_string){(const char *)v->data + v->strings[i] + sizeof(len), (size_t)len};
    return true;
}
