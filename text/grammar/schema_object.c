/* schema_object: objects and arrays.
 *
 * The members of an object come in the order in which they are declared.  Two
 * chains of rules say what follows member i: one where none came before it, one
 * where a comma is due.  Members that are used by both are rules, so that
 * nothing is compiled twice.                                                 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/grammar/schema.h"
#include "text/utf8.h"

struct member {
    const char *name;
    json_t *schema;
    bool required;
    uint32_t rule; /* name, colon and value */
};

struct members {
    struct member *all;
    size_t n, n_required;
    json_t *others;     /* the schema of undeclared ones, NULL: there are none */
    uint32_t min, max;
};

/* ---- names of other members ---- */

struct name {
    const char *text;
    size_t len;
};

static int by_text(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    return strcmp(x->text, y->text);
}

static uint32_t any_raw(struct rules *r)
{
    struct charset set = {0};
    json_raw(&set);
    uint32_t expr = rules_set(r, &set);
    charset_close(&set);
    return rules_repeat(r, expr, 0, RULES_ANY);
}

/* What a text that is none of the names may go on with; they agree in their first `at` bytes, and are sorted. */
static uint32_t other_text(struct rules *r, const struct name *names, size_t n, size_t at, uint32_t depth)
{
    if (depth > RULES_DEPTH_MAX / 4)
        r->failed = true;
    if (r->failed)
        return 0;
    struct charset free_ones = {0}, taken = {0};
    struct rules_list parts = {0};
    size_t i = 0;
    while (i < n && names[i].len == at)
        i++;
    if (i == 0)
        rules_list_add(&parts, rules_empty(r));
    while (i < n) {
        size_t len = utf8_char(names[i].text + at, names[i].len - at), end = i + 1;
        while (end < n && names[end].len >= at + len && memcmp(names[end].text + at, names[i].text + at, len) == 0)
            end++;
        uint32_t c = utf8_read(names[i].text + at, len);
        charset_add(&taken, c, c);
        if (c >= ' ' && c != '"' && c != '\\') {
            uint32_t rest = other_text(r, names + i, end - i, at + len, depth + 1);
            rules_list_add(&parts, rules_sequence_of(r, 2, rules_text(r, names[i].text + at, len), rest));
        }
        i = end;
    }
    charset_finish(&taken);
    charset_invert(&taken);
    json_raw(&free_ones);
    charset_intersect(&free_ones, &taken);
    rules_list_add(&parts, rules_sequence_of(r, 2, rules_set(r, &free_ones), any_raw(r)));
    uint32_t expr = r->failed ? 0 : rules_choice(r, parts.items, parts.n);
    rules_list_close(&parts);
    charset_close(&free_ones);
    charset_close(&taken);
    return expr;
}

/* A string that is the name of no declared member. */
static uint32_t other_name(struct schema *s, const struct members *m)
{
    struct name *names = mem_array(m->n + 1, sizeof(*names));
    for (size_t i = 0; i < m->n; i++)
        names[i] = (struct name){m->all[i].name, strlen(m->all[i].name)};
    qsort(names, m->n, sizeof(*names), by_text);
    uint32_t body = other_text(s->r, names, m->n, 0, 0);
    mem_free(names);
    return rules_sequence_of(s->r, 3, rules_string(s->r, "\""), body, rules_string(s->r, "\""));
}

/* ---- members ---- */

static int member_rule(struct schema *s, struct member *m)
{
    const char *outer = s->property;
    json_t *name = json_string(m->name);
    uint32_t value = 0;
    s->property = m->name;
    m->rule = rules_declare(s->r, m->name, strnlen(m->name, 60));
    int status = schema_expr(s, m->schema, &value);
    s->property = outer;
    uint32_t key = json_constant(s->r, name);
    rules_define(s->r, m->rule, rules_sequence_of(s->r, 3, key, json_token(&s->j, ":"), value));
    json_decref(name);
    return status;
}

static void add_member(struct members *m, const char *name, json_t *schema, bool required)
{
    if (json_is_false(schema) && !required) /* it can only be left out */
        return;
    m->all[m->n++] = (struct member){.name = name, .schema = schema, .required = required};
    m->n_required += required;
}

/* Of `required` names that are not declared: they are others. */
static int add_undeclared(struct schema *s, struct members *m, json_t *properties, json_t *required)
{
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        bool again = false;
        if (!name)
            return schema_fail(s, ERR_INVALID, "\"required\" must be a list of strings");
        for (size_t k = 0; k < i && !again; k++)
            again = json_equal(json_array_get(required, i), json_array_get(required, k));
        if (!again && !json_object_get(properties, name))
            add_member(m, name, m->others ? m->others : json_false(), true);
    }
    return 0;
}

