/* rig: see the header. */
#include "rig.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/memory.h"
#include "shard/arch/arch.h"

enum { QUEUE_MAX = 64, POLL_MS = 2, FOREVER_S = 3600, LEASE_MS = 5000, BEAT_MS = 200 };

/* ---- who is a member ---- */

static void sign_roster(struct rig *r, Shoal__Roster *out, uint8_t signature[SIGNATURE_BYTES])
{
    struct roster roster = {.serial = r->serial, .members = mem_array(RIG_NODES_MAX + 1, sizeof(*roster.members))};
    struct roster_member *m = &roster.members[roster.n++];
    struct keys signer = r->keys;
    memcpy(m->key, r->keys.public_key, KEY_BYTES);
    snprintf(m->name, sizeof(m->name), "coordinator");
    m->role = ROLE_COORDINATOR;
    for (size_t i = 0; i < r->n_nodes; i++) {
        if (!r->nodes[i].member)
            continue;
        m = &roster.members[roster.n++];
        memcpy(m->key, r->nodes[i].key, KEY_BYTES);
        snprintf(m->name, sizeof(m->name), "%s", r->nodes[i].options.name);
        m->role = ROLE_NODE;
    }
    if (r->foreign_rosters)
        keys_generate(&signer);
    shoal__roster__init(out);
    assert_int_equal(roster_sign(&roster, &signer, &out->body.data, &out->body.len, signature, NULL), 0);
    out->signature = (ProtobufCBinaryData){SIGNATURE_BYTES, signature};
    roster_free(&roster);
}

static void open_gates(struct rig *r)
{
    uint8_t keys[RIG_NODES_MAX * KEY_BYTES];
    size_t n = 0;
    for (size_t i = 0; i < r->n_nodes; i++) {
        if (r->nodes[i].member)
            memcpy(keys + n++ * KEY_BYTES, r->nodes[i].key, KEY_BYTES);
    }
    assert_int_equal(zap_allow(r->zap, "control", keys, n, NULL), 0);
    assert_int_equal(zap_allow(r->zap, "blob", keys, n, NULL), 0);
    link_revoke(r->control, keys, n);
    link_revoke(r->blob, keys, n);
}

static void tell_roster(struct rig *r)
{
    Shoal__Roster roster;
    uint8_t signature[SIGNATURE_BYTES];
    r->serial++;
    sign_roster(r, &roster, signature);
    for (size_t i = 0; i < r->n_nodes; i++) {
        if (r->nodes[i].joined)
            rig_send(r, &r->nodes[i], SHOAL__CONTROL__BODY_ROSTER, &roster);
    }
    mem_free(roster.body.data);
}

/* ---- the three listeners ---- */

static struct rig_node *node_of(struct rig *r, const uint8_t key[KEY_BYTES])
{
    for (size_t i = 0; i < r->n_nodes; i++) {
        if (memcmp(r->nodes[i].key, key, KEY_BYTES) == 0)
            return &r->nodes[i];
    }
    return NULL;
}

static void answer_enrolment(struct rig *r, const struct link_message *m)
{
    Shoal__EnrolRequest *q;
    Shoal__EnrolReply a = SHOAL__ENROL_REPLY__INIT;
    Shoal__Roster roster;
    uint8_t signature[SIGNATURE_BYTES], proof[INVITE_PROOF_BYTES];
    struct buffer out;
    assert_int_equal(enrol_request_unpack(&q, m->data, m->size, NULL), 0);
    invite_proof(r->invite.secret, m->peer.key, r->keys.public_key, q->nonce.data, proof);
    bool good = memcmp(q->invite_id.data, r->invite.id, INVITE_ID_BYTES) == 0 &&
                memcmp(proof, q->proof.data, sizeof(proof)) == 0;
    a.status = good ? 0 : ERR_DENIED;
    a.text = (char *)(uintptr_t)(good ? "" : "no");
    for (size_t i = 0; good && i < r->n_nodes; i++) {
        if (strcmp(r->nodes[i].options.name, q->name) == 0) {
            memcpy(r->nodes[i].key, m->peer.key, KEY_BYTES);
            r->nodes[i].member = true;
        }
    }
    open_gates(r);
    r->serial++;
    sign_roster(r, &roster, signature);
    if (good && !r->incomplete_answers) {
        a.control_port = link_port(r->control);
        a.blob_port = link_port(r->blob);
        a.roster = &roster;
    }
    buffer_init(&out, ENROL_REPLY_BYTES_MAX);
    assert_int_equal(enrol_reply_pack(&out, &a, NULL), 0);
    if (!r->deaf_to_enrolments)
        assert_int_equal(link_send(r->enrol, &m->peer, out.data, out.len, NULL), 0);
    buffer_close(&out);
    mem_free(roster.body.data);
    enrol_request_free(&q);
    tell_roster(r);
}

