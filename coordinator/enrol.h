/* enrol: whether a stranger's request makes it a member.
 *
 * Pure but for the store, which is given: the clock is an argument.  Every
 * refusal looks the same from outside (ENROL_REFUSAL) and takes the same work:
 * a proof is checked, in constant time, for an unknown invite as well.  The
 * true reason is for the operator's log.  An address that was refused too often
 * is refused unheard for the rest of its minute.  One thread (the control
 * actor) owns an enrol.                                                       */
#ifndef COORDINATOR_ENROL_H
#define COORDINATOR_ENROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "coordinator/store.h"
#include "net/keys.h"
#include "proto/control.h"

#define ENROL_REFUSAL "it is not valid, used up or expired"

enum enrol_limits {
    ENROL_ADDRESSES_MAX = 256,     /* remembered; the one that was quiet longest makes room */
    ENROL_REFUSALS_A_MINUTE = 10,  /* an address */
    ENROL_USES_MAX = 1000,
    ENROL_TTL_MAX_S = 30 * 24 * 3600,
};

struct enrol;

struct enrol *enrol_create(struct store *s, const uint8_t coordinator_key[KEY_BYTES]);
void enrol_destroy(struct enrol **n);

struct enrol_who {
    const uint8_t *key;  /* the connection's, authenticated */
    const char *address; /* of the peer */
    bool member;         /* it is one already: a use is not taken */
};

/* 0: the caller enrols the key with store_enrol(), unless it is a member.  ERR_DENIED with the true reason. */
MUST_USE int enrol_check(struct enrol *n, const Shoal__EnrolRequest *q, const struct enrol_who *who,
                         uint64_t now_ms, int64_t now_unix, struct error *e);
/* A new invite's id and secret, kept in the store. ERR_INVALID when uses or ttl are out of bounds. */
MUST_USE int enrol_invite(struct enrol *n, uint32_t uses, uint32_t ttl_seconds, int64_t now_unix,
                          struct store_invite *out, struct error *e);

#endif
