/* cluster: start the coordinator, let it write an invite, start the nodes with it, wait for the route. */
#include "cli/cluster.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "cli/heads.h"
#include "kernels/pool.h"

enum { INVITE_TTL_S = 600, LOG_TAIL_BYTES = 400, ARGUMENTS_MAX = 20 };

extern char **environ;

struct member {
    pid_t pid; /* 0: not running */
    char name[16];
    char *log;
};

struct cluster {
    struct cluster_options o;
    char *dir;
    struct coordinator *coordinator;
    char url[64];
    struct member members[CLUSTER_NODES_MAX];
    uint32_t n;
};

/* ---- node processes ---- */

/* The environment of a node: ours without SHOAL_ settings, and the invite, which no command line shows. */
static char **node_environment(char *join)
{
    static const char *const keep[] = {"SHOAL_CACHE_DIR="};
    size_t n = 0, k = 0;
    while (environ[n])
        n++;
    char **out = mem_array(n + 2, sizeof(*out));
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "SHOAL_", 6) != 0 || strncmp(environ[i], keep[0], strlen(keep[0])) == 0)
            out[k++] = environ[i];
    out[k] = join;
    return out;
}

/* In the child: only calls that are safe after fork() in a process with threads. */
static void become_node(int log, pid_t parent, char **arguments, char **environment)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
        _exit(1);
    (void)setpgid(0, 0); /* Ctrl-C is ours to pass on */
    execve("/proc/self/exe", arguments, environment);
    _exit(127);
}

static int start_node(struct cluster *c, uint32_t i, char **environment, struct error *e)
{
    struct member *m = &c->members[i];
    char threads[16], memory[32];
    snprintf(m->name, sizeof(m->name), "node-%u", i + 1);
    snprintf(threads, sizeof(threads), "%u", c->o.threads);
    snprintf(memory, sizeof(memory), "%llu", (unsigned long long)c->o.memory_bytes);
    m->log = mem_printf("%s/%s.log", c->dir, m->name);
    char *state = path_join(c->dir, m->name);
    const char *arguments[ARGUMENTS_MAX] = {
        "shoal", "node", "--name", m->name, "--listen", "127.0.0.1:0", "--advertise", "127.0.0.1",
        "--threads", threads, "--memory", memory, "--state-dir", state, NULL};
    int log = open(m->log, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600), r = 0;
    pid_t parent = getpid();
    pid_t pid = log < 0 ? -1 : fork();
    if (pid == 0)
        become_node(log, parent, (char **)(uintptr_t)arguments, environment);
    if (pid < 0)
        r = error_set(e, ERR_MEMORY, "%s could not be started", m->name);
    else
        m->pid = pid;
    if (log >= 0)
        close(log);
    mem_free(state);
    return r;
}

static int start_nodes(struct cluster *c, struct error *e)
{
    char *invite;
    int r = control_invite(coordinator_control(c->coordinator), c->o.nodes, INVITE_TTL_S, NULL, &invite, e);
    if (r != 0)
        return r;
    char *join = mem_printf("SHOAL_JOIN=%s", invite);
    char **environment = node_environment(join);
    for (uint32_t i = 0; r == 0 && i < c->o.nodes; i++) {
        r = start_node(c, i, environment, e);
        c->n = i + 1;
    }
    mem_free(environment);
    mem_free(join);
    mem_free(invite);
    return r;
}

/* The last line of a node's log, without its time. */
static void last_line(const struct member *m, char text[static LOG_TAIL_BYTES])
{
    char *data;
    size_t len;
    snprintf(text, LOG_TAIL_BYTES, "it said nothing");
    if (path_read(m->log, 1 << 20, &data, &len, NULL) != 0)
        return;
    while (len > 0 && data[len - 1] == '\n')
        data[--len] = '\0';
    const char *line = strrchr(data, '\n');
    if (len > 0)
        snprintf(text, LOG_TAIL_BYTES, "%s", line ? line + 1 : data);
    mem_free(data);
}

int cluster_check(struct cluster *c, struct error *e)
{
    char text[LOG_TAIL_BYTES];
    for (uint32_t i = 0; i < c->n; i++) {
        struct member *m = &c->members[i];
        if (m->pid == 0 || waitpid(m->pid, NULL, WNOHANG) == 0)
            continue;
        m->pid = 0;
        last_line(m, text);
        return error_set(e, ERR_GONE, "%s has ended: %s", m->name, text);
    }
    return 0;
}

