/* api_rig: see api_rig.h. */
#include "tests/coordinator/api_rig.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <curl/curl.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "shard/arch/arch.h"

enum { ANSWER_MAX = 64 << 20, TIMEOUT_S = 60 };

static int start(void **state, const char *api_key)
{
    struct rig *r = mem_alloc(sizeof(*r));
    struct error e = { 0 };
    *state = r;
    r->engine = fake_engine();
    r->control = fake_control(RIG_MODEL);
    if (r->control == NULL || tokenizer_open(&r->tokenizer, model_file(control_model(r->control)), &e) != 0 ||
        chat_format_find(&r->chat, r->tokenizer, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return -1;
    }
    struct api_options o = {
        .engine = r->engine,
        .control = r->control,
        .tokenizer = r->tokenizer,
        .chat = r->chat,
        .model_name = "org/demo:q8",
        .host = "127.0.0.1",
        .api_key = api_key,
        .admin_token = RIG_ADMIN,
        .ping_ms = 200,
    };
    return api_start(&r->api, &o, &e);
}

int rig_start(void **state)
{
    return start(state, NULL);
}

int rig_start_with_key(void **state)
{
    return start(state, "sk-test");
}

int rig_stop(void **state)
{
    struct rig *r = *state;
    api_stop(&r->api);
    int left = (int)fake_engine_open(r->engine); /* requests that nobody released */
    tokenizer_close(&r->tokenizer);
    fake_engine_free(&r->engine);
    fake_control_free(&r->control);
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

static size_t keep(char *data, size_t size, size_t n, void *arg)
{
    buffer_add(arg, data, size * n);
    return size * n;
}

static struct curl_slist *headers_of(const char *header)
{
    struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
    return header == NULL ? list : curl_slist_append(list, header);
}

struct reply rig_call(const struct rig *r, const char *path, const char *body, const char *header)
{
    struct buffer out, heads;
    buffer_init(&out, ANSWER_MAX);
    buffer_init(&heads, 1 << 20);
    char url[2048];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", api_port(r->api), path);
    struct curl_slist *list = headers_of(header);
    CURL *c = curl_easy_init();
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &out);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, keep);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, &heads);
    if (body != NULL) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
    }
    long status = 0;
    CURLcode rc = curl_easy_perform(c);
    if (rc == CURLE_OK)
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    else
        buffer_add_text(&out, curl_easy_strerror(rc));
    curl_easy_cleanup(c);
    curl_slist_free_all(list);
    struct reply reply = { .status = (int)status };
    buffer_add(&out, "", 0);
    reply.json = json_loadb(buffer_text(&out), out.len, JSON_REJECT_DUPLICATES, NULL);
    reply.len = out.len;
    reply.body = out.len > 0 ? buffer_take(&out, NULL) : mem_strdup("");
    reply.headers = mem_strdup(buffer_text(&heads));
    buffer_close(&out);
    buffer_close(&heads);
    return reply;
}

void reply_free(struct reply *r)
{
    mem_free(r->body);
    mem_free(r->headers);
    json_decref(r->json);
    memset(r, 0, sizeof(*r));
}

const json_t *reply_at(const struct reply *r, const char *where)
{
    const json_t *at = r->json;
    char name[64];
    while (at != NULL && *where != '\0') {
        size_t n = strcspn(where, ".");
        snprintf(name, sizeof(name), "%.*s", (int)n, where);
        at = json_is_array(at) ? json_array_get(at, strtoul(name, NULL, 10)) : json_object_get(at, name);
        where += n + (where[n] == '.');
    }
    return at;
}

const char *reply_text(const struct reply *r, const char *where)
{
    return json_string_value(reply_at(r, where));
}

int rig_post_raw(const struct rig *r, const char *path, const char *body)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(api_port(r->api)) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        return -1;
    char *text = mem_printf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                            path, strlen(body), body);
    ssize_t sent = send(fd, text, strlen(text), MSG_NOSIGNAL);
    mem_free(text);
    return sent > 0 ? fd : -1;
}
