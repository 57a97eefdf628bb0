/* model_store: a walk over folders, at most three deep; the record of each says what it is. */
#include "coordinator/pull/model_store.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"

/* What stands beside a model's folder for a while; no name of a model has a '~'. */
#define COPY "~copy" /* a second name that is being made, of files that others have too: nobody may write to them */
#define OLD "~old"   /* the model that is being replaced */

/* ---- names ---- */

static bool part_ok(const char *p, size_t n)
{
    if (n == 0 || n > MODEL_STORE_PART_MAX || !isalnum((unsigned char)p[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)p[i]) && p[i] != '.' && p[i] != '_' && p[i] != '-')
            return false;
    return true;
}

int model_name_check(const char *name, struct error *e)
{
    size_t parts = 0;
    const char *p = name;
    for (;; parts++) {
        size_t n = strcspn(p, "/:");
        bool ok = part_ok(p, n) && parts < MODEL_STORE_PARTS_MAX;
        if (ok && p[n] == '\0')
            return 0;
        if (ok && p[n] == ':' && part_ok(p + n + 1, strlen(p + n + 1)))
            return 0;
        if (!ok || p[n] == ':')
            return error_set(e, ERR_INVALID, "\"%.100s\" is no model's name: NAME or NAME:TAG, of letters, digits, "
                                             "'.', '_' and '-', with at most two '/'", name);
        p += n + 1;
    }
}

char *model_store_folder(const char *name)
{
    char *dir = path_models_dir(), *folder = path_join(dir, name);
    mem_free(dir);
    return folder;
}

static char *side_folder(const char *name, const char *what)
{
    char *dir = path_models_dir();
    const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name;
    char *folder = mem_printf("%s/%.*s.%s%s.part", dir, (int)(last - name), name, last, what);
    mem_free(dir);
    return folder;
}

char *model_store_part_folder(const char *name)
{
    return side_folder(name, "");
}

/* ---- one model ---- */

void model_entry_close(struct model_entry *m)
{
    mem_free(m->folder);
    mem_free(m->path);
    json_decref(m->record);
    *m = (struct model_entry){0};
}

void model_entries_free(struct model_entry **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        model_entry_close(&(*list)[i]);
    mem_free(*list);
    *list = NULL;
}

static void copy_text(const json_t *record, const char *key, char *out, size_t room)
{
    const char *text = json_string_value(json_object_get(record, key));
    snprintf(out, room, "%s", text ? text : "");
    error_printable(out);
}

/* A name of a file in a folder, and nothing else. */
static bool is_plain(const char *name)
{
    return name && name[0] && name[0] != '.' && !strchr(name, '/');
}

static void count_bytes(struct model_entry *m)
{
    size_t i;
    json_t *file;
    json_array_foreach(json_object_get(m->record, "files"), i, file) {
        const char *name = json_string_value(json_object_get(file, "name"));
        json_int_t bytes = json_integer_value(json_object_get(file, "bytes"));
        struct stat st;
        m->bytes += bytes > 0 ? (uint64_t)bytes : 0;
        if (!is_plain(name))
            continue;
        char *path = path_join(m->folder, name);
        if (stat(path, &st) == 0)
            m->disk_bytes += (uint64_t)st.st_blocks * 512;
        mem_free(path);
    }
}

bool model_store_is_whole(const json_t *record, const char *folder)
{
    const json_t *files = json_object_get(record, "files");
    bool whole = true;
    for (size_t i = 0; whole && i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i);
        const char *name = json_string_value(json_object_get(file, "name"));
        struct stat st;
        char *path = is_plain(name) ? path_join(folder, name) : NULL;
        whole = path && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
                st.st_size == json_integer_value(json_object_get(file, "bytes"));
        mem_free(path);
    }
    return whole;
}

