/* up: a local cluster in one command; with --ask it answers one prompt as any client would, over HTTP. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/progress.h"
#include "cli/client.h"
#include "cli/cluster.h"
#include "cli/heads.h"
#include "cli/interrupt.h"

enum { WAIT_MS = 200 };

static int start(struct cluster **c, const struct settings *s, struct error *e)
{
    struct cluster_options o = {
        .nodes = (uint32_t)settings_count(s, "nodes"),
        .threads = (uint32_t)settings_count(s, "threads"),
        .memory_bytes = settings_count(s, "memory"),
        .progress = true,
        .stop = interrupt_seen,
    };
    char *api_dir = NULL;
    int r = heads_options(&o.coordinator, s, settings_argument(s, 0), e);
    if (r == 0)
        r = heads_api_dir(&api_dir, s, e);
    if (r != 0)
        return r;
    o.coordinator.api_state_dir = api_dir;
    o.coordinator.control.lease_ms = (uint32_t)settings_count(s, "lease_ms");
    o.coordinator.control.rows_type = settings_text(s, "rows_type");
    /* a single question needs no well-known port; a default port that is taken is no reason to fail either */
    if (settings_text(s, "ask") && !settings_switch(s, "keep") && !settings_given(s, "port"))
        o.coordinator.http_port = 0;
    r = cluster_start(c, &o, e);
    if (r == ERR_CONFLICT && o.coordinator.http_port != 0 && !settings_given(s, "port")) {
        o.coordinator.http_port = 0;
        r = cluster_start(c, &o, e);
    }
    mem_free(api_dir);
    return r;
}

static void say_route(struct cluster *c)
{
    struct control_route route;
    control_route(cluster_control(c), &route);
    fprintf(stderr, "shoal: the route, every link encrypted: coordinator");
    for (uint32_t i = 0; i < route.n_stages; i++)
        fprintf(stderr, " -> %s (layers %u-%u)", route.stages[i].name, route.stages[i].layer_first,
                route.stages[i].layer_last - 1);
    fprintf(stderr, " -> coordinator\n");
}

static int on_event(void *arg, const char *data, struct error *e)
{
    uint64_t *tokens = arg;
    json_t *j = json_loads(data, 0, NULL);
    json_t *failed = json_object_get(j, "error");
    const char *text = json_string_value(json_object_get(
        json_object_get(json_array_get(json_object_get(j, "choices"), 0), "delta"), "content"));
    int r = failed ? error_set(e, ERR_GONE, "%s", json_string_value(json_object_get(failed, "message"))) : 0;
    if (text) {
        fputs(text, stdout);
        fflush(stdout);
    }
    json_t *n = json_object_get(json_object_get(j, "usage"), "completion_tokens");
    if (n)
        *tokens = (uint64_t)json_integer_value(n);
    json_decref(j);
    return r;
}

/* A single adapter is there for the question. Caller frees; NULL: none, or several. */
static char *only_adapter(struct cluster *c, const struct settings *s)
{
    const struct control *control = cluster_control(c);
    const char *name = settings_text(s, "model_name");
    if (control_adapter_count(control) != 1)
        return NULL;
    return mem_printf("%s:%s", name ? name : control_model_name(control), control_adapter_name(control, 1));
}

static int ask(struct cluster *c, const struct settings *s, struct error *e)
{
    struct client client = {.url = cluster_url(c), .key = cluster_token(c), .stop = interrupt_seen,
                            .ca = settings_text(s, "tls_cert"), .any_name = true}; /* it is ours, by its address */
    char *model = only_adapter(c, s);
    json_t *j = json_pack("{s:s*, s:b, s:f, s:I, s:{s:b}, s:[{s:s, s:s}]}", "model", model, "stream", 1, "temperature",
                          settings_real(s, "temperature"), "max_tokens", (json_int_t)settings_count(s, "max_tokens"),
                          "stream_options", "include_usage", 1, "messages", "role", "user", "content",
                          settings_text(s, "ask"));
    mem_free(model);
    if (!j)
        return error_set(e, ERR_INVALID, "the prompt is not UTF-8 text");
    char *body = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    uint64_t start = clock_us(), tokens = 0;
    printf("\n%s\n\n", settings_text(s, "ask"));
    int r = client_stream(&client, "/v1/chat/completions", body, on_event, &tokens, e);
    free(body);
    printf("\n\n");
    fflush(stdout);
    if (r == 0)
        fprintf(stderr, "shoal: %llu tokens in %.2f s\n", (unsigned long long)tokens,
                (double)(clock_us() - start) / 1e6);
    return r;
}

static void say_what_next(struct cluster *c, const struct settings *s)
{
    const char *model = settings_argument(s, 0);
    fprintf(stderr, "shoal: the cluster is up: base URL %s/v1\n", cluster_url(c));
    fprintf(stderr,
            "\n  curl %s/v1/chat/completions -H 'Content-Type: application/json' \\\n"
            "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"What is the capital of Italy?\"}]}'\n\n"
            "  shoal status --url %s\n\nThe model is %s. Ctrl-C stops every process.\n",
            cluster_url(c), cluster_url(c), model);
}

static int stay(struct cluster *c, struct error *e)
{
    while (!interrupt_seen()) {
        int r = cluster_check(c, e);
        if (r != 0) { /* the others go on; the coordinator says in its log what became of the route */
            fprintf(stderr, "shoal: %s\n", e->text);
            e->text[0] = '\0';
        }
        clock_sleep_ms(WAIT_MS);
    }
    return 0;
}

int up_command(const struct settings *s, struct error *e)
{
    struct cluster *c;
    int r = start(&c, s, e);
    if (r != 0)
        return r;
    say_route(c);
    bool keep = settings_switch(s, "keep") || !settings_text(s, "ask");
    if (settings_text(s, "ask"))
        r = ask(c, s, e);
    if (r == 0 && keep) {
        say_what_next(c, s);
        r = stay(c, e);
    }
    cluster_stop(&c);
    return r;
}
