/* vocab: all token bytes in one block, an open-addressed table of ids over them. */
#include "text/vocab.h"

#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/memory.h"
#include "text/source.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

/* ---- the byte alphabet ---- */

/* Bytes that are printable in Latin-1 stand for themselves; the other 68 follow from U+0100 on, in order. */
static bool is_itself(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

int vocab_byte_of(uint32_t code_point)
{
    if (code_point <= 0xFF)
        return is_itself(code_point) ? (int)code_point : -1;
    if (code_point <= 0x120)
        return (int)(code_point - 0x100);
    if (code_point <= 0x142)
        return (int)(code_point - 0x121 + 0x7F);
    return code_point == 0x143 ? 0xAD : -1;
}

static bool unmap(const char *text, size_t len, char *out, size_t *out_len)
{
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        int step = utf8_step(text + i, len - i);
        if (step != 1 && step != 2)
            return false;
        uint32_t c = (unsigned char)text[i];
        if (step == 2)
            c = (c & 0x1F) << 6 | ((unsigned char)text[i + 1] & 0x3F);
        int byte = vocab_byte_of(c);
        if (byte < 0)
            return false;
        out[n++] = (char)byte;
        i += (size_t)step;
    }
    *out_len = n;
    return true;
}

bool vocab_unspell(const struct vocab *v, const char *text, size_t len, char *out, size_t *out_len)
{
    if (v->alphabet)
        return unmap(text, len, out, out_len);
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        bool space = v->spaces && len - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0;
        out[n++] = space ? ' ' : text[i];
        i += space ? 3 : 1;
    }
    *out_len = n;
    return true;
}

/* ---- lookup ---- */

__extension__ typedef unsigned __int128 wide;

static uint64_t fold(uint64_t a, uint64_t b)
{
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t vocab_hash(uint64_t secret, const char *bytes, size_t len)
{
    uint64_t h = fold(secret ^ len, 0x9E3779B97F4A7C15);
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        h = fold(h ^ word, 0xD6E8FEB86659FD93);
        bytes += 8;
        len -= 8;
    }
    uint64_t rest = 0;
    memcpy(&rest, bytes, len);
    return fold(h ^ rest, 0xA0761D6478BD642F ^ secret);
}

static uint64_t make_secret(void)
{
    uint64_t secret;
    if (getrandom(&secret, sizeof(secret), GRND_NONBLOCK) != (ssize_t)sizeof(secret))
        secret = clock_ns() * 0x9E3779B97F4A7C15;
    return secret;
}

const char *vocab_text(const struct vocab *v, uint32_t id, size_t *len)
{
    *len = v->starts[id + 1] - v->starts[id];
    return v->text + v->starts[id];
}

/* The slot of these bytes, or the empty one where they would go. */
static uint32_t slot_of(const struct vocab *v, const char *bytes, size_t len, bool plain)
{
    uint32_t slot = (uint32_t)(vocab_hash(v->secret, bytes, len) >> plain) & v->slot_mask;
    for (; v->slots[slot] != 0; slot = (slot + 1) & v->slot_mask) {
        uint32_t id = v->slots[slot] - 1;
        size_t there;
        const char *text = vocab_text(v, id, &there);
        if (there == len && plain == ((v->flags[id] & VOCAB_PLAIN) != 0) && memcmp(text, bytes, len) == 0)
            break;
    }
    return slot;
}

int32_t vocab_find(const struct vocab *v, const char *bytes, size_t len, bool plain)
{
    if (v->count == 0)
        return -1;
    return (int32_t)v->slots[slot_of(v, bytes, len, plain)] - 1;
}

void vocab_index(struct vocab *v)
{
    memset(v->slots, 0, ((size_t)v->slot_mask + 1) * sizeof(*v->slots));
    for (uint32_t id = 0; id < v->count; id++) {
        if (v->flags[id] & (VOCAB_CONTROL | VOCAB_UNUSED | VOCAB_BYTE))
            v->flags[id] &= (uint16_t)~VOCAB_PLAIN;
        if (v->flags[id] & VOCAB_BYTE)
            continue;
        size_t len;
        const char *text = vocab_text(v, id, &len);
        uint32_t slot = slot_of(v, text, len, (v->flags[id] & VOCAB_PLAIN) != 0);
        if (v->slots[slot] == 0)
            v->slots[slot] = id + 1;
    }
}

