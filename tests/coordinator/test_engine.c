/* test_engine: the engine against a route of fake stages over loopback: order of tokens, shared steps,
 * cancellation, broken routes, silent and hostile stages, logits, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/engine_state.h"
#include "tests/coordinator/fake_route.h"

enum { WAIT_MS = 30000, VOCAB = 2048 };

static const char model_path[] = "tests/data/shoal-demo-q8_0.gguf";

struct setting {
    struct control control;
    struct fake_route route;
    struct engine *engine;
    bool route_runs;
};

static const struct engine_tuning quick = {
    .tick_ms = 10, .greet_ms = WAIT_MS, .lost_ms = 100, .step_floor_ms = 300, .route_wait_ms = 1000,
    .values_bytes_max = 64 << 20};

/* `floor_ms`: 0 for tests in which no step may time out. */
static void begin(struct setting *s, uint32_t stages, uint32_t floor_ms)
{
    struct error e = {0};
    struct engine_tuning t = quick;
    t.step_floor_ms = floor_ms ? floor_ms : 60000;
    memset(s, 0, sizeof(*s));
    fake_control_init(&s->control, model_path);
    assert_int_equal(engine_start_tuned(&s->engine, &s->control, &t, &e), 0);
    if (stages > 0) {
        fake_route_start(&s->route, &s->control, stages, VOCAB, FAKE_GOOD);
        s->route_runs = true;
    }
}

static void end(struct setting *s)
{
    engine_stop(&s->engine);
    if (s->route_runs) {
        assert_int_equal(atomic_load(&s->route.broken_laws), 0);
        fake_route_stop(&s->route);
    }
    fake_control_close(&s->control);
}

struct ask {
    uint32_t n_prompt, max_tokens, salt;
    bool logits;
    enum hidden_rows hidden;
    int32_t end_token; /* 0: none */
    uint64_t deadline_ms;
    struct grammar *grammar;
};

static void fill_prompt(int32_t *prompt, const struct ask *a)
{
    for (uint32_t i = 0; i < a->n_prompt; i++)
        prompt[i] = (int32_t)((i * 13 + a->salt) % VOCAB);
}

static int try_submit(struct setting *s, struct request **r, const struct ask *a, struct error *e)
{
    int32_t *prompt = mem_array(a->n_prompt + 1, sizeof(*prompt));
    fill_prompt(prompt, a);
    struct request_options o = {
        .prompt = prompt, .n_prompt = a->n_prompt, .max_tokens = a->max_tokens, .logits = a->logits,
        .hidden = a->hidden,
        .end_tokens = &a->end_token, .n_end_tokens = a->end_token != 0, .deadline_ms = a->deadline_ms,
        .plan = &(struct guide_plan){.grammar = a->grammar, .budget = -1},
        .sampling = {.top_p = 1, .repetition_penalty = 1, .top_logprobs = -1}};
    int status = engine_submit(s->engine, r, &o, e);
    mem_free(prompt);
    return status;
}

static struct request *submit(struct setting *s, const struct ask *a)
{
    struct error e = {0};
    struct request *r = NULL;
    assert_int_equal(try_submit(s, &r, a, &e), 0);
    return r;
}

static struct event *next(struct request *r)
{
    struct event *ev = NULL;
    assert_int_equal(request_next(r, &ev, WAIT_MS), 0);
    return ev;
}

/* Reads all of an answer and checks every token. */
static enum finish_reason check_answer(struct request *r, const struct ask *a, uint32_t *n_tokens)
{
    int32_t *prompt = mem_array(a->n_prompt, sizeof(*prompt));
    fill_prompt(prompt, a);
    int32_t token = prompt[a->n_prompt - 1];
    mem_free(prompt);
    for (*n_tokens = 0;; (*n_tokens)++) {
        struct event *ev = next(r);
        uint32_t position = a->n_prompt - 1 + *n_tokens;
        if (ev->kind != EVENT_TOKEN) {
            assert_int_equal(ev->kind, EVENT_DONE);
            enum finish_reason why = ev->finish;
            event_free(ev);
            assert_int_equal(request_next(r, &ev, 0), ERR_TIMEOUT);
            return why;
        }
        assert_int_equal(ev->token.position, position);
        assert_int_equal(ev->token.token, fake_next(token, position, VOCAB));
        token = ev->token.token;
        event_free(ev);
    }
}

static struct error failure(struct request *r)
{
    for (;;) {
        struct event *ev = next(r);
        struct error e = ev->error;
        enum event_kind kind = ev->kind;
        event_free(ev);
        assert_int_not_equal(kind, EVENT_DONE);
        if (kind == EVENT_FAILED)
            return e;
    }
}

