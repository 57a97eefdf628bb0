/* file_set: two stretches a file, its head and the rest, laid one after the other; a binary search finds
 * which one an offset of the run falls into.
 *
 * Invariant: starts[] rises; starts[k] is where stretch k begins: the heads of
 * files 0..n-1, then the rests of files 0..n-1; starts[2n] is the run's end.    */
#include "base/file_set.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/spans.h"

struct file {
    char *path;
    int fd; /* -1: absent */
    bool written;
    bool in_part; /* only `here` is no hole */
    struct spans here;
    char words[SPANS_WORDS_MAX + 1]; /* what was asked for */
};

struct file_set {
    struct file_set_entry *entries;
    struct file *files;
    size_t n;
    uint64_t *starts;
};

/* ---- the table ---- */

static bool name_ok(const struct file_set_entry *entry)
{
    size_t n = strnlen(entry->name, sizeof(entry->name));
    if (n == 0 || n > FILE_SET_NAME_MAX || entry->name[0] == '.')
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)entry->name[i];
        if (c < ' ' || c == 0x7F || c == '/')
            return false;
    }
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const struct file_set_entry *const *)a)->name, (*(const struct file_set_entry *const *)b)->name);
}

/* A name that two files have, or NULL. */
static const char *twice(const struct file_set_entry *entries, size_t n)
{
    const struct file_set_entry **sorted = mem_array(n, sizeof(void *));
    const char *name = NULL;
    for (size_t i = 0; i < n; i++)
        sorted[i] = &entries[i];
    qsort(sorted, n, sizeof(void *), compare_names);
    for (size_t i = 1; !name && i < n; i++)
        if (compare_names(&sorted[i - 1], &sorted[i]) == 0)
            name = sorted[i]->name;
    mem_free(sorted);
    return name;
}

int file_set_check(const struct file_set_entry *entries, size_t n, struct error *e)
{
    uint64_t left = FILE_SET_BYTES_MAX;
    if (n == 0 || n > FILE_SET_MAX)
        return error_set(e, ERR_CORRUPT, "a model of %zu files; 1 to %d can be", n, FILE_SET_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!name_ok(&entries[i]))
            return error_set(e, ERR_CORRUPT, "the name of file %zu of the model cannot be", i + 1);
        if (entries[i].head_bytes > entries[i].bytes || entries[i].bytes > left)
            return error_set(e, ERR_CORRUPT, "the sizes of the model's file %s cannot be", entries[i].name);
        left -= entries[i].bytes;
    }
    const char *name = twice(entries, n);
    return name ? error_set(e, ERR_CORRUPT, "the model has two files called %s", name) : 0;
}

/* ---- opening ---- */

