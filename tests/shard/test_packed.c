/* test_packed: quantised checkpoints' matrices against the floats that they stand for, and what is refused.
 *
 * tests/data/packed holds a case a file, made by make_packed.py: rows must hold exactly the floats beside them. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shard/format/packed.h"

#define FOLDER "tests/data/packed"

enum { TENSORS_MAX = 8, CASES_MAX = 64, COLS_MAX = 512, NAME_BYTES = 256 };

static void *allocate(size_t n)
{
    void *p = malloc(n ? n : 1);
    assert_non_null(p);
    return p;
}

/* ---- a case: tensors that can be changed, each in a buffer of its own ---- */

struct packed_case {
    struct safetensors *file;
    struct packed *packed;
    struct st_tensor tensors[TENSORS_MAX];
    uint8_t *bytes[TENSORS_MAX];
    size_t n;
    const float *want;
    const char *name, *type;
    uint64_t cols;
};

static const struct st_tensor *find_tensor(void *arg, const char *name)
{
    struct packed_case *c = arg;
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->tensors[i].name, name) == 0)
            return &c->tensors[i];
    return NULL;
}

static uint8_t *bytes_of(const struct packed_case *c, const struct st_tensor *t)
{
    return t ? c->bytes[t - c->tensors] : NULL;
}

static void open_config(struct packed_case *c, const char *text)
{
    json_error_t wrong;
    struct error e = {0};
    json_t *config = json_loads(text, 0, &wrong);
    assert_non_null(config);
    if (packed_open(&c->packed, config, &e) != 0)
        fail_msg("%s", e.text);
    assert_non_null(c->packed);
    json_decref(config);
}

static void case_open(struct packed_case *c, const char *file)
{
    char path[512];
    struct error e = {0};
    memset(c, 0, sizeof(*c));
    snprintf(path, sizeof(path), FOLDER "/%s", file);
    if (safetensors_open(&c->file, path, &e) != 0)
        fail_msg("%s", e.text);
    for (size_t i = 0; i < safetensors_count(c->file); i++) {
        const struct st_tensor *t = safetensors_at(c->file, i);
        assert_true(c->n < TENSORS_MAX);
        c->tensors[c->n] = *t;
        c->bytes[c->n] = allocate(t->bytes);
        memcpy(c->bytes[c->n++], safetensors_bytes(c->file, t), t->bytes);
    }
    c->want = (const float *)(const void *)bytes_of(c, find_tensor(c, "want"));
    c->name = safetensors_meta(c->file, "name");
    c->type = safetensors_meta(c->file, "type");
    c->cols = strtoull(safetensors_meta(c->file, "cols"), NULL, 10);
    open_config(c, safetensors_meta(c->file, "config"));
}

static void case_close(struct packed_case *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->bytes[i]);
    packed_close(&c->packed);
    safetensors_close(&c->file);
}

/* All cases' files, in order of name. */
static size_t list_cases(char names[CASES_MAX][NAME_BYTES])
{
    struct dirent **list;
    size_t n = 0;
    int all = scandir(FOLDER, &list, NULL, alphasort);
    assert_true(all > 0);
    for (int i = 0; i < all; i++) {
        if (strstr(list[i]->d_name, ".safetensors")) {
            assert_true(n < CASES_MAX);
            snprintf(names[n++], NAME_BYTES, "%s", list[i]->d_name);
        }
        free(list[i]);
    }
    free(list);
    return n;
}

/* ---- values ---- */

struct loaded {
    struct packed_matrix m;
    struct packed_bytes b;
    uint32_t order[COLS_MAX];
    bool ordered;
};

static int load(struct packed_case *c, struct loaded *l, struct error *e)
{
    int r = packed_find(c->packed, c->name, c->cols, find_tensor, c, &l->m, e);
    if (r != 0 || !l->m.type || l->m.cols > COLS_MAX)
        return r;
    for (int i = 0; i < PACKED_PARTS; i++)
        l->b.at[i] = bytes_of(c, l->m.parts[i]);
    return packed_order(&l->m, &l->b, l->order, &l->ordered, e);
}

