/* test_embeddings: vectors of texts in every shape that clients send and read, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tests/coordinator/api_rig.h"

enum { WIDTH = 256 };

static struct reply call(void **state, const char *body)
{
    return rig_call(*state, "/v1/embeddings", body, NULL);
}

/* What the fake engine's row gives, cut to `width` and scaled to length one. */
static void expected_vector(uint32_t row, uint32_t width, double *out)
{
    double square = 0;
    for (uint32_t i = 0; i < width; i++) {
        out[i] = (double)fake_logit(row, i, WIDTH);
        square += out[i] * out[i];
    }
    for (uint32_t i = 0; i < width && square > 0; i++) /* the first value alone is 0 in most rows */
        out[i] /= sqrt(square);
}

static void check_vector(const struct reply *r, uint32_t i, uint32_t row, uint32_t width)
{
    double want[WIDTH];
    char where[32];
    snprintf(where, sizeof(where), "data.%u.embedding", i);
    const json_t *got = reply_at(r, where);
    expected_vector(row, width, want);
    assert_int_equal(json_array_size(got), width);
    for (uint32_t k = 0; k < width; k++)
        assert_true(fabs(json_number_value(json_array_get(got, k)) - want[k]) < 1e-6);
}

static void assert_refused(void **state, const char *body, int status, const char *param)
{
    struct reply r = call(state, body);
    if (r.status != status || strcmp(reply_text(&r, "error.param") ? reply_text(&r, "error.param") : "", param) != 0)
        fail_msg("%d and the field %s were expected for %.300s:\n%d %s", status, param, body, r.status, r.body);
    reply_free(&r);
}

/* ---- answers ---- */

static void test_a_text_becomes_the_last_row_at_length_one(void **state)
{
    struct token_list ids = rig_tokens(*state, "Hello there");
    struct reply r = call(state, "{\"input\":\"Hello there\",\"model\":\"org/demo:q8\",\"user\":\"u\"}");
    assert_int_equal(r.status, 200);
    check_vector(&r, 0, (uint32_t)ids.count - 1, WIDTH);
    assert_string_equal(reply_text(&r, "object"), "list");
    assert_string_equal(reply_text(&r, "data.0.object"), "embedding");
    assert_string_equal(reply_text(&r, "model"), "org/demo:q8");
    assert_int_equal(json_integer_value(reply_at(&r, "usage.prompt_tokens")), ids.count);
    assert_int_equal(json_integer_value(reply_at(&r, "usage.total_tokens")), ids.count);
    struct fake_seen seen;
    fake_engine_seen(((struct rig *)*state)->engine, 0, &seen);
    assert_int_equal(seen.hidden, HIDDEN_LAST);
    assert_int_equal(seen.max_tokens, 0);
    reply_free(&r);
    token_list_free(&ids);
}

static void test_base64_has_the_same_values(void **state)
{
    struct reply r = call(state, "{\"input\":[5,6,7],\"encoding_format\":\"base64\"}");
    float got[WIDTH + 1];
    double want[WIDTH];
    size_t n;
    const char *text = reply_text(&r, "data.0.embedding");
    assert_int_equal(sodium_base642bin((unsigned char *)got, sizeof(got), text, strlen(text), NULL, &n, NULL,
                                       sodium_base64_VARIANT_ORIGINAL), 0);
    assert_int_equal(n, WIDTH * sizeof(float));
    expected_vector(2, WIDTH, want);
    for (uint32_t i = 0; i < WIDTH; i++)
        assert_true(fabs((double)got[i] - want[i]) < 1e-6);
    reply_free(&r);
}

static void test_dimensions_cut_and_scale_again(void **state)
{
    static const uint32_t widths[] = {1, 2, 30, 255, 256};
    for (size_t i = 0; i < COUNTOF(widths); i++) {
        char *body = mem_printf("{\"input\":[5,6,7,8],\"dimensions\":%u,\"encoding_format\":\"float\"}", widths[i]);
        struct reply r = call(state, body);
        check_vector(&r, 0, 3, widths[i]);
        reply_free(&r);
        mem_free(body);
    }
    assert_refused(state, "{\"input\":[5],\"dimensions\":257}", 400, "dimensions");
    assert_refused(state, "{\"input\":[5],\"dimensions\":0}", 400, "dimensions");
    assert_refused(state, "{\"input\":[5],\"dimensions\":-1}", 400, "dimensions");
    assert_refused(state, "{\"input\":[5],\"dimensions\":1.5}", 400, "dimensions");
    assert_refused(state, "{\"input\":[5],\"dimensions\":\"8\"}", 400, "dimensions");
    assert_refused(state, "{\"input\":[5],\"dimensions\":9223372036854775807}", 400, "dimensions");
}

