/* test_control: every message comes back; what lacks a field, or passes a limit, is refused.
 *
 * A message is judged by encoding it (the encoder checks nothing but its size) and
 * unpacking it again.  Cases name one field of a good message and spoil it.       */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "proto/control.h"

static uint8_t zeros[CONTROL_BYTES_MAX + 1];
static char long_text[CONTROL_PATH_MAX + 2];

/* Text of n bytes, good until the next call with another n. */
static char *text_of(size_t n)
{
    memset(long_text, 'x', sizeof(long_text));
    long_text[n] = 0;
    return long_text;
}

static ProtobufCBinaryData data_of(size_t n)
{
    return (ProtobufCBinaryData){n, zeros};
}

/* ---- a good message of every kind ---- */

struct messages {
    Shoal__Facts facts;
    Shoal__Join join;
    Shoal__Welcome welcome;
    Shoal__Beat beat;
    Shoal__ShardStats stats;
    Shoal__ShardStats *shards[CONTROL_SHARDS_MAX + 1];
    Shoal__Roster roster;
    Shoal__Load load;
    Shoal__Adapter adapter;
    Shoal__Adapter *adapters[CONTROL_ADAPTERS_MAX + 1];
    Shoal__LoadProgress progress;
    Shoal__LoadDone done;
    Shoal__Unload unload;
    Shoal__SetRoute route;
    Shoal__RouteReady ready;
    Shoal__EndRoute end;
    Shoal__LinkReport report;
    Shoal__Leave leave;
    Shoal__Refused refused;
};

static void fill(struct messages *m)
{
    *m = (struct messages){
        .facts = SHOAL__FACTS__INIT,
        .join = SHOAL__JOIN__INIT,
        .welcome = SHOAL__WELCOME__INIT,
        .beat = SHOAL__BEAT__INIT,
        .stats = SHOAL__SHARD_STATS__INIT,
        .roster = SHOAL__ROSTER__INIT,
        .load = SHOAL__LOAD__INIT,
        .adapter = SHOAL__ADAPTER__INIT,
        .progress = SHOAL__LOAD_PROGRESS__INIT,
        .done = SHOAL__LOAD_DONE__INIT,
        .unload = SHOAL__UNLOAD__INIT,
        .route = SHOAL__SET_ROUTE__INIT,
        .ready = SHOAL__ROUTE_READY__INIT,
        .end = SHOAL__END_ROUTE__INIT,
        .report = SHOAL__LINK_REPORT__INIT,
        .leave = SHOAL__LEAVE__INIT,
        .refused = SHOAL__REFUSED__INIT,
    };
    m->facts.name = (char *)(uintptr_t)"shelf";
    m->facts.data_port = 7777;
    m->facts.cores = 8;
    m->join.facts = &m->facts;
    m->roster.body = data_of(100);
    m->roster.signature = data_of(64);
    m->welcome.roster = &m->roster;
    for (size_t i = 0; i < COUNTOF(m->shards); i++)
        m->shards[i] = &m->stats;
    m->beat.shards = m->shards;
    m->beat.n_shards = CONTROL_SHARDS_MAX;
    m->load.model_id = data_of(32);
    m->load.file_bytes = m->load.header_bytes = 1000;
    m->load.layer_last = 1;
    for (size_t i = 0; i < COUNTOF(m->adapters); i++)
        m->adapters[i] = &m->adapter;
    m->adapter.id = data_of(32);
    m->adapter.scale = 0.5F;
    m->load.adapters = m->adapters;
    m->load.n_adapters = 2;
    m->route.next_endpoint = (char *)(uintptr_t)"tcp://10.0.0.2:7777";
    m->route.next_key = m->route.from_key = data_of(32);
    m->route.stages = 2;
    m->done.status = ERR_MEMORY;
}

