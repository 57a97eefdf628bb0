/* fake_node: see the header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/memory.h"
#include "fake_node.h"

void fake_init(struct fake_node *n, uint16_t data_port, uint64_t memory)
{
    memset(n, 0, sizeof(*n));
    keys_generate(&n->keys);
    randombytes_buf(&n->boot, sizeof(n->boot));
    n->data_port = data_port;
    n->memory = memory;
}

void fake_close(struct fake_node *n)
{
    link_close(&n->link);
}

static void poll_link(struct link *link)
{
    zmq_pollitem_t item = {.socket = link_socket(link), .events = ZMQ_POLLIN};
    (void)zmq_poll(&item, 1, 10);
    link_watch(link);
}

static int dial(struct fake_node *n, void *zmq_context, uint16_t port, size_t bytes_max, struct link **out)
{
    char endpoint[400];
    snprintf(endpoint, sizeof(endpoint), "tcp://%s:%u", n->invite.host, port);
    struct link_options o = {.keys = &n->keys, .bytes_max = bytes_max, .queue_max = 64};
    int r = link_dial(out, zmq_context, endpoint, n->invite.coordinator_key, &o, NULL);
    uint64_t until = clock_ms() + FAKE_WAIT_MS;
    while (r == 0 && !link_connected(*out)) {
        poll_link(*out);
        if (link_refused(*out))
            r = ERR_DENIED;
        else if (clock_ms() > until)
            r = ERR_TIMEOUT;
    }
    if (r != 0)
        link_close(out);
    return r;
}

static void note_roster(struct fake_node *n, const Shoal__Roster *m)
{
    struct roster roster;
    struct error e;
    if (roster_verify(&roster, m->body.data, m->body.len, m->signature.data, m->signature.len, n->invite.sign_public,
                      n->roster_serial, &e) != 0)
        fail_msg("%s", e.text);
    n->roster_serial = roster.serial;
    n->roster_n = roster.n;
    assert_non_null(roster_find(&roster, n->invite.coordinator_key));
    assert_int_equal(roster_find(&roster, n->invite.coordinator_key)->role, ROLE_COORDINATOR);
    roster_free(&roster);
}

static void send_request(struct fake_node *n, struct link *link, const char *name, bool spoil)
{
    uint8_t nonce[INVITE_NONCE_BYTES], proof[INVITE_PROOF_BYTES];
    struct buffer out;
    Shoal__EnrolRequest q = SHOAL__ENROL_REQUEST__INIT;
    randombytes_buf(nonce, sizeof(nonce));
    invite_proof(n->invite.secret, n->keys.public_key, n->invite.coordinator_key, nonce, proof);
    proof[0] ^= spoil;
    q.invite_id = (ProtobufCBinaryData){INVITE_ID_BYTES, n->invite.id};
    q.nonce = (ProtobufCBinaryData){sizeof(nonce), nonce};
    q.proof = (ProtobufCBinaryData){sizeof(proof), proof};
    q.name = (char *)(uintptr_t)name;
    buffer_init(&out, ENROL_BYTES_MAX);
    assert_int_equal(enrol_request_pack(&out, &q, NULL), 0);
    assert_int_equal(link_send(link, NULL, out.data, out.len, NULL), 0);
    buffer_close(&out);
}

static int take_reply(struct fake_node *n, const struct link_message *m)
{
    Shoal__EnrolReply *a;
    assert_int_equal(enrol_reply_unpack(&a, m->data, m->size, NULL), 0);
    int r = a->status;
    if (r == 0) {
        n->control_port = (uint16_t)a->control_port;
        n->blob_port = (uint16_t)a->blob_port;
        assert_non_null(a->roster);
        note_roster(n, a->roster);
    } else {
        assert_null(a->roster);
        assert_int_equal(a->control_port, 0);
    }
    snprintf(n->enrol_text, sizeof(n->enrol_text), "%s", a->text);
    enrol_reply_free(&a);
    return r;
}

static int take_answer(struct fake_node *n, struct link *link)
{
    struct link_message m;
    uint64_t until = clock_ms() + FAKE_WAIT_MS;
    int r;
    while ((r = link_receive(link, &m, NULL)) == ERR_TIMEOUT && clock_ms() < until)
        poll_link(link);
    if (r == 0) {
        r = take_reply(n, &m);
        link_message_close(&m);
    }
    return r;
}

int fake_enrol(struct fake_node *n, void *zmq_context, const char *line, const char *name, bool spoil)
{
    struct link *link;
    assert_int_equal(invite_parse(&n->invite, line, NULL), 0);
    int r = dial(n, zmq_context, n->invite.port, ENROL_REPLY_BYTES_MAX, &link);
    if (r != 0)
        return r;
    send_request(n, link, name, spoil);
    r = take_answer(n, link);
    link_close(&link);
    return r;
}

int fake_enrol_bytes(struct fake_node *n, void *zmq_context, const char *line, const void *bytes, size_t len)
{
    struct link *link;
    assert_int_equal(invite_parse(&n->invite, line, NULL), 0);
    int r = dial(n, zmq_context, n->invite.port, ENROL_REPLY_BYTES_MAX, &link);
    if (r != 0)
        return r;
    assert_int_equal(link_send(link, NULL, bytes, len, NULL), 0);
    r = take_answer(n, link);
    link_close(&link);
    return r;
}

int fake_dial(struct fake_node *n, void *zmq_context)
{
    link_close(&n->link);
    return dial(n, zmq_context, n->control_port, CONTROL_BYTES_MAX, &n->link);
}

void fake_send(struct fake_node *n, Shoal__Control__BodyCase kind, void *body)
{
    struct buffer out;
    Shoal__Control c = SHOAL__CONTROL__INIT;
    c.body_case = kind;
    c.join = body; /* a union of pointers */
    buffer_init(&out, CONTROL_BYTES_MAX);
    assert_int_equal(control_pack(&out, &c, NULL), 0);
    int r = link_send(n->link, NULL, out.data, out.len, NULL);
    assert_true(r == 0 || r == ERR_GONE); /* a link that was cut is no defect of the sender */
    buffer_close(&out);
}

