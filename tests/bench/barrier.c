/* barrier: what it costs to hand nothing to every thread of a pool and to wait for all of them. Run by hand:
 * barrier [THREADS] */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "kernels/pool.h"

enum { ROUNDS = 20, RUNS = 100000 };

static void nothing(void *arg, int part, int parts)
{
    (void)arg;
    (void)part;
    (void)parts;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : pool_cpu_count();
    struct error e;
    struct pool *pool;
    double best = 0, worst = 0;
    if (threads < 1 || pool_create(&pool, threads, 0, &e) != 0)
        return 1;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t began = clock_ns();
        for (int k = 0; k < RUNS; k++)
            pool_run(pool, nothing, NULL);
        double each = (double)(clock_ns() - began) / RUNS;
        best = i == 0 || each < best ? each : best;
        worst = each > worst ? each : worst;
    }
    printf("%d threads: %.0f ns in the best of %d rounds, %.0f in the worst\n", threads, best, ROUNDS, worst);
    pool_destroy(&pool);
    return 0;
}
