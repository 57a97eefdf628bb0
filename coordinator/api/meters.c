/* meters: see meters.h.  A histogram is a row of bounds and as many counters, the last one without a bound. */
#include "coordinator/api/meters.h"

#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

enum { BOUNDS_MAX = 24 };

/* Bounds are vLLM's, so that boards made for it show the same steps; 0 ends a row. */
static const struct histogram_row {
    const char *name, *help;
    double bounds[BOUNDS_MAX];
} rows[METER_COUNT] = {
#define REQUEST_BOUNDS { 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680 }
#define TOKEN_BOUNDS { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6 }
    [METER_FIRST_TOKEN] = { "time_to_first_token_seconds", "From a request to its first token.",
                            { 0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20,
                              40, 80, 160, 640, 2560 } },
    [METER_NEXT_TOKEN] = { "inter_token_latency_seconds", "From a token to the next.",
                           { 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40,
                             80 } },
    [METER_REQUEST] = { "e2e_request_latency_seconds", "From a request to its end.", REQUEST_BOUNDS },
    [METER_QUEUE] = { "request_queue_time_seconds", "Waiting for a place.", REQUEST_BOUNDS },
    [METER_PREFILL] = { "request_prefill_time_seconds", "Computing the prompt.", REQUEST_BOUNDS },
    [METER_DECODE] = { "request_decode_time_seconds", "Computing the answer.", REQUEST_BOUNDS },
    [METER_PROMPT] = { "request_prompt_tokens", "Tokens of a prompt.", TOKEN_BOUNDS },
    [METER_ANSWER] = { "request_generation_tokens", "Tokens of an answer.", TOKEN_BOUNDS },
#undef REQUEST_BOUNDS
#undef TOKEN_BOUNDS
};

static const char *const reasons[] = { "stop", "length", "tool_calls", "other" };

struct meters {
    struct {
        atomic_ullong counts[BOUNDS_MAX + 1];
        atomic_ullong sum; /* in millionths */
    } histograms[METER_COUNT];
    atomic_ullong finished[COUNTOF(reasons)];
};

struct meters *meters_create(void)
{
    return mem_alloc(sizeof(struct meters));
}

void meters_destroy(struct meters **m)
{
    mem_free(*m);
    *m = NULL;
}

static size_t bounds_of(enum meter which)
{
    size_t n = 0;
    while (n < BOUNDS_MAX && rows[which].bounds[n] > 0)
        n++;
    return n;
}

void meters_add(struct meters *m, enum meter which, double value)
{
    size_t i = 0;
    while (i < BOUNDS_MAX && rows[which].bounds[i] > 0 && value > rows[which].bounds[i])
        i++;
    atomic_fetch_add(&m->histograms[which].counts[i], 1);
    atomic_fetch_add(&m->histograms[which].sum, (unsigned long long)(value * 1e6));
}

void meters_finished(struct meters *m, const char *reason)
{
    size_t i = 0;
    while (i + 1 < COUNTOF(reasons) && strcmp(reasons[i], reason) != 0)
        i++;
    atomic_fetch_add(&m->finished[i], 1);
}

/* ---- one sequence ---- */

void watch_start(struct watch *w)
{
    *w = (struct watch){ .begun_us = clock_us() };
}

void watch_token(struct watch *w, struct meters *m)
{
    uint64_t now = clock_us();
    if (w->tokens++ == 0)
        meters_add(m, METER_FIRST_TOKEN, (double)(now - w->begun_us) / 1e6);
    else
        meters_add(m, METER_NEXT_TOKEN, (double)(now - w->token_us) / 1e6);
    w->token_us = now;
}

void watch_end(const struct watch *w, struct meters *m, uint64_t prompt_tokens, const char *reason)
{
    meters_add(m, METER_REQUEST, (double)(clock_us() - w->begun_us) / 1e6);
    meters_add(m, METER_PROMPT, (double)prompt_tokens);
    meters_add(m, METER_ANSWER, (double)w->tokens);
    meters_finished(m, reason);
}

/* ---- as text ---- */

static void write_histogram(const struct meters *m, enum meter which, const char *labels, struct buffer *out)
{
    const char *name = rows[which].name;
    size_t n = bounds_of(which);
    unsigned long long count = 0;
    buffer_printf(out, "# HELP vllm:%s %s\n# TYPE vllm:%s histogram\n", name, rows[which].help, name);
    for (size_t i = 0; i < n; i++) {
        count += atomic_load(&m->histograms[which].counts[i]);
        buffer_printf(out, "vllm:%s_bucket{%s,le=\"%g\"} %llu\n", name, labels, rows[which].bounds[i], count);
    }
    count += atomic_load(&m->histograms[which].counts[n]);
    buffer_printf(out, "vllm:%s_bucket{%s,le=\"+Inf\"} %llu\nvllm:%s_sum{%s} %.15g\nvllm:%s_count{%s} %llu\n", name,
                  labels, count, name, labels, (double)atomic_load(&m->histograms[which].sum) / 1e6, name, labels,
                  count);
}

void meters_write(const struct meters *m, const char *labels, struct buffer *out)
{
    for (enum meter i = 0; i < METER_COUNT; i++)
        write_histogram(m, i, labels, out);
    buffer_add_text(out, "# HELP vllm:request_success_total Sequences that ended, by reason.\n"
                    "# TYPE vllm:request_success_total counter\n");
    for (size_t i = 0; i < COUNTOF(reasons); i++)
        buffer_printf(out, "vllm:request_success_total{%s,finished_reason=\"%s\"} %llu\n", labels, reasons[i],
                      atomic_load(&m->finished[i]));
}
