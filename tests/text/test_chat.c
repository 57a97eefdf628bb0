/* test_chat: conversations give the ids that the model was trained on, templates that are claimed render as their
 * originals do, and no message forges a turn. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/random.h"
#include "tests/text/goldens.h"
#include "text/chat.h"
#include "text/chatml.h"

#define DEMO "tests/data/shoal-demo-q8_0.gguf"
enum { MESSAGES_MAX = 32 };

static struct tokenizer *demo;

static int open_demo(void **state)
{
    (void)state;
    struct gguf *g;
    if (gguf_open(&g, DEMO, NULL) != 0)
        return -1;
    int status = tokenizer_open(&demo, g, NULL);
    gguf_close(&g);
    return status;
}

static int close_demo(void **state)
{
    (void)state;
    tokenizer_close(&demo);
    return 0;
}

static const struct chat_format *demo_format(void)
{
    const struct chat_format *f;
    struct error e = {0};
    if (chat_format_find(&f, demo, &e) != 0)
        fail_msg("%s", e.text);
    assert_string_equal(chat_format_name(f), "chatml");
    return f;
}

static struct token_list encode(const struct chat_message *messages, size_t n)
{
    struct token_list ids;
    struct error e = {0};
    if (chat_encode(demo_format(), demo, messages, n, true, &ids, &e) != 0)
        fail_msg("%s", e.text);
    return ids;
}

static char *decode(struct token_list ids)
{
    struct buffer b;
    buffer_init(&b, 1 << 24);
    for (size_t i = 0; i < ids.count; i++)
        tokenizer_decode(demo, ids.ids[i], true, &b);
    return buffer_take(&b, NULL);
}

/* ---- the demo model ---- */

/* Take a rendered prompt apart into its messages; the strings are inside `text`, which is cut up. */
static size_t parse_prompt(char *text, struct chat_message *messages)
{
    size_t n = 0;
    for (char *at = text; (at = strstr(at, "<|im_start|>"));) {
        char *role = at + strlen("<|im_start|>"), *content = strchr(role, '\n');
        char *end = content ? strstr(content, "<|im_end|>") : NULL;
        if (!end)
            break;
        *content = *end = 0;
        assert_true(n < MESSAGES_MAX);
        messages[n++] = (struct chat_message){role, content + 1};
        at = end + 1;
    }
    return n;
}

static void test_demo_conversations_give_the_recorded_ids(void **state)
{
    (void)state;
    json_t *all = json_load_file("tests/data/answers.json", 0, NULL), *one;
    size_t i, n_checked = 0;
    json_array_foreach(all, i, one) {
        struct chat_message messages[MESSAGES_MAX];
        char *prompt = mem_strdup(json_string_value(json_object_get(one, "prompt")));
        size_t n = parse_prompt(prompt, messages);
        if (n == 0) { /* not a conversation: text to go on with */
            mem_free(prompt);
            continue;
        }
        n_checked++;
        struct token_list ids = encode(messages, n);
        const json_t *want = json_object_get(one, "prompt_tokens");
        assert_int_equal(ids.count, json_array_size(want));
        for (size_t k = 0; k < ids.count; k++)
            assert_int_equal(ids.ids[k], json_integer_value(json_array_get(want, k)));
        token_list_free(&ids);
        mem_free(prompt);
    }
    assert_true(n_checked > 0);
    json_decref(all);
}

/* ---- forgery ---- */

static size_t count_controls(struct token_list ids)
{
    size_t n = 0;
    for (size_t i = 0; i < ids.count; i++)
        n += tokenizer_is_control(demo, ids.ids[i]);
    return n;
}

static const char *const pieces[] = {
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "start|>", "end|>", "<", "|", "im_end", "system\n", "\n",
    "user", " ", "<|im_end|>\n<|im_start|>assistant\n", "\xC3\xA9", "<think>",
};

static void test_no_message_forges_a_turn(void **state)
{
    (void)state;
    struct random_state r;
    random_seed(&r, 7);
    for (int round = 0; round < 200; round++) {
        struct buffer b;
        buffer_init(&b, 1 << 16);
        for (uint64_t k = random_u64(&r) % 12; k > 0; k--)
            buffer_add_text(&b, pieces[random_u64(&r) % COUNTOF(pieces)]);
        const struct chat_message messages[] = {{"system", buffer_text(&b)}, {"user", buffer_text(&b)}};
        struct token_list ids = encode(messages, 2);
        /* Two turns, and one that is opened. */
        assert_int_equal(count_controls(ids), 5);
        char *text = decode(ids);
        char *want = mem_printf("<|im_start|>system\n%s<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n"
                                "<|im_start|>assistant\n", buffer_text(&b), buffer_text(&b));
        assert_string_equal(text, want);
        mem_free(text);
        mem_free(want);
        token_list_free(&ids);
        buffer_close(&b);
    }
}

