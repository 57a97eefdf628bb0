/* test_synth: synthetic models open, are what was asked for, and are the same each time. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "shard/arch/arch.h"
#include "shard/arch/mix.h"
#include "shard/arch/synth.h"
#include "tests/shard/folder.h"

static const char demo[] = "tests/data/shoal-demo-q8_0.gguf";

static struct synth_options dense(const char *family, const char *type)
{
    return (struct synth_options){.family = family, .layers = 3, .hidden = 256, .heads = 4, .kv_heads = 2, .ffn = 512,
                                  .vocab = 1000, .context = 512, .type = type, .seed = 7};
}

static struct synth_options experts(const char *family, const char *type)
{
    struct synth_options o = dense(family, type);
    o.ffn = 0;
    o.experts = 8;
    o.experts_used = 2;
    o.expert_ffn = 256;
    return o;
}

static struct model *make(const struct synth_options *o)
{
    struct error e = {0};
    struct model *m = NULL;
    const char *path = folder_path("made.gguf");
    if (synth_write(path, o, &e) != 0 || model_open(&m, path, &e) != 0)
        fail_msg("%s", e.text);
    return m;
}

/* A tensor's values; the caller frees. */
static float *values_of(const struct model *m, enum role role, int32_t layer, size_t *n)
{
    const struct gguf_tensor *t = model_tensor_find(m, role, layer)->info;
    *n = (size_t)(t->ne[0] * t->ne[1] * t->ne[2]);
    float *out = malloc(*n * sizeof(*out));
    t->type->to_f32(gguf_tensor_bytes(model_file(m), t), out, *n);
    return out;
}

static uint32_t type_of(const struct model *m, enum role role, int32_t layer)
{
    return model_tensor_find(m, role, layer)->info->type->id;
}

static void test_every_family_and_type_opens(void **state)
{
    static const char *const types[] = {"f32", "F16", "bf16", "q8_0", "q4_0", "q4_k", "Q5_K", "q6_k", "q4_k_m",
                                        "q5_k_m", NULL};
    (void)state;
    for (size_t i = 0; i < arch_count(); i++) {
        for (size_t t = 0; t < (i == 0 ? COUNTOF(types) : 4); t++) {
            const struct arch *a = arch_at(i);
            struct synth_options o = a->flags & ARCH_DENSE ? dense(a->name, types[t]) : experts(a->name, types[t]);
            struct model *m = make(&o);
            const struct hparams *h = model_hparams(m);
            assert_ptr_equal(h->arch, a);
            assert_int_equal(h->n_layers, 3);
            assert_int_equal(h->n_embd, 256);
            assert_int_equal(h->n_heads, 4);
            assert_int_equal(h->n_kv_heads, a->flags & ARCH_MLA ? 1 : 2);
            assert_int_equal(h->head_dim, a->flags & ARCH_MLA ? 96 : 64); /* a third more, which is rotated */
            assert_int_equal(h->n_vocab, 1000);
            assert_int_equal(h->context, 512);
            assert_int_equal(model_is_f32(m), t == 0);
            assert_int_equal(model_tensor_find(m, ROLE_OUTPUT, -1) == NULL, (a->flags & ARCH_EMBED_ROOT) != 0);
            model_close(&m);
        }
    }
}

static void test_experts_are_as_asked(void **state)
{
    (void)state;
    struct synth_options o = experts("llama", "q8_0");
    o.head_dim = 32;
    o.tied = true;
    struct model *m = make(&o);
    assert_int_equal(model_hparams(m)->n_experts, 8);
    assert_int_equal(model_hparams(m)->n_experts_used, 2);
    assert_int_equal(model_hparams(m)->n_expert_ffn, 256);
    assert_int_equal(model_hparams(m)->head_dim, 32);
    assert_null(model_tensor_find(m, ROLE_OUTPUT, -1));
    assert_int_equal(type_of(m, ROLE_ROUTER, 0), QTYPE_F32);
    model_close(&m);
}

