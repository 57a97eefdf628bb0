/* fuzz_control: messages of the control, enrolment and blob links, each input tried as every kind of them. */
#include <string.h>

#include "proto/control.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Shoal__Control *control;
    Shoal__EnrolRequest *request;
    Shoal__EnrolReply *reply;
    Shoal__RosterBody *body;
    struct blob_request blob;
    struct blob_reply part;
    struct buffer out;
    buffer_init(&out, CONTROL_BYTES_MAX);
    if (control_unpack(&control, data, size, NULL) == 0) {
        FUZZ_CHECK(control->body_case != SHOAL__CONTROL__BODY__NOT_SET);
        FUZZ_CHECK(control_pack(&out, control, NULL) == 0);
        control_free(&control);
    }
    if (enrol_request_unpack(&request, data, size, NULL) == 0) {
        FUZZ_CHECK(strlen(request->name) <= CONTROL_NAME_MAX);
        enrol_request_free(&request);
    }
    if (enrol_reply_unpack(&reply, data, size, NULL) == 0)
        enrol_reply_free(&reply);
    if (roster_body_unpack(&body, data, size, NULL) == 0)
        roster_body_free(&body);
    (void)!blob_request_unpack(&blob, data, size, NULL);
    if (blob_reply_unpack(&part, data, size, NULL) == 0) {
        FUZZ_CHECK(part.data_len <= BLOB_DATA_MAX && strlen(part.text) <= CONTROL_TEXT_MAX);
        blob_reply_free(&part);
    }
    buffer_close(&out);
    return 0;
}

static char name[] = "shelf", endpoint[] = "tcp://10.0.0.2:7777";
static uint8_t bytes[64];

static ProtobufCBinaryData data_of(size_t n)
{
    return (ProtobufCBinaryData){n, bytes};
}

static void give_control(Shoal__Control__BodyCase what, void *body, fuzz_give_fn give, void *arg)
{
    struct buffer out;
    Shoal__Control c = SHOAL__CONTROL__INIT;
    c.body_case = what;
    c.join = body; /* every member of the union is a pointer */
    buffer_init(&out, CONTROL_BYTES_MAX);
    FUZZ_CHECK(control_pack(&out, &c, NULL) == 0);
    give(arg, out.data, out.len);
    buffer_close(&out);
}

static void give_blobs(fuzz_give_fn give, void *arg)
{
    struct blob_request q = {.request = 7, .kind = BLOB_KIND_FILE, .offset = 512, .length = 4096};
    struct blob_reply a = {.request = 7, .text = "", .total = 9000, .data = bytes, .data_len = sizeof(bytes)};
    Shoal__EnrolRequest e = SHOAL__ENROL_REQUEST__INIT;
    struct buffer out;
    e.invite_id = data_of(8);
    e.nonce = data_of(24);
    e.proof = data_of(32);
    e.name = name;
    buffer_init(&out, BLOB_BYTES_MAX);
    FUZZ_CHECK(blob_request_pack(&out, &q, NULL) == 0);
    give(arg, out.data, out.len);
    FUZZ_CHECK(blob_reply_pack(&out, &a, NULL) == 0);
    give(arg, out.data, out.len);
    FUZZ_CHECK(enrol_request_pack(&out, &e, NULL) == 0);
    give(arg, out.data, out.len);
    buffer_close(&out);
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    Shoal__Facts facts = SHOAL__FACTS__INIT;
    Shoal__Join join = SHOAL__JOIN__INIT;
    Shoal__Roster roster = SHOAL__ROSTER__INIT;
    Shoal__Welcome welcome = SHOAL__WELCOME__INIT;
    Shoal__ShardStats stats = SHOAL__SHARD_STATS__INIT, *shards[] = {&stats, &stats};
    Shoal__Beat beat = SHOAL__BEAT__INIT;
    Shoal__Load load = SHOAL__LOAD__INIT;
    Shoal__Adapter adapter = SHOAL__ADAPTER__INIT, *adapters[] = {&adapter};
    adapter.id = data_of(32);
    Shoal__SetRoute route = SHOAL__SET_ROUTE__INIT;
    facts.name = name;
    facts.data_port = 7777;
    facts.cores = 8;
    join.facts = &facts;
    roster.body = roster.signature = data_of(64);
    welcome.roster = &roster;
    beat.shards = shards;
    beat.n_shards = 2;
    load.model_id = data_of(32);
    load.file_bytes = load.header_bytes = 1000;
    load.layer_last = 1;
    load.adapters = adapters;
    load.n_adapters = 1;
    route.next_endpoint = endpoint;
    route.next_key = route.from_key = data_of(32);
    route.stages = 2;
    give_control(SHOAL__CONTROL__BODY_JOIN, &join, give, arg);
    give_control(SHOAL__CONTROL__BODY_WELCOME, &welcome, give, arg);
    give_control(SHOAL__CONTROL__BODY_BEAT, &beat, give, arg);
    give_control(SHOAL__CONTROL__BODY_ROSTER, &roster, give, arg);
    give_control(SHOAL__CONTROL__BODY_LOAD, &load, give, arg);
    give_control(SHOAL__CONTROL__BODY_SET_ROUTE, &route, give, arg);
    give_blobs(give, arg);
}
