/* test_arch: a model's numbers and tensors as real files carry them, and refusal of what cannot be computed with.
 *
 * Each case edits one thing of a sound synthetic model.                                                            */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "shard/arch/arch.h"
#include "shard/arch/synth.h"
#include "tests/shard/folder.h"
#include "tests/shard/raw.h"

static const struct synth_options llama = {.family = "llama", .layers = 2, .hidden = 64, .heads = 4, .kv_heads = 2,
                                           .ffn = 96, .vocab = 50, .context = 128, .type = "f32", .seed = 1};
static const struct synth_options moe = {.family = "qwen3moe", .layers = 2, .hidden = 64, .heads = 4, .kv_heads = 2,
                                         .head_dim = 32, .experts = 4, .experts_used = 2, .expert_ffn = 32,
                                         .vocab = 50, .context = 128, .type = "f32", .seed = 1};

enum set { SET_NOTHING, SET_U32, SET_F32, SET_BOOL, SET_STRING, SET_U64, SET_I32, SET_U8, SET_ARRAY };

/* One change: the key and the tensor are left out of the copy, then set or added where asked. */
struct edit {
    const char *key;
    enum set set;
    double number;
    const char *text;    /* of SET_STRING; of SET_ARRAY "7 7 8" as digits "778" */
    const char *tensor;  /* left out */
    const char *add;     /* a tensor of this name: */
    uint32_t type, n_dims;
    uint64_t ne[3];
};

static void set_key(struct raw *r, const struct edit *d)
{
    switch (d->set) {
    case SET_NOTHING:
        break;
    case SET_U32:
        raw_u32(r, d->key, (uint32_t)d->number);
        break;
    case SET_F32:
        raw_f32(r, d->key, (float)d->number);
        break;
    case SET_BOOL:
        raw_bool(r, d->key, d->number != 0);
        break;
    case SET_STRING:
        raw_string(r, d->key, d->text);
        break;
    case SET_U64:
        raw_key(r, d->key, GGUF_U64), buffer_u64(&r->values, (uint64_t)d->number);
        break;
    case SET_I32:
        raw_key(r, d->key, GGUF_I32), buffer_u32(&r->values, (uint32_t)(int32_t)d->number);
        break;
    case SET_U8:
        raw_key(r, d->key, GGUF_U8), buffer_u8(&r->values, (uint8_t)d->number);
        break;
    case SET_ARRAY:
        raw_array(r, d->key, GGUF_I32, strlen(d->text));
        for (const char *c = d->text; *c; c++)
            buffer_u32(&r->values, (uint32_t)(*c - '0'));
        break;
    }
}

static int open_edited(struct model **m, const struct synth_options *o, const struct edit *d, struct error *e)
{
    struct raw r;
    struct gguf *g;
    *e = (struct error){0};
    assert_int_equal(synth_write(folder_path("sound.gguf"), o, e), 0);
    assert_int_equal(gguf_open(&g, folder_path("sound.gguf"), e), 0);
    raw_open(&r);
    raw_copy(&r, g, d->key, d->tensor);
    gguf_close(&g);
    set_key(&r, d);
    if (d->add) {
        const struct qtype *t = qtype_find(d->type);
        uint64_t rows = d->n_dims > 2 ? d->ne[1] * d->ne[2] : d->n_dims > 1 ? d->ne[1] : 1;
        raw_tensor(&r, d->add, d->type, d->n_dims, d->ne, NULL, qtype_row_bytes(t, d->ne[0]) * rows);
    }
    raw_write(&r, "edited.gguf");
    raw_close(&r);
    return model_open(m, folder_path("edited.gguf"), e);
}

static struct model *must_open(const struct synth_options *o, const struct edit *d)
{
    struct error e;
    struct model *m = NULL;
    if (open_edited(&m, o, d, &e) != 0)
        fail_msg("%s", e.text);
    return m;
}

/* ---- as real files carry them ---- */

static void test_numbers_of_any_width(void **state)
{
    static const struct edit edits[] = {
        {.key = "llama.attention.head_count_kv", .set = SET_U64, .number = 2},
        {.key = "llama.attention.head_count_kv", .set = SET_I32, .number = 2},
        {.key = "llama.attention.head_count_kv", .set = SET_U8, .number = 2},
        {.key = "llama.attention.head_count_kv", .set = SET_ARRAY, .text = "22"},
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(edits); i++) {
        struct model *m = must_open(&llama, &edits[i]);
        assert_int_equal(model_hparams(m)->n_kv_heads, 2);
        model_close(&m);
    }
}