static void test_mix_is_llama_quantizes(void **state)
{
    static const bool better[] = {true, false, false, true, false, false, true, true}; /* of 8 layers */
    (void)state;
    struct synth_options o = dense("qwen3", "q4_k_m");
    o.layers = COUNTOF(better);
    struct model *m = make(&o);
    for (int32_t i = 0; i < (int32_t)COUNTOF(better); i++) {
        assert_int_equal(type_of(m, ROLE_ATTN_V, i), better[i] ? QTYPE_Q6_K : QTYPE_Q4_K);
        assert_int_equal(type_of(m, ROLE_FFN_DOWN, i), better[i] ? QTYPE_Q6_K : QTYPE_Q4_K);
        assert_int_equal(type_of(m, ROLE_ATTN_Q, i), QTYPE_Q4_K);
    }
    assert_int_equal(type_of(m, ROLE_OUTPUT, -1), QTYPE_Q6_K);
    assert_int_equal(type_of(m, ROLE_EMBEDDING, -1), QTYPE_Q4_K);
    model_close(&m);

    o = experts("llama", "q4_k_m"); /* eight experts */
    m = make(&o);
    assert_int_equal(type_of(m, ROLE_ATTN_K, 1), QTYPE_Q8_0);
    assert_int_equal(type_of(m, ROLE_ATTN_V, 1), QTYPE_Q8_0);
    assert_int_equal(type_of(m, ROLE_ATTN_OUT, 1), QTYPE_Q5_K);
    assert_int_equal(type_of(m, ROLE_DOWN_EXPERTS, 2), QTYPE_Q6_K);
    model_close(&m);

    o = dense("llama", "q4_0");
    o.tied = true;
    m = make(&o);
    assert_int_equal(type_of(m, ROLE_EMBEDDING, -1), QTYPE_Q6_K);
    assert_int_equal(type_of(m, ROLE_FFN_DOWN, 0), QTYPE_Q4_0);
    model_close(&m);
}

static void test_odd_widths_fall_back(void **state)
{
    (void)state;
    struct synth_options o = dense("llama", "q4_k");
    o.hidden = 96; /* a multiple of 32, not of 256 */
    o.heads = o.kv_heads = 3;
    o.ffn = 100;   /* of neither */
    struct model *m = make(&o);
    assert_int_equal(type_of(m, ROLE_ATTN_Q, 0), QTYPE_Q8_0);
    assert_int_equal(type_of(m, ROLE_FFN_DOWN, 0), QTYPE_F16);
    model_close(&m);
}

/* Also those that are only read: their blocks are drawn so that the values are as the others'. */
static void test_every_type_of_files_can_be_had(void **state)
{
    const struct qtype *type;
    (void)state;
    for (size_t i = 0; (type = qtype_at(i)) != NULL && qtype_in_files(type); i++) {
        struct synth_options o = dense("qwen3", type->name);
        double sum = 0, squares = 0;
        size_t n;
        struct model *m = make(&o);
        if (!mix_find(type->name)) /* the head of a mix is better */
            assert_int_equal(type_of(m, ROLE_OUTPUT, -1), type->id);
        assert_int_equal(type_of(m, ROLE_FFN_UP, 1), type->id);
        assert_int_equal(type_of(m, ROLE_ATTN_NORM, 1), QTYPE_F32);
        float *v = values_of(m, ROLE_FFN_UP, 1, &n);
        for (size_t k = 0; k < n; k++) {
            sum += (double)v[k];
            squares += (double)v[k] * (double)v[k];
        }
        print_message("    %s: deviation %.4f\n", type->name, sqrt(squares / (double)n));
        assert_true(fabs(sum / (double)n) < 0.0005);
        assert_true(fabs(sqrt(squares / (double)n) / 0.02 - 1) < 0.25);
        free(v);
        model_close(&m);
    }
}

