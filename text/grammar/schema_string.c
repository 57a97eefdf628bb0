/* schema_string: lengths, patterns and formats. A format is a regular expression that gives only valid ones. */
#include <stdio.h>
#include <string.h>

#include "text/grammar/front.h"
#include "text/grammar/schema.h"

#define HEX "[0-9a-fA-F]"
#define YEAR "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define DATE                                                                                                  \
    YEAR "-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
#define CLOCK "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?"
#define ZONE "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL "[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
#define HOST LABEL "(?:\\." LABEL "){0,5}"
#define OCTET "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define URI_CHARS "[A-Za-z0-9._~-]"
#define PATH "(?:/" URI_CHARS "{0,60}){0,10}(?:\\?" URI_CHARS "{1,20}=" URI_CHARS "{0,60})?(?:#" URI_CHARS "{0,60})?"

static const struct format {
    const char *name, *regex;
    uint32_t least, most; /* characters */
} formats[] = {
    {"date", DATE, 10, 10},
    {"time", CLOCK ZONE, 9, 21},
    {"date-time", DATE "T" CLOCK ZONE, 20, 32},
    {"duration", "P(?:[1-9][0-9]{0,3}W|[1-9][0-9]{0,3}D(?:T[1-9][0-9]{0,3}H)?|T[1-9][0-9]{0,3}[HMS])", 3, 12},
    {"uuid", HEX "{8}-" HEX "{4}-" HEX "{4}-" HEX "{4}-" HEX "{12}", 36, 36},
    {"email", "[A-Za-z0-9_+-]{1,30}(?:\\.[A-Za-z0-9_+-]{1,20}){0,2}@(?:" LABEL "\\.){1,4}[a-z]{2,12}", 6, 240},
    {"hostname", HOST, 1, 200},
    {"ipv4", OCTET "(?:\\." OCTET "){3}", 7, 15},
    {"ipv6", HEX "{1,4}(?::" HEX "{1,4}){7}", 15, 39},
    {"uri", "https?://" HOST "(?::[1-9][0-9]{0,3})?" PATH, 8, 1000},
    {"uri-reference", "(?:https?://" HOST ")?" PATH, 0, 1000},
};

static uint32_t quoted(struct schema *s, uint32_t body)
{
    return rules_sequence_of(s->r, 3, rules_string(s->r, "\""), body, rules_string(s->r, "\""));
}

static int expr_of_pattern(struct schema *s, json_t *pattern, uint32_t *out)
{
    uint32_t body = 0;
    if (!json_is_string(pattern))
        return schema_fail(s, ERR_INVALID, "\"pattern\" must be a string");
    int status = regex_expr(s->r, json_string_value(pattern), json_string_length(pattern), true, &body, s->e);
    if (status != 0)
        return error_context(s->e, "schema, \"pattern\"");
    *out = quoted(s, body);
    return 0;
}

/* NULL: it is not known. */
static const struct format *find_format(const json_t *name)
{
    for (size_t i = 0; json_is_string(name) && i < COUNTOF(formats); i++)
        if (strcmp(formats[i].name, json_string_value(name)) == 0)
            return &formats[i];
    return NULL;
}

/* What Zod says beside the format; it has look-around, and every address of ours matches it. */
#define ZOD_EMAIL                                                                                                   \
    "^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$"

static bool is_text(const json_t *v, const char *text)
{
    return json_is_string(v) && strcmp(json_string_value(v), text) == 0;
}

/* Formats that say what a text is for, not which characters it has. */
static bool says_nothing(const json_t *name)
{
    static const char *const names[] = {"binary", "password", "path", "file-path", "directory-path"};
    for (size_t i = 0; i < COUNTOF(names); i++)
        if (is_text(name, names[i]))
            return true;
    return false;
}

static int expr_of_format(struct schema *s, json_t *name, uint32_t *out)
{
    const struct format *f = find_format(name);
    char anchored[1024];
    uint32_t body = 0;
    if (!f)
        return schema_fail(s, ERR_UNSUPPORTED, "the format \"%.40s\" is not supported",
                           json_is_string(name) ? json_string_value(name) : "");
    snprintf(anchored, sizeof(anchored), "^(?:%s)$", f->regex);
    int status = regex_expr(s->r, anchored, strlen(anchored), true, &body, s->e);
    *out = quoted(s, body);
    return status;
}

int schema_string(struct schema *s, json_t *schema, uint32_t *out)
{
    uint32_t min = 0, max = 0;
    json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    int status = schema_count(s, schema, "minLength", 0, &min);
    if (status == 0)
        status = schema_count(s, schema, "maxLength", RULES_ANY, &max);
    if (is_text(format, "email") && is_text(pattern, ZOD_EMAIL))
        pattern = NULL;
    if (says_nothing(format) || pattern)
        format = NULL; /* who writes a pattern beside a format, as Zod does, says in it what he means by the format */
    if (status != 0)
        return status;
    if (max < min)
        return schema_fail(s, ERR_INVALID, "\"maxLength\" is less than \"minLength\"");
    const struct format *known = find_format(format);
    bool kept = known && min <= known->least && known->most <= max; /* lengths that the format has anyway */
    bool lengths = !kept && (min > 0 || max != RULES_ANY);
    if ((pattern != NULL) + (format != NULL) + lengths > 1)
        return schema_fail(s, ERR_UNSUPPORTED,
                           "only one of \"pattern\", \"format\" and a length (\"minLength\", \"maxLength\") can be");
    if (pattern)
        return expr_of_pattern(s, pattern, out);
    if (format)
        return expr_of_format(s, format, out);
    *out = lengths ? quoted(s, rules_repeat(s->r, json_character(&s->j), min, max)) : json_string_any(&s->j);
    return 0;
}
