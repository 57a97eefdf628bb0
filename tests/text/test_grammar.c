/* test_grammar: which texts grammars take, which tokens a mask allows, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/memory.h"
#include "base/random.h"
#include "text/grammar/grammar.h"

#define DEMO "tests/data/shoal-demo-q8_0.gguf"

enum { ROUNDS = 12, STEPS_MAX = 40 };

static struct token_trie *trie, *less; /* less: without the last token */

static int open_trie(void **state)
{
    (void)state;
    struct gguf *g;
    struct tokenizer *t;
    if (gguf_open(&g, DEMO, NULL) != 0)
        return -1;
    int r = tokenizer_open(&t, g, NULL);
    gguf_close(&g);
    if (r != 0)
        return -1;
    trie = token_trie_create(t, UINT32_MAX);
    less = token_trie_create(t, tokenizer_count(t) - 1);
    tokenizer_close(&t);
    return 0;
}

static int close_trie(void **state)
{
    (void)state;
    token_trie_drop(&trie);
    token_trie_drop(&less);
    return 0;
}

enum source { GBNF, REGEX, CHOICE, JSON };

static int compile(enum source kind, const char *source, struct grammar **g, struct error *e)
{
    const char *texts[] = {"yes", "no", "yes, please", "n\xC3\xB6", ""};
    *g = NULL;
    switch (kind) {
    case GBNF: return grammar_gbnf(g, trie, source, strlen(source), e);
    case REGEX: return grammar_regex(g, trie, source, strlen(source), e);
    case CHOICE: return grammar_choice(g, trie, texts, COUNTOF(texts), e);
    default: return grammar_json(g, trie, e);
    }
}

static struct grammar *open_grammar(enum source kind, const char *source)
{
    struct grammar *g;
    struct error e = {0};
    if (compile(kind, source, &g, &e) != 0)
        fail_msg("%s: %s", source, e.text);
    return g;
}

/* Is the text whole, by the grammar? */
static bool takes(struct grammar *g, const char *text, size_t n)
{
    struct matcher *m = matcher_create(g);
    bool whole = matcher_accept_text(m, text, n, NULL) == 0 && matcher_may_end(m);
    matcher_destroy(&m);
    return whole;
}

#define ARITHMETIC                                                                                                     \
    "root ::= expr \"=\" number\n"                                                                                     \
    "expr ::= term ([-+] term)* # sums\n"                                                                              \
    "term ::= number\n  | \"(\" expr \")\"\n"                                                                          \
    "number ::= [1-9] [0-9]{0,3}\n"
#define LIST "root ::= item (\", \" item){1,3}\nitem ::= [^\\x00-\\x7F,]+ | \"x\"{2}"
#define EMPTY_TURNS "root ::= (\"a\"? \"b\"?){2,3} \"c\""
#define DEEP "root ::= \"[\" root? \"]\""
#define UTF "root ::= \"\\u00e9\\x21\\U0001F999\" [\xC3\xA0-\xC3\xBF] . \"\\\\\\\"\\n\""

