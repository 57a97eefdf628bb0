/* test_blob: a sparse copy fills chunk by chunk, survives cuts and restarts, and takes nothing but what it was
 * promised.
 *
 * A thread plays the coordinator's side, honest or not, over a real link.     */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "net/blob.h"
#include "proto/control.h"
#include "tests/net/model_file.h"
#include "tests/net/pair.h"

enum { CHUNK = MANIFEST_CHUNK_BYTES, CHUNKS = 20, FILE_SIZE = CHUNKS * CHUNK - 100 };

struct server {
    struct pair *p;
    struct model_file *file;
    pthread_t thread;
    struct link *listener;
    char endpoint[64];
    atomic_bool stop;
    atomic_int answered;
    /* how it misbehaves */
    int corrupt_first;      /* so many answers have a wrong byte */
    bool corrupt_all, short_all, other_chunk, silent;
    int close_after;        /* the listener is closed and opened again after so many answers */
    int unavailable_first;  /* so many questions come too early */
    uint64_t total_lie;     /* of the manifest */
};

static void listen_at(struct server *s)
{
    struct link_options o = {.keys = &s->p->host, .domain = PAIR_DOMAIN, .bytes_max = BLOB_BYTES_MAX,
                             .queue_max = 2 * BLOB_WINDOW};
    wait_until(link_listen(&s->listener, s->p->context, s->endpoint, &o, NULL) == 0);
    snprintf(s->endpoint, sizeof(s->endpoint), "tcp://127.0.0.1:%u", link_port(s->listener));
}

/* The asking side may have what it wants, and be gone; who takes nothing asks again. */
static void expect_sent(int status)
{
    if (status != 0 && status != ERR_GONE && status != ERR_BUSY)
        fail_msg("an answer was not sent: %s", status_name(status));
}

/* An answer that is wrong in the way that the server was told. */
static bool answer_badly(struct server *s, const struct link_message *m)
{
    struct blob_request q;
    struct buffer out;
    size_t n;
    static uint8_t bytes[CHUNK];
    assert_int_equal(blob_request_unpack(&q, m->data, m->size, NULL), 0);
    bool corrupt = s->corrupt_all || s->corrupt_first-- > 0;
    if (q.kind != BLOB_KIND_FILE || !(corrupt || s->short_all || s->other_chunk))
        return false;
    uint64_t chunk = q.offset / CHUNK;
    memcpy(bytes, model_file_chunk(s->file, s->other_chunk ? (chunk + 1) % CHUNKS : chunk, &n), q.length);
    bytes[100] ^= corrupt;
    struct blob_reply reply = {.request = q.request, .total = s->file->n, .data = bytes,
                               .data_len = s->short_all ? q.length / 2 : q.length};
    buffer_init(&out, BLOB_BYTES_MAX);
    assert_int_equal(blob_reply_pack(&out, &reply, NULL), 0);
    expect_sent(link_send(s->listener, &m->peer, out.data, out.len, NULL));
    buffer_close(&out);
    return true;
}

static bool lie_about_total(struct server *s, const struct link_message *m)
{
    struct blob_request q;
    struct buffer out;
    assert_int_equal(blob_request_unpack(&q, m->data, m->size, NULL), 0);
    if (s->total_lie == 0)
        return false;
    struct blob_reply reply = {.request = q.request, .total = s->total_lie, .data_len = 1,
                               .data = (const uint8_t *)"x"};
    buffer_init(&out, BLOB_BYTES_MAX);
    assert_int_equal(blob_reply_pack(&out, &reply, NULL), 0);
    expect_sent(link_send(s->listener, &m->peer, out.data, out.len, NULL));
    buffer_close(&out);
    return true;
}

static void *serve(void *arg)
{
    struct server *s = arg;
    uint8_t *encoded;
    size_t n;
    assert_int_equal(manifest_encode(&s->file->manifest, &encoded, &n, NULL), 0);
    while (!atomic_load(&s->stop)) {
        struct link_message m;
        zmq_pollitem_t item = {.socket = link_socket(s->listener), .events = ZMQ_POLLIN};
        (void)zmq_poll(&item, 1, 10);
        link_watch(s->listener);
        if (s->silent || link_receive(s->listener, &m, NULL) != 0)
            continue;
        bool early = s->unavailable_first-- > 0;
        struct blob_source source = {s->file->files, &s->file->manifest, encoded, n};
        if (!answer_badly(s, &m) && !lie_about_total(s, &m))
            expect_sent(blob_answer(&source, early ? 0 : 1, s->listener, &m, NULL));
        link_message_close(&m);
        if (atomic_fetch_add(&s->answered, 1) + 1 == s->close_after) {
            link_close(&s->listener);
            listen_at(s);
        }
    }
    mem_free(encoded);
    return NULL;
}

