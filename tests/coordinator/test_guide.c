/* test_guide: when a grammar binds: behind reasoning, behind marks, and at the beginning of an answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "coordinator/guide.h"
#include "proto/mask.h"
#include "text/tokenizer.h"

#define DEMO "tests/data/shoal-demo-q8_0.gguf"

enum { VOCAB_BYTES = 4096 / 8 };

static struct tokenizer *tokenizer;
static struct token_trie *trie;

static int open_all(void **state)
{
    (void)state;
    struct gguf *g;
    if (gguf_open(&g, DEMO, NULL) != 0)
        return -1;
    int r = tokenizer_open(&tokenizer, g, NULL);
    gguf_close(&g);
    if (r == 0)
        trie = token_trie_create(tokenizer, UINT32_MAX);
    return r;
}

static int close_all(void **state)
{
    (void)state;
    token_trie_drop(&trie);
    tokenizer_close(&tokenizer);
    return 0;
}

static struct guide_mark mark(const char *text)
{
    struct guide_mark m = {0};
    struct token_list list = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), ENCODE_SPECIAL, &list, NULL), 0);
    assert_true(list.count <= GUIDE_TOKENS_MAX);
    snprintf(m.text, sizeof(m.text), "%s", text);
    memcpy(m.tokens, list.ids, list.count * sizeof(*list.ids));
    m.n = (uint32_t)list.count;
    token_list_free(&list);
    return m;
}

/* A plan with the grammar of a GBNF; NULL: none. */
static struct guide_plan plan_of(const char *gbnf)
{
    struct guide_plan p = {.tokenizer = tokenizer, .budget = -1, .close = mark("</think>")};
    if (gbnf)
        assert_int_equal(grammar_gbnf(&p.grammar, trie, gbnf, strlen(gbnf), NULL), 0);
    return p;
}

/* ---- following a text ---- */

struct way {
    size_t taken; /* bytes */
    bool done;    /* the guide said so */
    bool ended;   /* an end token may come behind the text */
    int status;   /* of the token that was not taken */
};

static bool allowed(struct guide *g, int32_t token)
{
    uint8_t bits[VOCAB_BYTES];
    uint32_t n;
    const uint8_t *mask = guide_mask(g, &n);
    if (n == 0)
        return true;
    assert_int_equal(mask_decode(mask, n, bits, VOCAB_BYTES * 8, NULL), 0);
    return bits[token / 8] >> (token & 7) & 1;
}

/* Goes along the tokens of the text while masks allow them; a token that they do not allow is refused as well. */
static struct way follow(const struct guide_plan *p, const char *text)
{
    struct guide *g = guide_create(p);
    struct token_list list = {0};
    struct way w = {0};
    struct buffer bytes;
    struct error e = {0};
    buffer_init(&bytes, 1 << 16);
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), ENCODE_SPECIAL, &list, NULL), 0);
    for (size_t i = 0; i < list.count && w.status == 0 && !w.done; i++) {
        assert_int_equal(guide_next(g, UINT32_MAX, &e), 0);
        bool may = allowed(g, list.ids[i]);
        w.status = guide_accept(g, list.ids[i], &w.done, &e);
        assert_true(w.status == 0 || e.text[0] != '\0');
        if (!may)
            assert_int_equal(w.status, ERR_CORRUPT);
        if (w.status == 0)
            tokenizer_decode(tokenizer, list.ids[i], true, &bytes);
    }
    if (w.status == 0 && !w.done) {
        assert_int_equal(guide_next(g, UINT32_MAX, &e), 0);
        w.ended = allowed(g, tokenizer_find(tokenizer, "<|im_end|>", 10));
    }
    w.taken = bytes.len;
    buffer_close(&bytes);
    token_list_free(&list);
    guide_destroy(&g);
    return w;
}

static void assert_all(const struct guide_plan *p, const char *text, bool done, bool ended)
{
    struct way w = follow(p, text);
    if (w.taken != strlen(text) || w.done != done || w.ended != ended)
        print_message("%s: %zu bytes, done %d, ended %d\n", text, w.taken, w.done, w.ended);
    assert_int_equal(w.taken, strlen(text));
    assert_int_equal(w.done, done);
    assert_int_equal(w.ended, ended);
}