static const struct {
    enum source kind;
    const char *source, *text;
    bool takes;
} cases[] = {
    {GBNF, "root ::= \"a\"", "a", true},
    {GBNF, "root ::= \"a\"", "", false},
    {GBNF, "root ::= \"a\"", "aa", false},
    {GBNF, "root ::= \"\"", "", true},
    {GBNF, "root ::= \"a\" | \"b\" \"c\"*", "bccc", true},
    {GBNF, "root ::= \"a\" | \"b\" \"c\"*", "ac", false},
    {GBNF, ARITHMETIC, "1=1", true},
    {GBNF, ARITHMETIC, "(12+(3-4))-5=1000", true},
    {GBNF, ARITHMETIC, "(12+(3-4)-5=1000", false},
    {GBNF, ARITHMETIC, "1+1=10000", false},
    {GBNF, ARITHMETIC, "01=1", false},
    {GBNF, LIST, "\xC3\xA9\xE4\xBD\xA0, xx", true},
    {GBNF, LIST, "xx", false},
    {GBNF, LIST, "xx, xx, xx, xx", true},
    {GBNF, LIST, "xx, xx, xx, xx, xx", false},
    {GBNF, EMPTY_TURNS, "c", true},
    {GBNF, EMPTY_TURNS, "ababbc", true},
    {GBNF, EMPTY_TURNS, "aaac", true},
    {GBNF, EMPTY_TURNS, "aaaac", false},
    {GBNF, DEEP, "[[[[]]]]", true},
    {GBNF, DEEP, "[[[[]]]", false},
    {GBNF, UTF, "\xC3\xA9!\xF0\x9F\xA6\x99\xC3\xA5\xE4\xBD\xA0\\\"\n", true},
    {GBNF, UTF, "\xC3\xA9!\xF0\x9F\xA6\x99\xC3\xA5\xE4\xBD\\\"\n", false},
    {GBNF, "root ::= [\\]^-]{3}", "]^-", true},
    {GBNF, "root ::= \"x\"{100000,100001}", "xxx", false},
    {GBNF, "root ::= (\"ab\" | \"a\") (\"c\" | \"bc\"){3}", "abcbcc", true},
    {REGEX, "a|bc*", "bcc", true},
    {REGEX, "^[a-c]{2,3}$", "abcd", false},
    {REGEX, "(?:ab?){2}x*?", "aabx", true},
    {REGEX, "\\d{3}-\\w+\\s\\S", "123-a_9 x", true},
    {REGEX, "\\d{3}-\\w+\\s\\S", "123-a_9 \n", false},
    {REGEX, "[^\\s,]+(,[^\\s,]+)*", "a,b,\xC3\xA9", true},
    {REGEX, "[^\\s,]+(,[^\\s,]+)*", "a,,b", false},
    {REGEX, "\\x41\\u00e9\\u{1F999}\\/\\.", "A\xC3\xA9\xF0\x9F\xA6\x99/.", true},
    {REGEX, "a{,2}", "a{,2}", true},
    {REGEX, "(a|b)*c(?<name>d)", "ababcd", true},
    {REGEX, "[a-\\d]-[-x]", "5--", true},
    {REGEX, ".*", "anything but\xE2\x80\xA6 a line", true},
    {REGEX, ".*", "two\nlines", false},
    {CHOICE, "", "yes", true},
    {CHOICE, "", "yes, please", true},
    {CHOICE, "", "yes, ", false},
    {CHOICE, "", "n\xC3\xB6", true},
    {CHOICE, "", "", true},
    {CHOICE, "", "n", false},
    {JSON, "", "{}", true},
    {JSON, "", "{\"a\": [1, -2.5e10, \"\\u00e9\\n\\\"\", null, true, {}], \"\": {\"b\":[]}}", true},
    {JSON, "", "{\n    \"a\": [\n        1,\n        2\n    ]\n}", true},
    {JSON, "", "[1]", false},
    {JSON, "", "{\"a\": 01}", false},
    {JSON, "", "{\"a\": \"\\ud800\"}", false},
    {JSON, "", "{\"a\": \"\n\"}", false},
    {JSON, "", "{\"a\":   1}", false},
    {JSON, "", "{} ", false},
};

static void test_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct grammar *g = open_grammar(cases[i].kind, cases[i].source);
        if (takes(g, cases[i].text, strlen(cases[i].text)) != cases[i].takes)
            fail_msg("%s: \"%s\" should%s be taken", cases[i].source, cases[i].text, cases[i].takes ? "" : " not");
        grammar_drop(&g);
    }
}

