/* test_frame: round trips of every kind, and refusal of what is cut, flipped, or over a limit.
 *
 * Frames are decoded from allocations of their exact size, so that a sanitizer sees
 * a read past them.  Mutations that a hostile peer would make carry a right checksum,
 * so that they reach the checks behind it.                                         */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/random.h"
#include "proto/frame.h"

static struct frame_store *store;

static int make_store(void **state)
{
    (void)state;
    store = frame_store_create();
    return sodium_init() < 0 ? -1 : 0;
}

static int drop_store(void **state)
{
    (void)state;
    frame_store_destroy(&store);
    return store ? -1 : 0;
}

/* ---- frames ---- */

static const struct frame_row some_rows[] = {
    {UINT64_MAX, 7, 0, -1, FRAME_ROW_SAMPLE, 0},
    {1, UINT32_MAX, 4096, 151935, FRAME_ROW_LOGITS | FRAME_ROW_GENERATED, UINT16_MAX},
    {2, 0, 1, 0, 0, 7},
};
static const struct frame_bias some_biases[] = {{5, -100.0F}, {-7, 0.5F}, {9, 1.0F}};
static const struct frame_open some_opens[] = {
    {.sequence = 3, .epoch = 4, .seed = 0x0123456789ABCDEF,
     .temperature = 0.7F, .top_p = 0.9F, .min_p = 0.05F,
     .repetition_penalty = 1.1F, .presence_penalty = -0.5F, .frequency_penalty = 2.0F, .top_k = 40,
     .repetition_window = 64, .top_logprobs = 20, .n_bias = 2, .bias = some_biases},
    {.sequence = 5, .top_k = -1, .n_bias = 0},
    {.sequence = 6, .n_bias = 1, .bias = some_biases + 2},
};
static const uint64_t some_ends[] = {11, UINT64_MAX, 13};
static const struct frame_trace some_traces[] = {{1, 2, 3}, {UINT32_MAX, 0, 9}};
static const struct frame_result some_results[] = {
    {.sequence = 1, .epoch = 2, .position = 3, .token = 4, .logprob = -0.25F,
     .n_top = 2, .top = {{4, -0.25F}, {5, -2}}},
    {.sequence = 9, .token = -1, .logprob = -1e30F},
};
static const uint8_t some_bits[] = {2, 0, 0, 0, 0, 7};
static const struct frame_mask some_masks[] = {{0, 3, some_bits}, {2, 6, some_bits}};
static const uint8_t some_data[48] = {1, 2, 3, 0xFF, 0, 0x80};

static struct frame step_frame(void)
{
    return (struct frame){
        .header = {.kind = FRAME_STEP, .dtype = FRAME_BF16, .stage = 2, .flags = 0x8001, .chunks = 2,
                   .route = 0x1122334455667788, .step = UINT64_MAX, .width = 8, .deadline_ms = 30000},
        .rows = some_rows, .n_rows = COUNTOF(some_rows), .opens = some_opens, .n_opens = COUNTOF(some_opens),
        .ends = some_ends, .n_ends = COUNTOF(some_ends),
        .traces = some_traces, .n_traces = COUNTOF(some_traces),
        .masks = some_masks, .n_masks = COUNTOF(some_masks),
        .data = some_data, .data_bytes = sizeof(some_data),
    };
}

static struct frame frame_of(uint8_t kind)
{
    struct frame f = {.header = {.kind = kind, .chunks = 1, .route = 1, .step = 2}};
    switch (kind) {
    case FRAME_STEP:
        return step_frame();
    case FRAME_RESULT:
        f.results = some_results;
        f.n_results = COUNTOF(some_results);
        f.traces = some_traces;
        f.n_traces = COUNTOF(some_traces);
        f.data = some_data;
        f.data_bytes = 16;
        break;
    case FRAME_FAIL:
        f.fail_status = ERR_LIMIT;
        memcpy(f.fail_text, "no page left", 13);
        f.ends = some_ends;
        f.n_ends = COUNTOF(some_ends);
        break;
    case FRAME_CREDIT:
        f.credit = 0xFEDCBA9876543210;
        break;
    default:
        break;
    }
    return f;
}

