/* test_hf_refuse: folders that lie, lack something or ask for what there is not are refused with one sentence.
 *
 * A sound folder (tests/data/hf) is copied and one thing in it changed.           */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/arch/arch.h"
#include "tests/shard/folder.h"

#define SOUND "tests/data/hf/"
#define INDEX "model.safetensors.index.json"

static char *copy; /* the folder in which something is wrong */

static void put(const char *name, const void *data, size_t n)
{
    char *path = path_join("copy", name);
    (void)unlink(folder_path(path)); /* some file systems wait for a file that is written anew */
    folder_write(path, data, n);
    mem_free(path);
}

static void copy_file(const char *from, const char *name)
{
    char *source = path_join(from, name), *data;
    size_t len;
    assert_int_equal(path_read(source, 1 << 20, &data, &len, NULL), 0);
    put(name, data, len);
    mem_free(data);
    mem_free(source);
}

static void clear(void)
{
    DIR *d = opendir(copy);
    assert_non_null(d);
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            char *path = path_join(copy, entry->d_name);
            assert_int_equal(remove(path), 0);
            mem_free(path);
        }
    closedir(d);
}

/* The copy becomes that of a sound folder. */
static void begin(const char *name)
{
    char *from = mem_printf(SOUND "%s", name);
    DIR *d = opendir(from);
    assert_non_null(d);
    clear();
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        if (strstr(entry->d_name, ".json") || strstr(entry->d_name, ".safetensors"))
            copy_file(from, entry->d_name);
    closedir(d);
    mem_free(from);
}

static void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

static json_t *load(const char *name)
{
    char *path = path_join(copy, name);
    json_t *j = json_load_file(path, 0, NULL);
    assert_non_null(j);
    mem_free(path);
    return j;
}

static void store(const char *name, json_t *j)
{
    char *text = json_dumps(j, 0);
    put_text(name, text);
    free(text);
    json_decref(j);
}

/* One key of config.json gets this value (JSON; NULL: it is taken away). */
static void set(const char *key, const char *value)
{
    json_t *j = load("config.json");
    if (value) {
        json_t *v = json_loads(value, JSON_DECODE_ANY, NULL);
        assert_non_null(v);
        json_object_set_new(j, key, v);
    } else {
        json_object_del(j, key);
    }
    store("config.json", j);
}

static void refuse(int status, const char *words)
{
    struct model *m = (struct model *)1;
    struct error e = {0};
    int r = model_open(&m, copy, &e);
    if (r != status || !strstr(e.text, words))
        fail_msg("%d, \"%s\": not %d, \"%s\"", r, e.text, status, words);
    assert_null(m);
}

static void accept(void)
{
    struct model *m;
    struct error e = {0};
    if (model_open(&m, copy, &e) != 0)
        fail_msg("%s", e.text);
    model_close(&m);
}

static int open_copy(void **state)
{
    int r = folder_open(state);
    copy = mem_strdup(folder_path("copy"));
    return r == 0 ? mkdir(copy, 0700) : r;
}

static int close_copy(void **state)
{
    mem_free(copy);
    return folder_close(state);
}

/* ---- config.json ---- */

