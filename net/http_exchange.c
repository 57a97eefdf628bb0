/* http_exchange: one request from its headers to the last byte of its answer.
 *
 * MHD calls http_on_access() when the headers are there, then for each part of
 * the body, then once more for the answer.  A refusal is decided as early as
 * possible but sent after the body was read and thrown away (up to
 * HTTP_DISCARD_MAX), because a connection that is closed over unread bytes is
 * reset, and the client then never sees the refusal.                         */
#include "net/http_exchange.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/memory.h"

struct http_exchange {
    struct http_server *server;
    struct MHD_Connection *mhd;
    struct http_connection *connection;
    const struct http_route *route; /* NULL: none */
    const struct http_route *near;  /* of the path, but not of the method; NULL: none */
    uint64_t begun_us;
    char path[HTTP_PATH_MAX];
    struct buffer body;
    uint64_t body_seen; /* bytes, kept or thrown away */

    struct MHD_Response *response; /* set by a reply */
    int status;
    bool abandoned, queued;
    bool at_once; /* refused without reading on: where the body ends is not known */
    struct {
        const char *name;
        char *value;
    } headers[HTTP_REPLY_HEADERS_MAX];
    size_t n_headers;

    http_producer produce; /* of a stream */
    void *produce_arg;
    void (*produce_close)(void *arg);
    void *held;
    struct buffer out; /* produced, [out_sent, len) not yet taken */
    size_t out_sent;
    bool out_ended;
};

/* ---- what handlers see ---- */

const char *http_path(const struct http_exchange *x)
{
    return x->path;
}

const char *http_rest(const struct http_exchange *x)
{
    if (x->route == NULL || (x->route->flags & HTTP_PREFIX) == 0)
        return "";
    return x->path + strlen(x->route->path);
}

const struct http_route *http_matched(const struct http_exchange *x)
{
    return x->route != NULL ? x->route : x->near;
}

const char *http_request_header(const struct http_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, name);
}

void http_hold(struct http_exchange *x, void *held)
{
    x->held = held;
}

void *http_held(const struct http_exchange *x)
{
    return x->held;
}

static void release(struct http_exchange *x)
{
    if (x->held != NULL && x->server->options.release != NULL)
        x->server->options.release(x->server->options.arg, x->held);
    x->held = NULL;
}

const char *http_body(const struct http_exchange *x, size_t *len)
{
    *len = x->body.len;
    return buffer_text(&x->body);
}

void http_body_drop(struct http_exchange *x)
{
    atomic_fetch_sub(&x->server->body_bytes, x->body.len);
    buffer_close(&x->body);
}

static bool socket_says(const struct http_exchange *x, short events)
{
    struct pollfd p = { .fd = x->connection->fd, .events = events };
    return poll(&p, 1, 0) > 0 && (p.revents & (events | POLLERR | POLLHUP)) != 0;
}

bool http_gone(const struct http_exchange *x)
{
    return atomic_load(&x->server->stopping) || socket_says(x, 0);
}

bool http_half_closed(const struct http_exchange *x)
{
    return socket_says(x, POLLRDHUP);
}

void http_reply_header(struct http_exchange *x, const char *name, const char *value)
{
    if (x->n_headers == HTTP_REPLY_HEADERS_MAX)
        return;
    x->headers[x->n_headers].name = name;
    x->headers[x->n_headers++].value = mem_strdup(value);
}

static void prepare(struct http_exchange *x, int status, const char *content_type, struct MHD_Response *response)
{
    if (response == NULL)
        return;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    for (size_t i = 0; i < x->n_headers; i++)
        MHD_add_response_header(response, x->headers[i].name, x->headers[i].value);
    x->response = response;
    x->status = status;
}

void http_reply(struct http_exchange *x, int status, const char *content_type, const void *body, size_t len)
{
    if (x->response != NULL)
        return;
    char *copy = mem_alloc(len + 1);
    memcpy(copy, body, len);
    prepare(x, status, content_type,
            MHD_create_response_from_buffer_with_free_callback(len, copy, mem_free));
}

void http_abandon(struct http_exchange *x)
{
    x->abandoned = true;
}

