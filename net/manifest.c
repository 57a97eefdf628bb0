/* manifest: chunk hashes of a model's files, made once and kept, and checked against an id wherever they
 * arrive.
 *
 * Encoded: magic "SHLMANI2", u64 chunk bytes, u64 count of files; for each u16
 * length of the name, the name, u64 bytes, u64 head bytes; then 32 bytes a chunk.
 * The id is the BLAKE2b-256 of exactly those bytes, so a manifest that decodes
 * under its id is the one that was made.                                       */
#include "net/manifest.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/view.h"

enum { HASH_BYTES = 32, ENTRY_BYTES_MIN = 19 };
static const char magic[8] = "SHLMANI2";

/* ---- the table ---- */

static uint64_t chunks_of(uint64_t bytes)
{
    return bytes / MANIFEST_CHUNK_BYTES + (bytes % MANIFEST_CHUNK_BYTES != 0);
}

/* From the files, which were checked, everything that follows from them. */
static void lay_out(struct manifest *m)
{
    size_t n = m->n_files;
    m->first_chunks = mem_array(2 * n + 1, sizeof(*m->first_chunks));
    m->starts = mem_array(2 * n + 1, sizeof(*m->starts));
    for (size_t i = 0; i < 2 * n; i++) {
        const struct file_set_entry *f = &m->files[i % n];
        uint64_t bytes = i < n ? f->head_bytes : f->bytes - f->head_bytes;
        m->head_bytes += i < n ? bytes : 0;
        m->starts[i + 1] = m->starts[i] + bytes;
        m->first_chunks[i + 1] = m->first_chunks[i] + chunks_of(bytes);
    }
    m->bytes = m->starts[2 * n];
    m->n_chunks = m->first_chunks[2 * n];
}

/* The last of the 2n stretches at whose `of` the value is, or past it: it is never an empty one. */
static size_t stretch_of(const struct manifest *m, const uint64_t *of, uint64_t value)
{
    size_t low = 0, high = 2 * m->n_files;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (of[mid] <= value)
            low = mid;
        else
            high = mid;
    }
    return low;
}

struct file_set_range manifest_chunk(const struct manifest *m, uint64_t index)
{
    size_t s = stretch_of(m, m->first_chunks, index);
    uint64_t offset = m->starts[s] + (index - m->first_chunks[s]) * MANIFEST_CHUNK_BYTES;
    uint64_t left = m->starts[s + 1] - offset;
    return (struct file_set_range){offset, left < MANIFEST_CHUNK_BYTES ? left : MANIFEST_CHUNK_BYTES};
}

/* The chunk that holds a byte of the run. */
static uint64_t chunk_at(const struct manifest *m, uint64_t offset)
{
    size_t s = stretch_of(m, m->starts, offset);
    return m->first_chunks[s] + (offset - m->starts[s]) / MANIFEST_CHUNK_BYTES;
}

uint8_t *manifest_touched(const struct manifest *m, const struct file_set_range *ranges, size_t n)
{
    uint8_t *bits = mem_alloc((size_t)(m->n_chunks / 8 + 1));
    for (size_t i = 0; i < n; i++) {
        uint64_t end;
        if (ranges[i].length == 0 || __builtin_add_overflow(ranges[i].offset, ranges[i].length, &end) || end > m->bytes)
            continue;
        uint64_t last = chunk_at(m, end - 1);
        for (uint64_t c = chunk_at(m, ranges[i].offset); c <= last; c++)
            bits[c / 8] |= (uint8_t)(1u << (c % 8));
    }
    return bits;
}

/* ---- encoding ---- */

static void encode_table(const struct manifest *m, struct buffer *b)
{
    buffer_init(b, MANIFEST_TABLE_MAX);
    buffer_add(b, magic, sizeof(magic));
    buffer_u64(b, MANIFEST_CHUNK_BYTES);
    buffer_u64(b, m->n_files);
    for (size_t i = 0; i < m->n_files; i++) {
        size_t n = strlen(m->files[i].name);
        buffer_u16(b, (uint16_t)n);
        buffer_add(b, m->files[i].name, n);
        buffer_u64(b, m->files[i].bytes);
        buffer_u64(b, m->files[i].head_bytes);
    }
}

static void compute_id(const struct manifest *m, uint8_t id[MANIFEST_ID_BYTES])
{
    struct buffer table;
    crypto_generichash_state state;
    encode_table(m, &table);
    crypto_generichash_init(&state, NULL, 0, MANIFEST_ID_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)table.data, table.len);
    crypto_generichash_update(&state, m->hashes, m->n_chunks * HASH_BYTES);
    crypto_generichash_final(&state, id, MANIFEST_ID_BYTES);
    buffer_close(&table);
}

void manifest_free(struct manifest *m)
{
    mem_free(m->files);
    mem_free(m->hashes);
    mem_free(m->first_chunks);
    mem_free(m->starts);
    memset(m, 0, sizeof(*m));
}

