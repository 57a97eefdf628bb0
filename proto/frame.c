/* frame: the codec of the data plane.
 *
 * Metadata of STEP: u32 counts of rows, opens, ends, traces, masks, then the records.
 * Of RESULT: u32 counts of results and traces, then the records.  Of FAIL: i32
 * status, u32 text bytes, the text, u32 count of ends, the ends.  Of CREDIT: u64.
 * Invariant of decoding: the view is good and fully read, or the frame is refused. */
#include "proto/frame.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/view.h"

enum { MAGIC = 0x314C4853, VERSION = 2, CHECKSUM_AT = 48, META_AT = 40 };

_Static_assert(sizeof(struct frame_row) == 24, "a row is 24 bytes on the wire");

static const unsigned char checksum_key[crypto_shorthash_KEYBYTES] = "shoal frame v1";

struct frame_store {
    struct frame_row rows[FRAME_ROWS_MAX];
    struct frame_open opens[FRAME_SEQUENCES_MAX];
    uint64_t ends[FRAME_SEQUENCES_MAX];
    struct frame_result results[FRAME_ROWS_MAX];
    struct frame_trace traces[FRAME_STAGES_MAX];
    struct frame_mask masks[FRAME_ROWS_MAX];
    struct frame_bias biases[FRAME_META_MAX / 8];
};

struct frame_store *frame_store_create(void)
{
    return mem_alloc(sizeof(struct frame_store));
}

void frame_store_destroy(struct frame_store **s)
{
    mem_free(*s);
    *s = NULL;
}

static uint64_t checksum(const void *bytes, size_t n)
{
    unsigned char hash[crypto_shorthash_BYTES];
    crypto_shorthash(hash, bytes, n, checksum_key);
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v |= (uint64_t)hash[i] << (8 * i);
    return v;
}

/* ---- encode ---- */

static void put_rows(struct buffer *b, const struct frame *f)
{
    for (uint32_t i = 0; i < f->n_rows; i++) {
        const struct frame_row *r = &f->rows[i];
        buffer_u64(b, r->sequence);
        buffer_u32(b, r->epoch);
        buffer_u32(b, r->position);
        buffer_u32(b, (uint32_t)r->token);
        buffer_u16(b, r->flags);
        buffer_u16(b, r->adapter);
    }
}

static void put_open(struct buffer *b, const struct frame_open *o)
{
    buffer_u64(b, o->sequence);
    buffer_u32(b, o->epoch);
    buffer_u64(b, o->seed);
    buffer_f32(b, o->temperature);
    buffer_f32(b, o->top_p);
    buffer_f32(b, o->min_p);
    buffer_f32(b, o->repetition_penalty);
    buffer_f32(b, o->presence_penalty);
    buffer_f32(b, o->frequency_penalty);
    buffer_u32(b, (uint32_t)o->top_k);
    buffer_u32(b, (uint32_t)o->repetition_window);
    buffer_u32(b, (uint32_t)o->top_logprobs);
    buffer_u32(b, o->n_bias);
    for (uint32_t i = 0; i < o->n_bias; i++) {
        buffer_u32(b, (uint32_t)o->bias[i].token);
        buffer_f32(b, o->bias[i].bias);
    }
}

static void put_traces(struct buffer *b, const struct frame *f)
{
    for (uint32_t i = 0; i < f->n_traces; i++) {
        buffer_u32(b, f->traces[i].compute_us);
        buffer_u32(b, f->traces[i].queue_us);
        buffer_u32(b, f->traces[i].pack_us);
    }
}

static void put_masks(struct buffer *b, const struct frame *f)
{
    for (uint32_t i = 0; i < f->n_masks; i++) {
        buffer_u32(b, f->masks[i].row);
        buffer_u32(b, f->masks[i].n);
        buffer_add(b, f->masks[i].bytes, f->masks[i].n);
    }
}

