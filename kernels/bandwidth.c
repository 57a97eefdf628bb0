/* bandwidth: how fast this machine reads memory: sums of a block that is larger than its caches. */
#include <stdint.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "kernels/backend.h"
#include "kernels/pool.h"

enum { MEASURE_MS = 200 };

struct reading {
    const uint64_t *words;
    size_t n;
    uint64_t sums[POOL_THREADS_MAX];
};

/* Eight independent sums, so that no addition waits for the one before. */
static void read_part(void *arg, int part, int parts)
{
    struct reading *r = arg;
    size_t first, last;
    uint64_t s[8] = {0};
    pool_slice(r->n, 64, part, parts, &first, &last);
    for (size_t i = first; i + 8 <= last; i += 8)
        for (size_t k = 0; k < 8; k++)
            s[k] += r->words[i + k];
    r->sums[part] += s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
}

double backend_read_bandwidth(int threads, size_t bytes)
{
    struct pool *pool;
    bytes = bytes ? bytes : (size_t)256 << 20;
    uint8_t *block = mem_try_big(bytes);
    if (!block || pool_create(&pool, threads, 0, NULL) != 0) {
        mem_big_free(block, bytes);
        return 0;
    }
    memset(block, 1, bytes);
    struct reading r = {.words = (const void *)block, .n = bytes / sizeof(uint64_t)};
    double best = 0;
    uint64_t until = clock_ms() + MEASURE_MS;
    do {
        uint64_t t = clock_ns();
        pool_run(pool, read_part, &r);
        double rate = (double)bytes / ((double)(clock_ns() - t) / 1e9);
        best = rate > best ? rate : best;
    } while (clock_ms() < until);
    pool_destroy(&pool);
    mem_big_free(block, bytes);
    return best;
}