static struct link *dial(struct server *s)
{
    struct link *l;
    struct link_options o = {.keys = &s->p->guest, .bytes_max = BLOB_BYTES_MAX, .queue_max = 2 * BLOB_WINDOW};
    assert_int_equal(link_dial(&l, s->p->context, s->endpoint, s->p->host.public_key, &o, NULL), 0);
    return l;
}

static struct link *start(struct server *s, struct pair *p, struct model_file *file)
{
    s->p = p;
    s->file = file;
    snprintf(s->endpoint, sizeof(s->endpoint), "tcp://127.0.0.1:0");
    listen_at(s);
    struct link *l = dial(s);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    return l;
}

static void stop(struct server *s, struct link *l)
{
    link_close(&l);
    atomic_store(&s->stop, true);
    pthread_join(s->thread, NULL);
    link_close(&s->listener);
}

/* A file and a cache of its own for every test. */
static struct model_file file;
static char cache[64];

static int open_all(void **state)
{
    static unsigned tests;
    snprintf(cache, sizeof(cache), "%s/cache-%u", folder, tests++);
    model_file_make(&file, "model", FILE_SIZE, 7);
    return pair_open(state);
}

static int close_all(void **state)
{
    model_file_free(&file);
    return pair_close(state);
}

static const struct file_set_range whole = {0, FILE_SIZE};

static const char *copy_of(const struct blob *b)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/model.gguf", blob_folder(b));
    return path;
}

static void expect_whole(struct blob *b)
{
    char *bytes;
    size_t n;
    uint64_t total, missing;
    blob_count(b, &whole, 1, &total, &missing);
    assert_int_equal(total, FILE_SIZE);
    assert_int_equal(missing, 0);
    assert_int_equal(path_read(copy_of(b), FILE_SIZE, &bytes, &n, NULL), 0);
    assert_int_equal(n, FILE_SIZE);
    assert_memory_equal(bytes, file.bytes, n);
    mem_free(bytes);
}

/* ---- the copy ---- */

static void test_ranges_touch_whole_chunks(void **state)
{
    (void)state;
    struct blob *b;
    uint64_t total, missing;
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    const struct file_set_range ranges[] = {
        {CHUNK - 1, 2},                 /* chunks 0 and 1 */
        {CHUNK, 10},                    /* 1 again */
        {5 * CHUNK, CHUNK},             /* 5 */
        {FILE_SIZE - 1, 1},             /* the last, which is short */
        {7 * CHUNK, 0},                 /* nothing */
        {FILE_SIZE, 1}, {FILE_SIZE - 1, 2}, {UINT64_MAX, 2}, {1, UINT64_MAX}, /* past the end: nothing */
    };
    uint8_t *bits = manifest_touched(&file.manifest, ranges, COUNTOF(ranges));
    for (uint64_t i = 0; i < CHUNKS; i++)
        assert_int_equal(bits[i / 8] >> (i % 8) & 1, i == 0 || i == 1 || i == 5 || i == CHUNKS - 1);
    mem_free(bits);
    blob_count(b, ranges, COUNTOF(ranges), &total, &missing);
    assert_int_equal(total, 3 * CHUNK + CHUNK - 100);
    assert_int_equal(missing, total);
    assert_int_equal(blob_put(b, 1, file.bytes + CHUNK, CHUNK, NULL), 0);
    assert_true(blob_has(b, 1));
    assert_false(blob_has(b, 0));
    assert_false(blob_has(b, UINT64_MAX));
    blob_count(b, ranges, COUNTOF(ranges), &total, &missing);
    assert_int_equal(missing, total - CHUNK);
    blob_close(&b);
}

