/* chat_messages: each message is copied member by member, then joined with the one before it where that is asked. */
#include "text/chat_messages.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "text/chat.h"

enum { CONTENT_MAX = 64 << 20, SHORT_ID_BYTES = 9 };

struct fitting {
    const struct chat_caps *caps;
    json_t *out;
    size_t at;
    json_t *names; /* of functions, by the ids of their calls since the last user's message */
    json_t *ids;   /* of calls, as the template wants them, by those that the client has */
    uint32_t n_calls;
    bool folded;   /* the last message of `out` was a system's and is the user's now */
    size_t n_values; /* of arguments that were read */
    bool joining;  /* its content grows, in `joined` */
    struct buffer joined;
    struct error *e;
};

/* ---- roles ---- */

static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", "function"};

bool chat_is_role(const char *key, const char *text)
{
    for (size_t i = 0; i < COUNTOF(roles) && strcmp(key, "role") == 0; i++)
        if (strcmp(text, roles[i]) == 0)
            return true;
    return false;
}

static bool is_role(const json_t *message, const char *role)
{
    const char *text = json_string_value(json_object_get(message, "role"));
    return text && strcmp(text, role) == 0;
}

/* ---- content ---- */

/* Parts that are text, by the names that APIs give them, and which member the text is. */
static const struct {
    const char *type, *member;
} part_kinds[] = {
    {"text", "text"}, {"refusal", "refusal"}, {"input_text", "text"}, {"output_text", "text"},
};

static const json_t *part_text(const json_t *part, const char *type)
{
    for (size_t i = 0; i < COUNTOF(part_kinds) && type; i++)
        if (strcmp(type, part_kinds[i].type) == 0)
            return json_object_get(part, part_kinds[i].member);
    return NULL;
}

/* The texts of a list of parts, one after the other. */
static int join_parts(struct fitting *f, const json_t *parts, json_t **out)
{
    struct buffer text;
    const json_t *part;
    size_t i;
    int status = 0;
    buffer_init(&text, CONTENT_MAX);
    json_array_foreach(parts, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *words = part_text(part, type);
        if (!json_is_string(words))
            status = error_set(f->e, type ? ERR_UNSUPPORTED : ERR_INVALID,
                               "messages[%zu].content: only parts of type \"text\" are supported", f->at);
        if (status != 0)
            break;
        buffer_add(&text, json_string_value(words), json_string_length(words));
    }
    if (status == 0 && buffer_failed(&text))
        status = error_set(f->e, ERR_LIMIT, "messages[%zu].content has more than %d bytes", f->at, CONTENT_MAX);
    if (status == 0)
        *out = json_stringn_nocheck(buffer_text(&text), text.len);
    buffer_close(&text);
    return status;
}

/* Text of any content; null only where the template wants it so. What an assistant or a tool says may be nothing. */
static int fit_content(struct fitting *f, const json_t *message, bool calls, json_t **out)
{
    json_t *content = json_object_get(message, "content");
    bool nothing = !is_role(message, "user") && !is_role(message, "system") && !is_role(message, "developer");
    int status = 0;
    if (json_is_array(content))
        status = join_parts(f, content, out);
    else if (json_is_string(content))
        *out = json_incref(content);
    else if (nothing && (!content || json_is_null(content)))
        *out = json_string("");
    else
        status = error_set(f->e, ERR_INVALID, "messages[%zu].content must be a string or a list of parts", f->at);
    if (status == 0 && calls && json_string_length(*out) == 0 && f->caps->call_null) {
        json_decref(*out);
        *out = json_null();
    }
    return status;
}

/* Text as a list of one part; takes `text`. */
static json_t *wrap_content(json_t *text)
{
    return json_is_string(text) ? json_pack("[{s:s, s:o}]", "type", "text", "text", text) : text;
}

/* ---- calls ---- */

/* Some templates want ids of nine letters and digits: the same id always becomes the same one. */
static json_t *fit_id(const struct fitting *f, json_t *id)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const char *text = json_string_value(id);
    uint64_t hash = 0xcbf29ce484222325ULL;
    char out[SHORT_ID_BYTES];
    if (!text || !f->caps->call_short ||
        (strlen(text) == SHORT_ID_BYTES && strspn(text, letters) == SHORT_ID_BYTES))
        return json_incref(id);
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3ULL;
    for (size_t i = 0; i < SHORT_ID_BYTES; i++, hash /= 62)
        out[i] = letters[hash % 62];
    return json_stringn_nocheck(out, SHORT_ID_BYTES);
}

