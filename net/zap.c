/* zap: one thread that answers ZeroMQ's authentication requests (RFC 27) from tables in memory.
 *
 * It is accepted when the mechanism is CURVE, the domain is known, and the key
 * is in the domain's set or the set is open.  Anything else, a request that
 * cannot be read included, is refused with 400.  The user id of an accepted
 * connection is its key in Z85: links read it from every message.            */
#include "net/zap.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include "base/memory.h"

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"

struct domain {
    char name[ZAP_DOMAIN_NAME_MAX]; /* empty: the slot is free */
    bool any;
    uint8_t *keys; /* sorted */
    size_t n;
};

struct zap {
    void *socket; /* the thread's, once it runs */
    int stop_fd;
    pthread_t thread;
    pthread_mutex_t lock; /* domains and counts, nothing else */
    struct domain domains[ZAP_DOMAINS_MAX];
    struct zap_counts counts;
};

/* A request's frames, each cut to what a good one can have; `sizes` has what was sent. */
enum frame { VERSION, REQUEST_ID, DOMAIN_NAME, ADDRESS, IDENTITY, MECHANISM, CREDENTIALS, FRAMES };
enum { FRAME_MAX = 256 };

struct request {
    char frames[FRAMES][FRAME_MAX];
    size_t sizes[FRAMES];
    size_t n;
};

static int compare_keys(const void *a, const void *b)
{
    return memcmp(a, b, KEY_BYTES);
}

/* ---- answering ---- */

static int receive(void *socket, struct request *q)
{
    q->n = 0;
    for (bool more = true; more; q->n++) {
        char surplus[FRAME_MAX];
        int n = zmq_recv(socket, q->n < FRAMES ? q->frames[q->n] : surplus, FRAME_MAX, q->n == 0 ? ZMQ_DONTWAIT : 0);
        if (n < 0)
            return -1;
        if (q->n < FRAMES)
            q->sizes[q->n] = (size_t)n;
        int flag = 0;
        size_t size = sizeof(flag);
        more = zmq_getsockopt(socket, ZMQ_RCVMORE, &flag, &size) == 0 && flag;
    }
    return 0;
}

static bool frame_is(const struct request *q, enum frame f, const char *text)
{
    return q->sizes[f] == strlen(text) && memcmp(q->frames[f], text, q->sizes[f]) == 0;
}

static bool allowed(struct zap *z, const struct request *q)
{
    if (q->n != FRAMES || !frame_is(q, VERSION, "1.0") || !frame_is(q, MECHANISM, "CURVE") ||
        q->sizes[CREDENTIALS] != KEY_BYTES || q->sizes[DOMAIN_NAME] == 0)
        return false;
    for (size_t i = 0; i < ZAP_DOMAINS_MAX; i++) {
        const struct domain *d = &z->domains[i];
        if (d->name[0] && frame_is(q, DOMAIN_NAME, d->name))
            return d->any ||
                   (d->n > 0 && bsearch(q->frames[CREDENTIALS], d->keys, d->n, KEY_BYTES, compare_keys) != NULL);
    }
    return false;
}

static void answer(struct zap *z, const struct request *q)
{
    pthread_mutex_lock(&z->lock);
    bool ok = allowed(z, q);
    z->counts.accepted += ok;
    z->counts.refused += !ok;
    pthread_mutex_unlock(&z->lock);
    char user[KEY_TEXT_BYTES] = "";
    if (ok)
        keys_text((const uint8_t *)q->frames[CREDENTIALS], user);
    size_t id = q->n > REQUEST_ID && q->sizes[REQUEST_ID] <= FRAME_MAX ? q->sizes[REQUEST_ID] : 0;
    const char *frames[] = {"1.0", q->frames[REQUEST_ID], ok ? "200" : "400", ok ? "OK" : "not allowed", user, ""};
    const size_t sizes[] = {3, id, 3, strlen(frames[3]), strlen(user), 0};
    for (size_t i = 0; i < COUNTOF(frames); i++)
        (void)zmq_send(z->socket, frames[i], sizes[i], i + 1 < COUNTOF(frames) ? ZMQ_SNDMORE : 0);
}

static void *run(void *arg)
{
    struct zap *z = arg;
    struct request q;
    for (;;) {
        zmq_pollitem_t items[2] = {{.socket = z->socket, .events = ZMQ_POLLIN},
                                   {.fd = z->stop_fd, .events = ZMQ_POLLIN}};
        if (zmq_poll(items, 2, -1) < 0 && errno != EINTR)
            break; /* the context ends */
        if (items[1].revents)
            break;
        while (receive(z->socket, &q) == 0)
            answer(z, &q);
    }
    return NULL;
}

