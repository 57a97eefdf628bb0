/* chat_messages: each message is copied member by member, then joined with the one before it where that is asked. */
#include "text/chat_messages.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "text/chat.h"

enum { CONTENT_MAX = 64 << 20, SHORT_ID_BYTES = 9 };

struct fitting {
    const struct chat_caps *caps;
    const json_t *messages; /* as they came */
    json_t *out;
    size_t at;
    bool folded; /* the last message of `out` was a system's and is the user's now */
    struct error *e;
};

/* ---- roles ---- */

static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};

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
        const json_t *words = json_object_get(part, "text");
        if (!type || strcmp(type, "text") != 0 || !json_is_string(words))
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

/* Text of any content; null only where the template wants it so. */
static int fit_content(struct fitting *f, const json_t *message, bool calls, json_t **out)
{
    json_t *content = json_object_get(message, "content");
    bool assistant = is_role(message, "assistant");
    int status = 0;
    if (json_is_array(content))
        status = join_parts(f, content, out);
    else if (json_is_string(content))
        *out = json_incref(content);
    else if (assistant && (!content || json_is_null(content)))
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

static json_t *fit_arguments(const struct fitting *f, json_t *arguments)
{
    json_t *object = NULL;
    if (!arguments || json_is_null(arguments))
        return f->caps->call_text ? json_string("{}") : json_object();
    if (json_is_string(arguments) && !f->caps->call_text) {
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
    if (json_is_string(id))
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

/* The function whose call has this id; NULL. */
static json_t *called_name(const struct fitting *f, const json_t *id)
{
    for (size_t i = f->at; i-- > 0 && json_is_string(id);) {
        const json_t *calls = json_object_get(json_array_get(f->messages, i), "tool_calls"), *call;
        size_t k;
        json_array_foreach(calls, k, call) {
            if (json_equal(json_object_get(call, "id"), id))
                return json_object_get(json_object_get(call, "function"), "name");
        }
        if (is_role(json_array_get(f->messages, i), "user"))
            break;
    }
    return NULL;
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
    if (!json_is_string(name))
        name = called_name(f, id);
    if (json_is_string(id))
        json_object_set_new(to, "tool_call_id", fit_id(f, id));
    if (json_is_string(name))
        json_object_set(to, "name", name);
}

static const char *role_of(const struct fitting *f, const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    if (!role || !chat_is_role("role", role))
        return NULL;
    return strcmp(role, "developer") == 0 && !f->caps->developer ? "system" : role;
}

/* A message of its own shape, content as text. */
static int fit_message(struct fitting *f, const json_t *from, json_t **out)
{
    const char *role = role_of(f, from);
    const json_t *calls = json_object_get(from, "tool_calls");
    json_t *content = NULL;
    if (!json_is_object(from))
        return error_set(f->e, ERR_INVALID, "messages[%zu] must be an object", f->at);
    if (!role)
        return error_set(f->e, ERR_INVALID,
                         "messages[%zu].role must be system, developer, user, assistant or tool", f->at);
    bool calling = strcmp(role, "assistant") == 0 && json_array_size(calls) > 0;
    int status = fit_content(f, from, calling, &content);
    if (status != 0)
        return status;
    *out = json_copy((json_t *)(uintptr_t)from); /* with members that only some templates know */
    json_object_set_new(*out, "role", json_string(role));
    json_object_set_new(*out, "content", content);
    json_object_del(*out, "tool_calls");
    if (strcmp(role, "assistant") == 0)
        fit_reasoning(from, *out);
    if (strcmp(role, "tool") == 0)
        fit_result(f, from, *out);
    return calling ? fit_calls(f, calls, *out) : 0;
}

/* Appends b's text to a's, an empty line between them. */
static void join_text(json_t *a, const json_t *b)
{
    const json_t *first = json_object_get(a, "content"), *second = json_object_get(b, "content");
    struct buffer text;
    buffer_init(&text, CONTENT_MAX);
    buffer_add(&text, json_string_value(first), json_string_length(first));
    if (json_string_length(first) > 0 && json_string_length(second) > 0)
        buffer_add_text(&text, "\n\n");
    buffer_add(&text, json_string_value(second), json_string_length(second));
    json_object_set_new(a, "content", json_stringn_nocheck(buffer_text(&text), text.len));
    buffer_close(&text);
}

static bool is_plain(const json_t *message)
{
    return json_is_string(json_object_get(message, "content")) && !json_object_get(message, "tool_calls");
}

/* Where the template has no place for a system message, a user says it. Takes `message`. */
static void add_message(struct fitting *f, json_t *message)
{
    size_t n = json_array_size(f->out);
    json_t *before = n > 0 ? json_array_get(f->out, n - 1) : NULL;
    bool system = is_role(message, "system");
    if (system && before && !f->caps->later_system && n == 1 && is_role(before, "system")) {
        join_text(before, message);
        json_decref(message);
        return;
    }
    if (system && !(n == 0 ? f->caps->system : f->caps->later_system))
        json_object_set_new(message, "role", json_string("user"));
    bool same = before && json_equal(json_object_get(before, "role"), json_object_get(message, "role"));
    bool turn = is_role(message, "user") || is_role(message, "assistant");
    bool user = system && is_role(message, "user");
    /* A system message that became the user's is part of what the user says next. */
    if (same && turn && (!f->caps->repeats || f->folded) && is_plain(before) && is_plain(message)) {
        join_text(before, message);
        f->folded = f->folded && user;
        json_decref(message);
        return;
    }
    f->folded = user;
    json_array_append_new(f->out, message);
}

static void finish(const struct fitting *f)
{
    json_t *message;
    size_t i;
    json_array_foreach(f->out, i, message)
        if (f->caps->parts)
            json_object_set_new(message, "content", wrap_content(json_incref(json_object_get(message, "content"))));
}

int chat_messages_fit(json_t **out, const json_t *messages, const struct chat_caps *caps, struct error *e)
{
    struct fitting f = {.caps = caps, .messages = messages, .out = json_array(), .e = e};
    const json_t *message;
    int status = 0;
    size_t n = json_array_size(messages);
    if (n == 0)
        status = error_set(e, ERR_INVALID, "messages must be a list of at least one message");
    else if (n > CHAT_MESSAGES_MAX)
        status = error_set(e, ERR_LIMIT, "%zu messages; at most %d are taken", n, CHAT_MESSAGES_MAX);
    for (; f.at < n && status == 0; f.at++) {
        json_t *fitted = NULL;
        message = json_array_get(messages, f.at);
        status = fit_message(&f, message, &fitted);
        if (status == 0)
            add_message(&f, fitted);
        else
            json_decref(fitted);
    }
    if (status == 0)
        finish(&f);
    else
        json_decref(f.out);
    *out = status == 0 ? f.out : NULL;
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
