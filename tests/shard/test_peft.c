/* test_peft: adapters that PEFT wrote (tests/shard/make_peft.py) give the logits of transformers with them, whole and
 * cut at every layer; and those that ask for more are refused in words. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "base/path.h"
#include "tests/shard/folder.h"
#include "tests/shard/route.h"

#define MODELS "tests/data/hf"
#define ADAPTERS "tests/data/peft"

enum { ROWS_MAX = 64 };

struct expected {
    char model[256], adapter[256];
    uint32_t n, n_vocab;
    int32_t prompt[ROWS_MAX];
    float *logits; /* [n, n_vocab] */
};

static void read_expected(struct expected *x, const char *name)
{
    char path[320], *data;
    size_t len;
    snprintf(x->adapter, sizeof(x->adapter), ADAPTERS "/%s", name);
    snprintf(path, sizeof(path), "%s/expected.json", x->adapter);
    json_t *j = json_load_file(path, 0, NULL), *prompt = json_object_get(j, "prompt");
    assert_non_null(j);
    snprintf(x->model, sizeof(x->model), MODELS "/%s", json_string_value(json_object_get(j, "model")));
    x->n = (uint32_t)json_array_size(prompt);
    assert_true(x->n > 0 && x->n <= ROWS_MAX);
    for (uint32_t i = 0; i < x->n; i++)
        x->prompt[i] = (int32_t)json_integer_value(json_array_get(prompt, i));
    json_decref(j);
    snprintf(path, sizeof(path), "%s/logits.f32", x->adapter);
    assert_int_equal(path_read(path, 1 << 20, &data, &len, NULL), 0);
    x->n_vocab = (uint32_t)(len / sizeof(float) / x->n);
    x->logits = mem_alloc(len);
    memcpy(x->logits, data, len);
    mem_free(data);
}

/* Logits with the adapter, from one shard or cut before a layer. */
static float *run(const struct expected *x, const struct adapter *a, uint32_t cut)
{
    struct shard_adapter served = {a, 1};
    struct route_options o = {.path = x->model, .adapters = &served, .n_adapters = 1, .n = cut ? 2 : 1, .cuts = {cut}};
    struct route r;
    route_open(&r, &o);
    assert_int_equal(model_hparams(r.model)->n_vocab, x->n_vocab);
    r.adapter = 1;
    float *logits = route_run(&r, 1, 0, x->prompt, x->n, x->n);
    route_close(&r);
    return logits;
}

static void check(const char *name)
{
    struct expected x;
    struct model *m;
    struct adapter *a;
    struct error e = {0};
    read_expected(&x, name);
    if (model_open(&m, x.model, &e) != 0 || adapter_open(&a, x.adapter, m, &e) != 0)
        fail_msg("%s: %s", name, e.text);
    size_t values = (size_t)x.n * x.n_vocab;
    float *whole = run(&x, a, 0);
    double error = route_error(whole, x.logits, values);
    print_message("        %s: error %.2g\n", name, error);
    if (!(error < 1e-6))
        fail_msg("%s: error %g", name, error);
    for (uint32_t cut = 1; cut < model_hparams(m)->n_layers; cut++) {
        float *parts = run(&x, a, cut);
        assert_memory_equal(parts, whole, values * sizeof(float));
        mem_free(parts);
    }
    mem_free(whole);
    mem_free(x.logits);
    adapter_close(&a);
    model_close(&m);
}

static void test_peft_adapters_give_the_logits_of_transformers(void **state)
{
    (void)state;
    DIR *d = opendir(ADAPTERS);
    size_t n = 0;
    assert_non_null(d);
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        if (entry->d_name[0] != '.') {
            check(entry->d_name);
            n++;
        }
    closedir(d);
    assert_true(n > 0);
}

/* ---- refusals ---- */

/* The llama adapter with another config, whose text is `from` replaced by `to`, or with other weights. */
static int open_changed(const char *from, const char *to, bool cut, struct error *e)
{
    char *config, *weights;
    size_t n, m;
    struct model *model;
    struct adapter *a = NULL;
    assert_int_equal(path_read(ADAPTERS "/llama/adapter_config.json", 1 << 20, &config, &n, NULL), 0);
    assert_int_equal(path_read(ADAPTERS "/llama/adapter_model.safetensors", 1 << 20, &weights, &m, NULL), 0);
    char *at = from ? strstr(config, from) : NULL;
    char *changed = at ? mem_printf("%.*s%s%s", (int)(at - config), config, to, at + strlen(from))
                       : mem_strdup(from ? "" : config);
    folder_write("adapter_config.json", changed, strlen(changed));
    folder_write("adapter_model.safetensors", weights, cut ? m - 1 : m);
    assert_int_equal(model_open(&model, MODELS "/llama", NULL), 0);
    int r = adapter_open(&a, folder_path("adapter_model.safetensors"), model, e);
    assert_true((r == 0) == (a != NULL));
    adapter_close(&a);
    model_close(&model);
    mem_free(changed);
    mem_free(config);
    mem_free(weights);
    return r;
}