static void answer_join(struct rig *r, struct rig_node *n, const Shoal__Join *join)
{
    Shoal__Welcome w = SHOAL__WELCOME__INIT;
    Shoal__Roster roster;
    uint8_t signature[SIGNATURE_BYTES];
    assert_string_equal(join->facts->name, n->options.name);
    assert_true(join->facts->cores > 0 && join->facts->memory_bytes > 0 && join->facts->read_bandwidth > 0);
    n->data_port = (uint16_t)join->facts->data_port;
    n->joined = true;
    n->joins++;
    sign_roster(r, &roster, signature);
    w.session = 7;
    w.lease_ms = LEASE_MS;
    w.beat_ms = BEAT_MS;
    w.roster = &roster;
    rig_send(r, n, SHOAL__CONTROL__BODY_WELCOME, &w);
    mem_free(roster.body.data);
}

static void take_control(struct rig *r, const struct link_message *m)
{
    Shoal__Control *c;
    struct rig_node *n = node_of(r, m->peer.key);
    assert_non_null(n);
    assert_int_equal(control_unpack(&c, m->data, m->size, NULL), 0);
    n->peer = m->peer;
    if (c->body_case == SHOAL__CONTROL__BODY_JOIN)
        answer_join(r, n, c->join);
    n->beats += c->body_case == SHOAL__CONTROL__BODY_BEAT;
    bool wanted = c->body_case == SHOAL__CONTROL__BODY_LOAD_DONE || c->body_case == SHOAL__CONTROL__BODY_ROUTE_READY ||
                  c->body_case == SHOAL__CONTROL__BODY_LEAVE || c->body_case == SHOAL__CONTROL__BODY_LOAD_PROGRESS;
    if (wanted && n->n_queue < RIG_QUEUE)
        n->queue[n->n_queue++] = c;
    else
        control_free(&c);
}

static void take_blob(struct rig *r, const struct link_message *m)
{
    struct blob_source source = {r->model_files, &r->model, r->model_bytes, r->model_len};
    assert_int_equal(blob_answer(&source, 1, r->blob, m, NULL), 0);
    r->chunks_served++;
}

static void drain(struct rig *r, struct link *l, void (*take)(struct rig *, const struct link_message *))
{
    struct link_message m;
    link_watch(l);
    while (link_receive(l, &m, NULL) == 0) {
        take(r, &m);
        link_message_close(&m);
    }
}

void rig_pump(struct rig *r)
{
    zmq_pollitem_t items[3 + RIG_NODES_MAX] = {{.socket = link_socket(r->enrol), .events = ZMQ_POLLIN},
                                               {.socket = link_socket(r->control), .events = ZMQ_POLLIN},
                                               {.socket = link_socket(r->blob), .events = ZMQ_POLLIN}};
    int n_items = 3;
    for (size_t i = 0; i < r->n_nodes; i++) {
        if (r->nodes[i].data)
            items[n_items++] = (zmq_pollitem_t){.socket = link_socket(r->nodes[i].data), .events = ZMQ_POLLIN};
    }
    (void)zmq_poll(items, n_items, POLL_MS);
    drain(r, r->enrol, answer_enrolment);
    drain(r, r->control, take_control);
    drain(r, r->blob, take_blob);
    for (size_t i = 0; i < r->n_nodes; i++) {
        if (r->nodes[i].data)
            link_watch(r->nodes[i].data);
    }
}

