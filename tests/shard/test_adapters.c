/* test_adapters: adapters at run time against models that have them merged into their weights: every family, cut at
 * every layer, and several adapters in one step, whose rows do not see each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "shard/arch/synth.h"
#include "tests/shard/adapters.h"
#include "tests/shard/folder.h"
#include "tests/shard/route.h"

enum { VOCAB = 100, TEXT = 70, LAYERS = 4 }; /* more than a block of rows of compressed attention */

static void write_family(const struct arch *a)
{
    struct synth_options o = {.family = a->name, .layers = LAYERS, .hidden = 64, .heads = 4, .kv_heads = 2,
                              .head_dim = 32, .ffn = 96, .vocab = VOCAB, .context = 512, .type = "f32", .seed = 3};
    struct error e = {0};
    if (a->flags & ARCH_MOE) {
        o.experts = 4;
        o.experts_used = 2;
        o.expert_ffn = 32;
    }
    if (synth_write(folder_path("family.gguf"), &o, &e) != 0)
        fail_msg("%s: %s", a->name, e.text);
    adapters_write(folder_path("family.gguf"), folder_path("one.gguf"), 1, 8);
    adapters_write(folder_path("family.gguf"), folder_path("two.gguf"), 2, 4);
}

static void text(int32_t *tokens)
{
    for (int32_t i = 0; i < TEXT; i++)
        tokens[i] = (i * 37 + i * i % 13) % VOCAB;
}

/* The family's two adapters, the second counting half. */
struct pair_of_adapters {
    struct model *model;
    struct adapter *adapters[2];
    struct shard_adapter served[2];
};

static void open_adapters(struct pair_of_adapters *p)
{
    static const char *const names[] = {"one.gguf", "two.gguf"};
    struct error e = {0};
    if (model_open(&p->model, folder_path("family.gguf"), &e) != 0)
        fail_msg("%s", e.text);
    for (int i = 0; i < 2; i++) {
        if (adapter_open(&p->adapters[i], folder_path(names[i]), p->model, &e) != 0)
            fail_msg("%s", e.text);
        p->served[i] = (struct shard_adapter){p->adapters[i], i ? 0.5F : 1};
    }
}

static void close_adapters(struct pair_of_adapters *p)
{
    for (int i = 0; i < 2; i++)
        adapter_close(&p->adapters[i]);
    model_close(&p->model);
}

static struct route_options options(const char *name, const struct pair_of_adapters *p)
{
    return (struct route_options){.path = folder_path(name), .batch_rows_max = 3 * TEXT, .kv_tokens = 1024,
                                  .adapters = p ? p->served : NULL, .n_adapters = p ? 2 : 0};
}

static float *logits_of(struct route *r, uint64_t id, uint16_t adapter, uint32_t chunk)
{
    int32_t tokens[TEXT];
    text(tokens);
    r->adapter = adapter;
    return route_run(r, id, 0, tokens, TEXT, chunk);
}

/* ---- against merged weights ---- */

static void check_merged(const struct arch *a)
{
    static const char *const names[] = {"one.gguf", "two.gguf"};
    struct pair_of_adapters p;
    struct route r, merged;
    write_family(a);
    open_adapters(&p);
    struct route_options o = options("family.gguf", &p), plain = options("family.gguf", NULL);
    route_open(&r, &o);
    route_open(&merged, &plain);
    float *base = logits_of(&merged, 1, 0, TEXT), *none = logits_of(&r, 1, 0, TEXT);
    assert_memory_equal(base, none, TEXT * VOCAB * sizeof(float));
    route_close(&merged);
    mem_free(none);
    for (int i = 0; i < 2; i++) {
        adapters_merge(folder_path("family.gguf"), folder_path(names[i]), p.served[i].scale,
                       folder_path("merged.gguf"));
        struct route_options m = options("merged.gguf", NULL);
        route_open(&merged, &m);
        float *want = logits_of(&merged, 1, 0, TEXT), *got = logits_of(&r, 2 + (uint64_t)i, (uint16_t)(i + 1), TEXT);
        double off = route_error(got, want, TEXT * VOCAB), away = route_error(base, want, TEXT * VOCAB);
        print_message("        %s, adapter %d: error %.2g (without it %.2g)\n", a->name, i + 1, off, away);
        if (!(off < 1e-9) || !(away > 1e-6))
            fail_msg("%s: the adapter at run time is not the merged one: %g, and without it %g", a->name, off, away);
        mem_free(want);
        mem_free(got);
        route_close(&merged);
    }
    mem_free(base);
    route_close(&r);
    close_adapters(&p);
}

static void test_adapters_gives_what_merged_weights_give(void **state)
{
    (void)state;
    for (size_t i = 0; i < arch_count(); i++)
        check_merged(arch_at(i));
}

/* ---- company ---- */

/* Rows of three sequences in one step, one without an adapter and one of each, against each alone. */
static void check_company(const struct arch *a, const struct route_options *o)
{
    int32_t tokens[TEXT];
    struct step_row rows[3 * TEXT];
    struct route alone, mixed;
    struct error e = {0};
    text(tokens);
    route_open(&alone, o);
    route_open(&mixed, o);
    for (uint32_t i = 0; i < 3 * TEXT; i++)
        rows[i] = (struct step_row){.sequence = 10 + i / TEXT, .position = i % TEXT, .token = tokens[i % TEXT],
                                    .flags = ROW_LOGITS, .adapter = (uint16_t)((i / TEXT + 1) % 3)};
    if (route_step(&mixed, rows, 3 * TEXT, &e) != 0)
        fail_msg("%s: %s", a->name, e.text);
    for (uint32_t s = 0; s < 3; s++) {
        float *want = logits_of(&alone, 20 + s, rows[s * TEXT].adapter, 7);
        for (uint32_t i = 0; i < TEXT; i++)
            if (memcmp(route_logits(&mixed, s * TEXT + i), want + (size_t)i * VOCAB, VOCAB * sizeof(float)) != 0)
                fail_msg("%s: row %u of adapter %u gives other bits in company", a->name, i, rows[s * TEXT].adapter);
        mem_free(want);
    }
    route_close(&alone);
    route_close(&mixed);
}