static void test_the_copy_is_sparse_and_takes_no_wrong_chunk(void **state)
{
    (void)state;
    struct blob *b;
    struct stat st;
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    assert_int_equal(blob_put(b, 3, file.bytes, CHUNK, NULL), ERR_CORRUPT);
    assert_int_equal(blob_put(b, CHUNKS, file.bytes, CHUNK, NULL), ERR_INVALID);
    assert_false(blob_has(b, 3));
    assert_int_equal(blob_put(b, 3, file.bytes + 3 * CHUNK, CHUNK, NULL), 0);
    assert_int_equal(stat(copy_of(b), &st), 0);
    assert_int_equal(st.st_size, FILE_SIZE);
    assert_true(st.st_blocks * 512 < 4 * CHUNK);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(blob_folder(b), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    blob_close(&b);
}

static void test_one_writer_at_a_time_and_its_work_is_kept(void **state)
{
    (void)state;
    struct blob *b, *second;
    struct error e;
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    assert_int_equal(blob_open(&second, cache, &file.manifest, &e), ERR_BUSY);
    assert_null(second);
    assert_int_equal(blob_put(b, 2, file.bytes + 2 * CHUNK, CHUNK, NULL), 0);
    blob_close(&b);
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    assert_true(blob_has(b, 2));
    assert_false(blob_has(b, 1));
    blob_close(&b);
}

/* The bitmap without its file is doubted, and one of another length is worth nothing. */
static void test_a_bitmap_that_cannot_be_true_is_forgotten(void **state)
{
    struct server s = {0};
    struct link *l = start(&s, *state, &file);
    struct blob *b;
    char path[512], have[512];
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    snprintf(path, sizeof(path), "%s", copy_of(b));
    snprintf(have, sizeof(have), "%.500s.have", blob_folder(b));
    assert_int_equal(blob_put(b, 2, file.bytes + 2 * CHUNK, CHUNK, NULL), 0);
    blob_close(&b);
    assert_true(path_exists(have));
    for (int way = 0; way < 3; way++) { /* without the file, with a shorter one, with another of its length */
        assert_int_equal(way == 1 ? truncate(path, 10) : unlink(path), 0);
        if (way == 2)
            assert_int_equal(path_write_atomic(path, file.bytes, 1, 0600, NULL) + truncate(path, FILE_SIZE), 0);
        assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
        assert_int_equal(blob_fetch(b, l, &whole, 1, NULL, NULL, NULL), 0);
        expect_whole(b);
        blob_close(&b);
    }
    stop(&s, l);
    assert_int_equal(path_write_atomic(have, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, 0600, NULL), 0);
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    assert_false(blob_has(b, 0));
    blob_close(&b);
}

static void spoil(const char *path, uint64_t offset)
{
    char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    struct timespec when[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}}; /* a clock of coarse steps must not hide it */
    assert_int_equal(futimens(fd, when), 0);
    close(fd);
}

/* ---- several files ---- */

static const struct file_set_entry several[] = {
    {"config.json", 700, 700}, {"a.safetensors", 3 * CHUNK + 9, CHUNK + 5},
    {"none", 0, 0}, {"b.safetensors", CHUNK, 10},
};

static void expect_files(const struct blob *b, const struct model_file *f)
{
    struct file_set *copy;
    uint8_t *bytes = mem_alloc(f->n);
    assert_int_equal(file_set_open(&copy, blob_folder(b), f->entries, f->n_files, NULL), 0);
    assert_int_equal(file_set_read(copy, 0, bytes, f->n, NULL), 0);
    assert_memory_equal(bytes, f->bytes, f->n);
    file_set_close(&copy);
    mem_free(bytes);
}

static void test_files_of_a_model_arrive_under_their_names(void **state)
{
    struct server s = {0};
    struct model_file f;
    struct blob *b;
    models_make(&f, "several", several, COUNTOF(several), 9);
    struct link *l = start(&s, *state, &f);
    const struct file_set_range heads = {0, f.manifest.head_bytes}, all = {0, f.n};
    assert_int_equal(blob_open(&b, cache, &f.manifest, NULL), 0);
    assert_int_equal(blob_fetch(b, l, &heads, 1, NULL, NULL, NULL), 0);
    assert_int_equal(atomic_load(&s.answered), 4); /* chunks of heads: 1 of config.json, 2 of a, 1 of b */
    for (uint64_t i = 0; i < f.manifest.n_chunks; i++)
        assert_int_equal(blob_has(b, i), i < 4);
    assert_int_equal(blob_fetch(b, l, &all, 1, NULL, NULL, NULL), 0);
    expect_files(b, &f);
    blob_close(&b);
    stop(&s, l);
    model_file_free(&f);
}

