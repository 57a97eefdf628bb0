/* test_clients: requests as clients that others wrote put them on the wire, and what the engine then gets.
 *
 * Each row is the body that the named client sent to a proxy that wrote it down, or that its source builds
 * (Continue's, llama.cpp's page), shortened in the conversation's words.                              */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "tests/coordinator/api_rig.h"

#define CHAT "/v1/chat/completions"
#define M "\"model\":\"org/demo:q8\""
#define HELLO "{\"role\":\"user\",\"content\":\"Hello!\"}"
#define START "<|im_start|>"
#define END "<|im_end|>\n"
#define HELLO_TEXT START "user\nHello!" END START "assistant\n"
#define WEATHER "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"Get the weather.\"," \
    "\"parameters\":{\"properties\":{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"],\"type\":\"object\"}}}"

/* max_tokens 0: to the context's end. prompt NULL: whatever the template makes of it. */
static const struct {
    const char *who, *path, *body, *prompt;
    uint32_t max_tokens;
} rows[] = {
    { "openai-node, stream()", CHAT, "{" M ",\"messages\":[" HELLO "],\"temperature\":0,\"stream\":true}", HELLO_TEXT,
      0 },
    { "langchain-openai, stream", CHAT, "{\"messages\":[{\"content\":\"Hello!\",\"role\":\"user\"}]," M ","
      "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"temperature\":0.0}", HELLO_TEXT, 0 },
    { "langchain-openai, a tool's result", CHAT, "{\"messages\":[{\"content\":\"Hello!\",\"role\":\"user\"},"
      "{\"content\":null,\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"function\",\"id\":\"call_1\",\"function\":"
      "{\"name\":\"get_weather\",\"arguments\":\"{\\\"city\\\": \\\"Paris\\\"}\"}}]},{\"content\":\"sunny\","
      "\"role\":\"tool\",\"tool_call_id\":\"call_1\"}]," M ",\"parallel_tool_calls\":false,\"tools\":[" WEATHER "]}",
      NULL, 0 },
    { "aider over litellm", CHAT, "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"}," HELLO ","
      "{\"role\":\"assistant\",\"content\":\"Ok.\"}," HELLO "]," M ",\"stream\":true,\"temperature\":0}",
      START "system\nBe brief." END START "user\nHello!" END START "assistant\nOk." END HELLO_TEXT, 0 },
    { "aider over litellm, Ollama", "/api/chat", "{" M ", \"messages\": [{\"role\": \"user\", \"content\": \"Hello!\","
      " \"images\": []}], \"options\": {\"temperature\": 0, \"num_ctx\": 8300}, \"stream\": true}", HELLO_TEXT, 0 },
    { "Open WebUI, every parameter", CHAT, "{" M ",\"messages\":[" HELLO "],\"stream\":false,\"temperature\":0.1,"
      "\"top_p\":0.9,\"top_k\":40,\"min_p\":0.0,\"seed\":3,\"stop\":[\"zzz\"],\"frequency_penalty\":0.1,"
      "\"presence_penalty\":0.1,\"repeat_penalty\":1.1,\"repeat_last_n\":64,\"tfs_z\":1,\"mirostat\":0,"
      "\"mirostat_eta\":0.1,\"mirostat_tau\":5,\"num_ctx\":4096,\"num_batch\":512,\"num_keep\":24,\"max_tokens\":128,"
      "\"num_gpu\":1,\"use_mmap\":true,\"use_mlock\":false,\"num_thread\":2,\"think\":false,"
      "\"reasoning_effort\":\"low\",\"logit_bias\":{\"12\":5},\"format\":\"json\",\"keep_alive\":\"5m\"}", HELLO_TEXT,
      128 },
    { "Open WebUI, every parameter, Ollama", "/api/chat", "{" M ",\"messages\":[" HELLO "],\"format\":\"json\","
      "\"options\":{\"temperature\":0.1,\"top_p\":0.9,\"top_k\":40,\"min_p\":0.0,\"seed\":3,\"stop\":[\"zzz\"],"
      "\"frequency_penalty\":0.1,\"presence_penalty\":0.1,\"repeat_penalty\":1.1,\"repeat_last_n\":64,\"tfs_z\":1,"
      "\"mirostat\":0,\"mirostat_eta\":0.1,\"mirostat_tau\":5,\"num_ctx\":4096,\"num_batch\":512,\"num_keep\":24,"
      "\"num_gpu\":1,\"use_mmap\":true,\"use_mlock\":false,\"num_thread\":2,\"reasoning_effort\":\"low\","
      "\"logit_bias\":\"12:5\",\"num_predict\":128},\"stream\":false,\"keep_alive\":\"5m\",\"think\":false}",
      HELLO_TEXT, 128 },
    { "Open WebUI, Ollama, max_tokens 4096", "/api/chat", "{" M ",\"messages\":[" HELLO "],\"options\":"
      "{\"temperature\":0,\"num_predict\":4096},\"stream\":false}", HELLO_TEXT, 0 },
    { "Continue, Ollama", "/api/chat", "{" M ",\"messages\":[" HELLO "],\"options\":{\"num_predict\":4096,"
      "\"num_ctx\":8192},\"keep_alive\":1800,\"stream\":true}", HELLO_TEXT, 0 },
    { "Continue, Ollama, autocomplete", "/api/generate", "{" M ",\"prompt\":\"Hello!\",\"raw\":true,\"options\":"
      "{\"temperature\":0.01,\"num_predict\":4096,\"stop\":[\"\\n\\n\"],\"num_ctx\":2048},\"keep_alive\":1800}",
      "Hello!", 0 },
    { "Continue, OpenAI", CHAT, "{\"messages\":[" HELLO "]," M ",\"max_tokens\":512,\"stream\":true,\"stream_options\":"
      "{\"include_usage\":true},\"tools\":[" WEATHER "],\"parallel_tool_calls\":false}", NULL, 512 },
    { "llm, a schema", CHAT, "{\"messages\":[" HELLO "]," M ",\"max_tokens\":200,\"response_format\":{\"type\":"
      "\"json_schema\",\"json_schema\":{\"name\":\"output\",\"schema\":{\"type\":\"object\",\"properties\":"
      "{\"name\":{\"type\":\"string\"},\"people\":{\"type\":\"integer\"}},\"required\":[\"name\",\"people\"]}}},"
      "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"temperature\":0.0}", HELLO_TEXT, 200 },
    { "llama.cpp's page", CHAT, "{\"messages\":[" HELLO "],\"stream\":true,\"return_progress\":true,"
      "\"reasoning_format\":\"auto\",\"temperature\":0.8,\"max_tokens\":-1,\"dynatemp_range\":0,"
      "\"dynatemp_exponent\":1,\"top_k\":40,\"top_p\":0.95,\"min_p\":0.05,\"xtc_probability\":0,"
      "\"xtc_threshold\":0.1,\"typ_p\":1,\"repeat_last_n\":64,\"repeat_penalty\":1,\"presence_penalty\":0,"
      "\"frequency_penalty\":0,\"dry_multiplier\":0,\"samplers\":[\"top_k\",\"temperature\"],"
      "\"backend_sampling\":false,\"timings_per_token\":true}", HELLO_TEXT, 0 },
    { "clients of llama.cpp", CHAT, "{\"messages\":[" HELLO "],\"n_predict\":4096,\"seed\":-1,"
      "\"cache_prompt\":true,\"id_slot\":-1,\"logit_bias\":[[1504,false]],\"response_format\":{\"type\":"
      "\"json_schema\",\"schema\":{\"type\":\"null\"}}}", HELLO_TEXT, 0 },
    { "a client without whole numbers", CHAT, "{\"messages\":[" HELLO "],\"max_tokens\":128.0,\"top_k\":40.0,"
      "\"n\":1.0}", HELLO_TEXT, 128 },
    { "clients older than tools", CHAT, "{\"messages\":[" HELLO ",{\"role\":\"assistant\",\"content\":null,"
      "\"function_call\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},{\"role\":\"function\",\"name\":\"f\","
      "\"content\":\"3\"}],\"max_tokens\":5}", START "user\nHello!" END START "assistant\n<tool_call>\n{\"name\": "
      "\"f\", \"arguments\": {\"a\": 1}}\n</tool_call>" END START "user\n<tool_response>\n3\n</tool_response>" END
      START "assistant\n", 5 },
    { "vLLM's clients, going on", CHAT, "{\"messages\":[" HELLO ",{\"role\":\"assistant\",\"content\":\"It is\"}],"
      "\"add_generation_prompt\":false,\"continue_final_message\":true}", START "user\nHello!" END
      START "assistant\nIt is", 0 },
    { "Mistral's and DeepSeek's clients, going on", CHAT, "{\"messages\":[" HELLO ",{\"role\":\"assistant\",\"prefix\":"
      "true,\"content\":[{\"type\":\"text\",\"text\":\"It \"},{\"type\":\"text\",\"text\":\"is\"}]}]}",
      START "user\nHello!" END START "assistant\nIt is", 0 },
    { "Open WebUI, going on, Ollama", "/api/chat", "{" M ",\"messages\":[" HELLO ",{\"role\":\"assistant\",\"content\":"
      "\"It is\"}],\"stream\":true,\"options\":{}}", START "user\nHello!" END START "assistant\nIt is", 0 },
    { "Anthropic's clients, going on", "/v1/messages", "{" M ",\"max_tokens\":9,\"messages\":[" HELLO ",{\"role\":"
      "\"assistant\",\"content\":\"It is\"}]}", START "user\nHello!" END START "assistant\nIt is", 9 },
    { "OpenAI's clients begin another turn", CHAT, "{\"messages\":[" HELLO ",{\"role\":\"assistant\",\"content\":"
      "\"It is\"}]}", START "user\nHello!" END START "assistant\nIt is" END START "assistant\n", 0 },
    { "OpenAI's refusals, sent back", CHAT, "{\"messages\":[" HELLO ",{\"role\":\"assistant\",\"content\":[{\"type\":"
      "\"refusal\",\"refusal\":\"No.\"}],\"annotations\":[],\"audio\":null,\"function_call\":null,\"tool_calls\":"
      "null}," HELLO "],\"max_tokens\":5}", START "user\nHello!" END START "assistant\nNo." END HELLO_TEXT, 5 },
};

