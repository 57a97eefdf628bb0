/* packed_schemes: GPTQ, AWQ, FP8 and MXFP4: what their configs say and their tensors are called. */
#include <strings.h>
#include <string.h>

#include "shard/format/packed_parts.h"

enum { WORD_BITS = 32, AWQ_BITS = 4, MXFP4_BLOCK = 32, MXFP4_BLOCK_BYTES = 16 };

static int read_group(struct packed *p, const json_t *q, struct error *e)
{
    int64_t group;
    int r = packed_number(q, "group_size", -1, -1, PACKED_SIDE_MAX, &group, e);
    p->group = group > 0 ? (uint64_t)group : 0;
    return r;
}

static uint64_t group_of(const struct packed *p, const struct packed_matrix *m)
{
    return p->group > 0 && p->group < m->cols ? p->group : m->cols;
}

/* Codes, and scales and zeros [groups, rows], rows the last axis. Groups are the config's, or one. */
static void set_columns(const struct packed *p, struct packed_search *s, struct packed_matrix *m, uint64_t rows,
                        uint64_t zero_words)
{
    const struct st_tensor *scales = packed_needed(s, ".scales"), *zeros = packed_needed(s, ".qzeros");
    if (s->status != 0)
        return;
    m->rows = rows;
    m->group = scales->n_dims == 2 && scales->shape[0] == 1 ? m->cols : group_of(p, m);
    m->n_groups = packed_parts_of(m->cols, m->group);
    m->scale_row = 1;
    m->scale_group = rows;
    m->parts[PACKED_SCALES] = scales;
    m->parts[PACKED_ZEROS] = zeros;
    packed_want_float(s, scales);
    packed_want(s, scales, 2, (uint64_t[]){m->n_groups, rows});
    packed_want(s, zeros, 2, (uint64_t[]){m->n_groups, zero_words});
    if (zeros->dtype != ST_I32 && zeros->dtype != ST_U32)
        packed_refuse(s, zeros, "ought to be I32");
    if (s->status == 0)
        packed_choose_int(m);
}

static bool is_words(struct packed_search *s, const struct st_tensor *t)
{
    if (t->n_dims == 2 && (t->dtype == ST_I32 || t->dtype == ST_U32) && t->shape[1] <= PACKED_SIDE_MAX)
        return true;
    packed_refuse(s, t, "ought to be an I32 matrix");
    return false;
}

/* ---- GPTQ ---- */

static int configure_gptq(struct packed *p, const json_t *q, struct error *e)
{
    int64_t bits;
    const char *format = packed_text(q, "checkpoint_format", packed_text(q, "format", "gptq"));
    int r = packed_number(q, "bits", -1, -1, 32, &bits, e);
    p->bits = (uint32_t)bits;
    p->zero_add = strcmp(format, "gptq") == 0;
    if (r == 0 && bits != 2 && bits != 3 && bits != 4 && bits != 8)
        r = error_set(e, ERR_UNSUPPORTED, "config.json: GPTQ with %lld bits; 2, 3, 4 and 8 are read", (long long)bits);
    if (r == 0 && p->zero_add == 0 && strcmp(format, "gptq_v2") != 0)
        r = error_set(e, ERR_UNSUPPORTED, "config.json: GPTQ in the format %s; gptq and gptq_v2 are read", format);
    return r == 0 ? read_group(p, q, e) : r;
}

/* The config's bits, unless the module's shape says others. */
static uint32_t bits_of(const struct packed *p, uint64_t words, uint64_t cols)
{
    const uint32_t others[] = {p->bits, 2, 3, 4, 8};
    for (size_t i = 0; i < COUNTOF(others); i++)
        if (words <= PACKED_SIDE_MAX && words * WORD_BITS == cols * others[i])
            return others[i];
    return 0;
}

static void find_gptq(const struct packed *p, struct packed_search *s, struct packed_matrix *m)
{
    const struct st_tensor *codes = packed_part(s, ".qweight"), *index = packed_part(s, ".g_idx");
    if (!codes || !is_words(s, codes))
        return;
    uint64_t rows = codes->shape[1];
    m->coding = PACKED_GPTQ;
    m->parts[PACKED_CODES] = codes;
    m->parts[PACKED_INDEX] = index;
    m->zero = p->zero_add;
    uint64_t cols = index && index->n_dims == 1 ? index->shape[0] : codes->shape[0] * WORD_BITS / p->bits;
    if (!packed_set_cols(s, m, codes, cols))
        return;
    m->bits = bits_of(p, codes->shape[0], m->cols);
    if (m->bits == 0 || rows * m->bits % WORD_BITS != 0) {
        packed_refuse(s, codes, "does not hold the matrix's columns in 2, 3, 4 or 8 bits");
        return;
    }
    if (index && (index->n_dims != 1 || index->shape[0] != m->cols || index->dtype != ST_I32))
        packed_refuse(s, index, "ought to be I32 and have a value for each column");
    set_columns(p, s, m, rows, rows * m->bits / WORD_BITS);
}

const struct packed_scheme packed_gptq = {"gptq", configure_gptq, find_gptq};

