/* gguf_writer: the header is gathered in memory, the tensors are streamed behind it. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "shard/format/gguf_file.h"

enum { VERSION = 3, ALIGNMENT = 32, HEADER_BYTES_MAX = 512 << 20, MODE = 0644, COMPARED_BYTES = 16 << 10 };

static const char suffix[] = ".part";

struct gguf_writer {
    char *path, *temporary;
    int fd;
    bool keep;                 /* the temporary file outlives the writer */
    bool same;                 /* ... and began with the same header already */
    struct buffer values, infos;
    uint64_t n_values, n_tensors, next_offset;
    uint64_t *tensor_bytes;    /* of each tensor, without padding */
    uint64_t header_bytes;
    uint64_t tensor, in_tensor; /* where the data stands */
};

static struct gguf_writer *make_writer(const char *path, char *temporary)
{
    struct gguf_writer *w = mem_alloc(sizeof(*w));
    w->path = mem_strdup(path);
    w->temporary = temporary;
    buffer_init(&w->values, HEADER_BYTES_MAX);
    buffer_init(&w->infos, HEADER_BYTES_MAX);
    return w;
}

/* The superuser could put the file in the place of a device, and nobody can put it in that of a folder: said before the
 * work, not after it. */
static int check_place(const char *path, struct error *e)
{
    struct stat st;
    if (lstat(path, &st) != 0 || S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
        return 0;
    return error_set(e, ERR_INVALID, "%s: is not a regular file", path);
}

int gguf_writer_create(struct gguf_writer **out, const char *path, struct error *e)
{
    *out = NULL;
    int r = check_place(path, e);
    if (r != 0)
        return r;
    struct gguf_writer *w = make_writer(path, mem_printf("%s.XXXXXX%s", path, suffix));
    w->fd = mkostemps(w->temporary, (int)strlen(suffix), O_CLOEXEC);
    if (w->fd < 0 || fchmod(w->fd, MODE) != 0) {
        r = error_set(e, ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
        gguf_writer_abort(&w);
    }
    *out = w;
    return r;
}

/* Alone with the file, and the name is still this file's: another writer may have finished and renamed it. */
static int lock_part(const struct gguf_writer *w, struct error *e)
{
    struct stat open_one, named;
    if (flock(w->fd, LOCK_EX | LOCK_NB) != 0 || fstat(w->fd, &open_one) != 0 || stat(w->temporary, &named) != 0 ||
        open_one.st_ino != named.st_ino || open_one.st_dev != named.st_dev)
        return error_set(e, ERR_CONFLICT, "%s: another process is writing it", w->temporary);
    if (!S_ISREG(open_one.st_mode))
        return error_set(e, ERR_INVALID, "%s: is not a regular file", w->temporary);
    return 0;
}

int gguf_writer_create_part(struct gguf_writer **out, const char *path, const char *part, struct error *e)
{
    *out = NULL;
    int r = check_place(path, e);
    if (r != 0)
        return r;
    struct gguf_writer *w = make_writer(path, mem_strdup(part));
    w->keep = true;
    w->fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, MODE);
    r = w->fd < 0 ? error_set(e, ERR_IO, "%s: cannot be written: %s", part, strerror(errno)) : lock_part(w, e);
    if (r != 0)
        gguf_writer_abort(&w);
    *out = w;
    return r;
}

struct gguf_writer *gguf_writer_memory(const char *path)
{
    struct gguf_writer *w = make_writer(path, NULL);
    w->fd = -1;
    return w;
}

static void add_string(struct buffer *b, const char *s, size_t n)
{
    buffer_u64(b, n);
    buffer_add(b, s, n);
}

static void add_key(struct gguf_writer *w, const char *key, enum gguf_type type)
{
    add_string(&w->values, key, strlen(key));
    buffer_u32(&w->values, type);
    w->n_values++;
}

static void add_array(struct gguf_writer *w, const char *key, enum gguf_type element, size_t n)
{
    add_key(w, key, GGUF_ARRAY);
    buffer_u32(&w->values, element);
    buffer_u64(&w->values, n);
}

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    add_key(w, key, GGUF_U32);
    buffer_u32(&w->values, v);
}

void gguf_writer_f32(struct gguf_writer *w, const char *key, float v)
{
    add_key(w, key, GGUF_F32);
    buffer_f32(&w->values, v);
}

void gguf_writer_bool(struct gguf_writer *w, const char *key, bool v)
{
    add_key(w, key, GGUF_BOOL);
    buffer_u8(&w->values, v);
}

void gguf_writer_string(struct gguf_writer *w, const char *key, const char *v)
{
    add_key(w, key, GGUF_STRING);
    add_string(&w->values, v, strlen(v));
}