static int read_rows(const struct loaded *l, uint64_t slice, uint64_t row, uint64_t n, float *out, struct error *e)
{
    const struct packed_matrix *m = &l->m;
    size_t bytes = n * qtype_row_bytes(m->type, m->cols);
    uint8_t *blocks = allocate(bytes);
    float *placed = allocate(m->cols * sizeof(float));
    int r = packed_rows(m, &l->b, l->ordered ? l->order : NULL, slice, row, n, blocks, e);
    for (uint64_t i = 0; r == 0 && i < n; i++) {
        m->type->to_f32(blocks + i * qtype_row_bytes(m->type, m->cols), placed, m->cols);
        for (uint64_t k = 0; k < m->cols; k++)
            out[i * m->cols + (l->ordered ? l->order[k] : k)] = placed[k];
    }
    free(placed);
    free(blocks);
    return r;
}

static void check_case(const char *file)
{
    struct packed_case c;
    struct loaded l = {.ordered = false};
    struct error e = {0};
    case_open(&c, file);
    if (load(&c, &l, &e) != 0)
        fail_msg("%s: %s", file, e.text);
    const struct st_tensor *want = find_tensor(&c, "want");
    const struct packed_matrix *m = &l.m;
    assert_non_null(m->type);
    assert_string_equal(m->type->name, c.type);
    assert_int_equal(m->cols, want->shape[want->n_dims - 1]);
    assert_int_equal(m->rows, want->shape[want->n_dims - 2]);
    assert_int_equal(m->slices, want->n_dims == 3 ? want->shape[0] : 1);
    assert_int_equal(l.ordered, strstr(file, "act") || strstr(file, "order"));
    float *got = allocate(m->rows * m->cols * sizeof(float));
    for (uint64_t s = 0; s < m->slices; s++) {
        for (uint64_t row = 0, n; row < m->rows; row += n) { /* by ones, twos, threes ... */
            n = row % 3 + 1 < m->rows - row ? row % 3 + 1 : m->rows - row;
            if (read_rows(&l, s, row, n, got + row * m->cols, &e) != 0)
                fail_msg("%s: %s", file, e.text);
        }
        const float *floats = c.want + s * m->rows * m->cols;
        for (uint64_t i = 0; i < m->rows * m->cols; i++)
            if (got[i] != floats[i])
                fail_msg("%s: value %llu of slice %llu is %a, not %a", file, (unsigned long long)i,
                         (unsigned long long)s, (double)got[i], (double)floats[i]);
    }
    struct packed_matrix same;
    assert_int_equal(packed_find(c.packed, c.name, 0, find_tensor, &c, &same, &e), 0);
    assert_memory_equal(&same, m, sizeof(same));
    for (uint64_t row = 0; row < m->rows; row++) {
        float some[7];
        assert_int_equal(packed_values(m, &l.b, m->slices - 1, row, 5, COUNTOF(some), some, &e), 0);
        assert_memory_equal(some, got + row * m->cols + 5, sizeof(some));
    }
    print_message("    %s: %s, %.3f bits a weight\n", file, m->type->name,
                  8.0 * m->type->block_bytes / m->type->block_len);
    free(got);
    case_close(&c);
}

static void test_packed_rows_are_the_floats(void **state)
{
    (void)state;
    char names[CASES_MAX][NAME_BYTES];
    size_t n = list_cases(names);
    assert_true(n > 35);
    for (size_t i = 0; i < n; i++)
        check_case(names[i]);
}

/* ---- configs ---- */

#define GROUP(weights) "\"config_groups\":{\"g\":{\"targets\":[\"Linear\"],\"weights\":" weights "}}"

static const struct {
    const char *config, *words;
} bad_configs[] = {
    {"{\"quantization_config\":7}", "is no object"},
    {"{\"quantization_config\":{}}", "does not say by which method"},
    {"{\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}", "quantised by bitsandbytes, which"},
    {"{\"text_config\":{\"quantization_config\":{\"quant_method\":\"hqq\"}}}", "quantised by hqq, which"},
    {"{\"quantization_config\":{\"quant_method\":\"gptq\"}}", "GPTQ with -1 bits"},
    {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":5}}", "GPTQ with 5 bits"},
    {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":\"4\"}}", "bits of the quantisation is not a"},
    {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":-2}}", "group_size of the"},
    {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"marlin\"}}",
     "GPTQ in the format marlin"},
    {"{\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":8}}", "AWQ with 8 bits"},
    {"{\"quantization_config\":{\"quant_method\":\"awq\",\"version\":\"gemv\"}}", "AWQ in the version gemv"},
    {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}}", "FP8 of the kind e5m2"},
    {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}}", "is not two sizes"},
    {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,0]}}", "is not two sizes"},
    {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"marlin-24\"}}",
     "in the format marlin-24"},
    {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"nvfp4-pack-quantized\"}}",
     "in the format nvfp4-pack-quantized"},
    {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\"}}", "without groups"},
    {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\"," GROUP("null") "}}", "activations alone"},
    {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\"," GROUP("{\"num_bits\":9}") "}}", "num_bits"},
    {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\","
     GROUP("{\"num_bits\":4,\"actorder\":\"sideways\"}") "}}", "order of columns sideways"},
    {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"sparsity_config\":{\"format\":"
     "\"sparse-24-bitmask\"}," GROUP("{\"num_bits\":4}") "}}", "sparse weights (sparse-24-bitmask)"},
};

