/* coordinator: both halves and the HTTP server in one: what `shoal coordinator` and `shoal serve` start.
 *
 * A fresh token for the operator's endpoints is written to admin-token in the
 * state folder (readable by this user only) at every start, unless another
 * process on the same folder uses the one that is there.                     */
#ifndef COORDINATOR_COORDINATOR_H
#define COORDINATOR_COORDINATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "coordinator/control.h"

struct coordinator_options {
    struct control_options control;
    const char *api_state_dir; /* of the operator's token and users' keys; NULL: the control half's */
    const char *http_host; /* "127.0.0.1" */
    uint16_t http_port;    /* 8080; 0: ephemeral */
    const char *model_name; /* id in the API; NULL: the file's name without .gguf */
    const char *chat_template; /* a file to use instead of the model's own template; NULL: the model's */
    uint32_t connections_max; /* 0: 256 */
    const char *api_key;      /* NULL: the API is open to who can reach it, unless keys were made */
    const char *tls_cert, *tls_key; /* PEM files of the API; NULL: plain HTTP */
    const char *cors;         /* the origin whose pages may use the API, "*": every; lives as long; NULL: none */
    bool insecure_no_key;     /* without any key others than this machine may still come */
};

struct coordinator;

MUST_USE int coordinator_start(struct coordinator **out, const struct coordinator_options *o, struct error *e);
void coordinator_stop(struct coordinator **c);
uint16_t coordinator_http_port(const struct coordinator *c);
struct control *coordinator_control(struct coordinator *c);
const char *coordinator_token(const struct coordinator *c); /* the operator's */

#endif
