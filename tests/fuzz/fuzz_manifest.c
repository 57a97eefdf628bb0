/* fuzz_manifest: manifests under the id that they hash to: what a server of a model could say about itself. */
#include <sodium.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "net/manifest.h"
#include "tests/fuzz/fuzz.h"

/* Chunks lie one behind the other, none of two files, and end where the run does. */
static void check_chunks(const struct manifest *m)
{
    uint64_t end = 0;
    for (uint64_t i = 0; i < m->n_chunks && i < 1000; i++) {
        struct file_set_range r = manifest_chunk(m, i);
        FUZZ_CHECK(r.offset == end && r.length > 0 && r.length <= MANIFEST_CHUNK_BYTES);
        end = r.offset + r.length;
    }
    FUZZ_CHECK(m->n_chunks >= 1000 || end == m->bytes);
    if (m->bytes > 0) {
        uint8_t *bits = manifest_touched(m, &(struct file_set_range){m->bytes - 1, 1}, 1);
        FUZZ_CHECK(bits[(m->n_chunks - 1) / 8] >> ((m->n_chunks - 1) % 8) & 1);
        mem_free(bits);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t id[MANIFEST_ID_BYTES], *bytes;
    struct manifest m;
    size_t len;
    crypto_generichash(id, sizeof(id), data, size, NULL, 0);
    if (manifest_decode(&m, data, size, id, NULL) != 0)
        return 0;
    FUZZ_CHECK(m.n_chunks <= MANIFEST_CHUNKS_MAX && m.head_bytes <= m.bytes);
    FUZZ_CHECK(file_set_check(m.files, m.n_files, NULL) == 0);
    check_chunks(&m);
    FUZZ_CHECK(manifest_encode(&m, &bytes, &len, NULL) == 0);
    FUZZ_CHECK(len == size && memcmp(bytes, data, size) == 0);
    for (uint64_t i = 0; i <= m.n_chunks && i < 3; i++)
        (void)!manifest_check(&m, i, data, size, NULL);
    mem_free(bytes);
    manifest_free(&m);
    return 0;
}

static void add_file(struct buffer *b, const char *name, uint64_t bytes, uint64_t head_bytes)
{
    buffer_u16(b, (uint16_t)strlen(name));
    buffer_add(b, name, strlen(name));
    buffer_u64(b, bytes);
    buffer_u64(b, head_bytes);
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const uint8_t hashes[5 * 32];
    struct buffer b;
    for (uint64_t files = 1; files <= 3; files += 2) {
        buffer_init(&b, 4096);
        buffer_add(&b, "SHLMANI2", 8);
        buffer_u64(&b, MANIFEST_CHUNK_BYTES);
        buffer_u64(&b, files);
        if (files > 1) {
            add_file(&b, "config.json", 700, 700);
            add_file(&b, "model-00001-of-00002.safetensors", 3 * (uint64_t)MANIFEST_CHUNK_BYTES, 4096);
        }
        add_file(&b, "model.gguf", 0, 0);
        buffer_add(&b, hashes, files > 1 ? sizeof(hashes) : 0);
        give(arg, (const uint8_t *)b.data, b.len);
        buffer_close(&b);
    }
}
