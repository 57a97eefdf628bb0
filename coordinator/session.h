/* session: the gateway's table of sequences: tokens so far, positions, pages held, ends that are due.
 *
 * A session is added as waiting, becomes running when the schedule admits it,
 * and is gone when it is removed.  Waiting sessions stand in the order of their
 * arrival, running ones in the order in which they were last served.  A session
 * of which any row was sent leaves an end behind: its KV on the stages, and so
 * its pages and its place, are free only once that end is in a step.
 *
 * Pointers to sessions stay valid until session_remove(); a (slot, sequence)
 * pair names one for ever.  Pure: no clock, no sockets.  One thread (the
 * engine) owns a table.                                                      */
#ifndef COORDINATOR_SESSION_H
#define COORDINATOR_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum session_state { SESSION_FREE, SESSION_WAITING, SESSION_RUNNING };

struct session {
    enum session_state state;
    uint32_t slot;        /* its index in the table */
    uint64_t sequence;    /* its number on the wire: unique, rising with arrival */
    uint32_t epoch;
    int32_t *tokens;      /* prompt, then what was generated */
    uint32_t n_tokens, tokens_cap;
    uint32_t n_prompt, tokens_max; /* tokens_max: prompt and the most that is generated */
    uint32_t sent;        /* positions below it were sent */
    uint32_t done;        /* positions below it came back */
    uint32_t pages;       /* held while running */
    uint32_t open_bytes;  /* that its opening takes in a frame */
    uint32_t mask_bytes;  /* that the mask of its next sampled row takes; 0: it has none */
    bool every_row;       /* values of each of its rows come back, and no token */
    bool held;            /* gets no row for now */
    uint64_t deadline_ms; /* 0: none */
    void *owner;
};

/* A sequence that is over, of which the stages are not told yet. */
struct session_end {
    uint64_t sequence;
    uint32_t pages; /* given back with it */
};

struct sessions {
    struct session *all; /* [n_all] */
    uint32_t n_all, n_waiting, n_running;
    uint32_t *waiting, *running; /* slots, in order */
    uint32_t *free;              /* slots: a stack */
    uint32_t n_free;
    struct session_end *ends;    /* [n_ends], oldest first */
    uint32_t n_ends, ends_cap;
    uint32_t n_places;           /* sequences that the stages may hold: running ones and ends that are due */
    uint32_t pages_used;         /* of running ones and of ends that are due */
    uint64_t sequence_last;
};

struct session_new {
    const int32_t *prompt;
    uint32_t n_prompt, generate_max, open_bytes;
    bool every_row;
    uint64_t deadline_ms;
    void *owner;
};

void sessions_init(struct sessions *t, uint32_t sessions_max);
void sessions_close(struct sessions *t);
/* A waiting session, or NULL when the table is full. Copies the prompt. */
struct session *session_add(struct sessions *t, const struct session_new *n);
/* NULL when that session is gone. */
struct session *session_find(struct sessions *t, uint32_t slot, uint64_t sequence);
/* The first in line starts to run and holds `pages`. */
struct session *session_admit(struct sessions *t, uint32_t pages);
/* One more token is known. The caller has asked session_full() before. */
void session_accept(struct session *s, int32_t token);
bool session_full(const struct session *s); /* has as many tokens as it may */
/* A row can be sent: its token is known and it was not sent. */
bool session_ready(const struct session *s);
/* One row at a time: the whole prompt was sent, and no more than one token that came after it is waiting. */
bool session_decoding(const struct session *s);
/* Forget it; an end is due when rows of it were sent. */
void session_remove(struct sessions *t, struct session *s);
/* The stages must be told (again) that a sequence is over. */
void session_end_due(struct sessions *t, uint64_t sequence, uint32_t pages);
/* Takes at most n of the ends that are due, oldest first, and gives their pages back. */
uint32_t session_ends_take(struct sessions *t, struct session_end *out, uint32_t n);
/* The route is gone and with it all that stages held: nothing runs, no end is due.  Running sessions
 * must have been removed. */
void sessions_forget_route(struct sessions *t);

#endif