static void stop_nodes(struct cluster *c)
{
    uint64_t until = clock_ms() + CLUSTER_STOP_MS;
    uint32_t left = 0;
    for (uint32_t i = 0; i < c->n; i++)
        if (c->members[i].pid > 0)
            kill(c->members[i].pid, SIGTERM);
    do {
        left = 0;
        for (uint32_t i = 0; i < c->n; i++) {
            struct member *m = &c->members[i];
            if (m->pid > 0 && waitpid(m->pid, NULL, WNOHANG) == m->pid)
                m->pid = 0;
            left += m->pid > 0;
        }
        if (left)
            clock_sleep_ms(20);
    } while (left && clock_ms() < until);
    for (uint32_t i = 0; i < c->n; i++) {
        if (c->members[i].pid > 0) {
            kill(c->members[i].pid, SIGKILL);
            waitpid(c->members[i].pid, NULL, 0);
        }
        mem_free(c->members[i].log);
    }
}

/* ---- the whole ---- */

static int start_coordinator(struct cluster *c, struct error *e)
{
    struct coordinator_options o = c->o.coordinator;
    char *state = path_join(c->dir, "coordinator"), *cache = path_cache_dir();
    o.control.state_dir = state;
    if (!o.control.cache_dir)
        o.control.cache_dir = cache;
    o.control.listen_host = "127.0.0.1";
    o.control.advertise = "127.0.0.1";
    o.control.control_port = o.control.enrol_port = o.control.blob_port = 0;
    o.control.nodes_min = c->o.nodes;
    int r = coordinator_start(&c->coordinator, &o, e);
    if (r == 0)
        snprintf(c->url, sizeof(c->url), "%s://%s:%u", o.tls_cert ? "https" : "http", o.http_host,
                 coordinator_http_port(c->coordinator));
    mem_free(state);
    mem_free(cache);
    return r;
}

/* True when the texts differ in more than their numbers. */
static bool says_more(const char *a, const char *b)
{
    for (;; a++, b++) {
        a += strspn(a, "0123456789");
        b += strspn(b, "0123456789");
        if (*a != *b)
            return true;
        if (*a == '\0')
            return false;
    }
}

/* On a terminal the line is rewritten in place; elsewhere numbers alone are no news. */
static void say(const struct cluster *c, const char *before, const char *text)
{
    if (c->o.progress && isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s%s", text[0] ? "shoal: " : "", text);
    else if (c->o.progress && text[0] && says_more(before, text))
        fprintf(stderr, "shoal: %s\n", text);
}

static int watch_route(struct cluster *c, struct error *e)
{
    struct control_route route;
    char said[sizeof(route.text)] = "";
    uint64_t changed = clock_ms();
    for (;;) {
        control_route(coordinator_control(c->coordinator), &route);
        if (route.state == CONTROL_READY)
            return 0;
        if (strcmp(route.text, said) != 0) {
            say(c, said, route.text);
            snprintf(said, sizeof(said), "%s", route.text);
            changed = clock_ms();
        }
        int r = cluster_check(c, e);
        if (r != 0)
            return r;
        if (route.waits != 0) /* every node of ours has joined: nobody else will */
            return error_set(e, route.waits, "%s", route.text);
        if (c->o.stop && c->o.stop())
            return error_set(e, ERR_CANCELLED, "stopped");
        if (clock_ms() - changed > CLUSTER_STALL_MS)
            return error_set(e, ERR_TIMEOUT, "the cluster is stuck: %s", said);
        clock_sleep_ms(20);
    }
}

static int wait_for_route(struct cluster *c, struct error *e)
{
    int r = watch_route(c, e);
    say(c, "", "");
    return r;
}

int cluster_start(struct cluster **out, const struct cluster_options *o, struct error *e)
{
    struct cluster *c = mem_alloc(sizeof(*c));
    c->o = *o;
    if (c->o.threads == 0)
        c->o.threads = (uint32_t)pool_cpu_count() > o->nodes ? (uint32_t)pool_cpu_count() / o->nodes : 1;
    if (c->o.memory_bytes == 0)
        c->o.memory_bytes = mem_available() / 10 * 9 / o->nodes;
    c->dir = heads_temporary_dir(e);
    int r = c->dir ? start_coordinator(c, e) : ERR_IO;
    if (r == 0)
        r = start_nodes(c, e);
    if (r == 0)
        r = wait_for_route(c, e);
    if (r != 0)
        cluster_stop(&c);
    *out = c;
    return r;
}

void cluster_stop(struct cluster **cluster_p)
{
    struct cluster *c = *cluster_p;
    if (!c)
        return;
    coordinator_stop(&c->coordinator); /* first: it would place the layers anew as node after node leaves */
    stop_nodes(c);
    heads_remove_dir(&c->dir);
    mem_free(c);
    *cluster_p = NULL;
}

const char *cluster_url(const struct cluster *c)
{
    return c->url;
}

const char *cluster_token(const struct cluster *c)
{
    return coordinator_token(c->coordinator);
}

struct control *cluster_control(struct cluster *c)
{
    return coordinator_control(c->coordinator);
}
