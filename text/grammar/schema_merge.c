/* schema_merge: one schema of two, and whether two exclude each other.
 *
 * Merging goes by keyword.  Schemas inside (of properties, of items) are not
 * merged at once but put into an "allOf", which is resolved when they are
 * looked at.  A contradiction becomes false, which no value satisfies.       */
#include <math.h>
#include <string.h>

#include "text/grammar/schema.h"

/* So much is to be done: false when that is too much. */
static bool spend(struct schema *s, size_t work)
{
    s->work += work < SCHEMA_WORK_MAX ? work : SCHEMA_WORK_MAX + 1;
    return s->work <= SCHEMA_WORK_MAX;
}

/* Values in a value, counted until there are more than `most`. */
static size_t weight(json_t *j, size_t most)
{
    size_t n = 1, i;
    const char *key;
    json_t *value;
    json_array_foreach(j, i, value)
        n += n <= most ? weight(value, most - n) : 0;
    json_object_foreach(j, key, value)
        n += n <= most ? weight(value, most - n) : 0;
    return n;
}

/* Each of a list is held against each of another. */
static bool spend_pairs(struct schema *s, json_t *a, json_t *b)
{
    size_t pairs;
    return spend(s, __builtin_mul_overflow(json_array_size(a), json_array_size(b), &pairs) ? SIZE_MAX : pairs);
}

typedef json_t *(*merge_fn)(json_t *a, json_t *b); /* of two values; NULL: they cannot both be; owned */

static json_t *both(json_t *a, json_t *b)
{
    if (json_equal(a, b) || json_is_true(b))
        return json_incref(a);
    if (json_is_false(a) || json_is_false(b))
        return json_false();
    return json_is_true(a) ? json_incref(b) : json_pack("{s:[O, O]}", "allOf", a, b);
}

static json_t *larger(json_t *a, json_t *b)
{
    return json_incref(json_number_value(a) >= json_number_value(b) ? a : b);
}

static json_t *smaller(json_t *a, json_t *b)
{
    return json_incref(json_number_value(a) <= json_number_value(b) ? a : b);
}

static json_t *equal(json_t *a, json_t *b)
{
    return json_equal(a, b) ? json_incref(a) : NULL;
}

static bool contains(json_t *list, json_t *value)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), value))
            return true;
    return false;
}

static json_t *joined(json_t *a, json_t *b)
{
    json_t *list = json_copy(a);
    for (size_t i = 0; i < json_array_size(b); i++)
        if (!contains(a, json_array_get(b, i)))
            json_array_append(list, json_array_get(b, i));
    return list;
}

static json_t *common(json_t *a, json_t *b)
{
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(a); i++)
        if (contains(b, json_array_get(a, i)))
            json_array_append(list, json_array_get(a, i));
    return list;
}

/* integer is in number */
static json_t *common_types(json_t *a, json_t *b)
{
    json_t *left = json_is_array(a) ? json_incref(a) : json_pack("[O]", a);
    json_t *right = json_is_array(b) ? json_incref(b) : json_pack("[O]", b);
    json_t *list = common(left, right), *integer = json_string("integer"), *number = json_string("number");
    bool whole = (contains(left, integer) && contains(right, number)) ||
                 (contains(right, integer) && contains(left, number));
    if (whole && !contains(list, integer) && !contains(list, number))
        json_array_append(list, integer);
    json_decref(left);
    json_decref(right);
    json_decref(integer);
    json_decref(number);
    if (json_array_size(list) > 0)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *either(json_t *a, json_t *b)
{
    return json_is_true(a) || json_is_true(b) ? json_true() : json_false();
}

/* Every branch of a, with all of b's choice. */
static json_t *product(const char *key, json_t *a, json_t *b)
{
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(a); i++)
        json_array_append_new(list, json_pack("{s:[O, {s:O}]}", "allOf", json_array_get(a, i), key, b));
    return list;
}

static json_t *any_product(json_t *a, json_t *b)
{
    return product("anyOf", a, b);
}

static json_t *one_product(json_t *a, json_t *b)
{
    return product("oneOf", a, b);
}

static const struct {
    const char *key;
    merge_fn merge;
} merges[] = {
    {"type", common_types}, {"enum", common}, {"const", equal}, {"required", joined}, {"nullable", NULL},
    {"minimum", larger}, {"exclusiveMinimum", larger}, {"maximum", smaller}, {"exclusiveMaximum", smaller},
    {"minLength", larger}, {"maxLength", smaller}, {"minItems", larger}, {"maxItems", smaller},
    {"minProperties", larger}, {"maxProperties", smaller}, {"uniqueItems", either},
    {"additionalProperties", both}, {"anyOf", any_product}, {"oneOf", one_product},
    {"pattern", NULL}, {"format", NULL}, {"multipleOf", NULL},
};

