/* unicode: characters as Python's str sees them.  Not for other folders. */
#ifndef TEXT_JINJA_UNICODE_H
#define TEXT_JINJA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CASE_CHARS_MAX = 3 };
enum letter_case { CASE_UPPER, CASE_LOWER, CASE_TITLE };

bool unicode_is_space(uint32_t c);      /* str.isspace() */
bool unicode_is_break(uint32_t c);      /* ends a line for str.splitlines() */
bool unicode_is_alpha(uint32_t c);
bool unicode_is_decimal(uint32_t c);    /* str.isdecimal() */
bool unicode_is_number(uint32_t c);     /* str.isnumeric() */
bool unicode_is_upper(uint32_t c);
bool unicode_is_lower(uint32_t c);
bool unicode_is_title(uint32_t c);
bool unicode_is_cased(uint32_t c);
bool unicode_is_printable(uint32_t c);
/* The character in another case: one to three characters. */
size_t unicode_case(uint32_t out[static CASE_CHARS_MAX], uint32_t c, enum letter_case to);

#endif
