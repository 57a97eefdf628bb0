/* test_schema: which texts the rules of a JSON schema take, and which schemas are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "text/grammar/grammar.h"

static struct token_trie *trie;

/* Texts are matched byte by byte here: two tokens will do. */
static int open_trie(void **state)
{
    static const uint32_t starts[] = {0, 1, 2};
    (void)state;
    trie = token_trie_from("ab", starts, 2, NULL, 0);
    return 0;
}

static int close_trie(void **state)
{
    (void)state;
    token_trie_drop(&trie);
    return 0;
}

static int compile(const char *text, struct grammar **g, struct error *e)
{
    json_error_t why;
    json_t *schema = json_loads(text, JSON_DECODE_ANY, &why);
    if (!schema)
        fail_msg("%s: %s", text, why.text);
    int r = grammar_schema(g, trie, schema, e);
    json_decref(schema);
    return r;
}

static bool takes(struct grammar *g, const char *text)
{
    struct matcher *m = matcher_create(g);
    bool whole = matcher_accept_text(m, text, strlen(text), NULL) == 0 && matcher_may_end(m);
    matcher_destroy(&m);
    return whole;
}

#define OBJECT                                                                                                         \
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"},"                  \
    "\"c\":{\"type\":\"null\"}},\"required\":[\"b\"],\"additionalProperties\":false}"
#define MAP                                                                                                            \
    "{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"null\"}},"                                                \
    "\"additionalProperties\":{\"type\":\"integer\"}}"
#define TREE                                                                                                           \
    "{\"$defs\":{\"n/1\":{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"array\",\"items\":"                    \
    "{\"$ref\":\"#/$defs/n~11\"}}},\"required\":[\"k\"],\"additionalProperties\":false}},\"$ref\":\"#/$defs/n~11\"}"
#define MERGED                                                                                                         \
    "{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":3}},\"required\":[\"a\"]},"                  \
    "{\"type\":\"object\",\"properties\":{\"a\":{\"maximum\":5}}}]}"
#define TAGGED                                                                                                         \
    "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"x\"}},\"required\":[\"t\"]},"                 \
    "{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"y\"},\"n\":{\"type\":\"integer\"}},"                      \
    "\"required\":[\"t\",\"n\"]}]}"
#define TUPLE                                                                                                          \
    "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"null\"}],"                                \
    "\"items\":false,\"minItems\":1}"
#define BESIDE                                                                                                         \
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"],\"anyOf\":"               \
    "[{\"properties\":{\"b\":{\"const\":1}},\"required\":[\"b\"]},{\"properties\":{\"c\":{\"const\":2}}}]}"

#define PREFIXED "{\"allOf\":[{\"prefixItems\":[{\"minimum\":3}]}],\"items\":{\"minimum\":5}}"

