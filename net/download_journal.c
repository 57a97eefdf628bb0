/* download_journal: lines that are appended as bytes come.
 *
 *     shoal-journal 1 SIZE IDENTITY
 *     boot UUID
 *     have OFFSET BYTES
 *     sync
 *     checked
 *
 * A process that is killed loses nothing: the system has the bytes.  A loss of
 * power may: what was noted after the last sync counts only while the system is
 * the one that noted it, which is what its boot id says.                      */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "net/download_state.h"

enum { LINE_MAX_BYTES = 96, BOOT_MAX = 63 };

static char *path_of_journal(const char *path)
{
    return mem_printf("%s" DOWNLOAD_JOURNAL, path);
}

/* The size and what tells the file from another of its name. Caller frees. */
static char *first_line(const struct download *d)
{
    const char *identity = d->o->sha256 ? d->o->sha256 : d->place.etag;
    return mem_printf("shoal-journal 1 %" PRIu64 " %s\n", d->o->bytes, identity[0] ? identity : "-");
}

static void boot_id(char out[static BOOT_MAX + 1])
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    snprintf(out, BOOT_MAX + 1, "none");
    if (f && fscanf(f, "%63s", out) != 1)
        snprintf(out, BOOT_MAX + 1, "none");
    if (f)
        (void)fclose(f);
}

/* ---- reading ---- */

static bool is_this_boot(const char *line)
{
    char boot[BOOT_MAX + 1], noted[BOOT_MAX + 1];
    boot_id(boot);
    return sscanf(line, "boot %63s", noted) == 1 && strcmp(noted, boot) == 0 && strcmp(boot, "none") != 0;
}

static void add_lines(struct download *d, const char *text, bool *checked)
{
    struct spans fresh = {0}; /* since the last sync */
    bool same_boot = false;
    const char *end;
    for (const char *line = text; (end = strchr(line, '\n')); line = end + 1) {
        struct span s;
        bool sync = strncmp(line, "sync\n", 5) == 0;
        if (strncmp(line, "boot ", 5) == 0)
            same_boot = is_this_boot(line);
        else if (strncmp(line, "checked\n", 8) == 0)
            *checked = true;
        else if (sscanf(line, "have %" SCNu64 " %" SCNu64 "\n", &s.offset, &s.bytes) == 2 &&
                 s.offset <= d->o->bytes && s.bytes <= d->o->bytes - s.offset)
            spans_add(&fresh, s.offset, s.bytes);
        for (size_t i = 0; sync && i < fresh.n; i++)
            spans_add(&d->have, fresh.at[i].offset, fresh.at[i].bytes);
        if (sync)
            spans_close(&fresh);
    }
    for (size_t i = 0; same_boot && i < fresh.n; i++)
        spans_add(&d->have, fresh.at[i].offset, fresh.at[i].bytes);
    spans_close(&fresh);
}

void download_journal_load(struct download *d, bool *checked)
{
    char *path = path_of_journal(d->o->path), *first = first_line(d), *text = NULL;
    struct stat st;
    size_t n;
    *checked = false;
    if (stat(d->o->path, &st) == 0 && (uint64_t)st.st_size == d->o->bytes &&
        path_read(path, DOWNLOAD_JOURNAL_MAX, &text, &n, NULL) == 0 && strncmp(text, first, strlen(first)) == 0)
        add_lines(d, text + strlen(first), checked);
    *checked = *checked && spans_hold(&d->have, 0, d->o->bytes);
    mem_free(text);
    mem_free(first);
    mem_free(path);
}

/* ---- writing ---- */

int download_journal_start(struct download *d, struct error *e)
{
    char *path = path_of_journal(d->o->path), *first = first_line(d), boot[BOOT_MAX + 1];
    struct buffer b;
    download_journal_close(d);
    boot_id(boot);
    buffer_init(&b, DOWNLOAD_JOURNAL_MAX);
    buffer_printf(&b, "%s", first);
    for (size_t i = 0; i < d->have.n; i++)
        buffer_printf(&b, "have %" PRIu64 " %" PRIu64 "\n", d->have.at[i].offset, d->have.at[i].bytes);
    buffer_printf(&b, "sync\nboot %s\n", boot);
    /* what is taken over from before may not be on the disk yet */
    int r = fdatasync(d->fd) == 0 ? 0 : error_set(e, ERR_IO, "cannot write %s: %s", d->o->path, strerror(errno));
    if (r == 0)
        r = buffer_failed(&b) ? error_set(e, ERR_LIMIT, "%s: too many pieces", path)
                              : path_write_atomic(path, b.data, b.len, 0644, e);
    if (r == 0) {
        d->journal = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
        if (d->journal < 0)
            r = error_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
    }
    d->synced_ms = clock_ms();
    d->unsynced = false;
    buffer_close(&b);
    mem_free(first);
    mem_free(path);
    return r;
}

/* A line that cannot be written costs a second fetch of those bytes, nothing else. */
static void append(struct download *d, const char *line)
{
    if (d->journal >= 0 && write(d->journal, line, strlen(line)) < 0) {
        close(d->journal);
        d->journal = -1;
    }
}

void download_journal_note(struct download *d, uint64_t offset, uint64_t bytes)
{
    char line[LINE_MAX_BYTES];
    if (bytes == 0 || d->no_ranges)
        return;
    snprintf(line, sizeof(line), "have %" PRIu64 " %" PRIu64 "\n", offset, bytes);
    append(d, line);
    d->unsynced = true;
}

void download_journal_sync(struct download *d)
{
    if (d->unsynced && d->journal >= 0 && fdatasync(d->fd) == 0) {
        append(d, "sync\n");
        d->unsynced = false;
        char boot[BOOT_MAX + 1], line[LINE_MAX_BYTES];
        boot_id(boot);
        snprintf(line, sizeof(line), "boot %s\n", boot);
        append(d, line);
    }
    d->synced_ms = clock_ms();
}

void download_journal_checked(struct download *d)
{
    d->no_ranges = false; /* what came in one piece is whole now */
    download_journal_note(d, 0, d->o->bytes);
    download_journal_sync(d);
    append(d, "checked\n");
}

void download_journal_close(struct download *d)
{
    if (d->journal >= 0)
        close(d->journal);
    d->journal = -1;
}

void download_forget(const char *path)
{
    char *journal = path_of_journal(path);
    (void)unlink(journal);
    mem_free(journal);
}
