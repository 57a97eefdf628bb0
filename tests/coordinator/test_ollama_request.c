/* test_ollama_request: Ollama's bodies and what they become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "coordinator/api/ollama_request.h"

#define ROLE_USER "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define DEFAULTS "\"temperature\":0.8,\"top_k\":40,\"top_p\":0.9"

struct row {
    const char *body, *expected; /* refused: "400 param" */
};

static json_t *parse(const char *text)
{
    json_error_t why;
    json_t *j = json_loads(text, 0, &why);
    if (j == NULL)
        fail_msg("%s: %s", text, why.text);
    return j;
}

static void check(const struct row *row, int rc, json_t *made, const struct refusal *r)
{
    if (row->expected[0] != '{') {
        if (rc == 0 || strcmp(r->param, row->expected) != 0)
            fail_msg("%s should be refused because of %s, not \"%s\"", row->body, row->expected, r->param);
        assert_null(made);
        return;
    }
    json_t *expected = parse(row->expected);
    if (rc != 0 || !json_equal(made, expected)) {
        char *text = made == NULL ? mem_strdup(r->error.text) : json_text(made);
        fail_msg("%s\nshould be %s\nbut is  %s", row->body, row->expected, text);
    }
    json_decref(expected);
    json_decref(made);
}

static void test_chat(void **state)
{
    static const struct row rows[] = {
        { "{\"model\":\"m\"," ROLE_USER "}", "{\"model\":\"m\",\"stream\":true," DEFAULTS "," ROLE_USER "}" },
        /* what the command line sends */
        { "{\"model\":\"m\"," ROLE_USER ",\"format\":\"\",\"options\":{},\"tools\":null,\"think\":null}",
          "{\"model\":\"m\",\"stream\":true," DEFAULTS "," ROLE_USER "}" },
        { "{\"model\":\"m\",\"stream\":false," ROLE_USER ",\"options\":{\"num_predict\":5,\"seed\":7,\"temperature\":0,"
          "\"top_k\":10.0,\"top_p\":0.5,\"min_p\":0.1,\"repeat_penalty\":1.1,\"repeat_last_n\":64,"
          "\"presence_penalty\":1,\"frequency_penalty\":-1,\"stop\":[\"a\",\"b\"],\"num_ctx\":4096,\"mirostat\":1,"
          "\"num_gpu\":99}}",
          "{\"model\":\"m\",\"stream\":false," ROLE_USER ",\"n_predict\":5,\"seed\":7,\"temperature\":0,\"top_k\":10,"
          "\"top_p\":0.5,\"min_p\":0.1,\"repeat_penalty\":1.1,\"repeat_last_n\":64,\"presence_penalty\":1,"
          "\"frequency_penalty\":-1,\"stop\":[\"a\",\"b\"]}" },
        { "{\"model\":\"\",\"name\":\"m\"," ROLE_USER "}",
          "{\"model\":\"m\",\"stream\":true," ROLE_USER "," DEFAULTS "}" },
        { "{" ROLE_USER ",\"options\":{\"num_predict\":-1,\"seed\":-1,\"top_k\":null}}",
          "{\"stream\":true," DEFAULTS "," ROLE_USER "}" },
        { "{" ROLE_USER ",\"format\":\"json\",\"think\":false,\"keep_alive\":\"5m\"}",
          "{\"stream\":true," DEFAULTS "," ROLE_USER ",\"response_format\":{\"type\":\"json_object\"},"
          "\"reasoning_effort\":\"none\"}" },
        { "{" ROLE_USER ",\"format\":{\"type\":\"object\"},\"think\":true,\"logprobs\":true,\"top_logprobs\":3}",
          "{\"stream\":true," DEFAULTS "," ROLE_USER ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
          "{\"name\":\"format\",\"schema\":{\"type\":\"object\"}}},\"chat_template_kwargs\":{\"enable_thinking\":true},"
          "\"logprobs\":true,\"top_logprobs\":3}" },
        { "{" ROLE_USER ",\"think\":\"high\",\"logprobs\":false,\"top_logprobs\":0,"
          "\"tools\":[{\"type\":\"function\"}]}",
          "{\"stream\":true," DEFAULTS "," ROLE_USER ",\"reasoning_effort\":\"high\",\"logprobs\":false,"
          "\"tools\":[{\"type\":\"function\"}]}" },
        { "{" ROLE_USER ",\"format\":\"xml\"}", "format" },
        { "{" ROLE_USER ",\"format\":[1]}", "format" },
        { "{" ROLE_USER ",\"think\":1}", "think" },
        { "{" ROLE_USER ",\"stream\":\"yes\"}", "stream" },
        { "{" ROLE_USER ",\"options\":[]}", "options" },
        { "{\"messages\":{}}", "messages" },
        { "{\"messages\":[1]}", "messages[0]" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"images\":[\"aGk=\"]}]}", "messages[0]" },
        { "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]}]}", "messages[0].tool_calls" },
        { "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":"
          "[{\"function\":{\"name\":\"f\",\"arguments\":5}}]}]}",
          "messages[0].tool_calls" },
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct refusal r = { 0 };
        json_t *body = parse(rows[i].body), *made = NULL;
        int rc = ollama_chat_body(body, &made, &r);
        check(&rows[i], rc, made, &r);
        json_decref(body);
    }
}

