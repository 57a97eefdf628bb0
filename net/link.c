/* link: ROUTER and DEALER sockets that are never without CURVE, and single-frame messages through them.
 *
 * Options are set one by one and each must succeed: a gate that cannot be
 * closed is not opened.  ZMQ_ZAP_ENFORCE_DOMAIN is declared by zmq.h for drafts
 * only and honoured by every libzmq from 4.3.1 on; without it, a listener whose
 * ZAP handler is missing lets everybody in.                                  */
#include "net/link.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zmq.h>

#include "base/memory.h"
#include "net/link_state.h"

#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93
#endif

enum {
    CURVE_BYTES = 33,          /* what a message grows by: command name, nonce, authenticator, flags */
    HANDSHAKE_BYTES_MIN = 4096, /* handshake commands pass the same limit as messages */
    CONNECT_MS = 5000,
    RECONNECT_MIN_MS = 100,
    RECONNECT_MAX_MS = 2000,
    KEEPALIVE_IDLE_S = 30,
    BACKLOG = 1024,
    DROPS_MAX = 64,            /* refused messages that one link_receive() steps over */
    FILES_WANTED = 65536,
    SOCKETS_MAX = 4096,
};

_Static_assert(sizeof(zmq_msg_t) <= sizeof(((struct link_message *)0)->opaque), "a message holds libzmq's");

static zmq_msg_t *message_of(struct link_message *m)
{
    return (zmq_msg_t *)m->opaque;
}

/* ---- sockets ---- */

static bool set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof(value)) == 0;
}

static bool set_common(void *socket, const struct link_options *o)
{
    int64_t bytes = (int64_t)(o->bytes_max + CURVE_BYTES);
    if (bytes < HANDSHAKE_BYTES_MIN)
        bytes = HANDSHAKE_BYTES_MIN;
    return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &bytes, sizeof(bytes)) == 0 &&
           set_int(socket, ZMQ_SNDHWM, o->queue_max) && set_int(socket, ZMQ_RCVHWM, o->queue_max) &&
           set_int(socket, ZMQ_LINGER, LINK_LINGER_MS) && set_int(socket, ZMQ_HANDSHAKE_IVL, LINK_HANDSHAKE_MS) &&
           set_int(socket, ZMQ_HEARTBEAT_IVL, LINK_HEARTBEAT_MS) &&
           set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, LINK_HEARTBEAT_TIMEOUT_MS) &&
           set_int(socket, ZMQ_HEARTBEAT_TTL, LINK_HEARTBEAT_TIMEOUT_MS + LINK_HEARTBEAT_MS) &&
           set_int(socket, ZMQ_TCP_KEEPALIVE, 1) && set_int(socket, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S);
}

static bool set_listener(void *socket, const struct link_options *o, bool ipv6)
{
    return set_common(socket, o) && set_int(socket, ZMQ_CURVE_SERVER, 1) &&
           zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, o->keys->secret_key, KEY_BYTES) == 0 &&
           zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, o->domain, strlen(o->domain)) == 0 &&
           set_int(socket, ZMQ_ZAP_ENFORCE_DOMAIN, 1) && set_int(socket, ZMQ_ROUTER_MANDATORY, 1) &&
           set_int(socket, ZMQ_BACKLOG, BACKLOG) && set_int(socket, ZMQ_IPV6, ipv6);
}

static bool set_dial(void *socket, const struct link_options *o, const uint8_t server_key[KEY_BYTES], bool ipv6)
{
    return set_common(socket, o) &&
           zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server_key, KEY_BYTES) == 0 &&
           zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, o->keys->public_key, KEY_BYTES) == 0 &&
           zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, o->keys->secret_key, KEY_BYTES) == 0 &&
           set_int(socket, ZMQ_IMMEDIATE, 1) && set_int(socket, ZMQ_CONNECT_TIMEOUT, CONNECT_MS) &&
           set_int(socket, ZMQ_RECONNECT_IVL, RECONNECT_MIN_MS) &&
           set_int(socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) && set_int(socket, ZMQ_IPV6, ipv6);
}

/* The host of "tcp://host:port" or "tcp://[host]:port"; false when it is not of that form.  libzmq finds some of
 * these mistakes only when it connects, and tells nobody. */
