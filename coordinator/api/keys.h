/* keys: users' API keys: who may ask, how often, how many at once, which models, and how much they did.
 *
 * A key is "sk-shoal-" and 32 random bytes in base64url; only its BLAKE2b hash
 * is kept.  Once a key was made the API stays locked, also when all are revoked.
 * Several processes may have the same store open; what one changes the others
 * know within KEYS_WRITE_S; limits are each process's own.
 * What keys use is counted in memory and written by a thread of its own, so no
 * request waits for the disk.  Every function may be called by any thread.   */
#ifndef COORDINATOR_API_KEYS_H
#define COORDINATOR_API_KEYS_H

#include <jansson.h>

#include "coordinator/api/keys_db.h"

enum {
    KEYS_MAX = 1024,
    KEYS_WRITE_S = 2, /* between writing what was used, and looking for what others changed */
    KEYS_TEXT_BYTES = 9 + 43 + 1, /* a key, with its NUL */
};

struct keys;
struct key; /* lives while it is held */

MUST_USE int keys_open(struct keys **out, const char *state_dir, struct error *e);
void keys_close(struct keys **k); /* what was counted is written first */
bool keys_locked(struct keys *k);

/* The key that `text` is; ERR_DENIED when it is none. With `out` it is held, which counts as a request; ERR_BUSY
 * when that is over its limits: then after *retry_s seconds. */
MUST_USE int keys_take(struct keys *k, const char *text, struct key **out, uint32_t *retry_s, struct error *e);
void keys_release(struct keys *k, struct key *key);
int64_t keys_id(const struct key *key); /* never 0, nor another's later */
/* The id of the key that `text` is; 0: it is none. */
int64_t keys_whose(struct keys *k, const char *text);
bool keys_allows(const struct key *key, const char *model);
void keys_count(struct keys *k, struct key *key, uint64_t prompt_tokens, uint64_t completion_tokens);

/* Name, rate, concurrency and models of `row` count. ERR_CONFLICT: the name is taken. */
MUST_USE int keys_create(struct keys *k, const struct keys_row *row, char text[static KEYS_TEXT_BYTES],
                         struct error *e);
/* By name or label. Requests under way go on. */
MUST_USE int keys_revoke(struct keys *k, const char *who, struct error *e);
json_t *keys_list(struct keys *k);
MUST_USE int keys_usage(struct keys *k, json_t **out, struct error *e);

#endif
