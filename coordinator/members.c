/* members: enrolment, joins, beats, leaves and revocation: who may be here, who is, and telling everybody.
 *
 * A change of the roster takes effect in one order: the store, the registry,
 * the gates of our listeners, the connections that stand, the new roster to
 * all that are here.  Those it could not be sent to get it at the next tick.  */
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/control_state.h"
#include "net/invite.h"

static int sign_roster(struct control *c, struct error *e)
{
    struct roster roster = {.serial = store_serial(c->store), .n = registry_count(c->registry) + 1};
    roster.members = mem_array(roster.n, sizeof(*roster.members));
    memcpy(roster.members[0].key, c->keys.public_key, KEY_BYTES);
    roster.members[0].role = ROLE_COORDINATOR;
    snprintf(roster.members[0].name, sizeof(roster.members[0].name), "coordinator");
    for (size_t i = 1; i < roster.n; i++) {
        const struct member *m = registry_at(c->registry, i - 1);
        memcpy(roster.members[i].key, m->key, KEY_BYTES);
        roster.members[i].role = ROLE_NODE;
        snprintf(roster.members[i].name, sizeof(roster.members[i].name), "%s", m->name);
    }
    uint8_t *body;
    size_t len;
    int r = roster_sign(&roster, &c->keys, &body, &len, c->roster_signature, e);
    if (r == 0) {
        mem_free(c->roster_body);
        c->roster_body = body;
        c->roster_len = len;
        c->roster_serial = roster.serial;
    }
    roster_free(&roster);
    return r;
}

/* ---- gates ---- */

static uint8_t *member_keys(const struct control *c, size_t *n)
{
    *n = registry_count(c->registry);
    uint8_t *keys = mem_array(*n + 1, KEY_BYTES);
    for (size_t i = 0; i < *n; i++)
        memcpy(keys + i * KEY_BYTES, registry_at(c->registry, i)->key, KEY_BYTES);
    return keys;
}

static int set_gates(struct control *c, struct error *e)
{
    size_t n;
    uint8_t *keys = member_keys(c, &n);
    int r = zap_allow(c->zap, CONTROL_DOMAIN, keys, n, e);
    if (r == 0)
        r = zap_allow(c->zap, BLOBS_DOMAIN, keys, n, e);
    (void)link_revoke(c->control, keys, n);
    c->blobs_behind = blobs_members(c->blobs, keys, n) != 0;
    mem_free(keys);
    return r;
}

static void set_enrol_gate(struct control *c)
{
    struct error e;
    c->invites = store_open_invites(c->store, clock_unix());
    bool open = c->invites > 0;
    if (open == c->enrol_open)
        return;
    if (zap_allow_any(c->zap, ENROL_DOMAIN, open, &e) == 0)
        c->enrol_open = open;
    else
        log_error("coordinator", "the enrolment gate cannot be set: %s", e.text);
}


/* ---- telling ---- */

static Shoal__Roster roster_message(struct control *c)
{
    Shoal__Roster roster = SHOAL__ROSTER__INIT;
    roster.body = (ProtobufCBinaryData){c->roster_len, c->roster_body};
    roster.signature = (ProtobufCBinaryData){SIGNATURE_BYTES, c->roster_signature};
    return roster;
}

static void send_rosters(struct control *c)
{
    Shoal__Roster roster = roster_message(c);
    Shoal__Control message = SHOAL__CONTROL__INIT;
    message.body_case = SHOAL__CONTROL__BODY_ROSTER;
    message.roster = &roster;
    for (size_t i = 0; i < registry_count(c->registry); i++) {
        struct member *m = registry_at(c->registry, i);
        if (m->here && m->roster_serial != c->roster_serial && control_send(c, m, &message) == 0)
            m->roster_serial = c->roster_serial;
    }
}

/* Everybody knows of a change before anything is built on it: what follows on the same links comes later. */
static int apply_roster(struct control *c, struct error *e)
{
    int r = sign_roster(c, e);
    if (r == 0)
        r = set_gates(c, e);
    send_rosters(c);
    return r;
}

static void send_welcome(struct control *c, struct member *m)
{
    Shoal__Roster roster = roster_message(c);
    Shoal__Welcome welcome = SHOAL__WELCOME__INIT;
    Shoal__Control message = SHOAL__CONTROL__INIT;
    uint32_t beat = c->o.lease_ms / 6;
    welcome.session = m->session;
    welcome.lease_ms = c->o.lease_ms;
    welcome.beat_ms = beat < 100 ? 100 : beat > 1000 ? 1000 : beat;
    welcome.roster = &roster;
    message.body_case = SHOAL__CONTROL__BODY_WELCOME;
    message.welcome = &welcome;
    m->roster_serial = control_send(c, m, &message) == 0 ? c->roster_serial : 0;
}

static int add_member(void *arg, const uint8_t key[KEY_BYTES], const char *name)
{
    struct control *c = arg;
    struct member *m;
    return registry_add(c->registry, key, name, &m, NULL);
}

