/* fuzz_regex: regular expressions, alone and as the pattern of a schema. */
#include <string.h>

#include "tests/fuzz/follow.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct grammar *g;
    struct error e = {0};
    if (grammar_regex(&g, follow_trie(), (const char *)data, size, &e) == 0)
        follow(g, data, size);
    else
        FUZZ_CHECK(e.status != 0 && e.text[0] != '\0');
    json_t *pattern = json_stringn((const char *)data, size); /* NULL: no UTF-8 */
    json_t *schema = pattern ? json_pack("{s:s, s:o}", "type", "string", "pattern", pattern) : NULL;
    if (schema && grammar_schema(&g, follow_trie(), schema, NULL) == 0)
        follow(g, data, size);
    json_decref(schema);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const texts[] = {
        "^(?:a|bc)*d+?$", "\\d{3}-\\w{2,}\\s?[^a-f\\]\\-]", "(ab?){0,20}|(?<n>x|y)*\\u00e9\\x41\\/", "a{,3}{2}",
        "[\\w.-]+@[a-z]{2,9}(\\.[a-z]+)*", "^\"\\\\[\\s\\S]*\\n$", "((a*)*b*)*c{1,100000}", "(?=x)|\\b|\\1|\\p{L}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        give(arg, texts[i], strlen(texts[i]));
}