/* The record of the folder; anything that is no record is no model. */
static bool read_entry(struct model_entry *m, const char *name, const char *folder)
{
    char *path = path_join(folder, MODEL_STORE_RECORD), *text = NULL;
    size_t n;
    struct stat st;
    uint8_t sum[crypto_hash_sha256_BYTES];
    *m = (struct model_entry){0};
    if (stat(path, &st) == 0 && path_read(path, MODEL_STORE_RECORD_MAX, &text, &n, NULL) == 0)
        m->record = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
    const char *model = json_string_value(json_object_get(m->record, "model"));
    bool ok = json_is_object(m->record) && model && (strcmp(model, ".") == 0 || is_plain(model));
    if (ok) {
        crypto_hash_sha256(sum, (const uint8_t *)text, n);
        sodium_bin2hex(m->digest, sizeof(m->digest), sum, sizeof(sum));
        snprintf(m->name, sizeof(m->name), "%s", name);
        m->folder = mem_strdup(folder);
        m->path = strcmp(model, ".") == 0 ? mem_strdup(folder) : path_join(folder, model);
        m->modified = (int64_t)st.st_mtim.tv_sec;
        copy_text(m->record, "source", m->source, sizeof(m->source));
        copy_text(m->record, "revision", m->revision, sizeof(m->revision));
        copy_text(m->record, "format", m->format, sizeof(m->format));
        copy_text(m->record, "quant", m->quant, sizeof(m->quant));
        copy_text(m->record, "architecture", m->architecture, sizeof(m->architecture));
        json_int_t parameters = json_integer_value(json_object_get(m->record, "parameters"));
        m->parameters = parameters > 0 ? (uint64_t)parameters : 0;
        copy_text(m->record, "layers", m->layers, sizeof(m->layers));
        count_bytes(m);
    } else {
        model_entry_close(m);
    }
    mem_free(text);
    mem_free(path);
    return ok;
}

/* ---- all of them ---- */

struct walk {
    struct model_entry *list;
    size_t n;
    size_t unfinished; /* folders */
    uint64_t unfinished_bytes;
};

static uint64_t folder_bytes(const char *folder)
{
    uint64_t sum = 0;
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d));) {
        struct stat st;
        if (fstatat(dirfd(d), f->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
            sum += (uint64_t)st.st_blocks * 512;
    }
    if (d)
        closedir(d);
    return sum;
}

static void look(struct walk *w, const char *folder, const char *name, int depth)
{
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d));) {
        char *below = path_join(folder, f->d_name);
        char *whole = name[0] ? mem_printf("%s/%s", name, f->d_name) : mem_strdup(f->d_name);
        size_t n = strlen(f->d_name);
        struct model_entry m;
        if (f->d_name[0] == '.') {
            if (n > 6 && strcmp(f->d_name + n - 5, ".part") == 0) {
                w->unfinished++;
                w->unfinished_bytes += folder_bytes(below);
            }
        } else if (w->n < MODEL_STORE_MODELS_MAX && model_name_check(whole, NULL) == 0 && path_is_folder(below)) {
            if (strchr(f->d_name, ':') && read_entry(&m, whole, below)) {
                w->list = mem_resize(w->list, w->n + 1, sizeof(*w->list));
                w->list[w->n++] = m;
            } else if (!strchr(f->d_name, ':') && depth < MODEL_STORE_PARTS_MAX) {
                look(w, below, whole, depth + 1);
            }
        }
        mem_free(below);
        mem_free(whole);
    }
    if (d)
        closedir(d);
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct model_entry *)a)->name, ((const struct model_entry *)b)->name);
}

static struct walk walk_all(void)
{
    struct walk w = {0};
    char *dir = path_models_dir();
    look(&w, dir, "", 1);
    if (w.n > 0)
        qsort(w.list, w.n, sizeof(*w.list), compare_entries);
    mem_free(dir);
    return w;
}

int model_store_list(struct model_entry **out, size_t *n, struct error *e)
{
    (void)e;
    struct walk w = walk_all();
    *out = w.list;
    *n = w.n;
    return 0;
}

size_t model_store_unfinished(uint64_t *bytes)
{
    struct walk w = walk_all();
    model_entries_free(&w.list, w.n);
    *bytes = w.unfinished_bytes;
    return w.unfinished;
}

/* ---- one by its name ---- */

/* How well a model fits the name: 0 not at all; 4 it is its name; 3 its tag was said; 2 a tag that is taken for
 * granted; 1 another. */