/* ---- the rig ---- */

static struct link *listen_on(struct rig *r, const char *domain, size_t bytes_max)
{
    struct link *l;
    struct link_options o = {.keys = &r->keys, .domain = domain, .bytes_max = bytes_max, .queue_max = QUEUE_MAX};
    assert_int_equal(link_listen(&l, r->context, "tcp://127.0.0.1:0", &o, NULL), 0);
    return l;
}

void rig_serve(struct rig *r, struct file_set **files)
{
    struct error e;
    char cache[64];
    snprintf(cache, sizeof(cache), "%s/cache", r->dir);
    file_set_close(&r->model_files);
    manifest_free(&r->model);
    mem_free(r->model_bytes);
    r->model_files = *files;
    *files = NULL;
    assert_int_equal(manifest_of_files(&r->model, r->model_files, cache, NULL, NULL, &e), 0);
    assert_int_equal(manifest_encode(&r->model, &r->model_bytes, &r->model_len, &e), 0);
}

static void open_model(struct rig *r)
{
    struct model *model;
    struct file_set *files;
    struct error e;
    const char *path = RIG_MODEL;
    assert_int_equal(model_open(&model, path, &e), 0);
    assert_int_equal(file_set_open_at(&files, &path, file_set_at(model_files(model), 0), 1, &e), 0);
    model_close(&model);
    rig_serve(r, &files);
}