static void test_defaults_of_what_files_leave_out(void **state)
{
    (void)state;
    struct synth_options all_heads = llama;
    all_heads.kv_heads = 4;
    struct model *m = must_open(&all_heads, &(struct edit){.key = "llama.attention.head_count_kv"});
    assert_int_equal(model_hparams(m)->n_kv_heads, 4);
    model_close(&m);
    m = must_open(&llama, &(struct edit){.key = "llama.attention.key_length"});
    assert_int_equal(model_hparams(m)->head_dim, 16);
    model_close(&m);
    m = must_open(&llama, &(struct edit){.key = "llama.rope.dimension_count"});
    assert_int_equal(model_hparams(m)->n_rot, 16);
    model_close(&m);
    m = must_open(&llama, &(struct edit){.key = "llama.rope.freq_base"});
    assert_true(model_hparams(m)->rope_base == 10000);
    model_close(&m);
    m = must_open(&llama, &(struct edit){.key = "llama.vocab_size"});
    assert_int_equal(model_hparams(m)->n_vocab, 50);
    model_close(&m);
    m = must_open(&llama, &(struct edit){.key = "general.name"});
    assert_string_equal(model_hparams(m)->name, "edited.gguf");
    model_close(&m);
    m = must_open(&llama, &(struct edit){.tensor = "output.weight"});
    assert_ptr_equal(model_output(m), model_tensor_find(m, ROLE_EMBEDDING, -1));
    model_close(&m);
    m = must_open(&moe, &(struct edit){.key = "qwen3moe.expert_feed_forward_length"});
    assert_int_equal(model_hparams(m)->n_expert_ffn, 32);
    assert_true(model_hparams(m)->experts_norm && model_hparams(m)->experts_scale == 0);
    model_close(&m);
}

static void test_names_are_printable(void **state)
{
    (void)state;
    struct model *m = must_open(&llama, &(struct edit){.key = "general.name", .set = SET_STRING,
                                                       .text = "L\xC3\xA4ma\x1B[2J\n\xFF"});
    assert_string_equal(model_hparams(m)->name, "L\xC3\xA4ma?[2J??");
    model_close(&m);
}

static void test_expert_weights_as_the_file_says(void **state)
{
    (void)state;
    struct model *m = must_open(&moe, &(struct edit){.key = "qwen3moe.expert_weights_norm", .set = SET_BOOL});
    assert_false(model_hparams(m)->experts_norm);
    model_close(&m);
    m = must_open(&moe, &(struct edit){.key = "qwen3moe.expert_weights_scale", .set = SET_F32, .number = 2.5});
    assert_true(model_hparams(m)->experts_scale == 2.5F);
    model_close(&m);
}

static void test_harmless_extras_open(void **state)
{
    static const struct edit edits[] = {
        {.key = "general.type", .set = SET_STRING, .text = "model"},
        {.key = "split.count", .set = SET_U32, .number = 1},
        {.key = "llama.rope.scaling.factor", .set = SET_F32, .number = 0},
        {.key = "llama.rope.scaling.type", .set = SET_STRING, .text = "none"},
        {.key = "llama.attention.sliding_window", .set = SET_U32, .number = 4096},
        {.key = "llama.expert_count", .set = SET_U32, .number = 0},
        {.key = "llama.logit_scale", .set = SET_F32, .number = 1},
        {.key = "llama.attn_logit_softcapping", .set = SET_F32, .number = 0},
        {.add = "blk.1.attn_output.bias", .n_dims = 1, .ne = {64}},
        {.add = "blk.0.attn_q.bias", .n_dims = 1, .ne = {64}},
        {.add = "output.bias", .n_dims = 1, .ne = {50}},
        {.add = "cls.weight", .n_dims = 1, .ne = {3}},
        {.add = "rope_freqs.weight", .n_dims = 1, .ne = {8}},
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(edits); i++) {
        struct model *m = must_open(&llama, &edits[i]);
        model_close(&m);
    }
}

/* ---- refusals ---- */

