/* test_steering: answers that have few tokens left: whole where that is possible, and free while nothing is short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "text/grammar/grammar.h"

#define DEMO "tests/data/shoal-demo-q8_0.gguf"

static struct token_trie *demo, *small;

/* Every byte is a token (or with `from` 'b': none below it), then the given ones, then one that ends. */
static struct token_trie *trie_of(uint32_t from, const char *const *longer, size_t n_longer)
{
    char bytes[1024];
    uint32_t starts[600] = {0}, n = 0, at = 0;
    for (; n < 256; n++) {
        bytes[at] = (char)n;
        at += n >= from;
        starts[n + 1] = at;
    }
    for (size_t i = 0; i < n_longer; i++) {
        memcpy(bytes + at, longer[i], strlen(longer[i]));
        at += (uint32_t)strlen(longer[i]);
        starts[++n] = at;
    }
    starts[n + 1] = at;
    const int32_t end = (int32_t)n;
    return token_trie_from(bytes, starts, n + 1, &end, 1);
}

static int open_tries(void **state)
{
    (void)state;
    static const char *const longer[] = {"abc", "abcab", "cab", "\",\"", "xx", "xxx", "\"}", "12"};
    struct gguf *g;
    struct tokenizer *t;
    if (gguf_open(&g, DEMO, NULL) != 0)
        return -1;
    int r = tokenizer_open(&t, g, NULL);
    gguf_close(&g);
    if (r != 0)
        return -1;
    demo = token_trie_create(t, UINT32_MAX);
    tokenizer_close(&t);
    small = trie_of(0, longer, COUNTOF(longer));
    return 0;
}

static int close_tries(void **state)
{
    (void)state;
    token_trie_drop(&demo);
    token_trie_drop(&small);
    return 0;
}

static struct grammar *open_grammar(struct token_trie *t, const char *gbnf)
{
    struct grammar *g = NULL;
    struct error e = {0};
    int r = gbnf ? grammar_gbnf(&g, t, gbnf, strlen(gbnf), &e) : grammar_json(&g, t, &e);
    if (r != 0)
        fail_msg("%s: %s", gbnf, e.text);
    return g;
}

static bool allowed(const uint8_t *bits, uint32_t id)
{
    return bits[id >> 3] >> (id & 7) & 1;
}

static uint32_t mask_within(struct matcher *m, uint32_t left, uint8_t *bits, uint32_t *enough)
{
    uint32_t n = 0;
    struct error e = {0};
    if (matcher_mask_within(m, left, bits, &n, enough, &e) != 0)
        fail_msg("%s", e.text);
    assert_true(n > 0);
    return n;
}

/* ---- how many are enough ---- */

static void test_what_is_enough(void **state)
{
    (void)state;
    static const struct {
        const char *gbnf, *text;
        uint32_t rest;
    } cases[] = {
        {"root ::= \"\"", "", 0},
        {"root ::= \"abc\"", "", 1},
        {"root ::= \"abc\"", "a", 2},
        {"root ::= \"abcabc\"", "", 2},
        {"root ::= \"abcabcab\"", "", 2},       /* abc, abcab: the longest first would take three */
        {"root ::= \"abcabcabcab\"", "", 3},
        {"root ::= \"q\" (\"zzzz\" | \"abc\" | \"zz\")", "", 2},
        {"root ::= [0-9]{4} \"-\" [0-9]{2}", "", 7},
        {"root ::= [0-9]{4} \"-\" [0-9]{2}", "199", 4},
        {"root ::= (\"xxx\" \"y\"){3,9}", "", 6},
        {"root ::= (\"xxx\" \"y\"){3,9}", "xxxyx", 4}, /* xx, y, xxx, y */
        {"root ::= \"x\"* \"abc\"", "xxxx", 1},
        {"root ::= \"(\" root \")\" | \"abc\"", "((((", 5},
        {"root ::= \"(\" root \")\" | \"abc\"", "((((ab", 5},
        {"root ::= (\"a\"{1000}){1000}", "", 1000000},
        {"root ::= [a-c]{2} | \"abc\" | \"z\"{7}", "a", 1},
        {"root ::= [\xC3\xA4-\xC3\xBC] \"abc\"", "", 3},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct grammar *g = open_grammar(small, cases[i].gbnf);
        struct matcher *m = matcher_create(g);
        assert_int_equal(matcher_accept_text(m, cases[i].text, strlen(cases[i].text), NULL), 0);
        if (matcher_rest(m) != cases[i].rest)
            fail_msg("%s after \"%s\": %u", cases[i].gbnf, cases[i].text, matcher_rest(m));
        matcher_destroy(&m);
        grammar_drop(&g);
    }
}