void manifest_copy(struct manifest *out, const struct manifest *m)
{
    *out = (struct manifest){.files = mem_array(m->n_files, sizeof(*m->files)), .n_files = m->n_files};
    memcpy(out->files, m->files, m->n_files * sizeof(*m->files));
    lay_out(out);
    out->hashes = mem_array(m->n_chunks, HASH_BYTES);
    memcpy(out->hashes, m->hashes, m->n_chunks * HASH_BYTES);
    memcpy(out->id, m->id, sizeof(out->id));
}

int manifest_encode(const struct manifest *m, uint8_t **bytes, size_t *len, struct error *e)
{
    struct buffer table;
    if (m->n_chunks > MANIFEST_CHUNKS_MAX)
        return error_set(e, ERR_LIMIT, "the model has too many chunks for a manifest");
    encode_table(m, &table);
    *len = table.len + (size_t)m->n_chunks * HASH_BYTES;
    *bytes = mem_alloc(*len);
    memcpy(*bytes, table.data, table.len);
    memcpy(*bytes + table.len, m->hashes, (size_t)m->n_chunks * HASH_BYTES);
    buffer_close(&table);
    return 0;
}

static int decode_table(struct manifest *out, struct view *v, struct error *e)
{
    const void *head = view_bytes(v, sizeof(magic));
    uint64_t chunk = view_u64(v), n = view_u64(v);
    if (v->bad || memcmp(head, magic, sizeof(magic)) != 0 || chunk != MANIFEST_CHUNK_BYTES)
        return error_set(e, ERR_CORRUPT, "the manifest is of another version");
    if (n == 0 || n > FILE_SET_MAX || n > view_left(v) / ENTRY_BYTES_MIN)
        return error_set(e, ERR_CORRUPT, "the manifest's table of files cannot be");
    out->files = mem_array((size_t)n, sizeof(*out->files));
    out->n_files = (size_t)n;
    for (size_t i = 0; i < n; i++) {
        uint16_t length = view_u16(v);
        const char *name = length <= FILE_SET_NAME_MAX ? view_bytes(v, length) : NULL;
        if (!name || memchr(name, 0, length))
            return error_set(e, ERR_CORRUPT, "the name of file %zu in the manifest cannot be", i + 1);
        memcpy(out->files[i].name, name, length);
        out->files[i].bytes = view_u64(v);
        out->files[i].head_bytes = view_u64(v);
    }
    if (v->bad)
        return error_set(e, ERR_CORRUPT, "the manifest ends inside its table of files");
    return file_set_check(out->files, out->n_files, e);
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
    int r = decode_table(out, &v, e);
    if (r == 0) {
        lay_out(out);
        if (out->n_chunks > MANIFEST_CHUNKS_MAX || view_left(&v) != out->n_chunks * HASH_BYTES)
            r = error_set(e, ERR_CORRUPT, "the manifest's sizes contradict each other");
    }
    if (r != 0) {
        manifest_free(out);
        return r;
    }
    out->hashes = mem_alloc((size_t)out->n_chunks * HASH_BYTES);
    memcpy(out->hashes, v.data + v.pos, (size_t)out->n_chunks * HASH_BYTES);
    memcpy(out->id, id, MANIFEST_ID_BYTES);
    return 0;
}

int manifest_check(const struct manifest *m, uint64_t index, const void *bytes, size_t len, struct error *e)
{
    if (index >= m->n_chunks)
        return error_set(e, ERR_INVALID, "the model has no chunk %llu", (unsigned long long)index);
    uint8_t hash[HASH_BYTES];
    if (len == manifest_chunk(m, index).length) {
        crypto_generichash(hash, sizeof(hash), bytes, len, NULL, 0);
        if (memcmp(hash, m->hashes + index * HASH_BYTES, sizeof(hash)) == 0)
            return 0;
    }
    return error_set(e, ERR_CORRUPT, "chunk %llu is not what the manifest says", (unsigned long long)index);
}

/* ---- the cache ---- */

static char *kept_at(const char *cache_dir, const uint8_t *hash, size_t n)
{
    char hex[2 * MANIFEST_ID_BYTES + 1];
    sodium_bin2hex(hex, sizeof(hex), hash, n);
    return mem_printf("%s/manifests/%s", cache_dir, hex);
}

