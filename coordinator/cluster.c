/* cluster: WAITING -> place -> LOADING -> READY, and back when a stage is lost.
 *
 * What happens to nodes only marks (`look`) or ends the route; everything is
 * started from cluster_tick(), so that however many nodes come and go at once,
 * there is one placement.  Shards that nodes hold are remembered in the
 * registry: a placement that gives a node what it has loads nothing there.   */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/control_state.h"
#include "kernels/limits.h"

/* ---- what is placed ---- */

/* The parts of the model, from sums over its tensors. */
void cluster_init(struct control *c)
{
    const struct model *m = c->model;
    uint32_t n = model_hparams(m)->n_layers, rows = c->shape.batch_rows_max;
    struct layer_range none = {0, 0, false, false}, embedding = {0, 0, true, false}, head = {0, 0, false, true},
                       both = {0, 0, true, true}, body = {0, n, true, false}, end = {0, n, false, true};
    uint64_t shared = model_range_bytes(m, &none);
    uint64_t body_scratch = model_scratch_bytes(m, &body, rows, 0), end_scratch = model_scratch_bytes(m, &end, rows, 0);
    c->layer_bytes = mem_array(n, sizeof(*c->layer_bytes));
    uint64_t products = adapters_scratch_bytes((const struct adapter *const *)c->adapters, c->o.n_adapters, m, rows);
    body_scratch += products;
    end_scratch += products;
    for (uint32_t i = 0; i < n; i++) {
        struct layer_range layer = {i, i + 1, false, false};
        c->layer_bytes[i] = model_layer_bytes(m, i);
        for (size_t k = 0; k < c->o.n_adapters; k++)
            c->layer_bytes[i] += adapter_range_bytes(c->adapters[k], &layer);
    }
    c->joined = mem_array(n, sizeof(*c->joined));
    for (uint32_t i = 0; i < n; i++)
        c->joined[i] = !model_may_begin(m, i);
    c->place = (struct place_model){
        .n_layers = n, .layer_bytes = c->layer_bytes, .joined = c->joined, .shared_bytes = shared,
        .scratch_bytes = body_scratch,
        .embedding_bytes = model_range_bytes(m, &embedding) - shared,
        .head_bytes = model_range_bytes(m, &head) - shared,
    };
    c->place.tied_bytes = c->place.embedding_bytes + c->place.head_bytes + shared - model_range_bytes(m, &both);
    if (end_scratch > body_scratch) /* logits */
        c->place.head_bytes += end_scratch - body_scratch;
    c->look = true;
}