#define CALL(id, name, arguments)                                                                                      \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"arguments\":\"" arguments "\"}}"

/* Results find their calls by id, by the tool's name, or by their order. */
static void test_calls_get_ids_and_results_find_them(void **state)
{
    static const char given[] =
        "{\"messages\":[{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"so\",\"tool_calls\":["
        "{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}},"
        "{\"function\":{\"name\":\"g\",\"arguments\":{}}},"
        "{\"id\":\"mine\",\"function\":{\"name\":\"f\"}}]},"
        "{\"role\":\"tool\",\"content\":\"1\",\"tool_name\":\"g\"},"
        "{\"role\":\"tool\",\"content\":\"2\",\"tool_call_id\":\"mine\"},"
        "{\"role\":\"tool\",\"content\":\"3\"},"
        "{\"role\":\"tool\",\"content\":\"4\"}]}";
    static const char expected[] =
        "{\"messages\":[{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":\"so\",\"tool_calls\":["
        CALL("call_0_0", "f", "{\\\"a\\\":1}") "," CALL("call_0_1", "g", "{}") "," CALL("mine", "f", "{}") "]},"
        "{\"role\":\"tool\",\"content\":\"1\",\"name\":\"g\",\"tool_call_id\":\"call_0_1\"},"
        "{\"role\":\"tool\",\"content\":\"2\",\"name\":\"f\",\"tool_call_id\":\"mine\"},"
        "{\"role\":\"tool\",\"content\":\"3\",\"name\":\"f\",\"tool_call_id\":\"call_0_0\"},"
        "{\"role\":\"tool\",\"content\":\"4\",\"tool_call_id\":\"call_0\"}],"
        "\"stream\":true," DEFAULTS "}";
    const struct row row = { given, expected };
    struct refusal r = { 0 };
    json_t *body = parse(given), *made = NULL;
    (void)state;
    int rc = ollama_chat_body(body, &made, &r);
    check(&row, rc, made, &r);
    json_decref(body);
}

/* Else a request could have each of many results looked for among as many calls. */
static void test_few_calls_wait(void **state)
{
    json_t *calls = json_array(), *made = NULL;
    struct refusal r = { 0 };
    (void)state;
    for (int i = 0; i < 300; i++)
        json_array_append_new(calls, json_pack("{s:{s:s}}", "function", "name", "f"));
    json_t *body = json_pack("{s:[{s:s, s:o}, {s:s, s:s}]}", "messages", "role", "assistant", "tool_calls", calls,
                             "role", "tool", "content", "1");
    assert_int_equal(ollama_chat_body(body, &made, &r), 0);
    const json_t *result = json_array_get(json_object_get(made, "messages"), 1);
    assert_string_equal(json_string_value(json_object_get(result, "tool_call_id")), "call_0_44");
    json_decref(made);
    json_decref(body);
}

