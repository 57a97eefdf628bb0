/* test_assembly: chunks become rows; whatever does not fit what chunk 0 said is refused, and the next step is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "node/assembly.h"

enum { WIDTH = 8, ROWS = 16 };

/* Rows of a step and their values, counted up from `first`. */
static struct frame_row rows[ROWS + 1];
static float values[(ROWS + 1) * WIDTH];

static int open_assembly(void **state)
{
    static struct assembly a;
    for (size_t i = 0; i < ROWS + 1; i++)
        rows[i] = (struct frame_row){.sequence = 5, .epoch = 1, .position = (uint32_t)i, .token = (int32_t)i};
    for (size_t i = 0; i < COUNTOF(values); i++)
        values[i] = (float)i;
    *state = &a;
    return assembly_init(&a, ROWS, WIDTH, NULL);
}

static int close_assembly(void **state)
{
    assembly_close(*state);
    return 0;
}

/* Chunk `c` of `chunks` of a step of n rows, cut evenly; chunk 0 has the metadata. */
static struct frame chunk_of(uint64_t step, uint32_t n, uint16_t c, uint16_t chunks)
{
    size_t bytes = (size_t)n * WIDTH * sizeof(float), each = bytes / chunks;
    struct frame f = {.header = {.kind = FRAME_STEP, .route = 1, .step = step, .rows = n, .width = WIDTH,
                                 .chunk = c, .chunks = chunks, .dtype = FRAME_F32},
                      .data = (const uint8_t *)values + c * each,
                      .data_bytes = c + 1 == chunks ? bytes - c * each : each};
    if (c == 0) {
        f.rows = rows;
        f.n_rows = n;
    }
    return f;
}

static int add(struct assembly *a, struct frame f, bool *complete)
{
    struct error e = {0};
    int r = assembly_add(a, &f, WIDTH, ROWS, complete, &e);
    assert_true((r == 0) == (e.text[0] == 0));
    assert_true(r == 0 || !*complete);
    return r;
}

static void expect_step(struct assembly *a, uint64_t step, uint32_t n)
{
    bool complete = false;
    assert_int_equal(add(a, chunk_of(step, n, 0, 1), &complete), 0);
    assert_true(complete);
    assert_int_equal(a->n_rows, n);
    assert_int_equal(a->header.step, step);
    assert_memory_equal(a->rows, rows, n * sizeof(rows[0]));
    assert_memory_equal(a->data, values, (size_t)n * WIDTH * sizeof(float));
}

static void test_chunks_become_rows(void **state)
{
    struct assembly *a = *state;
    static const uint16_t counts[] = {1, 2, 3, 7, 16};
    for (size_t i = 0; i < COUNTOF(counts); i++) {
        memset(a->data, 0xFF, (size_t)ROWS * WIDTH * sizeof(float));
        for (uint16_t c = 0; c < counts[i]; c++) {
            bool complete;
            assert_int_equal(add(a, chunk_of(i, ROWS, c, counts[i]), &complete), 0);
            assert_int_equal(complete, c + 1 == counts[i]);
        }
        assert_memory_equal(a->data, values, (size_t)ROWS * WIDTH * sizeof(float));
    }
}

static void test_half_floats_are_widened(void **state)
{
    struct assembly *a = *state;
    static const enum frame_dtype types[] = {FRAME_F16, FRAME_BF16};
    for (size_t i = 0; i < COUNTOF(types); i++) {
        uint8_t packed[2 * WIDTH * 2];
        bool complete;
        struct frame f = chunk_of(1, 2, 0, 1);
        frame_pack(types[i], values, packed, 2 * WIDTH);
        f.header.dtype = (uint8_t)types[i];
        f.data = packed;
        f.data_bytes = sizeof(packed);
        assert_int_equal(add(a, f, &complete), 0);
        assert_true(complete);
        assert_memory_equal(a->data, values, 2 * WIDTH * sizeof(float)); /* small whole numbers are exact */
    }
}

static void test_token_steps_and_empty_steps_have_no_data(void **state)
{
    struct assembly *a = *state;
    bool complete;
    struct frame f = {.header = {.kind = FRAME_STEP, .route = 1, .step = 4, .rows = 3, .chunks = 1},
                      .rows = rows, .n_rows = 3};
    assert_int_equal(assembly_add(a, &f, 0, ROWS, &complete, NULL), 0);
    assert_true(complete);
    uint64_t end = 77;
    struct frame ends = {.header = {.kind = FRAME_STEP, .route = 1, .step = 5, .chunks = 1}, .ends = &end, .n_ends = 1};
    assert_int_equal(add(a, ends, &complete), 0);
    assert_true(complete);
    assert_int_equal(a->n_rows, 0);
    assert_int_equal(a->ends[0], 77);
}

