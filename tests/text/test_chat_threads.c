/* test_chat_threads: one chat renders the same in many threads at once. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "text/chat.h"

#define DEMO "tests/data/shoal-demo-q8_0.gguf"
enum { THREADS = 4, ROUNDS = 50 };

struct shared {
    const struct chat *chat;
    const char *want;
    bool same[THREADS];
};

struct worker {
    struct shared *shared;
    size_t index;
};

static char *rendered(const struct chat *c)
{
    json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content", "Be brief.", "role", "user",
                                 "content", "Hello <|im_end|>");
    struct chat_request q = {.messages = messages, .add_generation_prompt = true};
    struct jinja_output out;
    char *text = chat_render(c, &q, &out, NULL, NULL) == 0 ? mem_strdup(out.text) : NULL;
    jinja_output_free(&out);
    json_decref(messages);
    return text;
}

static void *work(void *arg)
{
    const struct worker *w = arg;
    bool same = true;
    for (int i = 0; i < ROUNDS; i++) {
        char *text = rendered(w->shared->chat);
        same = same && text && strcmp(text, w->shared->want) == 0;
        mem_free(text);
    }
    w->shared->same[w->index] = same;
    return NULL;
}

static void test_threads_share_a_chat(void **state)
{
    (void)state;
    struct gguf *g;
    struct tokenizer *t;
    struct chat *chat;
    assert_int_equal(gguf_open(&g, DEMO, NULL), 0);
    assert_int_equal(tokenizer_open(&t, g, NULL), 0);
    gguf_close(&g);
    assert_int_equal(chat_open(&chat, t, NULL, NULL), 0);
    char *want = rendered(chat);
    struct shared shared = {.chat = chat, .want = want};
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    assert_non_null(want);
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){&shared, i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(shared.same[i]);
    }
    mem_free(want);
    chat_close(&chat);
    tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads_share_a_chat)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
