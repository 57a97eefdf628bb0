/* test_kv: pages are taken and given back as sequences grow, shrink and end; refused steps change nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "shard/run/kv.h"

enum { PAGE = KV_PAGE_TOKENS, ROWS_MAX = 256 };

static struct kv *create(uint32_t pages, uint32_t sequences, uint32_t context)
{
    struct kv_limits l = {.pages = pages, .sequences = sequences, .context = context};
    struct kv *kv;
    assert_int_equal(kv_create(&kv, &l, NULL), 0);
    return kv;
}

struct piece { /* rows of one sequence in a step */
    uint64_t sequence;
    uint32_t epoch, position, n;
};

static int take(struct kv *kv, const struct piece *pieces, size_t n_pieces, struct attention_row *out)
{
    struct step_row rows[ROWS_MAX];
    uint32_t n = 0;
    for (size_t i = 0; i < n_pieces; i++)
        for (uint32_t k = 0; k < pieces[i].n; k++)
            rows[n++] = (struct step_row){.sequence = pieces[i].sequence, .epoch = pieces[i].epoch,
                                          .position = pieces[i].position + k};
    struct error e = {0};
    int r = kv_take(kv, rows, n, out, &e);
    assert_true(r == 0 || e.text[0] != '\0');
    return r;
}

static int take_one(struct kv *kv, uint64_t sequence, uint32_t epoch, uint32_t position, uint32_t n)
{
    struct attention_row out[ROWS_MAX];
    return take(kv, &(struct piece){sequence, epoch, position, n}, 1, out);
}

static void test_kv_pages_follow_length(void **state)
{
    (void)state;
    struct kv *kv = create(8, 4, 10 * PAGE);
    assert_int_equal(take_one(kv, 5, 0, 0, 1), 0);
    assert_int_equal(kv_pages_used(kv), 1);
    assert_int_equal(take_one(kv, 5, 0, 1, PAGE - 1), 0);
    assert_int_equal(kv_pages_used(kv), 1);
    assert_int_equal(take_one(kv, 5, 0, PAGE, 1), 0);
    assert_int_equal(kv_pages_used(kv), 2);
    assert_int_equal(take_one(kv, 5, 0, PAGE + 1, 2 * PAGE), 0);
    assert_int_equal(kv_pages_used(kv), 4);
    assert_int_equal(kv_length(kv, 5), 3 * PAGE + 1);
    assert_int_equal(take_one(kv, 5, 0, PAGE - 1, 1), 0); /* back by two pages and more */
    assert_int_equal(kv_pages_used(kv), 1);
    assert_int_equal(kv_length(kv, 5), PAGE);
    kv_end(kv, 5);
    kv_end(kv, 5);
    assert_int_equal(kv_pages_used(kv), 0);
    assert_int_equal(kv_sequences(kv), 0);
    assert_int_equal(kv_length(kv, 5), 0);
    kv_destroy(&kv);
}

static void test_kv_rows_know_their_pages(void **state)
{
    (void)state;
    struct kv *kv = create(8, 4, 10 * PAGE);
    struct attention_row out[ROWS_MAX];
    const struct piece pieces[] = {{1, 0, 0, PAGE + 2}, {2, 0, 0, 3}};
    assert_int_equal(take(kv, pieces, 2, out), 0);
    for (uint32_t i = 0; i < PAGE + 5; i++) {
        assert_int_equal(out[i].position, i < PAGE + 2 ? i : i - PAGE - 2);
        assert_ptr_equal(out[i].pages, out[i < PAGE + 2 ? 0 : PAGE + 2].pages);
    }
    uint32_t a = out[0].pages[0], b = out[0].pages[1], c = out[PAGE + 2].pages[0];
    assert_true(a != b && b != c && a != c && a < 8 && b < 8 && c < 8);
    kv_destroy(&kv);
}

