/* control: the actor's loop, the commands of other threads, and the life cycle.
 *
 * Commands that want an answer lie on the asker's stack and are always answered:
 * by the loop, or, once it has ended, by control_stop() or the closed queue.    */
#include "coordinator/control.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "coordinator/control_state.h"
#include "kernels/limits.h"

/* ---- sending ---- */

int control_send(struct control *c, const struct member *m, const Shoal__Control *message)
{
    struct error e;
    int r = control_pack(&c->out, message, &e);
    if (r == 0)
        r = link_send(c->control, &m->peer, c->out.data, c->out.len, &e);
    if (r != 0 && r != ERR_BUSY && r != ERR_GONE)
        log_error("coordinator", "a message could not be sent: node=%s %s", m->name, e.text);
    return r;
}

void control_send_refused(struct control *c, const struct link_peer *to, int status, const char *text)
{
    Shoal__Refused refused = SHOAL__REFUSED__INIT;
    Shoal__Control message = SHOAL__CONTROL__INIT;
    refused.status = status;
    refused.text = (char *)(uintptr_t)text;
    message.body_case = SHOAL__CONTROL__BODY_REFUSED;
    message.refused = &refused;
    if (control_pack(&c->out, &message, NULL) == 0 && link_send(c->control, to, c->out.data, c->out.len, NULL) != 0)
        log_debug("coordinator", "a refusal was not sent: address=%s", to->address);
}

/* ---- what others see ---- */

static void publish(struct control *c)
{
    struct control_route *n = &c->next;
    memset(n, 0, sizeof(*n));
    n->state = c->state;
    n->waits = c->state == CONTROL_WAITING ? c->waits : 0;
    snprintf(n->text, sizeof(n->text), "%s", c->text);
    if (c->state == CONTROL_READY) {
        route_publish(&c->route, n);
        n->kv_tokens = c->kv_tokens;
        n->context = c->context < c->kv_tokens ? c->context : c->kv_tokens;
    } else {
        n->context = c->context;
    }
    n->sequences_max = c->shape.sequences_max;
    n->batch_rows_max = c->shape.batch_rows_max;
    n->dtype = c->dtype;
    pthread_mutex_lock(&c->lock);
    if (memcmp(n, &c->published, sizeof(*n)) != 0) {
        c->published = *n;
        atomic_fetch_add(&c->version, 1);
    }
    pthread_mutex_unlock(&c->lock);
}

void control_route(struct control *c, struct control_route *out)
{
    pthread_mutex_lock(&c->lock);
    *out = c->published;
    pthread_mutex_unlock(&c->lock);
}

uint64_t control_version(struct control *c)
{
    return atomic_load(&c->version);
}

const struct keys *control_keys(const struct control *c)
{
    return &c->keys;
}

const struct model *control_model(const struct control *c)
{
    return c->model;
}

uint32_t control_adapter_count(const struct control *c)
{
    return (uint32_t)c->o.n_adapters;
}

const char *control_adapter_name(const struct control *c, uint32_t number)
{
    return c->specs[number - 1].name;
}

const char *control_model_name(const struct control *c)
{
    return c->name;
}

/* ---- commands ---- */

static void run_command(struct control *c, struct command *q)
{
    switch (q->kind) {
    case COMMAND_STATUS:
        q->out = status_json(c);
        break;
    case COMMAND_INVITE:
        q->status = members_invite(c, q, &q->out, &q->error);
        break;
    case COMMAND_REVOKE:
        q->status = members_revoke(c, q->text, &q->error);
        break;
    case COMMAND_FAILED:
        cluster_stage_failed(c, q->route, q->stage, q->why);
        break;
    case COMMAND_TIMES:
        cluster_times(c, q->route, q->stage, &q->times);
        break;
    }
}

/* The asker may go on, and its command with it. */
static void answer(struct command *q)
{
    if (!q->answered)
        mem_free(q);
    else if (queue_push(q->answered, q) != 0)
        log_error("coordinator", "an answer was not taken");
}

static void refuse_command(void *item)
{
    struct command *q = item;
    q->status = error_set(&q->error, ERR_GONE, "the coordinator is stopping");
    answer(q);
}

/* Waits until the actor has done it. */
static int ask(struct control *c, struct command *q)
{
    void *item;
    q->answered = queue_create(1);
    int r;
    while ((r = queue_push(c->commands, q)) == ERR_BUSY)
        clock_sleep_ms(1);
    if (r != 0)
        q->status = error_set(&q->error, ERR_GONE, "the coordinator is stopping");
    else
        while (queue_pop(q->answered, &item, 1000) != 0)
            ; /* it is always answered */
    queue_destroy(&q->answered, NULL);
    return q->status;
}

