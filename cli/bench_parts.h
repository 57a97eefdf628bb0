/* bench_parts: what the files of shoal bench share. Not for others. */
#ifndef CLI_BENCH_PARTS_H
#define CLI_BENCH_PARTS_H

#include "base/error.h"
#include "base/random.h"
#include "cli/bench_report.h"
#include "cli/local.h"
#include "cli/settings.h"

struct bench {
    const struct settings *s;
    uint32_t prompt, generate, depth, repeat;
    const uint32_t *batches; /* ascending or not, as given */
    size_t n_batches;
    const char *compare; /* a peer's command, or NULL */
    struct random_state random;
    struct bench_report *report;
};

/* n ids that the model knows, the same ones from the same seed; mem_free() them. */
int32_t *bench_tokens(struct bench *b, uint32_t n, uint32_t n_vocab);

/* bench_local.c: one process. */
MUST_USE int bench_open(struct bench *b, struct local *l, uint32_t threads, struct error *e);
/* The prompt after `depth` positions of context, in tokens a second. */
MUST_USE int bench_prefill(struct bench *b, struct local *l, double *rate, struct error *e);
/* Everything that there is to measure with so many threads, printed. */
MUST_USE int bench_threads(struct bench *b, uint32_t threads, struct error *e);
/* What the machine can, for every count of threads, printed. */
MUST_USE int bench_machine(const struct bench *b, struct error *e);

#endif