static const struct {
    enum source kind;
    const char *source, *says;
} refusals[] = {
    {GBNF, "", "no rule named \"root\""},
    {GBNF, "a ::= \"x\"", "no rule named \"root\""},
    {GBNF, "root ::= other", "\"other\" is not defined"},
    {GBNF, "root ::= \"a\"\nroot ::= \"b\"", "defined twice"},
    {GBNF, "root ::= root \"a\" | \"b\"", "\"root\" begins with itself"},
    {GBNF, "root ::= x* \"b\"\nx ::= \"\" | y\ny ::= [a]* x", "begins with itself"},
    {GBNF, "root ::= \"a\" root", "no text can ever"},
    {GBNF, "root ::= [] \"a\"", "no text can ever"},
    {GBNF, "root ::= \"a", "a literal does not end"},
    {GBNF, "root ::= \"\\q\"", "this escape is not known"},
    {GBNF, "root ::= \"\\ud800\"", "this is no character"},
    {GBNF, "root ::= \"\xFF\"", "not UTF-8"},
    {GBNF, "root ::= [z-a]", "a range ends before it begins"},
    {GBNF, "root ::= (\"a\"", "a parenthesis does not end"},
    {GBNF, "root ::= \"a\"{3,2}", "a repetition ends before it begins"},
    {GBNF, "root ::= \"a\"{9999999}", "larger than 1048576"},
    {GBNF, "root ::= <think>", "terminals that name tokens"},
    {GBNF, "root ::= \"a\" )", "no part of a rule"},
    {GBNF, "root = \"a\"", "\"::=\" is expected"},
    {REGEX, "(a", "a group does not end"},
    {REGEX, "a)", "a group ends that did not begin"},
    {REGEX, "*a", "nothing to repeat"},
    {REGEX, "a**", "a repetition of a repetition"},
    {REGEX, "(?=a)b", "lookaround is not supported"},
    {REGEX, "(?<!a)b", "lookaround is not supported"},
    {REGEX, "(?i)b", "this kind of group"},
    {REGEX, "(a)\\1", "back references"},
    {REGEX, "\\bword", "word boundaries"},
    {REGEX, "\\p{L}", "Unicode properties"},
    {REGEX, "a^b", "anchors"},
    {REGEX, "(^a)", "anchors"},
    {REGEX, "[[:alpha:]]", "POSIX classes"},
    {REGEX, "[]a]", "escape it"},
    {REGEX, "[b-a]", "a range ends before it begins"},
    {REGEX, "a{3,1}", "a repetition ends before it begins"},
    {REGEX, "a\\", "a backslash at the end"},
    {REGEX, "\\u12", "hexadecimal digits"},
    {REGEX, "[^\\x00-\\u{10FFFF}]", "no text can ever"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(refusals); i++) {
        struct grammar *g;
        struct error e = {0};
        int r = compile(refusals[i].kind, refusals[i].source, &g, &e);
        if (r == 0 || !strstr(e.text, refusals[i].says))
            fail_msg("%s: status %d says \"%s\", not \"%s\"", refusals[i].source, r, e.text, refusals[i].says);
    }
}

/* ---- masks ---- */

static bool allowed(const uint8_t *bits, int32_t token)
{
    return bits[token >> 3] >> (token & 7) & 1;
}

/* The mask, token by token. */
static void check_mask(struct grammar *g, const struct buffer *answer, const uint8_t *bits, uint32_t n)
{
    uint32_t found = 0;
    for (uint32_t id = 0; id < trie->n_vocab; id++) {
        struct matcher *m = matcher_create(g);
        assert_int_equal(matcher_accept_text(m, buffer_text(answer), answer->len, NULL), 0);
        bool want = matcher_accept(m, (int32_t)id, NULL) == 0;
        for (uint32_t k = 0; k < trie->n_ends; k++)
            want |= trie->ends[k] == (int32_t)id && matcher_may_end(m);
        if (want != allowed(bits, (int32_t)id))
            fail_msg("after \"%s\" token %u should%s be allowed", buffer_text(answer), id, want ? "" : " not");
        found += want;
        matcher_destroy(&m);
    }
    assert_int_equal(found, n);
}

/* A random one of those that are allowed; -1: an end token. */
static int32_t pick(const uint8_t *bits, uint32_t n, struct random_state *r)
{
    uint32_t nth = (uint32_t)(random_u64(r) % n);
    for (uint32_t id = 0;; id++) {
        if (!allowed(bits, (int32_t)id) || nth-- > 0)
            continue;
        for (uint32_t k = 0; k < trie->n_ends; k++)
            if (trie->ends[k] == (int32_t)id)
                return -1;
        return (int32_t)id;
    }
}

