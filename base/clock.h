/* clock: monotonic time for deadlines, wall time for people.
 *
 * Pure deciders (place, route, schedule) never call these; they are given the
 * time.                                                                      */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_ms(void);      /* monotonic milliseconds */
uint64_t clock_us(void);      /* monotonic microseconds */
uint64_t clock_ns(void);      /* monotonic nanoseconds */
int64_t clock_unix(void);     /* seconds since 1970, wall clock */
void clock_sleep_ms(uint64_t ms);

#endif
