/* heads: settings to options. */
#include "cli/heads.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/logger.h"
#include "base/memory.h"
#include "base/path.h"
#include "net/http_tls.h"

int heads_log_level(const struct settings *s, struct error *e)
{
    const char *level = settings_text(s, "log_level");
    if (logger_level_parse(level))
        return 0;
    return error_set(e, ERR_INVALID, "--log-level: \"%.40s\" is not error, warn, info or debug", level);
}

char *heads_state_dir(const struct settings *s, const char *name)
{
    const char *given = settings_text(s, "state_dir");
    char *base = given ? mem_strdup(given) : path_state_dir();
    char *dir = path_join(base, name);
    mem_free(base);
    return dir;
}

int heads_api_dir(char **out, const struct settings *s, struct error *e)
{
    struct error why = {0};
    *out = heads_state_dir(s, "coordinator");
    int r = path_make_dirs(*out, 0700, &why);
    if (r == 0 && access(*out, W_OK | X_OK) != 0)
        r = error_set(&why, ERR_IO, "%s cannot be written to", *out);
    if (r == 0)
        return 0;
    bool needed = settings_given(s, "state_dir") || path_exists(*out);
    mem_free(*out);
    *out = NULL;
    return needed ? error_set(e, r, "%s", why.text) : 0;
}

/* Before a model is read for minutes. */
static int check_tls(const struct coordinator_options *o, struct error *e)
{
    if (!o->tls_cert != !o->tls_key)
        return error_set(e, ERR_CONFIG, "--tls-cert and --tls-key go together, and --tls-%s is missing",
                         o->tls_cert ? "key" : "cert");
    return o->tls_cert ? http_tls_check(o->tls_cert, o->tls_key, e) : 0;
}

int heads_options(struct coordinator_options *o, const struct settings *s, const char *model_path, struct error *e)
{
    size_t n_adapters;
    *o = (struct coordinator_options){
        .control = {
            .model_path = model_path,
            .cache_dir = settings_text(s, "cache_dir"),
            .context = (uint32_t)settings_count(s, "context"),
            .kv_tokens = (uint32_t)settings_count(s, "kv_tokens"),
            .sequences_max = (uint32_t)settings_count(s, "sequences"),
            .batch_rows_max = (uint32_t)settings_count(s, "batch_rows"),
            .kv_type = settings_text(s, "kv_type"),
            .rows_type = "f32",
            .adapters = settings_texts(s, "lora", &n_adapters),
        },
        .http_host = settings_text(s, "host"),
        .http_port = (uint16_t)settings_count(s, "port"),
        .model_name = settings_text(s, "model_name"),
        .chat_template = settings_text(s, "chat_template"),
        .api_key = settings_text(s, "api_key"),
        .tls_cert = settings_text(s, "tls_cert"),
        .tls_key = settings_text(s, "tls_key"),
        .cors = settings_text(s, "cors"),
        .insecure_no_key = settings_switch(s, "insecure_no_key"),
    };
    o->control.n_adapters = n_adapters;
    int r = heads_log_level(s, e);
    return r == 0 ? check_tls(o, e) : r;
}

char *heads_temporary_dir(struct error *e)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = mem_printf("%s/shoal-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    if (mkdtemp(dir))
        return dir;
    error_set(e, ERR_IO, "%s: no temporary folder can be made there", dir);
    mem_free(dir);
    return NULL;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    (void)remove(path);
    return 0;
}

void heads_remove_dir(char **dir_p)
{
    if (*dir_p)
        (void)nftw(*dir_p, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    mem_free(*dir_p);
    *dir_p = NULL;
}
