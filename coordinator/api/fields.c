/* fields: every request field is a row: name, kind, range, default, place.
 *
 * A row is read when its endpoint asks for it; null counts as absent, as
 * clients send it.  Later rows of one place win over earlier ones, which is how
 * max_completion_tokens takes precedence over max_tokens.  A second table holds
 * fields that would change the answer's meaning and that are not supported:
 * they are refused, never ignored, unless their value asks for nothing.  All
 * other fields are ignored.                                                  */
#include "coordinator/api/fields.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/api/bias.h"

enum kind {
    KIND_BOOL,
    KIND_INT,
    KIND_NUMBER,
    KIND_ABOVE, /* a number that is greater than min, not equal */
};

static const struct field {
    const char *name;
    enum kind kind;
    double min, max, initial;
    size_t place;
    enum endpoint endpoints;
} fields[] = {
#define AT(member) offsetof(struct params, member)
    /* name                   kind         min    max    default  place                   endpoints */
    { "n",                    KIND_INT,    1,     API_CHOICES_MAX, 1, AT(n),              FOR_BOTH },
    { "best_of",              KIND_INT,    1,     API_CHOICES_MAX, 0, AT(best_of),        FOR_COMPLETION },
    { "n_predict",            KIND_INT,    -2,    1 << 24, -1,    AT(n_predict),          FOR_BOTH },
    { "max_tokens",           KIND_INT,    -1,    1 << 24, -1,    AT(max_tokens),         FOR_BOTH },
    { "max_completion_tokens", KIND_INT,   -1,    1 << 24, -1,    AT(max_tokens),         FOR_CHAT },
    { "temperature",          KIND_NUMBER, 0,     2,     1,       AT(temperature),        FOR_BOTH },
    { "top_p",                KIND_ABOVE,  0,     1,     1,       AT(top_p),              FOR_BOTH },
    { "top_k",                KIND_INT,    -1,    1 << 24, 0,     AT(top_k),              FOR_BOTH },
    { "min_p",                KIND_NUMBER, 0,     1,     0,       AT(min_p),              FOR_BOTH },
    { "seed",                 KIND_INT,    -9.3e18, 9.3e18, -1,   AT(seed),               FOR_BOTH },
    { "repeat_penalty",       KIND_NUMBER, 0.01,  10,    1,       AT(repetition_penalty), FOR_BOTH },
    { "repetition_penalty",   KIND_NUMBER, 0.01,  10,    1,       AT(repetition_penalty), FOR_BOTH },
    { "repeat_last_n",        KIND_INT,    -1,    1 << 24, -1,    AT(repetition_window),  FOR_BOTH },
    { "presence_penalty",     KIND_NUMBER, -2,    2,     0,       AT(presence_penalty),   FOR_BOTH },
    { "frequency_penalty",    KIND_NUMBER, -2,    2,     0,       AT(frequency_penalty),  FOR_BOTH },
    { "logprobs",             KIND_BOOL,   0,     1,     0,       AT(logprobs),           FOR_CHAT },
    { "logprobs",             KIND_INT,    0,     FRAME_TOP_MAX, -1, AT(top_logprobs),    FOR_COMPLETION },
    { "top_logprobs",         KIND_INT,    0,     FRAME_TOP_MAX, -1, AT(top_logprobs),    FOR_CHAT },
    { "stream",               KIND_BOOL,   0,     1,     0,       AT(stream),             FOR_BOTH },
    { "echo",                 KIND_BOOL,   0,     1,     0,       AT(echo),               FOR_COMPLETION },
    { "ignore_eos",           KIND_BOOL,   0,     1,     0,       AT(ignore_eos),         FOR_BOTH },
    { "include_reasoning",    KIND_BOOL,   0,     1,     1,       AT(shows_reasoning),    FOR_CHAT },
    { "thinking_token_budget", KIND_INT, -1,     1 << 24, -1,     AT(thinking_budget),    FOR_CHAT },
    { "reasoning_budget",     KIND_INT,    -1,    1 << 24, -1,    AT(thinking_budget),    FOR_CHAT },
#undef AT
};