static int size_is(const struct file_set *s, size_t i, struct error *e)
{
    struct stat st;
    const struct file *f = &s->files[i];
    if (fstat(f->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return error_set(e, ERR_INVALID, "%s is not a regular file", f->path);
    if ((uint64_t)st.st_size != s->entries[i].bytes)
        return error_set(e, ERR_CORRUPT, "%s has %lld bytes, not %llu", f->path, (long long)st.st_size,
                         (unsigned long long)s->entries[i].bytes);
    return 0;
}

static int open_to_read(struct file_set *s, size_t i, struct error *e)
{
    struct file *f = &s->files[i];
    if (!f->path)
        return 0;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0)
        return errno == ENOENT ? 0 : error_set(e, ERR_IO, "cannot open %s: %s", f->path, strerror(errno));
    int r = size_is(s, i, e);
    if (r == 0)
        r = spans_read(&f->here, f->words, &f->in_part, f->path, e);
    f->in_part = f->in_part && !spans_hold(&f->here, 0, s->entries[i].bytes);
    return r;
}

static int open_to_write(struct file_set *s, size_t i, struct error *e)
{
    struct stat st;
    struct file *f = &s->files[i];
    f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (f->fd < 0)
        return error_set(e, ERR_IO, "cannot open %s: %s", f->path, strerror(errno));
    if (fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size != s->entries[i].bytes &&
        ftruncate(f->fd, (off_t)s->entries[i].bytes) != 0)
        return error_set(e, ERR_IO, "cannot make room for %s: %s", f->path, strerror(errno));
    return size_is(s, i, e);
}

static struct file_set *new_set(const struct file_set_entry *entries, size_t n)
{
    struct file_set *s = mem_alloc(sizeof(*s));
    s->n = n;
    s->entries = mem_array(n, sizeof(*s->entries));
    memcpy(s->entries, entries, n * sizeof(*entries));
    s->files = mem_array(n, sizeof(*s->files));
    s->starts = mem_array(2 * n + 1, sizeof(*s->starts));
    for (size_t i = 0; i < n; i++) {
        s->files[i].fd = -1;
        s->starts[i + 1] = s->starts[i] + entries[i].head_bytes;
    }
    for (size_t i = 0; i < n; i++)
        s->starts[n + i + 1] = s->starts[n + i] + entries[i].bytes - entries[i].head_bytes;
    return s;
}

/* Of files in the folder, or at the paths. */
static int open_all(struct file_set **out, const char *folder, const char *const *paths,
                    const struct file_set_entry *entries, size_t n,
                    int (*open_one)(struct file_set *s, size_t i, struct error *e), struct error *e)
{
    *out = NULL;
    int r = file_set_check(entries, n, e);
    if (r != 0)
        return r;
    struct file_set *s = new_set(entries, n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (paths)
            s->files[i].path = paths[i] ? mem_strdup(paths[i]) : NULL;
        else
            s->files[i].path = path_join(folder, entries[i].name);
        r = open_one(s, i, e);
    }
    if (r != 0)
        file_set_close(&s);
    *out = s;
    return r;
}

int file_set_open(struct file_set **out, const char *folder, const struct file_set_entry *entries, size_t n,
                  struct error *e)
{
    return open_all(out, folder, NULL, entries, n, open_to_read, e);
}

int file_set_open_at(struct file_set **out, const char *const *paths, const struct file_set_entry *entries, size_t n,
                     struct error *e)
{
    return open_all(out, NULL, paths, entries, n, open_to_read, e);
}

int file_set_create(struct file_set **out, const char *folder, const struct file_set_entry *entries, size_t n,
                    struct error *e)
{
    return open_all(out, folder, NULL, entries, n, open_to_write, e);
}

void file_set_close(struct file_set **set_p)
{
    struct file_set *s = *set_p;
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++) {
        if (s->files[i].fd >= 0)
            close(s->files[i].fd);
        mem_free(s->files[i].path);
        spans_close(&s->files[i].here);
    }
    mem_free(s->entries);
    mem_free(s->files);
    mem_free(s->starts);
    mem_free(s);
    *set_p = NULL;
}

/* ---- facts ---- */

size_t file_set_count(const struct file_set *s)
{
    return s->n;
}

const struct file_set_entry *file_set_at(const struct file_set *s, size_t i)
{
    assert(i < s->n);
    return &s->entries[i];
}

const char *file_set_path(const struct file_set *s, size_t i)
{
    assert(i < s->n);
    return s->files[i].path;
}

bool file_set_has(const struct file_set *s, size_t i)
{
    assert(i < s->n);
    return s->files[i].fd >= 0;
}

bool file_set_stat(const struct file_set *s, size_t i, struct stat *st)
{
    return file_set_has(s, i) && fstat(s->files[i].fd, st) == 0;
}

const char *file_set_part(const struct file_set *s, size_t i)
{
    assert(i < s->n);
    return s->files[i].in_part ? s->files[i].words : NULL;
}

bool file_set_holds(const struct file_set *s, const struct file_stretch *stretch)
{
    const struct file *f = &s->files[stretch->file];
    return f->fd >= 0 && (!f->in_part || spans_hold(&f->here, stretch->offset, stretch->bytes));
}

int file_set_whole(const struct file_set *s, struct error *e)
{
    size_t absent = 0, first = 0;
    for (size_t i = s->n; i-- > 0;)
        if (s->files[i].fd < 0) {
            absent++;
            first = i;
        }
    for (size_t i = 0; absent == 0 && i < s->n; i++)
        if (s->files[i].in_part)
            return error_set(e, ERR_NOT_FOUND, "%s holds only %s, and the whole model is needed", s->files[i].path,
                             s->files[i].words);
    if (absent == 0)
        return 0;
    const char *name = s->files[first].path ? s->files[first].path : s->entries[first].name;
    if (absent == 1)
        return error_set(e, ERR_NOT_FOUND, "%s is not here, and all %zu files of the model are needed", name, s->n);
    return error_set(e, ERR_NOT_FOUND, "%s and %zu more are not here, and all %zu files of the model are needed", name,
                     absent - 1, s->n);
}

