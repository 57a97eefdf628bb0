/* test_recorded: logits that llama.cpp gives for synthetic models of what no golden covers: layers that share an
 * indexer, and layers whose channels decay each by itself. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/memory.h"
#include "shard/arch/synth.h"
#include "tests/shard/folder.h"
#include "tests/shard/raw.h"
#include "tests/shard/route.h"

enum { TOKENS = 100, VOCAB = 100, ROWS = 4, VALUES = 8 };

static const struct recorded {
    const char *family, *key, *list; /* what is added to the file: an array of digits, NULL: nothing */
    struct {
        uint32_t row;
        float logits[VALUES]; /* of the first tokens */
    } rows[ROWS];
} recorded[] = {
    {"glm-dsa", "glm-dsa.attention.indexer.types", "1010", /* 32 positions are chosen */
        {{20, {0.1996765F, 0.1980662F, -0.1859884F, 0.2549304F,
               -0.1290828F, -0.04481824F, -0.3271019F, 0.04450592F}},
         {40, {0.1954024F, 0.2406368F, -0.1501023F, 0.2607278F,
               -0.07814392F, -0.0321601F, -0.420877F, 0.2045912F}},
         {77, {0.1955481F, 0.3465538F, -0.1167418F, 0.4078438F,
               -0.1232165F, -0.1056617F, -0.4565006F, 0.1792219F}},
         {99, {0.03508798F, 0.3625559F, 0.05338357F, 0.3986476F,
               0.1465209F, -0.1517433F, -0.4975997F, 0.1538675F}}}},
    {"kimi-linear", NULL, NULL,
        {{20, {0.04666884F, -0.008774184F, -0.2827882F, 0.09343271F,
               -0.2340658F, 0.4340535F, -0.2514223F, 0.2630864F}},
         {40, {-0.1851911F, -0.07893389F, 0.0632576F, -0.02690993F,
               0.06264245F, 0.120346F, -0.04822071F, 0.1217672F}},
         {77, {0.0259476F, -0.1449446F, 0.1564627F, 0.3058906F,
               -0.2645907F, -0.06393804F, -0.3571168F, 0.1262432F}},
         {99, {-0.1645687F, 0.1228498F, 0.6017386F, -0.119701F,
               0.2017906F, 0.06835423F, -0.1421938F, -0.2226591F}}}},
};

static void write_model(const struct recorded *c)
{
    struct synth_options o = {.family = c->family, .layers = 4, .hidden = 128, .heads = 4, .head_dim = 64, .ffn = 64,
                              .experts = 4, .experts_used = 2, .expert_ffn = 32, .vocab = VOCAB, .context = 256,
                              .type = "f32", .seed = 3};
    struct error e = {0};
    struct gguf *g;
    struct raw r;
    if (synth_write(folder_path("sound.gguf"), &o, &e) != 0 || gguf_open(&g, folder_path("sound.gguf"), &e) != 0)
        fail_msg("%s", e.text);
    raw_open(&r);
    raw_copy(&r, g, NULL, NULL);
    if (c->key)
        raw_array(&r, c->key, GGUF_U32, o.layers);
    for (const char *d = c->list; d && *d; d++)
        buffer_u32(&r.values, (uint32_t)(*d - '0'));
    raw_write(&r, "model.gguf");
    raw_close(&r);
    gguf_close(&g);
}

static void test_logits_are_those_of_another_implementation(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(recorded); i++) {
        int32_t tokens[TOKENS];
        struct route r;
        for (int32_t t = 0; t < TOKENS; t++)
            tokens[t] = (t * 37 + t * t % 13) % VOCAB;
        write_model(&recorded[i]);
        route_open(&r, &(struct route_options){.path = folder_path("model.gguf")});
        float *logits = route_run(&r, 1, 0, tokens, TOKENS, TOKENS);
        for (size_t k = 0; k < ROWS * VALUES; k++) {
            float got = logits[recorded[i].rows[k / VALUES].row * VOCAB + k % VALUES];
            if (!(fabsf(got - recorded[i].rows[k / VALUES].logits[k % VALUES]) < 2e-6F))
                fail_msg("%s: row %u, token %zu: %g", recorded[i].family, recorded[i].rows[k / VALUES].row, k % VALUES,
                         (double)got);
        }
        mem_free(logits);
        route_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_those_of_another_implementation),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
