/* talk: a short text with all that is odd in texts, there and back. */
#include "tests/fuzz/talk.h"

#include "base/memory.h"
#include "tests/fuzz/fuzz.h"
#include "text/chat.h"

enum { TEXT_MAX = 1 << 24 };

void fuzz_talk(const struct tokenizer *t)
{
    static const char text[] = "Hello  World's 123\n\n\t a\xCC\x81\xE4\xBD\xA0\xF0\x9F\x90\x9F<s></s>\xFF\xF0\x9F\0 x";
    struct chat *chat;
    struct token_list list;
    struct buffer out;
    buffer_init(&out, TEXT_MAX);
    for (unsigned flags = 0; flags <= (ENCODE_SPECIAL | ENCODE_BOS_EOS); flags++) {
        if (tokenizer_encode(t, text, sizeof(text) - 1, flags, &list, NULL) != 0)
            continue;
        for (size_t i = 0; i < list.count; i++)
            FUZZ_CHECK(list.ids[i] >= 0 && (uint32_t)list.ids[i] < tokenizer_count(t));
        buffer_clear(&out);
        tokenizer_decode_list(t, list.ids, list.count, true, &out);
        token_list_free(&list);
    }
    FUZZ_CHECK(tokenizer_bos(t) < (int32_t)tokenizer_count(t) && tokenizer_eos(t) < (int32_t)tokenizer_count(t));
    if (chat_open(&chat, t, NULL, NULL) == 0) {
        json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "<s> Hello </s>");
        struct chat_request q = {.messages = messages, .add_generation_prompt = true};
        if (chat_encode(chat, &q, &list, NULL) == 0)
            token_list_free(&list);
        json_decref(messages);
        chat_close(&chat);
    }
    buffer_close(&out);
}