static void put_result(struct buffer *b, const struct frame_result *r)
{
    buffer_u64(b, r->sequence);
    buffer_u32(b, r->epoch);
    buffer_u32(b, r->position);
    buffer_u32(b, (uint32_t)r->token);
    buffer_f32(b, r->logprob);
    buffer_u32(b, r->n_top);
    for (uint32_t i = 0; i < r->n_top; i++) {
        buffer_u32(b, (uint32_t)r->top[i].token);
        buffer_f32(b, r->top[i].logprob);
    }
}

static void put_meta(struct buffer *b, const struct frame *f)
{
    switch (f->header.kind) {
    case FRAME_STEP:
        buffer_u32(b, f->n_rows);
        buffer_u32(b, f->n_opens);
        buffer_u32(b, f->n_ends);
        buffer_u32(b, f->n_traces);
        buffer_u32(b, f->n_masks);
        put_rows(b, f);
        for (uint32_t i = 0; i < f->n_opens; i++)
            put_open(b, &f->opens[i]);
        for (uint32_t i = 0; i < f->n_ends; i++)
            buffer_u64(b, f->ends[i]);
        put_traces(b, f);
        put_masks(b, f);
        break;
    case FRAME_RESULT:
        buffer_u32(b, f->n_results);
        buffer_u32(b, f->n_traces);
        for (uint32_t i = 0; i < f->n_results; i++)
            put_result(b, &f->results[i]);
        put_traces(b, f);
        break;
    case FRAME_FAIL:
        buffer_u32(b, (uint32_t)f->fail_status);
        buffer_u32(b, (uint32_t)strnlen(f->fail_text, sizeof(f->fail_text) - 1));
        buffer_add(b, f->fail_text, strnlen(f->fail_text, sizeof(f->fail_text) - 1));
        buffer_u32(b, f->n_ends);
        for (uint32_t i = 0; i < f->n_ends; i++)
            buffer_u64(b, f->ends[i]);
        break;
    case FRAME_CREDIT:
        buffer_u64(b, f->credit);
        break;
    default:
        break;
    }
}

static void put_header(struct buffer *b, const struct frame_header *h, uint32_t rows, size_t data_bytes)
{
    buffer_u32(b, MAGIC);
    buffer_u8(b, VERSION);
    buffer_u8(b, h->kind);
    buffer_u16(b, h->flags);
    buffer_u64(b, h->route);
    buffer_u64(b, h->step);
    buffer_u32(b, rows);
    buffer_u32(b, h->width);
    buffer_u8(b, h->dtype);
    buffer_u8(b, h->stage);
    buffer_u16(b, h->chunk);
    buffer_u16(b, h->chunks);
    buffer_u16(b, 0);
    buffer_u32(b, 0); /* meta bytes, patched */
    buffer_u32(b, (uint32_t)data_bytes);
    buffer_u64(b, 0); /* checksum, patched */
    buffer_u32(b, h->deadline_ms);
    buffer_u32(b, 0);
}

static void patch(struct buffer *b, size_t at, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        b->data[at + i] = (char)(v >> (8 * i));
}

static bool counts_fit(const struct frame *f)
{
    if (f->n_rows > FRAME_ROWS_MAX || f->n_opens > FRAME_SEQUENCES_MAX || f->n_ends > FRAME_SEQUENCES_MAX ||
        f->n_results > FRAME_ROWS_MAX || f->n_traces > FRAME_STAGES_MAX || f->n_masks > f->n_rows ||
        f->data_bytes > FRAME_CHUNK_MAX)
        return false;
    for (uint32_t i = 0; i < f->n_opens; i++) {
        if (f->opens[i].n_bias > FRAME_BIAS_MAX)
            return false;
    }
    for (uint32_t i = 0; i < f->n_results; i++) {
        if (f->results[i].n_top > FRAME_TOP_MAX)
            return false;
    }
    return true;
}