static const struct {
    const char *schema, *text;
    bool takes;
} cases[] = {
    {PREFIXED, "[5,6]", true},
    {PREFIXED, "[3,5]", false},
    {"{}", "[1, {\"x\": \"y\"}]", true},
    {"true", "\"x\"", true},
    {"{\"type\":\"object\"}", "{\"x\":{}}", true},
    {"{\"type\":\"string\"}", "\"p\xC3\xA4th \\u00e4 \\\"\"", true},
    {"{\"type\":\"string\"}", "\"\\x\"", false},
    {"{\"type\":[\"string\",\"null\"]}", "null", true},
    {"{\"type\":\"string\",\"nullable\":true}", "null", true},
    {"{\"type\":\"boolean\"}", "false", true},
    {"{\"enum\":[\"a\\\"\",1,null,[2,{}]]}", "\"a\\\"\"", true},
    {"{\"enum\":[\"a\\\"\",1,null,[2,{}]]}", "[2,{}]", true},
    {"{\"enum\":[\"a\",1,null],\"type\":\"integer\"}", "\"a\"", false},
    {"{\"const\":{\"k\":[1.5]}}", "{\"k\":[1.5]}", true},

    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"\xE4\xBD\xA0\\u00e4\"", true},
    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"a\"", false},
    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"abcd\"", false},
    {"{\"type\":\"string\",\"pattern\":\"^a+\\\\d$\"}", "\"aa1\"", true},
    {"{\"type\":\"string\",\"pattern\":\"^a+\\\\d$\"}", "\"xaa1\"", false},
    {"{\"type\":\"string\",\"pattern\":\"b\"}", "\"abc \\n\"", true},
    {"{\"type\":\"string\",\"pattern\":\"b\"}", "\"ac\"", false},
    {"{\"type\":\"string\",\"pattern\":\"^\\\"\\\\\\\\$\"}", "\"\\\"\\\\\"", true},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2024-02-28\"", true},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2024-02-30\"", false},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2024-04-31\"", false},
    {"{\"type\":\"string\",\"format\":\"date-time\"}", "\"2024-12-31T23:59:59.5+02:00\"", true},
    {"{\"type\":\"string\",\"format\":\"uuid\"}", "\"123e4567-e89b-12d3-a456-426614174000\"", true},
    {"{\"type\":\"string\",\"format\":\"ipv4\"}", "\"255.0.10.199\"", true},
    {"{\"type\":\"string\",\"format\":\"ipv4\"}", "\"256.0.10.199\"", false},
    {"{\"type\":\"string\",\"format\":\"email\"}", "\"a.b@c.de\"", true},
    {"{\"type\":\"string\",\"format\":\"uri\",\"minLength\":1,\"maxLength\":2083}", "\"https://a.b/c?d=e\"", true},
    {"{\"type\":\"string\",\"format\":\"uuid\",\"pattern\":\"^[0-9a-f]{4}$\"}", "\"12ab\"", true},
    {"{\"type\":\"string\",\"format\":\"uuid\",\"pattern\":\"^[0-9a-f]{4}$\"}", "\"12xy\"", false},
    {"{\"type\":\"string\",\"format\":\"email\",\"pattern\":\"^(?!\\\\.)(?!.*\\\\.\\\\.)([A-Za-z0-9_'+\\\\-\\\\.]*)"
     "[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\\\-]*\\\\.)+[A-Za-z]{2,}$\"}", "\"a.b@c.de\"", true},
    {"{\"type\":\"string\",\"format\":\"email\"}", "\"a.b@c.d\"", false},
    {"{\"type\":\"string\",\"format\":\"binary\",\"maxLength\":3}", "\"abc\"", true},
    {"{\"type\":\"string\",\"format\":\"binary\",\"maxLength\":3}", "\"abcd\"", false},
    {"{\"type\":\"object\",\"propertyNames\":{\"type\":\"string\"},\"additionalProperties\":{\"type\":\"null\"}}",
     "{\"a\":null}", true},

    {"{\"type\":\"integer\"}", "-120", true},
    {"{\"type\":\"integer\"}", "1.0", false},
    {"{\"type\":\"integer\",\"minimum\":-3,\"maximum\":12}", "-3", true},
    {"{\"type\":\"integer\",\"minimum\":-3,\"maximum\":12}", "-4", false},
    {"{\"type\":\"integer\",\"minimum\":-3,\"maximum\":12}", "12", true},
    {"{\"type\":\"integer\",\"minimum\":-3,\"maximum\":12}", "13", false},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":99,\"exclusiveMaximum\":1001}", "100", true},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":99,\"exclusiveMaximum\":1001}", "99", false},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":99,\"exclusiveMaximum\":1001}", "1000", true},
    {"{\"type\":\"integer\",\"minimum\":0.5,\"maximum\":2.5}", "1", true},
    {"{\"type\":\"integer\",\"minimum\":0.5,\"maximum\":2.5}", "0", false},
    {"{\"type\":\"integer\",\"minimum\":5,\"exclusiveMinimum\":true}", "5", false},
    /* of Zod's int(), which is of JavaScript */
    {"{\"type\":\"integer\",\"minimum\":-9007199254740991,\"maximum\":9007199254740991}", "-999999999999999", true},
    {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":9007199254740991}", "4", false},
    {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":9007199254740991}", "999999999999999", true},
    {"{\"type\":\"number\",\"maximum\":9007199254740991}", "1e20", false},
    {"{\"type\":\"number\",\"maximum\":9007199254740991}", "-3.5", true},
    {"{\"type\":\"number\",\"exclusiveMinimum\":-1e300}", "12.25", true},
    {"{\"type\":\"integer\",\"multipleOf\":7,\"maximum\":9007199254740991}", "14", true},
    {"{\"type\":\"integer\",\"multipleOf\":7}", "-49", true},
    {"{\"type\":\"integer\",\"multipleOf\":7}", "50", false},
    {"{\"type\":\"integer\",\"multipleOf\":5,\"minimum\":0}", "0", true},
    {"{\"type\":\"integer\",\"multipleOf\":5,\"minimum\":1}", "0", false},
    {"{\"type\":\"integer\",\"multipleOf\":250,\"minimum\":-600,\"maximum\":1000}", "-500", true},
    {"{\"type\":\"number\",\"multipleOf\":0.5,\"minimum\":-1,\"maximum\":5}", "4.5", true},
    {"{\"type\":\"number\",\"multipleOf\":0.5,\"minimum\":-1,\"maximum\":5}", "-1.0", true},
    {"{\"type\":\"number\",\"multipleOf\":0.5,\"minimum\":-1,\"maximum\":5}", "5.5", false},
    {"{\"type\":\"number\",\"multipleOf\":0.5,\"minimum\":-1,\"maximum\":5}", "4.25", false},
    {"{\"type\":\"number\",\"multipleOf\":0.01,\"minimum\":0,\"exclusiveMaximum\":1}", "0.25", true},
    {"{\"type\":\"number\",\"multipleOf\":0.01,\"minimum\":0,\"exclusiveMaximum\":1}", "0.07", false},
    {"{\"type\":\"number\",\"multipleOf\":0.01,\"minimum\":0,\"exclusiveMaximum\":1}", "1.00", false},
    {"{\"type\":\"number\"}", "-0.5e-7", true},
    {"{\"type\":\"number\",\"minimum\":-1.25,\"maximum\":3.5}", "-1.25", true},
    {"{\"type\":\"number\",\"minimum\":-1.25,\"maximum\":3.5}", "-1.251", false},
    {"{\"type\":\"number\",\"minimum\":-1.25,\"maximum\":3.5}", "3.5", true},
    {"{\"type\":\"number\",\"minimum\":-1.25,\"maximum\":3.5}", "3.51", false},
    {"{\"type\":\"number\",\"minimum\":-1.25,\"maximum\":3.5}", "3.499", true},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":1}", "0", false},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":1}", "0.001", true},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":1}", "1.0", true},
    {"{\"type\":\"number\",\"exclusiveMinimum\":2.25,\"exclusiveMaximum\":2.5}", "2.3", true},
    {"{\"type\":\"number\",\"exclusiveMinimum\":2.25,\"exclusiveMaximum\":2.5}", "2.25", false},
    {"{\"type\":\"number\",\"exclusiveMinimum\":2.25,\"exclusiveMaximum\":2.5}", "2.5", false},

    {OBJECT, "{\"a\":1,\"b\":true,\"c\":null}", true},
    {OBJECT, "{\"b\":true}", true},
    {OBJECT, "{\n  \"b\": true,\n  \"c\": null\n}", true},
    {OBJECT, "{\"a\":1}", false},
    {OBJECT, "{\"b\":true,\"d\":1}", false},
    {OBJECT, "{}", false},
    {MAP, "{}", true},
    {MAP, "{\"ab\":null,\"abc\":1,\"a\":2,\"\":3,\"b\":4}", true},
    {MAP, "{\"x\":1}", true},
    {MAP, "{\"ab\":1}", false},
    {MAP, "{\"x\":1,\"ab\":null}", false},
    {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"null\"},\"minProperties\":1,\"maxProperties\":2}",
     "{\"x\":null,\"y\":null}", true},
    {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"null\"},\"minProperties\":1,\"maxProperties\":2}",
     "{}", false},
    {"{\"type\":\"object\",\"required\":[\"q\"]}", "{\"q\":[1]}", true},
    {"{\"type\":\"object\",\"properties\":{\"a\":false}}", "{}", true},

    {TREE, "{\"k\":[{\"k\":[]},{\"k\":[{\"k\":[]}]}]}", true},
    {TREE, "{\"k\":[{}]}", false},
    {MERGED, "{\"a\":4}", true},
    {MERGED, "{\"a\":6}", false},
    {MERGED, "{\"a\":2}", false},
    {TAGGED, "{\"t\":\"y\",\"n\":1}", true},
    {TAGGED, "{\"t\":\"x\",\"n\":1}", false},
    {BESIDE, "{\"a\":1,\"b\":1}", true},
    {BESIDE, "{\"a\":1,\"c\":2}", true},
    {BESIDE, "{\"b\":1}", false},

    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}", "[]", true},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}", "[1, 2,3]", true},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":3}", "[1]", false},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":3}", "[1,2,3]", true},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":3}", "[1,2,3,4]", false},
    {TUPLE, "[1]", true},
    {TUPLE, "[1,null]", true},
    {TUPLE, "[1,null,2]", false},
    {TUPLE, "[]", false},
    {"{\"type\":\"array\",\"maxItems\":0}", "[]", true},
    {"{\"items\":[{\"type\":\"null\"}],\"additionalItems\":{\"type\":\"integer\"}}", "[null,1,2]", true},
};

