/* fake_node: a node that a test drives by hand: it speaks the control protocol and holds nothing. */
#ifndef TESTS_COORDINATOR_FAKE_NODE_H
#define TESTS_COORDINATOR_FAKE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "net/invite.h"
#include "net/keys.h"
#include "net/link.h"
#include "net/roster.h"
#include "proto/control.h"

enum { FAKE_WAIT_MS = 8000 };

struct fake_node {
    struct keys keys;
    struct invite invite; /* that it enrolled with: where and who the coordinator is */
    uint16_t control_port, blob_port;
    struct link *link;
    uint64_t boot, memory;
    uint16_t data_port;
    uint64_t roster_serial; /* of the last roster that was taken, verified */
    size_t roster_n;
    char enrol_text[128];   /* of the last refusal */
};

void fake_init(struct fake_node *n, uint16_t data_port, uint64_t memory);
void fake_close(struct fake_node *n);
/* 0, or ERR_DENIED when the answer or the gate says no, ERR_TIMEOUT when there is none. `spoil`: a wrong proof. */
int fake_enrol(struct fake_node *n, void *zmq_context, const char *line, const char *name, bool spoil);
/* Send bytes to the enrolment port in place of a request; the status of the answer. */
int fake_enrol_bytes(struct fake_node *n, void *zmq_context, const char *line, const void *bytes, size_t len);
/* Dial the control port and wait until the link stands: 0, ERR_DENIED when refused, ERR_TIMEOUT. */
int fake_dial(struct fake_node *n, void *zmq_context);
void fake_send(struct fake_node *n, Shoal__Control__BodyCase kind, void *body);
void fake_join(struct fake_node *n);
void fake_beat(struct fake_node *n);
void fake_beat_with(struct fake_node *n, uint32_t sequences);
void fake_leave(struct fake_node *n);
void fake_load_done(struct fake_node *n, uint64_t load, int status, const char *text);
void fake_route_ready(struct fake_node *n, uint64_t route, int status);
/* The next message of the kind; others are let go, rosters noted. NULL after wait_ms. Freed by the caller. */
Shoal__Control *fake_take(struct fake_node *n, Shoal__Control__BodyCase kind, uint64_t wait_ms);
/* fake_take(), or the test fails. */
Shoal__Control *fake_expect(struct fake_node *n, Shoal__Control__BodyCase kind);
/* Enrol, dial, join, and take the welcome, or the test fails. */
void fake_become_member(struct fake_node *n, void *zmq_context, const char *line, const char *name);
/* Take a Load and answer that it is done; returns its layers. */
struct fake_load {
    uint64_t load;
    uint32_t first, last;
    bool embedding, head;
    uint8_t model_id[32];
    uint32_t kv_tokens;
    uint64_t file_bytes, header_bytes;
};
struct fake_load fake_load(struct fake_node *n);
/* Take a SetRoute and answer that it is ready; returns the route's number. */
uint64_t fake_set(struct fake_node *n, char next[static 300]);

#endif