static void test_generate(void **state)
{
    static const struct {
        struct row row;
        enum ollama_form form;
    } rows[] = {
        { { "{\"model\":\"m\",\"prompt\":\"hi\",\"system\":\"\",\"template\":\"\",\"context\":[],\"images\":null}",
            "{\"model\":\"m\",\"stream\":true," DEFAULTS "," ROLE_USER "}" }, OLLAMA_AS_CHAT },
        { { "{\"prompt\":\"hi\",\"system\":\"be\",\"think\":false}",
            "{\"stream\":true," DEFAULTS ",\"reasoning_effort\":\"none\",\"messages\":[{\"role\":\"system\","
            "\"content\":\"be\"},{\"role\":\"user\",\"content\":\"hi\"}]}" }, OLLAMA_AS_CHAT },
        { { "{\"prompt\":\"hi\",\"suffix\":\"end\",\"stream\":false,\"think\":true,\"logprobs\":true}",
            "{\"stream\":false," DEFAULTS ",\"prompt\":\"hi\",\"suffix\":\"end\",\"logprobs\":0}" },
          OLLAMA_AS_COMPLETION },
        { { "{\"prompt\":\"hi\",\"raw\":true,\"logprobs\":true,\"top_logprobs\":4}",
            "{\"stream\":true," DEFAULTS ",\"prompt\":\"hi\",\"logprobs\":4}" }, OLLAMA_AS_COMPLETION },
        { { "{}", "prompt" }, OLLAMA_AS_CHAT },
        { { "{\"prompt\":5}", "prompt" }, OLLAMA_AS_CHAT },
        { { "{\"prompt\":\"hi\",\"template\":\"{{ .Prompt }}\"}", "template" }, OLLAMA_AS_CHAT },
        { { "{\"prompt\":\"hi\",\"context\":[1,2]}", "context" }, OLLAMA_AS_CHAT },
        { { "{\"prompt\":\"hi\",\"images\":[\"aGk=\"]}", "images" }, OLLAMA_AS_CHAT },
        { { "{\"prompt\":\"hi\",\"system\":\"be\"}", "system" }, OLLAMA_AS_COMPLETION },
        { { "{\"prompt\":\"hi\",\"format\":7}", "format" }, OLLAMA_AS_COMPLETION },
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct refusal r = { 0 };
        json_t *body = parse(rows[i].row.body), *made = NULL;
        int rc = ollama_generate_body(body, rows[i].form, &made, &r);
        check(&rows[i].row, rc, made, &r);
        json_decref(body);
    }
}

static void test_empty_requests_load_or_unload(void **state)
{
    static const struct {
        const char *body;
        enum ollama_work work;
        int status;
    } rows[] = {
        { "{}", OLLAMA_LOAD, 0 },
        { "{\"prompt\":\"\"}", OLLAMA_LOAD, 0 },
        { "{\"messages\":[],\"keep_alive\":\"5m0s\"}", OLLAMA_LOAD, 0 },
        { "{\"keep_alive\":-1}", OLLAMA_LOAD, 0 },
        { "{\"keep_alive\":0}", OLLAMA_UNLOAD, 0 },
        { "{\"keep_alive\":\"0\"}", OLLAMA_UNLOAD, 0 },
        { "{\"keep_alive\":\"0s\"}", OLLAMA_UNLOAD, 0 },
        { "{\"prompt\":\"a\",\"keep_alive\":0}", OLLAMA_GENERATE, 0 },
        { "{" ROLE_USER "}", OLLAMA_GENERATE, 0 },
        { "{\"keep_alive\":true}", OLLAMA_GENERATE, ERR_INVALID },
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct refusal r = { 0 };
        enum ollama_work work = OLLAMA_GENERATE;
        json_t *body = parse(rows[i].body);
        assert_int_equal(ollama_work_of(body, &work, &r), rows[i].status);
        assert_int_equal(work, rows[i].work);
        json_decref(body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_calls_get_ids_and_results_find_them),
        cmocka_unit_test(test_few_calls_wait),
        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_empty_requests_load_or_unload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