static int try_budget(struct control *c, const struct place_node *nodes, size_t n, uint32_t kv_tokens,
                      struct placement *out, struct error *e)
{
    uint64_t pages = (kv_tokens + (uint64_t)KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    uint64_t token = model_kv_bytes_per_token(c->model, 1, (enum kv_type)c->shape.kv_type);
    c->place.kv_bytes_per_layer = token * pages * KV_PAGE_TOKENS + model_state_bytes(c->model) * c->shape.sequences_max;
    return place(&c->place, nodes, n, out, e);
}

/* Without an order of the operator, KV for four contexts, else what fits: halves of that. */
static int place_nodes(struct control *c, const struct place_node *nodes, size_t n, struct placement *out,
                       struct error *e)
{
    if (c->shape.kv_tokens) {
        c->kv_tokens = c->shape.kv_tokens;
        return try_budget(c, nodes, n, c->kv_tokens, out, e);
    }
    uint32_t least = c->o.context ? c->context : c->context < CONTROL_KV_MIN ? c->context : CONTROL_KV_MIN;
    c->kv_tokens = c->context <= UINT32_MAX / 4 ? c->context * 4 : c->context;
    int r = try_budget(c, nodes, n, c->kv_tokens, out, e);
    while (r == ERR_MEMORY && c->kv_tokens / 2 >= least) {
        c->kv_tokens /= 2;
        r = try_budget(c, nodes, n, c->kv_tokens, out, e);
    }
    return r;
}

/* ---- waiting ---- */

static void wait_for(struct control *c, const char *text)
{
    c->state = CONTROL_WAITING;
    c->waits = 0;
    snprintf(c->text, sizeof(c->text), "%.199s", text);
}

static bool has_model_id(struct control *c)
{
    uint8_t id[MANIFEST_ID_BYTES];
    uint64_t done, total;
    struct error e;
    char text[200];
    int r = blobs_id(c->blobs, 0, id, &e);
    if (r == 0)
        return true;
    blobs_progress(c->blobs, &done, &total);
    if (r == ERR_UNAVAILABLE)
        snprintf(text, sizeof(text), "the model is being read for its checksums: %.0f%%",
                 total ? 100.0 * (double)done / (double)total : 0.0);
    else
        snprintf(text, sizeof(text), "%.199s", e.text);
    wait_for(c, text);
    c->waits = r == ERR_UNAVAILABLE ? 0 : r;
    return false;
}

/* Another try will fail in the same way. */
static bool lasting(int status)
{
    switch (status) {
    case ERR_MEMORY:
    case ERR_LIMIT:
    case ERR_CORRUPT:
    case ERR_INVALID:
    case ERR_UNSUPPORTED:
    case ERR_IO:
        return true;
    default:
        return false;
    }
}

/* Why nobody can be placed: nobody is here, or all who are rest after a failure. */
static void wait_for_nodes(struct control *c)
{
    char text[200];
    int waits = 0;
    snprintf(text, sizeof(text), "no node has joined yet");
    for (size_t i = 0; i < registry_count(c->registry); i++) {
        const struct member *m = registry_at(c->registry, i);
        waits = m->here && lasting(m->failed) ? m->failed : waits;
        if (m->trouble[0])
            snprintf(text, sizeof(text), m->here ? "node %s is tried again soon: %.110s" : "no node is here: %s %.110s",
                     m->name, m->trouble);
    }
    wait_for(c, text);
    c->waits = waits;
}

/* ---- placing ---- */

static void start_route(struct control *c, const struct placement *p)
{
    struct error e;
    struct route_shape shape = c->shape;
    shape.kv_tokens = c->kv_tokens;
    if (route_make(&c->route, c->next_number++, p, c->registry, &shape, &e) != 0) {
        log_error("coordinator", "no route could be made: %s", e.text);
        wait_for(c, e.text);
        return;
    }
    c->placed_once = true;
    c->state = CONTROL_LOADING;
    memset(c->times, 0, sizeof(c->times));
    for (uint32_t i = 0; i < c->route.n; i++) {
        const struct route_stage *s = &c->route.stages[i];
        s->member->stats.rtt_us = 0; /* it was to another node */
        log_info("coordinator", "placed: route=%llu stage=%u node=%s layers=%u-%u kv_tokens=%u",
                 (unsigned long long)c->route.number, i, s->member->name, s->shard.first, s->shard.last - 1,
                 c->kv_tokens);
    }
}

static void try_to_place(struct control *c, uint64_t now_ms)
{
    struct place_node nodes[PLACE_NODES_MAX];
    struct placement p;
    struct error e;
    size_t here = registry_here(c->registry);
    size_t n = registry_candidates(c->registry, now_ms, nodes, &c->look_ms);
    char text[200];
    c->look = false;
    if (n == 0) {
        wait_for_nodes(c);
    } else if (!c->placed_once && here < c->o.nodes_min) {
        snprintf(text, sizeof(text), "waiting for nodes: %zu of %u have joined", here, c->o.nodes_min);
        wait_for(c, text);
    } else if (place_nodes(c, nodes, n, &p, &e) != 0) {
        snprintf(text, sizeof(text), "%.199s", e.text);
        if (strcmp(c->text, text) != 0)
            log_warn("coordinator", "waiting: %s", text);
        wait_for(c, text);
        c->waits = e.status;
    } else {
        start_route(c, &p);
    }
}

/* ---- the route ---- */

static void end_route(struct control *c, const char *why)
{
    Shoal__EndRoute end = SHOAL__END_ROUTE__INIT;
    Shoal__Control message = SHOAL__CONTROL__INIT;
    end.route = c->route.number;
    message.body_case = SHOAL__CONTROL__BODY_END_ROUTE;
    message.end_route = &end;
    for (uint32_t i = 0; i < c->route.n; i++) {
        const struct member *m = c->route.stages[i].member;
        if (m->here && c->route.stages[i].asked && control_send(c, m, &message) != 0)
            log_debug("coordinator", "a node was not told of the route's end: node=%s", m->name);
    }
    log_warn("coordinator", "route ended: route=%llu %s", (unsigned long long)c->route.number, why);
    route_clear(&c->route);
    wait_for(c, why);
    c->look = true;
}

void cluster_lost(struct control *c, const struct member *m, const char *why)
{
    char text[300];
    c->look = true;
    if (route_stage_of(&c->route, m) < 0)
        return;
    snprintf(text, sizeof(text), "node %s %.150s", m->name, why);
    end_route(c, text);
}

/* The node cannot do its part: it rests, and others are tried. */
static void stage_failed(struct control *c, struct member *m, int status, const char *why)
{
    char text[300];
    log_warn("coordinator", "node failed: node=%s %s", m->name, why);
    registry_rest(m, status, why, clock_ms());
    snprintf(text, sizeof(text), "failed: %.150s", why);
    cluster_lost(c, m, text);
}

void cluster_joined(struct control *c, struct member *m, bool new_connection)
{
    c->look = true;
    if (!new_connection)
        return;
    if (m->shard.state == SHARD_LOADING)
        registry_shard_lost(m); /* the Load, or its answer, may have been lost with the connection */
    route_ask_again(&c->route, m);
}

void cluster_load_done(struct control *c, struct member *m, const Shoal__LoadDone *d)
{
    char why[200];
    struct shard_spec spec = m->shard.spec;
    if (!registry_shard_done(m, d))
        return;
    c->look = true;
    if (d->status == 0) {
        log_info("coordinator", "loaded: node=%s layers=%u-%u layer_ms=%.3f", m->name, spec.first, spec.last - 1,
                 m->facts.layer_ms);
        return;
    }
    snprintf(why, sizeof(why), "layers %u-%u could not be loaded: %.140s", spec.first, spec.last - 1,
             d->text[0] ? d->text : status_words(d->status));
    stage_failed(c, m, d->status, why);
}

void cluster_route_ready(struct control *c, struct member *m, const Shoal__RouteReady *r)
{
    char why[200];
    if (r->route != c->route.number || route_stage_of(&c->route, m) < 0)
        return;
    if (r->status == 0) {
        (void)route_ready(&c->route, r->route, m);
        return;
    }
    if (r->status == ERR_CONFLICT)
        registry_shard_lost(m); /* it does not hold what we thought */
    snprintf(why, sizeof(why), "the route was not taken: %.150s", r->text[0] ? r->text : status_words(r->status));
    stage_failed(c, m, r->status, why);
}

/* The gateway's word: treated as gone.  When it still beats it is told to join again. */
void cluster_stage_failed(struct control *c, uint64_t route, uint32_t stage, const char *why)
{
    if (route == 0 || route != c->route.number || stage >= c->route.n)
        return;
    struct member *m = c->route.stages[stage].member;
    stage_failed(c, m, ERR_GONE, why);
    registry_leave(m, why);
}

void cluster_times(struct control *c, uint64_t route, uint32_t stage, const struct control_stage_times *t)
{
    if (route != 0 && route == c->route.number && stage < c->route.n)
        c->times[stage] = *t;
}

static int send_load(struct control *c, uint32_t stage, uint64_t now_ms)
{
    struct route_stage *s = &c->route.stages[stage];
    uint8_t id[MANIFEST_ID_BYTES];
    Shoal__Load load = SHOAL__LOAD__INIT;
    Shoal__Control message = SHOAL__CONTROL__INIT;
    Shoal__Adapter adapters[ADAPTERS_MAX], *list[ADAPTERS_MAX];
    uint8_t ids[ADAPTERS_MAX][MANIFEST_ID_BYTES];
    if (blobs_id(c->blobs, 0, id, NULL) != 0)
        return ERR_UNAVAILABLE;
    for (size_t i = 0; i < c->o.n_adapters; i++) {
        if (blobs_id(c->blobs, 1 + i, ids[i], NULL) != 0)
            return ERR_UNAVAILABLE;
        shoal__adapter__init(&adapters[i]);
        adapters[i].id = (ProtobufCBinaryData){sizeof(ids[i]), ids[i]};
        adapters[i].name = c->specs[i].name;
        adapters[i].scale = c->specs[i].scale;
        adapters[i].path_hint = c->specs[i].path;
        list[i] = &adapters[i];
    }
    load.adapters = list;
    load.n_adapters = c->o.n_adapters;
    load.load = c->next_number++;
    load.model_id = (ProtobufCBinaryData){sizeof(id), id};
    load.model_name = c->name;
    load.file_bytes = file_set_bytes(model_files(c->model));
    load.header_bytes = file_set_head_bytes(model_files(c->model));
    load.layer_first = s->shard.first;
    load.layer_last = s->shard.last;
    load.embedding = s->shard.first == 0;
    load.head = s->shard.last == c->place.n_layers;
    load.kv_type = s->shard.kv_type;
    load.kv_tokens = s->shard.kv_tokens;
    load.sequences_max = s->shard.sequences_max;
    load.batch_rows_max = s->shard.batch_rows_max;
    load.path_hint = c->model_path;
    message.body_case = SHOAL__CONTROL__BODY_LOAD;
    message.load = &load;
    int r = control_send(c, s->member, &message);
    if (r == 0)
        registry_shard_loading(s->member, load.load, &s->shard, now_ms);
    return r;
}

static int send_set_route(struct control *c, uint32_t stage, uint64_t now_ms)
{
    const struct route_stage *s = &c->route.stages[stage];
    const struct route_stage *next = stage + 1 < c->route.n ? s + 1 : NULL;
    Shoal__SetRoute set = SHOAL__SET_ROUTE__INIT;
    Shoal__Control message = SHOAL__CONTROL__INIT;
    set.route = c->route.number;
    set.load = s->member->shard.load;
    set.stage = stage;
    set.stages = c->route.n;
    set.dtype = c->dtype;
    set.from_key = (ProtobufCBinaryData){KEY_BYTES, stage ? s[-1].member->key : c->keys.public_key};
    if (next) {
        set.next_endpoint = (char *)(uintptr_t)next->endpoint;
        set.next_key = (ProtobufCBinaryData){KEY_BYTES, next->member->key};
    }
    message.body_case = SHOAL__CONTROL__BODY_SET_ROUTE;
    message.set_route = &set;
    int r = control_send(c, s->member, &message);
    if (r == 0)
        route_asked(&c->route, stage, now_ms);
    return r;
}

static void stand(struct control *c, uint64_t now_ms)
{
    if (c->state != CONTROL_READY) {
        c->state = CONTROL_READY;
        c->text[0] = 0;
        c->ready_ms = now_ms;
        log_info("coordinator", "ready: route=%llu stages=%u", (unsigned long long)c->route.number, c->route.n);
    }
    for (uint32_t i = 0; now_ms - c->ready_ms >= CONTROL_FORGIVE_MS && i < c->route.n; i++) {
        if (c->route.stages[i].member->failures)
            registry_forgive(c->route.stages[i].member);
    }
}

/* Do what the route asks for until it waits for somebody. */
static void advance(struct control *c, uint64_t now_ms)
{
    int r = 0;
    while (r == 0 && c->route.number != 0) { /* every turn sends something, or is the last */
        uint32_t stage;
        switch (route_next(&c->route, now_ms, &stage)) {
        case ROUTE_LOAD:
            r = send_load(c, stage, now_ms);
            break;
        case ROUTE_SET:
            r = send_set_route(c, stage, now_ms);
            break;
        case ROUTE_LATE:
            registry_shard_lost(c->route.stages[stage].member);
            stage_failed(c, c->route.stages[stage].member, ERR_TIMEOUT, "it does not answer");
            break;
        case ROUTE_STANDS:
            stand(c, now_ms);
            return;
        case ROUTE_WAIT:
            c->state = CONTROL_LOADING;
            route_words(&c->route, c->text, sizeof(c->text));
            return;
        }
    }
}

/* Nobody's text is cut when the route ends now, as far as the last beats tell. */
static bool idle(const struct control *c)
{
    for (uint32_t i = 0; i < c->route.n; i++) {
        if (c->route.stages[i].member->stats.sequences > 0 || c->route.stages[i].member->stats.queue > 0)
            return false;
    }
    return true;
}

/* A route on fewer nodes than the operator wants, as others had failed, gives way to a wider one when it is idle. */
static void widen(struct control *c, uint64_t now_ms)
{
    struct place_node nodes[PLACE_NODES_MAX];
    struct placement p;
    uint64_t next_ms;
    if (c->state != CONTROL_READY || c->route.n >= c->o.nodes_min || now_ms - c->ready_ms < CONTROL_WIDEN_MS ||
        !idle(c))
        return;
    size_t n = registry_candidates(c->registry, now_ms, nodes, &next_ms);
    uint32_t kv_tokens = c->kv_tokens;
    if (n > c->route.n && place_nodes(c, nodes, n, &p, NULL) == 0 && p.n > c->route.n)
        end_route(c, "more nodes are here: the layers are spread anew");
    c->kv_tokens = kv_tokens;
}

void cluster_tick(struct control *c, uint64_t now_ms)
{
    widen(c, now_ms);
    if (c->route.number == 0 && has_model_id(c) && (c->look || now_ms >= c->look_ms))
        try_to_place(c, now_ms);
    advance(c, now_ms);
}