/* Without a token for a byte that must come it is not known, and nothing is steered. */
static void test_what_is_not_known(void **state)
{
    (void)state;
    static const char *const longer[] = {"xa", "xx"};
    struct token_trie *t = trie_of('b', longer, COUNTOF(longer));
    struct grammar *g = open_grammar(t, "root ::= [bx]{3,9} [a]");
    struct matcher *m = matcher_create(g);
    uint8_t bits[64], plain[64];
    uint32_t enough, n;
    assert_int_equal(matcher_rest(m), GRAMMAR_REST_UNKNOWN);
    assert_int_equal(matcher_mask(m, plain, &n, NULL), 0);
    assert_int_equal(mask_within(m, 1, bits, &enough), n);
    assert_int_equal(enough, 0);
    assert_memory_equal(bits, plain, token_trie_mask_bytes(t));
    assert_true(matcher_keeps_within(m, 'b', 0));
    matcher_destroy(&m);
    grammar_drop(&g);
    token_trie_drop(&t);
}

/* ---- every way ---- */

#define LIST                                                                                                           \
    "root ::= \"[\" (item (\",\" item)*)? \"]\"\n"                                                                     \
    "item ::= root | \"\\\"\" [^\"\\\\]{2,40} \"\\\"\" | [0-9]+ | \"null\"\n"

static const char *const forms[] = {
    NULL, /* any JSON object */
    LIST,
    "root ::= (\"a\" | \"abc\" | [a-z]{3,12} \"!\"){2,5} \"; the end of it, at last\"",
    "root ::= [^!]* \"!\" [^%]{0,9}",
    "root ::= (\"(\" root \")\")* | \"{\" root root \"}\"",
    "root ::= ([a-zA-Z]{2,9} [^a-zA-Z]{1,3})* \".\"{0,20} [a-z ]{17} \"so\"",
    "root ::= .{0,300} | \"yes\" | \"no, and a long reason for it: \" [a-z ]{30,50}",
};

static uint32_t pick(const struct token_trie *t, const uint8_t *bits, uint32_t n, struct random_state *r)
{
    uint32_t nth = (uint32_t)(random_u64(r) % n), id = 0;
    for (; !allowed(bits, id) || nth-- > 0; id++)
        assert_true(id < t->n_vocab);
    return id;
}

/* A random answer of at most `left` tokens is whole. */
static void walk(struct grammar *g, uint32_t left, uint8_t *bits, struct random_state *r)
{
    const struct token_trie *t = grammar_trie(g);
    struct matcher *m = matcher_create(g);
    bool ended = false;
    for (; left > 0 && !ended; left--) {
        uint32_t enough, n = mask_within(m, left, bits, &enough);
        uint32_t id = pick(t, bits, n, r);
        ended = t->starts[id] == t->starts[id + 1];
        if (!ended) {
            assert_true(matcher_keeps_within(m, (int32_t)id, left - 1));
            assert_int_equal(matcher_accept(m, (int32_t)id, NULL), 0);
        }
    }
    assert_true(matcher_may_end(m));
    matcher_destroy(&m);
}

static void test_answers_are_whole(void **state)
{
    (void)state;
    struct random_state r;
    random_seed(&r, 7);
    uint8_t *bits = mem_array(token_trie_mask_bytes(demo) + token_trie_mask_bytes(small), 1);
    for (size_t i = 0; i < COUNTOF(forms) * 2; i++) {
        struct grammar *g = open_grammar(i % 2 ? small : demo, forms[i / 2]);
        struct matcher *m = matcher_create(g);
        uint32_t rest = matcher_rest(m);
        matcher_destroy(&m);
        assert_true(rest < 100);
        for (uint32_t more = 0; more < 60; more++)
            walk(g, rest + more, bits, &r);
        grammar_drop(&g);
    }
    mem_free(bits);
}

/* ---- while nothing is short ---- */

/* `enough` is: after any token that the plain mask allows, one less is enough. */
static void check_enough(struct matcher *m, const uint8_t *bits, uint32_t enough, uint32_t step)
{
    const struct token_trie *t = demo;
    for (uint32_t id = step % 5; id < t->n_vocab; id += 5)
        if (allowed(bits, id) && t->starts[id] < t->starts[id + 1])
            assert_true(matcher_keeps_within(m, (int32_t)id, enough - 1));
}