static void encode(struct buffer *out, const struct frame *f)
{
    struct error e = {0};
    buffer_init(out, FRAME_BYTES_MAX);
    assert_int_equal(frame_encode(out, f, &e), 0);
}

/* Decodes the first n bytes from an allocation of just that size, gives it to be freed by the caller. */
static int decode_exact(struct frame *f, const char *bytes, size_t n, uint8_t **exact)
{
    *exact = malloc(n ? n : 1);
    assert_non_null(*exact);
    memcpy(*exact, bytes, n);
    struct error e = {0};
    int r = frame_decode(f, store, *exact, n, &e);
    assert_int_equal(r, e.status);
    assert_true(r == 0 || r == ERR_CORRUPT);
    return r;
}

static int decode_status(const char *bytes, size_t n)
{
    struct frame f;
    uint8_t *exact;
    int r = decode_exact(&f, bytes, n, &exact);
    free(exact);
    return r;
}

static void put_u32(struct buffer *b, size_t at, uint32_t v)
{
    for (size_t i = 0; i < 4; i++)
        b->data[at + i] = (char)(v >> (8 * i));
}

/* What a hostile peer can do: the checksum needs no secret. */
static void seal(struct buffer *b)
{
    static const unsigned char key[crypto_shorthash_KEYBYTES] = "shoal frame v1";
    unsigned char hash[8];
    crypto_shorthash(hash, (unsigned char *)b->data + 64, b->len - 64, key);
    memcpy(b->data + 48, hash, 8);
}

/* ---- round trips ---- */

static void assert_same_open(const struct frame_open *a, const struct frame_open *b)
{
    assert_true(a->sequence == b->sequence && a->epoch == b->epoch && a->seed == b->seed);
    assert_memory_equal(&a->temperature, &b->temperature, 6 * sizeof(float));
    assert_true(a->top_k == b->top_k && a->repetition_window == b->repetition_window);
    assert_int_equal(a->top_logprobs, b->top_logprobs);
    assert_int_equal(a->n_bias, b->n_bias);
    if (a->n_bias)
        assert_memory_equal(a->bias, b->bias, a->n_bias * sizeof(*a->bias));
}

static void assert_same_frame(const struct frame *a, const struct frame *b)
{
    const struct frame_header *g = &a->header, *h = &b->header;
    assert_true(g->kind == h->kind && g->dtype == h->dtype && g->stage == h->stage && g->flags == h->flags);
    assert_true(g->chunk == h->chunk && g->chunks == h->chunks && g->route == h->route && g->step == h->step);
    assert_true(g->width == h->width && g->deadline_ms == h->deadline_ms);
    assert_true(a->n_rows == b->n_rows && a->n_opens == b->n_opens && a->n_ends == b->n_ends);
    assert_true(a->n_results == b->n_results && a->n_traces == b->n_traces);
    if (a->n_rows)
        assert_memory_equal(a->rows, b->rows, a->n_rows * sizeof(*a->rows));
    if (a->n_ends)
        assert_memory_equal(a->ends, b->ends, a->n_ends * sizeof(*a->ends));
    if (a->n_traces)
        assert_memory_equal(a->traces, b->traces, a->n_traces * sizeof(*a->traces));
    assert_int_equal(a->n_masks, b->n_masks);
    for (uint32_t i = 0; i < a->n_masks; i++) {
        assert_true(a->masks[i].row == b->masks[i].row && a->masks[i].n == b->masks[i].n);
        assert_memory_equal(a->masks[i].bytes, b->masks[i].bytes, a->masks[i].n);
    }
    for (uint32_t i = 0; i < a->n_opens; i++)
        assert_same_open(&a->opens[i], &b->opens[i]);
    for (uint32_t i = 0; i < a->n_results; i++) {
        const struct frame_result *r = &a->results[i], *s = &b->results[i];
        assert_true(r->sequence == s->sequence && r->epoch == s->epoch && r->position == s->position);
        assert_true(r->token == s->token && r->logprob == s->logprob && r->n_top == s->n_top);
        if (r->n_top)
            assert_memory_equal(r->top, s->top, r->n_top * sizeof(r->top[0]));
    }
    assert_int_equal(a->fail_status, b->fail_status);
    assert_string_equal(a->fail_text, b->fail_text);
    assert_true(a->credit == b->credit);
    assert_int_equal(a->data_bytes, b->data_bytes);
    if (a->data_bytes)
        assert_memory_equal(a->data, b->data, a->data_bytes);
}