void gguf_writer_strings(struct gguf_writer *w, const char *key, const struct gguf_string *v, size_t n)
{
    add_array(w, key, GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        add_string(&w->values, v[i].text, v[i].len);
}

void gguf_writer_i32s(struct gguf_writer *w, const char *key, const int32_t *v, size_t n)
{
    add_array(w, key, GGUF_I32, n);
    for (size_t i = 0; i < n; i++)
        buffer_u32(&w->values, (uint32_t)v[i]);
}

void gguf_writer_f32s(struct gguf_writer *w, const char *key, const float *v, size_t n)
{
    add_array(w, key, GGUF_F32, n);
    for (size_t i = 0; i < n; i++)
        buffer_f32(&w->values, v[i]);
}

/* Bytes of a value as they lie in its file, type word included, array header too. */
static void copy_value(struct gguf_writer *w, const struct gguf_value *v)
{
    struct buffer *b = &w->values;
    buffer_u32(b, v->type);
    if (v->type == GGUF_STRING) {
        add_string(b, (const char *)v->data, v->string_len);
        return;
    }
    if (v->type != GGUF_ARRAY) {
        buffer_add(b, v->data, gguf_type_bytes(v->type));
        return;
    }
    buffer_u32(b, v->element);
    buffer_u64(b, v->count);
    uint64_t bytes = v->count * gguf_type_bytes(v->element);
    if (v->element == GGUF_STRING && v->count > 0) {
        uint64_t len;
        memcpy(&len, v->data + v->strings[v->count - 1], sizeof(len));
        bytes = v->strings[v->count - 1] + sizeof(len) + len;
    }
    buffer_add(b, v->data, bytes);
}

void gguf_writer_copy_key(struct gguf_writer *w, const struct gguf *g, size_t i)
{
    const struct gguf_value *v = &g->values[i];
    add_string(&w->values, v->key.text, v->key.len);
    copy_value(w, v);
    w->n_values++;
}

void gguf_writer_copy_keys(struct gguf_writer *w, const struct gguf *g, const char *prefix)
{
    size_t n = strlen(prefix);
    for (size_t i = 0; i < g->n_values; i++) {
        const struct gguf_value *v = &g->values[i];
        if (v->key.len < n || memcmp(v->key.text, prefix, n) != 0)
            continue;
        gguf_writer_copy_key(w, g, i);
    }
}

void gguf_writer_tensor(struct gguf_writer *w, const char *name, const struct qtype *type, uint32_t n_dims,
                        const uint64_t *ne)
{
    uint64_t bytes = qtype_row_bytes(type, ne[0]);
    assert(bytes > 0 && n_dims >= 1 && n_dims <= GGUF_DIMS_MAX && strlen(name) <= GGUF_NAME_MAX);
    add_string(&w->infos, name, strlen(name));
    buffer_u32(&w->infos, n_dims);
    for (uint32_t d = 0; d < n_dims; d++) {
        buffer_u64(&w->infos, ne[d]);
        bytes = d == 0 ? bytes : bytes * ne[d];
    }
    buffer_u32(&w->infos, type->id);
    buffer_u64(&w->infos, w->next_offset);
    w->tensor_bytes = mem_resize(w->tensor_bytes, w->n_tensors + 1, sizeof(*w->tensor_bytes));
    w->tensor_bytes[w->n_tensors++] = bytes;
    w->next_offset += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int write_all(struct gguf_writer *w, const void *data, size_t n, struct error *e)
{
    const char *p = data;
    while (n > 0) {
        ssize_t got = write(w->fd, p, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(e, ERR_IO, "%s: cannot be written: %s", w->temporary, strerror(errno));
        p += got;
        n -= (size_t)got;
    }
    return 0;
}

/* A stretch of the header, which lies in four. */
struct piece {
    const char *bytes;
    size_t n;
};

enum { PIECES = 4 };

static bool begins_with(const struct gguf_writer *w, const struct piece *pieces)
{
    char there[COMPARED_BYTES];
    off_t at = 0;
    for (size_t i = 0; i < PIECES; i++) {
        for (size_t done = 0; done < pieces[i].n;) {
            size_t n = pieces[i].n - done < sizeof(there) ? pieces[i].n - done : sizeof(there);
            ssize_t got = pread(w->fd, there, n, at);
            if (got <= 0 || memcmp(there, pieces[i].bytes + done, (size_t)got) != 0)
                return false;
            done += (size_t)got;
            at += got;
        }
    }
    return true;
}

static int write_pieces(struct gguf_writer *w, const struct piece *pieces, struct error *e)
{
    int r = 0;
    if (w->keep && (w->same = begins_with(w, pieces)))
        return 0;
    if (w->keep && ftruncate(w->fd, 0) != 0)
        return error_set(e, ERR_IO, "%s: cannot be written: %s", w->temporary, strerror(errno));
    for (size_t i = 0; r == 0 && i < PIECES; i++)
        r = write_all(w, pieces[i].bytes, pieces[i].n, e);
    return r;
}

static int check_size(const struct gguf_writer *w, struct error *e)
{
    if (buffer_failed(&w->values) || buffer_failed(&w->infos) || w->n_values > GGUF_KEYS_MAX ||
        w->n_tensors > GGUF_TENSORS_MAX)
        return error_set(e, ERR_LIMIT, "%s: the header would be too large", w->path);
    return 0;
}

static void add_counts(const struct gguf_writer *w, struct buffer *head)
{
    buffer_add(head, "GGUF", 4);
    buffer_u32(head, VERSION);
    buffer_u64(head, w->n_tensors);
    buffer_u64(head, w->n_values);
}

int gguf_writer_take(struct gguf_writer **writer_p, char **header, size_t *n, uint64_t *file_bytes, struct error *e)
{
    struct gguf_writer *w = *writer_p;
    struct buffer head;
    int r = check_size(w, e);
    buffer_init(&head, 3 * (size_t)HEADER_BYTES_MAX);
    add_counts(w, &head);
    buffer_add(&head, buffer_text(&w->values), w->values.len);
    buffer_add(&head, buffer_text(&w->infos), w->infos.len);
    buffer_grow(&head, (ALIGNMENT - head.len % ALIGNMENT) % ALIGNMENT);
    *file_bytes = head.len + w->next_offset;
    *header = r == 0 ? buffer_take(&head, n) : NULL;
    buffer_close(&head);
    gguf_writer_abort(writer_p);
    return r;
}

int gguf_writer_header(struct gguf_writer *w, struct error *e)
{
    static const char zeros[ALIGNMENT];
    struct buffer head;
    int refused = check_size(w, e);
    if (refused != 0)
        return refused;
    buffer_init(&head, 64);
    add_counts(w, &head);
    size_t bytes = head.len + w->values.len + w->infos.len, rest = (ALIGNMENT - bytes % ALIGNMENT) % ALIGNMENT;
    const struct piece pieces[PIECES] = {{buffer_text(&head), head.len}, {buffer_text(&w->values), w->values.len},
                                         {buffer_text(&w->infos), w->infos.len}, {zeros, rest}};
    w->header_bytes = bytes + rest;
    int r = write_pieces(w, pieces, e);
    buffer_close(&head);
    return r;
}

uint64_t gguf_writer_bytes(const struct gguf_writer *w)
{
    return w->header_bytes + w->next_offset;
}

void gguf_writer_place(const struct gguf_writer *w, uint64_t *tensor, uint64_t *in_tensor)
{
    *tensor = w->tensor;
    *in_tensor = w->in_tensor;
}

bool gguf_writer_go_on(struct gguf_writer *w, uint64_t tensor, uint64_t in_tensor)
{
    struct stat st;
    uint64_t at = w->header_bytes + in_tensor;
    if (tensor > w->n_tensors || in_tensor >= (tensor < w->n_tensors ? w->tensor_bytes[tensor] : 1))
        return false;
    for (uint64_t i = 0; i < tensor; i++)
        at += (w->tensor_bytes[i] + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (fstat(w->fd, &st) != 0 || (uint64_t)st.st_size < at || (!w->same && at > w->header_bytes) ||
        ftruncate(w->fd, (off_t)at) != 0 || lseek(w->fd, (off_t)at, SEEK_SET) != (off_t)at)
        return false;
    w->tensor = tensor;
    w->in_tensor = in_tensor;
    return true;
}

int gguf_writer_sync(struct gguf_writer *w, struct error *e)
{
    return fdatasync(w->fd) == 0 ? 0 : error_set(e, ERR_IO, "%s: cannot be written: %s", w->temporary, strerror(errno));
}

int gguf_writer_data(struct gguf_writer *w, const void *bytes, size_t n, struct error *e)
{
    static const char zeros[ALIGNMENT];
    if (w->tensor >= w->n_tensors || n > w->tensor_bytes[w->tensor] - w->in_tensor)
        return error_set(e, ERR_INTERNAL, "%s: more tensor bytes than were declared", w->path);
    int r = write_all(w, bytes, n, e);
    w->in_tensor += n;
    uint64_t size = w->tensor_bytes[w->tensor];
    if (r == 0 && w->in_tensor == size) {
        r = write_all(w, zeros, (size_t)((ALIGNMENT - size % ALIGNMENT) % ALIGNMENT), e);
        w->tensor++;
        w->in_tensor = 0;
    }
    return r;
}

int gguf_writer_finish(struct gguf_writer **writer_p, struct error *e)
{
    struct gguf_writer *w = *writer_p;
    int r = 0;
    if (w->tensor != w->n_tensors)
        r = error_set(e, ERR_INTERNAL, "%s: fewer tensor bytes than were declared", w->path);
    else if (fsync(w->fd) != 0 || rename(w->temporary, w->path) != 0)
        r = error_set(e, ERR_IO, "%s: cannot be written: %s", w->path, strerror(errno));
    gguf_writer_abort(writer_p); /* after the rename there is no temporary file left to remove */
    return r;
}

void gguf_writer_discard(struct gguf_writer **writer_p)
{
    if (*writer_p)
        (*writer_p)->keep = false;
    gguf_writer_abort(writer_p);
}

void gguf_writer_abort(struct gguf_writer **writer_p)
{
    struct gguf_writer *w = *writer_p;
    if (!w)
        return;
    if (w->fd >= 0 && !w->keep)
        (void)unlink(w->temporary);
    if (w->fd >= 0)
        close(w->fd);
    buffer_close(&w->values);
    buffer_close(&w->infos);
    mem_free(w->tensor_bytes);
    mem_free(w->temporary);
    mem_free(w->path);
    mem_free(w);
    *writer_p = NULL;
}
