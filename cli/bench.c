/* bench: prefill and decode speed of one process, of a local cluster, or of a running one.
 *
 * One process: random tokens, no sampler, so that nothing but the model is
 * measured.  With --nodes the two sides take turns, and both draw their tokens
 * the same way from the same seeds: since a split model gives the very bits of
 * a whole one, they do the same work.                                        */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/random.h"
#include "cli/bench_report.h"
#include "cli/client.h"
#include "cli/cluster.h"
#include "cli/cluster_url.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/local.h"
#include "shard/run/sampler.h"

enum { WARM_TOKENS = 4, STREAMS_MAX = 256, SEED = 1 };

struct bench {
    const struct settings *s;
    uint32_t prompt, generate, repeat, streams;
    struct random_state random;
    struct bench_report *report;
};

static int32_t *random_tokens(struct bench *b, uint32_t n, uint32_t n_vocab)
{
    int32_t *tokens = mem_array(n + 1, sizeof(*tokens));
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (int32_t)(random_u64(&b->random) % n_vocab);
    return tokens;
}

/* ---- one process ---- */

static int open_local(struct bench *b, struct local *l, int threads, struct error *e)
{
    const struct settings *s = b->s;
    struct local_options o = {
        .path = settings_argument(s, 0),
        .device = {.threads = threads, .pin = settings_switch(s, "pin"), .isa = settings_text(s, "isa")},
        .backend = settings_text(s, "backend"),
        .kv_type = settings_text(s, "kv_type"),
        .context = b->prompt + b->generate + KV_PAGE_TOKENS,
        .sequences_max = b->streams,
        .batch_rows_max = 512,
        .progress = isatty(STDERR_FILENO),
        .settings = s,
    };
    return local_open(l, &o, e);
}

static int local_prefill(struct bench *b, struct local *l, double *rate, struct error *e)
{
    int32_t *tokens = random_tokens(b, b->prompt, model_hparams(l->model)->n_vocab);
    uint64_t start = clock_ns();
    int r = local_feed(l, 1, tokens, b->prompt, 0, true, interrupt_seen, e);
    *rate = b->prompt / ((double)(clock_ns() - start) / 1e9);
    shard_end(l->shard, 1);
    mem_free(tokens);
    return r;
}

/* `streams` sequences advance together by `generate` tokens, from an empty KV. */
static int local_decode(struct bench *b, struct local *l, double *rate, struct error *e)
{
    struct step_row rows[STREAMS_MAX];
    uint32_t n_vocab = model_hparams(l->model)->n_vocab;
    uint64_t start = clock_ns();
    int r = 0;
    for (uint32_t at = 0; r == 0 && at < b->generate; at++) {
        for (uint32_t i = 0; i < b->streams; i++)
            rows[i] = (struct step_row){.sequence = i + 1, .position = at, .flags = ROW_SAMPLE,
                                        .token = (int32_t)(random_u64(&b->random) % n_vocab),
                                        .adapter = l->lora != NULL};
        r = interrupt_seen() ? error_set(e, ERR_CANCELLED, "stopped")
                             : shard_step(l->shard, rows, b->streams, NULL, e);
    }
    *rate = (double)b->generate * b->streams / ((double)(clock_ns() - start) / 1e9);
    for (uint32_t i = 0; i < b->streams; i++)
        shard_end(l->shard, i + 1);
    return r;
}

static int bench_threads(struct bench *b, uint32_t threads, struct error *e)
{
    struct local l;
    int r = open_local(b, &l, (int)threads, e);
    if (r != 0)
        return r;
    struct device_facts facts;
    l.device->backend->facts(l.device, &facts);
    struct layer_range all = {0, model_hparams(l.model)->n_layers, true, true};
    bench_report_machine(b->report, l.model, &facts, backend_read_bandwidth(facts.cores, 0),
                         model_range_bytes_per_token(l.model, &all));
    uint32_t generate = b->generate, prompt = b->prompt;
    double rate;
    b->generate = generate < WARM_TOKENS ? generate : WARM_TOKENS;
    r = local_decode(b, &l, &rate, e);
    b->generate = generate;
    for (uint32_t i = 0; r == 0 && prompt > 0 && i < b->repeat; i++) {
        r = local_prefill(b, &l, &rate, e);
        if (r == 0)
            bench_report_add(b->report, BENCH_PREFILL, prompt, rate);
    }
    for (uint32_t i = 0; r == 0 && generate > 0 && i < b->repeat; i++) {
        r = local_decode(b, &l, &rate, e);
        if (r == 0)
            bench_report_add(b->report, BENCH_DECODE, generate, rate);
    }
    local_close(&l);
    bench_report_print(b->report);
    return r;
}