static void test_peft_configs_that_ask_for_more_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *words;
        int status;
    } cases[] = {
        {"\"LORA\"", "\"IA3\"", "is of type IA3", ERR_UNSUPPORTED},
        {"\"peft_type\": \"LORA\"", "\"x\": 1", "is of type none", ERR_UNSUPPORTED},
        {"\"bias\": \"none\"", "\"bias\": \"all\"", "biases (bias)", ERR_UNSUPPORTED},
        {"\"use_dora\": false", "\"use_dora\": true", "DoRA", ERR_UNSUPPORTED},
        {"\"lora_bias\": false", "\"lora_bias\": true", "lora_bias", ERR_UNSUPPORTED},
        {"\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]", "modules_to_save", ERR_UNSUPPORTED},
        {"\"target_parameters\": null", "\"target_parameters\": [\"x\"]", "target_parameters", ERR_UNSUPPORTED},
        {"\"trainable_token_indices\": null", "\"trainable_token_indices\": [1]", "trainable_token", ERR_UNSUPPORTED},
        {"\"fan_in_fan_out\": false", "\"fan_in_fan_out\": true", "fan_in_fan_out", ERR_UNSUPPORTED},
        {"\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa_niter_4\"", "changed before", ERR_UNSUPPORTED},
        {"\"alpha_pattern\": {}", "\"alpha_pattern\": {\".*q\": 2}", "alpha_pattern", ERR_UNSUPPORTED},
        {"\"lora_alpha\": 6", "\"lora_alpha\": \"6\"", "lora_alpha is missing", ERR_CORRUPT},
        {"\"lora_alpha\": 6", "\"lora_alpha\": 1e999", "", ERR_CORRUPT},
        {"{", "[", "adapter_config.json", ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct error e = {0};
        int r = open_changed(cases[i].from, cases[i].to, false, &e);
        if (r != cases[i].status || !strstr(e.text, cases[i].words))
            fail_msg("%s: %s: %s", cases[i].to, status_name(r), e.text);
    }
    struct error e = {0};
    assert_int_equal(open_changed(NULL, NULL, false, &e), 0);
    assert_int_equal(open_changed(NULL, NULL, true, &e), ERR_CORRUPT);
}

static void write_safetensors(const char *head)
{
    char bytes[2048] = {0};
    size_t n = strlen(head);
    bytes[0] = (char)(n % 256);
    bytes[1] = (char)(n / 256);
    memcpy(bytes + 8, head, n);
    folder_write("adapter_model.safetensors", bytes, 8 + n + 512);
}

/* Two tensors of 256 bytes, the second of which is B. */
#define PAIR(a, a_shape, b, b_shape)                                                                            \
    "{\"" a "\":{\"dtype\":\"F32\",\"shape\":" a_shape ",\"data_offsets\":[0,256]},"                            \
    "\"" b "\":{\"dtype\":\"F32\",\"shape\":" b_shape ",\"data_offsets\":[256,512]}}"
#define Q "base_model.model.model.layers.0.self_attn.q_proj"