void fake_join(struct fake_node *n)
{
    Shoal__Facts facts = SHOAL__FACTS__INIT;
    Shoal__Join join = SHOAL__JOIN__INIT;
    facts.name = (char *)(uintptr_t)"fake";
    facts.cores = 2;
    facts.memory_bytes = n->memory;
    facts.device = (char *)(uintptr_t)"cpu";
    facts.data_port = n->data_port;
    facts.version = (char *)(uintptr_t)"test";
    join.facts = &facts;
    join.boot = n->boot;
    fake_send(n, SHOAL__CONTROL__BODY_JOIN, &join);
}

void fake_beat(struct fake_node *n)
{
    Shoal__Beat beat = SHOAL__BEAT__INIT;
    fake_send(n, SHOAL__CONTROL__BODY_BEAT, &beat);
}

void fake_beat_with(struct fake_node *n, uint32_t sequences)
{
    Shoal__ShardStats shard = SHOAL__SHARD_STATS__INIT, *shards[1] = {&shard};
    Shoal__Beat beat = SHOAL__BEAT__INIT;
    shard.sequences = sequences;
    beat.n_shards = 1;
    beat.shards = shards;
    fake_send(n, SHOAL__CONTROL__BODY_BEAT, &beat);
}

void fake_leave(struct fake_node *n)
{
    Shoal__Leave leave = SHOAL__LEAVE__INIT;
    leave.reason = (char *)(uintptr_t)"stopped";
    fake_send(n, SHOAL__CONTROL__BODY_LEAVE, &leave);
}

void fake_load_done(struct fake_node *n, uint64_t load, int status, const char *text)
{
    Shoal__LoadDone done = SHOAL__LOAD_DONE__INIT;
    done.load = load;
    done.status = status;
    done.text = (char *)(uintptr_t)text;
    done.layer_ms = 1.5;
    fake_send(n, SHOAL__CONTROL__BODY_LOAD_DONE, &done);
}

void fake_route_ready(struct fake_node *n, uint64_t route, int status)
{
    Shoal__RouteReady ready = SHOAL__ROUTE_READY__INIT;
    ready.route = route;
    ready.status = status;
    fake_send(n, SHOAL__CONTROL__BODY_ROUTE_READY, &ready);
}

Shoal__Control *fake_take(struct fake_node *n, Shoal__Control__BodyCase kind, uint64_t wait_ms)
{
    struct link_message m;
    uint64_t until = clock_ms() + wait_ms;
    do {
        while (link_receive(n->link, &m, NULL) == 0) {
            Shoal__Control *c;
            assert_int_equal(control_unpack(&c, m.data, m.size, NULL), 0);
            link_message_close(&m);
            if (c->body_case == SHOAL__CONTROL__BODY_ROSTER)
                note_roster(n, c->roster);
            if (c->body_case == SHOAL__CONTROL__BODY_WELCOME)
                note_roster(n, c->welcome->roster);
            if (c->body_case == kind)
                return c;
            control_free(&c);
        }
        poll_link(n->link);
    } while (clock_ms() < until);
    return NULL;
}

Shoal__Control *fake_expect(struct fake_node *n, Shoal__Control__BodyCase kind)
{
    Shoal__Control *c = fake_take(n, kind, FAKE_WAIT_MS);
    if (!c)
        fail_msg("the coordinator sent no message of kind %d", (int)kind);
    return c;
}

void fake_become_member(struct fake_node *n, void *zmq_context, const char *line, const char *name)
{
    assert_int_equal(fake_enrol(n, zmq_context, line, name, false), 0);
    assert_int_equal(fake_dial(n, zmq_context), 0);
    fake_join(n);
    Shoal__Control *c = fake_expect(n, SHOAL__CONTROL__BODY_WELCOME);
    assert_in_range(c->welcome->beat_ms, 100, 1000);
    control_free(&c);
}

struct fake_load fake_load(struct fake_node *n)
{
    Shoal__Control *c = fake_expect(n, SHOAL__CONTROL__BODY_LOAD);
    struct fake_load l = {.load = c->load->load, .first = c->load->layer_first, .last = c->load->layer_last,
                          .embedding = c->load->embedding, .head = c->load->head, .kv_tokens = c->load->kv_tokens,
                          .file_bytes = c->load->file_bytes, .header_bytes = c->load->header_bytes};
    memcpy(l.model_id, c->load->model_id.data, sizeof(l.model_id));
    control_free(&c);
    fake_load_done(n, l.load, 0, "");
    return l;
}

uint64_t fake_set(struct fake_node *n, char next[static 300])
{
    Shoal__Control *c = fake_expect(n, SHOAL__CONTROL__BODY_SET_ROUTE);
    uint64_t route = c->set_route->route;
    snprintf(next, 300, "%s", c->set_route->next_endpoint);
    control_free(&c);
    fake_route_ready(n, route, 0);
    return route;
}