static void expect_answer(struct setting *s, const struct ask *a)
{
    uint32_t n = 0;
    struct request *r = submit(s, a);
    assert_int_equal(check_answer(r, a, &n), FINISH_LENGTH);
    assert_int_equal(n, a->max_tokens);
    request_release(&r);
}

/* Until it is so, or far too long. */
static bool comes_true(bool (*is_so)(struct setting *), struct setting *s)
{
    for (uint64_t until = clock_ms() + WAIT_MS; clock_ms() < until; clock_sleep_ms(2)) {
        if (is_so(s))
            return true;
    }
    return false;
}

static bool nothing_held(struct setting *s)
{
    return atomic_load(&s->route.held) == 0;
}

/* ---- answers ---- */

static void test_tokens_come_in_order(void **state)
{
    (void)state;
    struct setting s;
    for (uint32_t stages = 1; stages <= 3; stages++) {
        begin(&s, stages, 0);
        expect_answer(&s, &(struct ask){.n_prompt = 1, .max_tokens = 1});
        expect_answer(&s, &(struct ask){.n_prompt = 700, .max_tokens = 40, .salt = 3});
        assert_true(comes_true(nothing_held, &s));
        struct engine_stats st;
        engine_stats(s.engine, &st);
        assert_int_equal(st.requests_total, 2);
        assert_int_equal(st.prompt_tokens_total, 701);
        assert_int_equal(st.generated_tokens_total, 41);
        assert_int_equal(st.requests_failed + st.requests_cancelled, 0);
        end(&s);
    }
}

static void test_an_end_token_stops_the_answer(void **state)
{
    (void)state;
    struct setting s;
    struct ask a = {.n_prompt = 5, .max_tokens = 100, .salt = 9};
    uint32_t n = 0;
    int32_t prompt[5], token;
    fill_prompt(prompt, &a);
    token = prompt[4];
    for (uint32_t i = 0; i < 7; i++)
        token = fake_next(token, 4 + i, VOCAB);
    a.end_token = token;
    begin(&s, 2, 0);
    struct request *r = submit(&s, &a);
    assert_int_equal(check_answer(r, &a, &n), FINISH_STOP);
    assert_int_equal(n, 7);
    request_release(&r);
    assert_true(comes_true(nothing_held, &s));
    end(&s);
}

static void test_a_prompt_alone_is_done_without_a_token(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 3, 0);
    expect_answer(&s, &(struct ask){.n_prompt = 900, .max_tokens = 0});
    end(&s);
}

static void test_sequences_share_steps_and_fill_the_route(void **state)
{
    (void)state;
    struct setting s;
    struct request *r[12];
    begin(&s, 3, 0);
    atomic_store(&s.route.hold, 3);
    for (uint32_t i = 0; i < 12; i++)
        r[i] = submit(&s, &(struct ask){.n_prompt = 20 + i, .max_tokens = 30, .salt = i});
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t n = 0;
        assert_int_equal(check_answer(r[i], &(struct ask){.n_prompt = 20 + i, .salt = i}, &n), FINISH_LENGTH);
        assert_int_equal(n, 30);
        request_release(&r[i]);
    }
    assert_int_equal(atomic_load(&s.route.flight_most), 3);
    assert_true(atomic_load(&s.route.sequences_most) >= 2);
    assert_true(atomic_load(&s.route.steps) < 12 * 30);
    end(&s);
}

/* ---- cancellation ---- */

static void test_a_released_request_ends_on_the_stages(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 2, 0);
    struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 4000});
    event_free(next(r));
    event_free(next(r));
    assert_int_equal(atomic_load(&s.route.opens), 1);
    request_release(&r);
    assert_null(r);
    assert_true(comes_true(nothing_held, &s));
    assert_int_equal(atomic_load(&s.route.ends), 1);
    struct engine_stats st;
    engine_stats(s.engine, &st);
    assert_int_equal(st.requests_cancelled, 1);
    expect_answer(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    end(&s);
}

static void test_a_deadline_ends_a_request(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 2, 0);
    atomic_store(&s.route.mode, FAKE_SILENT);
    struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5, .deadline_ms = clock_ms() + 50});
    assert_int_equal(failure(r).status, ERR_TIMEOUT);
    request_release(&r);
    end(&s);
}

static void test_a_reader_that_does_not_read_is_cut_off(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 1, 0);
    struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = ENGINE_EVENTS_MAX + 500});
    assert_true(comes_true(nothing_held, &s) || atomic_load(&s.route.ends) == 1);
    while (atomic_load(&s.route.ends) == 0)
        clock_sleep_ms(2);
    assert_int_equal(failure(r).status, ERR_LIMIT);
    request_release(&r);
    end(&s);
}

