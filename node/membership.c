/* membership: enrolment over its own link, and a small text file of what came of it. */
#include "node/membership.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "net/link.h"
#include "net/roster.h"
#include "proto/control.h"

/* A coordinator that stops breaks off one handshake, or two; another one breaks off all. */
enum { STRANGER_HANDSHAKES = 5 };

static const char file_name[] = "membership";

void membership_endpoint(const struct membership *m, uint16_t port, char text[static 300])
{
    const char *format = strchr(m->host, ':') ? "tcp://[%s]:%u" : "tcp://%s:%u";
    snprintf(text, 300, format, m->host, port);
}

static int send_request(struct link *link, const struct keys *keys, const char *name, const struct invite *invite,
                        struct error *e)
{
    uint8_t nonce[INVITE_NONCE_BYTES], proof[INVITE_PROOF_BYTES];
    randombytes_buf(nonce, sizeof(nonce));
    invite_proof(invite->secret, keys->public_key, invite->coordinator_key, nonce, proof);
    Shoal__EnrolRequest q = SHOAL__ENROL_REQUEST__INIT;
    q.invite_id = (ProtobufCBinaryData){INVITE_ID_BYTES, (uint8_t *)(uintptr_t)invite->id};
    q.nonce = (ProtobufCBinaryData){sizeof(nonce), nonce};
    q.proof = (ProtobufCBinaryData){sizeof(proof), proof};
    q.name = (char *)(uintptr_t)name;
    struct buffer out;
    buffer_init(&out, ENROL_BYTES_MAX);
    int r = enrol_request_pack(&out, &q, e);
    if (r == 0)
        r = link_send(link, NULL, out.data, out.len, e);
    buffer_close(&out);
    return r;
}

/* Sends as soon as the link stands, then waits for the one answer. */
static int converse(struct link *link, const struct keys *keys, const char *name, const struct invite *invite,
                    Shoal__EnrolReply **reply, struct error *e)
{
    uint64_t until = clock_ms() + ENROL_TIMEOUT_MS;
    bool sent = false;
    *reply = NULL;
    while (clock_ms() < until) {
        zmq_pollitem_t item = {.socket = link_socket(link), .events = ZMQ_POLLIN};
        (void)zmq_poll(&item, 1, 50);
        link_watch(link);
        if (link_refused(link))
            return error_set(e, ERR_DENIED, "the coordinator at %s:%u refused the invite: it is used up or expired",
                             invite->host, invite->port);
        if (link_broken_handshakes(link) >= STRANGER_HANDSHAKES)
            return error_set(e, ERR_DENIED, "what answers at %s:%u is not the coordinator that wrote this invite",
                             invite->host, invite->port);
        if (!sent && link_connected(link)) {
            int r = send_request(link, keys, name, invite, e);
            if (r != 0 && r != ERR_BUSY && r != ERR_GONE)
                return r;
            sent = r == 0;
        }
        struct link_message m;
        int r = link_receive(link, &m, e);
        if (r == ERR_TIMEOUT)
            continue;
        if (r != 0)
            return r;
        r = enrol_reply_unpack(reply, m.data, m.size, e);
        link_message_close(&m);
        return r;
    }
    return error_set(e, ERR_TIMEOUT, "no answer from the coordinator at %s:%u; is it running, and is that port open?",
                     invite->host, invite->port);
}

static int accept_reply(struct membership *out, const struct invite *invite, const Shoal__EnrolReply *a,
                        const struct keys *keys, struct error *e)
{
    if (a->status != 0)
        return error_set(e, ERR_DENIED, "the coordinator refused the invite: %s", a->text);
    if (!a->roster || a->control_port == 0 || a->control_port > 65535 || a->blob_port == 0 || a->blob_port > 65535)
        return error_set(e, ERR_CORRUPT, "the coordinator's answer to the invite is incomplete");
    struct roster roster;
    int r = roster_verify(&roster, a->roster->body.data, a->roster->body.len, a->roster->signature.data,
                          a->roster->signature.len, invite->sign_public, 0, e);
    if (r != 0)
        return r;
    if (!roster_find(&roster, keys->public_key))
        r = error_set(e, ERR_DENIED, "the coordinator's roster does not list this node");
    roster_free(&roster);
    memset(out, 0, sizeof(*out));
    snprintf(out->host, sizeof(out->host), "%s", invite->host);
    out->control_port = (uint16_t)a->control_port;
    out->blob_port = (uint16_t)a->blob_port;
    memcpy(out->coordinator_key, invite->coordinator_key, KEY_BYTES);
    memcpy(out->sign_public, invite->sign_public, SIGN_PUBLIC_BYTES);
    return r;
}

