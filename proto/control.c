/* control: protobuf-c under a capped allocator, then one check a field.
 *
 * protobuf-c itself bounds nothing but the size of the input: a repeated field
 * or many small strings may ask for many times the message's size.  The
 * allocator below carries a budget and answers NULL past it, which protobuf-c
 * reports as a failed unpack.                                                 */
#include "proto/control.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct budget {
    size_t left;
};

static void *capped_alloc(void *data, size_t size)
{
    struct budget *b = data;
    if (size > b->left)
        return NULL;
    b->left -= size;
    return malloc(size ? size : 1);
}

static void plain_free(void *data, void *p)
{
    (void)data;
    free(p);
}

/* Freed with the default allocator, which is free() as well. */
static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *d, const void *bytes, size_t n, size_t bytes_max,
                                struct error *e)
{
    struct budget budget = {CONTROL_MEMORY_MAX};
    ProtobufCAllocator allocator = {capped_alloc, plain_free, &budget};
    if (n > bytes_max) {
        error_set(e, ERR_CORRUPT, "a %s of %zu bytes; at most %zu", d->short_name, n, bytes_max);
        return NULL;
    }
    ProtobufCMessage *m = protobuf_c_message_unpack(d, &allocator, n, bytes);
    if (!m)
        error_set(e, ERR_CORRUPT, "a message is not a %s", d->short_name);
    return m;
}

static void free_message(ProtobufCMessage *m)
{
    if (m)
        protobuf_c_message_free_unpacked(m, NULL);
}

static int pack(struct buffer *out, const ProtobufCMessage *m, size_t bytes_max, struct error *e)
{
    size_t n = protobuf_c_message_get_packed_size(m);
    buffer_clear(out);
    uint8_t *p = n <= bytes_max ? buffer_grow(out, n) : NULL;
    if (!p)
        return error_set(e, ERR_LIMIT, "a %s of %zu bytes cannot be sent; at most %zu", m->descriptor->short_name, n,
                         bytes_max);
    protobuf_c_message_pack(m, p);
    return 0;
}

/* ---- checks ---- */

static bool text_ok(const char *s, size_t max)
{
    return s && strnlen(s, max + 1) <= max;
}

static bool bytes_are(const ProtobufCBinaryData *b, size_t n)
{
    return b->len == n;
}

static bool roster_ok(const Shoal__Roster *r)
{
    return r->body.len > 0 && r->body.len <= CONTROL_BYTES_MAX && bytes_are(&r->signature, 64);
}

static bool facts_ok(const Shoal__Facts *f)
{
    return f && text_ok(f->name, CONTROL_NAME_MAX) && f->name[0] && text_ok(f->device, CONTROL_TEXT_MAX) &&
           text_ok(f->data_host, 255) && text_ok(f->version, CONTROL_NAME_MAX) && f->data_port > 0 &&
           f->data_port <= 65535 && f->cores <= 65536 && f->read_bandwidth >= 0 && f->layer_ms >= 0;
}

static bool adapters_ok(const Shoal__Load *m)
{
    bool ok = m->n_adapters <= CONTROL_ADAPTERS_MAX;
    for (size_t i = 0; ok && i < m->n_adapters; i++) {
        const Shoal__Adapter *a = m->adapters[i];
        ok = bytes_are(&a->id, 32) && text_ok(a->name, CONTROL_TEXT_MAX) && text_ok(a->path_hint, CONTROL_PATH_MAX) &&
             a->scale >= -CONTROL_SCALE_MAX && a->scale <= CONTROL_SCALE_MAX;
    }
    return ok;
}

static bool load_ok(const Shoal__Load *m)
{
    return adapters_ok(m) && bytes_are(&m->model_id, 32) && text_ok(m->model_name, CONTROL_TEXT_MAX) &&
           text_ok(m->path_hint, CONTROL_PATH_MAX) && m->header_bytes <= m->file_bytes &&
           m->layer_first < m->layer_last && m->kv_type <= 2;
}

static bool set_route_ok(const Shoal__SetRoute *m)
{
    bool last = m->next_endpoint && !m->next_endpoint[0];
    return text_ok(m->next_endpoint, CONTROL_ENDPOINT_MAX) && (last || bytes_are(&m->next_key, 32)) &&
           bytes_are(&m->from_key, 32) && m->stages > 0 && m->stages <= 64 && m->stage < m->stages && m->dtype <= 2;
}

