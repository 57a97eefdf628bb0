/* manifest: chunk hashes of a file, made once and kept, and checked against an id wherever they arrive.
 *
 * Encoded: magic "SHLMANI1", u64 file bytes, u64 header bytes, u64 chunk bytes,
 * then 32 bytes a chunk.  The id is the BLAKE2b-256 of exactly those bytes, so
 * a manifest that decodes under its id is the one that was made.             */
#include "net/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/view.h"

enum { HASH_BYTES = 32, PREFIX_BYTES = 32 };
static const char magic[8] = "SHLMANI1";

static void encode_prefix(const struct manifest *m, uint8_t prefix[PREFIX_BYTES])
{
    uint64_t v[3] = {m->file_bytes, m->header_bytes, MANIFEST_CHUNK_BYTES};
    memcpy(prefix, magic, sizeof(magic));
    for (size_t i = 0; i < 3; i++) {
        for (size_t b = 0; b < 8; b++)
            prefix[8 + i * 8 + b] = (uint8_t)(v[i] >> (8 * b));
    }
}

static void compute_id(const struct manifest *m, uint8_t id[MANIFEST_ID_BYTES])
{
    uint8_t prefix[PREFIX_BYTES];
    crypto_generichash_state state;
    encode_prefix(m, prefix);
    crypto_generichash_init(&state, NULL, 0, MANIFEST_ID_BYTES);
    crypto_generichash_update(&state, prefix, sizeof(prefix));
    crypto_generichash_update(&state, m->hashes, m->n_chunks * HASH_BYTES);
    crypto_generichash_final(&state, id, MANIFEST_ID_BYTES);
}

static uint64_t chunks_of(uint64_t file_bytes)
{
    return file_bytes / MANIFEST_CHUNK_BYTES + (file_bytes % MANIFEST_CHUNK_BYTES != 0);
}

void manifest_free(struct manifest *m)
{
    mem_free(m->hashes);
    memset(m, 0, sizeof(*m));
}

int manifest_encode(const struct manifest *m, uint8_t **bytes, size_t *len, struct error *e)
{
    size_t n;
    if (!mem_mul(m->n_chunks, HASH_BYTES, &n) || m->n_chunks > MANIFEST_CHUNKS_MAX)
        return error_set(e, ERR_LIMIT, "the file has too many chunks for a manifest");
    *len = PREFIX_BYTES + n;
    *bytes = mem_alloc(*len);
    encode_prefix(m, *bytes);
    memcpy(*bytes + PREFIX_BYTES, m->hashes, n);
    return 0;
}

int manifest_decode(struct manifest *out, const uint8_t *bytes, size_t len, const uint8_t id[MANIFEST_ID_BYTES],
                    struct error *e)
{
    memset(out, 0, sizeof(*out));
    uint8_t got[MANIFEST_ID_BYTES];
    crypto_generichash(got, sizeof(got), bytes, len, NULL, 0);
    if (sodium_memcmp(got, id, sizeof(got)) != 0)
        return error_set(e, ERR_CORRUPT, "the manifest does not hash to the model's id");
    struct view v = view_of(bytes, len);
    const void *head = view_bytes(&v, sizeof(magic));
    out->file_bytes = view_u64(&v);
    out->header_bytes = view_u64(&v);
    uint64_t chunk = view_u64(&v);
    out->n_chunks = chunks_of(out->file_bytes);
    if (v.bad || memcmp(head, magic, sizeof(magic)) != 0 || chunk != MANIFEST_CHUNK_BYTES)
        return error_set(e, ERR_CORRUPT, "the manifest is of another version");
    if (out->n_chunks > MANIFEST_CHUNKS_MAX || out->header_bytes > out->file_bytes ||
        view_left(&v) != out->n_chunks * HASH_BYTES)
        return error_set(e, ERR_CORRUPT, "the manifest's sizes contradict each other");
    out->hashes = mem_alloc(out->n_chunks * HASH_BYTES);
    memcpy(out->hashes, v.data + v.pos, out->n_chunks * HASH_BYTES);
    memcpy(out->id, id, MANIFEST_ID_BYTES);
    return 0;
}

int manifest_check(const struct manifest *m, uint64_t index, const void *bytes, size_t len, struct error *e)
{
    if (index >= m->n_chunks)
        return error_set(e, ERR_INVALID, "the file has no chunk %llu", (unsigned long long)index);
    uint64_t left = m->file_bytes - index * MANIFEST_CHUNK_BYTES;
    uint64_t want = left < MANIFEST_CHUNK_BYTES ? left : MANIFEST_CHUNK_BYTES;
    uint8_t hash[HASH_BYTES];
    if (len == want) {
        crypto_generichash(hash, sizeof(hash), bytes, len, NULL, 0);
        if (memcmp(hash, m->hashes + index * HASH_BYTES, sizeof(hash)) == 0)
            return 0;
    }
    return error_set(e, ERR_CORRUPT, "chunk %llu is not what the manifest says", (unsigned long long)index);
}

