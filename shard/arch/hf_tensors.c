/* hf_tensors: which tensor of the folder is which of the rules, and how one lies in the other.
 *
 * Shapes come from the files; whether they are what the numbers ask for is checked
 * with the header (model.c).  Here is checked that every place of ours is a place of
 * the file's.                                                                     */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "shard/arch/hf_parts.h"

enum { LAYER_TENSORS_MAX = 128 };

/* One tensor in the making. */
struct making {
    struct hf *h;
    const struct hf_config *c;
    struct error *e;
    struct hf_tensor *t;
    enum hf_layout layout;
    uint64_t slices; /* in the file */
};

/* ---- names ---- */

/* "layers.%u.mlp.experts.%e.up_proj.weight" of numbers, behind the prefix; what begins with / stands by itself. */
static const char *full_name(const struct hf *h, const char *pattern, uint32_t layer, uint32_t expert,
                             char name[static HF_NAME_BYTES])
{
    size_t n = 0;
    if (pattern[0] == '/')
        pattern++;
    else
        n = (size_t)snprintf(name, HF_NAME_BYTES, "%s", h->prefix);
    for (; *pattern && n + 16 < HF_NAME_BYTES; pattern++) {
        bool number = pattern[0] == '%' && (pattern[1] == 'u' || pattern[1] == 'e');
        if (number)
            n += (size_t)snprintf(name + n, 16, "%u", *++pattern == 'u' ? layer : expert);
        else
            name[n++] = *pattern;
    }
    name[n] = '\0';
    return name;
}

static void find_prefix(struct hf *h)
{
    static const char *const prefixes[] = {"model.", "model.language_model.", "language_model.model.",
                                           "language_model.", ""};
    static const char *const signs[] = {"embed_tokens.weight", "word_embeddings.weight"};
    char name[HF_NAME_BYTES];
    h->prefix = prefixes[0];
    for (size_t i = COUNTOF(prefixes) * COUNTOF(signs); i-- > 0;) {
        snprintf(name, sizeof(name), "%s%s", prefixes[i / COUNTOF(signs)], signs[i % COUNTOF(signs)]);
        if (hf_find(h, name))
            h->prefix = prefixes[i / COUNTOF(signs)];
    }
}

/* Of the head, which stands outside the text model in some folders and inside in others. */
static struct hf_found *find_named(const struct hf *h, const char *pattern, uint32_t layer, uint32_t expert)
{
    char name[HF_NAME_BYTES], inside[HF_NAME_BYTES];
    full_name(h, pattern, layer, expert, name);
    struct hf_found *found = hf_find(h, name);
    if (found || pattern[0] != '/')
        return found;
    snprintf(inside, sizeof(inside), "language_model.%s", pattern + 1);
    return hf_find(h, inside);
}

/* A plain tensor, or a packed matrix; no parts where there is neither. */
static int find_source(struct hf *h, const char *pattern, uint32_t layer, uint32_t expert, struct hf_source *out,
                       struct error *e)
{
    char name[HF_NAME_BYTES];
    struct hf_found *found = find_named(h, pattern, layer, expert);
    int r = hf_find_packed(h, found ? found->t->name : full_name(h, pattern, layer, expert, name), out, e);
    if (r != 0 || out->n_parts > 0 || !found)
        return r;
    found->used = true;
    out->parts[out->n_parts++] = *found;
    return 0;
}

/* ---- axes ---- */

static struct hf_axis straight(uint64_t n)
{
    return (struct hf_axis){.n = n, .step = 1};
}

static struct hf_axis part_of(uint64_t n, uint64_t first, uint64_t step)
{
    return (struct hf_axis){.n = n, .first = first, .step = step};
}

/* Every head's halves side by side. */
static struct hf_axis halves(const struct making *m, uint64_t n)
{
    return (struct hf_axis){.n = n, .step = 1, .a = m->c->head_dim / 2, .b = 2, .inner = 1};
}