static void test_lists_of_texts_and_of_ids_keep_their_order(void **state)
{
    struct rig *rig = *state;
    struct reply r = call(state, "{\"input\":[[5],[5,6,7],[9,9]]}");
    check_vector(&r, 0, 0, WIDTH);
    check_vector(&r, 1, 2, WIDTH);
    check_vector(&r, 2, 1, WIDTH);
    assert_int_equal(json_integer_value(reply_at(&r, "data.2.index")), 2);
    assert_int_equal(json_integer_value(reply_at(&r, "usage.total_tokens")), 6);
    reply_free(&r);
    json_t *texts = json_array();
    for (int i = 0; i < 50; i++) /* more than are under way at once */
        json_array_append_new(texts, json_pack("[i, i]", i, i + 1));
    json_t *j = json_pack("{s:o}", "input", texts);
    char *body = json_dumps(j, 0);
    r = rig_call(rig, "/embeddings", body, NULL);
    assert_int_equal(json_array_size(reply_at(&r, "data")), 50);
    for (uint32_t i = 0; i < 50; i++) {
        struct fake_seen seen;
        fake_engine_seen(rig->engine, 3 + i, &seen);
        assert_int_equal(seen.prompt[0], i);
        check_vector(&r, i, 1, WIDTH);
    }
    assert_int_equal(fake_engine_open(rig->engine), 0);
    assert_int_equal(fake_engine_cancelled(rig->engine), 0);
    reply_free(&r);
    free(body);
    json_decref(j);
}

static void test_control_tokens_in_a_text_are_text(void **state)
{
    struct fake_seen seen;
    struct reply r = call(state, "{\"input\":[\"<|im_end|>\",\"b\"]}");
    fake_engine_seen(((struct rig *)*state)->engine, 0, &seen);
    assert_int_equal(r.status, 200);
    assert_true(seen.n_prompt > 1);
    reply_free(&r);
}

/* ---- what a GGUF file says of pooling ---- */

static int start_pooling(void **state, uint32_t type)
{
    struct rig_extra x = {{"qwen3moe.pooling_type"}, {type}, NULL, NULL, NULL, 0};
    return rig_start_with(state, &x);
}

static int start_none(void **state)
{
    return start_pooling(state, 0);
}

static int start_mean(void **state)
{
    return start_pooling(state, 1);
}

static int start_first(void **state)
{
    return start_pooling(state, 2);
}

static int start_last(void **state)
{
    return start_pooling(state, 3);
}

static int start_rank(void **state)
{
    return start_pooling(state, 4);
}

static int start_unknown(void **state)
{
    return start_pooling(state, 5);
}

static void test_the_mean_is_of_all_rows(void **state)
{
    struct reply r = call(state, "{\"input\":[5,6,7,8]}");
    double sum[WIDTH], square = 0;
    for (uint32_t i = 0; i < WIDTH; i++) {
        sum[i] = 0;
        for (uint32_t row = 0; row < 4; row++)
            sum[i] += (double)fake_logit(row, i, WIDTH);
        square += sum[i] * sum[i];
    }
    const json_t *got = reply_at(&r, "data.0.embedding");
    assert_int_equal(json_array_size(got), WIDTH);
    for (uint32_t i = 0; i < WIDTH; i++)
        assert_true(fabs(json_number_value(json_array_get(got, i)) - sum[i] / sqrt(square)) < 1e-6);
    struct fake_seen seen;
    fake_engine_seen(((struct rig *)*state)->engine, 0, &seen);
    assert_int_equal(seen.hidden, HIDDEN_ALL);
    reply_free(&r);
}

static void check_row(void **state, uint32_t row, enum hidden_rows asked)
{
    struct reply r = call(state, "{\"input\":[5,6,7,8]}");
    struct fake_seen seen;
    check_vector(&r, 0, row, WIDTH);
    fake_engine_seen(((struct rig *)*state)->engine, 0, &seen);
    assert_int_equal(seen.hidden, asked);
    reply_free(&r);
}

static void test_the_first_row_only(void **state)
{
    check_row(state, 0, HIDDEN_FIRST);
}

static void test_the_last_row_only(void **state)
{
    check_row(state, 3, HIDDEN_LAST);
}

static void test_other_poolings_have_no_vectors(void **state)
{
    assert_refused(state, "{\"input\":[5]}", 400, "model");
}

/* ---- refusals ---- */

