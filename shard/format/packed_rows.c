/* packed_rows: rows of any packed matrix as blocks of its type: codes, scale and zero point of each block, put
 * together by the kernels' own writers. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "shard/format/packed_parts.h"

enum { BLOCK_MAX = 128, FP8_NAN = 0x7f, ZERO_MAX = 256, MXFP4_NAN = 255, NO_GROUP = UINT32_MAX };

/* ---- what a row hangs on ---- */

static uint32_t index_at(const struct packed_bytes *b, uint64_t col)
{
    uint32_t g;
    memcpy(&g, b->at[PACKED_INDEX] + 4 * col, sizeof(g));
    return g;
}

/* compressed-tensors writes -1 where there is no index to speak of. */
static uint64_t group_at(const struct packed_matrix *m, const struct packed_bytes *b, uint64_t col)
{
    if (m->parts[PACKED_INDEX] && (m->coding == PACKED_GPTQ || index_at(b, col) != NO_GROUP))
        return index_at(b, col);
    return col / m->group;
}

static float float_at(const struct st_tensor *t, const uint8_t *bytes, uint64_t i)
{
    uint16_t half;
    float f;
    if (t->dtype == ST_F32) {
        memcpy(&f, bytes + 4 * i, sizeof(f));
        return f;
    }
    if (t->dtype == ST_F8_E8M0)
        return bytes[i] == MXFP4_NAN ? NAN : ldexpf(1, bytes[i] - 127);
    memcpy(&half, bytes + 2 * i, sizeof(half));
    return t->dtype == ST_F16 ? f16_to_f32(half) : bf16_to_f32(half);
}

static int scale_at(const struct packed_matrix *m, const struct packed_bytes *b, uint64_t row, uint64_t group,
                    float *scale, struct error *e)
{
    const struct st_tensor *t = m->parts[PACKED_SCALES];
    if (group >= m->n_groups)
        return error_set(e, ERR_CORRUPT, "tensor %s names group %llu of %llu", m->parts[PACKED_INDEX]->name,
                         (unsigned long long)group, (unsigned long long)m->n_groups);
    uint64_t at = row / m->tile_rows * m->scale_row + group * m->scale_group;
    *scale = float_at(t, b->at[PACKED_SCALES], at);
    if (!isfinite(*scale))
        return error_set(e, ERR_CORRUPT, "tensor %s: scale %llu is not a number", t->name, (unsigned long long)at);
    return 0;
}

static int zero_at(const struct packed_matrix *m, const struct packed_bytes *b, uint64_t row, uint64_t group,
                   uint32_t *zero, struct error *e)
{
    const struct st_tensor *t = m->parts[PACKED_ZEROS];
    *zero = m->zero + (t ? packed_zero(m, b->at[PACKED_ZEROS], row, group) : 0);
    if (*zero > ZERO_MAX)
        return error_set(e, ERR_CORRUPT, "tensor %s: a zero point of row %llu is out of range", t->name,
                         (unsigned long long)row);
    return 0;
}

static int check_shape(const struct packed_matrix *m, const struct packed_bytes *b, struct error *e)
{
    const struct st_tensor *t = m->parts[PACKED_SHAPE];
    int64_t sides[2];
    int32_t small[2];
    if (!t)
        return 0;
    memcpy(sides, b->at[PACKED_SHAPE], t->bytes < sizeof(sides) ? t->bytes : sizeof(sides));
    memcpy(small, b->at[PACKED_SHAPE], sizeof(small));
    for (int i = 0; i < 2; i++)
        sides[i] = t->dtype == ST_I32 ? small[i] : sides[i];
    if (sides[0] == (int64_t)m->rows && sides[1] == (int64_t)m->cols)
        return 0;
    return error_set(e, ERR_CORRUPT, "tensor %s says %lld x %lld; the matrix is %llu x %llu", t->name,
                     (long long)sides[0], (long long)sides[1], (unsigned long long)m->rows,
                     (unsigned long long)m->cols);
}

/* FP8 has no zero points; some files hold them nevertheless, all 0. */
static int check_no_zeros(const struct packed_matrix *m, const struct packed_bytes *b, struct error *e)
{
    const struct st_tensor *t = m->parts[PACKED_ZEROS];
    for (uint64_t i = 0; t && m->coding == PACKED_FP8 && i < t->bytes; i++)
        if (b->at[PACKED_ZEROS][i] != 0)
            return error_set(e, ERR_UNSUPPORTED, "tensor %s: FP8 weights with zero points, which this version does not "
                             "read", t->name);
    return 0;
}

