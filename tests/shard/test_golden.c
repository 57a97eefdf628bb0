/* test_golden: the forward pass against logits that another implementation recorded, whole and cut into shards;
 * and the demo model's answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "golden_check.h"
#include "route.h"

#define DEMO "tests/data/shoal-demo-q8_0.gguf"
#define ANSWERS "tests/data/answers.json"

static void test_golden_logits_and_continuation_come_out(void **state)
{
    (void)state;
    golden_each(golden_check_logits);
}

static void test_golden_splits_give_the_same_bits(void **state)
{
    (void)state;
    golden_each(golden_check_splits);
}

/* ---- the demo model ---- */

static uint32_t read_tokens(const json_t *array, int32_t **out)
{
    size_t n = json_array_size(array);
    assert_true(n > 0);
    *out = mem_array(n, sizeof(int32_t));
    for (size_t i = 0; i < n; i++)
        (*out)[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return (uint32_t)n;
}

static void check_answer(struct route *r, const json_t *entry, uint64_t id)
{
    int32_t *prompt, *answer;
    uint32_t n = read_tokens(json_object_get(entry, "prompt_tokens"), &prompt);
    uint32_t n_answer = read_tokens(json_object_get(entry, "answer_tokens"), &answer);
    uint32_t n_vocab = model_hparams(r->model)->n_vocab;
    int32_t *got = mem_array(n_answer, sizeof(int32_t));
    float *logits = route_run(r, id, 0, prompt, n, 64);
    route_greedy(r, id, n, (int32_t)route_argmax(logits + (size_t)(n - 1) * n_vocab, n_vocab), got, n_answer);
    if (memcmp(got, answer, n_answer * sizeof(int32_t)) != 0)
        fail_msg("another answer to: %s", json_string_value(json_object_get(entry, "prompt")));
    shard_end(r->shards[0], id);
    mem_free(logits);
    mem_free(got);
    mem_free(answer);
    mem_free(prompt);
}

static void check_answers(enum kv_type kv_type)
{
    json_error_t error;
    json_t *answers = json_load_file(ANSWERS, 0, &error), *entry;
    assert_non_null(answers);
    struct route r;
    size_t i, n = 0;
    route_open(&r, &(struct route_options){.path = DEMO, .kv_type = kv_type});
    json_array_foreach(answers, i, entry) {
        if (!json_is_true(json_object_get(json_object_get(entry, "same_in_llama_cpp"), "q8_0")))
            continue;
        check_answer(&r, entry, i);
        n++;
    }
    print_message("    %zu answers\n", n);
    assert_true(n > 0);
    route_close(&r);
    json_decref(answers);
}

static void test_demo_model_gives_its_answers(void **state)
{
    (void)state;
    check_answers(KV_F16);
    check_answers(KV_Q8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_logits_and_continuation_come_out),
        cmocka_unit_test(test_golden_splits_give_the_same_bits),
        cmocka_unit_test(test_demo_model_gives_its_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
