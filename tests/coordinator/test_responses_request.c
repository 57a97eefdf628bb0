/* test_responses_request: bodies of the Responses API and what they become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "coordinator/api/responses.h"
#include "tests/coordinator/translated.h"

#define USER "{\"role\":\"user\",\"content\":\"hi\"}"
#define WITH(field) "{\"input\":\"hi\"," field "}"
#define GIVES(field) "{\"messages\":[" USER "]," field "}"
#define ITEMS(items) "{\"input\":[" items "]}"
#define MESSAGES(messages) "{\"messages\":[" messages "]}"

static void test_fields(void **state)
{
    static const struct translated rows[] = {
        { "{\"model\":\"m\",\"input\":\"hi\",\"stream\":true,\"temperature\":0.5,\"top_p\":0.9,\"seed\":7,"
          "\"parallel_tool_calls\":false,\"max_output_tokens\":5,\"reasoning\":{\"effort\":\"low\",\"summary\":"
          "\"auto\"},\"store\":true,\"metadata\":{\"a\":\"b\"},\"user\":\"u\",\"include\":["
          "\"reasoning.encrypted_content\"],\"stream_options\":{\"include_obfuscation\":false},\"truncation\":"
          "\"disabled\",\"top_logprobs\":0,\"background\":false}",
          "{\"model\":\"m\",\"stream\":true,\"temperature\":0.5,\"top_p\":0.9,\"seed\":7,"
          "\"parallel_tool_calls\":false,\"max_completion_tokens\":5,\"reasoning_effort\":\"low\",\"messages\":["
          USER "]}" },
        { WITH("\"instructions\":null,\"tools\":[],\"tool_choice\":null,\"text\":null,\"reasoning\":null,"
               "\"max_output_tokens\":null,\"previous_response_id\":\"resp_1\",\"conversation\":null,\"prompt\":null,"
               "\"temperature\":null,\"metadata\":null"), MESSAGES(USER) },
        { WITH("\"top_logprobs\":2"), GIVES("\"logprobs\":true,\"top_logprobs\":2") },
        { WITH("\"include\":[\"message.output_text.logprobs\"]"), GIVES("\"logprobs\":true") },
        { WITH("\"text\":{\"format\":{\"type\":\"text\"},\"verbosity\":\"low\"}"), MESSAGES(USER) },
        { WITH("\"text\":{\"format\":{\"type\":\"json_object\"}}"),
          GIVES("\"response_format\":{\"type\":\"json_object\"}") },
        { WITH("\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"strict\":true,\"schema\":"
               "{\"type\":\"object\"}}}"),
          GIVES("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":true,"
                "\"schema\":{\"type\":\"object\"}}}") },
        { WITH("\"text\":{\"format\":{\"type\":\"xml\"}}"), "text" },
        { WITH("\"text\":\"json\""), "text" },
        { WITH("\"reasoning\":\"low\""), "reasoning" },
        { WITH("\"reasoning\":{\"effort\":1}"), "reasoning" },
        { WITH("\"max_output_tokens\":0"), "max_output_tokens" },
        { WITH("\"max_output_tokens\":1.5"), "max_output_tokens" },
        { WITH("\"max_output_tokens\":\"5\""), "max_output_tokens" },
        { WITH("\"conversation\":\"conv_1\""), "conversation" },
        { WITH("\"prompt\":{\"id\":\"p\"}"), "prompt" },
        { WITH("\"background\":true"), "background" },
        { WITH("\"truncation\":\"auto\""), "truncation" },
        { WITH("\"metadata\":[]"), "metadata" },
    };
    (void)state;
    check_translated(rows, COUNTOF(rows), responses_chat_body);
}

static void test_input(void **state)
{
    static const struct translated rows[] = {
        { WITH("\"instructions\":\"be\""), MESSAGES("{\"role\":\"system\",\"content\":\"be\"}," USER) },
        { ITEMS("{\"role\":\"developer\",\"content\":\"be\"},{\"type\":\"message\",\"role\":\"user\",\"content\":["
                "{\"type\":\"input_text\",\"text\":\"hi\"}]}"),
          MESSAGES("{\"role\":\"developer\",\"content\":\"be\"}," USER) },
        { ITEMS("{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"},"
                "{\"type\":\"text\",\"text\":\"b\"}]}"),
          MESSAGES("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                   "{\"type\":\"text\",\"text\":\"b\"}]}") },
        { ITEMS("{\"role\":\"assistant\",\"content\":\"a\"},{\"type\":\"message\",\"role\":\"assistant\",\"id\":\"m\","
                "\"status\":\"completed\",\"content\":[{\"type\":\"output_text\",\"text\":\"b\",\"annotations\":[]}]},"
                USER),
          MESSAGES("{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}," USER) },
        { ITEMS("{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"}]}"),
          MESSAGES("{\"role\":\"assistant\",\"content\":\"no\"}") },
        { "{}", "input" },
        { "{\"input\":[]}", "input" },
        { "{\"input\":7}", "input" },
        { ITEMS("7"), "input[0]" },
        { ITEMS("{}"), "input[0]" },
        { ITEMS("{\"role\":\"tool\",\"content\":\"a\"}"), "input" },
        { ITEMS("{\"role\":\"user\"}"), "input[0].content" },
        { ITEMS(USER ",{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"},"
                "{\"type\":\"input_image\",\"image_url\":\"x\"}]}"), "input[1].content[1]" },
        { ITEMS("{\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\"}]}"), "input[0].content[0]" },
        { ITEMS("{\"role\":\"user\",\"content\":[\"a\"]}"), "input[0].content[0]" },
        { ITEMS("{\"type\":\"item_reference\",\"id\":\"m\"}"), "input[0]" },
        { ITEMS("{\"type\":\"web_search_call\"}"), "input[0]" },
        { WITH("\"instructions\":[]"), "instructions" },
    };
    (void)state;
    check_translated(rows, COUNTOF(rows), responses_chat_body);
}

#define CALL(id, name) "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"" name \
    "\",\"arguments\":\"{}\"}}"
#define CALLS(id, name) "{\"type\":\"function_call\",\"id\":\"fc\",\"call_id\":\"" id "\",\"name\":\"" name \
    "\",\"arguments\":\"{}\"}"

/* What one turn of the assistant consists of is one message. */
static void test_turns_with_calls(void **state)
{
    static const struct translated rows[] = {
        { ITEMS(USER ",{\"type\":\"reasoning\",\"id\":\"rs\",\"summary\":[],\"content\":["
                "{\"type\":\"reasoning_text\",\"text\":\"hm\"},{\"type\":\"reasoning_text\",\"text\":\"so\"}]},"
                "{\"role\":\"assistant\",\"content\":\"I look.\"}," CALLS("c1", "f") "," CALLS("c2", "g") ","
                "{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"one\"},"
                "{\"type\":\"function_call_output\",\"call_id\":\"c2\",\"output\":[{\"type\":\"input_text\",\"text\":"
                "\"two\"}]}," CALLS("c3", "h") "," USER),
          MESSAGES(USER ",{\"role\":\"assistant\",\"content\":\"I look.\",\"reasoning_content\":\"hm\\nso\","
                   "\"tool_calls\":[" CALL("c1", "f") "," CALL("c2", "g") "]},"
                   "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"one\"},"
                   "{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"two\"},"
                   "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" CALL("c3", "h") "]}," USER) },
        { ITEMS("{\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"s\"}],\"content\":null},"
                "{\"role\":\"assistant\",\"content\":\"a\"},{\"type\":\"reasoning\",\"summary\":[],"
                "\"encrypted_content\":\"x\"}," CALLS("c", "f")),
          MESSAGES("{\"role\":\"assistant\",\"content\":\"a\",\"reasoning_content\":\"s\"},"
                   "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" CALL("c", "f") "]}") },
        { ITEMS("{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\"}"), "input[0]" },
        { ITEMS("{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":{}}"), "input[0]" },
        { ITEMS("{\"type\":\"function_call_output\",\"output\":\"a\"}"), "input" },
        { ITEMS("{\"type\":\"function_call_output\",\"call_id\":\"c\"}"), "input[0].output" },
    };
    (void)state;
    check_translated(rows, COUNTOF(rows), responses_chat_body);
}

static void test_tools(void **state)
{
    static const struct translated rows[] = {
        { WITH("\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":\"d\",\"strict\":null,\"parameters\":"
               "{\"type\":\"object\"}},{\"type\":\"function\",\"name\":\"g\",\"parameters\":null,\"strict\":true}]"),
          GIVES("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
                "\"parameters\":{\"type\":\"object\"}}},{\"type\":\"function\",\"function\":{\"name\":\"g\","
                "\"strict\":true,\"parameters\":{\"type\":\"object\",\"properties\":{}}}}]") },
        { WITH("\"tool_choice\":\"required\""), GIVES("\"tool_choice\":\"required\"") },
        { WITH("\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"}"),
          GIVES("\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}") },
        { WITH("\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"required\",\"tools\":[{\"type\":\"function\","
               "\"name\":\"f\"}]}"),
          GIVES("\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":\"required\",\"tools\":["
                "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}}") },
        { WITH("\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"all\",\"tools\":[{\"type\":\"function\","
               "\"name\":\"f\"}]}"), "tool_choice" },
        { WITH("\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"auto\",\"tools\":[]}"), "tool_choice" },
        { WITH("\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"auto\",\"tools\":[{\"type\":\"mcp\"}]}"),
          "tool_choice" },
        { WITH("\"tool_choice\":\"any\""), "tool_choice" },
        { WITH("\"tool_choice\":{\"type\":\"file_search\"}"), "tool_choice" },
        { WITH("\"tools\":{}"), "tools" },
        { WITH("\"tools\":[{\"type\":\"function\"}]"), "tools[0]" },
        { WITH("\"tools\":[{\"name\":\"f\"}]"), "tools[0]" },
        { WITH("\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":{}},{\"type\":\"web_search\","
               "\"external_web_access\":false},{\"type\":\"custom\",\"name\":\"apply_patch\",\"format\":{}}]"),
          GIVES("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}]") }, /* Codex */
        { WITH("\"tools\":[{\"type\":\"mcp\"}],\"tool_choice\":\"auto\""), GIVES("\"tool_choice\":\"auto\"") },
    };
    (void)state;
    check_translated(rows, COUNTOF(rows), responses_chat_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_input),
        cmocka_unit_test(test_turns_with_calls),
        cmocka_unit_test(test_tools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