/* ---- a cluster ---- */

/* Seconds that a completion of `generate` tokens takes. */
static int timed_completion(const struct client *c, const int32_t *prompt, uint32_t n_prompt, uint32_t generate,
                            double *seconds, struct error *e)
{
    struct buffer body, answer;
    buffer_init(&body, 16 << 20);
    buffer_printf(&body, "{\"max_tokens\":%u,\"ignore_eos\":true,\"temperature\":1,\"seed\":%d,\"prompt\":[", generate,
                  SEED);
    for (uint32_t i = 0; i < n_prompt; i++)
        buffer_printf(&body, "%s%d", i ? "," : "", prompt[i]);
    buffer_add_text(&body, "]}");
    uint64_t start = clock_ns();
    int r = client_call(c, "/v1/completions", buffer_text(&body), &answer, e);
    *seconds = (double)(clock_ns() - start) / 1e9;
    if (r == 0) {
        json_t *j = json_loadb(buffer_text(&answer), answer.len, 0, NULL);
        json_int_t n = json_integer_value(json_object_get(json_object_get(j, "usage"), "completion_tokens"));
        if (n != (json_int_t)generate)
            r = error_set(e, ERR_INTERNAL, "the cluster generated %lld tokens of %u", (long long)n, generate);
        json_decref(j);
    }
    buffer_close(&body);
    buffer_close(&answer);
    return r;
}

/* Prefill is the time to one token; decode is what more tokens add to it. */
static int cluster_round(struct bench *b, const struct client *c, uint32_t n_vocab, double *prefill, double *decode,
                         struct error *e)
{
    double first = 0, all = 0;
    uint32_t n = b->prompt ? b->prompt : 1;
    int32_t *tokens = random_tokens(b, n, n_vocab), one = tokens[0];
    int r = timed_completion(c, tokens, n, 1, &first, e);
    *prefill = n / first;
    if (r == 0 && b->generate > 1) {
        r = timed_completion(c, &one, 1, 1, &first, e);
        if (r == 0)
            r = timed_completion(c, &one, 1, b->generate, &all, e);
        *decode = (b->generate - 1) / (all - first);
    }
    mem_free(tokens);
    return r;
}

/* One process draws as the cluster's last stage does. */
static int local_round(struct bench *b, struct local *l, double *prefill, double *decode, struct error *e)
{
    uint32_t n_vocab = model_hparams(l->model)->n_vocab;
    struct sampler_params p;
    struct sampler *sampler;
    int r = b->prompt ? local_prefill(b, l, prefill, e) : 0;
    sampler_defaults(&p);
    p.temperature = p.top_p = 1;
    p.top_k = 0;
    p.min_p = 0;
    p.seed = SEED;
    p.top_logprobs = -1;
    if (r == 0)
        r = sampler_create(&sampler, &p, n_vocab, n_vocab, e);
    if (r != 0)
        return r;
    struct sample s = {.token = (int32_t)(random_u64(&b->random) % n_vocab)};
    uint64_t start = 0;
    for (uint32_t at = 0; r == 0 && at < b->generate; at++) {
        r = local_feed(l, 1, &s.token, 1, at, true, NULL, e);
        if (r == 0)
            r = sampler_sample(sampler, local_logits(l), at, &s, e);
        start = at == 0 ? clock_ns() : start; /* the first token belongs to the prefill, as in a cluster */
    }
    *decode = (b->generate - 1) / ((double)(clock_ns() - start) / 1e9);
    sampler_destroy(&sampler);
    shard_end(l->shard, 1);
    return r;
}

static int rounds(struct bench *b, const struct client *c, uint32_t n_vocab, struct local *l, struct error *e)
{
    double prefill = 0, decode = 0;
    int r = cluster_round(b, c, n_vocab, &prefill, &decode, e); /* warm */
    for (uint32_t i = 0; r == 0 && i < b->repeat; i++) {
        r = cluster_round(b, c, n_vocab, &prefill, &decode, e);
        if (r != 0)
            break;
        if (b->prompt)
            bench_report_add(b->report, BENCH_CLUSTER_PREFILL, b->prompt, prefill);
        if (b->generate > 1)
            bench_report_add(b->report, BENCH_CLUSTER_DECODE, b->generate, decode);
        if (!l)
            continue;
        r = local_round(b, l, &prefill, &decode, e);
        if (r == 0 && b->prompt)
            bench_report_add(b->report, BENCH_PREFILL, b->prompt, prefill);
        if (r == 0 && b->generate > 1)
            bench_report_add(b->report, BENCH_DECODE, b->generate, decode);
    }
    return r;
}