static void test_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct grammar *g = NULL;
        struct error e = {0};
        if (compile(cases[i].schema, &g, &e) != 0)
            fail_msg("%s: %s", cases[i].schema, e.text);
        if (takes(g, cases[i].text) != cases[i].takes)
            fail_msg("%s: %s should%s be taken", cases[i].schema, cases[i].text, cases[i].takes ? "" : " not");
        grammar_drop(&g);
    }
}

static const struct {
    const char *schema, *says;
} refusals[] = {
    {"false", "no text can ever"},
    {"[]", "must be an object, true or false"},
    {"{\"type\":\"strin\"}", "\"strin\", which is none"},
    {"{\"type\":[]}", "empty list"},
    {"{\"maxLenght\":3}", "keyword \"maxLenght\" is not known"},
    {"{\"not\":{}}", "keyword \"not\" is not supported"},
    {"{\"if\":{}}", "keyword \"if\" is not supported"},
    {"{\"patternProperties\":{}}", "keyword \"patternProperties\" is not supported"},
    {"{\"properties\":{\"tags\":{\"uniqueItems\":true}}}", "property \"tags\": the keyword \"uniqueItems\""},
    {"{\"$ref\":\"other.json\"}", "does not point into this schema"},
    {"{\"$ref\":\"#/$defs/x\"}", "points to no schema"},
    {"{\"$ref\":\"#\"}", "begins with itself"},
    {"{\"allOf\":[{\"$ref\":\"#\"}]}", "refers to itself without end"},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", "no text can ever"},
    {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", "\"pattern\": regular expression: lookaround"},
    {"{\"type\":\"string\",\"format\":\"color\"}", "format \"color\" is not supported"},
    {"{\"type\":\"string\",\"pattern\":\"a\",\"maxLength\":3}", "only one of"},
    {"{\"type\":\"string\",\"pattern\":\"(?!a)b\",\"format\":\"email\"}", "lookaround"},
    {"{\"type\":\"string\",\"format\":\"uri\",\"maxLength\":100}", "only one of"},
    {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "less than \"minLength\""},
    {"{\"type\":\"string\",\"minLength\":-1}", "whole number, at least 0"},
    {"{\"type\":\"string\",\"maxLength\":1e300}", "larger than"},
    {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", "no text can ever"},
    {"{\"type\":\"integer\",\"minimum\":\"3\"}", "\"minimum\" must be a number"},
    {"{\"type\":\"number\",\"minimum\":1e300}", "\"minimum\" has more digits"},
    {"{\"type\":\"number\",\"maximum\":999999999999999.5}", "\"maximum\" has more digits"},
    {"{\"type\":\"integer\",\"maximum\":-9007199254740991}", "\"maximum\" has more digits"},
    {"{\"propertyNames\":{\"pattern\":\"a\"}}", "keyword \"propertyNames\" is not supported"},
    {"{\"propertyNames\":{\"type\":\"string\",\"maxLength\":3}}", "keyword \"propertyNames\" is not supported"},
    {"{\"type\":\"number\",\"multipleOf\":0.01}", "\"multipleOf\" 0.01 is not supported"},
    {"{\"type\":\"integer\",\"multipleOf\":0.01}", "\"multipleOf\" 0.01 of integers"},
    {"{\"type\":\"number\",\"multipleOf\":0}", "greater than 0"},
    {"{\"type\":\"integer\",\"multipleOf\":1001}", "so many multiples"},
    {"{\"enum\":[]}", "no text can ever"},
    {"{\"enum\":[1,2],\"minimum\":2}", "\"minimum\" beside \"enum\""},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "branches 0 and 1"},
    {"{\"oneOf\":[{\"type\":\"object\"},{\"type\":\"object\",\"required\":[]}]}", "use \"anyOf\""},
    {"{\"anyOf\":[]}", "\"anyOf\" must be a list"},
    {"{\"allOf\":[{\"type\":\"string\",\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", "two different \"pattern\""},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"maxProperties\":2}",
     "\"maxProperties\" beside"},
    {"{\"type\":\"object\",\"minProperties\":3}", "\"minProperties\" of more"},
    {"{\"type\":\"object\",\"properties\":3}", "\"properties\" must be an object"},
    {"{\"type\":\"object\",\"required\":[1]}", "list of strings"},
    {"{\"type\":\"array\",\"minItems\":3,\"maxItems\":1}", "less than \"minItems\""},
    {"{\"type\":\"array\",\"items\":false,\"minItems\":1}", "no text can ever"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(refusals); i++) {
        struct grammar *g = NULL;
        struct error e = {0};
        int r = compile(refusals[i].schema, &g, &e);
        if (r == 0 || !strstr(e.text, refusals[i].says))
            fail_msg("%s: status %d says \"%s\", not \"%s\"", refusals[i].schema, r, e.text, refusals[i].says);
    }
}

