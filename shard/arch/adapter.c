/* adapter: pairs by layer and role.  A pair is put together from pieces, one a slice; what a piece needs is
 * where its A and B begin, so that nothing is copied before somebody asks for the values. */
#include "shard/arch/adapter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/limits.h"
#include "shard/arch/adapter_parts.h"

/* A slice's A and B; NULL: this slice has none, and adds nothing. */
struct piece {
    const uint8_t *a, *b;
    const struct qtype *a_type, *b_type;
    uint32_t rank;
    float scale;
};

struct pair {
    struct adapter_pair pair;
    uint32_t halves;
    struct piece *pieces; /* [pair.slices], or one where A and B are both shared */
    uint32_t n_pieces;
};

struct adapter {
    char *path;
    const struct hparams *h;
    struct gguf *gguf; /* what the pieces point into */
    struct pair *pairs;
    size_t n_pairs, room;
    struct {
        int32_t layer;
        struct file_stretch at;
    } *stretches; /* of every A and B */
    size_t n_stretches, stretch_room;
    uint32_t (*by_role)[ROLE_LAYER_COUNT]; /* [n_layers]: index + 1 into pairs */
    uint32_t rank, cols;
};

const struct hparams *adapter_hparams(const struct adapter *a)
{
    return a->h;
}

/* ---- what a tensor is in the model ---- */

/* The rules of a name: one, or those of the parts that it holds stacked. */
struct target {
    const struct tensor_rule *rules[FUSED_MAX];
    uint32_t n;
    int32_t layer;
};

/* "blk.17.rest" -> 17; false when that is not what it is. */
static bool layer_of(const char *name, int32_t *layer)
{
    char *end;
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9')
        return false;
    unsigned long n = strtoul(name + 4, &end, 10);
    *layer = (int32_t)n;
    return *end == '.' && n < ARCH_LAYERS_MAX;
}

static const struct tensor_rule *rule_of_role(const struct hparams *h, enum role role, int32_t layer)
{
    bool required;
    for (size_t i = 0; i < arch_rule_count(); i++)
        if (arch_rule_at(i)->role == role && arch_rule_applies(arch_rule_at(i), h, layer, &required))
            return arch_rule_at(i);
    return NULL;
}

static const struct tensor_rule *rule_of_name(const struct hparams *h, const char *name, int32_t layer)
{
    char own[GGUF_NAME_MAX + 1];
    bool required;
    for (size_t i = 0; i < arch_rule_count(); i++)
        if (arch_rule_at(i)->role < ROLE_LAYER_COUNT &&
            strcmp(arch_tensor_name(arch_rule_at(i)->name, layer, own), name) == 0 &&
            arch_rule_applies(arch_rule_at(i), h, layer, &required))
            return arch_rule_at(i);
    return NULL;
}

static uint64_t fused_rows(const struct hparams *h, const struct target *t)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < t->n; i++)
        rows += arch_extent(h, t->rules[i]->rows);
    return rows;
}

/* Several matrices in one, where the rows are those of all of them. */
static bool find_fused(const struct hparams *h, const struct thin_pair *p, struct target *t)
{
    char own[GGUF_NAME_MAX + 1];
    for (size_t i = 0; i < arch_fused_count(); i++) {
        const struct fused_rule *f = arch_fused_at(i);
        if (strcmp(arch_tensor_name(f->name, t->layer, own), p->target) != 0 ||
            (f->with != 0 && !(h->arch->flags & f->with)))
            continue;
        t->n = 0;
        while (t->n < f->n_parts && (t->rules[t->n] = rule_of_role(h, f->parts[t->n], t->layer)) != NULL)
            t->n++;
        if (t->n == f->n_parts && fused_rows(h, t) == p->b.ne[1])
            return true;
    }
    return false;
}

/* Matrices whose products the forward pass adds to; another one would be left out of the sum in silence. */
static bool may_change(enum role role)
{
    switch (role) {
    case ROLE_ATTN_Q: case ROLE_ATTN_K: case ROLE_ATTN_V: case ROLE_ATTN_OUT:
    case ROLE_Q_DOWN: case ROLE_Q_UP: case ROLE_KV_DOWN: case ROLE_K_UP: case ROLE_V_UP:
    case ROLE_INDEX_Q: case ROLE_INDEX_K: case ROLE_INDEX_WEIGHTS:
    case ROLE_DELTA_QKV: case ROLE_DELTA_GATE: case ROLE_DELTA_BETA: case ROLE_DELTA_ALPHA: case ROLE_DELTA_BOTH:
    case ROLE_DELTA_OUT: case ROLE_DELTA_ALPHA_DOWN: case ROLE_DELTA_GATE_DOWN:
    case ROLE_FFN_GATE: case ROLE_FFN_UP: case ROLE_FFN_DOWN:
    case ROLE_GATE_EXPERTS: case ROLE_UP_EXPERTS: case ROLE_DOWN_EXPERTS:
    case ROLE_SHARED_GATE: case ROLE_SHARED_UP: case ROLE_SHARED_DOWN:
        return true;
    default:
        return false;
    }
}

