/* ollama_pull: POST /api/pull: a thread pulls, the connection tells how far it is.
 *
 *     {"status":"pulling manifest"}
 *     {"status":"pulling org/repo:Q8_0","digest":"sha256:...","total":639446688,"completed":41943040} ...
 *     {"status":"verifying sha256 digest"} {"status":"writing manifest"} {"status":"success"}
 *
 * A client that goes ends its pull, which the next one goes on with.         */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/ollama.h"
#include "coordinator/pull/hub.h"
#include "coordinator/pull/pull.h"

/* A line is due when something came, but no more often than SLICE_MS, and SILENT_MS after the last. */
enum { SLICE_MS = 100, LOOK_MS = 20, SILENT_MS = 5000, DIGEST_BYTES = 32, STATUS_MAX = 511 };

struct puller {
    struct http_exchange *x;
    char *source;
    pthread_t thread;
    atomic_bool stop;
    pthread_mutex_t lock; /* of: */
    char status[STATUS_MAX + 1];
    uint64_t done, total;
    bool ended;
    int result;
    struct error error; /* of the end */
    /* the connection's own */
    bool opened;
    uint64_t said_done, said_ms;
};

/* ---- the thread that pulls ---- */

static void on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
    struct puller *p = arg;
    pthread_mutex_lock(&p->lock);
    snprintf(p->status, sizeof(p->status), "%s", what);
    p->done = done;
    p->total = total;
    pthread_mutex_unlock(&p->lock);
}

static bool on_stop(void *arg)
{
    const struct puller *p = arg;
    return atomic_load(&p->stop);
}

static void *run(void *arg)
{
    struct puller *p = arg;
    struct model_entry m;
    struct pull_report report;
    struct error e = { 0 };
    struct pull_options o = { .source = p->source, .progress = on_progress, .stop = on_stop, .arg = p };
    int r = pull_model(&m, &report, &o, &e);
    model_entry_close(&m);
    pthread_mutex_lock(&p->lock);
    p->result = r;
    p->error = e;
    p->ended = true;
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- the lines ---- */

static void put_status(struct buffer *out, const char *status)
{
    put_line(out, json_pack("{s:s}", "status", status));
}

/* Clients keep bars apart by digests: this one is of the name, all files of a model are one bar. */
static void put_progress(const struct puller *p, struct buffer *out)
{
    unsigned char hash[DIGEST_BYTES];
    char hex[2 * DIGEST_BYTES + 1];
    crypto_hash_sha256(hash, (const unsigned char *)p->source, strlen(p->source));
    sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
    char *digest = mem_printf("sha256:%s", hex);
    put_line(out, json_pack("{s:s, s:s, s:I, s:I}", "status", p->status, "digest", digest, "total",
                            (json_int_t)p->total, "completed", (json_int_t)p->done));
    mem_free(digest);
}

static void put_end(const struct puller *p, struct buffer *out)
{
    if (p->result != 0) {
        put_line(out, json_pack("{s:s}", "error", p->error.text));
        return;
    }
    put_status(out, "verifying sha256 digest"); /* both were done before the model got its name */
    put_status(out, "writing manifest");
    put_status(out, "success");
}

/* True when the pull has ended. */
static bool put_news(struct puller *p, struct buffer *out)
{
    uint64_t now = clock_ms();
    pthread_mutex_lock(&p->lock);
    bool ended = p->ended, moved = p->total > 0 && (p->done != p->said_done || ended);
    if (moved || now - p->said_ms >= SILENT_MS) {
        if (p->total > 0)
            put_progress(p, out);
        else
            put_status(out, "pulling manifest");
        p->said_done = p->done;
        p->said_ms = now;
    }
    if (ended)
        put_end(p, out);
    pthread_mutex_unlock(&p->lock);
    return ended;
}

static bool has_ended(struct puller *p)
{
    pthread_mutex_lock(&p->lock);
    bool ended = p->ended;
    pthread_mutex_unlock(&p->lock);
    return ended;
}

static enum http_produced produce(void *arg, struct buffer *out)
{
    struct puller *p = arg;
    if (!p->opened) {
        p->opened = true;
        p->said_ms = clock_ms();
        put_status(out, "pulling manifest");
        return HTTP_MORE;
    }
    for (uint64_t until = clock_ms() + SLICE_MS; clock_ms() < until && !has_ended(p) && !http_gone(p->x);)
        clock_sleep_ms(LOOK_MS);
    if (http_gone(p->x))
        return HTTP_BROKEN;
    return put_news(p, out) ? HTTP_END : HTTP_MORE;
}

/* ---- requests ---- */

static void puller_close(void *arg)
{
    struct puller *p = arg;
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->source);
    mem_free(p);
}

