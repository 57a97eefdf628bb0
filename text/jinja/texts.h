/* texts: what string filters and string methods share.  Not for other folders. */
#ifndef TEXT_JINJA_TEXTS_H
#define TEXT_JINJA_TEXTS_H

#include "text/jinja/render.h"
#include "text/jinja/unicode.h"

enum side { SIDE_LEFT = 1, SIDE_RIGHT = 2, SIDE_BOTH = 3 };

/* Without white space, or without the characters of `set`, at its ends. */
struct marked text_strip(struct render *r, const struct marked *t, const struct marked *set, int sides);
struct marked text_case(struct render *r, const struct marked *t, enum letter_case to);
/* The first character in `first`, the others in lower case. */
struct marked text_capital(struct render *r, const struct marked *t, enum letter_case first);
/* At most n times (all when negative). */
struct marked text_replace(struct render *r, const struct marked *t, const struct marked *what,
                           const struct marked *with, int64_t n);
/* The items as text with `between` them; `strict`: an item that is no text is an error. */
struct marked text_join(struct render *r, const struct marked *between, const struct list *items, bool strict);
/* As str.splitlines(). */
struct list *text_lines(struct render *r, const struct marked *t, bool keep_ends);
struct marked text_center(struct render *r, const struct marked *t, int64_t width, const struct marked *fill,
                          int sides);
/* Reads a whole number or a float as Python's int() and float() do; false where they raise. */
bool text_to_int(const struct marked *t, int64_t base, int64_t *out);
bool text_to_float(const struct marked *t, double *out);

#endif
