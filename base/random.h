/* random: a small seeded generator (xoshiro256**, seeded through splitmix64) for sampling and
 * synthetic weights.  Reproducible across machines; never for secrets (libsodium does those). */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

struct random_state {
    uint64_t s[4];
};

void random_seed(struct random_state *r, uint64_t seed);
uint64_t random_u64(struct random_state *r);
double random_unit(struct random_state *r);   /* [0, 1), 53 bits */
float random_normal(struct random_state *r);  /* mean 0, deviation 1 */

#endif