void rig_open(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    snprintf(r->dir, sizeof(r->dir), "/tmp/shoal-test-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    keys_generate(&r->keys);
    r->context = link_context(1);
    assert_int_equal(zap_start(&r->zap, r->context, NULL), 0);
    r->enrol = listen_on(r, "enrol", ENROL_REPLY_BYTES_MAX);
    r->control = listen_on(r, "control", CONTROL_BYTES_MAX);
    r->blob = listen_on(r, "blob", BLOB_BYTES_MAX);
    assert_int_equal(zap_allow_any(r->zap, "enrol", true, NULL), 0);
    r->invite.port = link_port(r->enrol);
    r->invite.expires = clock_unix() + FOREVER_S;
    snprintf(r->invite.host, sizeof(r->invite.host), "127.0.0.1");
    memcpy(r->invite.coordinator_key, r->keys.public_key, KEY_BYTES);
    memcpy(r->invite.sign_public, r->keys.sign_public, SIGN_PUBLIC_BYTES);
    randombytes_buf(r->invite.id, sizeof(r->invite.id));
    randombytes_buf(r->invite.secret, sizeof(r->invite.secret));
    invite_text(&r->invite, r->invite_line);
    open_model(r);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

void rig_close(struct rig *r)
{
    for (size_t i = 0; i < r->n_nodes; i++) {
        rig_stop(r, &r->nodes[i]);
        frame_store_destroy(&r->nodes[i].store);
    }
    link_close(&r->enrol);
    link_close(&r->control);
    link_close(&r->blob);
    zap_stop(&r->zap);
    link_context_destroy(&r->context);
    file_set_close(&r->model_files);
    manifest_free(&r->model);
    mem_free(r->model_bytes);
    nftw(r->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- nodes ---- */

static void *start_node(void *arg)
{
    struct rig_node *n = arg;
    n->status = node_start(&n->node, &n->options, &n->why);
    atomic_store(&n->started, 1);
    return NULL;
}

static void start_and_wait(struct rig *r, struct rig_node *n)
{
    atomic_store(&n->started, 0);
    assert_int_equal(pthread_create(&n->starter, NULL, start_node, n), 0);
    while (!atomic_load(&n->started))
        rig_pump(r);
    pthread_join(n->starter, NULL);
}

struct rig_node *rig_start(struct rig *r, const char *name, const char *invite_line)
{
    struct rig_node *n = &r->nodes[r->n_nodes];
    char dir[sizeof(r->dir)];
    assert_true(r->n_nodes < RIG_NODES_MAX);
    memcpy(dir, r->dir, sizeof(dir));
    snprintf(n->state_dir, sizeof(n->state_dir), "%s/%s/state", dir, name);
    snprintf(n->cache_dir, sizeof(n->cache_dir), "%s/%s/cache", dir, name);
    n->options = (struct node_options){
        .invite = invite_line, .name = name, .state_dir = n->state_dir, .cache_dir = n->cache_dir,
        .model_path = r->model_path,
        .listen = "127.0.0.1:0", .backend = "cpu", .threads = 1, .memory_bytes = 512 << 20};
    n->store = frame_store_create();
    r->n_nodes++;
    start_and_wait(r, n);
    return n;
}

static void forget_messages(struct rig_node *n)
{
    for (size_t i = 0; i < n->n_queue; i++)
        control_free(&n->queue[i]);
    n->n_queue = 0;
    if (n->has_message)
        link_message_close(&n->message);
    n->has_message = false;
}

void rig_stop(struct rig *r, struct rig_node *n)
{
    (void)r;
    node_stop(&n->node);
    link_close(&n->data);
    forget_messages(n);
    n->joined = false;
}

void rig_restart(struct rig *r, struct rig_node *n)
{
    rig_stop(r, n);
    rig_pump(r); /* what it said last */
    forget_messages(n);
    n->joined = false;
    n->options.invite = NULL;
    start_and_wait(r, n);
}

void rig_join(struct rig *r, struct rig_node *n)
{
    uint64_t until = clock_ms() + RIG_WAIT_MS;
    char endpoint[64];
    struct link_options o = {.keys = &r->keys, .bytes_max = FRAME_BYTES_MAX, .queue_max = QUEUE_MAX};
    assert_int_equal(n->status, 0);
    while (!n->joined) {
        rig_pump(r);
        assert_true(clock_ms() < until);
    }
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", n->data_port);
    assert_int_equal(link_dial(&n->data, r->context, endpoint, n->key, &o, NULL), 0);
    while (!link_connected(n->data)) {
        rig_pump(r);
        assert_true(clock_ms() < until);
    }
}

void rig_revoke(struct rig *r, struct rig_node *n)
{
    n->member = false;
    tell_roster(r);
    n->joined = false;
    open_gates(r);
}

/* ---- control messages ---- */

void rig_send(struct rig *r, struct rig_node *n, Shoal__Control__BodyCase kind, void *body)
{
    Shoal__Control c = SHOAL__CONTROL__INIT;
    struct buffer out;
    c.body_case = kind;
    c.join = body; /* every body is a pointer in one union */
    buffer_init(&out, CONTROL_BYTES_MAX);
    assert_int_equal(control_pack(&out, &c, NULL), 0);
    assert_int_equal(link_send(r->control, &n->peer, out.data, out.len, NULL), 0);
    buffer_close(&out);
}

static Shoal__Control *next_queued(struct rig_node *n)
{
    if (n->n_queue == 0)
        return NULL;
    Shoal__Control *c = n->queue[0];
    memmove(n->queue, n->queue + 1, --n->n_queue * sizeof(n->queue[0]));
    return c;
}

Shoal__Control *rig_expect(struct rig *r, struct rig_node *n, Shoal__Control__BodyCase kind)
{
    uint64_t until = clock_ms() + RIG_WAIT_MS;
    for (;;) {
        Shoal__Control *c = next_queued(n);
        if (c && c->body_case == kind)
            return c;
        if (c)
            control_free(&c);
        else
            rig_pump(r);
        assert_true(clock_ms() < until);
    }
}

void rig_load(struct rig *r, struct rig_node *n, uint64_t load, uint32_t first, uint32_t last, const char *path_hint,
              int status)
{
    Shoal__Load m = SHOAL__LOAD__INIT;
    m.load = load;
    m.model_id = (ProtobufCBinaryData){MANIFEST_ID_BYTES, r->model.id};
    m.model_name = (char *)(uintptr_t)"demo";
    m.file_bytes = r->model.bytes;
    m.header_bytes = r->model.head_bytes;
    m.layer_first = first;
    m.layer_last = last;
    m.embedding = first == 0;
    m.head = last >= 6;
    m.kv_tokens = 256;
    m.sequences_max = 2;
    m.batch_rows_max = 32;
    m.path_hint = (char *)(uintptr_t)path_hint;
    rig_send(r, n, SHOAL__CONTROL__BODY_LOAD, &m);
    Shoal__Control *c = rig_expect(r, n, SHOAL__CONTROL__BODY_LOAD_DONE);
    assert_int_equal(c->load_done->load, load);
    if (c->load_done->status != status)
        fail_msg("load: %s", c->load_done->text);
    if (status == 0)
        assert_true(c->load_done->layer_ms > 0);
    control_free(&c);
}

void rig_route(struct rig *r, struct rig_node *n, uint64_t route, uint64_t load, uint32_t stage, uint32_t stages,
               const struct rig_node *next, const struct rig_node *from, int status)
{
    Shoal__SetRoute m = SHOAL__SET_ROUTE__INIT;
    char endpoint[64] = "";
    m.route = route;
    m.load = load;
    m.stage = stage;
    m.stages = stages;
    m.from_key = (ProtobufCBinaryData){KEY_BYTES, from ? (uint8_t *)(uintptr_t)from->key : r->keys.public_key};
    if (next) {
        snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", next->data_port);
        m.next_key = (ProtobufCBinaryData){KEY_BYTES, (uint8_t *)(uintptr_t)next->key};
    }
    m.next_endpoint = endpoint;
    rig_send(r, n, SHOAL__CONTROL__BODY_SET_ROUTE, &m);
    Shoal__Control *c = rig_expect(r, n, SHOAL__CONTROL__BODY_ROUTE_READY);
    assert_int_equal(c->route_ready->route, route);
    if (c->route_ready->status != status)
        fail_msg("route: %s", c->route_ready->text);
    control_free(&c);
}

/* ---- steps ---- */

static void send_frame(struct rig *r, struct rig_node *n, const struct frame *f)
{
    struct buffer out;
    uint64_t until = clock_ms() + RIG_WAIT_MS;
    buffer_init(&out, FRAME_BYTES_MAX);
    assert_int_equal(frame_encode(&out, f, NULL), 0);
    while (link_send(n->data, NULL, out.data, out.len, NULL) != 0) {
        rig_pump(r);
        assert_true(clock_ms() < until);
    }
    buffer_close(&out);
}

void rig_step(struct rig *r, struct rig_node *n, uint64_t route, uint64_t step, uint64_t sequence, uint32_t position,
              const int32_t *tokens, uint32_t n_tokens, bool sample)
{
    struct frame_row rows[32];
    struct frame_open open = {.sequence = sequence, .top_p = 1, .repetition_penalty = 1, .top_logprobs = -1};
    assert_true(n_tokens <= COUNTOF(rows));
    for (uint32_t i = 0; i < n_tokens; i++)
        rows[i] = (struct frame_row){sequence, 0, position + i, tokens[i],
                                     sample && i + 1 == n_tokens ? FRAME_ROW_SAMPLE : 0, 0};
    struct frame f = {.header = {.kind = FRAME_STEP, .route = route, .step = step, .rows = n_tokens, .chunks = 1},
                      .rows = rows, .n_rows = n_tokens, .opens = &open, .n_opens = position == 0};
    send_frame(r, n, &f);
}

void rig_end(struct rig *r, struct rig_node *n, uint64_t route, uint64_t step, uint64_t sequence)
{
    struct frame f = {.header = {.kind = FRAME_STEP, .route = route, .step = step, .chunks = 1}, .ends = &sequence,
                      .n_ends = 1};
    send_frame(r, n, &f);
}

void rig_answer(struct rig *r, struct rig_node *n, struct frame *f)
{
    uint64_t until = clock_ms() + RIG_WAIT_MS;
    for (;;) {
        if (n->has_message)
            link_message_close(&n->message);
        n->has_message = link_receive(n->data, &n->message, NULL) == 0;
        if (!n->has_message) {
            rig_pump(r);
            assert_true(clock_ms() < until);
            continue;
        }
        assert_int_equal(frame_decode(f, n->store, n->message.data, n->message.size, NULL), 0);
        if (f->header.kind == FRAME_RESULT || f->header.kind == FRAME_FAIL)
            return;
    }
}
