/* test_families: every family gives the same bits however its rows and layers are cut, and goes back as it says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "shard/arch/synth.h"
#include "tests/shard/folder.h"
#include "tests/shard/route.h"

enum { TEXT = 150 }; /* more than a KV page, and than a block of rows of compressed attention */

static struct route_options write_family(const struct arch *a)
{
    struct synth_options o = {.family = a->name, .layers = 4, .hidden = 64, .heads = 4, .kv_heads = 2, .head_dim = 32,
                              .ffn = 96, .vocab = 100, .context = 512, .type = "f32", .seed = 3};
    struct error e = {0};
    if (a->flags & ARCH_MOE) {
        o.experts = 4;
        o.experts_used = 2;
        o.expert_ffn = 32;
    }
    if (synth_write(folder_path("family.gguf"), &o, &e) != 0)
        fail_msg("%s: %s", a->name, e.text);
    return (struct route_options){.path = folder_path("family.gguf"), .batch_rows_max = TEXT, .kv_tokens = 1024};
}

static void text(int32_t *tokens)
{
    for (int32_t i = 0; i < TEXT; i++)
        tokens[i] = (i * 37 + i * i % 13) % 100;
}

static void check_cuts(const struct arch *a)
{
    static const uint32_t pieces[] = {1, 7, 64, 100};
    struct route_options o = write_family(a);
    int32_t tokens[TEXT];
    struct route whole, parts;
    text(tokens);
    route_open(&whole, &o);
    o.n = 3;
    o.cuts[0] = 1;
    o.cuts[1] = 3;
    route_open(&parts, &o);
    float *want = route_run(&whole, 1, 0, tokens, TEXT, TEXT);
    for (size_t i = 0; i < COUNTOF(pieces); i++) {
        float *got = route_run(&parts, 2, 0, tokens, TEXT, pieces[i]);
        if (memcmp(got, want, TEXT * 100 * sizeof(float)) != 0)
            fail_msg("%s: pieces of %u rows give other bits", a->name, pieces[i]);
        mem_free(got);
    }
    mem_free(want);
    route_close(&whole);
    route_close(&parts);
}

static void test_families_give_the_same_bits_however_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < arch_count(); i++)
        check_cuts(arch_at(i));
}

static int again(struct route *r, const int32_t *tokens, uint32_t position, float *logits)
{
    struct step_row row = {.sequence = 1, .position = position, .token = tokens[position], .flags = ROW_LOGITS};
    int status = route_step(r, &row, 1, NULL);
    if (status == 0)
        memcpy(logits, route_logits(r, 0), 100 * sizeof(float));
    return status;
}

/* A state goes back by one step, keys and values to anywhere; both give what they gave. */
static void check_going_back(const struct arch *a)
{
    struct route_options o = write_family(a);
    int32_t tokens[TEXT];
    struct route r;
    float got[100];
    text(tokens);
    route_open(&r, &o);
    float *want = route_run(&r, 1, 0, tokens, 20, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(again(&r, tokens, 19, got), 0);
        assert_memory_equal(got, want + 19 * 100, sizeof(got));
    }
    assert_int_equal(again(&r, tokens, 10, got), a->flags & ARCH_DELTA ? ERR_CONFLICT : 0);
    if (!(a->flags & ARCH_DELTA))
        assert_memory_equal(got, want + 10 * 100, sizeof(got));
    assert_int_equal(again(&r, tokens, 0, got), 0);
    assert_memory_equal(got, want, sizeof(got));
    mem_free(want);
    route_close(&r);
}

static void test_families_go_back_as_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < arch_count(); i++)
        check_going_back(arch_at(i));
}

static void check_runs(const char *name, struct synth_options o)
{
    struct error e = {0};
    int32_t tokens[TEXT];
    struct route r;
    float low = 0, high = 0;
    if (synth_write(folder_path("run.gguf"), &o, &e) != 0)
        fail_msg("%s %s: %s", name, o.type, e.text);
    text(tokens);
    struct route_options ro = {.path = folder_path("run.gguf"), .batch_rows_max = TEXT};
    route_open(&r, &ro);
    float *logits = route_run(&r, 1, 0, tokens, 20, 7);
    for (int i = 0; i < 20 * 100; i++) {
        if (!isfinite(logits[i]))
            fail_msg("%s %s: a logit is no number", name, o.type);
        low = fminf(low, logits[i]);
        high = fmaxf(high, logits[i]);
    }
    if (high - low < 1e-3F || high - low > 1e3F)
        fail_msg("%s %s: logits from %g to %g", name, o.type, (double)low, (double)high);
    mem_free(logits);
    route_close(&r);
}

/* Published shapes, cut to a size that a test can run, all else as it is. */
static void test_published_shapes_run(void **state)
{
    static const char *const types[] = {"Q4_K_M", "MXFP4"};
    (void)state;
    for (size_t i = 0; i < synth_shape_count(); i++) {
        const struct synth_shape *shape = synth_shape_at(i);
        struct synth_options o = shape->options;
        o.layers = 5; /* past the dense layers of all of them, and a period of windows */
        o.hidden = 256;
        o.ffn = o.expert_ffn = 32;
        o.q_rank = o.q_rank ? 256 : 0;
        o.vocab = 100;
        o.type = types[i % COUNTOF(types)];
        check_runs(shape->name, o);
    }
}

static void test_every_type_and_family_runs(void **state)
{
    static const char *const mixes[] = {"Q4_K_M", "Q5_K_M"};
    const struct qtype *type;
    (void)state;
    struct synth_options o = {.family = "qwen3moe", .layers = 3, .hidden = 256, .heads = 4, .kv_heads = 2,
                              .head_dim = 64, .experts = 4, .experts_used = 2, .expert_ffn = 256, .vocab = 100,
                              .context = 512};
    for (size_t i = 0; (type = qtype_at(i)) != NULL && qtype_in_files(type); i++) {
        o.type = type->name;
        check_runs(o.family, o);
    }
    for (size_t i = 0; i < arch_count() * COUNTOF(mixes); i++) {
        o.family = arch_at(i / COUNTOF(mixes))->name;
        o.type = mixes[i % COUNTOF(mixes)];
        o.experts = arch_find(o.family)->flags & ARCH_MOE ? 4 : 0;
        o.experts_used = o.experts / 2;
        o.expert_ffn = o.experts ? 256 : 0;
        o.ffn = o.experts ? 0 : 512;
        check_runs(o.family, o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families_give_the_same_bits_however_cut),
        cmocka_unit_test(test_families_go_back_as_they_say),
        cmocka_unit_test(test_published_shapes_run),
        cmocka_unit_test(test_every_type_and_family_runs),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
