/* session: slots with a stack of free ones, and two ordered lists of slots.
 * Invariants: a slot is on the free stack, in `waiting` or in `running`, and nowhere twice; pages_used and
 * n_places count the running sessions and the ends that are due. */
#include "coordinator/session.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

void sessions_init(struct sessions *t, uint32_t sessions_max)
{
    memset(t, 0, sizeof(*t));
    t->all = mem_array(sessions_max, sizeof(*t->all));
    t->waiting = mem_array(sessions_max, sizeof(*t->waiting));
    t->running = mem_array(sessions_max, sizeof(*t->running));
    t->free = mem_array(sessions_max, sizeof(*t->free));
    t->n_all = t->n_free = sessions_max;
    for (uint32_t i = 0; i < sessions_max; i++)
        t->free[i] = sessions_max - 1 - i;
}

void sessions_close(struct sessions *t)
{
    for (uint32_t i = 0; i < t->n_all; i++)
        mem_free(t->all[i].tokens);
    mem_free(t->all);
    mem_free(t->waiting);
    mem_free(t->running);
    mem_free(t->free);
    mem_free(t->ends);
    memset(t, 0, sizeof(*t));
}

struct session *session_add(struct sessions *t, const struct session_new *n)
{
    assert(n->n_prompt > 0);
    if (t->n_free == 0)
        return NULL;
    uint32_t slot = t->free[--t->n_free];
    struct session *s = &t->all[slot];
    *s = (struct session){
        .state = SESSION_WAITING, .slot = slot, .sequence = ++t->sequence_last, .epoch = 1,
        .n_tokens = n->n_prompt, .tokens_cap = n->n_prompt + 1, .n_prompt = n->n_prompt,
        .tokens_max = n->n_prompt + n->generate_max, .open_bytes = n->open_bytes, .every_row = n->every_row,
        .deadline_ms = n->deadline_ms, .owner = n->owner,
    };
    s->tokens = mem_array(s->tokens_cap, sizeof(*s->tokens));
    memcpy(s->tokens, n->prompt, n->n_prompt * sizeof(*s->tokens));
    t->waiting[t->n_waiting++] = slot;
    return s;
}

struct session *session_find(struct sessions *t, uint32_t slot, uint64_t sequence)
{
    if (slot >= t->n_all || t->all[slot].state == SESSION_FREE || t->all[slot].sequence != sequence)
        return NULL;
    return &t->all[slot];
}

static void list_remove(uint32_t *list, uint32_t *n, uint32_t slot)
{
    uint32_t i = 0;
    while (i < *n && list[i] != slot)
        i++;
    assert(i < *n);
    memmove(list + i, list + i + 1, (*n - i - 1) * sizeof(*list));
    (*n)--;
}

struct session *session_admit(struct sessions *t, uint32_t pages)
{
    assert(t->n_waiting > 0);
    struct session *s = &t->all[t->waiting[0]];
    list_remove(t->waiting, &t->n_waiting, s->slot);
    t->running[t->n_running++] = s->slot;
    s->state = SESSION_RUNNING;
    s->pages = pages;
    t->n_places++;
    t->pages_used += pages;
    return s;
}

bool session_full(const struct session *s)
{
    return s->n_tokens >= s->tokens_max;
}

void session_accept(struct session *s, int32_t token)
{
    assert(!session_full(s));
    if (s->n_tokens == s->tokens_cap) {
        s->tokens_cap += s->tokens_cap / 2 + 64;
        s->tokens = mem_resize(s->tokens, s->tokens_cap, sizeof(*s->tokens));
    }
    s->tokens[s->n_tokens++] = token;
}

bool session_ready(const struct session *s)
{
    return s->state == SESSION_RUNNING && s->sent < s->n_tokens && !s->held;
}

bool session_decoding(const struct session *s)
{
    return s->sent >= s->n_prompt && s->n_tokens - s->sent <= 1;
}

void session_end_due(struct sessions *t, uint64_t sequence, uint32_t pages)
{
    if (t->n_ends == t->ends_cap) {
        t->ends_cap += t->ends_cap / 2 + 64;
        t->ends = mem_resize(t->ends, t->ends_cap, sizeof(*t->ends));
    }
    t->ends[t->n_ends++] = (struct session_end){sequence, pages};
    t->n_places++;
    t->pages_used += pages;
}

uint32_t session_ends_take(struct sessions *t, struct session_end *out, uint32_t n)
{
    if (n > t->n_ends)
        n = t->n_ends;
    for (uint32_t i = 0; i < n; i++) {
        out[i] = t->ends[i];
        t->pages_used -= out[i].pages;
    }
    t->n_places -= n;
    t->n_ends -= n;
    if (n > 0)
        memmove(t->ends, t->ends + n, t->n_ends * sizeof(*t->ends));
    return n;
}

void session_remove(struct sessions *t, struct session *s)
{
    assert(s->state != SESSION_FREE);
    if (s->state == SESSION_WAITING) {
        list_remove(t->waiting, &t->n_waiting, s->slot);
    } else {
        list_remove(t->running, &t->n_running, s->slot);
        t->n_places--;
        t->pages_used -= s->pages;
        if (s->sent > 0)
            session_end_due(t, s->sequence, s->pages);
    }
    mem_free(s->tokens);
    s->tokens = NULL;
    s->state = SESSION_FREE;
    t->free[t->n_free++] = s->slot;
}

void sessions_forget_route(struct sessions *t)
{
    assert(t->n_running == 0);
    t->n_ends = 0;
    t->n_places = 0;
    t->pages_used = 0;
}
