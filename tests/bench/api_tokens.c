/* api_tokens: what the API layer costs a token: api_tokens [-c STREAMS] [-r RATE] [-t TOKENS] [-n FIRSTS] MODEL.gguf
 *
 * The API with the engine's own queues, and in the engine's place a thread that
 * gives each of STREAMS answers RATE tokens a second, all in one go, as steps
 * do.  The clients are a process of their own.  Of every family's stream: the
 * CPU time of the API's threads (everything here but the source) for TOKENS
 * tokens a stream, requests included; then the time from a first token's push
 * to its arrival at the client, of FIRSTS answers one by one.                 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/api.h"
#include "coordinator/request.h"
#include "tests/coordinator/fake.h"

enum { STREAMS_MAX = 250, FIRSTS_MAX = 1000, CYCLE_MAX = 64, FIRST_DELAY_MS = 20 };

/* Of both processes. */
struct shared {
    _Atomic uint64_t pushed_ns[FIRSTS_MAX]; /* the first token of answer i */
    uint64_t came_ns[FIRSTS_MAX];
    uint64_t bytes; /* of all answers */
    uint32_t failed;
};

struct ask {
    uint32_t streams, rate, tokens, firsts;
};

/* ---- the engine ---- */

struct engine {
    pthread_t thread;
    struct doorbell *bell;
    pthread_mutex_t lock; /* all below */
    struct request *running[STREAMS_MAX];
    uint32_t given[STREAMS_MAX];
    uint64_t due_ns[STREAMS_MAX]; /* the first token */
    uint32_t n, n_firsts, rate, firsts_max;
    uint64_t cpu_ns; /* of the source */
    bool stop;
    int32_t cycle[CYCLE_MAX];
    uint32_t n_cycle, n_vocab;
    struct shared *shared;
};

int engine_submit(struct engine *en, struct request **out, const struct request_options *o, struct error *e)
{
    const struct request_limits limits = {.n_vocab = en->n_vocab, .context = 1 << 20, .kv_tokens = 1 << 30};
    int status = request_create(out, o, &limits, en->bell, e);
    pthread_mutex_lock(&en->lock);
    if (status == 0 && en->n == STREAMS_MAX) {
        status = error_set(e, ERR_BUSY, "more than %d streams", STREAMS_MAX);
        request_drop(out);
        request_drop(out);
    } else if (status == 0) {
        en->running[en->n] = *out;
        en->given[en->n] = 0;
        en->due_ns[en->n++] = clock_ns() + FIRST_DELAY_MS * 1000000ULL;
    }
    pthread_mutex_unlock(&en->lock);
    return status;
}

void engine_stats(struct engine *en, struct engine_stats *out)
{
    (void)en;
    *out = (struct engine_stats){0};
}

/* One token to answer i; false: it was its last event. */
static bool give(struct engine *en, uint32_t i)
{
    struct request *r = en->running[i];
    struct frame_result token = {.token = en->cycle[en->given[i] % en->n_cycle], .position = en->given[i]};
    if (atomic_load(&r->released)) {
        request_drop(&en->running[i]);
        return false;
    }
    if (en->given[i] == 0 && en->n_firsts < en->firsts_max)
        atomic_store(&en->shared->pushed_ns[en->n_firsts++], clock_ns());
    if (request_push_token(r, &token) != 0) {
        request_failed(&en->running[i], ERR_BUSY, "the reader is too slow");
        return false;
    }
    if (++en->given[i] < r->max_tokens)
        return true;
    request_done(&en->running[i], FINISH_LENGTH, clock_us());
    return false;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *source(void *arg)
{
    struct engine *en = arg;
    uint64_t next = clock_ns();
    pthread_mutex_lock(&en->lock);
    while (!en->stop) {
        uint64_t now = clock_ns();
        for (uint32_t i = 0; i < en->n;) {
            if (now < en->due_ns[i] || give(en, i)) {
                i++;
                continue;
            }
            en->n--;
            en->running[i] = en->running[en->n];
            en->given[i] = en->given[en->n];
            en->due_ns[i] = en->due_ns[en->n];
        }
        en->cpu_ns = thread_cpu_ns();
        next += 1000000000 / en->rate;
        next = next < now ? now : next;
        pthread_mutex_unlock(&en->lock);
        const struct timespec until = {(time_t)(next / 1000000000), (long)(next % 1000000000)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        pthread_mutex_lock(&en->lock);
    }
    pthread_mutex_unlock(&en->lock);
    return NULL;
}

/* ---- the clients ---- */

static int post(uint16_t port, const char *path, const char *body)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char *text = mem_printf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                            "Connection: close\r\nContent-Length: %zu\r\n\r\n%s", path, strlen(body), body);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        perror("api_tokens");
        exit(1);
    }
    mem_free(text);
    return fd;
}

