/* rows: the operations that work on each row by itself. Many rows are shared out; few stay on the caller. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { SERIAL_VALUES = 16384 }; /* less than this is not worth waking threads for */

static void for_rows(struct cpu *c, pool_fn fn, void *arg, size_t values)
{
    if (values < SERIAL_VALUES)
        fn(arg, 0, 1);
    else
        pool_run(c->pool, fn, arg);
}

/* Values of a row whose places belong to other columns. */
static void embed_ordered(const struct weight *table, const uint8_t *row, float *y)
{
    const struct qtype *t = table->desc.type;
    for (uint32_t k = 0; k < table->desc.cols; k += t->block_len) {
        float block[QTYPE_BLOCK_LEN_MAX];
        t->to_f32(row + k / t->block_len * t->block_bytes, block, t->block_len);
        for (uint32_t i = 0; i < t->block_len; i++)
            y[table->order[k + i]] = block[i];
    }
}

void cpu_embed(struct device *d, const struct weight *table, const int32_t *ids, uint32_t n_rows, struct span out)
{
    (void)d;
    float *y = span_floats(out);
    for (uint32_t i = 0; i < n_rows; i++) {
        const uint8_t *row = (const uint8_t *)table->bytes + (size_t)ids[i] * table->row_bytes;
        if (table->order)
            embed_ordered(table, row, y + (size_t)i * table->desc.cols);
        else
            table->desc.type->to_f32(row, y + (size_t)i * table->desc.cols, table->desc.cols);
    }
}

/* ---- norm ---- */

struct norm_job {
    const struct norm_args *a;
    const struct isa *isa;
};

static void weigh(float *y, const float *x, float scale, const float *weight, const float *bias, uint32_t n)
{
    if (!weight)
        for (uint32_t i = 0; i < n; i++)
            y[i] = x[i] * scale;
    else
        for (uint32_t i = 0; i < n; i++)
            y[i] = x[i] * scale * weight[i];
    for (uint32_t i = 0; bias && i < n; i++)
        y[i] += bias[i];
}

/* y = x less its mean; returns y. */
static const float *centre(const float *x, float *y, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)x[i];
    float mean = (float)(sum / n);
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] - mean;
    return y;
}

static void norm_part(void *arg, int part, int parts)
{
    const struct norm_job *j = arg;
    const struct norm_args *a = j->a;
    const float *weight = a->weight ? a->weight->bytes : NULL, *bias = a->bias ? a->bias->bytes : NULL;
    size_t first, last, groups = a->width / a->group, stride = a->stride ? a->stride : a->width;
    pool_slice((size_t)a->n_rows * groups, 1, part, parts, &first, &last);
    for (size_t g = first; g < last; g++) {
        size_t at = g / groups * stride + g % groups * a->group;
        const float *x = span_floats(a->x) + at;
        float *y = span_floats(a->y) + at;
        if (a->centred)
            x = centre(x, y, a->group);
        float mean = j->isa->dot_f32(x, x, a->group) / (float)a->group;
        weigh(y, x, 1 / sqrtf(mean + a->eps), weight, bias, a->group);
    }
}

void cpu_norm(struct device *d, const struct norm_args *a)
{
    struct norm_job j = {a, cpu_of(d)->isa};
    for_rows(cpu_of(d), norm_part, &j, (size_t)a->n_rows * a->width);
}

/* ---- rope ---- */

/* cos and sin of every position and frequency: the same for all layers of a step, so kept. */
static void rope_table(struct cpu *c, const struct rope_args *a)
{
    uint32_t half = a->n_rot / 2;
    if (c->rope_rows == a->n_rows && c->rope_half == half && c->rope_scale == a->scale &&
        memcmp(c->rope_positions, a->positions, a->n_rows * sizeof(uint32_t)) == 0 &&
        memcmp(c->rope_freq, a->inv_freq, half * sizeof(float)) == 0)
        return;
    for (uint32_t r = 0; r < a->n_rows; r++) {
        float *t = c->scratch.rope + (size_t)r * half * 2;
        for (uint32_t i = 0; i < half; i++) {
            double angle = (double)a->positions[r] * (double)a->inv_freq[i];
            t[2 * i] = (float)cos(angle) * a->scale;
            t[2 * i + 1] = (float)sin(angle) * a->scale;
        }
    }
    c->rope_rows = a->n_rows;
    c->rope_half = half;
    c->rope_scale = a->scale;
    memcpy(c->rope_positions, a->positions, a->n_rows * sizeof(uint32_t));
    memcpy(c->rope_freq, a->inv_freq, half * sizeof(float));
}

struct rope_job {
    const struct rope_args *a;
    const float *table;
};

