/* test_lora: thin pairs added to the rows of a batch that ask for them, against plain sums in doubles. */
#include "tests/kernels/rig.h"

enum { ROWS = 150, GROUPS = 3 }; /* rows: more than go through a pair at once */

/* Rows are in turn of no pair, and of each pair. */
struct lora_case {
    struct matrix a[GROUPS], b[GROUPS];
    uint32_t slices;
    const float *x, *y; /* [ROWS][slices * cols + 1], [ROWS][slices * rows + 2]: rows lie apart */
};

static void run_lora(const struct rig *r, const void *arg, uint32_t first, uint32_t n, float *out)
{
    const struct lora_case *c = arg;
    uint32_t x_row = c->slices * c->a[0].cols + 1, y_row = c->slices * c->b[0].rows + 2, lists[GROUPS][ROWS];
    struct lora_group groups[GROUPS];
    for (uint32_t g = 0; g < GROUPS; g++) {
        groups[g] = (struct lora_group){.a = matrix_load(r, &c->a[g]), .b = matrix_load(r, &c->b[g]),
                                        .rows = lists[g]};
        for (uint32_t i = 0; i < n; i++)
            if ((first + i) % (GROUPS + 1) == g + 1)
                lists[g][groups[g].n_rows++] = i;
    }
    struct span x = rig_span(r, c->x + (size_t)first * x_row, (size_t)n * x_row);
    struct span y = rig_span(r, c->y + (size_t)first * y_row, (size_t)n * y_row);
    struct lora_args a = {.x = x, .y = y, .x_row = x_row, .x_slice = c->a[0].cols, .y_row = y_row,
                          .y_slice = c->b[0].rows, .slices = c->slices, .groups = groups, .n_groups = GROUPS};
    r->b->lora(r->d, &a);
    rig_take(r, y, out, (size_t)n * y_row);
    r->b->mem_destroy(r->d, x.mem);
    for (uint32_t g = 0; g < GROUPS; g++) {
        r->b->weight_destroy(r->d, (struct weight *)(uintptr_t)groups[g].a);
        r->b->weight_destroy(r->d, (struct weight *)(uintptr_t)groups[g].b);
    }
}

static void check_slice(const struct lora_case *c, uint32_t g, uint32_t slice, size_t row, const float *out)
{
    const struct matrix *a = &c->a[g], *b = &c->b[g];
    size_t x_row = c->slices * a->cols + 1, y_row = c->slices * b->rows + 2;
    double x[RIG_COLS_MAX], low[RIG_COLS_MAX], magnitude;
    float rounded[RIG_COLS_MAX];
    reference_input(a->type, c->x + row * x_row + slice * a->cols, a->cols, x);
    for (uint32_t i = 0; i < a->rows; i++)
        rounded[i] = (float)reference_dot(a->values + ((a->slices > 1 ? slice * a->rows : 0) + i) * a->cols, x, a->cols,
                                          &magnitude);
    reference_input(b->type, rounded, b->cols, low);
    for (uint32_t i = 0; i < b->rows; i++) {
        double sum = reference_dot(b->values + ((b->slices > 1 ? slice * b->rows : 0) + i) * b->cols, low, b->cols,
                                   &magnitude);
        double before = (double)c->y[row * y_row + slice * b->rows + i];
        double bound = (b->type->block_len > 1 ? 2e-2 : 1e-4) * (magnitude + fabs(before)) + 1e-6;
        check_near("lora", row, i, (double)out[row * y_row + slice * b->rows + i], before + sum, bound);
    }
}

static void check_case(const struct lora_case *c, const float *out)
{
    size_t y_row = c->slices * c->b[0].rows + 2;
    for (size_t row = 0; row < ROWS; row++) {
        size_t turn = row % (GROUPS + 1), kept = turn == 0 ? 0 : y_row - 2;
        assert_memory_equal(out + row * y_row + kept, c->y + row * y_row + kept, (y_row - kept) * sizeof(float));
        for (uint32_t s = 0; turn > 0 && s < c->slices; s++)
            check_slice(c, (uint32_t)turn - 1, s, row, out);
    }
}

/* Ranks differ; of a stack, one pair has matrices that all slices share. */
static void run_case(uint32_t type, uint32_t cols, uint32_t rows, uint32_t slices)
{
    struct lora_case c = {.slices = slices};
    uint32_t block = qtype_find(type)->block_len;
    for (uint32_t g = 0; g < GROUPS; g++) {
        uint32_t rank = block > 1 ? block * (g + 1) : 1 + 7 * g;
        matrix_make(&c.a[g], type, rank, cols, g == 1 ? 1 : slices);
        matrix_make(&c.b[g], type, rows, rank, g == 2 ? 1 : slices);
    }
    size_t x_row = slices * cols + 1, y_row = slices * rows + 2;
    float *x = rig_random(1, ROWS * x_row, 2), *y = rig_random(2, ROWS * y_row, 2);
    float *out = rig_alloc(ROWS * y_row * sizeof(*out));
    c.x = x;
    c.y = y;
    for (size_t s = 0; rig_isa(s); s++) {
        rig_check_bits(rig_isa(s), run_lora, &c, ROWS, y_row, out);
        check_case(&c, out);
    }
    for (uint32_t g = 0; g < GROUPS; g++) {
        matrix_free(&c.a[g]);
        matrix_free(&c.b[g]);
    }
    free(x);
    free(y);
    free(out);
}

static void test_lora_adds_to_the_rows_that_ask(void **state)
{
    (void)state;
    run_case(QTYPE_F32, 96, 200, 1);
    run_case(QTYPE_F32, 7, 3, 1);
    run_case(QTYPE_F16, 96, 65, 1);
    run_case(QTYPE_BF16, 96, 65, 1);
    run_case(QTYPE_Q8_0, 96, 200, 1);
}

static void test_lora_adds_to_every_slice(void **state)
{
    (void)state;
    run_case(QTYPE_F32, 24, 40, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lora_adds_to_the_rows_that_ask),
        cmocka_unit_test(test_lora_adds_to_every_slice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