static Shoal__Control control_of(struct messages *m, int body)
{
    Shoal__Control c = SHOAL__CONTROL__INIT;
    c.body_case = (Shoal__Control__BodyCase)body;
    static const size_t at[] = {
        [SHOAL__CONTROL__BODY_JOIN] = offsetof(struct messages, join),
        [SHOAL__CONTROL__BODY_WELCOME] = offsetof(struct messages, welcome),
        [SHOAL__CONTROL__BODY_BEAT] = offsetof(struct messages, beat),
        [SHOAL__CONTROL__BODY_ROSTER] = offsetof(struct messages, roster),
        [SHOAL__CONTROL__BODY_LOAD] = offsetof(struct messages, load),
        [SHOAL__CONTROL__BODY_LOAD_PROGRESS] = offsetof(struct messages, progress),
        [SHOAL__CONTROL__BODY_LOAD_DONE] = offsetof(struct messages, done),
        [SHOAL__CONTROL__BODY_UNLOAD] = offsetof(struct messages, unload),
        [SHOAL__CONTROL__BODY_SET_ROUTE] = offsetof(struct messages, route),
        [SHOAL__CONTROL__BODY_ROUTE_READY] = offsetof(struct messages, ready),
        [SHOAL__CONTROL__BODY_END_ROUTE] = offsetof(struct messages, end),
        [SHOAL__CONTROL__BODY_LINK_REPORT] = offsetof(struct messages, report),
        [SHOAL__CONTROL__BODY_LEAVE] = offsetof(struct messages, leave),
        [SHOAL__CONTROL__BODY_REFUSED] = offsetof(struct messages, refused),
    };
    c.join = (Shoal__Join *)(void *)((char *)m + at[body]); /* every member of the union is a pointer */
    return c;
}

/* Packs; unpacks from an allocation of the exact size; packs again and compares. */
static int round_trip(const Shoal__Control *c)
{
    struct buffer first, again;
    Shoal__Control *out = NULL;
    struct error e = {0};
    buffer_init(&first, CONTROL_BYTES_MAX);
    buffer_init(&again, CONTROL_BYTES_MAX);
    assert_int_equal(control_pack(&first, c, &e), 0);
    uint8_t *exact = malloc(first.len + !first.len);
    assert_non_null(exact);
    memcpy(exact, buffer_text(&first), first.len);
    int r = control_unpack(&out, exact, first.len, &e);
    free(exact);
    assert_int_equal(r, e.status);
    assert_int_equal(out != NULL, r == 0);
    if (r == 0) {
        assert_int_equal(control_pack(&again, out, NULL), 0);
        assert_int_equal(first.len, again.len);
        assert_memory_equal(first.data, again.data, first.len);
    }
    control_free(&out);
    buffer_close(&first);
    buffer_close(&again);
    return r;
}

static void test_control_of_every_kind_comes_back(void **state)
{
    (void)state;
    static struct messages m;
    fill(&m);
    for (int body = SHOAL__CONTROL__BODY_JOIN; body <= SHOAL__CONTROL__BODY_REFUSED; body++) {
        Shoal__Control c = control_of(&m, body);
        assert_int_equal(round_trip(&c), 0);
    }
    Shoal__Control none = SHOAL__CONTROL__INIT;
    assert_int_equal(round_trip(&none), ERR_CORRUPT);
}

/* ---- one spoiled field ---- */

#define AT(field) offsetof(struct messages, field)

