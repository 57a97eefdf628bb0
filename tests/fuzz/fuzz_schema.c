/* fuzz_schema: JSON schemas. An answer by one is JSON. */
#include <string.h>

#include "tests/fuzz/follow.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct grammar *g;
    struct error e = {0};
    json_t *schema = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
    if (!schema)
        return 0;
    if (grammar_schema(&g, follow_trie(), schema, &e) == 0)
        follow(g, data, size);
    else
        FUZZ_CHECK(e.status != 0 && e.text[0] != '\0');
    json_decref(schema);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const texts[] = {
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":-3,\"maximum\":120},\"b\":"
        "{\"type\":[\"string\",\"null\"],\"maxLength\":5}},\"required\":[\"a\"],\"additionalProperties\":false}",
        "{\"$defs\":{\"t\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"},\"maxItems\":3}},"
        "\"$ref\":\"#/$defs/t\"}",
        "{\"anyOf\":[{\"enum\":[\"x\",1.5,null,{\"k\":[]}]},{\"type\":\"number\",\"exclusiveMinimum\":0.25}],"
        "\"title\":\"t\"}",
        "{\"allOf\":[{\"properties\":{\"p\":{\"minLength\":2}}},{\"type\":\"object\",\"required\":[\"p\"],"
        "\"additionalProperties\":{\"type\":\"string\"},\"minProperties\":1}]}",
        "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":1}},\"required\":[\"t\"]},"
        "{\"type\":\"string\",\"format\":\"date-time\"},{\"type\":\"integer\",\"multipleOf\":7}]}",
        "{\"prefixItems\":[{\"type\":\"boolean\"},{\"pattern\":\"^a+$\"}],\"items\":false,\"minItems\":1}",
        "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"null\"},\"maxProperties\":2,\"nullable\":true}",
    };
    for (size_t i = 0; i < COUNTOF(texts); i++)
        give(arg, texts[i], strlen(texts[i]));
}
