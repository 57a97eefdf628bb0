/* fake: an engine that says what it is told, and a control that is as ready as it is told.
 *
 * They implement coordinator/engine.h and coordinator/control.h for tests of the
 * API: every request gets the script's tokens.  Any thread may change a fake. */
#ifndef TESTS_COORDINATOR_FAKE_H
#define TESTS_COORDINATOR_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/control.h"
#include "coordinator/engine.h"

enum { FAKE_SCRIPT_MAX = 256, FAKE_PROMPT_MAX = 64, FAKE_REQUESTS_MAX = 64 };

/* What the last submissions asked for. */
struct fake_seen {
    int32_t prompt[FAKE_PROMPT_MAX];
    size_t n_prompt;
    uint32_t max_tokens;
    struct frame_open sampling; /* bias: of the first entry only, below */
    struct frame_bias first_bias;
    size_t n_end_tokens;
    struct grammar *grammar; /* the fake's, until it goes or has seen FAKE_REQUESTS_MAX others */
    struct guide_plan plan;  /* its grammar is the same */
    bool logits;
    enum hidden_rows hidden;
    uint32_t adapter;
};

struct fake_script {
    int32_t tokens[FAKE_SCRIPT_MAX];
    size_t n;          /* then it is DONE with FINISH_STOP */
    bool endless;      /* begins again instead */
    uint32_t token_ms; /* before each token */
    uint32_t fail_after; /* tokens; then EVENT_FAILED with the error below. 0: never */
    bool fail_at_once;
    struct error error;
    uint32_t seeds;    /* not 0: a token's log-probability is less by its request's seed modulo this */
    int submit_status; /* not 0: engine_submit() refuses with it and the error's text */
};

struct engine *fake_engine(void);
void fake_engine_free(struct engine **en);
void fake_engine_script(struct engine *en, const struct fake_script *s);
uint32_t fake_engine_submitted(struct engine *en);
/* Released before their end. */
uint32_t fake_engine_cancelled(struct engine *en);
uint32_t fake_engine_open(struct engine *en); /* not yet released */
void fake_engine_seen(struct engine *en, uint32_t i, struct fake_seen *out);
/* The value at [row][i] of the logits that it gives; those of its hidden rows are the same, [256] wide. */
float fake_logit(uint32_t row, uint32_t i, uint32_t n_vocab);

struct control *fake_control(const char *model_path);
void fake_control_free(struct control **c);
void fake_control_state(struct control *c, enum control_state state, const char *text);
void fake_control_limits(struct control *c, uint32_t context, uint32_t kv_tokens);
/* "who" of the last revocation, "" before. */
const char *fake_control_revoked(struct control *c);

#endif
