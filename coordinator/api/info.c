/* info: what the server is and how it does: models, health, metrics, status. */
#include <stddef.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "coordinator/api/about.h"

/* ---- models ---- */

/* llama.cpp's numbers of a model's file. */
static json_t *meta_json(const struct model *m, const struct control_route *route)
{
    const struct hparams *h = model_hparams(m);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "n_vocab", (json_int_t)h->n_vocab, "n_ctx",
                     (json_int_t)api_context(route), "n_ctx_train", (json_int_t)h->context, "n_embd",
                     (json_int_t)h->n_embd, "n_layer", (json_int_t)h->n_layers, "n_params",
                     (json_int_t)model_params_total(m), "n_params_active", (json_int_t)model_params_active(m), "size",
                     (json_int_t)file_set_bytes(model_files(m)));
}

/* The model (0), or with one of its adapters. */
static json_t *model_json(const struct api *a, uint32_t adapter)
{
    static const char *const loaded[] = {
        [CONTROL_WAITING] = "unloaded", [CONTROL_LOADING] = "loading", [CONTROL_READY] = "loaded"};
    struct control_route route;
    control_route(a->options.control, &route);
    const struct model *m = control_model(a->options.control);
    json_t *j = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s?, s:[]}", "id", a->ids[adapter], "object", "model", "created",
                          (json_int_t)a->started, "owned_by", "shoal", "root", a->ids[adapter], "parent",
                          adapter ? a->model_name : NULL, "permission");
    json_t *more = json_pack("{s:I, s:I, s:s, s:s, s:o, s:{s:s}, s:{s:[s], s:[s]}, s:o}", "max_model_len",
                             (json_int_t)api_context(&route), "context_length", (json_int_t)api_context(&route),
                             "quantization", about_quantization(m), "family", model_hparams(m)->arch->name, "meta",
                             meta_json(m, &route), "status", "value", loaded[route.state], "architecture",
                             "input_modalities", "text", "output_modalities", "text", "placement",
                             about_placement(&route));
    json_object_update(j, more);
    json_decref(more);
    return j;
}

void api_models(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    json_t *list = json_array();
    for (uint32_t i = 0; i <= a->options.n_adapters; i++)
        json_array_append_new(list, model_json(a, i));
    reply_json(x, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
}

void api_model(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    for (uint32_t i = 0; i <= a->options.n_adapters; i++)
        if (strcmp(http_rest(x), a->ids[i]) == 0) {
            reply_json(x, 200, model_json(a, i));
            return;
        }
    struct refusal r = { 0 };
    (void)api_refuse_model(a, http_rest(x), &r);
    reply_refusal(x, &r);
}

/* ---- health, status ---- */

void api_health(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct control_route route;
    struct refusal r = { 0 };
    if (api_ready(a, &route, &r) != 0) {
        reply_refusal(x, &r);
        return;
    }
    reply_json(x, 200, json_pack("{s:s}", "status", "ok"));
}

void api_version(void *arg, struct http_exchange *x)
{
    (void)arg;
    reply_json(x, 200, json_pack("{s:s}", "version", SHOAL_VERSION));
}

void api_status(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    char *text = control_status_json(a->options.control);
    http_reply(x, 200, "application/json", text, strlen(text));
    mem_free(text);
}

/* ---- metrics ---- */

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
#undef AT
};

void api_metrics(void *arg, struct http_exchange *x)
{
    struct metrics m;
    metrics_read(&m, arg);
    struct buffer out;
    buffer_init(&out, 64 << 10);
    for (size_t i = 0; i < COUNTOF(table); i++) {
        double value;
        memcpy(&value, (const char *)&m + table[i].place, sizeof(value));
        if (table[i].help != NULL)
            buffer_printf(&out, "# HELP %s %s\n# TYPE %s %s\n", table[i].name, table[i].help, table[i].name,
                          table[i].kind);
        buffer_printf(&out, "%s%s %.15g\n", table[i].name, table[i].labels, value);
    }
    http_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", buffer_text(&out), out.len);
    buffer_close(&out);
}
