/* rig: devices, matrices, references and comparisons for the tests of operations. */
#include "tests/kernels/rig.h"

#include "kernels/cpu/isa.h"

static const char *const sets[] = {"avx512", "avx2", "neon", "scalar"};

/* Threads share work the same way in every set, and a race is slow to look for: one set is enough there. */
#if defined(__SANITIZE_THREAD__)
enum { SETS_MAX = 1 };
#else
enum { SETS_MAX = COUNTOF(sets) };
#endif

const char *rig_isa(size_t i)
{
    for (size_t k = 0; k < COUNTOF(sets) && i < SETS_MAX; k++) {
        struct device *d;
        struct device_options o = {.threads = 1, .isa = sets[k]};
        if (backend_open(&d, "cpu", &o, NULL) != 0)
            continue;
        backend_close(&d);
        if (i-- == 0)
            return sets[k];
    }
    return NULL;
}

void rig_open(struct rig *r, const char *isa, int threads)
{
    struct error e = {0};
    struct device_options o = {.threads = threads, .isa = isa};
    struct reserve_args most = {.rows = RIG_ROWS_MAX, .cols = RIG_COLS_MAX, .rope_half = HEAD_DIM_MAX / 2,
                                .key_dim = HEAD_DIM_MAX, .out_dim = HEAD_DIM_MAX,
                                .ffn = RIG_FFN_MAX, .index_positions = RIG_POSITIONS_MAX, .lora_cols = RIG_COLS_MAX,
                                .lora_rank = RIG_COLS_MAX};
    if (backend_open(&r->d, "cpu", &o, &e) != 0)
        fail_msg("%s", e.text);
    r->b = r->d->backend;
    r->isa = isa;
    r->threads = threads;
    if (r->b->reserve(r->d, &most, &e) != 0)
        fail_msg("%s", e.text);
}

void rig_close(struct rig *r)
{
    backend_close(&r->d);
    assert_null(r->d);
}

/* ---- memory ---- */

void *rig_alloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    assert_non_null(p);
    return p;
}

static float next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*state >> 32) * 0x1p-31F;
}

float *rig_random(uint64_t seed, size_t n, float size)
{
    float *x = rig_alloc(n * sizeof(*x));
    uint64_t state = seed * 7919 + 1;
    for (size_t i = 0; i < n; i++)
        x[i] = size * next_random(&state);
    return x;
}

struct span rig_span(const struct rig *r, const float *values, size_t n)
{
    struct error e = {0};
    struct span s = {0};
    if (r->b->mem_create(r->d, &s.mem, n * sizeof(float) + 64, &e) != 0)
        fail_msg("%s", e.text);
    s.offset = 64; /* an offset that is forgotten is found out */
    float *nothing = rig_alloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        nothing[i] = NAN;
    r->b->upload(r->d, s, values ? values : nothing, n * sizeof(float));
    free(nothing);
    return s;
}

void rig_take(const struct rig *r, struct span s, float *out, size_t n)
{
    r->b->download(r->d, out, s, n * sizeof(float));
    r->b->mem_destroy(r->d, s.mem);
}

double rig_stored(enum kv_type type, const float *values, size_t n, size_t i)
{
    if (type != KV_Q8)
        return type == KV_F16 ? f16_to_f32(f32_to_f16(values[i])) : values[i];
    float max = 0;
    for (size_t k = i / 32 * 32; k < n && k < i / 32 * 32 + 32; k++)
        max = fmaxf(max, fabsf(values[k]));
    float scale = f16_to_f32(f32_to_f16(max / 127));
    if (scale == 0)
        return 0;
    return scale * rintf(values[i] * (1 / scale));
}

/* ---- matrices ---- */

/* Of a type that the house does not write: any bits, bytes below 0x2c so that every half float is small. */
static void random_blocks(const struct qtype *type, uint8_t *bytes, size_t n)
{
    uint64_t state = type->id;
    for (size_t i = 0; i < qtype_row_bytes(type, n); i++)
        bytes[i] = (uint8_t)((next_random(&state) + 1) * 22);
}

void matrix_make(struct matrix *m, uint32_t type, uint32_t rows, uint32_t cols, uint32_t slices)
{
    size_t n = (size_t)rows * cols * slices;
    *m = (struct matrix){.type = qtype_find(type), .rows = rows, .cols = cols, .slices = slices};
    assert_non_null(m->type);
    assert_int_equal(cols % m->type->block_len, 0);
    m->bytes = rig_alloc(qtype_row_bytes(m->type, n));
    m->values = rig_random(type * 1000003u + rows * 1009u + cols * 31u + slices, n, 0.2F);
    if (m->type->from_f32)
        m->type->from_f32(m->values, m->bytes, n);
    else
        random_blocks(m->type, m->bytes, n);
    m->type->to_f32(m->bytes, m->values, n);
}