char *control_status_json(struct control *c)
{
    struct command q = {.kind = COMMAND_STATUS};
    return ask(c, &q) == 0 && q.out ? q.out : mem_strdup("{}");
}

int control_invite(struct control *c, uint32_t uses, uint32_t ttl_seconds, const char *host, char **line,
                   struct error *e)
{
    struct command q = {.kind = COMMAND_INVITE, .uses = uses, .ttl_seconds = ttl_seconds, .text = host};
    *line = NULL;
    if (ask(c, &q) != 0)
        return error_set(e, q.status, "%s", q.error.text);
    *line = q.out;
    return 0;
}

int control_revoke(struct control *c, const char *who, struct error *e)
{
    struct command q = {.kind = COMMAND_REVOKE, .text = who};
    return ask(c, &q) == 0 ? 0 : error_set(e, q.status, "%s", q.error.text);
}

void control_stage_failed(struct control *c, uint64_t route, uint32_t stage, const char *why)
{
    struct command q = {.kind = COMMAND_FAILED, .route = route, .stage = stage};
    snprintf(q.why, sizeof(q.why), "%s", why);
    (void)ask(c, &q); /* only a coordinator that stops does not hear it */
}

void control_report_times(struct control *c, uint64_t route, uint32_t stage, const struct control_stage_times *t)
{
    struct command *q = mem_alloc(sizeof(*q));
    q->kind = COMMAND_TIMES;
    q->route = route;
    q->stage = stage;
    q->times = *t;
    if (queue_push(c->commands, q) != 0) /* too busy for statistics: the next report will do */
        mem_free(q);
}

/* ---- the loop ---- */

static void drain_control(struct control *c)
{
    struct link_message m;
    for (int i = 0; i < CONTROL_DRAIN_MAX && link_receive(c->control, &m, NULL) == 0; i++) {
        members_message(c, &m);
        link_message_close(&m);
    }
}

static void drain_enrolment(struct control *c)
{
    struct link_message m;
    for (int i = 0; i < ENROL_DRAIN_MAX && link_receive(c->enrolment, &m, NULL) == 0; i++) {
        members_enrol(c, &m);
        link_message_close(&m);
    }
}

static void drain_commands(struct control *c)
{
    void *item;
    for (int i = 0; i < CONTROL_COMMANDS_MAX && queue_pop(c->commands, &item, 0) == 0; i++) {
        struct command *q = item;
        run_command(c, q);
        publish(c); /* who asked sees what came of it */
        answer(q);
    }
}

static void *run(void *arg)
{
    struct control *c = arg;
    while (!atomic_load(&c->stop)) {
        zmq_pollitem_t items[3] = {{.socket = link_socket(c->control), .events = ZMQ_POLLIN},
                                   {.socket = link_socket(c->enrolment), .events = ZMQ_POLLIN},
                                   {.fd = queue_fd(c->commands), .events = ZMQ_POLLIN}};
        (void)zmq_poll(items, 3, CONTROL_POLL_MS);
        link_watch(c->control);
        link_watch(c->enrolment);
        drain_control(c);
        drain_enrolment(c);
        drain_commands(c);
        uint64_t now = clock_ms();
        if (now - c->ticked_ms >= CONTROL_TICK_MS) {
            c->ticked_ms = now;
            members_tick(c, now);
        }
        cluster_tick(c, now);
        publish(c);
    }
    return NULL;
}

/* ---- options ---- */

/* Absolute, as it is hinted to nodes. Of a link to a split only the folder is followed: what it leads to may have a
 * name that does not tell the others'. */
static char *absolute_path(const char *path)
{
    char real[PATH_MAX];
    size_t prefix;
    uint32_t number, count;
    const char *slash = strrchr(path, '/');
    if (!gguf_split_name(path, &prefix, &number, &count))
        return mem_strdup(realpath(path, real) ? real : path);
    char *folder = slash ? mem_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : mem_strdup(".");
    char *absolute = realpath(folder, real) ? path_join(real, slash ? slash + 1 : path) : mem_strdup(path);
    mem_free(folder);
    return absolute;
}

/* A link is called by its own name, but "." by the folder's. */
static char *name_of(const char *path, const char *absolute)
{
    return model_name_of(path_is_folder(path) ? absolute : path);
}

