/* schema: keywords, types, references and choices; the types themselves have files of their own. */
#include "text/grammar/schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/grammar/front.h"

/* ---- keywords ---- */

enum keyword_kind {
    NOTE,    /* changes nothing about which values are valid */
    FORM,    /* is understood */
    REFUSED, /* is known, and cannot be kept to */
};

static const struct {
    const char *name;
    enum keyword_kind kind;
    unsigned types; /* that it is about; 0: any */
} keywords[] = {
    {"type", FORM, 0}, {"enum", FORM, 0}, {"const", FORM, 0}, {"anyOf", FORM, 0}, {"oneOf", FORM, 0},
    {"allOf", FORM, 0}, {"$ref", FORM, 0}, {"nullable", FORM, 0},
    {"properties", FORM, TYPE_OBJECT}, {"required", FORM, TYPE_OBJECT}, {"additionalProperties", FORM, TYPE_OBJECT},
    {"minProperties", FORM, TYPE_OBJECT}, {"maxProperties", FORM, TYPE_OBJECT},
    {"items", FORM, TYPE_ARRAY}, {"prefixItems", FORM, TYPE_ARRAY}, {"additionalItems", FORM, TYPE_ARRAY},
    {"minItems", FORM, TYPE_ARRAY}, {"maxItems", FORM, TYPE_ARRAY}, {"uniqueItems", FORM, TYPE_ARRAY},
    {"minLength", FORM, TYPE_STRING}, {"maxLength", FORM, TYPE_STRING}, {"pattern", FORM, TYPE_STRING},
    {"format", FORM, TYPE_STRING},
    {"minimum", FORM, TYPE_NUMBER}, {"maximum", FORM, TYPE_NUMBER}, {"exclusiveMinimum", FORM, TYPE_NUMBER},
    {"exclusiveMaximum", FORM, TYPE_NUMBER}, {"multipleOf", FORM, TYPE_NUMBER},

    {"title", NOTE, 0}, {"description", NOTE, 0}, {"default", NOTE, 0}, {"examples", NOTE, 0}, {"example", NOTE, 0},
    {"$schema", NOTE, 0}, {"$id", NOTE, 0}, {"id", NOTE, 0}, {"$comment", NOTE, 0}, {"$defs", NOTE, 0},
    {"definitions", NOTE, 0}, {"deprecated", NOTE, 0}, {"readOnly", NOTE, 0}, {"writeOnly", NOTE, 0},
    {"contentEncoding", NOTE, 0}, {"contentMediaType", NOTE, 0}, {"discriminator", NOTE, 0}, {"$anchor", NOTE, 0},
    {"xml", NOTE, 0}, {"externalDocs", NOTE, 0}, {"strict", NOTE, 0},

    {"not", REFUSED, 0}, {"if", REFUSED, 0}, {"then", REFUSED, 0}, {"else", REFUSED, 0}, {"$dynamicRef", REFUSED, 0},
    {"$recursiveRef", REFUSED, 0}, {"patternProperties", REFUSED, TYPE_OBJECT},
    {"propertyNames", REFUSED, TYPE_OBJECT}, {"dependencies", REFUSED, TYPE_OBJECT},
    {"dependentRequired", REFUSED, TYPE_OBJECT}, {"dependentSchemas", REFUSED, TYPE_OBJECT},
    {"unevaluatedProperties", REFUSED, TYPE_OBJECT}, {"unevaluatedItems", REFUSED, TYPE_ARRAY},
    {"contains", REFUSED, TYPE_ARRAY}, {"minContains", REFUSED, TYPE_ARRAY}, {"maxContains", REFUSED, TYPE_ARRAY},
};

int schema_fail(struct schema *s, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)error_setv(s->e, status, format, args);
    va_end(args);
    if (s->property)
        (void)error_context(s->e, "schema, property \"%.60s\"", s->property);
    else
        (void)error_context(s->e, "schema");
    return status;
}

/* The keyword's row; COUNTOF(keywords) for one that is not known. */
static size_t keyword(const char *name)
{
    size_t i = 0;
    while (i < COUNTOF(keywords) && strcmp(keywords[i].name, name) != 0)
        i++;
    return i;
}

/* Names are strings anyway: writers of schemas for maps say so. */
static bool is_any_name(const char *key, json_t *value)
{
    bool object = json_is_object(value) && json_object_size(value) <= 1;
    const char *type = json_string_value(json_object_get(value, "type"));
    bool any = json_is_true(value) || (object && json_object_size(value) == 0);
    return strcmp(key, "propertyNames") == 0 && (any || (object && type && strcmp(type, "string") == 0));
}

