/* http_server: a table of endpoints behind libmicrohttpd, with every limit set.
 *
 * An endpoint is a row: method, path, handler, flags, the largest body.  The
 * server routes, refuses what no row takes (404, 405, 411, 413, 415), reads the
 * body within a deadline and calls the handler on the connection's own thread,
 * where it may block.  The handler answers with http_reply() or http_stream();
 * a stream's producer is called on that thread too, each time the client has
 * taken what was produced before: a slow reader slows its producer and nobody
 * else.
 *
 * Bounded: connections, header bytes, one body, all bodies together, the time
 * to send a request, the time a connection may idle or stall.  A request's head
 * that others could read otherwise is refused.  Where it listens
 * on loopback only, requests whose Host is not of this machine are refused (DNS
 * rebinding); everywhere, requests that a web page of another origin makes;
 * neither when `any_host` is set.
 *
 * With a certificate all this is inside TLS 1.2 or 1.3; handshakes are made on
 * the connection's thread, within the time that it may idle.
 *
 * The server knows no format of its own: `fail` writes the body of an error.  */
#ifndef NET_HTTP_SERVER_H
#define NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum http_limits {
    HTTP_PATH_MAX = 1024,           /* decoded */
    HTTP_REPLY_HEADERS_MAX = 16,
    HTTP_SPARE_CONNECTIONS = 32,    /* beyond connections_max: only what needs no body is answered on them */
    HTTP_CONNECTION_BYTES = 64 << 10, /* request line and headers must fit */
    HTTP_BODIES_MAX = 128 << 20,    /* bytes of all bodies held at once; more: 429 */
    HTTP_DISCARD_MAX = 64 << 20,    /* of a refused body, read so that the refusal arrives */
    HTTP_BODY_MS = 60000,           /* to send a body once its headers are there */
    HTTP_IDLE_MS = 120000,          /* between requests, headers included */
    HTTP_STALL_S = 60,              /* without a byte either way; a producer must give one more often */
    HTTP_STREAM_BYTES_MAX = 8 << 20, /* a producer's one piece */
};

struct http_server;
struct http_exchange; /* one request and its answer; lives until its answer is sent */
struct http_route;

typedef void (*http_handler)(void *arg, struct http_exchange *x);

enum http_flags {
    HTTP_PREFIX = 1 << 0, /* path ends with '/': all below it too; http_rest() gives what follows */
    HTTP_BODY = 1 << 1,   /* must have a body: 411 without a length */
    HTTP_USER = 1 << 8,   /* this bit and those above are the caller's */
};

struct http_route {
    const char *method; /* "GET" answers HEAD too */
    const char *path;
    http_handler handle;
    unsigned flags;
    size_t body_max;
    const void *row; /* the caller's */
};

struct http_options {
    const char *host; /* name or address to listen on */
    uint16_t port;    /* 0: ephemeral */
    uint32_t connections_max; /* that do work; a few more are taken to tell their clients so (429) */
    uint32_t body_ms, idle_ms, stall_s; /* 0: HTTP_BODY_MS, HTTP_IDLE_MS, HTTP_STALL_S */
    bool any_host;    /* no check of Host and Origin: where a request needs a key that no web page has */
    const char *tls_cert, *tls_key; /* PEM files; NULL: plain HTTP */
    const char *cors; /* the origin whose pages may use the server, "*": every; NULL: none. Borrowed */
    const struct http_route *routes; /* borrowed */
    size_t n_routes;
    void *arg; /* of the handlers and of these: */
    /* Before the body is read; false: it has replied. May be NULL. */
    bool (*gate)(void *arg, struct http_exchange *x, const struct http_route *route);
    /* What http_hold() gave is of no more use: the answer is made, if not sent. May be NULL. */
    void (*release)(void *arg, void *held);
    /* Reply with an error of the server itself. */
    void (*fail)(void *arg, struct http_exchange *x, int status, const char *text);
    /* The exchange is over. route NULL: none took it. status 0: the client went without an answer. */
    void (*done)(void *arg, const struct http_route *route, int status, uint64_t took_us);
};

/* ERR_CONFLICT names a port that is in use; ERR_CONFIG the certificate or key that cannot be used. */
MUST_USE int http_server_start(struct http_server **out, const struct http_options *o, struct error *e);
/* Cuts every connection; handlers and producers see http_gone() and return; waits for them. */
void http_server_stop(struct http_server **s);
uint16_t http_server_port(const struct http_server *s);
uint32_t http_server_connections(struct http_server *s);
bool http_server_is_local(const struct http_server *s); /* only this machine can reach it */

/* ---- for handlers ---- */

const char *http_path(const struct http_exchange *x); /* percent-decoded, without a trailing slash */
const char *http_rest(const struct http_exchange *x); /* of a HTTP_PREFIX row, else "" */
/* The row that takes the request, or one of its path where no row has its method; NULL: there is none. */
const struct http_route *http_matched(const struct http_exchange *x);
const char *http_request_header(const struct http_exchange *x, const char *name); /* NULL when absent */
const char *http_body(const struct http_exchange *x, size_t *len);
/* The body is no longer needed: its room is given back. */
void http_body_drop(struct http_exchange *x);
/* The client has reset the connection, or the server stops: nobody will read an answer. */
bool http_gone(const struct http_exchange *x);
/* The client has said that it will send no more: most often it is gone, and a write will tell. */
bool http_half_closed(const struct http_exchange *x);

/* Something of the caller's for this exchange, once; given to `release` before the end of the answer is sent. */
void http_hold(struct http_exchange *x, void *held);
void *http_held(const struct http_exchange *x); /* NULL: none, or released */

/* A header of the answer, before it is given. */
void http_reply_header(struct http_exchange *x, const char *name, const char *value);
/* The answer, copied. Once. */
void http_reply(struct http_exchange *x, int status, const char *content_type, const void *body, size_t len);

enum http_produced { HTTP_MORE, HTTP_END, HTTP_BROKEN /* cut the connection: the answer is not whole */ };
/* Appends to `out`; may block, but not for HTTP_STALL_S without a byte. */
typedef enum http_produced (*http_producer)(void *arg, struct buffer *out);
/* A 200 whose body the producer gives piece by piece; each piece is sent at once. close(arg) is called
 * in every case when the exchange ends. */
void http_stream(struct http_exchange *x, const char *content_type, http_producer produce, void *arg,
                 void (*close)(void *arg));
/* No answer: the connection is cut (the client is gone). */
void http_abandon(struct http_exchange *x);

#endif
