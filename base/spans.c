/* spans: a sorted array; a binary search finds where an offset belongs. */
#include "base/spans.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"

static const char first_line[] = "shoal-have 1 ";

void spans_close(struct spans *s)
{
    mem_free(s->at);
    *s = (struct spans){0};
}

/* The first that ends at or behind the offset. */
static size_t place_of(const struct spans *s, uint64_t offset)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->at[mid].offset + s->at[mid].bytes < offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void spans_add(struct spans *s, uint64_t offset, uint64_t bytes)
{
    uint64_t end = offset + bytes;
    if (bytes == 0)
        return;
    size_t i = place_of(s, offset), k = i;
    for (; k < s->n && s->at[k].offset <= end; k++) { /* those that it touches become one with it */
        uint64_t other = s->at[k].offset + s->at[k].bytes;
        offset = s->at[k].offset < offset ? s->at[k].offset : offset;
        end = other > end ? other : end;
    }
    if (k == i) {
        if (s->n == s->room) {
            s->room = s->room ? 2 * s->room : 16;
            s->at = mem_resize(s->at, s->room, sizeof(*s->at));
        }
        memmove(&s->at[i + 1], &s->at[i], (s->n - i) * sizeof(*s->at));
        s->n++;
    } else if (k > i + 1) {
        memmove(&s->at[i + 1], &s->at[k], (s->n - k) * sizeof(*s->at));
        s->n -= k - i - 1;
    }
    s->at[i] = (struct span){offset, end - offset};
}

bool spans_missing(const struct spans *s, uint64_t offset, uint64_t end, struct span *out)
{
    size_t i = place_of(s, offset);
    if (i < s->n && s->at[i].offset <= offset) {
        offset = s->at[i].offset + s->at[i].bytes;
        i++;
    }
    if (offset >= end)
        return false;
    uint64_t stop = i < s->n && s->at[i].offset < end ? s->at[i].offset : end;
    *out = (struct span){offset, stop - offset};
    return true;
}

bool spans_hold(const struct spans *s, uint64_t offset, uint64_t bytes)
{
    struct span gap;
    return !spans_missing(s, offset, offset + bytes, &gap);
}

uint64_t spans_bytes(const struct spans *s)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < s->n; i++)
        sum += s->at[i].bytes;
    return sum;
}

/* ---- the record of a file ---- */

static int parse(struct spans *out, const char *text, const char *path, struct error *e)
{
    const char *line = strchr(text, '\n');
    for (line = line ? line + 1 : ""; *line; line = strchr(line, '\n') + 1) {
        uint64_t offset, bytes;
        if (!strchr(line, '\n') || sscanf(line, "%" SCNu64 " %" SCNu64, &offset, &bytes) != 2 ||
            offset > INT64_MAX || bytes > INT64_MAX - offset)
            return error_set(e, ERR_CORRUPT, "%s: is no list of what is here of a file", path);
        spans_add(out, offset, bytes);
    }
    return 0;
}

int spans_read(struct spans *out, char words[static SPANS_WORDS_MAX + 1], bool *here, const char *path,
               struct error *e)
{
    char *record = mem_printf("%s" SPANS_RECORD, path), *text = NULL;
    size_t n, len = sizeof(first_line) - 1;
    *out = (struct spans){0};
    *here = path_exists(record);
    int r = *here ? path_read(record, SPANS_FILE_MAX, &text, &n, e) : 0;
    if (r == 0 && *here && strncmp(text, first_line, len) != 0)
        r = error_set(e, ERR_CORRUPT, "%s: is no list of what is here of a file", record);
    if (r == 0 && *here) {
        snprintf(words, SPANS_WORDS_MAX + 1, "%.*s", (int)strcspn(text + len, "\n"), text + len);
        r = parse(out, text, record, e);
    }
    if (r != 0)
        spans_close(out);
    mem_free(text);
    mem_free(record);
    return r;
}

int spans_write(const struct spans *s, const char *words, const char *path, struct error *e)
{
    struct buffer b;
    char *record = mem_printf("%s" SPANS_RECORD, path);
    buffer_init(&b, SPANS_FILE_MAX);
    buffer_printf(&b, "%s%s\n", first_line, words);
    for (size_t i = 0; i < s->n; i++)
        buffer_printf(&b, "%" PRIu64 " %" PRIu64 "\n", s->at[i].offset, s->at[i].bytes);
    int r = buffer_failed(&b) ? error_set(e, ERR_LIMIT, "%s: the list is too long", record)
                              : path_write_atomic(record, b.data, b.len, 0644, e);
    buffer_close(&b);
    mem_free(record);
    return r;
}