static const struct {
    const char *model, *key, *value, *words;
    int status;
} configs[] = {
    {"qwen3_moe", "model_type", NULL, "no model_type", ERR_CORRUPT},
    {"qwen3_moe", "model_type", "7", "no model_type", ERR_CORRUPT},
    {"qwen3_moe", "model_type", "\"gpt9\"", "gpt9", ERR_UNSUPPORTED},
    {"qwen3_moe", "model_type", "\"gpt9\"", "deepseek_v3", ERR_UNSUPPORTED}, /* the list */
    {"qwen3_moe", "num_hidden_layers", NULL, "num_hidden_layers is missing", ERR_CORRUPT},
    {"glm_moe_dsa", "indexer_types", "[\"full\"]", "indexer_types", ERR_CORRUPT},
    {"glm_moe_dsa", "indexer_types", "[\"full\",\"half\"]", "indexer_types has a type", ERR_UNSUPPORTED},
    {"glm_moe_dsa", "indexer_types", "[\"shared\",\"full\"]", "leaves the first layer", ERR_CORRUPT},
    {"glm_moe_dsa", "index_topk", NULL, "top_k", ERR_CORRUPT},
    {"qwen3_moe", "num_hidden_layers", "0", "num_hidden_layers", ERR_CORRUPT},
    {"qwen3_moe", "num_hidden_layers", "-1", "num_hidden_layers", ERR_CORRUPT},
    {"qwen3_moe", "num_hidden_layers", "2147483648", "num_hidden_layers", ERR_CORRUPT},
    {"qwen3_moe", "num_hidden_layers", "9223372036854775807", "num_hidden_layers", ERR_CORRUPT},
    {"qwen3_moe", "num_hidden_layers", "2.0", "num_hidden_layers", ERR_CORRUPT},
    {"qwen3_moe", "num_hidden_layers", "\"2\"", "num_hidden_layers", ERR_CORRUPT},
    {"qwen3_moe", "num_hidden_layers", "{}", "num_hidden_layers", ERR_CORRUPT},
    {"qwen3_moe", "num_hidden_layers", "[]", "num_hidden_layers", ERR_CORRUPT},
    {"qwen3_moe", "num_hidden_layers", "[2, 3]", "differs from layer to layer", ERR_UNSUPPORTED},
    {"qwen3_moe", "num_hidden_layers", "3", "blk.2.", ERR_CORRUPT},
    {"qwen3_moe", "hidden_size", "33", "", ERR_CORRUPT},
    {"qwen3_moe", "hidden_size", "null", "hidden_size is missing", ERR_CORRUPT},
    {"qwen3_moe", "hidden_size", "1048576", "hidden_size", ERR_CORRUPT},
    {"qwen3_moe", "num_attention_heads", "0", "num_attention_heads", ERR_CORRUPT},
    {"qwen3_moe", "num_attention_heads", "8", "", ERR_CORRUPT},
    {"qwen3_moe", "num_key_value_heads", "0", "num_key_value_heads", ERR_CORRUPT},
    {"qwen3_moe", "num_key_value_heads", "3", "", ERR_CORRUPT},
    {"qwen3_moe", "num_key_value_heads", "8", "", ERR_CORRUPT},
    {"qwen3_moe", "head_dim", "1", "head_dim", ERR_CORRUPT},
    {"qwen3_moe", "head_dim", "4096", "head_dim", ERR_CORRUPT},
    {"qwen3_moe", "head_dim", "8", "", ERR_CORRUPT},
    {"qwen3_moe", "num_local_experts", "0", "", ERR_UNSUPPORTED},
    {"qwen3_moe", "num_local_experts", "3", "", ERR_UNSUPPORTED},
    {"qwen3_moe", "num_local_experts", "5", "experts.4", ERR_CORRUPT},
    {"qwen3_moe", "num_local_experts", "1000000", "num_local_experts", ERR_CORRUPT},
    {"qwen3_moe", "num_experts_per_tok", "9", "uses 9 of 4 experts", ERR_CORRUPT},
    {"qwen3_moe", "rms_norm_eps", "\"small\"", "rms_norm_eps is no number", ERR_CORRUPT},
    {"qwen3_moe", "rms_norm_eps", "-1", "rms", ERR_CORRUPT},
    {"qwen3_moe", "max_position_embeddings", "0", "max_position_embeddings", ERR_CORRUPT},
    {"qwen3_moe", "max_position_embeddings", "4000000000", "max_position_embeddings", ERR_CORRUPT},
    {"qwen3_moe", "hidden_act", "\"relu\"", "activation", ERR_UNSUPPORTED},
    {"qwen3_moe", "hidden_act", "\"gelu\"", "activation", ERR_UNSUPPORTED},
    {"qwen3_moe", "mlp_only_layers", "[1]", "mlp_only_layers", ERR_UNSUPPORTED},
    {"qwen3_moe", "decoder_sparse_step", "2", "decoder_sparse_step", ERR_UNSUPPORTED},
    {"qwen3_moe", "clip_qkv", "8.0", "clamp_kqv", ERR_UNSUPPORTED},
    {"qwen3_moe", "rope_parameters", "{\"rope_type\": \"spiral\"}", "of a kind that is not supported", ERR_UNSUPPORTED},
    {"qwen3_moe", "rope_parameters", "{\"rope_theta\": 0}", "cannot be", ERR_UNSUPPORTED},
    {"qwen3_moe", "rope_parameters", "{\"rope_theta\": \"big\"}", "rope_theta is no number", ERR_CORRUPT},
    {"qwen3_moe", "rope_parameters", "{\"rope_type\": \"yarn\", \"factor\": 0}", "cannot be", ERR_UNSUPPORTED},
    {"qwen3_moe", "rope_parameters", "{\"partial_rotary_factor\": 1000}", "rotate", ERR_UNSUPPORTED},
    {"qwen3_moe", "rope_parameters", "{\"partial_rotary_factor\": 0}", "rotate", ERR_UNSUPPORTED},
    {"phi3", "rope_parameters", "{\"rope_type\": \"longrope\", \"short_factor\": [1], \"long_factor\": [1]}",
     "for every pair", ERR_UNSUPPORTED},
    {"phi3", "rope_parameters", "{\"rope_type\": \"longrope\", \"short_factor\": [1,1,1,0], "
     "\"long_factor\": [1,1,1,1]}", "not above 0", ERR_UNSUPPORTED},
    {"gpt_oss", "layer_types", "[\"sliding_attention\"]", "for every layer", ERR_CORRUPT},
    {"gpt_oss", "layer_types", "[\"sliding_attention\", 7]", "layer_types", ERR_UNSUPPORTED},
    {"gpt_oss", "layer_types", "[\"mamba\", \"full_attention\"]", "layer_types", ERR_UNSUPPORTED},
    {"gpt_oss", "swiglu_limit", "8.0", "swiglu_limit", ERR_UNSUPPORTED},
    {"deepseek_v3", "kv_lora_rank", NULL, "kv_lora_rank is missing", ERR_CORRUPT},
    {"deepseek_v3", "kv_lora_rank", "0", "kv_lora_rank", ERR_CORRUPT},
    {"deepseek_v3", "qk_nope_head_dim", "9", "does not go with the numbers", ERR_CORRUPT},
    {"deepseek_v3", "qk_rope_head_dim", "0", "qk_rope_head_dim", ERR_CORRUPT},
    {"deepseek_v3", "v_head_dim", "0", "v_head_dim", ERR_CORRUPT},
    {"deepseek_v3", "scoring_func", "\"best\"", "scoring_func", ERR_UNSUPPORTED},
    {"deepseek_v3", "n_group", "3", "groups", ERR_CORRUPT},
    {"deepseek_v3", "topk_group", "5", "", ERR_CORRUPT},
    {"deepseek_v3", "topk_group", NULL, "topk_group is missing", ERR_CORRUPT},
    {"deepseek_v3", "rope_interleave", "false", "rope_interleave", ERR_UNSUPPORTED},
    {"deepseek_v3", "moe_layer_freq", "2", "moe_layer_freq", ERR_UNSUPPORTED},
    {"qwen3_next", "linear_num_key_heads", "0", "linear_num_key_heads", ERR_CORRUPT},
    {"qwen3_next", "linear_num_key_heads", "3", "multiple", ERR_CORRUPT},
    {"qwen3_next", "linear_num_value_heads", NULL, "linear_num_value_heads is missing", ERR_CORRUPT},
    {"qwen3_next", "linear_key_head_dim", "7", "does not go with the numbers", ERR_CORRUPT},
    {"qwen3_next", "layer_types", "[\"full_attention\", \"linear_attention\", \"linear_attention\", "
     "\"full_attention\"]", "layer_types", ERR_UNSUPPORTED},
    {"qwen3_5_moe", "linear_value_head_dim", "13", "does not go with the numbers", ERR_CORRUPT},
    {"llama4", "no_rope_layers", "[1]", "no_rope_layers", ERR_CORRUPT},
    {"llama4", "no_rope_layer_interval", "0", "no_rope_layer_interval", ERR_CORRUPT},
    {"llama4", "moe_layers", "[0, 1]", "moe_layers", ERR_UNSUPPORTED},
    {"llama4", "attention_chunk_size", "0", "chunk_size", ERR_CORRUPT},
    {"llama", "partial_rotary_factor", "0.5", "partial_rotary_factor", ERR_UNSUPPORTED},
    {"bailing_moe", "use_qkv_bias", "true", "use_qkv_bias", ERR_UNSUPPORTED},
    {"bailing_moe", "norm_head", "true", "norm_head", ERR_UNSUPPORTED},
    {"llama", "tie_word_embeddings", "\"no\"", "", 0},
    {"llama", "text_config", "{\"model_type\": \"gpt9\"}", "gpt9", ERR_UNSUPPORTED},
    {"llama", "text_config", "{}", "llama_text", ERR_UNSUPPORTED},
    {"gemma3-seeing", "text_config", "{\"model_type\": \"gemma3_text\"}", "missing", ERR_CORRUPT},
};