/* Some want to see which function it was, and which call of all. */
static json_t *number_id(struct fitting *f, json_t *id, const char *name)
{
    const char *text = json_string_value(id);
    char *own = mem_printf("functions.%s:%u", name, f->n_calls++);
    json_t *fitted = text && strncmp(text, "functions.", 10) == 0 ? json_incref(id) : json_string(own);
    if (text)
        json_object_set_nocheck(f->ids, text, fitted);
    mem_free(own);
    return fitted;
}

/* A value takes twenty times its bytes: of all calls' arguments no more are read than of a whole request. */
static bool few_values(struct fitting *f, const char *text)
{
    for (; (text = strpbrk(text, ",:")) != NULL && f->n_values <= CHAT_VALUES_MAX; text++)
        f->n_values++;
    return f->n_values <= CHAT_VALUES_MAX;
}

static json_t *fit_arguments(struct fitting *f, json_t *arguments)
{
    json_t *object = NULL;
    if (!arguments || json_is_null(arguments))
        return f->caps->call_text ? json_string("{}") : json_object();
    if (json_is_string(arguments) && !f->caps->call_text && few_values(f, json_string_value(arguments))) {
        object = json_loadb(json_string_value(arguments), json_string_length(arguments), 0, NULL);
        if (json_string_length(arguments) == 0)
            object = json_object();
        if (json_is_object(object))
            return object;
        json_decref(object); /* no object: the template gets what the client sent */
        return json_incref(arguments);
    }
    if (!json_is_string(arguments) && f->caps->call_text) {
        char *text = json_dumps(arguments, JSON_ENCODE_ANY);
        object = text ? json_string_nocheck(text) : json_string("{}");
        free(text);
        return object;
    }
    return json_incref(arguments);
}

static int fit_call(struct fitting *f, const json_t *call, json_t **out)
{
    json_t *function = json_object_get(call, "function"), *name = json_object_get(function, "name");
    json_t *id = json_object_get(call, "id");
    if (!json_is_string(name))
        return error_set(f->e, ERR_INVALID, "messages[%zu].tool_calls: each has a function with a name", f->at);
    *out = json_pack("{s:s, s:{s:O, s:o}}", "type", "function", "function", "name", name, "arguments",
                     fit_arguments(f, json_object_get(function, "arguments")));
    if (f->caps->call_numbered)
        json_object_set_new(*out, "id", number_id(f, id, json_string_value(name)));
    else if (json_is_string(id))
        json_object_set_new(*out, "id", fit_id(f, id));
    return 0;
}

static int fit_calls(struct fitting *f, const json_t *calls, json_t *message)
{
    const json_t *call;
    size_t i;
    json_t *list = json_array();
    json_object_set_new(message, "tool_calls", list);
    json_array_foreach(calls, i, call) {
        json_t *one = NULL;
        int status = fit_call(f, call, &one);
        if (status != 0)
            return status;
        json_array_append_new(list, one);
    }
    return 0;
}

/* The first of a message's calls with an id has it. */
static void remember_calls(struct fitting *f, const json_t *message)
{
    const json_t *calls = json_object_get(message, "tool_calls");
    if (is_role(message, "user"))
        json_object_clear(f->names);
    for (size_t i = json_array_size(calls); i-- > 0;) {
        const json_t *call = json_array_get(calls, i);
        const char *id = json_string_value(json_object_get(call, "id"));
        if (id)
            json_object_set_nocheck(f->names, id, json_object_get(json_object_get(call, "function"), "name"));
    }
}

/* ---- messages ---- */

/* Reasoning has two names in use; templates look for either. */
static void fit_reasoning(const json_t *from, json_t *to)
{
    static const char *const names[] = {"reasoning_content", "reasoning"};
    for (size_t i = 0; i < COUNTOF(names); i++) {
        json_t *own = json_object_get(from, names[i]), *other = json_object_get(from, names[!i]);
        json_t *text = json_is_string(own) ? own : other;
        if (json_is_string(text) && json_string_length(text) > 0)
            json_object_set(to, names[i], text);
    }
}

static void fit_result(const struct fitting *f, const json_t *from, json_t *to)
{
    json_t *id = json_object_get(from, "tool_call_id"), *name = json_object_get(from, "name");
    if (!json_is_string(name) && json_is_string(id))
        name = json_object_get(f->names, json_string_value(id));
    json_t *numbered = json_is_string(id) ? json_object_get(f->ids, json_string_value(id)) : NULL;
    if (json_is_string(id))
        json_object_set_new(to, "tool_call_id", numbered ? json_incref(numbered) : fit_id(f, id));
    if (json_is_string(name))
        json_object_set(to, "name", name);
}

