/* agent: poll the control link and the reports; everything the coordinator asks becomes a command.
 *
 * Invariant: at most one loader runs, and a shard is unloaded before the next
 * one is loaded, so that memory is held once.                                */
#include "node/agent.h"

#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "net/roster.h"
#include "node/loader.h"
#include "proto/control.h"
#include "proto/frame.h"

struct agent {
    struct agent_options o;
    pthread_t thread;
    struct queue *ended; /* one item: why */
    atomic_bool stop;

    /* the agent thread's */
    struct link *link;
    struct buffer out;
    uint64_t boot, session;
    bool joined, was_connected;
    uint64_t join_sent_ms, beat_ms, next_beat_ms, started_ms;
    uint64_t roster_serial;
    struct loader *loader;
    struct loader_job pending; /* waits for the old shard to go */
    bool has_pending;
    uint64_t loading;          /* load number of the running loader */
    double layer_ms;
    int end_status;
    struct error end;
    bool done;
};

static void finish(struct agent *a, int status, const char *text)
{
    a->done = true;
    a->end_status = status;
    if (status != 0)
        error_set(&a->end, status, "%s", text);
}

/* ---- sending ---- */

static void send_control(struct agent *a, const Shoal__Control *c)
{
    struct error e = {0};
    int r = control_pack(&a->out, c, &e);
    if (r == 0)
        r = link_send(a->link, NULL, a->out.data, a->out.len, &e);
    if (r != 0)
        log_debug("node", "a control message was not sent: %s", e.text);
}

