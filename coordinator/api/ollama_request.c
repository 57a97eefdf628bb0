/* ollama_request: see ollama_request.h. */
#include "coordinator/api/ollama_request.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/ollama.h"
#include "coordinator/api/translate.h"

enum { WAITING_MAX = 256 }; /* calls without a result: each result is looked for among all */

static bool has_entries(const json_t *v)
{
    return json_array_size(v) > 0;
}

/* ---- options ---- */

/* ABOVE_0: other numbers ask for nothing, as a SEED below 0 does. */
enum option_kind { OPTION_NUMBER, OPTION_WHOLE, OPTION_ABOVE_0, OPTION_SEED, OPTION_ANY };

/* name there, name here, kind, default (NAN: none): those of Ollama, which its clients count on. */
static const struct {
    const char *name, *to;
    enum option_kind kind;
    double initial;
} options[] = {
    { "num_predict", "n_predict", OPTION_ABOVE_0, NAN },
    { "seed", "seed", OPTION_SEED, NAN },
    { "temperature", "temperature", OPTION_NUMBER, 0.8 },
    { "top_k", "top_k", OPTION_WHOLE, 40 },
    { "top_p", "top_p", OPTION_NUMBER, 0.9 },
    { "min_p", "min_p", OPTION_NUMBER, NAN },
    { "repeat_penalty", "repeat_penalty", OPTION_NUMBER, NAN },
    { "repeat_last_n", "repeat_last_n", OPTION_WHOLE, NAN },
    { "presence_penalty", "presence_penalty", OPTION_NUMBER, NAN },
    { "frequency_penalty", "frequency_penalty", OPTION_NUMBER, NAN },
    { "stop", "stop", OPTION_ANY, NAN },
};

/* Clients send whole numbers as 40.0 too. */
static json_t *whole_of(json_t *v)
{
    double number = json_number_value(v);
    if (json_is_real(v) && number == floor(number) && fabs(number) < 9e15)
        return json_integer((json_int_t)number);
    return json_incref(v);
}

static void put_option(json_t *out, size_t i, json_t *v)
{
    enum option_kind kind = options[i].kind;
    bool nothing = is_absent(v) || (json_is_number(v) && ((kind == OPTION_ABOVE_0 && json_number_value(v) <= 0) ||
                                                          (kind == OPTION_SEED && json_number_value(v) < 0)));
    if (!nothing)
        json_object_set_new(out, options[i].to,
                            kind == OPTION_NUMBER || kind == OPTION_ANY ? json_incref(v) : whole_of(v));
    else if (kind == OPTION_WHOLE && !isnan(options[i].initial))
        json_object_set_new(out, options[i].to, json_integer((json_int_t)options[i].initial));
    else if (!isnan(options[i].initial))
        json_object_set_new(out, options[i].to, json_real(options[i].initial));
}

static int put_options(json_t *out, const json_t *body, struct refusal *r)
{
    const json_t *given = json_object_get(body, "options");
    if (!is_absent(given) && !json_is_object(given))
        return refuse(r, ERR_INVALID, "options", "options must be an object");
    for (size_t i = 0; i < COUNTOF(options); i++)
        put_option(out, i, json_object_get(given, options[i].name));
    return 0;
}

/* ---- the rest that both requests have ---- */

static int put_format(json_t *out, const json_t *body, struct refusal *r)
{
    json_t *format = json_object_get(body, "format");
    const char *word = json_string_value(format);
    if (is_absent(format) || (word != NULL && word[0] == '\0'))
        return 0;
    if (word != NULL && strcmp(word, "json") == 0)
        json_object_set_new(out, "response_format", json_pack("{s:s}", "type", "json_object"));
    else if (json_is_object(format))
        json_object_set_new(out, "response_format", json_pack("{s:s, s:{s:s, s:O}}", "type", "json_schema",
                                                              "json_schema", "name", "format", "schema", format));
    else
        return refuse(r, ERR_INVALID, "format", "format must be \"json\" or a JSON schema");
    return 0;
}

static int put_think(json_t *out, const json_t *body, struct refusal *r)
{
    json_t *think = json_object_get(body, "think");
    if (is_absent(think))
        return 0;
    if (json_is_true(think))
        json_object_set_new(out, "chat_template_kwargs", json_pack("{s:b}", "enable_thinking", 1));
    else if (json_is_false(think))
        json_object_set_new(out, "reasoning_effort", json_string("none"));
    else if (json_is_string(think))
        json_object_set(out, "reasoning_effort", think);
    else
        return refuse(r, ERR_INVALID, "think", "think must be true, false, or a word such as \"high\"");
    return 0;
}

/* A stream unless the request says otherwise. */
static int put_stream(json_t *out, const json_t *body, struct refusal *r)
{
    json_t *stream = json_object_get(body, "stream");
    if (!is_absent(stream) && !json_is_boolean(stream))
        return refuse(r, ERR_INVALID, "stream", "stream must be true or false");
    json_object_set_new(out, "stream", json_boolean(is_absent(stream) || json_is_true(stream)));
    return 0;
}