static const char *role_of(const struct fitting *f, const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    if (!role || !chat_is_role("role", role))
        return NULL;
    if (strcmp(role, "function") == 0) /* as results of tools were called once */
        return "tool";
    return strcmp(role, "developer") == 0 && !f->caps->developer ? "system" : role;
}

/* The calls of an assistant's message. One that has a call as it was written once gets a list of it; the caller's. */
static json_t *calls_of(const json_t *message)
{
    json_t *calls = json_object_get(message, "tool_calls"), *old = json_object_get(message, "function_call");
    if (json_array_size(calls) == 0 && json_is_object(old))
        return json_pack("[{s:s, s:O}]", "type", "function", "function", old);
    return json_incref(calls);
}

/* A message of its own shape, content as text. */
static int fit_message(struct fitting *f, const json_t *from, json_t **out)
{
    const char *role = role_of(f, from);
    json_t *content = NULL;
    if (!json_is_object(from))
        return error_set(f->e, ERR_INVALID, "messages[%zu] must be an object", f->at);
    if (!role)
        return error_set(f->e, ERR_INVALID,
                         "messages[%zu].role must be system, developer, user, assistant or tool", f->at);
    json_t *calls = strcmp(role, "assistant") == 0 ? calls_of(from) : NULL;
    bool calling = json_array_size(calls) > 0;
    int status = fit_content(f, from, calling, &content);
    if (status != 0) {
        json_decref(calls);
        return status;
    }
    *out = json_copy((json_t *)(uintptr_t)from); /* with members that only some templates know */
    json_object_set_new(*out, "role", json_string(role));
    json_object_set_new(*out, "content", content);
    json_object_del(*out, "tool_calls");
    json_object_del(*out, "function_call");
    if (strcmp(role, "assistant") == 0)
        fit_reasoning(from, *out);
    if (strcmp(role, "tool") == 0)
        fit_result(f, from, *out);
    if (calling)
        status = fit_calls(f, calls, *out);
    json_decref(calls);
    return status;
}

/* Appends the message's text to the last one's, an empty line between them. Takes `message`. */
static void join_text(struct fitting *f, json_t *message)
{
    const json_t *first = json_object_get(json_array_get(f->out, json_array_size(f->out) - 1), "content");
    const json_t *second = json_object_get(message, "content");
    if (!f->joining) {
        buffer_clear(&f->joined);
        buffer_add(&f->joined, json_string_value(first), json_string_length(first));
        f->joining = true;
    }
    if (f->joined.len > 0 && json_string_length(second) > 0)
        buffer_add_text(&f->joined, "\n\n");
    buffer_add(&f->joined, json_string_value(second), json_string_length(second));
    json_decref(message);
}

/* The last message gets the text that was joined for it. */
static int end_join(struct fitting *f)
{
    if (!f->joining)
        return 0;
    f->joining = false;
    if (buffer_failed(&f->joined))
        return error_set(f->e, ERR_LIMIT, "messages[%zu].content: with the turns before it, it has more than %d bytes",
                         f->at, CONTENT_MAX);
    json_object_set_new(json_array_get(f->out, json_array_size(f->out) - 1), "content",
                        json_stringn_nocheck(buffer_text(&f->joined), f->joined.len));
    return 0;
}

static bool is_plain(const json_t *message)
{
    return json_is_string(json_object_get(message, "content")) && !json_object_get(message, "tool_calls");
}

/* At the end; but a result of one of several calls, where each has its own message, stands behind that. */
static size_t place_of(const struct fitting *f, const json_t *message)
{
    size_t n = json_array_size(f->out);
    const json_t *id = json_object_get(message, "tool_call_id");
    for (size_t i = n; f->caps->call_single && is_role(message, "tool") && i-- > 0;) {
        const json_t *at = json_array_get(f->out, i), *calls = json_object_get(at, "tool_calls");
        if (calls && json_equal(json_object_get(json_array_get(calls, 0), "id"), id))
            return i + 1;
        if (!calls && !is_role(at, "tool"))
            break;
    }
    return n;
}

