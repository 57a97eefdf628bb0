/* vocab: all token bytes in one block, an open-addressed table of ids over them. */
#include "text/vocab.h"

#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/memory.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

/* tokenizer.ggml.token_type */
enum token_type { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

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

bool vocab_unmap(const char *text, size_t len, char *out, size_t *out_len)
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
    return v->bytes + v->starts[id];
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

static void index_tokens(struct vocab *v)
{
    uint32_t size = 16;
    while (size < v->count * 2)
        size *= 2;
    v->slots = mem_array(size, sizeof(*v->slots));
    v->slot_mask = size - 1;
    v->secret = make_secret();
    for (uint32_t id = 0; id < v->count; id++) {
        size_t len;
        const char *text = vocab_text(v, id, &len);
        uint32_t slot = slot_of(v, text, len, (v->flags[id] & VOCAB_PLAIN) != 0);
        if (v->slots[slot] == 0)
            v->slots[slot] = id + 1;
    }
}

/* ---- reading ---- */

/* "<0x0A>" is the byte itself. */
static bool parse_byte_token(struct gguf_string s, char *byte)
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

/* Append the bytes of one token and its flags. `out` has room for s.len bytes. */
static size_t add_token(struct gguf_string s, int64_t type, char *out, uint8_t *flags)
{
    size_t len = s.len;
    *flags = 0;
    if (type == TYPE_CONTROL || type == TYPE_UNKNOWN)
        *flags = VOCAB_CONTROL;
    else if (type == TYPE_USER)
        *flags = VOCAB_USER;
    else if (type == TYPE_UNUSED)
        *flags = VOCAB_UNUSED;
    else if (type == TYPE_BYTE && parse_byte_token(s, out))
        return 1;
    else if (vocab_unmap(s.text, s.len, out, &len)) {
        *flags = VOCAB_PLAIN;
        return len;
    }
    if (s.len)
        memcpy(out, s.text, s.len);
    return s.len;
}

/* Number and total length of the tokens, within bounds. */
static int measure(const struct gguf *g, uint32_t *count, size_t *bytes, struct error *e)
{
    enum gguf_type type;
    uint64_t n;
    if (!gguf_array(g, "tokenizer.ggml.tokens", &type, &n) || type != GGUF_STRING)
        return error_set(e, ERR_CORRUPT, "%s: the tokenizer has no list of tokens", gguf_path(g));
    if (n == 0 || n > VOCAB_TOKENS_MAX)
        return error_set(e, ERR_LIMIT, "%s: %llu tokens; between 1 and %d can be", gguf_path(g),
                         (unsigned long long)n, VOCAB_TOKENS_MAX);
    *bytes = 0;
    for (uint64_t i = 0; i < n; i++) {
        struct gguf_string s;
        if (!gguf_array_string(g, "tokenizer.ggml.tokens", i, &s))
            return error_set(e, ERR_CORRUPT, "%s: token %llu cannot be read", gguf_path(g), (unsigned long long)i);
        if (s.len > TOKENIZER_TOKEN_MAX)
            return error_set(e, ERR_LIMIT, "%s: token %llu has %zu bytes; at most %d can be", gguf_path(g),
                             (unsigned long long)i, s.len, TOKENIZER_TOKEN_MAX);
        *bytes += s.len;
    }
    if (*bytes > VOCAB_BYTES_MAX)
        return error_set(e, ERR_LIMIT, "%s: the tokens have %zu bytes; at most %d can be", gguf_path(g), *bytes,
                         VOCAB_BYTES_MAX);
    *count = (uint32_t)n;
    return 0;
}

/* The list of types is optional, but one that is there must fit. */
static int check_types(const struct gguf *g, uint32_t count, bool *typed, struct error *e)
{
    enum gguf_type type;
    uint64_t n;
    *typed = gguf_has(g, "tokenizer.ggml.token_type");
    if (!*typed)
        return 0;
    if (!gguf_array(g, "tokenizer.ggml.token_type", &type, &n) || type == GGUF_STRING || n != count)
        return error_set(e, ERR_CORRUPT, "%s: the list of token types does not fit the %u tokens", gguf_path(g), count);
    return 0;
}

int vocab_open(struct vocab *v, const struct gguf *g, struct error *e)
{
    uint32_t count = 0;
    size_t bytes = 0;
    bool typed = false;
    memset(v, 0, sizeof(*v));
    int status = measure(g, &count, &bytes, e);
    if (status == 0)
        status = check_types(g, count, &typed, e);
    if (status != 0)
        return status;
    v->count = count;
    v->bytes = mem_array(bytes + 1, 1);
    v->starts = mem_array((size_t)count + 1, sizeof(*v->starts));
    v->flags = mem_array(count, 1);
    for (uint32_t id = 0; id < count; id++) {
        struct gguf_string s = {"", 0};
        int64_t type = TYPE_NORMAL;
        (void)gguf_array_string(g, "tokenizer.ggml.tokens", id, &s);
        if (typed)
            (void)gguf_array_i64(g, "tokenizer.ggml.token_type", id, &type);
        v->starts[id + 1] = v->starts[id] + (uint32_t)add_token(s, type, v->bytes + v->starts[id], &v->flags[id]);
    }
    index_tokens(v);
    return 0;
}

void vocab_close(struct vocab *v)
{
    mem_free(v->bytes);
    mem_free(v->starts);
    mem_free(v->flags);
    mem_free(v->slots);
    memset(v, 0, sizeof(*v));
}