static int parse_types(struct control *c, const struct control_options *o, struct error *e)
{
    static const char *const rows[] = {[FRAME_F32] = "f32", [FRAME_F16] = "f16", [FRAME_BF16] = "bf16"};
    const char *rows_type = o->rows_type ? o->rows_type : "f32";
    enum kv_type type = KV_F32;
    uint32_t i = 0;
    while (i < COUNTOF(rows) && strcmp(rows[i], rows_type) != 0)
        i++;
    if (i == COUNTOF(rows))
        return error_set(e, ERR_CONFIG, "rows travel as f32, f16 or bf16, not '%s'", rows_type);
    c->dtype = i;
    int r = model_kv_type(c->model, o->kv_type ? o->kv_type : "auto", &type, e);
    c->shape.kv_type = type;
    return r;
}

static int parse_sizes(struct control *c, const struct control_options *o, struct error *e)
{
    uint32_t trained = model_hparams(c->model)->context, bound = trained < CONTROL_CONTEXT ? trained : CONTROL_CONTEXT;
    c->shape.sequences_max = o->sequences_max ? o->sequences_max : CONTROL_SEQUENCES;
    c->shape.batch_rows_max = o->batch_rows_max ? o->batch_rows_max : CONTROL_BATCH_ROWS;
    c->shape.kv_tokens = o->kv_tokens;
    c->context = o->context ? o->context : bound;
    c->o.lease_ms = o->lease_ms ? o->lease_ms : CONTROL_LEASE_MS;
    if (c->context > trained)
        return error_set(e, ERR_CONFIG, "the model knows a context of %u tokens, not %u", trained, c->context);
    if (c->shape.sequences_max > FRAME_SEQUENCES_MAX || c->shape.batch_rows_max > FRAME_ROWS_MAX)
        return error_set(e, ERR_CONFIG, "at most %d sequences and %d rows a step", FRAME_SEQUENCES_MAX, FRAME_ROWS_MAX);
    if (o->nodes_min > PLACE_STAGES_MAX || c->o.lease_ms < 500 || c->o.lease_ms > 600000)
        return error_set(e, ERR_CONFIG, "nodes_min is at most %d, a lease is 500 ms to 600 s", PLACE_STAGES_MAX);
    return 0;
}

/* Adapters are looked at before any node is, so that a wrong one is said at once. */
static int open_adapters(struct control *c, const struct control_options *o, struct error *e)
{
    c->o.n_adapters = 0;
    int r = adapter_specs_parse(&c->specs, o->adapters, o->n_adapters, e);
    if (r != 0)
        return r;
    c->o.n_adapters = o->n_adapters;
    c->adapters = mem_array(o->n_adapters + 1, sizeof(*c->adapters));
    for (size_t i = 0; r == 0 && i < o->n_adapters; i++) {
        char *absolute = absolute_path(c->specs[i].path);
        mem_free(c->specs[i].path);
        c->specs[i].path = absolute;
        r = adapter_open(&c->adapters[i], absolute, c->model, e);
        if (r == 0 && strlen(absolute) > CONTROL_PATH_MAX)
            r = error_set(e, ERR_LIMIT, "the path of adapter %s is longer than %d bytes", c->specs[i].name,
                          CONTROL_PATH_MAX);
    }
    return r;
}

static int take_options(struct control *c, const struct control_options *o, struct error *e)
{
    c->o = *o;
    c->model_path = absolute_path(o->model_path);
    c->state_dir = mem_strdup(o->state_dir);
    c->cache_dir = mem_strdup(o->cache_dir);
    c->listen_host = mem_strdup(o->listen_host ? o->listen_host : "127.0.0.1");
    c->advertise = o->advertise ? mem_strdup(o->advertise) : NULL;
    c->name = name_of(o->model_path, c->model_path);
    int r = model_open(&c->model, c->model_path, e);
    if (r == 0)
        r = file_set_whole(model_files(c->model), e);
    if (r == 0 && strlen(c->model_path) > CONTROL_PATH_MAX)
        r = error_set(e, ERR_LIMIT, "the path of the model is longer than %d bytes", CONTROL_PATH_MAX);
    if (r == 0)
        r = parse_types(c, o, e);
    if (r == 0)
        r = parse_sizes(c, o, e);
    return r == 0 ? open_adapters(c, o, e) : r;
}

/* ---- life cycle ---- */

static char *endpoint(const struct control *c, uint16_t port)
{
    return mem_printf(strchr(c->listen_host, ':') ? "tcp://[%s]:%u" : "tcp://%s:%u", c->listen_host, port);
}

static int listen_on(struct control *c, struct link **out, uint16_t port, struct link_options lo, struct error *e)
{
    lo.keys = &c->keys;
    char *at = endpoint(c, port);
    int r = link_listen(out, c->context_zmq, at, &lo, e);
    mem_free(at);
    return r;
}

