/* link_state: what link.c (sockets, messages) and link_watch.c (connections) share.  Not for other folders. */
#ifndef NET_LINK_STATE_H
#define NET_LINK_STATE_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "net/link.h"

/* One TCP connection.  Its file descriptor belongs to libzmq; it is looked at and cut, never read or closed. */
struct connection {
    bool open;
    bool known;    /* key is set: it has delivered a message */
    bool suspect;  /* it stood when a set of keys was made and has not shown its key yet */
    uint8_t key[KEY_BYTES];
    struct sockaddr_storage remote; /* to see that the descriptor is still this connection */
    uint64_t opened_ms;
    uint64_t delivered; /* bytes of the wire whose messages reached us */
};

struct link {
    void *socket, *monitor;
    bool listener;
    uint16_t port;
    size_t bytes_max, send_max;
    int queue_max;
    uint64_t dropped;

    struct connection *connections; /* by file descriptor */
    size_t n_connections;
    uint64_t examined_ms;

    uint8_t *members; /* of the last link_revoke() */
    size_t n_members;
    uint8_t *banned;  /* keys that link_revoke() or a suspect's message found outside the set */
    size_t n_banned;

    /* a dial's */
    char endpoint[320];
    bool connected, refused;
    uint32_t made, broken;
    uint64_t redial_ms; /* when to connect anew unless the monitor says that libzmq does; 0: not needed */
};

/* Opens the monitor of a fresh socket. */
MUST_USE int link_monitor_open(struct link *l, void *zmq_context, struct error *e);
void link_monitor_close(struct link *l);
/* Take what the monitor has to say. */
void link_monitor_drain(struct link *l);
/* A message of `bytes` came in from this descriptor and key: false when it must be dropped. */
bool link_account(struct link *l, int fd, const uint8_t key[KEY_BYTES], size_t bytes);
/* Shut the connection down; libzmq notices and forgets it. */
void link_cut(struct link *l, int fd);

#endif
