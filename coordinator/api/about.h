/* about: what a model is and where it lies, as clients ask for it.  Not for other folders. */
#ifndef COORDINATOR_API_ABOUT_H
#define COORDINATOR_API_ABOUT_H

#include "coordinator/api/private.h"

/* "Q4_K_M": what the file calls itself, else the type that most of its bytes have. */
const char *about_quantization(const struct model *m);
/* "8.2B", "11.20M"; caller frees. */
char *about_parameters(const struct model *m);
char *about_size(double parameters); /* the same, of a number */
/* {"state", "stages": [{"node", "layer_first", "layer_last"}]}; layer_last is exclusive. The caller's. */
json_t *about_placement(const struct control_route *route);
const char *about_state(const struct control_route *route); /* "waiting", "loading", "ready" */

#endif
