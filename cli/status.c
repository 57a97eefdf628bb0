/* status: the coordinator's status document (docs/status.md) as tables for people. */
#include <jansson.h>
#include <stdio.h>

#include "base/memory.h"
#include "base/progress.h"
#include "cli/client.h"
#include "cli/cluster_url.h"
#include "cli/command.h"
#include "cli/interrupt.h"

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double real_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static uint64_t count_of(const json_t *o, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(o, key));
    return n > 0 ? (uint64_t)n : 0;
}

static void print_head(const json_t *j)
{
    const json_t *model = json_object_get(j, "model");
    char total[32], active[32], bytes[32];
    printf("%s: %s\n", text_of(j, "state"), text_of(j, "text"));
    printf("model %s: %s, %llu layers, %s parameters (%s a token), %s\n", text_of(model, "name"),
           text_of(model, "architecture"), (unsigned long long)count_of(model, "layers"),
           progress_count(real_of(model, "parameters"), total),
           progress_count(real_of(model, "parameters_active"), active),
           progress_bytes(count_of(model, "bytes"), bytes));
    printf("context %llu, KV for %llu tokens as %s, up to %llu sequences\n\n",
           (unsigned long long)count_of(model, "context"), (unsigned long long)count_of(model, "kv_tokens"),
           text_of(model, "kv_type"), (unsigned long long)count_of(model, "sequences_max"));
}

static void print_layers(const json_t *m, char text[static 24])
{
    const json_t *first = json_object_get(m, "layer_first");
    if (json_is_integer(first))
        snprintf(text, 24, "%lld-%lld", (long long)json_integer_value(first),
                 (long long)json_integer_value(json_object_get(m, "layer_last")) - 1);
    else
        snprintf(text, 24, "-");
}

static void print_member(const json_t *m)
{
    char layers[24], held[32], memory[32], bandwidth[32], pages[64];
    const json_t *load = json_object_get(m, "load");
    if (!json_object_get(m, "device")) {
        printf("%-16s %-9s %-10s %s\n", text_of(m, "name"), text_of(m, "fingerprint"), text_of(m, "state"),
               text_of(m, "trouble"));
        return;
    }
    print_layers(m, layers);
    snprintf(pages, sizeof(pages), "%llu/%llu", (unsigned long long)count_of(m, "kv_pages_used"),
             (unsigned long long)count_of(m, "kv_pages_total"));
    printf("%-16s %-9s %-10s %-8s %9s /%9s %9s/s %8.1f %9s  %s", text_of(m, "name"), text_of(m, "fingerprint"),
           text_of(m, "state"), layers, progress_bytes(count_of(m, "resident_bytes"), held),
           progress_bytes(count_of(m, "memory_bytes"), memory),
           progress_bytes((uint64_t)real_of(m, "read_bandwidth"), bandwidth), real_of(m, "steps_per_second"), pages,
           text_of(m, "device"));
    if (json_is_object(load) && count_of(load, "bytes_total") > 0)
        printf("  %s %.0f %%", text_of(load, "phase"),
               100.0 * (double)count_of(load, "bytes_done") / (double)count_of(load, "bytes_total"));
    printf("%s%s\n", text_of(m, "trouble")[0] ? "  " : "", text_of(m, "trouble"));
}

static void print_route(const json_t *route)
{
    size_t i;
    const json_t *s;
    if (!json_is_object(route))
        return;
    printf("\nroute %llu, rows as %s\n%-16s %-8s %-22s %11s %11s %11s\n", (unsigned long long)count_of(route, "number"),
           text_of(route, "rows"), "stage", "layers", "endpoint", "compute us", "queue us", "link us");
    json_array_foreach(json_object_get(route, "stages"), i, s) {
        char layers[24];
        print_layers(s, layers);
        printf("%-16s %-8s %-22s %11.0f %11.0f %11.0f\n", text_of(s, "node"), layers, text_of(s, "endpoint"),
               real_of(s, "compute_us"), real_of(s, "queue_us"), real_of(s, "link_us"));
    }
}

static void print_status(const json_t *j)
{
    size_t i;
    const json_t *m, *members = json_object_get(j, "members");
    print_head(j);
    printf("%-16s %-9s %-10s %-8s %20s %11s %8s %9s  %s\n", "node", "key", "state", "layers", "held / may hold",
           "reads", "steps/s", "KV pages", "device");
    json_array_foreach(members, i, m)
        print_member(m);
    if (json_array_size(members) == 0)
        printf("no node has joined yet\n");
    print_route(json_object_get(j, "route"));
    if (count_of(j, "connections_refused") > 0)
        printf("\nconnections refused: %llu\n", (unsigned long long)count_of(j, "connections_refused"));
}

int status_command(const struct settings *s, struct error *e)
{
    struct client c = {.key = settings_text(s, "api_key"), .stop = interrupt_seen,
                       .ca = settings_text(s, "tls_ca")};
    struct buffer body = {0};
    char *url;
    int r = cluster_url_for(s, &url, e);
    c.url = url;
    if (r == 0)
        r = client_call(&c, "/status", NULL, &body, e);
    if (r == 0 && settings_switch(s, "json")) {
        puts(buffer_text(&body));
    } else if (r == 0) {
        json_t *j = json_loadb(buffer_text(&body), body.len, 0, NULL);
        if (json_is_object(j))
            print_status(j);
        else
            r = error_set(e, ERR_CORRUPT, "%s answered what is no status document", c.url);
        json_decref(j);
    }
    buffer_close(&body);
    mem_free(url);
    return r;
}
