/* self_test: three clients knock at a listener of their own; only the invited one may come in.
 *
 * The stranger is a proper CURVE client with a key that nobody knows.  The
 * plain one speaks ZMTP 3 with the NULL mechanism over a bare socket: libzmq's
 * own client would hang up by itself, and prove nothing.                     */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "net/link.h"

#define SELF_TEST_DOMAIN "self-test"

/* All of it takes milliseconds; a machine that is busy with other things may take its time. */
enum { GREETING_BYTES = 64, MESSAGE_MAX = 256, TRIAL_MS = 15000 };

struct trial {
    struct link *listener, *guest, *stranger;
    int plain; /* a TCP socket */
    struct keys host, invited, unknown;
    bool sent, heard, plain_ended;
};

/* A whole session of a NULL client in one go: greeting, READY as a DEALER, one message. */
static int dial_plain(uint16_t port)
{
    static const uint8_t ready[] = "\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06" "DEALER" "\x00\x05plain";
    uint8_t bytes[GREETING_BYTES + sizeof(ready) - 1] = {[0] = 0xFF, [9] = 0x7F, [10] = 3};
    memcpy(bytes + 12, "NULL", 4);
    memcpy(bytes + GREETING_BYTES, ready, sizeof(ready) - 1);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 &&
        send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) == (ssize_t)sizeof(bytes))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Has the listener hung up on the plain client?  What it says before (its greeting) is thrown away. */
static bool plain_ended(int fd)
{
    uint8_t bytes[256];
    ssize_t n;
    do
        n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    while (n > 0);
    return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

static int open_trial(struct trial *t, void *zmq_context, struct zap *zap, struct error *e)
{
    char endpoint[64];
    keys_generate(&t->host);
    keys_generate(&t->invited);
    keys_generate(&t->unknown);
    struct link_options listener = {.keys = &t->host, .domain = SELF_TEST_DOMAIN, .bytes_max = MESSAGE_MAX,
                                    .queue_max = 8};
    struct link_options guest = {.keys = &t->invited, .bytes_max = MESSAGE_MAX, .queue_max = 8};
    struct link_options stranger = {.keys = &t->unknown, .bytes_max = MESSAGE_MAX, .queue_max = 8};
    int r = zap_allow(zap, SELF_TEST_DOMAIN, t->invited.public_key, 1, e);
    if (r == 0)
        r = link_listen(&t->listener, zmq_context, "tcp://127.0.0.1:0", &listener, e);
    if (r != 0)
        return r;
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", link_port(t->listener));
    r = link_dial(&t->stranger, zmq_context, endpoint, t->host.public_key, &stranger, e);
    if (r == 0)
        r = link_dial(&t->guest, zmq_context, endpoint, t->host.public_key, &guest, e);
    t->plain = dial_plain(link_port(t->listener));
    if (r == 0 && t->plain < 0)
        r = error_set(e, ERR_CONFIG, "the gate's self-test cannot connect to itself: %s", strerror(errno));
    return r;
}

/* The listener's side: the only message may be the guest's. */
static int take_messages(struct trial *t, struct error *e)
{
    struct link_message m;
    int r = 0;
    while (r == 0 && link_receive(t->listener, &m, NULL) == 0) {
        if (memcmp(m.peer.key, t->invited.public_key, KEY_BYTES) != 0)
            r = error_set(e, ERR_CONFIG, "the gate let in a key that nobody allowed; this libzmq must not be used");
        else
            t->heard = true;
        link_message_close(&m);
    }
    return r;
}

static int try_all(struct trial *t, struct error *e)
{
    uint64_t until = clock_ms() + TRIAL_MS;
    while (clock_ms() < until) {
        zmq_pollitem_t items[2] = {{.socket = link_socket(t->listener), .events = ZMQ_POLLIN},
                                   {.fd = t->plain, .events = t->plain_ended ? 0 : ZMQ_POLLIN}};
        (void)zmq_poll(items, 2, 5);
        link_watch(t->listener);
        if (!t->sent)
            t->sent = link_send(t->guest, NULL, "guest", 5, NULL) == 0;
        if (link_send(t->stranger, NULL, "stranger", 8, NULL) == 0)
            return error_set(e, ERR_CONFIG, "the gate's listener accepted a stranger's key");
        int r = take_messages(t, e);
        if (r != 0)
            return r;
        t->plain_ended = t->plain_ended || plain_ended(t->plain);
        if (t->heard && t->plain_ended && link_refused(t->stranger))
            return 0;
    }
    return error_set(e, ERR_CONFIG, "the gate failed its self-test: %s%s%s",
                     t->heard ? "" : "an allowed key was not let in; ",
                     t->plain_ended ? "" : "a client without encryption was not cut; ",
                     link_refused(t->stranger) ? "" : "an unknown key was not refused; ");
}

int link_self_test(void *zmq_context, struct zap *zap, struct error *e)
{
    struct trial t = {.plain = -1};
    int r = open_trial(&t, zmq_context, zap, e);
    if (r == 0)
        r = try_all(&t, e);
    if (t.plain >= 0)
        close(t.plain);
    link_close(&t.stranger);
    link_close(&t.guest);
    link_close(&t.listener);
    int closed = zap_allow(zap, SELF_TEST_DOMAIN, NULL, 0, r == 0 ? e : NULL);
    keys_wipe(&t.host);
    keys_wipe(&t.invited);
    keys_wipe(&t.unknown);
    return r != 0 ? r : closed;
}
