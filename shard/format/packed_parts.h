/* packed_parts: what the parts of shard/format/packed share. Not for others. */
#ifndef SHARD_FORMAT_PACKED_PARTS_H
#define SHARD_FORMAT_PACKED_PARTS_H

#include "shard/format/packed.h"

enum { PACKED_NAME_BYTES = SAFETENSORS_NAME_MAX + 64 };

enum packed_format { FORMAT_INTS_PACKED, FORMAT_INTS, FORMAT_FLOATS, FORMAT_MXFP4 };

/* What a group of modules of a compressed-tensors config has. */
struct packed_group {
    enum packed_format format;
    uint32_t bits;
    uint64_t group;     /* columns that share a scale; 0: the whole row, or as the shape says */
    uint64_t block[2];  /* rows and columns that share one; 0: no blocks */
};

struct packed_scheme;

struct packed {
    const struct packed_scheme *scheme;
    uint32_t bits;
    uint64_t group;     /* 0: the whole column */
    uint32_t zero_add;
    uint64_t block[2];
    struct packed_group groups[PACKED_GROUPS_MAX];
    size_t n_groups;
};

/* A search for one module's tensors; the first failure stays. */
struct packed_search {
    packed_lookup_fn lookup;
    void *arg;
    const char *name;  /* the float tensor's */
    char module[PACKED_NAME_BYTES]; /* without ".weight" */
    struct error *e;
    int status;
};

/* A row: how a method is configured, and how its modules are found (m->type stays NULL where there is nothing). */
struct packed_scheme {
    const char *method; /* of quantization_config */
    int (*configure)(struct packed *p, const json_t *q, struct error *e);
    void (*find)(const struct packed *p, struct packed_search *s, struct packed_matrix *m);
};

extern const struct packed_scheme packed_gptq, packed_awq, packed_fp8, packed_fbgemm, packed_tensors, packed_mxfp4;

/* ---- packed.c ---- */

/* A number, a text of an object: `missing` when absent or null. An ERR_CORRUPT number is out of range or none. */
MUST_USE int packed_number(const json_t *q, const char *key, int64_t missing, int64_t low, int64_t high, int64_t *out,
                           struct error *e);
/* A list of two sizes, where it is not absent or null. */
MUST_USE int packed_block(const json_t *q, const char *key, uint64_t block[static 2], struct error *e);
const char *packed_text(const json_t *q, const char *key, const char *missing);

/* The tensor called module + suffix; NULL when absent. */
const struct st_tensor *packed_part(struct packed_search *s, const char *suffix);
/* The same where it must be. */
const struct st_tensor *packed_needed(struct packed_search *s, const char *suffix);
/* Fails unless the tensor has the shape; then *n_dims sizes are those of `shape`. */
void packed_want(struct packed_search *s, const struct st_tensor *t, uint32_t n_dims, const uint64_t *shape);
void packed_refuse(struct packed_search *s, const struct st_tensor *t, const char *words);
/* The matrix's columns are as many, unless the caller knows; false when they cannot be. */
bool packed_set_cols(struct packed_search *s, struct packed_matrix *m, const struct st_tensor *t, uint64_t cols);
/* Scales of a known float type. */
void packed_want_float(struct packed_search *s, const struct st_tensor *t);
/* The type of integers of m->bits with m's groups and scales. */
void packed_choose_int(struct packed_matrix *m);
void packed_choose_fp8(struct packed_matrix *m);
/* Scale strides from the shape [rows / tile_rows, groups], [rows], [1] or []; sets what m->group does not say yet. */
void packed_scales(struct packed_search *s, struct packed_matrix *m, const struct st_tensor *t);

/* ---- packed_codes.c ---- */

/* `n` codes of a row (32 at most), of columns first, first + 1 ... or, with an order, order[first] ... */
void packed_codes(const struct packed_matrix *m, const uint8_t *bytes, uint64_t row, uint64_t first,
                  const uint32_t *order, uint32_t n, uint8_t *codes);
/* The zero point that a part says, as it says it. */
uint32_t packed_zero(const struct packed_matrix *m, const uint8_t *bytes, uint64_t row, uint64_t group);

static inline uint64_t packed_parts_of(uint64_t n, uint64_t each)
{
    return n / each + (n % each != 0);
}

#endif