/* ---- routes that break ---- */

static void test_a_new_route_fails_what_runs_and_serves_what_waits(void **state)
{
    (void)state;
    struct setting s;
    struct fake_route second;
    begin(&s, 2, 0);
    atomic_store(&s.route.mode, FAKE_SILENT);
    struct request *runs[2], *waits;
    for (uint32_t i = 0; i < 2; i++) { /* one step each: the route of two stages is full */
        runs[i] = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
        while (atomic_load(&s.route.opens) < i + 1)
            clock_sleep_ms(2);
    }
    struct ask a = {.n_prompt = 30, .max_tokens = 6, .salt = 5};
    waits = submit(&s, &a);
    fake_route_start(&second, &s.control, 3, VOCAB, FAKE_GOOD);
    for (int i = 0; i < 2; i++) {
        struct error e = failure(runs[i]);
        assert_int_equal(e.status, ERR_UNAVAILABLE);
        assert_non_null(strstr(e.text, "route"));
        request_release(&runs[i]);
    }
    uint32_t n = 0;
    assert_int_equal(check_answer(waits, &a, &n), FINISH_LENGTH);
    assert_int_equal(n, 6);
    request_release(&waits);
    assert_int_equal(fake_control_failures(&s.control), 0);
    engine_stop(&s.engine);
    fake_route_stop(&second);
    end(&s);
}

static bool stage_given_up(struct setting *s)
{
    return fake_control_failures(&s->control) > 0;
}

static void test_a_step_that_never_returns_gives_the_stage_up(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 3, 2000);
    expect_answer(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    atomic_store(&s.route.mode, FAKE_SILENT);
    uint64_t number = s.route.number;
    struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    struct error e = failure(r);
    assert_int_equal(e.status, ERR_UNAVAILABLE);
    assert_non_null(strstr(e.text, "node"));
    request_release(&r);
    assert_true(comes_true(stage_given_up, &s));
    assert_int_equal(s.control.failed_route, number);
    assert_int_equal(try_submit(&s, &r, &(struct ask){.n_prompt = 1, .max_tokens = 1}, &e), ERR_UNAVAILABLE);
    end(&s);
}

static void test_a_stage_that_is_gone_is_given_up_and_another_route_serves(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 2, 0);
    struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 4000});
    event_free(next(r));
    fake_route_stop(&s.route);
    s.route_runs = false;
    assert_int_equal(failure(r).status, ERR_UNAVAILABLE);
    request_release(&r);
    assert_true(comes_true(stage_given_up, &s));
    fake_route_start(&s.route, &s.control, 2, VOCAB, FAKE_GOOD);
    s.route_runs = true;
    expect_answer(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    end(&s);
}

static void test_a_connection_that_breaks_costs_only_what_was_under_way(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 0, 0);
    s.engine->tuning.lost_ms = WAIT_MS; /* before any route: nobody reads it */
    fake_route_start(&s.route, &s.control, 2, VOCAB, FAKE_GOOD);
    s.route_runs = true;
    expect_answer(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    atomic_store(&s.route.mode, FAKE_SILENT);
    struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    while (atomic_load(&s.route.opens) < 2)
        clock_sleep_ms(2);
    atomic_store(&s.route.relisten, true);
    struct error e = failure(r);
    assert_int_equal(e.status, ERR_UNAVAILABLE);
    assert_non_null(strstr(e.text, "interrupted"));
    request_release(&r);
    atomic_store(&s.route.mode, FAKE_GOOD);
    expect_answer(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    assert_int_equal(fake_control_failures(&s.control), 0);
    end(&s);
}

static void test_a_stage_that_never_greets_is_given_up(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 0, 0);
    s.engine->tuning.greet_ms = 500; /* before any route: nobody reads it */
    fake_route_start(&s.route, &s.control, 1, VOCAB, FAKE_DEAF);
    s.route_runs = true;
    struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 2});
    assert_true(comes_true(stage_given_up, &s));
    assert_int_equal(failure(r).status, ERR_UNAVAILABLE); /* no other route came */
    request_release(&r);
    end(&s);
}

/* ---- stages that fail and lie ---- */

static void test_a_failed_step_fails_its_sequences_and_no_more(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 2, 0);
    atomic_store(&s.route.fail_status, ERR_BUSY);
    for (int i = 0; i < 5; i++) {
        atomic_store(&s.route.mode, FAKE_FAILS);
        struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
        struct error e = failure(r);
        assert_int_equal(e.status, ERR_BUSY);
        assert_non_null(strstr(e.text, "on fire"));
        assert_null(strchr(e.text, '\x1b'));
        request_release(&r);
        assert_true(comes_true(nothing_held, &s));
        atomic_store(&s.route.mode, FAKE_GOOD);
        expect_answer(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    }
    assert_int_equal(fake_control_failures(&s.control), 0);
    end(&s);
}