static void test_every_mix_can_be_had(void **state)
{
    static const struct {
        const char *name;
        enum qtype_id experts, head;
        uint32_t file_type;
    } mixes[] = {
        {"F16", QTYPE_F16, QTYPE_F16, 1},       {"BF16", QTYPE_BF16, QTYPE_BF16, 32},
        {"Q8_0", QTYPE_Q8_0, QTYPE_Q8_0, 7},    {"Q4_0", QTYPE_Q4_0, QTYPE_Q6_K, 2},
        {"q4_k_m", QTYPE_Q4_K, QTYPE_Q6_K, 15}, {"Q5_K_M", QTYPE_Q5_K, QTYPE_Q6_K, 17},
        {"Q6_K", QTYPE_Q6_K, QTYPE_Q6_K, 18},   {"mxfp4", QTYPE_MXFP4, QTYPE_Q8_0, 38},
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(mixes); i++) {
        uint64_t file_type;
        struct synth_options o = experts("qwen3moe", mixes[i].name);
        struct model *m = make(&o);
        assert_non_null(mix_find(mixes[i].name));
        assert_int_equal(type_of(m, ROLE_UP_EXPERTS, 1), mixes[i].experts);
        assert_int_equal(type_of(m, ROLE_OUTPUT, -1), mixes[i].head);
        assert_true(gguf_get_u64(model_file(m), "general.file_type", &file_type));
        assert_int_equal(file_type, mixes[i].file_type);
        model_close(&m);
    }
}

/* As converters write them. */
static void test_stacked_tensors_are_as_in_real_files(void **state)
{
    static const struct {
        const char *family;
        bool qkv, bias, up;
    } families[] = {{"phi3", true, false, true}, {"bailingmoe2", true, false, false}, {"qwen2", false, true, false}};
    (void)state;
    for (size_t i = 0; i < COUNTOF(families); i++) {
        const struct arch *a = arch_find(families[i].family);
        struct synth_options o = a->flags & ARCH_DENSE ? dense(a->name, "q4_k_m") : experts(a->name, "q4_k_m");
        struct model *m = make(&o);
        const struct gguf *g = model_file(m);
        const struct gguf_tensor *qkv = gguf_tensor_find(g, "blk.0.attn_qkv.weight");
        assert_int_equal(qkv != NULL, families[i].qkv);
        assert_int_equal(gguf_tensor_find(g, "blk.0.attn_q.weight") == NULL, families[i].qkv);
        assert_int_equal(gguf_tensor_find(g, "blk.0.attn_v.bias") != NULL, families[i].bias);
        if (a->flags & ARCH_DENSE) {
            assert_int_equal(gguf_tensor_find(g, "blk.0.ffn_gate.weight") == NULL, families[i].up);
            assert_int_equal(gguf_tensor_find(g, "blk.0.ffn_up.weight")->ne[1], families[i].up ? 1024 : 512);
        }
        if (qkv) {
            assert_int_equal(qkv->ne[1], 256 + 128 + 128);
            const struct gguf_tensor *better = gguf_tensor_find(g, "blk.2.attn_qkv.weight");
            assert_int_equal(qkv->type->id, a->flags & ARCH_DENSE ? QTYPE_Q4_K : QTYPE_Q8_0); /* eight experts */
            assert_int_equal(better->type->id, a->flags & ARCH_DENSE ? QTYPE_Q6_K : QTYPE_Q8_0);
        }
        model_close(&m);
    }
}

static void check_moments(const float *v, size_t n, double mean, double deviation)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += v[i];
        squares += (v[i] - mean) * (v[i] - mean);
    }
    assert_true(fabs(sum / (double)n - mean) < deviation * 5 / sqrt((double)n) + 1e-4);
    assert_true(fabs(sqrt(squares / (double)n) / deviation - 1) < 5 / sqrt((double)n));
}

/* Large tensors are put together from a pool: they must look as random as small ones. */
static void test_values_are_normal(void **state)
{
    size_t n;
    (void)state;
    struct synth_options o = dense("qwen2", "f32");
    o.hidden = 1024;
    struct model *m = make(&o);
    float *big = values_of(m, ROLE_OUTPUT, -1, &n);
    assert_int_equal(n, 1024 * 1000);
    check_moments(big, n, 0, 0.02);
    free(big);
    float *norm = values_of(m, ROLE_FFN_NORM, 1, &n);
    check_moments(norm, n, 1, 0.02);
    free(norm);
    float *bias = values_of(m, ROLE_ATTN_Q_BIAS, 2, &n);
    check_moments(bias, n, 0, 0.02);
    free(bias);
    model_close(&m);
}

