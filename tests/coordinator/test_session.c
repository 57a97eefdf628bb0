/* test_session: the table of sequences: order, accounts of pages and places, ends that are due. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "coordinator/session.h"

static const int32_t prompt[4] = {11, 12, 13, 14};

static struct session *add(struct sessions *t, uint32_t generate)
{
    return session_add(t, &(struct session_new){.prompt = prompt, .n_prompt = 4, .generate_max = generate});
}

static void test_arrivals_wait_in_order(void **state)
{
    (void)state;
    struct sessions t;
    sessions_init(&t, 3);
    struct session *a = add(&t, 1), *b = add(&t, 1), *c = add(&t, 1);
    assert_null(add(&t, 1));
    assert_true(a->sequence < b->sequence && b->sequence < c->sequence);
    session_remove(&t, b);
    assert_ptr_equal(session_admit(&t, 2), a);
    assert_ptr_equal(session_admit(&t, 3), c);
    assert_int_equal(t.n_waiting, 0);
    assert_int_equal(t.n_running, 2);
    assert_int_equal(t.pages_used, 5);
    assert_int_equal(t.n_places, 2);
    sessions_close(&t);
}

static void test_a_slot_that_is_used_again_has_another_name(void **state)
{
    (void)state;
    struct sessions t;
    sessions_init(&t, 1);
    struct session *a = add(&t, 1);
    uint64_t first = a->sequence;
    uint32_t slot = a->slot;
    assert_ptr_equal(session_find(&t, slot, first), a);
    session_remove(&t, a);
    assert_null(session_find(&t, slot, first));
    struct session *b = add(&t, 1);
    assert_int_equal(b->slot, slot);
    assert_null(session_find(&t, slot, first));
    assert_ptr_equal(session_find(&t, slot, b->sequence), b);
    assert_null(session_find(&t, 1, b->sequence));
    assert_null(session_find(&t, UINT32_MAX, b->sequence));
    sessions_close(&t);
}

static void test_tokens_grow_up_to_their_limit(void **state)
{
    (void)state;
    struct sessions t;
    sessions_init(&t, 1);
    struct session *a = add(&t, 1000);
    for (int32_t i = 0; i < 1000; i++) {
        assert_false(session_full(a));
        session_accept(a, i);
    }
    assert_true(session_full(a));
    assert_memory_equal(a->tokens, prompt, sizeof(prompt));
    for (int32_t i = 0; i < 1000; i++)
        assert_int_equal(a->tokens[4 + i], i);
    sessions_close(&t);
}

static void test_pages_stay_held_until_the_end_is_taken(void **state)
{
    (void)state;
    struct sessions t;
    struct session_end ends[4];
    sessions_init(&t, 4);
    struct session *a = add(&t, 1), *b = add(&t, 1);
    uint64_t name = a->sequence;
    session_admit(&t, 7);
    session_admit(&t, 5);
    a->sent = 4; /* the stages know a, not b */
    session_remove(&t, a);
    session_remove(&t, b);
    assert_int_equal(t.pages_used, 7);
    assert_int_equal(t.n_places, 1);
    assert_int_equal(session_ends_take(&t, ends, 4), 1);
    assert_int_equal(ends[0].sequence, name);
    assert_int_equal(t.pages_used, 0);
    assert_int_equal(t.n_places, 0);
    assert_int_equal(session_ends_take(&t, ends, 4), 0);
    sessions_close(&t);
}

static void test_ends_are_taken_oldest_first(void **state)
{
    (void)state;
    struct sessions t;
    struct session_end ends[200];
    sessions_init(&t, 1);
    for (uint64_t i = 0; i < 200; i++)
        session_end_due(&t, i, 1);
    assert_int_equal(session_ends_take(&t, ends, 150), 150);
    for (uint64_t i = 0; i < 150; i++)
        assert_int_equal(ends[i].sequence, i);
    assert_int_equal(t.pages_used, 50);
    assert_int_equal(session_ends_take(&t, ends, 200), 50);
    assert_int_equal(ends[0].sequence, 150);
    session_end_due(&t, 9, 3);
    sessions_forget_route(&t);
    assert_int_equal(session_ends_take(&t, ends, 200), 0);
    assert_int_equal(t.pages_used, 0);
    sessions_close(&t);
}

static void test_readiness_follows_tokens_and_rows(void **state)
{
    (void)state;
    struct sessions t;
    sessions_init(&t, 1);
    struct session *a = add(&t, 2);
    assert_false(session_ready(a)); /* it waits */
    session_admit(&t, 1);
    assert_true(session_ready(a));
    assert_false(session_decoding(a));
    a->sent = 4;
    assert_false(session_ready(a)); /* the next token is not known */
    assert_true(session_decoding(a));
    session_accept(a, 5);
    assert_true(session_ready(a));
    a->held = true;
    assert_false(session_ready(a));
    sessions_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrivals_wait_in_order),
        cmocka_unit_test(test_a_slot_that_is_used_again_has_another_name),
        cmocka_unit_test(test_tokens_grow_up_to_their_limit),
        cmocka_unit_test(test_pages_stay_held_until_the_end_is_taken),
        cmocka_unit_test(test_ends_are_taken_oldest_first),
        cmocka_unit_test(test_readiness_follows_tokens_and_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