static void test_a_stage_that_refuses_every_step_is_given_up(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 2, 0);
    atomic_store(&s.route.fail_status, ERR_CONFLICT);
    atomic_store(&s.route.mode, FAKE_FAILS);
    for (int i = 0; i < 3; i++) {
        struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
        assert_int_equal(failure(r).status, ERR_CONFLICT);
        request_release(&r);
    }
    assert_true(comes_true(stage_given_up, &s));
    end(&s);
}

static void test_noise_from_a_stage_changes_nothing(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 3, 0);
    atomic_store(&s.route.mode, FAKE_NOISY);
    for (uint32_t i = 0; i < 3; i++)
        expect_answer(&s, &(struct ask){.n_prompt = 100, .max_tokens = 50, .salt = i});
    assert_int_equal(fake_control_failures(&s.control), 0);
    end(&s);
}

static void test_a_stage_that_goes_on_lying_is_given_up(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 2, 0);
    atomic_store(&s.route.mode, FAKE_EXTRA_RESULT); /* to steps of ends alone too */
    struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    assert_int_equal(failure(r).status, ERR_CORRUPT);
    request_release(&r);
    assert_true(comes_true(stage_given_up, &s));
    assert_int_equal(s.control.failed_stage, 1);
    end(&s);
}

static void test_answers_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const enum fake_mode lies[] = {FAKE_BAD_TOKEN, FAKE_NEGATIVE_TOKEN, FAKE_BAD_SEQUENCE, FAKE_BAD_POSITION,
                                          FAKE_MISSING_RESULT};
    struct setting s;
    begin(&s, 2, 0);
    for (size_t i = 0; i < COUNTOF(lies); i++) {
        atomic_store(&s.route.mode, (int)lies[i]);
        struct request *r = submit(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
        assert_int_equal(failure(r).status, ERR_CORRUPT);
        request_release(&r);
        atomic_store(&s.route.mode, FAKE_GOOD);
        expect_answer(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    }
    end(&s);
}

/* ---- logits ---- */

/* Rows [first, first + n) of a kind, then the end. */
static void check_rows(struct request *r, const struct ask *a, enum event_kind kind, uint32_t first, uint32_t n,
                       uint32_t width)
{
    int32_t *prompt = mem_array(a->n_prompt, sizeof(*prompt));
    fill_prompt(prompt, a);
    for (uint32_t row = first; row < first + n; row++) {
        struct event *ev = next(r);
        assert_int_equal(ev->kind, kind);
        assert_int_equal(ev->row, row);
        assert_int_equal(ev->n_values, width);
        bool same = true;
        for (uint32_t i = 0; i < width; i++)
            same &= ev->values[i] == fake_logit(prompt[row], row, kind == EVENT_LOGITS ? i : i + 7);
        assert_true(same);
        event_free(ev);
    }
    struct event *ev = next(r);
    assert_int_equal(ev->kind, EVENT_DONE);
    event_free(ev);
    mem_free(prompt);
}

static void check_logits(struct request *r, const struct ask *a, uint32_t n_vocab)
{
    check_rows(r, a, EVENT_LOGITS, 0, a->n_prompt, n_vocab);
}

static void logits_of(uint32_t n_vocab, uint64_t bytes_max)
{
    struct setting s;
    struct ask a = {.n_prompt = 150, .logits = true, .salt = 4};
    begin(&s, 0, 0);
    s.engine->n_vocab = n_vocab; /* before any route: as if the model were larger */
    s.engine->tuning.values_bytes_max = bytes_max;
    fake_route_start(&s.route, &s.control, 2, n_vocab, FAKE_GOOD);
    s.route_runs = true;
    struct request *r = submit(&s, &a);
    check_logits(r, &a, n_vocab);
    request_release(&r);
    end(&s);
}

/* ---- grammars ---- */

/* Token i has the text of i in four letters, so that the vocabulary has prefixes to share; the last one ends. */
static struct grammar *open_grammar(const char *source)
{
    uint32_t *starts = mem_array(VOCAB + 1, sizeof(*starts));
    char *bytes = mem_array(VOCAB, 4);
    const int32_t ends[] = {VOCAB - 1};
    struct error e = {0};
    struct grammar *g = NULL;
    for (uint32_t i = 0; i < VOCAB; i++) {
        uint32_t n = starts[i];
        for (uint32_t v = i; i + 1 < VOCAB && (n == starts[i] || v > 0); v /= 7)
            bytes[n++] = (char)('a' + v % 7);
        starts[i + 1] = n;
    }
    struct token_trie *t = token_trie_from(bytes, starts, VOCAB, ends, 1);
    assert_int_equal(grammar_gbnf(&g, t, source, strlen(source), &e), 0);
    token_trie_drop(&t);
    mem_free(bytes);
    mem_free(starts);
    return g;
}

/* The answer's text; its tokens are counted. */
static enum finish_reason read_text(struct request *r, const struct grammar *g, struct buffer *out, uint32_t *n)
{
    const struct token_trie *t = grammar_trie(g);
    uint32_t first = 0;
    for (*n = 0;; (*n)++) {
        struct event *ev = next(r);
        if (ev->kind != EVENT_TOKEN) {
            assert_int_equal(ev->kind, EVENT_DONE);
            enum finish_reason why = ev->finish;
            event_free(ev);
            return why;
        }
        uint32_t at = t->starts[ev->token.token];
        first = *n == 0 ? ev->token.position : first;
        assert_int_equal(ev->token.position, first + *n);
        buffer_add(out, t->bytes + at, t->starts[ev->token.token + 1] - at);
        event_free(ev);
    }
}

static void test_answers_follow_their_grammars(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "root ::= \"abc\" [d-g]{3} \"gg\"", "root ::= [a-c]{5,200}", "root ::= (\"ag\" [b]* \"c\")+"};
    enum { EACH = 5 };
    struct setting s;
    struct grammar *grammars[COUNTOF(sources)];
    struct request *requests[COUNTOF(sources) * EACH];
    begin(&s, 2, 0);
    for (size_t i = 0; i < COUNTOF(requests); i++) {
        size_t k = i % COUNTOF(sources);
        if (i == k)
            grammars[k] = open_grammar(sources[k]);
        requests[i] = submit(&s, &(struct ask){.n_prompt = 3 + (uint32_t)i * 40, .max_tokens = 60, .salt = (uint32_t)i,
                                               .end_token = VOCAB - 1, .grammar = grammars[k]});
    }
    for (size_t i = 0; i < COUNTOF(requests); i++) {
        struct grammar *own = open_grammar(sources[i % COUNTOF(sources)]); /* the others are the engine's */
        struct matcher *m = matcher_create(own);
        struct buffer text;
        uint32_t n;
        buffer_init(&text, 1 << 12);
        enum finish_reason why = read_text(requests[i], own, &text, &n);
        request_release(&requests[i]);
        assert_int_equal(matcher_accept_text(m, buffer_text(&text), text.len, NULL), 0);
        assert_true(why == FINISH_STOP && matcher_may_end(m) && n <= 60);
        buffer_close(&text);
        matcher_destroy(&m);
        grammar_drop(&own);
    }
    end(&s);
    for (size_t k = 0; k < COUNTOF(sources); k++)
        grammar_drop(&grammars[k]);
}

