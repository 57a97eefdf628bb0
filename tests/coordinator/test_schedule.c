/* test_schedule: tables of small cases, then seeded simulations of a route of 1..5 stages whose laws are
 * checked at every step: no limit passed, no row out of order, every sequence ends, work fills the route. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "coordinator/schedule.h"

static struct session *add(struct sessions *t, uint32_t n_prompt, uint32_t generate, bool logits)
{
    int32_t *prompt = mem_array(n_prompt, sizeof(*prompt));
    struct session *s = session_add(t, &(struct session_new){
        .prompt = prompt, .n_prompt = n_prompt, .generate_max = generate, .every_row = logits,
        .open_bytes = SCHEDULE_OPEN_BYTES});
    mem_free(prompt);
    return s;
}

static const struct schedule_limits roomy = {
    .stages = 1, .rows_max = 512, .values_rows_max = 32, .sequences_max = 16, .pages = 1000, .page_tokens = 64};

/* What the engine does when a step comes back: every sampled row gives a token. */
static void come_back(struct sessions *t, const struct schedule_step *step)
{
    for (uint32_t i = 0; i < step->n_parts; i++) {
        const struct schedule_part *p = &step->parts[i];
        struct session *s = session_find(t, p->slot, p->sequence);
        if (!s)
            continue;
        s->done += p->n;
        if (p->sample)
            session_accept(s, 7);
        if (session_full(s) && s->done >= (s->tokens_max > s->n_prompt ? s->tokens_max - 1 : s->n_prompt))
            session_remove(t, s);
    }
}

/* ---- small cases ---- */

static void test_one_stage_takes_a_prompt_whole(void **state)
{
    (void)state;
    struct sessions t;
    struct schedule_step step, none;
    sessions_init(&t, 4);
    add(&t, 100, 3, false);
    assert_true(schedule_next(&t, &roomy, 0, &step));
    assert_int_equal(step.n_parts, 1);
    assert_int_equal(step.parts[0].n, 100);
    assert_true(step.parts[0].open && step.parts[0].sample);
    assert_false(schedule_next(&t, &roomy, 1, &none));
    for (uint32_t i = 0; i < 3; i++) {
        come_back(&t, &step);
        assert_true(schedule_next(&t, &roomy, 0, &step));
        if (i == 2)
            break;
        assert_int_equal(step.parts[0].first, 100 + i);
        assert_int_equal(step.parts[0].n, 1);
        assert_true(step.parts[0].sample && !step.parts[0].open);
    }
    assert_int_equal(step.n_rows, 0); /* only the end is left */
    assert_int_equal(step.n_ends, 1);
    assert_false(schedule_next(&t, &roomy, 0, &step));
    sessions_close(&t);
}

static void test_a_prompt_fills_the_stages_with_pieces(void **state)
{
    (void)state;
    struct schedule_limits l = roomy;
    struct sessions t;
    struct schedule_step steps[3], none;
    l.stages = 3;
    sessions_init(&t, 4);
    add(&t, 600, 1, false);
    uint32_t next = 0;
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(schedule_next(&t, &l, i, &steps[i]));
        assert_int_equal(steps[i].parts[0].first, next);
        assert_false(steps[i].parts[0].sample);
        next += steps[i].n_rows;
    }
    assert_int_equal(steps[0].n_rows, 100);
    assert_false(schedule_next(&t, &l, 3, &none));
    sessions_close(&t);
}

static void test_sequences_spread_over_the_stages(void **state)
{
    (void)state;
    struct schedule_limits l = roomy;
    struct sessions t;
    struct schedule_step steps[3], none;
    l.stages = 3;
    sessions_init(&t, 8);
    for (int i = 0; i < 7; i++) {
        struct session *s = add(&t, 1, 50, false);
        session_admit(&t, 1);
        s->sent = s->done = 1;
        session_accept(s, 5);
    }
    for (uint32_t i = 0; i < 3; i++)
        assert_true(schedule_next(&t, &l, i, &steps[i]));
    assert_int_equal(steps[0].n_rows, 3);
    assert_int_equal(steps[1].n_rows, 2);
    assert_int_equal(steps[2].n_rows, 2);
    come_back(&t, &steps[0]);
    assert_true(schedule_next(&t, &l, 2, &none));
    assert_int_equal(none.n_rows, 3);
    sessions_close(&t);
}

