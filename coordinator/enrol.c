/* enrol: look up, prove, judge: always in this order and always all of it. */
#include "coordinator/enrol.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "net/invite.h"

enum { WINDOW_MS = 60000 };

struct address {
    char text[64]; /* "": the slot is free */
    uint64_t window_ms, last_ms;
    uint32_t refusals;
};

struct enrol {
    struct store *store;
    uint8_t coordinator_key[KEY_BYTES];
    struct address addresses[ENROL_ADDRESSES_MAX];
};

struct enrol *enrol_create(struct store *s, const uint8_t coordinator_key[KEY_BYTES])
{
    struct enrol *n = mem_alloc(sizeof(*n));
    n->store = s;
    memcpy(n->coordinator_key, coordinator_key, KEY_BYTES);
    return n;
}

void enrol_destroy(struct enrol **enrol_p)
{
    mem_free(*enrol_p);
    *enrol_p = NULL;
}

/* ---- addresses ---- */

/* The slot of the address; a free one, else the one that was quiet longest, becomes its. */
static struct address *find_address(struct enrol *n, const char *text, uint64_t now_ms)
{
    struct address *quiet = &n->addresses[0];
    for (size_t i = 0; i < ENROL_ADDRESSES_MAX; i++) {
        struct address *a = &n->addresses[i];
        if (strcmp(a->text, text) == 0)
            return a;
        if (quiet->text[0] && (!a->text[0] || a->last_ms < quiet->last_ms))
            quiet = a;
    }
    memset(quiet, 0, sizeof(*quiet));
    snprintf(quiet->text, sizeof(quiet->text), "%s", text);
    quiet->window_ms = now_ms;
    return quiet;
}

static bool too_often(struct address *a, uint64_t now_ms)
{
    a->last_ms = now_ms;
    if (now_ms - a->window_ms >= WINDOW_MS) {
        a->window_ms = now_ms;
        a->refusals = 0;
    }
    return a->refusals >= ENROL_REFUSALS_A_MINUTE;
}

/* ---- requests ---- */

static int judge(struct enrol *n, const Shoal__EnrolRequest *q, const struct enrol_who *who, int64_t now_unix,
                 struct error *e)
{
    struct store_invite invite;
    uint8_t proof[INVITE_PROOF_BYTES];
    bool known = store_find_invite(n->store, q->invite_id.data, &invite);
    invite_proof(invite.secret, who->key, n->coordinator_key, q->nonce.data, proof);
    bool proved = sodium_memcmp(proof, q->proof.data, sizeof(proof)) == 0;
    bool revoked = store_revoked(n->store, who->key);
    sodium_memzero(&invite.secret, sizeof(invite.secret));
    if (!known)
        return error_set(e, ERR_DENIED, "there is no such invite");
    if (!proved)
        return error_set(e, ERR_DENIED, "the proof is wrong");
    if (invite.expires < now_unix)
        return error_set(e, ERR_DENIED, "the invite has expired");
    if (revoked)
        return error_set(e, ERR_DENIED, "the key was revoked");
    if (invite.uses == 0)
        return error_set(e, ERR_DENIED, "the invite is used up");
    return 0;
}

int enrol_check(struct enrol *n, const Shoal__EnrolRequest *q, const struct enrol_who *who, uint64_t now_ms,
                int64_t now_unix, struct error *e)
{
    struct address *a = find_address(n, who->address[0] ? who->address : "?", now_ms);
    if (too_often(a, now_ms))
        return error_set(e, ERR_DENIED, "the address was refused too often in this minute");
    int r = judge(n, q, who, now_unix, e);
    if (r != 0)
        a->refusals++;
    return r;
}

int enrol_invite(struct enrol *n, uint32_t uses, uint32_t ttl_seconds, int64_t now_unix, struct store_invite *out,
                 struct error *e)
{
    memset(out, 0, sizeof(*out));
    if (uses == 0 || uses > ENROL_USES_MAX)
        return error_set(e, ERR_INVALID, "an invite has 1 to %d uses, not %u", ENROL_USES_MAX, uses);
    if (ttl_seconds == 0 || ttl_seconds > ENROL_TTL_MAX_S)
        return error_set(e, ERR_INVALID, "an invite lives 1 second to 30 days, not %u seconds", ttl_seconds);
    randombytes_buf(out->id, sizeof(out->id));
    randombytes_buf(out->secret, sizeof(out->secret));
    out->uses = uses;
    out->expires = now_unix + ttl_seconds;
    return store_add_invite(n->store, out, e);
}