static void test_a_finished_grammar_stops_without_an_end_token(void **state)
{
    (void)state;
    struct setting s;
    struct buffer text;
    uint32_t n;
    begin(&s, 1, 0);
    struct grammar *g = open_grammar("root ::= \"abcdefg\"");
    struct ask a = {.n_prompt = 5, .max_tokens = 50, .grammar = g};
    struct request *r = submit(&s, &a);
    buffer_init(&text, 1 << 12);
    assert_int_equal(read_text(r, g, &text, &n), FINISH_STOP);
    assert_string_equal(buffer_text(&text), "abcdefg");
    request_release(&r);
    a.max_tokens = 1; /* cut: never taken for an end */
    r = submit(&s, &a);
    assert_int_equal(read_text(r, g, &text, &n), FINISH_LENGTH);
    assert_int_equal(n, 1);
    request_release(&r);
    buffer_close(&text);
    end(&s);
    grammar_drop(&g);
}

/* With as few tokens as are enough, or a few more, every answer is whole, and says so. */
static void test_answers_end_within_their_bound(void **state)
{
    (void)state;
    static const char source[] = "root ::= \"f\" (root \"g\")* [a-e]{2,90} \"ff\" | \"ab\" [a-f]*";
    enum { LEAST = 1, MOST = 24 };
    struct setting s;
    struct request *requests[MOST];
    begin(&s, 2, 0);
    struct grammar *g = open_grammar(source), *own = open_grammar(source);
    for (uint32_t n = LEAST; n < MOST; n++)
        requests[n] = submit(&s, &(struct ask){.n_prompt = 3 + n, .max_tokens = n, .salt = n,
                                               .end_token = VOCAB - 1, .grammar = g});
    for (uint32_t i = LEAST; i < MOST; i++) {
        struct matcher *m = matcher_create(own);
        struct buffer text;
        uint32_t n;
        buffer_init(&text, 1 << 12);
        assert_int_equal(read_text(requests[i], own, &text, &n), FINISH_STOP);
        assert_true(n <= i);
        assert_int_equal(matcher_accept_text(m, buffer_text(&text), text.len, NULL), 0);
        assert_true(matcher_may_end(m));
        request_release(&requests[i]);
        buffer_close(&text);
        matcher_destroy(&m);
    }
    end(&s);
    grammar_drop(&g);
    grammar_drop(&own);
}

