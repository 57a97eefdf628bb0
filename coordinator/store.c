/* store: small statements, prepared when they are needed: enrolment and revocation are rare.
 *
 * The file is locked for as long as it is open (locking_mode EXCLUSIVE), so a
 * second coordinator on the same folder is told at its start.                */
#include "coordinator/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"

enum { STORE_VERSION = 1, STORE_APPLICATION = 0x53484C31 }; /* "SHL1" */

struct store {
    sqlite3 *db;
    char *path;
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

static int fail(const struct store *s, struct error *e)
{
    int code = sqlite3_errcode(s->db) & 0xFF;
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
        return error_set(e, ERR_CONFLICT, "another coordinator uses %s", s->path);
    return error_set(e, code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? ERR_CORRUPT : ERR_IO, "%s: %s", s->path,
                     sqlite3_errmsg(s->db));
}

static int execute(struct store *s, const char *sql, struct error *e)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(s, e);
}

/* Prepare and bind: 'b' blob and size, 't' text, 'i' int64_t. NULL when the database refuses. */
static sqlite3_stmt *prepare(struct store *s, const char *sql, const char *types, ...)
{
    sqlite3_stmt *q = NULL;
    va_list args;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK)
        return NULL;
    va_start(args, types);
    for (int i = 0; types[i]; i++) {
        if (types[i] == 'b') {
            const void *data = va_arg(args, const void *);
            sqlite3_bind_blob(q, i + 1, data, va_arg(args, int), SQLITE_TRANSIENT);
        } else if (types[i] == 't') {
            sqlite3_bind_text(q, i + 1, va_arg(args, const char *), -1, SQLITE_TRANSIENT);
        } else {
            sqlite3_bind_int64(q, i + 1, va_arg(args, sqlite3_int64));
        }
    }
    va_end(args);
    return q;
}

/* Run a prepared change to its end. */
static int finish(struct store *s, sqlite3_stmt *q, struct error *e)
{
    int code = q ? sqlite3_step(q) : SQLITE_ERROR;
    int r = code == SQLITE_DONE || code == SQLITE_ROW ? 0 : fail(s, e);
    sqlite3_finalize(q);
    return r;
}

/* The first column of the first row, or `otherwise`. */
static int64_t number(struct store *s, sqlite3_stmt *q, int64_t otherwise)
{
    (void)s;
    int64_t v = q && sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int64(q, 0) : otherwise;
    sqlite3_finalize(q);
    return v;
}

/* ---- opening ---- */

static int check_version(struct store *s, struct error *e)
{
    int64_t application = number(s, prepare(s, "PRAGMA application_id", ""), -1);
    int64_t version = number(s, prepare(s, "PRAGMA user_version", ""), -1);
    if (application == -1 || version == -1)
        return fail(s, e);
    if (application == 0 && version == 0 && number(s, prepare(s, "SELECT count(*) FROM sqlite_master", ""), 1) == 0)
        return execute(s, schema, e);
    if (application != STORE_APPLICATION)
        return error_set(e, ERR_CORRUPT, "%s was not made by a coordinator", s->path);
    if (version != STORE_VERSION)
        return error_set(e, ERR_UNSUPPORTED, "%s was made by another version of shoal (%lld, this one knows %d)",
                         s->path, (long long)version, STORE_VERSION);
    return 0;
}

static int open_locked(struct store *s, struct error *e)
{
    int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600); /* sqlite itself would make it 0644 */
    if (fd < 0)
        return error_set(e, ERR_IO, "cannot open %s: %s", s->path, strerror(errno));
    close(fd);
    if (sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return s->db ? fail(s, e) : error_set(e, ERR_MEMORY, "no memory to open %s", s->path);
    int r = execute(s, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;"
                       "PRAGMA trusted_schema = OFF; BEGIN IMMEDIATE", e);
    if (r == 0)
        r = check_version(s, e);
    return r == 0 ? execute(s, "COMMIT", e) : r;
}

int store_open(struct store **out, const char *state_dir, struct error *e)
{
    *out = NULL;
    int r = path_make_dirs(state_dir, 0700, e);
    if (r != 0)
        return r;
    struct store *s = mem_alloc(sizeof(*s));
    s->path = path_join(state_dir, "cluster.db");
    r = open_locked(s, e);
    if (r != 0) {
        store_close(&s);
        return r;
    }
    *out = s;
    return 0;
}

void store_close(struct store **store_p)
{
    struct store *s = *store_p;
    if (!s)
        return;
    sqlite3_close(s->db);
    mem_free(s->path);
    mem_free(s);
    *store_p = NULL;
}