static bool host_of(const char *endpoint, char *host, size_t cap)
{
    static const char scheme[] = "tcp://";
    if (strncmp(endpoint, scheme, sizeof(scheme) - 1) != 0)
        return false;
    const char *p = endpoint + sizeof(scheme) - 1, *colon = strrchr(p, ':');
    if (!colon || colon == p || (size_t)(colon - p) >= cap || strchr(p, ';'))
        return false;
    size_t digits = strspn(colon + 1, "0123456789");
    if (digits == 0 || digits > 5 || colon[1 + digits] || strtoul(colon + 1, NULL, 10) > UINT16_MAX)
        return false;
    snprintf(host, cap, "%.*s", (int)(colon - p), p);
    return true;
}

/* libzmq tries the first address of a name only; with IPv6 on, that is the IPv6 one, where nobody may listen.
 * So IPv6 is for hosts that have nothing else. */
static bool needs_ipv6(const char *host)
{
    struct addrinfo want = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    if (strchr(host, ':'))
        return true;
    if (strcmp(host, "*") == 0 || getaddrinfo(host, NULL, &want, &found) == 0) {
        if (found)
            freeaddrinfo(found);
        return false;
    }
    want.ai_family = AF_INET6;
    bool six = getaddrinfo(host, NULL, &want, &found) == 0;
    if (six)
        freeaddrinfo(found);
    return six;
}

static int socket_failed(const char *what, const char *endpoint, struct error *e)
{
    int code = errno;
    switch (code) {
    case EADDRINUSE:
        return error_set(e, ERR_CONFLICT, "%s is in use by another program", endpoint + strlen("tcp://"));
    case EACCES:
        return error_set(e, ERR_DENIED, "this user may not listen on %s", endpoint);
    case EADDRNOTAVAIL:
    case ENODEV:
        return error_set(e, ERR_CONFIG, "this machine has no address %s", endpoint);
    case EINVAL:
        return error_set(e, ERR_INVALID, "%s is not an address that can be used", endpoint);
    default:
        return error_set(e, ERR_IO, "cannot %s %s: %s", what, endpoint, zmq_strerror(code));
    }
}

static int check_options(const char *endpoint, const struct link_options *o, char *host, size_t cap, struct error *e)
{
    if (strlen(endpoint) >= sizeof(((struct link *)0)->endpoint) || !host_of(endpoint, host, cap))
        return error_set(e, ERR_INVALID, "%s is not of the form tcp://host:port", endpoint);
    if (o->bytes_max == 0 || o->bytes_max > INT32_MAX || o->send_max > INT32_MAX || o->queue_max <= 0)
        return error_set(e, ERR_INVALID, "a link has a largest message and a longest queue");
    return 0;
}

static struct link *new_link(void *zmq_context, int type, const struct link_options *o, struct error *e)
{
    struct link *l = mem_alloc(sizeof(*l));
    l->listener = type == ZMQ_ROUTER;
    l->bytes_max = o->bytes_max;
    l->send_max = o->send_max ? o->send_max : o->bytes_max;
    l->queue_max = o->queue_max;
    l->socket = zmq_socket(zmq_context, type);
    if (!l->socket)
        error_set(e, ERR_LIMIT, "no more sockets: %s", zmq_strerror(errno));
    if (!l->socket || link_monitor_open(l, zmq_context, e) != 0)
        link_close(&l);
    return l;
}

static uint16_t bound_port(void *socket)
{
    char text[320];
    size_t n = sizeof(text);
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, text, &n) != 0)
        return 0;
    const char *colon = strrchr(text, ':');
    return colon ? (uint16_t)strtoul(colon + 1, NULL, 10) : 0;
}

int link_listen(struct link **out, void *zmq_context, const char *endpoint, const struct link_options *o,
                struct error *e)
{
    char host[300];
    *out = NULL;
    if (!o->domain || !o->domain[0] || strlen(o->domain) >= ZAP_DOMAIN_NAME_MAX)
        return error_set(e, ERR_INVALID, "a listener without a domain would let everybody in");
    int r = check_options(endpoint, o, host, sizeof(host), e);
    if (r != 0)
        return r;
    struct error why;
    struct link *l = new_link(zmq_context, ZMQ_ROUTER, o, &why);
    if (!l)
        return error_set(e, why.status, "%s", why.text);
    if (!set_listener(l->socket, o, strchr(host, ':') != NULL))
        r = error_set(e, ERR_CONFIG, "this libzmq cannot guard a listener: %s", zmq_strerror(errno));
    else if (zmq_bind(l->socket, endpoint) != 0)
        r = socket_failed("listen on", endpoint, e);
    if (r != 0) {
        link_close(&l);
        return r;
    }
    l->port = bound_port(l->socket);
    *out = l;
    return 0;
}

