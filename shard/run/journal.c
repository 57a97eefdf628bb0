/* journal: appended lines; see journal.h. */
#include "shard/run/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"

enum { JOURNAL_BYTES_MAX = 64 << 20, LINE_BYTES_MAX = 64, MODE = 0644 };

struct journal {
    char *path;
    int fd;
};

struct journal_place journal_find(const char *path, const char *job)
{
    struct journal_place last = {0}, p;
    char *text;
    size_t len, n = strlen(job);
    if (path_read(path, JOURNAL_BYTES_MAX, &text, &len, NULL) != 0)
        return last;
    const char *at = len >= n && memcmp(text, job, n) == 0 ? text + n : NULL;
    for (const char *end; at && (end = strchr(at, '\n')); at = end + 1) {
        if (sscanf(at, "done %" SCNu64 " %" SCNu64, &p.tensor, &p.in_tensor) == 2)
            last = p;
    }
    mem_free(text);
    return last;
}

static char *line_of(struct journal_place p, char line[static LINE_BYTES_MAX])
{
    snprintf(line, LINE_BYTES_MAX, "done %" PRIu64 " %" PRIu64 "\n", p.tensor, p.in_tensor);
    return line;
}

/* Written anew, so that what was cut at its end is gone. */
int journal_open(struct journal **out, const char *path, const char *job, struct journal_place place, struct error *e)
{
    char line[LINE_BYTES_MAX], *text = mem_printf("%s%s", job, line_of(place, line));
    int r = path_write_atomic(path, text, strlen(text), MODE, e);
    mem_free(text);
    *out = NULL;
    if (r != 0)
        return r;
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_set(e, ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    *out = mem_alloc(sizeof(**out));
    **out = (struct journal){mem_strdup(path), fd};
    return 0;
}

int journal_add(struct journal *j, struct journal_place place, struct error *e)
{
    char line[LINE_BYTES_MAX];
    size_t n = strlen(line_of(place, line));
    ssize_t got = write(j->fd, line, n);
    if (got < 0 || (size_t)got != n)
        return error_set(e, ERR_IO, "%s: cannot be written: %s", j->path, got < 0 ? strerror(errno) : "no room");
    return 0;
}

void journal_close(struct journal **journal_p)
{
    struct journal *j = *journal_p;
    if (!j)
        return;
    close(j->fd);
    mem_free(j->path);
    mem_free(j);
    *journal_p = NULL;
}
