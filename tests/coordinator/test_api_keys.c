/* test_api_keys: users' keys over a socket: made, limited, counted, revoked, kept over a restart, and tampered with. */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "coordinator/api/keys.h"
#include "tests/coordinator/api_rig.h"

#define CHAT "/v1/chat/completions"
#define MESSAGES "\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]"
#define HELLO "{" MESSAGES "}"
#define STREAM "{" MESSAGES ",\"stream\":true}"
#define OPERATOR "Authorization: Bearer " RIG_ADMIN

enum { PATIENCE_MS = 30000 };

/* "Authorization: Bearer KEY", the caller's. */
static char *make_key(struct rig *rig, const char *body)
{
    struct reply r = rig_call(rig, "/admin/keys", body, OPERATOR);
    if (r.status != 200)
        fail_msg("%s: %d %s", body, r.status, r.body);
    const char *key = reply_text(&r, "key");
    assert_int_equal(strlen(key), 9 + 43);
    assert_memory_equal(key, "sk-shoal-", 9);
    char *header = mem_printf("Authorization: Bearer %s", key);
    reply_free(&r);
    return header;
}

static void assert_status(struct rig *rig, const char *path, const char *body, const char *header, int status)
{
    struct reply r = rig_call(rig, path, body, header);
    if (r.status != status)
        fail_msg("%s should be %d, is %d: %s", path, status, r.status, r.body);
    reply_free(&r);
}

static void test_the_first_key_locks_the_api(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    assert_status(rig, "/v1/models", NULL, NULL, 200);
    char *alice = make_key(rig, "{\"name\":\"alice\"}"), *bob = make_key(rig, "{\"name\":\"bob\"}");
    assert_string_not_equal(alice, bob);
    assert_status(rig, "/v1/models", NULL, NULL, 401);
    assert_status(rig, "/v1/models", NULL, alice, 200);
    assert_status(rig, CHAT, HELLO, alice, 200);
    assert_status(rig, "/admin/keys", NULL, alice, 401);
    alice[strlen(alice) - 1] ^= 1;
    assert_status(rig, "/v1/models", NULL, alice, 401);
    alice[strlen(alice) - 1] ^= 1;
    assert_status(rig, "/admin/keys/revoke", "{\"who\":\"alice\"}", OPERATOR, 200);
    assert_status(rig, "/admin/keys/revoke", "{\"who\":\"alice\"}", OPERATOR, 404);
    assert_status(rig, CHAT, HELLO, alice, 401);
    assert_status(rig, CHAT, HELLO, bob, 200);
    assert_status(rig, "/admin/keys/revoke", "{\"who\":\"bob\"}", OPERATOR, 200);
    assert_status(rig, CHAT, HELLO, NULL, 401);
    mem_free(alice);
    mem_free(bob);
}

static void test_a_rate_is_kept(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    char *key = make_key(rig, "{\"name\":\"slow\",\"rate_per_minute\":2}");
    assert_status(rig, CHAT, HELLO, key, 200);
    assert_status(rig, CHAT, STREAM, key, 200);
    struct reply r = rig_call(rig, CHAT, HELLO, key);
    assert_int_equal(r.status, 429);
    assert_string_equal(reply_text(&r, "error.type"), "rate_limit_error");
    assert_string_equal(reply_text(&r, "error.code"), "rate_limit_exceeded");
    assert_non_null(strstr(r.headers, "Retry-After: "));
    reply_free(&r);
    assert_status(rig, "/v1/models", NULL, key, 200);
    mem_free(key);
}

/* One after the other is never two at once, whole or streamed. */
static void test_concurrency_is_given_back(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    char *key = make_key(rig, "{\"name\":\"one\",\"concurrency\":1}");
    for (int i = 0; i < 10; i++) {
        assert_status(rig, CHAT, i % 2 ? HELLO : STREAM, key, 200);
        assert_status(rig, CHAT, "{", key, 400);
    }
    struct reply r = rig_call(rig, "/admin/keys", NULL, OPERATOR);
    assert_int_equal(json_integer_value(reply_at(&r, "data.0.running")), 0);
    assert_int_equal(json_integer_value(reply_at(&r, "data.0.concurrency")), 1);
    assert_null(strstr(r.body, key + strlen("Authorization: Bearer ")));
    reply_free(&r);
    mem_free(key);
}