uint16_t link_port(const struct link *l)
{
    return l->port;
}

int link_dial(struct link **out, void *zmq_context, const char *endpoint, const uint8_t server_key[KEY_BYTES],
              const struct link_options *o, struct error *e)
{
    char host[300];
    *out = NULL;
    int r = check_options(endpoint, o, host, sizeof(host), e);
    if (r != 0)
        return r;
    struct error why;
    struct link *l = new_link(zmq_context, ZMQ_DEALER, o, &why);
    if (!l)
        return error_set(e, why.status, "%s", why.text);
    snprintf(l->endpoint, sizeof(l->endpoint), "%s", endpoint);
    if (!set_dial(l->socket, o, server_key, needs_ipv6(host)))
        r = error_set(e, ERR_CONFIG, "this libzmq cannot encrypt a link: %s", zmq_strerror(errno));
    else if (zmq_connect(l->socket, endpoint) != 0)
        r = socket_failed("connect to", endpoint, e);
    if (r != 0) {
        link_close(&l);
        return r;
    }
    *out = l;
    return 0;
}

void link_close(struct link **link_p)
{
    struct link *l = *link_p;
    if (!l)
        return;
    link_monitor_close(l);
    if (l->socket)
        zmq_close(l->socket);
    mem_free(l->connections);
    mem_free(l->members);
    mem_free(l->banned);
    mem_free(l);
    *link_p = NULL;
}

void *link_socket(struct link *l)
{
    return l->socket;
}

uint64_t link_dropped(const struct link *l)
{
    return l->dropped;
}

/* ---- receiving ---- */

static bool has_more(void *socket)
{
    int more = 0;
    size_t size = sizeof(more);
    return zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) == 0 && more;
}

/* Takes the remaining parts of a message away. */
static void skip_parts(void *socket)
{
    while (has_more(socket)) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        int n = zmq_msg_recv(&part, socket, ZMQ_DONTWAIT);
        zmq_msg_close(&part);
        if (n < 0)
            break;
    }
}

/* The routing id, the first part of what a ROUTER receives: -1 when nothing is there. */
static int receive_route_id(struct link *l, struct link_peer *p)
{
    int n = zmq_recv(l->socket, p->route_id, sizeof(p->route_id), ZMQ_DONTWAIT);
    p->route_id_len = n > 0 && n <= (int)sizeof(p->route_id) ? (uint8_t)n : 0;
    return n < 0 ? -1 : 0;
}

/* Who sent it, as the handshake established; false when that is not there. */
static bool read_peer(struct link_peer *p, const zmq_msg_t *msg)
{
    const char *user = zmq_msg_gets(msg, "User-Id"), *address = zmq_msg_gets(msg, "Peer-Address");
    static const char mapped[] = "::ffff:"; /* IPv4 through an IPv6 socket */
    if (address && strncmp(address, mapped, sizeof(mapped) - 1) == 0)
        address += sizeof(mapped) - 1;
    snprintf(p->address, sizeof(p->address), "%s", address ? address : "");
    return user && keys_parse(user, p->key) && p->route_id_len > 0;
}

