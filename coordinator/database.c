/* database: small statements, prepared when they are needed: what is kept here changes rarely. */
#include "coordinator/database.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"

int database_fail(const struct database *d, struct error *e)
{
    int code = sqlite3_errcode(d->db) & 0xFF;
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
        return error_set(e, ERR_CONFLICT, "another coordinator uses %s", d->path);
    return error_set(e, code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? ERR_CORRUPT : ERR_IO, "%s: %s", d->path,
                     sqlite3_errmsg(d->db));
}

int database_execute(struct database *d, const char *sql, struct error *e)
{
    return sqlite3_exec(d->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : database_fail(d, e);
}

sqlite3_stmt *database_prepare(struct database *d, const char *sql, const char *types, ...)
{
    sqlite3_stmt *q = NULL;
    va_list args;
    if (sqlite3_prepare_v2(d->db, sql, -1, &q, NULL) != SQLITE_OK)
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

int database_finish(struct database *d, sqlite3_stmt *q, struct error *e)
{
    int code = q ? sqlite3_step(q) : SQLITE_ERROR;
    int r = code == SQLITE_DONE || code == SQLITE_ROW ? 0 : database_fail(d, e);
    sqlite3_finalize(q);
    return r;
}

int64_t database_number(sqlite3_stmt *q, int64_t otherwise)
{
    int64_t v = q && sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int64(q, 0) : otherwise;
    sqlite3_finalize(q);
    return v;
}

int database_begin(struct database *d, struct error *e)
{
    return database_execute(d, "BEGIN IMMEDIATE", e);
}

int database_end(struct database *d, int r, struct error *e)
{
    if (r == 0)
        r = database_execute(d, "COMMIT", e);
    if (r != 0)
        sqlite3_exec(d->db, "ROLLBACK", NULL, NULL, NULL); /* what cannot be taken back now is when it is opened next */
    return r;
}

/* ---- opening ---- */

enum { BUSY_MS = 5000 };

static int check_kind(struct database *d, const struct database_kind *kind, struct error *e)
{
    int64_t application = database_number(database_prepare(d, "PRAGMA application_id", ""), -1);
    int64_t version = database_number(database_prepare(d, "PRAGMA user_version", ""), -1);
    if (application == -1 || version == -1)
        return database_fail(d, e);
    if (application == 0 && version == 0 &&
        database_number(database_prepare(d, "SELECT count(*) FROM sqlite_master", ""), 1) == 0)
        return database_execute(d, kind->schema, e);
    if (application != kind->application)
        return error_set(e, ERR_CORRUPT, "%s was not made by a coordinator", d->path);
    if (version != kind->version)
        return error_set(e, ERR_UNSUPPORTED, "%s was made by another version of shoal (%lld, this one knows %lld)",
                         d->path, (long long)version, (long long)kind->version);
    return 0;
}

static int open_locked(struct database *d, const struct database_kind *kind, struct error *e)
{
    int fd = open(d->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600); /* sqlite itself would make it 0644 */
    if (fd < 0)
        return error_set(e, ERR_IO, "cannot open %s: %s", d->path, strerror(errno));
    close(fd);
    if (sqlite3_open_v2(d->path, &d->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return d->db ? database_fail(d, e) : error_set(e, ERR_MEMORY, "no memory to open %s", d->path);
    sqlite3_busy_timeout(d->db, kind->shared ? BUSY_MS : 0);
    int r = kind->shared ? 0 : database_execute(d, "PRAGMA locking_mode = EXCLUSIVE", e);
    if (r == 0)
        r = database_execute(d, "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA trusted_schema = OFF", e);
    if (r == 0)
        r = database_begin(d, e);
    return r == 0 ? database_end(d, check_kind(d, kind, e), e) : r;
}

int database_open(struct database *d, const char *state_dir, const struct database_kind *kind, struct error *e)
{
    *d = (struct database){0};
    int r = path_make_dirs(state_dir, 0700, e);
    if (r != 0)
        return r;
    d->path = path_join(state_dir, kind->file);
    r = open_locked(d, kind, e);
    if (r != 0)
        database_close(d);
    return r;
}

void database_close(struct database *d)
{
    sqlite3_close(d->db);
    mem_free(d->path);
    *d = (struct database){0};
}
