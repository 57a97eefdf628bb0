/* bench_report: medians, spreads and ratios. */
#include "cli/bench_report.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/progress.h"

enum { SAMPLES_MAX = 1000, TIMES = 8 };

static const struct {
    const char *name, *words;
} kinds[BENCH_KINDS] = {
    [BENCH_PREFILL] = {"prefill", "one process, prefill"},
    [BENCH_DECODE] = {"decode", "one process, decode"},
    [BENCH_CLUSTER_PREFILL] = {"cluster_prefill", "cluster, prefill"},
    [BENCH_CLUSTER_DECODE] = {"cluster_decode", "cluster, decode"},
};

static const char *const ceiling_names[CEILINGS] = {
    [CEILING_INT8] = "int8", [CEILING_BF16] = "bf16", [CEILING_F32] = "f32"};
static const char *const time_names[TIMES] = {"embed", "norm", "matmul", "rope", "attention", "ffn", "moe", "head"};

struct samples {
    double *rates;
    size_t n;
};

struct figures {
    struct bench_case what;
    struct samples ours, peer;
    bool timed;
    uint64_t times[TIMES]; /* ns, of all tokens */
};

struct bench_report {
    bool json;
    char model[160], device[64];
    struct bench_ceilings ceilings;
    uint64_t bytes_per_token;
    double operations_per_token;
    json_t *route; /* stages, or NULL */
    struct figures figures[BENCH_CASES_MAX];
    size_t n;
};

struct bench_report *bench_report_create(bool json)
{
    struct bench_report *r = mem_alloc(sizeof(*r));
    r->json = json;
    return r;
}

static void forget(struct bench_report *r)
{
    bool json = r->json;
    json_decref(r->route);
    for (size_t i = 0; i < r->n; i++) {
        mem_free(r->figures[i].ours.rates);
        mem_free(r->figures[i].peer.rates);
    }
    memset(r, 0, sizeof(*r));
    r->json = json;
}

void bench_report_destroy(struct bench_report **report_p)
{
    if (!*report_p)
        return;
    forget(*report_p);
    mem_free(*report_p);
    *report_p = NULL;
}

/* ---- gathering ---- */

void bench_report_machine(struct bench_report *r, const struct model *m, const struct device_facts *facts,
                          const struct bench_ceilings *ceilings)
{
    const struct hparams *h = model_hparams(m);
    struct layer_range all = {0, h->n_layers, true, true};
    char count[32], bytes[32];
    r->bytes_per_token = model_range_bytes_per_token(m, &all);
    r->operations_per_token = 2 * (double)model_params_active(m);
    r->ceilings = *ceilings;
    snprintf(r->model, sizeof(r->model), "%.40s, %s, %s parameters, %s a token", h->name, h->arch->name,
             progress_count((double)model_params_total(m), count), progress_bytes(r->bytes_per_token, bytes));
    snprintf(r->device, sizeof(r->device), "%s", facts->name);
}

static bool same(const struct bench_case *a, const struct bench_case *b)
{
    return a->kind == b->kind && a->tokens == b->tokens && a->batch == b->batch && a->depth == b->depth;
}

/* NULL: there is no room for one more. */
static struct figures *figures_of(struct bench_report *r, const struct bench_case *c)
{
    for (size_t i = 0; i < r->n; i++)
        if (same(&r->figures[i].what, c))
            return &r->figures[i];
    if (r->n == BENCH_CASES_MAX)
        return NULL;
    r->figures[r->n].what = *c;
    return &r->figures[r->n++];
}

static void sample(struct samples *s, double rate)
{
    if (s->n == SAMPLES_MAX)
        return;
    s->rates = mem_resize(s->rates, s->n + 1, sizeof(*s->rates));
    s->rates[s->n++] = rate;
}

void bench_report_add(struct bench_report *r, const struct bench_case *c, double rate)
{
    struct figures *f = figures_of(r, c);
    if (f)
        sample(&f->ours, rate);
}

void bench_report_peer(struct bench_report *r, const struct bench_case *c, double rate)
{
    struct figures *f = figures_of(r, c);
    if (f)
        sample(&f->peer, rate);
}

void bench_report_times(struct bench_report *r, const struct bench_case *c, const struct shard_times *t)
{
    struct figures *f = figures_of(r, c);
    if (!f)
        return;
    const uint64_t times[TIMES] = {t->embed_ns, t->norm_ns, t->matmul_ns, t->rope_ns,
                                   t->attention_ns, t->ffn_ns, t->moe_ns, t->head_ns};
    memcpy(f->times, times, sizeof(times));
    f->timed = true;
}