/* Reads until all have ended. came_ns: of the first bytes of the first one, which follow a token. */
static void read_all(struct pollfd *fds, uint32_t n, struct shared *s, uint64_t *came_ns)
{
    static char bytes[1 << 16];
    uint32_t open = n;
    *came_ns = 0;
    while (open > 0 && poll(fds, n, 10000) > 0) {
        for (uint32_t i = 0; i < n; i++) {
            ssize_t got = fds[i].fd >= 0 && fds[i].revents ? read(fds[i].fd, bytes, sizeof(bytes)) : -1;
            if (fds[i].fd < 0 || !fds[i].revents)
                continue;
            if (*came_ns == 0) {
                *came_ns = clock_ns();
                s->failed += got < 12 || memcmp(bytes, "HTTP/1.1 200", 12) != 0;
            }
            s->bytes += got > 0 ? (uint64_t)got : 0;
            if (got > 0)
                continue;
            close(fds[i].fd);
            fds[i].fd = -1;
            open--;
        }
    }
    s->failed += open;
}

struct family {
    const char *path, *body; /* %u: tokens */
};

#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}],\"stream\":true"
static const struct family families[] = {
    {"/v1/chat/completions", "{" HELLO ",\"ignore_eos\":true,\"max_tokens\":%u}"},
    {"/v1/completions", "{\"prompt\":\"Hello\",\"stream\":true,\"ignore_eos\":true,\"max_tokens\":%u}"},
    {"/v1/messages", "{" HELLO ",\"max_tokens\":%u}"},
    {"/v1/responses", "{\"input\":\"Hello!\",\"stream\":true,\"max_output_tokens\":%u}"},
    {"/api/chat", "{\"model\":\"model\"," HELLO ",\"options\":{\"num_predict\":%u}}"},
};

static char *body_of(const struct family *f, uint32_t tokens)
{
    const char *at = strstr(f->body, "%u");
    return mem_printf("%.*s%u%s", (int)(at - f->body), f->body, tokens, at + 2);
}

/* In a process of its own; the pipe gives the port, then a family at a time: its streams, or its answers one by one. */
static void be_clients(int in, int out, const struct ask *a, struct shared *s)
{
    uint16_t port;
    uint32_t what;
    if (read(in, &port, sizeof(port)) != sizeof(port))
        _exit(1);
    while (read(in, &what, sizeof(what)) == sizeof(what)) {
        const struct family *f = &families[what / 2];
        bool firsts = what % 2 == 1;
        uint32_t n = firsts ? a->firsts : 1;
        char *body = body_of(f, firsts ? 1 : a->tokens);
        s->bytes = s->failed = 0;
        for (uint32_t i = 0; i < n; i++) {
            struct pollfd fds[STREAMS_MAX];
            uint32_t streams = firsts ? 1 : a->streams;
            uint64_t came = 0;
            for (uint32_t k = 0; k < streams; k++)
                fds[k] = (struct pollfd){post(port, f->path, body), POLLIN, 0};
            read_all(fds, streams, s, firsts ? &s->came_ns[i] : &came);
        }
        mem_free(body);
        if (write(out, &what, sizeof(what)) != sizeof(what))
            _exit(1);
    }
    _exit(0);
}

/* ---- measuring ---- */

struct times {
    double user_us, system_us, wall_us;
};

static double us_of(struct timeval t)
{
    return (double)t.tv_sec * 1e6 + (double)t.tv_usec;
}

static struct times now(struct engine *en, double *source_us)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    pthread_mutex_lock(&en->lock);
    *source_us = (double)en->cpu_ns / 1e3;
    pthread_mutex_unlock(&en->lock);
    return (struct times){us_of(u.ru_utime), us_of(u.ru_stime), (double)clock_us()};
}

