/* rig: what the tests of operations share: devices of every instruction set, random matrices with their
 * values beside them, references in doubles, and the check that a row's bits depend on that row alone.
 *
 * A case is a function that runs rows [first, first + n) of one fixed input on a
 * device and gives their outputs.  rig_check_bits() runs it whole and in parts,
 * with one thread and with two, and compares the bits.                        */
#ifndef TESTS_KERNELS_RIG_H
#define TESTS_KERNELS_RIG_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/backend.h"

enum { RIG_ROWS_MAX = 300, RIG_COLS_MAX = 1024, RIG_EXPERTS_MAX = 40, RIG_FFN_MAX = 512,
       RIG_POSITIONS_MAX = 250 };

struct rig {
    struct device *d;
    const struct backend *b;
    const char *isa;
    int threads;
};

/* The instruction sets that this machine can run, in turn; NULL past the end. */
const char *rig_isa(size_t i);
/* Reserves for every operation but the expert layer's, whose space would be hundreds of megabytes. */
void rig_open(struct rig *r, const char *isa, int threads);
void rig_close(struct rig *r);

/* ---- memory ---- */

void *rig_alloc(size_t bytes);
/* n random floats in -size..size; the caller frees them. */
float *rig_random(uint64_t seed, size_t n, float size);
/* A span of its own memory, n floats, copied from `values` (NULL: filled with NaN). */
struct span rig_span(const struct rig *r, const float *values, size_t n);
/* Download n floats and destroy the span's memory. */
void rig_take(const struct rig *r, struct span s, float *out, size_t n);

/* Value i of the n that a position of KV keeps. */
double rig_stored(enum kv_type type, const float *values, size_t n, size_t i);

/* ---- matrices ---- */

struct matrix {
    const struct qtype *type;
    uint32_t rows, cols, slices;
    uint8_t *bytes;
    float *values; /* [slices][rows][cols], what the bytes mean */
    uint32_t *order; /* NULL: the bytes are in the order of columns */
};

void matrix_make(struct matrix *m, uint32_t type, uint32_t rows, uint32_t cols, uint32_t slices);
/* Gives every slice an order of its own: the bytes stay, and the values move to the columns that they then mean. */
void matrix_reorder(struct matrix *m);
void matrix_free(struct matrix *m);
/* NULL for NULL. */
struct weight *matrix_load(const struct rig *r, const struct matrix *m);

/* ---- references ---- */

/* The values of x that a product with weights of this type sees: activations that meet quantised
 * weights are quantised by the rule of kernels/cpu/isa.h. */
void reference_input(const struct qtype *type, const float *x, size_t n, double *out);
/* The same for a slice of a matrix, whose columns may be in another order while x is quantised. */
void matrix_input(const struct matrix *m, uint32_t slice, const float *x, double *out);
/* The product, and the sum of the magnitudes of its terms. */
double reference_dot(const float *w, const double *x, size_t n, double *magnitude);
/* Fails, naming the place, unless |got - want| <= bound. */
void check_near(const char *what, size_t row, size_t i, double got, double want, double bound);

/* ---- bits ---- */

typedef void (*case_fn)(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out);

/* Rows 0..n_rows of a case on `isa`, `width` floats each, into `out`; fails unless every way to cut them
 * gives the same bits. */
void rig_check_bits(const char *isa, case_fn run, const void *arg, uint32_t n_rows, size_t width, float *out);

#endif
