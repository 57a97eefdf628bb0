/* test_coordinator: the real thing: control, engine and API start, a node joins, a question is answered, all stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/path.h"
#include "coordinator/coordinator.h"
#include "net/keys.h"
#include "node/node.h"
#include "tests/coordinator/http_client.h"
#include "tests/net/folder.h"

#define MODEL "tests/data/shoal-demo-q8_0.gguf"
#define QUESTION "{\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]"

enum { READY_MS = 60000 };

struct fixture {
    char *state_dir, *node_dir;
    struct coordinator_options options;
    struct coordinator *c;
};

static int start(void **state)
{
    static int turn; /* every test has folders of its own */
    struct fixture *f = mem_alloc(sizeof(*f));
    struct error e = { 0 };
    *state = f;
    if (keys_init(&e) != 0)
        return -1;
    f->state_dir = mem_printf("%s-%d", in_folder("coordinator"), ++turn);
    f->node_dir = mem_printf("%s-%d", in_folder("node"), turn);
    f->options = (struct coordinator_options){
        .control = {
            .model_path = MODEL,
            .state_dir = f->state_dir,
            .cache_dir = folder,
            .listen_host = "127.0.0.1",
            .advertise = "127.0.0.1",
            .nodes_min = 1,
            .trusted_local = true,
        },
        .http_host = "127.0.0.1",
    };
    if (coordinator_start(&f->c, &f->options, &e) != 0) {
        print_error("%s\n", e.text);
        return -1;
    }
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;
    coordinator_stop(&f->c);
    mem_free(f->state_dir);
    mem_free(f->node_dir);
    mem_free(f);
    return 0;
}

static void test_without_a_node_it_says_so(void **state)
{
    struct fixture *f = *state;
    uint16_t port = coordinator_http_port(f->c);
    struct reply r = http_call(port, "/health", NULL, NULL);
    assert_int_equal(r.status, 503);
    assert_non_null(reply_text(&r, "error.message"));
    reply_free(&r);
    r = http_call(port, "/v1/models", NULL, NULL);
    assert_string_equal(reply_text(&r, "data.0.id"), "shoal-demo-q8_0");
    reply_free(&r);
    r = http_call(port, "/v1/chat/completions", QUESTION "}", NULL);
    assert_int_equal(r.status, 503);
    reply_free(&r);
    r = http_call(port, "/status", NULL, NULL);
    assert_non_null(r.json);
    reply_free(&r);
}

static void test_the_operator_invites_with_the_token_of_the_state_dir(void **state)
{
    struct fixture *f = *state;
    char *path = path_join(f->state_dir, "admin-token"), *token;
    size_t len;
    assert_int_equal(path_read(path, 1000, &token, &len, NULL), 0);
    char *header = mem_printf("Authorization: Bearer %s", token);
    struct reply r = http_call(coordinator_http_port(f->c), "/admin/invite", "{}", header);
    assert_int_equal(r.status, 200);
    assert_memory_equal(reply_text(&r, "invite"), "shoal1.", 7);
    reply_free(&r);
    r = http_call(coordinator_http_port(f->c), "/admin/revoke", "{\"who\":\"nobody\"}", header);
    assert_int_equal(r.status, 404);
    reply_free(&r);
    mem_free(header);
    mem_free(token);
    mem_free(path);
}

static void test_a_port_in_use_stops_the_start(void **state)
{
    struct fixture *f = *state;
    struct coordinator *other = NULL;
    struct coordinator_options o = f->options;
    struct error e = { 0 };
    o.control.state_dir = in_folder("other");
    o.http_port = coordinator_http_port(f->c);
    assert_int_equal(coordinator_start(&other, &o, &e), ERR_CONFLICT);
    assert_null(other);
    assert_non_null(strstr(e.text, "in use"));
}

static struct node *join(struct fixture *f)
{
    struct error e = { 0 };
    struct node *node = NULL;
    char *invite;
    assert_int_equal(control_invite(coordinator_control(f->c), 1, 600, NULL, &invite, &e), 0);
    struct node_options o = {
        .invite = invite,
        .name = "local",
        .state_dir = f->node_dir,
        .cache_dir = folder,
        .model_path = MODEL,
        .listen = "127.0.0.1:0",
        .advertise = "127.0.0.1",
        .threads = 1,
        .trust_model_path = true,
    };
    assert_int_equal(node_start(&node, &o, &e), 0);
    mem_free(invite);
    for (uint64_t until = clock_ms() + READY_MS; clock_ms() < until; clock_sleep_ms(50)) {
        struct reply r = http_call(coordinator_http_port(f->c), "/health", NULL, NULL);
        int status = r.status;
        reply_free(&r);
        if (status == 200)
            return node;
        assert_int_equal(node_wait(node, 0, &e), ERR_TIMEOUT);
    }
    fail_msg("no route in time");
    return NULL;
}

static void test_a_node_makes_it_answer(void **state)
{
    struct fixture *f = *state;
    struct node *node = join(f);
    uint16_t port = coordinator_http_port(f->c);
    struct reply r = http_call(port, "/v1/chat/completions", QUESTION ",\"n\":2}", NULL);
    assert_int_equal(r.status, 200);
    assert_string_equal(reply_text(&r, "choices.0.message.content"), "The capital of France is Paris.");
    assert_string_equal(reply_text(&r, "choices.1.message.content"), "The capital of France is Paris.");
    assert_string_equal(reply_text(&r, "choices.1.finish_reason"), "stop");
    reply_free(&r);
    r = http_call(port, "/v1/chat/completions", QUESTION ",\"stream\":true,\"stop\":\" is\"}", NULL);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "{\"content\":\"The\"}"));
    assert_non_null(strstr(r.body, "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\""));
    assert_null(strstr(r.body, " is"));
    assert_string_equal(r.body + r.len - 14, "data: [DONE]\n\n");
    reply_free(&r);
    r = http_call(port, "/shoal/logits", "{\"tokens\":[2040,286,198,321,287]}", NULL);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.len, 5 * 2048 * sizeof(float));
    reply_free(&r);
    r = http_call(port, "/v1/completions", "{\"prompt\":\"ROMEO:\\n\",\"temperature\":0,\"max_tokens\":3,\"echo\":true,"
                  "\"logprobs\":1}", NULL);
    assert_int_equal(r.status, 200);
    assert_memory_equal(reply_text(&r, "choices.0.text"), "ROMEO:\nI'll", 11);
    reply_free(&r);
    node_stop(&node);
}

int main(void)
{
#define WITH_COORDINATOR(test) cmocka_unit_test_setup_teardown(test, start, stop)
    const struct CMUnitTest tests[] = {
        WITH_COORDINATOR(test_without_a_node_it_says_so),
        WITH_COORDINATOR(test_the_operator_invites_with_the_token_of_the_state_dir),
        WITH_COORDINATOR(test_a_port_in_use_stops_the_start),
        WITH_COORDINATOR(test_a_node_makes_it_answer),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
