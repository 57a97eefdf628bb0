/* test_adapter_file: adapter files: what a good one gives, and the sentence that refuses each kind of bad one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shard/arch/adapter.h"
#include "shard/arch/synth.h"
#include "tests/shard/folder.h"
#include "tests/shard/raw.h"

enum { EMBD = 32, FFN = 48, HEADS = 2, EXPERTS = 4, RANK = 3 };

static struct model *open_model(const char *family, bool experts)
{
    struct synth_options o = {.family = family, .layers = 2, .hidden = EMBD, .heads = HEADS, .ffn = FFN, .vocab = 50,
                              .context = 64, .type = "f32", .experts = experts ? EXPERTS : 0,
                              .experts_used = experts ? 2 : 0, .expert_ffn = experts ? FFN : 0};
    struct error e = {0};
    struct model *m;
    if (synth_write(folder_path("model.gguf"), &o, &e) != 0 || model_open(&m, folder_path("model.gguf"), &e) != 0)
        fail_msg("%s", e.text);
    return m;
}

/* ---- writing ---- */

static void begin(struct raw *r)
{
    raw_open(r);
    raw_string(r, "general.type", "adapter");
    raw_string(r, "general.architecture", "llama");
    raw_string(r, "adapter.type", "lora");
    raw_f32(r, "adapter.lora.alpha", 6);
}

/* A tensor of floats that count up from `first`. */
static void add(struct raw *r, const char *name, uint64_t cols, uint64_t rows, uint64_t slices, float first)
{
    static float values[FFN * EMBD * EXPERTS];
    const uint64_t ne[] = {cols, rows, slices};
    size_t n = (size_t)(cols * rows * slices);
    assert_true(n <= COUNTOF(values));
    for (size_t i = 0; i < n; i++)
        values[i] = first + (float)i;
    raw_tensor(r, name, QTYPE_F32, slices > 1 ? 3 : 2, ne, values, n * sizeof(float));
}

static void add_pair(struct raw *r, const char *name, uint64_t cols, uint64_t rows)
{
    char text[128];
    snprintf(text, sizeof(text), "%s.lora_a", name);
    add(r, text, cols, RANK, 1, 0);
    snprintf(text, sizeof(text), "%s.lora_b", name);
    add(r, text, RANK, rows, 1, 100);
}

/* Written, opened, and closed again. */
static int try_open(struct raw *r, const struct model *m, struct error *e)
{
    struct adapter *a = NULL;
    raw_write(r, "adapter.gguf");
    raw_close(r);
    int status = adapter_open(&a, folder_path("adapter.gguf"), m, e);
    assert_true((status == 0) == (a != NULL));
    adapter_close(&a);
    return status;
}

/* ---- good ones ---- */