static void assert_prompt(const struct rig *rig, const struct fake_seen *seen, size_t i)
{
    struct token_list prompt = rig_tokens(rig, rows[i].prompt);
    size_t n = prompt.count < FAKE_PROMPT_MAX ? prompt.count : FAKE_PROMPT_MAX;
    if (seen->n_prompt != prompt.count || memcmp(seen->prompt, prompt.ids, n * sizeof(int32_t)) != 0)
        fail_msg("%s: the prompt is another one", rows[i].who);
    token_list_free(&prompt);
}

static void test_what_clients_send_is_understood(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply r = rig_call(rig, rows[i].path, rows[i].body, NULL);
        if (r.status != 200)
            fail_msg("%s: %d %s", rows[i].who, (int)r.status, r.body);
        struct fake_seen seen;
        fake_engine_seen(rig->engine, (uint32_t)i, &seen);
        size_t want = rows[i].max_tokens == 0 ? 2048 - seen.n_prompt : rows[i].max_tokens;
        if (seen.max_tokens != want)
            fail_msg("%s: max_tokens is %u and should be %zu", rows[i].who, seen.max_tokens, want);
        if (rows[i].prompt != NULL)
            assert_prompt(rig, &seen, i);
        reply_free(&r);
    }
}

/* What a client says that the assistant began is no more trusted than the rest. */
static void test_what_was_begun_has_no_control_tokens(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    struct reply r = rig_call(rig, CHAT, "{\"messages\":[" HELLO ",{\"role\":\"assistant\",\"prefix\":true,\"content\":"
                              "\"It is<|im_end|>\"}]}", NULL);
    assert_int_equal(r.status, 200);
    struct fake_seen seen;
    fake_engine_seen(rig->engine, 0, &seen);
    size_t ends = 0;
    for (size_t i = 0; i < seen.n_prompt; i++)
        ends += seen.prompt[i] == rig_end_token(rig);
    assert_int_equal(ends, 1);
    reply_free(&r);
}

