/* link_watch: the connections behind a link: what libzmq's monitor says of them, what they have delivered,
 * and cutting them.
 *
 * libzmq has no call that drops one peer, and bounds neither the parts of a
 * message that is never finished nor their bytes.  Both are done from outside:
 * the kernel says how many bytes a connection has received, we know how many
 * came out as messages; where the difference grows past a bound, or a key is
 * revoked, the connection's descriptor is shut down and libzmq finds it closed.
 *
 * A descriptor can be closed and reused at any moment by libzmq's thread, so a
 * connection is remembered with its remote address, and nothing is shut down
 * that has another one.                                                      */
#include <errno.h>
#include <linux/tcp.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/link_state.h"

enum {
    EXAMINE_MS = 50,
    FD_MAX = 1 << 20,
    HEARTBEAT_BYTES_S = 256, /* pings and their answers, a second at most; they deliver nothing */
    HANDSHAKE_BYTES = 4096,
    MONITOR_QUEUE = 65536,   /* events; past it libzmq's thread would wait for us */
    SILENT_BYTES_MAX = 64 << 20, /* undelivered bytes of all connections that have not said anything yet */
    SILENT_BYTES_FREE = 64 << 10,
    REDIAL_MS = 500,         /* after a refusal or a breach of the protocol */
    REDIAL_QUIET_MS = 8000,  /* after an end without a word of a new attempt; above libzmq's connect time-out */
};

enum { DIAL_EVENTS = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED |
                     ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH,
       LISTENER_EVENTS = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED };

/* ---- the table of connections ---- */

static struct connection *connection_at(struct link *l, int fd)
{
    return fd >= 0 && (size_t)fd < l->n_connections && l->connections[fd].open ? &l->connections[fd] : NULL;
}

static void connection_opened(struct link *l, int fd)
{
    if (fd < 0 || fd >= FD_MAX)
        return;
    if ((size_t)fd >= l->n_connections) {
        size_t n = (size_t)fd + 64;
        l->connections = mem_resize(l->connections, n, sizeof(*l->connections));
        memset(l->connections + l->n_connections, 0, (n - l->n_connections) * sizeof(*l->connections));
        l->n_connections = n;
    }
    struct connection *c = &l->connections[fd];
    memset(c, 0, sizeof(*c));
    socklen_t len = sizeof(c->remote);
    c->open = getpeername(fd, (struct sockaddr *)&c->remote, &len) == 0; /* else it is gone again */
    c->opened_ms = clock_ms();
}

static void connection_closed(struct link *l, int fd)
{
    struct connection *c = connection_at(l, fd);
    if (c)
        memset(c, 0, sizeof(*c));
}

static bool same_connection(const struct connection *c, int fd)
{
    struct sockaddr_storage now;
    memset(&now, 0, sizeof(now));
    socklen_t len = sizeof(now);
    return getpeername(fd, (struct sockaddr *)&now, &len) == 0 && memcmp(&now, &c->remote, sizeof(now)) == 0;
}

void link_cut(struct link *l, int fd)
{
    struct connection *c = connection_at(l, fd);
    if (c && same_connection(c, fd))
        (void)shutdown(fd, SHUT_RDWR);
}

/* ---- events ---- */

int link_monitor_open(struct link *l, void *zmq_context, struct error *e)
{
    char endpoint[64];
    int hwm = MONITOR_QUEUE, linger = 0;
    /* libzmq frees an old monitor's name late, so every one has its own. */
    snprintf(endpoint, sizeof(endpoint), "inproc://shoal-monitor-%08x%08x", randombytes_random(),
             randombytes_random());
    if (zmq_socket_monitor(l->socket, endpoint, l->listener ? LISTENER_EVENTS : DIAL_EVENTS) == 0)
        l->monitor = zmq_socket(zmq_context, ZMQ_PAIR);
    if (!l->monitor || zmq_setsockopt(l->monitor, ZMQ_RCVHWM, &hwm, sizeof(hwm)) != 0 ||
        zmq_setsockopt(l->monitor, ZMQ_LINGER, &linger, sizeof(linger)) != 0 ||
        zmq_connect(l->monitor, endpoint) != 0)
        return error_set(e, ERR_LIMIT, "a link's monitor cannot be opened: %s", zmq_strerror(errno));
    return 0;
}

