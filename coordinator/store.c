/* store: members, invites and revoked keys as tables. */
#include "coordinator/store.h"

#include <sodium.h>
#include <string.h>

#include "base/memory.h"
#include "coordinator/database.h"

enum { STORE_VERSION = 1, STORE_APPLICATION = 0x53484C31 }; /* "SHL1" */

struct store {
    struct database d;
};

static const char schema[] =
    "CREATE TABLE members (place INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, name TEXT NOT NULL, since INTEGER);"
    "CREATE TABLE invites (id BLOB PRIMARY KEY, secret BLOB NOT NULL, uses INTEGER NOT NULL, expires INTEGER NOT NULL);"
    "CREATE TABLE revoked (key BLOB PRIMARY KEY, name TEXT NOT NULL, since INTEGER);"
    "CREATE TABLE roster (serial INTEGER NOT NULL);"
    "INSERT INTO roster VALUES (1);"
    "PRAGMA application_id = 1397247025;"
    "PRAGMA user_version = 1;";
_Static_assert(STORE_APPLICATION == 1397247025 && STORE_VERSION == 1, "the schema says these numbers as text");

static const struct database_kind kind = {"cluster.db", schema, STORE_APPLICATION, STORE_VERSION, false};

int store_open(struct store **out, const char *state_dir, struct error *e)
{
    struct store *s = mem_alloc(sizeof(*s));
    int r = database_open(&s->d, state_dir, &kind, e);
    if (r != 0)
        store_close(&s);
    *out = s;
    return r;
}

void store_close(struct store **store_p)
{
    struct store *s = *store_p;
    if (!s)
        return;
    database_close(&s->d);
    mem_free(s);
    *store_p = NULL;
}

/* ---- reading ---- */

uint64_t store_serial(struct store *s)
{
    return (uint64_t)database_number(database_prepare(&s->d, "SELECT serial FROM roster", ""), 0);
}

int store_members(struct store *s, int (*each)(void *arg, const uint8_t key[KEY_BYTES], const char *name), void *arg,
                  struct error *e)
{
    sqlite3_stmt *q = database_prepare(&s->d, "SELECT key, name FROM members ORDER BY place", "");
    int r = 0, code = SQLITE_ERROR;
    while (q && r == 0 && (code = sqlite3_step(q)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(q, 1);
        if (sqlite3_column_bytes(q, 0) != KEY_BYTES || !name)
            r = error_set(e, ERR_CORRUPT, "%s has a member without a key", s->d.path);
        else
            r = each(arg, sqlite3_column_blob(q, 0), name);
    }
    if (r == 0 && code != SQLITE_DONE)
        r = database_fail(&s->d, e);
    sqlite3_finalize(q);
    return r;
}

bool store_find_invite(struct store *s, const uint8_t id[INVITE_ID_BYTES], struct store_invite *out)
{
    memset(out, 0, sizeof(*out));
    sqlite3_stmt *q = database_prepare(&s->d, "SELECT secret, uses, expires FROM invites WHERE id = ?", "b",
                                       (const void *)id, (int)INVITE_ID_BYTES);
    bool found = q && sqlite3_step(q) == SQLITE_ROW && sqlite3_column_bytes(q, 0) == INVITE_SECRET_BYTES;
    if (found) {
        memcpy(out->id, id, INVITE_ID_BYTES);
        memcpy(out->secret, sqlite3_column_blob(q, 0), INVITE_SECRET_BYTES);
        out->uses = (uint32_t)sqlite3_column_int64(q, 1);
        out->expires = sqlite3_column_int64(q, 2);
    }
    sqlite3_finalize(q);
    return found;
}

uint32_t store_open_invites(struct store *s, int64_t now)
{
    sqlite3_int64 at = now;
    sqlite3_stmt *q = database_prepare(&s->d, "SELECT count(*) FROM invites WHERE uses <= 0 OR expires < ?", "i", at);
    if (database_number(q, 0) > 0) {
        q = database_prepare(&s->d, "DELETE FROM invites WHERE uses <= 0 OR expires < ?", "i", at);
        int ignored = database_finish(&s->d, q, NULL); /* they open nothing; the next call tries again */
        (void)ignored;
    }
    q = database_prepare(&s->d, "SELECT count(*) FROM invites WHERE uses > 0 AND expires >= ?", "i", at);
    return (uint32_t)database_number(q, 0);
}

bool store_revoked(struct store *s, const uint8_t key[KEY_BYTES])
{
    sqlite3_stmt *q = database_prepare(&s->d, "SELECT count(*) FROM revoked WHERE key = ?", "b", (const void *)key,
                                       (int)KEY_BYTES);
    return database_number(q, 1) != 0; /* in doubt it is */
}

/* ---- changes ---- */

int store_add_invite(struct store *s, const struct store_invite *i, struct error *e)
{
    sqlite3_stmt *q = database_prepare(&s->d, "SELECT count(*) FROM invites", "");
    if (database_number(q, STORE_INVITES_MAX) >= STORE_INVITES_MAX)
        return error_set(e, ERR_LIMIT, "%d invites are outstanding, which is the most", STORE_INVITES_MAX);
    q = database_prepare(&s->d, "INSERT INTO invites VALUES (?, ?, ?, ?)", "bbii", (const void *)i->id,
                         (int)sizeof(i->id), (const void *)i->secret, (int)sizeof(i->secret), (sqlite3_int64)i->uses,
                         (sqlite3_int64)i->expires);
    return database_finish(&s->d, q, e);
}

/* Ends a change of who is in the roster. */
static int commit(struct store *s, int r, struct error *e)
{
    if (r == 0)
        r = database_execute(&s->d, "UPDATE roster SET serial = serial + 1", e);
    return database_end(&s->d, r, e);
}

int store_enrol(struct store *s, const uint8_t key[KEY_BYTES], const char *name,
                const uint8_t invite_id[INVITE_ID_BYTES], struct error *e)
{
    int r = database_begin(&s->d, e);
    if (r != 0)
        return r;
    sqlite3_stmt *q = database_prepare(&s->d, "UPDATE invites SET uses = uses - 1 WHERE id = ? AND uses > 0", "b",
                                       (const void *)invite_id, (int)INVITE_ID_BYTES);
    r = database_finish(&s->d, q, e);
    if (r == 0 && sqlite3_changes(s->d.db) != 1)
        r = error_set(e, ERR_DENIED, "the invite is used up");
    if (r == 0) {
        q = database_prepare(&s->d, "INSERT INTO members (key, name, since) VALUES (?, ?, unixepoch())", "bt",
                             (const void *)key, (int)KEY_BYTES, name);
        r = database_finish(&s->d, q, e);
    }
    return commit(s, r, e);
}

int store_revoke(struct store *s, const uint8_t key[KEY_BYTES], const char *name, struct error *e)
{
    int r = database_begin(&s->d, e);
    if (r != 0)
        return r;
    sqlite3_stmt *q = database_prepare(&s->d, "DELETE FROM members WHERE key = ?", "b", (const void *)key,
                                       (int)KEY_BYTES);
    r = database_finish(&s->d, q, e);
    if (r == 0) {
        q = database_prepare(&s->d, "INSERT OR REPLACE INTO revoked VALUES (?, ?, unixepoch())", "bt",
                             (const void *)key, (int)KEY_BYTES, name);
        r = database_finish(&s->d, q, e);
    }
    return commit(s, r, e);
}
