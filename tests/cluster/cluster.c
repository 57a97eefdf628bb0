/* cluster: start and stop in order; processes run this very program as "NAME --node INVITE DIR NUMBER". */
#include "tests/cluster/cluster.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/path.h"

enum { NODE_MEMORY = 1 << 30, MODEL_MAX = 256 << 20 };

static void require(int status, const struct error *e)
{
    if (status != 0)
        fail_msg("%s: %s", status_name(status), e->text);
}

static void remove_dir(const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", dir, (char *)NULL);
        _exit(127);
    }
    if (pid > 0)
        waitpid(pid, NULL, 0);
}

/* ---- nodes ---- */

static int run_node(struct node **n, const char *dir, const char *number, const char *invite, struct error *e)
{
    char *state = mem_printf("%s/state%s", dir, number), *cache = mem_printf("%s/cache%s", dir, number);
    char *name = mem_printf("node%s", number);
    struct node_options o = {.invite = invite, .name = name, .state_dir = state, .cache_dir = cache,
                             .listen = "127.0.0.1:0", .threads = 1, .memory_bytes = NODE_MEMORY};
    int r = node_start(n, &o, e);
    mem_free(state);
    mem_free(cache);
    mem_free(name);
    return r;
}

void cluster_child(int argc, char **argv)
{
    struct error e = {0};
    struct node *n = NULL;
    if (argc != 5 || strcmp(argv[1], "--node") != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    logger_level(LOG_WARN);
    if (keys_init(&e) == 0 && run_node(&n, argv[3], argv[4], argv[2], &e) == 0)
        while (node_wait(n, 1000, &e) == ERR_TIMEOUT) {
        }
    fprintf(stderr, "node %s: %s\n", argv[4], e.text);
    _exit(1);
}

static pid_t spawn_node(struct cluster *c, uint32_t i)
{
    char number[16];
    snprintf(number, sizeof(number), "%u", i);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "test_cluster", "--node", c->invites[i], c->dir, number, (char *)NULL);
        _exit(127);
    }
    return pid;
}

void cluster_start_node(struct cluster *c, uint32_t node)
{
    c->processes[node] = spawn_node(c, node);
    assert_true(c->processes[node] > 0);
}

void cluster_kill(struct cluster *c, uint32_t node)
{
    kill(c->processes[node], SIGKILL);
    waitpid(c->processes[node], NULL, 0);
    c->processes[node] = 0;
}

/* ---- the coordinator ---- */

/* A copy in our own folder, so that it can be taken away. */
static char *copy_model(const struct cluster *c, const char *model)
{
    char *copy = mem_printf("%s/copy.gguf", c->dir), *data;
    size_t n;
    struct error e = {0};
    require(path_read(model, MODEL_MAX, &data, &n, &e), &e);
    require(path_write_atomic(copy, data, n, 0600, &e), &e);
    mem_free(data);
    return copy;
}

/* The coordinator has read the model for its checksums when it waits for nodes. */
static void take_model_away(struct cluster *c, const char *path)
{
    struct control_route *r = mem_alloc(sizeof(*r));
    for (uint64_t until = clock_ms() + CLUSTER_WAIT_MS; !strstr(r->text, "join") && clock_ms() < until;) {
        clock_sleep_ms(5);
        control_route(c->control, r);
    }
    mem_free(r);
    assert_int_equal(unlink(path), 0);
}

static void start_control(struct cluster *c, const struct cluster_options *o)
{
    struct error e = {0};
    char *state = mem_printf("%s/coordinator", c->dir), *cache = mem_printf("%s/cache", c->dir);
    char *model = o->fetch ? copy_model(c, o->model) : mem_strdup(o->model);
    struct control_options co = {
        .model_path = model, .state_dir = state, .cache_dir = cache, .listen_host = "127.0.0.1",
        .nodes_min = o->n_nodes, .kv_tokens = o->kv_tokens, .sequences_max = o->sequences_max,
        .batch_rows_max = o->batch_rows_max};
    require(control_start(&c->control, &co, &e), &e);
    require(engine_start(&c->engine, c->control, &e), &e);
    if (o->fetch)
        take_model_away(c, model);
    mem_free(model);
    mem_free(state);
    mem_free(cache);
}

uint64_t cluster_await(struct cluster *c, uint64_t old)
{
    struct control_route *r = mem_alloc(sizeof(*r));
    bool stands = false;
    for (uint64_t until = clock_ms() + CLUSTER_WAIT_MS; !stands && clock_ms() < until; clock_sleep_ms(5)) {
        control_route(c->control, r);
        stands = r->state == CONTROL_READY && r->route != old;
    }
    if (!stands)
        fail_msg("no new route stands: state=%d stages=%u %s", (int)r->state, r->n_stages, r->text);
    uint64_t number = r->route;
    mem_free(r);
    return number;
}

void cluster_start(struct cluster *c, const struct cluster_options *o)
{
    struct error e = {0};
    memset(c, 0, sizeof(*c));
    snprintf(c->dir, sizeof(c->dir), "/tmp/shoal-cluster-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    c->n_nodes = o->n_nodes;
    start_control(c, o);
    for (uint32_t i = 0; i < o->n_nodes; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%u", i);
        require(control_invite(c->control, 1, 600, NULL, &c->invites[i], &e), &e);
        if (o->processes)
            cluster_start_node(c, i);
        else
            require(run_node(&c->nodes[i], c->dir, number, c->invites[i], &e), &e);
    }
    (void)cluster_await(c, 0);
}

void cluster_stop(struct cluster *c)
{
    engine_stop(&c->engine);
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        node_stop(&c->nodes[i]);
        if (c->processes[i] > 0)
            cluster_kill(c, i);
        mem_free(c->invites[i]);
    }
    control_stop(&c->control);
    remove_dir(c->dir);
}