static void assert_stops(const struct guide_plan *p, const char *text, const char *taken)
{
    struct way w = follow(p, text);
    if (w.taken != strlen(taken))
        print_message("%s: %zu bytes\n", text, w.taken);
    assert_int_equal(w.status, ERR_CORRUPT);
    assert_int_equal(w.taken, strlen(taken));
}

static void plan_close(struct guide_plan *p)
{
    grammar_drop(&p->grammar);
}

/* ---- reasoning ---- */

static void test_a_grammar_binds_at_once(void **state)
{
    struct guide_plan p = plan_of("root ::= \"yes\" | \"no\"");
    (void)state;
    assert_all(&p, "yes", true, false);
    assert_stops(&p, "Maybe", "");
    assert_stops(&p, "<think>", "");
    plan_close(&p);
}

static void test_a_grammar_binds_behind_reasoning(void **state)
{
    struct guide_plan p = plan_of("root ::= \"yes\" | \"no\"");
    (void)state;
    p.thinking = true;
    assert_all(&p, "Whatever {\n", false, false); /* such an answer must not end here */
    assert_all(&p, "Whatever</think>no", true, false);
    assert_stops(&p, "Hm</think>Whatever", "Hm</think>");
    assert_stops(&p, "Hm</think><think>", "Hm</think>");
    plan_close(&p);
}

static void test_an_answer_may_begin_with_reasoning(void **state)
{
    struct guide_plan p = plan_of("root ::= \"yes\" | \"no\"");
    (void)state;
    p.open = mark("<think>");
    assert_all(&p, "yes", true, false);
    assert_all(&p, "<think>Hm</think>no", true, false);
    assert_stops(&p, "Hm", "");
    assert_stops(&p, "<think>Hm</think><think>", "<think>Hm</think>");
    plan_close(&p);
}

/* Both ways begin with the same tokens. */
static void test_marks_of_several_tokens(void **state)
{
    struct guide_plan p = plan_of("root ::= \"#3 is it\"");
    (void)state;
    p.open = mark("#1 think:");
    p.close = mark(" so:");
    assert_true(p.open.n > 1 && p.close.n > 1 && mark("#3 is it").tokens[0] == p.open.tokens[0]);
    assert_all(&p, "#3 is it", true, false);
    assert_all(&p, "#1 think: a lot, so:#3 is it", true, false);
    assert_stops(&p, "#1 is it", "#1");
    plan_close(&p);
    p.grammar = NULL;
    p.budget = 2;
    assert_all(&p, "#3 is anything", false, true);
    assert_all(&p, "#1 think: so:anything", false, true);
}

static void test_what_leads_to_the_answer(void **state)
{
    struct guide_plan p = plan_of("root ::= \"yes\"");
    (void)state;
    p.open = mark("#1 think:");
    p.lead = mark("#3 say:");
    assert_all(&p, "#3 say:yes", true, false);
    assert_all(&p, "#1 think: a</think>#3 say:yes", true, false);
    assert_stops(&p, "yes", "");
    assert_stops(&p, "#3 say:no", "#3 say:");
    assert_stops(&p, "#1 think: a</think>#1", "#1 think: a</think>#");
    plan_close(&p);
}

static size_t count(const char *text)
{
    return mark(text).n;
}

/* After so many tokens of reasoning the model can only end it. */
static void test_a_budget(void **state)
{
    struct guide_plan p = plan_of(NULL);
    (void)state;
    p.thinking = true;
    p.budget = (int64_t)count("one two");
    assert_true(guide_is_needed(&p));
    assert_all(&p, "one two</think>three four five", false, true);
    assert_all(&p, "one</think>three four five", false, true);
    assert_stops(&p, "one two three", "one two");
    p.budget = 0;
    assert_all(&p, "</think>one", false, true);
    assert_stops(&p, "one", "");
    p.thinking = false;
    p.open = mark("<think>");
    assert_all(&p, "one two three", false, true);
    assert_all(&p, "<think></think>one", false, true);
    assert_stops(&p, "<think>one", "<think>");
    p.budget = -1;
    assert_false(guide_is_needed(&p));
}

