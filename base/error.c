/* error: statuses from one table, sentences made printable before they are kept. */
#include "base/error.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct status_row {
    const char *name, *words;
    int value, http, exit_code;
};

static const struct status_row rows[] = {
#define XX(name, value, http, exit_code, words) {#name, words, -(value), http, exit_code},
    STATUS_MAP(XX)
#undef XX
};

static const struct status_row *row_of(int status)
{
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        if (rows[i].value == status)
            return &rows[i];
    }
    return NULL;
}

/* Bytes of the UTF-8 character that starts with `lead`; 0 when none does. */
static size_t character_bytes(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    return lead < 0xC2 || lead > 0xF4 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* Control characters and bytes of no character become '?': no terminal escape and no line break
 * survives.  A character cut by the end is dropped whole. */
void error_printable(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p;) {
        size_t n = character_bytes(*p), got = 1;
        while (got < n && (p[got] & 0xC0) == 0x80)
            got++;
        if (got < n && p[got] == 0) {
            *p = 0;
            return;
        }
        bool control = *p < 0x20 || *p == 0x7F || (*p == 0xC2 && p[1] < 0xA0); /* C2 80..9F: C1 controls */
        if (got != n || control)
            memset(p, '?', got);
        p += got;
    }
}

int error_setv(struct error *e, int status, const char *format, va_list args)
{
    if (e) {
        e->status = status;
        vsnprintf(e->text, sizeof(e->text), format, args);
        error_printable(e->text);
    }
    return status;
}

int error_set(struct error *e, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error_setv(e, status, format, args);
    va_end(args);
    return status;
}

int error_context(struct error *e, const char *format, ...)
{
    if (!e)
        return ERR_INTERNAL;
    char context[sizeof(e->text)];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof(context), format, args);
    va_end(args);
    char old[sizeof(e->text)];
    memcpy(old, e->text, sizeof(old));
    int n = snprintf(e->text, sizeof(e->text), "%.200s: %.300s", context, old);
    if (n < 0)
        e->text[0] = 0;
    error_printable(e->text);
    return e->status;
}

const char *status_name(int status)
{
    const struct status_row *r = row_of(status);
    return status == 0 ? "OK" : r ? r->name : "UNKNOWN";
}

const char *status_words(int status)
{
    const struct status_row *r = row_of(status);
    return status == 0 ? "ok" : r ? r->words : "unknown error";
}

int status_http(int status)
{
    const struct status_row *r = row_of(status);
    return status == 0 ? 200 : r ? r->http : 500;
}

int status_exit(int status)
{
    const struct status_row *r = row_of(status);
    return status == 0 ? 0 : r ? r->exit_code : 70;
}
