/* answer: one answer of a local model: feed what the KV does not have yet, draw token by token, give text as it comes.
 *
 * Keeps which tokens the sequence's KV holds, so that the next turn of a chat
 * feeds only what is new.                                                    */
#ifndef CLI_ANSWER_H
#define CLI_ANSWER_H

#include "cli/local.h"
#include "shard/run/sampler.h"
#include "text/reply/reply.h"

struct answer_timeline {
    int32_t *tokens; /* what the KV holds */
    uint32_t n, cap;
};

struct answer_options {
    const struct sampler_params *sampling;
    uint32_t max_tokens; /* 0: to the context's end */
    const char *const *stops; /* texts that end the answer; borrowed */
    size_t n_stops;
    struct reply_formats formats; /* how the model marks what it thinks */
    bool thinking;       /* it begins as reasoning */
    void (*show)(void *arg, enum reply_kind kind, const char *text, size_t n); /* whole characters */
    bool (*stop)(void *arg); /* asked between steps, beside Ctrl-C; NULL: never */
    void *arg;
};

struct answer_report {
    uint32_t prompt_tokens, fed_tokens, tokens;
    uint64_t prefill_us, decode_us;
    bool interrupted; /* by the user, or by stop */
    bool full;        /* cut by max_tokens or the context's end */
};

/* ERR_LIMIT when the prompt does not fit the context. */
MUST_USE int answer_run(struct local *l, struct answer_timeline *t, const struct token_list *prompt,
                        const struct answer_options *o, struct answer_report *report, struct error *e);
void answer_timeline_close(struct answer_timeline *t);

#endif
