/* http_client: one curl handle; redirects by hand, so that it is seen here where the token goes. */
#include "net/http_client.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/memory.h"

enum { CONNECT_S = 30, STALL_S = 60, PAUSE_SLICE_MS = 50 };

struct http_client {
    CURL *curl;
    char *origin, *token;
    bool (*stop)(void *arg);
    void *stop_arg;
};

/* ---- where a URL leads ---- */

/* "scheme://host:port" in lower case; NULL: it is none of http or https. Caller frees. */
static char *origin_of(const char *url)
{
    char *scheme = NULL, *host = NULL, *port = NULL, *out = NULL;
    CURLU *u = curl_url();
    if (u && strlen(url) < HTTP_URL_MAX && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
        (strcasecmp(scheme, "http") == 0 || strcasecmp(scheme, "https") == 0))
        out = mem_printf("%s://%s:%s", scheme, host, port);
    for (char *p = out; p && *p; p++)
        *p = (char)tolower((unsigned char)*p);
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return out;
}

bool http_client_owns(const struct http_client *c, const char *url)
{
    char *own = origin_of(c->origin), *other = origin_of(url);
    bool same = own && other && strcmp(own, other) == 0;
    mem_free(own);
    mem_free(other);
    return same;
}

bool http_client_may_follow(const struct http_client *c, const char *url)
{
    char *other = origin_of(url);
    bool may = other && (strncasecmp(c->origin, "https:", 6) != 0 || strncmp(other, "https:", 6) == 0);
    mem_free(other);
    return may;
}

char *http_url_shown(const char *url, char text[static 256])
{
    snprintf(text, 256, "%.*s", (int)strcspn(url, "?#"), url);
    return text;
}

/* ---- life ---- */

int http_client_open(struct http_client **out, const char *origin, const char *token, bool (*stop)(void *arg),
                     void *arg, struct error *e)
{
    char *whole = origin_of(origin);
    *out = NULL;
    if (!whole)
        return error_set(e, ERR_INVALID, "\"%.100s\" is no http or https URL", origin);
    mem_free(whole);
    if (token && strpbrk(token, "\r\n"))
        return error_set(e, ERR_INVALID, "the token has line ends in it");
    struct http_client *c = mem_alloc(sizeof(*c));
    *c = (struct http_client){.curl = curl_easy_init(), .origin = mem_strdup(origin), .stop = stop, .stop_arg = arg,
                              .token = token && token[0] ? mem_strdup(token) : NULL};
    for (size_t n = strlen(c->origin); n > 0 && c->origin[n - 1] == '/'; n--)
        c->origin[n - 1] = 0;
    *out = c;
    if (c->curl)
        return 0;
    http_client_close(out);
    return error_set(e, ERR_MEMORY, "libcurl cannot start");
}

void http_client_close(struct http_client **client_p)
{
    struct http_client *c = *client_p;
    if (!c)
        return;
    curl_easy_cleanup(c->curl);
    mem_free(c->origin);
    mem_free(c->token);
    mem_free(c);
    *client_p = NULL;
}

const char *http_client_origin(const struct http_client *c)
{
    return c->origin;
}

bool http_client_stopped(const struct http_client *c)
{
    return c->stop && c->stop(c->stop_arg);
}

/* ---- patience ---- */

bool http_client_pause(const struct http_client *c, uint64_t ms, struct error *e)
{
    for (uint64_t end = clock_ms() + ms, now; (now = clock_ms()) < end;) {
        if (http_client_stopped(c)) {
            (void)error_set(e, ERR_CANCELLED, "stopped");
            return false;
        }
        clock_sleep_ms(end - now < PAUSE_SLICE_MS ? end - now : PAUSE_SLICE_MS);
    }
    return true;
}

bool http_may_pass(CURLcode code, long status)
{
    if (code == CURLE_OK)
        return status == 408 || status == 425 || status == 429 || (status >= 500 && status != 501 && status != 505);
    return code != CURLE_URL_MALFORMAT && code != CURLE_UNSUPPORTED_PROTOCOL && code != CURLE_ABORTED_BY_CALLBACK &&
           code != CURLE_PEER_FAILED_VERIFICATION && code != CURLE_SSL_CACERT_BADFILE && code != CURLE_OUT_OF_MEMORY;
}

unsigned http_attempts(CURLcode code)
{
    return code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT ? HTTP_CONNECTS_MAX : HTTP_ATTEMPTS_MAX;
}

