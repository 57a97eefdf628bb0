/* packed: matrices that a checkpoint stores quantised, as rows of a kernel type.
 *
 * packed_open() reads what config.json says of quantisation: GPTQ (2, 3, 4, 8 bits,
 * both formats, act-order), AWQ (gemm), FP8 (E4M3 in blocks, by row or whole),
 * compressed-tensors (integers and FP8, weights alone), MXFP4; others are refused
 * by name.  packed_find() looks at the tensors of one module, headers alone, and
 * says which type its rows take in memory.  The type follows from shapes and
 * dtypes, never from values, and holds every value exactly: codes, scale and zero
 * point are kept.  Where columns or groups are no multiple of 32 the rows are
 * floats.
 *
 * A module that has a float weight is plain, whatever lists of ignored modules say:
 * what is stored decides.
 *
 * Pure: bytes are the caller's, who says where each part lies.  What comes from the
 * file is checked before it is used, also when it changes later: any bytes give rows
 * or an error.  Any thread may use what is open.
 *
 * Formats: the projects' own descriptions and code (AutoGPTQ, AutoAWQ, DeepSeek V3,
 * compressed-tensors, gpt-oss).                                                    */
#ifndef SHARD_FORMAT_PACKED_H
#define SHARD_FORMAT_PACKED_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/qtype.h"
#include "shard/format/safetensors.h"

enum packed_limits {
    PACKED_SIDE_MAX = 1 << 24, /* rows, columns, slices */
    PACKED_GROUPS_MAX = 16,    /* of a compressed-tensors config */
};

struct packed;

/* config: all of config.json. *out NULL: nothing is quantised. */
MUST_USE int packed_open(struct packed **out, const json_t *config, struct error *e);
void packed_close(struct packed **packed_p);

/* The tensors that together store a matrix. */
enum packed_part { PACKED_CODES, PACKED_SCALES, PACKED_ZEROS, PACKED_INDEX, PACKED_SHAPE, PACKED_PARTS };

enum packed_coding { PACKED_GPTQ, PACKED_AWQ, PACKED_WORDS, PACKED_BYTES, PACKED_FP8, PACKED_MXFP4 };

/* One matrix, or a stack of them. */
struct packed_matrix {
    const struct qtype *type; /* of its rows in memory; NULL: the module is not packed */
    const struct st_tensor *parts[PACKED_PARTS]; /* NULL: it has none */
    uint64_t slices, rows, cols;
    enum packed_coding coding;
    uint32_t bits;
    bool dense; /* PACKED_WORDS: codes go on from a word to the next; else a word's last bits may be empty */
    /* the scale of (row, column) is that of row / tile_rows and of the column's group: column / group, or as the index
     * says; they lie so far apart */
    uint64_t tile_rows, group, n_groups, scale_row, scale_group;
    uint32_t zero; /* where no part says it; else what is added to what it says */
};

/* A tensor by its name, NULL when there is none. */
typedef const struct st_tensor *(*packed_lookup_fn)(void *arg, const char *name);

/* The matrix whose float form would be called `name` ("model.layers.0.mlp.up_proj.weight") and have `cols` columns (0:
 * as many as the shapes say). */
MUST_USE int packed_find(const struct packed *p, const char *name, uint64_t cols, packed_lookup_fn lookup, void *arg,
                         struct packed_matrix *out, struct error *e);

/* Where the parts' bytes are. */
struct packed_bytes {
    const uint8_t *at[PACKED_PARTS];
};

/* Read the values on which rows hang: the shape, and of act-order the column that each place of a row holds (order,
 * cols values), where *ordered; else places are columns and order is untouched. */
MUST_USE int packed_order(const struct packed_matrix *m, const struct packed_bytes *b, uint32_t *order, bool *ordered,
                          struct error *e);
/* Rows [row, row + n) of a slice, in `type`.  order: of packed_order(), NULL where there is none. */
MUST_USE int packed_rows(const struct packed_matrix *m, const struct packed_bytes *b, const uint32_t *order,
                         uint64_t slice, uint64_t row, uint64_t n, void *out, struct error *e);
/* Columns [col, col + n) of one row as floats. */
MUST_USE int packed_values(const struct packed_matrix *m, const struct packed_bytes *b, uint64_t slice, uint64_t row,
                           uint64_t col, uint64_t n, float *out, struct error *e);

#endif
