/* keys_db: small statements, prepared when they are needed. */
#include "coordinator/api/keys_db.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"

enum { VERSION = 1, APPLICATION = 0x53484B31 }; /* "SHK1" */

struct keys_db {
    sqlite3 *db;
    char *path;
};

static const char schema[] =
    "CREATE TABLE keys (id INTEGER PRIMARY KEY, name TEXT NOT NULL, label TEXT NOT NULL, hash BLOB NOT NULL UNIQUE,"
    " rate INTEGER NOT NULL, concurrency INTEGER NOT NULL, models TEXT NOT NULL, created INTEGER NOT NULL,"
    " revoked INTEGER);"
    "CREATE UNIQUE INDEX live_names ON keys (name) WHERE revoked IS NULL;"
    "CREATE TABLE usage (key INTEGER NOT NULL, day TEXT NOT NULL, requests INTEGER NOT NULL, prompt INTEGER NOT NULL,"
    " completion INTEGER NOT NULL, PRIMARY KEY (key, day)) WITHOUT ROWID;"
    "PRAGMA application_id = 1397246769;"
    "PRAGMA user_version = 1;";
_Static_assert(APPLICATION == 1397246769 && VERSION == 1, "the schema says these numbers as text");

static int fail(const struct keys_db *k, struct error *e)
{
    int code = sqlite3_errcode(k->db) & 0xFF;
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
        return error_set(e, ERR_CONFLICT, "another coordinator uses %s", k->path);
    if (code == SQLITE_CONSTRAINT)
        return error_set(e, ERR_CONFLICT, "a key of that name exists already");
    return error_set(e, code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? ERR_CORRUPT : ERR_IO, "%s: %s", k->path,
                     sqlite3_errmsg(k->db));
}