static bool status_ok(int32_t status)
{
    return status <= 0 && status > -1000;
}

static bool control_ok(const Shoal__Control *c)
{
    switch (c->body_case) {
    case SHOAL__CONTROL__BODY_JOIN:
        return facts_ok(c->join->facts);
    case SHOAL__CONTROL__BODY_WELCOME:
        return !c->welcome->roster || roster_ok(c->welcome->roster);
    case SHOAL__CONTROL__BODY_BEAT:
        return c->beat->n_shards <= CONTROL_SHARDS_MAX;
    case SHOAL__CONTROL__BODY_ROSTER:
        return roster_ok(c->roster);
    case SHOAL__CONTROL__BODY_LOAD:
        return load_ok(c->load);
    case SHOAL__CONTROL__BODY_LOAD_PROGRESS:
        return text_ok(c->load_progress->phase, CONTROL_NAME_MAX);
    case SHOAL__CONTROL__BODY_LOAD_DONE:
        return text_ok(c->load_done->text, CONTROL_TEXT_MAX) && status_ok(c->load_done->status);
    case SHOAL__CONTROL__BODY_SET_ROUTE:
        return set_route_ok(c->set_route);
    case SHOAL__CONTROL__BODY_ROUTE_READY:
        return text_ok(c->route_ready->text, CONTROL_TEXT_MAX) && status_ok(c->route_ready->status);
    case SHOAL__CONTROL__BODY_LEAVE:
        return text_ok(c->leave->reason, CONTROL_TEXT_MAX);
    case SHOAL__CONTROL__BODY_REFUSED:
        return text_ok(c->refused->text, CONTROL_TEXT_MAX) && status_ok(c->refused->status);
    case SHOAL__CONTROL__BODY_UNLOAD:
    case SHOAL__CONTROL__BODY_END_ROUTE:
    case SHOAL__CONTROL__BODY_LINK_REPORT:
        return true;
    default:
        return false;
    }
}

/* ---- messages ---- */

int control_pack(struct buffer *out, const Shoal__Control *c, struct error *e)
{
    return pack(out, &c->base, CONTROL_BYTES_MAX, e);
}

int control_unpack(Shoal__Control **out, const void *bytes, size_t n, struct error *e)
{
    *out = (Shoal__Control *)unpack(&shoal__control__descriptor, bytes, n, CONTROL_BYTES_MAX, e);
    if (!*out)
        return ERR_CORRUPT;
    if (control_ok(*out))
        return 0;
    control_free(out);
    return error_set(e, ERR_CORRUPT, "a control message has a field that is missing or over its limit");
}

void control_free(Shoal__Control **c)
{
    free_message((ProtobufCMessage *)*c);
    *c = NULL;
}

int enrol_request_pack(struct buffer *out, const Shoal__EnrolRequest *q, struct error *e)
{
    return pack(out, &q->base, ENROL_BYTES_MAX, e);
}

int enrol_request_unpack(Shoal__EnrolRequest **out, const void *bytes, size_t n, struct error *e)
{
    *out = (Shoal__EnrolRequest *)unpack(&shoal__enrol_request__descriptor, bytes, n, ENROL_BYTES_MAX, e);
    if (!*out)
        return ERR_CORRUPT;
    const Shoal__EnrolRequest *q = *out;
    if (bytes_are(&q->invite_id, 8) && bytes_are(&q->nonce, 24) && bytes_are(&q->proof, 32) &&
        text_ok(q->name, CONTROL_NAME_MAX) && q->name[0])
        return 0;
    enrol_request_free(out);
    return error_set(e, ERR_CORRUPT, "an enrolment request has a field of the wrong size");
}

void enrol_request_free(Shoal__EnrolRequest **q)
{
    free_message((ProtobufCMessage *)*q);
    *q = NULL;
}

int enrol_reply_pack(struct buffer *out, const Shoal__EnrolReply *a, struct error *e)
{
    return pack(out, &a->base, ENROL_REPLY_BYTES_MAX, e);
}

int enrol_reply_unpack(Shoal__EnrolReply **out, const void *bytes, size_t n, struct error *e)
{
    *out = (Shoal__EnrolReply *)unpack(&shoal__enrol_reply__descriptor, bytes, n, ENROL_REPLY_BYTES_MAX, e);
    if (!*out)
        return ERR_CORRUPT;
    if (status_ok((*out)->status) && text_ok((*out)->text, CONTROL_TEXT_MAX) &&
        (!(*out)->roster || roster_ok((*out)->roster)))
        return 0;
    enrol_reply_free(out);
    return error_set(e, ERR_CORRUPT, "an enrolment answer has a field over its limit");
}