/* Value heads in turns of the key heads instead of in groups, `inner` places each. */
static struct hf_axis tiled(const struct making *m, uint64_t first, uint64_t inner)
{
    const struct hf_config *c = m->c;
    return (struct hf_axis){.n = c->v_heads * inner, .first = first, .step = 1, .a = c->v_heads / c->k_heads,
                            .b = c->k_heads, .inner = inner};
}

/* The axis that the outputs of a linear layer lie on: rows, or the columns of a vector. */
static void map_outputs(struct making *m, const struct hf_axis *bands, uint32_t n)
{
    struct hf_tensor *t = m->t;
    if (t->file_rows == 1 && m->slices == 1 && n == 1) {
        t->cols = bands[0];
        return;
    }
    memcpy(t->rows, bands, n * sizeof(*bands));
    t->n_bands = n;
}

static void turn(struct making *m, struct hf_axis rows, struct hf_axis cols)
{
    m->t->turned = true;
    m->t->rows[0] = rows;
    m->t->cols = cols;
}

/* ---- layouts ---- */

static void lay_attention(struct making *m)
{
    const struct hf_config *c = m->c;
    struct hf_tensor *t = m->t;
    uint64_t rotated = (uint64_t)(c->n_heads + c->n_kv_heads) * c->head_dim, n = t->rows[0].n;
    bool vector = t->file_rows == 1;
    if (!(c->family->flags & HF_HALVES))
        return;
    if (m->layout == HF_Q) {
        struct hf_axis whole = halves(m, vector ? t->cols.n : n);
        map_outputs(m, &whole, 1);
    } else if (!vector && n > rotated) {
        const struct hf_axis bands[] = {halves(m, rotated), part_of(n - rotated, rotated, 1)};
        map_outputs(m, bands, COUNTOF(bands));
    }
}

static void lay_halves(struct making *m)
{
    struct hf_tensor *t = m->t;
    uint64_t rows = t->file_rows, cols = t->file_cols, half = cols / 2;
    switch (m->layout) {
    case HF_FIRST: t->rows[0] = part_of(rows / 2, 0, 1); break;
    case HF_SECOND: t->rows[0] = part_of(rows / 2, rows / 2, 1); break;
    case HF_EVEN: t->cols = part_of(half, 0, 2); break;
    case HF_ODD: t->cols = part_of(half, 1, 2); break;
    case HF_TURNED: turn(m, straight(cols), straight(rows)); break;
    case HF_TURNED_FIRST: turn(m, part_of(half, 0, 1), straight(rows)); break;
    case HF_TURNED_SECOND: turn(m, part_of(half, half, 1), straight(rows)); break;
    case HF_TURNED_EVEN: turn(m, part_of(half, 0, 2), straight(rows)); break;
    case HF_EVEN_ROWS: t->rows[0] = part_of(rows / 2, 0, 2); break;
    case HF_ODD_ROWS: t->rows[0] = part_of(rows / 2, 1, 2); break;
    default: turn(m, part_of(half, 1, 2), straight(rows)); break;
    }
}

/* Packed matrices are never turned in the file: their rows are outputs. */
static enum hf_layout unturned(enum hf_layout layout)
{
    switch (layout) {
    case HF_TURNED: return HF_PLAIN;
    case HF_TURNED_FIRST: return HF_FIRST;
    case HF_TURNED_SECOND: return HF_SECOND;
    case HF_TURNED_EVEN: return HF_EVEN_ROWS;
    case HF_TURNED_ODD: return HF_ODD_ROWS;
    default: return layout;
    }
}

/* A slice a head. Of a shape that cannot be, no rows are left. */
static void lay_compressed(struct making *m)
{
    const struct hf_config *c = m->c;
    struct hf_tensor *t = m->t;
    m->slices = c->n_heads;
    t->file_rows = t->file_rows == (uint64_t)c->n_heads * (c->nope_dim + c->value_dim) ? c->nope_dim + c->value_dim : 0;
    if (m->layout == HF_K_UP)
        turn(m, straight(t->file_cols), straight(c->nope_dim));
    else
        t->rows[0] = part_of(c->value_dim, c->nope_dim, 1);
}

