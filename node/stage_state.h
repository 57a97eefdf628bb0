/* stage_state: what stage.c (thread, commands, links) and execute.c (a step) share. Not for others. */
#ifndef NODE_STAGE_STATE_H
#define NODE_STAGE_STATE_H

#include <pthread.h>

#include "base/buffer.h"
#include "base/logger.h"
#include "node/assembly.h"
#include "node/stage.h"
#include "shard/run/sampler.h"

struct slot { /* a sequence of the last stage */
    uint64_t sequence;
    uint32_t epoch;
    struct sampler *sampler; /* NULL: the slot is free */
};

/* Flow control of one direction of one link: absolute counts, so that a lost or repeated one is harmless. */
struct credit {
    uint64_t sent, returned; /* chunks we sent, chunks the receiver says it consumed */
};

struct stage {
    struct stage_options o;
    struct stage_stats stats;
    struct queue *commands;
    pthread_t thread;

    /* below: the stage thread's */
    struct link *listener;
    struct link *next;           /* NULL: the last stage, or no route */
    struct credit next_credit;
    uint64_t next_ping_ms, ping_sent_us;
    struct link_peer gateway;    /* the coordinator's connection, once it has spoken */
    bool has_gateway;
    struct link_peer upstream;   /* who sends STEPs */
    uint64_t upstream_chunks, upstream_credited;

    struct model *model;
    struct shard *shard;
    uint64_t load;
    struct layer_range range;
    uint32_t n_embd, n_vocab, n_usable, rows_max; /* usable: tokens that the tokenizer knows */
    struct stage_route route;    /* route 0: none */

    struct frame_store *store;
    struct assembly assembly;
    struct buffer out;           /* a frame being sent */
    struct step_row *step_rows;
    struct frame_result *results;
    uint8_t *allowed;            /* [n_vocab / 8]: tokens that a row may be sampled as */
    uint8_t *packed;             /* outgoing rows in the wire's form */
    struct slot *slots;
    size_t n_slots;
    uint32_t pack_us;            /* of the step before */
    struct log_gate gate;        /* lines that a peer can trigger */
    bool stopping;
};

/* execute.c: run the assembled step: ends, opens, rows; then forward it or answer it. */
void execute_step(struct stage *s);
/* Drop samplers of all sequences (route ended). */
void execute_forget(struct stage *s);
/* Answer the gateway that a step cannot be run. */
void execute_fail(struct stage *s, uint64_t route, uint64_t step, int status, const char *text);
/* stage.c: send a frame to the next stage within its credit; waits at most STAGE_SEND_TIMEOUT_MS. */
MUST_USE int stage_send_next(struct stage *s, const struct frame *f, struct error *e);

#endif