/* A stable sort of the columns by their groups, which are below n_groups. */
static void sort_columns(const struct packed_matrix *m, const uint32_t *groups, uint32_t *order)
{
    uint32_t *starts = mem_array(m->n_groups + 1, sizeof(*starts));
    for (uint64_t c = 0; c < m->cols; c++)
        starts[groups[c] + 1]++;
    for (uint64_t g = 0; g < m->n_groups; g++)
        starts[g + 1] += starts[g];
    for (uint64_t c = 0; c < m->cols; c++)
        order[starts[groups[c]]++] = (uint32_t)c;
    mem_free(starts);
}

static int check_blocks(const struct packed_matrix *m, const uint32_t *groups, const uint32_t *order, struct error *e)
{
    for (uint64_t k = 0; k < m->cols; k++)
        if (groups[order[k]] != groups[order[k - k % m->type->block_len]])
            return error_set(e, ERR_UNSUPPORTED, "tensor %s: the columns of group %u are no multiple of %u, which "
                             "this version needs", m->parts[PACKED_INDEX]->name, groups[order[k]],
                             m->type->block_len);
    return 0;
}

/* The groups of all columns, out of a file that may change: what is checked here is what is used. */
static int read_groups(const struct packed_matrix *m, const struct packed_bytes *b, uint32_t *groups, bool *moved,
                       struct error *e)
{
    *moved = false;
    for (uint64_t c = 0; c < m->cols; c++) {
        uint64_t g = group_at(m, b, c);
        if (g >= m->n_groups)
            return error_set(e, ERR_CORRUPT, "tensor %s puts column %llu in group %lld of %llu",
                             m->parts[PACKED_INDEX]->name, (unsigned long long)c, (long long)(int32_t)g,
                             (unsigned long long)m->n_groups);
        groups[c] = (uint32_t)g;
        *moved = *moved || g != c / m->group;
    }
    return 0;
}

int packed_order(const struct packed_matrix *m, const struct packed_bytes *b, uint32_t *order, bool *ordered,
                 struct error *e)
{
    *ordered = false;
    int r = check_shape(m, b, e);
    if (r == 0)
        r = check_no_zeros(m, b, e);
    if (r != 0 || !m->parts[PACKED_INDEX])
        return r;
    uint32_t *groups = mem_array(m->cols, sizeof(*groups));
    bool moved;
    r = read_groups(m, b, groups, &moved, e);
    if (r == 0 && moved && m->type->block_len > 1) {
        sort_columns(m, groups, order);
        *ordered = true;
        r = check_blocks(m, groups, order, e);
    }
    mem_free(groups);
    return r;
}

/* ---- rows ---- */

struct work {
    const struct packed_matrix *m;
    const struct packed_bytes *b;
    const uint32_t *order;
    struct error *e;
};

static int check_fp8(const struct work *w, const uint8_t *codes, size_t n, uint64_t row)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= (codes[i] & FP8_NAN) == FP8_NAN;
    if (!bad)
        return 0;
    return error_set(w->e, ERR_CORRUPT, "tensor %s: row %llu holds what is not a number",
                     w->m->parts[PACKED_CODES]->name, (unsigned long long)row);
}

static int put_block(const struct work *w, uint64_t row, uint64_t col, uint8_t *out)
{
    const struct packed_matrix *m = w->m;
    uint8_t codes[BLOCK_MAX];
    uint64_t group = group_at(m, w->b, w->order ? w->order[col] : col);
    float scale;
    uint32_t zero = 0;
    int r = scale_at(m, w->b, row, group, &scale, w->e);
    if (r == 0 && m->coding != PACKED_FP8)
        r = zero_at(m, w->b, row, group, &zero, w->e);
    if (r != 0)
        return r;
    packed_codes(m, w->b->at[PACKED_CODES], row, col, w->order, m->type->block_len, codes);
    if (m->coding != PACKED_FP8) {
        qtype_put_int(m->type, codes, scale, zero, out);
        return 0;
    }
    qtype_put_fp8(m->type, codes, scale, out);
    return check_fp8(w, codes, m->type->block_len, row);
}