static void lay_by_key_heads(struct making *m)
{
    const struct hf_config *c = m->c;
    struct hf_tensor *t = m->t;
    uint64_t values = (uint64_t)c->v_heads / c->k_heads * c->v_dim, group = 2 * (uint64_t)c->k_dim + 2 * values;
    uint64_t keys = (uint64_t)c->k_heads * c->k_dim, all = (uint64_t)c->v_heads * c->v_dim;
    struct hf_axis q = {.n = keys, .block = c->k_dim, .stride = group, .step = 1}, k = q;
    struct hf_axis v = {.n = all, .first = 2 * c->k_dim, .block = values, .stride = group, .step = 1};
    k.first = c->k_dim;
    if (t->file_rows != c->k_heads * group)
        t->file_rows = 0;
    if (m->layout == HF_QKVZ_Z) {
        v.first += values;
        t->rows[0] = v;
    } else {
        const struct hf_axis bands[] = {q, k, v};
        map_outputs(m, bands, COUNTOF(bands));
    }
}

static void lay_value_heads(struct making *m)
{
    const struct hf_config *c = m->c;
    uint64_t keys = 2 * (uint64_t)c->k_heads * c->k_dim;
    struct hf_axis heads = tiled(m, 0, m->layout == HF_DELTA_VALUES ? c->v_dim : 1);
    const struct hf_axis bands[] = {straight(keys), tiled(m, keys, c->v_dim)};
    if (m->layout == HF_DECAY)
        m->t->change = HF_MINUS_EXP;
    if (!(c->arch->flags & ARCH_DELTA_TILED))
        return;
    if (m->layout == HF_DELTA_CHANNELS)
        map_outputs(m, bands, COUNTOF(bands));
    else if (m->layout == HF_DELTA_OUT)
        m->t->cols = tiled(m, 0, c->v_dim);
    else
        map_outputs(m, &heads, 1);
}

static void lay(struct making *m)
{
    struct hf_tensor *t = m->t;
    if (t->sources[0].packed.type)
        m->layout = unturned(m->layout);
    t->rows[0] = straight(t->file_rows);
    t->n_bands = 1;
    t->cols = straight(t->file_cols);
    switch (m->layout) {
    case HF_PLAIN: break;
    case HF_NORM: t->change = m->c->family->flags & HF_PLUS_ONE ? HF_ADD_ONE : HF_AS_IS; break;
    case HF_Q:
    case HF_QKV: lay_attention(m); break;
    case HF_K_UP:
    case HF_V_UP: lay_compressed(m); break;
    case HF_QKVZ_QKV:
    case HF_QKVZ_Z: lay_by_key_heads(m); break;
    case HF_DELTA_CHANNELS:
    case HF_DELTA_VALUES:
    case HF_DELTA_HEADS:
    case HF_DELTA_OUT:
    case HF_DECAY: lay_value_heads(m); break;
    default: lay_halves(m); break;
    }
}

/* True when every place of an axis is one of the file's `span`, and a shuffle has whole rounds. */
static bool axis_fits(const struct hf_axis *x, uint64_t span)
{
    uint64_t last = x->n - 1, end, round = x->a * x->b * x->inner;
    if (x->n == 0 || x->n > span || (x->a > 0 && (round == 0 || x->n % round != 0)))
        return false;
    end = x->first + (x->block ? last / x->block * x->stride + (x->block - 1) * x->step : last * x->step);
    return end < span;
}

static bool fits(const struct hf_tensor *t)
{
    uint64_t rows = t->turned ? t->file_cols : t->file_rows, cols = t->turned ? t->file_rows : t->file_cols;
    bool good = axis_fits(&t->cols, cols);
    for (uint32_t i = 0; i < t->n_bands; i++)
        good = good && axis_fits(&t->rows[i], rows);
    return good;
}