static void put_logprobs(json_t *out, const json_t *body, enum ollama_form form)
{
    json_t *wanted = json_object_get(body, "logprobs"), *top = json_object_get(body, "top_logprobs");
    if (form == OLLAMA_AS_CHAT && !is_absent(wanted)) {
        json_object_set(out, "logprobs", wanted);
        if (json_is_true(wanted) && !is_absent(top))
            json_object_set(out, "top_logprobs", top);
    } else if (json_is_true(wanted)) {
        json_object_set_new(out, "logprobs", is_absent(top) ? json_integer(0) : json_incref(top));
    }
}

static int put_common(json_t *out, const json_t *body, enum ollama_form form, struct refusal *r)
{
    const char *model = ollama_asked(body);
    if (model != NULL)
        json_object_set_new(out, "model", json_string(model));
    int rc = put_options(out, body, r);
    if (rc == 0)
        rc = put_format(out, body, r);
    if (rc == 0 && form == OLLAMA_AS_CHAT)
        rc = put_think(out, body, r);
    if (rc == 0)
        rc = put_stream(out, body, r);
    if (rc == 0)
        put_logprobs(out, body, form);
    return rc;
}

/* ---- what is to be done ---- */

/* 0, "0", "0s". */
static bool is_zero_time(const json_t *v)
{
    const char *text = json_string_value(v);
    if (text != NULL)
        return strchr(text, '0') != NULL && strpbrk(text, "123456789") == NULL;
    return json_is_number(v) && json_number_value(v) == 0;
}

int ollama_work_of(const json_t *body, enum ollama_work *out, struct refusal *r)
{
    const json_t *keep = json_object_get(body, "keep_alive"), *prompt = json_object_get(body, "prompt");
    bool empty = !has_entries(json_object_get(body, "messages")) && json_string_length(prompt) == 0;
    if (!is_absent(keep) && !json_is_number(keep) && !json_is_string(keep))
        return refuse(r, ERR_INVALID, "keep_alive", "keep_alive must be a number of seconds or a duration such as "
                      "\"5m\"");
    *out = !empty ? OLLAMA_GENERATE : is_zero_time(keep) ? OLLAMA_UNLOAD : OLLAMA_LOAD;
    return 0;
}

/* ---- chat ---- */

/* The calls of a message as OpenAI's, with an id each; they are added to `open`, which waits for their results. */
static int put_calls(json_t *to, const json_t *calls, size_t message, json_t *open, struct refusal *r)
{
    char param[48];
    json_t *list = json_array(), *call;
    size_t i;
    snprintf(param, sizeof(param), "messages[%zu].tool_calls", message);
    json_array_foreach(calls, i, call) {
        const json_t *function = json_object_get(call, "function"), *arguments = json_object_get(function, "arguments");
        const char *name = text_at(function, "name"), *given = text_at(call, "id");
        if (name == NULL || !(json_is_object(arguments) || json_is_string(arguments) || is_absent(arguments))) {
            json_decref(list);
            return refuse(r, ERR_INVALID, param, "%s[%zu].function must have a name, and arguments as an object",
                          param, i);
        }
        char *id = given != NULL && given[0] != '\0' ? mem_strdup(given) : mem_printf("call_%zu_%zu", message, i);
        char *text = json_is_string(arguments)   ? mem_strdup(json_string_value(arguments))
                     : json_is_object(arguments) ? json_text(arguments)
                                                 : mem_strdup("{}");
        json_array_append_new(list, json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", id, "type", "function", "function",
                                              "name", name, "arguments", text));
        json_array_append_new(open, json_pack("{s:s, s:s}", "id", id, "name", name));
        if (json_array_size(open) > WAITING_MAX)
            json_array_remove(open, 0);
        mem_free(id);
        mem_free(text);
    }
    json_object_set_new(to, "tool_calls", list);
    return 0;
}

/* A result belongs to the call that it names; else to the first of its tool, or of all, that has none yet. */
static void put_result(json_t *to, const json_t *from, json_t *open)
{
    const char *id = text_at(from, "tool_call_id"), *name = text_at(from, "tool_name");
    size_t n = json_array_size(open), at = n;
    for (size_t i = n; i-- > 0;) {
        const json_t *call = json_array_get(open, i);
        const char *mine = id != NULL ? id : name, *its = text_at(call, id != NULL ? "id" : "name");
        if (mine == NULL || strcmp(mine, its) == 0)
            at = i;
    }
    if (name == NULL && at < n)
        name = text_at(json_array_get(open, at), "name");
    if (name != NULL)
        json_object_set_new(to, "name", json_string(name));
    if (id == NULL && at < n)
        id = text_at(json_array_get(open, at), "id");
    json_object_set_new(to, "tool_call_id", json_string(id != NULL ? id : "call_0"));
    if (at < n)
        json_array_remove(open, at);
}