static const struct refusal {
    const struct synth_options *of;
    struct edit edit;
    int status;
    const char *words;
} refusals[] = {
    {&llama, {.key = "general.architecture"}, ERR_CORRUPT, "has no general.architecture"},
    {&llama, {.key = "general.architecture", .set = SET_U32, .number = 1}, ERR_CORRUPT, "has no general.architecture"},
    {&llama, {.key = "general.architecture", .set = SET_STRING, .text = "gpt9"}, ERR_UNSUPPORTED,
     "is of family \"gpt9\"; this version runs llama, qwen2, "},
    {&llama, {.key = "general.architecture", .set = SET_STRING, .text = "\x1B[31m"}, ERR_UNSUPPORTED,
     "is of family \"?[31m\""},
    {&llama, {.key = "general.type", .set = SET_STRING, .text = "adapter"}, ERR_INVALID, "of type \"adapter\""},
    {&llama, {.key = "llama.block_count"}, ERR_CORRUPT, "has no llama.block_count"},
    {&llama, {.key = "llama.block_count", .set = SET_U32, .number = 0}, ERR_CORRUPT, "block_count is 0; 1 to 1024"},
    {&llama, {.key = "llama.block_count", .set = SET_U32, .number = 2147483648.0}, ERR_CORRUPT,
     "block_count is 2147483648; 1 to 1024"},
    {&llama, {.key = "llama.block_count", .set = SET_I32, .number = -1}, ERR_UNSUPPORTED, "not one whole number"},
    {&llama, {.key = "llama.block_count", .set = SET_STRING, .text = "2"}, ERR_UNSUPPORTED, "not one whole number"},
    {&llama, {.key = "llama.block_count", .set = SET_U32, .number = 3}, ERR_CORRUPT,
     "tensor blk.2.attn_norm.weight is missing"},
    {&llama, {.key = "llama.block_count", .set = SET_U32, .number = 1}, ERR_UNSUPPORTED,
     "has tensor blk.1.attn_norm.weight, which family llama does not have"},
    {&llama, {.key = "llama.embedding_length", .set = SET_U32, .number = 0}, ERR_CORRUPT, "embedding_length is 0"},
    {&llama, {.key = "llama.embedding_length", .set = SET_U32, .number = 65}, ERR_CORRUPT, "ask for 65 x 50"},
    {&llama, {.key = "llama.context_length"}, ERR_CORRUPT, "has no llama.context_length"},
    {&llama, {.key = "llama.context_length", .set = SET_U32, .number = 0}, ERR_CORRUPT, "context_length is 0"},
    {&llama, {.key = "llama.vocab_size", .set = SET_U32, .number = 1U << 30}, ERR_CORRUPT, "vocab_size is 1073741824"},
    {&llama, {.key = "tokenizer.ggml.tokens", .set = SET_ARRAY,
              .text = "012345678901234567890123456789012345678901234567890"}, ERR_CORRUPT,
     "its tokenizer has 51 tokens, its embedding only 50 rows"},
    {&llama, {.key = "llama.feed_forward_length"}, ERR_CORRUPT, "has no llama.feed_forward_length"},
    {&llama, {.key = "llama.feed_forward_length", .set = SET_U32, .number = 97}, ERR_CORRUPT,
     "tensor blk.0.ffn_gate.weight is 64 x 96 x 1; the model's numbers ask for 64 x 97 x 1"},
    {&llama, {.key = "llama.feed_forward_length", .set = SET_ARRAY, .text = "89"}, ERR_UNSUPPORTED,
     "not one whole number; models whose layers differ"},
    {&llama, {.key = "llama.feed_forward_length", .set = SET_ARRAY, .text = ""}, ERR_UNSUPPORTED, "not one whole"},
    {&llama, {.key = "llama.attention.head_count", .set = SET_U32, .number = 0}, ERR_CORRUPT, "head_count is 0"},
    {&llama, {.key = "llama.attention.head_count_kv", .set = SET_U32, .number = 0}, ERR_CORRUPT, "head_count_kv is 0"},
    {&llama, {.key = "llama.attention.head_count_kv", .set = SET_U32, .number = 3}, ERR_CORRUPT,
     "4 heads cannot share 3 KV heads"},
    {&llama, {.key = "llama.attention.head_count_kv", .set = SET_U32, .number = 8}, ERR_CORRUPT,
     "4 heads cannot share 8 KV heads"},
    {&llama, {.key = "llama.attention.key_length", .set = SET_U32, .number = 0}, ERR_CORRUPT, "key_length is 0"},
    {&llama, {.key = "llama.attention.key_length", .set = SET_U32, .number = 4096}, ERR_CORRUPT, "2 to 576 can be"},
    {&llama, {.key = "llama.attention.value_length", .set = SET_U32, .number = 32}, ERR_CORRUPT, "attn_v.weight"},
    {&llama, {.key = "llama.rope.dimension_count", .set = SET_U32, .number = 18}, ERR_CORRUPT,
     "rope.dimension_count 18 does not fit heads of 16"},
    {&llama, {.key = "llama.rope.dimension_count", .set = SET_U32, .number = 7}, ERR_CORRUPT, "dimension_count 7"},
    {&llama, {.key = "llama.attention.layer_norm_rms_epsilon"}, ERR_CORRUPT, "has no llama.attention.layer_norm_rms"},
    {&llama, {.key = "llama.attention.layer_norm_rms_epsilon", .set = SET_F32, .number = -1}, ERR_CORRUPT, "is -1; 0"},
    {&llama, {.key = "llama.attention.layer_norm_rms_epsilon", .set = SET_F32, .number = NAN}, ERR_CORRUPT,
     "is not a number"},
    {&llama, {.key = "llama.rope.freq_base", .set = SET_F32, .number = 0}, ERR_CORRUPT, "rope.freq_base is 0"},
    {&llama, {.key = "llama.rope.freq_base", .set = SET_F32, .number = INFINITY}, ERR_CORRUPT, "is not a number"},
    {&llama, {.key = "llama.rope.freq_base", .set = SET_STRING, .text = "1e6"}, ERR_CORRUPT, "is not a number"},
    {&llama, {.key = "llama.rope.scaling.factor", .set = SET_F32, .number = -2}, ERR_CORRUPT, "factor is -2"},
    {&llama, {.key = "llama.rope.scaling.type", .set = SET_STRING, .text = "longrope"}, ERR_UNSUPPORTED,
     "rope.scaling.type is \"longrope\"; none, linear, yarn"},
    {&llama, {.key = "llama.rope.scaling.original_context_length", .set = SET_U32, .number = 0}, ERR_CORRUPT,
     "original_context_length is 0"},
    {&llama, {.key = "llama.attention.scale", .set = SET_F32, .number = 0.1}, ERR_UNSUPPORTED,
     "sets llama.attention.scale, which family llama does not have"},
    {&llama, {.key = "llama.logit_scale", .set = SET_F32, .number = 8}, ERR_UNSUPPORTED, "sets llama.logit_scale"},
    {&llama, {.key = "llama.final_logit_softcapping", .set = SET_F32, .number = 30}, ERR_UNSUPPORTED, "softcapping"},
    {&moe, {.key = "qwen3moe.expert_gating_func", .set = SET_U32, .number = 2}, ERR_UNSUPPORTED, "expert_gating_func"},
    {&moe, {.key = "qwen3moe.expert_shared_count", .set = SET_U32, .number = 1}, ERR_UNSUPPORTED, "shared_count"},
    {&moe, {.key = "qwen3moe.expert_weights_norm", .set = SET_U32, .number = 1}, ERR_CORRUPT, "neither true nor false"},
    {&moe, {.key = "qwen3moe.expert_count"}, ERR_CORRUPT, "family qwen3moe always has experts"},
    {&moe, {.key = "qwen3moe.expert_count", .set = SET_U32, .number = 0}, ERR_CORRUPT, "always has experts"},
    {&moe, {.key = "qwen3moe.expert_used_count", .set = SET_U32, .number = 5}, ERR_CORRUPT, "uses 5 of 4 experts"},
    {&moe, {.key = "qwen3moe.expert_count", .set = SET_U32, .number = 5000}, ERR_CORRUPT, "expert_count is 5000"},
    {&moe, {.key = "qwen3moe.expert_count", .set = SET_U32, .number = 1}, ERR_CORRUPT, "uses 2 of 1 experts"},
    {&moe, {.key = "qwen3moe.expert_count", .set = SET_U32, .number = 5}, ERR_CORRUPT,
     "tensor blk.0.ffn_gate_inp.weight is 64 x 4 x 1; the model's numbers ask for 64 x 5 x 1"},
    {&moe, {.key = "qwen3moe.expert_used_count"}, ERR_CORRUPT, "has no qwen3moe.expert_used_count"},
    {&moe, {.key = "qwen3moe.expert_used_count", .set = SET_U32, .number = 0}, ERR_CORRUPT, "expert_used_count is 0"},
    {&llama, {.tensor = "blk.1.ffn_norm.weight", .add = "blk.1.ffn_norm.weight", .type = QTYPE_F16, .n_dims = 1,
              .ne = {64}}, ERR_UNSUPPORTED, "vector blk.1.ffn_norm.weight is stored as F16; vectors must be F32"},
    {&llama, {.tensor = "blk.1.ffn_norm.weight", .add = "blk.1.ffn_norm.weight", .n_dims = 2, .ne = {64, 2}},
     ERR_CORRUPT, "tensor blk.1.ffn_norm.weight is 64 x 2 x 1"},
    {&llama, {.add = "../../etc/passwd", .n_dims = 1, .ne = {64}}, ERR_UNSUPPORTED, "has tensor ../../etc/passwd"},
    {&llama, {.add = "blk.0.ffn_up.bias", .n_dims = 1, .ne = {96}}, ERR_UNSUPPORTED, "has tensor blk.0.ffn_up.bias"},
    {&llama, {.add = "blk.2.attn_norm.weight", .n_dims = 1, .ne = {64}}, ERR_UNSUPPORTED,
     "has tensor blk.2.attn_norm.weight"},
    {&llama, {.add = "rope_freqs.weight", .n_dims = 1, .ne = {16}}, ERR_CORRUPT, "tensor rope_freqs.weight is 16 x"},
    {&llama, {.tensor = "blk.0.attn_q.weight", .add = "blk.0.attn_qkv.weight", .n_dims = 2, .ne = {64, 128}},
     ERR_UNSUPPORTED, "has tensor blk.0.attn_k.weight"},
    {&llama, {.tensor = "blk.0.attn_q.weight", .add = "blk.0.attn_qkv.weight", .n_dims = 2, .ne = {64, 127}},
     ERR_CORRUPT, "ask for 64 x 128 x 1"},
    {&llama, {.tensor = "blk.0.ffn_gate.weight", .add = "blk.0.ffn_up.bias", .n_dims = 1, .ne = {96}}, ERR_CORRUPT,
     "tensor blk.0.ffn_gate.weight is missing"},
    {&moe, {.tensor = "blk.0.ffn_gate_exps.weight", .add = "blk.0.ffn_gate_up_exps.weight", .n_dims = 3,
            .ne = {64, 64, 4}}, ERR_UNSUPPORTED, "has tensor blk.0.ffn_up_exps.weight"},
    {&moe, {.tensor = "blk.0.ffn_gate_exps.weight", .add = "blk.0.ffn_gate.0.weight", .n_dims = 2, .ne = {64, 32}},
     ERR_UNSUPPORTED, "keeps every expert in a tensor of its own"},
};

