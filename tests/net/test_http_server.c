/* test_http_server: routing, refusals, bodies, streams and rude clients, over real sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/http_exchange.h"
#include "net/http_server.h"

enum { ANSWER_MAX = 4 << 20, BIG = 1 << 20, PATIENCE_MS = 20000, LIMIT = 16 };

struct fixture {
    struct http_server *server;
    atomic_int streams_closed, done_ok, done_vanished, produced;
    atomic_bool saw_gone;
    atomic_bool release; /* lets the waiting handler go on */
};

/* ---- handlers ---- */

static void on_echo(void *arg, struct http_exchange *x)
{
    size_t n;
    (void)arg;
    const char *body = http_body(x, &n);
    http_reply(x, 200, "text/plain", body, n);
}

static void on_rest(void *arg, struct http_exchange *x)
{
    (void)arg;
    http_reply_header(x, "x-test", "yes");
    http_reply(x, 200, "text/plain", http_rest(x), strlen(http_rest(x)));
}

static void on_silence(void *arg, struct http_exchange *x)
{
    (void)arg;
    (void)x;
}

struct counter {
    struct fixture *f;
    struct http_exchange *x;
    int next, last;
    bool endless;
};

static enum http_produced produce(void *arg, struct buffer *out)
{
    struct counter *c = arg;
    if (c->endless) {
        char block[4096];
        memset(block, 'x', sizeof(block));
        buffer_add(out, block, sizeof(block));
        atomic_fetch_add(&c->f->produced, 1);
        return HTTP_MORE;
    }
    buffer_printf(out, "data: %d\n\n", c->next++);
    return c->next > c->last ? HTTP_END : HTTP_MORE;
}

static enum http_produced produce_broken(void *arg, struct buffer *out)
{
    struct counter *c = arg;
    if (c->next++ > 0)
        return HTTP_BROKEN;
    buffer_add_text(out, "half");
    return HTTP_MORE;
}

static void counter_close(void *arg)
{
    struct counter *c = arg;
    atomic_fetch_add(&c->f->streams_closed, 1);
    mem_free(c);
}

static void open_stream(struct fixture *f, struct http_exchange *x, http_producer producer, bool endless)
{
    struct counter *c = mem_alloc(sizeof(*c));
    *c = (struct counter){ .f = f, .x = x, .last = 4, .endless = endless };
    http_stream(x, "text/event-stream", producer, c, counter_close);
}

static void on_stream(void *arg, struct http_exchange *x)
{
    open_stream(arg, x, produce, false);
}

static void on_endless(void *arg, struct http_exchange *x)
{
    open_stream(arg, x, produce, true);
}

static void on_broken(void *arg, struct http_exchange *x)
{
    open_stream(arg, x, produce_broken, false);
}

/* Waits until its client is gone, as a handler that waits for tokens does. */
static void on_wait(void *arg, struct http_exchange *x)
{
    struct fixture *f = arg;
    while (!http_gone(x) && !http_half_closed(x) && !atomic_load(&f->release))
        clock_sleep_ms(5);
    atomic_store(&f->saw_gone, http_gone(x) || http_half_closed(x));
    if (atomic_load(&f->release))
        http_reply(x, 200, "text/plain", "released", 8);
    else
        http_abandon(x);
}

static bool gate(void *arg, struct http_exchange *x, const struct http_route *route)
{
    (void)arg;
    if ((route->flags & HTTP_USER) == 0)
        return true;
    http_reply(x, 401, "text/plain", "who are you", 11);
    return false;
}

static void on_failure(void *arg, struct http_exchange *x, int status, const char *text)
{
    (void)arg;
    http_reply(x, status, "text/plain", text, strlen(text));
}

static void done(void *arg, const struct http_route *route, int status, uint64_t took_us)
{
    struct fixture *f = arg;
    (void)route;
    (void)took_us;
    atomic_fetch_add(status == 0 ? &f->done_vanished : &f->done_ok, 1);
}

