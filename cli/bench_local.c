/* bench_local: one process: random tokens and no sampler, so that nothing but the model is measured.
 *
 * Context is filled once, by prefill, and stays: a measurement goes back to
 * where the context ends.  Models with a state cannot, and are filled again. */
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "cli/bench_parts.h"
#include "cli/bench_peer.h"
#include "cli/interrupt.h"
#include "kernels/pool.h"

enum { WARM_TOKENS = 4, ROWS_MAX = 512 };

int32_t *bench_tokens(struct bench *b, uint32_t n, uint32_t n_vocab)
{
    int32_t *tokens = mem_array((size_t)n + 1, sizeof(*tokens));
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (int32_t)(random_u64(&b->random) % n_vocab);
    return tokens;
}

static uint32_t largest_batch(const struct bench *b)
{
    uint32_t most = 1;
    for (size_t i = 0; i < b->n_batches; i++)
        most = b->batches[i] > most ? b->batches[i] : most;
    return most;
}

int bench_open(struct bench *b, struct local *l, uint32_t threads, struct error *e)
{
    const struct settings *s = b->s;
    uint32_t longest = b->prompt > b->generate ? b->prompt : b->generate;
    struct local_options o = {
        .path = settings_argument(s, 0),
        .device = {.threads = (int)threads, .pin = settings_switch(s, "pin"), .isa = settings_text(s, "isa")},
        .backend = settings_text(s, "backend"),
        .kv_type = settings_text(s, "kv_type"),
        .context = b->depth + longest + KV_PAGE_TOKENS,
        .sequences_max = largest_batch(b),
        .batch_rows_max = ROWS_MAX,
        .progress = isatty(STDERR_FILENO),
        .settings = s,
    };
    return local_open(l, &o, e);
}

/* ---- one measurement ---- */

static int fill(struct bench *b, struct local *l, uint64_t sequence, struct error *e)
{
    shard_end(l->shard, sequence);
    int32_t *tokens = bench_tokens(b, b->depth, model_hparams(l->model)->n_vocab);
    int r = local_feed(l, sequence, tokens, b->depth, 0, false, interrupt_seen, e);
    mem_free(tokens);
    return r;
}

/* Sequences 1..n hold the context. */
static int settle(struct bench *b, struct local *l, uint32_t n, struct error *e)
{
    bool again = b->depth == 0 || model_state_bytes(l->model) > 0;
    int r = 0;
    for (uint32_t i = 1; r == 0 && i <= n; i++)
        if (again || shard_length(l->shard, i) < b->depth)
            r = fill(b, l, i, e);
    return r;
}

int bench_prefill(struct bench *b, struct local *l, double *rate, struct error *e)
{
    int r = settle(b, l, 1, e);
    if (r != 0)
        return r;
    int32_t *tokens = bench_tokens(b, b->prompt, model_hparams(l->model)->n_vocab);
    uint64_t start = clock_ns();
    r = local_feed(l, 1, tokens, b->prompt, b->depth, true, interrupt_seen, e);
    *rate = b->prompt / ((double)(clock_ns() - start) / 1e9);
    mem_free(tokens);
    return r;
}

/* `batch` sequences advance together by n tokens. */
static int decode(struct bench *b, struct local *l, uint32_t batch, uint32_t n, double *rate, struct error *e)
{
    struct step_row rows[STEP_SEQUENCES_MAX];
    uint32_t n_vocab = model_hparams(l->model)->n_vocab;
    int r = settle(b, l, batch, e);
    uint64_t start = clock_ns();
    for (uint32_t at = 0; r == 0 && at < n; at++) {
        for (uint32_t i = 0; i < batch; i++)
            rows[i] = (struct step_row){.sequence = i + 1, .position = b->depth + at, .flags = ROW_SAMPLE,
                                        .token = (int32_t)(random_u64(&b->random) % n_vocab),
                                        .adapter = l->lora != NULL};
        r = interrupt_seen() ? error_set(e, ERR_CANCELLED, "stopped") : shard_step(l->shard, rows, batch, NULL, e);
    }
    *rate = (double)n * batch / ((double)(clock_ns() - start) / 1e9);
    return r;
}

static int measure(struct bench *b, struct local *l, const struct bench_case *c, double *rate, struct error *e)
{
    return c->kind == BENCH_PREFILL ? bench_prefill(b, l, rate, e) : decode(b, l, c->batch, c->tokens, rate, e);
}

/* ---- rounds ---- */

/* What is to be measured: the prompt, then every batch. */
static size_t list_cases(const struct bench *b, struct bench_case out[static BENCH_CASES_MAX])
{
    size_t n = 0;
    if (b->prompt > 0)
        out[n++] = (struct bench_case){BENCH_PREFILL, b->prompt, 1, b->depth};
    for (size_t i = 0; b->generate > 0 && i < b->n_batches && n < BENCH_CASES_MAX; i++)
        out[n++] = (struct bench_case){BENCH_DECODE, b->generate, b->batches[i], b->depth};
    return n;
}

