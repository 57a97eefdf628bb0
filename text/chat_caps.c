/* chat_caps: probes are rows: a conversation, and words that must show in its rendering. */
#include "text/chat_caps.h"

#include <string.h>

#include "base/memory.h"
#include "text/chat_messages.h"

enum { PROBE_STEPS_MAX = 1 << 20, PROBE_VARIABLES = 5 };

#define USER "{\"role\": \"user\", \"content\": \"USERPROBE\"}"
#define ANSWER "{\"role\": \"assistant\", \"content\": \"ANSWERPROBE\"}"
#define SYSTEM "{\"role\": \"system\", \"content\": \"SYSTEMPROBE\"}"
#define TOOLS "[{\"type\": \"function\", \"function\": {\"name\": \"toolprobe\", \"description\": \"Probes.\", " \
    "\"parameters\": {\"type\": \"object\", \"properties\": {\"argprobe\": {\"type\": \"string\", \"description\": " \
    "\"A.\"}}, \"required\": [\"argprobe\"]}}}]"
/* A call with this id, content and arguments, its result, and the next question. */
#define CALL(id, content, arguments) "[" USER ", {\"role\": \"assistant\", \"content\": " content ", \"tool_calls\": " \
    "[{\"id\": \"" id "\", \"type\": \"function\", \"function\": {\"name\": \"toolprobe\", \"arguments\": " \
    arguments "}}]}, {\"role\": \"tool\", \"tool_call_id\": \"" id "\", \"name\": \"toolprobe\", \"content\": " \
    "\"RESULTPROBE\"}, " ANSWER ", " USER "]"
/* A conversation with two calls at once. */
#define CALLS "[" USER ", {\"role\": \"assistant\", \"content\": %s, \"tool_calls\": [{\"id\": \"%s1\", \"type\": " \
    "\"function\", \"function\": {\"name\": \"toolprobe\", \"arguments\": %s}}, {\"id\": \"%s2\", \"type\": " \
    "\"function\", \"function\": {\"name\": \"otherprobe\", \"arguments\": %s}}]}, {\"role\": \"tool\", " \
    "\"tool_call_id\": \"%s1\", \"name\": \"toolprobe\", \"content\": \"RESULTPROBE\"}, {\"role\": \"tool\", " \
    "\"tool_call_id\": \"%s2\", \"name\": \"otherprobe\", \"content\": \"RESULTPROBE\"}, " ANSWER ", " USER "]"
#define OBJECT "{\"argprobe\": \"VALUEPROBE\"}"
#define TEXT "\"{\\\"argprobe\\\": \\\"VALUEPROBE\\\"}\""

struct prober {
    const struct jinja *template;
    const struct chat_tokens_text *tokens;
};

static bool shows(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (!strstr(text, *words))
            return false;
    return true;
}

static bool render(const struct prober *p, const char *messages, const char *tools, struct jinja_output *out)
{
    json_t *m = json_loads(messages, 0, NULL), *t = tools ? json_loads(tools, 0, NULL) : NULL, *open = json_true();
    const struct jinja_variable variables[PROBE_VARIABLES] = {
        {"messages", m, false},           {"tools", t, false},              {"add_generation_prompt", open, true},
        {"bos_token", p->tokens->bos, true}, {"eos_token", p->tokens->eos, true},
    };
    const struct jinja_context c = {variables, PROBE_VARIABLES, chat_is_role, 0, PROBE_STEPS_MAX, true};
    bool good = jinja_render(p->template, &c, out, NULL) == 0;
    json_decref(m);
    json_decref(t);
    return good;
}

/* Does the conversation render, with all the words and without `never`? */
static bool renders(const struct prober *p, const char *messages, const char *tools, const char *const *words,
                    const char *never)
{
    struct jinja_output out;
    bool good = render(p, messages, tools, &out) && shows(out.text, words) && !(never && strstr(out.text, never));
    jinja_output_free(&out);
    return good;
}

static bool plain(const struct prober *p, const char *messages, const char *word)
{
    const char *const words[] = {"USERPROBE", word, NULL};
    return renders(p, messages, NULL, words, NULL);
}

/* Is a system message shown that is not the first, and not in the first one's stead? */
static bool later_shows(const struct prober *p)
{
    static const char *const words[] = {"FIRSTPROBE", "USERPROBE", "ANSWERPROBE", "SYSTEMPROBE", NULL};
    return renders(p, "[{\"role\": \"system\", \"content\": \"FIRSTPROBE\"}, " USER ", " ANSWER ", " SYSTEM ", " USER
                   "]", NULL, words, NULL);
}