static int find_target(const struct adapter *a, const struct thin_pair *p, struct target *t, struct error *e)
{
    bool in_layer = layer_of(p->target, &t->layer);
    if (in_layer && (uint32_t)t->layer >= a->h->n_layers)
        return error_set(e, ERR_INVALID, "%s: is for layer %d, and the model has %u: it was made for another model",
                         a->path, t->layer, a->h->n_layers);
    if (!in_layer)
        return error_set(e, ERR_UNSUPPORTED, "%s: changes %s, and adapters of the embedding or the output head are not "
                                             "supported", a->path, p->target);
    if (find_fused(a->h, p, t))
        return 0;
    t->n = 1;
    t->rules[0] = rule_of_name(a->h, p->target, t->layer);
    if (!t->rules[0])
        return error_set(e, ERR_INVALID, "%s: changes %s, which the model (family %s) does not have: it was made for "
                                         "another model", a->path, p->target, a->h->arch->name);
    if (!may_change(t->rules[0]->role))
        return error_set(e, ERR_UNSUPPORTED, "%s: changes %s, and adapters of vectors and routers are not supported",
                         a->path, p->target);
    return 0;
}

/* ---- shapes ---- */

static int check_rank(const struct adapter *a, const struct thin_pair *p, struct error *e)
{
    if (p->a.ne[1] != p->b.ne[0])
        return error_set(e, ERR_CORRUPT, "%s: %s has rank %llu and %s has rank %llu", a->path, p->a.name,
                         (unsigned long long)p->a.ne[1], p->b.name, (unsigned long long)p->b.ne[0]);
    if (p->a.ne[1] == 0 || p->a.ne[1] > LORA_RANK_MAX)
        return error_set(e, ERR_LIMIT, "%s: %s has rank %llu; 1 to %d can be", a->path, p->a.name,
                         (unsigned long long)p->a.ne[1], LORA_RANK_MAX);
    if (!isfinite(p->scale))
        return error_set(e, ERR_CORRUPT, "%s: the scale of %s is not a number", a->path, p->b.name);
    return 0;
}

/* cols and rows are the matrix's, slices those that the file gives at once. */
static int check_shape(const struct adapter *a, const struct thin_pair *p, uint64_t cols, uint64_t rows,
                       uint64_t slices, struct error *e)
{
    bool wide = p->a.ne[0] != cols, high = p->b.ne[1] != rows;
    if (wide || high)
        return error_set(e, ERR_INVALID, "%s: %s is for a matrix %s %llu values, and the model's %s %llu: it was made "
                                         "for another model", a->path, wide ? p->a.name : p->b.name,
                         wide ? "of rows of" : "that gives", (unsigned long long)(wide ? p->a.ne[0] : p->b.ne[1]),
                         wide ? "has" : "gives", (unsigned long long)(wide ? cols : rows));
    if ((p->a.ne[2] != 1 && p->a.ne[2] != slices) || (p->b.ne[2] != 1 && p->b.ne[2] != slices))
        return error_set(e, ERR_INVALID, "%s: %s is a stack of %llu and %s one of %llu, where the model has %llu",
                         a->path, p->a.name, (unsigned long long)p->a.ne[2], p->b.name,
                         (unsigned long long)p->b.ne[2], (unsigned long long)slices);
    return 0;
}

/* ---- pairs ---- */

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static struct pair *new_pair(struct adapter *a, const struct target *t, uint32_t part, const struct thin_pair *p)
{
    const struct tensor_rule *rule = t->rules[part];
    uint32_t slices = (uint32_t)arch_extent(a->h, rule->slices);
    bool whole = p->slice < 0;
    if (a->n_pairs == a->room) {
        a->room = a->room ? a->room * 2 : 64;
        a->pairs = mem_resize(a->pairs, a->room, sizeof(*a->pairs));
    }
    struct pair *q = &a->pairs[a->n_pairs++];
    *q = (struct pair){
        .pair = {.role = rule->role, .layer = t->layer, .cols = (uint32_t)arch_extent(a->h, rule->cols),
                 .rows = (uint32_t)arch_extent(a->h, rule->rows), .slices = slices,
                 .a_slices = whole ? (uint32_t)p->a.ne[2] : slices, .b_slices = whole ? (uint32_t)p->b.ne[2] : slices},
        .halves = p->halves};
    q->n_pieces = larger(q->pair.a_slices, q->pair.b_slices);
    q->pieces = mem_array(q->n_pieces, sizeof(*q->pieces));
    a->by_role[t->layer][rule->role] = (uint32_t)a->n_pairs;
    return q;
}

