/* api: who may use the endpoints, and the life of the server. */
#include "coordinator/api/api.h"

#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "coordinator/api/grammars.h"
#include "coordinator/api/keys.h"
#include "coordinator/api/meters.h"
#include "coordinator/api/reasoning.h"
#include "coordinator/api/private.h"
#include "coordinator/api/responses_kept.h"
#include "coordinator/api/routes.h"

enum { CONNECTIONS_DEFAULT = 256, REQUEST_ID_MAX = 64 };

/* Time depends on what was given, not on how much of it is right. */
static bool same_secret(const char *given, const char *secret)
{
    size_t n = strlen(secret);
    unsigned different = strlen(given) != n || n == 0;
    for (size_t i = 0; given[i] != '\0' && n > 0; i++)
        different |= (unsigned char)given[i] ^ (unsigned char)secret[i % n];
    return different == 0;
}

/* "Bearer KEY" or x-api-key; "" when neither is there. */
static const char *given_key(const struct http_exchange *x)
{
    const char *bearer = http_request_header(x, "Authorization");
    if (bearer != NULL && strncasecmp(bearer, "Bearer ", 7) == 0)
        return bearer + 7;
    const char *key = http_request_header(x, "x-api-key");
    return key != NULL ? key : "";
}

/* A key made with `shoal keys`. Only what makes the model work counts against its limits. */
static int use_key(const struct api *a, struct http_exchange *x, const char *given, unsigned flags, struct refusal *r)
{
    struct key *key = NULL;
    bool work = (flags & HTTP_BODY) != 0;
    int rc = keys_take(a->keys, given, work ? &key : NULL, &r->retry_s, &r->error);
    if (rc == 0 && work)
        http_hold(x, key);
    return rc;
}

static int may_use(const struct api *a, struct http_exchange *x, unsigned flags, struct refusal *r)
{
    bool for_users = (flags & FOR_USERS) != 0, keys = a->keys != NULL && keys_locked(a->keys);
    bool manages = (flags & MANAGES) != 0;
    bool open = for_users && a->api_key == NULL && !keys && !(manages && a->options.insecure_no_key);
    if ((flags & (FOR_USERS | FOR_OPERATOR)) == 0 || open)
        return 0;
    const char *given = given_key(x);
    if (a->admin_token != NULL && same_secret(given, a->admin_token))
        return 0;
    if (for_users && a->api_key != NULL && same_secret(given, a->api_key))
        return 0;
    return for_users && keys && !manages ? use_key(a, x, given, flags, r) : ERR_DENIED;
}

int64_t api_asker(const struct api *a, const struct http_exchange *x)
{
    const struct key *key = http_held(x);
    if (key != NULL)
        return keys_id(key);
    return a->keys == NULL ? 0 : keys_whose(a->keys, given_key(x));
}

static void release(void *arg, void *held)
{
    keys_release(((struct api *)arg)->keys, held);
}

/* The client's own id when it is harmless, else a new one; Anthropic's clients look for it under another name. */
static void put_request_id(struct http_exchange *x, const struct http_route *route)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    const char *given = http_request_header(x, "x-request-id");
    size_t n = given == NULL ? 0 : strlen(given);
    bool fine = n > 0 && n <= REQUEST_ID_MAX && strspn(given, allowed) == n;
    char *id = fine ? mem_strdup(given) : random_id("req-");
    http_reply_header(x, "x-request-id", id);
    if (((const struct api_route *)route->row)->errors == ERRORS_ANTHROPIC)
        http_reply_header(x, "request-id", id);
    mem_free(id);
}

static bool gate(void *arg, struct http_exchange *x, const struct http_route *route)
{
    put_request_id(x, route);
    struct refusal r = { 0 };
    int rc = may_use(arg, x, route->flags, &r);
    if (rc == 0)
        return true;
    if (rc != ERR_BUSY) {
        r = (struct refusal){ .http = 401, .code = "invalid_api_key" };
        (void)refuse(&r, ERR_DENIED, NULL, "Incorrect or missing API key: send it as \"Authorization: Bearer KEY\".");
        http_reply_header(x, "WWW-Authenticate", "Bearer");
    }
    reply_refusal(x, &r);
    return false;
}

static void fail(void *arg, struct http_exchange *x, int status, const char *text)
{
    (void)arg;
    struct refusal r = { .http = status };
    (void)refuse(&r, ERR_INVALID, NULL, "%s", text);
    reply_refusal(x, &r);
}

static void done(void *arg, const struct http_route *route, int status, uint64_t took_us)
{
    struct api *a = arg;
    atomic_ullong *counter = status == 0     ? &a->vanished
                             : status >= 500 ? &a->answered_5xx
                             : status >= 400 ? &a->answered_4xx
                                             : &a->answered_2xx;
    atomic_fetch_add(counter, 1);
    log_debug("api", "answered method=%s path=%s status=%d ms=%llu", route == NULL ? "-" : route->method,
              route == NULL ? "-" : route->path, status, (unsigned long long)(took_us / 1000));
}

/* The same model, version and shape give the same fingerprint. */
static void make_fingerprint(struct api *a)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    char *text = mem_printf("%s %s %llu", SHOAL_VERSION, a->model_name,
                            (unsigned long long)file_set_bytes(model_files(control_model(a->options.control))));
    for (const char *p = text; *p != '\0'; p++)
        hash = (hash ^ (unsigned char)*p) * 0x100000001b3ull;
    snprintf(a->fingerprint, sizeof(a->fingerprint), "fp_%010llx", (unsigned long long)(hash >> 24));
    mem_free(text);
}