static int report_route(struct bench *b, const struct client *c, struct error *e)
{
    struct buffer body;
    int r = client_call(c, "/status", NULL, &body, e);
    if (r == 0)
        bench_report_route(b->report, buffer_text(&body), body.len);
    buffer_close(&body);
    return r;
}

static int bench_nodes(struct bench *b, uint32_t nodes, uint32_t threads, struct error *e)
{
    struct local l;
    struct cluster *cluster;
    struct cluster_options o = {
        .coordinator = {.control = {.model_path = settings_argument(b->s, 0), .kv_type = settings_text(b->s, "kv_type"),
                                    .rows_type = "f32"},
                        .http_host = "127.0.0.1"},
        .nodes = nodes, .threads = threads ? threads : 1, .progress = true, .stop = interrupt_seen,
    };
    logger_level(LOG_ERROR);
    int r = open_local(b, &l, (int)(threads ? threads : 1), e);
    if (r != 0)
        return r;
    r = cluster_start(&cluster, &o, e);
    if (r == 0) {
        struct client c = {cluster_url(cluster), NULL, interrupt_seen};
        r = rounds(b, &c, model_hparams(l.model)->n_vocab, &l, e);
        if (r == 0)
            r = report_route(b, &c, e);
        cluster_stop(&cluster);
    }
    local_close(&l);
    bench_report_print(b->report);
    return r;
}

/* The vocabulary's size, from the coordinator's status. */
static int cluster_vocabulary(const struct client *c, uint32_t *n, struct error *e)
{
    struct buffer body;
    int r = client_call(c, "/status", NULL, &body, e);
    if (r == 0) {
        json_t *j = json_loadb(buffer_text(&body), body.len, 0, NULL);
        *n = (uint32_t)json_integer_value(json_object_get(json_object_get(j, "model"), "vocabulary"));
        json_decref(j);
        if (*n == 0)
            r = error_set(e, ERR_UNAVAILABLE, "%s does not say which model it serves", c->url);
    }
    buffer_close(&body);
    return r;
}

static int bench_cluster(struct bench *b, const char *cluster, struct error *e)
{
    char *url;
    uint32_t n_vocab;
    int r = cluster_url_of(cluster, &url, e);
    if (r != 0)
        return r;
    struct client c = {url, settings_text(b->s, "api_key"), interrupt_seen};
    r = cluster_vocabulary(&c, &n_vocab, e);
    if (r == 0)
        r = rounds(b, &c, n_vocab, NULL, e);
    if (r == 0)
        r = report_route(b, &c, e);
    bench_report_print(b->report);
    mem_free(url);
    return r;
}

int bench_command(const struct settings *s, struct error *e)
{
    size_t n;
    const uint32_t *threads = settings_list(s, "threads", &n);
    const char *cluster = settings_text(s, "cluster");
    uint32_t nodes = (uint32_t)settings_count(s, "nodes");
    struct bench b = {
        .s = s, .prompt = (uint32_t)settings_count(s, "prompt"), .generate = (uint32_t)settings_count(s, "generate"),
        .repeat = (uint32_t)settings_count(s, "repeat"), .streams = (uint32_t)settings_count(s, "streams")};
    if (!cluster == !settings_argument(s, 0))
        return error_set(e, ERR_INVALID, "give either a model file or --cluster URL");
    size_t n_adapters;
    (void)settings_texts(s, "lora", &n_adapters);
    if ((cluster || nodes) && n_adapters > 0)
        return error_set(e, ERR_INVALID, "--lora: adapters are measured in one process, without --nodes and --cluster");
    if (cluster && nodes)
        return error_set(e, ERR_INVALID, "--nodes starts a cluster of a model file; --cluster measures a running one");
    random_seed(&b.random, SEED);
    b.report = bench_report_create(settings_switch(s, "json"));
    int r = 0;
    if (cluster)
        r = bench_cluster(&b, cluster, e);
    for (size_t i = 0; !cluster && r == 0 && i < n; i++)
        r = nodes ? bench_nodes(&b, nodes, threads[i], e) : bench_threads(&b, threads[i], e);
    bench_report_destroy(&b.report);
    return r;
}
