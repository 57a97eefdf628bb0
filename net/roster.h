/* roster: the coordinator's signed list of keys that are members now.
 *
 * The coordinator builds and signs one at every change; nodes verify the
 * signature with the key from their invite, refuse an older serial, and accept
 * data links only from the keys it holds.  A roster is a value: created,
 * read, replaced.                                                            */
#ifndef NET_ROSTER_H
#define NET_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/keys.h"

enum { ROSTER_MEMBERS_MAX = 1024, ROSTER_NAME_MAX = 64, ROSTER_BYTES_MAX = 160 << 10 };
enum roster_role { ROLE_NODE = 1, ROLE_COORDINATOR = 2 };

struct roster_member {
    uint8_t key[KEY_BYTES];
    char name[ROSTER_NAME_MAX];
    enum roster_role role;
};

struct roster {
    uint64_t serial;
    size_t n;
    struct roster_member *members;
};

void roster_free(struct roster *r);
const struct roster_member *roster_find(const struct roster *r, const uint8_t key[KEY_BYTES]);
/* body and signature as they travel (control.proto Roster). Caller frees *body with mem_free. */
MUST_USE int roster_sign(const struct roster *r, const struct keys *k, uint8_t **body, size_t *body_len,
                         uint8_t signature[SIGNATURE_BYTES], struct error *e);
/* ERR_DENIED on a bad signature or a serial below serial_min. */
MUST_USE int roster_verify(struct roster *out, const uint8_t *body, size_t body_len, const uint8_t *signature,
                           size_t signature_len, const uint8_t sign_public[SIGN_PUBLIC_BYTES], uint64_t serial_min,
                           struct error *e);

#endif