void matrix_reorder(struct matrix *m)
{
    uint64_t state = m->rows * 31u + m->cols;
    float *old = rig_alloc((size_t)m->cols * sizeof(*old));
    m->order = rig_alloc((size_t)m->slices * m->cols * sizeof(*m->order));
    for (uint32_t s = 0; s < m->slices; s++) {
        uint32_t *order = m->order + (size_t)s * m->cols;
        for (uint32_t k = 0; k < m->cols; k++) { /* a shuffle that grows */
            uint32_t at = (uint32_t)((next_random(&state) + 1) / 2 * (float)k);
            order[k] = order[at];
            order[at] = k;
        }
        for (uint32_t r = 0; r < m->rows; r++) {
            float *row = m->values + ((size_t)s * m->rows + r) * m->cols;
            memcpy(old, row, m->cols * sizeof(*old));
            for (uint32_t k = 0; k < m->cols; k++)
                row[order[k]] = old[k];
        }
    }
    free(old);
}

void matrix_free(struct matrix *m)
{
    free(m->order);
    free(m->bytes);
    free(m->values);
}

struct weight *matrix_load(const struct rig *r, const struct matrix *m)
{
    if (!m)
        return NULL;
    struct error e = {0};
    struct weight *w;
    struct weight_desc desc = {.type = m->type, .rows = m->rows, .cols = m->cols, .slices = m->slices,
                               .bytes = m->bytes, .order = m->order};
    if (r->b->weight_create(r->d, &w, &desc, &e) != 0)
        fail_msg("%s", e.text);
    return w;
}

/* ---- references ---- */

static void quantise(const float *x, size_t n, double *out)
{
    float amax = 0;
    bool bad = false;
    for (size_t i = 0; i < n; i++) {
        bad = bad || !isfinite(x[i]);
        amax = fmaxf(amax, fabsf(x[i]));
    }
    for (size_t i = 0; i < n; i++)
        out[i] = bad ? (double)NAN : amax < 0x1p-100F ? 0 : rint((double)(x[i] * (127 / amax))) * (amax / 127);
}

void reference_input(const struct qtype *type, const float *x, size_t n, double *out)
{
    enum form form = isa_kernel(&isa_scalar, type->id)->form;
    for (size_t i = 0; i < n && form == FORM_F32; i++)
        out[i] = x[i];
    size_t block = form == FORM_Q8K ? 256 : 32;
    for (size_t i = 0; i < n && form != FORM_F32; i += block)
        quantise(x + i, block, out + i);
}

void matrix_input(const struct matrix *m, uint32_t slice, const float *x, double *out)
{
    const uint32_t *order = m->order ? m->order + (size_t)slice * m->cols : NULL;
    float placed[RIG_COLS_MAX] = {0};
    double in[RIG_COLS_MAX] = {0};
    for (uint32_t k = 0; k < m->cols; k++)
        placed[k] = x[order ? order[k] : k];
    reference_input(m->type, placed, m->cols, in);
    for (uint32_t k = 0; k < m->cols; k++)
        out[order ? order[k] : k] = in[k];
}

double reference_dot(const float *w, const double *x, size_t n, double *magnitude)
{
    double sum = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        sum += w[i] * x[i];
        all += fabs(w[i] * x[i]);
    }
    *magnitude = all;
    return sum;
}

void check_near(const char *what, size_t row, size_t i, double got, double want, double bound)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s, row %zu, value %zu: %.9g, not %.9g (within %g)", what, row, i, got, want, bound);
}

/* ---- bits ---- */

static void check_part(const struct rig *r, case_fn run, const void *arg, uint32_t first, uint32_t n, size_t width,
                       const float *whole)
{
    float *part = rig_alloc(n * width * sizeof(*part));
    run(r, arg, first, n, part);
    for (size_t i = 0; i < n * width; i++)
        if (memcmp(&part[i], &whole[first * width + i], sizeof(float)) != 0)
            fail_msg("%s, %d threads, rows %u to %u: value %zu of row %zu is %a, not %a", r->isa, r->threads, first,
                     first + n - 1, i % width, first + i / width, (double)part[i],
                     (double)whole[first * width + i]);
    free(part);
}

void rig_check_bits(const char *isa, case_fn run, const void *arg, uint32_t n_rows, size_t width, float *out)
{
    struct rig one, two;
    rig_open(&one, isa, 1);
    rig_open(&two, isa, 2);
    run(&one, arg, 0, n_rows, out);
    check_part(&two, run, arg, 0, n_rows, width, out);
    check_part(&one, run, arg, n_rows - 1, 1, width, out);
    check_part(&two, run, arg, n_rows / 2, 1, width, out);
    if (n_rows >= 3)
        check_part(&two, run, arg, n_rows - 3, 3, width, out);
    if (n_rows >= 5)
        check_part(&one, run, arg, 0, 5, width, out);
    rig_close(&one);
    rig_close(&two);
}