struct caller {
    struct rig *rig;
    const char *key;
};

/* Until the API stops. */
static void *call_long(void *arg)
{
    struct caller *c = arg;
    struct reply r = rig_call(c->rig, CHAT, STREAM, c->key);
    reply_free(&r);
    return NULL;
}

static void test_two_at_once_are_one_too_many(void **state)
{
    struct rig *rig = *state;
    struct fake_script slow = { .endless = true, .token_ms = 50 };
    struct error e = { 0 };
    pthread_t thread;
    rig_say(rig, "on and on", &slow);
    char *key = make_key(rig, "{\"name\":\"one\",\"concurrency\":1}");
    struct caller c = { rig, key };
    assert_int_equal(pthread_create(&thread, NULL, call_long, &c), 0);
    while (fake_engine_open(rig->engine) == 0)
        clock_sleep_ms(1);
    struct reply r = rig_call(rig, CHAT, HELLO, key);
    rig_say(rig, "Hi", NULL);
    assert_int_equal(rig_restart(rig, "127.0.0.1", false, &e), 0);
    pthread_join(thread, NULL);
    assert_int_equal(r.status, 429);
    assert_non_null(strstr(r.headers, "Retry-After: 1"));
    assert_string_equal(reply_text(&r, "error.code"), "rate_limit_exceeded");
    reply_free(&r);
    assert_status(rig, CHAT, HELLO, key, 200);
    mem_free(key);
}

static void test_usage_is_counted(void **state)
{
    struct rig *rig = *state;
    struct error e = { 0 };
    rig_say(rig, "Hi", NULL);
    char *key = make_key(rig, "{\"name\":\"alice\"}");
    struct reply said = rig_call(rig, CHAT, HELLO, key);
    json_int_t prompt = json_integer_value(reply_at(&said, "usage.prompt_tokens"));
    json_int_t completion = json_integer_value(reply_at(&said, "usage.completion_tokens"));
    reply_free(&said);
    assert_true(prompt > 0 && completion > 0);
    assert_status(rig, CHAT, STREAM, key, 200);
    assert_int_equal(rig_restart(rig, "127.0.0.1", false, &e), 0);
    assert_status(rig, CHAT, HELLO, NULL, 401);
    assert_status(rig, CHAT, HELLO, key, 200);
    struct reply r = rig_call(rig, "/admin/keys/usage", NULL, OPERATOR);
    json_int_t requests = 0, prompts = 0, completions = 0;
    size_t i;
    json_t *row;
    json_array_foreach((json_t *)reply_at(&r, "data"), i, row) { /* midnight may part them */
        assert_string_equal(json_string_value(json_object_get(row, "name")), "alice");
        requests += json_integer_value(json_object_get(row, "requests"));
        prompts += json_integer_value(json_object_get(row, "prompt_tokens"));
        completions += json_integer_value(json_object_get(row, "completion_tokens"));
    }
    assert_int_equal(requests, 3);
    assert_int_equal(prompts, 3 * prompt);
    assert_int_equal(completions, 3 * completion);
    reply_free(&r);
    mem_free(key);
}

static json_int_t billed(struct rig *rig, const char *what)
{
    struct reply r = rig_call(rig, "/admin/keys/usage", NULL, OPERATOR);
    json_int_t sum = 0;
    size_t i;
    json_t *row;
    json_array_foreach((json_t *)reply_at(&r, "data"), i, row)
        sum += json_integer_value(json_object_get(row, what));
    reply_free(&r);
    return sum;
}

/* Raw logits, and prompts that are scored, go through the model as others do. */
static void test_scored_tokens_are_counted(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    char *key = make_key(rig, "{\"name\":\"alice\"}");
    assert_status(rig, "/shoal/logits", "{\"tokens\":[1,2,3]}", key, 200);
    assert_int_equal(billed(rig, "prompt_tokens"), 3);
    assert_status(rig, "/shoal/logits", "{\"tokens\":[]}", key, 400);
    assert_int_equal(billed(rig, "prompt_tokens"), 3);
    assert_status(rig, "/v1/completions", "{\"prompt\":[1,2,3,4],\"echo\":true,\"logprobs\":1,\"max_tokens\":0}", key,
                  200);
    assert_int_equal(billed(rig, "prompt_tokens"), 3 + 4);
    assert_status(rig, "/v1/completions", "{\"prompt\":[1,2,3,4],\"echo\":true,\"logprobs\":1,\"max_tokens\":1}", key,
                  200);
    assert_int_equal(billed(rig, "prompt_tokens"), 3 + 4 + 2 * 4);
    assert_int_equal(billed(rig, "completion_tokens"), 1);
    assert_int_equal(billed(rig, "requests"), 4);
    mem_free(key);
}