/* Equal rows of the head would tie. */
static void test_rows_do_not_repeat(void **state)
{
    static const uint32_t widths[] = {64, 256, 512};
    static const uint32_t vocabularies[] = {1000, 2500};
    size_t n;
    (void)state;
    for (size_t w = 0; w < COUNTOF(widths); w++) {
        for (size_t v = 0; v < COUNTOF(vocabularies); v++) {
            struct synth_options o = dense("llama", "f32");
            o.layers = 1;
            o.hidden = widths[w];
            o.vocab = vocabularies[v];
            struct model *m = make(&o);
            float *rows = values_of(m, ROLE_OUTPUT, -1, &n);
            for (size_t row = 1; row < vocabularies[v]; row++)
                for (size_t before = 0; before < row; before++)
                    if (rows[row * widths[w]] == rows[before * widths[w]])
                        assert_memory_not_equal(rows + row * widths[w], rows + before * widths[w],
                                                widths[w] * sizeof(float));
            free(rows);
            model_close(&m);
        }
    }
}

/* What sets a published shape apart from its family's defaults. */
static void test_shapes_are_as_published(void **state)
{
    static const struct {
        const char *name;
        uint32_t layers, hidden, heads, kv_heads, head_dim, n_rot, q_rank, kv_rank, shared, lead, step, window, groups;
        float scale, base;
        uint32_t value_dim, index_heads;
    } want[] = {
        {"mixtral-8x7b", 32, 4096, 32, 8, 128, 128, 0, 0, 0, 0, 1, 0, 0, 0, 1e6F, 0, 0},
        {"qwen3-30b-a3b", 48, 2048, 32, 4, 128, 128, 0, 0, 0, 0, 1, 0, 0, 0, 1e6F, 0, 0},
        {"qwen3-235b-a22b", 94, 4096, 64, 4, 128, 128, 0, 0, 0, 0, 1, 0, 0, 0, 1e6F, 0, 0},
        {"deepseek-v3", 61, 7168, 128, 1, 192, 64, 1536, 512, 32, 3, 1, 0, 8, 2.5F, 1e4F, 0, 0},
        {"deepseek-v3.2", 61, 7168, 128, 1, 192, 64, 1536, 512, 32, 3, 1, 0, 8, 2.5F, 1e4F, 128, 64},
        {"glm-5", 78, 6144, 64, 1, 256, 64, 2048, 512, 32, 3, 1, 0, 0, 2.5F, 1e6F, 256, 32},
        {"kimi-k2", 61, 7168, 64, 1, 192, 64, 1536, 512, 32, 1, 1, 0, 0, 2.827F, 5e4F, 0, 0},
        {"kimi-linear-48b-a3b", 27, 2304, 32, 1, 192, 64, 0, 512, 32, 1, 1, 0, 0, 2.446F, 1e4F, 0, 0},
        {"gpt-oss-120b", 36, 2880, 64, 8, 64, 64, 0, 0, 0, 0, 1, 128, 0, 0, 1.5e5F, 0, 0},
        {"llama4-maverick", 48, 5120, 40, 8, 128, 128, 0, 0, 32, 0, 2, 0, 0, 0, 5e5F, 0, 0},
        {"glm-4.5", 92, 5120, 96, 8, 128, 64, 0, 0, 32, 3, 1, 0, 0, 2.5F, 1e6F, 0, 0},
    };
    (void)state;
    assert_int_equal(synth_shape_count(), COUNTOF(want));
    for (size_t i = 0; i < COUNTOF(want); i++) {
        struct synth_options o = synth_shape_find(want[i].name)->options;
        assert_int_equal(o.layers, want[i].layers);
        assert_int_equal(o.hidden, want[i].hidden);
        o.layers = 2;
        o.hidden = o.expert_ffn = o.ffn = 32;
        o.vocab = 100;
        o.type = "q8_0";
        struct model *m = make(&o);
        const struct hparams *h = model_hparams(m);
        assert_int_equal(h->n_heads, want[i].heads);
        assert_int_equal(h->n_kv_heads, want[i].kv_heads);
        assert_int_equal(h->head_dim, want[i].head_dim);
        assert_int_equal(h->n_rot, want[i].n_rot);
        assert_int_equal(h->q_rank, want[i].q_rank);
        assert_int_equal(h->kv_rank, want[i].kv_rank);
        assert_int_equal(h->n_shared_ffn, want[i].shared);
        assert_int_equal(h->lead_dense, want[i].lead);
        assert_int_equal(h->moe_step, want[i].step);
        assert_int_equal(h->window, want[i].window);
        assert_int_equal(h->n_groups, want[i].groups);
        assert_int_equal(h->index.heads, want[i].index_heads);
        if (want[i].index_heads > 0) {
            assert_int_equal(h->value_dim, want[i].value_dim);
            assert_int_equal(h->index.dim, 128);
            assert_int_equal(h->index.top, 2048);
        }
        assert_true(h->experts_scale == want[i].scale && h->rope_base == want[i].base);
        model_close(&m);
    }
    assert_null(synth_shape_find("gpt-9"));
}