static void test_frame_of_every_kind_comes_back(void **state)
{
    (void)state;
    for (uint8_t kind = FRAME_STEP; kind <= FRAME_CREDIT; kind++) {
        struct frame in = frame_of(kind), out;
        struct buffer b;
        uint8_t *exact;
        encode(&b, &in);
        assert_int_equal(decode_exact(&out, b.data, b.len, &exact), 0);
        assert_same_frame(&in, &out);
        assert_int_equal(out.header.rows, in.n_rows);
        free(exact);
        buffer_close(&b);
    }
}

static void test_later_chunk_carries_rows_but_no_metadata(void **state)
{
    (void)state;
    struct frame in = step_frame(), out;
    struct buffer b;
    uint8_t *exact;
    in.header.chunk = 1;
    in.header.rows = 3;
    encode(&b, &in);
    assert_int_equal(b.len, FRAME_HEADER_BYTES + sizeof(some_data));
    assert_int_equal(decode_exact(&out, b.data, b.len, &exact), 0);
    assert_true(out.header.chunk == 1 && out.header.rows == 3 && out.n_rows == 0 && out.n_opens == 0);
    assert_memory_equal(out.data, some_data, sizeof(some_data));
    free(exact);
    buffer_close(&b);
}

static void test_step_of_nothing_is_legal(void **state)
{
    (void)state;
    struct frame in = {.header = {.kind = FRAME_STEP, .chunks = 1}}, out;
    struct buffer b;
    uint8_t *exact;
    encode(&b, &in);
    assert_int_equal(decode_exact(&out, b.data, b.len, &exact), 0);
    assert_same_frame(&in, &out);
    free(exact);
    buffer_close(&b);
}

static void test_fail_text_without_an_end_is_cut(void **state)
{
    (void)state;
    struct frame in = frame_of(FRAME_FAIL), out;
    struct buffer b;
    uint8_t *exact;
    memset(in.fail_text, 'x', sizeof(in.fail_text));
    encode(&b, &in);
    assert_int_equal(decode_exact(&out, b.data, b.len, &exact), 0);
    assert_int_equal(strlen(out.fail_text), sizeof(out.fail_text) - 1);
    free(exact);
    buffer_close(&b);
}

/* ---- hostile bytes ---- */

static void test_frame_cut_at_every_byte_is_refused(void **state)
{
    (void)state;
    for (uint8_t kind = FRAME_STEP; kind <= FRAME_CREDIT; kind++) {
        struct frame in = frame_of(kind);
        struct buffer b;
        encode(&b, &in);
        for (size_t n = 0; n < b.len; n++)
            assert_int_equal(decode_status(b.data, n), ERR_CORRUPT);
        buffer_u8(&b, 0);
        assert_int_equal(decode_status(b.data, b.len), ERR_CORRUPT); /* and a byte too many */
        buffer_close(&b);
    }
}

/* A cut of the metadata that the header and the checksum admit. */
static void test_metadata_cut_at_every_byte_is_refused(void **state)
{
    (void)state;
    for (uint8_t kind = FRAME_STEP; kind <= FRAME_CREDIT; kind++) {
        struct frame in = frame_of(kind);
        struct buffer b;
        in.data_bytes = 0;
        encode(&b, &in);
        for (size_t n = b.len; n-- > FRAME_HEADER_BYTES;) {
            b.len = n;
            put_u32(&b, 40, (uint32_t)(n - FRAME_HEADER_BYTES));
            seal(&b);
            assert_int_equal(decode_status(b.data, n), ERR_CORRUPT);
        }
        buffer_close(&b);
    }
}

