/* cluster_url: --cluster's value, a base URL or a coordinator's YAML file, as a base URL. */
#ifndef CLI_CLUSTER_URL_H
#define CLI_CLUSTER_URL_H

#include "base/error.h"
#include "cli/settings.h"

/* Caller frees *url. A file's host and port are used, and whether it has a certificate, with their defaults. */
MUST_USE int cluster_url_of(const char *text, char **url, struct error *e);
/* The coordinator that a client command means: --url, else host and port of --config, else the default. */
MUST_USE int cluster_url_for(const struct settings *s, char **url, struct error *e);

#endif
