/* fuzz_splits: a model of two files that need not belong together: four bytes of the first one's length, little
 * endian, then both. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/arch/arch.h"
#include "shard/arch/synth.h"
#include "tests/fuzz/fuzz.h"

enum { FILE_MAX = 1 << 20 };

static const char *path_of(int i)
{
    static char folder[] = "/tmp/shoal-fuzz-XXXXXX", paths[2][64];
    static bool made;
    if (!made)
        FUZZ_CHECK(mkdtemp(folder));
    made = true;
    snprintf(paths[i], sizeof(paths[i]), "%s/m-%05d-of-00002.gguf", folder, i + 1);
    return paths[i];
}

static void put(int i, const uint8_t *data, size_t n)
{
    FILE *file = fopen(path_of(i), "wb");
    FUZZ_CHECK(file && fwrite(data, 1, n, file) == n && fclose(file) == 0);
}

static void ask(const struct model *m)
{
    const struct hparams *h = model_hparams(m);
    const struct file_set *files = model_files(m);
    bool whole = file_set_whole(files, NULL) == 0;
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        const struct gguf_tensor *t = model_tensor_at(m, i)->info;
        FUZZ_CHECK(t->file < file_set_count(files) && file_set_has(files, t->file));
        FUZZ_CHECK(t->offset + t->bytes <= file_set_at(files, t->file)->bytes);
    }
    for (uint32_t i = 0; i < h->n_layers; i++) {
        struct layer_range r = {i, i + 1, i == 0, i + 1 == h->n_layers};
        FUZZ_CHECK(model_check_range(m, &r, NULL) == 0 || !whole);
        size_t n;
        mem_free(model_range_stretches(m, &r, &n));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model *m;
    uint32_t first;
    if (size < sizeof(first))
        return 0;
    memcpy(&first, data, sizeof(first));
    size -= sizeof(first);
    first = first < size ? first : (uint32_t)size;
    put(0, data + sizeof(first), first);
    put(1, data + sizeof(first) + first, size - first);
    if (first == size) /* the second is absent */
        unlink(path_of(1));
    for (int i = 0; i < 2; i++)
        if (model_open(&m, path_of(i), NULL) == 0) {
            ask(m);
            model_close(&m);
        }
    unlink(path_of(0));
    unlink(path_of(1));
    return 0;
}

/* Tensors at or after `from` and before `to`, as one of two files. */
static void write_part(const struct gguf *g, const char *path, uint32_t number, size_t from, size_t to)
{
    struct gguf_writer *w;
    FUZZ_CHECK(gguf_writer_create(&w, path, NULL) == 0);
    for (size_t i = 0; number == 0 && i < gguf_key_count(g); i++)
        gguf_writer_copy_key(w, g, i);
    gguf_writer_u32(w, "split.no", number);
    gguf_writer_u32(w, "split.count", 2);
    gguf_writer_u32(w, "split.tensors.count", (uint32_t)gguf_tensor_count(g));
    for (size_t i = from; i < to; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        gguf_writer_tensor(w, t->name, t->type, t->n_dims, t->ne);
    }
    FUZZ_CHECK(gguf_writer_header(w, NULL) == 0);
    for (size_t i = from; i < to; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        FUZZ_CHECK(gguf_writer_data(w, gguf_tensor_bytes(g, t), t->bytes, NULL) == 0);
    }
    FUZZ_CHECK(gguf_writer_finish(&w, NULL) == 0);
}

/* Both files, or the first alone. */
static void give_parts(fuzz_give_fn give, void *arg, bool both)
{
    char *parts[2];
    size_t n[2];
    for (int i = 0; i < 2; i++)
        FUZZ_CHECK(path_read(path_of(i), FILE_MAX, &parts[i], &n[i], NULL) == 0);
    uint32_t first = (uint32_t)n[0];
    uint8_t *bytes = mem_alloc(sizeof(first) + n[0] + n[1]);
    memcpy(bytes, &first, sizeof(first));
    memcpy(bytes + sizeof(first), parts[0], n[0]);
    memcpy(bytes + sizeof(first) + n[0], parts[1], n[1]);
    give(arg, bytes, sizeof(first) + n[0] + (both ? n[1] : 0));
    mem_free(bytes);
    mem_free(parts[0]);
    mem_free(parts[1]);
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const families[] = {"llama", "qwen3moe", "phi3"};
    char whole[80];
    snprintf(whole, sizeof(whole), "%.60s.whole", path_of(0));
    for (size_t i = 0; i < COUNTOF(families); i++) {
        struct gguf *g;
        struct synth_options o = {.family = families[i], .layers = 2, .hidden = 32, .heads = 2, .ffn = 32, .vocab = 40,
                                  .experts = i == 1 ? 4 : 0, .experts_used = i == 1 ? 2 : 0,
                                  .expert_ffn = i == 1 ? 32 : 0, .context = 64, .type = "f32"};
        FUZZ_CHECK(synth_write(whole, &o, NULL) == 0 && gguf_open(&g, whole, NULL) == 0);
        size_t n = gguf_tensor_count(g), cuts[] = {0, 1, n / 2, n};
        for (size_t k = 0; k < COUNTOF(cuts); k++) {
            write_part(g, path_of(0), 0, 0, cuts[k]);
            write_part(g, path_of(1), 1, cuts[k], n);
            give_parts(give, arg, true);
            give_parts(give, arg, false);
        }
        gguf_close(&g);
    }
    unlink(whole);
    unlink(path_of(0));
    unlink(path_of(1));
}
