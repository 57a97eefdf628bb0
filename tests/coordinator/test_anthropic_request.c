/* test_anthropic_request: bodies of Anthropic's Messages API and what they become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "coordinator/api/anthropic.h"
#include "coordinator/api/translate.h"
#include "tests/coordinator/translated.h"

#define ASK "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define ASKS(content) "{\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":" content "}]}"
#define GIVEN(content) "{\"n_predict\":5,\"messages\":[{\"role\":\"user\",\"content\":" content "}]}"
#define WITH(field) "{\"max_tokens\":5," ASK "," field "}"
#define GIVES(field) "{\"n_predict\":5," ASK "," field "}"

static int as_answer(const json_t *body, json_t **out, struct refusal *r)
{
    return anthropic_chat_body(body, ANTHROPIC_ANSWER, out, r);
}

static int as_count(const json_t *body, json_t **out, struct refusal *r)
{
    return anthropic_chat_body(body, ANTHROPIC_COUNT, out, r);
}

static void test_fields(void **state)
{
    static const struct translated rows[] = {
        { "{\"model\":\"m\",\"max_tokens\":5,\"stream\":true,\"temperature\":0.5,\"top_p\":0.9,\"top_k\":40," ASK ","
          "\"metadata\":{\"user_id\":\"u\"},\"service_tier\":\"auto\",\"stop_sequences\":[\"a\",\"b\"],"
          "\"cache_control\":{\"type\":\"ephemeral\"},\"top_logprobs\":3}",
          "{\"model\":\"m\",\"n_predict\":5,\"stream\":true,\"temperature\":0.5,\"top_p\":0.9,\"top_k\":40," ASK ","
          "\"stop\":[\"a\",\"b\"]}" },
        { WITH("\"thinking\":null,\"tools\":[],\"tool_choice\":null,\"system\":null,\"container\":null,"
               "\"mcp_servers\":[],\"output_config\":null,\"stop_sequences\":null"), "{\"n_predict\":5," ASK "}" },
        { WITH("\"thinking\":{\"type\":\"disabled\"}"), GIVES("\"reasoning_effort\":\"none\"") },
        { WITH("\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{\"effort\":\"low\"}"),
          GIVES("\"chat_template_kwargs\":{\"enable_thinking\":true,\"reasoning_effort\":\"low\"}") },
        { WITH("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}"),
          GIVES("\"chat_template_kwargs\":{\"enable_thinking\":true},\"thinking_token_budget\":1024") },
        { WITH("\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}}"),
          GIVES("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"output\",\"schema\":"
                "{\"type\":\"object\"}}}") },
        { WITH("\"output_format\":{\"type\":\"json_schema\",\"schema\":{}}"),
          GIVES("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"output\",\"schema\":{}}}") },
        { "{" ASK "}", "max_tokens" },
        { "{\"max_tokens\":null," ASK "}", "max_tokens" },
        { "{\"max_tokens\":0," ASK "}", "max_tokens" },
        { "{\"max_tokens\":1.5," ASK "}", "max_tokens" },
        { "{\"max_tokens\":\"5\"," ASK "}", "max_tokens" },
        { WITH("\"thinking\":{\"type\":\"on\"}"), "thinking" },
        { WITH("\"thinking\":true"), "thinking" },
        { WITH("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":0}"), "thinking" },
        { WITH("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":\"9\"}"), "thinking" },
        { WITH("\"output_config\":{\"format\":{\"type\":\"json\"}}"), "output_config" },
        { WITH("\"output_config\":{\"format\":{\"type\":\"json_schema\"}}"), "output_config" },
        { WITH("\"output_config\":{\"effort\":3}"), "output_config" },
        { WITH("\"stop_sequences\":\"a\""), "stop_sequences" },
        { WITH("\"stop_sequences\":[\"\"]"), "stop_sequences" },
        { WITH("\"stop_sequences\":[1]"), "stop_sequences" },
        { WITH("\"stop_sequences\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\","
               "\"e\",\"f\",\"g\",\"h\"]"), "stop_sequences" },
        { WITH("\"container\":\"c\""), "container" },
        { WITH("\"mcp_servers\":[{}]"), "mcp_servers" },
    };
    (void)state;
    check_translated(rows, COUNTOF(rows), as_answer);
}

static void test_messages(void **state)
{
    static const struct translated rows[] = {
        { WITH("\"system\":\"be\""), "{\"n_predict\":5,\"messages\":[{\"role\":\"system\",\"content\":\"be\"},"
                                     "{\"role\":\"user\",\"content\":\"hi\"}]}" },
        { WITH("\"system\":[{\"type\":\"text\",\"text\":\"a\",\"cache_control\":{}},"
               "{\"type\":\"text\",\"text\":\"b\"}]"),
          "{\"n_predict\":5,\"messages\":[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
          "{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"user\",\"content\":\"hi\"}]}" },
        { WITH("\"system\":[]"), "{\"n_predict\":5," ASK "}" },
        { ASKS("[{\"type\":\"text\",\"text\":\"hi\"}]"), "{\"n_predict\":5," ASK "}" },
        { ASKS("[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]"),
          GIVEN("[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]") },
        { "{\"max_tokens\":5}", "messages" },
        { "{\"max_tokens\":5,\"messages\":[]}", "messages" },
        { "{\"max_tokens\":5,\"messages\":\"hi\"}", "messages" },
        { "{\"max_tokens\":5,\"messages\":[7]}", "messages" },
        { "{\"max_tokens\":5,\"messages\":[{\"role\":\"tool\",\"content\":\"a\"}]}", "messages" },
        { "{\"max_tokens\":5,\"messages\":[{\"role\":\"user\"}]}", "messages[0].content" },
        { "{\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
          "\"content\":\"b\"}]}",
          "{\"n_predict\":5,\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
          "\"content\":\"b\"}],\"continue_final_message\":true}" },
        { "{\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
          "\"content\":[{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}]}]}", "messages" },
        { ASKS("[{\"type\":\"text\"}]"), "messages[0].content[0]" },
        { ASKS("[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image\",\"source\":{}}]"), "messages[0].content[1]" },
        { ASKS("[{\"type\":\"document\"}]"), "messages[0].content[0]" },
        { ASKS("[{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{}}]"), "messages[0].content[0]" },
        { ASKS("[{\"type\":\"tool_result\"}]"), "messages[0].content[0]" },
        { ASKS("[{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":[{\"type\":\"image\"}]}]"),
          "messages[0].content[0][0]" },
        { ASKS("[{}]"), "messages[0].content[0]" },
        { ASKS("[7]"), "messages[0].content[0]" },
        { "{\"max_tokens\":5,\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"a\","
          "\"name\":\"f\",\"input\":\"{}\"}]}]}", "messages[0].content[0]" },
        { "{\"max_tokens\":5,\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\"}]}]}",
          "messages[0].content[0]" },
        { WITH("\"system\":5"), "system" },
        { WITH("\"system\":[{\"type\":\"image\"}]"), "system[0]" },
    };
    (void)state;
    check_translated(rows, COUNTOF(rows), as_answer);
}

/* What agents send: thoughts, text and calls of one turn; results and words of the next. */
static void test_turns_with_tools(void **state)
{
    static const struct translated rows[] = {
        { "{\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"go\"},{\"role\":\"assistant\",\"content\":["
          "{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"s\"},"
          "{\"type\":\"redacted_thinking\",\"data\":\"x\"},"
          "{\"type\":\"thinking\",\"thinking\":\"so\",\"signature\":\"\"},"
          "{\"type\":\"text\",\"text\":\"I look.\"},"
          "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{\"a\":[1]}},"
          "{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"g\"}]},{\"role\":\"user\",\"content\":["
          "{\"type\":\"tool_result\",\"tool_use_id\":\"t1\",\"content\":\"one\"},"
          "{\"type\":\"tool_result\",\"tool_use_id\":\"t2\",\"is_error\":true,\"content\":["
          "{\"type\":\"text\",\"text\":\"two\"}]},"
          "{\"type\":\"text\",\"text\":\"and?\"},"
          "{\"type\":\"tool_result\",\"tool_use_id\":\"t3\"}]}]}",
          "{\"n_predict\":5,\"messages\":[{\"role\":\"user\",\"content\":\"go\"},{\"role\":\"assistant\","
          "\"content\":\"I look.\",\"reasoning_content\":\"hm\\nso\",\"tool_calls\":["
          "{\"id\":\"t1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":[1]}\"}},"
          "{\"id\":\"t2\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]},"
          "{\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"one\"},"
          "{\"role\":\"tool\",\"tool_call_id\":\"t2\",\"content\":\"two\"},"
          "{\"role\":\"user\",\"content\":\"and?\"},"
          "{\"role\":\"tool\",\"tool_call_id\":\"t3\",\"content\":\"\"}]}" },
        { "{\"max_tokens\":5,\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t\","
          "\"name\":\"f\",\"input\":{}}]},{\"role\":\"assistant\",\"content\":[]},{\"role\":\"user\",\"content\":"
          "\"hi\"}]}",
          "{\"n_predict\":5,\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"t\","
          "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"assistant\","
          "\"content\":\"\"},{\"role\":\"user\",\"content\":\"hi\"}]}" },
    };
    (void)state;
    check_translated(rows, COUNTOF(rows), as_answer);
}