static void test_packed_open_refuses_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(bad_configs); i++) {
        json_error_t wrong;
        struct error e = {0};
        struct packed *p = (void *)&p;
        json_t *config = json_loads(bad_configs[i].config, 0, &wrong);
        assert_non_null(config);
        assert_true(packed_open(&p, config, &e) < 0);
        assert_null(p);
        if (!strstr(e.text, bad_configs[i].words))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.text, bad_configs[i].words);
        json_decref(config);
    }
}

static void test_packed_open_sees_when_nothing_is_quantised(void **state)
{
    (void)state;
    static const char *const configs[] = {"{}", "{\"quantization_config\":null}", "{\"text_config\":{}}"};
    for (size_t i = 0; i < COUNTOF(configs); i++) {
        struct packed *p = (void *)&p;
        json_t *config = json_loads(configs[i], 0, NULL);
        assert_int_equal(packed_open(&p, config, NULL), 0);
        assert_null(p);
        json_decref(config);
    }
}

/* What has a float weight, or nothing at all, is not packed. */
static void test_packed_find_leaves_plain_modules_alone(void **state)
{
    (void)state;
    static const char *const files[] = {"gptq4_v2", "awq4", "fp8_row", "tensors_int4", "mxfp4"};
    for (size_t i = 0; i < COUNTOF(files); i++) {
        char file[NAME_BYTES];
        struct packed_case c;
        struct packed_matrix m;
        snprintf(file, sizeof(file), "%s.safetensors", files[i]);
        case_open(&c, file);
        assert_int_equal(packed_find(c.packed, "lm_head.weight", 64, find_tensor, &c, &m, NULL), 0);
        assert_null(m.type);
        struct st_tensor *t = &c.tensors[0];
        *t = (struct st_tensor){.name = "lm_head.weight", .dtype = ST_BF16, .n_dims = 2, .shape = {4, 64}};
        assert_int_equal(packed_find(c.packed, "lm_head.weight", 64, find_tensor, &c, &m, NULL), 0);
        assert_null(m.type);
        case_close(&c);
    }
}

/* ---- tensors that are wrong ---- */

static void gone(struct st_tensor *t, uint8_t *b) { (void)b; t->name = "elsewhere"; }
static void flat(struct st_tensor *t, uint8_t *b) { (void)b; t->n_dims = 1; }
static void taller(struct st_tensor *t, uint8_t *b) { (void)b; t->shape[0]++; }
static void wider(struct st_tensor *t, uint8_t *b) { (void)b; t->shape[t->n_dims - 1]++; }
static void doubles(struct st_tensor *t, uint8_t *b) { (void)b; t->dtype = ST_F64; }
static void group_9(struct st_tensor *t, uint8_t *b) { (void)t; b[4] = 9; }
static void group_minus(struct st_tensor *t, uint8_t *b) { (void)t; memset(b + 8, 0xff, 4); }
static void swap_sides(struct st_tensor *t, uint8_t *b) { (void)t; b[0]++; }
static void scale_nan(struct st_tensor *t, uint8_t *b) { (void)t; memset(b, 0xff, 4); }
static void code_nan(struct st_tensor *t, uint8_t *b) { (void)t; b[3] = 0xff; }