/* Reasoning that comes in several messages has one budget, and none is begun when it is spent. */
static void test_a_budget_of_all_reasoning(void **state)
{
    (void)state;
    struct guide_plan p = plan_of(NULL);
    p.open = mark("#1 think:");
    p.reopens = true;
    p.budget = (int64_t)count(" a b");
    assert_int_equal(p.budget, 2);
    assert_all(&p, "#1 think: a</think>Well, #1 think: b</think>a b c", false, true);
    assert_all(&p, "Well, #1 think: a b</think>a b c", false, true);
    assert_stops(&p, "Well, #1 think: a b c", "Well, #1 think: a b");
    assert_stops(&p, "#1 think: a</think>Well, #1 think: b c", "#1 think: a</think>Well, #1 think: b");
    assert_stops(&p, "#1 think: a b</think>#1 think:", "#1 think: a b</think>#");
    assert_stops(&p, "#1 think: a b</think>##1 think:", "#1 think: a b</think>##");
    assert_all(&p, "#1 think: a b</think>#3 is it", false, true);
    p.close = mark(" so:"); /* its tokens are no thoughts */
    assert_all(&p, "#1 think: so:#1 think: so:#1 think: so: a b c", false, true);
    p.close = mark("</think>");
    p.reopens = false;
    assert_all(&p, "#1 think: a b</think>#1 think: a b c", false, true);
}

static void test_calls_between_reasoning(void **state)
{
    (void)state;
    struct guide_plan p = plan_of("root ::= \"[\" [ab] \"]\"");
    p.open = mark("#1 think:");
    p.trigger = mark("<tool_call>");
    p.reopens = true;
    p.budget = (int64_t)count(" a b");
    assert_all(&p, "#1 think: a</think><tool_call>[a]#1 think: b</think>", false, true);
    assert_all(&p, "Well, #1 think: a<tool_call></think><tool_call>[a]", false, true);
    assert_stops(&p, "<tool_call>[a]#1 think: a b c", "<tool_call>[a]#1 think: a b");
    assert_stops(&p, "#1 think: a b</think>#3 is it<tool_call>c", "#1 think: a b</think>#3 is it<tool_call>");
    plan_close(&p);
}

static void test_a_budget_before_a_grammar(void **state)
{
    struct guide_plan p = plan_of("root ::= \"yes\"");
    (void)state;
    p.thinking = true;
    p.budget = (int64_t)count("one");
    assert_all(&p, "one</think>yes", true, false);
    assert_stops(&p, "one two", "one");
    assert_stops(&p, "one</think>no", "one</think>");
    plan_close(&p);
}

/* What the guide lets through when the answer may have n tokens in all. */
static struct way within(const struct guide_plan *p, uint32_t n, const char *text)
{
    struct guide *g = guide_create(p);
    struct token_list list = {0};
    struct way w = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), ENCODE_SPECIAL, &list, NULL), 0);
    for (size_t i = 0; i < list.count && i < n && !w.done; i++) {
        assert_int_equal(guide_next(g, n - (uint32_t)i, NULL), 0);
        if (!allowed(g, list.ids[i]))
            break;
        assert_int_equal(guide_accept(g, list.ids[i], &w.done, NULL), 0);
        w.taken += 1;
    }
    w.ended = w.done || guide_is_whole(g);
    token_list_free(&list);
    guide_destroy(&g);
    return w;
}

