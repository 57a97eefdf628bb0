/* format: every field that asks for a form is a row; at most one of them may ask for something. */
#include "coordinator/api/format.h"

#include <string.h>

#include "coordinator/api/grammars.h"

/* What was asked for, and by which field. */
struct format {
    const char *field;
    enum grammar_kind kind;
    const json_t *source;
    json_t *parsed; /* owned: a schema that came as a text */
};

/* A value that asks for nothing: null, false, or an empty text. */
static bool is_nothing(const json_t *v)
{
    return v == NULL || json_is_null(v) || json_is_false(v) || (json_is_string(v) && json_string_length(v) == 0);
}

static int ask(struct format *f, const char *field, enum grammar_kind kind, const json_t *source, struct refusal *r)
{
    if (f->field != NULL)
        return refuse(r, ERR_INVALID, field, "%s and %s both ask for a form of the answer; one can", f->field, field);
    f->field = field;
    f->kind = kind;
    f->source = source;
    return 0;
}

/* ---- kinds of values ---- */

static int read_text(struct format *f, const char *field, enum grammar_kind kind, const json_t *v, struct refusal *r)
{
    if (!json_is_string(v))
        return refuse(r, ERR_INVALID, field, "%s must be a string", field);
    return ask(f, field, kind, v, r);
}

static int read_choices(struct format *f, const char *field, enum grammar_kind kind, const json_t *v,
                        struct refusal *r)
{
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!json_is_string(json_array_get(v, i)))
            v = NULL;
    if (!json_is_array(v) || json_array_size(v) == 0)
        return refuse(r, ERR_INVALID, field, "%s must be a list of strings, at least one", field);
    return ask(f, field, kind, v, r);
}

/* A schema, also as a text of one. */
static int read_schema(struct format *f, const char *field, enum grammar_kind kind, const json_t *v, struct refusal *r)
{
    json_error_t why;
    if (json_is_string(v)) {
        if (json_check(json_string_value(v), json_string_length(v), field, r) != 0)
            return r->error.status;
        json_decref(f->parsed);
        f->parsed = json_loads(json_string_value(v), JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
        if (f->parsed == NULL)
            return refuse(r, ERR_INVALID, field, "%s is not valid JSON: %s", field, why.text);
        v = f->parsed;
    }
    if (!json_is_object(v) && !json_is_true(v))
        return refuse(r, ERR_INVALID, field, "%s must be a JSON schema", field);
    return ask(f, field, kind, v, r);
}

static int read_flag(struct format *f, const char *field, enum grammar_kind kind, const json_t *v, struct refusal *r)
{
    if (!json_is_true(v))
        return refuse(r, ERR_INVALID, field, "%s must be true or false", field);
    return ask(f, field, kind, NULL, r);
}

/* ---- objects of others ---- */

/* {"type": "text" | "json_object" | "json_schema", ...}; llama.cpp takes a schema beside the type as well. */
static int read_response_format(struct format *f, const char *field, enum grammar_kind kind, const json_t *v,
                                struct refusal *r)
{
    const char *type = json_string_value(json_object_get(v, "type"));
    const json_t *schema = json_object_get(v, "schema");
    (void)kind;
    if (type == NULL)
        return refuse(r, ERR_INVALID, field, "response_format must be an object with a type");
    if (strcmp(type, "text") == 0)
        return 0;
    if (strcmp(type, "json_object") == 0 && is_nothing(schema))
        return ask(f, field, GRAMMAR_OBJECT, NULL, r);
    if (strcmp(type, "json_object") == 0)
        return read_schema(f, field, GRAMMAR_SCHEMA, schema, r);
    if (strcmp(type, "json_schema") != 0)
        return refuse(r, ERR_INVALID, field,
                      "response_format.type is \"%.40s\"; \"text\", \"json_object\" and \"json_schema\" can be", type);
    const json_t *named = json_object_get(v, "json_schema");
    if (named != NULL)
        schema = json_object_get(named, "schema");
    if (schema == NULL)
        return refuse(r, ERR_INVALID, field, "response_format.json_schema.schema is needed");
    return read_schema(f, field, GRAMMAR_SCHEMA, schema, r);
}

typedef int (*read_fn)(struct format *f, const char *field, enum grammar_kind kind, const json_t *v,
                       struct refusal *r);

struct format_row {
    const char *field;
    read_fn read;
    enum grammar_kind kind;
};

static const struct format_row parts[] = { /* of structured_outputs */
    { "json", read_schema, GRAMMAR_SCHEMA },      { "regex", read_text, GRAMMAR_REGEX },
    { "choice", read_choices, GRAMMAR_CHOICE },   { "grammar", read_text, GRAMMAR_GBNF },
    { "json_object", read_flag, GRAMMAR_OBJECT },
};

static int read_rows(struct format *f, const struct format_row *rows, size_t n, const json_t *body, struct refusal *r)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const json_t *v = json_object_get(body, rows[i].field);
        if (!is_nothing(v))
            rc = rows[i].read(f, rows[i].field, rows[i].kind, v, r);
    }
    return rc;
}

/* vLLM's object of forms; one that is not known here is refused. */
static int read_structured(struct format *f, const char *field, enum grammar_kind kind, const json_t *v,
                           struct refusal *r)
{
    (void)kind;
    const char *key;
    json_t *value;
    if (!json_is_object(v))
        return refuse(r, ERR_INVALID, field, "structured_outputs must be an object");
    json_object_foreach((json_t *)(uintptr_t)v, key, value) {
        bool known = is_nothing(value);
        for (size_t i = 0; i < COUNTOF(parts) && !known; i++)
            known = strcmp(parts[i].field, key) == 0;
        if (!known)
            return refuse(r, ERR_UNSUPPORTED, field, "structured_outputs.%.40s is not supported", key);
    }
    return read_rows(f, parts, COUNTOF(parts), v, r);
}

static const struct format_row rows[] = {
    { "response_format", read_response_format, GRAMMAR_OBJECT },
    { "structured_outputs", read_structured, GRAMMAR_OBJECT },
    { "grammar", read_text, GRAMMAR_GBNF },
    { "guided_grammar", read_text, GRAMMAR_GBNF },
    { "guided_regex", read_text, GRAMMAR_REGEX },
    { "guided_choice", read_choices, GRAMMAR_CHOICE },
    { "guided_json", read_schema, GRAMMAR_SCHEMA },
    { "json_schema", read_schema, GRAMMAR_SCHEMA },
};

int format_read(struct form *form, struct grammar **out, const json_t *body, const struct api *a, struct refusal *r)
{
    struct format f = { 0 };
    *out = NULL;
    int rc = read_rows(&f, rows, COUNTOF(rows), body, r);
    if (rc == 0 && f.field != NULL) {
        rc = grammars_get(a->grammars, f.kind, f.source, out, &r->error);
        if (rc != 0) {
            (void)error_context(&r->error, "%s", f.field);
            snprintf(r->param, sizeof(r->param), "%s", f.field);
            r->http = 400; /* whatever cannot be compiled is the request's fault */
        }
        form->kind = f.kind;
        form->source = json_incref((json_t *)(uintptr_t)f.source);
    }
    json_decref(f.parsed);
    return rc;
}