void link_monitor_close(struct link *l)
{
    if (!l->monitor)
        return;
    (void)zmq_socket_monitor(l->socket, NULL, 0);
    zmq_close(l->monitor);
    l->monitor = NULL;
}

/* libzmq connects anew after an input/output error, never after a refusal or a breach of the protocol: one forged
 * byte would end a dial for good.  Those are dialled again here. */
static void redial_in(struct link *l, uint64_t ms)
{
    uint64_t when = clock_ms() + ms;
    if (!l->listener && (l->redial_ms == 0 || when < l->redial_ms))
        l->redial_ms = when;
}

static void redial(struct link *l)
{
    (void)zmq_disconnect(l->socket, l->endpoint); /* fails where libzmq has given the endpoint up already */
    (void)zmq_connect(l->socket, l->endpoint);    /* worked before; if it fails, the next time is not far */
    l->redial_ms = 0;
    redial_in(l, REDIAL_QUIET_MS);
}

static void on_event(struct link *l, uint16_t event, uint32_t value)
{
    switch (event) {
    case ZMQ_EVENT_ACCEPTED:
    case ZMQ_EVENT_CONNECTED:
        connection_opened(l, (int)value);
        break;
    case ZMQ_EVENT_DISCONNECTED:
        connection_closed(l, (int)value);
        l->connected = false;
        redial_in(l, REDIAL_QUIET_MS);
        break;
    case ZMQ_EVENT_CONNECT_RETRIED: /* libzmq is at it; it may also be a leftover of before a refusal */
        if (!l->refused)
            l->redial_ms = 0;
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        l->connected = true;
        l->refused = false;
        l->broken = 0;
        l->made++;
        l->redial_ms = 0;
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        l->refused = true;
        redial_in(l, REDIAL_MS);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        l->broken++;
        redial_in(l, REDIAL_MS);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        l->broken++;
        break;
    default:
        break;
    }
}

void link_monitor_drain(struct link *l)
{
    uint8_t frame[6];
    while (zmq_recv(l->monitor, frame, sizeof(frame), ZMQ_DONTWAIT) == (int)sizeof(frame)) {
        uint16_t event;
        uint32_t value;
        char address[64];
        memcpy(&event, frame, sizeof(event));
        memcpy(&value, frame + sizeof(event), sizeof(value));
        (void)zmq_recv(l->monitor, address, sizeof(address), ZMQ_DONTWAIT);
        on_event(l, event, value);
    }
}

bool link_connected(struct link *l)
{
    if (!l->connected)
        link_monitor_drain(l);
    return l->connected;
}

uint32_t link_connections(struct link *l)
{
    link_monitor_drain(l);
    return l->made;
}

bool link_refused(struct link *l)
{
    link_monitor_drain(l);
    return l->refused;
}

uint32_t link_broken_handshakes(struct link *l)
{
    link_monitor_drain(l);
    return l->broken;
}

/* ---- who may ---- */

static bool in_set(const uint8_t *keys, size_t n, const uint8_t key[KEY_BYTES])
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(keys + i * KEY_BYTES, key, KEY_BYTES) == 0)
            return true;
    }
    return false;
}

static void ban(struct link *l, const uint8_t key[KEY_BYTES])
{
    if (in_set(l->banned, l->n_banned, key))
        return;
    l->banned = mem_resize(l->banned, l->n_banned + 1, KEY_BYTES);
    memcpy(l->banned + l->n_banned++ * KEY_BYTES, key, KEY_BYTES);
}

