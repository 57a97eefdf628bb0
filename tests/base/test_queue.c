/* test_queue: order, bound, closing, the eventfd's promise, and many threads that lose and double nothing. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sched.h>
#include <string.h>

#include <cmocka.h>

#include "base/queue.h"

static int values[64];

static bool readable(struct queue *q)
{
    struct pollfd p = {.fd = queue_fd(q), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void test_queue_keeps_order_and_bound(void **state)
{
    (void)state;
    struct queue *q = queue_create(3);
    void *item;
    int next_in = 0, next_out = 0;
    for (int round = 0; round < 5; round++) { /* wraps around the ring */
        while (queue_length(q) < 3)
            assert_int_equal(queue_push(q, &values[next_in++]), 0);
        assert_int_equal(queue_push(q, &values[63]), ERR_BUSY);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(queue_pop(q, &item, 0), 0);
            assert_ptr_equal(item, &values[next_out++]);
        }
    }
    assert_int_equal(queue_length(q), 1);
    queue_destroy(&q, NULL);
    assert_null(q);
    queue_destroy(&q, NULL);
}

static void test_queue_of_no_length_is_always_full(void **state)
{
    (void)state;
    struct queue *q = queue_create(0);
    void *item = &item;
    assert_int_equal(queue_push(q, values), ERR_BUSY);
    assert_int_equal(queue_pop(q, &item, 0), ERR_TIMEOUT);
    assert_null(item);
    assert_int_equal(queue_pop(q, &item, 1), ERR_TIMEOUT);
    queue_destroy(&q, NULL);
}

static void test_queue_closed_gives_the_rest_then_is_gone(void **state)
{
    (void)state;
    struct queue *q = queue_create(4);
    void *item;
    assert_int_equal(queue_push(q, &values[0]), 0);
    queue_close(q);
    queue_close(q);
    assert_int_equal(queue_push(q, &values[1]), ERR_GONE);
    assert_int_equal(queue_pop(q, &item, 1000), 0);
    assert_ptr_equal(item, &values[0]);
    assert_int_equal(queue_pop(q, &item, 0), ERR_GONE);
    assert_int_equal(queue_pop(q, &item, UINT64_MAX), ERR_GONE);
    queue_destroy(&q, NULL);
}

static void test_queue_fd_is_readable_while_something_waits(void **state)
{
    (void)state;
    struct queue *q = queue_create(4);
    void *item;
    assert_false(readable(q));
    for (int i = 0; i < 2; i++)
        assert_int_equal(queue_push(q, &values[i]), 0);
    assert_true(readable(q));
    assert_int_equal(queue_pop(q, &item, 0), 0);
    assert_true(readable(q));
    assert_int_equal(queue_pop(q, &item, 0), 0);
    assert_false(readable(q));
    assert_int_equal(queue_push(q, &values[2]), 0);
    assert_true(readable(q));
    queue_close(q);
    assert_int_equal(queue_pop(q, &item, 0), 0);
    assert_true(readable(q)); /* a poll loop must learn of the close */
    queue_destroy(&q, NULL);
}

static void test_queue_fd_may_be_asked_for_late(void **state)
{
    (void)state;
    struct queue *q = queue_create(4);
    void *item;
    assert_int_equal(queue_push(q, &values[0]), 0);
    assert_true(readable(q));
    assert_int_equal(queue_pop(q, &item, 0), 0);
    assert_false(readable(q));
    queue_destroy(&q, NULL);
    q = queue_create(4);
    queue_close(q);
    assert_true(readable(q));
    queue_destroy(&q, NULL);
}

static void count_free(void *item)
{
    ++*(int *)item;
}

static void test_queue_destroy_frees_what_is_inside_once(void **state)
{
    (void)state;
    int freed[5] = {0};
    struct queue *q = queue_create(4);
    void *item;
    for (int i = 0; i < 4; i++)
        assert_int_equal(queue_push(q, &freed[i]), 0);
    assert_int_equal(queue_pop(q, &item, 0), 0);
    assert_int_equal(queue_push(q, &freed[4]), 0);
    queue_destroy(&q, count_free);
    static const int expected[5] = {0, 1, 1, 1, 1};
    assert_memory_equal(freed, expected, sizeof(expected));
}

