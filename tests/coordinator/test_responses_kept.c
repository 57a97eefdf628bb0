/* test_responses_kept: what is kept of responses, and what makes room. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "coordinator/api/responses_kept.h"

enum { BYTES_MAX = 512 << 10, BIG = BYTES_MAX / RESPONSES_SHARE, OWNER = 7 };

static int create(void **state)
{
    *state = responses_kept_create(BYTES_MAX);
    return 0;
}

static int destroy(void **state)
{
    responses_kept_destroy((struct responses_kept **)state);
    assert_null(*state);
    responses_kept_destroy((struct responses_kept **)state);
    return 0;
}

static const char *name_of(char text[static 16], unsigned i)
{
    snprintf(text, 16, "resp_%u", i);
    return text;
}

static void add(struct responses_kept *k, unsigned i, const char *text)
{
    char id[16];
    json_t *object = json_pack("{s:i}", "n", (int)i), *items = json_pack("[s]", text);
    responses_kept_add(k, OWNER, name_of(id, i), object, items);
    json_decref(object);
    json_decref(items);
}

static bool has(struct responses_kept *k, unsigned i)
{
    char id[16];
    json_t *j = responses_kept_get(k, OWNER, name_of(id, i), RESPONSE_OBJECT);
    if (j != NULL)
        assert_int_equal(json_integer_value(json_object_get(j, "n")), i);
    json_decref(j);
    return j != NULL;
}

static void test_both_sides_come_back(void **state)
{
    add(*state, 1, "one");
    add(*state, 2, "two");
    assert_true(has(*state, 1) && has(*state, 2));
    json_t *items = responses_kept_get(*state, OWNER, "resp_2", RESPONSE_ITEMS);
    assert_string_equal(json_string_value(json_array_get(items, 0)), "two");
    json_decref(items);
    assert_null(responses_kept_get(*state, OWNER, "resp_3", RESPONSE_ITEMS));
    assert_null(responses_kept_get(*state, OWNER, "", RESPONSE_ITEMS));
}

static void test_others_find_nothing(void **state)
{
    add(*state, 1, "one");
    assert_null(responses_kept_get(*state, 0, "resp_1", RESPONSE_OBJECT));
    assert_null(responses_kept_get(*state, OWNER + 1, "resp_1", RESPONSE_ITEMS));
    assert_false(responses_kept_drop(*state, OWNER + 1, "resp_1"));
    assert_true(has(*state, 1));
}

static void test_the_oldest_make_room(void **state)
{
    for (unsigned i = 0; i < RESPONSES_KEPT + 3; i++)
        add(*state, i, "");
    assert_false(has(*state, 2));
    assert_true(has(*state, 3));
    assert_true(has(*state, RESPONSES_KEPT + 2));
}

static void test_dropped_ones_leave_no_trace(void **state)
{
    add(*state, 1, "");
    add(*state, 2, "");
    assert_true(responses_kept_drop(*state, OWNER, "resp_1"));
    assert_false(responses_kept_drop(*state, OWNER, "resp_1"));
    assert_true(has(*state, 2) && !has(*state, 1));
    for (unsigned i = 3; i < RESPONSES_KEPT + 3; i++)
        add(*state, i, "");
    assert_false(has(*state, 2));
    assert_true(has(*state, 3) && has(*state, RESPONSES_KEPT + 2));
}

/* Bytes count, and what is too large is not kept at all. */
static void test_bytes_are_bounded(void **state)
{
    const unsigned fit = RESPONSES_SHARE;
    char *text = mem_alloc(2 * BIG + 1);
    memset(text, 'a', 2 * BIG);
    add(*state, 99, text);
    assert_false(has(*state, 99));
    text[BIG - 100] = '\0';
    for (unsigned i = 0; i < fit; i++)
        add(*state, i, text);
    assert_true(has(*state, 0));
    assert_true(responses_kept_drop(*state, OWNER, "resp_5")); /* its room can be used */
    add(*state, fit, text);
    assert_true(has(*state, 0) && has(*state, fit));
    add(*state, fit + 1, text);
    assert_true(!has(*state, 0) && has(*state, 1));
    mem_free(text);
}

static void *use(void *arg)
{
    struct responses_kept *k = arg;
    char id[16];
    for (unsigned i = 0; i < 300; i++) {
        add(k, i, "some text");
        (void)has(k, i / 2);
        (void)responses_kept_drop(k, OWNER, name_of(id, i / 3));
    }
    return NULL;
}

static void test_threads_share_it(void **state)
{
    pthread_t threads[3];
    for (size_t i = 0; i < COUNTOF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use, *state), 0);
    for (size_t i = 0; i < COUNTOF(threads); i++)
        pthread_join(threads[i], NULL);
    add(*state, 1000, "last");
    assert_true(has(*state, 1000));
}

int main(void)
{
#define WITH_KEPT(test) cmocka_unit_test_setup_teardown(test, create, destroy)
    const struct CMUnitTest tests[] = {
        WITH_KEPT(test_both_sides_come_back),
        WITH_KEPT(test_others_find_nothing),
        WITH_KEPT(test_the_oldest_make_room),
        WITH_KEPT(test_dropped_ones_leave_no_trace),
        WITH_KEPT(test_bytes_are_bounded),
        WITH_KEPT(test_threads_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