static int fit(const struct model_entry *m, const char *name)
{
    size_t n = strcspn(name, ":"), own = strcspn(m->name, ":");
    const char *slash = memrchr(m->name, '/', own), *tag = m->name + own + 1;
    size_t short_from = slash ? (size_t)(slash + 1 - m->name) : 0;
    bool whole = n == own && strncmp(m->name, name, n) == 0;
    bool last = !memchr(name, '/', n) && n == own - short_from && strncmp(m->name + short_from, name, n) == 0;
    if (!whole && !last)
        return 0;
    if (strcmp(m->name, name) == 0)
        return 4;
    if (name[n] == ':')
        return strcasecmp(name + n + 1, tag) == 0 ? 3 : 0;
    return strcmp(tag, "latest") == 0 || strcmp(tag, "Q4_K_M") == 0 ? 2 : 1;
}

int model_store_find(struct model_entry *out, const char *name, struct error *e)
{
    struct walk w = walk_all();
    struct buffer names;
    int best = 1, r = 0;
    size_t fits = 0, chosen = 0;
    buffer_init(&names, 300);
    for (size_t i = 0; i < w.n; i++) {
        int f = fit(&w.list[i], name);
        if (f > best) {
            best = f;
            fits = 0;
        }
        if (f != best || f == 0)
            continue;
        chosen = i;
        if (fits++ < 8)
            buffer_printf(&names, "%s%s", names.len > 0 ? ", " : "", w.list[i].name);
    }
    *out = (struct model_entry){0};
    if (fits == 0)
        r = error_set(e, ERR_NOT_FOUND, "%.100s is no model of the store (shoal ls)", name);
    else if (fits > 1)
        r = error_set(e, ERR_CONFLICT, "%.100s may be several models: %s", name, buffer_text(&names));
    if (r == 0) {
        *out = w.list[chosen];
        w.list[chosen] = (struct model_entry){0};
    }
    model_entries_free(&w.list, w.n);
    buffer_close(&names);
    return r;
}

/* ---- one call at a time ---- */

static int lock_folder(int *lock, const char *folder, struct error *e)
{
    struct stat own, there;
    *lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (*lock < 0 || fstat(*lock, &own) != 0)
        return error_set(e, ERR_IO, "cannot open %s: %s", folder, strerror(errno));
    bool busy = flock(*lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; /* some systems cannot lock a folder */
    /* it may have become a model, or gone, before the lock was ours */
    if (!busy && stat(folder, &there) == 0 && own.st_dev == there.st_dev && own.st_ino == there.st_ino)
        return 0;
    return error_set(e, ERR_CONFLICT, "%s: another call is at it", folder);
}

static int begin(int *lock, const char *folder, struct error *e)
{
    *lock = -1;
    int r = path_make_dirs(folder, 0755, e);
    if (r == 0)
        r = lock_folder(lock, folder, e);
    if (r != 0 && *lock >= 0) {
        close(*lock);
        *lock = -1;
    }
    return r;
}

int model_store_begin(int *lock, const char *name, struct error *e)
{
    char *folder = model_store_part_folder(name);
    int r = begin(lock, folder, e);
    mem_free(folder);
    return r;
}

/* ---- removing ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static int remove_folder(const char *folder, uint64_t *freed, struct error *e)
{
    if (freed)
        *freed += folder_bytes(folder);
    if (path_exists(folder) && nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        return error_set(e, ERR_IO, "cannot remove %s: %s", folder, strerror(errno));
    char *parent = mem_strdup(folder), *slash, *root = path_models_dir();
    while ((slash = strrchr(parent, '/'))) { /* folders of the store that are empty now */
        *slash = 0;
        if (strlen(parent) <= strlen(root) || rmdir(parent) != 0)
            break;
    }
    mem_free(root);
    mem_free(parent);
    return 0;
}

/* *any: there was something. */
static int remove_side(const char *name, const char *what, bool *any, uint64_t *freed, struct error *e)
{
    char *folder = side_folder(name, what);
    int lock = -1, r = 0;
    if (path_exists(folder)) {
        *any = true;
        r = lock_folder(&lock, folder, e);
        if (r == 0)
            r = remove_folder(folder, freed, e);
    }
    if (lock >= 0)
        close(lock);
    mem_free(folder);
    return r;
}

