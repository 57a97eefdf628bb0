/* blob: sparse copies of a model's files, the bitmap of checked chunks, and the transfer that fills them.
 *
 * On disk: the folder models/<id>/ (files of the lengths of the originals, holes
 * where nothing was fetched) and models/<id>.have (a hash of the times at which
 * the files were last written, then one bit a chunk).  Invariant: a set bit's
 * chunk was checked against the manifest and its bytes reached the disk before
 * the bit did, so a crash loses at most work, never truth.  Where the files'
 * times are others than those that the bitmap knows, somebody wrote to them, or
 * we were killed while we did: the chunks are then read again, and checked,
 * before they count.                                                          */
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
    STAMP_BYTES = 16,
};

struct blob {
    struct manifest m; /* own copy */
    char *folder, *have_path;
    int lock;          /* the folder, which one process holds */
    struct file_set *files;
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

/* When the files were last written; never all zero. */
static void stamp_of(const struct blob *b, uint8_t stamp[STAMP_BYTES])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, STAMP_BYTES);
    for (size_t i = 0; i < b->m.n_files; i++) {
        struct stat st = {0};
        (void)file_set_stat(b->files, i, &st);
        int64_t time[3] = {st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (int64_t)st.st_ino};
        crypto_generichash_update(&state, (const uint8_t *)time, sizeof(time));
    }
    crypto_generichash_final(&state, stamp, STAMP_BYTES);
}