/* ---- reading ---- */

/* "<0x0A>" is the byte itself. */
static bool parse_byte_token(struct source_text s, char *byte)
{
    if (s.len != 6 || memcmp(s.text, "<0x", 3) != 0 || s.text[5] != '>')
        return false;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        const char *digits = "0123456789ABCDEF";
        const char *at = s.text[i] ? strchr(digits, s.text[i]) : NULL;
        if (!at)
            return false;
        value = value * 16 + (int)(at - digits);
    }
    *byte = (char)value;
    return true;
}

/* Append the bytes of one token, and correct its flags. `out` has room for text.len bytes. */
static size_t add_token(struct vocab *v, uint32_t id, struct source_text text, char *out)
{
    uint16_t *flags = &v->flags[id];
    size_t len;
    if ((*flags & VOCAB_BYTE) && parse_byte_token(text, out)) {
        v->bytes[(unsigned char)*out] = (int32_t)id;
        return 1;
    }
    *flags &= (uint16_t)~VOCAB_BYTE;
    if ((*flags & VOCAB_PLAIN) && vocab_unspell(v, text.text, text.len, out, &len)) {
        /* Recognised as text it would have to be spelled as it stands there. */
        if ((*flags & VOCAB_USER) && (len != text.len || memcmp(out, text.text, len) != 0))
            *flags &= (uint16_t)~VOCAB_USER;
        return len;
    }
    *flags &= (uint16_t)~VOCAB_PLAIN;
    if (text.len)
        memcpy(out, text.text, text.len);
    return text.len;
}

/* The length of the tokens together, within bounds. */
static int measure(const struct source *s, size_t *bytes, struct error *e)
{
    *bytes = 0;
    for (uint32_t id = 0; id < s->n_tokens; id++) {
        size_t len = s->tokens[id].text.len;
        if (len > TOKENIZER_TOKEN_MAX)
            return error_set(e, ERR_LIMIT, "%s: token %u has %zu bytes; at most %d can be", s->where, id, len,
                             TOKENIZER_TOKEN_MAX);
        *bytes += len;
    }
    if (*bytes > VOCAB_BYTES_MAX)
        return error_set(e, ERR_LIMIT, "%s: the tokens have %zu bytes; at most %d can be", s->where, *bytes,
                         VOCAB_BYTES_MAX);
    return 0;
}

static void make_table(struct vocab *v)
{
    uint32_t size = 16;
    while (size < v->count * 2)
        size *= 2;
    v->slots = mem_array(size, sizeof(*v->slots));
    v->slot_mask = size - 1;
    v->secret = make_secret();
}

int vocab_open(struct vocab *v, const struct source *s, struct error *e)
{
    size_t bytes = 0;
    memset(v, 0, sizeof(*v));
    int status = measure(s, &bytes, e);
    if (status != 0)
        return status;
    v->count = s->n_tokens;
    v->alphabet = s->kind == SOURCE_BYTES;
    v->spaces = s->spaces;
    v->text = mem_array(bytes + 1, 1);
    v->starts = mem_array((size_t)v->count + 1, sizeof(*v->starts));
    v->flags = mem_array(v->count, sizeof(*v->flags));
    memset(v->bytes, 0xFF, sizeof(v->bytes));
    for (uint32_t id = 0; id < v->count; id++) {
        v->flags[id] = s->tokens[id].flags;
        size_t n = add_token(v, id, s->tokens[id].text, v->text + v->starts[id]);
        v->starts[id + 1] = v->starts[id] + (uint32_t)n;
    }
    make_table(v);
    vocab_index(v);
    return 0;
}

void vocab_close(struct vocab *v)
{
    mem_free(v->text);
    mem_free(v->starts);
    mem_free(v->flags);
    mem_free(v->slots);
    memset(v, 0, sizeof(*v));
}
