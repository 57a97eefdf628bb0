/* tokenize: text to ids and back, with the tokenizer of a model file. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "cli/command.h"
#include "text/tokenizer.h"

enum { DECODED_MAX = 1 << 30 };

static int read_input(struct buffer *b, struct error *e)
{
    char chunk[65536];
    size_t n;
    buffer_init(b, TOKENIZER_TEXT_MAX);
    while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0)
        buffer_add(b, chunk, n);
    if (ferror(stdin))
        return error_set(e, ERR_IO, "standard input cannot be read");
    if (buffer_failed(b))
        return error_set(e, ERR_LIMIT, "the text is longer than %d bytes", TOKENIZER_TEXT_MAX);
    return 0;
}

/* A piece on one line: what cannot be shown is escaped. */
static void print_piece(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c == '\\')
            fputs("\\\\", stdout);
        else if (c < ' ' || c == 127)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
}

static int encode(const struct settings *s, const struct tokenizer *t, const struct buffer *in, struct error *e)
{
    struct token_list list;
    unsigned flags = (settings_switch(s, "special") ? ENCODE_SPECIAL : 0U) |
                     (settings_switch(s, "bos") ? ENCODE_BOS_EOS : 0U);
    int r = tokenizer_encode(t, buffer_text(in), in->len, flags, &list, e);
    if (r != 0)
        return r;
    struct buffer piece;
    buffer_init(&piece, TOKENIZER_TOKEN_MAX);
    for (size_t i = 0; i < list.count; i++) {
        if (!settings_switch(s, "pieces")) {
            printf("%s%d", i ? " " : "", list.ids[i]);
            continue;
        }
        buffer_clear(&piece);
        tokenizer_decode(t, list.ids[i], true, &piece);
        printf("%d\t", list.ids[i]);
        print_piece(buffer_text(&piece), piece.len);
        putchar('\n');
    }
    if (!settings_switch(s, "pieces"))
        putchar('\n');
    buffer_close(&piece);
    token_list_free(&list);
    return 0;
}

/* Ids with anything but digits between them. The list is the caller's, also on error. */
static int read_ids(const struct tokenizer *t, const struct buffer *in, struct token_list *list, struct error *e)
{
    const char *at = buffer_text(in), *end = at + in->len;
    list->ids = mem_array(in->len / 2 + 1, sizeof(*list->ids));
    list->count = 0;
    while (at < end) {
        if (!isdigit((unsigned char)*at)) {
            at++;
            continue;
        }
        char *stop;
        unsigned long id = strtoul(at, &stop, 10);
        if (id >= tokenizer_count(t))
            return error_set(e, ERR_INVALID, "%.*s is not a token id; the vocabulary has %u", (int)(stop - at), at,
                             tokenizer_count(t));
        list->ids[list->count++] = (int32_t)id;
        at = stop;
    }
    return 0;
}

static int decode(const struct tokenizer *t, const struct buffer *in, struct error *e)
{
    struct token_list list;
    struct buffer text;
    buffer_init(&text, DECODED_MAX);
    int r = read_ids(t, in, &list, e);
    if (r == 0)
        tokenizer_decode_list(t, list.ids, list.count, true, &text);
    if (r == 0 && buffer_failed(&text))
        r = error_set(e, ERR_LIMIT, "the text would be longer than %d bytes", DECODED_MAX);
    if (r == 0)
        fwrite(buffer_text(&text), 1, text.len, stdout);
    buffer_close(&text);
    token_list_free(&list);
    return r;
}

static int open_tokenizer(const char *path, struct tokenizer **t, struct error *e)
{
    struct gguf *g;
    if (path_is_folder(path))
        return tokenizer_open_folder(t, path, e);
    int r = gguf_open(&g, path, e);
    if (r == 0)
        r = tokenizer_open(t, g, e);
    gguf_close(&g);
    return r;
}

int tokenize_command(const struct settings *s, struct error *e)
{
    struct tokenizer *t = NULL;
    struct buffer in = {0};
    int r = open_tokenizer(settings_argument(s, 0), &t, e);
    if (r == 0 && !tokenizer_has_vocab(t))
        r = error_set(e, ERR_UNSUPPORTED, "%s has no vocabulary", settings_argument(s, 0));
    if (r == 0)
        r = read_input(&in, e);
    if (r == 0)
        r = settings_switch(s, "detokenize") ? decode(t, &in, e) : encode(s, t, &in, e);
    buffer_close(&in);
    tokenizer_close(&t);
    return r;
}
