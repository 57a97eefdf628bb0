/* answer: one answer of a local model: feed what the KV does not have yet, draw token by token, show text as it comes.
 *
 * Keeps which tokens the sequence's KV holds, so that the next turn of a chat
 * feeds only what is new.                                                    */
#ifndef CLI_ANSWER_H
#define CLI_ANSWER_H

#include "base/buffer.h"
#include "cli/local.h"
#include "shard/run/sampler.h"

struct answer_timeline {
    int32_t *tokens; /* what the KV holds */
    uint32_t n, cap;
};

struct answer_options {
    const struct sampler_params *sampling;
    uint32_t max_tokens; /* 0: to the context's end */
};

struct answer_report {
    uint32_t prompt_tokens, fed_tokens, tokens;
    uint64_t prefill_us, decode_us;
    bool interrupted, full; /* stopped by the user; by the context or max_tokens */
};

/* Prints the answer on standard output and appends it to `text` (may be NULL).  ERR_LIMIT when the prompt does not fit
 * the context. */
MUST_USE int answer_run(struct local *l, struct answer_timeline *t, const struct token_list *prompt,
                        const struct answer_options *o, struct buffer *text, struct answer_report *report,
                        struct error *e);
void answer_timeline_close(struct answer_timeline *t);

#endif