static void test_type_changes_precision_only(void **state)
{
    static const struct {
        enum role role;
        int32_t layer;
    } some[] = {{ROLE_OUTPUT, -1}, {ROLE_GATE_EXPERTS, 1}, {ROLE_ATTN_NORM, 2}, {ROLE_ROUTER, 0}};
    (void)state;
    struct synth_options o = experts("qwen3moe", "f32");
    o.hidden = 512;
    float *exact[COUNTOF(some)];
    size_t n;
    struct model *m = make(&o);
    for (size_t i = 0; i < COUNTOF(some); i++)
        exact[i] = values_of(m, some[i].role, some[i].layer, &n);
    model_close(&m);
    o.type = "q8_0";
    m = make(&o);
    for (size_t i = 0; i < COUNTOF(some); i++) {
        float *rough = values_of(m, some[i].role, some[i].layer, &n);
        for (size_t k = 0; k < n; k++)
            assert_true(fabsf(rough[k] - exact[i][k]) < 0.0005F);
        free(rough);
        free(exact[i]);
    }
    model_close(&m);
}

static void test_seed_decides_the_bytes(void **state)
{
    struct error e = {0};
    size_t n[3];
    uint8_t *bytes[3];
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct synth_options o = experts("qwen3moe", "q4_k_m");
        o.hidden = 512;
        o.seed = i < 2 ? 1 : 2;
        assert_int_equal(synth_write(folder_path("seeded.gguf"), &o, &e), 0);
        bytes[i] = folder_read("seeded.gguf", &n[i]);
        assert_int_equal(n[i], n[0]);
    }
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    assert_memory_not_equal(bytes[0], bytes[2], n[0]);
    for (int i = 0; i < 3; i++)
        free(bytes[i]);
}

static void test_layers_lie_together(void **state)
{
    (void)state;
    struct synth_options o = experts("qwen3moe", "q8_0");
    struct model *m = make(&o);
    int32_t layer = -1;
    uint64_t end = gguf_header_bytes(model_file(m));
    for (size_t i = 0; i < gguf_tensor_count(model_file(m)); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(model_file(m), i);
        int32_t of = strncmp(t->name, "blk.", 4) == 0 ? t->name[4] - '0' : -1;
        assert_true(of >= layer && t->offset >= end);
        layer = of;
        end = t->offset + t->bytes;
    }
    assert_int_equal(layer, 2);
    model_close(&m);
}

