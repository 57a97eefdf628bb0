/* database: an SQLite file of the coordinator: opened, checked, and asked in small statements.
 *
 * The file is 0600 and made by us: its application id and version are looked at
 * before anything else.  It is locked for as long as it is open (a second
 * coordinator on the same folder is told at its start), unless its kind is
 * shared: then each change waits a little while for those of others.  Every change is on the disk when
 * its call returns, or when its transaction ends.  One thread at a time.     */
#ifndef COORDINATOR_DATABASE_H
#define COORDINATOR_DATABASE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct database {
    sqlite3 *db;
    char *path;
};

/* What a file of this kind is.  The schema sets application_id and user_version itself. */
struct database_kind {
    const char *file; /* its name in the state folder */
    const char *schema;
    int64_t application, version;
    bool shared; /* several processes may have it open */
};

/* ERR_CONFLICT when another coordinator has it open and it is not shared; ERR_CORRUPT when it is no file of ours. On
 * failure nothing is open. */
MUST_USE int database_open(struct database *d, const char *state_dir, const struct database_kind *kind,
                           struct error *e);
void database_close(struct database *d); /* one that is not open is fine */

/* The status and sentence of the call that failed last. */
int database_fail(const struct database *d, struct error *e);
MUST_USE int database_execute(struct database *d, const char *sql, struct error *e);
/* Prepare and bind: 'b' blob (const void *) and size (int), 't' text, 'i' sqlite3_int64. NULL when the database
 * refuses. */
sqlite3_stmt *database_prepare(struct database *d, const char *sql, const char *types, ...);
/* Run a prepared change to its end, and free it; NULL is a failure. */
MUST_USE int database_finish(struct database *d, sqlite3_stmt *q, struct error *e);
/* The first column of the first row, or `otherwise`; frees the statement. */
int64_t database_number(sqlite3_stmt *q, int64_t otherwise);

MUST_USE int database_begin(struct database *d, struct error *e);
/* Ends what began: commits when `r` is 0, else takes it back and returns `r`. */
MUST_USE int database_end(struct database *d, int r, struct error *e);

#endif
