/* registry: who is a member, which members are here, what they have and hold.
 *
 * A member is a key with a name, from enrolment to revocation; while it has a
 * session it is "here".  A session begins with a join and ends with a leave, a
 * lapse of the lease, a failure, or a join of another boot: the number that a
 * node draws at its start tells a restart (nothing is held any more) from a
 * connection that was made anew (all is as it was).
 *
 * A pure table: the time is given, nothing is sent.  Members stay where they
 * are in memory until they are removed, and keep the order in which they were
 * enrolled, so that stages keep their places.  What nodes say is bounded and
 * made printable on its way in.  One thread (the control actor) owns a registry.  */
#ifndef COORDINATOR_REGISTRY_H
#define COORDINATOR_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "coordinator/place.h"
#include "net/keys.h"
#include "net/link.h"
#include "net/roster.h"
#include "proto/control.h"

enum registry_limits {
    REGISTRY_MEMBERS_MAX = ROSTER_MEMBERS_MAX - 1, /* the coordinator is on the roster as well */
    REGISTRY_HERE_MAX = PLACE_NODES_MAX,
    REGISTRY_REST_MS = 2000,       /* a node that failed is not placed for so long; doubles with every failure */
    REGISTRY_REST_MAX_MS = 60000,
};

struct node_facts {
    char host[256]; /* that others dial: the node's own word, else the address seen */
    uint16_t port;
    uint32_t cores;
    uint64_t memory_bytes, free_bytes;
    double read_bandwidth, layer_ms;
    char device[96], version[64];
};

/* From beats and link reports. */
struct node_stats {
    uint64_t route, steps, rows, resident_bytes, memory_available, queue, bytes_sent;
    uint32_t sequences, pages_used, pages_total;
    double compute_ms, rtt_us, steps_per_second;
};

/* What is asked for with a Load, apart from its number. */
struct shard_spec {
    uint32_t first, last, kv_type, kv_tokens, sequences_max, batch_rows_max;
};

enum shard_state { SHARD_NONE, SHARD_LOADING, SHARD_LOADED };

struct member_shard {
    enum shard_state state;
    uint64_t load; /* number of the Load */
    struct shard_spec spec;
    uint64_t heard_ms; /* of its progress */
    char phase[16];
    uint64_t done, total;
};

struct member {
    uint8_t key[KEY_BYTES];
    char name[ROSTER_NAME_MAX];
    char fingerprint[9];
    bool here;
    uint64_t session, boot;
    struct link_peer peer; /* its connection */
    uint64_t joined_ms, heard_ms, beat_ms;
    struct node_facts facts;
    struct node_stats stats;
    struct member_shard shard;
    uint32_t failures;
    int failed; /* status of the last failure */
    uint64_t rest_until_ms;
    char trouble[200]; /* why it rests or left, for people; "": nothing */
    uint64_t roster_serial; /* of the last roster that was sent to it; the caller's to set */
};

struct registry;

struct registry *registry_create(uint32_t lease_ms, uint64_t first_session);
void registry_destroy(struct registry **r);

/* ---- members ---- */

/* `name` is made printable and, where another has it, unique. ERR_LIMIT; ERR_CONFLICT when the key is there. */
MUST_USE int registry_add(struct registry *r, const uint8_t key[KEY_BYTES], const char *name, struct member **out,
                          struct error *e);
void registry_remove(struct registry *r, struct member *m);
struct member *registry_find(const struct registry *r, const uint8_t key[KEY_BYTES]);
/* By name, fingerprint or key text. ERR_NOT_FOUND; ERR_CONFLICT when a fingerprint fits several. */
MUST_USE int registry_who(const struct registry *r, const char *who, struct member **out, struct error *e);
size_t registry_count(const struct registry *r);
struct member *registry_at(const struct registry *r, size_t i);
size_t registry_here(const struct registry *r);
/* The name that registry_add() would give. */
void registry_free_name(const struct registry *r, const char *wanted, char out[static ROSTER_NAME_MAX]);

/* ---- sessions ---- */

enum join_kind {
    JOIN_NEW,     /* it was not here */
    JOIN_AGAIN,   /* the same process, perhaps over a new connection: its session goes on */
    JOIN_RESTART, /* another process with this key: what the one before held is gone */
};

/* *before: the connection of the session that a JOIN_RESTART ended. ERR_LIMIT when too many nodes are here. */
MUST_USE int registry_join(struct registry *r, struct member *m, const Shoal__Join *join,
                           const struct link_peer *peer, uint64_t now_ms, enum join_kind *kind,
                           struct link_peer *before, struct error *e);
/* False when the member is not here over this connection: it must join (again). */
bool registry_beat(struct member *m, const Shoal__Beat *beat, const struct link_peer *peer, uint64_t now_ms);
void registry_link_report(struct member *m, const Shoal__LinkReport *report);
/* Anything else that the node said: it lives. */
void registry_heard(struct member *m, uint64_t now_ms);
void registry_leave(struct member *m, const char *why);
/* A member whose lease has lapsed, or NULL; the caller ends its session and asks again. */
struct member *registry_lapsed(const struct registry *r, uint64_t now_ms);
/* It failed: it is not placed for a while. */
void registry_rest(struct member *m, int status, const char *why, uint64_t now_ms);
/* It has served well: earlier failures are forgotten. */
void registry_forgive(struct member *m);

/* ---- shards ---- */

void registry_shard_loading(struct member *m, uint64_t load, const struct shard_spec *spec, uint64_t now_ms);
/* False when the number is not that of the load that runs there. */
bool registry_shard_progress(struct member *m, const Shoal__LoadProgress *p, uint64_t now_ms);
bool registry_shard_done(struct member *m, const Shoal__LoadDone *d);
void registry_shard_lost(struct member *m);

/* The nodes that may be placed now, in order; place_node.node is registry_at()'s index. Returns their number.
 * *next_ms: when the next resting node may be placed again, or UINT64_MAX. */
size_t registry_candidates(const struct registry *r, uint64_t now_ms, struct place_node out[static PLACE_NODES_MAX],
                           uint64_t *next_ms);

#endif