static void test_prompts_are_smaller_beside_decoders(void **state)
{
    (void)state;
    struct sessions t;
    struct schedule_step step;
    sessions_init(&t, 8);
    struct session *a = add(&t, 1, 50, false);
    session_admit(&t, 1);
    a->sent = a->done = 1;
    session_accept(a, 5);
    add(&t, 1000, 1, false);
    assert_true(schedule_next(&t, &roomy, 0, &step));
    assert_int_equal(step.n_parts, 2);
    assert_int_equal(step.parts[0].n, 1);
    assert_int_equal(step.parts[0].sequence, a->sequence);
    assert_int_equal(step.parts[1].n, 128);
    sessions_close(&t);
}

static void test_what_does_not_fit_keeps_its_turn(void **state)
{
    (void)state;
    struct schedule_limits l = roomy;
    struct sessions t;
    struct schedule_step step;
    l.pages = 4;
    sessions_init(&t, 8);
    struct session *a = add(&t, 64, 64, false); /* 2 pages */
    struct session *b = add(&t, 64, 128, false); /* 3 pages */
    struct session *c = add(&t, 10, 1, false);  /* 1 page, but b is before it */
    assert_true(schedule_next(&t, &l, 0, &step));
    assert_int_equal(step.n_parts, 1);
    assert_int_equal(a->state, SESSION_RUNNING);
    assert_int_equal(b->state, SESSION_WAITING);
    assert_int_equal(c->state, SESSION_WAITING);
    session_remove(&t, a); /* cancelled while its rows are under way */
    assert_true(schedule_next(&t, &l, 0, &step));
    assert_int_equal(step.n_ends, 1); /* its end makes room in the same step */
    assert_int_equal(step.n_parts, 2);
    assert_int_equal(t.pages_used, 4);
    sessions_close(&t);
}

static void test_rows_with_logits_are_few_and_alone(void **state)
{
    (void)state;
    struct schedule_limits l = roomy;
    struct sessions t;
    struct schedule_step step, none;
    l.stages = 3;
    sessions_init(&t, 8);
    struct session *a = add(&t, 80, 0, true);
    assert_true(schedule_next(&t, &l, 0, &step));
    assert_int_equal(step.n_rows, 32);
    assert_false(step.parts[0].sample);
    assert_false(schedule_next(&t, &l, 1, &none)); /* the first ones come back before more are sent */
    a->done = 32;
    assert_true(schedule_next(&t, &l, 0, &step));
    assert_int_equal(step.parts[0].first, 32);
    a->done = 64;
    a->held = true;
    assert_false(schedule_next(&t, &l, 0, &step));
    sessions_close(&t);
}

static void test_openings_stay_within_a_frame(void **state)
{
    (void)state;
    struct schedule_limits l = roomy;
    struct sessions t;
    struct schedule_step step;
    l.sequences_max = 256;
    sessions_init(&t, 100);
    const uint32_t open_bytes = SCHEDULE_OPEN_BYTES + FRAME_BIAS_MAX * SCHEDULE_BIAS_BYTES;
    for (int i = 0; i < 100; i++)
        add(&t, 4, 4, false)->open_bytes = open_bytes;
    uint32_t opened = 0;
    while (opened < 100) {
        assert_true(schedule_next(&t, &l, 0, &step));
        uint64_t bytes = 16 + 12 * FRAME_STAGES_MAX + 24 * (uint64_t)step.n_rows;
        for (uint32_t i = 0; i < step.n_parts; i++)
            bytes += step.parts[i].open ? open_bytes : 0;
        assert_true(bytes <= FRAME_META_MAX);
        opened += step.n_parts;
    }
    sessions_close(&t);
}

/* ---- simulations ---- */

enum { SIM_SESSIONS = 60, SIM_STEPS_MAX = 200000 };

struct held { /* a sequence as a stage knows it */
    uint64_t sequence;
    uint32_t length;
};

struct sim {
    struct sessions t;
    struct schedule_limits l;
    struct random_state r;
    struct schedule_step *flight[8];
    uint32_t in_flight, to_come, finished, cancelled, n_held;
    struct held held[FRAME_SEQUENCES_MAX];
    uint64_t steps, rows, hash;
};

