/* http_lines: whether a request's head says one thing only.
 *
 * Where two servers read a head differently, one request becomes two: that is
 * how requests are smuggled past a proxy.  libmicrohttpd before 1.0 lets pass
 * what others refuse or read otherwise: lines that end in a bare LF, values
 * with a NUL (it stops there), lines that are folded (it adds the second to
 * the first one's name), names with blanks.  It cuts lines where they lie and
 * ends each part with a NUL, so the parts of a clean head lie side by side;
 * what does not is refused.  Later versions look themselves when told to be
 * strict, and are (http_server.c).                                            */
#include <string.h>
#include <strings.h>

#include "net/http_exchange.h"

struct head {
    const char *end; /* of the part before */
    unsigned lengths, codings, hosts;
    bool sound, identity, chunked;
    bool met; /* every expectation is one that is met */
};

static bool is_name(const char *s, size_t n)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
    return n > 0 && strspn(s, letters) == n;
}

static bool is_value(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)s[i] < 0x20 && s[i] != '\t') || s[i] == 0x7f)
            return false;
    return true;
}

#if MHD_VERSION < 0x00097701
/* A line is its name, a colon, blanks, its value and CRLF, of which MHD makes NULs. */
static bool lies_behind(const struct head *h, const char *name, size_t name_len, const char *value, size_t value_len)
{
    const char *colon = name + name_len;
    return name == h->end + 2 && value > colon && strspn(colon + 1, " \t") == (size_t)(value - colon - 1) &&
           value[value_len] == '\0' && value[value_len + 1] == '\0';
}

/* The last one's CRLF, then that of the empty line. */
static bool is_last(const struct head *h)
{
    static const char ends[4];
    return memcmp(h->end, ends, sizeof(ends)) == 0;
}
#else
static bool lies_behind(const struct head *h, const char *name, size_t name_len, const char *value, size_t value_len)
{
    (void)h, (void)name, (void)name_len, (void)value, (void)value_len;
    return true;
}

static bool is_last(const struct head *h)
{
    (void)h;
    return true;
}
#endif

static enum MHD_Result look(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len, const char *value,
                            size_t value_len)
{
    struct head *h = cls;
    (void)kind;
    if (value == NULL || !is_name(name, name_len) || !is_value(value, value_len) ||
        !lies_behind(h, name, name_len, value, value_len)) {
        h->sound = false;
        return MHD_NO;
    }
    h->end = value + value_len;
    h->lengths += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    h->hosts += strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0;
    if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        h->codings++;
        h->chunked = strcasecmp(value, "chunked") == 0;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_ENCODING) == 0) {
        h->identity = h->identity && strcasecmp(value, "identity") == 0;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_EXPECT) == 0) {
        h->met = h->met && strcasecmp(value, "100-continue") == 0;
    }
    return MHD_YES;
}

void http_head_read(struct MHD_Connection *mhd, const char *version, struct http_head *out)
{
    struct head h = { .end = version + strlen(version), .sound = true, .identity = true, .met = true };
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, look, &h);
    bool old = strcmp(version, "HTTP/1.0") == 0;
    *out = (struct http_head){
        .sound = h.sound && is_last(&h) && h.hosts <= 1,
        .framed = h.lengths + h.codings <= 1 && (h.codings == 0 || (h.chunked && !old)),
        .chunked = h.chunked,
        .plain = h.identity,
        .met = h.met,
    };
}