static void test_what_is_right_elsewhere_is_copied(void **state)
{
    struct server s = {0};
    struct model_file f;
    struct blob *b;
    struct file_set *mine;
    char old[600];
    models_make(&f, "elsewhere", several, COUNTOF(several), 10);
    struct link *l = start(&s, *state, &f);
    const struct file_set_range all = {0, f.n};
    snprintf(old, sizeof(old), "%s", in_folder("mine"));
    assert_int_equal(mkdir(old, 0700), 0);
    assert_int_equal(file_set_create(&mine, old, f.entries, f.n_files, NULL), 0);
    assert_int_equal(file_set_write(mine, 0, f.bytes, f.n, NULL), 0);
    assert_int_equal(file_set_write(mine, f.manifest.head_bytes + 3, "x", 1, NULL), 0); /* a chunk of a is wrong */
    file_set_close(&mine);
    snprintf(old, sizeof(old), "%s", in_folder("mine/b.safetensors"));
    assert_int_equal(unlink(old), 0);
    assert_int_equal(file_set_open(&mine, in_folder("mine"), f.entries, f.n_files, NULL), 0);
    assert_int_equal(blob_open(&b, cache, &f.manifest, NULL), 0);
    assert_int_equal(blob_copy(b, mine, &all, 1, NULL, NULL, NULL), 0);
    assert_int_equal(atomic_load(&s.answered), 0);
    assert_int_equal(blob_fetch(b, l, &all, 1, NULL, NULL, NULL), 0);
    assert_int_equal(atomic_load(&s.answered), 3); /* the wrong chunk, and head and rest of b */
    expect_files(b, &f);
    blob_close(&b);
    file_set_close(&mine);
    stop(&s, l);
    model_file_free(&f);
}

/* ---- the transfer ---- */

static void test_a_spoilt_copy_is_healed(void **state)
{
    struct server s = {0};
    struct link *l = start(&s, *state, &file);
    struct blob *b;
    const struct file_set_range part = {CHUNK, 2 * CHUNK};
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    assert_int_equal(blob_fetch(b, l, &whole, 1, NULL, NULL, NULL), 0);
    spoil(copy_of(b), CHUNK + 7);
    spoil(copy_of(b), 5 * CHUNK + 7);
    blob_close(&b);
    for (int turn = 0; turn < 3; turn++) { /* a part, the whole, and nothing is left */
        int before = atomic_load(&s.answered);
        assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
        assert_int_equal(blob_fetch(b, l, turn == 0 ? &part : &whole, 1, NULL, NULL, NULL), 0);
        assert_int_equal(atomic_load(&s.answered) - before, turn < 2 ? 1 : 0);
        if (turn > 0)
            expect_whole(b);
        blob_close(&b);
    }
    stop(&s, l);
}

static void test_a_whole_file_and_its_manifest_arrive(void **state)
{
    struct server s = {0};
    struct link *l = start(&s, *state, &file);
    struct manifest m;
    struct blob *b;
    assert_int_equal(blob_fetch_manifest(&m, l, file.manifest.id, NULL, NULL, NULL), 0);
    assert_memory_equal(m.hashes, file.manifest.hashes, 32 * CHUNKS);
    assert_int_equal(blob_open(&b, cache, &m, NULL), 0);
    assert_int_equal(blob_fetch(b, l, &whole, 1, NULL, NULL, NULL), 0);
    expect_whole(b);
    int before = atomic_load(&s.answered);
    assert_int_equal(blob_fetch(b, l, &whole, 1, NULL, NULL, NULL), 0); /* nothing is missing: nothing is asked */
    assert_int_equal(atomic_load(&s.answered), before);
    blob_close(&b);
    manifest_free(&m);
    stop(&s, l);
}

static void test_only_what_the_ranges_touch_is_fetched(void **state)
{
    struct server s = {0};
    struct link *l = start(&s, *state, &file);
    struct blob *b;
    const struct file_set_range ranges[] = {{10, 20}, {6 * CHUNK + 5, 2 * CHUNK}};
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    assert_int_equal(blob_fetch(b, l, ranges, 2, NULL, NULL, NULL), 0);
    for (uint64_t i = 0; i < CHUNKS; i++)
        assert_int_equal(blob_has(b, i), i == 0 || (i >= 6 && i <= 8));
    assert_int_equal(atomic_load(&s.answered), 4);
    blob_close(&b);
    stop(&s, l);
}