static void test_configs(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(configs); i++) {
        begin(configs[i].model);
        accept();
        set(configs[i].key, configs[i].value);
        if (configs[i].status == 0)
            accept();
        else
            refuse(configs[i].status, configs[i].words);
    }
}

static void test_config_is_no_config(void **state)
{
    (void)state;
    char *deep = mem_alloc(100001);
    begin("llama");
    memset(deep, '[', 100000);
    static const char *const texts[] = {"", "[]", "7", "{\"model_type\": \"llama\"", "{\"a\": 1, \"a\": 2}", "\xFF"};
    for (size_t i = 0; i < COUNTOF(texts); i++) {
        put_text("config.json", texts[i]);
        refuse(ERR_CORRUPT, "config.json");
    }
    put_text("config.json", deep);
    refuse(ERR_CORRUPT, "config.json");
    put_text("config.json", "{\"model_type\": \"llama\", \"num_hidden_layers\": 1e999}");
    refuse(ERR_CORRUPT, "config.json");
    mem_free(deep);
    char *large = mem_alloc((5 << 20) + 1);
    memset(large, ' ', 5 << 20);
    put_text("config.json", large);
    refuse(ERR_LIMIT, "config.json");
    mem_free(large);
    clear();
    refuse(ERR_NOT_FOUND, "config.json");
}