static int put_message(json_t *messages, const json_t *from, size_t i, json_t *open, struct refusal *r)
{
    char param[48];
    snprintf(param, sizeof(param), "messages[%zu]", i);
    if (!json_is_object(from))
        return refuse(r, ERR_INVALID, param, "%s must be an object", param);
    if (has_entries(json_object_get(from, "images")))
        return refuse(r, ERR_UNSUPPORTED, param, "%s.images: this model reads text only", param);
    json_t *to = json_object(), *thinking = json_object_get(from, "thinking");
    json_t *calls = json_object_get(from, "tool_calls");
    const char *role = text_at(from, "role");
    json_array_append_new(messages, to);
    json_object_set(to, "role", json_object_get(from, "role"));
    json_object_set(to, "content", json_object_get(from, "content"));
    if (json_string_length(thinking) > 0)
        json_object_set(to, "reasoning_content", thinking);
    if (role != NULL && strcmp(role, "tool") == 0)
        put_result(to, from, open);
    return has_entries(calls) ? put_calls(to, calls, i, open, r) : 0;
}

static int put_messages(json_t *out, const json_t *given, struct refusal *r)
{
    json_t *messages = json_array(), *open = json_array(), *message;
    size_t i;
    int rc = json_is_array(given) ? 0 : refuse(r, ERR_INVALID, "messages", "messages must be a list");
    json_object_set_new(out, "messages", messages);
    json_array_foreach(given, i, message) {
        if (rc == 0)
            rc = put_message(messages, message, i, open, r);
    }
    json_decref(open);
    return rc;
}

/* Ollama goes on with what the assistant is said to have begun. */
static void put_begun(json_t *out)
{
    const json_t *messages = json_object_get(out, "messages");
    size_t n = json_array_size(messages);
    const json_t *last = n > 0 ? json_array_get(messages, n - 1) : NULL;
    const char *role = text_at(last, "role");
    if (role != NULL && strcmp(role, "assistant") == 0 && !has_entries(json_object_get(last, "tool_calls")) &&
        json_string_length(json_object_get(last, "content")) > 0)
        json_object_set_new(out, "continue_final_message", json_true());
}

int ollama_chat_body(const json_t *body, json_t **out, struct refusal *r)
{
    json_t *tools = json_object_get(body, "tools");
    *out = json_object();
    int rc = put_common(*out, body, OLLAMA_AS_CHAT, r);
    if (rc == 0)
        rc = put_messages(*out, json_object_get(body, "messages"), r);
    if (rc == 0)
        put_begun(*out);
    if (rc == 0 && !is_absent(tools))
        json_object_set(*out, "tools", tools);
    if (rc != 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

/* ---- generate ---- */

static int check_generate(const json_t *body, enum ollama_form form, struct refusal *r)
{
    if (!json_is_string(json_object_get(body, "prompt")))
        return refuse(r, ERR_INVALID, "prompt", "prompt must be a string");
    if (has_entries(json_object_get(body, "images")))
        return refuse(r, ERR_UNSUPPORTED, "images", "images: this model reads text only");
    if (has_entries(json_object_get(body, "context")))
        return refuse(r, ERR_UNSUPPORTED, "context", "context is not supported: use /api/chat to go on");
    if (json_string_length(json_object_get(body, "template")) > 0)
        return refuse(r, ERR_UNSUPPORTED, "template",
                      "template is not supported: the model's own is used; with raw there is none");
    if (form == OLLAMA_AS_COMPLETION && json_string_length(json_object_get(body, "system")) > 0)
        return refuse(r, ERR_UNSUPPORTED, "system", "system is not supported with raw or suffix, nor by a model "
                      "without a chat template");
    return 0;
}

static void put_prompt(json_t *out, const json_t *body, enum ollama_form form)
{
    json_t *prompt = json_object_get(body, "prompt"), *system = json_object_get(body, "system");
    json_t *suffix = json_object_get(body, "suffix");
    if (form == OLLAMA_AS_COMPLETION) {
        json_object_set(out, "prompt", prompt);
        if (json_string_length(suffix) > 0)
            json_object_set(out, "suffix", suffix);
        return;
    }
    json_t *messages = json_array();
    if (json_string_length(system) > 0)
        json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "system", "content", system));
    json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "user", "content", prompt));
    json_object_set_new(out, "messages", messages);
}

int ollama_generate_body(const json_t *body, enum ollama_form form, json_t **out, struct refusal *r)
{
    *out = json_object();
    int rc = check_generate(body, form, r);
    if (rc == 0)
        rc = put_common(*out, body, form, r);
    if (rc == 0)
        put_prompt(*out, body, form);
    if (rc != 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}