static const struct synth_options sparse = {
    .family = "glm-dsa", .layers = 2, .hidden = 64, .heads = 4, .head_dim = 32, .ffn = 96, .experts = 4,
    .experts_used = 2, .expert_ffn = 32, .vocab = 50, .context = 128, .type = "f32"};

static void test_indexers_are_where_the_file_says(void **state)
{
    static const struct refusal cases[] = {
        {&sparse, {.key = "glm-dsa.attention.indexer.types", .set = SET_ARRAY, .text = "01"}, ERR_CORRUPT,
         "leaves the first layer without an indexer"},
        {&sparse, {.key = "glm-dsa.attention.indexer.types", .set = SET_ARRAY, .text = "1"}, ERR_CORRUPT,
         "does not say of layer 1"},
        {&sparse, {.key = "glm-dsa.attention.indexer.top_k"}, ERR_CORRUPT, "has no glm-dsa.attention.indexer.top_k"},
        {&sparse, {.key = "glm-dsa.attention.indexer.top_k", .set = SET_U32, .number = 0}, ERR_CORRUPT, "top_k is 0"},
        {&sparse, {.key = "glm-dsa.attention.indexer.key_length", .set = SET_U32, .number = 8}, ERR_CORRUPT,
         "key_length is 8; 16 to"},
        {&sparse, {.key = "glm-dsa.attention.indexer.head_count", .set = SET_U32, .number = 3}, ERR_CORRUPT,
         "tensor blk.0.indexer.proj.weight is 64 x 2 x 1; the model's numbers ask for 64 x 3 x 1"},
        {&sparse, {.key = "glm-dsa.attention.key_length_mla", .add = "blk.1.attn_kv_b.weight", .n_dims = 2,
                   .ne = {128, 256}}, ERR_UNSUPPORTED, "keeps attn_kv_b in one"},
        {&sparse, {.tensor = "blk.1.indexer.k_norm.bias"}, ERR_CORRUPT, "blk.1.indexer.k_norm.bias is missing"},
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct error e;
        struct model *m;
        assert_int_equal(open_edited(&m, cases[i].of, &cases[i].edit, &e), cases[i].status);
        if (!strstr(e.text, cases[i].words))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.text, cases[i].words);
    }
    /* the second layer goes by the first one's choice, and its own tensors are of no use */
    struct model *m = must_open(&sparse, &(struct edit){.key = "glm-dsa.attention.indexer.types", .set = SET_ARRAY,
                                                        .text = "10"});
    const struct hparams *h = model_hparams(m);
    assert_true(h->layers[0].indexed && !h->layers[1].indexed);
    assert_null(model_tensor_find(m, ROLE_INDEX_Q, 1));
    assert_int_equal(model_kv_bytes_per_token(m, 2, KV_F32), (2 * h->cache_key_dim + h->index.dim) * 4);
    assert_int_equal(model_range_kv_bytes(m, 1, 2, KV_F32), h->cache_key_dim * 4);
    model_close(&m);
}

