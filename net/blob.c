/* blob: a sparse copy of a model file, its bitmap of checked chunks, and the transfer that fills it.
 *
 * On disk: models/<id>.gguf (the length of the original, holes where nothing
 * was fetched) and models/<id>.have (the time at which the file was last
 * written, then one bit a chunk).  Invariant: a set bit's chunk was checked
 * against the manifest and its bytes reached the disk before the bit did, so a
 * crash loses at most work, never truth.  Where the file's time is another than
 * the one beside it, somebody wrote to it, or we were killed while we did: the
 * chunks are then read again, and checked, before they count.               */
#include "net/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "proto/control.h"

enum {
    SAVE_EVERY = 64,
    ID_TEXT = 2 * MANIFEST_ID_BYTES + 1,
    CONNECTED_POLL_MS = 200,
    DIAL_POLL_MS = 10,       /* a connection that comes up is not seen by polling */
    MANIFEST_ASK_MS = 3000,  /* a question without an answer is put again */
    MANIFEST_HEAD_MAX = 64,
    STAMP_BYTES = 16,
};

struct blob {
    struct manifest m; /* own copy */
    char *path, *have_path;
    int fd;
    uint8_t *have;     /* bit a chunk */
    uint8_t *doubtful; /* bit a chunk that is there and must be read again before it counts */
    size_t have_bytes;
    uint64_t doubts;
    uint32_t unsaved; /* chunks written since the bitmap was */
};