static void test_tokenizer_is_borrowed(void **state)
{
    enum gguf_type type;
    uint64_t n;
    struct gguf_string a, b;
    struct error e = {0};
    struct gguf *lender;
    (void)state;
    struct synth_options o = dense("llama", "q8_0");
    o.vocab = 0;
    o.tokenizer = demo;
    struct model *m = make(&o);
    const struct gguf *g = model_file(m);
    assert_int_equal(model_hparams(m)->n_vocab, 2048);
    assert_true(gguf_array(g, "tokenizer.ggml.tokens", &type, &n));
    assert_int_equal(n, 2048);
    assert_int_equal(gguf_open(&lender, demo, &e), 0);
    for (uint64_t i = 0; i < n; i++) {
        assert_true(gguf_array_string(g, "tokenizer.ggml.tokens", i, &a));
        assert_true(gguf_array_string(lender, "tokenizer.ggml.tokens", i, &b));
        assert_int_equal(a.len, b.len);
        assert_memory_equal(a.text, b.text, a.len);
    }
    assert_true(gguf_get_string(g, "tokenizer.ggml.model", &a) && a.len == 4 && memcmp(a.text, "gpt2", 4) == 0);
    gguf_close(&lender);
    model_close(&m);
    o.vocab = 2100; /* padded, as many published models are */
    m = make(&o);
    assert_int_equal(model_hparams(m)->n_vocab, 2100);
    assert_true(gguf_array(model_file(m), "tokenizer.ggml.tokens", &type, &n) && n == 2100);
    assert_true(gguf_array_string(model_file(m), "tokenizer.ggml.tokens", 2099, &a));
    assert_true(a.len == 9 && memcmp(a.text, "[PAD2099]", 9) == 0);
    assert_true(gguf_array_u64(model_file(m), "tokenizer.ggml.token_type", 2099, &n) && n == 5); /* unused */
    assert_true(gguf_has(model_file(m), "tokenizer.ggml.merges"));
    model_close(&m);
    o.vocab = 2047;
    assert_int_equal(synth_write(folder_path("small.gguf"), &o, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "2048 tokens"));
    o.vocab = 0;
    o.tokenizer = folder_path("made.gguf");
    struct synth_options none = dense("llama", "q8_0");
    m = make(&none);
    model_close(&m);
    assert_int_equal(synth_write(folder_path("small.gguf"), &o, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "no tokenizer to borrow"));
}

struct seen {
    uint64_t last, total;
    int calls;
};

static void see(void *arg, uint64_t done, uint64_t total)
{
    struct seen *s = arg;
    assert_true(done >= s->last && done <= total);
    *s = (struct seen){done, total, s->calls + 1};
}

static void test_progress_reaches_the_end(void **state)
{
    struct seen seen = {0};
    (void)state;
    struct synth_options o = dense("llama", "f32");
    o.progress = see;
    o.progress_arg = &seen;
    struct model *m = make(&o);
    struct layer_range all = {0, 3, true, true};
    assert_true(seen.calls > 10);
    assert_int_equal(seen.last, seen.total);
    assert_int_equal(seen.total, model_range_bytes(m, &all));
    model_close(&m);
}