/* ---- threads ---- */

enum { PRODUCERS = 4, CONSUMERS = 4, ITEMS = 5000 };

struct shared {
    struct queue *q;
    atomic_uchar seen[PRODUCERS * ITEMS];
    atomic_int misordered;
};

struct producer {
    struct shared *shared;
    size_t first;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    for (size_t i = 0; i < ITEMS; i++) {
        while (queue_push(p->shared->q, &p->shared->seen[p->first + i]) == ERR_BUSY)
            sched_yield();
    }
    return NULL;
}

/* Items of one producer must reach one consumer in their order. */
static void *consume(void *arg)
{
    struct shared *s = arg;
    size_t last[PRODUCERS] = {0};
    void *item;
    while (queue_pop(s->q, &item, 60000) == 0) {
        size_t i = (size_t)((atomic_uchar *)item - s->seen), producer = i / ITEMS;
        if (i % ITEMS + 1 <= last[producer])
            atomic_fetch_add(&s->misordered, 1);
        last[producer] = i % ITEMS + 1;
        atomic_fetch_add(&s->seen[i], 1);
    }
    return NULL;
}

static void test_queue_threads_lose_and_double_nothing(void **state)
{
    (void)state;
    static struct shared s;
    memset(&s, 0, sizeof(s));
    s.q = queue_create(16);
    pthread_t producing[PRODUCERS], consuming[CONSUMERS];
    struct producer producers[PRODUCERS];
    for (size_t i = 0; i < CONSUMERS; i++)
        assert_int_equal(pthread_create(&consuming[i], NULL, consume, &s), 0);
    for (size_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){&s, i * ITEMS};
        assert_int_equal(pthread_create(&producing[i], NULL, produce, &producers[i]), 0);
    }
    for (size_t i = 0; i < PRODUCERS; i++)
        pthread_join(producing[i], NULL);
    queue_close(s.q); /* consumers empty the queue, then leave */
    for (size_t i = 0; i < CONSUMERS; i++)
        pthread_join(consuming[i], NULL);
    assert_int_equal(atomic_load(&s.misordered), 0);
    for (size_t i = 0; i < (size_t)PRODUCERS * ITEMS; i++)
        assert_int_equal(atomic_load(&s.seen[i]), 1);
    queue_destroy(&s.q, NULL);
}

static void *wait_forever(void *arg)
{
    struct queue *q = arg;
    void *item;
    return queue_pop(q, &item, UINT64_MAX) == 0 ? item : NULL;
}

static void test_queue_wakes_every_sleeper(void **state)
{
    (void)state;
    struct queue *q = queue_create(1);
    pthread_t sleepers[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&sleepers[i], NULL, wait_forever, q), 0);
    assert_int_equal(queue_push(q, values), 0);
    while (queue_length(q) > 0)
        sched_yield();
    queue_close(q);
    int got = 0;
    for (int i = 0; i < 3; i++) {
        void *item = NULL;
        pthread_join(sleepers[i], &item);
        got += item == values;
    }
    assert_int_equal(got, 1);
    queue_destroy(&q, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queue_keeps_order_and_bound),
        cmocka_unit_test(test_queue_of_no_length_is_always_full),
        cmocka_unit_test(test_queue_closed_gives_the_rest_then_is_gone),
        cmocka_unit_test(test_queue_fd_is_readable_while_something_waits),
        cmocka_unit_test(test_queue_fd_may_be_asked_for_late),
        cmocka_unit_test(test_queue_destroy_frees_what_is_inside_once),
        cmocka_unit_test(test_queue_threads_lose_and_double_nothing),
        cmocka_unit_test(test_queue_wakes_every_sleeper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