/* Every number that a config has becomes 0, less, huge and text: a model or a sentence, never an end. */
static void test_every_number_of_every_config(void **state)
{
    (void)state;
    static const char *const models[] = {"deepseek_v3", "qwen3_next", "qwen3_5_moe", "llama4", "gpt_oss", "gemma3",
                                         "granitemoeshared", "phi3", "ernie4_5_moe"};
    static const char *const values[] = {"0", "-1", "1", "3", "4294967295", "9223372036854775807", "1e300", "-0.5",
                                         "\"x\"", "[]", "{}", "true", "[[[]]]"};
    for (size_t i = 0; i < COUNTOF(models); i++) {
        begin(models[i]);
        json_t *sound = load("config.json"), *value;
        const char *key;
        json_object_foreach(sound, key, value)
            for (size_t k = 0; k < COUNTOF(values); k++) {
                struct model *m;
                struct error e = {0};
                json_t *j = json_copy(sound);
                json_object_set_new(j, key, json_loads(values[k], JSON_DECODE_ANY, NULL));
                store("config.json", j);
                assert_true(model_open(&m, copy, &e) == 0 || e.text[0]);
                model_close(&m);
            }
        json_decref(sound);
    }
}

/* ---- the index and its files ---- */

/* One entry of the weight_map. */
static void set_index(const char *tensor, const char *file)
{
    json_t *j = load(INDEX);
    json_object_set_new(json_object_get(j, "weight_map"), tensor, json_string(file));
    store(INDEX, j);
}