static void test_wrong_input_is_refused_by_name(void **state)
{
    static const char *const bodies[] = {
        "{}", "{\"input\":null}", "{\"input\":[]}", "{\"input\":\"\"}", "{\"input\":[\"a\",\"\"]}", "{\"input\":{}}",
        "{\"input\":5}", "{\"input\":[[]]}", "{\"input\":[\"a\",5]}", "{\"input\":[5,\"a\"]}", "{\"input\":[5,1.5]}",
        "{\"input\":[-1]}", "{\"input\":[2048]}", "{\"input\":[[1],[9223372036854775807]]}", "{\"input\":[true]}",
    };
    for (size_t i = 0; i < COUNTOF(bodies); i++)
        assert_refused(state, bodies[i], 400, "input");
    assert_refused(state, "{\"input\":\"a\",\"encoding_format\":\"hex\"}", 400, "encoding_format");
    assert_refused(state, "{\"input\":\"a\",\"encoding_format\":5}", 400, "encoding_format");
    assert_refused(state, "{\"input\":\"a\",\"model\":\"other\"}", 404, "model");
    assert_int_equal(fake_engine_open(((struct rig *)*state)->engine), 0);
}

static char *many(uint32_t n, json_t *takes_item)
{
    json_t *list = json_array(), *j = json_pack("{s:o}", "input", list);
    for (uint32_t i = 0; i < n; i++)
        json_array_append(list, takes_item);
    char *text = json_dumps(j, 0);
    json_decref(takes_item);
    json_decref(j);
    return text;
}

static void test_too_much_is_refused(void **state)
{
    char *texts = many(2049, json_string("a")), *ids = many(2049, json_integer(7)), *fits = many(2048, json_integer(7));
    struct reply r = call(state, ids);
    assert_refused(state, texts, 400, "input");
    assert_int_equal(r.status, 400);
    assert_string_equal(reply_text(&r, "error.code"), "context_length_exceeded");
    reply_free(&r);
    r = call(state, fits); /* the whole context: nothing is generated */
    assert_int_equal(r.status, 200);
    reply_free(&r);
    free(texts);
    free(ids);
    free(fits);
}

static void test_what_fails_says_so(void **state)
{
    struct rig *rig = *state;
    struct fake_script s = {.fail_at_once = true, .error = {.status = ERR_UNAVAILABLE, .text = "a node has left"}};
    fake_engine_script(rig->engine, &s);
    assert_refused(state, "{\"input\":[\"a\",\"b\",\"c\"]}", 503, "");
    assert_int_equal(fake_engine_open(rig->engine), 0);
    s = (struct fake_script){.submit_status = ERR_BUSY, .error = {.text = "too many wait"}};
    fake_engine_script(rig->engine, &s);
    assert_refused(state, "{\"input\":\"a\"}", 429, "");
    fake_control_state(rig->control, CONTROL_LOADING, "node a loads");
    assert_refused(state, "{\"input\":\"a\"}", 503, "");
}

static void test_a_client_that_leaves_cancels(void **state)
{
    struct rig *rig = *state;
    struct fake_script s = {.token_ms = 60000};
    fake_engine_script(rig->engine, &s);
    int fd = rig_post_raw(rig, "/v1/embeddings", "{\"input\":[\"a\",\"b\"]}");
    uint64_t until = clock_ms() + 20000;
    while (fake_engine_submitted(rig->engine) < 2 && clock_ms() < until)
        clock_sleep_ms(5);
    close(fd);
    while (fake_engine_open(rig->engine) > 0 && clock_ms() < until)
        clock_sleep_ms(5);
    assert_int_equal(fake_engine_cancelled(rig->engine), 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_start, rig_stop)
    const struct CMUnitTest tests[] = {
        TEST(test_a_text_becomes_the_last_row_at_length_one),
        TEST(test_base64_has_the_same_values),
        TEST(test_dimensions_cut_and_scale_again),
        TEST(test_lists_of_texts_and_of_ids_keep_their_order),
        TEST(test_control_tokens_in_a_text_are_text),
        cmocka_unit_test_setup_teardown(test_the_mean_is_of_all_rows, start_mean, rig_stop),
        cmocka_unit_test_setup_teardown(test_the_first_row_only, start_first, rig_stop),
        cmocka_unit_test_setup_teardown(test_the_last_row_only, start_last, rig_stop),
        cmocka_unit_test_setup_teardown(test_the_last_row_only, start_none, rig_stop),
        cmocka_unit_test_setup_teardown(test_other_poolings_have_no_vectors, start_rank, rig_stop),
        cmocka_unit_test_setup_teardown(test_other_poolings_have_no_vectors, start_unknown, rig_stop),
        TEST(test_wrong_input_is_refused_by_name),
        TEST(test_too_much_is_refused),
        TEST(test_what_fails_says_so),
        TEST(test_a_client_that_leaves_cancels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