int frame_encode(struct buffer *out, const struct frame *f, struct error *e)
{
    if (!counts_fit(f))
        return error_set(e, ERR_LIMIT, "a frame would pass the limits of the wire");
    buffer_clear(out);
    /* Later chunks of a step repeat its number of rows in the header. */
    put_header(out, &f->header, f->header.chunk ? f->header.rows : f->n_rows, f->data_bytes);
    bool has_meta = f->header.kind != FRAME_STEP || f->header.chunk == 0;
    if (has_meta)
        put_meta(out, f);
    size_t meta = out->len - FRAME_HEADER_BYTES;
    if (f->data_bytes > 0)
        buffer_add(out, f->data, f->data_bytes);
    if (buffer_failed(out) || meta > FRAME_META_MAX)
        return error_set(e, ERR_LIMIT, "a frame of %zu bytes of metadata passes the limit of the wire", meta);
    patch(out, META_AT, meta, 4);
    patch(out, CHECKSUM_AT, checksum(out->data + FRAME_HEADER_BYTES, out->len - FRAME_HEADER_BYTES), 8);
    return 0;
}

/* ---- decode ---- */

static int refuse(struct error *e, const char *what)
{
    return error_set(e, ERR_CORRUPT, "a frame is malformed: %s", what);
}

static void get_rows(struct view *v, struct frame *f, struct frame_store *s)
{
    for (uint32_t i = 0; i < f->n_rows && !v->bad; i++) {
        struct frame_row *r = &s->rows[i];
        r->sequence = view_u64(v);
        r->epoch = view_u32(v);
        r->position = view_u32(v);
        r->token = view_i32(v);
        r->flags = view_u16(v);
        r->adapter = view_u16(v);
    }
    f->rows = s->rows;
}

static void get_opens(struct view *v, struct frame *f, struct frame_store *s)
{
    size_t used = 0;
    for (uint32_t i = 0; i < f->n_opens && !v->bad; i++) {
        struct frame_open *o = &s->opens[i];
        o->sequence = view_u64(v);
        o->epoch = view_u32(v);
        o->seed = view_u64(v);
        o->temperature = view_f32(v);
        o->top_p = view_f32(v);
        o->min_p = view_f32(v);
        o->repetition_penalty = view_f32(v);
        o->presence_penalty = view_f32(v);
        o->frequency_penalty = view_f32(v);
        o->top_k = view_i32(v);
        o->repetition_window = view_i32(v);
        o->top_logprobs = view_i32(v);
        o->n_bias = view_u32(v);
        o->bias = s->biases + used;
        if (o->n_bias > FRAME_BIAS_MAX || !view_has(v, (uint64_t)o->n_bias * 8)) {
            v->bad = true;
            return;
        }
        for (uint32_t b = 0; b < o->n_bias; b++, used++) {
            s->biases[used].token = view_i32(v);
            s->biases[used].bias = view_f32(v);
        }
    }
    f->opens = s->opens;
}

static void get_ends(struct view *v, struct frame *f, struct frame_store *s)
{
    for (uint32_t i = 0; i < f->n_ends && !v->bad; i++)
        s->ends[i] = view_u64(v);
    f->ends = s->ends;
}

static void get_traces(struct view *v, struct frame *f, struct frame_store *s)
{
    for (uint32_t i = 0; i < f->n_traces && !v->bad; i++) {
        s->traces[i].compute_us = view_u32(v);
        s->traces[i].queue_us = view_u32(v);
        s->traces[i].pack_us = view_u32(v);
    }
    f->traces = s->traces;
}

/* They name rows of this step, each at most once. */
static void get_masks(struct view *v, struct frame *f, struct frame_store *s)
{
    for (uint32_t i = 0; i < f->n_masks && !v->bad; i++) {
        struct frame_mask *m = &s->masks[i];
        m->row = view_u32(v);
        m->n = view_u32(v);
        m->bytes = view_bytes(v, m->n);
        v->bad |= m->row >= f->n_rows || (i > 0 && m->row <= s->masks[i - 1].row);
    }
    f->masks = s->masks;
}

