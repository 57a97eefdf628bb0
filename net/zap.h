/* zap: who may open a CURVE connection: the ZeroMQ authentication actor of one context.
 *
 * One zap per ZeroMQ context, started before any socket binds; it answers from
 * memory.  A domain is a name with a set of allowed keys, or "any key".
 * Everything that is in doubt is refused.  zap_allow() replaces a domain's set
 * at once; connections of keys that left are cut by link_revoke().  Any thread
 * may call zap_allow(); the sets are guarded by a lock that protects nothing
 * else.                                                                      */
#ifndef NET_ZAP_H
#define NET_ZAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/keys.h"

enum { ZAP_DOMAINS_MAX = 8, ZAP_DOMAIN_NAME_MAX = 32 };

struct zap;

struct zap_counts {
    uint64_t accepted, refused;
};

MUST_USE int zap_start(struct zap **out, void *zmq_context, struct error *e);
void zap_stop(struct zap **z); /* before the context is destroyed */
/* n keys of KEY_BYTES, one after the other. */
MUST_USE int zap_allow(struct zap *z, const char *domain, const uint8_t *keys, size_t n, struct error *e);
/* Any key, or (open false) none: the enrolment domain while invites are outstanding. */
MUST_USE int zap_allow_any(struct zap *z, const char *domain, bool open, struct error *e);
void zap_counts(struct zap *z, struct zap_counts *out);

#endif
