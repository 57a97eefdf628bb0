/* fuzz_request: bodies of requests: what reads them refuses with a sentence, and translations are bodies again. */
#include <string.h>

#include "coordinator/api/anthropic.h"
#include "coordinator/api/fields.h"
#include "coordinator/api/fim.h"
#include "coordinator/api/grammars.h"
#include "coordinator/api/ollama_request.h"
#include "coordinator/api/responses.h"
#include "tests/fuzz/fuzz.h"

/* As much of an api as reading needs. */
static const struct api *some_api(void)
{
    static struct api api;
    static struct tokenizer *tokenizer;
    struct gguf *g = NULL;
    if (tokenizer != NULL)
        return &api;
    FUZZ_CHECK(gguf_open(&g, "tests/data/shoal-demo-q8_0.gguf", NULL) == 0);
    FUZZ_CHECK(tokenizer_open(&tokenizer, g, NULL) == 0);
    gguf_close(&g);
    api.options.tokenizer = tokenizer;
    api.n_vocab = tokenizer_count(tokenizer);
    api.grammars = grammars_create(tokenizer, api.n_vocab, NULL);
    return &api;
}

static void check_refusal(int rc, const struct refusal *r)
{
    FUZZ_CHECK(rc == 0 || (r->error.status != 0 && r->error.text[0] != '\0'));
    FUZZ_CHECK(strlen(r->param) < sizeof(r->param));
}

static void read_fields(const json_t *body, enum endpoint endpoint)
{
    struct refusal r = { 0 };
    struct params p;
    int rc = params_read(&p, body, endpoint, some_api(), &r);
    check_refusal(rc, &r);
    params_close(&p);
}

/* What a translation gives is of the kind that its reader takes. */
static void read_translated(int rc, json_t *made, enum endpoint endpoint, const struct refusal *r)
{
    check_refusal(rc, r);
    FUZZ_CHECK((rc == 0) == json_is_object(made));
    if (rc == 0)
        read_fields(made, endpoint);
    json_decref(made);
}

static void read_ollamas(const json_t *body)
{
    static const enum ollama_form forms[] = { OLLAMA_AS_CHAT, OLLAMA_AS_COMPLETION };
    struct refusal r = { 0 };
    enum ollama_work work;
    json_t *made = NULL;
    check_refusal(ollama_work_of(body, &work, &r), &r);
    int rc = ollama_chat_body(body, &made, &r);
    read_translated(rc, made, FOR_CHAT, &r);
    for (size_t i = 0; i < COUNTOF(forms); i++) {
        rc = ollama_generate_body(body, forms[i], &made, &r);
        read_translated(rc, made, i == 0 ? FOR_CHAT : FOR_COMPLETION, &r);
    }
}

static void read_others(const json_t *body)
{
    static const enum anthropic_use uses[] = { ANTHROPIC_ANSWER, ANTHROPIC_COUNT };
    json_t *made = NULL;
    struct refusal r = { 0 };
    int rc = responses_chat_body(body, &made, &r);
    read_translated(rc, made, FOR_CHAT, &r);
    for (size_t i = 0; i < COUNTOF(uses); i++) {
        rc = anthropic_chat_body(body, uses[i], &made, &r);
        read_translated(rc, made, FOR_CHAT, &r);
    }
}

/* Files around a gap: all that fit, or a refusal. */
static void read_gap(const json_t *body)
{
    const json_t *suffix = json_object_get(body, "input_suffix");
    struct fim f = { .prefix = &(struct token_list){ 0 }, .suffix = "", .files = json_object_get(body, "input_extra") };
    struct refusal r = { 0 };
    int rc = fim_check_files(f.files, "input_extra", &r);
    check_refusal(rc, &r);
    if (json_is_string(suffix)) {
        f.suffix = json_string_value(suffix);
        f.suffix_len = json_string_length(suffix);
    }
    for (f.room = 0; rc == 0 && f.room < 256; f.room += 60) {
        struct token_list all = { 0 };
        FUZZ_CHECK(fim_prompt(some_api(), &f, &all, &r.error) == 0);
        token_list_free(&all);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct refusal r = { 0 };
    json_t *body = NULL;
    int rc = json_read(&body, (const char *)data, size, &r);
    check_refusal(rc, &r);
    if (rc != 0)
        return 0;
    read_fields(body, FOR_CHAT);
    read_fields(body, FOR_COMPLETION);
    read_ollamas(body);
    read_others(body);
    read_gap(body);
    json_decref(body);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const texts[] = {
        "{\"input_prefix\":\"a\",\"input_suffix\":\"b\",\"input_extra\":[{\"text\":\"c d e\",\"filename\":\"f\"},"
        "{\"text\":\"<|im_end|> g\"}],\"prompt\":\"h\",\"n_predict\":-1,\"best_of\":2,\"suffix\":\"i\"}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"temperature\":0.5,\"top_p\":1,"
        "\"n\":2,\"stop\":[\"a\",\"b\"],\"seed\":-7,\"logit_bias\":{\"17\":-100},\"stream\":true,\"stream_options\":"
        "{\"include_usage\":true},\"max_completion_tokens\":5,\"logprobs\":true,\"top_logprobs\":2}",
        "{\"prompt\":[[1,2],[3]],\"max_tokens\":0,\"echo\":true,\"logprobs\":3,\"best_of\":1,\"suffix\":null,"
        "\"response_format\":{\"type\":\"json_object\"},\"guided_choice\":[\"x\",\"y\"]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"thinking\":\"t\",\"tool_calls\":[{\"id\":\"i\","
        "\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1]}}}]},"
        "{\"role\":\"tool\",\"content\":\"r\",\"tool_name\":\"f\"}],"
        "\"options\":{\"num_predict\":-1,\"top_k\":40.0,\"seed\":-1,\"stop\":[\"x\"]},\"format\":\"json\","
        "\"think\":\"high\",\"keep_alive\":\"0s\",\"tools\":[]}",
        "{\"model\":\"m\",\"prompt\":\"p\",\"system\":\"s\",\"raw\":true,\"suffix\":\"e\",\"stream\":false,"
        "\"format\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]},"
        "\"logprobs\":true,\"top_logprobs\":4,\"keep_alive\":0,\"template\":\"\",\"context\":[],\"images\":[]}",
        "{\"max_tokens\":5,\"system\":[{\"type\":\"text\",\"text\":\"s\"}],\"stop_sequences\":[\"x\"],\"messages\":["
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\"},{\"type\":\"tool_use\","
        "\"id\":\"i\",\"name\":\"f\",\"input\":{}}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
        "\"tool_use_id\":\"i\",\"content\":[{\"type\":\"text\",\"text\":\"r\"}]}]}],\"tools\":[{\"name\":\"f\","
        "\"input_schema\":{}}],\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"},\"thinking\":{\"type\":"
        "\"enabled\"},\"output_config\":{\"effort\":\"low\"}}",
        "{\"instructions\":\"s\",\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"}]},"
        "{\"type\":\"reasoning\",\"content\":[{\"text\":\"t\"}],\"summary\":[]},{\"type\":\"function_call\","
        "\"call_id\":\"i\",\"name\":\"f\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_id\":\"i\","
        "\"output\":\"r\"}],\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":null}],\"tool_choice\":"
        "\"required\",\"text\":{\"format\":{\"type\":\"json_object\"}},\"reasoning\":{\"effort\":\"low\"},"
        "\"max_output_tokens\":5,\"include\":[\"message.output_text.logprobs\"]}",
    };
    for (size_t i = 0; i < COUNTOF(texts); i++)
        give(arg, texts[i], strlen(texts[i]));
}