static const struct http_route routes[] = {
    { "POST", "/echo", on_echo, HTTP_BODY, BIG, NULL },
    { "GET", "/rest/", on_rest, HTTP_PREFIX, 0, NULL },
    { "GET", "/stream", on_stream, 0, 0, NULL },
    { "GET", "/endless", on_endless, 0, 0, NULL },
    { "GET", "/broken", on_broken, 0, 0, NULL },
    { "GET", "/wait", on_wait, 0, 0, NULL },
    { "GET", "/silence", on_silence, 0, 0, NULL },
    { "POST", "/closed", on_echo, HTTP_USER | HTTP_BODY, BIG, NULL },
};

static int start_with(void **state, uint32_t ms, uint32_t stall_s)
{
    struct fixture *f = mem_alloc(sizeof(*f));
    struct http_options o = {
        .body_ms = ms,
        .idle_ms = ms,
        .stall_s = stall_s,
        .host = "127.0.0.1",
        .connections_max = LIMIT,
        .routes = routes,
        .n_routes = COUNTOF(routes),
        .arg = f,
        .gate = gate,
        .fail = on_failure,
        .done = done,
    };
    struct error e = { 0 };
    *state = f;
    return http_server_start(&f->server, &o, &e);
}

static int start(void **state)
{
    return start_with(state, 0, 0);
}

static int start_hasty(void **state)
{
    return start_with(state, 300, 1);
}

static int stop(void **state)
{
    struct fixture *f = *state;
    http_server_stop(&f->server);
    mem_free(f);
    return 0;
}

/* ---- a client that says exactly what it is told ---- */

static int dial(const struct fixture *f)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(http_server_port(f->server)) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void say(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* cut: what it answered is looked at */
        text += sent;
        n -= (size_t)sent;
    }
}