/* What can only go on in one way is not sampled: many tokens take few steps. */
static void test_forced_tokens_share_steps(void **state)
{
    (void)state;
    static const char source[] = "root ::= \"abcdefgabcdefgabcdefg\" [a-c] \"gfedcbagfedcbagfedcba\" [d-f]";
    for (uint32_t stages = 1; stages <= 2; stages++) {
        struct setting s;
        struct buffer text;
        uint32_t n;
        begin(&s, stages, 0);
        struct grammar *g = open_grammar(source), *own = open_grammar(source);
        struct request *r = submit(&s, &(struct ask){.n_prompt = 7, .max_tokens = 100, .grammar = g});
        struct matcher *m = matcher_create(own);
        buffer_init(&text, 1 << 12);
        assert_int_equal(read_text(r, own, &text, &n), FINISH_STOP);
        assert_int_equal(text.len, 44);
        assert_int_equal(matcher_accept_text(m, buffer_text(&text), text.len, NULL), 0);
        assert_true(matcher_is_done(m));
        assert_true(n >= 11 && atomic_load(&s.route.steps) <= 8);
        request_release(&r);
        matcher_destroy(&m);
        buffer_close(&text);
        end(&s);
        grammar_drop(&g);
        grammar_drop(&own);
    }
}

static void test_a_token_that_the_grammar_forbids_is_refused(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 1, 0);
    struct grammar *g = open_grammar("root ::= \"abcdefg\"");
    struct ask a = {.n_prompt = 5, .max_tokens = 50, .grammar = g};
    atomic_store(&s.route.mode, FAKE_UNMASKED);
    struct request *r = submit(&s, &a);
    assert_int_equal(failure(r).status, ERR_CORRUPT);
    request_release(&r);
    atomic_store(&s.route.mode, FAKE_GOOD);
    expect_answer(&s, &(struct ask){.n_prompt = 5, .max_tokens = 7});
    grammar_drop(&g);
    g = open_grammar("root ::= \"abz\""); /* no token has a z */
    a.grammar = g;
    r = submit(&s, &a);
    assert_int_equal(failure(r).status, ERR_UNSUPPORTED);
    request_release(&r);
    end(&s);
    grammar_drop(&g);
}

static void test_every_row_of_logits_comes_back(void **state)
{
    (void)state;
    logits_of(VOCAB, 64 << 20);
    logits_of(FRAME_CHUNK_MAX / sizeof(float), 64 << 20);  /* one whole chunk */
    logits_of(300001, 64 << 20);                           /* three chunks */
    logits_of(VOCAB, 16 * VOCAB);                          /* a slow reader holds the rows back */
}

static void test_logits_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const enum fake_mode lies[] = {FAKE_BAD_LOGITS, FAKE_SHORT_LOGITS};
    struct setting s;
    struct ask a = {.n_prompt = 20, .logits = true};
    begin(&s, 2, 0);
    for (size_t i = 0; i < COUNTOF(lies); i++) {
        atomic_store(&s.route.mode, (int)lies[i]);
        struct request *r = submit(&s, &a);
        assert_int_equal(failure(r).status, ERR_CORRUPT);
        request_release(&r);
    }
    atomic_store(&s.route.mode, FAKE_GOOD);
    struct request *r = submit(&s, &a);
    check_logits(r, &a, VOCAB);
    request_release(&r);
    end(&s);
}

static void test_released_logits_disturb_nobody(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 2, 0);
    for (int i = 0; i < 5; i++) {
        struct request *r = submit(&s, &(struct ask){.n_prompt = 400, .logits = true});
        event_free(next(r));
        request_release(&r);
        expect_answer(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    }
    assert_true(comes_true(nothing_held, &s));
    end(&s);
}