static const struct {
    const char *file, *tensor; /* the end of its name */
    void (*change)(struct st_tensor *t, uint8_t *bytes);
    const char *words;
} bad_tensors[] = {
    {"gptq4_v2", ".scales", gone, ".scales is missing"},
    {"gptq4_v2", ".qzeros", gone, ".qzeros is missing"},
    {"gptq4_v2", ".qweight", flat, "ought to be an I32 matrix"},
    {"gptq4_v2", ".qweight", taller, "does not hold the matrix's columns in 2, 3, 4 or 8 bits"},
    {"gptq4_v2", ".qweight", wider, "does not hold the matrix's columns"},
    {"gptq4_v2", ".scales", taller, "ought to be 2 x 8"},
    {"gptq4_v2", ".scales", doubles, "which can be F16, BF16, F32"},
    {"gptq4_v2", ".qzeros", wider, "ought to be 2 x 1"},
    {"gptq4_v2", ".g_idx", wider, "have a value for each column"},
    {"gptq4_v2", ".g_idx", group_9, "puts column 1 in group 9 of 2"},
    {"gptq4_v2", ".g_idx", group_minus, "puts column 2 in group -1 of 2"},
    {"gptq4_v2", ".scales", scale_nan, "scale 0 is not a number"},
    {"awq4", ".qweight", taller, "ought to be 192 x 2"},
    {"awq4", ".qweight", wider, "ought to be 3 x 24"},
    {"fp8_block", ".weight", wider, "ought to be 10 x 352"},
    {"fp8_block", ".weight", flat, "ought to be a matrix"},
    {"fp8_block", ".weight_scale_inv", gone, ".weight_scale is missing"},
    {"fp8_block", ".weight_scale_inv", wider, "for another grouping than the config says"},
    {"fp8_block", ".weight_scale_inv", scale_nan, "scale 0 is not a number"},
    {"fp8_block", ".weight", code_nan, "row 0 holds what is not a number"},
    {"fp8_odd", ".weight", code_nan, "row 0 holds what is not a number"},
    {"tensors_int4", ".weight_packed", wider, "as any group of the config says"},
    {"tensors_int4", ".weight_packed", doubles, "ought to be I32 or U8"},
    {"tensors_int4", ".weight_scale", wider, "as any group of the config says"},
    {"tensors_int4", ".weight_shape", wider, "ought to be two integers"},
    {"tensors_int4", ".weight_shape", swap_sides, "says 10 x 96; the matrix is 9 x 96"},
    {"tensors_int4_zeros", ".weight_zero_point", taller, "ought to be 2 x 2"},
    {"tensors_int4_order", ".weight_g_idx", wider, "have a value for each column"},
    {"tensors_int4_order", ".weight_g_idx", group_9, "puts column 1 in group 9 of 3"},
    {"tensors_fp8_zeros", ".weight_zero_point", swap_sides, "FP8 weights with zero points"},
    {"fp8_block_exponents", ".weight_scale_inv", scale_nan, "scale 0 is not a number"},
    {"tensors_bytes", ".weight_zero_point", taller, "ought to be 5 x 1"},
    {"tensors_bytes", ".weight_scale", gone, ".weight_scale is missing"},
    {"mxfp4", "_blocks", wider, "in blocks of 32"},
    {"mxfp4", "_blocks", flat, "in blocks of 32"},
    {"mxfp4", "_scales", gone, "_scales is missing"},
    {"mxfp4", "_scales", taller, "ought to be"},
    {"mxfp4", "_scales", scale_nan, "a scale of row 0 is not a number"},
};

static struct st_tensor *tensor_ending(struct packed_case *c, const char *ending)
{
    for (size_t i = 0; i < c->n; i++) {
        size_t len = strlen(c->tensors[i].name), cut = strlen(ending);
        if (len >= cut && strcmp(c->tensors[i].name + len - cut, ending) == 0)
            return &c->tensors[i];
    }
    return NULL;
}

/* Find, order and all rows. */
static int read_all(struct packed_case *c, struct error *e)
{
    struct loaded l = {.ordered = false};
    int r = load(c, &l, e);
    if (r != 0 || !l.m.type || l.m.cols > COLS_MAX)
        return r;
    float *out = allocate(l.m.cols * sizeof(float));
    for (uint64_t i = 0; r == 0 && i < l.m.slices * l.m.rows; i++)
        r = read_rows(&l, i / l.m.rows, i % l.m.rows, 1, out, e);
    free(out);
    return r;
}

static void test_packed_refuses_what_is_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(bad_tensors); i++) {
        char file[NAME_BYTES];
        struct packed_case c;
        struct error e = {0};
        snprintf(file, sizeof(file), "%s.safetensors", bad_tensors[i].file);
        case_open(&c, file);
        struct st_tensor *t = tensor_ending(&c, bad_tensors[i].tensor);
        assert_non_null(t);
        bad_tensors[i].change(t, bytes_of(&c, t));
        if (read_all(&c, &e) >= 0 || !strstr(e.text, bad_tensors[i].words))
            fail_msg("%s, %s: \"%s\" does not say \"%s\"", file, bad_tensors[i].tensor, e.text, bad_tensors[i].words);
        case_close(&c);
    }
}

