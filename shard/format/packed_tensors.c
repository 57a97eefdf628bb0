/* packed_tensors: compressed-tensors: integers of up to eight bits in words or bytes, FP8, MXFP4.
 *
 * A config may have several groups of modules, told by patterns of names.  The shapes tell them apart as well: a
 * module belongs to the first group whose bits and columns a scale its tensors have. */
#include <string.h>

#include "shard/format/packed_parts.h"

enum { WORD_BITS = 32, MXFP4_BLOCK = 32, BITS_MAX = 8 };

static const struct {
    const char *name;
    enum packed_format format;
} formats[] = {
    {"pack-quantized", FORMAT_INTS_PACKED}, {"int-quantized", FORMAT_INTS}, {"float-quantized", FORMAT_FLOATS},
    {"naive-quantized", FORMAT_INTS}, /* or floats: told by their type */
    {"mxfp4-pack-quantized", FORMAT_MXFP4},
};

/* ---- what a config says ---- */

static int read_format(const char *name, struct packed_group *g, struct error *e)
{
    for (size_t i = 0; i < COUNTOF(formats); i++)
        if (strcmp(formats[i].name, name) == 0) {
            g->format = formats[i].format;
            return 0;
        }
    return error_set(e, ERR_UNSUPPORTED, "config.json: compressed-tensors in the format %s, which this version does "
                     "not read; it reads pack-quantized, int-quantized, float-quantized, naive-quantized and "
                     "mxfp4-pack-quantized", name);
}

/* Orders of columns: of a group's index, or none that shows in the file. */
static int check_order(const json_t *weights, struct error *e)
{
    static const char *const known[] = {"group", "weight", "static", "dynamic"};
    const json_t *v = json_object_get(weights, "actorder");
    const char *name = packed_text(weights, "actorder", "?");
    if (!v || json_is_null(v) || json_is_boolean(v))
        return 0;
    for (size_t i = 0; i < COUNTOF(known); i++)
        if (strcmp(known[i], name) == 0)
            return 0;
    return error_set(e, ERR_UNSUPPORTED, "config.json: compressed-tensors with the order of columns %s, which this "
                     "version does not know", name);
}

static int read_shape(const json_t *weights, struct packed_group *g, struct error *e)
{
    int64_t bits, group;
    int r = packed_number(weights, "num_bits", BITS_MAX, 1, BITS_MAX, &bits, e);
    if (r == 0)
        r = packed_number(weights, "group_size", -1, -1, PACKED_SIDE_MAX, &group, e);
    if (r != 0)
        return r;
    g->bits = (uint32_t)bits;
    g->group = group > 0 ? (uint64_t)group : 0;
    if (json_is_array(json_object_get(weights, "block_structure"))) /* texts speak of sparsity */
        r = packed_block(weights, "block_structure", g->block, e);
    return r == 0 ? check_order(weights, e) : r;
}

static int add_group(struct packed *p, const json_t *group, const char *format, struct error *e)
{
    const json_t *weights = json_object_get(group, "weights");
    if (!json_is_object(weights))
        return error_set(e, ERR_UNSUPPORTED, "config.json: compressed-tensors of activations alone, not of weights");
    if (p->n_groups == PACKED_GROUPS_MAX)
        return error_set(e, ERR_LIMIT, "config.json: more than %d groups of compressed tensors", PACKED_GROUPS_MAX);
    struct packed_group *g = &p->groups[p->n_groups++];
    int r = read_format(packed_text(group, "format", format), g, e);
    return r == 0 ? read_shape(weights, g, e) : r;
}

static int configure(struct packed *p, const json_t *q, struct error *e)
{
    const char *format = packed_text(q, "format", "pack-quantized");
    const json_t *sparsity = json_object_get(q, "sparsity_config");
    const char *sparse = packed_text(sparsity, "format", "dense"), *name;
    json_t *groups = json_object_get(q, "config_groups"), *group;
    struct packed_group any;
    int r = strcmp(format, "mixed-precision") == 0 ? 0 : read_format(format, &any, e);
    if (r == 0 && strcmp(sparse, "dense") != 0)
        r = error_set(e, ERR_UNSUPPORTED, "config.json: compressed-tensors with sparse weights (%s), which this "
                      "version does not read", sparse);
    if (r == 0 && (!json_is_object(groups) || json_object_size(groups) == 0))
        r = error_set(e, ERR_CORRUPT, "config.json: compressed-tensors without groups");
    if (r != 0)
        return r;
    json_object_foreach(groups, name, group) {
        r = add_group(p, group, format, e);
        if (r != 0)
            return r;
    }
    return 0;
}