/* MHD asks for bytes: produce until there are some. */
static ssize_t on_read(void *cls, uint64_t position, char *out, size_t max)
{
    struct http_exchange *x = cls;
    (void)position;
    while (x->out_sent == x->out.len) {
        if (x->out_ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        buffer_clear(&x->out);
        x->out_sent = 0;
        enum http_produced p = atomic_load(&x->server->stopping) ? HTTP_BROKEN : x->produce(x->produce_arg, &x->out);
        if (p == HTTP_BROKEN || buffer_failed(&x->out))
            return MHD_CONTENT_READER_END_WITH_ERROR;
        x->out_ended = p == HTTP_END;
        if (x->out_ended)
            release(x);
    }
    size_t n = x->out.len - x->out_sent < max ? x->out.len - x->out_sent : max;
    memcpy(out, x->out.data + x->out_sent, n);
    x->out_sent += n;
    return (ssize_t)n;
}

void http_stream(struct http_exchange *x, const char *content_type, http_producer produce, void *arg,
                 void (*close)(void *arg))
{
    x->produce = produce;
    x->produce_arg = arg;
    x->produce_close = close;
    buffer_init(&x->out, HTTP_STREAM_BYTES_MAX);
    if (x->response == NULL)
        prepare(x, MHD_HTTP_OK, content_type,
                MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_CONNECTION_BYTES / 2, on_read, x, NULL));
}

/* ---- admission ---- */

static void refuse(struct http_exchange *x, int status, const char *text)
{
    if (x->response == NULL)
        x->server->options.fail(x->server->options.arg, x, status, text);
}

static bool path_fits(const struct http_route *r, const char *path)
{
    size_t n = strlen(r->path);
    if (r->flags & HTTP_PREFIX)
        return strncmp(path, r->path, n) == 0 && path[n] != '\0';
    return strcmp(path, r->path) == 0;
}

