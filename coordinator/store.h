/* store: what a coordinator must not forget: members, invites, revoked keys, the roster's serial.
 *
 * One SQLite file in state_dir (database.h), 0600 like the keys beside it, held
 * by one coordinator at a time.  Every change is one transaction that is on the disk
 * before the call returns; what changes the roster raises its serial in the
 * same transaction.  One thread (the control actor) owns a store.            */
#ifndef COORDINATOR_STORE_H
#define COORDINATOR_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "net/invite.h"
#include "net/keys.h"

enum { STORE_INVITES_MAX = 256 };

struct store;

struct store_invite {
    uint8_t id[INVITE_ID_BYTES];
    uint8_t secret[INVITE_SECRET_BYTES];
    uint32_t uses;   /* that are left */
    int64_t expires; /* seconds since 1970 */
};

/* ERR_CONFLICT when another coordinator has it open; ERR_CORRUPT when it is no store of ours. */
MUST_USE int store_open(struct store **out, const char *state_dir, struct error *e);
void store_close(struct store **s);

uint64_t store_serial(struct store *s);
/* In the order of enrolment. A non-zero answer of `each` ends it. */
MUST_USE int store_members(struct store *s, int (*each)(void *arg, const uint8_t key[KEY_BYTES], const char *name),
                           void *arg, struct error *e);
/* ERR_LIMIT when too many invites are outstanding. */
MUST_USE int store_add_invite(struct store *s, const struct store_invite *i, struct error *e);
/* False: no such invite. One that is used up or has expired may still be found. */
bool store_find_invite(struct store *s, const uint8_t id[INVITE_ID_BYTES], struct store_invite *out);
/* How many can be used now; those that cannot are forgotten. */
uint32_t store_open_invites(struct store *s, int64_t now);
bool store_revoked(struct store *s, const uint8_t key[KEY_BYTES]);
/* The key becomes a member and the invite loses a use. ERR_DENIED when it has none left. */
MUST_USE int store_enrol(struct store *s, const uint8_t key[KEY_BYTES], const char *name,
                         const uint8_t invite_id[INVITE_ID_BYTES], struct error *e);
/* The key is no member any more and never will be again. */
MUST_USE int store_revoke(struct store *s, const uint8_t key[KEY_BYTES], const char *name, struct error *e);

#endif