static void wander(struct grammar *g, uint8_t *bits, struct random_state *r)
{
    struct matcher *m = matcher_create(g);
    struct buffer answer;
    buffer_init(&answer, 1 << 20);
    for (int step = 0; step < STEPS_MAX; step++) {
        uint32_t n = 0;
        assert_int_equal(matcher_mask(m, bits, &n, NULL), 0);
        if (random_u64(r) % 8 == 0 || step < 2)
            check_mask(g, &answer, bits, n);
        assert_true(n > 0);
        int32_t token = pick(bits, n, r);
        if (token < 0) {
            assert_true(matcher_may_end(m) && takes(g, buffer_text(&answer), answer.len));
            break;
        }
        assert_int_equal(matcher_accept(m, token, NULL), 0);
        buffer_add(&answer, trie->bytes + trie->starts[token], trie->starts[token + 1] - trie->starts[token]);
        assert_true(!matcher_is_done(m) || matcher_may_end(m));
    }
    buffer_close(&answer);
    matcher_destroy(&m);
}

static void test_masks(void **state)
{
    (void)state;
    static const struct {
        enum source kind;
        const char *source;
    } sources[] = {
        {JSON, ""}, {CHOICE, ""}, {GBNF, ARITHMETIC}, {GBNF, LIST}, {GBNF, UTF}, {GBNF, EMPTY_TURNS},
        {GBNF, "root ::= \"\\\"\" [^\"\\\\\\x00-\\x1F]{0,6} \"\\\"\" root?"},
        {GBNF, "root ::= ([^\"\\\\\\x00-\\x1F] | [^\"] \"x\"){0,3} \"\\n\""},
        {GBNF, "root ::= \"a\" c{1,4} \"\\\"b\" | \"ab\" c{0,2} \"\\n\"\nc ::= [^\"\\\\\\x00-\\x1F] | \"\\\\n\""},
        {GBNF, "root ::= c{0,5} (\"\\\"\" | \"the end\")\nc ::= [^\"\\\\\\x00-\\x1F]"},
        {REGEX, "[^\"\\\\\\x00-\\x1F]{2,9}x"}, {REGEX, ".{3,200}"}, {REGEX, "[^x]*\\n?"}, {REGEX, "(a|b)*[ \\w]{5,}"},
        {GBNF, "root ::= \"\\\"\" ([^\"\\\\] | \"\\\\\" [nt]){0,12} \"\\\"\" \",\"* "},
    };
    struct random_state r;
    random_seed(&r, 7);
    uint8_t *bits = mem_array(token_trie_mask_bytes(trie), 1);
    for (size_t i = 0; i < COUNTOF(sources); i++) {
        struct grammar *g = open_grammar(sources[i].kind, sources[i].source);
        for (int round = 0; round < ROUNDS; round++)
            wander(g, bits, &r);
        grammar_drop(&g);
    }
    mem_free(bits);
}

/* n tokens of up to `most` characters, letters above all. */
static struct token_trie *made_trie(uint32_t n, uint64_t most, struct random_state *r)
{
    static const char *const characters[] = {"a", "b", "c", "d", "e", "x", "X", "Y", "0", "7", "_", " ", " ", ",", ".",
                                             "'", "-", "\"", "\n", "\xC3\xA9", "\\"};
    uint32_t *starts = mem_array(n + 2, sizeof(*starts));
    struct buffer bytes;
    buffer_init(&bytes, 1 << 20);
    for (uint32_t id = 0; id < n; id++) {
        bool plain = random_u64(r) % 3 > 0;
        for (uint64_t k = 1 + random_u64(r) % most; k > 0; k--)
            buffer_add_text(&bytes, characters[random_u64(r) % (plain ? 12 : COUNTOF(characters))]);
        starts[id + 1] = (uint32_t)bytes.len;
    }
    starts[n + 1] = starts[n];
    const int32_t end = (int32_t)n;
    struct token_trie *t = token_trie_from(buffer_text(&bytes), starts, n + 1, &end, 1);
    buffer_close(&bytes);
    mem_free(starts);
    return t;
}