/* Where the manifest of this very state of the files is kept. */
static char *path_of_state(const struct file_set *files, const char *cache_dir)
{
    crypto_generichash_state state;
    uint8_t hash[16];
    crypto_generichash_init(&state, NULL, 0, sizeof(hash));
    crypto_generichash_update(&state, (const uint8_t *)magic, sizeof(magic));
    for (size_t i = 0; i < file_set_count(files); i++) {
        struct stat st = {0};
        const struct file_set_entry *f = file_set_at(files, i);
        (void)file_set_stat(files, i, &st);
        char *key = mem_printf("%s|%s|%llu|%llu|%lld|%lld.%09ld|%lld.%09ld", f->name, file_set_path(files, i),
                               (unsigned long long)f->bytes, (unsigned long long)f->head_bytes, (long long)st.st_ino,
                               (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec,
                               st.st_ctim.tv_nsec);
        crypto_generichash_update(&state, (const uint8_t *)key, strlen(key) + 1);
        mem_free(key);
    }
    crypto_generichash_final(&state, hash, sizeof(hash));
    return kept_at(cache_dir, hash, sizeof(hash));
}

/* What is kept at the path, under `id`, or the id that it hashes to. */
static int load(struct manifest *out, const char *path, const uint8_t *id)
{
    char *bytes;
    size_t len;
    uint8_t own[MANIFEST_ID_BYTES];
    memset(out, 0, sizeof(*out));
    int r = path_read(path, (size_t)MANIFEST_CHUNKS_MAX * HASH_BYTES + MANIFEST_TABLE_MAX, &bytes, &len, NULL);
    if (r != 0)
        return r;
    crypto_generichash(own, sizeof(own), (const uint8_t *)bytes, len, NULL, 0);
    r = manifest_decode(out, (const uint8_t *)bytes, len, id ? id : own, NULL);
    mem_free(bytes);
    return r;
}

static bool is_of(const struct manifest *m, const struct file_set *files)
{
    bool same = m->n_files == file_set_count(files);
    for (size_t i = 0; same && i < m->n_files; i++) {
        const struct file_set_entry *a = &m->files[i], *b = file_set_at(files, i);
        same = strcmp(a->name, b->name) == 0 && a->bytes == b->bytes && a->head_bytes == b->head_bytes;
    }
    return same;
}

/* A cache that cannot be written costs the next start a read of the files, or a transfer, nothing else. */
static void save(const struct manifest *m, const char *path, const char *cache_dir)
{
    char *dir = path_join(cache_dir, "manifests");
    uint8_t *bytes = NULL;
    size_t len = 0;
    if (path_make_dirs(dir, 0700, NULL) == 0 && manifest_encode(m, &bytes, &len, NULL) == 0) {
        if (path_write_atomic(path, bytes, len, 0600, NULL) != 0)
            unlink(path);
        mem_free(bytes);
    }
    mem_free(dir);
}

void manifest_keep(const struct manifest *m, const char *cache_dir)
{
    char *path = kept_at(cache_dir, m->id, sizeof(m->id));
    save(m, path, cache_dir);
    mem_free(path);
}

int manifest_find(struct manifest *out, const char *cache_dir, const uint8_t id[MANIFEST_ID_BYTES])
{
    char *path = kept_at(cache_dir, id, MANIFEST_ID_BYTES);
    int r = load(out, path, id);
    mem_free(path);
    return r;
}

/* ---- making one ---- */

static int hash_chunks(struct manifest *m, const struct file_set *files,
                       int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    uint8_t *bytes = mem_alloc(MANIFEST_CHUNK_BYTES);
    uint64_t done = 0;
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < m->n_chunks; i++) {
        struct file_set_range c = manifest_chunk(m, i);
        r = file_set_read(files, c.offset, bytes, (size_t)c.length, e);
        if (r == 0)
            crypto_generichash(m->hashes + i * HASH_BYTES, HASH_BYTES, bytes, (size_t)c.length, NULL, 0);
        done += c.length;
        if (r == 0 && progress && progress(arg, done, m->bytes) != 0)
            r = error_set(e, ERR_CANCELLED, "hashing of the model was stopped");
    }
    mem_free(bytes);
    return r;
}

static int make(struct manifest *out, const struct file_set *files,
                int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    out->n_files = file_set_count(files);
    out->files = mem_array(out->n_files, sizeof(*out->files));
    for (size_t i = 0; i < out->n_files; i++)
        out->files[i] = *file_set_at(files, i);
    lay_out(out);
    if (out->n_chunks == 0 || out->n_chunks > MANIFEST_CHUNKS_MAX)
        return error_set(e, ERR_LIMIT, "%s is too %s for a manifest", file_set_path(files, 0),
                         out->n_chunks == 0 ? "small" : "large");
    out->hashes = mem_alloc((size_t)out->n_chunks * HASH_BYTES);
    int r = hash_chunks(out, files, progress, arg, e);
    if (r == 0)
        compute_id(out, out->id);
    return r;
}

int manifest_of_files(struct manifest *out, const struct file_set *files, const char *cache_dir,
                      int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    memset(out, 0, sizeof(*out));
    int r = file_set_whole(files, e);
    if (r != 0)
        return r;
    char *path = path_of_state(files, cache_dir);
    if (load(out, path, NULL) != 0 || !is_of(out, files)) {
        manifest_free(out);
        r = make(out, files, progress, arg, e);
        if (r == 0)
            save(out, path, cache_dir);
        else
            manifest_free(out);
    }
    mem_free(path);
    return r;
}
