/* keys_db: keys and their use as tables. */
#include "coordinator/api/keys_db.h"

#include <string.h>

#include "base/memory.h"
#include "coordinator/database.h"

enum { VERSION = 1, APPLICATION = 0x53484B31 }; /* "SHK1" */

struct keys_db {
    struct database d;
    int64_t seen; /* SQLite's number of what others changed */
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

static const struct database_kind kind = { "api-keys.db", schema, APPLICATION, VERSION, true };

int keys_db_open(struct keys_db **out, const char *state_dir, struct error *e)
{
    struct keys_db *k = mem_alloc(sizeof(*k));
    int r = database_open(&k->d, state_dir, &kind, e);
    if (r != 0)
        keys_db_close(&k);
    *out = k;
    return r;
}

void keys_db_close(struct keys_db **db)
{
    struct keys_db *k = *db;
    if (!k)
        return;
    database_close(&k->d);
    mem_free(k);
    *db = NULL;
}

int keys_db_ever(struct keys_db *k, bool *ever, struct error *e)
{
    int64_t n = database_number(database_prepare(&k->d, "SELECT count(*) FROM keys", ""), -1);
    *ever = n != 0;
    return n < 0 ? database_fail(&k->d, e) : 0;
}

bool keys_db_changed(struct keys_db *k)
{
    int64_t now = database_number(database_prepare(&k->d, "PRAGMA data_version", ""), -1), before = k->seen;
    k->seen = now;
    return now != before;
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
    sqlite3_stmt *q = database_prepare(&k->d, "SELECT id, name, label, hash, rate, concurrency, models, created "
                                       "FROM keys WHERE revoked IS NULL ORDER BY id", "");
    int code = SQLITE_ERROR, r = 0;
    struct keys_row row;
    while (q && r == 0 && (code = sqlite3_step(q)) == SQLITE_ROW) {
        if (read_row(q, &row))
            each(arg, &row);
        else
            r = error_set(e, ERR_CORRUPT, "%s has a key that no coordinator wrote", k->d.path);
    }
    if (r == 0 && code != SQLITE_DONE)
        r = database_fail(&k->d, e);
    sqlite3_finalize(q);
    return r;
}

int keys_db_add(struct keys_db *k, struct keys_row *row, struct error *e)
{
    sqlite3_stmt *q = database_prepare(&k->d, "INSERT INTO keys "
                                       "(name, label, hash, rate, concurrency, models, created) "
                                       "VALUES (?, ?, ?, ?, ?, ?, ?)", "ttbiiti", row->name, row->label,
                                       (const void *)row->hash, (int)KEYS_HASH_BYTES, (sqlite3_int64)row->rate,
                                       (sqlite3_int64)row->concurrency, row->models, (sqlite3_int64)row->created);
    int r = database_finish(&k->d, q, e);
    if (r != 0 && (sqlite3_errcode(k->d.db) & 0xFF) == SQLITE_CONSTRAINT)
        return error_set(e, ERR_CONFLICT, "a key of that name exists already");
    row->id = sqlite3_last_insert_rowid(k->d.db);
    return r;
}

int keys_db_revoke(struct keys_db *k, int64_t id, struct error *e)
{
    return database_finish(&k->d, database_prepare(&k->d, "UPDATE keys SET revoked = unixepoch() WHERE id = ?", "i",
                                                   (sqlite3_int64)id), e);
}

static int count_one(struct keys_db *k, const struct keys_used *more, struct error *e)
{
    sqlite3_stmt *q = database_prepare(&k->d, "INSERT INTO usage VALUES (?, ?, ?, ?, ?) "
                                       "ON CONFLICT (key, day) DO UPDATE SET requests = requests + excluded.requests, "
                                       "prompt = prompt + excluded.prompt, "
                                       "completion = completion + excluded.completion", "itiii",
                                       (sqlite3_int64)more->key, more->day, (sqlite3_int64)more->requests,
                                       (sqlite3_int64)more->prompt_tokens, (sqlite3_int64)more->completion_tokens);
    return database_finish(&k->d, q, e);
}

int keys_db_count(struct keys_db *k, const struct keys_used *more, size_t n, struct error *e)
{
    int r = n == 0 ? 0 : database_begin(&k->d, e);
    if (n == 0 || r != 0)
        return r;
    for (size_t i = 0; i < n && r == 0; i++)
        r = count_one(k, &more[i], e);
    return database_end(&k->d, r, e);
}

int keys_db_usage(struct keys_db *k, void (*each)(void *arg, const struct keys_used *used), void *arg,
                  struct error *e)
{
    sqlite3_stmt *q = database_prepare(&k->d, "SELECT name, label, day, requests, prompt, completion, keys.id "
                                       "FROM usage JOIN keys ON keys.id = usage.key ORDER BY day, keys.id", "");
    int code = SQLITE_ERROR;
    while (q && (code = sqlite3_step(q)) == SQLITE_ROW) {
        struct keys_used used = {
            .key = sqlite3_column_int64(q, 6),
            .name = text_at(q, 0),
            .label = text_at(q, 1),
            .day = text_at(q, 2),
            .requests = (uint64_t)sqlite3_column_int64(q, 3),
            .prompt_tokens = (uint64_t)sqlite3_column_int64(q, 4),
            .completion_tokens = (uint64_t)sqlite3_column_int64(q, 5),
        };
        each(arg, &used);
    }
    int r = code == SQLITE_DONE ? 0 : database_fail(&k->d, e);
    sqlite3_finalize(q);
    return r;
}