static void test_layers_attend_where_the_file_says(void **state)
{
    static const struct {
        const char *list, *words;
    } cases[] = {{"0", "does not say 0 or 1 of layer 1"}, {"02", "does not say 0 or 1 of layer 1"},
                 {"", "does not say 0 or 1 of layer 0"}, {"11", "tensor blk.0.attn_q.weight is 64 x 128"}};
    struct synth_options o = sparse;
    struct error e;
    struct model *m;
    (void)state;
    o.family = "kimi-linear";
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct edit d = {.key = "kimi-linear.attention.head_count_kv", .set = SET_ARRAY, .text = cases[i].list};
        assert_int_equal(open_edited(&m, &o, &d, &e), ERR_CORRUPT);
        if (!strstr(e.text, cases[i].words))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.text, cases[i].words);
    }
    m = must_open(&o, &(struct edit){.key = "kimi-linear.attention.head_count_kv", .set = SET_ARRAY, .text = "01"});
    assert_int_equal(model_state_layers(m, 0, 2), 1);
    assert_true(model_hparams(m)->layers[0].delta && model_hparams(m)->layers[1].no_rope);
    model_close(&m);
}

static void test_long_glm_models_share_indexers(void **state)
{
    static const bool own[] = {true, true, true, false, false, false, true, false};
    struct error e = {0};
    struct model *m = NULL;
    (void)state;
    struct synth_options o = sparse;
    o.layers = COUNTOF(own);
    o.context = 1 << 20;
    assert_int_equal(synth_write(folder_path("long.gguf"), &o, &e), 0);
    assert_int_equal(model_open(&m, folder_path("long.gguf"), &e), 0);
    for (uint32_t i = 0; i < COUNTOF(own); i++)
        assert_int_equal(model_hparams(m)->layers[i].indexed, own[i]);
    model_close(&m);
}

