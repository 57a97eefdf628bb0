/* meters: how long requests wait and take, as histograms that Prometheus reads, under vLLM's names.  Not for other
 * folders.  Any thread may add; a reader sees sums that may be an observation apart.                              */
#ifndef COORDINATOR_API_METERS_H
#define COORDINATOR_API_METERS_H

#include <stdint.h>

#include "base/buffer.h"

enum meter {
    METER_FIRST_TOKEN,  /* seconds from the request to its first token */
    METER_NEXT_TOKEN,   /* seconds from a token to the next */
    METER_REQUEST,      /* seconds from the request to its end */
    METER_QUEUE,        /* seconds that it waited for a place */
    METER_PREFILL,      /* seconds of its prompt */
    METER_DECODE,       /* seconds of its answer */
    METER_PROMPT,       /* tokens of its prompt */
    METER_ANSWER,       /* tokens of its answer */
    METER_COUNT,
};

struct meters;

struct meters *meters_create(void);
void meters_destroy(struct meters **m); /* NULL is fine */
void meters_add(struct meters *m, enum meter which, double value);
/* A sequence has ended: "stop", "length" ...; another word counts as "other". */
void meters_finished(struct meters *m, const char *reason);
/* One sequence's times. */
struct watch {
    uint64_t begun_us, token_us; /* of the start, and of the last token; 0: none yet */
    uint64_t tokens;
};

void watch_start(struct watch *w);
void watch_token(struct watch *w, struct meters *m);
void watch_end(const struct watch *w, struct meters *m, uint64_t prompt_tokens, const char *reason);

/* labels: "model_name=\"x\"", without braces. */
void meters_write(const struct meters *m, const char *labels, struct buffer *out);

#endif
