/* fuzz_manifest: manifests under the id that they hash to: what a server of a model could say about itself. */
#include <sodium.h>
#include <string.h>

#include "base/memory.h"
#include "net/manifest.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t id[MANIFEST_ID_BYTES], *bytes;
    struct manifest m;
    size_t len;
    crypto_generichash(id, sizeof(id), data, size, NULL, 0);
    if (manifest_decode(&m, data, size, id, NULL) != 0)
        return 0;
    FUZZ_CHECK(m.n_chunks <= MANIFEST_CHUNKS_MAX && m.header_bytes <= m.file_bytes);
    FUZZ_CHECK(manifest_encode(&m, &bytes, &len, NULL) == 0);
    FUZZ_CHECK(len == size && memcmp(bytes, data, size) == 0);
    for (uint64_t i = 0; i <= m.n_chunks && i < 3; i++)
        (void)!manifest_check(&m, i, data, size, NULL);
    mem_free(bytes);
    manifest_free(&m);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static uint8_t hashes[3 * 32];
    const struct manifest manifests[] = {
        {.file_bytes = 100, .header_bytes = 100, .n_chunks = 1, .hashes = hashes},
        {.file_bytes = 3 * (uint64_t)MANIFEST_CHUNK_BYTES, .header_bytes = 4096, .n_chunks = 3, .hashes = hashes},
    };
    for (size_t i = 0; i < COUNTOF(manifests); i++) {
        uint8_t *bytes;
        size_t len;
        FUZZ_CHECK(manifest_encode(&manifests[i], &bytes, &len, NULL) == 0);
        give(arg, bytes, len);
        mem_free(bytes);
    }
}
