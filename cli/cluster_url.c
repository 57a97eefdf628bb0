/* cluster_url: "http..." as it is, anything else read as a file of settings. */
#include "cli/cluster_url.h"

#include <string.h>

#include "base/memory.h"

int cluster_url_of(const char *text, char **url, struct error *e)
{
    *url = NULL;
    if (strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0) {
        *url = mem_strdup(text);
        return 0;
    }
    struct settings *s;
    bool help;
    const char *const argv[] = {"coordinator", "--config", text, NULL};
    int r = settings_read(&s, CMD_COORDINATOR, 3, (char **)(uintptr_t)argv, &help, e);
    if (r != 0)
        return r;
    const char *host = settings_text(s, "host");
    bool every = strcmp(host, "0.0.0.0") == 0, six = strchr(host, ':') != NULL;
    bool secret = settings_text(s, "tls_cert") != NULL;
    *url = mem_printf("%s://%s%s%s:%u", secret ? "https" : "http", six ? "[" : "", every ? "127.0.0.1" : host,
                      six ? "]" : "", (unsigned)settings_count(s, "port"));
    settings_free(&s);
    return 0;
}

int cluster_url_for(const struct settings *s, char **url, struct error *e)
{
    const char *file = settings_text(s, "config");
    if (file && !settings_given(s, "url"))
        return cluster_url_of(file, url, e);
    *url = mem_strdup(settings_text(s, "url"));
    return 0;
}
