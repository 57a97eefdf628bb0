/* model: every tensor that the rules name, looked up once and checked for shape. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/arch/arch.h"
#include "shard/arch/hf.h"

struct model {
    struct gguf *file; /* of a folder, its header */
    struct hf *folder; /* NULL: a file */
    struct hparams h;
    struct model_tensor *tensors;
    size_t n_tensors;
    uint32_t (*by_role)[ROLE_LAYER_COUNT]; /* [n_layers]: index + 1 into tensors */
    uint32_t global[ROLE_COUNT];
};

static int check_shape(const struct model *m, const struct tensor_rule *rule, const struct gguf_tensor *t,
                       const uint64_t ne[3], struct error *e)
{
    uint64_t cols = ne[0], rows = ne[1], slices = ne[2];
    if (t->ne[0] != cols || t->ne[1] != rows || t->ne[2] != slices || t->ne[3] != 1)
        return error_set(e, ERR_CORRUPT, "%s: tensor %s is %llu x %llu x %llu; the model's numbers ask for "
                                         "%llu x %llu x %llu", gguf_path(m->file), t->name,
                         (unsigned long long)t->ne[0], (unsigned long long)t->ne[1], (unsigned long long)t->ne[2],
                         (unsigned long long)cols, (unsigned long long)rows, (unsigned long long)slices);
    if (arch_is_plain(rule) && t->type->id != QTYPE_F32)
        return error_set(e, ERR_UNSUPPORTED, "%s: vector %s is stored as %s; vectors must be F32", gguf_path(m->file),
                         t->name, t->type->name);
    return 0;
}

/* Layouts of other times and tools, told from a file that lacks something. */
static int refuse_missing(const struct model *m, const char *name, struct error *e)
{
    static const struct {
        const char *sign, *words;
    } others[] = {
        {"blk.0.ffn_gate.0.weight", "keeps every expert in a tensor of its own, as files of 2023 do"},
    };
    if (gguf_tensor_count(m->file) == 0)
        return error_set(e, ERR_INVALID, "%s: holds no tensors: it is no model but a vocabulary", gguf_path(m->file));
    for (size_t i = 0; i < COUNTOF(others); i++)
        if (gguf_tensor_find(m->file, others[i].sign))
            return error_set(e, ERR_UNSUPPORTED, "%s: %s, which this version does not read; convert the model again",
                             gguf_path(m->file), others[i].words);
    return error_set(e, ERR_CORRUPT, "%s: tensor %s is missing", gguf_path(m->file), name);
}

static void note_tensor(struct model *m, const struct model_tensor *t)
{
    m->tensors[m->n_tensors] = *t;
    uint32_t index = (uint32_t)++m->n_tensors;
    if (t->layer < 0)
        m->global[t->rule->role] = index;
    else
        m->by_role[t->layer][t->rule->role] = index;
}

static int add_tensor(struct model *m, const struct tensor_rule *rule, int32_t layer, bool required, struct error *e)
{
    char name[GGUF_NAME_MAX + 1];
    const struct gguf_tensor *t = gguf_tensor_find(m->file, arch_tensor_name(rule->name, layer, name));
    uint64_t ne[3] = {arch_extent(&m->h, rule->cols), arch_extent(&m->h, rule->rows), arch_extent(&m->h, rule->slices)};
    if (!t) /* it may be in a file that is not here: model_check_range() says so when it is needed */
        return required && file_set_whole(model_files(m), NULL) == 0 ? refuse_missing(m, name, e) : 0;
    int r = check_shape(m, rule, t, ne, e);
    if (r == 0)
        note_tensor(m, &(struct model_tensor){.rule = rule, .info = t, .layer = layer, .bytes = t->bytes,
                                              .slice_stride = t->bytes / ne[2]});
    return r;
}

/* ---- several tensors in one ---- */

static const struct tensor_rule *rule_of(const struct model *m, enum role role, int32_t layer)
{
    bool required;
    for (size_t i = 0; i < arch_rule_count(); i++)
        if (arch_rule_at(i)->role == role && arch_rule_applies(arch_rule_at(i), &m->h, layer, &required))
            return arch_rule_at(i);
    return NULL;
}

