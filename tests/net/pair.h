/* pair: a context with its gate, a listener, and peers that knock: what the tests of links share. */
#ifndef TESTS_NET_PAIR_H
#define TESTS_NET_PAIR_H

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "base/clock.h"
#include "net/link.h"

enum { PAIR_BYTES = 64 << 10, PAIR_QUEUE = 8, PATIENCE_MS = 20000 };
#define PAIR_DOMAIN "test"

struct pair {
    void *context;
    struct zap *zap;
    struct link *listener;
    struct keys host, guest, stranger; /* guest is allowed */
};

/* Waits until the condition holds; the deadline is only there to end a broken run. */
#define wait_until(condition)                                        \
    do {                                                             \
        uint64_t until_ = clock_ms() + PATIENCE_MS;                  \
        while (!(condition)) {                                       \
            assert_true(clock_ms() < until_);                        \
            clock_sleep_ms(1);                                       \
        }                                                            \
    } while (0)

static inline struct link_options pair_options(const struct keys *k)
{
    return (struct link_options){.keys = k, .domain = PAIR_DOMAIN, .bytes_max = PAIR_BYTES, .queue_max = PAIR_QUEUE};
}

static inline const char *pair_endpoint(const struct link *listener)
{
    static char text[64];
    snprintf(text, sizeof(text), "tcp://127.0.0.1:%u", link_port(listener));
    return text;
}

static inline struct link *pair_dial(struct pair *p, const struct keys *k)
{
    struct link *l;
    struct link_options o = pair_options(k);
    assert_int_equal(link_dial(&l, p->context, pair_endpoint(p->listener), p->host.public_key, &o, NULL), 0);
    return l;
}

static inline int pair_open(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));
    struct error e;
    *state = p;
    keys_generate(&p->host);
    keys_generate(&p->guest);
    keys_generate(&p->stranger);
    p->context = link_context(1);
    struct link_options o = pair_options(&p->host);
    return zap_start(&p->zap, p->context, &e) != 0 || zap_allow(p->zap, PAIR_DOMAIN, p->guest.public_key, 1, &e) != 0 ||
           link_listen(&p->listener, p->context, "tcp://127.0.0.1:0", &o, &e) != 0;
}

static inline void *pair_end_context(void *arg)
{
    struct pair *p = arg;
    link_context_destroy(&p->context);
    return NULL;
}

/* A test that failed left sockets open, and the context waits for them: it is given up, so that the failure shows. */
static inline int pair_close(void **state)
{
    struct pair *p = *state;
    struct timespec until;
    pthread_t ender;
    link_close(&p->listener);
    zap_stop(&p->zap);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    if (pthread_create(&ender, NULL, pair_end_context, p) != 0 || pthread_timedjoin_np(ender, NULL, &until) != 0)
        return -1;
    free(p);
    return 0;
}

/* One message, waiting for it. */
static inline void pair_receive(struct link *l, struct link_message *m)
{
    wait_until((link_watch(l), link_receive(l, m, NULL) == 0));
}

/* Sends as soon as the link takes it. */
static inline void pair_send(struct link *l, const struct link_peer *to, const void *data, size_t n)
{
    wait_until((link_watch(l), link_send(l, to, data, n, NULL) == 0));
}

/* The text arrives at the listener from that key. */
static inline void pair_expect(struct link *l, const char *text, const struct keys *from)
{
    struct link_message m;
    pair_receive(l, &m);
    assert_int_equal(m.size, strlen(text));
    assert_memory_equal(m.data, text, m.size);
    assert_memory_equal(m.peer.key, from->public_key, KEY_BYTES);
    link_message_close(&m);
}

/* A new guest comes in and is heard, so the listener is well; whatever came before it was dropped or is still out. */
static inline void pair_still_serves(struct pair *p)
{
    struct link *guest = pair_dial(p, &p->guest);
    pair_send(guest, NULL, "well?", 5);
    pair_expect(p->listener, "well?", &p->guest);
    link_close(&guest);
}

/* ---- peers without links ---- */

static inline int pair_tcp(const struct pair *p)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(link_port(p->listener)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

/* Reads until the listener hangs up. */
static inline void pair_wait_hang_up(struct pair *p, int fd)
{
    uint64_t until = clock_ms() + PATIENCE_MS;
    char bytes[4096];
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        assert_true(clock_ms() < until);
        (void)poll(&poll_fd, 1, 10);
        link_watch(p->listener);
        ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            break;
    }
    close(fd);
}

/* A proper CURVE client of libzmq itself, without the house's limits. */
static inline void *pair_raw_dealer(struct pair *p, const struct keys *k)
{
    void *s = zmq_socket(p->context, ZMQ_DEALER);
    int linger = 0;
    assert_non_null(s);
    zmq_setsockopt(s, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_setsockopt(s, ZMQ_CURVE_SERVERKEY, p->host.public_key, KEY_BYTES);
    zmq_setsockopt(s, ZMQ_CURVE_PUBLICKEY, k->public_key, KEY_BYTES);
    zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, k->secret_key, KEY_BYTES);
    return s;
}

#endif