static int save_bitmap(struct blob *b, struct error *e)
{
    if (b->unsaved == 0)
        return 0;
    int r = file_set_sync(b->files, e);
    if (r != 0)
        return r;
    uint8_t *bytes = mem_alloc(STAMP_BYTES + b->have_bytes);
    if (b->doubts == 0) /* else it stays zero, and all is doubted the next time too */
        stamp_of(b, bytes);
    memcpy(bytes + STAMP_BYTES, b->have, b->have_bytes);
    r = path_write_atomic(b->have_path, bytes, STAMP_BYTES + b->have_bytes, 0600, e);
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

/* Files that were not there, or had another length, are of another time than the bitmap knows. */
static int open_files(struct blob *b, struct error *e)
{
    int r = path_make_dirs(b->folder, 0700, e);
    if (r != 0)
        return r;
    b->lock = open(b->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (b->lock < 0)
        return error_set(e, ERR_IO, "cannot open the cached copy %s: %s", b->folder, strerror(errno));
    if (flock(b->lock, LOCK_EX | LOCK_NB) != 0)
        return error_set(e, ERR_BUSY, "another process is filling %s", b->folder);
    r = file_set_create(&b->files, b->folder, b->m.files, b->m.n_files, e);
    if (r == 0)
        load_bitmap(b);
    return r;
}

int blob_open(struct blob **out, const char *cache_dir, const struct manifest *m, struct error *e)
{
    char id[ID_TEXT];
    struct blob *b = mem_alloc(sizeof(*b));
    manifest_copy(&b->m, m);
    sodium_bin2hex(id, sizeof(id), m->id, sizeof(m->id));
    b->folder = mem_printf("%s/models/%s", cache_dir, id);
    b->have_path = mem_printf("%s.have", b->folder);
    b->have_bytes = (size_t)(m->n_chunks / 8 + 1);
    b->have = mem_alloc(b->have_bytes);
    b->doubtful = mem_alloc(b->have_bytes);
    b->lock = -1;
    int r = open_files(b, e);
    if (r != 0)
        blob_close(&b);
    *out = b;
    return r;
}

void blob_close(struct blob **blob_p)
{
    struct blob *b = *blob_p;
    if (!b)
        return;
    if (b->files)
        (void)save_bitmap(b, NULL);
    file_set_close(&b->files);
    if (b->lock >= 0)
        close(b->lock);
    manifest_free(&b->m);
    mem_free(b->folder);
    mem_free(b->have_path);
    mem_free(b->have);
    mem_free(b->doubtful);
    mem_free(b);
    *blob_p = NULL;
}

const char *blob_folder(const struct blob *b)
{
    return b->folder;
}

bool blob_has(const struct blob *b, uint64_t chunk)
{
    return chunk < b->m.n_chunks && bit(b, chunk);
}

static size_t chunk_bytes(const struct blob *b, uint64_t chunk)
{
    return (size_t)manifest_chunk(&b->m, chunk).length;
}

/* The first chunk at or after `from` whose bit is set, or UINT64_MAX. */
static uint64_t next_wanted(const struct blob *b, const uint8_t *wanted, uint64_t from)
{
    for (uint64_t c = from; c < b->m.n_chunks; c++) {
        if (wanted[c / 8] == 0)
            c |= 7; /* none of these eight */
        else if (get(wanted, c))
            return c;
    }
    return UINT64_MAX;
}

static uint64_t next_missing(const struct blob *b, const uint8_t *wanted, uint64_t from)
{
    uint64_t c = next_wanted(b, wanted, from);
    while (c != UINT64_MAX && bit(b, c))
        c = next_wanted(b, wanted, c + 1);
    return c;
}

static void count_wanted(const struct blob *b, const uint8_t *wanted, uint64_t *total, uint64_t *missing)
{
    *total = *missing = 0;
    for (uint64_t c = next_wanted(b, wanted, 0); c != UINT64_MAX; c = next_wanted(b, wanted, c + 1)) {
        *total += chunk_bytes(b, c);
        *missing += bit(b, c) ? 0 : chunk_bytes(b, c);
    }
}

void blob_count(const struct blob *b, const struct file_set_range *ranges, size_t n, uint64_t *total,
                uint64_t *missing)
{
    uint8_t *wanted = manifest_touched(&b->m, ranges, n);
    count_wanted(b, wanted, total, missing);
    mem_free(wanted);
}

int blob_put(struct blob *b, uint64_t chunk, const void *bytes, size_t len, struct error *e)
{
    int r = manifest_check(&b->m, chunk, bytes, len, e);
    if (r == 0)
        r = file_set_write(b->files, manifest_chunk(&b->m, chunk).offset, bytes, len, e);
    if (r != 0)
        return r;
    put(b->have, chunk, true);
    if (++b->unsaved >= SAVE_EVERY)
        return save_bitmap(b, e);
    return 0;
}

/* True when the files hold chunk c, which is then in `bytes`. */
static bool holds(const struct blob *b, const struct file_set *files, uint64_t c, uint8_t *bytes)
{
    struct file_set_range r = manifest_chunk(&b->m, c);
    return file_set_read(files, r.offset, bytes, (size_t)r.length, NULL) == 0 &&
           manifest_check(&b->m, c, bytes, (size_t)r.length, NULL) == 0;
}

/* Read again what is in doubt and wanted: what is no longer right is missing. */
static int settle_doubts(struct blob *b, const uint8_t *wanted,
                         int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    uint8_t *bytes = b->doubts ? mem_alloc(MANIFEST_CHUNK_BYTES) : NULL;
    int r = 0;
    for (uint64_t c = 0; r == 0 && b->doubts > 0; c++) {
        c = next_wanted(b, wanted, c);
        if (c == UINT64_MAX)
            break;
        if (!get(b->doubtful, c))
            continue;
        put(b->have, c, holds(b, b->files, c, bytes));
        put(b->doubtful, c, false);
        b->doubts--;
        b->unsaved++;
        if (progress && progress(arg, 0, b->m.bytes) != 0)
            r = error_set(e, ERR_CANCELLED, "checking of layers was stopped");
    }
    mem_free(bytes);
    return r;
}

int blob_copy(struct blob *b, const struct file_set *from, const struct file_set_range *ranges, size_t n,
              int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    uint8_t *wanted = manifest_touched(&b->m, ranges, n), *bytes = mem_alloc(MANIFEST_CHUNK_BYTES);
    uint64_t total, missing, seen = 0;
    int r = settle_doubts(b, wanted, progress, arg, e);
    count_wanted(b, wanted, &total, &missing);
    for (uint64_t c = next_missing(b, wanted, 0); r == 0 && c != UINT64_MAX; c = next_missing(b, wanted, c + 1)) {
        if (holds(b, from, c, bytes))
            r = blob_put(b, c, bytes, chunk_bytes(b, c), e);
        seen += chunk_bytes(b, c);
        if (r == 0 && progress && progress(arg, total - missing + seen, total) != 0)
            r = error_set(e, ERR_CANCELLED, "copying of layers was stopped");
    }
    mem_free(wanted);
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
    const uint8_t *wanted; /* bit a chunk */
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
            *a = (struct asked){.chunk = next_missing(f->b, f->wanted, f->cursor)};
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
        struct file_set_range chunk = manifest_chunk(&f->b->m, a->chunk);
        int r = send_request(f->link, f->b->m.id, BLOB_KIND_FILE, a->chunk, chunk.offset, (uint32_t)chunk.length, e);
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

int blob_fetch(struct blob *b, struct link *link, const struct file_set_range *ranges, size_t n,
               int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    uint8_t *wanted = manifest_touched(&b->m, ranges, n);
    struct fetch f = {.b = b, .link = link, .wanted = wanted};
    uint64_t missing;
    int r = settle_doubts(b, wanted, progress, arg, e);
    f.alive_ms = clock_ms();
    count_wanted(b, wanted, &f.total, &missing);
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
    mem_free(wanted);
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
    buffer_init(&f.bytes, (size_t)MANIFEST_CHUNKS_MAX * MANIFEST_ID_BYTES + MANIFEST_TABLE_MAX);
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
    uint64_t size = manifest ? s->manifest_len : s->manifest->bytes;
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
    return file_set_read(s->files, q->offset, to, n, NULL);
}

int blob_answer(const struct blob_source *sources, size_t n, struct link *listener, const struct link_message *request,
                struct error *e)
{
    const struct blob_source *s = NULL;
    struct blob_request q;
    int r = blob_request_unpack(&q, request->data, request->size, e);
    if (r != 0)
        return r;
    struct blob_reply reply = {.request = q.request};
    uint8_t *piece = mem_alloc(MANIFEST_CHUNK_BYTES);
    for (size_t i = 0; i < n && !s; i++)
        s = memcmp(q.model_id, sources[i].manifest->id, MANIFEST_ID_BYTES) == 0 ? &sources[i] : NULL;
    if (n == 0) {
        reply.status = ERR_UNAVAILABLE;
        reply.text = "the manifest is still being made";
    } else if (!s) {
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
        size_t len;
        void *bytes = buffer_take(&out, &len);
        r = link_send_take(listener, &request->peer, &bytes, len, e);
        mem_free(bytes);
    }
    buffer_close(&out);
    return r;
}