static void get_results(struct view *v, struct frame *f, struct frame_store *s)
{
    for (uint32_t i = 0; i < f->n_results && !v->bad; i++) {
        struct frame_result *r = &s->results[i];
        r->sequence = view_u64(v);
        r->epoch = view_u32(v);
        r->position = view_u32(v);
        r->token = view_i32(v);
        r->logprob = view_f32(v);
        r->n_top = view_u32(v);
        if (r->n_top > FRAME_TOP_MAX) {
            v->bad = true;
            return;
        }
        for (uint32_t t = 0; t < r->n_top; t++) {
            r->top[t].token = view_i32(v);
            r->top[t].logprob = view_f32(v);
        }
    }
    f->results = s->results;
}

static int get_step(struct view *v, struct frame *f, struct frame_store *s, struct error *e)
{
    if (f->header.chunk != 0)
        return f->header.meta_bytes == 0 ? 0 : refuse(e, "metadata outside chunk 0");
    f->n_rows = view_u32(v);
    f->n_opens = view_u32(v);
    f->n_ends = view_u32(v);
    f->n_traces = view_u32(v);
    f->n_masks = view_u32(v);
    if (f->n_rows > FRAME_ROWS_MAX || f->n_rows != f->header.rows || f->n_masks > f->n_rows)
        return refuse(e, "number of rows");
    if (f->n_opens > FRAME_SEQUENCES_MAX || f->n_ends > FRAME_SEQUENCES_MAX || f->n_traces > FRAME_STAGES_MAX)
        return refuse(e, "number of sequences or stages");
    get_rows(v, f, s);
    get_opens(v, f, s);
    get_ends(v, f, s);
    get_traces(v, f, s);
    get_masks(v, f, s);
    return 0;
}

static int get_result(struct view *v, struct frame *f, struct frame_store *s, struct error *e)
{
    f->n_results = view_u32(v);
    f->n_traces = view_u32(v);
    if (f->n_results > FRAME_ROWS_MAX || f->n_traces > FRAME_STAGES_MAX)
        return refuse(e, "number of results");
    get_results(v, f, s);
    get_traces(v, f, s);
    return 0;
}

static int get_fail(struct view *v, struct frame *f, struct frame_store *s, struct error *e)
{
    f->fail_status = view_i32(v);
    uint32_t n = view_u32(v);
    if (n >= sizeof(f->fail_text) || f->fail_status >= 0)
        return refuse(e, "failure text or status");
    const char *text = view_bytes(v, n);
    if (text)
        memcpy(f->fail_text, text, n);
    f->n_ends = view_u32(v);
    if (f->n_ends > FRAME_SEQUENCES_MAX)
        return refuse(e, "number of sequences");
    get_ends(v, f, s);
    return 0;
}

static int get_header(struct view *v, struct frame_header *h, uint64_t *sum, struct error *e)
{
    if (view_u32(v) != MAGIC)
        return refuse(e, "magic");
    if (view_u8(v) != VERSION)
        return refuse(e, "version; both ends must run the same release");
    h->kind = view_u8(v);
    h->flags = view_u16(v);
    h->route = view_u64(v);
    h->step = view_u64(v);
    h->rows = view_u32(v);
    h->width = view_u32(v);
    h->dtype = view_u8(v);
    h->stage = view_u8(v);
    h->chunk = view_u16(v);
    h->chunks = view_u16(v);
    uint16_t zero = view_u16(v);
    h->meta_bytes = view_u32(v);
    h->data_bytes = view_u32(v);
    *sum = view_u64(v);
    h->deadline_ms = view_u32(v);
    uint32_t also_zero = view_u32(v);
    if (v->bad || zero || also_zero)
        return refuse(e, "header");
    if (h->kind < FRAME_STEP || h->kind > FRAME_CREDIT || h->dtype > FRAME_BF16)
        return refuse(e, "kind or type of rows");
    if (h->width > FRAME_WIDTH_MAX || h->rows > FRAME_ROWS_MAX)
        return refuse(e, "number of values");
    if (h->chunks == 0 || h->chunk >= h->chunks || h->chunks > FRAME_CHUNKS_MAX)
        return refuse(e, "chunk number");
    if (h->meta_bytes > FRAME_META_MAX || h->data_bytes > FRAME_CHUNK_MAX)
        return refuse(e, "section sizes");
    return 0;
}

