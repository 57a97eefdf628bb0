/* node: what is made in order at start, and unmade in reverse. */
#include "node/node.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/logger.h"
#include "base/memory.h"
#include "base/path.h"
#include "kernels/pool.h"
#include "net/zap.h"
#include "node/agent.h"

struct node {
    struct node_options o; /* strings are our copies below */
    char *name, *state_dir, *cache_dir, *model_path, *advertise, *listen;
    struct keys keys;
    struct membership membership;
    void *context;
    struct zap *zap;
    struct device *device;
    struct queue *reports;
    struct stage *stage;
    struct agent *agent;
};

static char *copy_or_null(const char *s)
{
    return s ? mem_strdup(s) : NULL;
}

static char *host_name(void)
{
    char text[HOST_NAME_MAX + 1] = "";
    if (gethostname(text, sizeof(text) - 1) != 0 || !text[0])
        snprintf(text, sizeof(text), "node");
    return mem_strndup(text, strnlen(text, 63));
}

static void copy_options(struct node *n, const struct node_options *o)
{
    n->o = *o;
    n->name = o->name ? mem_strndup(o->name, strnlen(o->name, 63)) : host_name();
    if (o->state_dir) {
        n->state_dir = mem_strdup(o->state_dir);
    } else {
        char *base = path_state_dir();
        n->state_dir = path_join(base, "node");
        mem_free(base);
    }
    n->cache_dir = o->cache_dir ? mem_strdup(o->cache_dir) : path_cache_dir();
    n->o.model_path = n->model_path = copy_or_null(o->model_path);
    n->o.advertise = n->advertise = copy_or_null(o->advertise);
    n->listen = mem_printf("tcp://%s", o->listen ? o->listen : "0.0.0.0:0");
}

/* With an invite: enrol, unless this node already belongs to that very coordinator. */
static int become_member(struct node *n, struct error *e)
{
    struct membership kept;
    struct invite invite;
    if (!n->o.invite)
        return membership_load(&n->membership, n->state_dir, e);
    int r = invite_parse(&invite, n->o.invite, e);
    if (r != 0)
        return r;
    if (membership_load(&kept, n->state_dir, NULL) == 0 &&
        memcmp(kept.coordinator_key, invite.coordinator_key, KEY_BYTES) == 0 && strcmp(kept.host, invite.host) == 0) {
        struct error first = {0};
        r = membership_enrol(&n->membership, n->context, &n->keys, n->name, n->o.invite, &first);
        if (r != 0) { /* the invite was used: by us, then */
            n->membership = kept;
            return 0;
        }
        return membership_save(&n->membership, n->state_dir, e);
    }
    r = membership_enrol(&n->membership, n->context, &n->keys, n->name, n->o.invite, e);
    return r == 0 ? membership_save(&n->membership, n->state_dir, e) : r;
}

static int start_parts(struct node *n, struct error *e)
{
    int r = keys_load_or_create(&n->keys, n->state_dir, e);
    if (r == 0)
        r = path_make_dirs(n->cache_dir, 0700, e);
    if (r != 0)
        return r;
    n->context = link_context(1);
    r = zap_start(&n->zap, n->context, e);
    if (r == 0)
        r = zap_allow(n->zap, STAGE_DOMAIN, NULL, 0, e); /* nobody, until the roster is here */
    if (r == 0)
        r = link_self_test(n->context, n->zap, e);
    if (r == 0)
        r = become_member(n, e);
    if (r == 0) {
        struct device_options d = {.threads = n->o.threads, .pin = n->o.pin, .isa = n->o.isa};
        r = backend_open(&n->device, n->o.backend, &d, e);
    }
    if (r != 0)
        return r;
    n->reports = queue_create(AGENT_REPORTS_MAX);
    struct stage_options so = {.zmq_context = n->context, .keys = &n->keys,
                               .coordinator_key = n->membership.coordinator_key, .listen = n->listen,
                               .reports = n->reports};
    r = stage_start(&n->stage, &so, e);
    if (r != 0)
        return r;
    uint64_t memory = n->o.memory_bytes ? n->o.memory_bytes : mem_available() / 10 * 9;
    struct agent_options ao = {
        .node = &n->o, .zmq_context = n->context, .keys = &n->keys, .membership = n->membership, .zap = n->zap,
        .stage = n->stage, .device = n->device, .reports = n->reports, .name = n->name, .cache_dir = n->cache_dir,
        .memory_bytes = memory,
        .read_bandwidth = backend_read_bandwidth(n->o.threads ? n->o.threads : pool_cpu_count(), 0)};
    return agent_start(&n->agent, &ao, e);
}

int node_start(struct node **out, const struct node_options *o, struct error *e)
{
    struct node *n = mem_alloc(sizeof(*n));
    copy_options(n, o);
    int r = start_parts(n, e);
    if (r != 0)
        node_stop(&n);
    *out = n;
    return r;
}

int node_wait(struct node *n, uint64_t wait_ms, struct error *e)
{
    return agent_wait(n->agent, wait_ms, e);
}

static void free_report(void *item)
{
    struct report *r = item;
    shard_close(&r->shard);
    model_close(&r->model);
    mem_free(r);
}

void node_stop(struct node **node_p)
{
    struct node *n = *node_p;
    if (!n)
        return;
    agent_stop(&n->agent);
    if (n->reports)
        queue_close(n->reports);
    stage_stop(&n->stage);
    queue_destroy(&n->reports, free_report);
    backend_close(&n->device);
    zap_stop(&n->zap);
    link_context_destroy(&n->context);
    keys_wipe(&n->keys);
    mem_free(n->name);
    mem_free(n->state_dir);
    mem_free(n->cache_dir);
    mem_free(n->model_path);
    mem_free(n->advertise);
    mem_free(n->listen);
    mem_free(n);
    *node_p = NULL;
}