uint64_t file_set_bytes(const struct file_set *s)
{
    return s->starts[2 * s->n];
}

uint64_t file_set_head_bytes(const struct file_set *s)
{
    return s->starts[s->n];
}

uint64_t file_set_offset(const struct file_set *s, size_t file, uint64_t offset_in_file)
{
    assert(file < s->n && offset_in_file <= s->entries[file].bytes);
    uint64_t head = s->entries[file].head_bytes;
    return offset_in_file < head ? s->starts[file] + offset_in_file : s->starts[s->n + file] + offset_in_file - head;
}

/* ---- reading and writing ---- */

/* One piece of a file: the most of [offset, offset + n) that lies in one stretch. */
static struct file_stretch piece_at(const struct file_set *s, uint64_t offset, size_t n)
{
    size_t low = 0, high = 2 * s->n; /* the last stretch that begins at or before the offset: it is not empty */
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (s->starts[mid] <= offset)
            low = mid;
        else
            high = mid;
    }
    bool rest = low >= s->n;
    struct file_stretch p = {.file = rest ? low - s->n : low, .offset = offset - s->starts[low]};
    uint64_t left = s->starts[low + 1] - offset;
    p.offset += rest ? s->entries[p.file].head_bytes : 0;
    p.bytes = n < left ? n : left;
    return p;
}

static int move_piece(const struct file_set *s, const struct file_stretch *p, uint8_t *bytes, bool write,
                      struct error *e)
{
    const struct file *f = &s->files[p->file];
    if (f->fd < 0)
        return error_set(e, ERR_NOT_FOUND, "%s is not here", s->entries[p->file].name);
    if (!write && !file_set_holds(s, p))
        return error_set(e, ERR_NOT_FOUND, "%s holds only %s, and other bytes of it are needed", f->path, f->words);
    for (size_t done = 0; done < p->bytes;) {
        off_t at = (off_t)(p->offset + done);
        ssize_t n = write ? pwrite(f->fd, bytes + done, p->bytes - done, at)
                          : pread(f->fd, bytes + done, p->bytes - done, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(e, ERR_IO, "cannot %s %s: %s", write ? "write" : "read", f->path, strerror(errno));
        if (n == 0)
            return error_set(e, ERR_CORRUPT, "%s became shorter", f->path);
        done += (size_t)n;
    }
    return 0;
}

static int bounds_ok(const struct file_set *s, uint64_t offset, size_t n, struct error *e)
{
    uint64_t all = file_set_bytes(s);
    if (offset > all || n > all - offset)
        return error_set(e, ERR_INVALID, "the model's files end before byte %llu", (unsigned long long)offset + n);
    return 0;
}

int file_set_read(const struct file_set *s, uint64_t offset, void *bytes, size_t n, struct error *e)
{
    int r = bounds_ok(s, offset, n, e);
    for (size_t done = 0; r == 0 && done < n;) {
        struct file_stretch p = piece_at(s, offset + done, n - done);
        r = move_piece(s, &p, (uint8_t *)bytes + done, false, e);
        done += (size_t)p.bytes;
    }
    return r;
}

int file_set_write(struct file_set *s, uint64_t offset, const void *bytes, size_t n, struct error *e)
{
    int r = bounds_ok(s, offset, n, e);
    for (size_t done = 0; r == 0 && done < n;) {
        struct file_stretch p = piece_at(s, offset + done, n - done);
        s->files[p.file].written = true;
        r = move_piece(s, &p, (uint8_t *)(uintptr_t)bytes + done, true, e); /* which only reads them */
        done += (size_t)p.bytes;
    }
    return r;
}

int file_set_sync(struct file_set *s, struct error *e)
{
    for (size_t i = 0; i < s->n; i++) {
        struct file *f = &s->files[i];
        if (f->written && fdatasync(f->fd) != 0)
            return error_set(e, ERR_IO, "cannot write %s: %s", f->path, strerror(errno));
        f->written = false;
    }
    return 0;
}