static void rope_part(void *arg, int part, int parts)
{
    const struct rope_job *j = arg;
    const struct rope_args *a = j->a;
    uint32_t half = a->n_rot / 2;
    size_t first, last, pair = a->pairing == ROPE_PAIRS ? 2 : 1, other = a->pairing == ROPE_PAIRS ? 1 : half;
    pool_slice((size_t)a->n_rows * a->n_heads, 1, part, parts, &first, &last);
    for (size_t h = first; h < last; h++) {
        float *x = span_floats(a->x) + h * a->head_dim;
        const float *t = j->table + h / a->n_heads * half * 2;
        for (uint32_t i = 0; i < half; i++) {
            float *p = x + i * pair, *q = p + other;
            float u = *p, v = *q, cosine = t[2 * i], sine = t[2 * i + 1];
            *p = u * cosine - v * sine;
            *q = u * sine + v * cosine;
        }
    }
}

void cpu_rope(struct device *d, const struct rope_args *a)
{
    struct cpu *c = cpu_of(d);
    rope_table(c, a);
    struct rope_job j = {a, c->scratch.rope};
    for_rows(c, rope_part, &j, (size_t)a->n_rows * a->n_heads * a->n_rot);
}

/* ---- glu ---- */

float cpu_sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

static void gelu_mul(const float *gate, const float *up, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = gate[i];
        out[i] = 0.5F * x * (1 + tanhf(0.7978845608F * x * (1 + 0.044715F * x * x))) * up[i];
    }
}

static void clamped_mul(const float *gate, const float *up, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = gate[i] > 7 ? 7 : gate[i], u = up[i] > 7 ? 7 : up[i] < -7 ? -7 : up[i];
        out[i] = (u + 1) * g * cpu_sigmoid(1.702F * g);
    }
}

void cpu_activate(const struct isa *isa, enum activation act, const float *gate, const float *up, float *out, size_t n)
{
    switch (act) {
    case ACT_SILU:
        isa->silu_mul(gate, up, out, n);
        break;
    case ACT_GELU:
        gelu_mul(gate, up, out, n);
        break;
    case ACT_CLAMPED:
        clamped_mul(gate, up, out, n);
        break;
    case ACT_SIGMOID:
        for (size_t i = 0; i < n; i++)
            out[i] = cpu_sigmoid(gate[i]) * up[i];
        break;
    }
}

struct glu_job {
    const struct glu_args *a;
    const struct isa *isa;
};

static void glu_part(void *arg, int part, int parts)
{
    const struct glu_job *j = arg;
    size_t first, last;
    pool_slice((size_t)j->a->n_rows * j->a->width, 64, part, parts, &first, &last);
    cpu_activate(j->isa, j->a->act, span_floats(j->a->gate) + first, span_floats(j->a->up) + first,
                 span_floats(j->a->out) + first, last - first);
}

void cpu_glu(struct device *d, const struct glu_args *a)
{
    struct glu_job j = {a, cpu_of(d)->isa};
    for_rows(cpu_of(d), glu_part, &j, (size_t)a->n_rows * a->width);
}

/* ---- scale ---- */

static void scale_part(void *arg, int part, int parts)
{
    const struct scale_args *a = arg;
    size_t first, last;
    pool_slice(a->n_rows, 1, part, parts, &first, &last);
    for (size_t r = first; r < last; r++) {
        float *x = span_floats(a->x) + r * a->width, factor = a->factor * (a->factors ? a->factors[r] : 1);
        if (a->gates.mem)
            factor *= cpu_sigmoid(span_floats(a->gates)[r]);
        for (uint32_t i = 0; i < a->width; i++)
            x[i] *= factor;
        for (uint32_t i = 0; a->cap != 0 && i < a->width; i++)
            x[i] = a->cap * tanhf(x[i] / a->cap);
    }
}

void cpu_scale(struct device *d, const struct scale_args *a)
{
    struct scale_args copy = *a;
    for_rows(cpu_of(d), scale_part, &copy, (size_t)a->n_rows * a->width);
}

/* ---- moving ---- */

void cpu_copy(struct device *d, const struct copy_args *a)
{
    (void)d;
    for (size_t i = 0; i < a->count; i++)
        memcpy(span_floats(a->to) + i * a->to_stride, span_floats(a->from) + i * a->from_stride,
               a->width * sizeof(float));
}

void cpu_add(struct device *d, struct span to, struct span from, size_t count)
{
    (void)d;
    float *y = span_floats(to);
    const float *x = span_floats(from);
    for (size_t i = 0; i < count; i++)
        y[i] += x[i];
}

void cpu_gather(struct device *d, struct span to, struct span from, const uint32_t *rows, uint32_t n_rows,
                uint32_t width)
{
    (void)d;
    for (uint32_t i = 0; i < n_rows; i++)
        memcpy(span_floats(to) + (size_t)i * width, span_floats(from) + (size_t)rows[i] * width,
               width * sizeof(float));
}