static int by_size(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void order(int to, int from, uint32_t what)
{
    if (write(to, &what, sizeof(what)) != sizeof(what) || read(from, &what, sizeof(what)) != sizeof(what)) {
        fprintf(stderr, "api_tokens: the clients are gone\n");
        exit(1);
    }
}

static void measure(struct engine *en, const struct ask *a, uint32_t family, int to, int from)
{
    double before_us, after_us, late[FIRSTS_MAX], tokens = (double)a->streams * a->tokens;
    struct times before = now(en, &before_us);
    order(to, from, 2 * family);
    struct times after = now(en, &after_us);
    double user = after.user_us - before.user_us, system = after.system_us - before.system_us;
    double source_us = after_us - before_us, all = user + system - source_us;
    uint32_t failed = en->shared->failed;
    double bytes = (double)en->shared->bytes / tokens;
    pthread_mutex_lock(&en->lock);
    en->n_firsts = 0;
    en->firsts_max = a->firsts;
    pthread_mutex_unlock(&en->lock);
    order(to, from, 2 * family + 1);
    pthread_mutex_lock(&en->lock);
    en->firsts_max = 0;
    pthread_mutex_unlock(&en->lock);
    for (uint32_t i = 0; i < a->firsts; i++)
        late[i] = ((double)en->shared->came_ns[i] - (double)atomic_load(&en->shared->pushed_ns[i])) / 1e3;
    qsort(late, a->firsts, sizeof(*late), by_size);
    printf("%-22s %5.1f us a token (%4.1f user, %4.1f system, less %4.1f of the source), %5.0f bytes, %6.0f tokens/s a "
           "core; first token %4.0f us, one in ten %4.0f us%s\n",
           families[family].path, all / tokens, user / tokens, system / tokens, source_us / tokens, bytes,
           1e6 * tokens / all, late[a->firsts / 2], late[a->firsts * 9 / 10],
           failed + en->shared->failed ? " FAILED" : "");
    fflush(stdout);
}

/* ---- life ---- */

static int serve(const struct ask *a, const char *path, struct shared *s, int to, int from)
{
    struct error e = {0};
    struct tokenizer *tokenizer = NULL;
    struct chat *chat = NULL;
    struct api *api = NULL;
    struct engine en = {.bell = doorbell_create(), .rate = a->rate, .shared = s};
    struct control *control = fake_control(path);
    struct token_list words = {0};
    static const char text[] = "The quick brown fox jumps over the lazy dog, and nobody saw it. ";
    if (!control || tokenizer_open(&tokenizer, model_file(control_model(control)), &e) != 0 ||
        chat_open(&chat, tokenizer, NULL, &e) != 0 ||
        tokenizer_encode(tokenizer, text, strlen(text), 0, &words, &e) != 0)
        return fprintf(stderr, "api_tokens: %s\n", e.text), 1;
    fake_control_limits(control, 1 << 20, 1 << 30);
    en.n_vocab = tokenizer_count(tokenizer);
    for (; en.n_cycle < words.count && en.n_cycle < CYCLE_MAX; en.n_cycle++)
        en.cycle[en.n_cycle] = words.ids[en.n_cycle];
    token_list_free(&words);
    pthread_mutex_init(&en.lock, NULL);
    pthread_create(&en.thread, NULL, source, &en);
    const struct api_options o = {.engine = &en, .control = control, .tokenizer = tokenizer, .chat = chat,
                                  .model_name = "model", .host = "127.0.0.1", .admin_token = "0123456789abcdef"};
    if (api_start(&api, &o, &e) != 0)
        return fprintf(stderr, "api_tokens: %s\n", e.text), 1;
    uint16_t port = api_port(api);
    if (write(to, &port, sizeof(port)) != sizeof(port))
        return 1;
    printf("%u streams of %u tokens/s: %u tokens/s\n", a->streams, a->rate, a->streams * a->rate);
    for (uint32_t i = 0; i < COUNTOF(families); i++)
        measure(&en, a, i, to, from);
    api_stop(&api);
    pthread_mutex_lock(&en.lock);
    en.stop = true;
    pthread_mutex_unlock(&en.lock);
    pthread_join(en.thread, NULL);
    doorbell_drop(&en.bell);
    chat_close(&chat);
    tokenizer_close(&tokenizer);
    fake_control_free(&control);
    return 0;
}

int main(int argc, char **argv)
{
    struct ask a = {.streams = 100, .rate = 100, .tokens = 500, .firsts = 50};
    int out[2], in[2];
    static const char letters[] = "crtn";
    for (int o; (o = getopt(argc, argv, "c:r:t:n:")) != -1;) {
        uint32_t *values[] = {&a.streams, &a.rate, &a.tokens, &a.firsts};
        const char *at = strchr(letters, o);
        if (!at)
            return 64;
        *values[at - letters] = (uint32_t)strtoul(optarg, NULL, 10);
    }
    if (optind + 1 != argc || a.streams == 0 || a.streams > STREAMS_MAX || a.rate == 0 || a.tokens == 0 ||
        a.firsts == 0 || a.firsts > FIRSTS_MAX)
        return fprintf(stderr, "usage: api_tokens [-c STREAMS] [-r RATE] [-t TOKENS] [-n FIRSTS] MODEL.gguf\n"), 64;
    struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED || pipe(out) != 0 || pipe(in) != 0)
        return perror("api_tokens"), 1;
    pid_t child = fork();
    if (child == 0) {
        close(out[1]);
        be_clients(out[0], in[1], &a, s);
    }
    close(out[0]);
    close(in[1]);
    int status = serve(&a, argv[optind], s, out[1], in[0]);
    close(out[1]);
    waitpid(child, NULL, 0);
    return status;
}