bool hf_lay(struct hf_tensor *t, enum hf_layout layout, const struct hf_config *c, uint64_t rows, uint64_t cols)
{
    struct making m = {.c = c, .t = t, .layout = layout, .slices = 1};
    struct hf_source plain = {.n_parts = 0};
    t->file_rows = rows;
    t->file_cols = cols;
    t->sources = &plain;
    lay(&m);
    t->sources = NULL;
    t->ne[2] = m.slices;
    return t->file_rows > 0 && fits(t);
}

/* ---- one tensor ---- */

static const struct qtype *float_type(enum st_dtype d)
{
    switch (d) {
    case ST_F32: return qtype_find(QTYPE_F32);
    case ST_F16: return qtype_find(QTYPE_F16);
    case ST_BF16: return qtype_find(QTYPE_BF16);
    default: return NULL;
    }
}

static int wrong_shape(const struct making *m, const struct st_tensor *s)
{
    char shape[ST_SHAPE_BYTES];
    return error_set(m->e, ERR_CORRUPT, "%s/%s: tensor %s is %s, which does not go with the numbers of config.json",
                     m->h->path, m->h->files[m->t->sources[0].parts[0].file].name, s->name,
                     st_shape_text(s, shape));
}

/* The file's tensor as slices of matrices. */
static int read_shape(struct making *m, const struct st_tensor *s)
{
    struct hf_tensor *t = m->t;
    const struct packed_matrix *packed = &t->sources[0].packed;
    uint64_t shape[3] = {1, 1, 1};
    uint32_t n = 0;
    if (packed->type) {
        m->slices = packed->slices;
        t->file_rows = packed->rows;
        t->file_cols = packed->cols;
        t->from = packed->type;
        return 0;
    }
    for (uint32_t i = 0; i < s->n_dims; i++) {
        if (n == 3)
            return wrong_shape(m, s);
        if (s->shape[i] != 1 || (i == 0 && s->n_dims < 3) || i + 1 == s->n_dims) /* a convolution's depth is 1 */
            shape[n++] = s->shape[i];
    }
    if (n == 0 || s->bytes == 0)
        return wrong_shape(m, s);
    m->slices = n == 3 ? shape[0] : 1;
    t->file_rows = n >= 2 ? shape[n - 2] : 1;
    t->file_cols = shape[n - 1];
    t->from = float_type(s->dtype);
    if (!t->from)
        return error_set(m->e, ERR_UNSUPPORTED, "%s/%s: tensor %s is stored as %s, which this version cannot use here",
                         m->h->path, m->h->files[t->sources[0].parts[0].file].name, s->name, st_dtype_name(s->dtype));
    return 0;
}

/* Vectors, and what no kernel takes but as F32: norms, biases, routers, convolutions. Blocks cannot be turned nor their
 * columns be moved. */
static bool wants_f32(const struct hf_tensor *t)
{
    if (t->sources[0].packed.type && (t->turned || !hf_axis_is_straight(&t->cols)))
        return true;
    return t->n_dims == 1 || strstr(t->name, ".bias") || strstr(t->name, "ffn_gate_inp") || strstr(t->name, "ssm_conv");
}

static int finish(struct making *m)
{
    struct hf_tensor *t = m->t;
    const struct st_tensor *s = t->sources[0].parts[0].t;
    lay(m);
    if (t->file_rows == 0 || !fits(t))
        return wrong_shape(m, s);
    t->ne[0] = t->cols.n;
    for (uint32_t i = 0; i < t->n_bands; i++)
        t->ne[1] += t->rows[i].n;
    t->ne[2] = t->n_sources > 1 ? t->n_sources : m->slices;
    t->n_dims = t->ne[2] > 1 ? 3 : t->ne[1] > 1 ? 2 : 1;
    t->type = wants_f32(t) ? qtype_find(QTYPE_F32) : t->from;
    return 0;
}