static void test_index(void **state)
{
    (void)state;
    static const char *const names[] = {
        "../llama/model-00001-of-00002.safetensors", "/etc/passwd", "/tmp/a.safetensors", ".hidden.safetensors",
        "..", "", "model.bin", "a/b.safetensors", ".safetensors", "a\nb.safetensors", "a b.safetensors",
    };
    for (size_t i = 0; i < COUNTOF(names); i++) {
        begin("qwen3_moe");
        accept();
        set_index("model.norm.weight", names[i]);
        refuse(ERR_CORRUPT, "no safetensors file of the folder");
    }
    begin("qwen3_moe");
    set_index("model.norm.weight", "absent.safetensors");
    refuse(ERR_NOT_FOUND, "absent.safetensors");
    begin("qwen3_moe");
    set_index("model.nothing.weight", "model-00001-of-00002.safetensors");
    refuse(ERR_CORRUPT, "model.nothing.weight");
    begin("qwen3_moe");
    json_t *j = load(INDEX);
    json_object_set_new(json_object_get(j, "weight_map"), "model.norm.weight", json_integer(1));
    store(INDEX, j);
    refuse(ERR_CORRUPT, "model.norm.weight");
    static const char *const texts[] = {"{}", "{\"weight_map\": {}}", "{\"weight_map\": []}", "[]", "",
                                        "{\"weight_map\""};
    for (size_t i = 0; i < COUNTOF(texts); i++) {
        put_text(INDEX, texts[i]);
        refuse(ERR_CORRUPT, INDEX);
    }
}

static void test_index_says_the_wrong_file(void **state)
{
    (void)state;
    begin("qwen3_moe");
    json_t *j = load(INDEX);
    const char *name = json_string_value(json_object_get(json_object_get(j, "weight_map"), "model.norm.weight"));
    const char *first = "model-00001-of-00002.safetensors", *second = "model-00002-of-00002.safetensors";
    char *other = mem_strdup(strcmp(name, first) == 0 ? second : first);
    json_decref(j);
    set_index("model.norm.weight", other);
    refuse(ERR_CORRUPT, "it is not");
    mem_free(other);
}

static void test_a_tensor_in_two_files(void **state)
{
    (void)state;
    begin("qwen3_moe");
    char *from = path_join(copy, "model-00001-of-00002.safetensors"), *data;
    size_t len;
    assert_int_equal(path_read(from, 1 << 20, &data, &len, NULL), 0);
    put("model-00003-of-00002.safetensors", data, len);
    set_index("model.embed_tokens.weight", "model-00003-of-00002.safetensors");
    refuse(ERR_CORRUPT, "model-00003-of-00002.safetensors");
    mem_free(data);
    mem_free(from);
}

/* ---- tensors ---- */

/* The header of the copy's only file, and what follows it; the caller frees both. */
static json_t *read_head(char **rest, size_t *n_rest)
{
    char *path = path_join(copy, "model.safetensors"), *data;
    size_t len;
    uint64_t n;
    assert_int_equal(path_read(path, 1 << 20, &data, &len, NULL), 0);
    memcpy(&n, data, sizeof(n));
    json_t *head = json_loadb(data + 8, (size_t)n, 0, NULL);
    assert_non_null(head);
    *n_rest = len - 8 - (size_t)n;
    *rest = mem_alloc(*n_rest);
    memcpy(*rest, data + 8 + n, *n_rest);
    mem_free(data);
    mem_free(path);
    return head;
}