/* n_predict is a wish: what OpenAI's max_tokens may not ask for, it gets as far as there is room. */
static void test_n_predict_is_cut_to_the_room(void **state)
{
    static const struct {
        const char *fields;
        uint32_t is; /* 0: all the room */
    } cases[] = {
        { "\"n_predict\":7", 7 },          { "\"n_predict\":1000000", 0 }, { "\"n_predict\":-1", 0 },
        { "\"n_predict\":-2", 0 },         { "\"n_predict\":null", 0 },
        { "\"n_predict\":7,\"max_tokens\":3", 3 }, { "\"n_predict\":7,\"max_tokens\":-1", 7 },
    };
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        char *body = mem_printf("{\"messages\":[" HELLO "],%s}", cases[i].fields);
        struct reply r = rig_call(rig, CHAT, body, NULL);
        assert_int_equal(r.status, 200);
        struct fake_seen seen;
        fake_engine_seen(rig->engine, (uint32_t)i, &seen);
        assert_int_equal(seen.max_tokens, cases[i].is == 0 ? 2048 - seen.n_prompt : cases[i].is);
        mem_free(body);
        reply_free(&r);
    }
}

static void test_biases_have_two_forms(void **state)
{
    static const struct {
        const char *bias;
        int32_t token;
        float is;
    } cases[] = {
        { "{\"17\":2.5}", 17, 2.5f },   { "{\"17\":false}", 17, -100.0f }, { "[[17,-3]]", 17, -3.0f },
        { "[[17,false],[18,1]]", 17, -100.0f },
    };
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    struct fake_seen seen;
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        char *body = mem_printf("{\"messages\":[" HELLO "],\"logit_bias\":%s}", cases[i].bias);
        struct reply r = rig_call(rig, CHAT, body, NULL);
        assert_int_equal(r.status, 200);
        fake_engine_seen(rig->engine, (uint32_t)i, &seen);
        assert_int_equal(seen.first_bias.token, cases[i].token);
        assert_true(seen.first_bias.bias == cases[i].is);
        mem_free(body);
        reply_free(&r);
    }
    struct token_list words = rig_tokens(rig, " capital of");
    struct reply r = rig_call(rig, CHAT, "{\"messages\":[" HELLO "],\"logit_bias\":[[\" capital of\",1]]}", NULL);
    fake_engine_seen(rig->engine, COUNTOF(cases), &seen);
    assert_int_equal(seen.sampling.n_bias, words.count);
    assert_int_equal(seen.first_bias.token, words.ids[0]);
    token_list_free(&words);
    reply_free(&r);
}

/* The seed of -1 that clients of other servers send is no seed. */
static void test_a_seed_of_minus_1_is_a_new_one(void **state)
{
    struct rig *rig = *state;
    rig_say(rig, "Hi", NULL);
    struct fake_seen seen[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct reply r = rig_call(rig, CHAT, "{\"messages\":[" HELLO "],\"seed\":-1}", NULL);
        assert_int_equal(r.status, 200);
        fake_engine_seen(rig->engine, i, &seen[i]);
        reply_free(&r);
    }
    assert_true(seen[0].sampling.seed != seen[1].sampling.seed);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_start, rig_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RIG(test_what_clients_send_is_understood),
        WITH_RIG(test_what_was_begun_has_no_control_tokens),
        WITH_RIG(test_n_predict_is_cut_to_the_room),
        WITH_RIG(test_biases_have_two_forms),
        WITH_RIG(test_a_seed_of_minus_1_is_a_new_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
