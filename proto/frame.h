/* frame: the data plane's wire format: a fixed 64-byte header, a metadata section, raw rows.
 *
 * One ZeroMQ message is one frame.  A step whose rows exceed FRAME_CHUNK_MAX
 * travels as several frames of one link, in order; the metadata rides in chunk
 * 0.  Little-endian throughout.  Decoding is bounded and copies nothing: the
 * decoded struct borrows from the message.  A peer's frame is hostile input:
 * every count is checked against the section that holds it.
 *
 *   0 u32 magic "SHL1"     4 u8 version   5 u8 kind       6 u16 flags
 *   8 u64 route           16 u64 step    24 u32 rows     28 u32 width (values a row)
 *  32 u8 dtype  33 u8 stage  34 u16 chunk  36 u16 chunks  38 u16 zero
 *  40 u32 meta bytes      44 u32 data bytes              48 u64 checksum of meta and data
 *  56 u32 deadline ms     60 u32 zero
 *
 * Kinds.  STEP goes gateway -> first stage (no data: the rows' tokens are the
 * input) and stage -> next stage (data: rows).  RESULT and FAIL go to the
 * gateway.  PING is answered with PONG by the receiver.  CREDIT returns, to
 * the sender of STEP chunks, the absolute number of chunks consumed so far on
 * this link.  Sequences are opened and ended inside STEPs, so that they keep
 * their order with the rows on every link; a STEP of no rows is legal.       */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum frame_limits {
    FRAME_HEADER_BYTES = 64,
    FRAME_CHUNK_MAX = 512 << 10,           /* data bytes a frame */
    FRAME_META_MAX = 1 << 20,             /* masks of some tens of rows with large vocabularies */
    FRAME_BYTES_MAX = FRAME_HEADER_BYTES + FRAME_CHUNK_MAX + FRAME_META_MAX, /* plus CURVE's 33: the socket's limit */
    FRAME_ROWS_MAX = 1024,
    FRAME_SEQUENCES_MAX = 256,             /* opens or ends a frame */
    FRAME_BIAS_MAX = 1024,                 /* logit biases an open */
    FRAME_TOP_MAX = 20,
    FRAME_STAGES_MAX = 64,
    FRAME_WIDTH_MAX = 1 << 21,             /* values a row: hidden size, or vocabulary for logits */
    FRAME_CHUNKS_MAX = 16384,
    FRAME_CREDIT_WINDOW = 64,              /* chunks in flight on a link before a CREDIT is needed */
};

enum frame_kind { FRAME_STEP = 1, FRAME_RESULT, FRAME_FAIL, FRAME_PING, FRAME_PONG, FRAME_CREDIT };
enum frame_dtype { FRAME_F32 = 0, FRAME_F16 = 1, FRAME_BF16 = 2 };

struct frame_row { /* 24 bytes on the wire */
    uint64_t sequence;
    uint32_t epoch;
    uint32_t position;
    int32_t token;
    uint16_t flags; /* shard/run/step.h's enum row_flags; FRAME_ROW_* below repeat them and a test compares */
    uint16_t adapter; /* 0: none, else the number of one of those that the shards were loaded with */
};
enum {
    FRAME_ROW_SAMPLE = 1 << 0,
    FRAME_ROW_LOGITS = 1 << 1,
    FRAME_ROW_GENERATED = 1 << 2, /* token came from sampling */
    FRAME_ROW_HIDDEN = 1 << 3,
};

struct frame_bias {
    int32_t token;
    float bias;
};

/* Which tokens the row of this step may be sampled as: see proto/mask.h. */
struct frame_mask {
    uint32_t row; /* index; they rise */
    uint32_t n;
    const uint8_t *bytes; /* encode: the caller's; decode: in the message */
};

/* A sequence's parameters, sent with its first step and again with the first step of every new epoch. */
struct frame_open {
    uint64_t sequence;
    uint32_t epoch;
    uint64_t seed;
    float temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    int32_t top_k, repetition_window, top_logprobs;
    uint32_t n_bias;
    const struct frame_bias *bias; /* encode: caller's; decode: in the caller's array (struct frame_store) */
};

struct frame_top {
    int32_t token;
    float logprob;
};

/* One sampled row of a RESULT. */
struct frame_result {
    uint64_t sequence;
    uint32_t epoch;
    uint32_t position; /* of the row that was sampled after */
    int32_t token;
    float logprob;
    uint32_t n_top;
    struct frame_top top[FRAME_TOP_MAX];
};

/* What every stage spent, appended as the step passes: the gateway's view of links and stages. */
struct frame_trace {
    uint32_t compute_us; /* forward pass */
    uint32_t queue_us;   /* from receipt to start */
    uint32_t pack_us;    /* from end of compute to hand-over to the socket */
};

struct frame_header {
    uint8_t kind, dtype, stage;
    uint16_t flags, chunk, chunks;
    uint64_t route, step;
    uint32_t rows, width, meta_bytes, data_bytes, deadline_ms;
};

/* A decoded frame. Arrays live in the frame_store that was given to frame_decode(). */
struct frame {
    struct frame_header header;
    const struct frame_row *rows;       /* STEP chunk 0 */
    const struct frame_open *opens;
    const uint64_t *ends;
    const struct frame_result *results; /* RESULT */
    const struct frame_trace *traces;
    const struct frame_mask *masks;     /* STEP chunk 0: of rows that are not sampled freely */
    uint32_t n_rows, n_opens, n_ends, n_results, n_traces, n_masks;
    int32_t fail_status;                /* FAIL: enum status; `ends` has the sequences, none: all of the step */
    char fail_text[256];
    uint64_t credit;                    /* CREDIT */
    const uint8_t *data;                /* raw rows of this chunk, may be unaligned; a row of values in a RESULT */
    size_t data_bytes;
};

/* Memory for decoded arrays; allocated once per receiving loop. */
struct frame_store;
struct frame_store *frame_store_create(void);
void frame_store_destroy(struct frame_store **s);

/* Append one whole frame to `out` (cleared first). f->header.meta_bytes, data_bytes and the checksum are
 * computed. data may be NULL with data_bytes 0. ERR_LIMIT when a count is over its limit. */
MUST_USE int frame_encode(struct buffer *out, const struct frame *f, struct error *e);
/* ERR_CORRUPT names the field. Valid until the next decode with the same store or the message goes. */
MUST_USE int frame_decode(struct frame *f, struct frame_store *store, const void *bytes, size_t n, struct error *e);

size_t frame_dtype_bytes(enum frame_dtype t);
/* Convert n values between float and the wire's type. */
void frame_pack(enum frame_dtype t, const float *in, void *out, size_t n);
void frame_unpack(enum frame_dtype t, const void *in, float *out, size_t n);

#endif