static int put_mxfp4(const struct work *w, uint64_t row, uint64_t col, uint8_t *out)
{
    const struct packed_matrix *m = w->m;
    uint32_t len = qtype_find(QTYPE_MXFP4)->block_len;
    uint8_t codes[BLOCK_MAX], exponent = w->b->at[PACKED_SCALES][(row * m->cols + col) / len];
    if (exponent == MXFP4_NAN)
        return error_set(w->e, ERR_CORRUPT, "tensor %s: a scale of row %llu is not a number",
                         m->parts[PACKED_SCALES]->name, (unsigned long long)row);
    packed_codes(m, w->b->at[PACKED_CODES], row, col, NULL, len, codes);
    qtype_put_mxfp4(codes, exponent, out);
    return 0;
}

/* One value as a float: the same product that a block of the type would give. */
static int value_at(const struct work *w, uint64_t row, uint64_t col, float *out)
{
    const struct packed_matrix *m = w->m;
    uint8_t code;
    float scale;
    uint32_t zero = 0;
    uint64_t group = group_at(m, w->b, col);
    int r = scale_at(m, w->b, row, group, &scale, w->e);
    packed_codes(m, w->b->at[PACKED_CODES], row, col, NULL, 1, &code);
    if (r == 0 && m->coding == PACKED_FP8) {
        *out = qtype_fp8_value(code) * scale;
        return check_fp8(w, &code, 1, row);
    }
    if (r == 0)
        r = zero_at(m, w->b, row, group, &zero, w->e);
    *out = r == 0 ? scale * (float)((int32_t)code - (int32_t)zero) : 0;
    return r;
}

/* By way of the block that holds it. */
static int value_of_mxfp4(const struct work *w, uint64_t row, uint64_t col, float *out)
{
    const struct qtype *t = qtype_find(QTYPE_MXFP4);
    uint8_t block[BLOCK_MAX];
    float values[BLOCK_MAX];
    int r = put_mxfp4(w, row, col - col % t->block_len, block);
    if (r == 0)
        t->to_f32(block, values, t->block_len);
    *out = r == 0 ? values[col % t->block_len] : 0;
    return r;
}

static int check_place(const struct packed_matrix *m, uint64_t slice, uint64_t row, uint64_t n, struct error *e)
{
    if (slice < m->slices && row <= m->rows && n <= m->rows - row)
        return 0;
    return error_set(e, ERR_INVALID, "tensor %s has no rows %llu to %llu", m->parts[PACKED_CODES]->name,
                     (unsigned long long)row, (unsigned long long)(row + n));
}

int packed_values(const struct packed_matrix *m, const struct packed_bytes *b, uint64_t slice, uint64_t row,
                  uint64_t col, uint64_t n, float *out, struct error *e)
{
    const struct work w = {m, b, NULL, e};
    int r = check_place(m, slice, row, 1, e);
    if (r == 0 && (col > m->cols || n > m->cols - col))
        r = error_set(e, ERR_INVALID, "tensor %s has no columns %llu to %llu", m->parts[PACKED_CODES]->name,
                      (unsigned long long)col, (unsigned long long)(col + n));
    for (uint64_t i = 0; r == 0 && i < n; i++)
        r = m->coding == PACKED_MXFP4 ? value_of_mxfp4(&w, slice * m->rows + row, col + i, out + i)
                                      : value_at(&w, row, col + i, out + i);
    return r;
}

int packed_rows(const struct packed_matrix *m, const struct packed_bytes *b, const uint32_t *order, uint64_t slice,
                uint64_t row, uint64_t n, void *out, struct error *e)
{
    const struct work w = {m, b, order, e};
    uint8_t *to = out;
    int r = check_place(m, slice, row, n, e);
    for (uint64_t i = 0; r == 0 && i < n; i++) {
        if (m->type->block_len == 1) {
            r = packed_values(m, b, slice, row + i, 0, m->cols, (float *)(void *)to, e);
            to += m->cols * sizeof(float);
            continue;
        }
        for (uint64_t c = 0; r == 0 && c < m->cols; c += m->type->block_len, to += m->type->block_bytes)
            r = m->coding == PACKED_MXFP4 ? put_mxfp4(&w, slice * m->rows + row + i, c, to)
                                          : put_block(&w, row + i, c, to);
    }
    return r;
}