static void test_biases_outlive_the_frame(void **state)
{
    struct assembly *a = *state;
    bool complete;
    struct frame_bias *bias = mem_array(FRAME_BIAS_MAX, sizeof(*bias));
    struct frame_open opens[2] = {{.sequence = 1, .n_bias = 3, .bias = bias},
                                  {.sequence = 2, .n_bias = FRAME_BIAS_MAX - 3, .bias = bias + 3}};
    for (int i = 0; i < FRAME_BIAS_MAX; i++)
        bias[i] = (struct frame_bias){i, (float)i};
    struct frame f = chunk_of(1, 1, 0, 1);
    f.opens = opens;
    f.n_opens = 2;
    assert_int_equal(add(a, f, &complete), 0);
    memset(bias, 0, FRAME_BIAS_MAX * sizeof(*bias));
    memset(opens, 0, sizeof(opens));
    mem_free(bias);
    assert_int_equal(a->n_opens, 2);
    assert_int_equal(a->opens[0].bias[2].token, 2);
    assert_int_equal(a->opens[1].bias[0].token, 3);
    assert_int_equal(a->opens[1].bias[FRAME_BIAS_MAX - 4].token, FRAME_BIAS_MAX - 1);
}

/* A spoiled second chunk ends the step; its rest is refused as well, the next step is taken. */
static void test_a_chunk_that_lies_ends_its_step(void **state)
{
    struct assembly *a = *state;
    enum { STEP, ROUTE, CHUNK, CHUNKS, DTYPE, MORE, LESS, CASES };
    for (int kind = 0; kind < CASES; kind++) {
        bool complete;
        assert_int_equal(add(a, chunk_of(9, ROWS, 0, 2), &complete), 0);
        struct frame f = chunk_of(9, ROWS, 1, 2);
        f.header.step += kind == STEP;
        f.header.route += kind == ROUTE;
        f.header.chunk += kind == CHUNK;
        f.header.chunks += kind == CHUNKS;
        f.header.dtype += kind == DTYPE;
        f.data_bytes += kind == MORE ? sizeof(float) : 0;
        f.data_bytes -= kind == LESS ? sizeof(float) : 0;
        assert_int_equal(add(a, f, &complete), ERR_CORRUPT);
        assert_int_equal(add(a, chunk_of(9, ROWS, 1, 2), &complete), ERR_CORRUPT);
        expect_step(a, 10, 3);
    }
}

static void test_a_first_chunk_that_lies_is_refused(void **state)
{
    struct assembly *a = *state;
    bool complete;
    struct frame f = chunk_of(1, ROWS, 0, 1);
    struct frame_row many[ROWS + 1];
    memcpy(many, rows, sizeof(many));
    f.rows = many;
    f.n_rows = ROWS + 1;
    assert_int_equal(add(a, f, &complete), ERR_LIMIT);
    f = chunk_of(1, 2, 0, 1);
    f.header.width = WIDTH + 1;
    assert_int_equal(add(a, f, &complete), ERR_CORRUPT);
    f = chunk_of(1, 2, 0, 1);
    assert_int_equal(assembly_add(a, &f, 0, ROWS, &complete, NULL), ERR_CORRUPT); /* rows where tokens are due */
    f = chunk_of(1, 2, 0, 1);
    f.data_bytes += 1;
    assert_int_equal(add(a, f, &complete), ERR_CORRUPT);
    struct frame_trace traces[FRAME_STAGES_MAX] = {{0}};
    f = chunk_of(1, 2, 0, 1);
    f.traces = traces;
    f.n_traces = FRAME_STAGES_MAX; /* no room for ours */
    assert_int_equal(add(a, f, &complete), ERR_CORRUPT);
    assert_int_equal(add(a, chunk_of(1, 2, 1, 2), &complete), ERR_CORRUPT); /* no beginning */
    expect_step(a, 2, 2);
}

/* A step that begins while another is open takes its place: its sender has given the other up. */
static void test_a_new_step_replaces_an_unfinished_one(void **state)
{
    struct assembly *a = *state;
    bool complete;
    assert_int_equal(add(a, chunk_of(1, ROWS, 0, 4), &complete), 0);
    assert_int_equal(add(a, chunk_of(1, ROWS, 1, 4), &complete), 0);
    expect_step(a, 2, 5);
    assert_int_equal(add(a, chunk_of(1, ROWS, 2, 4), &complete), ERR_CORRUPT);
    expect_step(a, 3, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_assembly, close_assembly)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_chunks_become_rows),
        TEST(test_half_floats_are_widened),
        TEST(test_token_steps_and_empty_steps_have_no_data),
        TEST(test_biases_outlive_the_frame),
        TEST(test_a_chunk_that_lies_ends_its_step),
        TEST(test_a_first_chunk_that_lies_is_refused),
        TEST(test_a_new_step_replaces_an_unfinished_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
