/* registry: an array of pointers in the order of enrolment; a thousand members at most, so search is linear.
 *
 * Invariant: a member that is not here holds no shard.                        */
#include "coordinator/registry.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

struct registry {
    struct member *members[REGISTRY_MEMBERS_MAX];
    size_t n;
    uint32_t lease_ms;
    uint64_t next_session;
};

struct registry *registry_create(uint32_t lease_ms, uint64_t first_session)
{
    struct registry *r = mem_alloc(sizeof(*r));
    r->lease_ms = lease_ms;
    r->next_session = first_session ? first_session : 1;
    return r;
}

void registry_destroy(struct registry **registry_p)
{
    struct registry *r = *registry_p;
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        mem_free(r->members[i]);
    mem_free(r);
    *registry_p = NULL;
}

/* What others wrote, cut to size and made printable: terminals and JSON will show it. */
static void keep_text(char *out, size_t cap, const char *text)
{
    struct error printable = {0};
    error_set(&printable, ERR_INVALID, "%.*s", (int)cap - 1, text ? text : "");
    memcpy(out, printable.text, strlen(printable.text) + 1);
}

static double sane(double v)
{
    return isfinite(v) && v >= 0 ? v : 0;
}

/* ---- members ---- */

static bool name_taken(const struct registry *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->members[i]->name, name) == 0)
            return true;
    }
    return false;
}

void registry_free_name(const struct registry *r, const char *wanted, char out[static ROSTER_NAME_MAX])
{
    char base[ROSTER_NAME_MAX - 6]; /* room for "-1024" */
    keep_text(base, sizeof(base), wanted && wanted[0] ? wanted : "node");
    snprintf(out, ROSTER_NAME_MAX, "%s", base);
    for (size_t i = 2; name_taken(r, out); i++)
        snprintf(out, ROSTER_NAME_MAX, "%s-%zu", base, i);
}

int registry_add(struct registry *r, const uint8_t key[KEY_BYTES], const char *name, struct member **out,
                 struct error *e)
{
    *out = NULL;
    if (r->n == REGISTRY_MEMBERS_MAX)
        return error_set(e, ERR_LIMIT, "the cluster has %d members, which is the most", REGISTRY_MEMBERS_MAX);
    if (registry_find(r, key))
        return error_set(e, ERR_CONFLICT, "the key is a member already");
    struct member *m = mem_alloc(sizeof(*m));
    memcpy(m->key, key, KEY_BYTES);
    registry_free_name(r, name, m->name);
    keys_fingerprint(key, m->fingerprint);
    r->members[r->n++] = m;
    *out = m;
    return 0;
}

void registry_remove(struct registry *r, struct member *m)
{
    size_t i = 0;
    while (i < r->n && r->members[i] != m)
        i++;
    if (i == r->n)
        return;
    memmove(r->members + i, r->members + i + 1, (r->n - i - 1) * sizeof(r->members[0]));
    r->n--;
    mem_free(m);
}

struct member *registry_find(const struct registry *r, const uint8_t key[KEY_BYTES])
{
    for (size_t i = 0; i < r->n; i++) {
        if (memcmp(r->members[i]->key, key, KEY_BYTES) == 0)
            return r->members[i];
    }
    return NULL;
}

int registry_who(const struct registry *r, const char *who, struct member **out, struct error *e)
{
    uint8_t key[KEY_BYTES];
    *out = keys_parse(who, key) ? registry_find(r, key) : NULL;
    for (size_t i = 0; !*out && i < r->n; i++) {
        if (strcmp(r->members[i]->name, who) == 0)
            *out = r->members[i];
    }
    for (size_t i = 0, found = 0; (!*out || found) && i < r->n; i++) {
        if (strcmp(r->members[i]->fingerprint, who) != 0)
            continue;
        if (found++)
            return error_set(e, ERR_CONFLICT, "several members have the fingerprint %s; give the name", who);
        *out = r->members[i];
    }
    return *out ? 0 : error_set(e, ERR_NOT_FOUND, "no member has the name or the fingerprint '%s'", who);
}

size_t registry_count(const struct registry *r)
{
    return r->n;
}

struct member *registry_at(const struct registry *r, size_t i)
{
    return i < r->n ? r->members[i] : NULL;
}

size_t registry_here(const struct registry *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += r->members[i]->here;
    return n;
}

/* ---- sessions ---- */

static void take_facts(struct node_facts *to, const Shoal__Facts *f, const struct link_peer *peer)
{
    memset(to, 0, sizeof(*to));
    keep_text(to->host, sizeof(to->host), f->data_host && f->data_host[0] ? f->data_host : peer->address);
    to->port = (uint16_t)f->data_port;
    to->cores = f->cores;
    to->memory_bytes = f->memory_bytes;
    to->free_bytes = f->free_bytes;
    to->read_bandwidth = sane(f->read_bandwidth);
    to->layer_ms = sane(f->layer_ms);
    keep_text(to->device, sizeof(to->device), f->device);
    keep_text(to->version, sizeof(to->version), f->version);
}

