/* route: placement -> route, and what has to happen next until it is ready.
 *
 * A route is the ordered stages that together cover the model.  route_make()
 * is pure: it names the members, their layers and their endpoints.  A member
 * that holds or loads exactly its stage's shard already keeps it.  route_next()
 * looks at the members' shards and at the answers noted in the route, and says
 * the one thing to do now: load a shard, set a stage, give up on a stage.  The
 * caller does it and asks again.  No sockets, no clock.                       */
#ifndef COORDINATOR_ROUTE_H
#define COORDINATOR_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "coordinator/control.h"
#include "coordinator/place.h"
#include "coordinator/registry.h"

enum route_deadlines {
    ROUTE_LOAD_SILENT_MS = 120000, /* a load that says nothing for so long has failed */
    ROUTE_SET_MS = 15000,          /* a stage answers a SetRoute within this */
};

struct route_stage {
    struct member *member; /* stays in the registry while the route stands */
    struct shard_spec shard;
    char endpoint[300];
    bool asked, ready;     /* SetRoute sent, RouteReady received */
    uint64_t asked_ms;
};

struct route {
    uint64_t number; /* 0: none */
    uint32_t n;
    struct route_stage stages[PLACE_STAGES_MAX];
};

/* What every stage of a route shares. */
struct route_shape {
    uint32_t kv_type, kv_tokens, sequences_max, batch_rows_max;
};

/* ERR_INVALID names the node whose address cannot be dialled. */
MUST_USE int route_make(struct route *out, uint64_t number, const struct placement *p, const struct registry *r,
                        const struct route_shape *shape, struct error *e);
/* "tcp://host:port", IPv6 in brackets, IPv4 seen through IPv6 as IPv4. */
MUST_USE int route_endpoint(const struct node_facts *facts, char out[static 300], struct error *e);

enum route_action {
    ROUTE_WAIT,   /* for answers */
    ROUTE_LOAD,   /* send the stage's Load */
    ROUTE_SET,    /* send the stage its SetRoute */
    ROUTE_LATE,   /* the stage's node does not answer in time */
    ROUTE_STANDS, /* every stage is ready */
};

enum route_action route_next(const struct route *r, uint64_t now_ms, uint32_t *stage);
/* The SetRoute of the stage was sent. */
void route_asked(struct route *r, uint32_t stage, uint64_t now_ms);
/* The member's answer; false when it is no stage of this route. */
bool route_ready(struct route *r, uint64_t number, const struct member *m);
/* A member's connection was made anew: what was asked over the old one may be lost, so it is asked again. */
void route_ask_again(struct route *r, const struct member *m);
/* The stage of the member, or -1. */
int route_stage_of(const struct route *r, const struct member *m);
void route_clear(struct route *r);
/* How far the loads are, for people: "loading: 3 of 5 stages, 1.2 GB of 4.0 GB". */
void route_words(const struct route *r, char *text, size_t cap);
/* The part of a control_route that the stages make up. */
void route_publish(const struct route *r, struct control_route *out);

#endif
