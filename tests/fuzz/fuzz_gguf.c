/* fuzz_gguf: GGUF files: the header, the hyper-parameters and shapes of a model, and its tokenizer. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "shard/arch/arch.h"
#include "shard/arch/synth.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/talk.h"

static void ask(const struct model *m)
{
    const struct hparams *h = model_hparams(m);
    const struct layer_range all = {0, h->n_layers, true, true};
    float *inv_freq = mem_array(h->n_rot / 2 + 1, sizeof(*inv_freq)), scale;
    FUZZ_CHECK(h->n_layers > 0 && h->n_layers <= ARCH_LAYERS_MAX && h->n_embd > 0 && h->n_heads > 0);
    FUZZ_CHECK(memchr(h->name, 0, sizeof(h->name)));
    FUZZ_CHECK(model_range_bytes(m, &all) <= gguf_file_bytes(model_file(m)));
    FUZZ_CHECK(model_scratch_bytes(m, &all, 16, 0) > 0);
    FUZZ_CHECK(model_params_active(m) <= model_params_total(m));
    FUZZ_CHECK(model_output(m));
    (void)model_kv_bytes_per_token(m, h->n_layers, KV_F16);
    (void)model_range_bytes_per_token(m, &all);
    if (h->n_rot > 0) {
        model_rope(m, inv_freq, &scale);
        model_rope_local(m, inv_freq);
    }
    mem_free(inv_freq);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    struct tokenizer *t;
    struct model *m;
    struct gguf *g;
    if (model_open(&m, path, NULL) == 0) {
        ask(m);
        model_close(&m);
    }
    if (gguf_open(&g, path, NULL) != 0)
        return 0;
    if (tokenizer_open(&t, g, NULL) == 0) {
        fuzz_talk(t);
        tokenizer_close(&t);
    }
    gguf_close(&g);
    return 0;
}

static struct gguf_string string(const char *text)
{
    return (struct gguf_string){text, strlen(text)};
}

/* A file with a small tokenizer of this kind and nothing else, for others to borrow it from. */
static void write_tokenizer(const char *path, const char *kind)
{
    static const float scores[] = {0, 0, 0, -1, -2, -3, -4, -5};
    static const int32_t types[] = {2, 3, 3, 1, 1, 1, 1, 6};
    const struct gguf_string merges[] = {string("H e"), string("l l")};
    const struct gguf_string tokens[] = {string("<unk>"), string("<s>"), string("</s>"), string("H"), string("e"),
                                         string("He"), string("\xE2\x96\x81World"), string("<0x0A>")};
    struct gguf_writer *w;
    FUZZ_CHECK(gguf_writer_create(&w, path, NULL) == 0);
    gguf_writer_string(w, "tokenizer.ggml.model", kind);
    gguf_writer_string(w, "tokenizer.ggml.pre", "qwen2");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", tokens, COUNTOF(tokens));
    gguf_writer_f32s(w, "tokenizer.ggml.scores", scores, COUNTOF(scores));
    gguf_writer_i32s(w, "tokenizer.ggml.token_type", types, COUNTOF(types));
    gguf_writer_strings(w, "tokenizer.ggml.merges", merges, COUNTOF(merges));
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", true);
    gguf_writer_string(w, "tokenizer.chat_template", "{% for m in messages %}<|im_start|>{% endfor %}");
    FUZZ_CHECK(gguf_writer_header(w, NULL) == 0 && gguf_writer_finish(&w, NULL) == 0);
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const families[] = {"llama", "qwen3moe", "deepseek2", "gpt-oss", "llama4", "gemma3", "granite"};
    static const char *const kinds[] = {"gpt2", "llama", "t5"};
    char folder[] = "/tmp/shoal-fuzz-XXXXXX";
    FUZZ_CHECK(mkdtemp(folder));
    char *lender = mem_printf("%s/lender.gguf", folder), *path = mem_printf("%s/model.gguf", folder);
    for (size_t i = 0; i < COUNTOF(families); i++) {
        bool dense = arch_find(families[i])->flags & ARCH_DENSE;
        struct synth_options o = {.family = families[i], .layers = 2, .hidden = 32, .heads = 2, .ffn = 32,
                                  .experts = dense ? 0 : 4, .experts_used = dense ? 0 : 2, .expert_ffn = dense ? 0 : 32,
                                  .context = 64, .type = i % 2 ? "q8_0" : "f32", .tokenizer = lender};
        write_tokenizer(lender, kinds[i % COUNTOF(kinds)]);
        FUZZ_CHECK(synth_write(path, &o, NULL) == 0);
        fuzz_give_file(path, give, arg);
    }
    unlink(lender);
    unlink(path);
    rmdir(folder);
    mem_free(lender);
    mem_free(path);
}