static int stop_half_way(void *arg, uint64_t done, uint64_t total)
{
    uint64_t *at = arg;
    *at = done;
    return done >= total / 2;
}

static void test_a_cut_in_the_middle_is_resumed(void **state)
{
    struct server s = {0};
    struct link *l = start(&s, *state, &file);
    struct blob *b;
    uint64_t done, total, missing;
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    assert_int_equal(blob_fetch(b, l, &whole, 1, stop_half_way, &done, NULL), ERR_CANCELLED);
    blob_close(&b); /* another run of the program */
    link_close(&l);
    l = dial(&s);
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    blob_count(b, &whole, 1, &total, &missing);
    assert_int_equal(total - missing, done);
    int before = atomic_load(&s.answered);
    assert_int_equal(blob_fetch(b, l, &whole, 1, NULL, NULL, NULL), 0);
    expect_whole(b);
    assert_true(atomic_load(&s.answered) - before <= CHUNKS / 2 + 2 * BLOB_WINDOW);
    blob_close(&b);
    stop(&s, l);
}

static void test_a_connection_that_breaks_costs_nothing_but_time(void **state)
{
    struct server s = {.close_after = 6};
    struct link *l = start(&s, *state, &file);
    struct blob *b;
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    assert_int_equal(blob_fetch(b, l, &whole, 1, NULL, NULL, NULL), 0);
    expect_whole(b);
    assert_true(link_connections(l) >= 2);
    blob_close(&b);
    stop(&s, l);
}

static void test_a_corrupted_chunk_is_asked_for_again(void **state)
{
    struct server s = {.corrupt_first = BLOB_RETRIES - 1};
    struct link *l = start(&s, *state, &file);
    struct blob *b;
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    assert_int_equal(blob_fetch(b, l, &whole, 1, NULL, NULL, NULL), 0);
    expect_whole(b);
    assert_int_equal(atomic_load(&s.answered), CHUNKS + BLOB_RETRIES - 1);
    blob_close(&b);
    stop(&s, l);
}

static void test_a_server_that_always_lies_is_given_up(void **state)
{
    struct pair *p = *state;
    for (int kind = 0; kind < 3; kind++) {
        struct server s = {.corrupt_all = kind == 0, .short_all = kind == 1, .other_chunk = kind == 2};
        struct link *l = start(&s, p, &file);
        struct blob *b;
        struct error e;
        assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
        assert_int_equal(blob_fetch(b, l, &whole, 1, NULL, NULL, &e), ERR_CORRUPT);
        for (uint64_t i = 0; i < CHUNKS; i++)
            assert_false(blob_has(b, i));
        blob_close(&b);
        stop(&s, l);
    }
}

static void test_another_model_and_odd_requests_are_answered_with_a_refusal(void **state)
{
    struct server s = {0};
    struct link *l = start(&s, *state, &file);
    struct manifest m;
    struct blob *b;
    struct error e;
    struct manifest other = file.manifest;
    other.id[0] ^= 1;
    assert_int_equal(blob_open(&b, cache, &other, NULL), 0);
    assert_int_equal(blob_fetch(b, l, &whole, 1, NULL, NULL, &e), ERR_NOT_FOUND);
    assert_int_equal(blob_fetch_manifest(&m, l, other.id, NULL, NULL, &e), ERR_NOT_FOUND);
    blob_close(&b);
    static const struct blob_request odd[] = {
        {.kind = BLOB_KIND_FILE, .offset = 0, .length = 0},
        {.kind = BLOB_KIND_FILE, .offset = 0, .length = CHUNK + 1},
        {.kind = BLOB_KIND_FILE, .offset = FILE_SIZE, .length = 1},
        {.kind = BLOB_KIND_FILE, .offset = UINT64_MAX, .length = 1},
        {.kind = BLOB_KIND_MANIFEST, .offset = 1 << 20, .length = 1},
        {.kind = 9, .offset = 0, .length = 1},
    };
    for (size_t i = 0; i < COUNTOF(odd); i++) {
        struct blob_request q = odd[i];
        struct blob_reply reply;
        struct buffer out;
        struct link_message message;
        memcpy(q.model_id, file.manifest.id, sizeof(q.model_id));
        q.request = 1000 + i;
        buffer_init(&out, 4096);
        assert_int_equal(blob_request_pack(&out, &q, NULL), 0);
        pair_send(l, NULL, out.data, out.len);
        do { /* answers to requests of before may still come */
            pair_receive(l, &message);
            assert_int_equal(blob_reply_unpack(&reply, message.data, message.size, NULL), 0);
            link_message_close(&message);
            blob_reply_free(&reply);
        } while (reply.request != q.request);
        assert_int_equal(reply.status, ERR_INVALID);
        assert_int_equal(reply.data_len, 0);
        buffer_close(&out);
    }
    stop(&s, l);
}