int membership_enrol(struct membership *out, void *zmq_context, const struct keys *keys, const char *name,
                     const char *invite_line, struct error *e)
{
    struct invite invite;
    int r = invite_parse(&invite, invite_line, e);
    if (r != 0)
        return r;
    if (invite.expires < clock_unix())
        return error_set(e, ERR_DENIED, "the invite has expired; ask for a new one with `shoal invite`");
    struct membership at = {.control_port = invite.port};
    char endpoint[300];
    snprintf(at.host, sizeof(at.host), "%s", invite.host);
    membership_endpoint(&at, invite.port, endpoint);
    struct link_options o = {.keys = keys, .bytes_max = ENROL_REPLY_BYTES_MAX, .queue_max = 4};
    struct link *link;
    r = link_dial(&link, zmq_context, endpoint, invite.coordinator_key, &o, e);
    if (r == 0) {
        Shoal__EnrolReply *reply;
        r = converse(link, keys, name, &invite, &reply, e);
        if (r == 0)
            r = accept_reply(out, &invite, reply, keys, e);
        enrol_reply_free(&reply);
        link_close(&link);
    }
    sodium_memzero(&invite, sizeof(invite));
    return r;
}

int membership_save(const struct membership *m, const char *state_dir, struct error *e)
{
    char key[KEY_TEXT_BYTES], sign[KEY_TEXT_BYTES];
    keys_text(m->coordinator_key, key);
    keys_text(m->sign_public, sign);
    char *text = mem_printf("host %s\ncontrol_port %u\nblob_port %u\ncoordinator %s\nsign %s\n", m->host,
                            m->control_port, m->blob_port, key, sign);
    char *path = path_join(state_dir, file_name);
    int r = path_write_atomic(path, text, strlen(text), 0600, e);
    mem_free(path);
    mem_free(text);
    return r;
}

/* The rest of the line that begins with "name ", copied; false when there is none or it is too long. */
static bool line_value(const char *text, const char *name, char *out, size_t cap)
{
    size_t n = strlen(name);
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line ? 1 : 0) {
        if (strncmp(line, name, n) != 0 || line[n] != ' ')
            continue;
        size_t len = strcspn(line + n + 1, "\n");
        if (len >= cap)
            return false;
        memcpy(out, line + n + 1, len);
        out[len] = 0;
        return true;
    }
    return false;
}

static bool line_port(const char *text, const char *name, uint16_t *out)
{
    char value[16], *end;
    if (!line_value(text, name, value, sizeof(value)))
        return false;
    unsigned long v = strtoul(value, &end, 10);
    *out = (uint16_t)v;
    return *end == 0 && v > 0 && v <= 65535;
}

int membership_load(struct membership *out, const char *state_dir, struct error *e)
{
    memset(out, 0, sizeof(*out));
    char *path = path_join(state_dir, file_name), *text = NULL;
    char key[64], sign[64];
    size_t len;
    int r = path_read(path, 4096, &text, &len, e);
    if (r == ERR_NOT_FOUND)
        r = error_set(e, ERR_NOT_FOUND, "this node belongs to no cluster yet; start it with --join 'INVITE'");
    else if (r == 0 && !(line_value(text, "host", out->host, sizeof(out->host)) &&
                         line_port(text, "control_port", &out->control_port) &&
                         line_port(text, "blob_port", &out->blob_port) &&
                         line_value(text, "coordinator", key, sizeof(key)) && keys_parse(key, out->coordinator_key) &&
                         line_value(text, "sign", sign, sizeof(sign)) && keys_parse(sign, out->sign_public)))
        r = error_set(e, ERR_CORRUPT, "%s is damaged; remove it and join again with a new invite", path);
    mem_free(text);
    mem_free(path);
    return r;
}