/* ---- the tensors of a module ---- */

/* Words that hold n codes: older versions leave bits empty where codes do not fill a word. */
static uint64_t words_of(uint64_t n, uint32_t bits, bool dense)
{
    return dense ? packed_parts_of(n * bits, WORD_BITS) : packed_parts_of(n, WORD_BITS / bits);
}

/* Columns that so many words can hold in groups as seen; 0: none. */
static uint64_t cols_of(const struct packed_group *g, uint64_t words, uint64_t seen, bool dense)
{
    uint64_t full = dense ? words * WORD_BITS / g->bits : words * (WORD_BITS / g->bits);
    if (g->group == 0 || (packed_parts_of(full, g->group) == seen && words_of(full, g->bits, dense) == words))
        return full;
    uint64_t whole = seen * g->group;
    return words_of(whole, g->bits, dense) == words ? whole : 0;
}

/* The group whose bits and columns a scale the tensors have; where nobody says how many columns there are, what the
 * groups leave possible. */
static const struct packed_group *find_words(const struct packed *p, struct packed_matrix *m, uint64_t words,
                                             const struct st_tensor *scales)
{
    uint64_t seen = scales && scales->n_dims == 2 ? scales->shape[1] : 1, known = m->cols;
    if (words > PACKED_SIDE_MAX || seen > PACKED_SIDE_MAX)
        return NULL;
    for (size_t i = 0; i < 2 * p->n_groups; i++) {
        const struct packed_group *g = &p->groups[i / 2];
        bool dense = i % 2 == 0;
        uint64_t cols = known ? known : cols_of(g, words, seen, dense);
        uint64_t group = g->group && g->group < cols ? g->group : cols;
        if (g->format == FORMAT_INTS_PACKED && cols > 0 && words == words_of(cols, g->bits, dense) &&
            seen == packed_parts_of(cols, group)) {
            m->cols = cols;
            m->dense = dense;
            return g;
        }
    }
    return NULL;
}

/* Zero points: as the codes, but packed along the rows; or signed bytes. */
static void find_zeros(struct packed_search *s, struct packed_matrix *m)
{
    const struct st_tensor *zeros = packed_part(s, ".weight_zero_point");
    m->zero = 1U << (m->bits - 1);
    if (!zeros)
        return;
    bool words = zeros->dtype == ST_I32 && m->coding == PACKED_WORDS;
    uint64_t tiles = packed_parts_of(m->rows, m->tile_rows);
    uint64_t n = words ? words_of(m->rows, m->bits, m->dense) : tiles;
    m->parts[PACKED_ZEROS] = zeros;
    if (!words && zeros->dtype != ST_I8) {
        packed_refuse(s, zeros, "ought to be I32 or I8");
    } else if (!words && tiles == 1 && m->n_groups == 1 && zeros->n_dims < 2) {
        if (zeros->bytes != 1)
            packed_refuse(s, zeros, "ought to be one value");
    } else if (words && m->tile_rows != 1) {
        packed_refuse(s, zeros, "has zero points for rows that share a scale");
    } else {
        packed_want(s, zeros, 2, (uint64_t[]){n, m->n_groups});
    }
    m->zero = words ? 0 : m->zero;
}

static void find_ints(const struct packed *p, struct packed_search *s, struct packed_matrix *m,
                      const struct st_tensor *codes)
{
    const struct st_tensor *scales = packed_needed(s, ".weight_scale"), *index = packed_part(s, ".weight_g_idx");
    const struct st_tensor *shape = packed_part(s, ".weight_shape");
    uint64_t words = codes->n_dims == 2 ? codes->shape[1] : 0;
    const struct packed_group *g = find_words(p, m, words, scales);
    if (s->status != 0)
        return;
    m->coding = PACKED_WORDS;
    m->parts[PACKED_CODES] = codes;
    m->parts[PACKED_INDEX] = index;
    m->parts[PACKED_SHAPE] = shape;
    if (!g || codes->shape[0] == 0) {
        packed_refuse(s, codes, "does not hold the matrix's columns as any group of the config says");
        return;
    }
    m->rows = codes->shape[0];
    m->bits = g->bits;
    m->group = g->group && g->group < m->cols ? g->group : m->cols;
    if (shape && (shape->n_dims != 1 || shape->shape[0] != 2 || (shape->dtype != ST_I64 && shape->dtype != ST_I32)))
        packed_refuse(s, shape, "ought to be two integers");
    if (index && (index->n_dims != 1 || index->shape[0] != m->cols || index->dtype != ST_I32))
        packed_refuse(s, index, "ought to be I32 and have a value for each column");
    packed_scales(s, m, scales);
    find_zeros(s, m);
    if (s->status == 0)
        packed_choose_int(m);
}