static void test_refusals_say_what_is_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(refusals); i++) {
        const struct refusal *c = &refusals[i];
        struct error e;
        struct model *m;
        int r = open_edited(&m, c->of, &c->edit, &e);
        assert_null(m);
        if (r != c->status || !strstr(e.text, c->words))
            fail_msg("case %zu: status %d \"%s\" does not say \"%s\"", i, r, e.text, c->words);
    }
}

static void test_family_of_two_kinds_of_layers(void **state)
{
    static const struct edit dense_moe = {.key = "qwen3.expert_count", .set = SET_U32, .number = 4};
    struct error e;
    struct model *m;
    (void)state;
    struct synth_options o = llama;
    o.family = "qwen3";
    assert_int_equal(open_edited(&m, &o, &dense_moe, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "family qwen3 has no experts, and this file says expert_count 4"));
}

/* "llama" with a NUL and more behind it is another name. */
static void test_family_names_end_where_they_end(void **state)
{
    struct error e;
    struct model *m;
    struct raw r;
    (void)state;
    raw_open(&r);
    raw_key(&r, "general.architecture", GGUF_STRING);
    buffer_u64(&r.values, 7);
    buffer_add(&r.values, "llama\0x", 7);
    raw_write(&r, "nul.gguf");
    raw_close(&r);
    assert_int_equal(model_open(&m, folder_path("nul.gguf"), &e), ERR_UNSUPPORTED);
}

static void test_vocabularies_are_no_models(void **state)
{
    struct error e;
    struct model *m;
    struct gguf *g;
    struct raw r;
    (void)state;
    assert_int_equal(synth_write(folder_path("sound.gguf"), &llama, &e), 0);
    assert_int_equal(gguf_open(&g, folder_path("sound.gguf"), &e), 0);
    raw_open(&r);
    raw_copy(&r, g, NULL, NULL);
    r.n_tensors = 0;
    buffer_clear(&r.infos);
    buffer_clear(&r.data);
    raw_write(&r, "vocabulary.gguf");
    raw_close(&r);
    gguf_close(&g);
    assert_int_equal(model_open(&m, folder_path("vocabulary.gguf"), &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "no model but a vocabulary"));
}

static void test_every_missing_tensor_is_named(void **state)
{
    static const struct synth_options *const models[] = {&llama, &moe};
    struct error e;
    (void)state;
    for (size_t k = 0; k < COUNTOF(models); k++) {
        struct model *whole = must_open(models[k], &(struct edit){0}), *m;
        for (size_t i = 0; i < model_tensor_count(whole); i++) {
            const struct model_tensor *t = model_tensor_at(whole, i);
            char name[GGUF_NAME_MAX + 1], words[128];
            arch_tensor_name(t->rule->name, t->layer, name);
            assert_string_equal(name, t->info->name);
            if (t->rule->role == ROLE_OUTPUT)
                continue;
            snprintf(words, sizeof(words), "tensor %s is missing", name);
            assert_int_equal(open_edited(&m, models[k], &(struct edit){.tensor = name}, &e), ERR_CORRUPT);
            if (!strstr(e.text, words))
                fail_msg("\"%s\" does not say \"%s\"", e.text, words);
        }
        model_close(&whole);
    }
}

/* A flag of a family demands its tensors; without it they may be there all the same. */
static void test_flags_demand_tensors(void **state)
{
    static const struct {
        const char *family, *tensor;
    } cases[] = {{"qwen2", "blk.1.attn_k.bias"}, {"qwen3", "blk.0.attn_q_norm.weight"}};
    struct error e;
    struct model *m;
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct synth_options o = llama;
        o.family = cases[i].family;
        assert_int_equal(open_edited(&m, &o, &(struct edit){.tensor = cases[i].tensor}, &e), ERR_CORRUPT);
        assert_non_null(strstr(e.text, cases[i].tensor));
    }
    const struct edit norm = {.add = "blk.0.attn_q_norm.weight", .n_dims = 1, .ne = {16}};
    assert_int_equal(open_edited(&m, &llama, &norm, &e), ERR_UNSUPPORTED);
}

/* ---- tensors that hold several ---- */