/* Groups of other sizes than blocks have. */
static void test_packed_refuses_groups_that_blocks_cannot_hold(void **state)
{
    (void)state;
    struct packed_case c;
    struct error e = {0};
    case_open(&c, "gptq4_act.safetensors");
    int32_t *groups = (int32_t *)(void *)bytes_of(&c, tensor_ending(&c, ".g_idx"));
    for (size_t i = 0; i < c.cols; i++)
        groups[i] = i % 5 == 0;
    assert_int_equal(read_all(&c, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "are no multiple of 128"));
    case_close(&c);
}

static void test_packed_rows_past_the_end_are_refused(void **state)
{
    (void)state;
    struct packed_case c;
    struct loaded l = {.ordered = false};
    uint8_t out[8];
    case_open(&c, "gptq4_v2.safetensors");
    assert_int_equal(load(&c, &l, NULL), 0);
    assert_int_equal(packed_rows(&l.m, &l.b, NULL, 0, 8, 1, out, NULL), ERR_INVALID);
    assert_int_equal(packed_rows(&l.m, &l.b, NULL, 0, 1, UINT64_MAX, out, NULL), ERR_INVALID);
    assert_int_equal(packed_rows(&l.m, &l.b, NULL, 1, 0, 1, out, NULL), ERR_INVALID);
    assert_int_equal(packed_rows(&l.m, &l.b, NULL, 0, 8, 0, out, NULL), 0);
    float value;
    assert_int_equal(packed_values(&l.m, &l.b, 0, 0, c.cols, 1, &value, NULL), ERR_INVALID);
    assert_int_equal(packed_values(&l.m, &l.b, 0, 8, 0, 1, &value, NULL), ERR_INVALID);
    case_close(&c);
}

/* ---- any shapes, any bytes ---- */

static uint32_t random_bits(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* One tensor with another shape or dtype and bytes to match, as a file could have it. */
static void change_tensor(struct packed_case *c, uint64_t *state)
{
    static const enum st_dtype dtypes[] = {ST_I32, ST_F16, ST_BF16, ST_F32, ST_U8, ST_I8, ST_F8_E4M3, ST_I64};
    size_t i = random_bits(state) % c->n;
    struct st_tensor *t = &c->tensors[i];
    uint64_t *side = &t->shape[random_bits(state) % (t->n_dims ? t->n_dims : 1)];
    switch (random_bits(state) % 6) {
    case 0: *side += 1; break;
    case 1: *side -= *side > 0; break;
    case 2: *side = *side * 2; break;
    case 3: *side = random_bits(state) % 3; break;
    case 4: t->n_dims = random_bits(state) % 5; break;
    default: t->dtype = dtypes[random_bits(state) % COUNTOF(dtypes)]; break;
    }
    t->bytes = st_dtype_bytes(t->dtype);
    for (uint32_t d = 0; d < t->n_dims; d++)
        t->bytes *= t->shape[d];
    free(c->bytes[i]);
    c->bytes[i] = allocate(t->bytes);
    for (uint64_t k = 0; k < t->bytes; k++)
        c->bytes[i][k] = (uint8_t)(random_bits(state) % 8 ? k % 4 == 0 : random_bits(state));
}

static void test_packed_takes_any_shapes_and_bytes(void **state)
{
    (void)state;
    char names[CASES_MAX][NAME_BYTES];
    size_t n = list_cases(names), refused = 0;
    uint64_t seed = 11;
    for (size_t i = 0; i < 12 * n; i++) {
        struct packed_case c;
        struct error e = {0};
        case_open(&c, names[i % n]);
        for (uint32_t k = random_bits(&seed) % 2; k < 2; k++)
            change_tensor(&c, &seed);
        c.cols = i % 3 ? c.cols : 0;
        int r = read_all(&c, &e);
        refused += r != 0;
        assert_true(r == 0 || e.text[0] != '\0');
        case_close(&c);
    }
    assert_true(refused > n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed_rows_are_the_floats),
        cmocka_unit_test(test_packed_open_refuses_by_name),
        cmocka_unit_test(test_packed_open_sees_when_nothing_is_quantised),
        cmocka_unit_test(test_packed_find_leaves_plain_modules_alone),
        cmocka_unit_test(test_packed_refuses_what_is_wrong),
        cmocka_unit_test(test_packed_refuses_groups_that_blocks_cannot_hold),
        cmocka_unit_test(test_packed_rows_past_the_end_are_refused),
        cmocka_unit_test(test_packed_takes_any_shapes_and_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
