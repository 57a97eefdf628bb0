/* responses_kept: a ring of texts, oldest first. One that was dropped leaves its place empty until that is the oldest.
 * What is kept is text, so that no JSON is shared between threads. */
#include "coordinator/api/responses_kept.h"

#include <pthread.h>
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/private.h"

struct kept {
    int64_t owner;
    char *id; /* NULL: the place is empty */
    char *text[RESPONSE_SIDES];
    size_t bytes;
};

struct responses_kept {
    size_t bytes_max;
    pthread_mutex_t lock; /* of all that follows */
    struct kept ring[RESPONSES_KEPT];
    size_t first, n; /* places in use, empty ones among them */
    size_t bytes;
};

struct responses_kept *responses_kept_create(size_t bytes_max)
{
    struct responses_kept *k = mem_alloc(sizeof(*k));
    k->bytes_max = bytes_max;
    pthread_mutex_init(&k->lock, NULL);
    return k;
}

static void forget(struct responses_kept *k, struct kept *e)
{
    k->bytes -= e->bytes;
    mem_free(e->id);
    for (size_t i = 0; i < RESPONSE_SIDES; i++)
        mem_free(e->text[i]);
    *e = (struct kept){ 0 };
}

static void forget_first(struct responses_kept *k)
{
    forget(k, &k->ring[k->first]);
    k->first = (k->first + 1) % RESPONSES_KEPT;
    k->n--;
}

void responses_kept_destroy(struct responses_kept **k_p)
{
    struct responses_kept *k = *k_p;
    if (k == NULL)
        return;
    while (k->n > 0)
        forget_first(k);
    pthread_mutex_destroy(&k->lock);
    mem_free(k);
    *k_p = NULL;
}

void responses_kept_add(struct responses_kept *k, int64_t owner, const char *id, const json_t *object,
                        const json_t *items)
{
    struct kept e = { .owner = owner, .id = mem_strdup(id), .text = { json_text(object), json_text(items) } };
    e.bytes = strlen(e.text[RESPONSE_OBJECT]) + strlen(e.text[RESPONSE_ITEMS]);
    pthread_mutex_lock(&k->lock);
    k->bytes += e.bytes;
    if (e.bytes > k->bytes_max / RESPONSES_SHARE) {
        forget(k, &e);
    } else {
        while (k->n > 0 && (k->n == RESPONSES_KEPT || k->bytes > k->bytes_max))
            forget_first(k);
        k->ring[(k->first + k->n++) % RESPONSES_KEPT] = e;
    }
    pthread_mutex_unlock(&k->lock);
}

/* The lock is held. */
static struct kept *find(struct responses_kept *k, int64_t owner, const char *id)
{
    for (size_t i = 0; i < k->n; i++) {
        struct kept *e = &k->ring[(k->first + i) % RESPONSES_KEPT];
        if (e->id != NULL && e->owner == owner && strcmp(e->id, id) == 0)
            return e;
    }
    return NULL;
}

json_t *responses_kept_get(struct responses_kept *k, int64_t owner, const char *id, enum response_side side)
{
    pthread_mutex_lock(&k->lock);
    const struct kept *e = find(k, owner, id);
    char *text = e == NULL ? NULL : mem_strdup(e->text[side]);
    pthread_mutex_unlock(&k->lock);
    json_t *j = text == NULL ? NULL : json_loads(text, 0, NULL);
    mem_free(text);
    return j;
}

bool responses_kept_drop(struct responses_kept *k, int64_t owner, const char *id)
{
    pthread_mutex_lock(&k->lock);
    struct kept *e = find(k, owner, id);
    bool found = e != NULL;
    if (found)
        forget(k, e);
    pthread_mutex_unlock(&k->lock);
    return found;
}
