/* fuzz_roster: bodies of rosters under a right signature: what a coordinator that went bad could say. */
#include <sodium.h>
#include <string.h>

#include "base/memory.h"
#include "net/roster.h"
#include "tests/fuzz/fuzz.h"

/* The same pair each time, so that an input means the same each time. */
static const struct keys *coordinator(void)
{
    static const uint8_t seed[crypto_sign_SEEDBYTES] = "a fuzz target's coordinator";
    static struct keys k;
    if (!k.sign_public[0] && !k.sign_secret[0])
        FUZZ_CHECK(crypto_sign_seed_keypair(k.sign_public, k.sign_secret, seed) == 0);
    return &k;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct keys *k = coordinator();
    uint8_t signature[SIGNATURE_BYTES];
    struct roster r;
    crypto_sign_detached(signature, NULL, data, size, k->sign_secret);
    if (roster_verify(&r, data, size, signature, sizeof(signature), k->sign_public, 0, NULL) == 0) {
        FUZZ_CHECK(r.n <= ROSTER_MEMBERS_MAX);
        for (size_t i = 0; i < r.n; i++) {
            FUZZ_CHECK(r.members[i].role == ROLE_NODE || r.members[i].role == ROLE_COORDINATOR);
            FUZZ_CHECK(memchr(r.members[i].name, 0, ROSTER_NAME_MAX));
            FUZZ_CHECK(roster_find(&r, r.members[i].key) == &r.members[i]); /* no key twice */
        }
        roster_free(&r);
    }
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    struct roster_member members[] = {{{1}, "coordinator", ROLE_COORDINATOR}, {{2}, "shelf", ROLE_NODE},
                                      {{3}, "cellar", ROLE_NODE}};
    const struct roster rosters[] = {{.serial = 1}, {.serial = 9, .n = 3, .members = members}};
    for (size_t i = 0; i < COUNTOF(rosters); i++) {
        uint8_t *body, signature[SIGNATURE_BYTES];
        size_t len;
        FUZZ_CHECK(roster_sign(&rosters[i], coordinator(), &body, &len, signature, NULL) == 0);
        give(arg, body, len);
        mem_free(body);
    }
}