/* The rows of one part begin at `first_row` of the file's. */
static int fill_pair(struct adapter *a, const struct target *t, uint32_t part, uint64_t first_row,
                     const struct thin_pair *p, struct error *e)
{
    uint32_t index = a->by_role[t->layer][t->rules[part]->role];
    struct pair *q = index ? &a->pairs[index - 1] : NULL;
    if (q && (p->slice < 0 || q->n_pieces != q->pair.slices || q->pieces[p->slice].a))
        return error_set(e, ERR_CORRUPT, "%s: changes %s twice", a->path, p->target);
    if (!q)
        q = new_pair(a, t, part, p);
    size_t a_row = qtype_row_bytes(p->a.type, p->a.ne[0]), b_row = qtype_row_bytes(p->b.type, p->b.ne[0]);
    uint32_t first = p->slice < 0 ? 0 : (uint32_t)p->slice, n = p->slice < 0 ? q->n_pieces : 1;
    for (uint32_t i = 0; i < n; i++)
        q->pieces[first + i] = (struct piece){
            .a = p->a.bytes + (p->a.ne[2] > 1 ? i : 0) * p->a.ne[1] * a_row, .a_type = p->a.type,
            .b = p->b.bytes + ((p->b.ne[2] > 1 ? i : 0) * p->b.ne[1] + first_row) * b_row, .b_type = p->b.type,
            .rank = (uint32_t)p->a.ne[1], .scale = p->scale};
    q->pair.rank = larger(q->pair.rank, (uint32_t)p->a.ne[1]);
    a->rank = larger(a->rank, q->pair.rank);
    a->cols = larger(a->cols, q->pair.cols);
    return 0;
}

static void note_stretch(struct adapter *a, int32_t layer, const struct thin *t)
{
    if (a->n_stretches == a->stretch_room) {
        a->stretch_room = a->stretch_room ? a->stretch_room * 2 : 64;
        a->stretches = mem_resize(a->stretches, a->stretch_room, sizeof(*a->stretches));
    }
    a->stretches[a->n_stretches].layer = layer;
    a->stretches[a->n_stretches++].at = t->at;
}

int adapter_add(struct adapter *a, const struct thin_pair *p, struct error *e)
{
    struct target t = {0};
    int r = check_rank(a, p, e);
    if (r == 0)
        r = find_target(a, p, &t, e);
    if (r != 0)
        return r;
    uint64_t slices = arch_extent(a->h, t.rules[0]->slices), first_row = 0;
    if (p->slice >= 0 && (uint64_t)p->slice >= slices)
        return error_set(e, ERR_INVALID, "%s: changes number %d of %s, and the model has %llu: it was made for another "
                                         "model", a->path, p->slice, p->target, (unsigned long long)slices);
    r = check_shape(a, p, arch_extent(a->h, t.rules[0]->cols), fused_rows(a->h, &t), p->slice < 0 ? slices : 1, e);
    for (uint32_t i = 0; r == 0 && i < t.n; i++) {
        r = fill_pair(a, &t, i, first_row, p, e);
        first_row += arch_extent(a->h, t.rules[i]->rows);
    }
    if (r == 0) {
        note_stretch(a, t.layer, &p->a);
        note_stretch(a, t.layer, &p->b);
    }
    return r;
}

/* ---- life ---- */

int adapter_open(struct adapter **out, const char *path, const struct model *m, struct error *e)
{
    struct adapter *a = mem_alloc(sizeof(*a));
    *out = NULL;
    a->path = mem_strdup(path);
    a->h = model_hparams(m);
    a->by_role = mem_array(a->h->n_layers, sizeof(*a->by_role));
    int r = gguf_open(&a->gguf, path, e);
    if (r == 0)
        r = adapter_gguf_read(a, a->gguf, e);
    if (r == 0 && a->n_pairs == 0)
        r = error_set(e, ERR_INVALID, "%s: changes no matrix", path);
    if (r != 0) {
        adapter_close(&a);
        return r;
    }
    *out = a;
    return 0;
}

void adapter_close(struct adapter **adapter_p)
{
    struct adapter *a = *adapter_p;
    if (!a)
        return;
    for (size_t i = 0; i < a->n_pairs; i++)
        mem_free(a->pairs[i].pieces);
    gguf_close(&a->gguf);
    mem_free(a->pairs);
    mem_free(a->stretches);
    mem_free(a->by_role);
    mem_free(a->path);
    mem_free(a);
    *adapter_p = NULL;
}

