/* disk_copy: files opened where they lie, and a bit for each chunk that was found right. */
#include "net/disk_copy.h"

#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/path.h"

struct disk_copy {
    const struct manifest *m;
    struct file_set *files;
    uint8_t *good; /* bit a chunk */
    size_t good_bytes;
    char *cache_dir, *kept; /* where the bits are kept */
    bool changed;
};

/* Where the bits for this very state of the files are kept. */
static char *path_of_state(const struct disk_copy *d)
{
    crypto_generichash_state state;
    uint8_t hash[16];
    char hex[33];
    crypto_generichash_init(&state, NULL, 0, sizeof(hash));
    crypto_generichash_update(&state, d->m->id, sizeof(d->m->id));
    for (size_t i = 0; i < d->m->n_files; i++) {
        struct stat st = {0};
        bool here = file_set_stat(d->files, i, &st);
        char *key = mem_printf("%s|%llu|%lld.%09ld|%lld.%09ld", here ? file_set_path(d->files, i) : "",
                               (unsigned long long)st.st_ino, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                               (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
        crypto_generichash_update(&state, (const uint8_t *)key, strlen(key) + 1);
        mem_free(key);
    }
    crypto_generichash_final(&state, hash, sizeof(hash));
    sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
    return mem_printf("%s/checked/%s", d->cache_dir, hex);
}

static void load_bits(struct disk_copy *d)
{
    char *bytes;
    size_t n;
    if (path_read(d->kept, d->good_bytes, &bytes, &n, NULL) != 0)
        return;
    if (n == d->good_bytes)
        memcpy(d->good, bytes, n);
    mem_free(bytes);
}

/* Bits that cannot be kept cost the next start a read of the files, nothing else; nor are they kept when the files
 * were changed meanwhile. */
static void save_bits(struct disk_copy *d)
{
    char *folder = path_join(d->cache_dir, "checked"), *now = path_of_state(d);
    if (d->changed && strcmp(now, d->kept) == 0 && path_make_dirs(folder, 0700, NULL) == 0)
        (void)!path_write_atomic(d->kept, d->good, d->good_bytes, 0600, NULL);
    mem_free(folder);
    mem_free(now);
}

static int open_files(struct disk_copy *d, const char *const *paths, struct error *e)
{
    const char **here = mem_array(d->m->n_files, sizeof(*here));
    size_t n = 0;
    for (size_t i = 0; i < d->m->n_files; i++) {
        struct stat st;
        bool right = paths[i] && stat(paths[i], &st) == 0 && S_ISREG(st.st_mode) &&
                     (uint64_t)st.st_size == d->m->files[i].bytes;
        here[i] = right ? paths[i] : NULL;
        n += right;
    }
    int r = n > 0 ? file_set_open_at(&d->files, here, d->m->files, d->m->n_files, e)
                  : error_set(e, ERR_NOT_FOUND, "no file of the model is here");
    mem_free(here);
    return r;
}

int disk_copy_open(struct disk_copy **out, const struct manifest *m, const char *const *paths, const char *cache_dir,
               struct error *e)
{
    struct disk_copy *d = mem_alloc(sizeof(*d));
    d->m = m;
    d->cache_dir = mem_strdup(cache_dir);
    d->good_bytes = (size_t)(m->n_chunks / 8 + 1);
    d->good = mem_alloc(d->good_bytes);
    int r = open_files(d, paths, e);
    if (r == 0) {
        d->kept = path_of_state(d);
        load_bits(d);
    } else {
        disk_copy_close(&d);
    }
    *out = d;
    return r;
}

void disk_copy_close(struct disk_copy **copy_p)
{
    struct disk_copy *d = *copy_p;
    if (!d)
        return;
    if (d->kept)
        save_bits(d);
    file_set_close(&d->files);
    mem_free(d->good);
    mem_free(d->kept);
    mem_free(d->cache_dir);
    mem_free(d);
    *copy_p = NULL;
}

const struct file_set *disk_copy_files(const struct disk_copy *d)
{
    return d->files;
}

static int check_chunk(struct disk_copy *d, uint64_t c, uint8_t *bytes, struct error *e)
{
    struct file_set_range r = manifest_chunk(d->m, c);
    int status = file_set_read(d->files, r.offset, bytes, (size_t)r.length, e);
    if (status == 0)
        status = manifest_check(d->m, c, bytes, (size_t)r.length, e);
    if (status == 0) {
        d->good[c / 8] |= (uint8_t)(1u << (c % 8));
        d->changed = true;
    }
    return status;
}

int disk_copy_check(struct disk_copy *d, const struct file_set_range *ranges, size_t n,
                int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    uint8_t *touched = manifest_touched(d->m, ranges, n), *bytes = mem_alloc(MANIFEST_CHUNK_BYTES);
    uint64_t done = 0, total = 0;
    int r = 0;
    for (uint64_t c = 0; c < d->m->n_chunks; c++)
        total += touched[c / 8] >> (c % 8) & 1 ? manifest_chunk(d->m, c).length : 0;
    for (uint64_t c = 0; r == 0 && c < d->m->n_chunks; c++) {
        if (!(touched[c / 8] >> (c % 8) & 1))
            continue;
        if (!(d->good[c / 8] >> (c % 8) & 1))
            r = check_chunk(d, c, bytes, e);
        done += manifest_chunk(d->m, c).length;
        if (r == 0 && progress && progress(arg, done, total) != 0)
            r = error_set(e, ERR_CANCELLED, "checking of layers was stopped");
    }
    mem_free(touched);
    mem_free(bytes);
    return r;
}

int disk_copy_check_heads(struct disk_copy *d, int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                      struct error *e)
{
    struct file_set_range *heads = mem_array(d->m->n_files, sizeof(*heads));
    size_t n = 0;
    for (size_t i = 0; i < d->m->n_files; i++)
        if (file_set_has(d->files, i))
            heads[n++] = (struct file_set_range){d->m->starts[i], d->m->files[i].head_bytes};
    int r = disk_copy_check(d, heads, n, progress, arg, e);
    mem_free(heads);
    return r;
}