/* ---- reading ---- */

uint64_t store_serial(struct store *s)
{
    return (uint64_t)number(s, prepare(s, "SELECT serial FROM roster", ""), 0);
}

int store_members(struct store *s, int (*each)(void *arg, const uint8_t key[KEY_BYTES], const char *name), void *arg,
                  struct error *e)
{
    sqlite3_stmt *q = prepare(s, "SELECT key, name FROM members ORDER BY place", "");
    int r = 0, code = SQLITE_ERROR;
    while (q && r == 0 && (code = sqlite3_step(q)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(q, 1);
        if (sqlite3_column_bytes(q, 0) != KEY_BYTES || !name)
            r = error_set(e, ERR_CORRUPT, "%s has a member without a key", s->path);
        else
            r = each(arg, sqlite3_column_blob(q, 0), name);
    }
    if (r == 0 && code != SQLITE_DONE)
        r = fail(s, e);
    sqlite3_finalize(q);
    return r;
}

bool store_find_invite(struct store *s, const uint8_t id[INVITE_ID_BYTES], struct store_invite *out)
{
    memset(out, 0, sizeof(*out));
    sqlite3_stmt *q = prepare(s, "SELECT secret, uses, expires FROM invites WHERE id = ?", "b", (const void *)id,
                              (int)INVITE_ID_BYTES);
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
    if (number(s, prepare(s, "SELECT count(*) FROM invites WHERE uses <= 0 OR expires < ?", "i", at), 0) > 0)
        (void)finish(s, prepare(s, "DELETE FROM invites WHERE uses <= 0 OR expires < ?", "i", at), NULL);
    return (uint32_t)number(s, prepare(s, "SELECT count(*) FROM invites WHERE uses > 0 AND expires >= ?", "i", at), 0);
}

bool store_revoked(struct store *s, const uint8_t key[KEY_BYTES])
{
    sqlite3_stmt *q = prepare(s, "SELECT count(*) FROM revoked WHERE key = ?", "b", (const void *)key, (int)KEY_BYTES);
    return number(s, q, 1) != 0; /* in doubt it is */
}

/* ---- changes ---- */

int store_add_invite(struct store *s, const struct store_invite *i, struct error *e)
{
    if (number(s, prepare(s, "SELECT count(*) FROM invites", ""), STORE_INVITES_MAX) >= STORE_INVITES_MAX)
        return error_set(e, ERR_LIMIT, "%d invites are outstanding, which is the most", STORE_INVITES_MAX);
    return finish(s, prepare(s, "INSERT INTO invites VALUES (?, ?, ?, ?)", "bbii", (const void *)i->id,
                             (int)sizeof(i->id), (const void *)i->secret, (int)sizeof(i->secret),
                             (sqlite3_int64)i->uses, (sqlite3_int64)i->expires), e);
}

static int commit(struct store *s, int r, struct error *e)
{
    if (r == 0)
        r = execute(s, "UPDATE roster SET serial = serial + 1", e);
    if (r == 0)
        r = execute(s, "COMMIT", e);
    if (r != 0)
        (void)execute(s, "ROLLBACK", NULL);
    return r;
}

int store_enrol(struct store *s, const uint8_t key[KEY_BYTES], const char *name,
                const uint8_t invite_id[INVITE_ID_BYTES], struct error *e)
{
    int r = execute(s, "BEGIN IMMEDIATE", e);
    if (r != 0)
        return r;
    r = finish(s, prepare(s, "UPDATE invites SET uses = uses - 1 WHERE id = ? AND uses > 0", "b",
                          (const void *)invite_id, (int)INVITE_ID_BYTES), e);
    if (r == 0 && sqlite3_changes(s->db) != 1)
        r = error_set(e, ERR_DENIED, "the invite is used up");
    if (r == 0)
        r = finish(s, prepare(s, "INSERT INTO members (key, name, since) VALUES (?, ?, unixepoch())", "bt",
                              (const void *)key, (int)KEY_BYTES, name), e);
    return commit(s, r, e);
}

int store_revoke(struct store *s, const uint8_t key[KEY_BYTES], const char *name, struct error *e)
{
    int r = execute(s, "BEGIN IMMEDIATE", e);
    if (r != 0)
        return r;
    r = finish(s, prepare(s, "DELETE FROM members WHERE key = ?", "b", (const void *)key, (int)KEY_BYTES), e);
    if (r == 0)
        r = finish(s, prepare(s, "INSERT OR REPLACE INTO revoked VALUES (?, ?, unixepoch())", "bt",
                              (const void *)key, (int)KEY_BYTES, name), e);
    return commit(s, r, e);
}