/* The checksum covers metadata and data; of the header, the fields that say how to read them are checked. */
static void test_flipped_bit_is_refused(void **state)
{
    (void)state;
    for (uint8_t kind = FRAME_STEP; kind <= FRAME_CREDIT; kind++) {
        struct frame in = frame_of(kind);
        struct buffer b;
        encode(&b, &in);
        for (size_t bit = 0; bit < b.len * 8; bit++) {
            size_t at = bit / 8;
            b.data[at] ^= (char)(1 << bit % 8);
            int r = decode_status(b.data, b.len);
            bool covered = at < 5 || (at >= 38 && at < 56) || at >= 60;
            assert_true(!covered || r == ERR_CORRUPT);
            b.data[at] ^= (char)(1 << bit % 8);
        }
        assert_int_equal(decode_status(b.data, b.len), 0);
        buffer_close(&b);
    }
}

/* Random damage under a right checksum: refused or decoded within the limits, never a wild read. */
static void test_sealed_damage_never_passes_a_limit(void **state)
{
    (void)state;
    struct random_state r;
    random_seed(&r, 20);
    for (int round = 0; round < 30000; round++) {
        struct frame in = frame_of((uint8_t)(FRAME_STEP + round % FRAME_CREDIT)), f;
        struct buffer b;
        uint8_t *exact;
        encode(&b, &in);
        for (int flips = 1 + (int)(random_u64(&r) % 3); flips > 0; flips--) {
            static const uint8_t values[] = {0, 1, 0x7F, 0x80, 0xFF};
            uint64_t x = random_u64(&r);
            size_t from = x & 1 && b.len > FRAME_HEADER_BYTES ? FRAME_HEADER_BYTES : 5;
            b.data[from + (x >> 8) % (b.len - from)] = (char)values[(x >> 1) % COUNTOF(values)];
        }
        seal(&b);
        if (decode_exact(&f, b.data, b.len, &exact) == 0) {
            assert_true(f.n_rows <= FRAME_ROWS_MAX && f.n_opens <= FRAME_SEQUENCES_MAX);
            assert_true(f.n_ends <= FRAME_SEQUENCES_MAX && f.n_results <= FRAME_ROWS_MAX);
            assert_true(f.n_traces <= FRAME_STAGES_MAX && f.data + f.data_bytes == exact + b.len);
            assert_true(f.fail_status <= 0 && strnlen(f.fail_text, 256) < 256);
        }
        free(exact);
        buffer_close(&b);
    }
}

static void test_header_field_over_its_limit_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint8_t kind;
        size_t at, bytes;
        uint32_t value;
        int status;
    } rows[] = {
        {FRAME_PING, 4, 1, 0, ERR_CORRUPT},                       /* version */
        {FRAME_PING, 4, 1, 1, ERR_CORRUPT},
        {FRAME_PING, 4, 1, 3, ERR_CORRUPT},
        {FRAME_PING, 5, 1, 0, ERR_CORRUPT},                       /* kind */
        {FRAME_PING, 5, 1, FRAME_CREDIT + 1, ERR_CORRUPT},
        {FRAME_PING, 5, 1, FRAME_STEP, ERR_CORRUPT},              /* a step without its counts */
        {FRAME_PING, 24, 4, FRAME_ROWS_MAX, 0},                   /* rows */
        {FRAME_PING, 24, 4, FRAME_ROWS_MAX + 1, ERR_CORRUPT},
        {FRAME_STEP, 24, 4, 2, ERR_CORRUPT},                      /* not the metadata's number */
        {FRAME_PING, 28, 4, FRAME_WIDTH_MAX, 0},                  /* width */
        {FRAME_PING, 28, 4, FRAME_WIDTH_MAX + 1, ERR_CORRUPT},
        {FRAME_PING, 32, 1, FRAME_BF16 + 1, ERR_CORRUPT},         /* dtype */
        {FRAME_PING, 34, 2, 1, ERR_CORRUPT},                      /* chunk 1 of 1 */
        {FRAME_STEP, 34, 2, 1, ERR_CORRUPT},                      /* metadata outside chunk 0 */
        {FRAME_PING, 36, 2, 0, ERR_CORRUPT},                      /* chunks */
        {FRAME_PING, 36, 2, FRAME_CHUNKS_MAX, 0},
        {FRAME_PING, 36, 2, FRAME_CHUNKS_MAX + 1, ERR_CORRUPT},
        {FRAME_PING, 38, 2, 1, ERR_CORRUPT},                      /* zeros */
        {FRAME_PING, 60, 4, 1, ERR_CORRUPT},
        {FRAME_PING, 40, 4, UINT32_MAX, ERR_CORRUPT},             /* section sizes */
        {FRAME_PING, 44, 4, UINT32_MAX, ERR_CORRUPT},
        {FRAME_PING, 44, 4, 1, ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct frame in = frame_of(rows[i].kind);
        struct buffer b;
        encode(&b, &in);
        for (size_t n = 0; n < rows[i].bytes; n++)
            b.data[rows[i].at + n] = (char)(rows[i].value >> (8 * n));
        assert_int_equal(decode_status(b.data, b.len), rows[i].status);
        buffer_close(&b);
    }
}