/* Everything until the server closes. */
static char *hear(int fd)
{
    char *text = mem_alloc(ANSWER_MAX);
    size_t n = 0;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    while (n + 1 < ANSWER_MAX && poll(&p, 1, PATIENCE_MS) > 0) {
        ssize_t got = recv(fd, text + n, ANSWER_MAX - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    text[n] = '\0';
    return text;
}

/* One exchange of raw bytes. Caller frees. */
static char *exchange(const struct fixture *f, const char *request)
{
    int fd = dial(f);
    say(fd, request, strlen(request));
    char *answer = hear(fd);
    close(fd);
    return answer;
}

static int status_of(const char *answer)
{
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

static void wait_for(atomic_int *counter, int value)
{
    for (int i = 0; i < PATIENCE_MS / 5 && atomic_load(counter) < value; i++)
        clock_sleep_ms(5);
    assert_true(atomic_load(counter) >= value);
}

#define HOST "Host: localhost\r\nConnection: close\r\n"

/* ---- tests ---- */

static void test_requests_get_the_status_they_deserve(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *part; /* of the answer */
    } rows[] = {
        { "GET /rest/a%2Fb HTTP/1.1\r\n" HOST "\r\n", 200, "\r\n\r\na/b" },
        { "GET /rest/a/b:c/ HTTP/1.1\r\n" HOST "\r\n", 200, "\r\n\r\na/b:c" },
        { "GET /rest/x HTTP/1.1\r\n" HOST "\r\n", 200, "x-test: yes" },
        { "HEAD /rest/x HTTP/1.1\r\n" HOST "\r\n", 200, "Content-Length: 1" },
        { "GET /stream?x=1 HTTP/1.1\r\n" HOST "\r\n", 200, "data: 4\n\n" },
        { "GET /nothing HTTP/1.1\r\n" HOST "\r\n", 404, "there is no /nothing here" },
        { "GET /rest HTTP/1.1\r\n" HOST "\r\n", 404, "" },
        { "GET /stream/../x HTTP/1.1\r\n" HOST "\r\n", 404, "" },
        { "DELETE /stream HTTP/1.1\r\n" HOST "\r\n", 405, "Allow: GET" },
        { "OPTIONS /echo HTTP/1.1\r\n" HOST "\r\n", 405, "Allow: POST" },
        { "GET /stream%00 HTTP/1.1\r\n" HOST "\r\n", 400, "path" },
        { "GET /stream%0d%0aX: HTTP/1.1\r\n" HOST "\r\n", 400, "path" },
        { "GET /stream%zz HTTP/1.1\r\n" HOST "\r\n", 400, "path" },
        { "GET /silence HTTP/1.1\r\n" HOST "\r\n", 500, "no answer" },
        { "POST /echo HTTP/1.1\r\n" HOST "\r\n", 411, "Content-Length" },
        { "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 200, "\r\n\r\nhello" },
        { "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", 200,
          "\r\n\r\nhello" },
        { "POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nzz", 415, "compressed" },
        { "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400, "ambiguous" },
        { "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "" },
        { "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "" },
        { "POST /echo HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", 400, "" },
        { "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n", 413, "larger" },
        { "POST /closed HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 401, "who are you" },
        { "POST /closed HTTP/1.1\r\n" HOST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", 401, "" },
        { "GET /stream HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "" }, /* no Host */
        { "GET /rest/x HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", 400, "head" },
        { "GET /rest/x HTTP/1.1\r\n" HOST "X: a\nY: b\r\n\r\n", 400, "head" },
        { "GET /rest/x HTTP/1.1\r\n" HOST "Host: evil.example\r\n\r\n", 400, "head" },
        { "POST /echo HTTP/1.1\r\n" HOST "Expect: 200\r\nContent-Length: 5\r\n\r\nhello", 417, "Expect" },
        { "GET /rest/x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 403, "Host" },
        { "GET /rest/x HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\nConnection: close\r\n\r\n", 403, "Host" },
        { "GET /rest/x HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close\r\n\r\n", 200, "" },
        { "GET /rest/x HTTP/1.1\r\n" HOST "Origin: https://evil.example\r\n\r\n", 403, "Origin" },
        { "GET /rest/x HTTP/1.1\r\n" HOST "Origin: null\r\n\r\n", 403, "Origin" },
        { "GET /rest/x HTTP/1.1\r\n" HOST "Origin: http://localhost:3000\r\n\r\n", 200, "" },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char *answer = exchange(*state, rows[i].request);
        if (status_of(answer) != rows[i].status || strstr(answer, rows[i].part) == NULL)
            fail_msg("%s\nwas answered\n%s", rows[i].request, answer);
        mem_free(answer);
    }
}

static void test_a_stream_arrives_in_pieces_and_in_order(void **state)
{
    char *answer = exchange(*state, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    assert_non_null(strstr(answer, "Content-Type: text/event-stream\r\n"));
    const char *expected = "\r\n\r\n9\r\ndata: 0\n\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n9\r\ndata: 3\n\n\r\n"
                           "9\r\ndata: 4\n\n\r\n0\r\n\r\n";
    assert_non_null(strstr(answer, expected));
    mem_free(answer);
}

static void test_a_broken_stream_does_not_look_whole(void **state)
{
    char *answer = exchange(*state, "GET /broken HTTP/1.1\r\n" HOST "\r\n");
    assert_non_null(strstr(answer, "half"));
    assert_null(strstr(answer, "0\r\n\r\n"));
    mem_free(answer);
}

static void test_a_connection_serves_several_requests(void **state)
{
    const char *request = "GET /rest/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
                          "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
                          "GET /rest/3 HTTP/1.1\r\n" HOST "\r\n";
    char *answer = exchange(*state, request);
    const char *second = strstr(answer + 1, "HTTP/1.1 200");
    assert_non_null(second);
    assert_non_null(strstr(second + 1, "HTTP/1.1 200"));
    assert_non_null(strstr(second, "\r\n\r\nhi"));
    mem_free(answer);
}

/* The refusal of a body that was already on its way reaches the client. */
static void test_a_huge_body_is_refused_in_words(void **state)
{
    struct fixture *f = *state;
    static const bool chunked[] = { false, true };
    for (size_t k = 0; k < COUNTOF(chunked); k++) {
        int fd = dial(f);
        char head[200], block[65536 + 16];
        snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\n" HOST "%s%s", chunked[k] ? "Transfer-Encoding: chunked" :
                 "Content-Length: 4194304", "\r\n\r\n");
        say(fd, head, strlen(head));
        for (int i = 0; i < 64; i++) {
            size_t n = 0;
            if (chunked[k])
                n = (size_t)snprintf(block, 16, "10000\r\n");
            memset(block + n, 'a', 65536);
            n += 65536;
            if (chunked[k]) {
                memcpy(block + n, "\r\n", 2);
                n += 2;
            }
            say(fd, block, n);
        }
        if (chunked[k])
            say(fd, "0\r\n\r\n", 5);
        char *answer = hear(fd);
        assert_int_equal(status_of(answer), 413);
        mem_free(answer);
        close(fd);
    }
}

static void test_a_header_without_end_is_refused(void **state)
{
    int fd = dial(*state);
    say(fd, "GET /stream HTTP/1.1\r\nX: ", 25);
    char block[4096];
    memset(block, 'h', sizeof(block));
    for (int i = 0; i < 64; i++)
        say(fd, block, sizeof(block));
    char *answer = hear(fd);
    int status = status_of(answer);
    assert_true(status == 431 || status == 413 || status == 0);
    mem_free(answer);
    close(fd);
}

static void test_a_handler_sees_that_its_client_is_gone(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    const char *request = "GET /wait HTTP/1.1\r\n" HOST "\r\n";
    say(fd, request, strlen(request));
    clock_sleep_ms(50);
    close(fd);
    wait_for(&f->done_vanished, 1);
    assert_true(atomic_load(&f->saw_gone));
}

static void test_a_reader_that_stops_reading_stops_its_producer(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    const char *request = "GET /endless HTTP/1.1\r\n" HOST "\r\n";
    say(fd, request, strlen(request));
    wait_for(&f->produced, 1);
    /* Produced until the sockets' buffers are full, then no more. */
    int before, after = -1;
    for (int i = 0; i < 400; i++) {
        before = after;
        after = atomic_load(&f->produced);
        if (before == after)
            break;
        clock_sleep_ms(50);
    }
    assert_int_equal(before, after);
    assert_int_equal(atomic_load(&f->streams_closed), 0);
    close(fd);
    wait_for(&f->streams_closed, 1);
    wait_for(&f->done_vanished, 1);
}

static void test_a_stop_ends_what_waits(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    const char *request = "GET /wait HTTP/1.1\r\n" HOST "\r\n";
    say(fd, request, strlen(request));
    for (int i = 0; i < 1000 && http_server_connections(f->server) == 0; i++)
        clock_sleep_ms(5);
    clock_sleep_ms(50);
    http_server_stop(&f->server);
    char *answer = hear(fd);
    assert_string_equal(answer, "");
    mem_free(answer);
    close(fd);
}

/* Idle connections, more than are taken, do not lock a newcomer out who comes behind them. */
static void test_idle_connections_give_way(void **state)
{
    struct fixture *f = *state;
    int idle[150];
    for (size_t i = 0; i < COUNTOF(idle); i++)
        idle[i] = dial(f);
    for (int i = 0; i < 1000 && http_server_connections(f->server) < LIMIT; i++)
        clock_sleep_ms(5);
    char *answer = NULL;
    for (int i = 0; i < 20 && (answer == NULL || status_of(answer) != 200); i++) {
        mem_free(answer);
        clock_sleep_ms(answer == NULL ? 0 : 500);
        answer = exchange(f, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi");
    }
    assert_int_equal(status_of(answer), 200);
    mem_free(answer);
    for (size_t i = 0; i < COUNTOF(idle); i++)
        close(idle[i]);
}

/* With all connections at work a request for more is told so at once; one for news is answered. */
static void test_busy_connections_are_said_to_be(void **state)
{
    struct fixture *f = *state;
    int busy[LIMIT];
    const char *wait = "GET /wait HTTP/1.1\r\n" HOST "\r\n";
    for (size_t i = 0; i < COUNTOF(busy); i++) {
        busy[i] = dial(f);
        say(busy[i], wait, strlen(wait));
    }
    for (int i = 0; i < 1000 && http_server_connections(f->server) < COUNTOF(busy); i++)
        clock_sleep_ms(5);
    const char *work = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi";
    char *answer = exchange(f, work);
    assert_int_equal(status_of(answer), 429);
    mem_free(answer);
    answer = exchange(f, "GET /rest/x HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(status_of(answer), 200);
    mem_free(answer);
    atomic_store(&f->release, true);
    for (size_t i = 0; i < COUNTOF(busy); i++) {
        answer = hear(busy[i]);
        assert_int_equal(status_of(answer), 200);
        mem_free(answer);
        close(busy[i]);
    }
    for (int i = 0; i < 1000 && http_server_connections(f->server) > 0; i++)
        clock_sleep_ms(5);
    answer = exchange(f, work);
    assert_int_equal(status_of(answer), 200);
    mem_free(answer);
}

/* A byte now and then until the server has had enough. */
static void *dawdle(void *arg)
{
    int fd = *(int *)arg;
    for (int i = 0; i < PATIENCE_MS / 50 && send(fd, "a", 1, MSG_NOSIGNAL) == 1; i++)
        clock_sleep_ms(50);
    return NULL;
}

/* Whoever sends its head or its body a byte at a time, or does not read its stream, is cut at the deadline; meanwhile
 * others are served. */
static void test_those_that_dawdle_are_cut(void **state)
{
    static const char *const requests[] = {
        "GET /rest/x HTTP/1.1\r\nX: ",
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nfffff\r\n",
        "GET /endless HTTP/1.1\r\n" HOST "\r\n",
    };
    struct fixture *f = *state;
    pthread_t threads[COUNTOF(requests)];
    int fds[COUNTOF(requests)];
    for (size_t i = 0; i < COUNTOF(requests); i++) {
        fds[i] = dial(f);
        say(fds[i], requests[i], strlen(requests[i]));
        if (i + 1 < COUNTOF(requests)) /* the last one only does not read */
            assert_int_equal(pthread_create(&threads[i], NULL, dawdle, &fds[i]), 0);
    }
    wait_for(&f->produced, 1);
    char *other = exchange(f, "GET /rest/x HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(status_of(other), 200);
    mem_free(other);
    wait_for(&f->streams_closed, 1);
    for (size_t i = 0; i + 1 < COUNTOF(requests); i++) {
        pthread_join(threads[i], NULL);
        char *answer = hear(fds[i]);
        assert_int_equal(status_of(answer), 0);
        mem_free(answer);
    }
    for (size_t i = 0; i < COUNTOF(requests); i++)
        close(fds[i]);
    for (int i = 0; i < PATIENCE_MS / 5 && http_server_connections(f->server) > 0; i++)
        clock_sleep_ms(5);
    assert_int_equal(http_server_connections(f->server), 0);
}

static void test_a_port_in_use_is_named(void **state)
{
    struct fixture *f = *state;
    struct http_options o = {
        .host = "127.0.0.1",
        .port = http_server_port(f->server),
        .connections_max = 4,
        .routes = routes,
        .n_routes = COUNTOF(routes),
        .fail = on_failure,
    };
    struct http_server *other = NULL;
    struct error e = { 0 };
    assert_true(http_server_is_local(f->server));
    assert_int_equal(http_server_start(&other, &o, &e), ERR_CONFLICT);
    char port[8];
    snprintf(port, sizeof(port), "%u", o.port);
    assert_non_null(strstr(e.text, port));
    o.host = "no.such.host.invalid";
    assert_int_equal(http_server_start(&other, &o, &e), ERR_INVALID);
}

static void test_names(void **state)
{
    (void)state;
    assert_true(http_host_is_local("LOCALHOST:1"));
    assert_true(http_host_is_local("127.8.9.1"));
    assert_true(http_host_is_local("a.localhost:80"));
    assert_true(http_host_is_local("[::1]"));
    assert_false(http_host_is_local(""));
    assert_false(http_host_is_local("[::1"));
    assert_false(http_host_is_local("localhost.evil"));
    assert_true(http_host_is_local("host.docker.internal:8080"));
    assert_true(http_host_is_local("host.containers.internal"));
    assert_false(http_host_is_local("evil.host.docker.internal"));
    assert_false(http_host_is_local("host.docker.internal.evil"));
    assert_false(http_host_is_local("127.0.0.1x"));
    assert_true(http_origin_allowed("http://box.lan:8080", "box.lan:8080"));
    assert_false(http_origin_allowed("http://box.lan:8080", "other.lan:8080"));
    assert_false(http_origin_allowed("http://box.lan", NULL));
    assert_false(http_origin_allowed("file://localhost", "localhost"));
    assert_true(http_origin_is_local("http://localhost:3000"));
    assert_true(http_origin_is_local("https://127.0.0.1"));
    assert_true(http_origin_is_local("app://obsidian.md"));
    assert_true(http_origin_is_local("vscode-webview://0a1b"));
    assert_false(http_origin_is_local("http://app.example"));
    assert_false(http_origin_is_local("https://localhost.evil"));
    assert_false(http_origin_is_local("null"));
    assert_false(http_origin_is_local("file://localhost"));
    char path[HTTP_PATH_MAX];
    assert_true(http_path_decode("/a%20b//", path));
    assert_string_equal(path, "/a b");
    assert_true(http_path_decode("//v1//models///a", path));
    assert_string_equal(path, "/v1/models/a");
    assert_true(http_path_decode("///", path));
    assert_string_equal(path, "/");
    assert_false(http_path_decode("*", path));
    assert_false(http_path_decode("/%", path));
    assert_false(http_path_decode("/%1", path));
    char long_url[HTTP_PATH_MAX + 10];
    memset(long_url, 'a', sizeof(long_url));
    long_url[0] = '/';
    long_url[HTTP_PATH_MAX] = '\0';
    assert_false(http_path_decode(long_url, path));
    long_url[HTTP_PATH_MAX - 1] = '\0';
    assert_true(http_path_decode(long_url, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_requests_get_the_status_they_deserve, start, stop),
        cmocka_unit_test_setup_teardown(test_a_stream_arrives_in_pieces_and_in_order, start, stop),
        cmocka_unit_test_setup_teardown(test_a_broken_stream_does_not_look_whole, start, stop),
        cmocka_unit_test_setup_teardown(test_a_connection_serves_several_requests, start, stop),
        cmocka_unit_test_setup_teardown(test_a_huge_body_is_refused_in_words, start, stop),
        cmocka_unit_test_setup_teardown(test_a_header_without_end_is_refused, start, stop),
        cmocka_unit_test_setup_teardown(test_a_handler_sees_that_its_client_is_gone, start, stop),
        cmocka_unit_test_setup_teardown(test_a_reader_that_stops_reading_stops_its_producer, start, stop),
        cmocka_unit_test_setup_teardown(test_a_stop_ends_what_waits, start, stop),
        cmocka_unit_test_setup_teardown(test_idle_connections_give_way, start, stop),
        cmocka_unit_test_setup_teardown(test_busy_connections_are_said_to_be, start, stop),
        cmocka_unit_test_setup_teardown(test_those_that_dawdle_are_cut, start_hasty, stop),
        cmocka_unit_test_setup_teardown(test_a_port_in_use_is_named, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
