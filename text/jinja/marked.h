/* marked: text of which every byte knows whose it is.  Not for other folders.
 *
 * A text whose bytes are all of one origin carries one bit; only a mixture has
 * an array of marks, one a byte.  Texts are immutable and UTF-8; a part of one
 * shares its bytes.  A writer grows a new text in the arena of the rendering. */
#ifndef TEXT_JINJA_MARKED_H
#define TEXT_JINJA_MARKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct render;

struct marked {
    const char *bytes;
    size_t len;
    const uint8_t *marks; /* 1: a stranger's byte; NULL: all are as `foreign` says */
    bool foreign;
    bool safe; /* passed through |safe or |escape: Python's Markup */
};

static inline struct marked marked_own(const char *bytes, size_t len)
{
    return (struct marked){.bytes = bytes, .len = len};
}

static inline bool marked_is_foreign(const struct marked *t, size_t at)
{
    return t->marks ? t->marks[at] : t->foreign;
}

bool marked_has_foreign(const struct marked *t);
/* Bytes [from, to) of t, which are whole characters. */
struct marked marked_part(const struct marked *t, size_t from, size_t to);
/* Characters, not bytes. */
size_t marked_count(struct render *r, const struct marked *t);
/* The byte where character n begins; t's length past the end. */
size_t marked_at(struct render *r, const struct marked *t, size_t n);
/* Where `what` first stands at or after `from`; SIZE_MAX. */
size_t marked_find(struct render *r, const struct marked *t, size_t from, const struct marked *what);
size_t marked_find_last(struct render *r, const struct marked *t, size_t before, const struct marked *what);
bool marked_equal(const struct marked *a, const struct marked *b);
bool marked_is(const struct marked *t, const char *words);
int marked_order(const struct marked *a, const struct marked *b);
struct marked marked_join(struct render *r, const struct marked *a, const struct marked *b);

struct writer {
    struct render *r;
    char *bytes;
    uint8_t *marks; /* NULL as long as all are alike */
    size_t len, cap;
    bool foreign;
};

void writer_init(struct writer *w, struct render *r);
void writer_add(struct writer *w, const char *bytes, size_t len, bool foreign);
void writer_words(struct writer *w, const char *words); /* the template's own */
void writer_text(struct writer *w, const struct marked *t);
void writer_part(struct writer *w, const struct marked *t, size_t from, size_t to);
/* One character. */
void writer_char(struct writer *w, uint32_t c, bool foreign);
struct marked writer_done(const struct writer *w);

/* The character at s (n >= 1 bytes) and its length; anything that is no UTF-8 is a character a byte. */
uint32_t char_at(const char *s, size_t n, size_t *len);
size_t char_len(const char *s, size_t n);
size_t char_before(const char *s, size_t at); /* its length, at >= 1 */

#endif