/* The new set forgives those it has. */
static void forgive(struct link *l)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n_banned; i++) {
        if (!in_set(l->members, l->n_members, l->banned + i * KEY_BYTES))
            memmove(l->banned + kept++ * KEY_BYTES, l->banned + i * KEY_BYTES, KEY_BYTES);
    }
    l->n_banned = kept;
}

size_t link_revoke(struct link *l, const uint8_t *keys, size_t n)
{
    size_t cut = 0;
    link_monitor_drain(l);
    l->members = mem_resize(l->members, n + 1, KEY_BYTES);
    l->n_members = n;
    if (n > 0)
        memcpy(l->members, keys, n * KEY_BYTES);
    forgive(l);
    for (size_t fd = 0; fd < l->n_connections; fd++) {
        struct connection *c = &l->connections[fd];
        if (!c->open)
            continue;
        if (!c->known) {
            c->suspect = true; /* its key was let in by a set of before, perhaps; its first message will tell */
        } else if (!in_set(l->members, l->n_members, c->key)) {
            ban(l, c->key);
            link_cut(l, (int)fd);
            cut++;
        }
    }
    return cut;
}

/* Bytes of the wire for one message: CURVE's 33, and ZMTP's short or long frame header. */
static uint64_t wire_bytes(size_t bytes)
{
    return bytes + 33 + (bytes + 33 > 255 ? 9 : 2);
}

bool link_account(struct link *l, int fd, const uint8_t key[KEY_BYTES], size_t bytes)
{
    struct connection *c = connection_at(l, fd);
    if (!c) {
        link_monitor_drain(l);
        c = connection_at(l, fd);
    }
    if (c)
        c->delivered += wire_bytes(bytes);
    if (!key)
        return true;
    if (l->n_banned > 0 && in_set(l->banned, l->n_banned, key))
        return false;
    if (!c)
        return true; /* the last words of a connection that is closed */
    if (!c->known || memcmp(c->key, key, KEY_BYTES) != 0) {
        memcpy(c->key, key, KEY_BYTES);
        c->known = true;
    }
    if (c->suspect) {
        c->suspect = false;
        if (!in_set(l->members, l->n_members, key)) {
            ban(l, key);
            return false;
        }
    }
    return true;
}

/* ---- the watchdog ---- */

/* Bytes that the connection received and we did not, less what handshake and heartbeats account for. */
static uint64_t undelivered(const struct connection *c, int fd, uint64_t now_ms)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    memset(&info, 0, sizeof(info));
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return 0;
    uint64_t known = c->delivered + HANDSHAKE_BYTES + (now_ms - c->opened_ms) / 1000 * HEARTBEAT_BYTES_S;
    return info.tcpi_bytes_received > known ? info.tcpi_bytes_received - known : 0;
}

static bool has_input(const struct link *l)
{
    int events = 0;
    size_t size = sizeof(events);
    return zmq_getsockopt(l->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN);
}

/* Whole messages may wait in the queue until we take them; what is more than that is of no whole message. */
static void examine(struct link *l, uint64_t now_ms)
{
    uint64_t bound = LINK_UNDELIVERED_MAX + (has_input(l) ? (uint64_t)l->queue_max * l->bytes_max : 0);
    uint64_t silent = 0;
    for (size_t fd = 0; fd < l->n_connections; fd++) {
        struct connection *c = &l->connections[fd];
        if (!c->open)
            continue;
        uint64_t bytes = undelivered(c, (int)fd, now_ms);
        silent += l->listener && !c->known ? bytes : 0;
        if (bytes > bound || (silent > SILENT_BYTES_MAX && !c->known && bytes > SILENT_BYTES_FREE)) {
            l->dropped++;
            link_cut(l, (int)fd);
        }
    }
}

void link_watch(struct link *l)
{
    link_monitor_drain(l);
    uint64_t now = clock_ms();
    if (now - l->examined_ms < EXAMINE_MS)
        return;
    l->examined_ms = now;
    examine(l, now);
    if (l->redial_ms != 0 && now >= l->redial_ms)
        redial(l);
}