static void test_tools(void **state)
{
    static const struct translated rows[] = {
        { WITH("\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\"},"
               "\"cache_control\":{}},{\"type\":\"custom\",\"name\":\"g\",\"input_schema\":{},\"strict\":true}]"),
          GIVES("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
                "\"parameters\":{\"type\":\"object\"}}},{\"type\":\"function\",\"function\":{\"name\":\"g\","
                "\"parameters\":{},\"strict\":true}}]") },
        { WITH("\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":true}"),
          GIVES("\"tool_choice\":\"auto\",\"parallel_tool_calls\":false") },
        { WITH("\"tool_choice\":{\"type\":\"any\",\"disable_parallel_tool_use\":false}"),
          GIVES("\"tool_choice\":\"required\"") },
        { WITH("\"tool_choice\":{\"type\":\"none\"}"), GIVES("\"tool_choice\":\"none\"") },
        { WITH("\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"}"),
          GIVES("\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}") },
        { WITH("\"tool_choice\":{\"type\":\"tool\"}"), "tool_choice" },
        { WITH("\"tool_choice\":\"auto\""), "tool_choice" },
        { WITH("\"tools\":{}"), "tools" },
        { WITH("\"tools\":[{\"name\":\"f\"}]"), "tools[0]" },
        { WITH("\"tools\":[{\"input_schema\":{}}]"), "tools[0]" },
        { WITH("\"tools\":[{\"name\":\"f\",\"input_schema\":{}},{\"type\":\"web_search_20250305\",\"name\":\"w\"}]"),
          "tools[1]" },
    };
    (void)state;
    check_translated(rows, COUNTOF(rows), as_answer);
}