static int start_links(struct control *c, struct error *e)
{
    struct link_options control = {.domain = CONTROL_DOMAIN, .bytes_max = CONTROL_BYTES_MAX, .queue_max = 256};
    struct link_options enrolment = {.domain = ENROL_DOMAIN, .bytes_max = ENROL_BYTES_MAX,
                                     .send_max = ENROL_REPLY_BYTES_MAX, .queue_max = 4}; /* strangers speak briefly */
    int r = zap_start(&c->zap, c->context_zmq, e);
    if (r == 0)
        r = link_self_test(c->context_zmq, c->zap, e);
    if (r == 0)
        zap_counts(c->zap, &c->self_test);
    if (r == 0)
        r = zap_allow(c->zap, CONTROL_DOMAIN, NULL, 0, e); /* nobody, until the roster is read */
    if (r == 0)
        r = listen_on(c, &c->control, c->o.control_port, control, e);
    if (r == 0)
        r = listen_on(c, &c->enrolment, c->o.enrol_port, enrolment, e);
    if (r != 0)
        return r;
    char *at = endpoint(c, c->o.blob_port);
    c->files[0] = model_files(c->model);
    for (size_t i = 0; i < c->o.n_adapters; i++)
        c->files[1 + i] = adapter_files(c->adapters[i]);
    struct blobs_options bo = {
        .zmq_context = c->context_zmq, .keys = &c->keys, .listen = at, .files = c->files,
        .n = 1 + c->o.n_adapters, .cache_dir = c->cache_dir, .trusted_local = c->o.trusted_local,
        .progress = c->o.progress};
    r = blobs_start(&c->blobs, &bo, e);
    mem_free(at);
    return r;
}

static int start_parts(struct control *c, const struct control_options *o, struct error *e)
{
    int r = take_options(c, o, e);
    if (r == 0)
        r = keys_load_or_create(&c->keys, c->state_dir, e);
    if (r == 0)
        r = store_open(&c->store, c->state_dir, e);
    if (r != 0)
        return r;
    c->next_number = (uint64_t)clock_unix() << 16; /* above the numbers of every start before */
    c->enrol = enrol_create(c->store, c->keys.public_key);
    c->registry = registry_create(c->o.lease_ms, c->next_number);
    c->context_zmq = link_context(1);
    cluster_init(c);
    r = start_links(c, e);
    if (r == 0)
        r = members_load(c, e);
    if (r != 0)
        return r;
    publish(c);
    if (pthread_create(&c->thread, NULL, run, c) != 0)
        return error_set(e, ERR_MEMORY, "cannot start the control thread");
    c->running = true;
    return 0;
}

int control_start(struct control **out, const struct control_options *o, struct error *e)
{
    *out = NULL;
    struct control *c = mem_alloc(sizeof(*c));
    pthread_mutex_init(&c->lock, NULL);
    c->commands = queue_create(CONTROL_COMMANDS_MAX);
    buffer_init(&c->out, CONTROL_BYTES_MAX);
    c->look_ms = UINT64_MAX;
    int r = start_parts(c, o, e);
    if (r != 0) {
        control_stop(&c);
        return r;
    }
    log_info("coordinator", "listening: host=%s control=%u enrol=%u blob=%u members=%zu", c->listen_host,
             link_port(c->control), link_port(c->enrolment), blobs_port(c->blobs), registry_count(c->registry));
    *out = c;
    return 0;
}

void control_stop(struct control **control_p)
{
    struct control *c = *control_p;
    if (!c)
        return;
    atomic_store(&c->stop, true);
    queue_close(c->commands);
    if (c->running)
        pthread_join(c->thread, NULL);
    queue_destroy(&c->commands, refuse_command);
    blobs_stop(&c->blobs);
    link_close(&c->enrolment);
    link_close(&c->control);
    zap_stop(&c->zap);
    link_context_destroy(&c->context_zmq);
    registry_destroy(&c->registry);
    enrol_destroy(&c->enrol);
    store_close(&c->store);
    keys_wipe(&c->keys);
    for (size_t i = 0; c->adapters && i < c->o.n_adapters; i++)
        adapter_close(&c->adapters[i]);
    mem_free(c->adapters);
    adapter_specs_free(&c->specs, c->o.n_adapters);
    model_close(&c->model);
    buffer_close(&c->out);
    mem_free(c->roster_body);
    mem_free(c->layer_bytes);
    mem_free(c->joined);
    mem_free(c->model_path);
    mem_free(c->state_dir);
    mem_free(c->cache_dir);
    mem_free(c->listen_host);
    mem_free(c->advertise);
    mem_free(c->name);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
    *control_p = NULL;
}