static void test_control_text_limits_hold_to_the_byte(void **state)
{
    (void)state;
    static const struct {
        int body;
        size_t at, max;
    } rows[] = {
        {SHOAL__CONTROL__BODY_JOIN, AT(facts.name), CONTROL_NAME_MAX},
        {SHOAL__CONTROL__BODY_JOIN, AT(facts.device), CONTROL_TEXT_MAX},
        {SHOAL__CONTROL__BODY_JOIN, AT(facts.data_host), 255},
        {SHOAL__CONTROL__BODY_JOIN, AT(facts.version), CONTROL_NAME_MAX},
        {SHOAL__CONTROL__BODY_LOAD, AT(load.model_name), CONTROL_TEXT_MAX},
        {SHOAL__CONTROL__BODY_LOAD, AT(load.path_hint), CONTROL_PATH_MAX},
        {SHOAL__CONTROL__BODY_LOAD, AT(adapter.name), CONTROL_TEXT_MAX},
        {SHOAL__CONTROL__BODY_LOAD, AT(adapter.path_hint), CONTROL_PATH_MAX},
        {SHOAL__CONTROL__BODY_LOAD_PROGRESS, AT(progress.phase), CONTROL_NAME_MAX},
        {SHOAL__CONTROL__BODY_LOAD_DONE, AT(done.text), CONTROL_TEXT_MAX},
        {SHOAL__CONTROL__BODY_SET_ROUTE, AT(route.next_endpoint), CONTROL_ENDPOINT_MAX},
        {SHOAL__CONTROL__BODY_ROUTE_READY, AT(ready.text), CONTROL_TEXT_MAX},
        {SHOAL__CONTROL__BODY_LEAVE, AT(leave.reason), CONTROL_TEXT_MAX},
        {SHOAL__CONTROL__BODY_REFUSED, AT(refused.text), CONTROL_TEXT_MAX},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        for (size_t over = 0; over <= 1; over++) {
            static struct messages m;
            fill(&m);
            char *text = text_of(rows[i].max + over);
            memcpy((char *)&m + rows[i].at, &text, sizeof(text));
            Shoal__Control c = control_of(&m, rows[i].body);
            assert_int_equal(round_trip(&c), over ? ERR_CORRUPT : 0);
        }
    }
}

static void test_control_bytes_have_their_size(void **state)
{
    (void)state;
    static const struct {
        int body;
        size_t at, size;
    } rows[] = {
        {SHOAL__CONTROL__BODY_ROSTER, AT(roster.signature), 64},
        {SHOAL__CONTROL__BODY_WELCOME, AT(roster.signature), 64},
        {SHOAL__CONTROL__BODY_LOAD, AT(load.model_id), 32},
        {SHOAL__CONTROL__BODY_LOAD, AT(adapter.id), 32},
        {SHOAL__CONTROL__BODY_SET_ROUTE, AT(route.next_key), 32},
        {SHOAL__CONTROL__BODY_SET_ROUTE, AT(route.from_key), 32},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        const size_t sizes[] = {rows[i].size, 0, rows[i].size - 1, rows[i].size + 1, 1000};
        for (size_t s = 0; s < COUNTOF(sizes); s++) {
            static struct messages m;
            fill(&m);
            ProtobufCBinaryData data = data_of(sizes[s]);
            memcpy((char *)&m + rows[i].at, &data, sizeof(data));
            Shoal__Control c = control_of(&m, rows[i].body);
            assert_int_equal(round_trip(&c), s == 0 ? 0 : ERR_CORRUPT);
        }
    }
}