static void test_peft_weights_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *head, *words;
        int status;
    } cases[] = {
        {PAIR(Q ".lora_A.weight", "[2,32]", Q ".lora_B.weight", "[32,2]"), "", 0},
        {PAIR(Q ".lora_A.weight", "[2,32]", Q ".lora_C.weight", "[32,2]"), "has", ERR_CORRUPT},
        {PAIR(Q ".lora_A.weight", "[2,32]", "x.lora_B.weight", "[32,2]"), "and no", ERR_CORRUPT},
        {PAIR(Q ".lora_A.weight", "[4,16]", Q ".lora_B.weight", "[32,2]"), "has rank 4", ERR_CORRUPT},
        {PAIR(Q ".lora_A.weight", "[2,2,16]", Q ".lora_B.weight", "[32,2]"), "other dimensions", ERR_CORRUPT},
        {PAIR(Q ".lora_A.weight", "[4,16]", Q ".lora_B.weight", "[16,4]"), "made for another model", ERR_INVALID},
        {PAIR("base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", "[2,32]",
              "base_model.model.model.layers.9.self_attn.q_proj.lora_B.weight", "[32,2]"), "layer 9", ERR_INVALID},
        {PAIR("base_model.model.model.layers.0.self_attn.x_proj.lora_A.weight", "[2,32]",
              "base_model.model.model.layers.0.self_attn.x_proj.lora_B.weight", "[32,2]"), "x_proj", ERR_UNSUPPORTED},
        {PAIR("base_model.model.lm_head.lora_A.weight", "[2,32]", "base_model.model.lm_head.lora_B.weight", "[32,2]"),
         "changes module lm_head, which is no matrix inside the layers", ERR_UNSUPPORTED},
        {PAIR("base_model.model.model.embed_tokens.lora_embedding_A", "[2,32]",
              "base_model.model.model.embed_tokens.lora_embedding_B", "[32,2]"), "embedding", ERR_UNSUPPORTED},
        {PAIR(Q ".lora_magnitude_vector", "[64]", Q ".lora_B.weight", "[32,2]"), "DoRA", ERR_UNSUPPORTED},
        {PAIR("base_model.model.lm_head.weight", "[2,32]", Q ".lora_B.weight", "[32,2]"), "no part", ERR_UNSUPPORTED},
    };
    char *config;
    size_t n;
    struct model *m;
    assert_int_equal(path_read(ADAPTERS "/llama/adapter_config.json", 1 << 20, &config, &n, NULL), 0);
    folder_write("adapter_config.json", config, n);
    assert_int_equal(model_open(&m, MODELS "/llama", NULL), 0);
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct error e = {0};
        struct adapter *a = NULL;
        write_safetensors(cases[i].head);
        int r = adapter_open(&a, folder_path("adapter_model.safetensors"), m, &e);
        if (r != cases[i].status || !strstr(e.text, cases[i].words))
            fail_msg("%zu: %s: %s", i, status_name(r), e.text);
        adapter_close(&a);
    }
    model_close(&m);
    mem_free(config);
}

/* An expert's own pair: the others' add nothing. */
static void test_peft_experts_have_pairs_of_their_own(void **state)
{
    (void)state;
    static const char head[] = PAIR("base_model.model.model.layers.1.block_sparse_moe.experts.2.w1.lora_A.weight",
                                    "[2,32]", "base_model.model.model.layers.1.block_sparse_moe.experts.2.w1."
                                    "lora_B.weight", "[24,2]");
    char *config, bytes[2048] = {0};
    size_t n, m = strlen(head);
    struct model *model;
    struct adapter *a;
    struct error e = {0};
    float values[64], av[4 * 64], bv[4 * 48];
    for (int i = 0; i < 64; i++)
        values[i] = (float)i + 1;
    char *text = mem_printf("%s", head), *at = strstr(text, "512]");
    memcpy(at, "448]", 4);
    bytes[0] = (char)(m % 256);
    bytes[1] = (char)(m / 256);
    memcpy(bytes + 8, text, m);
    memcpy(bytes + 8 + m, values, 256);
    memcpy(bytes + 8 + m + 256, values, 192);
    folder_write("adapter_model.safetensors", bytes, 8 + m + 448);
    assert_int_equal(path_read(ADAPTERS "/llama/adapter_config.json", 1 << 20, &config, &n, NULL), 0);
    folder_write("adapter_config.json", config, n);
    assert_int_equal(model_open(&model, MODELS "/mixtral", NULL), 0);
    if (adapter_open(&a, folder_path("adapter_model.safetensors"), model, &e) != 0)
        fail_msg("%s", e.text);
    const struct adapter_pair *p = adapter_pair_find(a, ROLE_GATE_EXPERTS, 1);
    assert_true(p && p->slices == 4 && p->a_slices == 4 && p->b_slices == 4 && p->rank == 2);
    adapter_read(a, p, 1, av, bv);
    for (int i = 0; i < 4 * 64; i++)
        assert_true(av[i] == (i / 64 == 2 ? (float)(i % 64) + 1 : 0));
    for (int i = 0; i < 4 * 48; i++) /* alpha / rank is 3 */
        assert_true(bv[i] == (i / 48 == 2 ? 3 * ((float)(i % 48) + 1) : 0));
    adapter_close(&a);
    model_close(&model);
    mem_free(text);
    mem_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peft_adapters_give_the_logits_of_transformers),
        cmocka_unit_test(test_peft_configs_that_ask_for_more_are_refused),
        cmocka_unit_test(test_peft_experts_have_pairs_of_their_own),
        cmocka_unit_test(test_peft_weights_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
