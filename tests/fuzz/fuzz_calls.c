/* fuzz_calls: tools of any schema, in every style of calls. Only a strict one can be refused, but for its size. */
#include <string.h>

#include "tests/fuzz/follow.h"
#include "tests/fuzz/fuzz.h"
#include "text/reply/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"hermes", "mistral", "llama3", "kimi-k2", "harmony", "glm-4.5",
                                          "deepseek-v4"};
    json_t *schema = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
    if (!schema)
        return 0;
    bool strict = size & 1;
    json_t *tools = json_pack("[{s:{s:s, s:o, s:b}}, {s:{s:s}}]", "function", "name", "f", "parameters", schema,
                              "strict", strict, "function", "name", "g");
    for (size_t i = 0; i < COUNTOF(formats); i++) {
        struct grammar_calls c = {.format = reply_format_named(formats[i]), .tools = tools, .begun = size & 2,
                                  .many = size & 4};
        struct grammar *g;
        struct error e = {0};
        int status = grammar_calls(&g, follow_trie(), &c, &e);
        FUZZ_CHECK(status == 0 || (e.text[0] != '\0' && (strict || e.status == ERR_LIMIT)));
        if (status == 0)
            follow(g, data, size);
    }
    json_decref(tools);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const texts[] = {
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":[\"string\",\"null\"]},"
        "\"c\":{\"enum\":[\"x\",\"y\"]},\"d\":{\"type\":\"string\"}},\"required\":[\"a\",\"d\"]}",
        "{\"$defs\":{\"t\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"}}},\"properties\":{\"a\":{\"$ref\":"
        "\"#/$defs/t\"},\"<\":{\"const\":\"</arg_value>\",\"type\":\"string\"}}}",
        "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"p\":{\"not\":{}}}},{\"$ref\":\"#\"}]}",
        "{\"properties\":7,\"required\":{\"a\":1}}",
        "{\"type\":\"string\"}",
        "[{\"type\":\"null\"}]",
    };
    for (size_t i = 0; i < COUNTOF(texts); i++)
        give(arg, texts[i], strlen(texts[i]));
}
