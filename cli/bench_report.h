/* bench_report: figures gathered by shoal bench, printed as a table for people or a JSON line for scripts.
 *
 * Rates are tokens a second, of all sequences of a batch together; bandwidths
 * bytes a second (weights alone: the KV comes on top); operations a second count
 * a multiply-add as two and leave attention out.                             */
#ifndef CLI_BENCH_REPORT_H
#define CLI_BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"
#include "shard/arch/arch.h"
#include "shard/run/shard.h"

enum bench_kind { BENCH_PREFILL, BENCH_DECODE, BENCH_CLUSTER_PREFILL, BENCH_CLUSTER_DECODE, BENCH_KINDS };

enum { BENCH_CASES_MAX = 64 };

/* What is measured: `tokens` of each of `batch` sequences, after `depth` positions. */
struct bench_case {
    enum bench_kind kind;
    uint32_t tokens, batch, depth;
};

/* What the machine can; an operation rate is 0 where the instruction set has no such multiply-add. */
struct bench_ceilings {
    uint32_t threads;
    double read_bandwidth;
    double operations[CEILINGS];
};

struct bench_report;

struct bench_report *bench_report_create(bool json);
void bench_report_destroy(struct bench_report **r);
/* What computed the figures to come. */
void bench_report_machine(struct bench_report *r, const struct model *m, const struct device_facts *facts,
                          const struct bench_ceilings *ceilings);
/* One measurement, in tokens a second; past BENCH_CASES_MAX cases they are dropped. */
void bench_report_add(struct bench_report *r, const struct bench_case *c, double rate);
/* The same of a peer, for a case that has one of ours. */
void bench_report_peer(struct bench_report *r, const struct bench_case *c, double rate);
/* Where the time of all tokens of the case went. */
void bench_report_times(struct bench_report *r, const struct bench_case *c, const struct shard_times *times);
/* The status of a cluster (docs/status.md): where a step's time goes, stage by stage. */
void bench_report_route(struct bench_report *r, const char *status, size_t len);
/* Prints what was gathered and forgets it. */
void bench_report_print(struct bench_report *r);

/* One line of what the machine can, under a heading when it is the first. */
void bench_report_ceilings(const struct bench_ceilings *c, bool json, bool first);

#endif
