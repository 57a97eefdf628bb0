/* membership: what a node keeps about the cluster it belongs to, and how it becomes a member.
 *
 * membership_enrol() turns an invite into a membership: it proves knowledge of
 * the invite's secret for this node's own key over the enrolment link, whose
 * far end the invite has pinned.  The result is written to state_dir, so that
 * the next start needs no invite.                                            */
#ifndef NODE_MEMBERSHIP_H
#define NODE_MEMBERSHIP_H

#include <stdint.h>

#include "base/error.h"
#include "net/invite.h"
#include "net/keys.h"

enum { ENROL_TIMEOUT_MS = 8000 };

struct membership {
    char host[INVITE_HOST_MAX];
    uint16_t control_port, blob_port;
    uint8_t coordinator_key[KEY_BYTES];
    uint8_t sign_public[SIGN_PUBLIC_BYTES];
};

MUST_USE int membership_enrol(struct membership *out, void *zmq_context, const struct keys *keys, const char *name,
                              const char *invite_line, struct error *e);
/* ERR_NOT_FOUND when this node never joined. */
MUST_USE int membership_load(struct membership *out, const char *state_dir, struct error *e);
MUST_USE int membership_save(const struct membership *m, const char *state_dir, struct error *e);
/* "tcp://host:port", IPv6 in brackets. */
void membership_endpoint(const struct membership *m, uint16_t port, char text[static 300]);

#endif
