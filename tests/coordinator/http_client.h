/* http_client: a client (libcurl) that keeps what it was answered, for tests. */
#ifndef TESTS_COORDINATOR_HTTP_CLIENT_H
#define TESTS_COORDINATOR_HTTP_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

struct reply {
    int status;
    char *body;    /* NUL-terminated */
    size_t len;
    char *headers; /* as they came */
    json_t *json;  /* NULL when it is none */
};

/* body NULL: GET. header: one more "Name: value", or NULL. */
struct reply http_call(uint16_t port, const char *path, const char *body, const char *header);
void reply_free(struct reply *r);
/* The string at "a.b.0.c", or NULL. */
const char *reply_text(const struct reply *r, const char *where);
const json_t *reply_at(const struct reply *r, const char *where);

#endif