static void test_metadata_count_over_its_limit_is_refused(void **state)
{
    (void)state;
    enum { META = FRAME_HEADER_BYTES, OPENS = META + 20 + 24 * COUNTOF(some_rows) };
    static const struct {
        uint8_t kind;
        size_t at;
        uint32_t limit;
    } rows[] = {
        {FRAME_STEP, META, FRAME_ROWS_MAX},        {FRAME_STEP, META + 4, FRAME_SEQUENCES_MAX},
        {FRAME_STEP, META + 8, FRAME_SEQUENCES_MAX}, {FRAME_STEP, META + 12, FRAME_STAGES_MAX},
        {FRAME_STEP, META + 16, COUNTOF(some_rows)},
        {FRAME_STEP, OPENS + 56, FRAME_BIAS_MAX},  {FRAME_RESULT, META, FRAME_ROWS_MAX},
        {FRAME_RESULT, META + 4, FRAME_STAGES_MAX}, {FRAME_RESULT, META + 8 + 24, FRAME_TOP_MAX},
        {FRAME_FAIL, META, 0},                     {FRAME_FAIL, META + 4, 255},
        {FRAME_FAIL, META + 8 + 12, FRAME_SEQUENCES_MAX},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        const uint32_t limit = rows[i].limit;
        const uint32_t values[] = {limit, limit + 1, INT32_MAX, limit ? UINT32_MAX : 1};
        for (size_t v = 0; v < COUNTOF(values); v++) {
            struct frame in = frame_of(rows[i].kind);
            struct buffer b;
            encode(&b, &in);
            put_u32(&b, rows[i].at, values[v]);
            seal(&b);
            assert_int_equal(decode_status(b.data, b.len), ERR_CORRUPT);
            buffer_close(&b);
        }
    }
}

static void test_masks_that_do_not_name_rows_in_order_are_refused(void **state)
{
    (void)state;
    static const struct frame_mask wrong[][2] = {
        {{0, 3, some_bits}, {3, 3, some_bits}}, /* there are three rows */
        {{1, 3, some_bits}, {1, 3, some_bits}},
        {{2, 3, some_bits}, {0, 3, some_bits}},
    };
    for (size_t i = 0; i < COUNTOF(wrong); i++) {
        struct frame in = step_frame();
        struct buffer b;
        in.masks = wrong[i];
        encode(&b, &in);
        assert_int_equal(decode_status(b.data, b.len), ERR_CORRUPT);
        buffer_close(&b);
    }
}

/* ---- encoding ---- */

