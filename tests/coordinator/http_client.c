/* http_client: see http_client.h. */
#include "tests/coordinator/http_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "base/buffer.h"
#include "base/memory.h"

enum { ANSWER_MAX = 64 << 20, TIMEOUT_S = 60 };

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

struct reply http_call(uint16_t port, const char *path, const char *body, const char *header)
{
    struct buffer out, heads;
    buffer_init(&out, ANSWER_MAX);
    buffer_init(&heads, 1 << 20);
    char url[2048];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", port, path);
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