static bool get(const uint8_t *bits, uint64_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static void put(uint8_t *bits, uint64_t i, bool on)
{
    uint8_t one = (uint8_t)(1u << (i % 8));
    bits[i / 8] = on ? bits[i / 8] | one : bits[i / 8] & (uint8_t)~one;
}

static bool bit(const struct blob *b, uint64_t i)
{
    return get(b->have, i);
}

/* When the file was last written; never all zero for a file of today. */
static void stamp_of(const struct blob *b, uint8_t stamp[STAMP_BYTES])
{
    struct stat st;
    memset(stamp, 0, STAMP_BYTES);
    if (fstat(b->fd, &st) != 0)
        return;
    int64_t time[2] = {st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
    memcpy(stamp, time, sizeof(time));
}

static int save_bitmap(struct blob *b, struct error *e)
{
    if (b->unsaved == 0)
        return 0;
    if (fdatasync(b->fd) != 0)
        return error_set(e, ERR_IO, "cannot write %s: %s", b->path, strerror(errno));
    uint8_t *bytes = mem_alloc(STAMP_BYTES + b->have_bytes);
    if (b->doubts == 0) /* else it stays zero, and all is doubted the next time too */
        stamp_of(b, bytes);
    memcpy(bytes + STAMP_BYTES, b->have, b->have_bytes);
    int r = path_write_atomic(b->have_path, bytes, STAMP_BYTES + b->have_bytes, 0600, e);
    mem_free(bytes);
    if (r == 0)
        b->unsaved = 0;
    return r;
}

static void load_bitmap(struct blob *b)
{
    char *bytes;
    size_t len;
    uint8_t stamp[STAMP_BYTES];
    if (path_read(b->have_path, STAMP_BYTES + b->have_bytes, &bytes, &len, NULL) != 0)
        return;
    if (len == STAMP_BYTES + b->have_bytes) {
        memcpy(b->have, bytes + STAMP_BYTES, b->have_bytes);
        stamp_of(b, stamp);
        if (memcmp(stamp, bytes, STAMP_BYTES) != 0)
            for (uint64_t i = 0; i < b->m.n_chunks; i++)
                if (bit(b, i)) {
                    put(b->doubtful, i, true);
                    b->doubts++;
                }
    }
    mem_free(bytes);
}

static int open_file(struct blob *b, struct error *e)
{
    b->fd = open(b->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (b->fd < 0)
        return error_set(e, ERR_IO, "cannot open the cached copy %s: %s", b->path, strerror(errno));
    if (flock(b->fd, LOCK_EX | LOCK_NB) != 0)
        return error_set(e, ERR_BUSY, "another process is filling %s", b->path);
    struct stat st;
    if (fstat(b->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return error_set(e, ERR_IO, "%s is not a regular file", b->path);
    if ((uint64_t)st.st_size == b->m.file_bytes)
        load_bitmap(b);
    else if (ftruncate(b->fd, (off_t)b->m.file_bytes) != 0)
        return error_set(e, ERR_IO, "cannot make room for %s: %s", b->path, strerror(errno));
    return 0;
}

int blob_open(struct blob **out, const char *cache_dir, const struct manifest *m, struct error *e)
{
    *out = NULL;
    char id[ID_TEXT];
    char *dir = path_join(cache_dir, "models");
    int r = path_make_dirs(dir, 0700, e);
    if (r != 0) {
        mem_free(dir);
        return r;
    }
    struct blob *b = mem_alloc(sizeof(*b));
    b->m = *m;
    b->m.hashes = mem_array(m->n_chunks, MANIFEST_ID_BYTES);
    memcpy(b->m.hashes, m->hashes, m->n_chunks * MANIFEST_ID_BYTES);
    sodium_bin2hex(id, sizeof(id), m->id, sizeof(m->id));
    b->path = mem_printf("%s/%s.gguf", dir, id);
    b->have_path = mem_printf("%s/%s.have", dir, id);
    b->have_bytes = (size_t)(m->n_chunks / 8 + 1);
    b->have = mem_alloc(b->have_bytes);
    b->doubtful = mem_alloc(b->have_bytes);
    b->fd = -1;
    mem_free(dir);
    r = open_file(b, e);
    if (r != 0) {
        blob_close(&b);
        return r;
    }
    *out = b;
    return 0;
}

void blob_close(struct blob **blob_p)
{
    struct blob *b = *blob_p;
    if (!b)
        return;
    if (b->fd >= 0) {
        (void)save_bitmap(b, NULL);
        close(b->fd);
    }
    manifest_free(&b->m);
    mem_free(b->path);
    mem_free(b->have_path);
    mem_free(b->have);
    mem_free(b->doubtful);
    mem_free(b);
    *blob_p = NULL;
}

const char *blob_path(const struct blob *b)
{
    return b->path;
}

bool blob_has(const struct blob *b, uint64_t chunk)
{
    return chunk < b->m.n_chunks && bit(b, chunk);
}

static uint64_t chunk_bytes(const struct blob *b, uint64_t chunk)
{
    uint64_t left = b->m.file_bytes - chunk * MANIFEST_CHUNK_BYTES;
    return left < MANIFEST_CHUNK_BYTES ? left : MANIFEST_CHUNK_BYTES;
}

/* The first chunk >= from that any range touches, or UINT64_MAX. */
static uint64_t next_touched(const struct blob *b, const struct blob_range *ranges, size_t n, uint64_t from)
{
    uint64_t best = UINT64_MAX;
    for (size_t i = 0; i < n; i++) {
        uint64_t end = ranges[i].offset + ranges[i].length;
        if (ranges[i].length == 0 || end > b->m.file_bytes || end < ranges[i].offset)
            continue;
        uint64_t first = ranges[i].offset / MANIFEST_CHUNK_BYTES;
        uint64_t last = (end - 1) / MANIFEST_CHUNK_BYTES;
        uint64_t c = first > from ? first : from;
        if (c <= last && c < best)
            best = c;
    }
    return best;
}

void blob_count(const struct blob *b, const struct blob_range *ranges, size_t n, uint64_t *total, uint64_t *missing)
{
    *total = *missing = 0;
    uint64_t c = next_touched(b, ranges, n, 0);
    while (c != UINT64_MAX) {
        *total += chunk_bytes(b, c);
        *missing += bit(b, c) ? 0 : chunk_bytes(b, c);
        c = next_touched(b, ranges, n, c + 1);
    }
}

uint64_t blob_next_missing(const struct blob *b, const struct blob_range *ranges, size_t n, uint64_t from)
{
    uint64_t c = next_touched(b, ranges, n, from);
    while (c != UINT64_MAX && bit(b, c))
        c = next_touched(b, ranges, n, c + 1);
    return c;
}

int blob_put(struct blob *b, uint64_t chunk, const void *bytes, size_t len, struct error *e)
{
    int r = manifest_check(&b->m, chunk, bytes, len, e);
    if (r != 0)
        return r;
    const char *p = bytes;
    uint64_t offset = chunk * MANIFEST_CHUNK_BYTES;
    while (len > 0) {
        ssize_t n = pwrite(b->fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(e, ERR_IO, "cannot write %s: %s", b->path, strerror(errno));
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    put(b->have, chunk, true);
    if (++b->unsaved >= SAVE_EVERY)
        return save_bitmap(b, e);
    return 0;
}

static bool on_disk(const struct blob *b, uint64_t chunk, uint8_t *bytes)
{
    size_t want = (size_t)chunk_bytes(b, chunk), have = 0;
    while (have < want) {
        ssize_t n = pread(b->fd, bytes + have, want - have, (off_t)(chunk * MANIFEST_CHUNK_BYTES + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        have += (size_t)n;
    }
    return manifest_check(&b->m, chunk, bytes, want, NULL) == 0;
}

/* Read again what is in doubt in the ranges: what is no longer right is missing. */
static int settle_doubts(struct blob *b, const struct blob_range *ranges, size_t n,
                         int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    uint8_t *bytes = b->doubts ? mem_alloc(MANIFEST_CHUNK_BYTES) : NULL;
    int r = 0;
    for (uint64_t c = 0; r == 0 && b->doubts > 0; c++) {
        c = next_touched(b, ranges, n, c);
        if (c == UINT64_MAX)
            break;
        if (!get(b->doubtful, c))
            continue;
        put(b->have, c, on_disk(b, c, bytes));
        put(b->doubtful, c, false);
        b->doubts--;
        b->unsaved++;
        if (progress && progress(arg, 0, b->m.file_bytes) != 0)
            r = error_set(e, ERR_CANCELLED, "checking of layers was stopped");
    }
    mem_free(bytes);
    return r;
}

/* ---- the asking side ---- */

struct asked {
    uint64_t chunk; /* UINT64_MAX: the slot is free */
    uint64_t sent_ms; /* 0: it is to be sent */
    uint32_t corrupt; /* answers that were not the chunk */
};

struct fetch {
    struct blob *b;
    struct link *link;
    const struct blob_range *ranges;
    size_t n;
    struct asked asked[BLOB_WINDOW];
    uint64_t cursor;   /* chunks below it have been put into a slot */
    uint64_t done, total;
    uint64_t alive_ms; /* of the last good chunk */
    uint32_t connections;
};

static int send_request(struct link *link, const uint8_t id[MANIFEST_ID_BYTES], uint32_t kind, uint64_t request,
                        uint64_t offset, uint32_t length, struct error *e)
{
    struct buffer out;
    buffer_init(&out, CONTROL_BYTES_MAX);
    struct blob_request q = {.request = request, .kind = kind, .offset = offset, .length = length};
    memcpy(q.model_id, id, sizeof(q.model_id));
    int r = blob_request_pack(&out, &q, e);
    if (r == 0)
        r = link_send(link, NULL, out.data, out.len, e);
    buffer_close(&out);
    return r;
}

/* Gives every free slot a chunk that is missing; false when no slot holds one. */
static bool fill_window(struct fetch *f)
{
    bool any = false;
    for (size_t i = 0; i < BLOB_WINDOW; i++) {
        struct asked *a = &f->asked[i];
        if (a->chunk == UINT64_MAX) {
            *a = (struct asked){.chunk = blob_next_missing(f->b, f->ranges, f->n, f->cursor)};
            f->cursor = a->chunk == UINT64_MAX ? f->cursor : a->chunk + 1;
        }
        any = any || a->chunk != UINT64_MAX;
    }
    return any;
}

/* Sends what is due: new requests, those without an answer for too long, and all of them on a new connection. */
static int send_due(struct fetch *f, struct error *e)
{
    uint64_t now = clock_ms();
    if (now - f->alive_ms > (uint64_t)BLOB_REQUEST_TIMEOUT_MS * BLOB_RETRIES)
        return error_set(e, ERR_TIMEOUT, "the coordinator does not answer requests for the model's layers");
    uint32_t connections = link_connections(f->link);
    for (size_t i = 0; i < BLOB_WINDOW; i++) {
        if (connections != f->connections || now - f->asked[i].sent_ms > BLOB_REQUEST_TIMEOUT_MS)
            f->asked[i].sent_ms = 0;
    }
    f->connections = connections;
    for (size_t i = 0; i < BLOB_WINDOW; i++) {
        struct asked *a = &f->asked[i];
        if (a->chunk == UINT64_MAX || a->sent_ms != 0)
            continue;
        int r = send_request(f->link, f->b->m.id, BLOB_KIND_FILE, a->chunk, a->chunk * MANIFEST_CHUNK_BYTES,
                             (uint32_t)chunk_bytes(f->b, a->chunk), e);
        if (r == ERR_BUSY || r == ERR_GONE)
            return 0; /* the link is not up at this moment */
        if (r != 0)
            return r;
        a->sent_ms = now;
    }
    return 0;
}

static int take_reply(struct fetch *f, const struct blob_reply *reply, struct error *e)
{
    for (size_t i = 0; i < BLOB_WINDOW; i++) {
        struct asked *a = &f->asked[i];
        if (a->chunk == UINT64_MAX || a->chunk != reply->request)
            continue;
        if (reply->status != 0)
            return error_set(e, reply->status, "the coordinator cannot give the model's layers: %s", reply->text);
        int r = blob_put(f->b, a->chunk, reply->data, reply->data_len, e);
        if (r == ERR_CORRUPT && ++a->corrupt < BLOB_RETRIES) {
            a->sent_ms = 0;
            return 0;
        }
        if (r == 0) {
            f->done += reply->data_len;
            f->alive_ms = clock_ms();
            a->chunk = UINT64_MAX;
        }
        return r;
    }
    return 0; /* late, or an answer to a question of before */
}

/* Waits a moment for one reply; *got says whether there was one. */
static int receive_reply(struct link *link, struct blob_reply *reply, bool *got, struct error *e)
{
    struct link_message m;
    zmq_pollitem_t item = {.socket = link_socket(link), .events = ZMQ_POLLIN};
    *got = false;
    (void)zmq_poll(&item, 1, link_connected(link) ? CONNECTED_POLL_MS : DIAL_POLL_MS);
    link_watch(link);
    int r = link_receive(link, &m, e);
    if (r == ERR_TIMEOUT)
        return link_refused(link) ? error_set(e, ERR_DENIED, "the coordinator refused the link for layers") : 0;
    if (r != 0)
        return r;
    r = blob_reply_unpack(reply, m.data, m.size, e);
    link_message_close(&m);
    *got = r == 0;
    return r;
}

int blob_fetch(struct blob *b, struct link *link, const struct blob_range *ranges, size_t n,
               int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    struct fetch f = {.b = b, .link = link, .ranges = ranges, .n = n};
    uint64_t missing;
    int r = settle_doubts(b, ranges, n, progress, arg, e);
    f.alive_ms = clock_ms();
    blob_count(b, ranges, n, &f.total, &missing);
    f.done = f.total - missing;
    for (size_t i = 0; i < BLOB_WINDOW; i++)
        f.asked[i].chunk = UINT64_MAX;
    while (r == 0 && fill_window(&f)) {
        struct blob_reply reply;
        bool got = false;
        r = send_due(&f, e);
        if (r == 0)
            r = receive_reply(link, &reply, &got, e);
        if (got) {
            r = take_reply(&f, &reply, e);
            blob_reply_free(&reply);
        }
        if (r == 0 && progress && progress(arg, f.done, f.total) != 0)
            r = error_set(e, ERR_CANCELLED, "fetching of layers was stopped");
    }
    int saved = save_bitmap(b, r == 0 ? e : NULL);
    return r != 0 ? r : saved;
}

/* A manifest that arrives in pieces, one question at a time. */
struct manifest_fetch {
    struct buffer bytes;
    uint64_t total;    /* as the last answer says; 0: none yet */
    uint64_t asked_ms; /* 0: ask now */
    uint64_t alive_ms;
};

static int take_piece(struct manifest_fetch *f, const struct blob_reply *reply, struct error *e)
{
    if (reply->status == ERR_UNAVAILABLE) { /* it is still being made: the question is put again in a while */
        f->alive_ms = clock_ms();
        return 0;
    }
    if (reply->status != 0)
        return error_set(e, reply->status, "the coordinator cannot give the manifest: %s", reply->text);
    if (reply->request != f->bytes.len || reply->data_len == 0)
        return 0;
    buffer_add(&f->bytes, reply->data, reply->data_len);
    if (buffer_failed(&f->bytes) || reply->total > f->bytes.max)
        return error_set(e, ERR_LIMIT, "the manifest that the coordinator sends is too large");
    f->total = reply->total;
    f->asked_ms = 0;
    f->alive_ms = clock_ms();
    return 0;
}

static int ask_piece(struct manifest_fetch *f, struct link *link, const uint8_t id[MANIFEST_ID_BYTES], struct error *e)
{
    uint64_t now = clock_ms();
    if (now - f->alive_ms > (uint64_t)BLOB_REQUEST_TIMEOUT_MS * BLOB_RETRIES)
        return error_set(e, ERR_TIMEOUT, "the coordinator does not send the model's manifest");
    if (now - f->asked_ms > MANIFEST_ASK_MS &&
        send_request(link, id, BLOB_KIND_MANIFEST, f->bytes.len, f->bytes.len, MANIFEST_CHUNK_BYTES, NULL) == 0)
        f->asked_ms = now;
    return 0;
}

int blob_fetch_manifest(struct manifest *out, struct link *link, const uint8_t id[MANIFEST_ID_BYTES],
                        int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    struct manifest_fetch f = {.alive_ms = clock_ms()};
    int r = 0;
    memset(out, 0, sizeof(*out));
    buffer_init(&f.bytes, (size_t)MANIFEST_CHUNKS_MAX * MANIFEST_ID_BYTES + MANIFEST_HEAD_MAX);
    while (r == 0 && (f.total == 0 || f.bytes.len < f.total)) {
        struct blob_reply reply;
        bool got = false;
        r = ask_piece(&f, link, id, e);
        if (r == 0)
            r = receive_reply(link, &reply, &got, e);
        if (got) {
            r = take_piece(&f, &reply, e);
            blob_reply_free(&reply);
        }
        if (r == 0 && progress && progress(arg, f.bytes.len, f.total) != 0)
            r = error_set(e, ERR_CANCELLED, "fetching of the manifest was stopped");
    }
    if (r == 0)
        r = manifest_decode(out, (const uint8_t *)f.bytes.data, f.bytes.len, id, e);
    buffer_close(&f.bytes);
    return r;
}

/* ---- the answering side ---- */

static int read_piece(const struct blob_source *s, const struct blob_request *q, uint8_t *to, struct blob_reply *reply)
{
    bool manifest = q->kind == BLOB_KIND_MANIFEST;
    uint64_t size = manifest ? s->manifest_len : s->manifest->file_bytes;
    if ((!manifest && q->kind != BLOB_KIND_FILE) || q->length == 0 || q->length > MANIFEST_CHUNK_BYTES ||
        q->offset >= size)
        return ERR_INVALID;
    size_t n = q->length < size - q->offset ? q->length : (size_t)(size - q->offset);
    reply->total = size;
    reply->data_len = n;
    if (manifest) {
        memcpy(to, s->manifest_bytes + q->offset, n);
        return 0;
    }
    size_t have = 0;
    while (have < n) {
        ssize_t got = pread(s->fd, to + have, n - have, (off_t)(q->offset + have));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return ERR_IO;
        have += (size_t)got;
    }
    return 0;
}

int blob_answer(const struct blob_source *s, struct link *listener, const struct link_message *request,
                struct error *e)
{
    struct blob_request q;
    int r = blob_request_unpack(&q, request->data, request->size, e);
    if (r != 0)
        return r;
    struct blob_reply reply = {.request = q.request};
    uint8_t *piece = mem_alloc(MANIFEST_CHUNK_BYTES);
    if (!s->manifest) {
        reply.status = ERR_UNAVAILABLE;
        reply.text = "the manifest is still being made";
    } else if (memcmp(q.model_id, s->manifest->id, MANIFEST_ID_BYTES) != 0) {
        reply.status = ERR_NOT_FOUND;
        reply.text = "no such model here";
    } else {
        reply.status = read_piece(s, &q, piece, &reply);
        reply.text = reply.status ? status_words(reply.status) : "";
        reply.data = reply.status ? NULL : piece;
        reply.data_len = reply.status ? 0 : reply.data_len;
    }
    struct buffer out;
    buffer_init(&out, BLOB_BYTES_MAX);
    r = blob_reply_pack(&out, &reply, e);
    mem_free(piece);
    if (r == 0) {
        size_t n;
        void *bytes = buffer_take(&out, &n);
        r = link_send_take(listener, &request->peer, &bytes, n, e);
        mem_free(bytes);
    }
    buffer_close(&out);
    return r;
}
