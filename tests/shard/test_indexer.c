/* test_indexer: layers that share an indexer: the same bits in stages that begin with one, and no other stages. */
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
        cmocka_unit_test(test_stages_begin_with_an_indexer),
        cmocka_unit_test(test_other_stages_are_refused),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
