/* private: what the files of text/reply share.  Not for other folders. */
#ifndef TEXT_REPLY_PRIVATE_H
#define TEXT_REPLY_PRIVATE_H

#include "base/buffer.h"
#include "text/reply/reply.h"

enum reply_state {
    STATE_TEXT,
    STATE_THINKING,
    STATE_HEAD,      /* a call's mark stands at `lead` of what is pending, or the next call of a list begins it */
    STATE_ARGUMENTS, /* a JSON object goes by */
    STATE_NEXT,      /* between the parameters of a function in tags */
    STATE_VALUE,     /* a parameter's */
    STATE_AFTER,     /* behind arguments */
};

struct reply {
    struct reply_options o;
    const struct reply_tags *tags; /* of the call under way */
    enum reply_state state;
    struct buffer pending;
    bool ended;   /* nothing will come any more */
    bool trims;   /* white space that comes next is not of the text */
    bool bare_ok; /* a call may begin without a mark */
    bool answered; /* calls or text were given */
    size_t lead, mark; /* STATE_HEAD: bytes of white space before the mark, and of it */
    bool in_object, in_list;
    /* STATE_ARGUMENTS */
    uint32_t depth;
    bool quoted, escaped;
    /* of functions in tags */
    const json_t *properties; /* borrowed; NULL: not known */
    const json_t *property;
    uint32_t n_parameters;
    bool is_text;  /* the value is a string for certain: it is given as it comes */
    bool begun;    /* something of it was given */
    size_t searched; /* bytes of a held value in which its end does not begin */
};

/* What a call begins with, if it is one. */
enum head_kind { HEAD_MORE, HEAD_BAD, HEAD_OBJECT, HEAD_WHOLE, HEAD_TAGS, HEAD_MESSAGE };

struct head {
    char name[REPLY_NAME_MAX + 1];
    size_t end;      /* bytes of it */
    json_t *whole;   /* HEAD_WHOLE: the arguments, NULL: none; owned */
    const char *raw; /* HEAD_WHOLE: their text, where it is there */
    size_t raw_len;
    bool in_list, in_object;
    const struct reply_tags *tags;
    enum reply_state message; /* HEAD_MESSAGE */
};

/* 1: begins with the word; 0: may, when more comes; -1: does not. */
int reply_begins(const char *p, size_t n, const char *word);
size_t reply_blanks(const char *p, size_t n);
void reply_give(const struct reply *r, enum reply_kind kind, const char *text, size_t n);
void reply_drop(struct reply *r, size_t n);
/* Bytes at the end that may begin the word. */
size_t reply_tail(const char *p, size_t n, const char *word);
/* The tool of this name, NULL: there is none. */
const json_t *reply_tool(const json_t *tools, const char *name);

/* head.c: what stands behind a mark. */
enum head_kind reply_head(const struct reply *r, const char *p, size_t n, struct head *h);
/* 1: *at is behind a value; 0: more must come; -1: it is none. */
int reply_skip_value(const char *p, size_t n, size_t *at);
int reply_read_key(const char *p, size_t n, size_t *at, size_t *key, size_t *key_len);

/* Each looks at what is pending; false: more must come. */
bool reply_step_head(struct reply *r);      /* calls.c */
bool reply_step_arguments(struct reply *r);
bool reply_step_after(struct reply *r);
bool reply_step_next(struct reply *r);      /* tags.c */
bool reply_step_value(struct reply *r);
void reply_tags_begin(struct reply *r, const char *name);

#endif
