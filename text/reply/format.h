/* format: how models write tool calls and reasoning: a row a format.
 *
 * The rows say which marks stand around a call, its name, its arguments and
 * what was thought; reply.h reads by them and tools.h writes grammars by them.
 * Which row is a model's is seen from its chat template.                     */
#ifndef TEXT_REPLY_FORMAT_H
#define TEXT_REPLY_FORMAT_H

#include <stdbool.h>
#include <stddef.h>

#define REPLY_FINAL_CHANNEL "<|channel|>final<|message|>" /* before an answer in channels */
#define REPLY_CALL_ID "[CALL_ID]" /* after a name, where a format has ids */

enum reply_style {
    REPLY_STYLE_JSON,     /* open {"name": ..., "arguments": {...}} close, or a list of these */
    REPLY_STYLE_BARE,     /* the same JSON, also without a mark, as the whole answer */
    REPLY_STYLE_NAMED,    /* open before_name NAME after_name {...} close */
    REPLY_STYLE_TAGS,     /* open, a function in tags whose parameters are in tags, close */
    REPLY_STYLE_CHANNELS, /* headers say whether a message is reasoning, a call or text */
};

/* Tags of a function whose parameters are plain text. */
struct reply_tags {
    const char *name, *name_end;   /* name NULL: it follows the call's mark; name_end NULL: it ends with its line */
    const char *function_end;      /* NULL: the call's end */
    const char *key, *key_end;
    const char *flag;              /* behind a key, then "true" where the value is a text, "false" else; NULL: none */
    const char *value, *value_end; /* value NULL: it follows key_end */
    const char *gap;               /* a new line, or nothing, between the parts as a grammar writes them */
    bool trims;                    /* a new line at either end of a value is not of it */
};

struct reply_format {
    const char *name;
    const char *marks[3];          /* a template that has all of them is of this format; NULL: no more */
    enum reply_style style;
    const char *section, *section_end; /* around all calls; NULL: none */
    const char *open, *close;      /* of a call; close NULL: none */
    const char *name_key, *arguments_key; /* of JSON */
    const char *id_key;            /* of JSON, before the name; NULL: none */
    bool list;                     /* JSON calls stand in a list */
    bool numbered;                 /* NAME:NUMBER */
    const char *before_name, *after_name; /* NULL: none */
    const char *after_arguments;   /* NULL: none */
    const struct reply_tags *tags;
};

struct reply_thinking {
    const char *open, *close;
    const char *opens_answer, *closes_answer; /* marks around the rest, not shown; NULL: none */
};

/* What a model writes; NULL: nothing that would have to be read. */
struct reply_formats {
    const struct reply_format *calls;
    const struct reply_thinking *thinking;
    bool chooses; /* whether to think is the model's choice, where the prompt does not say */
};

/* Of a template's source; `has_token` says whether the vocabulary has a token of this text. */
struct reply_formats reply_formats_of(const char *template_source,
                                      bool (*has_token)(const void *arg, const char *text), const void *arg);
/* Is this text, which is not empty, a mark of the format or a part of one? Control tokens that are must be seen where
 * an answer is read. */
bool reply_has_mark(const struct reply_formats *f, const char *text);
/* Does a generation prompt leave the model thinking? */
bool reply_begins_thinking(const struct reply_formats *f, const char *prompt, size_t len);
/* With what a call begins, up to the tool's name or its mark's end. */
const char *reply_trigger(const struct reply_format *f);
/* The format by name, for tests; NULL: none. */
const struct reply_format *reply_format_named(const char *name);
const struct reply_thinking *reply_thinking_named(const char *open);

#endif
