/* utf8: steps through bytes that may or may not be UTF-8, and code points as bytes and back. */
#ifndef TEXT_UTF8_H
#define TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* What begins at s, n >= 1 bytes long at most: the length of a whole character (> 0); 0 when all n bytes are the
 * beginning of one; or minus the number of bytes that one U+FFFD stands for (the longest beginning of a character
 * that the next byte breaks, at least one: what Unicode recommends and Python does). */
int utf8_step(const char *s, size_t n);
/* The length of the character at s (n >= 1 bytes), 1 where no whole character begins. */
size_t utf8_char(const char *s, size_t n);
/* The bytes of a code point, which is no surrogate and at most U+10FFFF; how many. */
size_t utf8_write(uint32_t code_point, char out[static 4]);
/* The code point of the whole character at s, of n bytes. */
uint32_t utf8_read(const char *s, size_t n);

#endif
