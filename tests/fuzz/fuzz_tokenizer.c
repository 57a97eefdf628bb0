/* fuzz_tokenizer: tokenizer.json files, from reading to a text there and back, and to the keys of a GGUF. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "text/export.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/talk.h"

static char folder[] = "/tmp/shoal-fuzz-XXXXXX", *link_path;

static void clean(void)
{
    unlink(link_path);
    rmdir(folder);
    mem_free(link_path);
}

/* A folder whose tokenizer.json is the input. */
static const char *folder_of(const uint8_t *data, size_t size)
{
    const char *file = fuzz_file(data, size);
    if (!link_path) {
        FUZZ_CHECK(mkdtemp(folder));
        link_path = mem_printf("%s/tokenizer.json", folder);
        FUZZ_CHECK(symlink(file, link_path) == 0); /* its path stays the same */
        (void)atexit(clean);
    }
    return folder;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *t;
    if (tokenizer_open_folder(&t, folder_of(data, size), NULL) != 0)
        return 0;
    fuzz_talk(t);
    struct gguf_writer *w = gguf_writer_memory("exported");
    (void)!tokenizer_export(w, folder, tokenizer_count(t), NULL);
    gguf_writer_abort(&w);
    tokenizer_close(&t);
    return 0;
}

/* Small ones of every kind: mutations of files with hundreds of tokens hit nothing but tokens. */
void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const texts[] = {
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true,\"lstrip\":false,\"rstrip\":true,"
        "\"normalized\":false}],\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{L}+|\\\\s+|\\\\d{1,3}\"},"
        "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
        "\"trim_offsets\":true,\"use_regex\":false}]},\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
        "\"model\":{\"type\":\"BPE\",\"unk_token\":null,\"ignore_merges\":true,\"vocab\":{\"<s>\":0,\"H\":1,\"e\":2,"
        "\"He\":3,\"l\":4},\"merges\":[[\"H\",\"e\"]]}}",

        "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":\"<s>\","
        "\"special\":true}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
        "\"\\u2581\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"}]},"
        "\"pre_tokenizer\":null,\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
        "{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":"
        "{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}},\"decoder\":null,\"model\":{\"type\":\"BPE\","
        "\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,\"vocab\":{\"<unk>\":0,\"<s>\":1,"
        "\"<0x0A>\":2,\"\\u2581\":3,\"H\":4,\"\\u2581H\":5},\"merges\":[\"\\u2581 H\"]}}",

        "{\"added_tokens\":[],\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAAAAAA=\"},"
        "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"always\","
        "\"split\":true},\"post_processor\":null,\"decoder\":null,\"model\":{\"type\":\"Unigram\",\"unk_id\":0,"
        "\"byte_fallback\":false,\"vocab\":[[\"<unk>\",0.0],[\"\\u2581\",-1.5],[\"H\",-2.0],[\"\\u2581He\",-2.5]]}}",
    };
    for (size_t i = 0; i < COUNTOF(texts); i++)
        give(arg, texts[i], strlen(texts[i]));
}
