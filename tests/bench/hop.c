/* hop: what one hop of a route costs, taken apart: hop [WIDTH [ROWS]] (4096-byte rows: WIDTH 1024).
 *
 * Two processes throw a step's frame to and fro over an encrypted loopback
 * link, first without a pause, then with pauses in which the cores fall
 * asleep, as they do while another stage computes.  Writing and reading the
 * frame, and CURVE's cipher over its bytes, are timed alone.                */
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "net/link.h"
#include "net/zap.h"
#include "proto/frame.h"

enum { ROUNDS = 4000, PAUSED_ROUNDS = 300, PAUSE_MS = 8, WAIT_MS = 5000, QUEUE = 64 };

struct hop {
    struct keys host, guest;
    struct frame frame;
    struct buffer bytes;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), compare);
    return v[n / 2];
}

static struct link_options options(const struct keys *k)
{
    return (struct link_options){.keys = k, .domain = "data", .bytes_max = FRAME_BYTES_MAX, .queue_max = QUEUE};
}

/* Every message back to who sent it, until nothing comes for a while. */
static int answer(const struct hop *h, int port_to)
{
    struct error e = {0};
    struct link *l;
    struct zap *zap;
    void *context = link_context(1);
    struct link_options o = options(&h->host);
    struct link_message m;
    if (zap_start(&zap, context, &e) != 0 || zap_allow(zap, "data", h->guest.public_key, 1, &e) != 0 ||
        link_listen(&l, context, "tcp://127.0.0.1:0", &o, &e) != 0)
        return fprintf(stderr, "hop: %s\n", e.text), 1;
    uint16_t port = link_port(l);
    if (write(port_to, &port, sizeof(port)) != sizeof(port))
        return 1;
    zmq_pollitem_t item = {.socket = link_socket(l), .events = ZMQ_POLLIN};
    while (zmq_poll(&item, 1, WAIT_MS) > 0)
        while (link_receive(l, &m, NULL) == 0) {
            (void)!link_send(l, &m.peer, m.data, m.size, NULL);
            link_message_close(&m);
        }
    link_close(&l);
    zap_stop(&zap);
    link_context_destroy(&context);
    return 0;
}

/* Half of a round trip, in microseconds; 0: no answer. */
static double throw_once(const struct hop *h, struct link *l)
{
    struct link_message m;
    zmq_pollitem_t item = {.socket = link_socket(l), .events = ZMQ_POLLIN};
    uint64_t start = clock_ns();
    if (link_send(l, NULL, h->bytes.data, h->bytes.len, NULL) != 0)
        return 0;
    while (link_receive(l, &m, NULL) != 0)
        if (zmq_poll(&item, 1, WAIT_MS) <= 0)
            return 0;
    double us = (double)(clock_ns() - start) / 2e3;
    link_message_close(&m);
    return us;
}

static double throw_many(const struct hop *h, struct link *l, size_t rounds, uint64_t pause_ms)
{
    static double us[ROUNDS];
    for (size_t i = 0; i < rounds; i++) {
        if (pause_ms)
            clock_sleep_ms(pause_ms);
        us[i] = throw_once(h, l);
    }
    return median(us, rounds);
}

static double time_codec(struct hop *h)
{
    static double us[ROUNDS];
    struct frame_store *store = frame_store_create();
    for (size_t i = 0; i < ROUNDS; i++) {
        struct frame f;
        uint64_t start = clock_ns();
        if (frame_encode(&h->bytes, &h->frame, NULL) != 0 ||
            frame_decode(&f, store, h->bytes.data, h->bytes.len, NULL) != 0)
            return 0;
        us[i] = (double)(clock_ns() - start) / 1e3;
    }
    frame_store_destroy(&store);
    return median(us, ROUNDS);
}

/* Sealed once and opened once. */
static double time_cipher(const struct hop *h)
{
    static double us[ROUNDS];
    uint8_t shared[crypto_box_BEFORENMBYTES], nonce[crypto_box_NONCEBYTES] = {0};
    size_t n = h->bytes.len;
    uint8_t *sealed = malloc(n + crypto_box_MACBYTES);
    if (!sealed || crypto_box_beforenm(shared, h->host.public_key, h->guest.secret_key) != 0)
        return 0;
    for (size_t i = 0; i < ROUNDS; i++) {
        uint64_t start = clock_ns();
        crypto_box_easy_afternm(sealed, (const uint8_t *)h->bytes.data, n, nonce, shared);
        (void)!crypto_box_open_easy_afternm(sealed, sealed, n + crypto_box_MACBYTES, nonce, shared);
        us[i] = (double)(clock_ns() - start) / 1e3;
    }
    free(sealed);
    return median(us, ROUNDS);
}

static int measure(struct hop *h, uint16_t port)
{
    struct error e = {0};
    struct link *l;
    void *context = link_context(1);
    struct link_options o = options(&h->guest);
    char endpoint[64];
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", port);
    if (link_dial(&l, context, endpoint, h->host.public_key, &o, &e) != 0)
        return fprintf(stderr, "hop: %s\n", e.text), 1;
    for (int i = 0; i < WAIT_MS && !link_connected(l); i++) {
        link_watch(l);
        clock_sleep_ms(1);
    }
    double codec = time_codec(h), cipher = time_cipher(h);
    double busy = throw_many(h, l, ROUNDS, 0), idle = throw_many(h, l, PAUSED_ROUNDS, PAUSE_MS);
    printf("a frame of %zu bytes, one way, median microseconds\n", h->bytes.len);
    printf("%8.1f  frame written, checked and read\n%8.1f  sealed and opened (XSalsa20-Poly1305)\n", codec, cipher);
    printf("%8.1f  whole hop, both ends awake: %.1f of it wake-ups, queues and the kernel's TCP\n", busy,
           busy - cipher);
    printf("%8.1f  whole hop after %d ms of rest: %.1f more for cores that slept\n", idle, PAUSE_MS, idle - busy);
    link_close(&l);
    link_context_destroy(&context);
    return busy > 0 && idle > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    unsigned long width = argc > 1 ? strtoul(argv[1], NULL, 10) : 1024;
    unsigned long rows = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    if (width < 1 || width > 16384 || rows < 1 || rows * width * sizeof(float) > FRAME_CHUNK_MAX)
        return fprintf(stderr, "usage: hop [WIDTH [ROWS]], of at most %d bytes\n", FRAME_CHUNK_MAX), 64;
    int pipes[2], status = 1;
    struct hop h = {0};
    struct frame_row *row = calloc(rows, sizeof(*row));
    float *data = calloc(rows * width, sizeof(*data));
    if (!row || !data || keys_init(NULL) != 0 || pipe(pipes) != 0)
        return 1;
    keys_generate(&h.host);
    keys_generate(&h.guest);
    randombytes_buf(data, rows * width * sizeof(*data));
    buffer_init(&h.bytes, FRAME_BYTES_MAX);
    h.frame = (struct frame){.header = {.kind = FRAME_STEP, .chunks = 1, .route = 1, .step = 1, .stage = 1,
                                        .rows = (uint32_t)rows, .width = (uint32_t)width},
                             .rows = row, .n_rows = (uint32_t)rows, .data = (const uint8_t *)data,
                             .data_bytes = rows * width * sizeof(*data)};
    pid_t child = fork();
    if (child == 0)
        return answer(&h, pipes[1]);
    uint16_t port;
    if (read(pipes[0], &port, sizeof(port)) == sizeof(port))
        status = measure(&h, port);
    waitpid(child, NULL, 0);
    buffer_close(&h.bytes);
    free(row);
    free(data);
    return status;
}