/* ---- life cycle ---- */

static void destroy(struct zap *z)
{
    if (z->socket)
        zmq_close(z->socket);
    if (z->stop_fd >= 0)
        close(z->stop_fd);
    for (size_t i = 0; i < ZAP_DOMAINS_MAX; i++)
        mem_free(z->domains[i].keys);
    pthread_mutex_destroy(&z->lock);
    mem_free(z);
}

int zap_start(struct zap **out, void *zmq_context, struct error *e)
{
    *out = NULL;
    struct zap *z = mem_alloc(sizeof(*z));
    pthread_mutex_init(&z->lock, NULL);
    z->stop_fd = eventfd(0, EFD_CLOEXEC);
    z->socket = zmq_socket(zmq_context, ZMQ_REP);
    int linger = 0, r = 0;
    if (z->stop_fd < 0 || !z->socket || zmq_setsockopt(z->socket, ZMQ_LINGER, &linger, sizeof(linger)) != 0)
        r = error_set(e, ERR_MEMORY, "the gate's socket cannot be made: %s", zmq_strerror(errno));
    else if (zmq_bind(z->socket, ZAP_ENDPOINT) != 0)
        r = error_set(e, ERR_CONFLICT, "this context has a gate already: %s", zmq_strerror(errno));
    else if (pthread_create(&z->thread, NULL, run, z) != 0)
        r = error_set(e, ERR_MEMORY, "the gate's thread cannot be started");
    if (r != 0) {
        destroy(z);
        return r;
    }
    *out = z;
    return 0;
}

void zap_stop(struct zap **zap_p)
{
    struct zap *z = *zap_p;
    if (!z)
        return;
    uint64_t one = 1;
    ssize_t n = write(z->stop_fd, &one, sizeof(one));
    assert(n == sizeof(one));
    pthread_join(z->thread, NULL);
    destroy(z);
    *zap_p = NULL;
}

/* ---- domains ---- */

/* The domain's slot, a new one if need be; NULL when all are taken. */
static struct domain *domain_slot(struct zap *z, const char *name)
{
    struct domain *spare = NULL;
    for (size_t i = 0; i < ZAP_DOMAINS_MAX; i++) {
        struct domain *d = &z->domains[i];
        if (strcmp(d->name, name) == 0)
            return d;
        if (!d->name[0] && !spare)
            spare = d;
    }
    if (spare)
        memcpy(spare->name, name, strlen(name) + 1);
    return spare;
}

/* Takes `keys`. */
static int replace(struct zap *z, const char *name, uint8_t *keys, size_t n, bool any, struct error *e)
{
    size_t len = strnlen(name, ZAP_DOMAIN_NAME_MAX);
    int r = 0;
    if (len == 0 || len >= ZAP_DOMAIN_NAME_MAX)
        r = error_set(e, ERR_INVALID, "a domain's name has 1 to %d characters", ZAP_DOMAIN_NAME_MAX - 1);
    if (r == 0) {
        pthread_mutex_lock(&z->lock);
        struct domain *d = domain_slot(z, name);
        if (d) {
            uint8_t *old = d->keys;
            d->keys = keys;
            d->n = n;
            d->any = any;
            keys = old;
        } else {
            r = error_set(e, ERR_LIMIT, "a gate has at most %d domains", ZAP_DOMAINS_MAX);
        }
        pthread_mutex_unlock(&z->lock);
    }
    mem_free(keys);
    return r;
}

int zap_allow(struct zap *z, const char *domain, const uint8_t *keys, size_t n, struct error *e)
{
    uint8_t *copy = mem_array(n + 1, KEY_BYTES);
    if (n > 0) {
        memcpy(copy, keys, n * KEY_BYTES);
        qsort(copy, n, KEY_BYTES, compare_keys);
    }
    return replace(z, domain, copy, n, false, e);
}

int zap_allow_any(struct zap *z, const char *domain, bool open, struct error *e)
{
    return replace(z, domain, NULL, 0, open, e);
}

void zap_counts(struct zap *z, struct zap_counts *out)
{
    pthread_mutex_lock(&z->lock);
    *out = z->counts;
    pthread_mutex_unlock(&z->lock);
}