static int check_keywords(struct schema *s, json_t *schema)
{
    const char *key;
    json_t *value;
    json_object_foreach(schema, key, value) {
        size_t i = keyword(key);
        bool note = strncmp(key, "x-", 2) == 0;
        if (i == COUNTOF(keywords) && !note)
            return schema_fail(s, ERR_UNSUPPORTED, "the keyword \"%.60s\" is not known", key);
        if (!note && keywords[i].kind == REFUSED && !is_any_name(key, value))
            return schema_fail(s, ERR_UNSUPPORTED, "the keyword \"%.60s\" is not supported", key);
    }
    return 0;
}

/* Does anything but these two stand in the schema that says which values are valid? */
static bool has_form_beside(json_t *schema, const char *one, const char *other)
{
    const char *key;
    json_t *value;
    json_object_foreach(schema, key, value) {
        size_t i = keyword(key);
        if (strcmp(key, one) != 0 && strcmp(key, other) != 0 && i < COUNTOF(keywords) && keywords[i].kind != NOTE)
            return true;
    }
    return false;
}

json_t *schema_made(struct schema *s, json_t *takes)
{
    json_array_append_new(s->made, takes);
    return takes;
}

int schema_count(struct schema *s, json_t *schema, const char *key, uint32_t absent, uint32_t *out)
{
    const json_t *v = json_object_get(schema, key);
    *out = absent;
    if (!v)
        return 0;
    double n = json_is_number(v) ? json_number_value(v) : -1;
    if (n > RULES_REPEAT_MAX)
        return schema_fail(s, ERR_LIMIT, "\"%s\" is larger than %d", key, RULES_REPEAT_MAX);
    if (n < 0 || n != (double)(uint32_t)n)
        return schema_fail(s, ERR_INVALID, "\"%s\" must be a whole number, at least 0", key);
    *out = (uint32_t)n;
    return 0;
}

/* ---- types ---- */

static const struct {
    const char *name;
    unsigned type;
} type_names[] = {
    {"null", TYPE_NULL}, {"boolean", TYPE_BOOLEAN}, {"object", TYPE_OBJECT}, {"array", TYPE_ARRAY},
    {"number", TYPE_NUMBER | TYPE_INTEGER}, {"integer", TYPE_INTEGER}, {"string", TYPE_STRING},
};

static unsigned type_named(struct schema *s, const json_t *name)
{
    const char *text = json_string_value(name);
    for (size_t i = 0; text && i < COUNTOF(type_names); i++)
        if (strcmp(type_names[i].name, text) == 0)
            return type_names[i].type;
    (void)schema_fail(s, ERR_INVALID, "\"type\" has \"%.40s\", which is none", text ? text : "");
    return 0;
}

unsigned schema_types(struct schema *s, json_t *schema)
{
    json_t *type = json_object_get(schema, "type");
    unsigned types = 0;
    if (!json_is_object(schema))
        return TYPE_ANY;
    if (!type) {
        const char *key;
        json_t *value;
        json_object_foreach(schema, key, value) {
            size_t i = keyword(key);
            types |= i < COUNTOF(keywords) && keywords[i].kind == FORM ? keywords[i].types : 0;
        }
        return types & TYPE_NUMBER ? types | TYPE_INTEGER : types ? types : TYPE_ANY;
    }
    if (!json_is_array(type))
        types = type_named(s, type);
    for (size_t i = 0; i < json_array_size(type); i++) {
        unsigned one = type_named(s, json_array_get(type, i));
        if (one == 0)
            return 0;
        types |= one;
    }
    if (types == 0 && json_is_array(type))
        (void)schema_fail(s, ERR_INVALID, "\"type\" is an empty list");
    return types && json_is_true(json_object_get(schema, "nullable")) ? types | TYPE_NULL : types;
}

unsigned schema_type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return TYPE_OBJECT;
    case JSON_ARRAY: return TYPE_ARRAY;
    case JSON_STRING: return TYPE_STRING;
    case JSON_INTEGER: return TYPE_INTEGER;
    case JSON_REAL: return json_real_value(v) == floor(json_real_value(v)) ? TYPE_INTEGER : TYPE_NUMBER;
    case JSON_NULL: return TYPE_NULL;
    default: return TYPE_BOOLEAN;
    }
}

