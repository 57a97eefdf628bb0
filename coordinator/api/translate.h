/* translate: what the translators of other families' requests share.  Not for other folders.
 *
 * They make OpenAI's chat requests: pure, JSON in, JSON out.  `where` is a
 * place in the client's own body, by which refusals name it.                 */
#ifndef COORDINATOR_API_TRANSLATE_H
#define COORDINATOR_API_TRANSLATE_H

#include "coordinator/api/private.h"

enum { WHERE_BYTES = 64 }; /* of "messages[12].content[3]" */

/* Not there, or null. */
bool is_absent(const json_t *v);
/* The field's text; NULL: it is none. */
const char *text_at(const json_t *object, const char *field);
/* The fields that are there, as they are; names end with NULL. */
void copy_fields(json_t *to, const json_t *from, const char *const *names);
void put_where(char where[static WHERE_BYTES], const char *list, size_t i);

/* A number of tokens from 1, under another name. An absent one is none. */
MUST_USE int copy_length(json_t *to, const char *name, const json_t *from, const char *field, struct refusal *r);

/* The field that the refusal is about, and with which its sentence may begin, gets the client's name for it; where the
 * name is another, what follows it ("[2].content") is not the client's either. names NULL: nothing changes. */
void refusal_rename(struct refusal *r, const struct field_name *names);

/* Adds a text part to a list of them. */
MUST_USE int part_add(json_t *parts, const json_t *text, const char *where, struct refusal *r);
/* Of a message: one part is its text, none is "". The caller's. */
json_t *parts_content(const json_t *parts);
/* All texts of a list of strings, one a line; the caller's. */
json_t *texts_joined(const json_t *texts);
/* Adds a message with these parts if there are any, and empties them. */
void message_flush(json_t *messages, const char *role, json_t *parts);
/* Adds what an assistant has said: thoughts are strings, calls those of chat. Nothing at all is added as "". */
void message_said(json_t *messages, const json_t *parts, const json_t *thoughts, const json_t *calls);
/* A call of chat; the caller's. */
json_t *call_json(const char *id, const char *name, const char *arguments);

#endif
