/* client: one easy handle a call; event streams are cut into lines as they arrive. */
#include "cli/client.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { LINE_MAX_BYTES = 4 << 20, ERROR_BODY_MAX = 64 << 10 };

struct call {
    const struct client *c;
    CURL *curl;
    struct buffer *body; /* whole answers, and what an error says */
    struct buffer line;  /* of a stream */
    int (*event)(void *arg, const char *data, struct error *e);
    void *arg;
    struct error *e;
    int status;          /* of event() */
};

static long http_code(const struct call *call)
{
    long code = 0;
    curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &code);
    return code;
}

static void take_lines(struct call *call)
{
    char *end;
    while (call->status == 0 && call->line.len > 0 && (end = memchr(call->line.data, '\n', call->line.len))) {
        size_t n = (size_t)(end - call->line.data);
        call->line.data[n > 0 && end[-1] == '\r' ? n - 1 : n] = '\0';
        if (strncmp(call->line.data, "data: ", 6) == 0 && strcmp(call->line.data + 6, "[DONE]") != 0)
            call->status = call->event(call->arg, call->line.data + 6, call->e);
        buffer_drop(&call->line, n + 1);
    }
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *arg)
{
    struct call *call = arg;
    n *= size;
    if (!call->event || http_code(call) != 200) {
        buffer_add(call->body, bytes, n);
        return buffer_failed(call->body) ? 0 : n;
    }
    buffer_add(&call->line, bytes, n);
    take_lines(call);
    return call->status != 0 || buffer_failed(&call->line) ? 0 : n;
}

static int on_wait(void *arg, curl_off_t dt, curl_off_t dn, curl_off_t ut, curl_off_t un)
{
    const struct call *call = arg;
    (void)dt, (void)dn, (void)ut, (void)un;
    return call->c->stop && call->c->stop();
}

/* The status whose HTTP code this is. */
static int status_of_http(long code)
{
    static const int statuses[] = {
#define XX(name, value, http, exit_code, words) ERR_##name,
        STATUS_MAP(XX)
#undef XX
    };
    if (code == 401)
        return ERR_DENIED;
    for (size_t i = 0; i < COUNTOF(statuses); i++)
        if (status_http(statuses[i]) == code)
            return statuses[i];
    return code >= 500 ? ERR_INTERNAL : ERR_INVALID;
}

static int http_error(const struct call *call, long code)
{
    json_t *j = json_loads(buffer_text(call->body), 0, NULL);
    const char *text = json_string_value(json_object_get(json_object_get(j, "error"), "message"));
    int r = error_set(call->e, status_of_http(code), "%s answered %ld: %.400s", call->c->url, code,
                      text ? text : "no reason given");
    json_decref(j);
    return r;
}

static int perform(struct call *call, const char *path, const char *json, struct curl_slist *headers)
{
    char url[2048];
    CURL *curl = call->curl;
    size_t n = strlen(call->c->url);
    while (n > 0 && call->c->url[n - 1] == '/')
        n--;
    snprintf(url, sizeof(url), "%.*s%s", (int)n, call->c->url, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_wait);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, call);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 5L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    if (call->c->ca)
        curl_easy_setopt(curl, CURLOPT_CAINFO, call->c->ca);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, call->c->any_name ? 0L : 2L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "127.0.0.1,localhost,::1");
    if (json)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, json);
    if (!json)
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)CLIENT_TIMEOUT_S);
    CURLcode code = curl_easy_perform(curl);
    if (call->status != 0)
        return call->status;
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return error_set(call->e, ERR_CANCELLED, "stopped");
    if (code == CURLE_WRITE_ERROR)
        return error_set(call->e, ERR_LIMIT, "%s answered more than fits", url);
    if (code != CURLE_OK)
        return error_set(call->e, ERR_UNAVAILABLE, "%s cannot be reached: %s", url, curl_easy_strerror(code));
    return http_code(call) == 200 ? 0 : http_error(call, http_code(call));
}

static int start(struct call *call, const char *path, const char *json)
{
    char bearer[1024];
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    if (call->c->key) {
        snprintf(bearer, sizeof(bearer), "Authorization: Bearer %.900s", call->c->key);
        headers = curl_slist_append(headers, bearer);
    }
    call->curl = curl_easy_init();
    int r = call->curl ? perform(call, path, json, headers) : error_set(call->e, ERR_MEMORY, "no memory for HTTP");
    curl_easy_cleanup(call->curl);
    curl_slist_free_all(headers);
    return r;
}

int client_call(const struct client *c, const char *path, const char *json, struct buffer *body, struct error *e)
{
    struct call call = {.c = c, .body = body, .e = e};
    buffer_init(body, CLIENT_BODY_MAX);
    return start(&call, path, json);
}

int client_stream(const struct client *c, const char *path, const char *json,
                  int (*event)(void *arg, const char *data, struct error *e), void *arg, struct error *e)
{
    struct buffer body;
    struct call call = {.c = c, .body = &body, .event = event, .arg = arg, .e = e};
    buffer_init(&body, ERROR_BODY_MAX);
    buffer_init(&call.line, LINE_MAX_BYTES);
    int r = start(&call, path, json);
    buffer_close(&body);
    buffer_close(&call.line);
    return r;
}
