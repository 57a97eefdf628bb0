/* error: how every fallible function of the house says what went wrong.
 *
 * A fallible function returns 0 or a negative `enum status`; its last argument
 * is a `struct error *` that receives one sentence for people.  The status is
 * for code, the sentence for people: no code reads the sentence.  The argument
 * may be NULL where nobody will read it.  error_set() returns the status, so
 * that failing is one line:
 *
 *     return error_set(e, ERR_CORRUPT, "%s: tensor %s ends past the file", path, name);
 *
 * Text that comes from a file, a socket or a user is made printable before it
 * is kept, so that no terminal escape survives.                              */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define COUNTOF(a) (sizeof(a) / sizeof((a)[0]))

/* name, value (stable: it also travels on the wire), HTTP status, exit code (sysexits), words */
#define STATUS_MAP(XX)                                              \
    XX(INVALID, 1, 400, 64, "invalid argument")                     \
    XX(CORRUPT, 2, 422, 65, "corrupt data")                         \
    XX(UNSUPPORTED, 3, 501, 69, "not supported")                    \
    XX(NOT_FOUND, 4, 404, 66, "not found")                          \
    XX(LIMIT, 5, 400, 69, "over a limit")                           \
    XX(BUSY, 6, 429, 75, "busy")                                    \
    XX(TIMEOUT, 7, 504, 75, "deadline passed")                      \
    XX(IO, 8, 500, 74, "input/output error")                        \
    XX(DENIED, 9, 403, 77, "not allowed")                           \
    XX(GONE, 10, 503, 69, "peer is gone")                           \
    XX(CANCELLED, 11, 499, 130, "cancelled")                        \
    XX(MEMORY, 12, 507, 71, "not enough memory")                    \
    XX(CONFLICT, 13, 409, 70, "conflicting state")                  \
    XX(CONFIG, 14, 500, 78, "configuration error")                  \
    XX(UNAVAILABLE, 15, 503, 69, "not ready")                       \
    XX(INTERNAL, 16, 500, 70, "internal error")

enum status {
    STATUS_OK = 0,
#define XX(name, value, http, exit_code, words) ERR_##name = -(value),
    STATUS_MAP(XX)
#undef XX
};

struct error {
    int status;     /* 0 or the enum status of the last error_set()      */
    char text[512]; /* one printable sentence, NUL-terminated, no newline */
};

/* Store a sentence and return `status`.  `e` may be NULL. */
int error_set(struct error *e, int status, const char *format, ...) PRINTF_LIKE(3, 4);
int error_setv(struct error *e, int status, const char *format, va_list args);
/* Make text printable in place, as error_set() does: for other words of a stranger's that people will read. */
void error_printable(char *text);
/* Put "<context>: " before the stored sentence; returns e->status.  Once, at the layer that knows it. */
int error_context(struct error *e, const char *format, ...) PRINTF_LIKE(2, 3);

const char *status_name(int status);  /* "CORRUPT"; "OK" for 0; "UNKNOWN" for what is no status */
const char *status_words(int status); /* "corrupt data" */
int status_http(int status);          /* 200 for 0, 500 for what is no status */
int status_exit(int status);          /* 0 for 0, 70 for what is no status */

#endif