void bench_report_route(struct bench_report *r, const char *status, size_t len)
{
    json_t *j = json_loadb(status, len, 0, NULL);
    json_decref(r->route);
    r->route = json_incref(json_object_get(json_object_get(j, "route"), "stages"));
    json_decref(j);
}

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts; the middle one, or the mean of the two middle ones. */
static double median(struct samples *s)
{
    if (s->n == 0)
        return 0;
    qsort(s->rates, s->n, sizeof(s->rates[0]), compare);
    return (s->rates[(s->n - 1) / 2] + s->rates[s->n / 2]) / 2;
}

static bool is_local(const struct figures *f)
{
    return f->what.kind == BENCH_PREFILL || f->what.kind == BENCH_DECODE;
}

/* Weight bytes a second. Known of one sequence alone: which experts a batch shares depends on its tokens. */
static double weight_bytes(const struct bench_report *r, const struct figures *f, double rate)
{
    return f->what.kind == BENCH_DECODE && f->what.batch == 1 ? rate * (double)r->bytes_per_token : 0;
}

/* The output matrix meets only the last row of a prompt, but is counted: of a large model it is little. */
static double operations(const struct bench_report *r, const struct figures *f, double rate)
{
    return is_local(f) ? rate * r->operations_per_token : 0;
}

static double time_sum(const struct figures *f)
{
    double sum = 0;
    for (int k = 0; k < TIMES; k++)
        sum += (double)f->times[k];
    return sum;
}

/* ---- for people ---- */

static void print_floor(const struct bench_report *r, const struct figures *f, double rate)
{
    double bytes = weight_bytes(r, f, rate), did = operations(r, f, rate);
    double most_bytes = r->ceilings.read_bandwidth, most = r->ceilings.operations[CEILING_INT8];
    if (bytes > 0 && most_bytes > 0)
        printf("   reads %.1f GB/s, %.0f %% of the memory's %.1f", bytes / 1e9, 100 * bytes / most_bytes,
               most_bytes / 1e9);
    if (bytes == 0 && did > 0 && most > 0)
        printf("   %.1f Gop/s, %.0f %% of int8's %.1f", did / 1e9, 100 * did / most, most / 1e9);
    else if (bytes == 0 && did > 0)
        printf("   %.1f Gop/s", did / 1e9);
}

static void print_row(const struct bench_report *r, struct figures *f)
{
    double middle = median(&f->ours);
    if (f->ours.n == 0)
        return;
    printf("%-22s %6u %5u %7u  %9.2f  %9.2f  %9.2f", kinds[f->what.kind].words, f->what.tokens, f->what.batch,
           f->what.depth, middle, f->ours.rates[0], f->ours.rates[f->ours.n - 1]);
    print_floor(r, f, middle);
    putchar('\n');
    if (f->peer.n == 0)
        return;
    double other = median(&f->peer);
    printf("%-22s %6s %5s %7s  %9.2f  %9.2f  %9.2f   ratio %.3f\n", "  the other", "", "", "", other, f->peer.rates[0],
           f->peer.rates[f->peer.n - 1], middle / other);
}

static void print_times(const struct bench_report *r)
{
    bool any = false;
    for (size_t i = 0; i < r->n; i++) {
        const struct figures *f = &r->figures[i];
        double sum = time_sum(f);
        if (!f->timed || sum <= 0)
            continue;
        if (!any)
            printf("where the time of a token goes:\n");
        any = true;
        printf("  %-8s batch %u: %.1f us:", kinds[f->what.kind].name, f->what.batch,
               sum / 1e3 / ((double)f->what.tokens * f->what.batch));
        for (int k = 0; k < TIMES; k++)
            if (f->times[k] > 0)
                printf("  %s %.1f %%", time_names[k], 100 * (double)f->times[k] / sum);
        putchar('\n');
    }
}

static void print_route(const struct bench_report *r)
{
    size_t i;
    json_t *stage;
    json_array_foreach(r->route, i, stage)
        printf("  %-12s layers %lld-%lld: compute %.0f us a step, waits %.0f us, link from the stage before %.0f us\n",
               json_string_value(json_object_get(stage, "node")),
               (long long)json_integer_value(json_object_get(stage, "layer_first")),
               (long long)json_integer_value(json_object_get(stage, "layer_last")) - 1,
               json_number_value(json_object_get(stage, "compute_us")),
               json_number_value(json_object_get(stage, "queue_us")),
               json_number_value(json_object_get(stage, "link_us")));
}

static struct figures *first_of(struct bench_report *r, enum bench_kind kind)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->figures[i].what.kind == kind && r->figures[i].ours.n > 0)
            return &r->figures[i];
    return NULL;
}

static void print_ratio(struct bench_report *r, enum bench_kind whole, enum bench_kind split)
{
    struct figures *a = first_of(r, whole), *b = first_of(r, split);
    if (a && b)
        printf("%s: the cluster reaches %.3f of one process\n", kinds[whole].name, median(&b->ours) / median(&a->ours));
}

