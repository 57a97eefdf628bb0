/* link: encrypted sockets with every option set that must be set.
 *
 * A listener is a ROUTER that demands CURVE and a ZAP domain (enforced); a dial
 * is a DEALER that knows the listener's public key.  There is no way to make a
 * socket without CURVE.  Messages are single frames of at most `bytes_max`;
 * a message with more parts is dropped and its connection cut; a connection
 * whose undelivered bytes grow past a bound is cut (link_watch).  A message
 * from a listener carries the authenticated key of its sender: that, and never
 * the routing id, says who sent it.  A dial never chooses its routing id: every
 * connection gets a new one from the listener, so that an answer to a connection
 * that is gone fails with ERR_GONE instead of reaching somebody else.
 *
 * Delivery is not promised: what is under way when a connection breaks is lost,
 * and the dial connects again by itself.  A link belongs to one thread.      */
#ifndef NET_LINK_H
#define NET_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/keys.h"
#include "net/zap.h"

enum {
    LINK_ROUTE_ID_MAX = 32,
    LINK_HANDSHAKE_MS = 2000,
    LINK_HEARTBEAT_MS = 1000,
    LINK_HEARTBEAT_TIMEOUT_MS = 4000,
    LINK_UNDELIVERED_MAX = 16 << 20,
    LINK_LINGER_MS = 200, /* what was sent before link_close() has so long to leave */
};

struct link;

struct link_options {
    const struct keys *keys;   /* ours */
    const char *domain;        /* listener: ZAP domain, not empty */
    size_t bytes_max;          /* largest message that is accepted; CURVE's overhead is added */
    size_t send_max;           /* largest message that is sent; 0: bytes_max */
    int queue_max;             /* messages queued each way, per peer */
};

/* Who sent a message: copied out, so that an answer can be sent later. */
struct link_peer {
    uint8_t route_id[LINK_ROUTE_ID_MAX];
    uint8_t route_id_len;
    uint8_t key[KEY_BYTES];
    char address[64]; /* IP address of the peer */
    int fd;           /* of the connection, for the link's own books */
};

struct link_message {
    void *data; /* borrowed until link_message_close() */
    size_t size;
    struct link_peer peer; /* listeners only */
    uint64_t opaque[8];    /* the zmq_msg_t */
};

/* endpoint "tcp://0.0.0.0:0" binds an ephemeral port; ERR_CONFLICT when the port is in use, naming it.
 * "tcp://[::]:0" takes IPv4 as well. */
MUST_USE int link_listen(struct link **out, void *zmq_context, const char *endpoint, const struct link_options *o,
                         struct error *e);
uint16_t link_port(const struct link *l); /* of a listener */
MUST_USE int link_dial(struct link **out, void *zmq_context, const char *endpoint,
                       const uint8_t server_key[KEY_BYTES], const struct link_options *o, struct error *e);
void link_close(struct link **l);

void *link_socket(struct link *l); /* for zmq_poll() */
/* 0; ERR_TIMEOUT when nothing is there (never blocks).  Messages that are not one frame of at most bytes_max, or
 * whose sender was revoked, are dropped, counted, and their connection is cut. */
MUST_USE int link_receive(struct link *l, struct link_message *m, struct error *e);
void link_message_close(struct link_message *m);
uint64_t link_dropped(const struct link *l);
/* `to`: NULL on a dial.  ERR_BUSY when the queue is full, ERR_GONE when the peer is not connected (on a dial: while
 * the handshake has not succeeded). */
MUST_USE int link_send(struct link *l, const struct link_peer *to, const void *data, size_t n, struct error *e);
/* Takes *data (freed with mem_free when sent) and clears it: no copy.  After ERR_BUSY it is still the caller's. */
MUST_USE int link_send_take(struct link *l, const struct link_peer *to, void **data, size_t n, struct error *e);

/* Housekeeping, a few times a second: monitor events, undelivered-bytes watchdog. */
void link_watch(struct link *l);
/* Cut every connection of a listener whose key is not in the set, and drop what it still had in the queue; counts
 * those cut.  At every change of the set, after zap_allow(): a key that was cut stays out until a set has it. */
size_t link_revoke(struct link *l, const uint8_t *keys, size_t n);
/* A dial: true while the handshake has succeeded and the connection stands. */
bool link_connected(struct link *l);
/* How often the connection was made: a change means that what was under way may be lost. */
uint32_t link_connections(struct link *l);
/* A dial: the listener said that our key is not allowed.  It is asked again now and then, and may change its mind. */
bool link_refused(struct link *l);
/* A dial: handshakes in a row that the other end broke off: it is not the listener whose key we know, or just dying. */
uint32_t link_broken_handshakes(struct link *l);

/* A context with the house's limits (I/O threads, sockets). NULL never: aborts when the system gives none. */
void *link_context(int io_threads);
void link_context_destroy(void **zmq_context);

/* Start-up self-test of the gate, with the running zap of this context and a domain of its own: a random key
 * and a plain-text client must be refused, an allowed key accepted and seen as
 * itself.  ERR_CONFIG with a sentence otherwise. */
MUST_USE int link_self_test(void *zmq_context, struct zap *zap, struct error *e);

#endif