/* Where a file holds the stack and not its first part, the parts are views of it. Vectors lie one after the other. */
static int add_fused(struct model *m, const struct fused_rule *f, int32_t layer, struct error *e)
{
    char name[GGUF_NAME_MAX + 1];
    const struct gguf_tensor *t = gguf_tensor_find(m->file, arch_tensor_name(f->name, layer, name));
    const struct tensor_rule *parts[FUSED_MAX] = {0};
    if (!t || (f->with != 0 && !(m->h.arch->flags & f->with)))
        return 0;
    for (uint32_t i = 0; i < f->n_parts; i++)
        if (!(parts[i] = rule_of(m, f->parts[i], layer)))
            return 0;
    bool vector = parts[0]->rows == EXTENT_ONE;
    uint64_t sizes[FUSED_MAX], total = 0, offset = 0;
    for (uint32_t i = 0; i < f->n_parts; i++)
        total += sizes[i] = arch_extent(&m->h, vector ? parts[i]->cols : parts[i]->rows);
    uint64_t cols = vector ? total : arch_extent(&m->h, parts[0]->cols), slices = arch_extent(&m->h, parts[0]->slices);
    uint64_t ne[3] = {cols, vector ? 1 : total, slices};
    if (gguf_tensor_find(m->file, arch_tensor_name(parts[0]->name, layer, name)))
        return 0;
    int r = check_shape(m, parts[0], t, ne, e);
    for (uint32_t i = 0; r == 0 && i < f->n_parts; i++) {
        uint64_t bytes = qtype_row_bytes(t->type, vector ? sizes[i] : cols) * (vector ? 1 : sizes[i]);
        note_tensor(m, &(struct model_tensor){.rule = parts[i], .info = t, .layer = layer, .part = i, .offset = offset,
                                              .slice_stride = t->bytes / slices, .bytes = bytes * slices});
        offset += bytes;
    }
    return r;
}

static int add_layer(struct model *m, uint32_t layer, struct error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < arch_fused_count(); i++)
        r = add_fused(m, arch_fused_at(i), (int32_t)layer, e);
    for (size_t i = 0; r == 0 && i < arch_rule_count(); i++) {
        const struct tensor_rule *rule = arch_rule_at(i);
        bool required;
        if (rule->role < ROLE_LAYER_COUNT && m->by_role[layer][rule->role] == 0 &&
            arch_rule_applies(rule, &m->h, (int32_t)layer, &required))
            r = add_tensor(m, rule, (int32_t)layer, required, e);
    }
    return r;
}

static int add_tensors(struct model *m, struct error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < arch_rule_count(); i++) {
        const struct tensor_rule *rule = arch_rule_at(i);
        bool required;
        if (rule->role >= ROLE_LAYER_COUNT && arch_rule_applies(rule, &m->h, -1, &required))
            r = add_tensor(m, rule, -1, required, e);
    }
    for (uint32_t layer = 0; r == 0 && layer < m->h.n_layers; layer++)
        r = add_layer(m, layer, e);
    return r;
}

static int compare_pointers(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a, *y = *(const struct gguf_tensor *const *)b;
    return (x > y) - (x < y);
}

/* A tensor that no rule names would be left out of the sum: better to refuse than to answer wrongly. */
static int refuse_unknown(const struct model *m, struct error *e)
{
    size_t n = gguf_tensor_count(m->file);
    const struct gguf_tensor **known = mem_array(m->n_tensors + 1, sizeof(void *));
    for (size_t i = 0; i < m->n_tensors; i++)
        known[i] = m->tensors[i].info;
    qsort(known, m->n_tensors, sizeof(void *), compare_pointers);
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(m->file, i);
        if (!bsearch(&t, known, m->n_tensors, sizeof(void *), compare_pointers) && !arch_ignores(&m->h, t->name))
            r = error_set(e, ERR_UNSUPPORTED, "%s: has tensor %s, which family %s does not have in this version",
                          gguf_path(m->file), t->name, m->h.arch->name);
    }
    mem_free(known);
    return r;
}