static struct held *held_find(struct sim *m, uint64_t sequence)
{
    for (uint32_t i = 0; i < m->n_held; i++) {
        if (m->held[i].sequence == sequence)
            return &m->held[i];
    }
    return NULL;
}

/* A stage's own view of the laws: what it would refuse fails the test. */
static void stage_takes(struct sim *m, const struct schedule_step *step)
{
    uint32_t rows = 0, logits = 0, pages = 0;
    for (uint32_t i = 0; i < step->n_ends; i++) {
        struct held *h = held_find(m, step->ends[i].sequence);
        assert_non_null(h);
        *h = m->held[--m->n_held];
    }
    for (uint32_t i = 0; i < step->n_parts; i++) {
        const struct schedule_part *p = &step->parts[i];
        struct held *h = held_find(m, p->sequence);
        assert_true(p->open == !h);
        if (!h) {
            assert_true(m->n_held < m->l.sequences_max);
            h = &m->held[m->n_held++];
            *h = (struct held){p->sequence, 0};
        }
        assert_int_equal(p->first, h->length);
        assert_true(p->n > 0);
        h->length += p->n;
        rows += p->n;
        logits += session_find(&m->t, p->slot, p->sequence)->every_row ? p->n : 0;
        for (uint32_t k = 0; k < i; k++)
            assert_true(step->parts[k].sequence != p->sequence);
        m->hash = m->hash * 1099511628211u + p->sequence * 31 + p->first * 7 + p->n;
    }
    for (uint32_t i = 0; i < m->n_held; i++)
        pages += schedule_pages(&m->l, m->held[i].length);
    assert_int_equal(rows, step->n_rows);
    assert_true(rows <= m->l.rows_max && logits <= m->l.values_rows_max && pages <= m->l.pages);
}

static void arrive(struct sim *m)
{
    uint64_t most = (uint64_t)m->l.pages * m->l.page_tokens;
    uint32_t n = 1 + (uint32_t)(random_u64(&m->r) % (most < 400 ? most : 400));
    uint64_t room = most - n;
    uint32_t generate = room ? (uint32_t)(random_u64(&m->r) % (room < 60 ? room : 60)) : 0;
    bool logits = random_u64(&m->r) % 8 == 0;
    assert_non_null(add(&m->t, n, logits ? 0 : generate, logits));
    m->to_come--;
}

static bool finished(const struct session *s)
{
    return s->tokens_max > s->n_prompt ? session_full(s) : s->done == s->n_prompt;
}

static void oldest_comes_back(struct sim *m)
{
    struct schedule_step *step = m->flight[0];
    for (uint32_t i = 0; i < step->n_parts; i++) {
        const struct schedule_part *p = &step->parts[i];
        struct session *s = session_find(&m->t, p->slot, p->sequence);
        if (!s)
            continue;
        assert_int_equal(s->done, p->first);
        s->done += p->n;
        assert_true(p->sample == (p->first + p->n == s->n_tokens && s->tokens_max > s->n_prompt && !s->every_row));
        if (p->sample)
            session_accept(s, 1);
        if (finished(s)) {
            session_remove(&m->t, s);
            m->finished++;
        }
    }
    memmove(m->flight, m->flight + 1, --m->in_flight * sizeof(*m->flight));
    mem_free(step);
}

static void cancel_one(struct sim *m)
{
    uint32_t all = m->t.n_running + m->t.n_waiting;
    if (all == 0)
        return;
    uint32_t i = (uint32_t)(random_u64(&m->r) % all);
    uint32_t slot = i < m->t.n_running ? m->t.running[i] : m->t.waiting[i - m->t.n_running];
    session_remove(&m->t, &m->t.all[slot]);
    m->cancelled++;
}

/* Rows that could be sent while the route has room are sent. */
static void route_is_full_when_work_allows(struct sim *m)
{
    if (m->in_flight >= m->l.stages)
        return;
    for (uint32_t i = 0; i < m->t.n_running; i++) {
        const struct session *s = &m->t.all[m->t.running[i]];
        assert_false(session_ready(s) && !(s->every_row && s->done < s->sent));
    }
    assert_int_equal(m->t.n_ends, 0);
}

