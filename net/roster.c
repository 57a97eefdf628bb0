/* roster: an Ed25519 signature over an encoded RosterBody (proto/control.proto); a key is listed once. */
#include "net/roster.h"

#include <sodium.h>
#include <string.h>

#include "base/memory.h"
#include "proto/control.h"

_Static_assert(ROSTER_NAME_MAX == CONTROL_NAME_MAX + 1, "a name that decodes fits a member");

void roster_free(struct roster *r)
{
    mem_free(r->members);
    memset(r, 0, sizeof(*r));
}

const struct roster_member *roster_find(const struct roster *r, const uint8_t key[KEY_BYTES])
{
    for (size_t i = 0; i < r->n; i++) {
        if (memcmp(r->members[i].key, key, KEY_BYTES) == 0)
            return &r->members[i];
    }
    return NULL;
}

static bool has_duplicates(const struct roster *r)
{
    for (size_t i = 0; i < r->n; i++) {
        if (roster_find(r, r->members[i].key) != &r->members[i])
            return true;
    }
    return false;
}

static int check(const struct roster *r, struct error *e)
{
    if (r->n > ROSTER_MEMBERS_MAX)
        return error_set(e, ERR_LIMIT, "a roster of %zu members; at most %d", r->n, ROSTER_MEMBERS_MAX);
    if (has_duplicates(r))
        return error_set(e, ERR_CORRUPT, "a roster lists one key twice");
    return 0;
}

static int pack(const struct roster *r, struct buffer *out, struct error *e)
{
    Shoal__RosterBody body = SHOAL__ROSTER_BODY__INIT;
    Shoal__Member *members = mem_array(r->n + 1, sizeof(*members));
    Shoal__Member **list = mem_array(r->n + 1, sizeof(*list));
    for (size_t i = 0; i < r->n; i++) {
        shoal__member__init(&members[i]);
        members[i].key = (ProtobufCBinaryData){KEY_BYTES, r->members[i].key};
        members[i].name = r->members[i].name;
        members[i].role = r->members[i].role;
        list[i] = &members[i];
    }
    body.serial = r->serial;
    body.n_members = r->n;
    body.members = list;
    int status = roster_body_pack(out, &body, e);
    mem_free(list);
    mem_free(members);
    return status;
}

int roster_sign(const struct roster *r, const struct keys *k, uint8_t **body, size_t *body_len,
                uint8_t signature[SIGNATURE_BYTES], struct error *e)
{
    struct buffer out;
    *body = NULL;
    *body_len = 0;
    int status = check(r, e);
    if (status != 0)
        return status;
    buffer_init(&out, ROSTER_BYTES_MAX);
    status = pack(r, &out, e);
    if (status == 0) {
        *body = (uint8_t *)buffer_take(&out, body_len);
        crypto_sign_detached(signature, NULL, *body, *body_len, k->sign_secret);
    }
    buffer_close(&out);
    return status;
}

static int unpack(struct roster *out, const uint8_t *body, size_t body_len, struct error *e)
{
    Shoal__RosterBody *b;
    int r = roster_body_unpack(&b, body, body_len, e);
    if (r != 0)
        return r;
    out->serial = b->serial;
    out->n = b->n_members;
    out->members = mem_array(out->n + 1, sizeof(*out->members));
    for (size_t i = 0; i < out->n; i++) {
        const Shoal__Member *m = b->members[i];
        memcpy(out->members[i].key, m->key.data, KEY_BYTES);
        memcpy(out->members[i].name, m->name, strlen(m->name) + 1);
        out->members[i].role = (enum roster_role)m->role;
    }
    roster_body_free(&b);
    return check(out, e);
}

int roster_verify(struct roster *out, const uint8_t *body, size_t body_len, const uint8_t *signature,
                  size_t signature_len, const uint8_t sign_public[SIGN_PUBLIC_BYTES], uint64_t serial_min,
                  struct error *e)
{
    memset(out, 0, sizeof(*out));
    if (body_len > ROSTER_BYTES_MAX)
        return error_set(e, ERR_LIMIT, "a roster of %zu bytes; at most %d", body_len, ROSTER_BYTES_MAX);
    if (signature_len != SIGNATURE_BYTES ||
        crypto_sign_verify_detached(signature, body, body_len, sign_public) != 0)
        return error_set(e, ERR_DENIED, "the roster is not signed by this cluster's coordinator");
    int r = unpack(out, body, body_len, e);
    if (r == 0 && out->serial < serial_min)
        r = error_set(e, ERR_DENIED, "the roster is older (%llu) than the one in force (%llu)",
                      (unsigned long long)out->serial, (unsigned long long)serial_min);
    if (r != 0)
        roster_free(out);
    return r;
}