static void test_kv_steps_that_are_none_are_invalid(void **state)
{
    (void)state;
    struct kv *kv = create(8, 4, 10 * PAGE);
    struct attention_row out[8];
    const struct step_row cases[][3] = {
        {{.sequence = 1, .position = 0}, {.sequence = 1, .position = 2}, {.sequence = 2}},
        {{.sequence = 1, .position = 1}, {.sequence = 1, .position = 0}, {.sequence = 2}},
        {{.sequence = 1, .position = 0}, {.sequence = 1, .position = 0}, {.sequence = 2}},
        {{.sequence = 1, .position = 0}, {.sequence = 1, .position = 1, .epoch = 1}, {.sequence = 2}},
        {{.sequence = 1, .position = 0}, {.sequence = 2, .position = 0}, {.sequence = 1, .position = 1}},
        {{.sequence = 1, .position = 0}, {.sequence = 1, .position = UINT32_MAX}, {.sequence = 2}},
        {{.sequence = 1, .position = 0}, {.sequence = 1, .position = 1, .adapter = 1}, {.sequence = 2}},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        assert_int_equal(kv_take(kv, cases[i], 3, out, NULL), ERR_INVALID);
        assert_int_equal(kv_pages_used(kv), 0);
        assert_int_equal(kv_sequences(kv), 0);
    }
    kv_destroy(&kv);
}

static void test_kv_epochs_gaps_and_context(void **state)
{
    (void)state;
    struct kv *kv = create(8, 4, 100);
    assert_int_equal(take_one(kv, 1, 3, 1, 1), ERR_CONFLICT); /* unknown, and not at 0 */
    assert_int_equal(take_one(kv, 1, 3, 0, 10), 0);
    assert_int_equal(take_one(kv, 1, 3, 11, 1), ERR_CONFLICT); /* a gap */
    assert_int_equal(take_one(kv, 1, 2, 10, 1), ERR_CONFLICT); /* old epoch */
    assert_int_equal(take_one(kv, 1, 2, 0, 1), ERR_CONFLICT);
    assert_int_equal(take_one(kv, 1, 4, 10, 1), ERR_CONFLICT); /* new epoch, not at 0 */
    assert_int_equal(kv_length(kv, 1), 10);
    assert_int_equal(take_one(kv, 1, 3, 9, 1), 0); /* the last one again */
    assert_int_equal(kv_length(kv, 1), 10);
    assert_int_equal(take_one(kv, 1, 3, 10, 91), ERR_LIMIT);
    assert_int_equal(take_one(kv, 1, 3, UINT32_MAX, 1), ERR_LIMIT);
    assert_int_equal(take_one(kv, 1, 3, 10, 90), 0);
    assert_int_equal(take_one(kv, 1, 4, 0, 5), 0); /* new epoch: anew */
    assert_int_equal(kv_length(kv, 1), 5);
    assert_int_equal(take_one(kv, 1, 3, 5, 1), ERR_CONFLICT);
    kv_destroy(&kv);
}

static void test_kv_exhausted_is_busy_and_keeps_nothing(void **state)
{
    (void)state;
    struct kv *kv = create(3, 2, 10 * PAGE);
    struct attention_row out[ROWS_MAX];
    assert_int_equal(take_one(kv, 1, 0, 0, 2 * PAGE), 0);
    const struct piece both[] = {{1, 0, 2 * PAGE, 1}, {2, 0, 0, 1}};
    assert_int_equal(take(kv, both, 2, out), ERR_BUSY);
    assert_int_equal(kv_length(kv, 1), 2 * PAGE);
    assert_int_equal(kv_length(kv, 2), 0);
    assert_int_equal(kv_pages_used(kv), 2);
    assert_int_equal(kv_sequences(kv), 1);
    /* what one gives back serves the other in the same step, whichever comes first */
    const struct piece swap[] = {{2, 0, 0, 2 * PAGE}, {1, 0, 0, 1}};
    assert_int_equal(take(kv, swap, 2, out), 0);
    assert_int_equal(kv_pages_used(kv), 3);
    assert_int_equal(take_one(kv, 3, 0, 0, 1), ERR_BUSY); /* two sequences are all */
    kv_end(kv, 2);
    assert_int_equal(take_one(kv, 3, 0, 0, 1), 0);
    kv_clear(kv);
    assert_int_equal(kv_pages_used(kv), 0);
    assert_int_equal(kv_sequences(kv), 0);
    const struct piece many[] = {{1, 0, 0, 1}, {2, 0, 0, 1}, {3, 0, 0, 1}};
    assert_int_equal(take(kv, many, 3, out), ERR_BUSY);
    assert_int_equal(kv_sequences(kv), 0);
    kv_destroy(&kv);
}

