/* api_rig: see api_rig.h. */
#include "tests/coordinator/api_rig.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "shard/arch/arch.h"

static int start_api(struct rig *r, const char *host, const char *api_key, bool insecure, struct error *e)
{
    static const char *const adapters[] = {"poet", "clerk"};
    struct api_options o = {
        .adapters = adapters,
        .n_adapters = COUNTOF(adapters),
        .engine = r->engine,
        .control = r->control,
        .tokenizer = r->tokenizer,
        .chat = r->chat,
        .model_name = RIG_NAME,
        .host = host,
        .api_key = api_key,
        .admin_token = RIG_ADMIN,
        .ping_ms = 200,
        .state_dir = r->state_dir,
        .insecure_no_key = insecure,
        .cors = "https://chat.example",
    };
    return api_start(&r->api, &o, e);
}

static int start(void **state, const char *model, const char *api_key, char *state_dir)
{
    struct rig *r = mem_alloc(sizeof(*r));
    struct error e = { 0 };
    *state = r;
    r->state_dir = state_dir;
    setenv("SHOAL_MODELS_DIR", "/nonexistent", 0); /* what is pulled on this machine is no part of a test */
    r->engine = fake_engine();
    r->control = fake_control(model);
    if (r->control == NULL || tokenizer_open(&r->tokenizer, model_file(control_model(r->control)), &e) != 0 ||
        chat_open(&r->chat, r->tokenizer, NULL, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return -1;
    }
    return start_api(r, "127.0.0.1", api_key, false, &e);
}

int rig_start_with_keys(void **state)
{
    char dir[] = "/tmp/shoal-keys-XXXXXX";
    return mkdtemp(dir) == NULL ? -1 : start(state, RIG_MODEL, NULL, mem_strdup(dir));
}

int rig_restart(struct rig *r, const char *host, bool insecure, struct error *e)
{
    api_stop(&r->api);
    return start_api(r, host, NULL, insecure, e);
}

void rig_template(struct rig *r, const char *source)
{
    struct error e = { 0 };
    api_stop(&r->api);
    chat_close(&r->chat);
    if (chat_open(&r->chat, r->tokenizer, source, &e) != 0 || start_api(r, "127.0.0.1", NULL, false, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        abort();
    }
}

/* Best effort: what is left lies in /tmp. */
static void remove_state(struct rig *r)
{
    static const char *const names[] = { "api-keys.db", "api-keys.db-journal" };
    for (size_t i = 0; r->state_dir != NULL && i < COUNTOF(names); i++) {
        char *path = path_join(r->state_dir, names[i]);
        (void)remove(path);
        mem_free(path);
    }
    if (r->state_dir != NULL)
        (void)rmdir(r->state_dir);
    mem_free(r->state_dir);
}

int rig_start(void **state)
{
    return start(state, RIG_MODEL, NULL, NULL);
}

int rig_start_with_key(void **state)
{
    return start(state, RIG_MODEL, "sk-test", NULL);
}

int rig_start_with(void **state, const struct rig_extra *extra)
{
    char *model = model_with(RIG_MODEL, extra);
    int rc = start(state, model, NULL, NULL);
    (void)unlink(model);
    mem_free(model);
    return rc;
}

int rig_stop(void **state)
{
    struct rig *r = *state;
    api_stop(&r->api);
    int left = (int)fake_engine_open(r->engine); /* requests that nobody released */
    chat_close(&r->chat);
    tokenizer_close(&r->tokenizer);
    fake_engine_free(&r->engine);
    fake_control_free(&r->control);
    remove_state(r);
    mem_free(r);
    return left;
}

struct token_list rig_tokens(const struct rig *r, const char *text)
{
    struct token_list list = { 0 };
    if (tokenizer_encode(r->tokenizer, text, strlen(text), ENCODE_SPECIAL, &list, NULL) != 0)
        abort();
    return list;
}

int32_t rig_end_token(const struct rig *r)
{
    return tokenizer_find(r->tokenizer, "<|im_end|>", 10);
}

void rig_say(struct rig *r, const char *text, const struct fake_script *like)
{
    struct fake_script s = { 0 };
    if (like != NULL)
        s = *like;
    struct token_list list = rig_tokens(r, text);
    for (s.n = 0; s.n < list.count && s.n + 1 < FAKE_SCRIPT_MAX; s.n++)
        s.tokens[s.n] = list.ids[s.n];
    if (!s.endless)
        s.tokens[s.n++] = rig_end_token(r);
    token_list_free(&list);
    fake_engine_script(r->engine, &s);
}

/* ---- client ---- */

struct reply rig_call(const struct rig *r, const char *path, const char *body, const char *header)
{
    return http_call(api_port(r->api), path, body, header);
}

int rig_send_raw(const struct rig *r, const char *text)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(api_port(r->api)) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        return -1;
    return send(fd, text, strlen(text), MSG_NOSIGNAL) > 0 ? fd : -1;
}

int rig_post_raw(const struct rig *r, const char *path, const char *body)
{
    char *text = mem_printf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                            path, strlen(body), body);
    int fd = rig_send_raw(r, text);
    mem_free(text);
    return fd;
}

char *rig_read_raw(int fd)
{
    struct buffer out;
    char part[4096];
    ssize_t n;
    buffer_init(&out, 1 << 20);
    while ((n = recv(fd, part, sizeof(part), 0)) > 0)
        buffer_add(&out, part, (size_t)n);
    close(fd);
    char *text = mem_strdup(buffer_text(&out));
    buffer_close(&out);
    return text;
}