static void write_head(json_t *head, char *rest, size_t n_rest)
{
    char *text = json_dumps(head, JSON_COMPACT);
    uint64_t n = strlen(text);
    char *data = mem_alloc(8 + (size_t)n + n_rest);
    memcpy(data, &n, sizeof(n));
    memcpy(data + 8, text, (size_t)n);
    memcpy(data + 8 + n, rest, n_rest);
    put("model.safetensors", data, 8 + (size_t)n + n_rest);
    mem_free(data);
    mem_free(rest);
    free(text);
    json_decref(head);
}

static void rename_tensor(const char *from, const char *to)
{
    size_t n;
    char *rest;
    json_t *head = read_head(&rest, &n), *one = json_incref(json_object_get(head, from));
    assert_non_null(one);
    json_object_del(head, from);
    json_object_set_new(head, to, one);
    write_head(head, rest, n);
}

static void set_tensor(const char *name, const char *key, const char *value)
{
    size_t n;
    char *rest;
    json_t *head = read_head(&rest, &n);
    json_object_set_new(json_object_get(head, name), key, json_loads(value, JSON_DECODE_ANY, NULL));
    write_head(head, rest, n);
}

#define L1 "model.layers.1."

static const struct {
    const char *model, *tensor, *key, *value, *words; /* key NULL: value is its new name */
    int status;
} tensors[] = {
    {"mixtral", "model.norm.weight", NULL, "model.normal.weight", "model.normal.weight", ERR_UNSUPPORTED},
    {"mixtral", L1 "self_attn.v_proj.weight", NULL, "model.layers.9.self_attn.v_proj.weight", "blk.1.attn_v",
     ERR_CORRUPT},
    {"mixtral", L1 "block_sparse_moe.experts.2.w1.weight", NULL, "vision_tower.x", "experts.2.w1", ERR_CORRUPT},
    {"mixtral", L1 "block_sparse_moe.experts.0.w1.weight", NULL, "vision_tower.x", "experts.1.w1", ERR_UNSUPPORTED},
    {"mixtral", L1 "self_attn.v_proj.weight", NULL, L1 "self_attn.v_proj.qweight", "v_proj.qweight", ERR_UNSUPPORTED},
    {"mixtral", "lm_head.weight", NULL, "vision_tower.x", "lm_head.weight is missing", ERR_CORRUPT},
    {"mixtral", "model.embed_tokens.weight", NULL, "vision_tower.x", "token_embd", ERR_CORRUPT},
    {"mixtral", L1 "input_layernorm.weight", NULL, L1 "input_layernorm.bias", "attn_norm", ERR_CORRUPT},
    {"mixtral", L1 "self_attn.v_proj.weight", "dtype", "\"I16\"", "I16", ERR_UNSUPPORTED},
    {"mixtral", L1 "block_sparse_moe.experts.1.w2.weight", "dtype", "\"F16\"", "differ in type", ERR_UNSUPPORTED},
    {"mixtral", L1 "block_sparse_moe.experts.1.w2.weight", "shape", "[24, 32]", "differ in type", ERR_UNSUPPORTED},
    {"mixtral", L1 "self_attn.v_proj.weight", "shape", "[32, 16]", "attn_v", ERR_CORRUPT},
    {"mixtral", L1 "self_attn.v_proj.weight", "shape", "[512]", "attn_v", ERR_CORRUPT},
    {"mixtral", L1 "self_attn.v_proj.weight", "shape", "[2, 2, 2, 64]", "does not go with", ERR_CORRUPT},
    {"mixtral", L1 "self_attn.q_proj.weight", "shape", "[1, 1024]", "attn_q", ERR_CORRUPT},
    {"mixtral", L1 "self_attn.q_proj.weight", "shape", "[4, 256]", "does not go with", ERR_CORRUPT},
    {"gpt_oss", L1 "mlp.experts.gate_up_proj", "shape", "[4, 48, 32]", "ffn_gate_exps", ERR_CORRUPT},
    {"gpt_oss", L1 "mlp.experts.gate_up_proj", "shape", "[6144]", "ffn_gate_exps", ERR_CORRUPT},
    {"deepseek_v3", L1 "self_attn.kv_b_proj.weight", "shape", "[24, 80]", "does not go with", ERR_CORRUPT},
    {"qwen3_next", "model.layers.0.linear_attn.in_proj_qkvz.weight", "shape", "[32, 128]", "does not go with",
     ERR_CORRUPT},
};