/* Any steps: a page belongs to one sequence at most, and none is lost. */
static void test_kv_pages_are_never_shared_or_lost(void **state)
{
    (void)state;
    enum { PAGES = 12, SEQUENCES = 5, CONTEXT = 6 * PAGE };
    struct kv *kv = create(PAGES, SEQUENCES, CONTEXT);
    struct random_state r;
    uint32_t lengths[SEQUENCES] = {0}, kept = 0, refused = 0;
    const uint32_t *lists[SEQUENCES] = {0};
    random_seed(&r, 11);
    for (int round = 0; round < 20000; round++) {
        struct attention_row out[ROWS_MAX];
        uint32_t id = (uint32_t)(random_u64(&r) % SEQUENCES), n = 1 + (uint32_t)(random_u64(&r) % (2 * PAGE));
        uint32_t back = (uint32_t)(random_u64(&r) % 8) == 0 ? lengths[id] / 2 : 0;
        if (random_u64(&r) % 16 == 0) {
            kv_end(kv, id);
            lengths[id] = 0;
            continue;
        }
        struct piece piece = {id, 0, lengths[id] - back, n};
        if (take(kv, &piece, 1, out) == 0) {
            lengths[id] = piece.position + n;
            lists[id] = out[0].pages;
            kept++;
        } else {
            refused++;
        }
        uint32_t used = 0;
        bool taken[PAGES] = {0};
        for (uint32_t s = 0; s < SEQUENCES; s++) {
            assert_int_equal(kv_length(kv, s), lengths[s]);
            for (uint32_t p = 0; p < (lengths[s] + PAGE - 1) / PAGE; p++, used++) {
                assert_true(lists[s][p] < PAGES && !taken[lists[s][p]]);
                taken[lists[s][p]] = true;
            }
        }
        assert_int_equal(kv_pages_used(kv), used);
    }
    assert_true(kept > 1000 && refused > 1000);
    kv_destroy(&kv);
}

/* With states, a sequence goes on from its end, from where its last step began, or from 0. */
static void test_kv_states_go_back_one_step(void **state)
{
    (void)state;
    struct kv_limits l = {.pages = 8, .sequences = 2, .context = 4 * PAGE, .states = true};
    const struct delta_run *runs;
    struct kv *kv;
    assert_int_equal(kv_create(&kv, &l, NULL), 0);
    assert_int_equal(take_one(kv, 5, 0, 0, 10), 0);
    assert_int_equal(kv_runs(kv, &runs), 1);
    assert_true(runs[0].from == DELTA_NOTHING && runs[0].n == 10);
    uint32_t at10 = runs[0].to;
    assert_int_equal(take_one(kv, 5, 0, 10, 5), 0);
    assert_int_equal(kv_runs(kv, &runs), 1);
    assert_true(runs[0].from == at10 && runs[0].to != at10 && runs[0].to < 4);
    uint32_t other = runs[0].to;
    assert_int_equal(take_one(kv, 5, 0, 10, 3), 0); /* again, and shorter */
    kv_runs(kv, &runs);
    assert_true(runs[0].from == at10 && runs[0].to == other);
    assert_int_equal(take_one(kv, 5, 0, 12, 1), ERR_CONFLICT);
    assert_int_equal(take_one(kv, 5, 0, 13, 1), 0);
    assert_int_equal(take_one(kv, 5, 0, 10, 1), ERR_CONFLICT); /* two steps back */
    assert_int_equal(kv_length(kv, 5), 14);
    assert_int_equal(take_one(kv, 5, 0, 0, 2), 0);
    assert_int_equal(take_one(kv, 6, 0, 0, 2), 0);
    assert_int_equal(kv_runs(kv, &runs), 1);
    assert_true(runs[0].from == DELTA_NOTHING && runs[0].to >= 2);
    kv_destroy(&kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_states_go_back_one_step),
        cmocka_unit_test(test_kv_pages_follow_length),
        cmocka_unit_test(test_kv_rows_know_their_pages),
        cmocka_unit_test(test_kv_steps_that_are_none_are_invalid),
        cmocka_unit_test(test_kv_epochs_gaps_and_context),
        cmocka_unit_test(test_kv_exhausted_is_busy_and_keeps_nothing),
        cmocka_unit_test(test_kv_pages_are_never_shared_or_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