static bool alike(const struct hf_source *a, const struct hf_source *b)
{
    const struct st_tensor *s = a->parts[0].t, *t = b->parts[0].t;
    if (a->packed.type || b->packed.type)
        return a->packed.type == b->packed.type && a->packed.rows == b->packed.rows &&
               a->packed.cols == b->packed.cols && !a->packed.parts[PACKED_INDEX] == !b->packed.parts[PACKED_INDEX];
    return s->dtype == t->dtype && s->n_dims == t->n_dims &&
           memcmp(s->shape, t->shape, s->n_dims * sizeof(s->shape[0])) == 0;
}

/* One source, or one an expert, all alike. */
static int find_sources(struct making *m, const char *pattern, uint32_t layer)
{
    struct hf_tensor *t = m->t;
    char name[HF_NAME_BYTES];
    size_t n = strstr(pattern, "%e") && m->c->n_experts > 0 ? m->c->n_experts : 1;
    t->sources = mem_array(n + 1, sizeof(*t->sources));
    for (size_t i = 0; i < n; i++) {
        struct hf_source *s = &t->sources[i];
        int r = find_source(m->h, pattern, layer, (uint32_t)i, s, m->e);
        if (r != 0)
            return r;
        if (s->n_parts == 0)
            return error_set(m->e, ERR_CORRUPT, "%s: tensor %s is missing", m->h->path,
                             full_name(m->h, pattern, layer, (uint32_t)i, name));
        if (!alike(s, &t->sources[0]))
            return error_set(m->e, ERR_UNSUPPORTED, "%s: tensors %s and %s differ in type or shape", m->h->path,
                             t->sources[0].parts[0].t->name, s->parts[0].t->name);
        t->n_sources = i + 1;
    }
    return 0;
}

static struct hf_tensor *new_tensor(struct hf *h)
{
    if (h->n_tensors % LAYER_TENSORS_MAX == 0)
        h->tensors = mem_resize(h->tensors, h->n_tensors + LAYER_TENSORS_MAX, sizeof(*h->tensors));
    struct hf_tensor *t = &h->tensors[h->n_tensors++];
    memset(t, 0, sizeof(*t));
    return t;
}

static int make(struct hf *h, const struct hf_config *c, const struct hf_name *name, uint32_t layer, struct error *e)
{
    struct making m = {.h = h, .c = c, .e = e, .t = new_tensor(h), .layout = name->layout};
    arch_tensor_name(name->ours, (int32_t)layer, m.t->name);
    int r = find_sources(&m, name->theirs, layer);
    if (r == 0)
        r = read_shape(&m, m.t->sources[0].parts[0].t);
    if (r == 0 && m.t->n_sources > 1 && m.slices > 1)
        r = wrong_shape(&m, m.t->sources[0].parts[0].t);
    return r == 0 ? finish(&m) : r;
}

/* ---- all of them ---- */

bool hf_name_applies(const struct hf_name *name, const struct hf_config *c)
{
    uint32_t flags = c->arch->flags;
    return (name->with == 0 || (flags & name->with) != 0) && (flags & name->without) == 0;
}

/* A head that is tied is the embedding, whether or not it is stored once more. */
static int check_head(struct hf *h, const struct hf_config *c, bool *tied, struct error *e)
{
    const json_t *says = hf_get(c, "tie_word_embeddings");
    struct hf_source head;
    int r = find_source(h, "/lm_head.weight", 0, 0, &head, e);
    *tied = json_is_true(says);
    if (r != 0)
        return r;
    if (head.n_parts == 0 && json_is_false(says))
        return error_set(e, ERR_CORRUPT, "%s: tensor lm_head.weight is missing", h->path);
    return 0;
}

