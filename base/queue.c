/* queue: a ring under a mutex, a semaphore for sleepers, an eventfd for poll loops.
 * Invariant: count <= cap; the semaphore is posted once for each item and once for the close, after the lock is let
 * go: who is woken finds it free. The eventfd, once it was asked for, is readable whenever count > 0 or the queue is
 * closed. Nothing is touched after a post, so that who pops the last item may destroy the queue. */
#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"

struct queue {
    pthread_mutex_t lock;
    sem_t filled;
    void **items;
    size_t cap, head, count;
    bool closed;
    int fd; /* -1: nobody polls */
};

struct queue *queue_create(size_t length_max)
{
    struct queue *q = mem_alloc(sizeof(*q));
    q->cap = length_max;
    q->items = mem_array(length_max, sizeof(*q->items));
    pthread_mutex_init(&q->lock, NULL);
    sem_init(&q->filled, 0, 0);
    q->fd = -1;
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
    sem_destroy(&q->filled);
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
    }
    pthread_mutex_unlock(&q->lock);
    if (r == 0)
        sem_post(&q->filled);
    return r;
}

/* Whether there is an item, or the close, for the caller. */
static bool wait_filled(struct queue *q, uint64_t wait_ms)
{
    struct timespec until;
    int r;
    if (sem_trywait(&q->filled) == 0)
        return true;
    if (wait_ms == 0)
        return false;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_ms / 1000);
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    do {
        r = sem_clockwait(&q->filled, CLOCK_MONOTONIC, &until);
    } while (r != 0 && errno == EINTR);
    return r == 0;
}

int queue_pop(struct queue *q, void **item, uint64_t wait_ms)
{
    *item = NULL;
    if (!wait_filled(q, wait_ms))
        return ERR_TIMEOUT;
    pthread_mutex_lock(&q->lock);
    bool gone = q->count == 0; /* so it is closed */
    if (!gone) {
        *item = q->items[q->head];
        q->head = (q->head + 1) % q->cap;
        if (--q->count == 0 && !q->closed)
            drain_fd(q);
    }
    pthread_mutex_unlock(&q->lock);
    if (gone)
        sem_post(&q->filled); /* the next one is to learn of the close, too */
    return gone ? ERR_GONE : 0;
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool before = q->closed;
    q->closed = true;
    signal_fd(q);
    pthread_mutex_unlock(&q->lock);
    if (!before)
        sem_post(&q->filled);
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
    pthread_mutex_lock(&q->lock);
    if (q->fd < 0) {
        q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (q->count > 0 || q->closed)
            signal_fd(q);
    }
    int fd = q->fd;
    pthread_mutex_unlock(&q->lock);
    return fd;
}
