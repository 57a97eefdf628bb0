/* http_names: what a request calls things: paths, hosts and origins.  All of it is a stranger's text. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "net/http_exchange.h"

enum { AUTHORITY_MAX = 280 };

/* The host of "host", "host:port", "[v6]:port" into out, lower case; false when it is no authority. */
static bool host_of(const char *authority, char out[static AUTHORITY_MAX])
{
    size_t n = authority[0] == '[' ? strcspn(authority, "]") : strcspn(authority, ":");
    if (authority[0] == '[') {
        if (authority[n] != ']')
            return false;
        authority++;
        n--;
    }
    if (n == 0 || n >= AUTHORITY_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)tolower((unsigned char)authority[i]);
    out[n] = '\0';
    return true;
}

static bool is_dotted_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host);
}

/* What containers call the machine that runs them: names of a domain that nobody can own. */
static bool is_container_host(const char *host)
{
    return strcmp(host, "host.docker.internal") == 0 || strcmp(host, "host.containers.internal") == 0;
}

bool http_host_is_local(const char *authority)
{
    char host[AUTHORITY_MAX];
    if (!host_of(authority, host))
        return false;
    if (is_container_host(host))
        return true;
    size_t n = strlen(host);
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 || is_dotted_loopback(host) ||
           (n > 10 && strcmp(host + n - 10, ".localhost") == 0);
}

bool http_origin_is_local(const char *origin)
{
    static const char *const programs[] = { "app://", "tauri://", "vscode-webview://", "vscode-file://" };
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
        if (strncmp(origin, programs[i], strlen(programs[i])) == 0)
            return true;
    return http_origin_allowed(origin, NULL);
}

bool http_origin_allowed(const char *origin, const char *host)
{
    const char *authority = strstr(origin, "://");
    if (authority == NULL || (strncmp(origin, "http:", 5) != 0 && strncmp(origin, "https:", 6) != 0))
        return false;
    authority += 3;
    return http_host_is_local(authority) || (host != NULL && strcasecmp(authority, host) == 0);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_path_decode(const char *url, char *out)
{
    size_t n = 0;
    for (const char *p = url; *p != '\0'; p++) {
        int c = (unsigned char)*p;
        if (c == '%') {
            int high = hex_digit(p[1]);
            int low = high < 0 ? -1 : hex_digit(p[2]);
            if (low < 0)
                return false;
            c = high * 16 + low;
            p += 2;
        }
        if (c < 0x20 || c == 0x7f || n + 1 >= HTTP_PATH_MAX)
            return false;
        if (c != '/' || n == 0 || out[n - 1] != '/')
            out[n++] = (char)c;
    }
    while (n > 1 && out[n - 1] == '/')
        n--;
    out[n] = '\0';
    return n > 0 && out[0] == '/';
}