int frame_decode(struct frame *f, struct frame_store *store, const void *bytes, size_t n, struct error *e)
{
    memset(f, 0, sizeof(*f));
    struct view v = view_of(bytes, n);
    uint64_t sum = 0;
    int r = get_header(&v, &f->header, &sum, e);
    if (r != 0)
        return r;
    const struct frame_header *h = &f->header;
    if ((uint64_t)h->meta_bytes + h->data_bytes != view_left(&v))
        return refuse(e, "length");
    if (checksum(v.data + v.pos, view_left(&v)) != sum)
        return refuse(e, "checksum");
    struct view meta = view_of(v.data + v.pos, h->meta_bytes);
    if (h->kind == FRAME_STEP)
        r = get_step(&meta, f, store, e);
    else if (h->kind == FRAME_RESULT)
        r = get_result(&meta, f, store, e);
    else if (h->kind == FRAME_FAIL)
        r = get_fail(&meta, f, store, e);
    else if (h->kind == FRAME_CREDIT)
        f->credit = view_u64(&meta);
    if (r == 0 && !view_done(&meta))
        r = refuse(e, "metadata");
    f->data = v.data + v.pos + h->meta_bytes;
    f->data_bytes = h->data_bytes;
    return r;
}

/* ---- rows ---- */

size_t frame_dtype_bytes(enum frame_dtype t)
{
    return t == FRAME_F32 ? 4 : 2;
}

static uint16_t to_f16(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    uint32_t sign = u >> 16 & 0x8000, mag = u & 0x7FFFFFFF;
    if (mag >= 0x7F800000)
        return (uint16_t)(sign | 0x7C00 | (mag > 0x7F800000 ? 0x200 : 0));
    if (mag >= 0x477FF000)
        return (uint16_t)(sign | 0x7C00);
    if (mag < 0x38800000) { /* a half's subnormal: adding 0.5 puts its bits at the bottom, rounded to even */
        float f;
        memcpy(&f, &mag, 4);
        f += 0.5f;
        memcpy(&mag, &f, 4);
        return (uint16_t)(sign | (mag - 0x3F000000));
    }
    mag += 0xC8000FFF + (mag >> 13 & 1);
    return (uint16_t)(sign | mag >> 13);
}

static float from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7FFF, u;
    float f;
    if (mag >= 0x7C00) {
        u = sign | 0x7F800000 | (mag & 0x3FF) << 13;
        memcpy(&f, &u, 4);
        return f;
    }
    u = mag << 13;
    memcpy(&f, &u, 4);
    f *= 0x1p112f;
    memcpy(&u, &f, 4);
    u |= sign;
    memcpy(&f, &u, 4);
    return f;
}

static uint16_t to_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

/* The wire's rows lie anywhere in a message: halves are copied, never dereferenced. */
void frame_pack(enum frame_dtype t, const float *in, void *out, size_t n)
{
    uint8_t *wire = out;
    if (t == FRAME_F32)
        memcpy(out, in, n * sizeof(float));
    for (size_t i = 0; t == FRAME_F16 && i < n; i++) {
        uint16_t half = to_f16(in[i]);
        memcpy(wire + 2 * i, &half, 2);
    }
    for (size_t i = 0; t == FRAME_BF16 && i < n; i++) {
        uint16_t half = to_bf16(in[i]);
        memcpy(wire + 2 * i, &half, 2);
    }
}

void frame_unpack(enum frame_dtype t, const void *in, float *out, size_t n)
{
    const uint8_t *wire = in;
    uint16_t half;
    if (t == FRAME_F32)
        memcpy(out, in, n * sizeof(float));
    for (size_t i = 0; t == FRAME_F16 && i < n; i++) {
        memcpy(&half, wire + 2 * i, 2);
        out[i] = from_f16(half);
    }
    for (size_t i = 0; t == FRAME_BF16 && i < n; i++) {
        memcpy(&half, wire + 2 * i, 2);
        uint32_t u = (uint32_t)half << 16;
        memcpy(&out[i], &u, 4);
    }
}
