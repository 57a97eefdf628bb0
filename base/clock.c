/* clock: CLOCK_MONOTONIC in three units, and the wall clock. */
#include "base/clock.h"

#include <errno.h>
#include <time.h>

uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t clock_us(void)
{
    return clock_ns() / 1000;
}

uint64_t clock_ms(void)
{
    return clock_ns() / 1000000;
}

int64_t clock_unix(void)
{
    return (int64_t)time(NULL);
}

void clock_sleep_ms(uint64_t ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}
