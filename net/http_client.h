/* http_client: small documents from one server, patiently: who fetches from a hub asks through this.
 *
 * A client belongs to one origin (scheme, host, port).  Its token goes there and
 * nowhere else: redirects are followed one by one, and each is asked whether it
 * leaves the origin.  From https nothing leads to http.  What may pass (429, 5xx,
 * a cut connection) is tried again, with growing pauses or those that the server
 * asks for, a bounded number of times.  One thread owns a client.             */
#ifndef NET_HTTP_CLIENT_H
#define NET_HTTP_CLIENT_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum {
    HTTP_HOPS_MAX = 5,        /* redirects in a row */
    HTTP_ATTEMPTS_MAX = 8,    /* without a byte of success between them */
    HTTP_CONNECTS_MAX = 3,    /* the same, where nobody answers at all */
    HTTP_PAUSE_MS = 250,      /* before the second attempt; doubles */
    HTTP_PAUSE_MAX_MS = 30000,
    HTTP_ASKED_PAUSE_MAX_MS = 300000, /* of a Retry-After */
    HTTP_URL_MAX = 8192,
    HTTP_ETAG_MAX = 255,
};

struct http_client;

/* `origin` is a base URL without a slash at its end; token: NULL for none. stop() may be NULL; once it is true every
 * wait ends with ERR_CANCELLED. ERR_INVALID: no http or https URL. */
MUST_USE int http_client_open(struct http_client **out, const char *origin, const char *token,
                              bool (*stop)(void *arg), void *arg, struct error *e);
void http_client_close(struct http_client **c);

const char *http_client_origin(const struct http_client *c);
bool http_client_owns(const struct http_client *c, const char *url); /* the token goes along */
bool http_client_stopped(const struct http_client *c);
/* False, with the sentence, when stopped before that. */
MUST_USE bool http_client_pause(const struct http_client *c, uint64_t ms, struct error *e);

/* A document; ERR_LIMIT past bytes_max. *next is where the listing goes on (Link: rel="next"), NULL: nowhere; caller
 * frees; `next` may be NULL. ERR_DENIED for 401 and 403, ERR_NOT_FOUND for 404. */
MUST_USE int http_client_get(struct http_client *c, const char *url, size_t bytes_max, struct buffer *body,
                             char **next, struct error *e);

/* Where a file really lies. */
struct http_place {
    char *url;        /* what to ask for ranges; of mem_alloc() */
    uint64_t bytes;   /* UINT64_MAX: the server does not say */
    char etag[HTTP_ETAG_MAX + 1]; /* of the file, without quotes; "": it does not say */
};
/* Asks for the head of the file alone, and follows redirects within the origin. */
MUST_USE int http_client_locate(struct http_client *c, const char *url, struct http_place *out, struct error *e);
void http_place_close(struct http_place *p);

/* ---- for those who drive transfers of their own (net/download.c) ---- */

/* A handle with this house's limits, for a URL; the token is given where it may be. Headers are the caller's. */
void http_client_prepare(const struct http_client *c, CURL *curl, const char *url);
/* True for what may pass: curl's code, or 0 and the status. */
bool http_may_pass(CURLcode code, long status);
/* How many of them in a row, when they fail so. */
unsigned http_attempts(CURLcode code);
/* Before attempt n (from 1 on); asked_s: of Retry-After, 0: none. */
uint64_t http_pause_ms(unsigned attempt, uint64_t asked_s);
/* The sentence for what went wrong. */
int http_refused(const char *url, CURLcode code, long status, struct error *e);
/* The URL without the part that may hold a signature; returns text. */
char *http_url_shown(const char *url, char text[static 256]);
/* True when a redirect may lead from the client's origin to the URL: http and https alone, and never down to http. */
bool http_client_may_follow(const struct http_client *c, const char *url);
/* The value of a header line called `name` with lower-case letters, trimmed, into text; false: it is another. */
bool http_header_is(const char *line, size_t n, const char *name, char *text, size_t room);

#endif