static void test_what_is_no_key_is_refused(void **state)
{
    static const struct {
        const char *body;
        int status;
    } rows[] = {
        { "{}", 400 },
        { "{\"name\":1}", 400 },
        { "{\"name\":\"\"}", 400 },
        { "{\"name\":\"-rf\"}", 400 },
        { "{\"name\":\"a b\"}", 400 },
        { "{\"name\":\"sk-shoal-abcdef\"}", 400 },
        { "{\"name\":\"a\\u001b[31m\"}", 400 },
        { "{\"name\":\"'; DROP TABLE keys; --\"}", 400 },
        { "{\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}", 400 },
        { "{\"name\":\"a\",\"rate_per_minute\":-1}", 400 },
        { "{\"name\":\"a\",\"rate_per_minute\":1.5}", 400 },
        { "{\"name\":\"a\",\"concurrency\":1000000000000}", 400 },
        { "{\"name\":\"a\",\"models\":\"org/demo:q8\"}", 400 },
        { "{\"name\":\"a\",\"models\":[1]}", 400 },
        { "{\"name\":\"a\",\"models\":[\"another\"]}", 404 },
        { "{\"name\":\"a\",\"models\":[\"org/demo:q8\"]}", 200 },
        { "{\"name\":\"a\"}", 409 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++)
        assert_status(*state, "/admin/keys", rows[i].body, OPERATOR, rows[i].status);
    assert_status(*state, "/admin/keys", "{\"name\":\"b\"}", NULL, 401);
}

static char *database(const struct rig *rig)
{
    return path_join(rig->state_dir, "api-keys.db");
}

static void test_a_model_is_kept_from_a_key(void **state)
{
    struct rig *rig = *state;
    char *key = make_key(rig, "{\"name\":\"a\",\"models\":[\"org/demo:q8:poet\"]}");
    rig_say(rig, "Hi", NULL);
    struct reply r = rig_call(rig, CHAT, HELLO, key);
    assert_int_equal(r.status, 403);
    assert_string_equal(reply_text(&r, "error.code"), "model_not_found");
    reply_free(&r);
    assert_status(rig, CHAT, "{\"model\":\"org/demo:q8:clerk\"," MESSAGES "}", key, 403);
    assert_status(rig, CHAT, "{\"model\":\"org/demo:q8:poet\"," MESSAGES "}", key, 200);
    assert_status(rig, CHAT, "{\"model\":\"org/demo:q8:nobody\"," MESSAGES "}", key, 404);
    assert_status(rig, "/shoal/logits", "{\"tokens\":[1]}", key, 403);
    assert_status(rig, "/apply-template", HELLO, key, 403);
    assert_status(rig, "/apply-template", "{\"model\":\"org/demo:q8:poet\"," MESSAGES "}", key, 200);
    assert_status(rig, "/apply-template", "{\"model\":\"org/demo:q8:nobody\"," MESSAGES "}", key, 404);
    mem_free(key);
}

/* Until the store says so of the key, which it learns by looking. */
static void await_take(struct keys *k, const char *text, int status)
{
    uint64_t end = clock_ms() + PATIENCE_MS;
    uint32_t retry_s;
    while (keys_take(k, text, NULL, &retry_s, NULL) != status && clock_ms() < end)
        clock_sleep_ms(20);
    assert_int_equal(keys_take(k, text, NULL, &retry_s, NULL), status);
}

/* As of another process on the same folder. */
static void test_two_that_share_a_store_learn_from_each_other(void **state)
{
    struct rig *rig = *state;
    struct error e = { 0 };
    struct keys *other;
    rig_say(rig, "Hi", NULL);
    assert_int_equal(keys_open(&other, rig->state_dir, &e), 0);
    assert_false(keys_locked(other));
    char *alice = make_key(rig, "{\"name\":\"alice\"}"), bob[KEYS_TEXT_BYTES], none[KEYS_TEXT_BYTES];
    await_take(other, strstr(alice, "sk-"), 0);
    assert_true(keys_locked(other));
    struct keys_row row = { .name = "bob", .models = "" };
    assert_int_equal(keys_create(other, &row, bob, &e), 0);
    row.name = "alice";
    assert_int_equal(keys_create(other, &row, none, &e), ERR_CONFLICT);
    assert_int_equal(keys_revoke(other, "alice", &e), 0);
    uint64_t end = clock_ms() + PATIENCE_MS;
    struct reply r = rig_call(rig, CHAT, HELLO, alice);
    while (r.status == 200 && clock_ms() < end) {
        reply_free(&r);
        clock_sleep_ms(20);
        r = rig_call(rig, CHAT, HELLO, alice);
    }
    assert_int_equal(r.status, 401);
    reply_free(&r);
    assert_status(rig, "/admin/keys/revoke", "{\"who\":\"bob\"}", OPERATOR, 200);
    await_take(other, bob, ERR_DENIED);
    keys_close(&other);
    mem_free(alice);
}

static void test_a_tampered_store_opens_nothing(void **state)
{
    struct rig *rig = *state;
    struct error e = { 0 };
    char *key = make_key(rig, "{\"name\":\"alice\"}"), *path = database(rig), *bytes;
    size_t n;
    api_stop(&rig->api);
    assert_int_equal(path_read(path, 1 << 20, &bytes, &n, &e), 0);
    char *at = memmem(bytes, n, "alicesk-shoal-", 14);
    assert_non_null(at);
    assert_null(memmem(bytes, n, key + strlen("Authorization: Bearer "), 9 + 43));
    *at = '\n';
    assert_int_equal(path_write_atomic(path, bytes, n, 0600, &e), 0);
    assert_int_equal(rig_restart(rig, "127.0.0.1", false, &e), ERR_CORRUPT);
    memset(bytes, 'x', 100);
    assert_int_equal(path_write_atomic(path, bytes, n, 0600, &e), 0);
    assert_int_equal(rig_restart(rig, "127.0.0.1", false, &e), ERR_CORRUPT);
    mem_free(bytes);
    mem_free(path);
    mem_free(key);
}

static void test_a_public_address_needs_a_key(void **state)
{
    struct rig *rig = *state;
    struct error e = { 0 };
    assert_int_equal(rig_restart(rig, "0.0.0.0", false, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "--insecure-no-key"));
    assert_int_equal(rig_restart(rig, "0.0.0.0", true, &e), 0);
    char *key = make_key(rig, "{\"name\":\"alice\"}");
    assert_int_equal(rig_restart(rig, "0.0.0.0", false, &e), 0);
    assert_status(rig, "/v1/models", NULL, NULL, 401);
    assert_status(rig, "/v1/models", NULL, key, 200);
    mem_free(key);
}

/* The allowed origin is told so, with and without a key, and what runs on this machine; another is refused as without
 * CORS. */
static void test_pages_of_one_origin_may_ask(void **state)
{
    static const char *const local[] = { "http://localhost:3000", "http://127.0.0.1:5173", "app://obsidian.md" };
    struct rig *rig = *state;
    for (size_t i = 0; i < COUNTOF(local); i++) {
        char *header = mem_printf("Origin: %s", local[i]), *told = mem_printf("Allow-Origin: %s\r\n", local[i]);
        struct reply answer = rig_call(rig, "/v1/models", NULL, header);
        assert_int_equal(answer.status, 200);
        assert_non_null(strstr(answer.headers, told));
        mem_free(header);
        mem_free(told);
        reply_free(&answer);
    }
    struct reply r = rig_call(rig, "/v1/models", NULL, "Origin: https://chat.example");
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.headers, "Access-Control-Allow-Origin: https://chat.example\r\n"));
    reply_free(&r);
    assert_status(rig, "/v1/models", NULL, "Origin: https://chat.example.evil", 403);
    char *key = make_key(rig, "{\"name\":\"alice\"}");
    r = rig_call(rig, "/v1/models", NULL, "Origin: https://chat.example");
    assert_int_equal(r.status, 401);
    assert_non_null(strstr(r.headers, "Access-Control-Allow-Origin: https://chat.example\r\n"));
    reply_free(&r);
    mem_free(key);
}

