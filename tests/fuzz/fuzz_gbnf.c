/* fuzz_gbnf: GBNF grammars, from their text to masks. */
#include <string.h>

#include "tests/fuzz/follow.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct grammar *g;
    struct error e = {0};
    if (grammar_gbnf(&g, follow_trie(), (const char *)data, size, &e) == 0)
        follow(g, data, size);
    else
        FUZZ_CHECK(e.status != 0 && e.text[0] != '\0');
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const texts[] = {
        "root ::= \"a\" | \"b\" \"c\"* # one\n",
        "root ::= expr \"=\" [0-9]{1,3}\nexpr ::= term ([-+*/] term)*\n"
        "term ::= [1-9] [0-9]* | \"(\" expr \")\"\n",
        "root ::= (\"a\"? \"b\"?){2,30} \"\\u00e9\\x41\\n\" [^\\x00-\\x1F\"\\\\]{3,} .\n",
        "root ::= object\nobject ::= \"{\" (pair (\",\" pair)*)? \"}\"\npair ::= string \":\" value\n"
        "string ::= \"\\\"\" [^\"]* \"\\\"\"\n"
        "value ::= object | string | [0-9]+ | \"[\" (value (\",\" value)*)? \"]\"\n",
        "root ::= x{100000}\nx ::= y | \"aa\" x?\ny ::= (\"a\" | \"ab\" | \"abc\")+\n",
        "root ::= a\na ::= b \"x\" |\n  \"y\"\nb ::= \"\" | a\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        give(arg, texts[i], strlen(texts[i]));
}
