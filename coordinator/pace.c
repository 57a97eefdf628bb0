/* pace: two smoothed numbers; a large step is rows, a small one is a step. */
#include "coordinator/pace.h"

static double smooth(double old, double now)
{
    return old == 0 ? now : old * 0.9 + now * 0.1;
}

void pace_note(struct pace *p, uint32_t rows, uint64_t us)
{
    if (rows == 0)
        return;
    if (rows <= PACE_SMALL_ROWS)
        p->small_us = smooth(p->small_us, (double)us);
    else
        p->row_us = smooth(p->row_us, (double)us / rows);
}

uint64_t pace_timeout_us(const struct pace *p, uint32_t rows, uint32_t steps, uint64_t floor_us)
{
    double row = p->row_us > 0 ? p->row_us : p->small_us > 0 ? p->small_us : PACE_UNKNOWN_ROW_US;
    double expected = row * rows + p->small_us * steps;
    return floor_us + (uint64_t)(expected * (row == PACE_UNKNOWN_ROW_US ? 1 : PACE_PATIENCE));
}