/* Whatever it is, it ends soon: with a grammar or with a sentence. */
static void test_hostile_schemas(void **state)
{
    (void)state;
    struct buffer b;
    buffer_init(&b, 64 << 20);
    static const struct {
        const char *first, *again, *last;
        int times;
    } hostile[] = {
        {"", "{\"items\":", "{}", 1000},
        {"{\"enum\":[", "\"some text that is the same\",", "1]}", 60000},
        {"{\"allOf\":[", "{\"anyOf\":[{\"minimum\":1},{\"minimum\":2},{\"type\":\"null\"}]},", "{}]}", 12},
        {"{\"allOf\":[", "{\"type\":\"object\"},", "{}]}", 50000},
        {"{\"oneOf\":[", "{\"type\":\"object\"},", "{}]}", 900},
        {"{\"type\":\"object\",\"required\":[", "\"x\",", "\"y\"]}", 100000},
        {"{\"type\":\"array\",\"prefixItems\":[", "{},", "{}]}", 100000},
        {"{\"type\":\"string\",\"pattern\":\"", "(a{0,1000}b?)", "\"}", 5000},
    };
    for (size_t i = 0; i < COUNTOF(hostile); i++) {
        struct grammar *g = NULL;
        struct error e = {0};
        buffer_clear(&b);
        buffer_add_text(&b, hostile[i].first);
        for (int k = 0; k < hostile[i].times; k++)
            buffer_add_text(&b, hostile[i].again);
        buffer_add_text(&b, hostile[i].last);
        for (int k = 0; i == 0 && k < hostile[i].times; k++)
            buffer_add_text(&b, "}");
        if (compile(buffer_text(&b), &g, &e) != 0)
            assert_true(e.text[0] != '\0');
        grammar_drop(&g);
    }
    buffer_close(&b);
}