static void test_adapters_rows_do_not_see_their_company(void **state)
{
    (void)state;
    for (size_t i = 0; i < arch_count(); i++) {
        struct pair_of_adapters p;
        write_family(arch_at(i));
        open_adapters(&p);
        struct route_options o = options("family.gguf", &p);
        check_company(arch_at(i), &o);
        close_adapters(&p);
    }
}

/* ---- cuts ---- */

static void check_cuts(const struct arch *a)
{
    struct pair_of_adapters p;
    struct route whole, parts;
    write_family(a);
    open_adapters(&p);
    struct route_options o = options("family.gguf", &p);
    route_open(&whole, &o);
    float *want = logits_of(&whole, 1, 2, TEXT);
    for (uint32_t cut = 1; cut < LAYERS; cut++) {
        o.n = 2;
        o.cuts[0] = cut;
        route_open(&parts, &o);
        float *got = logits_of(&parts, 1, 2, 32);
        if (memcmp(got, want, TEXT * VOCAB * sizeof(float)) != 0)
            fail_msg("%s: cut at layer %u it gives other bits", a->name, cut);
        mem_free(got);
        route_close(&parts);
    }
    mem_free(want);
    route_close(&whole);
    close_adapters(&p);
}

static void test_adapters_gives_the_same_bits_however_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < arch_count(); i++)
        check_cuts(arch_at(i));
}

/* ---- what a shard refuses, and what it holds ---- */

static int one_row(struct route *r, uint32_t position, uint16_t adapter, struct error *e)
{
    struct step_row row = {.sequence = 1, .position = position, .token = 1, .flags = ROW_SAMPLE, .adapter = adapter};
    return route_step(r, &row, 1, e);
}

static void test_adapters_an_adapter_belongs_to_a_sequence(void **state)
{
    (void)state;
    struct pair_of_adapters p;
    struct route r;
    struct error e = {0};
    write_family(arch_find("llama"));
    open_adapters(&p);
    struct route_options o = options("family.gguf", &p);
    route_open(&r, &o);
    assert_int_equal(one_row(&r, 0, 3, &e), ERR_INVALID);
    assert_string_equal(e.text, "sequence 1 asks for adapter 3 of 2");
    assert_int_equal(one_row(&r, 0, 1, &e), 0);
    assert_int_equal(one_row(&r, 1, 2, &e), ERR_CONFLICT);
    assert_string_equal(e.text, "sequence 1 has adapter 1 here, and the step has 2");
    assert_int_equal(one_row(&r, 1, 1, &e), 0);
    assert_int_equal(one_row(&r, 0, 2, &e), 0); /* begun anew */
    assert_int_equal(one_row(&r, 1, 2, &e), 0);
    struct step_row rows[2] = {{.sequence = 2, .position = 0, .token = 1, .adapter = 1},
                               {.sequence = 2, .position = 1, .token = 1, .adapter = 2}};
    assert_int_equal(route_step(&r, rows, 2, &e), ERR_INVALID);
    assert_string_equal(e.text, "the rows of sequence 2 have several adapters");
    route_close(&r);
    close_adapters(&p);
}

static void test_adapters_shards_hold_the_pairs_of_their_layers(void **state)
{
    (void)state;
    struct pair_of_adapters p;
    struct device *d;
    struct error e = {0};
    write_family(arch_find("llama"));
    open_adapters(&p);
    assert_int_equal(backend_open(&d, "cpu", &(struct device_options){.threads = 1}, &e), 0);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < LAYERS; i++) {
        struct shard_options o = {.range = {i, i + 1, i == 0, i + 1 == LAYERS}, .kv_tokens = 64, .sequences_max = 1,
                                  .batch_rows_max = 1, .adapters = p.served, .n_adapters = 2};
        struct shard_need need;
        struct shard_stats with, without;
        struct shard *s;
        shard_need(p.model, &o, &need);
        assert_int_equal(shard_open(&s, d, p.model, &o, &e), 0);
        shard_stats(s, &with);
        shard_close(&s);
        o.n_adapters = 0;
        assert_int_equal(shard_open(&s, d, p.model, &o, &e), 0);
        shard_stats(s, &without);
        shard_close(&s);
        assert_int_equal(need.weights, with.bytes_weights);
        assert_int_equal(with.bytes_weights - without.bytes_weights,
                         adapter_range_bytes(p.adapters[0], &o.range) + adapter_range_bytes(p.adapters[1], &o.range));
        sum += with.bytes_weights - without.bytes_weights;
    }
    struct layer_range all = {0, LAYERS, true, true};
    assert_int_equal(sum, adapter_range_bytes(p.adapters[0], &all) + adapter_range_bytes(p.adapters[1], &all));
    backend_close(&d);
    close_adapters(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adapters_gives_what_merged_weights_give),
        cmocka_unit_test(test_adapters_rows_do_not_see_their_company),
        cmocka_unit_test(test_adapters_gives_the_same_bits_however_cut),
        cmocka_unit_test(test_adapters_an_adapter_belongs_to_a_sequence),
        cmocka_unit_test(test_adapters_shards_hold_the_pairs_of_their_layers),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
