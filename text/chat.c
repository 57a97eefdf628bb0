/* chat: the rows of known formats, and a rendered conversation to ids. */
#include "text/chat.h"

#include <string.h>

#include "text/chatml.h"
#include "text/tokenizer_spans.h"

struct chat_format {
    const char *name;
    /* 0 when the row can render what the template does; NULL for a model without one. */
    int (*fits)(const struct tokenizer *t, const char *source, struct error *e);
    /* The text, and whether it begins with BOS. */
    int (*render)(const char *source, const struct chat_message *messages, size_t n, bool add_generation_prompt,
                  struct chat_text *out, bool *bos, struct error *e);
};

static bool is_special(const struct tokenizer *t, const char *text)
{
    return tokenizer_is_control(t, tokenizer_find(t, text, strlen(text)));
}

static int fits_chatml(const struct tokenizer *t, const char *source, struct error *e)
{
    struct chatml_habits h;
    if (!is_special(t, "<|im_start|>") || !is_special(t, "<|im_end|>"))
        return error_set(e, ERR_UNSUPPORTED, "%s, and ChatML, the only format that is known, has control tokens that "
                         "the model lacks", source ? "the model's chat template is not ChatML"
                                                   : "the model has no chat template");
    return chatml_read(&h, source, e);
}

static int render_chatml(const char *source, const struct chat_message *messages, size_t n, bool add_generation_prompt,
                         struct chat_text *out, bool *bos, struct error *e)
{
    struct chatml_habits h;
    int status = chatml_read(&h, source, e);
    *bos = h.bos;
    return status == 0 ? chatml_render(&h, messages, n, add_generation_prompt, out, e) : status;
}

static const struct chat_format rows[] = {
    {"chatml", fits_chatml, render_chatml},
};

int chat_format_find(const struct chat_format **out, const struct tokenizer *t, struct error *e)
{
    int status = ERR_UNSUPPORTED;
    *out = NULL;
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        status = rows[i].fits(t, tokenizer_chat_template(t), e);
        if (status == 0) {
            *out = &rows[i];
            return 0;
        }
    }
    return status;
}

const char *chat_format_name(const struct chat_format *f)
{
    return f->name;
}

int chat_encode(const struct chat_format *f, const struct tokenizer *t, const struct chat_message *messages, size_t n,
                bool add_generation_prompt, struct token_list *out, struct error *e)
{
    struct chat_text text;
    bool bos = false;
    *out = (struct token_list){0};
    if (n == 0 || n > CHAT_MESSAGES_MAX)
        return error_set(e, ERR_INVALID, "%zu messages; between 1 and %d can be", n, CHAT_MESSAGES_MAX);
    chat_text_init(&text);
    int status = f->render(tokenizer_chat_template(t), messages, n, add_generation_prompt, &text, &bos, e);
    if (status == 0) {
        struct token_source s = {
            .text = buffer_text(&text.text), .len = text.text.len, .trusted = text.trusted,
            .n_trusted = text.n_trusted, .bos = bos,
        };
        status = tokenizer_encode_spans(t, &s, out, e);
    }
    chat_text_close(&text);
    return status;
}
