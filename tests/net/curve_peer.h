/* curve_peer: a CurveZMQ client (RFC 26) over a bare TCP socket, to send what libzmq's own never would. */
#ifndef TESTS_NET_CURVE_PEER_H
#define TESTS_NET_CURVE_PEER_H

#include <sodium.h>

#include "tests/net/pair.h"

struct curve_peer {
    int fd;
    uint8_t short_public[32], short_secret[32]; /* C', c' */
    uint8_t server_short[32];                   /* S' */
    uint64_t nonce;
};

static inline bool curve_write(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

static inline bool curve_read(int fd, void *data, size_t n)
{
    char *p = data;
    while (n > 0) {
        ssize_t got = recv(fd, p, n, 0);
        if (got <= 0)
            return false;
        p += got;
        n -= (size_t)got;
    }
    return true;
}

/* One ZMTP frame: flags 0x04 is a command, 0x02 a long one. */
static inline bool curve_frame(int fd, uint8_t flags, const void *body, size_t n)
{
    uint8_t head[9] = {flags};
    size_t head_bytes = 2;
    if (n > 255) {
        head[0] |= 2;
        for (int i = 0; i < 8; i++)
            head[1 + i] = (uint8_t)((uint64_t)n >> (8 * (7 - i)));
        head_bytes = 9;
    } else {
        head[1] = (uint8_t)n;
    }
    return curve_write(fd, head, head_bytes) && curve_write(fd, body, n);
}

static inline void curve_nonce(uint8_t nonce[24], const char *prefix, size_t prefix_bytes, const void *rest)
{
    memcpy(nonce, prefix, prefix_bytes);
    memcpy(nonce + prefix_bytes, rest, 24 - prefix_bytes);
}

static inline void curve_count(struct curve_peer *c, uint8_t out[8])
{
    c->nonce++;
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(c->nonce >> (8 * (7 - i)));
}

/* The 64 bytes that open a ZMTP 3.0 connection. */
static inline void curve_greeting(uint8_t greeting[64], const char *mechanism)
{
    memset(greeting, 0, 64);
    greeting[0] = 0xFF;
    greeting[9] = 0x7F;
    greeting[10] = 3;
    memcpy(greeting + 12, mechanism, strlen(mechanism));
}

static inline size_t curve_hello(struct curve_peer *c, const uint8_t server_key[32], uint8_t hello[200])
{
    static const uint8_t zeros[64];
    uint8_t nonce[24];
    crypto_box_keypair(c->short_public, c->short_secret);
    memset(hello, 0, 200);
    memcpy(hello, "\x05HELLO\x01\x00", 8);
    memcpy(hello + 80, c->short_public, 32);
    curve_count(c, hello + 112);
    curve_nonce(nonce, "CurveZMQHELLO---", 16, hello + 112);
    return crypto_box_easy(hello + 120, zeros, sizeof(zeros), nonce, server_key, c->short_secret) == 0 ? 200 : 0;
}

/* Reads WELCOME (168 bytes in a short command frame) and keeps S'; the cookie goes out. */
static inline bool curve_welcome(struct curve_peer *c, const uint8_t server_key[32], uint8_t cookie[96])
{
    uint8_t frame[170], nonce[24], open[128];
    if (!curve_read(c->fd, frame, sizeof(frame)))
        return false;
    curve_nonce(nonce, "WELCOME-", 8, frame + 10);
    if (crypto_box_open_easy(open, frame + 26, 144, nonce, server_key, c->short_secret) != 0)
        return false;
    memcpy(c->server_short, open, 32);
    memcpy(cookie, open + 32, 96);
    return true;
}

static inline bool curve_initiate(struct curve_peer *c, const struct keys *k, const uint8_t server_key[32],
                                  const uint8_t cookie[96])
{
    static const char metadata[] = "\x0bSocket-Type\x00\x00\x00\x06" "DEALER";
    uint8_t nonce[24], vouch[64], plain[32 + 96 + sizeof(metadata) - 1];
    uint8_t command[9 + 96 + 8 + 16 + sizeof(plain)];
    memcpy(plain, k->public_key, 32);
    randombytes_buf(plain + 32, 16);
    curve_nonce(nonce, "VOUCH---", 8, plain + 32);
    memcpy(vouch, c->short_public, 32);
    memcpy(vouch + 32, server_key, 32);
    if (crypto_box_easy(plain + 48, vouch, sizeof(vouch), nonce, c->server_short, k->secret_key) != 0)
        return false;
    memcpy(plain + 128, metadata, sizeof(metadata) - 1);
    memcpy(command, "\x08INITIATE", 9);
    memcpy(command + 9, cookie, 96);
    curve_count(c, command + 105);
    curve_nonce(nonce, "CurveZMQINITIATE", 16, command + 105);
    return crypto_box_easy(command + 113, plain, sizeof(plain), nonce, c->server_short, c->short_secret) == 0 &&
           curve_frame(c->fd, 4, command, sizeof(command));
}

/* The whole handshake; false when the server hangs up instead of READY. */
static inline bool curve_open(struct curve_peer *c, struct pair *p, const struct keys *k)
{
    uint8_t greeting[64], hello[200], cookie[96], head[2], ready[255];
    memset(c, 0, sizeof(*c));
    c->fd = pair_tcp(p);
    curve_greeting(greeting, "CURVE");
    return curve_write(c->fd, greeting, 64) && curve_read(c->fd, greeting, 64) &&
           curve_frame(c->fd, 4, hello, curve_hello(c, p->host.public_key, hello)) &&
           curve_welcome(c, p->host.public_key, cookie) && curve_initiate(c, k, p->host.public_key, cookie) &&
           curve_read(c->fd, head, 2) && head[0] == 4 && curve_read(c->fd, ready, head[1]) &&
           memcmp(ready, "\x05READY", 6) == 0;
}

/* An encrypted message frame of flags (1: more follow); body at most 64 KiB. */
static inline size_t curve_seal(struct curve_peer *c, uint8_t flags, const void *body, size_t n, uint8_t *out)
{
    static uint8_t plain[1 + (64 << 10)];
    uint8_t nonce[24];
    plain[0] = flags;
    memcpy(plain + 1, body, n);
    memcpy(out, "\x07MESSAGE", 8);
    curve_count(c, out + 8);
    curve_nonce(nonce, "CurveZMQMESSAGEC", 16, out + 8);
    assert_int_equal(crypto_box_easy(out + 16, plain, n + 1, nonce, c->server_short, c->short_secret), 0);
    return 16 + 16 + n + 1;
}

static inline bool curve_send(struct curve_peer *c, uint8_t flags, const void *body, size_t n)
{
    static uint8_t sealed[64 + (64 << 10)];
    return curve_frame(c->fd, 0, sealed, curve_seal(c, flags, body, n, sealed));
}

#endif