static void test_control_numbers_stay_in_their_range(void **state)
{
    (void)state;
    static const struct {
        int body;
        size_t at;
        uint32_t value;
        int status;
    } rows[] = {
        {SHOAL__CONTROL__BODY_JOIN, AT(facts.data_port), 0, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_JOIN, AT(facts.data_port), 65535, 0},
        {SHOAL__CONTROL__BODY_JOIN, AT(facts.data_port), 65536, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_JOIN, AT(facts.cores), 65537, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_LOAD, AT(load.layer_first), 1, ERR_CORRUPT}, /* no layer */
        {SHOAL__CONTROL__BODY_LOAD, AT(load.layer_first), UINT32_MAX, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_LOAD, AT(load.header_bytes), 1001, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_LOAD, AT(load.kv_type), 2, 0},
        {SHOAL__CONTROL__BODY_LOAD, AT(load.kv_type), 3, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_SET_ROUTE, AT(route.stages), 0, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_SET_ROUTE, AT(route.stages), 64, 0},
        {SHOAL__CONTROL__BODY_SET_ROUTE, AT(route.stages), 65, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_SET_ROUTE, AT(route.stage), 1, 0},
        {SHOAL__CONTROL__BODY_SET_ROUTE, AT(route.stage), 2, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_SET_ROUTE, AT(route.dtype), 2, 0},
        {SHOAL__CONTROL__BODY_SET_ROUTE, AT(route.dtype), 3, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_LOAD_DONE, AT(done.status), 1, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_ROUTE_READY, AT(ready.status), (uint32_t)-999, 0},
        {SHOAL__CONTROL__BODY_ROUTE_READY, AT(ready.status), (uint32_t)-1000, ERR_CORRUPT},
        {SHOAL__CONTROL__BODY_REFUSED, AT(refused.status), (uint32_t)INT32_MIN, ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        static struct messages m;
        fill(&m);
        memcpy((char *)&m + rows[i].at, &rows[i].value, sizeof(rows[i].value));
        Shoal__Control c = control_of(&m, rows[i].body);
        assert_int_equal(round_trip(&c), rows[i].status);
    }
}

static void test_control_refuses_what_is_missing_or_not_a_number(void **state)
{
    (void)state;
    static struct messages m;
    Shoal__Control c;
    fill(&m);
    m.join.facts = NULL;
    c = control_of(&m, SHOAL__CONTROL__BODY_JOIN);
    assert_int_equal(round_trip(&c), ERR_CORRUPT);
    const double speeds[] = {-1, -INFINITY, NAN};
    for (size_t i = 0; i < COUNTOF(speeds); i++) {
        fill(&m);
        m.facts.read_bandwidth = speeds[i];
        assert_int_equal(round_trip(&c), ERR_CORRUPT);
        fill(&m);
        m.facts.layer_ms = speeds[i];
        assert_int_equal(round_trip(&c), ERR_CORRUPT);
    }
    fill(&m);
    m.facts.name = text_of(0);
    assert_int_equal(round_trip(&c), ERR_CORRUPT);
    fill(&m);
    m.roster.body = data_of(0);
    c = control_of(&m, SHOAL__CONTROL__BODY_ROSTER);
    assert_int_equal(round_trip(&c), ERR_CORRUPT);
    fill(&m);
    m.welcome.roster = NULL; /* the node has it already */
    c = control_of(&m, SHOAL__CONTROL__BODY_WELCOME);
    assert_int_equal(round_trip(&c), 0);
    fill(&m);
    m.route.next_endpoint = text_of(0); /* the last stage needs no key */
    m.route.next_key = data_of(0);
    c = control_of(&m, SHOAL__CONTROL__BODY_SET_ROUTE);
    assert_int_equal(round_trip(&c), 0);
    fill(&m);
    m.beat.n_shards = CONTROL_SHARDS_MAX + 1;
    c = control_of(&m, SHOAL__CONTROL__BODY_BEAT);
    assert_int_equal(round_trip(&c), ERR_CORRUPT);
}

/* ---- hostile bytes ---- */

static void unpack_everything(const uint8_t *bytes, size_t n)
{
    Shoal__Control *c;
    Shoal__EnrolRequest *q;
    Shoal__EnrolReply *a;
    Shoal__RosterBody *body;
    struct blob_request request;
    struct blob_reply reply;
    if (control_unpack(&c, bytes, n, NULL) == 0)
        control_free(&c);
    if (enrol_request_unpack(&q, bytes, n, NULL) == 0)
        enrol_request_free(&q);
    if (enrol_reply_unpack(&a, bytes, n, NULL) == 0)
        enrol_reply_free(&a);
    if (roster_body_unpack(&body, bytes, n, NULL) == 0)
        roster_body_free(&body);
    if (blob_reply_unpack(&reply, bytes, n, NULL) == 0)
        blob_reply_free(&reply);
    (void)!blob_request_unpack(&request, bytes, n, NULL);
}

static void test_cut_and_damaged_messages_are_survived(void **state)
{
    (void)state;
    static struct messages m;
    struct random_state r;
    random_seed(&r, 5);
    for (int body = SHOAL__CONTROL__BODY_JOIN; body <= SHOAL__CONTROL__BODY_REFUSED; body++) {
        fill(&m);
        m.beat.n_shards = 2;
        Shoal__Control c = control_of(&m, body);
        struct buffer b;
        buffer_init(&b, CONTROL_BYTES_MAX);
        assert_int_equal(control_pack(&b, &c, NULL), 0);
        for (size_t n = 0; n <= b.len; n++) {
            uint8_t *exact = malloc(n + !n);
            assert_non_null(exact);
            memcpy(exact, b.data, n);
            Shoal__Control *out;
            assert_int_equal(control_unpack(&out, exact, n, NULL) == 0, n == b.len);
            control_free(&out);
            for (int flips = 0; flips < 20 && n > 0; flips++) {
                exact[random_u64(&r) % n] = (uint8_t)random_u64(&r);
                unpack_everything(exact, n);
            }
            free(exact);
        }
        buffer_close(&b);
    }
}

static void test_size_and_memory_of_a_message_are_bounded(void **state)
{
    (void)state;
    Shoal__Control *c;
    struct error e = {0};
    static uint8_t flood[CONTROL_BYTES_MAX + 1];
    assert_int_equal(control_unpack(&c, flood, sizeof(flood), &e), ERR_CORRUPT);
    assert_int_equal(e.status, ERR_CORRUPT);
    assert_null(c);
    /* A beat of empty shards: two bytes of the message cost some eighty of memory each. */
    size_t n = CONTROL_BYTES_MAX - 4;
    flood[0] = SHOAL__CONTROL__BODY_BEAT << 3 | 2;
    flood[1] = (uint8_t)(n & 0x7F) | 0x80;
    flood[2] = (uint8_t)(n >> 7 & 0x7F) | 0x80;
    flood[3] = (uint8_t)(n >> 14);
    for (size_t i = 4; i < CONTROL_BYTES_MAX; i += 2)
        flood[i] = 2 << 3 | 2;
    assert_int_equal(control_unpack(&c, flood, CONTROL_BYTES_MAX, &e), ERR_CORRUPT);
    assert_null(c);
    static struct messages m;
    struct buffer b;
    fill(&m);
    m.roster.body = data_of(CONTROL_BYTES_MAX); /* its frame around it makes it too large to send */
    Shoal__Control large = control_of(&m, SHOAL__CONTROL__BODY_ROSTER);
    buffer_init(&b, 2 * CONTROL_BYTES_MAX);
    assert_int_equal(control_pack(&b, &large, &e), ERR_LIMIT);
    buffer_close(&b);
}

/* ---- enrolment, roster, blobs ---- */

static void test_enrolment_fields_have_their_sizes(void **state)
{
    (void)state;
    static const struct {
        size_t id, nonce, proof, name;
        int status;
    } rows[] = {
        {8, 24, 32, 1, 0},           {8, 24, 32, CONTROL_NAME_MAX, 0}, {7, 24, 32, 1, ERR_CORRUPT},
        {8, 25, 32, 1, ERR_CORRUPT}, {8, 24, 0, 1, ERR_CORRUPT},       {8, 24, 32, 0, ERR_CORRUPT},
        {8, 24, 32, CONTROL_NAME_MAX + 1, ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        Shoal__EnrolRequest q = SHOAL__ENROL_REQUEST__INIT, *out;
        struct buffer b;
        q.invite_id = data_of(rows[i].id);
        q.nonce = data_of(rows[i].nonce);
        q.proof = data_of(rows[i].proof);
        q.name = text_of(rows[i].name);
        buffer_init(&b, ENROL_BYTES_MAX);
        assert_int_equal(enrol_request_pack(&b, &q, NULL), 0);
        assert_int_equal(enrol_request_unpack(&out, b.data, b.len, NULL), rows[i].status);
        if (rows[i].status == 0)
            assert_string_equal(out->name, q.name);
        enrol_request_free(&out);
        assert_null(out);
        buffer_close(&b);
    }
}

static void test_enrolment_answer_is_checked_with_its_roster(void **state)
{
    (void)state;
    static const struct {
        int32_t status;
        size_t text, body, signature;
        int expected;
    } rows[] = {
        {0, 0, 100, 64, 0},
        {ERR_DENIED, CONTROL_TEXT_MAX, 0, SIZE_MAX, 0}, /* a refusal has no roster */
        {1, 0, 100, 64, ERR_CORRUPT},
        {0, CONTROL_TEXT_MAX + 1, 100, 64, ERR_CORRUPT},
        {0, 0, 0, 64, ERR_CORRUPT},
        {0, 0, 100, 63, ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        Shoal__EnrolReply a = SHOAL__ENROL_REPLY__INIT, *out;
        Shoal__Roster roster = SHOAL__ROSTER__INIT;
        struct buffer b;
        a.status = rows[i].status;
        a.text = text_of(rows[i].text);
        if (rows[i].signature != SIZE_MAX) {
            roster.body = data_of(rows[i].body);
            roster.signature = data_of(rows[i].signature);
            a.roster = &roster;
        }
        buffer_init(&b, ENROL_REPLY_BYTES_MAX);
        assert_int_equal(enrol_reply_pack(&b, &a, NULL), 0);
        assert_int_equal(enrol_reply_unpack(&out, b.data, b.len, NULL), rows[i].expected);
        enrol_reply_free(&out);
        buffer_close(&b);
    }
}

/* A body of `count` members that are alike. */
static int roster_of(size_t count, const Shoal__Member *like)
{
    Shoal__RosterBody body = SHOAL__ROSTER_BODY__INIT, *out = NULL;
    Shoal__Member member = *like;
    struct buffer b;
    body.serial = UINT64_MAX;
    body.n_members = count;
    body.members = malloc((count + 1) * sizeof(Shoal__Member *));
    assert_non_null(body.members);
    for (size_t i = 0; i < count; i++)
        body.members[i] = &member;
    buffer_init(&b, CONTROL_BYTES_MAX);
    int r = roster_body_pack(&b, &body, NULL);
    if (r == 0)
        r = roster_body_unpack(&out, b.data, b.len, NULL);
    if (r == 0)
        assert_true(out->n_members == count && out->serial == UINT64_MAX);
    if (out)
        roster_body_free(&out);
    free(body.members);
    buffer_close(&b);
    return r;
}

static void test_roster_members_are_checked_and_many_fit(void **state)
{
    (void)state;
    Shoal__Member good = SHOAL__MEMBER__INIT, m;
    good.key = data_of(32);
    good.name = (char *)(uintptr_t)"n1";
    good.role = 1;
    assert_int_equal(roster_of(0, &good), 0);
    assert_int_equal(roster_of(1, &good), 0);
    /* As many as a message holds: 42 bytes each. */
    assert_int_equal(roster_of(CONTROL_BYTES_MAX / 42 - 1, &good), 0);
    assert_int_equal(roster_of(CONTROL_BYTES_MAX / 42 + 1, &good), ERR_LIMIT);
    for (uint32_t role = 0; role <= 3; role++) {
        m = good;
        m.role = role;
        assert_int_equal(roster_of(2, &m), role == 1 || role == 2 ? 0 : ERR_CORRUPT);
    }
    m = good;
    m.key = data_of(31);
    assert_int_equal(roster_of(2, &m), ERR_CORRUPT);
    m = good;
    m.name = text_of(CONTROL_NAME_MAX + 1);
    assert_int_equal(roster_of(2, &m), ERR_CORRUPT);
}

static void test_blob_request_comes_back_with_a_whole_id(void **state)
{
    (void)state;
    struct blob_request out, in = {.request = UINT64_MAX, .kind = BLOB_KIND_FILE, .offset = 1ULL << 40};
    struct buffer b;
    in.length = 7;
    for (size_t i = 0; i < sizeof(in.model_id); i++)
        in.model_id[i] = (uint8_t)(i * 7);
    buffer_init(&b, ENROL_BYTES_MAX);
    assert_int_equal(blob_request_pack(&b, &in, NULL), 0);
    assert_int_equal(blob_request_unpack(&out, b.data, b.len, NULL), 0);
    assert_true(out.request == in.request && out.kind == in.kind);
    assert_true(out.offset == in.offset && out.length == 7);
    assert_memory_equal(out.model_id, in.model_id, sizeof(in.model_id));
    assert_int_equal(blob_request_unpack(&out, "", 0, NULL), ERR_CORRUPT); /* a message without an id */
    buffer_close(&b);
}

static void test_blob_reply_limits_hold_to_the_byte(void **state)
{
    (void)state;
    static uint8_t data[BLOB_DATA_MAX + 1];
    static const struct {
        size_t data, text;
        int32_t status;
        int expected;
    } rows[] = {
        {0, 0, 0, 0},
        {BLOB_DATA_MAX, CONTROL_TEXT_MAX, ERR_NOT_FOUND, 0},
        {BLOB_DATA_MAX + 1, 0, 0, ERR_CORRUPT},
        {0, CONTROL_TEXT_MAX + 1, 0, ERR_CORRUPT},
        {0, 0, 1, ERR_CORRUPT},
    };
    memset(data, 0xA5, sizeof(data));
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct blob_reply out, in = {.request = 9, .status = rows[i].status, .total = 1u << 31};
        in.text = text_of(rows[i].text);
        in.data = data;
        in.data_len = rows[i].data;
        struct buffer b;
        buffer_init(&b, BLOB_BYTES_MAX);
        assert_int_equal(blob_reply_pack(&b, &in, NULL), 0);
        assert_int_equal(blob_reply_unpack(&out, b.data, b.len, NULL), rows[i].expected);
        if (rows[i].expected == 0) {
            assert_true(out.request == 9 && out.status == in.status && out.total == in.total);
            assert_string_equal(out.text, in.text);
            assert_int_equal(out.data_len, in.data_len);
            assert_true(out.data_len == 0 || memcmp(out.data, data, out.data_len) == 0);
        }
        blob_reply_free(&out);
        assert_null(out.message);
        buffer_close(&b);
    }
}

static void test_control_adapters_stay_in_their_range(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        float scale;
        int status;
    } rows[] = {
        {0, 0, 0}, {CONTROL_ADAPTERS_MAX, -CONTROL_SCALE_MAX, 0}, {CONTROL_ADAPTERS_MAX + 1, 1, ERR_CORRUPT},
        {1, CONTROL_SCALE_MAX * 1.01F, ERR_CORRUPT}, {1, NAN, ERR_CORRUPT}, {1, -INFINITY, ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        static struct messages m;
        fill(&m);
        m.load.n_adapters = rows[i].n;
        m.adapter.scale = rows[i].scale;
        Shoal__Control c = control_of(&m, SHOAL__CONTROL__BODY_LOAD);
        assert_int_equal(round_trip(&c), rows[i].status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control_of_every_kind_comes_back),
        cmocka_unit_test(test_control_text_limits_hold_to_the_byte),
        cmocka_unit_test(test_control_bytes_have_their_size),
        cmocka_unit_test(test_control_adapters_stay_in_their_range),
        cmocka_unit_test(test_control_numbers_stay_in_their_range),
        cmocka_unit_test(test_control_refuses_what_is_missing_or_not_a_number),
        cmocka_unit_test(test_cut_and_damaged_messages_are_survived),
        cmocka_unit_test(test_size_and_memory_of_a_message_are_bounded),
        cmocka_unit_test(test_enrolment_fields_have_their_sizes),
        cmocka_unit_test(test_enrolment_answer_is_checked_with_its_roster),
        cmocka_unit_test(test_roster_members_are_checked_and_many_fit),
        cmocka_unit_test(test_blob_request_comes_back_with_a_whole_id),
        cmocka_unit_test(test_blob_reply_limits_hold_to_the_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