static uint64_t cache_free_bytes(const struct agent *a)
{
    struct statvfs fs;
    return statvfs(a->o.cache_dir, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : 0;
}

static void send_join(struct agent *a)
{
    struct device_facts device;
    a->o.device->backend->facts(a->o.device, &device);
    Shoal__Facts facts = SHOAL__FACTS__INIT;
    facts.name = a->o.name;
    facts.cores = (uint32_t)device.cores;
    facts.memory_bytes = a->o.memory_bytes;
    facts.read_bandwidth = a->o.read_bandwidth;
    facts.layer_ms = a->layer_ms;
    facts.device = device.name;
    facts.data_port = stage_port(a->o.stage);
    facts.data_host = (char *)(uintptr_t)(a->o.node->advertise ? a->o.node->advertise : "");
    facts.version = (char *)(uintptr_t)SHOAL_VERSION;
    facts.free_bytes = cache_free_bytes(a);
    Shoal__Join join = SHOAL__JOIN__INIT;
    join.facts = &facts;
    join.boot = a->boot;
    Shoal__Control c = SHOAL__CONTROL__INIT;
    c.body_case = SHOAL__CONTROL__BODY_JOIN;
    c.join = &join;
    send_control(a, &c);
    a->join_sent_ms = clock_ms();
}

static void send_beat(struct agent *a)
{
    struct stage_stats *st = stage_stats(a->o.stage);
    Shoal__ShardStats shard = SHOAL__SHARD_STATS__INIT;
    Shoal__ShardStats *shards[1] = {&shard};
    shard.route = atomic_load(&st->route);
    shard.sequences = atomic_load(&st->sequences);
    shard.pages_used = atomic_load(&st->pages_used);
    shard.pages_total = atomic_load(&st->pages_total);
    shard.steps = atomic_load(&st->steps);
    shard.rows = atomic_load(&st->rows);
    shard.compute_ms = atomic_load(&st->compute_ms);
    shard.resident_bytes = atomic_load(&st->resident_bytes);
    Shoal__Beat beat = SHOAL__BEAT__INIT;
    beat.memory_available = mem_available();
    beat.n_shards = shard.resident_bytes ? 1 : 0;
    beat.shards = shards;
    double layer = atomic_load(&st->layer_ms);
    beat.layer_ms = layer > 0 ? layer : a->layer_ms;
    Shoal__Control c = SHOAL__CONTROL__INIT;
    c.body_case = SHOAL__CONTROL__BODY_BEAT;
    c.beat = &beat;
    send_control(a, &c);
    double rtt = atomic_load(&st->rtt_us);
    if (shard.route != 0 && rtt > 0) {
        Shoal__LinkReport report = SHOAL__LINK_REPORT__INIT;
        report.route = shard.route;
        report.rtt_us = rtt;
        report.bytes_sent = atomic_load(&st->bytes_sent);
        c.body_case = SHOAL__CONTROL__BODY_LINK_REPORT;
        c.link_report = &report;
        send_control(a, &c);
    }
}

static void send_load_done(struct agent *a, const struct report *r, uint64_t resident_bytes)
{
    Shoal__LoadDone done = SHOAL__LOAD_DONE__INIT;
    done.load = r->load;
    done.status = r->status;
    done.text = (char *)(uintptr_t)r->text;
    done.resident_bytes = resident_bytes;
    done.layer_ms = r->layer_ms;
    Shoal__Control c = SHOAL__CONTROL__INIT;
    c.body_case = SHOAL__CONTROL__BODY_LOAD_DONE;
    c.load_done = &done;
    send_control(a, &c);
}

static void send_load_failed(struct agent *a, uint64_t load, int status, const char *text)
{
    struct report r = {.load = load, .status = status};
    snprintf(r.text, sizeof(r.text), "%s", text);
    send_load_done(a, &r, 0);
}

static void send_route_ready(struct agent *a, uint64_t route, int status, const char *text)
{
    Shoal__RouteReady ready = SHOAL__ROUTE_READY__INIT;
    ready.route = route;
    ready.status = status;
    ready.text = (char *)(uintptr_t)text;
    Shoal__Control c = SHOAL__CONTROL__INIT;
    c.body_case = SHOAL__CONTROL__BODY_ROUTE_READY;
    c.route_ready = &ready;
    send_control(a, &c);
}

/* ---- loads ---- */

static void drop_pending(struct agent *a)
{
    if (!a->has_pending)
        return;
    loader_job_free(&a->pending);
    a->has_pending = false;
}

static void stop_loader(struct agent *a)
{
    if (a->loader)
        loader_cancel(a->loader);
    loader_join(&a->loader);
    a->loading = 0;
}

static void take_adapters(struct loader_job *j, const Shoal__Load *m)
{
    j->n_adapters = (uint32_t)m->n_adapters;
    j->adapters = mem_array(m->n_adapters + 1, sizeof(*j->adapters));
    for (size_t i = 0; i < m->n_adapters; i++) {
        memcpy(j->adapters[i].id, m->adapters[i]->id.data, MANIFEST_ID_BYTES);
        j->adapters[i].scale = m->adapters[i]->scale;
        j->adapters[i].path_hint = mem_strdup(m->adapters[i]->path_hint);
    }
}

static void on_load(struct agent *a, const Shoal__Load *m)
{
    if (m->model_id.len != MANIFEST_ID_BYTES || m->layer_first >= m->layer_last || m->kv_type >= KV_TYPES ||
        m->batch_rows_max == 0 || m->batch_rows_max > STEP_ROWS_MAX || m->sequences_max == 0 ||
        m->sequences_max > STEP_SEQUENCES_MAX || m->n_adapters > ADAPTERS_MAX) {
        send_load_failed(a, m->load, ERR_INVALID, "the load's numbers are out of range");
        return;
    }
    stop_loader(a);
    drop_pending(a);
    struct loader_job *j = &a->pending;
    *j = (struct loader_job){
        .load = m->load, .file_bytes = m->file_bytes, .header_bytes = m->header_bytes,
        .path_hint = mem_strdup(m->path_hint ? m->path_hint : ""),
        .model_path = a->o.node->model_path ? mem_strdup(a->o.node->model_path) : NULL,
        .trust_model_path = a->o.node->trust_model_path,
        .cache_dir = mem_strdup(a->o.cache_dir),
        .shard = {.range = {m->layer_first, m->layer_last, m->embedding, m->head},
                  .kv_type = (enum kv_type)m->kv_type, .kv_tokens = m->kv_tokens,
                  .sequences_max = m->sequences_max, .batch_rows_max = m->batch_rows_max},
        .zmq_context = a->o.zmq_context, .keys = a->o.keys, .membership = a->o.membership,
        .device = a->o.device, .reports = a->o.reports, .progress = a->o.node->progress,
    };
    memcpy(j->model_id, m->model_id.data, MANIFEST_ID_BYTES);
    take_adapters(j, m);
    a->has_pending = true;
    log_info("node", "load: layers=%u-%u model=%s", m->layer_first, m->layer_last - 1, m->model_name);
    if (stage_unload(a->o.stage) != 0) {
        drop_pending(a);
        send_load_failed(a, m->load, ERR_BUSY, "the node's stage is busy");
    }
}

static void start_pending(struct agent *a)
{
    if (!a->has_pending)
        return;
    a->loader = loader_start(&a->pending);
    if (!a->loader) {
        send_load_failed(a, a->pending.load, ERR_MEMORY, "the loader's thread could not be started");
        drop_pending(a);
        return;
    }
    a->loading = a->pending.load;
    a->has_pending = false; /* the loader has its strings */
}

static void on_load_done(struct agent *a, struct report *r)
{
    if (r->load != a->loading) {
        shard_close(&r->shard); /* of a load that was replaced meanwhile */
        model_close(&r->model);
        return;
    }
    struct shard_stats st = {0};
    loader_join(&a->loader);
    a->loading = 0;
    if (r->status == 0) {
        a->layer_ms = r->layer_ms;
        shard_stats(r->shard, &st); /* before the stage has it */
        r->status = stage_give_shard(a->o.stage, r->load, r->model, r->shard);
        if (r->status != 0) {
            shard_close(&r->shard);
            model_close(&r->model);
            snprintf(r->text, sizeof(r->text), "the node's stage is busy");
        }
    }
    if (r->status == 0)
        log_info("node", "loaded: layer_ms=%.3f", a->layer_ms);
    else
        log_error("node", "load failed: %s", r->text);
    send_load_done(a, r, st.bytes_weights + st.bytes_kv + st.bytes_scratch);
}

static void on_report(struct agent *a, struct report *r)
{
    Shoal__LoadProgress p = SHOAL__LOAD_PROGRESS__INIT;
    Shoal__Control c = SHOAL__CONTROL__INIT;
    switch (r->kind) {
    case REPORT_UNLOADED:
        start_pending(a);
        break;
    case REPORT_ROUTE_READY:
        send_route_ready(a, r->route, r->status, r->text);
        break;
    case REPORT_LOAD_PROGRESS:
        p.load = r->load;
        p.phase = (char *)(uintptr_t)r->phase;
        p.bytes_done = r->done;
        p.bytes_total = r->total;
        c.body_case = SHOAL__CONTROL__BODY_LOAD_PROGRESS;
        c.load_progress = &p;
        send_control(a, &c);
        break;
    case REPORT_LOAD_DONE:
        on_load_done(a, r);
        break;
    }
}

/* ---- what the coordinator says ---- */

/* The roster is the gate of our data listener. */
static void on_roster(struct agent *a, const Shoal__Roster *m)
{
    struct roster roster;
    struct error e = {0};
    int r = roster_verify(&roster, m->body.data, m->body.len, m->signature.data, m->signature.len,
                          a->o.membership.sign_public, a->roster_serial, &e);
    if (r != 0) {
        log_warn("node", "a roster was refused: %s", e.text);
        return;
    }
    a->roster_serial = roster.serial;
    uint8_t *keys = mem_array(roster.n + 1, KEY_BYTES);
    for (size_t i = 0; i < roster.n; i++)
        memcpy(keys + i * KEY_BYTES, roster.members[i].key, KEY_BYTES);
    r = zap_allow(a->o.zap, STAGE_DOMAIN, keys, roster.n, &e);
    if (r == 0)
        r = stage_members(a->o.stage, keys, roster.n);
    if (r != 0)
        log_error("node", "the roster could not be applied: %s", e.text);
    if (!roster_find(&roster, a->o.keys->public_key))
        finish(a, ERR_DENIED, "the coordinator removed this node from the cluster");
    mem_free(keys);
    roster_free(&roster);
}

static void on_welcome(struct agent *a, const Shoal__Welcome *w)
{
    if (!a->joined)
        log_info("node", "joined: session=%llu", (unsigned long long)w->session);
    a->joined = true;
    a->session = w->session;
    a->beat_ms = w->beat_ms >= 100 && w->beat_ms <= 60000 ? w->beat_ms : 1000;
    a->next_beat_ms = 0;
    if (w->roster)
        on_roster(a, w->roster);
}

static void on_set_route(struct agent *a, const Shoal__SetRoute *m)
{
    struct stage_route route = {.route = m->route, .load = m->load, .stage = m->stage, .stages = m->stages,
                                .dtype = m->dtype};
    bool last = !m->next_endpoint || !m->next_endpoint[0];
    if (m->route == 0 || m->stages == 0 || m->stages > FRAME_STAGES_MAX || m->stage >= m->stages ||
        m->dtype > FRAME_BF16 || (!last && m->next_key.len != KEY_BYTES) || m->from_key.len != KEY_BYTES) {
        send_route_ready(a, m->route, ERR_INVALID, "the route's numbers are out of range");
        return;
    }
    memcpy(route.from_key, m->from_key.data, KEY_BYTES);
    if (!last) {
        snprintf(route.next_endpoint, sizeof(route.next_endpoint), "%s", m->next_endpoint);
        memcpy(route.next_key, m->next_key.data, KEY_BYTES);
    }
    if (stage_set_route(a->o.stage, &route) != 0)
        send_route_ready(a, m->route, ERR_BUSY, "the node's stage is busy");
}

static void on_control(struct agent *a, const Shoal__Control *c)
{
    switch (c->body_case) {
    case SHOAL__CONTROL__BODY_WELCOME:
        on_welcome(a, c->welcome);
        break;
    case SHOAL__CONTROL__BODY_ROSTER:
        on_roster(a, c->roster);
        break;
    case SHOAL__CONTROL__BODY_LOAD:
        on_load(a, c->load);
        break;
    case SHOAL__CONTROL__BODY_UNLOAD:
        if (a->loading == c->unload->load)
            stop_loader(a);
        drop_pending(a);
        if (stage_unload(a->o.stage) != 0)
            log_warn("node", "unload: the stage is busy");
        break;
    case SHOAL__CONTROL__BODY_SET_ROUTE:
        on_set_route(a, c->set_route);
        break;
    case SHOAL__CONTROL__BODY_END_ROUTE:
        if (stage_end_route(a->o.stage, c->end_route->route) != 0)
            log_warn("node", "end of route: the stage is busy");
        break;
    case SHOAL__CONTROL__BODY_REFUSED:
        if (c->refused->status == ERR_UNAVAILABLE)
            a->joined = false; /* the coordinator forgot us: join again */
        else
            finish(a, ERR_DENIED, c->refused->text);
        break;
    default:
        break; /* what only nodes send */
    }
}

static void drain_link(struct agent *a)
{
    struct link_message m;
    struct error e = {0};
    while (!a->done && link_receive(a->link, &m, NULL) == 0) {
        Shoal__Control *c;
        int r = control_unpack(&c, m.data, m.size, &e);
        link_message_close(&m);
        if (r != 0) {
            log_warn("node", "a control message was refused: %s", e.text);
            continue;
        }
        on_control(a, c);
        control_free(&c);
    }
}

/* ---- the thread ---- */

static void keep_joined(struct agent *a, uint64_t now)
{
    bool connected = link_connected(a->link);
    if (connected && !a->was_connected)
        a->joined = false; /* a new connection: the coordinator may be a new one */
    if (!connected && a->was_connected)
        log_warn("node", "the coordinator is out of reach; trying again");
    a->was_connected = connected;
    if (link_refused(a->link)) {
        finish(a, ERR_DENIED, "the coordinator refuses this node's key: it was revoked or never enrolled");
        return;
    }
    uint32_t limit = a->o.node->join_timeout_ms;
    if (!a->session && limit && now - a->started_ms > limit) {
        finish(a, ERR_TIMEOUT, "the coordinator could not be reached in time");
        return;
    }
    if (connected && !a->joined && now - a->join_sent_ms >= AGENT_JOIN_RETRY_MS)
        send_join(a);
    if (connected && a->joined && now >= a->next_beat_ms) {
        send_beat(a);
        a->next_beat_ms = now + a->beat_ms;
    }
}

static void leave(struct agent *a)
{
    if (a->joined && link_connected(a->link)) {
        Shoal__Leave leave = SHOAL__LEAVE__INIT;
        leave.reason = (char *)(uintptr_t)"stopped";
        Shoal__Control c = SHOAL__CONTROL__INIT;
        c.body_case = SHOAL__CONTROL__BODY_LEAVE;
        c.leave = &leave;
        send_control(a, &c);
        clock_sleep_ms(AGENT_LEAVE_MS / 3);
    }
}

static void *run(void *arg)
{
    struct agent *a = arg;
    a->started_ms = clock_ms();
    a->join_sent_ms = a->started_ms - AGENT_JOIN_RETRY_MS;
    while (!a->done && !atomic_load(&a->stop)) {
        zmq_pollitem_t items[2] = {{.socket = link_socket(a->link), .events = ZMQ_POLLIN},
                                   {.fd = queue_fd(a->o.reports), .events = ZMQ_POLLIN}};
        (void)zmq_poll(items, 2, AGENT_POLL_MS);
        link_watch(a->link);
        drain_link(a);
        void *item;
        while (queue_pop(a->o.reports, &item, 0) == 0) {
            on_report(a, item);
            mem_free(item);
        }
        if (!a->done)
            keep_joined(a, clock_ms());
    }
    leave(a);
    stop_loader(a);
    drop_pending(a);
    queue_close(a->ended);
    return NULL;
}

int agent_start(struct agent **out, const struct agent_options *o, struct error *e)
{
    struct agent *a = mem_alloc(sizeof(*a));
    a->o = *o;
    a->ended = queue_create(1);
    randombytes_buf(&a->boot, sizeof(a->boot));
    buffer_init(&a->out, CONTROL_BYTES_MAX);
    char endpoint[300];
    membership_endpoint(&o->membership, o->membership.control_port, endpoint);
    struct link_options lo = {.keys = o->keys, .bytes_max = CONTROL_BYTES_MAX, .queue_max = 256};
    int r = link_dial(&a->link, o->zmq_context, endpoint, a->o.membership.coordinator_key, &lo, e);
    if (r == 0 && pthread_create(&a->thread, NULL, run, a) != 0) {
        link_close(&a->link);
        r = error_set(e, ERR_MEMORY, "cannot start the node's agent");
    }
    if (r != 0) {
        queue_destroy(&a->ended, NULL);
        buffer_close(&a->out);
        mem_free(a);
        return r;
    }
    *out = a;
    return 0;
}

int agent_wait(struct agent *a, uint64_t wait_ms, struct error *e)
{
    void *nothing;
    if (queue_pop(a->ended, &nothing, wait_ms) == ERR_TIMEOUT)
        return ERR_TIMEOUT;
    return a->end_status == 0 ? 0 : error_set(e, a->end_status, "%s", a->end.text);
}

void agent_stop(struct agent **agent_p)
{
    struct agent *a = *agent_p;
    if (!a)
        return;
    atomic_store(&a->stop, true);
    pthread_join(a->thread, NULL);
    link_close(&a->link);
    queue_destroy(&a->ended, NULL);
    buffer_close(&a->out);
    mem_free(a);
    *agent_p = NULL;
}
