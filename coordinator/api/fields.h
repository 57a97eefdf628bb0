/* fields: the parameters of a generation request, read from JSON by a table.  Not for other folders. */
#ifndef COORDINATOR_API_FIELDS_H
#define COORDINATOR_API_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "coordinator/api/format.h"
#include "coordinator/api/private.h"
#include "coordinator/guide.h"
#include "proto/frame.h"
#include "text/reply/format.h"
#include "text/stream.h"

enum endpoint { FOR_CHAT = 1 << 0, FOR_COMPLETION = 1 << 1, FOR_BOTH = FOR_CHAT | FOR_COMPLETION };

struct params {
    uint32_t adapter; /* by the model's id, which request.c reads; 0: none */
    int64_t n, max_tokens; /* max_tokens -1: to the context's end */
    int64_t n_predict;     /* the same, but more than fits is no mistake; from 1, else to the context's end */
    int64_t best_of; /* so many are made for n to be given: n or more */
    int64_t seed, top_k, repetition_window;
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    int64_t top_logprobs; /* alternatives; -1: no log-probabilities */
    bool stream, include_usage, echo, ignore_eos;
    bool logprobs;        /* chat's switch */
    const char *stops[STREAM_STOPS_MAX]; /* borrowed from the JSON */
    size_t n_stops;
    struct frame_bias bias[FRAME_BIAS_MAX];
    uint32_t n_bias;
    struct form form;        /* that was asked for; params_close() */
    struct guide_plan plan;  /* what the answer must follow; its grammar is owned: params_close() */
    int64_t thinking_budget; /* tokens; -1: no limit */
    /* of chats, set by chat.c: how the answer is read */
    bool reads;              /* for reasoning and calls; else all of it is text */
    struct reply_formats formats;
    bool shows_reasoning;    /* else it is left out */
    json_t *tools;           /* that may be called, NULL: none; params_close() */
};

/* Reads and checks every field of the endpoint; absent and null fields get their defaults. */
MUST_USE int params_read(struct params *p, const json_t *body, enum endpoint endpoint, const struct api *a,
                         struct refusal *r);
void params_close(struct params *p); /* also after a refusal */

#endif