/* A browser's question before its request; the whole answer as text. */
static void ask_first(const struct rig *rig, const char *origin, char *out, size_t max)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(api_port(rig->api)) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    char *text = mem_printf("OPTIONS %s HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\nConnection: close\r\n"
                            "Access-Control-Request-Method: POST\r\n"
                            "Access-Control-Request-Headers: authorization\r\n\r\n", CHAT, origin);
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && n + 1 < max; n += got > 0 ? (size_t)got : 0)
        got = recv(fd, out + n, max - 1 - n, 0);
    out[n] = '\0';
    close(fd);
    mem_free(text);
}

static void test_a_browser_asks_first(void **state)
{
    struct rig *rig = *state;
    char answer[4096], *key = make_key(rig, "{\"name\":\"alice\"}");
    ask_first(rig, "https://chat.example", answer, sizeof(answer));
    assert_memory_equal(answer, "HTTP/1.1 204", 12);
    assert_non_null(strstr(answer, "Access-Control-Allow-Origin: https://chat.example\r\n"));
    assert_non_null(strstr(answer, "Access-Control-Allow-Headers: authorization\r\n"));
    ask_first(rig, "http://localhost:3000", answer, sizeof(answer));
    assert_memory_equal(answer, "HTTP/1.1 204", 12);
    ask_first(rig, "https://evil.example", answer, sizeof(answer));
    assert_memory_equal(answer, "HTTP/1.1 403", 12);
    assert_null(strstr(answer, "Access-Control"));
    mem_free(key);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_start_with_keys, rig_stop)