int members_load(struct control *c, struct error *e)
{
    int r = store_members(c->store, add_member, c, e);
    if (r == 0)
        r = zap_allow_any(c->zap, ENROL_DOMAIN, false, e);
    if (r == 0)
        r = apply_roster(c, e);
    if (r == 0)
        set_enrol_gate(c);
    return r;
}

/* ---- the control link ---- */

static void on_join(struct control *c, struct member *m, const Shoal__Join *join, const struct link_peer *peer)
{
    enum join_kind kind;
    struct link_peer before;
    struct error e;
    int r = registry_join(c->registry, m, join, peer, clock_ms(), &kind, &before, &e);
    char endpoint[300];
    if (r == 0)
        r = route_endpoint(&m->facts, endpoint, &e);
    if (r != 0) {
        control_send_refused(c, peer, r, e.text);
        logger_limited(&c->peers, 60, LOG_WARN, "coordinator", "join refused: node=%s %s", m->name, e.text);
        registry_leave(m, e.text);
        cluster_lost(c, m, "changed its address to one that cannot be dialled");
        return;
    }
    if (kind == JOIN_RESTART) {
        control_send_refused(c, &before, ERR_CONFLICT, "another process joined with this node's key");
        cluster_lost(c, m, "was started again");
    }
    bool new_connection = before.route_id_len != peer->route_id_len ||
                          memcmp(before.route_id, peer->route_id, peer->route_id_len) != 0;
    if (kind != JOIN_AGAIN)
        log_info("coordinator", "joined: node=%s fingerprint=%s address=%s memory=%llu cores=%u%s", m->name,
                 m->fingerprint, endpoint, (unsigned long long)m->facts.memory_bytes, m->facts.cores,
                 kind == JOIN_RESTART ? " restarted=1" : "");
    send_welcome(c, m);
    cluster_joined(c, m, new_connection);
}

static void end_session(struct control *c, struct member *m, const char *why)
{
    log_info("coordinator", "gone: node=%s %s", m->name, why);
    registry_leave(m, why);
    cluster_lost(c, m, why);
}

static void on_beat(struct control *c, struct member *m, const Shoal__Beat *beat, const struct link_peer *peer)
{
    if (!registry_beat(m, beat, peer, clock_ms()))
        control_send_refused(c, peer, ERR_UNAVAILABLE, "this node has no session; join again");
}

/* Of a member that is here. */
static void on_control(struct control *c, struct member *m, const Shoal__Control *q)
{
    char why[160];
    registry_heard(m, clock_ms());
    switch (q->body_case) {
    case SHOAL__CONTROL__BODY_LOAD_PROGRESS:
        (void)registry_shard_progress(m, q->load_progress, clock_ms());
        break;
    case SHOAL__CONTROL__BODY_LOAD_DONE:
        cluster_load_done(c, m, q->load_done);
        break;
    case SHOAL__CONTROL__BODY_ROUTE_READY:
        cluster_route_ready(c, m, q->route_ready);
        break;
    case SHOAL__CONTROL__BODY_LINK_REPORT:
        if (q->link_report->route == c->route.number)
            registry_link_report(m, q->link_report);
        break;
    case SHOAL__CONTROL__BODY_LEAVE:
        snprintf(why, sizeof(why), "left: %.140s", q->leave->reason);
        end_session(c, m, why);
        break;
    default:
        break; /* what only the coordinator sends */
    }
}

void members_message(struct control *c, const struct link_message *m)
{
    Shoal__Control *q;
    struct error e;
    struct member *from = registry_find(c->registry, m->peer.key);
    if (!from) { /* revoked while its message was under way */
        control_send_refused(c, &m->peer, ERR_DENIED, "this node is not a member");
        return;
    }
    if (control_unpack(&q, m->data, m->size, &e) != 0) {
        logger_limited(&c->peers, 60, LOG_WARN, "coordinator", "a message was refused: node=%s %s", from->name, e.text);
        return;
    }
    if (q->body_case == SHOAL__CONTROL__BODY_JOIN)
        on_join(c, from, q->join, &m->peer);
    else if (q->body_case == SHOAL__CONTROL__BODY_BEAT)
        on_beat(c, from, q->beat, &m->peer);
    else if (from->here)
        on_control(c, from, q);
    control_free(&q);
}

/* ---- the enrolment link ---- */

static int enrol(struct control *c, const Shoal__EnrolRequest *q, const struct link_peer *peer, struct error *e)
{
    struct member *m = registry_find(c->registry, peer->key);
    struct enrol_who who = {.key = peer->key, .address = peer->address, .member = m != NULL};
    char name[ROSTER_NAME_MAX];
    int r = enrol_check(c->enrol, q, &who, clock_ms(), clock_unix(), e);
    if (r != 0 || m)
        return r;
    if (registry_count(c->registry) == REGISTRY_MEMBERS_MAX)
        return error_set(e, ERR_LIMIT, "the cluster has as many members as it can");
    registry_free_name(c->registry, q->name, name);
    r = store_enrol(c->store, peer->key, name, q->invite_id.data, e);
    if (r == 0)
        r = registry_add(c->registry, peer->key, name, &m, e);
    if (r == 0)
        r = apply_roster(c, e);
    if (r == 0)
        log_info("coordinator", "enrolled: node=%s fingerprint=%s address=%s", m->name, m->fingerprint, peer->address);
    set_enrol_gate(c);
    return r;
}

