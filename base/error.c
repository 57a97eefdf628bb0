/* error: statuses from one table, sentences made printable before they are kept. */
#include "base/error.h"

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

/* Control bytes become '?': no terminal escape and no line break survives.  A character cut by
 * the buffer's end is dropped whole. */
static void make_printable(char *text)
{
    size_t n = strlen(text);
    while (n > 0 && ((unsigned char)text[n - 1] & 0xC0) == 0x80 && n == sizeof(((struct error *)0)->text) - 1)
        text[--n] = 0;
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7F)
            *p = '?';
        else if (*p == 0xC2 && p[1] >= 0x80 && p[1] < 0xA0)
            p[0] = p[1] = '?'; /* C1 controls in UTF-8 */
    }
}

int error_setv(struct error *e, int status, const char *format, va_list args)
{
    if (e) {
        e->status = status;
        vsnprintf(e->text, sizeof(e->text), format, args);
        make_printable(e->text);
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
    make_printable(e->text);
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