/* Room is kept for the answer. */
static void test_reasoning_ends_before_its_answer_would_be_cut(void **state)
{
    (void)state;
    static const char thoughts[] = "one two three four five six seven eight nine ten eleven twelve thirteen";
    struct guide_plan p = plan_of("root ::= \"yes\" | \"no\" [a-z ]*");
    uint32_t many = (uint32_t)count(thoughts);
    p.thinking = true;
    assert_int_equal(within(&p, 200, thoughts).taken, many);
    struct way cut = within(&p, many, thoughts);
    assert_in_range(cut.taken, 1, many - (uint32_t)count("</think>no"));
    uint32_t least = (uint32_t)count("</think>no");
    assert_true(within(&p, least, "</think>no").ended);
    assert_int_equal(within(&p, least, thoughts).taken, 0);
    assert_int_equal(within(&p, least - 1, thoughts).taken, least - 1); /* there is no room anyway */
    p.thinking = false;
    p.open = mark("<think>");
    assert_int_equal(within(&p, 2, "<think>").taken, 0); /* none begins that has no room */
    assert_int_equal(within(&p, 100, "<think>").taken, 1);
    assert_true(within(&p, (uint32_t)count("no"), "no").ended);
    plan_close(&p);
}

/* A bound answer that may end where its tokens do is whole; within a call it is not. */
static void test_what_is_whole(void **state)
{
    (void)state;
    struct guide_plan p = plan_of("root ::= \"[\" [a-d]+ \"]\" \";\"?");
    assert_true(within(&p, 9, "[a]").ended);
    assert_false(within(&p, 9, "[a").ended);
    assert_int_equal(within(&p, 3, "[abba]").taken, 2); /* the last of three closes it */
    p.trigger = mark("<tool_call>");
    p.once = false;
    assert_false(within(&p, 9, "Hm").ended);
    assert_true(within(&p, 9, "<tool_call>[a];").ended);
    assert_false(within(&p, 9, "<tool_call>[a]; Hm").ended);
    plan_close(&p);
}

/* The model has rows for so few tokens that none goes on: the request fails for it, not a stage that is asked. */
static void test_no_token_fits(void **state)
{
    (void)state;
    struct token_trie *few = token_trie_create(tokenizer, 8);
    struct guide_plan p = plan_of(NULL);
    struct error e = {0};
    assert_int_equal(grammar_gbnf(&p.grammar, few, "root ::= \"yes\"", 14, NULL), 0);
    static const char *const opens[] = {"", "think:"};
    for (size_t i = 0; i < COUNTOF(opens); i++) { /* bound, at the door */
        p.open = mark(opens[i]);
        assert_true(i == 0 || p.open.tokens[0] >= 8);
        struct guide *g = guide_create(&p);
        assert_int_equal(guide_next(g, UINT32_MAX, &e), ERR_UNSUPPORTED);
        assert_non_null(strstr(e.text, "no token of this model"));
        guide_destroy(&g);
    }
    plan_close(&p);
    token_trie_drop(&few);
}

/* ---- triggers ---- */

static void test_a_grammar_binds_behind_its_trigger(void **state)
{
    struct guide_plan p = plan_of("root ::= \"[\" [ab] \"]\"");
    (void)state;
    p.trigger = mark("<tool_call>");
    assert_all(&p, "Anything at all.", false, true);
    assert_all(&p, "Well: <tool_call>[a] and <tool_call>[b] so", false, true);
    assert_all(&p, "<tool_call>[", false, false);
    assert_stops(&p, "Well: <tool_call>[c]", "Well: <tool_call>[");
    assert_stops(&p, "<tool_call>[a]<tool_call>b", "<tool_call>[a]<tool_call>");
    p.once = true;
    assert_all(&p, "Well: <tool_call>[a]", true, false);
    plan_close(&p);
}

/* A trigger of ordinary text, which tokens divide anyhow. */
static void test_a_trigger_within_tokens(void **state)
{
    struct guide_plan p = plan_of("root ::= [ab]+ \";\"");
    (void)state;
    p.trigger = mark("say");
    for (size_t i = 0; i < 3; i++) {
        static const char *const texts[] = {"I say", "say", "a say"};
        char *text = mem_printf("%sab;", texts[i]), *bad = mem_printf("%szz", texts[i]);
        assert_int_equal(follow(&p, text).status, 0);
        assert_int_not_equal(follow(&p, bad).status, 0);
        mem_free(text);
        mem_free(bad);
    }
    plan_close(&p);
}