static void assert_goes_on(struct rig *rig, const char *id, const char *header, int status)
{
    char *body = mem_printf("{\"input\":\"And?\",\"previous_response_id\":\"%s\"}", id);
    assert_status(rig, "/v1/responses", body, header, status);
    assert_status(rig, "/v1/responses/input_tokens", body, header, status);
    mem_free(body);
}

/* The answer, whole or streamed, is there for the key that asked, and as good as none for all others. */
static void assert_is_only_for(struct rig *rig, const char *id, const char *owner, const char *other)
{
    char *path = mem_printf("/v1/responses/%s", id), *bare = mem_printf("//responses//%s/", id);
    assert_status(rig, path, NULL, owner, 200);
    assert_status(rig, path, NULL, other, 404);
    assert_status(rig, bare, NULL, other, 404);
    assert_status(rig, path, NULL, OPERATOR, 404);
    assert_goes_on(rig, id, owner, 200);
    assert_goes_on(rig, id, other, 400);
    mem_free(path);
    mem_free(bare);
}

static void test_answers_are_their_key_s_own(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    char *alice = make_key(rig, "{\"name\":\"alice\"}"), *bob = make_key(rig, "{\"name\":\"bob\"}");
    struct reply r = rig_call(rig, "/v1/responses", "{\"input\":\"Hello!\"}", alice);
    assert_int_equal(r.status, 200);
    assert_is_only_for(rig, reply_text(&r, "id"), alice, bob);
    reply_free(&r);
    r = rig_call(rig, "/v1/responses", "{\"input\":\"Hello!\",\"stream\":true}", alice);
    assert_int_equal(r.status, 200);
    const char *at = strstr(r.body, "\"resp_");
    assert_non_null(at);
    char *id = mem_strndup(at + 1, strcspn(at + 1, "\""));
    assert_is_only_for(rig, id, alice, bob);
    mem_free(id);
    reply_free(&r);
    mem_free(alice);
    mem_free(bob);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_first_key_locks_the_api),
        TEST(test_a_rate_is_kept),
        TEST(test_concurrency_is_given_back),
        TEST(test_two_at_once_are_one_too_many),
        TEST(test_usage_is_counted),
        TEST(test_scored_tokens_are_counted),
        TEST(test_what_is_no_key_is_refused),
        TEST(test_answers_are_their_key_s_own),
        TEST(test_a_model_is_kept_from_a_key),
        TEST(test_two_that_share_a_store_learn_from_each_other),
        TEST(test_a_tampered_store_opens_nothing),
        TEST(test_a_public_address_needs_a_key),
        TEST(test_pages_of_one_origin_may_ask),
        TEST(test_a_browser_asks_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
