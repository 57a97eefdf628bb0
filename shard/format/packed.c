/* packed: a config's method is looked up in a table of schemes; a scheme finds the tensors of a module and says how
 * they are laid out; from there on every scheme goes the same way (packed_rows.c). */
#include "shard/format/packed_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static const struct packed_scheme *const schemes[] = {&packed_gptq,   &packed_awq,     &packed_fp8,
                                                      &packed_fbgemm, &packed_tensors, &packed_mxfp4};

/* ---- what a config says ---- */

int packed_number(const json_t *q, const char *key, int64_t missing, int64_t low, int64_t high, int64_t *out,
                  struct error *e)
{
    const json_t *v = json_object_get(q, key);
    *out = missing;
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < low || json_integer_value(v) > high)
        return error_set(e, ERR_CORRUPT, "config.json: %s of the quantisation is not a number from %lld to %lld", key,
                         (long long)low, (long long)high);
    *out = json_integer_value(v);
    return 0;
}

const char *packed_text(const json_t *q, const char *key, const char *missing)
{
    const char *text = json_string_value(json_object_get(q, key));
    return text ? text : missing;
}

int packed_block(const json_t *q, const char *key, uint64_t block[static 2], struct error *e)
{
    const json_t *sides = json_object_get(q, key);
    for (size_t i = 0; sides && !json_is_null(sides) && i < 2; i++) {
        int64_t side = json_integer_value(json_array_get(sides, i));
        if (json_array_size(sides) != 2 || side < 1 || side > PACKED_SIDE_MAX)
            return error_set(e, ERR_CORRUPT, "config.json: %s is not two sizes", key);
        block[i] = (uint64_t)side;
    }
    return 0;
}

/* The part of a config that tells of quantisation, NULL where there is none. */
static const json_t *find_config(const json_t *config, bool *old)
{
    const json_t *places[] = {config, json_object_get(config, "text_config")};
    for (size_t i = 0; i < COUNTOF(places); i++) {
        const json_t *q = json_object_get(places[i], "quantization_config");
        *old = !q;
        q = q ? q : json_object_get(places[i], "compression_config");
        if (q && !json_is_null(q))
            return q;
    }
    return NULL;
}

static int refuse_method(const char *method, struct error *e)
{
    if (!method)
        return error_set(e, ERR_CORRUPT, "config.json: quantization_config does not say by which method");
    return error_set(e, ERR_UNSUPPORTED, "config.json: weights are quantised by %s, which this version does not read; "
                     "it reads gptq, awq, fp8, fbgemm_fp8, compressed-tensors and mxfp4", method);
}

int packed_open(struct packed **out, const json_t *config, struct error *e)
{
    bool old = false;
    const json_t *q = find_config(config, &old);
    const struct packed_scheme *scheme = NULL;
    *out = NULL;
    if (!q)
        return 0;
    if (!json_is_object(q))
        return error_set(e, ERR_CORRUPT, "config.json: quantization_config is no object");
    const char *method = packed_text(q, "quant_method", old ? packed_tensors.method : NULL);
    for (size_t i = 0; method && i < COUNTOF(schemes); i++)
        if (strcmp(schemes[i]->method, method) == 0)
            scheme = schemes[i];
    if (!scheme)
        return refuse_method(method, e);
    struct packed *p = mem_alloc(sizeof(*p));
    p->scheme = scheme;
    int r = scheme->configure(p, q, e);
    if (r != 0)
        packed_close(&p);
    *out = p;
    return r;
}

void packed_close(struct packed **packed_p)
{
    mem_free(*packed_p);
    *packed_p = NULL;
}

/* ---- the tensors of a module ---- */

static void fail(struct packed_search *s, int status)
{
    if (s->status == 0)
        s->status = status;
}

const struct st_tensor *packed_part(struct packed_search *s, const char *suffix)
{
    char name[2 * PACKED_NAME_BYTES];
    snprintf(name, sizeof(name), "%s%s", s->module, suffix);
    return s->lookup(s->arg, name);
}

const struct st_tensor *packed_needed(struct packed_search *s, const char *suffix)
{
    const struct st_tensor *t = packed_part(s, suffix);
    if (!t && s->status == 0)
        fail(s, error_set(s->e, ERR_CORRUPT, "tensor %s%s is missing", s->module, suffix));
    return t;
}

bool packed_set_cols(struct packed_search *s, struct packed_matrix *m, const struct st_tensor *t, uint64_t cols)
{
    m->cols = m->cols ? m->cols : cols;
    if (m->cols > 0 && m->cols <= PACKED_SIDE_MAX)
        return true;
    packed_refuse(s, t, "has no number of columns that can be");
    return false;
}

void packed_refuse(struct packed_search *s, const struct st_tensor *t, const char *words)
{
    char shape[ST_SHAPE_BYTES];
    if (s->status == 0 && t)
        fail(s, error_set(s->e, ERR_UNSUPPORTED, "tensor %s (%s, %s) %s", t->name, st_dtype_name(t->dtype),
                          st_shape_text(t, shape), words));
}