static int by_type(struct schema *s, json_t *schema, uint32_t *out)
{
    unsigned types = schema_types(s, schema);
    struct rules_list parts = {0};
    int status = types == 0 ? ERR_INVALID : 0;
    for (unsigned t = 1; status == 0 && t < TYPE_ANY; t <<= 1) {
        uint32_t expr = 0;
        if (!(types & t) || (t == TYPE_INTEGER && types & TYPE_NUMBER)) /* whole numbers are numbers */
            continue;
        switch (t) {
        case TYPE_NULL: expr = rules_string(s->r, "null"); break;
        case TYPE_BOOLEAN:
            expr = rules_texts(s->r, (struct rules_texts[]){{"true", 4}, {"false", 5}}, 2);
            break;
        case TYPE_OBJECT: status = schema_object(s, schema, &expr); break;
        case TYPE_ARRAY: status = schema_array(s, schema, &expr); break;
        case TYPE_STRING: status = schema_string(s, schema, &expr); break;
        default: status = schema_number(s, schema, t == TYPE_INTEGER, &expr); break;
        }
        rules_list_add(&parts, expr);
    }
    *out = rules_choice(s->r, parts.items, parts.n);
    rules_list_close(&parts);
    return status;
}

/* ---- constants ---- */

/* The list that enum, const or both leave; NULL: neither is there. */
static json_t *constants(struct schema *s, json_t *schema)
{
    json_t *list = json_object_get(schema, "enum"), *one = json_object_get(schema, "const");
    if (!one)
        return list;
    json_t *kept = schema_made(s, json_array());
    bool found = !list;
    for (size_t i = 0; i < json_array_size(list); i++)
        found |= json_equal(json_array_get(list, i), one);
    if (found)
        json_array_append(kept, one);
    return kept;
}

static int expr_of_constants(struct schema *s, json_t *schema, json_t *list, uint32_t *out)
{
    size_t n = json_array_size(list), kept = 0;
    bool typed = json_object_get(schema, "type") != NULL;
    unsigned types = typed ? schema_types(s, schema) : TYPE_ANY;
    if (types == 0)
        return ERR_INVALID;
    if (!json_is_array(list) || n > SCHEMA_ENUM_MAX)
        return schema_fail(s, ERR_INVALID, "\"enum\" must be a list of at most %d values", SCHEMA_ENUM_MAX);
    static const char *const beside[] = {"type", "enum", "const", "nullable"};
    const char *key;
    json_t *value;
    json_object_foreach(schema, key, value) {
        size_t i = keyword(key), k = 0;
        while (k < COUNTOF(beside) && strcmp(beside[k], key) != 0)
            k++;
        if (k == COUNTOF(beside) && i < COUNTOF(keywords) && keywords[i].kind != NOTE)
            return schema_fail(s, ERR_UNSUPPORTED, "\"%s\" beside \"enum\" or \"const\" is not supported", key);
    }
    struct rules_texts *texts = mem_array(n + 1, sizeof(*texts));
    json_t *owner = json_array(); /* of the texts */
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(list, i);
        char *text = types & schema_type_of(v) ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
        json_t *held = text ? json_string(text) : NULL;
        if (held) {
            json_array_append_new(owner, held);
            texts[kept++] = (struct rules_texts){json_string_value(held), json_string_length(held)};
        }
        free(text);
    }
    *out = rules_texts(s->r, texts, kept);
    json_decref(owner);
    mem_free(texts);
    return 0;
}

/* ---- references ---- */

/* One step of a JSON pointer, [at, end), with ~0 ~1 and %XX undone. Caller frees. */
static char *pointer_step(const char *at, const char *end)
{
    char *out = mem_array((size_t)(end - at) + 1, 1);
    size_t n = 0;
    for (; at < end; at++) {
        unsigned code = 0;
        int used = 0;
        if (*at == '~' && end - at > 1 && (at[1] == '0' || at[1] == '1')) {
            out[n++] = at[1] == '0' ? '~' : '/';
            at++;
        } else if (*at == '%' && end - at > 2 && sscanf(at + 1, "%2x%n", &code, &used) == 1 && used == 2 && code > 0) {
            out[n++] = (char)code;
            at += 2;
        } else {
            out[n++] = *at;
        }
    }
    return out;
}

static json_t *step_into(json_t *at, const char *name)
{
    if (json_is_object(at))
        return json_object_get(at, name);
    char *end = NULL;
    unsigned long i = name[0] >= '0' && name[0] <= '9' ? strtoul(name, &end, 10) : 0;
    return json_is_array(at) && end && *end == '\0' ? json_array_get(at, i) : NULL;
}

