/* queue: a ring under a mutex, a condition for sleepers, an eventfd for poll loops.
 * Invariant: count <= cap; the eventfd is readable whenever count > 0 or the queue is closed. */
#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    void **items;
    size_t cap, head, count;
    bool closed;
    int fd;
};

struct queue *queue_create(size_t length_max)
{
    struct queue *q = mem_alloc(sizeof(*q));
    q->cap = length_max;
    q->items = mem_array(length_max, sizeof(*q->items));
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->filled, &attr);
    pthread_condattr_destroy(&attr);
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return q;
}

void queue_destroy(struct queue **queue_p, void (*free_item)(void *))
{
    struct queue *q = *queue_p;
    if (!q)
        return;
    while (free_item && q->count > 0) {
        free_item(q->items[q->head]);
        q->head = (q->head + 1) % q->cap;
        q->count--;
    }
    if (q->fd >= 0)
        close(q->fd);
    pthread_cond_destroy(&q->filled);
    pthread_mutex_destroy(&q->lock);
    mem_free(q->items);
    mem_free(q);
    *queue_p = NULL;
}

static void signal_fd(struct queue *q)
{
    uint64_t one = 1;
    if (q->fd >= 0 && write(q->fd, &one, sizeof(one)) < 0) {
        /* Saturated: it is readable already. */
    }
}

static void drain_fd(struct queue *q)
{
    uint64_t n;
    if (q->fd >= 0 && read(q->fd, &n, sizeof(n)) < 0) {
        /* Was not readable. */
    }
}

int queue_push(struct queue *q, void *item)
{
    pthread_mutex_lock(&q->lock);
    int r = q->closed ? ERR_GONE : q->count == q->cap ? ERR_BUSY : 0;
    if (r == 0) {
        q->items[(q->head + q->count) % q->cap] = item;
        if (q->count++ == 0)
            signal_fd(q);
        pthread_cond_signal(&q->filled);
    }
    pthread_mutex_unlock(&q->lock);
    return r;
}

/* True while there is something to say to a consumer. */
static bool wait_filled(struct queue *q, uint64_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_ms / 1000);
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    int r = 0;
    while (q->count == 0 && !q->closed && r != ETIMEDOUT)
        r = pthread_cond_timedwait(&q->filled, &q->lock, &until);
    return q->count > 0 || q->closed;
}

int queue_pop(struct queue *q, void **item, uint64_t wait_ms)
{
    *item = NULL;
    pthread_mutex_lock(&q->lock);
    int r = 0;
    if (q->count == 0 && !q->closed && (wait_ms == 0 || !wait_filled(q, wait_ms))) {
        r = ERR_TIMEOUT;
    } else if (q->count == 0) {
        r = ERR_GONE;
    } else {
        *item = q->items[q->head];
        q->head = (q->head + 1) % q->cap;
        if (--q->count == 0 && !q->closed)
            drain_fd(q);
    }
    pthread_mutex_unlock(&q->lock);
    return r;
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    signal_fd(q);
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

size_t queue_length(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->count;
    pthread_mutex_unlock(&q->lock);
    return n;
}

int queue_fd(struct queue *q)
{
    return q->fd;
}
