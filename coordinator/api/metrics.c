/* metrics: GET /metrics: this server's own numbers, and the ones that boards made for vLLM look for. */
#include <stddef.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "coordinator/api/meters.h"
#include "coordinator/api/private.h"

enum { TEXT_MAX = 1 << 20 };

struct metrics {
    double requests, failed, cancelled, prompt_tokens, generated_tokens, steps, running, waiting;
    double step_seconds, steps_per_second, tokens_per_second;
    double http_2xx, http_4xx, http_5xx, http_vanished, http_connections;
    double ready, stages, kv_tokens, started;
};

static void metrics_read(struct metrics *m, const struct api *a)
{
    struct engine_stats s;
    struct control_route route;
    engine_stats(a->options.engine, &s);
    control_route(a->options.control, &route);
    *m = (struct metrics){
        .requests = (double)s.requests_total,
        .failed = (double)s.requests_failed,
        .cancelled = (double)s.requests_cancelled,
        .prompt_tokens = (double)s.prompt_tokens_total,
        .generated_tokens = (double)s.generated_tokens_total,
        .steps = (double)s.steps_total,
        .running = s.running,
        .waiting = s.waiting,
        .step_seconds = s.step_ms / 1000,
        .steps_per_second = s.steps_per_second,
        .tokens_per_second = s.tokens_per_second,
        .http_2xx = (double)atomic_load(&a->answered_2xx),
        .http_4xx = (double)atomic_load(&a->answered_4xx),
        .http_5xx = (double)atomic_load(&a->answered_5xx),
        .http_vanished = (double)atomic_load(&a->vanished),
        .http_connections = http_server_connections(a->server),
        .ready = route.state == CONTROL_READY,
        .stages = route.n_stages,
        .kv_tokens = route.kv_tokens,
        .started = (double)a->started,
    };
}

#define MODEL "{model}" /* in place of labels: the label of the model */

/* name, labels, kind, help, place. Rows of one name are neighbours; the first has the help. */
static const struct metric {
    const char *name, *labels, *kind, *help;
    size_t place;
} table[] = {
#define AT(member) offsetof(struct metrics, member)
    { "shoal_requests_total", "", "counter", "Sequences given to the engine.", AT(requests) },
    { "shoal_requests_failed_total", "", "counter", "Sequences that ended with an error.", AT(failed) },
    { "shoal_requests_cancelled_total", "", "counter", "Sequences whose reader went away.", AT(cancelled) },
    { "shoal_requests_running", "", "gauge", "Sequences that are computed now.", AT(running) },
    { "shoal_requests_waiting", "", "gauge", "Sequences that wait for a place.", AT(waiting) },
    { "shoal_prompt_tokens_total", "", "counter", "Prompt tokens computed.", AT(prompt_tokens) },
    { "shoal_generated_tokens_total", "", "counter", "Tokens sampled.", AT(generated_tokens) },
    { "shoal_steps_total", "", "counter", "Steps sent down a route.", AT(steps) },
    { "shoal_step_seconds", "", "gauge", "Time of a step, smoothed.", AT(step_seconds) },
    { "shoal_steps_per_second", "", "gauge", "Steps a second, smoothed.", AT(steps_per_second) },
    { "shoal_tokens_per_second", "", "gauge", "Tokens a second, smoothed.", AT(tokens_per_second) },
    { "shoal_http_answers_total", "{status=\"2xx\"}", "counter", "HTTP answers by status.", AT(http_2xx) },
    { "shoal_http_answers_total", "{status=\"4xx\"}", "counter", NULL, AT(http_4xx) },
    { "shoal_http_answers_total", "{status=\"5xx\"}", "counter", NULL, AT(http_5xx) },
    { "shoal_http_unanswered_total", "", "counter", "Requests whose client left before the end.", AT(http_vanished) },
    { "shoal_http_connections", "", "gauge", "Open client connections.", AT(http_connections) },
    { "shoal_ready", "", "gauge", "1 when a route covers the model.", AT(ready) },
    { "shoal_route_stages", "", "gauge", "Stages of the route in force.", AT(stages) },
    { "shoal_kv_tokens", "", "gauge", "Positions that the KV cache of the route holds.", AT(kv_tokens) },
    { "shoal_start_time_seconds", "", "gauge", "When this process began, seconds since 1970.", AT(started) },
    { "vllm:num_requests_running", MODEL, "gauge", "Sequences that are computed now.", AT(running) },
    { "vllm:num_requests_waiting", MODEL, "gauge", "Sequences that wait for a place.", AT(waiting) },
    { "vllm:prompt_tokens_total", MODEL, "counter", "Prompt tokens computed.", AT(prompt_tokens) },
    { "vllm:generation_tokens_total", MODEL, "counter", "Tokens sampled.", AT(generated_tokens) },
#undef AT
};

static void write_rows(const struct metrics *m, const char *labels, struct buffer *out)
{
    for (size_t i = 0; i < COUNTOF(table); i++) {
        const struct metric *row = &table[i];
        double value;
        memcpy(&value, (const char *)m + row->place, sizeof(value));
        if (row->help != NULL)
            buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name, row->kind);
        if (strcmp(row->labels, MODEL) == 0)
            buffer_printf(out, "%s{%s} %.15g\n", row->name, labels, value);
        else
            buffer_printf(out, "%s%s %.15g\n", row->name, row->labels, value);
    }
}

/* model_name="...", escaped as Prometheus asks; caller frees. */
static char *model_label(const struct api *a)
{
    struct buffer out;
    buffer_init(&out, 4096);
    buffer_add_text(&out, "model_name=\"");
    for (const char *p = a->model_name; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\' || *p == '\n')
            buffer_add_text(&out, "\\");
        buffer_add(&out, *p == '\n' ? "n" : p, 1);
    }
    buffer_add_text(&out, "\"");
    char *text = mem_strdup(buffer_text(&out));
    buffer_close(&out);
    return text;
}

void api_metrics(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct metrics m;
    struct buffer out;
    metrics_read(&m, a);
    buffer_init(&out, TEXT_MAX);
    char *labels = model_label(a);
    write_rows(&m, labels, &out);
    meters_write(a->meters, labels, &out);
    http_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", buffer_text(&out), out.len);
    mem_free(labels);
    buffer_close(&out);
}