static int find_ref(struct schema *s, const json_t *ref, json_t **out)
{
    const char *text = json_string_value(ref);
    if (!text)
        return schema_fail(s, ERR_INVALID, "\"$ref\" must be a string");
    if (text[0] != '#' || (text[1] != '\0' && text[1] != '/'))
        return schema_fail(s, ERR_UNSUPPORTED, "\"$ref\" \"%.80s\" does not point into this schema (#/...)", text);
    json_t *at = s->root;
    for (const char *p = text + 1; at && *p == '/';) {
        const char *end = p + 1;
        while (*end != '\0' && *end != '/')
            end++;
        char *name = pointer_step(p + 1, end);
        at = step_into(at, name);
        mem_free(name);
        p = end;
    }
    if (!json_is_object(at) && !json_is_boolean(at))
        return schema_fail(s, ERR_INVALID, "\"$ref\" \"%.80s\" points to no schema", text);
    *out = at;
    return 0;
}

/* Its place in the table, or where it would be put. */
static struct schema_rule *place_of(struct schema *s, const json_t *schema)
{
    size_t at = (uintptr_t)schema / 16 * 0x9E3779B97F4A7C15u % s->room_known;
    while (s->known[at].schema && s->known[at].schema != schema)
        at = (at + 1) % s->room_known;
    return &s->known[at];
}

static void grow_known(struct schema *s)
{
    struct schema_rule *old = s->known;
    size_t n = s->room_known;
    s->room_known = n * 2 + 61;
    s->known = mem_array(s->room_known, sizeof(*s->known));
    for (size_t i = 0; i < n; i++)
        if (old[i].schema)
            *place_of(s, old[i].schema) = old[i];
    mem_free(old);
}

int schema_rule(struct schema *s, json_t *schema, uint32_t *rule)
{
    if (s->n_known * 2 >= s->room_known)
        grow_known(s);
    struct schema_rule *place = place_of(s, schema);
    if (place->schema) {
        *rule = place->rule;
        return 0;
    }
    *rule = rules_declare(s->r, "schema", 6);
    *place = (struct schema_rule){schema, *rule};
    s->n_known++;
    uint32_t expr = 0;
    int status = schema_expr(s, schema, &expr);
    rules_define(s->r, *rule, expr);
    return status;
}

/* ---- merging ---- */

/* The schema without one of its keywords. */
static json_t *without(struct schema *s, json_t *schema, const char *key)
{
    s->work += json_object_size(schema);
    json_t *copy = schema_made(s, json_copy(schema));
    json_object_del(copy, key);
    return copy;
}

int schema_step(struct schema *s)
{
    if (s->r->failed || s->work > SCHEMA_WORK_MAX)
        return schema_fail(s, ERR_LIMIT, "it is too large");
    if (++s->steps > SCHEMA_STEPS_MAX)
        return schema_fail(s, ERR_LIMIT, "it is too large: more than %d schemas", SCHEMA_STEPS_MAX);
    if (s->depth > SCHEMA_DEPTH_MAX)
        return schema_fail(s, ERR_LIMIT, "it is nested too deeply, or refers to itself without end: %d levels",
                           SCHEMA_DEPTH_MAX);
    return 0;
}

int schema_resolve(struct schema *s, json_t *schema, json_t **out)
{
    *out = schema;
    json_t *ref = json_object_get(schema, "$ref"), *all = json_object_get(schema, "allOf");
    if (!json_is_object(schema) || (!ref && !all))
        return 0;
    s->depth++;
    json_t *merged = without(s, schema, ref ? "$ref" : "allOf"), *target = NULL;
    int status = schema_step(s);
    if (status == 0 && ref) {
        status = find_ref(s, ref, &target);
        if (status == 0)
            status = schema_merge(s, merged, target, &merged);
    }
    for (size_t i = 0; status == 0 && !ref && i < json_array_size(all); i++)
        status = schema_merge(s, merged, json_array_get(all, i), &merged);
    if (status == 0)
        status = schema_resolve(s, merged, out);
    s->depth--;
    return status;
}

/* ---- choices ---- */

