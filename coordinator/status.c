/* status: the actor's state as JSON; docs/status.md describes every field. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/control_state.h"
#include "kernels/limits.h"

static const char *const state_names[] = {
    [CONTROL_WAITING] = "waiting", [CONTROL_LOADING] = "loading", [CONTROL_READY] = "ready"};

/* json_object_set_new() frees the value when it fails, which it does only without memory. */
static void put(json_t *object, const char *name, json_t *value)
{
    (void)json_object_set_new(object, name, value ? value : json_null());
}

static void put_text(json_t *object, const char *name, const char *text)
{
    put(object, name, json_string(text));
}

static void put_count(json_t *object, const char *name, uint64_t v)
{
    put(object, name, json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v));
}

static void put_real(json_t *object, const char *name, double v)
{
    put(object, name, json_real(v));
}

static json_t *model_json(struct control *c)
{
    const struct hparams *h = model_hparams(c->model);
    uint8_t id[MANIFEST_ID_BYTES];
    uint64_t done, total;
    json_t *o = json_object();
    put_text(o, "name", c->name);
    put_text(o, "architecture", h->arch->name);
    put_count(o, "layers", h->n_layers);
    put_count(o, "experts", h->n_experts);
    put_count(o, "vocabulary", h->n_vocab);
    put_count(o, "parameters", model_params_total(c->model));
    put_count(o, "parameters_active", model_params_active(c->model));
    put_count(o, "bytes", file_set_bytes(model_files(c->model)));
    put_count(o, "context", c->published.context);
    put_count(o, "kv_tokens", c->route.number ? c->kv_tokens : c->shape.kv_tokens);
    put_text(o, "kv_type", kv_type_name((enum kv_type)c->shape.kv_type));
    put_count(o, "sequences_max", c->shape.sequences_max);
    put_count(o, "batch_rows_max", c->shape.batch_rows_max);
    int r = blobs_id(c->blobs, 0, id, NULL);
    blobs_progress(c->blobs, &done, &total);
    const char *made = r == 0 ? "done" : r == ERR_UNAVAILABLE ? "making" : "failed";
    put_text(o, "checksums", c->o.trusted_local ? "none" : made);
    put_count(o, "checksums_bytes_done", r == 0 ? total : done);
    return o;
}

static json_t *stage_json(const struct control *c, uint32_t i)
{
    const struct route_stage *s = &c->route.stages[i];
    const struct control_stage_times *t = &c->times[i];
    json_t *o = json_object();
    put_text(o, "node", s->member->name);
    put_text(o, "fingerprint", s->member->fingerprint);
    put_text(o, "endpoint", s->endpoint);
    put_count(o, "layer_first", s->shard.first);
    put_count(o, "layer_last", s->shard.last);
    put_real(o, "compute_us", t->compute_us);
    put_real(o, "queue_us", t->queue_us);
    put_real(o, "link_us", t->link_us);
    put_real(o, "steps_per_second", t->steps_per_second);
    return o;
}

static json_t *route_json(const struct control *c)
{
    static const char *const rows[] = {[FRAME_F32] = "f32", [FRAME_F16] = "f16", [FRAME_BF16] = "bf16"};
    if (c->route.number == 0)
        return json_null();
    json_t *o = json_object(), *stages = json_array();
    put_count(o, "number", c->route.number);
    put_text(o, "rows", rows[c->dtype]);
    for (uint32_t i = 0; i < c->route.n; i++)
        (void)json_array_append_new(stages, stage_json(c, i));
    put(o, "stages", stages);
    return o;
}

static const char *member_state(const struct control *c, const struct member *m, uint64_t now_ms)
{
    if (!m->here)
        return "away";
    if (m->shard.state == SHARD_LOADING)
        return "loading";
    if (route_stage_of(&c->route, m) >= 0)
        return c->state == CONTROL_READY ? "serving" : "connecting";
    return m->rest_until_ms > now_ms ? "resting" : "idle";
}

static void put_stats(json_t *o, const struct control *c, const struct member *m)
{
    const struct node_stats *s = &m->stats;
    put_count(o, "sequences", s->sequences);
    put_count(o, "kv_pages_used", s->pages_used);
    put_count(o, "kv_pages_total", s->pages_total);
    put_count(o, "steps", s->steps);
    put_count(o, "rows", s->rows);
    put_real(o, "steps_per_second", s->steps_per_second);
    put_real(o, "step_ms", s->compute_ms);
    put_count(o, "queue", s->queue);
    int stage = route_stage_of(&c->route, m);
    bool next = stage >= 0 && (uint32_t)stage + 1 < c->route.n;
    put(o, "next_rtt_us", next ? json_real(s->rtt_us) : json_null());
    put_count(o, "bytes_sent", s->bytes_sent);
}

static json_t *load_json(const struct member_shard *s)
{
    if (s->state != SHARD_LOADING)
        return json_null();
    json_t *o = json_object();
    put_text(o, "phase", s->phase);
    put_count(o, "bytes_done", s->done);
    put_count(o, "bytes_total", s->total);
    return o;
}

static json_t *member_json(const struct control *c, const struct member *m, uint64_t now_ms)
{
    json_t *o = json_object();
    put_text(o, "name", m->name);
    put_text(o, "fingerprint", m->fingerprint);
    put_text(o, "state", member_state(c, m, now_ms));
    put_text(o, "trouble", m->trouble);
    if (!m->here)
        return o;
    put_text(o, "host", m->facts.host);
    put_count(o, "port", m->facts.port);
    put_text(o, "device", m->facts.device);
    put_text(o, "version", m->facts.version);
    put_count(o, "cores", m->facts.cores);
    put_count(o, "memory_bytes", m->facts.memory_bytes);
    put_count(o, "memory_available", m->stats.memory_available);
    put_count(o, "disk_free_bytes", m->facts.free_bytes);
    put_count(o, "resident_bytes", m->stats.resident_bytes);
    put_real(o, "read_bandwidth", m->facts.read_bandwidth);
    put_real(o, "layer_ms", m->facts.layer_ms);
    put_count(o, "joined_ms_ago", now_ms - m->joined_ms);
    put_count(o, "heard_ms_ago", now_ms - m->heard_ms);
    bool holds = m->shard.state != SHARD_NONE;
    put(o, "layer_first", holds ? json_integer(m->shard.spec.first) : json_null());
    put(o, "layer_last", holds ? json_integer(m->shard.spec.last) : json_null());
    put(o, "load", load_json(&m->shard));
    put_stats(o, c, m);
    return o;
}

char *status_json(struct control *c)
{
    uint64_t now_ms = clock_ms();
    struct zap_counts counts;
    json_t *o = json_object(), *members = json_array();
    zap_counts(c->zap, &counts);
    put_text(o, "version", SHOAL_VERSION);
    put_text(o, "state", state_names[c->state]);
    put_text(o, "text", c->text);
    put(o, "model", model_json(c));
    put(o, "route", route_json(c));
    for (size_t i = 0; i < registry_count(c->registry); i++)
        (void)json_array_append_new(members, member_json(c, registry_at(c->registry, i), now_ms));
    put(o, "members", members);
    put_count(o, "roster_serial", c->roster_serial);
    put_count(o, "invites", c->invites);
    put_count(o, "connections_accepted", counts.accepted - c->self_test.accepted);
    put_count(o, "connections_refused", counts.refused - c->self_test.refused);
    char *text = json_dumps(o, JSON_COMPACT), *copy = text ? mem_strdup(text) : NULL;
    free(text); /* jansson's, mem_free frees only ours */
    json_decref(o);
    return copy;
}