/* ---- AWQ ---- */

static int configure_awq(struct packed *p, const json_t *q, struct error *e)
{
    int64_t bits;
    const char *version = packed_text(q, "version", packed_text(q, "format", "gemm"));
    int r = packed_number(q, "bits", AWQ_BITS, 1, 32, &bits, e);
    p->bits = AWQ_BITS;
    if (r == 0 && bits != AWQ_BITS)
        r = error_set(e, ERR_UNSUPPORTED, "config.json: AWQ with %lld bits; 4 are read", (long long)bits);
    if (r == 0 && strcasecmp(version, "gemm") != 0)
        r = error_set(e, ERR_UNSUPPORTED, "config.json: AWQ in the version %s; gemm is read", version);
    return r == 0 ? read_group(p, q, e) : r;
}

static void find_awq(const struct packed *p, struct packed_search *s, struct packed_matrix *m)
{
    const struct st_tensor *codes = packed_part(s, ".qweight");
    if (!codes || !is_words(s, codes))
        return;
    uint64_t words = codes->shape[1];
    m->coding = PACKED_AWQ;
    m->bits = AWQ_BITS;
    m->parts[PACKED_CODES] = codes;
    if (!packed_set_cols(s, m, codes, codes->shape[0]))
        return;
    packed_want(s, codes, 2, (uint64_t[]){m->cols, words});
    set_columns(p, s, m, words * (WORD_BITS / AWQ_BITS), words);
}

const struct packed_scheme packed_awq = {"awq", configure_awq, find_awq};

/* ---- FP8 ---- */

static int configure_fp8(struct packed *p, const json_t *q, struct error *e)
{
    const char *kind = packed_text(q, "fmt", "e4m3");
    if (!strstr(kind, "e4m3") || strstr(kind, "fnuz")) /* also called float8_e4m3fn */
        return error_set(e, ERR_UNSUPPORTED, "config.json: FP8 of the kind %s; e4m3 is read", kind);
    return packed_block(q, "weight_block_size", p->block, e);
}

static void find_fp8(const struct packed *p, struct packed_search *s, struct packed_matrix *m)
{
    const struct st_tensor *codes = s->lookup(s->arg, s->name), *scales = packed_part(s, ".weight_scale_inv");
    if (!codes || codes->dtype != ST_F8_E4M3)
        return;
    m->coding = PACKED_FP8;
    m->parts[PACKED_CODES] = codes;
    m->rows = codes->n_dims == 2 ? codes->shape[0] : 0;
    if (codes->n_dims != 2 || m->rows == 0) {
        packed_refuse(s, codes, "ought to be a matrix");
        return;
    }
    if (!packed_set_cols(s, m, codes, codes->shape[1]))
        return;
    packed_want(s, codes, 2, (uint64_t[]){m->rows, m->cols});
    m->tile_rows = p->block[0] ? p->block[0] : m->rows;
    m->group = p->block[1] && p->block[1] < m->cols ? p->block[1] : m->cols;
    packed_scales(s, m, scales ? scales : packed_needed(s, ".weight_scale"));
    if (s->status == 0)
        packed_choose_fp8(m);
}

const struct packed_scheme packed_fp8 = {"fp8", configure_fp8, find_fp8};
const struct packed_scheme packed_fbgemm = {"fbgemm_fp8", configure_fp8, find_fp8};

/* ---- MXFP4 ---- */

static int configure_mxfp4(struct packed *p, const json_t *q, struct error *e)
{
    (void)p;
    (void)q;
    (void)e;
    return 0;
}

static void find_mxfp4(const struct packed *p, struct packed_search *s, struct packed_matrix *m)
{
    const struct st_tensor *codes = packed_part(s, "_blocks");
    (void)p;
    if (!codes)
        return;
    const struct st_tensor *scales = packed_needed(s, "_scales");
    if (!scales)
        return;
    uint64_t given = codes->n_dims == 4 && codes->shape[2] <= PACKED_SIDE_MAX ? codes->shape[2] * MXFP4_BLOCK : 0;
    if (!packed_set_cols(s, m, codes, given))
        return;
    uint64_t blocks = m->cols / MXFP4_BLOCK;
    m->coding = PACKED_MXFP4;
    m->parts[PACKED_CODES] = codes;
    m->parts[PACKED_SCALES] = scales;
    m->type = qtype_find(QTYPE_MXFP4);
    m->slices = codes->shape[0];
    m->rows = codes->shape[1];
    if (codes->dtype != ST_U8 || codes->n_dims != 4 || m->cols % MXFP4_BLOCK != 0 || codes->shape[2] != blocks ||
        codes->shape[3] != MXFP4_BLOCK_BYTES)
        packed_refuse(s, codes, "does not hold the matrix's columns in blocks of 32");
    if (scales->dtype != ST_U8)
        packed_refuse(s, scales, "ought to be U8");
    packed_want(s, scales, 3, (uint64_t[]){m->slices, m->rows, blocks});
}

const struct packed_scheme packed_mxfp4 = {"mxfp4", configure_mxfp4, find_mxfp4};