void enrol_reply_free(Shoal__EnrolReply **a)
{
    free_message((ProtobufCMessage *)*a);
    *a = NULL;
}

int roster_body_pack(struct buffer *out, const Shoal__RosterBody *b, struct error *e)
{
    return pack(out, &b->base, CONTROL_BYTES_MAX, e);
}

int roster_body_unpack(Shoal__RosterBody **out, const void *bytes, size_t n, struct error *e)
{
    *out = (Shoal__RosterBody *)unpack(&shoal__roster_body__descriptor, bytes, n, CONTROL_BYTES_MAX, e);
    if (!*out)
        return ERR_CORRUPT;
    bool ok = true;
    for (size_t i = 0; ok && i < (*out)->n_members; i++) {
        const Shoal__Member *m = (*out)->members[i];
        ok = bytes_are(&m->key, 32) && text_ok(m->name, CONTROL_NAME_MAX) && m->role >= 1 && m->role <= 2;
    }
    if (ok)
        return 0;
    roster_body_free(out);
    return error_set(e, ERR_CORRUPT, "a roster has a member whose fields are wrong");
}

void roster_body_free(Shoal__RosterBody **b)
{
    free_message((ProtobufCMessage *)*b);
    *b = NULL;
}

/* ---- blobs ---- */

int blob_request_pack(struct buffer *out, const struct blob_request *q, struct error *e)
{
    Shoal__BlobRequest m = SHOAL__BLOB_REQUEST__INIT;
    m.request = q->request;
    m.model_id = (ProtobufCBinaryData){32, (uint8_t *)(uintptr_t)q->model_id};
    m.kind = q->kind;
    m.offset = q->offset;
    m.length = q->length;
    return pack(out, &m.base, ENROL_BYTES_MAX, e);
}

int blob_request_unpack(struct blob_request *out, const void *bytes, size_t n, struct error *e)
{
    memset(out, 0, sizeof(*out));
    Shoal__BlobRequest *m =
        (Shoal__BlobRequest *)unpack(&shoal__blob_request__descriptor, bytes, n, ENROL_BYTES_MAX, e);
    if (!m)
        return ERR_CORRUPT;
    bool ok = bytes_are(&m->model_id, 32);
    *out = (struct blob_request){.request = m->request, .kind = m->kind, .offset = m->offset, .length = m->length};
    if (ok)
        memcpy(out->model_id, m->model_id.data, 32);
    free_message(&m->base);
    return ok ? 0 : error_set(e, ERR_CORRUPT, "a request for layers has a model id of the wrong size");
}

int blob_reply_pack(struct buffer *out, const struct blob_reply *a, struct error *e)
{
    Shoal__BlobReply m = SHOAL__BLOB_REPLY__INIT;
    m.request = a->request;
    m.status = a->status;
    m.text = (char *)(uintptr_t)(a->text ? a->text : "");
    m.total = a->total;
    m.data = (ProtobufCBinaryData){a->data_len, (uint8_t *)(uintptr_t)a->data};
    return pack(out, &m.base, BLOB_BYTES_MAX, e);
}

int blob_reply_unpack(struct blob_reply *out, const void *bytes, size_t n, struct error *e)
{
    memset(out, 0, sizeof(*out));
    out->message = unpack(&shoal__blob_reply__descriptor, bytes, n, BLOB_BYTES_MAX, e);
    const Shoal__BlobReply *m = (const Shoal__BlobReply *)out->message;
    if (!m)
        return ERR_CORRUPT;
    if (m->data.len > BLOB_DATA_MAX || !text_ok(m->text, CONTROL_TEXT_MAX) || !status_ok(m->status)) {
        blob_reply_free(out);
        return error_set(e, ERR_CORRUPT, "an answer with layers has a field over its limit");
    }
    out->request = m->request;
    out->status = m->status;
    out->text = m->text;
    out->total = m->total;
    out->data = m->data.data;
    out->data_len = m->data.len;
    return 0;
}

void blob_reply_free(struct blob_reply *a)
{
    free_message(a->message);
    a->message = NULL;
}
