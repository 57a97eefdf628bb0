/* fuzz_safetensors: headers of safetensors files. */
#include <string.h>

#include "base/memory.h"
#include "shard/format/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *s;
    if (safetensors_open(&s, fuzz_file(data, size), NULL) != 0)
        return 0;
    uint64_t at = safetensors_head_bytes(s);
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const struct st_tensor *t = safetensors_at(s, i);
        const uint8_t *bytes = safetensors_bytes(s, t);
        FUZZ_CHECK(t->n_dims <= SAFETENSORS_DIMS_MAX && strlen(t->name) <= SAFETENSORS_NAME_MAX);
        FUZZ_CHECK(t->offset == at);
        FUZZ_CHECK(safetensors_find(s, t->name) == t);
        for (uint64_t k = 0; k < t->bytes; k++)
            sum = (uint8_t)(sum + bytes[k]);
        at += t->bytes;
    }
    FUZZ_CHECK(at == size && at == safetensors_file_bytes(s));
    (void)safetensors_meta(s, "format");
    safetensors_close(&s);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const struct {
        const char *head;
        size_t n_data;
    } seeds[] = {
        {"{}", 0},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}", 24},
        {"{\"__metadata__\":{\"format\":\"pt\"},\"x\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
         "\"y\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[4,5]},"
         "\"z\":{\"dtype\":\"F8_E4M3\",\"shape\":[0,1],\"data_offsets\":[5,5]}}  ", 5},
    };
    for (size_t i = 0; i < COUNTOF(seeds); i++) {
        size_t n = strlen(seeds[i].head);
        uint8_t *bytes = mem_alloc(8 + n + seeds[i].n_data);
        bytes[0] = (uint8_t)n;
        memcpy(bytes + 8, seeds[i].head, n);
        give(arg, bytes, 8 + n + seeds[i].n_data);
        mem_free(bytes);
    }
}