static int compare_round(struct bench *b, uint32_t threads, const struct bench_case *cases, size_t n, struct error *e)
{
    struct bench_peer_wants w = {.model = settings_argument(b->s, 0), .threads = threads, .prompt = b->prompt,
                                 .generate = b->generate, .depth = b->depth};
    struct bench_peer_figure figures[BENCH_PEER_FIGURES_MAX];
    size_t n_figures, matched = 0;
    int r = bench_peer_run(b->compare, &w, figures, &n_figures, e);
    for (size_t i = 0; r == 0 && i < n; i++)
        for (size_t k = 0; k < n_figures; k++)
            if (bench_peer_fits(&figures[k], &cases[i], threads)) {
                bench_report_peer(b->report, &cases[i], figures[k].rate);
                matched++;
                break;
            }
    if (r == 0 && matched == 0)
        r = error_set(e, ERR_INVALID, "--compare: none of the %zu figures that the command printed is of what is "
                      "measured here (%u threads)", n_figures, threads);
    return r;
}

static int run_rounds(struct bench *b, struct local *l, uint32_t threads, struct error *e)
{
    struct bench_case cases[BENCH_CASES_MAX];
    size_t n = list_cases(b, cases);
    double rate;
    int r = decode(b, l, 1, b->generate < WARM_TOKENS ? b->generate : WARM_TOKENS, &rate, e);
    for (uint32_t round = 0; r == 0 && round < b->repeat; round++) {
        for (size_t i = 0; r == 0 && i < n; i++) {
            r = measure(b, l, &cases[i], &rate, e);
            if (r == 0)
                bench_report_add(b->report, &cases[i], rate);
        }
        if (r == 0 && b->compare)
            r = compare_round(b, threads, cases, n, e);
    }
    return r;
}

/* Once more with clocks between the operations, which the figures themselves are spared. */
static int run_timed(struct bench *b, struct local *l, struct error *e)
{
    struct bench_case cases[BENCH_CASES_MAX];
    size_t n = list_cases(b, cases);
    int r = 0;
    if (b->depth > 0 && model_state_bytes(l->model) > 0)
        return 0; /* its context would be filled, and counted, in between */
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct shard_times times;
        double rate;
        r = settle(b, l, cases[i].batch, e);
        if (r != 0)
            break;
        shard_time(l->shard, 1);
        r = measure(b, l, &cases[i], &rate, e);
        shard_times(l->shard, &times);
        shard_time(l->shard, 0);
        if (r == 0)
            bench_report_times(b->report, &cases[i], &times);
    }
    return r;
}

static void measure_ceilings(const struct bench *b, int threads, struct bench_ceilings *out)
{
    const char *isa = settings_text(b->s, "isa");
    out->threads = (uint32_t)threads;
    out->read_bandwidth = backend_read_bandwidth(threads, 0);
    for (int k = 0; k < CEILINGS; k++)
        out->operations[k] = backend_ceiling((enum ceiling)k, isa, threads);
}

int bench_threads(struct bench *b, uint32_t threads, struct error *e)
{
    struct local l;
    struct device_facts facts;
    struct bench_ceilings ceilings;
    int r = bench_open(b, &l, threads, e);
    if (r != 0)
        return r;
    l.device->backend->facts(l.device, &facts);
    measure_ceilings(b, facts.cores, &ceilings);
    bench_report_machine(b->report, l.model, &facts, &ceilings);
    r = run_rounds(b, &l, (uint32_t)facts.cores, e);
    if (r == 0)
        r = run_timed(b, &l, e);
    local_close(&l);
    if (r == 0)
        bench_report_print(b->report);
    return r;
}

int bench_machine(const struct bench *b, struct error *e)
{
    size_t n;
    const uint32_t *threads = settings_list(b->s, "threads", &n);
    struct device *d;
    struct device_options o = {.threads = 1, .isa = settings_text(b->s, "isa")};
    struct device_facts facts;
    int r = backend_open(&d, settings_text(b->s, "backend"), &o, e);
    if (r != 0)
        return r;
    d->backend->facts(d, &facts);
    backend_close(&d);
    bool all = n == 1 && threads[0] == 0;
    int cpus = pool_cpu_count();
    for (size_t i = 0, count = 1; all ? (int)count <= cpus : i < n; i++, count *= 2) {
        struct bench_ceilings c;
        if (interrupt_seen())
            return error_set(e, ERR_CANCELLED, "stopped");
        measure_ceilings(b, all ? (int)count : threads[i] ? (int)threads[i] : cpus, &c);
        bench_report_ceilings(&c, settings_switch(b->s, "json"), i == 0);
    }
    return 0;
}