static int execute(struct keys_db *k, const char *sql, struct error *e)
{
    return sqlite3_exec(k->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(k, e);
}

static int prepare(struct keys_db *k, sqlite3_stmt **q, const char *sql, struct error *e)
{
    return sqlite3_prepare_v2(k->db, sql, -1, q, NULL) == SQLITE_OK ? 0 : fail(k, e);
}

/* Run a prepared change to its end. */
static int finish(struct keys_db *k, sqlite3_stmt *q, struct error *e)
{
    int r = sqlite3_step(q) == SQLITE_DONE ? 0 : fail(k, e);
    sqlite3_finalize(q);
    return r;
}

static int number(struct keys_db *k, const char *sql, int64_t *out, struct error *e)
{
    sqlite3_stmt *q;
    int r = prepare(k, &q, sql, e);
    if (r != 0)
        return r;
    if (sqlite3_step(q) == SQLITE_ROW)
        *out = sqlite3_column_int64(q, 0);
    else
        r = fail(k, e);
    sqlite3_finalize(q);
    return r;
}

static int check_version(struct keys_db *k, struct error *e)
{
    int64_t application = 0, version = 0, tables = 0;
    int r = number(k, "PRAGMA application_id", &application, e);
    if (r == 0)
        r = number(k, "PRAGMA user_version", &version, e);
    if (r == 0)
        r = number(k, "SELECT count(*) FROM sqlite_master", &tables, e);
    if (r != 0)
        return r;
    if (application == 0 && version == 0 && tables == 0)
        return execute(k, schema, e);
    if (application != APPLICATION)
        return error_set(e, ERR_CORRUPT, "%s was not made by a coordinator", k->path);
    if (version != VERSION)
        return error_set(e, ERR_UNSUPPORTED, "%s was made by another version of shoal (%lld, this one knows %d)",
                         k->path, (long long)version, VERSION);
    return 0;
}

static int open_locked(struct keys_db *k, struct error *e)
{
    int fd = open(k->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600); /* sqlite itself would make it 0644 */
    if (fd < 0)
        return error_set(e, ERR_IO, "cannot open %s: %s", k->path, strerror(errno));
    close(fd);
    if (sqlite3_open_v2(k->path, &k->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return k->db ? fail(k, e) : error_set(e, ERR_MEMORY, "no memory to open %s", k->path);
    int r = execute(k, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;"
                       "BEGIN IMMEDIATE", e);
    if (r == 0)
        r = check_version(k, e);
    return r == 0 ? execute(k, "COMMIT", e) : r;
}

int keys_db_open(struct keys_db **out, const char *state_dir, struct error *e)
{
    int r = path_make_dirs(state_dir, 0700, e);
    if (r != 0)
        return r;
    struct keys_db *k = mem_alloc(sizeof(*k));
    k->path = path_join(state_dir, "api-keys.db");
    r = open_locked(k, e);
    if (r != 0)
        keys_db_close(&k);
    else
        *out = k;
    return r;
}

void keys_db_close(struct keys_db **db)
{
    struct keys_db *k = *db;
    if (!k)
        return;
    sqlite3_close(k->db);
    mem_free(k->path);
    mem_free(k);
    *db = NULL;
}

int keys_db_ever(struct keys_db *k, bool *ever, struct error *e)
{
    int64_t n = 0;
    int r = number(k, "SELECT count(*) FROM keys", &n, e);
    *ever = n != 0;
    return r;
}

bool keys_name_ok(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen(name);
    return n > 0 && n <= KEYS_NAME_MAX && strspn(name, allowed) == n && name[0] != '-' &&
           strncmp(name, "sk-shoal-", 9) != 0;
}

static const char *text_at(sqlite3_stmt *q, int column)
{
    const char *text = (const char *)sqlite3_column_text(q, column);
    return text ? text : "";
}

/* What was written by hand must not open a door wider than its writer could have. */
static bool read_row(sqlite3_stmt *q, struct keys_row *row)
{
    int64_t rate = sqlite3_column_int64(q, 4), concurrency = sqlite3_column_int64(q, 5);
    *row = (struct keys_row){
        .id = sqlite3_column_int64(q, 0),
        .name = text_at(q, 1),
        .label = text_at(q, 2),
        .hash = sqlite3_column_blob(q, 3),
        .models = text_at(q, 6),
        .created = sqlite3_column_int64(q, 7),
    };
    size_t n = strlen(row->models);
    bool whole = n == 0 || row->models[n - 1] == '\n';
    if (sqlite3_column_bytes(q, 3) != KEYS_HASH_BYTES || rate < 0 || rate > KEYS_RATE_MAX || concurrency < 0 ||
        concurrency > KEYS_CONCURRENCY_MAX || !keys_name_ok(row->name) || strlen(row->label) >= KEYS_LABEL_BYTES ||
        n > KEYS_MODELS_MAX || !whole || (size_t)sqlite3_column_bytes(q, 6) != n)
        return false;
    row->rate = (uint32_t)rate;
    row->concurrency = (uint32_t)concurrency;
    return true;
}

int keys_db_load(struct keys_db *k, void (*each)(void *arg, const struct keys_row *row), void *arg, struct error *e)
{
    sqlite3_stmt *q;
    int code = SQLITE_DONE, r = prepare(k, &q, "SELECT id, name, label, hash, rate, concurrency, models, created "
                                        "FROM keys WHERE revoked IS NULL ORDER BY id", e);
    if (r != 0)
        return r;
    struct keys_row row;
    while (r == 0 && (code = sqlite3_step(q)) == SQLITE_ROW) {
        if (read_row(q, &row))
            each(arg, &row);
        else
            r = error_set(e, ERR_CORRUPT, "%s has a key that no coordinator wrote", k->path);
    }
    if (r == 0 && code != SQLITE_DONE)
        r = fail(k, e);
    sqlite3_finalize(q);
    return r;
}

int keys_db_add(struct keys_db *k, struct keys_row *row, struct error *e)
{
    sqlite3_stmt *q;
    int r = prepare(k, &q, "INSERT INTO keys (name, label, hash, rate, concurrency, models, created) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)", e);
    if (r != 0)
        return r;
    sqlite3_bind_text(q, 1, row->name, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(q, 2, row->label, -1, SQLITE_TRANSIENT);
    sqlite3_bind_blob(q, 3, row->hash, KEYS_HASH_BYTES, SQLITE_TRANSIENT);
    sqlite3_bind_int64(q, 4, row->rate);
    sqlite3_bind_int64(q, 5, row->concurrency);
    sqlite3_bind_text(q, 6, row->models, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(q, 7, row->created);
    r = finish(k, q, e);
    row->id = sqlite3_last_insert_rowid(k->db);
    return r;
}

int keys_db_revoke(struct keys_db *k, int64_t id, struct error *e)
{
    sqlite3_stmt *q;
    int r = prepare(k, &q, "UPDATE keys SET revoked = unixepoch() WHERE id = ?", e);
    if (r != 0)
        return r;
    sqlite3_bind_int64(q, 1, id);
    return finish(k, q, e);
}

int keys_db_count(struct keys_db *k, int64_t id, const struct keys_used *more, struct error *e)
{
    sqlite3_stmt *q;
    int r = prepare(k, &q, "INSERT INTO usage VALUES (?, ?, ?, ?, ?) ON CONFLICT (key, day) DO UPDATE SET "
                    "requests = requests + excluded.requests, prompt = prompt + excluded.prompt, "
                    "completion = completion + excluded.completion", e);
    if (r != 0)
        return r;
    sqlite3_bind_int64(q, 1, id);
    sqlite3_bind_text(q, 2, more->day, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(q, 3, (int64_t)more->requests);
    sqlite3_bind_int64(q, 4, (int64_t)more->prompt_tokens);
    sqlite3_bind_int64(q, 5, (int64_t)more->completion_tokens);
    return finish(k, q, e);
}

int keys_db_usage(struct keys_db *k, void (*each)(void *arg, const struct keys_used *used), void *arg,
                  struct error *e)
{
    sqlite3_stmt *q;
    int code, r = prepare(k, &q, "SELECT name, label, day, requests, prompt, completion FROM usage "
                          "JOIN keys ON keys.id = usage.key ORDER BY day, keys.id", e);
    if (r != 0)
        return r;
    while ((code = sqlite3_step(q)) == SQLITE_ROW) {
        struct keys_used used = {
            .name = text_at(q, 0),
            .label = text_at(q, 1),
            .day = text_at(q, 2),
            .requests = (uint64_t)sqlite3_column_int64(q, 3),
            .prompt_tokens = (uint64_t)sqlite3_column_int64(q, 4),
            .completion_tokens = (uint64_t)sqlite3_column_int64(q, 5),
        };
        each(arg, &used);
    }
    if (code != SQLITE_DONE)
        r = fail(k, e);
    sqlite3_finalize(q);
    return r;
}