static int make_all(struct hf *h, const struct hf_config *c, struct error *e)
{
    bool tied;
    int r = check_head(h, c, &tied, e);
    for (size_t i = 0; r == 0 && i < hf_name_count(); i++) {
        const struct hf_name *name = hf_name_at(i);
        uint32_t n = strstr(name->theirs, "%u") ? c->n_layers : 1;
        bool skip = !hf_name_applies(name, c) || (tied && strcmp(name->theirs, "/lm_head.weight") == 0);
        for (uint32_t layer = 0; r == 0 && layer < n && !skip; layer++) {
            struct hf_source first;
            r = find_source(h, name->theirs, layer, 0, &first, e);
            if (r == 0 && first.n_parts > 0)
                r = make(h, c, name, layer, e);
        }
    }
    return r;
}

static void add_divisors(struct hf *h, struct hf_config *c)
{
    static const char *const names[] = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"};
    for (size_t i = 0; i < COUNTOF(names); i++) {
        if (!c->divisors[i])
            continue;
        struct hf_tensor *t = new_tensor(h);
        snprintf(t->name, sizeof(t->name), "%s", names[i]);
        t->type = qtype_find(QTYPE_F32);
        t->n_dims = 1;
        t->ne[0] = c->n_rot / 2;
        t->ne[1] = t->ne[2] = 1;
        t->values = c->divisors[i];
        c->divisors[i] = NULL;
    }
}

static void add_zeros(struct hf *h, const struct hf_config *c, const char *pattern, uint32_t layer, uint32_t heads)
{
    struct hf_tensor *t = new_tensor(h);
    arch_tensor_name(pattern, (int32_t)layer, t->name);
    t->type = qtype_find(QTYPE_F32);
    t->n_dims = 1;
    t->ne[0] = (uint64_t)heads * c->head_dim;
    t->ne[1] = t->ne[2] = 1;
    t->values = mem_array(t->ne[0], sizeof(float));
}

/* Families whose files always have biases of q, k and v may be told to have none. */
static void add_biases(struct hf *h, const struct hf_config *c)
{
    if (!(c->arch->flags & ARCH_QKV_BIAS) || find_named(h, "layers.%u.self_attn.q_proj.bias", 0, 0))
        return;
    for (uint32_t i = 0; i < c->n_layers; i++) {
        add_zeros(h, c, "blk.%u.attn_q.bias", i, c->n_heads);
        add_zeros(h, c, "blk.%u.attn_k.bias", i, c->n_kv_heads);
        add_zeros(h, c, "blk.%u.attn_v.bias", i, c->n_kv_heads);
    }
}

static int compare_places(const void *a, const void *b)
{
    const struct hf_tensor *x = a, *y = b;
    if (x->n_sources == 0 || y->n_sources == 0)
        return x->n_sources == y->n_sources ? strcmp(x->name, y->name) : x->n_sources == 0 ? -1 : 1;
    const struct hf_found *s = &x->sources[0].parts[0], *t = &y->sources[0].parts[0];
    if (s->file != t->file)
        return s->file > t->file ? 1 : -1;
    if (s->t->offset != t->t->offset)
        return s->t->offset > t->t->offset ? 1 : -1;
    return strcmp(x->name, y->name);
}

int hf_make_tensors(struct hf *h, struct hf_config *c, struct error *e)
{
    find_prefix(h);
    int r = make_all(h, c, e);
    if (r == 0)
        r = hf_refuse_unused(h, c->n_layers, c->family->model_type, e);
    if (r != 0)
        return r;
    add_divisors(h, c);
    add_biases(h, c);
    if (h->n_tensors > 0)
        qsort(h->tensors, h->n_tensors, sizeof(*h->tensors), compare_places);
    for (size_t i = 0; i < h->n_tensors; i++)
        gguf_writer_tensor(c->w, h->tensors[i].name, h->tensors[i].type, h->tensors[i].n_dims, h->tensors[i].ne);
    return 0;
}

void hf_free_tensors(struct hf *h)
{
    for (size_t i = 0; i < h->n_tensors; i++) {
        mem_free(h->tensors[i].sources);
        mem_free(h->tensors[i].values);
    }
    mem_free(h->tensors);
}
