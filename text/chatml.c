/* chatml: habits are found as literals of the template's source; rendering is one pass over the messages. */
#include "text/chatml.h"

#include <string.h>

#include "base/memory.h"

#define START "<|im_start|>"
#define END "<|im_end|>"

/* ---- reading a template ---- */

/* The length of a line break at s, as the character or as an escape; 0 when there is none. */
static size_t break_at(const char *s)
{
    if (s[0] == '\n')
        return 1;
    return s[0] == '\\' && s[1] == 'n' ? 2 : 0;
}

/* What stands at s after `words` and line breaks ("\n" in words), or NULL. */
static const char *after(const char *s, const char *words)
{
    for (; *words; words++) {
        size_t n = *words == '\n' ? break_at(s) : *s == *words;
        if (n == 0)
            return NULL;
        s += n;
    }
    return s;
}

/* The first place after s where `words` stand, past them; NULL. */
static const char *past(const char *s, const char *words)
{
    for (; *s; s++) {
        const char *end = after(s, words);
        if (end)
            return end;
    }
    return NULL;
}

/* Does every opening of a turn name its role in a way that is understood? */
static bool turns_are_plain(const char *source)
{
    static const char *const follow[] = {
        "'", "\"", "{{", "system\n", "user\n", "assistant\n", "tool\n", "developer\n", "system'", "user'", "assistant'",
        "tool'", "system\"", "user\"", "assistant\"", "tool\"", "assistant{%", "user{%",
    };
    for (const char *at = past(source, START); at; at = past(at, START)) {
        bool plain = false;
        for (size_t i = 0; i < COUNTOF(follow); i++)
            plain = plain || after(at, follow[i]);
        if (!plain)
            return false;
    }
    return true;
}

static const char *skip_blanks(const char *s)
{
    return s + strspn(s, " \t\r\n");
}

/* How many blocks opened before `end` are still open there. */
static int depth_at(const char *source, const char *end)
{
    static const char *const opening[] = {"if ", "if(", "for ", "macro "};
    static const char *const closing[] = {"endif", "endfor", "endmacro"};
    int depth = 0;
    for (const char *at = past(source, "{%"); at && at < end; at = past(at, "{%")) {
        at = skip_blanks(at + (*at == '-' || *at == '+'));
        for (size_t i = 0; i < COUNTOF(opening); i++)
            depth += after(at, opening[i]) != NULL;
        for (size_t i = 0; i < COUNTOF(closing); i++)
            depth -= after(at, closing[i]) != NULL;
    }
    return depth;
}

/* The end of the literal that s stands in: an unescaped quote of its kind, or, outside of one, a brace. */
static const char *literal_end(const char *s, char quote)
{
    if (quote != '\'' && quote != '"')
        return s + strcspn(s, "{");
    for (; *s && *s != quote; s++)
        s += s[0] == '\\' && s[1];
    return s;
}

/* A system turn of the template's own: '<|im_start|>system\n...<|im_end|>\n' in one literal. */
static void read_system(struct chatml_habits *h, const char *source)
{
    for (const char *at = strstr(source, START); at; at = strstr(at + 1, START)) {
        const char *text = after(at, START "system\n"), *end = text ? strstr(text, END) : NULL;
        if (end && end > text && end < literal_end(text, at > source ? at[-1] : 0)) {
            h->system = text;
            h->system_len = (size_t)(end - text);
            return;
        }
    }
}

/* Is the turn opened with <think>, in the same literal or as what is not told otherwise? */
static bool reads_thinking(const char *source)
{
    const char *at = source, *last = NULL;
    for (at = past(at, "add_generation_prompt"); at; at = past(at, "add_generation_prompt"))
        last = at;
    if (!last)
        return false;
    const char *open = past(last, START "assistant\n");
    if (open && after(open, "<think>\n"))
        return true;
    for (at = past(last, "else"); at; at = past(at, "else")) {
        at += strspn(at, " -%}{\n'\"");
        if (after(at, "<think>\n") && !after(at, "<think>\n\n"))
            return true;
    }
    return false;
}

/* {% set content = ... message ... |trim %} */
static bool reads_trimming(const char *source)
{
    for (const char *at = past(source, "set content ="); at; at = past(at, "set content =")) {
        const char *end = strstr(at, "%}");
        while (end && end > at && strchr(" -+\n", end[-1]))
            end--;
        const char *message = strstr(at, "message");
        if (!end || !message || message > end || memcmp(end - 4, "trim", 4) != 0)
            continue;
        for (end -= 4; end > at && end[-1] == ' ';)
            end--;
        if (end[-1] == '|')
            return true;
    }
    return false;
}

int chatml_read(struct chatml_habits *h, const char *source, struct error *e)
{
    memset(h, 0, sizeof(*h));
    if (!source)
        return 0;
    const char *first = strstr(source, START), *bos = strstr(source, "bos_token");
    if (!first || !strstr(source, END))
        return error_set(e, ERR_UNSUPPORTED, "the model's chat template is not ChatML, the only format that is known");
    read_system(h, source);
    if (strstr(source, "strftime_now") || !turns_are_plain(source) || (depth_at(source, first) == 0 && !h->system))
        return error_set(e, ERR_UNSUPPORTED, "the model's chat template adds text of its own to ChatML");
    h->bos = bos && bos < first;
    h->thinks = reads_thinking(source);
    h->trims = reads_trimming(source);
    h->forgets = strstr(source, "split('</think>')") || strstr(source, "split(\"</think>\")");
    h->trims_rest = strstr(source, "split('</think>')[-1] | trim") || strstr(source, "split(\"</think>\")[-1] | trim");
    h->tool_responses = strstr(source, "<tool_response>") != NULL;
    h->tool_break = past(source, "</tool_response>\n") != NULL;
    return 0;
}