static void test_encode_refuses_counts_over_the_limits(void **state)
{
    (void)state;
    static const struct frame_bias biases[FRAME_BIAS_MAX + 1];
    static struct frame_open many[FRAME_SEQUENCES_MAX];
    const struct frame_open one = {.n_bias = FRAME_BIAS_MAX + 1, .bias = biases};
    const struct frame_result wide = {.n_top = FRAME_TOP_MAX + 1};
    for (size_t i = 0; i < COUNTOF(many); i++)
        many[i] = (struct frame_open){.n_bias = FRAME_BIAS_MAX, .bias = biases};
    const struct frame_header step = {.kind = FRAME_STEP, .chunks = 1};
    const struct frame_header result = {.kind = FRAME_RESULT, .chunks = 1};
    const struct frame frames[] = {
        {.header = step, .n_rows = FRAME_ROWS_MAX + 1},
        {.header = step, .n_opens = FRAME_SEQUENCES_MAX + 1},
        {.header = step, .n_ends = FRAME_SEQUENCES_MAX + 1},
        {.header = step, .n_traces = FRAME_STAGES_MAX + 1},
        {.header = step, .data_bytes = FRAME_CHUNK_MAX + 1},
        {.header = step, .opens = &one, .n_opens = 1},
        {.header = step, .opens = many, .n_opens = COUNTOF(many)}, /* each within its limit, not their sum */
        {.header = result, .n_results = FRAME_ROWS_MAX + 1},
        {.header = result, .results = &wide, .n_results = 1},
    };
    for (size_t i = 0; i < COUNTOF(frames); i++) {
        struct buffer b;
        struct error e = {0};
        buffer_init(&b, 4 << 20);
        assert_int_equal(frame_encode(&b, &frames[i], &e), ERR_LIMIT);
        assert_int_equal(e.status, ERR_LIMIT);
        buffer_close(&b);
    }
    struct buffer small;
    struct frame f = step_frame();
    for (size_t max = 0; max < 300; max += 37) {
        buffer_init(&small, max);
        assert_int_equal(frame_encode(&small, &f, NULL), ERR_LIMIT);
        buffer_close(&small);
    }
}

static void test_fullest_frame_fits_and_comes_back(void **state)
{
    (void)state;
    static struct frame_result results[FRAME_ROWS_MAX];
    static struct frame_trace traces[FRAME_STAGES_MAX];
    static uint8_t data[FRAME_CHUNK_MAX];
    struct random_state r;
    random_seed(&r, 3);
    for (size_t i = 0; i < COUNTOF(results); i++) {
        results[i] = (struct frame_result){.sequence = i, .token = (int32_t)i, .n_top = FRAME_TOP_MAX};
        for (size_t t = 0; t < FRAME_TOP_MAX; t++)
            results[i].top[t] = (struct frame_top){(int32_t)random_u64(&r), -(float)t};
    }
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)random_u64(&r);
    struct frame in = {.header = {.kind = FRAME_RESULT, .chunks = 1},
                       .results = results, .n_results = COUNTOF(results),
                       .traces = traces, .n_traces = COUNTOF(traces),
                       .data = data, .data_bytes = sizeof(data)};
    struct frame out;
    struct buffer b;
    uint8_t *exact;
    encode(&b, &in);
    assert_int_equal(decode_exact(&out, b.data, b.len, &exact), 0);
    assert_same_frame(&in, &out);
    free(exact);
    buffer_close(&b);
}

/* ---- rows ---- */

static bool is_nan_half(uint16_t h, enum frame_dtype t)
{
    return t == FRAME_F16 ? (h & 0x7FFF) > 0x7C00 : (h & 0x7FFF) > 0x7F80;
}

static void test_every_half_survives_unpack_and_pack(void **state)
{
    (void)state;
    for (int t = FRAME_F16; t <= FRAME_BF16; t++) {
        for (uint32_t h = 0; h <= UINT16_MAX; h++) {
            uint16_t in = (uint16_t)h, out;
            float f;
            frame_unpack((enum frame_dtype)t, &in, &f, 1);
            frame_pack((enum frame_dtype)t, &f, &out, 1);
            bool nan = is_nan_half(in, (enum frame_dtype)t);
            assert_int_equal(isnan(f) != 0, nan);
            assert_true(nan ? is_nan_half(out, (enum frame_dtype)t) : in == out);
        }
    }
}