void packed_want(struct packed_search *s, const struct st_tensor *t, uint32_t n_dims, const uint64_t *shape)
{
    bool same = t && t->n_dims == n_dims;
    for (uint32_t i = 0; same && i < n_dims; i++)
        same = t->shape[i] == shape[i];
    if (t && !same) {
        char words[96];
        snprintf(words, sizeof(words), "ought to be %llu x %llu", (unsigned long long)shape[0],
                 (unsigned long long)(n_dims > 1 ? shape[1] : 1));
        packed_refuse(s, t, words);
    }
}

void packed_want_float(struct packed_search *s, const struct st_tensor *t)
{
    if (t && t->dtype != ST_F16 && t->dtype != ST_BF16 && t->dtype != ST_F32 && t->dtype != ST_F8_E8M0)
        packed_refuse(s, t, "holds scales, which can be F16, BF16, F32 or F8_E8M0");
}

void packed_scales(struct packed_search *s, struct packed_matrix *m, const struct st_tensor *t)
{
    if (!t || s->status != 0)
        return;
    uint64_t a = t->n_dims > 0 ? t->shape[0] : 1, b = t->n_dims > 1 ? t->shape[1] : 1;
    uint64_t tiles = packed_parts_of(m->rows, m->tile_rows), groups = packed_parts_of(m->cols, m->group);
    m->parts[PACKED_SCALES] = t;
    packed_want_float(s, t);
    if (t->n_dims > 2 || a == 0 || b == 0) {
        packed_refuse(s, t, "holds no scales that this version knows");
    } else if (a == tiles && b == groups) {
        m->scale_row = b;
    } else if (a == m->rows && b == 1) { /* whatever the config says, a scale for each row */
        m->tile_rows = 1;
        m->group = m->cols;
        m->scale_row = 1;
    } else if (a == 1 && b == 1) {
        m->tile_rows = m->rows;
        m->group = m->cols;
    } else {
        packed_refuse(s, t, "holds scales for another grouping than the config says");
    }
    m->n_groups = packed_parts_of(m->cols, m->group);
    m->scale_group = 1;
}

int packed_find(const struct packed *p, const char *name, uint64_t cols, packed_lookup_fn lookup, void *arg,
                struct packed_matrix *out, struct error *e)
{
    struct packed_search s = {.lookup = lookup, .arg = arg, .name = name, .e = e};
    static const char ending[] = ".weight";
    size_t len = strlen(name), cut = sizeof(ending) - 1;
    *out = (struct packed_matrix){.slices = 1, .tile_rows = 1};
    if (len >= PACKED_NAME_BYTES || cols > PACKED_SIDE_MAX)
        return error_set(e, ERR_LIMIT, "a matrix of %llu columns called %s", (unsigned long long)cols, name);
    len -= len > cut && strcmp(name + len - cut, ending) == 0 ? cut : 0;
    memcpy(s.module, name, len);
    out->cols = cols;
    p->scheme->find(p, &s, out);
    if (s.status == 0 && out->type &&
        (out->rows == 0 || out->rows > PACKED_SIDE_MAX || out->slices == 0 || out->slices > PACKED_SIDE_MAX ||
         out->cols > PACKED_SIDE_MAX))
        s.status = error_set(e, ERR_LIMIT, "tensor %s has %llu rows of %llu columns", name,
                             (unsigned long long)out->rows, (unsigned long long)out->cols);
    if (s.status != 0)
        out->type = NULL;
    return s.status;
}

/* ---- types ---- */

/* The longest block that no group cuts; 0: there is none. */
static uint32_t block_len(const struct packed_matrix *m)
{
    for (uint32_t len = 128; len >= 32; len /= 2)
        if (m->cols % len == 0 && (m->group >= m->cols || m->group % len == 0))
            return len;
    return 0;
}

/* Without zero points, half floats as scales and the right bits, files have a type for it; that with a scale in
 * two bytes is worth having where blocks are short. */
static uint32_t plain_type(const struct packed_matrix *m, uint32_t len)
{
    enum st_dtype scales = m->parts[PACKED_SCALES]->dtype;
    if (m->parts[PACKED_ZEROS] || m->zero != 1U << (m->bits - 1))
        return 0;
    if (scales == ST_F16 && (m->bits == 4 || m->bits == 8))
        return m->bits == 4 ? QTYPE_Q4_0 : QTYPE_Q8_0;
    return scales == ST_BF16 && m->bits == 4 && len == 32 ? QTYPE_INT4B_32 : 0;
}

void packed_choose_int(struct packed_matrix *m)
{
    uint32_t len = block_len(m), width = m->bits <= 2 ? 2 : m->bits <= 4 ? m->bits : 8;
    uint32_t id = QTYPE_OWN + 10 * width;
    if (len == 0)
        id = QTYPE_F32;
    else if (plain_type(m, len) != 0)
        id = plain_type(m, len);
    else if (m->parts[PACKED_SCALES]->dtype == ST_F32)
        id += QTYPE_INT2F_32 - QTYPE_INT2_32;
    else
        id += len == 128 ? 2 : len == 64;
    m->type = qtype_find(id);
}

void packed_choose_fp8(struct packed_matrix *m)
{
    uint32_t len = block_len(m);
    m->type = qtype_find(len == 0 ? QTYPE_F32 : len == 128 ? QTYPE_FP8_128 : QTYPE_FP8_32);
}