static int check_apart(struct schema *s, json_t *branches)
{
    size_t n = json_array_size(branches);
    if (n > SCHEMA_APART_MAX)
        return schema_fail(s, ERR_LIMIT, "\"oneOf\" has more than %d schemas: use \"anyOf\"", SCHEMA_APART_MAX);
    for (size_t at = 0; at < n * n; at++) {
        size_t i = at / n, k = at % n;
        if (i == k || schema_apart(s, json_array_get(branches, i), json_array_get(branches, k), 4))
            continue;
        int status = schema_step(s); /* was there too much to look at? */
        return status != 0 ? status : schema_fail(s, ERR_UNSUPPORTED, "\"oneOf\": a value could be valid by branches "
                                                  "%zu and %zu: use \"anyOf\"", i, k);
    }
    return 0;
}

/* A value by one of the branches and by what stands beside them. */
static int expr_of_branches(struct schema *s, json_t *schema, const char *key, uint32_t *out)
{
    json_t *branches = json_object_get(schema, key), *base = without(s, schema, key);
    bool alone = !has_form_beside(schema, key, "nullable");
    size_t n = json_array_size(branches);
    if (n == 0 || n > SCHEMA_BRANCHES_MAX)
        return schema_fail(s, ERR_INVALID, "\"%s\" must be a list of 1 to %d schemas", key, SCHEMA_BRANCHES_MAX);
    struct rules_list parts = {0};
    int status = strcmp(key, "oneOf") == 0 ? check_apart(s, branches) : 0;
    for (size_t i = 0; status == 0 && i < n; i++) {
        json_t *branch = json_array_get(branches, i);
        uint32_t expr = 0;
        if (!alone)
            status = schema_merge(s, base, branch, &branch);
        if (status == 0)
            status = schema_expr(s, branch, &expr);
        rules_list_add(&parts, expr);
    }
    if (json_is_true(json_object_get(schema, "nullable")))
        rules_list_add(&parts, rules_string(s->r, "null"));
    *out = rules_choice(s->r, parts.items, parts.n);
    rules_list_close(&parts);
    return status;
}

static int expr_of_object(struct schema *s, json_t *schema, uint32_t *out)
{
    uint32_t rule = 0;
    json_t *whole = NULL, *list;
    int status = check_keywords(s, schema);
    json_t *ref = json_object_get(schema, "$ref");
    if (status != 0)
        return status;
    if (ref && !has_form_beside(schema, "$ref", "$ref")) {
        status = find_ref(s, ref, &whole);
        if (status == 0)
            status = schema_rule(s, whole, &rule);
        *out = rules_call(s->r, rule);
        return status;
    }
    if (ref || json_object_get(schema, "allOf")) {
        status = schema_resolve(s, schema, &whole);
        return status == 0 ? schema_expr(s, whole, out) : status;
    }
    if (json_object_get(schema, "anyOf"))
        return expr_of_branches(s, schema, "anyOf", out);
    if (json_object_get(schema, "oneOf"))
        return expr_of_branches(s, schema, "oneOf", out);
    list = constants(s, schema);
    if (list)
        return expr_of_constants(s, schema, list, out);
    if (!has_form_beside(schema, "nullable", "nullable")) {
        *out = json_value(&s->j);
        return 0;
    }
    return by_type(s, schema, out);
}

int schema_expr(struct schema *s, json_t *schema, uint32_t *out)
{
    s->depth++;
    int status = schema_step(s);
    if (status == 0 && json_is_boolean(schema))
        *out = json_is_true(schema) ? json_value(&s->j) : rules_never(s->r);
    else if (status == 0 && json_is_object(schema))
        status = expr_of_object(s, schema, out);
    else if (status == 0)
        status = schema_fail(s, ERR_INVALID, "a schema must be an object, true or false");
    s->depth--;
    return status;
}

/* `schema` is a part of `root`, which its references are into. */
static int read_rule(struct rules *r, const json_t *schema, const json_t *root, uint32_t *rule, struct error *e)
{
    struct error own = {0};
    struct schema s = {.r = r, .root = (json_t *)(uintptr_t)root, .made = json_array(), .e = e ? e : &own};
    json_rules_init(&s.j, r);
    *rule = 0;
    int status = schema_rule(&s, (json_t *)(uintptr_t)schema, rule);
    json_decref(s.made);
    mem_free(s.known);
    return status;
}

int schema_read(struct rules *r, const json_t *schema, struct error *e)
{
    uint32_t rule;
    int status = read_rule(r, schema, schema, &rule, e);
    r->root = rule;
    return status;
}

int schema_within(struct rules *r, const json_t *schema, const json_t *root, uint32_t *out, struct error *e)
{
    uint32_t rule;
    int status = read_rule(r, schema, root, &rule, e);
    *out = status == 0 ? rules_call(r, rule) : 0;
    return status;
}