/* Counting needs no max_tokens, and a turn may be open. */
static void test_what_is_counted(void **state)
{
    static const struct translated rows[] = {
        { "{\"model\":\"m\"," ASK "}", "{\"model\":\"m\"," ASK "}" },
        { "{\"messages\":[{\"role\":\"assistant\",\"content\":\"b\"}]}",
          "{\"messages\":[{\"role\":\"assistant\",\"content\":\"b\"}]}" },
        { "{\"messages\":[]}", "messages" },
    };
    (void)state;
    check_translated(rows, COUNTOF(rows), as_count);
}

/* ---- names of fields ---- */

static void test_refusals_get_the_clients_names(void **state)
{
    static const struct field_name names[] = { { "stop", "stop_sequences" }, { "messages", "input" }, { NULL, NULL } };
    static const struct {
        const char *param, *text, *renamed, *said;
    } rows[] = {
        { "stop", "stop must be a string", "stop_sequences", "stop_sequences must be a string" },
        { "stop", "a stop string has 1 to 9 bytes", "stop_sequences", "a stop string has 1 to 9 bytes" },
        { "messages[2].content", "messages[2].content: no", "input", "input: no" },
        { "messages", "the messages has no tokens", "input", "the messages has no tokens" },
        { "stop_token_ids", "stop_token_ids is not supported", "stop_token_ids", "stop_token_ids is not supported" },
        { "", "stop", "", "stop" },
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct refusal r = { 0 };
        (void)refuse(&r, ERR_INVALID, rows[i].param, "%s", rows[i].text);
        refusal_rename(&r, NULL);
        assert_string_equal(r.param, rows[i].param);
        refusal_rename(&r, names);
        assert_string_equal(r.param, rows[i].renamed);
        assert_string_equal(r.error.text, rows[i].said);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_turns_with_tools),
        cmocka_unit_test(test_tools),
        cmocka_unit_test(test_what_is_counted),
        cmocka_unit_test(test_refusals_get_the_clients_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