int registry_join(struct registry *r, struct member *m, const Shoal__Join *join, const struct link_peer *peer,
                  uint64_t now_ms, enum join_kind *kind, struct link_peer *before, struct error *e)
{
    if (!m->here && registry_here(r) >= REGISTRY_HERE_MAX)
        return error_set(e, ERR_LIMIT, "%d nodes are here, which is the most", REGISTRY_HERE_MAX);
    *before = m->peer;
    *kind = !m->here ? JOIN_NEW : m->boot == join->boot ? JOIN_AGAIN : JOIN_RESTART;
    if (*kind == JOIN_RESTART)
        registry_leave(m, "");
    if (*kind != JOIN_AGAIN) {
        if (m->boot != join->boot) { /* a new process: what failed before it is no guide */
            registry_forgive(m);
            m->rest_until_ms = 0;
        }
        m->session = r->next_session++;
        m->joined_ms = now_ms;
        memset(&m->stats, 0, sizeof(m->stats));
        if (m->rest_until_ms <= now_ms)
            m->trouble[0] = 0;
    }
    m->here = true;
    m->boot = join->boot;
    m->peer = *peer;
    m->heard_ms = now_ms;
    take_facts(&m->facts, join->facts, peer);
    return 0;
}

static bool same_connection(const struct link_peer *a, const struct link_peer *b)
{
    return a->route_id_len == b->route_id_len && memcmp(a->route_id, b->route_id, a->route_id_len) == 0;
}

static void take_shard_stats(struct node_stats *to, const Shoal__ShardStats *s, uint64_t passed_ms)
{
    if (passed_ms > 0 && s->steps >= to->steps && s->route == to->route) {
        double rate = (double)(s->steps - to->steps) * 1000 / (double)passed_ms;
        to->steps_per_second = to->steps_per_second * 0.5 + rate * 0.5;
    } else {
        to->steps_per_second = 0;
    }
    to->route = s->route;
    to->steps = s->steps;
    to->rows = s->rows;
    to->resident_bytes = s->resident_bytes;
    to->sequences = s->sequences;
    to->pages_used = s->pages_used;
    to->pages_total = s->pages_total;
    to->compute_ms = sane(s->compute_ms);
}

bool registry_beat(struct member *m, const Shoal__Beat *beat, const struct link_peer *peer, uint64_t now_ms)
{
    if (!m->here || !same_connection(&m->peer, peer))
        return false;
    if (beat->n_shards > 0)
        take_shard_stats(&m->stats, beat->shards[0], now_ms - m->beat_ms);
    else
        m->stats.resident_bytes = m->stats.sequences = m->stats.pages_used = m->stats.pages_total = 0;
    m->stats.memory_available = beat->memory_available;
    m->stats.queue = beat->queue;
    if (sane(beat->layer_ms) > 0)
        m->facts.layer_ms = beat->layer_ms;
    m->heard_ms = m->beat_ms = now_ms;
    return true;
}

void registry_link_report(struct member *m, const Shoal__LinkReport *report)
{
    m->stats.rtt_us = sane(report->rtt_us);
    m->stats.bytes_sent = report->bytes_sent;
}

void registry_heard(struct member *m, uint64_t now_ms)
{
    m->heard_ms = now_ms;
}

void registry_leave(struct member *m, const char *why)
{
    m->here = false;
    registry_shard_lost(m);
    keep_text(m->trouble, sizeof(m->trouble), why);
}

struct member *registry_lapsed(const struct registry *r, uint64_t now_ms)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->members[i]->here && now_ms - r->members[i]->heard_ms > r->lease_ms)
            return r->members[i];
    }
    return NULL;
}

void registry_rest(struct member *m, int status, const char *why, uint64_t now_ms)
{
    uint64_t rest = REGISTRY_REST_MAX_MS;
    if (m->failures < 5)
        rest = (uint64_t)REGISTRY_REST_MS << m->failures;
    m->failures++;
    m->failed = status;
    m->rest_until_ms = now_ms + rest;
    keep_text(m->trouble, sizeof(m->trouble), why);
}

void registry_forgive(struct member *m)
{
    m->failures = 0;
    m->trouble[0] = 0;
}

/* ---- shards ---- */

void registry_shard_loading(struct member *m, uint64_t load, const struct shard_spec *spec, uint64_t now_ms)
{
    m->shard = (struct member_shard){.state = SHARD_LOADING, .load = load, .spec = *spec, .heard_ms = now_ms};
}

bool registry_shard_progress(struct member *m, const Shoal__LoadProgress *p, uint64_t now_ms)
{
    if (m->shard.state != SHARD_LOADING || m->shard.load != p->load)
        return false;
    m->shard.heard_ms = now_ms;
    keep_text(m->shard.phase, sizeof(m->shard.phase), p->phase);
    m->shard.done = p->bytes_done;
    m->shard.total = p->bytes_total;
    return true;
}

bool registry_shard_done(struct member *m, const Shoal__LoadDone *d)
{
    if (m->shard.state != SHARD_LOADING || m->shard.load != d->load)
        return false;
    if (d->status != 0) {
        registry_shard_lost(m);
        return true;
    }
    m->shard.state = SHARD_LOADED;
    m->stats.resident_bytes = d->resident_bytes;
    if (sane(d->layer_ms) > 0)
        m->facts.layer_ms = d->layer_ms;
    return true;
}

void registry_shard_lost(struct member *m)
{
    memset(&m->shard, 0, sizeof(m->shard));
}

size_t registry_candidates(const struct registry *r, uint64_t now_ms, struct place_node out[static PLACE_NODES_MAX],
                           uint64_t *next_ms)
{
    size_t n = 0;
    *next_ms = UINT64_MAX;
    for (size_t i = 0; i < r->n && n < PLACE_NODES_MAX; i++) {
        const struct member *m = r->members[i];
        if (!m->here)
            continue;
        if (m->rest_until_ms > now_ms) {
            *next_ms = m->rest_until_ms < *next_ms ? m->rest_until_ms : *next_ms;
            continue;
        }
        out[n++] = (struct place_node){.node = (uint32_t)i, .memory_bytes = m->facts.memory_bytes,
                                       .read_bandwidth = m->facts.read_bandwidth};
    }
    return n;
}
