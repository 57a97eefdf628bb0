/* fuzz_invite: invite lines as they came, and any fields with the checksum and the spelling that they need. */
#include <sodium.h>
#include <string.h>

#include "base/memory.h"
#include "net/invite.h"
#include "tests/fuzz/fuzz.h"

enum { FIELDS_MAX = 512, CHECKSUM_BYTES = 8 };

static void parse(const char *text)
{
    struct invite i, again;
    char spelled[INVITE_TEXT_MAX];
    if (invite_parse(&i, text, NULL) != 0)
        return;
    FUZZ_CHECK(i.host[0] && memchr(i.host, 0, sizeof(i.host)) && i.port > 0);
    invite_text(&i, spelled);
    FUZZ_CHECK(invite_parse(&again, spelled, NULL) == 0);
    FUZZ_CHECK(again.port == i.port && strcmp(again.host, i.host) == 0 && again.expires == i.expires);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char line[2 * FIELDS_MAX] = "shoal1.", *text = mem_strndup((const char *)data, size);
    uint8_t fields[FIELDS_MAX + CHECKSUM_BYTES], hash[32];
    parse(text);
    mem_free(text);
    if (size <= FIELDS_MAX) {
        memcpy(fields, data, size);
        crypto_generichash(hash, sizeof(hash), fields, size, NULL, 0);
        memcpy(fields + size, hash, CHECKSUM_BYTES);
        sodium_bin2base64(line + 7, sizeof(line) - 7, fields, size + CHECKSUM_BYTES,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        parse(line);
    }
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    struct invite i = {.host = "node.example.org", .port = 7312, .expires = 2000000000};
    char text[INVITE_TEXT_MAX];
    uint8_t fields[FIELDS_MAX];
    size_t n;
    invite_text(&i, text);
    give(arg, text, strlen(text));
    FUZZ_CHECK(sodium_base642bin(fields, sizeof(fields), text + 7, strlen(text + 7), NULL, &n, NULL,
                                 sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0);
    give(arg, fields, n - CHECKSUM_BYTES);
}
