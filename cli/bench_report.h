/* bench_report: figures gathered by shoal bench, printed as a table for people or a JSON line for scripts. */
#ifndef CLI_BENCH_REPORT_H
#define CLI_BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"
#include "shard/arch/arch.h"

enum bench_kind { BENCH_PREFILL, BENCH_DECODE, BENCH_CLUSTER_PREFILL, BENCH_CLUSTER_DECODE, BENCH_KINDS };

struct bench_report;

struct bench_report *bench_report_create(bool json);
void bench_report_destroy(struct bench_report **r);
/* What computed the figures to come: the model, the device, its memory's read bandwidth, weight bytes a token. */
void bench_report_machine(struct bench_report *r, const struct model *m, const struct device_facts *facts,
                          double read_bandwidth, uint64_t bytes_per_token);
/* One measurement, in tokens a second. */
void bench_report_add(struct bench_report *r, enum bench_kind kind, uint32_t tokens, double rate);
/* The status of a cluster (docs/status.md): where a step's time goes, stage by stage. */
void bench_report_route(struct bench_report *r, const char *status, size_t len);
/* Prints what was gathered and forgets it. */
void bench_report_print(struct bench_report *r);

#endif