static void find_fp4(struct packed_search *s, struct packed_matrix *m, const struct st_tensor *codes)
{
    const struct st_tensor *scales = packed_needed(s, ".weight_scale");
    if (s->status != 0)
        return;
    m->coding = PACKED_MXFP4;
    m->parts[PACKED_CODES] = codes;
    m->parts[PACKED_SCALES] = scales;
    m->rows = codes->n_dims == 2 ? codes->shape[0] : 0;
    m->type = qtype_find(QTYPE_MXFP4);
    if (!packed_set_cols(s, m, codes, codes->n_dims == 2 ? codes->shape[1] * 2 : 0))
        return;
    if (m->cols % MXFP4_BLOCK != 0)
        packed_refuse(s, codes, "does not hold the matrix's columns in blocks of 32");
    if (scales->dtype != ST_U8 && scales->dtype != ST_F8_E8M0)
        packed_refuse(s, scales, "ought to be U8");
    packed_want(s, codes, 2, (uint64_t[]){m->rows, m->cols / 2});
    packed_want(s, scales, 2, (uint64_t[]){m->rows, m->cols / MXFP4_BLOCK});
}

/* Signed bytes or FP8, a value each: the grouping is that of the config's first group that fits the scales. */
static void find_bytes(const struct packed *p, struct packed_search *s, struct packed_matrix *m,
                       const struct st_tensor *codes)
{
    const struct st_tensor *scales = packed_needed(s, ".weight_scale");
    if (s->status != 0)
        return;
    m->coding = codes->dtype == ST_I8 ? PACKED_BYTES : PACKED_FP8;
    m->bits = BITS_MAX;
    m->parts[PACKED_CODES] = codes;
    m->rows = codes->n_dims == 2 ? codes->shape[0] : 0;
    if (!packed_set_cols(s, m, codes, codes->n_dims == 2 ? codes->shape[1] : 0))
        return;
    packed_want(s, codes, 2, (uint64_t[]){m->rows, m->cols});
    if (m->rows == 0)
        packed_refuse(s, codes, "ought to be a matrix");
    m->group = m->cols;
    for (size_t i = 0; scales->n_dims == 2 && i < p->n_groups; i++) {
        const struct packed_group *g = &p->groups[i];
        uint64_t tile = g->block[0] ? g->block[0] : 1, group = g->block[1] ? g->block[1] : g->group;
        if (group && group < m->cols && scales->shape[0] == packed_parts_of(m->rows, tile) &&
            scales->shape[1] == packed_parts_of(m->cols, group)) {
            m->tile_rows = tile;
            m->group = group;
            break;
        }
    }
    packed_scales(s, m, scales);
    if (m->coding == PACKED_BYTES)
        find_zeros(s, m);
    else
        m->parts[PACKED_ZEROS] = packed_part(s, ".weight_zero_point");
    if (s->status == 0 && m->coding == PACKED_BYTES)
        packed_choose_int(m);
    else if (s->status == 0)
        packed_choose_fp8(m);
}

static void find(const struct packed *p, struct packed_search *s, struct packed_matrix *m)
{
    const struct st_tensor *packed = packed_part(s, ".weight_packed"), *plain = s->lookup(s->arg, s->name);
    if (packed && packed->dtype == ST_I32)
        find_ints(p, s, m, packed);
    else if (packed && packed->dtype == ST_U8)
        find_fp4(s, m, packed);
    else if (packed)
        packed_refuse(s, packed, "ought to be I32 or U8");
    else if (plain && (plain->dtype == ST_I8 || plain->dtype == ST_F8_E4M3))
        find_bytes(p, s, m, plain);
}

const struct packed_scheme packed_tensors = {"compressed-tensors", configure, find};