static void test_tensors(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(tensors); i++) {
        begin(tensors[i].model);
        accept();
        if (tensors[i].key)
            set_tensor(tensors[i].tensor, tensors[i].key, tensors[i].value);
        else
            rename_tensor(tensors[i].tensor, tensors[i].value);
        refuse(tensors[i].status, tensors[i].words);
    }
}

/* What belongs to other parts of a model is left out. */
static void test_left_out(void **state)
{
    (void)state;
    static const char *const names[] = {"vision_tower.a", "model.vision_tower.a", "multi_modal_projector.a",
                                        "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.2.mlp.x",
                                        "mtp.layers.0.x", "visual.blocks.0.attn.qkv.weight"};
    begin("granite"); /* tied: its head is not needed */
    set("tie_word_embeddings", NULL);
    for (size_t i = 0; i < COUNTOF(names); i++) {
        rename_tensor(i ? names[i - 1] : "lm_head.weight", names[i]);
        accept();
    }
    rename_tensor(names[COUNTOF(names) - 1], "model.layers.99999999.x");
    refuse(ERR_UNSUPPORTED, "layers.99999999");
}

static void test_folders_that_are_none(void **state)
{
    (void)state;
    char *path = path_join(copy, "model.safetensors");
    begin("mixtral");
    assert_int_equal(unlink(path), 0);
    refuse(ERR_NOT_FOUND, "neither model.safetensors nor");
    put_text("pytorch_model.bin", "x");
    refuse(ERR_NOT_FOUND, "PyTorch");
    assert_int_equal(mkfifo(path, 0600), 0);
    refuse(ERR_INVALID, "regular");
    assert_int_equal(unlink(path), 0);
    put_text("model.safetensors", "short");
    refuse(ERR_CORRUPT, "no safetensors file");
    mem_free(path);
}

/* Experts are multiplied as one stack: with an order of columns in one, there has to be one in all. */
static void test_an_expert_without_an_order(void **state)
{
    (void)state;
    begin("../packed_models/gptq-qwen3_moe");
    accept();
    rename_tensor("model.layers.0.mlp.experts.1.gate_proj.g_idx", "model.layers.0.mlp.experts.1.gate_proj.gidx");
    refuse(ERR_UNSUPPORTED, "differ in type or shape");
    begin("../packed_models/gptq-qwen3_moe");
    rename_tensor("model.layers.0.mlp.experts.0.gate_proj.g_idx", "model.layers.0.mlp.experts.0.gate_proj.gidx");
    refuse(ERR_UNSUPPORTED, "differ in type or shape");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configs), cmocka_unit_test(test_config_is_no_config),
        cmocka_unit_test(test_every_number_of_every_config), cmocka_unit_test(test_index),
        cmocka_unit_test(test_index_says_the_wrong_file), cmocka_unit_test(test_a_tensor_in_two_files),
        cmocka_unit_test(test_tensors), cmocka_unit_test(test_an_expert_without_an_order),
        cmocka_unit_test(test_left_out), cmocka_unit_test(test_folders_that_are_none),
    };
    return cmocka_run_group_tests(tests, open_copy, close_copy);
}
