/* parameters: one row a parameter. */
#include "cli/parameters.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/memory.h"

struct row {
    const char *name, *other; /* as other programs call it; NULL: the same */
    size_t at;                /* in struct parameters */
    bool whole;
    double least, most;
    const char *words;
};

#define AT(name) offsetof(struct parameters, name)
static const struct row rows[] = {
    {"temperature", NULL, AT(temperature), false, 0, 100, "0 always takes the likeliest token"},
    {"top_k", NULL, AT(top_k), true, 0, 1 << 24, "draw from so many of the likeliest; 0: from all"},
    {"top_p", NULL, AT(top_p), false, 0, 1, "draw from the likeliest that sum to it"},
    {"min_p", NULL, AT(min_p), false, 0, 1, "drop those below so much of the likeliest"},
    {"repetition_penalty", "repeat_penalty", AT(repetition_penalty), false, 0.01, 100, "1: off"},
    {"repetition_window", "repeat_last_n", AT(repetition_window), true, -1, 1 << 24, "tokens it looks at; -1: all"},
    {"presence_penalty", NULL, AT(presence_penalty), false, -100, 100, "0: off"},
    {"frequency_penalty", NULL, AT(frequency_penalty), false, -100, 100, "0: off"},
    {"seed", NULL, AT(seed), true, 0, 9e15, "0: a new one each time"},
    {"max_tokens", "num_predict", AT(max_tokens), true, -1, 1 << 24, "longest answer; -1 or 0: to the context's end"},
};

static double *value_of(const struct row *row, struct parameters *p)
{
    return (double *)(void *)((char *)p + row->at);
}

static double value_in(const struct row *row, const struct parameters *p)
{
    return *(const double *)(const void *)((const char *)p + row->at);
}

static const struct row *find(const char *name)
{
    for (size_t i = 0; i < COUNTOF(rows); i++)
        if (strcmp(name, rows[i].name) == 0 || (rows[i].other && strcmp(name, rows[i].other) == 0))
            return &rows[i];
    return NULL;
}

void parameters_read(struct parameters *p, const struct settings *s)
{
    *p = (struct parameters){
        .temperature = settings_real(s, "temperature"), .top_k = (double)settings_count(s, "top_k"),
        .top_p = settings_real(s, "top_p"), .min_p = settings_real(s, "min_p"),
        .repetition_penalty = settings_real(s, "repetition_penalty"), .repetition_window = 64,
        .presence_penalty = settings_real(s, "presence_penalty"),
        .frequency_penalty = settings_real(s, "frequency_penalty"), .seed = (double)settings_count(s, "seed"),
        .max_tokens = settings_count(s, "max_tokens") ? (double)settings_count(s, "max_tokens") : -1,
    };
}

static void drop_stops(struct parameters *p)
{
    while (p->n_stops > 0)
        mem_free(p->stops[--p->n_stops]);
}

void parameters_close(struct parameters *p)
{
    drop_stops(p);
}

/* ---- setting ---- */

static int set_number(struct parameters *p, const struct row *row, double v, struct error *e)
{
    if (!(v >= row->least && v <= row->most) || (row->whole && v != floor(v)))
        return error_set(e, ERR_INVALID, "%s is a%s number from %.15g to %.15g", row->name,
                         row->whole ? " whole" : "", row->least, row->most);
    *value_of(row, p) = v;
    return 0;
}

static int add_stop(struct parameters *p, const char *text, size_t n, struct error *e)
{
    if (n == 0 || n > STREAM_STOP_BYTES_MAX)
        return error_set(e, ERR_INVALID, "a stop text has 1 to %d bytes", STREAM_STOP_BYTES_MAX);
    if (p->n_stops == STREAM_STOPS_MAX)
        return error_set(e, ERR_LIMIT, "there are at most %d stop texts", STREAM_STOPS_MAX);
    p->stops[p->n_stops++] = mem_strndup(text, n);
    return 0;
}

/* The next word, or what stands in quotes. False: there is none. */
static bool next_text(const char **at, const char **text, size_t *n)
{
    *at += strspn(*at, " \t");
    if (**at == '\0')
        return false;
    const char *quote = **at == '"' ? strchr(*at + 1, '"') : NULL;
    *text = quote ? *at + 1 : *at;
    *n = quote ? (size_t)(quote - *text) : strcspn(*at, " \t");
    *at = quote ? quote + 1 : *at + *n;
    return true;
}

