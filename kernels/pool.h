/* pool: fork-join threads for kernels.
 *
 * pool_run() calls fn(arg, part, parts) once for every part in 0..parts-1, one
 * part a thread, the caller being part 0, and returns when all are done.  A
 * worker spins a few microseconds for the next call, then sleeps on a futex,
 * so an idle pool costs nothing.  Which thread computes what never changes a
 * result: operations split rows of output, not sums.  One thread calls
 * pool_run() at a time; fn must not call it.                                 */
#ifndef KERNELS_POOL_H
#define KERNELS_POOL_H

#include "base/error.h"

enum { POOL_THREADS_MAX = 256 };

struct pool;

typedef void (*pool_fn)(void *arg, int part, int parts);

/* threads 1..POOL_THREADS_MAX, the caller included; pinned to the process' CPUs in order when `pin`. */
MUST_USE int pool_create(struct pool **out, int threads, int pin, struct error *e);
void pool_destroy(struct pool **pool_p);
int pool_threads(const struct pool *p);
void pool_run(struct pool *p, pool_fn fn, void *arg);

/* The CPUs that this process may use. */
int pool_cpu_count(void);

/* Rows [*first, *last) of n that part `part` of `parts` owns, in multiples of `grain` but for the end. */
void pool_slice(size_t n, size_t grain, int part, int parts, size_t *first, size_t *last);

#endif
