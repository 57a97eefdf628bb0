/* keys_db: API keys (their hashes) and what they used, in state_dir/api-keys.db.  Not for other folders.
 *
 * Several processes may have it open.  Every change is on the disk when the call
 * returns.  One thread at a time.                                            */
#ifndef COORDINATOR_API_KEYS_DB_H
#define COORDINATOR_API_KEYS_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum keys_limits {
    KEYS_HASH_BYTES = 32,
    KEYS_LABEL_BYTES = 9 + 6 + 1, /* "sk-shoal-" and six characters: tells keys apart, opens nothing */
    KEYS_NAME_MAX = 64,
    KEYS_MODELS_MAX = 4096,
    KEYS_RATE_MAX = 1000000,
    KEYS_CONCURRENCY_MAX = 100000,
};

struct keys_row {
    int64_t id;
    const char *name, *label;
    const uint8_t *hash; /* [KEYS_HASH_BYTES] */
    uint32_t rate, concurrency; /* requests a minute, at once; 0: no limit */
    const char *models;  /* ids, each ended by '\n'; "": all */
    int64_t created;
};

struct keys_used {
    int64_t key; /* its id */
    const char *name, *label, *day; /* "2026-01-31", UTC */
    uint64_t requests, prompt_tokens, completion_tokens;
};

struct keys_db;

/* ERR_CORRUPT when it is no store of keys: nothing is opened to anybody then. */
MUST_USE int keys_db_open(struct keys_db **out, const char *state_dir, struct error *e);
void keys_db_close(struct keys_db **db);
/* True when a key was ever made. */
MUST_USE int keys_db_ever(struct keys_db *db, bool *ever, struct error *e);
/* Whether another process has changed something since the last call, or the first. */
bool keys_db_changed(struct keys_db *db);
/* Keys that are not revoked; checked. */
MUST_USE int keys_db_load(struct keys_db *db, void (*each)(void *arg, const struct keys_row *row), void *arg,
                          struct error *e);
MUST_USE int keys_db_add(struct keys_db *db, struct keys_row *row, struct error *e); /* sets row->id */
MUST_USE int keys_db_revoke(struct keys_db *db, int64_t id, struct error *e);
/* Key, day and numbers of all n count, in one transaction. */
MUST_USE int keys_db_count(struct keys_db *db, const struct keys_used *more, size_t n, struct error *e);
MUST_USE int keys_db_usage(struct keys_db *db, void (*each)(void *arg, const struct keys_used *used), void *arg,
                           struct error *e);
/* Letters, digits, '.', '_' and '-': safe in a terminal, a log and a shell; not like a key. */
bool keys_name_ok(const char *name);

#endif
