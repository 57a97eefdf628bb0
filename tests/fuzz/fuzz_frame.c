/* fuzz_frame: frames of the data plane, as they came and with a right checksum (which needs no secret). */
#include <sodium.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/mask.h"
#include "tests/fuzz/fuzz.h"

enum { META_AT = 40, DATA_AT = 44, SUM_AT = 48 };

static void decode(const uint8_t *bytes, size_t n)
{
    static struct frame_store *store;
    struct frame f;
    struct buffer again;
    if (!store)
        store = frame_store_create();
    if (frame_decode(&f, store, bytes, n, NULL) != 0)
        return;
    FUZZ_CHECK(f.n_rows <= FRAME_ROWS_MAX && f.n_opens <= FRAME_SEQUENCES_MAX && f.data_bytes <= FRAME_CHUNK_MAX);
    FUZZ_CHECK(memchr(f.fail_text, 0, sizeof(f.fail_text)));
    for (uint32_t i = 0; i < f.n_masks; i++) {
        static uint8_t bits[125];
        uint32_t set = 0;
        if (mask_decode(f.masks[i].bytes, f.masks[i].n, bits, 8 * sizeof(bits), NULL) != 0)
            continue;
        for (size_t k = 0; k < sizeof(bits); k++)
            set |= bits[k];
        FUZZ_CHECK(set != 0);
    }
    buffer_init(&again, FRAME_BYTES_MAX);
    FUZZ_CHECK(frame_encode(&again, &f, NULL) == 0); /* what is taken can be said */
    buffer_close(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char key[crypto_shorthash_KEYBYTES] = "shoal frame v1";
    static uint8_t copy[FRAME_BYTES_MAX];
    decode(data, size);
    if (size < FRAME_HEADER_BYTES || size > sizeof(copy))
        return 0;
    memcpy(copy, data, size);
    uint32_t body = (uint32_t)(size - FRAME_HEADER_BYTES), meta;
    memcpy(&meta, copy + META_AT, sizeof(meta));
    uint32_t rest = meta <= body ? body - meta : 0;
    memcpy(copy + DATA_AT, &rest, sizeof(rest));
    crypto_shorthash(copy + SUM_AT, copy + FRAME_HEADER_BYTES, body, key);
    decode(copy, size);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const struct frame_row rows[] = {{1, 0, 7, 42, FRAME_ROW_SAMPLE, 0}, {2, 3, 0, -1, FRAME_ROW_LOGITS, 3}};
    static const struct frame_bias bias[] = {{5, -100.0F}, {9, 1.0F}};
    static const struct frame_open opens[] = {{.sequence = 1, .temperature = 0.7F, .top_p = 0.9F, .top_k = 40,
                                               .n_bias = 2, .bias = bias}};
    static const uint64_t ends[] = {11, UINT64_MAX};
    static const struct frame_result results[] = {{.sequence = 1, .token = 4, .n_top = 2, .top = {{4, -1}, {5, -2}}}};
    static const struct frame_trace traces[] = {{1, 2, 3}};
    static const uint8_t listed[] = {MASK_ALLOWED, 100, 0, 0, 0, 1, 2, 80}, whole[] = {MASK_BITS, 9, 0, 0, 0, 0xFF, 1};
    static const struct frame_mask masks[] = {{0, sizeof(listed), listed}, {1, sizeof(whole), whole}};
    static const uint8_t data[64] = {1, 2, 3};
    struct buffer out;
    buffer_init(&out, FRAME_BYTES_MAX);
    for (uint8_t kind = FRAME_STEP; kind <= FRAME_CREDIT; kind++) {
        struct frame f = {.header = {.kind = kind, .chunks = 1, .route = 1, .step = 2}};
        if (kind == FRAME_STEP)
            f = (struct frame){.header = {.kind = kind, .chunks = 1, .width = 8, .route = 1}, .rows = rows,
                               .n_rows = 2, .opens = opens, .n_opens = 1, .ends = ends, .n_ends = 2,
                               .traces = traces, .n_traces = 1, .masks = masks, .n_masks = 2,
                               .data = data, .data_bytes = sizeof(data)};
        if (kind == FRAME_RESULT) {
            f.results = results;
            f.n_results = f.n_traces = 1;
            f.traces = traces;
        }
        if (kind == FRAME_FAIL) {
            f.fail_status = ERR_LIMIT;
            memcpy(f.fail_text, "no page left", 13);
        }
        FUZZ_CHECK(frame_encode(&out, &f, NULL) == 0);
        give(arg, out.data, out.len);
    }
    buffer_close(&out);
}
