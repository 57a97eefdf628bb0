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
    struct hf_tensor *lay; /* NULL: A and B lie as in the model */
    uint64_t first_row;    /* of the matrix in what `lay` describes */
    struct piece *pieces;  /* [pair.slices], or one for all of them */
    uint32_t n_pieces;
};

struct adapter {
    char *path;
    const struct hparams *h;
    /* what the pieces point into: a GGUF file, or a folder's */
    struct gguf *gguf;
    struct safetensors *tensors;
    struct file_set *files;
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

/* Of the product as the model has it. */
static uint64_t our_rows(const struct thin_pair *p)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; p->lay && i < p->lay->n_bands; i++)
        rows += p->lay->rows[i].n;
    return p->lay ? rows : p->b.ne[1];
}

static uint64_t our_cols(const struct thin_pair *p)
{
    return p->lay ? p->lay->cols.n : p->a.ne[0];
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
        if (t->n == f->n_parts && fused_rows(h, t) == our_rows(p))
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

/* How many slices A and B have; of a product that is laid out in heads, one is cut and the other for all. */
static void our_slices(const struct thin_pair *p, uint64_t *a, uint64_t *b)
{
    *a = p->lay ? p->lay->turned ? p->lay->ne[2] : 1 : p->a.ne[2];
    *b = p->lay ? p->lay->turned ? 1 : p->lay->ne[2] : p->b.ne[2];
}

/* cols and rows are the matrix's, slices those that the file gives at once. */
static int check_shape(const struct adapter *a, const struct thin_pair *p, uint64_t cols, uint64_t rows,
                       uint64_t slices, struct error *e)
{
    bool wide = our_cols(p) != cols, high = our_rows(p) != rows;
    uint64_t a_slices, b_slices;
    our_slices(p, &a_slices, &b_slices);
    if (wide || high)
        return error_set(e, ERR_INVALID, "%s: %s is for a matrix %s %llu values, and the model's %s %llu: it was made "
                                         "for another model", a->path, wide ? p->a.name : p->b.name,
                         wide ? "of rows of" : "that gives", (unsigned long long)(wide ? our_cols(p) : our_rows(p)),
                         wide ? "has" : "gives", (unsigned long long)(wide ? cols : rows));
    if ((a_slices != 1 && a_slices != slices) || (b_slices != 1 && b_slices != slices))
        return error_set(e, ERR_INVALID, "%s: %s is a stack of %llu and %s one of %llu, where the model has %llu",
                         a->path, p->a.name, (unsigned long long)a_slices, p->b.name, (unsigned long long)b_slices,
                         (unsigned long long)slices);
    if (p->lay && slices > 1 && a_slices == 1 && b_slices == 1)
        return error_set(e, ERR_UNSUPPORTED, "%s: %s is for a whole stack of matrices, which is not supported", a->path,
                         p->a.name);
    return p->a.type && p->b.type ? 0 : error_set(e, ERR_UNSUPPORTED, "%s: %s is of no known type", a->path, p->a.name);
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
    uint64_t a_slices = slices, b_slices = slices;
    if (p->slice < 0)
        our_slices(p, &a_slices, &b_slices);
    if (a->n_pairs == a->room) {
        a->room = a->room ? a->room * 2 : 64;
        a->pairs = mem_resize(a->pairs, a->room, sizeof(*a->pairs));
    }
    struct pair *q = &a->pairs[a->n_pairs++];
    *q = (struct pair){
        .pair = {.role = rule->role, .layer = t->layer, .cols = (uint32_t)arch_extent(a->h, rule->cols),
                 .rows = (uint32_t)arch_extent(a->h, rule->rows), .slices = slices, .a_slices = (uint32_t)a_slices,
                 .b_slices = (uint32_t)b_slices}};
    q->n_pieces = p->lay && p->slice < 0 ? 1 : larger(q->pair.a_slices, q->pair.b_slices);
    q->pieces = mem_array(q->n_pieces, sizeof(*q->pieces));
    if (p->lay) {
        q->lay = mem_alloc(sizeof(*q->lay));
        *q->lay = *p->lay;
    }
    a->by_role[t->layer][rule->role] = (uint32_t)a->n_pairs;
    return q;
}

/* Of a stack that is given slice by slice, all must lie alike. */
static bool goes_with(const struct pair *q, const struct thin_pair *p)
{
    return p->slice >= 0 && q->n_pieces == q->pair.slices && !q->pieces[p->slice].a && !q->lay == !p->lay &&
           (!p->lay || (q->lay->file_rows == p->lay->file_rows && q->lay->file_cols == p->lay->file_cols));
}

/* The rows of one part begin at `first_row` of the whole. */
static int fill_pair(struct adapter *a, const struct target *t, uint32_t part, uint64_t first_row,
                     const struct thin_pair *p, struct error *e)
{
    uint32_t index = a->by_role[t->layer][t->rules[part]->role];
    struct pair *q = index ? &a->pairs[index - 1] : NULL;
    if (q && !goes_with(q, p))
        return error_set(e, ERR_CORRUPT, "%s: changes %s twice", a->path, p->target);
    if (!q)
        q = new_pair(a, t, part, p);
    q->first_row = p->lay ? first_row : 0;
    size_t a_row = qtype_row_bytes(p->a.type, p->a.ne[0]), b_row = qtype_row_bytes(p->b.type, p->b.ne[0]);
    uint32_t first = p->slice < 0 ? 0 : (uint32_t)p->slice, n = p->slice < 0 ? q->n_pieces : 1;
    first_row = p->lay ? 0 : first_row;
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

static int read_files(struct adapter *a, struct error *e)
{
    char *folder, *weights;
    int r;
    if (!adapter_peft_place(a->path, &folder, &weights)) {
        r = gguf_open(&a->gguf, a->path, e);
        return r == 0 ? adapter_gguf_read(a, a->gguf, e) : r;
    }
    r = safetensors_open(&a->tensors, weights, e);
    if (r == 0)
        r = adapter_peft_files(&a->files, folder, a->tensors, e);
    if (r == 0)
        r = adapter_peft_read(a, folder, a->tensors, e);
    mem_free(folder);
    mem_free(weights);
    return r;
}

int adapter_open(struct adapter **out, const char *path, const struct model *m, struct error *e)
{
    struct adapter *a = mem_alloc(sizeof(*a));
    *out = NULL;
    a->path = mem_strdup(path);
    a->h = model_hparams(m);
    a->by_role = mem_array(a->h->n_layers, sizeof(*a->by_role));
    int r = read_files(a, e);
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
    for (size_t i = 0; i < a->n_pairs; i++) {
        mem_free(a->pairs[i].pieces);
        mem_free(a->pairs[i].lay);
    }
    gguf_close(&a->gguf);
    safetensors_close(&a->tensors);
    file_set_close(&a->files);
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

/* ---- values of a product that lies as in the model ---- */

static void read_a(const struct pair *q, const struct piece *piece, float *out)
{
    piece->a_type->to_f32(piece->a, out, (size_t)piece->rank * q->pair.cols);
}

static void read_b(const struct pair *q, const struct piece *piece, float *out)
{
    size_t bytes = qtype_row_bytes(piece->b_type, piece->rank);
    for (uint32_t row = 0; row < q->pair.rows; row++)
        piece->b_type->to_f32(piece->b + row * bytes, out + (size_t)row * q->pair.rank, piece->rank);
}

/* ---- values of one that lies otherwise ---- */

/* A [rank, cols] from the file's A: its columns in our order. `row` has room for one of the file's. */
static void place_a(const struct pair *q, const struct piece *piece, float *row, float *out)
{
    uint64_t file_cols = q->lay->file_cols;
    size_t bytes = qtype_row_bytes(piece->a_type, file_cols);
    for (uint32_t k = 0; k < piece->rank; k++) {
        piece->a_type->to_f32(piece->a + k * bytes, row, file_cols);
        for (uint32_t i = 0; i < q->pair.cols; i++)
            out[(size_t)k * q->pair.cols + i] = row[hf_axis_at(&q->lay->cols, i)];
    }
}

/* The same of a turned one, slice s: A is the file's B, whose rows are our columns. */
static void place_turned_a(const struct pair *q, const struct piece *piece, uint32_t s, float *row, float *out)
{
    size_t bytes = qtype_row_bytes(piece->b_type, piece->rank);
    for (uint32_t i = 0; i < q->pair.cols; i++) {
        uint64_t from = s * q->lay->file_rows + hf_axis_at(&q->lay->cols, i);
        piece->b_type->to_f32(piece->b + from * bytes, row, piece->rank);
        for (uint32_t k = 0; k < piece->rank; k++)
            out[(size_t)k * q->pair.cols + i] = row[k];
    }
}

/* B [rows, rank] from the file's B: its rows in our order. */
static void place_b(const struct pair *q, const struct piece *piece, uint32_t s, float *out)
{
    size_t bytes = qtype_row_bytes(piece->b_type, piece->rank);
    for (uint32_t i = 0; i < q->pair.rows; i++) {
        uint64_t from = s * q->lay->file_rows + hf_file_row(q->lay, q->first_row + i);
        piece->b_type->to_f32(piece->b + from * bytes, out + (size_t)i * q->pair.rank, piece->rank);
    }
}

static void place_turned_b(const struct pair *q, const struct piece *piece, float *row, float *out)
{
    uint64_t file_cols = q->lay->file_cols;
    size_t bytes = qtype_row_bytes(piece->a_type, file_cols);
    for (uint32_t k = 0; k < piece->rank; k++) {
        piece->a_type->to_f32(piece->a + k * bytes, row, file_cols);
        for (uint32_t i = 0; i < q->pair.rows; i++)
            out[(size_t)i * q->pair.rank + k] = row[hf_file_row(q->lay, q->first_row + i)];
    }
}

/* ---- both ---- */

static void slice_a(const struct pair *q, const struct piece *piece, uint32_t s, float *row, float *out)
{
    if (!q->lay)
        read_a(q, piece, out);
    else if (q->lay->turned)
        place_turned_a(q, piece, s, row, out);
    else
        place_a(q, piece, row, out);
}

static void slice_b(const struct pair *q, const struct piece *piece, uint32_t s, float *row, float *out)
{
    if (!q->lay)
        read_b(q, piece, out);
    else if (q->lay->turned)
        place_turned_b(q, piece, row, out);
    else
        place_b(q, piece, s, out);
}

void adapter_read(const struct adapter *a, const struct adapter_pair *p, float scale, float *a_values, float *b_values)
{
    const struct pair *q = &a->pairs[a->by_role[p->layer][p->role] - 1];
    size_t a_slice = (size_t)p->rank * p->cols, b_slice = (size_t)p->rows * p->rank;
    float *row = mem_array((q->lay ? q->lay->file_cols : 0) + p->rank, sizeof(*row));
    memset(a_values, 0, p->a_slices * a_slice * sizeof(float));
    memset(b_values, 0, p->b_slices * b_slice * sizeof(float));
    for (uint32_t i = 0; i < p->slices; i++) {
        bool whole = q->n_pieces == 1; /* of which slices are cut out */
        const struct piece *piece = &q->pieces[whole ? 0 : i];
        if (!piece->a)
            continue;
        if (i < p->a_slices)
            slice_a(q, piece, whole ? i : 0, row, a_values + i * a_slice);
        if (i >= p->b_slices)
            continue;
        slice_b(q, piece, whole ? i : 0, row, b_values + i * b_slice);
        for (size_t k = 0; k < b_slice; k++)
            b_values[i * b_slice + k] *= scale * piece->scale;
    }
    mem_free(row);
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
    return a->files ? a->files : gguf_files(a->gguf);
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
