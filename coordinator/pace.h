/* pace: how long steps take, and how long to wait for one before its route counts as broken.  Pure.
 *
 * A step that is late may be a large one on a slow machine: a wait is a floor
 * plus a generous multiple of what steps of that size have taken.  What was
 * never measured is assumed to be slow.                                      */
#ifndef COORDINATOR_PACE_H
#define COORDINATOR_PACE_H

#include <stdint.h>

enum pace_numbers {
    PACE_SMALL_ROWS = 8,          /* steps of at most so many rows are small */
    PACE_PATIENCE = 16,           /* times what was measured */
    PACE_UNKNOWN_ROW_US = 1000000, /* a row, before anything was measured */
};

struct pace {
    double small_us; /* smoothed latency of a small step; 0: none came back yet */
    double row_us;   /* smoothed, of larger steps; 0: none came back yet */
};

/* A step came back after `us`; `rows`: its own and those that were in flight before it. */
void pace_note(struct pace *p, uint32_t rows, uint64_t us);
/* How long a step may take that makes it `rows` in flight in `steps` steps. */
uint64_t pace_timeout_us(const struct pace *p, uint32_t rows, uint32_t steps, uint64_t floor_us);

#endif