static uint64_t simulate(uint64_t seed)
{
    struct sim *m = mem_alloc(sizeof(*m));
    random_seed(&m->r, seed);
    sessions_init(&m->t, SIM_SESSIONS);
    m->l = (struct schedule_limits){
        .stages = 1 + (uint32_t)(random_u64(&m->r) % 5), .rows_max = 1 + (uint32_t)(random_u64(&m->r) % 200),
        .values_rows_max = 1 + (uint32_t)(random_u64(&m->r) % 16), .page_tokens = 16,
        .sequences_max = 1 + (uint32_t)(random_u64(&m->r) % 12), .pages = 1 + (uint32_t)(random_u64(&m->r) % 90)};
    m->to_come = SIM_SESSIONS;
    while (m->finished + m->cancelled < SIM_SESSIONS || m->in_flight > 0 || m->t.n_ends > 0) {
        assert_true(++m->steps < SIM_STEPS_MAX);
        uint64_t dice = random_u64(&m->r) % 100;
        if (m->to_come > 0 && dice < 30)
            arrive(m);
        if (dice >= 97)
            cancel_one(m);
        struct schedule_step *step = mem_alloc(sizeof(*step));
        while (schedule_next(&m->t, &m->l, m->in_flight, step)) {
            stage_takes(m, step);
            m->flight[m->in_flight++] = step;
            assert_true(m->in_flight <= m->l.stages);
            step = mem_alloc(sizeof(*step));
        }
        mem_free(step);
        route_is_full_when_work_allows(m);
        if (m->in_flight > 0 && dice % 3 != 0)
            oldest_comes_back(m);
        if (m->to_come == SIM_SESSIONS - m->finished - m->cancelled && m->to_come > 0)
            arrive(m);
    }
    assert_int_equal(m->n_held, 0);
    assert_int_equal(m->t.pages_used, 0);
    assert_int_equal(m->t.n_places, 0);
    uint64_t hash = m->hash;
    sessions_close(&m->t);
    mem_free(m);
    return hash;
}

static void test_every_sequence_ends_and_no_law_is_broken(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++)
        simulate(seed);
}

static void test_the_same_past_gives_the_same_steps(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++)
        assert_true(simulate(seed) == simulate(seed));
    assert_true(simulate(1) != simulate(2));
}

/* More sequences than a step has rows, prompts and decoders: nobody waits for long. */
static void everybody_is_served(uint32_t rows_max, uint32_t wait_max)
{
    struct schedule_limits l = roomy;
    struct sessions t;
    struct schedule_step step;
    uint32_t waited[10] = {0};
    l.rows_max = rows_max;
    sessions_init(&t, 10);
    for (int i = 0; i < 10; i++)
        add(&t, 5 + 20 * (uint32_t)i, 200, false);
    while (schedule_next(&t, &l, 0, &step) && t.n_running > 0) {
        for (uint32_t i = 0; i < t.n_running; i++)
            assert_true(++waited[t.running[i]] <= wait_max);
        for (uint32_t i = 0; i < step.n_parts; i++)
            waited[step.parts[i].slot] = 0;
        come_back(&t, &step);
    }
    assert_int_equal(t.n_running + t.n_waiting, 0);
    sessions_close(&t);
}

static void test_nobody_waits_for_long(void **state)
{
    (void)state;
    everybody_is_served(1, 10); /* strictly in turn */
    everybody_is_served(3, 20);
    everybody_is_served(4, 20);
    everybody_is_served(8, 20);
    everybody_is_served(512, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_stage_takes_a_prompt_whole),
        cmocka_unit_test(test_a_prompt_fills_the_stages_with_pieces),
        cmocka_unit_test(test_sequences_spread_over_the_stages),
        cmocka_unit_test(test_prompts_are_smaller_beside_decoders),
        cmocka_unit_test(test_what_does_not_fit_keeps_its_turn),
        cmocka_unit_test(test_rows_with_logits_are_few_and_alone),
        cmocka_unit_test(test_openings_stay_within_a_frame),
        cmocka_unit_test(test_every_sequence_ends_and_no_law_is_broken),
        cmocka_unit_test(test_the_same_past_gives_the_same_steps),
        cmocka_unit_test(test_nobody_waits_for_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