static bool method_fits(const struct http_route *r, const char *method)
{
    return strcmp(r->method, method) == 0 || (strcmp(r->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* 405, with the methods that the path takes. */
static void refuse_method(struct http_exchange *x)
{
    const struct http_options *o = &x->server->options;
    char methods[64] = "";
    size_t n = 0;
    for (size_t i = 0; i < o->n_routes && n < sizeof(methods) / 2; i++)
        if (path_fits(&o->routes[i], x->path))
            n += (size_t)snprintf(methods + n, sizeof(methods) - n, "%s%.10s", n > 0 ? ", " : "", o->routes[i].method);
    http_reply_header(x, MHD_HTTP_HEADER_ALLOW, methods);
    char *text = mem_printf("%s takes %s", x->path, methods);
    refuse(x, MHD_HTTP_METHOD_NOT_ALLOWED, text);
    mem_free(text);
}

/* Sets x->route, or refuses with 404 or 405. */
static void find_route(struct http_exchange *x, const char *method)
{
    const struct http_options *o = &x->server->options;
    for (size_t i = 0; i < o->n_routes && x->route == NULL; i++) {
        if (!path_fits(&o->routes[i], x->path))
            continue;
        if (method_fits(&o->routes[i], method))
            x->route = &o->routes[i];
        else
            x->near = &o->routes[i];
    }
    if (x->route != NULL)
        return;
    if (x->near == NULL) {
        char *text = mem_printf("there is no %s here", x->path);
        refuse(x, MHD_HTTP_NOT_FOUND, text);
        mem_free(text);
        return;
    }
    refuse_method(x);
}

/* Two readings of a request, or of where its body ends, are how requests are smuggled past a proxy: only one is
 * accepted. Of a body in chunks MHD reads more than others do, so nothing is read behind one. */
static bool check_head(struct http_exchange *x, const struct http_head *head)
{
    if (head->chunked || !head->sound || !head->framed)
        http_reply_header(x, MHD_HTTP_HEADER_CONNECTION, "close");
    x->at_once = !head->sound || !head->framed;
    if (!head->sound)
        refuse(x, MHD_HTTP_BAD_REQUEST, "the lines of the request's head are not valid");
    else if (!head->framed)
        refuse(x, MHD_HTTP_BAD_REQUEST, "the length of the body is ambiguous");
    return !x->at_once;
}

static bool cors_allows(const struct http_exchange *x, const char *origin)
{
    const char *cors = x->server->options.cors;
    return http_origin_is_local(origin) || (cors != NULL && (strcmp(cors, "*") == 0 || strcmp(cors, origin) == 0));
}

/* What a browser must be told before a page of the allowed origin sees an answer; also answers its question
 * whether it may ask, which carries no key. */
static void put_cors(struct http_exchange *x, const char *method)
{
    const char *origin = http_request_header(x, MHD_HTTP_HEADER_ORIGIN);
    const char *headers = http_request_header(x, "Access-Control-Request-Headers");
    if (origin == NULL || !cors_allows(x, origin))
        return;
    http_reply_header(x, "Access-Control-Allow-Origin", origin);
    http_reply_header(x, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ORIGIN);
    if (strcmp(method, "OPTIONS") != 0 || http_request_header(x, "Access-Control-Request-Method") == NULL)
        return;
    http_reply_header(x, "Access-Control-Allow-Methods", "GET, POST, DELETE");
    if (headers != NULL)
        http_reply_header(x, "Access-Control-Allow-Headers", headers);
    http_reply(x, MHD_HTTP_NO_CONTENT, "text/plain", "", 0);
}

static bool check_origin(struct http_exchange *x)
{
    const char *host = http_request_header(x, MHD_HTTP_HEADER_HOST);
    const char *origin = http_request_header(x, MHD_HTTP_HEADER_ORIGIN);
    if (x->server->options.any_host)
        return true;
    if (x->server->loopback && host != NULL && !http_host_is_local(host))
        refuse(x, MHD_HTTP_FORBIDDEN, "this server answers to names of this machine only (Host)");
    else if (origin != NULL && !http_origin_allowed(origin, host) && !cors_allows(x, origin))
        refuse(x, MHD_HTTP_FORBIDDEN, "pages of another origin may not use this server (Origin)");
    return x->response == NULL;
}

/* Content-Length, 0 when absent. */
static uint64_t announced(const struct http_exchange *x)
{
    const char *text = http_request_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

static void check_body(struct http_exchange *x, const struct http_head *head)
{
    bool has_length = http_request_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH) != NULL ||
                      http_request_header(x, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
    if (!head->met)
        refuse(x, MHD_HTTP_EXPECTATION_FAILED, "only 100-continue can be expected (Expect)");
    else if (!head->plain)
        refuse(x, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "a compressed body is not accepted (Content-Encoding)");
    else if ((x->route->flags & HTTP_BODY) != 0 && !has_length)
        refuse(x, MHD_HTTP_LENGTH_REQUIRED, "a body with a Content-Length is needed");
    else if (announced(x) > x->route->body_max)
        refuse(x, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than this endpoint takes");
}

/* Work is refused when all connections are taken, so that nobody hangs; health and metrics still answer. */
static void check_room(struct http_exchange *x)
{
    if ((x->route->flags & HTTP_BODY) == 0 || http_server_connections(x->server) <= x->server->options.connections_max)
        return;
    http_reply_header(x, MHD_HTTP_HEADER_CONNECTION, "close");
    refuse(x, MHD_HTTP_TOO_MANY_REQUESTS, "too many connections: try again");
}

/* Everything that the headers decide. Afterwards a response is there or the body may come. */
static void admit(struct http_exchange *x, const char *url, const char *method, const char *version)
{
    const struct http_options *o = &x->server->options;
    struct http_head head;
    http_head_read(x->mhd, version, &head);
    if (!check_head(x, &head))
        return;
    if (!http_path_decode(url, x->path)) {
        refuse(x, MHD_HTTP_BAD_REQUEST, "the path is not valid");
        return;
    }
    if (!check_origin(x))
        return;
    put_cors(x, method);
    if (x->response != NULL)
        return;
    find_route(x, method);
    if (x->response == NULL && o->gate != NULL && !o->gate(o->arg, x, x->route))
        refuse(x, MHD_HTTP_FORBIDDEN, "not allowed");
    if (x->response == NULL)
        check_room(x);
    if (x->response == NULL)
        check_body(x, &head);
}

/* ---- MHD's calls ---- */

static enum MHD_Result send_answer(struct http_exchange *x)
{
    if (x->abandoned || x->response == NULL)
        return MHD_NO;
    x->queued = true;
    /* Restarts the inactivity clock, which ran on while the handler worked. */
    MHD_set_connection_option(x->mhd, MHD_CONNECTION_OPTION_TIMEOUT, x->server->options.stall_s);
    return MHD_queue_response(x->mhd, (unsigned)x->status, x->response);
}

static enum MHD_Result begin(struct http_server *s, struct MHD_Connection *mhd, const char *url, const char *method,
                             const char *version, void **slot)
{
    struct http_exchange *x = mem_alloc(sizeof(*x));
    x->server = s;
    x->mhd = mhd;
    x->connection = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    x->begun_us = clock_us();
    *slot = x;
    http_connection_enter(s, x->connection, CONNECTION_BODY);
    admit(x, url, method, version);
    buffer_init(&x->body, x->route == NULL ? 0 : x->route->body_max);
    bool waits = http_request_header(x, MHD_HTTP_HEADER_EXPECT) != NULL;
    if (x->response != NULL && (x->at_once || waits || announced(x) > HTTP_DISCARD_MAX))
        return send_answer(x);
    return MHD_YES;
}

static enum MHD_Result take(struct http_exchange *x, const char *data, size_t n)
{
    x->body_seen += n;
    if (x->response != NULL)
        return x->body_seen > HTTP_DISCARD_MAX ? MHD_NO : MHD_YES;
    if (atomic_fetch_add(&x->server->body_bytes, n) + n > HTTP_BODIES_MAX) {
        atomic_fetch_sub(&x->server->body_bytes, n);
        http_body_drop(x);
        refuse(x, MHD_HTTP_TOO_MANY_REQUESTS, "too many large requests at once: try again");
        return MHD_YES;
    }
    buffer_add(&x->body, data, n);
    if (buffer_failed(&x->body)) {
        atomic_fetch_sub(&x->server->body_bytes, n);
        http_body_drop(x);
        refuse(x, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than this endpoint takes");
    }
    return MHD_YES;
}

static enum MHD_Result answer(struct http_exchange *x)
{
    http_connection_enter(x->server, x->connection, CONNECTION_ANSWER);
    if (x->response == NULL)
        x->route->handle(x->server->options.arg, x);
    if (x->response == NULL && !x->abandoned)
        refuse(x, MHD_HTTP_INTERNAL_SERVER_ERROR, "this endpoint gave no answer");
    if (x->produce == NULL)
        release(x);
    return send_answer(x);
}

enum MHD_Result http_on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                               const char *version, const char *data, size_t *data_bytes, void **slot)
{
    struct http_exchange *x = *slot;
    if (x == NULL)
        return begin(cls, mhd, url, method, version, slot);
    if (*data_bytes > 0) {
        size_t n = *data_bytes;
        *data_bytes = 0;
        return take(x, data, n);
    }
    return answer(x);
}

void http_on_completed(void *cls, struct MHD_Connection *mhd, void **slot, enum MHD_RequestTerminationCode why)
{
    struct http_server *s = cls;
    struct http_exchange *x = *slot;
    (void)mhd;
    if (x == NULL)
        return;
    *slot = NULL;
    if (x->produce_close != NULL)
        x->produce_close(x->produce_arg);
    release(x);
    if (s->options.done != NULL) {
        bool whole = x->queued && why == MHD_REQUEST_TERMINATED_COMPLETED_OK;
        s->options.done(s->options.arg, x->route, whole ? x->status : 0, clock_us() - x->begun_us);
    }
    if (x->response != NULL)
        MHD_destroy_response(x->response);
    http_body_drop(x);
    buffer_close(&x->out);
    for (size_t i = 0; i < x->n_headers; i++)
        mem_free(x->headers[i].value);
    http_connection_enter(s, x->connection, CONNECTION_WAITING);
    mem_free(x);
}