/* ---- rendering ---- */

void chat_text_init(struct chat_text *t)
{
    memset(t, 0, sizeof(*t));
    buffer_init(&t->text, TOKENIZER_TEXT_MAX);
}

void chat_text_close(struct chat_text *t)
{
    buffer_close(&t->text);
    mem_free(t->trusted);
    t->trusted = NULL;
}

/* Text of the template: control tokens count in it. */
static void add_own(struct chat_text *t, const char *text, size_t len)
{
    size_t at = t->text.len;
    buffer_add(&t->text, text, len);
    if (t->n_trusted > 0 && t->trusted[t->n_trusted - 1].end == at) {
        t->trusted[t->n_trusted - 1].end = t->text.len;
        return;
    }
    if (t->n_trusted == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 16;
        t->trusted = mem_resize(t->trusted, t->cap, sizeof(*t->trusted));
    }
    t->trusted[t->n_trusted++] = (struct text_span){at, t->text.len};
}

static void own(struct chat_text *t, const char *text)
{
    add_own(t, text, strlen(text));
}

/* The source's own system turn, with its escapes undone. */
static void add_system(struct chat_text *t, const struct chatml_habits *h)
{
    own(t, START "system\n");
    for (size_t i = 0; i < h->system_len; i++) {
        bool escaped = h->system[i] == '\\' && i + 1 < h->system_len;
        if (escaped)
            i++;
        add_own(t, escaped && h->system[i] == 'n' ? "\n" : h->system + i, 1);
    }
    own(t, END "\n");
}

/* "developer" is what newer clients call the system. NULL for what is no role. */
static const char *role_of(const struct chat_message *m)
{
    static const char *const roles[][2] = {
        {"system", "system"}, {"developer", "system"}, {"user", "user"}, {"assistant", "assistant"}, {"tool", "tool"},
    };
    for (size_t i = 0; i < COUNTOF(roles); i++)
        if (strcmp(m->role, roles[i][0]) == 0)
            return roles[i][1];
    return NULL;
}

static bool is_role(const struct chat_message *m, const char *role)
{
    return strcmp(m->role, role) == 0;
}

/* The content without what stands before the last </think>. */
static const char *without_reasoning(const char *content)
{
    const char *rest = content;
    for (const char *at = strstr(content, "</think>"); at; at = strstr(rest, "</think>"))
        rest = at + strlen("</think>");
    return rest == content ? content : rest + strspn(rest, "\n");
}

/* What the user or the model said: never the template's. */
static void add_content(struct chat_text *t, const char *content, bool trim)
{
    static const char white[] = " \t\n\v\f\r";
    size_t len = strlen(content);
    if (trim) {
        size_t lead = strspn(content, white);
        content += lead;
        len -= lead;
        while (len > 0 && strchr(white, content[len - 1]))
            len--;
    }
    buffer_add(&t->text, content, len);
}

/* The results of one round of tools share a turn of the user. */
static void add_tool(struct chat_text *t, const struct chatml_habits *h, const struct chat_message *messages,
                     size_t n, size_t i)
{
    bool first = i == 0 || !is_role(&messages[i - 1], "tool"), last = i + 1 == n || !is_role(&messages[i + 1], "tool");
    if (first)
        own(t, START "user\n");
    else if (!h->tool_break)
        own(t, "\n");
    own(t, "<tool_response>\n");
    add_content(t, messages[i].content, h->trims);
    own(t, h->tool_break ? "\n</tool_response>\n" : "\n</tool_response>");
    if (last)
        own(t, END "\n");
}

static size_t last_user(const struct chat_message *messages, size_t n)
{
    while (n > 0 && !is_role(&messages[n - 1], "user"))
        n--;
    return n;
}

int chatml_render(const struct chatml_habits *h, const struct chat_message *messages, size_t n,
                  bool add_generation_prompt, struct chat_text *out, struct error *e)
{
    size_t asked = last_user(messages, n);
    for (size_t i = 0; i < n; i++)
        if (!role_of(&messages[i]))
            return error_set(e, ERR_INVALID, "message %zu has the role '%.64s', which is not known", i,
                             messages[i].role);
    if (h->system && (n == 0 || strcmp(role_of(&messages[0]), "system") != 0))
        add_system(out, h);
    for (size_t i = 0; i < n; i++) {
        const struct chat_message *m = &messages[i];
        if (is_role(m, "tool") && h->tool_responses) {
            add_tool(out, h, messages, n, i);
            continue;
        }
        own(out, START);
        own(out, role_of(m));
        own(out, "\n");
        bool forget = h->forgets && is_role(m, "assistant") && i < asked;
        const char *content = forget ? without_reasoning(m->content) : m->content;
        add_content(out, content, h->trims || (h->trims_rest && content != m->content));
        own(out, END "\n");
    }
    if (add_generation_prompt)
        own(out, h->thinks ? START "assistant\n<think>\n" : START "assistant\n");
    if (buffer_failed(&out->text))
        return error_set(e, ERR_LIMIT, "the conversation has more than %d bytes", TOKENIZER_TEXT_MAX);
    return 0;
}
