/* pull_state: what the parts of a pull share. Not for others. */
#ifndef COORDINATOR_PULL_PULL_STATE_H
#define COORDINATOR_PULL_PULL_STATE_H

#include "base/spans.h"
#include "coordinator/pull/hub.h"
#include "coordinator/pull/pull.h"
#include "net/download.h"

struct pull {
    const struct pull_options *o;
    struct http_client *client;
    struct hub_source source;
    struct hub_listing listing;
    struct hub_choice choice;
    char *name, *part, *what; /* what: for progress */
    uint64_t before, total;   /* bytes of files that are done; of all that are to come */
};

struct hub_file *pull_file(const struct pull *p, size_t i); /* i: of the choice */
char *pull_path(const struct pull *p, size_t i);            /* where it is put together. Caller frees */
/* The file, or the wanted stretches of it. */
MUST_USE int pull_fetch(struct pull *p, size_t i, const struct span *wanted, size_t n, struct error *e);
/* Bytes of the wanted stretches that are here. */
uint64_t pull_left(const struct pull *p, size_t i, const struct span *wanted, size_t n);
MUST_USE int pull_check_room(const struct pull *p, uint64_t missing, struct error *e);

/* pull_layers.c: heads, then the layers' bytes, then the records. */
MUST_USE int pull_layers(struct pull *p, uint32_t first, uint32_t last, uint64_t *fetched, struct error *e);

#endif
