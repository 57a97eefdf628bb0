/* bench: prefill and decode speed of one process, of a local cluster, or of a running one.
 *
 * With --nodes the two sides take turns, and both draw their tokens the same
 * way from the same seeds: since a split model gives the very bits of a whole
 * one, they do the same work.                                                */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "cli/bench_parts.h"
#include "cli/client.h"
#include "cli/cluster.h"
#include "cli/cluster_url.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "shard/run/sampler.h"

enum { SEED = 1 };

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
    int32_t *tokens = bench_tokens(b, n, n_vocab), one = tokens[0];
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
    int r = b->prompt ? bench_prefill(b, l, prefill, e) : 0;
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

static void add(struct bench *b, enum bench_kind kind, uint32_t tokens, double rate)
{
    bench_report_add(b->report, &(struct bench_case){kind, tokens, 1, 0}, rate);
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
            add(b, BENCH_CLUSTER_PREFILL, b->prompt, prefill);
        if (b->generate > 1)
            add(b, BENCH_CLUSTER_DECODE, b->generate, decode);
        if (!l)
            continue;
        r = local_round(b, l, &prefill, &decode, e);
        if (r == 0 && b->prompt)
            add(b, BENCH_PREFILL, b->prompt, prefill);
        if (r == 0 && b->generate > 1)
            add(b, BENCH_DECODE, b->generate, decode);
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
    int r = bench_open(b, &l, threads ? threads : 1, e);
    if (r != 0)
        return r;
    r = cluster_start(&cluster, &o, e);
    if (r == 0) {
        struct client c = {.url = cluster_url(cluster), .stop = interrupt_seen};
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
    struct client c = {.url = url, .key = settings_text(b->s, "api_key"), .stop = interrupt_seen,
                       .ca = settings_text(b->s, "tls_ca")};
    r = cluster_vocabulary(&c, &n_vocab, e);
    if (r == 0)
        r = rounds(b, &c, n_vocab, NULL, e);
    if (r == 0)
        r = report_route(b, &c, e);
    bench_report_print(b->report);
    mem_free(url);
    return r;
}

/* What cannot go together, said before anything is loaded. */
static int check(const struct bench *b, bool machine, bool cluster, bool nodes, struct error *e)
{
    size_t n_adapters;
    bool several = b->n_batches > 1 || b->batches[0] > 1 || b->depth > 0 || b->compare;
    (void)settings_texts(b->s, "lora", &n_adapters);
    if (machine && (settings_argument(b->s, 0) || cluster || nodes || b->compare))
        return error_set(e, ERR_INVALID, "--machine measures the machine alone: no model, no cluster, no peer");
    if (!machine && cluster == (settings_argument(b->s, 0) != NULL))
        return error_set(e, ERR_INVALID, "give either a model file or --cluster URL (or --machine)");
    if ((cluster || nodes) && n_adapters > 0)
        return error_set(e, ERR_INVALID, "--lora: adapters are measured in one process, without --nodes and --cluster");
    if (cluster && nodes)
        return error_set(e, ERR_INVALID, "--nodes starts a cluster of a model file; --cluster measures a running one");
    if ((cluster || nodes) && several)
        return error_set(e, ERR_INVALID, "--batch, --depth and --compare are of one process, without --nodes and "
                         "--cluster");
    if (b->n_batches >= BENCH_CASES_MAX)
        return error_set(e, ERR_LIMIT, "--batch: at most %d sizes", BENCH_CASES_MAX - 1);
    return 0;
}

int bench_command(const struct settings *s, struct error *e)
{
    size_t n;
    const uint32_t *threads = settings_list(s, "threads", &n);
    const char *cluster = settings_text(s, "cluster");
    uint32_t nodes = (uint32_t)settings_count(s, "nodes");
    bool machine = settings_switch(s, "machine");
    struct bench b = {
        .s = s, .prompt = (uint32_t)settings_count(s, "prompt"), .generate = (uint32_t)settings_count(s, "generate"),
        .depth = (uint32_t)settings_count(s, "depth"), .repeat = (uint32_t)settings_count(s, "repeat"),
        .compare = settings_text(s, "compare")};
    b.batches = settings_list(s, "batch", &b.n_batches);
    int r = check(&b, machine, cluster != NULL, nodes > 0, e);
    if (r != 0)
        return r;
    if (machine)
        return bench_machine(&b, e);
    random_seed(&b.random, SEED);
    b.report = bench_report_create(settings_switch(s, "json"));
    if (cluster)
        r = bench_cluster(&b, cluster, e);
    for (size_t i = 0; !cluster && r == 0 && i < n; i++)
        r = nodes ? bench_nodes(&b, nodes, threads[i], e) : bench_threads(&b, threads[i], e);
    bench_report_destroy(&b.report);
    return r;
}