static int read_members(struct schema *s, json_t *schema, struct members *m)
{
    json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    json_t *others = json_object_get(schema, "additionalProperties");
    if ((properties && !json_is_object(properties)) || (required && !json_is_array(required)))
        return schema_fail(s, ERR_INVALID, "\"properties\" must be an object and \"required\" a list");
    if (json_array_size(required) > SCHEMA_BRANCHES_MAX)
        return schema_fail(s, ERR_LIMIT, "\"required\" has more than %d names", SCHEMA_BRANCHES_MAX);
    /* Nothing said: others are valid, and made only where there would be no others at all. */
    m->others = others ? others : json_object_size(properties) == 0 ? json_true() : NULL;
    if (json_is_false(m->others))
        m->others = NULL;
    m->all = mem_array(json_object_size(properties) + json_array_size(required) + 1, sizeof(*m->all));
    json_t *names = json_object();
    for (size_t i = 0; i < json_array_size(required); i++)
        if (json_is_string(json_array_get(required, i)))
            json_object_set_new(names, json_string_value(json_array_get(required, i)), json_true());
    const char *name;
    json_t *value;
    json_object_foreach(properties, name, value)
        add_member(m, name, value, json_object_get(names, name) != NULL);
    json_decref(names);
    json_t *open = m->others;
    if (!others && !m->others)
        m->others = json_true(); /* a required name that is not declared may be anything */
    int status = add_undeclared(s, m, properties, required);
    m->others = open;
    if (status == 0)
        status = schema_count(s, schema, "minProperties", 0, &m->min);
    return status == 0 ? schema_count(s, schema, "maxProperties", RULES_ANY, &m->max) : status;
}

/* How many members there may be is counted only where it is one kind of them that is counted. */
static int check_counts(struct schema *s, struct members *m)
{
    bool map = m->n == 0 && m->others;
    if (m->max < m->n_required)
        return schema_fail(s, ERR_INVALID, "\"maxProperties\" is less than what is required");
    if (!map && m->max != RULES_ANY && (m->others || m->max < m->n)) {
        if (m->max > m->n_required)
            return schema_fail(s, ERR_UNSUPPORTED, "\"maxProperties\" beside optional properties is not supported");
        size_t kept = 0; /* no room for what is optional */
        for (size_t i = 0; i < m->n; i++)
            if (m->all[i].required)
                m->all[kept++] = m->all[i];
        m->n = kept;
        m->others = NULL;
    }
    if (m->min <= m->n_required)
        m->min = 0;
    if (m->min > 1)
        return schema_fail(s, ERR_UNSUPPORTED, "\"minProperties\" of more than what is required is not supported");
    return 0;
}

/* A member that is not declared, as a rule. */
static int other_rule(struct schema *s, struct members *m, uint32_t *rule)
{
    uint32_t value = 0;
    int status = schema_expr(s, m->others, &value);
    *rule = rules_declare(s->r, "property", 8);
    rules_define(s->r, *rule, rules_sequence_of(s->r, 3, other_name(s, m), json_token(&s->j, ":"), value));
    return status;
}

static uint32_t after_comma(struct schema *s, uint32_t rule)
{
    return rules_sequence_of(s->r, 2, json_token(&s->j, ","), rules_call(s->r, rule));
}

/* The ends of both chains: *after when members came before, *first when none did. */
static int end_chains(struct schema *s, struct members *m, uint32_t *after, uint32_t *first)
{
    struct rules *r = s->r;
    *after = rules_declare(r, "members", 7);
    *first = rules_declare(r, "members", 7);
    uint32_t close = json_close(&s->j, "}"), none = m->min > 0 ? rules_never(r) : rules_string(r, "}");
    if (!m->others) {
        rules_define(r, *after, close);
        rules_define(r, *first, none);
        return 0;
    }
    uint32_t rule = 0, most = m->max == RULES_ANY || m->max == 0 ? m->max : m->max - 1;
    int status = other_rule(s, m, &rule);
    rules_define(r, *after, rules_sequence_of(r, 2, rules_repeat(r, after_comma(s, rule), 0, most), close));
    uint32_t some = rules_sequence_of(r, 3, json_space(&s->j), rules_call(r, rule), rules_call(r, *after));
    uint32_t parts[2] = {none, some};
    rules_define(r, *first, m->max == 0 ? none : rules_choice(r, parts, 2));
    return status;
}

/* Put member i before both chains. */
static void extend_chains(struct schema *s, const struct member *m, uint32_t *after, uint32_t *first)
{
    struct rules *r = s->r;
    uint32_t with_comma = after_comma(s, m->rule), rest = *after, skip = *first;
    *after = rules_declare(r, "members", 7);
    *first = rules_declare(r, "members", 7);
    if (!m->required)
        with_comma = rules_optional(r, with_comma);
    rules_define(r, *after, rules_sequence_of(r, 2, with_comma, rules_call(r, rest)));
    uint32_t parts[2] = {rules_sequence_of(r, 3, json_space(&s->j), rules_call(r, m->rule), rules_call(r, rest)), 0};
    if (!m->required)
        parts[1] = rules_call(r, skip);
    rules_define(r, *first, rules_choice(r, parts, m->required ? 1 : 2));
}