static void add_times(struct buffer *b, const char *text, int times)
{
    for (int i = 0; i < times; i++)
        buffer_add_text(b, text);
}

static void check_too_large(struct buffer *b)
{
    struct grammar *g = NULL;
    struct error e = {0};
    assert_false(buffer_failed(b));
    assert_int_equal(compile(buffer_text(b), &g, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "too large"));
    buffer_clear(b);
}

/* Each of these is small and took minutes or gigabytes once. */
static void test_work_is_bounded(void **state)
{
    (void)state;
    static const char branch[] = "{\"type\":\"object\",\"required\":[\"x\"";
    struct buffer b;
    buffer_init(&b, 8 << 20);
    buffer_add_text(&b, "{\"oneOf\":["); /* objects within objects, held against each other by every name */
    for (int k = 0; k < 2; k++) {
        for (int depth = 0; depth < 6; depth++) {
            buffer_add_text(&b, branch);
            add_times(&b, ",\"x\"", 200);
            buffer_add_text(&b, "],\"properties\":{\"x\":");
        }
        buffer_add_text(&b, "{}");
        add_times(&b, "}}", 6);
        buffer_add_text(&b, k == 0 ? "," : "]}");
    }
    check_too_large(&b);
    buffer_add_text(&b, "{\"$defs\":{\"a\":{\"properties\":{");
    for (int i = 0; i < 5000; i++) {
        char *one = mem_printf("\"%d\":{},", i);
        buffer_add_text(&b, one);
        mem_free(one);
    }
    buffer_add_text(&b, "\"z\":{}}}},\"allOf\":[");
    add_times(&b, "{\"$ref\":\"#/$defs/a\"},", 3000);
    buffer_add_text(&b, "{}]}");
    check_too_large(&b);
    buffer_add_text(&b, "{\"$defs\":{\"a\":{\"type\":\"string\",\"pattern\":\"");
    add_times(&b, "ab", 100000);
    buffer_add_text(&b, "\"}},\"anyOf\":[");
    add_times(&b, "{\"$ref\":\"#/$defs/a\",\"nullable\":true},", 300);
    buffer_add_text(&b, "{}]}");
    check_too_large(&b);
    buffer_add_text(&b, "{\"type\":\"string\",\"pattern\":\"");
    add_times(&b, "ab", GRAMMAR_SOURCE_MAX / 2 + 1);
    buffer_add_text(&b, "\"}");
    struct grammar *g = NULL;
    assert_int_equal(compile(buffer_text(&b), &g, NULL), ERR_LIMIT);
    buffer_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_hostile_schemas),
        cmocka_unit_test(test_work_is_bounded),
    };
    return cmocka_run_group_tests(tests, open_trie, close_trie);
}