static void find_end_tokens(struct api *a)
{
    uint32_t n = tokenizer_count(a->options.tokenizer);
    a->end_tokens = mem_array(n + 1, sizeof(*a->end_tokens));
    for (uint32_t i = 0; i < n; i++)
        if (tokenizer_is_end(a->options.tokenizer, (int32_t)i))
            a->end_tokens[a->n_end_tokens++] = (int32_t)i;
}

static void find_marks(struct api *a)
{
    const struct tokenizer *t = a->options.tokenizer;
    struct buffer text;
    buffer_init(&text, TOKENIZER_TOKEN_MAX);
    uint32_t n = tokenizer_count(t) > a->n_vocab ? tokenizer_count(t) : a->n_vocab;
    a->marks = mem_array((size_t)n + 1, sizeof(*a->marks));
    if (a->options.chat != NULL)
        a->formats = chat_formats(a->options.chat);
    for (uint32_t i = 0; i < tokenizer_count(t); i++) {
        if (!tokenizer_is_control(t, (int32_t)i) || tokenizer_is_end(t, (int32_t)i))
            continue;
        buffer_clear(&text);
        tokenizer_decode(t, (int32_t)i, true, &text);
        a->marks[i] = text.len > 1 && reply_has_mark(&a->formats, buffer_text(&text));
    }
    buffer_close(&text);
}

static void make_ids(struct api *a)
{
    uint32_t n = a->options.n_adapters;
    a->ids = mem_array(1 + (size_t)n, sizeof(*a->ids));
    a->ids[0] = mem_strdup(a->model_name);
    for (uint32_t i = 0; i < n; i++)
        a->ids[1 + i] = mem_printf("%s:%s", a->model_name, a->options.adapters[i]);
    a->options.adapters = NULL;
}

static void api_free(struct api *a)
{
    for (uint32_t i = 0; i <= a->options.n_adapters; i++)
        mem_free(a->ids[i]);
    mem_free(a->ids);
    mem_free(a->model_name);
    mem_free(a->api_key);
    mem_free(a->admin_token);
    mem_free(a->chat_error);
    mem_free(a->end_tokens);
    mem_free(a->marks);
    mem_free(a->routes);
    grammars_destroy(&a->grammars);
    meters_destroy(&a->meters);
    responses_kept_destroy(&a->responses);
    keys_close(&a->keys);
    mem_free(a);
}

/* Listens. Beyond this machine only with a key, or when told to. */
static int listen_http(struct api *a, const struct api_options *o, struct error *e)
{
    bool locked = o->api_key != NULL || (a->keys != NULL && keys_locked(a->keys));
    size_t n_routes;
    a->routes = api_http_routes(&n_routes);
    struct http_options http = {
        .host = o->host,
        .port = o->port,
        .connections_max = o->connections_max == 0 ? CONNECTIONS_DEFAULT : o->connections_max,
        .routes = a->routes,
        .n_routes = n_routes,
        .any_host = locked,
        .tls_cert = o->tls_cert,
        .tls_key = o->tls_key,
        .cors = o->cors,
        .arg = a,
        .gate = gate,
        .release = release,
        .fail = fail,
        .done = done,
    };
    int rc = http_server_start(&a->server, &http, e);
    if (rc != 0 || locked || http_server_is_local(a->server))
        return rc;
    if (!o->insecure_no_key) {
        http_server_stop(&a->server);
        return error_set(e, ERR_CONFIG, "%s can be reached from other machines and there is no API key: make one with "
                         "shoal keys create (while it listens on 127.0.0.1), or give --api-key or --insecure-no-key",
                         o->host);
    }
    log_warn("api", "open without a key to all who can reach %s:%u", o->host, http_server_port(a->server));
    return 0;
}

int api_start(struct api **out, const struct api_options *o, struct error *e)
{
    struct api *a = mem_alloc(sizeof(*a));
    a->options = *o;
    a->model_name = mem_strdup(o->model_name);
    a->api_key = o->api_key == NULL ? NULL : mem_strdup(o->api_key);
    a->admin_token = o->admin_token == NULL ? NULL : mem_strdup(o->admin_token);
    a->chat_error = o->chat_error == NULL ? NULL : mem_strdup(o->chat_error);
    a->options.ping_ms = o->ping_ms == 0 ? API_PING_MS : o->ping_ms;
    a->started = clock_unix();
    a->n_vocab = model_hparams(control_model(o->control))->n_vocab;
    make_ids(a);
    make_fingerprint(a);
    find_end_tokens(a);
    find_marks(a);
    reasoning_marks(a);
    a->grammars = grammars_create(o->tokenizer, a->n_vocab, a->marks);
    a->meters = meters_create();
    a->responses = responses_kept_create(RESPONSES_BYTES_MAX);
    int rc = o->state_dir == NULL ? 0 : keys_open(&a->keys, o->state_dir, e);
    if (rc == 0)
        rc = listen_http(a, o, e);
    if (rc != 0) {
        api_free(a);
        return rc;
    }
    *out = a;
    return 0;
}

void api_stop(struct api **a_p)
{
    struct api *a = *a_p;
    if (a == NULL)
        return;
    http_server_stop(&a->server);
    api_free(a);
    *a_p = NULL;
}

uint16_t api_port(const struct api *a)
{
    return http_server_port(a->server);
}