int schema_object(struct schema *s, json_t *schema, uint32_t *out)
{
    struct members m = {0};
    uint32_t after = 0, first = 0;
    int status = read_members(s, schema, &m);
    if (status == 0)
        status = check_counts(s, &m);
    for (size_t i = 0; status == 0 && i < m.n; i++)
        status = member_rule(s, &m.all[i]);
    if (status == 0)
        status = end_chains(s, &m, &after, &first);
    for (size_t i = m.n; status == 0 && i-- > 0;)
        extend_chains(s, &m.all[i], &after, &first);
    if (status == 0)
        *out = rules_sequence_of(s->r, 2, rules_string(s->r, "{"), rules_call(s->r, first));
    mem_free(m.all);
    return status;
}

/* ---- arrays ---- */

struct items {
    json_t *prefix; /* list, or NULL */
    json_t *rest;   /* schema of those after it; NULL: there are none */
    uint32_t n_prefix, min, max;
};

static int read_items(struct schema *s, json_t *schema, struct items *l)
{
    json_t *items = json_object_get(schema, "items"), *prefix = json_object_get(schema, "prefixItems");
    json_t *more = items;
    if (json_is_array(items)) { /* before draft 2020-12 */
        prefix = items;
        more = json_object_get(schema, "additionalItems");
    }
    if (prefix && !json_is_array(prefix))
        return schema_fail(s, ERR_INVALID, "\"prefixItems\" must be a list");
    l->prefix = prefix;
    l->n_prefix = (uint32_t)json_array_size(prefix);
    l->rest = more ? more : prefix ? NULL : json_true();
    if (json_is_false(l->rest))
        l->rest = NULL;
    int status = schema_count(s, schema, "minItems", 0, &l->min);
    if (status == 0)
        status = schema_count(s, schema, "maxItems", RULES_ANY, &l->max);
    if (status != 0)
        return status;
    if (l->n_prefix > SCHEMA_BRANCHES_MAX / 4)
        return schema_fail(s, ERR_LIMIT, "\"prefixItems\" has more than %d schemas", SCHEMA_BRANCHES_MAX / 4);
    if (l->max < l->min)
        return schema_fail(s, ERR_INVALID, "\"maxItems\" is less than \"minItems\"");
    if (json_is_true(json_object_get(schema, "uniqueItems")) && l->max > 1)
        return schema_fail(s, ERR_UNSUPPORTED, "the keyword \"uniqueItems\" is not supported");
    if (prefix && !more && l->min > l->n_prefix)
        l->rest = json_true(); /* they must be there, and may be anything */
    return 0;
}

/* An item that can only be left out ends the list before it. */
static void cut_items(struct items *l)
{
    for (uint32_t i = 0; i < l->n_prefix; i++)
        if (json_is_false(json_array_get(l->prefix, i)) && i < l->max)
            l->max = i;
    if (!l->rest && l->max > l->n_prefix)
        l->max = l->n_prefix;
    if (l->max <= l->n_prefix) {
        l->n_prefix = l->max;
        l->rest = NULL;
    }
}

/* Items from number `prefix` on, each after its comma but the very first. */
static int expr_of_rest(struct schema *s, const struct items *l, uint32_t *out)
{
    struct rules *r = s->r;
    uint32_t k = l->n_prefix, rule = rules_declare(r, "item", 4), value = 0;
    uint32_t min = l->min > k ? l->min - k : 0, max = l->max == RULES_ANY ? RULES_ANY : l->max - k;
    int status = schema_expr(s, l->rest, &value);
    rules_define(r, rule, value);
    if (k > 0) {
        *out = rules_repeat(r, after_comma(s, rule), min, max);
        return status;
    }
    uint32_t again = rules_repeat(r, after_comma(s, rule), min > 0 ? min - 1 : 0, max == RULES_ANY ? max : max - 1);
    *out = rules_sequence_of(r, 2, rules_call(r, rule), again);
    return status;
}

/* All items of a list that has at least one. */
static int expr_of_items(struct schema *s, const struct items *l, uint32_t *out)
{
    struct rules *r = s->r;
    int status = 0;
    if (l->rest)
        status = expr_of_rest(s, l, out);
    else
        *out = l->min > l->n_prefix ? rules_never(r) : rules_empty(r);
    for (uint32_t i = l->n_prefix; status == 0 && i-- > 0;) {
        uint32_t value = 0;
        status = schema_expr(s, json_array_get(l->prefix, i), &value);
        *out = i == 0 ? rules_sequence_of(r, 2, value, *out)
                      : rules_sequence_of(r, 3, json_token(&s->j, ","), value, *out);
        if (i > 0 && i >= l->min)
            *out = rules_optional(r, *out);
    }
    return status;
}

int schema_array(struct schema *s, json_t *schema, uint32_t *out)
{
    struct rules *r = s->r;
    struct items l = {0};
    uint32_t items = 0;
    int status = read_items(s, schema, &l);
    if (status != 0)
        return status;
    cut_items(&l);
    uint32_t none = l.min == 0 ? rules_string(r, "[]") : rules_never(r);
    if (l.max == 0) {
        *out = none;
        return 0;
    }
    status = expr_of_items(s, &l, &items);
    uint32_t some = rules_sequence_of(r, 3, json_token(&s->j, "["), items, json_close(&s->j, "]"));
    *out = rules_choice(r, (uint32_t[]){none, some}, 2);
    return status;
}