/* Where the manifest of this very state of the file is kept. */
static char *cached_path(const char *path, const struct stat *st, uint64_t header_bytes, const char *cache_dir)
{
    char *key = mem_printf("%s|%lld|%lld|%lld.%09ld|%llu", path, (long long)st->st_size, (long long)st->st_ino,
                           (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (unsigned long long)header_bytes);
    uint8_t hash[16];
    char hex[33];
    crypto_generichash(hash, sizeof(hash), (const uint8_t *)key, strlen(key), NULL, 0);
    sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
    mem_free(key);
    return mem_printf("%s/manifests/%s", cache_dir, hex);
}

static bool load_cached(struct manifest *out, const char *cached, uint64_t file_bytes)
{
    char *bytes;
    size_t len;
    uint8_t id[MANIFEST_ID_BYTES];
    if (path_read(cached, (size_t)MANIFEST_CHUNKS_MAX * HASH_BYTES + PREFIX_BYTES, &bytes, &len, NULL) != 0)
        return false;
    crypto_generichash(id, sizeof(id), (const uint8_t *)bytes, len, NULL, 0);
    int r = manifest_decode(out, (const uint8_t *)bytes, len, id, NULL);
    mem_free(bytes);
    if (r == 0 && out->file_bytes == file_bytes)
        return true;
    manifest_free(out);
    return false;
}

/* Reads exactly n bytes at the offset. */
static int read_at(int fd, void *to, size_t n, uint64_t offset, const char *path, struct error *e)
{
    char *p = to;
    while (n > 0) {
        ssize_t got = pread(fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(e, ERR_IO, "cannot read %s: %s", path, strerror(errno));
        if (got == 0)
            return error_set(e, ERR_CORRUPT, "%s became shorter while it was read", path);
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

static int hash_chunks(struct manifest *m, int fd, const char *path,
                       int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    uint8_t *chunk = mem_alloc(MANIFEST_CHUNK_BYTES);
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < m->n_chunks; i++) {
        uint64_t offset = i * MANIFEST_CHUNK_BYTES;
        uint64_t left = m->file_bytes - offset;
        size_t n = left < MANIFEST_CHUNK_BYTES ? (size_t)left : MANIFEST_CHUNK_BYTES;
        r = read_at(fd, chunk, n, offset, path, e);
        if (r == 0)
            crypto_generichash(m->hashes + i * HASH_BYTES, HASH_BYTES, chunk, n, NULL, 0);
        if (r == 0 && progress && progress(arg, offset + n, m->file_bytes) != 0)
            r = error_set(e, ERR_CANCELLED, "hashing of %s was stopped", path);
    }
    mem_free(chunk);
    return r;
}

static void save_cached(const struct manifest *m, const char *cached, const char *cache_dir)
{
    char *dir = path_join(cache_dir, "manifests");
    uint8_t *bytes;
    size_t len;
    /* A cache that cannot be written costs the next start a read of the file, nothing else. */
    if (path_make_dirs(dir, 0700, NULL) == 0 && manifest_encode(m, &bytes, &len, NULL) == 0) {
        if (path_write_atomic(cached, bytes, len, 0600, NULL) != 0)
            unlink(cached);
        mem_free(bytes);
    }
    mem_free(dir);
}

int manifest_of_file(struct manifest *out, const char *path, uint64_t header_bytes, const char *cache_dir,
                     int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    memset(out, 0, sizeof(*out));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0) {
        if (fd >= 0)
            close(fd);
        return error_set(e, ERR_IO, "cannot read %s as a model file", path);
    }
    char *cached = cached_path(path, &st, header_bytes, cache_dir);
    int r = 0;
    if (!load_cached(out, cached, (uint64_t)st.st_size)) {
        out->file_bytes = (uint64_t)st.st_size;
        out->header_bytes = header_bytes;
        out->n_chunks = chunks_of(out->file_bytes);
        if (out->n_chunks > MANIFEST_CHUNKS_MAX || header_bytes > out->file_bytes) {
            r = error_set(e, ERR_LIMIT, "%s is too large for a manifest", path);
        } else {
            out->hashes = mem_alloc(out->n_chunks * HASH_BYTES);
            r = hash_chunks(out, fd, path, progress, arg, e);
        }
        if (r == 0) {
            compute_id(out, out->id);
            save_cached(out, cached, cache_dir);
        } else {
            manifest_free(out);
        }
    }
    mem_free(cached);
    close(fd);
    return r;
}