/* name, endpoints. A value that asks for nothing (null, false, 0, "", [], {}) passes. */
static const struct {
    const char *name;
    enum endpoint endpoints;
} unsupported[] = {
    { "functions", FOR_CHAT },       { "allowed_token_ids", FOR_BOTH },
    { "bad_words", FOR_BOTH },      { "min_tokens", FOR_BOTH },      { "stop_token_ids", FOR_BOTH },
    { "prompt_logprobs", FOR_BOTH },
};

static int store(void *place, const struct field *f, double number, int64_t whole)
{
    if (f->kind == KIND_BOOL)
        *(bool *)place = whole != 0;
    else if (f->kind == KIND_INT)
        *(int64_t *)place = whole;
    else
        *(double *)place = number;
    return 0;
}

static int wrong_range(const struct field *f, struct refusal *r)
{
    return refuse(r, ERR_INVALID, f->name, "%s must be %s %.10g and at most %.10g", f->name,
                  f->kind == KIND_ABOVE ? "greater than" : "at least", f->min, f->max);
}

static int field_read(struct params *p, const struct field *f, const json_t *value, struct refusal *r)
{
    void *place = (char *)p + f->place;
    if (f->kind == KIND_BOOL) {
        if (!json_is_boolean(value))
            return refuse(r, ERR_INVALID, f->name, "%s must be true or false", f->name);
        return store(place, f, 0, json_is_true(value));
    }
    double number = json_number_value(value);
    /* Clients in languages without integers send 40.0. */
    if (f->kind == KIND_INT && !json_is_integer(value) && !(json_is_real(value) && number == floor(number)))
        return refuse(r, ERR_INVALID, f->name, "%s must be an integer", f->name);
    if (!json_is_number(value))
        return refuse(r, ERR_INVALID, f->name, "%s must be a number", f->name);
    bool beyond = json_is_real(value) && f->kind == KIND_INT && !(fabs(number) < 0x1p63); /* what no int64_t holds */
    if (beyond || !(number >= f->min && number <= f->max) || (f->kind == KIND_ABOVE && number == f->min))
        return wrong_range(f, r);
    return store(place, f, number, json_is_integer(value) ? json_integer_value(value) : (int64_t)number);
}