int model_store_remove(const char *name, char **name_out, uint64_t *freed, struct error *e)
{
    struct model_entry m;
    *freed = 0;
    int r = model_name_check(name, e);
    if (r == 0)
        r = model_store_find(&m, name, e);
    if (r != 0 && r != ERR_NOT_FOUND)
        return r;
    static const char *const sides[] = {"", COPY, OLD};
    bool here = r == 0, any = here;
    const char *whole = here ? m.name : name;
    int went = 0;
    for (size_t i = 0; went == 0 && i < COUNTOF(sides); i++) /* first: what is being pulled stays, all of it */
        went = remove_side(whole, sides[i], &any, freed, e);
    if (went == 0 && here)
        went = remove_folder(m.folder, freed, e);
    r = any ? went : r;
    if (r == 0 && name_out)
        *name_out = mem_strdup(whole);
    model_entry_close(&m);
    return r;
}

/* ---- putting in ---- */

static void sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

/* The folder of parts gets the model's name; a folder of that name goes. */
static int put_in_place(const char *part, const char *name, struct error *e)
{
    char *folder = model_store_folder(name), *old = side_folder(name, OLD);
    int r = remove_folder(old, NULL, e);
    if (r == 0 && path_exists(folder) && rename(folder, old) != 0)
        r = error_set(e, ERR_IO, "cannot replace %s: %s", folder, strerror(errno));
    if (r == 0 && rename(part, folder) != 0)
        r = error_set(e, ERR_IO, "cannot make %s: %s", folder, strerror(errno));
    if (r == 0) {
        char *parent = mem_strdup(folder);
        *strrchr(parent, '/') = 0;
        sync_folder(folder);
        sync_folder(parent);
        mem_free(parent);
        r = remove_folder(old, NULL, e);
    }
    mem_free(old);
    mem_free(folder);
    return r;
}

static int commit(const char *part, const char *name, const json_t *record, struct error *e)
{
    char *path = path_join(part, MODEL_STORE_RECORD), *text = json_dumps(record, JSON_INDENT(2));
    int r = text ? path_write_atomic(path, text, strlen(text), 0644, e)
                 : error_set(e, ERR_INTERNAL, "the model's record is not text");
    if (r == 0)
        r = put_in_place(part, name, e);
    free(text);
    mem_free(path);
    return r;
}

int model_store_commit(const char *name, const json_t *record, struct error *e)
{
    char *part = model_store_part_folder(name);
    int r = commit(part, name, record, e);
    mem_free(part);
    return r;
}

/* ---- a second name ---- */

/* What a copy that was killed left. */
static void clear_folder(const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d));)
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0)
            (void)unlinkat(dirfd(d), f->d_name, 0);
    if (d)
        closedir(d);
}

static int link_files(const struct model_entry *m, const char *to, struct error *e)
{
    int r = 0;
    DIR *d = opendir(m->folder);
    for (struct dirent *f; r == 0 && d && (f = readdir(d));) {
        char *a = path_join(m->folder, f->d_name), *b = path_join(to, f->d_name);
        struct stat st;
        if (lstat(a, &st) == 0 && S_ISREG(st.st_mode) && link(a, b) != 0)
            r = error_set(e, ERR_IO, "cannot make %s: %s", b, strerror(errno));
        mem_free(a);
        mem_free(b);
    }
    if (d)
        closedir(d);
    if (r == 0 && !model_store_is_whole(m->record, to)) /* it may be removed at this moment */
        r = error_set(e, ERR_NOT_FOUND, "%s: not all of its files are there", m->name);
    return r;
}

int model_store_copy(const char *from, const char *to, struct error *e)
{
    struct model_entry m;
    int r = model_name_check(to, e);
    if (r == 0)
        r = model_store_find(&m, from, e);
    if (r != 0)
        return r;
    char *name = strchr(to, ':') ? mem_strdup(to) : mem_printf("%s:latest", to);
    char *part = side_folder(name, COPY), *folder = model_store_folder(name);
    int lock;
    r = begin(&lock, part, e);
    if (r == 0) {
        clear_folder(part);
        if (path_exists(folder))
            r = error_set(e, ERR_CONFLICT, "there is a model %s already", name);
        if (r == 0)
            r = link_files(&m, part, e);
        if (r == 0)
            r = commit(part, name, m.record, e);
        if (r != 0)
            (void)remove_folder(part, NULL, NULL);
        close(lock);
    }
    model_entry_close(&m);
    mem_free(name);
    mem_free(part);
    mem_free(folder);
    return r;
}