static void test_refusals_name_the_option(void **state)
{
    static const struct {
        const char *words;
        struct synth_options o;
    } cases[] = {
        {"there is no family \"\"", {.layers = 1, .hidden = 64, .heads = 1, .ffn = 64}},
        {"no family \"gpt9\"; there are llama", {.family = "gpt9", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64}},
        {"no type \"q9\"", {.family = "llama", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64, .type = "q9"}},
        {"no type \"int4_32\"",
         {.family = "llama", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64, .type = "int4_32"}},
        {"layers is 0", {.family = "llama", .hidden = 64, .heads = 1, .ffn = 64}},
        {"layers is 4096", {.family = "llama", .layers = 4096, .hidden = 64, .heads = 1, .ffn = 64}},
        {"hidden is 0", {.family = "llama", .layers = 1, .heads = 1, .ffn = 64}},
        {"hidden is 4294967295", {.family = "llama", .layers = 1, .hidden = UINT32_MAX, .heads = 1, .ffn = 64}},
        {"heads is 0", {.family = "llama", .layers = 1, .hidden = 64, .ffn = 64}},
        {"3 heads cannot share 2", {.family = "llama", .layers = 1, .hidden = 96, .heads = 3, .kv_heads = 2,
                                    .ffn = 64}},
        {"kv_heads is 4", {.family = "llama", .layers = 1, .hidden = 64, .heads = 2, .kv_heads = 4, .ffn = 64}},
        {"must be even", {.family = "llama", .layers = 1, .hidden = 66, .heads = 2, .ffn = 64}},
        {"head_dim is 4096", {.family = "llama", .layers = 1, .hidden = 4096, .heads = 1, .ffn = 64}},
        {"ffn is 0", {.family = "llama", .layers = 1, .hidden = 64, .heads = 1}},
        {"has no experts", {.family = "qwen3", .layers = 1, .hidden = 64, .heads = 1, .experts = 4}},
        {"needs experts", {.family = "qwen3moe", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64}},
        {"experts_used is 5; 1 to 4", {.family = "qwen3moe", .layers = 1, .hidden = 64, .heads = 1, .experts = 4,
                                       .experts_used = 5, .expert_ffn = 64}},
        {"expert_ffn is 0", {.family = "qwen3moe", .layers = 1, .hidden = 64, .heads = 1, .experts = 4,
                             .experts_used = 2}},
        {"moe_step cannot be 2 in family llama", {.family = "llama", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64,
                                                  .moe_step = 2}},
        {"window cannot be 8 in family llama", {.family = "llama", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64,
                                                .window = 8}},
        {"value_dim cannot be 8 in family llama", {.family = "llama", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64,
                                                   .value_dim = 8}},
        {"96 rotated values are too many", {.family = "deepseek2", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64,
                                            .head_dim = 192, .experts = 4, .experts_used = 2, .expert_ffn = 64}},
        {"n_rot cannot be 66", {.family = "llama", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64, .n_rot = 66}},
        {"vocab is 16777216", {.family = "llama", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64, .vocab = 1 << 24}},
        {"context is 33554432", {.family = "llama", .layers = 1, .hidden = 64, .heads = 1, .ffn = 64,
                                 .context = 1 << 25}},
    };
    size_t before = folder_files();
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct error e = {0};
        assert_int_equal(synth_write(folder_path("refused.gguf"), &cases[i].o, &e), ERR_INVALID);
        if (!strstr(e.text, cases[i].words))
            fail_msg("\"%s\" does not say \"%s\"", e.text, cases[i].words);
    }
    assert_int_equal(folder_files(), before);
}

static void test_unwritable_place_is_an_error(void **state)
{
    struct error e = {0};
    (void)state;
    struct synth_options o = dense("llama", "q8_0");
    assert_int_equal(synth_write(folder_path("nowhere/made.gguf"), &o, &e), ERR_IO);

    /* no room: files of this process may not grow past the middle of the model */
    struct rlimit before, small;
    size_t files = folder_files();
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){1 << 20, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int r = synth_write(folder_path("full.gguf"), &o, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(r, ERR_IO);
    assert_int_equal(folder_files(), files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_family_and_type_opens),
        cmocka_unit_test(test_experts_are_as_asked),
        cmocka_unit_test(test_mix_is_llama_quantizes),
        cmocka_unit_test(test_every_type_of_files_can_be_had),
        cmocka_unit_test(test_every_mix_can_be_had),
        cmocka_unit_test(test_stacked_tensors_are_as_in_real_files),
        cmocka_unit_test(test_odd_widths_fall_back),
        cmocka_unit_test(test_values_are_normal),
        cmocka_unit_test(test_rows_do_not_repeat),
        cmocka_unit_test(test_shapes_are_as_published),
        cmocka_unit_test(test_type_changes_precision_only),
        cmocka_unit_test(test_seed_decides_the_bytes),
        cmocka_unit_test(test_layers_lie_together),
        cmocka_unit_test(test_tokenizer_is_borrowed),
        cmocka_unit_test(test_progress_reaches_the_end),
        cmocka_unit_test(test_refusals_name_the_option),
        cmocka_unit_test(test_unwritable_place_is_an_error),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
