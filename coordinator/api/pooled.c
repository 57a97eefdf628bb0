/* pooled: a text goes through the model like a prompt of which nothing is generated, and the rows that its pooling
 * needs come back as they enter the output head.
 *
 * A few texts are under way at once, so that one request does not fill the
 * engine's queue.  Sums are kept in double, one row arrives at a time.       */
#include "coordinator/api/pooled.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/keys.h"

enum { WAIT_MS = 200, AT_ONCE = 16 };

struct work {
    const struct pooled *ask;
    struct request *requests[AT_ONCE]; /* of texts [next - under way, next), each at its number modulo AT_ONCE */
    uint32_t next, n_embd;
    double *sum; /* [n_embd]: of the rows of a text */
};

enum pooling pooling_of(const struct api *a)
{
    const struct model *m = control_model(a->options.control);
    uint64_t type = POOLING_NONE;
    char *key = mem_printf("%s.pooling_type", model_hparams(m)->arch->name);
    bool known = gguf_get_u64(model_file(m), key, &type);
    mem_free(key);
    if (!known)
        return POOLING_NONE;
    return type < POOLING_COUNT ? (enum pooling)type : POOLING_COUNT;
}

uint64_t pooled_tokens(const struct pooled *p)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->n; i++)
        sum += p->texts[i].count;
    return sum;
}

int pooled_check(const struct token_list *text, uint32_t i, uint32_t context, const char *param, struct refusal *r)
{
    if (text->count == 0)
        return refuse(r, ERR_INVALID, param, "%s: text %u has no tokens", param, i);
    if (text->count <= context)
        return 0;
    r->code = "context_length_exceeded";
    return refuse(r, ERR_LIMIT, param, "This model's maximum context length is %u tokens; text %u of the %s has %zu.",
                  context, i, param, text->count);
}

static int submit_next(struct work *w, struct refusal *r)
{
    static const enum hidden_rows rows[] = {
        [POOLING_MEAN] = HIDDEN_ALL, [POOLING_FIRST] = HIDDEN_FIRST, [POOLING_LAST] = HIDDEN_LAST};
    const struct token_list *t = &w->ask->texts[w->next];
    struct request_options o = {
        .prompt = t->ids,
        .n_prompt = t->count,
        .adapter = w->ask->adapter,
        .hidden = rows[w->ask->pooling],
        .deadline_ms = clock_ms() + API_REQUEST_MS,
    };
    int rc = engine_submit(w->ask->api->options.engine, &w->requests[w->next % AT_ONCE], &o, &r->error);
    w->next += rc == 0;
    return rc;
}

static void add_row(struct work *w, const struct event *ev)
{
    for (uint32_t i = 0; i < w->n_embd; i++)
        w->sum[i] += (double)ev->values[i];
}

/* 0: its rows are summed. */
static int await(struct work *w, struct request *q, struct refusal *r)
{
    for (;;) {
        struct event *ev = NULL;
        if (http_gone(w->ask->x) || http_half_closed(w->ask->x))
            return refuse(r, ERR_CANCELLED, NULL, "the client has left");
        int rc = request_next(q, &ev, WAIT_MS);
        if (rc == ERR_TIMEOUT)
            continue;
        if (rc != 0)
            return refuse(r, rc, NULL, "the text could not be read: %s", status_words(rc));
        enum event_kind kind = ev->kind;
        if (kind == EVENT_HIDDEN)
            add_row(w, ev);
        else if (kind == EVENT_FAILED)
            rc = refuse(r, ev->error.status, NULL, "%s", ev->error.text);
        event_free(ev);
        if (rc != 0 || kind == EVENT_DONE)
            return rc;
    }
}

static int make_one(struct work *w, uint32_t i, struct refusal *r)
{
    struct request **q = &w->requests[i % AT_ONCE];
    int rc = 0;
    while (rc == 0 && w->next < w->ask->n && w->next < i + AT_ONCE)
        rc = submit_next(w, r);
    memset(w->sum, 0, w->n_embd * sizeof(*w->sum));
    if (rc == 0)
        rc = await(w, *q, r);
    if (rc == 0)
        rc = w->ask->take(w->ask->arg, i, w->sum, r);
    if (*q != NULL)
        request_release(q);
    return rc;
}

int pooled_make(const struct pooled *p, struct refusal *r)
{
    struct work w = { .ask = p, .n_embd = model_hparams(control_model(p->api->options.control))->n_embd };
    w.sum = mem_array(w.n_embd, sizeof(*w.sum));
    int rc = 0;
    for (uint32_t i = 0; i < p->n && rc == 0; i++)
        rc = make_one(&w, i, r);
    for (size_t i = 0; i < AT_ONCE; i++)
        if (w.requests[i] != NULL)
            request_release(&w.requests[i]);
    mem_free(w.sum);
    if (rc == 0 && http_held(p->x) != NULL)
        keys_count(p->api->keys, http_held(p->x), pooled_tokens(p), 0);
    return rc;
}
