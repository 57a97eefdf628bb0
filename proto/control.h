/* control: packing and checked unpacking of the messages of proto/control.proto.
 *
 * Unpacking is bounded twice: the message's size, and what protobuf-c may
 * allocate for it (a capped allocator).  After decoding, every count, length
 * and enum is checked against the limits below, so that what comes out can be
 * used as it is.  Unpacked messages are freed with their *_free function.    */
#ifndef PROTO_CONTROL_H
#define PROTO_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "proto/control.pb-c.h" /* generated into the build tree */

enum control_limits {
    CONTROL_BYTES_MAX = 256 << 10,      /* a message of the control link; a roster is the largest */
    CONTROL_MEMORY_MAX = 2 << 20,       /* what decoding one may allocate */
    CONTROL_TEXT_MAX = 512,             /* sentences */
    CONTROL_NAME_MAX = 63,              /* names of nodes */
    CONTROL_PATH_MAX = 4096,
    CONTROL_ENDPOINT_MAX = 299,
    CONTROL_SHARDS_MAX = 64,            /* stats in a beat */
    CONTROL_ADAPTERS_MAX = 64,          /* in a load */
    CONTROL_SCALE_MAX = 1000,           /* of an adapter, either way */
    ENROL_BYTES_MAX = 4 << 10,          /* a request */
    ENROL_REPLY_BYTES_MAX = 256 << 10,  /* carries a roster */
    BLOB_DATA_MAX = 512 << 10,
    BLOB_BYTES_MAX = BLOB_DATA_MAX + 1024,
};

enum blob_kind { BLOB_KIND_MANIFEST = 1, BLOB_KIND_FILE = 2 };

/* ---- control link ---- */

/* Append the encoded message to `out` (cleared first). */
MUST_USE int control_pack(struct buffer *out, const Shoal__Control *c, struct error *e);
/* Never gives a message without a body, nor one whose fields are over a limit. */
MUST_USE int control_unpack(Shoal__Control **out, const void *bytes, size_t n, struct error *e);
void control_free(Shoal__Control **c);

/* ---- enrolment link ---- */

MUST_USE int enrol_request_pack(struct buffer *out, const Shoal__EnrolRequest *q, struct error *e);
MUST_USE int enrol_request_unpack(Shoal__EnrolRequest **out, const void *bytes, size_t n, struct error *e);
void enrol_request_free(Shoal__EnrolRequest **q);
MUST_USE int enrol_reply_pack(struct buffer *out, const Shoal__EnrolReply *a, struct error *e);
MUST_USE int enrol_reply_unpack(Shoal__EnrolReply **out, const void *bytes, size_t n, struct error *e);
void enrol_reply_free(Shoal__EnrolReply **a);

/* ---- roster body ---- */

MUST_USE int roster_body_pack(struct buffer *out, const Shoal__RosterBody *b, struct error *e);
MUST_USE int roster_body_unpack(Shoal__RosterBody **out, const void *bytes, size_t n, struct error *e);
void roster_body_free(Shoal__RosterBody **b);

/* ---- blob link ---- */

struct blob_request {
    uint64_t request;
    uint8_t model_id[32];
    uint32_t kind;           /* enum blob_kind */
    uint64_t offset;
    uint32_t length;
};

struct blob_reply {
    uint64_t request;
    int32_t status;
    const char *text; /* unpacked: lives until blob_reply_free(), like data */
    uint64_t total;
    const uint8_t *data;
    size_t data_len;
    ProtobufCMessage *message; /* unpacked: what text and data borrow from */
};

MUST_USE int blob_request_pack(struct buffer *out, const struct blob_request *q, struct error *e);
MUST_USE int blob_request_unpack(struct blob_request *out, const void *bytes, size_t n, struct error *e);
MUST_USE int blob_reply_pack(struct buffer *out, const struct blob_reply *a, struct error *e);
MUST_USE int blob_reply_unpack(struct blob_reply *out, const void *bytes, size_t n, struct error *e);
void blob_reply_free(struct blob_reply *a);

#endif