static void answer_whole(struct puller *p)
{
    while (!has_ended(p) && !http_gone(p->x))
        clock_sleep_ms(LOOK_MS);
    if (!has_ended(p))
        http_abandon(p->x);
    else if (p->result != 0)
        reply_error(p->x, &p->error);
    else
        reply_json(p->x, 200, json_pack("{s:s}", "status", "success"));
    puller_close(p);
}

static void pull(struct http_exchange *x, const char *source, bool stream)
{
    struct refusal r = { 0 };
    struct puller *p = mem_alloc(sizeof(*p));
    p->x = x;
    p->source = mem_strdup(source);
    pthread_mutex_init(&p->lock, NULL);
    if (pthread_create(&p->thread, NULL, run, p) != 0) {
        pthread_mutex_destroy(&p->lock);
        mem_free(p->source);
        mem_free(p);
        (void)refuse(&r, ERR_MEMORY, NULL, "no thread is left to pull with");
        reply_refusal(x, &r);
    } else if (stream) {
        http_stream(x, "application/x-ndjson", produce, p, puller_close);
    } else {
        answer_whole(p);
    }
}

/* What is here needs no hub: *source is NULL then. */
static int source_of(const char **source, const struct api *a, const json_t *body, struct refusal *r)
{
    struct model_entry m;
    struct hub_source parsed;
    uint32_t adapter;
    const char *name = ollama_asked(body);
    *source = NULL;
    if (name == NULL)
        return refuse(r, ERR_INVALID, "model", "model is required");
    if (hub_is_source(name)) {
        *source = name;
        return hub_source_parse(&parsed, name, &r->error);
    }
    bool here = ollama_stored(&m, name, NULL) == 0;
    model_entry_close(&m);
    return here || api_model_named(a, name, &adapter)
               ? 0
               : refuse(r, ERR_NOT_FOUND, "model", "model '%.200s' is not here, and only those of the Hugging "
                                                        "Face hub can be pulled: hf.co/ORG/REPO[:QUANT]", name);
}

/* As a pull that had nothing to do. */
static void reply_here(struct http_exchange *x, bool stream)
{
    static const char lines[] = "{\"status\":\"pulling manifest\"}\n{\"status\":\"success\"}\n";
    if (stream)
        http_reply(x, 200, "application/x-ndjson", lines, strlen(lines));
    else
        reply_json(x, 200, json_pack("{s:s}", "status", "success"));
}

void api_ollama_pull(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL;
    const char *source = NULL;
    int rc = json_body(&body, x, &r);
    const json_t *stream = json_object_get(body, "stream");
    if (rc == 0 && stream != NULL && !json_is_boolean(stream) && !json_is_null(stream))
        rc = refuse(&r, ERR_INVALID, "stream", "stream must be true or false");
    if (rc == 0)
        rc = source_of(&source, arg, body, &r);
    if (rc != 0)
        reply_refusal(x, &r);
    else if (source == NULL)
        reply_here(x, !json_is_false(stream));
    else
        pull(x, source, !json_is_false(stream));
    json_decref(body);
}