static bool takes_two(const struct prober *p, const struct chat_caps *caps)
{
    static const char *const words[] = {"toolprobe", "otherprobe", NULL};
    const char *content = caps->call_null ? "null" : "\"\"", *arguments = caps->call_text ? TEXT : OBJECT;
    const char *id = caps->call_short ? "aB3dE6gH" : "call_probe";
    char *messages = mem_printf(CALLS, content, id, arguments, id, arguments, id, id);
    bool good = renders(p, messages, NULL, words, NULL);
    mem_free(messages);
    return good;
}

/* Calls with ids that models were trained to see with the function's name and a number. */
static bool shows_id(const struct prober *p, const char *messages, const char *source)
{
    static const char *const words[] = {"<|tool_call_begin|>call_probe1", NULL};
    return strstr(source, "<|tool_call_argument_begin|>") && renders(p, messages, NULL, words, NULL);
}

/* The first form of calls that shows everything, and shows no text within text; from what most templates take. */
static void probe_calls(struct chat_caps *caps, const struct prober *p, const char *source)
{
    static const struct {
        const char *messages;
        bool null, text, brief;
    } forms[] = {
        {CALL("call_probe1", "\"\"", OBJECT), false, false, false},
        {CALL("aB3dE6gH9", "\"\"", OBJECT), false, false, true},
        {CALL("call_probe1", "\"\"", TEXT), false, true, false},
        {CALL("aB3dE6gH9", "\"\"", TEXT), false, true, true},
        {CALL("call_probe1", "null", OBJECT), true, false, false},
        {CALL("aB3dE6gH9", "null", OBJECT), true, false, true},
        {CALL("call_probe1", "null", TEXT), true, true, false},
        {CALL("aB3dE6gH9", "null", TEXT), true, true, true},
    };
    static const char *const words[] = {"toolprobe", "argprobe", "VALUEPROBE", NULL};
    for (size_t i = 0; i < COUNTOF(forms); i++) {
        if (!renders(p, forms[i].messages, TOOLS, words, "\\\"argprobe\\\"") ||
            !renders(p, forms[i].messages, NULL, words, "\\\"argprobe\\\""))
            continue;
        caps->call = forms[i].messages;
        caps->call_null = forms[i].null;
        caps->call_text = forms[i].text;
        caps->call_short = forms[i].brief;
        caps->call_numbered = !forms[i].brief && shows_id(p, forms[i].messages, source);
        caps->call_single = !takes_two(p, caps);
        return;
    }
}

void chat_caps_probe(struct chat_caps *caps, const struct jinja *t, const struct jinja *tools, const char *source,
                     const struct chat_tokens_text *tokens)
{
    static const char *const tool_words[] = {"toolprobe", NULL};
    struct prober p = {t, tokens};
    *caps = (struct chat_caps){0};
    caps->parts = !plain(&p, "[" USER "]", "") &&
                  plain(&p, "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"USERPROBE\"}]}]", "");
    if (caps->parts) /* such templates are few: they are taken to cope with what templates mostly do */
        caps->system = caps->later_system = caps->repeats = true;
    else {
        caps->system = plain(&p, "[" SYSTEM ", " USER "]", "SYSTEMPROBE");
        caps->later_system = later_shows(&p);
        caps->repeats = plain(&p, "[{\"role\": \"user\", \"content\": \"FIRSTPROBE\"}, " USER "]", "FIRSTPROBE");
    }
    caps->developer = strstr(source, "developer") &&
                      plain(&p, "[{\"role\": \"developer\", \"content\": \"DEVPROBE\"}, " USER "]", "DEVPROBE");
    p.template = tools;
    caps->tools = renders(&p, "[" USER "]", TOOLS, tool_words, NULL);
    probe_calls(caps, &p, source);
}

char *chat_caps_call(const struct chat_caps *caps, const struct jinja *tools, const struct chat_tokens_text *tokens)
{
    struct prober p = {tools, tokens};
    struct jinja_output out = {0};
    char *text = caps->call && render(&p, caps->call, TOOLS, &out) ? mem_strdup(out.text) : NULL;
    jinja_output_free(&out);
    return text;
}