/* A vocabulary of short tokens, and one that is large enough for walks to look closer at states. */
static void test_masks_of_other_vocabularies(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "(\\w+\\W{0,3})*", "(\\w\\W?)*", "([a-z]{1,3}[A-Z0-9]?)+", "(\\S+\\s{1,2})*", "((a|ab|b)+[ ,]{0,2})*\\n?",
        "([abcdex]{2,9}[^abcdex]{1,3})*.{0,20}", "[^\"\\\\\\x00-\\x1F]{3,6}.", "(\\w{1,3} ?)*[.]", "([^,]*,)*",
    };
    static const struct {
        uint32_t n;
        uint64_t most;
        int rounds;
    } vocabularies[] = {{200, 3, 4}, {12000, 9, 1}};
    struct token_trie *demo = trie;
    struct random_state r;
    random_seed(&r, 5);
    for (size_t v = 0; v < COUNTOF(vocabularies); v++) {
        trie = made_trie(vocabularies[v].n, vocabularies[v].most, &r);
        uint8_t *bits = mem_array(token_trie_mask_bytes(trie), 1);
        for (size_t i = 0; i < COUNTOF(sources) * (size_t)vocabularies[v].rounds; i++) {
            struct grammar *g = open_grammar(REGEX, sources[i % COUNTOF(sources)]);
            wander(g, bits, &r);
            grammar_drop(&g);
        }
        mem_free(bits);
        token_trie_drop(&trie);
    }
    trie = demo;
}

/* ---- another's opinion ---- */

static void check_like_pcre(const char *source, struct random_state *r)
{
    static const char alphabet[] = "aabbcc019_ -x\n";
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)source, PCRE2_ZERO_TERMINATED,
                                   PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOLLAR_ENDONLY, &code, &at, NULL);
    assert_non_null(re);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(re, NULL);
    struct grammar *g = open_grammar(REGEX, source);
    uint32_t yes = 0;
    for (int i = 0; i < 3000; i++) {
        char text[9];
        size_t n = random_u64(r) % 9;
        for (size_t k = 0; k < n; k++)
            text[k] = alphabet[random_u64(r) % (sizeof(alphabet) - 1)];
        bool want = pcre2_match(re, (PCRE2_SPTR)text, n, 0, 0, data, NULL) >= 0;
        yes += want;
        if (takes(g, text, n) != want)
            fail_msg("%s: \"%.*s\": PCRE2 says %d", source, (int)n, text, want);
    }
    assert_true(yes > 10);
    grammar_drop(&g);
    pcre2_match_data_free(data);
    pcre2_code_free(re);
}

static void test_regex_means_what_pcre_says(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "(a|b)*c?", "(?:a{2,3}|b){1,3}.?", "[^abc]*[a-c]{0,2}", "(ab?|ba?)*", "(a*)*b*", "(a|ab)(c|bcd)?(a|b|c)*",
        "\\w*\\s?\\d*", "((a{0,2}b{0,2}){2}c){0,3}", "(a?){3}[^x]{0,4}", ".*a.{2}", "-?(0|[1-9]\\d*)?", "(|a|b|ab)+c*",
    };
    struct random_state r;
    random_seed(&r, 11);
    for (size_t i = 0; i < COUNTOF(sources); i++)
        check_like_pcre(sources[i], &r);
}

/* ---- what is forced, what is hostile ---- */

static void test_forced_text(void **state)
{
    (void)state;
    struct grammar *g = open_grammar(GBNF, "root ::= \"{\\\"name\\\": \" ( \"true\" | \"false\" ) \"}\"");
    struct matcher *m = matcher_create(g);
    struct buffer out;
    buffer_init(&out, 100);
    assert_int_equal(matcher_forced(m, &out, NULL), 0);
    assert_string_equal(buffer_text(&out), "{\"name\": ");
    struct buffer few;
    buffer_init(&few, 3);
    assert_int_equal(matcher_forced(m, &few, NULL), 0);
    assert_string_equal(buffer_text(&few), "{\"n");
    assert_false(buffer_failed(&few));
    buffer_close(&few);
    uint64_t place = matcher_place(m);
    assert_true(place == matcher_place(m));
    assert_int_equal(matcher_accept_text(m, buffer_text(&out), out.len, NULL), 0);
    assert_true(place != matcher_place(m));
    assert_int_equal(matcher_accept_text(m, "t", 1, NULL), 0);
    buffer_clear(&out);
    assert_int_equal(matcher_forced(m, &out, NULL), 0);
    assert_string_equal(buffer_text(&out), "rue}");
    assert_false(matcher_is_done(m));
    assert_int_equal(matcher_accept_text(m, "rue}", 4, NULL), 0);
    assert_true(matcher_is_done(m));
    assert_int_equal(matcher_accept_text(m, " ", 1, NULL), ERR_INVALID);
    assert_true(matcher_is_done(m));
    buffer_close(&out);
    matcher_destroy(&m);
    grammar_drop(&g);
}

