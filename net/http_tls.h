/* http_tls: the certificate and the key that a server shows, read from PEM files and found to belong together. */
#ifndef NET_HTTP_TLS_H
#define NET_HTTP_TLS_H

#include "base/error.h"

enum { HTTP_TLS_BYTES_MAX = 1 << 20 }; /* of a file */

struct http_tls {
    char *cert, *key; /* PEM texts; NULL: plain HTTP */
};

/* The certificate's file may hold those between it and an authority after it. The sentence names the file that is
 * wrong. http_tls_free() in every case. */
MUST_USE int http_tls_read(struct http_tls *out, const char *cert_path, const char *key_path, struct error *e);
void http_tls_free(struct http_tls *t); /* wipes the key */
/* Whether http_tls_read() would succeed. */
MUST_USE int http_tls_check(const char *cert_path, const char *key_path, struct error *e);

#endif
