/* test_indexer: layers that share an indexer: logits that llama.cpp gives for the same model, the same bits in stages
 * that begin with an indexer, and no other stages. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "shard/arch/synth.h"
#include "tests/shard/folder.h"
#include "tests/shard/raw.h"
#include "tests/shard/route.h"

enum { TOKENS = 100, VOCAB = 100 }; /* 32 positions are chosen */

/* Four layers of glm-dsa, of which the second and the last go by the choice of the one before. */
static struct route_options write_model(void)
{
    struct synth_options o = {.family = "glm-dsa", .layers = 4, .hidden = 128, .heads = 4, .head_dim = 64, .ffn = 64,
                              .experts = 4, .experts_used = 2, .expert_ffn = 32, .vocab = VOCAB, .context = 256,
                              .type = "f32", .seed = 3};
    static const uint32_t own[] = {1, 0, 1, 0};
    struct error e = {0};
    struct gguf *g;
    struct raw r;
    if (synth_write(folder_path("sound.gguf"), &o, &e) != 0 || gguf_open(&g, folder_path("sound.gguf"), &e) != 0)
        fail_msg("%s", e.text);
    raw_open(&r);
    raw_copy(&r, g, NULL, NULL);
    raw_array(&r, "glm-dsa.attention.indexer.types", GGUF_U32, COUNTOF(own));
    for (size_t i = 0; i < COUNTOF(own); i++)
        buffer_u32(&r.values, own[i]);
    raw_write(&r, "shared.gguf");
    raw_close(&r);
    gguf_close(&g);
    return (struct route_options){.path = folder_path("shared.gguf")};
}

static float *run(const struct route_options *o, uint32_t chunk)
{
    int32_t tokens[TOKENS];
    struct route r;
    for (int32_t i = 0; i < TOKENS; i++)
        tokens[i] = (i * 37 + i * i % 13) % 100;
    route_open(&r, o);
    float *logits = route_run(&r, 1, 0, tokens, TOKENS, chunk);
    route_close(&r);
    return logits;
}

static void test_logits_are_those_of_another_implementation(void **state)
{
    static const struct {
        uint32_t row;
        float logits[8]; /* of the first tokens */
    } recorded[] = {
        {20, {0.1996765F, 0.1980662F, -0.1859884F, 0.2549304F,
              -0.1290828F, -0.04481824F, -0.3271019F, 0.04450592F}},
        {40, {0.1954024F, 0.2406368F, -0.1501023F, 0.2607278F,
              -0.07814392F, -0.0321601F, -0.420877F, 0.2045912F}},
        {77, {0.1955481F, 0.3465538F, -0.1167418F, 0.4078438F,
              -0.1232165F, -0.1056617F, -0.4565006F, 0.1792219F}},
        {99, {0.03508798F, 0.3625559F, 0.05338357F, 0.3986476F,
              0.1465209F, -0.1517433F, -0.4975997F, 0.1538675F}},
    };
    (void)state;
    struct route_options o = write_model();
    float *logits = run(&o, TOKENS);
    for (size_t i = 0; i < COUNTOF(recorded); i++)
        for (size_t k = 0; k < COUNTOF(recorded[0].logits); k++)
            assert_true(fabsf(logits[recorded[i].row * VOCAB + k] - recorded[i].logits[k]) < 2e-6F);
    mem_free(logits);
}

static void test_stages_begin_with_an_indexer(void **state)
{
    (void)state;
    struct route_options o = write_model();
    float *whole = run(&o, TOKENS);
    o.n = 2;
    o.cuts[0] = 2;
    float *parts = run(&o, 7);
    assert_memory_equal(parts, whole, (size_t)TOKENS * VOCAB * sizeof(float));
    mem_free(parts);
    mem_free(whole);
}

static void test_other_stages_are_refused(void **state)
{
    struct error e = {0};
    struct device *d;
    struct model *m;
    struct shard *s;
    (void)state;
    struct route_options o = write_model();
    struct shard_options second = {.range = {.first = 1, .last = 2}, .kv_tokens = 64, .sequences_max = 1,
                                   .batch_rows_max = 1};
    assert_int_equal(backend_open(&d, "cpu", &(struct device_options){.threads = 1}, &e), 0);
    assert_int_equal(model_open(&m, o.path, &e), 0);
    assert_int_equal(shard_open(&s, d, m, &second, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "layer 1 reads the positions that an earlier layer's indexer chose"));
    model_close(&m);
    backend_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_those_of_another_implementation),
        cmocka_unit_test(test_stages_begin_with_an_indexer),
        cmocka_unit_test(test_other_stages_are_refused),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