static int read_table(struct params *p, const json_t *body, enum endpoint endpoint, struct refusal *r)
{
    for (size_t i = 0; i < COUNTOF(fields); i++)
        if (fields[i].endpoints & endpoint)
            store((char *)p + fields[i].place, &fields[i], fields[i].initial, (int64_t)fields[i].initial);
    for (size_t i = 0; i < COUNTOF(fields); i++) {
        const json_t *value = json_object_get(body, fields[i].name);
        if ((fields[i].endpoints & endpoint) == 0 || value == NULL || json_is_null(value))
            continue;
        int rc = field_read(p, &fields[i], value, r);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static bool asks_for_nothing(const json_t *v)
{
    return v == NULL || json_is_null(v) || json_is_false(v) || (json_is_string(v) && json_string_length(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0) || (json_is_object(v) && json_object_size(v) == 0) ||
           (json_is_number(v) && json_number_value(v) == 0);
}

static bool is_text(const json_t *value, const char *text)
{
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

static int refuse_unsupported(const json_t *body, enum endpoint endpoint, struct refusal *r)
{
    bool no_tool = is_text(json_object_get(body, "tool_choice"), "none");
    for (size_t i = 0; i < COUNTOF(unsupported); i++) {
        const char *name = unsupported[i].name;
        if ((unsupported[i].endpoints & endpoint) == 0 || asks_for_nothing(json_object_get(body, name)))
            continue;
        if (no_tool && strcmp(name, "functions") == 0)
            continue;
        return refuse(r, ERR_UNSUPPORTED, name, "%s is not supported by this server yet", name);
    }
    return 0;
}

static int stop_add(struct params *p, const json_t *value, struct refusal *r)
{
    if (!json_is_string(value))
        return refuse(r, ERR_INVALID, "stop", "stop must be a string or a list of strings");
    size_t n = json_string_length(value);
    if (n == 0 || n > STREAM_STOP_BYTES_MAX)
        return refuse(r, ERR_INVALID, "stop", "a stop string has 1 to %d bytes", (int)STREAM_STOP_BYTES_MAX);
    if (p->n_stops == STREAM_STOPS_MAX)
        return refuse(r, ERR_INVALID, "stop", "at most %d stop strings are taken", (int)STREAM_STOPS_MAX);
    p->stops[p->n_stops++] = json_string_value(value);
    return 0;
}

static int read_stops(struct params *p, const json_t *stop, struct refusal *r)
{
    if (stop == NULL || json_is_null(stop))
        return 0;
    if (!json_is_array(stop))
        return stop_add(p, stop, r);
    int rc = 0;
    for (size_t i = 0; i < json_array_size(stop) && rc == 0; i++)
        rc = stop_add(p, json_array_get(stop, i), r);
    return rc;
}

static int read_stream_options(struct params *p, const json_t *options, struct refusal *r)
{
    if (options == NULL || json_is_null(options))
        return 0;
    if (!json_is_object(options))
        return refuse(r, ERR_INVALID, "stream_options", "stream_options must be an object");
    if (!p->stream)
        return refuse(r, ERR_INVALID, "stream_options", "stream_options is only allowed when stream is true");
    const json_t *usage = json_object_get(options, "include_usage");
    if (usage != NULL && !json_is_null(usage) && !json_is_boolean(usage))
        return refuse(r, ERR_INVALID, "stream_options", "stream_options.include_usage must be true or false");
    p->include_usage = json_is_true(usage);
    return 0;
}

/* What no single row can say. */
static int check_together(struct params *p, enum endpoint endpoint, struct refusal *r)
{
    if (endpoint == FOR_CHAT && p->top_logprobs >= 0 && !p->logprobs)
        return refuse(r, ERR_INVALID, "top_logprobs", "top_logprobs is only allowed when logprobs is true");
    if (p->logprobs && p->top_logprobs < 0)
        p->top_logprobs = 0;
    p->best_of = p->best_of == 0 ? p->n : p->best_of;
    if (p->best_of < p->n)
        return refuse(r, ERR_INVALID, "best_of", "best_of must be at least n");
    if (p->best_of > p->n && p->stream)
        return refuse(r, ERR_INVALID, "best_of", "best_of cannot be greater than n when stream is true: which are the "
                      "best is known at the end");
    if (p->top_k < 0)
        p->top_k = 0;
    if (p->seed == -1)
        random_fill(&p->seed, sizeof(p->seed));
    if (endpoint == FOR_CHAT && p->max_tokens == 0)
        return refuse(r, ERR_INVALID, "max_tokens", "max_tokens must be at least 1, or -1");
    return 0;
}

int params_read(struct params *p, const json_t *body, enum endpoint endpoint, const struct api *a, struct refusal *r)
{
    memset(p, 0, sizeof(*p));
    p->plan.budget = -1;
    int rc = read_table(p, body, endpoint, r);
    if (rc == 0)
        rc = refuse_unsupported(body, endpoint, r);
    if (rc == 0)
        rc = read_stops(p, json_object_get(body, "stop"), r);
    if (rc == 0)
        rc = bias_read(p, json_object_get(body, "logit_bias"), a, r);
    if (rc == 0)
        rc = read_stream_options(p, json_object_get(body, "stream_options"), r);
    if (rc == 0)
        rc = check_together(p, endpoint, r);
    return rc == 0 ? format_read(&p->form, &p->plan.grammar, body, a, r) : rc;
}

void params_close(struct params *p)
{
    grammar_drop(&p->plan.grammar);
    json_decref(p->form.source);
    json_decref(p->tools);
}
