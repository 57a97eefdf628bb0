/* invite: the one line that lets a machine join: where the coordinator is, what its keys are, and a
 * one-time secret.
 *
 * "shoal1." and base64url of: version, expiry, enrolment port, host, the
 * coordinator's CURVE public key and roster-signing public key, invite id,
 * secret, and a checksum that catches a cut or mistyped line.  A host may be
 * a name or an address.  The line is as secret as a password until it is
 * used or has expired.                                                       */
#ifndef NET_INVITE_H
#define NET_INVITE_H

#include <stdint.h>

#include "base/error.h"
#include "net/keys.h"

enum {
    INVITE_ID_BYTES = 8,
    INVITE_SECRET_BYTES = 16,
    INVITE_HOST_MAX = 256,
    INVITE_TEXT_MAX = 768,
    INVITE_PROOF_BYTES = 32,
    INVITE_NONCE_BYTES = 24,
};

struct invite {
    char host[INVITE_HOST_MAX];
    uint16_t port; /* enrolment */
    int64_t expires; /* seconds since 1970 */
    uint8_t coordinator_key[KEY_BYTES];
    uint8_t sign_public[SIGN_PUBLIC_BYTES];
    uint8_t id[INVITE_ID_BYTES];
    uint8_t secret[INVITE_SECRET_BYTES];
};

void invite_text(const struct invite *i, char text[static INVITE_TEXT_MAX]);
/* ERR_INVALID says whether the line is cut, mistyped, or of another version; surrounding blanks are fine. */
MUST_USE int invite_parse(struct invite *i, const char *text, struct error *e);
/* proof = keyed BLAKE2b-256 under secret of node key, coordinator key, nonce. */
void invite_proof(const uint8_t secret[INVITE_SECRET_BYTES], const uint8_t node_key[KEY_BYTES],
                  const uint8_t coordinator_key[KEY_BYTES], const uint8_t nonce[INVITE_NONCE_BYTES],
                  uint8_t proof[INVITE_PROOF_BYTES]);

#endif
