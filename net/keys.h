/* keys: long-term keys of a process and where they lie.
 *
 * A CURVE key pair (X25519) names every node and coordinator; a coordinator
 * also has an Ed25519 pair that signs rosters.  Key files are 0600 in a 0700
 * folder, written atomically; a file that others may read is refused.  Secrets
 * are wiped by keys_wipe().                                                   */
#ifndef NET_KEYS_H
#define NET_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { KEY_BYTES = 32, KEY_TEXT_BYTES = 41, SIGN_PUBLIC_BYTES = 32, SIGN_SECRET_BYTES = 64, SIGNATURE_BYTES = 64 };

struct keys {
    uint8_t public_key[KEY_BYTES];
    uint8_t secret_key[KEY_BYTES];
    uint8_t sign_public[SIGN_PUBLIC_BYTES]; /* made for everyone, used by coordinators */
    uint8_t sign_secret[SIGN_SECRET_BYTES];
};

/* Once, before any thread: libsodium, no core dumps of secrets. */
MUST_USE int keys_init(struct error *e);
void keys_generate(struct keys *k);
/* Load `dir`/key, or create it (and the folder). ERR_CONFIG when others may read it or write to the folder. */
MUST_USE int keys_load_or_create(struct keys *k, const char *dir, struct error *e);
void keys_wipe(struct keys *k);
/* Z85 text of a public key, 40 characters. */
void keys_text(const uint8_t key[KEY_BYTES], char text[static KEY_TEXT_BYTES]);
bool keys_parse(const char *text, uint8_t key[KEY_BYTES]);
/* Short name for people and logs: first 8 hex digits of the key's hash. */
void keys_fingerprint(const uint8_t key[KEY_BYTES], char text[static 9]);

#endif
