/* fuzz_config: config.json of Hugging Face folders, beside the tensors of small sound ones. */
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/arch/arch.h"
#include "tests/fuzz/fuzz.h"

#define FOLDER "tests/data/hf"

static const char *const names[] = {"qwen3_next", "deepseek_v3", "gpt_oss", "llama4"};

enum { BESIDE = sizeof(names) / sizeof(names[0]) };

/* Folders whose config.json is the file that is tried. */
static char *const *make_folders(const char *tried)
{
    static char *folders[BESIDE];
    for (size_t i = 0; i < BESIDE && !folders[BESIDE - 1]; i++) {
        char *made = mem_strdup("/tmp/shoal-fuzz-XXXXXX"), *own, *whole;
        FUZZ_CHECK(mkdtemp(made));
        char *model = mem_printf(FOLDER "/%s/model.safetensors", names[i]);
        FUZZ_CHECK((whole = realpath(model, NULL)));
        own = path_join(made, "model.safetensors");
        FUZZ_CHECK(symlink(whole, own) == 0);
        free(whole);
        mem_free(own);
        mem_free(model);
        own = path_join(made, "config.json");
        FUZZ_CHECK(symlink(tried, own) == 0);
        mem_free(own);
        folders[i] = made;
    }
    return folders;
}

static void read_all(const struct model *m)
{
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        const struct model_tensor *t = model_tensor_at(m, i);
        uint64_t rows = arch_extent(model_hparams(m), t->rule->rows);
        uint32_t slices = (uint32_t)arch_extent(model_hparams(m), t->rule->slices);
        char *bytes = mem_alloc((size_t)t->bytes);
        for (uint32_t s = 0; s < slices; s++)
            FUZZ_CHECK(model_tensor_read(m, t, s, 0, rows, bytes + t->bytes / slices * s, NULL) == 0);
        mem_free(bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *const *folders = make_folders(fuzz_file(data, size));
    for (size_t i = 0; i < BESIDE; i++) {
        struct model *m;
        struct error e = {0};
        if (model_open(&m, folders[i], &e) == 0) {
            read_all(m);
            model_close(&m);
        } else {
            FUZZ_CHECK(e.text[0] && !m);
        }
    }
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    for (size_t i = 0; i < BESIDE; i++) {
        char *path = mem_printf(FOLDER "/%s/config.json", names[i]);
        fuzz_give_file(path, give, arg);
        mem_free(path);
    }
}
