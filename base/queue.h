/* queue: a bounded queue of pointers between threads, many producers and many consumers.
 *
 * Full means ERR_BUSY upward, never growth.  A closed queue refuses pushes and
 * hands out what it still holds, then reports ERR_GONE.  Messages move: after a
 * successful push the pointer belongs to the consumer.                       */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct queue;

struct queue *queue_create(size_t length_max);
/* free_item may be NULL; it is called for what is still inside. */
void queue_destroy(struct queue **queue_p, void (*free_item)(void *));
/* 0, ERR_BUSY when full, ERR_GONE when closed. Never blocks. */
MUST_USE int queue_push(struct queue *q, void *item);
/* 0 with *item set, ERR_TIMEOUT, or ERR_GONE when closed and empty.  wait_ms 0 polls. */
MUST_USE int queue_pop(struct queue *q, void **item, uint64_t wait_ms);
void queue_close(struct queue *q);
size_t queue_length(struct queue *q);
/* An eventfd that is readable while the queue may hold something, for poll loops; made when it is first asked for. */
int queue_fd(struct queue *q);

#endif