static int set_stops(struct parameters *p, const char *value, struct error *e)
{
    struct parameters fresh = {.n_stops = 0};
    const char *text;
    size_t n;
    int r = 0;
    while (r == 0 && next_text(&value, &text, &n))
        r = add_stop(&fresh, text, n, e);
    drop_stops(r == 0 ? p : &fresh);
    if (r != 0)
        return r;
    memcpy(p->stops, fresh.stops, sizeof(p->stops));
    p->n_stops = fresh.n_stops;
    return 0;
}

int parameters_set(struct parameters *p, const char *name, const char *value, struct error *e)
{
    if (strcmp(name, "stop") == 0)
        return set_stops(p, value, e);
    if (strcmp(name, "num_ctx") == 0 || strcmp(name, "context") == 0)
        return error_set(e, ERR_UNSUPPORTED, "the context is what it was at the start: shoal run MODEL --context N");
    const struct row *row = find(name);
    if (!row)
        return error_set(e, ERR_NOT_FOUND, "there is no parameter \"%.40s\"; /? set lists them", name);
    char *end;
    double v = strtod(value, &end);
    if (end == value || end[strspn(end, " \t")] != '\0')
        return error_set(e, ERR_INVALID, "%s: \"%.40s\" is no number", row->name, value);
    return set_number(p, row, v, e);
}

/* ---- saying ---- */

void parameters_put(const struct parameters *p, bool others, const char *before, struct buffer *out)
{
    for (size_t i = 0; i < COUNTOF(rows); i++)
        buffer_printf(out, "%s%-19s %.15g\n", before, others && rows[i].other ? rows[i].other : rows[i].name,
                      value_in(&rows[i], p));
    for (size_t i = 0; i < p->n_stops; i++)
        buffer_printf(out, "%s%-19s \"%s\"\n", before, "stop", p->stops[i]);
}

void parameters_help(FILE *out)
{
    for (size_t i = 0; i < COUNTOF(rows); i++)
        fprintf(out, "  %-19s %.15g to %.15g: %s%s%s%s\n", rows[i].name, rows[i].least, rows[i].most, rows[i].words,
                rows[i].other ? " (or " : "", rows[i].other ? rows[i].other : "", rows[i].other ? ")" : "");
    fprintf(out, "  %-19s texts that end an answer, in quotes where they have blanks; none: no more\n", "stop");
}

json_t *parameters_json(const struct parameters *p)
{
    json_t *j = json_object(), *stops = json_array();
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        double v = value_in(&rows[i], p);
        json_object_set_new(j, rows[i].name, rows[i].whole ? json_integer((json_int_t)v) : json_real(v));
    }
    for (size_t i = 0; i < p->n_stops; i++)
        json_array_append_new(stops, json_string(p->stops[i]));
    json_object_set_new(j, "stop", stops);
    return j;
}

static int from_member(struct parameters *p, const char *name, const json_t *value, struct error *e)
{
    const struct row *row = find(name);
    size_t i;
    json_t *text;
    if (strcmp(name, "stop") == 0 && json_is_array(value)) {
        json_array_foreach(value, i, text) {
            int r = add_stop(p, json_string_value(text), json_string_length(text), e);
            if (r != 0)
                return r;
        }
        return 0;
    }
    if (!row || !json_is_number(value))
        return error_set(e, ERR_CORRUPT, "\"%.40s\" is no parameter with a number", name);
    return set_number(p, row, json_number_value(value), e);
}

int parameters_from_json(struct parameters *p, const json_t *j, struct error *e)
{
    struct parameters fresh = *p;
    const char *name;
    json_t *value;
    int r = 0;
    fresh.n_stops = 0;
    json_object_foreach((json_t *)(uintptr_t)j, name, value)
        if ((r = from_member(&fresh, name, value, e)) != 0)
            break;
    drop_stops(r == 0 ? p : &fresh);
    if (r == 0)
        *p = fresh;
    return r;
}

void parameters_sampling(const struct parameters *p, struct sampler_params *out)
{
    sampler_defaults(out);
    out->temperature = (float)p->temperature;
    out->top_k = (int32_t)p->top_k;
    out->top_p = (float)p->top_p;
    out->min_p = (float)p->min_p;
    out->repetition_penalty = (float)p->repetition_penalty;
    out->repetition_window = (int32_t)p->repetition_window;
    out->presence_penalty = (float)p->presence_penalty;
    out->frequency_penalty = (float)p->frequency_penalty;
    out->top_logprobs = -1;
    out->seed = (uint64_t)p->seed;
    if (out->seed == 0)
        (void)!getrandom(&out->seed, sizeof(out->seed), 0);
}