static void test_adapter_file_gives_a_and_scaled_b(void **state)
{
    (void)state;
    struct model *m = open_model("llama", false);
    struct raw r;
    struct adapter *a;
    struct error e = {0};
    float av[RANK * FFN], bv[EMBD * RANK];
    begin(&r);
    add_pair(&r, "blk.1.ffn_down.weight", FFN, EMBD);
    raw_write(&r, "adapter.gguf");
    raw_close(&r);
    if (adapter_open(&a, folder_path("adapter.gguf"), m, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(adapter_pair_count(a), 1);
    assert_null(adapter_pair_find(a, ROLE_FFN_DOWN, 0));
    assert_null(adapter_pair_find(a, ROLE_FFN_UP, 1));
    const struct adapter_pair *p = adapter_pair_find(a, ROLE_FFN_DOWN, 1);
    assert_ptr_equal(p, adapter_pair_at(a, 0));
    assert_true(p->rank == RANK && p->cols == FFN && p->rows == EMBD && p->slices == 1 && p->layer == 1);
    adapter_read(a, p, 0.5F, av, bv);
    for (int i = 0; i < RANK * FFN; i++)
        assert_true(av[i] == (float)i);
    for (int i = 0; i < EMBD * RANK; i++) /* alpha / rank is 2 */
        assert_true(bv[i] == (100 + (float)i) * 2 * 0.5F);
    struct layer_range first = {0, 1, true, false}, second = {1, 2, false, true};
    assert_int_equal(adapter_range_bytes(a, &first), 0);
    assert_int_equal(adapter_range_bytes(a, &second), sizeof(av) + sizeof(bv));
    adapter_close(&a);
    model_close(&m);
}

/* Without an alpha the product counts whole, as llama.cpp has it. */
static void test_adapter_file_alpha_nought_scales_nothing(void **state)
{
    (void)state;
    struct model *m = open_model("llama", false);
    struct raw r;
    struct adapter *a;
    float av[RANK * EMBD], bv[FFN * RANK];
    raw_open(&r);
    raw_string(&r, "general.type", "adapter");
    raw_string(&r, "general.architecture", "llama");
    raw_string(&r, "adapter.type", "lora");
    raw_f32(&r, "adapter.lora.alpha", 0);
    add_pair(&r, "blk.0.ffn_up.weight", EMBD, FFN);
    raw_write(&r, "adapter.gguf");
    raw_close(&r);
    assert_int_equal(adapter_open(&a, folder_path("adapter.gguf"), m, NULL), 0);
    adapter_read(a, adapter_pair_at(a, 0), 1, av, bv);
    assert_true(bv[5] == 105);
    adapter_close(&a);
    model_close(&m);
}

/* q, k and v in one B: every part has its rows, and the same A. */
static void test_adapter_file_parts_what_is_stacked(void **state)
{
    (void)state;
    struct model *m = open_model("llama", false);
    struct raw r;
    struct adapter *a;
    float av[RANK * EMBD], bv[EMBD * RANK];
    begin(&r);
    add_pair(&r, "blk.0.attn_qkv.weight", EMBD, 3 * EMBD);
    raw_write(&r, "adapter.gguf");
    raw_close(&r);
    assert_int_equal(adapter_open(&a, folder_path("adapter.gguf"), m, NULL), 0);
    assert_int_equal(adapter_pair_count(a), 3);
    static const enum role roles[] = {ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V};
    for (size_t i = 0; i < 3; i++) {
        const struct adapter_pair *p = adapter_pair_find(a, roles[i], 0);
        assert_non_null(p);
        adapter_read(a, p, 1, av, bv);
        assert_true(av[7] == 7);
        assert_true(bv[4] == 2 * (100 + (float)(i * EMBD * RANK) + 4));
    }
    adapter_close(&a);
    model_close(&m);
}

static void test_adapter_file_takes_stacks_of_experts(void **state)
{
    (void)state;
    struct model *m = open_model("llama", true);
    struct raw r;
    struct adapter *a;
    static float av[EXPERTS * RANK * EMBD], bv[EXPERTS * FFN * RANK];
    begin(&r);
    add(&r, "blk.0.ffn_gate_exps.weight.lora_a", EMBD, RANK, 1, 0);
    add(&r, "blk.0.ffn_gate_exps.weight.lora_b", RANK, FFN, EXPERTS, 0);
    raw_write(&r, "adapter.gguf");
    raw_close(&r);
    assert_int_equal(adapter_open(&a, folder_path("adapter.gguf"), m, NULL), 0);
    const struct adapter_pair *p = adapter_pair_find(a, ROLE_GATE_EXPERTS, 0);
    assert_true(p && p->slices == EXPERTS && p->a_slices == 1 && p->b_slices == EXPERTS);
    adapter_read(a, p, 1, av, bv);
    assert_true(bv[3 * FFN * RANK + 1] == 2 * (3 * FFN * RANK + 1));
    adapter_close(&a);
    model_close(&m);
}

/* ---- bad ones ---- */

struct bad {
    const char *words; /* of the sentence */
    int status;
    void (*make)(struct raw *r);
};

static void another_type(struct raw *r)
{
    raw_open(r);
    raw_string(r, "general.type", "model");
    add_pair(r, "blk.0.attn_q.weight", EMBD, EMBD);
}

static void another_kind(struct raw *r)
{
    raw_open(r);
    raw_string(r, "general.type", "adapter");
    raw_string(r, "adapter.type", "ia3");
}

static void another_family(struct raw *r)
{
    raw_open(r);
    raw_string(r, "general.type", "adapter");
    raw_string(r, "adapter.type", "lora");
    raw_string(r, "general.architecture", "qwen2");
}

static void no_alpha(struct raw *r)
{
    raw_open(r);
    raw_string(r, "general.type", "adapter");
    raw_string(r, "adapter.type", "lora");
    raw_string(r, "general.architecture", "llama");
    add_pair(r, "blk.0.attn_q.weight", EMBD, EMBD);
}

static void switched(struct raw *r)
{
    begin(r);
    raw_array(r, "adapter.alora.invocation_tokens", GGUF_U32, 0);
    add_pair(r, "blk.0.attn_q.weight", EMBD, EMBD);
}

static void nothing(struct raw *r)
{
    begin(r);
}

static void no_b(struct raw *r)
{
    begin(r);
    add(r, "blk.0.attn_q.weight.lora_a", EMBD, RANK, 1, 0);
}

static void no_a(struct raw *r)
{
    begin(r);
    add(r, "blk.0.attn_q.weight.lora_b", RANK, EMBD, 1, 0);
}

static void other_ranks(struct raw *r)
{
    begin(r);
    add(r, "blk.0.attn_q.weight.lora_a", EMBD, RANK, 1, 0);
    add(r, "blk.0.attn_q.weight.lora_b", RANK + 1, EMBD, 1, 0);
}

static void rank_too_large(struct raw *r)
{
    begin(r);
    add(r, "blk.0.attn_q.weight.lora_a", 1, 1025, 1, 0);
    add(r, "blk.0.attn_q.weight.lora_b", 1025, 1, 1, 0);
}

static void other_width(struct raw *r)
{
    begin(r);
    add_pair(r, "blk.0.attn_q.weight", EMBD + 1, EMBD);
}

static void other_height(struct raw *r)
{
    begin(r);
    add_pair(r, "blk.0.attn_q.weight", EMBD, EMBD + 1);
}

static void other_depth(struct raw *r)
{
    begin(r);
    add_pair(r, "blk.2.attn_q.weight", EMBD, EMBD);
}

static void other_stack(struct raw *r)
{
    begin(r);
    add(r, "blk.0.attn_q.weight.lora_a", EMBD, RANK, 2, 0);
    add(r, "blk.0.attn_q.weight.lora_b", RANK, EMBD, 1, 0);
}

static void unknown_matrix(struct raw *r)
{
    begin(r);
    add_pair(r, "blk.0.attn_q_a.weight", EMBD, EMBD);
}

static void vector(struct raw *r)
{
    begin(r);
    add_pair(r, "blk.0.attn_norm.weight", EMBD, 1);
}

static void embedding(struct raw *r)
{
    begin(r);
    add_pair(r, "token_embd.weight", EMBD, 50);
}

static void head(struct raw *r)
{
    begin(r);
    add_pair(r, "output.weight", EMBD, 50);
}

static void whole_matrix(struct raw *r)
{
    begin(r);
    add_pair(r, "blk.0.attn_q.weight", EMBD, EMBD);
    add(r, "blk.0.attn_norm.weight", EMBD, 1, 1, 0);
}

static void twice(struct raw *r)
{
    begin(r);
    add_pair(r, "blk.0.attn_q.weight", EMBD, EMBD);
    add_pair(r, "blk.0.attn_qkv.weight", EMBD, 3 * EMBD);
}

static void layer_of_many_digits(struct raw *r)
{
    begin(r);
    add_pair(r, "blk.99999999999999999999.attn_q.weight", EMBD, EMBD);
}

static const struct bad bad_files[] = {
    {"is no adapter (general.type is not \"adapter\")", ERR_INVALID, another_type},
    {"is an adapter of another kind than LoRA", ERR_UNSUPPORTED, another_kind},
    {"was made for a model of family qwen2, and this one is of family llama", ERR_INVALID, another_family},
    {"adapter.lora.alpha is missing", ERR_CORRUPT, no_alpha},
    {"that certain tokens switch on", ERR_UNSUPPORTED, switched},
    {"changes no matrix", ERR_INVALID, nothing},
    {"has blk.0.attn_q.weight.lora_a and no blk.0.attn_q.weight.lora_b", ERR_CORRUPT, no_b},
    {"has blk.0.attn_q.weight.lora_b and no blk.0.attn_q.weight.lora_a", ERR_CORRUPT, no_a},
    {"has rank 3 and blk.0.attn_q.weight.lora_b has rank 4", ERR_CORRUPT, other_ranks},
    {"has rank 1025; 1 to 1024 can be", ERR_LIMIT, rank_too_large},
    {"is for a matrix of rows of 33 values, and the model's has 32: it was made for another model", ERR_INVALID,
     other_width},
    {"is for a matrix that gives 33 values, and the model's gives 32: it was made for another model", ERR_INVALID,
     other_height},
    {"is for layer 2, and the model has 2: it was made for another model", ERR_INVALID, other_depth},
    {"is a stack of 2", ERR_INVALID, other_stack},
    {"changes blk.0.attn_q_a.weight, which the model (family llama) does not have", ERR_INVALID, unknown_matrix},
    {"adapters of vectors and routers are not supported", ERR_UNSUPPORTED, vector},
    {"changes token_embd.weight, and adapters of the embedding or the output head are not supported", ERR_UNSUPPORTED,
     embedding},
    {"changes output.weight, and adapters of the embedding or the output head", ERR_UNSUPPORTED, head},
    {"holds tensor blk.0.attn_norm.weight, which is no part of a LoRA adapter", ERR_UNSUPPORTED, whole_matrix},
    {"changes blk.0.attn_qkv.weight twice", ERR_CORRUPT, twice},
    {"are not supported", ERR_UNSUPPORTED, layer_of_many_digits},
};

static void test_adapter_file_bad_ones_are_refused_in_words(void **state)
{
    (void)state;
    struct model *m = open_model("llama", false);
    for (size_t i = 0; i < COUNTOF(bad_files); i++) {
        struct error e = {0};
        struct raw r;
        bad_files[i].make(&r);
        int status = try_open(&r, m, &e);
        if (status != bad_files[i].status || !strstr(e.text, bad_files[i].words))
            fail_msg("case %zu: %s: %s", i, status_name(status), e.text);
    }
    model_close(&m);
}

static void test_adapter_file_routers_are_refused(void **state)
{
    (void)state;
    struct model *m = open_model("llama", true);
    struct raw r;
    struct error e = {0};
    begin(&r);
    add_pair(&r, "blk.0.ffn_gate_inp.weight", EMBD, EXPERTS);
    assert_int_equal(try_open(&r, m, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "adapters of vectors and routers are not supported"));
    model_close(&m);
}

static void test_adapter_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct model *m = open_model("llama", false);
    struct raw r;
    struct buffer bytes;
    struct adapter *a;
    size_t header;
    begin(&r);
    add_pair(&r, "blk.0.attn_q.weight", EMBD, EMBD);
    buffer_init(&bytes, RAW_DATA_MAX);
    raw_bytes(&r, &bytes, &header);
    raw_close(&r);
    for (size_t n = 0; n < bytes.len; n += n < header ? 1 : 97) {
        folder_write("adapter.gguf", bytes.data, n);
        assert_int_not_equal(adapter_open(&a, folder_path("adapter.gguf"), m, NULL), 0);
        assert_null(a);
    }
    buffer_close(&bytes);
    model_close(&m);
}

/* ---- what users write ---- */

static void test_adapter_file_specs_have_name_path_and_scale(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name, *path;
        float scale;
    } good[] = {
        {"poet.gguf", "poet", "poet.gguf", 1},
        {"/a/b/poet.gguf:0.5", "poet", "/a/b/poet.gguf", 0.5F},
        {"/a/poet/adapter_model.safetensors:-1e1", "poet", "/a/poet/adapter_model.safetensors", -10},
        {"/a/poet/", "poet", "/a/poet/", 1},
        {"one=/a/b c/x.gguf:2", "one", "/a/b c/x.gguf", 2},
        {"/a=b/x", "x", "/a=b/x", 1},
        {"x=/y:z", "x", "/y:z", 1},
    };
    for (size_t i = 0; i < COUNTOF(good); i++) {
        struct adapter_spec s;
        struct error e = {0};
        if (adapter_spec_parse(&s, good[i].text, &e) != 0)
            fail_msg("%s: %s", good[i].text, e.text);
        assert_string_equal(s.name, good[i].name);
        assert_string_equal(s.path, good[i].path);
        assert_true(s.scale == good[i].scale);
        adapter_spec_free(&s);
    }
    static const char *const bad[] = {"", ":1", "a b.gguf", "x=", "poet.gguf:1e9", "poet.gguf:nan", "/", "..",
                                      "/a/.hidden"};
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        struct adapter_spec s;
        if (adapter_spec_parse(&s, bad[i], NULL) == 0)
            fail_msg("\"%s\" is taken", bad[i]);
        assert_null(s.path);
    }
}

static void test_adapter_file_specs_leave_colons_of_files_that_are_there(void **state)
{
    (void)state;
    struct adapter_spec s;
    char text[512];
    folder_write("odd:2", "x", 1);
    snprintf(text, sizeof(text), "odd=%s", folder_path("odd:2"));
    assert_int_equal(adapter_spec_parse(&s, text, NULL), 0);
    assert_string_equal(s.path, folder_path("odd:2"));
    assert_true(s.scale == 1);
    adapter_spec_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adapter_file_gives_a_and_scaled_b),
        cmocka_unit_test(test_adapter_file_alpha_nought_scales_nothing),
        cmocka_unit_test(test_adapter_file_parts_what_is_stacked),
        cmocka_unit_test(test_adapter_file_takes_stacks_of_experts),
        cmocka_unit_test(test_adapter_file_bad_ones_are_refused_in_words),
        cmocka_unit_test(test_adapter_file_routers_are_refused),
        cmocka_unit_test(test_adapter_file_cut_anywhere_is_refused),
        cmocka_unit_test(test_adapter_file_specs_have_name_path_and_scale),
        cmocka_unit_test(test_adapter_file_specs_leave_colons_of_files_that_are_there),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