static void test_the_hidden_rows_that_are_asked_for_come_back(void **state)
{
    (void)state;
    static const struct {
        enum hidden_rows rows;
        uint32_t first, n;
    } cases[] = {{HIDDEN_FIRST, 0, 1}, {HIDDEN_LAST, 699, 1}, {HIDDEN_ALL, 0, 700}};
    struct setting s;
    begin(&s, 3, 0);
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct ask a = {.n_prompt = 700, .hidden = cases[i].rows, .salt = 3};
        struct ask other = {.n_prompt = 300, .max_tokens = 9};
        struct request *r = submit(&s, &a);
        expect_answer(&s, &other); /* beside it */
        check_rows(r, &a, EVENT_HIDDEN, cases[i].first, cases[i].n, s.engine->n_embd);
        request_release(&r);
    }
    assert_int_equal(atomic_load(&s.route.broken_laws), 0);
    end(&s);
}

/* A reader that takes nothing for a while loses nothing: rows so narrow that their bytes hold nobody back. */
static void test_many_narrow_rows_wait_for_a_slow_reader(void **state)
{
    (void)state;
    struct setting s;
    struct ask a = {.n_prompt = 2 * ENGINE_EVENTS_MAX, .hidden = HIDDEN_ALL};
    begin(&s, 2, 0);
    struct request *r = submit(&s, &a);
    for (int i = 0; i < 5; i++)
        expect_answer(&s, &(struct ask){.n_prompt = 300, .max_tokens = 20});
    check_rows(r, &a, EVENT_HIDDEN, 0, a.n_prompt, s.engine->n_embd);
    request_release(&r);
    end(&s);
}

static void test_hidden_rows_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const enum fake_mode lies[] = {FAKE_BAD_LOGITS, FAKE_SHORT_LOGITS, FAKE_WIDE_ROWS};
    struct setting s;
    struct ask a = {.n_prompt = 20, .hidden = HIDDEN_LAST};
    begin(&s, 2, 0);
    for (size_t i = 0; i < COUNTOF(lies); i++) {
        atomic_store(&s.route.mode, (int)lies[i]);
        struct request *r = submit(&s, &a);
        assert_int_equal(failure(r).status, ERR_CORRUPT);
        request_release(&r);
        atomic_store(&s.route.mode, FAKE_GOOD);
        expect_answer(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    }
    end(&s);
}

/* ---- limits ---- */

static void test_what_cannot_be_served_is_refused_at_once(void **state)
{
    (void)state;
    struct setting s;
    struct error e = {0};
    struct request *r = NULL;
    begin(&s, 0, 0);
    assert_int_equal(try_submit(&s, &r, &(struct ask){.n_prompt = 1, .max_tokens = 1}, &e), ERR_UNAVAILABLE);
    assert_string_equal(e.text, "no node has joined");
    fake_route_start(&s.route, &s.control, 2, VOCAB, FAKE_GOOD);
    s.route_runs = true;
    assert_int_equal(try_submit(&s, &r, &(struct ask){.n_prompt = 16384, .max_tokens = 1}, &e), ERR_LIMIT);
    assert_int_equal(try_submit(&s, &r, &(struct ask){.n_prompt = 1, .max_tokens = UINT32_MAX}, &e), ERR_LIMIT);
    assert_int_equal(try_submit(&s, &r, &(struct ask){.n_prompt = 0, .max_tokens = 1}, &e), ERR_INVALID);
    int32_t bad[] = {VOCAB, -1, INT32_MIN};
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        struct request_options o = {.prompt = &bad[i], .n_prompt = 1, .max_tokens = 1,
                                    .sampling = {.top_p = 1, .repetition_penalty = 1}};
        assert_int_equal(engine_submit(s.engine, &r, &o, &e), ERR_INVALID);
    }
    assert_null(r);
    end(&s);
}

static void test_sampling_that_a_stage_would_refuse_is_refused(void **state)
{
    (void)state;
    struct setting s;
    struct error e = {0};
    struct request *r = NULL;
    int32_t token = 1;
    struct frame_bias bias = {VOCAB, 1};
    const struct frame_open good = {.top_p = 1, .repetition_penalty = 1};
    struct frame_open bad[8];
    for (size_t i = 0; i < COUNTOF(bad); i++)
        bad[i] = good;
    bad[0].temperature = -1;
    bad[1].top_p = 0.0f / 0.0f;
    bad[2].min_p = 2;
    bad[3].repetition_penalty = 0;
    bad[4].top_k = -1;
    bad[5].top_logprobs = FRAME_TOP_MAX + 1;
    bad[6].n_bias = 1;
    bad[6].bias = &bias;
    bad[7].presence_penalty = 1e9f;
    begin(&s, 1, 0);
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        struct request_options o = {.prompt = &token, .n_prompt = 1, .max_tokens = 1, .sampling = bad[i]};
        assert_int_equal(engine_submit(s.engine, &r, &o, &e), ERR_INVALID);
    }
    struct request_options o = {.prompt = &token, .n_prompt = 1, .max_tokens = 1, .sampling = good};
    assert_int_equal(engine_submit(s.engine, &r, &o, &e), 0);
    request_release(&r);
    end(&s);
}