static void test_a_manifest_that_is_still_made_is_waited_for(void **state)
{
    struct server s = {.unavailable_first = 1};
    struct link *l = start(&s, *state, &file);
    struct manifest m;
    assert_int_equal(blob_fetch_manifest(&m, l, file.manifest.id, NULL, NULL, NULL), 0);
    assert_memory_equal(m.id, file.manifest.id, 32);
    manifest_free(&m);
    stop(&s, l);
}

static void test_a_manifest_of_lies_is_refused(void **state)
{
    struct pair *p = *state;
    static const struct {
        uint64_t total;
        int status;
    } lies[] = {{1, ERR_CORRUPT}, {1ull << 40, ERR_LIMIT}, {UINT64_MAX, ERR_LIMIT}};
    for (size_t i = 0; i < COUNTOF(lies); i++) {
        struct server s = {.total_lie = lies[i].total};
        struct link *l = start(&s, p, &file);
        struct manifest m;
        assert_int_equal(blob_fetch_manifest(&m, l, file.manifest.id, NULL, NULL, NULL), lies[i].status);
        assert_null(m.hashes);
        stop(&s, l);
    }
}

static int stop_after_some(void *arg, uint64_t done, uint64_t total)
{
    int *calls = arg;
    (void)done;
    (void)total;
    return ++*calls >= 5;
}

static void test_waiting_for_a_silent_server_can_be_stopped(void **state)
{
    struct server s = {.silent = true};
    struct link *l = start(&s, *state, &file);
    struct manifest m;
    struct blob *b;
    int calls = 0;
    assert_int_equal(blob_fetch_manifest(&m, l, file.manifest.id, stop_after_some, &calls, NULL), ERR_CANCELLED);
    calls = 0;
    assert_int_equal(blob_open(&b, cache, &file.manifest, NULL), 0);
    assert_int_equal(blob_fetch(b, l, &whole, 1, stop_after_some, &calls, NULL), ERR_CANCELLED);
    blob_close(&b);
    stop(&s, l);
}

static void test_a_refused_key_is_told_so(void **state)
{
    struct pair *p = *state;
    struct server s = {0};
    assert_int_equal(zap_allow(p->zap, PAIR_DOMAIN, NULL, 0, NULL), 0);
    struct link *l = start(&s, p, &file);
    struct manifest m;
    struct error e;
    assert_int_equal(blob_fetch_manifest(&m, l, file.manifest.id, NULL, NULL, &e), ERR_DENIED);
    stop(&s, l);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
    struct error e;
    if (keys_init(&e) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(test_ranges_touch_whole_chunks),
        TEST(test_the_copy_is_sparse_and_takes_no_wrong_chunk),
        TEST(test_one_writer_at_a_time_and_its_work_is_kept),
        TEST(test_a_bitmap_that_cannot_be_true_is_forgotten),
        TEST(test_files_of_a_model_arrive_under_their_names),
        TEST(test_what_is_right_elsewhere_is_copied),
        TEST(test_a_whole_file_and_its_manifest_arrive),
        TEST(test_a_spoilt_copy_is_healed),
        TEST(test_only_what_the_ranges_touch_is_fetched),
        TEST(test_a_cut_in_the_middle_is_resumed),
        TEST(test_a_connection_that_breaks_costs_nothing_but_time),
        TEST(test_a_corrupted_chunk_is_asked_for_again),
        TEST(test_a_server_that_always_lies_is_given_up),
        TEST(test_another_model_and_odd_requests_are_answered_with_a_refusal),
        TEST(test_a_manifest_that_is_still_made_is_waited_for),
        TEST(test_a_manifest_of_lies_is_refused),
        TEST(test_waiting_for_a_silent_server_can_be_stopped),
        TEST(test_a_refused_key_is_told_so),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