/* Where the template has no place for a system message, a user says it. Takes `message`. */
static int add_message(struct fitting *f, json_t *message)
{
    size_t n = json_array_size(f->out);
    json_t *before = n > 0 ? json_array_get(f->out, n - 1) : NULL;
    bool system = is_role(message, "system");
    if (system && before && !f->caps->later_system && n == 1 && is_role(before, "system")) {
        join_text(f, message);
        return 0;
    }
    if (system && !(n == 0 ? f->caps->system : f->caps->later_system))
        json_object_set_new(message, "role", json_string("user"));
    bool same = before && json_equal(json_object_get(before, "role"), json_object_get(message, "role"));
    bool turn = is_role(message, "user") || is_role(message, "assistant");
    bool user = system && is_role(message, "user");
    /* A system message that became the user's is part of what the user says next. */
    if (same && turn && (!f->caps->repeats || f->folded) && is_plain(before) && is_plain(message)) {
        join_text(f, message);
        f->folded = f->folded && user;
        return 0;
    }
    int status = end_join(f);
    f->folded = user;
    json_array_insert_new(f->out, place_of(f, message), message);
    return status;
}

/* Where the template takes one call a message, each becomes one of its own. Takes `message`. */
static int add_calls(struct fitting *f, json_t *message)
{
    const json_t *calls = json_object_get(message, "tool_calls");
    int status = 0;
    for (size_t i = 0; i < json_array_size(calls) && status == 0; i++) {
        json_t *one = json_copy(message);
        json_object_set_new(one, "tool_calls", json_pack("[O]", json_array_get(calls, i)));
        if (i > 0)
            json_object_set_new(one, "content", f->caps->call_null ? json_null() : json_string(""));
        status = add_message(f, one);
    }
    json_decref(message);
    return status;
}

static int finish(struct fitting *f)
{
    json_t *message;
    size_t i;
    int status = end_join(f);
    json_array_foreach(f->out, i, message)
        if (f->caps->parts)
            json_object_set_new(message, "content", wrap_content(json_incref(json_object_get(message, "content"))));
    return status;
}

/* The message at f->at. */
static int fit_next(struct fitting *f, const json_t *message)
{
    json_t *fitted = NULL;
    int status = fit_message(f, message, &fitted);
    if (status != 0) {
        json_decref(fitted);
        return status;
    }
    remember_calls(f, message);
    bool several = f->caps->call_single && json_array_size(json_object_get(fitted, "tool_calls")) > 1;
    return several ? add_calls(f, fitted) : add_message(f, fitted);
}

int chat_messages_fit(json_t **out, const json_t *messages, const struct chat_caps *caps, struct chat_about *about,
                      struct error *e)
{
    struct fitting f = {.caps = caps, .out = json_array(), .names = json_object(), .ids = json_object(),
                        .e = e};
    int status = 0;
    size_t n = json_array_size(messages);
    buffer_init(&f.joined, CONTENT_MAX);
    if (n == 0)
        status = error_set(e, ERR_INVALID, "messages must be a list of at least one message");
    else if (n > CHAT_MESSAGES_MAX)
        status = error_set(e, ERR_LIMIT, "%zu messages; at most %d are taken", n, CHAT_MESSAGES_MAX);
    for (size_t i = 0; i < n && status == 0; i++) {
        f.at = i;
        status = fit_next(&f, json_array_get(messages, i));
        if (status != 0)
            *about = (struct chat_about){CHAT_ABOUT_MESSAGE, i};
    }
    if (status == 0)
        status = finish(&f);
    if (status != 0)
        json_decref(f.out);
    *out = status == 0 ? f.out : NULL;
    json_decref(f.names);
    json_decref(f.ids);
    buffer_close(&f.joined);
    return status;
}

/* ---- tools ---- */

int chat_tools_check(const json_t *tools, struct error *e)
{
    const json_t *tool;
    size_t i;
    if (!json_is_array(tools))
        return error_set(e, ERR_INVALID, "tools must be a list");
    if (json_array_size(tools) > CHAT_TOOLS_MAX)
        return error_set(e, ERR_LIMIT, "at most %d tools are taken", CHAT_TOOLS_MAX);
    json_array_foreach(tools, i, tool) {
        const char *type = json_string_value(json_object_get(tool, "type"));
        if (!type || strcmp(type, "function") != 0 ||
            !json_is_string(json_object_get(json_object_get(tool, "function"), "name")))
            return error_set(e, ERR_INVALID, "tools[%zu] must be {\"type\": \"function\", \"function\": {\"name\": "
                                             "...}}", i);
    }
    return 0;
}