/* ---- reading ---- */

const char *adapter_path(const struct adapter *a)
{
    return a->path;
}

size_t adapter_pair_count(const struct adapter *a)
{
    return a->n_pairs;
}

const struct adapter_pair *adapter_pair_at(const struct adapter *a, size_t i)
{
    return &a->pairs[i].pair;
}

const struct adapter_pair *adapter_pair_find(const struct adapter *a, enum role role, uint32_t layer)
{
    uint32_t index = layer < a->h->n_layers && role < ROLE_LAYER_COUNT ? a->by_role[layer][role] : 0;
    return index ? &a->pairs[index - 1].pair : NULL;
}

/* Where the file has a row of the matrix: with halves, row 2 i + k of a head is row i of its half k. */
static uint32_t file_row(const struct pair *q, uint32_t row)
{
    if (q->halves == 0)
        return row;
    uint32_t dim = q->pair.rows / q->halves, in_head = row % dim;
    return row - in_head + in_head % 2 * (dim / 2) + in_head / 2;
}

static void read_a(const struct pair *q, const struct piece *piece, float *out)
{
    size_t values = (size_t)q->pair.rank * q->pair.cols, own = (size_t)piece->rank * q->pair.cols;
    if (piece->a)
        piece->a_type->to_f32(piece->a, out, own);
    memset(out + own, 0, (values - own) * sizeof(float));
}

static void read_b(const struct pair *q, const struct piece *piece, float scale, float *out)
{
    size_t bytes = piece->b ? qtype_row_bytes(piece->b_type, piece->rank) : 0;
    for (uint32_t row = 0; row < q->pair.rows; row++, out += q->pair.rank) {
        memset(out, 0, q->pair.rank * sizeof(float));
        if (!piece->b)
            continue;
        piece->b_type->to_f32(piece->b + file_row(q, row) * bytes, out, piece->rank);
        for (uint32_t i = 0; i < piece->rank; i++)
            out[i] *= scale * piece->scale;
    }
}

void adapter_read(const struct adapter *a, const struct adapter_pair *p, float scale, float *a_values, float *b_values)
{
    const struct pair *q = &a->pairs[a->by_role[p->layer][p->role] - 1];
    for (uint32_t i = 0; i < p->a_slices; i++)
        read_a(q, &q->pieces[i], a_values + (size_t)i * p->rank * p->cols);
    for (uint32_t i = 0; i < p->b_slices; i++)
        read_b(q, &q->pieces[i], scale, b_values + (size_t)i * p->rows * p->rank);
}

uint32_t adapter_rank(const struct adapter *a)
{
    return a->rank;
}

uint32_t adapter_cols(const struct adapter *a)
{
    return a->cols;
}

uint64_t adapters_scratch_bytes(const struct adapter *const *adapters, size_t n, const struct model *m,
                                uint32_t batch_rows_max)
{
    uint64_t rank = 0, cols = 0, rows = batch_rows_max < MOE_ROWS_MAX ? batch_rows_max : MOE_ROWS_MAX;
    for (size_t i = 0; i < n; i++) {
        rank = larger((uint32_t)rank, adapters[i]->rank);
        cols = larger((uint32_t)cols, adapters[i]->cols);
    }
    return (LORA_ROWS_MAX * (rank + cols) + 2 * rows * model_hparams(m)->n_experts_used * rank) * sizeof(float);
}

const struct file_set *adapter_files(const struct adapter *a)
{
    return gguf_files(a->gguf);
}

struct file_stretch *adapter_range_stretches(const struct adapter *a, const struct layer_range *r, size_t *n)
{
    struct file_stretch *out = mem_array(a->n_stretches + 1, sizeof(*out));
    *n = 0;
    for (size_t i = 0; i < a->n_stretches; i++)
        if ((uint32_t)a->stretches[i].layer >= r->first && (uint32_t)a->stretches[i].layer < r->last)
            out[(*n)++] = a->stretches[i].at;
    return out;
}

uint64_t adapter_range_bytes(const struct adapter *a, const struct layer_range *r)
{
    uint64_t values = 0;
    for (size_t i = 0; i < a->n_pairs; i++) {
        const struct adapter_pair *p = &a->pairs[i].pair;
        if ((uint32_t)p->layer >= r->first && (uint32_t)p->layer < r->last)
            values += p->rank * ((uint64_t)p->a_slices * p->cols + (uint64_t)p->b_slices * p->rows);
    }
    return values * sizeof(float);
}
