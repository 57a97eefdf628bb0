/* parameters: how answers are drawn, by the names under which people set it. */
#ifndef CLI_PARAMETERS_H
#define CLI_PARAMETERS_H

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

#include "base/buffer.h"
#include "base/error.h"
#include "cli/settings.h"
#include "shard/run/sampler.h"
#include "text/stream.h"

struct parameters {
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    double top_k, repetition_window, seed, max_tokens; /* whole numbers */
    char *stops[STREAM_STOPS_MAX];                     /* owned */
    size_t n_stops;
};

void parameters_read(struct parameters *p, const struct settings *s);
void parameters_close(struct parameters *p);
/* ERR_NOT_FOUND: there is no such parameter; ERR_INVALID: the value cannot be. Several texts, each in quotes or one
 * word, may follow "stop". */
MUST_USE int parameters_set(struct parameters *p, const char *name, const char *value, struct error *e);
/* Appends a line each, after `before`: the name, or the one that others use, and the value. */
void parameters_put(const struct parameters *p, bool others, const char *before, struct buffer *out);
/* Name, values and meaning of each. */
void parameters_help(FILE *out);
/* An object, and back: all or nothing. */
json_t *parameters_json(const struct parameters *p);
MUST_USE int parameters_from_json(struct parameters *p, const json_t *j, struct error *e);
/* With a new seed each time where none is set. */
void parameters_sampling(const struct parameters *p, struct sampler_params *out);

#endif
