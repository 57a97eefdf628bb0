/* blobs: two threads: `hash` reads the files once and ends, `serve` answers requests.
 *
 * Invariant: `made` turns from 0 once, after manifests, encoded bytes or error
 * are complete; who sees it non-zero may read them without a lock.           */
#include "coordinator/blobs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/queue.h"
#include "net/blob.h"
#include "net/link.h"
#include "proto/control.h"

enum { POLL_MS = 50, DRAIN_MAX = 32 };
enum made { MADE_NOT, MADE_GOOD, MADE_BAD };

struct members {
    size_t n;
    uint8_t keys[];
};

struct blobs {
    struct blobs_options o;
    struct link *listener; /* the serving thread's, once it runs */
    pthread_t hash, serve;
    bool hashing, serving; /* the threads were started */
    atomic_bool stop;
    struct queue *commands; /* struct members */

    atomic_int made;
    struct manifest *manifests;   /* [o.n] */
    struct blob_source *sources;  /* [o.n] */
    struct error error;
    uint64_t before; /* bytes of files that were read: the hashing thread's */
    _Atomic uint64_t done, total;
    struct progress *bar; /* the hashing thread's */
};

/* ---- the manifest ---- */

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct blobs *b = arg;
    (void)total;
    atomic_store(&b->done, b->before + done);
    if (b->bar)
        progress_update(b->bar, b->before + done);
    return atomic_load(&b->stop);
}

static int hash_files(struct blobs *b, size_t i)
{
    struct manifest *m = &b->manifests[i];
    uint8_t *encoded;
    size_t len;
    int r = manifest_of_files(m, b->o.files[i], b->o.cache_dir, on_progress, b, &b->error);
    if (r == 0)
        r = manifest_encode(m, &encoded, &len, &b->error);
    if (r == 0)
        b->sources[i] = (struct blob_source){b->o.files[i], m, encoded, len};
    b->before += file_set_bytes(b->o.files[i]);
    return r;
}

static void *hash(void *arg)
{
    struct blobs *b = arg;
    int r = 0;
    if (b->o.progress)
        b->bar = progress_start("reading the model once, for its checksums", atomic_load(&b->total));
    for (size_t i = 0; r == 0 && i < b->o.n; i++)
        r = hash_files(b, i);
    progress_finish(&b->bar);
    if (r != 0 && !atomic_load(&b->stop))
        log_error("coordinator", "the model cannot be served: %s", b->error.text);
    atomic_store(&b->made, r == 0 ? MADE_GOOD : MADE_BAD);
    return NULL;
}

/* ---- serving ---- */

static void answer(struct blobs *b, const struct link_message *m, struct log_gate *gate)
{
    struct error e = {0};
    bool ready = atomic_load(&b->made) == MADE_GOOD && !b->o.trusted_local;
    int r = blob_answer(b->sources, ready ? b->o.n : 0, b->listener, m, &e);
    if (r == ERR_CORRUPT) /* who does not take answers in time asks again, or is gone */
        logger_limited(gate, 20, LOG_WARN, "coordinator", "a request for layers was refused: from=%s %s",
                       m->peer.address, e.text);
}

static void *serve(void *arg)
{
    struct blobs *b = arg;
    struct log_gate gate = {0};
    while (!atomic_load(&b->stop)) {
        zmq_pollitem_t items[2] = {{.socket = link_socket(b->listener), .events = ZMQ_POLLIN},
                                   {.fd = queue_fd(b->commands), .events = ZMQ_POLLIN}};
        (void)zmq_poll(items, 2, POLL_MS);
        link_watch(b->listener);
        void *item;
        while (queue_pop(b->commands, &item, 0) == 0) {
            const struct members *set = item;
            (void)link_revoke(b->listener, set->keys, set->n);
            mem_free(item);
        }
        struct link_message m;
        for (int i = 0; i < DRAIN_MAX && link_receive(b->listener, &m, NULL) == 0; i++) {
            answer(b, &m, &gate);
            link_message_close(&m);
        }
    }
    return NULL;
}

/* ---- life cycle ---- */

static int start_threads(struct blobs *b, struct error *e)
{
    if (b->o.trusted_local)
        atomic_store(&b->made, MADE_GOOD);
    else if (pthread_create(&b->hash, NULL, hash, b) == 0)
        b->hashing = true;
    else
        return error_set(e, ERR_MEMORY, "cannot start the thread that reads the model");
    if (pthread_create(&b->serve, NULL, serve, b) != 0)
        return error_set(e, ERR_MEMORY, "cannot start the thread that serves the model");
    b->serving = true;
    return 0;
}

int blobs_start(struct blobs **out, const struct blobs_options *o, struct error *e)
{
    *out = NULL;
    struct blobs *b = mem_alloc(sizeof(*b));
    b->o = *o;
    b->commands = queue_create(BLOBS_COMMANDS_MAX);
    b->manifests = mem_array(o->n, sizeof(*b->manifests));
    b->sources = mem_array(o->n, sizeof(*b->sources));
    for (size_t i = 0; i < o->n; i++)
        atomic_fetch_add(&b->total, file_set_bytes(o->files[i]));
    struct link_options lo = {.keys = o->keys, .domain = BLOBS_DOMAIN, .bytes_max = ENROL_BYTES_MAX,
                              .send_max = BLOB_BYTES_MAX, .queue_max = BLOB_WINDOW * 2};
    int r = link_listen(&b->listener, o->zmq_context, o->listen, &lo, e);
    if (r == 0)
        r = start_threads(b, e);
    if (r != 0) {
        blobs_stop(&b);
        return r;
    }
    *out = b;
    return 0;
}

void blobs_stop(struct blobs **blobs_p)
{
    struct blobs *b = *blobs_p;
    if (!b)
        return;
    atomic_store(&b->stop, true);
    if (b->hashing)
        pthread_join(b->hash, NULL);
    if (b->serving)
        pthread_join(b->serve, NULL);
    link_close(&b->listener);
    queue_destroy(&b->commands, mem_free);
    for (size_t i = 0; i < b->o.n; i++) {
        manifest_free(&b->manifests[i]);
        mem_free((uint8_t *)(uintptr_t)b->sources[i].manifest_bytes);
    }
    mem_free(b->manifests);
    mem_free(b->sources);
    mem_free(b);
    *blobs_p = NULL;
}

uint16_t blobs_port(const struct blobs *b)
{
    return link_port(b->listener);
}

int blobs_id(struct blobs *b, size_t i, uint8_t id[MANIFEST_ID_BYTES], struct error *e)
{
    switch (atomic_load(&b->made)) {
    case MADE_GOOD:
        memcpy(id, b->manifests[i].id, MANIFEST_ID_BYTES);
        return 0;
    case MADE_BAD:
        return error_set(e, b->error.status, "%s", b->error.text);
    default:
        return error_set(e, ERR_UNAVAILABLE, "the model is being read for its checksums");
    }
}

void blobs_progress(struct blobs *b, uint64_t *done, uint64_t *total)
{
    *done = atomic_load(&b->done);
    *total = atomic_load(&b->total);
}

int blobs_members(struct blobs *b, const uint8_t *keys, size_t n)
{
    struct members *set = mem_alloc(sizeof(*set) + n * KEY_BYTES);
    set->n = n;
    if (n > 0)
        memcpy(set->keys, keys, n * KEY_BYTES);
    int r = queue_push(b->commands, set);
    if (r != 0)
        mem_free(set);
    return r;
}