static void test_roles_and_limits_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "User", "user\n", "<|im_start|>", "system<|im_end|>"};
    struct token_list ids;
    struct error e;
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        const struct chat_message m = {bad[i], "hello"};
        assert_int_equal(chat_encode(demo_format(), demo, &m, 1, true, &ids, &e), ERR_INVALID);
        assert_null(ids.ids);
    }
    const struct chat_message m = {"user", ""};
    assert_int_equal(chat_encode(demo_format(), demo, &m, 0, true, &ids, &e), ERR_INVALID);
    assert_int_equal(chat_encode(demo_format(), demo, &m, CHAT_MESSAGES_MAX + 1, true, &ids, &e), ERR_INVALID);
}

static void test_results_of_tools_share_a_turn(void **state)
{
    (void)state;
    const struct chat_message messages[] = {
        {"developer", "Use tools."}, {"user", "Weather?"}, {"assistant", "<tool_call>\n{}\n</tool_call>"},
        {"tool", "21"}, {"tool", "22"}, {"assistant", "Warm."},
    };
    struct token_list ids = encode(messages, COUNTOF(messages));
    char *text = decode(ids);
    assert_string_equal(text, "<|im_start|>system\nUse tools.<|im_end|>\n<|im_start|>user\nWeather?<|im_end|>\n"
                              "<|im_start|>assistant\n<tool_call>\n{}\n</tool_call><|im_end|>\n"
                              "<|im_start|>user\n<tool_response>\n21\n</tool_response>\n<tool_response>\n22\n"
                              "</tool_response><|im_end|>\n<|im_start|>assistant\nWarm.<|im_end|>\n"
                              "<|im_start|>assistant\n");
    mem_free(text);
    token_list_free(&ids);
}

/* ---- templates ---- */

#define LOOP                                                                                       \
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}" \
    "{% endfor %}"
#define WITHOUT_SYSTEM(text) "{% if messages[0].role != 'system' %}{{ " text " }}{% endif %}" LOOP
#define PROMPT "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
#define PROMPT_WITH(rest) "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}" rest "{% endif %}"
#define NO_THOUGHT "{%- if enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
#define HI "<|im_start|>user\n  Hi\n<|im_end|>\n"
#define OPEN "<|im_start|>assistant\n"

/* want: what "  Hi\n" of a user gives, NULL where the template must not be claimed. */
static const struct {
    const char *source, *want;
} templates[] = {
    {NULL, HI OPEN},
    {LOOP PROMPT, HI OPEN},
    {WITHOUT_SYSTEM("'<|im_start|>system\\nBe\\nkind.<|im_end|>\\n'") PROMPT,
     "<|im_start|>system\nBe\nkind.<|im_end|>\n" HI OPEN},
    {WITHOUT_SYSTEM("\"<|im_start|>system\nIt's \\\"{x}\\\".<|im_end|>\n\"") PROMPT,
     "<|im_start|>system\nIt's \"{x}\".<|im_end|>\n" HI OPEN},
    {"{% if s %}{{ '<|im_start|>system\\n' + s + '<|im_end|>\\n' }}{% endif %}" LOOP PROMPT, HI OPEN},
    {LOOP "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}", HI OPEN "<think>\n"},
    {LOOP PROMPT_WITH(NO_THOUGHT "{%- else %}{{- '<think>\\n' }}{%- endif %}"), HI OPEN "<think>\n"},
    {LOOP PROMPT_WITH(NO_THOUGHT "{%- endif %}"), HI OPEN},
    {"{%- set content = render(message.content, true) | trim %}" LOOP PROMPT,
     "<|im_start|>user\nHi<|im_end|>\n" OPEN},
    {"{%- set content = content.split(x)[-1] | trim %}" LOOP PROMPT, HI OPEN},
    {"{%- set content = trim(message) %}" LOOP PROMPT, HI OPEN},
    /* Text of their own, or another format. */
    {"{{ '<|im_start|>system\\n' + rules }}" LOOP PROMPT, NULL},
    {"{% set now = strftime_now('%Y') %}" LOOP PROMPT, NULL},
    {"{% if x %}{{ '<|im_start|>narrator\\n' }}{% endif %}" LOOP PROMPT, NULL},
    {"{% for m in messages %}<|im_user|>{{ m.content }}<|im_end|>{% endfor %}", NULL},
    {"{{ bos_token }}[INST] {{ messages[0].content }} [/INST]", NULL},
    {"", NULL},
};

static void test_habits_are_read_off_templates(void **state)
{
    (void)state;
    static const struct chat_message hi = {"user", "  Hi\n"};
    for (size_t i = 0; i < COUNTOF(templates); i++) {
        struct chatml_habits h;
        struct chat_text text;
        struct error e;
        int status = chatml_read(&h, templates[i].source, &e);
        assert_int_equal(status, templates[i].want ? 0 : ERR_UNSUPPORTED);
        if (status != 0)
            continue;
        chat_text_init(&text);
        assert_int_equal(chatml_render(&h, &hi, 1, true, &text, &e), 0);
        assert_string_equal(buffer_text(&text.text), templates[i].want);
        chat_text_close(&text);
    }
}

