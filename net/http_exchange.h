/* http_exchange: what http_server.c and http_exchange.c share.  Not for other folders. */
#ifndef NET_HTTP_EXCHANGE_H
#define NET_HTTP_EXCHANGE_H

#include <pthread.h>
#include <stdatomic.h>

#include <microhttpd.h>

#include "net/http_server.h"
#include "net/http_tls.h"

enum connection_state {
    CONNECTION_WAITING, /* for a request's headers, first or next */
    CONNECTION_BODY,    /* headers are there */
    CONNECTION_ANSWER,  /* handler or answer under way */
};

/* One client connection, in the server's list from accept to close. */
struct http_connection {
    struct http_connection *next, *previous;
    int fd;
    enum connection_state state;
    uint64_t since_ms; /* of the state */
};

struct http_server {
    struct http_options options;
    struct MHD_Daemon *daemon;
    struct http_tls tls;
    uint16_t port;
    bool loopback;
    pthread_t reaper;
    pthread_mutex_t lock; /* the list below and each connection's state; nothing else */
    pthread_cond_t wake;  /* of the reaper, at stop */
    struct http_connection *connections;
    uint32_t n_connections;
    atomic_bool stopping;
    atomic_size_t body_bytes; /* of all exchanges */
};

void http_connection_enter(struct http_server *s, struct http_connection *c, enum connection_state state);

/* MHD's callbacks (cls: the server). */
enum MHD_Result http_on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                               const char *version, const char *data, size_t *data_bytes, void **slot);
void http_on_completed(void *cls, struct MHD_Connection *mhd, void **slot, enum MHD_RequestTerminationCode why);

/* What the lines of a request's head come to. */
struct http_head {
    bool sound;   /* nobody can read them otherwise */
    bool framed;  /* they say in one way at most where the body ends */
    bool chunked;
    bool plain;   /* the body is not compressed */
    bool met;     /* nothing is expected of the server that it does not do */
};
void http_head_read(struct MHD_Connection *mhd, const char *version, struct http_head *out);

/* "localhost", "127.0.0.1:8080", "[::1]": an authority of this machine. */
bool http_host_is_local(const char *authority);
/* An Origin of this machine: a page that it serves to itself, or a program that shows pages as its windows (no web page
 * has such a scheme). */
bool http_origin_is_local(const char *origin);
/* An Origin over HTTP that may use the server which the request calls `host`. */
bool http_origin_allowed(const char *origin, const char *host);
/* Percent-decode a path into out[HTTP_PATH_MAX], "//" as "/" and none at its end, as bases of URLs are joined; false
 * for bad escapes, control characters, too long. */
bool http_path_decode(const char *url, char *out);

#endif
