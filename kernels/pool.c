/* pool: a generation counter that workers watch.
 *
 * pool_run() stores the call, raises `generation` and wakes whoever sleeps on
 * it; each worker runs its part and lowers `left`; the caller spins, then
 * sleeps on `left`.  Invariant: `fn` and `arg` are written only while left is 0. */
#include "kernels/pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

enum { SPIN_NS = 40000, SPIN_CHECK = 64 };

struct worker {
    struct pool *pool;
    pthread_t thread;
    int part;
};

struct pool {
    int threads, started;
    uint64_t spin_ns; /* 0 where there are more threads than CPUs */
    pool_fn fn;
    void *arg;
    struct worker *workers;
    _Alignas(64) _Atomic uint32_t generation;
    _Atomic uint32_t sleepers; /* workers asleep on generation */
    atomic_bool stop;
    _Alignas(64) _Atomic uint32_t left;
    _Atomic uint32_t caller_sleeps;
};

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* True when *word moved away from `value` within the spin. */
static bool spin_while(_Atomic uint32_t *word, uint32_t value, uint64_t spin_ns)
{
    uint64_t until = 0;
    do {
        for (int i = 0; i < SPIN_CHECK; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != value)
                return true;
            pause_cpu();
        }
        uint64_t now = clock_ns();
        until = until ? until : now + spin_ns;
        if (now >= until)
            return false;
    } while (spin_ns > 0);
    return false;
}

static void wait_generation(struct pool *p, uint32_t seen)
{
    if (spin_while(&p->generation, seen, p->spin_ns))
        return;
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(&p->generation) == seen)
        futex_wait(&p->generation, seen);
    atomic_fetch_sub(&p->sleepers, 1);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    uint32_t seen = 0;
    for (;;) {
        wait_generation(p, seen);
        seen++;
        if (atomic_load(&p->stop))
            return NULL;
        p->fn(p->arg, w->part, p->threads);
        if (atomic_fetch_sub(&p->left, 1) == 1 && atomic_load(&p->caller_sleeps))
            futex_wake(&p->left, 1);
    }
}

static void wait_left(struct pool *p)
{
    uint32_t left;
    uint64_t until = clock_ns() + p->spin_ns;
    while ((left = atomic_load_explicit(&p->left, memory_order_acquire)) != 0) {
        pause_cpu();
        if (clock_ns() < until)
            continue;
        atomic_store(&p->caller_sleeps, 1);
        while ((left = atomic_load(&p->left)) != 0)
            futex_wait(&p->left, left);
        atomic_store(&p->caller_sleeps, 0);
    }
}

void pool_run(struct pool *p, pool_fn fn, void *arg)
{
    if (p->threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    atomic_store(&p->left, (uint32_t)p->threads - 1);
    atomic_fetch_add(&p->generation, 1);
    if (atomic_load(&p->sleepers) > 0)
        futex_wake(&p->generation, INT32_MAX);
    fn(arg, 0, p->threads);
    wait_left(p);
}

static void pin_to(pthread_t thread, int index)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || index-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)pthread_setaffinity_np(thread, sizeof(one), &one);
        return;
    }
}

int pool_create(struct pool **out, int threads, int pin, struct error *e)
{
    *out = NULL;
    if (threads < 1 || threads > POOL_THREADS_MAX)
        return error_set(e, ERR_INVALID, "%d threads; give 1 to %d", threads, POOL_THREADS_MAX);
    struct pool *p = mem_try_big(sizeof(*p));
    if (!p)
        return error_set(e, ERR_MEMORY, "no memory for the thread pool");
    p->threads = threads;
    p->spin_ns = threads <= pool_cpu_count() ? SPIN_NS : 0;
    p->workers = mem_array((size_t)threads, sizeof(*p->workers));
    for (int i = 1; i < threads; i++) {
        struct worker *w = &p->workers[i];
        *w = (struct worker){.pool = p, .part = i};
        if (pthread_create(&w->thread, NULL, work, w) != 0) {
            pool_destroy(&p);
            return error_set(e, ERR_MEMORY, "the system gives no thread %d of %d", i + 1, threads);
        }
        p->started = i;
        if (pin)
            pin_to(w->thread, i);
    }
    *out = p;
    return 0;
}

void pool_destroy(struct pool **pool_p)
{
    struct pool *p = *pool_p;
    if (!p)
        return;
    atomic_store(&p->stop, true);
    atomic_fetch_add(&p->generation, 1);
    futex_wake(&p->generation, INT32_MAX);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->workers[i].thread, NULL);
    mem_free(p->workers);
    mem_big_free(p, sizeof(*p));
    *pool_p = NULL;
}

int pool_threads(const struct pool *p)
{
    return p->threads;
}

int pool_cpu_count(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return 1;
    int n = CPU_COUNT(&allowed);
    return n < 1 ? 1 : n > POOL_THREADS_MAX ? POOL_THREADS_MAX : n;
}

void pool_slice(size_t n, size_t grain, int part, int parts, size_t *first, size_t *last)
{
    size_t grains = (n + grain - 1) / grain;
    size_t a = grains * (size_t)part / (size_t)parts * grain, b = grains * ((size_t)part + 1) / (size_t)parts * grain;
    *first = a < n ? a : n;
    *last = b < n ? b : n;
}