static void test_masks_are_plain_while_nothing_is_short(void **state)
{
    (void)state;
    struct random_state r;
    random_seed(&r, 11);
    size_t bytes = token_trie_mask_bytes(demo);
    uint8_t *bits = mem_array(bytes, 1), *plain = mem_array(bytes, 1);
    for (size_t i = 0; i < COUNTOF(forms); i++) {
        struct grammar *g = open_grammar(demo, forms[i]);
        struct matcher *m = matcher_create(g);
        for (uint32_t step = 0; step < 60; step++) {
            uint32_t n, enough, few;
            assert_int_equal(matcher_mask(m, plain, &n, NULL), 0);
            (void)mask_within(m, UINT32_MAX, bits, &enough);
            assert_int_equal(mask_within(m, enough, bits, &few), n);
            assert_memory_equal(bits, plain, bytes);
            check_enough(m, plain, enough, step);
            uint32_t id = pick(demo, plain, n, &r);
            uint32_t rest = matcher_rest(m);
            (void)mask_within(m, rest > 0 ? rest : 1, bits, &few);
            for (size_t k = 0; k < bytes; k++)
                assert_int_equal(bits[k] & ~plain[k], 0);
            if (demo->starts[id] == demo->starts[id + 1])
                break;
            assert_int_equal(matcher_accept(m, (int32_t)id, NULL), 0);
        }
        matcher_destroy(&m);
        grammar_drop(&g);
    }
    mem_free(bits);
    mem_free(plain);
}

/* ---- what is not possible, and what is too deep ---- */

/* A token may reach into the next rule, which nobody counts on: with less than what is enough it is tried, with less
 * than half of that not. */
static void test_less_than_enough(void **state)
{
    (void)state;
    struct grammar *g = open_grammar(small, "root ::= s \",\" s \",\" s\ns ::= \"\\\"\" [a-z]+ \"\\\"\"");
    struct matcher *m = matcher_create(g);
    uint8_t bits[64], plain[64];
    uint32_t enough, n, all;
    assert_int_equal(matcher_accept_text(m, "\"a", 2, NULL), 0);
    assert_int_equal(matcher_rest(m), 9);
    assert_int_equal(matcher_mask(m, plain, &all, NULL), 0);
    assert_int_equal(mask_within(m, 5, bits, &enough), 1); /* "," is one token, which only is so near to the end */
    assert_true(allowed(bits, 256 + 3));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(matcher_accept(m, 256 + 3, NULL), 0);
        assert_int_equal(matcher_accept(m, 'a', NULL), 0);
    }
    n = mask_within(m, 1, bits, &enough);
    assert_true(n == 1 && allowed(bits, '"'));
    matcher_destroy(&m);
    m = matcher_create(g);
    assert_int_equal(matcher_accept_text(m, "\"a", 2, NULL), 0);
    assert_int_equal(mask_within(m, 3, bits, &enough), all);
    assert_memory_equal(bits, plain, token_trie_mask_bytes(small));
    matcher_destroy(&m);
    grammar_drop(&g);
}

/* A model that only ever opens brackets. */
static void test_nesting_has_an_end(void **state)
{
    (void)state;
    struct grammar *g = open_grammar(small, LIST);
    struct matcher *m = matcher_create(g);
    uint8_t bits[64];
    uint32_t enough, depth = 0, deepest = 0, tokens = 0;
    while (!matcher_is_done(m) && tokens < 100000) {
        uint32_t n = mask_within(m, UINT32_MAX, bits, &enough);
        uint32_t id = allowed(bits, '[') && tokens++ < 5000 ? '[' : allowed(bits, ']') ? ']' : ',';
        assert_true(n > 0 && allowed(bits, id));
        depth += id == '[' ? 1 : 0;
        depth -= id == ']' ? 1 : 0;
        deepest = depth > deepest ? depth : deepest;
        assert_int_equal(matcher_accept(m, (int32_t)id, NULL), 0);
    }
    assert_true(matcher_is_done(m));
    assert_in_range(deepest, 64, 130);
    matcher_destroy(&m);
    grammar_drop(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_enough),
        cmocka_unit_test(test_what_is_not_known),
        cmocka_unit_test(test_answers_are_whole),
        cmocka_unit_test(test_masks_are_plain_while_nothing_is_short),
        cmocka_unit_test(test_less_than_enough),
        cmocka_unit_test(test_nesting_has_an_end),
    };
    return cmocka_run_group_tests_name("steering", tests, open_tries, close_tries);
}