/* A copy of the sound model in which layer 0's `parts` are stacked in one tensor, expert by expert. */
static void write_fused(const char *name, const char *const parts[], size_t n_parts)
{
    struct gguf *g;
    struct raw r;
    struct error e = {0};
    uint8_t *data = malloc(1 << 20);
    uint64_t ne[3] = {0}, at = 0, slices = 1;
    assert_int_equal(gguf_open(&g, folder_path("sound.gguf"), &e), 0);
    raw_open(&r);
    raw_copy(&r, g, NULL, NULL);
    r.n_tensors = 0;
    buffer_clear(&r.infos);
    buffer_clear(&r.data);
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        bool part = false;
        for (size_t k = 0; k < n_parts; k++)
            part = part || strcmp(parts[k], t->name) == 0;
        if (!part)
            raw_tensor(&r, t->name, t->type->id, t->n_dims, t->ne, gguf_tensor_bytes(g, t), t->bytes);
    }
    for (uint64_t s = 0; s < slices; s++)
        for (size_t k = 0; k < n_parts; k++) {
            const struct gguf_tensor *t = gguf_tensor_find(g, parts[k]);
            slices = t->ne[2];
            memcpy(data + at, (const uint8_t *)gguf_tensor_bytes(g, t) + s * (t->bytes / slices), t->bytes / slices);
            at += t->bytes / slices;
            ne[0] = t->ne[0];
            ne[1] += s == 0 ? t->ne[1] : 0;
        }
    ne[2] = slices;
    raw_tensor(&r, name, QTYPE_F32, slices > 1 ? 3 : 2, ne, data, at);
    raw_write(&r, "fused.gguf");
    raw_close(&r);
    gguf_close(&g);
    free(data);
}

static const uint8_t *slice_at(const struct model *m, const struct model_tensor *t, uint64_t slice)
{
    return (const uint8_t *)gguf_tensor_bytes(model_file(m), t->info) + t->offset + slice * t->slice_stride;
}