static void test_too_many_waiting_requests_are_refused(void **state)
{
    (void)state;
    struct setting s;
    struct error e = {0};
    struct request **r = mem_array(ENGINE_WAITING_MAX + 100, sizeof(struct request *));
    struct ask a = {.n_prompt = 4, .max_tokens = 4};
    uint32_t n = 0;
    begin(&s, 1, 0);
    atomic_store(&s.route.mode, FAKE_SILENT);
    while (n < ENGINE_WAITING_MAX + 100 && try_submit(&s, &r[n], &a, &e) == 0)
        n++;
    assert_int_equal(e.status, ERR_BUSY);
    assert_true(n >= ENGINE_WAITING_MAX && n <= ENGINE_WAITING_MAX + 16);
    for (uint32_t i = 1; i < n; i++)
        request_release(&r[i]);
    struct request *again = NULL;
    uint64_t until = clock_ms() + WAIT_MS;
    while (!again && clock_ms() < until) {
        if (try_submit(&s, &again, &a, &e) != 0)
            clock_sleep_ms(2);
    }
    assert_non_null(again);
    request_release(&again);
    engine_stop(&s.engine);
    assert_int_equal(failure(r[0]).status, ERR_UNAVAILABLE);
    request_release(&r[0]); /* outlives the engine */
    mem_free(r);
    end(&s);
}

static bool times_reported(struct setting *s)
{
    return atomic_load(&s->control.n_reports) >= 3;
}

static void test_stage_times_are_reported(void **state)
{
    (void)state;
    struct setting s;
    begin(&s, 3, 0);
    expect_answer(&s, &(struct ask){.n_prompt = 10, .max_tokens = 5});
    assert_true(comes_true(times_reported, &s));
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_come_in_order),
        cmocka_unit_test(test_an_end_token_stops_the_answer),
        cmocka_unit_test(test_a_prompt_alone_is_done_without_a_token),
        cmocka_unit_test(test_sequences_share_steps_and_fill_the_route),
        cmocka_unit_test(test_a_released_request_ends_on_the_stages),
        cmocka_unit_test(test_a_deadline_ends_a_request),
        cmocka_unit_test(test_a_reader_that_does_not_read_is_cut_off),
        cmocka_unit_test(test_a_new_route_fails_what_runs_and_serves_what_waits),
        cmocka_unit_test(test_a_step_that_never_returns_gives_the_stage_up),
        cmocka_unit_test(test_a_stage_that_is_gone_is_given_up_and_another_route_serves),
        cmocka_unit_test(test_a_connection_that_breaks_costs_only_what_was_under_way),
        cmocka_unit_test(test_a_stage_that_never_greets_is_given_up),
        cmocka_unit_test(test_a_failed_step_fails_its_sequences_and_no_more),
        cmocka_unit_test(test_a_stage_that_refuses_every_step_is_given_up),
        cmocka_unit_test(test_noise_from_a_stage_changes_nothing),
        cmocka_unit_test(test_answers_that_do_not_fit_are_refused),
        cmocka_unit_test(test_a_stage_that_goes_on_lying_is_given_up),
        cmocka_unit_test(test_answers_follow_their_grammars),
        cmocka_unit_test(test_a_finished_grammar_stops_without_an_end_token),
        cmocka_unit_test(test_answers_end_within_their_bound),
        cmocka_unit_test(test_forced_tokens_share_steps),
        cmocka_unit_test(test_a_token_that_the_grammar_forbids_is_refused),
        cmocka_unit_test(test_every_row_of_logits_comes_back),
        cmocka_unit_test(test_logits_that_do_not_fit_are_refused),
        cmocka_unit_test(test_released_logits_disturb_nobody),
        cmocka_unit_test(test_the_hidden_rows_that_are_asked_for_come_back),
        cmocka_unit_test(test_many_narrow_rows_wait_for_a_slow_reader),
        cmocka_unit_test(test_hidden_rows_that_do_not_fit_are_refused),
        cmocka_unit_test(test_what_cannot_be_served_is_refused_at_once),
        cmocka_unit_test(test_sampling_that_a_stage_would_refuse_is_refused),
        cmocka_unit_test(test_too_many_waiting_requests_are_refused),
        cmocka_unit_test(test_stage_times_are_reported),
    };
    struct error e = {0};
    if (keys_init(&e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