static void test_split_takes_the_longest_tokens(void **state)
{
    (void)state;
    static const char text[] = "{\"name\": \"An\xC3\xA9\n\"}";
    int32_t ids[64];
    uint32_t n = token_trie_split(trie, text, strlen(text), ids, COUNTOF(ids)), at = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t len = trie->starts[ids[i] + 1] - trie->starts[ids[i]];
        assert_memory_equal(trie->bytes + trie->starts[ids[i]], text + at, len);
        for (uint32_t id = 0; id < trie->n_vocab; id++) {
            uint32_t other = trie->starts[id + 1] - trie->starts[id];
            assert_false(other > len && other <= strlen(text + at) &&
                         memcmp(trie->bytes + trie->starts[id], text + at, other) == 0);
        }
        at += len;
    }
    assert_int_equal(at, strlen(text));
    assert_int_equal(token_trie_split(trie, text, strlen(text), ids, 2), 2);
}

/* A vocabulary may have more tokens than the model has logits. */
static void test_a_mask_ends_with_the_logits(void **state)
{
    (void)state;
    struct grammar *g;
    uint32_t n = 0;
    assert_int_equal(less->n_vocab, trie->n_vocab - 1);
    assert_int_equal(grammar_regex(&g, less, ".*", 2, NULL), 0);
    struct matcher *m = matcher_create(g);
    uint8_t *bits = mem_array(token_trie_mask_bytes(trie), 1);
    assert_int_equal(matcher_mask(m, bits, &n, NULL), 0);
    assert_true(n > 0);
    for (uint32_t id = less->n_vocab; id < 8 * token_trie_mask_bytes(trie); id++)
        assert_false(bits[id >> 3] >> (id & 7) & 1);
    assert_int_equal(matcher_accept(m, (int32_t)less->n_vocab, NULL), ERR_INVALID);
    mem_free(bits);
    matcher_destroy(&m);
    grammar_drop(&g);
}

/* Whatever it is, it ends soon with a mask or an error. */
static void check_hostile(const char *source)
{
    struct grammar *g = NULL;
    struct error e = {0};
    if (grammar_gbnf(&g, trie, source, strlen(source), &e) != 0) {
        assert_true(e.text[0] != '\0');
        return;
    }
    struct matcher *m = matcher_create(g);
    uint8_t *bits = mem_array(token_trie_mask_bytes(trie), 1);
    uint32_t n = 0;
    int r = 0;
    for (int i = 0; i < 60 && r == 0; i++) {
        r = matcher_mask(m, bits, &n, &e);
        if (r == 0)
            r = matcher_accept_text(m, "a", 1, &e);
    }
    assert_true(r == 0 || e.text[0] != '\0');
    mem_free(bits);
    matcher_destroy(&m);
    grammar_drop(&g);
}

static char *repeated(const char *first, const char *again, size_t times, const char *last)
{
    struct buffer b;
    buffer_init(&b, 16 << 20);
    buffer_add_text(&b, first);
    for (size_t i = 0; i < times; i++)
        buffer_add_text(&b, again);
    buffer_add_text(&b, last);
    return buffer_take(&b, NULL);
}

static void test_hostile_grammars(void **state)
{
    (void)state;
    char *texts[] = {
        repeated("root ::= ", "(", 100000, "\"a\""),
        repeated("root ::= ((((((((((((((((((((\"a\"", ")*", 20, ""),
        repeated("root ::= ", "\"a\"?", 20000, ""),
        repeated("root ::= \"x\"", " | \"a\" root \"b\" root", 2000, ""),
        repeated("root ::= \"a\"", "{1,1000}", 3, ""),
        repeated("root ::= (", "(\"a\" | \"aa\"){0,1000} ", 50, "){1,100000} \"b\""),
        repeated("root ::= ", "[^a] | . | ", 20000, "\"a\""),
        repeated("root ::= \"", "a", 1000000, "\""),
        repeated("root ::= \"", "a", 2000000, "\""),
        repeated("root ::= x x x x x x x x\nx ::= \"a\" x x x | ", "\"a\" | ", 10, "\"\""),
    };
    for (size_t i = 0; i < COUNTOF(texts); i++) {
        check_hostile(texts[i]);
        mem_free(texts[i]);
    }
}

