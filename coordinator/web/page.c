/* page: the files of the page, from the program to the browser. */
#include "coordinator/web/page.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/memory.h"
#include "coordinator/web/files.h"

enum { TAG_BYTES = 16, TAG_TEXT = 2 * TAG_BYTES + 3 };

#define SCRIPT "text/javascript; charset=utf-8"

/* Everything from here, no HTML out of strings, in nobody's frame. */
static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

static const struct file {
    const char *name;
    const unsigned char *bytes;
    const size_t *len;
} files[] = {
#define X(name, symbol) { name, symbol, &symbol##_len },
    PAGE_FILES
#undef X
};

const char *page_file(size_t i)
{
    return i < COUNTOF(files) ? files[i].name : NULL;
}

static const struct file *find(const char *name)
{
    for (size_t i = 0; i < COUNTOF(files); i++)
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    return NULL;
}

static const char *media_type(const char *name)
{
    static const struct {
        const char *ending, *type;
    } types[] = {
        { ".html", "text/html; charset=utf-8" },
        { ".css", "text/css; charset=utf-8" },
        { ".js", SCRIPT },
        { ".svg", "image/svg+xml" },
    };
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; i < COUNTOF(types); i++)
        if (strcmp(types[i].ending, dot) == 0)
            return types[i].type;
    return "application/octet-stream";
}

/* Another build's file has another tag. */
static void make_tag(const struct file *f, char tag[static TAG_TEXT])
{
    unsigned char hash[TAG_BYTES];
    char hex[2 * TAG_BYTES + 1];
    crypto_generichash(hash, sizeof(hash), f->bytes, *f->len, NULL, 0);
    sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
    snprintf(tag, TAG_TEXT, "\"%s\"", hex);
}

/* "*", or the tag among those that the client has. */
static bool client_has(const struct http_exchange *x, const char *tag)
{
    const char *given = http_request_header(x, "If-None-Match");
    return given != NULL && (strcmp(given, "*") == 0 || strstr(given, tag) != NULL);
}

static void put_headers(struct http_exchange *x, const char *tag)
{
    http_reply_header(x, "ETag", tag);
    http_reply_header(x, "Cache-Control", "no-cache");
    http_reply_header(x, "Vary", "Accept");
    http_reply_header(x, "Content-Security-Policy", policy);
    http_reply_header(x, "X-Content-Type-Options", "nosniff");
    http_reply_header(x, "Referrer-Policy", "no-referrer");
    http_reply_header(x, "Cross-Origin-Opener-Policy", "same-origin");
}

/* A browser names text/html; what is no browser takes anything, or JSON.  "text/html;q=0" is a refusal. */
bool page_wanted(const struct http_exchange *x)
{
    static const char name[] = "text/html";
    const char *accept = http_request_header(x, "Accept");
    const char *at = accept == NULL ? NULL : strstr(accept, name);
    if (at == NULL)
        return false;
    at += sizeof(name) - 1;
    const char *weight = strstr(at, "q=");
    return weight == NULL || weight > at + strcspn(at, ",") || strtod(weight + 2, NULL) > 0;
}

bool page_reply(struct http_exchange *x, const char *name)
{
    const struct file *f = find(name);
    char tag[TAG_TEXT];
    if (f == NULL)
        return false;
    make_tag(f, tag);
    put_headers(x, tag);
    if (client_has(x, tag))
        http_reply(x, 304, media_type(name), "", 0);
    else
        http_reply(x, 200, media_type(name), f->bytes, *f->len);
    return true;
}