/* 1: a message; 0: one was dropped; -1: nothing there. */
static int receive_one(struct link *l, struct link_message *m)
{
    zmq_msg_t *msg = message_of(m);
    if (l->listener && receive_route_id(l, &m->peer) != 0)
        return -1;
    zmq_msg_init(msg);
    if (zmq_msg_recv(msg, l->socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(msg);
        return -1;
    }
    m->data = zmq_msg_data(msg);
    m->size = zmq_msg_size(msg);
    m->peer.fd = zmq_msg_get(msg, ZMQ_SRCFD);
    bool single = !zmq_msg_more(msg) && m->size <= l->bytes_max;
    bool ours = !l->listener || read_peer(&m->peer, msg);
    if (single && ours && link_account(l, m->peer.fd, l->listener ? m->peer.key : NULL, m->size))
        return 1;
    skip_parts(l->socket);
    zmq_msg_close(msg);
    l->dropped++;
    link_cut(l, m->peer.fd);
    return 0;
}

int link_receive(struct link *l, struct link_message *m, struct error *e)
{
    memset(&m->peer, 0, sizeof(m->peer));
    for (int i = 0; i < DROPS_MAX; i++) {
        int got = receive_one(l, m);
        if (got > 0)
            return 0;
        if (got < 0)
            break;
    }
    m->data = NULL;
    m->size = 0;
    return error_set(e, ERR_TIMEOUT, "nothing has arrived");
}

void link_message_close(struct link_message *m)
{
    zmq_msg_close(message_of(m));
    m->data = NULL;
    m->size = 0;
}

/* ---- sending ---- */

static int send_failed(struct link *l, struct error *e)
{
    int code = errno;
    if (code == EHOSTUNREACH || code == ENOTSOCK || code == ETERM)
        return error_set(e, ERR_GONE, "the peer is not connected");
    if (code == EAGAIN) {
        link_monitor_drain(l);
        if (l->listener || l->connected)
            return error_set(e, ERR_BUSY, "the queue to the peer is full");
        return error_set(e, ERR_GONE, "the peer is not connected");
    }
    return error_set(e, ERR_IO, "a message cannot be sent: %s", zmq_strerror(code));
}

/* After 0 the next frame goes to the peer and will be taken. */
static int begin_send(struct link *l, const struct link_peer *to, size_t n, struct error *e)
{
    assert(l->listener == (to != NULL));
    if (n > l->send_max)
        return error_set(e, ERR_LIMIT, "a message of %zu bytes; this link takes at most %zu", n, l->send_max);
    if (l->listener)
        return zmq_send(l->socket, to->route_id, to->route_id_len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ? send_failed(l, e)
                                                                                                  : 0;
    if (!link_connected(l))
        return error_set(e, ERR_GONE, "the peer is not connected");
    int events = 0;
    size_t size = sizeof(events);
    if (zmq_getsockopt(l->socket, ZMQ_EVENTS, &events, &size) == 0 && !(events & ZMQ_POLLOUT)) {
        errno = EAGAIN;
        return send_failed(l, e);
    }
    return 0;
}

static int send_message(struct link *l, zmq_msg_t *msg, struct error *e)
{
    if (zmq_msg_send(msg, l->socket, ZMQ_DONTWAIT) >= 0)
        return 0;
    int r = send_failed(l, e);
    zmq_msg_close(msg);
    return r;
}

int link_send(struct link *l, const struct link_peer *to, const void *data, size_t n, struct error *e)
{
    int r = begin_send(l, to, n, e);
    if (r != 0)
        return r;
    zmq_msg_t msg;
    if (zmq_msg_init_size(&msg, n) != 0) {
        zmq_msg_init(&msg); /* the routing id is out already: an empty message completes it, and no peer obeys one */
        (void)zmq_msg_send(&msg, l->socket, ZMQ_DONTWAIT);
        return error_set(e, ERR_MEMORY, "no memory for a message of %zu bytes", n);
    }
    if (n > 0)
        memcpy(zmq_msg_data(&msg), data, n);
    return send_message(l, &msg, e);
}

static void free_sent(void *data, void *hint)
{
    (void)hint;
    mem_free(data);
}

int link_send_take(struct link *l, const struct link_peer *to, void **data, size_t n, struct error *e)
{
    int r = begin_send(l, to, n, e);
    if (r != 0)
        return r;
    zmq_msg_t msg;
    zmq_msg_init_data(&msg, *data, n, free_sent, NULL);
    *data = NULL;
    return send_message(l, &msg, e);
}

/* ---- contexts ---- */

/* Every connection is a file; libzmq spins when it may open no more. */
static void allow_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= FILES_WANTED)
        return;
    files.rlim_cur = files.rlim_max < FILES_WANTED ? files.rlim_max : FILES_WANTED;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

void *link_context(int io_threads)
{
    allow_files();
    void *context = zmq_ctx_new();
    if (!context || zmq_ctx_set(context, ZMQ_IO_THREADS, io_threads) != 0 ||
        zmq_ctx_set(context, ZMQ_MAX_SOCKETS, SOCKETS_MAX) != 0) {
        fprintf(stderr, "shoal: no ZeroMQ context: %s\n", zmq_strerror(errno));
        abort();
    }
    return context;
}

void link_context_destroy(void **context_p)
{
    if (!*context_p)
        return;
    while (zmq_ctx_term(*context_p) != 0 && errno == EINTR)
        continue;
    *context_p = NULL;
}
