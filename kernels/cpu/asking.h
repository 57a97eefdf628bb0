/* asking: what is read after a page of KV is asked for while the page is worked on, a piece a step: the processor does
 * not foresee it. */
#ifndef KERNELS_CPU_ASKING_H
#define KERNELS_CPU_ASKING_H

#include "kernels/cpu/isa.h"

enum { ASKING_LINE = 64 };

struct asking {
    const uint8_t *at;
    size_t lines, each; /* that are left; that are asked for in a step */
};

static inline struct asking asking_of(const struct page_job *job, size_t steps)
{
    size_t lines = job->ahead ? (job->ahead_bytes + ASKING_LINE - 1) / ASKING_LINE : 0;
    return (struct asking){job->ahead, lines, (lines + steps - 1) / steps};
}

static inline __attribute__((always_inline)) void ask(struct asking *a)
{
    size_t n = a->lines < a->each ? a->lines : a->each;
    a->lines -= n;
    for (; n > 0; n--, a->at += ASKING_LINE)
        __builtin_prefetch(a->at);
}

#endif