/* What a says of a property that it does not declare; NULL: nothing. */
static json_t *undeclared(json_t *a)
{
    json_t *other = json_object_get(a, "additionalProperties");
    return other && !json_is_true(other) ? other : NULL;
}

static json_t *both_weighed(struct schema *s, json_t *a, json_t *b)
{
    s->work += weight(a, SCHEMA_WORK_MAX);
    return both(a, b);
}

/* Into `out`: the properties of one, under what the other says of them. */
static void merge_properties_of(struct schema *s, json_t *out, json_t *one, json_t *other)
{
    json_t *theirs = json_object_get(other, "properties"), *closed = undeclared(other);
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(one, "properties"), name, value) {
        json_t *also = json_object_get(theirs, name);
        if (json_object_get(out, name))
            continue;
        also = also ? also : closed;
        json_object_set_new(out, name, also ? both_weighed(s, value, also) : json_incref(value));
    }
}

/* The first items' schemas (NULL: none have one of their own) and what is said of those after them (NULL: nothing). */
static json_t *items_of(json_t *schema, json_t **rest)
{
    json_t *items = json_object_get(schema, "items"), *prefix = json_object_get(schema, "prefixItems");
    *rest = json_is_array(items) ? json_object_get(schema, "additionalItems") : items;
    return json_is_array(items) ? items : prefix;
}

static json_t *item_of(json_t *prefix, json_t *rest, size_t i)
{
    json_t *own = json_array_get(prefix, i);
    return own ? own : rest ? rest : json_true();
}

/* An item is under what both say of its place. */
static void merge_items(struct schema *s, json_t *out, json_t *a, json_t *b)
{
    json_t *rest_a, *rest_b, *first_a = items_of(a, &rest_a), *first_b = items_of(b, &rest_b);
    size_t n_a = json_array_size(first_a), n_b = json_array_size(first_b), n = n_a > n_b ? n_a : n_b;
    json_object_del(out, "items");
    json_object_del(out, "prefixItems");
    json_object_del(out, "additionalItems");
    if (rest_a || rest_b)
        json_object_set_new(out, "items", both_weighed(s, item_of(NULL, rest_a, 0), item_of(NULL, rest_b, 0)));
    if (!first_a && !first_b)
        return;
    json_t *first = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(first, both_weighed(s, item_of(first_a, rest_a, i), item_of(first_b, rest_b, i)));
    json_object_set_new(out, "prefixItems", first);
}

static bool is_of_items(const char *key)
{
    return strcmp(key, "items") == 0 || strcmp(key, "prefixItems") == 0 || strcmp(key, "additionalItems") == 0;
}

static int merge_key(struct schema *s, json_t *out, const char *key, json_t *a, json_t *b)
{
    size_t i = 0;
    while (i < COUNTOF(merges) && strcmp(merges[i].key, key) != 0)
        i++;
    if (i == COUNTOF(merges)) /* a note, or refused later */
        return 0;
    if (!spend(s, weight(a, SCHEMA_WORK_MAX)) || !spend_pairs(s, a, b))
        return schema_step(s);
    if (json_equal(a, b))
        return 0;
    if (!merges[i].merge && strcmp(key, "nullable") == 0)
        return json_object_set_new(out, key, json_boolean(json_is_true(a) && json_is_true(b)));
    if (!merges[i].merge)
        return schema_fail(s, ERR_UNSUPPORTED, "two different \"%s\" for one value are not supported", key);
    json_t *merged = merges[i].merge(a, b);
    if (!merged)
        return 1;
    json_object_set_new(out, key, merged);
    return 0;
}

/* Members of a schema and of what is merged member by member. */
static size_t members(json_t *schema)
{
    json_t *rest;
    return json_object_size(schema) + json_object_size(json_object_get(schema, "properties")) +
           json_array_size(items_of(schema, &rest));
}

