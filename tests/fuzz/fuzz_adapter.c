/* fuzz_adapter: LoRA adapters of a small model: GGUF files, and PEFT's config and weights. Of the latter an input is
 * the config's length (two bytes, little endian), the config, and the safetensors file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/arch/adapter.h"
#include "tests/fuzz/fuzz.h"

#define MODEL "tests/data/hf/llama"
#define PEFT "tests/data/peft/llama"

static void ask(const struct adapter *a, const struct hparams *h)
{
    const struct layer_range all = {0, h->n_layers, true, true};
    uint64_t values = 0;
    size_t n;
    FUZZ_CHECK(adapter_pair_count(a) > 0);
    for (size_t i = 0; i < adapter_pair_count(a); i++) {
        const struct adapter_pair *p = adapter_pair_at(a, i);
        size_t a_values = (size_t)p->a_slices * p->rank * p->cols, b_values = (size_t)p->b_slices * p->rows * p->rank;
        FUZZ_CHECK(p->layer >= 0 && (uint32_t)p->layer < h->n_layers && p->rank > 0 && p->rank <= adapter_rank(a));
        FUZZ_CHECK(adapter_pair_find(a, p->role, (uint32_t)p->layer) == p && p->cols <= adapter_cols(a));
        float *x = mem_array(a_values + b_values, sizeof(*x));
        adapter_read(a, p, 0.5F, x, x + a_values);
        mem_free(x);
        values += a_values + b_values;
    }
    FUZZ_CHECK(adapter_range_bytes(a, &all) == values * sizeof(float));
    struct file_stretch *s = adapter_range_stretches(a, &all, &n);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(s[i].file < file_set_count(adapter_files(a)) &&
                   s[i].offset + s[i].bytes <= file_set_at(adapter_files(a), s[i].file)->bytes);
    mem_free(s);
}

static void try_path(const char *path)
{
    struct model *m;
    struct adapter *a;
    FUZZ_CHECK(model_open(&m, MODEL, NULL) == 0);
    if (adapter_open(&a, path, m, NULL) == 0) {
        ask(a, model_hparams(m));
        adapter_close(&a);
    }
    model_close(&m);
}

static void write_file(const char *folder, const char *name, const void *bytes, size_t n)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    FUZZ_CHECK(f && (n == 0 || fwrite(bytes, n, 1, f) == 1) && fclose(f) == 0);
}

static void try_folder(const uint8_t *data, size_t size)
{
    char folder[] = "/tmp/shoal-fuzz-XXXXXX", path[256];
    size_t n = size < 2 ? 0 : data[0] + 256U * data[1];
    if (size < 2 || n > size - 2)
        return;
    FUZZ_CHECK(mkdtemp(folder));
    write_file(folder, "adapter_config.json", data + 2, n);
    write_file(folder, "adapter_model.safetensors", data + 2 + n, size - 2 - n);
    try_path(folder);
    snprintf(path, sizeof(path), "%s/adapter_config.json", folder);
    unlink(path);
    snprintf(path, sizeof(path), "%s/adapter_model.safetensors", folder);
    unlink(path);
    rmdir(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0)
        try_path(fuzz_file(data, size));
    else
        try_folder(data, size);
    return 0;
}

/* Pairs of the query and of q, k and v in one. */
static void give_gguf(fuzz_give_fn give, void *arg)
{
    static const float values[64 * 4];
    static const char *const names[] = {"blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b",
                                        "blk.1.attn_qkv.weight.lora_a", "blk.1.attn_qkv.weight.lora_b"};
    static const uint64_t ne[][2] = {{32, 2}, {2, 32}, {32, 4}, {4, 64}};
    char folder[] = "/tmp/shoal-fuzz-XXXXXX", path[256];
    struct gguf_writer *w;
    FUZZ_CHECK(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/adapter.gguf", folder);
    FUZZ_CHECK(gguf_writer_create(&w, path, NULL) == 0);
    gguf_writer_string(w, "general.type", "adapter");
    gguf_writer_string(w, "general.architecture", "llama");
    gguf_writer_string(w, "adapter.type", "lora");
    gguf_writer_f32(w, "adapter.lora.alpha", 4);
    for (size_t i = 0; i < COUNTOF(names); i++)
        gguf_writer_tensor(w, names[i], qtype_find(QTYPE_F32), 2, ne[i]);
    FUZZ_CHECK(gguf_writer_header(w, NULL) == 0);
    for (size_t i = 0; i < COUNTOF(names); i++)
        FUZZ_CHECK(gguf_writer_data(w, values, ne[i][0] * ne[i][1] * sizeof(float), NULL) == 0);
    FUZZ_CHECK(gguf_writer_finish(&w, NULL) == 0);
    fuzz_give_file(path, give, arg);
    unlink(path);
    rmdir(folder);
}

static void give_peft(fuzz_give_fn give, void *arg)
{
    char *config, *weights;
    size_t n, m;
    FUZZ_CHECK(path_read(PEFT "/adapter_config.json", 1 << 16, &config, &n, NULL) == 0 && n < 1 << 16);
    FUZZ_CHECK(path_read(PEFT "/adapter_model.safetensors", 1 << 20, &weights, &m, NULL) == 0);
    uint8_t *seed = mem_alloc(2 + n + m);
    seed[0] = (uint8_t)(n % 256);
    seed[1] = (uint8_t)(n / 256);
    memcpy(seed + 2, config, n);
    memcpy(seed + 2 + n, weights, m);
    give(arg, seed, 2 + n + m);
    mem_free(seed);
    mem_free(config);
    mem_free(weights);
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    struct model *m;
    struct adapter *a;
    FUZZ_CHECK(model_open(&m, MODEL, NULL) == 0 && adapter_open(&a, PEFT, m, NULL) == 0);
    adapter_close(&a);
    model_close(&m);
    give_gguf(give, arg);
    give_peft(give, arg);
}
