/* http_tls: GnuTLS, which libmicrohttpd uses too, says what is wrong with a file. */
#include "net/http_tls.h"

#include <stdint.h>
#include <string.h>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "base/memory.h"
#include "base/path.h"

static gnutls_datum_t datum(const char *text)
{
    return (gnutls_datum_t){.data = (unsigned char *)(uintptr_t)text, .size = (unsigned)strlen(text)};
}

static int check_cert(const char *text, const char *path, struct error *e)
{
    gnutls_x509_crt_t *list = NULL;
    unsigned n = 0;
    gnutls_datum_t data = datum(text);
    int rc = gnutls_x509_crt_list_import2(&list, &n, &data, GNUTLS_X509_FMT_PEM, 0);
    for (unsigned i = 0; rc >= 0 && i < n; i++)
        gnutls_x509_crt_deinit(list[i]);
    if (rc >= 0)
        gnutls_free(list);
    return rc >= 0 ? 0 : error_set(e, ERR_CONFIG, "%s holds no certificate as PEM: %s", path, gnutls_strerror(rc));
}

static int check_key(const char *text, const char *path, struct error *e)
{
    gnutls_x509_privkey_t key;
    gnutls_datum_t data = datum(text);
    if (gnutls_x509_privkey_init(&key) < 0)
        return error_set(e, ERR_MEMORY, "no memory for a key");
    int rc = gnutls_x509_privkey_import2(key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
    gnutls_x509_privkey_deinit(key);
    if (rc >= 0)
        return 0;
    if (strstr(text, "ENCRYPTED"))
        return error_set(e, ERR_CONFIG, "%s is locked with a passphrase; the server needs a key without one", path);
    return error_set(e, ERR_CONFIG, "%s holds no private key as PEM: %s", path, gnutls_strerror(rc));
}

static int check_pair(const struct http_tls *t, const char *cert_path, const char *key_path, struct error *e)
{
    gnutls_certificate_credentials_t both;
    gnutls_datum_t cert = datum(t->cert), key = datum(t->key);
    if (gnutls_certificate_allocate_credentials(&both) < 0)
        return error_set(e, ERR_MEMORY, "no memory for a certificate");
    int rc = gnutls_certificate_set_x509_key_mem(both, &cert, &key, GNUTLS_X509_FMT_PEM);
    gnutls_certificate_free_credentials(both);
    if (rc == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
        return error_set(e, ERR_CONFIG, "the key of %s is not that of the first certificate of %s", key_path,
                         cert_path);
    return rc >= 0 ? 0 : error_set(e, ERR_CONFIG, "%s and %s: %s", cert_path, key_path, gnutls_strerror(rc));
}

static int read_text(char **out, const char *path, struct error *e)
{
    size_t len;
    int r = path_read(path, HTTP_TLS_BYTES_MAX, out, &len, e);
    return r == 0 && strlen(*out) != len ? error_set(e, ERR_CONFIG, "%s is not PEM text", path) : r;
}

int http_tls_read(struct http_tls *out, const char *cert_path, const char *key_path, struct error *e)
{
    *out = (struct http_tls){0};
    int r = read_text(&out->cert, cert_path, e);
    if (r == 0)
        r = read_text(&out->key, key_path, e);
    if (r == 0)
        r = check_cert(out->cert, cert_path, e);
    if (r == 0)
        r = check_key(out->key, key_path, e);
    return r == 0 ? check_pair(out, cert_path, key_path, e) : r;
}

void http_tls_free(struct http_tls *t)
{
    if (t->key)
        explicit_bzero(t->key, strlen(t->key));
    mem_free(t->cert);
    mem_free(t->key);
    *t = (struct http_tls){0};
}

int http_tls_check(const char *cert_path, const char *key_path, struct error *e)
{
    struct http_tls t;
    int r = http_tls_read(&t, cert_path, key_path, e);
    http_tls_free(&t);
    return r;
}