static void test_a_trigger_at_the_start_only(void **state)
{
    struct guide_plan p = plan_of("root ::= [ab] \"\\\"}\"");
    (void)state;
    p.trigger = mark("{\"name\": \"");
    p.at_start = true;
    assert_all(&p, "\n{\"name\": \"a\"} {\"name\": \"Bob\"}", false, true);
    assert_stops(&p, "{\"name\": \"Bob\"}", "{\"name\": \"");
    assert_all(&p, "It is {\"name\": \"Bob\"}", false, true);
    assert_all(&p, "{\"age\": 3} {\"name\": \"Bob\"}", false, true);
    plan_close(&p);
}

static void test_a_trigger_behind_reasoning(void **state)
{
    struct guide_plan p = plan_of("root ::= \"[\" [ab] \"]\"");
    (void)state;
    p.trigger = mark("<tool_call>");
    p.open = mark("<think>");
    assert_all(&p, "<think>I could <tool_call>x</think>Hm <tool_call>[a]", false, true);
    assert_stops(&p, "<think>Hm</think><tool_call>x", "<think>Hm</think><tool_call>");
    assert_all(&p, "<tool_call>[a]", false, true);
    assert_stops(&p, "<tool_call>x", "<tool_call>");
    p.thinking = true;
    assert_all(&p, "I could <tool_call>x</think>", false, true);
    plan_close(&p);
}

/* One token ends reasoning and begins, or is, the trigger. */
static void test_a_trigger_in_the_token_that_ends_reasoning(void **state)
{
    static const char *const ends[] = {" t", "in"}, *const triggers[] = {"he[", "g"};
    static const char *const texts[] = {"a the[", "ing"};
    (void)state;
    assert_true(count(" the") == 1 && count("ing") == 1);
    for (size_t i = 0; i < COUNTOF(texts); i++) {
        struct guide_plan p = plan_of("root ::= [ab] \"]\"");
        char *good = mem_printf("%sb]", texts[i]), *bad = mem_printf("%sz]", texts[i]);
        p.thinking = true;
        p.close = mark(ends[i]);
        p.trigger = mark(triggers[i]);
        p.at_start = i == 1;
        assert_all(&p, good, false, true);
        assert_stops(&p, bad, texts[i]);
        mem_free(good);
        mem_free(bad);
        plan_close(&p);
    }
}

/* The first tokens of what could have been reasoning are a trigger's as well. */
static void test_a_trigger_that_begins_as_reasoning_does(void **state)
{
    struct guide_plan p = plan_of("root ::= [ab]");
    (void)state;
    p.open = mark("#1 think:");
    p.trigger = mark("#3 call:");
    assert_all(&p, "#3 call:a", false, true);
    assert_stops(&p, "#3 call:c", "#3 call:");
    plan_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_grammar_binds_at_once),
        cmocka_unit_test(test_a_grammar_binds_behind_reasoning),
        cmocka_unit_test(test_an_answer_may_begin_with_reasoning),
        cmocka_unit_test(test_marks_of_several_tokens),
        cmocka_unit_test(test_what_leads_to_the_answer),
        cmocka_unit_test(test_a_budget),
        cmocka_unit_test(test_a_budget_of_all_reasoning),
        cmocka_unit_test(test_calls_between_reasoning),
        cmocka_unit_test(test_a_budget_before_a_grammar),
        cmocka_unit_test(test_reasoning_ends_before_its_answer_would_be_cut),
        cmocka_unit_test(test_what_is_whole),
        cmocka_unit_test(test_no_token_fits),
        cmocka_unit_test(test_a_grammar_binds_behind_its_trigger),
        cmocka_unit_test(test_a_trigger_within_tokens),
        cmocka_unit_test(test_a_trigger_at_the_start_only),
        cmocka_unit_test(test_a_trigger_behind_reasoning),
        cmocka_unit_test(test_a_trigger_in_the_token_that_ends_reasoning),
        cmocka_unit_test(test_a_trigger_that_begins_as_reasoning_does),
    };
    return cmocka_run_group_tests_name("guide", tests, open_all, close_all);
}
