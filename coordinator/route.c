/* route: a walk over the stages at every question; there are at most PLACE_STAGES_MAX. */
#include "coordinator/route.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/progress.h"

/* A name or an address and nothing that means more in an endpoint ("host;source", "*"). */
static bool host_ok(const char *host)
{
    for (const char *p = host; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr(".-_:%", *p))
            return false;
    }
    return host[0] != 0;
}

int route_endpoint(const struct node_facts *facts, char out[static 300], struct error *e)
{
    static const char mapped[] = "::ffff:";
    const char *host = facts->host;
    if (strncmp(host, mapped, sizeof(mapped) - 1) == 0 && strchr(host, '.'))
        host += sizeof(mapped) - 1;
    if (!host_ok(host) || facts->port == 0)
        return error_set(e, ERR_INVALID, "its address '%s' port %u cannot be dialled", host, facts->port);
    snprintf(out, 300, strchr(host, ':') ? "tcp://[%s]:%u" : "tcp://%s:%u", host, facts->port);
    return 0;
}

int route_make(struct route *out, uint64_t number, const struct placement *p, const struct registry *r,
               const struct route_shape *shape, struct error *e)
{
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < p->n; i++) {
        const struct place_shard *s = &p->shards[i];
        struct route_stage *stage = &out->stages[i];
        stage->member = registry_at(r, s->node);
        if (!stage->member)
            return error_set(e, ERR_INTERNAL, "the placement names a node that is not there");
        stage->shard = (struct shard_spec){.first = s->layer_first, .last = s->layer_last, .kv_type = shape->kv_type,
                                           .kv_tokens = shape->kv_tokens, .sequences_max = shape->sequences_max,
                                           .batch_rows_max = shape->batch_rows_max};
        if (route_endpoint(&stage->member->facts, stage->endpoint, e) != 0)
            return error_context(e, "node %s", stage->member->name);
    }
    out->n = (uint32_t)p->n;
    out->number = number;
    return 0;
}

static bool has_shard(const struct route_stage *s, enum shard_state at_least)
{
    const struct member_shard *held = &s->member->shard;
    return held->state >= at_least && memcmp(&held->spec, &s->shard, sizeof(s->shard)) == 0;
}

static enum route_action next_load(const struct route *r, uint64_t now_ms, uint32_t *stage, bool *all)
{
    *all = true;
    for (uint32_t i = 0; i < r->n; i++) {
        const struct route_stage *s = &r->stages[i];
        *stage = i;
        if (!has_shard(s, SHARD_LOADING))
            return ROUTE_LOAD;
        if (has_shard(s, SHARD_LOADED))
            continue;
        *all = false;
        if (now_ms - s->member->shard.heard_ms > ROUTE_LOAD_SILENT_MS)
            return ROUTE_LATE;
    }
    return ROUTE_WAIT;
}

enum route_action route_next(const struct route *r, uint64_t now_ms, uint32_t *stage)
{
    bool all;
    *stage = 0;
    if (r->number == 0)
        return ROUTE_WAIT;
    enum route_action load = next_load(r, now_ms, stage, &all);
    if (load != ROUTE_WAIT || !all)
        return load;
    bool ready = true;
    for (uint32_t i = r->n; i-- > 0;) { /* the last first, so that each finds its next one set */
        const struct route_stage *s = &r->stages[i];
        *stage = i;
        if (!s->asked)
            return ROUTE_SET;
        if (!s->ready && now_ms - s->asked_ms > ROUTE_SET_MS)
            return ROUTE_LATE;
        ready = ready && s->ready;
    }
    return ready ? ROUTE_STANDS : ROUTE_WAIT;
}

void route_asked(struct route *r, uint32_t stage, uint64_t now_ms)
{
    r->stages[stage].asked = true;
    r->stages[stage].asked_ms = now_ms;
}

int route_stage_of(const struct route *r, const struct member *m)
{
    for (uint32_t i = 0; r->number != 0 && i < r->n; i++) {
        if (r->stages[i].member == m)
            return (int)i;
    }
    return -1;
}

bool route_ready(struct route *r, uint64_t number, const struct member *m)
{
    int i = number == r->number ? route_stage_of(r, m) : -1;
    if (i < 0 || !r->stages[i].asked)
        return false;
    r->stages[i].ready = true;
    return true;
}

void route_ask_again(struct route *r, const struct member *m)
{
    int i = route_stage_of(r, m);
    if (i >= 0 && !r->stages[i].ready)
        r->stages[i].asked = false;
}

void route_clear(struct route *r)
{
    memset(r, 0, sizeof(*r));
}

void route_words(const struct route *r, char *text, size_t cap)
{
    char done_text[32], total_text[32];
    uint64_t done = 0, total = 0;
    uint32_t loaded = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        loaded += has_shard(&r->stages[i], SHARD_LOADED);
        done += r->stages[i].member->shard.done;
        total += r->stages[i].member->shard.total;
    }
    if (loaded == r->n)
        snprintf(text, cap, "connecting %u stages", r->n);
    else if (total == 0)
        snprintf(text, cap, "loading: %u of %u stages", loaded, r->n);
    else
        snprintf(text, cap, "loading: %u of %u stages, %s of %s", loaded, r->n, progress_bytes(done, done_text),
                 progress_bytes(total, total_text));
}

void route_publish(const struct route *r, struct control_route *out)
{
    out->route = r->number;
    out->n_stages = r->n;
    for (uint32_t i = 0; i < r->n; i++) {
        const struct route_stage *s = &r->stages[i];
        struct control_stage *to = &out->stages[i];
        memset(to, 0, sizeof(*to));
        memcpy(to->key, s->member->key, KEY_BYTES);
        snprintf(to->endpoint, sizeof(to->endpoint), "%s", s->endpoint);
        snprintf(to->name, sizeof(to->name), "%s", s->member->name);
        to->layer_first = s->shard.first;
        to->layer_last = s->shard.last;
    }
}