void members_enrol(struct control *c, const struct link_message *m)
{
    Shoal__EnrolRequest *q;
    Shoal__EnrolReply reply = SHOAL__ENROL_REPLY__INIT;
    struct error e;
    int r = enrol_request_unpack(&q, m->data, m->size, &e);
    if (r == 0)
        r = enrol(c, q, &m->peer, &e);
    enrol_request_free(&q);
    Shoal__Roster roster = roster_message(c);
    if (r == 0) {
        reply.control_port = link_port(c->control);
        reply.blob_port = blobs_port(c->blobs);
        reply.roster = &roster;
    } else {
        reply.status = ERR_DENIED;
        reply.text = (char *)(uintptr_t)ENROL_REFUSAL;
        logger_limited(&c->strangers, 20, LOG_WARN, "coordinator", "enrolment refused: address=%s %s",
                       m->peer.address, e.text);
    }
    if (enrol_reply_pack(&c->out, &reply, &e) != 0 ||
        link_send(c->enrolment, &m->peer, c->out.data, c->out.len, &e) != 0)
        logger_limited(&c->strangers, 20, LOG_WARN, "coordinator", "enrolment was not answered: %s", e.text);
}

/* ---- the operator ---- */

/* What others dial: said by the operator, else the address that we listen on, else this machine's name. */
static void invite_host(const struct control *c, const char *host, char out[static INVITE_HOST_MAX])
{
    const char *from = host ? host : c->advertise ? c->advertise : c->listen_host;
    bool wildcard = !from[0] || strcmp(from, "0.0.0.0") == 0 || strcmp(from, "::") == 0 || strcmp(from, "*") == 0;
    snprintf(out, INVITE_HOST_MAX, "%s", wildcard ? "localhost" : from);
    if (wildcard && gethostname(out, INVITE_HOST_MAX - 1) != 0)
        snprintf(out, INVITE_HOST_MAX, "localhost");
}

int members_invite(struct control *c, const struct command *q, char **line, struct error *e)
{
    struct store_invite kept;
    struct invite i = {.port = link_port(c->enrolment)};
    if (q->text && strlen(q->text) >= INVITE_HOST_MAX)
        return error_set(e, ERR_INVALID, "a host name has at most %d characters", INVITE_HOST_MAX - 1);
    int r = enrol_invite(c->enrol, q->uses, q->ttl_seconds, clock_unix(), &kept, e);
    if (r != 0)
        return r;
    invite_host(c, q->text, i.host);
    i.expires = kept.expires;
    memcpy(i.coordinator_key, c->keys.public_key, KEY_BYTES);
    memcpy(i.sign_public, c->keys.sign_public, SIGN_PUBLIC_BYTES);
    memcpy(i.id, kept.id, sizeof(i.id));
    memcpy(i.secret, kept.secret, sizeof(i.secret));
    *line = mem_alloc(INVITE_TEXT_MAX);
    invite_text(&i, *line);
    sodium_memzero(&i, sizeof(i));
    sodium_memzero(&kept, sizeof(kept));
    set_enrol_gate(c);
    log_info("coordinator", "invited: uses=%u ttl_s=%u", q->uses, q->ttl_seconds);
    return 0;
}

int members_revoke(struct control *c, const char *who, struct error *e)
{
    struct member *m;
    int r = registry_who(c->registry, who, &m, e);
    if (r == 0)
        r = store_revoke(c->store, m->key, m->name, e);
    if (r != 0)
        return r;
    log_warn("coordinator", "revoked: node=%s fingerprint=%s", m->name, m->fingerprint);
    if (m->here) {
        control_send_refused(c, &m->peer, ERR_DENIED, "this node was removed from the cluster");
        registry_leave(m, "was revoked");
    }
    cluster_lost(c, m, "was revoked");
    registry_remove(c->registry, m);
    return apply_roster(c, e);
}

/* ---- now and then ---- */

void members_tick(struct control *c, uint64_t now_ms)
{
    char why[64];
    struct member *m;
    while ((m = registry_lapsed(c->registry, now_ms)) != NULL) {
        snprintf(why, sizeof(why), "was silent for %.1f s", (double)(now_ms - m->heard_ms) / 1000);
        end_session(c, m, why);
    }
    set_enrol_gate(c);
    send_rosters(c);
    if (c->blobs_behind) {
        size_t n;
        uint8_t *keys = member_keys(c, &n);
        c->blobs_behind = blobs_members(c->blobs, keys, n) != 0;
        mem_free(keys);
    }
}