uint64_t http_pause_ms(unsigned attempt, uint64_t asked_s)
{
    uint64_t own = attempt > 7 ? HTTP_PAUSE_MAX_MS : (uint64_t)HTTP_PAUSE_MS << (attempt - 1);
    uint64_t asked = asked_s > HTTP_ASKED_PAUSE_MAX_MS / 1000 ? HTTP_ASKED_PAUSE_MAX_MS : asked_s * 1000;
    own = own > HTTP_PAUSE_MAX_MS ? HTTP_PAUSE_MAX_MS : own;
    return asked > own ? asked : own;
}

int http_refused(const char *url, CURLcode code, long status, struct error *e)
{
    char shown[256];
    http_url_shown(url, shown);
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return error_set(e, ERR_CANCELLED, "stopped");
    if (code != CURLE_OK)
        return error_set(e, ERR_UNAVAILABLE, "%s: %s", shown, curl_easy_strerror(code));
    if (status == 401 || status == 403)
        return error_set(e, ERR_DENIED, "%s: the server refuses (HTTP %ld)", shown, status);
    if (status == 404)
        return error_set(e, ERR_NOT_FOUND, "%s: is not there (HTTP 404)", shown);
    if (status == 429)
        return error_set(e, ERR_BUSY, "%s: the server asks for fewer requests (HTTP 429); try again later", shown);
    return error_set(e, ERR_UNAVAILABLE, "%s: the server answers with HTTP %ld", shown, status);
}

/* ---- one request ---- */

static int on_wait(void *arg, curl_off_t dt, curl_off_t dn, curl_off_t ut, curl_off_t un)
{
    (void)dt, (void)dn, (void)ut, (void)un;
    return http_client_stopped(arg);
}

void http_client_prepare(const struct http_client *c, CURL *curl, const char *url)
{
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "shoal/" SHOAL_VERSION);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "127.0.0.1,localhost,::1");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_wait);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, (void *)(uintptr_t)c); /* which is only read */
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (c->token && http_client_owns(c, url)) {
        curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, c->token);
    }
}

bool http_header_is(const char *line, size_t n, const char *name, char *text, size_t room)
{
    size_t k = strlen(name);
    if (n <= k || line[k] != ':' || strncasecmp(line, name, k) != 0)
        return false;
    for (k++; k < n && isspace((unsigned char)line[k]); k++)
        ;
    while (n > k && isspace((unsigned char)line[n - 1]))
        n--;
    snprintf(text, room, "%.*s", (int)(n - k), line + k);
    return true;
}

/* What one answer said. */
struct answer {
    struct buffer *body; /* NULL: its head alone is asked for */
    long status;
    uint64_t length, linked_length; /* UINT64_MAX: not said */
    char etag[HTTP_ETAG_MAX + 1], linked_etag[HTTP_ETAG_MAX + 1];
    char link[HTTP_URL_MAX];
    char *location; /* of a redirect; of mem_alloc() */
    uint64_t retry_after_s;
};

static void read_etag(const char *text, char out[static HTTP_ETAG_MAX + 1])
{
    text += strncmp(text, "W/", 2) == 0 ? 2 : 0;
    text += *text == '"';
    snprintf(out, HTTP_ETAG_MAX + 1, "%.*s", (int)strcspn(text, "\""), text);
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct answer *a = arg;
    char text[HTTP_URL_MAX];
    size_t n = size * count;
    if (http_header_is(line, n, "etag", text, sizeof(text)))
        read_etag(text, a->etag);
    else if (http_header_is(line, n, "x-linked-etag", text, sizeof(text)))
        read_etag(text, a->linked_etag);
    else if (http_header_is(line, n, "x-linked-size", text, sizeof(text)) && isdigit((unsigned char)text[0]))
        a->linked_length = strtoull(text, NULL, 10);
    else if (http_header_is(line, n, "content-length", text, sizeof(text)) && isdigit((unsigned char)text[0]))
        a->length = strtoull(text, NULL, 10);
    else if (http_header_is(line, n, "link", text, sizeof(text)))
        snprintf(a->link, sizeof(a->link), "%s", text);
    return n;
}

static size_t on_bytes(char *data, size_t size, size_t count, void *arg)
{
    struct answer *a = arg;
    if (a->body)
        buffer_add(a->body, data, size * count);
    return a->body && buffer_failed(a->body) ? 0 : size * count;
}

static CURLcode perform(struct http_client *c, const char *url, struct answer *a)
{
    char *location = NULL;
    curl_off_t wait = 0;
    struct buffer *body = a->body;
    mem_free(a->location);
    *a = (struct answer){.body = body, .length = UINT64_MAX, .linked_length = UINT64_MAX};
    if (body)
        buffer_clear(body);
    http_client_prepare(c, c->curl, url);
    curl_easy_setopt(c->curl, CURLOPT_NOBODY, body ? 0L : 1L);
    curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, a);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, a);
    CURLcode code = curl_easy_perform(c->curl);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &a->status);
    curl_easy_getinfo(c->curl, CURLINFO_REDIRECT_URL, &location);
    curl_easy_getinfo(c->curl, CURLINFO_RETRY_AFTER, &wait);
    a->location = location ? mem_strdup(location) : NULL;
    a->retry_after_s = wait > 0 ? (uint64_t)wait : 0;
    return code;
}