static void check_fused(const struct synth_options *o, const char *name, const char *const parts[], size_t n_parts)
{
    struct model *whole = must_open(o, &(struct edit){0}), *m = NULL;
    struct error e = {0};
    write_fused(name, parts, n_parts);
    if (model_open(&m, folder_path("fused.gguf"), &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(model_layer_bytes(m, 0), model_layer_bytes(whole, 0));
    assert_int_equal(model_params_total(m), model_params_total(whole));
    for (int role = 0; role < ROLE_LAYER_COUNT; role++) {
        const struct model_tensor *a = model_tensor_find(m, (enum role)role, 0);
        const struct model_tensor *b = model_tensor_find(whole, (enum role)role, 0);
        assert_int_equal(a != NULL, b != NULL);
        for (uint64_t s = 0; a && s < b->info->ne[2]; s++)
            assert_memory_equal(slice_at(m, a, s), slice_at(whole, b, s), b->bytes / b->info->ne[2]);
    }
    model_close(&m);
    model_close(&whole);
}

static void test_stacked_tensors_are_seen_as_their_parts(void **state)
{
    static const char *const qkv[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"};
    static const char *const ffn[] = {"blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"};
    static const char *const experts[] = {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight"};
    (void)state;
    struct synth_options phi = llama;
    phi.family = "phi3";
    phi.apart = true;
    check_fused(&llama, "blk.0.attn_qkv.weight", qkv, 3);
    check_fused(&phi, "blk.0.ffn_up.weight", ffn, 2);
    check_fused(&moe, "blk.0.ffn_gate_up_exps.weight", experts, 2);
}

/* ---- families ---- */

static void test_layers_differ_as_the_family_says(void **state)
{
    static const struct edit lead = {.key = "glm4moe.leading_dense_block_count", .set = SET_U32, .number = 1};
    struct synth_options o = llama;
    (void)state;
    o.family = "gemma3";
    o.layers = 7;
    struct model *m = must_open(&o, &(struct edit){.key = "gemma3.attention.sliding_window", .set = SET_U32,
                                                   .number = 9});
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(model_hparams(m)->layers[i].window, i == 5 ? 0 : 9);
        assert_int_equal(model_hparams(m)->layers[i].local_rope, i != 5);
        assert_false(model_hparams(m)->layers[i].experts);
    }
    model_close(&m);
    o = moe;
    o.family = "glm4moe";
    m = must_open(&o, &lead); /* its first layer has a router all the same */
    assert_true(model_hparams(m)->layers[0].experts && model_hparams(m)->layers[1].experts);
    assert_true(model_hparams(m)->scores == SCORE_SIGMOID && model_hparams(m)->n_shared_ffn == 32);
    model_close(&m);
}

/* Ask a model for all that planners ask: none of it may divide by zero or overflow. */
static void plan_with(const struct model *m)
{
    const struct hparams *h = model_hparams(m);
    struct layer_range all = {0, h->n_layers, true, true}, middle = {h->n_layers / 2, h->n_layers, false, false};
    float *inv = malloc(h->n_rot / 2 * sizeof(*inv)), scale;
    assert_non_null(inv);
    model_rope(m, inv, &scale);
    free(inv);
    assert_true(model_params_active(m) <= model_params_total(m));
    assert_true(model_range_bytes(m, &middle) < model_range_bytes(m, &all));
    assert_true(model_range_bytes(m, &all) <= gguf_file_bytes(model_file(m)));
    assert_true(model_range_bytes_per_token(m, &all) <= model_range_bytes(m, &all));
    assert_true(model_scratch_bytes(m, &all, 1024, 0) > model_scratch_bytes(m, &middle, 1, 0));
    assert_true(model_kv_bytes_per_token(m, h->n_layers, KV_F32) > 0);
}

static void test_random_damage_does_no_harm(void **state)
{
    static const struct synth_options *const models[] = {&llama, &moe};
    struct error e;
    struct random_state random;
    int opened = 0, refused = 0;
    char path[64];
    (void)state;
    random_seed(&random, 80);
    int fd = memfd_create("damaged.gguf", MFD_CLOEXEC);
    assert_true(fd >= 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    for (size_t k = 0; k < COUNTOF(models); k++) {
        size_t n;
        struct model *m = must_open(models[k], &(struct edit){0});
        size_t header = gguf_header_bytes(model_file(m));
        model_close(&m);
        uint8_t *bytes = folder_read("edited.gguf", &n);
        for (int round = 0; round < 4000; round++) {
            size_t at = 24 + random_u64(&random) % (header - 24);
            uint8_t before = bytes[at];
            bytes[at] = random_u64(&random) % 4 ? (uint8_t)(before ^ 1 << random_u64(&random) % 8) : 0;
            assert_int_equal(pwrite(fd, bytes, n, 0), n);
            bytes[at] = before;
            e = (struct error){0};
            if (model_open(&m, path, &e) != 0) {
                assert_true(e.text[0] != 0);
                refused++;
                continue;
            }
            plan_with(m);
            model_close(&m);
            opened++;
        }
        free(bytes);
    }
    close(fd);
    assert_true(opened > 100 && refused > 1000);
}

/* ---- models of others ---- */

static void check_golden(const char *path)
{
    struct gguf *g = NULL;
    struct model *m = NULL;
    struct gguf_string s;
    struct error e = {0};
    char family[64];
    int r = gguf_open(&g, path, &e);
    if (r == ERR_UNSUPPORTED && strstr(e.text, "which this version"))
        return; /* a type that nobody computes with yet, said so */
    assert_int_equal(r, 0);
    assert_true(gguf_get_string(g, "general.architecture", &s) && s.len < sizeof(family));
    snprintf(family, sizeof(family), "%.*s", (int)s.len, s.text);
    gguf_close(&g);
    r = model_open(&m, path, &e);
    if (arch_find(family)) {
        if (r != 0)
            fail_msg("%s", e.text);
        assert_string_equal(model_hparams(m)->arch->name, family);
        model_close(&m);
        return;
    }
    assert_int_equal(r, ERR_UNSUPPORTED);
    if (!strstr(e.text, family) || !strstr(e.text, "this version runs llama"))
        fail_msg("\"%s\" does not name family %s", e.text, family);
}

static void test_goldens_open_or_are_refused_by_name(void **state)
{
    const char *folder = getenv("SHOAL_GOLDENS");
    char path[512];
    int n = 0;
    (void)state;
    snprintf(path, sizeof(path), "%s/models", folder ? folder : "../shared/goldens");
    DIR *d = opendir(path);
    if (!d) {
        print_message("    skipped: no folder %s\n", path);
        skip();
    }
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;) {
        size_t len = strlen(entry->d_name);
        if (len < 5 || strcmp(entry->d_name + len - 5, ".gguf") != 0)
            continue;
        char file[1024];
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        check_golden(file);
        n++;
    }
    closedir(d);
    print_message("    %d models\n", n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_of_any_width),
        cmocka_unit_test(test_defaults_of_what_files_leave_out),
        cmocka_unit_test(test_names_are_printable),
        cmocka_unit_test(test_expert_weights_as_the_file_says),
        cmocka_unit_test(test_harmless_extras_open),
        cmocka_unit_test(test_refusals_say_what_is_wrong),
        cmocka_unit_test(test_indexers_are_where_the_file_says),
        cmocka_unit_test(test_layers_attend_where_the_file_says),
        cmocka_unit_test(test_long_glm_models_share_indexers),
        cmocka_unit_test(test_family_of_two_kinds_of_layers),
        cmocka_unit_test(test_family_names_end_where_they_end),
        cmocka_unit_test(test_vocabularies_are_no_models),
        cmocka_unit_test(test_every_missing_tensor_is_named),
        cmocka_unit_test(test_flags_demand_tensors),
        cmocka_unit_test(test_stacked_tensors_are_seen_as_their_parts),
        cmocka_unit_test(test_layers_differ_as_the_family_says),
        cmocka_unit_test(test_random_damage_does_no_harm),
        cmocka_unit_test(test_goldens_open_or_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