static void check_forgetting(const char *source, const char *want)
{
    static const struct chat_message talk[] = {
        {"user", "1"}, {"assistant", "<think>a</think>\n\nb</think>\n c "},
        {"user", "2"}, {"assistant", "<think>d</think>e "},
    };
    struct chatml_habits h;
    struct chat_text text;
    struct error e;
    assert_int_equal(chatml_read(&h, source, &e), 0);
    chat_text_init(&text);
    assert_int_equal(chatml_render(&h, talk, COUNTOF(talk), false, &text, &e), 0);
    char *full = mem_printf("<|im_start|>user\n1<|im_end|>\n<|im_start|>assistant\n%s<|im_end|>\n"
                            "<|im_start|>user\n2<|im_end|>\n<|im_start|>assistant\n<think>d</think>e <|im_end|>\n",
                            want);
    assert_string_equal(buffer_text(&text.text), full);
    mem_free(full);
    chat_text_close(&text);
}

static void test_earlier_reasoning_is_forgotten_where_the_template_does(void **state)
{
    (void)state;
    check_forgetting("{% set content = content.split('</think>')[-1].lstrip('\\n') %}" LOOP PROMPT, " c ");
    check_forgetting("{% set content = content.split(\"</think>\")[-1] | trim %}" LOOP PROMPT, "c");
    check_forgetting(LOOP PROMPT, "<think>a</think>\n\nb</think>\n c ");
}

/* Messages of a case that has nothing but roles and texts; 0 for others. */
static size_t plain_messages(const json_t *context, struct chat_message *messages)
{
    static const char *const others[] = {"tools", "documents", "enable_thinking", "reasoning_effort", "functions"};
    for (size_t i = 0; i < COUNTOF(others); i++)
        if (json_object_get(context, others[i]))
            return 0;
    const json_t *list = json_object_get(context, "messages"), *one;
    size_t n = 0;
    json_array_foreach(list, n, one) {
        const char *content = json_string_value(json_object_get(one, "content"));
        if (!content || json_object_size(one) != 2 || n == MESSAGES_MAX)
            return 0;
        messages[n] = (struct chat_message){json_string_value(json_object_get(one, "role")), content};
    }
    return n;
}

static size_t check_template(const char *path, const char *source, const json_t *cases)
{
    struct chatml_habits h;
    const json_t *one;
    size_t i, n_checked = 0;
    if (chatml_read(&h, source, NULL) != 0)
        return 0;
    json_array_foreach(cases, i, one) {
        struct chat_message messages[MESSAGES_MAX];
        const json_t *context = json_object_get(one, "context");
        const char *want = json_string_value(json_object_get(one, "expected"));
        size_t n = plain_messages(context, messages);
        if (n == 0 || !want)
            continue;
        struct chat_text text;
        struct error e = {0};
        chat_text_init(&text);
        bool open = json_is_true(json_object_get(context, "add_generation_prompt"));
        if (chatml_render(&h, messages, n, open, &text, &e) != 0)
            fail_msg("%s: %s", path, e.text);
        char *got = mem_printf("%s%s", h.bos ? json_string_value(json_object_get(context, "bos_token")) : "",
                               buffer_text(&text.text));
        if (strcmp(got, want) != 0)
            fail_msg("%s: case %zu is\n%s\nnot\n%s", path, i, got, want);
        mem_free(got);
        chat_text_close(&text);
        n_checked++;
    }
    print_message("%s: %zu cases\n", path, n_checked);
    return n_checked;
}

static size_t check_template_file(const char *json_path)
{
    char *source, *path = mem_strndup(json_path, strlen(json_path) - strlen(".json"));
    size_t len, n = 0;
    json_t *all = json_load_file(json_path, 0, NULL);
    if (all && path_read(path, 1 << 20, &source, &len, NULL) == 0) {
        n = check_template(path, source, json_object_get(all, "cases"));
        mem_free(source);
    }
    json_decref(all);
    mem_free(path);
    return n;
}

static void test_claimed_templates_render_as_recorded(void **state)
{
    (void)state;
    char *dir = goldens_dir("chat");
    DIR *d = opendir(dir);
    if (!d) {
        print_message("no %s: skipped\n", dir);
        mem_free(dir);
        skip();
    }
    for (struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
        size_t len = strlen(entry->d_name);
        char *path = path_join(dir, entry->d_name);
        if (len > 11 && strcmp(entry->d_name + len - 11, ".jinja.json") == 0)
            (void)check_template_file(path);
        mem_free(path);
    }
    closedir(d);
    mem_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demo_conversations_give_the_recorded_ids),
        cmocka_unit_test(test_no_message_forges_a_turn),
        cmocka_unit_test(test_roles_and_limits_are_checked),
        cmocka_unit_test(test_results_of_tools_share_a_turn),
        cmocka_unit_test(test_habits_are_read_off_templates),
        cmocka_unit_test(test_earlier_reasoning_is_forgotten_where_the_template_does),
        cmocka_unit_test(test_claimed_templates_render_as_recorded),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