static int merge_objects(struct schema *s, json_t *a, json_t *b, json_t **out)
{
    if (!spend(s, members(a) + members(b)))
        return schema_step(s);
    json_t *merged = schema_made(s, json_copy(a));
    const char *key;
    json_t *value;
    *out = merged;
    json_object_foreach(b, key, value) {
        json_t *mine = json_object_get(a, key);
        int status = 0;
        if (strcmp(key, "properties") == 0 || is_of_items(key))
            continue;
        if (mine)
            status = merge_key(s, merged, key, mine, value);
        else
            json_object_set(merged, key, value);
        if (status > 0)
            *out = json_false();
        if (status != 0)
            return status > 0 ? 0 : status;
    }
    if (json_object_get(b, "items") || json_object_get(b, "prefixItems"))
        merge_items(s, merged, a, b);
    if (json_object_get(a, "properties") || json_object_get(b, "properties")) {
        json_t *properties = json_object();
        merge_properties_of(s, properties, a, b);
        merge_properties_of(s, properties, b, a);
        json_object_set_new(merged, "properties", properties);
    }
    return 0;
}

int schema_merge(struct schema *s, json_t *a, json_t *b, json_t **out)
{
    int status = schema_resolve(s, a, &a);
    if (status == 0)
        status = schema_resolve(s, b, &b);
    if (status != 0)
        return status;
    *out = json_is_false(a) || json_is_true(b) ? a : b;
    if (json_is_boolean(a) || json_is_boolean(b))
        return 0;
    if (!json_is_object(a) || !json_is_object(b))
        return schema_fail(s, ERR_INVALID, "a schema must be an object, true or false");
    return merge_objects(s, a, b, out);
}

/* ---- apart ---- */

static json_t *values_of(json_t *schema)
{
    json_t *one = json_object_get(schema, "const");
    return one ? json_pack("[O]", one) : json_incref(json_object_get(schema, "enum"));
}

/* No constant of one is a constant of the other. False where one has none. */
static bool constants_apart(struct schema *s, json_t *a, json_t *b)
{
    json_t *left = values_of(a), *right = values_of(b);
    bool apart = left && right && spend_pairs(s, left, right);
    if (apart) {
        json_t *shared = common(left, right);
        apart = json_array_size(shared) == 0;
        json_decref(shared);
    }
    json_decref(left);
    json_decref(right);
    return apart;
}

/* The schema of a property: `absent` where it is not declared and nothing is said of others. */
static json_t *property_of(json_t *schema, const char *name, json_t *absent)
{
    json_t *declared = json_object_get(json_object_get(schema, "properties"), name);
    if (declared)
        return declared;
    json_t *other = json_object_get(schema, "additionalProperties");
    return other ? other : absent;
}

/* A property that must be there cannot be, or is apart itself. Values of `a` have no undeclared properties. */
static bool property_apart(struct schema *s, json_t *a, json_t *b, const char *name, int levels)
{
    json_t *mine = property_of(a, name, json_false()), *theirs = property_of(b, name, json_true());
    return json_is_false(mine) || json_is_false(theirs) || schema_apart(s, mine, theirs, levels - 1);
}

static bool objects_apart(struct schema *s, json_t *a, json_t *b, int levels)
{
    json_t *lists[2] = {json_object_get(a, "required"), json_object_get(b, "required")};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < json_array_size(lists[k]); i++) {
            const char *name = json_string_value(json_array_get(lists[k], i));
            if (name && property_apart(s, a, b, name, levels))
                return true;
        }
    }
    return false;
}

static unsigned types_of(struct schema *s, json_t *schema)
{
    json_t *values = values_of(schema);
    unsigned types = 0;
    s->work += json_array_size(values);
    for (size_t i = 0; i < json_array_size(values); i++)
        types |= schema_type_of(json_array_get(values, i));
    bool any = !values;
    json_decref(values);
    return any ? schema_types(s, schema) : types & TYPE_NUMBER ? types | TYPE_INTEGER : types;
}

bool schema_apart(struct schema *s, json_t *a, json_t *b, int levels)
{
    if (schema_step(s) != 0 || levels == 0 || schema_resolve(s, a, &a) != 0 || schema_resolve(s, b, &b) != 0)
        return false;
    if (json_is_false(a) || json_is_false(b))
        return true;
    if (!json_is_object(a) || !json_is_object(b))
        return false;
    /* Without a type a schema is valid for all others, whatever its rules make. */
    unsigned left = types_of(s, a), right = types_of(s, b);
    bool typed = json_object_get(b, "type") || json_object_get(b, "enum") || json_object_get(b, "const");
    if (typed && left && right && !(left & right))
        return true;
    return constants_apart(s, a, b) ||
           (typed && (left & right) == TYPE_OBJECT && objects_apart(s, a, b, levels));
}
