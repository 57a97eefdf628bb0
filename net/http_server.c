/* http_server: the listener, its connections, and the thread that cuts those that dawdle.
 *
 * libmicrohttpd gives every connection a thread, so that handlers may block.
 * It knows inactivity only: a client that sends a header byte a second is
 * active for ever.  The reaper therefore looks at each connection's state once
 * a second and shuts down the socket of one that has been too long in it; the
 * connection's thread then finds it closed.  A connection leaves the list,
 * under the lock, before its socket is closed, so that the reaper never shuts
 * down a stranger's descriptor.                                              */
#include "net/http_server.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/http_exchange.h"

enum { BACKLOG = 256, STACK_BYTES = 2 << 20, CROWDED_IDLE_MS = 1000 };

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode at)
{
    struct http_server *s = cls;
    struct http_connection *c = *context;
    if (at == MHD_CONNECTION_NOTIFY_STARTED) {
        c = mem_alloc(sizeof(*c));
        c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        c->since_ms = clock_ms();
        *context = c;
    }
    pthread_mutex_lock(&s->lock);
    if (at == MHD_CONNECTION_NOTIFY_STARTED) {
        c->next = s->connections;
        if (c->next != NULL)
            c->next->previous = c;
        s->connections = c;
        s->n_connections++;
    } else {
        if (c->next != NULL)
            c->next->previous = c->previous;
        if (c->previous != NULL)
            c->previous->next = c->next;
        else
            s->connections = c->next;
        s->n_connections--;
    }
    pthread_mutex_unlock(&s->lock);
    if (at != MHD_CONNECTION_NOTIFY_STARTED)
        mem_free(c);
}

void http_connection_enter(struct http_server *s, struct http_connection *c, enum connection_state state)
{
    pthread_mutex_lock(&s->lock);
    c->state = state;
    c->since_ms = clock_ms();
    pthread_mutex_unlock(&s->lock);
}

/* Cut what is overdue; at the limit of connections those that idle give way at once. */
static void reap(struct http_server *s, uint64_t now_ms)
{
    bool crowded = s->n_connections >= s->options.connections_max;
    uint64_t idle_ms = crowded && CROWDED_IDLE_MS < s->options.idle_ms ? CROWDED_IDLE_MS : s->options.idle_ms;
    for (struct http_connection *c = s->connections; c != NULL; c = c->next) {
        uint64_t age = now_ms - c->since_ms;
        if ((c->state == CONNECTION_WAITING && age > idle_ms) ||
            (c->state == CONNECTION_BODY && age > s->options.body_ms))
            shutdown(c->fd, SHUT_RDWR);
    }
}

static void *run_reaper(void *arg)
{
    struct http_server *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!atomic_load(&s->stopping)) {
        struct timespec at;
        clock_gettime(CLOCK_REALTIME, &at);
        at.tv_sec += 1;
        pthread_cond_timedwait(&s->wake, &s->lock, &at);
        reap(s, clock_ms());
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    if (getsockname(fd, (struct sockaddr *)&a, &len) != 0)
        return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}

static int listen_at(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int open_listener(struct http_server *s, int *fd, struct error *e)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
    char port[8];
    snprintf(port, sizeof(port), "%u", s->options.port);
    int rc = getaddrinfo(s->options.host, port, &hints, &list);
    if (rc != 0)
        return error_set(e, ERR_INVALID, "cannot listen on \"%s\": %s", s->options.host, gai_strerror(rc));
    *fd = -1;
    errno = EADDRNOTAVAIL;
    for (const struct addrinfo *ai = list; ai != NULL && *fd < 0; ai = ai->ai_next) {
        *fd = listen_at(ai);
        s->loopback = is_loopback(ai->ai_addr);
    }
    freeaddrinfo(list);
    if (*fd >= 0)
        return 0;
    if (errno == EADDRINUSE)
        return error_set(e, ERR_CONFLICT, "port %s of %s is in use by another process", port, s->options.host);
    return error_set(e, errno == EACCES ? ERR_DENIED : ERR_IO, "cannot listen on %s:%s: %s", s->options.host, port,
                     strerror(errno));
}

/* Later versions take lines that http_lines.c refuses only when they are told to. */
#if MHD_VERSION < 0x00097701
#define HTTP_STRICT MHD_OPTION_STRICT_FOR_CLIENT, 1
#else
#define HTTP_STRICT MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1
#endif

#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* Leave the URL as it came: http_path_decode() refuses what MHD would silently shorten. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static struct MHD_Daemon *start_daemon(struct http_server *s, int fd)
{
    const unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
                           (s->tls.cert != NULL ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_MEM_CERT, 0, s->tls.cert },
        { MHD_OPTION_HTTPS_MEM_KEY, 0, s->tls.key },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)TLS_PRIORITIES },
        { MHD_OPTION_END, 0, NULL },
    };
    return MHD_start_daemon(flags, 0, NULL, NULL, http_on_access, s, MHD_OPTION_LISTEN_SOCKET, fd,
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->options.connections_max + HTTP_SPARE_CONNECTIONS,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_BYTES,
                            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)s->options.stall_s,
                            MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,
                            HTTP_STRICT,
                            MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
                            MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, s,
                            MHD_OPTION_ARRAY, s->tls.cert != NULL ? tls : &tls[COUNTOF(tls) - 1], MHD_OPTION_END);
}

int http_server_start(struct http_server **out, const struct http_options *o, struct error *e)
{
    struct http_server *s = mem_alloc(sizeof(*s));
    s->options = *o;
    s->options.body_ms = o->body_ms == 0 ? HTTP_BODY_MS : o->body_ms;
    s->options.idle_ms = o->idle_ms == 0 ? HTTP_IDLE_MS : o->idle_ms;
    s->options.stall_s = o->stall_s == 0 ? HTTP_STALL_S : o->stall_s;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    int fd = -1;
    int rc = o->tls_cert == NULL ? 0 : http_tls_read(&s->tls, o->tls_cert, o->tls_key, e);
    if (rc == 0)
        rc = open_listener(s, &fd, e);
    if (rc != 0)
        goto out;
    s->port = port_of(fd);
    s->daemon = start_daemon(s, fd);
    if (s->daemon == NULL) {
        close(fd);
        rc = error_set(e, ERR_INTERNAL, "the HTTP server could not start on port %u", s->port);
        goto out;
    }
    if (pthread_create(&s->reaper, NULL, run_reaper, s) == 0) {
        *out = s;
        return 0;
    }
    MHD_stop_daemon(s->daemon);
    rc = error_set(e, ERR_MEMORY, "no thread for the HTTP server");
out:
    http_tls_free(&s->tls);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
    return rc;
}

void http_server_stop(struct http_server **s_p)
{
    struct http_server *s = *s_p;
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->stopping, true);
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->reaper, NULL);
    MHD_stop_daemon(s->daemon);
    http_tls_free(&s->tls);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
    *s_p = NULL;
}

uint16_t http_server_port(const struct http_server *s)
{
    return s->port;
}

bool http_server_is_local(const struct http_server *s)
{
    return s->loopback;
}

uint32_t http_server_connections(struct http_server *s)
{
    pthread_mutex_lock(&s->lock);
    uint32_t n = s->n_connections;
    pthread_mutex_unlock(&s->lock);
    return n;
}
