/* bench_report: medians and spreads. */
#include "cli/bench_report.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/progress.h"

enum { SAMPLES_MAX = 1000 };

static const struct {
    const char *name, *words;
} kinds[BENCH_KINDS] = {
    [BENCH_PREFILL] = {"prefill", "one process, prefill"},
    [BENCH_DECODE] = {"decode", "one process, decode"},
    [BENCH_CLUSTER_PREFILL] = {"cluster_prefill", "cluster, prefill"},
    [BENCH_CLUSTER_DECODE] = {"cluster_decode", "cluster, decode"},
};

struct figures {
    double rates[SAMPLES_MAX];
    size_t n;
    uint32_t tokens;
};

struct bench_report {
    bool json;
    char model[160], device[64];
    double bandwidth;
    uint64_t bytes_per_token;
    json_t *route; /* stages, or NULL */
    struct figures figures[BENCH_KINDS];
};

struct bench_report *bench_report_create(bool json)
{
    struct bench_report *r = mem_alloc(sizeof(*r));
    r->json = json;
    return r;
}

static void forget(struct bench_report *r)
{
    json_decref(r->route);
    bool json = r->json;
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

void bench_report_machine(struct bench_report *r, const struct model *m, const struct device_facts *facts,
                          double read_bandwidth, uint64_t bytes_per_token)
{
    const struct hparams *h = model_hparams(m);
    char count[32], bytes[32];
    snprintf(r->model, sizeof(r->model), "%.40s, %s, %s parameters, %s a token", h->name, h->arch->name,
             progress_count((double)model_params_total(m), count), progress_bytes(bytes_per_token, bytes));
    snprintf(r->device, sizeof(r->device), "%s", facts->name);
    r->bandwidth = read_bandwidth;
    r->bytes_per_token = bytes_per_token;
}

void bench_report_add(struct bench_report *r, enum bench_kind kind, uint32_t tokens, double rate)
{
    struct figures *f = &r->figures[kind];
    f->tokens = tokens;
    if (f->n < SAMPLES_MAX)
        f->rates[f->n++] = rate;
}

void bench_report_route(struct bench_report *r, const char *status, size_t len)
{
    json_t *j = json_loadb(status, len, 0, NULL);
    json_decref(r->route);
    r->route = json_incref(json_object_get(json_object_get(j, "route"), "stages"));
    json_decref(j);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts; the middle one, or the mean of the two middle ones. */
static double median(struct figures *f)
{
    if (f->n == 0)
        return 0;
    qsort(f->rates, f->n, sizeof(f->rates[0]), compare);
    return (f->rates[(f->n - 1) / 2] + f->rates[f->n / 2]) / 2;
}

static void print_row(const struct bench_report *r, enum bench_kind kind, struct figures *f)
{
    double middle = median(f);
    printf("%-22s %5u  %9.2f  %9.2f  %9.2f", kinds[kind].words, f->tokens, middle, f->rates[0], f->rates[f->n - 1]);
    if (kind == BENCH_DECODE && r->bandwidth > 0)
        printf("   reads %.1f GB/s, %.0f %% of the memory's %.1f", middle * (double)r->bytes_per_token / 1e9,
               100 * middle * (double)r->bytes_per_token / r->bandwidth, r->bandwidth / 1e9);
    putchar('\n');
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

static void print_ratio(struct bench_report *r, enum bench_kind whole, enum bench_kind split)
{
    double a = median(&r->figures[whole]), b = median(&r->figures[split]);
    if (a > 0 && b > 0)
        printf("%s: the cluster reaches %.3f of one process\n", kinds[whole].name, b / a);
}

static void print_json(struct bench_report *r)
{
    json_t *j = json_object();
    json_object_set_new(j, "model", json_string(r->model));
    json_object_set_new(j, "device", json_string(r->device));
    json_object_set_new(j, "read_bandwidth", json_real(r->bandwidth));
    for (int k = 0; k < BENCH_KINDS; k++) {
        struct figures *f = &r->figures[k];
        if (f->n == 0)
            continue;
        double middle = median(f);
        json_object_set_new(j, kinds[k].name,
                            json_pack("{s:I, s:f, s:f, s:f}", "tokens", (json_int_t)f->tokens, "median", middle, "min",
                                      f->rates[0], "max", f->rates[f->n - 1]));
    }
    if (r->route)
        json_object_set(j, "stages", r->route);
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

void bench_report_print(struct bench_report *r)
{
    if (r->json) {
        print_json(r);
    } else {
        if (r->model[0])
            printf("%s; %s\n", r->model, r->device);
        printf("%-22s %5s  %9s  %9s  %9s\n", "tokens a second", "n", "median", "min", "max");
        for (int k = 0; k < BENCH_KINDS; k++)
            if (r->figures[k].n)
                print_row(r, (enum bench_kind)k, &r->figures[k]);
        print_ratio(r, BENCH_PREFILL, BENCH_CLUSTER_PREFILL);
        print_ratio(r, BENCH_DECODE, BENCH_CLUSTER_DECODE);
        if (r->route)
            print_route(r);
    }
    fflush(stdout);
    forget(r);
}