static void test_pack_rounds_to_the_nearest_even(void **state)
{
    (void)state;
    static const struct {
        enum frame_dtype t;
        float in;
        uint16_t out;
    } rows[] = {
        {FRAME_F16, 1.0F, 0x3C00},          {FRAME_F16, -2.0F, 0xC000},
        {FRAME_F16, 0x1.002p0F, 0x3C00},    {FRAME_F16, 0x1.006p0F, 0x3C02}, /* ties */
        {FRAME_F16, 0x1.002002p0F, 0x3C01}, {FRAME_F16, 65504.0F, 0x7BFF},
        {FRAME_F16, 65519.0F, 0x7BFF},      {FRAME_F16, 65520.0F, 0x7C00},
        {FRAME_F16, 1e30F, 0x7C00},         {FRAME_F16, -INFINITY, 0xFC00},
        {FRAME_F16, 0x1p-14F, 0x0400},      {FRAME_F16, 0x1p-24F, 0x0001},
        {FRAME_F16, 0x1p-25F, 0x0000},      {FRAME_F16, 0x1.8p-24F, 0x0002},
        {FRAME_F16, -0.0F, 0x8000},         {FRAME_F16, 0x1.ff8p-15F, 0x03FF},
        {FRAME_F16, 0x1.ffcp-15F, 0x0400},  {FRAME_BF16, 1.0F, 0x3F80},
        {FRAME_BF16, 0x1.01p0F, 0x3F80},    {FRAME_BF16, 0x1.03p0F, 0x3F82},
        {FRAME_BF16, 0x1.010002p0F, 0x3F81}, {FRAME_BF16, 0x1.fffffep127F, 0x7F80},
        {FRAME_BF16, INFINITY, 0x7F80},     {FRAME_BF16, -0.0F, 0x8000},
        {FRAME_BF16, 0x1p-149F, 0x0000},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        uint16_t out;
        frame_pack(rows[i].t, &rows[i].in, &out, 1);
        assert_int_equal(out, rows[i].out);
    }
}

static void test_rows_convert_at_any_alignment(void **state)
{
    (void)state;
    enum { N = 37 };
    float in[N], out[N];
    for (int i = 0; i < N; i++)
        in[i] = (float)(i - 18) * 0.25F;
    for (int t = FRAME_F32; t <= FRAME_BF16; t++) {
        size_t bytes = N * frame_dtype_bytes((enum frame_dtype)t);
        for (size_t shift = 0; shift < 4; shift++) {
            uint8_t *wire = malloc(bytes + shift); /* ends where the rows end */
            assert_non_null(wire);
            memset(out, 0, sizeof(out));
            frame_pack((enum frame_dtype)t, in, wire + shift, N);
            frame_unpack((enum frame_dtype)t, wire + shift, out, N);
            assert_memory_equal(in, out, sizeof(in));
            free(wire);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_of_every_kind_comes_back),
        cmocka_unit_test(test_later_chunk_carries_rows_but_no_metadata),
        cmocka_unit_test(test_step_of_nothing_is_legal),
        cmocka_unit_test(test_fail_text_without_an_end_is_cut),
        cmocka_unit_test(test_frame_cut_at_every_byte_is_refused),
        cmocka_unit_test(test_metadata_cut_at_every_byte_is_refused),
        cmocka_unit_test(test_flipped_bit_is_refused),
        cmocka_unit_test(test_sealed_damage_never_passes_a_limit),
        cmocka_unit_test(test_header_field_over_its_limit_is_refused),
        cmocka_unit_test(test_metadata_count_over_its_limit_is_refused),
        cmocka_unit_test(test_masks_that_do_not_name_rows_in_order_are_refused),
        cmocka_unit_test(test_encode_refuses_counts_over_the_limits),
        cmocka_unit_test(test_fullest_frame_fits_and_comes_back),
        cmocka_unit_test(test_every_half_survives_unpack_and_pack),
        cmocka_unit_test(test_pack_rounds_to_the_nearest_even),
        cmocka_unit_test(test_rows_convert_at_any_alignment),
    };
    return cmocka_run_group_tests(tests, make_store, drop_store);
}