static void print_table(struct bench_report *r)
{
    if (r->model[0])
        printf("%s; %s\n", r->model, r->device);
    printf("%-22s %6s %5s %7s  %9s  %9s  %9s\n", "tokens a second", "tokens", "batch", "depth", "median", "min", "max");
    for (size_t i = 0; i < r->n; i++)
        print_row(r, &r->figures[i]);
    print_ratio(r, BENCH_PREFILL, BENCH_CLUSTER_PREFILL);
    print_ratio(r, BENCH_DECODE, BENCH_CLUSTER_DECODE);
    print_times(r);
    if (r->route)
        print_route(r);
}

/* ---- for scripts ---- */

static json_t *spread(struct samples *s)
{
    double middle = median(s);
    return json_pack("{s:f, s:f, s:f, s:i}", "median", middle, "min", s->rates[0], "max", s->rates[s->n - 1], "rounds",
                     (int)s->n);
}

static json_t *times_json(const struct figures *f)
{
    json_t *j = json_object();
    double tokens = (double)f->what.tokens * f->what.batch;
    for (int k = 0; k < TIMES; k++)
        json_object_set_new(j, time_names[k], json_real((double)f->times[k] / 1e3 / tokens));
    return j;
}

static json_t *measure_json(const struct bench_report *r, struct figures *f)
{
    json_t *j = spread(&f->ours);
    double middle = median(&f->ours), bytes = weight_bytes(r, f, middle), did = operations(r, f, middle);
    json_object_set_new(j, "kind", json_string(kinds[f->what.kind].name));
    json_object_set_new(j, "tokens", json_integer(f->what.tokens));
    json_object_set_new(j, "batch", json_integer(f->what.batch));
    json_object_set_new(j, "depth", json_integer(f->what.depth));
    if (bytes > 0)
        json_object_set_new(j, "weight_bytes_per_second", json_real(bytes));
    if (did > 0)
        json_object_set_new(j, "operations_per_second", json_real(did));
    if (f->timed)
        json_object_set_new(j, "us_per_token", times_json(f));
    if (f->peer.n > 0) {
        json_object_set_new(j, "peer", spread(&f->peer));
        json_object_set_new(j, "ratio", json_real(middle / median(&f->peer)));
    }
    return j;
}

static json_t *operations_json(const struct bench_ceilings *c)
{
    json_t *j = json_object();
    for (int k = 0; k < CEILINGS; k++)
        json_object_set_new(j, ceiling_names[k], c->operations[k] > 0 ? json_real(c->operations[k]) : json_null());
    return j;
}

static void print_line(json_t *j)
{
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

static void print_json(struct bench_report *r)
{
    json_t *j = json_object(), *measures = json_array();
    json_object_set_new(j, "model", json_string(r->model));
    json_object_set_new(j, "device", json_string(r->device));
    json_object_set_new(j, "unit", json_string("tokens/s"));
    json_object_set_new(j, "threads", json_integer(r->ceilings.threads));
    json_object_set_new(j, "read_bandwidth", json_real(r->ceilings.read_bandwidth));
    json_object_set_new(j, "operations", operations_json(&r->ceilings));
    json_object_set_new(j, "weight_bytes_per_token", json_integer((json_int_t)r->bytes_per_token));
    json_object_set_new(j, "operations_per_token", json_real(r->operations_per_token));
    for (size_t i = 0; i < r->n; i++)
        if (r->figures[i].ours.n > 0)
            json_array_append_new(measures, measure_json(r, &r->figures[i]));
    /* The first of a kind also under the kind's name, for scripts that want one figure. */
    size_t i;
    json_t *m;
    json_array_foreach(measures, i, m) {
        const char *kind = json_string_value(json_object_get(m, "kind"));
        if (!json_object_get(j, kind))
            json_object_set(j, kind, m);
    }
    json_object_set_new(j, "measures", measures);
    if (r->route)
        json_object_set(j, "stages", r->route);
    print_line(j);
}

void bench_report_print(struct bench_report *r)
{
    if (r->json)
        print_json(r);
    else
        print_table(r);
    fflush(stdout);
    forget(r);
}

void bench_report_ceilings(const struct bench_ceilings *c, bool json, bool first)
{
    if (json) {
        print_line(json_pack("{s:I, s:f, s:o}", "threads", (json_int_t)c->threads, "read_bandwidth", c->read_bandwidth,
                             "operations", operations_json(c)));
        return;
    }
    if (first)
        printf("%7s  %11s  %11s  %11s  %11s\n", "threads", "reads GB/s", "int8 Gop/s", "bf16 Gop/s", "f32 Gop/s");
    printf("%7u  %11.1f", c->threads, c->read_bandwidth / 1e9);
    for (int k = 0; k < CEILINGS; k++)
        if (c->operations[k] > 0)
            printf("  %11.1f", c->operations[k] / 1e9);
        else
            printf("  %11s", "-");
    putchar('\n');
    fflush(stdout);
}