/* Performs until it is answered with something that will not pass: 2xx, 3xx, or an error. */
static int ask(struct http_client *c, const char *url, struct answer *a, struct error *e)
{
    for (unsigned attempt = 1;; attempt++) {
        CURLcode code = perform(c, url, a);
        if (code == CURLE_OK && a->status >= 200 && a->status < 400)
            return 0;
        if (a->body && buffer_failed(a->body))
            return error_set(e, ERR_LIMIT, "the server's answer is longer than %zu bytes", a->body->max);
        if (!http_may_pass(code, a->status) || attempt >= http_attempts(code))
            return http_refused(url, code, a->status, e);
        if (!http_client_pause(c, http_pause_ms(attempt, a->retry_after_s), e))
            return ERR_CANCELLED;
    }
}

/* Follows redirects; with `within`, only those that stay in the origin. *url is of mem_alloc(). */
static int ask_through(struct http_client *c, char **url, bool within, struct answer *a, struct error *e)
{
    for (int hop = 0;; hop++) {
        char shown[256];
        int r = ask(c, *url, a, e);
        if (r != 0 || a->status < 300)
            return r;
        if (!a->location || hop == HTTP_HOPS_MAX)
            return error_set(e, ERR_UNAVAILABLE, "%s: %s", http_url_shown(*url, shown),
                             a->location ? "too many redirects" : "leads nowhere");
        if (!http_client_may_follow(c, a->location))
            return error_set(e, ERR_DENIED, "%s: leads to another than a web address, or to one without encryption",
                             http_url_shown(*url, shown));
        mem_free(*url);
        *url = mem_strdup(a->location);
        if (within && !http_client_owns(c, *url))
            return 0;
    }
}

/* ---- what callers ask ---- */

/* The URL of <...>; rel="next", joined to the one that was asked. */
static char *next_of(const char *link, const char *url)
{
    char *out = NULL, *whole = NULL;
    const char *end;
    for (const char *p = strchr(link, '<'); p; p = strchr(end, '<')) {
        end = strchr(p, '>');
        if (!end)
            return NULL;
        size_t n = strcspn(end, ",");
        if (!memmem(end, n, "rel=\"next\"", 10))
            continue;
        char *target = mem_strndup(p + 1, (size_t)(end - p - 1));
        CURLU *u = curl_url();
        if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
            curl_url_set(u, CURLUPART_URL, target, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_URL, &whole, 0) == CURLUE_OK)
            out = mem_strdup(whole);
        curl_free(whole);
        curl_url_cleanup(u);
        mem_free(target);
        return out;
    }
    return NULL;
}

int http_client_get(struct http_client *c, const char *url, size_t bytes_max, struct buffer *body, char **next,
                    struct error *e)
{
    char *at = mem_strdup(url);
    struct answer *a = mem_alloc(sizeof(*a));
    buffer_init(body, bytes_max);
    a->body = body;
    if (next)
        *next = NULL;
    int r = ask_through(c, &at, false, a, e);
    if (r == 0 && next)
        *next = next_of(a->link, at);
    if (r == 0 && next && *next && !http_client_may_follow(c, *next)) {
        r = error_set(e, ERR_DENIED, "the server's list goes on at a place without encryption");
        mem_free(*next);
        *next = NULL;
    }
    if (r != 0)
        buffer_close(body);
    mem_free(a->location);
    mem_free(a);
    mem_free(at);
    return r;
}

int http_client_locate(struct http_client *c, const char *url, struct http_place *out, struct error *e)
{
    char *at = mem_strdup(url);
    struct answer *a = mem_alloc(sizeof(*a));
    *out = (struct http_place){.bytes = UINT64_MAX};
    int r = ask_through(c, &at, true, a, e);
    if (r == 0) { /* the length of a redirect is that of its own page */
        bool here = a->status < 300;
        *out = (struct http_place){.url = at, .bytes = a->linked_length};
        if (a->linked_length == UINT64_MAX && here)
            out->bytes = a->length;
        snprintf(out->etag, sizeof(out->etag), "%s", a->linked_etag[0] ? a->linked_etag : here ? a->etag : "");
        at = NULL;
    }
    mem_free(a->location);
    mem_free(a);
    mem_free(at);
    return r;
}

void http_place_close(struct http_place *p)
{
    mem_free(p->url);
    p->url = NULL;
}