/* An answer that could not be followed once cannot be followed later either. */
static void test_a_lost_answer_stays_lost(void **state)
{
    (void)state;
    char *source = repeated("L ::= \"x\"{20000}\nroot ::= L \"0\"", " | L \"1\"", 3000, "");
    struct grammar *g = open_grammar(GBNF, source);
    struct matcher *m = matcher_create(g);
    uint8_t *bits = mem_array(token_trie_mask_bytes(trie), 1);
    struct buffer out;
    uint32_t n = 0;
    int r = 0, i = 0;
    buffer_init(&out, 100);
    for (; i < 1000 && r == 0; i++)
        r = matcher_accept_text(m, "x", 1, NULL);
    assert_int_equal(r, ERR_LIMIT);
    for (i = 0; i < 2; i++) {
        assert_int_equal(matcher_mask(m, bits, &n, NULL), ERR_LIMIT);
        (void)matcher_place(m);
        assert_false(matcher_may_end(m));
        assert_int_equal(matcher_forced(m, &out, NULL), ERR_LIMIT);
        assert_int_equal(matcher_accept_text(m, "x", 1, NULL), ERR_LIMIT);
    }
    buffer_close(&out);
    mem_free(bits);
    mem_free(source);
    matcher_destroy(&m);
    grammar_drop(&g);
}

/* Opens arrays and objects at random, as deep as `closing` is long, and gives what closes them. */
static void nest(struct matcher *m, struct random_state *r, char *closing, size_t depth)
{
    assert_int_equal(matcher_accept_text(m, "{\"a\":", 5, NULL), 0);
    closing[depth] = '\0';
    for (size_t i = depth; i-- > 0;) {
        bool object = random_u64(r) % 2 == 0;
        assert_int_equal(matcher_accept_text(m, object ? "{\"b\":" : "[", object ? 5 : 1, NULL), 0);
        closing[i] = object ? '}' : ']';
    }
}

/* An automaton that is full begins again, and no answer notices: enough shapes to fill it several times. */
static void test_full_automaton(void **state)
{
    (void)state;
    enum { SHAPES = 150, DEPTH = 400 };
    struct random_state r;
    struct grammar *g = open_grammar(JSON, "");
    struct matcher *held = matcher_create(g);
    char held_closing[DEPTH + 1], closing[DEPTH + 1];
    uint8_t *bits = mem_array(token_trie_mask_bytes(trie), 1);
    random_seed(&r, 3);
    nest(held, &r, held_closing, DEPTH);
    for (int i = 0; i < SHAPES; i++) {
        struct matcher *m = matcher_create(g);
        uint32_t n = 0;
        nest(m, &r, closing, DEPTH);
        assert_int_equal(matcher_mask(m, bits, &n, NULL), 0);
        assert_true(n > 0);
        assert_int_equal(matcher_accept_text(m, "1", 1, NULL), 0);
        assert_int_equal(matcher_accept_text(m, closing, DEPTH, NULL), 0);
        assert_false(matcher_may_end(m));
        assert_int_equal(matcher_accept_text(m, "}", 1, NULL), 0);
        assert_true(matcher_is_done(m));
        matcher_destroy(&m);
    }
    assert_int_equal(matcher_accept_text(held, "1", 1, NULL), 0);
    assert_int_equal(matcher_accept_text(held, held_closing, DEPTH, NULL), 0);
    assert_int_equal(matcher_accept_text(held, "}", 1, NULL), 0);
    assert_true(matcher_is_done(held));
    matcher_destroy(&held);
    mem_free(bits);
    grammar_drop(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),          cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_masks),          cmocka_unit_test(test_regex_means_what_pcre_says),
        cmocka_unit_test(test_forced_text),    cmocka_unit_test(test_hostile_grammars),
        cmocka_unit_test(test_masks_of_other_vocabularies),
        cmocka_unit_test(test_a_mask_ends_with_the_logits), cmocka_unit_test(test_a_lost_answer_stays_lost),
        cmocka_unit_test(test_full_automaton), cmocka_unit_test(test_split_takes_the_longest_tokens),
    };
    return cmocka_run_group_tests(tests, open_trie, close_trie);
}
