/* logits: POST /shoal/logits: {"tokens": [ids], "model": id} -> raw little-endian float32 [n_tokens, n_vocab].
 *
 * The rows come through the nodes as an answer's would, so that a split model
 * can be compared with a whole one.  They are sent as they arrive: an answer of
 * a large vocabulary never lies in memory whole.                             */
#include <endian.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/keys.h"
#include "coordinator/api/request.h"
#include "coordinator/api/tokens.h"

enum { WAIT_MS = 200 };

struct logits {
    const struct api *api;
    struct http_exchange *x;
    struct request *request;
    struct event *first; /* awaited before the answer began */
    uint32_t rows, next;
};

/* What goes through the model is on the bill of the request's key, which is held until the answer's end is made. */
static void count_usage(const struct logits *l)
{
    if (l->request != NULL && http_held(l->x) != NULL)
        keys_count(l->api->keys, http_held(l->x), l->rows, 0);
}

static void logits_close(void *arg)
{
    struct logits *l = arg;
    count_usage(l);
    if (l->first != NULL)
        event_free(l->first);
    if (l->request != NULL)
        request_release(&l->request);
    mem_free(l);
}

static void put_row(struct buffer *out, const struct event *ev)
{
    for (uint32_t i = 0; i < ev->n_values; i++) {
        uint32_t bits;
        memcpy(&bits, &ev->values[i], sizeof(bits));
        bits = htole32(bits);
        buffer_add(out, &bits, sizeof(bits));
    }
}

/* Rows out of order would be a wrong answer that looks right: the connection is cut instead. */
static enum http_produced take(struct logits *l, const struct event *ev, struct buffer *out)
{
    if (ev->kind == EVENT_DONE)
        return l->next == l->rows ? HTTP_END : HTTP_BROKEN;
    if (ev->kind != EVENT_LOGITS || ev->row != l->next || l->next == l->rows)
        return HTTP_BROKEN;
    l->next++;
    put_row(out, ev);
    return HTTP_MORE;
}

static enum http_produced produce(void *arg, struct buffer *out)
{
    struct logits *l = arg;
    struct event *ev = l->first;
    l->first = NULL;
    int rc = 0;
    while (ev == NULL && rc == 0) {
        if (http_gone(l->x))
            return HTTP_BROKEN;
        rc = request_next(l->request, &ev, WAIT_MS);
        rc = rc == ERR_TIMEOUT ? 0 : rc;
    }
    if (rc != 0)
        return HTTP_BROKEN;
    enum http_produced p = take(l, ev, out);
    event_free(ev);
    if (p == HTTP_END)
        count_usage(l);
    return p;
}

static int await_first(struct logits *l, struct error *e)
{
    int rc = ERR_TIMEOUT;
    while (rc == ERR_TIMEOUT) {
        if (http_gone(l->x))
            return error_set(e, ERR_CANCELLED, "the client has left");
        rc = request_next(l->request, &l->first, WAIT_MS);
    }
    if (rc == 0 && l->first->kind == EVENT_FAILED)
        return error_set(e, l->first->error.status, "%s", l->first->error.text);
    return rc == 0 ? 0 : error_set(e, rc, "the logits did not come: %s", status_words(rc));
}

static int submit(struct logits *l, const json_t *body, struct refusal *r)
{
    struct token_list tokens = { 0 };
    struct control_route route;
    uint32_t adapter;
    int rc = api_find_model(l->api, body, &adapter, r);
    if (rc == 0)
        rc = api_may_ask(l->api, l->x, adapter, r);
    if (rc == 0)
        rc = read_token_ids(json_object_get(body, "tokens"), l->api->n_vocab, "tokens", &tokens, r);
    if (rc == 0 && tokens.count == 0)
        rc = refuse(r, ERR_INVALID, "tokens", "tokens must be a list of at least one token id");
    if (rc == 0)
        rc = api_ready(l->api, &route, r);
    if (rc == 0 && tokens.count > api_context(&route)) {
        r->code = "context_length_exceeded";
        rc = refuse(r, ERR_LIMIT, "tokens", "This model's maximum context length is %u tokens; %zu were given.",
                    api_context(&route), tokens.count);
    }
    if (rc == 0) {
        struct request_options o = {
            .prompt = tokens.ids,
            .n_prompt = tokens.count,
            .adapter = adapter,
            .logits = true,
            .deadline_ms = clock_ms() + API_REQUEST_MS,
        };
        l->rows = (uint32_t)tokens.count;
        rc = engine_submit(l->api->options.engine, &l->request, &o, &r->error);
    }
    token_list_free(&tokens);
    return rc;
}

void api_logits(void *arg, struct http_exchange *x)
{
    struct logits *l = mem_alloc(sizeof(*l));
    struct refusal r = { 0 };
    json_t *body = NULL;
    l->api = arg;
    l->x = x;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = submit(l, body, &r);
    if (rc == 0)
        rc = await_first(l, &r.error);
    json_decref(body);
    if (rc == 0) {
        http_stream(x, "application/octet-stream", produce, l, logits_close);
        return;
    }
    reply_refusal(x, &r);
    logits_close(l);
}
