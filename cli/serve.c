/* serve: shoal serve (coordinator and one node in this process) and shoal coordinator. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/path.h"
#include "cli/heads.h"
#include "cli/interrupt.h"
#include "kernels/pool.h"
#include "node/node.h"

enum { WAIT_MS = 100, INVITE_TTL_S = 86400 };

static void say_ready(const struct coordinator_options *o, uint16_t port)
{
    printf("OpenAI API: %s://%s:%u/v1\n", o->tls_cert ? "https" : "http", o->http_host, port);
    fflush(stdout);
}

/* Until Ctrl-C; with a node of our own, until that ends. */
static int wait_for_end(struct node *n, struct error *e)
{
    while (!interrupt_seen()) {
        int r = n ? node_wait(n, WAIT_MS, e) : ERR_TIMEOUT;
        if (r != ERR_TIMEOUT)
            return r ? r : error_set(e, ERR_GONE, "the node has ended");
        if (!n)
            clock_sleep_ms(WAIT_MS);
    }
    return 0;
}

static int wait_for_route(struct coordinator *c, struct node *n, struct error *e)
{
    struct control_route route;
    for (;;) {
        control_route(coordinator_control(c), &route);
        if (route.state == CONTROL_READY || interrupt_seen())
            return 0;
        if (route.waits != 0)
            return error_set(e, route.waits, "%s", route.text);
        int r = node_wait(n, WAIT_MS, e);
        if (r != ERR_TIMEOUT)
            return r ? r : error_set(e, ERR_GONE, "the node has ended: %s", route.text);
    }
}

static int start_own_node(struct node **n, struct coordinator *c, const struct settings *s, const char *state_dir,
                          struct error *e)
{
    char *invite;
    int r = control_invite(coordinator_control(c), 1, INVITE_TTL_S, NULL, &invite, e);
    if (r != 0)
        return r;
    struct node_options o = {
        .invite = invite, .name = "local", .state_dir = state_dir, .cache_dir = settings_text(s, "cache_dir"),
        .model_path = settings_argument(s, 0), .listen = "127.0.0.1:0", .advertise = "127.0.0.1",
        .backend = settings_text(s, "backend"), .isa = settings_text(s, "isa"),
        .threads = (int)settings_count(s, "threads"), .pin = settings_switch(s, "pin"),
        .progress = isatty(STDERR_FILENO), .trust_model_path = true,
    };
    r = node_start(n, &o, e);
    mem_free(invite);
    return r;
}

static int serve_in(const char *dir, const struct settings *s, struct error *e)
{
    struct coordinator_options o;
    struct coordinator *c = NULL;
    struct node *n = NULL;
    char *cache = path_cache_dir(), *api_dir = NULL;
    char *coordinator_dir = path_join(dir, "coordinator"), *node_dir = path_join(dir, "node");
    int r = heads_options(&o, s, settings_argument(s, 0), e);
    if (r == 0)
        r = heads_api_dir(&api_dir, s, e);
    if (r == 0) {
        o.api_state_dir = api_dir;
        o.control.state_dir = coordinator_dir;
        if (!o.control.cache_dir)
            o.control.cache_dir = cache;
        o.control.listen_host = o.control.advertise = "127.0.0.1";
        o.control.nodes_min = 1;
        o.control.trusted_local = true;
        r = coordinator_start(&c, &o, e);
    }
    if (r == 0)
        r = start_own_node(&n, c, s, node_dir, e);
    if (r == 0)
        r = wait_for_route(c, n, e);
    if (r == 0) {
        say_ready(&o, coordinator_http_port(c));
        r = wait_for_end(n, e);
    }
    logger_level(LOG_ERROR); /* that the two lose each other now is no news */
    node_stop(&n);
    coordinator_stop(&c);
    mem_free(coordinator_dir);
    mem_free(node_dir);
    mem_free(api_dir);
    mem_free(cache);
    return r;
}

int serve_command(const struct settings *s, struct error *e)
{
    char *dir = heads_temporary_dir(e);
    if (!dir)
        return ERR_IO;
    int r = serve_in(dir, s, e);
    heads_remove_dir(&dir);
    return r;
}

static int print_invite(struct coordinator *c, uint32_t uses, struct error *e)
{
    char *invite;
    int r = control_invite(coordinator_control(c), uses, INVITE_TTL_S, NULL, &invite, e);
    if (r != 0)
        return r;
    printf("to add %u node%s within a day, run on each:\n  shoal node --join '%s'\n", uses, uses == 1 ? "" : "s",
           invite);
    fflush(stdout);
    mem_free(invite);
    return 0;
}

static int run_coordinator(const struct settings *s, const char *model, struct error *e)
{
    struct coordinator_options o;
    struct coordinator *c = NULL;
    char *state = heads_state_dir(s, "coordinator"), *cache = path_cache_dir();
    int r = heads_options(&o, s, model, e);
    if (r == 0) {
        o.control.state_dir = state;
        if (!o.control.cache_dir)
            o.control.cache_dir = cache;
        o.control.listen_host = settings_text(s, "listen");
        o.control.advertise = settings_text(s, "advertise");
        o.control.control_port = (uint16_t)settings_count(s, "control_port");
        o.control.enrol_port = (uint16_t)settings_count(s, "enrol_port");
        o.control.blob_port = (uint16_t)settings_count(s, "blob_port");
        o.control.nodes_min = (uint32_t)settings_count(s, "nodes");
        o.control.lease_ms = (uint32_t)settings_count(s, "lease_ms");
        o.control.rows_type = settings_text(s, "rows_type");
        o.control.progress = isatty(STDERR_FILENO);
        r = coordinator_start(&c, &o, e);
    }
    if (r == 0) {
        say_ready(&o, coordinator_http_port(c));
        r = print_invite(c, o.control.nodes_min ? o.control.nodes_min : 1, e);
    }
    if (r == 0)
        r = wait_for_end(NULL, e);
    coordinator_stop(&c);
    mem_free(state);
    mem_free(cache);
    return r;
}

int coordinator_command(const struct settings *s, struct error *e)
{
    const char *model = settings_argument(s, 0);
    model = model ? model : settings_text(s, "model");
    if (!model)
        return error_set(e, ERR_CONFIG, "which model? give its file, or \"model: FILE\" in the YAML file");
    return run_coordinator(s, model, e);
}