int model_open(struct model **out, const char *path, struct error *e)
{
    struct model *m = mem_alloc(sizeof(*m));
    *out = NULL;
    int r = path_is_folder(path) ? hf_open(&m->folder, &m->file, path, e) : gguf_open(&m->file, path, e);
    if (r == 0)
        r = hparams_read(&m->h, m->file, e);
    if (r == 0) {
        m->tensors = mem_array((size_t)m->h.n_layers * ROLE_LAYER_COUNT + ROLE_COUNT, sizeof(*m->tensors));
        m->by_role = mem_array(m->h.n_layers, sizeof(*m->by_role));
        r = add_tensors(m, e);
    }
    if (r == 0)
        r = refuse_unknown(m, e);
    if (r != 0) {
        model_close(&m);
        return r;
    }
    *out = m;
    return 0;
}

void model_close(struct model **model_p)
{
    struct model *m = *model_p;
    if (!m)
        return;
    gguf_close(&m->file);
    hf_close(&m->folder);
    mem_free(m->tensors);
    mem_free(m->by_role);
    mem_free(m);
    *model_p = NULL;
}

const struct hparams *model_hparams(const struct model *m)
{
    return &m->h;
}

const struct gguf *model_file(const struct model *m)
{
    return m->file;
}

const struct file_set *model_files(const struct model *m)
{
    return gguf_files(m->file);
}

size_t model_tensor_count(const struct model *m)
{
    return m->n_tensors;
}

const struct model_tensor *model_tensor_at(const struct model *m, size_t i)
{
    return &m->tensors[i];
}

const struct model_tensor *model_tensor_find(const struct model *m, enum role role, int32_t layer)
{
    uint32_t index = layer < 0 ? m->global[role] : m->by_role[layer][role];
    return index ? &m->tensors[index - 1] : NULL;
}

const struct model_tensor *model_output(const struct model *m)
{
    const struct model_tensor *t = model_tensor_find(m, ROLE_OUTPUT, -1);
    return t ? t : model_tensor_find(m, ROLE_EMBEDDING, -1);
}

/* ---- bytes ---- */

const struct hf *model_folder(const struct model *m)
{
    return m->folder;
}

const void *model_tensor_bytes(const struct model *m, const struct model_tensor *t)
{
    return m->folder ? NULL : (const uint8_t *)gguf_tensor_bytes(m->file, t->info) + t->offset;
}

int model_read(const struct model *m, const struct gguf_tensor *info, uint64_t slice, uint64_t row, uint64_t n,
               void *out, struct error *e)
{
    if (m->folder)
        return hf_read(m->folder, (size_t)(info - gguf_tensor_at(m->file, 0)), slice, row, n, out, e);
    size_t row_bytes = qtype_row_bytes(info->type, info->ne[0]);
    const uint8_t *bytes = gguf_tensor_bytes(m->file, info);
    memcpy(out, bytes + (slice * info->ne[1] + row) * row_bytes, n * row_bytes);
    return 0;
}

/* A part of a vector that holds several is less than a row. */
static int read_part(const struct model *m, const struct model_tensor *t, void *out, struct error *e)
{
    uint8_t *row = mem_alloc(t->info->bytes);
    int r = model_read(m, t->info, 0, 0, 1, row, e);
    memcpy(out, row + t->offset, t->bytes);
    mem_free(row);
    return r;
}

int model_tensor_read(const struct model *m, const struct model_tensor *t, uint32_t slice, uint64_t row, uint64_t n,
                      void *out, struct error *e)
{
    size_t row_bytes = qtype_row_bytes(t->info->type, t->info->ne[0]);
    if (t->bytes < row_bytes)
        return n > 0 ? read_part(m, t, out, e) : 0;
    return model_read(m, t->info, slice, t->offset / row_bytes + row, n, out, e);
}

void model_release(const struct model *m, const struct gguf_tensor *info, uint64_t slice)
{
    if (m->folder)
        hf_release(m->folder, (size_t)(info - gguf_tensor_at(m->file, 0)), slice);
}

int model_order(const struct model *m, const struct gguf_tensor *info, uint32_t **out, struct error *e)
{
    *out = NULL;
    return m->folder ? hf_order(m->folder, (size_t)(info - gguf_tensor_at(m->file, 0)), out, e) : 0;
}

void model_tensor_release(const struct model *m, const struct model_tensor *t, uint32_t slice)
{
    const uint8_t *bytes = model_tensor_bytes(m, t);
    if (!bytes) {
        model_release(m, t->info, slice);
        return;
    }
    uint64_t slices = arch_extent(&m->h, t->rule->slices);
    mem_mapped_rest(bytes + slice * t->slice_stride, t->bytes / slices);
}
